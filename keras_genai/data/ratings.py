"""Ratings: tables and matrices of who liked what, as histories divided over users.

Preprocessing and division are those of Liang, Krishnan, Hoffman, Jebara, 2018,
https://arxiv.org/abs/1802.05814, section 4.2: ratings become likes by a threshold, users with few
likes are left out, and whole users are held out. Of a held-out user's history four fifths are shown
to the model (the fold-in part), and the rest is what it should recommend (the targets).
"""

from __future__ import annotations

import csv
import functools
import hashlib
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai._log import warn
from keras_genai.data.arrays import as_array
from keras_genai.data.base import DataError, Dataset, Source, cut_point, describe

COLUMNS = {"user": ("userId", "user"), "item": ("movieId", "itemId", "item"), "rating": ("rating",)}
THRESHOLD = 4.0  # of ratings in a table
TARGET_SHARE = 0.2
FOLD_IN, TARGET = 1, 2  # what `user_items` holds for a liked item; 0 for all others


class RatingsSource(Source):
    """Users' histories as items `{"user_items": uint8 (I,)}` over a catalogue of I items.

    `user_items` is 0 where the item is not in the history, 1 in the fold-in part and 2 in the
    target part. Training takes both as liked; testing shows a model the first and asks for the
    second. Histories are sparse in memory, batches of them are not.

    Args:
        offsets: int64 (U + 1,); the history of user u is `items[offsets[u]:offsets[u + 1]]`.
        items: int32, numbers of liked items, each once a user; at least two a user.
        item_ids: the catalogue: an id, int or str, for each number, (I,).
        user_ids: an id for each user, (U,).
        name: what messages call the data.
        seed: chooses each user's targets.
    """

    modality = "ratings"

    def __init__(
        self,
        offsets: np.ndarray,
        items: np.ndarray,
        *,
        item_ids: np.ndarray,
        user_ids: np.ndarray,
        name: str,
        seed: int = 0,
    ) -> None:
        self.offsets, self.items = offsets, items
        self.item_ids, self.user_ids = item_ids, user_ids
        self.name, self.seed = name, seed
        self._marks = _marks(np.diff(offsets), seed)

    @functools.cached_property
    def catalogue(self) -> str:
        """The items' ids in order, as a JSON list."""
        return json.dumps(self.item_ids.tolist(), ensure_ascii=False, separators=(",", ":"))

    @property
    def item_counts(self) -> np.ndarray:
        """How many users like each item, int64 (I,)."""
        return np.bincount(self.items, minlength=len(self.item_ids))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """The histories of these users: int64 (B,) to `user_items` uint8 (B, I)."""
        rows = tf.numpy_function(self._rows, [indices], tf.uint8)
        shape = indices.shape.concatenate((len(self.item_ids),))
        return {"user_items": tf.ensure_shape(rows, shape)}

    def arrays(self, limit: int | None = None) -> dict[str, np.ndarray]:
        """The first `limit` users (all of them by default), stacked by key."""
        return {"user_items": self._rows(np.arange(len(self))[:limit])}

    def _rows(self, users: np.ndarray) -> np.ndarray:
        rows = np.zeros((len(users), len(self.item_ids)), np.uint8)
        places = self._places(users)
        row = np.repeat(np.arange(len(users)), np.diff(self.offsets)[users])
        rows[row, self.items[places]] = self._marks[places]
        return rows

    def _places(self, users: np.ndarray) -> np.ndarray:
        """Where in `items` the histories of these users are, one after another."""
        counts = np.diff(self.offsets)[users]
        starts = np.repeat(self.offsets[users] - np.cumsum(counts) + counts, counts)
        return starts + np.arange(counts.sum())

    def split(self, fraction: float, seed: int) -> tuple[Source, Source | None]:
        """Cuts off a `fraction` of the users as validation data, in an order shuffled by `seed`."""
        kept = cut_point(len(self), fraction, self.name)
        if kept == len(self):
            return self, None
        order = np.random.default_rng(seed).permutation(len(self))
        return self.of_users(np.sort(order[:kept])), self.of_users(np.sort(order[kept:]))

    def of_users(self, users: np.ndarray) -> RatingsSource:
        """The users of these numbers, over the same catalogue."""
        offsets = np.concatenate([[0], np.cumsum(np.diff(self.offsets)[users])])
        return RatingsSource(
            offsets, self.items[self._places(users)], item_ids=self.item_ids,
            user_ids=self.user_ids[users], name=self.name, seed=self.seed,
        )  # fmt: skip

    def of_items(self, item_ids: Sequence[Any]) -> RatingsSource:
        """The same histories over another catalogue; what is not in it is left out.

        So are users of whose history fewer than two items are left: one to be shown to a model and
        one to ask for.

        Raises:
            DataError: no user is left.
        """
        number = {item: i for i, item in enumerate(item_ids)}
        new = np.array([number.get(item, -1) for item in self.item_ids.tolist()], np.int32)
        items, user = new[self.items], np.repeat(np.arange(len(self)), np.diff(self.offsets))
        counts = np.bincount(user[items >= 0], minlength=len(self))
        kept = (items >= 0) & (counts >= 2)[user]
        if not kept.any():
            raise DataError(
                "Users need at least two items of the catalogue, and none of these has as many. "
                f"Received: {len(self)} users of {self.name!r}, a catalogue of {len(item_ids)}"
            )
        return RatingsSource(
            np.concatenate([[0], np.cumsum(counts[counts >= 2])]), items[kept],
            item_ids=np.array(item_ids), user_ids=self.user_ids[counts >= 2], name=self.name,
            seed=self.seed,
        )  # fmt: skip

    def _fingerprint(self) -> str:
        digest = hashlib.sha256(f"{self.seed} {self.catalogue}".encode())
        for array in (self.offsets, self.items):
            digest.update(np.ascontiguousarray(array, "int64").data)
        return digest.hexdigest()[:12]


