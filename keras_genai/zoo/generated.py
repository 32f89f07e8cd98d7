"""What is generated from the registry and from the entries, for people and for the command line.

That is `index.json` and, in a checkout, the tables in `README.md` and `zoo/README.md` and the card
of each entry.
"""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_genai._files import write_text
from keras_genai.zoo import published, registry
from keras_genai.zoo.cards import caption, card, is_memorisation, link, table, value_of

# What stands between the lines of a pair is generated.
GALLERY = ("<!-- gallery:begin -->", "<!-- gallery:end -->")
MODELS = ("<!-- models:begin -->", "<!-- models:end -->")
ENTRIES = ("<!-- entries:begin -->", "<!-- entries:end -->")


def pages(catalogue: Path) -> dict[Path, str]:
    """All generated files of a checkout, with what they should hold.

    Args:
        catalogue: The checkout's folder `zoo`.
    """
    folders = sorted(path.parent for path in catalogue.glob(f"*.*/{published.ENTRY}"))
    entries = {folder.name: published.read(folder) for folder in folders}
    index = index_of(entries)
    readme, overview = catalogue.parent / "README.md", catalogue / "README.md"
    front = between(GALLERY, readme.read_text("utf-8"), gallery([*entries.values()], "zoo/"))
    front = between(MODELS, front, models_table(index))
    return {
        readme: between(ENTRIES, front, entries_table([*entries.values()], "zoo/")),
        overview: between(
            ENTRIES, overview.read_text("utf-8"), entries_table([*entries.values()], "")
        ),
        **{folder / "README.md": card(entries[folder.name], folder) for folder in folders},
        registry.INDEX: as_text(index),
    }


def write() -> None:
    """Writes all generated files; in an installed package, which has no entries, the index."""
    if published.CATALOGUE.exists():
        for path, text in pages(published.CATALOGUE).items():
            write_text(path, text)
    else:
        write_text(registry.INDEX, as_text(registry.index(registry.stored_index()["entries"])))


def index_of(entries: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """The index: recipes, and of each entry what names and lists need."""
    return registry.index(
        {
            name: {
                "recipe": entry["recipe"],
                "tag": entry["tag"],
                "data": entry["data"]["name"],
                "bytes": entry["weights"]["bytes"],
                "sha256": entry["weights"]["sha256"],
            }
            for name, entry in entries.items()
        }
    )


def as_text(index: Mapping[str, Any]) -> str:
    """The index as it stands in its file."""
    return json.dumps(index, indent=1) + "\n"


def models_table(index: Mapping[str, Any]) -> str:
    """The table of models, as Markdown.

    Args:
        index: See `index_of`.
    """
    rows = [
        ("Name", "What it is", "Models", "`fit()` alone trains on", "Paper"),
        *(
            (
                f"`{name}`",
                recipe["summary"],
                f"{recipe['modality']} ({recipe['task']})",
                f"`{recipe['data']}`, {recipe['minutes']:g} minute{'s' * (recipe['minutes'] != 1)}",
                link(recipe["paper"]),
            )
            for name, recipe in index["recipes"].items()
        ),
    ]
    return table(rows)


def entries_table(entries: Sequence[Mapping[str, Any]], path: str) -> str:
    """The table of published entries, as Markdown.

    Args:
        entries: What their `entry.json` say.
        path: Where their folders are, seen from the page.
    """
    if not entries:
        return "None are published yet."
    head = "Entry, Data, Minutes, Parameters, MB, Numbers, Trainings, Licence of the data"
    rows = [
        tuple(head.split(", ")),
        *(
            (
                f"[{entry['name']}]({path}{entry['name']}/README.md)",
                f"`{entry['data']['name']}`",
                f"{entry['wall_seconds'] / 60:.0f}",
                f"{entry['parameters']:,}",
                f"{entry['weights']['bytes'] / 1e6:.1f}",
                _first_numbers(entry),
                str(len(entry["metrics"][0]["seeds"])) if entry["metrics"] else "",
                entry["licence"],
            )
            for entry in entries
        ),
    ]
    return table(rows)


def gallery(entries: Sequence[Mapping[str, Any]], path: str) -> str:
    """The samples of all entries that draw, four in a row, as Markdown.

    Args:
        entries: What their `entry.json` say.
        path: Where their folders are, seen from the page.
    """
    cells = [
        (
            f"[{entry['name']}]({path}{entry['name']}/README.md)",
            f"![{caption(entry)}]({path}{entry['name']}/{entry['samples']})",
        )
        for entry in entries
        if entry["samples"].endswith(".png")
    ]
    rows = [[*zip(*cells[i : i + 4], strict=True)] for i in range(0, len(cells), 4)]
    return "\n\n".join(table(row) for row in rows) or "No entry that draws is published yet."


def between(marks: tuple[str, str], page: str, text: str) -> str:
    """The page with `text` between two marks."""
    begin, end = marks
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n{text}\n{end}", page, flags=re.DOTALL)


def _first_numbers(entry: Mapping[str, Any]) -> str:
    """The first two metrics: the card has all of them."""
    rows = [row for row in entry["metrics"] if not is_memorisation(row)][:2]
    return ", ".join(f"{row['name']} {value_of(row)}" for row in rows)
