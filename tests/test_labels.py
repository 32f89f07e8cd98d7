"""Models that take labels: what they are trained on, what they draw and show."""

import logging
import re

import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, labelled, tiny
from PIL import Image

from keras_genai import cli, data, zoo
from keras_genai.models.base import fold
from keras_genai.models.gans.cgan import CGAN

LABELS = np.arange(48) % 3


def built(num_classes=3):
    """Never trained, but with weights large enough for a label to change the image."""
    model = tiny("cgan", image_shape=(16, 16, 1), num_classes=num_classes, ema_decay=0.0)
    for variable in model.generator.trainable_variables:
        variable.assign(variable * 10.0)
    return model


@pytest.fixture(scope="module")
def model():
    return built()


# Drawing -----------------------------------------------------------------------------------------


def test_labels_are_one_for_all_or_one_for_each_or_each_in_turn(model):
    mixed = model.generate(labels=[0, 1, 2, 1], seed=1)
    for k in range(3):
        alike = model.generate(4, labels=k, seed=1)
        same = (alike == mixed).reshape(4, -1).all(1)
        np.testing.assert_array_equal(same, np.array([0, 1, 2, 1]) == k)
    assert len(model.generate(labels=2)) == len(model.generate()) == 16
    in_turn = np.arange(70) % 3  # two chunks, the second not full
    for labels in (in_turn, [*in_turn], tuple(in_turn.astype("uint8"))):
        np.testing.assert_array_equal(
            model.generate(70, seed=2), model.generate(labels=labels, seed=2)
        )


@pytest.mark.parametrize(
    ("n", "labels"),
    [
        (3, [0, 1]), (None, 3), (None, -1), (None, [0, 1, 3]), (None, 1.0), (2, [0.0, 1.0]),
        (None, "2"), (None, True), (2, [[0, 1]]), (1, [[0]]),
    ],
)  # fmt: skip
def test_labels_that_do_not_fit_are_refused(model, n, labels):
    with pytest.raises(
        ValueError, match=r"class number, 0 to 2, or a list of \d+.*Received: labels="
    ):
        model.generate(n, labels=labels)


def test_no_labels_are_taken_by_a_model_without():
    other = tiny("gan", image_shape=(16, 16, 1))
    for call in (lambda: other.generate(labels=1), lambda: other.between(0, 1)):
        with pytest.raises(ValueError, match="`gan` draws images of no class.*Received: labels="):
            call()
    with pytest.raises(ValueError, match=r"positive integer.*Received: n=0"):
        built().generate(labels=[])
    with pytest.raises(ValueError, match=r"Received: n=ndarray of shape \(3, 16, 16, 1\), dtype f"):
        other.generate(np.zeros((3, 16, 16, 1)))
    with pytest.raises(ValueError, match=r"`reconstruct\(images\)`.*Received: n=ndarray of shape"):
        tiny("vae", image_shape=(16, 16, 1)).generate(np.zeros((3, 16, 16, 1), "uint8"))


def test_other_labels_need_no_other_graph(monkeypatch):
    traced, draw = [], CGAN.draw
    monkeypatch.setattr(CGAN, "draw", lambda *inputs: traced.append(1) or draw(*inputs))
    model = built()
    for labels in (0, 2, [1, 2, 0, 0, 1], np.zeros(8, "int64"), None):
        model.generate(8 if np.ndim(labels) == 0 else None, labels=labels)
    assert len(traced) == 1
    for ends in ((0, 1), (2, 0)):
        model.between(*ends, steps=5)
    assert len(traced) == 2


def test_columns_of_the_preview_are_classes_and_its_rows_noise(model):
    sheet = model.preview(seed=4).reshape(5, 3, 16, 16, 1)
    assert model.preview_columns == 3
    for k in range(3):
        np.testing.assert_array_equal(sheet[:, k], model.generate(5, labels=k, seed=4))
    many = built(num_classes=12)
    assert many.preview().shape == (50, 16, 16, 1) and many.preview_columns == 10


def test_between_mixes_the_labels_of_one_noise(model):
    way = model.between(2, 0, steps=5, seed=3)
    z = tf.random.stateless_normal((1, model.latent_dim), fold([3, 0], "samples"))
    for i, share in enumerate([0.0, 0.25, 0.5, 0.75, 1.0]):
        pixels = (model.draw(z, tf.constant([[share, 0.0, 1.0 - share]]))[0] + 1) * 127.5
        np.testing.assert_allclose(way[i], pixels, atol=0.51)
    assert np.abs(way[0].astype(int) - way[4]).max() > 10
    with pytest.raises(ValueError, match=r"both ends.*Received: steps=1"):
        model.between(0, 1, steps=1)


