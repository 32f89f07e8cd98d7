"""Mult-VAE: a variational autoencoder of what users like, which recommends the rest.

Variational Autoencoders for Collaborative Filtering.
Liang, Krishnan, Hoffman, Jebara, 2018, https://arxiv.org/abs/1802.05814

A user's history x (I,) counts which items of the catalogue she likes. Its N items are drawn from a
distribution over all items, which depends on a latent z (equation 1):

    z ~ N(0, I),   pi(z) = softmax(f(z)),   x ~ Mult(N, pi(z))
    log p(x|z) = sum_i x_i log pi_i(z)                                           equation 2
    loss = E_q[-log p(x|z)] + beta KL(q(z|x) || p(z))                            equation 7

Probability given to one item is taken from the others, which makes this likelihood one of ranks.
q(z|x) = N(mu, sigma^2) comes of the history, of which half the items are dropped in training,
divided by the length sqrt(N) of what is left. (The authors' code divides first and scales what is
left by 1 / (1 - dropout): inputs then are longer in training than ever after, and of any length.)
beta grows by equal steps from 0 to its final value, 0.2 or less: with 1, the bound of a VAE, the KL
outweighs what few likes tell of a user (section 2.2.2). What is given up is drawing users from the
prior, which are vaguer than real ones. With `linear=True` there are no hidden layers: mu and
log sigma^2 are linear in the divided history, and f in z.

Items are ranked by f(mu), mu of the items that the user likes already (section 2.4). Tests show the
model the fold-in part of users it was not trained on: `reconstruction` is then -log p of the target
part given that mu, and the loss is that alone.

Shapes: B batch, I items of the catalogue, Z latent size.
"""

import keras
import tensorflow as tf
from keras import layers

from keras_genai.layers import Dropout
from keras_genai.losses import annealed
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.ratings_model import RatingsModel
from keras_genai.models.vaes.vae import gaussian_kl
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register


@network
def encoder(num_items, units, latent_dim, linear, dropout):
    """Histories (B, I) of 0 and 1 to mu and log_var, each (B, Z)."""
    history = keras.Input((num_items,))
    x = layers.UnitNormalization()(Dropout(dropout)(history))  # of length 1, as in use
    if not linear:
        x = layers.Dense(units, activation="tanh")(x)
    mu = layers.Dense(latent_dim, dtype="float32")(x)
    log_var = layers.Dense(latent_dim, dtype="float32")(x)
    return keras.Model(history, [mu, log_var])


@network
def decoder(num_items, units, latent_dim, linear):
    """Latents (B, Z) to logits of the items (B, I)."""
    x = z = keras.Input((latent_dim,))
    if not linear:
        x = layers.Dense(units, activation="tanh")(x)
    return keras.Model(z, layers.Dense(num_items, dtype="float32")(x))


def multinomial_nll(x, logits):
    """-log p(x|z) in nats, (B,), of histories x under logits, both (B, I): equation 2.

    The multinomial coefficient, which no weight changes, is left out.
    """
    return -tf.reduce_sum(x * tf.nn.log_softmax(logits), axis=1)


@keras.saving.register_keras_serializable("keras_genai")
class MultVAE(RatingsModel):
    """The model of Liang et al. (2018).

    Args:
        catalogue: The items' ids as a JSON list, or None: from the data.
        latent_dim: Z.
        units: Width of the hidden layer on each side.
        linear: Whether the hidden layers are left out, for tables of few users.
        dropout: Share of a history's items that training drops.
        beta: Final weight of the KL.
        anneal_steps: Steps in which the weight grows to `beta`.
        seed: Fixes weights, noise, dropout and data order.
    """

    loss_names = ("reconstruction", "kl")

    def __init__(
        self,
        catalogue=None,
        latent_dim=200,
        units=600,
        linear=False,
        dropout=0.5,
        beta=0.2,
        anneal_steps=1000,
        seed=None,
        **kwargs,
    ):
        super().__init__(catalogue, seed, **kwargs)
        self.latent_dim, self.units, self.linear = latent_dim, units, linear
        self.dropout, self.beta, self.anneal_steps = dropout, beta, anneal_steps

    def build_networks(self):
        sizes = len(self.item_ids), self.units, self.latent_dim, self.linear
        self.encoder = encoder(*sizes, self.dropout)
        self.decoder = decoder(*sizes)
        self.updates = self.counter("updates")

    def call(self, x, training=False):
        """Logits (B, I) of all items, from histories (B, I) and the mean of their latents."""
        mu, _ = self.encoder(x, training=training)
        return self.decoder(mu, training=training)

    def sample(self, n, seed):
        return self.decoder(tf.random.stateless_normal((n, self.latent_dim), seed))

    def train_step(self, data):
        x = self.liked(data["user_items"])  # B I
        eps = self.normal((tf.shape(x)[0], self.latent_dim))  # B Z
        beta = annealed(self.beta, self.updates.value, self.anneal_steps)
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)  # B Z each
            z = mu + tf.exp(0.5 * log_var) * eps
            logits = self.decoder(z, training=True)  # B I
            reconstruction = tf.reduce_mean(multinomial_nll(x, logits))
            kl = tf.reduce_mean(gaussian_kl(mu, log_var))
            loss = reconstruction + beta * kl
        self.minimize(tape, loss, self.encoder, self.decoder)
        self.updates.assign_add(1.0)
        return self.log({"reconstruction": reconstruction, "kl": kl}, total=loss)

    def test_step(self, data):
        shown, wanted = self.shown(data["user_items"]), self.wanted(data["user_items"])  # B I each
        mu, log_var = self.encoder(shown)  # B Z each
        reconstruction = tf.reduce_mean(multinomial_nll(wanted, self.decoder(mu)))
        losses = {"reconstruction": reconstruction, "kl": tf.reduce_mean(gaussian_kl(mu, log_var))}
        return self.log(losses, total=reconstruction, count=tf.shape(shown)[0])

    def encode(self, rows):
        """Means of the latents, float32 (N, Z), of histories as rows (N, I): see `vectors`."""
        return self.in_batches(lambda x: self.encoder(x)[0], rows)


@register(
    modality="ratings",
    task="recommend",
    data="tastes",
    minutes=1,
    batch_size=100,
    step_ms=15,
    paper="arXiv:1802.05814",
    tiny={"latent_dim": 4, "units": 16, "anneal_steps": 10},
)
def mult_vae(
    catalogue: str | None = None,
    latent_dim: int = 200,
    units: int = 600,
    linear: bool = False,
    dropout: float = 0.5,
    beta: float = 0.2,
    anneal_steps: int = 1000,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Variational autoencoder of ratings: a table in, recommendations out."""
    model = MultVAE(catalogue, latent_dim, units, linear, dropout, beta, anneal_steps, seed)
    model.compile(Adam(learning_rate), jit_compile=jit_compile_default(on_cpu=False))
    return model
