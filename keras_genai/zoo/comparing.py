"""`compare`: several recipes on the same data, each trained from several seeds."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from keras_genai import measuring
from keras_genai._log import say
from keras_genai._text import columns
from keras_genai.zoo import registry


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What `compare` found; `print(comparison)` shows mean and standard deviation over the seeds.

    Attributes:
        tables: By recipe, the table of each seed.
    """

    tables: Mapping[str, Sequence[measuring.Table]]

    def __getitem__(self, recipe: str) -> dict[str, tuple[float, float]]:
        """Mean and standard deviation over the seeds, by metric; one seed has no deviation."""
        tables = self.tables[recipe]
        found = {}
        for i, row in enumerate(tables[0].rows):
            values = [table.rows[i].value for table in tables]
            deviation = float(np.std(values, ddof=1)) if len(values) > 1 else math.nan
            found[row.name] = float(np.mean(values)), deviation
        return found

    def __str__(self) -> str:
        names = [row.name for row in next(iter(self.tables.values()))[0].rows]
        lines = [["recipe", *names]]
        for recipe in self.tables:
            found = self[recipe]
            lines.append([recipe, *(f"{mean:.4g} ± {std:.2g}" for mean, std in found.values())])
        return columns(lines)


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
    """Trains recipes on the same data for the same time, from several seeds, and measures them.

    Which of two recipes is better often depends on the seed: differences below the deviations say
    nothing. Runs go to run folders, as in `fit`.

    Args:
        recipes: Names as in `zoo.list()`, of one modality.
        data: As in `fit`; measured on the test part.
        minutes: Of training for each recipe and seed; the recipe's own budget by default.
        epochs: Instead of `minutes`.
        seeds: How many seeds, from 0 on.
        metrics: As in `keras_genai.measure`; by default all that apply to all of the recipes.
        num_samples: As in `keras_genai.measure`.
        features: As in `keras_genai.measure`.

    Raises:
        ValueError: If the recipes are of several modalities.
    """
    modalities = {registry.info(name).modality for name in recipes}
    if len(modalities) != 1 or seeds < 1:
        raise ValueError(
            "Recipes to compare are of one modality, and trained from at least one seed. "
            f"Received: {', '.join(recipes)}; seeds={seeds}"
        )
    tables: dict[str, list[measuring.Table]] = {name: [] for name in recipes}
    for seed in range(seeds):
        for name in recipes:
            model = registry.get(name, seed=seed)
            model.fit(data, minutes=minutes, epochs=epochs, verbose=0)
            tables[name].append(
                measuring.measure(model, data, metrics, num_samples, features=features)
            )
            say(f"{name}, seed {seed}:\n{tables[name][-1]}")
    shared = set.intersection(*({row.name for row in found[0].rows} for found in tables.values()))
    return Comparison(
        {name: [_only(table, shared) for table in found] for name, found in tables.items()}
    )


def _only(table: measuring.Table, names: set[str]) -> measuring.Table:
    rows = tuple(row for row in table.rows if row.name in names)
    return dataclasses.replace(table, rows=rows)
