"""`measure`: what a model is worth, in numbers, on data it has not seen if some are held out.

Every number stands beside what it depends on: how many samples, which feature extractor, how
images were resized, which part of the data. Definitions are in `keras_genai.metrics`.
"""

import dataclasses
import functools
import json
import math
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_genai import __version__, metrics, pictures
from keras_genai import data as data_module
from keras_genai._log import say, warn
from keras_genai._text import columns, did_you_mean, number, plural
from keras_genai.data.images import adapt, reshape, reshape_images, validate_images
from keras_genai.data.ratings import FOLD_IN, TARGET
from keras_genai.data.synthetic import LETTERS
from keras_genai.metrics.features import NAMES, default_extractor, extractor
from keras_genai.metrics.frechet import MIN_FRECHET_COUNT
from keras_genai.metrics.pixels import CLOSEST, WINDOW

IMAGES, TEXTS = 10_000, 100  # samples, unless told otherwise
WINDOWS = 100  # of a text, whose tokens are masked one by one
CHARACTERS, WORDS = 500, 50  # of a generated text; of those, how many count for its variety
# Copies are looked for in small pictures: a copy stays one, and shifts by a pixel count less.
THUMBNAIL, MEMORISED = 16, 2_000
BIN = 20  # images: with fewer in a bin the test sees hardly any difference
READ, SEARCHED = 4_096, 32_768  # training images read, and thumbnails searched, at a time
LIKELIHOODS, IMPORTANCE_SAMPLES = 500, 50
DECODED = 4_096  # images decoded at a time for likelihoods
MIG_BINS = 20
DIGITS = ("digits", "glyphs")  # data whose classes are among those of an extractor
SHARES = (
    "precision", "recall", "density", "coverage", "different_bins", "class_distance",
    "class_accuracy", "closer_to_train", "copies", "mig", "ssim", "ssim_input", "distinct_2",
    "self_bleu", "recall_at_20", "popularity_recall_at_20", "recall_at_50",
    "popularity_recall_at_50", "ndcg_at_100", "popularity_ndcg_at_100",
)  # fmt: skip
# What a metric says, which way is better and where that ends. Distances bear an extractor's name.
MEANINGS = {
    "FD": ("Fréchet distance of the features", "lower, to 0"),
    "FID": ("Fréchet distance of the features", "lower, to 0"),
    "KD": ("kernel distance of the features", "lower, to 0"),
    "KID": ("kernel distance of the features", "lower, to 0"),
    "IS": ("whether images are clear and differ", "higher"),
    "precision": ("share of samples that look real", "higher, to 1"),
    "recall": ("share of real images that samples come near", "higher, to 1"),
    "density": ("how many samples there are round a real image", "higher, to 1"),
    "coverage": ("share of real images with a sample round them", "higher, to 1"),
    "different_bins": ("share of kinds of images drawn too often or too rarely", "lower, to 0.05"),
    "modes": ("classes that are not missing", "higher, to all"),
    "class_distance": ("by how much the classes' shares are wrong", "lower, to 0"),
    "class_accuracy": ("share of samples of the class asked for", "higher, to 1"),
    "psnr": ("how little outputs differ from the images, in dB", "higher"),
    "ssim": ("how alike the structures of outputs and images are", "higher, to 1"),
    "psnr_input": ("the same of the damaged images that the model is given", "less than psnr"),
    "ssim_input": ("the same of the damaged images that the model is given", "less than ssim"),
    "nll": ("upper bound on -log p(x) of an image", "lower"),
    "mig": ("whether each factor of the images stands in one latent", "higher, to 1"),
    "bits_per_character": ("surprise at a character of the text", "lower"),
    "perplexity": ("among how many tokens it wavers; of one tokenizer only", "lower, to 1"),
    "pseudo_perplexity": (
        "among how many tokens it wavers when it sees both sides; not to be compared with a "
        "perplexity",
        "lower, to 1",
    ),
    # Words that do not exist repeat nothing: beyond real text these two do not mean better.
    "distinct_2": (
        "different pairs of words, as a share of all pairs",
        "that of real text; less repeats",
    ),
    "self_bleu": ("how much samples repeat each other", "that of real text; more repeats"),
    "closer_to_train": (
        "how often a sample is closer to a training image than an unseen real image is",
        "0.5; more are copies, less are far off",
    ),
    "copies": ("share of samples that are a training image, or all but", "lower, to 0"),
    "longest_copy": ("longest run of characters out of the training text", "lower"),
    "recall_at_20": ("share of what a user likes too among 20 items", "higher, to 1"),
    "popularity_recall_at_20": ("the same of the items most users like", "to compare with"),
    "recall_at_50": ("share of what a user likes too among 50 items", "higher, to 1"),
    "popularity_recall_at_50": ("the same of the items most users like", "to compare with"),
    "ndcg_at_100": ("how high what a user likes too stands among 100 items", "higher, to 1"),
    "popularity_ndcg_at_100": ("the same of the items most users like", "to compare with"),
}


