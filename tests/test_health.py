"""Trainings that go wrong are stopped or advised; healthy ones are left in peace."""

import csv
import math
import re
import string
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import FEW, eager, images, text, tiny, training_data

from keras_genai import pictures, zoo
from keras_genai.callbacks import health
from keras_genai.models import training

QUIET = {"batch_size": 8, "verbose": 0}
LONG = {"steps_per_epoch": 100, "epochs": 4, "run_dir": False}
SHORT = {"steps_per_epoch": 2, "epochs": 1, "run_dir": False}


@pytest.fixture(autouse=True)
def unlimited(monkeypatch):
    """Checks after every epoch: these trainings take less time than a check."""
    monkeypatch.setattr(health, "BUDGET", float("inf"))


@pytest.fixture
def at_once(monkeypatch):
    """Checks from the first epoch on, for what is wrong from the start."""
    monkeypatch.setattr(health, "FIRST_STEP", 1)


def advice(history):
    return [sentence for sentences in history.advice.values() for sentence in sentences]


@pytest.mark.parametrize(
    ("name", "network"),
    [
        ("gan", "generator"),
        ("dcgan", "discriminator"),
        ("vae", "encoder"),
        ("char_rnn", "language_model"),
    ],
)
def test_a_diverged_training_stops_at_its_step(name, network, tmp_path):
    """The learning rate of one network becomes absurd at the fourth step."""
    model = eager(name)
    model.settle(training_data(model.recipe))
    optimizer = model.optimizer_of(network)

    class Spoil(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            if self.model.progress.step == 3:
                optimizer.learning_rate = 1e38

    data = training_data(model.recipe)
    with pytest.raises(FloatingPointError) as error:
        model.fit(data, epochs=2, run_dir=tmp_path / "run", callbacks=Spoil(), **QUIET)
    message = str(error.value)
    assert f"weights of `{network}`" in message and "smaller learning_rate" in message
    assert "step 4," in message
    assert "Received: " in message.splitlines()[-1]
    kept = zoo.load(tmp_path / "run")
    assert kept.progress.step == 0
    assert all(np.isfinite(v.numpy()).all() for v in kept.variables)
    # What is in the folder trains on.
    again = eager(name)
    again.fit(data, epochs=1, run_dir=tmp_path / "run", **QUIET)
    assert again.progress.epoch == 1


def test_advice_is_said_kept_and_drawn_once(tmp_path, capsys):
    """A generator that stands still teaches the discriminator to be sure."""
    model = tiny("gan", data=images(), learning_rate=2e-3)
    model.optimizer.optimizers[0].learning_rate = 0.0
    history = model.fit(images(), **{**LONG, "run_dir": tmp_path / "run"}, **QUIET)
    said = [sentence for sentence in advice(history) if "sure of every image" in sentence]
    assert len(said) == 1
    assert capsys.readouterr().out.count("sure of every image") == 1
    with open(tmp_path / "run" / "history.csv", newline="") as file:
        rows = [*csv.DictReader(file)]
    kept = [int(row["epoch"]) for row in rows if "sure of every image" in row["advice"]]
    assert kept == [epoch for epoch, found in history.advice.items() if said[0] in found]
    columns = {key: [float(row[key]) for row in rows] for key in ("epoch", *history.history)}
    sentences = {int(row["epoch"]): row["advice"] for row in rows if row["advice"]}
    for drawn, same in ((sentences, True), ({}, False)):
        pictures.save_loss_curve(tmp_path / "curve.png", columns, drawn)
        curve = (tmp_path / "curve.png").read_bytes()
        assert (curve == (tmp_path / "run" / "loss.png").read_bytes()) == same
    # A continued run has said it already.
    again = tiny("gan", learning_rate=2e-3)
    more = {**LONG, "epochs": 5, "run_dir": tmp_path / "run"}
    assert said[0][:20] not in str(again.fit(images(), **more, **QUIET).advice)


def test_samples_that_are_alike_are_noticed(at_once):
    model = tiny("dcgan", data=images(), learning_rate=0.0)
    model.run_eagerly = True
    history = model.fit(images(), **SHORT, **QUIET)
    assert "nearly the same" in advice(history)[0]


def test_a_collapsed_generator_is_noticed():
    """A discriminator that stands still is fooled by one image, to which all noise leads.

    The same training with a discriminator that answers is among the healthy ones below.
    """
    model = tiny("gan", data=images())
    model.optimizer_of("discriminator").learning_rate = 0.0
    model.optimizer_of("generator").learning_rate = 2e-2
    history = model.fit(images(), **{**LONG, "steps_per_epoch": 150, "epochs": 2}, **QUIET)
    assert history.history["g_loss"][-1] < 0.1, "by its loss it has won"
    assert ["nearly the same" in s and "collapsed" in s for s in advice(history)] == [True]


def test_a_collapsed_posterior_is_noticed_and_what_is_advised_repairs_it():
    """Noise cannot be compressed: the kl is only a cost, and the code is given up."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 8, 8, 1)).astype("uint8")
    sizes = {"latent_dim": 10, "learning_rate": 3e-3}
    history = tiny("vae", **sizes).fit(noise, **LONG, **QUIET)
    (sentence,) = [s for s in advice(history) if "posterior has collapsed" in s]
    assert "0 of 10 latent units" in sentence
    beta = float(re.search(r"beta_vae, which can weigh the kl less: beta=(\S+)$", sentence)[1])
    model = tiny("beta_vae", **sizes, capacity=0.0, beta=beta)
    history = model.fit(noise, **LONG, **QUIET)
    assert not any("posterior has collapsed" in sentence for sentence in advice(history))


def test_a_posterior_that_is_still_held_down_has_not_collapsed():
    """Of few nats few units are active. When they are all given, it is to be said."""
    model = tiny("beta_vae", data=images(), capacity=20.0, capacity_steps=100)
    watch = health.Health(model.prepare(model.open_data(images()).train))
    watch.set_model(model)
    model.encode = lambda images: np.zeros((len(images), 4))
    assert health.posterior_collapse(watch) is None
    model.updates.assign(100)
    assert health.posterior_collapse(watch).endswith("use a smaller learning_rate")
    model.capacity = 0.0
    assert health.posterior_collapse(watch).endswith("less: beta=0.4 in place of 4")


def test_dead_codes_are_noticed_and_restarts_revive_them():
    """Codes far from all vectors, here all but four, stay there without restarts."""
    used, found = [], []
    for restart_below in (0.0, 0.1):
        model = tiny("vq_vae", data=images(), num_codes=32, restart_below=restart_below)
        book = model.codebook
        book.codes.assign(book.codes + 5.0 * (np.arange(32) >= 4)[:, None])
        book.sums.assign(book.codes * book.use[:, None])
        history = model.fit(images(), **{**LONG, "epochs": 3}, **QUIET)
        used.append(len(np.unique(model.codes(images()))))
        found.append([sentence for sentence in advice(history) if "codes" in sentence])
    assert used[0] < 8 and used[1] >= 16
    assert [f"Only {used[0]} of 32 codes" in s for s in found[0]] == [True]
    assert found[1] == []


def test_an_unused_vocabulary_is_noticed(at_once):
    model = tiny("char_rnn", vocabulary=string.printable)
    model.run_eagerly = True
    history = model.fit(text(), **SHORT, **QUIET)
    assert "of the 100 characters" in advice(history)[0]
    model.begins_with = "a model"  # whose weights know the others
    assert advice(model.fit(text(), **SHORT, **QUIET)) == []


def test_a_climbing_validation_loss_is_noticed():
    model = tiny("char_rnn", units=128, learning_rate=2e-2, dropout=0.0)
    other = ["a dog saw the cat on no mat " * 8]
    options = {**LONG, "steps_per_epoch": 50, "epochs": 8}
    history = model.fit([text()[0][:200]], validation_data=other, **options, **QUIET)
    assert any("validation loss climbs" in sentence for sentence in advice(history))


@pytest.mark.parametrize("name", FEW)
def test_healthy_trainings_raise_no_alarm(name):
    model = tiny(name)
    data = training_data(name)
    if model.modality == "text":  # enough of it not to be learnt by heart
        data = [text(seed)[0] for seed in range(20)]
    history = model.fit(data, validation_split=0.2, **LONG, **QUIET)
    assert history.advice == {}


def test_the_network_that_broke_is_named():
    model = tiny("vae", data=images())
    for name in ("encoder", "decoder"):
        model.first_broken.assign(0)
        getattr(model, name).trainable_variables[0].assign(
            tf.fill(getattr(model, name).trainable_variables[0].shape, float("inf"))
        )
        for network in (model.decoder, model.encoder):
            model._watch(network)
        assert model.broken_network == name


@pytest.mark.parametrize(("epochs", "told"), [(3, False), (4, True)])
def test_a_schedule_that_ends_early_is_noticed(epochs, told, at_once):
    """Eight steps of twelve are no reason, eight of sixteen are."""
    model = eager("gpt", warmup_steps=2, decay_steps=8)
    sentences = advice(model.fit(text(), steps_per_epoch=4, epochs=epochs, run_dir=False, **QUIET))
    assert ["decay_steps=16" in sentence for sentence in sentences] == [True] * told


def test_only_a_schedule_that_is_in_use_is_spoken_of(at_once):
    model = eager("gpt", warmup_steps=2, decay_steps=8)
    model.compile(keras.optimizers.Adam(1e-3))
    assert not advice(model.fit(text(), steps_per_epoch=4, epochs=4, run_dir=False, **QUIET))


def test_the_step_at_which_the_clock_ends_training_is_expected(monkeypatch):
    """A run that goes on after 400 s and 900 steps: it compiles for 40 s, then a step a second."""
    now = [1000.0]
    monkeypatch.setattr(training.time, "monotonic", lambda: now[0])
    position, end = tf.Variable(0, dtype="int64"), tf.Variable(0, dtype="int64")
    follow = training.FollowProgress(position, end, 60, math.inf, seconds=1000.0)
    follow.progbar = SimpleNamespace(epochs=99)
    follow.set_model(SimpleNamespace(progress=training.Progress(9, 900, 900, 400_000)))
    follow.start_clock(follow.model.progress)
    follow.on_epoch_begin(9)
    assert follow.progbar.epochs == 99, "nothing is known yet"
    now[0] += 40.0
    follow.compiled = (901, follow._elapsed)
    now[0] += 60.0
    follow.model.progress = training.Progress(10, 961, 961, 500_000)
    assert follow.expected_steps() == 961 + 500
    follow.on_epoch_begin(10)
    assert follow.progbar.epochs == 10 + 9, "the last of 20 steps"
    follow.last = 12
    assert follow.expected_steps() == 961 + 2 * 60
    follow.last, follow.seconds = math.inf, math.inf
    assert follow.expected_steps() == math.inf


def test_checks_that_compute_keep_to_their_budget(monkeypatch):
    """A check that takes a second is made again after a hundred; the others every time."""
    monkeypatch.setattr(health, "BUDGET", 0.01)
    clock, free, costly = [0.0], [], []

    def check(watch):
        costly.append(clock[0])
        clock[0] += 1.0

    monkeypatch.setattr(health.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(health, "CHECKS", (lambda watch: free.append(clock[0]),))
    monkeypatch.setattr(health, "COSTLY_CHECKS", (check,))
    watch = health.Health(None)
    watch.set_model(tiny("gan", data=images()))
    watch.on_train_begin()
    watch.model.progress.step = health.FIRST_STEP - 1
    watch.on_epoch_end(0, {"loss": 1.0})
    watch.model.progress.step = health.FIRST_STEP
    times = [10.0, 50.0, 99.0, 101.0, 150.0, 202.0]
    for now in times:
        clock[0] = now
        watch.on_epoch_end(0, {"loss": 1.0})
    assert free == times
    assert costly == [10.0, 101.0, 202.0]
