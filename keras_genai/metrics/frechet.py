"""Distances between two sets of features by their moments, and the Inception Score.

Only with the features of the Inception network of 2015 may these be called FID, KID and IS; with
others they are the Fréchet and the kernel distance of those features.

Shapes: N items, D features, K classes.
"""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import (
    Array,
    as_feature_pair,
    as_features,
    as_probabilities,
    check_count,
    check_same_size,
    check_setting,
)

# Below this the bias of the Fréchet distance is large beside the differences between good models.
MIN_FRECHET_COUNT = 2048
# Of a covariance's largest value: published ones were often computed in float32.
ROUNDING = 1e-4


class FeatureStatistics:
    """Count, mean and covariance of features, gathered in batches of any size.

    >>> statistics = FeatureStatistics()
    >>> for batch in batches:
    ...     statistics.update(batch)

    Sums are taken around the mean of what came before (Chan, Golub and LeVeque
    1983), so that features far from zero lose no digits.

    Args:
        mean: (D,), for statistics that are known already, such as published ones.
        covariance: (D, D), unbiased (divided by N - 1).
        count: N, the number of items they were taken from.

    Raises:
        ValueError: moments that are not those of any features, or without a count of at least 2.
    """

    def __init__(
        self,
        mean: ArrayLike | None = None,
        covariance: ArrayLike | None = None,
        count: int = 0,
    ) -> None:
        self.count, self.mean = 0, np.zeros(0)
        if count or mean is not None or covariance is not None:
            check_setting(count >= 2, "at least 2", count=count)
            self.count = count
            self.mean, covariance = _as_moments(mean, covariance)
            self._scatter = covariance * (count - 1)

    @property
    def covariance(self) -> Array:
        """The unbiased covariance (D, D); needs at least two items."""
        check_count(self.count, 2)
        return self._scatter / (self.count - 1)

    def update(self, features: ArrayLike) -> None:
        """Adds a batch of features (B, D)."""
        x = as_features(features)
        mean = x.mean(axis=0)
        self._add(len(x), mean, (x - mean).T @ (x - mean))

    def merge(self, other: FeatureStatistics) -> None:
        """Adds what another worker has gathered."""
        if other.count:
            self._add(other.count, other.mean, other._scatter)

    def _add(self, count: int, mean: Array, scatter: Array) -> None:
        if not self.count:
            self.count, self.mean, self._scatter = count, mean, scatter
            return
        check_same_size(len(self.mean), len(mean))
        total, delta = self.count + count, mean - self.mean
        shift = np.outer(delta, delta) * (self.count * count / total)
        self._scatter = self._scatter + scatter + shift
        self.mean = self.mean + delta * (count / total)
        self.count = total


def _as_moments(mean: ArrayLike | None, covariance: ArrayLike | None) -> tuple[Array, Array]:
    """A mean (D,) and a covariance (D, D) as float64."""
    m, c = np.asarray(mean, np.float64), np.asarray(covariance, np.float64)  # None becomes NaN
    if m.ndim != 1 or c.shape != 2 * m.shape:
        raise ValueError(
            "Statistics need both a mean (D,) and a covariance (D, D). "
            f"Received: shapes {m.shape} and {c.shape}"
        )
    bad = sum(x.size - int(np.isfinite(x).sum()) for x in (m, c))
    if bad:
        raise ValueError(f"Statistics must be finite. Received: {bad} values that are NaN or Inf")
    difference = np.abs(c - c.T).max(initial=0.0)
    if difference > ROUNDING * np.abs(c).max(initial=0.0):
        raise ValueError(
            "A covariance must equal its transpose. "
            f"Received: one with elements that differ by {difference:g}"
        )
    return m, c


def frechet_distance(x: ArrayLike | FeatureStatistics, y: ArrayLike | FeatureStatistics) -> float:
    """The squared Fréchet distance of two sets of features, each taken for a Gaussian.

        |mu_x - mu_y|^2 + Tr(S_x + S_y - 2 (S_x S_y)^(1/2))

    Heusel et al. 2017, https://arxiv.org/abs/1706.08500, equation 6, with unbiased covariances. The
    last trace is the sum of the singular values of A B^T, for any A^T A = S_x and B^T B = S_y: no
    square root of a matrix that is not symmetric, so never complex, and exact where N < D makes
    the covariances singular.

    The estimate is biased, upwards and the more the smaller N is: two samples of one Gaussian
    with D = 64 are 21.7 apart with N = 100 and 0.46 with N = 5,000. State N beside each value.

    Args:
        x: features (N, D) or their `FeatureStatistics`.
        y: likewise, with the same N.

    Raises:
        ValueError: fewer than 2 items, other than finite features, a covariance that is none,
            different D, different N.
    """
    p, q = _statistics(x), _statistics(y)
    check_same_size(len(p.mean), len(q.mean))
    if p.count != q.count:
        raise ValueError(
            "Both sets must have the same number of items: the bias of the Fréchet distance "
            "depends on it, so values of different N cannot be compared. Cut the larger set, or "
            "use `kernel_distance`, which has no bias. "
            f"Received: N={p.count} and N={q.count}"
        )
    a, b = _root(p.covariance), _root(q.covariance)  # (R, D), R the rank
    if p.count < MIN_FRECHET_COUNT:
        warnings.warn(
            f"The Fréchet distance of {p.count} items, fewer than {MIN_FRECHET_COUNT}, is biased "
            "upwards, by about what as many real items score: compare it at equal N only, or use "
            "`kernel_distance`, which has no bias.",
            stacklevel=2,
        )
    cross = np.linalg.svd(a @ b.T, compute_uv=False).sum()
    means = ((p.mean - q.mean) ** 2).sum()
    return max(float(means + (a**2).sum() + (b**2).sum() - 2.0 * cross), 0.0)


