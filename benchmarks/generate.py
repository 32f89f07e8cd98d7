"""Times sampling against calling `predict` in a loop, as the keras.io examples do.

Ours is `generate`: 1,000 images, and 10,000 characters as 10 texts of 1,000 at once and as one
text. The plain way calls `predict` for each image, or, for each character, on the window of the
last 100 characters. It takes the same networks with the same weights. It is slow: 100 images and
200 characters are timed, and the time for all is worked out from them. Compilation is excluded on
both sides by a first call.

    python benchmarks/generate.py
"""

import time

import numpy as np

from keras_genai import zoo

IMAGES, CHARACTERS = 1000, 10_000


def seconds(function):
    """Wall time of a call, after one that compiles."""
    function()
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def predict_images(network, latent_dim, n):
    for _ in range(n):
        network.predict(np.random.normal(size=(1, latent_dim)), verbose=0)


def predict_text(network, vocabulary_size, n):
    ids = [0] * 100
    for _ in range(n):
        logits = network.predict(np.array([ids[-100:]]), verbose=0)[0, -1].astype("float64")
        p = np.exp(logits - logits.max())
        ids.append(np.random.choice(vocabulary_size, p=p / p.sum()))


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
    model = zoo.get("char_rnn", seed=0, vocabulary="".join(map(chr, range(32, 97))))
    slow = seconds(lambda: predict_text(model.language_model, 65, 200)) * CHARACTERS / 200
    for texts in (10, 1):
        length = 1 + CHARACTERS // texts
        ours = seconds(lambda t=texts, n=length: model.generate([" "] * t, max_length=n, seed=0))
        report(f"`char_rnn`, {CHARACTERS:,} characters in {texts}", ours, slow)


if __name__ == "__main__":
    main()
