"""Looking inside models: the numbers that the pictures show."""

import functools
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images, tiny
from matplotlib import _pylab_helpers
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image

from keras_genai import data, explore, pictures, zoo
from keras_genai.explore import encoded, figures, networks, walks
from keras_genai.models.base import network
from keras_genai.models.image_model import ImageModel

SHAPE = (16, 16, 1)


class Codes(ImageModel):
    """Its latents are the first pixels, times `scale`; all others are black when decoded."""

    def __init__(self, scale=(1.0, 1.0), **kwargs):
        super().__init__((4, 4, 1), seed=0, **kwargs)
        self.scale, self.latent_dim = np.array(scale, "float32"), len(scale)

    def build_networks(self):
        """None."""

    def encode(self, x):
        flat = self.in_batches(lambda x: tf.reshape(x, (-1, 16)), x)
        return flat[:, : self.latent_dim] * self.scale

    def decode(self, z):
        rest = -tf.ones((len(z), 16 - self.latent_dim))
        return tf.reshape(tf.concat([z * self.scale, rest], 1), (-1, 4, 4, 1))


@network
def encoder(kernel):
    """Images (B, H, W, C) to the sum of each channel of their convolution, and another output."""
    image = keras.Input((4, 4, kernel.shape[2]))
    conv = keras.layers.Conv2D(kernel.shape[3], kernel.shape[0], padding="same", use_bias=False)
    maps = conv(image)
    net = keras.Model(image, [keras.ops.sum(maps, (1, 2)), keras.ops.sum(maps**2, (1, 2))])
    conv.set_weights([kernel])
    return net


class Sums(ImageModel):
    """Has an encoder that is known to the last weight, and no latent space."""

    def __init__(self, kernel, **kwargs):
        super().__init__((4, 4, kernel.shape[2]), seed=0, **kwargs)
        self.kernel = kernel

    def build_networks(self):
        self.encoder = encoder(self.kernel)


def noise(n, channels=1):
    return np.random.default_rng(0).integers(0, 256, (n, 4, 4, channels)).astype("uint8")


def built(name, **overrides):
    classes = {"num_classes": 3} if zoo.info(name).task == "labels" else {}
    model = tiny(name, image_shape=SHAPE, **classes, **overrides)
    model.need_networks()
    return model


def sheet_of(figure, axes=0):
    """The pixels that an axes shows, and the names at its rows and columns."""
    axes = figure.axes[axes]
    rows, columns = (
        [t.get_text() for t in ts] for ts in (axes.get_yticklabels(), axes.get_xticklabels())
    )
    return np.asarray(axes.images[0].get_array()), rows, columns


def grid_of(rows):
    """What a sheet of images (R, K, H, W, C) has to be."""
    sheet = pictures.grid(rows.reshape(-1, *rows.shape[2:]), columns=rows.shape[1], gap=figures.GAP)
    return sheet.squeeze(-1) if sheet.shape[-1] == 1 else sheet


@pytest.fixture
def decoded(monkeypatch):
    """The latents that are decoded, in a list."""
    seen, decode = [], explore.LatentSpace.decode

    def spy(self, z, labels=None):
        seen.append(np.array(z))
        return decode(self, z, labels)

    monkeypatch.setattr(explore.LatentSpace, "decode", spy)
    return seen


@pytest.fixture(autouse=True)
def no_window():
    yield
    assert _pylab_helpers.Gcf.get_num_fig_managers() == 0


# Ways ------------------------------------------------------------------------------------------


def test_arcs_have_equal_angles_and_keep_the_norm():
    first, second = np.random.default_rng(0).normal(size=(2, 5, 7))
    first, second = (3 * x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second))
    arc = explore.along_arc(first, second, 6)
    np.testing.assert_allclose(np.linalg.norm(arc, axis=-1), 3, rtol=1e-12)
    cosines = (arc[:, 1:] * arc[:, :-1]).sum(-1) / 9
    whole = np.arccos((first * second).sum(-1) / 9)
    np.testing.assert_allclose(np.arccos(cosines), np.repeat(whole[:, None] / 5, 5, 1), rtol=1e-9)
    np.testing.assert_allclose(arc[:, 0], first, rtol=1e-12)
    np.testing.assert_allclose(arc[:, -1], second, rtol=1e-12)


