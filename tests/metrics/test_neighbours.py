"""Metrics by nearest neighbours: golden numbers, the definitions, ties."""

import json

import golden
import numpy as np
import pytest

from keras_genai.metrics import (
    density_coverage,
    different_bins,
    memorisation,
    nearest_distances,
    neighbours,
    precision_recall,
)

GOLDEN = json.loads(golden.FILE.read_text("utf-8"))


def defined(real, fake, k, closed):
    """Precision, recall, density and coverage as the papers define them, on whole numbers."""
    between = lambda x, y: ((x[:, None] - y[None]) ** 2).sum(-1)  # noqa: E731
    real_balls = np.sort(between(real, real), axis=1)[:, k]
    fake_balls = np.sort(between(fake, fake), axis=1)[:, k]
    squared = between(real, fake)
    inside = np.less_equal if closed else np.less
    held = inside(squared, real_balls[:, None])
    precision, recall = held.any(0).mean(), inside(squared, fake_balls).any(1).mean()
    return precision, recall, held.sum() / (k * len(fake)), held.any(1).mean()


def measured(real, fake, k, closed):
    return (*precision_recall(real, fake, k, closed), *density_coverage(real, fake, k, closed))


@pytest.mark.parametrize("k", [3, 5])
@pytest.mark.parametrize("name", golden.NEIGHBOUR_SETS)
def test_equal_prdc(name, k):
    theirs = GOLDEN["prdc"][f"{name}, k={k}"]
    ours = measured(*golden.near_sets(*golden.NEIGHBOUR_SETS[name]), k, closed=False)
    names = ("precision", "recall", "density", "coverage")
    assert ours == pytest.approx([theirs[name] for name in names], abs=1e-12)


@pytest.mark.parametrize("scale", [1.0, 0.1])  # tenths are not exact, so ties come with rounding
@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("k", [1, 3, 5])
def test_equal_the_definition_where_distances_tie(k, closed, scale):
    rng = np.random.default_rng(k)
    real, fake = rng.integers(0, 9, (500, 3)), rng.integers(0, 11, (300, 3))
    fake[:20] = fake[0]  # one sample repeated: balls of radius 0
    expected = defined(real, fake, k, closed)
    shifted = [x * scale + 100.0 for x in (real, fake)]
    assert measured(*shifted, k, closed) == pytest.approx(expected, abs=1e-12)


def test_equal_sets():
    x = np.random.default_rng(0).normal(size=(300, 20)).astype("float32")
    assert measured(x, x[::-1], 5, closed=False) == (1.0, 1.0, 1.0, 1.0)
    assert measured(x, x[::-1], 5, closed=True) == pytest.approx((1.0, 1.0, 6 / 5, 1.0))
    assert measured(x, x + 100, 5, closed=True) == (0.0, 0.0, 0.0, 0.0)


def test_order_and_chunks_do_not_matter(monkeypatch):
    rng = np.random.default_rng(0)
    real, fake = rng.normal(size=(90, 4)), rng.normal(0.3, 1.0, size=(70, 4))
    whole = measured(real, fake, 3, closed=True)
    nearest = nearest_distances(fake, real)
    monkeypatch.setattr(neighbours, "CHUNK", 100)  # one row at a time
    assert measured(rng.permutation(real), rng.permutation(fake), 3, closed=True) == whole
    np.testing.assert_array_equal(nearest_distances(fake, real), nearest)


# Copies ------------------------------------------------------------------------------------------


def test_nearest_distances_are_exact():
    rng = np.random.default_rng(0)
    x, y = rng.normal(1e7, 1.0, (50, 9)), rng.normal(1e7, 1.0, (80, 9))
    x[7] = y[60]
    distances, indices = nearest_distances(x, y)
    brute = np.linalg.norm(x[:, None] - y[None], axis=-1)
    np.testing.assert_array_equal(indices, brute.argmin(axis=1))
    np.testing.assert_allclose(distances, brute.min(axis=1), rtol=1e-12)
    assert distances[7] == 0.0


