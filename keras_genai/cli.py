"""The command line, `keras-genai`: list, info, train, generate, measure, publish and so on.

`--help`, `list`, `info` and misspelt names are answered from `zoo/index.json`: only what works with
models or data imports Keras and TensorFlow, which takes seconds.
"""

import argparse
import contextlib
import inspect
import json
import re
import shlex
import signal
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from keras_genai import __version__
from keras_genai._files import CATALOGUE, own_catalogues
from keras_genai._text import BETWEEN_TEXTS, columns, did_you_mean, number, plural

INDEX = Path(__file__).parent / "zoo" / "index.json"
PROG = "keras-genai"
OWN_DATA = {"image": "my_photos/", "text": "my_text.txt", "ratings": "my_ratings.csv"}
WRITING = (
    "max_length", "temperature", "top_k", "top_p", "repetition_penalty", "num_beams", "num_steps",
    "stop",
)  # fmt: skip
PARAMETER = "parameter "  # marks a recipe's parameter among the parsed arguments


class _UsageError(ValueError):
    """What was typed is not a command."""


class _Parser(argparse.ArgumentParser):
    """Leaves the reporting of errors to `main`."""

    def error(self, message: str) -> NoReturn:
        raise _UsageError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: The words after `keras-genai`; those of the process by default.

    Returns:
        The exit code: 0, 1 for a training that diverged or found no memory and for an entry that
        was not reproduced, 2 for a mistake (one message on stderr), 130 when interrupted, 143 when
        terminated.
    """
    typed = sys.argv[1:] if argv is None else [*argv]
    code_when_stopped = 130

    def terminate(number: int, frame: Any) -> None:
        nonlocal code_when_stopped
        code_when_stopped = 143
        # As Ctrl-C, which a job in the background may ignore: a training saves its state and stops.
        interrupt = signal.getsignal(signal.SIGINT)
        (interrupt if callable(interrupt) else signal.default_int_handler)(number, frame)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        args = _parse(typed)
        code = args.run(args) or 0
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return code_when_stopped
    except ValueError as error:
        message = str(error)
        if isinstance(error, _UsageError) and "Received: " not in message:  # argparse's own words
            message = f"{message}; --help tells more. Received: {shlex.join([PROG, *typed])}"
        if "Received: " not in message:
            raise  # not a mistake of the user's: the traceback is wanted
        return _fail(message)
    except OSError as error:
        if error.filename is None:
            raise
        what = (error.strerror or str(error)).removesuffix(". Received")
        return _fail(f"{what}. Received: {error.filename2 or error.filename!r}")
    except (FloatingPointError, MemoryError) as error:  # not a mistake in what was typed
        print(f"{PROG}: error: {error}", file=sys.stderr)
        return 1
    finally:
        signal.signal(signal.SIGTERM, before)
    return code


def _fail(message: str) -> int:
    print(f"{PROG}: error: {message}", file=sys.stderr)
    return 2


# Parsing ----------------------------------------------------------------------------------------


def _parse(typed: Sequence[str]) -> argparse.Namespace:
    words = [_with_underscores(word) for word in typed]
    index = _index()
    recipes = index["recipes"]
    parser = _Parser(prog=PROG, description="Generative models in Keras 3.", allow_abbrev=False)
    parser.add_argument("--version", action="version", version=f"{PROG} {__version__}")
    parser.set_defaults(run=lambda args: parser.print_help())
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    _add_list(commands, recipes, index["entries"])
    _add_info(commands, recipes, index["entries"])
    _add_train(commands, recipes, words[1:] if words[:1] == ["train"] else [])
    _add_generate(commands)
    _add_measure(commands)
    _add_publish(commands)
    _add_reproduce(commands)
    _add_fetch(commands)

    command = words[0] if words and not words[0].startswith("-") else None
    if command and command not in commands.choices:
        raise _unknown("command", command, commands.choices, f"`{PROG} --help` shows all")
    args, rest = parser.parse_known_args(words)
    if rest:
        _refuse(typed[words.index(rest[0])], commands.choices[command] if command else parser)
    return args


def _with_underscores(word: str) -> str:
    """`--latent-dim=64` as `--latent_dim=64`: an option is spelt like the parameter it sets."""
    option, equals, value = word.partition("=")
    if option.startswith("--"):
        option = "--" + option[2:].replace("-", "_")
    return option + equals + value


def _refuse(word: str, parser: argparse.ArgumentParser) -> NoReturn:
    if not word.startswith("-"):
        raise _UsageError(
            f"This word is one too many, as `{parser.prog} --help` shows. Received: {word!r}"
        )
    options = re.findall(r"--\w+", parser.format_help())
    option = word.partition("=")[0]
    raise _unknown("option", option, options, f"`{parser.prog} --help` shows all")


def _unknown(what: str, word: str, known: Iterable[str], hint: str) -> _UsageError:
    question = did_you_mean(_with_underscores(word), known)
    return _UsageError(f"No {what} of this name. {question}{hint}. Received: {word!r}")


def _index() -> dict[str, dict[str, dict[str, Any]]]:
    """What the registry knows: "recipes" and published "entries", by name."""
    if not INDEX.exists():
        raise _UsageError(
            "The list of recipes is missing from the package; `python -m keras_genai.zoo` writes "
            f"it. Received: no file {str(INDEX)!r}"
        )
    return json.loads(INDEX.read_text("utf-8"))


def _entries_here() -> dict[str, dict[str, Any]]:
    """As the index's, the entries of the catalogues on this computer, each with its folder."""
    found = {}
    for catalogue in (CATALOGUE, *own_catalogues()):  # of two of one name, the user's own is loaded
        for path in sorted(catalogue.glob("*.*/entry.json")):
            with contextlib.suppress(ValueError, KeyError, TypeError):  # damaged: loading it tells
                entry = json.loads(path.read_text("utf-8"))
                found[path.parent.name] = {
                    "recipe": entry["recipe"],
                    "tag": entry["tag"],
                    "data": entry["data"]["name"],
                    "bytes": entry["weights"]["bytes"],
                    "folder": path.parent,
                }
    return found


