"""`mult_vae` beside popularity and EASE on a table of ratings, in five folds over the users.

Each fold in turn is tested, and the other users are trained on. A tested user's fold-in items are
shown to the models, which rank all others of the training users' catalogue; the targets should come
first. Numbers are each user's means over three draws of her targets. Differences between two models
are of the same users, so that their standard errors leave out by how much users differ.

What is chosen, EASE's lambda and the epochs of `mult_vae`, is chosen anew for each tested fold, by
the users of the other four: each of these folds is measured by models that were trained without it
and without the tested one. So nobody has a say in what she is tested with. A fixed sixth of the
users, by which earlier choices were made, is always trained on and never tested.

    python benchmarks/recommend.py --ratings ml-latest-small/ratings.csv

MovieLens is at https://grouplens.org/datasets/movielens/. The page `recommend.md` is written anew.
"""

import argparse
import functools
import itertools
import math
from pathlib import Path

import numpy as np

from keras_genai import __version__, data, zoo
from keras_genai.data.ratings import FOLD_IN, TARGET, divide
from keras_genai.metrics import ndcg_at_k, recall_at_k
from keras_genai.zoo.cards import table

METRICS = {
    "Recall@20": (recall_at_k, 20), "Recall@50": (recall_at_k, 50), "NDCG@100": (ndcg_at_k, 100)
}  # fmt: skip
CHOSEN_BY = "NDCG@100"
LAMBDAS = (30, 50, 70, 100, 150, 200, 300)
EPOCHS = (80, 120)
FOLDS, DRAWS = 5, 3
ARGUMENTS = {"linear": True, "learning_rate": 3e-3, "anneal_steps": 200}  # of `mult_vae`
PAGE = Path(__file__).with_suffix(".md")


