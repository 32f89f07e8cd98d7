"""Fine-tuning of a `gpt`: what is frozen, where LoRA begins, merging, going on exactly."""

import warnings

import numpy as np
import pytest
from contract_data import measured_run, text

from keras_genai import zoo
from keras_genai.models.text_model import TextModel
from keras_genai.zoo import loading

SIZES = {
    **zoo.info("gpt").tiny, "num_layers": 2, "width": 8, "sequence_length": 8, "learning_rate": 0.1,
}  # fmt: skip
IDS = np.random.default_rng(0).integers(0, 13, (3, 8)).astype("int32")
QUIET = {"steps_per_epoch": 4, "batch_size": 8, "verbose": 0}


@pytest.fixture(scope="module")
def base():
    """A model none of whose weights are as they began; no test changes it."""
    model = zoo.get("gpt", data=text(), seed=0, **SIZES)
    rng = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(weight + 0.3 * rng.normal(size=weight.shape))
    return model


@pytest.fixture(autouse=True)
def no_previews(monkeypatch):
    """They are no matter of this file, and take longer than all its trainings."""
    monkeypatch.setattr(TextModel, "preview", lambda model, seed=0: ["a"])


def remade(base, **overrides):
    """As `zoo.load` makes it of a file."""
    model = loading.remade(base, overrides)
    model.run_eagerly, model.jit_compile = True, False  # quicker for a few steps
    return model


@pytest.fixture(scope="module")
def tuned(base):
    """A model with LoRA in the first block, trained for a few steps; no test changes it."""
    model = remade(base, seed=5, lora_rank=2, trainable_blocks=1)
    model.fit(text(), epochs=1, run_dir=False, **QUIET)
    return model


def weights_of(model):
    return {id(v): v.numpy() for v in model.weights}


def own(model):
    return [v for v in model.weights if v.name not in ("lora_a", "lora_b")]


def test_lora_begins_as_the_model_that_was_loaded(base):
    model = remade(base, lora_rank=2)
    np.testing.assert_array_equal(model(IDS), base(IDS))
    assert [(v.name, v.shape) for v in own(model)] == [(v.name, v.shape) for v in base.weights]
    assert model.progress.step == 0 and model.lora_rank == 2


@pytest.mark.parametrize(
    "overrides, moved, ranks",
    [
        ({"lora_rank": 2}, "lora", [2, 2]),
        ({"trainable_blocks": 1}, "last", [0, 0]),
        ({"lora_rank": 2, "trainable_blocks": 1}, "lora last", [2, 0]),
    ],
)
def test_only_what_is_to_be_trained_moves(base, overrides, moved, ranks):
    model = remade(base, seed=5, **overrides)
    *_, last_block, norm = model.language_model.layers
    last = {id(v) for layer in (last_block, norm) for v in layer.weights}
    wanted = [
        v
        for v in model.weights
        if ("lora" in moved and v.name in ("lora_a", "lora_b"))
        or ("last" in moved and id(v) in last)
    ]
    assert [block.lora_rank for block in model.language_model.layers[4:6]] == ranks
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in wanted}
    # Two moments for each, the count of steps and the rate.
    assert len(model.optimizer.variables) == 2 * len(wanted) + 2
    before = weights_of(model)
    model.fit(text(), epochs=1, run_dir=False, **QUIET)
    changed = {id(v) for v in model.weights if not np.array_equal(v, before[id(v)])}
    assert changed == {id(v) for v in wanted}


def test_fit_and_summary_say_how_many_weights_are_trained(base, capsys):
    model, lines = remade(base, lora_rank=2), []
    # Two thin matrices for a kernel (8, 24) and one (8, 8), in two blocks.
    lora = 2 * 2 * (8 + 24 + 8 + 8)
    whole = lora + base.language_model.count_params()
    fresh = zoo.get("gpt", lora_rank=2, **SIZES)
    fresh.run_eagerly = True
    for one, warned in ((model, 0), (fresh, 1)):
        for _ in range(2):  # the second goes on with weights that were trained
            one.fit(text(), epochs=1, run_dir=False, **{**QUIET, "steps_per_epoch": 1})
        said = capsys.readouterr().out
        assert f"Training {lora:,} of the {whole:,} weights of `gpt` on text" in said
        assert said.count("frozen as they were drawn") == warned
    model.summary(print_fn=lines.append)
    assert f"Trainable params: {lora}" in " ".join("".join(lines).split())


def test_its_two_matrices_shrink_as_kernels_do(base):
    model = remade(base, lora_rank=2, weight_decay=0.5, decay_steps=0)
    for v in model.trainable_variables:
        v.assign(np.ones(v.shape))
    model.optimizer.apply_gradients([(np.zeros(v.shape, "float32"), v)
                                     for v in model.trainable_variables])  # fmt: skip
    for v in model.trainable_variables:
        np.testing.assert_allclose(v, 0.95, rtol=1e-6)


def test_the_cache_holds_what_lora_has_learned(base, tuned):
    assert np.abs(tuned(IDS) - base(IDS)).max() > 0.1
    states = tuned.initial_states(3, 8)
    for place in range(8):
        logits, states = tuned.step(IDS[:, place], states)
        np.testing.assert_allclose(logits, tuned(IDS)[:, place], rtol=0, atol=1e-4)


