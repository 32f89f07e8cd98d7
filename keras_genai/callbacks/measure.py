"""Metrics on validation data during training: `Measure` writes them, `QualityGate` judges."""

import math
import time
from collections.abc import Sequence
from typing import Any

import keras

from keras_genai import measuring
from keras_genai._log import say, warn
from keras_genai._text import did_you_mean
from keras_genai.data import Dataset


class Measure(keras.callbacks.Callback):
    """Writes metrics of generated samples into the history, as `val_FD` and so on.

    Validation data are those of `fit`, or the validation part of a data set that has one; the test
    part is left for `keras_genai.measure`. Samples are those of `generate`, from the averaged
    weights where a model has them, and the same latents each time. Training ends in the same bits
    with and without it.

    The first measurement is always made, and its time is said. Later ones are left out as long as
    all of them together would have taken more than `share` of the training's time.

    Args:
        every: Epochs between measurements.
        metrics: Names, as in `keras_genai.measure`. A Fréchet distance of as few images as the
            default is biased upwards, the kernel distance "KD" is not.
        num_samples: N; the same for all that is compared.
        features: A feature extractor, as in `keras_genai.measure`.
        share: The largest share of the training's time.
    """

    def __init__(
        self,
        every: int = 1,
        metrics: Sequence[str] = ("FD",),
        num_samples: int = 1000,
        features: Any = None,
        share: float = 0.1,
    ):
        super().__init__()
        if every < 1 or num_samples < 2:
            raise ValueError(
                "`every` is at least 1 and `num_samples` at least 2. "
                f"Received: every={every}, num_samples={num_samples}"
            )
        self.every, self.metrics, self.num_samples = every, metrics, num_samples
        self.features, self.share, self.seconds = features, share, 0.0

    def on_train_begin(self, logs: Any = None) -> None:
        if self.model.held_out is None:
            raise ValueError(
                "Measure() needs validation data: pass validation_data= or validation_split=0.1 to "
                "fit(), or take a data set that has a validation part. Received: neither"
            )
        held = self.model.held_out
        self.subject = measuring.subject_of(
            self.model, self.model.modality, Dataset(held.name, held), self.num_samples,
            seed=0, features=self.features,
        )  # fmt: skip
        measuring.check_names(self.metrics, self.subject)
        measuring.warn_of_bias(self.metrics, self.subject)
        self.started = time.monotonic()

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.epoch_began = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        before = time.monotonic()
        first = self.seconds == 0.0
        dear = self.seconds > self.share * (before - self.started)
        if (epoch + 1) % self.every or (dear and not first):
            return
        self.subject.renew()
        for name in self.metrics:
            shortage = self.subject.shortage(name)  # of texts it may be over in the next epoch
            if shortage:
                warn(f"not measured: {shortage}")
            else:
                logs[f"val_{name}"] = self.subject.measured(name).value
        taken = time.monotonic() - before
        self.seconds += taken
        if first:
            say(
                f"Measured {', '.join(self.metrics)} on {self.subject.count:,} samples in "
                f"{taken:.1f} s; at this pace again after epoch {self._due(epoch + 1, before)}, "
                f"for at most {self.share:.0%} of the time"
            )

    def _due(self, epoch: int, before: float) -> int:
        """The epoch after which the share of time allows another measurement, as long as this."""
        left = self.seconds / self.share - (time.monotonic() - self.started)
        epochs = max(1, math.ceil(left / max(before - self.epoch_began, 1e-3)))
        return -(-(epoch + epochs) // self.every) * self.every


class QualityGate(keras.callbacks.Callback):
    """Accepts a model that is good enough, gives up on one that no longer gets better.

    Training stops when `metric` is better than asked for (`accepted` is then True), or has not
    improved for `patience` measurements. A model that was not accepted is trained anew from
    another seed, which for adversarial networks helps more often than training on:

        for seed in range(3):
            gate = QualityGate("val_KD", better_than=1.5)
            model = zoo.get("dcgan", seed=seed)
            model.fit("mnist", callbacks=[Measure(metrics=["KD"]), gate])
            if gate.accepted:
                break

    A gate looks at validation data only; state the accepted model's numbers on the test part.

    Args:
        metric: A name in the history, such as "val_FD" or "val_loss".
        better_than: The value to pass: from below for precision, recall, coverage and the like,
            from above for losses and distances.
        patience: Measurements without a better value after which training stops; None waits for
            the end of the budget.
        higher_is_better: Which of two values is the better one; needed where `metric` is neither
            one of `keras_genai.measure` nor a loss.
    """

    def __init__(
        self,
        metric: str,
        better_than: float,
        patience: int | None = None,
        higher_is_better: bool | None = None,
    ):
        super().__init__()
        self.metric, self.better_than, self.patience = metric, better_than, patience
        if higher_is_better is None:
            higher_is_better = _higher_is_better(metric)
        self.sign = -1.0 if higher_is_better else 1.0
        self.accepted, self.values = False, []  # type: bool, list[float]

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        if self.metric not in (logs or {}):
            return
        self.values.append(float(logs[self.metric]))
        signed = [self.sign * value for value in self.values]
        self.accepted = signed[-1] < self.sign * self.better_than
        waited = len(signed) - 1 - signed.index(min(signed))
        if self.accepted:
            say(f"Accepted: {self.metric} is {self.values[-1]:.4g}")
        elif self.patience is not None and waited >= self.patience:
            say(
                f"Not accepted: {self.metric} stays at {self.values[signed.index(min(signed))]:.4g}"
            )
        else:
            return
        self.model.stop_training = True

    def on_train_end(self, logs: Any = None) -> None:
        if not self.values:
            warn(f"QualityGate never saw {self.metric!r}: add Measure(), or pass validation data.")


def _higher_is_better(metric: str) -> bool:
    name = metric.removeprefix("val_")
    _, better = measuring.MEANINGS.get(name, ("", ""))
    if better.startswith(("higher", "lower")):
        return better.startswith("higher")
    if name.endswith("loss"):
        return False
    hint = did_you_mean(metric, [f"val_{m}" for m in measuring.METRICS])
    raise ValueError(
        f"QualityGate does not know whether more of this is better. {hint}Otherwise pass "
        f"higher_is_better=True or False. Received: metric={metric!r}"
    )
