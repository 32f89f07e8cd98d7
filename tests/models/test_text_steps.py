"""One step of each model of text against its loss, what it drops, and the recipes' optimizers."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import text

from keras_genai import zoo
from keras_genai.layers import Dropout
from keras_genai.models.text import bert

NAMES = ("char_rnn", "gpt", "bert")
B, T, V = 3, 12, 13
IDS = np.random.default_rng(0).integers(0, V, (B, T + 1)).astype("int32")
BATCH = {"text": tf.constant(IDS)}
RATE = 0.5


def made(name, rate, **overrides):
    model = zoo.get(name, data=text(), seed=0, **{**zoo.info(name).tiny, **overrides})
    model.compile(keras.optimizers.SGD(rate))
    for weight in model.weights:  # scales that are not 1, biases that are not 0, larger logits
        weight.assign(weight + 0.3 * np.random.default_rng(1).normal(size=weight.shape))
    return model


@pytest.fixture
def masked(monkeypatch):
    """What `corrupt` returned."""
    seen, corrupt = [], bert.corrupt
    monkeypatch.setattr(bert, "corrupt", lambda *a: seen.append(corrupt(*a)) or seen[-1])
    return seen


def loss_of(name, model, masked):
    """The formula of the docstring, and how many of the tokens are the likeliest ones."""
    if name == "bert":
        shown, chosen = masked[-1]
        at, tokens = np.where(chosen), IDS[:, :-1]
    else:
        shown, tokens, at = IDS[:, :-1], IDS[:, 1:], np.where(np.ones((B, T), bool))
    logits = model(shown)
    log_p = tf.gather_nd(tf.nn.log_softmax(logits), np.stack([*at, tokens[at]], 1))
    return -tf.reduce_mean(log_p), (logits.numpy().argmax(2) == tokens)[at].mean()


@pytest.mark.parametrize("name", NAMES)
def test_a_step_moves_down_the_gradient_of_the_formula(name, masked):
    model = made(name, RATE, dropout=0.0)
    before = [v.numpy() for v in model.trainable_variables]
    logged = model.train_step(BATCH)
    after = [v.numpy() for v in model.trainable_variables]
    for variable, value in zip(model.trainable_variables, before, strict=True):
        variable.assign(value)
    with tf.GradientTape() as tape:
        loss, accuracy = loss_of(name, model, masked)
    assert float(logged["loss"]) == pytest.approx(float(loss), rel=1e-5)
    gradients = [tf.convert_to_tensor(g) for g in tape.gradient(loss, model.trainable_variables)]
    for new, old, gradient in zip(after, before, gradients, strict=True):
        np.testing.assert_allclose(new, old - RATE * gradient, rtol=1e-4, atol=1e-5)
    for _ in range(2):
        model.reset_metrics()
        logged = model.test_step(BATCH)
        loss, accuracy = loss_of(name, model, masked)
        assert float(logged["loss"]) == pytest.approx(float(loss), rel=1e-5)
        assert float(logged.get("accuracy", accuracy)) == pytest.approx(accuracy)
    if name == "bert":
        drawn, *fixed = [chosen.numpy() for _, chosen in masked]
        np.testing.assert_array_equal(*fixed)
        model.train_step(BATCH)
        assert (masked[-1][1].numpy() != drawn).any(), "training masks other places each time"


# Of a block: the attention's shares (B, heads, T, T), and twice what is added (B, T, D).
BLOCK = [(B, 2, T, T), (B, T, 8), (B, T, 8)]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("char_rnn", [(B, T, 16)] * 2),
        ("gpt", [(B, T, 8), *BLOCK, *BLOCK]),
        ("bert", [(B, T, 8), *BLOCK, *BLOCK]),
    ],
)
def test_what_is_dropped_in_training_and_nothing_is_in_validation(name, expected, monkeypatch):
    dropped, call = [], Dropout.call

    def watched(layer, inputs, training=False):
        if training and layer.rate == 0.5:
            dropped.append(tuple(inputs.shape))
        return call(layer, inputs, training)

    monkeypatch.setattr(Dropout, "call", watched)
    model = made(name, 0.0, dropout=0.5, num_layers=2)
    for step, shapes in ((model.test_step, []), (model.train_step, expected)):
        dropped.clear()
        step(BATCH)
        assert dropped == shapes


@pytest.mark.parametrize(
    ("name", "rate", "decay_steps"), [("gpt", 7e-3, 4000), ("bert", 1e-3, 8000)]
)
def test_the_optimizers_of_the_transformers(name, rate, decay_steps):
    optimizer = zoo.get(name).optimizer
    assert (optimizer.global_clipnorm, optimizer.clipnorm) == (1.0, None)
    assert (optimizer.beta_1, optimizer.beta_2, optimizer.weight_decay) == (0.9, 0.99, 0.1)
    for step, share in ((0, 1 / 101), (100, 1.0), (decay_steps, 0.1), (9 * decay_steps, 0.1)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(share * rate)
