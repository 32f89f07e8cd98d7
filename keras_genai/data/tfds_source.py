"""Data sets of TensorFlow Datasets: images with or without labels, and text."""

from __future__ import annotations

import contextlib
import functools
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai._files import cache_folder
from keras_genai._log import say
from keras_genai.data import arrays
from keras_genai.data.arrays import ArraySource
from keras_genai.data.base import DataError, Dataset, ImageShape, Source
from keras_genai.data.images import check_image_shape
from keras_genai.data.text import TextSource, documents_of

VALIDATION_ITEMS = 5000
DEFAULT_SHAPE = (64, 64, 3)
# Sets of one large size, read smaller unless told otherwise.
SMALLER = {"celeb_a": DEFAULT_SHAPE}


def find(name: str) -> Any | None:
    """The builder of a data set's name, or None if TensorFlow Datasets has none."""
    import tensorflow_datasets as tfds

    try:
        # The library itself reads the variable when it is imported, too early for a notebook.
        return tfds.builder(name, data_dir=os.environ.get("TFDS_DATA_DIR"))
    except (tfds.core.registered.DatasetNotFoundError, ValueError):
        return None


def prepare(builder: Any) -> str:
    """Downloads and prepares a data set that is not there yet; returns its folder.

    Raises:
        DataError: it cannot be downloaded; the message names the ways out.
    """
    if not builder.is_prepared():
        say(f"{builder.name}: preparing the data set in {builder.data_dir} (once).")
        try:
            _check_network(builder)
            builder.download_and_prepare()
        except Exception as error:  # the causes are as many as there are data sets
            raise _not_prepared(builder.name, error) from error
    return str(builder.data_dir)


def _check_network(builder: Any) -> None:
    """Fails at once without a network; TensorFlow Datasets would try again for minutes."""
    import requests

    urls = list(getattr(builder, "url_infos", None) or ())
    if urls:
        requests.head(urls[0], timeout=20, allow_redirects=True)


def _not_prepared(name: str, error: Exception) -> DataError:
    from keras_genai.data.synthetic import NAMES

    reason = f"{type(error).__name__}: {str(error)[:200]}"
    return DataError(
        f"The data set {name!r} is not on this computer and could not be prepared ({reason}). Run "
        f"`keras-genai fetch {name}` on a computer with network access and copy its folder here; "
        "or set `TFDS_DATA_DIR` to a folder that has it; or use a set that needs no network: "
        f"{', '.join(NAMES)}. Received: {name!r}"
    )


def load_builder(builder: Any, image_shape: ImageShape | None) -> Dataset:
    """The parts of a data set: official ones where there are, else validation cut off train."""
    prepare(builder)
    image, label, text = _features(builder.info)
    name = builder.name
    parts = _parts(builder.info)
    if image is None:
        read = functools.partial(builder.as_dataset, shuffle_files=False)
        documents = {p: documents_of(read(split=s), name, text or "") for p, s in parts.items()}
        return Dataset(name, **{p: TextSource(d, name=name) for p, d in documents.items()})
    shape = _shape(builder.info, image, image_shape)
    if builder.info.features[image].shape != shape:
        say(f"{name}: images are cropped to the centre and resized to {shape}.")
    names = builder.info.features[label].names if label else None
    sources: dict[str, Source] = {}
    for part, split in parts.items():
        held = _read(builder, split, shape, image, label)
        sources[part] = ArraySource(held, name=name, class_names=names)
    return Dataset(name, **sources)


def _features(info: Any) -> tuple[str | None, str | None, str | None]:
    """The keys of the image, the label and the text, each or None."""
    import tensorflow_datasets as tfds

    features = dict(info.features) if isinstance(info.features, tfds.features.FeaturesDict) else {}

    def first(kind: type, preferred: str) -> str | None:
        keys = [key for key, feature in features.items() if isinstance(feature, kind)]
        return preferred if preferred in keys else next(iter(keys), None)

    image, label = first(tfds.features.Image, "image"), first(tfds.features.ClassLabel, "label")
    text = first(tfds.features.Text, "text")
    if image is None and text is None:
        raise DataError(
            "Only data sets with images or text can be loaded by name. "
            f"Received: {info.full_name!r} with the features {sorted(features)}"
        )
    return image, label, text


