"""GAN: two fully connected networks that play against each other.

Generative Adversarial Networks. Goodfellow, Pouget-Abadie, Mirza, Xu, Warde-Farley, Ozair,
Courville, Bengio, 2014, https://arxiv.org/abs/1406.2661

The discriminator D tells real images from generated ones, the generator G makes images from noise
z that D takes for real. With D(x) a logit and `softplus(a) = log(1 + exp(a))`, D minimises

    d_loss = E_x[softplus(-D(x))] + E_z[softplus(D(G(z)))]          equation 1, negated

and G, instead of maximising the second term, whose gradient vanishes where D is sure, minimises

    g_loss = E_z[softplus(-D(G(z)))]                                 section 3, "non-saturating"

The two take turns, each on noise of its own (algorithm 1 with k = 1).

Shapes: B batch, H height, W width, C channels, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import Dropout
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@network
def generator(image_shape, latent_dim, hidden_units):
    """Noise (B, Z) to images (B, H, W, C) in [-1, 1]."""
    height, width, channels = image_shape
    z = x = keras.Input((latent_dim,))
    for units in (hidden_units // 4, hidden_units // 2, hidden_units):
        x = layers.LeakyReLU(0.2)(layers.Dense(units)(x))
    x = layers.Dense(height * width * channels, activation="tanh", dtype="float32")(x)
    return keras.Model(z, layers.Reshape(image_shape, dtype="float32")(x))


@network
def discriminator(image_shape, hidden_units):
    """Images (B, H, W, C) in [-1, 1] to logits (B, 1): positive is "real"."""
    image = keras.Input(image_shape)
    x = layers.Flatten()(image)
    for units in (hidden_units, hidden_units // 2, hidden_units // 4):
        x = layers.LeakyReLU(0.2)(layers.Dense(units)(x))
        # Without dropout D learns the training images by heart within minutes.
        x = Dropout(0.3)(x)
    return keras.Model(image, layers.Dense(1, dtype="float32")(x))


def discriminator_loss(real_logits, fake_logits):
    """Equation 1, negated: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(
        tf.nn.softplus(fake_logits)
    )


def generator_loss(fake_logits):
    """The non-saturating loss of section 3: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


@keras.saving.register_keras_serializable("keras_genai")
class GAN(ImageModel):
    """The model of Goodfellow et al. (2014).

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z, the size of the noise.
        hidden_units: Width of the widest hidden layer.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss")
    adversarial = True
    training_only = ("discriminator",)
    sure_d_loss = 0.04

    def __init__(self, image_shape=None, latent_dim=100, hidden_units=1024, seed=None, **kwargs):
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.hidden_units = latent_dim, hidden_units

    def build_networks(self):
        self.generator = generator(self.image_shape, self.latent_dim, self.hidden_units)
        self.discriminator = discriminator(self.image_shape, self.hidden_units)

    def call(self, z, training=False):
        return self.generator(z, training=training)

    def draw(self, z):
        return self.generator(z)

    def sample(self, n, seed):
        return self.draw(tf.random.stateless_normal((n, self.latent_dim), seed))

    def train_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]

        x_fake = self.generator(self.normal((batch_size, self.latent_dim)), training=True)
        with tf.GradientTape() as tape:
            real_logits = self.discriminator(x_real, training=True)  # B 1
            fake_logits = self.discriminator(x_fake, training=True)  # B 1
            d_loss = discriminator_loss(real_logits, fake_logits)
        self.minimize(tape, d_loss, self.discriminator)

        z = self.normal((batch_size, self.latent_dim))
        with tf.GradientTape() as tape:
            fake_logits = self.discriminator(self.generator(z, training=True), training=True)
            g_loss = generator_loss(fake_logits)
        self.minimize(tape, g_loss, self.generator)
        return self.log({"d_loss": d_loss, "g_loss": g_loss})

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        x_fake = self.generator(self.fixed_normal((batch_size, self.latent_dim)))
        fake_logits = self.discriminator(x_fake)
        d_loss = discriminator_loss(self.discriminator(x_real), fake_logits)
        losses = {"d_loss": d_loss, "g_loss": generator_loss(fake_logits)}
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=5,
    batch_size=128,
    step_ms=60,
    paper="arXiv:1406.2661",
    tiny={"latent_dim": 8, "hidden_units": 32},
)
def gan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 100,
    hidden_units: int = 1024,
    learning_rate: float = 2e-4,
    seed: int | None = None,
):
    """Fully connected GAN: the original, for small images."""
    model = GAN(image_shape, latent_dim, hidden_units, seed)
    # beta_1 = 0.5: with Adam's usual 0.9 the two players overshoot each other (Radford 2015).
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=True),
    )
    return model