def _recipe(recipes: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    if name not in recipes:
        hint = f"`{PROG} list` shows all"
        if name.partition(".")[0] in recipes or Path(name).exists():
            hint += f"; a trained model goes behind it: `{PROG} train RECIPE --weights {name}`"
        raise _unknown("recipe", name, recipes, hint)
    return recipes[name]


def _typed(what: str, parse: Callable[[str], Any], choices: Sequence[Any] = ()) -> Any:
    """A `type=` for argparse that says what it expects."""

    def convert(text: str) -> Any:
        try:
            value = parse(text)
            if not choices or value in choices:
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"expected {what}. Received: {text!r}")

    return convert


def _parse_shape(text: str) -> tuple[int, ...]:
    height, width, channels = re.split("[x,]", text)
    return int(height), int(width), int(channels)


def _parse_labels(text: str) -> int | list[int]:
    labels = [int(label) for label in text.split(",")]
    return labels if "," in text else labels[0]


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise ValueError(text)
    return text.lower() == "true"


INT = ("a whole number, such as 64", int)
FLOAT = ("a number, such as 0.5", float)
TYPES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "int": INT,
    "float": FLOAT,
    "bool": ("true or false", _parse_bool),
    "str": ("a text", str),
    "shape": ("height, width and channels, such as 64x64x3", _parse_shape),
}


# list and info ----------------------------------------------------------------------------------


def _add_list(
    commands: Any, recipes: dict[str, dict[str, Any]], entries: dict[str, dict[str, Any]]
) -> None:
    words = "the recipes: name, modality, task, what it is; and the published entries"
    parser = commands.add_parser("list", help=words, description=words, allow_abbrev=False)

    def run(args: argparse.Namespace) -> None:
        rows = [(n, r["modality"], r["task"], r["summary"]) for n, r in recipes.items()]
        print(columns([("NAME", "MODALITY", "TASK", "WHAT IT IS"), *rows]))
        known = sorted((entries | _entries_here()).items())
        if known:
            sizes = [(n, e["data"], f"{e['bytes'] / 1e6:.1f} MB") for n, e in known]
            print(f"\n{columns([('PUBLISHED', 'DATA', 'WEIGHTS'), *sizes])}")

    parser.set_defaults(run=run)


def _add_info(
    commands: Any, recipes: dict[str, dict[str, Any]], entries: dict[str, dict[str, Any]]
) -> None:
    words = "a recipe's parameters and how to train it; or where a published entry's card is"
    parser = commands.add_parser("info", help=words, description=words, allow_abbrev=False)
    parser.add_argument("name", metavar="NAME", help=f"as in `{PROG} list`")

    def run(args: argparse.Namespace) -> None:
        known = entries | _entries_here()
        if args.name in known:
            _print_entry(args.name, known[args.name])
        else:
            _print_info(args.name, _recipe(recipes, args.name))

    parser.set_defaults(run=run)


