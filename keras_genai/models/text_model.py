"""`TextModel`: what models of text share. No model's mathematics is here."""

import functools
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai import sampling, tokenizers
from keras_genai.models.base import GenerativeModel


class TextWindows(data_module.Source):
    """Windows of a text as items `{"text": int32 (T + 1,)}`, each token once.

    There are T cuts: the first window of cut k begins at token k. The last one, which might reach
    beyond the text, begins as late as it can.
    """

    modality = "text"

    def __init__(self, source: data_module.Source, ids: np.ndarray, length: int):
        self.name, self.ids, self.length = source.name, tf.constant(ids), length
        self.source, self.cuts = source, length

    def _fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.length

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Windows int32 `(B, T + 1)`; the last token of one is the first of the next."""
        starts = indices % len(self) * self.length + indices // len(self)
        starts = tf.minimum(starts, len(self.ids) - 1 - self.length)
        places = starts[:, None] + tf.range(self.length + 1, dtype="int64")
        return {"text": tf.gather(self.ids, places)}


class TextModel(GenerativeModel):
    """A model of text. Subclasses also write `step` and `initial_states`; `call` gives logits.

    Those that do not read from left to right are `MaskedTextModel`s, and write neither.

    Args:
        vocabulary: What its tokenizer has learned, as one string, or None: from the data. Of
            "characters" it is all characters that the model knows.
        tokenizer: "characters", "bytes", "bpe" or "words", see `keras_genai.tokenizers`.
        vocabulary_size: How many tokens "bpe" learns, at most.
        sequence_length: Tokens in a training window, T.
        seed: As in `GenerativeModel`.
    """

    modality = "text"
    from_data = ("vocabulary",)
    fixed_by_weights: tuple[str, ...] = ("tokenizer", "vocabulary")
    options: type[sampling.Options] = sampling.Options  # of `generate`, and their defaults
    overhang = 0  # places beyond `max_length` that are written too, to be cut off

    def __init__(
        self,
        vocabulary: str | None = None,
        tokenizer: str = "characters",
        vocabulary_size: int = 2000,
        sequence_length: int = 100,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        tokenizers.check(tokenizer)
        self.vocabulary: Any = vocabulary
        self.tokenizer, self.vocabulary_size = tokenizer, vocabulary_size
        self.sequence_length = sequence_length

    def step(self, ids: tf.Tensor, states: Any) -> tuple[tf.Tensor, Any]:
        """One token of each text, int32 `(N,)`, to logits of the next `(N, V)` and new states."""
        raise NotImplementedError

    def initial_states(self, n: int, length: int) -> Any:
        """What the first step takes: a nest of tensors, each of `n` rows or a scalar.

        Args:
            n: How many texts.
            length: How many steps there will be at most.
        """
        raise NotImplementedError

    def read_prompts(self, ids: tf.Tensor, lengths: tf.Tensor) -> tuple[Any, Any]:
        """Where the steps begin, and the states there.

        That is the first token, unless a model that can read many tokens at once overrides this.

        Args:
            ids: int32 `(T, N)`, each column a prompt, whatever after it.
            lengths: int32 `(N,)`, of the prompts; 0 for a column that is not wanted.

        Returns:
            The place of the first token that `step` is to take, an int32 scalar that is below all
            lengths that are wanted, and the states that it takes with it.
        """
        length, n = ids.shape
        return tf.constant(0), self.initial_states(n, length)

    @functools.cached_property
    def codec(self) -> tokenizers.Tokenizer:
        """The tokenizer, once the vocabulary is known."""
        return tokenizers.load(self.tokenizer, self.vocabulary)

    @property
    def num_tokens(self) -> int:
        """V, that which ends a text included."""
        return self.codec.num_tokens

    def read(self, parts: data_module.Dataset, name: str) -> Any:
        """What the tokenizer learns: a held-out part must not hold unknown characters or words."""
        if name != "vocabulary":
            return super().read(parts, name)
        train, *held = (
            [] if part is None else part.documents  # type: ignore[attr-defined]
            for part in (parts.train, parts.validation, parts.test)
        )
        return tokenizers.learn(self.tokenizer, train, sum(held, []), self.vocabulary_size)

    def prepare(self, source: Any) -> data_module.Source:
        """Cuts the text into windows.

        Raises:
            ValueError: If it is shorter than one window or has unknown characters or words.
        """
        ids = self.codec.encode_documents(source.documents)
        if len(ids) <= self.sequence_length:
            unit = self.codec.unit
            raise ValueError(
                f"The text is shorter than one window of {self.sequence_length} {unit}, or a part "
                "of it is that is held back: use more text, a smaller sequence_length or a larger "
                "validation_split. "
                f"Received: {len(ids)} {unit} in {source.name}"
            )
        return TextWindows(source, ids, self.sequence_length)

    def generate(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        max_length: int = 200,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float = 1.0,
        repetition_penalty: float = 1.0,
        num_beams: int = 1,
        stop: str | Sequence[str] = (),
        seed: int | None = None,
    ) -> Any:
        """Continues prompts.

        What is drawn for a prompt depends on the seed, on its place in the list and on itself: not
        on the other prompts, nor on `max_length`. `keras_genai.sampling` has the definitions.

        Args:
            prompts: A string or a list of strings, none of them empty. `None` begins a text.
            max_length: Length of prompt and continuation together, in tokens, which are characters
                unless the model has another tokenizer.
            temperature: Below 1 makes the likely likelier; 0 always takes the likeliest.
            top_k: Draws from the `top_k` likeliest tokens only.
            top_p: Draws from the likeliest tokens that together have this probability.
            repetition_penalty: Above 1 makes tokens that the text has already less likely.
            num_beams: Above 1 draws nothing: a beam search looks for the likeliest text.
            stop: A string or a list of strings: the text ends before the first that is written.
            seed: Same seed and weights, same text; `None` moves the model's own generator on.

        Returns:
            A string for a string, a list for a list; prompts included.

        Raises:
            ValueError: If an option is out of its range, or a prompt is empty, too long or has
                unknown characters or words.
        """
        options = sampling.Options(temperature, top_k, top_p, repetition_penalty, num_beams, stop)
        return self._written(prompts, max_length, options, seed)

    def _written(
        self, prompts: Any, max_length: int, options: sampling.Options, seed: int | None
    ) -> Any:
        """What `generate` returns."""
        self.need_networks()
        texts: Any = [*prompts] if isinstance(prompts, list | tuple) else [prompts]
        if prompts is not None and not (texts and all(isinstance(t, str) and t for t in texts)):
            raise ValueError(f"Prompts are non-empty strings. Received: {texts!r}")
        written = self._continue(texts, max_length, options, self.seed_for(seed))
        return written if isinstance(prompts, list | tuple) else written[0]

    def preview(self, seed: int = 0) -> list[str]:
        """Three texts of 300 tokens, the same for the same weights and seed."""
        texts = self._continue([None] * 3, 300, self.options(), seed)
        return [text.strip() for text in texts]

    def sample_texts(self, n: int, length: int, seed: int) -> list[str]:
        """`n` texts of at most `length` characters, and as many tokens, that continue no prompt."""
        start = self.codec.decode(self._start)
        texts = self._continue([None] * n, length + 1, self.options(), seed)
        return [text.removeprefix(start)[:length] for text in texts]

    def _continue(
        self, texts: list[Any], max_length: int, options: sampling.Options, seed: int
    ) -> list[str]:
        """Of each text, or None, a continuation."""
        prompts = [self._start if text is None else self.codec.encode(text) for text in texts]
        self._check_length(max(map(len, prompts)), max_length)
        max_length = int(max_length)  # of NumPy's TensorFlow makes an int64
        # Rounded up, so that a few compiled loops serve all lengths and numbers of prompts.
        length, n = -(-(max_length + self.overhang) // 64) * 64, 1 << (len(texts) - 1).bit_length()
        ids, lengths = np.zeros((length, n), "int32"), np.zeros(n, "int32")
        for i, prompt in enumerate(prompts):
            ids[: len(prompt), i], lengths[i] = prompt, len(prompt)
        if options.num_beams > 1:
            chances = np.zeros((length, n), "float32")
        else:
            chances = uniforms_by_text(seed, length, len(texts), n)
        sampled = self._writer(options.num_beams)(
            ids, lengths, tf.constant(max_length), chances, options.tensors(self.num_tokens)
        ).numpy()
        written = []
        for prompt, row in zip(prompts, sampled.T[:, :max_length], strict=False):
            ends = np.flatnonzero(row[len(prompt) :] == self.codec.end)
            text = self.codec.decode(row[: len(prompt) + ends[0]] if len(ends) else row)
            written.append(options.cut(text, len(self.codec.decode(prompt))))
        return written

    def _writer(self, num_beams: int) -> Any:
        """The compiled loop that continues prompts."""

        def write(ids: Any, lengths: Any, last: Any, uniforms: Any, numbers: Any) -> Any:
            length, n = ids.shape
            end = self.codec.end
            if num_beams > 1:
                states = self.initial_states(n * num_beams, length)
                found = sampling.beam_search(self.step, states, ids, lengths, last, end, num_beams)
                return found[0]
            start, states = self.read_prompts(ids, lengths)
            return sampling.write(
                self.step, states, ids, lengths, last, uniforms, self.num_tokens, end,
                start=start, **numbers,
            )  # fmt: skip

        return self.graph_of(("text", num_beams), write, jit_compile=True)

    def merge_lora(self) -> Any:
        """A plain model that computes what this one does: W + alpha / r B A in place of each W.

        Nothing in it is frozen, and its optimizer is new. Saved, it is smaller.

        Raises:
            ValueError: If the model has no LoRA.
        """
        from keras_genai.zoo import loading

        if not getattr(self, "lora_rank", 0):
            raise ValueError(
                f"{self._title} has no LoRA to merge: `zoo.load(path, lora_rank=8)` adds it, where "
                "the recipe has it. Received: lora_rank=0"
            )
        plain = loading.remade(self, {"trainable_blocks": None, "lora_rank": 0})
        # An optimizer that `fit` will build: the slots of one that is built would triple the file.
        optimizer = plain.optimizer.from_config(plain.optimizer.get_config())
        plain.compile(optimizer, jit_compile=plain.jit_compile)
        return plain

    def text_nll(self, documents: Sequence[str]) -> tuple[np.ndarray, int]:
        """-log p in nats of the tokens of documents, each once, `(count,)`, and their characters.

        The token that ends a document counts, and as a character: as a line break would.
        Without one the first token is not counted, since nothing says what it should be. The text
        is read in windows of `sequence_length`, each from an empty memory as in training: its
        first tokens are guessed from little, so that the mean is an upper bound.

        Raises:
            ValueError: If no token follows another, or there are unknown characters or words.
        """
        self.need_networks()
        ids, length = self.codec.encode_documents(documents), self.sequence_length
        if len(ids) < 2:
            raise ValueError(
                f"No token of these documents follows another. Received: {documents!r:.80}"
            )
        characters = sum(len(document) + 1 for document in documents)
        if self.codec.end is None:
            characters -= 1 + len(self.codec.decode(ids[:1]))
        whole = (len(ids) - 1) // length
        windows = ids[np.arange(whole)[:, None] * length + np.arange(length + 1)]
        batches = [windows[i : i + 64] for i in range(0, whole, 64)]
        if len(rest := ids[whole * length :]) > 1:
            batches.append(rest[None])
        return np.concatenate([self._window_nll(x).ravel() for x in batches]), characters

    def _window_nll(self, ids: np.ndarray) -> np.ndarray:
        """Nats `(B, T)` of the tokens of windows `(B, T + 1)` but the first of each."""

        def nll(x: tf.Tensor) -> tf.Tensor:
            logits = self(x[:, :-1], training=False)
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=x[:, 1:], logits=logits)

        signature = [tf.TensorSpec((None, None), "int32")]
        return self.graph_of("nll", nll, input_signature=signature)(ids).numpy()

    @property
    def _start(self) -> np.ndarray:
        """What a text begins with: the end of another one, or a line break, or anything."""
        if self.codec.end is not None:
            return np.array([self.codec.end], "int32")
        known = self.codec.knows_all or "\n" in self.codec.pieces
        return self.codec.encode("\n") if known else np.zeros(1, "int32")

    def _check_length(self, longest: int, max_length: int) -> None:
        if not isinstance(max_length, numbers.Integral) or longest >= max_length:
            raise ValueError(
                "`max_length` counts the prompt too and must be a whole number larger than "
                f"{longest}, the {self.codec.unit} of the longest. "
                f"Received: max_length={max_length!r}"
            )


def uniforms_by_text(seed: int, length: int, count: int, columns: int) -> np.ndarray:
    """Uniform numbers in [0, 1) `(length, columns)`; a column depends on its number and seed."""
    drawn = np.zeros((length, columns), "float32")
    for i in range(count):
        drawn[:, i] = np.random.default_rng((seed % 2**63, i)).random(length, "float32")
    return drawn


__all__ = ["TextModel", "TextWindows", "uniforms_by_text"]