def test_memorisation_of_unseen_of_copied_and_of_half_copied():
    rng = np.random.default_rng(0)
    train, test, unseen = rng.normal(size=(3, 1000, 8))
    found = memorisation(unseen, train, test)
    assert found.closer == pytest.approx(0.5, abs=0.04) and found.duplicates == 0.0
    copies = memorisation(train[:400] + 0.001, train, test)
    assert (copies.closer, copies.duplicates) == (1.0, 1.0)
    np.testing.assert_array_equal(copies.indices, np.arange(400))
    half = memorisation(np.concatenate([train[:400], unseen[:400]]), train, test)
    assert half.closer == pytest.approx(0.75, abs=0.04) and half.duplicates == 0.5
    assert memorisation(3 * unseen, train, test).closer < 0.1


def test_the_standard_error_of_closer_is_its_deviation_over_draws():
    """For samples of one kind with unseen items, and for others; sets of two sizes."""
    rng = np.random.default_rng(0)
    train = rng.normal(size=(100, 2))
    for scale in (1.0, 4.0):
        draws = [
            memorisation(scale * rng.normal(size=(80, 2)), train, rng.normal(size=(40, 2)))
            for _ in range(200)
        ]
        deviation = np.std([draw.closer for draw in draws])
        assert np.mean([draw.standard_error for draw in draws]) == pytest.approx(deviation, rel=0.2)
    assert memorisation(train, train, 9 + train).standard_error == 0.0


def test_memorisation_counts_ties_half():
    train, test = np.zeros((1, 1)), np.array([[1.0], [2.0], [3.0], [4.0]])
    assert memorisation([[2.0]], train, test).closer == 2.5 / 4


# Bins --------------------------------------------------------------------------------------------


def test_different_bins_of_clusters_by_hand():
    rng = np.random.default_rng(0)
    centres = 100.0 * np.eye(4)

    def of(counts):
        return np.repeat(centres, counts, axis=0) + rng.normal(size=(sum(counts), 4))

    real = of([250, 250, 250, 250])
    assert different_bins(real, real, bins=4) == (0.0, 0.0)
    # Two bins differ by 0.05 and 0.06 from 0.25. The test's borders are at
    # 1.96 sqrt(2 p (1 - p) / 1000), about 0.037; the third differs by 0.01.
    share, divergence = different_bins(real, of([300, 190, 260, 250]), bins=4)
    assert share == 0.5
    p, q = np.full(4, 0.25), np.array([0.3, 0.19, 0.26, 0.25])
    m = (p + q) / 2
    expected = ((p * np.log(p / m)).sum() + (q * np.log(q / m)).sum()) / 2
    assert divergence == pytest.approx(expected)
    assert different_bins(real, of([284, 216, 250, 250]), bins=4).share == 0.0  # 1.7 and 1.8 sigma
    assert different_bins(real, of([284, 216, 250, 250]), bins=4, alpha=0.1).share == 0.5
    assert different_bins(real, of([0, 1000, 0, 0]), bins=4).share == 1.0
    assert different_bins(real, real + 1e6, bins=4).jensen_shannon < np.log(2)


def test_bins_are_those_of_k_means_that_has_converged():
    x = np.random.default_rng(0).normal(size=(400, 3))
    centres, bins = neighbours._k_means(x, 10, np.random.default_rng(0))
    np.testing.assert_allclose(centres, [x[bins == k].mean(axis=0) for k in range(10)])
    np.testing.assert_array_equal(bins, ((x[:, None] - centres) ** 2).sum(-1).argmin(axis=1))


def test_alike_sets_differ_in_alpha_of_the_bins():
    rng = np.random.default_rng(0)
    sets = rng.normal(size=(8, 2, 4000, 4))
    shares = [different_bins(real, fake, bins=50).share for real, fake in sets]
    assert 0.02 < np.mean(shares) < 0.09
    assert different_bins(sets[0, 0], 1.3 * sets[0, 1], bins=50).share > 0.3
