"""Loading published entries: found by name, refused when anything in them is not as published."""

import io
import json
import os
import pickle
import re
import shutil
import sys
import tracemalloc
import zipfile
from hashlib import sha256

import keras
import numpy as np
import pytest
from contract_data import images, measured_run, tiny

from keras_genai import cli, zoo
from keras_genai.zoo import published, registry, weights

X = images(8, (8, 8, 1))


@pytest.fixture(scope="module")
def catalogue(tmp_path_factory):
    """A catalogue with the entry `gan.blobs`, and the model it was made from."""
    root = tmp_path_factory.mktemp("catalogue")
    model = tiny("gan", data=X, seed=5)
    run = measured_run(root / "run", model, X)
    zoo.publish([run], "blobs", catalogue=root / "zoo", data=X, licence="none", credit="nobody")
    return root / "zoo", model


@pytest.fixture
def entry(catalogue, tmp_path, monkeypatch):
    """A copy of the entry, in a catalogue that `$KERAS_GENAI_ZOO` names."""
    shutil.copytree(catalogue[0], tmp_path / "zoo")
    monkeypatch.setenv("KERAS_GENAI_ZOO", str(tmp_path / "zoo"))
    return tmp_path / "zoo" / "gan.blobs"


def arrays_of(entry):
    return dict(np.load(entry / weights.NAME))


def replace_weights(entry, data):
    """Puts other bytes in place of the weights, as an author with bad intentions would."""
    (entry / weights.NAME).write_bytes(data)
    change(entry, weights={"bytes": len(data), "sha256": sha256(data).hexdigest()})


def change(entry, **changes):
    content = json.loads((entry / published.ENTRY).read_text())
    for key, value in changes.items():
        content[key] = {**content[key], **value} if isinstance(value, dict) else value
    (entry / published.ENTRY).write_text(json.dumps(content))


def npz(arrays, **options):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays, **options)
    return buffer.getvalue()


# Names ------------------------------------------------------------------------------------------


def test_an_entry_is_loaded_by_name_tag_and_path(entry, catalogue):
    expected = catalogue[1].generate(3, seed=1)
    for model in (zoo.get("gan", weights="blobs"), zoo.load("gan.blobs"), zoo.load(entry)):
        np.testing.assert_array_equal(model.generate(3, seed=1), expected)
    assert (model.image_shape, model.seed, model.recipe) == ((8, 8, 1), 5, "gan")
    assert published.golden_difference(model.preview(), published.read(entry)["golden"]) == 0


def test_the_golden_slice_tells_another_model(entry):
    golden = published.read(entry)["golden"]
    other = tiny("gan", data=X, seed=6)
    assert published.golden_difference(other.preview(), golden) > golden["tolerance"]


def test_the_users_catalogue_comes_before_the_checkouts(entry, catalogue, monkeypatch):
    monkeypatch.setattr(published, "CATALOGUE", catalogue[0])
    assert published.find("gan.blobs") == entry
    monkeypatch.delenv("KERAS_GENAI_ZOO")
    assert published.find("gan.blobs") == catalogue[0] / "gan.blobs"


@pytest.mark.parametrize("tag", ["blob", "Blobs", "../blobs", "", "x/blobs"])
def test_an_unknown_tag_is_refused_with_the_closest(entry, tag):
    with pytest.raises(
        ValueError, match=r"No published .* mean .*'gan\.blobs'\?.*Received: 'gan\."
    ):
        zoo.get("gan", weights=tag)


def test_an_installed_package_knows_names_and_says_how_to_get_entries(
    tmp_path, monkeypatch, capsys
):
    """As in a wheel: the index is there, the catalogue is not."""
    index = registry.stored_index()
    index["entries"] = {"gan.blobs": {"data": "blobs", "bytes": 2_000_000}}
    (tmp_path / "index.json").write_text(json.dumps(index))
    for module in (registry, cli):
        monkeypatch.setattr(module, "INDEX", tmp_path / "index.json")
    monkeypatch.setattr(published, "CATALOGUE", tmp_path / "absent")
    monkeypatch.setattr(cli, "CATALOGUE", tmp_path / "absent")
    with pytest.raises(ValueError, match=r"clone.*KERAS_GENAI_ZOO.*absent.*Received: 'gan.blobs'"):
        zoo.get("gan", weights="blobs")
    assert cli.main(["generate", "gan.blobs"]) == 2
    assert "KERAS_GENAI_ZOO" in capsys.readouterr().err
    assert cli.main(["list"]) == 0
    assert "gan.blobs  blobs  2.0 MB" in capsys.readouterr().out


