"""The registry of recipes: `register`, `get`, `names` (`zoo.list`), `info`.

A recipe is a function that returns a compiled model. Its name is the model's name, its signature
is the configuration. `index.json`, written by `python -m keras_genai.zoo`, says the same
in data, so that the command line answers without importing Keras.
"""

import dataclasses
import functools
import inspect
import json
import types
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from keras_genai._text import did_you_mean

INDEX = Path(__file__).with_name("index.json")
MODALITIES = ("image", "text", "audio", "music", "video", "ratings")
TASKS = ("unconditional", "labels", "prompt", "transform", "recommend")
# Of whole numbers, besides those whose default is 0.
MAY_BE_0 = ("seed", "warmup_steps", "decay_steps", "trainable_blocks")
SHARES = ("dropout", "ema_decay", "decay")  # from 0 to below 1

_RECIPES: dict[str, "Recipe"] = {}


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What the registry knows about one model.

    Attributes:
        name: The name under which `zoo.get` finds it.
        function: Returns a compiled model; its parameters are the configuration.
        modality: What it models, one of `MODALITIES`.
        task: What `generate` takes, one of `TASKS`.
        data: The data set that `fit()` trains on when none is given.
        minutes: The budget of `fit` when neither `epochs` nor `minutes` is given, in minutes.
        batch_size: The batch size of `fit` when none is given.
        step_ms: Milliseconds a training step takes on two CPU cores with the defaults, measured by
            `benchmarks/step_time.py`. Only the estimate of a run's time uses it.
        paper: Where the model was published.
        tiny: Overrides at which the contract tests run it.
        no_gradient: Trainable variables (a part of their path) that rightly get no gradient within
            a few steps, with the reason.
    """

    name: str
    function: Callable[..., Any]
    modality: str
    task: str
    data: str
    minutes: float
    batch_size: int
    step_ms: float
    paper: str
    tiny: Mapping[str, Any]
    no_gradient: Mapping[str, str]

    @property
    def summary(self) -> str:
        """The first line of the recipe's docstring."""
        return (inspect.getdoc(self.function) or "").splitlines()[0]

    @property
    def parameters(self) -> list[dict[str, Any]]:
        """Name, type, default and choices of each parameter, in order."""
        hints = typing.get_type_hints(self.function)
        signature = inspect.signature(self.function)
        return [
            {"name": name, **_describe(hints.get(name, str)), "default": parameter.default}
            for name, parameter in signature.parameters.items()
        ]

    def __str__(self) -> str:
        lines = [
            f"{self.name}: {self.summary}",
            f"  models {self.modality} ({self.task}), paper {self.paper}",
            f"  fit() trains on {self.data!r} for {self.minutes:g} minutes, "
            f"batches of {self.batch_size}",
            "  parameters:",
        ]
        lines += [
            f"    {p['name']}={p['default']!r}"
            + (f"  one of {', '.join(p['choices'])}" if "choices" in p else "")
            for p in self.parameters
        ]
        return "\n".join(lines)

    __repr__ = __str__


