"""Prints how much memory training takes on one data set and on another ten times as large.

Each figure is the largest resident size of a fresh process (`VmHWM`, what `getrusage` calls
`ru_maxrss`) that trains the smallest `gan` for a few steps: TensorFlow itself is most of it. The
image sets are noise of 32x32 pixels in colour, `arrays` in memory, `folder` as PNG files, `tfds` as
a data set of TensorFlow Datasets: decoded once ("first") and mapped after that ("later").

    python benchmarks/memory.py
"""

import argparse
import json
import os
import resource
import tempfile
from pathlib import Path

from common import lines_of

COUNTS = {"arrays": (10_000, 100_000), "folder": (5_000, 50_000), "tfds": (20_000, 200_000)}
SHAPE = (32, 32, 3)
STEPS = 100


def noise(count):
    """uint8 (N, 32, 32, 3)."""
    import numpy as np

    return np.random.default_rng(0).integers(0, 256, (count, *SHAPE), "uint8")


def write_folder(folder, count):
    """Images in ten classes; hard links of a hundred files, to be quick."""
    from PIL import Image

    folder.mkdir()
    for i, pixels in enumerate(noise(100)):
        Image.fromarray(pixels).save(folder / f"{i}.png")
    for label in range(10):
        (folder / "all" / str(label)).mkdir(parents=True)
    for i in range(count):
        os.link(folder / f"{i % 100}.png", folder / "all" / str(i % 10) / f"{i:07d}.png")


def write_tfds(folder, count):
    """The data set `noise`, as TensorFlow Datasets keeps it."""
    import tensorflow as tf
    import tensorflow_datasets as tfds

    images = tf.data.Dataset.from_tensor_slices(noise(1000)).repeat(count // 1000)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="noise",
        version="1.0.0",
        features=tfds.features.FeaturesDict({"image": tfds.features.Image(shape=SHAPE)}),
        split_datasets={"train": images.map(lambda image: {"image": image})},
        data_dir=folder,
        disable_shuffling=True,
    )


def train(kind, folder, count):
    """Trains in this process and prints its peak in MB."""
    from keras_genai import zoo

    x = {"arrays": lambda: noise(count), "folder": lambda: folder / "all", "tfds": lambda: "noise"}
    model = zoo.get("gan", **zoo.info("gan").tiny, seed=0)
    model.fit(x[kind](), epochs=1, steps_per_epoch=STEPS, run_dir=False, verbose=0)
    print(json.dumps(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def in_own_process(step, kind, folder, count):
    """Runs one step of a measurement in a fresh process."""
    places = {"TFDS_DATA_DIR": str(folder), "KERAS_GENAI_CACHE": str(folder / "cache")}
    return lines_of(__file__, "--step", step, kind, folder, count, **places)


def compare(kind, counts, parent):
    """Prints a line for a kind of data; two for TFDS, which decodes large sets once."""
    peaks = {"first": [], "later": []} if kind == "tfds" else {"": []}
    for count in counts:
        folder = Path(parent) / f"{kind}_{count}"
        in_own_process("write", kind, folder, count)
        for when in peaks:
            peaks[when].append(float(in_own_process("train", kind, folder, count)[-1]))
    size = counts[1] * 3 * 32 * 32 / 2**20
    for when, (small, large) in peaks.items():
        print(
            f"| {kind} {when} | {counts[0]:,} | {small:.0f} | {counts[1]:,} | {large:.0f} "
            f"| {large - small:.0f} | {size:.0f} |",
            flush=True,
        )


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kinds", nargs="*", default=[*COUNTS], metavar="arrays|folder|tfds")
    parser.add_argument("--step", choices=["write", "train"], help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.step:
        kind, folder, count = arguments.kinds[0], Path(arguments.kinds[1]), int(arguments.kinds[2])
        if arguments.step == "train":
            train(kind, folder, count)
        elif kind != "arrays":
            {"folder": write_folder, "tfds": write_tfds}[kind](folder, count)
        return
    print("| data | images | peak, MB | images | peak, MB | growth, MB | all pixels, MB |")
    print("|---|---|---|---|---|---|---|", flush=True)
    with tempfile.TemporaryDirectory() as parent:
        for kind in arguments.kinds:
            compare(kind, COUNTS[kind], parent)


if __name__ == "__main__":
    main()
