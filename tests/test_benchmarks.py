"""The comparison of GANs: its page comes from run folders alone, its runs can be interrupted.

And the timing of steps: what is compared has the same networks and batches.
"""

import importlib.util
import itertools
import json
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from contract_data import METRIC, ratings, tiny, training_data

from keras_genai import data, metrics, zoo

FOLDER = Path(__file__).parents[1] / "benchmarks"


def script(name):
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def gans(monkeypatch, tmp_path):
    module = script("gans")
    monkeypatch.setattr(module, "PAGE", tmp_path / "gans.md")
    return module


SIZES = {"latent_dim": 4, "hidden_units": 8, "image_shape": None}


def made_up_run(data, name, seed, steps=3, value=7.0, **arguments):
    """What training and measuring leave behind, without the checkpoint."""
    config = {
        "recipe": name, "arguments": {**SIZES, **arguments}, "settled": {"image_shape": [8, 8, 1]},
        "seed": seed, "data": "blobs", "data_fingerprint": "", "batch_size": 8,
        "steps_per_epoch": 3, "versions": {"keras": "3"}, "hardware": "a machine", "commit": "c0",
    }  # fmt: skip
    metrics = [{**METRIC, "value": value}, {**METRIC, "name": "density", "value": 9.0}]
    folder = data / name / str(seed)
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "metrics.json").write_text(json.dumps({"metrics": metrics}))
    (folder / "history.csv").write_text(f"epoch,step,seconds\n1,2,0.1\n2,{steps},60.0\n")


def test_the_page_is_made_from_run_folders(gans, tmp_path):
    data = tmp_path / "runs" / "blobs"
    made_up_run(data, "gan", 0, steps=100, value=2.0)
    made_up_run(data, "gan", 1, steps=201, value=5.0)
    page = gans.page(tmp_path / "runs")
    heading, _, row = [line for line in page.splitlines() if line.startswith("|")]
    assert heading == "| recipe | trainings | parameters | steps | FD-blobs |"
    model = zoo.get("gan", **{**SIZES, "image_shape": (8, 8, 1)})
    networks = model.generator.count_params(), model.discriminator.count_params()
    parameters = " + ".join(f"{count:,}" for count in networks)
    assert row == f"| `gan` | 2 | {parameters} | 150 | 3.5 ± 2.1 |"
    assert "## blobs\n\nminutes: 1.0; batches of: 8; hardware: a machine; software: keras 3" in page
    assert "commit: c0; samples: 1,000 (test)\n" in page


def test_runs_that_differ_in_more_than_their_seed_are_not_averaged(gans, tmp_path):
    made_up_run(tmp_path / "blobs", "gan", 0)
    made_up_run(tmp_path / "blobs", "gan", 1, latent_dim=5)
    with pytest.raises(ValueError, match=r"differ in their seed alone.*latent_dim"):
        gans.page(tmp_path)


@pytest.fixture
def calls(gans, tmp_path, monkeypatch):
    """What `gans` has run, by the first word; each leaves behind what the real one would."""
    calls, clock = [], itertools.count()

    def command(*words):
        _, _, verb, *_ = words if words[0] == "-m" else (0, 0, "steps")
        calls.append(verb)
        run = tmp_path / str(words[-2] if verb == "steps" else words[-1]).rpartition("/")[2]
        if verb == "train":
            run = words[words.index("--run_dir") + 1]
        run.mkdir(exist_ok=True)
        path = run / ("metrics.json" if verb == "measure" else "checkpoint.keras")
        path.touch()
        os.utime(path, (time := next(clock), time))
        (run / "history.csv").write_text("epoch,step,seconds\n1,3,120.4\n")

    monkeypatch.setattr(gans, "command", command)
    return calls


def test_only_what_is_missing_is_done(gans, tmp_path, calls, monkeypatch):
    command, broken = gans.command, [True]

    def fail_once(*words):
        command(*words)
        if "measure" in words and broken:
            (tmp_path / "0" / "metrics.json").unlink()
            raise subprocess.CalledProcessError(broken.pop(), "measure")

    monkeypatch.setattr(gans, "command", fail_once)
    for minutes, expected in (
        (2, ["train", "measure"]),  # which fails, and does not end the others
        (2, ["measure"]),
        (2, []),
        (3, ["train", "measure"]),  # more minutes go on with the run
    ):
        calls.clear()
        gans.finish(tmp_path / "0", "gan", "mnist", 0, minutes)
        assert calls == expected


def test_further_trainings_make_as_many_steps_as_the_first(gans, tmp_path, calls):
    gans.finish(tmp_path / "1", "gan", "mnist", 1, 2)
    assert calls == [], "the first says how many"
    gans.finish(tmp_path / "0", "gan", "mnist", 0, 2)
    calls.clear()
    gans.finish(tmp_path / "1", "gan", "mnist", 1, 2)
    gans.finish(tmp_path / "1", "gan", "mnist", 1, 2)
    assert calls == ["steps", "measure"]


