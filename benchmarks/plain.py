"""The models as a user of Keras would write them: what `step_time.py` compares with.

The networks have the sizes of the recipes' defaults; layers, losses and optimizers are stock.
Initial weights, learning rates and epsilons, on which the time of a step does not depend, are not
the recipes' everywhere.
"""

import math

import keras
import tensorflow as tf
from keras import layers

bce = keras.losses.BinaryCrossentropy(from_logits=True)
mse = keras.losses.MeanSquaredError()
class_loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def adam(beta_1=0.5, beta_2=0.999):
    return keras.optimizers.Adam(2e-4, beta_1=beta_1, beta_2=beta_2)


def logistic_d_loss(real, fake):
    return bce(tf.ones_like(real), real) + bce(tf.zeros_like(fake), fake)


def logistic_g_loss(fake):
    return bce(tf.ones_like(fake), fake)


class PlainGAN(keras.Model):
    """A GAN with an overridden `train_step`: new noise and a pass through G for each player."""

    def __init__(self, generator, discriminator, latent_dim):
        super().__init__()
        self.generator, self.discriminator = generator, discriminator
        self.latent_dim = latent_dim
        self.d_tracker = keras.metrics.Mean(name="d_loss")
        self.g_tracker = keras.metrics.Mean(name="g_loss")

    def compile(
        self, d_optimizer, g_optimizer, d_loss_fn=logistic_d_loss, g_loss_fn=logistic_g_loss
    ):
        super().compile()
        self.d_optimizer, self.g_optimizer = d_optimizer, g_optimizer
        self.d_loss_fn, self.g_loss_fn = d_loss_fn, g_loss_fn

    @property
    def metrics(self):
        return [self.d_tracker, self.g_tracker]

    def train_step(self, x_real):
        x_fake = self.generator(self.noise(x_real), training=True)
        with tf.GradientTape() as tape:
            real = self.discriminator(x_real, training=True)
            fake = self.discriminator(x_fake, training=True)
            d_loss = self.d_loss_fn(real, fake)
        self.update_discriminator(tape, d_loss)
        with tf.GradientTape() as tape:
            x_fake = self.generator(self.noise(x_real), training=True)
            g_loss = self.g_loss_fn(self.discriminator(x_fake, training=True))
        self.update_generator(tape, g_loss)
        return self.log(d_loss, g_loss)

    def noise(self, x_real):
        return keras.random.normal((tf.shape(x_real)[0], self.latent_dim))

    def update_discriminator(self, tape, d_loss):
        gradients = tape.gradient(d_loss, self.discriminator.trainable_weights)
        self.d_optimizer.apply_gradients(zip(gradients, self.discriminator.trainable_weights))

    def update_generator(self, tape, g_loss):
        gradients = tape.gradient(g_loss, self.generator.trainable_weights)
        self.g_optimizer.apply_gradients(zip(gradients, self.generator.trainable_weights))

    def log(self, d_loss, g_loss):
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


