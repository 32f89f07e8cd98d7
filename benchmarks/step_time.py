"""Times a training step of each recipe against the plain Keras way of doing the same.

The plain way is a subclassed `keras.Model` as a user would write it: the same networks from stock
layers, the same losses, optimizer and batch, on an environment as it comes (`TF_ENABLE_ONEDNN_OPTS`
as it was found, no `jit_compile` argument, float images scaled beforehand; another batch of
generated images for the generator's update, where `dcgan` uses that of the discriminator's). Both
are timed through
`train_function`, each in processes of its own that alternate, because a machine's speed drifts.
The figure to quote is the ratio of the medians.

Where PyTorch is installed, `dcgan` and `gpt` are also timed against the same step in eager PyTorch
(`plain_torch.py`), and `dcgan` with `updates="simultaneous"`, which is another algorithm.

    python benchmarks/step_time.py                 # all recipes
    python benchmarks/step_time.py dcgan --rounds 5
"""

import argparse
import importlib.util
import json
import os
import platform
import statistics
import time

from common import batches_of, lines_of

# The recipes' own; the registry that has them sets up TensorFlow's environment.
BATCHES = {
    "gan": 128,
    "dcgan": 128,
    "lsgan": 128,
    "wgan": 320,
    "wgan_gp": 192,
    "sngan": 64,
    "cgan": 128,
    "acgan": 128,
    "infogan": 128,
    "vae": 128,
    "cvae": 128,
    "beta_vae": 128,
    "iwae": 128,
    "autoencoder": 128,
    "vae_gan": 128,
    "vq_vae": 128,
    "mult_vae": 100,
    "char_rnn": 32,
    "gpt": 12,
    "bert": 16,
}
LABELLED = ("cgan", "acgan", "cvae")
WINDOWS = {"char_rnn": 100, "gpt": 64, "bert": 64}  # characters in a window of text
WARM_UP, STEPS = 3, 25


def measure_ours(name, **overrides):
    """Milliseconds of each step of the recipe, on uint8 data through the package's pipeline."""
    from keras_genai import data, zoo  # isort: skip  (before TensorFlow: it sets the environment)
    import numpy as np

    rng = np.random.default_rng(0)
    if name in WINDOWS:
        characters = rng.integers(32, 97, 1000 * WINDOWS[name] + 1)
        dataset = data.load(["".join(map(chr, characters))])
    elif name == "mult_vae":
        dataset = data.load("tastes")  # 800 users, 400 items
    else:
        images = rng.integers(0, 256, (2560, 28, 28, 1), "uint8")
        labels = rng.integers(0, 10, 2560) if name in LABELLED else None
        dataset = data.load(images, labels)
    model = zoo.get(name, seed=0, data=dataset, **overrides)
    return time_steps(model, batches_of(model.prepare(dataset.train), BATCHES[name]))


def measure_plain(name):
    """Milliseconds of each step of the model as a user would write it."""
    import keras
    import numpy as np
    import plain
    import tensorflow as tf

    batch_size, rng = BATCHES[name], np.random.default_rng(0)
    if name in WINDOWS:
        ids = rng.integers(0, 65, (1000, WINDOWS[name] + 1)).astype("int32")
        arrays = (ids[:, :-1], ids[:, 1:])
    elif name == "mult_vae":
        arrays = ((rng.random((800, 400)) < 0.06).astype("float32"),)
    else:
        arrays = (rng.integers(0, 256, (2560, 28, 28, 1)).astype("float32") / 127.5 - 1.0,)
        if name in LABELLED:
            arrays += (rng.integers(0, 10, 2560),)
    keras.utils.set_random_seed(0)
    model = getattr(plain, name)()
    if name == "autoencoder":
        arrays *= 2  # images in, the same images out
    dataset = tf.data.Dataset.from_tensor_slices(arrays if len(arrays) > 1 else arrays[0])
    return time_steps(model, dataset.shuffle(1024).batch(batch_size, drop_remainder=True).repeat())


def measure_simultaneous(name):
    """As `measure_ours`, with the option of that name."""
    return measure_ours(name, updates="simultaneous")


def measure_torch(name):
    """Milliseconds of each step in eager PyTorch."""
    import plain_torch

    return getattr(plain_torch, name)(WARM_UP + STEPS)[WARM_UP:]


MEASURES = {
    "ours": measure_ours,
    "plain": measure_plain,
    "torch": measure_torch,
    "simultaneous": measure_simultaneous,
}


def time_steps(model, dataset):
    """Wall time of each step in milliseconds, after the compilation."""
    model.make_train_function()
    iterator = iter(dataset)
    times = []
    for _ in range(WARM_UP + STEPS):
        start = time.perf_counter()
        logs = model.train_function(iterator)
        for value in logs.values():
            value.numpy()  # the step has ended when its losses can be read
        times.append(1000 * (time.perf_counter() - start))
    return times[WARM_UP:]


def compare(name, other, rounds, ours="ours"):
    """Alternates ours and another way; prints medians, minima and the ratio."""
    times = {ours: [], other: []}
    ratios = []
    for _ in range(rounds):
        medians = {}
        for kind in times:
            measured = json.loads(lines_of(__file__, name, "--measure", kind)[-1])
            medians[kind] = statistics.median(measured)
            times[kind] += measured
        ratios.append(medians[ours] / medians[other])
    cells = [f"{statistics.median(values):.0f} ({min(values):.0f})" for values in times.values()]
    label = name if ours == "ours" else f"{name}, {ours}"
    print(
        f"| {label} | {BATCHES[name]} | {cells[0]} | {other} | {cells[1]} "
        f"| {statistics.median(ratios):.2f} ({min(ratios):.2f}-{max(ratios):.2f}) |",
        flush=True,
    )


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=[*BATCHES], metavar="recipe")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each kind")
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(MEASURES[arguments.measure](arguments.names[0])))
        return
    onednn = os.environ.get("TF_ENABLE_ONEDNN_OPTS", "unset")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs, "
          f"TF_ENABLE_ONEDNN_OPTS {onednn} in the environment\n")  # fmt: skip
    print("| recipe | batch | ours, ms: median (min) | other | its ms | ratio of medians (range) |")
    print("|---|---|---|---|---|---|", flush=True)
    for name in arguments.names:
        compare(name, "plain", arguments.rounds)
    with_torch = [name for name in ("dcgan", "gpt") if name in arguments.names]
    if with_torch and not importlib.util.find_spec("torch"):
        print("\nPyTorch is not installed: pip install torch adds the comparison with it.")
        return
    for name in with_torch:
        compare(name, "torch", arguments.rounds)
    if "dcgan" in arguments.names:
        compare("dcgan", "torch", arguments.rounds, ours="simultaneous")


if __name__ == "__main__":
    main()
