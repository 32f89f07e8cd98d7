"""`TextModel`: what models of characters share. No model's mathematics is here."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai.models.base import GenerativeModel, fold


class TextWindows(data_module.Source):
    """Windows of a text as items `{"text": int32 (T + 1,)}`, each character once."""

    modality = "text"

    def __init__(self, source: data_module.Source, ids: np.ndarray, length: int):
        self.name, self.ids, self.length = source.name, tf.constant(ids), length
        self.source = source

    def _fingerprint(self) -> str:
        return self.source.fingerprint

    def __len__(self) -> int:
        return (len(self.ids) - 1) // self.length

    def gather(self, indices: tf.Tensor) -> dict[str, tf.Tensor]:
        """Windows int32 `(B, T + 1)`; the last character of one is the first of the next."""
        places = indices[:, None] * self.length + tf.range(self.length + 1, dtype="int64")
        return {"text": tf.gather(self.ids, places)}


class TextModel(GenerativeModel):
    """A model of characters. Subclasses also write `sample`.

    Args:
        vocabulary: The characters it knows, as one string, or None: from the data.
        sequence_length: Characters in a training window, T.
        seed: As in `GenerativeModel`.
    """

    modality = "text"
    from_data = ("vocabulary",)

    def __init__(
        self,
        vocabulary: str | None = None,
        sequence_length: int = 100,
        seed: int | None = None,
        **kwargs: Any,
    ):
        super().__init__(seed=seed, **kwargs)
        self.vocabulary: Any = vocabulary
        self.sequence_length = sequence_length

    def sample(
        self, ids: tf.Tensor, lengths: tf.Tensor, temperature: tf.Tensor, seed: tf.Tensor
    ) -> tf.Tensor:
        """Fills in `ids` int32 `(T, N)` after the first `lengths` `(N,)`. Compiled with XLA."""
        raise NotImplementedError

    def read(self, parts: data_module.Dataset, name: str) -> Any:
        """The sorted characters of all parts: a held-out part must not hold unknown ones."""
        if name != "vocabulary":
            return super().read(parts, name)
        sources: list[Any] = [
            part for part in (parts.train, parts.validation, parts.test) if part is not None
        ]
        return "".join(sorted(set("".join(part.text for part in sources))))

    def prepare(self, source: Any) -> data_module.Source:
        """Cuts the text into windows.

        Raises:
            ValueError: If it is shorter than one window or has unknown characters.
        """
        if len(source.text) <= self.sequence_length:
            raise ValueError(
                f"The text is shorter than one window of {self.sequence_length} characters: use "
                "more text or a smaller sequence_length. "
                f"Received: {len(source.text)} characters in {source.name}"
            )
        return TextWindows(source, self.encode_text(source.text), self.sequence_length)

    def generate(
        self,
        prompts: str | Sequence[str] | None = None,
        *,
        max_length: int = 200,
        temperature: float = 1.0,
        seed: int | None = None,
    ) -> Any:
        """Continues prompts.

        Args:
            prompts: A string or a list of strings, none of them empty. `None` starts a line.
            max_length: Length of prompt and continuation together, in characters.
            temperature: Below 1 makes the likely likelier; 0 always takes the likeliest.
            seed: Same seed and weights, same text; `None` moves the model's own generator on.

        Returns:
            A string for a string, a list for a list; prompts included.

        Raises:
            ValueError: If a prompt is empty, too long or has unknown characters.
        """
        self.need_networks()
        if prompts is None:
            prompts = self._start
        texts: Any = [*prompts] if isinstance(prompts, list | tuple) else [prompts]
        self._check_prompts(texts, max_length, temperature)
        # Rounded up, so that a few compiled loops serve all lengths and numbers of prompts.
        length, n = -(-max_length // 64) * 64, 1 << (len(texts) - 1).bit_length()
        ids, lengths = np.zeros((length, n), "int32"), np.ones(n, "int32")
        for i, text in enumerate(texts):
            ids[: len(text), i], lengths[i] = self.encode_text(text), len(text)
        sampler = self._samplers.setdefault("text", tf.function(self.sample, jit_compile=True))
        seeds = fold([self.seed_for(seed), 0], "samples")
        sampled = sampler(ids, lengths, tf.constant(temperature, "float32"), seeds).numpy()
        written = [self.decode_text(sampled[:max_length, i]) for i in range(len(texts))]
        return written[0] if isinstance(prompts, str) else written

    def preview(self, seed: int = 0) -> list[str]:
        """Three texts of 300 characters, the same for the same weights and seed."""
        prompts = [self._start] * 3
        return [text.strip() for text in self.generate(prompts, max_length=300, seed=seed)]

    def sample_texts(self, n: int, length: int, seed: int) -> list[str]:
        """`n` texts of `length` characters from no prompt but the start of a line."""
        texts = self.generate([self._start] * n, max_length=length + 1, seed=seed)
        return [text[1:] for text in texts]

    def text_nll(self, text: str) -> np.ndarray:
        """-log p in nats of all characters of `text` but the first, each once, `(len(text) - 1,)`.

        The text is read in windows of `sequence_length`, each from an empty memory as in training:
        its first characters are guessed from little, so that the mean is an upper bound.
        """
        ids, length = self.encode_text(text), self.sequence_length
        whole = (len(ids) - 1) // length
        windows = np.lib.stride_tricks.sliding_window_view(ids, length + 1)[::length][:whole]
        parts = [self._window_nll(windows[i : i + 64]) for i in range(0, whole, 64)]
        rest = ids[whole * length :]
        return np.concatenate([part.ravel() for part in [*parts, self._window_nll(rest[None])]])

    def _window_nll(self, ids: np.ndarray) -> np.ndarray:
        """Nats `(B, T)` of the characters of windows `(B, T + 1)` but the first of each."""
        if "nll" not in self._samplers:
            self._samplers["nll"] = tf.function(
                lambda x: tf.nn.sparse_softmax_cross_entropy_with_logits(
                    labels=x[:, 1:], logits=self(x[:, :-1], training=False)
                ),
                [tf.TensorSpec((None, None), "int32")],
            )
        return self._samplers["nll"](ids).numpy()

    @property
    def _start(self) -> str:
        return "\n" if "\n" in self.vocabulary else self.vocabulary[0]

    def _check_prompts(self, texts: list[str], max_length: int, temperature: float) -> None:
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"Prompts are non-empty strings. Received: {texts!r}")
        longest = max(len(text) for text in texts)
        if longest >= max_length:
            raise ValueError(
                f"`max_length` counts the prompt too and must be larger than {longest}. "
                f"Received: max_length={max_length}"
            )
        if not temperature >= 0:  # nor NaN
            raise ValueError(
                f"`temperature` must be 0 (greedy) or more. Received: temperature={temperature}"
            )

    def encode_text(self, text: str) -> np.ndarray:
        """Ids int32 `(T,)` of the characters of `text`.

        Raises:
            ValueError: If the model does not know a character; the message lists them.
        """
        ids = {character: i for i, character in enumerate(self.vocabulary)}
        unknown = sorted(set(text) - set(ids))
        if unknown:
            raise ValueError(
                f"{self._title} was built on a text without these characters; leave them out or "
                f"train on a text that has them. Known: {self.vocabulary!r}. "
                f"Received: {''.join(unknown)!r}"
            )
        return np.array([ids[character] for character in text], "int32")

    def decode_text(self, ids: np.ndarray) -> str:
        """The text of ids `(T,)`."""
        return "".join(self.vocabulary[i] for i in ids)
