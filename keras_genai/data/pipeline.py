"""From a source to batches, in an order that can be entered at any place."""

from __future__ import annotations

import atexit
import contextlib
import gc
import re
import sys
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from keras_genai.data.base import DataError, Source
from keras_genai.data.stream import StreamSource

PARALLEL_CALLS = 2
PREFETCH = 2
# tf.random.experimental.index_shuffle has 4 rounds, which leave up to half of the neighbours of
# small sets side by side. From 6 on the order cannot be told from a random one; 8 costs the same.
SHUFFLE_ROUNDS = 8


def train_batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    position: tf.Variable,
    end: tf.Variable,
    shuffle: bool = True,
) -> tf.data.Dataset:
    """The batches number `position` to `end` - 1 of the endless shuffled sequence.

    Each epoch of that sequence is a permutation that is a function of (seed, epoch) alone. A batch
    never spans two epochs: what does not fill one is left out, other items in each epoch. So equal
    (seed, position) give equal batches in any process, and nothing is replayed to get there.

    Args:
        source: the data.
        batch_size: items a batch, B.
        seed: of the order.
        position: int64; the first batch, read whenever an iterator is made.
        end: int64; the batch after the last, read at the same time.
        shuffle: whether each epoch has its own order, or all have that of the source.

    Returns:
        A dataset of dicts of tensors (B, ...).

    Raises:
        DataError: the batch size is below 1 or above the number of items.
    """
    if isinstance(source, StreamSource):
        return _configure(_stream_batches(source, position, end))
    steps = steps_per_epoch(source, batch_size)
    # The op looks at the lower 32 bits of each of its three numbers.
    key = np.random.SeedSequence(seed % (1 << 64)).generate_state(2).astype("int64")

    def indices(step: tf.Tensor) -> tf.Tensor:
        numbers = (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64)
        if not shuffle:
            return numbers
        return tf.raw_ops.RandomIndexShuffle(
            index=numbers,
            seed=tf.stack([key[0], key[1], step // steps]),
            max_index=tf.constant(len(source) - 1, tf.int64),
            rounds=SHUFFLE_ROUNDS,
        )

    return _configure(_numbers(position, end).map(indices).map(**_map(source)))


def eval_batches(source: Source, batch_size: int) -> tf.data.Dataset:
    """All items once, in order; the last batch may be smaller."""
    if isinstance(source, StreamSource):
        return _configure(source.dataset)
    _check_batch_size(batch_size)
    numbers = tf.data.Dataset.range(len(source)).batch(batch_size)
    return _configure(numbers.map(**_map(source)))


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """The number of full batches in one pass over the source."""
    _check_batch_size(batch_size)
    if len(source) < batch_size:
        raise DataError(
            f"{source.name!r} has fewer items than one batch. Use more data or "
            f"`batch_size={len(source)}`. Received: {len(source)} items, batch_size={batch_size}"
        )
    return len(source) // batch_size


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(
            f"`batch_size` must be a whole number, at least 1. Received: batch_size={batch_size!r}"
        )


def _map(source: Source) -> dict:
    return {
        "map_func": source.gather,
        "num_parallel_calls": PARALLEL_CALLS,
        "deterministic": True,
    }


def _numbers(position: tf.Variable, end: tf.Variable) -> tf.data.Dataset:
    # Variables given to `range` itself would be read once, when the dataset is made; a function
    # reads them each time it is iterated over.
    return tf.data.Dataset.from_tensors(0).flat_map(
        lambda _: tf.data.Dataset.range(position.read_value(), end.read_value())
    )


def _configure(dataset: tf.data.Dataset) -> tf.data.Dataset:
    options = tf.data.Options()
    options.autotune.enabled = False  # its thread would keep `fit` waiting at the end
    options.deterministic = True
    return dataset.prefetch(PREFETCH).with_options(options)


@contextlib.contextmanager
def data_errors() -> Iterator[None]:
    """What a source raised inside TensorFlow's graph comes out as the `DataError` it was."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.*Received: .*)", error.message)
        if found is None:
            raise
        raise DataError(found[1]) from None


@atexit.register
def _let_go() -> None:
    """Ends the reading of a `fit` that an error cut off, while Python can still end it.

    The last traceback holds its iterator. Destroyed later, that would wait for ever for threads
    which wait for an interpreter that has ended.
    """
    for name in ("last_exc", "last_value", "last_traceback"):
        vars(sys).pop(name, None)
    gc.collect()


class _Replay:
    """A stream read from any batch on: goes on where it stands, or winds forward from the start."""

    def __init__(self, source: StreamSource) -> None:
        self.source = source
        self.place = -1
        self.batches: Iterator = iter(())

    def run(self, start: int, stop: int) -> Iterator:
        if start != self.place:
            self.rewind(start)
        for _ in range(start, stop):
            batch = self.next()
            self.place += 1
            yield batch

    def rewind(self, start: int) -> None:
        length = self.source.num_batches
        self.batches = iter(self.source.dataset)
        for _ in range(start % length if length else start):
            self.next()
        self.place = start

    def next(self) -> dict[str, tf.Tensor]:
        batch = next(self.batches, None)
        if batch is None:
            self.batches = iter(self.source.dataset)
            batch = next(self.batches, None)
        if batch is None:
            raise DataError(
                "The data set yielded nothing in its second pass. Make it from something that can "
                "be read again: `tf.data.Dataset.from_generator` needs a function, not a running "
                f"generator. Received: {self.source.name}"
            )
        return batch


def _stream_batches(
    source: StreamSource, position: tf.Variable, end: tf.Variable
) -> tf.data.Dataset:
    replay = _Replay(source)
    return tf.data.Dataset.from_generator(
        lambda: replay.run(int(position.numpy()), int(end.numpy())),
        output_signature=source.dataset.element_spec,
    )
