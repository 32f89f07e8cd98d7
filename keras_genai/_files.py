"""Writing files so that a crash, a full disk or a second reader never sees half of one."""

import contextlib
import os
import uuid
from collections.abc import Iterator
from pathlib import Path

CATALOGUE = Path(__file__).parents[1] / "zoo"  # published entries; in a checkout only


def explained(error: OSError, what: str, path: str | os.PathLike) -> OSError:
    """The error with what it means; Python puts the path behind the words."""
    return OSError(error.errno, f"{error.strerror or error}: {what}. Received", os.fspath(path))


def cache_folder() -> Path:
    """Where downloads and decoded data sets live: `$KERAS_GENAI_CACHE`, or in the user's cache."""
    default = Path.home() / ".cache" / "keras_genai"
    return Path(os.environ.get("KERAS_GENAI_CACHE", default))


def own_catalogues() -> list[Path]:
    """The folder of published entries that `$KERAS_GENAI_ZOO` names, if it is set."""
    own = os.environ.get("KERAS_GENAI_ZOO")
    return [Path(own).expanduser()] if own else []


@contextlib.contextmanager
def atomic(path: str | os.PathLike) -> Iterator[Path]:
    """Gives a temporary path beside `path`; what was written there takes its place at the end.

    The temporary name keeps the suffix, since writers choose their format by it. If the block
    raises, the temporary file is removed and an earlier file at `path` is left as it was.

    Raises:
        OSError: If the disk is full or the folder cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}.{uuid.uuid4().hex[:8]}.tmp{path.suffix}")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        what = "the file could not be written, an earlier one is intact"
        raise explained(error, what, path) from error
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes `text` (UTF-8) atomically."""
    with atomic(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
