"""Differentiable augmentation against NumPy, image by image."""

import numpy as np
import pytest
import tensorflow as tf

from keras_genai.layers import augmentation, check_policy, diff_augment

RNG = np.random.default_rng(0)
POLICIES = ["color", "translation", "cutout", "color,translation,cutout"]
ALL = POLICIES[-1]


def some_images(n=6, shape=(8, 12, 3)):
    return RNG.uniform(-1, 1, (n, *shape)).astype("float32")


@pytest.mark.parametrize("channels", [1, 3])
def test_colours_are_those_of_the_formulas(channels):
    x = some_images(shape=(5, 7, channels))
    brightness, saturation, contrast = RNG.uniform(-2, 2, (3, len(x))).astype("float32")
    expected = []
    for image, b, s, c in zip(x, brightness, saturation, contrast, strict=True):
        image = image + b
        grey = image.mean(-1, keepdims=True)
        image = grey + s * (image - grey)
        expected.append(image.mean() + c * (image - image.mean()))
    changed = augmentation.recolor(tf.constant(x), brightness, saturation, contrast)
    np.testing.assert_allclose(changed, expected, atol=1e-5)


def test_colours_of_no_strength_change_nothing():
    x = some_images()
    none, all_of_it = np.zeros(len(x), "float32"), np.ones(len(x), "float32")
    np.testing.assert_allclose(
        augmentation.recolor(tf.constant(x), none, all_of_it, all_of_it), x, atol=1e-6
    )  # fmt: skip
    flat = augmentation.recolor(tf.constant(x), none, none, none)
    np.testing.assert_allclose(flat, np.broadcast_to(x.mean((1, 2, 3), keepdims=True), x.shape),
                               atol=1e-6)  # fmt: skip


def test_translation_is_a_roll_with_padding():
    moves = [(0, 0), (1, 0), (0, -2), (-3, 2), (7, 11), (-8, 0), (20, 0)]
    x = some_images(len(moves))
    expected = []
    for image, (down, right) in zip(x, moves, strict=True):
        room = 24
        padded = np.pad(image, [(room, room), (room, room), (0, 0)])
        rolled = np.roll(padded, (down, right), (0, 1))
        expected.append(rolled[room:-room, room:-room])
    down, right = tf.constant(moves, "int32")[:, 0], tf.constant(moves, "int32")[:, 1]
    np.testing.assert_array_equal(augmentation.translate(x, down, right), expected)
    np.testing.assert_array_equal(expected[0], x[0])


@pytest.mark.parametrize(("side", "half"), [(8, 4), (7, 4), (5, 3)])
def test_cutout_takes_half_of_each_side(side, half):
    places = [(0, 0), (1, 2), (-2, side - 1), (side, 0), (-half, 0)]
    x = some_images(len(places), (side, side, 2))
    expected = x.copy()
    for image, (top, left) in zip(expected, places, strict=True):
        image[max(top, 0) : max(top + half, 0), max(left, 0) : max(left + half, 0)] = 0
    top, left = tf.constant(places, "int32")[:, 0], tf.constant(places, "int32")[:, 1]
    np.testing.assert_array_equal(augmentation.cut_out(x, top, left), expected)
    assert (expected[0] == 0).mean() == half**2 / side**2
    np.testing.assert_array_equal(expected[-2:], x[-2:])  # wholly outside


def test_draws_have_the_ranges_of_the_paper():
    n, side = 4096, 16
    white = np.ones((n, side, side, 1), "float32")
    brightness = diff_augment(white, "color", (1, 2)).numpy()[:, 0, 0, 0] - 1.0
    np.testing.assert_allclose([brightness.min(), brightness.max()], [-0.5, 0.5], atol=0.01)
    assert abs(brightness.mean()) < 0.02
    dot = np.zeros_like(white)
    dot[:, 8, 8] = 1.0
    moved = diff_augment(dot, "translation", (1, 2)).numpy()
    *places, _ = np.nonzero(moved)[1:]
    for axis in places:  # an eighth of 16 either way, all as often
        numbers, counts = np.unique(axis, return_counts=True)
        assert numbers.tolist() == [6, 7, 8, 9, 10]
        assert counts.min() > 0.17 * n and counts.max() < 0.23 * n
    # The centre of the hole is uniform on the 17 places of 0 to 16: this many rows are left of it.
    rows = np.mean([min(centre + 4, 16) - max(centre - 4, 0) for centre in range(17)])
    gone = 1.0 - diff_augment(white, "cutout", (1, 2)).numpy()
    assert abs(gone.mean() - (rows / 16) ** 2) < 0.005
    assert gone.mean((1, 2, 3)).max() == 0.25
    assert gone.any(0).all(), "any pixel can go"


