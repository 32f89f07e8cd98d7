"""Files that are too large for the package: downloaded once, into the cache, checked by sha256."""

from pathlib import Path

import pooch
import requests
from filelock import FileLock

from keras_genai._files import cache_folder, explained
from keras_genai._log import say

SECONDS = 30  # of silence, after which a server counts as dead
TRIES = 3


def fetch(url: str, sha256: str, name: str) -> Path:
    """The path of a file in the cache, downloaded if it is not there yet.

    Of several processes one downloads and the others wait. What a killed one left is never used:
    a file appears under its name when it is complete and its sha256 is right.

    Args:
        url: Where it is.
        sha256: 64 hex digits.
        name: The file's name in the cache.

    Raises:
        ValueError: If there is no network, no such file or another one at `url`.
        OSError: If the cache cannot be written, or the disk is full.
    """
    path = cache_folder() / "downloads" / name
    if _is_whole(path, sha256):  # all that a cache which can only be read is asked for
        return path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.parent / ".lock"):
            if not _is_whole(path, sha256):
                say(f"Downloading {url} to {path} (once).")
                _download(url, sha256, path)
    except (requests.RequestException, ValueError) as error:  # ValueError: another sha256
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(
            f"The file could not be downloaded ({reason}). Download it on a computer with network "
            f"access and copy it to {path}. Received: {url}"
        ) from error
    except OSError as error:
        what = (
            f"the cache cannot be written. Put there what {url} has, or set KERAS_GENAI_CACHE to a "
            "folder that can be written"
        )
        raise explained(error, what, path) from error
    return path


def _is_whole(path: Path, sha256: str) -> bool:
    return path.exists() and pooch.file_hash(str(path)) == sha256


def _download(url: str, sha256: str, path: Path) -> None:
    """Only one process is here: a temporary file is one that a killed process left."""
    for stale in path.parent.glob("tmp*"):
        stale.unlink()
    pooch.get_logger().setLevel("WARNING")
    files = pooch.create(
        path.parent,
        base_url="",
        registry={path.name: f"sha256:{sha256}"},
        urls={path.name: url},
        retry_if_failed=TRIES - 1,  # after one second, then after two
    )
    downloader = pooch.HTTPDownloader(timeout=SECONDS, chunk_size=1 << 20)
    files.fetch(path.name, downloader=downloader)
