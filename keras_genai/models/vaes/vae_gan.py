"""VAE-GAN: a VAE whose reconstructions are judged by what a discriminator sees in them.

Autoencoding beyond pixels using a learned similarity metric. Larsen, Sønderby, Larochelle, Winther,
2016, https://arxiv.org/abs/1512.09300

A VAE that counts the error of each pixel blurs what it cannot place. Here p(x|z) is not of pixels,
but of D_l(x), the values in a hidden layer of a GAN's discriminator (equations 7 and 8):

    p(D_l(x)|z) = N(D_l(x) | D_l(x~), I),   x~ = G(z),   z ~ q(z|x)
    reconstruction = -E_q[log p(D_l(x)|z)] = 1/2 E_q[|D_l(x) - D_l(x~)|^2] + constant
    kl = KL(q(z|x) || N(0, I))

With D(x) a logit and `softplus(a) = log(1 + exp(a))`, the game has two kinds of generated images,
reconstructions and x_p = G(z_p) with z_p ~ N(0, I) (equation 10):

    d_loss = E[softplus(-D(x))] + E[softplus(D(x~))] + E[softplus(D(x_p))]
    g_loss = E[softplus(-D(x~))] + E[softplus(-D(x_p))]

Each network has a loss of its own (section 3, algorithm 1), and all three are updated at once:

    encoder         kl + reconstruction
    decoder G       gamma reconstruction + g_loss
    discriminator   d_loss

So the encoder learns nothing from the game, the prior is none of G's business, and D does not learn
to make all images alike, by which `reconstruction` would be 0. G stands between two aims: gamma is
large for faithful reconstructions, small for sharp ones.

Where this departs from the paper, or fills in what it leaves open ("the code" is that of its
authors, https://github.com/andersbll/autoencoding_beyond_pixels):

- Algorithm 1 has G ascend d_loss; g_loss has a gradient also when D is sure, as in `gan.py`. The
  code ascends, and leaves out updates of G or D while the other is behind.
- D_l is what D's last layer sees: its last convolution, normalised and through LeakyReLU. The code
  takes the last convolution too, before normalisation.
- `reconstruction` is the sum over the F values of an image, as a likelihood is. For gamma the code
  has numbers from 1e-5, for eight times as many values, to 0.01.
- D sees images and generated ones in two passes, each normalised by itself, as in `dcgan.py`. In
  the code they are one batch.
- G and D are those of `dcgan.py`, the encoder is that of `vae.py`, and all have the Adam of
  `dcgan.py` in place of RMSProp at 3e-4.

Shapes: B batch, H height, W width, C channels, F values of D's hidden layer, Z latent size.
"""

import keras
import tensorflow as tf

from keras_genai.data.images import to_model, to_uint8
from keras_genai.layers import Conv2D
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.gans.dcgan import DOWNSAMPLE, generator, judgement, normal_weights
from keras_genai.models.image_model import ImageModel
from keras_genai.models.vaes.vae import encoder, gaussian_kl
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@network
def discriminator(image_shape, base_filters):
    """Images (B, H, W, C) in [-1, 1] to logits (B, 1), and to what these are made of (B, F)."""
    image = keras.Input(image_shape)
    x = Conv2D(base_filters, **DOWNSAMPLE, kernel_initializer=normal_weights())(image)
    logits = judgement(x, image_shape, base_filters)
    hidden = keras.Model(image, logits).layers[-1].input
    return keras.Model(image, [logits, hidden])


def reconstruction_loss(hidden, hidden_fake):
    """-log N(hidden | hidden_fake, I) less its constant, in nats an image: a scalar of (B, F)."""
    difference = tf.cast(hidden, "float32") - tf.cast(hidden_fake, "float32")
    return 0.5 * tf.reduce_mean(tf.reduce_sum(difference**2, axis=1))


def cost_of(logits, real):
    """What logits (B, 1) cost one who says that the images are real, or that they are not."""
    return tf.reduce_mean(tf.nn.softplus(-logits if real else logits))