@dataclasses.dataclass(frozen=True)
class Row:
    """One number, and what it depends on.

    Attributes:
        name: Of the metric; distances bear the extractor's name unless they are FID, KID or IS.
        value: The number.
        standard_error: Of the value over draws of samples (of `closer_to_train` and of `nll`, over
            draws of real images too; of `pseudo_perplexity`, of windows of the real text), or None
            where there is no estimate.
        samples: N, of each set.
        features: The extractor, or what else was looked at.
        resize: How images were brought to its size.
        split: The part of the data: test, validation, or all where there is one part only.
    """

    name: str
    value: float
    standard_error: float | None
    samples: int
    features: str
    resize: str
    split: str


@dataclasses.dataclass(frozen=True)
class Table:
    """What `measure` found. `table["FD"]` is a number, `list(table)` the rows; `print` shows all.

    Attributes:
        rows: The numbers.
        facts: What holds for all of them: model, data, seed, version. `data_fingerprint` is that
            of the training part, which the `config.json` of a run on these data holds as well.
        subject: What was measured, for `save_picture`.
    """

    rows: tuple[Row, ...]
    facts: Mapping[str, Any]
    subject: Any = dataclasses.field(repr=False, compare=False)

    def __getitem__(self, name: str) -> float:
        """The value of a metric; "FD" also finds "FD-mnist"."""
        for row in self.rows:
            if name in (row.name, row.name.partition("-")[0]):
                return row.value
        raise KeyError(
            f"This table has {', '.join(row.name for row in self.rows)}. Received: {name!r}"
        )

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def to_dict(self) -> dict[str, Any]:
        """The facts, and the rows as dicts under "metrics"."""
        return {**self.facts, "metrics": [dataclasses.asdict(row) for row in self.rows]}

    def to_json(self) -> str:
        """As `to_dict`, for a file."""
        return json.dumps(self.to_dict(), indent=1) + "\n"

    def save_picture(self, path: str | os.PathLike) -> Path:
        """Draws real beside generated, what was nearly copied, and the numbers as bars.

        Args:
            path: Ends in `.png`.

        Returns:
            What was written: of texts with characters that the plots' font lacks, such as Chinese
            ones, a page of that name that ends in `.html`.
        """
        path, panels = Path(path), self.subject.panels()
        if any(
            isinstance(panel, str) and pictures.lacks_glyphs(panel) for panel in panels.values()
        ):
            page = path.with_suffix(".html")
            pictures.save_page(page, {**panels, "numbers": str(self)})
            return page
        # Numbers that lie in 0..1 can be drawn on one scale; the others are written.
        shares = {
            f"{row.name} ({MEANINGS[row.name][1].partition(';')[0]})": row.value
            for row in self.rows
            if row.name in SHARES
        }
        others = [f"{row.name} {number(row.value)}" for row in self.rows if row.name not in SHARES]
        pictures.save_measured(path, panels, shares, others)
        return path

    def __str__(self) -> str:
        head = ("metric", "value", "±", "N", "features", "resize", "split")
        body = [
            (
                row.name,
                number(row.value),
                number(row.standard_error, 2),
                f"{row.samples:,}",
                row.features,
                row.resize,
                row.split,
            )
            for row in self.rows
        ]
        return columns([head, *body], right=(1, 2, 3))


