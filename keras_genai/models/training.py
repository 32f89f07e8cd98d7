"""What `fit` does around `keras.Model.fit`: data, validation, clock, run folder, continuing."""

import builtins
import contextlib
import dataclasses
import functools
import math
import operator
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genai import data as data_module
from keras_genai import distribution
from keras_genai._log import logger, say, warn
from keras_genai.data import pipeline


@dataclasses.dataclass
class Progress:
    """How far a model is trained; saved with it.

    Attributes:
        epoch: Finished epochs.
        step: Batches taken from the data; the order of the data is a function of seed and step.
        epoch_start: The step at which the epoch that is under way began.
        milliseconds: Wall time spent in `fit`.
    """

    epoch: int = 0
    step: int = 0
    epoch_start: int = 0
    milliseconds: int = 0

    def to_array(self) -> np.ndarray:
        """int64 `(4,)`, for a weights file."""
        return np.array(dataclasses.astuple(self), "int64")

    @classmethod
    def from_array(cls, array: Any) -> "Progress":
        """The inverse of `to_array`."""
        return cls(*(int(value) for value in np.asarray(array)))


class FollowProgress(keras.callbacks.Callback):
    """Keeps `model.progress`, starts each epoch at its place in the data, stops by the clock."""

    def __init__(
        self, position: tf.Variable, end: tf.Variable, steps: int, last: float, seconds: float
    ):
        super().__init__()
        self.position, self.end, self.steps = position, end, steps
        self.last, self.seconds = last, seconds
        self.compiled: tuple[int, float] | None = None  # the step and second of the first call
        self.progbar: keras.callbacks.ProgbarLogger | None = None
        self.carried_means: list[np.ndarray] | None = None
        self.cut_after = 0

    def start_clock(self, progress: Progress) -> None:
        """The clock goes on from where an earlier part of the run left it."""
        self.started = time.monotonic() - progress.milliseconds / 1000

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        progress = self.model.progress
        self.position.assign(progress.step)
        self.end.assign(progress.epoch_start + self.steps)
        if self.carried_means:  # an epoch that was cut off goes on with its means so far
            for variable, value in zip(self.means, self.carried_means, strict=True):
                variable.assign(value)
        self.carried_means = None
        if self.progbar and self.compiled and math.isfinite(self.seconds):
            steps_to_go = self.expected_steps() - progress.step
            self.progbar.epochs = epoch + max(1, math.ceil(steps_to_go / self.steps))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # With several steps an execution Keras counts past the end of an epoch.
        step = int(self.position.numpy()) + batch + 1
        self.model.progress.step = min(step, int(self.end.numpy()))
        self.model.progress.milliseconds = round(self._elapsed * 1000)
        self.compiled = self.compiled or (self.model.progress.step, self._elapsed)
        if self.time_is_up and distribution.is_chief(self.model.distribute_strategy):
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        progress = self.model.progress
        if self.time_is_up and not self.epoch_is_full:
            self.cut_after = progress.step - progress.epoch_start
        progress.epoch, progress.epoch_start = epoch + 1, progress.step

    def on_train_end(self, logs: Any = None) -> None:
        if self.progbar and self.cut_after:  # Keras has printed a line as of a whole epoch
            say(f"Stopped by the clock after {self.cut_after} of the epoch's {self.steps} steps")

    def expected_steps(self) -> float:
        """Between epochs: the step at which training ends, by the clock at its pace so far."""
        progress = self.model.progress
        step, second = self.compiled or (progress.step, self._elapsed)
        pace = (progress.step - step) / max(self._elapsed - second, 1e-3)
        by_clock = (
            (self.seconds - self._elapsed) * pace if math.isfinite(self.seconds) else math.inf
        )
        return progress.step + min((self.last - progress.epoch) * self.steps, by_clock)

    @property
    def time_is_up(self) -> bool:
        """Whether the budget of the clock is spent."""
        return self._elapsed >= self.seconds

    @property
    def epoch_is_full(self) -> bool:
        """Whether the last step of the epoch has been made."""
        return self.model.progress.step >= int(self.end.numpy())

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def means(self) -> list[Any]:
        """The variables in which the epoch's means are added up."""
        return [v for metric in self.model.metrics for v in metric.variables]


