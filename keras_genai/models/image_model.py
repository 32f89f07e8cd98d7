"""`ImageModel`: what models of images share. No model's mathematics is here."""

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai.data import images
from keras_genai.data.base import describe
from keras_genai.layers import diff_augment
from keras_genai.models.base import GenerativeModel, fold


class ImageModel(GenerativeModel):
    """A model of images. Subclasses also write `sample`.

    A model with "num_classes" in its `from_data` takes labels: its data must have them (each batch
    has the key `label`, int32 `(B,)`), and it draws images of the classes that are asked for. It
    also writes `draw` (a model that does not take labels may).

    Args:
        image_shape: `(H, W, C)`, or None: from the data.
        seed: As in `GenerativeModel`.
        num_classes: K, of a model that takes labels, or None: from the data.
    """

    modality = "image"
    from_data: tuple[str, ...] = ("image_shape",)
    # Height and width must be multiples of this: the product of the networks' strides.
    stride = 1
    # What a discriminator's images go through in training: see `augmented`.
    augment = ""

    def __init__(
        self,
        image_shape: tuple[int, int, int] | None = None,
        seed: int | None = None,
        num_classes: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.image_shape: Any = None if image_shape is None else self._legal(image_shape)
        self.num_classes: Any = num_classes

    @property
    def takes_labels(self) -> bool:
        """Whether `generate` takes labels, and training needs them."""
        return "num_classes" in self.from_data

    def sample(self, n: int, seed: tf.Tensor, *labels: tf.Tensor) -> tf.Tensor:
        """Draws `n` images `(N, H, W, C)` in [-1, 1]; `seed` is a pair of ints. Compiled.

        A model that takes labels gets them as the third argument, int32 `(N,)`. Its noise must
        depend on `n` and `seed` alone, so that previews show all classes with the same noise.
        """
        raise NotImplementedError

    def draw(self, z: tf.Tensor, *classes: tf.Tensor) -> tf.Tensor:
        """Images `(N, H, W, C)` in [-1, 1] of standard normal noise `(N, Z)`.

        Models that take labels also get shares of classes `(N, K)`, of one class a one-hot row.
        Models that draw from such noise write it, but autoencoders, which have a `decode`, need not
        unless they take labels.
        """
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
        if name == "num_classes":
            self._check_labelled(parts.train)
        value = super().read(parts, name)
        return self._nearest(value) if name == "image_shape" else value

    def prepare(self, source: data_module.Source) -> data_module.Source:
        """Adapts size and channels to the model's, with one line saying so; checks labels."""
        if self.takes_labels:
            self._check_labelled(source)
            source = images.with_classes(source, self.num_classes)
        return images.adapt(source, self.image_shape)

    def _check_labelled(self, source: data_module.Source) -> None:
        """Raises where the data do not tell the class of an image, or how many there are."""
        if not source.has_labels:
            raise ValueError(
                f"{self._title} learns from images with labels: write fit(x, y) with class numbers "
                "(N,), or give a folder with one subfolder a class, or a named set that has "
                f"labels, such as 'digits'. Received: {source.name!r}, without labels"
            )
        if self.num_classes is None and source.num_classes is None:
            raise ValueError(
                "A tf.data.Dataset does not tell how many classes its labels have: say so with "
                f"num_classes=, for example zoo.get({self.recipe!r}, num_classes=10). "
                f"Received: {source.name!r} with num_classes=None"
            )

    def generate(
        self, n: int | None = None, *, labels: Any = None, seed: int | None = None
    ) -> np.ndarray:
        """Draws images.

        Args:
            n: How many; by default 16, or as many as there are labels.
            labels: For models that take labels: a class number for all images, or one for each.
                `None` takes each class in turn.
            seed: Same seed and weights, same images; `None` moves the model's own generator on.

        Returns:
            uint8 `(n, H, W, C)`.

        Raises:
            ValueError: If `n` is not a positive integer, `labels` do not fit, or the model is not
                built.
        """
        if n is None:
            n = 16 if np.ndim(labels) == 0 else len(labels)
        if not isinstance(n, int | np.integer) or n < 1:
            instead = ""
            if np.ndim(n) > 1 and hasattr(self, "reconstruct"):
                instead = " What the model makes of images `reconstruct(images)` gives."
            raise ValueError(
                f"`n`, how many images are drawn, must be a positive integer.{instead} "
                f"Received: n={describe(n)}"
            )
        self.need_networks()
        classes = self._classes(int(n), labels)
        seed = self.seed_for(seed)
        # Whole chunks keep the sampler to a few compiled shapes.
        chunk = min(64, 1 << (int(n) - 1).bit_length())
        chunks = np.resize(classes, (-(-n // chunk), chunk))
        sample = self._sampler(chunk)
        batches = [sample(fold([seed, i], "samples"), tf.constant(c)) for i, c in enumerate(chunks)]
        return np.concatenate([batch.numpy() for batch in batches])[:n]

    def _classes(self, n: int, labels: Any) -> np.ndarray:
        """The class of each of `n` images, int32 `(n,)`; zeros for a model without labels."""
        if not self.takes_labels:
            if labels is not None:
                raise ValueError(
                    f"{self._title} draws images of no class in particular: leave out `labels`. "
                    f"Received: labels={labels!r:.80}"
                )
            return np.zeros(n, "int32")
        given = np.arange(n) % self.num_classes if labels is None else np.asarray(labels)
        fits = given.dtype.kind in "iu" and given.shape in ((), (n,))
        if not fits or given.min() < 0 or given.max() >= self.num_classes:
            raise ValueError(
                f"`labels` is a class number, 0 to {self.num_classes - 1}, or a list of {n}, one "
                f"for each image. Received: labels={labels!r:.80}"
            )
        return np.broadcast_to(given, (n,)).astype("int32")

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

    def _sampler(self, n: int) -> Callable[[tf.Tensor, tf.Tensor], tf.Tensor]:
        if n not in self._samplers:
            # Labels are an input: other classes need no other graph.
            specs = tf.TensorSpec((2,), "int32"), tf.TensorSpec((n,), "int32")
            self._samplers[n] = tf.function(
                lambda seed, labels: images.to_uint8(
                    self.sample(n, seed, labels) if self.takes_labels else self.sample(n, seed)
                )
            ).get_concrete_function(*specs)
        return self._samplers[n]

    @property
    def preview_columns(self) -> int:
        """Images in a row of the preview."""
        return min(10, self.num_classes) if self.takes_labels else 5

    def preview(self, seed: int = 0) -> np.ndarray:
        """Rows of images, uint8 `(N, H, W, C)`, the same for the same weights and seed.

        25 in rows of five. Of a model that takes labels five rows with a column for each class, at
        most ten; a row has the same noise.
        """
        if not self.takes_labels:
            return self.generate(25, seed=seed)
        self.need_networks()
        columns = [self.generate(5, labels=k, seed=seed) for k in range(self.preview_columns)]
        return np.stack(columns, axis=1).reshape(-1, *self.image_shape)

    def between(
        self, first: int, second: int, steps: int = 8, seed: int | None = None
    ) -> np.ndarray:
        """Images on the way from one class to another, all of the same noise.

        The labels are mixed in equal steps, from one-hot to one-hot: models are trained on the two
        ends alone.

        Args:
            first: A class number.
            second: A class number.
            steps: How many images, both ends included.
            seed: As in `generate`.

        Returns:
            uint8 `(steps, H, W, C)`.
        """
        if steps < 2:
            raise ValueError(f"`steps` counts both ends, so at least 2. Received: steps={steps}")
        self.need_networks()
        ends = tf.one_hot(self._classes(2, [first, second]), self.num_classes)  # 2 K
        share = np.linspace(0.0, 1.0, steps, dtype="float32")[:, None]
        classes = (1.0 - share) * ends[0] + share * ends[1]  # N K
        draw = self.graph_of("between", self._of_one_noise, reduce_retracing=True)
        return draw(fold([self.seed_for(seed), 0], "samples"), classes).numpy()

    def _of_one_noise(self, seed: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
        z = tf.random.stateless_normal((1, self.latent_dim), seed)
        return images.to_uint8(self.draw(tf.repeat(z, tf.shape(classes)[0], axis=0), classes))
