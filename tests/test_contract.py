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
from pathlib import Path

import graphs
import keras
import numpy as np
import pytest
from contract_data import measured_run, tiny, training_data

from keras_genai import zoo
from keras_genai.callbacks import health
from keras_genai.zoo import published

BATCH = 8
QUIET = {"batch_size": BATCH, "verbose": 0}

pytestmark = pytest.mark.parametrize("name", zoo.list())


def make(name, seed=3, **overrides):
    return tiny(name, seed=seed, **overrides)


def data_of(name):
    return training_data(name)


def inputs(name):
    """What `generate` cannot do without."""
    return [data_of(name)[:2]] if zoo.info(name).task == "transform" else []


def fit_whole(model, run_dir, **options):
    """The training that the tests compare with: two epochs, validated."""
    settings = {"epochs": 2, "steps_per_epoch": 12, "validation_split": 0.4}
    return model.fit(data_of(model.recipe), run_dir=run_dir, **settings, **options, **QUIET)


def run_of(name):
    return Path(os.environ["KERAS_GENAI_RUNS"]) / "contract" / name


optimized = {}  # the graphs that `trained` ran, by recipe


@functools.cache
def trained(name):
    """A model after an uninterrupted run, and its state then: tests may train the model on."""
    random.seed(1)  # whatever the process's own random state is, which must stay as it was
    np.random.seed(1)
    before = random.getstate(), np.random.get_state()[1].copy()
    model = make(name)
    with graphs.collected() as optimized[name]:
        fit_whole(model, run_of(name))
    assert random.getstate() == before[0]
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])
    return model, state(model)


