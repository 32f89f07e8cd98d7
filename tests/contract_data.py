"""Small data of each modality for the contract suite, made in memory, models and runs as small."""

import json

import numpy as np

from keras_genai import data, zoo
from keras_genai.callbacks import run_folder

# What does not depend on a model's own mathematics is tested on these: some of each family.
FEW = ("char_rnn", "dcgan", "gan", "vae")


def images(n=48, shape=(16, 16, 1), seed=0):
    """Bright blobs at random places, uint8 (N, H, W, C)."""
    rng = np.random.default_rng(seed)
    height, width, channels = shape
    rows, columns = np.mgrid[:height, :width]
    y, x = rng.uniform(3, height - 3, n), rng.uniform(3, width - 3, n)
    distance = (rows - y[:, None, None]) ** 2 + (columns - x[:, None, None]) ** 2
    blobs = 255 * np.exp(-distance / 8)
    return np.repeat(blobs[..., None], channels, -1).astype("uint8")


def text(seed=0):
    """Sentences of a few words, as a list of one document."""
    rng = np.random.default_rng(seed)
    words = "the cat sat on a mat and saw no dog".split()
    return [" ".join(rng.choice(words, 160)) + ".\n"]


def labelled(n=48, shape=(16, 16, 1), seed=0, classes=3):
    """Blobs whose label says how bright they are, as a data set in one part."""
    labels = np.random.default_rng(seed).permutation(n) % classes
    share = (labels + 1)[:, None, None, None] / classes
    return data.load((images(n, shape, seed) * share).astype("uint8"), labels)


def ratings(users=48, seed=0):
    """Users who like one half of 24 items more than the other, 0 or 1 (U, I)."""
    rng = np.random.default_rng(seed)
    alike = rng.integers(0, 2, users)[:, None] == np.arange(24) // 12
    return (rng.random((users, 24)) < np.where(alike, 0.7, 0.2)).astype("uint8")


def training_data(name):
    """What a recipe is trained on in the contract suite."""
    recipe = zoo.info(name)
    if recipe.task == "labels":
        return labelled()
    return {"image": images, "text": text, "ratings": ratings}[recipe.modality]()


def tiny(name="dcgan", **overrides):
    """A recipe at its `tiny` size."""
    model = zoo.get(name, **{"seed": 0, **zoo.info(name).tiny, **overrides})
    model.jit_compile = False  # compiling takes longer than all these steps
    return model


def eager(name="gan", **overrides):
    """As `tiny`, without graphs, which is quicker where a few steps will do."""
    model = tiny(name, **overrides)
    model.run_eagerly = True
    return model


METRIC = {
    "name": "FD-blobs", "value": 2.0, "standard_error": 0.1, "samples": 1000,
    "features": "blobs", "resize": "none", "split": "test",
}  # fmt: skip


def measured_run(path, model, data, *metrics):
    """What training and measuring leave behind: a run folder with `metrics.json`."""
    source = model.prepare(model.open_data(data).train)
    settings = {
        "data": source.name, "data_fingerprint": source.fingerprint, "validation_split": None,
        "batch_size": 8, "steps_per_epoch": 3, "shuffle": True, "exact": True, "replicas": 1,
    }  # fmt: skip
    folder, _ = run_folder.open_folder(path, model, settings)
    folder.set_model(model)
    folder.on_train_begin()
    (path / "history.csv").write_text("epoch,step,seconds,loss\n1,3,0.1,0.5\n")
    facts = {
        "data": source.name, "data_fingerprint": source.fingerprint, "num_samples": 1000, "seed": 0
    }  # fmt: skip
    measurement = {**facts, "metrics": metrics or [METRIC]}
    (path / "metrics.json").write_text(json.dumps(measurement))
    return path