def test_arcs_between_different_norms_and_along_one_direction():
    arc = explore.along_arc(np.array([[2.0, 0.0]]), np.array([[0.0, 6.0]]), 3)
    np.testing.assert_allclose(arc[0], [[2, 0], [4 / 2**0.5, 4 / 2**0.5], [0, 6]], atol=1e-12)
    arc = explore.along_arc(np.array([[1.0, 1.0]]), np.array([[3.0, 3.0]]), 3)
    np.testing.assert_allclose(arc[0], [[1, 1], [2, 2], [3, 3]])


@pytest.mark.parametrize(
    ("second", "what"),
    [([-1.0, 0.0], "a latent and its negative"), ([0.0, 0.0], "a latent of zeros")],
)
def test_arcs_that_do_not_exist(second, what):
    with pytest.raises(ValueError, match=f"spherical=False.*Received: {what}"):
        explore.along_arc(np.array([[1.0, 0.0]]), np.array([second]), 3)


def test_lines_have_equal_steps():
    line = explore.along_line(np.zeros((1, 2)), np.array([[4.0, 8.0]]), 5)
    np.testing.assert_allclose(line[0], [[0, 0], [1, 2], [2, 4], [3, 6], [4, 8]])


@pytest.mark.parametrize(("name", "arc"), [("gan", True), ("vae", False)])
def test_interpolation_takes_the_way_that_suits_the_model(name, arc, decoded):
    model = built(name)
    ends = explore.LatentSpace(model).draw(6, seed=1)
    explore.interpolate(model, ends[:3], ends[3:], steps=4)
    explore.interpolate(model, rows=3, seed=1, steps=4, spherical=not arc)  # the same ends
    way, other = explore.along_line, explore.along_arc
    for z, along in zip(decoded, (other, way) if arc else (way, other), strict=True):
        np.testing.assert_allclose(z, along(ends[:3], ends[3:], 4).reshape(12, -1), rtol=1e-5)


def test_interpolation_of_images_has_them_at_its_ends(tmp_path):
    x = np.zeros((4, 4, 4, 1), "uint8")
    x[2:, 0, 0] = 255
    figure = explore.interpolate(Codes(), x[:2], x[2:], steps=6, path=tmp_path / "way.png")
    sheet, _, columns = sheet_of(figure)
    rows = np.repeat(x[:2, None], 8, axis=1)
    rows[:, :, 0, 0, 0] = [0, 0, 51, 102, 153, 204, 255, 255]
    np.testing.assert_array_equal(sheet, grid_of(rows))
    assert columns == ["image", "0", "0.2", "0.4", "0.6", "0.8", "1", "image"]
    with Image.open(tmp_path / "way.png") as file:
        FigureCanvasAgg(figure).draw()
        np.testing.assert_array_equal(file, figure.canvas.buffer_rgba())


