"""From a measured run to a published entry, and from an entry to a run that reproduces it."""

import contextlib
import csv
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

from keras_genai._files import write_text
from keras_genai._provenance import generated_by
from keras_genai._text import BETWEEN_TEXTS
from keras_genai.data.base import Dataset
from keras_genai.data.licences import licence_of
from keras_genai.measuring import IMAGES, TEXTS
from keras_genai.zoo import cards, generated, loading, published, registry, weights

METRICS = "metrics.json"
References = Sequence[tuple[str, float, str]]  # name, value, source
# What a metric is; value, errors and references may differ between runs of one entry.
METRIC_KEYS = ("name", "features", "resize", "split", "samples")
# Trainings that end by the clock differ in their number of steps. By which shares they may:
SAME_TIME, SAME_STEPS = 0.05, 0.2


def publish(
    runs: Sequence[str | os.PathLike],
    tag: str,
    *,
    catalogue: Path | None = None,
    data: Any = None,
    licence: str | None = None,
    credit: str | None = None,
    limits: str = "",
    references: References = (),
    overwrite: bool = False,
) -> Path:
    """Makes an entry of the catalogue from measured runs.

    Args:
        runs: Run folders. The first is published; with others, which differ in the seed alone, the
            metrics get a mean and a standard deviation over training seeds.
        tag: The second part of the entry's name, as a rule the data set.
        catalogue: The folder of all entries; by default that which `$KERAS_GENAI_ZOO` names, else
            the checkout's `zoo`.
        data: The data the runs were trained on, if their name does not find them.
        licence: Of the data, if the package does not know.
        credit: Who made the data, if the package does not know.
        limits: What the model cannot do, as sentences for its card, beside the usual.
        references: What to compare metrics with: name, value and source.
        overwrite: Whether an entry of this name may be replaced.

    Returns:
        The entry's folder.

    Raises:
        ValueError: If the runs are not measured on their own data, on the whole test part or 10,000
            images of it, or do not belong together, the data are not those of the runs, a weight is
            not finite, or the entry is too large.
    """
    folders = [Path(run) for run in runs]
    configs = [_config(folder) for folder in folders]
    check_one_experiment(folders, configs)
    name = f"{configs[0]['recipe']}.{tag}"
    target = _target(catalogue, name, overwrite)
    in_checkout = target.parent.resolve() == published.CATALOGUE.resolve()
    model = loading.load(folders[0])
    progress = [model.progress, *(loading.load(folder).progress for folder in folders[1:])]
    trainings = [
        {
            "seed": config["seed"],
            "steps": done.step,
            "wall_seconds": round(done.milliseconds / 1000, 1),
        }
        for config, done in zip(configs, progress, strict=True)
    ]
    check_one_length(folders, trainings)
    data_facts = _data_facts(model, configs[0], data, licence, credit)
    facts = {
        "name": name,
        "tag": tag,
        **_run_facts(model, configs[0]),
        **trainings[0],
        "trainings": trainings,
        **data_facts,
        **_metric_facts(folders, configs, data_facts["data"], references),
        "limits": limits,
    }
    with _staged(target) as staging:
        stored = weights.write(staging / weights.NAME, model)
        _check_size(staging)
        entry = {**facts, "weights": stored, "golden": None}
        _write(staging / published.ENTRY, entry)
        entry["golden"] = _show(published.load(staging), staging / entry["samples"], name)
        _write(staging / published.ENTRY, entry)
        shutil.copy(folders[0] / "history.csv", staging / "history.csv")
        write_text(staging / "README.md", cards.card(entry, staging, in_checkout))
        _check_size(staging)
    if in_checkout:
        generated.write()
    return target


