"""Models that make images of images: what they show, how they are measured, used and advised."""

import json

import keras
import numpy as np
import pytest
from contract_data import eager, images, measured_run, tiny
from PIL import Image

from keras_genai import cli, data, measure, metrics, zoo
from keras_genai.callbacks import health
from keras_genai.data.images import to_model, to_uint8
from keras_genai.zoo import published

QUIET = {"batch_size": 8, "verbose": 0}
ONE_STEP = {"steps_per_epoch": 1, "epochs": 1, "run_dir": False, **QUIET}
HELD = images(40, seed=1)


def fitted(name, x=None, **overrides):
    """A model after one step."""
    model = eager(name, **overrides)
    model.fit(images() if x is None else x, **ONE_STEP)
    return model


@pytest.fixture(scope="module")
def plain():
    return fitted("autoencoder")


@pytest.fixture(scope="module")
def denoiser():
    return fitted("denoising_autoencoder", noise="salt_and_pepper", noise_level=0.2)


@pytest.fixture(scope="module")
def parts():
    return data.Dataset("blobs", data.load(images()).train, test=data.load(HELD).train)


# generate and preview ----------------------------------------------------------------------------


def test_one_image_in_is_one_image_out(plain):
    x = images(3)
    expected = plain.generate(x)
    for one in (x[0], x[0, ..., 0], x[0] / 255.0):
        made = plain.generate(one)
        assert made.shape == (16, 16, 1)
        np.testing.assert_allclose(made.astype(int), expected[0], atol=1)
    np.testing.assert_array_equal(plain.generate(x[..., 0]), expected)


def test_images_of_another_size_are_refused(plain):
    with pytest.raises(ValueError, match=r"shape \(16, 16, 1\): resize.*Received: .*\(8, 8, 1\)"):
        plain.generate(images(2, (8, 8, 1)))


def test_a_number_of_images_is_refused(plain):
    with pytest.raises(ValueError, match="takes images, not a number.*Received: 4$"):
        plain.generate(4)


def test_a_preview_shows_images_beside_what_is_made_of_them(plain):
    assert plain.preview_columns == 8
    pairs = plain.preview(seed=3).reshape(20, 2, 16, 16, 1)
    first = images()[:30]
    found = [int(np.flatnonzero((first == x).all((1, 2, 3)))[0]) for x in pairs[:, 0]]
    assert len(set(found)) == 20
    np.testing.assert_array_equal(pairs[:, 1], plain.generate(pairs[:, 0]))


def test_a_denoiser_shows_what_it_was_given(denoiser):
    assert denoiser.preview_columns == 6
    clean, noisy, made = denoiser.preview().reshape(10, 3, 16, 16, 1).swapaxes(0, 1)
    changed = clean != noisy
    assert 0.1 < changed.mean() < 0.25 and set(np.unique(noisy[changed])) == {0, 255}
    np.testing.assert_array_equal(made, denoiser.generate(noisy))
    other = denoiser.preview(seed=1).reshape(10, 3, 16, 16, 1)
    assert not np.array_equal(other[:, 1], noisy)


def test_the_images_shown_are_those_of_the_last_training_and_saved(tmp_path):
    model = fitted("autoencoder")
    model.fit(images(7, seed=5), **{**ONE_STEP, "batch_size": 7})
    shown = model.preview()[::2]
    assert {x.tobytes() for x in shown} <= {x.tobytes() for x in images(7, seed=5)}
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded.preview(), model.preview())
    kept = to_uint8(model.examples.images.numpy().astype("float16"))
    np.testing.assert_array_equal(kept, np.resize(images(7, seed=5), kept.shape))


def test_an_untrained_model_has_no_images_to_show():
    model = tiny("autoencoder", image_shape=(16, 16, 1))
    with pytest.raises(ValueError, match=r"from the first fit\(\) on.*Received: "):
        model.preview()
    black = np.zeros((8, 16, 16, 1), "uint8")
    black[0, 0, 0] = 255
    model.begin(data.load(black).train)
    assert model.examples.known, "black is no missing image"


def test_a_run_shows_no_reconstructions_twice(tmp_path):
    model = eager("autoencoder")
    model.fit(images(), **{**ONE_STEP, "run_dir": tmp_path / "run"})
    files = {path.name for path in (tmp_path / "run" / "samples").iterdir()}
    assert files == {"epoch_0000.png", "epoch_0001.png"}
    assert (tmp_path / "run" / "samples.gif").exists()


# Measuring ---------------------------------------------------------------------------------------


