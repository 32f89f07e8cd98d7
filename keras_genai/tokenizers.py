"""Tokenizers: text to numbers and back.

    "characters"  each character of the data
    "bytes"       the bytes of UTF-8: any text, in any language
    "bpe"         byte pair encoding on bytes: any text, in pieces that the training data repeat.
                  Sennrich et al. 2016, https://arxiv.org/abs/1508.07909; on bytes as in GPT-2,
                  Radford et al. 2019. By the package `tokenizers`, from the extra `text`
    "words"       each word, punctuation mark and white space of the data

All give back exactly the text that was encoded. What one has learned is one string, the
`vocabulary` of a model, which is saved with it: the characters themselves, "" for bytes, the JSON
of `tokenizers`, or a JSON list of words. Of data in several documents it begins with
`<|endoftext|>`: there is a token more, which stands before and after each document.
"""

import codecs
import itertools
import json
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

END = "<|endoftext|>"
MASK = "[MASK]"  # in a text of which a model fills places


class Tokenizer:
    """Text to ids and back.

    Args:
        learned: What it has learned, without `END`.
        ends: Whether there is a token that ends a text.

    Attributes:
        num_tokens: How many there are, V.
        end: The id of the token that ends a text, the last one, or None.
    """

    unit = "characters"  # what messages call its tokens
    knows_all = False  # whether it can encode any text

    def __init__(self, learned: str, ends: bool):
        self.pieces = self.read(learned)
        self.num_tokens = len(self.pieces) + ends
        self.end = len(self.pieces) if ends else None

    @staticmethod
    def learn(documents: Iterable[str], size: int) -> str:
        """What `read` takes, from data; `size` is the number of tokens where it can be chosen."""
        raise NotImplementedError

    def read(self, learned: str) -> Sequence[Any]:
        """The tokens, by id. Raises any error where `learned` is not of this tokenizer."""
        raise NotImplementedError

    def encode(self, text: str) -> np.ndarray:
        """Ids int32 `(T,)` of a text.

        Raises:
            ValueError: If it has characters or words that the data lacked; the message lists them.
        """
        raise NotImplementedError

    def encode_masked(self, text: str, mask: int) -> np.ndarray:
        """As `encode`, with the id `mask` for each `[MASK]`."""
        first, *others = self.beside_masks(text).split(MASK)
        parts = [self.encode(first)]
        for piece in others:
            parts += [np.array([mask], "int32"), self.encode(piece)]
        return np.concatenate(parts)

    def beside_masks(self, text: str) -> str:
        """A text without the blanks that belong to what fills its masks."""
        return text

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids; the token that ends a text has none."""
        return self.join([self.pieces[i] for i in ids if i != self.end])

    def join(self, pieces: Sequence[Any]) -> str:
        """The text of tokens."""
        return "".join(pieces)

    def encode_documents(self, documents: Sequence[str]) -> np.ndarray:
        """All documents in one row, int32 `(T,)`: `end` before, between and after them.

        Without that token there is a line break between them.

        Raises:
            ValueError: If they are one string, whose characters would each be a document, or as
                `encode`.
        """
        if isinstance(documents, str):
            raise ValueError(f"Documents are a list of strings. Received: {documents!r:.80}")
        if self.end is None:
            return self.encode("\n".join(documents))
        parts = [np.array([self.end], "int32")]
        for document in documents:
            parts += [self.encode(document), parts[0]]
        return np.concatenate(parts)


class Characters(Tokenizer):
    """Each character of the data, in the order of their code points."""

    @staticmethod
    def learn(documents: Iterable[str], size: int) -> str:
        """As in the base."""
        return "".join(sorted(set().union(*documents)))

    def read(self, learned: str) -> Sequence[str]:
        """As in the base."""
        self.ids = {piece: i for i, piece in enumerate(learned)}
        if not 0 < len(learned) == len(self.ids):
            raise ValueError(learned)  # a second id of a character would never be read
        return learned

    def encode(self, text: str) -> np.ndarray:
        """As in the base."""
        return self._look_up(text)

    def _look_up(self, pieces: Sequence[str]) -> np.ndarray:
        if unknown := sorted(set(pieces) - set(self.ids)):
            between = "" if self.unit == "characters" else " "
            raise ValueError(
                f"The model was built on a text without these {self.unit}; leave them out, train "
                'on a text that has them, or with tokenizer="bytes" or "bpe", which know all '
                f"texts. Known: {between.join(self.pieces)!r:.200}. "
                f"Received: {between.join(unknown)!r:.200}"
            )
        return np.array([self.ids[piece] for piece in pieces], "int32")


class Words(Characters):
    """Runs of letters and digits, and single other characters; of no use for Chinese.

    One blank between two words goes without saying. All other white space is tokens.
    """

    unit = "words"
    split = re.compile(r"\w+|(?!(?<=\w) (?=\w))\W").findall

    @staticmethod
    def learn(documents: Iterable[str], size: int) -> str:
        """As in the base."""
        words = set().union(*(Words.split(document) for document in documents))
        return json.dumps(sorted(words), ensure_ascii=False)

    def read(self, learned: str) -> Sequence[str]:
        """As in the base."""
        words = json.loads(learned)
        self.ids = {word: i for i, word in enumerate(words)}
        return words

    def encode(self, text: str) -> np.ndarray:
        """As in the base."""
        return self._look_up(Words.split(text))

    def beside_masks(self, text: str) -> str:
        """As in the base: a mask is a word, and a blank between two words goes without saying."""
        mask = re.escape(MASK)
        return re.sub(rf"(?<=\w) (?={mask})|(?<={mask}) (?=\w|{mask})", "", text)

    def join(self, pieces: Sequence[str]) -> str:
        """As in the base."""
        is_word = [bool(re.match(r"\w", piece)) for piece in pieces]
        blanks = [" " * (here and before) for before, here in itertools.pairwise([False, *is_word])]
        return "".join(itertools.chain(*zip(blanks, pieces, strict=True)))


class Bytes(Tokenizer):
    """The bytes of UTF-8."""

    unit = "bytes"
    knows_all = True

    @staticmethod
    def learn(documents: Iterable[str], size: int) -> str:
        """As in the base: nothing."""
        return ""

    def read(self, learned: str) -> Sequence[bytes]:
        """As in the base."""
        if learned:
            raise ValueError(learned)
        return [bytes([byte]) for byte in range(256)]

    def encode(self, text: str) -> np.ndarray:
        """As in the base."""
        return np.frombuffer(_utf8(text), "uint8").astype("int32")

    def join(self, pieces: Sequence[bytes]) -> str:
        """As in the base; a character that is cut off at the end is left out."""
        # What a model writes need not be UTF-8.
        return codecs.getincrementaldecoder("utf-8")("replace").decode(b"".join(pieces))


class BytePairs(Bytes):
    """Pieces of words, each made of two shorter ones that the data often had side by side."""

    unit = "tokens"

    @staticmethod
    def learn(documents: Iterable[str], size: int) -> str:
        """As in the base."""
        if size < 257:
            raise ValueError(
                "Byte pair encoding begins with the 256 bytes: `vocabulary_size` must be larger. "
                f"Received: vocabulary_size={size}"
            )
        package = _package()
        byte_level = package.pre_tokenizers.ByteLevel
        tokenizer = package.Tokenizer(package.models.BPE())
        tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
        trainer = package.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=byte_level.alphabet(), show_progress=False
        )
        tokenizer.train_from_iterator(documents, trainer)
        return tokenizer.to_str()

    def read(self, learned: str) -> Sequence[bytes]:
        """As in the base."""
        self.tokenizer = _package().Tokenizer.from_str(learned)
        names = map(self.tokenizer.id_to_token, range(self.tokenizer.get_vocab_size()))
        letters = _letters()
        return [bytes(letters[letter] for letter in name) for name in names]

    def encode(self, text: str) -> np.ndarray:
        """As in the base."""
        _utf8(text)  # of what is none the package says nothing that helps
        return np.array(self.tokenizer.encode(text).ids, "int32")

    def beside_masks(self, text: str) -> str:
        """As in the base: a token that begins a word has the blank before it."""
        return text.replace(f" {MASK}", MASK)


def _utf8(text: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(
            "Text is whole characters, and a surrogate is half of one; on a command line it stands "
            f"for bytes that are not UTF-8. Received: {text!r:.80}"
        ) from error


def _letters() -> dict[str, int]:
    """The letters by which byte-level BPE writes bytes: Latin-1 where it can be seen."""
    seen = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in seen]
    return {chr(b): b for b in seen} | {chr(256 + i): b for i, b in enumerate(others)}


def _package() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError(
            'tokenizer="bpe" needs the package of an extra: `pip install "keras_genai[text]"`. '
            f"Received: {error}"
        ) from error
    return tokenizers


KINDS: dict[str, type[Tokenizer]] = {
    "characters": Characters,
    "bytes": Bytes,
    "bpe": BytePairs,
    "words": Words,
}


def check(kind: str) -> None:
    """Raises ValueError where there is no tokenizer of this name."""
    if kind not in KINDS:
        raise ValueError(f"`tokenizer` must be one of {', '.join(KINDS)}. Received: {kind!r}")


def learn(kind: str, train: Sequence[str], held: Sequence[str], size: int) -> str:
    """What `load` takes, from data.

    Args:
        kind: The tokenizer's name.
        train: Documents to learn from.
        held: Those of other parts, whose characters or words must be known too. Of a tokenizer
            that knows all texts nothing depends on them.
        size: The number of tokens of "bpe".
    """
    check(kind)
    documents = train if KINDS[kind].knows_all else [*train, *held]
    return END * (len(train) > 1) + KINDS[kind].learn(documents, size)


def load(kind: str, vocabulary: str) -> Tokenizer:
    """The tokenizer that has learned this.

    Args:
        kind: Its name.
        vocabulary: As `learn` returned it; of "characters" also a plain string of them.

    Raises:
        ValueError: If the vocabulary is not of this tokenizer.
        ImportError: If "bpe" lacks its package.
    """
    check(kind)
    try:
        return KINDS[kind](vocabulary.removeprefix(END), vocabulary.startswith(END))
    except ImportError:
        raise
    except Exception as error:  # `tokenizers` raises nothing more special
        raise ValueError(
            f"`vocabulary` is not one of tokenizer={kind!r}: leave it out, so that it is taken "
            f"from the data. Received: vocabulary={vocabulary!r:.80}"
        ) from error