def _run_facts(model: Any, config: Mapping[str, Any]) -> dict[str, Any]:
    recipe = registry.info(config["recipe"])
    return {
        "recipe": recipe.name,
        "modality": recipe.modality,
        "task": recipe.task,
        "paper": recipe.paper,
        "arguments": {**config["arguments"], **config["settled"], "seed": config["seed"]},
        "begins_with": config.get("begins_with"),
        "batch_size": config["batch_size"],
        "shuffle": config["shuffle"],
        "steps_per_epoch": config["steps_per_epoch"],
        "hardware": config.get("hardware"),  # runs of early versions do not say
        "versions": config["versions"],
        "commit": config.get("commit"),
        # The examples of a model that makes images of images are saved as networks are.
        "parameters": sum(
            network.count_params()
            for network in model.networks_in_use.values()
            if isinstance(network, keras.Model)
        ),
        "left_out": [*model.training_only],
        "samples": "samples.png" if recipe.modality == "image" else "samples.txt",
    }


def _data_facts(
    model: Any, config: Mapping[str, Any], data: Any, licence: str | None, credit: str | None
) -> dict[str, Any]:
    parts, counts = _same_data(model, config, loading.data_of(config) if data is None else data)
    return {
        "data": {"name": parts.name, "fingerprint": config["data_fingerprint"], **counts},
        "validation_split": config.get("validation_split"),
        **licence_of(parts.name, licence, credit)._asdict(),
    }


def _metric_facts(
    folders: Sequence[Path],
    configs: Sequence[Mapping[str, Any]],
    data: Mapping[str, Any],
    references: References,
) -> dict[str, Any]:
    samples = {"image": min(IMAGES, data.get("test", 0)), "text": TEXTS}
    least = samples.get(registry.info(configs[0]["recipe"]).modality, 0)
    measurements = [_measurement(folder, data, least) for folder in folders]
    return {
        "measured": {key: v for key, v in measurements[0].items() if key != "metrics"},
        "metrics": over_seeds(folders, configs, measurements, references),
    }


def _write(path: Path, entry: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(entry, indent=1, ensure_ascii=False) + "\n")


def _show(model: Any, path: Path, name: str) -> dict[str, Any]:
    """Writes the samples of what will be loaded, rounded as it may be; returns their slice."""
    from keras_genai import pictures  # with it comes Matplotlib, which takes a while

    preview = model.preview(seed=0)
    if model.modality == "image":
        sheet = pictures.grid(preview, model.preview_columns)
        pictures.save_image(path, sheet, about=generated_by(name, seed=0))
    else:
        between = BETWEEN_TEXTS if model.modality == "text" else "\n"
        write_text(path, between.join(preview) + "\n")
    return published.golden(preview)


def _target(catalogue: Path | None, name: str, overwrite: bool) -> Path:
    if not published.NAME.fullmatch(name):
        raise ValueError(
            "A tag is made of small letters, digits and underscores. "
            f"Received: {name.partition('.')[2]!r}"
        )
    folder = published.folders()[0] if catalogue is None else Path(catalogue)
    if folder == published.CATALOGUE and not folder.exists():
        raise ValueError(
            "The package is installed outside a checkout, where there is no catalogue: say with "
            "--zoo or KERAS_GENAI_ZOO into which folder the entry goes. "
            f"Received: no folder {str(folder)!r}"
        )
    target = folder / name
    if target.exists() and not overwrite:
        raise ValueError(
            f"There is an entry of this name; replace it with --overwrite or choose another tag. "
            f"Received: {str(target)!r}"
        )
    return target


@contextlib.contextmanager
def _staged(target: Path) -> Iterator[Path]:
    """A folder that takes the place of `target` when all of it is there and right."""
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=".") as temporary:
        staging = Path(temporary, target.name)
        staging.mkdir()
        yield staging
        if target.exists():
            target.rename(Path(temporary, "old"))
        staging.rename(target)


def _check_size(folder: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in folder.iterdir()}
    if sum(sizes.values()) > weights.MAX_BYTES:
        parts = ", ".join(f"{name} {size:,}" for name, size in sizes.items())
        raise ValueError(
            f"An entry has at most {weights.MAX_BYTES:,} bytes: make the networks smaller. "
            f"Received: {sum(sizes.values()):,} bytes ({parts})"
        )