class StopWhenAsked(keras.callbacks.Callback):
    """Turns Ctrl-C into a stop between two steps, when all counts and states agree.

    Python would raise in the middle of a step that has moved the weights already, but is not
    counted yet. A second Ctrl-C does that. When one worker stops, for whatever reason, so do all,
    after the same step: this is the last callback, which has seen what the others decided.
    """

    def __init__(self, follow: FollowProgress):
        super().__init__()
        self.follow, self.asked = follow, False
        self.stop, self.steps_to_go = False, 0

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Signals reach the main thread only; elsewhere nothing changes."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._note)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def _note(self, number: int, frame: Any) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_begin(self, logs: Any = None) -> None:
        self.last_time, self.last_step = time.monotonic(), self.model.progress.step

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.steps_to_go -= 1
        if self.steps_to_go > 0:
            self.stop = self.stop or self.model.stop_training
            self.model.stop_training = False
        elif self._agree() and not self.follow.epoch_is_full:  # else the epoch is finished first
            raise StopBetweenSteps

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self._agree():
            raise StopBetweenSteps

    def _agree(self) -> bool:
        """Whether Ctrl-C was pressed at any worker; says so to Keras if any of them is to stop.

        Between workers that takes milliseconds, so they do it about once a second.
        """
        strategy, now, step = (
            self.model.distribute_strategy,
            time.monotonic(),
            self.model.progress.step,
        )
        pace = (step - self.last_step) / max(now - self.last_time, 1e-3)
        self.last_time, self.last_step = now, step
        stop = self.stop or self.model.stop_training
        wishes = (self.asked, stop, pace if distribution.is_chief(strategy) else 0)
        asked, stop, pace = distribution.sum_over_workers(strategy, wishes)
        self.steps_to_go = pace if distribution.many_workers(strategy) else 1
        self.stop, self.model.stop_training = False, stop > 0
        return asked > 0


class StopBetweenSteps(KeyboardInterrupt):
    """Ctrl-C, at a place where the run can be saved."""


class OneRun(keras.callbacks.CallbackList):
    """Two calls of Keras's `fit` are one training to the callbacks."""

    begun = False
    last_part = True

    def on_train_begin(self, logs: Any = None) -> None:
        """Called by each part; passed on from the first."""
        if not self.begun:
            super().on_train_begin(logs)
        self.begun = True

    def on_train_end(self, logs: Any = None) -> None:
        """Called by each part; passed on from the last."""
        if self.last_part:
            super().on_train_end(logs)


