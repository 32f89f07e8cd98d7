"""The card of a published entry: a page for a person who decides whether to use the model.

It is made from `entry.json` and the samples, and from nothing else.
"""

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_genai._text import BETWEEN_TEXTS
from keras_genai.zoo import registry

# Metrics that say how much of the training set comes back.
MEMORISATION = ("closer_to_train", "copies", "longest_copy")


def card(entry: Mapping[str, Any], folder: Path) -> str:
    """The card, as Markdown.

    Args:
        entry: The content of `entry.json`.
        folder: Where the samples are.
    """
    recipe = registry.info(entry["recipe"])
    sections = [
        f"# {entry['name']}",
        _samples(entry, folder),
        recipe.summary,
        "## What it is for",
        _purpose(entry),
        "## How to load it",
        _loading(entry),
        "## How it was trained",
        _training(entry),
        "## Numbers",
        _numbers(entry),
        "## Is it memorised?",
        _memorisation(entry),
        "## What it cannot do",
        _limits(entry),
        "## Licence and credit",
        f"The data, `{entry['data']['name']}`: {entry['credit']}; licence: {entry['licence']}. "
        "The package is under Apache 2.0.",
        f"Paper: {link(entry['paper'])}.",
        "This page is generated from [entry.json](entry.json); `make index` writes it anew.",
    ]
    return "\n\n".join(sections) + "\n"


