"""What is wrong with data or arguments is refused by `fit`, in words that help.

Here each fault goes through `fit`; what every kind of data refuses is tested in `tests/data`.
"""

import logging
import os
import subprocess
import sys

import contract_data
import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images
from PIL import Image, ImageFile

from keras_genai import cli, data
from keras_genai.data import DataError

QUIET = {"epochs": 1, "batch_size": 8, "run_dir": False, "verbose": 0}
X = images()
UNIT = (X / 255).astype("float32")


def tiny(name="gan", **overrides):
    return contract_data.tiny(name, **overrides)


def eager(name="gan", **overrides):
    """A model without graphs, which is quicker where a few steps will do."""
    model = tiny(name, **overrides)
    model.run_eagerly = True
    return model


def stream(x):
    return tf.data.Dataset.from_tensor_slices(x).batch(8)


def spoiled(value, index=5):
    x = UNIT.copy()
    x[index, 3, 3, 0] = value
    return x


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (UNIT * 255, r"in \[0, 1\].*value_range=\(0, 255\).*Received: values from 0 to 25\d"),
        (UNIT * 2 - 1, r"in \[0, 1\].*value_range=\(-1, 1\).*Received: values from -1 to"),
        (stream(UNIT * 255), r"in \[0, 1\].*value_range=\(0, 255\).*Received: values from"),
        (spoiled(np.nan), r"must be finite.*Received: NaN or Inf in 1 of 48 .*index 5$"),
        (spoiled(np.inf), r"must be finite.*Received: NaN or Inf in 1 of 48 .*index 5$"),
        (stream(spoiled(np.nan)), r"must be finite.*Received: NaN or Inf in 1 of 8 .*index 5$"),
        (np.repeat(X, 3, -1).transpose(0, 3, 1, 2), r"channels first: write `x = np\.transpose"),
        (
            X.reshape(48, -1),
            r"x\.reshape\(-1, height, width, .*Received: .*\(48, 256\), dtype",
        ),
        (tf.data.Dataset.from_tensor_slices(X), r"\.batch\(64\).*Received: elements of"),
        (stream({"picture": X}), r"key 'image'.*item\['picture'\].*Received: keys \['picture'\]"),
        (X[:0], r"There are no images.*Received: ndarray of shape \(0, 16, 16, 1\)"),
        (stream(X).take(0), r"The data set is empty\. Received: .*without a batch"),
        ("empty/", r"must hold files ending in \.png.*Received: no image in empty"),
        (X[:5], r"fewer items than one batch.*batch_size=5`\. Received: 5 items, batch_size=8"),
        (stream(X).repeat(), r"steps_per_epoch=\. Received: tf\.data"),
        ((image for image in X), r"read only once.*from_generator`\. Received: <generator"),
        ("dgits", r"Did you mean 'digits'\?.*Received: 'dgits'"),
    ],
)
def test_data_are_refused_before_the_first_step(x, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    model = tiny()
    with pytest.raises(ValueError, match=message):
        model.fit(x, **QUIET)
    assert model.progress.step == 0
    assert [entry.name for entry in tmp_path.iterdir()] == ["empty"]


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.arange(48) / 2, r"integers.*astype\('int32'\).*Received: labels of dtype float64"),
        (np.arange(48) - 1, r"from 0 on\. Received: label -1 at index 0"),
        (np.arange(47), r"one label an image\. Received: 48 images and 47 labels"),
    ],
)
def test_labels_are_refused_before_anything_is_built(y, message):
    model = tiny()
    with pytest.raises(DataError, match=message):
        model.fit(X, y, **QUIET)
    assert not model.built


@pytest.mark.parametrize("arguments", [{"epoch": 3}, {"batchsize": 8, "epoch": 3}])
def test_an_unknown_argument_is_refused_with_those_there_are(arguments):
    expected = rf"takes x, y, batch_size, epochs,.* run_dir\. Received: {', '.join(arguments)}$"
    with pytest.raises(TypeError, match=expected):
        tiny().fit(X, **arguments, **QUIET)


def test_all_good_forms_of_the_same_images_train_alike():
    shuffle = {"shuffle": False, "steps_per_epoch": 3}  # in the order of a stream
    forms = [X, X, UNIT, stream(X), stream({"image": X, "label": np.arange(48)})]
    first, *losses = [eager().fit(form, **shuffle, **QUIET).history for form in forms]
    assert losses == [first] * 4


def test_labels_are_left_aside_by_a_model_that_has_no_use_for_them(caplog, monkeypatch):
    logger = logging.getLogger("keras_genai")
    monkeypatch.setattr(logger, "propagate", True)
    without = eager().fit(X, **QUIET).history
    assert "labels" not in caplog.text
    with caplog.at_level(logging.DEBUG, "keras_genai"):
        assert eager().fit(X, np.arange(48), **QUIET).history == without
    assert "`gan` learns from images alone: labels are left aside" in caplog.text


def test_images_of_no_variation_are_mentioned_and_trained_on(capsys):
    eager().fit(np.full_like(X, 7), **QUIET)
    assert "equal to the constant 7: there is nothing to learn" in capsys.readouterr().out