def test_gif_has_a_frame_for_each_step(tmp_path):
    z = np.array([[-1.0, -1.0], [1.0, 1.0]])
    explore.interpolate(Codes(), z[:1], z[1:], steps=70, path=tmp_path / "way.gif")
    with Image.open(tmp_path / "way.gif") as file:
        assert file.n_frames == 70
        greys = []
        for frame in range(70):
            file.seek(frame)
            pixels = np.asarray(file.convert("L"))
            greys.append(pixels[pixels.shape[0] * 5 // 16, pixels.shape[1] * 5 // 16])
    np.testing.assert_array_equal(greys, np.rint(np.linspace(0, 255, 70)))
    assert [path.name for path in tmp_path.iterdir()] == ["way.gif"]


def test_sweeps_change_one_dimension_each():
    start, values = np.array([10.0, 20.0, 30.0]), np.arange(6.0).reshape(2, 3)
    expected = [
        [[0, 20, 30], [3, 20, 30]],
        [[10, 1, 30], [10, 4, 30]],
        [[10, 20, 2], [10, 20, 5]],
    ]
    np.testing.assert_array_equal(walks.sweeps(start, values), expected)


def test_traversal_shows_the_most_active_dimensions_first(decoded):
    model = Codes(scale=(0.1, 0.0, 0.3, 0.2))
    model.log_weights = None  # has a prior
    start = np.zeros((1, 4))
    figure = explore.traverse(model, start, rows=3, steps=3, reach=2.0)
    _, rows, columns = sheet_of(figure)
    assert [row.split()[0] for row in rows] == ["z[2]", "z[3]", "z[0]"]
    assert columns == ["-2", "0", "+2"]
    np.testing.assert_array_equal(
        decoded[0].reshape(4, 3, 4), walks.sweeps(start[0], np.repeat([[-2], [0], [2]], 4, 1))
    )
    # Of 16 pixels one is -0.6, 0 and 0.6, as grey levels: rounded 51, 128 and 204.
    assert rows[0].endswith(f"±{np.std([51, 128, 204]) / 4:.1f}")


def test_traversal_goes_as_far_as_the_codes_of_images_do(decoded):
    model, x = Codes(), np.zeros((4, 4, 4, 1), "uint8")
    x[:2, 0, 0], x[:, 0, 1] = 255, [[0], [102], [153], [255]]
    codes = model.encode(x)
    explore.traverse(model, images=x, steps=3, reach=1.0)
    of_first = codes[:, 0].mean() + codes[:, 0].std() * np.array([-1, 0, 1])
    z = decoded[0].reshape(2, 3, 2)
    np.testing.assert_allclose(z[0, :, 0], of_first, atol=1e-6)
    np.testing.assert_allclose(z[0, :, 1], codes[:, 1].mean(), atol=1e-6)


def test_arithmetic_adds_means():
    z = {
        "a": [[0.5, 0.0], [0.7, 0.2]],
        "b": [[0.4, 0.4]],
        "c": [[0.0, 0.5], [0.2, 0.5], [0.1, 0.5]],
    }
    figure = explore.arithmetic(Codes(), *z.values())
    sheet, rows, columns = sheet_of(figure)
    assert rows[-1] == "mean" and columns == ["A (2)", "B (1)", "C (3)", "A - B + C"]
    last = explore.LatentSpace(Codes()).decode([[0.6, 0.1], [0.4, 0.4], [0.1, 0.5], [0.3, 0.2]])
    np.testing.assert_array_equal(sheet[3 * 6 :], grid_of(last[None]))
    assert (sheet[2:6, 2:6] == 128).all(), "A has two members, which stand above their mean"
    members = explore.LatentSpace(Codes()).decode(z["a"])
    np.testing.assert_array_equal(sheet[8:12, 2:6], members[0, ..., 0])


def test_ways_between_classes_are_the_models(tmp_path):
    model = built("cgan")
    figure = explore.between_classes(model, 0, 2, steps=4, rows=2, seed=5, path=tmp_path / "b.gif")
    expected = np.stack([model.between(0, 2, 4, seed) for seed in (5, 6)])
    np.testing.assert_array_equal(sheet_of(figure)[0], grid_of(expected))
    with Image.open(tmp_path / "b.gif") as file:
        assert file.n_frames == 4


# Encoders --------------------------------------------------------------------------------------


def test_active_units_are_those_whose_mean_varies():
    x = np.full((200, 4, 4, 1), 128, "uint8")
    x[::2, 0, 0], x[::2, 0, 1], x[::2, 0, 2] = 255, 255, 255
    figure = explore.active_units(Codes(scale=(0.1, 1.0, 0.3, 1.0)), x)
    (axes,) = figure.axes
    half = (255 - 128) / 127.5 / 2  # the standard deviation of the pixels
    heights = [bar.get_height() for bar in axes.patches]
    np.testing.assert_allclose(heights, np.array([1.0, 0.09, 0.01, 0.0]) * half**2, rtol=1e-4)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "0", "3"]
    assert axes.get_title() == "2 of 4 units are active"


def test_map_of_two_latents_has_them_at_their_places():
    x = noise(40)
    model = Codes(scale=(2.0, 1.0))
    codes, labels = model.encode(x), np.arange(40) % 3
    figure = explore.latent_map(model, x, labels)
    points, thumbnails, grid = figure.axes
    for number, drawn in enumerate(points.collections):
        np.testing.assert_allclose(drawn.get_offsets(), codes[labels == number], rtol=1e-6)
    assert points.get_xlabel() == "z[0]"
    extents = np.array([image.get_extent() for image in thumbnails.images])  # left right bottom top
    middles = extents.reshape(-1, 2, 2).mean(-1)
    nearest = np.abs(middles[:, None] - codes).max(-1).argmin(1)
    np.testing.assert_allclose(middles, codes[nearest], atol=1e-5)
    for image, number in zip(thumbnails.images, nearest, strict=True):
        np.testing.assert_array_equal(image.get_array(), x[number, ..., 0])
    apart = np.abs(middles[:, None] - middles) / (extents[0, 1::2] - extents[0, ::2])
    assert (apart.max(-1) + np.eye(len(middles)) > 0.999).all(), "one lies over another"
    middle = np.median(codes, axis=0)[None]  # of 15 quantiles the eighth
    at = slice(2 + 7 * 6, 6 + 7 * 6)
    expected = explore.LatentSpace(model).decode(middle)[0, ..., 0]
    np.testing.assert_array_equal(grid.images[0].get_array()[at, at], expected)


def test_projection_finds_the_plane_that_codes_lie_in():
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(50, 2)) * (3, 1)
    directions = np.linalg.qr(rng.normal(size=(5, 2)))[0].T
    points, names = encoded.project(plane @ directions + 7)
    distances = [np.linalg.norm(x[:, None] - x, axis=-1) for x in (points, plane)]
    np.testing.assert_allclose(*distances, atol=1e-9)
    shares = plane.var(0) @ np.ones(2), points.var(0)
    assert names[0] == f"component 1 ({shares[1][0] / shares[0]:.0%} of variance)"
    one, _ = encoded.project(plane[:, :1])  # one latent dimension
    np.testing.assert_allclose(np.abs(one[:, 0]), np.abs(plane[:, 0] - plane[:, 0].mean()))
    assert not one[:, 1].any()


