"""Attention over whole sequences and, for sampling, place by place; positions; a causal block.

    attention(Q, K, V) = softmax(Q K^T / sqrt(d)) V                                      equation 1

Attention Is All You Need. Vaswani et al., 2017, https://arxiv.org/abs/1706.03762. `gpt.py` and
`bert.py` make blocks of their own of it. In `CausalBlock` a place sees itself and what comes before
it. Normalisation comes before each of its two parts (Xiong et al., 2020,
https://arxiv.org/abs/2002.04745): it then trains without a warm-up.

Shapes: B batch, T time (places), D width, N heads, d = D / N, S numbers a place, K
values.
"""

import keras
import tensorflow as tf
from keras import layers


@keras.saving.register_keras_serializable("keras_genai")
class SummedEmbedding(layers.Embedding):
    """`keras.layers.Embedding` of several numbers a place, added up: (B, T, S) to (B, T, D)."""

    def call(self, ids):
        return tf.reduce_sum(super().call(ids), axis=-2)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.output_dim)


@keras.saving.register_keras_serializable("keras_genai")
class Positions(layers.Layer):
    """Adds a learnt vector for each place: (B, T, D) to (B, T, D).

    Args:
        length: The most places there can be, or None: as many as the input has.
        initializer: Of the vectors.
    """

    def __init__(self, length=None, initializer="random_normal", **kwargs):
        super().__init__(**kwargs)
        self.length, self.initializer = length, keras.initializers.get(initializer)

    def build(self, input_shape):
        self.vectors = self.add_weight(
            name="vectors",
            shape=(self.length or input_shape[1], input_shape[2]),
            initializer=self.initializer,
        )

    def call(self, x):
        return x + self.vectors[: tf.shape(x)[1]]

    def step(self, x, t):
        """The same for the one place t, (B, 1, D)."""
        return x + tf.gather(tf.cast(self.vectors, x.dtype), [t])

    def get_config(self):
        """The constructor's arguments."""
        initializer = keras.initializers.serialize(self.initializer)
        return {**super().get_config(), "length": self.length, "initializer": initializer}


@keras.saving.register_keras_serializable("keras_genai")
class Sinusoids(keras.initializers.Initializer):
    """Vectors of places that begin as waves: those at one distance have one inner product.

    vectors[t, 2 i] = sin(t / 10000^(2 i / D)), vectors[t, 2 i + 1] its cosine: Vaswani et al.,
    section 3.5, scaled. The place before or after is then one matrix away for all places at once,
    which attention otherwise has to learn of each.

    Args:
        stddev: The root of the mean square.
    """

    def __init__(self, stddev=0.02):
        self.stddev = stddev

    def __call__(self, shape, dtype=None):
        length, width = shape
        number = tf.range(width)
        rate = 10_000.0 ** -(tf.cast(number - number % 2, "float32") / width)
        angles = tf.range(length, dtype="float32")[:, None] * rate  # T D
        waves = tf.where(number % 2 == 0, tf.sin(angles), tf.cos(angles))
        return tf.cast(2**0.5 * self.stddev * waves, dtype or "float32")

    def get_config(self):
        """The constructor's arguments."""
        return {"stddev": self.stddev}


def attention_shares(query, key, visible):
    """The softmax of equation 1 for each head, the attention weights of each query.

    Args:
        query: (B, N, T, d).
        key: (B, N, T', d).
        visible: bool (T, T'), or what broadcasts to it: which keys a query sees, at least one.

    Returns:
        float32 (B, N, T, T'); rows add up to 1, and what is not visible has exactly 0.
    """
    query *= query.shape[-1] ** -0.5  # before the products, which float16 may not hold
    # Of one text and one place a sum of products, which XLA fuses, is faster than `matmul`.
    if (query.shape[0], query.shape[2]) == (1, 1):
        scores = tf.reduce_sum(query * key, 3)[:, :, None]
    else:
        scores = tf.matmul(query, key, transpose_b=True)
    return tf.nn.softmax(tf.where(visible, tf.cast(scores, "float32"), -1e9))


def attend(query, key, value, visible, drop=tf.identity):
    """Equation 1 for each head.

    Args:
        query: As for `attention_shares`.
        key: As there.
        value: (B, N, T', d).
        visible: As there.
        drop: What the shares of the keys go through in training.

    Returns:
        (B, N, T, d).
    """
    shares = tf.cast(drop(attention_shares(query, key, visible)), value.dtype)  # B N T T'
    return tf.matmul(shares, value)


