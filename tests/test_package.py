"""The package as a whole: what importing it does, what it offers, what its files must not hold."""

import importlib
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import keras_genai

ROOT = Path(__file__).parents[1]
BINARY = {".gif", ".h5", ".jpg", ".keras", ".mid", ".npy", ".npz", ".png", ".safetensors", ".wav"}
UNWANTED = {
    "a path of somebody's machine": r"(?<![\w.~])/(?:home|root|tmp|work|Users)/\w",
    "unfinished work": r"\b(?:TO[D]O|FIX[M]E)\b",
    "the host of a package registry": r"\bpypi\.org|pythonhosted\.org|registry\.npmjs\.org",
}


def python(code, **environment):
    kept = {k: v for k, v in os.environ.items() if k != "TF_ENABLE_ONEDNN_OPTS"}
    command = [sys.executable, "-c", f"import os, sys, keras_genai; print({code})"]
    run = subprocess.run(command, env={**kept, **environment}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.strip()


def test_importing_the_package_imports_nothing_heavy():
    heavy = ["keras", "matplotlib", "numpy", "tensorflow"]
    assert python(f"[name for name in {heavy} if name in sys.modules]") == "[]"


def test_onednn_is_on_unless_the_user_says_otherwise():
    assert python("os.environ['TF_ENABLE_ONEDNN_OPTS']") == "1"
    assert python("os.environ['TF_ENABLE_ONEDNN_OPTS']", TF_ENABLE_ONEDNN_OPTS="0") == "0"


def test_version_is_the_installed_one():
    assert keras_genai.__version__ == importlib.metadata.version("keras_genai")


@pytest.mark.parametrize("part", ["", ".callbacks", ".data", ".explore", ".metrics", ".zoo"])
def test_public_names_exist(part):
    module = importlib.import_module(f"keras_genai{part}")
    assert [name for name in module.__all__ if not hasattr(module, name)] == []


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'zooo'"):
        _ = keras_genai.zooo


def test_the_wheel_holds_code_weights_and_names_but_no_entry(tmp_path):
    """Built in a copy: setuptools leaves files behind."""
    copy = tmp_path / "copy"
    for folder in ("keras_genai", "zoo"):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("LICENSE", "README.md", "pyproject.toml", "setup.cfg"):
        shutil.copy(ROOT / name, copy)
    build = "from setuptools import build_meta; build_meta.build_wheel('wheel')"
    run = subprocess.run([sys.executable, "-c", build], cwd=copy, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    (path,) = (copy / "wheel").glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        found = {name for name in wheel.namelist() if ".dist-info/" not in name}
        index = wheel.read("keras_genai/zoo/index.json")
    package = ROOT / "keras_genai"
    data = [
        package / "py.typed",
        package / "zoo" / "index.json",
        *package.glob("metrics/weights/*"),
    ]
    assert found == {str(path.relative_to(ROOT)) for path in [*package.rglob("*.py"), *data]}
    assert {path.parent.name for path in copy.glob("zoo/*/entry.json")} == {
        *json.loads(index)["entries"]
    }, "names of entries go without them"


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs git to tell the project's files")
def test_files_hold_nothing_that_is_not_the_projects():
    listing = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    paths = [ROOT / name for name in names.split("\0") if name]
    found = [
        f"{path.relative_to(ROOT)}: {what}: {match[0]!r}"
        for path in paths
        if path.is_file() and path.suffix not in BINARY
        for what, pattern in UNWANTED.items()
        for match in re.finditer(pattern, path.read_text("utf-8"))
    ]
    assert found == []
