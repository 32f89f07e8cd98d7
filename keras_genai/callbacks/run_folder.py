"""The run folder: what a run is, what it has done, and all that is needed to go on exactly."""

import csv
import io
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_genai import distribution, pictures
from keras_genai._files import explained, write_text
from keras_genai._log import say
from keras_genai._provenance import provenance
from keras_genai.zoo import loading

CHECKPOINT_SECONDS = 300
CURVE_SECONDS = 30
# A run may be continued elsewhere, and its data may have moved: `data_fingerprint` knows them.
MAY_DIFFER = (
    "versions", "commit", "hardware", "exact", "replicas", "data_path", "begins_with",
)  # fmt: skip
REFUSED = 2  # what the chief tells other workers, beside False and True


class RunFolder(keras.callbacks.Callback):
    """Writes `config.json`, `history.csv`, `loss.png` and `checkpoint.keras`, each atomically.

    A checkpoint is written before the first step, after each epoch and every five minutes.

    Args:
        path: The folder.
        config: What the run is; see `open_folder`.
        rows: What the history holds already, if a run is continued.
    """

    def __init__(self, path: str | Path, config: Mapping[str, Any], rows: Any = None):
        super().__init__()
        self.path, self.config, self.continued = Path(path), config, rows is not None
        self.rows: list[dict[str, Any]] = rows or []
        self.advice: dict[int, list[str]] = {}  # by epoch; the health callback fills it
        self.last_checkpoint = self.last_curve = time.monotonic()

    def on_train_begin(self, logs: Any = None) -> None:
        if not self.continued:
            self.checkpoint()
            write_text(self.path / "config.json", json.dumps(self.config, indent=1) + "\n")
        say(f"Run folder: {self.path}")

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        progress = self.model.progress
        full = progress.step - progress.epoch_start >= self.config["steps_per_epoch"]
        # Not between an epoch's last step and its end: that has a checkpoint of its own.
        if time.monotonic() - self.last_checkpoint > CHECKPOINT_SECONDS and not full:
            self.checkpoint()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        progress = self.model.progress
        place = {
            "epoch": epoch + 1,
            "step": progress.step,
            "seconds": f"{progress.milliseconds / 1000:.1f}",
        }
        row = {**place, **{name: float(v) for name, v in (logs or {}).items()}}
        if epoch + 1 in self.advice:
            row["advice"] = "; ".join(self.advice[epoch + 1])
        self.rows.append(row)
        # In this order: a row without its checkpoint is dropped when the run is continued.
        self._write_history()
        self.checkpoint()
        if time.monotonic() - self.last_curve > CURVE_SECONDS:
            self._draw_curve()

    def on_train_end(self, logs: Any = None) -> None:
        self._draw_curve()

    def checkpoint(self) -> None:
        """Saves the model with all that continuing needs."""
        self.model.save(self.path / loading.CHECKPOINT)
        self.last_checkpoint = time.monotonic()

    def _write_history(self) -> None:
        text = io.StringIO()
        table = csv.DictWriter(text, self._columns(), lineterminator="\n")
        table.writeheader()
        table.writerows(self.rows)
        write_text(self.path / "history.csv", text.getvalue())

    def _columns(self) -> list[str]:
        """All names that any epoch has, in the order of their first."""
        return [*dict.fromkeys(name for row in self.rows for name in row)]

    def _draw_curve(self) -> None:
        if not self.rows:
            return
        names = [name for name in self._columns() if name not in ("step", "seconds", "advice")]
        columns = {name: [float(row.get(name, "nan")) for row in self.rows] for name in names}
        advice = {int(row["epoch"]): row["advice"] for row in self.rows if "advice" in row}
        pictures.save_loss_curve(self.path / "loss.png", columns, advice)
        self.last_curve = time.monotonic()