def measure(
    model_or_samples: Any,
    data: Any,
    metrics: Sequence[str] | None = None,
    num_samples: int | None = None,
    seed: int = 0,
    features: Any = None,
) -> Table:
    """Measures a model, or samples of any origin, against held-out data if there are some.

    Images are compared with as many real ones of the test part: Fréchet and kernel distance,
    precision, recall, density, coverage, bins, classes; copies of training images are looked for;
    models with a likelihood get a bound on it. Of a model that makes images of images, outputs are
    compared with the images, one by one. Of texts the bits a character (of a model that sees both
    sides of a gap its pseudo-perplexity), the variety and the longest copies are measured.
    Recommenders are shown a part of the history of users they were not trained on, and measured by
    how high the rest of it stands in what they recommend.

    Args:
        model_or_samples: A model; or images uint8 (N, H, W[, C]); or a list of texts.
        data: As in `fit`. Of its parts the test part counts, else the validation part, such as
            that of `data.load(x, validation_split=0.1)`; copies are looked for in the training
            part. Data in one part count as a whole: if the model was trained on them, the numbers
            say nothing of new images, and it is warned.
        metrics: Names of metrics; by default all that apply and that the samples suffice for.
        num_samples: N. By default 10,000 images, or as many as there are, 100 texts or all users.
        seed: Of the samples, and of all that is drawn in measuring.
        features: A feature extractor, by name or as a model or function, as
            `keras_genai.metrics.features.extractor` takes it; by default the one for the data.

    Raises:
        ValueError: If there is no such metric, it does not apply, or the samples are too few or
            too short for it.
    """
    given = model_or_samples
    if isinstance(given, (str, os.PathLike)):
        raise ValueError(
            "A path is loaded first: measure(zoo.load(path), data); texts come as a list. "
            f"Received: {given!r:.80}"
        )
    is_model = hasattr(given, "generate")
    modality = given.modality if is_model else _modality(given)
    if num_samples is not None and num_samples < 2:
        raise ValueError(f"`num_samples` must be at least 2. Received: num_samples={num_samples}")
    parts = given.open_data(data) if is_model else data_module.load(data, modality=modality)
    if is_model:
        given.settle(parts)
    subject = subject_of(given, modality, parts, num_samples, seed, features)
    names = metrics
    if names is None:
        names = [name for name in subject.METRICS if subject.obstacle(name) is None]
    check_names(names, subject)
    asked = num_samples or 0
    fewer = f" (not {asked:,}: there are no more)" if asked > subject.count else ""
    items = plural(modality)
    say(f"Measuring {subject.count:,} {items}{fewer} against {parts.name} ({subject.split}).")
    if is_model and subject.split == "all":
        warn(
            f"{parts.name} has neither a test nor a validation part: all of it is compared with. "
            f"Of a model trained on it the numbers say nothing of new {items}, and copies "
            "cannot be looked for. Hold some back with validation_split=0.1 when training, and "
            "measure the run folder, or against data.load(x, validation_split=0.1), divided alike."
        )
    short = {name: reason for name in names if (reason := subject.shortage(name))}
    for reason in short.values():
        if metrics is not None:
            raise ValueError(reason)
        warn(f"not measured: {reason}")
    rows = tuple(subject.measured(name) for name in names if name not in short)
    warn_of_bias(names, subject)
    facts = {
        "model": (given.recipe or type(given).__name__) if is_model else "samples",
        "data": parts.name,
        "data_fingerprint": parts.train.fingerprint,
        "num_samples": subject.count,
        "seed": seed,
        **({"features": features} if isinstance(features, str) else {}),
        "keras_genai": __version__,
    }
    return Table(rows, facts, subject)


def subject_of(
    given: Any, modality: str, parts: data_module.Dataset, count: int | None, seed: int,
    features: Any = None,
) -> "_Subject":  # fmt: skip
    """What is measured, with the part of the data it is measured on."""
    candidates = {"test": parts.test, "validation": parts.validation, "all": parts.train}
    split, held = next((name, part) for name, part in candidates.items() if part is not None)
    if not held.exact:
        raise ValueError(
            "Samples are measured against data that can be read in any order, such as a name, a "
            f"folder or an array. Received: a tf.data.Dataset ({held.name})"
        )
    train = None if split == "all" else parts.train
    if modality != "image" and features is not None:
        raise ValueError(
            f"Features are taken of images, not of {plural(modality)}: leave them out. "
            f"Received: features={features!r}"
        )
    if modality == "image" and getattr(given, "takes_images", False):
        if features is not None:
            raise ValueError(
                "Outputs are compared with images pixel by pixel, not by features: leave them out. "
                f"Received: features={features!r}"
            )
        return _Pairs(given, held, split, count, seed)
    if modality == "image":
        return _Images(given, held, train, split, count, seed, features)
    if modality == "ratings":
        return _Ratings(given, held, train, split, count, seed)
    return _Texts(given, held, train, split, count, seed)


def _modality(samples: Any) -> str:
    is_text = isinstance(samples, (list, tuple)) and samples and isinstance(samples[0], str)
    return "text" if is_text else "image"


def check_names(names: Sequence[str], subject: "_Subject") -> None:
    """Raises ValueError where a metric does not exist or does not apply."""
    if isinstance(names, str):
        raise ValueError(f"`metrics` is a list of names: [{names!r}]. Received: metrics={names!r}")
    for name in names:
        if name not in subject.METRICS:
            hint = did_you_mean(name, subject.METRICS)
            raise ValueError(
                f"There is no metric of this name. {hint}There are {', '.join(subject.METRICS)}. "
                f"Received: {name!r}"
            )
        obstacle = subject.obstacle(name)
        if obstacle:
            raise ValueError(f"{obstacle} Received: {name!r}")


def warn_of_bias(names: Sequence[str], subject: "_Subject") -> None:
    """One sentence where a Fréchet distance is asked for of too few images."""
    for name, unbiased in (("FD", "KD"), ("FID", "KID")):
        if name in names and subject.count < MIN_FRECHET_COUNT:
            warn(
                f"{name} of {subject.count:,} images, fewer than {MIN_FRECHET_COUNT:,}, is biased "
                "upwards, by about what as many real images score: compare it with that of as many "
                f"images only, or take {unbiased}, the kernel distance, which has no bias."
            )


def _share_error(share: float, count: int) -> float | None:
    """The standard error of a share of `count` independent items; none or all give no estimate."""
    return math.sqrt(share * (1.0 - share) / count) if 0.0 < share < 1.0 else None


def choose(source: Any, count: int, seed: int | Sequence[int]) -> np.ndarray:
    """The numbers of `count` items, or of all if there are no more, a random choice.

    Their order is random too: sets are often sorted by class, and some metrics take the first.
    """
    count = min(count, len(source))
    return np.random.default_rng(seed).choice(len(source), count, replace=False)


