"""Metrics by nearest neighbours: what is covered, what is made up, what is copied.

Distances are Euclidean, between features (N, D), computed in float64 in chunks of rows: memory
does not grow with N x M.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, as_feature_pair, check_setting

CHUNK = 1 << 22  # distances held at a time, 32 MB
# Squared distances that differ by less, relative to the squared norms they are computed from,
# differ by rounding. Copies of an item must count as equally far from everything.
ROUNDING = 1e-11


def precision_recall(
    real: ArrayLike, fake: ArrayLike, k: int = 3, closed: bool = True
) -> tuple[float, float]:
    """The share of fakes that look real, and the share of real items that fakes come near.

    Kynkäänniemi et al. 2019, https://arxiv.org/abs/1904.06991, equations 1 and 2. A ball around
    each item reaches to its k-th nearest neighbour in its own set. Precision: fakes in a ball of a
    real item. Recall: real items in a ball of a fake. Both depend on N, recall the more.

    Args:
        real: features (N, D).
        fake: features (M, D).
        k: the neighbour that sets the radius, not counting the item itself.
        closed: whether a ball holds its surface (<=, the paper) or not (<, the package `prdc`).

    Raises:
        ValueError: at most `k` items a set, k < 1, other than finite features, different D.
    """
    check_setting(k >= 1, "at least 1", k=k)
    real, fake = _centred(real, fake, k)
    real_balls, fake_balls = _balls(real, k, closed), _balls(fake, k, closed)
    precise, recalled = np.zeros(len(fake), bool), np.zeros(len(real), bool)
    for rows, squared in _squared_distances(real, fake):
        precise |= (squared <= real_balls[rows, None]).any(axis=0)
        recalled[rows] = (squared <= fake_balls).any(axis=1)
    return float(precise.mean()), float(recalled.mean())


def density_coverage(
    real: ArrayLike, fake: ArrayLike, k: int = 5, closed: bool = False
) -> tuple[float, float]:
    """How many real balls hold a fake on average, and the share of real balls that hold any.

    Naeem et al. 2020, https://arxiv.org/abs/2002.09797, with balls as in `precision_recall`
    around real items only. Density is divided by k: about 1 for fakes like the
    real items, exactly 1 for equal sets with `closed=False`, and not bounded by 1.

    Args:
        real: features (N, D).
        fake: features (M, D).
        k: the neighbour that sets the radius, not counting the item itself.
        closed: whether a ball holds its surface (<=) or not (<, the authors' package `prdc`).

    Raises:
        ValueError: at most `k` items a set, k < 1, other than finite features, different D.
    """
    check_setting(k >= 1, "at least 1", k=k)
    real, fake = _centred(real, fake, k)
    balls = _balls(real, k, closed)
    held, covered = 0.0, np.zeros(len(real), bool)
    for rows, squared in _squared_distances(real, fake):
        inside = squared <= balls[rows, None]
        held += float(np.count_nonzero(inside))
        covered[rows] = inside.any(axis=1)
    return held / (k * len(fake)), float(covered.mean())


def _centred(real: ArrayLike, fake: ArrayLike, k: int) -> tuple[Array, Array]:
    """Both sets around the real mean, which leaves distances and spares them rounding."""
    real, fake = as_feature_pair(real, fake, minimum=k + 1)
    mean = real.mean(axis=0)
    return real - mean, fake - mean


def _balls(x: Array, k: int, closed: bool) -> Array:
    """Squared radii (N,) to compare with by <=: of the k-th neighbours, moved by the rounding."""
    nearest = [np.partition(d, k, axis=1)[:, k] for _, d in _squared_distances(x, x)]
    squared = np.maximum(np.concatenate(nearest), 0.0)
    slack = ROUNDING * (_squared_norms(x) + squared)
    return squared + slack if closed else squared - slack


def _squared_distances(x: Array, y: Array) -> Iterator[tuple[slice, Array]]:
    """Yields rows of x and their squared distances (rows, M) to y, to rounding."""
    x_norms, y_norms = _squared_norms(x), _squared_norms(y)
    step = max(1, CHUNK // len(y))
    for start in range(0, len(x), step):
        rows = slice(start, start + step)
        squared = x[rows] @ y.T
        squared *= -2.0
        squared += x_norms[rows, None]
        squared += y_norms
        yield rows, squared


def _squared_norms(x: Array) -> Array:
    return np.einsum("nd,nd->n", x, x)


def nearest_distances(x: ArrayLike, y: ArrayLike) -> tuple[Array, Array]:
    """Of each item of x, the distance to its nearest neighbour in y and that one's number.

    Args:
        x: features (N, D).
        y: features (M, D).

    Returns:
        Distances (N,), exactly 0 for copies, and indices (N,) into y.
    """
    x, y = as_feature_pair(x, y)
    mean = y.mean(axis=0)
    pairs = _squared_distances(x - mean, y - mean)
    indices = np.concatenate([squared.argmin(axis=1) for _, squared in pairs])
    return np.linalg.norm(x - y[indices], axis=1), indices


class Memorisation(NamedTuple):
    """What `memorisation` finds.

    Attributes:
        closer: the chance that a sample lies nearer to the training items than an unseen item
            does: 0.5 for samples like unseen items, 1 for copies.
        duplicates: the share of samples that are copies.
        distances: of each sample to its nearest training item (N,).
        indices: the numbers of these training items (N,).
        standard_error: of `closer`, over draws of samples and of unseen items; 0 where the
            distances of the two do not overlap, which gives no estimate.
    """

    closer: float
    duplicates: float
    distances: Array
    indices: Array
    standard_error: float


def memorisation(
    samples: ArrayLike, train: ArrayLike, test: ArrayLike, tolerance: float = 0.1
) -> Memorisation:
    """Whether samples are nearer to the training items than unseen items are.

    `closer` is the statistic of Meehan, Chaudhuri and Dasgupta 2020,
    https://arxiv.org/abs/2004.05675, with a single cell: P(d(sample) < d(test)) over
    all pairs, ties half. Below 0.5 samples lie further out than unseen items: not copied, not good.
    Its standard error is that of DeLong, DeLong and Clarke-Pearson 1988,
    https://doi.org/10.2307/2531595, for one curve: each item wins a share of its pairs, and the
    variances of these shares, each divided by the size of its set, are added up.

    Args:
        samples: features (N, D) of samples.
        train: features of what the model was trained on.
        test: features of what it has not seen.
        tolerance: a sample is a copy if its distance is at most this share of the median distance
            of unseen items.
    """
    check_setting(tolerance >= 0, "at least 0", tolerance=tolerance)
    distances, indices = nearest_distances(samples, train)
    unseen = nearest_distances(test, train)[0]
    of_samples = 1.0 - _share_below(unseen, distances)  # of unseen items further out
    of_unseen = _share_below(distances, unseen)  # of samples nearer
    variances = (x.var(ddof=min(1, len(x) - 1)) / len(x) for x in (of_samples, of_unseen))
    duplicates = (distances <= tolerance * np.median(unseen)).mean()
    error = math.sqrt(sum(variances))
    return Memorisation(float(of_samples.mean()), float(duplicates), distances, indices, error)


def _share_below(x: Array, limits: Array) -> Array:
    """Of each limit (M,), the share of x (N,) that lies below it; what is equal counts half."""
    x = np.sort(x)
    return (np.searchsorted(x, limits, "left") + np.searchsorted(x, limits, "right")) / (2 * len(x))


class DifferentBins(NamedTuple):
    """What `different_bins` finds.

    Attributes:
        share: differing bins among all (NDB/K): about alpha for samples of the same distribution.
        jensen_shannon: the divergence of the two histograms in nats, 0 to log 2.
    """

    share: float
    jensen_shannon: float


def different_bins(
    real: ArrayLike, fake: ArrayLike, bins: int = 100, alpha: float = 0.05, seed: int = 0
) -> DifferentBins:
    """The number of statistically different bins, as a share of all bins.

    Richardson and Weiss 2018, https://arxiv.org/abs/1805.12462: k-means cuts the real
    items into bins, each item counts for its nearest centre, and a two-proportion z-test at level
    alpha tells the bins of which the fakes have too many or too few. Few items hide differences:
    state N.

    Args:
        real: features (N, D).
        fake: features (M, D).
        bins: the number of centres.
        alpha: the level of each test.
        seed: draws the first centres.

    Raises:
        ValueError: fewer items than bins or no bins, alpha not between 0 and 1, other than finite
            features, different D.
    """
    check_setting(bins >= 1, "at least 1", bins=bins)
    check_setting(0 < alpha < 1, "between 0 and 1", alpha=alpha)
    real, fake = _centred(real, fake, bins - 1)
    centres, real_bins = _k_means(real, bins, np.random.default_rng(seed))
    p = np.bincount(real_bins, minlength=bins) / len(real)
    q = np.bincount(_nearest(fake, centres), minlength=bins) / len(fake)
    both = (p * len(real) + q * len(fake)) / (len(real) + len(fake))
    error = np.sqrt(both * (1.0 - both) * (1.0 / len(real) + 1.0 / len(fake)))
    different = np.abs(p - q) > NormalDist().inv_cdf(1.0 - alpha / 2) * error
    middle = (p + q) / 2
    return DifferentBins(float(different.mean()), (_relative(p, middle) + _relative(q, middle)) / 2)


def _relative(p: Array, q: Array) -> float:
    """The relative entropy KL(p || q) in nats."""
    held = p > 0
    return float((p[held] * np.log(p[held] / q[held])).sum())


def _nearest(x: Array, centres: Array) -> Array:
    return np.concatenate([d.argmin(axis=1) for _, d in _squared_distances(x, centres)])


def _k_means(x: Array, k: int, rng: np.random.Generator, steps: int = 50) -> tuple[Array, Array]:
    """Lloyd's algorithm from k random items: centres (K, D) and the bin of each item (N,)."""
    centres = x[rng.choice(len(x), k, replace=False)]
    bins = _nearest(x, centres)
    for _ in range(steps):
        sums = np.zeros_like(centres)
        np.add.at(sums, bins, x)
        counts = np.bincount(bins, minlength=k)
        centres = np.where(counts[:, None] > 0, sums / np.maximum(counts, 1)[:, None], centres)
        before, bins = bins, _nearest(x, centres)
        if np.array_equal(before, bins):
            break
    return centres, bins
