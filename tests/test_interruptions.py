"""What ends a run before its time, and what is on the disk afterwards."""

import builtins
import json
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import eager, images, training_data
from test_training import QUIET, rows_of

from keras_genai import cli, zoo

DIES = """
import os, pathlib, signal, sys
sys.path.insert(0, "tests")
import keras
import test_interruptions as t
from keras_genai.callbacks import run_folder

run_folder.CHECKPOINT_SECONDS = 0  # a checkpoint after every step

def die(*args):
    os.kill(os.getpid(), signal.SIGKILL)

class Die(keras.callbacks.Callback):
    def on_train_batch_begin(self, batch, logs=None):
        step = self.model.progress.step
        if moment == "between two steps" and step == 3:
            die()
        if moment == "while a checkpoint is written" and step == 2:
            os.fsync = die  # the file is written, but not in its place

    def on_epoch_end(self, epoch, logs=None):
        if moment == "between two epochs":
            die()

name, folder, moment = sys.argv[1:]
t.train(name, folder, callbacks=Die())
"""


def train(name, folder, **options):
    model = eager(name)
    data = training_data(model.recipe)
    model.fit(data, epochs=2, run_dir=folder, steps_per_epoch=5, **options, **QUIET)
    return model


def run(code, *arguments):
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
    )