def register(
    *,
    modality: str,
    task: str,
    data: str,
    minutes: float,
    batch_size: int,
    step_ms: float,
    paper: str,
    tiny: Mapping[str, Any],
    no_gradient: Mapping[str, str] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorates a function that returns a compiled model: a recipe. Arguments as in `Recipe`.

    Raises:
        ValueError: If the name is taken, the modality or task is unknown, a parameter has no
            default, or the function has no docstring.
    """
    _one_of("modality", modality, MODALITIES)
    _one_of("task", task, TASKS)

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        name = function.__name__
        if name in _RECIPES:
            raise ValueError(
                f"A recipe of this name is registered already, in "
                f"{_RECIPES[name].function.__module__}; choose another name. Received: {name!r}"
            )
        if not function.__doc__:
            raise ValueError(
                f"A recipe needs a docstring: its first line stands in `zoo.list`. "
                f"Received: {function!r}"
            )
        for parameter in inspect.signature(function).parameters.values():
            if parameter.default is inspect.Parameter.empty:
                raise ValueError(
                    "Every parameter of a recipe needs a default (None where the data tell). "
                    f"Received: {parameter.name!r} of {name!r}"
                )

        @functools.wraps(function)
        def recipe(*args: Any, **kwargs: Any) -> Any:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            # NumPy's scalars become plain ones, which a run folder can hold.
            arguments = {
                key: value.item() if isinstance(value, np.generic) else value
                for key, value in bound.arguments.items()
            }
            model = function(**arguments)
            model.recipe, model.arguments = name, arguments
            return model

        _RECIPES[name] = Recipe(
            name, recipe, modality, task, data, minutes, batch_size, step_ms, paper,
            dict(tiny), dict(no_gradient or {}),
        )  # fmt: skip
        return recipe

    return decorate


def names() -> list[str]:
    """Names of all recipes, sorted."""
    return sorted(_RECIPES)


def info(name: str) -> Recipe:
    """What is known about a recipe; prints as a readable summary.

    Raises:
        ValueError: If there is no such recipe; the message names the closest ones.
    """
    if name not in _RECIPES:
        raise ValueError(unknown(name, _RECIPES))
    return _RECIPES[name]


def unknown(name: str, known: typing.Iterable[str]) -> str:
    """The message for a name that is not among the known ones."""
    choices = sorted(known)
    return (
        f"No recipe of this name. {did_you_mean(name, choices)}There are: {', '.join(choices)}. "
        f"Received: {name!r}"
    )


def get(name: str, *, data: Any = None, weights: str | None = None, **overrides: Any) -> Any:
    """Returns a compiled `keras.Model`, ready for `fit`, or with `weights` for `generate`.

    Args:
        name: A recipe's name, see `zoo.list()`.
        data: Data (a name, a path, arrays) that settle what is `None` in the recipe, so that the
            model is built at once. Without it, that happens at the first `fit`.
        weights: The tag of a published entry: `weights="mnist"` with `name="dcgan"` is the entry
            `dcgan.mnist`. Its parameters are those of the entry, its networks are trained.
        **overrides: Parameters of the recipe, see `zoo.info(name)`.

    Raises:
        ValueError: If the name, an override or the entry is unknown, or its weights do not fit.
    """
    info(name)  # raises if there is none
    if weights is not None:
        from keras_genai.zoo import published

        return published.load(published.find(f"{name}.{weights}"), overrides)
    return make(name, overrides, data)


def make(name: str, arguments: Mapping[str, Any], data: Any = None) -> Any:
    """As `get`; whatever stands in `arguments` is a parameter of the recipe, or refused."""
    recipe = info(name)
    known = [parameter["name"] for parameter in recipe.parameters]
    for argument in arguments:
        if argument not in known:
            raise ValueError(
                f"`{name}` has no such parameter. {did_you_mean(argument, known)}Its signature is "
                f"{name}{inspect.signature(recipe.function)}. Received: {argument!r}"
            )
    for parameter in recipe.parameters:
        if parameter["name"] in arguments:
            _check_value(name, parameter, arguments[parameter["name"]])
    model = recipe.function(**arguments)
    model.settle(data)
    return model


def stored_index() -> dict[str, Any]:
    """What `index.json` says."""
    return json.loads(INDEX.read_text("utf-8"))


def index(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The registry and the published entries as plain data, as they stand in `index.json`."""
    return {
        "recipes": {
            name: {
                "summary": recipe.summary,
                **{
                    key: getattr(recipe, key)
                    for key in ("modality", "task", "data", "minutes", "batch_size", "paper")
                },
                "parameters": recipe.parameters,
            }
            for name, recipe in sorted(_RECIPES.items())
        },
        "entries": dict(entries),
    }


def _one_of(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"`{what}` must be one of {', '.join(choices)}. Received: {value!r}")


def _check_value(recipe: str, parameter: Mapping[str, Any], value: Any) -> None:
    """Raises ValueError where Keras would fail later, or never."""
    name, kind, default = parameter["name"], parameter["type"], parameter["default"]
    if value is None and default is None:
        return
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    at_least = 0 if name in MAY_BE_0 or default == 0 else 1
    is_share = name in SHARES and (default or 0) < 1  # a recipe may mean something else by the name
    negative = kind == "float" and default is not None and default < 0
    sides = value if isinstance(value, list | tuple) else ()
    expected, fits = {
        "int": (f"a whole number, at least {at_least}", whole and value >= at_least),
        "float": (
            "a finite number" + ", at least 0" * (not negative) + " and below 1" * is_share,
            (whole or isinstance(value, float | np.floating))
            and -np.inf < value < np.inf
            and (negative or value >= 0)
            and not (is_share and value >= 1),
        ),
        "bool": ("True or False", isinstance(value, bool | np.bool_)),
        "str": ("a string", isinstance(value, str)),
        "shape": (
            "positive whole numbers such as (28, 28, 1)",
            len(sides) > 0 and all(isinstance(n, int | np.integer) and n > 0 for n in sides),
        ),
    }[kind]
    if not fits:
        raise ValueError(f"`{name}` of `{recipe}` is {expected}. Received: {name}={value!r}")


def _describe(hint: Any) -> dict[str, Any]:
    """The type of a parameter as data: int, float, bool, str, or shape (a tuple of ints)."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        (hint,) = [arg for arg in typing.get_args(hint) if arg is not type(None)]
    if typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        return {"type": type(choices[0]).__name__, "choices": [*choices]}
    if typing.get_origin(hint) is tuple:
        return {"type": "shape"}
    return {"type": hint.__name__}
