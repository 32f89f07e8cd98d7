"""What a model of text looks at, and what it expects: attention, surprise, the likeliest tokens."""

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from keras_genai.explore.figures import DPI, check_path, coloured, finish_words
from keras_genai.explore.space import model_of
from keras_genai.models.text_model import TextModel
from keras_genai.tokenizers import END

SIGNS = str.maketrans({" ": "␣", "\n": "↵", "\t": "⇥"})  # of what would not be seen
MOST_SEEN = 64  # tokens of a map of attention
MOST_READ = 600
MOST_PLACES = 8
LEAST_LINES = 3  # that a strip has room for: with less its scale could not be read
LINE = 80  # columns; a Latin letter takes one, a Chinese character two
COLOURS = "OrRd"


def attention(model: Any, text: str, *, path: str | os.PathLike | None = None) -> Figure:
    """What each token of a text takes of which others: a map for each head of each block.

    A row is a token that looks, a column one that is looked at; each row adds up to 1. Colours go
    by the roots of the shares, so that small ones differ too. What a token does not see at all is
    grey: of a model that reads from left to right all that comes later.

    The shares are those by which a head mixes the values of tokens, not reasons for what the model
    says: values differ in size, and after the first block each place holds something of the others
    already (Jain, Wallace, 2019, https://arxiv.org/abs/1902.10186).

    Args:
        model: A model of text with blocks of attention, such as `gpt`, or what `zoo.load` takes.
        text: At most 64 tokens, nor more than the model sees at once.
        path: Ends in `.png`, or in `.html`, which shows characters that no font here has.

    Raises:
        ValueError: If the model has no attention, or the text is empty, too long or has unknown
            characters or words.
    """
    check_path(path, ".png", ".html")
    model = model_of("text", model)
    network, blocks = _attending(model)
    ids = _encoded(model, text, min(MOST_SEEN, model.sequence_length))
    shares = shares_of(network, blocks, ids)
    names = [token_name(model.codec, i) for i in ids]
    return finish_words(
        lambda written: _draw_maps(shares, [*map(written, names)]), "".join(names), path
    )


def next_tokens(
    model: Any,
    text: str,
    k: int = 10,
    *,
    at: Sequence[int] | None = None,
    path: str | os.PathLike | None = None,
) -> Figure:
    """How a text surprises a model, token by token, and what it expected at some places.

    Above stands the text, each token in the colour of its surprise, -log2 p(token | all before), in
    bits; a first token that the model does not predict is grey. Below are the probabilities of the
    `k` likeliest tokens at some places, that which came in another colour.

    Args:
        model: A model of text that writes from left to right, or what `zoo.load` takes.
        text: At most 600 tokens.
        k: How many tokens at each place; all, if there are fewer.
        at: Places, counted in tokens from 0; the number of tokens is the place after the last one.
            At most 8; by default that place and the three of the greatest surprise. What a text
            begins with is expected by models of data in several documents alone.
        path: Ends in `.png`, or in `.html`, which shows characters that no font here has.

    Raises:
        ValueError: If the model does not write from left to right, or the text is empty, too long
            or has unknown characters or words.
    """
    check_path(path, ".png", ".html")
    model = model_of("text", model)
    ids = _encoded(model, text, MOST_READ)
    if not isinstance(k, int | np.integer) or k < 1:
        raise ValueError(f"`k` is a positive whole number of tokens. Received: k={k!r}")
    log_p = log_probabilities(model, ids)  # T+1 V
    bits = -log_p[np.arange(len(ids)), ids] / np.log(2)  # T; NaN where nothing was expected
    places = _places(at, bits)
    likeliest = np.argsort(-log_p, axis=1, kind="stable")[:, :k]
    shown = {*ids.tolist(), *likeliest[places].ravel().tolist()}
    names = {i: token_name(model.codec, i) for i in sorted(shown)}
    breaks = ["\n" in model.codec.decode([i]) for i in ids.tolist()]

    def draw(written: Any) -> Figure:
        labels = {i: written(name) for i, name in names.items()}
        before = [_end_of(model.codec.decode(ids[:place]), written) for place in places]
        found = cells([labels[i] for i in ids.tolist()], breaks)
        return _draw_next(ids, bits, found, places, before, log_p, likeliest, labels)

    return finish_words(draw, text + "".join(names.values()), path)


