"""Layers that at least three models share."""

from keras_genai.layers.normalization import BatchNormalization
from keras_genai.layers.regularization import Dropout

__all__ = ["BatchNormalization", "Dropout"]
