"""Losses that models share: pure functions."""

from keras_genai.losses.penalties import annealed, gradient_penalty, r1_penalty

__all__ = ["annealed", "gradient_penalty", "r1_penalty"]
