"""Tables of texts, CSV, TSV or JSON Lines: each row a document, what is known of it above its text.

    author: 李白
    title: 靜夜思

    牀前看月光,疑是地上霜。...

A model of text that was trained on such documents takes the lines as a prompt: `control_lines`
writes them.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_genai._text import did_you_mean
from keras_genai.data.base import DataError, Dataset, describe
from keras_genai.data.text import TextSource, read_text

SUFFIXES = (".csv", ".tsv", ".jsonl")
Rows = Iterator[tuple[int, Mapping[str, Any]]]  # the number of a line, what stands there by column


def control_lines(**values: Any) -> str:
    """What stands above a document, `name: value` a line; without the empty line that follows.

    As a prompt it may end early: a model goes on with the other lines, if it knows of any, and
    then with the text.

    Args:
        **values: Strings, numbers or lists of them, in the order of the documents; an empty one or
            None has no line.

    Returns:
        The lines, each with its line break. White space within a value is single blanks.

    Raises:
        DataError: A value is none of these.
    """
    return _lines(values)


def load_texts(
    path: str | os.PathLike,
    *,
    text: str = "text",
    control: str | Sequence[str] | None = None,
    columns: Sequence[str] | None = None,
) -> Dataset:
    """A table of texts, as documents: control lines, an empty line, the text.

    Args:
        path: A UTF-8 file: `.csv` (fields may be quoted), `.tsv` (they are not: a quotation mark is
            one) or `.jsonl` (an object a line).
        text: The column of the texts.
        control: The columns that stand above a text, in this order; by default all others. A row
            in which one is empty has no such line.
        columns: The names of all columns, for a `.csv` or `.tsv` file whose first line is not that.

    Returns:
        The data set, in one part: the documents in the order of the rows.

    Raises:
        DataError: Columns are missing, a row has no text or cannot be read; the message has the
            number of the line.
    """
    path = Path(path).expanduser()
    if path.suffix.lower() not in SUFFIXES:
        raise DataError(
            f"Tables of texts are files ending in {', '.join(SUFFIXES)}. Received: {path}"
        )
    read = _objects if path.suffix.lower() == ".jsonl" else _fields
    rows = [*read(path, columns)]
    if not rows:
        raise DataError(f"A table of texts has at least one row. Received: none in {path}")
    known = [*dict.fromkeys(name for _, row in rows for name in row)]
    if control is None:
        control = [name for name in known if name != text]
    names = [control] if isinstance(control, str) else [*control]
    for name in (text, *names):
        _check_column(name, known, path)
    documents = [_document(row, text, names, f"line {number} of {path}") for number, row in rows]
    return Dataset(path.stem, TextSource(documents, name=path.name))


def _document(row: Mapping[str, Any], text: str, control: Sequence[str], where: str) -> str:
    body = row.get(text)
    if not isinstance(body, str) or not body.strip():
        raise DataError(
            f"Each row has a text, a string that is not empty: leave out those without. "
            f"Received: {text}={describe(body)} on {where}"
        )
    lines = _lines({name: row.get(name) for name in control}, f" on {where}")
    return f"{lines}\n{body}" if control else body


def _lines(values: Mapping[str, Any], where: str = "") -> str:
    lines = []
    for name, value in values.items():
        parts = value if isinstance(value, (list, tuple)) else [value]
        if any(isinstance(part, bool) or not isinstance(part, (str, int, float)) for part in parts):
            if value is None:
                continue
            raise DataError(
                "A control line has a string, a number or a list of them; choose others with "
                f"`control=`. Received: {name}={describe(value)}{where}"
            )
        line = " ".join(", ".join(map(str, parts)).split())
        lines += [f"{name}: {line}\n"] if line else []
    return "".join(lines)


def _check_column(name: str, known: Sequence[str], path: Path) -> None:
    if name not in known:
        raise DataError(
            f"{did_you_mean(name, known)}A column of this name is missing. "
            "`data.load_texts(path, text=..., control=...)` says which hold the texts and what "
            'stands above them, and `columns=("author", "text")` how those of a file without a '
            f"line of names are called. Received: {name!r} for {path}, which has {describe(known)}"
        )


def _fields(path: Path, columns: Sequence[str] | None) -> Rows:
    """The rows of a CSV or TSV file."""
    read = _of_csv if path.suffix.lower() == ".csv" else _of_tsv
    for number, fields in read(read_text(path), path):
        if columns is None:
            columns = fields
            if len({*columns}) < len(columns):
                raise DataError(
                    "Each column has a name of its own on the first line; of a file without such a "
                    f"line `data.load_texts(path, columns=...)` names them. Received: {columns}"
                )
            continue
        if len(fields) != len(columns):
            kind = "quoted where they hold commas" if read is _of_csv else "tabs between them"
            raise DataError(
                f"A row has one field for each of the {len(columns)} columns "
                f"{', '.join(columns)}, {kind}. "
                f"Received: {len(fields)} fields on line {number} of {path}"
            )
        yield number, dict(zip(columns, fields, strict=True))


def _of_tsv(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield number, line.split("\t")


def _of_csv(text: str, path: Path) -> Iterator[tuple[int, list[str]]]:
    reader, number = csv.reader(io.StringIO(text), strict=True), 1
    limit = csv.field_size_limit(max(len(text), 1))  # a text may be long
    try:
        for fields in reader:
            if fields:
                yield number, fields
            number = reader.line_num + 1  # a row of several lines begins on the first
    except csv.Error as error:
        raise DataError(
            "Fields of a CSV file that hold commas, line breaks or quotation marks are quoted, and "
            f"quotation marks in them doubled: {error}. Received: line {number} of {path}"
        ) from error
    finally:
        csv.field_size_limit(limit)


def _objects(path: Path, columns: Sequence[str] | None) -> Rows:
    """The rows of a file of JSON Lines."""
    if columns is not None:
        raise DataError(
            "The rows of a .jsonl file name their columns themselves: leave out `columns`. "
            f"Received: columns={describe(columns)} for {path}"
        )
    for number, line in enumerate(read_text(path).split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise DataError(
                f"Each line of a .jsonl file is one JSON object: {error}. "
                f"Received: line {number} of {path}"
            ) from error
        if not isinstance(row, dict):
            raise DataError(
                "Each line of a .jsonl file is one JSON object. "
                f"Received: {describe(row)} on line {number} of {path}"
            )
        yield number, row