def test_colour_factors_have_the_ranges_of_the_paper():
    """Of two pixels, red and black, contrast moves the greys apart, saturation the channels."""
    x = np.zeros((4096, 1, 2, 3), "float32")
    x[:, 0, 0, 0] = 1.0
    changed = diff_augment(x, "color", (3, 4)).numpy()
    contrast = 3 * np.ptp(changed.mean(-1), axis=(1, 2))
    np.testing.assert_allclose([contrast.min(), contrast.max()], [0.5, 1.5], atol=0.01)
    saturation = (changed[:, 0, 0, 0] - changed[:, 0, 0, 1]) / contrast
    np.testing.assert_allclose([saturation.min(), saturation.max()], [0.0, 2.0], atol=0.01)


@pytest.mark.parametrize("policy", POLICIES)
def test_gradients_are_the_transpose(policy):
    """All changes are affine: <grad <w, T(x)>, d> = <w, T(x + d) - T(x)> for any d."""
    x, d, w = some_images(), some_images(), some_images()
    images = tf.constant(x)
    with tf.GradientTape() as tape:
        tape.watch(images)
        score = tf.reduce_sum(w * diff_augment(images, policy, (5, 6)))
    gradient = tape.gradient(score, images).numpy()
    change = (diff_augment(x + d, policy, (5, 6)) - diff_augment(x, policy, (5, 6))).numpy()
    for i in range(len(x)):  # image by image
        np.testing.assert_allclose(np.vdot(gradient[i], d[i]), np.vdot(w[i], change[i]), atol=2e-4)


@pytest.mark.parametrize("policy", POLICIES)
def test_each_image_has_its_own_draw(policy):
    x = np.repeat(some_images(1, (16, 16, 3)), 8, axis=0)
    first = diff_augment(x, policy, (1, 2)).numpy()
    assert len(np.unique(first.reshape(8, -1), axis=0)) >= 6
    np.testing.assert_array_equal(first, diff_augment(x, policy, (1, 2)))
    assert not np.array_equal(first, diff_augment(x, policy, (1, 3)))
    others = np.concatenate([x[:1], some_images(7, (16, 16, 3))])
    np.testing.assert_allclose(diff_augment(others, policy, (1, 2))[0], first[0], atol=1e-6)
    # A change has the same draw whatever else is done.
    if policy == "translation":
        both = diff_augment(np.ones_like(x), "translation,cutout", (1, 2))
        moved = diff_augment(np.ones_like(x), "translation", (1, 2))
        assert (both.numpy() <= moved.numpy()).all()


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_is_kept(dtype):
    x = some_images(4, (32, 32, 3))
    changed = diff_augment(tf.cast(x, dtype), ALL, (1, 2))
    assert changed.dtype == dtype
    exact = diff_augment(tf.cast(tf.cast(x, dtype), "float32"), ALL, (1, 2))
    np.testing.assert_allclose(tf.cast(changed, "float32"), exact, atol=0.02)


def test_a_graph_of_unknown_batch_gives_the_same():
    x = some_images(4, (9, 14, 3))
    signature = [tf.TensorSpec((None, 9, 14, 3)), tf.TensorSpec((2,), "int32")]
    graph = tf.function(lambda x, seed: diff_augment(x, ALL, seed), signature)
    np.testing.assert_allclose(graph(x, (1, 2)), diff_augment(x, ALL, (1, 2)), atol=1e-6)


def test_xla_makes_the_same_changes():
    """The draws of XLA are others than TensorFlow's, so the changes get theirs from outside."""

    def changes(x, factors, moves):
        x = augmentation.translate(augmentation.recolor(x, *factors), *moves)
        return augmentation.cut_out(x, *moves)

    x = tf.constant(some_images(4))
    values = (tf.unstack(tf.random.stateless_uniform((3, 4), (1, 2))),
              tf.unstack(tf.constant([[-1, 0, 1, 2], [2, 1, 0, -1]])))  # fmt: skip
    np.testing.assert_allclose(
        tf.function(changes, jit_compile=True)(x, *values), changes(x, *values), atol=1e-6
    )
    compiled = tf.function(lambda x, seed: diff_augment(x, ALL, seed), jit_compile=True)
    first, again, other = (compiled(x, tf.constant([1, n])) for n in (2, 2, 3))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.1


@pytest.mark.parametrize("policy", ["colour", "color,", "color translation", "cutout;color", " "])
def test_unknown_policies_are_refused(policy):
    with pytest.raises(ValueError, match=r'color, translation, cutout.*Received: augment="?'):
        check_policy(policy)


@pytest.mark.parametrize("policy", ["", *POLICIES, "cutout,color"])
def test_known_policies_are_taken(policy):
    assert check_policy(policy) == policy