@pytest.mark.parametrize(
    ("name", "moments"),
    [
        ("dcgan", ["while a checkpoint is written", "between two steps", "between two epochs"]),
        ("vae", ["while a checkpoint is written"]),
        ("char_rnn", ["while a checkpoint is written"]),
    ],
)
def test_killed_runs_go_on_to_the_same_bits(name, moments, tmp_path):
    """kill -9, each time it is started again, at another moment; then it may finish."""
    for moment in moments:
        killed = run(DIES, name, tmp_path / "run", moment)
        assert killed.returncode == -signal.SIGKILL, killed.stderr[-2000:]
        half_written = [*(tmp_path / "run").glob(".*.tmp.*")]
        assert bool(half_written) == (moment == "while a checkpoint is written")
    continued, whole = train(name, tmp_path / "run"), train(name, tmp_path / "whole")
    for mine, theirs in zip(continued.variables, whole.variables, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    assert continued.progress.step == whole.progress.step == 10
    rows = [[{**row, "seconds": ""} for row in rows_of(tmp_path / n)] for n in ("run", "whole")]
    assert rows[0] == rows[1] and len(rows[0]) == 2
    assert not [*(tmp_path / "run").glob(".*")], "temporary files are cleared away"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_command_line_saves_before_it_stops(number, code, tmp_path, monkeypatch, capsys):
    from keras_genai.models import training

    class Stop(keras.callbacks.ProgbarLogger):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.progress.step == 2:
                signal.raise_signal(number)

    monkeypatch.setattr(training.keras.callbacks, "ProgbarLogger", Stop)
    np.save(tmp_path / "blobs.npy", images())
    words = f"train gan --data {tmp_path}/blobs.npy --latent_dim 8 --hidden_units 32 --epochs 2"
    command = [*words.split(), "--batch_size", "8", "--run_dir", str(tmp_path / "run")]
    before = signal.getsignal(signal.SIGTERM)
    assert cli.main(command) == code
    assert signal.getsignal(signal.SIGTERM) == before
    assert "goes on" in capsys.readouterr().out
    assert zoo.load(tmp_path / "run").progress.step == 3


def test_in_a_notebook_the_history_is_returned(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(builtins, "__IPYTHON__", True, raising=False)
    stop = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: batch == 2 and signal.raise_signal(signal.SIGINT)
    )
    model = eager()
    history = model.fit(images(), epochs=2, run_dir=tmp_path / "run", callbacks=stop, **QUIET)
    assert history.epoch == [] and model.progress.step == 3
    assert "goes on from here" in capsys.readouterr().out
    assert zoo.load(tmp_path / "run").progress.step == 3


def test_a_background_job_that_ignores_ctrl_c_can_be_terminated(monkeypatch):
    def run(args):
        signal.raise_signal(signal.SIGTERM)
        raise AssertionError("goes on")

    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    monkeypatch.setattr(cli, "_fetch", run)
    try:
        assert cli.main(["fetch", "mnist"]) == 143
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_folder_that_is_refused_is_left_as_it_was(tmp_path):
    kept = tmp_path / "notes" / ".notes.0123abcd.tmp.txt"
    kept.parent.mkdir()
    kept.write_text("mine")
    with pytest.raises(ValueError, match=r"not a run's.*Received: "):
        eager().fit(images(), epochs=1, run_dir=tmp_path, **QUIET)
    assert kept.read_text() == "mine"


FULL_DISK = """
import os, resource, signal, sys
sys.path.insert(0, "tests")
import keras
import test_interruptions as t

class FullDisk(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 1:  # files may not grow past 20 kB any more; writing more is an OSError
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

try:
    t.train("gan", sys.argv[1], callbacks=FullDisk())
except OSError as error:
    print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
    print("now there is room:", t.train("gan", sys.argv[1]).progress.step)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a limit on file sizes is a Unix thing")
def test_a_full_disk_leaves_the_earlier_checkpoint(tmp_path):
    ended = run(FULL_DISK, tmp_path / "run")
    assert ended.returncode == 0, ended.stderr[-2000:]
    assert "an earlier one is intact. Received: " in ended.stdout
    assert "checkpoint.keras" in ended.stdout
    assert "now there is room: 10" in ended.stdout
    assert not [*(tmp_path / "run").glob(".*")]


def test_a_folder_that_cannot_be_written_is_refused_at_once(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("no folder")
    model = eager()
    with pytest.raises(OSError, match=r"cannot be written.*Received: "):
        model.fit(images(), epochs=1, run_dir=tmp_path / "file" / "run", **QUIET)
    monkeypatch.setenv("KERAS_GENAI_RUNS", str(tmp_path / "file"))
    with pytest.raises(OSError, match=r"cannot be written.*Received: "):
        model.fit(images(), epochs=1, **QUIET)
    assert model.progress.step == 0


def test_damaged_checkpoints_are_refused_and_the_model_is_unchanged(tmp_path):
    eager().fit(images(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    file = tmp_path / "run" / "checkpoint.keras"
    good = file.read_bytes()
    model = eager(data=images())
    before = [v.numpy() for v in model.variables]
    flipped = bytearray(good)
    flipped[len(good) // 2] ^= 4
    for bad in (b"", b"<html>404</html>", good[: len(good) // 2], good[:-3], bytes(flipped)):
        file.write_bytes(bad)
        with pytest.raises(ValueError, match=r"damaged.*Received: "):
            model.fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
        assert file.read_bytes() == bad
    for value, expected in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(value, expected)
    file.write_bytes(good)
    model.fit(images(), epochs=2, run_dir=tmp_path / "run", **QUIET)
    assert model.progress.epoch == 2


@pytest.mark.parametrize("package", ["keras", "keras_genai"])
def test_files_of_newer_versions_are_refused(package, tmp_path):
    eager(data=images()).save(tmp_path / "model.keras")
    with zipfile.ZipFile(tmp_path / "model.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    name = {"keras": "metadata.json", "keras_genai": "config.json"}[package]
    content = json.loads(members[name])
    if package == "keras":
        content["keras_version"] = "99.1.0"
    else:
        content["build_config"]["keras_genai"] = "99.1.0"
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        for member, data in {**members, name: json.dumps(content)}.items():
            archive.writestr(member, data)
    with pytest.raises(ValueError, match=rf"{package} 99.1.0.*upgrade.*Received: "):
        zoo.load(tmp_path / "model.keras")


def test_out_of_memory_says_what_to_try(tmp_path):
    class Greedy(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if batch == 2:
                raise tf.errors.ResourceExhaustedError(None, None, "OOM when allocating tensor")

    model = eager()
    with pytest.raises(MemoryError, match=r"smaller batch_size.*Received: OOM"):
        model.fit(images(), epochs=1, run_dir=tmp_path / "run", callbacks=Greedy(), **QUIET)
    assert zoo.load(tmp_path / "run").progress.step == 0
    model = eager()
    model.fit(images(), epochs=1, run_dir=tmp_path / "run", **QUIET)
    assert model.progress.epoch == 1
