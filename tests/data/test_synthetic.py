import random
import string

import numpy as np
import pytest

from keras_genai import data
from keras_genai.data import synthetic


@pytest.fixture(scope="module")
def glyphs():
    return data.load("glyphs")


@pytest.mark.parametrize(("name", "classes"), [("glyphs", 62), ("digits", 10), ("shapes", 3)])
def test_counts_keys_and_balance(name, classes):
    dataset = data.load(name)
    for part, count in synthetic.COUNTS.items():
        arrays = getattr(dataset, part).arrays()
        assert arrays["image"].shape == (count, 28, 28, 1)
        assert arrays["image"].dtype == np.uint8
        per_class = np.bincount(arrays["label"], minlength=classes)
        assert per_class.min() > 0.85 * count / classes
        ink = arrays["image"].mean(axis=(1, 2, 3))
        assert ink.min() > 1  # nothing is blank, even a thin l
        assert ink.max() < 120  # white on black
    assert dataset.train.num_classes == classes


def test_the_fonts_of_the_test_part_are_of_other_families(glyphs):
    fonts = {p: set(getattr(glyphs, p).arrays()["font"].tolist()) for p in synthetic.COUNTS}
    named = {part: {synthetic.FONTS[i] for i in numbers} for part, numbers in fonts.items()}
    assert named["train"] == named["validation"] == set(synthetic.TRAIN_FONTS)
    assert named["test"] == set(synthetic.TEST_FONTS)
    assert named["train"].isdisjoint(named["test"])


def test_every_character_differs_from_the_others_in_every_font():
    characters = synthetic.LETTERS + string.digits
    bitmaps = synthetic._bitmaps(characters, 56)
    assert len(bitmaps) == 62 * len(synthetic.FONTS)
    for f in range(len(synthetic.FONTS)):
        drawn = np.stack([np.asarray(bitmaps[f, c]) for c in range(62)])
        assert drawn.max(axis=(1, 2)).min() > 200
        # A font without letters shows the same box for all of them.
        assert len({image.tobytes() for image in drawn}) >= 61
        # Nothing is cut off at the edge.
        assert max(drawn[:, [0, -1]].max(), drawn[:, :, [0, -1]].max()) == 0


def test_letters_can_be_told_apart_by_their_means(glyphs):
    """A nearest-mean classifier reads half of the held-out fonts; chance is 1 in 62."""
    train, test = glyphs.train.arrays(), glyphs.test.arrays()
    flat = train["image"].reshape(len(train["image"]), -1) / 255.0
    means = np.stack([flat[train["label"] == c].mean(axis=0) for c in range(62)])
    x = test["image"].reshape(len(test["image"]), -1) / 255.0
    distance = (means**2).sum(axis=1) - 2 * x @ means.T
    assert np.mean(distance.argmin(axis=1) == test["label"]) > 0.4


@pytest.mark.parametrize("name", ["digits", "shapes"])
def test_drawn_the_same_whatever_the_global_seeds(name):
    drawn = []
    for seed in (1, 2):
        random.seed(seed)
        np.random.seed(seed)
        synthetic._drawn.cache_clear()
        drawn.append(data.load(name).train.fingerprint)
    assert drawn[0] == drawn[1]


def test_kept_for_the_process_and_drawn_at_other_sizes(monkeypatch):
    assert data.load("glyphs").train is data.load("glyphs").train
    monkeypatch.setattr(synthetic, "COUNTS", {"train": 20, "validation": 10, "test": 10})
    large = data.load("digits", image_shape=(20, 48, 3)).train
    assert large.image_shape == (20, 48, 3)
    images = large.arrays()["image"]
    np.testing.assert_array_equal(images[..., 0], images[..., 2])
    assert images[:, :, :10].max() == 0  # the digit is in the middle of the wide picture
    assert images[:, :, 14:34].max() > 200


def test_factors_of_shapes_are_distinct_and_true():
    parts = data.load("shapes")
    arrays = [getattr(parts, part).arrays() for part in synthetic.COUNTS]
    keys = ("label", *synthetic.FACTORS)
    rows = np.concatenate([np.stack([a[key] for key in keys], axis=1) for a in arrays])
    assert len(np.unique(rows, axis=0)) == len(rows)
    a = arrays[0]
    image = a["image"][..., 0] / 255.0
    area = image.sum(axis=(1, 2))
    columns = (image * (np.arange(28) + 0.5)).sum(axis=(1, 2)) / area
    rows = (image * (np.arange(28) + 0.5)[:, None]).sum(axis=(1, 2)) / area
    symmetric = a["label"] != 2  # a heart's centre of mass is not its origin
    room = 28 * (1 - synthetic.LARGEST)
    np.testing.assert_allclose(
        columns[symmetric], (14 + (a["x"] - 0.5) * room)[symmetric], atol=0.3
    )
    np.testing.assert_allclose(rows[symmetric], (14 + (a["y"] - 0.5) * room)[symmetric], atol=0.3)
    square = a["label"] == 0
    side = 0.7 * a["scale"][square] * synthetic.LARGEST * 28
    np.testing.assert_allclose(area[square], side**2, rtol=0.04)


