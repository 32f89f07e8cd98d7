"""Writes golden.json: what other implementations say of the inputs made here.

Needs more than the package does:

pip install mpmath nltk prdc==0.2 scikit-image==0.26.* scikit-learn "scipy<1.18"
python tests/metrics/golden.py
"""

import json
from pathlib import Path

import numpy as np

FILE = Path(__file__).with_name("golden.json")
SETS = {  # name: N, M, D
    "large": (300, 300, 8),
    "singular": (5, 5, 8),
    "tiny": (3, 3, 2),
}
NEIGHBOUR_SETS = {"equal N": (200, 200, 6), "different N": (150, 90, 3)}


def feature_sets(n, m, d):
    """Two sets of correlated features far from zero; RandomState's numbers never change."""
    rng = np.random.RandomState(n + m + d)
    x = rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) + 10.0
    y = rng.normal(size=(m, d)) @ rng.normal(size=(d, d)) + 10.5
    return x, y


def near_sets(n, m, d):
    """Two sets that overlap in part."""
    rng = np.random.RandomState(n + m + d)
    return rng.normal(size=(n, d)), rng.normal(0.4, 0.8, size=(m, d))


def image_pairs():
    """Colour images and blurred, noisy versions, uint8 (4, 24, 20, 3)."""
    rng = np.random.RandomState(0)
    x = rng.randint(0, 256, (4, 24, 20, 3))
    x = (x + np.roll(x, 1, 1) + np.roll(x, 1, 2)) // 3
    noise = rng.randint(-60, 60, x.shape)
    return x.astype("uint8"), np.clip(x + noise, 0, 255).astype("uint8")


def texts():
    """Twelve samples of 20 words."""
    rng = np.random.RandomState(0)
    words = "the a cat dog sat ran on under mat rug and saw it".split()
    return [" ".join(rng.choice(words, 20)) for _ in range(12)]


def frechet(x, y):
    """The formula as it stands, in 60 digits."""
    import mpmath

    mpmath.mp.dps = 60

    def moments(x):
        rows = mpmath.matrix(x.tolist())
        ones = mpmath.ones(len(x), 1)
        mean = (ones.T * rows) / len(x)
        centred = rows - ones * mean
        return mean, centred.T * centred / (len(x) - 1)

    (mu_x, s_x), (mu_y, s_y) = moments(x), moments(y)
    values, _ = mpmath.eig(s_x * s_y)
    root = sum(mpmath.sqrt(abs(v)) for v in values)  # real and not negative but for rounding
    trace = sum((s_x + s_y)[i, i] for i in range(len(s_x)))
    return float(mpmath.norm(mu_x - mu_y) ** 2 + trace - 2 * root)


def main():
    """Computes all and writes the file."""
    from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
    from prdc import compute_prdc
    from skimage.metrics import peak_signal_noise_ratio, structural_similarity

    golden = {"frechet": {k: frechet(*feature_sets(*v)) for k, v in SETS.items()}}
    golden["prdc"] = {
        f"{name}, k={k}": {key: float(v) for key, v in compute_prdc(*near_sets(*v), k).items()}
        for name, v in NEIGHBOUR_SETS.items()
        for k in (3, 5)
    }
    gaussian = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    golden["psnr"] = [
        float(peak_signal_noise_ratio(x, y)) for x, y in zip(*image_pairs(), strict=True)
    ]
    golden["ssim"] = [
        float(structural_similarity(x, y, channel_axis=-1, data_range=255, **gaussian))
        for x, y in zip(*image_pairs(), strict=True)
    ]
    samples = [text.split() for text in texts()]
    smoothing = SmoothingFunction().method1
    golden["self_bleu"] = {
        n: float(
            np.mean(
                [
                    sentence_bleu(samples[:i] + samples[i + 1 :], sample, [1 / n] * n, smoothing)
                    for i, sample in enumerate(samples)
                ]
            )
        )
        for n in (2, 3, 4, 5)
    }
    FILE.write_text(json.dumps(golden, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
