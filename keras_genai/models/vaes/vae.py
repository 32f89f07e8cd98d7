"""VAE: an encoder and a decoder, trained to maximise a bound on the likelihood of the data.

Auto-Encoding Variational Bayes. Kingma, Welling, 2013, https://arxiv.org/abs/1312.6114

The encoder gives q(z|x) = N(mu, sigma^2), the decoder p(x|z), the prior is p(z) = N(0, I). The loss
is the negative of the evidence lower bound (equation 3), in nats an image:

    reconstruction = -E_q[log p(x|z)],   estimated with one z = mu + sigma eps, eps ~ N(0, I)
    kl = KL(q(z|x) || p(z)) = 1/2 sum(mu^2 + sigma^2 - log sigma^2 - 1)            appendix B
    loss = reconstruction + kl  >=  -log p(x)

What a nat is depends on p(x|z), the `likelihood`; bounds of different ones do not compare:

- "bernoulli": each pixel is white with a probability p. Grey values in [0, 1] count as expected
  outcomes: the loss bounds the negative log-likelihood of images binarised at random with these
  values, averaged over the binarisations. With `binarize=True` each image is drawn so anew whenever
  it is seen, by the encoder too: the bound is more tight, since z knows which one it was.
- "gaussian": x in [-1, 1] has the density N(mean, s^2), with one scale s, learnt, for all pixels
  (Rybkin et al., 2020, https://arxiv.org/abs/2006.13202). A stated one would weigh reconstruction
  against kl by hand; one a pixel lets the density grow without limit where pixels are constant.
- "discretized_logistic": the probability of each of the 256 levels under a logistic distribution,
  of which the decoder gives mean and scale for each pixel: that of the bin between x - 1/255 and
  x + 1/255, where the first and the last are open (Salimans et al., 2017, section 2.1, with one
  component, https://arxiv.org/abs/1701.05517). By log 2 and pixel values it is bits a dimension.

Shapes: B batch, H height, W width, C channels, K draws an image, Z latent size.
"""

import math
from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model, to_uint8
from keras_genai.layers import BatchNormalization, Conv2D, Conv2DTranspose
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import adam
from keras_genai.zoo.registry import register

TWO = {"kernel_size": 4, "strides": 2, "padding": "same"}
IMAGE_AXES = (-3, -2, -1)
HALF_LEVEL = 1.0 / 255.0  # in [-1, 1]
LEAST_LOG_SCALE = -7.0  # a ninth of a level: all but 3 % of the logistic then lies in one bin


def normalized(x):
    """Batch normalisation and ReLU, which few VAEs had before Sonderby et al. found what it gains.

    Ladder Variational Autoencoders, 2016, https://arxiv.org/abs/1602.02282, section 3.
    """
    return layers.ReLU()(BatchNormalization()(x))


@network
def encoder(image_shape, latent_dim, architecture, base_filters, hidden_units, num_classes=0):
    """Images (B, H, W, C) in [-1, 1] to mu and log_var, each (B, Z).

    With `num_classes` one-hot classes are joined to what the first fully connected layer sees.
    """
    x = image = keras.Input(image_shape)
    widths = (hidden_units, hidden_units)
    if architecture == "convolutional":
        widths = (8 * base_filters,)
        for filters in (base_filters, 2 * base_filters):
            x = normalized(Conv2D(filters, **TWO, use_bias=False)(x))
    x, inputs = layers.Flatten()(x), image
    if num_classes:
        inputs = [image, keras.Input((num_classes,))]
        x = layers.Concatenate()([x, inputs[1]])
    for units in widths:
        x = normalized(layers.Dense(units, use_bias=False)(x))
    mu = layers.Dense(latent_dim, dtype="float32")(x)
    log_var = layers.Dense(latent_dim, dtype="float32")(x)
    return keras.Model(inputs, [mu, log_var])


