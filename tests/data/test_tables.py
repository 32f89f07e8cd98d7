"""Tables of texts: what stands above a text, and what is wrong on which line."""

import csv
import json

import pytest

from keras_genai import data
from keras_genai.data import DataError

ROWS = [
    {"author": "李白", "title": "靜夜思", "text": "牀前看月光,\n疑是地上霜。"},
    {"author": "", "title": 'The "Owl", again', "text": "Who?"},
    {"author": "王維", "title": "鹿柴", "text": "空山不見人"},
]
DOCUMENTS = [
    "author: 李白\ntitle: 靜夜思\n\n牀前看月光,\n疑是地上霜。",
    'title: The "Owl", again\n\nWho?',
    "author: 王維\ntitle: 鹿柴\n\n空山不見人",
]


def written(folder, suffix, rows):
    """The path of a table of these rows."""
    path = folder / f"poems{suffix}"
    if suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n\n" for row in rows), "utf-8")
    elif suffix == ".csv":
        with open(path, "w", newline="", encoding="utf-8-sig") as file:
            writer = csv.DictWriter(file, [*rows[0]])
            writer.writeheader()
            writer.writerows(rows)
    else:
        lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
        path.write_bytes("\r\n".join([*lines, "", ""]).encode())
    return path


def documents_of(*arguments, **options):
    return data.load_texts(*arguments, **options).train.documents


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl"])
def test_rows_become_documents(tmp_path, suffix):
    rows = ROWS[1:] if suffix == ".tsv" else ROWS  # which has no line breaks within fields
    path, expected = written(tmp_path, suffix, rows), DOCUMENTS[-len(rows) :]
    parts = data.load(path, modality="text")
    assert parts.train.documents == expected and parts.name == "poems"
    assert documents_of(path, control=()) == [row["text"] for row in rows]
    assert documents_of(path, text="title", control="text")[-1] == "text: 空山不見人\n\n鹿柴"
    assert documents_of(path, control=("title", "author"))[-1].startswith("title: 鹿柴\nauthor: 王")


@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_columns_without_a_line_of_names(tmp_path, suffix):
    lines = written(tmp_path, suffix, ROWS[1:]).read_text("utf-8-sig").split("\n")
    path = tmp_path / f"bare{suffix}"
    path.write_text("\n".join(lines[1:]), "utf-8")
    assert documents_of(path, columns=("author", "title", "text")) == DOCUMENTS[1:]
    with pytest.raises(DataError, match=r"columns=\(.*Received: 'text' for .*which has \["):
        data.load_texts(path)


def test_a_prompt_is_what_its_documents_begin_with():
    for row, document in zip(ROWS, DOCUMENTS, strict=True):
        lines = data.control_lines(author=row["author"], title=row["title"])
        assert document == f"{lines}\n{row['text']}"
    assert DOCUMENTS[0].startswith(data.control_lines(author="李白"))
    lines = data.control_lines(topic=["autumn", "the \n moon"], lines=4, style=None)
    assert lines == "topic: autumn, the moon\nlines: 4\n"


def test_a_table_is_divided_as_any_texts_are(tmp_path):
    parts = data.load(data.load_texts(written(tmp_path, ".csv", ROWS)), validation_split=0.3)
    assert parts.train.documents == DOCUMENTS[:2]
    assert parts.validation.documents == DOCUMENTS[2:]


def test_a_long_text_in_a_csv_file(tmp_path):
    limit = csv.field_size_limit()
    path = written(tmp_path, ".csv", [{"text": "a" * (limit + 1)}])
    assert len(documents_of(path)[0]) == limit + 1 and csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt", "x", {}, r"\.csv, \.tsv, \.jsonl. Received: .*a\.txt"),
        ("a.csv", "", {}, "at least one row. Received: none in"),
        ("a.csv", "text\n", {}, "at least one row. Received: none in"),
        ("a.csv", "txt,a\nb,c\n", {}, "Did you mean 'txt'.*Received: 'text' for .*'txt', 'a'"),
        ("a.csv", "text,a\nb,c\n", {"control": ["b"]}, "missing.*Received: 'b' for "),
        ("a.csv", "text,text\nb,c\n", {}, r"name of its own.*Received: \['text', 'text'\]"),
        ("a.csv", 'text,a\n"x\ny",z\n \t,c\n', {}, r"has a text.*Received: text=' \\t' on line 4"),
        ("a.csv", "text,a\nb,c,d\n", {}, "quoted.*Received: 3 fields on line 2 of .*csv"),
        ("a.csv", 'text,a\nb,c\n"b,c\n\n', {}, "doubled: unexpected end.*Received: line 3 of"),
        ("a.tsv", "text\ta\n\nb\n", {}, "tabs.*Received: 1 fields on line 3 of .*tsv"),
        ("a.jsonl", '{"text": "a"}\n{text}\n', {}, "one JSON object: .*Received: line 2 of"),
        ("a.jsonl", '\n["text"]\n', {}, r"one JSON object.*Received: \['text'\] on line 2 of"),
        ("a.jsonl", '{"text": "a"}\n{"a": 1}\n', {}, "has a text.*Received: text=None on line 2"),
        ("a.jsonl", '{"text": "a", "b": [{}]}', {}, r"`control=`.*Received: b=\[\{\}\] on line 1"),
        ("a.jsonl", '{"text": "a", "b": true}', {}, r"`control=`.*Received: b=True on line 1"),
        ("a.jsonl", '{"text": "\\ud83d"}', {}, r"surrogate.*Received: '\\ud83d' at character 0"),
        ("a.jsonl", '{"text": "a"}', {"columns": ["text"]}, "leave out `columns`.*Received: col"),
    ],
)
def test_mistakes_are_explained(tmp_path, name, content, options, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=f"(?s){message}"):
        data.load_texts(tmp_path / name, **options)


def test_a_control_line_is_plain():
    with pytest.raises(DataError, match=r"list of them.*Received: author=\{'a': 1\}$"):
        data.control_lines(author={"a": 1})