def _print_entry(name: str, entry: dict[str, Any]) -> None:
    card = (
        entry["folder"] / "README.md" if "folder" in entry else "in a clone, not on this computer"
    )
    facts = [
        ("card", str(card)),
        ("load", f"zoo.get({entry['recipe']!r}, weights={entry['tag']!r})"),
        ("recipe", f"{PROG} info {entry['recipe']}"),
    ]
    print(f"{name}: a published entry, {entry['recipe']} trained on {entry['data']}\n")
    print(columns(facts, indent="  "))


def _print_info(name: str, recipe: dict[str, Any]) -> None:
    facts = [
        ("models", f"{recipe['modality']} ({recipe['task']})"),
        ("paper", recipe["paper"]),
        ("data", f"{recipe['data']}, unless --data says otherwise"),
        ("budget", f"{recipe['minutes']:g} minutes in batches of {recipe['batch_size']}"),
    ]
    rows = [(f"--{p['name']}", _kind(p), _default(p)) for p in recipe["parameters"]]
    own_data = OWN_DATA.get(recipe["modality"], recipe["data"])
    print(f"{name}: {recipe['summary']}\n")
    print(columns(facts, indent="  "))
    print(f"\nParameters, with their defaults:\n{columns(rows, indent='  ')}")
    print(f"\nTrain it:\n  {PROG} train {name} --data {own_data} --minutes {recipe['minutes']:g}")


def _kind(parameter: dict[str, Any]) -> str:
    if "choices" in parameter:
        return "|".join(map(str, parameter["choices"]))
    return "HxWxC" if parameter["type"] == "shape" else parameter["type"].upper()


def _default(parameter: dict[str, Any]) -> str:
    default = parameter["default"]
    if default is None:
        return "drawn and recorded" if parameter["name"] == "seed" else "from the data"
    return str(default).lower() if parameter["type"] == "bool" else str(default)


# train ------------------------------------------------------------------------------------------


def _add_train(commands: Any, recipes: dict[str, dict[str, Any]], words: Sequence[str]) -> None:
    name = words[0] if words and words[0] not in ("-h", "--help") else None
    if name and name.startswith("-"):
        raise _UsageError(
            f"The recipe's name comes first, then its options: `{PROG} train NAME {name} ...`. "
            f"Received: {name!r}"
        )
    parser = commands.add_parser(
        "train",
        prog=f"{PROG} train {name or 'NAME'}",
        help="train a model on a data set, a folder or a file",
        description=_recipe(recipes, name)["summary"] if name else "Trains a model.",
        usage=f"{PROG} train {name or 'NAME'} [options]",
        epilog=None if name else f"`{PROG} train NAME --help` adds the recipe's own parameters.",
        allow_abbrev=False,
    )
    parser.add_argument("name", metavar="NAME", help=f"a recipe: {', '.join(recipes)}")
    _add_training_options(parser)
    if name:
        _add_parameters(parser, name, recipes[name])
    parser.set_defaults(run=_train)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("data and budget")
    group.add_argument("--data", metavar="NAME|PATH", help="default: the recipe's data set")
    group.add_argument(
        "--weights",
        metavar="PATH|ENTRY",
        help="begin with those of a run, a .keras file, a published entry or GPT-2's files",
    )
    group.add_argument("--epochs", type=_typed(*INT), help="stop after as many epochs")
    group.add_argument("--minutes", type=_typed(*FLOAT), help="stop by the clock")
    group.add_argument("--batch_size", type=_typed(*INT), help="default: the recipe's")
    group.add_argument(
        "--steps_per_epoch",
        type=_typed(*INT),
        help="batches that count as an epoch; default: all full ones",
    )
    held_out = group.add_mutually_exclusive_group()
    held_out.add_argument(
        "--validation_split",
        type=_typed(*FLOAT),
        default=0.0,
        metavar="SHARE",
        help="hold back this share of the data, 0.1 for a tenth, and validate on it",
    )
    held_out.add_argument(
        "--validate", action="store_true", help="validate on the data set's own validation part"
    )
    group.add_argument(
        "--value_range",
        nargs=2,
        type=_typed(*FLOAT),
        metavar=("LOW", "HIGH"),
        help="of floating-point images, if not 0 to 1",
    )
    group.add_argument(
        "--on_bad",
        type=_typed("raise or skip", str, ("raise", "skip")),
        default="raise",
        metavar="raise|skip",
        help="images of a folder that cannot be read: stop at them, or leave them out",
    )
    group.add_argument(
        "--run_dir",
        type=Path,
        metavar="PATH",
        help="the run folder to start or to continue; default: a new one below runs/",
    )


