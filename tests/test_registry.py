"""The registry: names, suggestions, users' own recipes, the generated index, loading."""

import math

import keras
import pytest
from contract_data import images

from keras_genai import zoo
from keras_genai.models.base import per_network
from keras_genai.models.gans.dcgan import DCGAN
from keras_genai.zoo import registry

FACTS = dict(
    modality="image", task="unconditional", data="digits", minutes=1, batch_size=8, step_ms=10,
    paper="none", tiny={},
)  # fmt: skip


@pytest.fixture
def own_recipe():
    @zoo.register(**FACTS)
    def my_gan(latent_dim: int = 4, seed: int | None = None):
        """A recipe of the user's."""
        model = DCGAN(latent_dim=latent_dim, base_filters=4, seed=seed)
        model.compile(
            per_network(
                generator=keras.optimizers.Adam(1e-3), discriminator=keras.optimizers.Adam(1e-3)
            )
        )
        return model

    yield my_gan
    registry._RECIPES.pop("my_gan")


def test_unknown_names_suggest_the_right_one():
    with pytest.raises(ValueError, match=r"Did you mean 'dcgan'.*Received: 'dcgna'"):
        zoo.get("dcgna")
    with pytest.raises(
        ValueError, match=r"Did you mean 'latent_dim'.*\? Its.*dcgan\(.*Received: 'latent'"
    ):
        zoo.get("dcgan", latent=3)


def test_users_register_their_own(own_recipe, tmp_path):
    assert "my_gan" in zoo.list()
    assert "latent_dim=4" in str(zoo.info("my_gan"))
    model = zoo.get("my_gan", latent_dim=5)
    model.fit(images(), epochs=1, run_dir=tmp_path / "run", verbose=0)
    assert model.recipe == "my_gan" and model.arguments == {"latent_dim": 5, "seed": None}
    assert zoo.load(tmp_path / "run").latent_dim == 5
    assert own_recipe(latent_dim=6).arguments["latent_dim"] == 6


def test_bad_recipes_are_refused(own_recipe):
    def no_default(latent_dim):
        """Has no default."""

    def no_docstring():
        pass

    with pytest.raises(ValueError, match="registered already.*Received: 'my_gan'"):
        zoo.register(**FACTS)(own_recipe)
    with pytest.raises(ValueError, match="needs a default.*Received: 'latent_dim'"):
        zoo.register(**FACTS)(no_default)
    with pytest.raises(ValueError, match="needs a docstring.*Received: "):
        zoo.register(**FACTS)(no_docstring)
    with pytest.raises(ValueError, match="`modality` must be one of.*Received: 'picture'"):
        zoo.register(**{**FACTS, "modality": "picture"})


def test_a_model_made_by_hand_trains(tmp_path):
    model = DCGAN(latent_dim=4, base_filters=4, seed=0)
    model.compile(
        per_network(generator=keras.optimizers.SGD(), discriminator=keras.optimizers.SGD())
    )
    with pytest.raises(ValueError, match=r"needs data.*Received: "):
        model.fit()
    history = model.fit(images(), epochs=2, run_dir=tmp_path / "run", verbose=0)
    assert len(history.history["loss"]) == 2
    assert zoo.load(tmp_path / "run").progress.epoch == 2


def test_loading_what_is_not_there_or_damaged(tmp_path):
    with pytest.raises(ValueError, match=r"nothing at this path.*Received: "):
        zoo.load(tmp_path / "missing")
    with pytest.raises(ValueError, match=r"not a run folder.*Received: "):
        zoo.load(tmp_path)
    model = zoo.get("gan", image_shape=(8, 8, 1), **zoo.info("gan").tiny)
    model.save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", b"<html>404</html>"):
        (tmp_path / "model.keras").write_bytes(damaged)
        with pytest.raises(ValueError, match=r"not a whole \.keras archive.*Received: "):
            zoo.load(tmp_path / "model.keras")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ({"latent_dim": -3}, "a whole number, at least 1"),
        ({"latent_dim": "64"}, "a whole number, at least 1"),
        ({"latent_dim": True}, "a whole number, at least 1"),
        ({"seed": -1}, "a whole number, at least 0"),
        ({"learning_rate": "fast"}, "a finite number, at least 0"),
        ({"learning_rate": -1e-3}, "a finite number, at least 0"),
        ({"learning_rate": float("inf")}, "a finite number, at least 0"),
        ({"r1_gamma": float("nan")}, "a finite number, at least 0"),
        ({"ema_decay": 1.0}, "a finite number, at least 0 and below 1"),
        ({"image_shape": 28}, "positive whole numbers such as"),
        ({"image_shape": (28, 28.5, 1)}, "positive whole numbers such as"),
        ({"image_shape": (28, -28, 1)}, "positive whole numbers such as"),
        ({"base_filters": None}, "a whole number, at least 1"),
        ({"updates": 1}, "a string"),
    ],
)
def test_values_of_another_kind_are_refused(override, expected):
    ((name, value),) = override.items()
    with pytest.raises(ValueError, match=rf"`{name}` of `dcgan` is {expected}.*Received: {name}="):
        zoo.get("dcgan", **override)


@pytest.mark.parametrize(
    ("recipe", "share"), [("gpt", "dropout"), ("dcgan", "ema_decay"), ("vq_vae", "decay")]
)
def test_shares_lie_below_1(recipe, share):
    for value in (0.0, 0.999):
        assert getattr(zoo.get(recipe, **{share: value}), share) == value
    with pytest.raises(ValueError, match=rf"`{share}` .* below 1. Received: {share}=1.0"):
        zoo.get(recipe, **{share: 1.0})


def test_a_recipe_may_mean_another_range():
    """By its default: what it does with it is its own affair."""
    check = registry._check_value
    check("own", {"name": "log_scale", "type": "float", "default": -3.0}, -5.0)
    check("own", {"name": "decay", "type": "float", "default": 1.0}, 2.0)
    with pytest.raises(ValueError, match="is a finite number. Received: log_scale=-inf"):
        check("own", {"name": "log_scale", "type": "float", "default": -3.0}, -math.inf)


def test_a_name_in_capitals_finds_the_right_one():
    with pytest.raises(ValueError, match="Did you mean 'vae'"):
        zoo.get("VAE")