def test_outputs_are_measured_against_the_images(plain, parts, tmp_path):
    table = measure(plain, parts)
    made = plain.generate(HELD)
    assert [row.name for row in table] == ["psnr", "ssim"]
    for name in ("psnr", "ssim"):
        values = getattr(metrics, name)(HELD, made)
        assert table[name] == pytest.approx(values.mean(), rel=1e-3)
    row = table.rows[0]
    assert (row.samples, row.features, row.resize, row.split) == (40, "pixels", "none", "test")
    assert row.standard_error == pytest.approx(metrics.psnr(HELD, made).std() / 40**0.5, rel=1e-2)
    assert measure(plain, parts, num_samples=10).rows[0].samples == 10
    table.save_picture(tmp_path / "measure.png")
    assert [*table.subject.panels()] == ["real", "made of it"]


def test_a_denoiser_is_measured_against_what_it_was_given(denoiser, parts):
    table = measure(denoiser, parts)
    assert [row.name for row in table] == ["psnr", "ssim", "psnr_input", "ssim_input"]
    # A fifth of the pixels is wrong: half of these by what is missing to white, half by the value.
    x = HELD / 255.0
    error = 0.1 * np.mean((1 - x) ** 2 + x**2, axis=(1, 2, 3))
    assert table["psnr_input"] == pytest.approx(-10 * np.log10(error).mean(), abs=0.2)
    assert [*table.subject.panels()] == ["real", "given", "made of it"]
    assert measure(denoiser, parts).rows == table.rows
    assert measure(denoiser, parts, seed=1)["psnr_input"] != table["psnr_input"]


def test_images_given_back_exactly_have_a_finite_mean(plain, parts, monkeypatch):
    monkeypatch.setattr(plain, "generate", lambda x, seed=None: x)
    assert measure(plain, parts, ["psnr"])["psnr"] == pytest.approx(58.92, abs=0.01)


def test_what_does_not_apply_is_refused(plain, parts):
    for names, word in ((["psnr_input"], "restores"), (["FD"], "psnr, ssim")):
        with pytest.raises(ValueError, match=rf"{word}.*Received: "):
            measure(plain, parts, names)
    with pytest.raises(ValueError, match=r"not by features.*Received: features='mnist'"):
        measure(plain, parts, features="mnist")
    small = fitted("autoencoder", images(shape=(8, 8, 1)))
    small_parts = data.load(images(shape=(8, 8, 1)), validation_split=0.2)
    assert [row.name for row in measure(small, small_parts)] == ["psnr"]
    with pytest.raises(ValueError, match="or none.*Received: autoencoder, gan"):
        zoo.compare(["autoencoder", "gan"], "digits")


# Advice ------------------------------------------------------------------------------------------


def advice(model, monkeypatch, **options):
    monkeypatch.setattr(health, "FIRST_STEP", 1)
    monkeypatch.setattr(health, "BUDGET", float("inf"))
    history = model.fit(images(), **{**ONE_STEP, **options})
    return [sentence for sentences in history.advice.values() for sentence in sentences]


@pytest.mark.parametrize("name", ["autoencoder", "denoising_autoencoder"])
def test_outputs_that_are_alike_are_noticed(name, monkeypatch):
    (sentence,) = advice(eager(name, learning_rate=0.0), monkeypatch)
    assert "whatever the image" in sentence and "generator" not in sentence


def test_a_stack_is_not_judged_before_its_last_stage(monkeypatch, capsys):
    assert advice(eager("stacked_autoencoder", stage_steps=9), monkeypatch) == []
    said = capsys.readouterr().out
    assert "ended still in stage layer_1: 17 steps before fine-tuning" in said
    late = eager("stacked_autoencoder", stage_steps=1, learning_rate=0.0)
    (sentence,) = advice(late, monkeypatch, steps_per_epoch=2)
    assert "still in stage" not in capsys.readouterr().out
    assert "whatever the image" in sentence


def test_a_healthy_autoencoder_gets_no_advice(monkeypatch):
    model = tiny("autoencoder", learning_rate=3e-3)
    options = {"steps_per_epoch": 100, "epochs": 4, "validation_split": 0.2}
    monkeypatch.setattr(health, "BUDGET", float("inf"))
    history = model.fit(images(), **{**ONE_STEP, **options})
    assert history.advice == {}
    assert history.history["val_loss"][-1] < 0.7 * history.history["val_loss"][0]


# Entries -----------------------------------------------------------------------------------------


