"""One suite over the whole registry, each recipe at its `tiny` size."""

import csv
import dataclasses
import functools
import hashlib
import os
import random
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
from contract_data import measured_run, tiny, training_data

from keras_genai import zoo
from keras_genai.zoo import published

BATCH = 8
QUIET = {"batch_size": BATCH, "verbose": 0}

pytestmark = pytest.mark.parametrize("name", zoo.list())


def make(name, seed=3, **overrides):
    return tiny(name, seed=seed, **overrides)


def data_of(name):
    return training_data(zoo.info(name).modality)


@functools.cache
def trained(name):
    """A model after one epoch, shared by the tests that only look at it."""
    model = make(name)
    history = model.fit(data_of(name), epochs=1, steps_per_epoch=40, run_dir=False, **QUIET)
    return model, history


def state(model):
    """Everything that training changes, by name."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i} {variable.path}": variable.numpy() for i, variable in enumerate(variables)}


def assert_same_state(model, other):
    mine, theirs = state(model), state(other)
    assert len(mine) == len(theirs)
    for (path, value), expected in zip(mine.items(), theirs.values(), strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=path)


def test_declares_what_its_model_is(name):
    recipe, model = zoo.info(name), make(name)
    assert model.modality == recipe.modality
    assert model.recipe == name
    assert recipe.minutes <= 10
    assert model.compiled


def test_is_built_by_its_data_only(name):
    model = make(name)
    assert not model.built
    with pytest.raises(ValueError, match=r"not built yet.*Received: "):
        model.generate()
    with pytest.raises(ValueError, match=r"no weights to save.*Received: "):
        model.save("model.keras")
    assert zoo.get(name, data=data_of(name), **zoo.info(name).tiny).built


def test_every_variable_moves_and_losses_are_finite(name):
    model = make(name)
    model.settle(data_of(name))
    before = {v.path: v.numpy() for v in model.trainable_variables}
    assert len(before) == len(model.trainable_variables), "variable paths must be unique"
    steps = {"steps_per_epoch": 5, "epochs": 1}
    history = model.fit(data_of(name), run_dir=False, **steps, **QUIET).history
    for variable in model.trainable_variables:
        excused = any(part in variable.path for part in zoo.info(name).no_gradient)
        moved = np.abs(variable.numpy() - before[variable.path])
        assert np.isfinite(moved).all(), variable.path
        assert excused or moved.max() > 0, f"{variable.path} got no gradient"
    assert set(history) == {*model.loss_names, "loss"}
    assert np.isfinite([*history.values()]).all()


def test_generate_keeps_its_contract(name):
    model, _ = trained(name)
    first, again = model.preview(seed=1), model.preview(seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, model.preview(seed=2))
    assert not np.array_equal(model.generate(), model.generate()), "seed=None must move on"
    if model.modality == "image":
        images = model.generate(3, seed=1)
        assert images.dtype == np.uint8
        assert images.shape == (3, *model.image_shape)
        many = model.generate(140, seed=1)
        assert len(np.unique(many.reshape(140, -1), axis=0)) > 130, "chunks must differ"
        for n in (0, -1, 2.5, "3"):
            with pytest.raises(ValueError, match=r"positive integer.*Received: "):
                model.generate(n)
    else:
        text = model.generate("the cat", max_length=40, seed=1)
        assert isinstance(text, str) and len(text) == 40 and text.startswith("the cat")
        both = model.generate(["the cat", "a"], max_length=40, seed=1)
        assert both[0].startswith("the cat") and both[1].startswith("a")
        greedy = model.generate("the", max_length=20, temperature=0, seed=1)
        assert greedy == model.generate("the", max_length=20, temperature=0, seed=2)


def test_save_and_load_keep_everything(name, tmp_path):
    model, _ = trained(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.preview(seed=1), model.preview(seed=1))
    assert_same_state(loaded, model)
    assert (loaded.recipe, loaded.arguments) == (model.recipe, model.arguments)
    assert loaded.get_config() == model.get_config()
    assert loaded.progress == model.progress
    with pytest.raises(ValueError, match=r"overwrite=False.*Received: "):
        model.save(tmp_path / "model.keras", overwrite=False)


def test_publish_and_load_keep_what_it_makes(name, tmp_path):
    model, _ = trained(name)
    run = measured_run(tmp_path / "run", model, data_of(name))
    of_data = {"data": data_of(name), "licence": "none", "credit": "nobody"}
    entry = zoo.publish([run], "tag", catalogue=tmp_path / "zoo", **of_data)
    # `publish` has drawn these from the entry as `zoo.load` gives it.
    assert published.read(entry)["golden"] == published.golden(model.preview(seed=0))
    loaded = zoo.load(entry)
    assert loaded.compiled and loaded.seed == model.seed
    for network, expected in model.networks_in_use.items():
        for value, weight in zip(loaded.networks_in_use[network].weights, expected.weights,
                                 strict=True):  # fmt: skip
            np.testing.assert_array_equal(value, weight)


@pytest.mark.parametrize(("jit_compile", "steps_per_execution"), [(False, 1), (True, 2)])
def test_continuing_is_exact(name, jit_compile, steps_per_execution, tmp_path):
    """4 epochs are 2, a save, a load and 1 + 1: through a file and in one process."""

    def fit(model, epochs, **options):
        model.jit_compile = jit_compile
        model.steps_per_execution = steps_per_execution
        options |= {"epochs": epochs, "steps_per_epoch": 3, "run_dir": False}
        return model.fit(data_of(name), **options, **QUIET).history

    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and whole.save(tmp_path / "half.keras")
    )
    whole = make(name)
    expected = fit(whole, 4, callbacks=save)
    continued = keras.models.load_model(tmp_path / "half.keras")
    third, fourth = fit(continued, 1), fit(continued, 1)
    for key, values in expected.items():
        assert values[2:] == third[key] + fourth[key], key
    assert_same_state(continued, whole)
    assert continued.progress == dataclasses.replace(
        whole.progress, milliseconds=continued.progress.milliseconds
    )


class CtrlC(keras.callbacks.Callback):
    """Presses Ctrl-C after some training steps, or in a validation."""

    def __init__(self, steps=0, validations=0):
        super().__init__()
        self.steps, self.validations = steps, validations

    def on_train_batch_begin(self, batch, logs=None):
        self.steps -= 1
        if self.steps == 0:
            os.kill(os.getpid(), signal.SIGINT)

    def on_test_begin(self, logs=None):
        self.validations -= 1
        if self.validations == 0:
            os.kill(os.getpid(), signal.SIGINT)


def test_interrupted_run_continues_exactly(name, tmp_path):
    def fit(model, run_dir, **options):
        settings = {"epochs": 3, "steps_per_epoch": 4, "validation_split": 0.4}
        return model.fit(data_of(name), run_dir=run_dir, **settings, **options, **QUIET)

    whole, first, second = make(name), make(name), make(name)
    fit(whole, tmp_path / "whole")
    for stop in (CtrlC(steps=6), CtrlC(validations=1)):  # the second goes on in the same process
        with pytest.raises(KeyboardInterrupt):
            fit(first, tmp_path / "run", callbacks=stop)
    fit(second, tmp_path / "run")
    assert_same_state(second, whole)
    rows = []
    for folder in ("whole", "run"):
        with open(tmp_path / folder / "history.csv", newline="") as file:
            rows.append([{**row, "seconds": ""} for row in csv.DictReader(file)])
    assert rows[0] == rows[1] and len(rows[0]) == 3
    expected = {"checkpoint.keras", "config.json", "history.csv", "loss.png", "samples"}
    assert expected <= {path.name for path in (tmp_path / "run").iterdir()}
    assert np.array_equal(zoo.load(tmp_path / "run").preview(), whole.preview())
    with pytest.raises(ValueError, match=r"(?s)another run.*batch_size.*Received: "):
        make(name).fit(data_of(name), run_dir=tmp_path / "run", epochs=4, batch_size=4)


def test_validation_and_stock_callbacks_work(name, tmp_path):
    model = make(name)
    stock = [
        keras.callbacks.EarlyStopping(monitor="val_loss", patience=9),
        keras.callbacks.ReduceLROnPlateau(monitor="loss", factor=0.5, patience=1, min_delta=1e9),
        keras.callbacks.ModelCheckpoint(tmp_path / "best.keras", monitor="val_loss"),
        keras.callbacks.TerminateOnNaN(),
        keras.callbacks.CSVLogger(tmp_path / "log.csv"),
    ]
    rates = [optimizer.learning_rate.numpy() for optimizer in _optimizers(model)]
    options = {"epochs": 3, "steps_per_epoch": 2, "run_dir": False, "validation_split": 0.4}
    history = model.fit(data_of(name), callbacks=stock, **options, **QUIET).history
    names = {*model.loss_names, "loss"}
    assert set(history) >= names | {f"val_{key}" for key in names}
    assert np.isfinite([history[f"val_{key}"] for key in names]).all()
    for optimizer, rate in zip(_optimizers(model), rates, strict=True):
        assert optimizer.learning_rate.numpy() < rate, "ReduceLROnPlateau must reach all"
    assert np.array_equal(
        keras.models.load_model(tmp_path / "best.keras").preview(), model.preview()
    )
    evaluated = model.evaluate(data_of(name), batch_size=5, verbose=0, return_dict=True)
    assert set(evaluated) == names


def _optimizers(model):
    return getattr(model.optimizer, "optimizers", [model.optimizer])


def test_same_seed_same_bits_across_processes(name):
    """Whatever the process's own random state is, which is left as it was."""
    random.seed(1)
    state_before = random.getstate()
    np.random.seed(1)
    keras.backend.clear_session()
    here = fingerprint(name)
    assert random.getstate() == state_before
    assert there(sys.executable)[name] == here
    model = make(name, seed=4)
    model.fit(data_of(name), epochs=1, run_dir=False, **QUIET)
    assert _digest(model) != here


