"""Watches a training: stops it at the first NaN, and gives advice where it goes wrong.

Each check below is one function: it looks at the model after an epoch and returns a sentence of
advice, or None. A sentence is said once a run, kept in `history.csv` and drawn on the loss curve.
"""

import contextlib
import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np

from keras_genai._log import say, warn
from keras_genai.data.base import DataError

# The largest share of the training's time that costly checks may take, after the first.
BUDGET = 0.01
# Before this step every model looks ill: its samples are alike, its latents depend on nothing.
FIRST_STEP = 300


class Health(keras.callbacks.Callback):
    """Stops a training whose numbers are broken, advises one that does not learn.

    Args:
        source: The training data.
        rows: The history of the run that is continued, as in `history.csv`.
        expected_steps: Says after an epoch at which step training will end.
    """

    def __init__(
        self,
        source: Any,
        rows: Sequence[Mapping[str, Any]] = (),
        expected_steps: Callable[[], float] = lambda: 0.0,
    ):
        super().__init__()
        self.source, self.expected_steps = source, expected_steps
        self.advice: dict[int, list[str]] = {}  # by epoch, counted from 1
        self.logs = [{k: float(v) for k, v in row.items() if k != "advice"} for row in rows]
        self.earlier = "; ".join(row.get("advice", "") for row in rows)
        self.seconds = 0.0

    @functools.cached_property
    def items(self) -> dict[str, np.ndarray]:
        """The first 256 training items, stacked by key."""
        return self.source.arrays(256)

    @property
    def examples(self) -> np.ndarray:
        """What `encode` takes of them: images uint8 `(N, H, W, C)`, or users' histories."""
        return self.items["user_items" if self.model.modality == "ratings" else "image"]

    def on_train_begin(self, logs: Any = None) -> None:
        self.started = time.monotonic()
        self.model.first_broken.assign(0)
        self.model.skipped_steps.assign(0)

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        name = self.model.broken_network
        bad = [key for key, value in (logs or {}).items() if not math.isfinite(value)]
        if not name and not bad:
            return
        weights = f"The weights of `{name}` are NaN or beyond 1e19"
        what = weights if name else f"{bad[0]} is not finite"
        rate = float(self.model.optimizer_of(name).learning_rate)
        losses = ", ".join(f"{key}={value:.4g}" for key, value in (logs or {}).items())
        raise FloatingPointError(
            f"{what} after step {self.model.progress.step}, and training stopped. Try a "
            f"smaller learning_rate (it is {rate:.3g}) or a gradient "
            "clip, and look for odd values in the data; a checkpoint in the run folder is from "
            f"before this step. Received: {losses}"
        )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.logs.append({key: float(value) for key, value in (logs or {}).items()})
        if skipped := int(self.model.skipped_steps.numpy()):
            scale = float(self.model.optimizer.dynamic_scale)
            say(f"{skipped} updates overflowed float16 and were skipped; loss scale {scale:g}")
            self.model.skipped_steps.assign(0)
        if self.model.progress.step < FIRST_STEP:
            return
        for check in CHECKS:
            self._note(epoch + 1, check(self))
        before = time.monotonic()
        if self.seconds > BUDGET * (before - self.started):
            return
        # A damaged picture ends the training when it is met there, not when it is met here.
        with contextlib.suppress(DataError):
            for check in COSTLY_CHECKS:
                self._note(epoch + 1, check(self))
        self.seconds += time.monotonic() - before

    def on_train_end(self, logs: Any = None) -> None:
        if self.model.takes_images and self.model.unfinished:
            warn(
                f"Training has ended {self.model.unfinished}. Train on, with the same run_dir, or "
                "anew with a smaller stage_steps"
            )

    def _note(self, epoch: int, sentence: str | None) -> None:
        """Gives the advice, once a run."""
        if sentence and sentence[:20] not in self.earlier:
            self.earlier += sentence
            self.advice.setdefault(epoch, []).append(sentence)
            warn(sentence)


# Checks -----------------------------------------------------------------------------------------


def sure_discriminator(health: Health) -> str | None:
    """A discriminator that was not wrong for two epochs leaves the generator no gradient."""
    limit = health.model.sure_d_loss
    losses = [logs["d_loss"] for logs in health.logs[-2:] if "d_loss" in logs]
    if limit is None or len(losses) < 2 or max(losses) > limit:
        return None
    loss = losses[-1]
    return (
        f"The discriminator is sure of every image (d_loss={loss:.2g}), which teaches the "
        "generator nothing: give it a smaller learning rate or fewer filters, or add data"
    )


def samples_alike(health: Health) -> str | None:
    """Mode collapse: the pixels of samples vary less than a quarter as much as those of images."""
    if health.model.modality != "image" or health.model.takes_images:
        return None
    real = _variation(health.examples)
    made = _variation(health.model.generate(25, seed=1))  # in a preview some are meant to be alike
    if made >= 0.25 * real:
        return None
    return (
        f"The samples are nearly the same (their pixels vary {made / real:.0%} as much as those of "
        "the data): the generator has collapsed or learned nothing yet; try a smaller "
        "learning_rate or another seed, or look for a bug in the data"
    )


