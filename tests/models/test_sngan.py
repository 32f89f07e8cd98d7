"""What is special to the SNGAN: hinges, normalised layers, several steps of D, projection."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, labelled, tiny

from keras_genai import zoo
from keras_genai.models.base import per_network, shares
from keras_genai.models.gans import sngan

X = images(12, (8, 8, 1))
PROJECTION = {"projection": True, "num_classes": 3}


def small(g_rate=0.0, d_rate=0.0, shape=(8, 8, 1), **overrides):
    """A tiny model of `shape` with plain gradient descent."""
    model = tiny("sngan", image_shape=shape, **overrides)
    optimizers = {"generator": g_rate, "discriminator": d_rate}
    model.compile(per_network(**{k: keras.optimizers.SGD(v) for k, v in optimizers.items()}))
    model.optimizer.build(model.trainable_variables)
    return model


def weights(network):
    return [variable.numpy() for variable in network.trainable_variables]


def test_losses_are_hinges():
    real = np.array([[2.0], [-1.0], [0.5]], "float32")
    fake = np.array([[-3.0], [0.0], [4.0]], "float32")
    # max(0, 1 - real) is 0, 2, 1/2; max(0, 1 + fake) is 0, 1, 5.
    np.testing.assert_allclose(sngan.discriminator_loss(real, fake), 2.5 / 3 + 2.0, rtol=1e-6)
    np.testing.assert_allclose(sngan.generator_loss(fake), -1 / 3, rtol=1e-6)


def test_every_layer_of_the_discriminator_has_spectral_norm_1():
    model = small(d_rate=0.1, **PROJECTION)
    layers = [layer for layer in model.discriminator.layers if layer.trainable_variables]
    assert len(layers) == 3 * 2 + 2
    model.train_step({"image": tf.constant(X), "label": tf.zeros(len(X), "int32")})
    step = tf.function(lambda *parts: model.discriminator(parts, training=True))
    for _ in range(200):
        step(tf.zeros((1, 8, 8, 1)), tf.zeros((1, 3)))
    for layer in layers:
        kernel = layer.normalized(training=False).numpy()
        values = np.linalg.svd(kernel.reshape(-1, kernel.shape[-1]), compute_uv=False)
        np.testing.assert_allclose(values[0], 1.0, rtol=1e-3)


def test_vectors_move_once_in_each_step_of_the_discriminator_only():
    model = small(g_rate=0.1, critic_steps=2)
    vectors = [layer.u for layer in model.discriminator.layers if layer.trainable_variables]
    start = [u.numpy() for u in vectors]
    for _ in range(2):
        model.discriminator([tf.zeros((1, 8, 8, 1))], training=True)
    expected = [u.numpy() for u in vectors]
    for u, value in zip(vectors, start, strict=True):
        u.assign(value)
    model.train_step({"image": tf.constant(X)})
    model.test_step({"image": tf.constant(X)})
    for u, value in zip(vectors, expected, strict=True):
        np.testing.assert_allclose(u, value, rtol=1e-5, atol=1e-6)


def test_a_step_of_several_updates_reports_the_means_of_its_formulas():
    count = 3
    model = small(critic_steps=count, ema_decay=0.0)
    x_real = tf.cast(X, "float32") / 127.5 - 1.0
    seed = model.seed_generator.state.numpy().astype("int32")
    z, z_next = (tf.random.stateless_normal((n, 8), seed + [0, i]) for i, n in
                 enumerate((12, 12 // count)))  # fmt: skip
    d_losses = []
    vectors = [layer.u for layer in model.discriminator.layers if layer.trainable_variables]
    start = [u.numpy() for u in vectors]
    x_fake = model.generator([z], training=True)
    for pair in zip(tf.split(x_real, count), tf.split(x_fake, count), strict=True):
        scores = model.discriminator([tf.concat(pair, 0)], training=True)
        d_losses.append(sngan.discriminator_loss(*tf.split(scores, 2)))
    x_fake = model.generator([z_next], training=True)
    g_loss = sngan.generator_loss(model.discriminator([x_fake]))
    for u, value in zip(vectors, start, strict=True):
        u.assign(value)
    logs = model.train_step({"image": tf.constant(X)})
    np.testing.assert_allclose(logs["d_loss"], np.mean(d_losses), rtol=1e-5)
    np.testing.assert_allclose(logs["g_loss"], g_loss, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("batch_size", "count", "expected"),
    [(6, 1, [[0, 1, 2, 3, 4, 5]]), (6, 3, [[0, 1], [2, 3], [4, 5]]), (5, 2, [[0, 1, 2], [3, 4, 0]]),
     (1, 3, [[0], [0], [0]])],
)  # fmt: skip
def test_a_batch_is_shared_evenly(batch_size, count, expected):
    assert [rows.numpy().tolist() for rows in shares(batch_size, count)] == expected


@pytest.mark.parametrize(("shape", "count"), [((28, 28, 1), 2), ((32, 32, 3), 2), ((64, 64, 3), 3)])
def test_sizes_and_colours(shape, count):
    assert sngan.halvings(shape) == count
    model = tiny("sngan", image_shape=shape)
    z = tf.zeros((2, model.latent_dim))
    assert model(z).shape == (2, *shape)
    assert model.discriminator([tf.zeros((2, *shape))]).shape == (2, 1)


def test_projection_is_equation_3():
    """D(x, y) - D(x, y') = <row y - row y', phi(x)>, and the classes' part of D is linear in y."""
    model = small(**PROJECTION)
    x = tf.cast(X[:2], "float32") / 127.5 - 1.0
    network = model.discriminator
    (dot,) = (layer for layer in network.layers if isinstance(layer, keras.layers.Dot))
    row, phi = dot.input
    inner = keras.Model(network.inputs, [row, phi])
    (embedding,) = (
        layer for layer in network.layers if layer.weights and layer.output.shape == row.shape
    )
    table = embedding.normalized(training=False).numpy()  # K D
    _, features = inner([x, tf.zeros((2, 3))])
    unconditional = network([x, tf.zeros((2, 3))]).numpy()
    for k in range(3):
        classes = tf.one_hot([k, k], 3)
        expected = unconditional + (features.numpy() @ table[k])[:, None]
        np.testing.assert_allclose(network([x, classes]), expected, rtol=1e-4, atol=1e-5)


def test_projection_takes_labels(tmp_path):
    model = tiny("sngan", projection=True)
    model.run_eagerly = True  # quicker for a single step
    model.fit(labelled(shape=(8, 8, 1)), epochs=1, steps_per_epoch=1, run_dir=False, verbose=0)
    assert model.num_classes == 3 and model.takes_labels
    first, second = (model.generate(4, labels=k, seed=1) for k in (0, 1))
    assert first.shape == (4, 8, 8, 1) and not np.array_equal(first, second)
    model.save(tmp_path / "model.keras")
    loaded = zoo.load(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.generate(4, labels=1, seed=1), second)
    assert model.preview().shape == (15, 8, 8, 1)
    for k, image in enumerate(model.between(0, 1, steps=2, seed=1)):
        expected = model.generate(1, labels=k, seed=1)[0]
        np.testing.assert_allclose(image.astype(int), expected, atol=1)


def test_a_class_scales_and_shifts_what_is_normalised():
    rng = np.random.default_rng(0)
    x, one_hot = keras.Input((2, 2, 3)), keras.Input((2,))
    network = keras.Model([x, one_hot], sngan._normalized(x, [one_hot]))
    scale, shift = (layer for layer in network.layers if isinstance(layer, keras.layers.Dense))
    for layer in (scale, shift):
        layer.kernel.assign(rng.normal(size=(2, 3)))
    images = rng.normal(size=(4, 2, 2, 3)).astype("float32")
    k = np.array([0, 1, 1, 0])
    # In use the averages are still 0 and 1; Keras adds 1e-3 to the variance.
    expected = images / np.sqrt(1.001) * (1 + scale.kernel.numpy()[k][:, None, None])
    expected = np.maximum(expected + shift.kernel.numpy()[k][:, None, None], 0)
    np.testing.assert_allclose(network([images, np.eye(2)[k]]), expected, rtol=1e-4, atol=1e-5)


def test_classes_without_projection_are_refused():
    with pytest.raises(ValueError, match=r"projection=True.*Received: num_classes=3"):
        zoo.get("sngan", num_classes=3)
