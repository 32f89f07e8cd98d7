import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_genai.data import DataError, images
from keras_genai.data.arrays import ArraySource
from keras_genai.data.stream import StreamSource

RNG = np.random.default_rng(0)
COLOUR = RNG.integers(0, 256, (6, 8, 8, 3), dtype=np.uint8)


def source_of(x):
    return ArraySource({"image": x, "label": np.arange(len(x), dtype="int32")}, name="mine")


def test_there_and_back_gives_every_value():
    x = np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1)
    inside = images.to_model(x)
    assert inside.dtype == tf.float32
    assert float(inside[0, 0, 0, 0]) == -1.0
    assert float(inside[0, 15, 15, 0]) == 1.0
    np.testing.assert_array_equal(images.to_uint8(inside), x)


def test_to_uint8_rounds_and_clips():
    x = tf.constant([-2.0, -1.0, 0.0, 0.002, 0.9999, 3.0])
    assert images.to_uint8(x).numpy().tolist() == [0, 0, 128, 128, 255, 255]


def test_uint8_passes_untouched():
    assert images.validate_images(COLOUR) is COLOUR


@pytest.mark.parametrize(
    ("x", "value_range", "expected"),
    [
        (np.array([0.0, 0.5, 1.0]), None, [0, 128, 255]),
        (np.array([0.0, 0.25, 1.0], "float16"), None, [0, 64, 255]),
        (np.array([-1.0, 0.0, 1.0]), (-1, 1), [0, 128, 255]),
        (np.array([0.0, 127.4, 255.0]), (0, 255), [0, 127, 255]),
        (np.array([0, 7, 255]), None, [0, 7, 255]),
        (np.array([False, True, True]), None, [0, 255, 255]),
        (np.array([0, 1, 1], "uint8"), (0, 1), [0, 255, 255]),
    ],
)
def test_other_dtypes_are_converted_with_rounding(x, value_range, expected):
    result = images.validate_images(x.reshape(1, 3, 1, 1), value_range)
    assert result.dtype == np.uint8
    assert result.ravel().tolist() == expected


def test_rank_3_is_grey():
    grey = COLOUR[..., 0]
    np.testing.assert_array_equal(images.validate_images(grey), grey[..., None])


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.zeros((0, 8, 8, 3)), r"no images.*Received: ndarray of shape \(0, 8, 8, 3\)"),
        (np.zeros((4, 64)), r"reshape\(-1, height.*Received: ndarray of shape \(4, 64\)"),
        (np.zeros((8, 8, 3)), r"x\[None\].*Received: ndarray of shape \(8, 8, 3\)"),
        (np.zeros((2, 3, 8, 9)), r"np.transpose\(x, \(0, 2, 3, 1\)\).*Received:"),
        (np.zeros((2, 8, 8, 7)), r"C is 1 \(grey\), 3.*Received:"),
        (np.zeros((2, 5, 8, 8, 3)), r"shape \(N, H, W, C\).*Received:"),
        (np.full((1, 2, 2, 1), 254.6), r"\[0, 1\].*value_range=\(0, 255\).*Received:.*254\.6"),
        (np.full((1, 2, 2, 1), -0.5), r"value_range=\(-1, 1\).*Received: values from -0\.5 to"),
        (np.full((1, 2, 2, 1), 300), r"int64 must.*\[0, 255\].*Received: values from 300 to 300"),
        (np.array([["a", "b"]]), r"array of numbers.*Received:"),
        ([COLOUR[0], COLOUR[0, :4]], r"Images of several sizes belong in a folder.*Received:"),
    ],
)
def test_what_could_only_be_guessed_at_is_refused(x, message):
    with pytest.raises(DataError, match=message):
        images.validate_images(x)


