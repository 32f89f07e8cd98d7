"""GPT-2: a transformer that reads from left to right and says what comes next.

Language Models are Unsupervised Multitask Learners. Radford, Wu, Child, Luan, Amodei, Sutskever,
2019, https://openai.com/index/better-language-models/. From Improving Language Understanding by
Generative Pre-Training (Radford, Narasimhan, Salimans, Sutskever, 2018) it differs in that
normalisation (LN) comes before each part of a block and once more after the last:

    h_0     = W_e[x_t] + W_p[t]                               2018, equation 2; t is a place
    a_l     = h_{l-1} + attention(LN(h_{l-1}))                        2019, section 2.3
    h_l     = a_l + W_2 gelu(W_1 LN(a_l))
    p(x_{t+1} | x_1 ... x_t) = softmax(LN(h_L) W_e^T)         2018, equation 2: W_e serves twice
    loss    = -1/T sum_t log p(x_{t+1} | x_1 ... x_t)                 2018, equation 1, a token

Weights begin with a deviation of 0.02 (in the authors' code positions with 0.01), those whose
results are added to h with 0.02 / sqrt(2 L), where 2 L is the number of such additions. AdamW
(Loshchilov, Hutter, 2017) shrinks kernels alone.

The network sees at most T tokens. A text that grows longer goes on in a window of the last ones:
when its T places are full, the later half of them becomes the first half. So logits depend on at
most T tokens, and from there on on more than T / 2. Sampling keeps the keys and values of the
window's places, a cache, and computes them anew when the window moves.

Shapes: B batch (N when sampling), T time (the context), D width, V vocabulary, d = D / heads.
"""

import functools
from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from keras_genai.layers import (
    Dropout,
    Positions,
    attend,
    attention_shares,
    lora,
    merge_heads,
    split_heads,
)
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.text.char_rnn import next_character_nll
from keras_genai.models.text_model import TextModel
from keras_genai.optimizers import AdamW, warm_cosine
from keras_genai.zoo.registry import register

EPSILON = 1e-5  # of the normalisations, as in the published weights


def normal(scale=1.0):
    """The initial weights' distribution: one for each array, since it draws the same each time."""
    return keras.initializers.RandomNormal(stddev=0.02 * scale)


class BlockLayers(layers.Layer):
    """The layers of a transformer's block; in which order they are taken, subclasses say.

    Args:
        num_heads: Of the attention; divides D.
        residual_scale: Factor of the initial weights whose results are added to the input.
        dropout: Fraction of what is added, and of the attention's shares, that is dropped in
            training.
        lora_rank: r of the attention's two dense layers; 0 for no LoRA.
    """

    def __init__(self, num_heads, residual_scale=1.0, dropout=0.0, lora_rank=0, **kwargs):
        super().__init__(**kwargs)
        self.num_heads, self.residual_scale, self.dropout = num_heads, residual_scale, dropout
        self.lora_rank = lora_rank

    def build(self, input_shape):
        width, options = input_shape[-1], {"dtype": self.dtype_policy}
        self.attention_norm = layers.LayerNormalization(epsilon=EPSILON, **options)
        adapted = functools.partial(lora.dense, lora_rank=self.lora_rank, **options)
        self.query_key_value = adapted(3 * width, kernel_initializer=normal())
        self.output_projection = adapted(width, kernel_initializer=normal(self.residual_scale))
        self.dense_norm = layers.LayerNormalization(epsilon=EPSILON, **options)
        self.widen = layers.Dense(4 * width, kernel_initializer=normal(), **options)
        self.narrow = layers.Dense(width, kernel_initializer=normal(self.residual_scale), **options)
        self.drop = Dropout(self.dropout, **options)
        for layer in (self.attention_norm, self.query_key_value, self.output_projection):
            layer.build((None, None, width))
        for layer in (self.dense_norm, self.widen):
            layer.build((None, None, width))
        self.narrow.build((None, None, 4 * width))

    def get_config(self):
        """The constructor's arguments."""
        own = ("num_heads", "residual_scale", "dropout", "lora_rank")
        return {**super().get_config(), **{name: getattr(self, name) for name in own}}