def dcgan_generator(inputs=128):
    options = {"strides": 2, "padding": "same"}
    return keras.Sequential(
        [
            keras.Input((inputs,)),
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


def dcgan_discriminator(channels=1, outputs=1, batch_norm=True, last_bias=True):
    options = {"strides": 2, "padding": "same"}
    model = keras.Sequential(
        [
            keras.Input((28, 28, channels)),
            layers.Conv2D(32, 4, **options),
            layers.LeakyReLU(0.2),
        ]
    )
    for filters in (64, 128):
        model.add(layers.Conv2D(filters, 4, **options, use_bias=not batch_norm))
        if batch_norm:
            model.add(layers.BatchNormalization(momentum=0.9))
        model.add(layers.LeakyReLU(0.2))
    model.add(layers.Flatten())
    model.add(layers.Dense(outputs, use_bias=last_bias))
    return model


def dcgan():
    model = PlainGAN(dcgan_generator(), dcgan_discriminator(), 128)
    model.compile(adam(), adam())
    return model


def lsgan():
    model = PlainGAN(dcgan_generator(), dcgan_discriminator(), 128)
    model.compile(
        adam(),
        adam(),
        lambda real, fake: 0.5 * (mse(tf.ones_like(real), real) + mse(tf.zeros_like(fake), fake)),
        lambda fake: 0.5 * mse(tf.ones_like(fake), fake),
    )
    return model


class PlainWGAN(PlainGAN):
    """Several updates of the critic, each on a share of the batch, then one of G."""

    def __init__(self, generator, critic, latent_dim, critic_steps, clip=0.0, penalty_weight=0.0):
        super().__init__(generator, critic, latent_dim)
        self.critic_steps, self.clip, self.penalty_weight = critic_steps, clip, penalty_weight

    def train_step(self, data):
        for x_real in tf.split(data, self.critic_steps):
            x_fake = self.generator(self.noise(x_real), training=True)
            with tf.GradientTape() as tape:
                real = self.discriminator(x_real, training=True)
                fake = self.discriminator(x_fake, training=True)
                d_loss = tf.reduce_mean(fake) - tf.reduce_mean(real)
                if self.penalty_weight:
                    d_loss += self.penalty_weight * self.gradient_penalty(x_real, x_fake)
            self.update_discriminator(tape, d_loss)
            if self.clip:
                for weight in self.discriminator.trainable_weights:
                    weight.assign(tf.clip_by_value(weight, -self.clip, self.clip))
        with tf.GradientTape() as tape:
            x_fake = self.generator(self.noise(x_real), training=True)
            g_loss = -tf.reduce_mean(self.discriminator(x_fake, training=True))
        self.update_generator(tape, g_loss)
        return self.log(d_loss, g_loss)

    def gradient_penalty(self, x_real, x_fake):
        alpha = keras.random.uniform((tf.shape(x_real)[0], 1, 1, 1))
        x_hat = x_fake + alpha * (x_real - x_fake)
        with tf.GradientTape() as tape:
            tape.watch(x_hat)
            scores = self.discriminator(x_hat, training=True)
        gradient = tape.gradient(scores, x_hat)
        norms = tf.sqrt(tf.reduce_sum(tf.square(gradient), axis=(1, 2, 3)) + 1e-12)
        return tf.reduce_mean((norms - 1.0) ** 2)


def wgan():
    critic = dcgan_discriminator(last_bias=False)
    model = PlainWGAN(dcgan_generator(), critic, 128, critic_steps=5, clip=0.01)
    model.compile(keras.optimizers.RMSprop(2e-4), keras.optimizers.RMSprop(2e-4))
    return model


def wgan_gp():
    critic = dcgan_discriminator(batch_norm=False, last_bias=False)
    model = PlainWGAN(dcgan_generator(), critic, 128, critic_steps=3, penalty_weight=10.0)
    model.compile(adam(0.0, 0.9), adam(0.0, 0.9))
    return model


def sn_conv(filters, size, **options):
    return layers.SpectralNormalization(layers.Conv2D(filters, size, padding="same", **options))


def sngan():
    z = keras.Input((128,))
    x = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64)(z))
    for filters in (32, 16):
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
        y = layers.UpSampling2D()(y)
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        y = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(y))
        y = layers.Conv2D(filters, 3, padding="same", use_bias=False)(y)
        # Here and in D, as in the recipe, the 1x1 convolution is on the smaller image.
        shortcut = layers.UpSampling2D()(layers.Conv2D(filters, 1, use_bias=False)(x))
        x = layers.Add()([y, shortcut])
    x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    generator = keras.Model(z, layers.Conv2D(1, 3, padding="same", activation="tanh")(x))

    image = x = keras.Input((28, 28, 1))
    for filters in (16, 32):
        y = x if x is image else layers.ReLU()(x)
        y = sn_conv(filters, 3)(sn_conv(filters, 3, activation="relu")(y))
        shortcut = sn_conv(filters, 1)(layers.AveragePooling2D(2)(x))
        x = layers.Add()([layers.AveragePooling2D(2)(y), shortcut])
    y = sn_conv(64, 3)(sn_conv(64, 3, activation="relu")(layers.ReLU()(x)))
    x = layers.ReLU()(layers.Add()([y, sn_conv(64, 1)(x)]))
    scores = layers.SpectralNormalization(layers.Dense(1))(keras.ops.sum(x, axis=(1, 2)))

    model = PlainGAN(generator, keras.Model(image, scores), 128)
    model.compile(
        adam(0.0, 0.9),
        adam(0.0, 0.9),
        lambda real, fake: (
            tf.reduce_mean(tf.nn.relu(1.0 - real)) + tf.reduce_mean(tf.nn.relu(1.0 + fake))
        ),
        lambda fake: -tf.reduce_mean(fake),
    )
    return model