def _marks(counts: np.ndarray, seed: int) -> np.ndarray:
    """FOLD_IN or TARGET for each liked item: a fifth of each history, at least one, is target."""
    user = np.repeat(np.arange(len(counts)), counts)
    # Users are in order already: sorted by a random key, each history is shuffled.
    order = np.lexsort([np.random.default_rng(seed).random(len(user)), user])
    place = np.arange(len(user)) - np.repeat(np.cumsum(counts) - counts, counts)
    targets = np.maximum(1, (TARGET_SHARE * counts).astype(int))
    marks = np.empty(len(user), np.uint8)
    marks[order] = np.where(place < targets[user], TARGET, FOLD_IN)
    return marks


def load_ratings(
    source: Any,
    *,
    threshold: float | None = None,
    min_items: int = 5,
    min_users: int = 1,
    held_out: float = 0.1,
    seed: int = 0,
) -> Dataset:
    """Ratings as histories, divided over users into train, validation and test parts.

    Args:
        source: a CSV file or a dict of columns: user (`userId`), item (`movieId` or `itemId`) and,
            unless each row is a like, `rating`; or a matrix (U, I), of NumPy or SciPy, whose rows
            and columns then are the ids. Ids are whole numbers or strings.
        threshold: the smallest rating that is a like: 4 for tables. A matrix needs it unless it
            holds nothing but 0 and 1.
        min_items: users who like fewer items are left out; at least 2.
        min_users: items that fewer users like are left out, in turn with users until all is stable.
        held_out: the share of users in the validation part, and again in the test part. With 0
            there is one part only.
        seed: chooses the users of the parts and the targets of each user.

    Returns:
        The data set. Its catalogue is that of the training users: items that no training user
        likes are left out of the other parts, and so are users of whom less than two remain.

    Raises:
        DataError: the data cannot be used; the message says why and what to do.
    """
    if min_items < 2 or min_users < 1:
        raise DataError(
            "`min_items` is at least 2, one item to show and one to ask for, and `min_users` at "
            f"least 1. Received: min_items={min_items}, min_users={min_users}"
        )
    name = Path(source).name if isinstance(source, (str, os.PathLike)) else "ratings"
    users, items = _likes(source, threshold)
    whole = _histories(users, items, min_items, min_users, name, seed)
    if not held_out:
        return Dataset(Path(name).stem, whole)
    if not 0.0 < held_out < 0.5 or len(whole) < 3:
        raise DataError(
            "`held_out` is a share of the users below a half, or 0, and all three parts need a "
            f"user. Received: held_out={held_out}, {len(whole)} users with enough likes"
        )
    count = max(1, round(held_out * len(whole)))
    order = np.random.default_rng(seed).permutation(len(whole))
    return divide(whole, order[2 * count :], order[:count], order[count : 2 * count])