def test_a_training_from_an_entry_says_what_begins_anew(entry, capsys):
    model = zoo.get("gan", weights="blobs")
    model.run_eagerly = True  # two steps are quicker than a graph
    options = {"epochs": 1, "batch_size": 4, "run_dir": False, "verbose": 0}
    for times in (1, 0):
        model.fit(X, **options)
        words = "the discriminator and the state of the optimizer start anew, for gan.blobs"
        assert capsys.readouterr().out.count(words) == times


def test_the_command_line_knows_the_users_own_entries(entry, capsys):
    assert cli.main(["list"]) == 0
    assert re.search(r"^gan\.blobs +array +0\.0 MB$", capsys.readouterr().out, re.MULTILINE)
    assert cli.main(["info", "gan.blobs"]) == 0
    printed = capsys.readouterr().out
    assert "published entry" in printed and str(entry / "README.md") in printed
    assert cli.main(["info", "gan.mnist"]) == 0
    (entry / published.ENTRY).write_text("{")
    assert cli.main(["list"]) == 0
    assert "gan.blobs" not in capsys.readouterr().out.partition("gan.mnist")[2]


def test_the_command_line_generates_from_an_entry(entry, tmp_path, catalogue):
    output = tmp_path / "images.npz"
    assert cli.main(["generate", "gan.blobs", "-n", "2", "--seed", "3", "-o", str(output)]) == 0
    with np.load(output) as file:
        np.testing.assert_array_equal(file["images"], catalogue[1].generate(2, seed=3))
        about = json.loads(str(file["generated"]))
    assert (about["Model"], about["Seed"]) == ("gan.blobs", "3")


# Other parameters, other versions ---------------------------------------------------------------


def test_parameters_that_the_weights_do_not_fit_are_named(entry):
    expected = r"trained with latent_dim=8, this call has latent_dim=5\. .*Received: \(8, 8\)"
    with pytest.raises(ValueError, match=expected):
        zoo.get("gan", weights="blobs", latent_dim=5)
    assert zoo.get("gan", weights="blobs", learning_rate=1e-3).latent_dim == 8
    with pytest.raises(ValueError, match="Did you mean 'latent_dim'"):
        zoo.get("gan", weights="blobs", latent=5)


def test_an_entry_of_a_newer_version_is_refused(entry):
    change(entry, versions={"keras_genai": "9.1.0"})
    with pytest.raises(ValueError, match=r"written by keras_genai 9\.1\.0, and .* Received: "):
        zoo.load(entry)


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "<html>", '{"versions": {"keras_genai": "0"}}', "[" * 100_000],
    ids=lambda content: content[:10],
)
def test_a_damaged_entry_is_refused(entry, content):
    (entry / published.ENTRY).write_text(content)
    with pytest.raises(ValueError, match=r"not a whole entry\.json.*Received: "):
        zoo.load(entry)


