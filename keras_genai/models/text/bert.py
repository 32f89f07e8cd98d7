"""BERT: a transformer that sees both sides of a gap and says what stands there.

BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding. Devlin, Chang,
Lee, Toutanova, 2018, https://arxiv.org/abs/1810.04805. Of T tokens x, 15 % are chosen; of these
80 % become [MASK], 10 % a random token and 10 % stay (section 3.1, task 1), which gives x':

    h_0     = LN(W_e[x'_t] + W_p[t])                                  t is a place
    a_l     = LN(h_{l-1} + attention(h_{l-1}))                        normalised after the addition,
    h_l     = LN(a_l + W_2 gelu(W_1 a_l))                             and every place sees all
    p(x_t | x') = softmax(LN(gelu(W h_L)) W_e^T + b)                  W_e serves twice
    loss    = mean of -log p(x_t | x') over the chosen places

As in the authors' code weights begin with a deviation of 0.02 and gelu is the approximation by
tanh. Unlike there, W_p begins as sinusoids of that size: from a random start a place takes far
longer to find its neighbours. There is one segment, no prediction of the next sentence and no
first token [CLS]; normalisations have the epsilon of `gpt.py`, and embeddings do not decay.
[MASK] is a token more, and so is padding, which no place sees; neither is ever predicted.

Such a model fills gaps. To write, it fills windows that are all gap, in each step those places of
which it is most certain (`sampling.unmask`), although in training it has rarely seen so little:
for text from a prompt take `gpt`. It gives no probability of a text. What is measured is the
pseudo-perplexity of Salazar, Liang, Nguyen, Kirchhoff, 2020, https://arxiv.org/abs/1910.14659,
for which each token is masked once and all others of its window are visible:

    PPPL = exp(-1/N sum_t log p(x_t | x without x_t))

Shapes: B batch, T time (the context), D width, V tokens, N texts.
"""

import functools
from typing import Literal

import keras
import tensorflow as tf
from keras import layers

from keras_genai.layers import (
    Dropout,
    Positions,
    Sinusoids,
    attend,
    attention_shares,
    lora,
    merge_heads,
    split_heads,
)
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.masked_text_model import MaskedTextModel
from keras_genai.models.text.gpt import EPSILON, BlockLayers, normal
from keras_genai.optimizers import AdamW, warm_cosine
from keras_genai.zoo.registry import register


@keras.saving.register_keras_serializable("keras_genai")
class PostNormBlock(BlockLayers):
    """Attention and two dense layers, normalised after each addition: (B, T, D) to (B, T, D)."""

    def call(self, x, present, training=False):
        """Of `x` (B, T, D); places that are not `present`, bool (B, T), are seen by none."""
        drop = functools.partial(self.drop, training=training)
        query, key, value = split_heads(self.query_key_value(x), self.num_heads)
        mixed = merge_heads(attend(query, key, value, present[:, None, None], drop))
        x = self.attention_norm(x + drop(self.output_projection(mixed)))
        wide = keras.activations.gelu(self.widen(x), approximate=True)  # B T 4D
        return self.dense_norm(x + drop(self.narrow(wide)))

    def shares(self, x, present):
        """What each place takes of each, in each head, to look at: (B, heads, T, T)."""
        query, key, _ = split_heads(self.query_key_value(x), self.num_heads)
        return attention_shares(query, key, present[:, None, None])


@keras.saving.register_keras_serializable("keras_genai")
class TokenLogits(layers.Layer):
    """Adds a bias a token, and leaves out what is never predicted: (B, T, V + 2) to (B, T, V)."""

    def __init__(self, num_tokens, **kwargs):
        super().__init__(**kwargs)
        self.num_tokens = num_tokens

    def build(self, input_shape):
        self.bias = self.add_weight(name="bias", shape=(self.num_tokens,), initializer="zeros")

    def call(self, logits):
        return logits[..., : self.num_tokens] + self.bias

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_tokens": self.num_tokens}