def divide(
    source: RatingsSource, train: np.ndarray, validation: np.ndarray, test: np.ndarray
) -> Dataset:
    """The users of these numbers as parts, over the catalogue of the training users."""
    trained = source.of_users(np.sort(train))
    known = source.item_ids[trained.item_counts > 0].tolist()
    parts = [source.of_users(np.sort(part)).of_items(known) for part in (train, validation, test)]
    return Dataset(Path(source.name).stem, *parts)


def _histories(
    user_ids: np.ndarray, item_ids: np.ndarray, min_items: int, min_users: int, name: str, seed: int
) -> RatingsSource:
    """A source of those likes whose users and items have enough of them."""
    users, user = np.unique(user_ids, return_inverse=True)
    items, item = np.unique(item_ids, return_inverse=True)
    user, item = np.divmod(np.unique(user * len(items) + item), max(1, len(items)))
    while True:  # a user who leaves may leave an item with too few, and the other way round
        of_user, of_item = np.bincount(user), np.bincount(item)
        enough = (of_user[user] >= min_items) & (of_item[item] >= min_users)
        if enough.all():
            break
        user, item = user[enough], item[enough]
    if not len(user):
        raise DataError(
            "Nobody likes enough: lower `min_items`, `min_users` or `threshold` of "
            f"`data.load_ratings`. Received: {len(user_ids)} likes of {len(users)} users, with "
            f"min_items={min_items} and min_users={min_users}"
        )
    (kept, counts), known = np.unique(user, return_counts=True), np.unique(item)
    return RatingsSource(
        np.concatenate([[0], np.cumsum(counts)]), np.searchsorted(known, item).astype("int32"),
        item_ids=items[known], user_ids=users[kept], name=name, seed=seed,
    )  # fmt: skip


# Reading ----------------------------------------------------------------------------------------


def _likes(source: Any, threshold: float | None) -> tuple[np.ndarray, np.ndarray]:
    """The ids of user and item of each like."""
    if isinstance(source, (str, os.PathLike)):
        source = _read_csv(Path(source).expanduser())
    if isinstance(source, Mapping):
        users, items, ratings = _of_table(source)
    else:
        users, items, ratings = _of_matrix(source)
        if threshold is None and not np.isin(ratings, (0, 1)).all():
            raise DataError(
                "A matrix holds 1 where a user likes an item and 0 elsewhere. For one of ratings "
                "say from where on they are likes: `data.load_ratings(matrix, threshold=4)`. "
                f"Received: values from {ratings.min():g} to {ratings.max():g}"
            )
        threshold = 1 if threshold is None else threshold
    if ratings is None:
        if threshold is not None:
            raise DataError(
                "A threshold needs a column `rating`; without it each row is a like. "
                f"Received: threshold={threshold}"
            )
        return users, items
    liked = ratings >= (THRESHOLD if threshold is None else threshold)
    return users[liked], items[liked]