class PlainCGAN(PlainGAN):
    """G is given the class beside the noise, D as ten more channels of the image."""

    def train_step(self, data):
        x_real, labels = data
        classes = tf.one_hot(labels, 10)
        planes = tf.tile(classes[:, None, None], (1, 28, 28, 1))
        x_fake = self.generator(tf.concat([self.noise(x_real), classes], 1), training=True)
        with tf.GradientTape() as tape:
            real = self.discriminator(tf.concat([x_real, planes], 3), training=True)
            fake = self.discriminator(tf.concat([x_fake, planes], 3), training=True)
            d_loss = self.d_loss_fn(real, fake)
        self.update_discriminator(tape, d_loss)
        with tf.GradientTape() as tape:
            x_fake = self.generator(tf.concat([self.noise(x_real), classes], 1), training=True)
            fake = self.discriminator(tf.concat([x_fake, planes], 3), training=True)
            g_loss = self.g_loss_fn(fake)
        self.update_generator(tape, g_loss)
        return self.log(d_loss, g_loss)


def cgan():
    model = PlainCGAN(dcgan_generator(128 + 10), dcgan_discriminator(channels=1 + 10), 128)
    model.compile(adam(), adam())
    return model


class PlainACGAN(PlainGAN):
    """G is given the class beside the noise, D names it."""

    def train_step(self, data):
        x_real, labels = data
        classes = tf.one_hot(labels, 10)
        x_fake = self.generator(tf.concat([self.noise(x_real), classes], 1), training=True)
        with tf.GradientTape() as tape:
            real = self.discriminator(x_real, training=True)
            fake = self.discriminator(x_fake, training=True)
            d_loss = self.d_loss_fn(real[:, :1], fake[:, :1])
            d_loss += class_loss(labels, real[:, 1:]) + class_loss(labels, fake[:, 1:])
        self.update_discriminator(tape, d_loss)
        with tf.GradientTape() as tape:
            x_fake = self.generator(tf.concat([self.noise(x_real), classes], 1), training=True)
            fake = self.discriminator(x_fake, training=True)
            g_loss = self.g_loss_fn(fake[:, :1]) + class_loss(labels, fake[:, 1:])
        self.update_generator(tape, g_loss)
        return self.log(d_loss, g_loss)


def acgan():
    model = PlainACGAN(dcgan_generator(128 + 10), dcgan_discriminator(outputs=1 + 10), 128)
    model.compile(adam(), adam())
    return model


class PlainInfoGAN(PlainGAN):
    """G is given a random category and two codes beside the noise, D guesses them."""

    def train_step(self, x_real):
        z, number, codes = self.latents(x_real)
        x_fake = self.generator(z, training=True)
        with tf.GradientTape() as tape:
            real = self.discriminator(x_real, training=True)
            fake = self.discriminator(x_fake, training=True)
            d_loss = self.d_loss_fn(real[:, :1], fake[:, :1]) + guess_loss(fake, number, codes)
        self.update_discriminator(tape, d_loss)
        z, number, codes = self.latents(x_real)
        with tf.GradientTape() as tape:
            fake = self.discriminator(self.generator(z, training=True), training=True)
            g_loss = self.g_loss_fn(fake[:, :1]) + guess_loss(fake, number, codes)
        self.update_generator(tape, g_loss)
        return self.log(d_loss, g_loss)

    def latents(self, x_real):
        batch_size = tf.shape(x_real)[0]
        number = keras.random.randint((batch_size,), 0, 10)
        codes = keras.random.uniform((batch_size, 2), -1.0, 1.0)
        return tf.concat([self.noise(x_real), tf.one_hot(number, 10), codes], 1), number, codes


def guess_loss(outputs, number, codes):
    squares = tf.reduce_sum(tf.square(codes - outputs[:, 11:]), axis=1)
    return class_loss(number, outputs[:, 1:11]) + 0.5 * tf.reduce_mean(squares)


def infogan():
    model = PlainInfoGAN(dcgan_generator(62 + 10 + 2), dcgan_discriminator(outputs=1 + 10 + 2), 62)
    model.compile(adam(), adam())
    return model


