"""Published entries: found by name, checked, loaded.

An entry is a folder `<recipe>.<tag>` with `entry.json`, the only truth about it, the weights, and
what is generated for people: a card, samples, the history. Nothing in it is code.
"""

import itertools
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_genai._files import CATALOGUE, own_catalogues
from keras_genai._text import did_you_mean
from keras_genai.layers import lora
from keras_genai.zoo import loading, registry, weights

ENTRY = "entry.json"
NAME = re.compile(r"[a-z0-9_]+\.[a-z0-9_]+")  # <recipe>.<tag>; never a path
KEYS = (
    "name", "recipe", "tag", "modality", "task", "arguments", "data", "seed", "batch_size",
    "steps", "steps_per_epoch", "wall_seconds", "hardware", "versions", "commit", "parameters",
    "weights", "left_out", "samples", "measured", "metrics", "golden", "limits", "licence",
    "credit", "paper", "shuffle", "validation_split",
)  # fmt: skip
GOLDEN_IMAGES, GOLDEN_CHARACTERS = 4, 100
# Other processors round otherwise: a pixel may differ by this much, a character not at all.
GREY_LEVELS = 2


def folders() -> list[Path]:
    """Where entries are looked for: `$KERAS_GENAI_ZOO`, then the catalogue of the checkout."""
    return [*own_catalogues(), CATALOGUE]


def names() -> list[str]:
    """Names of all published entries that are known, here or not."""
    here = {path.parent.name for folder in folders() for path in folder.glob(f"*.*/{ENTRY}")}
    return sorted(here | {*registry.stored_index()["entries"]})


def find(name: str) -> Path:
    """The folder of the entry `name`, such as "dcgan.mnist".

    Raises:
        ValueError: If there is none of this name, or it is not on this computer.
    """
    if NAME.fullmatch(name):
        for folder in folders():
            if (folder / name / ENTRY).is_file():
                return folder / name
    known = names()
    looked = " and ".join(map(str, folders()))
    if name in known:
        raise ValueError(
            "This entry is published, but not on this computer: entries come with a clone of the "
            "package's repository, not with the installed package. Set KERAS_GENAI_ZOO to the "
            f"folder `zoo` of a clone. Looked in {looked}. Received: {name!r}"
        )
    raise ValueError(
        f"No published entry of this name. {did_you_mean(name, known)}There are: "
        f"{', '.join(known) or 'none'}. Looked in {looked}; KERAS_GENAI_ZOO names another folder. "
        f"Received: {name!r}"
    )


def read(folder: Path) -> dict[str, Any]:
    """The content of an entry's `entry.json`.

    Raises:
        ValueError: If it is damaged, or of a newer version of the package.
    """
    path = folder / ENTRY
    try:
        entry = json.loads(path.read_text("utf-8"))
        version, faults = str(entry["versions"]["keras_genai"]), _faults(entry)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        version, faults = "0", [f"{type(error).__name__}: {error}"]
    loading.check_version("keras_genai", version, path)
    if faults:
        raise ValueError(
            "This is not a whole entry.json as `keras-genai publish` writes it: take another copy. "
            f"Received: {str(path)!r} with {', '.join(faults)}"
        )
    return entry


def _faults(entry: Mapping[str, Any]) -> list[str]:
    """What is missing, or else of another type than `load` relies on."""
    stored = entry["weights"]
    types = (
        ("recipe", entry["recipe"], str),
        ("arguments", entry["arguments"], dict),
        ("bytes", stored["bytes"], int),
        ("sha256", stored["sha256"], str),
    )
    missing = [f"no {key!r}" for key in KEYS if key not in entry]
    return missing + [f"{k}={v!r:.50}" for k, v, kind in types if not isinstance(v, kind)]


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """Makes the model of an entry and gives it the published weights.

    Args:
        folder: The entry.
        overrides: Parameters of the recipe in place of the entry's. Weights must still fit.

    Raises:
        ValueError: If anything in the folder is not as published, or the weights do not fit.
    """
    entry, overrides = read(folder), dict(overrides or {})
    # The weights are those of a model as it was published; what freezes them comes after.
    tuning = {name: overrides.pop(name) for name in lora.TUNING if name in overrides}
    arguments = {**arguments_of(entry), **overrides}
    path = folder / weights.NAME  # wherever the entry says its weights are
    data = weights.read(path, entry["weights"])
    # Not `get`: what a file says is nothing but parameters, never data to open or another entry.
    model = registry.make(entry["recipe"], arguments)
    loading.check_meaning(model, entry["arguments"], overrides)
    model.need_networks()
    try:
        arrays = weights.parse(data, model, path)
    except ValueError as error:
        differences = _differences(entry, arguments)
        if not differences:
            raise
        raise ValueError(f"{differences} {error}") from error
    weights.assign(model, arrays)
    model.entry = entry["name"]
    return loading.remade(model, tuning) if tuning else model


def arguments_of(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of an entry's recipe, those included that its data settled."""
    return {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in entry["arguments"].items()
    }


def _differences(entry: Mapping[str, Any], arguments: Mapping[str, Any]) -> str:
    theirs = arguments_of(entry)
    different = [
        f"{name}={theirs.get(name)!r}, this call has {name}={value!r}"
        for name, value in arguments.items()
        if theirs.get(name) != value
    ]
    return f"{entry['name']} was trained with {'; '.join(different)}." if different else ""


# Golden slices ----------------------------------------------------------------------------------


def golden(preview: Any) -> dict[str, Any]:
    """A slice of `preview(0)`, by which a copy on another computer can be told to be right.

    Of images the middle rows of the first ones, in their first channel; of text the beginning.

    Args:
        preview: What `model.preview(0)` returned.
    """
    if isinstance(preview[0], str):
        values = preview[0][:GOLDEN_CHARACTERS]
        return {"slice": f"preview(0)[0][:{GOLDEN_CHARACTERS}]", "values": values, "tolerance": 0}
    row = preview.shape[1] // 2
    numbers = preview[:GOLDEN_IMAGES, row, :, 0].reshape(-1)
    return {
        "slice": f"preview(0)[:{GOLDEN_IMAGES}, {row}, :, 0]",
        "values": " ".join(map(str, numbers)),
        "tolerance": GREY_LEVELS,
    }


def golden_difference(preview: Any, expected: Mapping[str, Any]) -> int:
    """How far the slice of `preview` is from the published one: grey levels, or characters."""
    values = golden(preview)["values"]
    if isinstance(preview[0], str):
        pairs = itertools.zip_longest(values, expected["values"])
        return sum(mine != theirs for mine, theirs in pairs)
    mine, theirs = (np.array(text.split(), "int64") for text in (values, expected["values"]))
    return int(np.abs(mine - theirs).max())