@dataclasses.dataclass
class Plan:
    """All that is settled before the first step; `run` takes it."""

    model: Any
    batches: Callable[..., tf.data.Dataset]
    validation: Any
    steps: int
    first_epoch: int
    last_epoch: int
    follow: FollowProgress
    stop: StopWhenAsked
    callbacks: OneRun
    history: keras.callbacks.History
    folder: Any

    def run(self, fit: Callable[..., keras.callbacks.History]) -> keras.callbacks.History:
        """Calls `fit`; twice if an epoch was cut off, whose rest comes first."""
        progress = self.model.progress
        self.follow.start_clock(progress)
        strategy = self.model.distribute_strategy
        time_is_up = distribution.of_chief(strategy, self.follow.time_is_up)
        if self.first_epoch >= self.last_epoch or time_is_up:
            say("Nothing is left to train: this run has had its epochs or minutes")
            return self.history
        try:
            with self.stop.listening(), pipeline.data_errors():
                self._run_parts(fit, progress.step - progress.epoch_start)
        except StopBetweenSteps:
            if self.folder:
                self.folder.checkpoint()
            if not hasattr(builtins, "__IPYTHON__"):
                raise KeyboardInterrupt from None
            # An exception would fill the notebook with its traceback.
            self.callbacks.on_train_end()
            say("Stopped, as asked; fit() with the same run_dir goes on from here")
        except tf.errors.ResourceExhaustedError as error:
            if "OOM" not in error.message:  # TensorFlow says the same of a full disk
                raise
            raise MemoryError(
                "The memory does not hold a training step of this size: use a smaller batch_size "
                "or smaller networks. A checkpoint in the run folder is whole. "
                f"Received: {error.message.splitlines()[0]}"
            ) from error
        return self.history

    def _run_parts(self, fit: Callable[..., Any], done: int) -> None:
        first = self.first_epoch
        if done:
            self.follow.carried_means = [v.numpy() for v in self.follow.means]
            self.callbacks.last_part = first + 1 == self.last_epoch
            self._fit(fit, self.steps - done, first, first + 1)
            first += 1
            if self.callbacks.last_part or self.model.stop_training:
                if not self.callbacks.last_part:
                    self.callbacks.last_part = True
                    self.callbacks.on_train_end()
                return
            self.callbacks.last_part = True
        self._fit(fit, self.steps, first, self.last_epoch)

    def _fit(self, fit: Callable[..., Any], steps: int, first: int, last: int) -> None:
        fit(
            x=distribution.share_out(self.model.distribute_strategy, self.batches, steps),
            shuffle=False,  # the batches are shuffled; Keras would only warn that it does not
            initial_epoch=first,
            epochs=last,
            callbacks=self.callbacks,
        )


def plan(
    model: Any,
    x: Any,
    y: Any,
    *,
    batch_size: int | None,
    epochs: int | None,
    minutes: float | None,
    shuffle: bool,
    validation_split: float,
    validation_data: Any,
    validation_batch_size: int | None,
    initial_epoch: int | None,
    steps_per_epoch: int | None,
    value_range: tuple[float, float] | None,
    on_bad: str,
    run_dir: Any,
    callbacks: Any,
    verbose: Any,
) -> Plan:
    """Settles everything that `fit` needs, or raises; nothing is trained yet."""
    from keras_genai.callbacks import health, measure, run_folder, samples

    recipe = _recipe(model)
    _check_budget(minutes, epochs=epochs, batch_size=batch_size, steps_per_epoch=steps_per_epoch)
    _check_optimizer(model)
    if x is None:
        if recipe is None:
            raise ValueError("A model without a recipe needs data: fit(x). Received: x=None")
        x = recipe.data
    default_batch_size = batch_size is None
    batch_size = int(model.batch_size if batch_size is None else batch_size)
    distribution.prepare(model, batch_size)
    # As in Keras, the split counts only where no validation data are given.
    split = 0.0 if validation_data is not None else validation_split
    reading = {"value_range": value_range, "on_bad": on_bad}
    parts = model.open_data(x, y, validation_split=split, **reading)
    model.settle(parts)
    if not model.optimizer.built:  # compiled anew since the model was built
        model.optimizer.build(model.trainable_variables)
    source = model.prepare(parts.train)
    one_device = model.distribute_strategy.num_replicas_in_sync == 1
    if default_batch_size and one_device and source.exact:
        batch_size = max(1, min(batch_size, len(source)))  # fewer photos than the recipe's batch
    _mention(model, y, batch_size)
    held_out = _validation(model, parts, split, validation_data, reading)
    validation = None if held_out is None else model.prepare(held_out)
    model.held_out = parts.validation if held_out is None else held_out

    position, end = (tf.Variable(0, dtype="int64", trainable=False) for _ in range(2))
    steps = _steps(source, batch_size, steps_per_epoch)
    folder, continued = run_folder.open_folder(
        run_dir,
        model,
        settings={
            "data": source.name,
            "data_path": data_module.path_of(x),
            "data_fingerprint": source.fingerprint,
            "validation_split": split or None,
            "batch_size": batch_size,
            "steps_per_epoch": steps,
            "shuffle": shuffle,
            "exact": source.exact,
            "replicas": model.distribute_strategy.num_replicas_in_sync,
        },
    )
    # After the folder: a continued run keeps the seed, and so the order, it was started with.
    batches = functools.partial(
        pipeline.train_batches,
        source, batch_size, seed=model.seed, position=position, end=end, shuffle=shuffle,
    )  # fmt: skip
    model.run_dir = folder and folder.path
    if continued:
        first, last = model.progress.epoch, epochs
    else:
        _mention_entry(model)
        _mention_frozen(model)
        model.progress.epoch_start = model.progress.step
        model.progress.milliseconds = 0
        first = model.progress.epoch if initial_epoch is None else initial_epoch
        last = None if epochs is None else epochs + (first if initial_epoch is None else 0)
    if last is None and minutes is None:
        minutes = recipe.minutes if recipe else None
    if last is None and minutes is None:
        last = first + 1
    expected = _announce(model, recipe, source, batch_size, steps, first, last, minutes)
    model.begin(source)

    follow = FollowProgress(
        position, end, steps,
        math.inf if last is None else last, math.inf if minutes is None else minutes * 60,
    )  # fmt: skip
    stop = StopWhenAsked(follow)
    watch = health.Health(source, folder.rows if folder else (), follow.expected_steps)
    if isinstance(callbacks, keras.callbacks.CallbackList):
        callbacks = callbacks.callbacks
    user = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else [*(callbacks or [])]
    # Before the folder, which writes down what an epoch's logs hold.
    measures = [callback for callback in user if isinstance(callback, measure.Measure)]
    user = [callback for callback in user if callback not in measures]
    # Health comes before the folder: broken weights must not replace a good checkpoint.
    own: list[keras.callbacks.Callback] = [follow, watch, *measures]
    if folder:
        folder.advice = watch.advice
        own += [folder, samples.writer(model, folder.path, source)]
    if not distribution.is_chief(model.distribute_strategy):
        verbose = 0
    if verbose != 0:
        follow.progbar = keras.callbacks.ProgbarLogger()
        own.append(follow.progbar)
    history = keras.callbacks.History()
    history.advice = watch.advice
    callback_list = OneRun(
        [*own, *user, history, stop],
        verbose=verbose,
        epochs=expected,
        steps=steps,
        model=model,
    )
    return Plan(
        model=model,
        batches=batches,
        validation=None
        if validation is None
        else eval_batches(model, validation, validation_batch_size or batch_size),
        steps=steps,
        first_epoch=first,
        last_epoch=10**9 if last is None else last,
        follow=follow,
        stop=stop,
        callbacks=callback_list,
        history=history,
        folder=folder,
    )


