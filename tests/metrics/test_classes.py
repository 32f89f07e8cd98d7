"""Metrics by classes, counted by hand."""

import numpy as np
import pytest

from keras_genai.metrics import (
    class_accuracy,
    classification_accuracy_score,
    modes_covered,
    total_variation,
)


def sure(labels, classes=4):
    """Probabilities of a classifier that is nearly sure."""
    return np.full((len(labels), classes), 0.1 / classes) + 0.9 * np.eye(classes)[labels]


def test_class_accuracy():
    assert class_accuracy(sure([0, 1, 2, 3]), np.array([0, 1, 2, 0])) == 0.75
    assert class_accuracy(sure([0, 1]).astype("float32"), [0, 1]) == 1.0
    with pytest.raises(ValueError, match=r"shape \(2,\).*Received: float64 of shape \(3,\)$"):
        class_accuracy(sure([0, 1]), [0.0, 1.0, 2.0])


def test_total_variation():
    real = sure([0, 1, 2, 3])
    assert total_variation(real, sure([3, 2, 1, 0])) == 0.0
    assert total_variation(real, sure([0, 0, 1, 2])) == 0.25
    assert total_variation(real, sure([0])) == 0.75
    assert total_variation(sure([0, 1]), sure([2, 3, 3])) == 1.0
    with pytest.raises(ValueError, match=r"same classifier. Received: K=4 and K=5$"):
        total_variation(real, sure([0], 5))


def test_modes_covered():
    real = sure(np.repeat(np.arange(3), 100))  # the fourth class does not occur
    assert modes_covered(real, real) == 3
    fake = sure([0] * 80 + [1] * 4 + [2] * 3 + [3] * 13)  # a tenth of a third is 3.3 of 100
    assert modes_covered(real, fake) == 2
    assert modes_covered(real, fake, least=0.05) == 3


def blobs(labels, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    return 5.0 * np.eye(4)[labels] + spread * rng.normal(size=(len(labels), 4))


def test_classification_accuracy_score_sees_wrong_labels_and_lack_of_variety():
    labels, rng = np.arange(400) % 4, np.random.default_rng(0)
    real = blobs(labels, 0)
    good = classification_accuracy_score(blobs(labels, 1), labels, real, labels)
    wrong = np.where(rng.uniform(size=400) < 0.5, rng.permutation(labels), labels)
    noisy = classification_accuracy_score(blobs(labels, 1), wrong, real, labels)
    two = classification_accuracy_score(blobs(labels % 2, 1), labels % 2, real, labels)
    assert good > 0.97 and noisy < 0.8 and 0.4 < two <= 0.5


def test_classification_accuracy_score_trains_what_it_is_given():
    seen = []

    def train(items, labels):
        seen.append((items.shape, labels.tolist()))
        return lambda x: np.zeros(len(x), int)

    images = np.zeros((3, 2, 2, 1))
    assert classification_accuracy_score(images, [1, 1, 2], images, [0, 1, 0], train) == 2 / 3
    assert seen == [((3, 2, 2, 1), [1, 1, 2])]
