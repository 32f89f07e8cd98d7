"""What an encoder makes of images: where they lie, which units it uses, what comes back."""

import os
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from keras_genai.explore.figures import DPI, check_path, draw_sheet, finish, sheet_figure
from keras_genai.explore.space import LatentSpace, checked_images, conditions, model_of

ACTIVE = 0.01  # of a unit whose prior has a variance of 1
MOST_RECONSTRUCTED = 20
THUMBNAILS = 24  # as many would stand side by side
QUANTILES = 15
METHODS = ("pca", "tsne")


def reconstructions(
    model: Any, images: Any, labels: Any = None, *, path: str | os.PathLike | None = None
) -> Figure:
    """Images, what the model makes of them, and how the two differ.

    Args:
        model: A model with a method `reconstruct`, or what `zoo.load` takes.
        images: uint8 `(N, H, W[, C])`, at most 20.
        labels: `(N,)`. Used if the model takes labels.
        path: Ends in `.png`.

    Raises:
        ValueError: If the model reconstructs nothing, or the images do not fit it.
    """
    check_path(path, ".png")
    model = model_of("image", model)
    if not hasattr(model, "reconstruct"):
        raise ValueError(
            "Only autoencoders reconstruct images: take a model with a method `reconstruct`. "
            f"Received: {model._title}"
        )
    x = checked_images(model, images, at_most=MOST_RECONSTRUCTED)
    again = model.reconstruct(x, *conditions(model, len(x), labels))
    distance = np.abs(x.astype(int) - again).astype("uint8")
    errors = distance.mean(axis=(1, 2, 3)) / 255.0
    return finish(
        sheet_figure(
            np.stack([x, again, distance]),
            ["images", "reconstructed", "difference"],
            [f"{100 * error:.1f} %" for error in errors],
            "",
            f"mean difference: {100 * errors.mean():.1f} % of white",
        ),
        path,
    )


