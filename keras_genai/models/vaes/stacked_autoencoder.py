"""Stacked autoencoder: a deep one, trained layer by layer, then as a whole.

Greedy Layer-Wise Training of Deep Networks. Bengio, Lamblin, Popovici, Larochelle, 2006,
https://papers.nips.cc/paper/3048-greedy-layer-wise-training-of-deep-networks, with the noise of
Stacked Denoising Autoencoders. Vincent, Larochelle, Lajoie, Bengio, Manzagol, 2010,
https://www.jmlr.org/papers/v11/vincent10a.html

L layers f_1 ... f_L lead to the code, L layers g_L ... g_1 back; all are fully connected. Their
values lie in [0, 1] (sigmoid), as those of images do here, but for the code and for what g_1 makes,
which are linear: see `autoencoder.py`. With h_0 = x and h_i = f_i(h_{i-1}),
stage i of the training moves f_i and g_i alone, so that they give back what the layers below, which
stand still, make of an image. Of their input each number is 0 with probability `noise_level`:

    layer_i = E_x,noise[|h_{i-1} - g_i(f_i(masked h_{i-1}))|^2]

The last stage moves all layers, from the place where the others have brought them:

    fine_tuning = E_x[|x - g_1(... g_L(f_L(... f_1(x))))|^2]

That is the fine-tuning of `autoencoder.py`'s paper; those above put a classifier on top and tune
for its error. The weights of g_i are its own, not those of f_i transposed.

Each of the first L stages takes `stage_steps` steps, the last one what is left of the training.
Steps are counted in a variable that is saved with the model. Each step computes all losses, to be
looked at, and multiplies all but that of its stage by 0. RMSprop, without momentum, does not move
what gets the gradient 0; Adam would.

Shapes: B batch, H height, W width, C channels, L layers, N values of a layer, Z latent size.
"""

import math

import keras
import tensorflow as tf
from keras import layers

from keras_genai.data.images import to_model
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.transform_model import TransformModel
from keras_genai.zoo.registry import register


@network
def dense(inputs, units, activation):
    """One layer: values (B, inputs) to (B, units)."""
    h = keras.Input((inputs,))
    return keras.Model(h, layers.Dense(units, activation=activation, dtype="float32")(h))


def squared_error(x, y):
    """Of values (B, N), the sum over an item and the mean over the batch: a scalar."""
    return tf.reduce_mean(tf.reduce_sum((x - y) ** 2, axis=1))


