"""Metrics between pairs of images, such as an image and its reconstruction.

Images are uint8 (N, H, W, C), or floating-point in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array

WINDOW, SIGMA = 11, 1.5
K_1, K_2 = 0.01, 0.03
CHUNK = 100  # images at a time
# In dB, 10 log10(12 * 255^2): rounding to 256 grey levels, an error of 1/12 of a level squared.
CLOSEST = 58.9226


def psnr(x: ArrayLike, y: ArrayLike) -> Array:
    """The peak signal-to-noise ratio of each pair, 10 log10(MAX^2 / MSE), in dB.

    MAX, the largest value a pixel can take, is 255 for uint8 and 1 for floating-point images,
    whatever the largest value in them is.

    Args:
        x: images (N, H, W, C).
        y: images of the same shape.

    Returns:
        One number a pair (N,), infinite for equal images.
    """
    errors = [((a - b) ** 2).mean(axis=(1, 2, 3)) for a, b in _chunks(x, y)]
    with np.errstate(divide="ignore"):
        return -10.0 * np.log10(np.concatenate(errors))


def ssim(x: ArrayLike, y: ArrayLike) -> Array:
    """The structural similarity of each pair: 1 for equal images, about 0 for unrelated ones.

    Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861, equation 13: a Gaussian window of
    11x11 pixels with sigma 1.5, K = (0.01, 0.03), the covariance of the population, the mean over
    all windows that lie within the image and over the channels.

    Args:
        x: images (N, H, W, C) of at least 11x11 pixels.
        y: images of the same shape.

    Returns:
        One number a pair (N,).
    """
    return np.concatenate([_ssim(a, b) for a, b in _chunks(x, y)])


def _ssim(x: Array, y: Array) -> Array:
    if min(x.shape[1:3]) < WINDOW:
        raise ValueError(
            f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels, the size of its window. "
            f"Received: images of shape {x.shape[1:]}"
        )
    c_1, c_2 = K_1**2, K_2**2  # times the data range, which is 1
    mu_x, mu_y = _blur(x), _blur(y)
    var_x, var_y = _blur(x * x) - mu_x**2, _blur(y * y) - mu_y**2
    covariance = _blur(x * y) - mu_x * mu_y
    numerator = (2 * mu_x * mu_y + c_1) * (2 * covariance + c_2)
    similarity = numerator / ((mu_x**2 + mu_y**2 + c_1) * (var_x + var_y + c_2))
    return similarity.mean(axis=(1, 2, 3))


def _blur(x: Array) -> Array:
    """The Gaussian mean of each window: (N, H, W, C) to (N, H - 10, W - 10, C)."""
    offsets = np.arange(WINDOW) - WINDOW // 2
    weights = np.exp(-(offsets**2) / (2 * SIGMA**2))
    weights /= weights.sum()
    height, width = x.shape[1] - WINDOW + 1, x.shape[2] - WINDOW + 1
    x = sum(w * x[:, i : i + height] for i, w in enumerate(weights))
    return sum(w * x[:, :, i : i + width] for i, w in enumerate(weights))


def _chunks(x: ArrayLike, y: ArrayLike) -> Iterator[tuple[Array, Array]]:
    """Pairs of images as float64 in [0, 1], some at a time: they take eight times the memory."""
    x, y = np.asarray(x), np.asarray(y)
    if x.ndim != 4 or x.shape != y.shape or not x.size:
        raise ValueError(
            "Images must come in pairs, as two arrays of the same shape (N, H, W, C). "
            f"Received: shapes {x.shape} and {y.shape}"
        )
    for start in range(0, len(x), CHUNK):
        yield _unit(x[start : start + CHUNK]), _unit(y[start : start + CHUNK])


def _unit(x: Array) -> Array:
    if x.dtype == np.uint8:
        return x / 255.0
    if x.dtype.kind != "f" or not (x.min() >= 0.0 and x.max() <= 1.0):  # False for NaN
        raise ValueError(
            "Images must be uint8, or floating-point in [0, 1]. "
            f"Received: {x.dtype} from {x.min()} to {x.max()}"
        )
    return x.astype(np.float64)
