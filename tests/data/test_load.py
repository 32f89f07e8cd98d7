import os
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_genai import data
from keras_genai.data import DataError
from keras_genai.data.arrays import ArraySource
from keras_genai.data.pipeline import data_errors

RNG = np.random.default_rng(0)
X = RNG.integers(0, 256, (20, 8, 8, 1), dtype=np.uint8)
Y = np.arange(20) % 4


def test_names():
    assert data.names() == ["glyphs", "digits", "shapes", "pydocs", "stdlib", "tastes"]


def test_importing_data_imports_no_models():
    code = (
        "import sys, keras_genai.data; print([m for m in sys.modules if m.startswith("
        "('keras_genai.models', 'keras_genai.zoo', 'tensorflow_datasets'))])"
    )
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100
    )
    assert child.stdout.strip() == "[]"


def test_arrays_with_labels_and_the_last_part_as_validation():
    dataset = data.load(X, Y, validation_split=0.25)
    assert dataset.name == "array"
    train, validation = dataset.train.arrays(), dataset.validation.arrays()
    np.testing.assert_array_equal(train["image"], X[:15])
    np.testing.assert_array_equal(validation["image"], X[15:])
    np.testing.assert_array_equal(validation["label"], Y[15:])
    assert validation["label"].dtype == np.int32
    assert dataset.train.num_classes == dataset.validation.num_classes == 4
    assert dataset.test is None


def test_gather_and_arrays_agree():
    source = data.load(X, Y).train
    items = source.gather(tf.constant([3, 19], tf.int64))
    np.testing.assert_array_equal(items["image"], X[[3, 19]])
    assert items["label"].numpy().tolist() == [3, 3]
    np.testing.assert_array_equal(source.arrays(2)["image"], X[:2])


def test_images_are_no_constants_of_the_graph():
    source = data.load(np.repeat(X, 100, axis=0)).train
    graph = tf.function(source.gather).get_concrete_function(tf.TensorSpec((4,), tf.int64))
    assert graph.graph.as_graph_def().ByteSize() < 5000


def test_arrays_are_not_copied():
    x = X.copy()
    source = data.load(x, validation_split=0.5).train
    assert np.shares_memory(source.arrays()["image"], x)
    read = tf.function(source.gather)
    x[3] = 7  # what is read is the user's own memory
    assert (read(tf.constant([3], tf.int64))["image"].numpy() == 7).all()


def test_a_mapped_file_is_read_item_by_item(tmp_path):
    np.save(tmp_path / "x.npy", X)
    mapped = np.load(tmp_path / "x.npy", mmap_mode="r")
    source = ArraySource({"image": mapped}, name="mapped")
    read = tf.function(source.gather)(tf.constant([7, 2], tf.int64))["image"]
    np.testing.assert_array_equal(read, X[[7, 2]])
    part = source.split(0.5, seed=0)[1]
    np.testing.assert_array_equal(part.gather(tf.constant([9], tf.int64))["image"], X[[19]])
    assert source.fingerprint == ArraySource({"image": X}, name="held").fingerprint


def test_the_fingerprint_is_that_of_the_content():
    first = data.load(X, Y).train.fingerprint
    assert len(first) == 12
    assert data.load(X.copy(), list(Y)).train.fingerprint == first
    other = X.copy()
    other[19, 7, 7, 0] ^= 1
    assert data.load(other, Y).train.fingerprint != first
    assert data.load(X, Y[::-1]).train.fingerprint != first
    assert data.load(X).train.fingerprint != first


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (Y[:5], r"one label an image\. Received: 20 images and 5 labels"),
        (Y.astype("float32"), r"y\.astype\('int32'\).*Received: labels of dtype float32"),
        (Y - 1, r"from 0 on\. Received: label -1 at index 0"),
        (np.eye(4)[Y], r"np\.argmax\(y, axis=-1\).*Received: labels of shape \(20, 4\)"),
        (["a"] * 20, r"integers.*Received: labels of dtype <U1"),
    ],
)
def test_bad_labels_are_refused(y, message):
    with pytest.raises(DataError, match=message):
        data.load(X, y)


def test_a_column_of_labels_is_taken_as_keras_gives_it():
    assert data.load(X, Y[:, None]).train.arrays()["label"].shape == (20,)


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 0.001, 0.99])
def test_splits_that_leave_a_part_empty_are_refused(fraction):
    with pytest.raises(DataError, match=r"Received: .*validation_split="):
        data.load(X, validation_split=fraction)


