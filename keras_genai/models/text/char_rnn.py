"""Character RNN: the next character from all those before.

Generating Sequences With Recurrent Neural Networks. Graves, 2013, https://arxiv.org/abs/1308.0850
The recurrent layers: LSTM (Hochreiter, Schmidhuber 1997), GRU (Cho et al. 2014,
https://arxiv.org/abs/1406.1078) or the simple RNN (Elman 1990), by one argument.

With h_t = RNN(x_1, ..., x_t) and p(x_{t+1} | x_1..x_t) = softmax(W h_t + b), the loss is the mean
negative log-likelihood of the next character, in nats (divide by log 2 for bits):

    loss = -1/T sum_t log p(x_{t+1} | x_1 ... x_t)                  equation 6, a character

It is trained on windows of the text, each from an empty memory. Sampling carries the memory from
character to character, in one compiled loop. With another tokenizer, characters are bytes, pieces
of words or words. Unlike in the paper a character comes in as a learnt vector of 64 numbers, not
one-hot, and of several layers each sees the one below alone.

Shapes: B batch (N when sampling), T time, V vocabulary.
"""

from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from keras_genai.layers import GRU, Dropout
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.text_model import TextModel
from keras_genai.optimizers import Adam
from keras_genai.zoo.registry import register

CELLS = {"lstm": layers.LSTM, "gru": GRU, "simple_rnn": layers.SimpleRNN}


@network
def language_model(num_tokens, cell, num_layers, units, dropout):
    """Characters int32 (B, T) to logits of the next ones (B, T, V)."""
    ids = keras.Input((None,), dtype="int32")
    x = layers.Embedding(num_tokens, 64)(ids)  # B T 64
    for _ in range(num_layers):
        x = CELLS[cell](units, return_sequences=True)(x)  # B T units
        x = Dropout(dropout)(x)
    return keras.Model(ids, layers.Dense(num_tokens, dtype="float32")(x))


def next_character_nll(targets, logits):
    """Mean negative log-likelihood in nats of `targets` (B, T) under `logits` (B, T, V)."""
    return tf.reduce_mean(
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    )


@keras.saving.register_keras_serializable("keras_genai")
class CharRNN(TextModel):
    """A recurrent language model of characters.

    Args:
        vocabulary: The characters it knows, as one string, or None: from the data.
        tokenizer: "characters", "bytes", "bpe" or "words".
        vocabulary_size: How many tokens "bpe" learns, at most.
        cell: "lstm", "gru" or "simple_rnn".
        num_layers: Recurrent layers.
        units: Width of each.
        sequence_length: T, tokens in a training window.
        dropout: Fraction of each layer's output that is dropped in training.
        seed: Fixes weights, dropout and data order.
    """

    def __init__(
        self,
        vocabulary=None,
        tokenizer="characters",
        vocabulary_size=2000,
        cell="gru",
        num_layers=1,
        units=256,
        sequence_length=100,
        dropout=0.1,
        seed=None,
        **kwargs,
    ):
        super().__init__(vocabulary, tokenizer, vocabulary_size, sequence_length, seed, **kwargs)
        if cell not in CELLS:
            raise ValueError(f"`cell` must be one of {', '.join(CELLS)}. Received: cell={cell!r}")
        self.cell, self.num_layers, self.units, self.dropout = cell, num_layers, units, dropout

    def build_networks(self):
        self.language_model = language_model(
            self.num_tokens, self.cell, self.num_layers, self.units, self.dropout
        )

    def call(self, ids, training=False):
        return self.language_model(ids, training=training)

    def train_step(self, data):
        inputs, targets = data["text"][:, :-1], data["text"][:, 1:]  # B T each
        with tf.GradientTape() as tape:
            logits = self.language_model(inputs, training=True)  # B T V
            loss = next_character_nll(targets, logits)
        self.minimize(tape, loss, self.language_model)
        return self.log({}, total=loss)

    def test_step(self, data):
        inputs, targets = data["text"][:, :-1], data["text"][:, 1:]  # B T each
        loss = next_character_nll(targets, self.language_model(inputs))
        return self.log({}, total=loss, count=tf.shape(inputs)[0])

    def step(self, ids, states):
        """One character (N,) and the layers' states to logits (N, V) and new states."""
        embedding, *_, head = self.language_model.layers[1:]
        x, new_states = embedding(ids), []
        for layer, state in zip(self._recurrent, states, strict=True):
            x, state = layer.cell(x, state)
            new_states.append([*state] if isinstance(state, list | tuple) else [state])
        return head(x), new_states

    def initial_states(self, n, length):
        """Empty memory for `n` texts of any length."""
        return [[*layer.cell.get_initial_state(batch_size=n)] for layer in self._recurrent]

    @property
    def _recurrent(self):
        return [layer for layer in self.language_model.layers if isinstance(layer, layers.RNN)]


@register(
    modality="text",
    task="prompt",
    data="pydocs",
    minutes=10,
    batch_size=32,
    step_ms=105,
    paper="arXiv:1308.0850",
    tiny={"units": 16, "num_layers": 1, "sequence_length": 12},
)
def char_rnn(
    vocabulary: str | None = None,
    tokenizer: Literal["characters", "bytes", "bpe", "words"] = "characters",
    vocabulary_size: int = 2000,
    cell: Literal["lstm", "gru", "simple_rnn"] = "gru",
    num_layers: int = 1,
    units: int = 256,
    sequence_length: int = 100,
    dropout: float = 0.1,
    learning_rate: float = 5e-3,
    seed: int | None = None,
):
    """Character-level recurrent language model: a text file in, more of it out.

    One GRU layer is what learns most within minutes: after 90 seconds of Shakespeare its loss on
    held-out text was 1.66 nats, that of two LSTM layers 1.97.
    """
    model = CharRNN(
        vocabulary, tokenizer, vocabulary_size, cell, num_layers, units, sequence_length, dropout,
        seed,
    )  # fmt: skip
    # Recurrent gradients explode now and then (Graves 2013, section 2.1): clip them.
    optimizer = Adam(learning_rate, global_clipnorm=1.0)
    model.compile(optimizer, jit_compile=jit_compile_default(on_cpu=False))
    return model
