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
from keras_genai.layers import lora

CHECKPOINT = "checkpoint.keras"


def data_of(config: Mapping[str, Any]) -> str | None:
    """Where the data of a run are, as its `config.json` says: a path if they were given as one."""
    return config.get("data_path") or config.get("data")


def load(path: str | os.PathLike, **overrides: Any) -> Any:
    """Loads a trained model, compiled and ready to continue.

    Args:
        path: A run folder (its checkpoint is loaded), a `.keras` file, a published entry's folder,
            or its name, such as "dcgan.mnist". Also GPT-2's weights, see `zoo/gpt2.py`: a folder,
            or "hf://openai-community/gpt2", with "@" and a revision behind it or not.
        **overrides: Parameters of its recipe, for a new training that begins with these weights:
            `lora_rank=8`, `learning_rate=1e-4`.

    Returns:
        The model, with its optimizers, random states and epoch counter. Of a published entry, of
        GPT-2 and with `overrides` these are new.

    Raises:
        ValueError: If there is no model at `path`, the file is damaged or of a newer version, or
            the overrides make other networks.
    """
    model = _load(os.fspath(path), overrides)
    model.begins_with = os.fspath(path)
    return model


def _load(name: str, overrides: Mapping[str, Any]) -> Any:
    from keras_genai.zoo import gpt2, published

    path = Path(name)
    if name.startswith(gpt2.HUB):
        return gpt2.load(gpt2.download(name), overrides)
    if not path.exists() and published.NAME.fullmatch(name) and path.suffix != ".keras":
        path = published.find(name)
    if (path / published.ENTRY).exists():
        return published.load(path, overrides)
    if (path / gpt2.WEIGHTS).exists():
        return gpt2.load(path, overrides)
    if path.is_dir():
        if not (path / CHECKPOINT).exists():
            raise ValueError(
                f"This folder holds no {CHECKPOINT}: it is not a run folder, or its run ended "
                f"before the first checkpoint. GPT-2's have a {gpt2.WEIGHTS}. "
                f"Received: {str(path)!r}"
            )
        path = path / CHECKPOINT
    if not path.exists():
        raise ValueError(
            "There is nothing at this path. Pass a run folder such as runs/dcgan/001, a .keras "
            "file or a published entry such as dcgan.mnist; for a new model use zoo.get(name). "
            f"Received: {str(path)!r}"
        )
    _check_archive(path)
    model = keras.models.load_model(path)
    return remade(model, overrides) if overrides else model


def remade(model: Any, overrides: Mapping[str, Any]) -> Any:
    """A new model of the same recipe and weights, with some other parameters.

    It computes the same, whatever LoRA the two have; see `lora.take_over`.

    Raises:
        ValueError: If a parameter is unknown, or makes other networks; or without a recipe.
    """
    from keras_genai.zoo import registry

    if not model.recipe:
        raise ValueError(
            "Only a model that a recipe made can be made anew with other parameters: take it from "
            f"zoo.get. Received: a {type(model).__name__} made by hand"
        )
    settled = {name: getattr(model, name) for name in model.from_data}
    check_meaning(model, {**model.arguments, **settled}, overrides)
    new = registry.make(model.recipe, {**model.arguments, **settled, **overrides})
    new.need_networks()
    if [net.name for net in new.layers] != [net.name for net in model.layers]:
        raise ValueError(
            "These parameters make other networks than those whose weights are loaded. "
            f"Received: {', '.join(f'{name}={value!r}' for name, value in overrides.items())}"
        )
    for network, other in zip(new.layers, model.layers, strict=True):
        lora.take_over(network, other)
    new.entry = model.entry
    new.begins_with = str(model.run_dir or model.begins_with or model.entry or "a model in memory")
    return new


def check_meaning(model: Any, arguments: Mapping[str, Any], overrides: Mapping[str, Any]) -> None:
    """Refuses overrides that would make another model of the same weights, without a word.

    Raises:
        ValueError: If there is one in the model's `fixed_by_weights`.
    """
    for name in model.fixed_by_weights:
        given = overrides.get(name, arguments.get(name))
        if given != arguments.get(name):
            raise ValueError(
                f"The weights that are loaded are right for one `{name}` alone, that of their "
                f"training: leave it out. Received: {name}={given!r:.80} where it was "
                f"{arguments.get(name)!r:.80}"
            )


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
