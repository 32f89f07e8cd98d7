"""Sample writers, one a modality: what the model makes, the same latents after every epoch."""

import importlib.util
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_genai import pictures
from keras_genai._files import write_text
from keras_genai._text import BETWEEN_TEXTS


class _Samples(keras.callbacks.Callback):
    """Calls `write(epoch)` before the first epoch and after each."""

    def __init__(self, folder: str | Path):
        super().__init__()
        self.folder = Path(folder)
        self.samples = self.folder / "samples"
        self.board = None
        # TensorFlow no longer installs TensorBoard; without it tf.summary raises.
        if importlib.util.find_spec("tensorboard"):
            self.board = tf.summary.create_file_writer(str(self.folder / "tensorboard"))

    def on_train_begin(self, logs: Any = None) -> None:
        if self.model.progress.step == 0:
            self.write(0)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.write(epoch + 1)
        if self.board:
            with self.board.as_default(step=epoch + 1):
                for name, value in (logs or {}).items():
                    tf.summary.scalar(name, value)
            self.board.flush()

    def write(self, epoch: int) -> None:
        """Writes the samples of an epoch."""
        raise NotImplementedError


class ImageSamples(_Samples):
    """Writes `samples/epoch_0001.png` ... and, at the end, `samples.gif`.

    A model that draws and reconstructs also gets `samples/reconstructions_0001.png`: real images
    above their reconstructions. Those of an autoencoder are what its preview shows.

    Args:
        folder: The run folder.
        examples: uint8 `(N, H, W, C)`, the images that are reconstructed.
        labels: Their classes `(N,)`; a model that takes labels is told them.
    """

    def __init__(self, folder: str | Path, examples: np.ndarray, labels: np.ndarray | None = None):
        super().__init__(folder)
        self.examples, self.labels = examples, labels

    def write(self, epoch: int) -> None:
        """Writes a grid of images from fixed latents."""
        sheet = pictures.grid(self.model.preview(seed=0), self.model.preview_columns)
        pictures.save_image(self.samples / f"epoch_{epoch:04d}.png", sheet)
        self.show("samples", sheet, epoch)
        if hasattr(self.model, "reconstruct") and not self.model.takes_images:
            of_classes = (self.labels,) if self.model.takes_labels else ()
            made = self.model.reconstruct(self.examples, *of_classes)
            pairs = np.concatenate([self.examples, made])
            sheet = pictures.grid(pairs, columns=len(self.examples))
            pictures.save_image(self.samples / f"reconstructions_{epoch:04d}.png", sheet)
            self.show("reconstructions", sheet, epoch)

    def show(self, name: str, sheet: np.ndarray, epoch: int) -> None:
        """Shows a grid in TensorBoard, if it is installed."""
        if self.board:
            with self.board.as_default(step=epoch):
                tf.summary.image(name, sheet[None])

    def on_train_end(self, logs: Any = None) -> None:
        frames = sorted(self.samples.glob("epoch_*.png"))
        if frames:
            pictures.save_gif(self.folder / "samples.gif", frames)


class TextSamples(_Samples):
    """Writes `samples/epoch_0001.txt` ...: a model's texts, or a recommender's lines.

    Args:
        folder: The run folder.
        between: What stands between two samples.
    """

    def __init__(self, folder: str | Path, between: str = BETWEEN_TEXTS):
        super().__init__(folder)
        self.between = between

    def write(self, epoch: int) -> None:
        """Writes the preview of fixed seeds."""
        text = self.between.join(self.model.preview(seed=0))
        write_text(self.samples / f"epoch_{epoch:04d}.txt", text + "\n")
        if self.board:
            with self.board.as_default(step=epoch):
                tf.summary.text("samples", text)


def writer(model: Any, folder: str | Path, source: Any) -> keras.callbacks.Callback:
    """The sample writer for the model's modality."""
    if model.modality == "text":
        return TextSamples(folder)
    if model.modality == "ratings":
        return TextSamples(folder, between="\n")
    examples = source.arrays(10)
    return ImageSamples(folder, examples["image"], examples.get("label"))
