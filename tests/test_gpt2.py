"""Published GPT-2 weights: against a forward pass written here, and against `transformers`."""

import json
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from keras_genai import tokenizers, zoo
from keras_genai.zoo import gpt2

pytest.importorskip("tokenizers")

GOLDEN = Path(__file__).parent / "golden" / "gpt2"  # golden/make_gpt2.py has written it
L, HEADS, D, T, V = 2, 2, 8, 12, 270
CONFIG = {
    "n_layer": L, "n_head": HEADS, "n_embd": D, "n_positions": T, "vocab_size": V,
    "layer_norm_epsilon": 1e-5, "activation_function": "gelu_new",
}  # fmt: skip


def weights():
    """Random arrays under GPT-2's names."""
    shapes = {"wte.weight": (V, D), "wpe.weight": (T, D), "ln_f.weight": (D,), "ln_f.bias": (D,)}
    for i in range(L):
        for name, shape in {
            "ln_1": (D,), "attn.c_attn": (D, 3 * D), "attn.c_proj": (D, D),
            "ln_2": (D,), "mlp.c_fc": (D, 4 * D), "mlp.c_proj": (4 * D, D),
        }.items():  # fmt: skip
            shapes |= {f"h.{i}.{name}.weight": shape, f"h.{i}.{name}.bias": shape[-1:]}
    rng = np.random.default_rng(0)
    return {name: rng.normal(0, 0.5, shape).astype("float32") for name, shape in shapes.items()}


def write_folder(path, arrays, prefix="", config=CONFIG):
    path.mkdir(exist_ok=True)
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in arrays.items():
        place = [len(data), len(data) + array.nbytes]
        kind = {"float32": "F32", "float16": "F16", "int64": "I64"}[array.dtype.name]
        header[prefix + name] = {"dtype": kind, "shape": array.shape, "data_offsets": place}
        data += array.tobytes()
    written = json.dumps(header).encode()
    (path / gpt2.WEIGHTS).write_bytes(len(written).to_bytes(8, "little") + written + data)
    (path / gpt2.CONFIG).write_text(json.dumps(config))
    sentences = ["the cat sat on the mat and saw no dog"] * 9
    (path / gpt2.TOKENIZER).write_text(tokenizers.BytePairs.learn(sentences, V))
    return path


def normalised(x, scale, shift):
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(
        x.var(-1, keepdims=True) + 1e-5
    ) * scale + shift


def logits_of(w, ids):
    """Equations of the paper for one text (T,), head by head, in float64."""
    w = {name: array.astype("float64") for name, array in w.items()}
    pair = lambda name: (w[f"{name}.weight"], w[f"{name}.bias"])  # noqa: E731
    dense = lambda x, name: x @ pair(name)[0] + pair(name)[1]  # noqa: E731
    h = w["wte.weight"][ids] + w["wpe.weight"][: len(ids)]
    for i in range(L):
        q, k, v = np.split(dense(normalised(h, *pair(f"h.{i}.ln_1")), f"h.{i}.attn.c_attn"), 3, 1)
        mixed = np.zeros_like(h)
        for columns in np.split(np.arange(D), HEADS):
            for t in range(len(ids)):
                scores = k[: t + 1, columns] @ q[t, columns] / np.sqrt(D / HEADS)
                shares = np.exp(scores) / np.exp(scores).sum()
                mixed[t, columns] = shares @ v[: t + 1, columns]
        h = h + dense(mixed, f"h.{i}.attn.c_proj")
        wide = dense(normalised(h, *pair(f"h.{i}.ln_2")), f"h.{i}.mlp.c_fc")
        wide = wide / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (wide + 0.044715 * wide**3)))
        h = h + dense(wide, f"h.{i}.mlp.c_proj")
    return normalised(h, *pair("ln_f")) @ w["wte.weight"].T


@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_logits_are_those_of_the_paper(tmp_path, prefix):
    arrays = weights()
    masks = {f"h.{i}.attn.bias": np.ones((1, 1, T, T), "int64") for i in range(L)}
    model = zoo.load(write_folder(tmp_path / "gpt2", arrays | masks, prefix))
    ids = np.random.default_rng(1).integers(0, V, T)
    np.testing.assert_allclose(model(ids[None])[0], logits_of(arrays, ids), rtol=1e-4, atol=1e-4)


def test_ids_logits_and_greedy_text_are_those_of_transformers():
    expected = json.loads((GOLDEN / "expected.json").read_text("utf-8"))
    model = zoo.load(GOLDEN)
    assert model.codec.encode(expected["text"]).tolist() == expected["text_ids"]
    assert model.codec.decode(expected["text_ids"]) == expected["text"]
    ids, continued = expected["ids"], expected["continued"]
    np.testing.assert_allclose(model(np.array([ids]))[0], expected["logits"], rtol=0, atol=1e-4)
    prompt = model.codec.decode(ids)
    written = model.generate(prompt, max_length=len(continued), temperature=0)
    assert written == model.codec.decode(continued) and len(written) > len(prompt)


def test_the_token_that_ends_a_text_is_known():
    model = zoo.load(GOLDEN)
    assert model.codec.end == model.num_tokens - 1 == 280
    assert model.codec.encode_documents(["cat", "mat"]).tolist() == [280, 263, 280, 264, 280]
    text = (GOLDEN / gpt2.TOKENIZER).read_text("utf-8")
    content = json.loads(text)
    content["model"]["vocab"][tokenizers.END] = 280  # as in OpenAI's own
    assert gpt2.vocabulary(json.dumps(content)) == gpt2.vocabulary(text)
    content["model"]["vocab"][tokenizers.END] = 0  # not behind all others
    assert gpt2.vocabulary(json.dumps(content)) == json.dumps(content)


