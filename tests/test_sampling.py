"""What is drawn follows the distribution asked for; a beam search finds what there is."""

import itertools
import math
import sys

import numpy as np
import pytest
import tensorflow as tf

from keras_genai import sampling

RNG = np.random.default_rng(0)
LOGITS = np.array([0.3, -1.2, 1.7, 0.9, -0.2, 0.8], "float32")
DRAWS = 20_000


def softmax(x):
    p = np.exp(x - x.max())
    return p / p.sum()


def only(p, kept):
    p = np.where(np.isin(np.arange(len(p)), kept), p, 0)
    return p / p.sum()


def draw(logits=LOGITS, temperature=1.0, top_k=6, top_p=1.0):
    uniform = np.random.default_rng(1).random(DRAWS, "float32")
    rows = tf.constant(np.tile(logits, (DRAWS, 1)))
    numbers = (tf.constant(temperature), tf.constant(top_k), tf.constant(top_p))
    return sampling.next_tokens(rows, uniform, *numbers).numpy()


P = softmax(LOGITS)  # the likeliest are 2 (0.43), 3 (0.19) and 5 (0.18)


@pytest.mark.parametrize(
    "options, expected",
    [
        ({}, P),
        ({"temperature": 0.5}, softmax(LOGITS / 0.5)),
        ({"temperature": 3.0}, softmax(LOGITS / 3)),
        ({"top_k": 2}, only(P, [2, 3])),
        ({"top_p": 0.65}, only(P, [2, 3, 5])),
        # Of the four that `top_k` leaves, these have together 0.69 of the probability.
        ({"top_k": 4, "top_p": 0.65}, only(P, [2, 3])),
        ({"temperature": 0.5, "top_p": 0.7}, only(softmax(LOGITS / 0.5), [2, 3])),
        ({"top_p": 1e-6}, only(P, [2])),
        ({"temperature": 1e-30}, only(P, [2])),
        ({"temperature": 0.0, "top_k": 3}, only(P, [2])),
    ],
)
def test_frequencies_are_those_of_the_truncated_softmax(options, expected):
    found = np.bincount(draw(**options), minlength=6)
    assert (found[expected == 0] == 0).all()
    p = expected[expected > 0]
    chi_square = ((found[expected > 0] - DRAWS * p) ** 2 / (DRAWS * p)).sum()
    assert chi_square < 20.6  # exceeded once in a thousand times at 5 degrees of freedom


@pytest.mark.parametrize("kept", [{}, {"top_k": 2}, {"top_p": 0.7}])
def test_no_chance_draws_what_has_none(kept):
    """Neither the least of uniform numbers nor the largest."""
    logits = tf.constant([[-np.inf, 0.4, 0.6, -3.0]] * 2)
    uniform = tf.constant([0.0, np.nextafter(1, 0, dtype="float32")])
    numbers = {"temperature": 1.0, "top_k": 4, "top_p": 1.0, **kept}
    numbers = {name: tf.constant(value) for name, value in numbers.items()}
    first, last = sampling.next_tokens(logits, uniform, **numbers).numpy()
    assert (first, last) == ((2, 1) if kept else (1, 3))


def test_compiled_sums_draw_nothing_that_was_cut_off():
    logits = np.random.default_rng(0).normal(size=(200, 2000)).astype("float32")
    uniform = np.full(200, np.nextafter(1, 0, dtype="float32"))
    draw = tf.function(sampling.next_tokens, jit_compile=True)
    found = draw(logits, uniform, tf.constant(1.0), tf.constant(700), tf.constant(1.0)).numpy()
    rank = (logits > np.take_along_axis(logits, found[:, None], 1)).sum(1)
    assert (rank < 700).all()


def test_of_equal_tokens_as_many_are_kept_as_asked():
    found = np.bincount(draw(np.zeros(6, "float32"), top_k=3), minlength=6)
    assert (found > 0).sum() == 3


def test_repetition_is_penalized_as_in_the_paper():
    seen = tf.constant([[True, True, False, False, False, True]])
    found = sampling.penalize(LOGITS[None], seen, 2.0).numpy()[0]
    np.testing.assert_allclose(found, [0.15, -2.4, 1.7, 0.9, -0.2, 0.4])


