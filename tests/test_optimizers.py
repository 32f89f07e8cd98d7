"""The fused Adam against Keras's own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, tiny

from keras_genai.optimizers import Adam, AdamW, StoppingAdam, adam, warm_cosine


def path(optimizer, jit_compile, name="variable"):
    """Three variables moved by twenty gradients; one of them is sparse, as of an embedding."""
    rng = np.random.default_rng(0)
    start = [rng.normal(size=shape).astype("float32") for shape in [(7, 3), (5,), (6, 2)]]
    variables = [keras.Variable(value, name=name) for value in start]
    optimizer.build(variables)

    @tf.function(jit_compile=jit_compile)
    def step(dense, other, rows):
        sparse = tf.IndexedSlices(rows, tf.constant([1, 4]), dense_shape=tf.constant([6, 2]))
        optimizer.apply_gradients(zip([dense, other, sparse], variables, strict=True))

    for _ in range(20):
        step(*(rng.normal(size=shape).astype("float32") for shape in [(7, 3), (5,), (2, 2)]))
    return [v.numpy() for v in [*variables, *optimizer.variables]]


@pytest.mark.parametrize("jit_compile", [False, True])
@pytest.mark.parametrize(
    "options", [{"beta_1": 0.5}, {"global_clipnorm": 1.0}, {"amsgrad": True}, {"weight_decay": 0.1}]
)
def test_takes_the_path_that_keras_takes(options, jit_compile):
    ours, theirs = (
        path(kind(1e-2, **options), jit_compile) for kind in (Adam, keras.optimizers.Adam)
    )
    for mine, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_stopping_takes_the_path_of_keras_along_half_a_cosine(jit_compile):
    schedule = keras.optimizers.schedules.CosineDecay(1e-2, 15)
    expected = path(keras.optimizers.Adam(schedule), jit_compile)[:3]
    optimizer = StoppingAdam(1.0, stop_after=15)
    optimizer.learning_rate = 1e-2  # as a callback does
    loaded = StoppingAdam.from_config(optimizer.get_config())
    assert loaded.stop_after == 15
    for mine, value in zip(path(loaded, jit_compile), expected, strict=False):
        np.testing.assert_allclose(mine, value, rtol=2e-5, atol=1e-6)
    for never, plain in zip(
        *(path(kind(1e-2), False) for kind in (StoppingAdam, Adam)), strict=True
    ):
        np.testing.assert_array_equal(never, plain)


@pytest.mark.parametrize("jit_compile", [False, True])
def test_decoupled_decay_is_that_of_keras_and_of_kernels_alone(jit_compile):
    options = {"weight_decay": 0.1, "global_clipnorm": 1.0}
    for name, decay in (("kernel", 0.1), ("bias", 0.0), ("embeddings", 0.0)):
        ours = path(AdamW(1e-2, **options), jit_compile, name)
        theirs = keras.optimizers.AdamW(1e-2, **{**options, "weight_decay": decay})
        for mine, expected in zip(ours, path(theirs, jit_compile), strict=True):
            np.testing.assert_allclose(mine, expected, rtol=2e-5, atol=1e-6)
    loaded = AdamW.from_config(AdamW(1e-2, **options).get_config())
    again = path(loaded, jit_compile, "embeddings")
    np.testing.assert_array_equal(np.concatenate([*map(np.ravel, again)]),
                                  np.concatenate([*map(np.ravel, ours)]))  # fmt: skip


def test_the_rate_warms_up_and_falls_to_a_tenth():
    schedule = warm_cosine(1e-2, 4, 24)
    for step in (0, 1, 3):
        assert float(schedule(step)) == pytest.approx(1e-2 * (step + 1) / 5)
    for step in (4, 7, 14, 24):
        share = (1 + np.cos(np.pi * (step - 4) / 20)) / 2
        assert float(schedule(step)) == pytest.approx(1e-2 * (0.1 + 0.9 * share))
    assert float(schedule(99)) == pytest.approx(1e-3)
    assert warm_cosine(1e-2, 4, 0) == 1e-2
    assert float(warm_cosine(1e-2, 0, 24)(0)) == pytest.approx(1e-2)
    with pytest.raises(ValueError, match=r"warm-up.*Received: warmup_steps=4, decay_steps=4"):
        warm_cosine(1e-2, 4, 4)


def test_dense_gradients_take_the_fused_kernel():
    variable = keras.Variable(np.ones(3, "float32"))
    optimizer = Adam()
    optimizer.build([variable])
    step = tf.function(lambda g: optimizer.apply_gradients([(g, variable)]))
    graph = step.get_concrete_function(tf.ones(3)).graph
    assert "ResourceApplyAdam" in {operation.type for operation in graph.get_operations()}


def test_the_learning_rate_falls_along_half_a_cosine_of_the_optimizers_own_steps():
    optimizer = adam(1e-3, 10)
    for step, rate in ((0, 1e-3), (5, 5e-4), (10, 0.0), (12, 0.0)):
        optimizer.iterations.assign(step)
        assert float(optimizer.learning_rate) == pytest.approx(rate, abs=1e-9)
    assert float(adam(1e-3, 0).learning_rate) == pytest.approx(1e-3)
    model = tiny("vae", decay_steps=6)
    rates = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda *_: seen.append(float(model.optimizer.learning_rate))
    )
    seen: list[float] = []
    model.fit(images(24), epochs=2, batch_size=8, callbacks=rates, run_dir=False, verbose=0)
    np.testing.assert_allclose(seen, [5e-4, 0.0], atol=1e-9)
