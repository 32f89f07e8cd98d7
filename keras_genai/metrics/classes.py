"""Metrics by the classes that a classifier sees in real items and in samples.

Probabilities are (N, K), rows that add up to 1; an item counts for its most probable class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, as_labels, as_probabilities, check_setting
from keras_genai.metrics.neighbours import nearest_distances

Predict = Callable[[Array], Array]


def class_accuracy(probabilities: ArrayLike, labels: ArrayLike) -> float:
    """The share of samples that the classifier takes for the class they were asked for.

    Args:
        probabilities: (N, K), of samples.
        labels: (N,), the classes that were asked for.
    """
    p = as_probabilities(probabilities)
    return float((p.argmax(axis=1) == as_labels(labels, len(p))).mean())


def total_variation(real: ArrayLike, fake: ArrayLike) -> float:
    """Half the summed differences between the classes' shares: 0 if equal, 1 if disjoint.

    It sees classes that are missing or too frequent, and nothing else. Its bias grows as N falls:
    about sqrt(K / N) / 2 for N samples of each of two equal distributions.

    Args:
        real: probabilities (N, K) of real items.
        fake: probabilities (M, K) of samples.
    """
    p, q = _shares(real, fake)
    return float(np.abs(p - q).sum() / 2)


def modes_covered(real: ArrayLike, fake: ArrayLike, least: float = 0.1) -> int:
    """The number of classes that samples show at least `least` times as often as real items.

    The count of modes of Srivastava et al. 2017, https://arxiv.org/abs/1705.07761, which asks for
    one single sample; a classifier that errs now and then would find that in any class.

    Args:
        real: probabilities (N, K) of real items.
        fake: probabilities (M, K) of samples.
        least: the share of a class's real frequency that counts as covered.
    """
    check_setting(0 < least <= 1, "above 0 and at most 1", least=least)
    p, q = _shares(real, fake)
    return int(((q >= least * p) & (p > 0)).sum())


def _shares(real: ArrayLike, fake: ArrayLike) -> tuple[Array, Array]:
    """The share of each class (K,) in both sets."""
    p, q = as_probabilities(real), as_probabilities(fake)
    if p.shape[1] != q.shape[1]:
        raise ValueError(
            "Both sets must have probabilities of the same classes: take them from the same "
            f"classifier. Received: K={p.shape[1]} and K={q.shape[1]}"
        )
    count = p.shape[1]
    p, q = (np.bincount(x.argmax(axis=1), minlength=count) / len(x) for x in (p, q))
    return p, q


def nearest_neighbour(items: Array, labels: Array) -> Predict:
    """A classifier by the nearest of the items (N, D): a function from (M, D) to labels (M,)."""
    return lambda x: labels[nearest_distances(x, items)[1]]


def classification_accuracy_score(
    samples: ArrayLike,
    labels: ArrayLike,
    real: ArrayLike,
    real_labels: ArrayLike,
    train: Callable[[Array, Array], Predict] = nearest_neighbour,
) -> float:
    """The accuracy on real items of a classifier trained on samples alone.

    Ravuri and Vinyals 2019, https://arxiv.org/abs/1905.10887. Samples that lack variety or carry
    the wrong label teach the classifier less than real items do: state both numbers.

    Args:
        samples: (N, ...), features for the default classifier, whatever `train` takes otherwise.
        labels: (N,), the classes that were asked for.
        real: (M, ...), held-out real items.
        real_labels: (M,).
        train: from items and labels to a function that predicts labels (M,). By default the
            nearest neighbour, which needs no training; the paper trains a ResNet-50.
    """
    samples, real = np.asarray(samples), np.asarray(real)
    labels, real_labels = as_labels(labels, len(samples)), as_labels(real_labels, len(real))
    return float((train(samples, labels)(real) == real_labels).mean())
