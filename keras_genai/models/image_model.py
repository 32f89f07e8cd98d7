"""`ImageModel`: what models of images share. No model's mathematics is here."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai.data import images
from keras_genai.layers import diff_augment
from keras_genai.models.base import GenerativeModel, fold


class ImageModel(GenerativeModel):
    """A model of images. Subclasses also write `sample`.

    Args:
        image_shape: `(H, W, C)`, or None: from the data.
        seed: As in `GenerativeModel`.
    """

    modality = "image"
    from_data = ("image_shape",)
    # Height and width must be multiples of this: the product of the networks' strides.
    stride = 1
    # What a discriminator's images go through in training: see `augmented`.
    augment = ""

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.image_shape: Any = None if image_shape is None else self._legal(image_shape)

    def sample(self, n: int, seed: tf.Tensor) -> tf.Tensor:
        """Draws `n` images `(N, H, W, C)` in [-1, 1]; `seed` is a pair of ints. Compiled."""
        raise NotImplementedError

    def _legal(self, image_shape: Sequence[int]) -> tuple[int, int, int]:
        """Checks a given shape."""
        shape = tuple(image_shape)
        if len(shape) != 3 or min(shape) < 1 or shape[2] not in (1, 3):
            raise ValueError(
                "`image_shape` is (height, width, channels) with 1 or 3 channels. "
                f"Received: image_shape={image_shape}"
            )
        nearest = self._nearest(shape)
        if nearest != shape:
            raise ValueError(
                f"{self._title} needs heights and widths that are multiples of {self.stride}; "
                f"the nearest is image_shape={nearest}. Received: image_shape={shape}"
            )
        return shape

    def _nearest(self, shape: Sequence[int]) -> tuple[int, int, int]:
        height, width = (max(1, round(side / self.stride)) * self.stride for side in shape[:2])
        return height, width, shape[2]

    def open_data(self, x: Any, y: Any = None, **options: Any) -> data_module.Dataset:
        """As in the base; files and embedded sets are read at the model's size if it has one."""
        if isinstance(x, str | os.PathLike):
            options["image_shape"] = self.image_shape
        return super().open_data(x, y, **options)

    def read(self, parts: data_module.Dataset, name: str) -> Any:
        """As in the base; image sizes are rounded to what the networks can make."""
        value = super().read(parts, name)
        return self._nearest(value) if name == "image_shape" else value

    def prepare(self, source: data_module.Source) -> data_module.Source:
        """Adapts size and channels to the model's, with one line saying so."""
        return images.adapt(source, self.image_shape)

    def generate(self, n: int = 16, *, seed: int | None = None) -> np.ndarray:
        """Draws images.

        Args:
            n: How many.
            seed: Same seed and weights, same images; `None` moves the model's own generator on.

        Returns:
            uint8 `(n, H, W, C)`.

        Raises:
            ValueError: If `n` is not a positive integer or the model is not built.
        """
        if not isinstance(n, int | np.integer) or n < 1:
            raise ValueError(f"`n` must be a positive integer. Received: n={n!r}")
        self.settle()
        if not self.built:
            self.build()  # raises, and says what is missing
        seed = self.seed_for(seed)
        # Whole chunks keep the sampler to a few compiled shapes.
        chunk = min(64, 1 << (int(n) - 1).bit_length())
        batches = [self._sampler(chunk)(fold([seed, i], "samples")) for i in range(-(-n // chunk))]
        return np.concatenate([batch.numpy() for batch in batches])[:n]

    def in_batches(self, function: Callable[[tf.Tensor], tf.Tensor], x: Any) -> np.ndarray:
        """Applies `function` to images, 256 at a time.

        Args:
            function: Takes images `(B, H, W, C)` in [-1, 1].
            x: uint8 `(N, H, W[, C])`, or floats in [0, 1].

        Returns:
            The results in one array `(N, ...)`.
        """
        x = images.validate_images(np.asarray(x))
        parts = [function(images.to_model(x[i : i + 256])) for i in range(0, len(x), 256)]
        return np.concatenate([np.asarray(part) for part in parts])

    def augmented(self, x: tf.Tensor) -> tf.Tensor:
        """Images (B, H, W, C) as the discriminator sees them in training, changed by `augment`.

        For small data: `train_step` gives real and generated images to it, as they come from
        `to_model` and from the generator; `test_step` does not.
        """
        return diff_augment(x, self.augment, self._replica_seed()) if self.augment else x

    def _sampler(self, n: int) -> Callable[[tf.Tensor], tf.Tensor]:
        if n not in self._samplers:
            sampler = tf.function(lambda seed: images.to_uint8(self.sample(n, seed)))
            self._samplers[n] = sampler.get_concrete_function(tf.TensorSpec((2,), "int32"))
        return self._samplers[n]

    def preview(self, seed: int = 0) -> np.ndarray:
        """25 images, uint8 `(25, H, W, C)`, the same for the same weights and seed."""
        return self.generate(25, seed=seed)
