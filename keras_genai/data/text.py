"""Text: files, folders of files, lists of documents, a `tf.data.Dataset` of strings."""

from __future__ import annotations

import functools
import hashlib
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai.data.base import DataError, Dataset, Source, cut_point
from keras_genai.data.folder import mention_others, parts_of, walk


class TextSource(Source):
    """Documents of text. Models of text encode it themselves.

    Args:
        documents: the texts, in order.
        name: what messages call the data.
    """

    modality = "text"

    def __init__(self, documents: list[str], *, name: str) -> None:
        self.documents, self.name = documents, name
        for i, document in enumerate(documents):
            _check_characters(document, f"text {i} of {name}")
        if not any(documents):
            raise DataError(
                "Text must have at least one character. "
                f"Received: {len(documents)} empty documents in {name!r}"
            )

    @functools.cached_property
    def text(self) -> str:
        """All documents, joined by line breaks."""
        return "\n".join(self.documents)

    def __len__(self) -> int:
        return len(self.documents)

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` documents (all of them by default)."""
        return {"text": np.array(self.documents[:limit], dtype=object)}

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off the last `fraction` of the characters, between documents if there are several.

        A single document is cut where the share is reached.
        """
        kept = cut_point(sum(map(len, self.documents)), fraction, self.name)
        if not fraction:
            return self, None
        if len(self.documents) == 1:
            text = self.documents[0]
            parts = [text[:kept]], [text[kept:]]
        else:
            kept = self._documents_kept(fraction)
            parts = self.documents[:kept], self.documents[kept:]
        train, validation = (TextSource(part, name=self.name) for part in parts)
        return train, validation

    def _documents_kept(self, fraction: float) -> int:
        """As many documents as hold the first 1 - `fraction` of the characters; leaves one."""
        ends = np.cumsum([len(document) for document in self.documents])
        kept = int(np.searchsorted(ends, ends[-1] * (1 - fraction), side="left")) + 1
        return min(kept, len(self.documents) - 1)

    def _fingerprint(self) -> str:
        digest = hashlib.sha256()
        for document in self.documents:
            digest.update(document.encode("utf-8") + b"\0")
        return digest.hexdigest()[:12]


def _check_characters(text: str, where: str) -> None:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            "Text is whole characters, and a surrogate is half of one, which no file can hold; "
            'text.encode("utf-8", "replace").decode() has ? in its place. '
            f"Received: {text[error.start]!r} at character {error.start} of {where}"
        ) from error


def read_text(path: Path) -> str:
    """A UTF-8 file, its line ends as in Python."""
    hint = (
        "Convert the file from what it is in, for example with `iconv -f latin1 -t utf-8`, of "
        "Chinese with `-f gb18030` or `-f big5`"
    )
    text = decode(path.read_bytes(), str(path), hint)
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decode(raw: bytes, where: str, hint: str) -> str:
    """The text of bytes.

    Raises:
        DataError: bytes that are not UTF-8, with the place of the first.
    """
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(
            f"Text must be UTF-8. {hint}. Received: byte {raw[error.start]:#04x} at offset "
            f"{error.start} of {where}"
        ) from error


def load_file(path: Path) -> Dataset:
    """One text file: one document."""
    return Dataset(path.stem, TextSource([read_text(path)], name=path.name))


def load_folder(path: Path) -> Dataset:
    """The `.txt` and `.py` files of a folder, each a document; subfolders may be its parts."""
    name, sources, others = path.resolve().name, {}, 0
    for part, folder in parts_of(path).items():
        files = text_files(Path(folder))
        if not files:
            raise DataError(
                "A folder of texts must hold .txt or .py files, in subfolders of any name or in "
                f"the parts train, validation and test. Received: none in {folder}"
            )
        sources[part] = TextSource([read_text(file) for file in files], name=name)
        others += len(walk(folder)) - len(files)
    mention_others(name, others)
    return Dataset(name, **sources)


def text_files(path: Path) -> list[Path]:
    """The `.txt` and `.py` files below a folder, sorted."""
    return [Path(file) for file in walk(str(path)) if file.lower().endswith((".txt", ".py"))]


def load_list(texts: Sequence[str]) -> Dataset:
    """A list of strings, each a document."""
    return Dataset("text", TextSource(list(texts), name="text"))


def is_stream(dataset: tf.data.Dataset) -> bool:
    """Whether it yields strings, alone, first in tuples, or in dicts with the key `text`."""
    spec = _text_in(dataset.element_spec)
    return isinstance(spec, tf.TensorSpec) and spec.dtype == tf.string


def load_stream(dataset: tf.data.Dataset) -> Dataset:
    """The strings of a `tf.data.Dataset`, single or in batches, each a document; read once."""
    if dataset.cardinality() == tf.data.INFINITE_CARDINALITY:
        raise DataError(
            "Text is read into memory: say with `dataset.take(n)` how much. "
            "Received: a tf.data.Dataset that never ends"
        )
    return Dataset("tf.data", TextSource(documents_of(dataset, "tf.data"), name="tf.data"))


def documents_of(dataset: tf.data.Dataset, name: str, key: str = "text") -> list[str]:
    """All strings of a data set of strings, or of dicts that have them under `key`."""
    batches = (_text_in(item, key) for item in dataset.as_numpy_iterator())
    raw = itertools.chain.from_iterable(np.asarray(batch, object).ravel() for batch in batches)
    hint = "Decode it first, for example with `tf.strings.unicode_transcode`"
    return [decode(text, f"text {i} of {name}", hint) for i, text in enumerate(raw)]


def _text_in(element: Any, key: str = "text") -> Any:
    if isinstance(element, dict):
        return None if "image" in element and key == "text" else element.get(key)
    return element[0] if isinstance(element, tuple) else element
