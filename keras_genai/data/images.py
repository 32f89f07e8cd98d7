"""Images at the edges and inside models: checks, conversions, sizes.

At the edges images are uint8 (N, H, W, C) in 0..255, inside models float32 in [-1, 1]. `to_model`
and `to_uint8` are the only places that convert between the two.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai._log import say, warn
from keras_genai.data.arrays import as_array, check_classes
from keras_genai.data.base import DataError, ImageShape, Source, describe
from keras_genai.data.folder import FolderSource
from keras_genai.data.stream import StreamSource

CHANNELS = (1, 3, 4)
CHUNK = 4096  # images converted at a time, so that floats need no second copy of the whole set


def to_model(x: tf.Tensor) -> tf.Tensor:
    """uint8 in 0..255 to float32 in [-1, 1]."""
    return tf.cast(x, tf.float32) / 127.5 - 1.0


def to_uint8(x: tf.Tensor) -> tf.Tensor:
    """[-1, 1] to uint8 in 0..255, rounded; what lies outside is clipped."""
    x = tf.round((tf.cast(x, tf.float32) + 1.0) * 127.5)
    return tf.cast(tf.clip_by_value(x, 0.0, 255.0), tf.uint8)


def validate_images(x: Any, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """Images as uint8 (N, H, W, C); refuses what could only be guessed at.

    Args:
        x: (N, H, W, C) or, grey, (N, H, W): uint8 or other integers in 0..255, booleans, or floats
            in [0, 1].
        value_range: the (low, high) that stand for black and white, if not those.

    Raises:
        DataError: another shape or range, NaN, Inf, or no images at all.
    """
    images = convert_images(x, value_range)
    _warn_of_content(images)
    return images


def convert_images(x: Any, value_range: tuple[float, float] | None = None) -> np.ndarray:
    """As `validate_images`, without a word about what the images show: for single batches."""
    x = _with_channels(as_array(x))
    if value_range is None and x.dtype == np.uint8:
        return x
    low, high = _value_range(x, value_range)
    return _to_bytes(x, low, high)


def _with_channels(x: np.ndarray) -> np.ndarray:
    """Checks the shape; (N, H, W) becomes (N, H, W, 1)."""
    expected = "Images must have the shape (N, H, W, C), or (N, H, W) for grey ones. "
    if x.size == 0:
        raise DataError(f"There are no images. {expected}Received: {describe(x)}")
    if x.ndim == 3 and x.shape[-1] in CHANNELS:
        raise DataError(
            f"{expected}For one image write `x[None]`, for a batch of grey images "
            f"`x[..., None]`. Received: {describe(x)}"
        )
    if x.ndim == 3:
        return x[..., None]
    if x.ndim != 4:
        hint = "Flat images need `x.reshape(-1, height, width, channels)`. " if x.ndim == 2 else ""
        raise DataError(f"{expected}{hint}Received: {describe(x)}")
    if x.shape[-1] not in CHANNELS and x.shape[1] in CHANNELS:
        raise DataError(
            f"{expected}These have their channels first: write "
            f"`x = np.transpose(x, (0, 2, 3, 1))`. Received: {describe(x)}"
        )
    if x.shape[-1] not in CHANNELS:
        raise DataError(
            f"{expected}C is 1 (grey), 3 (colour) or 4 (with alpha). Received: {describe(x)}"
        )
    return x


def _value_range(x: np.ndarray, value_range: tuple[float, float] | None) -> tuple[float, float]:
    """The values of black and white, once all of `x` was found to lie between them."""
    if x.dtype.kind == "f":
        _check_finite(x)
    low, high = check_range(value_range) if value_range is not None else _default_range(x)
    least, most = float(x.min()), float(x.max())
    if low <= least and most <= high:
        return low, high
    guess = "(-1, 1)" if -1 <= least and most <= 1 else "(0, 255)" if least >= 0 else "(low, high)"
    raise DataError(
        f"Images of dtype {x.dtype} must have their values in [{low:g}, {high:g}]. If they use "
        f"another range, say which, for example `value_range={guess}`. "
        f"Received: values from {least:g} to {most:g}"
    )


def _default_range(x: np.ndarray) -> tuple[float, float]:
    return (0.0, 255.0) if x.dtype.kind in "iu" else (0.0, 1.0)


def check_range(value_range: Any) -> tuple[float, float]:
    """`value_range` as two numbers, the first below the second."""
    try:
        low, high = (float(v) for v in value_range)
    except (TypeError, ValueError):
        low = high = 0.0
    if not low < high:
        raise DataError(
            "`value_range` must be two numbers (low, high), the values of black and white. "
            f"Received: value_range={value_range!r}"
        )
    return low, high


def _check_finite(x: np.ndarray) -> None:
    bad = [
        start + np.flatnonzero(~np.isfinite(x[start : start + CHUNK]).all(axis=(1, 2, 3)))
        for start in range(0, len(x), CHUNK)
    ]
    bad_rows = np.concatenate(bad)
    if len(bad_rows):
        raise DataError(
            "Images must be finite. Leave the others out with "
            "`x = x[np.isfinite(x.reshape(len(x), -1)).all(axis=1)]`. Received: NaN or Inf in "
            f"{len(bad_rows)} of {len(x)} images, the first at index {bad_rows[0]}"
        )


def _to_bytes(x: np.ndarray, low: float, high: float) -> np.ndarray:
    images = np.empty(x.shape, np.uint8)
    for start in range(0, len(x), CHUNK):
        part = x[start : start + CHUNK].astype("float32")
        images[start : start + CHUNK] = np.rint((part - low) * (255.0 / (high - low)))
    return images


def _warn_of_content(images: np.ndarray) -> None:
    least, most = int(images.min()), int(images.max())
    if least == most:
        warn(f"all images are equal to the constant {least}: there is nothing to learn.")
    elif most == 1:
        warn("the images hold only 0 and 1 of 0..255; if 1 is white, say value_range=(0, 1).")


def check_image_shape(image_shape: Any) -> ImageShape:
    """`image_shape` as three positive whole numbers."""
    shape = tuple(image_shape) if isinstance(image_shape, (tuple, list)) else ()
    whole = all(isinstance(n, (int, np.integer)) and n > 0 for n in shape)
    if len(shape) != 3 or not whole or shape[2] not in CHANNELS:
        raise DataError(
            "`image_shape` must be (height, width, channels) with 1, 3 or 4 channels, for example "
            f"(64, 64, 3). Received: image_shape={image_shape!r}"
        )
    return int(shape[0]), int(shape[1]), int(shape[2])


class AdaptedSource(Source):
    """Another source, its images brought to another shape on access."""

    image_shape: ImageShape

    def __init__(self, source: Source, image_shape: ImageShape) -> None:
        self.source, self.image_shape = source, image_shape
        self.name, self.modality, self.exact = source.name, source.modality, source.exact
        self.class_names, self.labels = source.class_names, source.labels

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None for data without labels."""
        return self.source.num_classes

    def _fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return len(self.source)

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items of these numbers, stacked: int64 (B,) to a dict of (B, ...)."""
        items = self.source.gather(indices)
        return {**items, "image": reshape_images(items["image"], self.image_shape)}

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` items (all of them by default), stacked by key."""
        arrays = self.source.arrays(limit)
        images = np.empty((len(arrays["image"]), *self.image_shape), np.uint8)
        for start in range(0, len(images), CHUNK):
            part = arrays["image"][start : start + CHUNK]
            images[start : start + CHUNK] = reshape_images(part, self.image_shape).numpy()
        return {**arrays, "image": images}

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off the last `fraction` as validation data."""
        train, validation = self.source.split(fraction, seed)
        if validation is None:
            return self, None
        return AdaptedSource(train, self.image_shape), AdaptedSource(validation, self.image_shape)


def reshape_images(x: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
    """uint8 (B, H, W, C) to another (H, W, C): alpha over white, grey to colour, anti-aliased."""
    x = tf.convert_to_tensor(x)
    if x.shape[-1] == 4 != image_shape[2]:
        x = _over_white(x)
    if x.shape[-1] == 1 and image_shape[2] == 3:
        x = tf.repeat(x, 3, axis=-1)
    if tuple(x.shape[1:3]) == image_shape[:2]:
        return x
    x = tf.image.resize(x, image_shape[:2], method="bilinear", antialias=True)
    return tf.cast(tf.clip_by_value(tf.round(x), 0.0, 255.0), tf.uint8)


def _over_white(x: tf.Tensor) -> tf.Tensor:
    x = tf.cast(x, tf.float32)
    alpha = x[..., 3:] / 255.0
    return tf.cast(tf.round(x[..., :3] * alpha + 255.0 * (1.0 - alpha)), tf.uint8)


def adapt(source: Source, image_shape: ImageShape) -> Source:
    """The source with images of `image_shape`; itself if they have it already.

    Raises:
        DataError: the images have colours and the shape has none, or there are no images.
    """
    have, adapted = source.image_shape, reshape(source, image_shape)
    if isinstance(source, FolderSource) and adapted is not source:
        say(f"{source.name}: images are read as {_form(check_image_shape(image_shape))}.")
    elif have is not None and adapted is not source:
        say(f"{source.name}: images {_changes(have, check_image_shape(image_shape))}.")
    return adapted


def reshape(source: Source, image_shape: ImageShape) -> Source:
    """As `adapt`, without a word: for the other parts of data already spoken of."""
    image_shape = check_image_shape(image_shape)
    if source.image_shape is None:
        raise DataError(
            f"{source.name!r} has no images. Use image data. Received: {source.modality} data"
        )
    if source.image_shape == image_shape:
        return source
    if isinstance(source, FolderSource):
        return source.with_image_shape(image_shape)
    _check_channels(source, image_shape)
    if isinstance(source, StreamSource):
        return source.map_images(lambda x: reshape_images(x, image_shape), image_shape)
    return AdaptedSource(source, image_shape)


def with_classes(source: Source, num_classes: int) -> Source:
    """The source, whose labels are all among `num_classes` classes.

    Raises:
        DataError: they are not. A stream raises when it comes to such a label.
    """
    if isinstance(source, StreamSource):
        return source.with_classes(num_classes)
    if source.labels is not None:
        check_classes(source.labels, num_classes, source.name)
    return source


def _check_channels(source: Source, image_shape: ImageShape) -> None:
    have, want = source.image_shape, image_shape
    if have is None or have[2] == want[2] or (have[2] in (1, 4) and want[2] == 3):
        return
    fix = f"`image_shape=({want[0]}, {want[1]}, {have[2]})` for the model"
    if want[2] == 1:
        fix += ", or grey data with `x = tf.image.rgb_to_grayscale(x[..., :3]).numpy()`"
    raise DataError(
        f"{source.name!r} has images with {have[2]} channels, and they cannot be made into "
        f"{want[2]} without a choice of yours. Use {fix}. Received: images of shape {have} for "
        f"image_shape={want}"
    )


def _form(shape: ImageShape) -> str:
    return f"{shape[0]}x{shape[1]} {'grey' if shape[2] == 1 else 'colour'}"


def _changes(have: ImageShape, want: ImageShape) -> str:
    changes = []
    if have[:2] != want[:2]:
        changes.append(f"resized from {have[0]}x{have[1]} to {want[0]}x{want[1]}")
    if have[2] == 1 and want[2] == 3:
        changes.append("grey to colour")
    if have[2] == 4 and want[2] == 3:
        changes.append("laid over white")
    return ", ".join(changes)
