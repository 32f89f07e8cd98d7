"""Layers that at least three models share."""

from keras_genai.layers.normalization import BatchNormalization

__all__ = ["BatchNormalization"]
