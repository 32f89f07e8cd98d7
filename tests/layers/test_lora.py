"""LoRA in a dense layer: its formula, its beginning, what a file keeps of it."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import LoRADense, lora

X = np.random.default_rng(0).normal(size=(2, 3, 6)).astype("float32")


def made(rank=2, **options):
    """A layer of 6 inputs and 4 outputs whose weights are all drawn."""
    layer = LoRADense(4, rank, **options)
    layer.build((None, 6))
    for i, weight in enumerate(layer.weights):
        weight.assign(np.random.default_rng(i).normal(size=weight.shape))
    return layer


def test_the_output_is_that_of_the_formula():
    layer = made(alpha=6.0, activation="tanh")
    kernel, bias, a, b = (w.numpy().astype("float64") for w in layer.weights)
    expected = np.tanh(X @ kernel + 6.0 / 2 * (X @ a) @ b + bias)
    np.testing.assert_allclose(layer(X), expected, atol=1e-5)
    plain = keras.layers.Dense(4, activation="tanh")
    plain.build((None, 6))
    plain.set_weights([layer.merged_kernel(), layer.bias.numpy()])
    np.testing.assert_allclose(plain(X), expected, atol=1e-5)
    assert made(use_bias=False)(X).shape == (2, 3, 4)
    with pytest.raises(ValueError, match="at least 1.*Received: rank=0"):
        LoRADense(4, 0)


def test_it_begins_as_the_dense_layer_of_the_same_kernel():
    layer = LoRADense(4, 2)
    layer.build((None, 1000))
    assert np.abs(np.std(layer.lora_a) * 1000**0.5 - 1) < 0.1 and not np.any(layer.lora_b)
    plain = keras.layers.Dense(4)
    plain.build((None, 1000))
    plain.set_weights(layer.get_weights()[:2])
    x = tf.random.stateless_normal((5, 1000), (0, 0))
    np.testing.assert_array_equal(layer(x), plain(x))


def test_a_file_keeps_all_four_arrays(tmp_path):
    layer = made(alpha=6.0)
    keras.Sequential([keras.Input((3, 6)), layer]).save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras").layers[-1]
    assert (again.rank, again.alpha) == (2, 6.0)
    for mine, theirs in zip(again.weights, layer.weights, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_it_computes_in_the_precision_of_the_policy():
    layer = made(dtype="mixed_bfloat16")
    assert layer(X).dtype == "bfloat16" and layer.lora_a.dtype == "float32"


class OneBlock(keras.layers.Layer):
    """A dense layer, with LoRA or without."""

    def __init__(self, lora_rank):
        super().__init__()
        self.dense = lora.dense(6, lora_rank)

    def call(self, x):
        return self.dense(x)


@pytest.mark.parametrize(
    ("trainable_blocks", "lora_rank", "ranks", "trained"),
    [
        (None, 0, [0, 0, 0], "embed block0 block1 block2 norm head"),
        (None, 2, [2, 2, 2], "lora0 lora1 lora2"),
        (0, 2, [2, 2, 2], "lora0 lora1 lora2"),
        (1, 0, [0, 0, 0], "block2 norm head"),
        (2, 2, [2, 0, 0], "lora0 block1 block2 norm head"),
        (3, 0, [0, 0, 0], "block0 block1 block2 norm head"),
    ],
)
def test_what_is_frozen_and_which_blocks_have_lora(trainable_blocks, lora_rank, ranks, trained):
    tuning = trainable_blocks, lora_rank
    assert lora.ranks(3, *tuning) == ranks
    embed, norm, head = (keras.layers.Dense(6), keras.layers.BatchNormalization(),
                         keras.layers.Dense(2))  # fmt: skip
    blocks = [OneBlock(rank) for rank in ranks]
    network = keras.Sequential([keras.Input((6,)), embed, *blocks, norm, head])
    parts = {"embed": embed.weights, "norm": [norm.gamma, norm.beta], "head": head.weights}
    for i, block in enumerate(blocks):
        parts[f"block{i}"], parts[f"lora{i}"] = block.weights, block.weights[2:]
    expected = {id(v) for name in trained.split() for v in parts[name]}
    whole = sum(np.size(v) for v in network.trainable_weights)
    frozen = lora.freeze(network, OneBlock, *tuning)
    assert {id(v) for v in network.trainable_weights} == expected
    assert frozen == whole - sum(map(np.size, network.trainable_weights))
    assert lora.freeze(network, OneBlock, *tuning) == 0, "what is frozen already is not counted"
