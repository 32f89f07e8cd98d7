"""How text is laid out, on the screen and in files. Quick to import."""

import difflib
from collections.abc import Iterable, Sequence

BETWEEN_TEXTS = "\n\n----\n\n"  # in a file or an output of several


def did_you_mean(word: object, known: Iterable[str]) -> str:
    """A question that names up to three known words like this one, or nothing; for a message."""
    spelt = {name.lower(): name for name in known}  # capitals are no other word
    close = difflib.get_close_matches(str(word).lower(), spelt, n=3)
    return f"Did you mean {' or '.join(repr(spelt[name]) for name in close)}? " if close else ""


def columns(rows: Sequence[Sequence[str]], right: Sequence[int] = (), indent: str = "") -> str:
    """Rows of cells as lines of text; the columns numbered in `right` are set to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        indent
        + "  ".join(
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def plural(modality: str) -> str:
    """What items of a modality are called: images, texts; users of ratings."""
    return "users" if modality == "ratings" else f"{modality}s"


def number(value: float | None, digits: int = 4) -> str:
    """A number of so many digits, or nothing: 0.8961 and 1,235,000, not 1.235e+06."""
    return "" if value is None else f"{float(f'{value:.{digits}g}'):,.12g}"


def with_spread(value: float, deviation: float | None) -> str:
    """A number ± its standard deviation, if there is one; that of equal numbers is no rounding."""
    if deviation is None:
        return number(value)
    return f"{number(value)} ± {number(deviation if deviation > 1e-9 * abs(value) else 0.0, 2)}"
