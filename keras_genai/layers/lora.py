"""LoRA: a dense layer is fine-tuned by a product of two thin matrices. And what is frozen.

    h = W x + (alpha / r) B A x                                            section 4.1, equation 3

LoRA: Low-Rank Adaptation of Large Language Models. Hu, Shen, Wallis, Allen-Zhu, Li, Wang, Wang,
Chen, 2021, https://arxiv.org/abs/2106.09685. W is frozen. A begins with normal numbers and B with
zeros, so that training begins at exactly what W alone computes. Inputs are rows here: the kernel is
W^T, `lora_a` A^T (inputs, r) and `lora_b` B^T (r, outputs).

The paper adapts W_q and W_v of each attention, here W_k and the output's W_o are adapted too.
Queries, keys and values come from one dense layer, so that the three share A and the rank.

A model that can be fine-tuned has the arguments `TUNING`. It makes the dense layers of its
attention by `dense`, of the ranks that `ranks` says, and once its network is made calls `freeze`.
"""

import math

import keras
from keras import layers, ops

TUNING = ("trainable_blocks", "lora_rank")
NAMES = ("lora_a", "lora_b")
# That of the paper's GPT-2 is 32, at rank 4 (table 11). With Adam it acts like the learning rate.
ALPHA = 32.0


@keras.saving.register_keras_serializable("keras_genai")
class LoRADense(layers.Dense):
    """`keras.layers.Dense` with `lora_a` and `lora_b` beside its kernel.

    Args:
        units: Of the output.
        rank: r.
        alpha: alpha; the same for all ranks, so that a learning rate suits them all.
        **kwargs: As in `keras.layers.Dense`.

    Raises:
        ValueError: If the rank is below 1.
    """

    # Keras's own `enable_lora` would not do: `Dense.save_own_variables` (3.15) writes the sum as
    # kernel, and `load_own_variables` sets both matrices to 0, whose gradients then are 0 for ever.

    def __init__(self, units, rank, alpha=ALPHA, **kwargs):
        super().__init__(units, **kwargs)
        if rank < 1:
            raise ValueError(f"`rank` is at least 1; `Dense` has no LoRA. Received: rank={rank}")
        self.rank, self.alpha = rank, alpha

    def build(self, input_shape):
        super().build(input_shape)
        # A x is as large as x.
        normal = keras.initializers.VarianceScaling(distribution="untruncated_normal")
        self.lora_a = self.add_weight(
            name="lora_a", shape=(input_shape[-1], self.rank), initializer=normal
        )
        self.lora_b = self.add_weight(
            name="lora_b", shape=(self.rank, self.units), initializer="zeros"
        )

    def call(self, inputs, training=None):
        low = ops.matmul(ops.matmul(inputs, self.lora_a), self.lora_b)
        h = ops.matmul(inputs, self.kernel) + self.alpha / self.rank * low
        return self.activation(h if self.bias is None else h + self.bias)

    def merged_kernel(self):
        """W^T + alpha / r A^T B^T, a float32 array: the kernel of a `Dense` that does the same."""
        a, b, kernel = (ops.convert_to_numpy(v) for v in (self.lora_a, self.lora_b, self.kernel))
        return kernel + self.alpha / self.rank * (a @ b)

    def save_own_variables(self, store):
        """Beside those of `Dense`, both matrices."""
        super().save_own_variables(store)
        store["lora_a"], store["lora_b"] = self.lora_a, self.lora_b

    def load_own_variables(self, store):
        """What `save_own_variables` wrote."""
        super().load_own_variables(store)
        self.lora_a.assign(store["lora_a"])
        self.lora_b.assign(store["lora_b"])

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "rank": self.rank, "alpha": self.alpha}


def dense(units, lora_rank, **options):
    """A `Dense`, with LoRA where `lora_rank` is not 0."""
    return LoRADense(units, lora_rank, **options) if lora_rank else layers.Dense(units, **options)


def check_tuning(num_layers, width, trainable_blocks, lora_rank):
    """Raises ValueError where a transformer of this size cannot be fine-tuned like this."""
    least = 0 if lora_rank else 1
    if trainable_blocks is not None and not least <= trainable_blocks <= num_layers:
        raise ValueError(
            f"`trainable_blocks` is how many of the {num_layers} blocks are trained, the last "
            "ones: at least 1, or 0 with a lora_rank; None trains all. "
            f"Received: trainable_blocks={trainable_blocks}, lora_rank={lora_rank}"
        )
    if not 0 <= lora_rank <= width:
        raise ValueError(
            f"`lora_rank` is at most `width`, which no kernel's rank exceeds, and 0 for no LoRA. "
            f"Received: lora_rank={lora_rank}, width={width}"
        )


def ranks(num_layers, trainable_blocks, lora_rank):
    """The rank of each block's LoRA, 0 for none: the last ones, which are trained, need none."""
    trained = trainable_blocks or 0
    return [lora_rank] * (num_layers - trained) + [0] * trained


def freeze(network, block, trainable_blocks, lora_rank):
    """Freezes what fine-tuning leaves as it is; where there is none, nothing.

    To be called once, before there is an optimizer, which then keeps nothing for frozen weights.

    Args:
        network: Layers one after another.
        block: The class of its blocks.
        trainable_blocks: How many of the last blocks are trained, with all layers after them.
        lora_rank: 0 for no LoRA.

    Returns:
        How many numbers are frozen.
    """
    if trainable_blocks is None and not lora_rank:
        return 0
    blocks = [i for i, layer in enumerate(network.layers) if isinstance(layer, block)]
    kept = network.layers[blocks[-trainable_blocks] :] if trainable_blocks else ()
    trained = {id(v) for layer in kept for v in layer.weights}
    frozen = [v for v in network.trainable_weights if id(v) not in trained and v.name not in NAMES]
    for variable in frozen:
        variable.trainable = False
    return sum(math.prod(variable.shape) for variable in frozen)


def take_over(network, other):
    """Gives a network the weights of one that may have LoRA in other layers, or of another rank.

    Where it does, its LoRA is folded into the kernels, and that of `network` stays as it began.

    Raises:
        ValueError: If they are of other sizes.
    """
    variables, values = network.weights, [ops.convert_to_numpy(v) for v in other.weights]
    if [v.shape for v in variables] != [v.shape for v in other.weights]:
        lora_layers = [x for x in other._flatten_layers() if isinstance(x, LoRADense)]
        merged = {id(layer.kernel): layer.merged_kernel() for layer in lora_layers}
        variables = [v for v in variables if v.name not in NAMES]
        values = [
            merged.get(id(v), value)
            for v, value in zip(other.weights, values, strict=True)
            if v.name not in NAMES
        ]
    if [tuple(v.shape) for v in variables] != [value.shape for value in values]:
        raise ValueError(
            f"Weights can be taken over by a network of the same sizes only: `{network.name}` has "
            f"{len(variables)} arrays of {network.count_params():,} numbers. "
            f"Received: {len(values)} of {other.count_params():,}"
        )
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