V, LENGTH, END = 4, 5, 3
TABLE = 2 * RNG.normal(size=(LENGTH, V, V)).astype("float32")


def step(ids, states):
    """Logits by place, token and the token before: states that must follow their beams."""
    t, before = states
    return tf.gather(tf.constant(TABLE)[t], ids) + 0.7 * tf.one_hot(before, V), (t + 1, ids)


def start(n):
    return tf.constant(0), tf.zeros(n, "int32")


def log_p(text):
    """Of each token but the first."""
    logits = [
        TABLE[t, token] + 0.7 * np.eye(V)[text[t - 1] if t else 0]
        for t, token in enumerate(text[:-1])
    ]
    return [np.log(softmax(row))[token] for row, token in zip(logits, text[1:], strict=True)]


def columns(prompts):
    """Prompts side by side, and a column that is not wanted."""
    ids = np.zeros((8, len(prompts) + 1), "int32")
    for i, prompt in enumerate(prompts):
        ids[: len(prompt), i] = prompt
    return tf.constant(ids), tf.constant([*map(len, prompts), 0])


PROMPTS = [[0], [1, 2], [2, 0, 1]]


@pytest.mark.parametrize("more", [-1.0, 0.0, 0.7, 1.4])
def test_a_beam_search_that_is_wide_enough_finds_the_best_of_all_texts(more, monkeypatch):
    """Of texts that end (with `more` they do sooner) and of those that do not."""
    monkeypatch.setattr(
        sys.modules[__name__], "TABLE", TABLE + np.float32(more) * np.eye(V, dtype="float32")[END]
    )
    found, means = sampling.beam_search(
        step, start(4 * 64), *columns(PROMPTS), tf.constant(LENGTH), END, 64
    )
    for i, prompt in enumerate(PROMPTS):
        texts = {}
        for count in range(1, LENGTH - len(prompt) + 1):
            for end in itertools.product(range(V), repeat=count):
                whole = count == LENGTH - len(prompt) or end[-1] == END
                if whole and END not in end[:-1]:
                    texts[end] = np.mean(log_p([*prompt, *end])[len(prompt) - 1 :])
        best = max(texts, key=texts.get)
        written = found.numpy()[: len(prompt) + len(best), i]
        assert written.tolist() == [*prompt, *best]
        np.testing.assert_allclose(means[i], texts[best], rtol=1e-5)


@pytest.mark.parametrize("k", [2, 3])
def test_a_narrow_beam_search_keeps_the_k_best_of_each_step(k):
    found, _ = sampling.beam_search(
        step, start(4 * k), *columns(PROMPTS), tf.constant(LENGTH), None, k
    )
    for i, prompt in enumerate(PROMPTS):
        beams = [prompt]
        while len(beams[0]) < LENGTH:
            texts = [[*beam, token] for beam in beams for token in range(V)]
            beams = sorted(texts, key=lambda t: -sum(log_p(t)[len(prompt) - 1 :]))[:k]
        assert found.numpy()[:LENGTH, i].tolist() == beams[0]


def greedy(penalty):
    numbers = {"temperature": 0.0, "top_k": V, "top_p": 1.0, "repetition_penalty": penalty}
    return {name: tf.constant(value) for name, value in numbers.items()}


@pytest.mark.parametrize(
    ("prompts", "last"),
    [([[0], [2]], [2, 1, 0, END, 0, 0, 0, 0]), ([[1, END, 2]], [1, END, 2, 1, 0, END, 0, 0])],
)
def test_writing_ends_when_all_have_ended(prompts, last):
    """And not before: an end within a prompt is none."""
    after = tf.constant([END, 0, 1, 1])  # what has ended would go on
    ids, lengths = columns(prompts)
    found = sampling.write(
        lambda ids, states: (tf.one_hot(tf.gather(after, ids), V), states), (), ids, lengths,
        tf.constant(8), tf.zeros(ids.shape), V, END, **greedy(1.0),
    ).numpy()  # fmt: skip
    assert found[:, len(prompts) - 1].tolist() == last


