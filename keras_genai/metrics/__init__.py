"""Metrics: pure functions of features, images, likelihoods, texts, ranks, in NumPy and float64.

Features are an array (N, D), one row an item, from any extractor. Importing this needs NumPy only.

>>> import numpy as np
>>> from keras_genai import metrics
>>> real = np.random.default_rng(0).normal(size=(5000, 8))
>>> round(metrics.frechet_distance(real, real + 1), 6)
8.0
"""

from keras_genai.metrics.classes import (
    class_accuracy,
    classification_accuracy_score,
    modes_covered,
    total_variation,
)
from keras_genai.metrics.disentanglement import mutual_information_gap
from keras_genai.metrics.frechet import (
    FeatureStatistics,
    frechet_distance,
    inception_score,
    kernel_distance,
)
from keras_genai.metrics.likelihood import (
    bits_per_character,
    bits_per_dimension,
    importance_nll,
    perplexity,
)
from keras_genai.metrics.neighbours import (
    density_coverage,
    different_bins,
    memorisation,
    nearest_distances,
    precision_recall,
)
from keras_genai.metrics.pixels import psnr, ssim
from keras_genai.metrics.ranking import ndcg_at_k, recall_at_k
from keras_genai.metrics.sequence import bleu, distinct_n, longest_copy, pass_at_k, rouge, self_bleu

__all__ = [
    "FeatureStatistics",
    "bits_per_character",
    "bits_per_dimension",
    "bleu",
    "class_accuracy",
    "classification_accuracy_score",
    "density_coverage",
    "different_bins",
    "distinct_n",
    "frechet_distance",
    "importance_nll",
    "inception_score",
    "kernel_distance",
    "longest_copy",
    "memorisation",
    "modes_covered",
    "mutual_information_gap",
    "ndcg_at_k",
    "nearest_distances",
    "pass_at_k",
    "perplexity",
    "precision_recall",
    "psnr",
    "recall_at_k",
    "rouge",
    "self_bleu",
    "ssim",
    "total_variation",
]
