"""A model's latents as arrays: drawn, encoded, decoded, and ways from one to another."""

import os
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai.data.images import convert_images, to_uint8
from keras_genai.measuring import choose, images_of
from keras_genai.models.base import fold
from keras_genai.models.image_model import ImageModel

CHUNK = 256  # latents decoded at a time


def model_of(modality: str, model: Any) -> Any:
    """A built model of a modality: as given, or loaded.

    Args:
        modality: "image" or "text".
        model: A model, or what `zoo.load` takes.

    Raises:
        ValueError: If it is none of this modality, or not built.
    """
    if isinstance(model, str | os.PathLike):
        from keras_genai import zoo

        model = zoo.load(model)
    if getattr(model, "modality", None) != modality:
        raise ValueError(
            "This takes a model from zoo.get, or a path or name that zoo.load takes: models of "
            "images, but for `attention` and `next_tokens`, which take models of text. "
            f"Received: {type(model).__name__} {getattr(model, 'recipe', None) or ''}".strip()
        )
    model.need_networks()
    return model


def held_out(
    model: Any, data: Any, n: int = 500, seed: int = 0
) -> tuple[np.ndarray, np.ndarray | None]:
    """Images to look at a model with, as it takes them: best those it has not been trained on.

    Args:
        model: A model of images, or what `zoo.load` takes.
        data: As in `fit`. Of its parts the test part, else the validation part, else all.
        n: How many; all if there are fewer.
        seed: Which ones, and in which order.

    Returns:
        uint8 `(n, H, W, C)`, and their labels `(n,)` or None.

    Raises:
        ValueError: If the data do not fit the model, or cannot be read in any order.
    """
    model = model_of("image", model)
    parts = model.open_data(data)
    held = next(part for part in (parts.test, parts.validation, parts.train) if part is not None)
    if not held.exact:
        raise ValueError(
            "Images are chosen from data that can be read in any order, such as a name, a folder "
            f"or an array. Received: a tf.data.Dataset ({held.name})"
        )
    source = model.prepare(held)
    numbers = choose(source, n, seed)
    return images_of(source, numbers), None if source.labels is None else source.labels[numbers]


def checked_images(model: Any, x: Any, at_least: int = 1, at_most: int | None = None) -> np.ndarray:
    """Images as uint8 `(N, H, W, C)` of the model's size, as many as are wanted.

    Raises:
        ValueError: If they are not.
    """
    x = convert_images(x)
    if x.shape[1:] != tuple(model.image_shape):
        raise ValueError(
            f"This model's images have the shape {tuple(model.image_shape)}; explore.held_out "
            f"brings data to it. Received: {x.shape[1:]}"
        )
    if len(x) < at_least or len(x) > (at_most or len(x)):
        wanted = f"at least {at_least}" if at_most is None else f"{at_least} to {at_most}"
        raise ValueError(f"This takes {wanted} images, (N, H, W, C). Received: {len(x)}")
    return x


def conditions(model: Any, n: int, labels: Any) -> tuple[np.ndarray, ...]:
    """What an encoder is given beside `n` images: the labels, if the model takes any.

    Raises:
        ValueError: If it does and there are none.
    """
    if not model.takes_labels:
        return ()
    if labels is None:
        raise ValueError(
            "This model encodes images together with their class: pass labels, (N,). "
            "Received: labels=None"
        )
    return (model._classes(n, labels),)


