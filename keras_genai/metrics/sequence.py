"""Metrics of texts: against references, among samples, against the training text.

A text is a string, whose tokens are its words, or a list of tokens: `list(text)` for characters.
BLEU and ROUGE are computed by the packages `sacrebleu` and `rouge-score`, from the extra `text`.
"""

from __future__ import annotations

import bisect
import importlib
import itertools
import math
from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from keras_genai.metrics._checks import Array, check_count, check_setting

Text = str | Sequence[Hashable]


def pass_at_k(passed: ArrayLike, n: int, k: int) -> Array:
    """The probability that of k programs drawn for a task at least one passes its tests.

    With c of n drawn programs passing, the unbiased estimate is

        pass@k = 1 - C(n - c, k) / C(n, k)

    the share of the choices of k of the n that hold one that passes.

    Chen et al., 2021, https://arxiv.org/abs/2107.03374, equation 1.

    Args:
        passed: int (N,), c of each task.
        n: programs drawn for each task.
        k: at most n.

    Returns:
        float64 (N,), of which the mean is the usual pass@k.

    Raises:
        ValueError: counts that are not between 0 and n, or another k.
    """
    check_setting(1 <= k <= n, f"from 1 to n={n}", k=k)
    c = np.asarray(passed)
    if c.ndim != 1 or not np.issubdtype(c.dtype, np.integer) or not np.all((c >= 0) & (c <= n)):
        raise ValueError(f"`passed` has an integer from 0 to n={n} for each task. Received: {c}")
    return np.array([1.0 - math.comb(n - x, k) / math.comb(n, k) for x in c.tolist()])


def bleu(samples: Sequence[str], references: Sequence[str]) -> tuple[float, str]:
    """Corpus BLEU in percent, as SacreBLEU computes it by default.

    Papineni et al. 2002, https://aclanthology.org/P02-1040; Post 2018,
    https://arxiv.org/abs/1804.08771. Its words are what blanks and punctuation divide: it is of
    little use for Chinese or Japanese.

    Args:
        samples: texts.
        references: one reference for each.

    Returns:
        The score, and the signature to state beside it: tokenizer, smoothing, version.
    """
    _check_pairs(samples, references)
    metric = _from_extra("sacrebleu").BLEU()
    score = metric.corpus_score(list(samples), [list(references)]).score
    return score, str(metric.get_signature())


def rouge(
    samples: Sequence[str], references: Sequence[str], stemmer: bool = True
) -> dict[str, float]:
    """ROUGE-1, ROUGE-2 and ROUGE-L: mean F-measures in 0..1, by Google's `rouge-score`.

    Lin 2004, https://aclanthology.org/W04-1013. That package knows the letters a to z and digits
    alone: for texts in another alphabet all is 0.

    Args:
        samples: texts.
        references: one reference for each.
        stemmer: whether words are cut to Porter's stems. State it.
    """
    _check_pairs(samples, references)
    names = ["rouge1", "rouge2", "rougeL"]
    scorer = _from_extra("rouge_score.rouge_scorer").RougeScorer(names, use_stemmer=stemmer)
    pairs = zip(references, samples, strict=True)
    scores = [scorer.score(reference, sample) for reference, sample in pairs]
    return {name: float(np.mean([score[name].fmeasure for score in scores])) for name in names}


def _check_pairs(samples: Sequence[str], references: Sequence[str]) -> None:
    _check_list(samples)
    _check_list(references)
    if len(samples) != len(references) or not samples:
        raise ValueError(
            "Each text needs a reference, and there must be at least 1. "
            f"Received: {len(samples)} texts and {len(references)} references"
        )


def _check_list(texts: Sequence[Text]) -> None:
    if isinstance(texts, str):
        raise ValueError(f"Texts must be a list. Write `[text]` for one. Received: {texts[:40]!r}")