def test_tsne_keeps_clusters_together():
    pytest.importorskip("sklearn")
    codes = np.random.default_rng(0).normal(size=(40, 5)) + 20 * (np.arange(40) % 2)[:, None]
    points, names = encoded.project(codes, "tsne")
    assert names == ["t-SNE 1", "t-SNE 2"]
    distances = np.linalg.norm(points[:, None] - points, axis=-1) + 1e9 * np.eye(40)
    assert (distances.argmin(1) % 2 == np.arange(40) % 2).all()


def test_tsne_without_its_package_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.manifold", None)
    with pytest.raises(ImportError, match=r"keras_genai\[explore\].*Received: .*sklearn"):
        encoded.project(np.zeros((9, 3)), "tsne")


def test_reconstructions_stand_below_their_images():
    model, x = built("vae"), images(3)
    sheet, rows, columns = sheet_of(explore.reconstructions(model, x))
    again = model.reconstruct(x)
    difference = np.abs(x.astype(int) - again)
    np.testing.assert_array_equal(sheet, grid_of(np.stack([x, again, difference])))
    assert rows == ["images", "reconstructed", "difference"]
    assert columns[0] == f"{difference[0].mean() / 2.55:.1f} %"


# Networks --------------------------------------------------------------------------------------


def kernel(channels=1, maps=2, seed=0):
    return np.random.default_rng(seed).normal(size=(3, 3, channels, maps)).astype("float32")


def test_gradients_agree_with_finite_differences():
    net, rng = encoder(kernel(2)), np.random.default_rng(1)
    seeing = keras.Model(net.inputs, net.outputs[1])  # of squares: not linear
    x, step = rng.uniform(-1, 1, (2, 4, 4, 2)).astype("float32"), 1e-2
    found = networks.gradients(seeing, x, [], [0, 1])  # outputs N H W C
    for place in np.ndindex(4, 4, 2):
        shift = np.zeros((4, 4, 2), "float32")
        shift[place] = step
        slope = (seeing([x + shift]) - seeing([x - shift])).numpy() / (2 * step)
        np.testing.assert_allclose(found[(..., *place)].T, slope, atol=2e-3, rtol=1e-3)