def _add_parameters(parser: argparse.ArgumentParser, name: str, recipe: dict[str, Any]) -> None:
    group = parser.add_argument_group(f"parameters of {name}")
    for parameter in recipe["parameters"]:
        what, parse = TYPES[parameter["type"]]
        choices = parameter.get("choices", ())
        if choices:
            what = f"one of {', '.join(map(str, choices))}"
        group.add_argument(
            f"--{parameter['name']}",
            dest=PARAMETER + parameter["name"],
            default=argparse.SUPPRESS,
            type=_typed(what, parse, choices),
            metavar=_kind(parameter),
            help=f"default: {_default(parameter)}".replace("%", "%%"),
        )


def _train(args: argparse.Namespace) -> None:
    from keras_genai import zoo
    from keras_genai.layers.lora import TUNING

    overrides = {
        key.removeprefix(PARAMETER): value
        for key, value in vars(args).items()
        if key.startswith(PARAMETER)
    }
    if tuning := [name for name in TUNING if name in overrides and not args.weights]:
        raise _UsageError(
            "Fine-tuning begins with a trained model: say with --weights which one. "
            f"Received: {' '.join(map(_option, tuning))} without --weights"
        )
    model = (
        _begun(args.name, args.weights, overrides)
        if args.weights
        else zoo.get(args.name, **overrides)
    )
    try:
        _fit(model, args)
    except KeyboardInterrupt:
        if model.run_dir:
            print(f"\nStopped. The same command with --run_dir {_quoted(model.run_dir)} goes on.")
        raise
    _print_results(model.run_dir, " --input PATH" if model.takes_images else "")


def _begun(name: str, weights: str, overrides: dict[str, Any]) -> Any:
    """A new model of the recipe `name` that has the weights of another one."""
    from keras_genai import zoo
    from keras_genai.zoo import loading

    model = zoo.load(weights, **overrides)
    if model.recipe != name:
        raise ValueError(
            f"These weights are of another recipe: `{PROG} train {model.recipe}` takes them. "
            f"Received: train {name} --weights {weights}"
        )
    # Without parameters `load` gives a run back as it was, its optimizer and epochs included.
    return loading.remade(model, {}) if model.progress.step else model


def _fit(model: Any, args: argparse.Namespace) -> None:
    x, validation = args.data, None
    value_range = args.value_range and tuple(args.value_range)
    if args.validate:
        x, validation = _parts(model, args, value_range)
    model.fit(
        x,
        batch_size=args.batch_size,
        steps_per_epoch=args.steps_per_epoch,
        epochs=args.epochs,
        minutes=args.minutes,
        validation_split=args.validation_split,
        validation_data=validation,
        value_range=value_range,
        on_bad=args.on_bad,
        run_dir=args.run_dir,
        # A progress bar is for people; a file gets a line an epoch.
        verbose="auto" if sys.stdout.isatty() else 2,
    )


def _parts(model: Any, args: argparse.Namespace, value_range: Any) -> tuple[Any, Any]:
    """The data set and its validation part."""
    from keras_genai import data, zoo

    name = args.data or zoo.info(args.name).data
    dataset = data.load(name, modality=model.modality, value_range=value_range, on_bad=args.on_bad)
    if dataset.validation is None:
        raise ValueError(
            "This data set has no validation part of its own: hold back some of it with "
            f"--validation_split 0.1 instead of --validate. Received: --data {name}"
        )
    return dataset, dataset.validation


def _print_results(folder: Path, options: str = "") -> None:
    samples = sorted(folder.glob("samples/epoch_*"))[-1:]
    files = [("Samples", path) for path in samples] + [
        ("Their history", folder / "samples.gif"),
        ("Losses", folder / "loss.png"),
    ]
    rows = [("Run folder", str(folder))] + [(what, str(p)) for what, p in files if p.exists()]
    print()
    print(columns([*rows, ("More samples", f"{PROG} generate {_quoted(folder)}{options}")]))


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))


# generate ---------------------------------------------------------------------------------------


