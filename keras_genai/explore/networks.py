"""What a network sees in an image: its feature maps, and the pixels that its outputs hang on."""

import os
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from keras_genai import pictures
from keras_genai._text import did_you_mean
from keras_genai.data.images import to_model
from keras_genai.explore.figures import (
    DPI,
    check_path,
    coloured,
    finish,
    sheet_figure,
    show,
    with_colours,
)
from keras_genai.explore.space import checked_images, model_of
from keras_genai.models.base import fold

MOST_MAPS = 64
MOST_IMAGES = 12
# Smilkov et al., section 3.1: noise of 10 to 20 % of the range of values is a good choice.
NOISE_LEVEL = 0.15


def feature_maps(
    model: Any,
    image: Any,
    layer: str | int = 0,
    *,
    network: str | None = None,
    label: int | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """What a convolutional layer makes of an image: each of its channels as a picture.

    Shown is the output of the layer itself. Where normalisation and activation are layers of their
    own, as in a DCGAN, it has not gone through them yet; name one of these to see what it gives.

    Args:
        model: A model of images, or what `zoo.load` takes.
        image: uint8 `(1, H, W[, C])`.
        layer: The number of a convolutional layer, from 0, or the name of any layer that gives
            maps (B, H, W, C).
        network: The name of a network that looks at images; by default "encoder", if there is one,
            or the first that there is.
        label: The class of the image, where the network asks for it.
        path: Ends in `.png`.

    Raises:
        ValueError: If there is no such network or layer, the network is untrained, since a
            published entry leaves it out, or the image does not fit.
    """
    check_path(path, ".png")
    model = model_of("image", model)
    net = _network(model, network)
    x = checked_images(model, image, at_most=1)
    found = _layer(net, layer)
    activations = keras.Model(net.inputs, found.output)(
        _inputs(model, net, to_model(x), None if label is None else [label])
    )
    maps = np.moveaxis(np.asarray(activations[0], "float32"), -1, 0)  # D h w
    shown = maps[:MOST_MAPS]
    cmap, low, high = _scale(shown)
    columns = int(np.ceil(np.sqrt(len(shown))))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(11.5, 0.8 + 7.5 * rows / columns), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 3))
    show(left, x[0])
    left.set_title("image", fontsize=10)
    show(right, pictures.grid(coloured(shown, cmap, low, high), columns, gap=1))
    height, width = maps.shape[1:]
    part = "" if len(shown) == len(maps) else f", the first {len(shown)}"
    right.set_title(
        f"{net.name}, {found.name}: {len(maps)} channels of {height}x{width}{part}", fontsize=10
    )
    figure.colorbar(ScalarMappable(Normalize(low, high), cmap), ax=right, shrink=0.8)
    return finish(figure, path)


