"""The zoo: `get` a model by name, `list` what there is, `load` what was trained.

`publish` makes an entry of the catalogue, `reproduce` trains one again.

Importing it imports every model, so that `keras.models.load_model` knows their classes.
"""

import importlib
import pkgutil

from keras_genai import models
from keras_genai.zoo import registry
from keras_genai.zoo.comparing import Comparison, compare
from keras_genai.zoo.loading import load
from keras_genai.zoo.publishing import publish, reproduce
from keras_genai.zoo.registry import Recipe, get, info, register
from keras_genai.zoo.registry import names as list  # noqa: A004

for _module in pkgutil.walk_packages(models.__path__, models.__name__ + "."):
    importlib.import_module(_module.name)

__all__ = [
    "Comparison",
    "Recipe",
    "compare",
    "get",
    "info",
    "list",
    "load",
    "publish",
    "register",
    "registry",
    "reproduce",
]
