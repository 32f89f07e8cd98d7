"""BERT: a transformer that sees both sides of a gap and says what stands there.

BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding. Devlin, Chang,
Lee, Toutanova, 2018, https://arxiv.org/abs/1810.04805. Of T tokens x, 15 % are chosen; of these
80 % become [MASK], 10 % a random token and 10 % stay (section 3.1, task 1), which gives x':

    h_0     = LN(W_e[x'_t] + W_p[t])                                  t is a place
    a_l     = LN(h_{l-1} + attention(h_{l-1}))                        normalised after the addition,
    h_l     = LN(a_l + W_2 gelu(W_1 a_l))                             and every place sees all
    p(x_t | x') = softmax(LN(gelu(W h_L)) W_e^T + b)                  W_e serves twice
    loss    = mean of -log p(x_t | x') over the chosen places

As in the authors' code all weights begin with a deviation of 0.02 and gelu is the approximation
by tanh. Unlike there, there is one segment and no prediction of the next sentence, no first token
[CLS], normalisations have the epsilon of `gpt.py`, the embeddings do not decay, and a batch, a
rate and a context are of a size for minutes. [MASK] is a token more, and so is padding, which no
place sees; neither is ever predicted.

Such a model fills gaps. To write, it fills windows that are all gap, in each step those places of
which it is most certain (`sampling.unmask`), although in training it has rarely seen so little:
for text from a prompt take `gpt`. It gives no probability of a text. What is measured is the
pseudo-perplexity of Salazar, Liang, Nguyen, Kirchhoff, 2020, https://arxiv.org/abs/1910.14659
(equations 1 and 2), each token masked once and all others of its window visible:

    PPPL = exp(-1/N sum_t log p(x_t | x without x_t))

Shapes: B batch, T time (the context), D width, V tokens, N texts.
"""

import functools
import numbers
from typing import Literal

import keras
import numpy as np
import tensorflow as tf
from keras import layers

from keras_genai import sampling
from keras_genai.layers import Dropout, Positions, attend, merge_heads, split_heads
from keras_genai.models.base import jit_compile_default, network
from keras_genai.models.text.gpt import EPSILON, Block, normal
from keras_genai.models.text_model import TextModel, uniforms_by_text
from keras_genai.optimizers import AdamW, warm_cosine
from keras_genai.tokenizers import MASK
from keras_genai.zoo.registry import register


