"""Layers whose kernel has the spectral norm 1.

    W_bar = W / sigma(W),   sigma(W) the largest singular value of W                  equation 8
    v <- W^T u / |W^T u|,   u <- W v / |W v|,   sigma(W) = u^T W v                 algorithm 1

Spectral Normalization for Generative Adversarial Networks. Miyato, Kataoka, Koyama, Yoshida, 2018,
https://arxiv.org/abs/1802.05957. One such step of the power iteration an update is enough, since u
is kept and W moves little in between. Gradients flow through sigma, with u and v held constant:

    dL/dW = (dL/dW_bar - <dL/dW_bar, W_bar> u v^T) / sigma                           equation 12

The paper's W maps inputs to outputs from the left; Keras multiplies from the right, so here it is
the transpose of the kernel as a matrix (inputs, outputs). Of a convolution, the inputs are the
kernel's height, width and input channels together (section 4).

Keras has `keras.layers.SpectralNormalization`, which is another algorithm: it overwrites the kernel
with the normalised one at each call, outside of the gradient. Its optimizer moves W_bar, and along
dL/dW_bar, without the second term above, which removes what would only make the kernel longer.
"""

import keras
import tensorflow as tf

from keras_genai.layers.resampling import PooledConv2D


class _SpectralNormalization(keras.layers.Layer):
    """Comes before a Keras layer among the bases of a class, and normalises that layer's kernel.

    A call with `training=True` makes one step of the power iteration; others leave u as it is.
    """

    def build(self, input_shape):
        super().build(input_shape)
        self.u = self.add_weight(
            name="u",
            shape=(self.kernel.shape[-1], 1),
            initializer="orthogonal",  # of one column: a unit vector in a random direction
            trainable=False,
            dtype="float32",
            autocast=False,
            # Replicas have one kernel and thus make the same step.
            aggregation="only_first_replica",
        )

    def call(self, inputs, training=False):
        # What the Keras layer reads in this scope is the normalised kernel.
        with keras.StatelessScope([(self.kernel, self.normalized(training))]):
            return super().call(inputs)

    def normalized(self, training):
        """The kernel divided by its spectral norm, of the kernel's shape, in float32."""
        kernel = tf.cast(self.kernel, "float32")
        matrix = tf.reshape(kernel, (-1, kernel.shape[-1]))  # inputs, outputs
        constant = tf.stop_gradient(matrix)
        u = tf.convert_to_tensor(self.u)  # outputs, 1
        v = tf.math.l2_normalize(constant @ u)  # inputs, 1
        if training:
            u = tf.math.l2_normalize(tf.matmul(constant, v, transpose_a=True))
            self.u.assign(u)
        sigma = tf.matmul(v, matrix @ u, transpose_a=True)  # 1, 1
        return kernel / tf.squeeze(sigma)

    def save_own_variables(self, store):
        """As in the Keras layer, which names its own variables one by one, and u."""
        super().save_own_variables(store)
        store["u"] = self.u

    def load_own_variables(self, store):
        """Reads what `save_own_variables` wrote."""
        super().load_own_variables(store)
        self.u.assign(store["u"])


@keras.saving.register_keras_serializable("keras_genai")
class SpectralConv2D(_SpectralNormalization, keras.layers.Conv2D):
    """`keras.layers.Conv2D` with a kernel of spectral norm 1."""


@keras.saving.register_keras_serializable("keras_genai")
class SpectralPooledConv2D(_SpectralNormalization, PooledConv2D):
    """`PooledConv2D` with a 3x3 kernel of spectral norm 1."""


@keras.saving.register_keras_serializable("keras_genai")
class SpectralDense(_SpectralNormalization, keras.layers.Dense):
    """`keras.layers.Dense` with a kernel of spectral norm 1."""