def test_npz_with_official_parts(tmp_path):
    np.savez(tmp_path / "own.npz", x_train=X, y_train=Y, x_test=X[:3] // 2, y_test=Y[:3])
    dataset = data.load(tmp_path / "own.npz")
    assert dataset.name == "own"
    np.testing.assert_array_equal(dataset.train.arrays()["image"], X)
    np.testing.assert_array_equal(dataset.test.arrays()["image"], X[:3] // 2)
    np.testing.assert_array_equal(dataset.test.arrays()["label"], Y[:3])
    assert dataset.validation is None


def test_npz_and_npy_in_other_forms(tmp_path):
    np.savez(tmp_path / "a.npz", images=X, labels=Y)
    np.savez(tmp_path / "b.npz", anything=X)
    np.save(tmp_path / "c.npy", X.astype("float32") / 127.5 - 1)
    assert data.load(str(tmp_path / "a.npz")).train.num_classes == 4
    assert data.load(tmp_path / "b.npz").train.num_classes is None
    read = data.load(tmp_path / "c.npy", value_range=(-1, 1)).train.arrays()["image"]
    np.testing.assert_array_equal(read, X)
    np.savez(tmp_path / "d.npz", up=X, down=X)
    with pytest.raises(DataError, match=r"x_train.*Received: keys \['down', 'up'\]"):
        data.load(tmp_path / "d.npz")


def test_pickles_and_damaged_files_are_refused(tmp_path):
    np.save(tmp_path / "p.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "q.npz").write_bytes(b"PK half a file")
    for name in ("p.npy", "q.npz"):
        with pytest.raises(DataError, match=rf"cannot be read.*Received: .*{name}"):
            data.load(tmp_path / name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("glyhps", r"Did you mean 'glyphs'\?.*`\[text\]`\. Received: 'glyhps'"),
        ("mnits", r"Did you mean 'mnist'\?.*Received: 'mnits'"),
        ("no/such/folder", r"file or folder.*Received: 'no/such/folder'"),
        ("To be, or not to be", r"never content: pass text as a list.*Received: 'To be"),
        ("long\n" * 5000, r"pass text as a list.*Received: 'long"),
        (None, r"a name, a path, an array.*Received: None"),
        ({"image": 1}, r"a name, a path.*Received: \{'image': 1\}"),
        (["a", 1], r"strings only\. Received: int at index 1"),
        ((i for i in range(3)), r"read only once.*Received: <generator"),
        ([], r"There are no images.*Received:"),
    ],
)
def test_what_is_no_data_is_refused(source, message):
    with pytest.raises(DataError, match=message):
        data.load(source)


def test_files_of_other_kinds_are_refused(tmp_path):
    for name, hint in (
        ("a.pdf", r"\.npz, \.npy, \.txt, \.py, \.csv"),
        ("a.png", "Name the folder"),
    ):
        (tmp_path / name).write_text("x")
        with pytest.raises(DataError, match=rf"{hint}.*Received: .*{name}"):
            data.load(tmp_path / name)


def test_data_of_another_modality_is_refused():
    with pytest.raises(DataError, match=r"image data, and 'pydocs' is text.*'glyphs'.*Received:"):
        data.load("pydocs", modality="image")
    with pytest.raises(DataError, match=r"text data.*'pydocs' or 'stdlib'\. Received: 'digits'"):
        data.load("digits", modality="text")
    for source in ([], [1, 2], X):
        with pytest.raises(DataError, match=r"a list of strings, at least one.*Received: "):
            data.load(source, modality="text")


def test_one_shape_for_all_parts_and_one_line(tmp_path, capsys):
    np.savez(tmp_path / "own.npz", x_train=X, x_test=X[:3])
    dataset = data.load(tmp_path / "own.npz", image_shape=(4, 4, 3), validation_split=0.5)
    for part in (dataset.train, dataset.validation, dataset.test):
        assert part.image_shape == (4, 4, 3)
    assert capsys.readouterr().out.count("\n") == 1


def test_alpha_is_laid_over_white_unless_it_is_asked_for():
    rgba = np.full((3, 5, 5, 4), 0, np.uint8)
    assert (data.load(rgba).train.arrays()["image"] == 255).all()
    assert data.load(rgba, image_shape=(5, 5, 4)).train.image_shape == (5, 5, 4)


def test_a_dataset_or_a_source_goes_through():
    dataset = data.load(X)
    assert data.load(dataset).train is dataset.train
    assert data.load(dataset.train).train is dataset.train


# Streams.


@pytest.mark.parametrize(
    "dataset",
    [
        tf.data.Dataset.from_tensor_slices(X).batch(8),
        tf.data.Dataset.from_tensor_slices((X, Y)).batch(8),
        tf.data.Dataset.from_tensor_slices({"image": X, "label": Y, "id": Y}).batch(8),
        tf.data.Dataset.from_tensor_slices((X / 255.0).astype("float32")).batch(8),
    ],
)
def test_streams_become_dicts_of_uint8(dataset):
    source = data.load(dataset).train
    assert source.image_shape == (8, 8, 1)
    assert (source.exact, source.num_batches) == (False, 3)
    arrays = source.arrays()
    assert set(arrays) <= {"image", "label"}
    np.testing.assert_array_equal(arrays["image"], X)
    if "label" in arrays:
        np.testing.assert_array_equal(arrays["label"], Y)


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            tf.data.Dataset.from_tensor_slices(X[..., 0]).batch(2),
            r"batches of grey ones `\.map\(lambda image: image\[\.\.\., None\]\)`",
        ),
        (tf.data.Dataset.from_tensor_slices(X), r"\.batch\(64\).*Received: .*\(8, 8, 1\)"),
        (tf.data.Dataset.from_tensor_slices({"x": X}).batch(2), r"'image'.*keys \['x'\]"),
        (tf.data.Dataset.from_tensor_slices(X).batch(2).take(0), r"is empty\. Received:"),
        (tf.data.Dataset.from_tensor_slices(X / 1.0).batch(2), r"\[0, 1\].*Received: values"),
        (tf.data.Dataset.from_tensor_slices((X, X)).batch(2), r"integers \(B,\).*Received:"),
        (tf.data.Dataset.from_tensor_slices((X, Y / 2)).batch(2), r"integers \(B,\).*Received:"),
        (tf.data.Dataset.from_tensor_slices((X, Y, Y)).batch(2), r"\(image, label\).*Received:"),
    ],
)
def test_streams_that_do_not_fit_are_refused(dataset, message):
    with pytest.raises(DataError, match=message):
        data.load(dataset)