def test_size_and_channels_are_adapted_in_so_many_words_or_refused(capsys):
    rgba = np.full((48, 20, 20, 4), 128, "uint8")
    model = eager(image_shape=(16, 16, 3))
    model.fit(rgba, **QUIET)
    lines = capsys.readouterr().out.splitlines()
    for change in ("laid over white", "resized from 20x20 to 16x16"):
        assert lines.count(f"array: images {change}.") == 1
    grey = tiny(image_shape=(16, 16, 1))
    with pytest.raises(DataError, match=r"image_shape=\(16, 16, 3\)` for the model, or grey data"):
        grey.fit(np.repeat(X, 3, -1), **QUIET)
    assert grey.progress.step == 0


def test_values_that_go_wrong_later_stop_training_before_the_step(tmp_path):
    bad = 8 * 3 + 2
    model = tiny(data=X)
    seen = []
    watch = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append([v.numpy() for v in model.weights])
    )
    with pytest.raises(DataError, match=r"must be finite.*NaN or Inf in 1 of 8 .*index 2$"):
        model.fit(stream(spoiled(np.nan, bad)), callbacks=watch, **QUIET)
    assert len(seen) == model.progress.step == 3
    for value, variable in zip(seen[-1], model.weights, strict=True):
        np.testing.assert_array_equal(value, variable)


def test_a_stream_that_can_be_read_once_ends_in_words_not_in_an_empty_epoch():
    once = iter(np.split(X, 6))
    dataset = tf.data.Dataset.from_generator(
        lambda: once, output_signature=tf.TensorSpec((None, 16, 16, 1), tf.uint8)
    )
    with pytest.raises(DataError, match=r"needs a function, not a running generator.*Received: "):
        tiny().fit(dataset, steps_per_epoch=4, **{**QUIET, "epochs": 2})


@pytest.mark.parametrize("name", ["dcgan", "gan", "vae", "wgan_gp"])
def test_small_batches_of_any_size_give_numbers(name):
    batches = stream(X[:11]).concatenate(stream(X[11:12]))  # of 8, 3 and 1
    model = tiny(name)
    history = model.fit(batches, validation_data=X[:9], **{**QUIET, "epochs": 2}).history
    assert model.progress.step == 6  # the small batches are trained on, too
    assert np.isfinite([*history.values()]).all()
    assert all(np.isfinite(variable.numpy()).all() for variable in model.weights)


def test_one_image_a_batch_is_mentioned_where_batches_are_normalised(capsys):
    for name, warned in (("dcgan", True), ("gan", False)):
        eager(name).fit(X, **{**QUIET, "batch_size": 1, "steps_per_epoch": 1})
        assert ("choose a larger batch_size" in capsys.readouterr().out) is warned
    # A single image is a batch of one, too.
    eager("dcgan").fit(X[:1], epochs=1, verbose=0, run_dir=False)
    assert "choose a larger batch_size" in capsys.readouterr().out


# Folders.


@pytest.fixture
def photos(tmp_path):
    """40 images in two classes, with names that files have in life."""
    for i in range(40):
        path = tmp_path / "photos" / ("a b", "ü")[i % 2] / f"{i:02d} é.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(X[i, ..., 0]).save(path)
    return tmp_path / "photos"


def damage(folder, *numbers):
    """Cuts files off behind their headers."""
    files = [sorted(folder.rglob("*.png"), key=lambda path: path.name)[n] for n in numbers]
    for file in files:
        file.write_bytes(file.read_bytes()[:-40])
    return files


def test_the_step_that_meets_a_damaged_image_names_it(photos):
    (bad,) = damage(photos, 9)
    model = tiny()
    with pytest.raises(DataError, match=r"An image cannot be read \(.*\)\. .*skip") as caught:
        model.fit(photos, shuffle=False, **QUIET)
    assert str(caught.value).endswith(f"Received: {bad}")
    assert model.progress.step == 3  # by class and name it is the image of number 24


def test_damaged_images_are_left_out_listed_and_do_not_make_another_run(photos, tmp_path, capsys):
    bad = damage(photos, 3, 9)
    (photos / "ü" / "99.png").write_bytes(b"")
    (photos / "only bad").mkdir()
    (photos / "only bad" / "1.jpg").write_bytes(b"no picture")
    run = {**QUIET, "run_dir": tmp_path / "run"}
    eager().fit(photos, on_bad="skip", **run)
    out = capsys.readouterr().out
    assert out.count("Warning: ") == 1
    assert "photos: 4 of 42 images cannot be read, left out: " in out
    for path in (*bad, photos / "ü" / "99.png", photos / "only bad" / "1.jpg"):
        assert str(path.relative_to(photos)) in out
    assert "38 items" in out
    kept = data.load(photos, on_bad="skip")
    assert kept.train.class_names == ["a b", "ü"]
    for path in (*bad, photos / "ü" / "99.png", photos / "only bad" / "1.jpg"):
        path.unlink()
    moved = data.load(photos)
    assert moved.train.fingerprint == kept.train.fingerprint
    model = eager()
    model.fit(photos, **{**run, "epochs": 2})
    assert model.progress.epoch == 2