def test_lora_begins_at_the_loaded_weights():
    model, tuned = zoo.load(GOLDEN), zoo.load(GOLDEN, lora_rank=3, dropout=0.0)
    ids = np.arange(20)[None]
    np.testing.assert_array_equal(tuned(ids), model(ids))
    assert {v.name for v in tuned.trainable_variables} == {"lora_a", "lora_b"}
    assert (tuned.dropout, tuned.arguments["learning_rate"]) == (0.0, 2e-4)
    last = zoo.load(GOLDEN, trainable_blocks=1)
    assert len(last.trainable_variables) == 12 + 2
    np.testing.assert_array_equal(last(ids), model(ids))
    with pytest.raises(ValueError, match="settle sizes.*Received: num_heads, width"):
        zoo.load(GOLDEN, width=8, num_heads=1)


def test_a_model_of_the_hub_is_fetched_by_its_name(monkeypatch):
    asked = []

    def snapshot_download(model, **options):
        if model == "nobody/nothing":
            raise OSError("404")
        asked.append((model, options))
        return str(GOLDEN)

    package = types.SimpleNamespace(snapshot_download=snapshot_download)
    monkeypatch.setitem(sys.modules, "huggingface_hub", package)
    assert zoo.load("hf://somebody/small-gpt2").width == 16
    assert zoo.load("hf://somebody/small-gpt2@0123abc", lora_rank=2).lora_rank == 2
    assert [model for model, _ in asked] == ["somebody/small-gpt2"] * 2
    assert [options["revision"] for _, options in asked] == [None, "0123abc"]
    assert {*asked[0][1]["allow_patterns"]} == {gpt2.CONFIG, gpt2.WEIGHTS, gpt2.TOKENIZER}
    with pytest.raises(ValueError, match="could not be had.*404.*Received: 'hf://nobody/nothing'"):
        zoo.load("hf://nobody/nothing")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # not installed
    with pytest.raises(ImportError, match=r"keras_genai\[hub\].*Received: "):
        zoo.load("hf://somebody/small-gpt2")


def test_it_reads_its_own_tokens_writes_and_trains(tmp_path):
    model = zoo.load(write_folder(tmp_path / "gpt2", weights()))
    model.jit_compile = False
    text = "the cat sat on the mat, saw 3 dogs"
    ids = model.codec.encode(text)
    assert len(ids) < len(text) and model.codec.decode(ids) == text
    assert model.generate("the cat", max_length=16, seed=1).startswith("the cat")
    before = model.language_model.get_weights()[0]
    model.fit([text * 9], epochs=1, batch_size=2, run_dir=False, verbose=0)
    assert 0 < np.abs(model.language_model.get_weights()[0] - before).max() < 1e-3
    model.save(tmp_path / "tuned.keras")
    np.testing.assert_array_equal(zoo.load(tmp_path / "tuned.keras")(ids[None, :12]),
                                  model(ids[None, :12]))  # fmt: skip


def test_other_folders_are_refused(tmp_path):
    arrays = weights()

    def refused(message, arrays=arrays, **config):
        folder = write_folder(tmp_path / "gpt2", arrays, config={**CONFIG, **config})
        with pytest.raises(ValueError, match=message):
            zoo.load(folder)
        return folder

    for name, value in {
        "activation_function": "relu", "layer_norm_epsilon": 1e-6, "scale_attn_weights": False,
        "scale_attn_by_inverse_layer_idx": True, "tie_word_embeddings": False,
    }.items():  # fmt: skip
        refused(f"not the configuration of a GPT-2.*Received: {name}=", **{name: value})
    refused(
        r"ln_f.bias has the shape \(8,\). Received: None", {k: arrays[k] for k in [*arrays][:3]}
    )
    refused(r"wpe.weight has the shape \(13, 8\). Received: \(12, 8\)", n_positions=13)
    refused("not a whole safetensors.*Received: .*I64", {"wte.weight": np.zeros(3, "int64")})
    folder = refused("a whole number.*Received: num_layers=None", n_layer=None)
    for name, damaged in (
        (gpt2.CONFIG, "{"), (gpt2.CONFIG, "[]"), (gpt2.CONFIG, "{}"),
        (gpt2.TOKENIZER, "{"), (gpt2.TOKENIZER, "{}"), (gpt2.TOKENIZER, '{"model": {"vocab": []}}'),
    ):  # fmt: skip
        write_folder(folder, arrays)
        (folder / name).write_text(damaged)
        with pytest.raises(ValueError, match=f"not the {name} of a .*Received: "):
            zoo.load(folder)
    write_folder(folder, arrays)
    whole = (folder / gpt2.WEIGHTS).read_bytes()
    for damaged in (whole[:-1], whole[:100], b"\xff" * 100, b""):
        (folder / gpt2.WEIGHTS).write_bytes(damaged)
        with pytest.raises(ValueError, match=r"not a whole safetensors file.*Received: "):
            zoo.load(folder)
    (folder / gpt2.TOKENIZER).unlink()
    with pytest.raises(ValueError, match=r"holds config.json.*without tokenizer.json"):
        zoo.load(folder)
