"""ACGAN: a GAN whose discriminator also names the class.

Conditional Image Synthesis with Auxiliary Classifier GANs.
Odena, Olah, Shlens, 2016, https://arxiv.org/abs/1610.09585

G makes an image from noise z and a class c. D is not told the class: of each image it says whether
it is real, P(S|x), and of which class it is, P(C|x). The logarithms of the probabilities that it
gives to what is true are

    L_S = E[log P(S = real|x_real)] + E[log P(S = fake|x_fake)]                      equation 2
    L_C = E[log P(C = c|x_real)] + E[log P(C = c|x_fake)]                            equation 3

D maximises L_S + L_C, G maximises L_C - L_S: both are rewarded for images whose class can be told.
With D_S(x) a logit, `softplus(a) = log(1 + exp(a))` and H the cross entropy, D minimises the sum of

    d_loss = -L_S = E[softplus(-D_S(x_real))] + E[softplus(D_S(x_fake))]
    d_class_loss = -L_C = E[H(c, P(C|x_real))] + E[H(c, P(C|x_fake))]

and G that of

    g_loss = E[softplus(-D_S(x_fake))]      in place of L_S, whose gradient vanishes where D is sure
    g_class_loss = E[H(c, P(C|x_fake))]     of L_C the term that depends on G

Generated images are asked for with the labels of the real ones in the batch, which are draws from
p_c. G is that of `cgan.py`, D that of `dcgan.py` with K logits beside the first. The learning rate
is that of `dcgan.py` too.

Shapes: B batch, H height, W width, C channels, K classes, Z latent size.
"""

import keras
import tensorflow as tf

from keras_genai.data.images import to_model
from keras_genai.models.base import jit_compile_default, per_network
from keras_genai.models.gans.cgan import CGAN
from keras_genai.models.gans.dcgan import discriminator, generator
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def discriminator_loss(real_logits, fake_logits):
    """Equation 2, negated: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(
        tf.nn.softplus(fake_logits)
    )


def generator_loss(fake_logits):
    """The non-saturating loss of `gan.py`: a scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


def class_loss(class_logits, labels):
    """One term of equation 3, negated: a scalar from logits (B, K) and labels (B,)."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=class_logits)
    )


@keras.saving.register_keras_serializable("keras_genai")
class ACGAN(CGAN):
    """The model of Odena et al. (2016), with the generator and the arguments of `CGAN`."""

    loss_names = ("d_loss", "g_loss", "d_class_loss", "g_class_loss")

    def build_networks(self):
        self.generator = generator(
            self.image_shape, self.latent_dim + self.num_classes, self.base_filters
        )
        self.discriminator = discriminator(
            self.image_shape, self.base_filters, outputs=1 + self.num_classes
        )
        self.ema_generator = self.averaged(self.generator)

    def judge(self, x, training=False):
        """Of images (B, H, W, C) the logits of "real" (B, 1) and of the classes (B, K)."""
        logits = self.discriminator(x, training=training)  # B 1+K
        return logits[:, :1], logits[:, 1:]

    def train_step(self, data):
        x_real, labels = self.augmented(to_model(data["image"])), data["label"]  # B H W C, B
        z = self.normal((tf.shape(x_real)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            x_fake = self(z, tf.one_hot(labels, self.num_classes), training=True)  # B H W C
            x_fake = self.augmented(x_fake)
            with tape.stop_recording():
                d_losses = self.train_discriminator(x_real, x_fake, labels)
            fake_logits, fake_classes = self.judge(x_fake, training=True)  # B 1, B K
            g_loss = generator_loss(fake_logits)
            g_class_loss = class_loss(fake_classes, labels)
            loss = g_loss + g_class_loss
        self.minimize(tape, loss, self.generator)
        return self.log({**d_losses, "g_loss": g_loss, "g_class_loss": g_class_loss})

    def train_discriminator(self, x_real, x_fake, labels):
        with tf.GradientTape() as tape:
            # Two passes: batch normalisation must not mix real with generated images.
            real_logits, real_classes = self.judge(x_real, training=True)  # B 1, B K
            fake_logits, fake_classes = self.judge(x_fake, training=True)  # B 1, B K
            d_loss = discriminator_loss(real_logits, fake_logits)
            d_class_loss = class_loss(real_classes, labels) + class_loss(fake_classes, labels)
            loss = d_loss + d_class_loss
        self.minimize(tape, loss, self.discriminator)
        return {"d_loss": d_loss, "d_class_loss": d_class_loss}

    def test_step(self, data):
        x_real, labels = to_model(data["image"]), data["label"]  # B H W C, B
        batch_size = tf.shape(x_real)[0]
        z = self.fixed_normal((batch_size, self.latent_dim))
        fake_logits, fake_classes = self.judge(self(z, tf.one_hot(labels, self.num_classes)))
        real_logits, real_classes = self.judge(x_real)
        g_class_loss = class_loss(fake_classes, labels)
        losses = {
            "d_loss": discriminator_loss(real_logits, fake_logits),
            "g_loss": generator_loss(fake_logits),
            "d_class_loss": class_loss(real_classes, labels) + g_class_loss,
            "g_class_loss": g_class_loss,
        }
        return self.log(losses, count=batch_size)


@register(
    modality="image",
    task="labels",
    data="mnist",
    minutes=8,
    batch_size=128,
    step_ms=115,
    paper="arXiv:1610.09585",
    tiny={"latent_dim": 8, "base_filters": 4, "ema_decay": 0.9},
)
def acgan(
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
    latent_dim: int = 128,
    base_filters: int = 32,
    ema_decay: float = 0.0,
    augment: str = "",
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """Auxiliary classifier GAN: the discriminator also has to name the class."""
    model = ACGAN(image_shape, num_classes, latent_dim, base_filters, ema_decay, augment, seed)
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