def _of_matrix(matrix: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows, columns and values of the cells that are not 0."""
    if hasattr(matrix, "tocoo"):  # of SciPy, which need not be installed
        sparse = matrix.tocoo()
        rows, columns, values = (np.asarray(a) for a in (sparse.row, sparse.col, sparse.data))
    else:
        array = as_array(matrix)
        if array.ndim != 2:
            raise DataError(
                "Ratings are a CSV file, a dict of columns (userId, movieId, rating) or a matrix "
                f"(users, items) of numbers. Received: {describe(matrix)}"
            )
        rows, columns = np.nonzero(array)
        values = array[rows, columns]
    return rows, columns, _numbers(values, len(rows))


def _of_table(table: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Users, items and, if there is such a column, ratings of the rows."""
    names = _names(table)
    users, items = (_ids(table[names[column]], column) for column in ("user", "item"))
    if len(users) != len(items):
        raise DataError(
            f"All columns have one value a row. Received: {len(users)} users and {len(items)} items"
        )
    if "rating" not in names:
        return users, items, None
    return users, items, _numbers(table[names["rating"]], len(users))


def is_table(source: Any) -> bool:
    """Whether this is a dict with a column of users or of items."""
    known = {*COLUMNS["user"], *COLUMNS["item"]}
    return isinstance(source, Mapping) and not known.isdisjoint(source)


def _names(columns: Iterable[Any]) -> dict[str, Any]:
    """How a table calls its columns of users, items and, if it has it, ratings."""
    given = [*columns]
    found = {c: name for c, names in COLUMNS.items() for name in names if name in given}
    if "user" not in found or "item" not in found:
        raise DataError(
            f"A table of ratings has a column of users ({' or '.join(COLUMNS['user'])}), one of "
            f"items ({' or '.join(COLUMNS['item'])}) and, unless each row is a like, `rating`. "
            f"Received: columns {', '.join(map(str, given)) or 'none'}"
        )
    unused = [name for name in given if name not in found.values()]
    if "rating" not in found and unused:  # perhaps the ratings, by another name
        left = ", ".join(map(str, unused))
        warn(f"no column `rating`: each row counts as a like; not used: {left}.")
    return found


def _ids(values: Any, what: str) -> np.ndarray:
    ids = np.asarray(values)
    if ids.dtype == object and all(isinstance(value, str) for value in ids.flat):
        ids = ids.astype(str)
    if ids.ndim != 1 or ids.dtype.kind not in "iuU":
        raise DataError(
            f"Ids of {what}s are one whole number or string a row. Received: {describe(ids)}"
        )
    return ids


def _numbers(values: Any, count: int) -> np.ndarray:
    try:
        numbers = np.asarray(values, "float64")
    except (ValueError, TypeError) as error:
        raise DataError(f"Ratings are numbers: {error}. Received: {describe(values)}") from error
    if numbers.shape != (count,) or np.isnan(numbers).any():
        raise DataError(
            "Ratings are numbers, one a row, none of them NaN. "
            f"Received: {describe(numbers)} for {count} rows, {np.isnan(numbers).sum()} NaN"
        )
    return numbers


def _read_csv(path: Path) -> dict[str, np.ndarray]:
    """The columns of a CSV file with a header; ids are whole numbers if all of them are."""

    def column(name: str, kind: Any) -> np.ndarray:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")
            return np.loadtxt(
                path, kind, comments=None, delimiter=",", skiprows=1, ndmin=1, quotechar='"',
                usecols=header.index(name), encoding="utf-8-sig",
            )  # fmt: skip

    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            header = next(csv.reader(file), [])
        names = _names(header)
        table = {}
        for what, name in names.items():
            try:
                table[name] = column(name, "float64" if what == "rating" else "int64")
            except ValueError:
                if what == "rating":
                    raise
                table[name] = column(name, str)
    except DataError:
        raise
    except ValueError as error:  # UnicodeDecodeError is one too
        # Of cells NumPy counts the rows from 0, but their columns from 1.
        why = re.sub(r"\brow (\d+), column", lambda m: f"row {int(m[1]) + 1}, column", str(error))
        raise DataError(
            "Ratings are read from CSV, UTF-8, with a header, below which is row 1: "
            f"{why.rstrip('.')}. Received: {path}"
        ) from error
    return table
