"""How images become a figure: sheets with names at their rows and columns, colours, files."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from keras_genai import pictures
from keras_genai._log import warn

GAP = 2  # pixels between the images of a sheet
DPI = 100


def check_path(path: Any, *suffixes: str) -> None:
    """Raises ValueError, before anything is computed, where a file has another suffix."""
    if path is not None and Path(path).suffix.lower() not in suffixes:
        raise ValueError(
            f"The picture is written to a file ending in {' or '.join(suffixes)}. "
            f"Received: path={os.fspath(path)!r}"
        )


def finish(figure: Figure, path: str | os.PathLike | None) -> Figure:
    """Writes the figure if there is a path, and returns it."""
    if path is not None:
        pictures.save_figure(path, figure)
    return figure


def finish_words(draw: Callable[[Callable[[str], str]], Figure], words: str, path: Any) -> Figure:
    """As `finish`, of a figure whose words may be of any language.

    In the figure, and in a PNG file, the code points of characters stand for those that no
    installed font has; a page, `.html`, has all characters.

    Args:
        draw: Makes the figure; a label goes through what it is given.
        words: All labels, or the characters they have.
        path: Ends in `.png` or `.html`, or None.
    """
    families, missing = pictures.fonts_for(words)
    page = path is not None and Path(path).suffix.lower() == ".html"
    with matplotlib.rc_context({"font.family": families, "text.parse_math": False}):
        if page:
            pictures.save_figure_page(path, draw(str))
        points = str.maketrans({c: f"U+{ord(c):04X}" for c in missing})
        figure = draw(lambda label: label.translate(points))
    if missing and not page:
        warn(
            f"no installed font has {''.join(sorted(missing))[:20]!r}, whose code points stand in "
            'the picture: write a page instead, path="....html", or install a font that has them, '
            "such as Noto Sans CJK."
        )
    return figure if page else finish(figure, path)


def sheet_figure(
    images: np.ndarray,
    rows: Sequence[str] = (),
    columns: Sequence[str] = (),
    title: str = "",
    below: str = "",
) -> Figure:
    """A figure of images in rows and columns.

    Args:
        images: uint8 `(R, K, H, W, C)`.
        rows: A name for each row, or none.
        columns: A name for each column, or none.
        title: Above the sheet.
        below: Under the sheet.
    """
    high, wide, height, width = images.shape[:4]
    # An image is about 0.8 inches, but a sheet at most 14 wide and high, and wide enough for words.
    side = min(0.8, 14.0 / max(high, wide))
    size = (
        max(side * wide * max(1.0, width / height), 5.0) + 1.0,
        side * high + (0.9 if below else 0.6),
    )
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    axes = figure.subplots()
    draw_sheet(axes, images, rows, columns)
    axes.set_title(title, fontsize=10, wrap=True)
    axes.set_xlabel(below, fontsize=9)
    return figure


def draw_sheet(
    axes: Any, images: np.ndarray, rows: Sequence[str] = (), columns: Sequence[str] = ()
) -> None:
    """As `sheet_figure`, into axes."""
    high, wide, height, width, channels = images.shape
    flat = images.reshape(-1, height, width, channels)
    show(axes, pictures.grid(flat, columns=wide, gap=GAP))
    axes.set_yticks(_middles(height, high if rows else 0), rows, fontsize=8)
    axes.set_xticks(_middles(width, wide if columns else 0), columns, fontsize=8)
    axes.tick_params(length=0, labeltop=True, labelbottom=False)


def show(axes: Any, image: np.ndarray) -> None:
    """An image uint8 `(H, W, C)`, grey or in colour, without axes."""
    axes.imshow(image.squeeze(-1) if image.shape[-1] == 1 else image, cmap="gray", vmin=0, vmax=255)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def coloured(values: np.ndarray, cmap: str, low: float, high: float) -> np.ndarray:
    """Numbers `(...)` in the colours of a map from `low` to `high`, uint8 `(..., 3)`."""
    share = (values - low) / (high - low) if high > low else np.zeros_like(values)
    colours = matplotlib.colormaps[cmap](np.clip(share, 0.0, 1.0))
    return np.rint(255 * colours[..., :3]).astype("uint8")


def with_colours(images: np.ndarray) -> np.ndarray:
    """uint8 `(..., 1 or 3)` as `(..., 3)`, to stand beside maps in colour."""
    return np.broadcast_to(images, (*images.shape[:-1], 3))


def _middles(side: int, count: int) -> np.ndarray:
    """Where the middles of images of a sheet are, in its pixels."""
    return GAP + (side + GAP) * np.arange(count) + (side - 1) / 2
