"""Generative models in Keras 3, trained with one line on your own data.

    from keras_genai import zoo

    model = zoo.get("dcgan")
    model.fit("my_photos/")
    images = model.generate(16)

Importing the package itself is quick; `zoo` and `data` import Keras and TensorFlow when first used.
"""

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# On processors where TensorFlow leaves oneDNN off unless asked (those without AVX512),
# convolution gradients take half as long again. A default: what the user has set stays.
if "tensorflow" not in sys.modules:
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")
    # Fewer start-up notices; warnings and errors stay.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "1")

if TYPE_CHECKING:
    from keras_genai import data, explore, metrics, zoo
    from keras_genai.measuring import measure

__all__ = ["__version__", "data", "explore", "measure", "metrics", "zoo"]


def __getattr__(name: str) -> Any:
    if name in ("data", "explore", "metrics", "zoo"):
        return importlib.import_module(f"keras_genai.{name}")
    if name == "measure":
        return importlib.import_module("keras_genai.measuring").measure
    raise AttributeError(f"module 'keras_genai' has no attribute {name!r}")
