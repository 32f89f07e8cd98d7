"""The four models as a user of Keras would write them: what `step_time.py` compares with.

The networks have the sizes of the recipes' defaults; layers, losses and optimizers are stock.
"""

import keras
import tensorflow as tf
from keras import layers

bce = keras.losses.BinaryCrossentropy(from_logits=True)


def adam():
    return keras.optimizers.Adam(2e-4, beta_1=0.5)


class PlainGAN(keras.Model):
    """A GAN with an overridden `train_step`: new noise and a pass through G for each player."""

    def __init__(self, generator, discriminator, latent_dim):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.latent_dim = latent_dim
        self.d_tracker = keras.metrics.Mean(name="d_loss")
        self.g_tracker = keras.metrics.Mean(name="g_loss")

    def compile(self, d_optimizer, g_optimizer):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer

    @property
    def metrics(self):
        return [self.d_tracker, self.g_tracker]

    def train_step(self, x_real):
        batch_size = tf.shape(x_real)[0]
        z = keras.random.normal((batch_size, self.latent_dim))
        x_fake = self.generator(z, training=True)
        with tf.GradientTape() as tape:
            real_logits = self.discriminator(x_real, training=True)
            fake_logits = self.discriminator(x_fake, training=True)
            d_loss = bce(tf.ones_like(real_logits), real_logits)
            d_loss += bce(tf.zeros_like(fake_logits), fake_logits)
        gradients = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_weights))

        z = keras.random.normal((batch_size, self.latent_dim))
        with tf.GradientTape() as tape:
            fake_logits = self.discriminator(self.generator(z, training=True), training=True)
            g_loss = bce(tf.ones_like(fake_logits), fake_logits)
        gradients = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(gradients, self.generator.trainable_weights))
        self.d_tracker.update_state(d_loss)
        self.g_tracker.update_state(g_loss)
        return {"d_loss": self.d_tracker.result(), "g_loss": self.g_tracker.result()}


def gan():
    generator = keras.Sequential([keras.Input((100,))])
    for units in (256, 512, 1024):
        generator.add(layers.Dense(units))
        generator.add(layers.LeakyReLU(0.2))
    generator.add(layers.Dense(784, activation="tanh"))
    generator.add(layers.Reshape((28, 28, 1)))
    discriminator = keras.Sequential([keras.Input((28, 28, 1)), layers.Flatten()])
    for units in (1024, 512, 256):
        discriminator.add(layers.Dense(units))
        discriminator.add(layers.LeakyReLU(0.2))
        discriminator.add(layers.Dropout(0.3))
    discriminator.add(layers.Dense(1))
    model = PlainGAN(generator, discriminator, 100)
    model.compile(adam(), adam())
    return model


def dcgan():
    options = {"strides": 2, "padding": "same"}
    generator = keras.Sequential(
        [
            keras.Input((128,)),
            layers.Dense(4 * 4 * 128, use_bias=False),
            layers.Reshape((4, 4, 128)),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(64, 4, **options, use_bias=False),
            layers.Cropping2D(((0, 1), (0, 1))),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(32, 4, **options, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.ReLU(),
            layers.Conv2DTranspose(1, 4, **options, activation="tanh"),
        ]
    )
    discriminator = keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(32, 4, **options),
            layers.LeakyReLU(0.2),
            layers.Conv2D(64, 4, **options, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.LeakyReLU(0.2),
            layers.Conv2D(128, 4, **options, use_bias=False),
            layers.BatchNormalization(momentum=0.9),
            layers.LeakyReLU(0.2),
            layers.Flatten(),
            layers.Dense(1),
        ]
    )
    model = PlainGAN(generator, discriminator, 128)
    model.compile(adam(), adam())
    return model


class PlainVAE(keras.Model):
    """A VAE with an overridden `train_step`."""

    def __init__(self, encoder, decoder):
        super().__init__()
        self.encoder, self.decoder = encoder, decoder
        self.trackers = [keras.metrics.Mean(name=n) for n in ("loss", "reconstruction", "kl")]

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, x):
        x_01 = (x + 1.0) / 2.0
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)
            z = mu + tf.exp(0.5 * log_var) * keras.random.normal(tf.shape(mu))
            p = self.decoder(z, training=True)
            per_pixel = keras.losses.binary_crossentropy(x_01, p)
            reconstruction = tf.reduce_mean(tf.reduce_sum(per_pixel, axis=(1, 2)))
            kl = -0.5 * (1 + log_var - tf.square(mu) - tf.exp(log_var))
            kl = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
            loss = reconstruction + kl
        gradients = tape.gradient(loss, self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        for tracker, value in zip(self.trackers, (loss, reconstruction, kl), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def vae():
    options = {"strides": 2, "padding": "same", "activation": "relu"}
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, 4, **options)(image)
    x = layers.Conv2D(64, 4, **options)(x)
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    encoder = keras.Model(image, [layers.Dense(32)(x), layers.Dense(32)(x)])
    z = keras.Input((32,))
    x = layers.Dense(256, activation="relu")(z)
    x = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(x))
    x = layers.Conv2DTranspose(32, 4, **options)(x)
    p = layers.Conv2DTranspose(1, 4, strides=2, padding="same", activation="sigmoid")(x)
    model = PlainVAE(encoder, keras.Model(z, p))
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def char_rnn():
    ids = keras.Input((100,), dtype="int32")
    x = layers.GRU(256, return_sequences=True)(layers.Embedding(65, 64)(ids))
    x = layers.Dropout(0.1)(x)
    model = keras.Model(ids, layers.Dense(65)(x))
    model.compile(
        keras.optimizers.Adam(5e-3, global_clipnorm=1.0),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    return model