def test_saliency_of_a_linear_network_is_its_weights():
    model, x = Sums(kernel(3)), noise(2, 3)
    model.need_networks()
    linear = keras.Model(model.encoder.inputs, model.encoder.outputs[0])
    # A pixel in the middle meets each weight once.
    weights = model.kernel.sum((0, 1))  # C maps
    for smooth in (0, 3):
        options = {"smooth": smooth, "seed": 0}
        one = networks.smooth_gradients(linear, tf.cast(x, "float32"), [], [1], **options)
        np.testing.assert_allclose(one[:, 1:3, 1:3], np.abs(weights[:, 1]).max(), rtol=1e-5)
        both = networks.smooth_gradients(linear, tf.cast(x, "float32"), [], [0, 1], **options)
        expected = np.sqrt((weights**2).sum(1)).max()
        np.testing.assert_allclose(both[:, 1:3, 1:3], expected, rtol=1e-5)


def test_saliency_shows_images_maps_and_outputs():
    model, x = Sums(kernel()), noise(2)
    sheet, rows, columns = sheet_of(explore.saliency(model, x, output=1))
    assert rows == ["image", "gradient", "both"]
    sums = model.encoder(tf.cast(x, "float32") / 127.5 - 1)[0].numpy()[:, 1]
    assert columns == [f"{value:.2f}" for value in sums]
    np.testing.assert_array_equal(sheet[2:6, 2:6], np.repeat(x[0], 3, -1))
    weight = np.abs(networks.gradients(
        keras.Model(model.encoder.inputs, model.encoder.outputs[0]), tf.cast(x, "float32"), [], [1]
    ))[0, 0, ..., 0]  # fmt: skip
    expected = figures.coloured(weight / weight.max(), "inferno", 0, 1)
    np.testing.assert_allclose(sheet[8:12, 2:6], expected, atol=1)
    figure = explore.saliency(model, x)
    assert figure.axes[0].get_title() == "encoder: all 2 outputs, gradient"


def test_of_a_grid_of_vectors_the_one_in_the_middle_is_looked_at():
    model = built("vq_vae")  # gives 4x4 vectors of size 4
    assert networks._outputs_of(model.encoder, None) == [*range((2 * 4 + 2) * 4, (2 * 4 + 3) * 4)]
    figure = explore.saliency(model, images(1))
    assert figure.axes[0].get_title() == "encoder: all 4 outputs in the middle, gradient"


def test_feature_maps_are_the_layers_outputs(tmp_path):
    weights = np.zeros((3, 3, 1, 5), "float32")
    weights[1, 1, 0] = [1, 2, 0, 0.5, -1]
    x = noise(1)
    figure = explore.feature_maps(Sums(weights), x, path=tmp_path / "maps.png")
    np.testing.assert_array_equal(figure.axes[0].images[0].get_array(), x[0, ..., 0])
    maps = np.moveaxis((x[0] / np.float32(127.5) - 1) * weights[1, 1, 0], -1, 0)
    largest = np.abs(maps).max()
    expected = pictures.grid(figures.coloured(maps, "RdBu_r", -largest, largest), 3, gap=1)
    np.testing.assert_allclose(figure.axes[1].images[0].get_array(), expected, atol=1)
    with Image.open(tmp_path / "maps.png") as file:
        assert file.size == tuple((figure.get_size_inches() * figures.DPI).astype(int))


