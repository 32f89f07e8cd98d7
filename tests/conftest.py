"""The suite's surroundings, set before anything imports Keras: quiet, no GPU, no network."""

import hashlib
import os
import random
from types import SimpleNamespace

import pytest

NOBODY_LISTENS = "http://127.0.0.1:9"

os.environ.update(
    TF_CPP_MIN_LOG_LEVEL="2",
    CUDA_VISIBLE_DEVICES="-1",
    MPLBACKEND="Agg",
    # Every download fails at once, also on a computer that has a network.
    http_proxy=NOBODY_LISTENS,
    https_proxy=NOBODY_LISTENS,
    no_proxy="localhost,127.0.0.1",
    TFDS_RETRY_TRIES="1",
    # XLA compiles twice as fast when it leaves the machine code as it comes.
    XLA_FLAGS="--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false",
)


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup():
    """A test and its fixtures draw the same numbers in each run: one that fails fails again."""
    import keras

    from keras_genai.models import base

    keras.utils.set_random_seed(int(os.environ.get("KERAS_GENAI_TEST_SEED", "0")))
    base.secrets = SimpleNamespace(randbelow=random.randrange)  # of models made without a seed


@pytest.fixture(scope="session", autouse=True)
def folders(tmp_path_factory):
    """Runs, data sets and caches stay out of the checkout and of the user's own folders."""
    root = tmp_path_factory.mktemp("keras_genai")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KERAS_GENAI_RUNS", str(root / "runs"))
        patch.setenv("KERAS_GENAI_CACHE", str(root / "cache"))
        patch.setenv("TFDS_DATA_DIR", str(root / "tensorflow_datasets"))
        yield


@pytest.fixture
def inception_2015(tmp_path, monkeypatch):
    """Where the download of "inception_2015" would be stands a small graph of its form."""
    from inception_graph import small_inception

    from keras_genai.metrics import features, inception

    serialized = small_inception()
    path = tmp_path / "downloads" / "inception-2015-12-05.pb"
    path.parent.mkdir()
    path.write_bytes(serialized)
    monkeypatch.setenv("KERAS_GENAI_CACHE", str(tmp_path))
    monkeypatch.setattr(inception, "SHA256", hashlib.sha256(serialized).hexdigest())
    features._named.cache_clear()
    yield
    features._named.cache_clear()


# The longest files, and those that wait for processes or for the clock: first, so that no worker is
# left alone with them at the end.
FIRST = (
    "test_contract", "test_notebooks", "test_distribution", "test_learning", "test_interruptions",
    "test_training",
)  # fmt: skip


def pytest_collection_modifyitems(items):
    place = {name: i for i, name in enumerate(FIRST)}
    items.sort(key=lambda item: place.get(item.path.stem, len(FIRST)))