def test_a_training_ends_within_an_epoch(gans, tmp_path, monkeypatch):
    model = tiny("gan", seed=1)
    monkeypatch.setattr(zoo, "get", lambda name, seed: model)
    np.save(tmp_path / "images.npy", np.tile(training_data("gan"), (7, 1, 1, 1)))
    gans.train("gan", str(tmp_path / "images.npy"), "3", "1", tmp_path / "run")
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    row = gans.rows_of(tmp_path / "run")[-1]
    assert (config["steps_per_epoch"], row["epoch"], row["step"]) == (2, "2", "3")


@pytest.fixture
def likelihoods(monkeypatch, tmp_path):
    module = script("likelihoods")
    monkeypatch.setattr(module, "PAGE", tmp_path / "likelihoods.md")
    return module


def test_likelihoods_are_measured_once_a_checkpoint_and_make_a_page(
    likelihoods, tmp_path, monkeypatch
):
    x = {f"x_{part}": training_data("vae")[:n] for part, n in (("train", 40), ("test", 12))}
    np.savez(tmp_path / "blobs.npz", **x)
    monkeypatch.setattr(likelihoods, "PASSES", ((6, 12), (20, 5)))
    monkeypatch.chdir(tmp_path)
    folders = []
    for name, arguments in (("vae", {}), ("iwae", {"binarize": True})):
        model, folder = tiny(name, **arguments), tmp_path / name
        model.run_eagerly = True
        model.fit("blobs.npz", epochs=1, batch_size=20, run_dir=folder, verbose=0)
        config = json.loads((folder / "config.json").read_text())
        assert config["data"] == "blobs", "named sets only are found again"
        (folder / "config.json").write_text(json.dumps({**config, "data": "blobs.npz"}))
        likelihoods.finish(folder)
        folders.append(folder)
    found = [json.loads((folder / likelihoods.NAME).read_text()) for folder in folders]
    assert [f["likelihood"] for f in found] == ["binarized"] * 2, "the same images for both"
    assert [(r["k"], r["images"]) for r in found[0]["importance"]] == [(6, 12), (20, 5)]
    assert all(-f["elbo"] > f["importance"][0]["nll"] for f in found)
    monkeypatch.setattr(zoo, "load", None)  # nothing is measured again
    likelihoods.finish(folders[0])
    heading, _, first, second = [
        line for line in likelihoods.page(folders).splitlines() if line.startswith("|")
    ]
    assert "| k=6, 12 images | k=20, 5 images |" in heading and heading.count("-ELBO") == 1
    assert first.startswith("| `vae` | ") and "black and white images" in first
    assert "`binarize=True`" in second and f"{found[1]['importance'][0]['nll']:.2f} ±" in second


PLAIN = """
gan dcgan lsgan wgan wgan_gp sngan cgan acgan infogan vae cvae beta_vae iwae vae_gan vq_vae
"""


@pytest.mark.parametrize("name", PLAIN.split())
def test_a_plain_model_has_as_many_parameters_as_the_recipe(name):
    classes = {"num_classes": 10} if zoo.info(name).task == "labels" else {}
    ours = zoo.get(name, image_shape=(28, 28, 1), **classes)
    plain = getattr(script("plain"), name)()
    networks = "generator", "discriminator", "encoder", "decoder"
    there = [network for network in networks if hasattr(ours, network)]
    assert len(there) == (3 if name == "vae_gan" else 2)
    for network in there:
        counts = [getattr(model, network).count_params() for model in (plain, ours)]
        assert counts[0] == counts[1], network


@pytest.mark.parametrize(("name", "of_data"), [
    ("vae", {"image_shape": (28, 28, 1)}), ("mult_vae", {"catalogue": json.dumps([*range(400)])}),
])  # fmt: skip
def test_a_plain_autoencoder_has_as_many_parameters_as_the_recipe(name, of_data):
    ours, plain = zoo.get(name, **of_data), getattr(script("plain"), name)()
    assert plain.encoder.count_params() == ours.encoder.count_params()
    assert plain.decoder.count_params() == ours.decoder.count_params()