@pytest.mark.parametrize("name", ["cgan", "sngan"])
def test_networks_that_are_told_the_class_see_it(name):
    model = built(name, **({"projection": True, "num_classes": 3} if name == "sngan" else {}))
    x = tf.cast(images(2), "float32") / 127.5 - 1
    inputs = networks._inputs(model, model.discriminator, x, [0, 2])
    classes = tf.one_hot([0, 2], 3)
    told = model.judge(x, classes) if name == "cgan" else model.judge(x, x, classes)[0]
    np.testing.assert_allclose(model.discriminator(inputs), told, rtol=1e-5)
    explore.saliency(model, images(2), labels=[0, 2])
    explore.feature_maps(model, images(1), label=1)
    with pytest.raises(ValueError, match="image and its class.*`labels=`.*Received: no label"):
        explore.saliency(model, images(2))


# Models ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["gan", "dcgan", "sngan", "infogan", "vae_gan"])
def test_models_sample_what_they_draw_of_noise(name):
    model, seed = built(name), tf.constant([3, 4])
    size = explore.LatentSpace(model).size
    assert size == (model.noise_dim if name == "infogan" else model.latent_dim)
    noise = tf.random.stateless_normal((5, size), seed)
    np.testing.assert_array_equal(model.sample(5, seed), model.draw(noise))


@pytest.mark.parametrize("name", ["vae", "cvae", "vae_gan", "dcgan", "infogan", "acgan"])
def test_a_model_is_looked_at_from_all_sides(name):
    model = built(name)
    labels = {"labels": [1, 0]} if model.takes_labels else {}
    assert sheet_of(explore.interpolate(model, rows=2, steps=3, **labels))[0].shape == (38, 56)
    label = {"label": 2} if model.takes_labels else {}
    assert len(sheet_of(explore.traverse(model, rows=4, steps=3, **label))[1]) == 4
    z = explore.LatentSpace(model).draw(4)
    assert len(sheet_of(explore.arithmetic(model, z[:1], z[1:3], z[3:], **label))[1]) == 4
    assert len(explore.feature_maps(model, images(1), 1, **label).axes) == 3
    seen = explore.saliency(model, images(2), smooth=2, **labels)
    assert sheet_of(seen)[0].shape == (56, 38, 3)


def test_images_are_of_the_part_that_was_held_out():
    x = images(20)
    parts = data.load(x, np.arange(20) % 3, validation_split=0.25)
    model = built("vae")
    found, labels = explore.held_out(model, parts, 4)
    held = parts.validation.arrays()
    places = [np.flatnonzero((held["image"] == image).all((1, 2, 3)))[0] for image in found]
    assert len({*places}) == 4
    np.testing.assert_array_equal(labels, held["label"][places])
    found, labels = explore.held_out(model, x)
    assert found.shape == x.shape and labels is None


def test_a_saved_model_is_loaded(tmp_path):
    model = built("gan")
    model.save(tmp_path / "gan.keras")
    figures = [explore.interpolate(m, rows=1) for m in (model, str(tmp_path / "gan.keras"))]
    np.testing.assert_array_equal(*(sheet_of(figure)[0] for figure in figures))


class Conditional(Codes):
    """An autoencoder that is told the class, which shifts its code."""

    from_data = ("image_shape", "num_classes")

    def __init__(self):
        super().__init__()
        self.num_classes = 3

    def encode(self, x, labels):
        return super().encode(x) - np.asarray(labels, "float32")[:, None] / 4

    def draw(self, z, classes):
        return self.decode(z + tf.cast(tf.argmax(classes, 1), "float32")[:, None] / 4)


def test_an_encoder_that_is_told_the_class():
    x, labels = noise(6), np.arange(6) % 3
    there = explore.LatentSpace(Conditional())
    again = there.decode(there.encode(x, labels), labels)
    np.testing.assert_array_equal(again[:, 0, :2], x[:, 0, :2])
    explore.interpolate(there.model, x[:3], x[3:], labels=[0, 1, 2], steps=2)
    with pytest.raises(ValueError, match="pass labels, .*Received: labels=None"):
        explore.active_units(there.model, x)