def fingerprint(name):
    model = make(name)
    model.fit(data_of(name), epochs=1, run_dir=False, **QUIET)
    return _digest(model)


def _digest(model):
    return hashlib.sha256(b"".join(value.tobytes() for value in state(model).values())).hexdigest()


@functools.cache
def there(python):
    """The fingerprints of all recipes in another process, with other global seeds."""
    code = (
        "import random, sys; sys.path.insert(0, 'tests'); random.seed(99)\n"
        "import keras; keras.utils.set_random_seed(7)\n"
        "from test_contract import fingerprint, zoo\n"
        "for name in zoo.list(): print('RESULT', name, fingerprint(name), sep='|')\n"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {name: digest for _, name, digest in lines}


def test_bad_input_is_refused_before_training(name):
    model = make(name)
    good = data_of(name)
    bad_calls = [
        ({"class_weight": {0: 1}}, "class_weight"),
        ({"epochs": 0}, "epochs"),
        ({"minutes": 0}, "minutes"),
        ({"batch_size": 10**6}, "batch"),
        ({"batch_size": 0}, "batch_size"),
    ]
    for arguments, word in bad_calls:
        options = {"epochs": 1, "verbose": 0, "run_dir": False, **arguments}
        with pytest.raises(ValueError, match=rf"(?s){word}.*Received: "):
            model.fit(good, **options)
    for bad in ("no_such_data_set", np.zeros((0, 8, 8, 1), "uint8"), np.zeros((5, 3)), 3.5):
        with pytest.raises((ValueError, TypeError), match=r"(?s)Received: "):
            model.fit(bad, epochs=1, verbose=0, run_dir=False)
    assert model.progress.step == 0
