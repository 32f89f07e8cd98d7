"""CVAE: a VAE that draws the class it is asked for.

Learning Structured Output Representation using Deep Conditional Generative Models.
Sohn, Lee, Yan, 2015, https://papers.nips.cc/paper/2015/hash/8d55a249e6baa5c06772297520da2051-Abstract.html

The paper draws an output given an input; here the input is the class y and the output the image x
(the paper's y given its x). Encoder and decoder are both told the class, q(z|x, y) = N(mu, sigma^2)
and p(x|z, y), and the loss is the negative of a bound on log p(x|y) (equation 4), in nats an image:

    reconstruction = -E_q[log p(x|z, y)],   estimated with one z = mu + sigma eps, eps ~ N(0, I)
    kl = KL(q(z|x, y) || p(z))
    loss = reconstruction + kl  >=  -log p(x|y)

The prior is N(0, I) whatever the class, as in the semi-supervised VAE of Kingma et al. (2014,
https://arxiv.org/abs/1406.5298); section 4 allows for it. Then z is what an image has beside its
class, such as slant and stroke, and one z drawn with all classes is one hand's writing. The bound
is not one on log p(x), since the class says something of the image.

The networks and the likelihoods are those of `vae.py`; y is joined one-hot to what the encoder's
first fully connected layer sees, and to z.

Shapes: B batch, H height, W width, C channels, K classes, Z latent size.
"""

from typing import Literal

import keras
import tensorflow as tf

from keras_genai.data.images import to_model, to_uint8
from keras_genai.models.base import jit_compile_default
from keras_genai.models.vaes.vae import (
    VAE,
    decoder,
    encoder,
    expected_image,
    gaussian_kl,
    image_nll,
    log_ratio,
)
from keras_genai.optimizers import adam
from keras_genai.zoo.registry import register


