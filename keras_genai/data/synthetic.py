"""Data sets that need no network: drawn characters and shapes, Python's own texts, made-up tastes.

They are made or read when asked for, the same way each time, and kept for the process.
"""

from __future__ import annotations

import functools
import string
import sysconfig
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_genai.data.arrays import ArraySource
from keras_genai.data.base import DataError, Dataset, ImageShape
from keras_genai.data.images import check_image_shape
from keras_genai.data.ratings import RatingsSource, divide
from keras_genai.data.text import TextSource

MODALITIES = {
    "glyphs": "image",
    "digits": "image",
    "shapes": "image",
    "pydocs": "text",
    "stdlib": "text",
    "tastes": "ratings",
}
NAMES = tuple(MODALITIES)
COUNTS = {"train": 10_000, "validation": 1_000, "test": 2_000}
DEFAULT_SIZE = (28, 28)

# The fonts of matplotlib that have Latin letters; those for symbols only are left out, and so is
# cmmi10, whose digits are old-style. Whole families are held out, so that a test on them asks for
# letters nobody has seen drawn like this.
TRAIN_FONTS = (
    "DejaVuSans DejaVuSans-Bold DejaVuSans-Oblique DejaVuSans-BoldOblique "
    "DejaVuSerif DejaVuSerif-Bold DejaVuSerif-Italic DejaVuSerif-BoldItalic "
    "STIXGeneral STIXGeneralBol STIXGeneralItalic STIXGeneralBolIta cmr10 cmb10 cmti10"
).split()
TEST_FONTS = (
    "DejaVuSansMono DejaVuSansMono-Bold DejaVuSansMono-Oblique DejaVuSansMono-BoldOblique "
    "cmss10 cmtt10"
).split()
FONTS = (*TRAIN_FONTS, *TEST_FONTS)  # what the numbers under the key `font` stand for

LETTERS = string.ascii_uppercase + string.ascii_lowercase
EM = 0.85  # of the canvas: capitals are then 0.6 of it, and their size tells "o" from "O"
WIDEST = 0.76
OVERSAMPLING = 2
ROTATION, SHEAR, SCALE, SHIFT = np.radians(10), 0.15, (0.85, 1.1), 0.05


def load(name: str, image_shape: ImageShape | None = None) -> Dataset:
    """One of `NAMES`, images drawn in grey at the size of `image_shape` (28x28 by default).

    Raises:
        DataError: the shape is not one.
    """
    if MODALITIES[name] == "text":
        return _texts(name)
    if MODALITIES[name] == "ratings":
        return _tastes(name)
    size = DEFAULT_SIZE if image_shape is None else check_image_shape(image_shape)[:2]
    return _drawn(name, size)


@functools.lru_cache(maxsize=4)
def _drawn(name: str, size: tuple[int, int]) -> Dataset:
    draw: dict[str, Callable[[tuple[int, int]], Dataset]] = {
        "glyphs": lambda size: _characters(name, LETTERS + string.digits, size),
        "digits": lambda size: _characters(name, string.digits, size),
        "shapes": _shapes,
    }
    return draw[name](size)


# Characters.


def _characters(name: str, characters: str, size: tuple[int, int]) -> Dataset:
    rng = np.random.default_rng(0)
    bitmaps = _bitmaps(characters, min(size) * OVERSAMPLING)
    parts = {}
    for part, count in COUNTS.items():
        fonts = TEST_FONTS if part == "test" else TRAIN_FONTS
        label = rng.permutation(np.arange(count, dtype="int32") % len(characters))
        font = rng.integers(len(fonts), size=count, dtype="int32")
        font += len(TRAIN_FONTS) if part == "test" else 0
        images = [bitmaps[f, c] for f, c in zip(font, label, strict=True)]
        arrays = {"image": _jitter(images, size, rng), "label": label, "font": font}
        parts[part] = ArraySource(arrays, name=name, class_names=list(characters))
    return Dataset(name, **parts)


