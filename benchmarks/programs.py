"""Python from models of text: how much of it parses, and how much of it does what it should.

First: a model that was trained on source code continues "def " at several temperatures. What counts
is the first function, up to the next line that begins in the first column, if there is one; a text
that ends within its function counts as failed. The share that `ast.parse` accepts is given, and for
comparison that of real functions of the test part, cut the same way and at the same length.

Second, with `--tasks`: of each task, a sentence in a comment line, `--samples` programs are
written at the temperature `--temperature` and run against the task's tests. The share of tasks
solved by one of k is pass@k (Chen et al., 2021). The file is JSON Lines as MBPP has it: text, code,
test_list. The programs run, so read `passes` first: each in a process of its own with 5 seconds,
1 GB and no files to write, but with the rights of the user. `documents` makes of such a file the
texts to train on.

    python benchmarks/programs.py runs/gpt/001
    python benchmarks/programs.py runs/gpt/002 --tasks mbpp.jsonl --samples 20
"""

import argparse
import ast
import json
import math
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

TEMPERATURES = (0.2, 0.5, 0.8, 1.0, 1.2)
PROMPT, LENGTH = "\n\ndef ", 200  # tokens
SECONDS, BYTES = 5, 2**30


def first_function(text):
    """The first function of a text that begins with "def", or None where it does not end."""
    lines = text.split("\n")
    for i, line in enumerate(lines[1:], 1):
        if line and not line[0].isspace() and not line.startswith((")", "#")):
            return "\n".join(lines[:i])
    return None


def parses(function):
    """Whether it is Python."""
    try:
        ast.parse(function or "(")
    except (SyntaxError, ValueError):
        return False
    return True


def share(flags):
    """As a percentage ± its standard error."""
    p = sum(flags) / len(flags)
    return f"{100 * p:.1f} ± {100 * math.sqrt(p * (1 - p) / len(flags)):.1f} %"


def functions(model, n, temperature):
    """`n` texts from "def" on."""
    texts = model.generate([PROMPT] * n, max_length=LENGTH, temperature=temperature, seed=0)
    return [first_function(text.lstrip("\n")) for text in texts]


def real_functions(model, n):
    """Of the test part, as many characters as a sample has at most."""
    from keras_genai import data

    found = []
    for document in data.load("stdlib").test.documents:
        for part in document.split("\n\ndef ")[1:]:
            ids = model.codec.encode(f"{PROMPT}{part}")[:LENGTH]
            found.append(first_function(model.codec.decode(ids).lstrip("\n")))
    return found[:n]


def passes(program, tests):
    """Whether the tests of a task hold, in a process that may take little of anything."""

    def limit():
        resource.setrlimit(resource.RLIMIT_CPU, (SECONDS, SECONDS))
        resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))

    code = "\n".join([program, *tests])
    with tempfile.TemporaryDirectory() as folder:
        try:
            done = subprocess.run([sys.executable, "-I", "-c", code], cwd=folder, env={},
                                  preexec_fn=limit, timeout=2 * SECONDS, check=False,
                                  stdin=subprocess.DEVNULL, capture_output=True)  # fmt: skip
        except (subprocess.TimeoutExpired, ValueError):  # a zero byte is no argument
            return False
    return done.returncode == 0


def prompt_of(task):
    """What a program for a task begins with."""
    return f"# {task['text']}\n"


def documents(path):
    """Texts to train on, one for each task of a file: the prompt and the program.

    >>> zoo.load("gpt.stdlib", learning_rate=1e-3).fit(documents("train.jsonl"))
    """
    tasks = map(json.loads, Path(path).read_text("utf-8").splitlines())
    return [prompt_of(task) + task["code"].replace("\r", "") for task in tasks]


def solve(model, tasks, n, temperature):
    """How many of the `n` programs for each task pass."""
    passed = []
    for i, task in enumerate(tasks):
        prompt = prompt_of(task)
        texts = model.generate([prompt] * n, max_length=len(model.codec.encode(prompt)) + LENGTH,
                               temperature=temperature, seed=i)  # fmt: skip
        good = [parses(text) and passes(text, task["test_list"]) for text in texts]
        passed.append(sum(good))
        if any(good):
            print(f"solved: {task['text']}\n{texts[good.index(True)]}\n", flush=True)
    return passed


def main():
    """Parses the command line."""
    from keras_genai import metrics, zoo

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="a run folder, a .keras file or an entry")
    parser.add_argument("--samples", type=int, default=100, help="texts of each kind")
    parser.add_argument("--tasks", type=Path, metavar="PATH", help="JSON Lines: text, test_list")
    parser.add_argument("--temperature", type=float, default=0.5, help="of the tasks' programs")
    args = parser.parse_args()
    model, n = zoo.load(args.model), args.samples
    if not args.tasks:
        print("| temperature | ended and parsed | parsed, of those that ended |\n|---|---|---|")
        for temperature in (*TEMPERATURES, "real functions"):
            real = isinstance(temperature, str)
            found = real_functions(model, n) if real else functions(model, n, temperature)
            ended = [parses(function) for function in found if function is not None]
            print(f"| {temperature} | {share([*map(parses, found)])} "
                  f"| {share(ended) if ended else '-'} |", flush=True)  # fmt: skip
        return
    tasks = [json.loads(line) for line in args.tasks.read_text("utf-8").splitlines()]
    passed = solve(model, tasks, n, args.temperature)
    for k in sorted({1, min(10, n), n}):
        print(f"pass@{k}: {100 * metrics.pass_at_k(passed, n, k).mean():.2f} % "
              f"of {len(tasks)} tasks, {n} programs each")  # fmt: skip


if __name__ == "__main__":
    main()
