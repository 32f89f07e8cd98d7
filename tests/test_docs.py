"""What the documents say is true: names, commands, links and listings."""

import json
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import images
from PIL import Image

from keras_genai import cli, data, explore, zoo
from keras_genai.data.loading import KNOWN
from keras_genai.models.base import GenerativeModel
from keras_genai.models.text_model import TextModel
from keras_genai.zoo import generated, registry

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXPLORE_TOOLS = ("LatentSpace", "along_arc", "along_line", "held_out")  # draw nothing
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]


def text_of(path):
    """A page, or the source of a notebook's cells."""
    text = path.read_text("utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"])


def found(pattern):
    """(page, match) of each match in all pages and notebooks."""
    return [
        (path.name, match)
        for path in (*PAGES, *NOTEBOOKS)
        for match in re.findall(pattern, text_of(path), flags=re.MULTILINE)
    ]


def listings(path):
    """The Python listings of a page."""
    return re.findall(r"^```python\n(.*?)^```$", text_of(path), flags=re.MULTILINE | re.DOTALL)


# Generated ---------------------------------------------------------------------------------------


def test_generated_pages_are_fresh():
    """The index, the tables and the card of each published entry."""
    pages = generated.pages(ROOT / "zoo")
    assert {registry.INDEX, ROOT / "README.md", ROOT / "zoo" / "README.md"} <= {*pages}
    stale = [path.name for path, text in pages.items() if path.read_text("utf-8") != text]
    assert stale == [], "`make index` writes them anew"


def test_tables_have_their_places():
    readme, overview = text_of(ROOT / "README.md"), text_of(ROOT / "zoo" / "README.md")
    for page, marks in ((readme, generated.GALLERY), (readme, generated.MODELS),
                        (readme, generated.ENTRIES), (overview, generated.ENTRIES)):  # fmt: skip
        assert [page.count(mark) for mark in marks] == [1, 1]


def test_table_of_models_has_a_row_for_each():
    recipe = {
        "summary": "What it is.", "modality": "text", "task": "prompt", "data": "pydocs",
        "minutes": 2.0, "paper": "A book",
    }  # fmt: skip
    *_, row = generated.models_table({"recipes": {"new": recipe}}).splitlines()
    assert row == "| `new` | What it is. | text (prompt) | `pydocs`, 2 minutes | A book |"


# Names, commands and links -----------------------------------------------------------------------


def test_models_exist():
    names = found(r'zoo\.(?:get|info)\("(\w+)"')
    assert len(names) > 10
    assert [(page, name) for page, name in names if name not in zoo.list()] == []


@pytest.mark.parametrize(("page", "command"), found(r"^\$ (keras-genai .*)$"))
def test_commands_can_be_typed(page, command):
    _, *words = shlex.split(command)
    assert callable(cli._parse(words).run)


def test_make_targets_exist():
    makefile = (ROOT / "Makefile").read_text("utf-8")
    targets = found(r"(?:^\$ |`)make (\w+)")
    assert len(targets) > 5
    assert [t for t in targets if not re.search(rf"^{t[1]}:", makefile, re.MULTILINE)] == []


def test_links_lead_to_files():
    links = [target for _, target in found(r"\]\((?!https?://|#)([^)#]+)")]
    assert len(links) > 5
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_files_named_in_the_text_exist():
    named = found(r"`((?:keras_genai|models|data|zoo|tests|notebooks|benchmarks)/[\w/]+\.\w+)`")
    missing = [
        (page, name)
        for page, name in named
        if not (ROOT / name).exists() and not (ROOT / "keras_genai" / name).exists()
    ]
    assert len(named) > 10 and missing == []


# Listings ----------------------------------------------------------------------------------------