def test_empty_files_and_broken_links_are_refused_before_training(photos):
    (photos / "a b" / "gone.png").symlink_to(photos / "nowhere.png")
    for i in range(14):
        (photos / "ü" / f"{i}.jpg").write_bytes(b"")
    expected = r"15 images cannot be read \(the file is empty or a broken link\).*and 5 more$"
    model = tiny()
    with pytest.raises(DataError, match=expected):
        model.fit(photos, **QUIET)
    assert not model.built


def test_nothing_is_left_of_a_folder_of_damaged_images(tmp_path):
    (tmp_path / "1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"An image cannot be read.*Received: .*1\.png$"):
        data.load(tmp_path, on_bad="skip")
    with pytest.raises(DataError, match=r"'raise' or 'skip'\. Received: on_bad='ignore'"):
        tiny().fit(tmp_path, on_bad="ignore", **QUIET)


def test_damaged_images_on_the_command_line(photos, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path / "runs"))
    (bad,) = damage(photos, 9)
    command = f"train gan --epochs 1 --batch_size 8 --hidden_units 32 --data {photos}".split()
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.startswith("keras-genai: error: An image cannot be read")
    assert error.endswith(f"Received: {bad}\n")
    assert cli.main([*command, "--on_bad", "skip"]) == 0
    assert "1 of 40 images cannot be read" in capsys.readouterr().out
    assert cli.main([*command, "--on_bad", "ignore"]) == 2
    assert "expected raise or skip. Received: 'ignore'" in capsys.readouterr().err


def test_a_large_folder_is_not_read_before_training(tmp_path, monkeypatch):
    root, counts = tmp_path / "many", {"opened": 0, "decoded": 0}
    Image.fromarray(X[0, ..., 0]).save(tmp_path / "one.png")
    for i in range(5000):
        folder = root / f"class {i % 10}"
        folder.mkdir(parents=True, exist_ok=True)
        os.link(tmp_path / "one.png", folder / f"{i}.png")

    def count(place, name, what):
        original = getattr(place, name)

        def counted(*args, **kwargs):
            counts[what] += 1
            return original(*args, **kwargs)

        monkeypatch.setattr(place, name, counted)

    count(Image, "open", "opened")
    count(ImageFile.ImageFile, "load_prepare", "decoded")  # Pillow calls it once a decoding
    at_start = []
    watch = keras.callbacks.LambdaCallback(on_train_begin=lambda logs: at_start.append({**counts}))
    options = {**QUIET, "validation_split": 0.1, "validation_freq": 9, "steps_per_epoch": 2}
    tiny().fit(root, callbacks=watch, **options)
    assert at_start == [{"opened": 100, "decoded": 0}]  # a hundred headers
    assert counts == {"opened": 100 + 2 * 8, "decoded": 2 * 8}


FAILS = """
import sys, threading
from keras_genai import zoo
from keras_genai.data import folder
read = folder.read_image
# It is still reading at the end.
folder.read_image = lambda *args: threading.Event().wait(0.05) or read(*args)
def fail(batch, logs): raise RuntimeError("on purpose")
import keras
fails = keras.callbacks.LambdaCallback(on_train_batch_end=fail)
model = zoo.get("gan", hidden_units=32)
model.fit(sys.argv[1], batch_size=2, epochs=1, run_dir=False, verbose=0, callbacks=[fails])
"""


def test_a_program_that_fails_while_a_folder_is_read_comes_to_its_end(photos):
    command = [sys.executable, "-c", FAILS, str(photos)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("RuntimeError: on purpose")


TEXT_MODELS = ("bert", "char_rnn", "gpt")


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_texts_that_do_not_fit_are_refused_before_training(name, tmp_path):
    (tmp_path / "latin1.txt").write_bytes("ab\xe9".encode("latin1"))
    for texts, message in (
        ([""], "at least one character.*Received: 1 empty"),
        (["a line"], "shorter than one window of 12 characters.*Received: 6 characters"),
        (tmp_path / "latin1.txt", "UTF-8.*Received: byte 0xe9 at offset 2"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(name).fit(texts, **QUIET)


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_prompts_and_options_that_do_not_fit_are_refused_before_the_loop(name):
    model = tiny(name, vocabulary="abc")
    for prompt, options, message in (
        ("aQbZ", {}, "without these characters.*Q.*Z"),
        ("", {}, "non-empty.*Received"),
        ("ab" * 5, {"max_length": 10}, "larger than 10.*Received: max_length=10"),
        ("a", {"temperature": -1}, "temperature.*Received"),
        ("a", {"temperature": float("nan")}, "temperature.*Received"),
        ("a", {"top_k": 0}, "top_k.*Received"),
        ("a", {"top_p": 1.5}, "top_p.*Received"),
        ("a", {"top_p": 0.0}, "top_p.*Received"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generate(prompt, **options)
    assert not model._samplers, "nothing was compiled"