def test_a_stream_that_goes_wrong_later_stops_at_that_batch():
    x = (X / 255.0).astype("float32")
    x[13, 2, 2, 0] = np.nan
    source = data.load(tf.data.Dataset.from_tensor_slices(x).batch(4)).train
    batches = iter(source.dataset)
    for _ in range(3):
        next(batches)
    with pytest.raises(DataError, match=r"must be finite.*NaN or Inf in 1 of 4.*first at index 1$"):
        with data_errors():
            next(batches)


def test_streams_have_no_length_and_no_split():
    dataset = tf.data.Dataset.from_tensor_slices(X).batch(8)
    source = data.load(dataset).train
    with pytest.raises(DataError, match=r"steps_per_epoch.*Received"):
        len(source)
    with pytest.raises(DataError, match=r"take` and `skip`.*Received: validation_split=0\.5"):
        data.load(dataset, validation_split=0.5)
    endless = data.load(dataset.repeat()).train
    assert endless.num_batches is None
    assert len(endless.arrays(30)["image"]) == 30
    with pytest.raises(DataError, match=r"never ends.*Received"):
        endless.arrays()


# Text.


def test_a_text_file(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffeins\r\nzwei ü\r\rdrei\n".encode())
    source = data.load(tmp_path / "a.txt", modality="text").train
    assert source.modality == "text"
    assert source.text == "eins\nzwei ü\n\ndrei\n"
    assert source.documents == [source.text]
    assert source.name == "a.txt"


def test_a_text_is_cut_at_the_share_of_its_characters(tmp_path):
    (tmp_path / "a.txt").write_text("0123456789" * 10)
    dataset = data.load(tmp_path / "a.txt", validation_split=0.1)
    assert dataset.train.text + dataset.validation.text == "0123456789" * 10
    assert len(dataset.validation.text) == 10


def test_a_list_of_texts_is_cut_between_documents():
    texts = ["a" * 50, "b" * 30, "c" * 10, "d" * 10]
    dataset = data.load(texts, validation_split=0.2)
    assert dataset.train.documents == texts[:2]
    assert dataset.validation.documents == texts[2:]
    assert dataset.train.text == "a" * 50 + "\n" + "b" * 30
    assert dataset.train.arrays(1)["text"].tolist() == ["a" * 50]
    for texts in (["x" * 9, "y"], ["x", "y" * 9]):
        for share in (0.1, 0.5, 0.9):
            parts = data.load(texts, validation_split=share)
            assert (parts.train.documents, parts.validation.documents) == (texts[:1], texts[1:])
    # The document at the border stays: training keeps at least 8 of 10 characters.
    parts = data.load(["x" * 7, "y", "z", "z"], validation_split=0.2)
    assert parts.validation.documents == ["z", "z"]
    with pytest.raises(DataError, match="at least one character. Received: 1 empty"):
        data.load(["a text", ""], validation_split=0.1)


def test_a_folder_of_texts(tmp_path, capsys):
    for i, name in enumerate(("b.py", "a.txt", ".hidden.txt", "c.md")):
        (tmp_path / name).write_text(f"text {i}")
    for modality in ("text", None):
        source = data.load(tmp_path, modality=modality).train
        assert source.documents == ["text 1", "text 0"]
        assert f"{tmp_path.name}: 1 other file left aside." in capsys.readouterr().out
    os.remove(tmp_path / "a.txt")
    assert data.load(tmp_path / "b.py").train.documents == ["text 0"]
    os.remove(tmp_path / "b.py")
    with pytest.raises(DataError, match=r"must hold \.txt or \.py files.*Received: none in"):
        data.load(tmp_path, modality="text")


def test_a_tf_data_dataset_of_strings():
    texts = ["eins\n", "zwei ü", "drei\0"]
    strings = tf.data.Dataset.from_tensor_slices(texts)
    labels = tf.data.Dataset.range(3)
    forms = (strings, strings.batch(2), tf.data.Dataset.zip((strings, labels)),
             strings.map(lambda text: {"text": text}))  # fmt: skip
    for dataset in forms:
        source = data.load(dataset, modality="text").train
        assert source.documents == texts and source.exact
    assert data.load(strings, validation_split=0.4).validation.documents == ["drei\0"]
    with pytest.raises(DataError, match=r"take\(n\).*Received: .*never ends"):
        data.load(strings.repeat())
    broken = tf.data.Dataset.from_tensor_slices([b"ok", b"caf\xe9"])
    with pytest.raises(DataError, match="UTF-8.*Received: byte 0xe9 at offset 3 of text 1 of"):
        data.load(broken)


def test_bad_text_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9 noir")
    message = r"UTF-8.*latin1.*gb18030.*Received: byte 0xe9 at offset 3 of .*latin\.txt"
    with pytest.raises(DataError, match=message):
        data.load(tmp_path / "latin.txt")
    with pytest.raises(DataError, match=r"surrogate.*Received: '\\ud83d' at character 2 of text 1"):
        data.load(["whole 🙂", "a \ud83d"])
    (tmp_path / "empty.txt").write_text("")
    for source in (tmp_path / "empty.txt", ["", ""]):
        with pytest.raises(DataError, match=r"at least one character\. Received: \d empty"):
            data.load(source)


def test_the_fingerprint_of_text_knows_where_documents_end():
    prints = {data.load(t).train.fingerprint for t in (["ab", "c"], ["a", "bc"], ["ab\nc"])}
    assert len(prints) == 3


def test_a_folder_of_texts_in_parts(tmp_path):
    for part, content in (("train", "a"), ("test", "b"), ("val", "c")):
        (tmp_path / part).mkdir()
        (tmp_path / part / "0.txt").write_text(content)
    parts = data.load(tmp_path)
    assert [x.documents for x in (parts.train, parts.validation, parts.test)] == [
        ["a"],
        ["c"],
        ["b"],
    ]
    (tmp_path / "plays").mkdir()
    (tmp_path / "test" / "0.txt").unlink()
    with pytest.raises(DataError, match=r"the parts train.*Received: none in .*test"):
        data.load(tmp_path, modality="text")
