"""Strided convolutions between an image of few channels and many features, or at few places.

oneDNN works on blocks of 16 channels. A transposed convolution to one channel, which is also the
gradient of a convolution by its image, takes as long there as one to sixteen. As a convolution to
the four phases of the output (Shi et al., 2016, https://arxiv.org/abs/1609.05158) it takes half.

Its gradient by the kernel also multiplies the zeros of the padding: at 4x4 places a quarter to a
third of all. Written as a forward convolution, which skips them, it takes 0.7 to 0.9 of the time at
up to 5x5 places. Above that, transposing costs more than it saves.

Shapes: B batch, H height, W width, C image channels, D features; h, w: H / 2, W / 2, rounded up.
"""

import keras
import tensorflow as tf

FEW, SMALL = 4, 5
SAME = {"strides": [1, 2, 2, 1], "padding": "SAME"}


@keras.saving.register_keras_serializable("keras_genai")
class Conv2D(keras.layers.Conv2D):
    """`keras.layers.Conv2D`; of images and to small outputs, its gradients are faster on a CPU.

    Arguments, variables and results are those of the Keras layer (results to float rounding).
    """

    def convolution_op(self, inputs, kernel):
        *size, channels = inputs.shape[1:]
        if not (_halves(self) and (_is_small(size) or _is_image(size, channels))):
            return super().convolution_op(inputs, kernel)
        return halved(inputs, tf.convert_to_tensor(kernel))


@keras.saving.register_keras_serializable("keras_genai")
class Conv2DTranspose(keras.layers.Conv2DTranspose):
    """`keras.layers.Conv2DTranspose`; faster on a CPU to images, and in training of small inputs.

    Arguments, variables and results are those of the Keras layer (results to float rounding).
    """

    def call(self, inputs):
        size = self.compute_output_shape(inputs.shape)[1:3]
        if not (_halves(self) and (_is_small(size) or _is_image(size, self.filters))):
            return super().call(inputs)
        image = doubled(inputs, tf.convert_to_tensor(self.kernel), size)
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
        and getattr(layer, "output_padding", None) in (None, 1)
    )


def _is_image(size, channels):
    """Whether an image of few channels has even sides."""
    return channels <= FEW and None not in size and not any(side % 2 for side in size)


def _is_small(size):
    """Whether an image has features at few places."""
    return None not in size and max(size) <= 2 * SMALL


def halved(image, kernel):
    """Convolves (B, H, W, C) with a kernel (4, 4, C, D) in steps of 2: (B, h, w, D)."""
    size = image.shape[1:3]

    @tf.custom_gradient
    def convolved(image, kernel):
        def gradient(dy):
            return doubled(dy, kernel, size), _kernel_gradient(image, kernel, dy)

        return tf.nn.conv2d(image, kernel, **SAME), gradient

    return convolved(image, kernel)


def doubled(features, kernel, size):
    """The transpose of `halved`: features (B, h, w, D), kernel (4, 4, C, D) to (B, *size, C)."""

    @tf.custom_gradient
    def transposed(features, kernel):
        def gradient(dy):
            return halved(dy, kernel), _kernel_gradient(dy, kernel, features)

        if _is_image(size, kernel.shape[2]):
            return _from_phases(features, kernel), gradient
        shape = tf.stack([tf.shape(features)[0], *size, kernel.shape[2]])
        return tf.raw_ops.Conv2DBackpropInput(
            input_sizes=shape, filter=kernel, out_backprop=features, **SAME
        ), gradient

    return transposed(features, kernel)


def _from_phases(features, kernel):
    channels, depth = kernel.shape[2:]
    # Kernel rows 0 and 1 make the even and odd rows of the image from the later of two rows of
    # features, 2 and 3 from the earlier one; columns likewise.
    phases = tf.reshape(kernel, (2, 2, 2, 2, channels, depth))[::-1, :, ::-1]
    phases = tf.reshape(tf.transpose(phases, (0, 2, 5, 1, 3, 4)), (2, 2, depth, 4 * channels))
    y = tf.nn.conv2d(features, phases, 1, [[0, 0], [1, 1], [1, 1], [0, 0]])  # B h+1 w+1 4C
    return tf.nn.depth_to_space(y, 2)[:, 1:-1, 1:-1]


def _kernel_gradient(image, kernel, features):
    """By the kernel (4, 4, C, D), from an image (B, H, W, C) and a gradient (B, h, w, D)."""
    size = image.shape[1:3]
    if not _is_small(size) or tf.config.list_physical_devices("GPU"):
        return tf.raw_ops.Conv2DBackpropFilter(
            input=image, filter_sizes=kernel.shape, out_backprop=features, **SAME
        )
    # Each channel is an image whose channels are the batch; the features are a kernel with gaps.
    image = tf.transpose(image, (3, 1, 2, 0))  # C H W B
    features = tf.transpose(features, (1, 2, 0, 3))  # h w B D
    padding = [(1, 1 + side % 2) for side in size]
    y = tf.nn.conv2d(image, features, 1, [(0, 0), *padding, (0, 0)], dilations=2)  # C 4 4 D
    return tf.transpose(y, (1, 2, 0, 3))