def test_value_range_is_checked_too():
    x = np.full((1, 2, 2, 1), 1.5)
    with pytest.raises(DataError, match=r"in \[-1, 1\].*Received: values from 1\.5"):
        images.validate_images(x, (-1, 1))
    for bad in ((1, 0), 255, (0,), "ab"):
        with pytest.raises(DataError, match=r"two numbers \(low, high\).*Received:"):
            images.validate_images(x, bad)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_not_finite_is_counted_and_named(bad):
    x = np.zeros((9000, 2, 2, 1), "float32")
    x[[5000, 8999], 1, 0, 0] = bad
    with pytest.raises(DataError, match=r"Received: NaN or Inf in 2 of 9000.*index 5000"):
        images.validate_images(x)


def test_constant_images_and_bytes_of_0_and_1_are_mentioned(capsys):
    images.validate_images(np.full((2, 4, 4, 1), 9, np.uint8))
    assert "constant 9: there is nothing to learn" in capsys.readouterr().out
    images.validate_images(np.eye(5, dtype=np.uint8)[None])
    assert "value_range=(0, 1)" in capsys.readouterr().out


def test_adapt_leaves_what_fits_and_says_what_it_does_once(capsys):
    source = source_of(COLOUR)
    assert images.adapt(source, (8, 8, 3)) is source
    assert capsys.readouterr().out == ""
    adapted = images.adapt(source_of(COLOUR[..., :1]), (4, 6, 3))
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["mine: images resized from 8x8 to 4x6, grey to colour."]
    assert adapted.image_shape == (4, 6, 3)
    assert adapted.num_classes == 6
    assert len(adapted) == 6


@pytest.mark.parametrize("size", [(4, 4), (5, 3), (16, 13)])
def test_resizing_equals_that_of_pillow(size):
    adapted = images.adapt(source_of(COLOUR), (*size, 3))
    result = adapted.gather(tf.constant([4, 1], tf.int64))
    assert result["label"].numpy().tolist() == [4, 1]
    for row, number in enumerate((4, 1)):
        picture = Image.fromarray(COLOUR[number])
        expected = np.asarray(picture.resize(size[::-1], Image.Resampling.BILINEAR), int)
        assert np.abs(result["image"][row].numpy() - expected).max() <= 1
    np.testing.assert_array_equal(adapted.arrays(2)["image"][1], result["image"][1])


def test_grey_becomes_colour_and_alpha_lies_over_white(capsys):
    grey = images.adapt(source_of(COLOUR[..., :1]), (8, 8, 3)).arrays()["image"]
    np.testing.assert_array_equal(grey, np.repeat(COLOUR[..., :1], 3, axis=-1))
    rgba = np.full((2, 1, 1, 4), 100, np.uint8)
    rgba[:, 0, 0, 3] = 0, 51
    result = images.adapt(source_of(rgba), (1, 1, 3)).arrays()["image"]
    assert result[0, 0, 0].tolist() == [255] * 3
    assert result[1, 0, 0].tolist() == [224] * 3  # 100 * 0.2 + 255 * 0.8
    assert "laid over white" in capsys.readouterr().out


def test_colour_for_a_grey_model_names_the_line_to_write():
    with pytest.raises(DataError, match=r"rgb_to_grayscale.*Received: .*\(8, 8, 3\) for .*\(8, 8"):
        images.adapt(source_of(COLOUR), (8, 8, 1))


@pytest.mark.parametrize("bad", [(8, 8), (8, 8, 2), (0, 8, 1), (8.0, 8, 1), "8x8", 8])
def test_impossible_shapes_are_refused(bad):
    with pytest.raises(DataError, match=r"\(height, width, channels\).*Received: image_shape="):
        images.adapt(source_of(COLOUR), bad)


def test_streams_are_adapted_batch_by_batch():
    stream = StreamSource(tf.data.Dataset.from_tensor_slices(COLOUR).batch(4))
    adapted = images.adapt(stream, (4, 4, 3))
    expected = images.adapt(source_of(COLOUR), (4, 4, 3)).arrays()["image"]
    np.testing.assert_array_equal(adapted.arrays()["image"], expected)
    assert adapted.num_batches == 2
