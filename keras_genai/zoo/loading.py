"""Loading what a run left behind: a run folder, a saved model, a published entry."""

import json
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from keras_genai import __version__

CHECKPOINT = "checkpoint.keras"


def data_of(config: Mapping[str, Any]) -> str | None:
    """Where the data of a run are, as its `config.json` says: a path if they were given as one."""
    return config.get("data_path") or config.get("data")


def load(path: str | os.PathLike) -> Any:
    """Loads a trained model, compiled and ready to continue.

    Args:
        path: A run folder (its checkpoint is loaded), a `.keras` file, a published entry's folder,
            or its name, such as "dcgan.mnist". Also a folder of GPT-2 weights, see `zoo/gpt2.py`.

    Returns:
        The model, with its optimizers, random states and epoch counter. Of a published entry and of
        GPT-2 these are new.

    Raises:
        ValueError: If there is no model at `path`, the file is damaged or of a newer version.
    """
    from keras_genai.zoo import gpt2, published

    name, path = os.fspath(path), Path(path)
    if not path.exists() and published.NAME.fullmatch(name) and path.suffix != ".keras":
        path = published.find(name)
    if (path / published.ENTRY).exists():
        return published.load(path)
    if (path / gpt2.WEIGHTS).exists():
        return gpt2.load(path)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise ValueError(
                f"This folder holds no {CHECKPOINT}: it is not a run folder, or its run ended "
                f"before the first checkpoint. Received: {str(path)!r}"
            )
        path = path / CHECKPOINT
    if not path.exists():
        raise ValueError(
            "There is nothing at this path. Pass a run folder such as runs/dcgan/001, a .keras "
            "file or a published entry such as dcgan.mnist; for a new model use zoo.get(name). "
            f"Received: {str(path)!r}"
        )
    _check_archive(path)
    return keras.models.load_model(path)


def _check_archive(path: Path) -> None:
    """Keras reports a truncated archive as "file not found" and flipped bits hardly ever."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()  # compares the checksums
            version = json.loads(archive.read("metadata.json"))["keras_version"]
            config = json.loads(archive.read("config.json"))
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        OSError,
        NotImplementedError,
        zlib.error,
    ) as error:
        damaged = f"{type(error).__name__}: {error}"
    if damaged:
        raise ValueError(
            "This file is not a whole .keras archive: it is damaged or of another format; take "
            f"another copy. Received: {str(path)!r} ({path.stat().st_size} bytes; {damaged})"
        )
    ours = (config.get("build_config") or {}).get("keras_genai", "0")
    check_version("keras", version, path)
    check_version("keras_genai", ours, path)


def check_version(package: str, written: str, path: Path) -> None:
    """Refuses what a newer version of a package wrote: it may mean something else.

    Raises:
        ValueError: If it is newer.
    """
    here = {"keras": keras.__version__, "keras_genai": __version__}[package]
    if _numbers(written) > _numbers(here):
        raise ValueError(
            f"This file was written by {package} {written}, and {here} is installed: upgrade "
            f"with pip install -U {package}. Received: {str(path)!r}"
        )


def _numbers(version: str) -> tuple[int, ...]:
    """(1, 2) of "1.2.3": patch releases read each other's files."""
    return tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
