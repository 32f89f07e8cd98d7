"""Arrays, `.npz` and `.npy` files."""

from __future__ import annotations

import hashlib
import mmap
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai.data.base import DataError, Dataset, Source, cut_point, describe

# Larger files are mapped, not read into memory, which others need on a small laptop.
IN_MEMORY_LIMIT = 1 << 26
FINGERPRINT_ROWS = 1000


class ArraySource(Source):
    """Items held in arrays of equal length.

    Args:
        arrays: key to array; all have the same first dimension. They are not copied. A
            `numpy.memmap` is read from its file, item by item.
        name: what messages call the data.
        modality: "image".
        class_names: one name a label.
        factors: the keys of arrays that say together how an image was made.
    """

    def __init__(
        self,
        arrays: dict[str, np.ndarray],
        *,
        name: str,
        modality: str = "image",
        class_names: list[str] | None = None,
        factors: tuple[str, ...] = (),
    ) -> None:
        self.name, self.modality, self.class_names = name, modality, class_names
        self.factors = factors
        self._arrays, self.labels = dict(arrays), arrays.get("label")
        self.image_shape = tuple(arrays["image"].shape[1:]) if "image" in arrays else None

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    @property
    def num_classes(self) -> int | None:
        """The number of classes, or None for data without labels."""
        if self.class_names is not None or self.labels is None:
            return super().num_classes
        return int(self.labels.max()) + 1

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items of these numbers, stacked: int64 (B,) to a dict of (B, ...)."""
        return {key: self._gather(key, indices) for key in self._arrays}

    def _gather(self, key: str, indices: tf.Tensor) -> tf.Tensor:
        array = self._arrays[key]
        # NumPy reads where the data are. A tensor of them would be a second copy of the data set.
        rows = tf.numpy_function(lambda i: _rows(array, i), [indices], array.dtype)
        return tf.ensure_shape(rows, indices.shape.concatenate(array.shape[1:]))

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` items (all of them by default), stacked by key."""
        return {key: array[:limit] for key, array in self._arrays.items()}

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off the last `fraction` as validation data."""
        kept = cut_point(len(self), fraction, self.name)
        if kept == len(self):
            return self, None
        return self._slice(0, kept), self._slice(kept, len(self))

    def _slice(self, start: int, stop: int) -> ArraySource:
        arrays = {key: array[start:stop] for key, array in self._arrays.items()}
        names = self.class_names
        if names is None and self.num_classes is not None:
            names = [str(i) for i in range(self.num_classes)]  # a part may lack the last class
        return ArraySource(
            arrays,
            name=self.name,
            modality=self.modality,
            class_names=names,
            factors=self.factors,
        )

    def _fingerprint(self) -> str:
        """Of all bytes; of 1,000 evenly spaced items where a file is mapped."""
        digest = hashlib.sha256()
        for key, array in sorted(self._arrays.items()):
            digest.update(f"{key} {array.shape} {array.dtype}".encode())
            if isinstance(array, np.memmap):
                array = array[:: max(1, len(array) // FINGERPRINT_ROWS)]
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()[:12]


def _rows(array: Any, numbers: np.ndarray) -> np.ndarray:
    """A copy of some rows; the pages of a file mapped for reading are given back afterwards."""
    rows = np.asarray(array[numbers])
    # Of another mapping the call would throw away what the user wrote. Windows does not have it.
    if getattr(array, "mode", None) == "r" and hasattr(mmap.mmap, "madvise"):  # a numpy.memmap
        array._mmap.madvise(mmap.MADV_DONTNEED)
    return rows


def validate_labels(labels: Any, count: int) -> np.ndarray:
    """Class numbers as int32 (N,).

    Raises:
        DataError: they are not whole numbers from 0 on, one an image.
    """
    y = np.asarray(labels)
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        raise DataError(
            "Labels must be one class number an image, shape (N,). For one-hot rows write "
            f"`y = np.argmax(y, axis=-1)`. Received: labels of shape {y.shape}"
        )
    if len(y) != count:
        raise DataError(
            f"There must be one label an image. Received: {count} images and {len(y)} labels"
        )
    if y.dtype.kind not in "iu":
        raise DataError(
            "Labels must be integers (class numbers from 0 on). Write `y = y.astype('int32')` if "
            f"they are whole numbers. Received: labels of dtype {y.dtype}"
        )
    if y.min() < 0:
        raise DataError(
            "Labels must be class numbers from 0 on. "
            f"Received: label {y.min()} at index {int(y.argmin())}"
        )
    return y.astype("int32")


def check_classes(labels: np.ndarray, num_classes: int, name: str) -> np.ndarray:
    """The labels (N,) themselves.

    Raises:
        DataError: one of them is none of the model's classes.
    """
    unknown = (labels < 0) | (labels >= num_classes)
    if unknown.any():
        index = int(unknown.argmax())
        raise DataError(
            f"The model has {num_classes} classes, number 0 to {num_classes - 1}: leave out images "
            "of others, or make it with a larger num_classes=. "
            f"Received: label {labels[index]} at index {index} of {name!r}"
        )
    return labels


def from_arrays(x: Any, y: Any, value_range: Any, name: str) -> ArraySource:
    """Images (N, H, W[, C]) and, if given, labels (N,)."""
    from keras_genai.data.images import validate_images

    images = validate_images(x, value_range)
    arrays = {"image": images}
    if y is not None:
        arrays["label"] = validate_labels(y, len(images))
    return ArraySource(arrays, name=name)


def from_file(path: Path, y: Any, value_range: Any) -> Dataset:
    """The images of a `.npz` or `.npy` file."""
    stem = path.stem
    if path.suffix == ".npy":
        mapped = "r" if path.stat().st_size > IN_MEMORY_LIMIT else None
        x = _read(path, mmap_mode=mapped)
        return Dataset(stem, from_arrays(x, y, value_range, stem))
    with _read(path) as archive:
        files = _npz_parts(path, archive)
        x_train, y_train = (archive[key] if key else None for key in files["train"])
        y_train = y_train if y is None else y
        train = from_arrays(x_train, y_train, value_range, stem)
        if "test" not in files:
            return Dataset(stem, train)
        x_test, y_test = (archive[key] if key else None for key in files["test"])
        return Dataset(stem, train, test=from_arrays(x_test, y_test, value_range, stem))


def _read(path: Path, mmap_mode: Any = None) -> Any:
    try:
        return np.load(path, mmap_mode=mmap_mode, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as NumPy data (no pickled objects): {error}. Write it anew "
            f"with `np.savez`, as numbers. Received: {path}"
        ) from error


def _npz_parts(path: Path, archive: Any) -> dict[str, tuple[str, str | None]]:
    keys = set(archive.files)
    pairs = [("x_train", "y_train"), ("x", "y"), ("images", "labels")]
    found = [(x, y if y in keys else None) for x, y in pairs if x in keys]
    if not found and len(keys) == 1:
        found = [(keys.pop(), None)]
    if not found:
        raise DataError(
            f"{path} must hold x_train (and y_train, x_test, y_test), or x (and y), or images "
            f"(and labels), or one array. Received: keys {sorted(archive.files)}"
        )
    parts = {"train": found[0]}
    if "x_test" in keys:
        parts["test"] = ("x_test", "y_test" if "y_test" in keys else None)
    return parts


def as_array(value: Any) -> np.ndarray:
    """Anything array-like as an array of numbers."""
    try:
        array = value if isinstance(value, np.ndarray) else np.asarray(value)
    except (ValueError, TypeError) as error:
        raise DataError(
            "Data must be a name, a path, an array, a list of texts or a tf.data.Dataset. Images "
            "of several sizes belong in a folder; labels are passed as `y=`. "
            f"Received: {describe(value)}"
        ) from error
    if array.dtype.kind not in "buif":
        raise DataError(
            "Data must be a name, a path, an array of numbers, a list of texts or a "
            f"tf.data.Dataset. Received: {describe(value)}"
        )
    return array
