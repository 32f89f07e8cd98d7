"""What is special to BERT: what is masked, what a place sees, gaps, windows, classifiers."""

import functools
import json
import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import text

from keras_genai import cli, data, explore, measure, zoo
from keras_genai.models.text import bert

V, T = 15, 12  # the characters of the text, and the model's context
CHANCES = np.random.default_rng(0).random((4000, 64, 3), "float32")


def tiny(texts=None, **overrides):
    sizes = {"num_layers": 2, "width": 16, "dropout": 0.0}
    arguments = {**zoo.info("bert").tiny, **sizes, **overrides}
    model = zoo.get("bert", data=texts or text(), seed=0, **arguments)
    for weight in model.weights:  # scales that are not 1, biases that are not 0, larger logits
        weight.assign(weight + 0.3 * np.random.default_rng(1).normal(size=weight.shape))
    return model


@functools.cache
def filler():
    """A model that nothing changes: what it has compiled serves several tests."""
    return tiny()


def random_ids(n, length=T, seed=0):
    return np.random.default_rng(seed).integers(0, V, (n, length)).astype("int32")


# Training ----------------------------------------------------------------------------------------


def test_15_percent_are_chosen_of_which_80_are_masked_10_random_and_10_kept():
    ids = np.zeros((4000, 64), "int32")
    shown, chosen = (x.numpy() for x in bert.corrupt(tf.constant(ids), CHANCES, 5, 0.15))
    assert (chosen.sum(1) == 10).all(), "0.15 * 64 = 9.6"
    np.testing.assert_allclose(chosen.mean(0), 10 / 64, atol=0.03)
    assert not shown[~chosen].any()
    shares = np.bincount(shown[chosen], minlength=6) / chosen.sum()
    expected = [0.1 + 0.1 / 5, *[0.1 / 5] * 4, 0.8]  # a random token may be the one that was there
    np.testing.assert_allclose(shares, expected, atol=0.01)
    shown, chosen = bert.corrupt(tf.constant(ids[:, :3]), CHANCES[:, :3], 5, 0.15)
    assert (chosen.numpy().sum(1) == 1).all(), "one at least"


def test_the_loss_is_of_the_chosen_places_alone():
    model, ids = filler(), random_ids(3)
    chosen = np.random.default_rng(3).random((3, T)) < 0.3
    logits = model(ids).numpy().astype("float64")
    p = np.exp(logits) / np.exp(logits).sum(2, keepdims=True)
    at = [(b, t) for b, t in np.ndindex(3, T) if chosen[b, t]]
    loss, accuracy = model.losses_at(chosen, ids, tf.constant(logits, "float32"))
    assert loss.numpy() == pytest.approx(
        -np.mean([math.log(p[b, t, ids[b, t]]) for b, t in at]), rel=1e-5
    )
    assert accuracy.numpy() == pytest.approx(
        np.mean([p[b, t].argmax() == ids[b, t] for b, t in at])
    )


def test_what_stood_at_a_masked_place_is_not_known():
    model, ids = filler(), random_ids(8)
    chances = CHANCES[:8, :T].copy()
    chances[..., 1] *= 0.8  # all that are chosen are masked
    shown, chosen = bert.corrupt(tf.constant(ids), chances, V, 0.3)
    others = np.where(chosen, (ids + 1) % V, ids)
    shown_of_others, _ = bert.corrupt(tf.constant(others), chances, V, 0.3)
    assert chosen.numpy().any() and (others != ids).any()
    np.testing.assert_array_equal(model(shown), model(shown_of_others))


def test_every_place_sees_both_sides():
    model, ids = filler(), random_ids(3)
    before = model(ids).numpy()
    for place in range(T):
        changed = ids.copy()
        changed[:, place] = (ids[:, place] + 1) % V
        assert np.abs(before - model(changed).numpy()).max(axis=(0, 2)).min() > 1e-4


def test_training_draws_masks_and_validation_does_not():
    model = tiny()
    batch = {"text": tf.constant(random_ids(4, T + 1))}
    losses = {float(model.test_step(batch)["loss"]) for _ in range(2) if not model.reset_metrics()}
    assert len(losses) == 1
    drawn = [model.uniform((4, T, 3)).numpy() for _ in range(2)]
    assert np.abs(drawn[0] - drawn[1]).max() > 0.1


def normalised(x, layer):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + layer.epsilon) * layer.gamma + layer.beta


