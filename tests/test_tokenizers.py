"""Tokenizers give back what they were given, in any language, and drop nothing."""

import builtins
import json

import numpy as np
import pytest

from keras_genai import tokenizers

TEXTS = [
    "Hello, world!  two\n\n_x y.\tz",
    "春眠不覺曉,處處聞啼鳥。\n夜來風雨聲 花落知多少",
    "é <|endoftext|> \U0001d11e 🙂 ا",
    " a  b",
    "c ",
    "caf\u00e9 cafe\u0301 x\u0301 y\r\n\rz\u2028\ufeff\0 👩\u200d👧 2²",
]


@pytest.mark.parametrize("kind", tokenizers.KINDS)
@pytest.mark.parametrize("count", [1, len(TEXTS)])
def test_decoding_gives_back_what_was_encoded(kind, count):
    texts = TEXTS[:count]
    vocabulary = tokenizers.learn(kind, texts, [], 300)
    assert vocabulary == tokenizers.learn(kind, texts, [], 300)
    tokenizer = tokenizers.load(kind, vocabulary)
    for text in texts:
        ids = tokenizer.encode(text)
        assert ids.dtype == np.int32 and 0 <= ids.min() <= ids.max() < len(tokenizer.pieces)
        assert tokenizer.decode(ids) == text
        # What is written on never changes what stands there, so that a prompt stays as it is.
        beginnings = [tokenizer.decode(ids[:n]) for n in range(len(ids))]
        assert all(text.startswith(beginning) for beginning in beginnings)
    if count == 1:
        assert tokenizer.end is None and tokenizer.num_tokens == len(tokenizer.pieces)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_documents_are_kept_apart(kind):
    texts = ["a b", "", "b\na"]
    several = tokenizers.load(kind, tokenizers.learn(kind, texts, [], 300))
    assert several.end == several.num_tokens - 1
    assert several.decode([several.end, *several.encode("a b"), several.end]) == "a b"
    two = tokenizers.learn(kind, texts[::2], [], 300)
    assert tokenizers.load(kind, two).end is not None
    ids = several.encode_documents(texts)
    assert np.flatnonzero(ids == several.end).tolist() == [
        0, 1 + len(several.encode("a b")), 2 + len(several.encode("a b")), len(ids) - 1
    ]  # fmt: skip
    one = tokenizers.load(kind, tokenizers.learn(kind, texts[2:], [], 300))
    assert one.decode(one.encode_documents(["a", "b"])) == "a\nb"


@pytest.mark.parametrize("kind", ["bytes", "bpe"])
def test_some_know_all_texts(kind):
    tokenizer = tokenizers.load(kind, tokenizers.learn(kind, ["the cat the cat"], [], 300))
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    codes = np.random.default_rng(0).permutation(0x110000)[:3000].tolist()
    anything = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    assert tokenizer.decode(tokenizer.encode(anything)) == anything
    with pytest.raises(ValueError, match=r"surrogate.*Received: 'a\\udce9'"):
        tokenizer.encode("a\udce9")
    euro = tokenizer.encode("1 €")
    assert tokenizer.decode(euro[:-1]) == "1 ", "half a character is none"
    assert tokenizer.decode([*euro[:-1], *tokenizer.encode("!")]) == "1 \ufffd!"


def test_byte_pairs_are_those_that_the_data_repeat():
    vocabulary = tokenizers.learn("bpe", ["the cat sat on the mat"] * 9, ["zebra " * 99], 265)
    tokenizer = tokenizers.load("bpe", vocabulary)
    assert tokenizer.num_tokens == 266 and json.loads(vocabulary.removeprefix(tokenizers.END))
    assert b" the" in tokenizer.pieces and b"at" in tokenizer.pieces
    assert not any(b"eb" in piece for piece in tokenizer.pieces), "held-out text teaches nothing"
    assert len(tokenizer.encode("the cat")) == 2
    with pytest.raises(ValueError, match="256 bytes.*Received: vocabulary_size=256"):
        tokenizers.learn("bpe", TEXTS, [], 256)


def test_words_are_split_at_what_is_no_letter():
    words = tokenizers.Words.split("Don't go, 2 x_y\n\nüber  all")
    assert words == [*"Don|'|t|go|,| |2|x_y|\n|\n|über| | |all".split("|")]


def test_what_is_unknown_is_listed():
    known = {kind: tokenizers.learn(kind, ["a cat"], ["sat"], 0) for kind in tokenizers.KINDS if
             not tokenizers.KINDS[kind].knows_all}  # fmt: skip
    assert known == {"characters": " acst", "words": '["a", "cat", "sat"]'}
    for kind, missing in (("characters", "Zz"), ("words", "Zz zz")):
        with pytest.raises(ValueError, match=f"without these {kind}.*Received: '{missing}'"):
            tokenizers.load(kind, known[kind]).encode("cat zz Zz cat")


def test_what_does_not_fit_is_refused(monkeypatch):
    with pytest.raises(ValueError, match="characters, bytes, bpe, words. Received: 'letters'"):
        tokenizers.load("letters", "abc")
    for kind in ("bytes", "words", "bpe"):
        with pytest.raises(ValueError, match="is not one of.*Received: vocabulary='abc'"):
            tokenizers.load(kind, "abc")
    for vocabulary in ("", "abca"):
        with pytest.raises(ValueError, match=f"is not one of.*Received: vocabulary='{vocabulary}'"):
            tokenizers.load("characters", vocabulary)

    def without(name, *rest):
        if name == "tokenizers":
            raise ImportError("No module named 'tokenizers'")
        return imported(name, *rest)

    imported = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without)
    for use, arguments in ((tokenizers.learn, (TEXTS, [], 300)), (tokenizers.load, ("{}",))):
        with pytest.raises(ImportError, match=r"keras_genai\[text\].*Received: No module"):
            use("bpe", *arguments)


@pytest.mark.parametrize("kind", tokenizers.KINDS)
def test_masks_take_the_place_of_tokens(kind):
    text = "the cat sat, on a cat."
    tokenizer = tokenizers.load(kind, tokenizers.learn(kind, [text] * 9, [], 270))
    end, mask = tokenizer.end, tokenizer.num_tokens
    for masked in ("the [MASK] sat, on a [MASK].", "the [MASK] [MASK], on", "[MASK][MASK]"):
        ids = tokenizer.encode_masked(masked, mask)
        assert ids.dtype == np.int32 and (ids == mask).sum() == masked.count("[MASK]")
        assert end not in ids
    ids = tokenizer.encode_masked("the [MASK] sat", mask)
    if kind in ("characters", "bytes"):
        assert ids.tolist() == [*tokenizer.encode("the "), mask, *tokenizer.encode(" sat")]
    if kind == "words":
        assert ids.tolist() == [*tokenizer.encode("the"), mask, *tokenizer.encode("sat")]
        for between in (" , ", " cat "):
            ids = tokenizer.encode_masked(f"[MASK] [MASK]{between}[MASK]", mask).tolist()
            kept = between.replace(" cat ", "cat")  # a word has no blanks of its own
            assert ids == [mask, mask, *tokenizer.encode(kept), mask]
    if kind == "bpe":
        assert ids.tolist() == [*tokenizer.encode("the"), mask, *tokenizer.encode(" sat")]
    assert tokenizer.encode_masked("the cat", mask).tolist() == tokenizer.encode("the cat").tolist()
