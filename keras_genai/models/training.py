"""What `fit` does around `keras.Model.fit`: data, validation, clock, run folder, continuing."""

import dataclasses
import math
import time
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genai._log import say
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

    def __init__(self, position: tf.Variable, end: tf.Variable, steps: int, seconds: float):
        super().__init__()
        self.position, self.end, self.steps = position, end, steps
        self.seconds = seconds
        self.progbar: keras.callbacks.ProgbarLogger | None = None
        self.carried_means: list[np.ndarray] | None = None

    def start_clock(self, progress: Progress) -> None:
        """The clock goes on from where an earlier part of the run left it."""
        self.started = time.monotonic() - progress.milliseconds / 1000

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        progress = self.model.progress
        self.position.assign(progress.step)
        self.end.assign(progress.epoch_start + self.steps)
        if self.carried_means:  # an epoch that was cut off goes on with its means so far
            for variable, value in zip(self._means, self.carried_means, strict=True):
                variable.assign(value)
        self.carried_means = None
        if self.progbar and math.isfinite(self.seconds) and epoch:
            share = self._elapsed / self.seconds
            self.progbar.epochs = max(epoch + 1, math.ceil(epoch / max(share, 1e-6)))

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        # With several steps an execution Keras counts past the end of an epoch.
        step = int(self.position.numpy()) + batch + 1
        self.model.progress.step = min(step, int(self.end.numpy()))
        self.model.progress.milliseconds = round(self._elapsed * 1000)
        if self._elapsed >= self.seconds:
            self.model.stop_training = True

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        progress = self.model.progress
        progress.epoch, progress.epoch_start = epoch + 1, progress.step

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self.started

    @property
    def _means(self) -> list[Any]:
        return [v for metric in self.model.metrics for v in metric.variables]


@dataclasses.dataclass
class Plan:
    """All that is settled before the first step; `run` takes it."""

    model: Any
    batches: tf.data.Dataset
    validation: tf.data.Dataset | None
    steps: int
    first_epoch: int
    last_epoch: int
    follow: FollowProgress
    callbacks: keras.callbacks.CallbackList
    history: keras.callbacks.History
    folder: Any

    def run(self, fit: Callable[..., keras.callbacks.History]) -> keras.callbacks.History:
        """Calls `fit`; twice if an epoch was cut off, whose rest comes first."""
        progress, model = self.model.progress, self.model
        self.follow.start_clock(progress)
        done = progress.step - progress.epoch_start
        try:
            if done:
                self.follow.carried_means = [v.numpy() for v in self.follow._means]
                self._fit(fit, self.steps - done, self.first_epoch, self.first_epoch + 1)
                self.first_epoch += 1
            if self.first_epoch < self.last_epoch and not (done and model.stop_training):
                self._fit(fit, self.steps, self.first_epoch, self.last_epoch)
        except KeyboardInterrupt:
            if self.folder:
                self.folder.checkpoint()
            raise
        return self.history

    def _fit(self, fit: Callable[..., Any], steps: int, first: int, last: int) -> None:
        known = tf.data.experimental.assert_cardinality(steps)
        fit(
            x=self.batches.apply(known),
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
    run_dir: Any,
    callbacks: Any,
    verbose: Any,
) -> Plan:
    """Settles everything that `fit` needs, or raises; nothing is trained yet."""
    from keras_genai.callbacks import run_folder, samples

    recipe = _recipe(model)
    _check_budget(epochs, minutes)
    if x is None:
        if recipe is None:
            raise ValueError("A model without a recipe needs data: fit(x). Received: x=None")
        x = recipe.data
    batch_size = model.batch_size if batch_size is None else batch_size
    parts = model.open_data(x, y, validation_split=validation_split, value_range=value_range)
    model.settle(parts)
    source = model.prepare(parts.train)
    validation = _validation(model, parts, validation_split, validation_data, value_range)

    position, end = (tf.Variable(0, dtype="int64", trainable=False) for _ in range(2))
    batches = pipeline.train_batches(
        source, batch_size, seed=model.seed, position=position, end=end, shuffle=shuffle
    )
    steps = steps_per_epoch or _steps(source, batch_size)
    folder = run_folder.open_folder(
        run_dir,
        model,
        settings={
            "data": source.name,
            "data_fingerprint": source.fingerprint,
            "batch_size": batch_size,
            "steps_per_epoch": steps,
            "shuffle": shuffle,
            "exact": source.exact,
        },
    )
    model.run_dir = folder and folder.path
    if folder and folder.continued:
        first, last = model.progress.epoch, epochs
        # The order of the data follows the seed that the run was started with.
        batches = pipeline.train_batches(
            source, batch_size, seed=model.seed, position=position, end=end, shuffle=shuffle
        )
    else:
        model.progress.epoch_start = model.progress.step
        model.progress.milliseconds = 0
        first = model.progress.epoch if initial_epoch is None else initial_epoch
        last = None if epochs is None else epochs + (first if initial_epoch is None else 0)
    if last is None and minutes is None:
        minutes = recipe.minutes if recipe else None
    if last is None and minutes is None:
        last = first + 1
    expected = _announce(model, recipe, source, batch_size, steps, first, last, minutes)

    follow = FollowProgress(position, end, steps, math.inf if minutes is None else minutes * 60)
    own = [follow]
    if folder:
        own += [samples.writer(model, folder.path, source), folder]
    user = [callbacks] if isinstance(callbacks, keras.callbacks.Callback) else callbacks or []
    if verbose != 0:
        follow.progbar = keras.callbacks.ProgbarLogger()
        own.append(follow.progbar)
    history = keras.callbacks.History()
    callback_list = keras.callbacks.CallbackList(
        [*own, *user, history],
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
        else pipeline.eval_batches(validation, validation_batch_size or batch_size),
        steps=steps,
        first_epoch=first,
        last_epoch=10**9 if last is None else last,
        follow=follow,
        callbacks=callback_list,
        history=history,
        folder=folder,
    )


