"""Feature extractors: sizes, names, the networks in the package and the one that is downloaded."""

import dataclasses
import hashlib
import importlib.util
import io
import pickle
import struct
from pathlib import Path

import keras
import matplotlib
import numpy as np
import pytest
from PIL import Image

from keras_genai import data
from keras_genai.metrics import efficientnet, features, inception, small


@pytest.fixture(scope="module")
def pictures():
    """Noise over gradients, uint8 (4, 20, 33, 3), so that no filter leaves 0..255."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(60, 140, 33)[None, None, :, None]
    return (ramp + rng.uniform(0, 55, (4, 20, 33, 3))).astype("uint8")


# Sizes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(9, 12), (40, 50)])
def test_clean_is_pillows_bicubic_filter(pictures, size):
    """Pillow rounds bytes, between its two passes too: without that it is the same filter."""
    ours = features.resize(pictures, size)
    for ours_one, picture in zip(ours, pictures, strict=True):
        theirs = Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC)
        error = np.abs(ours_one - np.asarray(theirs, "float32"))
        assert error.max() < 1.1 and error.mean() < 0.35


@pytest.mark.parametrize("size", [(9, 12), (40, 50)])
def test_legacy_is_the_rule_of_tensorflow_1(pictures, size):
    """Pixel (i, j) is taken from (i H / h, j W / w), between its four neighbours."""

    def weights(out, into):
        place = np.arange(out) * (into / out)
        low = np.floor(place).astype(int)
        matrix = np.zeros((out, into))
        matrix[np.arange(out), low] += 1 - (place - low)
        matrix[np.arange(out), np.minimum(low + 1, into - 1)] += place - low
        return matrix

    rows, columns = weights(size[0], 20), weights(size[1], 33)
    expected = np.einsum("ih,nhwc,jw->nijc", rows, pictures.astype("float64"), columns)
    ours = features.resize(pictures, size, "legacy_tensorflow")
    np.testing.assert_allclose(ours, expected, atol=2e-3)
    assert np.abs(ours - features.resize(pictures, size)).mean() > 2  # the modes differ


def test_other_modes_are_refused(pictures):
    with pytest.raises(ValueError, match="Received: mode='nearest'"):
        features.resize(pictures, (8, 8), "nearest")


# Small classifiers ------------------------------------------------------------------------------


def test_the_stated_accuracy_is_that_of_the_weights():
    test = data.load("glyphs").test.arrays()
    found, probabilities = features.extractor("glyphs")(test["image"])
    assert found.shape == (2000, 128) and found.dtype == np.float32
    np.testing.assert_allclose(probabilities.sum(1), 1.0, atol=1e-5)
    accuracy = (probabilities.argmax(1) == test["label"]).mean()
    assert accuracy == pytest.approx(small.accuracies()["glyphs"]["accuracy"], abs=0.002)


@pytest.mark.parametrize("name", small.NAMES)
def test_each_is_small_and_stated(name):
    assert (small.FOLDER / f"{name}.npz").stat().st_size < 600_000
    fact = small.accuracies()[name]
    assert f"{name:15} {fact['accuracy']:.2%}".replace("%", " %") in small.__doc__
    assert fact["accuracy"] > {"mnist": 0.99, "fashion_mnist": 0.89, "glyphs": 0.85}[name]


def test_batches_do_not_matter_and_size_does_not():
    images = data.load("digits").test.arrays(30)["image"]
    whole = features.extractor("mnist")
    pieces = features.Extractor("mnist", whole.function, whole.shape, batch_size=7)
    np.testing.assert_allclose(whole(images)[0], pieces(images)[0], rtol=1e-4, atol=1e-4)
    assert whole.resize == "clean 28x28"
    large = images.repeat(2, 1).repeat(2, 2)
    near = whole(large)[0]
    assert np.corrcoef(near.ravel(), whole(images)[0].ravel())[0, 1] > 0.8


def test_training_writes_what_loading_reads(tmp_path, monkeypatch):
    monkeypatch.setattr(small, "FOLDER", tmp_path)
    rng = np.random.default_rng(0)
    image, label = rng.integers(0, 256, (160, 8, 8)).astype("uint8"), rng.integers(0, 3, 160)
    parts = {"x_train": image[:128], "y_train": label[:128], "x_test": image[128:]}
    np.savez(tmp_path / "noise.npz", **parts, y_test=label[128:])
    small.train("mnist", tmp_path / "noise.npz", epochs=1)
    fact = small.accuracies()["mnist"]
    assert fact["image_shape"] == [8, 8, 1] and fact["test_images"] == 32
    found = small.load("mnist")(image[128:, ..., None])[1].numpy().argmax(1)
    assert (found == label[128:]).mean() == pytest.approx(fact["accuracy"], abs=1e-3)


# Names, models, functions -----------------------------------------------------------------------


def test_a_model_and_a_function_are_extractors():
    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Flatten()(image), name="pixels")
    grey = np.full((3, 16, 16, 1), 7, "uint8")
    found, probabilities = features.extractor(model)(grey)
    assert features.extractor(model).name == "pixels"
    assert found.shape == (3, 192) and probabilities is None
    np.testing.assert_allclose(found, 7, atol=1e-4)

    def mean_grey(x):
        return x.mean((1, 2)), np.ones((len(x), 1))

    own = features.extractor(mean_grey)
    assert (own.name, own.resize) == ("mean_grey", "none")
    np.testing.assert_allclose(own(grey)[0], 7)


@pytest.mark.parametrize(
    ("what", "message"), [("minst", "Did you mean 'mnist'"), (7, "a keras.Model or a callable")]
)
def test_unknown_extractors_are_refused(what, message):
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        features.extractor(what)


def test_names_of_the_packages_extractors_are_not_taken():
    """A number with such a name is one that others can compare with."""

    def mnist(x):
        return x.mean((1, 2))

    image = keras.Input((8, 8, 3))
    model = keras.Model(image, keras.layers.Flatten()(image), name="inception_2015")
    genuine = features.extractor("mnist")
    changed = dataclasses.replace(genuine, mode="legacy_tensorflow")
    for what in (mnist, model, features.Extractor("efficientnet_lite0", mnist), changed):
        with pytest.raises(ValueError, match="another name.*Received: "):
            features.extractor(what)
    assert features.extractor(genuine) is genuine
    assert features.extractor(dataclasses.replace(changed, name="legacy")).name == "legacy"


@pytest.mark.parametrize("images", [np.zeros((2, 8, 8, 3), "uint8"), np.zeros((2, 8, 8, 1))])
def test_images_that_do_not_fit_are_refused(images):
    with pytest.raises(ValueError, match="Received: "):
        features.extractor("glyphs")(images)


def test_the_default_follows_the_data(monkeypatch):
    default = features.default_extractor
    assert default("fashion_mnist", (28, 28, 1)).name == "fashion_mnist"
    assert default("digits", (32, 32, 1)).name == "glyphs"
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="imagenet.*inception_2015.*Received: "):
        default("my_photos", (64, 64, 3))


# The graph of 2015 ------------------------------------------------------------------------------


def test_inception_by_hand(inception_2015):
    """Resize, normalisation, features and the probabilities without bias, on several images."""
    inception_2015 = features.extractor("inception_2015")
    images = np.random.default_rng(1).integers(0, 256, (5, 20, 24, 3)).astype("uint8")
    found, probabilities = inception_2015(images)
    assert inception_2015.resize == "legacy_tensorflow 299x299"
    resized = features.resize(images, (299, 299), "legacy_tensorflow")
    rng = np.random.default_rng(0)
    filters, weights = rng.normal(size=(1, 1, 3, 6))[0, 0], rng.normal(size=(6, 5))
    convolved = ((resized.astype("float64") - 128) / 128).mean((1, 2)) @ filters
    expected = 2.0 * (convolved - 0.5) / 2.0 + 1.0
    np.testing.assert_allclose(found, expected, atol=1e-4)
    logits = np.exp(expected @ weights)
    np.testing.assert_allclose(probabilities, logits / logits.sum(1, keepdims=True), atol=1e-4)
    grey = images[..., :1]
    np.testing.assert_array_equal(inception_2015(grey)[0], inception_2015(grey.repeat(3, 3))[0])


def test_another_graph_is_not_taken(inception_2015, monkeypatch):
    features._named.cache_clear()
    monkeypatch.setattr(inception, "SHA256", "0" * 64)
    monkeypatch.setattr(inception, "URL", "http://127.0.0.1:9/graph.pb")
    monkeypatch.setattr("keras_genai._download.TRIES", 1)
    with pytest.raises(ValueError, match="Received: http"):
        features.extractor("inception_2015")


# EfficientNet-Lite0 -----------------------------------------------------------------------------


def test_the_network_has_the_tensors_of_the_paper():
    model = efficientnet.network()
    assert sum(int(np.prod(w.shape)) for w in model.trainable_weights) == 4_652_008
    assert [output.shape[1] for output in model.outputs] == [1280, 1000]


@pytest.mark.skipif(
    not importlib.util.find_spec(efficientnet.PACKAGE), reason="needs the extra `imagenet`"
)
def test_it_knows_a_uniform():
    """The photograph of Admiral Hopper that comes with matplotlib."""
    path = Path(matplotlib.get_data_path(), "sample_data", "grace_hopper.jpg")
    photo = np.asarray(Image.open(path).convert("RGB"))[None, :512]
    found, probabilities = features.extractor("efficientnet_lite0")(photo)
    assert found.shape == (1, 1280)
    assert probabilities[0].argmax() == 652 and probabilities[0, 652] > 0.2  # military uniform


def torch_file(place=b"K\x00K\x03K\x02\x86K\x01K\x03\x86"):
    """A file in the old format of PyTorch, as its pickles look.

    Args:
        place: offset, shape and strides of its one tensor: by default 0, (3, 2) and (1, 3), which
            is transposed.
    """
    opcodes = (
        b"\x80\x02ccollections\nOrderedDict\n)R(X\x06\x00\x00\x00weight"
        b"ctorch._utils\n_rebuild_tensor_v2\n("
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x00aX\x03\x00\x00\x00cpuK\x06NtQ"
        + place
        + b"\x89ccollections\nOrderedDict\n)RtRu."
    )
    head = [pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {})]
    values = np.arange(6, dtype="<f4").tobytes()
    return b"".join([*head, opcodes, pickle.dumps(["a"], 2), struct.pack("<q", 6), values])


def test_tensors_are_read_without_torch():
    tensors = efficientnet.read_tensors(io.BytesIO(torch_file()))
    np.testing.assert_array_equal(tensors["weight"], np.arange(6).reshape(2, 3).T)


@pytest.mark.parametrize("missing", [4, 16, 26])
def test_a_file_that_ends_early_is_refused(missing):
    with pytest.raises(ValueError, match="ends early.*Received: .* bytes where .* should follow$"):
        efficientnet.read_tensors(io.BytesIO(torch_file()[:-missing]))


@pytest.mark.parametrize(
    "place",
    [
        b"K\x01K\x03K\x02\x86K\x01K\x03\x86",  # its last value lies one behind the storage
        b"K\x00K\x03K\x03\x86K\x01K\x03\x86",
        b"K\x00K\x03K\x02\x86K\x01K\x04\x86",
        b"J\xff\xff\xff\xffK\x03K\x02\x86K\x01K\x03\x86",  # an offset of -1
        b"K\x05K\x03K\x02\x86J\xff\xff\xff\xffK\x03\x86",  # a stride of -1
        b"K\x00J\xff\xff\xff\xff\x85K\x01\x85",  # a shape of (-1,)
        b"K\x00K\x03K\x02\x86K\x01\x85",  # one stride for two dimensions
        b"G\x00\x00\x00\x00\x00\x00\x00\x00K\x03\x85K\x01\x85",  # an offset of 0.0
    ],
)
def test_a_tensor_never_reaches_beyond_its_storage(place):
    with pytest.raises(ValueError, match="'weight' reaches beyond.*Received: .* 6 values$"):
        efficientnet.read_tensors(io.BytesIO(torch_file(place)))


def test_weights_with_a_flipped_bit_are_refused(tmp_path, monkeypatch):
    good = torch_file()
    path = tmp_path / "flipped_weights" / efficientnet.FILE
    path.parent.mkdir(parents=True)
    (tmp_path / "flipped_weights" / "__init__.py").touch()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 4]))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(efficientnet, "PACKAGE", "flipped_weights")
    monkeypatch.setattr(efficientnet, "SHA256", hashlib.sha256(good).hexdigest())
    with pytest.raises(ValueError, match=r"damaged.*Received: .*\.pth of .* with the sha256 \w+$"):
        efficientnet.load()


def test_a_pickle_that_would_run_code_is_refused(tmp_path):
    class Hostile:
        def __reduce__(self):
            return (open, (str(tmp_path / "written"), "w"))

    head = b"".join(pickle.dumps(part, 2) for part in (0, 1001, {}))
    with pytest.raises(pickle.UnpicklingError, match="open"):
        efficientnet.read_tensors(io.BytesIO(head + pickle.dumps(Hostile(), 2)))
    assert not (tmp_path / "written").exists()


def test_without_the_package_the_message_names_it(monkeypatch):
    monkeypatch.setattr(efficientnet, "PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="imagenet.*Received: "):
        efficientnet.load()