def shares_of(network: keras.Model, blocks: Sequence[Any], ids: np.ndarray) -> np.ndarray:
    """The shares of attention when a network reads a text.

    Args:
        network: From tokens int32 (B, T) to anything.
        blocks: Layers of it with a method `shares`, which takes what the layer takes and returns
            (B, heads, T, T).
        ids: `(T,)`.

    Returns:
        float32 `(blocks, heads, T, T)`.
    """
    names = [block.name for block in blocks]
    outputs = {block.name: block.input for block in blocks}
    taken = keras.Model(network.inputs, outputs)([ids[None]])
    found = [b.shares(*tf.nest.flatten(taken[n])) for n, b in zip(names, blocks, strict=True)]
    return np.stack([shares[0].numpy() for shares in found])


def log_probabilities(model: TextModel, ids: np.ndarray) -> np.ndarray:
    """Of a text log p of each token at each place and after it, given all before, in nats.

    Args:
        model: A model that writes from left to right.
        ids: `(T,)`.

    Returns:
        float64 `(T + 1, V)`. The first row is NaN where no token stands between documents, so that
        nothing says what a text begins with.

    Raises:
        ValueError: If the model has no `step`.
    """
    if type(model).step is TextModel.step:
        raise ValueError(
            "Only a model that writes from left to right expects a next token, such as `gpt`. "
            f"Received: {model._title}"
        )
    end = model.codec.end
    read = [*ids] if end is None else [end, *ids]
    step = model.graph_of("step", model.step)
    # Rounded up, so that one graph serves texts of many lengths.
    states = model.initial_states(1, -(-len(read) // 64) * 64)
    rows = np.full((len(ids) + 1, model.num_tokens), np.nan)
    for row, token in zip(rows[-len(read) :], read, strict=True):
        logits, states = step(tf.constant([token], "int32"), states)
        row[:] = tf.nn.log_softmax(tf.cast(logits[0], "float64"))
    return rows


def token_name(codec: Any, token: int) -> str:
    """A token as it can be seen: white space by signs, incomplete UTF-8 and controls by numbers."""
    if token == codec.end:
        return END
    piece = codec.pieces[token]
    return _seen(piece.decode("utf-8", "backslashreplace") if isinstance(piece, bytes) else piece)


def _seen(text: str) -> str:
    signs = text.translate(SIGNS)
    return "".join(c if c.isprintable() else f"U+{ord(c):04X}" for c in signs)


def _end_of(text: str, written: Any) -> str:
    """As much of a text's end as there is room for in a title."""
    end = ""
    for letter in reversed(text):
        longer = written(_seen(letter)) + end
        if len(longer) > 20:
            break
        end = longer
    return end or "nothing"


def cells(labels: Sequence[str], breaks: Sequence[bool]) -> np.ndarray:
    """Places for labels, one after another in lines: `(N, 3)`, line, first column and columns.

    Args:
        labels: Each takes a column a letter, two for a wide one, and stands in one line.
        breaks: After which labels a line ends.
    """
    line, column, found = 0, 0, []
    for label, ends in zip(labels, breaks, strict=True):
        width = max(1, sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in label))
        if column and column + width > LINE:
            line, column = line + 1, 0
        found.append((line, column, width))
        line, column = (line + 1, 0) if ends else (line, column + width)
    return np.array(found)


def _attending(model: TextModel) -> tuple[keras.Model, list[Any]]:
    """The first network that has layers of attention, and these."""
    for network in model.layers:
        blocks = [layer for layer in getattr(network, "layers", []) if hasattr(layer, "shares")]
        if blocks:
            return network, blocks
    raise ValueError(
        f"This model has no attention; take one such as `gpt`. Received: {model._title}"
    )


def _encoded(model: TextModel, text: Any, most: int) -> np.ndarray:
    """The tokens of a text, int32 `(T,)`."""
    if not isinstance(text, str) or not text:
        raise ValueError(f"Text is a string that is not empty. Received: {text!r:.80}")
    ids = model.codec.encode(text)
    if len(ids) > most:
        raise ValueError(
            f"Of this model's texts at most {most} {model.codec.unit} are shown at once. "
            f"Received: {len(ids)}"
        )
    return ids


def _places(at: Any, bits: np.ndarray) -> list[int]:
    """The places that were asked for, or those to look at, in order."""
    first, last = int(np.isnan(bits).sum()), len(bits)
    if at is None:
        order = np.argsort(-bits, kind="stable")  # NaN stands last
        return sorted(order[: min(3, last - first)].tolist()) + [last]
    wanted = [*at] if np.ndim(at) else [at]
    within = all(isinstance(t, int | np.integer) and first <= t <= last for t in wanted)
    if not within or not 0 < len(wanted) <= MOST_PLACES:
        raise ValueError(
            f"`at` has up to {MOST_PLACES} places of this text, {first} to {last}, where {last} is "
            f"what comes after it. Received: at={at!r}"
        )
    return sorted({*map(int, wanted)})


# Drawing ----------------------------------------------------------------------------------------


def _draw_maps(shares: np.ndarray, names: Sequence[str]) -> Figure:
    """Blocks from top to bottom, heads from left to right."""
    num_blocks, num_heads, length, _ = shares.shape
    side = min(max(1.6, 0.14 * length), 40.0 / max(num_blocks, num_heads))  # inches
    size = (side * num_heads + 1.8, side * num_blocks + 1.2)
    figure = Figure(figsize=size, dpi=DPI, layout="constrained")
    grid = figure.subplots(num_blocks, num_heads, squeeze=False, sharex=True, sharey=True)
    colours = ScalarMappable(PowerNorm(0.5, 0.0, 1.0), "Blues")
    letters = min(8.0, 0.7 * 72 * side / length)  # points
    places = np.arange(length)
    turned = 90 if max(map(len, names)) > 1 else 0
    for (block, head), axes in np.ndenumerate(grid):
        seen = np.ma.masked_equal(shares[block, head], 0.0)
        axes.set_facecolor("lightgrey")
        axes.imshow(seen, cmap=colours.cmap, norm=colours.norm, interpolation="nearest")
        axes.set_xticks(places, names, fontsize=letters, rotation=turned)
        axes.set_yticks(places, names, fontsize=letters)
        axes.tick_params(length=0)
        axes.set_title(f"block {block}, head {head}", fontsize=8)
    figure.supxlabel("looked at", fontsize=9)
    figure.supylabel("looks", fontsize=9)
    unseen = "; grey: not seen" if (shares == 0.0).any() else ""
    label = f"share, coloured by its square root{unseen}"
    figure.colorbar(colours, ax=grid, shrink=0.6, label=label)
    return figure


def _draw_next(
    ids: np.ndarray,
    bits: np.ndarray,
    found: np.ndarray,
    places: Sequence[int],
    before: Sequence[str],
    log_p: np.ndarray,
    likeliest: np.ndarray,
    labels: dict[int, str],
) -> Figure:
    """The text in colours, below it bars."""
    names = [labels[i] for i in ids.tolist()]
    wide = min(4, len(places))
    high = -(-len(places) // wide)
    lines = max(found[-1, 0] + 1, LEAST_LINES)
    heights = 0.8 + 0.24 * lines, high * (0.8 + 0.2 * (likeliest.shape[1] + 1))
    figure = Figure(figsize=(10.0, sum(heights)), dpi=DPI, layout="constrained")
    halves = figure.add_gridspec(2, 1, height_ratios=heights)
    above, below = (figure.add_subfigure(halves[i]) for i in (0, 1))
    _draw_strip(above, names, found, bits, places, np.log2(log_p.shape[1]))
    for axes in (panels := below.subplots(high, wide, squeeze=False).ravel())[len(places) :]:
        axes.set_visible(False)
    for axes, place, words in zip(panels, places, before, strict=False):
        came = int(ids[place]) if place < len(ids) else None
        _draw_bars(axes, likeliest[place].tolist(), came, np.exp(log_p[place]), labels)
        what = f"came {labels[came]}: {bits[place]:.1f} bits" if came is not None else "next"
        axes.set_title(f"{place}, after {words}\n{what}", fontsize=8)
    return figure


def _draw_strip(
    figure: Any,
    names: Sequence[str],
    found: np.ndarray,
    bits: np.ndarray,
    places: Sequence[int],
    most: float,
) -> None:
    """A text, each token on its surprise of 0 to `most` bits as a colour; places are framed."""
    axes = figure.subplots()
    lines, starts, widths = found.T
    shares = np.nan_to_num(bits / most)
    colours = coloured(shares, COLOURS, 0.0, 1.0) / 255.0
    colours[np.isnan(bits)] = 0.9  # nothing was expected
    bars = axes.barh(lines, widths, 0.9, left=starts, color=colours, edgecolor="white", linewidth=1)
    for place in [place for place in places if place < len(names)]:
        bars[place].set(edgecolor="black", zorder=2)
    for name, line, start, width, share in zip(names, *found.T, shares, strict=True):
        axes.text(
            start + width / 2, line, name, ha="center", va="center_baseline", fontsize=9,
            color="white" if share > 0.6 else "black", zorder=3,
        )  # fmt: skip
    axes.set_xlim(-0.2, LINE + 0.2)
    num_lines = max(lines[-1] + 1, LEAST_LINES)
    axes.set_ylim(num_lines - 0.4, -0.6)
    axes.axis("off")
    known = bits[~np.isnan(bits)]
    mean = f", {known.mean():.2f} bits a token" if len(known) else ""
    unknown = "; grey: the first is not predicted" if len(known) < len(bits) else ""
    axes.set_title(f"{len(names)} tokens{mean}; framed: those below{unknown}", fontsize=10)
    scale = ScalarMappable(Normalize(0.0, most), COLOURS)
    figure.colorbar(
        scale, ax=axes, extend="max", label="surprise, bits", aspect=8,
        shrink=min(1.0, 6.0 / num_lines), anchor=(0.0, 1.0),
    )  # fmt: skip


def _draw_bars(
    axes: Any, likeliest: list[int], came: int | None, p: np.ndarray, labels: dict[int, str]
) -> None:
    """Probabilities as bars from the largest down; that of the token that came, at least below."""
    shown = likeliest if came is None or came in likeliest else [*likeliest, came]
    heights = np.arange(len(shown)) + 0.5 * (np.arange(len(shown)) >= len(likeliest))
    colours = ["C1" if token == came else "C0" for token in shown]
    axes.barh(heights, p[shown], color=colours)
    for height, value in zip(heights, p[shown], strict=True):
        inside = value > 0.8  # beside so long a bar is no room
        axes.annotate(
            f"{value:.1%}", (value, height), (-2 if inside else 2, 0), textcoords="offset points",
            ha="right" if inside else "left", va="center", fontsize=7,
            color="white" if inside else "black",
        )  # fmt: skip
    axes.set_yticks(heights, [labels[token] for token in shown], fontsize=8)
    axes.set_xlim(0.0, min(1.25 * max(p[shown].max(), 0.05), 1.0))
    axes.xaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 5, 10]))
    axes.xaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.tick_params(axis="x", labelsize=7)
    axes.tick_params(axis="y", length=0)
    axes.invert_yaxis()
