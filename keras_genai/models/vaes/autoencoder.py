"""Autoencoder: an image through a narrow code and back.

Reducing the Dimensionality of Data with Neural Networks. Hinton, Salakhutdinov, 2006,
https://doi.org/10.1126/science.1127647

An encoder f makes Z numbers of an image, a decoder g an image of these; both learn together to give
back what went in. The loss is the squared error of an image, in units of the model's range [-1, 1]:

    reconstruction = E_x[sum((x - g(f(x)))^2)]

The paper has grey values in [0, 1] from sigmoids, and their cross-entropy as the loss. Here g's
last layer is linear, as the layer of the code is there and here. With tanh, whose slope vanishes
near -1, dark images often ended in a decoder that says black for all of them, for good.

With linear networks the best code would be that of principal components; these are not linear, and
lose less with as many numbers. The paper starts its deep, fully connected networks from restricted
Boltzmann machines. Convolutions, ReLU and Adam need no such start; one layer by layer is in
`stacked_autoencoder.py`.

Nothing says how codes are distributed: g gives images of the codes of images, and of other numbers
it need not. A model to draw from is `vae.py`.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import Conv2D, Conv2DTranspose
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.transform_model import TransformModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@network
def encoder(image_shape, latent_dim, base_filters):
    """Images (B, H, W, C) in [-1, 1] to codes (B, Z)."""
    x = image = keras.Input(image_shape)
    for filters in (base_filters, 2 * base_filters):
        x = Conv2D(filters, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(8 * base_filters, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(latent_dim, dtype="float32")(x))


@network
def decoder(image_shape, latent_dim, base_filters):
    """Codes (B, Z) to images (B, H, W, C), nearly all in [-1, 1]."""
    height, width, channels = image_shape
    start = (height // 4, width // 4, 2 * base_filters)
    upsample = {"kernel_size": 4, "strides": 2, "padding": "same"}
    z = keras.Input((latent_dim,))
    x = layers.Dense(8 * base_filters, activation="relu")(z)
    x = layers.Dense(start[0] * start[1] * start[2], activation="relu")(x)
    x = layers.Reshape(start)(x)
    x = Conv2DTranspose(base_filters, **upsample, activation="relu")(x)
    x = Conv2DTranspose(channels, **upsample, dtype="float32")(x)
    return keras.Model(z, x)


def squared_error(x, y):
    """Of images (B, H, W, C), the sum over the pixels and the mean over the batch: a scalar."""
    return tf.reduce_mean(tf.reduce_sum((x - y) ** 2, axis=[1, 2, 3]))


@keras.saving.register_keras_serializable("keras_genai")
class Autoencoder(TransformModel):
    """The idea of Hinton and Salakhutdinov (2006), with convolutions.

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        latent_dim: Z.
        base_filters: Channels at half the image's size; twice that at a quarter.
        seed: Fixes weights and data order.
    """

    loss_names: tuple[str, ...] = ("reconstruction",)
    stride = 4

    def __init__(self, image_shape=None, latent_dim=32, base_filters=32, seed=None, **kwargs):
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.base_filters = latent_dim, base_filters

    def build_networks(self):
        self.encoder = encoder(self.image_shape, self.latent_dim, self.base_filters)
        self.decoder = decoder(self.image_shape, self.latent_dim, self.base_filters)

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1]; some values may lie a little outside."""
        return self.decode(self.encoder(x, training=training), training=training)

    def decode(self, z, training=False):
        """Images (B, H, W, C), nearly all in [-1, 1], of codes (B, Z)."""
        return self.decoder(z, training=training)

    def transform(self, x):
        return self(x)

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        with tf.GradientTape() as tape:
            loss = squared_error(x, self(x, training=True))
        self.minimize(tape, loss, self.encoder, self.decoder)
        return self.log({"reconstruction": loss})

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        return self.log({"reconstruction": squared_error(x, self(x))}, count=tf.shape(x)[0])

    def encode(self, images):
        """Codes, float32 (N, Z), of images uint8 (N, H, W, C)."""
        return self.in_batches(self.encoder, images)

    def reconstruct(self, images):
        """Reconstructions, uint8 (N, H, W, C), of images uint8 (N, H, W, C), as `generate`."""
        return self.generate(images)


@register(
    modality="image",
    task="transform",
    data="mnist",
    minutes=3,
    batch_size=128,
    step_ms=50,
    paper="doi:10.1126/science.1127647",
    tiny={"latent_dim": 4, "base_filters": 4},
)
def autoencoder(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 32,
    base_filters: int = 32,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Autoencoder: images through a narrow code and back."""
    model = Autoencoder(image_shape, latent_dim, base_filters, seed)
    model.compile(Adam(learning_rate), jit_compile=jit_compile_default(on_cpu=False))
    return model
