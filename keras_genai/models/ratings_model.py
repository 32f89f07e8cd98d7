"""`RatingsModel`: what recommenders share. No model's mathematics is here."""

import functools
import json
from collections.abc import Callable, Hashable, Mapping, Sequence, Set
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai.data.ratings import FOLD_IN, TARGET
from keras_genai.models.base import GenerativeModel, fold

PREVIEW_USERS, PREVIEW_ITEMS, RECOMMENDED = 10, 5, 10


class RatingsModel(GenerativeModel):
    """A model of histories. Subclasses also write `sample`.

    Their `call` takes histories float32 `(B, I)`, 1 for liked items and 0 for others, and returns
    logits `(B, I)`, by which items are ranked. Batches of data have the key `user_items`: see
    `RatingsSource`, and `liked`, `shown` and `wanted`.

    Args:
        catalogue: The ids of the items, numbers or strings, as a JSON list, or None: from the
            data. `item_ids` has them as a list.
        seed: As in `GenerativeModel`.
    """

    modality = "ratings"
    from_data = ("catalogue",)

    def __init__(self, catalogue: str | None = None, seed: int | None = None, **kwargs: Any):
        super().__init__(seed=seed, **kwargs)
        self.catalogue: Any = catalogue

    def sample(self, n: int, seed: tf.Tensor) -> tf.Tensor:
        """Logits `(n, I)` of what `n` made-up users like; `seed` is a pair of ints."""
        raise NotImplementedError

    @functools.cached_property
    def item_ids(self) -> list[Any]:
        """The ids of the catalogue, in its order."""
        return json.loads(self.catalogue)

    @functools.cached_property
    def _numbers(self) -> dict[Any, int]:
        return {item: i for i, item in enumerate(self.item_ids)}

    # Data ---------------------------------------------------------------------------------------

    def prepare(self, source: Any) -> data_module.Source:
        """Brings histories to the order of the catalogue.

        Raises:
            ValueError: If it lacks one of their items.
        """
        if source.catalogue == self.catalogue:
            return source
        self._check_known(source.item_ids.tolist())
        return source.of_items(self.item_ids)

    def liked(self, user_items: tf.Tensor) -> tf.Tensor:
        """The whole histories, float32 `(B, I)` of 0 and 1: what training looks at."""
        return tf.cast(user_items > 0, "float32")

    def shown(self, user_items: tf.Tensor) -> tf.Tensor:
        """As `liked`, but the fold-in part only: what testing shows to the model."""
        return tf.cast(user_items == FOLD_IN, "float32")

    def wanted(self, user_items: tf.Tensor) -> tf.Tensor:
        """As `liked`, but the target part only: what testing asks for."""
        return tf.cast(user_items == TARGET, "float32")

    def vectors(self, histories: Sequence[Sequence[Any]]) -> np.ndarray:
        """Histories as rows uint8 `(N, I)` of 0 and 1 in the order of the catalogue.

        Raises:
            ValueError: If they are not lists of ids, or one is not in the catalogue.
        """
        rows = np.zeros((len(histories), len(self.item_ids)), "uint8")
        for row, history in zip(rows, histories, strict=True):
            if isinstance(history, str) or np.ndim(history) != 1:
                raise ValueError(
                    "A history is a list of items' ids, several are a list of such lists. "
                    f"Received: {history!r:.80}"
                )
            self._check_known(history)
            row[[self._numbers[item] for item in history]] = 1
        return rows

    def _check_known(self, items: Sequence[Any]) -> None:
        unknown = [
            item for item in items if not isinstance(item, Hashable) or item not in self._numbers
        ]
        if unknown:
            named = ", ".join(repr(item) for item in unknown[:10])
            spelt = {*map(str, self.item_ids)}
            if all(str(item) in spelt for item in unknown):
                kind = "strings" if isinstance(self.item_ids[0], str) else "whole numbers"
                raise ValueError(
                    f"The ids of this catalogue are {kind}, such as {self.item_ids[0]!r}: give "
                    f"them as such. Received: {named}{' ...' if len(unknown) > 10 else ''}"
                )
            raise ValueError(
                f"{self._title} has a catalogue of {len(self.item_ids):,} items, such as "
                f"{self.item_ids[0]!r}, without these: leave them out, or train on data that have "
                f"them. Received: {named}{' ...' if len(unknown) > 10 else ''}"
            )

    def in_batches(self, function: Callable[[tf.Tensor], tf.Tensor], rows: Any) -> np.ndarray:
        """Applies `function`, which takes float32 `(B, I)`, to rows `(N, I)`, 256 at a time."""
        x = np.asarray(rows)
        if x.ndim != 2 or x.shape[1] != len(self.item_ids) or not len(x):
            raise ValueError(
                f"Histories are rows (N, {len(self.item_ids)}), in the order of the catalogue, as "
                f"`vectors` makes them. Received: an array of shape {x.shape}"
            )
        chunks = (x[i : i + 256] > 0 for i in range(0, len(x), 256))
        parts = [function(tf.constant(chunk, "float32")) for chunk in chunks]
        return np.concatenate([np.asarray(part) for part in parts])

    def score(self, rows: Any) -> np.ndarray:
        """Logits float32 `(N, I)` of histories as rows `(N, I)`: the more, the more likely."""
        return self.in_batches(self, rows)

    # Recommending -------------------------------------------------------------------------------

    def recommend(
        self,
        histories: Sequence[Any],
        k: int = 10,
        exclude_seen: bool = True,
        with_scores: bool = False,
    ) -> Any:
        """What users are most likely to like next, by what they have liked.

        Args:
            histories: A list of items' ids, or a list of such lists.
            k: How many items.
            exclude_seen: Whether items of the history itself are left out.
            with_scores: Whether to return pairs `(id, probability)`: the probability that the
                model gives to this item among all of the catalogue.

        Returns:
            A list of ids for a list of ids, a list of such lists for a list of lists; the
            likeliest first, of equally likely ones in the order of the catalogue.

        Raises:
            ValueError: If an id is not in the catalogue, or it has not as many items.
        """
        self.need_networks()
        if not hasattr(histories, "__len__") or isinstance(histories, str | Mapping | Set):
            raise ValueError(
                "A history is a list of items' ids, without ratings, several are a list of such "
                "lists, and `draw_histories(n)` makes up those of n users. "
                f"Received: {histories!r:.80}"
            )
        single = not len(histories) or np.ndim(histories[0]) == 0
        rows = self.vectors([histories] if single else histories)
        self._check_k(k, rows.sum(1).max() if exclude_seen else 0)
        logits = self.score(rows)
        ranked = np.where(rows > 0, -np.inf, logits) if exclude_seen else logits
        best = np.argsort(-ranked, axis=1, kind="stable")[:, :k]  # N k
        lists = [[self.item_ids[i] for i in row] for row in best]
        if with_scores:
            p = np.take_along_axis(tf.nn.softmax(logits).numpy(), best, axis=1).tolist()
            lists = [[*zip(*pair, strict=True)] for pair in zip(lists, p, strict=True)]
        return lists[0] if single else lists

    def _check_k(self, k: int, seen: int) -> None:
        left = len(self.item_ids) - seen
        if not isinstance(k, int | np.integer) or not 1 <= k <= left:
            raise ValueError(
                f"`k` is a whole number from 1 to {left}: the catalogue has {len(self.item_ids)} "
                f"items, of which {seen} are in a history. Received: k={k!r}"
            )

    def generate(
        self,
        histories: Sequence[Any] | None = None,
        *,
        k: int | None = None,
        exclude_seen: bool = True,
        seed: int | None = None,
    ) -> Any:
        """As `recommend`; without histories for a user whom the model makes up.

        Args:
            histories: As in `recommend`. `None` draws one, as `draw_histories` does.
            k: How many items; by default 10, or as many as there are.
            exclude_seen: As in `recommend`.
            seed: Chooses the user who is made up; `None` moves the model's own generator on. What
                is recommended for a history does not depend on it.
        """
        self.need_networks()
        if histories is None:
            (histories,) = self.draw_histories(1, seed)
        k = min(RECOMMENDED, len(self.item_ids) - self._few) if k is None else k
        return self.recommend(histories, k, exclude_seen)

    @property
    def _few(self) -> int:
        """Items of a made-up user: five, or half of a small catalogue."""
        return min(PREVIEW_ITEMS, len(self.item_ids) // 2)

    def draw_histories(self, n: int, seed: int | None = None) -> list[list[Any]]:
        """Histories of `n` made-up users, each five different items drawn from `sample`.

        Args:
            n: How many users.
            seed: Same seed and weights, same users; `None` moves the model's own generator on.
        """
        self.need_networks()
        seed = self.seed_for(seed)
        logits = self.sample(n, fold([seed, 0], "samples"))  # n I
        uniform = tf.random.stateless_uniform(logits.shape, fold([seed, 1], "samples"), 1e-9)
        # The largest of log p + Gumbel noise are a draw without replacement.
        drawn = tf.math.top_k(
            logits - tf.math.log(-tf.math.log(uniform)), self._few
        ).indices.numpy()
        return [[self.item_ids[i] for i in row] for row in drawn]

    def lines(self, histories: Sequence[Sequence[Any]], k: int | None = None) -> list[str]:
        """For each history a line `liked -> recommended`."""
        pairs = zip(histories, self.generate(histories, k=k), strict=True)
        return [" -> ".join(", ".join(map(str, ids)) for ids in pair) for pair in pairs]

    def preview(self, seed: int = 0) -> list[str]:
        """Ten lines: what a made-up user likes, and what would be recommended to her.

        The same for the same weights and seed.
        """
        return self.lines(self.draw_histories(PREVIEW_USERS, seed))
