"""One machine or many: what differs when a model is made under a `tf.distribute` strategy.

A strategy runs the training step once on each replica (a device), each on its share of the batch.
The functions here are the same without one: there is one replica then, and one process, the chief.
"""

import contextvars
import socket
import time
from collections.abc import Callable, Iterable
from typing import Any

import keras
import tensorflow as tf

from keras_genai._log import logger
from keras_genai.data.pipeline import WHOLE, Share


def connect(timeout: float = 300.0, cluster_resolver: Any = None) -> tf.distribute.Strategy:
    """The strategy for where the script runs: all devices of one machine, or many workers.

    TensorFlow itself waits for the other workers without an end or a word, and cannot be
    interrupted while it does: so wait for them first.

    Args:
        timeout: Seconds in which all workers must have started.
        cluster_resolver: Knows the workers; by default the variable `TF_CONFIG` does. Without
            either, this is the only machine.

    Raises:
        TimeoutError: If a worker cannot be reached in time; the message names it.
    """
    resolver = cluster_resolver or tf.distribute.cluster_resolver.TFConfigClusterResolver()
    addresses = resolver.cluster_spec().as_dict()
    if not addresses:
        return tf.distribute.MirroredStrategy()
    tasks = {(job, i): place for job in addresses for i, place in enumerate(addresses[job])}
    own = tasks.pop((resolver.task_type, resolver.task_id))
    _wait_for([*tasks.values()], own, time.monotonic() + timeout)
    return tf.distribute.MultiWorkerMirroredStrategy(cluster_resolver=resolver)


def _wait_for(others: list[str], own: str, deadline: float) -> None:
    """Returns when all others can be reached; until then they can reach this worker."""
    start = time.monotonic()
    host, port = own.rsplit(":", 1)
    local = host if host in ("localhost", "127.0.0.1") else ""
    # TensorFlow's own server takes the port afterwards, and answers those who look later.
    with socket.create_server((local, int(port))):
        while missing := [place for place in others if not _answers(place)]:
            if time.monotonic() > deadline:
                raise TimeoutError(
                    "Not all workers have started: run the same script on each, with the same "
                    "cluster in TF_CONFIG and its own task, or allow more time with "
                    f"connect(timeout=...). Received: no answer from {', '.join(missing)} in "
                    f"{time.monotonic() - start:.0f} s"
                )
            others = missing
            time.sleep(0.2)


def _answers(place: str) -> bool:
    host, port = place.rsplit(":", 1)
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True


def many_workers(strategy: tf.distribute.Strategy) -> bool:
    """Whether several processes train together."""
    return strategy.extended._in_multi_worker_mode()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process is the one that writes."""
    return strategy.extended.should_save_summary


def sum_over_workers(strategy: tf.distribute.Strategy, values: Iterable[Any]) -> list[int]:
    """Adds up integers of all workers, which must all call this at the same time."""
    values = [int(value) for value in values]
    if not many_workers(strategy):
        return values
    return strategy.reduce("SUM", tf.constant(values, "int64"), axis=None).numpy().tolist()


def of_chief(strategy: tf.distribute.Strategy, value: int) -> int:
    """The chief's value, on all workers."""
    return sum_over_workers(strategy, [value if is_chief(strategy) else 0])[0]


def fold_in_replica(seed: tf.Tensor) -> tf.Tensor:
    """Other noise on each replica, from one seed; with one replica the seed as it is."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return seed
    return tf.random.experimental.stateless_fold_in(seed, context.replica_id_in_sync_group)


def mean_over_replicas(values: list[tf.Tensor]) -> list[tf.Tensor]:
    """The means of tensors over all replicas, on each of them; called by each in its step."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return values
    return context.all_reduce("MEAN", values)


def share_of_gradients(gradients: list[Any], optimizer: keras.optimizers.Optimizer) -> list[Any]:
    """Makes of gradients of a replica's mean loss a share of those of the batch's mean loss.

    Optimizers add up the shares of all replicas, after each has clipped its own. So where gradients
    are clipped, here they are added up and clipped first.
    """
    context = tf.distribute.get_replica_context()
    share = 1.0 / context.num_replicas_in_sync
    if optimizer.clipnorm or optimizer.global_clipnorm or optimizer.clipvalue:
        gradients = optimizer._clip_gradients(context.all_reduce("MEAN", gradients))
    return [None if g is None else tf.math.scalar_mul(share, g) for g in gradients]


# Whether the items of the replica that runs in this thread count; see `pipeline.eval_batches`.
_OWN: contextvars.ContextVar[Any] = contextvars.ContextVar("own", default=1)