def _parts(info: Any) -> dict[str, str]:
    """Part to split: validation is the last 5,000 (or tenth) of train unless there is one."""
    if "train" not in info.splits:
        raise DataError(
            f"The data set {info.full_name!r} has no training part. "
            f"Received: splits {sorted(info.splits)}"
        )
    parts = {"train": "train"}
    if "validation" in info.splits:
        parts["validation"] = "validation"
    else:
        count = info.splits["train"].num_examples
        held = min(VALIDATION_ITEMS, count // 10)
        if held:
            parts = {"train": f"train[:{count - held}]", "validation": f"train[{count - held}:]"}
    if "test" in info.splits:
        parts["test"] = "test"
    return parts


def _shape(info: Any, image: str, image_shape: ImageShape | None) -> ImageShape:
    if image_shape is not None:
        return check_image_shape(image_shape)
    own = info.features[image].shape
    if None in own:
        return DEFAULT_SHAPE if own[2] is None else (*DEFAULT_SHAPE[:2], own[2])
    return SMALLER.get(info.name, own)


def _read(
    builder: Any, split: str, shape: ImageShape, image: str, label: str | None
) -> dict[str, np.ndarray]:
    """Images and labels: in memory, or in mapped files of the cache if they are too large."""
    forms = _forms(builder, split, shape, label)
    if math.prod(forms["image"][1]) > arrays.IN_MEMORY_LIMIT:
        return _cached(builder, split, forms, image, label)
    items = {key: np.empty(form, dtype) for key, (dtype, form) in forms.items()}
    start = 0
    for batch in _batches(builder, split, shape, image, label):
        for key, values in batch.items():
            items[key][start : start + len(values)] = values
        start += len(batch["image"])
    return items


def _forms(builder: Any, split: str, shape: ImageShape, label: str | None) -> dict[str, Any]:
    """The dtype and the shape of each array."""
    count = builder.info.splits[split].num_examples
    forms: dict[str, Any] = {"image": (np.uint8, (count, *shape))}
    if label:
        forms["label"] = (np.int32, (count,))
    return forms


def _batches(
    builder: Any, split: str, shape: ImageShape, image: str, label: str | None
) -> Iterator[dict[str, np.ndarray]]:
    import tensorflow_datasets as tfds

    def small(item: dict[str, Any]) -> dict[str, tf.Tensor]:
        images = {"image": fit_centre(item[image], shape)}
        return {**images, "label": tf.cast(item[label], tf.int32)} if label else images

    # By itself the library keeps decoded sets of up to 250 MB in memory, which are read once here.
    config = tfds.ReadConfig(try_autocache=False)
    dataset = builder.as_dataset(split=split, shuffle_files=False, read_config=config)
    dataset = dataset.map(small, num_parallel_calls=2, deterministic=True).batch(256)
    return dataset.as_numpy_iterator()


def fit_centre(image: tf.Tensor, image_shape: ImageShape) -> tf.Tensor:
    """One uint8 image, its centre cut out in the wanted proportions and resized."""
    height, width, channels = image_shape
    if image.shape == image_shape:
        return image
    if image.shape[-1] == 1 and channels == 3:
        image = tf.repeat(image, 3, axis=-1)
    if image.shape[-1] != channels:
        raise DataError(
            f"The images have {image.shape[-1]} channels: ask for "
            f"`image_shape=({height}, {width}, {image.shape[-1]})`. "
            f"Received: image_shape={image_shape}"
        )
    size = tf.shape(image)
    crop_h = tf.minimum(size[0], size[1] * height // width)
    crop_w = tf.minimum(size[1], size[0] * width // height)
    top, left = (size[0] - crop_h) // 2, (size[1] - crop_w) // 2
    image = image[top : top + crop_h, left : left + crop_w]
    image = tf.image.resize(image, (height, width), method="bilinear", antialias=True)
    return tf.ensure_shape(
        tf.cast(tf.clip_by_value(tf.round(image), 0.0, 255.0), tf.uint8), image_shape
    )


def _cached(
    builder: Any, split: str, forms: dict[str, Any], image: str, label: str | None
) -> dict[str, np.ndarray]:
    shape = forms["image"][1][1:]
    version = builder.info.full_name.replace("/", "-")
    part = split.translate(str.maketrans("[:]", "_-_"))
    folder = cache_folder() / f"{version}-{part}-{'x'.join(map(str, shape))}"
    if not folder.exists():
        say(f"{builder.name}: decoding {split} to {folder} (once).")
        _write(folder, forms, _batches(builder, split, shape, image, label))
    return {key: np.load(folder / f"{key}.npy", mmap_mode="r") for key in forms}


def _write(folder: Path, forms: dict[str, Any], batches: Iterator[dict[str, np.ndarray]]) -> None:
    """Writes `.npy` files into a folder that appears under its name when it is complete."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        with contextlib.ExitStack() as stack:
            files = {k: stack.enter_context(open(staging / f"{k}.npy", "wb")) for k in forms}
            for key, (dtype, form) in forms.items():
                header = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": form}
                np.lib.format.write_array_header_1_0(files[key], header)
            for batch in batches:
                for key, values in batch.items():
                    files[key].write(values.tobytes())
        if not folder.exists():  # another process may have been quicker
            os.replace(staging, folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