def test_merging_gives_a_smaller_plain_model_that_computes_the_same(base, tuned, tmp_path):
    merged = tuned.merge_lora()
    np.testing.assert_allclose(merged(IDS), tuned(IDS), rtol=0, atol=1e-5)
    assert len(merged.trainable_variables) == len(merged.weights) == len(base.weights)
    assert (merged.lora_rank, merged.trainable_blocks, merged.num_frozen) == (0, None, 0)
    assert merged.arguments == {**tuned.arguments, "lora_rank": 0, "trainable_blocks": None}
    files = [tmp_path / "tuned.keras", tmp_path / "merged.keras"]
    for model, file in zip((tuned, merged), files, strict=True):
        model.save(file)
    assert files[1].stat().st_size < files[0].stat().st_size
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        loaded = zoo.load(files[1])
    loaded.run_eagerly = True
    np.testing.assert_array_equal(loaded(IDS), merged(IDS))
    loaded.fit(text(), epochs=1, run_dir=False, **{**QUIET, "steps_per_epoch": 1})
    with pytest.raises(ValueError, match="no LoRA to merge.*Received: "):
        merged.merge_lora()


def test_another_rank_begins_at_what_was_learned(tuned, tmp_path):
    tuned.save(tmp_path / "tuned.keras")
    same = zoo.load(tmp_path / "tuned.keras", learning_rate=0.01)
    np.testing.assert_array_equal(same(IDS), tuned(IDS))
    assert np.any(same.trainable_variables[1]), "lora_b is kept"
    other = zoo.load(tmp_path / "tuned.keras", lora_rank=3)
    np.testing.assert_allclose(other(IDS), tuned(IDS), rtol=0, atol=1e-5)
    assert not np.any(other.trainable_variables[1])


def test_a_published_entry_is_fine_tuned(base, tmp_path, monkeypatch):
    run = measured_run(tmp_path / "run", base, text())
    zoo.publish([run], "tag", catalogue=tmp_path / "zoo", data=text(), licence="none", credit="me")
    monkeypatch.setenv("KERAS_GENAI_ZOO", str(tmp_path / "zoo"))
    tuned = zoo.get("gpt", weights="tag", lora_rank=2, learning_rate=0.01)
    np.testing.assert_array_equal(tuned(IDS), base(IDS))
    assert (tuned.entry, tuned.lora_rank) == ("gpt.tag", 2)
    assert tuned.arguments["learning_rate"] == 0.01
    np.testing.assert_array_equal(zoo.load("gpt.tag", trainable_blocks=1)(IDS), base(IDS))
    with pytest.raises(ValueError, match=r"(?s)trained with.*width=8.*Received: "):
        zoo.get("gpt", weights="tag", lora_rank=2, width=16)
    with pytest.raises(ValueError, match="Received: num_heads=4 where it was 2"):
        zoo.get("gpt", weights="tag", num_heads=4)


def test_a_run_goes_on_exactly(base, tmp_path):
    def fit(epochs, run_dir):
        model = remade(base, lora_rank=2, seed=5)
        model.fit(text(), epochs=epochs, run_dir=run_dir, **QUIET)
        return model

    whole = fit(2, False)
    fit(1, tmp_path / "run")
    for model in (fit(2, tmp_path / "run"), zoo.load(tmp_path / "run")):
        assert model.num_frozen == whole.num_frozen > 0
        mine, expected = ([*m.variables, *m.optimizer.variables] for m in (model, whole))
        for variable, value in zip(mine, expected, strict=True):
            np.testing.assert_array_equal(variable, value)


def test_what_does_not_fit_is_refused(base):
    for overrides, words in (
        ({"trainable_blocks": 3}, "of the 2 blocks.*Received: trainable_blocks=3"),
        ({"trainable_blocks": 0}, "at least 1.*Received: trainable_blocks=0, lora_rank=0"),
        ({"trainable_blocks": -1}, "at least 0. Received: trainable_blocks=-1"),
        ({"lora_rank": 9}, "at most `width`.*Received: lora_rank=9, width=8"),
        ({"lora_rank": -1}, "at least 0. Received: lora_rank=-1"),
        ({"lora_rnk": 2}, "no such parameter.*lora_rank.*Received: 'lora_rnk'"),
    ):
        with pytest.raises(ValueError, match=f"(?s){words}"):
            zoo.get("gpt", **{**SIZES, **overrides})
    for overrides in ({"width": 16}, {"sequence_length": 9}):
        with pytest.raises(ValueError, match="of the same sizes.*Received: "):
            remade(base, lora_rank=2, **overrides)
    # With these the weights would fit, and mean something else.
    for name, value in (
        ("num_heads", 4), ("tokenizer", "bytes"), ("vocabulary", base.vocabulary[::-1]),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"one `{name}` alone.*Received: {name}="):
            remade(base, **{name: value})
    assert remade(base, num_heads=2, vocabulary=base.vocabulary).num_heads == 2