@pytest.mark.parametrize("name", ["pydocs", "stdlib"])
def test_texts_have_three_parts_without_overlap(name):
    dataset = data.load(name)
    parts = [dataset.train, dataset.validation, dataset.test]
    sizes = np.array([len(part.text) for part in parts])
    assert 0.75 < sizes[0] / sizes.sum() < 0.92
    assert (sizes[1:] / sizes.sum() > 0.045).all()
    assert 200_000 < sizes.sum() < 4_100_000
    documents = [set(part.documents) for part in parts]
    assert documents[0].isdisjoint(documents[1] | documents[2])
    assert data.load(name).train.fingerprint == dataset.train.fingerprint


def runs(text):
    """All 50 characters in a row, line breaks and indentation as single blanks."""
    line = " ".join(text.split())
    return (line[i : i + 50] for i in range(len(line) - 49))


def copied(texts, others):
    """The share of the characters of texts that lie in runs of 50 or more that others have too."""
    wanted = {run for text in texts for run in runs(text)}
    known = {run for text in others for run in runs(text) if run in wanted}
    inside = total = 0
    for text in texts:
        hits = [0.0, *(run in known for run in runs(text))]
        inside += (np.convolve(hits, np.ones(50))[1:] > 0.5).sum()
        total += len(" ".join(text.split()))
    return inside / total


def test_the_share_that_was_copied_is_counted_by_characters():
    rng = np.random.default_rng(0)
    a, b, c = ("".join(rng.choice([*string.ascii_letters], 100)) for _ in range(3))
    assert copied([a], [b, c]) == 0
    assert copied([a, b], [c + a]) == 0.5
    assert copied([a[:70] + b + a[:49]], [c + a]) == 70 / 219
    assert copied([a[:40] + "\n   " + a[40:]], [a[:40] + " " + a[40:]]) == 1
    assert copied(["short", a], [a + "short"]) == 100 / 105


def test_no_part_of_pydocs_quotes_another():
    dataset = data.load("pydocs")
    parts = [dataset.train.documents, dataset.validation.documents, dataset.test.documents]
    assert [copied(parts[a], parts[b]) for a, b in [(1, 0), (2, 0), (2, 1)]] == [0, 0, 0]
    paragraphs = [
        " ".join(paragraph.split())
        for documents in parts
        for document in documents
        for paragraph in document.split("\n\n")
    ]
    assert len(set(paragraphs)) == len(paragraphs) > 1000
    assert all(len(documents) >= 5 for documents in parts)
    from pydoc_data.topics import topics

    # The pages as they come do quote each other.
    assert copied([topics["customization"]], [topics["specialnames"]]) > 0.9


def test_little_of_the_test_part_of_stdlib_is_in_its_training_part():
    dataset = data.load("stdlib")
    # Under Python 3.11, 3.12 and 3.13: 1.2, 0.9 and 0.6 %, idioms and words of licences.
    assert copied(dataset.test.documents, dataset.train.documents) < 0.025


def test_texts_that_share_a_quotation_are_in_one_group():
    rng = np.random.default_rng(0)
    a, b, c, d = ("".join(rng.choice([*string.ascii_letters], 60)) for _ in range(4))
    assert synthetic._related([a, b, c, d]) == [[a], [b], [c], [d]]
    assert synthetic._related([a, b, c, b[:49] + a[:49]]) == [[a], [b], [c], [b[:49] + a[:49]]]
    bridge = "x" + b[5:55] + "\n  y" + a[:50]
    assert synthetic._related([a, b, c, bridge, "short"]) == [[c], [b, a, bridge], ["short"]]


def test_stdlib_holds_sources_and_no_tests_or_other_packages():
    from pathlib import Path

    names = synthetic._sources(Path(synthetic.sysconfig.get_path("stdlib")))
    assert {"json", "dataclasses", "asyncio"} <= set(names)
    assert not {"test", "site-packages", "idlelib", "encodings"} & set(names)
    files = [path for paths in names.values() for path in paths]
    assert not [path for path in files if "tests" in path.parts]
    assert "import " in data.load("stdlib").train.text
