"""Pictures for people: sample grids, GIFs, loss curves."""

import functools
import io
import os
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image, PngImagePlugin

from keras_genai._files import atomic, write_text

PANEL_WIDTH = 60  # letters of a line of text beside others


def grid(images: np.ndarray, columns: int | None = None, gap: int = 2) -> np.ndarray:
    """Lays images out row by row.

    Args:
        images: uint8 `(N, H, W, C)`.
        columns: Images in a row; by default as square as it gets.
        gap: Pixels of grey between images.

    Returns:
        uint8 `(height, width, C)`.
    """
    n, height, width, channels = images.shape
    columns = columns or int(np.ceil(np.sqrt(n)))
    rows = -(-n // columns)
    size = (rows * (height + gap) + gap, columns * (width + gap) + gap, channels)
    sheet = np.full(size, 128, "uint8")
    for i, image in enumerate(images):
        top = gap + i // columns * (height + gap)
        left = gap + i % columns * (width + gap)
        sheet[top : top + height, left : left + width] = image
    return sheet


# The suffixes of files that can say of themselves what they are.
LABELLED = (".png", ".gif", ".jpg", ".jpeg")


def save_image(
    path: str | os.PathLike,
    image: np.ndarray,
    min_width: int = 320,
    about: Mapping[str, str] | None = None,
) -> None:
    """Writes an image, enlarged by whole pixels to at least `min_width`, atomically.

    Args:
        path: Ends in `.png` or another suffix that Pillow knows; with `about`, of `LABELLED`.
        image: uint8 `(H, W, C)`.
        min_width: In pixels.
        about: Goes into the file's metadata: text chunks of a PNG, the comment of others.
    """
    options: dict[str, Any] = {}
    if about and Path(path).suffix.lower() == ".png":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        for key, text in about.items():
            options["pnginfo"].add_itxt(key, text)
    elif about:
        options["comment"] = "\n".join(f"{key}: {text}" for key, text in about.items()).encode()
    with atomic(path) as temporary:
        _to_pillow(image, min_width).save(temporary, **options)


def save_gif(path: str | os.PathLike, frames: Sequence[Path], milliseconds: int = 200) -> None:
    """Joins image files of one size into a GIF that rests on its last frame, atomically.

    Args:
        path: Ends in `.gif`.
        frames: Image files; of more than 60, 60 spread over all are taken.
        milliseconds: How long each frame stands.
    """
    chosen = [frames[i] for i in np.linspace(0, len(frames) - 1, min(60, len(frames))).astype(int)]
    _write_gif(path, [Image.open(frame) for frame in chosen], milliseconds)


def save_animation(
    path: str | os.PathLike, frames: np.ndarray, milliseconds: int = 200, min_width: int = 320
) -> None:
    """As `save_gif`, of images in memory, all of them, enlarged as in `save_image`.

    Args:
        path: Ends in `.gif`.
        frames: uint8 `(N, H, W, C)`.
        milliseconds: How long each frame stands.
        min_width: In pixels.
    """
    _write_gif(path, [_to_pillow(frame, min_width) for frame in frames], milliseconds)


def _write_gif(path: str | os.PathLike, pictures: Sequence[Image.Image], milliseconds: int) -> None:
    durations = [milliseconds] * (len(pictures) - 1) + [2000]
    with atomic(path) as temporary:
        pictures[0].save(
            temporary, save_all=True, append_images=pictures[1:], duration=durations, loop=0
        )


def save_figure(path: str | os.PathLike, figure: Figure) -> None:
    """Writes a figure, atomically.

    Args:
        path: Ends in `.png`.
        figure: Made as a `Figure`, so that no window and no global state hang on it.
    """
    with atomic(path) as temporary:
        figure.savefig(temporary)


def save_loss_curve(
    path: str | os.PathLike,
    history: Mapping[str, Sequence[float]],
    advice: Mapping[int, str] | None = None,
) -> None:
    """Draws each loss over the epochs, its validation twin dashed in the same colour, atomically.

    Args:
        path: Ends in `.png`.
        history: Columns by name; `epoch` is the x axis.
        advice: Sentences by epoch: a line in the plot, the words below it.
    """
    figure = Figure(figsize=(6, 4), dpi=100, layout="constrained")
    axes = figure.subplots()
    losses = [name for name in history if not name.startswith("val_") and name != "epoch"]
    if len(losses) == 2 and "loss" in losses:
        losses.remove("loss")  # a single loss and its sum are the same line
    for i, name in enumerate(losses):
        for column, line in ((name, "-"), (f"val_{name}", "--")):
            if column in history:
                values = history[column]
                axes.plot(
                    history["epoch"], values, line, color=f"C{i}", label=column,
                    marker="." if len(values) < 30 else "",
                )  # fmt: skip
    axes.set_xlabel("epoch")
    axes.set_ylabel("loss")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(alpha=0.3)
    for epoch, sentence in (advice or {}).items():
        axes.axvline(epoch, color="red", linewidth=1, alpha=0.6)
        words = "\n".join(textwrap.wrap(f"Epoch {epoch}: {sentence}", 90))
        axes.set_xlabel(f"{axes.get_xlabel()}\n{words}", fontsize=8)
    axes.legend()
    save_figure(path, figure)


def save_measured(
    path: str | os.PathLike,
    panels: Mapping[str, np.ndarray | str],
    shares: Mapping[str, float],
    others: Sequence[str],
) -> None:
    """Draws what was measured: panels in a row, below them bars from 0 to 1 if any, atomically.

    It is as high as images, or the longest text, and the bars need.

    Args:
        path: Ends in `.png`.
        panels: By title, images uint8 `(H, W, C)` or texts.
        shares: By name and, in brackets, what is better: numbers of 0 to 1; what lies above is cut
            off, its number is written.
        others: Lines of other numbers.
    """
    panels = {
        title: panel if isinstance(panel, np.ndarray) else _wrapped(panel)
        for title, panel in panels.items()
    }
    heights = [max(map(_height, panels.values()))]  # inches
    heights += [1.0 + 0.2 * len(shares)] if shares else []
    height = sum(heights) + (0.0 if shares else 0.3)  # for `others`, which else are at the bars
    figure = Figure(figsize=(5 * len(panels), height), dpi=100, layout="constrained")
    halves = figure.add_gridspec(len(heights), 1, height_ratios=heights)
    above = figure.add_subfigure(halves[0])
    above_axes = np.ravel(above.subplots(1, len(panels)))
    for axes, (title, panel) in zip(above_axes, panels.items(), strict=True):
        axes.set_title(title, fontsize=10)
        axes.axis("off")
        if isinstance(panel, str):
            words = panel.replace("$", r"\$")  # or matplotlib would read formulas
            axes.text(0, 1, words, va="top", fontsize=8, family="monospace", clip_on=True)
        else:
            axes.imshow(panel.squeeze(), cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    if shares:
        axes = figure.add_subfigure(halves[1]).subplots()
        bars = axes.barh([*shares], [min(value, 1.0) for value in shares.values()], color="C0")
        axes.bar_label(bars, [f"{value:.3g}" for value in shares.values()], padding=3, fontsize=8)
        axes.set_xlim(0, 1.08)
        axes.invert_yaxis()
        axes.set_title("in brackets: what is better", fontsize=8)
        axes.set_xlabel("   ".join(others))
    else:
        above.supxlabel("   ".join(others), fontsize=10)
    save_figure(path, figure)


def _wrapped(text: str) -> str:
    """A text in lines that fit a panel."""
    return "\n".join(textwrap.fill(line, PANEL_WIDTH) for line in text.splitlines())


def _height(panel: np.ndarray | str) -> float:
    """Inches that a panel takes, with its title."""
    return 0.5 + 0.14 * (panel.count("\n") + 1) if isinstance(panel, str) else 4.2


def side_by_side(*columns: Sequence[str]) -> list[str]:
    """Columns of lines as texts for panels: what stands in one row begins at one height."""
    wrapped = [[textwrap.wrap(line, PANEL_WIDTH) for line in column] for column in columns]
    heights = [max(map(len, row)) for row in zip(*wrapped, strict=True)]
    return [
        "\n\n".join(
            "\n".join([*lines, *[""] * (height - len(lines))])
            for lines, height in zip(column, heights, strict=True)
        )
        for column in wrapped
    ]


def lacks_glyphs(text: str) -> bool:
    """Whether the font in which plots show samples of text lacks some character of this one."""
    own = _characters_of(font_manager.findfont("monospace"))
    return not {c for c in text if not c.isspace()} <= own


def fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Families for a plot with this text, each for what those before it lack.

    Returns:
        The plots' own families and other installed ones, and the characters that none of them has.
    """
    families = [*matplotlib.rcParams["font.family"]]
    own = font_manager.findfont(font_manager.FontProperties(family=families))
    missing = {c for c in text if not c.isspace()} - _characters_of(own)
    for font in font_manager.fontManager.ttflist:
        # Fonts of last resort have a box for each character.
        boxes = font.name.replace(" ", "").strip(".").startswith("LastResort")
        if missing and not boxes and font.style == "normal":
            found = missing & _characters_of(font.fname)
            families += [font.name] if found else []
            missing -= found
    return families, missing


@functools.cache
def _characters_of(path: str) -> frozenset[str]:
    """What a font has; nothing, if it cannot be read."""
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):
        return frozenset()


def save_figure_page(path: str | os.PathLike, figure: Figure) -> None:
    """Writes a figure as a page in which words are words: browsers have fonts for all languages.

    Args:
        path: Ends in `.html`.
        figure: As for `save_figure`.
    """
    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing")
        figure.savefig(file, format="svg", metadata={"Date": None})
    drawing = file.getvalue()
    drawing = drawing[drawing.index("<svg") :]
    write_text(path, "\n".join(["<!doctype html>", '<meta charset="utf-8">', drawing]))


def save_page(path: str | os.PathLike, panels: Mapping[str, str]) -> None:
    """Writes texts, by title, one below the other: browsers have fonts for all languages.

    Args:
        path: Ends in `.html`.
        panels: By title, texts.
    """
    style = "<style>pre { white-space: pre-wrap }</style>"
    parts = [
        f"<h2>{escape(title)}</h2>\n<pre>{escape(text)}</pre>" for title, text in panels.items()
    ]
    write_text(path, "\n".join(["<!doctype html>", '<meta charset="utf-8">', style, *parts, ""]))


def _to_pillow(image: np.ndarray, min_width: int) -> Image.Image:
    scale = max(1, -(-min_width // image.shape[1]))
    large = image.repeat(scale, 0).repeat(scale, 1)
    return Image.fromarray(large[..., 0] if large.shape[-1] == 1 else large)