def images_of(source: Any, numbers: np.ndarray) -> np.ndarray:
    """The images of these numbers, uint8 (N, H, W, C)."""
    chunks = [numbers[i : i + 1024] for i in range(0, len(numbers), 1024)]
    return np.concatenate([source.gather(tf.constant(c))["image"].numpy() for c in chunks])


class _Subject:
    """What is measured; intermediate results that several metrics need are kept."""

    METRICS: tuple[str, ...] = ()
    # Results that samples have no part in.
    of_real: tuple[str, ...] = ()
    features, resize = "", "none"
    count: int
    model: Any  # None where samples were given
    _given: Any

    def __init__(self, split: str):
        self.split = split

    def obstacle(self, name: str) -> str | None:
        """A sentence that says why a metric does not apply, or None."""
        return None

    def shortage(self, name: str) -> str | None:
        """A sentence that says what of the samples does not suffice for a metric, or None."""
        raise NotImplementedError

    def renew(self) -> None:
        """Forgets the samples and all that came of them: the model has been trained since."""
        for name, attribute in vars(type(self)).items():
            if isinstance(attribute, functools.cached_property) and name not in self.of_real:
                vars(self).pop(name, None)

    def panels(self) -> dict[str, Any]:
        """What a person should look at, by title: images uint8 (H, W, C), or texts."""
        raise NotImplementedError

    def measured(self, name: str) -> Row:
        """The row of a metric: its method returns a value, a standard error and what differs."""
        value, error, *changes = getattr(self, f"_{name.lower()}")()
        error = None if error is None else float(error)  # of NumPy's numbers some are not for JSON
        row = Row(name, float(value), error, self.count, self.features, self.resize, self.split)
        return dataclasses.replace(row, **changes[0]) if changes else row


