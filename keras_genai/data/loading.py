"""`load`: a name, a path or data in memory to a `Dataset`."""

from __future__ import annotations

import dataclasses
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tensorflow as tf

from keras_genai._text import did_you_mean
from keras_genai.data import arrays, folder, ratings, synthetic, tables, text, tfds_source
from keras_genai.data.base import DataError, Dataset, ImageShape, Source, describe
from keras_genai.data.images import adapt, reshape
from keras_genai.data.stream import StreamSource

# What TensorFlow Datasets calls a data set: name, name/config, name:version.
TFDS_NAME = re.compile(r"[a-z][a-z0-9_]*(/[\w.\-]+)?(:\d+\.\d+\.\d+)?")
KNOWN = ("mnist", "fashion_mnist", "cifar10", "celeb_a", "tiny_shakespeare")


def names() -> list[str]:
    """The data sets that need no network."""
    return list(synthetic.NAMES)


def fetch(name: str) -> str:
    """Downloads and prepares a data set of TensorFlow Datasets; returns the folder it is in.

    Args:
        name: for example "mnist".

    Raises:
        DataError: there is none of this name, or it cannot be downloaded.
    """
    builder = tfds_source.find(name) if TFDS_NAME.fullmatch(name) else None
    if builder is None:
        raise _unknown(name)
    return tfds_source.prepare(builder)


def load(
    source: Any,
    y: Any = None,
    *,
    modality: str | None = None,
    image_shape: ImageShape | None = None,
    value_range: tuple[float, float] | None = None,
    validation_split: float = 0.0,
    seed: int = 0,
    on_bad: str = "raise",
) -> Dataset:
    """Data of any kind as train, validation and test parts.

    Args:
        source: the name of an embedded set (see `names()`) or of one of TensorFlow Datasets; the
            path of a folder of images, of a `.npz`, `.npy`, `.txt`, `.py`, `.tsv`, `.jsonl` or
            `.csv` file (ratings or, with `modality="text"`, texts) or of a folder of `.txt` and
            `.py` files; images (N, H, W[, C]); a list of texts; ratings as a dict of columns, a
            sparse matrix or, with `modality="ratings"`, an array (U, I); or a `tf.data.Dataset` of
            batches of images or of strings, each a text. A string is a name or a path, never
            content.
        y: integer labels (N,) for images given as an array.
        modality: "image", "text" or "ratings", if only that can be used.
        image_shape: (H, W, C) to draw, read or resize images to.
        value_range: (low, high) of floating-point images, if not (0, 1).
        validation_split: the share of the user's own data to hold back: the last part of arrays
            and text, a random part of folders. Named sets have their parts; ratings are divided
            over users in any case, as `load_ratings` says.
        seed: chooses the random part.
        on_bad: what to do about images of a folder that cannot be read: "raise" names them when
            they are met, "skip" decodes all of them once beforehand and leaves those out.

    Returns:
        The data set; `validation` and `test` are None where there is no such part.

    Raises:
        DataError: the data cannot be used; the message says why and what to do.
    """
    if y is not None and not _takes_labels(source, modality):
        raise DataError(
            "Labels are passed as `y` with arrays only; other data bring their own. "
            f"Received: y={describe(y)} with {describe(source)}"
        )
    if on_bad not in ("raise", "skip"):
        raise DataError(f"`on_bad` must be 'raise' or 'skip'. Received: on_bad={on_bad!r}")
    if _is_table(source, modality):
        dataset = ratings.load_ratings(source)
    else:
        dataset = _open(source, y, modality, image_shape, value_range, on_bad)
    _check_modality(dataset, modality, source)
    if validation_split and dataset.validation is None:
        train, validation = dataset.train.split(validation_split, seed)
        dataset = dataclasses.replace(dataset, train=train, validation=validation)
    return _in_shape(dataset, image_shape)


def _open(
    source: Any, y: Any, modality: Any, image_shape: Any, value_range: Any, on_bad: str
) -> Dataset:
    if isinstance(source, (str, os.PathLike)):
        return _open_named(source, y, modality, image_shape, value_range, on_bad)
    if isinstance(source, Dataset):
        return source
    if isinstance(source, Source):
        return Dataset(source.name, source)
    if isinstance(source, tf.data.Dataset):
        if text.is_stream(source):
            return text.load_stream(source)
        return Dataset("tf.data", StreamSource(source, value_range))
    if isinstance(source, (list, tuple)) and any(isinstance(item, str) for item in source):
        return _open_texts(source)
    if modality == "text":
        raise DataError(
            "Text is a name or a path, a list of strings, at least one, or a tf.data.Dataset of "
            f"strings. Received: {describe(source)}"
        )
    if hasattr(source, "__next__"):
        raise DataError(
            "A generator can be read only once. Use an array, a list, or "
            f"`tf.data.Dataset.from_generator`. Received: {describe(source)}"
        )
    return Dataset("array", arrays.from_arrays(source, y, value_range, "array"))