def test_an_entry_says_that_it_takes_images(plain, tmp_path):
    run = measured_run(
        tmp_path / "run", plain, images(), {"name": "psnr", "value": 20.0, "standard_error": 0.1,
        "samples": 1000, "features": "pixels", "resize": "none", "split": "test"},
    )  # fmt: skip
    folder = zoo.publish(
        [run], "blobs", catalogue=tmp_path / "zoo", data=images(), licence="CC0", credit="Nobody"
    )
    entry, card = published.read(folder), (folder / "README.md").read_text("utf-8")
    networks = (plain.encoder, plain.decoder)
    assert entry["parameters"] == sum(network.count_params() for network in networks)
    for words in (
        "What is made of images by autoencoder.blobs", "model.generate(images)", "--input my_",
        "how well, the numbers say", "psnr", "It makes images of grey images of 16x16 pixels",
    ):  # fmt: skip
        assert words in card
    assert "draw" not in card
    np.testing.assert_array_equal(published.load(folder).preview(), plain.preview())


# The command line --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(plain, tmp_path_factory):
    path = tmp_path_factory.mktemp("saved") / "model.keras"
    plain.save(path)
    return str(path)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, image in enumerate(images(5)[..., 0]):
        Image.fromarray(image).save(folder / f"{i}.png")
    return folder


def command(capsys, *words):
    code = cli.main([str(word) for word in ("generate", *words)])
    return code, capsys.readouterr().err


def test_a_folder_of_images_becomes_a_grid_or_an_array(saved, plain, photos, tmp_path, capsys):
    out = tmp_path / "out.npz"
    assert command(capsys, saved, "--input", photos, "-o", out) == (0, "")
    with np.load(out) as file:
        np.testing.assert_array_equal(file["images"], plain.generate(images(5)))
        about = json.loads(str(file["generated"]))
    assert about["Input"] == str(photos) and about["Model"] == saved
    np.save(tmp_path / "five.npy", images(5))
    again, grid = tmp_path / "again.npz", tmp_path / "grid.png"
    assert command(capsys, saved, "--input", tmp_path / "five.npy", "-o", again)[0] == 0
    with np.load(again) as file:
        np.testing.assert_array_equal(file["images"], plain.generate(images(5)))
    assert command(capsys, saved, "--input", photos, "-o", grid)[0] == 0
    with Image.open(grid) as image:
        assert image.width >= 320


def test_one_image_stays_one_image(saved, plain, photos, tmp_path, capsys):
    out = tmp_path / "out.png"
    assert command(capsys, saved, "--input", photos / "3.png", "-o", out)[0] == 0
    with Image.open(out) as image:
        made = np.asarray(image)
        assert "generated by keras_genai" in image.info["Comment"]
    np.testing.assert_array_equal(made, plain.generate(images(5)[3])[..., 0])
    large = photos / "large.jpg"
    Image.fromarray(images(1, (40, 60, 3))[0]).save(large)
    assert command(capsys, saved, "--input", large, "-o", out)[0] == 0
    with Image.open(out) as image:
        assert image.size == (16, 16)


def test_the_command_says_what_it_needs(saved, photos, tmp_path, monkeypatch, capsys):
    code, error = command(capsys, saved)
    assert code == 2 and "with --input. Received: no --input" in error
    for words in (["-n", "3"], ["--labels", "1"], ["--prompt", "a"]):
        code, error = command(capsys, saved, "--input", photos, *words)
        assert code == 2 and "takes none of -n, --labels" in error
    monkeypatch.chdir(tmp_path)
    code, error = command(capsys, saved, "--input", "absent.png")
    assert code == 2 and "absent.png" in error
    code, error = command(capsys, saved, "--input", "digits")
    assert code == 2 and "not the name of a data set" in error and "Did you mean" not in error
    (photos / "broken.png").write_bytes(b"no image")
    code, error = command(capsys, saved, "--input", photos / "broken.png")
    assert code == 2 and "cannot be read" in error
    drawing = tmp_path / "gan.keras"
    tiny("gan", data=images()).save(drawing)
    code, error = command(capsys, drawing, "--input", photos)
    assert code == 2 and "takes none of --input" in error


def test_train_ends_with_the_command_to_go_on_with(tmp_path, capsys):
    np.save(tmp_path / "blobs.npy", images())
    sizes = ["--latent_dim", "4", "--base_filters", "4", "--batch_size", "24", "--epochs", "1"]
    run = tmp_path / "run"
    words = ["train", "autoencoder", "--data", tmp_path / "blobs.npy", *sizes, "--run_dir", run]
    assert cli.main([str(word) for word in words]) == 0
    assert f"keras-genai generate {run} --input PATH" in capsys.readouterr().out


def test_images_pass_the_float_edge_unchanged():
    every = np.arange(256, dtype="uint8").reshape(1, 16, 16, 1)
    assert np.all(to_model(every).numpy() != 0.0)
    np.testing.assert_array_equal(to_uint8(to_model(every).numpy().astype("float16")), every)