def _bitmaps(characters: str, side: int) -> dict[tuple[int, int], Image.Image]:
    """Every character in every font: white on black, in the middle of (side, side)."""
    import matplotlib

    folder = Path(matplotlib.get_data_path(), "fonts", "ttf")
    bitmaps = {}
    for f, name in enumerate(FONTS):
        font = ImageFont.truetype(str(folder / f"{name}.ttf"), round(EM * side))
        for c, character in enumerate(characters):
            bitmaps[f, c] = _bitmap(character, font, side)
    return bitmaps


def _bitmap(character: str, font: ImageFont.FreeTypeFont, side: int) -> Image.Image:
    left, top, right, bottom = font.getbbox(character)
    width = right - left
    if width > WIDEST * side:
        font = font.font_variant(size=int(font.size * WIDEST * side / width))
        left, top, right, bottom = font.getbbox(character)
    canvas = Image.new("L", (side, side))
    corner = ((side - left - right) / 2, (side - top - bottom) / 2)
    ImageDraw.Draw(canvas).text(corner, character, fill=255, font=font)
    return canvas


def _jitter(
    images: list[Image.Image], size: tuple[int, int], rng: np.random.Generator
) -> np.ndarray:
    """Each image turned, sheared, scaled and moved a little: uint8 (N, H, W, 1)."""
    n = len(images)
    angle, shear = rng.uniform(-ROTATION, ROTATION, n), rng.uniform(-SHEAR, SHEAR, n)
    scale, shift = rng.uniform(*SCALE, n), rng.uniform(-SHIFT, SHIFT, (n, 2)) * min(size)
    return _place(images, size, np.array(size[::-1]) / 2 + shift, angle, scale, shear)


def _place(
    images: list[Image.Image],
    size: tuple[int, int],
    centre: np.ndarray,
    angle: np.ndarray,
    scale: np.ndarray,
    shear: np.ndarray | float = 0.0,
) -> np.ndarray:
    """Each image transformed and put at its `centre` (N, 2), anti-aliased: uint8 (N, H, W, 1)."""
    height, width = (n * OVERSAMPLING for n in size)
    side = images[0].width
    cos, sin = np.cos(angle) / scale, np.sin(angle) / scale
    # Pillow asks for the way back: the place in the source of a place in the result.
    a, b, d, e = cos + shear * sin, sin - shear * cos, -sin, cos
    x, y = OVERSAMPLING * centre[:, 0], OVERSAMPLING * centre[:, 1]
    c, f = side / 2 - a * x - b * y, side / 2 - d * x - e * y
    result = np.empty((len(images), *size, 1), np.uint8)
    for i, way in enumerate(np.stack([a, b, c, d, e, f], axis=1)):
        drawn = images[i].transform(
            (width, height), Image.Transform.AFFINE, tuple(way), Image.Resampling.BILINEAR
        )
        result[i, ..., 0] = np.asarray(drawn.reduce(OVERSAMPLING))
    return result


# Shapes, after dSprites (Matthey, Higgins, Hassabis, Lerchner, 2017): the same factors, coarser
# in size only.

SHAPES = ("square", "ellipse", "heart")
FACTORS = {
    "scale": np.linspace(0.5, 1.0, 6),
    "orientation": np.linspace(0.0, 2 * np.pi, 40, endpoint=False),
    "x": np.linspace(0.0, 1.0, 32),
    "y": np.linspace(0.0, 1.0, 32),
}
LARGEST = 0.6  # of the canvas


def _shapes(size: tuple[int, int]) -> Dataset:
    """Distinct combinations of the factors, each in one part only."""
    grid = (len(SHAPES), *(len(values) for values in FACTORS.values()))
    total = sum(COUNTS.values())
    chosen = np.random.default_rng(0).choice(int(np.prod(grid)), total, replace=False)
    label, *steps = np.unravel_index(chosen, grid)
    arrays = {"label": label.astype("int32")}
    for (key, values), step in zip(FACTORS.items(), steps, strict=True):
        arrays[key] = values[step].astype("float32")
    arrays = {"image": _draw_shapes(arrays, size), **arrays}
    parts, start = {}, 0
    for part, count in COUNTS.items():
        held = {key: array[start : start + count] for key, array in arrays.items()}
        parts[part] = ArraySource(
            held, name="shapes", class_names=list(SHAPES), factors=("label", *FACTORS)
        )
        start += count
    return Dataset("shapes", **parts)