@pytest.fixture
def users_files(tmp_path, monkeypatch):
    """The files that the README speaks of, in the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_GENAI_RUNS", "runs")
    Path("my_photos").mkdir()
    for i, image in enumerate(images(8, (16, 16, 3))):
        Image.fromarray(image).save(f"my_photos/{i}.png")
    Path("my_texts").mkdir()
    for name in ("my_text.txt", "my_texts/first.txt", "my_texts/second.txt"):
        Path(name).write_text("Once upon a time there was a text.\n" * 20, "utf-8")
    liked = [f"{user},{item},5" for user in range(40) for item in (318, 296, *range(user % 4, 20))]
    Path("my_ratings.csv").write_text("\n".join(["userId,movieId,rating", *liked]))
    poems = [("王維", "鹿柴", "空山不見人，但聞人語響。"), ("李白", "靜夜思", "牀前看月光，")] * 40
    Path("my_poems.tsv").write_text("\n".join(map("\t".join, poems)), "utf-8")
    rows = [json.dumps({"author": author, "text": text}) for author, _, text in poems]
    Path("my_poems.jsonl").write_text("\n".join(rows), "utf-8")
    np.save("images.npy", images(8))
    np.savez("images.npz", x_train=images(8))


@pytest.fixture
def tiny(monkeypatch):
    """`zoo.get` makes tiny models, `fit` trains them for two steps."""
    fit = GenerativeModel.fit

    def tiny_get(name, **overrides):
        model = registry.get(name, **{**zoo.info(name).tiny, **overrides})
        model.run_eagerly = True  # two steps are quicker than a graph
        return model

    def short_fit(self, x=None, y=None, *, minutes=None, epochs=None, **options):
        assert (minutes is None) != (epochs is None)
        short = {"epochs": 1, "steps_per_epoch": 2, "batch_size": 4, "verbose": 0}
        return fit(self, x, y, **short, **options)

    load = zoo.load

    def local_load(path, **overrides):
        path = ROOT / "tests" / "golden" / "gpt2" if str(path).startswith("hf://") else path
        return load(path, **overrides)

    monkeypatch.setattr(zoo, "get", tiny_get)
    monkeypatch.setattr(zoo, "load", local_load)
    monkeypatch.setattr(GenerativeModel, "fit", short_fit)
    # Its loop takes longer to compile than all else; `generate` has it too.
    monkeypatch.setattr(TextModel, "preview", lambda self, seed=0: ["a text"])


def test_readme_listings_run(users_files, tiny):
    names = {
        "x_train": images(16), "noisy_images": images(4, (28, 28, 1)), "keras": keras,
        "texts": ["Once", "upon a time"] * 4, "labels": np.arange(8) % 2,
    }  # fmt: skip
    first, *others = listings(ROOT / "README.md")
    exec(first, names)
    assert names["images"].shape == (16, 28, 28, 1) and names["images"].dtype == np.uint8
    for code in others:
        exec(code, names)
    assert zoo.load("runs/letters").progress.epoch == 1


def test_listings_of_the_page_on_exploring_run(users_files, tiny):
    names = {}
    for code in listings(ROOT / "docs" / "exploring.md"):
        exec(code, names)
    assert names["z"].shape == (64, 128) and names["samples"].shape == (64, 28, 28, 1)
    written = [name for code in listings(ROOT / "docs" / "exploring.md")
               for name in re.findall(r'path="(.+?)"', code)]  # fmt: skip
    assert len(written) == 10 and [name for name in written if not Path(name).exists()] == []


def test_listings_of_the_page_on_text_run(users_files, tiny):
    page, names = ROOT / "docs" / "text.md", {}
    for code in listings(page):
        exec(code, names)
    for command in re.findall(r"^\$ keras-genai (.*)$", text_of(page), re.MULTILINE):
        assert callable(cli._parse(shlex.split(command)).run)
    for path in re.findall(r'`fit\("([^"]+)"\)`', text_of(page)):
        assert data.load(path, modality="text").train.documents
    assert names["poems"].train.documents[0].startswith("author: 王維\ntitle: 鹿柴\n\n空山")
    assert Path("王維.html").exists() and Path("李白.html").exists()


def test_page_on_exploring_names_each_function():
    named = re.findall(r"^\| `(\w+)` \|", text_of(ROOT / "docs" / "exploring.md"), re.MULTILINE)
    assert sorted(named) == sorted(name for name in explore.__all__ if name not in EXPLORE_TOOLS)


def test_own_data_of_the_readme_load(users_files):
    section = re.search("^## Your own data$(.*?)^## ", text_of(ROOT / "README.md"), re.M | re.S)[1]
    calls = re.findall(r"`(fit\([^`]+\))`", section)
    names = {
        "fit": lambda source, y=None, **options: data.load(source, y, **options).train,
        "x": images(8),
        "y": np.arange(8),
        "data": data,
        "matrix": np.full((40, 6), 5),
        "dataset": tf.data.Dataset.from_tensor_slices(images(8)).batch(4),
    }
    assert len(calls) > 8
    for call in calls:
        name = re.fullmatch(r'fit\("(\w+)"\)', call)
        if name and name[1] in KNOWN:
            continue  # has to be downloaded
        x = images(8) / 127.5 - 1 if "(-1, 1)" in call else names["x"]
        assert eval(call, {**names, "x": x}).modality in ("image", "text", "ratings"), call


def test_example_of_a_new_model_is_its_file():
    (code,) = [code for code in listings(ROOT / "CONTRIBUTING.md") if "def lsgan(" in code]
    assert code == text_of(ROOT / "keras_genai" / "models" / "gans" / "lsgan.py")
