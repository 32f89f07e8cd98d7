import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds

from keras_genai import data
from keras_genai.data import DataError, arrays, tfds_source

RNG = np.random.default_rng(0)


def write(folder, name, features, parts):
    tfds.dataset_builders.store_as_tfds_dataset(
        name=name,
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={p: tf.data.Dataset.from_tensor_slices(items) for p, items in parts.items()},
        data_dir=folder,
        disable_shuffling=True,
    )


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "tfds"))
    monkeypatch.setenv("KERAS_GENAI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "tfds"


@pytest.fixture
def small(folder):
    """A set of 40 + 6 grey images with labels, known by the name `small_set`."""
    x = RNG.integers(0, 256, (46, 6, 6, 1), dtype=np.uint8)
    y = np.arange(46) % 3
    features = {
        "image": tfds.features.Image(shape=(6, 6, 1)),
        "label": tfds.features.ClassLabel(names=["a", "b", "c"]),
    }
    parts = {"train": slice(0, 40), "test": slice(40, 46)}
    held = {p: {"image": x[rows], "label": y[rows]} for p, rows in parts.items()}
    write(folder, "small_set", features, held)
    return x, y


def test_official_test_part_and_the_last_tenth_of_train(small):
    x, y = small
    dataset = data.load("small_set")
    rows = {"train": slice(0, 36), "validation": slice(36, 40), "test": slice(40, 46)}
    for part, where in rows.items():
        held = getattr(dataset, part).arrays()
        np.testing.assert_array_equal(held["image"], x[where])
        np.testing.assert_array_equal(held["label"], y[where])
    assert dataset.train.class_names == ["a", "b", "c"]
    assert dataset.name == dataset.train.name == "small_set"


def test_images_are_resized_once_when_read(small, capsys):
    dataset = data.load("small_set", image_shape=(4, 4, 3))
    assert dataset.train.image_shape == dataset.test.image_shape == (4, 4, 3)
    images = dataset.train.arrays()["image"]
    np.testing.assert_array_equal(images[..., 0], images[..., 1])
    assert capsys.readouterr().out.count("resized to (4, 4, 3)") == 1


def test_large_sets_are_decoded_once_into_mapped_files(small, monkeypatch, tmp_path, capsys):
    x, y = small
    monkeypatch.setattr(arrays, "IN_MEMORY_LIMIT", 100)
    first = data.load("small_set").train
    assert isinstance(first.arrays()["image"], np.memmap)
    items = first.gather(tf.constant([35, 0], tf.int64))
    np.testing.assert_array_equal(items["image"], x[[35, 0]])
    np.testing.assert_array_equal(items["label"], y[[35, 0]])
    assert "decoding" in capsys.readouterr().out
    again = data.load("small_set").train
    assert "decoding" not in capsys.readouterr().out
    assert again.fingerprint == first.fingerprint
    assert len(list((tmp_path / "cache").iterdir())) == 3  # the parts, and nothing half-written


def test_a_broken_decoding_leaves_nothing_behind(small, monkeypatch, tmp_path):
    monkeypatch.setattr(arrays, "IN_MEMORY_LIMIT", 100)

    def stop(*args):
        yield {"image": np.zeros((5, 6, 6, 1), np.uint8), "label": np.zeros(5, np.int32)}
        raise KeyboardInterrupt

    monkeypatch.setattr(tfds_source, "_batches", stop)
    with pytest.raises(KeyboardInterrupt):
        data.load("small_set")
    assert list((tmp_path / "cache").iterdir()) == []


def test_the_centre_is_cropped_to_the_wanted_proportions():
    wide = np.zeros((4, 10, 3), np.uint8)
    wide[:, 3:7] = 200
    assert (tfds_source.fit_centre(tf.constant(wide), (2, 2, 3)).numpy() == 200).all()
    tall = wide.transpose(1, 0, 2)
    assert (tfds_source.fit_centre(tf.constant(tall), (4, 4, 3)).numpy() == 200).all()
    with pytest.raises(DataError, match=r"image_shape=\(2, 2, 3\)`\. Received:"):
        tfds_source.fit_centre(tf.constant(wide), (2, 2, 1))


def test_text(folder):
    features = {"text": tfds.features.Text()}
    write(folder, "small_text", features, {"train": {"text": ["some words ü"] * 20}})
    dataset = data.load("small_text", modality="text")
    assert dataset.train.documents == ["some words ü"] * 18
    assert len(dataset.validation) == 2
    assert dataset.test is None


def test_sets_without_images_or_text_are_refused(folder):
    features = {"sound": tfds.features.Tensor(shape=(2,), dtype=np.float32)}
    write(folder, "small_sound", features, {"train": {"sound": np.zeros((3, 2), "float32")}})
    with pytest.raises(DataError, match=r"images or text.*Received: .*\['sound'\]"):
        data.load("small_sound")


def test_celeb_a_is_the_middle_of_its_photographs(folder, monkeypatch):
    photo = np.zeros((2, 218, 178, 3), np.uint8)
    photo[:, 20:198] = 90
    features = {"image": tfds.features.Image(shape=(218, 178, 3), encoding_format="png")}
    parts = {part: {"image": photo} for part in ("train", "validation", "test")}
    write(folder, "small_photos", features, parts)
    monkeypatch.setitem(tfds_source.SMALLER, "small_photos", tfds_source.SMALLER["celeb_a"])
    dataset = data.load("small_photos")
    assert dataset.train.image_shape == (64, 64, 3)
    assert (dataset.test.arrays()["image"] == 90).all()
    assert len(dataset.validation) == 2


def test_without_a_network_three_ways_out_are_named(folder, monkeypatch):
    import requests

    def no_network(*args, **kwargs):
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests, "head", no_network)
    for call in (data.load, data.fetch):
        with pytest.raises(DataError) as caught:
            call("mnist")
        message = str(caught.value)
        for part in ("keras-genai fetch mnist", "TFDS_DATA_DIR", "glyphs", "no network"):
            assert part in message
        assert message.endswith("Received: 'mnist'")


def test_fetch_returns_the_folder(small, folder):
    assert data.fetch("small_set") == str(folder / "small_set" / "1.0.0")
    with pytest.raises(DataError, match="Received: 'no such'"):
        data.fetch("no such")
