"""Training on several devices and several processes, in processes of their own."""

import csv
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from distributed import REPLICATED

from keras_genai import distribution

PROGRAMS = Path(__file__).with_name("distributed.py")


def start(*words, **environment):
    return subprocess.Popen(
        [sys.executable, PROGRAMS, *map(str, words)],
        env={**os.environ, "PYTHONPATH": str(PROGRAMS.parents[1]), **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def result(process):
    out, errors = process.communicate(timeout=400)
    assert process.returncode == 0, errors[-3000:]
    return json.loads(out.splitlines()[-1])


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    try:
        return [server.getsockname()[1] for server in sockets]
    finally:
        for server in sockets:
            server.close()


def tf_config(ports, index):
    cluster = {"worker": [f"127.0.0.1:{port}" for port in ports]}
    return json.dumps({"cluster": cluster, "task": {"type": "worker", "index": index}})


def start_workers(folder, victim=-1):
    ports = free_ports(2)
    return [start("worker", folder, victim, TF_CONFIG=tf_config(ports, i)) for i in (0, 1)]


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    """What two logical CPUs make of everything."""
    return result(start("two_replicas", tmp_path_factory.mktemp("two_replicas")))


@pytest.mark.parametrize("name", REPLICATED)
def test_recipes_train_on_two_replicas(found, name):
    one = found[name]
    assert np.isfinite([*one["history"].values()]).all()
    assert one["replicas_agree"]
    assert {"checkpoint.keras", "config.json", "history.csv", "samples"} <= {*one["files"]}


@pytest.mark.parametrize("name", REPLICATED)
def test_evaluation_is_that_of_one_replica(found, name):
    two, one = found[name]["evaluated"]
    assert two == pytest.approx(one, rel=1e-6)


@pytest.mark.parametrize("name", ["beta_vae", "char_rnn", "vq_vae"])
def test_training_is_that_of_one_replica(found, name):
    two, one = (np.array(run) for run in found["equal_to_one_replica"][name])
    np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)
    assert one[-1] > 1e-3, "the weights must have moved"


def test_replicas_draw_different_noise(found):
    for name, (first, second) in found["noise"].items():
        assert first != second, name


def test_vectors_beside_the_weights_move_alike(found):
    before, first, second = found["spectral"]
    assert before != first == second


def test_codes_are_those_of_the_whole_batch(found):
    two, one = found["codes"]["evaluated"]
    assert two == pytest.approx(one, rel=1e-5)
    first, second = found["codes"]["books"]
    assert first == second, "dead codes restart alike"
    assert len(np.unique(first, axis=0)) > 8
    assert found["codes"]["rows"] == [[0.0, 1.0, 0.0, 1.0, 0.0]] * 2, "in turn from each replica"


def test_a_run_cut_in_an_epoch_continues_exactly(found):
    steps, digest = found["continued"]
    assert steps == [3], "those before the cut are not made again"
    assert digest == found["vae"]["digest"]


def test_what_cannot_be_shared_is_refused(found):
    batch, layout = found["refused"]
    assert "multiple of their number, 2" in batch and batch.endswith("Received: batch_size=7")
    assert "ignores keras.distribution" in layout and layout.endswith("Received: DataParallel")


def test_a_batch_smaller_than_the_replicas_does_no_harm(found):
    assert np.isfinite([*found["uneven_stream"].values()]).all()


def test_workers_train_as_replicas_do_and_continue_exactly(found, tmp_path):
    folder = tmp_path / "run"
    chief, other = start_workers(tmp_path, victim=1)
    assert other.wait(timeout=400) == -signal.SIGKILL, other.communicate()[1][-3000:]
    killed = time.monotonic()
    errors = chief.communicate(timeout=60)[1]
    assert chief.returncode > 0 and "/job:worker/replica:0/task:1" in errors
    assert time.monotonic() - killed < 60
    chief, other = start_workers(tmp_path)
    said = other.communicate(timeout=400)[0].splitlines()
    assert [result(chief), *map(json.loads, said)] == [found["gan"]["digest"]] * 2
    with open(folder / "history.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    history = found["gan"]["history"]
    assert [float(row["val_loss"]) for row in rows] == history["val_loss"]
    assert sorted(os.listdir(tmp_path)) == ["0.keras", "run"], "only the chief writes"


def test_a_worker_that_never_starts_is_named(monkeypatch):
    ports = free_ports(2)
    monkeypatch.setenv("TF_CONFIG", tf_config(ports, 0))
    with pytest.raises(TimeoutError, match=f"Received: no answer from 127.0.0.1:{ports[1]} in"):
        distribution.connect(timeout=0.1)