@network
def language_model(num_tokens, sequence_length, num_heads, width, dropout, lora_ranks):
    """Tokens int32 (B, T), V for [MASK] and V + 1 for padding, to logits (B, T, V).

    `lora_ranks` has the rank of each block's LoRA, 0 for none.
    """
    ids = keras.Input((None,), dtype="int32")
    present = keras.ops.not_equal(ids, num_tokens + 1)  # B T
    embedding = layers.ReversibleEmbedding(
        num_tokens + 2, width, embeddings_initializer=normal(), reverse_dtype="float32"
    )
    x = Positions(sequence_length, Sinusoids(0.02))(embedding(ids))  # B T D
    x = Dropout(dropout)(layers.LayerNormalization(epsilon=EPSILON)(x))
    for rank in lora_ranks:
        x = PostNormBlock(num_heads, dropout=dropout, lora_rank=rank)(x, present)
    x = layers.Dense(width, kernel_initializer=normal(), name="transform")(x)
    x = layers.LayerNormalization(epsilon=EPSILON)(keras.activations.gelu(x, approximate=True))
    logits = embedding(x, reverse=True)  # B T V+2
    return keras.Model(ids, TokenLogits(num_tokens, dtype="float32")(logits))


def corrupt(ids, chances, num_tokens, mask_rate):
    """Chooses places, and masks most of them.

    Args:
        ids: int32 (B, T).
        chances: Uniform numbers in [0, 1), (B, T, 3).
        num_tokens: V, also the id of [MASK].
        mask_rate: Which share of the places to choose, rounded to whole places, one at least.

    Returns:
        What the network sees, int32 (B, T), and which places are chosen, bool (B, T).
    """
    count = max(1, round(mask_rate * ids.shape[1]))
    lot, kind, token = tf.unstack(chances, axis=2)  # B T each
    chosen = lot >= tf.math.top_k(lot, count).values[:, -1:]
    random = tf.cast(token * num_tokens, "int32")
    shown = tf.where(kind < 0.8, num_tokens, tf.where(kind < 0.9, random, ids))
    return tf.where(chosen, shown, ids), chosen


def mean_over(chosen, values):
    """The mean of `values` (B, T) over the places that are `chosen`, bool (B, T)."""
    chosen = tf.cast(chosen, "float32")
    return tf.reduce_sum(chosen * values) / tf.reduce_sum(chosen)


