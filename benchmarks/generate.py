"""Times sampling against calling `predict` in a loop, as the keras.io examples do.

Ours is `generate`: 1,000 images, and 10,000 characters as 10 texts of 1,000 at once and as one
text. The plain way calls `predict` for each image, or, for each character, on the window of the
last characters, as many as the model is trained on. It takes the same networks with the same
weights. It is slow: 100 images and 200 characters are timed, and the time for all is worked out
from them. Compilation is excluded on both sides by a first call.

The second table is of `gpt`: 1,000 characters after the first, far beyond the 64 that the model
sees. With the cache and without there is one compiled loop each, but without it each character
costs a pass over the last 64. Where PyTorch is installed, the third way is the same without a
cache in eager PyTorch, as nanoGPT does it (`plain_torch.py`). Each is timed in processes of its
own, which alternate; "first" is the first call, compilation included.

    python benchmarks/generate.py
    python benchmarks/generate.py --only gpt
"""

import argparse
import importlib.util
import json
import statistics
import time

import numpy as np
from common import lines_of

from keras_genai import zoo  # isort: skip  (before TensorFlow: it sets the environment)
import tensorflow as tf

IMAGES, CHARACTERS = 1000, 10_000
VOCABULARY = "".join(map(chr, range(32, 97)))


def seconds(function):
    """Wall time of a call, after one that compiles."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def predict_images(network, latent_dim, n):
    for _ in range(n):
        network.predict(np.random.normal(size=(1, latent_dim)), verbose=0)


def predict_text(network, vocabulary_size, window, n):
    ids = [0] * window
    for _ in range(n):
        logits = network.predict(np.array([ids[-window:]]), verbose=0)[0, -1].astype("float64")
        p = np.exp(logits - logits.max())
        ids.append(np.random.choice(vocabulary_size, p=p / p.sum()))


def write(model, texts, length):
    return model.generate([" "] * texts, max_length=length, seed=0)


@tf.function(jit_compile=True)
def write_uncached(model, texts, length):
    window = model.sequence_length

    def body(t, ids):
        start = tf.maximum(t + 1 - window, 0)
        logits = model(tf.gather(ids, start + tf.range(window), axis=1))  # N T V
        following = tf.argmax(tf.gather(logits, t - start, axis=1), 1, "int32")  # N
        return t + 1, tf.where(tf.range(length) == t + 1, following[:, None], ids)

    start = (tf.constant(0), tf.zeros((texts, length), "int32"))
    return tf.while_loop(lambda t, _: t < length - 1, body, start)[1]


def report(name, ours, plain):
    """Prints a row of the table."""
    print(f"| {name} | {ours:.2f} | {plain:.1f} | {plain / ours:.0f} |", flush=True)


def compare_with_predict():
    """Prints the first table."""
    print("| what | ours, s | predict in a loop, s | times as fast |")
    print("|---|---|---|---|")
    for name in ("gan", "dcgan", "vae"):
        model = zoo.get(name, seed=0, image_shape=(28, 28, 1))
        network = model.decoder if name == "vae" else model.generator
        ours = seconds(lambda model=model: model.generate(IMAGES, seed=0))
        slow = seconds(lambda n=network, z=model.latent_dim: predict_images(n, z, 100))
        report(f"`{name}`, {IMAGES:,} images", ours, slow * IMAGES / 100)
    for name in ("char_rnn", "gpt"):
        model = zoo.get(name, seed=0, vocabulary=VOCABULARY)
        network, window = model.language_model, model.sequence_length
        slow = seconds(lambda n=network, w=window: predict_text(n, 65, w, 200)) * CHARACTERS / 200
        for texts in (10, 1):
            length = 1 + CHARACTERS // texts
            ours = seconds(lambda m=model, t=texts, n=length: write(m, t, n))
            report(f"`{name}`, {CHARACTERS:,} characters in {texts}", ours, slow)


def cached(texts):
    """Characters a second of `generate`, and the seconds of its first call."""
    model = zoo.get("gpt", seed=0, vocabulary=VOCABULARY)
    start = time.perf_counter()
    write(model, texts, 1001)
    first = time.perf_counter() - start
    return 1000 * texts / seconds(lambda: write(model, texts, 1001)), first


def uncached(texts):
    """As `cached`, of 200 characters without a cache."""
    model = zoo.get("gpt", seed=0, vocabulary=VOCABULARY)
    return 200 * texts / seconds(lambda: write_uncached(model, texts, 201).numpy()), None


def torch(texts):
    """As `uncached`, in eager PyTorch."""
    import plain_torch

    plain_torch.write(texts, 20)
    return plain_torch.write(texts, 200), None


WAYS = {"cached": cached, "uncached": uncached, "torch": torch}


def compare_texts(texts, rounds):
    """Prints a row: the medians of alternating processes, and of their ratios."""
    ways = [way for way in WAYS if way != "torch" or importlib.util.find_spec("torch")]
    speeds, first = {way: [] for way in ways}, []
    for _ in range(rounds):
        for way in ways:
            speed, seconds_of_first = json.loads(lines_of(__file__, "--measure", way, texts)[-1])
            speeds[way].append(speed)
            first += [seconds_of_first] if seconds_of_first else []
    cells = [f"{statistics.median(speeds[way]):,.0f}" for way in ways]
    ours = speeds["cached"]
    for way in ways[1:]:
        ratios = [a / b for a, b in zip(ours, speeds[way], strict=True)]
        cells.append(f"{statistics.median(ratios):.0f} ({min(ratios):.0f}-{max(ratios):.0f})")
    row = [str(texts), f"{statistics.median(first):.1f}", *cells]
    print(f"| {' | '.join(row)} |", flush=True)


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=("predict", "gpt"), help="one of the two tables")
    parser.add_argument("--rounds", type=int, default=3, help="processes of each way")
    parser.add_argument("--measure", nargs=2, metavar=("WAY", "TEXTS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        way, texts = arguments.measure
        print(json.dumps(WAYS[way](int(texts))))
        return
    if arguments.only != "gpt":
        compare_with_predict()
    if arguments.only != "predict":
        with_torch = bool(importlib.util.find_spec("torch"))
        print(
            "\n| texts | first, s | cached, characters/s | without | "
            + ("PyTorch | times without | times PyTorch |" if with_torch else "times without |")
        )
        print("|---|---|---|---|---|" + "---|---|" * with_torch)
        for texts in (1, 32):
            compare_texts(texts, arguments.rounds)
        if not with_torch:
            print("\nPyTorch is not installed: pip install torch adds the comparison with it.")


if __name__ == "__main__":
    main()
