import os

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_genai import data
from keras_genai.data import DataError, images
from keras_genai.data.pipeline import eval_batches

RNG = np.random.default_rng(0)


def picture(path, size=(8, 8), mode="RGB", value=None):
    channels = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    pixels = RNG.integers(0, 256, (*size, *channels), dtype=np.uint8)
    if value is not None:
        pixels[:] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels


def test_classes_come_from_subfolders_sorted_by_name(tmp_path):
    for i, name in enumerate(("zebra", "ähre", "big cat")):
        for k in range(3):
            picture(tmp_path / name / f"{k} ü.png", value=10 * i + k)
    source = data.load(str(tmp_path)).train
    assert source.class_names == ["big cat", "zebra", "ähre"]
    assert source.num_classes == 3
    assert source.image_shape == (8, 8, 3)
    items = source.gather(tf.constant([8, 0, 3], tf.int64))
    assert items["label"].numpy().tolist() == [2, 0, 1]
    assert items["image"].numpy()[:, 0, 0, 0].tolist() == [12, 20, 0]
    assert items["image"].shape == (3, 8, 8, 3)


def test_pixels_are_those_of_the_files_in_every_format(tmp_path):
    expected = {name: picture(tmp_path / name) for name in ("a.png", "b.bmp", "C.PNG")}
    assert picture(tmp_path / "d.jpg", value=77) is not None
    assert picture(tmp_path / "e.gif", mode="L", value=200) is not None
    source = data.load(tmp_path).train
    assert source.num_classes is None
    names = [os.path.basename(file) for file in source.files]
    read = dict(zip(names, source.arrays()["image"], strict=True))
    for name, pixels in expected.items():
        np.testing.assert_array_equal(read[name], pixels)
    assert np.abs(read["d.jpg"].astype(int) - 77).max() <= 2
    assert (read["e.gif"] == 200).all()


def test_transparent_lies_over_white_and_16_bits_are_scaled(tmp_path):
    picture(tmp_path / "a.png", mode="RGBA", value=(100, 100, 100, 51))
    deep = np.full((8, 8), 128 * 256 + 5, np.uint16)
    Image.fromarray(deep).save(tmp_path / "b.png")
    result = data.load(tmp_path).train.arrays()["image"]
    assert np.unique(result[0]).tolist() == [224]
    assert np.unique(result[1]).tolist() == [128]


def test_photographs_are_read_upright(tmp_path):
    pixels = np.zeros((40, 80, 3), np.uint8)
    pixels[:, 40:] = 255  # white on the right, which is the bottom once turned
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees clockwise
    Image.fromarray(pixels).save(tmp_path / "a.jpg", exif=exif, quality=95)
    result = data.load(tmp_path, image_shape=(8, 4, 1)).train.arrays()["image"][0, ..., 0]
    assert result[:3].max() < 20
    assert result[5:].min() > 235


def test_large_jpegs_shrink_as_pillow_shrinks_them(tmp_path):
    smooth = np.add.outer(np.arange(400), np.arange(600)) // 4
    Image.fromarray(smooth.astype(np.uint8)).save(tmp_path / "a.jpg", quality=95)
    result = data.load(tmp_path).train.arrays()["image"][0, ..., 0]
    whole = Image.fromarray(smooth.astype(np.uint8))
    expected = np.asarray(whole.resize((64, 64), Image.Resampling.BILINEAR), int)
    assert np.abs(result - expected).max() <= 4


@pytest.mark.parametrize(
    ("sizes", "mode", "shape"),
    [
        ([(20, 30)] * 3, "L", (20, 30, 1)),
        ([(20, 30)] * 3, "RGB", (20, 30, 3)),
        ([(20, 30), (20, 31)], "RGB", (64, 64, 3)),
        ([(200, 200)] * 2, "L", (64, 64, 1)),
    ],
)
def test_the_shape_is_that_of_the_images_if_they_agree_on_a_small_one(tmp_path, sizes, mode, shape):
    for i, size in enumerate(sizes):
        picture(tmp_path / f"{i}.png", size, mode)
    source = data.load(tmp_path).train
    assert source.image_shape == shape
    assert source.arrays()["image"].shape[1:] == shape


