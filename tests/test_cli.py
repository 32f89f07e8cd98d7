"""The command line, as a user types it."""

import contextlib
import io
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
from contract_data import ratings
from PIL import Image

from keras_genai import cli, data, zoo
from keras_genai.zoo import registry

RUN_AND_TELL = """
import runpy, sys
try:
    runpy.run_module("keras_genai", run_name="__main__", alter_sys=True)
finally:
    loaded = [name for name in ("keras", "numpy", "tensorflow") if name in sys.modules]
    print("loaded", loaded, file=sys.stderr)
"""
TINY_GAN = ["train", "gan", "--data", "digits", "--latent_dim", "8", "--hidden-units=32"]
TINY_RNN = ["--units", "16", "--num_layers", "1", "--sequence_length", "12"]


@pytest.fixture(scope="module")
def gan_run(tmp_path_factory):
    """The output and the run folder of one epoch."""
    runs, output = tmp_path_factory.mktemp("runs"), io.StringIO()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(output):
        patch.setenv("KERAS_GENAI_RUNS", str(runs))
        assert cli.main([*TINY_GAN, "--epochs", "1", "--steps_per_epoch", "9"]) == 0
    return output.getvalue(), runs / "gan" / "001"


@pytest.fixture
def parsed(monkeypatch):
    """Collects what `train` was asked to do instead of doing it."""
    calls = []
    monkeypatch.setattr(cli, "_train", lambda args: calls.append(vars(args)))
    return calls


@pytest.fixture
def text_file(tmp_path):
    path = tmp_path / "greetings.txt"
    path.write_text("hello world, how are you\n" * 60)
    return str(path)


def refused(capsys, *words):
    """Runs a command that must fail; returns its message, which is all that it prints."""
    assert cli.main(words) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("keras-genai: error: ")
    assert "Received: " in printed.err.splitlines()[-1]
    assert "Traceback" not in printed.err
    return printed.err


