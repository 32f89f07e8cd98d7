"""VAE: an encoder and a decoder, trained to maximise a bound on the likelihood of the data.

Auto-Encoding Variational Bayes. Kingma, Welling, 2013, https://arxiv.org/abs/1312.6114

The encoder gives q(z|x) = N(mu, sigma^2), the decoder p(x|z), the prior is p(z) = N(0, I). The loss
is the negative of the evidence lower bound (equation 3), in nats an image:

    reconstruction = -E_q[log p(x|z)],   estimated with one z = mu + sigma eps, eps ~ N(0, I)
    kl = KL(q(z|x) || p(z)) = 1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)            appendix B
    loss = reconstruction + kl  >=  -log p(x)

p(x|z) is Bernoulli for each pixel, with the grey value in [0, 1] as the expected outcome: the loss
bounds the negative log-likelihood of images binarised at random with these values, averaged over
the binarisations.

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model, to_uint8
from keras_genai.layers import Conv2D, Conv2DTranspose
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@network
def encoder(image_shape, latent_dim, base_filters):
    """Images (B, H, W, C) in [-1, 1] to mu and log_var, each (B, Z)."""
    x = image = keras.Input(image_shape)
    for filters in (base_filters, 2 * base_filters):
        x = Conv2D(filters, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Dense(8 * base_filters, activation="relu")(layers.Flatten()(x))
    mu = layers.Dense(latent_dim, dtype="float32")(x)
    log_var = layers.Dense(latent_dim, dtype="float32")(x)
    return keras.Model(image, [mu, log_var])


@network
def decoder(image_shape, latent_dim, base_filters):
    """Latents (B, Z) to logits of the pixels (B, H, W, C)."""
    height, width, channels = image_shape
    start = (height // 4, width // 4, 2 * base_filters)
    upsample = {"kernel_size": 4, "strides": 2, "padding": "same"}
    z = keras.Input((latent_dim,))
    x = layers.Dense(8 * base_filters, activation="relu")(z)
    x = layers.Dense(start[0] * start[1] * start[2], activation="relu")(x)
    x = layers.Reshape(start)(x)
    x = Conv2DTranspose(base_filters, **upsample, activation="relu")(x)
    return keras.Model(z, Conv2DTranspose(channels, **upsample, dtype="float32")(x))


def bernoulli_nll(x, logits):
    """-log p(x|z) in nats, (B,), of images `x` in [-1, 1] under `logits`, both (B, H, W, C)."""
    x_01 = (x + 1.0) / 2.0
    per_pixel = tf.nn.sigmoid_cross_entropy_with_logits(x_01, logits)
    return tf.reduce_sum(per_pixel, axis=[1, 2, 3])


def gaussian_kl(mu, log_var):
    """KL(N(mu, exp(log_var)) || N(0, I)) in nats, (B,), from (B, Z): appendix B."""
    return 0.5 * tf.reduce_sum(mu**2 + tf.exp(log_var) - log_var - 1.0, axis=1)


@keras.saving.register_keras_serializable("keras_genai")
class VAE(ImageModel):
    """The model of Kingma and Welling (2013), with convolutions.

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        latent_dim: Z.
        base_filters: Channels at half the image's size; twice that at a quarter.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("reconstruction", "kl")
    stride = 4

    def __init__(self, image_shape=None, latent_dim=32, base_filters=32, seed=None, **kwargs):
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.base_filters = latent_dim, base_filters

    def build_networks(self):
        self.encoder = encoder(self.image_shape, self.latent_dim, self.base_filters)
        self.decoder = decoder(self.image_shape, self.latent_dim, self.base_filters)

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1] from the mean of their latents."""
        mu, _ = self.encoder(x, training=training)
        return self.decode(mu, training=training)

    def decode(self, z, training=False):
        """The expected images (B, H, W, C) in [-1, 1] of latents (B, Z)."""
        return 2.0 * tf.sigmoid(self.decoder(z, training=training)) - 1.0

    def sample(self, n, seed):
        return self.decode(tf.random.stateless_normal((n, self.latent_dim), seed))

    def elbo_terms(self, x, eps, training):
        """Mean reconstruction and kl, in nats an image, with one z from noise `eps` (B, Z)."""
        mu, log_var = self.encoder(x, training=training)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps  # equation 10
        logits = self.decoder(z, training=training)  # B H W C
        return {
            "reconstruction": tf.reduce_mean(bernoulli_nll(x, logits)),
            "kl": tf.reduce_mean(gaussian_kl(mu, log_var)),
        }

    def log_weights(self, x, eps):
        """The importance weights log p(x, z) - log q(z|x), (B,), at the z of noise `eps` (B, Z).

        The log of their mean over many draws bounds log p(x) more tightly than the evidence lower
        bound, which is the mean of the logs: Burda, Grosse, Salakhutdinov, 2015,
        https://arxiv.org/abs/1509.00519, equation 8.
        """
        mu, log_var = self.encoder(x)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps
        # log p(z) - log q(z|x); the constants cancel.
        ratio = 0.5 * tf.reduce_sum(eps**2 + log_var - z**2, axis=1)
        return ratio - bernoulli_nll(x, self.decoder(z))

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        eps = self.normal((tf.shape(x)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(x, eps, training=True)
            loss = terms["reconstruction"] + terms["kl"]
        self.minimize(tape, loss, self.encoder, self.decoder)
        return self.log(terms)

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x)[0]
        eps = self.fixed_normal((batch_size, self.latent_dim))
        return self.log(self.elbo_terms(x, eps, training=False), count=batch_size)

    def encode(self, images):
        """Means of the latents, float32 (N, Z), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: self.encoder(x)[0], images)

    def reconstruct(self, images):
        """Reconstructions, uint8 (N, H, W, C), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: to_uint8(self(x)), images)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=5,
    batch_size=128,
    step_ms=55,
    paper="arXiv:1312.6114",
    tiny={"latent_dim": 4, "base_filters": 4},
)
def vae(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 32,
    base_filters: int = 32,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Convolutional VAE: an encoder, reconstructions, and a bound on the likelihood."""
    model = VAE(image_shape, latent_dim, base_filters, seed)
    model.compile(Adam(learning_rate), jit_compile=jit_compile_default(on_cpu=False))
    return model
