"""Metrics of ranked lists against numbers by hand, and against all orders that ties allow."""

import itertools
import math

import numpy as np
import pytest

from keras_genai.metrics import ndcg_at_k, recall_at_k

LOG3, LOG5 = 1 / math.log2(3), 1 / math.log2(5)


def test_by_hand():
    scores = np.array([[5.0, 4.0, 3.0, 2.0, 1.0]])
    targets = np.array([[False, True, False, True, False]])  # at ranks 2 and 4
    for k, recall, dcg, ideal in (
        (1, 0, 0, 1),
        (2, 1 / 2, LOG3, 1 + LOG3),
        (4, 1, LOG3 + LOG5, 1 + LOG3),
        (5, 1, LOG3 + LOG5, 1 + LOG3),
    ):
        assert recall_at_k(scores, targets, k) == pytest.approx([recall])
        assert ndcg_at_k(scores, targets, k) == pytest.approx([dcg / ideal])
    # With more targets than places, a full list is the best there is.
    assert recall_at_k(scores, np.ones((1, 5), bool), 2) == ndcg_at_k(scores, scores > 0, 2) == 1


def one_order(order, targets, k):
    """Both metrics of a list, from their equations."""
    hits = [targets[item] for item in order[:k]]
    ideal = sum(1 / math.log2(r + 1) for r in range(1, min(k, sum(targets)) + 1))
    dcg = sum(hit / math.log2(r + 1) for r, hit in enumerate(hits, 1))
    return sum(hits) / min(k, sum(targets)), dcg / ideal


@pytest.mark.parametrize("seed", range(5))
def test_ties_are_the_mean_over_their_orders(seed):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 3, (4, 6)).astype(float)
    targets = rng.random((4, 6)) < 0.4
    targets[:, 0] = True
    for k in (1, 2, 3, 6):
        expected = []
        for row, wanted in zip(scores, targets, strict=True):
            orders = np.array([*itertools.permutations(range(6))])
            orders = orders[(np.diff(row[orders]) <= 0).all(axis=1)]
            expected.append(np.mean([one_order(o, wanted, k) for o in orders], axis=0))
        found = np.stack([recall_at_k(scores, targets, k), ndcg_at_k(scores, targets, k)], 1)
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_without_ties_sorting_gives_the_same_and_order_of_items_does_not_matter():
    rng = np.random.default_rng(0)
    scores, targets = rng.normal(size=(20, 50)), rng.random((20, 50)) < 0.2
    targets[:, 0] = True
    scores[rng.random((20, 50)) < 0.1] = -np.inf
    scores[targets] = rng.normal(size=targets.sum())
    shuffled = rng.permutation(50)
    for metric, place in ((recall_at_k, 0), (ndcg_at_k, 1)):
        orders = np.argsort(-scores, axis=1)
        expected = [one_order(o, t, 10)[place] for o, t in zip(orders, targets, strict=True)]
        np.testing.assert_allclose(metric(scores, targets, 10), expected)
        np.testing.assert_allclose(metric(scores[:, shuffled], targets[:, shuffled], 10), expected)


@pytest.mark.parametrize("metric", [recall_at_k, ndcg_at_k])
def test_what_has_no_value_is_refused(metric):
    scores, targets = np.arange(6.0).reshape(2, 3), np.ones((2, 3), bool)
    for k in (0, 4):
        with pytest.raises(ValueError, match=rf"1 to 3, the number of items.*Received: k={k}$"):
            metric(scores, targets, k)
    with pytest.raises(ValueError, match=r"at least one target.*Received: 1 of 2 users"):
        metric(scores, np.array([[True] * 3, [False] * 3]), 2)
    with pytest.raises(ValueError, match=r"Received: 6 NaN"):
        metric(scores * np.nan, targets, 2)
    for wrong in (targets[:1], targets.astype(int)):
        with pytest.raises(ValueError, match=r"shape \(N, I\).*Received: "):
            metric(scores, wrong, 2)
