"""Metrics of texts: golden numbers, counts by hand, long texts."""

import itertools
import json
import sys
import time

import golden
import numpy as np
import pytest

from keras_genai.metrics import bleu, distinct_n, longest_copy, pass_at_k, rouge, self_bleu

GOLDEN = json.loads(golden.FILE.read_text("utf-8"))


def test_bleu_by_hand_with_its_signature():
    score, signature = bleu(["the cat sat on the mat"], ["the cat sat on a mat"])
    # Matches of 1- to 4-grams: 5 of 6, 3 of 5, 2 of 4, 1 of 3; equal lengths.
    assert score == pytest.approx(100 * (5 / 6 * 3 / 5 * 2 / 4 * 1 / 3) ** (1 / 4))
    assert signature.startswith("nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:")


def test_bleu_is_of_the_corpus_with_sacrebleus_tokens():
    samples = ["It isn't a dog, is it?", "the cat sat on the mat and slept"]
    references = ["It isn't a dog, is it not?", "a cat sat on the mat, and slept"]
    import sacrebleu

    expected = sacrebleu.corpus_bleu(samples, [references]).score
    assert bleu(samples, references)[0] == pytest.approx(expected, abs=1e-9)
    assert bleu(samples, samples)[0] == pytest.approx(100.0)


def test_rouge_by_hand():
    scores = rouge(["the cat sat on the mat"], ["the cats sat on a mat"])
    assert scores == pytest.approx({"rouge1": 5 / 6, "rouge2": 3 / 5, "rougeL": 5 / 6})
    unstemmed = rouge(["the cat sat on the mat"], ["the cats sat on a mat"], stemmer=False)
    assert unstemmed == pytest.approx({"rouge1": 4 / 6, "rouge2": 1 / 5, "rougeL": 4 / 6})
    assert rouge(["a", "b"], ["a", "c"])["rouge1"] == 0.5


@pytest.mark.parametrize("metric", [bleu, rouge])
def test_pairs_and_packages_are_asked_for(metric, monkeypatch):
    with pytest.raises(ValueError, match=r"Received: 2 texts and 1 references$"):
        metric(["a", "b"], ["a"])
    with pytest.raises(ValueError, match=r"Write `\[text\]`.*Received: 'a text'$"):
        metric("a text", ["a text"])
    for module in ("sacrebleu", "rouge_score.rouge_scorer"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"pip install 'keras_genai\[text\]'`. Received: .+"):
        metric(["a"], ["a"])


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_self_bleu_equals_nltk(n):
    expected = GOLDEN["self_bleu"][str(n)]
    assert self_bleu(golden.texts(), n, num_samples=12, num_tokens=20) == pytest.approx(expected)


def test_self_bleu_of_equal_and_of_unlike_samples():
    words = [str(i) for i in range(400)]
    assert self_bleu([words[:10]] * 5, 4, 5, 10) == pytest.approx(1.0)
    unlike = [words[10 * i : 10 * i + 10] for i in range(5)]
    expected = (0.1 / 10 * 0.1 / 9) ** (1 / 2)
    assert self_bleu(unlike, 2, 5, 10) == pytest.approx(expected)


def test_distinct_n_by_hand():
    samples = ["a b a b x x x", "b a b c y y y"]
    # ab ba ab | ba ab bc
    assert distinct_n(samples, 2, num_samples=2, num_tokens=4) == 3 / 6
    assert distinct_n(samples, 1, num_samples=2, num_tokens=4) == 3 / 8
    assert distinct_n([list("abab"), list("babc")], 2, 2, 4) == 3 / 6
    assert distinct_n([*samples, "more of it"], 2, num_samples=2, num_tokens=4) == 3 / 6


@pytest.mark.parametrize("metric", [self_bleu, distinct_n])
def test_the_amount_of_text_is_fixed(metric):
    with pytest.raises(ValueError, match=r"At least 100 .* Received: 2 samples, .* of 50 tokens$"):
        metric(["a " * 60, "b " * 50])
    with pytest.raises(ValueError, match=r"of at least 6 tokens.*Received: 2 .* of 5 tokens$"):
        metric(["a " * 60, "b " * 5], num_samples=2, num_tokens=6)
    with pytest.raises(ValueError, match=r"must be a list"):
        metric("a text")


# Copies ------------------------------------------------------------------------------------------


def brute_force(sample, text):
    runs = itertools.combinations(range(len(sample) + 1), 2)
    return max([0, *(j - i for i, j in runs if sample[i:j] in text)])


def test_longest_copy_equals_brute_force():
    rng = np.random.default_rng(0)
    for letters in ("ab", "abcdef"):
        text = "".join(rng.choice(list(letters), 200))
        samples = ["".join(rng.choice(list(letters + "é"), 20)) for _ in range(50)]
        runs = longest_copy([*samples, ""], text)
        assert [len(run) for run in runs] == [brute_force(s, text) for s in [*samples, ""]]
        assert all(
            run in text and run in sample for run, sample in zip(runs, samples, strict=False)
        )


def test_longest_copy_at_the_ends_and_of_everything():
    text = "to be or not to be\n\ud83d\ude00 that"
    assert longest_copy([text, "xxto be", "thatx", "", "!"], text) == [
        text,
        "to be",
        "that",
        "",
        "",
    ]
    with pytest.raises(ValueError, match=r"At least 1 .* Received: 0$"):
        longest_copy(["abc"], "")


def test_longest_copy_of_a_text_that_repeats_itself():
    assert longest_copy(["aaaaa", "baab"], "aaaa") == ["aaaa", "aa"]
    assert longest_copy(["ababa"], "abab" * 50) == ["ababa"]


def test_longest_copy_of_tokens():
    text = ["to", "be", "or", "not", "to", "be"]
    assert longest_copy([["not", "to", "think"], ["tobe"]], text) == [["not", "to"], []]


def test_longest_copy_is_quick_on_a_megabyte():
    rng = np.random.default_rng(0)
    words = ["".join(rng.choice(list("abcdefghijklmnop"), n)) for n in rng.integers(2, 9, 3000)]
    text = " ".join(rng.choice(words, 180_000))[:1_000_000]
    samples = [" ".join(rng.choice(words, 100)) for _ in range(50)] + [text[500_000:500_900]]
    start = time.process_time()
    runs = longest_copy(samples, text)
    assert time.process_time() - start < 20.0  # about 2; quadratic would be hours
    assert max(len(run) for run in runs[:-1]) < 50 and len(runs[-1]) == 900


def test_pass_at_k_is_the_share_of_choices_with_one_that_passes():
    for n, k in ((6, 1), (6, 2), (6, 6), (5, 3)):
        for c in range(n + 1):
            choices = [*itertools.combinations([True] * c + [False] * (n - c), k)]
            expected = sum(map(any, choices)) / len(choices)
            assert pass_at_k([c], n, k)[0] == pytest.approx(expected)
    assert pass_at_k(np.array([0, 10, 1]), 10, 1).tolist() == pytest.approx([0, 1, 0.1])


@pytest.mark.parametrize(
    ("passed", "n", "k"), [([3], 2, 1), ([-1], 2, 1), ([0.5], 2, 1), ([1], 2, 3), ([1], 2, 0)]
)
def test_pass_at_k_refuses_what_has_no_meaning(passed, n, k):
    with pytest.raises(ValueError, match="Received: "):
        pass_at_k(passed, n, k)
