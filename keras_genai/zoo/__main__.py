"""`python -m keras_genai.zoo` writes anew what is generated from the registry.

That is `index.json` and, in a checkout, the table of models in `README.md`.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras_genai._files import write_text
from keras_genai.zoo import registry

README = Path(__file__).parents[2] / "README.md"
# What stands between these two lines is generated.
BEGIN, END = "<!-- models:begin -->", "<!-- models:end -->"


def readme_table(index: Mapping[str, Any]) -> str:
    """The table of models, as Markdown.

    Args:
        index: The registry as plain data, see `registry.index`.
    """
    rows = [
        ("Name", "What it is", "Models", "`fit()` alone trains on", "Paper"),
        ("---",) * 5,
        *(
            (
                f"`{name}`",
                recipe["summary"],
                f"{recipe['modality']} ({recipe['task']})",
                f"`{recipe['data']}`, {recipe['minutes']:g} minutes",
                _link(recipe["paper"]),
            )
            for name, recipe in index["recipes"].items()
        ),
    ]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def with_table(readme: str, index: Mapping[str, Any]) -> str:
    """The text of the README with its table of models written anew."""
    table = f"{BEGIN}\n{readme_table(index)}\n{END}"
    return re.sub(f"{BEGIN}.*{END}", lambda _: table, readme, flags=re.DOTALL)


def _link(paper: str) -> str:
    archive, _, number = paper.partition(":")
    return f"[{paper}](https://arxiv.org/abs/{number})" if archive == "arXiv" else paper


if __name__ == "__main__":
    write_text(registry.INDEX, json.dumps(registry.index(), indent=1) + "\n")
    if README.exists():  # not in an installed package
        write_text(README, with_table(README.read_text("utf-8"), registry.index()))
