"""What all metrics ask of their arguments."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

Array = np.ndarray


def as_features(x: ArrayLike, minimum: int = 1) -> Array:
    """Features as float64 (N, D).

    Raises:
        ValueError: another shape, fewer than `minimum` rows, NaN or Inf.
    """
    x = np.asarray(x)
    if x.ndim != 2:
        raise ValueError(
            "Features must have the shape (N, D), one row an item. Images become features by an "
            f"extractor or by `x.reshape(len(x), -1)`. Received: an array of shape {x.shape}"
        )
    check_count(len(x), minimum)
    x = x.astype(np.float64)
    bad = len(x) - int(np.isfinite(x).all(axis=1).sum())
    if bad:
        raise ValueError(
            "Features must be finite. Look at the items whose features are not, or at the "
            f"extractor. Received: NaN or Inf in {bad} of {len(x)} rows"
        )
    return x


def as_feature_pair(x: ArrayLike, y: ArrayLike, minimum: int = 1) -> tuple[Array, Array]:
    """Two sets of features (N, D) and (M, D), as `as_features`."""
    x, y = as_features(x, minimum), as_features(y, minimum)
    check_same_size(x.shape[1], y.shape[1])
    return x, y


def check_same_size(have: int, want: int) -> None:
    """Two sets of features are of one size."""
    if have != want:
        raise ValueError(
            "Both sets must have features of the same size D: take them from the same extractor. "
            f"Received: D={have} and D={want}"
        )


def check_count(count: int, minimum: int) -> None:
    """A set has at least `minimum` items."""
    if count < minimum:
        raise ValueError(f"At least {minimum} items a set are needed. Received: {count}")


def check_setting(holds: bool, expected: str, **setting: float) -> None:
    """An argument of a metric, `name=value`, is what it must be."""
    if not holds:
        ((name, value),) = setting.items()
        raise ValueError(f"`{name}` must be {expected}. Received: {name}={value!r}")


def as_probabilities(probabilities: ArrayLike) -> Array:
    """Class probabilities as float64 (N, K); each row adds up to 1."""
    p = as_features(probabilities)
    if p.min() < 0 or not np.allclose(p.sum(axis=1), 1.0, atol=1e-3):
        raise ValueError(
            "Probabilities must be at least 0, and each row must add up to 1: apply a softmax to "
            f"logits. Received: values from {p.min():g} to {p.max():g}, rows that add up to "
            f"{p.sum(axis=1).min():g} to {p.sum(axis=1).max():g}"
        )
    return p / p.sum(axis=1, keepdims=True)  # float32 rows are off by rounding


def as_labels(labels: ArrayLike, count: int) -> Array:
    """Labels as whole numbers (N,), one for each of `count` items."""
    labels = np.asarray(labels)
    if labels.shape != (count,) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"Labels must be whole numbers of shape ({count},), one an item. "
            f"Received: {labels.dtype} of shape {labels.shape}"
        )
    return labels
