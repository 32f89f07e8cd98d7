"""Published GPT-2 weights: a folder as Hugging Face has it, to a `gpt` that writes and trains.

It is on the disk, or fetched by a name such as "hf://openai-community/gpt2". It holds
`config.json`, `model.safetensors` and `tokenizer.json`, of GPT-2 in any size or of a model of the
same architecture. Nothing in it is code. A safetensors file is eight bytes with the length of a
header, the header in JSON, which says where each array is, and the arrays.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_genai import tokenizers

WEIGHTS, CONFIG, TOKENIZER = "model.safetensors", "config.json", "tokenizer.json"
HUB = "hf://"
HEADER_BYTES = 100_000_000  # as in the format's own library
TYPES: dict[str, np.dtype[Any]] = {
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
SIZES = {
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "width": "n_embd",
    "sequence_length": "n_positions",
}
# What a GPT-2 computes; of models with other values all arrays would fit, and mean something else.
FORMULAS = {
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "tie_word_embeddings": True,
}
# The parts of a block, theirs and ours; c_ are matrices (inputs, outputs) as those of Dense.
LAYERS = {
    "ln_1": "attention_norm",
    "attn.c_attn": "query_key_value",
    "attn.c_proj": "output_projection",
    "ln_2": "dense_norm",
    "mlp.c_fc": "widen",
    "mlp.c_proj": "narrow",
}


def download(name: str) -> Path:
    """The folder of a model on the Hugging Face Hub, fetched once into that package's own cache.

    Args:
        name: "hf://<owner>/<model>", or "hf://<owner>/<model>@<revision>": a commit, a tag or a
            branch. Only a commit is the same for ever.

    Raises:
        ValueError: If there is no network and nothing in the cache, or no such model.
        ImportError: If the package `huggingface_hub` is missing.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            f'Names that begin with "{HUB}" need the package of an extra: '
            f'`pip install "keras_genai[hub]"`. Received: {error}'
        ) from error
    model, _, revision = name.removeprefix(HUB).partition("@")
    try:
        folder = huggingface_hub.snapshot_download(
            model, revision=revision or None, allow_patterns=[CONFIG, WEIGHTS, TOKENIZER]
        )
    except Exception as error:  # the package has many, some of which have no base but this
        reason = f"{type(error).__name__}: {str(error)[:200]}"
        raise ValueError(
            f"This model could not be had from the Hugging Face Hub ({reason}). Without network, "
            f"put {CONFIG}, {WEIGHTS} and {TOKENIZER} into a folder and load that. "
            f"Received: {name!r}"
        ) from error
    return Path(folder)


def load(folder: Path, overrides: Mapping[str, Any] | None = None) -> Any:
    """A `gpt` of the folder's size with its weights, compiled to be trained on at a low rate.

    Args:
        folder: What holds the three files.
        overrides: Parameters of the recipe. The base is loaded, LoRA begins anew.

    Raises:
        ValueError: If files are missing or damaged, or the model is not a GPT-2.
        ImportError: If the package `tokenizers` is missing.
    """
    from keras_genai.zoo import registry

    overrides = overrides or {}
    missing = [name for name in (CONFIG, WEIGHTS, TOKENIZER) if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"A folder of GPT-2 weights holds {CONFIG}, {WEIGHTS} and {TOKENIZER}. "
            f"Received: {str(folder)!r} without {' and '.join(missing)}"
        )
    arguments = sizes((folder / CONFIG).read_text("utf-8"))
    arguments |= {
        "vocabulary": vocabulary((folder / TOKENIZER).read_text("utf-8")),
        "tokenizer": "bpe",
    }
    if settled := sorted(k for k in {*arguments} & {*overrides} if arguments[k] != overrides[k]):
        raise ValueError(
            "The folder's files settle sizes and tokenizer: leave these parameters out. "
            f"Received: {', '.join(settled)}"
        )
    # The rate for LoRA is that of its authors' GPT-2 (table 11).
    arguments |= {"dropout": 0.1, "learning_rate": 2e-4 if overrides.get("lora_rank") else 3e-5}
    model = registry.make("gpt", {**arguments, "decay_steps": 0, **overrides})
    assign(model.language_model, read_safetensors(folder / WEIGHTS))
    return model