def _from_extra(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ImportError(
            "BLEU and ROUGE need the packages of an extra: `pip install 'keras_genai[text]'`. "
            f"Received: {error}"
        ) from error


def self_bleu(
    samples: Sequence[Text], n: int = 4, num_samples: int = 100, num_tokens: int = 50
) -> float:
    """How much samples repeat each other: the mean BLEU-n of each against all others, in 0..1.

    Zhu et al. 2018, https://arxiv.org/abs/1802.01886 (Texygen), with equal weights for 1- to
    n-grams and Chen and Cherry's smoothing method 1 (an order without any match counts as 0.1;
    NLTK gives 0 where not even a word matches).
    It grows with the number of samples and depends on their length, so both are fixed: all are
    cut to one length, and there is no brevity penalty.

    Args:
        samples: texts; the first `num_samples` count.
        n: the longest n-gram.
        num_samples: how many samples are compared.
        num_tokens: of each sample, the first tokens that count.

    Raises:
        ValueError: too few samples, or a sample with too few tokens.
    """
    check_setting(num_samples >= 2, "at least 2", num_samples=num_samples)
    tokens = _tokens(samples, n, num_samples, num_tokens)
    logs = np.zeros(num_samples)
    for order in range(1, n + 1):
        counts = [Counter(_ngrams(text, order)) for text in tokens]
        matches = np.array(_matches(counts))  # (num_samples,)
        logs += np.log(np.where(matches > 0, matches, 0.1) / (num_tokens - order + 1))
    return float(np.exp(logs / n).mean())


def _matches(counts: list[Counter]) -> list[int]:
    """Of each text, how many n-grams occur elsewhere, each as often as in any one other text."""
    most: dict[Any, list[int]] = {}  # n-gram: the two largest counts in a single text
    for count in counts:
        for gram, times in count.items():
            most[gram] = sorted([*most.get(gram, (0, 0)), times])[-2:]
    return [
        # Where this text itself holds the largest count, the second is the most of the others.
        sum(min(times, most[gram][times < most[gram][1]]) for gram, times in count.items())
        for count in counts
    ]


def distinct_n(
    samples: Sequence[Text], n: int = 2, num_samples: int = 100, num_tokens: int = 50
) -> float:
    """The share of different n-grams among all n-grams of the samples: 1 if none occurs twice.

    After Li et al. 2016, https://arxiv.org/abs/1510.03055, who divide by the number of words in
    place of that of n-grams: their number is (num_tokens - n + 1) / num_tokens of this one. It
    falls with the amount of text, so that both the number of samples and their length are fixed.

    Args:
        samples: texts; the first `num_samples` count.
        n: the length of an n-gram.
        num_samples: how many samples count.
        num_tokens: of each sample, the first tokens that count.

    Raises:
        ValueError: too few samples, or a sample with too few tokens.
    """
    check_setting(num_samples >= 1, "at least 1", num_samples=num_samples)
    grams = [g for text in _tokens(samples, n, num_samples, num_tokens) for g in _ngrams(text, n)]
    return len(set(grams)) / len(grams)


def _ngrams(tokens: Sequence[Hashable], n: int) -> Any:
    return zip(*(itertools.islice(tokens, i, None) for i in range(n)), strict=False)


def _tokens(
    samples: Sequence[Text], n: int, num_samples: int, num_tokens: int
) -> list[Sequence[Hashable]]:
    """The first tokens of the first samples, as many as asked for and at least one n-gram."""
    check_setting(n >= 1, "at least 1", n=n)
    check_setting(num_tokens >= n, f"at least n={n}", num_tokens=num_tokens)
    _check_list(samples)
    split = [text.split() if isinstance(text, str) else text for text in samples[:num_samples]]
    least = min(map(len, split), default=0)
    if len(split) < num_samples or least < num_tokens:
        raise ValueError(
            f"At least {num_samples} samples of at least {num_tokens} tokens each are needed, "
            "since the number depends on both: generate more or longer ones, or set `num_samples` "
            "and `num_tokens`, for all that you compare. "
            f"Received: {len(split)} samples, the shortest of {least} tokens"
        )
    return [text[:num_tokens] for text in split]


def longest_copy(samples: Sequence[Text], training_text: Text) -> list[Text]:
    """The longest run of each sample that stands in the training text.

    Runs of characters for strings, of tokens for lists. Chance alone gives runs that grow with
    the logarithm of the training text: compare with those of a held-out text.

    Args:
        samples: texts.
        training_text: a string, or a list of tokens if the samples are.

    Returns:
        The first longest run of each sample, a part of it; its `len` is the number to state.

    Raises:
        ValueError: a single string in place of a list, an empty training text.
    """
    _check_list(samples)
    check_count(len(training_text), 1)
    codes: dict[Hashable, str] = {}  # any token as one character, so that runs are substrings
    for token in itertools.chain(training_text, *samples):
        codes.setdefault(token, chr(len(codes)))
    text = "".join([codes[token] for token in training_text])
    suffixes = _suffix_array(text)
    runs = []
    for sample in samples:
        coded, length, best = "".join([codes[token] for token in sample]), 0, 0
        for end in range(1, len(sample) + 1):
            # A longest run up to `end` is at most one longer than any before it.
            if _stands_in(text, suffixes, coded[end - length - 1 : end]):
                length, best = length + 1, end - length - 1
        runs.append(sample[best : best + length])
    return runs


def _suffix_array(text: str) -> Array:
    """The starts of all suffixes in their order: sorted by 1, 2, 4, ... characters."""
    ranks = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.int64)
    width = 1
    while True:
        following = np.zeros_like(ranks)
        following[:-width] = ranks[width:] + 1  # 0 where the text has ended
        keys = ranks * (max(following.max(), ranks.max()) + 2) + following
        order = np.argsort(keys)
        steps = np.diff(keys[order]) > 0
        ranks[order] = np.concatenate([[0], np.cumsum(steps)])
        if steps.all():
            return order
        width *= 2


def _stands_in(text: str, suffixes: Array, run: str) -> bool:
    place = bisect.bisect_left(suffixes, run, key=lambda start: text[start : start + len(run)])
    return place < len(suffixes) and text.startswith(run, suffixes[place])