class PlainVAE(keras.Model):
    """A VAE with an overridden `train_step`."""

    loss_names = ("loss", "reconstruction", "kl")

    def __init__(self, encoder, decoder, beta=1.0):
        super().__init__()
        self.encoder, self.decoder, self.beta = encoder, decoder, beta
        self.trackers = [keras.metrics.Mean(name=name) for name in self.loss_names]

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, x):
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)
            p = self.decoder(self.latents(mu, log_var), training=True)
            losses = self.elbo(x, p, mu, log_var)
        return self.update(tape, losses)

    def latents(self, mu, log_var):
        return mu + tf.exp(0.5 * log_var) * keras.random.normal(tf.shape(mu))

    def elbo(self, x, p, mu, log_var):
        reconstruction = tf.reduce_mean(nll_of_pixels(x, p))
        kl = -0.5 * (1 + log_var - tf.square(mu) - tf.exp(log_var))
        kl = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
        return reconstruction + self.beta * kl, reconstruction, kl

    def update(self, tape, losses):
        gradients = tape.gradient(losses[0], self.trainable_weights)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights))
        for tracker, value in zip(self.trackers, losses, strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}


def nll_of_pixels(x, p):
    per_pixel = keras.losses.binary_crossentropy((x + 1.0) / 2.0, p)
    return tf.reduce_sum(per_pixel, axis=(1, 2))


class PlainCVAE(PlainVAE):
    """Encoder and decoder are given the class."""

    def train_step(self, data):
        x, labels = data
        classes = tf.one_hot(labels, 10)
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder([x, classes], training=True)
            z = self.latents(mu, log_var)
            p = self.decoder(tf.concat([z, classes], 1), training=True)
            losses = self.elbo(x, p, mu, log_var)
        return self.update(tape, losses)


class PlainIWAE(PlainVAE):
    """Five draws of z an image, weighed by importance."""

    loss_names = ("loss",)
    draws = 5

    def train_step(self, x):
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)
            mu, log_var = (tf.repeat(values, self.draws, axis=0) for values in (mu, log_var))
            z = self.latents(mu, log_var)
            p = self.decoder(z, training=True)
            log_p = log_normal(z, 0.0, 0.0) - nll_of_pixels(tf.repeat(x, self.draws, axis=0), p)
            log_w = tf.reshape(log_p - log_normal(z, mu, log_var), (-1, self.draws))
            bound = tf.reduce_logsumexp(log_w, axis=1) - tf.math.log(float(self.draws))
            loss = -tf.reduce_mean(bound)
        return self.update(tape, [loss])


def log_normal(z, mu, log_var):
    squares = tf.square(z - mu) * tf.exp(-log_var)
    return -0.5 * tf.reduce_sum(squares + log_var + tf.math.log(2.0 * math.pi), axis=1)


HALVE = {"kernel_size": 4, "strides": 2, "padding": "same"}


def vae_networks(latent_dim=32, num_classes=0):
    def normalized(x):
        return layers.ReLU()(layers.BatchNormalization()(x))

    inputs = x = keras.Input((28, 28, 1))
    for filters in (32, 64):
        x = normalized(layers.Conv2D(filters, **HALVE, use_bias=False)(x))
    x = layers.Flatten()(x)
    if num_classes:
        inputs = [inputs, keras.Input((num_classes,))]
        x = layers.Concatenate()([x, inputs[1]])
    x = normalized(layers.Dense(256, use_bias=False)(x))
    encoder = keras.Model(inputs, [layers.Dense(latent_dim)(x), layers.Dense(latent_dim)(x)])
    z = keras.Input((latent_dim + num_classes,))
    x = normalized(layers.Dense(256, use_bias=False)(z))
    x = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, use_bias=False)(x))
    x = layers.Conv2DTranspose(32, **HALVE, use_bias=False)(normalized(x))
    p = layers.Conv2DTranspose(1, **HALVE, activation="sigmoid")(normalized(x))
    return encoder, keras.Model(z, p)


def compiled(model):
    model.compile(keras.optimizers.Adam(1e-3))
    return model


def vae():
    return compiled(PlainVAE(*vae_networks()))


def beta_vae():
    return compiled(PlainVAE(*vae_networks(latent_dim=10), beta=4.0))