def split_heads(parts, num_heads):
    """Queries, keys and values, (B, N, T, d) each, from what one dense layer made: (B, T, 3D)."""
    batch_size, length = tf.unstack(tf.shape(parts)[:2])
    depth = parts.shape[-1] // (3 * num_heads)
    parts = tf.reshape(parts, (batch_size, length, 3, num_heads, depth))
    return tf.unstack(tf.transpose(parts, (2, 0, 3, 1, 4)))


def merge_heads(mixed):
    """What `attend` gives, (B, N, T, d), head beside head: (B, T, D)."""
    batch_size, _, length, _ = tf.unstack(tf.shape(mixed))
    _, num_heads, _, depth = mixed.shape
    return tf.reshape(tf.transpose(mixed, (0, 2, 1, 3)), (batch_size, length, num_heads * depth))


@keras.saving.register_keras_serializable("keras_genai")
class CausalBlock(layers.Layer):
    """Attention and two dense layers, each added to its input: (B, T, D) to (B, T, D).

    Args:
        num_heads: N, which divides D.
    """

    def __init__(self, num_heads, **kwargs):
        super().__init__(**kwargs)
        self.num_heads = num_heads

    def build(self, input_shape):
        width = input_shape[-1]
        options = {"dtype": self.dtype_policy}
        self.attention_norm = layers.LayerNormalization(**options)
        self.query_key_value = layers.Dense(3 * width, use_bias=False, **options)
        self.output_projection = layers.Dense(width, **options)
        self.dense_norm = layers.LayerNormalization(**options)
        self.widen = layers.Dense(4 * width, activation="relu", **options)
        self.narrow = layers.Dense(width, **options)
        for layer in (self.attention_norm, self.query_key_value, self.output_projection):
            layer.build((None, None, width))
        for layer in (self.dense_norm, self.widen):
            layer.build((None, None, width))
        self.narrow.build((None, None, 4 * width))

    def call(self, x):
        query, key, value = self._heads(x)
        places = tf.range(x.shape[1])
        return self._rest(x, query, key, value, places[:, None] >= places)

    def step(self, x, keys, values, t):
        """The same for the one place t, (B, 1, D).

        Args:
            x: (B, 1, D).
            keys: (B, N, T, d), right before place t.
            values: As `keys`.
            t: An int32 scalar.

        Returns:
            The block's output (B, 1, D), and keys and values that are right up to place t.
        """
        query, key, value = self._heads(x)
        places = tf.range(keys.shape[2])
        here = (places == t)[:, None]  # T 1
        keys, values = tf.where(here, key, keys), tf.where(here, value, values)
        return self._rest(x, query, keys, values, places <= t), keys, values

    def _heads(self, x):
        """Queries, keys and values, (B, N, T, d) each."""
        return split_heads(self.query_key_value(self.attention_norm(x)), self.num_heads)

    def _rest(self, x, query, key, value, visible):
        """What follows from queries (B, N, T, d) that see the keys where `visible` (T, T')."""
        x += self.output_projection(merge_heads(attend(query, key, value, visible)))
        return x + self.narrow(self.widen(self.dense_norm(x)))

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "num_heads": self.num_heads}


def draw_sequences(network, n, inputs, seed):
    """Draws sequences from a causal transformer, place by place in one loop.

    Args:
        network: Embedding, `Positions`, blocks, normalisation, and a dense layer to logits: from
            inputs (B, T, S) to (B, T, K).
        n: How many.
        inputs: From int32 values (n, T) to the inputs (n, T, S); those of a place must depend on
            earlier values alone.
        seed: A pair of ints.

    Returns:
        int32 (n, T).
    """
    embedding, positions, *blocks, norm, head = network.layers[1:]
    length, width = embedding.output.shape[1:]

    def body(t, drawn, caches):
        here = tf.gather(inputs(drawn), [t], axis=1)  # n 1 S
        x, new_caches = positions.step(embedding(here), t), []  # n 1 D
        for block, (keys, values) in zip(blocks, caches, strict=True):
            x, keys, values = block.step(x, keys, values, t)
            new_caches.append((keys, values))
        logits = head(norm(x))[:, 0]  # n K
        uniform = tf.random.stateless_uniform(logits.shape, (seed[0], seed[1] + t), minval=1e-9)
        # argmax(logits + Gumbel noise) is a draw from the softmax.
        value = tf.argmax(logits - tf.math.log(-tf.math.log(uniform)), 1, "int32")[:, None]
        return t + 1, tf.where(tf.range(length) == t, value, drawn), new_caches

    shapes = [(n, block.num_heads, length, width // block.num_heads) for block in blocks]
    caches = [(tf.zeros(shape, embedding.compute_dtype),) * 2 for shape in shapes]
    state = (0, tf.zeros((n, length), "int32"), caches)
    return tf.while_loop(lambda t, *_: t < length, body, state)[1]
