"""A folder of images, decoded when they are needed."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from PIL import Image, ImageOps

from keras_genai._log import say, warn
from keras_genai.data.base import DataError, Dataset, ImageShape, Source, cut_point

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif")
PARTS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
HEADERS = 100  # files looked into before training starts
LISTED = 10  # files that a message names
LARGEST_OWN_SIZE = 128  # pixels; larger images are read as DEFAULT_SIZE unless told otherwise
DEFAULT_SIZE = (64, 64)


class FolderSource(Source):
    """Images in files. Only the names are kept in memory.

    Args:
        files: paths of the images.
        sizes: bytes of each file, int64 (N,).
        labels: one class number a file, or None.
        image_shape: the (H, W, C) every image is brought to: 1 channel for grey, 3 for colour.
        name: what messages call the data.
        root: the folder that names are relative to.
        class_names: one name a label.
    """

    modality = "image"
    image_shape: ImageShape

    def __init__(
        self,
        files: list[str],
        sizes: np.ndarray,
        labels: np.ndarray | None,
        *,
        image_shape: ImageShape,
        name: str,
        root: str,
        class_names: list[str] | None = None,
    ) -> None:
        self.files, self.sizes, self.labels = files, sizes, labels
        self.image_shape = image_shape
        self.name, self.root, self.class_names = name, root, class_names

    def __len__(self) -> int:
        return len(self.files)

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """The items of these numbers, stacked: int64 (B,) to a dict of (B, ...)."""
        images = tf.numpy_function(self._read, [indices], tf.uint8)
        items = {"image": tf.ensure_shape(images, indices.shape.concatenate(self.image_shape))}
        if self.labels is not None:
            items["label"] = tf.gather(tf.constant(self.labels), indices)
        return items

    def _read(self, indices: np.ndarray) -> np.ndarray:
        images = np.empty((len(indices), *self.image_shape), np.uint8)
        bad = {}
        for row, i in enumerate(indices):
            try:
                images[row] = read_image(self.files[i], self.image_shape)
            except UnreadableImage as error:
                bad[self.files[i]] = str(error)
        if bad:
            raise _refusal(bad)
        return images

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` items (all of them by default), stacked by key."""
        arrays = {"image": self._read(np.arange(len(self))[:limit])}
        if self.labels is not None:
            arrays["label"] = self.labels[:limit]
        return arrays

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off a `fraction` as validation data, in an order shuffled by `seed`.

        The files are sorted by class: their last part would be the last class.
        """
        kept = cut_point(len(self), fraction, self.name)
        if kept == len(self):
            return self, None
        order = np.random.default_rng(seed).permutation(len(self))
        return self._take(np.sort(order[:kept])), self._take(np.sort(order[kept:]))

    def _take(self, rows: np.ndarray) -> FolderSource:
        files = [self.files[i] for i in rows]
        labels = None if self.labels is None else self.labels[rows]
        return self._copy(files, self.sizes[rows], labels, self.image_shape)

    def with_image_shape(self, image_shape: ImageShape) -> FolderSource:
        """The same files, decoded to another shape."""
        if image_shape[2] == 4:
            raise DataError(
                "Images in folders are laid over white: `image_shape` ends in 1 (grey) or 3 "
                f"(colour). Received: image_shape={image_shape}"
            )
        return self._copy(self.files, self.sizes, self.labels, image_shape)

    def _copy(
        self,
        files: list[str],
        sizes: np.ndarray,
        labels: np.ndarray | None,
        image_shape: ImageShape,
    ) -> FolderSource:
        return FolderSource(
            files,
            sizes,
            labels,
            image_shape=image_shape,
            name=self.name,
            root=self.root,
            class_names=self.class_names,
        )

    def _fingerprint(self) -> str:
        """Of names and sizes: reading every file would take as long as an epoch."""
        digest = hashlib.sha256()
        for file, size in zip(self.files, self.sizes, strict=True):
            digest.update(f"{_below(self.root, file)} {size}\n".encode())
        return digest.hexdigest()[:12]


class UnreadableImage(Exception):
    """A file that no image can be made of; says why."""


def read_image(file: str, image_shape: ImageShape) -> np.ndarray:
    """One image as uint8 (H, W, C): upright, over white, anti-aliased.

    Raises:
        UnreadableImage: the file is missing or damaged.
    """
    height, width, channels = image_shape
    with _opened(file) as image:
        # A JPEG can be decoded at a fraction of its size: photographs load many times faster.
        # At least twice the target is left for the anti-aliased step.
        image.draft(None, (2 * width, 2 * height))
        upright = ImageOps.exif_transpose(image)
        small = _flatten(upright, channels).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(small, np.uint8).reshape(image_shape)


@contextlib.contextmanager
def _opened(file: str) -> Iterator[Image.Image]:
    try:
        with Image.open(file) as image:
            yield image
    except MemoryError:
        raise
    except Exception as error:  # each format's decoder raises its own kinds
        if isinstance(error, OSError) and error.errno not in (None, errno.ENOENT):
            raise  # the disk or the system, not the file
        reason = str(error).replace(repr(file), "the file") or type(error).__name__
        raise UnreadableImage(reason) from error


def _flatten(image: Image.Image, channels: int) -> Image.Image:
    """In one or three channels, what is transparent over white."""
    if image.mode.startswith("I"):  # 16 bits a pixel: Pillow would clip them, not scale them
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        paper = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(paper, image)
    return image.convert("L" if channels == 1 else "RGB")


class Listing(NamedTuple):
    """The images below a folder, each with its bytes and the name of its class or None."""

    files: list[str]
    sizes: np.ndarray
    classes: list[str | None]
    others: int


def list_images(root: str) -> Listing:
    """The images below `root`, sorted; the class is the first folder on the way to them."""
    found = walk(root)
    files = [file for file in found if file.lower().endswith(SUFFIXES)]
    sizes = np.array([_bytes_of(file) for file in files], "int64")
    classes = [_class_of(_below(root, file)) for file in files]
    return Listing(files, sizes, classes, len(found) - len(files))


def _bytes_of(file: str) -> int:
    try:
        return os.stat(file).st_size
    except OSError:  # a link to nowhere is as good as an empty file
        return 0


def _below(root: str, file: str) -> str:
    """The path of a file from `root` on; `os.path.relpath` takes ten times as long."""
    return file[len(root) :].lstrip(os.sep)


def _class_of(path: str) -> str | None:
    first, separator, _ = path.partition(os.sep)
    return first if separator else None


def walk(root: str) -> list[str]:
    """All files below `root`, sorted by path, but for hidden ones; each real folder once."""
    files, seen = [], set()
    for folder, subfolders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link back up would otherwise never end
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
        files += [os.path.join(folder, name) for name in names if not name.startswith(".")]
    return sorted(files)


def parts_of(path: Path) -> dict[str, str]:
    """The folders of the parts train, validation and test; without such, all is for training."""
    folders = sorted(entry.name for entry in os.scandir(path) if entry.is_dir())
    found = {PARTS[f]: os.path.join(path, f) for f in folders if f in PARTS}
    # Beside buses and cars, "train" is a class.
    is_split = "train" in found and (len(found) > 1 or len(folders) == 1)
    return found if is_split else {"train": str(path)}


def load_folder(path: Path, on_bad: str = "raise") -> Dataset:
    """The images of a folder, with the classes and parts its subfolders name.

    Args:
        path: the folder.
        on_bad: "skip" decodes every file beforehand and leaves out those that cannot be read;
            "raise" looks at the sizes of all and the headers of some.
    """
    root, name = str(path), path.resolve().name
    parts = parts_of(path)
    listings = {part: list_images(folder) for part, folder in parts.items()}
    empty = [parts[part] for part, listing in listings.items() if not listing.files]
    if empty:
        raise DataError(
            f"A folder of images must hold files ending in {', '.join(SUFFIXES)}; subfolders are "
            f"classes, or the parts train, validation and test. Received: no image in {empty[0]}"
        )
    others = sum(listing.others for listing in listings.values())
    mention_others(name, others)
    if on_bad == "skip":
        listings = _readable(listings, root, name)
    else:
        _refuse_empty(listings)
    sources = _sources(listings, root, name)
    return Dataset(name, sources["train"], sources.get("validation"), sources.get("test"))


def mention_others(name: str, count: int) -> None:
    """Says how many files of a folder are none of those that are read, if there are any."""
    if count:
        say(f"{name}: {count} other file{'s' if count > 1 else ''} left aside.")


def _readable(listings: dict[str, Listing], root: str, name: str) -> dict[str, Listing]:
    """The listings without the files that cannot be decoded; one warning names those."""
    files = [file for listing in listings.values() for file in listing.files]
    say(f"{name}: decoding {len(files):,} images once, to find those that cannot be read.")
    with ThreadPool() as pool:  # Pillow decodes outside of Python's lock
        faults = pool.map(_fault, files, chunksize=64)
    bad = {file: fault for file, fault in zip(files, faults, strict=True) if fault}
    if bad:
        names = _some([_below(root, file) for file in bad])
        warn(f"{name}: {len(bad):,} of {len(files):,} images cannot be read, left out: {names}.")
    kept = {part: _without(listing, bad) for part, listing in listings.items()}
    if not all(listing.files for listing in kept.values()):
        raise _refusal(bad)
    return kept


def _fault(file: str) -> str | None:
    """Why training could not read the file, or None. One pixel is the least to decode it to."""
    try:
        read_image(file, (1, 1, 1))
    except UnreadableImage as error:
        return str(error)
    return None


def _without(listing: Listing, bad: Mapping[str, str]) -> Listing:
    rows = [i for i, file in enumerate(listing.files) if file not in bad]
    files, classes = [listing.files[i] for i in rows], [listing.classes[i] for i in rows]
    return Listing(files, listing.sizes[rows], classes, listing.others)


def _refuse_empty(listings: dict[str, Listing]) -> None:
    bad = {
        listing.files[i]: "the file is empty or a broken link"
        for listing in listings.values()
        for i in np.flatnonzero(listing.sizes == 0)
    }
    if bad:
        raise _refusal(bad)


def _refusal(bad: Mapping[str, str]) -> DataError:
    """The error for files that cannot be read, given with the reasons."""
    count = "An image" if len(bad) == 1 else f"{len(bad):,} images"
    return DataError(
        f"{count} cannot be read ({next(iter(bad.values()))}). Repair what is named, move it out "
        'of the folder, or leave out all such files with on_bad="skip" (--on_bad skip). '
        f"Received: {_some([*bad])}"
    )


def _some(names: list[str]) -> str:
    more = f" and {len(names) - LISTED:,} more" if len(names) > LISTED else ""
    return ", ".join(names[:LISTED]) + more


def _sources(listings: dict[str, Listing], root: str, name: str) -> dict[str, FolderSource]:
    shape = _own_shape(listings["train"].files)
    found = {name for listing in listings.values() for name in listing.classes}
    names = sorted(name for name in found if name is not None) if None not in found else None
    number = {name: i for i, name in enumerate(names or [])}
    sources = {}
    for part, listing in listings.items():
        labels = None
        if names:
            labels = np.array([number[str(c)] for c in listing.classes], "int32")
        sources[part] = FolderSource(
            listing.files,
            listing.sizes,
            labels,
            image_shape=shape,
            name=name,
            root=root,
            class_names=names,
        )
    return sources


def _own_shape(files: list[str]) -> ImageShape:
    """The shape the images have, if they agree on one that is small, else 64x64."""
    step = max(1, len(files) // HEADERS)
    sizes, grey, bad = set(), True, {}
    for file in files[::step][:HEADERS]:
        try:
            with _opened(file) as image:
                sizes.add((image.height, image.width))
                grey = grey and image.mode in ("1", "L", "LA", "I", "I;16")
        except UnreadableImage as error:
            bad[file] = str(error)
    if bad:
        raise _refusal(bad)
    size = sizes.pop() if len(sizes) == 1 else DEFAULT_SIZE
    height, width = size if max(size) <= LARGEST_OWN_SIZE else DEFAULT_SIZE
    return height, width, 1 if grey else 3