def cvae():
    return compiled(PlainCVAE(*vae_networks(num_classes=10)))


def iwae():
    return compiled(PlainIWAE(*vae_networks()))


def autoencoder_encoder():
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, **HALVE, activation="relu")(image)
    x = layers.Conv2D(64, **HALVE, activation="relu")(x)
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    return keras.Model(image, layers.Dense(32)(x))


def autoencoder_decoder():
    z = keras.Input((32,))
    x = layers.Dense(256, activation="relu")(z)
    x = layers.Reshape((7, 7, 64))(layers.Dense(7 * 7 * 64, activation="relu")(x))
    x = layers.Conv2DTranspose(32, **HALVE, activation="relu")(x)
    return keras.Model(z, layers.Conv2DTranspose(1, **HALVE)(x))


def autoencoder():
    """Its loss is that of the recipe, but for a factor; trained by Keras's own `train_step`."""
    image = keras.Input((28, 28, 1))
    model = keras.Model(image, autoencoder_decoder()(autoencoder_encoder()(image)))
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    return model


class PlainVAEGAN(PlainGAN):
    """All gradients of the three networks are taken from one tape, as in algorithm 1."""

    def __init__(self, encoder, generator, discriminator):
        super().__init__(generator, discriminator, 32)
        self.encoder = encoder
        outputs = [discriminator.layers[-1].output, discriminator.layers[-1].input]
        self.judge = keras.Model(discriminator.inputs, outputs)

    def compile(self, e_optimizer, *others):
        super().compile(*others)
        self.e_optimizer = e_optimizer

    def train_step(self, x):
        with tf.GradientTape(persistent=True) as tape:
            mu, log_var = self.encoder(x, training=True)
            z = mu + tf.exp(0.5 * log_var) * self.noise(x)
            x_fake = self.generator(tf.concat([z, self.noise(x)], 0), training=True)
            real, hidden = self.judge(x, training=True)
            fake, fake_hidden = self.judge(x_fake, training=True)
            squares = tf.square(hidden - tf.split(fake_hidden, 2)[0])
            reconstruction = 0.5 * tf.reduce_mean(tf.reduce_sum(squares, axis=1))
            kl = -0.5 * (1 + log_var - tf.square(mu) - tf.exp(log_var))
            e_loss = tf.reduce_mean(tf.reduce_sum(kl, axis=1)) + reconstruction
            g_loss = 0.01 * reconstruction + 2.0 * self.g_loss_fn(fake)
            d_loss = bce(tf.ones_like(real), real) + 2.0 * bce(tf.zeros_like(fake), fake)
        gradients = tape.gradient(e_loss, self.encoder.trainable_weights)
        self.update_generator(tape, g_loss)
        self.update_discriminator(tape, d_loss)
        self.e_optimizer.apply_gradients(zip(gradients, self.encoder.trainable_weights))
        return self.log(d_loss, g_loss)


def vae_gan():
    model = PlainVAEGAN(vae_networks()[0], dcgan_generator(32), dcgan_discriminator())
    model.compile(adam(), adam(), adam())
    return model


