"""A 3x3 convolution and a change of size in one, without the image of the larger size.

The means of 2x2 neighbours of what a 3x3 kernel makes are what a 4x4 kernel makes in steps of 2:
the mean of the small one at four places. The other way round, an image whose pixels are repeated
2x2 and then convolved is a transposed convolution with the sum of the four. Both take 4
multiplications where there were 9, and about half the time on a CPU.

Shapes: B batch, H height, W width, C channels, D features.
"""

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_genai")
class PooledConv2D(keras.layers.Conv2D):
    """A padded 3x3 `keras.layers.Conv2D` and then `keras.layers.AveragePooling2D(2)`.

    Takes (B, 2H, 2W, C) to (B, H, W, D). Variables are those of the Keras layer, and results too
    (to float rounding).

    Args:
        filters: D.
        kernel_size: 3.
        padding: "same".
        **kwargs: As in `keras.layers.Conv2D`, but for an activation, which the means would follow.
    """

    def __init__(self, filters, kernel_size=3, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)

    def convolution_op(self, inputs, kernel):
        return tf.nn.conv2d(inputs, copies(tf.convert_to_tensor(kernel)) / 4.0, 2, "SAME")

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, height // 2, width // 2, self.filters


@keras.saving.register_keras_serializable("keras_genai")
class UpsampledConv2D(keras.layers.Conv2D):
    """`keras.layers.UpSampling2D` (nearest, twice the size) and then a 3x3 `Conv2D`, padded.

    Takes (B, H, W, C) to (B, 2H, 2W, D). Variables are those of the Keras layer, and results too
    (to float rounding).

    Args:
        filters: D.
        kernel_size: 3.
        padding: "same".
        **kwargs: As in `keras.layers.Conv2D`.
    """

    def __init__(self, filters, kernel_size=3, padding="same", **kwargs):
        super().__init__(filters, kernel_size, padding=padding, **kwargs)

    def convolution_op(self, inputs, kernel):
        height, width = inputs.shape[1:3]
        shape = (tf.shape(inputs)[0], 2 * height, 2 * width, self.filters)
        # Of a transposed convolution the kernel is (4, 4, D, C), and turned by half a circle.
        turned = tf.transpose(copies(tf.convert_to_tensor(kernel))[::-1, ::-1], (0, 1, 3, 2))
        return tf.nn.conv2d_transpose(inputs, turned, shape, 2)

    def compute_output_shape(self, input_shape):
        batch, height, width, _ = input_shape
        return batch, 2 * height, 2 * width, self.filters


def copies(kernel):
    """The sum (4, 4, C, D) of a kernel (3, 3, C, D) at four places."""
    padded = tf.pad(kernel, [[1, 1], [1, 1], [0, 0], [0, 0]])
    rows = padded[1:] + padded[:-1]
    return rows[:, 1:] + rows[:, :-1]