@keras.saving.register_keras_serializable("keras_genai")
class BERT(MaskedTextModel):
    """The masked language model of Devlin et al. (2018), of characters or other tokens.

    Args:
        vocabulary: What its tokenizer has learned, or None: from the data.
        tokenizer: "characters", "bytes", "bpe" or "words".
        vocabulary_size: How many tokens "bpe" learns, at most.
        num_layers: L, the blocks.
        num_heads: Of each attention; divides `width`.
        width: D.
        sequence_length: T, tokens in a training window, and the most it sees at once.
        mask_rate: Share of the tokens that are to be predicted in training.
        dropout: Fraction that is dropped in training: of the embeddings, of what blocks add, and
            of the attention's shares.
        trainable_blocks: For fine-tuning: only so many of the last blocks are trained, and the
            head after them, but not W_e, which is the embedding too. None trains all, or with
            `lora_rank` none.
        lora_rank: For fine-tuning, r, as of `gpt`.
        seed: Fixes weights, masks, dropout and data order.
    """

    loss_names = ("accuracy",)
    fixed_by_weights = (*MaskedTextModel.fixed_by_weights, "num_heads")

    def __init__(
        self,
        vocabulary=None,
        tokenizer="characters",
        vocabulary_size=2000,
        num_layers=4,
        num_heads=4,
        width=128,
        sequence_length=64,
        mask_rate=0.15,
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
        if not 0 < mask_rate <= 1:
            raise ValueError(f"`mask_rate` is above 0, at most 1. Received: mask_rate={mask_rate}")
        self.num_layers, self.num_heads, self.width = num_layers, num_heads, width
        self.mask_rate, self.dropout = mask_rate, dropout
        lora.check_tuning(num_layers, width, trainable_blocks, lora_rank)
        self.trainable_blocks, self.lora_rank = trainable_blocks, lora_rank

    def build_networks(self):
        tuning = self.trainable_blocks, self.lora_rank
        ranks = lora.ranks(self.num_layers, *tuning)
        self.language_model = language_model(
            self.num_tokens, self.sequence_length, self.num_heads, self.width, self.dropout, ranks
        )
        self.num_frozen = lora.freeze(self.language_model, PostNormBlock, *tuning)

    def call(self, ids, training=False):
        if (ids.shape[1] or 0) > self.sequence_length:
            raise ValueError(
                f"{self._title} sees at most {self.sequence_length} tokens at once. "
                f"Received: {ids.shape[1]} tokens"
            )
        return self.language_model(ids, training=training)

    def train_step(self, data):
        ids = data["text"][:, :-1]  # B T
        chances = self.uniform((tf.shape(ids)[0], self.sequence_length, 3))
        shown, chosen = corrupt(ids, chances, self.num_tokens, self.mask_rate)
        with tf.GradientTape() as tape:
            logits = self.language_model(shown, training=True)  # B T V
            loss, accuracy = self.losses_at(chosen, ids, logits)
        self.minimize(tape, loss, self.language_model)
        return self.log({"accuracy": accuracy}, total=loss)

    def test_step(self, data):
        ids = data["text"][:, :-1]  # B T
        batch_size = tf.shape(ids)[0]
        chances = self.fixed_uniform((batch_size, self.sequence_length, 3))
        shown, chosen = corrupt(ids, chances, self.num_tokens, self.mask_rate)
        loss, accuracy = self.losses_at(chosen, ids, self.language_model(shown))
        return self.log({"accuracy": accuracy}, total=loss, count=batch_size)

    def losses_at(self, chosen, ids, logits):
        """The loss, and how many of the chosen tokens are the likeliest ones."""
        nll = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=logits)  # B T
        right = tf.cast(tf.argmax(logits, 2, "int32") == ids, "float32")
        return mean_over(chosen, nll), mean_over(chosen, right)

    def classifier(self, num_classes):
        """A network of its own head and this model's layers below, to be compiled and fitted.

        It takes what `tokens` returns. Its head sees the mean over the places of a text: without
        [CLS] and the task that trains it, no single place has learned to stand for the whole.

        Args:
            num_classes: How many logits there are.

        Returns:
            A `keras.Model` from int32 (N, T) to logits (N, num_classes). Training it changes the
            layers of this model, unless their `trainable` is False. It is saved alone.
        """
        self.need_networks()
        network = self.language_model
        trunk = keras.Model(network.input, network.get_layer("transform").input, name="trunk")
        ids = keras.Input((None,), dtype="int32")
        present = keras.ops.not_equal(ids, self.padding)
        mean = layers.GlobalAveragePooling1D(dtype="float32")(trunk(ids), mask=present)  # N D
        start = keras.initializers.RandomNormal(stddev=0.02, seed=self.seed)
        head = layers.Dense(num_classes, kernel_initializer=start, dtype="float32", name="head")
        return keras.Model(ids, head(mean))


@register(
    modality="text",
    task="prompt",
    data="pydocs",
    minutes=10,
    batch_size=16,
    step_ms=60,
    paper="arXiv:1810.04805",
    tiny={
        "num_layers": 1,
        "num_heads": 2,
        "width": 8,
        "sequence_length": 12,
        "dropout": 0.1,
        "decay_steps": 0,
    },
)
def bert(
    vocabulary: str | None = None,
    tokenizer: Literal["characters", "bytes", "bpe", "words"] = "characters",
    vocabulary_size: int = 2000,
    num_layers: int = 4,
    num_heads: int = 4,
    width: int = 128,
    sequence_length: int = 64,
    mask_rate: float = 0.15,
    dropout: float = 0.0,
    learning_rate: float = 1e-3,
    warmup_steps: int = 100,
    decay_steps: int = 8000,
    weight_decay: float = 0.1,
    trainable_blocks: int | None = None,
    lora_rank: int = 0,
    seed: int | None = None,
):
    """BERT: a text file in, gaps in texts filled, classifiers to fine-tune.

    After 700 steps of 12 windows of Shakespeare the loss on held-out text was 2.83 nats; with a
    random start of the positions, as the authors have it, 3.12, with normalisation first, as in
    `gpt`, 2.87, at three times the rate 3.15.
    """
    model = BERT(
        vocabulary, tokenizer, vocabulary_size, num_layers, num_heads, width, sequence_length,
        mask_rate, dropout, trainable_blocks, lora_rank, seed,
    )  # fmt: skip
    optimizer = AdamW(
        warm_cosine(learning_rate, warmup_steps, decay_steps),
        beta_2=0.99,
        weight_decay=weight_decay,
        global_clipnorm=1.0,
    )
    model.compile(optimizer, jit_compile=jit_compile_default(on_cpu=True))
    return model