# Quick answers ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "code", "expected"),
    [
        (["--help"], 0, "generate"),
        (["list"], 0, "dcgan"),
        (["info", "dcgan"], 0, "--latent_dim"),
        (["train", "dcgan", "--help"], 0, "--latent_dim"),
        (["train", "dcgn"], 2, "Did you mean 'dcgan'"),
    ],
)
def test_answers_within_a_second_without_keras(words, code, expected):
    seconds = []
    while len(seconds) < 3 and min(seconds, default=9) >= 1:  # the computer may be busy
        start = time.perf_counter()
        command = [sys.executable, "-c", RUN_AND_TELL, *words]
        run = subprocess.run(command, capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert run.returncode == code
        assert expected in run.stdout + run.stderr
        assert "loaded []" in run.stderr
    assert min(seconds) < 1


def test_without_a_command_it_shows_help(capsys):
    assert cli.main([]) == 0
    assert "usage: keras-genai" in capsys.readouterr().out


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        cli.main(["--version"])
    assert capsys.readouterr().out == f"keras-genai {cli.__version__}\n"


def test_list_has_every_recipe(capsys):
    assert cli.main(["list"]) == 0
    models, _, entries = capsys.readouterr().out.partition("\n\n")
    header, *lines = models.splitlines()
    assert header.split()[:3] == ["NAME", "MODALITY", "TASK"]
    assert [line.split()[0] for line in lines] == zoo.list()
    assert all(zoo.info(line.split()[0]).summary in line for line in lines)
    listed = [line.split()[0] for line in entries.splitlines()[1:]]
    assert listed == [*registry.stored_index()["entries"]]


@pytest.mark.parametrize("name", zoo.list())
def test_info_and_help_have_every_parameter(capsys, parsed, name):
    assert cli.main(["info", name]) == 0
    info = capsys.readouterr().out
    with pytest.raises(SystemExit, match="0"):
        cli.main(["train", name, "--help"])
    help_text = capsys.readouterr().out
    for parameter in zoo.info(name).parameters:
        assert f"--{parameter['name']} " in info
        assert f"--{parameter['name']} " in help_text


def test_info_tells_how_to_train(capsys):
    assert cli.main(["info", "dcgan"]) == 0
    out = capsys.readouterr().out
    assert "keras-genai train dcgan --data my_photos/ --minutes 10" in out
    assert "arXiv:1511.06434" in out


# Options ----------------------------------------------------------------------------------------


def parameters(call):
    return {
        key.removeprefix(cli.PARAMETER): value
        for key, value in call.items()
        if key.startswith(cli.PARAMETER)
    }


@pytest.mark.parametrize("option", ["--latent_dim 64", "--latent-dim 64", "--latent-dim=64"])
def test_options_may_be_spelt_with_dashes(parsed, option):
    assert cli.main(["train", "dcgan", *option.split()]) == 0
    assert parameters(parsed[0]) == {"latent_dim": 64}


@pytest.mark.parametrize("shape", ["64x32x3", "64,32,3"])
def test_options_have_the_types_of_the_parameters(parsed, shape):
    words = ["train", "dcgan", "--image_shape", shape, "--learning_rate", "1e-3", "--seed", "7"]
    assert cli.main([*words, "--value_range", "-1", "1"]) == 0
    assert parameters(parsed[0]) == {
        "image_shape": (64, 32, 3),
        "learning_rate": 1e-3,
        "seed": 7,
    }
    assert parsed[0]["value_range"] == [-1.0, 1.0]


def test_a_switch_takes_true_or_false(parsed, monkeypatch, tmp_path, capsys):
    index = json.loads(cli.INDEX.read_text())
    index["recipes"]["gan"]["parameters"] = [{"name": "ema", "type": "bool", "default": True}]
    monkeypatch.setattr(cli, "INDEX", tmp_path / "index.json")
    cli.INDEX.write_text(json.dumps(index))
    assert cli.main(["train", "gan", "--ema", "false"]) == 0
    assert parameters(parsed[0]) == {"ema": False}
    assert "expected true or false. Received: 'no'" in refused(
        capsys, "train", "gan", "--ema", "no"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("trian dcgan", "No command of this name. Did you mean 'train'?"),
        ("--verison", "Did you mean '--version'?"),
        ("train dcgn", "No recipe of this name. Did you mean 'dcgan'"),
        ("info charrnn", "Did you mean 'char_rnn'?"),
        ("train", "required: NAME"),
        ("train gan.blobs", "`keras-genai train RECIPE --weights gan.blobs`"),
        ("train gpt --lora_rank 2", "Fine-tuning begins with a trained model"),
        ("train --minutes 3 dcgan", "The recipe's name comes first"),
        ("train dcgan --latent-dm 64", "Did you mean '--latent_dim'"),
        ("train dcgan --epoch 3", "Did you mean '--epochs'?"),
        ("train dcgan extra", "one too many"),
        ("train dcgan --latent_dim many", "--latent_dim: expected a whole number"),
        ("train dcgan --learning_rate fast", "--learning_rate: expected a number"),
        ("train dcgan --image_shape 64x64", "expected height, width and channels"),
        ("train char_rnn --cell lstn", "expected one of lstm, gru, simple_rnn"),
        ("train dcgan --minutes", "expected one argument"),
        ("train dcgan --validate --validation_split 0.1", "not allowed with"),
        ("generate", "required: PATH"),
        ("generate runs/gan/001 --prmpt a", "Did you mean '--prompt'?"),
    ],
)
def test_mistakes_are_refused_with_a_way_out(capsys, words, message):
    error = refused(capsys, *words.split())
    assert message in error
    assert len(error.splitlines()) == 1


