"""Metrics of ranked lists, for recommenders: one value a user."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, check_setting


def recall_at_k(scores: ArrayLike, targets: ArrayLike, k: int) -> Array:
    """The share of a user's targets among the k items of the highest scores.

    With w(r) the item at rank r, counted from 1, and T the user's targets:

        Recall@k = sum_{r <= k} [w(r) in T] / min(k, |T|)

    so that 1 is the best there is, also where there are more than k targets. Items of equal score
    share their ranks: the value is its mean over all orders in which they could stand.

    Liang, Krishnan, Hoffman, Jebara, 2018, https://arxiv.org/abs/1802.05814, section 4.3.

    Args:
        scores: (N, I), for each user and item; -inf for items that are not to be recommended.
        targets: bool (N, I), the items that should be; at least one a user.
        k: the length of the list, at most I.

    Returns:
        float64 (N,).

    Raises:
        ValueError: shapes that differ, NaN, a user without targets, or another k.
    """
    return _at_k(scores, targets, k, lambda rank: np.ones(len(rank)))


def ndcg_at_k(scores: ArrayLike, targets: ArrayLike, k: int) -> Array:
    """As `recall_at_k`, but a target counts less, the lower it stands.

        DCG@k = sum_{r <= k} [w(r) in T] / log2(r + 1)
        NDCG@k = DCG@k / sum_{r <= min(k, |T|)} 1 / log2(r + 1)

    The divisor is the DCG of a list with all targets first.

    Liang, Krishnan, Hoffman, Jebara, 2018, https://arxiv.org/abs/1802.05814, section 4.3.

    Args:
        scores: as in `recall_at_k`.
        targets: as in `recall_at_k`.
        k: as in `recall_at_k`.

    Returns:
        float64 (N,).

    Raises:
        ValueError: as `recall_at_k`.
    """
    return _at_k(scores, targets, k, lambda rank: 1.0 / np.log2(rank + 1.0))


def _at_k(scores: ArrayLike, targets: ArrayLike, k: int, gain: Callable[[Array], Array]) -> Array:
    """The sum of the gains of the targets' ranks, of the largest possible sum, for each user."""
    scores, targets = np.asarray(scores), np.asarray(targets)
    _check(scores, targets, k)
    gains = np.concatenate([[0.0], np.cumsum(gain(np.arange(1, k + 1)))])  # of the first ranks
    values = np.empty(len(scores))
    for user, (row, wanted) in enumerate(zip(scores, targets, strict=True)):
        ascending, mine = np.sort(row), row[wanted]
        # Items of the score of a target have the ranks first + 1 to last, each as likely.
        first = len(row) - np.searchsorted(ascending, mine, "right")
        last = len(row) - np.searchsorted(ascending, mine, "left")
        found = (gains[np.minimum(last, k)] - gains[np.minimum(first, k)]) / (last - first)
        values[user] = found.sum() / gains[min(k, len(mine))]
    return values


def _check(scores: Array, targets: Array, k: int) -> None:
    if scores.ndim != 2 or scores.shape != targets.shape or targets.dtype != bool:
        raise ValueError(
            "`scores` are numbers and `targets` bool, both of shape (N, I). "
            f"Received: scores of shape {scores.shape}, {targets.dtype} of shape {targets.shape}"
        )
    check_setting(1 <= k <= scores.shape[1], f"1 to {scores.shape[1]}, the number of items", k=k)
    if np.isnan(scores).any():
        raise ValueError(f"Scores are not NaN. Received: {np.isnan(scores).sum()} NaN")
    without = len(targets) - int(targets.any(axis=1).sum())
    if without:
        raise ValueError(
            "Each user has at least one target: leave out the others. "
            f"Received: {without} of {len(targets)} users without"
        )