def _add_generate(commands: Any) -> None:
    words = "draw images, change images, write text or recommend with a trained model"
    parser = commands.add_parser("generate", help=words, description=words, allow_abbrev=False)
    parser.add_argument(
        "path", metavar="PATH", help="a run folder, a .keras file or a published entry"
    )
    parser.add_argument("-o", "--output", type=Path, metavar="FILE",
                        help="images: .png or .npz (default: grid.png); others: .txt")  # fmt: skip
    parser.add_argument("--seed", type=_typed(*INT), help="same seed, same samples")
    images = parser.add_argument_group("models of images")
    images.add_argument("-n", type=_typed(*INT), help="how many images, 16 by default")
    images.add_argument("--labels", type=_typed("class numbers, such as 3,3,7", _parse_labels),
                        metavar="N,N", help="of models that take labels: one for each image, or "
                        "one for all")  # fmt: skip
    images.add_argument("--input", type=Path, metavar="FILE|FOLDER",
                        help="of models that make images of images: an image, a folder of images, "
                        "or an array in .npy or .npz")  # fmt: skip
    texts = parser.add_argument_group("models of text")
    texts.add_argument("--prompt", action="append", metavar="TEXT",
                       help="what to continue, or a text with [MASK] "
                       "to fill; may be given several times; $'a\\n' for a line break in most "
                       "shells")  # fmt: skip
    texts.add_argument("--max_length", type=_typed(*INT), help="characters, or tokens of another "
                       "tokenizer, prompt included; default: 200")  # fmt: skip
    texts.add_argument("--temperature", type=_typed(*FLOAT), help="0 takes the likeliest always; "
                       "default: 1, of gaps 0")  # fmt: skip
    texts.add_argument("--top_k", type=_typed(*INT), help="draw from as many likeliest tokens")
    texts.add_argument("--top_p", type=_typed(*FLOAT),
                       help="draw from the likeliest tokens of this probability")  # fmt: skip
    texts.add_argument("--repetition_penalty", type=_typed(*FLOAT), help="above 1 repeats less")
    texts.add_argument("--num_beams", type=_typed(*INT), help="look for the likeliest text")
    texts.add_argument("--num_steps", type=_typed(*INT), help="of models that fill gaps: steps in "
                       "which a window is filled")  # fmt: skip
    texts.add_argument("--stop", action="append", metavar="TEXT",
                       help="end before this, in most shells $'\\n' for a line break; may be given "
                       "several times")  # fmt: skip
    ratings = parser.add_argument_group("recommenders")
    ratings.add_argument("--history", action="append", metavar="ID,ID",
                         help="items that a user likes; may be given several times")  # fmt: skip
    ratings.add_argument("-k", type=_typed(*INT), help="how many items, 10 by default")
    parser.set_defaults(run=_generate)


def _generate(args: argparse.Namespace) -> None:
    from keras_genai import zoo

    options = {
        "image": (_write_images, ("n", "labels")),
        "transform": (_write_images, ("input",)),
        "text": (_write_texts, ("prompt", *WRITING)),
        "ratings": (_write_recommendations, ("history", "k")),
    }
    model = zoo.load(args.path)
    kind = "transform" if model.takes_images else model.modality
    write, known = options[kind]
    taken = inspect.signature(model.generate).parameters  # of the ways to write, a model's own
    names = [name for name in known if name not in WRITING or name in taken]
    others = [name for _, theirs in options.values() for name in theirs if name not in names]
    _refuse_options(args, model, others)
    write(model, args)


def _refuse_options(args: argparse.Namespace, model: Any, names: Sequence[str]) -> None:
    given = [name for name in names if getattr(args, name) is not None]
    if given:
        raise _UsageError(
            f"This model of {plural(model.modality)} takes none of "
            f"{', '.join(map(_option, names))}; leave it out. "
            f"Received: {' '.join(map(_option, given))} for {args.path}"
        )


def _free(name: str) -> Path:
    """The path of this name, or with the first number behind it that no file has."""
    path, number = Path(name), 1
    while path.exists():
        number += 1
        path = Path(name).with_stem(f"{Path(name).stem}_{number}")
    return path


def _option(name: str) -> str:
    return f"-{name}" if len(name) == 1 else f"--{name}"


