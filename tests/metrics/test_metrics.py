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


@pytest.mark.parametrize("metric", PAIRS)
def test_images_are_no_features(metric):
    x = np.zeros((2000, 2, 2, 1), "uint8")
    with pytest.raises(ValueError, match=r"extractor .* Received: .* \(2000, 2, 2, 1\)$"):
        metric(x, x)
