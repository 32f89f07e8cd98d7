"""From a source to batches, in an order that can be entered at any place."""

from __future__ import annotations

import atexit
import contextlib
import gc
import re
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from keras_genai.data.base import DataError, Source
from keras_genai.data.stream import StreamSource

PARALLEL_CALLS = 2
PREFETCH = 2
# tf.random.experimental.index_shuffle has 4 rounds, which leave up to half of the neighbours of
# small sets side by side. From 6 on the order cannot be told from a random one; 8 costs the same.
SHUFFLE_ROUNDS = 8
# There are no loops and branches on tensors here; to look for them takes half a second.
plain = tf.autograph.experimental.do_not_convert


class Share(NamedTuple):
    """Which replicas a worker feeds: number `first` and the next, `here` of `everywhere`."""

    first: int
    here: int
    everywhere: int


WHOLE = Share(0, 1, 1)


def train_batches(
    source: Source,
    batch_size: int,
    *,
    seed: int,
    position: tf.Variable,
    end: tf.Variable,
    shuffle: bool = True,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """The batches number `position` to `end` - 1 of the endless shuffled sequence.

    Each epoch of that sequence is a permutation that is a function of (seed, epoch) alone, and so
    is the source's cut that it takes. A batch
    never spans two epochs: what does not fill one is left out, other items in each epoch. So equal
    (seed, position) give equal batches in any process, and nothing is replayed to get there.

    Args:
        source: the data.
        batch_size: items a batch, B.
        seed: of the order.
        position: int64; the first batch, read whenever an iterator is made.
        end: int64; the batch after the last, read at the same time.
        shuffle: whether each epoch has its own order, or all have that of the source.
        share: which replicas' shares of each batch to read.

    Returns:
        A dataset of dicts of tensors (B, ...), or for each batch its shares one after another.

    Raises:
        DataError: the batch size is below 1 or above the number of items.
    """
    if isinstance(source, StreamSource):
        return _configure(_shares(_stream_batches(source, position, end), share, even=True))
    steps = steps_per_epoch(source, batch_size)
    # The op looks at the lower 32 bits of each of its three numbers.
    key = np.random.SeedSequence(seed % (1 << 64)).generate_state(2).astype("int64")

    def indices(step: tf.Tensor) -> tf.Tensor:
        numbers = (step % steps) * batch_size + tf.range(batch_size, dtype=tf.int64)
        if not shuffle:
            return numbers
        epoch = step // steps
        shuffled = _shuffled(numbers, len(source), (key[0], key[1], epoch))
        if source.cuts == 1:
            return shuffled
        # All cuts come once before one comes again.
        turn, number = epoch // source.cuts, epoch % source.cuts
        return shuffled + len(source) * _shuffled(number, source.cuts, (key[1], key[0], turn))

    # Shared out before anything is read: each worker reads its own items only.
    numbers = _shares(_numbers(position, end).map(plain(indices)), share, even=True)
    return _configure(numbers.map(**_map(source)))


def eval_batches(source: Source, batch_size: int, share: Share = WHOLE) -> tf.data.Dataset:
    """All items once, in order; the last batch may be smaller.

    Unless `share` is the whole, the elements are pairs: a share, and whether its items count (1)
    or are there only because it would be empty (0).
    """
    if isinstance(source, StreamSource):
        return _configure(_shares(source.dataset, share, even=False))
    _check_batch_size(batch_size)
    numbers = tf.data.Dataset.range(len(source)).batch(batch_size)
    if share == WHOLE:
        return _configure(numbers.map(**_map(source)))
    reading = {
        **_map(source),
        "map_func": plain(lambda numbers, own: (source.gather(numbers), own)),
    }
    return _configure(_shares(numbers, share, even=False).map(**reading))


def num_eval_batches(source: Source, batch_size: int) -> int | None:
    """How many batches `eval_batches` has, or None where a stream does not tell."""
    return source.num_batches if isinstance(source, StreamSource) else -(-len(source) // batch_size)


def steps_per_epoch(source: Source, batch_size: int) -> int:
    """The number of full batches in one pass over the source."""
    _check_batch_size(batch_size)
    if len(source) < batch_size:
        raise DataError(
            f"{source.name!r} has fewer items than one batch. Use more data or "
            f"`batch_size={len(source)}`. Received: {len(source)} items, batch_size={batch_size}"
        )
    return len(source) // batch_size


def _shuffled(numbers: tf.Tensor, count: int, seed: Any) -> tf.Tensor:
    """Where `numbers`, from 0 to `count` - 1, go in the permutation of that seed."""
    return tf.raw_ops.RandomIndexShuffle(
        index=numbers,
        seed=tf.stack(seed),
        max_index=tf.constant(count - 1, tf.int64),
        rounds=SHUFFLE_ROUNDS,
    )


def _check_batch_size(batch_size: int) -> None:
    if isinstance(batch_size, bool) or not isinstance(batch_size, int) or batch_size < 1:
        raise DataError(
            f"`batch_size` must be a whole number, at least 1. Received: batch_size={batch_size!r}"
        )


def _map(source: Source) -> dict:
    return {
        "map_func": plain(source.gather),
        "num_parallel_calls": PARALLEL_CALLS,
        "deterministic": True,
    }


def _numbers(position: tf.Variable, end: tf.Variable) -> tf.data.Dataset:
    # Variables given to `range` itself would be read once, when the dataset is made; a function
    # reads them each time it is iterated over.
    return tf.data.Dataset.from_tensors(0).flat_map(
        plain(lambda _: tf.data.Dataset.range(position.read_value(), end.read_value()))
    )


def _shares(batches: tf.data.Dataset, share: Share, even: bool) -> tf.data.Dataset:
    """For each batch the parts of some replicas, one after another.

    Training needs even parts, since each counts alike: of a stream's batch that cannot be shared
    evenly the last items are left out, and of one smaller than the replicas some come twice.
    Evaluation takes each item once: with its part a replica gets 1, or, if none is left for it, the
    first item again and 0. (Not every kernel takes an empty batch.)
    """
    if share == WHOLE:
        return batches

    def part(batch: Any, replica: tf.Tensor) -> Any:
        count = tf.shape(tf.nest.flatten(batch)[0], "int64")[0]
        size = tf.maximum(count // share.everywhere, 1) if even else -(-count // share.everywhere)
        first = replica * size
        if even:
            rows = (first + tf.range(size)) % count
            return tf.nest.map_structure(lambda x: tf.gather(x, rows), batch)
        rows = tf.range(tf.minimum(first, count), tf.minimum(first + size, count))
        own = tf.minimum(tf.size(rows), 1)
        rows = tf.concat([rows, tf.zeros([1 - own], "int64")], 0)
        return tf.nest.map_structure(lambda x: tf.gather(x, rows), batch), own

    replicas = tf.data.Dataset.range(share.first, share.first + share.here)
    return batches.flat_map(lambda batch: replicas.map(lambda replica: part(batch, replica)))


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