@keras.saving.register_keras_serializable("keras_genai")
class StackedAutoencoder(TransformModel):
    """The training of Bengio et al. (2006) with the noise of Vincent et al. (2010).

    Args:
        image_shape: (H, W, C), or None: from the data.
        num_layers: L, of the encoder; the decoder has as many.
        hidden_units: Values of each layer between image and code.
        latent_dim: Z, the values of the code.
        stage_steps: Steps of each layer's own stage.
        noise_level: Share of a layer's input that is set to 0 in its own stage; 0 for none.
        seed: Fixes weights, noise and data order.
    """

    def __init__(
        self,
        image_shape=None,
        num_layers=3,
        hidden_units=512,
        latent_dim=32,
        stage_steps=1500,
        noise_level=0.25,
        seed=None,
        **kwargs,
    ):
        self.loss_names = (*(f"layer_{i + 1}" for i in range(num_layers)), "fine_tuning")
        super().__init__(image_shape, seed, **kwargs)
        self.num_layers, self.hidden_units, self.latent_dim = num_layers, hidden_units, latent_dim
        self.stage_steps, self.noise_level = stage_steps, noise_level
        if min(num_layers, stage_steps) < 1:
            raise ValueError(
                "`num_layers` and `stage_steps` are at least 1; without stages a training is that "
                f"of `autoencoder`. Received: {num_layers=}, {stage_steps=}"
            )
        if not 0.0 <= noise_level < 1.0:
            raise ValueError(
                "`noise_level` is the share of a layer's input that is set to 0, at least 0 and "
                f"below 1. Received: noise_level={noise_level}"
            )

    def build_networks(self):
        hidden = [self.hidden_units] * (self.num_layers - 1)
        sizes = [math.prod(self.image_shape), *hidden, self.latent_dim]
        activations = ["sigmoid"] * (self.num_layers - 1) + ["linear"]
        self.encoders, self.decoders = [], []
        for i, activation in enumerate(activations):
            below, above = sizes[i], sizes[i + 1]
            self.encoders.append(dense(below, above, activation, name=f"encoder_{i + 1}"))
            back = "sigmoid" if i else "linear"
            self.decoders.append(dense(above, below, back, name=f"decoder_{i + 1}"))
        self.steps_done = keras.Variable(
            0, dtype="int64", trainable=False, aggregation="only_first_replica", name="steps_done"
        )

    @property
    def stage(self):
        """The stage of the next step, an int64 scalar: 0 to L - 1 for the layers, then L."""
        return tf.minimum(self.steps_done.value // self.stage_steps, self.num_layers)

    @property
    def unfinished(self):
        left = self.num_layers * self.stage_steps - int(self.steps_done)
        stage = self.loss_names[int(self.stage)]
        return f"still in stage {stage}: {left:,} steps before fine-tuning" if left > 0 else ""

    def begin(self, source):
        super().begin(source)
        if self.entry and not self.progress.step:  # published weights have been through the stages
            self.steps_done.assign(self.num_layers * self.stage_steps)

    def values(self, x):
        """Images (B, H, W, C) in [-1, 1] as values (B, N) in [0, 1]."""
        return tf.reshape(0.5 * (x + 1.0), (-1, math.prod(self.image_shape)))

    def up(self, h, depth, training=False):
        """What `depth` layers make of the values (B, N) of images."""
        for encoder in self.encoders[:depth]:
            h = encoder(h, training=training)
        return h

    def down(self, h, depth, training=False):
        """The values (B, N) of images of what `depth` layers have made."""
        for decoder in reversed(self.decoders[:depth]):
            h = decoder(h, training=training)
        return h

    def through(self, x, depth, training=False):
        """Images (B, H, W, C) in [-1, 1], reconstructed by the lowest `depth` layers, nearly so."""
        h = self.down(self.up(self.values(x), depth, training), depth, training)
        return 2.0 * tf.reshape(h, (-1, *self.image_shape)) - 1.0

    def call(self, x, training=False):
        """Reconstructs images (B, H, W, C) in [-1, 1], by all layers."""
        return self.through(x, self.num_layers, training)

    def decode(self, z, training=False):
        """Images (B, H, W, C), nearly all in [-1, 1], of codes (B, Z)."""
        h = self.down(z, self.num_layers, training)
        return 2.0 * tf.reshape(h, (-1, *self.image_shape)) - 1.0

    def transform(self, x):
        return self(x)

    def view(self, x, seed):
        """The images, and their reconstructions by the lowest layer, by two, and so on."""
        return [x, *(self.through(x, depth + 1) for depth in range(self.num_layers))]

    @property
    def num_views(self):
        return 1 + self.num_layers

    def stage_losses(self, x, uniform, training):
        """The loss of each stage, by name, with masks of `uniform`, which draws for a shape."""
        h, losses = self.values(x), {}  # B N
        for i, (encoder, decoder) in enumerate(zip(self.encoders, self.decoders, strict=True)):
            kept = tf.cast(uniform(tf.shape(h)) >= self.noise_level, "float32")
            code = encoder(kept * h, training=training)
            losses[f"layer_{i + 1}"] = squared_error(h, decoder(code, training=training))
            h = tf.stop_gradient(encoder(h, training=training))  # the layer above sees no noise
        whole = self.through(x, self.num_layers, training)
        losses["fine_tuning"] = squared_error(self.values(x), self.values(whole))
        return losses

    def train_step(self, data):
        x = to_model(data["image"])  # B H W C
        of_stage = tf.one_hot(self.stage, self.num_layers + 1)  # L+1
        with tf.GradientTape() as tape:
            losses = self.stage_losses(x, self.uniform, training=True)
            loss = tf.reduce_sum(of_stage * tf.stack([*losses.values()]))
        self.minimize(tape, loss, *self.encoders, *self.decoders)
        self.steps_done.assign_add(1)
        return self.log(losses, total=loss)

    def test_step(self, data):
        x = to_model(data["image"])  # B H W C
        losses = self.stage_losses(x, self.fixed_uniform, training=False)
        loss = tf.stack([*losses.values()])[self.stage]
        return self.log(losses, total=loss, count=tf.shape(x)[0])

    def encode(self, images):
        """Codes, float32 (N, Z), of images uint8 (N, H, W, C)."""
        return self.in_batches(lambda x: self.up(self.values(x), self.num_layers), images)

    def reconstruct(self, images):
        """Reconstructions, uint8 (N, H, W, C), of images uint8 (N, H, W, C), as `generate`."""
        return self.generate(images)


@register(
    modality="image",
    task="transform",
    data="mnist",
    minutes=4,
    batch_size=128,
    step_ms=25,
    paper="JMLR 11:3371, 2010",
    tiny={"num_layers": 2, "hidden_units": 16, "latent_dim": 4, "stage_steps": 3},
)
def stacked_autoencoder(
    image_shape: tuple[int, int, int] | None = None,
    num_layers: int = 3,
    hidden_units: int = 512,
    latent_dim: int = 32,
    stage_steps: int = 1500,
    noise_level: float = 0.25,
    learning_rate: float = 1e-3,
    seed: int | None = None,
):
    """Stacked autoencoder: trained layer by layer, then as a whole."""
    model = StackedAutoencoder(
        image_shape, num_layers, hidden_units, latent_dim, stage_steps, noise_level, seed
    )
    model.compile(
        keras.optimizers.RMSprop(learning_rate), jit_compile=jit_compile_default(on_cpu=True)
    )
    return model
