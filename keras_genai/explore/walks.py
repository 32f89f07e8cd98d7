"""Ways through a latent space: from here to there, along one dimension, by sums, between classes.

Autoencoders are walked in straight lines: a decoder has seen the neighbourhood of each code, and
the means that a VAE's encoder gives have no norm in common, since they are nearer to zero than
draws of the prior. Generators of noise are walked along arcs, which keep the norm of what they have
seen: see `along_arc`.
"""

import os
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from keras_genai import pictures
from keras_genai.explore.figures import check_path, finish, sheet_figure
from keras_genai.explore.space import (
    LatentSpace,
    along_arc,
    along_line,
    checked_images,
    model_of,
)

SHOWN = 3  # images of a group in a picture of sums


def interpolate(
    model: Any,
    first: Any = None,
    second: Any = None,
    *,
    steps: int = 9,
    spherical: bool | None = None,
    labels: Any = None,
    rows: int = 5,
    seed: int = 0,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Images on the way from one latent to another, a row for each pair.

    Args:
        model: A model with a latent space, or what `zoo.load` takes.
        first: Images uint8 `(N, H, W[, C])`, for models with an encoder, or latents `(N, Z)`. By
            default both ends are drawn.
        second: As many.
        steps: Images in a row, both ends included.
        spherical: Whether the way is an arc; by default for models without an encoder. Say True
            for latents that were drawn, also of a VAE.
        labels: Of a model that takes labels, the class of each row, or one for all; by default each
            in turn. Images are encoded with it, so that with images it has to be given.
        rows: How many pairs to draw, where none are given.
        seed: Of what is drawn.
        path: Ends in `.png`, or in `.gif`: then each step is a frame with all rows.

    Raises:
        ValueError: If the model has no latent space, or the ends do not fit it or each other.
    """
    check_path(path, ".png", ".gif")
    _check_steps(steps)
    space = LatentSpace(model)
    (start, end), originals = _ends(space, first, second, labels, rows, seed)
    arc = not space.encodes if spherical is None else spherical
    z = (along_arc if arc else along_line)(start, end, steps)  # N steps Z
    walk = _decoded(space, z, labels)  # N steps H W C
    shares = [f"{share:.2g}" for share in np.linspace(0, 1, steps)]
    title = f"interpolation, {'along arcs' if arc else 'in straight lines'}"
    names = []
    if space.model.takes_labels:
        names = [f"class {number}" for number in space.model._classes(len(walk), labels)]
    if originals is None:
        return _finish_walk(walk, walk, names, shares, title, path)
    left, right = originals
    between = np.concatenate([left[:, None], walk, right[:, None]], axis=1)
    return _finish_walk(walk, between, names, ["image", *shares, "image"], title, path)


def traverse(
    model: Any,
    start: Any = None,
    *,
    images: Any = None,
    rows: int = 10,
    steps: int = 9,
    reach: float = 3.0,
    label: int | None = None,
    seed: int = 0,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Images that differ in one latent dimension, a row for each: what a dimension means.

    The rows are those of the most active dimensions, the most active first: those along which the
    pixels vary most, by the root of their mean variance. Of a VAE many have no effect at all.

    Args:
        model: A model with a latent space, or what `zoo.load` takes.
        start: One image `(1, H, W[, C])`, for a model with an encoder, or one latent `(1, Z)`. By
            default it is drawn.
        images: Images uint8 `(N, H, W[, C])` that say where the dimensions lie: they go to `reach`
            standard deviations of their codes round the mean. Models without a prior need them;
            the others go from -reach to reach, by the prior N(0, I).
        rows: How many dimensions are shown.
        steps: Images in a row.
        reach: How far to go, in standard deviations.
        label: Of a model that takes labels, the class; 0 by default. With images it has to be
            given: they are encoded with it.
        seed: Of what is drawn.
        path: Ends in `.png`.

    Raises:
        ValueError: If the model has no latent space, or `start` or `images` do not fit it.
    """
    check_path(path, ".png")
    _check_steps(steps)
    if not isinstance(rows, int | np.integer) or rows < 1:
        raise ValueError(f"`rows` is a positive whole number. Received: rows={rows!r}")
    space = LatentSpace(model)
    label = _label(space, label, start, images)
    mean, deviation = _spread(space, images, label)
    start = mean[None] if start is None and not space.normal else start
    z = space.draw(1, seed) if start is None else space.latents_of(start, _each(start, label))
    if len(z) != 1:
        raise ValueError(f"A traversal has one start, such as images[:1]. Received: {len(z)}")
    places = np.linspace(-reach, reach, steps)
    latents = sweeps(z[0], mean + places[:, None] * deviation)  # Z steps Z
    walk = _decoded(space, latents, None if label is None else [label] * space.size)
    # In grey levels: over the steps, for each pixel, and then over the pixels.
    activity = np.sqrt(walk.astype("float32").var(axis=1).mean(axis=(1, 2, 3)))
    shown = np.argsort(-activity, kind="stable")[:rows]
    return finish(
        sheet_figure(
            walk[shown],
            [f"z[{i}]  ±{activity[i]:.1f}" for i in shown],
            [f"{place:+.3g}" if place else "0" for place in places],
            f"one of {space.size} dimensions at a time, the most active first",
            "columns: standard deviations from the mean; ±: grey levels, over the row",
        ),
        path,
    )


def sweeps(start: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Copies of a latent in which one dimension takes other values.

    Args:
        start: `(Z,)`.
        values: `(steps, Z)`, those of each dimension in a column.

    Returns:
        `(Z, steps, Z)`: in row i dimension i differs from `start`.
    """
    steps, size = values.shape
    latents = np.tile(start, (size, steps, 1))
    each = np.arange(size)
    latents[each, :, each] = values.T
    return latents


def arithmetic(
    model: Any,
    a: Any,
    b: Any,
    c: Any,
    *,
    label: int | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """The image of mean(a) - mean(b) + mean(c): a smile less no smile, put on another face.

    Means of a few latents are steadier than single ones: Radford et al., 2015, section 6.3.2,
    https://arxiv.org/abs/1511.06434, who take three.

    Args:
        model: A model with a latent space, or what `zoo.load` takes.
        a: Images uint8 `(N, H, W[, C])`, for models with an encoder, or latents `(N, Z)`.
        b: As `a`, of any number.
        c: As `a`, of any number.
        label: Of a model that takes labels, the class of all; 0 by default. With images it has
            to be given: they are encoded with it.
        path: Ends in `.png`.

    Raises:
        ValueError: If the model has no latent space, or the groups do not fit it.
    """
    check_path(path, ".png")
    space = LatentSpace(model)
    label = _label(space, label, a, b, c)
    groups = [space.latents_of(group, _each(group, label)) for group in (a, b, c)]
    means = [group.mean(axis=0) for group in groups]
    decoded = space.decode(np.stack([*means, means[0] - means[1] + means[2]]), label)
    members = [
        space.decode(z[:SHOWN], label)
        if np.ndim(given) == 2
        else checked_images(space.model, given)
        for given, z in zip((a, b, c), groups, strict=True)
    ]
    # A column for each group, its members above its mean; grey where there are fewer.
    sheet = np.full((SHOWN + 1, 4, *decoded.shape[1:]), 128, "uint8")
    for column, images in enumerate(members):
        count = min(SHOWN, len(images))
        sheet[SHOWN - count : SHOWN, column] = images[:count]
    sheet[SHOWN] = decoded
    names = [f"{name} ({len(z)})" for name, z in zip("ABC", groups, strict=True)]
    rows = [*[""] * (SHOWN // 2), "members", *[""] * (SHOWN - SHOWN // 2 - 1), "mean"]
    return finish(
        sheet_figure(
            sheet, rows, [*names, "A - B + C"], "the mean of A less that of B plus that of C"
        ),
        path,
    )


def between_classes(
    model: Any,
    first: int,
    second: int,
    *,
    steps: int = 9,
    rows: int = 5,
    seed: int = 0,
    path: str | os.PathLike | None = None,
) -> Figure:
    """Images on the way from one class to another, the noise of a row held fixed.

    Args:
        model: A model that takes labels, or what `zoo.load` takes.
        first: A class number.
        second: A class number.
        steps: Images in a row, both ends included.
        rows: How many, each of other noise.
        seed: Of the first row's noise; the others count on.
        path: Ends in `.png` or, for frames, in `.gif`.

    Raises:
        ValueError: If the model takes no labels, or has no such class.
    """
    check_path(path, ".png", ".gif")
    _check_steps(steps)
    model = model_of("image", model)
    if not model.takes_labels:
        raise ValueError(
            "Only a model that takes labels has images between two classes; `interpolate` goes "
            f"between images or latents. Received: {model._title}"
        )
    walk = np.stack([model.between(first, second, steps, seed + row) for row in range(rows)])
    shares = [f"{share:.2g}" for share in np.linspace(0, 1, steps)]
    title = f"from class {first} to class {second}; columns: share of class {second}"
    return _finish_walk(walk, walk, [], shares, title, path)


def _check_steps(steps: Any) -> None:
    if not isinstance(steps, int | np.integer) or steps < 2:
        raise ValueError(f"`steps` counts both ends, so at least 2. Received: steps={steps!r}")


def _ends(
    space: LatentSpace, first: Any, second: Any, labels: Any, rows: int, seed: int
) -> tuple[list[np.ndarray], list[np.ndarray] | None]:
    """Latents of both ends, `(N, Z)` each, and the images that were given, if both are images."""
    if (first is None) != (second is None):
        raise ValueError(
            "A way has two ends: give `first` and `second`, or neither. Received: one of them"
        )
    if first is None:
        z = space.draw(2 * rows, seed)
        return [z[:rows], z[rows:]], None
    if len(first) != len(second):
        raise ValueError(
            "`first` and `second` are as many, one pair a row. "
            f"Received: {len(first)} and {len(second)}"
        )
    given = [first, second]
    if space.model.takes_labels and not (labels is None and _of_images(first, second)):
        labels = space.model._classes(len(first), labels)
    ends = [space.latents_of(end, labels) for end in given]
    images = all(np.ndim(end) > 2 for end in given)
    return ends, [checked_images(space.model, end) for end in given] if images else None


def _spread(space: LatentSpace, images: Any, label: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of each dimension, `(Z,)` each: of codes, or of the prior."""
    if images is None:
        space.need_normal(
            "pass some hundred images that show how far its codes spread, as in "
            "traverse(model, images[:1], images=images)"
        )
        return np.zeros(space.size), np.ones(space.size)
    codes = space.encode(images, _each(images, label))
    if len(codes) < 2:
        raise ValueError(
            "How far codes spread is told by some hundred images, at least 2. "
            f"Received: {len(codes)}"
        )
    return codes.mean(axis=0), codes.std(axis=0)


def _of_images(*given: Any) -> bool:
    """Whether images are among what was given, and not latents alone."""
    return any(np.ndim(one) > 2 for one in given)


def _label(space: LatentSpace, label: int | None, *given: Any) -> int | None:
    """The class of what is drawn, by default 0; an image that is encoded has one of its own."""
    if label is not None or not space.model.takes_labels:
        return label
    if space.encodes and _of_images(*given):
        raise ValueError(
            "This model encodes images together with their class: pass label=, the class of all "
            "that are given. Received: label=None"
        )
    return 0


def _each(given: Any, label: int | None) -> Any:
    """The label once for each of the items."""
    return None if label is None or given is None else [label] * len(given)


def _decoded(space: LatentSpace, z: np.ndarray, labels: Any) -> np.ndarray:
    """The images `(N, steps, H, W, C)` of latents `(N, steps, Z)`; labels are one a row."""
    rows, steps = z.shape[:2]
    if space.model.takes_labels:
        labels = np.repeat(space.model._classes(rows, labels), steps)
    images = space.decode(z.reshape(rows * steps, -1), labels)
    return images.reshape(rows, steps, *images.shape[1:])


def _finish_walk(
    walk: np.ndarray,
    sheet: np.ndarray,
    names: list[str],
    columns: list[str],
    title: str,
    path: Any,
) -> Figure:
    """A figure of rows; a GIF has a frame a step, with all rows."""
    figure = sheet_figure(sheet, names, columns, title)
    if path is not None and Path(path).suffix.lower() == ".gif":
        pictures.save_animation(path, np.stack([pictures.grid(x) for x in walk.swapaxes(0, 1)]))
        return figure
    return finish(figure, path)