def active_units(
    model: Any, images: Any, labels: Any = None, *, path: str | os.PathLike | None = None
) -> Figure:
    """How much each latent says of an image: the variance of its mean over images, as bars.

    Burda, Grosse, Salakhutdinov, 2015, https://arxiv.org/abs/1509.00519, section 5.2: unit u is
    active if Cov_x(E_q(u|x)[u]) > 0.01. An inactive one has the same code for all images, the
    prior's mean, and the decoder knows nothing of it. The threshold is for a prior of variance 1.

    Args:
        model: A model with an encoder, or what `zoo.load` takes.
        images: uint8 `(N, H, W[, C])`, some hundred that the model was not trained on, at least 2.
        labels: `(N,)`. Used if the model takes labels.
        path: Ends in `.png`.

    Raises:
        ValueError: If the model has no encoder, or the images do not fit it.
    """
    check_path(path, ".png")
    space = LatentSpace(model)
    space.need_encoder()
    x = checked_images(space.model, images, at_least=2)
    variances = space.encode(x, labels).var(axis=0)
    order = np.argsort(-variances, kind="stable")
    ranked = variances[order]
    figure = Figure(figsize=(8, 4), dpi=DPI, layout="constrained")
    axes = figure.subplots()
    places = np.arange(space.size)
    colours = ["C0" if variance > ACTIVE else "lightgrey" for variance in ranked]
    axes.bar(places, ranked, color=colours)
    axes.axhline(ACTIVE, color="C3", linewidth=1, label=f"active above {ACTIVE}")
    axes.legend(loc="upper right", fontsize=8)  # where bars are lowest
    axes.set_yscale("log")
    every = -(-space.size // 40)
    axes.set_xticks(places[::every], [str(unit) for unit in order[::every]], fontsize=7)
    axes.set_xlabel("latent dimension")
    axes.set_ylabel(f"variance of the mean over {len(x)} images")
    axes.set_title(f"{(ranked > ACTIVE).sum()} of {space.size} units are active", fontsize=10)
    return finish(figure, path)


def latent_map(
    model: Any,
    images: Any,
    labels: Any = None,
    *,
    method: str = "pca",
    seed: int = 0,
    path: str | os.PathLike | None = None,
) -> Figure:
    """A map of encoded images: points in the colours of their labels, and pictures in places.

    Two dimensions are drawn as they are, beside them what the decoder makes of a grid over them, at
    quantiles of the codes (as figure 4 of Kingma and Welling, 2013,
    https://arxiv.org/abs/1312.6114, does at those of the prior). More are projected first.

    Args:
        model: A model with an encoder, or what `zoo.load` takes.
        images: uint8 `(N, H, W[, C])`, some hundred that the model was not trained on, at least 3.
        labels: `(N,)`, for the colours, and for the encoder of a model that takes labels.
        method: How more than two dimensions are projected: "pca" keeps distances as well as a plane
            can, "tsne" keeps neighbours together and needs `pip install 'keras_genai[explore]'`.
        seed: Of t-SNE.
        path: Ends in `.png`.

    Raises:
        ValueError: If the model has no encoder, or images or labels do not fit.
        ImportError: If t-SNE is asked for and scikit-learn is missing.
    """
    check_path(path, ".png")
    if method not in METHODS:
        raise ValueError(f"`method` is one of {', '.join(METHODS)}. Received: {method!r}")
    space = LatentSpace(model)
    space.need_encoder()
    x = checked_images(space.model, images, at_least=3)
    if labels is not None and np.shape(labels) != (len(x),):
        raise ValueError(
            f"`labels` has a class number for each of the {len(x)} images. "
            f"Received: an array of shape {np.shape(labels)}"
        )
    codes = space.encode(x, labels)
    points, names = project(codes, method, seed)
    # One scale for both axes would be right for distances, but for two units of their own.
    panels = 3 if space.size == 2 else 2
    figure = Figure(figsize=(6.5 * panels, 6.5), dpi=DPI, layout="constrained")
    scatter, pictures, *rest = figure.subplots(1, panels)
    _draw_points(scatter, points, labels)
    _draw_thumbnails(pictures, points, x)
    for axes in (scatter, pictures):
        axes.set_xlabel(names[0])
        axes.set_ylabel(names[1])
    for axes in rest:
        _draw_grid(axes, space, codes)
    return finish(figure, path)


def project(codes: np.ndarray, method: str = "pca", seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Codes in two dimensions, and what the dimensions are.

    Args:
        codes: `(N, Z)`.
        method: "pca" or "tsne".
        seed: Of t-SNE.

    Returns:
        `(N, 2)`, and two names.

    Raises:
        ImportError: If t-SNE is asked for and scikit-learn is missing.
    """
    if codes.shape[1] == 2:
        return codes, ["z[0]", "z[1]"]
    if method == "tsne":
        return _tsne(codes, seed), ["t-SNE 1", "t-SNE 2"]
    centred = codes - codes.mean(axis=0)
    left, scale, directions = np.linalg.svd(centred, full_matrices=False)
    # Of a direction and its negative the one whose largest component is positive.
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    points = np.zeros((len(codes), 2))  # one latent dimension has one component
    points[:, : len(scale)] = (left * scale * signs)[:, :2]
    shares = np.zeros(2)
    shares[: len(scale)] = (scale**2 / max((scale**2).sum(), 1e-30))[:2]
    return points, [
        f"component {i + 1} ({share:.0%} of variance)" for i, share in enumerate(shares)
    ]


def _tsne(codes: np.ndarray, seed: int) -> np.ndarray:
    try:
        from sklearn.manifold import TSNE
    except ImportError as error:
        raise ImportError(
            "t-SNE is scikit-learn's: pip install 'keras_genai[explore]', or take method=\"pca\". "
            f"Received: {error}"
        ) from error
    # Of N points each is given at most N - 1 neighbours.
    perplexity = min(30.0, (len(codes) - 1) / 3)
    return TSNE(perplexity=perplexity, random_state=seed).fit_transform(codes)


def _draw_points(axes: Any, points: np.ndarray, labels: Any) -> None:
    """A point for each image, in the colour of its class."""
    if labels is None:
        axes.scatter(*points.T, s=12)
    else:
        classes = np.unique(labels)
        palette = colormaps["tab10" if len(classes) <= 10 else "gist_rainbow"]
        for i, number in enumerate(classes):
            colour = palette(i if len(classes) <= 10 else i / (len(classes) - 1))
            of_class = points[np.asarray(labels) == number]
            axes.scatter(*of_class.T, s=12, color=colour, label=f"{number}")
        if len(classes) <= 20:
            axes.legend(title="class", fontsize=8, loc="upper right", framealpha=0.8)
    axes.set_title(f"{len(points)} images, encoded", fontsize=10)


def _draw_thumbnails(axes: Any, points: np.ndarray, images: np.ndarray) -> None:
    """Images at their places, first come first served: none over another."""
    low, high = points.min(axis=0), points.max(axis=0)
    half = np.maximum(high - low, 1e-9) / THUMBNAILS / 2
    kept: list[int] = []
    for i, point in enumerate(points):
        if not kept or (np.abs(points[kept] - point) > 2 * half).any(axis=1).all():
            kept.append(i)
    for i in kept:
        (left, bottom), (right, top) = points[i] - half, points[i] + half
        axes.imshow(
            images[i].squeeze(-1) if images.shape[-1] == 1 else images[i],
            cmap="gray", vmin=0, vmax=255, extent=(left, right, bottom, top), aspect="auto",
        )  # fmt: skip
    axes.set_xlim(low[0] - 2 * half[0], high[0] + 2 * half[0])
    axes.set_ylim(low[1] - 2 * half[1], high[1] + 2 * half[1])
    axes.set_title(f"{len(kept)} of them", fontsize=10)


def _draw_grid(axes: Any, space: LatentSpace, codes: np.ndarray) -> None:
    """The images of a grid over two dimensions, at quantiles of the codes, from the lower left."""
    shares = (np.arange(QUANTILES) + 0.5) / QUANTILES
    across, up = np.quantile(codes, shares, axis=0).T
    z = np.stack(np.meshgrid(across, up[::-1]), axis=-1).reshape(-1, 2)
    images = space.decode(z, 0 if space.model.takes_labels else None)
    draw_sheet(axes, images.reshape(QUANTILES, QUANTILES, *images.shape[1:]))
    axes.set_title("decoded, at quantiles of the codes", fontsize=10)
    axes.set_xlabel("z[0]")
    axes.set_ylabel("z[1]")