def test_a_block_is_what_the_docstring_says():
    block, x = bert.PostNormBlock(2), np.random.default_rng(0).normal(size=(2, 5, 8))
    present = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], bool)
    block(x, present)
    for weight in block.weights:
        weight.assign(weight + 0.3 * np.random.default_rng(1).normal(size=weight.shape))
    dense = lambda x, layer: x @ layer.kernel.numpy() + layer.bias  # noqa: E731
    q, k, v = np.split(dense(x, block.query_key_value), 3, -1)
    mixed = np.zeros_like(x)
    for head in (slice(0, 4), slice(4, 8)):
        shares = np.exp(q[..., head] @ k[..., head].swapaxes(1, 2) / 2) * present[:, None]
        mixed[..., head] = shares / shares.sum(2, keepdims=True) @ v[..., head]
    a = normalised(x + dense(mixed, block.output_projection), block.attention_norm)
    wide = dense(a, block.widen)
    wide *= 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (wide + 0.044715 * wide**3)))
    expected = normalised(a + dense(wide, block.narrow), block.dense_norm)
    np.testing.assert_allclose(block(x, present), expected, rtol=1e-4, atol=1e-4)


def test_a_network_is_what_the_docstring_says():
    network, ids = filler().language_model, random_ids(2)
    ids[:, 3] = V
    (embedding,), (positions,), (first_norm, last_norm), blocks, (dense,), (last,) = (
        [layer for layer in network.layers if type(layer) is kind]
        for kind in (
            keras.layers.ReversibleEmbedding, bert.Positions, keras.layers.LayerNormalization,
            bert.PostNormBlock, keras.layers.Dense, bert.TokenLogits,
        )
    )  # fmt: skip
    matrix = embedding.embeddings.numpy()
    h = normalised(matrix[ids] + positions.vectors.numpy(), first_norm)
    for block in blocks:
        h = block(h, np.ones((2, T), bool)).numpy()
    h = h @ dense.kernel.numpy() + dense.bias.numpy()
    h *= 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    expected = normalised(h, last_norm) @ matrix[:V].T + last.bias.numpy()
    np.testing.assert_allclose(network(ids), expected, rtol=1e-4, atol=1e-4)


def test_weights_begin_small_and_positions_as_waves():
    network = bert.language_model(65, 64, 4, 64, 0.0, [0] * 2)
    for weight in network.weights:
        if weight.name in ("kernel", "embeddings", "vectors"):
            assert np.sqrt(np.mean(np.square(weight))) == pytest.approx(0.02, rel=0.1)
        if weight.name == "vectors":
            np.testing.assert_allclose(weight, bert.Sinusoids(0.02)((64, 64)))


def test_one_matrix_serves_both_ends_and_mask_and_padding_are_never_predicted():
    width, layers, context, characters = 128, 4, 64, 65
    network = bert.language_model(characters, context, 4, width, 0.0, [0] * layers)
    block = 12 * width**2 + 13 * width
    head = width * (width + 1) + 2 * width + characters
    embedded = (characters + 2 + context) * width + 2 * width
    assert network.count_params() == embedded + layers * block + head
    assert filler()(random_ids(2)).shape == (2, T, V)
    model, ids = tiny(), random_ids(2)
    ids[:, 0], ids[:, -1] = V, V + 1
    matrix = model.language_model.layers[1].embeddings
    with tf.GradientTape() as tape:
        loss, _ = model.losses_at(ids == V, random_ids(2), model(ids))
    moved = np.abs(tf.convert_to_tensor(tape.gradient(loss, matrix))).max(1)
    assert moved[:-1].min() > 0 and moved[-1] == 0


# Filling -----------------------------------------------------------------------------------------


def test_gaps_are_filled_one_by_one_the_most_certain_first():
    model, prompt = filler(), "th[MASK] c[MASK][MASK] s"
    ids = model.codec.encode_masked(prompt, V)
    assert ids.tolist().count(V) == 3
    for _ in range(3):
        logits = model(ids[None]).numpy()[0]
        p = tf.nn.softmax(logits).numpy().max(1) * (ids == V)
        ids[p.argmax()] = logits[p.argmax()].argmax()
    filled = model.fill(prompt, seed=7)
    assert filled == model.codec.decode(ids) == model.fill([prompt])[0]
    assert filled.startswith("th") and filled[3:5] == " c" and filled.endswith(" s")