# Data --------------------------------------------------------------------------------------------


def stream(labels):
    return tf.data.Dataset.from_tensor_slices((images(), labels)).batch(8, drop_remainder=True)


def fit(model, x, y=None, **options):
    model.run_eagerly = True  # a step or two are quicker than a graph
    options = {"epochs": 1, "steps_per_epoch": 1, "batch_size": 8, **options}
    return model.fit(x, y, run_dir=False, verbose=0, **options)


def test_classes_are_counted_in_the_data(tmp_path):
    model = tiny("cgan")
    fit(model, images(), LABELS, validation_data=(images(), LABELS % 2))
    assert model.num_classes == 3
    for name in ("cat", "dog", "eel"):
        (tmp_path / name).mkdir()
        Image.fromarray(images(1)[0, ..., 0]).save(tmp_path / name / "a.png")
    assert zoo.get("cgan", data=tmp_path, **zoo.info("cgan").tiny).num_classes == 3


def test_data_without_labels_are_refused(tmp_path):
    Image.fromarray(images(1)[0, ..., 0]).save(tmp_path / "a.png")
    unlabelled = tf.data.Dataset.from_tensor_slices(images()).batch(8)
    message = (
        r"`cgan` learns from images with labels: write fit\(x, y\).*Received: '\w+.*without labels"
    )
    for x in (images(), tmp_path, unlabelled):
        for model in (tiny("cgan"), tiny("cgan", image_shape=(16, 16, 1), num_classes=3)):
            with pytest.raises(ValueError, match=message):
                fit(model, x)
            assert model.progress.step == 0
    model = built()
    for call in (
        lambda: fit(model, labelled(), validation_data=images()),
        lambda: model.evaluate(images(), verbose=0),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert model.progress.step == 0


def test_labels_that_are_no_class_are_refused_before_training():
    model = built()
    bad = data.load(images(), np.where(np.arange(48) == 7, 3, 0))
    message = r"3 classes, number 0 to 2.*num_classes=.*Received: label 3 at index 7 of 'array'"
    for call in (
        lambda: fit(model, bad),
        lambda: fit(model, labelled(), validation_data=bad),
        lambda: model.evaluate(bad, verbose=0),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    assert model.progress.step == 0


def test_streams_say_how_many_classes_there_are():
    with pytest.raises(
        ValueError, match=r"num_classes=.*Received: 'tf.data' with num_classes=None"
    ):
        fit(tiny("cgan"), stream(LABELS))
    model = tiny("cgan", num_classes=3)
    fit(model, stream(LABELS), steps_per_epoch=2)
    assert model.progress.step == 2
    # Only reading it tells.
    with pytest.raises(ValueError, match=r"Received: label 3 at index 1 of 'tf.data'"):
        fit(model, stream(np.where(np.arange(48) == 9, 3, 0)), steps_per_epoch=2)


def test_labels_are_left_aside_only_where_there_is_no_use_for_them(caplog, monkeypatch):
    monkeypatch.setattr(logging.getLogger("keras_genai"), "propagate", True)
    with caplog.at_level(logging.DEBUG, "keras_genai"):
        fit(built(), images(), LABELS)
    assert "left aside" not in caplog.text


# The command line --------------------------------------------------------------------------------


def test_the_command_draws_the_classes_it_is_asked_for(model, tmp_path, capsys):
    saved, out = str(tmp_path / "model.keras"), tmp_path / "images.npz"
    model.save(saved)
    command = ["generate", saved, "--seed", "1", "-o", str(out), "--labels"]
    for typed, labels in (("2,0,1", [2, 0, 1]), ("1", 1)):
        assert cli.main([*command, typed]) == 0
        with np.load(out) as file:
            np.testing.assert_array_equal(file["images"], model.generate(labels=labels, seed=1))
            assert re.search(rf'"Labels": "{re.escape(str(labels))}"', str(file["generated"]))
    capsys.readouterr()
    for typed, message in (("3,3", "class number, 0 to 2"), ("a", "class numbers, such as 3,3,7")):
        assert cli.main([*command, typed]) == 2
        assert message in capsys.readouterr().err
