"""Times the input pipeline: alone, and inside the training of `dcgan` at 28x28 in batches of 128.

Alone: milliseconds a batch, the pipeline doing nothing else. In `fit`: the share of the time that
training waits for `next(iterator)`, taken around each step that `fit` makes. The folder is one of
grey PNG files; `tfds` is MNIST and needs it in `TFDS_DATA_DIR`.

    python benchmarks/input_pipeline.py                   # all kinds of data
    python benchmarks/input_pipeline.py arrays folder
"""

import argparse
import logging
import tempfile
import time
from pathlib import Path

from keras_genai import data, zoo  # isort: skip  (before TensorFlow: it sets the environment)
import numpy as np
import tensorflow as tf
from common import batches_of
from PIL import Image

ITEMS, BATCH, STEPS, WARM_UP = 10_000, 128, 60, 5


def noise():
    return np.random.default_rng(0).integers(0, 256, (ITEMS, 28, 28, 1), "uint8")


def folder_of(images, folder):
    for i, image in enumerate(images):
        path = Path(folder) / str(i % 10) / f"{i:05d}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    return folder


def alone(x):
    """Milliseconds a batch."""
    source = data.load(x, modality="image").train
    batches = iter(batches_of(source, BATCH, STEPS + 1))
    next(batches)
    start = time.perf_counter()
    for _ in batches:
        pass
    return 1000 * (time.perf_counter() - start) / STEPS


def in_fit(x):
    """Milliseconds a step and the share of them spent waiting for data."""
    model = zoo.get("dcgan", seed=0, data=x)
    model.make_train_function()
    step = model.train_function
    waits, totals = [], []

    def timed(iterator):
        start = time.perf_counter()
        batch = next(iterator)
        waits.append(time.perf_counter() - start)
        logs = step(iter(tf.data.Dataset.from_tensors(batch)))
        for value in logs.values():
            value.numpy()  # the step has ended when its losses can be read
        totals.append(time.perf_counter() - start)
        return logs

    model.train_function = timed
    options = {"epochs": 1, "steps_per_epoch": STEPS + WARM_UP, "verbose": 0, "run_dir": False}
    model.fit(x, batch_size=BATCH, **options)
    waits, totals = waits[WARM_UP:], totals[WARM_UP:]
    return 1000 * np.median(totals), sum(waits) / sum(totals)


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    kinds = ("arrays", "folder", "tfds")
    parser.add_argument("kinds", nargs="*", default=kinds, metavar="|".join(kinds))
    arguments = parser.parse_args()
    logging.getLogger("keras_genai").setLevel("WARNING")
    with tempfile.TemporaryDirectory() as folder:
        makers = {
            "arrays": noise,
            "folder": lambda: folder_of(noise(), folder),
            "tfds": lambda: "mnist",
        }
        stated = zoo.info("dcgan").step_ms
        share = f"of a step of {stated} ms"
        print(f"| data | a batch alone, ms | {share} | a step of `fit`, ms | waiting |")
        print("|---|---|---|---|---|", flush=True)
        for kind in arguments.kinds:
            x = makers[kind]()
            batch = alone(x)
            step, share = in_fit(x)
            print(
                f"| {kind} | {batch:.1f} | {batch / stated:.1%} | {step:.0f} | {share:.2%} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