def table(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; the first row is the heading."""
    heading, *others = rows
    lines = [heading, ("---",) * len(heading), *others]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
                     for line in lines)  # fmt: skip


def link(paper: str) -> str:
    """A paper as a link, if it is in the archive."""
    archive, _, number = paper.partition(":")
    return f"[{paper}](https://arxiv.org/abs/{number})" if archive == "arXiv" else paper


def number(value: float | None) -> str:
    """Four digits, or nothing."""
    return "" if value is None else f"{value:.4g}"


def value_of(row: Mapping[str, Any]) -> str:
    """A metric's value, with its spread over training seeds if there were several."""
    if row["standard_deviation"] is None:
        return number(row["value"])
    # Once more through float: 370, not 3.7e+02.
    return f"{number(row['value'])} ± {float(format(row['standard_deviation'], '.2g')):g}"


def _samples(entry: Mapping[str, Any], folder: Path) -> str:
    if entry["modality"] != "text":
        return f"![Images drawn by {entry['name']}](samples.png)"
    text = (folder / entry["samples"]).read_text("utf-8").split(BETWEEN_TEXTS)[0]
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _purpose(entry: Mapping[str, Any]) -> str:
    data, arguments = entry["data"]["name"], entry["arguments"]
    if entry["modality"] == "text":
        return (
            f"It goes on with a text in the manner of `{data}`, character by character, and knows "
            f"{len(arguments['vocabulary'])} characters. For teaching and for trying things out."
        )
    height, width, channels = arguments["image_shape"]
    kind = "grey" if channels == 1 else "colour"
    return (
        f"It draws new {kind} images of {height}x{width} pixels like those of `{data}`. For "
        "teaching, for trying things out, and as a number to compare with."
    )


def _loading(entry: Mapping[str, Any]) -> str:
    name, recipe, tag = entry["name"], entry["recipe"], entry["tag"]
    if entry["modality"] == "text":
        call = "print(model.generate(max_length=300, seed=1))"
        command = f"keras-genai generate {name} --max_length 300"
    else:
        height, width, channels = entry["arguments"]["image_shape"]
        call = (
            f"images = model.generate(16, seed=1)  # uint8, shape (16, {height}, {width}, "
            f"{channels})"
        )
        command = f"keras-genai generate {name} -n 16 -o grid.png"
    return (
        f'```python\nfrom keras_genai import zoo\n\nmodel = zoo.get("{recipe}", weights="{tag}")\n'
        f"{call}\n```\n\n```console\n$ {command}\n```\n\n"
        "Outside a clone of the repository, `KERAS_GENAI_ZOO` names the folder `zoo` of one. "
        f"{entry['parameters']:,} parameters, {entry['weights']['bytes'] / 1e6:.1f} MB as "
        f"{entry['weights']['dtype']}."
    )


def _training(entry: Mapping[str, Any]) -> str:
    data = entry["data"]
    parts = [f"{data[part]:,} for {words}" for part, words in PARTS.items() if part in data]
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    facts = [
        ("", ""),
        ("Data", f"`{data['name']}`, items: {'; '.join(parts)}"),
        ("Steps", f"{entry['steps']:,}, in batches of {entry['batch_size']}"),
        ("Time", f"{entry['wall_seconds'] / 60:.1f} minutes"),
        ("Hardware", entry["hardware"] or "not noted down"),
        ("Software", versions),
        ("Commit", entry["commit"] or "not noted down"),
        ("Seed", str(entry["seed"])),
    ]
    return (
        f"```console\n$ {_command(entry)}\n```\n\n{table(facts)}\n\n"
        f"`keras-genai reproduce {entry['name']}` trains it again, for as many steps, and compares "
        "the numbers."
    )


PARTS = {"train": "training", "validation": "validation", "test": "the test"}


def _command(entry: Mapping[str, Any]) -> str:
    """The command that trained it; what is the recipe's default is left out."""
    recipe = registry.info(entry["recipe"])
    words = ["keras-genai", "train", entry["recipe"], "--data", entry["data"]["name"]]
    epochs, rest = divmod(entry["steps"], entry["steps_per_epoch"])
    minutes = f"{round(entry['wall_seconds'] / 60, 1):g}"
    words += ["--minutes", minutes] if rest else ["--epochs", str(epochs)]
    if entry["batch_size"] != recipe.batch_size:
        words += ["--batch_size", str(entry["batch_size"])]
    if entry["validation_split"]:
        words += ["--validation_split", str(entry["validation_split"])]
    for parameter in recipe.parameters:
        name, default = parameter["name"], parameter["default"]
        value = entry["arguments"].get(name, default)  # the recipe may have it since
        if value != default and (default is not None or name == "seed"):  # else from the data
            words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def is_memorisation(row: Mapping[str, Any]) -> bool:
    """Whether a metric is about copies of the training data."""
    return row["name"] in MEMORISATION


def _numbers(entry: Mapping[str, Any]) -> str:
    rows = [row for row in entry["metrics"] if not is_memorisation(row)]
    if not rows:
        return "None were measured."
    seeds = rows[0]["seeds"]
    trainings = (
        f"Mean and standard deviation over {len(seeds)} trainings, with the seeds "
        f"{', '.join(map(str, seeds))}; the weights are those of seed {seeds[0]}"
        if len(seeds) > 1
        else f"From one training, with seed {seeds[0]}: how much they vary from seed to seed is "
        "not known"
    )
    rounded = (
        " The weights are stored in float16; they were measured before they were rounded."
        if entry["weights"]["dtype"] == "float16"
        else ""
    )
    distances = (
        " FD and KD are the Fréchet and the kernel distance on the features named, 0 for equal "
        "sets: to be compared with the same on the same features and as many samples, not with FID "
        "or KID."
        if any(row["name"].startswith(("FD-", "KD-")) for row in rows)
        else ""
    )
    return f"{trainings}. Always of the last checkpoint.{rounded}{distances}\n\n{_metrics(rows)}"


def _metrics(rows: list[Mapping[str, Any]]) -> str:
    heading = (
        "Metric", "Value", "Standard error", "To compare with", "Samples", "Features", "Part",
    )  # fmt: skip
    lines = [heading]
    for row in rows:
        reference = (
            f"{number(row['reference'])} ({row['reference_source']})"
            if row["reference"] is not None
            else ""
        )
        features = " ".join(
            text for text in (row["features"], row["resize"]) if text and text != "none"
        )
        lines.append(
            (
                row["name"],
                value_of(row),
                number(row["standard_error"]),
                reference,
                f"{row['samples']:,}",
                features,
                row["split"] or "",
            )  # fmt: skip
        )
    return table(lines)


def _memorisation(entry: Mapping[str, Any]) -> str:
    rows = [row for row in entry["metrics"] if is_memorisation(row)]
    return _metrics(rows) if rows else "Not checked: it may repeat training data."


def _limits(entry: Mapping[str, Any]) -> str:
    data = entry["data"]["name"]
    if entry["modality"] == "text":
        lines = [
            "What it writes has the form of its training text, not meaning: nothing it says is so.",
            "Characters that its training text lacks are refused in prompts.",
        ]
    else:
        lines = [f"It draws nothing but what `{data}` shows, in that size only."]
        if entry["task"] == "unconditional":
            lines.append("You cannot choose what it draws.")
        if entry["left_out"]:
            lines.append(
                f"The {' and the '.join(entry['left_out'])} is not part of it, so it is no start "
                "for further training: train a new model instead."
            )
    lines += [line for line in [entry["limits"]] if line]
    return "\n".join(f"- {line}" for line in lines)