class PlainVQVAE(keras.Model):
    """The codebook moves by averages; a causal transformer learns the codes beside it."""

    def __init__(self, encoder, decoder, prior):
        super().__init__()
        self.encoder, self.decoder, self.prior = encoder, decoder, prior
        self.codes = self.add_weight(shape=(64, 32), initializer="normal", trainable=False)
        self.use = self.add_weight(shape=(64,), initializer="ones", trainable=False)
        self.sums = self.add_weight(shape=(64, 32), initializer="normal", trainable=False)
        self.trackers = [keras.metrics.Mean(name=name) for name in ("loss", "prior_loss")]

    def compile(self, optimizer, prior_optimizer):
        super().compile()
        self.autoencoder_optimizer, self.prior_optimizer = optimizer, prior_optimizer

    @property
    def metrics(self):
        return self.trackers

    def train_step(self, x):
        with tf.GradientTape() as tape:
            z = self.encoder(x, training=True)
            distances = tf.reduce_sum(self.codes**2, axis=1) - 2.0 * tf.matmul(
                tf.reshape(z, (-1, 32)), self.codes, transpose_b=True
            )
            codes = tf.argmin(distances, axis=1)
            e = tf.reshape(tf.gather(self.codes, codes), tf.shape(z))
            p = self.decoder(z + tf.stop_gradient(e - z), training=True)
            per_pixel = keras.losses.binary_crossentropy((x + 1.0) / 2.0, p)
            loss = tf.reduce_mean(tf.reduce_sum(per_pixel, axis=(1, 2)))
            squares = tf.square(z - tf.stop_gradient(e))
            loss += 0.25 * tf.reduce_mean(tf.reduce_sum(squares, axis=(1, 2, 3)))
        weights = self.encoder.trainable_weights + self.decoder.trainable_weights
        self.autoencoder_optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.move_codes(tf.reshape(z, (-1, 32)), codes)

        codes = tf.reshape(codes, (-1, 7, 7))
        with tf.GradientTape() as tape:
            logits = self.prior(neighbours(codes), training=True)
            nll = keras.losses.sparse_categorical_crossentropy(
                tf.reshape(codes, (-1, 49)), logits, from_logits=True
            )
            prior_loss = tf.reduce_mean(tf.reduce_sum(nll, axis=1))
        weights = self.prior.trainable_weights
        self.prior_optimizer.apply_gradients(zip(tape.gradient(prior_loss, weights), weights))
        for tracker, value in zip(self.trackers, (loss, prior_loss), strict=True):
            tracker.update_state(value)
        return {tracker.name: tracker.result() for tracker in self.trackers}

    def move_codes(self, z, codes):
        one_hot = tf.one_hot(codes, 64)
        self.use.assign(0.99 * self.use + 0.01 * tf.reduce_sum(one_hot, axis=0))
        self.sums.assign(0.99 * self.sums + 0.01 * tf.matmul(one_hot, z, transpose_a=True))
        random = tf.gather(z, keras.random.randint((64,), 0, tf.shape(z)[0]))
        dead = self.use < 0.1 * tf.reduce_mean(self.use)
        self.use.assign(tf.where(dead, tf.reduce_mean(self.use), self.use))
        self.sums.assign(tf.where(dead[:, None], random * self.use[:, None], self.sums))
        self.codes.assign(self.sums / self.use[:, None])


def neighbours(codes):
    """The codes before, above left, above and above right of each place, with numbers apart."""
    above = tf.pad(codes[:, :-1], [[0, 0], [1, 0], [1, 1]], constant_values=64)
    before = tf.pad(tf.reshape(codes, (-1, 49))[:, :-1], [[0, 0], [1, 0]], constant_values=64)
    around = [tf.reshape(above[:, :, i : i + 7], (-1, 49)) for i in range(3)]
    return tf.stack([before, *around], axis=-1) + 65 * tf.range(4, dtype=codes.dtype)


def plain_residual(x):
    y = layers.Conv2D(32, 3, padding="same", activation="relu")(layers.ReLU()(x))
    return layers.Add()([x, layers.Conv2D(64, 1)(y)])


def plain_prior():
    around = keras.Input((49, 4), dtype="int32")
    x = keras.ops.sum(layers.Embedding(4 * 65, 128)(around), axis=2)
    places = keras.ops.zeros_like(around[:, :, 0]) + keras.ops.arange(49, dtype="int32")
    x = x + layers.Embedding(49, 128)(places)
    for _ in range(3):
        y = layers.LayerNormalization()(x)
        x = x + layers.MultiHeadAttention(4, 32)(y, y, use_causal_mask=True)
        y = layers.Dense(512, activation="relu")(layers.LayerNormalization()(x))
        x = x + layers.Dense(128)(y)
    return keras.Model(around, layers.Dense(64)(layers.LayerNormalization()(x)))


def vq_vae():
    image = keras.Input((28, 28, 1))
    x = layers.Conv2D(32, **HALVE, activation="relu")(image)
    x = plain_residual(plain_residual(layers.Conv2D(64, **HALVE)(x)))
    encoder = keras.Model(image, layers.Conv2D(32, 1)(layers.ReLU()(x)))
    z = keras.Input((7, 7, 32))
    x = plain_residual(plain_residual(layers.Conv2D(64, 3, padding="same")(z)))
    x = layers.Conv2DTranspose(32, **HALVE, activation="relu")(layers.ReLU()(x))
    decoder = keras.Model(z, layers.Conv2DTranspose(1, **HALVE, activation="sigmoid")(x))
    model = PlainVQVAE(encoder, decoder, plain_prior())
    model.compile(keras.optimizers.Adam(1e-3), keras.optimizers.Adam(1e-3))
    return model