def _draw_shapes(factors: dict[str, np.ndarray], size: tuple[int, int]) -> np.ndarray:
    side = min(size)
    bitmaps = [_shape_bitmap(inside, side * OVERSAMPLING) for inside in (_square, _ellipse, _heart)]
    # The largest shape stays inside the picture, wherever its centre is.
    room = np.array(size[::-1]) - LARGEST * side
    place = np.stack([factors["x"], factors["y"]], axis=1) - 0.5
    return _place(
        [bitmaps[label] for label in factors["label"]],
        size,
        np.array(size[::-1]) / 2 + place * room,
        factors["orientation"],
        factors["scale"],
    )


def _shape_bitmap(inside: Callable[..., np.ndarray], side: int) -> Image.Image:
    """White where `inside(u, v)`, for u and v from -1 to 1 over the largest size."""
    points = 4  # a pixel and direction: this bitmap is drawn once, so it can be exact
    line = ((np.arange(side * points) + 0.5) / (side * points) - 0.5) / (LARGEST / 2)
    share = inside(line[None], line[:, None]).reshape(side, points, side, points).mean((1, 3))
    return Image.fromarray(np.rint(share * 255).astype(np.uint8))


def _square(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(u) <= 0.7) & (np.abs(v) <= 0.7)


def _ellipse(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return u**2 + (v / 0.55) ** 2 <= 1


def _heart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The sextic (x^2 + y^2 - 1)^3 = x^2 y^3, its point downwards."""
    x, y = 1.25 * u, -1.25 * v + 0.1
    return (x**2 + y**2 - 1) ** 3 <= x**2 * y**3


# Texts.

QUOTATION = 50  # characters; shorter runs are the language's
STDLIB_CHARACTERS = 4_000_000
# Tests, tools with a window, tables, and what is made by installing or building Python.
STDLIB_SKIPPED = frozenset(
    "test tests idlelib site-packages dist-packages lib2to3 turtledemo ensurepip encodings "
    "pydoc_data lib-dynload __pycache__ __phello__".split()
)


@functools.lru_cache(maxsize=2)
def _texts(name: str) -> Dataset:
    """Whole groups of pages or modules: a twentieth of the characters to validate, one to test on.

    What is more than a quarter of all is trained on.
    """
    groups = _topics() if name == "pydocs" else _modules()
    sizes = [sum(map(len, group)) for group in groups]
    total = sum(sizes)
    order = list(np.random.default_rng(0).permutation(len(groups)))
    order.sort(key=lambda i: sizes[i] <= total // 4)  # stable: all others stay shuffled
    parts = {}
    for part in ("validation", "test"):
        documents: list[str] = []
        while sum(map(len, documents)) < total // 20:
            documents += groups[order.pop()]
        parts[part] = TextSource(documents, name=name)
    train = [document for i in order for document in groups[i]]
    return Dataset(name, TextSource(train, name=name), **parts)


def _topics() -> list[list[str]]:
    """The pages of Python's help, without what they quote of each other.

    A paragraph is kept where it first stands, on the longest page, so that long pages stay whole.
    Sentences come back inside of paragraphs too: pages with such in common are in one group.
    """
    from pydoc_data.topics import topics

    seen = {""}
    pages = []
    for page in sorted(set(topics.values()), key=lambda page: (-len(page), page)):
        kept = []
        for paragraph in page.split("\n\n"):
            # Headings are underlined by one sign or another, as deep as they stand in the page.
            words = " ".join(paragraph.split()).strip(" *=-~")
            if words not in seen:
                seen.add(words)
                kept.append(paragraph)
        if kept:
            pages.append("\n\n".join(kept).strip("\n") + "\n")
    return _related(pages)


def _related(texts: list[str]) -> list[list[str]]:
    """Groups of texts: no `QUOTATION` characters in a row stand in two groups.

    Line breaks and indentation count as single blanks.
    """
    groups: list[tuple[list[str], set[str]]] = []
    for text in texts:
        line = " ".join(text.split())
        runs = {line[i : i + QUOTATION] for i in range(len(line) - QUOTATION + 1)}
        together, apart = [text], []
        for group, theirs in groups:
            if theirs.isdisjoint(runs):
                apart.append((group, theirs))
            else:
                theirs |= runs
                together, runs = group + together, theirs
        groups = [*apart, (together, runs)]
    return [group for group, _ in groups]


def _modules() -> list[list[str]]:
    """The sources of each top-level module, whole modules in a shuffled order up to 4 million.

    Shuffled, because the first modules of the alphabet would be a narrow choice.
    """
    root = Path(sysconfig.get_path("stdlib"))
    found = _sources(root)
    order = np.random.default_rng(0).permutation(len(found))
    kept: list[list[str]] = []
    room = STDLIB_CHARACTERS
    seen = {""}  # some Pythons have one source under two names: it must not be in two parts
    for name in (sorted(found)[i] for i in order):
        texts = dict.fromkeys(_decoded(path) for path in found[name])
        documents = [text for text in texts if text not in seen]
        seen.update(documents)
        room -= sum(map(len, documents))
        if room < 0:
            break
        if documents:
            kept.append(documents)
    if not kept:
        raise DataError(f"Python's library has no sources here. Received: {root}")
    return kept


def _sources(root: Path) -> dict[str, list[Path]]:
    found: dict[str, list[Path]] = {}
    for path in sorted(root.rglob("*.py")):
        steps = path.relative_to(root).parts
        if STDLIB_SKIPPED.isdisjoint(steps) and not steps[0].startswith(("_sysconfig", "config-")):
            found.setdefault(Path(steps[0]).stem, []).append(path)
    return found


def _decoded(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


# Tastes.

GENRES = ("blues", "country", "folk", "jazz", "metal", "opera", "punk", "soul")
TITLES, USERS = 50, {"train": 800, "validation": 100, "test": 100}  # titles a genre
SKEW, SHORTEST, LONGEST = 0.7, 8, 40
STRAY = 0.1  # the share of likes that have nothing to do with taste


@functools.lru_cache(maxsize=1)
def _tastes(name: str) -> Dataset:
    """Users who like mostly one to three of eight genres, and what is popular in them.

    Item `jazz_07` is the seventh most popular of its genre: popularity falls with the rank as in
    Zipf's law, with an exponent of 0.7.
    """
    rng = np.random.default_rng(0)
    genre, rank = np.divmod(np.arange(len(GENRES) * TITLES), TITLES)
    popularity = (rank + 1.0) ** -SKEW
    users = sum(USERS.values())
    taste = rng.dirichlet(np.full(len(GENRES), 0.15), users)  # U genres
    appeal = popularity * ((1 - STRAY) * taste + STRAY / len(GENRES))[:, genre]  # U I
    # The largest of log p + Gumbel noise are a draw without replacement.
    order = np.argsort(-np.log(appeal) - rng.gumbel(size=appeal.shape), axis=1)
    counts = rng.integers(SHORTEST, LONGEST + 1, users)
    ids = np.array([f"{GENRES[g]}_{r + 1:02d}" for g, r in zip(genre, rank, strict=True)])
    source = RatingsSource(
        np.concatenate([[0], np.cumsum(counts)]),
        np.concatenate([row[:n] for row, n in zip(order, counts, strict=True)]).astype("int32"),
        item_ids=ids, user_ids=np.arange(users), name=name,
    )  # fmt: skip
    ends = np.cumsum([*USERS.values()])
    return divide(source, *np.split(np.arange(users), ends[:-1]))