@network
def decoder(image_shape, latent_dim, architecture, base_filters, hidden_units, likelihood):
    """Latents (B, Z) to logits (B, H, W, C), or means and log scales, joined (B, H, W, 2C)."""
    height, width, channels = image_shape
    outputs = 2 * channels if likelihood == "discretized_logistic" else channels
    x = z = keras.Input((latent_dim,))
    if architecture == "dense":
        for _ in range(2):
            x = normalized(layers.Dense(hidden_units, use_bias=False)(x))
        x = layers.Dense(height * width * outputs, dtype="float32")(x)
        x = layers.Reshape((height, width, outputs))(x)
    else:
        start = (height // 4, width // 4, 2 * base_filters)
        x = normalized(layers.Dense(8 * base_filters, use_bias=False)(x))
        x = normalized(layers.Reshape(start)(layers.Dense(math.prod(start), use_bias=False)(x)))
        x = normalized(Conv2DTranspose(base_filters, **TWO, use_bias=False)(x))
        x = Conv2DTranspose(outputs, **TWO, dtype="float32")(x)
    if likelihood == "gaussian":
        x = SharedScale(dtype="float32")(x)
    return keras.Model(z, x)


@keras.saving.register_keras_serializable("keras_genai")
class SharedScale(layers.Layer):
    """Joins to means (B, H, W, C) their log scale, one number for all, learnt: (B, H, W, 2C)."""

    def build(self, input_shape):
        # Grey values in [-1, 1] spread by 0.6 or less round their mean, around a good one by less.
        start = keras.initializers.Constant(-1.0)
        self.log_scale = self.add_weight(name="log_scale", shape=(1,), initializer=start)

    def call(self, mean):
        return tf.concat([mean, tf.zeros_like(mean) + self.log_scale], -1)


def bernoulli_nll(x, logits):
    """-log p(x|z) in nats, (..., B), of images (B, H, W, C) in [-1, 1].

    `logits` (..., B, H, W, C), below the other parameters, may be of several draws of z.
    """
    x_01 = (x + 1.0) / 2.0
    # -x log p - (1 - x) log(1 - p), with log p = logits - softplus(logits)
    return tf.reduce_sum(tf.nn.softplus(logits) - x_01 * logits, IMAGE_AXES)


def gaussian_nll(x, mean, log_scale):
    """-log N(x; mean, exp(log_scale)^2) in nats, (..., B), of images (B, H, W, C)."""
    squares = ((x - mean) * tf.exp(-log_scale)) ** 2
    return tf.reduce_sum(0.5 * squares + log_scale + 0.5 * math.log(2.0 * math.pi), IMAGE_AXES)


def discretized_logistic_nll(x, mean, log_scale):
    """-log of the probability of the levels `x` = -1 + 2/255 (0, ..., 255), (..., B), in nats.

    Salimans et al., equation 2. With a and b the upper and the lower edge of the bin, in scales
    from the mean,

        log(sigmoid(a) - sigmoid(b)) = log sigmoid(a) + log sigmoid(-b) + log(1 - exp(b - a))

    which needs no other formula where the difference is rounded to 0.
    """
    log_scale = tf.maximum(log_scale, LEAST_LOG_SCALE)
    inverse = tf.exp(-log_scale)
    above, below = (x - mean + HALF_LEVEL) * inverse, (x - mean - HALF_LEVEL) * inverse
    log_width = tf.math.log(-tf.math.expm1(-2.0 * HALF_LEVEL * inverse))
    first, last = x < -1.0 + HALF_LEVEL, x > 1.0 - HALF_LEVEL
    per_pixel = (
        tf.where(last, 0.0, tf.nn.softplus(-above))
        + tf.where(first, 0.0, tf.nn.softplus(below))
        - tf.where(first | last, 0.0, log_width)
    )
    return tf.reduce_sum(per_pixel, IMAGE_AXES)


def clipped_logistic_mean(mean, log_scale):
    """The mean of a logistic variable whose values beyond -1 and 1 count as these.

    -1 plus the integral of P(X > t) over t from -1 to 1. The mean of the levels is that integral
    by the midpoint rule: it differs by less than half a level.
    """
    scale = tf.exp(tf.maximum(log_scale, LEAST_LOG_SCALE))
    return -1.0 + scale * (
        tf.nn.softplus((mean + 1.0) / scale) - tf.nn.softplus((mean - 1.0) / scale)
    )


def image_nll(likelihood, x, outputs):
    """-log p(x|z) in nats, (..., B), of images (B, H, W, C) under the decoder's `outputs`."""
    if likelihood == "bernoulli":
        return bernoulli_nll(x, outputs)
    nll = gaussian_nll if likelihood == "gaussian" else discretized_logistic_nll
    return nll(x, *tf.split(outputs, 2, -1))


def expected_image(likelihood, outputs):
    """E[x|z] (B, H, W, C) in [-1, 1], of the decoder's `outputs`: without the noise of pixels."""
    if likelihood == "bernoulli":
        return 2.0 * tf.sigmoid(outputs) - 1.0
    mean, log_scale = tf.split(outputs, 2, -1)
    return mean if likelihood == "gaussian" else clipped_logistic_mean(mean, log_scale)


def gaussian_kl(mu, log_var):
    """KL(N(mu, exp(log_var)) || N(0, I)) in nats, (B,), from (B, Z): appendix B."""
    return 0.5 * tf.reduce_sum(mu**2 + tf.exp(log_var) - log_var - 1.0, axis=1)


def log_ratio(z, eps, log_var):
    """As logs p(z) / q(z|x) in nats, (..., B), of z = mu + exp(log_var / 2) eps (..., B, Z)."""
    return 0.5 * tf.reduce_sum(eps**2 + log_var - z**2, axis=-1)  # the constants cancel


def binarized(x, u):
    """Images (B, H, W, C) in -1 and 1: white where `u` in [0, 1) is below the grey value."""
    return tf.where(u < (x + 1.0) / 2.0, 1.0, -1.0)


def check_choice(name, value, *choices):
    """Raises ValueError where an argument is none of its choices."""
    if value not in choices:
        raise ValueError(f"`{name}` is one of {', '.join(choices)}. Received: {name}={value!r}")


@keras.saving.register_keras_serializable("keras_genai")
class VAE(ImageModel):
    """The model of Kingma and Welling (2013).

    Args:
        image_shape: (H, W, C), for convolutions multiples of 4, or None: from the data.
        latent_dim: Z.
        architecture: "convolutional" or "dense", fully connected.
        base_filters: Of convolutions: channels at half the image's size; twice that at a quarter.
        hidden_units: Of fully connected networks: units in each of the two hidden layers.
        likelihood: p(x|z): "bernoulli", "gaussian" or "discretized_logistic".
        binarize: Whether grey values are chances of white, drawn anew each time.
        seed: Fixes weights, noise and data order.
    """

    loss_names: tuple[str, ...] = ("reconstruction", "kl")

    def __init__(
        self,
        image_shape=None,
        latent_dim=32,
        architecture="convolutional",
        base_filters=32,
        hidden_units=500,
        likelihood="bernoulli",
        binarize=False,
        seed=None,
        **kwargs,
    ):
        check_choice("architecture", architecture, "convolutional", "dense")
        check_choice("likelihood", likelihood, "bernoulli", "gaussian", "discretized_logistic")
        if binarize and likelihood != "bernoulli":
            raise ValueError(
                "Black and white images have the likelihood 'bernoulli': choose it, or leave out "
                f"`binarize`. Received: binarize=True, likelihood={likelihood!r}"
            )
        self.stride = 4 if architecture == "convolutional" else 1
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.architecture = latent_dim, architecture
        self.base_filters, self.hidden_units = base_filters, hidden_units
        self.likelihood, self.binarize = likelihood, binarize

    def build_networks(self):
        sizes = self.latent_dim, self.architecture, self.base_filters, self.hidden_units
        self.encoder = encoder(self.image_shape, *sizes)
        self.decoder = decoder(self.image_shape, *sizes, self.likelihood)

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1] from the mean of their latents."""
        mu, _ = self.encoder(self.most_probable(x), training=training)
        return self.decode(mu, training=training)

    def decode(self, z, training=False):
        """The expected images (B, H, W, C) in [-1, 1] of latents (B, Z)."""
        return expected_image(self.likelihood, self.decoder(z, training=training))

    def sample(self, n, seed):
        return self.decode(tf.random.stateless_normal((n, self.latent_dim), seed))

    def most_probable(self, x):
        """Images as the encoder knows them, always the same: half white or more counts as white."""
        return binarized(x, 0.5) if self.binarize else x

    def observed(self, x, uniform):
        """Images as they are modelled: with `binarize` drawn, by noise from `uniform(shape)`."""
        shape = (tf.shape(x)[0], *self.image_shape)
        return binarized(x, uniform(shape)) if self.binarize else x

    def elbo_terms(self, x, eps, training):
        """Mean reconstruction and kl, in nats an image, with one z from noise `eps` (B, Z)."""
        mu, log_var = self.encoder(x, training=training)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps  # equation 10
        outputs = self.decoder(z, training=training)  # B H W C, or B H W 2C
        return {
            "reconstruction": tf.reduce_mean(image_nll(self.likelihood, x, outputs)),
            "kl": tf.reduce_mean(gaussian_kl(mu, log_var)),
        }

    def log_weights(self, x, eps):
        """The importance weights log p(x, z) - log q(z|x), (..., B), at the z of noise `eps`.

        The log of their mean over many draws bounds log p(x) more tightly than the evidence lower
        bound, which is the mean of the logs: Burda, Grosse, Salakhutdinov, 2015,
        https://arxiv.org/abs/1509.00519, equation 8.

        Args:
            x: Images (B, H, W, C) in [-1, 1]; of a model with `binarize` -1 and 1.
            eps: (B, Z), or (K, B, Z) for K draws an image.
        """
        mu, log_var = self.encoder(x)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps
        return log_ratio(z, eps, log_var) - self.draws_nll(x, z)

    def draws_nll(self, x, z, training=False):
        """-log p(x|z) in nats, (..., B), of images (B, H, W, C) for each of the z (..., B, Z)."""
        outputs = self.decoder(tf.reshape(z, (-1, z.shape[-1])), training=training)
        shape = tf.concat([tf.shape(z)[:-1], outputs.shape[1:]], 0)
        return image_nll(self.likelihood, x, tf.reshape(outputs, shape))

    def train_step(self, data):
        x = self.observed(to_model(data["image"]), self.uniform)  # B H W C
        eps = self.normal((tf.shape(x)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(x, eps, training=True)
            loss = terms["reconstruction"] + terms["kl"]
        self.minimize(tape, loss, self.encoder, self.decoder)
        return self.log(terms)

    def test_step(self, data):
        x = self.observed(to_model(data["image"]), self.fixed_uniform)  # B H W C
        batch_size = tf.shape(x)[0]
        eps = self.fixed_normal((batch_size, self.latent_dim))
        return self.log(self.elbo_terms(x, eps, training=False), count=batch_size)

    def encode(self, images):
        """Means of the latents, float32 (N, Z), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: self.encoder(self.most_probable(x))[0], images)

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
    architecture: Literal["convolutional", "dense"] = "convolutional",
    base_filters: int = 32,
    hidden_units: int = 500,
    likelihood: Literal["bernoulli", "gaussian", "discretized_logistic"] = "bernoulli",
    binarize: bool = False,
    learning_rate: float = 1e-3,
    decay_steps: int = 0,
    seed: int | None = None,
):
    """VAE: an encoder, reconstructions, and a bound on the likelihood."""
    model = VAE(
        image_shape, latent_dim, architecture, base_filters, hidden_units, likelihood, binarize,
        seed,
    )  # fmt: skip
    model.compile(
        adam(learning_rate, decay_steps),
        jit_compile=jit_compile_default(on_cpu=architecture == "dense"),
    )
    return model
