"""Small data of each modality for the contract suite, made in memory, and models as small."""

import numpy as np

from keras_genai import zoo


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


def training_data(modality):
    """What a recipe of this modality is trained on in the contract suite."""
    return {"image": images, "text": text}[modality]()


def tiny(name="dcgan", **overrides):
    """A recipe at its `tiny` size."""
    model = zoo.get(name, **{"seed": 0, **zoo.info(name).tiny, **overrides})
    model.jit_compile = False  # compiling takes longer than all these steps
    return model