def _is_table(source: Any, modality: str | None) -> bool:
    """Whether these are ratings in memory."""
    if ratings.is_table(source) or hasattr(source, "tocoo"):
        return True
    others = (str, os.PathLike, Dataset, Source, tf.data.Dataset)
    return modality == "ratings" and not isinstance(source, others)


def _takes_labels(source: Any, modality: str | None) -> bool:
    if _is_table(source, modality):
        return False
    if isinstance(source, (str, os.PathLike)):
        return Path(source).suffix.lower() in (".npz", ".npy")
    if isinstance(source, (list, tuple)) and any(isinstance(item, str) for item in source):
        return False
    return not isinstance(source, (Dataset, Source, tf.data.Dataset))


def _open_texts(source: Any) -> Dataset:
    for i, item in enumerate(source):
        if not isinstance(item, str):
            raise DataError(
                "A list of texts must hold strings only. "
                f"Received: {type(item).__name__} at index {i}"
            )
    return text.load_list(source)


def path_of(source: Any) -> str | None:
    """The absolute path that `load` would read, or None: of a name, an array and so on."""
    if not isinstance(source, (str, os.PathLike)):
        return None
    if isinstance(source, str) and source in synthetic.NAMES:
        return None
    path = Path(source).expanduser()
    return str(path.absolute()) if _exists(path) else None


def _open_named(
    source: str | os.PathLike,
    y: Any,
    modality: Any,
    image_shape: Any,
    value_range: Any,
    on_bad: str,
) -> Dataset:
    name = os.fspath(source)
    if isinstance(source, str) and name in synthetic.NAMES:
        return synthetic.load(name, image_shape)
    if path_of(source) is not None:
        return _open_path(Path(name).expanduser(), y, modality, value_range, on_bad)
    if isinstance(source, str) and TFDS_NAME.fullmatch(name):
        builder = tfds_source.find(name)
        if builder is not None:
            return tfds_source.load_builder(builder, image_shape)
    raise _unknown(name)


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # too long, or with a null byte: a text, not a path
        return False


def _open_path(path: Path, y: Any, modality: Any, value_range: Any, on_bad: str) -> Dataset:
    of_text = modality == "text"
    readers: dict[str, Callable[[], Dataset]] = {
        ".npz": lambda: arrays.from_file(path, y, value_range),
        ".npy": lambda: arrays.from_file(path, y, value_range),
        ".txt": lambda: text.load_file(path),
        ".py": lambda: text.load_file(path),
        ".csv": lambda: (tables.load_texts if of_text else ratings.load_ratings)(path),
        ".tsv": lambda: tables.load_texts(path),
        ".jsonl": lambda: tables.load_texts(path),
    }
    if path.is_dir():
        if modality is None and text.text_files(path):
            of_text = not folder.list_images(str(path)).files
        if of_text:
            return text.load_folder(path)
        return folder.load_folder(path, on_bad)
    if path.suffix.lower() not in readers:
        hint = "Name the folder of an image, not its file. " if _is_image(path) else ""
        raise DataError(
            f"Files can be {', '.join(readers)}; images go into a folder. {hint}Received: {path}"
        )
    return readers[path.suffix.lower()]()


def _is_image(path: Path) -> bool:
    return path.suffix.lower() in folder.SUFFIXES


def _unknown(name: str) -> DataError:
    hint = did_you_mean(name, [*names(), *KNOWN])
    return DataError(
        f"There is no data set and no file or folder of this name. {hint}Embedded sets: "
        f"{', '.join(names())}; others come from TensorFlow Datasets. A string is a name or a "
        f"path, never content: pass text as a list, `[text]`. Received: {describe(name)}"
    )


def _check_modality(dataset: Dataset, modality: str | None, source: Any) -> None:
    have = dataset.train.modality
    if modality is None or have == modality:
        return
    fitting = [name for name in names() if synthetic.MODALITIES[name] == modality]
    raise DataError(
        f"This needs {modality} data, and {dataset.name!r} is {have} data. Use for example "
        f"{' or '.join(map(repr, fitting)) or 'your own'}. Received: {describe(source)}"
    )


def _in_shape(dataset: Dataset, image_shape: ImageShape | None) -> Dataset:
    """Brings all parts to one shape: the wanted one, or without alpha that of the train part."""
    own = dataset.train.image_shape
    shape = image_shape
    if shape is None and own is not None:
        shape = (own[0], own[1], 3) if own[2] == 4 else own
    if shape is None:
        return dataset

    def part(source: Source | None) -> Source | None:
        return None if source is None else reshape(source, shape)

    train = adapt(dataset.train, shape)
    return Dataset(dataset.name, train, part(dataset.validation), part(dataset.test))
