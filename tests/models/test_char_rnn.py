"""What is special to the character RNN: the loss, no look ahead, one step equals the whole."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import text

from keras_genai import zoo
from keras_genai.models.text import char_rnn

CELLS = [*char_rnn.CELLS]


def tiny(**overrides):
    return zoo.get("char_rnn", data=text(), seed=0, **{**zoo.info("char_rnn").tiny, **overrides})


def test_loss_is_the_mean_negative_log_likelihood():
    rng = np.random.default_rng(0)
    logits, targets = rng.normal(size=(2, 3, 5)), rng.integers(0, 5, (2, 3))
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    expected = -np.log(np.take_along_axis(p, targets[..., None], -1)).mean()
    np.testing.assert_allclose(char_rnn.next_character_nll(targets, logits), expected, rtol=1e-10)


@pytest.mark.parametrize("cell", CELLS)
def test_no_character_sees_the_future(cell):
    model = tiny(cell=cell, num_layers=2)
    ids = np.random.default_rng(0).integers(0, 5, (3, 10)).astype("int32")
    changed = ids.copy()
    changed[:, 6] = (ids[:, 6] + 1) % 5
    before, after = model(ids).numpy(), model(changed).numpy()
    np.testing.assert_array_equal(before[:, :6], after[:, :6])
    assert np.abs(before[:, 6:] - after[:, 6:]).max(axis=(0, 2)).min() > 0


@pytest.mark.parametrize("cell", CELLS)
def test_stepping_through_a_text_equals_reading_it_whole(cell):
    model = tiny(cell=cell, num_layers=2)
    ids = np.random.default_rng(0).integers(0, 5, (3, 10)).astype("int32")
    states, steps = model.initial_states(3, 10), []
    for t in range(10):
        logits, states = model.step(ids[:, t], states)
        steps.append(logits)
    np.testing.assert_allclose(np.stack(steps, 1), model(ids), atol=1e-5)


def test_greedy_text_is_what_the_network_finds_likeliest():
    model = tiny(num_layers=2)
    model.fit(text(), epochs=2, batch_size=8, run_dir=False, verbose=0)
    written = model.generate(["the cat", "a"], max_length=30, temperature=0)
    for prompt, result in zip(["the cat", "a"], written, strict=True):
        logits = model(model.codec.encode(result)[None]).numpy()[0]
        for t in range(len(prompt), 30):
            assert result[t] == model.vocabulary[logits[t - 1].argmax()]


def test_sampled_characters_follow_the_softmax_at_a_temperature():
    model = tiny()
    head = model.language_model.layers[-1]
    head.kernel.assign(tf.zeros_like(head.kernel))
    wanted = np.linspace(-1, 1, len(model.vocabulary))
    head.bias.assign(wanted)  # every character has these logits, whatever came before
    temperature = 0.5
    texts = model.generate(["t"] * 64, max_length=201, temperature=temperature, seed=1)
    ids = np.concatenate([model.codec.encode(written[1:]) for written in texts])
    frequencies = np.bincount(ids, minlength=len(wanted)) / len(ids)
    p = np.exp(wanted / temperature)
    p /= p.sum()
    error = np.sqrt(p * (1 - p) / len(ids))
    assert (np.abs(frequencies - p) < 5 * error).all()


def test_a_text_depends_on_seed_place_and_prompt_alone():
    model = tiny()
    prompts = ["the cat", "a", "no dog sat on"]
    together = model.generate(prompts, max_length=60, seed=1)
    alone = model.generate(prompts[0], max_length=60, seed=1)
    assert together[0] == alone != model.generate(prompts[0], max_length=60, seed=2)
    assert model.generate([prompts[0]] * 2, max_length=60, seed=1)[1] != alone
    assert model.generate(prompts[::2], max_length=60, seed=1)[0] == alone
    beginnings = model.generate(["no", *prompts[1:], "a", "a"], max_length=30, seed=1)
    assert [text[:30] for text in together[1:]] == beginnings[1:3]
    stopped = model.generate(prompts, max_length=60, seed=1, stop=[alone[20:23], "zzz"])
    assert stopped[0] == alone[: alone.index(alone[20:23], 7)]
    assert model.generate(prompts[0], max_length=np.int64(60), seed=np.int64(1)) == alone


def test_other_options_and_prompts_compile_nothing_anew():
    model = tiny()
    model.generate("a", max_length=20, seed=1)
    drawing = {"temperature": 0.5, "top_k": 3, "top_p": 0.9, "repetition_penalty": 1.2}
    model.generate("the cat", max_length=30, seed=1, **drawing)
    assert model._samplers["text", 1].experimental_get_tracing_count() == 1
    greedy = {"temperature": 0.0}, {"top_k": 1}, {"top_p": 1e-6}, {"num_beams": 1, "temperature": 0}
    texts = [model.generate("the cat", max_length=30, **options) for options in greedy]
    assert len({*texts}) == 1


@pytest.mark.parametrize("tokenizer", ["bytes", "bpe", "words"])
def test_other_tokenizers_end_texts_and_are_saved(tokenizer, tmp_path):
    texts = ["雨 rain\n", "the cat sat", "the dog sat"] * 20
    arguments = {**zoo.info("char_rnn").tiny, "tokenizer": tokenizer, "vocabulary_size": 270}
    model = zoo.get("char_rnn", data=texts, seed=0, **arguments)
    model.run_eagerly = True
    model.fit(texts, epochs=1, steps_per_epoch=2, batch_size=4, run_dir=False, verbose=0)
    head = model.language_model.layers[-1]
    assert head.bias.shape == (model.num_tokens,) and model.codec.end == model.num_tokens - 1
    nll, characters = model.text_nll(texts[:3])
    assert characters == len("雨 rain\n") + 2 * len("the cat sat") + 3
    assert len(nll) == len(model.codec.encode_documents(texts[:3])) - 1
    assert len(model.text_nll(["the cat"] * 99)[0]) == 99 * len(model.codec.encode("the cat")) + 99
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert loaded.text_nll(texts[:3])[0].tolist() == nll.tolist()
    head.bias.assign(np.where(np.arange(model.num_tokens) == model.codec.end, 99.0, 0.0))
    assert model.generate(["the cat", "雨"], max_length=40) == ["the cat", "雨"]


def test_prompts_are_checked():
    model = tiny()
    cases = [
        (dict(prompts="zebra!"), "without these characters.*Received: '!brz'"),
        (dict(prompts=""), "non-empty.*Received: "),
        (dict(prompts=3), "non-empty.*Received: "),
        (dict(prompts=[]), "non-empty.*Received: "),
        (dict(prompts="the cat", max_length=7), "max_length.*Received: max_length=7"),
        (dict(prompts="a", max_length=9.5), "max_length.*Received: max_length=9.5"),
        (dict(prompts="a", temperature=-1.0), "temperature.*Received: temperature=-1.0"),
        (dict(prompts="a", top_k=0), "top_k.*Received: top_k=0"),
        (dict(prompts="a", seed=1.5), "a whole number.*Received: seed=1.5"),
        (dict(prompts="a", seed="1"), "a whole number.*Received: seed='1'"),
        (dict(prompts=["a", None]), "non-empty.*Received: "),
    ]
    for arguments, message in cases:
        with pytest.raises(ValueError, match=message):
            model.generate(**arguments)
    with pytest.raises(ValueError, match="lstm, gru, simple_rnn. Received: cell='elman'"):
        zoo.get("char_rnn", cell="elman")
    with pytest.raises(ValueError, match="characters, bytes, bpe, words. Received: 'letters'"):
        zoo.get("char_rnn", tokenizer="letters")


def test_what_is_measured_is_checked():
    for documents, message in (
        ("the cat", "a list of strings. Received: 'the cat'"),
        ([], "follows another. Received: .."),
        (["a"], "follows another. Received: .'a'."),
        (["Zoo"], "without these characters.*Received: 'Z'"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny().text_nll(documents)
    with pytest.raises(ValueError, match="not built yet.*Received: vocabulary=None"):
        zoo.get("char_rnn").text_nll(["the cat"])


def test_text_must_fill_a_window_and_hold_known_characters():
    with pytest.raises(ValueError, match=r"shorter than one window.*Received: 5 characters"):
        zoo.get("char_rnn").fit(["short"], epochs=1, run_dir=False)
    with pytest.raises(ValueError, match="without these characters"):
        tiny().fit(["ABC" * 100], epochs=1, run_dir=False, batch_size=4)


def test_validation_text_may_hold_characters_that_training_text_lacks():
    model = zoo.get("char_rnn", **zoo.info("char_rnn").tiny)
    options = {"validation_split": 0.2, "batch_size": 4, "epochs": 1, "run_dir": False}
    history = model.fit(["ab" * 200 + "xyz" * 40], verbose=0, **options).history
    assert set("abxyz") == set(model.vocabulary)
    assert np.isfinite(history["val_loss"]).all()


def test_one_optimizer_reaches_all_layers_and_clips():
    optimizer = tiny().optimizer
    assert isinstance(optimizer, keras.optimizers.Adam) and optimizer.global_clipnorm == 1.0
