"""Autoencoders: their losses, their noise, and which layers move when."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import eager, images, tiny

from keras_genai import metrics
from keras_genai.data.images import to_model
from keras_genai.models.vaes import autoencoder, denoising_autoencoder, stacked_autoencoder

N, RATE, SHAPE = 12, 0.01, (16, 16, 1)
BATCH = {"image": tf.constant(images(N))}
X = images(N) / np.float32(127.5) - 1


def built(name, rate=None, **overrides):
    """A model of 16x16 pixels; with a rate one that goes down plain gradients."""
    model = eager(name, image_shape=SHAPE, **overrides)
    if rate is not None:
        model.compile(keras.optimizers.SGD(rate), run_eagerly=True)
        model.optimizer.build(model.trainable_variables)
    return model


def numpy_of(variables):
    return [variable.numpy() for variable in variables]


def restore(model, arrays):
    for variable, array in zip(model.variables, arrays, strict=True):
        variable.assign(array)


def assert_moved_down(before, model, gradients):
    """Each variable by the rate times its gradient."""
    for old, variable, gradient in zip(before, model.trainable_variables, gradients, strict=True):
        step = RATE * gradient.numpy()
        assert np.abs(step).max() > 0, variable.path
        tolerance = 0.01 * np.abs(step).max() + 1e-7
        np.testing.assert_allclose(old - variable, step, 0, tolerance, err_msg=variable.path)


# Plain -------------------------------------------------------------------------------------------


def test_the_squared_error_is_that_of_an_image():
    x, y = np.random.default_rng(0).normal(size=(2, 3, 4, 5, 2))
    expected = np.mean([np.sum((a - b) ** 2) for a, b in zip(x, y, strict=True)])
    assert autoencoder.squared_error(x, y).numpy() == pytest.approx(expected)
    flat = stacked_autoencoder.squared_error(x.reshape(3, -1), y.reshape(3, -1))
    assert flat.numpy() == pytest.approx(expected)


def test_a_step_goes_down_the_gradient_of_the_error():
    model = built("autoencoder", RATE)
    before = numpy_of(model.trainable_variables)
    with tf.GradientTape() as tape:
        error = tf.reduce_sum((model.decoder(model.encoder(X)) - X) ** 2) / N
    gradients = tape.gradient(error, model.trainable_variables)
    logs = model.train_step(BATCH)
    assert_moved_down(before, model, gradients)
    assert float(logs["loss"]) == float(logs["reconstruction"]) == pytest.approx(float(error))


@pytest.mark.parametrize(
    "name", ["autoencoder", "denoising_autoencoder", "stacked_autoencoder", "vae_gan"]
)
def test_encode_decode_and_reconstruct_belong_together(name):
    model = tiny(name, image_shape=SHAPE)
    x = images(5)
    codes, made = model.encode(x), model.reconstruct(x)
    assert codes.shape == (5, 4) and codes.dtype == np.float32
    assert made.shape == (5, *SHAPE) and made.dtype == np.uint8
    for decoded in (model.decode(codes), model(to_model(x))):
        grey = np.clip((np.asarray(decoded) + 1) * 127.5, 0, 255)
        assert np.abs(np.round(grey) - made).max() <= 1
    if model.takes_images:
        np.testing.assert_array_equal(model.generate(x), made)


# Noise -------------------------------------------------------------------------------------------

GREY = tf.zeros((50, 20, 20, 3))
SEED = tf.constant([1, 2])


def damaged(kind, level, x=GREY, seed=SEED):
    model = tiny(
        "denoising_autoencoder", image_shape=tuple(x.shape[1:]), noise=kind, noise_level=level
    )
    return np.asarray(model.damaged(x, seed))


def test_gaussian_noise_has_its_level_as_the_share_of_the_range():
    noise = damaged("gaussian", 0.1)
    assert noise.std() == pytest.approx(2 * 0.1, rel=0.02) and abs(noise.mean()) < 0.005
    assert np.unique(noise[0]).size == noise[0].size, "each value has its own"
    white = damaged("gaussian", 0.1, GREY + 1.0)
    assert white.max() == 1 and np.mean(white == 1) == pytest.approx(0.5, abs=0.01)
    level = tf.constant(0.25)
    x, normal = np.float32([[[[0.0]]], [[[0.9]]]]), np.float32([[[[-1.0]]], [[[2.0]]]])
    got = denoising_autoencoder.add_gaussian(x, normal, level)
    np.testing.assert_allclose(np.ravel(got), [-0.5, 1.0])


@pytest.mark.parametrize("level", [0.2, 0.7])
def test_masked_pixels_are_black_in_all_channels(level):
    x = tf.random.stateless_uniform(GREY.shape, (0, 0), -0.9, 0.9)
    got = damaged("masking", level, x)
    black = (got == -1).all(-1)
    assert black.mean() == pytest.approx(level, abs=0.02)
    np.testing.assert_array_equal(got[~black], x.numpy()[~black])
    assert len(np.unique(black.reshape(50, -1), axis=0)) == 50, "each image has its own mask"


@pytest.mark.parametrize("level", [0.2, 1.0])
def test_salt_is_as_frequent_as_pepper(level):
    got = damaged("salt_and_pepper", level)
    for value in (-1, 1):
        assert (got == value).all(-1).mean() == pytest.approx(level / 2, abs=0.02)
    assert np.mean(got == 0) == pytest.approx(1 - level, abs=0.02)


@pytest.mark.parametrize("kind", denoising_autoencoder.KINDS)
def test_noise_is_new_each_step_and_fixed_in_validation(kind, monkeypatch):
    model = built("denoising_autoencoder", noise=kind, noise_level=0.3)
    first, again = (model.damaged(X, tf.constant([1, n])) for n in (2, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, model.damaged(X, tf.constant([1, 3])))
    seen = []
    damage = model.damage
    monkeypatch.setattr(model, "damage", lambda *args: seen.append(damage(*args)) or seen[-1])
    for step in (model.train_step, model.train_step, model.test_step, model.test_step):
        step(BATCH)
    assert not np.array_equal(seen[0], seen[1]) and not np.array_equal(seen[1], seen[2])
    np.testing.assert_array_equal(seen[2], seen[3])


def test_the_denoiser_learns_from_the_noisy_image_and_is_judged_by_the_clean_one():
    model = built("denoising_autoencoder", RATE, noise_level=0.3)
    start, before = numpy_of(model.variables), numpy_of(model.trainable_variables)
    logs = {key: float(value) for key, value in model.train_step(BATCH).items()}
    after = numpy_of(model.variables)
    restore(model, start)
    noisy = np.clip(X + 2 * 0.3 * model.normal(X.shape).numpy(), -1, 1)
    with tf.GradientTape() as tape:
        output = model.decoder(model.encoder(noisy))
        error = tf.reduce_sum((output - X) ** 2) / N
    gradients = tape.gradient(error, model.trainable_variables)
    restore(model, after)
    assert_moved_down(before, model, gradients)
    assert logs["loss"] == logs["reconstruction"] == pytest.approx(float(error), rel=1e-5)
    for key, x in (("psnr", output.numpy()), ("psnr_input", noisy)):
        expected = metrics.psnr((X + 1) / 2, np.clip((x + 1) / 2, 0, 1)).mean()
        assert logs[key] == pytest.approx(expected, abs=1e-3)


def test_psnr_of_equal_images_is_that_of_rounding():
    x = np.random.default_rng(0).uniform(size=(1, 200, 200, 1))
    rounding = metrics.psnr(x, np.round(255 * x) / 255)[0]
    equal = float(denoising_autoencoder.psnr(x, x))
    assert equal == pytest.approx(rounding, abs=0.1)
    assert equal == pytest.approx(10 * np.log10(12 * 255**2), abs=1e-3)


def test_psnr_is_that_of_the_picture():
    x, y = np.float32([[[[0.2]]]]), np.float32([[[[1.4]]]])
    assert float(denoising_autoencoder.psnr(x, y)) == pytest.approx(-20 * np.log10(0.4), rel=1e-5)


def test_noise_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="gaussian, masking.*Received: noise='fog'"):
        denoising_autoencoder.DenoisingAutoencoder(noise="fog")
    for level in (0.0, 1.1, float("nan")):
        with pytest.raises(ValueError, match="above 0 and is at most 1.*Received: noise_level="):
            denoising_autoencoder.DenoisingAutoencoder(noise_level=level)
    with pytest.raises(ValueError, match="below 1.*Received: noise_level=1.0"):
        tiny("stacked_autoencoder", noise_level=1.0)


@pytest.mark.parametrize("argument", ["num_layers", "stage_steps"])
def test_a_stack_without_layers_or_stages_is_refused(argument):
    with pytest.raises(ValueError, match=f"at least 1.*Received: .*{argument}=0"):
        tiny("stacked_autoencoder", **{argument: 0})


# Layer by layer ----------------------------------------------------------------------------------

STAGES = {"num_layers": 3, "hidden_units": 8, "latent_dim": 4, "stage_steps": 2}


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer(network, h):
    kernel, bias = numpy_of(network.weights)
    return h @ kernel + bias


def test_each_stage_has_the_loss_of_its_layers():
    model = built("stacked_autoencoder", **STAGES)
    rng = np.random.default_rng(0)
    lots = []

    def uniform(shape):
        lots.append(rng.uniform(size=shape).astype("float32"))
        return lots[-1]

    losses = model.stage_losses(X, uniform, training=False)
    assert [*losses] == ["layer_1", "layer_2", "layer_3", "fine_tuning"] == [*model.loss_names]
    h = pixels = (X.reshape(N, -1) + 1) / 2
    for i, (encoder, decoder) in enumerate(zip(model.encoders, model.decoders, strict=True)):
        squash = sigmoid if i < 2 else np.asarray  # the code is linear
        code = squash(layer(encoder, h * (lots[i] >= 0.25)))
        back = sigmoid if i else np.asarray  # and so are pixels
        error = ((back(layer(decoder, code)) - h) ** 2).sum(1).mean()
        assert float(losses[f"layer_{i + 1}"]) == pytest.approx(error, rel=1e-4)
        h = squash(layer(encoder, h))
    for decoder in model.decoders[:0:-1]:
        h = sigmoid(layer(decoder, h))
    h = layer(model.decoders[0], h)
    error = ((h - pixels) ** 2).sum(1).mean()
    assert float(losses["fine_tuning"]) == pytest.approx(error, rel=1e-4)


def test_a_stage_moves_its_layers_only_down_their_gradient():
    model = built("stacked_autoencoder", RATE, **STAGES)
    for step in range(8):
        stage = min(step // 2, 3)
        assert int(model.stage) == stage and (not model.unfinished) == (stage == 3)
        start, before = numpy_of(model.variables), numpy_of(model.trainable_variables)
        logs = model.train_step(BATCH)
        after = numpy_of(model.variables)
        restore(model, start)
        names = {f"encoder_{stage + 1}", f"decoder_{stage + 1}"}
        with tf.GradientTape() as tape:
            losses = model.stage_losses(X, model.uniform, training=True)
            loss = [*losses.values()][stage]
        gradients = tape.gradient(loss, model.trainable_variables)
        restore(model, after)
        for old, variable, gradient in zip(
            before, model.trainable_variables, gradients, strict=True
        ):
            moved = np.abs(variable.numpy() - old).max()
            if stage < 3 and variable.path.split("/")[-3] not in names:
                assert moved == 0, variable.path
            else:
                np.testing.assert_allclose(
                    old - variable, RATE * gradient, 1e-2, 1e-6, err_msg=variable.path
                )
                assert moved > 0, variable.path
        metric = model.losses_by_name["loss"]
        assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-4)
        metric.reset_state()


def test_layers_that_had_their_turn_stand_still_with_the_recipes_own_optimizer():
    """The velocities of their gradients are not 0 yet."""
    model = built("stacked_autoencoder", **{**STAGES, "stage_steps": 3})
    moved = []
    for _ in range(12):
        before = numpy_of(model.trainable_variables)
        model.train_step(BATCH)
        moved.append(
            {
                variable.path.split("/")[-3]
                for variable, old in zip(model.trainable_variables, before, strict=True)
                if np.any(variable.numpy() != old)
            }
        )
    stages = [{f"encoder_{i}", f"decoder_{i}"} for i in (1, 2, 3)]
    assert moved == [stage for stage in [*stages, set.union(*stages)] for _ in range(3)]


def test_a_run_continues_in_the_middle_of_a_stage(tmp_path):
    options = {"steps_per_epoch": 3, "batch_size": 8, "run_dir": False, "verbose": 0}
    model = eager("stacked_autoencoder", stage_steps=4)
    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and model.save(tmp_path / "half.keras")
    )
    expected = model.fit(images(), epochs=4, callbacks=save, **options).history
    loaded = keras.models.load_model(tmp_path / "half.keras")
    loaded.run_eagerly = True
    assert (int(loaded.steps_done), int(loaded.stage)) == (6, 1)
    history = loaded.fit(images(), epochs=2, **options).history
    assert {key: values[2:] for key, values in expected.items()} == history
    for mine, theirs in zip(loaded.variables, model.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=mine.path)


def test_published_weights_have_been_through_the_stages():
    model = built("stacked_autoencoder", **STAGES)
    model.entry = "stacked_autoencoder.blobs"
    model.fit(images(), epochs=1, steps_per_epoch=1, batch_size=8, run_dir=False, verbose=0)
    assert not model.unfinished and int(model.steps_done) == 3 * 2 + 1


def test_the_preview_shows_the_image_at_each_depth():
    model = built("stacked_autoencoder", **STAGES)
    views = model.view(X, SEED)
    assert len(views) == model.num_views == 4
    np.testing.assert_array_equal(views[0], X)
    np.testing.assert_array_equal(views[-1], model(X))
    h = sigmoid(layer(model.encoders[0], (X.reshape(N, -1) + 1) / 2))
    once = 2 * layer(model.decoders[0], h) - 1
    np.testing.assert_allclose(np.reshape(views[1], (N, -1)), once, atol=1e-5)