@pytest.mark.parametrize(
    ("changes", "received"),
    [
        ({"versions": {"keras_genai": 5}}, "written by keras_genai 5, and"),
        ({"versions": {"keras_genai": "\N{SUPERSCRIPT TWO}"}}, None),  # a digit, but no number
        ({"versions": 5}, "TypeError"),
        ({"weights": []}, "TypeError"),
        ({"weights": {"bytes": "5"}}, "bytes='5'"),
        ({"weights": {"sha256": None}}, "sha256=None"),
        ({"recipe": ["gan"]}, r"recipe=\['gan'\]"),
        ({"recipe": "gna"}, "Did you mean 'gan'.*Received: 'gna'"),
        ({"arguments": []}, r"arguments=\[\]"),
        ({"arguments": {"data": "other.npy"}}, "no such parameter.*Received: 'data'"),
        ({"arguments": {"weights": "blobs"}}, "no such parameter.*Received: 'weights'"),
        ({"arguments": {"name": "vae"}}, "no such parameter.*Received: 'name'"),
        ({"arguments": {"hidden_units": None}}, "a whole number, .*hidden_units=None"),
        ({"arguments": {"hidden_units": {}}}, r"a whole number, .*hidden_units=\{\}"),
        ({"arguments": {"image_shape": [8, -8, 1]}}, "whole numbers"),
        ({"arguments": {"image_shape": None}}, "image_shape=None"),
    ],
)
def test_a_hostile_entry_is_refused(entry, changes, received):
    change(entry, **changes)
    if received is None:
        assert zoo.load(entry).latent_dim == 8
        return
    with pytest.raises(ValueError, match=received) as error:
        zoo.load(entry)
    assert "Received: " in str(error.value)


def test_an_entry_without_a_digest_is_refused(entry):
    content = json.loads((entry / published.ENTRY).read_text())
    (entry / published.ENTRY).write_text(json.dumps({**content, "weights": {}}))
    with pytest.raises(ValueError, match=r"not a whole entry\.json.*Received: .*KeyError"):
        zoo.load(entry)


# Damaged and hostile files ----------------------------------------------------------------------


def flipped(data):
    return data[:-100] + bytes([data[-100] ^ 1]) + data[-99:]