# Runs -------------------------------------------------------------------------------------------


def _config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if not path.exists():
        raise ValueError(
            "This is not a run folder: it holds no config.json. Publish what a training left, "
            f"such as runs/dcgan/001. Received: {str(folder)!r}"
        )
    config = json.loads(path.read_text("utf-8"))
    registry.info(config["recipe"])  # raises for a model made by hand
    with open(folder / "history.csv", newline="", encoding="utf-8") as file:
        first = next(csv.DictReader(file))
    if int(first["epoch"]) > 1 or int(first["step"]) > config["steps_per_epoch"]:
        raise ValueError(
            "This run went on with a model that an earlier `fit` had trained, which an entry does "
            "not say and `reproduce` cannot repeat: train a new model. "
            f"Received: a history that begins with epoch {first['epoch']} at step {first['step']}, "
            f"with {config['steps_per_epoch']} steps an epoch, in {str(folder)!r}"
        )
    return config


def check_one_experiment(folders: Sequence[Path], configs: Sequence[Mapping[str, Any]]) -> None:
    """All runs must be the same but for the seed, which must differ."""
    keys = (
        "recipe", "begins_with", "data", "data_fingerprint", "validation_split", "batch_size",
        "steps_per_epoch", "shuffle",
    )  # fmt: skip
    first = configs[0]
    for folder, config in zip(folders[1:], configs[1:], strict=True):
        different = [key for key in keys if config.get(key) != first.get(key)]
        arguments, theirs = _arguments(config), _arguments(first)
        different += [name for name in arguments if arguments[name] != theirs.get(name)]
        if different:
            raise ValueError(
                "Runs published together differ in their seed alone. "
                f"Received: {', '.join(different)} of {folder} and {folders[0]}"
            )
    seeds = [config["seed"] for config in configs]
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"Runs published together have different seeds. Received: seeds {seeds}")


def _arguments(config: Mapping[str, Any]) -> dict[str, Any]:
    """All that a training depends on but its seed; the recipe may have a parameter since.

    What the data settled counts alike whether it was given, as `reproduce` does, or not.
    """
    defaults = {p["name"]: p["default"] for p in registry.info(config["recipe"]).parameters}
    arguments = {**defaults, **config["arguments"], **config["settled"], "seed": None}
    return {
        **json.loads(json.dumps(arguments)),
        "keras_genai": config["versions"].get("keras_genai"),
    }


def check_one_length(folders: Sequence[Path], trainings: Sequence[Mapping[str, Any]]) -> None:
    """All runs must have as many steps, or by the clock about as many in the same time.

    Args:
        folders: The runs.
        trainings: `steps` and `wall_seconds` of each.
    """

    def apart(key: str, training: Mapping[str, Any]) -> float:
        mine, theirs = training[key], trainings[0][key]
        return abs(mine - theirs) / max(mine, theirs, 1e-9)

    for folder, training in zip(folders, trainings, strict=True):
        steps, seconds = apart("steps", training), apart("wall_seconds", training)
        if steps and (steps > SAME_STEPS or seconds > SAME_TIME):
            lengths = [
                f"{t['steps']} steps in {t['wall_seconds']} s" for t in (training, trainings[0])
            ]
            raise ValueError(
                "Runs published together are equally long: they have as many steps, or by the "
                f"clock times within {SAME_TIME:.0%} and steps within {SAME_STEPS:.0%} of each "
                "other. "
                f"Received: {lengths[0]} of {folder}, {lengths[1]} of {folders[0]}"
            )


def _same_data(model: Any, config: Mapping[str, Any], data: Any) -> tuple[Dataset, dict[str, int]]:
    """The data of a run, opened again, and the number of items in each part."""
    split = config.get("validation_split") or 0.0
    parts = model.open_data(data, validation_split=split)
    fingerprint = model.prepare(parts.train).fingerprint
    if fingerprint != config["data_fingerprint"]:
        raise ValueError(
            "These are not the data of the run; name them with --data. "
            f"Received: {parts.name!r} with the fingerprint {fingerprint}, where the run has "
            f"{config['data']!r} with {config['data_fingerprint']}"
        )
    sources = {part: getattr(parts, part) for part in ("train", "validation", "test")}
    counts = {part: len(model.prepare(s)) for part, s in sources.items() if s is not None}
    return parts, counts