def test_a_filled_text_depends_on_its_seed_and_not_on_the_others():
    prompt, options = "the [MASK][MASK][MASK] sa", {"temperature": 1.0, "seed": 5}
    alone = filler().fill(prompt, **options)
    for others in (["a[MASK]"], ["[MASK]" * T, "a [MASK] cat"]):
        assert filler().fill([prompt, *others], **options)[0] == alone
    assert len({filler().fill(prompt, temperature=1.0, seed=seed) for seed in range(9)}) > 4
    assert filler().fill(prompt, temperature=1.0, top_k=1) == filler().fill(prompt)
    assert filler().fill(prompt, temperature=1.0) != filler().fill(prompt, temperature=1.0)


def test_candidates_are_the_likeliest_with_their_probabilities():
    model = filler()
    first, second = model.candidates("th[MASK] c[MASK]t", k=3)
    ids = model.codec.encode_masked("th[MASK] c[MASK]t", V)
    p = tf.nn.softmax(model(ids[None])).numpy()[0]
    for place, found in ((2, first), (5, second)):
        order = np.argsort(-p[place])[:3]
        assert [token for token, _ in found] == [model.codec.pieces[i] for i in order]
        np.testing.assert_allclose([q for _, q in found], p[place][order], rtol=1e-4)
    assert sum(q for _, q in model.candidates("[MASK]", k=99)[0]) == pytest.approx(1, rel=1e-4)


def test_the_end_of_a_text_fills_no_gap():
    model = tiny(["the cat sat", "a dog sat on a mat", "no cat saw a dog on a mat"], num_layers=1)
    end = model.codec.end
    model.language_model.layers[-1].bias.assign(50.0 * (np.arange(end + 1) == end))
    assert model(random_ids(1)).numpy()[0].argmax(1).tolist() == [end] * T
    assert "" not in dict(model.candidates("a [MASK]", k=99)[0])
    assert len(model.fill("a [MASK][MASK]t")) == 5
    assert model.generate("a cat", max_length=40) == "a cat"


@pytest.mark.parametrize("tokenizer", ["bpe", "words"])
def test_gaps_of_other_tokenizers(tokenizer):
    if tokenizer == "bpe":
        pytest.importorskip("tokenizers")
    model = tiny(tokenizer=tokenizer, vocabulary_size=270, num_layers=1)
    filled = model.fill("the cat [MASK] on")
    ((best, _),) = model.candidates("the cat [MASK] on", k=1)[0]
    blank = "" if tokenizer == "bpe" else " "
    if tokenizer == "words" and not best.isalpha():
        blank = ""
    assert filled in (f"the cat{blank}{best} on", f"the cat{blank}{best}on")


# Writing -----------------------------------------------------------------------------------------


def test_a_window_more_or_other_prompts_do_not_change_a_text():
    options = {"temperature": 0.8, "seed": 5, "num_steps": 4}
    alone = filler().generate("the cat", max_length=50, **options)
    assert len(alone) == 50 and alone.startswith("the cat")
    assert filler().generate("the cat", max_length=23, **options) == alone[:23]
    for other in ("a", "the cat sat on a mat"):
        assert filler().generate(["the cat", other], max_length=50, **options)[0] == alone
    assert filler().generate("the cat", max_length=50, **options, stop=alone[30:34]) in alone[:34]


