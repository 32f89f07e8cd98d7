"""The weights of a published entry: one `.npz` file of plain arrays.

The format carries no code and no references to other files. Of a file that somebody else wrote
nothing is believed: size and sha256 are compared before anything is parsed, then names, shapes and
types with those of the model, and memory is taken for no array that the file merely claims. The
model itself is made as `entry.json` says, as large as that may be. `numpy.load` opens the file as
well.
"""

import hashlib
import io
import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_genai._files import atomic

NAME = "model.weights.npz"
MAX_BYTES = 5_000_000  # of a whole entry
HEADER_BYTES = 10_000  # more than NumPy's header ever needs


def variables(model: Any) -> dict[str, Any]:
    """The variables that are published, under names that no other model in the process changes."""
    return {
        f"{name}/{i:02d}_{variable.name}": variable
        for name, network in model.networks_in_use.items()
        for i, variable in enumerate(network.weights)
    }


def write(path: Path, model: Any) -> dict[str, Any]:
    """Writes the weights atomically: float32, or float16 where float32 would be too large.

    Returns:
        What `read` is to compare: file, bytes, sha256; and dtype.

    Raises:
        ValueError: If a weight is NaN or infinite.
    """
    values = {name: variable.numpy() for name, variable in variables(model).items()}
    # Half the size of an entry is left to samples and history.
    size = sum(value.size for value in values.values())
    dtype = "float32" if 4 * size <= MAX_BYTES * 9 // 10 else "float16"
    with np.errstate(over="ignore"):  # found by _check_finite
        arrays: dict[str, Any] = {name: value.astype(dtype) for name, value in values.items()}
    _check_finite(arrays, path)
    with atomic(path) as temporary:
        np.savez(temporary, **arrays)
    data = path.read_bytes()
    return {
        "file": path.name,
        "bytes": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "dtype": dtype,
    }


def read(path: Path, expected: Mapping[str, Any]) -> bytes:
    """The file's content, once it is known to be the published one.

    Args:
        path: The file.
        expected: Its `bytes` and `sha256`.

    Raises:
        ValueError: If it is another file.
    """
    size = path.stat().st_size if path.is_file() else 0
    # No file that is too large is read, whatever size is expected.
    data = path.read_bytes() if 0 < size <= MAX_BYTES else b""
    digest = hashlib.sha256(data).hexdigest()
    if (size, digest) != (expected["bytes"], expected["sha256"]):
        beginning = f", which begins {data[:16]!r}" if data else ""
        raise ValueError(
            f"This file of weights is corrupt, or another one: {expected['bytes']} bytes with the "
            f"sha256 {expected['sha256'][:12]}... were published. Take another copy of the entry. "
            f"Received: {size} bytes with the sha256 {digest[:12]}...{beginning}, in {str(path)!r}"
        )
    return data


def parse(data: bytes, model: Any, path: Path) -> dict[str, np.ndarray]:
    """The arrays for `variables(model)`.

    Args:
        data: What `read` returned.
        model: The built model.
        path: For messages.

    Raises:
        ValueError: If the data are of another format or model, or not finite.
    """
    wanted = {f"{name}.npy": tuple(v.shape) for name, v in variables(model).items()}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = archive.infolist()
            found = {member.filename: _array(archive, member) for member in members}
    except Exception as error:  # the archive, or a header: that is a Python literal
        raise ValueError(
            f"This is not a file of weights: {type(error).__name__}, {error}. "
            f"Received: {str(path)!r}"
        ) from error
    shapes = {name: array.shape for name, array in found.items()}
    if len(members) != len(found) or shapes != wanted:
        names = sorted(name for name in wanted | shapes if wanted.get(name) != shapes.get(name))
        name = names[0] if names else "a name that comes twice"
        raise ValueError(
            "These weights are of another model than the one that was made: other parameters, or "
            f"another version. {name}: the model has {wanted.get(name)}. "
            f"Received: {shapes.get(name)} in {str(path)!r}"
        )
    arrays = {name.removesuffix(".npy"): array for name, array in found.items()}
    _check_finite(arrays, path)
    return arrays


def assign(model: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Gives the networks, and their averages, the arrays that `parse` found."""
    values: dict[str, list[np.ndarray]] = {}
    for name, array in arrays.items():
        values.setdefault(name.partition("/")[0], []).append(array)
    for network in model.layers:
        if network.name in values:
            network.set_weights(values[network.name])


def _array(archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> np.ndarray:
    """One member; what is unpacked is never larger than the file."""
    if member.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{member.filename} is compressed")
    with archive.open(member) as file:
        content = file.read(MAX_BYTES)
    header = io.BytesIO(content)
    if np.lib.format.read_magic(header) != (1, 0):
        raise ValueError(f"{member.filename} is an array of another format")
    shape, columns_first, dtype = np.lib.format.read_array_header_1_0(header, HEADER_BYTES)
    if columns_first or dtype not in (np.float16, np.float32):
        raise ValueError(f"{member.filename} holds {dtype}, not float16 or float32 by rows")
    if len(content) - header.tell() != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{member.filename} does not hold an array of shape {shape}")
    return np.frombuffer(content, dtype, offset=header.tell()).reshape(shape)


def _check_finite(arrays: Mapping[str, np.ndarray], path: str | os.PathLike) -> None:
    for name, array in arrays.items():
        bad = array.size - int(np.isfinite(array).sum())
        if bad:
            raise ValueError(
                "Weights must be finite; a model that diverged is of no use. "
                f"Received: NaN or infinity in {bad} of {array.size} values of {name} in "
                f"{str(path)!r}"
            )
