"""Fréchet and kernel distances and the Inception Score: closed forms, golden numbers, order."""

import json

import golden
import numpy as np
import pytest

from keras_genai.metrics import (
    FeatureStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
)

GOLDEN = json.loads(golden.FILE.read_text("utf-8"))
few = pytest.mark.filterwarnings("ignore:The Fréchet distance")


def gaussian(mean, covariance, count=10_000):
    return FeatureStatistics(mean, covariance, count)


def gathered(batches):
    statistics = FeatureStatistics()
    for batch in batches:
        statistics.update(batch)
    return statistics


# Fréchet distance --------------------------------------------------------------------------------


def test_gaussians_on_the_axes():
    p = gaussian([1.0, 2.0, 3.0], np.diag([4.0, 9.0, 0.0]))
    q = gaussian([1.0, 0.0, 6.0], np.diag([1.0, 9.0, 16.0]))
    assert frechet_distance(p, q) == pytest.approx(4 + 9 + (2 - 1) ** 2 + 0 + 4**2, rel=1e-14)


def test_gaussians_whose_covariances_do_not_commute():
    a, b = np.array([[2.0, 1.0], [1.0, 3.0]]), np.array([[5.0, -2.0], [-2.0, 1.0]])
    # The square root of a 2x2 matrix M has the trace sqrt(Tr M + 2 sqrt(det M)).
    root = np.sqrt(np.trace(a @ b) + 2 * np.sqrt(np.linalg.det(a) * np.linalg.det(b)))
    distance = frechet_distance(gaussian([0, 0], a), gaussian([1, 2], b))
    assert distance == pytest.approx(5 + 5 + 6 - 2 * root, rel=1e-13)


@few
@pytest.mark.parametrize("name", golden.SETS)
def test_equals_the_formula_in_sixty_digits(name):
    x, y = golden.feature_sets(*golden.SETS[name])
    assert frechet_distance(x, y) == pytest.approx(GOLDEN["frechet"][name], rel=1e-10)
    assert frechet_distance(y, x) == pytest.approx(GOLDEN["frechet"][name], rel=1e-10)


@few
@pytest.mark.parametrize(("n", "d"), [(2, 50), (40, 64), (64, 64), (65, 64), (400, 64)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_equal_sets_are_0_apart_in_any_order(n, d, offset):
    rng = np.random.default_rng(0)
    x = rng.gamma(0.5, 10.0, (n, d)) + offset
    x[:, :3] = 0.0  # units that never fire
    assert 0.0 <= frechet_distance(x, x) < 1e-6
    assert 0.0 <= frechet_distance(x, x[rng.permutation(n)]) < 1e-6
    assert 0.0 <= frechet_distance(x, x.astype("float64") + 1e-9) < 1e-6


@few
def test_constant_sets_are_as_far_apart_as_their_means():
    assert frechet_distance(np.zeros((5, 3)), np.ones((5, 3))) == 3.0


@few
def test_fewer_items_than_features_equal_the_same_without_the_empty_directions():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 30, 5))
    directions = np.linalg.qr(rng.normal(size=(200, 5)))[0].T  # (5, 200), orthonormal
    expected = frechet_distance(x, y)
    assert frechet_distance(x @ directions, y @ directions) == pytest.approx(expected, rel=1e-9)


@few
@pytest.mark.parametrize("offset", [0.0, 1e6])
def test_streaming_and_merging_equal_the_whole(offset):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(100, 6)) @ rng.normal(size=(6, 6)) + offset
    whole = gathered([x])
    halves = gathered([x[:1], x[1:8], x[8:61]]), gathered(np.split(x[61:], 13))
    halves[0].merge(halves[1])
    halves[0].merge(FeatureStatistics())
    single = gathered(x[rng.permutation(100), None])
    for statistics in (whole, halves[0], single):
        assert statistics.count == 100
        np.testing.assert_allclose(statistics.mean, x.mean(0), rtol=1e-12)
        np.testing.assert_allclose(statistics.covariance, np.cov(x.T), rtol=1e-8, atol=1e-8)
        assert frechet_distance(statistics, x) < 1e-6
    with pytest.raises(ValueError, match=r"Received: D=6 and D=5$"):
        whole.update(x[:, :5])


def test_statistics_are_their_own_copy():
    x = np.random.default_rng(0).normal(size=(10, 2))
    first, second = gathered([x]), FeatureStatistics()
    second.merge(first)
    before = first.covariance
    second.update(x + 1)
    np.testing.assert_array_equal(first.covariance, before)


@few
def test_statistics_computed_in_float32_are_taken():
    x = np.random.default_rng(0).normal(size=(40, 64)).astype("float32") + 3
    mean, single = x.mean(axis=0), (x - x.mean(axis=0)).T @ (x - x.mean(axis=0)) / np.float32(39)
    assert np.linalg.eigvalsh(single).min() < 0.0
    distance = frechet_distance(FeatureStatistics(mean, single, 40), x)
    assert distance == pytest.approx(0.0, abs=1e-3)


