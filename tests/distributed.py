"""Programs that `test_distribution.py` runs in processes of their own; each prints JSON last.

A process has two logical CPUs or is one of two workers, which is settled before TensorFlow starts.
"""

import contextlib
import hashlib
import json
import os
import signal
import sys

import keras
import numpy as np
import tensorflow as tf
from contract_data import images, labelled, text

from keras_genai import distribution, zoo
from keras_genai.data.images import to_model
from keras_genai.layers import Dropout, SpectralDense
from keras_genai.models.vaes.vae import gaussian_kl

QUIET = {"batch_size": 8, "verbose": 0}
REPLICATED = ("cgan", "char_rnn", "gan", "vae")
SHAPE = (8, 8, 1)  # so that the graphs, which are built once a device, are small
SMALL = {"epochs": 2, "steps_per_epoch": 2, **QUIET}


def make(name, strategy=None, **overrides):
    """A tiny model, under a strategy if there is one."""
    with (strategy or tf.distribute.get_strategy()).scope():
        return zoo.get(name, seed=3, **{**zoo.info(name).tiny, **overrides})


def use_sgd(model, *arguments, **options):
    """Compiles a model anew; its few steps are quicker without a graph."""
    with model.distribute_strategy.scope():
        model.compile(keras.optimizers.SGD(*arguments, **options), run_eagerly=True)


def digest(model):
    """A fingerprint of all that training changes."""
    variables = [*model.variables, *model.optimizer.variables]
    return hashlib.sha256(b"".join(v.numpy().tobytes() for v in variables)).hexdigest()


class Kill(keras.callbacks.Callback):
    """Sends this process a signal before the first step of the second epoch."""

    def __init__(self, number):
        super().__init__()
        self.number = number

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch

    def on_train_batch_begin(self, batch, logs=None):
        if (self.epoch, batch) == (1, 0):
            os.kill(os.getpid(), self.number)


# One process, two logical CPUs -------------------------------------------------------------------


