"""VQ-VAE: an image becomes a few discrete codes, which a prior learns to write.

Neural Discrete Representation Learning. van den Oord, Vinyals, Kavukcuoglu, 2017,
https://arxiv.org/abs/1711.00937

The encoder gives a vector z at each place of a grid; the nearest e of K codes takes its place:

    k = argmin_j |z - e_j|,   z_q = e_k                                        equations 1 and 2
    reconstruction = -log p(x|z_q)                                                   equation 3
    commitment = beta sum |z - sg(e_k)|^2       over the places; sg: no gradient flows

The encoder gets the decoder's gradient by z_q as if it were that by z (straight through). The codes
get none: each is the mean of the vectors that it is nearest to, as a moving average (appendix A.1):

    N <- gamma N + (1 - gamma) n,   m <- gamma m + (1 - gamma) sum z,   e = m / N

with n the number of these vectors in the batch and `sum z` their sum, both here in units in which n
is 1 if all codes are used alike, so that nothing depends on the batch size. A code whose N falls
below `restart_below` is dead: it becomes the vector of a random place of the batch (Dhariwal et
al., 2020, https://arxiv.org/abs/2005.00341, section 3.1), with N = 1. So are all at first.

The prior p(k_1, ..., k_T) is a small causal transformer over the codes, row by row. A place begins
with the code before it and the three next to it in the row above, and attends to all places before:

    prior_loss = -sum_t log p(k_t | k_1, ..., k_{t-1})

The paper trains a PixelCNN when the codes are final. Here the prior learns from the first step, by
an optimizer of its own; no gradient of it reaches encoder, codes or decoder. The learning rate of
these falls to 0 along half a cosine in `code_steps` steps; then they and the codes stand still, and
what is left of the training is the prior's.

p(x|z_q) is Bernoulli for each pixel, as in `vae.py`. Since p(x) is a sum over all grids of codes,

    -log p(x) <= reconstruction + prior_loss

in nats an image, for images binarised at random: this sum compares with the loss of `vae.py`.
`loss` has the commitment too. K is 64, where the paper has 512 for photos: 256 give digits back no
better after 500 steps (59 nats), and the fewer there are, the more the prior sees of each.

Shapes: B batch, H height, W width, C channels, h = H / 4, w = W / 4, T = h w, K codes of size Z.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model, to_uint8
from keras_genai.distribution import in_turn, means_over_batch
from keras_genai.layers import CausalBlock, Conv2D, Conv2DTranspose, Positions, SummedEmbedding
from keras_genai.layers.attention import draw_sequences
from keras_genai.models.base import jit_compile_default, network, per_network
from keras_genai.models.image_model import ImageModel
from keras_genai.models.vaes.vae import bernoulli_nll
from keras_genai.optimizers import Adam, StoppingAdam
from keras_genai.zoo.registry import register

HEADS = 4


def residual(x, filters):
    """A residual block (section 4.1): 3x3 to half the channels, 1x1 back."""
    y = layers.Conv2D(filters // 2, 3, padding="same", activation="relu")(layers.ReLU()(x))
    return layers.Add()([x, layers.Conv2D(filters, 1)(y)])


@network
def encoder(image_shape, latent_dim, base_filters):
    """Images (B, H, W, C) in [-1, 1] to a vector at each place, (B, h, w, Z)."""
    x = image = keras.Input(image_shape)
    x = Conv2D(base_filters, 4, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2D(2 * base_filters, 4, strides=2, padding="same")(x)
    for _ in range(2):
        x = residual(x, 2 * base_filters)
    return keras.Model(image, layers.Conv2D(latent_dim, 1, dtype="float32")(layers.ReLU()(x)))


@network
def decoder(image_shape, latent_dim, base_filters):
    """Codes as vectors (B, h, w, Z) to logits of the pixels (B, H, W, C)."""
    height, width, channels = image_shape
    upsample = {"kernel_size": 4, "strides": 2, "padding": "same"}
    z = keras.Input((height // 4, width // 4, latent_dim))
    x = layers.Conv2D(2 * base_filters, 3, padding="same")(z)
    for _ in range(2):
        x = residual(x, 2 * base_filters)
    x = layers.Conv2DTranspose(base_filters, **upsample, activation="relu")(layers.ReLU()(x))
    return keras.Model(z, Conv2DTranspose(channels, **upsample, dtype="float32")(x))


@network
def prior(num_codes, places, width, num_layers):
    """What `neighbours` gives, (B, T, 4), to logits of the codes (B, T, K)."""
    around = keras.Input((places, 4), dtype="int32")
    x = Positions()(SummedEmbedding(4 * (num_codes + 1), width)(around))
    for _ in range(num_layers):
        x = CausalBlock(HEADS)(x)
    x = layers.LayerNormalization()(x)
    return keras.Model(around, layers.Dense(num_codes, dtype="float32")(x))


def neighbours(codes, num_codes):
    """Of codes (B, h, w) those before, above left, above and above right of each place, (B, T, 4).

    The one before is left of it or, at the start of a row, the last of the row above: the place
    after a code always looks at it, so that no code is out of sight. Each of the four has numbers
    of its own, the last for what is outside of the grid.
    """
    places = codes.shape[1] * codes.shape[2]
    outside = {"constant_values": num_codes}
    above = tf.pad(codes[:, :-1], [[0, 0], [1, 0], [1, 1]], **outside)
    around = [above[:, :, :-2], above[:, :, 1:-1], above[:, :, 2:]]
    before = tf.pad(tf.reshape(codes, (-1, places))[:, :-1], [[0, 0], [1, 0]], **outside)
    numbers = [before, *(tf.reshape(part, (-1, places)) for part in around)]
    return tf.stack(numbers, -1) + (num_codes + 1) * tf.range(4)


class Codebook(layers.Layer):
    """K vectors of size Z, moved by averages and not by a gradient; arguments as in `VQVAE`."""

    def __init__(self, num_codes, latent_dim, decay, restart_below, **kwargs):
        super().__init__(name="codebook", dtype="float32", **kwargs)
        self.num_codes, self.latent_dim = num_codes, latent_dim
        self.decay, self.restart_below = decay, restart_below

    def build(self, input_shape=None):
        # Replicas make the same update.
        options = {"trainable": False, "autocast": False, "aggregation": "only_first_replica"}
        shape = (self.num_codes, self.latent_dim)
        self.codes = self.add_weight(name="codes", shape=shape, **options)  # e
        # Codes that the first batch does not use are dead after it.
        young = keras.initializers.Constant(self.restart_below or 1.0)
        self.use = self.add_weight(name="use", shape=shape[:1], initializer=young, **options)  # N
        self.sums = self.add_weight(name="sums", shape=shape, **options)  # m
        self.sums.assign(self.codes * self.use[:, None])

    def nearest(self, z):
        """Equation 1: int32 (B, h, w), the codes nearest to vectors (B, h, w, Z)."""
        codes = tf.convert_to_tensor(self.codes)
        squares = tf.reduce_sum(codes**2, axis=1)  # K
        # |z - e|^2 without |z|^2, which is the same for all codes.
        return tf.argmin(squares - 2.0 * tf.tensordot(z, codes, [[3], [1]]), -1, "int32")

    def vectors(self, codes):
        """Codes int32 (B, h, w) as vectors (B, h, w, Z)."""
        return tf.gather(tf.convert_to_tensor(self.codes), codes)

    def update(self, n, sums, rows, learning=True):
        """A step by n (K,) and sums (K, Z), if `learning`; the dead become `rows` (K, Z)."""
        use = self.decay * self.use + (1.0 - self.decay) * n
        sums = self.decay * self.sums + (1.0 - self.decay) * sums
        dead = use < self.restart_below
        use = tf.where(dead, 1.0, use)
        sums = tf.where(dead[:, None], rows, sums)
        # Laplace smoothing: a code that is never used is not divided by zero.
        total, epsilon = tf.reduce_sum(use), 1e-5
        smooth = total * (use + epsilon) / (total + self.num_codes * epsilon)
        values = sums / smooth[:, None], use, sums
        for variable, value in zip((self.codes, self.use, self.sums), values, strict=True):
            variable.assign(tf.where(learning, value, variable))


def straight_through(z, e):
    """The vectors e (B, h, w, Z), whose gradient is taken for that of z."""
    return z + tf.stop_gradient(e - z)


def commitment(z, e):
    """|z - sg(e)|^2 summed over the places, a mean over the images, from (B, h, w, Z) each."""
    return tf.reduce_mean(tf.reduce_sum((z - tf.stop_gradient(e)) ** 2, axis=[1, 2, 3]))


def code_nll(codes, logits):
    """-log p(codes) in nats, (B,), of codes (B, T) under `logits` (B, T, K)."""
    return tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(codes, logits), axis=1)


def perplexity(shares):
    """The exponential of the entropy of shares (K,): K if all are alike, 1 if only one is used."""
    return tf.exp(-tf.reduce_sum(tf.math.xlogy(shares, shares)))


@keras.saving.register_keras_serializable("keras_genai")
class VQVAE(ImageModel):
    """The model of van den Oord et al. (2017), with a transformer as the prior.

    Args:
        image_shape: (H, W, C) with H and W multiples of 4, or None: from the data.
        num_codes: K.
        latent_dim: Z, the size of a code.
        base_filters: Channels at half the image's size; twice that at a quarter.
        commitment_weight: beta.
        decay: gamma, the share of the codebook's averages that is kept a step.
        restart_below: Codes used less than this share of the mean use are restarted; 0 for none.
        code_steps: The step after which encoder, decoder and codes stand still; 0 for none.
        prior_width: Width of the prior, a multiple of 4.
        prior_layers: Blocks of the prior.
        seed: Fixes weights, restarts and data order.
    """

    loss_names = ("reconstruction", "commitment", "prior_loss", "perplexity", "codes_used")
    stride = 4

    def __init__(
        self, image_shape=None, num_codes=64, latent_dim=32, base_filters=32,
        commitment_weight=0.25, decay=0.99, restart_below=0.1, code_steps=1000, prior_width=128,
        prior_layers=3, seed=None, **kwargs,
    ):  # fmt: skip
        super().__init__(image_shape, seed, **kwargs)
        if prior_width % HEADS:
            raise ValueError(
                f"`prior_width` is a multiple of {HEADS}, the number of attention heads. "
                f"Received: prior_width={prior_width}"
            )
        self.num_codes, self.latent_dim, self.base_filters = num_codes, latent_dim, base_filters
        self.commitment_weight, self.code_steps = commitment_weight, code_steps
        self.decay, self.restart_below = decay, restart_below
        self.prior_width, self.prior_layers = prior_width, prior_layers

    def build_networks(self):
        sizes = self.image_shape, self.latent_dim, self.base_filters
        self.encoder, self.decoder = encoder(*sizes), decoder(*sizes)
        self.codebook = Codebook(self.num_codes, self.latent_dim, self.decay, self.restart_below)
        self.codebook.build()
        self.grid = h, w = self.image_shape[0] // 4, self.image_shape[1] // 4
        self.prior = prior(self.num_codes, h * w, self.prior_width, self.prior_layers)

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1] from their codes."""
        return self.decode(self.codebook.nearest(self.encoder(x, training=training)))

    def decode(self, codes):
        """The expected images (B, H, W, C) in [-1, 1] of codes, int (B, h, w)."""
        return 2.0 * tf.sigmoid(self.decoder(self.codebook.vectors(codes))) - 1.0

    def autoencode(self, x, training):
        """Vectors z (B, h, w, Z) and codes (B, h, w) of images, and what both cost, by name."""
        z = self.encoder(x, training=training)
        codes = self.codebook.nearest(z)
        e = self.codebook.vectors(codes)
        logits = self.decoder(straight_through(z, e), training=training)  # B H W C
        losses = {
            "reconstruction": tf.reduce_mean(bernoulli_nll(x, logits)),
            "commitment": self.commitment_weight * commitment(z, e),
        }
        return z, codes, losses

    def prior_loss(self, codes, training):
        """Mean -log p(codes), in nats an image, of codes (B, h, w)."""
        logits = self.prior(neighbours(codes, self.num_codes), training=training)  # B T K
        return tf.reduce_mean(code_nll(tf.reshape(codes, tf.shape(logits)[:2]), logits))

    def statistics(self, z, codes):
        """Over the whole batch: the share of each code (K,), and of the mean vector (K, Z)."""
        one_hot = tf.one_hot(tf.reshape(codes, [-1]), self.num_codes)  # BT K
        z = tf.reshape(z, (-1, self.latent_dim))  # BT Z
        count = tf.shape(z)[0]
        sums = tf.matmul(one_hot, z, transpose_a=True) / tf.cast(count, "float32")
        return means_over_batch([tf.reduce_mean(one_hot, axis=0), sums], count)

    def random_rows(self, z):
        """The vectors (K, Z) of random places, from (B, h, w, Z)."""
        z = tf.reshape(z, (-1, self.latent_dim))  # BT Z
        count = tf.shape(z)[0]
        places = tf.cast(self.uniform((self.num_codes,)) * tf.cast(count, "float32"), "int32")
        # Of large numbers, the product with what is just below 1 may be rounded up.
        return in_turn(tf.gather(z, tf.minimum(places, count - 1)))

    def log_step(self, losses, shares, count=None):
        """Logs the losses, their sum, and beside it how the codes are used."""
        used = tf.reduce_mean(tf.cast(shares > 0.0, "float32"))
        logs = {**losses, "perplexity": perplexity(shares), "codes_used": used}
        return self.log(logs, total=tf.add_n([*losses.values()]), count=count)

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        steps = self.optimizer_of("encoder").iterations
        learning = (steps < self.code_steps) | (self.code_steps == 0)
        with tf.GradientTape() as tape:
            z, codes, losses = self.autoencode(x, training=True)
            loss = losses["reconstruction"] + losses["commitment"]
        self.minimize(tape, loss, self.encoder, self.decoder)
        shares, sums = self.statistics(z, codes)  # K, K Z
        scale = float(self.num_codes)  # so that the mean use is 1
        self.codebook.update(scale * shares, scale * sums, self.random_rows(z), learning)

        with tf.GradientTape() as tape:
            prior_loss = self.prior_loss(codes, training=True)
        self.minimize(tape, prior_loss, self.prior)
        return self.log_step({**losses, "prior_loss": prior_loss}, shares)

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        z, codes, losses = self.autoencode(x, training=False)
        shares, _ = self.statistics(z, codes)  # K
        losses["prior_loss"] = self.prior_loss(codes, training=False)
        return self.log_step(losses, shares, count=tf.shape(x)[0])

    def sample(self, n, seed):
        return self.decode(self.sample_codes(n, seed))

    def sample_codes(self, n, seed):
        """Draws codes from the prior, int32 (n, h, w)."""
        shape, k = (n, *self.grid), self.num_codes
        draws = self.prior, n, lambda codes: neighbours(tf.reshape(codes, shape), k), seed
        return tf.reshape(draw_sequences(*draws), shape)

    def codes(self, images):
        """The codes, int32 (N, h, w), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: self.codebook.nearest(self.encoder(x)), images)

    def reconstruct(self, images):
        """Reconstructions, uint8 (N, H, W, C), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: to_uint8(self(x)), images)


@register(
    modality="image",
    task="unconditional",
    data="mnist",
    minutes=10,
    batch_size=128,
    step_ms=270,
    paper="arXiv:1711.00937",
    tiny={"num_codes": 16, "latent_dim": 4, "base_filters": 4, "prior_width": 8, "prior_layers": 1},
)
def vq_vae(
    image_shape: tuple[int, int, int] | None = None,
    num_codes: int = 64,
    latent_dim: int = 32,
    base_filters: int = 32,
    commitment_weight: float = 0.25,
    decay: float = 0.99,
    restart_below: float = 0.1,
    code_steps: int = 1000,
    prior_width: int = 128,
    prior_layers: int = 3,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """VQ-VAE: an image as a grid of discrete codes, with a transformer that writes such grids."""
    model = VQVAE(
        image_shape, num_codes, latent_dim, base_filters, commitment_weight, decay, restart_below,
        code_steps, prior_width, prior_layers, seed,
    )  # fmt: skip
    model.compile(
        # The first also has the decoder: both minimise one loss.
        per_network(encoder=StoppingAdam(learning_rate, code_steps), prior=Adam(learning_rate)),
        jit_compile=jit_compile_default(on_cpu=False),
    )
    return model