def test_different_numbers_of_items_are_refused():
    x = np.random.default_rng(0).normal(size=(30, 2))
    with pytest.raises(ValueError, match=r"bias .*kernel_distance.*Received: N=30 and N=29$"):
        frechet_distance(x, x[1:])
    with pytest.raises(ValueError, match=r"Received: N=30 and N=10000$"):
        frechet_distance(x, gaussian([0, 0], np.eye(2)))


def test_few_items_are_warned_of_where_they_are_compared():
    x = np.random.default_rng(0).normal(size=(2048, 2))
    with pytest.warns(UserWarning, match="2047 items, fewer than 2048.*kernel_distance") as caught:
        frechet_distance(x[1:], x[1:])
    assert caught[0].filename == __file__
    frechet_distance(x, x)


@few
def test_bias_is_what_the_documentation_says():
    rng = np.random.default_rng(0)
    distances = [frechet_distance(*rng.normal(size=(2, n, 64))) for n in (100, 5000)]
    assert distances == pytest.approx([21.7, 0.46], rel=0.1)


# Kernel distance ---------------------------------------------------------------------------------


def test_kernel_distance_of_a_single_subset_equals_the_definition():
    x, y = np.random.default_rng(0).normal(size=(2, 7, 3)) + [[[0.0]], [[1.0]]]
    n = len(x)
    k = lambda a, b: (a @ b / 3 + 1) ** 3  # noqa: E731
    within = sum(k(s[i], s[j]) for s in (x, y) for i in range(n) for j in range(n) if i != j)
    across = sum(k(a, b) for a in x for b in y)
    mean, std = kernel_distance(x, y, subsets=3, subset_size=n)
    assert mean == pytest.approx(within / (n * (n - 1)) - 2 * across / n**2, rel=1e-12)
    assert std == pytest.approx(0.0, abs=1e-12)


def test_kernel_distance_has_no_bias_whatever_the_numbers():
    rng = np.random.default_rng(0)
    # D = 1: 3 (m1 - m1')^2 + 3 (m2 - m2')^2 + (m3 - m3')^2 of the moments 1, 2, 3
    expected = 3 * 0.5**2 + 3 * 0.25**2 + (0.5**3 + 3 * 0.5) ** 2
    means = [
        kernel_distance(rng.normal(size=(60, 1)), rng.normal(0.5, 1, (90, 1)), 20, 50)[0]
        for _ in range(400)
    ]
    assert np.mean(means) == pytest.approx(expected, abs=3 * np.std(means) / 20)
    equal = [
        kernel_distance(*rng.normal(size=(2, 60, 4)), subsets=5, subset_size=50)[0]
        for _ in range(400)
    ]
    assert abs(np.mean(equal)) < 3 * np.std(equal) / 20
    assert min(equal) < 0.0


def test_kernel_distance_depends_on_its_seed_alone():
    x, y = np.random.default_rng(0).normal(size=(2, 200, 4))
    state = np.random.get_state()[1].copy()
    first = kernel_distance(x, y, 5, 50)
    assert kernel_distance(x, y, 5, 50) == first != kernel_distance(x, y, 5, 50, seed=1)
    np.testing.assert_array_equal(np.random.get_state()[1], state)


# Inception Score ---------------------------------------------------------------------------------


def test_inception_score_of_sure_and_of_undecided_classifiers():
    sure = np.eye(10)[np.arange(1000) % 10]
    mean, _ = inception_score(sure, splits=1)
    assert mean == pytest.approx(10.0, rel=1e-12)
    assert inception_score(sure[np.argsort(sure.argmax(1))])[0] > 9.0  # shuffled before the split
    assert inception_score(np.full((1000, 10), 0.1)) == pytest.approx((1.0, 0.0))
    assert inception_score(sure[:1].repeat(1000, 0)) == pytest.approx((1.0, 0.0))


def test_inception_score_by_hand_and_over_splits():
    p = np.array([[0.5, 0.5, 0.0], [0.0, 0.5, 0.5]])
    # p(y) = (1/4, 1/2, 1/4), so each item's divergence is 1/2 log 2 + 1/2 log 1.
    assert inception_score(p, splits=1)[0] == pytest.approx(np.sqrt(2.0))
    mean, std = inception_score(p, splits=2)
    assert (mean, std) == pytest.approx((1.0, 0.0))  # a split of one item tells nothing


def test_inception_score_refuses_logits():
    with pytest.raises(ValueError, match=r"softmax.*Received: values from -1 to 3, rows"):
        inception_score([[3.0, -1.0], [0.0, 0.0]])
