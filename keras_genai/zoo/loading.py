"""Loading what a run left behind: a run folder or a saved model."""

import os
import zipfile
from pathlib import Path
from typing import Any

import keras

CHECKPOINT = "checkpoint.keras"


def load(path: str | os.PathLike) -> Any:
    """Loads a trained model, compiled and ready to continue.

    Args:
        path: A run folder (its checkpoint is loaded) or a `.keras` file.

    Returns:
        The model, with its optimizers, random states and epoch counter.

    Raises:
        ValueError: If there is no model at `path`, or the file is damaged.
    """
    path = Path(path)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise ValueError(
                f"This folder holds no {CHECKPOINT}: it is not a run folder, or its run ended "
                f"before the first checkpoint. Received: {str(path)!r}"
            )
        path = path / CHECKPOINT
    if not path.exists():
        raise ValueError(
            "There is nothing at this path. Pass a run folder such as runs/dcgan/001 or a "
            f".keras file; for a new model use zoo.get(name). Received: {str(path)!r}"
        )
    # Keras reports a truncated archive as "file not found"; say what it is.
    if not zipfile.is_zipfile(path):
        raise ValueError(
            f"This file is not a whole .keras archive: it is damaged or of another format "
            f"({path.stat().st_size} bytes). Received: {str(path)!r}"
        )
    return keras.models.load_model(path)