def test_a_missing_index_is_explained(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(cli, "INDEX", tmp_path / "index.json")
    assert "python -m keras_genai.zoo" in refused(capsys, "list")


# Training and generating ------------------------------------------------------------------------


def test_train_prints_where_its_results_are(gan_run):
    output, folder = gan_run
    results = output[output.rindex("Run folder  ") :]
    for path in ("", "/samples/epoch_0001.png", "/samples.gif", "/loss.png"):
        assert f"{folder}{path}\n" in results
        assert (folder / path.lstrip("/")).exists()
    assert f"keras-genai generate {folder}\n" in results


def test_parameters_reach_the_recipe_and_fit(gan_run):
    config = json.loads((gan_run[1] / "config.json").read_text())
    assert (config["arguments"]["latent_dim"], config["arguments"]["hidden_units"]) == (8, 32)
    assert config["steps_per_epoch"] == 9


def test_generate_writes_a_grid(gan_run, tmp_path, capsys):
    path = tmp_path / "new" / "grid.png"
    assert cli.main(["generate", str(gan_run[1]), "-n", "6", "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    with Image.open(path) as image:
        # Three by two images of 28 pixels, gaps of 2, enlarged to at least 320 pixels of width.
        assert image.size == (4 * (3 * 30 + 2), 4 * (2 * 30 + 2))
        tile = np.asarray(image)[8:120, 8:120]
    assert tile.std() > 1


def test_generate_writes_the_same_array_for_the_same_seed(gan_run, tmp_path):
    paths = [tmp_path / "a.npz", tmp_path / "b.npz"]
    for path in paths:
        words = ["generate", str(gan_run[1]), "-n", "3", "--seed", "5", "-o", str(path)]
        assert cli.main(words) == 0
    first, second = (np.load(path)["images"] for path in paths)
    assert first.shape == (3, 28, 28, 1) and first.dtype == np.uint8
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("suffix", [".png", ".gif", ".jpg"])
def test_pictures_say_that_they_are_generated(gan_run, tmp_path, suffix):
    path = tmp_path / f"grid{suffix}"
    words = ["generate", str(gan_run[1]), "-n", "4", "-o", str(path)]
    assert cli.main([*words, "--seed", "5"]) == 0
    with Image.open(path) as image:
        said = image.info.get("comment", b"").decode() or str(image.text)
    assert "generated by keras_genai" in said and str(gan_run[1]) in said
    assert re.search(r"Seed\W+5\b", said)


def test_a_seed_that_was_drawn_is_noted_down_and_gives_the_same_again(gan_run, tmp_path):
    first, second = tmp_path / "a.npz", tmp_path / "b.npz"
    words = ["generate", str(gan_run[1]), "-n", "2"]
    assert cli.main([*words, "-o", str(first)]) == 0
    with np.load(first) as file:
        about, images = json.loads(str(file["generated"])), file["images"]
    assert cli.main([*words, "--seed", about["Seed"], "-o", str(second)]) == 0
    np.testing.assert_array_equal(np.load(second)["images"], images)


def test_generate_refuses_what_does_not_fit_the_model(gan_run, tmp_path, capsys):
    run = str(gan_run[1])
    assert "takes none of --input, --prompt" in refused(capsys, "generate", run, "--prompt", "a")
    for name in ("a.txt", "a.npy", "a.bmp"):  # which have no place for metadata
        assert "ending in .png" in refused(capsys, "generate", run, "-o", str(tmp_path / name))
    assert "positive integer" in refused(capsys, "generate", run, "-n", "0")
    assert "nothing at this path" in refused(capsys, "generate", str(tmp_path / "absent"))
    folder = tmp_path / "folder.png"
    folder.mkdir()
    assert "directory" in refused(capsys, "generate", run, "-o", str(folder))


def test_a_run_of_other_arguments_is_not_continued(gan_run, capsys):
    run_dir = ["--run_dir", str(gan_run[1]), "--epochs", "2"]
    message = refused(capsys, *TINY_GAN, *run_dir, "--latent_dim", "9")
    assert "This folder holds another run" in message
    assert "latent_dim: the run has 8, this call 9\n" in message and "hidden" not in message


def test_text_from_file_to_continuation(text_file, tmp_path, capsys):
    run = str(tmp_path / "run")
    train = ["train", "char_rnn", "--data", text_file, *TINY_RNN, "--run_dir", run]
    assert cli.main([*train, "--epochs", "1"]) == 0
    assert cli.main([*train, "--epochs", "2"]) == 0
    printed = capsys.readouterr().out
    assert "epoch_0002.txt" in printed and f"Continuing {run} after epoch 1" in printed

    other = str(tmp_path / "other")
    train = ["train", "char_rnn", "--weights", run, "--data", text_file, "--epochs", "1"]
    assert cli.main([*train, "--learning_rate", "0.02", "--run_dir", other]) == 0
    config = json.loads((tmp_path / "other" / "config.json").read_text())
    assert (config["begins_with"], config["arguments"]["units"]) == (run, 16)
    assert config["arguments"]["learning_rate"] == 0.02
    # Without parameters as well it is a new training, whose history can be published.
    assert cli.main([*train, "--run_dir", str(tmp_path / "third")]) == 0
    assert (tmp_path / "third" / "history.csv").read_text().splitlines()[1].startswith("1,")
    assert "of another recipe" in refused(capsys, "train", "gan", "--weights", run)
    capsys.readouterr()

    generate = ["generate", run, "--max_length", "40", "--temperature", "0.5", "--seed", "1"]
    generate += ["--top_k", "5", "--stop", "no such text", "--stop", "\0"]
    assert cli.main([*generate, "--prompt", "hello", "--prompt", "how"]) == 0
    first, second = capsys.readouterr().out[:-1].split(cli.BETWEEN_TEXTS)
    assert first.startswith("hello") and second.startswith("how")
    assert (len(first), len(second)) == (40, 40)

    output = tmp_path / "text.txt"
    assert cli.main([*generate, "--prompt", "hello", "-o", str(output)]) == 0
    assert output.read_text().startswith("hello")
    about = json.loads((tmp_path / "text.txt.json").read_text())
    assert about["Comment"].startswith("generated") and about["Model"] == run
    assert (about["Seed"], about["Prompts"], about["temperature"]) == ("1", ["hello"], 0.5)
    assert about["top_k"] == 5 and about["stop"][0] == "no such text"
    capsys.readouterr()
    assert "takes none of -n" in refused(capsys, "generate", run, "-n", "3")
    assert "ending in .txt" in refused(capsys, "generate", run, "-o", "grid.png")
    assert "without these characters" in refused(capsys, "generate", run, "--prompt", "Z")
    assert "Received: top_p=2.0" in refused(capsys, "generate", run, "--top_p", "2")


def test_gaps_are_filled(tmp_path, capsys):
    sizes = {"num_layers": 1, "num_heads": 2, "width": 8, "sequence_length": 12}
    path = str(tmp_path / "gaps.keras")
    model = zoo.get("bert", vocabulary="abc", seed=0, **sizes)
    model.save(path)
    generate = ["generate", path, "--prompt", "ab[MASK]ab", "--prompt", "[MASK]c"]
    assert cli.main(generate) == 0
    assert capsys.readouterr().out[:-1].split(cli.BETWEEN_TEXTS) == model.fill(
        ["ab[MASK]ab", "[MASK]c"]
    )
    assert "is filled, which takes none of --max_length" in refused(
        capsys, *generate, "--max_length", "9"
    )


def test_ratings_from_table_to_recommendations(tmp_path, monkeypatch, capsys):
    user, item = np.nonzero(ratings(60))
    rows = "\n".join(f"{u},{100 + i},4.0,0" for u, i in zip(user, item, strict=True))
    (tmp_path / "liked.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}\n1,999,3.5,0\n")
    monkeypatch.chdir(tmp_path)
    sizes = ["--units", "8", "--latent_dim", "2", "--batch_size", "16", "--epochs", "1"]
    train = ["train", "mult_vae", "--data", "liked.csv", "--validate", *sizes, "--run_dir", "run"]
    assert cli.main(train) == 0
    assert "val_loss" in (tmp_path / "run" / "history.csv").read_text()
    lines = (tmp_path / "run" / "samples" / "epoch_0001.txt").read_text().splitlines()
    assert len(lines) == 10 and all(" -> " in line for line in lines)
    capsys.readouterr()
    assert cli.main(["generate", "run", "--history", "101,102", "--history", "120", "-k", "3"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("101, 102 -> 1") and second.startswith("120 -> 1")
    assert len(first.split(" -> ")[1].split(", ")) == 3
    output = tmp_path / "made_up.txt"
    assert cli.main(["generate", "run", "--seed", "3", "-o", str(output)]) == 0
    assert " -> " in output.read_text()
    assert json.loads((tmp_path / "made_up.txt.json").read_text())["Seed"] == "3"
    capsys.readouterr()
    assert "takes none of -n" in refused(capsys, "generate", "run", "-n", "3")
    assert "ids of items, such as 100" in refused(capsys, "generate", "run", "--history", "a")
    assert "without these" in refused(capsys, "generate", "run", "--history", "999")
    assert cli.main(["measure", "run", "--metrics", "recall_at_20,popularity_recall_at_20"]) == 0
    measured = json.loads((tmp_path / "run" / "metrics.json").read_text())["metrics"]
    assert [(row["samples"], row["split"]) for row in measured] == [(6, "test")] * 2


def test_validate_uses_the_data_sets_own_part(monkeypatch, tmp_path):
    fits = []

    def fit(model, x, **options):
        fits.append((x, options))
        model.run_dir = tmp_path

    monkeypatch.setattr(type(zoo.get("gan")), "fit", fit)
    assert cli.main([*TINY_GAN, "--validate", "--minutes", "0.5"]) == 0
    dataset, options = fits[0]
    assert options["validation_data"] is dataset.validation is not None
    assert (dataset.name, options["minutes"], options["epochs"]) == ("digits", 0.5, None)


def test_a_refused_run_leaves_no_folder(text_file, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path / "runs"))
    words = ["train", "char_rnn", "--data", text_file]
    assert "no validation part" in refused(capsys, *words, "--validate")
    assert "at least 1" in refused(capsys, *words, "--epochs", "0")
    assert "no file or folder" in refused(capsys, "train", "gan", "--data", "no_such_data")
    assert [path for path in tmp_path.glob("runs/*/*")] == []


# Everything else that can happen ----------------------------------------------------------------


def test_an_interrupted_run_says_how_to_go_on(monkeypatch, tmp_path, capsys):
    run_dir = tmp_path / "my run"

    def fit(model, args):
        model.run_dir = run_dir
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_fit", fit)
    assert cli.main([*TINY_GAN, "--run_dir", str(run_dir)]) == 130
    printed = capsys.readouterr()
    assert f"--run_dir '{run_dir}' goes on" in printed.out
    assert printed.err == "Interrupted.\n"


def test_a_fault_that_is_not_the_users_keeps_its_traceback(monkeypatch):
    def fit(model, args):
        raise ValueError("shapes do not match")

    monkeypatch.setattr(cli, "_fit", fit)
    with pytest.raises(ValueError, match="shapes do not match"):
        cli.main(TINY_GAN)


def test_fetch_tells_where_a_data_set_is(monkeypatch, capsys):
    monkeypatch.setattr(data, "fetch", lambda name: f"somewhere/{name}")
    assert cli.main(["fetch", "digits", "mnist"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "digits: part of the package, nothing to fetch",
        "mnist: somewhere/mnist",
    ]


def test_fetch_knows_no_such_data_set(capsys):
    assert "mnist" in refused(capsys, "fetch", "mnits")


def test_pictures_without_a_name_replace_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        cli._free("grid.png").touch()
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "grid.png", "grid_2.png", "grid_3.png"
    ]  # fmt: skip