@keras.saving.register_keras_serializable("keras_genai")
class Block(BlockLayers):
    """Attention and two dense layers, each added to its input: (B, T, D) to (B, T, D)."""

    def call(self, x, training=False):
        return self.whole(x, training)[0]

    def whole(self, x, training=False):
        """All places at once: the output (B, T, D), and the keys and values for `step`."""
        query, key, value = self._heads(x)
        return self._rest(x, query, key, value, self._visible(x), training), key, value

    def shares(self, x):
        """What each place takes of each, in each head, to look at: (B, heads, T, T)."""
        query, key, _ = self._heads(x)
        return attention_shares(query, key, self._visible(x))

    def step(self, x, keys, values, place):
        """One place of `whole`.

        Args:
            x: (B, 1, D).
            keys: (B, heads, T, d), right before this place.
            values: As `keys`.
            place: An int32 scalar.

        Returns:
            The output (B, 1, D), and keys and values that are right up to this place.
        """
        query, key, value = self._heads(x)
        keys = keras.ops.slice_update(keys, (0, 0, place, 0), key)
        values = keras.ops.slice_update(values, (0, 0, place, 0), value)
        visible = tf.range(keys.shape[2]) <= place
        return self._rest(x, query, keys, values, visible), keys, values

    def _visible(self, x):
        """Whether a place (row) sees another one (column): itself and those before, (T, T)."""
        places = tf.range(tf.shape(x)[1])
        return places[:, None] >= places

    def _heads(self, x):
        """Queries, keys and values, (B, heads, T, d) each."""
        return split_heads(self.query_key_value(self.attention_norm(x)), self.num_heads)

    def _rest(self, x, query, key, value, visible, training=False):
        drop = functools.partial(self.drop, training=training)
        mixed = merge_heads(attend(query, key, value, visible, drop))
        x += drop(self.output_projection(mixed))
        wide = keras.activations.gelu(self.widen(self.dense_norm(x)), approximate=True)  # B T 4D
        return x + drop(self.narrow(wide))


@network
def language_model(num_tokens, sequence_length, num_heads, width, dropout, lora_ranks):
    """Tokens int32 (B, T) to logits of the next ones (B, T, V); `lora_ranks` has one a block."""
    ids = keras.Input((None,), dtype="int32")
    embedding = layers.ReversibleEmbedding(
        num_tokens, width, embeddings_initializer=normal(), reverse_dtype="float32"
    )
    x = Positions(sequence_length, normal())(embedding(ids))  # B T D
    x = Dropout(dropout)(x)
    for rank in lora_ranks:
        x = Block(num_heads, (2 * len(lora_ranks)) ** -0.5, dropout, rank)(x)
    x = layers.LayerNormalization(epsilon=EPSILON)(x)
    return keras.Model(ids, embedding(x, reverse=True))