def two_replicas(folder):
    """Every check that needs no second process, by name."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    two = [tf.config.LogicalDeviceConfiguration()] * 2
    tf.config.set_logical_device_configuration(cpu, two)
    strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    models = {name: make(name, strategy) for name in REPLICATED}
    found = {name: fit_and_evaluate(models[name], folder) for name in REPLICATED}
    found["equal_to_one_replica"] = {
        "beta_vae": [train_beta_vae(strategy), train_beta_vae(None)],
        "char_rnn": [train_char_rnn(strategy), train_char_rnn(None)],
    }
    found["equal_to_one_replica"]["vq_vae"], found["codes"] = codes(strategy)
    found["noise"] = noise(strategy)
    found["spectral"] = spectral(strategy)
    found["continued"] = continued(models["vae"], folder)
    found["refused"] = refused(strategy)
    found["uneven_stream"] = uneven_stream(strategy)
    return found


def fit_and_evaluate(model, folder):
    """Trains as the contract suite does, and evaluates with and without the strategy."""
    run = f"{folder}/{model.recipe}"
    # The last batch to evaluate has one item, so that one replica has none.
    if model.modality == "text":
        data = held_out = text()
    else:
        make_data = labelled if model.takes_labels else images
        data, held_out = make_data(48, SHAPE), make_data(9, SHAPE)
    history = model.fit(data, validation_split=0.4, run_dir=run, **SMALL).history
    local = model.distribute_strategy.experimental_local_results
    values = [local(v.value) for v in model.variables]
    options = {**QUIET, "return_dict": True}  # batches as in validation: nothing is traced anew
    alone = zoo.load(run)
    alone.run_eagerly = True  # a few steps are quicker than a graph
    return {
        "history": history,
        "replicas_agree": all(np.array_equal(a, b) for a, b in values),
        "evaluated": [m.evaluate(held_out, **options) for m in (model, alone)],
        "files": sorted(os.listdir(run)),
        "digest": digest(model),
    }


def train_beta_vae(strategy):
    """The weights after three steps of SGD without noise, with fixed batch normalisation.

    The kl is close to its capacity, and on both sides of it on the two replicas.
    """
    model = make("beta_vae", strategy, capacity_steps=1)
    model.settle(images())
    for network in model.layers:
        for layer in network.layers:
            layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    model.capacity = float(np.mean(gaussian_kl(*model.encoder(to_model(images())))))
    use_sgd(model, 1e-3)
    with model.distribute_strategy.scope():
        model.optimizer.build(model.trainable_variables)
    model.normal = lambda shape: tf.zeros(shape)
    return weights_after_three_steps(model, images())


def train_char_rnn(strategy):
    """The weights after three steps of SGD whose gradients are clipped, without dropout."""
    model = make("char_rnn", strategy, dropout=0.0)
    use_sgd(model, 1.0, global_clipnorm=0.02)
    return weights_after_three_steps(model, text())


def codes(strategy):
    """As above, of a VQ-VAE without restarts; its evaluation and, with restarts, its codebook."""
    models = [make("vq_vae", s, restart_below=0.0) for s in (strategy, None)]
    for model in models:
        use_sgd(model, 1e-3)
    weights = [weights_after_three_steps(model, images(48, SHAPE)) for model in models]
    held_out = images(9, SHAPE)
    evaluated = [m.evaluate(held_out, **QUIET, return_dict=True) for m in models]
    model = make("vq_vae", strategy)
    use_sgd(model, 1e-3)
    model.fit(images(48, SHAPE), epochs=1, steps_per_epoch=1, run_dir=False, **QUIET)
    books = strategy.experimental_local_results(model.codebook.codes.value)

    def turns():
        own = tf.distribute.get_replica_context().replica_id_in_sync_group
        return distribution.in_turn(tf.fill((5, 1), tf.cast(own, "float32")))

    rows = strategy.experimental_local_results(strategy.run(tf.function(turns)))
    return weights, {
        "evaluated": evaluated,
        "books": [book.numpy().tolist() for book in books],
        "rows": [part.numpy().ravel().tolist() for part in rows],
    }


def weights_after_three_steps(model, data):
    model.settle(data)
    before = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
    model.fit(data, epochs=1, steps_per_epoch=3, run_dir=False, **QUIET)
    after = np.concatenate([v.numpy().ravel() for v in model.trainable_variables])
    return [float(x) for x in (*after, np.abs(after - before).max())]


def noise(strategy):
    """What the two replicas draw."""
    model = make("gan", strategy, image_shape=(8, 8, 1))
    with strategy.scope():
        dropout = Dropout(0.5, seed=1)
    draws = {
        "normal": lambda: model.normal((3, 4)),
        "dropout": lambda: dropout(tf.ones((3, 4)), training=True),
    }
    return {
        name: [part.numpy().tolist() for part in strategy.run(tf.function(draw)).values]
        for name, draw in draws.items()
    }


def spectral(strategy):
    """The vector beside the kernel of a layer: before a step, and after it on both replicas."""
    with strategy.scope():
        layer = SpectralDense(3)
        layer.build((None, 4))
    before = layer.u.numpy().tolist()
    strategy.run(tf.function(lambda: layer(tf.ones((2, 4)), training=True)))
    after = strategy.experimental_local_results(layer.u.value)
    return [before, *(vector.numpy().tolist() for vector in after)]


def continued(model, folder):
    """The steps that are left of a run that Ctrl-C cut, and its fingerprint when they are made."""
    steps = []
    note = keras.callbacks.LambdaCallback(
        on_train_batch_begin=lambda batch, logs: steps.append(model.progress.step)
    )
    with model.distribute_strategy.scope():  # `fit` may also stand inside
        for callback in (Kill(signal.SIGINT), note):
            new = make(model.recipe)
            new.settle(images(48, SHAPE))
            model.adopt(new)  # all that it knew is forgotten but the graphs
            options = {"validation_split": 0.4, "run_dir": f"{folder}/cut", **SMALL}
            with contextlib.suppress(KeyboardInterrupt):
                model.fit(images(48, SHAPE), callbacks=callback, **options)
    return [steps, digest(model)]


def refused(strategy):
    """The messages of what is refused."""
    messages = []
    model = make("gan", strategy)
    for options in ({"batch_size": 7}, {"batch_size": 8}):
        if len(messages) == 1:
            keras.distribution.set_distribution(keras.distribution.DataParallel())
        try:
            model.fit(images(), epochs=1, run_dir=False, verbose=0, **options)
        except ValueError as error:
            messages.append(str(error))
    keras.distribution.set_distribution(None)
    return messages


def uneven_stream(strategy):
    """The losses on batches of 4, 4 and 1 items."""
    model = make("gan", strategy)
    model.run_eagerly = True
    stream = tf.data.Dataset.from_tensor_slices(images(9)).batch(4)
    return model.fit(stream, epochs=1, run_dir=False, verbose=0).history


# Two processes -----------------------------------------------------------------------------------


def worker(folder, victim):
    """One of two workers; number `victim` is killed in the second epoch."""
    strategy = distribution.connect(timeout=60)
    me = json.loads(os.environ["TF_CONFIG"])["task"]["index"]
    model = make("gan", strategy)
    kill = [Kill(signal.SIGKILL)] if me == int(victim) else None
    options = {"validation_split": 0.4, "run_dir": f"{folder}/run", "callbacks": kill, **SMALL}
    model.fit(images(48, SHAPE), **options)
    model.save(f"{folder}/{me}.keras")
    return digest(model)


if __name__ == "__main__":
    name, *arguments = sys.argv[1:]
    print(json.dumps(globals()[name](*arguments)))
