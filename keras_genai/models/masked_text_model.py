"""`MaskedTextModel`: what models share that fill gaps in text. No model's mathematics is here."""

import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import sampling
from keras_genai.models.text_model import TextModel, uniforms_by_text
from keras_genai.tokenizers import MASK


class MaskedTextModel(TextModel):
    """A model of text that sees both sides of a gap.

    `call` gives logits of what stands at each place: int32 `(N, T)`, at most `sequence_length`
    tokens, to `(N, T, V)`. Two ids more than the tokenizer's are seen and never predicted: `mask`
    where a token is wanted, and `padding` after texts that are shorter than others.
    """

    options = sampling.Filling

    @property
    def mask(self) -> int:
        """The id of [MASK]."""
        return self.num_tokens

    @property
    def padding(self) -> int:
        """The id of what no place sees."""
        return self.num_tokens + 1

    def fill(
        self,
        texts: str | Sequence[str],
        *,
        temperature: float = 0.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        seed: int | None = None,
    ) -> Any:
        """Fills every [MASK] of texts, one at a time, the most certain first.

        A mask is one token: several in a row stand for as many characters, or what the tokenizer
        has. Of "bpe" a token that begins a word has the blank before it, so that of a mask goes.

        Args:
            texts: A string or a list of strings, of at most `sequence_length` tokens each.
            temperature: 0 takes the likeliest tokens; 1 draws them by their probabilities.
            top_k: As in `generate`.
            top_p: As in `generate`.
            seed: Of what is drawn; what a text is filled with does not depend on the others.

        Returns:
            A string for a string, a list for a list.

        Raises:
            ValueError: If an option is out of its range, or a text has no [MASK], is too long or
                has unknown characters or words.
        """
        options = sampling.Filling(temperature, top_k, top_p, num_steps=self.sequence_length)
        self.need_networks()
        given: Any = [*texts] if isinstance(texts, list | tuple) else [texts]
        ids = self._padded(self._encode_masked(given))  # N T
        count, n = len(ids), 1 << (len(ids) - 1).bit_length()
        ids = np.pad(ids, ((0, n - count), (0, 0)), constant_values=self.padding)
        chances = uniforms_by_text(self.seed_for(seed), self.sequence_length, count, n)
        rows = self._filler()(ids, chances.T, options.tensors(self.num_tokens)).numpy()
        filled = [self.codec.decode(row[row < self.num_tokens]) for row in rows[:count]]
        return filled if isinstance(texts, list | tuple) else filled[0]

    def candidates(self, text: str, k: int = 5) -> list[list[tuple[str, float]]]:
        """What may stand at each [MASK] of a text, the others masked too.

        Args:
            text: A string, as in `fill`.
            k: How many, at least 1.

        Returns:
            For each [MASK] a list of `k` pairs of a token's text and its probability, or of all
            tokens if there are no more, the likeliest first.

        Raises:
            ValueError: As `fill`, or if `k` is out of its range.
        """
        if not isinstance(k, numbers.Integral) or k < 1:
            raise ValueError(f"`k` must be a whole number from 1. Received: k={k!r}")
        self.need_networks()
        (ids,) = self._encode_masked([text])
        logits = self._text_logits(tf.constant(self._padded([ids]))).numpy()[0, : len(ids)]  # T V
        p = tf.nn.softmax(logits[ids == self.mask]).numpy()  # a row a mask
        count = min(k, len(self.codec.pieces))
        orders = np.argsort(-p, axis=1, kind="stable")[:, :count]
        return [
            [(self.codec.decode([i]), float(row[i])) for i in order]
            for row, order in zip(p, orders, strict=True)
        ]

    def generate(  # type: ignore[override]  # some options are of another kind of model
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        max_length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        num_steps: int = 32,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Any:
        """Continues prompts, a window of `sequence_length` tokens at a time.

        A window begins with the end of the text, at most half of it, and the rest is filled in
        `num_steps` steps, by a cosine schedule. Arguments, results and errors are those of
        `TextModel.generate`, but for:

        Args:
            prompts: As there.
            max_length: As there.
            temperature: As there.
            top_k: As there.
            top_p: As there.
            num_steps: More take longer, and what is written at once is less; with
                `sequence_length` steps it is one token.
            stop: As there.
            seed: As there.
        """
        options = sampling.Filling(temperature, top_k, top_p, stop=stop, num_steps=num_steps)
        return self._written(prompts, max_length, options, seed)

    @property
    def overhang(self) -> int:  # type: ignore[override]
        """A window is written to its end."""
        return self.sequence_length

    def _writer(self, num_beams: int) -> Any:
        def write(ids: Any, lengths: Any, last: Any, chances: Any, numbers: Any) -> Any:
            return sampling.write_windows(
                self._logits, ids, lengths, last, chances, self.sequence_length, self.mask,
                self.codec.end, **numbers,
            )  # fmt: skip

        return self.graph_of("text", write, jit_compile=True)

    def _filler(self) -> Any:
        def fill(ids: Any, chances: Any, numbers: Any) -> Any:
            masked = ids == self.mask
            return sampling.unmask(self._text_logits, ids, masked, chances, **numbers)

        return self.graph_of("fill", fill, jit_compile=True)

    def _logits(self, ids: tf.Tensor) -> tf.Tensor:
        return self(ids, training=False)

    def _text_logits(self, ids: tf.Tensor) -> tf.Tensor:
        """Logits (N, T, V) without the token that ends a text, which is no text."""
        logits, end = self._logits(ids), self.codec.end
        if end is None:
            return logits
        return tf.where(tf.range(self.num_tokens) == end, -np.inf, logits)

    def _encode_masked(self, texts: Sequence[Any]) -> list[np.ndarray]:
        for text in texts:
            if not isinstance(text, str) or MASK not in text:
                raise ValueError(f"A text to fill is a string with {MASK}. Received: {text!r:.80}")
        return [self.codec.encode_masked(text, self.mask) for text in texts]

    def _padded(self, rows: Sequence[np.ndarray]) -> np.ndarray:
        """Rows of tokens as int32 (N, T)."""
        padded = np.full((len(rows), self.sequence_length), self.padding, "int32")
        for target, ids in zip(padded, rows, strict=True):
            if len(ids) > self.sequence_length:
                raise ValueError(
                    f"{self._title} sees at most {self.sequence_length} {self.codec.unit} at once: "
                    "cut the text (`tokens` does with cut=True), or train with a larger "
                    f"sequence_length. Received: {len(ids)} {self.codec.unit}"
                )
            target[: len(ids)] = ids
        return padded

    def tokens(self, texts: Sequence[str], cut: bool = False) -> np.ndarray:
        """Texts as a classifier takes them.

        Args:
            texts: A list of strings, none of them empty.
            cut: Whether of a longer text the first `sequence_length` tokens are taken.

        Returns:
            int32 (N, T), padded to `sequence_length`.

        Raises:
            ValueError: If a text is empty, too long or has unknown characters or words.
        """
        self.need_networks()
        if isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"Texts are a list of non-empty strings. Received: {texts!r:.80}")
        rows = [self.codec.encode(text) for text in texts]
        return self._padded([row[: self.sequence_length] if cut else row for row in rows])

    def pseudo_nll(self, documents: Sequence[str], count: int, seed: int = 0) -> np.ndarray:
        """-log p in nats of each token of windows of the text, all others of its window visible.

        Args:
            documents: The texts, between which are the tokens that end one, or line breaks.
            count: How many of the windows of `sequence_length` tokens, one after another, are
                taken, at random; all if there are no more. A text that is shorter is one window.
            seed: Of the choice.

        Returns:
            float32 (windows, T). The exponential of the mean is the pseudo-perplexity.

        Raises:
            ValueError: If there is no token, `count` is below 1, or there are unknown characters
                or words.
        """
        self.need_networks()
        ids = self.codec.encode_documents(documents)
        if not len(ids) or count < 1:
            raise ValueError(
                "At least one window of at least one token is measured. "
                f"Received: {len(ids)} {self.codec.unit}, count={count}"
            )
        length = min(len(ids), self.sequence_length)
        windows = ids[: len(ids) // length * length].reshape(-1, length)
        chosen = np.random.default_rng(seed).permutation(len(windows))[:count]
        return np.stack([self._pseudo_nll(windows[i]).numpy() for i in np.sort(chosen)])

    def _pseudo_nll(self, ids: np.ndarray) -> tf.Tensor:
        """Of a window int32 (T,) the nats of each token (T,): T rows, each with another mask."""

        def nll(ids: tf.Tensor) -> tf.Tensor:
            masked = tf.eye(tf.shape(ids)[0], dtype="bool")  # T T
            logits = self._logits(tf.where(masked, self.mask, ids))  # T T V
            at_mask = tf.boolean_mask(logits, masked)  # T V
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=at_mask)

        signature = [tf.TensorSpec((None,), "int32")]
        return self.graph_of("pseudo_nll", nll, input_signature=signature)(ids)

    def text_nll(self, documents: Sequence[str]) -> Any:
        """Refused: a model that sees both sides gives no probability of a text."""
        raise ValueError(
            f"{self._title} gives the probability of a token between others, not of a text: use "
            f"`pseudo_nll`. Received: {len(documents)} documents"
        )


__all__ = ["MaskedTextModel"]