class _Images(_Subject):
    METRICS = (
        "FD", "FID", "KD", "KID", "IS", "precision", "recall", "density", "coverage",
        "different_bins", "modes", "class_distance", "class_accuracy", "closer_to_train", "copies",
        "nll", "mig",
    )  # fmt: skip
    of_real = ("_real_seen",)
    # Images that a metric cannot do without: two subsets of two, items beside their neighbours,
    # two bins.
    LEAST = {
        "FD": 2, "FID": 2, "KD": 4, "KID": 4, "precision": 4, "recall": 4, "density": 6,
        "coverage": 6, "different_bins": 2 * BIN, "mig": 2,
    }  # fmt: skip

    def __init__(
        self, given: Any, held: Any, train: Any, split: str, count: int | None, seed: int,
        features: Any,
    ):  # fmt: skip
        super().__init__(split)
        self.model = given if hasattr(given, "generate") else None
        self._given = None if self.model else validate_images(given)
        shape = tuple(self.model.image_shape if self.model else self._given.shape[1:])
        wanted = min(IMAGES if count is None else count, len(held))
        self.count = wanted if self.model else min(wanted, len(self._given))
        source: Any = self.model.prepare(held) if self.model else adapt(held, shape)
        numbers = choose(source, self.count, seed)
        self.real = images_of(source, numbers)
        # Asked for the classes of the real images, the samples have the same balance.
        asks = self.model is not None and self.model.takes_labels
        self.labels: Any = source.labels[numbers] if asks else None
        # A model that is told the class need not find it in the image.
        keys = [key for key in held.factors if not (asks and key == "label")]
        self.factors = factors_of(held, numbers, keys)
        self.train: Any = None if train is None else reshape(train, shape)
        self.seed, self.name = seed, held.name
        named = default_extractor(held.name, shape) if features is None else extractor(features)
        self.extractor, self.features = named, named.name
        self.resize = "none" if named.shape[:2] == shape[:2] else named.resize
        # The classes of the package's networks are known; a user's own are taken at their word.
        own = named.name not in NAMES
        self.own_classes = own or held.name == named.name or (held.name, named.name) == DIGITS

    @functools.cached_property
    def fake(self) -> np.ndarray:
        """uint8 (N, H, W, C)."""
        if self.model is None:
            # Not the numbers of the real images, whose doubles these may be.
            return self._given[choose(self._given, self.count, (self.seed, 1))]
        return self.model.generate(self.count, labels=self.labels, seed=self.seed)

    @functools.cached_property
    def _real_seen(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.extractor(self.real)

    @functools.cached_property
    def _fake_seen(self) -> tuple[np.ndarray, np.ndarray | None]:
        return self.extractor(self.fake)

    @property
    def _pair(self) -> tuple[np.ndarray, np.ndarray]:
        return self._real_seen[0], self._fake_seen[0]

    @property
    def _classes(self) -> tuple[Any, Any]:
        return self._real_seen[1], self._fake_seen[1]

    def obstacle(self, name: str) -> str | None:
        """As in the base."""
        genuine = self.features == "inception_2015"
        if name in ("FID", "KID", "IS") and not genuine:
            return (
                "FID, KID and IS are of the features 'inception_2015'; on others the distances are "
                "called FD and KD: say features='inception_2015', or ask for those."
            )
        if name in ("FD", "KD") and genuine:
            return "On the features 'inception_2015' these are called FID and KID."
        if name == "class_accuracy" and self.labels is None:
            return "Only a model that takes labels is asked for classes."
        if name in ("modes", "class_distance", "class_accuracy") and not self._has_classes:
            return "This needs an extractor that gives probabilities of the data's own classes."
        if name in ("closer_to_train", "copies") and self.train is None:
            return "Copies are looked for in a training part, which these data do not have."
        if name == "nll" and not hasattr(self.model, "log_weights"):
            return "Only a model with a method `log_weights` has a likelihood."
        if name == "mig" and not (self.factors.size and hasattr(self.model, "encode")):
            return (
                "This is of a model with a method `encode`, and of data that say how their images "
                "were made, such as 'shapes'."
            )
        if name == "mig" and self.model.latent_dim < 2:
            return "A gap is between two latents, and this model has one."
        return None

    def shortage(self, name: str) -> str | None:
        """As in the base."""
        least = self.LEAST.get(name, 1)
        if self.count < least:
            return f"{name} needs at least {least} images. Received: {self.count}"
        if name == "mig" and (self.factors == self.factors[0]).all(0).any():
            return (
                "mig needs images whose factors all vary. "
                f"Received: {self.count} images with one in common"
            )
        return None

    @property
    def _has_classes(self) -> bool:
        return self.own_classes and self._real_seen[1] is not None

    def _fd(self) -> tuple:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of few images: `measure` speaks of that once
            value = metrics.frechet_distance(*self._pair)
        return value, None, {"name": f"FD-{self.features}"}

    def _fid(self) -> tuple:
        return *self._fd()[:2], {"name": "FID"}

    def _kd(self) -> tuple:
        size = min(1000, self.count // 2)
        value, deviation = metrics.kernel_distance(*self._pair, subset_size=size, seed=self.seed)
        # As many subsets as are disjoint count as independent.
        error = deviation / math.sqrt(self.count / size)
        return value, error, {"name": f"KD-{self.features}"}

    def _kid(self) -> tuple:
        return *self._kd()[:2], {"name": "KID"}

    def _is(self) -> tuple:
        splits = min(10, self.count)
        value, deviation = metrics.inception_score(self._classes[1], splits, self.seed)
        return value, deviation / math.sqrt(splits)

    @functools.cached_property
    def _precision_recall(self) -> tuple[float, float]:
        return metrics.precision_recall(*self._pair)

    @functools.cached_property
    def _density_coverage(self) -> tuple[float, float]:
        return metrics.density_coverage(*self._pair)

    def _precision(self) -> tuple:
        value = self._precision_recall[0]
        return value, _share_error(value, self.count)

    def _recall(self) -> tuple:
        value = self._precision_recall[1]
        return value, _share_error(value, self.count)

    def _density(self) -> tuple:
        return self._density_coverage[0], None

    def _coverage(self) -> tuple:
        value = self._density_coverage[1]
        return value, _share_error(value, self.count)

    def _different_bins(self) -> tuple:
        bins = min(100, self.count // BIN)
        share = metrics.different_bins(*self._pair, bins=bins, seed=self.seed).share
        return share, _share_error(share, bins)

    def _modes(self) -> tuple:
        known = self._classes[0].shape[1]
        facts = {"features": f"{self.features} ({known} classes)"}
        return metrics.modes_covered(*self._classes), None, facts

    def _class_distance(self) -> tuple:
        return metrics.total_variation(*self._classes), None

    def _class_accuracy(self) -> tuple:
        # The digits come after the letters in the glyphs.
        first = len(LETTERS) if (self.name, self.features) == DIGITS else 0
        share = metrics.class_accuracy(self._classes[1], self.labels + first)
        return share, _share_error(share, self.count)

    @functools.cached_property
    def memory(self) -> Any:
        """What `metrics.memorisation` says of thumbnails of all training images."""
        fake, real = (thumbnails(x[:MEMORISED]) for x in (self.fake, self.real))
        near, numbers = np.zeros((0, fake.shape[1]), "float32"), np.zeros(0, int)
        # Of each part those that are nearest so far are kept: all of them may not fit into memory.
        for start in range(0, len(self.train), SEARCHED):
            part = np.arange(start, min(start + SEARCHED, len(self.train)))
            near = np.concatenate([near, _thumbnails_of(self.train, part)])
            numbers = np.concatenate([numbers, part])
            kept = np.unique([metrics.nearest_distances(x, near)[1] for x in (fake, real)])
            near, numbers = near[kept], numbers[kept]
        found = metrics.memorisation(fake, near, real)
        return found._replace(indices=numbers[found.indices])

    @property
    def _memory_facts(self) -> dict[str, Any]:
        count = min(MEMORISED, self.count)
        return {"samples": count, "features": "pixels", "resize": f"{THUMBNAIL}x{THUMBNAIL}"}

    def _closer_to_train(self) -> tuple:
        # None closer, or all: that gives no estimate.
        return self.memory.closer, self.memory.standard_error or None, self._memory_facts

    def _copies(self) -> tuple:
        value = self.memory.duplicates
        return value, _share_error(value, min(MEMORISED, self.count)), self._memory_facts

    def panels(self) -> dict[str, Any]:
        """Real beside generated; if there is a training part, what samples may be copies of."""
        panels = {
            "real": pictures.grid(self.real[:48], columns=8),
            "generated": pictures.grid(self.fake[:48], columns=8),
        }
        if self.train is not None:
            nearest = images_of(self.train, self.memory.indices[:24])
            pairs = np.stack([_rows_of(self.fake[:24]), _rows_of(nearest)], 1)
            sheet = pictures.grid(pairs.reshape(-1, *self.fake.shape[1:]), columns=len(pairs[0, 0]))
            panels["generated, each above the nearest training image"] = sheet
        return panels

    def _nll(self) -> tuple:
        x = self.real[:LIKELIHOODS]
        labels = None if self.labels is None else self.labels[:LIKELIHOODS]
        kind = likelihood_of(self.model.get_config())
        if kind == "binarized":
            x = binarized(x, self.seed)
        log_weights = importance_weights(self.model, x, IMPORTANCE_SAMPLES, self.seed, labels)
        values = metrics.importance_nll(log_weights)
        # Entries that are published say no more of the first kind.
        said = "" if kind in ("", "bernoulli") else f", {kind}"
        features = f"nats, k={IMPORTANCE_SAMPLES}{said}"
        facts = {"samples": len(x), "features": features, "resize": "none"}
        return values.mean(), float(values.std() / math.sqrt(len(x))), facts

    def _mig(self) -> tuple:
        inputs = (self.real,) if self.labels is None else (self.real, self.labels)
        value = metrics.mutual_information_gap(self.model.encode(*inputs), self.factors, MIG_BINS)
        facts = {"features": f"latents, {MIG_BINS} bins", "resize": "none"}
        return value, None, facts


def _rows_of(images: np.ndarray) -> np.ndarray:
    """Images (N, H, W, C) in rows of eight, as many as are full: (N / 8, 8, H, W, C)."""
    width = min(8, len(images))
    return images[: len(images) // width * width].reshape(-1, width, *images.shape[1:])


def thumbnails(images: np.ndarray) -> np.ndarray:
    """Images of at most 16x16 pixels, as rows float32 (N, D) in 0..1."""
    height, width, channels = images.shape[1:]
    small = reshape_images(images, (min(height, THUMBNAIL), min(width, THUMBNAIL), channels))
    return small.numpy().reshape(len(images), -1) / np.float32(255.0)


def _thumbnails_of(source: Any, numbers: np.ndarray) -> np.ndarray:
    """Those of the images of these numbers, of which few at a time are held at their full size."""
    parts = [numbers[i : i + READ] for i in range(0, len(numbers), READ)]
    return np.concatenate([thumbnails(images_of(source, part)) for part in parts])


def factors_of(source: Any, numbers: np.ndarray, keys: Sequence[str]) -> np.ndarray:
    """What made the items of these numbers, by these keys: (N, F)."""
    if not keys:
        return np.zeros((len(numbers), 0))
    items = source.gather(tf.constant(numbers))
    return np.stack([items[key].numpy() for key in keys], axis=1)


def likelihood_of(arguments: Mapping[str, Any]) -> str:
    """Whose p(x) the `log_weights` of a model with these arguments bound.

    Returns:
        A key of `LIKELIHOODS` in `zoo/cards.py`, or "" where the arguments do not say.
    """
    return "binarized" if arguments.get("binarize") else str(arguments.get("likelihood", ""))


def binarized(images: np.ndarray, seed: int) -> np.ndarray:
    """Images in black and white, drawn once with their grey values as chances of white.

    Args:
        images: uint8 (N, H, W, C).
        seed: Of the draw: the first images of a set come out the same, however many there are.

    Returns:
        uint8 (N, H, W, C) of 0 and 255.
    """
    rng = np.random.default_rng((seed, 2))  # not the noise of the latents
    white = rng.random(images.shape, "float32") < images / np.float32(255.0)
    return white.astype("uint8") * 255


def importance_weights(
    model: Any, images: np.ndarray, k: int, seed: int, labels: np.ndarray | None = None
) -> np.ndarray:
    """The logs of k importance weights an image, (K, N), by `model.log_weights`.

    Args:
        model: With `log_weights` and `latent_dim`, such as a VAE.
        images: uint8 (N, H, W, C); of a model with `binarize` those of `binarized`.
        k: Draws of z an image.
        seed: Of the draws.
        labels: Class numbers (N,), for a model that takes labels.
    """
    rng = np.random.default_rng(seed)
    compiled = tf.function(model.log_weights, reduce_retracing=True)
    done = 0

    def draw(x: tf.Tensor) -> np.ndarray:
        nonlocal done
        of_x = () if labels is None else (tf.constant(labels[done : done + len(x)]),)
        done += len(x)
        sizes = [len(part) for part in np.array_split(range(k), -(-k * len(x) // DECODED))]
        noise = (rng.standard_normal((n, len(x), model.latent_dim), "float32") for n in sizes)
        return np.concatenate([compiled(x, eps, *of_x).numpy() for eps in noise]).T  # B K

    return model.in_batches(draw, images).T


class _Pairs(_Subject):
    """Held-out images, and what a model of the task "transform" makes of each."""

    METRICS = ("psnr", "ssim", "psnr_input", "ssim_input")
    features = "pixels"

    def __init__(self, model: Any, held: Any, split: str, count: int | None, seed: int):
        super().__init__(split)
        self.model, self.seed = model, seed
        numbers = choose(held, IMAGES if count is None else count, seed)
        self.count = len(numbers)
        self.real = images_of(model.prepare(held), numbers)

    @functools.cached_property
    def _outcome(self) -> tuple[np.ndarray, np.ndarray]:
        """What the model is given, and what it makes of it, uint8 (N, H, W, C) each."""
        return self.model.outcome(self.real, self.seed)

    def obstacle(self, name: str) -> str | None:
        """As in the base."""
        if name.endswith("_input") and not self.model.restores:
            return "Only a model that restores images is given damaged ones."
        if name.startswith("ssim") and min(self.real.shape[1:3]) < WINDOW:
            return f"SSIM needs images of at least {WINDOW}x{WINDOW} pixels."
        return None

    def shortage(self, name: str) -> str | None:
        """As in the base: a single pair suffices."""
        return None

    def _compared(self, metric: Any, x: np.ndarray) -> tuple:
        # Equal images would be at an infinite distance from noise, and so would the mean.
        values = np.minimum(metric(self.real, x), CLOSEST)
        return values.mean(), float(values.std() / math.sqrt(self.count))

    def _psnr(self) -> tuple:
        return self._compared(metrics.psnr, self._outcome[1])

    def _ssim(self) -> tuple:
        return self._compared(metrics.ssim, self._outcome[1])

    def _psnr_input(self) -> tuple:
        return self._compared(metrics.psnr, self._outcome[0])

    def _ssim_input(self) -> tuple:
        return self._compared(metrics.ssim, self._outcome[0])

    def panels(self) -> dict[str, Any]:
        """The images, what the model is given if these are others, and what it makes of them."""
        given, made = self._outcome
        shown = {"real": self.real, "given": given, "made of it": made}
        if not self.model.restores:
            del shown["given"]
        return {title: pictures.grid(x[:48], columns=8) for title, x in shown.items()}


class _Texts(_Subject):
    METRICS = (
        "bits_per_character", "perplexity", "pseudo_perplexity", "distinct_2", "self_bleu",
        "longest_copy",
    )  # fmt: skip

    def __init__(self, given: Any, held: Any, train: Any, split: str, count: int | None, seed: int):
        super().__init__(split)
        self.model = given if hasattr(given, "generate") else None
        self.held, self.train, self.seed = held, train, seed
        self.count = count or TEXTS
        self._given = given
        if self.model is None:
            self.count = min(self.count, len(given))

    @functools.cached_property
    def samples(self) -> list[str]:
        """Texts, without the prompt they began with."""
        if self.model is None:
            return [self._given[i] for i in choose(self._given, self.count, self.seed)]
        return self.model.sample_texts(self.count, CHARACTERS, self.seed)

    def obstacle(self, name: str) -> str | None:
        """As in the base."""
        likelihood = name in ("bits_per_character", "perplexity")
        if self.model is None and (likelihood or name == "pseudo_perplexity"):
            return "Only a model gives probabilities of characters, texts do not."
        sees_both_sides = hasattr(self.model, "pseudo_nll")
        if likelihood and sees_both_sides:
            return "A model that sees both sides of a token has a pseudo_perplexity instead."
        if name == "pseudo_perplexity" and not sees_both_sides:
            return "A model that reads from left to right has a perplexity instead."
        if name == "longest_copy" and self.train is None:
            return "Copies are looked for in a training part, which these data do not have."
        return None

    def shortage(self, name: str) -> str | None:
        """As in the base."""
        if name not in ("distinct_2", "self_bleu"):
            return None
        shortest = min(len(text.split()) for text in self.samples)
        if shortest < WORDS:
            return (
                f"{name} looks at the first {WORDS} words of each text, and all must have as many. "
                f"Received: a text of {shortest} words"
            )
        if name == "self_bleu" and self.count < 2:
            return f"{name} needs at least 2 texts. Received: {self.count}"
        return None

    @functools.cached_property
    def _likelihood(self) -> tuple[np.ndarray, int]:
        """Nats of each token of the held-out text, and the number of its characters."""
        return self.model.text_nll(self.held.documents)

    def _bits_per_character(self) -> tuple:
        nll, characters = self._likelihood
        value = metrics.bits_per_character(nll, characters)
        return value, None, {"samples": characters, "features": "characters of the text"}

    def _perplexity(self) -> tuple:
        nll, _ = self._likelihood
        features = f"{self.model.num_tokens:,} {self.model.codec.unit}"
        return metrics.perplexity(nll), None, {"samples": len(nll), "features": features}

    def _pseudo_perplexity(self) -> tuple:
        nll = self.model.pseudo_nll(self.held.documents, WINDOWS, self.seed)  # windows T
        value, means = metrics.perplexity(nll), nll.mean(1)
        error = value * means.std(ddof=1) / math.sqrt(len(nll)) if len(nll) > 1 else None
        kinds = f"{self.model.num_tokens:,} {self.model.codec.unit}"
        features = f"{kinds}, in windows of {nll.shape[1]}"
        return value, error, {"samples": nll.size, "features": features}

    def _distinct_2(self) -> tuple:
        value = metrics.distinct_n(self.samples, 2, self.count, WORDS)
        return value, None, {"features": f"{WORDS} words each"}

    def _self_bleu(self) -> tuple:
        value = metrics.self_bleu(self.samples, 4, self.count, WORDS)
        return value, None, {"features": f"{WORDS} words each"}

    def _longest_copy(self) -> tuple:
        longest = max(map(len, self.copies))
        return longest, None, {"features": "characters"}

    def panels(self) -> dict[str, Any]:
        """A sample; if there is a training part, the longest run that was copied."""
        panels = {"generated": self.samples[0]}
        if self.train is not None:
            panels["the longest run of a sample in the training text"] = max(self.copies, key=len)
        return panels

    @functools.cached_property
    def copies(self) -> list[Any]:
        """Of each sample the longest run that stands in the training text."""
        return metrics.longest_copy(self.samples, self.train.text)


class _Ratings(_Subject):
    METRICS = (
        "recall_at_20", "popularity_recall_at_20", "recall_at_50", "popularity_recall_at_50",
        "ndcg_at_100", "popularity_ndcg_at_100",
    )  # fmt: skip

    def __init__(self, model: Any, held: Any, train: Any, split: str, count: int | None, seed: int):
        super().__init__(split)
        self.model, self.source = model, model.prepare(held)
        self.train = None if train is None else model.prepare(train)
        self.users = choose(self.source, count or len(self.source), seed)
        self.count = len(self.users)
        self.features = f"{len(model.item_ids):,} items"

    def obstacle(self, name: str) -> str | None:
        """As in the base."""
        if name.startswith("popularity") and self.train is None:
            return "Popularity is counted in a training part, which these data do not have."
        return None

    def shortage(self, name: str) -> str | None:
        """As in the base."""
        k, have = int(name.rpartition("_")[2]), len(self.model.item_ids)
        if have < k:
            return f"{name} needs a catalogue of at least {k} items. Received: {have}"
        return None

    def _histories(self) -> Iterator[np.ndarray]:
        """Rows uint8 (B, I) of the users, of whom few at a time fit into memory."""
        for start in range(0, self.count, 256):
            users = tf.constant(self.users[start : start + 256])
            yield self.source.gather(users)["user_items"].numpy()

    @functools.cached_property
    def _of_users(self) -> dict[str, np.ndarray]:
        """Each metric that the catalogue suffices for, of each user."""
        found: dict[str, list[np.ndarray]] = {}
        names = [name for name in self.METRICS if not (self.obstacle(name) or self.shortage(name))]
        for rows in self._histories():
            shown = rows == FOLD_IN
            scores = {"model": self.model.score(shown)}
            if self.train is not None:
                scores["popularity"] = np.broadcast_to(self.train.item_counts, rows.shape)
            ranked = {who: np.where(shown, -np.inf, values) for who, values in scores.items()}
            for name in names:
                metric, _, k = name.removeprefix("popularity_").rpartition("_")
                who = "popularity" if name.startswith("popularity") else "model"
                values = getattr(metrics, f"{metric}_k")(ranked[who], rows == TARGET, int(k))
                found.setdefault(name, []).append(values)
        return {name: np.concatenate(values) for name, values in found.items()}

    def measured(self, name: str) -> Row:
        """As in the base."""
        values = self._of_users[name]
        error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else None
        value = float(values.mean())
        return Row(name, value, error, self.count, self.features, self.resize, self.split)

    def panels(self) -> dict[str, Any]:
        """What is recommended to the first users, and what they like too."""
        rows = next(self._histories())[:8]
        ids = np.array(self.model.item_ids)
        shown, wanted = ([ids[row == part].tolist() for row in rows] for part in (FOLD_IN, TARGET))
        others = [", ".join(map(str, items)) for items in wanted]
        titles = "liked -> recommended", "what else they like"
        texts = pictures.side_by_side(self.model.lines(shown), others)
        return dict(zip(titles, texts, strict=True))


METRICS = (
    *_Images.METRICS, *_Pairs.METRICS, *_Texts.METRICS, *_Ratings.METRICS,
)  # fmt: skip