@pytest.mark.parametrize(
    ("function", "arguments", "options", "wanted"),
    [
        ("interpolate", (2, 2), {}, "labels"),
        ("traverse", (1,), {}, "label="),
        ("traverse", (), {"images": 6}, "label="),
        ("arithmetic", (1, 2, 3), {}, "label="),
        ("latent_map", (3,), {}, "labels"),
        ("reconstructions", (2,), {}, "labels"),
    ],
)
def test_images_are_encoded_with_no_class_that_was_not_given(function, arguments, options, wanted):
    """Class 0, 1, 2 in turn would be wrong for nearly all, and nothing would tell."""
    model, given = built("cvae"), [images(n) for n in arguments]
    options = {name: images(n) for name, n in options.items()}
    with pytest.raises(ValueError, match=f"with their class: pass {wanted}.*Received: label"):
        getattr(explore, function)(model, *given, **options)


# Errors ----------------------------------------------------------------------------------------


@functools.cache
def vae():
    return built("vae")


def vae_and(function, *arguments, **options):
    return lambda: getattr(explore, function)(vae(), *arguments, **options)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: explore.traverse(tiny("vae")), "not built yet"),
        (lambda: explore.traverse(tiny("char_rnn")), "models of images.*Received: CharRNN"),
        (lambda: explore.traverse(Sums(kernel())), "no vectors.*Received: `Sums`"),
        (lambda: explore.interpolate(built("vq_vae"), images(2), images(2)), "numbers of vectors"),
        (lambda: explore.traverse(Codes()), r"no distribution.*images\[:1\], images=images"),
        (lambda: explore.interpolate(Codes()), "no distribution.*give images or latents"),
        (lambda: explore.latent_map(built("gan"), images(5)), "an encoder.*Received: `gan`"),
        (lambda: explore.interpolate(built("gan"), images(2), images(2)), "an encoder"),
        (lambda: explore.reconstructions(built("gan"), images(5)), "Only autoencoders"),
        (vae_and("interpolate", images(2), images(3)), "as many.*Received: 2 and 3"),
        (vae_and("interpolate", images(2)), "two ends.*Received: one"),
        (vae_and("interpolate", np.ones((2, 5)), np.ones((2, 5))), r"\(N, 4\).*Received: \(2, 5\)"),
        (vae_and("interpolate", steps=1), "at least 2. Received: steps=1"),
        (vae_and("interpolate", path="way.jpg"), "ending in .png or .gif.*path='way.jpg'"),
        (vae_and("interpolate", labels=1), "leave out `labels`"),
        (vae_and("traverse", images(2)), "one start.*Received: 2"),
        (vae_and("traverse", rows=0), "`rows` is a positive whole number. Received: rows=0"),
        (vae_and("traverse", images=images(1)), "at least 2. Received: 1"),
        (vae_and("reconstructions", images(30)), "1 to 20 images.*Received: 30"),
        (vae_and("active_units", images(1)), "at least 2 images.*Received: 1"),
        (vae_and("active_units", images(3, (8, 8, 1))), r"held_out.*Received: \(8, 8, 1\)"),
        (vae_and("latent_map", images(5), [1, 2]), r"each of the 5 images.*shape \(2,\)"),
        (vae_and("latent_map", images(5), method="umap"), "one of pca, tsne. Received: 'umap'"),
        (vae_and("between_classes", 0, 1), "takes labels.*Received: `vae`"),
        (vae_and("saliency", images(1), network="encode"), "Did you mean 'encoder'"),
        (vae_and("saliency", images(1), output=4), "0 to 3. Received: output=4"),
        (vae_and("feature_maps", images(2)), "1 to 1 images.*Received: 2"),
        (vae_and("feature_maps", images(1), "conv2d_999"), "Did you mean 'conv.*Received: layer="),
        (vae_and("feature_maps", images(1), 2), "from number 0, are.*Received: layer=2"),
        (lambda: explore.feature_maps(built("gan"), images(1)), "are none.*Received: layer=0"),
    ],
)  # fmt: skip
def test_mistakes_are_explained(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}") as caught:
        call()
    assert "Received: " in str(caught.value)


def test_an_unpublished_discriminator_is_not_looked_at():
    model = built("dcgan")
    model.entry = "dcgan.mnist"
    with pytest.raises(ValueError, match="not published.*Received: network=None"):
        explore.saliency(model, images(1))
