"""`GenerativeModel`: the plumbing that all models share. No model's mathematics is here.

A model file subclasses `ImageModel` (`image_model.py`) or `TextModel` (`text_model.py`) and writes
`build_networks`, `call`, `train_step`, `test_step` and `sample`. This file does the rest: networks
built once the data are known, named losses, one optimizer a network, owned randomness, saving that
loses nothing, and `fit` on names, paths and arrays.

Shapes everywhere: B batch, H height, W width, C channels, T time, V vocabulary, Z latent size.
"""

import contextlib
import dataclasses
import functools
import inspect
import numbers
import os
import random
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import tensorflow as tf

from keras_genai import __version__, distribution
from keras_genai import data as data_module
from keras_genai._files import atomic
from keras_genai.data import pipeline
from keras_genai.models import training


def network(function: Callable[..., keras.Model]) -> Callable[..., keras.Model]:
    """Decorates a function that builds a network: its variables carry the function's name.

    `per_network(generator=...)` finds the generator's variables by that name. Of several networks
    that one function builds each gets its own, by `name=`.
    """

    @functools.wraps(function)
    def build(*args: Any, name: str = function.__name__, **kwargs: Any) -> keras.Model:
        with keras.name_scope(name):
            model = function(*args, **kwargs)
        model.name = name
        return model

    return build


def per_network(**optimizers: keras.optimizers.Optimizer) -> keras.optimizers.Optimizer:
    """One optimizer for each network, in one object that Keras saves and its callbacks see.

    Args:
        **optimizers: An optimizer for each network, by the network's name.
    """
    for name, optimizer in optimizers.items():
        optimizer.name = name
    first, *_ = optimizers.values()
    patterns = {rf"(.*/)?{name}/.*": optimizer for name, optimizer in optimizers.items()}
    return keras.optimizers.MultiOptimizer(keras.optimizers.OptimizerMap(first, patterns))


def jit_compile_default(on_cpu: bool) -> bool | str:
    """Whether to compile the step with XLA: measured on CPU, Keras's own choice on GPU.

    Args:
        on_cpu: What is faster for this model on a CPU.
    """
    if tf.distribute.has_strategy():
        return False
    return "auto" if tf.config.list_physical_devices("GPU") else on_cpu


@contextlib.contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """Initializers and Dropout layers draw their seeds from Python's generator: lend them ours."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextlib.contextmanager
def _policy(model: keras.Model) -> Iterator[None]:
    """Layers made inside compute in the model's precision, also where it is loaded."""
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy(model.dtype_policy)
    try:
        yield
    finally:
        keras.config.set_dtype_policy(before)


def fold(seed: Any, purpose: str) -> tf.Tensor:
    """Keeps the noise of other purposes apart from that of training, which has the plain key."""
    number = ("training", "validation", "samples", "draw").index(purpose)
    return tf.random.experimental.stateless_fold_in(tf.cast(seed, "int32"), number)