@pytest.mark.parametrize(
    ("damage", "received"),
    [
        (lambda data: data[: len(data) // 2], r"\d+ bytes with the sha256"),
        (lambda data: b"", "0 bytes"),
        (lambda data: b"<html>404 Not Found</html>", r"26 bytes .* begins b'<html>404"),
        (flipped, r"\d+ bytes with the sha256"),
        (lambda data: data + bytes(weights.MAX_BYTES), r"50\d+ bytes"),
    ],
    ids=["truncated", "empty", "web page", "flipped bit", "too large"],
)
def test_a_corrupt_file_is_refused_before_it_is_parsed(entry, damage, received, monkeypatch):
    monkeypatch.setattr(weights, "parse", None)
    data = (entry / weights.NAME).read_bytes()
    (entry / weights.NAME).write_bytes(damage(data))
    with pytest.raises(ValueError, match=rf"corrupt, or another one: .*Received: {received}"):
        zoo.load(entry)
    (entry / weights.NAME).unlink()
    with pytest.raises(ValueError, match=r"corrupt, or another one: .*Received: 0 bytes"):
        zoo.load(entry)


class Evil:
    """Unpickled, it leaves a file behind."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def bomb(arrays, name):
    """A header that claims eight terabytes, before a few bytes."""
    member = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": False, "shape": (10**6, 2 * 10**6)}
    np.lib.format.write_array_header_1_0(member, header)
    return repacked(npz(arrays), {f"{name}.npy": member.getvalue() + bytes(8)})


def headed(arrays, name, header):
    """The first array with another header, which NumPy reads as a Python literal."""
    content = header.encode() + b"\n"
    member = b"\x93NUMPY\x01\x00" + len(content).to_bytes(2, "little") + content + bytes(16)
    return repacked(npz(arrays), {f"{name}.npy": member})


LITERALS = {
    "an open bracket": ("{... (2, 2", "TokenError"),
    "an open string": ("'''abc", "TokenError"),
    "an unhashable key": ("{[1]: 2}", "TypeError"),
    "mixed keys": ("{'descr': '<f4', 1: 2, 'fortran_order': False}", "TypeError"),
    "a truth in the shape": (
        "{'descr': '<f4', 'fortran_order': False, 'shape': (True, 4)}", "TypeError",
    ),
    "a deep expression": ("-" * 9000 + "1", "not a file of weights"),
}  # fmt: skip


def repacked(data, replaced, method=zipfile.ZIP_STORED):
    """The archive with some members replaced or added."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(buffer, "w", method) as new:
        members = {name: old.read(name) for name in old.namelist()}
        for name, content in {**members, **replaced}.items():
            new.writestr(name, content)
    return buffer.getvalue()


def twice(arrays, name):
    buffer = io.BytesIO(npz(arrays))
    with zipfile.ZipFile(buffer, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr(f"{name}.npy", archive.read(f"{name}.npy"))
    return buffer.getvalue()


HOSTILE = {
    "pickle": (lambda arrays, name, evil: pickle.dumps(evil), "not a file of weights: BadZip"),
    "pickle in an array": (
        lambda arrays, name, evil: npz({**arrays, name: np.array([evil])}),
        "holds object",
    ),
    "shape bomb": (
        lambda arrays, name, evil: bomb(arrays, name),
        "does not hold an array of shape",
    ),
    "zip bomb": (
        lambda arrays, name, evil: repacked(
            npz(arrays), {f"{name}.npy": bytes(50_000_000)}, zipfile.ZIP_DEFLATED
        ),
        "is compressed",
    ),
    "a path that leaves the folder": (
        lambda arrays, name, evil: repacked(npz(arrays), {"../evil": npz(arrays)[:0]}),
        "not a file of weights",
    ),
    "one array more": (
        lambda arrays, name, evil: npz({**arrays, "../evil": np.zeros(3, "float32")}),
        r"\.\./evil\.npy: the model has None\. Received: \(3,\)",
    ),
    "one array fewer": (
        lambda arrays, name, evil: npz({k: v for k, v in arrays.items() if k != name}),
        "of another model.*Received: None",
    ),
    "an array twice": (lambda arrays, name, evil: twice(arrays, name), "a name that comes twice"),
    "whole numbers": (
        lambda arrays, name, evil: npz({k: v.astype("int32") for k, v in arrays.items()}),
        "holds int32",
    ),
    "NaN": (
        lambda arrays, name, evil: npz({**arrays, name: arrays[name] * np.float32("nan")}),
        r"must be finite.*Received: NaN or infinity in \d+ of \d+ values",
    ),
    **{
        what: (lambda arrays, name, evil, header=header: headed(arrays, name, header), message)
        for what, (header, message) in LITERALS.items()
    },
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_hostile_file_is_refused(entry, tmp_path, what):
    """Also if its size and sha256 are what the entry says; nothing runs, no memory goes."""
    make, message = HOSTILE[what]
    arrays, evil = arrays_of(entry), tmp_path / "evil"
    replace_weights(entry, make(arrays, next(iter(arrays)), Evil(evil)))
    content = published.read(entry)
    model = registry.get("gan", **published.arguments_of(content))
    before = [v.numpy() for v in model.weights]
    tracemalloc.start()
    with pytest.raises(ValueError, match=rf"(?s){message}"):
        data = weights.read(entry / weights.NAME, content["weights"])
        weights.assign(model, weights.parse(data, model, entry / weights.NAME))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000_000
    assert not list(tmp_path.rglob("evil*"))
    for variable, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(variable, value)
    with pytest.raises(ValueError, match=r"Received: "):
        zoo.load(entry)


opened = None  # collects file names while it is a list


def _listen(event, arguments):
    if opened is not None and event in ("open", "pickle.find_class"):
        opened.append(str(arguments[0]) if event == "open" else "pickle")


def test_nothing_but_the_entry_and_its_weights_is_read(entry, tmp_path):
    """Whatever else lies there or is named: models with code, links, other weights."""
    layers = [keras.Input((2,)), keras.layers.Lambda(lambda x: x)]
    keras.Sequential(layers).save(entry / "checkpoint.keras")
    shutil.copy(entry / "checkpoint.keras", tmp_path / "other.npz")
    for name in ("model.keras", "model.weights.h5", "config.json", "metrics.json"):
        shutil.copy(tmp_path / "other.npz", entry / name)
    change(entry, weights={"file": "../../other.npz"}, samples="../../other.npz")
    sys.addaudithook(_listen)
    global opened
    opened = []
    try:
        assert zoo.load(entry).latent_dim == 8
        files = [path for path in opened if path == "pickle" or path.startswith(str(tmp_path))]
    finally:
        opened = None
    assert files == [str(entry / published.ENTRY), str(entry / weights.NAME)]
