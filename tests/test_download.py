"""Downloads, from a server of the test's own."""

import hashlib
import http.server
import multiprocessing
import os
import threading
import time

import pytest

from keras_genai import _download

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Counts what is asked of it; `behaviour` says how the next answers go wrong."""

    behaviour, count = "well", 0


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.count += 1
        behaviour = self.server.behaviour
        if behaviour == "silent":
            return self.server.resumed.wait(20)
        if behaviour == "missing":
            return self.send_error(404)
        content = CONTENT[::-1] if behaviour == "another file" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        half = len(content) // 2
        self.wfile.write(content[:half])
        self.wfile.flush()
        if behaviour == "half":
            return None
        if behaviour == "slow":
            self.server.half_sent.set()
            self.server.resumed.wait(20)
        self.wfile.write(content[half:])

    def log_message(self, *args):
        pass


@pytest.fixture
def server():
    with Server(("127.0.0.1", 0), Handler) as server:
        server.half_sent, server.resumed = threading.Event(), threading.Event()
        server.url = f"http://127.0.0.1:{server.server_port}/file"
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        yield server
        server.resumed.set()
        server.shutdown()


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_GENAI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(_download, "TRIES", 1)  # the pauses between tries are seconds
    return tmp_path / "cache" / "downloads"


def fetch(url):
    return _download.fetch(url, SHA256, "file.pb")


def test_downloads_once(server, cache):
    assert fetch(server.url).read_bytes() == CONTENT
    assert fetch(server.url) == cache / "file.pb"
    assert server.count == 1


@pytest.mark.parametrize("behaviour", ["missing", "half", "another file", "silent"])
def test_what_fails_leaves_no_file_and_says_how_to_go_on(server, cache, behaviour, monkeypatch):
    monkeypatch.setattr(_download, "SECONDS", 0.2)
    server.behaviour = behaviour
    with pytest.raises(ValueError, match="copy it to .*file.pb. Received: http"):
        fetch(server.url)
    assert [path.name for path in cache.iterdir()] == [".lock"]


def test_without_a_network(cache):
    started = time.monotonic()
    with pytest.raises(ValueError, match="ConnectionError"):
        fetch("http://127.0.0.1:9/file")
    assert time.monotonic() - started < 5


def test_a_damaged_file_is_downloaded_again(server, cache):
    cache.mkdir(parents=True)
    (cache / "file.pb").write_bytes(CONTENT[:-1] + b"x")
    assert fetch(server.url).read_bytes() == CONTENT


def test_it_tries_again(server, cache, monkeypatch):
    monkeypatch.setattr(_download, "TRIES", 2)
    monkeypatch.setattr(time, "sleep", lambda seconds: setattr(server, "behaviour", "well"))
    server.behaviour = "missing"
    assert fetch(server.url).read_bytes() == CONTENT


def test_a_killed_download_is_started_anew(server, cache):
    server.behaviour = "slow"
    process = multiprocessing.get_context("spawn").Process(target=fetch, args=(server.url,))
    process.start()
    assert server.half_sent.wait(30)
    process.kill()
    process.join()
    assert not (cache / "file.pb").exists()
    server.behaviour = "well"
    assert fetch(server.url).read_bytes() == CONTENT
    assert sorted(path.name for path in cache.iterdir()) == [".lock", "file.pb"]


def test_of_two_processes_one_downloads(server, cache):
    server.behaviour = "slow"
    process = multiprocessing.get_context("spawn").Process(target=fetch, args=(server.url,))
    process.start()
    assert server.half_sent.wait(30)
    other = threading.Thread(target=fetch, args=(server.url,))
    other.start()  # waits for the lock, or else would ask the server
    server.resumed.set()
    other.join()
    process.join()
    assert process.exitcode == 0
    assert (cache / "file.pb").read_bytes() == CONTENT
    assert server.count == 1


def test_a_cache_that_can_only_be_read(server, cache, monkeypatch):
    fetch(server.url)

    def refuse(*args, **kwargs):
        raise PermissionError(13, "Permission denied", str(cache))

    monkeypatch.setattr(os, "open", refuse)  # FileLock's; root may write anywhere
    assert fetch(server.url).read_bytes() == CONTENT
    with pytest.raises(OSError, match="KERAS_GENAI_CACHE"):
        _download.fetch(server.url, SHA256, "other.pb")
    assert server.count == 1
