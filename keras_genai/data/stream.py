"""A user's own `tf.data.Dataset` of batches."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai.data.arrays import check_classes
from keras_genai.data.base import DataError, ImageShape, Source, describe


class StreamSource(Source):
    """Batches in whatever order the data set yields them: replayed, not exact.

    Args:
        dataset: yields batches (B, H, W, C) of images, alone, in (image, label) tuples, or in
            dicts with the key `image` and perhaps `label`.
        value_range: the (low, high) that stand for black and white in floating-point images, if
            not (0, 1).

    Attributes:
        dataset: the batches as dicts {"image": uint8 (B, H, W, C), ...}.
    """

    modality = "image"
    exact = False

    def __init__(
        self, dataset: tf.data.Dataset, value_range: Any = None, *, name: str = "tf.data"
    ) -> None:
        self.name = name
        _check_spec(dataset.element_spec)
        named = dataset.map(_by_name, num_parallel_calls=1)
        self.image_shape = _peek(named, value_range)
        self.dataset = named.map(lambda items: _as_items(items, value_range, self.image_shape))

    @property
    def num_batches(self) -> int | None:
        """Batches in one pass, or None where the data set does not tell or never ends."""
        count = int(self.dataset.cardinality())
        return count if count >= 0 else None

    @property
    def has_labels(self) -> bool:
        """Whether items have the key `label`."""
        return "label" in self.dataset.element_spec

    def map_images(
        self, function: Callable[[tf.Tensor], tf.Tensor], image_shape: ImageShape
    ) -> StreamSource:
        """The same stream with other images."""
        return self._map(lambda items: {**items, "image": function(items["image"])}, image_shape)

    def with_classes(self, num_classes: int) -> StreamSource:
        """The same stream; a batch with a label that is none of the classes raises."""
        check = functools.partial(check_classes, num_classes=num_classes, name=self.name)

        def checked(items: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            label = tf.numpy_function(check, [items["label"]], tf.int32)
            return {**items, "label": tf.ensure_shape(label, items["label"].shape)}

        return self._map(checked, self.image_shape)

    def _map(
        self, function: Callable[[dict[str, tf.Tensor]], dict[str, tf.Tensor]], image_shape: Any
    ) -> StreamSource:
        other = object.__new__(StreamSource)
        other.name, other.image_shape = self.name, image_shape
        other.dataset = self.dataset.map(function, num_parallel_calls=1)
        return other

    def __len__(self) -> int:
        raise DataError(
            "A tf.data.Dataset does not tell how many images it holds. Pass arrays or a folder, or "
            f"`steps_per_epoch`. Received: {self.name}"
        )

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` items (one pass by default), stacked by key."""
        if limit is None and self.dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
            raise DataError(f"The data set never ends: say how many. Received: {self.name}")
        parts, count = [], 0
        for batch in self.dataset.as_numpy_iterator():
            parts.append(batch)
            count += len(batch["image"])
            if limit is not None and count >= limit:
                break
        return {key: np.concatenate([part[key] for part in parts])[:limit] for key in parts[0]}

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """A stream is not split: its length may be unknown and its order may change."""
        if fraction:
            raise DataError(
                "`validation_split` needs arrays, a folder or text. Split the data set with its "
                "`take` and `skip` and pass `validation_data`. "
                f"Received: validation_split={fraction} with a tf.data.Dataset"
            )
        return self, None

    def _fingerprint(self) -> str:
        return hashlib.sha256(repr(self.dataset.element_spec).encode()).hexdigest()[:12]


def _by_name(*elements: Any) -> dict[str, tf.Tensor]:
    if isinstance(elements[0], dict):
        return {key: elements[0][key] for key in ("image", "label") if key in elements[0]}
    return dict(zip(("image", "label"), elements, strict=False))


def _check_spec(spec: Any) -> None:
    if isinstance(spec, dict) and "image" not in spec:
        # Most likely meant: the one that has the rank of images.
        key = next((k for k, v in spec.items() if getattr(v.shape, "rank", 0) == 4), "...")
        raise DataError(
            "Batches that are dicts must have the key 'image' (and may have 'label'): rename with "
            f"`dataset.map(lambda item: {{'image': item[{key!r}]}})`. "
            f"Received: keys {sorted(spec)}"
        )
    image = spec["image"] if isinstance(spec, dict) else spec
    image, label = image if isinstance(image, tuple) and len(image) == 2 else (image, None)
    label = spec.get("label") if isinstance(spec, dict) else label
    if label is not None and not _is_label(label):
        raise DataError(
            "Labels in a tf.data.Dataset must be batches of class numbers, integers (B,). Write "
            "`dataset.map(lambda x, y: x)` to leave out what is no label. "
            f"Received: {describe(label)}"
        )
    if not isinstance(image, tf.TensorSpec):
        raise DataError(
            "Batches must be tensors, (image, label) tuples, or dicts with the key 'image'. "
            f"Received: {describe(spec)}"
        )
    if image.shape.rank not in (None, 4):
        grey = "`.map(lambda image: image[..., None])`"
        hints = {
            2: f"For single grey images write {grey} and `.batch(64)`. ",
            3: f"For single images write `.batch(64)`, for batches of grey ones {grey}. ",
        }
        raise DataError(
            "A tf.data.Dataset must yield batches of images (B, H, W, C). "
            f"{hints.get(image.shape.rank, '')}"
            f"Received: elements of shape {image.shape}"
        )


def _is_label(spec: Any) -> bool:
    return (
        isinstance(spec, tf.TensorSpec) and spec.dtype.is_integer and spec.shape.rank in (None, 1)
    )


def _peek(dataset: tf.data.Dataset, value_range: Any) -> ImageShape:
    """Checks the first batch as arrays are checked, and returns its image shape."""
    from keras_genai.data.images import validate_images

    first = next(iter(dataset.take(1).as_numpy_iterator()), None)
    if first is None:
        raise DataError("The data set is empty. Received: a tf.data.Dataset without a batch")
    height, width, channels = validate_images(first["image"], value_range).shape[1:]
    return height, width, channels


def _as_items(
    items: dict[str, tf.Tensor], value_range: Any, image_shape: ImageShape
) -> dict[str, tf.Tensor]:
    """Checks and converts every batch as arrays are checked and converted."""
    from keras_genai.data.images import convert_images

    image = items["image"]
    if image.dtype != tf.uint8 or value_range is not None:
        convert = functools.partial(convert_images, value_range=value_range)
        image = tf.numpy_function(convert, [image], tf.uint8)
    items = {**items, "image": tf.ensure_shape(image, (None, *image_shape))}
    if "label" in items:
        items["label"] = tf.cast(items["label"], tf.int32)
    return items