def _write_images(model: Any, args: argparse.Namespace) -> None:
    import numpy as np

    from keras_genai import pictures
    from keras_genai._files import atomic
    from keras_genai._provenance import generated_by

    output = args.output or _free("grid.png")
    suffix = output.suffix.lower()
    if suffix not in (*pictures.LABELLED, ".npz"):
        raise _UsageError(
            f"Images go into a file ending in {', '.join(pictures.LABELLED)} (a grid) or .npz (the "
            f"array), which can say that they are generated. Received: -o {output}"
        )
    given = _input(model, args) if model.takes_images else None
    seed = model.seed_for(args.seed)
    about = generated_by(args.path, seed)
    if given is None:
        images = model.generate(args.n, labels=args.labels, seed=seed)
    else:
        images = model.generate(given, seed=seed)
        about["Input"] = str(args.input)
    if args.labels is not None:
        about["Labels"] = str(args.labels)
    if suffix == ".npz":
        with atomic(output) as temporary:
            np.savez(temporary, images=images, generated=json.dumps(about))
    elif images.ndim == 3:
        pictures.save_image(output, images, min_width=1, about=about)
    else:
        pictures.save_image(output, pictures.grid(images), about=about)
    print(output)


def _input(model: Any, args: argparse.Namespace) -> Any:
    """The images that `--input` names, at the model's size: uint8 (N, H, W, C), or (H, W, C)."""
    from keras_genai import data
    from keras_genai.data.folder import SUFFIXES, UnreadableImage, read_image

    if args.input is None:
        raise _UsageError(
            "This model makes images of images: name a file or a folder with --input. "
            f"Received: no --input for {args.path}"
        )
    if not args.input.expanduser().exists():
        raise _UsageError(
            "--input takes a file or a folder of images, not the name of a data set, and there is "
            f"none here of this name. Received: --input {args.input}"
        )
    if args.input.suffix.lower() not in SUFFIXES or not args.input.is_file():
        parts = data.load(args.input, modality="image", image_shape=model.image_shape)
        return parts.train.arrays()["image"]
    try:
        return read_image(str(args.input), model.image_shape)
    except UnreadableImage as error:
        raise _UsageError(
            f"This image cannot be read ({error}): take another copy. Received: {args.input}"
        ) from error


def _write_texts(model: Any, args: argparse.Namespace) -> None:
    from keras_genai.tokenizers import MASK

    _check_text_output(args)
    options = {name: getattr(args, name) for name in WRITING}
    options = {name: value for name, value in options.items() if value is not None}
    prompts = [args.prompt] if args.prompt else []  # without, the model has its own
    seed = model.seed_for(args.seed)
    fills = hasattr(model, "fill") and any(MASK in prompt for prompt in args.prompt or ())
    write = model.fill if fills else model.generate
    if others := [name for name in options if name not in inspect.signature(write).parameters]:
        raise _UsageError(
            f"A text with {MASK} is filled, which takes none of {', '.join(map(_option, others))}. "
            f"Received: {' '.join(map(_option, others))} for {args.path}"
        )
    texts = write(*prompts, **options, seed=seed)
    text = texts if isinstance(texts, str) else BETWEEN_TEXTS.join(texts)
    _write_text(text, args, seed, {"Prompts": args.prompt, **options})


def _write_text(text: str, args: argparse.Namespace, seed: int, about: dict[str, Any]) -> None:
    """Writes a text to the file that was asked for, with what it is beside it, or shows it."""
    from keras_genai._files import write_text
    from keras_genai._provenance import generated_by

    if args.output:
        write_text(args.output, text + "\n")
        # A text has no place for it that is not text.
        about = {**generated_by(args.path, seed), **about}
        write_text(args.output.with_name(f"{args.output.name}.json"), json.dumps(about) + "\n")
        print(args.output)
    else:
        print(text)


def _write_recommendations(model: Any, args: argparse.Namespace) -> None:
    _check_text_output(args)
    seed = model.seed_for(args.seed)
    if args.history is None:
        histories = model.draw_histories(1, seed)
    else:
        kind = type(model.item_ids[0])  # the ids of a catalogue are all numbers or all strings
        parse = _typed(f"ids of items, such as {model.item_ids[0]}", kind)
        try:
            histories = [[parse(word.strip()) for word in ids.split(",")] for ids in args.history]
        except argparse.ArgumentTypeError as error:
            raise _UsageError(str(error)) from None
    text = "\n".join(model.lines(histories, args.k))
    _write_text(text, args, seed, {"Histories": args.history})