@keras.saving.register_keras_serializable("keras_genai")
class PostNormBlock(Block):
    """The layers of `gpt.Block` in BERT's order, all places at once: (B, T, D) to (B, T, D)."""

    def call(self, x, present, training=False):
        """Of `x` (B, T, D); places that are not `present`, bool (B, T), are seen by none."""
        drop = functools.partial(self.drop, training=training)
        query, key, value = split_heads(self.query_key_value(x), self.num_heads)
        mixed = merge_heads(attend(query, key, value, present[:, None, None], drop))
        x = self.attention_norm(x + drop(self.output_projection(mixed)))
        wide = keras.activations.gelu(self.widen(x), approximate=True)  # B T 4D
        return self.dense_norm(x + drop(self.narrow(wide)))


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
def language_model(num_tokens, sequence_length, num_layers, num_heads, width, dropout):
    """Tokens int32 (B, T), V for [MASK] and V + 1 for padding, to logits (B, T, V)."""
    ids = keras.Input((None,), dtype="int32")
    present = keras.ops.not_equal(ids, num_tokens + 1)  # B T
    embedding = layers.ReversibleEmbedding(
        num_tokens + 2, width, embeddings_initializer=normal(), reverse_dtype="float32"
    )
    x = Positions(sequence_length, normal())(embedding(ids))  # B T D
    x = Dropout(dropout)(layers.LayerNormalization(epsilon=EPSILON)(x))
    for _ in range(num_layers):
        x = PostNormBlock(num_heads, dropout=dropout)(x, present)
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
class BERT(TextModel):
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
        seed: Fixes weights, masks, dropout and data order.
    """

    loss_names = ("accuracy",)
    options = sampling.Filling

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

    def build_networks(self):
        self.language_model = language_model(
            self.num_tokens, self.sequence_length, self.num_layers, self.num_heads,
            self.width, self.dropout,
        )  # fmt: skip

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

    # Filling and writing -------------------------------------------------------------------------

    def fill(self, texts, *, temperature=0.0, top_k=None, top_p=1.0, seed=None):
        """Fills every [MASK] of texts, one at a time, the most certain first.

        A mask is one token: several in a row stand for as many characters, or what the tokenizer
        has. Of "bpe" a token that begins a word has the blank before it, so that of a mask goes.

        Args:
            texts: A string or a list of strings, of at most `sequence_length` tokens each.
            temperature: 0 takes the likeliest tokens; 1 draws them by their probabilities.
            top_k: As in `generate`.
            top_p: As in `generate`.
            seed: Of what is drawn; what a text is filled with does not depend on the others.

        Returns:
            A string for a string, a list for a list.

        Raises:
            ValueError: If an option is out of its range, or a text has no [MASK], is too long or
                has unknown characters or words.
        """
        options = sampling.Filling(temperature, top_k, top_p, num_steps=self.sequence_length)
        self.need_networks()
        given = [*texts] if isinstance(texts, list | tuple) else [texts]
        ids = self._padded(self._encode_masked(given))  # N T
        count, n = len(ids), 1 << (len(ids) - 1).bit_length()
        ids = np.pad(ids, ((0, n - count), (0, 0)), constant_values=self.num_tokens + 1)
        chances = uniforms_by_text(self.seed_for(seed), self.sequence_length, count, n)
        rows = self._filler()(ids, chances.T, options.tensors(self.num_tokens)).numpy()
        filled = [self.codec.decode(row[row < self.num_tokens]) for row in rows[:count]]
        return filled if isinstance(texts, list | tuple) else filled[0]

    def candidates(self, text, k=5):
        """What may stand at each [MASK] of a text, the others masked too.

        Args:
            text: A string, as in `fill`.
            k: How many, at least 1.

        Returns:
            For each [MASK] a list of `k` pairs of a token's text and its probability, or of all
            tokens if there are no more, the likeliest first.

        Raises:
            ValueError: As `fill`, or if `k` is out of its range.
        """
        if not isinstance(k, numbers.Integral) or k < 1:
            raise ValueError(f"`k` must be a whole number from 1. Received: k={k!r}")
        self.need_networks()
        (ids,) = self._encode_masked([text])
        logits = self._text_logits(self._padded([ids])).numpy()[0, : len(ids)]  # T V
        p = tf.nn.softmax(logits[ids == self.num_tokens]).numpy()  # a row a mask
        count = min(k, len(self.codec.pieces))
        orders = np.argsort(-p, axis=1, kind="stable")[:, :count]
        return [
            [(self.codec.decode([i]), float(row[i])) for i in order]
            for row, order in zip(p, orders, strict=True)
        ]

    def generate(
        self,
        prompts=None,
        *,
        max_length=200,
        temperature=1.0,
        top_k=None,
        top_p=1.0,
        num_steps=32,
        stop=(),
        seed=None,
    ):
        """Continues prompts, a window of `sequence_length` tokens at a time.

        A window begins with the end of the text, at most half of it, and the rest is filled in
        `num_steps` steps, by a cosine schedule. Arguments, results and errors are those of
        `TextModel.generate`, but for:

        Args:
            prompts: As there.
            max_length: As there.
            temperature: As there.
            top_k: As there.
            top_p: As there.
            num_steps: More take longer and agree better; `sequence_length` writes one by one.
            stop: As there.
            seed: As there.
        """
        options = sampling.Filling(temperature, top_k, top_p, stop=stop, num_steps=num_steps)
        return self._written(prompts, max_length, options, seed)

    @property
    def overhang(self):
        """A window is written to its end."""
        return self.sequence_length

    def _writer(self, num_beams):
        def write(ids, lengths, last, chances, numbers):
            return sampling.write_windows(
                self.language_model, ids, lengths, last, chances, self.sequence_length,
                self.num_tokens, self.codec.end, **numbers,
            )  # fmt: skip

        return self._samplers.setdefault("text", tf.function(write, jit_compile=True))

    def _filler(self):
        def fill(ids, chances, numbers):
            masked = ids == self.num_tokens
            return sampling.unmask(self._text_logits, ids, masked, chances, **numbers)

        return self._samplers.setdefault("fill", tf.function(fill, jit_compile=True))

    def _text_logits(self, ids):
        """Logits (N, T, V) without the token that ends a text, which is no text."""
        logits, end = self.language_model(ids), self.codec.end
        if end is None:
            return logits
        return tf.where(tf.range(self.num_tokens) == end, -np.inf, logits)

    def _encode_masked(self, texts):
        for text in texts:
            if not isinstance(text, str) or MASK not in text:
                raise ValueError(f"A text to fill is a string with {MASK}. Received: {text!r:.80}")
        return [self.codec.encode_masked(text, self.num_tokens) for text in texts]

    def _padded(self, rows):
        """Rows of tokens as int32 (N, T)."""
        padded = np.full((len(rows), self.sequence_length), self.num_tokens + 1, "int32")
        for target, ids in zip(padded, rows, strict=True):
            if len(ids) > self.sequence_length:
                raise ValueError(
                    f"{self._title} sees at most {self.sequence_length} {self.codec.unit} at once: "
                    f"cut the text, or train with a larger sequence_length. Received: {len(ids)} "
                    f"{self.codec.unit}"
                )
            target[: len(ids)] = ids
        return padded

    # Classifying ---------------------------------------------------------------------------------

    def tokens(self, texts, cut=False):
        """Texts as a classifier takes them.

        Args:
            texts: A list of strings, none of them empty.
            cut: Whether of a longer text the first `sequence_length` tokens are taken.

        Returns:
            int32 (N, T), padded to `sequence_length`.

        Raises:
            ValueError: If a text is empty, too long or has unknown characters or words.
        """
        self.need_networks()
        if isinstance(texts, str) or not all(isinstance(text, str) and text for text in texts):
            raise ValueError(f"Texts are a list of non-empty strings. Received: {texts!r:.80}")
        rows = [self.codec.encode(text) for text in texts]
        return self._padded([row[: self.sequence_length] if cut else row for row in rows])

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
        present = keras.ops.not_equal(ids, self.num_tokens + 1)
        mean = layers.GlobalAveragePooling1D(dtype="float32")(trunk(ids), mask=present)  # N D
        start = keras.initializers.RandomNormal(stddev=0.02, seed=self.seed)
        head = layers.Dense(num_classes, kernel_initializer=start, dtype="float32", name="head")
        return keras.Model(ids, head(mean))

    # Measuring -----------------------------------------------------------------------------------

    def pseudo_nll(self, documents, count, seed=0):
        """-log p in nats of each token of windows of the text, all others of its window visible.

        Args:
            documents: The texts, between which are the tokens that end one, or line breaks.
            count: How many of the windows of `sequence_length` tokens, one after another, are
                taken, at random; all if there are no more. A text that is shorter is one window.
            seed: Of the choice.

        Returns:
            float32 (windows, T). The exponential of the mean is the pseudo-perplexity.
        """
        self.need_networks()
        ids = self.codec.encode_documents(documents)
        length = min(len(ids), self.sequence_length)
        windows = ids[: len(ids) // length * length].reshape(-1, length)
        chosen = np.random.default_rng(seed).permutation(len(windows))[:count]
        return np.stack([self._pseudo_nll(windows[i]).numpy() for i in np.sort(chosen)])

    def _pseudo_nll(self, ids):
        """Of a window int32 (T,) the nats of each token (T,): T rows, each with another mask."""

        def nll(ids):
            masked = tf.eye(tf.shape(ids)[0], dtype="bool")  # T T
            logits = self.language_model(tf.where(masked, self.num_tokens, ids))  # T T V
            at_mask = tf.boolean_mask(logits, masked)  # T V
            return tf.nn.sparse_softmax_cross_entropy_with_logits(labels=ids, logits=at_mask)

        signature = [tf.TensorSpec((None,), "int32")]
        return self._samplers.setdefault("pseudo_nll", tf.function(nll, signature))(ids)

    def text_nll(self, documents):
        """Refused: a model that sees both sides gives no probability of a text."""
        raise ValueError(
            f"{self._title} gives the probability of a token between others, not of a text: use "
            f"`pseudo_nll`. Received: {len(documents)} documents"
        )


@register(
    modality="text",
    task="prompt",
    data="pydocs",
    minutes=10,
    batch_size=32,
    step_ms=100,
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
    warmup_steps: int = 200,
    decay_steps: int = 5000,
    weight_decay: float = 0.1,
    seed: int | None = None,
):
    """BERT: a text file in, gaps in texts filled, classifiers to fine-tune."""
    model = BERT(
        vocabulary, tokenizer, vocabulary_size, num_layers, num_heads, width, sequence_length,
        mask_rate, dropout, seed,
    )  # fmt: skip
    optimizer = AdamW(
        warm_cosine(learning_rate, warmup_steps, decay_steps),
        beta_2=0.99,
        weight_decay=weight_decay,
        global_clipnorm=1.0,
    )
    model.compile(optimizer, jit_compile=jit_compile_default(on_cpu=True))
    return model