def test_one_colour_image_makes_colour(tmp_path):
    picture(tmp_path / "a.png", mode="L")
    picture(tmp_path / "b.png", mode="RGB")
    assert data.load(tmp_path).train.image_shape == (8, 8, 3)


def test_parts(tmp_path):
    for part, count in (("train", 4), ("val", 2), ("test", 3)):
        for i in range(count):
            picture(tmp_path / part / "ab"[i % 2] / f"{i}.png")
    dataset = data.load(tmp_path)
    assert [len(p) for p in (dataset.train, dataset.validation, dataset.test)] == [4, 2, 3]
    assert dataset.test.class_names == ["a", "b"]
    assert dataset.test.arrays()["label"].tolist() == [0, 0, 1]


def test_train_beside_other_vehicles_is_a_class(tmp_path):
    for name in ("bus", "car", "train"):
        picture(tmp_path / name / "1.png")
    dataset = data.load(tmp_path)
    assert dataset.train.class_names == ["bus", "car", "train"]
    assert dataset.validation is None


def test_validation_split_takes_files_of_all_classes(tmp_path):
    for i in range(40):
        picture(tmp_path / "ab"[i % 2] / f"{i}.png")
    first, again = (data.load(tmp_path, validation_split=0.25) for _ in range(2))
    assert (len(first.train), len(first.validation)) == (30, 10)
    assert set(first.train.files).isdisjoint(first.validation.files)
    assert first.validation.files == again.validation.files
    assert len(set(first.validation.arrays()["label"].tolist())) == 2
    other = data.load(tmp_path, validation_split=0.25, seed=1)
    assert other.validation.files != first.validation.files


def test_hidden_and_other_files_and_loops(tmp_path, capsys):
    picture(tmp_path / "a" / "1.png")
    picture(tmp_path / "a" / ".thumb.png")
    picture(tmp_path / ".cache" / "2.png")
    (tmp_path / "a" / "notes.txt").write_text("hello")
    (tmp_path / "Readme.md").write_text("hello")
    (tmp_path / "a" / "loop").symlink_to(tmp_path, target_is_directory=True)
    source = data.load(tmp_path, modality="image").train
    assert [os.path.basename(file) for file in source.files] == ["1.png"]
    assert capsys.readouterr().out.splitlines() == [f"{tmp_path.name}: 2 other files left aside."]


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"\.png, \.jpg.*Received: no image in .*"):
        data.load(tmp_path)


def test_a_damaged_file_is_named_at_the_start_and_in_the_middle(tmp_path):
    picture(tmp_path / "good.png")
    (tmp_path / "bad.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"cannot be read.*Received: .*bad\.png"):
        data.load(tmp_path)
    whole = (tmp_path / "good.png").read_bytes()
    (tmp_path / "bad.png").write_bytes(whole[: len(whole) // 2])
    source = data.load(tmp_path).train  # its header is sound
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"cannot be read.*bad\.png"):
        list(eval_batches(source, 2))


def test_folders_are_adapted_to_grey_and_to_colour(tmp_path, capsys):
    pixels = picture(tmp_path / "a.png")
    source = data.load(tmp_path).train
    grey = images.adapt(source, (8, 8, 1))
    expected = np.asarray(Image.fromarray(pixels).convert("L"))
    np.testing.assert_array_equal(grey.arrays()["image"][0, ..., 0], expected)
    assert "read as 8x8 grey" in capsys.readouterr().out
    with pytest.raises(DataError, match=r"Received: image_shape=\(8, 8, 4\)"):
        images.adapt(source, (8, 8, 4))


def test_the_fingerprint_is_that_of_names_and_sizes(tmp_path):
    for name in "ab":
        picture(tmp_path / f"{name}.png")
    first = data.load(tmp_path).train.fingerprint
    assert data.load(tmp_path, image_shape=(4, 4, 3)).train.fingerprint == first
    picture(tmp_path / "c.png")
    assert data.load(tmp_path).train.fingerprint != first