def along_line(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """Points in equal steps on the straight line between two latents.

    Args:
        first: `(N, Z)`.
        second: `(N, Z)`.
        steps: How many, both ends included.

    Returns:
        `(N, steps, Z)`.
    """
    share = np.linspace(0.0, 1.0, steps)[:, None]
    return (1.0 - share) * first[:, None] + share * second[:, None]


def along_arc(first: np.ndarray, second: np.ndarray, steps: int) -> np.ndarray:
    """Points in equal angles on the arc between two latents, their norms in equal steps.

    Shoemake, 1985, https://doi.org/10.1145/325334.325242, of the directions. Standard normal noise
    in many dimensions has a norm close to sqrt(Z), which straight lines leave: halfway between two
    draws it is sqrt(Z / 2), and a generator has hardly seen any such noise (White, 2016,
    https://arxiv.org/abs/1609.04468).

    Args:
        first: `(N, Z)`.
        second: `(N, Z)`.
        steps: How many, both ends included.

    Returns:
        `(N, steps, Z)`.

    Raises:
        ValueError: If two ends are opposite, so that no arc is the shortest, or one is zero.
    """
    norms = [np.linalg.norm(end, axis=1)[:, None] for end in (first, second)]
    if min(norm.min() for norm in norms) == 0:
        raise ValueError(
            "An arc leads from direction to direction, and zero has none: go straight, with "
            "spherical=False. Received: a latent of zeros"
        )
    a, b = first / norms[0], second / norms[1]
    # As the half angle between sum and difference, which is exact where a cosine is not.
    angle = 2.0 * np.arctan2(*(np.linalg.norm(x, axis=1) for x in (a - b, a + b)))[:, None, None]
    if (angle > np.pi - 1e-6).any():
        raise ValueError(
            "Between opposite latents no arc is the shortest: go straight, with spherical=False, "
            "or choose others. Received: a latent and its negative"
        )
    share = np.linspace(0.0, 1.0, steps)[:, None]
    # np.sinc(x / pi) = sin(x) / x has its limit where the directions are the same.
    of_a, of_b = (s * np.sinc(s * angle / np.pi) for s in (1.0 - share, share))
    direction = (of_a * a[:, None] + of_b * b[:, None]) / np.sinc(angle / np.pi)
    norm = (1.0 - share) * norms[0][:, None] + share * norms[1][:, None]
    return norm * direction


class LatentSpace:
    """The vectors that a model makes images of.

    Attributes:
        model: The model.
        size: Z. Of an InfoGAN that of all its noise, the codes included.
        encodes: Whether images can be encoded.
        normal: Whether the model draws its latents from N(0, I).

    Args:
        model: A model of images, or what `zoo.load` takes.

    Raises:
        ValueError: If it makes images of no vectors.
    """

    def __init__(self, model: Any):
        self.model = model_of("image", model)
        draws = type(self.model).draw is not ImageModel.draw
        self.encodes = hasattr(self.model, "encode") and hasattr(self.model, "decode")
        if not draws and not self.encodes:
            why = "it has neither a `draw` nor a pair `encode`, `decode`"
            if hasattr(self.model, "codebook"):
                why = (
                    "its codes are numbers of vectors in a list, and between two numbers there is "
                    "nothing; `reconstructions` and `saliency` work"
                )
            raise ValueError(
                f"This model makes its images of no vectors that one could move: {why}. "
                f"Received: {self.model._title}"
            )
        self._images = self.model.draw if draws else self.model.decode
        # The bound of `log_weights` is on a likelihood under that prior.
        self.normal = draws or hasattr(self.model, "log_weights")
        self.size = int(getattr(self.model, "noise_dim", self.model.latent_dim))

    def draw(self, n: int, seed: int = 0) -> np.ndarray:
        """Latents of the model's prior, float32 `(n, Z)`, the same for the same seed.

        Raises:
            ValueError: If it has none.
        """
        self.need_normal("give images or latents (N, Z) to begin with")
        return tf.random.stateless_normal((n, self.size), fold([seed, 0], "samples")).numpy()

    def decode(self, z: Any, labels: Any = None) -> np.ndarray:
        """The images of latents.

        Args:
            z: `(N, Z)`.
            labels: Of a model that takes them, as in `generate`.

        Returns:
            uint8 `(N, H, W, C)`.
        """
        z = self._checked(z)
        classes = self.model._classes(len(z), labels)
        parts = []
        for i in range(0, len(z), CHUNK):
            inputs = [z[i : i + CHUNK]]
            if self.model.takes_labels:
                inputs.append(tf.one_hot(classes[i : i + CHUNK], self.model.num_classes))
            parts.append(to_uint8(self._images(*inputs)).numpy())
        return np.concatenate(parts)

    def encode(self, x: Any, labels: Any = None) -> np.ndarray:
        """The latents of images; of a VAE the means.

        Args:
            x: uint8 `(N, H, W[, C])` of the model's size.
            labels: `(N,)`. Used if the model takes labels.

        Returns:
            `(N, Z)`.

        Raises:
            ValueError: If the model has no encoder, or the images do not fit.
        """
        self.need_encoder()
        x = checked_images(self.model, x)
        return self._checked(self.model.encode(x, *conditions(self.model, len(x), labels)))

    def latents_of(self, given: Any, labels: Any = None) -> np.ndarray:
        """Images `(N, H, W[, C])` encoded, latents `(N, Z)` as they are."""
        return self.encode(given, labels) if np.ndim(given) > 2 else self._checked(given)

    def need_encoder(self) -> None:
        """Raises ValueError where images cannot be encoded."""
        if not self.encodes:
            raise ValueError(
                "This takes a model with an encoder, such as a VAE; of others pass latents (N, Z) "
                f"where there is a choice. Received: {self.model._title}"
            )

    def need_normal(self, instead: str) -> None:
        """Raises ValueError, which says what to do, where latents cannot be drawn."""
        if not self.normal:
            raise ValueError(
                f"This model has no distribution that latents are drawn from: {instead}. "
                f"Received: {self.model._title}"
            )

    def _checked(self, z: Any) -> np.ndarray:
        z = np.asarray(z, "float32")
        if z.ndim != 2 or len(z) < 1 or z.shape[1] != self.size or not np.isfinite(z).all():
            raise ValueError(
                f"Latents of this model are finite numbers (N, {self.size}); one latent is written "
                f"z[None]. Received: {z.shape}"
            )
        return z
