"""`TransformModel`: what models share that make images of images. No mathematics is here."""

from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai.data import images
from keras_genai.models.base import fold
from keras_genai.models.image_model import ImageModel

EXAMPLES, ROWS, COLUMNS = 30, 5, 8


class Examples(keras.layers.Layer):
    """Images of the training data, kept and saved with the model: previews are made of them.

    Args:
        image_shape: (H, W, C).
    """

    def __init__(self, image_shape: tuple[int, int, int]):
        super().__init__(name="examples")
        self.images = self.add_weight(
            shape=(EXAMPLES, *image_shape), initializer="zeros", trainable=False, name="images"
        )
        self.built = True

    @property
    def known(self) -> bool:
        """Whether there are some: no grey level of an image becomes 0 in [-1, 1]."""
        return bool(np.all(self.images.numpy() != 0.0))


class TransformModel(ImageModel):
    """A model whose `generate` takes images. Subclasses write `transform` in place of `sample`.

    Args:
        image_shape: As in `ImageModel`.
        seed: As in `ImageModel`.
    """

    takes_images = True
    # Whether images are damaged before the model gets them: subclasses also write `damaged`.
    restores = False
    examples: Examples

    def transform(self, x: tf.Tensor) -> tf.Tensor:
        """What the model makes of images, `(B, H, W, C)` in [-1, 1] both. Not compiled."""
        raise NotImplementedError

    def damaged(self, x: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """Images `(B, H, W, C)` as the model is given them; `seed` is a pair of ints."""
        return x

    def view(self, x: tf.Tensor, seed: tf.Tensor) -> list[tf.Tensor]:
        """What a preview shows of images `(B, H, W, C)` side by side; the output comes last."""
        given = self.damaged(x, seed)
        return [x, given, self.transform(given)] if self.restores else [x, self.transform(x)]

    @property
    def num_views(self) -> int:
        """How many images `view` gives for one."""
        return 3 if self.restores else 2

    @property
    def unfinished(self) -> str:
        """Where training is that has not come to all networks: outputs say nothing of it yet."""
        return ""

    def build(self, input_shape: Any = None) -> None:
        """As in the base, with room for the examples."""
        super().build(input_shape)
        with self.distribute_strategy.scope():
            self.examples = Examples(self.image_shape)

    def begin(self, source: data_module.Source) -> None:
        """Keeps the first images of the data that training begins with."""
        first = source.arrays(EXAMPLES)["image"]
        # Fewer are repeated.
        kept = np.resize(first, (EXAMPLES, *self.image_shape))
        self.examples.images.assign(images.to_model(kept))

    def generate(self, x: Any, *, seed: int | None = None) -> np.ndarray:  # type: ignore[override]
        """What the model makes of images.

        Args:
            x: Images `(N, H, W, C)`, or grey `(N, H, W)`, or one of them, `(H, W, C)` or `(H, W)`:
                uint8, or floats in [0, 1], of the model's size.
            seed: Taken as by all models, without effect: the outputs depend on the images alone.

        Returns:
            uint8 `(N, H, W, C)`; of one image `(H, W, C)`.

        Raises:
            ValueError: If these are not images of the model's size, or the model is not built.
        """
        self.need_networks()
        x = np.asarray(x)
        if not x.ndim:
            raise ValueError(
                f"{self._title} takes images, not a number of them, and gives what it makes of "
                f"them: generate(images), uint8 (N, H, W, C). Received: {x.item()!r:.80}"
            )
        # An array (N, H, W) of grey images as narrow as there are channels is none that anyone has.
        single = x.ndim == 2 or (x.ndim == 3 and x.shape[-1] in images.CHANNELS)
        x = images.convert_images(x[None] if single else x)
        if x.shape[1:] != self.image_shape:
            raise ValueError(
                f"{self._title} was built for images of shape {self.image_shape}: resize them, as "
                "`keras-genai generate --input` and data.load(x, image_shape=...) do. "
                f"Received: images of shape {x.shape[1:]}"
            )
        made = self.in_batches(lambda part: images.to_uint8(self.transform(part)), x)
        return made[0] if single else made

    def outcome(self, x: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """What the model is given of clean images uint8 `(N, H, W, C)`, and what it makes of it."""
        keys = (fold([seed, i], "samples") for i in range(len(x)))
        given = self.in_batches(lambda part: images.to_uint8(self.damaged(part, next(keys))), x)
        return given, self.generate(given)

    def preview(self, seed: int = 0) -> np.ndarray:
        """Five rows of images, uint8 `(N, H, W, C)`, the same for the same weights and seed.

        Of some of the first training images, chosen by the seed, what `view` gives, side by side.

        Raises:
            ValueError: If the model has not been trained: there are no images to show.
        """
        self.need_networks()
        if not self.examples.known:
            raise ValueError(
                "A preview shows what is made of the first training images, which are kept from "
                f"the first fit() on. Before, call generate(images). Received: {self._title}, "
                "untrained"
            )
        key = fold([seed, 0], "samples")
        order = tf.random.experimental.stateless_shuffle(tf.range(EXAMPLES), key)
        count = ROWS * self.preview_columns // self.num_views
        chosen = tf.gather(self.examples.images.value, order[:count])
        views = tf.stack(self.view(chosen, key), axis=1)  # N K H W C
        return images.to_uint8(tf.reshape(views, (-1, *self.image_shape))).numpy()

    @property
    def preview_columns(self) -> int:
        """Images in a row of the preview: several groups of what belongs together."""
        return max(1, COLUMNS // self.num_views) * self.num_views