def test_writing_keeps_prompts():
    """Greedy, with a penalty: as a plain loop over one text does it."""
    ids, lengths = columns(PROMPTS)
    states, numbers = start(4), greedy(1.5)
    found = sampling.write(
        step, states, ids, lengths, tf.constant(LENGTH), tf.zeros(ids.shape), V, END, **numbers
    ).numpy()
    assert (found[LENGTH:] == 0).all(), "nothing is written from max_length on"
    for i, prompt in enumerate(PROMPTS):
        text = [*prompt]
        while len(text) < LENGTH and text[-1] != END:
            t = len(text) - 1
            logits = TABLE[t, text[-1]] + 0.7 * np.eye(V)[text[t - 1] if t else 0]
            scaled = np.where(logits > 0, logits / 1.5, logits * 1.5)
            text.append(int(np.where(np.isin(range(V), text), scaled, logits).argmax()))
        assert found[: len(text), i].tolist() == text


@pytest.mark.parametrize("jit_compile", [False, True])
def test_what_no_step_takes_has_been_seen_too(jit_compile):
    """The likeliest token that a text has not yet, where the first two are read at once."""
    ids, lengths = columns([[0, 1, 2], [3, 3, 2]])
    numbers = {"temperature": 0.0, "top_k": V, "top_p": 1.0, "repetition_penalty": 9.0}
    numbers = {name: tf.constant(value) for name, value in numbers.items()}
    logits = tf.constant([[4.0, 3.0, 2.0, 1.0]] * 3)

    @tf.function(jit_compile=jit_compile)
    def written(start):
        return sampling.write(
            lambda ids, states: (logits, states), tf.zeros(3), ids, lengths, tf.constant(LENGTH),
            tf.zeros(ids.shape), V, None, start=start, **numbers,
        )  # fmt: skip

    found = written(tf.constant(2)).numpy()[:LENGTH]
    assert found[:, 0].tolist() == [0, 1, 2, 3, 0]
    assert found[:, 1].tolist() == [3, 3, 2, 0, 1]


def test_texts_end_before_the_first_stop_string():
    options = sampling.Options(stop=["\n\n", "the"])
    assert options.cut("the cat\n\nthe dog", 3) == "the cat"
    assert options.cut("the cat saw the dog\n\n", 3) == "the cat saw "
    assert options.cut("the cat", 3) == "the cat"
    assert sampling.Options(stop="a").cut("cat", 1) == "c"


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": 0},
        {"top_k": 2.5},
        {"top_k": True},
        {"top_p": 0.0},
        {"top_p": 1.1},
        {"repetition_penalty": 0},
        {"num_beams": 0},
        {"stop": ""},
        {"stop": ["a", 3]},
        {"num_beams": 2, "temperature": 0.5},
    ],
)
def test_options_are_checked(options):
    name = [*options][0]
    with pytest.raises(ValueError, match=f"{name}.*Received: {name}="):
        sampling.Options(**options)


def test_the_ends_of_their_ranges_are_options():
    sampling.Options(temperature=0, top_k=1, top_p=1, repetition_penalty=0.1, num_beams=1)
    sampling.Options(num_beams=2, temperature=1.0, stop=("a", "b"))


# Filling masked places ---------------------------------------------------------------------------

MASKED = {"temperature": 1.0, "top_k": 6, "top_p": 1.0}
MASK = 6  # the tokens are 0 to 5


def fill(predict, masked, num_steps, uniforms=None, **options):
    """What `unmask` makes of rows that are 0 where they are not masked, and what it saw."""
    seen, ids = [], np.where(masked, MASK, 0).astype("int32")

    def watched(ids):
        seen.append(ids.numpy())
        return predict(ids)

    drawn = np.random.default_rng(2).random(ids.shape, "float32") if uniforms is None else uniforms
    numbers = {key: tf.constant(value) for key, value in {**MASKED, **options}.items()}
    filled = sampling.unmask(
        watched, tf.constant(ids), tf.constant(masked), drawn, num_steps=num_steps, **numbers
    )
    return filled.numpy(), seen