def _recipe(model: Any) -> Any:
    from keras_genai.zoo import registry

    return registry.info(model.recipe) if model.recipe else None


def _check_budget(epochs: int | None, minutes: float | None) -> None:
    if epochs is not None and epochs < 1:
        raise ValueError(f"`epochs` must be at least 1. Received: epochs={epochs}")
    if minutes is not None and not minutes > 0:
        raise ValueError(f"`minutes` must be positive. Received: minutes={minutes}")


def _validation(
    model: Any, parts: Any, validation_split: float, validation_data: Any, value_range: Any
) -> Any:
    """The source to validate on, adapted to the model, or None."""
    source = None
    if validation_data is not None:
        pair = validation_data if isinstance(validation_data, tuple) else (validation_data,)
        loaded = model.open_data(*pair, value_range=value_range)
        source = loaded.train if loaded.validation is None else loaded.validation
    elif validation_split:
        source = parts.validation
    return None if source is None else model.prepare(source)


def _steps(source: Any, batch_size: int) -> int:
    steps = source.num_batches if not source.exact else len(source) // batch_size
    if steps is None:
        raise ValueError(
            "This data set does not end: say how many steps make an epoch with "
            f"steps_per_epoch=. Received: {source.name}"
        )
    return steps


def _announce(
    model: Any, recipe: Any, source: Any, batch_size: int, steps: int,
    first: int, last: int | None, minutes: float | None,
) -> int:  # fmt: skip
    """Says what is about to happen and how long it takes; returns the expected last epoch."""
    size = f"{len(source):,} items, " if source.exact else ""
    line = f"Training {model._title} on {source.name}: {size}{steps} steps of {batch_size} an epoch"
    if recipe is None:
        say(f"{line}, seed {model.seed}")
        return first + 1 if last is None else last
    seconds_per_epoch = steps * recipe.step_ms / 1000 * batch_size / recipe.batch_size
    if last is not None or minutes is None:
        last = first + 1 if last is None else last
        estimate = seconds_per_epoch * (last - first) / 60
        limit = f" (stops at {minutes:.3g} min)" if minutes else ""
        say(f"{line}, about {estimate:.1g} min on 2 CPU cores{limit}, seed {model.seed}")
        return last
    say(f"{line}, for {minutes:.3g} min by the clock, seed {model.seed}")
    return first + max(1, round(minutes * 60 / seconds_per_epoch))