def open_folder(
    run_dir: Any, model: Any, settings: Mapping[str, Any]
) -> tuple[RunFolder | None, bool]:
    """Starts a run folder or continues the one at `run_dir`, loading its state into `model`.

    Of several workers only the chief has the folder; the others go by what it found.

    Args:
        run_dir: None for a new folder, False for none, or a path.
        model: The built model.
        settings: Data and batches, which must agree when a run is continued.

    Returns:
        The folder, if this process writes one, and whether a run is continued.

    Raises:
        ValueError: If the folder holds another run, or files that are not a run.
        OSError: If it cannot be written.
    """
    if run_dir is False:
        return None, False
    strategy = model.distribute_strategy
    if distribution.is_chief(strategy):
        try:
            folder = _open_folder(run_dir, model, settings)
        except BaseException:
            distribution.of_chief(strategy, REFUSED)
            raise
        distribution.of_chief(strategy, folder.continued)
        return folder, folder.continued
    answer = distribution.of_chief(strategy, 0)
    if answer == REFUSED:
        raise ValueError(
            f"The chief cannot use this folder, and says why. Received: run_dir={str(run_dir)!r}"
        )
    if answer:
        model.adopt(loading.load(run_dir))
    return None, bool(answer)


def _open_folder(run_dir: Any, model: Any, settings: Mapping[str, Any]) -> RunFolder:
    config = {
        "recipe": model.recipe or type(model).__name__,
        "arguments": model.arguments,
        "settled": {name: getattr(model, name) for name in model.from_data},
        "seed": model.seed,
        "begins_with": model.begins_with or model.entry,
        **settings,
        **provenance(),
    }
    if run_dir is None:
        return RunFolder(_new_folder(config["recipe"]), config)
    path = Path(run_dir)
    _check_writable(path)
    if (path / "config.json").exists():
        _check_same_run(path, json.loads((path / "config.json").read_text("utf-8")), config)
        _clear_away(path)
        model.adopt(loading.load(path))
        say(f"Continuing {path} after epoch {model.progress.epoch}, step {model.progress.step}")
        # A row written after the checkpoint belongs to an epoch that is done again.
        rows = _read_csv(path / "history.csv")
        done = [row for row in rows if int(row["epoch"]) <= model.progress.epoch]
        return RunFolder(path, config, done)
    ours = {loading.CHECKPOINT, "samples", "tensorboard"}  # of a run killed at its start
    others = [e.name for e in path.iterdir() if e.name not in ours and e.name[0] != "."]
    if others:
        raise ValueError(
            "This folder holds files that are not a run's; choose a new or empty one. "
            f"Received: run_dir={str(path)!r} with {sorted(others)[:5]}"
        )
    _clear_away(path)
    return RunFolder(path, config)


def _clear_away(path: Path) -> None:
    """Removes the temporary files of writes that a kill cut off."""
    for folder in (path, path / "samples"):
        for stale in folder.glob(f".*.{'[0-9a-f]' * 8}.tmp.*"):
            stale.unlink(missing_ok=True)


def _check_writable(path: Path) -> None:
    """Not after the first epoch, when there is something to lose."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        what = "the run folder cannot be written; choose another run_dir"
        raise explained(error, what, path) from error


def _new_folder(name: str) -> Path:
    """The next free runs/<name>/<nnn>; two runs that start at once get two folders."""
    root = Path(os.environ.get("KERAS_GENAI_RUNS", "runs")) / name
    _check_writable(root)
    taken = [int(entry.name) for entry in root.iterdir() if entry.name.isdigit()]
    number = max(taken, default=0) + 1
    while True:
        try:
            (root / f"{number:03d}").mkdir()
            return root / f"{number:03d}"
        except FileExistsError:
            number += 1


def _check_same_run(path: Path, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
    new = json.loads(json.dumps(new))  # tuples become lists, as in the file
    differences = [
        f"  {name}: the run has {theirs!r:.300}, this call {ours!r:.300}"
        for key in new
        if key not in (*MAY_DIFFER, "seed")
        for name, theirs, ours in _differences(key, old.get(key), new[key])
    ]
    if differences:
        raise ValueError(
            "This folder holds another run, which can only be continued with the same recipe, "
            "arguments and data; choose another run_dir or make these agree:\n"
            + "\n".join(differences)
            + f"\nReceived: run_dir={str(path)!r}"
        )


def _differences(key: str, theirs: Any, ours: Any) -> list[tuple[str, Any, Any]]:
    """Where two values differ; of arguments those that do, by their names."""
    if theirs == ours:
        return []
    if not (isinstance(theirs, dict) and isinstance(ours, dict)):
        return [(key, theirs, ours)]
    names = [name for name in {**theirs, **ours} if theirs.get(name) != ours.get(name)]
    return [(name, theirs.get(name), ours.get(name)) for name in names]


def _read_csv(path: Path) -> list[dict[str, Any]]:
    if not path.exists():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [{name: value for name, value in row.items() if value} for row in rows]
