"""`compare`: several recipes on the same data, each trained from several seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from keras_genai import measuring
from keras_genai._files import write_text
from keras_genai._log import say
from keras_genai._text import columns, with_spread
from keras_genai.zoo import publishing, registry


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found; `print(comparison)` shows mean and standard deviation over the seeds.

    Attributes:
        tables: By recipe, the table of each seed. What is measured alike in all is shown.
        minutes: By recipe, how long the training of each seed took.
    """

    tables: Mapping[str, Sequence[measuring.Table]]
    minutes: Mapping[str, Sequence[float]]

    def __getitem__(self, recipe: str) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the seeds, by metric; one seed has no deviation."""
        shown = [row.name for row in self._shown]
        return {name: _mean([table[name] for table in self.tables[recipe]]) for name in shown}

    @property
    def _shown(self) -> list[measuring.Row]:
        """The rows of the first table that all have."""
        first, *others = [table for tables in self.tables.values() for table in tables]
        names = [{row.name for row in table.rows} for table in others]
        return [row for row in first.rows if all(row.name in have for have in names)]

    def __str__(self) -> str:
        lines = [["metric", *self.tables, "N", "features", "resize", "split"]]
        found = {recipe: self[recipe] for recipe in self.tables}
        for row in self._shown:
            cells = [_cell(*found[recipe][row.name]) for recipe in self.tables]
            lines.append(
                [row.name, *cells, f"{row.samples:,}", row.features, row.resize, row.split]
            )
        times = [_cell(*_mean(minutes)) for minutes in self.minutes.values()]
        lines.append(["minutes", *times, "", "", "", ""])
        return columns(lines)


def _mean(values: Sequence[float]) -> tuple[float, float]:
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
    return float(np.mean(values)), deviation


def _cell(mean: float, deviation: float) -> str:
    return with_spread(mean, None if math.isnan(deviation) else deviation)


def compare(
    recipes: Sequence[str],
    data: Any,
    *,
    minutes: float | None = None,
    epochs: int | None = None,
    seeds: int = 3,
    metrics: Sequence[str] | None = None,
    num_samples: int | None = None,
    features: Any = None,
) -> Comparison:
    """Trains recipes on the same data, from several seeds, and measures them alike.

    Which of two recipes is better often depends on the seed: differences below the deviations say
    nothing. Runs go to run folders, as in `fit`, and each holds its `metrics.json` as soon as it
    is measured.

    Args:
        recipes: Names as in `zoo.list()`, of one modality; those of the task "transform" apart.
        data: As in `fit`; measured on the part that `keras_genai.measure` takes of them.
        minutes: Of training for each recipe and seed; by default the largest budget of the
            recipes, the same for all.
        epochs: Instead of `minutes`: as many for all, whatever time they take.
        seeds: How many seeds, from 0 on.
        metrics: As in `keras_genai.measure`; by default all that apply to all of the recipes.
        num_samples: As in `keras_genai.measure`.
        features: As in `keras_genai.measure`.

    Raises:
        ValueError: If the recipes are of several kinds, or a metric is measured on other
            features, another part or another number of samples than before.
    """
    known = [registry.info(name) for name in recipes]
    kinds = {(recipe.modality, recipe.task == "transform") for recipe in known}
    if len(kinds) != 1 or seeds < 1:
        raise ValueError(
            "Recipes to compare are of one modality, all of the task 'transform' or none, and "
            "trained from at least one seed. "
            f"Received: {', '.join(recipes)}; seeds={seeds}"
        )
    if minutes is None and epochs is None:
        minutes = max(registry.info(name).minutes for name in recipes)
    tables: dict[str, list[measuring.Table]] = {name: [] for name in recipes}
    times: dict[str, list[float]] = {name: [] for name in recipes}
    for seed in range(seeds):
        for name in recipes:
            model = registry.get(name, seed=seed)
            model.fit(data, minutes=minutes, epochs=epochs, verbose=0)
            table = measuring.measure(model, data, metrics, num_samples, features=features)
            path = Path(model.run_dir, publishing.METRICS)
            write_text(path, table.to_json())
            tables[name].append(table)
            times[name].append(model.progress.milliseconds / 60_000)
            _check_alike(tables[recipes[0]][0], table, path)
            say(f"{name}, seed {seed}:\n{table}")
    return Comparison(tables, times)


def _check_alike(first: measuring.Table, table: measuring.Table, path: Path) -> None:
    """Raises ValueError where a metric of both tables was measured in another way."""
    before = {row.name: publishing.identity(dataclasses.asdict(row)) for row in first.rows}
    for row in table.rows:
        identity = publishing.identity(dataclasses.asdict(row))
        if before.get(row.name, identity) != identity:
            raise ValueError(
                "Numbers are compared only if features, resizing, part and sample count are the "
                "same: say with metrics= which to take, with features= and num_samples= how. Runs "
                f"measured so far keep their metrics.json. Received: {row.name} with "
                f"{identity[1:]} in {str(path)!r}, and with {before[row.name][1:]} at first"
            )