def test_one_by_one_and_greedy_is_what_the_network_finds_likeliest():
    """Of a window after another, each beginning with half of the last."""
    model = filler()
    written = model.generate("the", max_length=24, temperature=0, num_steps=T)
    known = model.codec.encode("the")
    while len(known) < 24:
        known, start = known.copy(), max(len(known) - T // 2, 0)
        ids = np.full(T, V, "int32")
        ids[: len(known) - start] = known[start:]
        while V in ids:
            logits = model(ids[None]).numpy()[0]
            p = tf.nn.softmax(logits).numpy().max(1) * (ids == V)
            ids[p.argmax()] = logits[p.argmax()].argmax()
        known = np.concatenate([known[:start], ids])
    assert written == model.codec.decode(known[:24])


# Measuring ---------------------------------------------------------------------------------------


def test_pseudo_perplexity_masks_each_token_once_and_shows_all_others():
    model, ids = filler(), random_ids(1, 3 * T + 5)[0]
    nll = model.pseudo_nll([model.codec.decode(ids)], 99)
    assert nll.shape == (3, T)
    for i, t in np.ndindex(3, T):
        window = ids[i * T : (i + 1) * T].copy()
        token, window[t] = window[t], V
        log_p = tf.nn.log_softmax(model(window[None])).numpy()[0, t, token]
        assert nll[i, t] == pytest.approx(-log_p, abs=1e-4)
    some = model.pseudo_nll([model.codec.decode(ids)], 2, seed=1)
    assert some.shape == (2, T) and all(row in nll for row in some)
    assert model.pseudo_nll(["the cat"], 9).shape == (1, 7)


def test_it_is_measured_by_that_and_not_by_a_perplexity():
    model, parts = filler(), data.load(text(0) + text(1), validation_split=0.4)
    table = measure(model, parts, ["pseudo_perplexity"])
    nll = model.pseudo_nll(parts.validation.documents, 100)
    assert table["pseudo_perplexity"] == pytest.approx(np.exp(nll.mean()), rel=1e-5)
    assert json.loads(table.to_json())["metrics"][0]["name"] == "pseudo_perplexity"
    (row,) = table
    assert row.samples == nll.size and row.features == f"{V} characters, in windows of {T}"
    error = nll.mean(1).std(ddof=1) / math.sqrt(len(nll))
    assert row.standard_error == pytest.approx(row.value * error, rel=1e-4)
    with pytest.raises(ValueError, match="pseudo_perplexity instead.*Received: 'perplexity'"):
        measure(model, parts, ["perplexity"])
    with pytest.raises(ValueError, match="`pseudo_nll`.*Received: 1 documents"):
        model.text_nll(text())
    with pytest.raises(ValueError, match="has a perplexity instead.*'pseudo_perplexity'"):
        rnn = zoo.get("char_rnn", data=text(), **zoo.info("char_rnn").tiny)
        measure(rnn, parts, ["pseudo_perplexity"])


# Classifying -------------------------------------------------------------------------------------


def test_padding_and_neighbours_do_not_change_a_class():
    model, texts = filler(), ["a cat", "the", "no dog sat o"]
    classifier = model.classifier(3)
    together = classifier(model.tokens(texts)).numpy()
    assert together.shape == (3, 3) and np.ptp(together, axis=0).min() > 1e-4
    for text_, row in zip(texts, together, strict=True):
        alone = classifier(model.codec.encode(text_)[None])
        np.testing.assert_allclose(alone[0], row, rtol=0, atol=1e-5)
    trunk = classifier.get_layer("trunk")(model.codec.encode("a cat")[None]).numpy()
    head = classifier.get_layer("head")
    np.testing.assert_allclose(together[0], trunk[0].mean(0) @ head.kernel, atol=1e-5)


def test_a_classifier_learns_shares_its_layers_and_comes_back(tmp_path):
    model = tiny(num_layers=1)
    x = model.tokens(["the cat sat", "no dog sat", "the cat", "a dog", "cat a mat", "saw dog"])
    y = np.array([0, 1, 0, 1, 0, 1])
    frozen = model.language_model.layers[1]
    frozen.trainable = False
    before = {id(w): w.numpy() for w in model.weights}
    classifier = model.classifier(2)
    classifier.compile(
        keras.optimizers.Adam(0.01),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy"],
    )
    losses = classifier.fit(x, y, epochs=25, batch_size=6, verbose=0, shuffle=False).history
    assert losses["accuracy"][-1] == 1 and losses["loss"][-1] < 0.3 * losses["loss"][0]
    moved = {id(w) for w in model.weights if np.abs(w.numpy() - before[id(w)]).max() > 0}
    trunk = classifier.get_layer("trunk")
    assert moved == {id(w) for w in trunk.trainable_weights}
    assert id(frozen.embeddings) not in moved and len(moved) == 1 + 2 + 12
    classifier.save(tmp_path / "classifier.keras")
    loaded = keras.models.load_model(tmp_path / "classifier.keras")
    np.testing.assert_allclose(loaded(x), classifier(x))
    assert len(loaded.trainable_weights) == len(moved) + 2


# Refusing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("call", "message"), [
    (lambda m: m.fill("no gap"), "a string with .MASK.*Received: 'no gap'"),
    (lambda m: m.fill("[MASK] Zoo"), "without these characters.*Received: 'Z'"),
    (lambda m: m.fill("[MASK]" * (T + 1)), "at most 12 characters.*Received: 13 characters"),
    (lambda m: m.fill("[MASK]", top_k=0), "Received: top_k=0"),
    (lambda m: m.candidates("[MASK]", k=0), "Received: k=0"),
    (lambda m: m.generate("Zoo"), "without these characters.*Received: 'Z'"),
    (lambda m: m.generate("a", num_steps=0), "Received: num_steps=0"),
    (lambda m: m.generate("the cat", max_length=7), "larger than 7.*Received: max_length=7"),
    (lambda m: m.tokens(["a", ""]), "non-empty strings.*Received: "),
    (lambda m: m.pseudo_nll("the cat", 9), "list of strings. Received: 'the cat'"),
    (lambda m: m.pseudo_nll([""], 9), "Received: 0 characters, count=9"),
    (lambda m: m.pseudo_nll(["the cat"], 0), "Received: 7 characters, count=0"),
    (lambda m: m.tokens(["the cat sat on"]), "at most 12 characters.*Received: 14"),
    (lambda m: m(random_ids(1, T + 1)), "at most 12 tokens.*Received: 13 tokens"),
    (lambda m: zoo.get("bert", width=10), "multiple of.*Received: width=10, num_heads=4"),
    (lambda m: zoo.get("bert", mask_rate=0.0), "above 0.*Received: mask_rate=0.0"),
])  # fmt: skip
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        call(filler())


