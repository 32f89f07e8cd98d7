"""The mutual information gap, where it is known."""

import numpy as np
import pytest

from keras_genai.metrics import mutual_information_gap

GRID = np.array([*np.ndindex(4, 3, 5)], float)  # every combination once: independent factors


def test_a_latent_for_each_factor_scores_1():
    codes = np.stack([-3 * GRID[:, 2], GRID[:, 0], np.zeros(60), GRID[:, 1] ** 2], 1)
    assert mutual_information_gap(codes, GRID) == pytest.approx(1.0)


def test_latents_that_know_nothing_score_about_0():
    rng = np.random.default_rng(0)
    factors = np.stack([rng.integers(0, k, 10_000) for k in (3, 6, 40)], 1)
    assert 0 <= mutual_information_gap(rng.normal(size=(10_000, 10)), factors) < 0.01


def test_a_factor_in_two_latents_scores_0():
    codes = np.stack([GRID[:, 0], -GRID[:, 0]], 1)
    assert mutual_information_gap(codes, GRID[:, :1]) == pytest.approx(0.0)


def test_half_a_factor():
    """One latent tells four values apart, another halves of them: 1 - log 2 / log 4."""
    values = np.arange(4.0).repeat(5)
    codes = np.stack([values, values // 2], 1)
    assert mutual_information_gap(codes, values[:, None]) == pytest.approx(0.5)


def test_a_latent_that_mixes_two_factors_reads_both():
    """Not asked for: that a latent serve one factor only."""
    codes = np.stack([GRID[:, 0] + 4 * GRID[:, 1], np.zeros(60)], 1)
    assert mutual_information_gap(codes, GRID[:, :2]) == pytest.approx(1.0)


def test_bins_are_of_equal_width():
    factor = np.array([0.0, 1, 0, 1])[:, None]
    near, far = ([[0, 0], [1, 0], [0, 0], [last, 0]] for last in (1.0, 100.0))
    assert mutual_information_gap(near, factor, bins=2) == pytest.approx(1.0)
    # Three of four values fall into the first bin: I = log 2 - 3/4 H(1/3).
    h = -(np.log(1 / 3) / 3 + 2 * np.log(2 / 3) / 3)
    expected = 1 - 0.75 * h / np.log(2)
    assert mutual_information_gap(far, factor, bins=2) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("latents", "factors", "message"),
    [
        (GRID[:, :1], GRID, r"at least 2. Received: latents \(60, 1\), factors \(60, 3\)"),
        (GRID[1:], GRID, r"same N items.*latents \(59, 3\)"),
        (GRID, 0 * GRID, "must vary.*one value in all 60 items"),
        (GRID, np.nan * GRID, "finite.*NaN or Inf"),
    ],
)
def test_what_does_not_fit_is_refused(latents, factors, message):
    with pytest.raises(ValueError, match=message):
        mutual_information_gap(latents, factors)
    with pytest.raises(ValueError, match="`bins` must be at least 2. Received: bins=1"):
        mutual_information_gap(GRID, GRID, bins=1)
