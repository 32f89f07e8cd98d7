"""InfoGAN: a GAN that finds classes and slants by itself, without labels.

InfoGAN: Interpretable Representation Learning by Information Maximizing Generative Adversarial
Nets. Chen, Duan, Houthooft, Schulman, Sutskever, Abbeel, 2016,
https://arxiv.org/abs/1606.03657

Part of G's noise is a code c that can be read from the image: one category, uniform over K, and
continuous codes, uniform in (-1, 1). The mutual information of code and image is bounded from below
by what a network Q(c|x) guesses,

    L_I = E_c,z[log Q(c|G(z, c))] + H(c) <= I(c; G(z, c))                            equation 5

and the game is that of `gan.py` less lambda times this bound, over G, Q and D:

    min_G,Q max_D V(D, G) - lambda L_I(G, Q)                                         equation 6

H(c) = log K + D log 2 is constant. Of the rest, negated, `category_loss` is the cross entropy of
the category, `code_loss` the negative logarithm of a Gaussian whose mean Q gives; its variance is
fixed at 1, since a learnt one rewards certainty without limit. Each has a lambda, by default 1.
Section 6 advises a smaller one for continuous codes, whose bound may outgrow the game. With this
variance it cannot: a perfect guess of a code gains E[c^2] / 2 = 1/6 over none. Nor does L_I then
bound anything, since it is negative, log 2 - log(2 pi) / 2 a code at best: what is left is a
regression of the codes.

With D(x) a logit and `softplus(a) = log(1 + exp(a))`:

    d_loss = E_x[softplus(-D(x))] + E_z,c[softplus(D(G(z, c)))]
    g_loss = E_z,c[softplus(-D(G(z, c)))]

Q shares all layers of D but the last (section 6), which is that of `dcgan.py` with more outputs.
The learning rate is that of `dcgan.py` too.

Shapes: B batch, H height, W width, C channels, D continuous codes, K categories, Z latent size.
"""

import math

import keras
import numpy as np
import tensorflow as tf

from keras_genai.data.images import to_model, to_uint8
from keras_genai.models.base import fold, jit_compile_default, per_network
from keras_genai.models.gans.dcgan import discriminator, generator
from keras_genai.models.image_model import ImageModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


def category_loss(logits, category):
    """-E[log Q(c|x)] of one-hot categories (B, K) and logits (B, K): a scalar, in nats."""
    return tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=category, logits=logits))


def code_loss(mu, codes):
    """-E[log Q(c|x)] of codes (B, D) under N(mu, I), mu (B, D): a scalar, in nats."""
    nll = 0.5 * (codes - mu) ** 2 + 0.5 * math.log(2.0 * math.pi)  # B D
    return tf.reduce_mean(tf.reduce_sum(nll, axis=1))


def guess_losses(logits, mu, category, codes):
    """What Q's guesses cost, by name."""
    return {"category_loss": category_loss(logits, category), "code_loss": code_loss(mu, codes)}


