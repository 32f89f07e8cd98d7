"""Writing text token by token: how the next one is chosen, for all models of text.

A model gives a step: `step(ids, states)` takes one token of each text, int32 (N,), and returns the
logits of the next ones (N, V) and the new states, a nest of tensors each of which has N rows or is
a scalar. Everything here is graph code, to be compiled as one.

    temperature         p = softmax(logits / temperature); 0 takes the likeliest token
    top_k               only the k likeliest tokens
    top_p               of these the likeliest that together have a probability of at least p:
                        Holtzman et al. 2020, https://arxiv.org/abs/1904.09751
    repetition_penalty  logits of tokens that the text has already, divided by it if they are
                        positive, else multiplied: Keskar et al. 2019 (CTRL),
                        https://arxiv.org/abs/1909.05858, section 4.1

Chance comes in as one uniform number a token, which is looked up in the cumulative distribution:
what one text draws does not depend on how many others are written beside it.

Shapes: N texts, K beams, T time, V tokens.
"""

import dataclasses
import numbers
from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Step = Callable[[Any, Any], tuple[Any, Any]]


@dataclasses.dataclass(frozen=True)
class Options:
    """How text is written; all values are checked.

    Attributes:
        temperature: As above.
        top_k: As above; None for all tokens.
        top_p: As above.
        repetition_penalty: As above; above 1 repeats less.
        num_beams: Beams of a beam search; 1 draws.
        stop: Strings before which a text ends, the prompt aside.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float = 1.0
    repetition_penalty: float = 1.0
    num_beams: int = 1
    stop: str | Sequence[str] = ()

    def __post_init__(self) -> None:
        for name, fits, wanted in (
            ("temperature", 0 <= _real(self.temperature), "0 (greedy) or more"),
            ("top_k", self.top_k is None or _whole(self.top_k), "at least 1, or None for all"),
            ("top_p", 0 < _real(self.top_p) <= 1, "above 0 and at most 1"),
            ("repetition_penalty", 0 < _real(self.repetition_penalty), "above 0"),
            ("num_beams", _whole(self.num_beams), "a whole number from 1"),
            ("stop", all(self.stops), "a non-empty string or a list of them"),
        ):
            if not fits:
                raise ValueError(
                    f"`{name}` must be {wanted}. Received: {name}={getattr(self, name)!r}"
                )
        drawing = ("temperature", "top_k", "top_p", "repetition_penalty")
        given = [n for n in drawing if getattr(self, n) != getattr(type(self), n)]
        if self.num_beams > 1 and given:
            raise ValueError(
                "A beam search looks for the likeliest text and draws nothing: leave out "
                f"{', '.join(drawing)}, or num_beams. "
                f"Received: num_beams={self.num_beams} with {', '.join(given)}"
            )

    @property
    def stops(self) -> Sequence[str]:
        """`stop` as a list; what is no string counts as empty."""
        given = self.stop if isinstance(self.stop, (list, tuple)) else [self.stop]
        return [stop if isinstance(stop, str) else "" for stop in given]

    def tensors(self, num_tokens: int) -> dict[str, tf.Tensor]:
        """The numbers that `write` takes: another value compiles nothing anew."""
        return {
            "temperature": tf.constant(self.temperature, "float32"),
            "top_k": tf.constant(min(self.top_k or num_tokens, num_tokens), "int32"),
            "top_p": tf.constant(self.top_p, "float32"),
            "repetition_penalty": tf.constant(self.repetition_penalty, "float32"),
        }

    def cut(self, text: str, start: int) -> str:
        """`text` up to the first stop string that begins at `start` or later."""
        found = [place for stop in self.stops if (place := text.find(stop, start)) >= 0]
        return text[: min(found, default=len(text))]


@dataclasses.dataclass(frozen=True)
class Filling(Options):
    """How masked places are filled; the penalty and the beams stay as they are.

    Attributes:
        num_steps: Steps in which `unmask` fills a window; as many as it has places are one by one.
    """

    num_steps: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        if not _whole(self.num_steps):
            raise ValueError(
                f"`num_steps` must be a whole number from 1. Received: num_steps={self.num_steps!r}"
            )

    def tensors(self, num_tokens: int) -> dict[str, tf.Tensor]:
        """The numbers that `unmask` takes."""
        numbers = super().tensors(num_tokens)
        del numbers["repetition_penalty"]
        return {**numbers, "num_steps": tf.constant(self.num_steps, "int32")}


def _real(value: Any) -> float:
    """A finite number, or NaN, which lies in no range."""
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return float(value) if is_number and np.isfinite(value) else float("nan")


def _whole(value: Any) -> bool:
    is_whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return is_whole and int(value) >= 1


def next_tokens(
    logits: tf.Tensor, uniform: tf.Tensor, temperature: Any, top_k: Any, top_p: Any
) -> tf.Tensor:
    """Draws one token for each row.

    Args:
        logits: float32 (N, V).
        uniform: Uniform numbers in [0, 1), float32 (N,).
        temperature: As above, a scalar as the others.
        top_k: As above, at most V.
        top_p: As above.

    Returns:
        int32 (N,).
    """
    num_tokens = logits.shape[1]
    peak = tf.reduce_max(logits, 1, keepdims=True)
    scaled = (logits - peak) / tf.where(temperature > 0, temperature, 1.0)  # N V

    def among_likeliest() -> tf.Tensor:
        values, order = tf.math.top_k(scaled, num_tokens)
        rank = tf.range(num_tokens)
        p = tf.where(rank < top_k, tf.nn.softmax(values), 0.0)
        p /= tf.reduce_sum(p, 1, keepdims=True)
        kept = (rank < top_k) & (tf.cumsum(p, 1, exclusive=True) < top_p)  # the first of a row
        count = tf.reduce_sum(tf.cast(kept, "int32"), 1)
        place = _look_up(tf.where(kept, p, 0.0), uniform, count)
        return tf.gather(order, place, batch_dims=1)

    def among_all() -> tf.Tensor:
        return _look_up(tf.exp(scaled), uniform, num_tokens)

    # Sorting takes longer than all the rest.
    drawn = tf.cond((top_k < num_tokens) | (top_p < 1.0), among_likeliest, among_all)
    return tf.where(temperature > 0, drawn, tf.argmax(logits, 1, "int32"))


def _look_up(p: tf.Tensor, uniform: tf.Tensor, count: Any) -> tf.Tensor:
    """Where the sum of `p` (N, V), `count` of which are not 0, exceeds its share `uniform`."""
    sums = tf.cumsum(p, 1)
    passed = sums <= uniform[:, None] * sums[:, -1:]
    # Compiled sums may differ in their last bits where nothing but zeros is added.
    return tf.minimum(tf.reduce_sum(tf.cast(passed, "int32"), 1), count - 1)


def penalize(logits: tf.Tensor, seen: tf.Tensor, penalty: Any) -> tf.Tensor:
    """Logits (N, V), lower where `seen`, bool (N, V), if the penalty is above 1."""
    return tf.where(seen, tf.where(logits > 0, logits / penalty, logits * penalty), logits)


def write(
    step: Step,
    states: Any,
    ids: tf.Tensor,
    lengths: tf.Tensor,
    max_length: tf.Tensor,
    uniforms: tf.Tensor,
    num_tokens: int,
    end: int | None,
    *,
    start: Any = 0,
    repetition_penalty: Any,
    **drawing: Any,
) -> tf.Tensor:
    """Continues prompts, until all have reached `end` or the length.

    Args:
        step: As above.
        states: What the first step takes, of N texts.
        ids: int32 (T, N), each column a prompt, whatever after it.
        lengths: int32 (N,), of the prompts; 0 for a column that is not wanted.
        max_length: int32 scalar, at most T: nothing is written from there on.
        uniforms: Uniform numbers in [0, 1), float32 (T, N): one for each place.
        num_tokens: V.
        end: The token that ends a text, after which a column means nothing, or None.
        start: The place of the token that the first step takes, int32, below all lengths but 0.
        repetition_penalty: As above, a scalar.
        **drawing: The other scalars that `next_tokens` takes.

    Returns:
        int32 (T, N).
    """
    tokens = tf.range(num_tokens)

    # What is written is never read: XLA would copy all of it, each time.
    def body(t: Any, token: Any, written: Any, states: Any, seen: Any, done: Any) -> tuple:
        logits, states = step(token, states)  # N V
        seen |= token[:, None] == tokens
        logits = penalize(tf.cast(logits, "float32"), seen, repetition_penalty)
        drawn = next_tokens(logits, uniforms[t + 1], **drawing)
        following = tf.where(t + 1 < lengths, ids[t + 1], drawn)
        ended = (t + 1 >= lengths) & (following == _number(end))
        written = keras.ops.slice_update(written, (t + 1, 0), following[None])
        return t + 1, following, written, states, seen, done | ended

    def goes_on(t: Any, token: Any, written: Any, states: Any, seen: Any, done: Any) -> Any:
        return (t + 1 < max_length) & ~tf.reduce_all(done)

    # What no step takes has been seen too. What a step will take is counted in a column too many.
    length, n = ids.shape
    read = tf.where(tf.range(length)[:, None] < start, ids, num_tokens)  # T N
    rows = tf.broadcast_to(tf.range(n), [length, n])
    counts = tf.scatter_nd(tf.stack([rows, read], 2), tf.ones_like(read), [n, num_tokens + 1])
    seen = counts[:, :num_tokens] > 0  # N V
    start = tf.convert_to_tensor(start)
    state = (start, ids[start], ids, states, seen, lengths == 0)
    return tf.while_loop(goes_on, body, state)[2]


def _number(end: int | None) -> int:
    return -1 if end is None else end  # no token has this number


def beam_search(
    step: Step,
    states: Any,
    ids: tf.Tensor,
    lengths: tf.Tensor,
    max_length: tf.Tensor,
    end: int | None,
    num_beams: int,
) -> tuple[tf.Tensor, tf.Tensor]:
    """Looks for the continuation with the highest mean log-probability of a token.

    In each step the K likeliest of all continuations by one token stay. One that ends is set
    aside, and the best of those is kept. The mean is over what was written, the token that ends a
    text included, the prompt not.

    Args:
        step: As above.
        states: What the first step takes, of N * K texts; of each text K rows one after another.
        ids: As in `write`.
        lengths: As in `write`.
        max_length: As in `write`.
        end: As in `write`.
        num_beams: K.

    Returns:
        The continued prompts int32 (T, N), and their mean log-probabilities float32 (N,).
    """
    length, n = ids.shape
    prompts, k = tf.transpose(ids), num_beams  # N T
    places = tf.range(length)

    def body(t: Any, beams: Any, scores: Any, states: Any, best: Any, best_score: Any) -> tuple:
        tokens = tf.reshape(tf.gather(beams, t, axis=2), [n * k])
        logits, states = step(tokens, states)  # N*K V
        v = logits.shape[1]
        log_p = tf.reshape(tf.nn.log_softmax(tf.cast(logits, "float32")), [n, k, v])
        sums = scores[..., None] + log_p  # N K V
        written = tf.cast(tf.maximum(t + 2 - lengths, 1), "float32")  # N; with the next token
        in_prompt = t + 1 < lengths  # N

        if end is not None:
            ending = sums[..., end] / written[:, None]  # N K
            first = tf.argmax(ending, 1, "int32")
            value = tf.where(in_prompt, -np.inf, tf.gather(ending, first, batch_dims=1))
            ended = tf.gather(beams, first, batch_dims=1)  # N T
            ended = tf.where(places == t + 1, end, ended)
            best = tf.where((value > best_score)[:, None], ended, best)
            best_score = tf.maximum(value, best_score)
            sums = tf.where(tf.range(v) == end, -np.inf, sums)

        new_scores, place = tf.math.top_k(tf.reshape(sums, [n, k * v]), k)  # N K
        parents = tf.where(in_prompt[:, None], tf.range(k), place // v)
        following = tf.where(in_prompt[:, None], prompts[:, t + 1, None], place % v)
        scores = tf.where(in_prompt[:, None], scores, new_scores)
        beams = tf.gather(beams, parents, batch_dims=1)
        beams = tf.where(places == t + 1, following[..., None], beams)
        rows = tf.reshape(tf.range(n)[:, None] * k + parents, [n * k])
        states = tf.nest.map_structure(lambda x: tf.gather(x, rows) if x.shape.rank else x, states)
        return t + 1, beams, scores, states, best, best_score

    def goes_on(t: Any, beams: Any, scores: Any, states: Any, best: Any, best_score: Any) -> Any:
        # Sums only fall, so that this is the most that a beam can come to.
        bound = scores[:, 0] / tf.cast(tf.maximum(max_length - lengths, 1), "float32")
        return (t + 1 < max_length) & tf.reduce_any(bound > best_score)

    beams = tf.repeat(prompts[:, None], k, 1)  # N K T
    # All beams begin alike: the others count when the first has branched.
    scores = tf.where(tf.range(k) == 0, tf.zeros((n, k)), -np.inf)
    nothing = tf.where(lengths == 0, np.inf, tf.fill([n], -np.inf))
    state = (tf.constant(0), beams, scores, states, prompts, nothing)
    t, beams, scores, _, best, best_score = tf.while_loop(goes_on, body, state)
    written = tf.cast(tf.maximum(t + 1 - lengths, 1), "float32")
    means = scores[:, 0] / written
    found = tf.where((means > best_score)[:, None], beams[:, 0], best)
    return tf.transpose(found), tf.maximum(means, best_score)


def unmask(
    predict: Callable[[Any], Any],
    ids: tf.Tensor,
    masked: tf.Tensor,
    uniforms: tf.Tensor,
    *,
    num_steps: Any,
    **drawing: Any,
) -> tf.Tensor:
    """Fills masked places, in each step those that are most certain.

    In a step a token is drawn for each place that is still masked, and the places whose tokens are
    the most probable keep them. After step s of S, floor(M cos(pi s / 2 S)) of M places are left,
    and each step fills one at least. Chang et al. 2022 (MaskGIT), https://arxiv.org/abs/2202.04200,
    section 3.2; the likeliest tokens, after Ghazvininejad et al. 2019 (Mask-Predict),
    https://arxiv.org/abs/1904.09324, at temperature 0.

    A place draws with the same uniform number in each step. Other numbers each time would give it
    several draws of which the likeliest is kept.

    Args:
        predict: Tokens int32 (N, T) to logits of what stands at each place (N, T, V).
        ids: int32 (N, T), with the mask at masked places.
        masked: bool (N, T).
        uniforms: Uniform numbers in [0, 1), float32 (N, T).
        num_steps: S, an int32 scalar.
        **drawing: The scalars that `next_tokens` takes.

    Returns:
        int32 (N, T), all places filled.
    """
    total = tf.reduce_sum(tf.cast(masked, "int32"), 1)  # N; M

    def body(s: Any, ids: Any, masked: Any) -> tuple:
        logits = tf.cast(predict(ids), "float32")  # N T V
        rows = tf.reshape(logits, [-1, logits.shape[-1]])
        drawn = tf.reshape(next_tokens(rows, tf.reshape(uniforms, [-1]), **drawing), ids.shape)
        log_p = -tf.nn.sparse_softmax_cross_entropy_with_logits(labels=drawn, logits=logits)
        share = tf.cos(0.5 * np.pi * tf.cast(s + 1, "float32") / tf.cast(num_steps, "float32"))
        left = tf.cast(tf.floor(share * tf.cast(total, "float32")), "int32")
        now = tf.reduce_sum(tf.cast(masked, "int32"), 1)
        filled = now - tf.maximum(tf.minimum(left, now - 1), 0)  # N
        order = tf.argsort(tf.where(masked, -log_p, np.inf), stable=True)  # N T; the surest first
        stays = masked & (tf.argsort(order) < filled[:, None])
        return s + 1, tf.where(stays, drawn, ids), masked & ~stays

    state = (tf.constant(0), ids, masked)
    return tf.while_loop(lambda s, ids, masked: tf.reduce_any(masked), body, state)[1]


def write_windows(
    predict: Callable[[Any], Any],
    ids: tf.Tensor,
    lengths: tf.Tensor,
    max_length: tf.Tensor,
    uniforms: tf.Tensor,
    window: int,
    mask: int,
    end: int | None,
    **unmasking: Any,
) -> tf.Tensor:
    """Continues prompts, a window at a time, until all have reached `end` or the length.

    A window begins with what is there, at most the last half of its places, and `unmask` fills the
    rest. What is written does not depend on `max_length`, which may lie within a window.

    Args:
        predict: As in `unmask`, of `window` places.
        ids: int32 (T, N), each column a prompt, whatever after it.
        lengths: int32 (N,), of the prompts; 0 for a column that is not wanted.
        max_length: int32 scalar, at most T - window: nothing has to be written from there on.
        uniforms: Uniform numbers in [0, 1), float32 (T, N): one for each place.
        window: How many places `predict` sees at once.
        mask: The token of a masked place.
        end: The token that ends a text, after which a column means nothing, or None.
        **unmasking: The scalars that `unmask` takes.

    Returns:
        int32 (T, N).
    """
    places = tf.range(ids.shape[0])

    def is_open(texts: Any, known: Any) -> Any:
        written = (places >= lengths[:, None]) & (places < known[:, None])  # N T
        ended = tf.reduce_any(written & (texts == _number(end)), 1)
        return (lengths > 0) & (known < max_length) & ~ended

    def body(texts: Any, known: Any) -> tuple:
        opened = is_open(texts, known)
        start = tf.where(opened, tf.maximum(known - window // 2, 0), 0)  # N
        seen = start[:, None] + tf.range(window)  # N window
        masked = opened[:, None] & (seen >= known[:, None])
        shown = tf.where(masked, mask, tf.gather(texts, seen, batch_dims=1))
        chances = tf.gather(tf.transpose(uniforms), seen, batch_dims=1)
        filled = unmask(predict, shown, masked, chances, **unmasking)
        offset = places - start[:, None]  # N T
        found = tf.gather(filled, tf.clip_by_value(offset, 0, window - 1), batch_dims=1)
        texts = tf.where((offset >= 0) & (offset < window), found, texts)
        return texts, tf.where(opened, start + window, known)

    state = (tf.transpose(ids), lengths)
    goes_on = lambda texts, known: tf.reduce_any(is_open(texts, known))  # noqa: E731
    return tf.transpose(tf.while_loop(goes_on, body, state)[0])