def _statistics(x: ArrayLike | FeatureStatistics) -> FeatureStatistics:
    if isinstance(x, FeatureStatistics):
        return x
    statistics = FeatureStatistics()
    statistics.update(as_features(x, minimum=2))
    return statistics


def _root(covariance: Array) -> Array:
    """A (R, D) with A^T A = covariance; directions that are only rounding are left out."""
    values, vectors = np.linalg.eigh(covariance)
    if values.min() < -ROUNDING * np.abs(values).max():
        raise ValueError(
            "A covariance must not have negative eigenvalues, which are variances. "
            f"Received: eigenvalues from {values.min():g} to {values.max():g}"
        )
    kept = values > values.max() * len(values) * np.finfo(np.float64).eps
    return (vectors[:, kept] * np.sqrt(values[kept])).T


def kernel_distance(
    x: ArrayLike, y: ArrayLike, subsets: int = 100, subset_size: int = 1000, seed: int = 0
) -> tuple[float, float]:
    """The squared maximum mean discrepancy with the kernel (x.y / D + 1)^3, unbiased.

    Bińkowski et al. 2018, https://arxiv.org/abs/1801.01401: the mean over random subsets, each
    drawn without replacement. It has no bias, so that sets of different N may be compared, and
    it is slightly negative now and then for sets that are alike.

    Args:
        x: features (N, D).
        y: features (M, D).
        subsets: how many subsets are drawn.
        subset_size: items of each set in a subset.
        seed: draws the subsets.

    Returns:
        The mean and the standard deviation over the subsets. The second is the standard error of
        one subset's value. That of the mean is smaller, but not by sqrt(subsets): subsets share
        items.

    Raises:
        ValueError: fewer than `subset_size` items, no subsets or subsets of one item, other than
            finite features, different D.
    """
    check_setting(subsets >= 1, "at least 1", subsets=subsets)
    check_setting(subset_size >= 2, "at least 2", subset_size=subset_size)
    x, y = as_feature_pair(x, y, minimum=subset_size)
    rng = np.random.default_rng(seed)
    values = []
    for _ in range(subsets):
        xs = x[rng.choice(len(x), subset_size, replace=False)]
        ys = y[rng.choice(len(y), subset_size, replace=False)]
        pairs = subset_size * (subset_size - 1)
        within = (_kernel_sum(xs, xs, diagonal=False) + _kernel_sum(ys, ys, diagonal=False)) / pairs
        values.append(within - 2.0 * _kernel_sum(xs, ys) / subset_size**2)
    return float(np.mean(values)), float(np.std(values))


def _kernel_sum(x: Array, y: Array, diagonal: bool = True) -> float:
    k = x @ y.T / x.shape[1] + 1.0
    total = np.vdot(k * k, k)  # a power of 3 by `**` takes ten times as long
    return total if diagonal else total - (np.diagonal(k) ** 3).sum()


def inception_score(
    probabilities: ArrayLike, splits: int = 10, seed: int = 0
) -> tuple[float, float]:
    """exp(E_x KL(p(y|x) || p(y))) of class probabilities.

    Salimans et al. 2016, https://arxiv.org/abs/1606.03498: the items are shuffled and split, and
    p(y) is the mean over a split. It is 1 at least and K at most, sees neither the real data nor
    a class that shows one single image, and says little about images unlike the classifier's.

    Args:
        probabilities: (N, K).
        splits: the number of parts.
        seed: shuffles the items.

    Returns:
        The mean and the standard deviation (of the population) over the splits.

    Raises:
        ValueError: fewer items than splits, no splits, rows that do not add up to 1.
    """
    check_setting(splits >= 1, "at least 1", splits=splits)
    p = as_probabilities(probabilities)
    check_count(len(p), splits)
    p = p[np.random.default_rng(seed).permutation(len(p))]
    scores = []
    for part in np.array_split(p, splits):
        marginal = part.mean(axis=0, keepdims=True)
        ratio = np.divide(part, marginal, out=np.ones_like(part), where=part > 0)  # 0 log 0 = 0
        scores.append(np.exp((part * np.log(ratio)).sum(axis=1).mean()))
    return float(np.mean(scores)), float(np.std(scores))
