"""`measure`: the table, what it depends on, and what it refuses."""

import contextlib
import dataclasses
import json
import math
import os
import re
import shutil
import types

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, labelled, measured_run, text, tiny, training_data
from PIL import Image

from keras_genai import cli, data, measure, measuring, metrics, pictures, zoo
from keras_genai._text import with_spread
from keras_genai.metrics import frechet_distance, importance_nll
from keras_genai.models.gans.cgan import CGAN
from keras_genai.models.vaes.vae import bernoulli_nll, gaussian_kl


def mean_and_spread(x):
    """Cheap features: means and deviations of quarters of the image; two classes by brightness."""
    quarters = x.reshape(len(x), 2, x.shape[1] // 2, 2, x.shape[2] // 2, -1)
    bright = x.mean((1, 2, 3))[:, None] > 20
    found = np.concatenate([quarters.mean((2, 4, 5)), quarters.std((2, 4, 5))], axis=1)
    return found.reshape(len(x), -1), np.concatenate([bright, ~bright], axis=1).astype("float32")


NOT_OF_A_VAE = ("FID", "KID", "IS", "class_accuracy", "mig")


@pytest.fixture(scope="module")
def parts():
    """A data set of blobs in three parts."""
    return data.Dataset(
        "blobs",
        *(data.load(images(n, seed=seed)).train for n, seed in ((300, 0), (60, 1), (200, 2))),
    )


@pytest.fixture(scope="module")
def model(parts):
    model = tiny("vae")
    model.settle(parts)
    return model


@pytest.fixture(scope="module")
def table(model, parts):
    return measure(model, parts, num_samples=150, features=mean_and_spread)


# Images -----------------------------------------------------------------------------------------


def test_the_table_says_what_each_number_depends_on(table):
    row = table.rows[0]
    assert (row.name, row.samples, row.features) == ("FD-mean_and_spread", 150, "mean_and_spread")
    assert (row.resize, row.split) == ("none", "test")
    names = [row.name.partition("-")[0] for row in table.rows]
    assert names == [n for n in measuring._Images.METRICS if n not in NOT_OF_A_VAE]
    assert all(math.isfinite(row.value) for row in table.rows)
    assert table["FD"] == table["FD-mean_and_spread"] == row.value
    for word in ("FD-mean_and_spread", "±", "150", "test", "16x16", "nats, k=50"):
        assert word in str(table)
    with pytest.raises(KeyError, match="precision.*Received: 'FID'"):
        table["FID"]


def test_json_is_what_a_published_entry_takes(table, parts):
    found = json.loads(table.to_json())
    assert (found["model"], found["data"], found["seed"]) == ("vae", "blobs", 0)
    assert found["data_fingerprint"] == parts.train.fingerprint
    assert {*found["metrics"][0]} == {
        "name", "value", "standard_error", "samples", "features", "resize", "split",
    }  # fmt: skip


def test_a_table_is_its_rows(table):
    assert list(table) == [*table.rows]


def test_equal_seeds_give_equal_numbers_and_leave_the_model_alone(model, parts, table):
    before = model.seed_generator.state.numpy()
    again = measure(model, parts, num_samples=150, features=mean_and_spread)
    np.testing.assert_array_equal(before, model.seed_generator.state.numpy())
    assert again.rows == table.rows
    other = measure(model, parts, ["FD"], 150, seed=1, features=mean_and_spread)
    assert other["FD"] != table["FD"]


def test_samples_are_compared_with_as_many_images(parts):
    """Against the formulas on the same images, and with what a person would see."""
    real = parts.test.arrays()["image"]
    same = measure(real, parts, features=mean_and_spread)
    assert same["FD"] == pytest.approx(0, abs=1e-6) and same["precision"] == 1
    assert same.rows[0].samples == 200
    few = measure(images(100, seed=7), parts, ["FD"], features=mean_and_spread)
    chosen = np.random.default_rng(0).choice(200, 100, replace=False)
    sets = (mean_and_spread(x.astype("float32"))[0] for x in (real[chosen], images(100, seed=7)))
    with pytest.warns(UserWarning, match="bias"):
        assert few["FD"] == pytest.approx(frechet_distance(*sets), rel=1e-5)
    assert few.rows[0].samples == 100
    noise = np.random.default_rng(0).integers(0, 256, (200, 16, 16, 1)).astype("uint8")
    noisy = measure(noise, parts, features=mean_and_spread)
    assert noisy["FD"] > 100 * few["FD"]
    assert (noisy["precision"], noisy["recall"], noisy["modes"]) == (0, 0, 1)


def test_copies_of_training_images_are_found(parts):
    """Images of its own kind are not copies; half copies are half."""
    train = parts.train.arrays()["image"]
    fresh = images(200, seed=8)
    wanted = ["copies", "closer_to_train"]
    clean = measure(fresh, parts, wanted, features=mean_and_spread)
    assert clean["copies"] < 0.1 and 0.4 < clean["closer_to_train"] < 0.6
    half = np.concatenate([train[:100], fresh[:100]])
    copied = measure(half, parts, wanted, features=mean_and_spread)
    assert 0.5 <= copied["copies"] < 0.6 and copied["closer_to_train"] > 0.7


def test_copies_are_looked_for_among_all_training_images(parts, monkeypatch):
    """Far more than are searched at a time."""
    noise = np.random.default_rng(0).integers(0, 256, (120_050, 4, 4, 1), "uint8")
    train, fresh = (data.load(x).train for x in (noise[:-50], noise[-50:]))
    copied = noise[np.random.default_rng(1).choice(120_000, 50)]
    many = data.Dataset("noise", train, test=fresh)
    (row,) = measure(copied, many, ["copies"], features=mean_and_spread).rows
    assert (row.value, row.standard_error) == (1.0, None)
    subject = measuring.subject_of(images(90, seed=9), "image", parts, None, 0, mean_and_spread)
    monkeypatch.setattr(measuring, "SEARCHED", 70)
    monkeypatch.setattr(measuring, "READ", 32)
    small = map(measuring.thumbnails, (subject.fake, parts.train.arrays()["image"], subject.real))
    whole = metrics.memorisation(*small)
    assert (subject.memory.closer, subject.memory.duplicates) == (whole.closer, whole.duplicates)
    np.testing.assert_array_equal(subject.memory.indices, whole.indices)


def test_sets_that_are_sorted_by_class_count_as_a_whole(monkeypatch):
    """Where a metric takes the first images, and where the samples are more than are compared."""

    def dark_then_bright(n, seed):
        return np.concatenate([images(n // 2, seed=seed) // 4, images(n // 2, seed=seed + 1)])

    monkeypatch.setattr(measuring, "MEMORISED", 80)
    parts = (data.load(dark_then_bright(n, seed)).train for n, seed in ((400, 0), (200, 2)))
    train, test = parts
    parts = data.Dataset("halves", train, test=test)
    perfect = dark_then_bright(400, 4)
    wanted = ["closer_to_train", "class_distance"]
    table = measure(perfect[np.random.default_rng(0).permutation(400)], parts, wanted,
                    features=mean_and_spread)  # fmt: skip
    assert table["closer_to_train"] == pytest.approx(0.5, abs=0.12)
    table = measure(perfect, parts, wanted, num_samples=100, features=mean_and_spread)
    assert table["class_distance"] < 0.2 and table["closer_to_train"] == pytest.approx(
        0.5, abs=0.12
    )
    for shown in (table.subject.real, table.subject.fake):
        assert 0.25 < (shown[:48].max((1, 2, 3)) > 100).mean() < 0.75


def test_without_a_training_part_copies_are_left_out(parts):
    table = measure(images(50, seed=3), images(80), features=mean_and_spread)
    assert table.rows[0].split == "all" and table.facts["model"] == "samples"
    assert "copies" not in [row.name for row in table.rows]


@pytest.mark.parametrize("given", ["model", "samples"])
def test_a_model_is_not_measured_on_its_training_images_without_a_word(given, parts, capsys):
    given = tiny("gan", data=images(40)) if given == "model" else images(20, seed=3)
    wanted = {"metrics": ["KD"], "features": mean_and_spread}
    measure(given, images(40), num_samples=20, **wanted)
    warned = "say nothing of new images, and copies cannot" in capsys.readouterr().out
    assert warned == hasattr(given, "generate")
    for held_out in (parts, data.load(images(40), validation_split=0.5)):
        measure(given, held_out, num_samples=20, **wanted)
        assert "Warning" not in capsys.readouterr().out


def test_samples_that_there_are_not_are_mentioned(parts, capsys):
    wanted = {"metrics": ["KD"], "features": mean_and_spread}
    measure(images(300, seed=3), parts, num_samples=250, **wanted)
    assert "Measuring 200 images (not 250: there are no more) ag" in capsys.readouterr().out
    measure(images(300, seed=3), parts, num_samples=100, **wanted)
    assert "Measuring 100 images against" in capsys.readouterr().out


def test_a_path_is_loaded_first(parts, tmp_path):
    for path in ("runs/gan/001", tmp_path):
        with pytest.raises(ValueError, match=r"measure\(zoo\.load\(path\), data\).*Received: "):
            measure(path, parts)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"metrics": ["presicion"]}, "Did you mean 'precision'"),
        ({"metrics": ["FID"]}, "called FD and KD"),
        ({"metrics": ["nll"]}, "log_weights"),
        ({"metrics": "FD"}, r"a list of names: \['FD'\]"),
        ({"num_samples": 1}, "at least 2"),
        ({"num_samples": 3, "metrics": ["precision"]}, "precision needs at least 4 images"),
        ({"features": "minst"}, "Did you mean 'mnist'"),
    ],
)
def test_what_cannot_be_measured_is_refused(parts, arguments, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        measure(images(50), parts, **{"features": mean_and_spread, **arguments})


def test_of_few_images_what_can_be_measured_is(parts, capsys):
    for count, left_out in (
        (2, ["KD", "precision", "recall", "density", "coverage", "different_bins"]),
        (5, ["density", "coverage", "different_bins"]),
    ):
        table = measure(images(9), parts, num_samples=count, features=mean_and_spread)
        whole = ["FD", "KD", "precision", "recall", "density", "coverage", "different_bins"]
        names = [row.name.partition("-")[0] for row in table.rows]
        assert [name for name in whole if name not in names] == left_out
        printed = capsys.readouterr().out
        assert printed.count("not measured") == len(left_out)
        assert f"not measured: density needs at least 6 images. Received: {count}" in printed
    with pytest.raises(ValueError, match="different_bins needs at least 40 images. Received: 39"):
        measure(images(39), parts, ["different_bins"], features=mean_and_spread)
    assert measure(images(40), parts, ["different_bins"], features=mean_and_spread).rows


def test_a_stream_is_refused(model, parts):
    batches = tf.data.Dataset.from_tensor_slices(parts.test.arrays()["image"]).batch(10)
    with pytest.raises(ValueError, match="any order.*Received: "):
        measure(model, batches, features=mean_and_spread)


def test_only_inception_gives_fid(parts, inception_2015):
    table = measure(images(12, seed=4), parts, features="inception_2015")
    names = [row.name for row in table.rows]
    assert names[:3] == ["FID", "KID", "IS"] and "modes" not in names
    assert table.rows[0].resize == "legacy_tensorflow 299x299"
    with pytest.raises(ValueError, match="called FID and KID.*Received: 'FD'"):
        measure(images(60), parts, ["FD"], features="inception_2015")


@pytest.mark.parametrize("kind", [types.FunctionType, keras.Model])
def test_a_name_does_not_make_a_fid(parts, kind):
    image = keras.Input((16, 16, 1))
    own = keras.Model(image, keras.layers.Flatten()(image), name="inception_2015")
    if kind is types.FunctionType:
        own = types.FunctionType(mean_and_spread.__code__, globals(), "inception_2015")
    with pytest.raises(ValueError, match="another name.*Received: "):
        measure(images(60), parts, ["FID"], features=own)


# Models that take labels ------------------------------------------------------------------------


def by_brightness(x):
    """The mean of each image, and which of the three classes of `labelled` it has."""
    bright = x.max((1, 2, 3))
    return bright[:, None], np.eye(3, dtype="float32")[np.digitize(bright, (125, 210))]


def test_samples_are_asked_for_the_classes_of_the_real_images(monkeypatch):
    """A model that draws what it is asked for, and one that draws the class after it."""
    held = labelled(90).train.arrays()
    rows = np.flatnonzero((held["label"] != 1) | (np.arange(90) < 9))
    parts = data.load(held["image"][rows], held["label"][rows])
    tables = []
    for turn in (0, 1):
        light = tf.roll(tf.constant([-0.4, 0.3, 0.9]), -turn, 0)

        def draw(self, z, classes, light=light):
            shades = tf.linalg.matvec(classes, light)
            return tf.ones((len(z), *self.image_shape)) * shades[:, None, None, None]

        monkeypatch.setattr(CGAN, "draw", draw)
        wanted = ["class_accuracy", "class_distance"]
        tables.append(measure(tiny("cgan"), parts, wanted, 40, features=by_brightness))
    right, wrong = tables
    assert (right["class_accuracy"], right["class_distance"]) == (1.0, 0.0)
    assert wrong["class_accuracy"] == 0.0
    assert wrong["class_distance"] > 0.2, "the real images must not be balanced by themselves"
    assert right.rows[0].samples == 40
    seen = by_brightness(right.subject.real.astype("float32"))[1].argmax(1)
    np.testing.assert_array_equal(right.subject.labels, seen)


def test_class_accuracy_needs_labels_and_their_classes(parts):
    for given, seen_by, message in (
        (images(50), mean_and_spread, "Only a model that takes labels"),
        (tiny("gan"), mean_and_spread, "Only a model that takes labels"),
        (tiny("cgan"), lambda x: x.mean((1, 2)), "probabilities of the data's own classes"),
    ):
        with pytest.raises(ValueError, match=f"{message}.*Received: 'class_accuracy'"):
            measure(given, labelled(), ["class_accuracy"], features=seen_by)
    with pytest.raises(ValueError, match="learns from images with labels.*Received: "):
        measure(tiny("cgan", num_classes=3), parts, features=mean_and_spread)


def test_classes_of_other_data_are_not_taken_for_the_datas_own():
    """Labels 0, 1, 2 of these are not the letters A, B, C."""
    with pytest.raises(ValueError, match="the data's own classes.*Received: 'class_accuracy'"):
        measure(tiny("cgan"), labelled(), ["class_accuracy"], features="glyphs")
    table = measure(labelled(9).train.arrays()["image"], labelled(), features="glyphs")
    assert not {"modes", "class_distance"} & {row.name for row in table.rows}
    letters = data.load("glyphs")
    assert measure(letters.test.arrays(99)["image"], letters, ["modes"], features="glyphs")["modes"]


def test_digits_are_looked_for_behind_the_letters():
    digits = data.load("digits")
    model = tiny("cgan")
    model.settle(digits)
    assert model.num_classes == 10
    subject = measuring.subject_of(model, "image", digits, 200, seed=0)
    subject.fake = subject.real
    assert subject.features == "glyphs" and subject.measured("class_accuracy").value > 0.9


# Likelihoods ------------------------------------------------------------------------------------


def test_the_weights_of_a_vae(model):
    """Their mean is the evidence lower bound; the log of their mean lies above it, towards p(x)."""
    x = images(4).astype("float32") / 127.5 - 1.0
    eps = np.random.default_rng(0).standard_normal((150, 4, model.latent_dim), "float32")
    weights = np.stack([model.log_weights(x, e).numpy() for e in eps])
    mu, log_var = model.encoder(x)
    kl = gaussian_kl(mu, log_var).numpy()
    reconstructions = [
        bernoulli_nll(x, model.decoder(mu + np.exp(0.5 * log_var) * e)).numpy() for e in eps
    ]
    bound = -(np.mean(reconstructions, axis=0) + kl)
    np.testing.assert_allclose(weights.mean(0), bound, atol=1.0)
    assert (importance_nll(weights) <= -weights.mean(0)).all()


def test_the_likelihood_by_hand_where_it_is_known():
    """p(x|z) that does not depend on z: log p(x) is known, whatever the encoder says."""
    vae = tiny("vae", latent_dim=2)
    vae.settle(images())
    for weight in vae.decoder.weights:
        weight.assign(0.0 * weight)
    x = images(8)
    weights = measuring.importance_weights(vae, x, k=1000, seed=0)
    assert weights.shape == (1000, 8)
    np.testing.assert_allclose(importance_nll(weights), 256 * math.log(2), atol=0.3)


def test_a_binarized_model_is_asked_for_images_drawn_once(parts):
    """Always the same ones, which the row names; other seeds draw others."""
    model = tiny("vae", data=parts, binarize=True)
    row, again = (measure(model, parts, ["nll"], num_samples=60).rows[0] for _ in range(2))
    assert row == again and row.features == "nats, k=50, binarized" and row.samples == 60
    subject = measuring.subject_of(model, "image", parts, 60, seed=0)
    x = measuring.binarized(subject.real, seed=0)
    assert set(np.unique(x)) == {0, 255}
    np.testing.assert_array_equal(x[:20], measuring.binarized(subject.real[:20], seed=0))
    assert not np.array_equal(x, measuring.binarized(subject.real, seed=1))
    weights = measuring.importance_weights(model, x, 50, seed=0)
    assert row.value == pytest.approx(importance_nll(weights).mean(), rel=1e-6)
    levels = np.full((1, 100, 100, 1), 64, "uint8")
    assert measuring.binarized(levels, 0).mean() == pytest.approx(64, abs=5)


def test_importance_weights_do_not_depend_on_how_many_are_computed_at_a_time(model, monkeypatch):
    whole = measuring.importance_weights(model, images(9), 20, seed=0)
    monkeypatch.setattr(measuring, "DECODED", 40)
    parts = measuring.importance_weights(model, images(9), 20, seed=0)
    np.testing.assert_allclose(parts, whole, rtol=1e-5)


def test_a_likelihood_given_the_class_is_measured_with_it():
    parts = data.Dataset("blobs", labelled(60).train, test=labelled(40, seed=1).train)
    model = tiny("cvae", data=parts, likelihood="discretized_logistic")
    (row,) = measure(model, parts, ["nll"], num_samples=30, features=mean_and_spread).rows
    subject = measuring.subject_of(model, "image", parts, 30, seed=0, features=mean_and_spread)
    weights = measuring.importance_weights(model, subject.real, 50, 0, subject.labels)
    assert row.value == pytest.approx(importance_nll(weights).mean(), rel=1e-6)
    assert row.features == "nats, k=50, discretized_logistic"


# Texts ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def writer():
    model = tiny("char_rnn")
    parts = data.load(text(0) + text(1), validation_split=0.4)
    model.settle(parts)
    return model, parts


def test_bits_a_character_are_of_every_character_once(writer):
    model, parts = writer
    held = parts.validation.text
    nll, characters = model.text_nll([held])
    assert characters == len(nll)
    assert len(nll) == len(held) - 1 and (len(held) - 1) % model.sequence_length
    ids, length = model.codec.encode(held), model.sequence_length
    for start in (0, length, len(nll) // length * length):  # the last is shorter
        window = ids[start : start + length + 1]
        logits = model(window[None, :-1]).numpy()[0].astype("float64")
        logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
        expected = -logs[np.arange(len(window) - 1), window[1:]]
        np.testing.assert_allclose(nll[start : start + length], expected, atol=1e-4)
    table = measure(model, parts, ["bits_per_character", "perplexity"])
    assert table["perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    assert table["bits_per_character"] == pytest.approx(nll.mean() / math.log(2), rel=1e-5)
    assert table.rows[0].samples == len(nll) and table.rows[0].split == "validation"


def test_a_text_that_is_shorter_than_a_window_is_measured(writer):
    model, _ = writer
    ids = model.codec.encode("the cat")
    log_p = tf.nn.log_softmax(model(ids[None, :-1]))[0].numpy()
    nll, characters = model.text_nll(["the cat"])
    assert characters == 6 < model.sequence_length
    np.testing.assert_allclose(nll, -log_p[np.arange(6), ids[1:]], atol=1e-5)


def test_texts_are_measured(writer, tmp_path):
    model, parts = writer
    copied = parts.train.text[10:60]
    texts = [*text(3), *text(4), f"zzzz {copied} zzzz " + "mat dog " * 40]
    table = measure(texts, parts)
    assert [row.name for row in table.rows] == ["distinct_2", "self_bleu", "longest_copy"]
    assert table["longest_copy"] >= 50 and table.rows[0].features == "50 words each"
    assert table.save_picture(tmp_path / "measure.png") == tmp_path / "measure.png"
    assert (tmp_path / "measure.png").stat().st_size > 5000
    assert len(model.sample_texts(3, 40, seed=0)[0]) == 40
    with pytest.raises(ValueError, match="gives probabilities.*Received: "):
        measure(texts, parts, ["bits_per_character"])


def test_texts_that_plots_cannot_show_become_a_page(tmp_path):
    texts = ["<春眠不覺曉> " * 60, "處處聞啼鳥 " * 60]
    table = measure(texts, data.load(texts * 2, validation_split=0.5))
    page = table.save_picture(tmp_path / "measure.png")
    assert [*tmp_path.iterdir()] == [page] == [tmp_path / "measure.html"]
    written = page.read_text("utf-8")
    assert "&lt;春眠不覺曉&gt;" in written and "longest_copy" in written


def test_texts_have_no_features(writer):
    with pytest.raises(ValueError, match="of images, not of texts.*Received: features='mnist'"):
        measure(*writer, ["bits_per_character"], features="mnist")


def test_a_picture_has_bars_only_if_there_are_shares(table, tmp_path, monkeypatch):
    """And says of each bar which way is better."""
    drawn = []
    monkeypatch.setattr(measuring.pictures.Figure, "savefig", lambda self, _: drawn.append(self))
    monkeypatch.setattr(measuring.pictures, "atomic", lambda path: contextlib.nullcontext(path))
    distances = [row for row in table if row.name.startswith(("FD", "KD", "nll"))]
    for rows in (table.rows, distances):
        dataclasses.replace(table, rows=tuple(rows)).save_picture(tmp_path / "measure.png")
    both, panels = ([axes for axes in figure.axes if axes.get_visible()] for figure in drawn)
    assert len(both) == 4 and len(panels) == 3 and all(axes.images for axes in panels)
    labels = [label.get_text() for label in both[-1].get_yticklabels()]
    for label in ("precision (higher, to 1)", "copies (lower, to 0)", "closer_to_train (0.5)"):
        assert label in labels


def test_a_picture_of_texts_is_as_high_as_they_are(tmp_path):
    def height(panel, shares):
        pictures.save_measured(tmp_path / "a.png", {"a": "b", "c": panel}, shares, ["d 1"])
        with Image.open(tmp_path / "a.png") as picture:
            return picture.height

    shares = {"e (higher, to 1)": 0.5}
    short, long = height("b\n" * 3, shares), height("b\n" * 30, shares)
    assert short < 250 and long - short == pytest.approx(27 * 14, abs=2)
    assert height("b " * 600, {}) == pytest.approx(height("b\n" * 20, {}), abs=2), "wrapped"


def test_variety_is_that_of_fifty_words_or_left_out(writer, capsys):
    """One short text does not change what the number of all means."""
    _, parts = writer
    for short in ("the cat sat", "withoutspaces" * 40):
        table = measure([*text(3), short], parts)
        assert [row.name for row in table.rows] == ["longest_copy"]
        assert "not measured: distinct_2 looks at the first 50 words" in capsys.readouterr().out
        with pytest.raises(ValueError, match="first 50 words.*Received: a text of "):
            measure([*text(3), short], parts, ["self_bleu"])
    with pytest.raises(ValueError, match="at least 2 texts. Received: 1"):
        measure(text(3), parts, ["self_bleu"])


def test_of_many_texts_a_random_choice_counts(writer):
    texts = [f"{i} " * 60 for i in range(40)]
    chosen = measure(texts, writer[1], num_samples=20).subject.samples
    assert len({*chosen}) == 20 and {*chosen} != {*texts[:20]}


# The command and the comparison -----------------------------------------------------------------


def test_the_command_writes_numbers_and_a_picture(tmp_path, capsys):
    model, run = tiny("gan"), tmp_path / "run"
    model.fit("digits", batch_size=128, steps_per_epoch=2, epochs=1, run_dir=run, verbose=0)
    assert cli.main(["measure", str(run), "--samples", "64", "--metrics", "KD,copies"]) == 0
    printed = capsys.readouterr().out
    assert "KD-glyphs" in printed and str(run / "measure.png") in printed
    found = json.loads((run / "metrics.json").read_text())
    assert found["data"] == "digits" and found["metrics"][0]["samples"] == 64
    assert (run / "measure.png").stat().st_size > 5000
    assert cli.main(["measure", str(run), "--samples", "64", "--metrics", "KDD"]) == 2
    assert "Did you mean 'KD' or 'KID'?" in capsys.readouterr().err


@pytest.fixture(scope="module")
def run_on_digits(tmp_path_factory):
    """The run of a recipe whose own data are others."""
    run = tmp_path_factory.mktemp("digits") / "run"
    options = {"batch_size": 128, "steps_per_epoch": 1, "epochs": 1, "verbose": 0}
    tiny("gan").fit("digits", run_dir=run, **options)
    return run


MEASURE = ["--samples", "64", "--metrics", "KD"]


def test_a_lesser_measurement_does_not_replace_a_better_one(table, tmp_path, capsys):
    """Nor one of other data; but one of an earlier checkpoint is replaced."""
    numbers, checkpoint = tmp_path / "metrics.json", tmp_path / "checkpoint.keras"

    def place(**changes):
        return cli._place(tmp_path, "", checkpoint, dataclasses.replace(table, **changes))

    checkpoint.touch()
    assert place() == ""
    numbers.write_text(table.to_json())
    os.utime(checkpoint, (1, 1))
    more = {**table.facts, "num_samples": 151}
    for changes in (
        {},
        {"facts": more},
        {"rows": (*table.rows, dataclasses.replace(table.rows[0], name="IS"))},
    ):
        assert place(**changes) == ""
    assert "stays" not in capsys.readouterr().out
    others = [dataclasses.replace(row, features="mnist") for row in table]
    for changes in (
        {"facts": {**table.facts, "num_samples": 149}},
        {"facts": {**more, "data_fingerprint": "0" * 12}},
        {"rows": table.rows[1:]},
        {"rows": tuple(others)},
    ):
        assert place(**changes) == ".2"
        assert f"{numbers} stays" in capsys.readouterr().out
    (tmp_path / "metrics.2.json").touch()
    assert place(rows=table.rows[1:]) == ".3"
    os.utime(numbers, (0, 0))
    assert place(rows=table.rows[1:]) == ""


def test_the_file_of_a_run_is_measured_on_the_data_of_the_run(run_on_digits):
    run = run_on_digits
    assert cli.main(["measure", str(run / "checkpoint.keras"), *MEASURE]) == 0
    found, config = (json.loads((run / f).read_text()) for f in ("metrics.json", "config.json"))
    assert (found["data"], found["metrics"][0]["split"]) == ("digits", "test")
    assert found["data_fingerprint"] == config["data_fingerprint"]


def test_data_are_asked_for_where_nothing_names_them(run_on_digits, tmp_path, capsys):
    path = shutil.copy(run_on_digits / "checkpoint.keras", tmp_path / "copy.keras")
    assert cli.main(["measure", str(path), *MEASURE]) == 2
    assert "name data with --data" in capsys.readouterr().err
    assert cli.main(["measure", str(path), "--data", "digits", *MEASURE]) == 0
    assert json.loads((tmp_path / "copy.metrics.json").read_text())["data"] == "digits"
    assert not (tmp_path / "metrics.json").exists(), "in a run folder it is the run's"


def test_data_that_have_changed_are_taken_only_if_they_are_named(run_on_digits, tmp_path, capsys):
    run = shutil.copytree(run_on_digits, tmp_path / "run", ignore=lambda *_: ["metrics.json"])
    config = json.loads((run / "config.json").read_text())
    (run / "config.json").write_text(json.dumps({**config, "data_fingerprint": "0" * 12}))
    assert cli.main(["measure", str(run), *MEASURE]) == 2
    assert "say with --data" in capsys.readouterr().err
    assert not (run / "metrics.json").exists()
    assert cli.main(["measure", str(run), "--data", "digits", *MEASURE]) == 0
    assert "not the data that the run was trained on" in capsys.readouterr().out
    found = json.loads((run / "metrics.json").read_text())
    assert found["data_fingerprint"] == config["data_fingerprint"]


def test_a_published_entry_is_not_measured_by_command(tmp_path, monkeypatch, capsys):
    X = images(8, (8, 8, 1))
    run = measured_run(tmp_path / "run", tiny("gan", data=X), X)
    entry = zoo.publish([run], "blobs", catalogue=tmp_path / "zoo", data=X, licence="none",
                        credit="nobody")  # fmt: skip
    monkeypatch.setenv("KERAS_GENAI_ZOO", str(tmp_path / "zoo"))
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    for name in ("gan.blobs", str(entry)):
        assert cli.main(["measure", name, "--data", "digits", *MEASURE]) == 2
        assert "published entry is measured already" in capsys.readouterr().err
    assert sorted(tmp_path.rglob("*")) == before


def test_the_command_measures_on_the_part_that_a_run_left_out(tmp_path, capsys):
    np.save(tmp_path / "blobs.npy", images(48))
    run = tmp_path / "run"
    options = {"validation_split": 0.25, "epochs": 1, "batch_size": 12, "verbose": 0}
    tiny("gan").fit(tmp_path / "blobs.npy", run_dir=run, **options)
    np.save(tmp_path / "other.npy", images(30, seed=1))
    for name, file, part, count in (
        ("blobs", "metrics.json", "validation", 12), ("other", "metrics.2.json", "all", 30),
    ):  # fmt: skip
        words = ["--data", str(tmp_path / "other.npy")] if name == "other" else []  # else its own
        assert cli.main(["measure", str(run), *words, "--metrics", "KD"]) == 0
        (row,) = json.loads((run / file).read_text())["metrics"]
        assert (row["split"], row["samples"]) == (part, count)
    assert (run / "measure.2.png").exists()
    assert "the very images" not in capsys.readouterr().out
    path = str(tmp_path / "blobs.npy")
    whole = measured_run(tmp_path / "whole", tiny("gan", data=path), path)
    assert cli.main(["measure", str(whole), "--data", path, "--metrics", "KD"]) == 0
    assert "the very images that the run was trained on" in capsys.readouterr().out


def test_recipes_are_compared_over_seeds(parts, monkeypatch, tmp_path):
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path))

    def eager(name, seed):
        model = tiny(name, seed=seed)
        model.run_eagerly = True  # two steps are quicker than a graph
        return model

    monkeypatch.setattr(zoo.registry, "get", eager)
    found = zoo.compare(
        ["gan", "vae"], parts, epochs=1, seeds=2, num_samples=40, features=mean_and_spread
    )
    means = {name: found[name]["FD-mean_and_spread"] for name in ("gan", "vae")}
    values = [table["FD"] for table in found.tables["vae"]]
    assert means["vae"] == pytest.approx((np.mean(values), np.std(values, ddof=1)))
    assert "nll" not in found["vae"]  # the other recipe has none
    heading, *lines = str(found).splitlines()
    assert heading.split() == ["metric", "gan", "vae", "N", "features", "resize", "split"]
    assert [line.split()[0] for line in lines] == [*found["gan"], "minutes"]
    assert re.fullmatch(
        r"FD-mean_and_spread +\S+ ± \S+ +\S+ ± \S+ +40 +mean_and_spread +none +test", lines[0]
    )
    for name in ("gan", "vae"):
        for number, table in enumerate(found.tables[name], start=1):
            path = tmp_path / name / f"{number:03d}" / "metrics.json"
            assert path.read_text("utf-8") == table.to_json()
    with pytest.raises(ValueError, match="one modality.*Received: gan, char_rnn"):
        zoo.compare(["gan", "char_rnn"], parts)


def test_a_comparison_is_of_one_time_and_of_like_numbers(parts, monkeypatch, tmp_path):
    """What was measured before a failure stays in the run folders."""
    budgets, count = [], iter((40, 40, 30))

    class Model:
        def fit(self, data, minutes, epochs, verbose):
            budgets.append(minutes)
            self.run_dir = tmp_path / str(len(budgets))
            self.progress = types.SimpleNamespace(milliseconds=30_000)

    def measured(model, data, *args, **kwargs):
        return measuring.Table(
            (measuring.Row("FD", 1.0, None, next(count), "f", "", "test"),), {}, 0
        )

    monkeypatch.setattr(zoo.registry, "get", lambda name, seed: Model())
    monkeypatch.setattr(measuring, "measure", measured)
    with pytest.raises(ValueError, match=r"sample count .*Received: FD with .*30.*with .*40"):
        zoo.compare(["gan", "dcgan"], parts, seeds=2)
    assert budgets == [max(zoo.info(name).minutes for name in ("gan", "dcgan"))] * 3
    assert len([*tmp_path.glob("*/metrics.json")]) == 3
    count = iter((40, 40))
    found = zoo.compare(["gan"], parts, minutes=0.5, seeds=2)
    assert budgets[3:] == [0.5, 0.5] and found.minutes == {"gan": [0.5, 0.5]}
    count = iter((40,))
    assert "±" not in str(zoo.compare(["gan"], parts, seeds=1)), "one seed has no deviation"


@pytest.mark.parametrize(
    ("value", "deviation", "shown"),
    [
        (0.896, 2.5e-16, "0.896 ± 0"),
        (1_234_567.0, 22_345.0, "1,235,000 ± 22,000"),
        (370.4, 370.0, "370.4 ± 370"),
        (0.0, 0.0, "0 ± 0"),
        (2.0, None, "2"),
    ],
)
def test_numbers_have_one_style(value, deviation, shown):
    assert with_spread(value, deviation) == shown


def test_training_data_of_each_modality_can_be_measured():
    for name in ("dcgan", "char_rnn"):
        model = tiny(name)
        table = measure(model, training_data(model.recipe), num_samples=30)
        assert all(math.isfinite(row.value) for row in table.rows)