def saliency(
    model: Any,
    images: Any,
    *,
    network: str | None = None,
    output: int | None = None,
    labels: Any = None,
    smooth: int = 0,
    seed: int = 0,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Which pixels a network's output hangs on: the size of its gradient at the image.

    Simonyan, Vedaldi, Zisserman, 2013, https://arxiv.org/abs/1312.6034, section 3: the map is
    max_c |dS / dx_c| over the colours c. S is a discriminator's score or, with `output`, a number
    of what the network gives, such as one latent of an encoder's mean. An encoder has no single
    score: by default the map is the root of the sum of squares over all its latents. Of an encoder
    that gives a vector at each place of a grid, as that of a VQ-VAE, it is the vector in the
    middle, and the map shows how far that one sees.

    Gradients say what would change the output, not what it is made of: where a ReLU is off or a
    sigmoid full they are small.

    Args:
        model: A model of images, or what `zoo.load` takes.
        images: uint8 `(N, H, W[, C])`, at most 12.
        network: The name of a network that looks at images; by default "encoder", if there is one,
            or the first that there is.
        output: Which of the network's numbers, of the first output if there are several. By default
            all of an encoder's (of a grid, those in the middle), and the first, the score, of any
            other network.
        labels: `(N,)`, where the network asks for classes.
        smooth: Average the gradients over as many copies of the images with noise, about 50; 0 for
            the images themselves. Smilkov et al., 2017, https://arxiv.org/abs/1706.03825.
        seed: Of that noise.
        path: Ends in `.png`.

    Raises:
        ValueError: If there is no such network or output, the network is untrained, since a
            published entry leaves it out, or the images do not fit.
    """
    check_path(path, ".png")
    model = model_of("image", model)
    net = _network(model, network)
    images = checked_images(model, images, at_most=MOST_IMAGES)
    x = to_model(images)
    others = _inputs(model, net, x, labels)[1:]
    outputs = _outputs_of(net, output)
    # Of an encoder the mean, not the variance.
    seeing = keras.Model(net.inputs, net.outputs[0])
    values = _numbers(seeing([x, *others])).numpy()  # N D
    maps = smooth_gradients(seeing, x, others, outputs, smooth, seed)
    largest = maps.max(axis=(1, 2), keepdims=True)
    shares = np.divide(maps, largest, where=largest > 0, out=np.zeros_like(maps))
    heat = coloured(shares, "inferno", 0.0, 1.0)
    faint = with_colours(images.mean(axis=-1, keepdims=True)) / 3.0
    over = np.minimum(faint + heat, 255.0).astype("uint8")
    single = len(outputs) == 1
    of = f"output {outputs[0]}" if single else f"all {len(outputs)} outputs"
    of += " in the middle" if output is None and len(seeing.output.shape) == 4 else ""
    return finish(
        sheet_figure(
            np.stack([with_colours(images), heat, over]),
            ["image", "gradient", "both"],
            [f"{value:.2f}" for value in values[:, outputs[0]]] if single else (),
            f"{net.name}: {of}, "
            f"{f'mean gradient at {smooth} noisy copies' if smooth else 'gradient'}",
            f"{'above: the output; ' if single else ''}each map in shares of its largest value",
        ),
        path,
    )


def smooth_gradients(
    net: keras.Model, x: Any, others: Any, outputs: Any, smooth: int, seed: int
) -> np.ndarray:
    """Saliency maps: of the images, or averaged over noisy copies of them.

    Args:
        net: A model that takes a list of inputs, the first of them images, and gives one tensor.
        x: Images `(N, H, W, C)` in [-1, 1].
        others: The network's other inputs.
        outputs: The numbers of the outputs that count.
        smooth: How many copies, or 0.
        seed: Of the noise.

    Returns:
        float32 `(N, H, W)`.
    """
    if not smooth:
        return _length(gradients(net, x, others, outputs))
    low, high = (f(x, axis=(1, 2, 3), keepdims=True) for f in (tf.reduce_min, tf.reduce_max))
    sigma = NOISE_LEVEL * (high - low)  # N 1 1 1
    total = np.zeros((len(outputs), *x.shape), "float32")
    for i in range(smooth):
        noise = tf.random.stateless_normal(x.shape, fold([seed, i], "draw"))
        total += gradients(net, x + sigma * noise, others, outputs)
    return _length(total / smooth)


def gradients(net: keras.Model, x: Any, others: Any, outputs: Any) -> np.ndarray:
    """The gradient at each image of each output, float32 `(outputs, N, H, W, C)`.

    Args:
        net: A model that takes a list of inputs, the first of them images, and gives one tensor.
        x: Images `(N, H, W, C)` in [-1, 1].
        others: The network's other inputs.
        outputs: The numbers of the outputs that count.
    """
    x = tf.convert_to_tensor(x)
    with tf.GradientTape(persistent=True, watch_accessed_variables=False) as tape:
        tape.watch(x)
        values = _numbers(net([x, *others], training=False))  # N D
        # An image has no part in another's outputs: the gradient of the sum has each one's own.
        sums = [tf.reduce_sum(values[:, number]) for number in outputs]
    return np.stack([tape.gradient(total, x).numpy() for total in sums])


def _length(gradient: np.ndarray) -> np.ndarray:
    """`(outputs, N, H, W, C)` to `(N, H, W)`: root of squares over outputs, maximum over C."""
    return np.sqrt((gradient**2).sum(axis=0)).max(axis=-1)


def _numbers(outputs: tf.Tensor) -> tf.Tensor:
    """Each image's outputs `(N, ...)` in a row, float32 `(N, D)`."""
    return tf.cast(tf.reshape(outputs, (tf.shape(outputs)[0], -1)), "float32")


def _outputs_of(net: keras.Model, output: int | None) -> list[int]:
    """Which numbers of the first output are looked at."""
    *grid, size = shape = net.outputs[0].shape[1:]
    count = int(np.prod(shape))
    if output is None and net.name != "encoder":
        return [0]
    if output is None:
        middle = np.ravel_multi_index([side // 2 for side in grid], grid) if grid else 0
        return [*range(middle * size, (middle + 1) * size)]
    if not isinstance(output, int | np.integer) or not 0 <= output < count:
        raise ValueError(
            f"`output` is the number of an output of {net.name}, 0 to {count - 1}. "
            f"Received: output={output!r}"
        )
    return [int(output)]


def _network(model: Any, name: str | None) -> keras.Model:
    """The network of this name, or the one to look at."""
    shape = tuple(model.image_shape)
    seeing = {
        net.name: net
        for net in model.layers
        if isinstance(net, keras.Model) and tuple(net.inputs[0].shape[1:]) == shape
    }
    chosen = min(seeing, key=lambda key: key != "encoder", default=None) if name is None else name
    if chosen is None or chosen not in seeing:
        hint = did_you_mean(name, seeing) if name else ""
        raise ValueError(
            f"{hint}Of this model these networks look at images: {', '.join(seeing) or 'none'}. "
            f"Received: network={name!r}"
        )
    if model.entry and chosen in model.training_only and not model.progress.step:
        raise ValueError(
            f"The {chosen} of {model.entry} is not published, and what stands in its place is "
            "untrained: look into a run folder, or train with fit() first. "
            f"Received: network={name!r}"
        )
    return seeing[chosen]


def _inputs(model: Any, net: keras.Model, x: tf.Tensor, labels: Any) -> list[tf.Tensor]:
    """The images, and their one-hot classes where the network has an input of that size."""
    if len(net.inputs) == 1:
        return [x]
    if labels is None:
        raise ValueError(
            f"The {net.name} of this model looks at an image and its class: pass `labels=`, or "
            "`label=` to `feature_maps`. Received: no label"
        )
    classes = tf.one_hot(model._classes(len(x), labels), model.num_classes)  # N K
    inputs = [x]
    for more in net.inputs[1:]:  # (N, K), or (N, H, W, K), where all pixels say the same
        middle = [1] * (len(more.shape) - 2)
        spread = tf.reshape(classes, [len(x), *middle, model.num_classes])
        inputs.append(tf.broadcast_to(spread, [len(x), *more.shape[1:]]))
    return inputs


def _layer(net: keras.Model, layer: str | int) -> Any:
    """A layer that gives maps, by name or, of the convolutional ones, by number."""
    giving = {
        found.name: found
        for found in net.layers
        if not isinstance(found, keras.layers.InputLayer) and len(_shape(found)) == 4
    }
    convolutions = [
        name
        for name, found in giving.items()
        if len(getattr(found, "kernel", np.zeros(0)).shape) == 4
    ]
    if isinstance(layer, str) and layer in giving:
        return giving[layer]
    if not isinstance(layer, str) and convolutions and layer in range(len(convolutions)):
        return giving[convolutions[layer]]
    hint = did_you_mean(layer, giving) if isinstance(layer, str) else ""
    raise ValueError(
        f"{hint}The convolutional layers of {net.name}, from number 0, are "
        f"{', '.join(convolutions) or 'none'}; other layers that give maps are "
        f"{', '.join(name for name in giving if name not in convolutions) or 'none'}. "
        f"Received: layer={layer!r}"
    )


def _shape(layer: Any) -> tuple[int, ...]:
    """The shape of what a layer gives; () of one that gives several tensors."""
    return getattr(layer.output, "shape", ())


def _scale(maps: np.ndarray) -> tuple[str, float, float]:
    """Colours for maps: from white both ways round zero, or upwards from it."""
    largest = float(np.abs(maps).max()) or 1.0
    return ("RdBu_r", -largest, largest) if maps.min() < 0 else ("viridis", 0.0, largest)