def discriminator_loss(real_logits, fake_logits):
    """A scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-real_logits)) + tf.reduce_mean(
        tf.nn.softplus(fake_logits)
    )


def generator_loss(fake_logits):
    """A scalar from logits (B, 1)."""
    return tf.reduce_mean(tf.nn.softplus(-fake_logits))


@keras.saving.register_keras_serializable("keras_genai")
class InfoGAN(ImageModel):
    """The model of Chen et al. (2016).

    Args:
        image_shape: (H, W, C), or None: from the data.
        num_categories: K, the values of the categorical code.
        continuous_codes: D, the number of continuous codes.
        latent_dim: Z, the size of the noise beside the codes.
        base_filters: Channels at half the image's size; doubled at each further halving.
        category_weight: lambda of the categorical code.
        code_weight: lambda of the continuous codes.
        ema_decay: Share of the generator's moving average that is kept a step; 0 for none.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss", "category_loss", "code_loss")
    adversarial = True
    training_only = ("discriminator",)
    sure_d_loss = 0.04
    preview_columns = 10

    def __init__(
        self,
        image_shape=None,
        num_categories=10,
        continuous_codes=2,
        latent_dim=62,
        base_filters=32,
        category_weight=1.0,
        code_weight=1.0,
        ema_decay=0.0,
        seed=None,
        **kwargs,
    ):
        super().__init__(image_shape, seed, **kwargs)
        self.num_categories, self.continuous_codes = num_categories, continuous_codes
        self.latent_dim, self.base_filters, self.ema_decay = latent_dim, base_filters, ema_decay
        self.category_weight, self.code_weight = category_weight, code_weight
        self.noise_dim = latent_dim + 1 + continuous_codes

    def build_networks(self):
        codes = self.num_categories + self.continuous_codes
        self.generator = generator(self.image_shape, self.latent_dim + codes, self.base_filters)
        self.discriminator = discriminator(self.image_shape, self.base_filters, outputs=1 + codes)
        self.ema_generator = self.averaged(self.generator)

    def latents(self, noise):
        """Normal noise (B, Z+1+D) as z (B, Z), categories (B, K), one-hot, and codes (B, D)."""
        z, rest = tf.split(noise, [self.latent_dim, 1 + self.continuous_codes], axis=1)
        # The normal distribution function, scaled to (-1, 1), makes normal noise uniform.
        uniform = tf.math.erf(rest / math.sqrt(2.0))
        number = tf.cast(0.5 * (uniform[:, 0] + 1.0) * self.num_categories, "int32")
        # Far out erf is rounded to 1.
        number = tf.minimum(number, self.num_categories - 1)
        return z, tf.one_hot(number, self.num_categories), uniform[:, 1:]

    def call(self, latents, training=False):
        """Images (B, H, W, C) of z, categories and codes, joined (B, Z+K+D)."""
        return self.generator(latents, training=training)

    def judge(self, x, training=False):
        """Of images (B, H, W, C) D's logits (B, 1), and Q's logits (B, K) and means (B, D)."""
        outputs = self.discriminator(x, training=training)
        return tf.split(outputs, [1, self.num_categories, self.continuous_codes], axis=1)

    def draw(self, noise):
        """Images (B, H, W, C) of normal noise (B, Z+1+D), whose last 1+D numbers make the codes."""
        return self.ema_generator(tf.concat(self.latents(noise), 1))

    def sample(self, n, seed):
        return self.draw(tf.random.stateless_normal((n, self.noise_dim), seed))

    def train_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        noise = self.normal((tf.shape(x_real)[0], self.noise_dim))
        z, category, codes = self.latents(noise)  # B Z, B K, B D
        with tf.GradientTape() as tape:
            x_fake = self(tf.concat([z, category, codes], 1), training=True)  # B H W C
            with tape.stop_recording():
                d_loss = self.train_discriminator(x_real, x_fake, category, codes)
            fake_logits, *guesses = self.judge(x_fake, training=True)  # B 1, [B K, B D]
            g_loss = generator_loss(fake_logits)
            of_codes = guess_losses(*guesses, category, codes)
            loss = g_loss + self.information_loss(of_codes)
        self.minimize(tape, loss, self.generator)
        return self.log({"d_loss": d_loss, "g_loss": g_loss, **of_codes})

    def train_discriminator(self, x_real, x_fake, category, codes):
        """Moves D, and Q with it.

        Equation 6 minimises over G and Q together. But Q is D up to the last layer: two optimizers
        would pull these weights to and fro. So the bound rises in both steps, with D's weights for
        Q's sake here, with G's in the other.
        """
        with tf.GradientTape() as tape:
            # Two passes: batch normalisation must not mix real with generated images.
            real_logits, *_ = self.judge(x_real, training=True)  # B 1
            fake_logits, *guesses = self.judge(x_fake, training=True)  # B 1, [B K, B D]
            d_loss = discriminator_loss(real_logits, fake_logits)
            loss = d_loss + self.information_loss(guess_losses(*guesses, category, codes))
        self.minimize(tape, loss, self.discriminator)
        return d_loss

    def information_loss(self, losses):
        """-lambda (L_I - H(c)) of equation 6: a scalar from what `guess_losses` returns."""
        weighted_codes = self.code_weight * losses["code_loss"]
        return self.category_weight * losses["category_loss"] + weighted_codes

    def test_step(self, data):
        x_real = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x_real)[0]
        z, category, codes = self.latents(self.fixed_normal((batch_size, self.noise_dim)))
        fake_logits, *guesses = self.judge(self(tf.concat([z, category, codes], 1)))
        losses = {
            "d_loss": discriminator_loss(self.judge(x_real)[0], fake_logits),
            "g_loss": generator_loss(fake_logits),
            **guess_losses(*guesses, category, codes),
        }
        return self.log(losses, count=batch_size)

    def traverse(self, code="category", steps=10, seed=None):
        """Images that differ in one code, all else being equal.

        Args:
            code: "category", which takes each value in turn, or the number of a continuous code,
                which goes from -2 to 2: twice as far as in training.
            steps: How many images.
            seed: As in `generate`.

        Returns:
            uint8 (steps, H, W, C).

        Raises:
            ValueError: If there is no such code.
        """
        if code not in ("category", *range(self.continuous_codes)):
            raise ValueError(
                f'`code` is "category" or a number from 0 to {self.continuous_codes - 1}. '
                f"Received: code={code!r}"
            )
        self.need_networks()
        draw = self.graph_of((code, steps), lambda seed: self._traversal(code, steps, seed))
        return draw(fold([self.seed_for(seed), 0], "samples")).numpy()

    def _traversal(self, code, steps, seed):
        noise = tf.random.stateless_normal((1, self.noise_dim), seed)
        z, category, codes = self.latents(tf.repeat(noise, steps, axis=0))
        if code == "category":
            category = tf.one_hot(tf.range(steps) % self.num_categories, self.num_categories)
        else:
            values = tf.linspace(-2.0, 2.0, steps)[:, None]
            codes = tf.concat([codes[:, :code], values, codes[:, code + 1 :]], 1)
        return to_uint8(self.ema_generator(tf.concat([z, category, codes], 1)))

    def preview(self, seed=0):
        """Two rows of ten images for each code, traversed, uint8 (N, H, W, C)."""
        return np.concatenate(
            [
                self.traverse(code, steps=self.preview_columns, seed=2 * seed + row)
                for code in ("category", *range(self.continuous_codes))
                for row in range(2)
            ]
        )


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=128,
    step_ms=115,
    paper="arXiv:1606.03657",
    tiny={"latent_dim": 8, "base_filters": 4, "num_categories": 3, "ema_decay": 0.9},
)
def infogan(
    image_shape: tuple[int, int, int] | None = None,
    num_categories: int = 10,
    continuous_codes: int = 2,
    latent_dim: int = 62,
    base_filters: int = 32,
    category_weight: float = 1.0,
    code_weight: float = 1.0,
    ema_decay: float = 0.0,
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """InfoGAN: finds categories and continuous factors without labels."""
    model = InfoGAN(
        image_shape, num_categories, continuous_codes, latent_dim, base_filters,
        category_weight, code_weight, ema_decay, seed,
    )  # fmt: skip
    model.compile(
        per_network(
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