def in_share(step: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Makes a `test_step` of batches one of the shares of `pipeline.eval_batches`."""

    def step_of_share(share: Any) -> Any:
        data, own = share
        token = _OWN.set(own)
        try:
            return step(data)
        finally:
            _OWN.reset(token)

    return step_of_share


def mean_of_losses(losses: dict[str, Any], count: Any) -> tuple[dict[str, Any], Any]:
    """The means over the whole batch, of which a replica has `count` items (None: all as many)."""
    weight = tf.cast(1 if count is None else count * _OWN.get(), "float32")
    values = tf.stack([tf.cast(loss, "float32") for loss in losses.values()])
    sums = tf.concat([values * weight, [weight]], 0)
    *sums, total = tf.unstack(tf.distribute.get_replica_context().all_reduce("SUM", sums))
    means = [value / total for value in sums]
    return dict(zip(losses, means, strict=True)), None if count is None else total


def means_over_batch(means: list[tf.Tensor], count: Any) -> list[tf.Tensor]:
    """Makes of means over a replica's `count` items those over the whole batch, on each replica."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return means
    weight = tf.cast(count * _OWN.get(), "float32")
    *sums, total = context.all_reduce("SUM", [*(mean * weight for mean in means), weight])
    return [value / total for value in sums]


def in_turn(rows: tf.Tensor) -> tf.Tensor:
    """Of rows (K, Z), which differ between R replicas, those that count: row i of replica i % R."""
    context = tf.distribute.get_replica_context()
    if context is None or context.num_replicas_in_sync == 1:
        return rows
    replicas, own = context.num_replicas_in_sync, context.replica_id_in_sync_group
    mine = tf.range(tf.shape(rows)[0]) % replicas == own
    return context.all_reduce("SUM", tf.where(mine[:, None], rows, tf.zeros_like(rows)))


def rows_of_batch(count: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """From how many items a replica has: how many the whole batch has, and which are its own."""
    context = tf.distribute.get_replica_context()
    counts = context.all_gather(tf.reshape(count * _OWN.get(), [1]), axis=0)
    total = tf.reduce_sum(counts)
    first = tf.reduce_sum(counts[: context.replica_id_in_sync_group])
    return total, (first + tf.range(count)) % total


def prepare(model: Any, batch_size: int | None = None) -> None:
    """Refuses what could only train something else than was asked for; leaves talking to the chief.

    Raises:
        ValueError: If a `keras.distribution` is set, the model was made under another strategy, or
            the batch cannot be shared evenly.
    """
    layout = keras.distribution.distribution()
    if layout is not None:
        raise ValueError(
            "Keras ignores keras.distribution on TensorFlow and would train on one device. Call "
            "keras.distribution.set_distribution(None) and make the model under a strategy: with "
            "tf.distribute.MirroredStrategy().scope(): model = zoo.get(...). "
            f"Received: {type(layout).__name__}"
        )
    strategy = model.distribute_strategy
    here = tf.distribute.get_strategy()
    if tf.distribute.has_strategy() and (here is not strategy or many_workers(here)):
        raise ValueError(
            "Only the model is made under a strategy, with strategy.scope(): model = zoo.get(...); "
            "call fit and evaluate outside of it. "
            f"Received: fit under {type(here).__name__}, a model made under "
            f"{type(strategy).__name__}"
        )
    replicas = strategy.num_replicas_in_sync
    if batch_size is not None and batch_size % replicas:
        raise ValueError(
            "`batch_size` counts the items of all replicas together and must be a multiple of "
            f"their number, {replicas}. Received: batch_size={batch_size}"
        )
    if replicas > 1:  # also a model that was saved without a strategy
        model.jit_compile = False  # XLA cannot compile what replicas tell each other
    if not is_chief(strategy):
        logger.setLevel("ERROR")


def share_out(
    strategy: tf.distribute.Strategy,
    make: Callable[..., tf.data.Dataset],
    steps: int | None = None,
) -> Any:
    """Gives each replica its share of each batch.

    Args:
        strategy: The model's.
        make: Takes `share=` and makes a worker's data set: for each batch, one element for each of
            its replicas.
        steps: How many batches there are, if that is known.
    """
    everywhere = strategy.num_replicas_in_sync
    if everywhere == 1:
        batches = make(share=WHOLE)
        return (
            batches
            if steps is None
            else batches.apply(tf.data.experimental.assert_cardinality(steps))
        )

    def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        here = everywhere // context.num_input_pipelines
        return make(share=Share(context.input_pipeline_id * here, here, everywhere))

    shares = strategy.distribute_datasets_from_function(of_worker)
    # Keras takes the cardinality for the number of steps; TensorFlow counts elements of a worker.
    shares._cardinality = tf.data.UNKNOWN_CARDINALITY if steps is None else steps
    return shares
