"""Losses that models share: pure functions."""

from keras_genai.losses.penalties import gradient_penalty, r1_penalty

__all__ = ["gradient_penalty", "r1_penalty"]
