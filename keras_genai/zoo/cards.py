"""The card of a published entry: a page for a person who decides whether to use the model.

It is made from `entry.json` and the samples, and from nothing else.
"""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_genai._text import BETWEEN_TEXTS, number, with_spread
from keras_genai.data.loading import KNOWN
from keras_genai.data.loading import names as embedded
from keras_genai.layers import lora
from keras_genai.measuring import MEANINGS, likelihood_of
from keras_genai.models.masked_text_model import MaskedTextModel
from keras_genai.models.text_model import TextModel
from keras_genai.tokenizers import MASK
from keras_genai.zoo import registry

# Metrics that say how much of the training set comes back, and beyond what that is a sign of it:
# so many standard errors above 0.5, such a share, so many characters (a phrase has fewer).
MEMORISATION = {"closer_to_train": 3, "copies": 0.01, "longest_copy": 100}
# Samples of which no larger share looks real (precision) are far from all images, of the training
# as well: that they are not close to those says nothing.
FAR_OFF = 0.01
# Whose p(x) `nll` is, by what `keras_genai.measuring.likelihood_of` says.
LIKELIHOODS = {
    "bernoulli": "of images made black and white at random, each pixel white with its grey value "
    "as the probability, averaged over all ways to do so: numbers of images made so once and for "
    "all, or of grey pixels, do not compare",
    "binarized": "of images made black and white at random, each pixel white with its grey value "
    "as the probability, drawn once by the seed of the measurement; in training they were drawn "
    "anew each time",
    "discretized_logistic": "of images of 256 levels: divided by log 2 and by the number of pixel "
    "values it is bits a dimension",
    "gaussian": "a density, of grey values in [-1, 1] to which no noise was added: it compares "
    "with that of the same images alone, and may be negative",
}


