"""The notebooks run from top to bottom, and are saved with what they print and draw."""

import copy
import importlib.util
import re
from pathlib import Path

import nbformat
import pytest

FOLDER = Path(__file__).parents[1] / "notebooks"
ABSOLUTE = re.compile(r"(?<![\w.~])/(?:home|root|tmp|content|Users|work)/\w")
LARGEST = 3 << 20  # bytes

pytestmark = pytest.mark.parametrize(
    "path", sorted(FOLDER.glob("*.ipynb")), ids=lambda path: path.stem
)


def load_build():
    spec = importlib.util.spec_from_file_location("build_notebooks", FOLDER / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def exercises(notebook):
    return [cell for cell in notebook.cells if "exercise" in cell.metadata.get("tags", [])]


def solutions(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return re.findall(r"<summary>Solution</summary>\n\n```python\n(.*?)\n```", text, re.DOTALL)


def kinds(cell):
    """What a cell's outputs are: text, pictures."""
    return {kind for output in cell.outputs for kind in output.get("data", {"text/plain": ""})}


def printed(cell):
    texts = [output.get("text", "") for output in cell.outputs]
    texts += [output.get("data", {}).get("text/plain", "") for output in cell.outputs]
    return "\n".join(texts)


def test_runs_and_was_saved_with_its_outputs(path):
    saved = nbformat.read(path, as_version=4)
    nbformat.validate(saved)
    run = copy.deepcopy(saved)
    # The exercises are left open above; here they are done with the solutions below them.
    for cell, solution in zip(exercises(saved), solutions(saved), strict=True):
        answered, count = re.subn(r"^\w+ = None  # .*$", solution, cell.source, flags=re.MULTILINE)
        assert count == 1
        run.cells.append(nbformat.v4.new_code_cell(answered))
    build = load_build()
    build.execute(run, minutes=0.02, timeout=300)
    build.clean(run)

    done = code_cells(run)
    for cell, ran in zip(code_cells(saved), done, strict=False):
        assert kinds(cell) == kinds(ran), f"saved with other outputs:\n{cell.source}"
    tried = exercises(saved)
    assert all("still open" in printed(cell) for cell in tried)
    assert all("right" in printed(cell) for cell in done[len(done) - len(tried) :])


def test_saved_outputs_are_whole_and_clean(path):
    notebook = nbformat.read(path, as_version=4)
    cells = code_cells(notebook)
    assert [cell.execution_count for cell in cells] == [*range(1, len(cells) + 1)]
    outputs = [output for cell in cells for output in cell.outputs]
    assert {output.output_type for output in outputs} <= {
        "stream", "display_data", "execute_result",
    }  # fmt: skip
    assert "stderr" not in {output.get("name") for output in outputs}
    for cell in cells:
        assert not ABSOLUTE.search(printed(cell)), printed(cell)
    assert path.stat().st_size < LARGEST
