"""What each metric says of samples damaged in known ways, and the table of it in docs/.

python tests/metrics/damage.py

The real images are drawn letters and digits; the samples are others of their kind, damaged by more
and more. A cell says "worse" or "better" if the strongest damage moves the metric that way by more
than ten standard deviations between sets without damage.
"""

import warnings
from pathlib import Path

import numpy as np

from keras_genai import data, metrics
from keras_genai.metrics.features import extractor

PAGE = Path(__file__).parents[2] / "docs" / "measuring.md"
N, TRAIN = 1000, 3000
HIGHER_IS_BETTER = {  # in the order of the table
    "Fréchet distance": False,
    "kernel distance": False,
    "Inception Score": True,
    "precision": True,
    "recall": True,
    "density": True,
    "coverage": True,
    "different bins": False,
    "class distance": False,
    "modes covered": True,
    "class accuracy": True,
    "accuracy score": True,
    "closer to training": False,
    "duplicates": False,
}


def noise(x, y, train, degree, rng):
    """Normal noise of 16, 48 and 96 grey levels."""
    x, y = x[:N], y[:N]
    return np.clip(x + rng.normal(size=x.shape) * (16, 48, 96)[degree], 0, 255), y


def blur(x, y, train, degree, rng):
    """The mean of neighbours, weighed 1 2 1, once, three and nine times."""
    x, y = x[:N].astype("float64"), y[:N]
    for _ in range((1, 3, 9)[degree]):
        for axis in (1, 2):
            x = (np.roll(x, 1, axis) + 2 * x + np.roll(x, -1, axis)) / 4
    return x, y


def dropped_classes(x, y, train, degree, rng):
    """10, 25 and 40 of 62 classes are missing."""
    kept = y >= (10, 25, 40)[degree]
    return x[kept], y[kept]


def training_copies(x, y, train, degree, rng):
    """A quarter, half and all of the samples are training images."""
    copied = (N // 4, N // 2, N)[degree]
    return np.concatenate([train[0][:copied], x])[:N], np.concatenate([train[1][:copied], y])[:N]


def repeats(x, y, train, degree, rng):
    """400, 100 and 30 samples, over and over."""
    count = (400, 100, 30)[degree]
    few = rng.choice(len(x), count, replace=False)[np.arange(N) % count]
    return x[few], y[few]


DAMAGES = (noise, blur, dropped_classes, training_copies, repeats)


class Scores:
    """Scores of samples by every metric, with the features of one extractor."""

    def __init__(self, features="glyphs"):
        self.see = extractor(features)
        arrays = data.load("glyphs").train.arrays()
        order = np.random.default_rng(0).permutation(len(arrays["image"]))
        # All are of one kind, and the extractor has seen all of them or none: the parts of the
        # data set differ in their fonts.
        x, y = arrays["image"][order], arrays["label"][order]
        self.train, self.real_labels = (x[:TRAIN], y[:TRAIN]), y[TRAIN : TRAIN + N]
        self.unseen = x[TRAIN + N :], y[TRAIN + N :]
        self.train_features = self.see(self.train[0])[0]
        self.real, self.real_classes = self.see(x[TRAIN : TRAIN + N])

    def __call__(self, images, labels):
        """Name of a metric to its value for N samples."""
        images, labels = np.round(images[:N]).astype("uint8"), labels[:N]
        fake, classes = self.see(images)
        real, p = self.real, self.real_classes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # N is small, and equal throughout
            frechet = metrics.frechet_distance(real, fake)
        copies = metrics.memorisation(fake, self.train_features, real)
        values = (
            frechet,
            metrics.kernel_distance(real, fake, subsets=5, subset_size=N // 2)[0],
            metrics.inception_score(classes, splits=1)[0],
            *metrics.precision_recall(real, fake),
            *metrics.density_coverage(real, fake),
            metrics.different_bins(real, fake, bins=N // 20).share,
            metrics.total_variation(p, classes),
            metrics.modes_covered(p, classes),
            metrics.class_accuracy(classes, labels),
            metrics.classification_accuracy_score(fake, labels, real, self.real_labels),
            copies.closer,
            copies.duplicates,
        )
        return dict(zip(HIGHER_IS_BETTER, values, strict=True))

    def undamaged(self, draws=6):
        """Scores of random sets of unseen images."""
        rng = np.random.default_rng(0)
        order = [rng.permutation(len(self.unseen[0])) for _ in range(draws)]
        return [self(self.unseen[0][i], self.unseen[1][i]) for i in order]

    def damaged(self, damage):
        """Scores at each degree of a damage."""
        rng = np.random.default_rng(0)
        return [self(*damage(*self.unseen, self.train, degree, rng)) for degree in range(3)]


def changes(undamaged, damaged):
    """Metric to its change at each degree, upwards better, 1 being more than chance."""
    result = {}
    for name, higher in HIGHER_IS_BETTER.items():
        base = np.array([scores[name] for scores in undamaged])
        allowed = max(10 * base.std(), 0.02 * abs(base.mean()), 1e-3)
        change = np.array([scores[name] for scores in damaged]) - base.mean()
        result[name] = change / allowed * (1 if higher else -1)
    return result


def cell(change):
    """The word for a change at three degrees."""
    if abs(change[-1]) <= 1:
        return "same"
    return "better" if change[-1] > 0 else "worse"


def table(scores):
    """The lines of the table, and the changes of each damage."""
    undamaged = scores.undamaged()
    seen = {damage.__name__: changes(undamaged, scores.damaged(damage)) for damage in DAMAGES}
    lines = ["| metric | " + " | ".join(name.replace("_", " ") for name in seen) + " |"]
    lines.append("|---" * (len(seen) + 1) + "|")
    for name in HIGHER_IS_BETTER:
        lines.append(f"| {name} | " + " | ".join(cell(c[name]) for c in seen.values()) + " |")
    return lines, seen


def main():
    """Prints the changes and writes the table into the page."""
    lines, seen = table(Scores())
    for damage, by_metric in seen.items():
        for name, change in by_metric.items():
            print(f"{damage:16} {name:20}", " ".join(f"{c:8.1f}" for c in change), cell(change))
    page = PAGE.read_text("utf-8").splitlines()
    start = page.index(next(line for line in page if line.startswith("| metric")))
    end = start + next(i for i, line in enumerate(page[start:]) if not line.startswith("|"))
    PAGE.write_text("\n".join([*page[:start], *lines, *page[end:]]) + "\n", "utf-8")


if __name__ == "__main__":
    main()