def folds(num_users, seed=0):
    """Numbers of the users who are always trained on, and of each fold's."""
    order = np.random.default_rng(seed).permutation(num_users)
    kept = num_users // 6
    always, *parts = np.split(order, [kept + i * (num_users - kept) // FOLDS for i in range(FOLDS)])
    return always, parts


def without(draws, first, second=None):
    """The two folds as validation and test parts, all others to train on, for each draw."""
    always, parts = folds(len(draws[0]))
    second = first if second is None else second
    others = [part for i, part in enumerate(parts) if i not in (first, second)]
    train = np.concatenate([always, *others])
    return [divide(source, train, parts[first], parts[second]) for source in draws]


def measured(score, held):
    """Each metric of each user, the mean over the draws `held` of her targets.

    `score` takes what is shown of users, (N, I), and returns scores (N, I).
    """
    found = {name: [] for name in METRICS}
    for source in held:
        ranked = np.where(shown(source) > 0, -np.inf, score(shown(source)))
        for name, (metric, k) in METRICS.items():
            found[name].append(metric(ranked, wanted(source) > 0, k))
    return {name: np.mean(values, axis=0) for name, values in found.items()}


def shown(source):
    """The fold-in parts, float64 (U, I)."""
    return (source.arrays()["user_items"] == FOLD_IN).astype("float64")


def wanted(source):
    """The target parts, float64 (U, I)."""
    return (source.arrays()["user_items"] == TARGET).astype("float64")


def ease(x, history, weight):
    """Scores of EASE: Steck, 2019, https://arxiv.org/abs/1905.03375.

    The weights B, with a diagonal of 0, minimise |X - X B|^2 + lambda |B|^2. With
    P = (X'X + lambda I)^-1 they are B = I - P / diag(P), by columns (equation 8). There are fewer
    users than items, so P is taken from the smaller matrix X X':
    lambda P = I - X' (X X' + lambda I)^-1 X, and is never formed.

    Args:
        x: Training histories (U, I) of 0 and 1.
        history: Those to recommend for, (N, I).
        weight: lambda.

    Returns:
        float64 (N, I).
    """
    inner = np.linalg.solve(x @ x.T + weight * np.eye(len(x)), x)  # U I
    p_of_history = history - (history @ x.T) @ inner  # N I, times lambda
    diagonal = 1.0 - np.sum(x * inner, axis=0)  # I, times lambda
    return history - p_of_history / diagonal


def popularities(train, seed):
    """Yields the one setting there is: all get as scores how many training users like each item."""
    counts = train.item_counts.astype("float64")
    yield "", lambda history: np.broadcast_to(counts, history.shape)


def eases(train, seed):
    """Yields each lambda and its scores, as a function of what users are shown to like."""
    x = shown(train) + wanted(train)
    for weight in LAMBDAS:
        yield weight, functools.partial(ease, x, weight=weight)


def mult_vaes(train, seed):
    """Yields each number of epochs, and the scores that one training has got to by then."""
    model, done = zoo.get("mult_vae", seed=seed, **ARGUMENTS), 0
    for epochs in EPOCHS:
        model.fit(train, epochs=epochs - done, run_dir=False, verbose=0)
        done = epochs
        yield epochs, model.score


MODELS = {"popularity": popularities, "EASE": eases, "mult_vae": mult_vaes}


def chosen(draws, name):
    """For each fold the setting that is best for the users of the other folds."""
    quality = [{} for _ in range(FOLDS)]  # by setting, a list of arrays
    for first, second in itertools.combinations(range(FOLDS), 2):
        parts = without(draws, first, second)
        for setting, score in MODELS[name](parts[0].train, FOLDS * first + second):
            for tested, held in ((second, "validation"), (first, "test")):
                values = measured(score, [getattr(part, held) for part in parts])[CHOSEN_BY]
                quality[tested].setdefault(setting, []).append(values)
    means = [{s: np.concatenate(v).mean() for s, v in of_fold.items()} for of_fold in quality]
    for fold, of_fold in enumerate(means):
        print(f"{name}, not fold {fold}:", {s: f"{v:.4f}" for s, v in of_fold.items()}, flush=True)
    return [max(of_fold, key=of_fold.get) for of_fold in means]


def tested(draws, name, settings):
    """Each metric of each tested user, with the setting of her fold."""
    found = []
    for fold, setting in enumerate(settings):
        parts = without(draws, fold)
        scores = MODELS[name](parts[0].train, fold)
        score = next(score for candidate, score in scores if candidate == setting)
        found.append(measured(score, [part.test for part in parts]))
    return {metric: np.concatenate([users[metric] for users in found]) for metric in METRICS}


def compare(draws):
    """Each model's metrics of each tested user, and each fold's setting, by model."""
    settings = {name: chosen(draws, name) for name in MODELS}
    return {name: tested(draws, name, settings[name]) for name in MODELS}, settings


def cell(values, sign=""):
    """Mean ± standard error over users."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():{sign}.4f} ± {error:.4f}"


def page(found, settings, source):
    """The page, from each user's numbers."""
    users = len(found["mult_vae"][CHOSEN_BY])
    arguments = ", ".join(f"`{name}={value!r}`" for name, value in ARGUMENTS.items())
    rows = [(f"`{n}`" if n == "mult_vae" else n, *map(cell, m.values())) for n, m in found.items()]
    mine = found["mult_vae"]
    for name in ("popularity", "EASE"):
        differences = [mine[metric] - found[name][metric] for metric in METRICS]
        rows.append((f"`mult_vae` - {name}", *(cell(values, "+") for values in differences)))
    return (
        "# Recommenders, in five folds over users\n\n"
        f"Generated by `python benchmarks/recommend.py` from a table with the fingerprint "
        f"{source.fingerprint}: {len(source):,} users with at least five likes (ratings of 4 and "
        f"more), {len(source.item_ids):,} items, {len(source.items):,} likes. Means ± standard "
        f"errors over the {users:,} tested users, each the mean of {DRAWS} draws of her targets; "
        f"the last rows are differences of the same users. `mult_vae` has {arguments}, else its "
        f"defaults, and one training a fold. For each fold the users of the other four chose, by "
        f"{CHOSEN_BY}, EASE's lambda ({', '.join(map(str, settings['EASE']))}) and the epochs of "
        f"`mult_vae` ({', '.join(map(str, settings['mult_vae']))}). "
        f"keras_genai {__version__}.\n\n{table([('model', *METRICS), *rows])}\n"
    )


def main():
    """Parses the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=Path, required=True, metavar="PATH",
                        help="CSV with userId, movieId, rating")  # fmt: skip
    args = parser.parse_args()
    draws = [data.load_ratings(args.ratings, held_out=0, seed=i).train for i in range(DRAWS)]
    text = page(*compare(draws), draws[0])
    PAGE.write_text(text, "utf-8")
    print(f"\n{PAGE}:\n\n{text}")


if __name__ == "__main__":
    main()
