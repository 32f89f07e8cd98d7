"""SNGAN: a residual GAN whose discriminator has layers of spectral norm 1.

Spectral Normalization for Generative Adversarial Networks. Miyato, Kataoka, Koyama, Yoshida, 2018,
https://arxiv.org/abs/1802.05957

Each weight matrix W of the discriminator D is divided by its largest singular value (equation 8,
`layers/spectral.py`), so that each layer, and with them D, is Lipschitz continuous. D is then good
to learn from wherever the generated images are, and needs no batch normalisation. The losses are
hinges (equation 16, negated, and equation 17), D(x) a score:

    d_loss = E_x[max(0, 1 - D(x))] + E_z[max(0, 1 + D(G(z)))]
    g_loss = -E_z[D(G(z))]

The networks are those of appendix B.4: blocks of two 3x3 convolutions beside a shortcut, in the
order of He et al. (2016, https://arxiv.org/abs/1603.05027), activation first. G has batch
normalisation and enlarges by repeating pixels; D halves by averaging and ends in a sum over all
places and one linear layer. Channels double where sides halve, as in the networks for the larger
images there (tables 5 and 6), but are fewer, for a CPU.

Adam's learning rate is 1e-3 where the paper has 2e-4, since a CPU makes thousands of steps, not a
hundred thousand: after 960 on MNIST the Fréchet distance is 28, with 5e-4 43, with 2e-4 64
(FD-mnist, 5,000 images of the validation part, one training each).

With `critic_steps` above 1, D is updated that many times for each update of G (n_dis in section 4),
on as many shares of the batch: an epoch passes the data once, whatever the number. G then learns on
as many images as a share has. The paper has 5 with these networks; here 1 is the default.

With `projection=True` the model takes labels, and D compares the class y with what it sees in the
image: cGANs with Projection Discriminator. Miyato, Koyama, 2018, https://arxiv.org/abs/1802.05637,
equation 3, phi(x) the sum over all places, psi the linear layer, V a matrix of one row a class, of
spectral norm 1 too:

    D(x, y) = y^T V phi(x) + psi(phi(x))

G learns of the class in its batch normalisation, whose scale and shift depend on it (section 5). It
draws the classes of the real images of its batch, so that D cannot go by how frequent a class is.

Shapes: B batch, S share of a batch, H height, W width, C channels, D features, K classes, Z latent
size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.layers import (
    BatchNormalization,
    SpectralConv2D,
    SpectralDense,
    SpectralPooledConv2D,
    UpsampledConv2D,
    check_policy,
)
from keras_genai.models.base import jit_compile_default, network, per_network, shares
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def halvings(image_shape):
    """How often both sides are halved: once, and on while they are even and the shorter over 8."""
    height, width = (side // 2 for side in image_shape[:2])
    count = 1
    while min(height, width) > 8 and height % 2 == width % 2 == 0:
        count, height, width = count + 1, height // 2, width // 2
    return count


@network
def generator(image_shape, latent_dim, base_filters, num_classes=None):
    """Noise (B, Z), with `num_classes` also one-hot classes (B, K), to images (B, H, W, C)."""
    count = halvings(image_shape)
    height, width = (side >> count for side in image_shape[:2])
    z, classes = keras.Input((latent_dim,)), _classes(num_classes)
    x = layers.Dense(height * width * (base_filters << count))(z)
    x = layers.Reshape((height, width, base_filters << count))(x)
    for i in reversed(range(count)):
        x = _up(x, classes, base_filters << i)
    x = _normalized(x, classes)
    x = layers.Conv2D(image_shape[2], 3, padding="same", activation="tanh", dtype="float32")(x)
    return keras.Model([z, *classes], x)


def _classes(num_classes):
    """A further input of a network that takes labels, or none."""
    return [] if num_classes is None else [keras.Input((num_classes,))]


def _up(x, classes, filters):
    """A residual block to twice the height and width."""
    # Biases would be lost in the next normalisation.
    y = UpsampledConv2D(filters, use_bias=False)(_normalized(x, classes))
    y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(_normalized(y, classes))
    # 1x1 convolutions and repeating pixels can change places: the smaller image is cheaper.
    shortcut = layers.UpSampling2D()(layers.Conv2D(filters, 1, use_bias=False)(x))
    return layers.Add()([y, shortcut])


def _normalized(x, classes):
    """Batch normalisation, with a scale and shift of each class if there are any, and ReLU."""
    y = BatchNormalization(momentum=0.9)(x)
    for one_hot in classes:
        # What a class adds to the scale 1 and shift 0 of all: (B, 1, 1, D) each.
        scale, shift = (
            layers.Reshape((1, 1, -1))(
                layers.Dense(x.shape[-1], use_bias=False, kernel_initializer="zeros")(one_hot)
            )
            for _ in range(2)
        )
        y = y + y * scale + shift
    return layers.ReLU()(y)


@network
def discriminator(image_shape, base_filters, num_classes=None):
    """Images (B, H, W, C), perhaps with classes (B, K), to scores (B, 1): positive is "real"."""
    count = halvings(image_shape)
    image, classes = keras.Input(image_shape), _classes(num_classes)
    # Not activated first: that would blacken the darker half of the image.
    x = _down(image, image, base_filters)
    for i in range(1, count):
        x = _down(x, layers.ReLU()(x), base_filters << i)
    x = _level(x, layers.ReLU()(x), base_filters << count)
    phi = keras.ops.sum(layers.ReLU()(x), axis=(1, 2))  # B D
    score = SpectralDense(1, dtype="float32")(phi)
    for one_hot in classes:
        row = SpectralDense(phi.shape[-1], use_bias=False, dtype="float32")(one_hot)  # B D
        score = layers.Add(dtype="float32")([score, layers.Dot(1, dtype="float32")([row, phi])])
    return keras.Model([image, *classes], score)


def _down(x, activated, filters):
    """A residual block to half the height and width."""
    y = SpectralConv2D(filters, 3, padding="same", activation="relu")(activated)
    # As in G, the smaller image is cheaper for the shortcut.
    shortcut = SpectralConv2D(filters, 1)(layers.AveragePooling2D(2)(x))
    return layers.Add()([SpectralPooledConv2D(filters)(y), shortcut])


def _level(x, activated, filters):
    """A residual block of unchanged height and width."""
    y = SpectralConv2D(filters, 3, padding="same", activation="relu")(activated)
    y = SpectralConv2D(filters, 3, padding="same")(y)
    return layers.Add()([y, SpectralConv2D(filters, 1)(x)])


def discriminator_loss(real_scores, fake_scores):
    """Equation 16, negated: a scalar from scores (B, 1)."""
    return tf.reduce_mean(tf.nn.relu(1.0 - real_scores)) + tf.reduce_mean(
        tf.nn.relu(1.0 + fake_scores)
    )


def generator_loss(fake_scores):
    """Equation 17: a scalar from scores (B, 1)."""
    return -tf.reduce_mean(fake_scores)


@keras.saving.register_keras_serializable("keras_genai")
class SNGAN(ImageModel):
    """The model of Miyato et al. (2018).

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        latent_dim: Z, the size of the noise.
        base_filters: Channels at the image's size; doubled at each halving.
        critic_steps: Updates of the discriminator for each of the generator.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        augment: "" or what D's images go through, such as "color,translation,cutout".
        projection: Whether the model takes labels.
        num_classes: K, or None: from the data, if the model takes labels.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss")
    adversarial = True
    training_only = ("discriminator",)
    stride = 4

    def __init__(
        self,
        image_shape=None,
        latent_dim=128,
        base_filters=16,
        critic_steps=1,
        ema_decay=0.0,
        augment="",
        projection=False,
        num_classes=None,
        seed=None,
        **kwargs,
    ):
        super().__init__(image_shape, seed, num_classes, **kwargs)
        if projection:
            self.from_data = ("image_shape", "num_classes")
        elif num_classes is not None:
            raise ValueError(
                "Without labels there are no classes: add projection=True, or leave out "
                f"num_classes. Received: num_classes={num_classes!r}"
            )
        self.latent_dim, self.base_filters, self.projection = latent_dim, base_filters, projection
        self.critic_steps, self.ema_decay = critic_steps, ema_decay
        self.augment = check_policy(augment)

    def build_networks(self):
        classes = self.num_classes
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters, classes)
        self.discriminator = discriminator(self.image_shape, self.base_filters, classes)
        self.ema_generator = self.averaged(self.generator)

    def call(self, z, *classes, training=False):
        """Images (B, H, W, C) of noise (B, Z) and, with labels, one-hot classes (B, K)."""
        return self.generator([z, *classes], training=training)

    def draw(self, z, *classes):
        return self.ema_generator([z, *classes])

    def sample(self, n, seed, *labels):
        z = tf.random.stateless_normal((n, self.latent_dim), seed)
        return self.draw(z, *(tf.one_hot(numbers, self.num_classes) for numbers in labels))

    def parts(self, data):
        """Images (B, H, W, C) and, with labels, one-hot classes (B, K)."""
        labels = [data["label"]] if self.projection else []
        return to_model(data["image"]), *(tf.one_hot(row, self.num_classes) for row in labels)

    def judge(self, x_real, x_fake, *classes, training=False):
        """The scores of real and generated images of the same classes, (B, 1) each."""
        # One pass: without batch normalisation they do not meet in D.
        pairs = [(x_real, x_fake), *zip(classes, classes, strict=True)]
        both = [tf.concat(pair, 0) for pair in pairs]
        return tf.split(self.discriminator(both, training=training), 2)

    def train_step(self, data):
        x_real, *classes = self.parts(data)
        x_real, batch_size = self.augmented(x_real), tf.shape(x_real)[0]
        z, d_losses = self.normal((batch_size, self.latent_dim)), []  # B Z
        # G stands still while D learns: one pass draws the images for all updates of D.
        x_fake = self.augmented(self(z, *classes, training=True))  # B H W C
        for rows in shares(batch_size, self.critic_steps):
            own = [tf.gather(part, rows) for part in (x_real, x_fake, *classes)]
            with tf.GradientTape() as tape:
                d_losses.append(discriminator_loss(*self.judge(*own, training=True)))  # S 1 each
            self.minimize(tape, d_losses[-1], self.discriminator)

        z, classes = self.normal((tf.size(rows), self.latent_dim)), own[2:]  # S Z, S K
        with tf.GradientTape() as tape:
            x_fake = self.augmented(self(z, *classes, training=True))  # S H W C
            # D stands still here, and with it the vectors u of its layers: not `training`.
            g_loss = generator_loss(self.discriminator([x_fake, *classes], training=False))
        self.minimize(tape, g_loss, self.generator)
        return self.log({"d_loss": tf.reduce_mean(tf.stack(d_losses)), "g_loss": g_loss})

    def test_step(self, data):
        x_real, *classes = self.parts(data)
        batch_size = tf.shape(x_real)[0]
        x_fake = self(self.fixed_normal((batch_size, self.latent_dim)), *classes)
        real_scores, fake_scores = self.judge(x_real, x_fake, *classes)
        d_loss = discriminator_loss(real_scores, fake_scores)
        losses = {"d_loss": d_loss, "g_loss": generator_loss(fake_scores)}
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=64,
    step_ms=125,
    paper="arXiv:1802.05957",
    tiny={"latent_dim": 8, "base_filters": 4, "ema_decay": 0.9},
)
def sngan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 128,
    base_filters: int = 16,
    critic_steps: int = 1,
    ema_decay: float = 0.0,
    augment: str = "",
    projection: bool = False,
    num_classes: int | None = None,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Residual GAN with spectral normalisation; with projection=True it takes labels."""
    model = SNGAN(
        image_shape,
        latent_dim,
        base_filters,
        critic_steps,
        ema_decay,
        augment,
        projection,
        num_classes,
        seed,
    )
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
            discriminator=Adam(learning_rate, beta_1=0.0, beta_2=0.9),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
