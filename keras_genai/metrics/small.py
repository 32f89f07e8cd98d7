"""Small classifiers whose features tell images of their own kind apart.

A Fréchet distance is as good as its features. Those of Inception were learned from photographs of
300 pixels; for images of 28 or 32 pixels a small classifier of the same kind of data sees more, is
part of the package, and reads 10,000 images within seconds. Distances on its features bear its
name: FD-mnist, KD-mnist.

Accuracy on the test parts, with the weights in this package (`weights/accuracy.json`):

    mnist           99.45 % of 10,000
    fashion_mnist   90.47 % of 10,000
    glyphs          90.35 % of 2,000, 62 classes, in families of fonts it was not trained on

The weights are float16, and `python -m keras_genai.metrics.small NAME` trains and writes them anew.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import layers

from keras_genai import data
from keras_genai._files import atomic, write_text
from keras_genai._log import say

FOLDER = Path(__file__).parent / "weights"
NAMES = ("mnist", "fashion_mnist", "glyphs")
FEATURES = 128


def network(image_shape: tuple[int, int, int], num_classes: int) -> keras.Model:
    """Images (B, H, W, C) in 0..255 to features (B, 128) and class probabilities (B, K)."""
    image = keras.Input(image_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1.0)(image)
    for filters, strides in ((32, 1), (32, 2), (64, 1), (64, 2), (64, 2)):
        x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
        x = layers.ReLU()(layers.BatchNormalization(momentum=0.9)(x))
    features = layers.Dense(FEATURES, activation="relu")(layers.Flatten()(x))
    x = layers.Dropout(0.3)(features)
    return keras.Model(image, [features, layers.Dense(num_classes, activation="softmax")(x)])


def load(name: str) -> keras.Model:
    """One of `NAMES`, with its trained weights.

    Raises:
        ValueError: If there is none of this name.
    """
    if name not in NAMES:
        raise ValueError(f"Small classifiers are {', '.join(NAMES)}. Received: {name!r}")
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as archive:
        weights = [archive[f"weight_{i}"].astype("float32") for i in range(len(archive.files))]
    fact = accuracies()[name]
    model = network(tuple(fact["image_shape"]), fact["classes"])
    model.set_weights(weights)
    return model


def accuracies() -> dict[str, dict[str, Any]]:
    """By name: accuracy on the test part, how many images that has, image shape and classes."""
    return json.loads((FOLDER / "accuracy.json").read_text("utf-8"))


def train(name: str, source: Any, epochs: int) -> None:
    """Trains a classifier, measures it on the test part and writes its weights.

    Args:
        name: One of `NAMES`.
        source: The data, as for `data.load`.
        epochs: How often each image is seen, moved and turned a little each time.
    """
    keras.utils.set_random_seed(0)
    parts = data.load(source)
    held = parts.test
    image_shape, num_classes = parts.train.image_shape, parts.train.num_classes
    if held is None or num_classes is None or image_shape is None:
        raise ValueError(f"A data set with labels and a test part is needed. Received: {source!r}")
    items, test = parts.train.arrays(), held.arrays()
    model = network(image_shape, num_classes)
    image = keras.Input(image_shape)
    moved = layers.RandomRotation(0.03)(layers.RandomTranslation(0.08, 0.08)(image))
    trained = keras.Model(image, model(moved)[1])
    steps = epochs * (len(items["image"]) // 128)
    rate = keras.optimizers.schedules.CosineDecay(2e-3, steps)
    trained.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy")
    trained.fit(items["image"], items["label"], batch_size=128, epochs=epochs, verbose=2)
    weights = [weight.astype("float16") for weight in model.get_weights()]
    model.set_weights([weight.astype("float32") for weight in weights])
    found = model.predict(test["image"], batch_size=256, verbose=0)[1].argmax(1)
    fact = {
        "accuracy": round(float((found == test["label"]).mean()), 4),
        "test_images": len(found),
        "image_shape": list(image_shape),
        "classes": num_classes,
        "epochs": epochs,
    }
    with atomic(FOLDER / f"{name}.npz") as temporary:
        np.savez_compressed(temporary, **{f"weight_{i}": w for i, w in enumerate(weights)})
    known = accuracies() if (FOLDER / "accuracy.json").exists() else {}
    write_text(FOLDER / "accuracy.json", json.dumps({**known, name: fact}, indent=1) + "\n")
    say(f"{name}: {fact}")


def main() -> None:
    """Trains the classifier named on the command line."""
    parser = argparse.ArgumentParser(description="Train one of the small classifiers.")
    parser.add_argument("name", choices=NAMES)
    parser.add_argument("--data", help="a name or a path; by default the data set of this name")
    parser.add_argument("--epochs", type=int, default=12)
    args = parser.parse_args()
    train(args.name, args.data or args.name, args.epochs)


if __name__ == "__main__":
    main()
