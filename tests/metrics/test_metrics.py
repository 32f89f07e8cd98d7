"""What all metrics share: what importing them costs, what they refuse."""

import subprocess
import sys

import numpy as np
import pytest

from keras_genai import metrics

PAIRS = [
    metrics.density_coverage,
    metrics.different_bins,
    metrics.frechet_distance,
    metrics.kernel_distance,
    metrics.precision_recall,
]
TOO_FEW = {  # the metric with its settings: how many items it needs
    "frechet_distance": (lambda x: metrics.frechet_distance(x, x), 2),
    "kernel_distance": (lambda x: metrics.kernel_distance(x, x, subset_size=20), 20),
    "precision_recall": (lambda x: metrics.precision_recall(x, x, k=3), 4),
    "density_coverage": (lambda x: metrics.density_coverage(x, x, k=5), 6),
    "different_bins": (lambda x: metrics.different_bins(x, x, bins=10), 10),
    "nearest_distances": (lambda x: metrics.nearest_distances(x, x), 1),
    "inception_score": (lambda x: metrics.inception_score(x / x.sum(1)[:, None], splits=7), 7),
    "covariance": (lambda x: _covariance(x), 2),
}


def _covariance(x):
    statistics = metrics.FeatureStatistics()
    if len(x):
        statistics.update(x)
    return statistics.covariance


X = np.random.default_rng(0).normal(size=(20, 3))
P = np.full((20, 2), 0.5)
ONE, NAN = np.eye(2), float("nan")


def _frechet(mean, covariance, count=20):
    return metrics.frechet_distance(*[metrics.FeatureStatistics(mean, covariance, count)] * 2)


REFUSED = [  # a call, the name in its message and what that says was received
    (lambda: metrics.kernel_distance(X, X, subsets=0), "subsets", "subsets=0"),
    (lambda: metrics.kernel_distance(X, X, subset_size=1), "subset_size", "subset_size=1"),
    (lambda: metrics.inception_score(P, splits=0), "splits", "splits=0"),
    (lambda: metrics.precision_recall(X, X, k=0), "k", "k=0"),
    (lambda: metrics.precision_recall(X, X, k=-1), "k", "k=-1"),
    (lambda: metrics.density_coverage(X, X, k=0), "k", "k=0"),
    (lambda: metrics.different_bins(X, X, bins=0), "bins", "bins=0"),
    (lambda: metrics.different_bins(X, X, bins=5, alpha=0), "alpha", "alpha=0"),
    (lambda: metrics.different_bins(X, X, bins=5, alpha=NAN), "alpha", "alpha=nan"),
    (lambda: metrics.memorisation(X, X, X, tolerance=-0.1), "tolerance", "tolerance=-0.1"),
    (lambda: metrics.modes_covered(P, P, least=0.0), "least", "least=0.0"),
    (lambda: metrics.self_bleu(["a b"], num_samples=1), "num_samples", "num_samples=1"),
    (lambda: metrics.self_bleu(["a b"] * 2, 0, 2, 2), "n", "n=0"),
    (lambda: metrics.distinct_n(["a b"], 3, 1, 2), "num_tokens", "num_tokens=2"),
    (lambda: metrics.distinct_n(["a b"], 2, 0, 2), "num_samples", "num_samples=0"),
    (lambda: metrics.importance_nll(np.zeros((0, 3))), "K draws", r"shape \(0, 3\), 0 NaN"),
    (lambda: metrics.bits_per_dimension([1.0, NAN], 4, 1.0), "finite", "NaN or Inf in 1 of 2"),
    (lambda: metrics.bits_per_dimension([], 4, 1.0), "at least one", "NaN or Inf in 0 of 0"),
    (lambda: metrics.bits_per_dimension([1.0], 0, 1.0), "dimensions", "dimensions=0"),
    (lambda: metrics.bits_per_dimension([1.0], 4, 0), "levels_per_unit", "levels_per_unit=0"),
    (lambda: metrics.bits_per_character([NAN], 4), "finite", "NaN or Inf in 1 of 1"),
    (lambda: metrics.bits_per_character([1.0], 0), "characters", "characters=0"),
    (lambda: metrics.perplexity([1.0, NAN]), "finite", "NaN or Inf in 1 of 2"),
    (lambda: metrics.perplexity([1.0, np.inf, NAN], [1, 1, 0]), "finite", "NaN or Inf in 1 of 2"),
    (lambda: _frechet([0, 0], -ONE), "negative", "eigenvalues from -1 to -1"),
    (lambda: _frechet([0, NAN], ONE), "finite", "1 values that are NaN or Inf"),
    (lambda: _frechet([0, 0], np.inf * np.ones((2, 2))), "finite", "4 values that are NaN or Inf"),
    (lambda: _frechet([0, 0], [[1, 0.5], [0, 1]]), "transpose", "elements that differ by 0.5"),
    (lambda: _frechet([0, 0], np.eye(3)), "mean", r"shapes \(2,\) and \(3, 3\)"),
    (lambda: _frechet([0, 0], None), "mean", r"shapes \(2,\) and \(\)"),
    (lambda: _frechet([0, 0], ONE, count=1), "count", "count=1"),
]


def test_importing_metrics_needs_numpy_only():
    code = (
        "import sys, keras_genai.metrics; from importlib.metadata import packages_distributions\n"
        "tops = {name.partition('.')[0] for name in sys.modules} - sys.stdlib_module_names\n"
        "print(sorted(tops & set(packages_distributions())))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(run.stdout)) - {"_distutils_hack", "__editable___keras_genai_finder"}
    assert loaded <= {"numpy", "keras_genai"}


def test_public_names_exist():
    assert [name for name in metrics.__all__ if not hasattr(metrics, name)] == []
    assert metrics.__all__ == sorted(metrics.__all__)


@pytest.mark.filterwarnings("ignore:The Fréchet distance")
@pytest.mark.parametrize("name", TOO_FEW)
def test_too_few_items_are_refused_with_the_least_number(name):
    call, least = TOO_FEW[name]
    x = np.random.default_rng(0).uniform(size=(least, 3))
    call(x)
    with pytest.raises(ValueError, match=rf"At least {least} items .* Received: {least - 1}$"):
        call(x[1:])


@pytest.mark.parametrize("metric", PAIRS)
def test_features_of_different_sizes_are_refused(metric):
    x = np.ones((2000, 3))
    with pytest.raises(ValueError, match=r"same size D.*Received: D=3 and D=2$"):
        metric(x, x[:, :2])


@pytest.mark.parametrize("metric", PAIRS)
def test_features_that_are_not_finite_are_refused(metric):
    x = np.ones((2000, 3))
    bad = x.copy()
    bad[[5, 7], 1] = np.nan, np.inf
    with pytest.raises(ValueError, match=r"Received: NaN or Inf in 2 of 2000 rows$"):
        metric(x, bad)


@pytest.mark.filterwarnings("ignore:The Fréchet distance")
@pytest.mark.parametrize(("call", "name", "received"), REFUSED)
def test_arguments_that_mean_nothing_are_refused(call, name, received):
    with pytest.raises(ValueError, match=rf"{name}.*Received: .*{received}$"):
        call()


@pytest.mark.parametrize("metric", PAIRS)
def test_images_are_no_features(metric):
    x = np.zeros((2000, 2, 2, 1), "uint8")
    with pytest.raises(ValueError, match=r"extractor .* Received: .* \(2000, 2, 2, 1\)$"):
        metric(x, x)