def state(model):
    """Everything that training changes, by name."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"{i} {variable.path}": variable.numpy() for i, variable in enumerate(variables)}


def assert_same_state(mine, theirs):
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
        model.generate(*inputs(name))
    with pytest.raises(ValueError, match=r"no weights to save.*Received: "):
        model.save("model.keras")
    assert zoo.get(name, data=data_of(name), **zoo.info(name).tiny).built


def test_every_variable_moves_and_losses_are_finite(name):
    model, _ = trained(name)
    new = make(name)
    new.settle(data_of(name))
    paths = {variable.path for variable in new.trainable_variables}
    assert len(paths) == len(new.trainable_variables), "variable paths must be unique"
    for variable, start in zip(model.trainable_variables, new.trainable_variables, strict=True):
        excused = any(part in variable.path for part in zoo.info(name).no_gradient)
        moved = np.abs(variable.numpy() - start.numpy())
        assert np.isfinite(moved).all(), variable.path
        assert excused or moved.max() > 0, f"{variable.path} got no gradient"
    names = {*model.loss_names, "loss"}
    row = history_rows(run_of(name))[-1]
    assert set(row) >= names | {f"val_{key}" for key in names}
    assert np.isfinite([float(row[key]) for key in names]).all()


def test_no_update_overtakes_a_read(name):
    """Variables are read and written in the order of the code, whatever runs at the same time."""
    trained(name)
    operations = {node.op for graph in optimized[name] for node in graph.node}
    assert {"ReadVariableOp", "AssignVariableOp"} <= operations, "the step is among them"
    updates = {name for name in operations if name.startswith("ResourceApply")}
    assert updates <= {"ResourceApplyAdam"}, "`graphs.unordered` knows no others"
    assert [pair for graph in optimized[name] for pair in graphs.unordered(graph)] == []


def test_generate_keeps_its_contract(name):
    model, _ = trained(name)
    first, again = model.preview(seed=1), model.preview(seed=1)
    assert np.array_equal(first, again)
    assert not np.array_equal(first, model.preview(seed=2))
    assert model.takes_images == (zoo.info(name).task == "transform")
    if model.takes_images:
        one, *_ = given = data_of(name)[:3]
        made = model.generate(given, seed=1)
        assert made.dtype == np.uint8 and made.shape == given.shape
        # Batches of other sizes are rounded otherwise.
        assert np.abs(model.generate(one) - made[0].astype(int)).max() <= 1
        assert np.array_equal(model.generate(given / np.float32(255)), made)
        for bad in (3, given[:, :-1], np.zeros((2, 5)), np.zeros((2, 16, 16, 2))):
            with pytest.raises(ValueError, match=r"(?s)[Ii]mages.*Received: "):
                model.generate(bad)
        return
    assert not np.array_equal(model.generate(), model.generate()), "seed=None must move on"
    if model.modality == "image":
        assert model.takes_labels == (zoo.info(name).task == "labels")
        images = model.generate(3, seed=1)
        assert images.dtype == np.uint8
        assert images.shape == (3, *model.image_shape)
        many = model.generate(140, seed=1)
        assert len(np.unique(many.reshape(140, -1), axis=0)) > 130, "chunks must differ"
        for n in (0, -1, 2.5, "3"):
            with pytest.raises(ValueError, match=r"positive integer.*Received: "):
                model.generate(n)
    elif model.modality == "ratings":
        items = model.item_ids
        (one, two), alone = model.generate([items[:3], items[4:5]], k=5), model.generate(items[:3])
        assert len(one) == len(two) == 5 == len({*one} - {*items[:3]}) and one == alone[:5]
        assert {*one, *two} <= {*items} and items[4] not in two
        assert model.generate(items[:3], seed=1) == model.generate(items[:3], seed=2)
    else:
        text = model.generate("the cat", max_length=40, seed=1)
        assert isinstance(text, str) and len(text) == 40 and text.startswith("the cat")
        both = model.generate(["the cat", "a"], max_length=40, seed=1)
        assert both[0].startswith("the cat") and both[1].startswith("a")
        greedy = model.generate("the", max_length=40, temperature=0, seed=1)
        assert greedy == model.generate("the", max_length=40, temperature=0, seed=2)


def test_health_can_look_at_it(name):
    """All checks, which begin after more steps than any run has here."""
    model, _ = trained(name)
    watch = health.Health(model.prepare(model.open_data(data_of(name)).train))
    watch.set_model(model)
    found = [check(watch) for check in (*health.CHECKS, *health.COSTLY_CHECKS)]
    assert len(found) > 5 and {type(sentence) for sentence in found} <= {str, type(None)}


def test_save_and_load_keep_everything(name, tmp_path):
    """What comes back is equal; `continued` trains such a model on."""
    model, _ = trained(name)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert np.array_equal(loaded.preview(seed=1), model.preview(seed=1))
    assert_same_state(state(loaded), state(model))
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


def test_continuing_is_exact_with_xla_and_several_steps_an_execution(name, tmp_path):
    """4 epochs are 2, a save, a load and 1 + 1."""

    def fit(epochs, **options):
        options |= {"epochs": epochs, "steps_per_epoch": 3, "run_dir": False}
        return model.fit(data_of(name), **options, **QUIET).history

    save = keras.callbacks.LambdaCallback(
        on_epoch_end=lambda epoch, logs: epoch == 1 and model.save(tmp_path / "half.keras")
    )
    model = make(name)
    model.jit_compile, model.steps_per_execution = True, 2
    expected = fit(4, callbacks=save)
    final, progress = state(model), dataclasses.replace(model.progress)
    # The model that is compiled goes on with all that the file brought back: compiling another
    # takes longer than all other steps of this file.
    model.adopt(keras.models.load_model(tmp_path / "half.keras"))
    third, fourth = fit(1), fit(1)
    for key, values in expected.items():
        assert values[2:] == third[key] + fourth[key], key
    assert_same_state(state(model), final)
    assert model.progress == dataclasses.replace(progress, milliseconds=model.progress.milliseconds)


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


def history_rows(run_dir):
    with open(run_dir / "history.csv", newline="") as file:
        return [{**row, "seconds": ""} for row in csv.DictReader(file)]


@functools.cache
def interrupted(name):
    """The folder of a run that was stopped twice, at a step and in the validation."""
    model, _ = trained(name)
    begin = make(name)
    begin.settle(data_of(name))
    model.adopt(begin)  # from the start, with the step that is traced already
    run_dir = run_of(name).with_suffix(".interrupted")
    for stop in (CtrlC(steps=6), CtrlC(validations=1)):  # the second goes on in the same process
        with pytest.raises(KeyboardInterrupt):
            fit_whole(model, run_dir, callbacks=stop)
    assert stop.steps == 6 - 12, "the steps before the first stop are not made again"
    return run_dir


def continued(name, run_dir):
    """Ends an interrupted run in a loaded model; returns states and samples, to compare."""
    new, loaded = make(name), zoo.load(run_dir)
    new.settle(data_of(name))
    assert loaded.progress.step == 12
    loaded.jit_compile = False  # as `make` has set it for the others
    fit_whole(loaded, run_dir)
    samples = {"samples": np.array(loaded.preview())}
    return digest(state(new)), digest(state(loaded)), digest(samples)


def test_interrupted_run_continues_exactly_in_another_process(name, request):
    """Seeds give the same bits in each process; a run folder brings everything along."""
    _, final = trained(name)
    items = [item for item in request.session.items if item.function is request.function]
    start, end, samples = there(tuple(item.callspec.params["name"] for item in items))[name]
    new, other = make(name), make(name, seed=4)
    new.settle(data_of(name))
    other.settle(data_of(name))
    assert digest(state(new)) == start != digest(state(other))
    assert digest(final) == end
    run_dir = interrupted(name)
    assert history_rows(run_dir) == history_rows(run_of(name))
    assert len(history_rows(run_of(name))) == 2
    expected = {"checkpoint.keras", "config.json", "history.csv", "loss.png", "samples"}
    assert expected <= {path.name for path in run_dir.iterdir()}
    assert digest({"samples": np.array(zoo.load(run_dir).preview())}) == samples
    with pytest.raises(ValueError, match=r"(?s)another run.*batch_size.*Received: "):
        make(name).fit(data_of(name), run_dir=run_dir, epochs=4, batch_size=4)


def digest(state):
    return hashlib.sha256(b"".join(value.tobytes() for value in state.values())).hexdigest()


@functools.cache
def there(names):
    """What `continued` returns in another process, with other global seeds, by recipe."""
    folders = {name: str(interrupted(name)) for name in names}
    code = (
        "import random, sys; sys.path.insert(0, 'tests'); random.seed(99)\n"
        "import keras; keras.utils.set_random_seed(7)\n"
        "from test_contract import *\n"
        f"for name, run_dir in {folders}.items():\n"
        "    print('RESULT', name, *continued(name, run_dir), sep='|')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [line.split("|") for line in done.stdout.splitlines() if line.startswith("RESULT")]
    return {name: values for _, name, *values in lines}


def test_validation_and_stock_callbacks_work(name, tmp_path):
    model, _ = trained(name)
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