def test_texts_that_are_too_long_are_cut_if_asked_for():
    long = filler().tokens(["the cat sat on a mat"], cut=True)
    np.testing.assert_array_equal(long[0], filler().codec.encode("the cat sat on a mat")[:T])


def test_what_is_of_models_that_read_from_left_to_right_is_not_taken(tmp_path, capsys):
    for option in ({"num_beams": 2}, {"repetition_penalty": 1.2}):
        with pytest.raises(TypeError, match="unexpected keyword"):
            filler().generate("a", **option)
    filler().save(tmp_path / "bert.keras")
    command = ["generate", str(tmp_path / "bert.keras"), "--prompt", "the", "--seed", "1"]
    assert cli.main([*command, "--num_beams", "2"]) == 2
    assert "Received: --num_beams" in capsys.readouterr().err
    assert cli.main([*command, "--num_steps", "4", "--max_length", "20"]) == 0
    written = filler().generate("the", num_steps=4, max_length=20, seed=1)
    assert capsys.readouterr().out == f"{written}\n"


def test_fine_tuning_moves_lora_or_the_last_blocks_alone():
    for options, moving in (
        ({"lora_rank": 2}, {"lora_a", "lora_b"}),
        ({"trainable_blocks": 1}, None),
        ({"trainable_blocks": 1, "lora_rank": 2}, None),
    ):
        model = tiny(**options)
        before = [v.numpy() for v in model.language_model.weights]
        model.train_step({"text": tf.constant(random_ids(2, 13))})
        model.train_step({"text": tf.constant(random_ids(2, 13))})  # B is not 0 any more
        moved = [v for v, old in zip(model.language_model.weights, before, strict=True)
                 if not np.array_equal(v, old)]  # fmt: skip
        assert {id(v) for v in moved} == {id(v) for v in model.trainable_variables}
        first, last = [b for b in model.language_model.layers if isinstance(b, bert.PostNormBlock)]
        names = {v.name for v in moved if any(v is w for w in first.weights)}
        assert names == ({"lora_a", "lora_b"} if "lora_rank" in options else set())
        if moving:
            assert {v.name for v in moved} == moving
        else:
            assert all(any(w is v for v in moved) for w in last.weights)
            assert model.language_model.layers[-1].bias.trainable


def test_attention_is_drawn_from_what_the_blocks_take():
    model = tiny()
    ids = random_ids(1, 12)[0]
    blocks = [b for b in model.language_model.layers if isinstance(b, bert.PostNormBlock)]
    shares = explore.texts.shares_of(model.language_model, blocks, ids)
    assert shares.shape == (2, 2, 12, 12) and np.all(shares > 0)
    np.testing.assert_allclose(shares.sum(-1), 1, rtol=1e-5)
    first = keras.Model(model.language_model.input, blocks[0].input)(ids[None])
    query, key, _ = bert.split_heads(blocks[0].query_key_value(first[0]), 2)
    scores = np.einsum("nid,njd->nij", query[0], key[0]) / np.sqrt(8)
    np.testing.assert_allclose(shares[0], tf.nn.softmax(scores), rtol=1e-4, atol=1e-5)