def sizes(text: str) -> dict[str, Any]:
    """The parameters of the recipe `gpt` that the content of a `config.json` settles.

    Raises:
        ValueError: If it is damaged, or of a network that is computed in another way.
    """
    try:
        config = {**FORMULAS, **json.loads(text)}
        found = {name: config[theirs] for name, theirs in SIZES.items()}
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"This is not the {CONFIG} of a GPT-2, with {', '.join(SIZES.values())}. "
            f"Received: {text:.300} ({type(error).__name__}: {error})"
        ) from error
    for name, value in FORMULAS.items():
        if config[name] != value:
            raise ValueError(
                f"This is not the configuration of a GPT-2, whose network is computed with "
                f"{name}={value!r}. Received: {name}={config[name]!r}"
            )
    return found


def vocabulary(text: str) -> str:
    """The content of a `tokenizer.json` as `tokenizers.load` takes it.

    The token that ends a text, which is GPT-2's last one, stands before it and not in it.

    Raises:
        ValueError: If it is damaged.
    """
    try:
        content = json.loads(text)
        pieces = content["model"]["vocab"]
        added = [token["content"] for token in content.get("added_tokens") or ()]
        last = pieces.pop(tokenizers.END, len(pieces)) == len(pieces)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"This is not the {TOKENIZER} of a byte pair encoding. "
            f"Received: {text:.80} ({type(error).__name__}: {error})"
        ) from error
    if added != [tokenizers.END] or not last:
        return text
    return tokenizers.END + json.dumps({**content, "added_tokens": []}, ensure_ascii=False)


def assign(network: Any, arrays: Mapping[str, np.ndarray]) -> None:
    """Sets the weights of a `gpt`'s network to arrays under GPT-2's names.

    Raises:
        ValueError: If one is missing or has another shape.
    """
    embedding, positions, _, *blocks, norm = network.layers[1:]
    variables = {"wte.weight": embedding.embeddings, "wpe.weight": positions.vectors}
    parts = {"ln_f": norm}
    for i, block in enumerate(blocks):
        parts |= {f"h.{i}.{name}": getattr(block, ours) for name, ours in LAYERS.items()}
    for name, layer in parts.items():
        scale, shift, *_ = layer.weights  # behind them those of LoRA
        variables |= {f"{name}.weight": scale, f"{name}.bias": shift}
    found = {name.removeprefix("transformer."): array for name, array in arrays.items()}
    for name, variable in variables.items():
        shape = found[name].shape if name in found else None
        if shape != tuple(variable.shape):
            raise ValueError(
                f"The weights must be those of a GPT-2 of this size: {name} has the shape "
                f"{tuple(variable.shape)}. Received: {shape}"
            )
        variable.assign(found[name].astype("float32"))


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name, read from the disk when they are used.

    Raises:
        ValueError: If the file is damaged, or has an array of another type than `TYPES`.
    """
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = 8 + int.from_bytes(file.read(8), "little")
        try:
            if start > min(size, HEADER_BYTES):
                raise ValueError(f"a header of {start} bytes in a file of {size}")
            header = json.loads(file.read(start - 8))
            header.pop("__metadata__", None)
            return {
                name: _array(path, size, start, **entry)
                for name, entry in header.items()
                if not name.endswith((".attn.bias", ".attn.masked_bias"))  # masks, not weights
            }
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise ValueError(
                "This is not a whole safetensors file of floating-point arrays: take another copy. "
                f"Received: {str(path)!r} ({error})"
            ) from error


def _array(
    path: Path, size: int, start: int, dtype: str, shape: list[int], data_offsets: list[int]
) -> np.ndarray:
    first, last = (start + offset for offset in data_offsets)
    length = int(np.prod(shape)) * TYPES[dtype].itemsize
    if min(shape, default=1) < 1 or first < start or last > size or last - first != length:
        raise ValueError(f"an array of shape {shape} at {data_offsets} in a file of {size} bytes")
    return np.memmap(path, TYPES[dtype], "r", first, tuple(shape))
