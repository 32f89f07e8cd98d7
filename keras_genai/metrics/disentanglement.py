"""Disentanglement: whether each factor that made an image stands in one latent of its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, as_features, check_setting


def mutual_information_gap(latents: ArrayLike, factors: ArrayLike, bins: int = 20) -> float:
    """How much more the best latent says of a factor than the second best, mean over factors.

        1/F sum_f (I(z_j; v_f) - max_{i != j} I(z_i; v_f)) / H(v_f),    j = argmax_i I(z_i; v_f)

    Chen et al. 2018, https://arxiv.org/abs/1802.04942, equation 6. 1 where each factor can be read
    off one latent and off no other; 0 where none can be read, and also where each is spread evenly
    over two. It does not ask that a latent serve one factor only. As there is no formula for
    I(z; v), latents are cut into `bins` of equal width from their smallest to their largest value
    (as Locatello et al. 2019, https://arxiv.org/abs/1811.12359, do with the encoder's means), and
    counts are taken for probabilities. Chen et al. draw z from q(z|x), whose noise hides small
    differences of means; here they count, however small.

    What it depends on, to be stated beside it: N and `bins`. Counts overestimate information, by
    about (bins - 1) (values - 1) / (2 N) nats for independent variables: the gap loses most of
    that, not all, since the best of several overestimates is taken. One bin far out, of a single
    latent, hides what the others hold. A factor that some images do not show, such as the
    orientation of a disc, cannot reach 1.

    Args:
        latents: (N, D), a code of each item; D is at least 2.
        factors: (N, F), what made it; each column has finitely many values, at least 2.
        bins: Of a latent; at least 2.

    Raises:
        ValueError: If shapes or values do not fit.
    """
    z, v = as_features(latents, 2), as_features(factors, 2)
    check_setting(bins >= 2, "at least 2", bins=bins)
    if len(z) != len(v) or z.shape[1] < 2:
        raise ValueError(
            "Latents (N, D) and factors (N, F) are of the same N items, and a gap is between two "
            f"latents, so D is at least 2. Received: latents {z.shape}, factors {v.shape}"
        )
    codes = [_number(np.searchsorted(_edges(column, bins), column, "right")) for column in z.T]
    return float(np.mean([_gap(codes, _number(column)) for column in v.T]))


def _edges(x: Array, bins: int) -> Array:
    """The inner edges of bins of equal width."""
    return np.linspace(x.min(), x.max(), bins + 1)[1:-1]


def _number(x: Array) -> Array:
    """Values as whole numbers from 0 on."""
    return np.unique(x, return_inverse=True)[1]


def _gap(codes: list[Array], factor: Array) -> float:
    entropy = _entropy(np.bincount(factor))
    if entropy == 0.0:
        raise ValueError(
            "A factor must vary, or there is nothing to know of it: leave out what is constant. "
            f"Received: one value in all {len(factor)} items"
        )
    information = [entropy + _entropy(np.bincount(code)) - _joint(code, factor) for code in codes]
    second, best = np.sort(information)[-2:]
    return (best - second) / entropy


def _joint(code: Array, factor: Array) -> float:
    return _entropy(np.bincount(code * (factor.max() + 1) + factor))


def _entropy(counts: Array) -> float:
    """In nats, of the shares of the counts."""
    p = counts[counts > 0] / counts.sum()
    return float(-(p * np.log(p)).sum())
