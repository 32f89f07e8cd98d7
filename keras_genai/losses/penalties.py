"""Penalties on the gradient of a discriminator (or critic) D, and weights that grow.

In `gradient_penalty` and `r1_penalty` D is anything that is called as `D(x, training=True)` and
gives one score an image, (B, 1). The gradient of an image's score is that of the sum of all scores
by this image, since without batch normalisation no score depends on another image. Norms are
computed in float32 under any policy: squares overflow and vanish in half precision.

Shapes: B batch, H height, W width, C channels.
"""

import tensorflow as tf

# Inside the root: the root's own gradient at 0 is infinite.
EPSILON = 1e-12


def gradient_penalty(critic, x_real, x_fake, alpha):
    """How far the critic's slope between real and generated images is from 1.

    Improved Training of Wasserstein GANs. Gulrajani, Ahmed, Arjovsky, Dumoulin, Courville, 2017,
    https://arxiv.org/abs/1704.00028, equation 3 and lines 5 to 7 of algorithm 1, without lambda:
    E[(|grad D(x_hat)| - 1)^2], x_hat = alpha x_real + (1 - alpha) x_fake.

    Args:
        critic: D, see above.
        x_real: Images (B, H, W, C).
        x_fake: As many generated images (B, H, W, C).
        alpha: Uniform in [0, 1], one number an image: (B, 1, 1, 1).

    Returns:
        A scalar, the mean over the batch.
    """
    x_hat = alpha * x_real + (1.0 - alpha) * x_fake  # B H W C
    norms = tf.sqrt(squared_gradient_norms(critic, x_hat) + EPSILON)  # B
    return tf.reduce_mean((norms - 1.0) ** 2)


def r1_penalty(discriminator, x_real):
    """How steep the discriminator is at real images.

    Which Training Methods for GANs do actually Converge? Mescheder, Geiger, Nowozin, 2018,
    https://arxiv.org/abs/1801.04406, equation 9, without its factor gamma / 2:
    E[|grad D(x_real)|^2].

    Args:
        discriminator: D, see above.
        x_real: Images (B, H, W, C).

    Returns:
        A scalar, the mean over the batch.
    """
    return tf.reduce_mean(squared_gradient_norms(discriminator, x_real))


def squared_gradient_norms(discriminator, x):
    """|grad D(x)|^2 of each image (B, H, W, C), over all its pixels and channels: (B,)."""
    x = tf.cast(x, "float32")
    with tf.GradientTape() as tape:
        tape.watch(x)
        scores = discriminator(x, training=True)  # B 1
    gradient = tf.cast(tape.gradient(scores, x), "float32")  # B H W C
    return tf.reduce_sum(gradient**2, axis=[1, 2, 3])


def annealed(value, updates, steps):
    """What grows by equal steps from 0 to `value`, which it has from `steps` updates on."""
    return value * tf.minimum(1.0, tf.cast(updates, "float32") / steps)
