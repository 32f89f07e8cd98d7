"""`fit`: budgets, run folders, validation data, what is written."""

import csv
import json
import os
import signal
import time

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import FEW, eager, images, text, tiny, training_data
from PIL import Image

from keras_genai import pictures, zoo
from keras_genai.models.gans.dcgan import DCGAN

QUIET = {"batch_size": 8, "verbose": 0}


def rows_of(folder):
    with open(folder / "history.csv", newline="") as file:
        return [*csv.DictReader(file)]


def test_minutes_stop_by_the_clock(tmp_path):
    model, again = eager(), eager()  # tracing a graph could take all the time there is
    start = time.monotonic()
    model.fit(images(4000), minutes=0.08, run_dir=tmp_path / "run", **QUIET)
    assert 4.5 < time.monotonic() - start < 30
    assert model.progress.step > 5
    assert rows_of(tmp_path / "run")[-1]["step"] == str(model.progress.step)
    # The clock of a continued run goes on: its time is spent.
    step, rows = model.progress.step, rows_of(tmp_path / "run")
    again.fit(images(4000), minutes=0.08, run_dir=tmp_path / "run", **QUIET)
    assert again.progress.step == step
    assert rows_of(tmp_path / "run") == rows


def test_an_epoch_that_the_clock_cuts_says_where(capsys):
    model = eager()
    model.fit(images(4000), minutes=0.02, batch_size=8, run_dir=False, verbose=2)
    said = f"Stopped by the clock after {model.progress.step} of the epoch's 500 steps"
    assert capsys.readouterr().out.splitlines()[-1] == said
    model.fit(images(16), epochs=1, run_dir=False, verbose=2)
    assert "by the clock" not in capsys.readouterr().out


def test_a_run_killed_in_its_first_save_starts_again(tmp_path):
    (tmp_path / "samples").mkdir()
    (tmp_path / ".checkpoint.0123abcd.tmp.keras").write_bytes(b"half")
    eager().fit(images(), epochs=1, run_dir=tmp_path, **QUIET)
    assert zoo.load(tmp_path).progress.epoch == 1 and not [*tmp_path.glob(".*")]


def test_a_cut_off_epoch_is_one_training_to_the_callbacks(tmp_path):
    class CutOff(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 8:
                os.kill(os.getpid(), signal.SIGINT)

    calls = []
    count = keras.callbacks.LambdaCallback(
        on_train_begin=lambda logs: calls.append("begin"),
        on_train_end=lambda logs: calls.append("end"),
    )
    options = {"run_dir": tmp_path / "run", "batch_size": 4, "verbose": 0}
    with pytest.raises(KeyboardInterrupt):
        eager().fit(images(), epochs=3, callbacks=CutOff(), **options)
    log = keras.callbacks.CSVLogger(tmp_path / "log.csv")
    history = eager().fit(images(), epochs=3, callbacks=[count, log], **options)
    assert calls == ["begin", "end"]
    assert history.epoch == [0, 1, 2] and len(history.history["loss"]) == 3
    assert len((tmp_path / "log.csv").read_text().splitlines()) == 4
    # Asked for fewer epochs than were begun, it trains none.
    model = eager()
    model.fit(images(), epochs=2, **options)
    assert model.progress.epoch == 3


def test_a_model_compiled_anew_trains_and_continues(tmp_path):
    def model():
        made = eager("vae", data=images())
        made.compile(keras.optimizers.SGD(1e-4, momentum=0.9), jit_compile=False)
        return made

    model().fit(images(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    continued = model()
    continued.fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
    assert continued.progress.epoch == 2
    with pytest.raises(ValueError, match=r"another optimizer.*Received: "):
        eager("vae").fit(images(), epochs=3, run_dir=tmp_path / "run", **QUIET)


def test_new_runs_get_numbered_folders(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path))
    for number in ("001", "002"):
        model = eager()
        model.fit(images(), epochs=1, **QUIET)
        assert model.run_dir == tmp_path / "gan" / number
        assert (model.run_dir / "config.json").exists()


def test_run_dir_false_writes_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path / "runs"))
    eager().fit(images(), epochs=1, run_dir=False, **QUIET)
    assert [*tmp_path.iterdir()] == []