def test_steps_are_timed_on_the_recipes_batches_and_labels(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    step_time = script("step_time")
    recipes = {name: zoo.info(name) for name in step_time.BATCHES}
    assert {name: recipe.batch_size for name, recipe in recipes.items()} == step_time.BATCHES
    labelled = {name for name, recipe in recipes.items() if recipe.task == "labels"}
    assert labelled == set(step_time.LABELLED)


def test_ease_is_its_closed_form():
    """Equation 8 of Steck (2019), with the inverse that is never formed."""
    x = ratings(30).astype(float)
    inverse = np.linalg.inv(x.T @ x + 5 * np.eye(24))
    weights = np.eye(24) - inverse / np.diag(inverse)
    assert np.abs(np.diag(weights)).max() < 1e-12
    history = ratings(7, seed=1).astype(float)
    found = script("recommend").ease(x, history, 5)
    np.testing.assert_allclose(found, history @ weights, atol=1e-10)


def test_recommenders_are_compared_on_users_who_have_no_say_in_it(monkeypatch):
    recommend = script("recommend")
    draws = [data.load_ratings(ratings(61), held_out=0, seed=i).train for i in range(2)]
    always, folds = recommend.folds(61)
    assert sorted(np.concatenate([always, *folds])) == [*range(61)] and len(always) == 10
    for first, second in ((1, 3), (2, None)):
        for part in recommend.without(draws, first, second):
            ids = [{*p.user_ids} for p in (part.train, part.validation, part.test)]
            assert ids[1:] == [{*folds[first]}, {*folds[first if second is None else second]}]
            assert ids[0] == {*range(61)} - ids[1] - ids[2]

    ks = {"Recall@5": (metrics.recall_at_k, 5), "NDCG@100": (metrics.ndcg_at_k, 10)}
    monkeypatch.setattr(recommend, "METRICS", ks)
    monkeypatch.setitem(recommend.MODELS, "mult_vae", recommend.MODELS["popularity"])
    found, settings = recommend.compare(draws)
    mine, others = found["mult_vae"], found["EASE"]
    assert [*settings] == [*found] and {len(v) for v in settings.values()} == {5}
    assert {len(v) for v in mine.values()} == {51}
    page = recommend.page(found, settings, draws[0])
    assert f"| `mult_vae` - EASE | {(mine['Recall@5'] - others['Recall@5']).mean():+.4f} ±" in page
    assert f"lambda ({', '.join(map(str, settings['EASE']))})" in page and "51 tested users" in page
    assert others["Recall@5"].mean() > found["popularity"]["Recall@5"].mean()
    assert {*recommend.ARGUMENTS} <= {p["name"] for p in zoo.info("mult_vae").parameters}


def test_a_fold_has_the_setting_that_is_best_for_the_others(monkeypatch):
    recommend = script("recommend")
    monkeypatch.setattr(recommend, "METRICS", {"NDCG@100": None})

    def measured(score, held):
        return {"NDCG@100": np.full(3, score[held[0]])}

    # Fold 0 alone prefers setting "a", and so much that it decides wherever it is asked.
    worth = {"a": [9.0, 0, 0, 0, 0], "b": [0.0, 1, 1, 1, 1]}
    monkeypatch.setattr(recommend, "measured", measured)
    monkeypatch.setattr(recommend, "without", lambda draws, i, j=None: [
        SimpleNamespace(train=None, validation=i, test=i if j is None else j)
    ])  # fmt: skip
    monkeypatch.setitem(recommend.MODELS, "mult_vae", lambda train, seed: worth.items())
    assert recommend.chosen(None, "mult_vae") == ["b", "a", "a", "a", "a"]
    values = recommend.tested(None, "mult_vae", ["b", "a", "a", "a", "a"])["NDCG@100"]
    assert {*values} == {0.0} and len(values) == 15


def test_a_function_ends_where_the_next_line_begins_in_the_first_column():
    programs = script("programs")
    body = "def f(x,\n      y\n):\n    if x:\n        return y\n\n    return 2\n"
    assert programs.first_function(body + "\nclass A:\n") == body
    assert programs.first_function(body) is None, "it may go on"
    assert programs.parses(body)
    for broken in (None, "def f(:\n    pass", "def f():\nreturn 1", "def f():\n    '\0'"):
        assert not programs.parses(broken)


def test_a_program_passes_if_all_tests_of_its_task_hold(tmp_path):
    programs = script("programs")
    program, tests = "def f(x):\n    return x + 1", ["assert f(1) == 2", "assert f(2) == 3"]
    assert programs.passes(program, tests)
    assert not programs.passes(program, [*tests, "assert f(1) == 3"])
    assert not programs.passes("raise SystemExit(3)", tests)
    assert not programs.passes(f"with open({str(tmp_path / 'x')!r}, 'w') as x: x.write('a')", [])
    file = tmp_path / "tasks.jsonl"
    file.write_text(json.dumps({"text": "Add one.", "code": program, "test_list": tests}))
    assert programs.documents(file) == [f"# Add one.\n{program}"]


def test_the_page_of_texts_is_made_of_run_folders(tmp_path):
    text, folders = script("text"), [tmp_path / "char_rnn" / str(seed) for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        folder.mkdir(parents=True)
        arguments = {"vocabulary": None, "units": 4, "sequence_length": 5, "seed": seed}
        config = {"recipe": "char_rnn", "arguments": arguments, "settled": {"vocabulary": "abc"},
                  "versions": {"keras": "3"}, "hardware": "a machine"}  # fmt: skip
        (folder / "config.json").write_text(json.dumps(config))
        (folder / "history.csv").write_text(f"epoch,step,seconds\n1,{4 + seed},60.0\n")
        (folder / "nats.json").write_text(json.dumps({"nats": 2.0 + seed}))
    page = text.page(folders)
    assert "| `char_rnn` | `units=4` `sequence_length=5` |" in page
    assert "| 1.0 | 4-5 | 2 | 2.500 ± 0.707 |" in page
