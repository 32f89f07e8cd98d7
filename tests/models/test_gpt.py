"""What is special to GPT: what a place sees, the cache, weights that serve twice, the optimizer."""

import functools

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import text

from keras_genai import data, zoo
from keras_genai.models.text import gpt
from keras_genai.models.text_model import TextModel

V = 13  # of the 15 characters of the text


def tiny(**overrides):
    sizes = {"num_layers": 2, "width": 16, "sequence_length": 8, "dropout": 0.0}
    model = zoo.get("gpt", data=text(), seed=0, **{**zoo.info("gpt").tiny, **sizes, **overrides})
    for weight in model.weights:  # scales that are not 1, biases that are not 0, larger logits
        noise = np.random.default_rng(1).normal(size=weight.shape)
        weight.assign(weight + 0.3 * noise)
    return model


@functools.cache
def writer():
    """A model that nothing changes: what it has compiled serves several tests."""
    return tiny()


def random_ids(n, length, seed=0):
    return np.random.default_rng(seed).integers(0, V, (n, length)).astype("int32")


def window(ids, size):
    """The last characters, as the file's docstring defines it: a full window loses its half."""
    kept = []
    for place in range(len(ids)):
        kept = kept[-(size // 2) :] if len(kept) == size else kept
        kept = [*kept, ids[place]]
    return np.array(kept)


def test_no_place_sees_the_future_and_each_sees_all_before_it():
    model, ids = tiny(), random_ids(3, 8)
    for place in range(8):
        changed = ids.copy()
        changed[:, place] = (ids[:, place] + 1) % V
        before, after = model(ids).numpy(), model(changed).numpy()
        np.testing.assert_array_equal(before[:, :place], after[:, :place])
        assert np.abs(before[:, place:] - after[:, place:]).max(axis=(0, 2)).min() > 0


@pytest.mark.parametrize("size", [8, 7])
def test_cached_logits_are_those_of_the_window_also_beyond_the_context(size):
    model, ids = tiny(sequence_length=size), random_ids(3, 30)
    expected = [
        model(np.stack([window(row[: t + 1], size) for row in ids])).numpy()[:, -1]
        for t in range(30)
    ]
    step = tf.function(model.step)
    for start in (0, 3, size, 20):  # characters that are read at once
        lengths = tf.constant([start + 1, 30, 0])  # the last one is not wanted
        first, states = model.read_prompts(tf.constant(ids.T), lengths)
        assert start - (size + 1) // 2 < first <= start and (first > 0) == (start >= size // 2)
        for t in range(int(first), 30):
            logits, states = step(ids[:, t], states)
            np.testing.assert_allclose(logits, expected[t], rtol=0, atol=1e-4)


def test_a_short_text_needs_no_more_places_than_it_has():
    model, ids = tiny(), random_ids(2, 5)
    states = model.initial_states(2, 5)
    assert states[1].shape == (2, 5) and states[2][0][0].shape == (2, 2, 5, 8)
    for t in range(5):
        logits, states = model.step(ids[:, t], states)
    np.testing.assert_allclose(logits, model(ids)[:, -1], rtol=0, atol=1e-4)


def test_the_cache_has_the_precision_of_the_policy():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny()
    finally:
        keras.config.set_dtype_policy("float32")
    states = model.initial_states(2, 8)
    logits, after = model.step(random_ids(2, 1)[:, 0], states)
    moved = model._moved(states[1])[-1]
    assert logits.dtype == "float32"
    assert {x.dtype for x in tf.nest.flatten([states[2], after[2], moved])} == {tf.bfloat16}


def test_greedy_text_is_what_the_network_finds_likeliest():
    model, prompts = writer(), ["the cat sat on", "a"]
    for prompt, written in zip(
        prompts, model.generate(prompts, max_length=40, temperature=0), strict=True
    ):
        assert len(written) == 40 and written.startswith(prompt)
        ids = model.codec.encode(written)
        for t in range(len(prompt), 40):
            logits = model(window(ids[:t], 8)[None]).numpy()[0, -1]
            assert logits[ids[t]] > logits.max() - 1e-4


def test_other_prompts_and_their_lengths_do_not_change_a_text():
    options = {"max_length": 50, "temperature": 0.8, "seed": 5}
    alone = writer().generate("the cat", **options)
    for other in ("a", "the cat sat on a mat"):
        assert writer().generate(["the cat", other], **options)[0] == alone


def test_a_prompt_that_is_read_at_once_is_one_that_is_stepped_through(monkeypatch):
    options = {"max_length": 50, "temperature": 0.8, "seed": 5, "repetition_penalty": 1.3}
    prompts = ["the cat sat on a mat", "no dog sat on"]
    at_once = writer().generate(prompts, **options)
    monkeypatch.setattr(gpt.GPT, "read_prompts", TextModel.read_prompts)
    assert tiny().generate(prompts, **options) == at_once


def test_the_size_of_the_recipe_is_nanogpts():
    layers, width, context, characters = 4, 128, 64, 65
    block = 12 * width**2 + 13 * width  # four kernels and their biases, two normalisations
    expected = (characters + context) * width + layers * block + 2 * width
    network = gpt.language_model(characters, context, 4, width, 0.0, [0] * layers)
    assert network.count_params() == expected == 809_856


def test_one_matrix_serves_both_ends_and_learns_from_both():
    model, ids = tiny(), random_ids(2, 9)
    embedding, positions, _, *blocks, norm = model.language_model.layers[1:]
    matrix = embedding.embeddings
    assert len(model.trainable_variables) == 2 + 2 * 12 + 2
    first, last = (tf.constant(matrix.numpy()) for _ in range(2))
    with tf.GradientTape(persistent=True) as tape:
        tape.watch([first, last])
        x = positions(tf.gather(first, ids[:, :-1]))
        for block in blocks:
            x = block(x)
        apart = gpt.next_character_nll(ids[:, 1:], tf.matmul(norm(x), last, transpose_b=True))
        loss = gpt.next_character_nll(ids[:, 1:], model(ids[:, :-1]))
    parts = [tf.convert_to_tensor(tape.gradient(apart, end)) for end in (first, last)]
    assert min(np.abs(part).max() for part in parts) > 1e-3
    whole = tf.convert_to_tensor(tape.gradient(loss, matrix))
    np.testing.assert_allclose(whole, parts[0] + parts[1], rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(loss, apart, rtol=1e-5)


def test_initial_weights_are_small_and_those_that_are_added_up_smaller():
    network = gpt.language_model(65, 64, 4, 64, 0.0, [0] * 8)
    embedding, positions, _, *blocks, _ = network.layers[1:]
    for weight in (embedding.embeddings, positions.vectors):
        assert np.std(weight) == pytest.approx(0.02, rel=0.1)
    for block in blocks:
        for layer in (block.query_key_value, block.widen):
            assert np.std(layer.kernel) == pytest.approx(0.02, rel=0.1)
        for layer in (block.output_projection, block.narrow):
            assert np.std(layer.kernel) == pytest.approx(0.02 / 4, rel=0.1)
            assert not np.any(layer.bias)
    drawn = np.concatenate([np.ravel(w) for w in network.weights if len(w.shape) == 2])
    assert len(np.unique(drawn)) > 0.98 * len(drawn), "no kernel begins as another does"


def test_kernels_shrink_and_nothing_else_does():
    model = tiny(learning_rate=0.1, weight_decay=0.5)
    before = [v.numpy() for v in model.trainable_variables]
    model.optimizer.apply_gradients([(tf.zeros_like(v), v) for v in model.trainable_variables])
    shrunk = set()
    for variable, value in zip(model.trainable_variables, before, strict=True):
        if np.array_equal(variable, value):
            continue
        shrunk.add(variable.path)
        np.testing.assert_allclose(variable, 0.95 * value, rtol=1e-5)
    kernels = {
        layer.kernel.path
        for block in model.language_model.layers[4:6]
        for layer in (block.query_key_value, block.output_projection, block.widen, block.narrow)
    }
    assert shrunk == kernels


def test_a_text_is_measured_in_windows_and_each_character_once():
    model, ids = tiny(), random_ids(1, 30)[0]
    nll, characters = model.text_nll([model.codec.decode(ids)])
    assert len(nll) == characters == 29
    for start in (0, 8, 16, 24):
        log_p = tf.nn.log_softmax(model(ids[None, start : start + 8][:, : 29 - start])).numpy()[0]
        for i, row in enumerate(log_p):
            assert nll[start + i] == pytest.approx(-row[ids[start + i + 1]], abs=1e-4)


def test_dropout_is_of_training_alone_and_covers_the_attention():
    model, ids = tiny(dropout=0.5), random_ids(2, 8)
    np.testing.assert_array_equal(model(ids), model(ids))
    assert np.abs(model(ids, training=True) - model(ids, training=True)).max() > 0.01
    block = gpt.Block(2, dropout=0.5)
    x = tf.random.stateless_normal((1, 8, 16), (0, 0))
    query, key, value = (block(x), block._heads(x))[1]
    visible = tf.ones((8, 8), bool)
    drop = lambda shares: block.drop(shares, training=True)  # noqa: E731
    kept = gpt.attend(query, key, tf.ones_like(value), visible, drop).numpy()
    assert np.std(kept) > 0.1, "the shares of a query no longer add up to 1"


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="multiple of.*Received: width=10, num_heads=4"):
        zoo.get("gpt", width=10)
    with pytest.raises(ValueError, match="at most 8.*Received: 9 tokens"):
        tiny()(random_ids(1, 9))
    with pytest.raises(ValueError, match="warm-up.*Received: warmup_steps=100, decay_steps=50"):
        zoo.get("gpt", decay_steps=50)


def test_a_block_comes_back_from_its_configuration():
    block = gpt.Block(2, 0.5, 0.1, dtype="mixed_bfloat16")
    again = gpt.Block.from_config(block.get_config())
    assert (again.num_heads, again.residual_scale, again.dropout) == (2, 0.5, 0.1)
    assert again(tf.zeros((1, 3, 4), "bfloat16")).dtype == "bfloat16"


def test_a_text_follows_its_control_line():
    topics, rng = {"sea": "abcd", "moon": "wxyz"}, np.random.default_rng(0)
    documents = [
        data.control_lines(topic=topic) + "\n" + "".join(rng.choice([*letters], 12))
        for _ in range(60)
        for topic, letters in topics.items()
    ]
    sizes = {"width": 32, "sequence_length": 32, "dropout": 0.0}
    quick = {"learning_rate": 1e-2, "warmup_steps": 0}
    model = zoo.get("gpt", seed=0, **{**zoo.info("gpt").tiny, **sizes, **quick})
    model.jit_compile = False  # compiling takes longer than training
    model.fit(documents, batch_size=24, epochs=24, run_dir=False, verbose=0)
    for topic, letters in topics.items():
        prompt = data.control_lines(topic=topic)
        written = model.generate([prompt] * 4, max_length=31, temperature=0.5, seed=0)
        letters_written = "".join(text.removeprefix(prompt).strip("\n") for text in written)
        assert len(letters_written) > 12
        assert sum(letter in letters for letter in letters_written) / len(letters_written) > 0.9