def outputs_alike(health: Health) -> str | None:
    """What a model makes of images varies less than a quarter as much as they do."""
    if not health.model.takes_images or health.model.unfinished:
        return None
    real = _variation(health.examples)
    made = _variation(health.model.generate(health.examples))
    if made >= 0.25 * real:
        return None
    return (
        f"The outputs are nearly the same whatever the image (their pixels vary {made / real:.0%} "
        "as much as those of the data): the network gives the mean of the data; try a smaller "
        "learning_rate or a larger latent_dim, or look for a bug in the data"
    )


def _variation(images: np.ndarray) -> float:
    """Standard deviation over the images, mean over the pixels."""
    return float(images.astype("float32").std(0).mean())


def posterior_collapse(health: Health) -> str | None:
    """Active units, Burda et al., 2015, https://arxiv.org/abs/1509.00519, section 5.2.

    Of a model that takes labels those that vary within a class: what a unit says of the class the
    decoder knows anyway.
    """
    has_posterior = "kl" in health.model.loss_names or hasattr(health.model, "log_weights")
    if not has_posterior or not hasattr(health.model, "encode"):
        return None
    growing = getattr(health.model, "capacity", 0.0) > 0.0
    if growing and float(health.model.updates) < health.model.capacity_steps:
        return None  # few are meant to be active yet
    if health.model.takes_labels:
        labels = health.items["label"]
        means = health.model.encode(health.examples, labels)
        for label in np.unique(labels):
            means[labels == label] -= means[labels == label].mean(0)
    else:
        means = health.model.encode(health.examples)
    active = int((means.var(0) > 0.01).sum())
    if active >= 0.1 * means.shape[1]:
        return None
    return (
        f"The posterior has collapsed: {active} of {means.shape[1]} latent units depend on the "
        f"data; {_against_collapse(health.model)}"
    )


def _against_collapse(model: Any) -> str:
    """What revives latents that are given up, or never were of use."""
    if not hasattr(model, "beta") and not model.takes_labels:
        return "use a smaller learning_rate, or beta_vae, which can weigh the kl less: beta=0.1"
    if model.takes_labels or getattr(model, "capacity", 0.0):
        return "use a smaller learning_rate"
    return f"weigh the kl less: beta={0.1 * model.beta:.2g} in place of {model.beta:g}"


def dead_codes(health: Health) -> str | None:
    """A codebook of which less than half is used, by images of the training set."""
    if not hasattr(health.model, "codebook"):
        return None
    size = health.model.num_codes
    used = len(np.unique(health.model.codes(health.examples)))
    if used >= 0.5 * size:
        return None
    return (
        f"Only {used} of {size} codes are used, so that reconstructions show less than they could: "
        "restart dead codes (restart_below=0.1) for longer (a larger code_steps), use a smaller "
        "learning_rate, or fewer codes"
    )


def unused_vocabulary(health: Health) -> str | None:
    """Characters that no training text ever had keep their random embeddings."""
    model = health.model
    if model.modality != "text" or model.codec.knows_all or model.begins_with or model.entry:
        return None
    size, unit = model.num_tokens, model.codec.unit
    used = len(np.unique(health.source.ids))
    if used >= 0.8 * size:
        return None
    return (
        f"The training text has {used} of the {size} {unit} of the vocabulary: leave out "
        "`vocabulary`, so that it is taken from the text, or train on more text"
    )


def climbing_validation(health: Health) -> str | None:
    """Overfitting: training improves while three validations in a row found no improvement."""
    validated = [logs for logs in health.logs if "val_loss" in logs]
    if health.model.adversarial or not validated:
        return None
    values = [logs["val_loss"] for logs in validated]
    best = int(np.argmin(values))
    late = len(values) - 1 - best >= 3
    worse = values[-1] > values[best] + 0.02 * abs(values[best])
    learning = validated[-1]["loss"] < validated[best]["loss"]
    if not (late and worse and learning):
        return None
    return (
        f"The validation loss climbs ({values[-1]:.4g}, at best {values[best]:.4g} "
        f"{len(values) - 1 - best} validations ago): the model learns its data by heart; stop "
        "earlier (keras.callbacks.EarlyStopping), add data or dropout, or make it smaller"
    )


def rate_falls_early(health: Health) -> str | None:
    """A schedule that ends before half of the training: the rest moves the weights little."""
    optimizer = health.model.optimizer_of("")
    schedule = optimizer._learning_rate
    if not isinstance(schedule, keras.optimizers.schedules.CosineDecay):
        return None
    lowest = schedule.warmup_steps + schedule.decay_steps
    to_go = health.expected_steps() - health.model.progress.step
    expected = int(optimizer.iterations) + to_go
    if not 2 * lowest <= expected < math.inf:
        return None
    rounded = round(expected, 2 - len(str(int(expected))))  # two digits
    return (
        f"The learning rate is at its lowest from step {lowest:,} on, and training may come to "
        f"about {rounded:,.0f} steps: a new run with decay_steps={rounded:.0f} would use them all"
    )


CHECKS = (sure_discriminator, climbing_validation, rate_falls_early)
COSTLY_CHECKS = (samples_alike, outputs_alike, posterior_collapse, dead_codes, unused_vocabulary)