# Metrics ----------------------------------------------------------------------------------------


def _measurement(folder: Path, data: Mapping[str, Any], least: int) -> dict[str, Any]:
    """What was measured of a run, on at least so many of the data that `data` names."""
    path = folder / METRICS
    if not path.exists():
        raise ValueError(
            f"This run is not measured yet: `keras-genai measure {folder}` does that. "
            f"Received: no file {str(path)!r}"
        )
    if path.stat().st_mtime < (folder / loading.CHECKPOINT).stat().st_mtime:
        raise ValueError(
            f"This run went on after it was measured: `keras-genai measure {folder}` measures its "
            f"last checkpoint. Received: {str(path)!r}, older than its checkpoint"
        )
    measurement = json.loads(path.read_text("utf-8"))
    for key, of_run in (("data", data["name"]), ("data_fingerprint", data["fingerprint"])):
        if key not in measurement:
            raise ValueError(
                "An earlier version measured this run, which did not note down on what data: "
                f"measure it again, with `keras-genai measure {folder}`. "
                f"Received: no {key!r} in {str(path)!r}"
            )
        if measurement[key] != of_run:
            raise ValueError(
                "This run was measured on other data than it was trained on: remove that file, and "
                f"`keras-genai measure {folder}` takes its own. Received: {key} "
                f"{measurement[key]!r} in {str(path)!r}, where the run has {of_run!r}"
            )
    for row in measurement["metrics"]:
        if row["split"] != "test":
            raise ValueError(
                "Published numbers are from the test part: by the validation part models are "
                "chosen. A folder of your own has one if it has subfolders train and test. "
                f"Received: {row['name']} with split={row['split']!r} in {str(path)!r}"
            )
    if measurement["num_samples"] < least:
        raise ValueError(
            f"Numbers of an entry on these data are of {least:,} samples at least: measure again "
            f"without --samples, `keras-genai measure {folder}`. "
            f"Received: {measurement['num_samples']:,} in {str(path)!r}"
        )
    return measurement