def _check_text_output(args: argparse.Namespace) -> None:
    if args.output and args.output.suffix.lower() != ".txt":
        raise _UsageError(f"Text goes into a file ending in .txt. Received: -o {args.output}")


# measure ----------------------------------------------------------------------------------------


def _add_measure(commands: Any) -> None:
    words = "measure a trained model: a table, metrics.json and a picture"
    parser = commands.add_parser(
        "measure",
        help=words,
        description=f"{words}. Samples are compared with the test part of the data, else with what "
        "--validation_split or the data hold back; of data in one part with all of it, which the "
        "model has been trained on.",
        allow_abbrev=False,
    )
    parser.add_argument("path", metavar="RUN", type=Path, help="a run folder or a .keras file")
    parser.add_argument("--data", metavar="NAME|PATH", help="default: what the run was trained on")
    parser.add_argument("--samples", type=_typed(*INT), metavar="N",
                        help="default: 10000 images, 100 texts or all users")  # fmt: skip
    parser.add_argument("--metrics", metavar="NAME,NAME", help="default: all that apply")
    parser.add_argument("--features", metavar="NAME", help="what distances look at, such as mnist")
    parser.add_argument("--seed", type=_typed(*INT), default=0, help="of the samples; default: 0")
    parser.set_defaults(run=_measure)


def _measure(args: argparse.Namespace) -> None:
    from keras_genai import measure, zoo
    from keras_genai._files import write_text
    from keras_genai.zoo import loading, published

    model = zoo.load(args.path)
    if not args.path.exists() or (args.path / published.ENTRY).exists():
        raise _UsageError(
            "A published entry is measured already, as its card says, and `keras-genai reproduce` "
            "does so anew. Measure a run folder or a .keras file, or in Python "
            f"`measure(zoo.load(name), data)`. Received: {str(args.path)!r}"
        )
    folder = args.path if args.path.is_dir() else args.path.parent
    # Another file of a model does not speak for the run whose folder it lies in.
    is_run = args.path == folder or args.path.name == loading.CHECKPOINT
    prefix = "" if is_run else f"{args.path.stem}."
    checkpoint = folder / loading.CHECKPOINT if is_run else args.path
    table = measure(
        model,
        _held_out(args, model, folder),
        metrics=args.metrics and args.metrics.split(","),
        num_samples=args.samples,
        seed=args.seed,
        features=args.features,
    )
    print(table)
    place = _place(folder, prefix, checkpoint, table)
    numbers = folder / f"{prefix}metrics{place}.json"
    picture = folder / f"{prefix}measure{place}.png"
    write_text(numbers, table.to_json())
    picture = table.save_picture(picture)
    print(columns([("Numbers", str(numbers)), ("Picture", str(picture))]))


def _place(folder: Path, prefix: str, checkpoint: Path, table: Any) -> str:
    """What stands before the suffix of the files: nothing, or a number where another one stays."""
    path = folder / f"{prefix}metrics.json"
    if not path.exists() or path.stat().st_mtime < checkpoint.stat().st_mtime:
        return ""  # none, or one of an earlier state of the model
    if _covers(table.to_dict(), json.loads(path.read_text("utf-8"))):
        return ""
    free = 2
    while (folder / f"{prefix}metrics.{free}.json").exists():
        free += 1
    print(
        f"{path} stays, of other data, features or metrics or of more samples: it is what "
        "`publish` reads. Remove it beforehand if it is not to count."
    )
    return f".{free}"


def _covers(new: dict[str, Any], old: dict[str, Any]) -> bool:
    """Whether a measurement has all that an earlier one has, of as many samples or more."""
    if any(key not in old for key in ("data_fingerprint", "num_samples")):
        return True  # of an early version, which `publish` does not take
    before, after = ({(row["name"], row["features"]) for row in t["metrics"]} for t in (old, new))
    return (
        new["data_fingerprint"] == old["data_fingerprint"]
        and new["num_samples"] >= old["num_samples"]
        and before <= after
    )


