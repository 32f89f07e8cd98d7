"""What every kind of data has in common: a `Source` of items, a `Dataset` of three sources."""

from __future__ import annotations

import dataclasses
import functools
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

ImageShape = tuple[int, int, int]


class DataError(ValueError):
    """Data that cannot be used; the message says what came, what was expected and the way out."""


class Source:
    """Items in a fixed order, read by their number.

    An item is a dict with fixed keys: `image` uint8 (H, W, C), `label` int32 (), `text` str,
    `user_items` uint8 (I,), and for some sets the factors that made it.

    Attributes:
        name: what messages call the data.
        modality: "image", "text" or "ratings".
        exact: whether the order of training is a function of (seed, step).
        image_shape: (H, W, C) of the images, or None.
        class_names: one name a label, or None.
        labels: the labels of all items, int32 (N,), or None where there are none or only reading
            the items would tell.
        factors: the keys of items that say together how an image was made; none of other data.
        cuts: in how many ways the data can be cut into items. Item i + k N, of N items, is item i
            of cut k. Each epoch of training takes another cut, evaluation takes cut 0.
    """

    name: str
    modality: str
    exact: bool = True
    image_shape: ImageShape | None = None
    class_names: list[str] | None = None
    labels: np.ndarray | None = None
    factors: tuple[str, ...] = ()
    cuts: int = 1

    @property
    def has_labels(self) -> bool:
        """Whether items have the key `label`."""
        return self.labels is not None

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None for data without labels."""
        return None if self.class_names is None else len(self.class_names)

    @functools.cached_property
    def fingerprint(self) -> str:
        """Twelve hex digits of a sha256 of the content: a run continues only on equal data."""
        return self._fingerprint()

    def _fingerprint(self) -> str:
        raise NotImplementedError

    def __len__(self) -> int:
        raise NotImplementedError

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items of these numbers, stacked: int64 (B,) to a dict of (B, ...). Graph code."""
        raise NotImplementedError

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` items (all of them by default) in memory, stacked by key."""
        raise NotImplementedError

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off the last `fraction` as validation data; `seed` is for orders that need one."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Named data in up to three parts."""

    name: str
    train: Source
    validation: Source | None = None
    test: Source | None = None


def cut_point(count: int, fraction: float, name: str) -> int:
    """How many of `count` items stay for training when the last `fraction` validates."""
    if not 0.0 <= fraction < 1.0:
        raise DataError(
            "`validation_split` is the share of the data to validate on, at least 0 and below 1. "
            f"Received: validation_split={fraction}"
        )
    kept = count - round(count * fraction)
    if fraction and (kept < 1 or kept == count):
        raise DataError(
            f"{name!r} is too small to be split: both parts need at least one item. "
            f"Received: {count} items, validation_split={fraction}"
        )
    return kept


def describe(value: Any) -> str:
    """A short form of any value, for error messages."""
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}, dtype {value.dtype}"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
