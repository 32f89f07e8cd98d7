"""Times sampling against calling `predict` in a loop, as the keras.io examples do.

Ours is `generate`: 1,000 images, and 10,000 characters as 10 texts of 1,000 at once and as one
text. The plain way calls `predict` for each image, or, for each character, on the window of the
last characters, as many as the model is trained on. It takes the same networks with the same
weights. It is slow: 100 images and 200 characters are timed, and the time for all is worked out
from them. Compilation is excluded on both sides by a first call.

The second table is of `gpt` with its cache and without: one compiled loop each, but without the
cache each character costs a pass over the last 64.

    python benchmarks/generate.py
"""

import time

import numpy as np
import tensorflow as tf

from keras_genai import zoo

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


def main():
    """Prints a table."""
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
    print("\n| texts of `gpt` at once | cached, characters/s | without, characters/s | ratio |")
    print("|---|---|---|---|")
    for texts in (1, 32):
        cached = 1000 * texts / seconds(lambda t=texts: write(model, t, 1001))
        plain = 200 * texts / seconds(lambda t=texts: write_uncached(model, t, 201).numpy())
        print(f"| {texts} | {cached:,.0f} | {plain:,.0f} | {cached / plain:.0f} |", flush=True)


if __name__ == "__main__":
    main()