@keras.saving.register_keras_serializable("keras_genai")
class GPT(TextModel):
    """The model of Radford et al. (2019), of characters or other tokens.

    Args:
        vocabulary: What its tokenizer has learned, or None: from the data.
        tokenizer: "characters", "bytes", "bpe" or "words".
        vocabulary_size: How many tokens "bpe" learns, at most.
        num_layers: L, the blocks.
        num_heads: Of each attention; divides `width`.
        width: D.
        sequence_length: T, tokens in a training window, and the most it can look back.
        dropout: Fraction that is dropped in training: of the embeddings, of what blocks add, and
            of the attention's shares.
        trainable_blocks: For fine-tuning: only so many of the last blocks are trained, and the
            normalisation after them. None trains all, or with `lora_rank` none.
        lora_rank: For fine-tuning, r: the attention of blocks that are not trained gets LoRA, see
            `keras_genai.layers.lora`. 0 for none.
        seed: Fixes weights, dropout and data order.
    """

    fixed_by_weights = (*TextModel.fixed_by_weights, "num_heads")

    def __init__(
        self,
        vocabulary=None,
        tokenizer="characters",
        vocabulary_size=2000,
        num_layers=4,
        num_heads=4,
        width=128,
        sequence_length=64,
        dropout=0.0,
        trainable_blocks=None,
        lora_rank=0,
        seed=None,
        **kwargs,
    ):
        super().__init__(vocabulary, tokenizer, vocabulary_size, sequence_length, seed, **kwargs)
        if width % num_heads:
            raise ValueError(
                "`width` is a multiple of `num_heads`. "
                f"Received: width={width}, num_heads={num_heads}"
            )
        self.num_layers, self.num_heads, self.width = num_layers, num_heads, width
        self.dropout = dropout
        lora.check_tuning(num_layers, width, trainable_blocks, lora_rank)
        self.trainable_blocks, self.lora_rank = trainable_blocks, lora_rank

    def build_networks(self):
        tuning = self.trainable_blocks, self.lora_rank
        ranks = lora.ranks(self.num_layers, *tuning)
        self.language_model = language_model(
            self.num_tokens, self.sequence_length, self.num_heads, self.width, self.dropout, ranks
        )
        self.num_frozen = lora.freeze(self.language_model, Block, *tuning)

    def call(self, ids, training=False):
        if (ids.shape[1] or 0) > self.sequence_length:
            raise ValueError(
                f"{self._title} sees at most {self.sequence_length} tokens at once; `generate` "
                f"writes more. Received: {ids.shape[1]} tokens"
            )
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
        """One token (N,), and the window before it, to logits (N, V) and the window after it.

        The window is how many of its places are taken, its tokens (N, T), and each block's keys and
        values (N, heads, T, d).
        """
        embedding, positions, _, *blocks, norm = self.language_model.layers[1:]
        places = states[1].shape[1]
        # Of a full window, so once or not at all. With `tf.cond` each step copied the caches.
        place, window, caches = tf.while_loop(
            lambda place, *_: place == places, lambda _, window, __: self._moved(window), states
        )
        window = keras.ops.slice_update(window, (0, place), ids[:, None])
        x, new_caches = positions.step(embedding(ids[:, None]), place), []  # N 1 D
        for block, cache in zip(blocks, caches, strict=True):
            x, *cache = block.step(x, *cache, place)
            new_caches.append(cache)
        logits = embedding(norm(x), reverse=True)[:, 0]  # N V
        return logits, [place + 1, window, new_caches]

    def _moved(self, window):
        """The window whose first half is the later half of a full one."""
        embedding, positions, _, *blocks, _ = self.language_model.layers[1:]
        places = window.shape[1]
        window = window[:, places - places // 2 :]
        x, caches = positions(embedding(window)), []
        for block in blocks:
            x, *cache = block.whole(x)
            caches.append([_with_places(part, places, axis=2) for part in cache])
        return [tf.constant(places // 2), _with_places(window, places, axis=1), caches]

    def initial_states(self, n, length):
        """An empty window for `n` texts of at most `length` tokens."""
        places, depth = min(length, self.sequence_length), self.width // self.num_heads
        empty = tf.zeros((n, self.num_heads, places, depth), self.language_model.compute_dtype)
        caches = [[empty, empty] for _ in range(self.num_layers)]
        return [tf.constant(0), tf.zeros((n, places), "int32"), caches]

    def read_prompts(self, ids, lengths):
        """Half a window that all prompts fill, the last there is, is read at once."""
        length, n = ids.shape
        _, window, caches = self.initial_states(n, length)
        places = window.shape[1]
        kept = places // 2
        count = tf.reduce_min(tf.where(lengths > 0, lengths, length)) - 1
        start = (count - kept) // (places - kept) * (places - kept)
        # In a full window of these tokens the first step finds them in the later half.
        rows = tf.maximum(start + kept - places + tf.range(places), 0)
        full = tf.transpose(tf.gather(ids, rows))
        few = count < kept
        place = tf.where(few, 0, places)
        return tf.where(few, 0, start + kept), [place, tf.where(few, window, full), caches]


def _with_places(x, places, axis):
    """A tensor with zeros for the places along an axis that it has not."""
    paddings = [[0, 0] for _ in x.shape]
    paddings[axis][1] = places - x.shape[axis]
    return tf.pad(x, paddings)


@register(
    modality="text",
    task="prompt",
    data="pydocs",
    minutes=3,
    batch_size=12,
    step_ms=40,
    paper="Radford et al., 2019",
    tiny={
        "num_layers": 1,
        "num_heads": 2,
        "width": 8,
        "sequence_length": 12,
        "dropout": 0.1,
        "decay_steps": 0,
    },
)
def gpt(
    vocabulary: str | None = None,
    tokenizer: Literal["characters", "bytes", "bpe", "words"] = "characters",
    vocabulary_size: int = 2000,
    num_layers: int = 4,
    num_heads: int = 4,
    width: int = 128,
    sequence_length: int = 64,
    dropout: float = 0.0,
    learning_rate: float = 7e-3,
    warmup_steps: int = 100,
    decay_steps: int = 4000,
    weight_decay: float = 0.1,
    trainable_blocks: int | None = None,
    lora_rank: int = 0,
    seed: int | None = None,
):
    """GPT-2's transformer: a text file in, more of it out."""
    model = GPT(
        vocabulary, tokenizer, vocabulary_size, num_layers, num_heads, width, sequence_length,
        dropout, trainable_blocks, lora_rank, seed,
    )  # fmt: skip
    optimizer = AdamW(
        warm_cosine(learning_rate, warmup_steps, decay_steps),
        beta_2=0.99,
        weight_decay=weight_decay,
        global_clipnorm=1.0,
    )
    model.compile(optimizer, jit_compile=jit_compile_default(on_cpu=True))
    return model
