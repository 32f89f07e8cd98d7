"""Writes the folder `gpt2` beside this file: a tiny GPT-2 by `transformers`, and what it computes.

Run once, with other packages than the tests have (made with transformers 5.24 and torch 2.14):

    python tests/golden/make_gpt2.py

The folder is one as the Hugging Face Hub has it, plus `expected.json`. The weights are random, and
large enough that all parts of the network matter to the logits.
"""

import json
from pathlib import Path

import tokenizers
import torch
import transformers

FOLDER = Path(__file__).parent / "gpt2"
END = "<|endoftext|>"
SENTENCES = [
    "The cat sat on the mat, and the dog didn't: it saw 12 other dogs on the other mat.\n",
    "There's a mat that the cat and the other cats sat on; naïve dogs saw that in 2019.\n",
]
TEXT = "The other cat didn't see 120 naïve mats - “it’s”\n\n  on the 犬.\n"
CONTINUED = 12
SEED = 11  # of a continuation that is not one token for ever


def make_tokenizer():
    """Byte pairs as GPT-2 has them, few, and behind them the token that ends a text."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    byte_level = tokenizers.pre_tokenizers.ByteLevel
    tokenizer.pre_tokenizer = byte_level(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.post_processor = tokenizers.processors.ByteLevel(trim_offsets=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=280, initial_alphabet=byte_level.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.add_special_tokens([END])
    return tokenizer


def make_model(num_tokens):
    """All weights are drawn, those included that begin as 0 or 1."""
    config = transformers.GPT2Config(
        vocab_size=num_tokens, n_positions=32, n_embd=16, n_layer=2, n_head=2,
        bos_token_id=num_tokens - 1, eos_token_id=num_tokens - 1,
    )  # fmt: skip
    torch.manual_seed(SEED)
    model = transformers.GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn(parameter.shape)
    return model


def main():
    """Writes the model, then reads it again, as a user would, and writes what it computes."""
    made = make_tokenizer()
    make_model(made.get_vocab_size()).save_pretrained(FOLDER)
    made.save(str(FOLDER / "tokenizer.json"), pretty=False)
    (FOLDER / "generation_config.json").unlink()
    (FOLDER / "model.safetensors").chmod(0o644)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    model = transformers.AutoModelForCausalLM.from_pretrained(FOLDER).eval()
    text_ids = tokenizer(TEXT)["input_ids"]
    ids = text_ids[:10]
    with torch.no_grad():
        logits = model(torch.tensor([ids])).logits[0]
        continued = model.generate(
            torch.tensor([ids]), do_sample=False, max_new_tokens=CONTINUED, pad_token_id=0
        )[0]
    assert len(continued) == len(ids) + CONTINUED, "the end must not come: choose another seed"
    expected = {
        "text": TEXT,
        "text_ids": text_ids,
        "ids": ids,
        "logits": [[round(value, 5) for value in row] for row in logits.tolist()],
        "continued": continued.tolist(),
        "versions": {"transformers": transformers.__version__, "torch": torch.__version__},
    }
    (FOLDER / "expected.json").write_text(json.dumps(expected) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