def identity(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What a metric is: two numbers of another identity are not compared."""
    return tuple(row.get(key) for key in METRIC_KEYS)


def over_seeds(
    folders: Sequence[Path],
    configs: Sequence[Mapping[str, Any]],
    measurements: Sequence[Mapping[str, Any]],
    references: References,
) -> list[dict[str, Any]]:
    """Each metric of the first run, with its mean and spread over all."""
    tables = [{identity(row): row["value"] for row in m["metrics"]} for m in measurements]
    compared = {name: (float(value), source) for name, value, source in references}
    unknown = [n for n in compared if n not in {row["name"] for row in measurements[0]["metrics"]}]
    if unknown:
        raise ValueError(f"The run has no such metric to compare. Received: {', '.join(unknown)}")
    rows = []
    for row in measurements[0]["metrics"]:
        absent = [str(f) for f, t in zip(folders, tables, strict=True) if identity(row) not in t]
        if absent:
            raise ValueError(
                f"All runs must be measured alike. Received: {row['name']} with "
                f"{identity(row)[1:]} in {folders[0]}, but not in {', '.join(absent)}"
            )
        values = [table[identity(row)] for table in tables]
        value, source = compared.get(row["name"], (None, None))
        rows.append(
            {
                **{key: row.get(key) for key in METRIC_KEYS},
                "value": float(np.mean(values)),
                "standard_deviation": float(np.std(values, ddof=1)) if len(values) > 1 else None,
                "standard_error": row.get("standard_error"),
                "seeds": [config["seed"] for config in configs],
                "values": values,
                "reference": value,
                "reference_source": source,
            }
        )
    return rows


def allowed(row: Mapping[str, Any]) -> float:
    """How far a reproduced number may lie from the published one.

    The largest of: five standard deviations over the training seeds (of three seeds, within which
    nineteen in twenty further ones lie), or a quarter of the value if there was one seed; three
    standard errors of the measurement; three samples in all that were measured.
    """
    if row["standard_deviation"] is None:
        spread = abs(row["value"]) / 4
    else:
        spread = 5 * row["standard_deviation"]
    return max(spread, 3 * (row["standard_error"] or 0.0), 3 / row["samples"])


# Reproducing ------------------------------------------------------------------------------------


class StopAtStep(keras.callbacks.Callback):
    """Ends a training after as many steps, in the middle of an epoch too, as the clock does."""

    def __init__(self, steps: int):
        super().__init__()
        self.steps = steps

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if self.model.progress.step >= self.steps:
            self.model.stop_training = True


def reproduce(
    name: str | os.PathLike, *, data: Any = None, run_dir: Any = None
) -> tuple[Path, list[dict[str, Any]]]:
    """Trains an entry again from its `entry.json`, measures, and compares.

    Args:
        name: An entry's name or folder.
        data: The data it was trained on, if their name does not find them.
        run_dir: As in `fit`: a run that was cut off goes on.

    Returns:
        The run folder, and for each metric a row with `name`, `published`, `new`, `allowed` and
        `within`: whether they differ by no more than `allowed`.

    Raises:
        ValueError: If there is no such entry, the weights it began with are not there, or the data
            are not those it was trained on.
    """
    folder = Path(name) if Path(name).exists() else published.find(os.fspath(name))
    entry = published.read(folder)
    arguments, begins_with = published.arguments_of(entry), entry.get("begins_with")
    model = (
        loading.load(begins_with, **arguments)
        if begins_with
        else registry.make(entry["recipe"], arguments)
    )
    source = entry["data"]["name"] if data is None else data
    config = {
        **entry, "data": entry["data"]["name"], "data_fingerprint": entry["data"]["fingerprint"]
    }  # fmt: skip
    parts, _ = _same_data(model, config, source)
    epochs = -(-entry["steps"] // entry["steps_per_epoch"])
    model.fit(
        parts,
        batch_size=entry["batch_size"],
        steps_per_epoch=entry["steps_per_epoch"],
        shuffle=entry["shuffle"],
        epochs=epochs,  # as many as it takes; the last one ends early
        callbacks=[StopAtStep(entry["steps"])],
        run_dir=run_dir,
        verbose=2,
    )
    return model.run_dir, compare(entry, measured(model, parts, entry["measured"]))


def measured(model: Any, data: Any, how: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a measurement on `data`, written into the model's run folder as well.

    Args:
        model: After `fit`.
        data: As in `measure`.
        how: The published measurement: its seed, and sample count and features if it has them.
    """
    from keras_genai.measuring import measure

    options = {key: how[key] for key in ("num_samples", "seed", "features") if key in how}
    table = measure(model, data, **options)
    write_text(Path(model.run_dir) / METRICS, table.to_json())
    return json.loads(table.to_json())["metrics"]


def compare(entry: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Sets new numbers beside those of an entry; see `reproduce`.

    Raises:
        ValueError: If a metric was measured in another way, or not at all.
    """
    new = {identity(row): row["value"] for row in rows}
    absent = [row["name"] for row in entry["metrics"] if identity(row) not in new]
    if absent:
        raise ValueError(
            "Numbers are compared only if features, resizing, part and sample count are the same. "
            f"Received: no such measurement of {', '.join(absent)}"
        )
    compared = []
    for row in entry["metrics"]:
        value, limit = new[identity(row)], allowed(row)
        compared.append(
            {
                "name": row["name"],
                "published": row["value"],
                "new": value,
                "allowed": limit,
                "within": bool(abs(value - row["value"]) <= limit),  # NaN is not
            }
        )
    return compared
