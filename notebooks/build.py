"""Executes the notebooks and saves them with their outputs.

Each runs in a folder of its own, which is removed afterwards. What TensorFlow writes to stderr and
the times of execution are not saved: both differ from one computer to the next.

    python notebooks/build.py                                       # all, three minutes a training
    python notebooks/build.py notebooks/01_quickstart.ipynb --minutes 1
"""

import argparse
import os
import tempfile
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbformat import NotebookNode

FOLDER = Path(__file__).parent


def execute(notebook: NotebookNode, minutes: float, timeout: float | None = None) -> None:
    """Executes a notebook in place, in an empty folder.

    Args:
        notebook: The notebook.
        minutes: What it trains by.
        timeout: Seconds that one cell may take.

    Raises:
        nbclient.exceptions.CellExecutionError: If a cell fails.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {
            **os.environ,
            "KERAS_GENAI_NOTEBOOK_MINUTES": f"{minutes:g}",
            "KERAS_GENAI_RUNS": "runs",
            "PYTHONPATH": str(FOLDER.parent),  # the package of this checkout, installed or not
        }
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(notebook, timeout=timeout, resources=resources, record_timing=False)
        client.execute(env=environment)


def clean(notebook: NotebookNode) -> None:
    """Removes from the outputs what differs from one computer to the next."""
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs = [out for out in cell.outputs if out.get("name") != "stderr"]
            for output in cell.outputs:  # Pillow gives every picture twice
                if "image/png" in output.get("data", {}):
                    output.data.pop("image/jpeg", None)


def main() -> None:
    """Executes and saves the notebooks named on the command line."""
    parser = argparse.ArgumentParser(description="Executes notebooks and saves their outputs.")
    parser.add_argument("notebooks", nargs="*", type=Path, metavar="NOTEBOOK", help="default: all")
    parser.add_argument("--minutes", type=float, default=3, help="of each training (default: 3)")
    args = parser.parse_args()
    for path in args.notebooks or sorted(FOLDER.glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        execute(notebook, args.minutes)
        clean(notebook)
        nbformat.write(notebook, path)
        print(path)


if __name__ == "__main__":
    main()