def card(entry: Mapping[str, Any], folder: Path, in_checkout: bool = True) -> str:
    """The card, as Markdown.

    Args:
        entry: The content of `entry.json`.
        folder: Where the samples are.
        in_checkout: Whether it is for the catalogue of the package's repository.
    """
    recipe = registry.info(entry["recipe"])
    sections = [
        f"# {entry['name']}",
        _samples(entry, folder),
        recipe.summary,
        "## What it is for",
        _purpose(entry),
        "## How to load it",
        _loading(entry, in_checkout),
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
        "This page is generated from [entry.json](entry.json)"
        + ("; `make index` writes it anew." if in_checkout else "."),
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


def value_of(row: Mapping[str, Any]) -> str:
    """A metric's value, with its spread over training seeds if there were several."""
    return with_spread(row["value"], row["standard_deviation"])


def caption(entry: Mapping[str, Any]) -> str:
    """What the picture of an entry shows."""
    what = "What is made of images by" if entry["task"] == "transform" else "Images drawn by"
    return f"{what} {entry['name']}"


def _samples(entry: Mapping[str, Any], folder: Path) -> str:
    if entry["modality"] == "image":
        return f"![{caption(entry)}](samples.png)"
    text = (folder / entry["samples"]).read_text("utf-8").split(BETWEEN_TEXTS)[0]
    return "\n".join(f"    {line}".rstrip() for line in text.splitlines())


def _purpose(entry: Mapping[str, Any]) -> str:
    data, arguments = entry["data"]["name"], entry["arguments"]
    if entry["modality"] == "text":
        return _purpose_of_text(_text_model(entry), data)
    if entry["modality"] == "ratings":
        return (
            f"It ranks the {len(json.loads(arguments['catalogue'])):,} items of `{data}` for users "
            "by what they like already. For teaching and for trying things out."
        )
    height, width, channels = arguments["image_shape"]
    kind = "grey" if channels == 1 else "colour"
    images = f"{kind} images of {height}x{width} pixels like those of `{data}`"
    if entry["task"] == "transform":
        return f"It makes images of {images}. For teaching and for trying things out."
    return (
        f"It draws new {images}. For "
        "teaching, for trying things out, and as a number to compare with."
    )


def _text_model(entry: Mapping[str, Any]) -> TextModel:
    """The entry's model, without networks."""
    return registry.info(entry["recipe"]).function(**entry["arguments"])


def _purpose_of_text(model: TextModel, data: str) -> str:
    unit = model.codec.unit
    if isinstance(model, MaskedTextModel):
        does = (
            f"It fills gaps in texts like those of `{data}`, of one {unit[:-1]} each, from what "
            "stands on both sides. It writes too, as above, but for that take a model that reads "
            "from left to right, such as `gpt`."
        )
    else:
        does = f"It goes on with a text in the manner of `{data}`, {unit[:-1]} by {unit[:-1]}."
    return (
        f"{does} It knows {model.num_tokens:,} {unit}, those of the tokenizer `{model.tokenizer}`, "
        f"and was trained with a context of {model.sequence_length:,} of them "
        "(`sequence_length`). For teaching and for trying things out."
    )


def _call_of_text(model: TextModel) -> str:
    """Python that shows what a model of text is for."""
    unit = model.codec.unit
    if not isinstance(model, MaskedTextModel):
        return "print(model.generate(max_length=300, seed=1))"
    return (
        f'text = "{_text_to_fill(model)}"  # at most {model.sequence_length:,} {unit}\n'
        "print(model.fill(text))\n"
        "print(model.candidates(text, k=3))  # and their probabilities"
    )


def _text_to_fill(model: MaskedTextModel) -> str:
    """An English text with a gap; where its characters or words are unknown, gaps alone."""
    letters = model.codec.unit in ("characters", "bytes")
    text = f"Once u{MASK}on" if letters else f"Once {MASK} a time"
    try:
        model.codec.encode_masked(text, model.mask)
    except ValueError:
        return 5 * MASK
    return text


def _needs_of_text(model: TextModel) -> str:
    extra = ' Its tokenizer needs the extra `text`: `pip install "keras_genai[text]"`.'
    return (
        f"`max_length` counts {model.codec.unit}, those of a prompt too."
        f"{extra * (model.tokenizer == 'bpe')}\n\n"
    )


def _loading(entry: Mapping[str, Any], in_checkout: bool) -> str:
    name, recipe, tag = entry["name"], entry["recipe"], entry["tag"]
    needs = ""
    if entry["modality"] == "text":
        model = _text_model(entry)
        call, needs = _call_of_text(model), _needs_of_text(model)
        command = f"keras-genai generate {name} --max_length 300"
    elif entry["modality"] == "ratings":
        liked = json.loads(entry["arguments"]["catalogue"])[:3]
        call = f"items = model.recommend({liked}, k=10)"
        command = f"keras-genai generate {name} --history {','.join(map(str, liked))}"
    else:
        height, width, channels = entry["arguments"]["image_shape"]
        call = (
            f"images = model.generate(16, seed=1)  # uint8, shape (16, {height}, {width}, "
            f"{channels})"
        )
        command = f"keras-genai generate {name} -n 16 -o grid.png"
    if entry["task"] == "transform":
        call = f"made = model.generate(images)  # uint8, shape (N, {height}, {width}, {channels})"
        command = f"keras-genai generate {name} --input my_photos/ -o grid.png"
    where = (
        "Outside a clone of the repository, `KERAS_GENAI_ZOO` names the folder `zoo` of one."
        if in_checkout
        else f"`KERAS_GENAI_ZOO` names the folder in which `{name}/` lies."
    )
    return (
        f'```python\nfrom keras_genai import zoo\n\nmodel = zoo.get("{recipe}", weights="{tag}")\n'
        f"{call}\n```\n\n```console\n$ {command}\n```\n\n"
        f"{needs}{where} {entry['parameters']:,} parameters, "
        f"{entry['weights']['bytes'] / 1e6:.1f} MB as {entry['weights']['dtype']}."
    )


def _training(entry: Mapping[str, Any]) -> str:
    data = entry["data"]
    parts = [f"{data[part]:,} for {words}" for part, words in PARTS.items() if part in data]
    versions = ", ".join(f"{name} {version}" for name, version in entry["versions"].items())
    begins_with = entry.get("begins_with")
    facts = [
        ("", ""),
        ("Data", f"`{data['name']}`, items: {'; '.join(parts)}"),
        *([("Began with", f"the weights of `{begins_with}`")] if begins_with else ()),
        ("Steps", f"{_steps(entry)}, in batches of {entry['batch_size']}"),
        ("Time", f"{entry['wall_seconds'] / 60:.1f} minutes"),
        ("Hardware", entry["hardware"] or "not noted down"),
        ("Software", versions),
        ("Commit", entry["commit"] or "not noted down"),
        ("Seed", str(entry["seed"])),
    ]
    command = ""
    if _has_command(entry):
        command = f"```console\n$ {_command(entry)}\n```\n\n"
    else:
        facts.append(("Parameters", _parameters(entry)))
    path = "" if _has_name(entry) else " --data PATH"
    return (
        f"{command}{table(facts)}\n\n`keras-genai reproduce {entry['name']}{path}` trains it "
        "again, for as many steps, and compares the numbers."
    )


def _steps(entry: Mapping[str, Any]) -> str:
    """The steps of the weights' training; of all trainings, if they differ."""
    # Early entries do not say what the others had.
    steps = [training["steps"] for training in entry.get("trainings", ())]
    if len(set(steps)) < 2:
        return f"{entry['steps']:,}"
    return f"{entry['steps']:,} ({min(steps):,} to {max(steps):,} in the {len(steps)} trainings)"


PARTS = {"train": "training", "validation": "validation", "test": "the test"}


def _has_name(entry: Mapping[str, Any]) -> bool:
    """Whether the command line finds the data by their name."""
    return entry["data"]["name"] in (*embedded(), *KNOWN)


def _has_command(entry: Mapping[str, Any]) -> bool:
    """Whether options of the command line say all that the training was."""
    return _has_name(entry) and entry["shuffle"]


def _command(entry: Mapping[str, Any]) -> str:
    """The command that trained it; what is the recipe's default is left out."""
    recipe = registry.info(entry["recipe"])
    words = ["keras-genai", "train", entry["recipe"], "--data", entry["data"]["name"]]
    if entry.get("begins_with"):
        words += ["--weights", entry["begins_with"]]
    epochs, rest = divmod(entry["steps"], entry["steps_per_epoch"])
    minutes = f"{round(entry['wall_seconds'] / 60, 1):g}"
    words += ["--minutes", minutes] if rest else ["--epochs", str(epochs)]
    if entry["batch_size"] != recipe.batch_size:
        words += ["--batch_size", str(entry["batch_size"])]
    if entry["steps_per_epoch"] != entry["data"]["train"] // entry["batch_size"]:
        words += ["--steps_per_epoch", str(entry["steps_per_epoch"])]
    if entry["validation_split"]:
        words += ["--validation_split", str(entry["validation_split"])]
    for name, value in _changed(entry).items():
        words += [f"--{name}", str(value).lower() if isinstance(value, bool) else str(value)]
    return shlex.join(words)


def _parameters(entry: Mapping[str, Any]) -> str:
    """What a command would say of the recipe, but for the seed, which has a line of its own."""
    changed = [f"`{k}={v!r}`" for k, v in _changed(entry).items() if k != "seed"]
    return f"{', '.join(changed)}; the others as by default" if changed else "as by default"


def _changed(entry: Mapping[str, Any]) -> dict[str, Any]:
    """The recipe's parameters that are not as by default, nor from the data."""
    changed = {}
    for parameter in registry.info(entry["recipe"]).parameters:
        name, default = parameter["name"], parameter["default"]
        value = entry["arguments"].get(name, default)  # the recipe may have it since
        from_data = default is None and name not in ("seed", *lora.TUNING)
        if value != default and not from_data:
            changed[name] = value
    return changed


def is_memorisation(row: Mapping[str, Any]) -> bool:
    """Whether a metric is about copies of the training data."""
    return row["name"] in MEMORISATION


def _meaning(row: Mapping[str, Any]) -> tuple[str, str]:
    return MEANINGS[row["name"].partition("-")[0]]


def _numbers(entry: Mapping[str, Any]) -> str:
    rows = [row for row in entry["metrics"] if not is_memorisation(row)]
    if not rows:
        return "None were measured."
    seeds = rows[0]["seeds"]
    trainings = (
        f"the mean and the standard deviation are over {len(seeds)} trainings, with the seeds "
        f"{', '.join(map(str, seeds))}; the weights are those of seed {seeds[0]}"
        if len(seeds) > 1
        else f"from one training, with seed {seeds[0]}: how much they vary from seed to seed is "
        "not known"
    )
    notes = [f"On the test part, of the last checkpoint; {trainings}."]
    if entry["weights"]["dtype"] == "float16":
        notes.append(
            "The weights are stored in float16; they were measured before they were rounded."
        )
    if any(row["name"].startswith(("FD-", "KD-")) for row in rows):
        notes.append(
            "FD and KD are taken in the features named: they compare with the same in the same "
            "features of as many samples, not with FID or KID."
        )
    if any(row["name"] == "nll" for row in rows):
        notes.append(f"`nll` is {_likelihood(entry)}.")
    return f"{' '.join(notes)}\n\n{_metrics(rows)}"


def _likelihood(entry: Mapping[str, Any]) -> str:
    """Whose p(x) `nll` is; entries of early versions lack arguments, which have their defaults."""
    parameters = registry.info(entry["recipe"]).parameters
    defaults = {parameter["name"]: parameter["default"] for parameter in parameters}
    kind = likelihood_of({**defaults, **entry["arguments"]})
    whose = LIKELIHOODS.get(kind, "of this recipe's own model of pixels")
    return f"{whose}, given their class" if entry["task"] == "labels" else whose


def _metrics(rows: Sequence[Mapping[str, Any]]) -> str:
    seeds, compared = len(rows[0]["seeds"]), any(row["reference"] is not None for row in rows)
    columns = {
        "Metric": [row["name"] for row in rows],
        "What it says": [_meaning(row)[0] for row in rows],
        "Better": [_meaning(row)[1] for row in rows],
        "These weights (standard error)": [_of_weights(row) for row in rows],
        f"{seeds} trainings": [value_of(row) for row in rows] if seeds > 1 else None,
        "To compare with": [_reference(row) for row in rows] if compared else None,
        "Samples": [f"{row['samples']:,}" for row in rows],
        "Features": [
            " ".join(text for text in (row["features"], row["resize"]) if text not in ("", "none"))
            for row in rows
        ],
    }
    shown = {heading: cells for heading, cells in columns.items() if cells is not None}
    return table([[*shown], *zip(*shown.values(), strict=True)])


def _of_weights(row: Mapping[str, Any]) -> str:
    """What was measured of the weights themselves, those of the first seed."""
    error = row["standard_error"]
    return number(row["values"][0]) + (f" ({number(error, 2)})" if error else "")


def _reference(row: Mapping[str, Any]) -> str:
    if row["reference"] is None:
        return ""
    return f"{number(row['reference'])} ({row['reference_source']})"


def _memorisation(entry: Mapping[str, Any]) -> str:
    rows = [row for row in entry["metrics"] if is_memorisation(row)]
    if entry["task"] == "transform":
        return (
            "It makes images of those it is given: how well, the numbers say of images it has not "
            "seen. The picture and the weights hold a few of the training images."
        )
    if not rows:
        return "Not checked: it may repeat training data."
    found = [_copying(row) for row in rows]
    sign = any(sign for sign, _ in found)
    verdict = "There are signs of it" if sign else "No sign of it"
    words = f"{verdict}: {', and '.join(words for _, words in found)}."
    precision = min(
        (r["values"][0] for r in entry["metrics"] if r["name"] == "precision"), default=1
    )
    if precision <= FAR_OFF and not sign:
        words += (
            f" That says nothing here: hardly a sample looks real (precision {number(precision)}), "
            "and what is far from all real images is far from those of the training too."
        )
    return f"{words}\n\n{_metrics(rows)}"


def _copying(row: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether a number of these weights is a sign of memorisation, and what it says in words."""
    value, count, limit = row["values"][0], row["samples"], MEMORISATION[row["name"]]
    if row["name"] == "closer_to_train":
        sign = value > 0.5 + limit * (row["standard_error"] or 0.0)  # none or all: no estimate
        degree = "closer" if sign else "no closer"
        return sign, f"samples are {degree} to training images than unseen real images are"
    if row["name"] == "copies":
        return value > limit, f"{round(value * count):,} of {count:,} samples are copies"
    kind = "passages" if value > limit else "phrases, not passages,"
    words = f"{kind} of the training text return, the longest of {value:.0f} characters"
    return value > limit, words


def _limits(entry: Mapping[str, Any]) -> str:
    data = entry["data"]["name"]
    if entry["modality"] == "text":
        lines = [
            "What it writes has the form of its training text, not meaning: nothing it says is so.",
        ]
        codec = _text_model(entry).codec
        if not codec.knows_all:
            lines.append(f"{codec.unit.capitalize()} that its training text lacks are refused.")
    elif entry["modality"] == "ratings":
        lines = [
            "It knows the items of its catalogue only, and of them nothing but who likes them.",
            "It repeats the leanings of the people whose ratings it was trained on.",
        ]
    else:
        makes = "makes" if entry["task"] == "transform" else "draws"
        lines = [f"It {makes} nothing but what `{data}` shows, in that size only."]
        if entry["task"] == "unconditional":
            lines.append("You cannot choose what it draws.")
        if entry["left_out"]:
            lines.append(
                f"The {' and the '.join(entry['left_out'])} is not part of it, so it is no start "
                "for further training: train a new model instead."
            )
    lines += [line for line in [entry["limits"]] if line]
    return "\n".join(f"- {line}" for line in lines)