@keras.saving.register_keras_serializable("keras_genai")
class CVAE(VAE):
    """The model of Sohn et al. (2015), of images of classes.

    Args:
        image_shape: (H, W, C), for convolutions multiples of 4, or None: from the data.
        num_classes: K, or None: from the data.
        latent_dim: Z.
        architecture: "convolutional" or "dense", fully connected.
        base_filters: Of convolutions: channels at half the image's size; twice that at a quarter.
        hidden_units: Of fully connected networks: units in each of the two hidden layers.
        likelihood: p(x|z, y), as in `VAE`.
        binarize: Whether grey values are chances of white, drawn anew each time.
        seed: Fixes weights, noise and data order.
    """

    from_data = ("image_shape", "num_classes")

    def __init__(
        self,
        image_shape=None,
        num_classes=None,
        latent_dim=32,
        architecture="convolutional",
        base_filters=32,
        hidden_units=500,
        likelihood="bernoulli",
        binarize=False,
        seed=None,
        **kwargs,
    ):
        super().__init__(
            image_shape, latent_dim, architecture, base_filters, hidden_units, likelihood, binarize,
            seed, **kwargs,
        )  # fmt: skip
        self.num_classes = num_classes

    def build_networks(self):
        sizes = self.architecture, self.base_filters, self.hidden_units
        self.encoder = encoder(self.image_shape, self.latent_dim, *sizes, self.num_classes)
        inputs = self.latent_dim + self.num_classes
        self.decoder = decoder(self.image_shape, inputs, *sizes, self.likelihood)

    def call(self, x, classes, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1] of one-hot classes (B, K)."""
        mu, _ = self.encoder([self.most_probable(x), classes], training=training)
        return self.decode(mu, classes, training=training)

    def decode(self, z, classes, training=False):
        """The expected images (B, H, W, C) in [-1, 1] of latents (B, Z) and classes (B, K)."""
        outputs = self.decoder(tf.concat([z, classes], 1), training=training)
        return expected_image(self.likelihood, outputs)

    def draw(self, z, classes):
        return self.decode(z, classes)

    def sample(self, n, seed, labels):
        z = tf.random.stateless_normal((n, self.latent_dim), seed)
        return self.draw(z, tf.one_hot(labels, self.num_classes))

    def elbo_terms(self, x, classes, eps, training):
        """Mean reconstruction and kl, in nats an image, with one z from noise `eps` (B, Z)."""
        mu, log_var = self.encoder([x, classes], training=training)  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps
        outputs = self.decoder(tf.concat([z, classes], 1), training=training)
        return {
            "reconstruction": tf.reduce_mean(image_nll(self.likelihood, x, outputs)),
            "kl": tf.reduce_mean(gaussian_kl(mu, log_var)),
        }

    def log_weights(self, x, eps, labels):
        """The logs of the importance weights p(x, z|y) / q(z|x, y), (..., B), as in `VAE`.

        Args:
            x: Images (B, H, W, C) in [-1, 1]; of a model with `binarize` -1 and 1.
            eps: (B, Z), or (S, B, Z) for S draws an image.
            labels: Their classes, int32 (B,).
        """
        classes = tf.one_hot(labels, self.num_classes)  # B K
        mu, log_var = self.encoder([x, classes])  # B Z each
        z = mu + tf.exp(0.5 * log_var) * eps
        of_draws = tf.broadcast_to(classes, tf.concat([tf.shape(z)[:-1], [self.num_classes]], 0))
        return log_ratio(z, eps, log_var) - self.draws_nll(x, tf.concat([z, of_draws], -1))

    def train_step(self, data):
        x = self.observed(to_model(data["image"]), self.uniform)  # B H W C
        classes = tf.one_hot(data["label"], self.num_classes)  # B K
        eps = self.normal((tf.shape(x)[0], self.latent_dim))  # B Z
        with tf.GradientTape() as tape:
            terms = self.elbo_terms(x, classes, eps, training=True)
            loss = terms["reconstruction"] + terms["kl"]
        self.minimize(tape, loss, self.encoder, self.decoder)
        return self.log(terms)

    def test_step(self, data):
        x = self.observed(to_model(data["image"]), self.fixed_uniform)  # B H W C
        classes = tf.one_hot(data["label"], self.num_classes)  # B K
        batch_size = tf.shape(x)[0]
        eps = self.fixed_normal((batch_size, self.latent_dim))
        terms = self.elbo_terms(x, classes, eps, training=False)
        return self.log(terms, count=batch_size)

    def encode(self, images, labels):
        """Means of the latents, float32 (N, Z).

        Args:
            images: uint8 (N, H, W, C).
            labels: A class number for all images, or one for each.
        """
        return self._of_classes(
            lambda x, y: self.encoder([self.most_probable(x), y])[0], images, labels
        )

    def reconstruct(self, images, labels):
        """Reconstructions, uint8 (N, H, W, C), of images and labels as in `encode`."""
        return self._of_classes(lambda x, y: to_uint8(self(x, y)), images, labels)

    def _of_classes(self, function, images, labels):
        classes = tf.one_hot(self._classes(len(images), labels), self.num_classes)
        batches = iter([classes[i : i + 256] for i in range(0, len(images), 256)])
        return self.in_batches(lambda x: function(x, next(batches)), images)


@register(
    modality="image",
    task="labels",
    data="mnist",
    minutes=5,
    batch_size=128,
    step_ms=55,
    paper="Sohn et al., NeurIPS 2015",
    tiny={"latent_dim": 4, "base_filters": 4},
)
def cvae(
    image_shape: tuple[int, int, int] | None = None,
    num_classes: int | None = None,
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
    """Conditional VAE: images of the class that is asked for, and a bound on their likelihood."""
    model = CVAE(
        image_shape, num_classes, latent_dim, architecture, base_filters, hidden_units, likelihood,
        binarize, seed,
    )  # fmt: skip
    model.compile(
        adam(learning_rate, decay_steps),
        jit_compile=jit_compile_default(on_cpu=architecture == "dense"),
    )
    return model