def shares(batch_size: Any, count: int) -> list[tf.Tensor]:
    """The rows of `count` equal shares of a batch; where it does not divide, some serve twice."""
    size = -(-batch_size // count)
    return [(i * size + tf.range(size)) % batch_size for i in range(count)]


def _follow(average: keras.Model, network: keras.Model, decay: float, step: Any) -> None:
    """Moves `average` towards `network`, fast in the first steps, when all weights are young."""
    kept = tf.minimum(decay, (1.0 + step) / (10.0 + step))
    for mean, value in zip(average.weights, network.weights, strict=True):
        mean.assign_add((1.0 - kept) * (value - mean))


def _after(loss: tf.Tensor, gradients: Sequence[Any], variables: Sequence[Any]) -> list[tf.Tensor]:
    """The gradients, to be had once the loss is known: no update overtakes a read for that loss.

    TensorFlow's graph optimizer (2.21, its dependency optimizer) loses that order where a gradient
    needs no more of the scores than their shape, as that of a critic's last layer. It drops the
    edge from the read to the update, since the shape leads there too; then it makes the shape a
    constant.
    """
    missing = [v.path for v, g in zip(variables, gradients, strict=True) if g is None]
    if missing:
        raise ValueError(
            "A network is moved down the gradient of a loss that depends on all its trainable "
            "variables. Compute the loss inside the tape, leave networks that it does not use to a "
            "`minimize` of their own, or set trainable=False on what nothing is to move. "
            f"Received: no gradient for {', '.join(missing)}"
        )
    with tf.control_dependencies([loss]):
        return [tf.identity(gradient) for gradient in gradients]


class EpochMean(keras.metrics.Mean):
    """A mean whose replicas hold the same: reading it takes no word from the other workers."""

    def add_variable(self, *args: Any, **kwargs: Any) -> Any:
        """As in the base; Keras would add up what the replicas hold."""
        return super().add_variable(*args, **{**kwargs, "aggregation": "only_first_replica"})


class GenerativeModel(keras.Model):
    """Base of all models. Subclasses write `build_networks`, `call`, `train_step`, `test_step`.

    Args:
        seed: Fixes initial weights, noise and data order. `None` draws one; `model.seed` has it.
    """

    modality = ""
    loss_names: tuple[str, ...] = ()
    # Constructor arguments that may be None until the data settle them.
    from_data: tuple[str, ...] = ()
    # Networks that published weights leave out: neither generating nor encoding needs them.
    training_only: tuple[str, ...] = ()
    # Constructor arguments of another value with which weights would still fit, and mean another
    # thing.
    fixed_by_weights: tuple[str, ...] = ()
    # Numbers among the networks' weights that fine-tuning leaves as they are.
    num_frozen = 0
    # How much of a network's moving average is kept a step; 0 keeps no average.
    ema_decay = 0.0
    # Whether `generate` takes images: models of the task "transform".
    takes_images = False
    # Whether `generate` takes labels, and training needs them.
    takes_labels: Any = False
    # Networks that play against each other: their losses need not fall.
    adversarial = False
    # The d_loss of a discriminator that is right with a probability of 0.98; None where there is
    # no such number.
    sure_d_loss: float | None = None

    def __init__(self, seed: int | None = None, **kwargs: Any):
        super().__init__(**kwargs)
        if seed is None:  # workers that each draw one go by the chief's
            seed = distribution.of_chief(self.distribute_strategy, secrets.randbelow(2**31))
        self.seed = seed
        self.seed_generator = keras.random.SeedGenerator(self.seed)
        self.losses_by_name = {name: EpochMean(name=name) for name in (*self.loss_names, "loss")}
        self.progress = training.Progress()
        self.recipe: str | None = None
        self.entry: str | None = None  # the published one whose weights were loaded
        self.begins_with: str | None = None  # whose weights it was given, as `zoo.load` takes it
        self.run_dir: Any = None  # where the last `fit` wrote
        self.held_out: Any = None  # the validation data of the last `fit`
        self.arguments: dict[str, Any] = {}
        self._samplers: dict[Any, Any] = {}

    # Built when known ---------------------------------------------------------------------------

    def build_networks(self) -> None:
        """Creates the networks from the (now known) constructor arguments."""
        raise NotImplementedError

    def settle(self, data: Any = None) -> None:
        """Takes from `data`, given as in `fit`, what is still `None`, and builds if it can."""
        unknown = [name for name in self.from_data if getattr(self, name) is None]
        if data is not None and unknown:
            parts = self.open_data(data)
            for name in unknown:
                setattr(self, name, self.read(parts, name))
        if not self.built and all(getattr(self, name) is not None for name in self.from_data):
            self.build()

    def need_networks(self) -> None:
        """Builds a model that knows enough; of another, raises what is missing."""
        self.settle()
        if not self.built:
            self.build()

    def open_data(self, x: Any, y: Any = None, **options: Any) -> data_module.Dataset:
        """`data.load` with what this model can use."""
        return data_module.load(x, y, modality=self.modality, **options)

    def read(self, parts: data_module.Dataset, name: str) -> Any:
        """The value of the argument `name` that the data ask for."""
        return getattr(parts.train, name)

    def build(self, input_shape: Any = None) -> None:
        """Builds networks and optimizers. Called by `zoo.get` or `fit`, whichever knows enough."""
        missing = [name for name in self.from_data if getattr(self, name) is None]
        if missing:
            raise ValueError(
                f"{self._title} is not built yet: call fit(), or pass data= or {missing[0]}= to "
                f"zoo.get. Received: {missing[0]}=None"
            )
        with self.distribute_strategy.scope(), _own_randomness(self.seed), _policy(self):
            self.build_networks()
            if self.compiled:
                self.optimizer.build(self.trainable_variables)
            # Every replica writes the same.
            self.first_broken = tf.Variable(
                0,
                dtype="int64",
                trainable=False,
                aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
            )
            self.skipped_steps = tf.Variable(0, dtype="int64", trainable=False)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, each kept as an attribute of the same name.

        Keras records arguments by itself for layers only: of a model it knows just the defaults.
        What the data settled is in these attributes, so it is saved too.
        """
        parameters = inspect.signature(type(self).__init__).parameters.values()
        names = [p.name for p in parameters if p.kind is p.POSITIONAL_OR_KEYWORD][1:]
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}

    def get_build_config(self) -> dict[str, Any] | None:
        """The recipe that made the model; there is one as soon as it is built."""
        if not self.built:
            return None
        return {"recipe": self.recipe, "arguments": self.arguments, "keras_genai": __version__}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds the model as it was saved."""
        self.recipe, self.arguments = config["recipe"], dict(config["arguments"])
        self.build()

    @property
    def _title(self) -> str:
        return f"`{self.recipe or type(self).__name__}`"

    # Losses and optimizers ----------------------------------------------------------------------

    @property
    def metrics(self) -> list[keras.metrics.Metric]:
        """The losses, as Keras resets and reports them."""
        return [*self.losses_by_name.values()]

    def log(
        self, losses: Mapping[str, tf.Tensor], total: Any = None, count: Any = None
    ) -> dict[str, tf.Tensor]:
        """Adds a step's losses to the epoch's means; returns the means, as a step must.

        Args:
            losses: Scalars by name, one for each of `loss_names`.
            total: What is logged as `loss`; the sum of `losses` by default.
            count: Weight of this step in the mean, the number of items in the batch: the last
                batch of an evaluation may be smaller.
        """
        if total is None:
            # Not Python's sum: TensorFlow reorders chains of additions, not always in one way.
            total = tf.reduce_sum(tf.stack([*losses.values()]))
        values = {**losses, "loss": total}
        replicas = self.distribute_strategy.num_replicas_in_sync
        if replicas > 1:
            values, count = distribution.mean_of_losses(values, count)
        for name, value in values.items():
            self.losses_by_name[name].update_state(value, sample_weight=count)
        means = {name: self.losses_by_name[name].result() for name in values}
        if distribution.many_workers(self.distribute_strategy):
            # Keras takes the mean of what workers return over the first axis: give it one.
            return {name: mean[None] for name, mean in means.items()}
        return means

    def optimizer_of(self, network: str) -> keras.optimizers.Optimizer:
        """The optimizer of the network of this name, or the one that there is for all."""
        whole = getattr(self.optimizer, "inner_optimizer", self.optimizer)  # of a loss scaler
        optimizers = getattr(whole, "optimizers", [whole])
        by_name = {optimizer.name: optimizer for optimizer in optimizers}
        return by_name.get(network, optimizers[0])

    def minimize(self, tape: tf.GradientTape, loss: tf.Tensor, *networks: keras.Model) -> None:
        """Moves the trainable variables of `networks`, and no others, down the gradient.

        Averages of the networks (`averaged`) follow.
        """
        variables = [variable for net in networks for variable in net.trainable_variables]
        optimizer = self.optimizer_of(networks[0].name)
        if isinstance(self.optimizer, keras.optimizers.LossScaleOptimizer):
            self._apply_scaled(tape, loss, variables, optimizer)
        else:
            gradients = _after(loss, tape.gradient(loss, variables), variables)
            if self.distribute_strategy.num_replicas_in_sync > 1:
                gradients = distribution.share_of_gradients(gradients, optimizer)
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
        for net in networks:
            self._watch(net)
            average = getattr(self, f"ema_{net.name}", net)
            if average is not net:
                updates = getattr(self, f"updates_of_{net.name}")
                updates.assign_add(1.0)
                _follow(average, net, self.ema_decay, updates.value)

    def _apply_scaled(
        self, tape: tf.GradientTape, loss: Any, variables: Any, optimizer: Any
    ) -> None:
        """An update in float16: the loss is scaled, and a step that overflows is left out.

        Micikevicius et al., 2017, https://arxiv.org/abs/1710.03740, section 3.2. Keras's own
        `LossScaleOptimizer.apply` wants the gradients of all networks at once.
        """
        scaler = self.optimizer
        scale, good_steps = scaler.dynamic_scale, scaler.step_counter
        scaled = tape.gradient(loss, variables, output_gradients=tf.cast(scale, loss.dtype))
        gradients = _after(loss, scaled, variables)

        def update() -> None:
            unscaled = [gradient / scale for gradient in gradients]
            optimizer.apply_gradients(zip(unscaled, variables, strict=True))
            grow = good_steps + 1 >= scaler.dynamic_growth_steps
            scale.assign(tf.where(grow, 2.0 * scale, scale))
            good_steps.assign((good_steps + 1) * tf.cast(~grow, good_steps.dtype))

        def skip() -> None:
            scale.assign(0.5 * scale)
            good_steps.assign(0)
            self.skipped_steps.assign_add(1)

        tf.cond(scaler.check_finite(gradients), update, skip)

    def _watch(self, network: keras.Model) -> None:
        """Notes the first network that broke; the health callback looks.

        It looks at biases and at one row of each kernel: a NaN reaches whole columns, and to look
        at all weights takes up to 7 % of a step. The squares of weights beyond 1e19 are infinite in
        float32. Such weights are lost already, and the next network would be the first with a NaN.
        """
        rows = [tf.reshape(v, [-1, v.shape[-1]])[0] for v in network.trainable_variables]
        broken = ~tf.math.is_finite(tf.linalg.global_norm(rows))
        number = tf.constant(1 + self.layers.index(network), "int64")
        first = broken & (self.first_broken == 0)
        self.first_broken.assign_add(tf.where(first, number, tf.zeros_like(number)))

    @property
    def broken_network(self) -> str:
        """The network whose weights were the first to become NaN, infinite or huge, or ""."""
        number = int(self.first_broken.numpy())
        return self.layers[number - 1].name if number else ""

    def counter(self, name: str) -> keras.Variable:
        """A count of updates that is saved with the model; `build_networks` makes it.

        That of the optimizer begins anew when the model is compiled anew.
        """
        return keras.Variable(0.0, trainable=False, aggregation="only_first_replica", name=name)

    def averaged(self, network: keras.Model) -> keras.Model:
        """A copy of `network` that `minimize` moves as its average over the steps.

        Assign it to `self.ema_<name of the network>`. With `ema_decay = 0` it is `network` itself.
        """
        if not self.ema_decay:
            return network
        name = f"updates_of_{network.name}"
        setattr(self, name, self.counter(name))
        average = keras.models.clone_model(network)
        average.set_weights(network.get_weights())
        average.trainable = False
        return average

    @property
    def networks_in_use(self) -> dict[str, keras.Model]:
        """What generating, encoding and measuring need, by name: of a network its average."""
        return {
            net.name: getattr(self, f"ema_{net.name}", net)
            for net in self.layers
            if net.name not in self.training_only
        }

    # Randomness ---------------------------------------------------------------------------------

    def normal(self, shape: Sequence[Any]) -> tf.Tensor:
        """Standard normal noise from the model's own generator, other noise each time."""
        return tf.random.stateless_normal(shape, self._replica_seed())

    def uniform(self, shape: Sequence[Any]) -> tf.Tensor:
        """As `normal`, but uniform in [0, 1)."""
        return tf.random.stateless_uniform(shape, self._replica_seed())

    def fixed_normal(self, shape: Sequence[Any]) -> tf.Tensor:
        """Standard normal noise that is the same each time: validation must not move training."""
        return self._fixed(tf.random.stateless_normal, shape, 0)

    def fixed_uniform(self, shape: Sequence[Any]) -> tf.Tensor:
        """As `fixed_normal`, but uniform in [0, 1)."""
        return self._fixed(tf.random.stateless_uniform, shape, 1)

    def _fixed(self, draw: Callable[..., tf.Tensor], shape: Sequence[Any], key: int) -> tf.Tensor:
        seed = fold((self.seed, key), "validation")
        if self.distribute_strategy.num_replicas_in_sync == 1:
            return draw(shape, seed)
        # The noise of the whole batch, of which each replica takes the rows of its items.
        count, rows = distribution.rows_of_batch(shape[0])
        return tf.gather(draw((count, *shape[1:]), seed), rows)

    def _replica_seed(self) -> tf.Tensor:
        """A seed for a draw in training: another one each time, and on each replica."""
        return distribution.fold_in_replica(self._next_seed())

    def _next_seed(self) -> tf.Tensor:
        return tf.cast(self.seed_generator.next(), "int32")

    # Saving -------------------------------------------------------------------------------------

    @property
    def _states(self) -> list[Any]:
        """What continuing exactly needs beyond weights: random states and the epoch's means."""
        weights = {id(variable) for variable in self.weights}
        random_states = [v for v in self.variables if id(v) not in weights]
        means = [v for metric in self.metrics for v in metric.variables]
        return [*random_states, *means, *self._non_trainable_variables]

    def save_own_variables(self, store: Any) -> None:
        """Writes the random states, the epoch's means and the place in the data."""
        for i, variable in enumerate(self._states):
            store[f"state_{i}"] = variable.numpy()
        store["progress"] = self.progress.to_array()

    def load_own_variables(self, store: Any) -> None:
        """Reads what `save_own_variables` wrote."""
        for i, variable in enumerate(self._states):
            variable.assign(store[f"state_{i}"])
        self.progress = training.Progress.from_array(store["progress"])

    def adopt(self, other: "GenerativeModel") -> None:
        """Takes over all state of a model of the same class and sizes: a run is continued."""
        mine, theirs = (
            [*model.variables, *model._states, *model.optimizer.variables]
            for model in (self, other)
        )
        if [v.shape for v in mine] != [v.shape for v in theirs]:
            raise ValueError(
                "The run was made with other networks or another optimizer than this model has; "
                "make it as it was, or choose another run_dir. "
                f"Received: {len(mine)} variables where the run has {len(theirs)}"
            )
        for variable, value in zip(mine, theirs, strict=True):
            variable.assign(value)
        self.progress, self.seed = dataclasses.replace(other.progress), other.seed

    def save(self, filepath: str | os.PathLike, overwrite: bool = True, **kwargs: Any) -> None:
        """Saves the whole model to a `.keras` file, atomically: an earlier file stays whole.

        Of several workers only the chief writes.

        Args:
            filepath: Ends in `.keras`.
            overwrite: Whether an existing file may be replaced.
            **kwargs: As in `keras.Model.save`.

        Raises:
            ValueError: If the model is not built, the suffix is wrong, or the file exists and
                `overwrite` is false.
        """
        path = os.fspath(filepath)
        if not self.built:
            raise ValueError(
                f"{self._title} has no weights to save before its first fit(). Received: {path!r}"
            )
        if not path.endswith(".keras"):
            raise ValueError(f"A model is saved to a file ending in .keras. Received: {path!r}")
        if os.path.exists(path) and not overwrite:
            raise ValueError(f"This file exists and overwrite=False. Received: {path!r}")
        if distribution.is_chief(self.distribute_strategy):
            with atomic(path) as temporary:
                super().save(temporary, **kwargs)

    # Training -----------------------------------------------------------------------------------

    def prepare(self, source: data_module.Source) -> data_module.Source:
        """Turns a source of raw data into one of training items; raises where they do not fit."""
        return source

    def begin(self, source: data_module.Source) -> None:
        """Called by `fit` with the training items, before the first step."""

    def fit(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        epochs: int | None = None,
        verbose: str | int = "auto",
        callbacks: Any = None,
        validation_split: float = 0.0,
        validation_data: Any = None,
        shuffle: bool = True,
        class_weight: Any = None,
        sample_weight: Any = None,
        initial_epoch: int | None = None,
        steps_per_epoch: int | None = None,
        validation_steps: int | None = None,
        validation_batch_size: int | None = None,
        validation_freq: Any = 1,
        *,
        minutes: float | None = None,
        value_range: tuple[float, float] | None = None,
        on_bad: str = "raise",
        run_dir: Any = None,
        **unknown: Any,
    ) -> keras.callbacks.History:
        """Trains the model. The arguments of `keras.Model.fit` keep their meaning.

        Args:
            x: A data set's name ("mnist", "glyphs"), a path (a folder of images or of texts,
                `.npz`, `.npy`, `.txt`), an array (images: uint8 `(N, H, W[, C])`), a list of
                strings, or a `tf.data.Dataset` of batches of images or of strings. `None` is the
                recipe's own data set.
            y: Labels, integers `(N,)`, for arrays.
            batch_size: Items a step; by default the recipe's, or all items if they are fewer.
            epochs: How many epochs to train (more, for a model that was trained before). If
                `minutes` is not given either, the recipe's budget in minutes holds.
            verbose: As in Keras.
            callbacks: Added to the recipe's own: run folder, history, checkpoint, samples.
            validation_split: Fraction of `x` that is validated on instead: the end of arrays and
                texts, a random part of folders. Named data sets have a validation part already.
            validation_data: As `x`, or `(x, y)`. Of a data set by name it is the validation part.
            shuffle: Whether each epoch has its own order.
            class_weight: Refused: no recipe has a use for it.
            sample_weight: Refused: no recipe has a use for it.
            initial_epoch: The epoch to start counting at, as in Keras: `epochs` is then the last.
            steps_per_epoch: Steps that count as an epoch; by default all full batches.
            validation_steps: As in Keras.
            validation_batch_size: As in Keras.
            validation_freq: As in Keras.
            minutes: Stops by the clock, compilation included.
            value_range: The smallest and largest value that floating-point images can take; by
                default they must lie in [0, 1].
            on_bad: What to do about images of a folder that cannot be read: "raise" names them
                when they are met, "skip" looks for them beforehand and leaves them out.
            run_dir: `None` starts a new folder runs/<name>/<nnn> (below `$KERAS_GENAI_RUNS` if
                set), `False` writes nothing, a path starts a run there or continues the one it
                holds up to `epochs` in total.
            **unknown: Refused: the message lists the arguments there are.

        Returns:
            The history, as in Keras; its `advice` holds sentences by epoch. After Ctrl-C
            KeyboardInterrupt is raised, but in a notebook the history is returned.

        Raises:
            FloatingPointError: If weights or losses become NaN or infinite.
            MemoryError: If a step needs more memory than there is.
            ValueError: If data, arguments or the run folder do not fit, before the first step.
            TypeError: If there is no such argument.
        """
        if unknown:
            known = [*inspect.signature(GenerativeModel.fit).parameters][1:-1]
            raise TypeError(
                f"`fit` has no such argument; it takes {', '.join(known)}. "
                f"Received: {', '.join(unknown)}"
            )
        for name, value in (("class_weight", class_weight), ("sample_weight", sample_weight)):
            if value is not None:
                raise ValueError(
                    f"{self._title} does not weigh its data: leave out {name}. "
                    f"Received: {name}={value!r:.80}"
                )
        plan = training.plan(
            self, x, y, batch_size=batch_size, epochs=epochs, minutes=minutes, shuffle=shuffle,
            validation_split=validation_split, validation_data=validation_data,
            validation_batch_size=validation_batch_size, initial_epoch=initial_epoch,
            steps_per_epoch=steps_per_epoch, value_range=value_range, on_bad=on_bad,
            run_dir=run_dir, callbacks=callbacks, verbose=verbose,
        )  # fmt: skip
        validation = {
            "validation_data": plan.validation,
            "validation_steps": validation_steps,
            "validation_freq": validation_freq,
        }
        return plan.run(functools.partial(super().fit, verbose=verbose, **validation))

    def evaluate(
        self,
        x: Any = None,
        y: Any = None,
        batch_size: int | None = None,
        *,
        value_range: tuple[float, float] | None = None,
        on_bad: str = "raise",
        **kwargs: Any,
    ) -> Any:
        """Computes the losses on data, given as in `fit`; of a named set, on its test part.

        Returns:
            The losses as in `keras.Model.evaluate` (`return_dict=True` names them).
        """
        if kwargs.get("_use_cached_eval_dataset"):  # Keras's own call in `fit`
            return super().evaluate(x, **kwargs)
        distribution.prepare(self)
        if not distribution.is_chief(self.distribute_strategy):
            kwargs["verbose"] = 0
        parts = self.open_data(x, y, value_range=value_range, on_bad=on_bad)
        self.settle(parts)
        source = self.prepare(parts.train if parts.test is None else parts.test)
        batches = training.eval_batches(self, source, batch_size or self.batch_size)
        with pipeline.data_errors():
            return super().evaluate(batches, **kwargs)

    def make_test_function(self, force: bool = False) -> None:
        """As in Keras; under a strategy the step gets shares of batches, and some may not count."""
        if self.distribute_strategy.num_replicas_in_sync == 1:
            super().make_test_function(force)
        elif force or getattr(self, "test_function", None) is None:
            self.test_function = self._make_function(distribution.in_share(self.test_step))

    def _maybe_symbolic_build(self, *args: Any, **kwargs: Any) -> None:
        """Keras would take a batch to build by, under a strategy; all is built here already."""

    @property
    def batch_size(self) -> int:
        """The recipe's batch size; Keras's 32 for a model made by hand."""
        from keras_genai.zoo import registry

        return registry.info(self.recipe).batch_size if self.recipe else 32

    # Generating ---------------------------------------------------------------------------------

    def preview(self, seed: int = 0) -> Any:
        """A few samples, the same for the same weights and seed. Needs no other argument."""
        raise NotImplementedError

    def graph_of(self, key: Any, function: Callable[..., Any], **options: Any) -> Any:
        """`function` as a `tf.function` with `options`, made once for each `key`."""
        if key not in self._samplers:
            self._samplers[key] = tf.function(function, **options)
        return self._samplers[key]

    def seed_for(self, seed: int | None) -> int:
        """`seed`, or the next one of the model's own generator.

        Raises:
            ValueError: If it is no whole number.
        """
        if seed is not None:
            if not isinstance(seed, numbers.Integral):
                raise ValueError(f"`seed` is a whole number, or None. Received: seed={seed!r}")
            return int(seed)  # NumPy's have too few bits for what is made of it
        return int(fold(self._next_seed(), "draw").numpy()[0]) & 0x7FFFFFFF


__all__ = [
    "GenerativeModel",
    "jit_compile_default",
    "network",
    "per_network",
    "shares",
]
