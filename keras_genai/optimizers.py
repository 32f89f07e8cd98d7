"""Adam and AdamW by TensorFlow's fused kernel, at a constant or a falling rate."""

import math

import keras
import tensorflow as tf


@keras.saving.register_keras_serializable("keras_genai")
class Adam(keras.optimizers.Adam):
    """`keras.optimizers.Adam` that updates each variable in one pass over memory.

    Adam: A Method for Stochastic Optimization. Kingma, Ba, 2014, https://arxiv.org/abs/1412.6980,
    in the form of the remark that ends its section 2. Keras computes it from a dozen elementwise
    ops, which on a CPU take up to a tenth of a DCGAN's training step. Arguments, variables and
    results are those of the Keras optimizer (results to float rounding).
    """

    def update_step(self, gradient, variable, learning_rate):
        if self.amsgrad or variable.dtype != tf.float32 or not isinstance(gradient, tf.Tensor):
            super().update_step(gradient, variable, learning_rate)
            return
        step = tf.cast(self.iterations + 1, "float32")
        index = self._get_variable_index(variable)
        tf.raw_ops.ResourceApplyAdam(
            var=variable.handle,
            m=self._momentums[index].value.handle,
            v=self._velocities[index].value.handle,
            beta1_power=tf.pow(self.beta_1, step),
            beta2_power=tf.pow(self.beta_2, step),
            lr=tf.cast(learning_rate, "float32"),
            beta1=self.beta_1,
            beta2=self.beta_2,
            epsilon=self.epsilon,
            grad=gradient,
        )

    def load_own_variables(self, store):
        """As in the base; one that was saved before it was built has nothing to load."""
        if len(store.keys()) > 2:  # the count of steps and the rate
            super().load_own_variables(store)


@keras.saving.register_keras_serializable("keras_genai")
class StoppingAdam(Adam):
    """`Adam` that stops: its steps shrink to nothing along half a cosine.

    Unlike with the schedule of `adam`, callbacks can change the rate that they shrink from.

    Args:
        learning_rate: At the first step.
        stop_after: The steps after which nothing moves; 0 for never.
        **kwargs: As in `keras.optimizers.Adam`.
    """

    def __init__(self, learning_rate=0.001, stop_after=0, **kwargs):
        super().__init__(learning_rate, **kwargs)
        self.stop_after = stop_after

    def update_step(self, gradient, variable, learning_rate):
        """As in the base, by what is left of the rate."""
        if self.stop_after:
            done = tf.cast(self.iterations, "float32") / self.stop_after
            learning_rate *= tf.where(done < 1.0, 0.5 + 0.5 * tf.cos(math.pi * done), 0.0)
        super().update_step(gradient, variable, learning_rate)

    def get_config(self):
        """The constructor's arguments."""
        return {**super().get_config(), "stop_after": self.stop_after}


@keras.saving.register_keras_serializable("keras_genai")
class AdamW(Adam):
    """`Adam` that also shrinks the kernels, and no other variables, towards 0.

    Decoupled Weight Decay Regularization. Loshchilov, Hutter, 2017,
    https://arxiv.org/abs/1711.05101: a kernel W becomes (1 - learning_rate weight_decay) W before
    Adam's step. That is algorithm 2 with eta_t alpha as learning_rate, and lambda / alpha as
    weight_decay: a higher rate also shrinks more. Biases, the normalisations' scales and embeddings
    stay as they are: their size is no measure of how much a network remembers. LoRA's two matrices
    shrink as in Hu et al., 2021, table 11, which draws the model to where fine-tuning began. The
    choice follows from names, so that a loaded optimizer makes it too.
    """

    def _use_weight_decay(self, variable):
        # TensorFlow's variable: ".../kernel:0", on a second replica ".../kernel/replica_1:0".
        parts = variable.name.partition(":")[0].split("/")
        return not {"kernel", "lora_a", "lora_b"}.isdisjoint(parts)


def warm_cosine(learning_rate, warmup_steps, decay_steps):
    """A rate that rises, then falls along half a cosine to a tenth, and stays there.

    In step k (0, 1, ...) of the warm-up it is learning_rate (k + 1) / (warmup_steps + 1); then that
    of Loshchilov, Hutter, 2016, https://arxiv.org/abs/1608.03983, equation 5.

    Args:
        learning_rate: The highest.
        warmup_steps: Steps until then.
        decay_steps: Steps until the lowest, those of the warm-up included; 0 for a constant rate,
            which callbacks can change.

    Raises:
        ValueError: If the warm-up takes longer than all.
    """
    if not decay_steps:
        return learning_rate
    if warmup_steps >= decay_steps:
        raise ValueError(
            "`decay_steps` counts the warm-up too and must be larger than `warmup_steps`. "
            f"Received: warmup_steps={warmup_steps}, decay_steps={decay_steps}"
        )
    return keras.optimizers.schedules.CosineDecay(
        learning_rate / (warmup_steps + 1),
        decay_steps - warmup_steps,
        alpha=0.1,
        warmup_target=learning_rate,
        warmup_steps=warmup_steps,
    )


def adam(learning_rate, decay_steps):
    """`Adam` whose rate falls from `learning_rate` to 0 along half a cosine in `decay_steps` steps.

    Loshchilov, Hutter, 2016, https://arxiv.org/abs/1608.03983, equation 5, without restarts. At a
    constant rate the weights wander about the best ones to the end. The rate is a function of the
    optimizer's own count of steps, so that a run that is continued goes on with it.

    Args:
        learning_rate: At the first step.
        decay_steps: The steps of the whole training, after which nothing moves; 0 for a constant
            rate, which callbacks can change.
    """
    if not decay_steps:
        return Adam(learning_rate)
    return Adam(keras.optimizers.schedules.CosineDecay(learning_rate, decay_steps))
