"""Ratings: what is read, what is left out, and how users and their histories are divided."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf
from contract_data import ratings

from keras_genai import data
from keras_genai.data import DataError, load_ratings
from keras_genai.data.ratings import FOLD_IN, TARGET

# Users 1 to 3 like items 10 to 14 or 11 to 15; user 4 likes two, user 5 rates low.
TABLE = {
    "userId": [*[1] * 5, *[2] * 5, *[3] * 5, 4, 4, *[5] * 5],
    "movieId": [*range(10, 15), *range(11, 16), *range(10, 15), 10, 99, *range(10, 15)],
    "rating": [*[4.0] * 5, *[5.0] * 5, *[4.5] * 5, 4, 4, *[3.5] * 5],
}


def histories(source):
    """Users' ids to their items' ids."""
    rows = source.arrays()["user_items"] > 0
    return {
        user: source.item_ids[row].tolist()
        for user, row in zip(source.user_ids.tolist(), rows, strict=True)
    }


def test_a_table_becomes_the_histories_of_users_who_like_enough():
    whole = load_ratings(TABLE, held_out=0)
    assert whole.validation is None and whole.test is None
    expected = {1: [*range(10, 15)], 2: [*range(11, 16)], 3: [*range(10, 15)]}
    assert histories(whole.train) == expected
    assert json.loads(whole.train.catalogue) == [10, 11, 12, 13, 14, 15]
    assert whole.train.item_counts.tolist() == [2, 3, 3, 3, 3, 1]
    low = load_ratings(TABLE, held_out=0, threshold=3.5, min_items=2).train
    assert histories(low) == expected | {4: [10, 99], 5: [*range(10, 15)]}


def test_users_and_items_are_left_out_in_turn_until_all_have_enough():
    # Item 15 goes, then user 2 has four items, then items 11 to 14 have two users, as item 10.
    assert set(histories(load_ratings(TABLE, held_out=0, min_users=2).train)) == {1, 3}
    with pytest.raises(DataError, match=r"Nobody likes enough.*Received: 17 likes of 4 users"):
        load_ratings(TABLE, held_out=0, min_users=3)


def test_csv_tables_pairs_and_matrices_say_the_same(tmp_path):
    expected = histories(load_ratings(TABLE, held_out=0).train)
    rows = zip(*TABLE.values(), range(22), strict=True)
    lines = ["userId,movieId,rating,timestamp", *(",".join(map(str, row)) for row in rows)]
    (tmp_path / "liked.csv").write_text("\n".join(lines) + "\n")
    assert histories(load_ratings(tmp_path / "liked.csv", held_out=0).train) == expected
    pairs = {"user": TABLE["userId"][:15], "item": TABLE["movieId"][:15]}
    assert histories(load_ratings(pairs, held_out=0).train) == expected
    matrix = np.zeros((6, 100))
    matrix[TABLE["userId"], TABLE["movieId"]] = TABLE["rating"]
    row, col = np.nonzero(matrix)
    sparse = types.SimpleNamespace(row=row, col=col, data=matrix[row, col])
    sparse.tocoo = lambda: sparse  # what is used of SciPy's
    for given in (matrix, sparse):
        assert histories(load_ratings(given, held_out=0, threshold=4).train) == expected
    with pytest.raises(DataError, match=r"threshold=4\).*Received: values from 3.5 to 5$"):
        load_ratings(matrix)


def test_a_table_without_ratings_says_what_it_leaves_aside(tmp_path, capsys):
    pairs = {"user": TABLE["userId"], "item": TABLE["movieId"]}
    load_ratings(pairs)
    load_ratings({**TABLE, "timestamp": TABLE["rating"]})
    assert capsys.readouterr().out == ""
    header, *rows = zip(("user", *pairs["user"]), ("item", *pairs["item"]),
                        ("stars", *TABLE["rating"]), strict=True)  # fmt: skip
    lines = [",".join(map(str, row)) for row in (header, *rows)]
    (tmp_path / "starred.csv").write_text("\n".join(lines))
    for given in ({**pairs, "stars": TABLE["rating"]}, tmp_path / "starred.csv"):
        data.load(given, modality="ratings")
        assert capsys.readouterr().out == (
            "Warning: no column `rating`: each row counts as a like; not used: stars.\n"
        )


def test_ids_come_back_as_they_were(tmp_path):
    (tmp_path / "a.csv").write_text('item,user\n"tt 1, a",x\ntt2,x\n7,y\ntt2,y\n')
    source = load_ratings(tmp_path / "a.csv", min_items=2, held_out=0).train
    assert histories(source) == {"x": ["tt 1, a", "tt2"], "y": ["7", "tt2"]}


def test_held_out_users_are_in_no_other_part_and_all_parts_know_the_same_items():
    parts = data.load(ratings(60), modality="ratings")
    ids = [set(getattr(parts, part).user_ids) for part in ("train", "validation", "test")]
    assert [len(i) for i in ids] == [48, 6, 6] and len(set.union(*ids)) == 60
    table = {**TABLE, "rating": np.full(22, 4)}
    for seed in range(4):
        parts = load_ratings(table, held_out=0.25, seed=seed, min_items=2)
        catalogue = set(parts.train.item_ids.tolist())
        assert catalogue == set(sum(histories(parts.train).values(), []))
        for part in (parts.validation, parts.test):
            assert part.catalogue == parts.train.catalogue
            for user, items in histories(part).items():
                own = np.array(table["movieId"])[np.array(table["userId"]) == user]
                assert set(items) == {*own.tolist()} & catalogue


def test_a_fifth_of_each_history_is_target_and_the_division_is_a_function_of_the_seed():
    counts = [2, 5, 10, 23]
    pairs = {"user": np.repeat(range(4), counts), "item": np.concatenate([*map(np.arange, counts)])}
    rows = load_ratings(pairs, min_items=2, held_out=0).train.arrays()["user_items"]
    assert (rows == TARGET).sum(1).tolist() == [1, 1, 2, 4]
    assert ((rows == FOLD_IN) | (rows == TARGET)).sum(1).tolist() == counts
    again, other = (load_ratings(pairs, min_items=2, held_out=0, seed=s).train for s in (0, 1))
    np.testing.assert_array_equal(again.arrays()["user_items"], rows)
    assert (other.arrays()["user_items"] != rows).any()
    assert again.fingerprint != other.fingerprint


def test_batches_are_the_rows_of_the_whole_and_splits_share_the_catalogue():
    source = load_ratings(ratings(40), held_out=0).train
    rows = source.arrays()["user_items"]
    batch = source.gather(tf.constant([7, 3, 3], "int64"))["user_items"]
    assert batch.dtype == tf.uint8
    np.testing.assert_array_equal(batch, rows[[7, 3, 3]])
    train, validation = source.split(0.25, seed=0)
    assert (len(train), len(validation)) == (30, 10)
    assert set(train.user_ids).isdisjoint(validation.user_ids)
    assert train.catalogue == validation.catalogue == source.catalogue


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("userId,rating\n1,4\n", r"has a column of users.*Received: columns userId, rating$"),
        ("", r"Received: columns none$"),
        ("user,item,rating\n1,2,3\n1,2,good\n", r"read from CSV.*'good'.* row 2, column 3\. Rec"),
        ("user,item\n1\n", r"read from CSV"),
        ("user,item\n", r"Nobody likes enough"),
        (b"user,item\nJos\xe9,1\n", r"read from CSV, UTF-8"),
    ],
)
def test_tables_that_cannot_be_read_are_refused(tmp_path, content, message):
    path = tmp_path / "bad.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DataError, match=rf"(?s){message}.*") as error:
        data.load(path)
    assert "Received: " in str(error.value)


def test_what_is_no_table_is_refused():
    for bad, word in (
        ({"user": [1.5], "item": [1]}, "Ids of users"),
        ({"user": [1, 2], "item": [1]}, "one value a row"),
        ({"user": [1], "item": [1], "rating": [np.nan]}, "none of them NaN"),
        (np.zeros((2, 3, 4)), "a matrix"),
        (["a", "b"], "numbers"),
    ):
        with pytest.raises(DataError, match=rf"{word}.*Received: "):
            data.load(bad, modality="ratings")
    with pytest.raises(DataError, match=r"needs a column `rating`.*threshold=3"):
        load_ratings({"user": [1], "item": [1]}, threshold=3)
    for options in ({"min_items": 1}, {"min_users": 0}, {"held_out": 0.5}, {"held_out": -1}):
        with pytest.raises(DataError, match="Received: "):
            load_ratings(ratings(), **options)
    with pytest.raises(DataError, match=r"passed as `y` with arrays only"):
        data.load(TABLE, [1, 2])
    with pytest.raises(DataError, match=r"needs image data.*is ratings data"):
        data.load(TABLE, modality="image")


def test_tastes_are_skewed_and_of_few_genres():
    tastes = data.load("tastes")
    assert [len(p) for p in (tastes.train, tastes.validation, tastes.test)] == [800, 100, 100]
    assert tastes.train.fingerprint == "37f958d123d6"
    counts = np.sort(tastes.train.item_counts)[::-1]
    assert counts[:40].sum() > 3 * counts[-40:].sum()
    genres = np.array([item.split("_")[0] for item in tastes.train.item_ids])
    rows = tastes.train.arrays()["user_items"] > 0
    likes = np.stack([rows[:, genres == genre].sum(1) for genre in np.unique(genres)], 1)
    favourites = np.sort(likes, 1)[:, -2:].sum(1) / likes.sum(1)
    assert favourites.mean() > 0.7