def _held_out(args: argparse.Namespace, model: Any, folder: Path) -> Any:
    """The data named, or those of the run, divided as for its training."""
    from keras_genai._log import warn
    from keras_genai.zoo import loading

    path = folder / "config.json"
    config = json.loads(path.read_text("utf-8")) if path.exists() else {}
    data = args.data or loading.data_of(config)
    if data is None:
        raise _UsageError(
            "Only a run folder says what a model was trained on: name data with --data. "
            f"Received: {str(args.path)!r}, without a config.json beside it"
        )
    parts = model.open_data(data, validation_split=config.get("validation_split") or 0.0)
    found, wanted = parts.train.fingerprint, config.get("data_fingerprint")
    if found == wanted:
        if parts.test is None and parts.validation is None:
            warn(f"these are the very {plural(model.modality)} that the run was trained on.")
        return parts
    if args.data is None:
        raise _UsageError(
            "These are not the data that the run was trained on, or they have changed since: say "
            f"with --data where those are, or against which to measure. Received: {data!r} with "
            f"the fingerprint {found}, where the run has {wanted}"
        )
    if wanted is not None:
        warn("these are not the data that the run was trained on: they are not divided as those.")
    return data


# publish and reproduce --------------------------------------------------------------------------


def _add_publish(commands: Any) -> None:
    words = "make a measured run an entry of the catalogue"
    parser = commands.add_parser("publish", help=words, description=words, allow_abbrev=False)
    add = parser.add_argument
    add("runs", nargs="+", metavar="RUN", help="the run to publish; others, for the spread")
    add("--tag", required=True, help="the entry is called RECIPE.TAG; as a rule the data set")
    add("--zoo", type=Path, metavar="PATH",
        help="the catalogue; default: $KERAS_GENAI_ZOO, else zoo in the checkout")  # fmt: skip
    add("--data", metavar="PATH", help="what it was trained on, if a file or folder")
    add("--licence", help="of the data, if it is not a set the package knows")
    add("--credit", help="who made the data")
    add("--limits", default="", metavar="TEXT", help="for the card: what the model cannot do")
    add("--reference", nargs=3, action="append", default=[], help="to compare a metric with",
        metavar=("METRIC", "VALUE", "SOURCE"))  # fmt: skip
    add("--overwrite", action="store_true", help="replace an entry of this name")
    parser.set_defaults(run=_publish)


def _publish(args: argparse.Namespace) -> None:
    from keras_genai import zoo

    number = _typed("a number after --reference METRIC", float)
    try:
        references = [(name, number(value), source) for name, value, source in args.reference]
    except argparse.ArgumentTypeError as error:
        raise _UsageError(str(error)) from None
    folder = zoo.publish(
        args.runs,
        args.tag,
        catalogue=args.zoo,
        data=args.data,
        licence=args.licence,
        credit=args.credit,
        limits=args.limits,
        references=references,
        overwrite=args.overwrite,
    )
    print(folder)


def _add_reproduce(commands: Any) -> None:
    words = "train a published entry again and compare the numbers"
    parser = commands.add_parser("reproduce", help=words, description=words, allow_abbrev=False)
    parser.add_argument("entry", metavar="ENTRY", help="its name, such as dcgan.mnist")
    parser.add_argument(
        "--data", metavar="PATH", help="what it was trained on, if a file or folder"
    )
    parser.add_argument("--run_dir", type=Path, metavar="PATH",
                        help="the run folder to start or to continue")  # fmt: skip
    parser.set_defaults(run=_reproduce)


def _reproduce(args: argparse.Namespace) -> int:
    from keras_genai import zoo

    folder, rows = zoo.reproduce(args.entry, data=args.data, run_dir=args.run_dir)
    cells = [
        (
            row["name"],
            number(row["published"], 5),
            number(row["new"], 5),
            number(row["allowed"], 2),
            "yes" if row["within"] else "NO",
        )
        for row in rows
    ]
    print(columns([("METRIC", "PUBLISHED", "NEW", "MAY DIFFER BY", "WITHIN"), *cells]))
    within = all(row["within"] for row in rows)
    print(f"{args.entry} {'is' if within else 'is NOT'} reproduced: {folder}")
    return 0 if within else 1


# fetch ------------------------------------------------------------------------------------------


def _add_fetch(commands: Any) -> None:
    words = "download data sets of TensorFlow Datasets, for later use without a network"
    parser = commands.add_parser("fetch", help=words, description=words, allow_abbrev=False)
    parser.add_argument("names", nargs="+", metavar="NAME", help="such as mnist or cifar10")
    parser.set_defaults(run=_fetch)


def _fetch(args: argparse.Namespace) -> None:
    from keras_genai import data

    for name in args.names:
        if name in data.names():
            print(f"{name}: part of the package, nothing to fetch")
        else:
            print(f"{name}: {data.fetch(name)}")