@keras.saving.register_keras_serializable("keras_genai")
class VAEGAN(ImageModel):
    """The model of Larsen et al. (2016).

    Args:
        image_shape: (H, W, C), or None: from the data.
        latent_dim: Z.
        base_filters: Channels at half the image's size; doubled at each further halving.
        gamma: Weight of the reconstruction in the decoder's loss.
        seed: Fixes weights, noise and data order.
    """

    loss_names = ("d_loss", "g_loss", "reconstruction", "kl")
    adversarial = True
    training_only = ("discriminator",)
    sure_d_loss = 0.06  # three terms, where a GAN has two

    def __init__(
        self, image_shape=None, latent_dim=32, base_filters=32, gamma=0.01, seed=None, **kwargs
    ):
        super().__init__(image_shape, seed, **kwargs)
        self.latent_dim, self.base_filters, self.gamma = latent_dim, base_filters, gamma

    def build_networks(self):
        self.encoder = encoder(
            self.image_shape, self.latent_dim, "convolutional", self.base_filters, hidden_units=0
        )
        self.generator = generator(self.image_shape, self.latent_dim, self.base_filters)
        self.discriminator = discriminator(self.image_shape, self.base_filters)

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1] from the mean of their latents."""
        mu, _ = self.encoder(x, training=training)
        return self.decode(mu, training=training)

    def decode(self, z, training=False):
        """Images (B, H, W, C) in [-1, 1] of latents (B, Z)."""
        return self.generator(z, training=training)

    def draw(self, z):
        return self.decode(z)

    def sample(self, n, seed):
        return self.draw(tf.random.stateless_normal((n, self.latent_dim), seed))

    def losses_of(self, x, eps, z_p, training):
        """The four losses by name, of images (B, H, W, C) and noise (B, Z) for q and for p."""
        mu, log_var = self.encoder(x, training=training)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps
        # Of both kinds in one pass: the batch normalisation of samples is that of reconstructions.
        x_fake = self.generator(tf.concat([z, z_p], 0), training=training)  # 2B H W C
        logits, hidden = self.discriminator(x, training=training)  # B 1, B F
        fake_logits, fake_hidden = self.discriminator(x_fake, training=training)  # 2B 1, 2B F
        of_x_tilde, of_x_p = tf.split(fake_logits, 2)
        fake_hidden, _ = tf.split(fake_hidden, 2)
        fakes = cost_of(of_x_tilde, real=False) + cost_of(of_x_p, real=False)
        return {
            "d_loss": cost_of(logits, real=True) + fakes,
            "g_loss": cost_of(of_x_tilde, real=True) + cost_of(of_x_p, real=True),
            "reconstruction": reconstruction_loss(hidden, fake_hidden),
            "kl": tf.reduce_mean(gaussian_kl(mu, log_var)),
        }

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        shape = (tf.shape(x)[0], self.latent_dim)
        eps, z_p = self.normal(shape), self.normal(shape)  # B Z
        with tf.GradientTape(persistent=True) as tape:
            losses = self.losses_of(x, eps, z_p, training=True)
            of_encoder = losses["kl"] + losses["reconstruction"]
            of_decoder = self.gamma * losses["reconstruction"] + losses["g_loss"]
        self.minimize(tape, of_encoder, self.encoder)
        self.minimize(tape, of_decoder, self.generator)
        self.minimize(tape, losses["d_loss"], self.discriminator)
        return self.log(losses)

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        batch_size = tf.shape(x)[0]
        noise = self.fixed_normal((batch_size, 2 * self.latent_dim))
        losses = self.losses_of(x, *tf.split(noise, 2, axis=1), training=False)
        return self.log(losses, count=batch_size)

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
    minutes=8,
    batch_size=128,
    step_ms=200,
    paper="arXiv:1512.09300",
    tiny={"latent_dim": 4, "base_filters": 4},
)
def vae_gan(
    image_shape: tuple[int, int, int] | None = None,
    latent_dim: int = 32,
    base_filters: int = 32,
    gamma: float = 0.01,
    learning_rate: float = 5e-4,
    seed: int | None = None,
):
    """VAE-GAN: a VAE whose reconstructions a discriminator judges, not their pixels."""
    model = VAEGAN(image_shape, latent_dim, base_filters, gamma, seed)
    model.compile(
        per_network(
            encoder=Adam(learning_rate, beta_1=0.5),
            generator=Adam(learning_rate, beta_1=0.5),
            discriminator=Adam(learning_rate, beta_1=0.5),
        ),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