def eval_batches(model: Any, source: Any, batch_size: int) -> Any:
    """All items once, in batches, of which each replica of the model gets its share."""
    return distribution.share_out(
        model.distribute_strategy,
        functools.partial(pipeline.eval_batches, source, batch_size),
        pipeline.num_eval_batches(source, batch_size),
    )


def _recipe(model: Any) -> Any:
    from keras_genai.zoo import registry

    return registry.info(model.recipe) if model.recipe else None


def _check_budget(minutes: float | None, **counts: Any) -> None:
    if minutes is not None and not minutes > 0:
        raise ValueError(f"`minutes` must be positive. Received: minutes={minutes}")
    for name, count in counts.items():
        try:
            whole = count is None or operator.index(count) >= 1
        except TypeError:
            whole = False
        if not whole:
            raise ValueError(
                f"`{name}` must be a whole number, at least 1. Received: {name}={count!r}"
            )


def _check_optimizer(model: Any) -> None:
    scaled = isinstance(getattr(model, "optimizer", None), keras.optimizers.LossScaleOptimizer)
    if scaled and model.distribute_strategy.num_replicas_in_sync > 1:
        raise ValueError(
            "Training in float16 on several devices is not supported: build the model under "
            "keras.mixed_precision.set_dtype_policy('mixed_bfloat16') or 'float32'. "
            f"Received: {model.dtype_policy.name}"
        )
    if not model.compiled:
        raise ValueError(
            "The model must be compiled before fit(): call compile(optimizer), or take one from "
            f"zoo.get(). Received: {model._title}"
        )


