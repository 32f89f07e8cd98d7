"""`mult_vae` beside popularity and EASE on a table of ratings, in five folds over the users.

A fixed sixth of the users is for choices alone: on them EASE's lambda is chosen in each fold, and
nothing is measured. The other users are the folds: each fold in turn is tested, and the others are
trained on. A tested user's fold-in items are shown to the models, which rank all others of the
training users' catalogue; the targets should come first. Differences between two models are of the
same users, so that their standard errors leave out by how much users differ.

    python benchmarks/recommend.py --ratings ml-latest-small/ratings.csv

MovieLens is at https://grouplens.org/datasets/movielens/. The page `recommend.md` is written anew.
"""

import argparse
import math
import time
from pathlib import Path

import numpy as np

METRICS = {"Recall@20": ("recall", 20), "Recall@50": ("recall", 50), "NDCG@100": ("ndcg", 100)}
CHOSEN_BY = "NDCG@100"
LAMBDAS = (10, 30, 100, 300, 1000, 3000)
FOLDS, EPOCHS = 5, 80
# Of `mult_vae`, and its epochs: what was best for the users to choose by.
ARGUMENTS = {"linear": True, "learning_rate": 3e-3, "anneal_steps": 200}
PAGE = Path(__file__).with_suffix(".md")


def folds(num_users, seed=0):
    """Numbers of users to train on, to choose by and to test on, for each fold."""
    order = np.random.default_rng(seed).permutation(num_users)
    chosen_by, *parts = np.split(order, [num_users // 6 + i * (num_users - num_users // 6) // FOLDS
                                         for i in range(FOLDS)])  # fmt: skip
    for i, test in enumerate(parts):
        yield np.concatenate(parts[:i] + parts[i + 1 :]), chosen_by, test


def measured(scores, source):
    """Each metric of each user of a held-out part, from scores (U, I)."""
    from keras_genai import metrics

    ranked, targets = np.where(shown(source) > 0, -np.inf, scores), wanted(source) > 0
    functions = {"recall": metrics.recall_at_k, "ndcg": metrics.ndcg_at_k}
    return {name: functions[f](ranked, targets, k) for name, (f, k) in METRICS.items()}


def shown(source):
    """The fold-in parts, float64 (U, I)."""
    from keras_genai.data.ratings import FOLD_IN

    return (source.arrays()["user_items"] == FOLD_IN).astype("float64")


def wanted(source):
    """The target parts, float64 (U, I)."""
    from keras_genai.data.ratings import TARGET

    return (source.arrays()["user_items"] == TARGET).astype("float64")


def popularity(train, held):
    """Every user gets the same scores: how many training users like each item."""
    return np.broadcast_to(train.item_counts.astype("float64"), (len(held), len(train.item_ids)))


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


def best_ease(parts):
    """Scores for the test users, with the lambda that is best for the users to choose by."""
    held = parts.validation
    x = shown(parts.train) + wanted(parts.train)
    quality = {
        weight: measured(ease(x, shown(held), weight), held)[CHOSEN_BY].mean()
        for weight in LAMBDAS
    }  # fmt: skip
    weight = max(quality, key=quality.get)
    return ease(x, shown(parts.test), weight), weight


def mult_vae(parts, epochs, seed):
    """Scores for the test users, and a sentence of how many weights were trained and how long."""
    from keras_genai import zoo

    model, start = zoo.get("mult_vae", seed=seed, **ARGUMENTS), time.process_time()
    model.fit(parts.train, epochs=epochs, run_dir=False, verbose=0)
    seconds = time.process_time() - start
    cost = f"{model.count_params():,} weights, {seconds:.0f} s of processor time"
    return model.score(shown(parts.test)), cost


def compare(source, epochs):
    """Each model's metrics of each tested user, by model; EASE's lambdas; the last `cost`."""
    from keras_genai.data.ratings import divide

    found, weights = {}, []
    for i, (train, validation, test) in enumerate(folds(len(source))):
        parts = divide(source, train, validation, test)
        ease_scores, weight = best_ease(parts)
        weights.append(weight)
        mult_vae_scores, cost = mult_vae(parts, epochs, seed=i)
        scores = {
            "popularity": popularity(parts.train, parts.test),
            "EASE": ease_scores,
            "mult_vae": mult_vae_scores,
        }
        for name, values in scores.items():
            for metric, of_users in measured(values, parts.test).items():
                found.setdefault(name, {}).setdefault(metric, []).append(of_users)
            print(f"fold {i}, {name}: {found[name][CHOSEN_BY][-1].mean():.4f}", flush=True)
    joined = {
        name: {metric: np.concatenate(parts) for metric, parts in by_metric.items()}
        for name, by_metric in found.items()
    }
    return joined, weights, cost


def cell(values, sign=""):
    """Mean ± standard error over users."""
    error = values.std(ddof=1) / math.sqrt(len(values))
    return f"{values.mean():{sign}.4f} ± {error:.4f}"


def page(found, weights, cost, source, epochs):
    """The page, from each user's numbers."""
    from keras_genai import __version__
    from keras_genai.zoo.cards import table

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
        f"errors over the {users:,} tested users; the last rows are differences of the same users. "
        f"`mult_vae` has {arguments} and else its defaults, {epochs} epochs, one training a fold "
        f"(the last: {cost}); EASE has the lambda that was best for other users "
        f"({', '.join(map(str, weights))} in the folds). "
        f"keras_genai {__version__}.\n\n{table([('model', *METRICS), *rows])}\n"
    )


def main():
    """Parses the command line."""
    from keras_genai import data

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--ratings", type=Path, required=True, metavar="PATH",
                        help="CSV with userId, movieId, rating")  # fmt: skip
    parser.add_argument("--epochs", type=int, default=EPOCHS, help=f"default: {EPOCHS}")
    args = parser.parse_args()
    source = data.load_ratings(args.ratings, held_out=0).train
    text = page(*compare(source, args.epochs), source, args.epochs)
    PAGE.write_text(text, "utf-8")
    print(f"\n{PAGE}:\n\n{text}")


if __name__ == "__main__":
    main()