def same_everywhere(ids):
    return tf.tile(LOGITS[None, None], (*ids.shape, 1))


@pytest.mark.parametrize("num_steps", [1, 4, 8, 30, 99])
def test_masks_go_by_a_cosine_schedule_and_one_a_step_at_least(num_steps):
    masked = np.arange(30)[None] < np.array([[30], [5], [0]])
    ramp = np.linspace(0, 1, 30, dtype="float32")[:, None]  # no two places are as certain
    filled, seen = fill(lambda ids: same_everywhere(ids) * (1 + ramp), masked, num_steps,
                        temperature=0.0)  # fmt: skip
    assert not (filled == MASK).any() and not filled[~masked].any()
    for row, total in ((0, 30), (1, 5)):
        left, s = total, 0
        while left:
            assert (seen[s][row] == MASK).sum() == left
            s += 1
            cosine = math.floor(total * math.cos(math.pi / 2 * s / num_steps) + 1e-9)
            left = max(0, min(left - 1, cosine if s < num_steps else 0))
    assert len(seen) == min(num_steps, 30)


def test_the_most_certain_come_first_and_stay():
    order = np.random.default_rng(0).permutation(9)
    sharpness = (1.0 + order).astype("float32")[:, None]
    _, seen = fill(lambda ids: same_everywhere(ids) * sharpness, np.ones((1, 9), bool), 9,
                   temperature=0.0)  # fmt: skip
    for step, ids in enumerate(seen):
        assert {*np.flatnonzero(ids[0] != MASK)} == {*np.argsort(-order)[:step]}
        assert {*ids[0, ids[0] != MASK]} <= {LOGITS.argmax()}


@pytest.mark.parametrize("options, expected", [
    ({}, P), ({"temperature": 0.5}, softmax(LOGITS / 0.5)), ({"top_k": 2}, only(P, [2, 3])),
])  # fmt: skip
def test_places_that_know_nothing_of_each_other_are_drawn_as_asked(options, expected):
    """Whatever the order: the likely tokens, which come first, are not drawn more often."""
    filled, _ = fill(same_everywhere, np.ones((1000, 8), bool), 8, **options)
    np.testing.assert_allclose(np.bincount(filled.ravel(), minlength=6) / 8000, expected, atol=0.02)


def test_of_places_that_are_as_certain_the_first_comes_first():
    _, seen = fill(same_everywhere, np.ones((1, 5), bool), 5, temperature=0.0)
    assert [(ids[0] != MASK).tolist() for ids in seen] == np.tri(5, 5, -1, dtype=bool).tolist()


def test_windows_begin_with_half_of_what_is_there():
    seen = []

    def predict(ids):
        seen.append(ids.numpy())
        return same_everywhere(ids)

    ids, lengths = np.zeros((40, 3), "int32"), tf.constant([3, 14, 0])
    ids[:14] = 1
    written = sampling.write_windows(
        predict, tf.constant(ids), lengths, tf.constant(20), tf.zeros((40, 3)), 8, MASK, None,
        num_steps=1, **{**MASKED, "temperature": 0.0},
    ).numpy()  # fmt: skip
    known = [(window[:2] != MASK).sum(1).tolist() for window in seen]
    assert known == [[3, 4], [4, 4], [4, 8], [4, 8]], "8 + 4 + 4 + 4, and 14 + 4 + 4"
    assert (seen[0][0, :3] == 1).all() and (seen[0][1, :4] == 1).all()
    assert (written[:3, 0] == 1).all() and (written[:14, 1] == 1).all()
    assert (written[3:20, 0] == 2).all() and (written[14:20, 1] == 2).all()


def test_a_text_that_has_ended_is_written_no_further():
    calls = []
    predict = lambda ids: calls.append(1) or same_everywhere(ids)  # noqa: E731
    sampling.write_windows(
        predict, tf.zeros((40, 1), "int32"), tf.constant([3]), tf.constant(30), tf.zeros((40, 1)),
        8, MASK, 2, num_steps=1, **{**MASKED, "temperature": 0.0},
    )  # fmt: skip
    assert len(calls) == 1