class PlainMultVAE(PlainVAE):
    """A VAE of histories: a multinomial likelihood, and a KL whose weight grows."""

    def train_step(self, x):
        beta = 0.2 * tf.minimum(1.0, tf.cast(self.optimizer.iterations, "float32") / 1000.0)
        with tf.GradientTape() as tape:
            mu, log_var = self.encoder(x, training=True)
            z = mu + tf.exp(0.5 * log_var) * keras.random.normal(tf.shape(mu))
            log_p = tf.nn.log_softmax(self.decoder(z, training=True))
            reconstruction = -tf.reduce_mean(tf.reduce_sum(x * log_p, axis=1))
            kl = -0.5 * (1 + log_var - tf.square(mu) - tf.exp(log_var))
            kl = tf.reduce_mean(tf.reduce_sum(kl, axis=1))
            loss = reconstruction + beta * kl
        return self.update(tape, (loss, reconstruction, kl))


def mult_vae():
    history = keras.Input((400,))
    x = layers.UnitNormalization()(layers.Dropout(0.5)(history))
    x = layers.Dense(600, activation="tanh")(x)
    encoder = keras.Model(history, [layers.Dense(200)(x), layers.Dense(200)(x)])
    z = keras.Input((200,))
    x = layers.Dense(600, activation="tanh")(z)
    model = PlainMultVAE(encoder, keras.Model(z, layers.Dense(400)(x)))
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


def gpt():
    ids = keras.Input((64,), dtype="int32")
    embedding = layers.ReversibleEmbedding(65, 128)
    x = embedding(ids) + layers.Embedding(64, 128)(keras.ops.arange(64))
    for _ in range(4):
        y = layers.LayerNormalization()(x)
        x += layers.MultiHeadAttention(4, 32)(y, y, use_causal_mask=True)
        y = layers.LayerNormalization()(x)
        x += layers.Dense(128)(layers.Dense(512, activation="gelu")(y))
    model = keras.Model(ids, embedding(layers.LayerNormalization()(x), reverse=True))
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embeddings"])
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    return model


class PlainBERT(keras.Model):
    """A masked language model: 15 % of the characters chosen, most of them masked."""

    def __init__(self, network):
        super().__init__()
        self.network = network
        self.tracker = keras.metrics.Mean(name="loss")

    def train_step(self, data):
        ids, _ = data
        chosen = keras.random.uniform(tf.shape(ids)) < 0.15
        kind = keras.random.uniform(tf.shape(ids))
        random = keras.random.randint(tf.shape(ids), 0, 65)
        shown = tf.where(kind < 0.8, 65, tf.where(kind < 0.9, random, ids))
        with tf.GradientTape() as tape:
            logits = self.network(tf.where(chosen, shown, ids), training=True)
            nll = keras.losses.sparse_categorical_crossentropy(ids, logits, from_logits=True)
            chosen = tf.cast(chosen, "float32")
            loss = tf.reduce_sum(chosen * nll) / tf.reduce_sum(chosen)
        weights = self.network.trainable_weights
        self.optimizer.apply_gradients(zip(tape.gradient(loss, weights), weights))
        self.tracker.update_state(loss)
        return {"loss": self.tracker.result()}


def bert():
    ids = keras.Input((64,), dtype="int32")
    embedding = layers.ReversibleEmbedding(67, 128)  # and a mask, and padding
    x = embedding(ids) + layers.Embedding(64, 128)(keras.ops.arange(64))
    x = layers.LayerNormalization()(x)
    for _ in range(4):
        x = layers.LayerNormalization()(x + layers.MultiHeadAttention(4, 32)(x, x))
        y = layers.Dense(128)(layers.Dense(512, activation="gelu")(x))
        x = layers.LayerNormalization()(x + y)
    x = layers.LayerNormalization()(layers.Dense(128, activation="gelu")(x))
    model = PlainBERT(keras.Model(ids, embedding(x, reverse=True)))
    optimizer = keras.optimizers.AdamW(1e-3, weight_decay=0.1, beta_2=0.99, global_clipnorm=1.0)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta", "embeddings"])
    model.compile(optimizer)
    return model