def _mention(model: Any, y: Any, batch_size: int) -> None:
    """Says what is allowed, but perhaps not meant."""
    if y is not None and not model.takes_labels:
        logger.debug("%s learns from images alone: labels are left aside", model._title)
    normalized = any(
        isinstance(layer, keras.layers.BatchNormalization) for layer in model._flatten_layers()
    )
    if batch_size == model.distribute_strategy.num_replicas_in_sync and normalized:
        warn(
            "batch normalisation compares the images of a batch, and a batch has only one: "
            "choose a larger batch_size."
        )


def _mention_entry(model: Any) -> None:
    """Says what published weights leave out, when training starts from them."""
    if model.entry and not model.progress.step:
        fresh = " and the ".join([*model.training_only, "state of the optimizer"])
        start = "start" if model.training_only else "starts"
        warn(
            f"the {fresh} {start} anew, for {model.entry} holds what generating needs: samples may "
            "become worse at first."
        )


def _validation(
    model: Any, parts: Any, validation_split: float, validation_data: Any, reading: dict[str, Any]
) -> Any:
    """The source to validate on, or None."""
    source = None
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, tuple) else (validation_data,)
        if len(pair) > 2:
            raise ValueError(
                "`validation_data` is given as `x` or as `(x, y)`; samples are not weighed. "
                f"Received: a tuple of {len(pair)}"
            )
        loaded = model.open_data(*pair, **reading)
        source = loaded.train if loaded.validation is None else loaded.validation
    elif validation_split:
        source = parts.validation
    return source


def _mention_frozen(model: Any) -> None:
    """Says that what is frozen has learned nothing, as far as is known."""
    if model.num_frozen and not model.begins_with and not model.progress.step:
        warn(
            f"{model.num_frozen:,} weights are frozen as they were drawn. Fine-tuning begins with "
            "a trained model: zoo.load(path, lora_rank=8), or zoo.get(name, weights=tag, ...)."
        )


def _steps(source: Any, batch_size: int, steps_per_epoch: int | None) -> int:
    full = pipeline.steps_per_epoch(source, batch_size) if source.exact else source.num_batches
    if steps_per_epoch is not None:
        return int(steps_per_epoch)
    if full is None:
        raise ValueError(
            "This data set does not end: say how many steps make an epoch with "
            f"steps_per_epoch=. Received: {source.name}"
        )
    return full


def _announce(
    model: Any, recipe: Any, source: Any, batch_size: int, steps: int,
    first: int, last: int | None, minutes: float | None,
) -> int:  # fmt: skip
    """Says what is about to happen and how long it takes; returns the expected last epoch."""
    items = {"ratings": "users", "text": "windows"}.get(source.modality, "items")
    size = f"{len(source):,} {items}, " if source.exact else ""
    what = model._title
    if model.num_frozen:
        trained = sum(math.prod(variable.shape) for variable in model.trainable_variables)
        what = f"{trained:,} of the {trained + model.num_frozen:,} weights of {what}"
    line = f"Training {what} on {source.name}: {size}{steps} steps of {batch_size} an epoch"
    if recipe is None:
        say(f"{line}, seed {model.seed}")
        return first + 1 if last is None else last
    seconds_per_epoch = steps * recipe.step_ms / 1000 * batch_size / recipe.batch_size
    if last is not None or minutes is None:
        last = first + 1 if last is None else last
        estimate = seconds_per_epoch * (last - first) / 60
        limit = f" (stops at {_duration(minutes)})" if minutes else ""
        say(f"{line}, about {_duration(estimate)} on 2 CPU cores{limit}, seed {model.seed}")
        return last
    say(f"{line}, for {_duration(minutes)} by the clock, seed {model.seed}")
    seconds = minutes * 60 - model.progress.milliseconds / 1000
    return first + max(1, round(seconds / seconds_per_epoch))


def _duration(minutes: float) -> str:
    if minutes < 1:
        return f"{max(1, round(60 * minutes))} s"
    return f"{minutes:.0f} min" if minutes >= 10 else f"{minutes:.2g} min"
