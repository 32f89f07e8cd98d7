"""What the metrics of images cost, in seconds, and how that grows with the number of items.

python benchmarks/metrics.py
"""

import argparse
import resource
import time
import warnings

import numpy as np

from keras_genai import metrics

SIZE, CLASSES = 128, 10
COUNTS = (1000, 3000, 10_000)


def calls(n, rng):
    """Name to a call, on two sets of n items with 128 features, 10 classes and 28x28 pixels."""
    real, fake = rng.normal(size=(2, n, SIZE)).astype("float32")
    real, fake = np.maximum(real, 0), np.maximum(fake, 0)  # as after a ReLU
    p, q = rng.dirichlet(np.ones(CLASSES), (2, n)).astype("float32")
    x, y = rng.integers(0, 256, (2, n, 28, 28, 1), "uint8")
    labels = rng.integers(0, CLASSES, n)
    return {
        "frechet_distance": lambda: metrics.frechet_distance(real, fake),
        "kernel_distance": lambda: metrics.kernel_distance(real, fake),
        "inception_score": lambda: metrics.inception_score(p),
        "precision_recall": lambda: metrics.precision_recall(real, fake),
        "density_coverage": lambda: metrics.density_coverage(real, fake),
        "different_bins": lambda: metrics.different_bins(real, fake),
        "memorisation": lambda: metrics.memorisation(fake, real, real[::-1] + 0.1),
        "total_variation": lambda: metrics.total_variation(p, q),
        "class_accuracy": lambda: metrics.class_accuracy(q, labels),
        "classification_accuracy_score": lambda: metrics.classification_accuracy_score(
            fake, labels, real, labels
        ),
        "psnr": lambda: metrics.psnr(x, y),
        "ssim": lambda: metrics.ssim(x, y),
    }


def seconds(call):
    """Wall time of a call."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main():
    """Prints a table."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    warnings.simplefilter("ignore")  # 1,000 are too few for a Fréchet distance
    rng = np.random.default_rng(0)
    columns = []
    for n in COUNTS:
        columns.append({name: seconds(call) for name, call in calls(n, rng).items()})
        columns[-1]["together"] = sum(columns[-1].values())
    print("| seconds for N and N items | " + " | ".join(f"{n:,}" for n in COUNTS) + " |")
    print("|---" * (len(COUNTS) + 1) + "|")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.2f}" for column in columns) + " |")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nThe most memory held: {peak:.0f} MB.")


if __name__ == "__main__":
    main()
