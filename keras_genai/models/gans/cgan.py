"""CGAN: a GAN that draws the class it is asked for.

Conditional Generative Adversarial Nets.
Mirza, Osindero, 2014, https://arxiv.org/abs/1411.1784

Both networks are told the class y (section 3.2, figure 1): G makes an image from noise z and y
joined, D judges whether an image is a real one of class y. With D(x|y) a logit and
`softplus(a) = log(1 + exp(a))`, D minimises

    d_loss = E_x,y[softplus(-D(x|y))] + E_z,y[softplus(D(G(z|y)|y))]    equation 2, negated

and G, in its non-saturating form (see `gan.py`),

    g_loss = E_z,y[softplus(-D(G(z|y)|y))]

Generated images are asked for with the labels of the real ones in the batch: their classes cannot
tell the two apart.

The paper's networks are fully connected. These are those of `dcgan.py`: y is joined one-hot to z,
and to the image as K more channels, of which channel y is 1 at every pixel and all others are 0.
What else is as in `dcgan.py`: the initial weights, Adam's beta_1, its learning rate, one batch of
generated images for both updates.

Shapes: B batch, H height, W width, C channels, K classes, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import Conv2D, check_policy
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.gans.dcgan import DOWNSAMPLE, generator, judgement, normal_weights
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def label_planes(classes, height, width):
    """One-hot classes (B, K) to channels (B, H, W, K), each constant over the image."""
    return tf.tile(classes[:, None, None, :], (1, height, width, 1))


@network
def discriminator(image_shape, num_classes, base_filters):
    """Images (B, H, W, C) in [-1, 1] and label planes (B, H, W, K) to logits (B, 1)."""
    image, planes = keras.Input(image_shape), keras.Input((*image_shape[:2], num_classes))
    # A convolution of joined channels is the sum of one of the image and one of the planes. Apart
    # they take 2/3 of the time: there is a fast layer for images, and planes need no gradient.
    of_image = Conv2D(base_filters, **DOWNSAMPLE, kernel_initializer=normal_weights())
    of_planes = layers.Conv2D(
        base_filters, **DOWNSAMPLE, use_bias=False, kernel_initializer=normal_weights()
    )
    x = layers.Add()([of_image(image), of_planes(planes)])
    return keras.Model([image, planes], judgement(x, image_shape, base_filters))


def discriminator_loss(real_logits, fake_logits):
    """Equation 2, negated: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(
        tf.nn.softplus(fake_logits)
    )


def generator_loss(fake_logits):
    """The non-saturating loss: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


@keras.saving.register_keras_serializable("keras_genai")
class CGAN(ImageModel):
    """The model of Mirza and Osindero (2014), with convolutions.

    Args:
        image_shape: (H, W, C), or None: from the data.
        num_classes: K, or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at half the image's size; doubled at each further halving.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        augment: "" or what D's images go through, such as "color,translation,cutout".
        seed: Fixes weights, noise and data order.
    """

    from_data = ("image_shape", "num_classes")
    loss_names: tuple[str, ...] = ("d_loss", "g_loss")
    adversarial = True
    training_only = ("discriminator",)
    sure_d_loss = 0.04

    def __init__(
        self,
        image_shape=None,
        num_classes=None,
        latent_dim=128,
        base_filters=32,
        ema_decay=0.0,
        augment="",
        seed=None,
        **kwargs,
    ):
        super().__init__(image_shape, seed, num_classes, **kwargs)
        self.latent_dim, self.base_filters = latent_dim, base_filters
        self.ema_decay, self.augment = ema_decay, check_policy(augment)

    def build_networks(self):
        self.generator = generator(
            self.image_shape, self.latent_dim + self.num_classes, self.base_filters
        )
        self.discriminator = discriminator(self.image_shape, self.num_classes, self.base_filters)
        self.ema_generator = self.averaged(self.generator)

    def call(self, z, classes, training=False):
        """Images (B, H, W, C) of noise (B, Z) and one-hot classes (B, K)."""
        return self.generator(tf.concat([z, classes], 1), training=training)

    def judge(self, x, classes, training=False):
        """Logits (B, 1) of images (B, H, W, C) and one-hot classes (B, K): positive is "real"."""
        planes = label_planes(classes, *self.image_shape[:2])  # B H W K
        return self.discriminator([x, planes], training=training)

    def draw(self, z, classes):
        return self.ema_generator(tf.concat([z, classes], 1))

    def sample(self, n, seed, labels):
        z = tf.random.stateless_normal((n, self.latent_dim), seed)
        return self.draw(z, tf.one_hot(labels, self.num_classes))

    def train_step(self, data):
        x_real = self.augmented(to_model(data["image"]))  # B H W C
        classes = tf.one_hot(data["label"], self.num_classes)  # B K
        z = self.normal((tf.shape(x_real)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            x_fake = self.augmented(self(z, classes, training=True))  # B H W C
            with tape.stop_recording():
                d_loss = self.train_discriminator(x_real, x_fake, classes)
            g_loss = generator_loss(self.judge(x_fake, classes, training=True))
        self.minimize(tape, g_loss, self.generator)
        return self.log({"d_loss": d_loss, "g_loss": g_loss})

    def train_discriminator(self, x_real, x_fake, classes):
        with tf.GradientTape() as tape:
            # Two passes: batch normalisation must not mix real with generated images.
            real_logits = self.judge(x_real, classes, training=True)  # B 1
            fake_logits = self.judge(x_fake, classes, training=True)  # B 1
            d_loss = discriminator_loss(real_logits, fake_logits)
        self.minimize(tape, d_loss, self.discriminator)
        return d_loss

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        classes = tf.one_hot(data["label"], self.num_classes)  # B K
        batch_size = tf.shape(x_real)[0]
        x_fake = self(self.fixed_normal((batch_size, self.latent_dim)), classes)
        fake_logits = self.judge(x_fake, classes)
        d_loss = discriminator_loss(self.judge(x_real, classes), fake_logits)
        losses = {"d_loss": d_loss, "g_loss": generator_loss(fake_logits)}
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="labels",
    data="mnist",
    minutes=8,
    batch_size=128,
    step_ms=120,
    paper="arXiv:1411.1784",
    tiny={"latent_dim": 8, "base_filters": 4, "ema_decay": 0.9},
)
def cgan(
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    ema_decay: float = 0.0,
    augment: str = "",
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """Conditional GAN: images of the class that is asked for."""
    model = CGAN(image_shape, num_classes, latent_dim, base_filters, ema_decay, augment, seed)
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
