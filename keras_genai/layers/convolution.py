"""Strided convolutions between an image of few channels and many features.

oneDNN works on blocks of 16 channels. A transposed convolution to one channel, which is also the
gradient of a convolution by its image, takes as long there as one to sixteen. As a convolution to
the four phases of the output (Shi et al., 2016, https://arxiv.org/abs/1609.05158) it takes half.

Shapes: B batch, H height, W width, C image channels, D features.
"""

import keras
import tensorflow as tf

FEW = 4
SAME = {"strides": [1, 2, 2, 1], "padding": "SAME"}


@keras.saving.register_keras_serializable("keras_genai")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`; of images, its gradient by the image takes half the time on a CPU.

    Arguments, variables and results are those of the Keras layer (results to float rounding).
    """

    def convolution_op(self, inputs, kernel):
        height, width, channels = inputs.shape[1:]
        if channels > FEW or not _halves(self) or height is None or height % 2 or width % 2:
            return super().convolution_op(inputs, kernel)
        return halved(inputs, tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("keras_genai")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`; to images, it takes half the time on a CPU.

    Arguments, variables and results are those of the Keras layer (results to float rounding).
    """

    def call(self, inputs):
        if self.filters > FEW or not _halves(self) or self.output_padding is not None:
            return super().call(inputs)
        image = doubled(inputs, tf.convert_to_tensor(self.kernel))
        if self.use_bias:
            image += self.bias
        return image if self.activation is None else self.activation(image)


def _halves(layer):
    """Whether the layer's kernel is 4x4 in steps of 2, of channels last."""
    return (
        (layer.kernel_size, layer.strides) == ((4, 4), (2, 2))
        and (layer.padding, layer.data_format) == ("same", "channels_last")
        and layer.dilation_rate in (1, (1, 1))
        and getattr(layer, "groups", 1) == 1
    )


@tf.custom_gradient
def halved(image, kernel):
    """Convolves (B, 2H, 2W, C) with a kernel (4, 4, C, D) in steps of 2: (B, H, W, D)."""

    def gradient(dy):
        return doubled(dy, kernel), _kernel_gradient(image, kernel, dy)

    return tf.nn.conv2d(image, kernel, **SAME), gradient


@tf.custom_gradient
def doubled(features, kernel):
    """The transpose of `halved`: features (B, H, W, D) and a kernel (4, 4, C, D) to an image."""
    channels, depth = kernel.shape[2:]
    # Kernel rows 0 and 1 make the even and odd rows of the image from the later of two rows of
    # features, 2 and 3 from the earlier one; columns likewise.
    phases = tf.reshape(kernel, (2, 2, 2, 2, channels, depth))[::-1, :, ::-1]
    phases = tf.reshape(tf.transpose(phases, (0, 2, 5, 1, 3, 4)), (2, 2, depth, 4 * channels))
    y = tf.nn.conv2d(features, phases, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])  # B H+1 W+1 4C

    def gradient(dy):
        return halved(dy, kernel), _kernel_gradient(dy, kernel, features)

    return tf.nn.depth_to_space(y, 2)[:, 1:-1, 1:-1], gradient


def _kernel_gradient(image, kernel, features):
    return tf.raw_ops.Conv2DBackpropFilter(
        input=image, filter_sizes=kernel.shape, out_backprop=features, **SAME
    )