def test_run_folder_says_what_the_run_is_and_did(tmp_path):
    folder = tmp_path / "run"
    eager().fit(images(), epochs=2, run_dir=folder, **QUIET)
    config = json.loads((folder / "config.json").read_text())
    assert config["recipe"] == "gan" and config["seed"] == 0
    assert config["settled"] == {"image_shape": [16, 16, 1]}
    assert config["batch_size"] == 8 and config["steps_per_epoch"] == 6 and config["exact"]
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert [row["step"] for row in rows] == ["6", "12"]
    assert {"seconds", "d_loss", "g_loss", "loss"} <= set(rows[0])
    names = sorted(path.name for path in (folder / "samples").iterdir())
    assert names == ["epoch_0000.png", "epoch_0001.png", "epoch_0002.png"]
    sheet = np.asarray(Image.open(folder / "samples" / "epoch_0002.png"))
    columns = 5 * (16 + 2) + 2
    assert sheet.shape == (columns * -(-320 // columns),) * 2 and sheet.std() > 0
    assert Image.open(folder / "samples.gif").n_frames >= 2
    assert Image.open(folder / "loss.png").size == (600, 400)
    assert not [path for path in folder.rglob("*") if ".tmp" in path.name]


def test_a_finished_run_is_left_as_it_is(tmp_path):
    eager().fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
    before = (tmp_path / "run" / "history.csv").read_bytes()
    model = eager()
    model.fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
    assert model.progress.epoch == 2
    assert (tmp_path / "run" / "history.csv").read_bytes() == before


def test_a_continued_run_takes_the_seed_that_was_drawn(tmp_path):
    first, second = eager(seed=None), eager(seed=None)
    assert first.seed != second.seed
    first.fit(images(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    second.fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
    assert second.seed == first.seed
    first.fit(images(), epochs=1, run_dir=False, **QUIET)
    for mine, theirs in zip(first.variables, second.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_a_folder_with_other_things_or_another_run_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ValueError, match=r"files that are not a run's.*Received: .*notes.txt"):
        eager().fit(images(), epochs=1, run_dir=tmp_path, **QUIET)
    eager().fit(images(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    kept = (tmp_path / "run" / "checkpoint.keras").read_bytes()
    others = [
        (eager(latent_dim=9), images(), "latent_dim"),
        (eager(seed=1), images(), "seed"),
        (eager(), images(seed=1), "data_fingerprint"),
        (eager("vae"), images(), "recipe"),
    ]
    for model, data, difference in others:
        with pytest.raises(ValueError, match=rf"(?s)another run.*{difference}: .*Received: "):
            model.fit(data, epochs=2, run_dir=tmp_path / "run", **QUIET)
        assert model.progress.step == 0
    assert (tmp_path / "run" / "checkpoint.keras").read_bytes() == kept


def test_a_run_goes_on_where_its_data_have_moved(tmp_path):
    run, path = tmp_path / "run", tmp_path / "blobs.npy"
    np.save(path, images())
    eager().fit(path, epochs=1, run_dir=run, **QUIET)
    assert json.loads((run / "config.json").read_text())["data_path"] == str(path)
    (tmp_path / "elsewhere").mkdir()
    path = path.rename(tmp_path / "elsewhere" / path.name)
    model = eager()
    model.fit(path, epochs=2, run_dir=run, **QUIET)
    assert model.progress.epoch == 2


def test_validation_data_in_all_forms():
    model = eager("vae")
    stream = tf.data.Dataset.from_tensor_slices(images(10)).batch(4)
    for validation in (images(10), (images(10), np.zeros(10, "int32")), stream):
        history = model.fit(
            images(), epochs=1, run_dir=False, validation_data=validation, **QUIET
        ).history
        assert np.isfinite(history["val_loss"]).all()


def test_given_validation_data_leave_all_of_x_for_training():
    model = eager("vae")
    options = {"validation_split": 0.5, "validation_data": images(8), "run_dir": False}
    model.fit(images(), epochs=1, **options, **QUIET)
    assert model.progress.step == len(images()) // 8


def test_evaluate_takes_what_fit_takes():
    model = eager("vae", data=images())
    x, options = images(16), {"batch_size": 8, "verbose": 0}
    expected = model.evaluate(x, **options)
    stream = tf.data.Dataset.from_tensor_slices({"image": x / np.float32(255)}).batch(8)
    same = [
        model.evaluate(stream, verbose=0),
        model.evaluate(tf.data.Dataset.from_tensor_slices(x).batch(8), verbose=0),
        model.evaluate(x / 127.5 - 1, value_range=(-1, 1), **options),
    ]
    for losses in same:
        np.testing.assert_allclose(losses, expected, rtol=1e-6)


def test_odd_arguments_are_refused_or_understood(tmp_path):
    model = eager(latent_dim=np.int64(5), seed=np.int64(3))
    model.fit(images(), epochs=np.int64(1), batch_size=np.int64(8), run_dir=tmp_path, verbose=0)
    assert model.arguments["latent_dim"] == 5
    for name, value in [("steps_per_epoch", 0), ("epochs", 1.5), ("batch_size", -1)]:
        with pytest.raises(
            ValueError, match=rf"`{name}` must be a whole.*Received: {name}={value}"
        ):
            eager().fit(images(), run_dir=False, **{"epochs": 1, name: value})
    with pytest.raises(ValueError, match=r"not weighed.*Received: a tuple of 3"):
        eager().fit(images(), validation_data=(images(), None, None), epochs=1, run_dir=False)
    with pytest.raises(ValueError, match=r"with arrays only.*Received: y="):
        eager().fit("digits", np.zeros(3, int), epochs=1, run_dir=False)
    with pytest.raises(ValueError, match=r"must be compiled.*Received: "):
        DCGAN().fit(images(), epochs=1, run_dir=False)


def test_validation_does_not_change_training():
    results = []
    for validation in (None, images(10)):
        model = eager("vae")
        options = {"epochs": 2, "run_dir": False, "validation_data": validation}
        results.append(model.fit(images(), **options, **QUIET).history["loss"])
    assert results[0] == results[1]


def test_a_stream_trains_and_an_endless_one_needs_steps():
    stream = tf.data.Dataset.from_tensor_slices(images()).batch(8)
    assert eager().fit(stream, epochs=2, run_dir=False, verbose=0).epoch == [0, 1]
    with pytest.raises(ValueError, match=r"steps_per_epoch=.*Received: "):
        eager().fit(stream.repeat(), epochs=1, run_dir=False)
    eager().fit(stream.repeat(), epochs=1, steps_per_epoch=3, run_dir=False, verbose=0)


def test_initial_epoch_and_shuffle_mean_what_they_mean_in_keras():
    model = eager()
    assert model.fit(images(), epochs=5, initial_epoch=3, run_dir=False, **QUIET).epoch == [3, 4]
    losses = [
        eager("vae").fit(images(), epochs=1, shuffle=shuffle, run_dir=False, **QUIET).history
        for shuffle in (True, False, False)
    ]
    assert losses[1] == losses[2] != losses[0]


def test_users_callbacks_are_added_to_the_recipes(tmp_path):
    seen = []
    mine = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: seen.append(epoch))
    eager().fit(images(), epochs=2, run_dir=tmp_path / "run", callbacks=mine, **QUIET)
    eager().fit(images(), epochs=1, run_dir=False, callbacks=[mine], **QUIET)
    assert seen == [0, 1, 0]
    assert (tmp_path / "run" / "history.csv").exists()


def test_folders_are_read_at_the_models_size(tmp_path):
    (tmp_path / "photos").mkdir()
    stripes = np.zeros((96, 96, 3), "uint8")
    stripes[:, ::2] = 255  # one pixel wide: reading at 64x64 and enlarging would blur them away
    for i in range(8):
        Image.fromarray(stripes).save(tmp_path / "photos" / f"{i}.png")
    model = eager(image_shape=(96, 96, 3))
    source = model.prepare(model.open_data(tmp_path / "photos").train)
    assert np.array_equal(source.arrays(1)["image"][0], stripes)
    model.fit(tmp_path / "photos", epochs=1, run_dir=tmp_path / "run", **QUIET)
    assert zoo.load(tmp_path / "run").generate(1).shape == (1, 96, 96, 3)
    assert eager(data=tmp_path / "photos").image_shape == (96, 96, 3)


def test_text_runs_write_text(tmp_path):
    tiny("char_rnn").fit(text(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    written = (tmp_path / "run" / "samples" / "epoch_0001.txt").read_text()
    assert len(written) > 300 and written.count("----") == 2
    one_line = tiny("char_rnn")
    one_line.fit(["ab" * 500], epochs=1, run_dir=False, **QUIET)
    assert set(one_line.generate(max_length=20)) <= {"a", "b"}


def test_grid_puts_images_row_by_row():
    three = np.stack([np.full((2, 3, 1), value, "uint8") for value in (10, 20, 30)])
    sheet = pictures.grid(three, columns=2, gap=1)
    assert sheet.shape == (7, 9, 1)
    assert sheet[1:3, 1:4].min() == sheet[1:3, 1:4].max() == 10
    assert sheet[1, 5] == 20 and sheet[4, 1] == 30
    assert sheet[4, 5] == 128 and sheet[0, 0] == 128


@pytest.mark.parametrize("name", [*FEW, "sngan", "wgan_gp"])
def test_float16_skips_steps_that_overflow_and_halves_the_scale(name, tmp_path, capsys):
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = tiny(name)
        model.settle(training_data(model.recipe))
    finally:
        keras.config.set_dtype_policy("float32")
    assert {layer.compute_dtype for layer in model.layers[0].layers} >= {"float16", "float32"}
    scaler, options = model.optimizer, {"epochs": 1, "run_dir": False, **QUIET}
    options["steps_per_epoch"] = 4
    before = [variable.numpy() for variable in model.trainable_variables]
    scaler.dynamic_scale.assign(2.0**120)
    model.fit(training_data(model.recipe), **options)
    networks = len(getattr(scaler.inner_optimizer, "optimizers", [0]))
    updates = 4 * (networks + getattr(model, "critic_steps", 1) - 1)
    assert float(scaler.dynamic_scale) == 2.0 ** (120 - updates)
    for variable, value in zip(model.trainable_variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    assert f"{updates} updates overflowed float16 and were skipped" in capsys.readouterr().out

    scaler.dynamic_scale.assign(1024.0)
    scaler.step_counter.assign(scaler.dynamic_growth_steps - 2)
    history = model.fit(training_data(model.recipe), **options).history
    assert float(scaler.dynamic_scale) == 2048.0
    assert np.isfinite(history["loss"]).all()
    assert any(
        (variable.numpy() != value).any()
        for variable, value in zip(model.trainable_variables, before, strict=True)
    )
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.preview(), model.preview())
    assert float(loaded.optimizer.dynamic_scale) == 2048.0


def test_fewer_images_than_the_recipes_batch_are_one_batch(tmp_path):
    model = eager()
    model.fit(images(20), epochs=2, verbose=0, run_dir=tmp_path)
    assert model.progress.step == 2
    assert json.loads((tmp_path / "config.json").read_text())["batch_size"] == 20
    eager().fit(images(20), epochs=3, verbose=0, run_dir=tmp_path)  # the same run goes on
    assert rows_of(tmp_path)[-1]["step"] == "3"
