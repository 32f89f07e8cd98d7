"""Likelihoods: from log weights and log probabilities, in nats, to the numbers papers state."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, check_setting


def importance_nll(log_weights: ArrayLike) -> Array:
    """The negative log-likelihood of each item by importance sampling.

        -log (1/K sum_k p(x, z_k) / q(z_k | x)),    z_k from q(z | x)

    Burda et al. 2015, https://arxiv.org/abs/1509.00519, equation 8. On average it is an upper
    bound; with K = 1 it is the negative ELBO. State K. Where p(x | z) is a probability or density
    of x, it falls towards the truth with K. The cross-entropy of grey values in [0, 1] is neither:
    there it falls towards another upper bound (Jensen's inequality), namely on the mean negative
    log-likelihood of images whose pixels are drawn as 0 or 1 with the grey values for chances.

    Args:
        log_weights: (K, N), log p(x, z_k) - log q(z_k | x).

    Returns:
        Nats an item (N,).
    """
    log_weights = np.asarray(log_weights, np.float64)
    if log_weights.ndim != 2 or not log_weights.size or np.isnan(log_weights).any():
        raise ValueError(
            "Log weights must have the shape (K, N), K draws for each of N items, at least one of "
            "each, without NaN. "
            f"Received: shape {log_weights.shape}, {int(np.isnan(log_weights).sum())} NaN"
        )
    return math.log(len(log_weights)) - np.logaddexp.reduce(log_weights, axis=0)


def bits_per_dimension(nll: ArrayLike, dimensions: int, levels_per_unit: float) -> float:
    """The mean negative log-likelihood in bits a dimension of 8-bit data.

        nll / (dimensions ln 2) + log2(levels_per_unit)

    A density on continuous values bounds the probability of 8-bit ones if noise uniform over a
    level was added to them (Theis et al. 2016, https://arxiv.org/abs/1511.01844, section 3.1): on
    data without it the number means nothing. Scaling the data scales their density, which the
    second term takes back.

    Args:
        nll: nats an item (N,).
        dimensions: H * W * C.
        levels_per_unit: how many of the 256 levels the model's unit spans: 127.5 for data in
            [-1, 1], 255 in [0, 1], 1 for data in 0..255 and for probabilities of the levels
            themselves, which need no noise.
    """
    check_setting(dimensions >= 1, "at least 1", dimensions=dimensions)
    finite = 0 < levels_per_unit < math.inf
    check_setting(finite, "above 0 and finite", levels_per_unit=levels_per_unit)
    bits = float(_as_nats(nll).mean()) / (dimensions * math.log(2))
    return bits + math.log2(levels_per_unit)


def perplexity(nll: ArrayLike, mask: ArrayLike | None = None) -> float:
    """exp(total negative log-likelihood / total tokens).

    Not a mean over batches of their perplexities, which weighs tokens unequally. Comparable
    between models of one tokenizer only; `bits_per_character` is between all.

    Args:
        nll: nats a token, of any shape.
        mask: 1 for tokens that count, 0 for padding; of the same shape.
    """
    nll = np.asarray(nll, np.float64)
    counts = np.ones(nll.shape, bool) if mask is None else np.asarray(mask).astype(bool)
    if counts.shape != nll.shape or not counts.any():
        raise ValueError(
            "The mask must have the shape of the likelihoods and leave at least 1 token. "
            f"Received: {int(counts.sum())} tokens, shapes {counts.shape} and {nll.shape}"
        )
    return float(np.exp(_as_nats(nll[counts]).mean()))


def bits_per_character(nll: ArrayLike, characters: int) -> float:
    """The negative log-likelihood of a whole text in bits a character.

    Args:
        nll: nats a token, of any shape; each token of the text once, without padding.
        characters: the length of the text, or its bytes for bits a byte.
    """
    check_setting(characters >= 1, "at least 1", characters=characters)
    return float(_as_nats(nll).sum()) / (characters * math.log(2))


def _as_nats(nll: ArrayLike) -> Array:
    """Negative log-likelihoods as float64: at least one, and finite."""
    nll = np.asarray(nll, np.float64)
    bad = nll.size - int(np.isfinite(nll).sum())
    if bad or not nll.size:
        raise ValueError(
            "Negative log-likelihoods must be finite, and at least one. Look at the items whose "
            f"likelihood is not, or at the model. Received: NaN or Inf in {bad} of {nll.size}"
        )
    return nll
