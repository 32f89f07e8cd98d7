"""Publishing: from measured runs to entries, cards and tables, and back to a run."""

import json
import os
import re
import shutil
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from contract_data import METRIC, images, measured_run, text, tiny
from PIL import Image

from keras_genai import cli, tokenizers, zoo
from keras_genai import data as dataset
from keras_genai import measuring as measuring_module
from keras_genai.data.licences import LICENCES, licence_of
from keras_genai.zoo import cards, generated, published, publishing, registry, weights

X = images(24, (8, 8, 1))
PARTS = dataset.Dataset("array", dataset.load(X).train, test=dataset.load(X[:9]).train)
OF_DATA = {"data": X, "licence": "CC0", "credit": "Nobody in particular"}


@pytest.fixture
def eagerly():
    """A few steps are quicker without a graph."""
    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three measured runs that differ in their seed, with FD-blobs of 1, 2 and 3."""
    root = tmp_path_factory.mktemp("runs")
    copies = {**METRIC, "name": "copies", "value": 0.0}
    return [
        measured_run(
            root / str(seed), tiny("gan", data=X, seed=seed), X, {**METRIC, "value": seed}, copies
        )
        for seed in (1, 2, 3)
    ]


@pytest.fixture(scope="module")
def published_once(runs, tmp_path_factory):
    """The content of an entry and its folder, to look at only."""
    folder = publish(runs[:1], tmp_path_factory.mktemp("catalogue"))
    return published.read(folder), folder


@pytest.fixture
def catalogue(tmp_path):
    return tmp_path / "zoo"


@pytest.fixture
def run(runs, tmp_path):
    """A copy of the first run, to be spoiled."""
    return Path(shutil.copytree(runs[0], tmp_path / "run"))


def change(path, **changes):
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def publish(runs, catalogue, **options):
    return zoo.publish(runs, "blobs", catalogue=catalogue, **{**OF_DATA, **options})


# What an entry holds ----------------------------------------------------------------------------


def test_an_entry_says_all_that_is_known(runs, catalogue):
    folder = publish(runs[:1], catalogue, references=[("FD-blobs", 0.5, "other blobs")])
    assert {path.name for path in folder.iterdir()} == {
        "README.md", "entry.json", "history.csv", "model.weights.npz", "samples.png",
    }  # fmt: skip
    assert [path.name for path in catalogue.iterdir()] == ["gan.blobs"]
    entry = published.read(folder)
    assert entry["arguments"]["image_shape"] == [8, 8, 1] and entry["arguments"]["seed"] == 1
    assert entry["data"]["train"] == 24 and entry["data"]["fingerprint"]
    assert entry["versions"].keys() == {"keras_genai", "keras", "tensorflow", "python"}
    assert "cores of" in entry["hardware"]
    assert len(entry["commit"].removesuffix("-dirty")) == 40
    with np.load(folder / weights.NAME) as arrays:
        assert sum(array.size for array in arrays.values()) == entry["parameters"]
        assert {name.partition("/")[0] for name in arrays} == {"generator"}
    (row, _) = entry["metrics"]
    assert (row["value"], row["standard_deviation"], row["reference"]) == (1.0, None, 0.5)
    with Image.open(folder / "samples.png") as picture:
        assert "generated" in picture.text["Comment"] and picture.text["Model"] == "gan.blobs"


def test_a_card_tells_what_a_person_wants_to_know(runs, catalogue):
    folder = publish(
        runs, catalogue, limits="Blobs are round.", references=[("FD-blobs", 0.5, "real blobs")]
    )
    card = (folder / "README.md").read_text("utf-8")
    for words in (
        "](samples.png)", 'zoo.get("gan", weights="blobs")', "keras-genai generate gan.blobs",
        "keras-genai reproduce gan.blobs --data PATH",
        "| lower, to 0 | 1 (0.1) | 2 ± 1 | 0.5 (real blobs) | 1,000 | blobs |",
        "3 trainings, with the seeds 1, 2, 3", "| 0 (0.1) | 0 ± 0 |", "- Blobs are round.",
        "Nobody in particular; licence: CC0",
    ):  # fmt: skip
        assert words in card, words
    assert card.index("samples.png") < 200, "the picture comes first"
    before, after = card.split("## Is it memorised?")
    assert "| copies" not in before and "| copies" in after and "not with FID" in before
    assert "keras-genai train" not in card, "these data have no name"


def test_a_card_shows_the_command_only_if_there_is_one(published_once):
    entry, folder = published_once
    named = {**entry, "data": {**entry["data"], "name": "digits"}}
    card = cards.card(named, folder)
    assert re.search(r"\$ keras-genai train gan --data digits --epochs 0 .*--seed 1\n", card)
    assert "steps_per_epoch" not in card, "all full batches are the default"
    assert "keras-genai reproduce gan.blobs`" in card
    short = cards.card({**named, "steps_per_epoch": 2}, folder)
    assert re.search(r"\$ keras-genai train gan .*--steps_per_epoch 2 .*\n", short)
    # No option says this.
    without = cards.card({**named, "shuffle": False}, folder)
    assert "keras-genai train" not in without and "| Parameters |" not in card
    assert re.search(r"\| Parameters \| `latent_dim=8`, .*`; the others as by default \|", without)
    assert "seed=" not in without.split("## How it was trained")[1]


@pytest.mark.parametrize(
    ("metrics", "verdict"),
    [
        ({"closer_to_train": 0.5, "copies": 0.0}, "No sign of it: samples are no closer .*, and 0"),
        ({"closer_to_train": 0.9, "copies": 0.0}, "There are signs of it: samples are closer to"),
        ({"closer_to_train": 1.0}, "There are signs of it: samples are closer to"),
        ({"closer_to_train": 0.0}, "No sign of it: samples are no closer to"),
        ({"copies": 0.2}, "There are signs of it: 200 of 1,000 samples are copies"),
        ({"longest_copy": 40}, "No sign of it: phrases, not passages,.* longest of 40 characters"),
        ({"longest_copy": 400}, "There are signs of it: passages .* longest of 400 characters"),
    ],
)  # fmt: skip
def test_a_card_says_in_words_whether_it_is_memorised(published_once, metrics, verdict):
    entry, folder = published_once
    (row, _) = entry["metrics"]
    rows = [
        {**row, "name": name, "values": [value],
         "standard_error": measuring_module._share_error(value, row["samples"])}
        for name, value in metrics.items()
    ]  # fmt: skip
    after = cards.card({**entry, "metrics": rows}, folder).split("## Is it memorised?\n\n")[1]
    assert re.match(verdict, after)


def test_closeness_of_samples_that_are_far_off_says_nothing(published_once):
    entry, folder = published_once
    row, _ = entry["metrics"]
    copies = {**row, "name": "copies", "values": [0.0]}
    for precision, said in ((0.004, True), (0.5, False)):
        rows = [{**row, "name": "precision", "values": [precision]}, copies]
        card = cards.card({**entry, "metrics": rows}, folder)
        assert ("That says nothing here" in card) == said


def test_a_card_speaks_of_a_clone_only_in_one(published_once):
    entry, folder = published_once
    own, of_checkout = (folder / "README.md").read_text("utf-8"), cards.card(entry, folder)
    for words in ("make index", "clone"):
        assert words not in own and words in of_checkout
    assert "`KERAS_GENAI_ZOO` names the folder in which `gan.blobs/` lies" in own


def test_a_card_explains_every_metric():
    assert {*measuring_module.METRICS} == {*cards.MEANINGS}


def test_a_likelihood_says_of_what_it_is(published_once):
    entry, folder = published_once
    rows = [{**entry["metrics"][0], "name": "nll"}]
    for recipe, arguments, words in (
        ("vae", {}, "averaged over all ways"),
        ("iwae", {"binarize": True}, "drawn once by the seed"),
        ("vae", {"likelihood": "gaussian"}, "a density"),
        ("vae", {"likelihood": "discretized_logistic"}, "256 levels"),
        ("gan", {}, "recipe's own model"),
    ):
        arguments = {"image_shape": entry["arguments"]["image_shape"], **arguments}
        entry = {**entry, "metrics": rows, "recipe": recipe, "arguments": arguments}
        (sentence,) = re.findall("`nll` is .*", cards.card(entry, folder))
        assert words in sentence


def test_a_card_of_text_begins_with_text(tmp_path, catalogue):
    data = text()
    model = tiny("char_rnn", data=data)
    run = measured_run(tmp_path / "run", model, data)
    folder = publish([run], catalogue, data=data)
    samples = (folder / "samples.txt").read_text("utf-8")
    card = (folder / "README.md").read_text("utf-8")
    assert card.startswith(f"# char_rnn.blobs\n\n    {samples.splitlines()[0]}".rstrip())
    assert f"{len(model.vocabulary)} characters" in card and "Not checked" in card
    assert "context of 12" in card and "`max_length` counts characters" in card
    assert "goes on with a text" in card and "keras_genai[text]" not in card
    golden = published.read(folder)["golden"]
    assert golden["values"] == samples[: published.GOLDEN_CHARACTERS]
    for end, difference in (("", 0), ("?", 1), ("??", 2)):
        other = golden["values"][: 100 - len(end)] + end
        assert published.golden_difference([other], golden) == difference
    change(run / "metrics.json", num_samples=99)
    with pytest.raises(ValueError, match=r"are of 100 samples at least.*Received: 99 "):
        publish([run], catalogue, data=data, overwrite=True)


def card_of_text(entry, folder, recipe, tokenizer, vocabulary):
    """A card as if the entry were one of text."""
    (folder / "samples.txt").write_text("a text")
    arguments = {"tokenizer": tokenizer, "vocabulary": vocabulary}
    changes = {"modality": "text", "task": "prompt", "samples": "samples.txt", "recipe": recipe}
    return cards.card({**entry, **changes, "arguments": arguments}, folder)


def test_a_card_of_text_says_what_its_tokens_need(published_once, tmp_path):
    pytest.importorskip("tokenizers")
    vocabulary = tokenizers.learn("bpe", ["a b"], [], 257)
    card = card_of_text(published_once[0], tmp_path, "gpt", "bpe", vocabulary)
    for words in ("tokenizer `bpe`", "`max_length` counts tokens", '"keras_genai[text]"'):
        assert words in card


@pytest.mark.parametrize(
    ("tokenizer", "vocabulary", "gap"),
    [
        ("characters", " Oceonu", "Once u[MASK]on"),
        ("characters", "床前明月", 5 * "[MASK]"),
        ("bytes", "", "Once u[MASK]on"),
        ("words", '["Once", "a", "time"]', "Once [MASK] a time"),
    ],
)
def test_a_card_of_a_model_that_fills_gaps_fills_one(
    published_once, tmp_path, tokenizer, vocabulary, gap
):
    card = card_of_text(published_once[0], tmp_path, "bert", tokenizer, vocabulary)
    assert f'text = "{gap}"  # at most 64 {tokenizer}\nprint(model.fill(text))\n' in card
    assert "It fills gaps" in card and "goes on with" not in card


def test_large_weights_are_halved_and_the_card_says_so(tmp_path, catalogue, monkeypatch):
    runs = [measured_run(tmp_path / "run", tiny("gan", data=X, hidden_units=256), X)]
    whole = publish(runs[:1], catalogue)
    model = zoo.load(whole)
    monkeypatch.setattr(weights, "MAX_BYTES", 4 * published.read(whole)["parameters"])
    half = publish(runs[:1], catalogue.parent / "other")
    sizes = [(folder / weights.NAME).stat().st_size for folder in (whole, half)]
    assert published.read(half)["weights"]["dtype"] == "float16" and sizes[1] < 0.7 * sizes[0]
    assert "before they were rounded" in (half / "README.md").read_text("utf-8")
    rounded = zoo.load(half)
    assert published.golden_difference(rounded.preview(), published.read(half)["golden"]) == 0
    difference = model.preview().astype(int) - rounded.preview()
    assert 0 < abs(difference).max() <= 2
    monkeypatch.setattr(weights, "MAX_BYTES", 5000)
    with pytest.raises(ValueError, match=r"at most 5,000 bytes.*Received: .*weights\.npz \d"):
        publish(runs[:1], catalogue.parent / "third")
    assert list((catalogue.parent / "third").iterdir()) == []


def test_an_average_is_published_in_place_of_its_network(tmp_path, catalogue):
    model = tiny("dcgan", data=X)
    model.ema_generator.set_weights([w + 0.1 for w in model.ema_generator.get_weights()])
    folder = publish([measured_run(tmp_path / "run", model, X)], catalogue)
    loaded = zoo.load(folder)
    for network in (loaded.generator, loaded.ema_generator):
        for value, expected in zip(network.weights, model.ema_generator.weights, strict=True):
            np.testing.assert_array_equal(value, expected)


# Faults -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (lambda run: (run / "metrics.json").unlink(), {}, "not measured yet: `keras-genai meas"),
        (lambda run: os.utime(run / "metrics.json", (1, 1)), {}, "went on after it was measured"),
        (
            lambda run: change(run / "metrics.json", metrics=[{**METRIC, "split": "validation"}]),
            {}, "from the test part: .*Received: FD-blobs",
        ),
        (
            lambda run: change(run / "metrics.json", data="others"),
            {}, "measured on other data.*Received: data 'others' .* the run has 'array'",
        ),
        (
            lambda run: change(run / "metrics.json", data_fingerprint="0"),
            {}, "measured on other data.*Received: data_fingerprint '0'",
        ),
        (
            lambda run: (run / "metrics.json").write_text('{"data": "array", "metrics": []}'),
            {}, "measure it again, with `keras-genai measure .*Received: no 'data_fingerprint'",
        ),
        (
            lambda run: (run / "history.csv").write_text("epoch,step\n2,6\n"),
            {}, "an earlier `fit` had trained.*Received: .*epoch 2 at step 6, with 3 steps",
        ),
        (
            lambda run: (run / "history.csv").write_text("epoch,step\n1,4\n"),
            {}, "an earlier `fit` had trained.*Received: .*epoch 1 at step 4",
        ),
        (
            lambda run: change(run / "metrics.json", num_samples=5),
            {"data": PARTS}, "9 samples at least: measure again without --samples.*Received: 5 in",
        ),
        (lambda run: (run / "config.json").unlink(), {}, "not a run folder"),
        (lambda run: change(run / "config.json", recipe="GAN"), {}, "No recipe of this name"),
        (lambda run: None, {"data": X[:9]}, r"not the data of the run; name them with --data"),
        (lambda run: None, {"licence": None}, r"--licence and --credit; .*licence=None"),
        (lambda run: None, {"references": [("FID", 1, "")]}, "no such metric to compare.*FID"),
    ],
)  # fmt: skip
def test_what_cannot_be_published_leaves_nothing_behind(run, catalogue, spoil, options, message):
    spoil(run)
    with pytest.raises(ValueError, match=message) as error:
        publish([run], catalogue, **options)
    assert "Received: " in str(error.value)
    assert not catalogue.exists() or list(catalogue.iterdir()) == []


def test_weights_that_are_not_finite_are_not_published(run, catalogue):
    model = zoo.load(run)
    model.generator.weights[0].assign(model.generator.weights[0] * np.nan)
    model.save(run / "checkpoint.keras")
    shutil.copy(run / "metrics.json", run / "later.json")
    os.replace(run / "later.json", run / "metrics.json")
    with pytest.raises(ValueError, match=r"must be finite.*generator/00_kernel"):
        publish([run], catalogue)
    assert list(catalogue.iterdir()) == []


@pytest.mark.parametrize("tag", ["", "Blobs", "a.b", "../a", "a/b"])
def test_a_tag_is_a_word(run, catalogue, tag):
    with pytest.raises(ValueError, match=r"A tag is made of small letters.*Received: "):
        zoo.publish([run], tag, catalogue=catalogue, **OF_DATA)


def test_an_entry_is_replaced_only_when_asked(runs, catalogue):
    publish(runs[:1], catalogue)
    with pytest.raises(ValueError, match=r"--overwrite.*Received: "):
        publish(runs[1:2], catalogue)
    assert published.read(catalogue / "gan.blobs")["seed"] == 1
    publish(runs[1:2], catalogue, overwrite=True)
    assert published.read(catalogue / "gan.blobs")["seed"] == 2
    assert [path.name for path in catalogue.iterdir()] == ["gan.blobs"]


def test_outside_a_checkout_a_catalogue_must_be_named(run, monkeypatch, tmp_path):
    monkeypatch.setattr(published, "CATALOGUE", tmp_path / "absent")
    with pytest.raises(ValueError, match=r"say with --zoo.*Received: "):
        publish([run], None)


def test_the_catalogue_of_the_environment_comes_first(run, catalogue, monkeypatch):
    monkeypatch.setenv("KERAS_GENAI_ZOO", str(catalogue))
    assert publish([run], None) == catalogue / "gan.blobs"


def test_licences_of_known_data_are_known():
    assert licence_of("mnist").licence == "CC BY-SA 3.0"
    assert licence_of("mnist", "MIT", "me") == ("MIT", "me")
    assert all(licence and credit for licence, credit in LICENCES.values())


# Several seeds ----------------------------------------------------------------------------------


def test_several_seeds_give_a_mean_and_a_spread(runs, catalogue):
    entry = published.read(publish([runs[2], *runs[:2]], catalogue))
    row = entry["metrics"][0]
    assert (row["value"], row["standard_deviation"], row["values"]) == (2.0, 1.0, [3, 1, 2])
    assert entry["seed"] == 3 and row["seeds"] == [3, 1, 2]


def test_only_the_seed_may_differ(run, runs, catalogue):
    with pytest.raises(ValueError, match=r"different seeds. Received: seeds \[1, 1\]"):
        publish([run, runs[0]], catalogue)
    config = json.loads((run / "config.json").read_text())
    change(run / "config.json", arguments={**config["arguments"], "learning_rate": 1.0})
    with pytest.raises(ValueError, match=r"in their seed alone\. Received: learning_rate of"):
        publish([runs[1], run], catalogue)
    change(run / "config.json", arguments=config["arguments"], batch_size=9)
    with pytest.raises(ValueError, match=r"in their seed alone\. Received: batch_size of"):
        publish([runs[1], run], catalogue)
    change(run / "config.json", batch_size=8)
    other = {"shuffle": False, "validation_split": 0.1, "versions": {"keras_genai": "0"}}
    for key, value in other.items():
        change(run / "config.json", **{key: value})
        found = {"versions": "keras_genai"}.get(key, key)
        with pytest.raises(ValueError, match=rf"in their seed alone\. Received: {found} of"):
            publish([runs[1], run], catalogue)
        change(run / "config.json", **{key: config[key]})
    change(run / "metrics.json", metrics=[{**METRIC, "samples": 999}])
    with pytest.raises(ValueError, match=r"measured alike\. Received: FD-blobs"):
        publish([runs[1], run], catalogue)


def test_a_reproduced_run_is_one_of_the_experiment(run, runs, catalogue):
    """`reproduce` passes what the data settled in the published run."""
    config = json.loads((run / "config.json").read_text())
    assert config["arguments"]["image_shape"] is None
    change(run / "config.json", arguments={**config["arguments"], **config["settled"]})
    assert len(published.read(publish([run, runs[1]], catalogue))["trainings"]) == 2


def test_a_run_from_before_a_parameter_had_its_default(run, runs, catalogue):
    config = json.loads((run / "config.json").read_text())
    older = {key: value for key, value in config["arguments"].items() if key != "learning_rate"}
    change(run / "config.json", arguments=older)
    for order in ([runs[1], run], [run, runs[1]]):
        assert len(published.read(publish(order, catalogue, overwrite=True))["trainings"]) == 2
    config["arguments"]["learning_rate"] = 1.0
    shutil.copytree(runs[1], run.parent / "other")
    change(run.parent / "other" / "config.json", seed=2, arguments=config["arguments"])
    with pytest.raises(ValueError, match=r"Received: learning_rate of"):
        publish([run, run.parent / "other"], catalogue, overwrite=True)


def of_length(path, seed, steps, seconds):
    model = tiny("gan", data=X, seed=seed)
    model.progress.step, model.progress.milliseconds = steps, 1000 * seconds
    return measured_run(path, model, X)


def test_only_trainings_of_one_length_are_averaged(tmp_path, catalogue):
    """By the clock they may differ a little, and the card says how much."""
    one, more, ten = (
        of_length(tmp_path / str(seed), seed, steps, seconds)
        for seed, steps, seconds in ((1, 30, 60), (2, 34, 61), (3, 300, 60))
    )
    with pytest.raises(
        ValueError, match=r"equally long.*Received: 300 steps in 60\.0 s of .*, 30 "
    ):
        publish([one, ten], catalogue)
    folder = publish([one, more], catalogue)
    entry = published.read(folder)
    assert (entry["steps"], [training["steps"] for training in entry["trainings"]]) == (
        30,
        [30, 34],
    )
    assert "30 (30 to 34 in the 2 trainings)" in (folder / "README.md").read_text("utf-8")


def test_how_long_trainings_by_the_clock_may_differ():
    def check(steps, seconds):
        lengths = [(100, 100.0), (100, 200.0), (steps, seconds)]
        trainings = [{"steps": n, "wall_seconds": s} for n, s in lengths]
        publishing.check_one_length(["a", "b", "c"], trainings)

    check(100, 10.0)  # as many steps on another computer
    check(124, 104.0)
    for steps, seconds in ((126, 100.0), (79, 100.0), (101, 106.0)):
        with pytest.raises(ValueError, match=rf"5% .* 20% .*Received: {steps} steps"):
            check(steps, seconds)


# Generated pages --------------------------------------------------------------------------------


def test_pages_follow_from_the_entries(runs, catalogue, tmp_path, monkeypatch):
    """As in a checkout: `publish` writes index, tables and cards anew."""
    marks = *generated.GALLERY, *generated.MODELS, *generated.ENTRIES
    for page in (tmp_path / "README.md", catalogue / "README.md"):
        page.parent.mkdir(exist_ok=True)
        page.write_text("\n".join(["before", *marks, "after"]))
    monkeypatch.setattr(published, "CATALOGUE", catalogue)
    monkeypatch.setattr(registry, "INDEX", tmp_path / "index.json")
    folder = publish(runs, None)
    index = registry.stored_index()
    assert index["entries"]["gan.blobs"]["sha256"] == published.read(folder)["weights"]["sha256"]
    assert "[gan.blobs](zoo/gan.blobs/README.md)" in (tmp_path / "README.md").read_text()
    assert "(zoo/gan.blobs/samples.png)" in (tmp_path / "README.md").read_text()
    overview = (catalogue / "README.md").read_text()
    assert "| [gan.blobs](gan.blobs/README.md) | `array` |" in overview
    assert "FD-blobs 2 ± 1" in overview and overview.startswith("before")

    def stale():
        pages = generated.pages(catalogue)
        return {path for path, text in pages.items() if path.read_text("utf-8") != text}

    assert stale() == set()
    change(folder / "entry.json", licence="another")
    assert stale() == {folder / "README.md", catalogue / "README.md", tmp_path / "README.md"}
    generated.write()
    assert stale() == set()
    monkeypatch.setattr(published, "CATALOGUE", tmp_path / "absent")
    generated.write()  # as in an installed package
    assert registry.stored_index() == index


def test_recipes_may_get_parameters_after_an_entry(runs, catalogue):
    folder = publish(runs, catalogue)
    entry, samples = published.read(folder), published.load(folder).generate(2, seed=0)
    older = {key: value for key, value in entry["arguments"].items() if key != "learning_rate"}
    change(folder / "entry.json", arguments=older)
    assert cards.card(published.read(folder), folder, False) == (folder / "README.md").read_text(
        "utf-8"
    )
    np.testing.assert_array_equal(published.load(folder).generate(2, seed=0), samples)


def test_entries_of_this_checkout_are_as_published():
    for path in published.CATALOGUE.glob(f"*.*/{published.ENTRY}"):
        entry = published.read(path.parent)
        model = zoo.load(path.parent)
        golden = entry["golden"]
        assert published.golden_difference(model.preview(), golden) <= golden["tolerance"], entry[
            "name"
        ]
        size = sum(file.stat().st_size for file in path.parent.iterdir())
        assert size <= weights.MAX_BYTES, entry["name"]


# Reproducing ------------------------------------------------------------------------------------


@pytest.fixture
def measuring(monkeypatch):
    """In place of the metrics: the mean of what the model makes."""

    def measure(model, data, num_samples=9, seed=0):
        value = float(model.generate(num_samples, seed=seed).mean())
        row = {**METRIC, "name": "IS", "value": value + module.offset, "samples": num_samples}
        parts = model.open_data(data)
        fingerprint = model.prepare(parts.train).fingerprint
        facts = {
            "model": model.recipe, "data": parts.name, "data_fingerprint": fingerprint,
            "num_samples": num_samples, "seed": seed,
        }  # fmt: skip
        return types.SimpleNamespace(to_json=lambda: json.dumps({**facts, "metrics": [row]}))

    module = types.SimpleNamespace(measure=measure, offset=0.0)
    monkeypatch.setitem(sys.modules, "keras_genai.measuring", module)
    return module


def test_an_entry_is_reproduced(tmp_path, catalogue, monkeypatch, measuring, eagerly, capsys):
    """Five steps are an epoch of three and two more, as when the clock stops."""
    np.save(tmp_path / "blobs.npy", X)
    blobs, run = str(tmp_path / "blobs.npy"), tmp_path / "run"
    model = tiny("vae", seed=4)  # its step is not compiled with XLA, which rounds otherwise
    options = {"batch_size": 8, "epochs": 2, "verbose": 0, "run_dir": run}
    model.fit(blobs, callbacks=[publishing.StopAtStep(5)], **options)
    publishing.measured(model, blobs, {"num_samples": 8, "seed": 7})
    assert zoo.load(run).progress.step == 5
    zoo.publish([run], "blobs", catalogue=catalogue, **{**OF_DATA, "data": blobs})
    monkeypatch.setenv("KERAS_GENAI_ZOO", str(catalogue))

    command = ["reproduce", "vae.blobs", "--data", blobs, "--run_dir"]
    assert cli.main([*command, str(tmp_path / "again")]) == 0
    assert "vae.blobs is reproduced" in capsys.readouterr().out
    again = zoo.load(tmp_path / "again")
    assert again.progress.step == 5
    for value, expected in zip(again.weights, model.weights, strict=True):
        np.testing.assert_array_equal(value, expected)
    assert json.loads((tmp_path / "again" / "metrics.json").read_text())["seed"] == 7

    measuring.offset = 100.0
    assert cli.main([*command, str(tmp_path / "again")]) == 1  # trained already: measured only
    assert "vae.blobs is NOT reproduced" in capsys.readouterr().out
    np.save(tmp_path / "others.npy", X[::-1])
    command[3] = str(tmp_path / "others.npy")
    assert cli.main([*command, str(tmp_path / "third")]) == 2
    assert "not the data of the run" in capsys.readouterr().err


def test_what_began_with_other_weights_says_so_and_is_reproduced_from_them(
    tmp_path, catalogue, measuring, eagerly
):
    np.save(tmp_path / "blobs.npy", X)
    data, base = str(tmp_path / "blobs.npy"), tmp_path / "base.keras"
    options = {"batch_size": 8, "epochs": 1, "verbose": 0}
    model = tiny("vae", seed=4)
    model.fit(data, run_dir=False, **options)
    model.save(base)
    tuned = zoo.load(base, learning_rate=0.01, seed=5)
    tuned.fit(data, run_dir=tmp_path / "run", **options)
    publishing.measured(tuned, data, {"num_samples": 8, "seed": 7})
    options = {**OF_DATA, "data": data, "catalogue": catalogue}
    folder = zoo.publish([tmp_path / "run"], "tuned", **options)
    entry = published.read(folder)
    assert entry["begins_with"] == str(base)
    assert f"| Began with | the weights of `{base}` |" in (folder / "README.md").read_text()
    named = {**entry, "data": {**entry["data"], "name": "digits"}}
    assert f" --weights {base} " in cards.card(named, folder)
    zoo.reproduce(folder, data=data, run_dir=tmp_path / "again")
    for value, expected in zip(
        zoo.load(tmp_path / "again").weights, zoo.load(tmp_path / "run").weights, strict=True
    ):
        np.testing.assert_array_equal(value, expected)
    base.unlink()
    with pytest.raises(ValueError, match="There is nothing at this path"):
        zoo.reproduce(folder, data=data, run_dir=tmp_path / "third")


def test_how_far_a_reproduced_number_may_lie():
    row = {"value": 8.0, "standard_deviation": 0.2, "standard_error": 0.1, "samples": 1000}
    assert publishing.allowed(row) == 1.0
    assert publishing.allowed({**row, "standard_error": 0.5}) == 1.5
    assert publishing.allowed({**row, "standard_deviation": None}) == 2.0
    nothing = {"value": 0.0, "standard_deviation": 0.0, "standard_error": None, "samples": 1000}
    assert publishing.allowed(nothing) == 0.003


def test_only_like_is_compared_with_like():
    row = {**METRIC, "standard_deviation": None}
    entry = {"metrics": [row]}
    (compared,) = publishing.compare(entry, [{**METRIC, "value": 2.4}])
    assert compared["within"] and compared["new"] == 2.4
    for value in (2.6, float("nan")):
        assert not publishing.compare(entry, [{**METRIC, "value": value}])[0]["within"]
    with pytest.raises(ValueError, match=r"sample count are the same\. Received: .*FD-blobs"):
        publishing.compare(entry, [{**METRIC, "samples": 10}])


# The command line -------------------------------------------------------------------------------


def test_the_command_line_publishes(runs, catalogue, monkeypatch, capsys):
    monkeypatch.setattr(publishing, "_same_data", _array_for(publishing._same_data))
    words = ["publish", *map(str, runs), "--tag", "blobs", "--zoo", str(catalogue)]
    words += ["--licence", "CC0", "--credit", "Nobody"]
    assert cli.main([*words, "--reference", "FD-blobs", "much", "blobs"]) == 2
    assert "expected a number after --reference METRIC. Received: 'much'" in capsys.readouterr().err
    assert cli.main([*words, "--reference", "FD-blobs", "0.5", "blobs"]) == 0
    assert capsys.readouterr().out == f"{catalogue / 'gan.blobs'}\n"
    row = published.read(catalogue / "gan.blobs")["metrics"][0]
    assert (row["value"], row["reference"], row["reference_source"]) == (2.0, 0.5, "blobs")


def _array_for(same_data):
    """The data of these runs have no name."""
    return lambda model, config, data: same_data(model, config, X)
