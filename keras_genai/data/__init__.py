"""Data: names, paths, arrays, text, ratings and streams as sources of items.

>>> from keras_genai import data
>>> digits = data.load("digits")
>>> digits.train.image_shape, len(digits.train)
((28, 28, 1), 10000)
"""

from keras_genai.data.base import DataError, Dataset, Source
from keras_genai.data.loading import fetch, load, names, path_of
from keras_genai.data.ratings import load_ratings
from keras_genai.data.tables import control_lines, load_texts

__all__ = [
    "DataError",
    "Dataset",
    "Source",
    "control_lines",
    "fetch",
    "load",
    "load_ratings",
    "load_texts",
    "names",
    "path_of",
]
