"""Denoising autoencoder: gives back the image from before it was damaged.

Extracting and Composing Robust Features with Denoising Autoencoders. Vincent, Larochelle, Bengio,
Manzagol, 2008, https://doi.org/10.1145/1390156.1390294, and, with other kinds of noise, Stacked
Denoising Autoencoders, Vincent, Larochelle, Lajoie, Bengio, Manzagol, 2010,
https://www.jmlr.org/papers/v11/vincent10a.html

The networks are those of `autoencoder.py`. They are given a damaged image, other damage each step,
and the error is that against the clean one (2010, equation 7 with the squared error):

    reconstruction = E_x,noise[sum((x - g(f(damaged x)))^2)]

Damage is of one of the kinds of 2010, section 3.3, with a `noise_level` nu:

    gaussian          to each value nu times the range from black to white times N(0, 1) is added
    masking           each pixel is black with probability nu
    salt_and_pepper   each pixel is, with probability nu, black or white, as a coin falls

Unlike there, what gaussian noise makes blacker than black or whiter than white is cut off, since no
image that is given to the model later can hold it; and with masking each pixel has its own lot,
where the paper draws a fixed number of pixels.

`psnr` is that of the output against the clean image, `psnr_input` that of the damaged one, in dB
(10 log10(range^2 / mean squared error)): the difference is what the model gains.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import functools
import math
from typing import Literal

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.metrics.pixels import CLOSEST
from keras_genai.models.base import jit_compile_default
from keras_genai.models.vaes.autoencoder import Autoencoder, squared_error
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register

KINDS = ("gaussian", "masking", "salt_and_pepper")


def add_gaussian(x, noise, level):
    """Images (B, H, W, C) in [-1, 1] with standard normal `noise` of that shape."""
    return tf.clip_by_value(x + 2.0 * level * noise, -1.0, 1.0)


def mask(x, lots, level):
    """Images (B, H, W, C) in [-1, 1], black where `lots` (B, H, W, 1) in [0, 1) are below."""
    return tf.where(lots < level, -1.0, x)


def salt_and_pepper(x, lots, level):
    """As `mask`, but black below half the level, and white between that and the level."""
    return tf.where(lots < 0.5 * level, -1.0, tf.where(lots < level, 1.0, x))


def psnr(x, y):
    """The peak signal-to-noise ratio of images (B, H, W, C) in [-1, 1], mean of the batch, in dB.

    What of `y` lies outside is cut off, as in a picture.
    """
    y = tf.clip_by_value(y, -1.0, 1.0)
    error = tf.reduce_mean((0.5 * (x - y)) ** 2, axis=[1, 2, 3])  # B, in units of the range
    decibels = -10.0 / math.log(10.0) * tf.math.log(tf.maximum(error, 10.0 ** (-CLOSEST / 10.0)))
    return tf.reduce_mean(decibels)


@keras.saving.register_keras_serializable("keras_genai")
class DenoisingAutoencoder(Autoencoder):
    """The model of Vincent et al. (2008), with convolutions.

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        noise: "gaussian", "masking" or "salt_and_pepper".
        noise_level: nu, above 0 and at most 1.
        latent_dim: Z.
        base_filters: Channels at half the image's size; twice that at a quarter.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("reconstruction", "psnr", "psnr_input")
    restores = True

    def __init__(
        self,
        image_shape=None,
        noise="gaussian",
        noise_level=0.5,
        latent_dim=64,
        base_filters=32,
        seed=None,
        **kwargs,
    ):
        super().__init__(image_shape, latent_dim, base_filters, seed, **kwargs)
        if noise not in KINDS:
            raise ValueError(f"`noise` is one of {', '.join(KINDS)}. Received: noise={noise!r}")
        if not 0.0 < noise_level <= 1.0:
            raise ValueError(
                "`noise_level` lies above 0 and is at most 1: a share of the pixels, or of the "
                f"range from black to white. Received: noise_level={noise_level}"
            )
        self.noise, self.noise_level = noise, noise_level

    def damage(self, x, normal, uniform):
        """Images (B, H, W, C) in [-1, 1], damaged by draws of one of two functions of a shape."""
        batch_size = tf.shape(x)[0]
        if self.noise == "gaussian":
            return add_gaussian(x, normal((batch_size, *self.image_shape)), self.noise_level)
        lots = uniform((batch_size, *self.image_shape[:2], 1))
        return (mask if self.noise == "masking" else salt_and_pepper)(x, lots, self.noise_level)

    def damaged(self, x, seed):
        """As `damage`, with the noise of a seed."""
        draws = (tf.random.stateless_normal, tf.random.stateless_uniform)
        return self.damage(x, *(functools.partial(draw, seed=seed) for draw in draws))

    def terms(self, x, x_noisy, training):
        """The loss and both signal-to-noise ratios, scalars by name, of images (B, H, W, C)."""
        denoised = self(x_noisy, training=training)
        return {
            "reconstruction": squared_error(x, denoised),
            "psnr": psnr(x, denoised),
            "psnr_input": psnr(x, x_noisy),
        }

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        x_noisy = self.damage(x, self.normal, self.uniform)
        with tf.GradientTape() as tape:
            terms = self.terms(x, x_noisy, training=True)
        self.minimize(tape, terms["reconstruction"], self.encoder, self.decoder)
        return self.log(terms, total=terms["reconstruction"])

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        x_noisy = self.damage(x, self.fixed_normal, self.fixed_uniform)
        terms = self.terms(x, x_noisy, training=False)
        return self.log(terms, total=terms["reconstruction"], count=tf.shape(x)[0])


@register(
    modality="image",
    task="transform",
    data="mnist",
    minutes=4,
    batch_size=128,
    step_ms=55,
    paper="doi:10.1145/1390156.1390294",
    tiny={"latent_dim": 4, "base_filters": 4},
)
def denoising_autoencoder(
    image_shape: tuple[int, int, int] | None = None,
    noise: Literal["gaussian", "masking", "salt_and_pepper"] = "gaussian",
    noise_level: float = 0.5,
    latent_dim: int = 64,
    base_filters: int = 32,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Denoising autoencoder: clean images of noisy ones."""
    model = DenoisingAutoencoder(image_shape, noise, noise_level, latent_dim, base_filters, seed)
    model.compile(Adam(learning_rate), jit_compile=jit_compile_default(on_cpu=False))
    return model
