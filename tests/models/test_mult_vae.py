"""What is special to recommenders: likelihood, annealing, no leaks, lists of the user's own ids."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from contract_data import ratings, tiny

from keras_genai import data, measure, pictures, zoo
from keras_genai.models.recommend import mult_vae


def built(**options):
    model = tiny("mult_vae", **options)
    model.settle(ratings())
    return model


def test_multinomial_nll_is_that_of_numpy():
    rng = np.random.default_rng(0)
    x, logits = rng.integers(0, 2, (3, 7)).astype(float), 5 * rng.normal(size=(3, 7))
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    expected = [-np.log(np.prod(row**times)) for row, times in zip(p, x, strict=True)]
    got = mult_vae.multinomial_nll(tf.constant(x), tf.constant(logits))
    np.testing.assert_allclose(got, expected, rtol=1e-10)


def test_the_networks_are_those_of_the_paper():
    """Of the normalised history, through one hidden layer of tanh on each side; half is dropped."""
    model, x = built(), ratings(5).astype("float32")
    w1, b1, w_mu, b_mu, w_var, b_var = model.encoder.get_weights()
    hidden = np.tanh(x / np.sqrt(x.sum(1, keepdims=True)) @ w1 + b1)
    mu, log_var = model.encoder(x)
    np.testing.assert_allclose(mu, hidden @ w_mu + b_mu, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(log_var, hidden @ w_var + b_var, rtol=1e-4, atol=1e-6)
    w1, b1, w2, b2 = model.decoder.get_weights()
    logits = np.tanh(mu @ w1 + b1) @ w2 + b2
    np.testing.assert_allclose(model(x), logits, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(model.score(x > 0), model(x))
    drops = [
        layer.rate for layer in model.encoder.layers if isinstance(layer, keras.layers.Dropout)
    ]
    assert drops == [0.5]
    assert np.abs(model.encoder(x, training=True)[0] - mu).max() > 1e-3
    *_, divided = (layer for layer in model.encoder.layers if "normalization" in layer.name)
    seen = keras.Model(model.encoder.input, divided.output)(x, training=True).numpy()
    left = x * (seen > 0)  # what is left has the length 1, whatever was dropped
    assert 0.3 < left.sum() / x.sum() < 0.7
    np.testing.assert_allclose(seen, left / np.sqrt(left.sum(1, keepdims=True)), rtol=1e-5)

    model = built(linear=True)
    w_mu, b_mu, _, _, w, b = (*model.encoder.get_weights(), *model.decoder.get_weights())
    logits = (x / np.sqrt(x.sum(1, keepdims=True)) @ w_mu + b_mu) @ w + b
    np.testing.assert_allclose(model(x), logits, rtol=1e-4, atol=1e-6)


def test_beta_grows_to_its_end_and_stays():
    steps = np.array([0, 1, 5, 10, 11, 1000])
    betas = [float(mult_vae.annealed(0.2, step, 10)) for step in steps]
    np.testing.assert_allclose(betas, [0, 0.02, 0.1, 0.2, 0.2, 0.2], rtol=1e-6)
    model = built(anneal_steps=4)
    losses = []
    for _ in range(6):
        model.reset_metrics()
        batch = {"user_items": tf.constant(ratings(8))}
        losses.append({name: float(value) for name, value in model.train_step(batch).items()})
    weights = [(v["loss"] - v["reconstruction"]) / v["kl"] for v in losses]
    np.testing.assert_allclose(weights, [0, 0.05, 0.1, 0.15, 0.2, 0.2], atol=1e-3)
    assert int(model.updates) == 6


def test_a_step_follows_the_gradient_of_the_bound(monkeypatch):
    """In both networks, with the noise that the model draws."""
    model = tiny("mult_vae", dropout=0.0, beta=0.5, anneal_steps=1)
    model.compile(keras.optimizers.SGD(1e-3))
    model.settle(ratings())
    model.updates.assign(5)
    monkeypatch.setattr(model, "normal", lambda shape: eps)
    x = ratings(8)
    eps = tf.constant(np.random.default_rng(0).normal(size=(8, 4)).astype("float32"))
    variables = model.trainable_variables
    before = [v.numpy() for v in variables]
    with tf.GradientTape() as tape:
        mu, log_var = model.encoder(x.astype("float32"))
        z = mu + tf.exp(log_var / 2) * eps
        log_p = tf.math.log(tf.nn.softmax(model.decoder(z)))
        kl = 0.5 * tf.reduce_sum(mu**2 + tf.exp(log_var) - log_var - 1, 1)
        loss = tf.reduce_mean(-tf.reduce_sum(x * log_p, 1) + 0.5 * kl)
    gradients = tape.gradient(loss, variables)
    logs = model.train_step({"user_items": tf.constant(x)})
    assert float(logs["loss"]) == pytest.approx(float(loss), rel=1e-5)
    for variable, start, gradient in zip(variables, before, gradients, strict=True):
        moved = (start - variable.numpy()) / 1e-3
        np.testing.assert_allclose(moved, gradient, rtol=1e-2, atol=1e-3, err_msg=variable.path)


def test_targets_do_not_leak_into_what_the_model_is_shown(monkeypatch):
    """Other targets change what is asked for, never the input; training sees both parts."""
    model = built()
    rows = data.load(ratings(), modality="ratings").test.arrays()["user_items"]
    seen, encode = [], model.encoder

    def spy(x):
        seen.append(x.numpy())
        return encode(x)

    monkeypatch.setattr(model, "encoder", spy)
    first = model.test_step({"user_items": tf.constant(rows)})["kl"]
    others = np.where(rows == 2, 0, rows)
    others[:, -1] = np.where(others[:, -1] == 1, 1, 2)
    model.reset_metrics()
    second = model.test_step({"user_items": tf.constant(others)})["kl"]
    assert float(first) == float(second)
    np.testing.assert_array_equal(seen[0], (rows == 1).astype("float32"))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(model.liked(tf.constant(rows)), (rows > 0).astype("float32"))


def test_evaluate_is_the_likelihood_of_the_targets_given_the_rest():
    model = built()
    rows = data.load(ratings(), modality="ratings").test.arrays()["user_items"]
    log_p = tf.nn.log_softmax(model.score(rows == 1)).numpy()
    expected = -(log_p * (rows == 2)).sum(1).mean()
    for size in (2, 5):  # the last batch of two has one user
        found = model.evaluate(ratings(), batch_size=size, verbose=0, return_dict=True)
        assert found["loss"] == found["reconstruction"] == pytest.approx(expected, rel=1e-5)


def test_recommendations_are_the_users_own_ids_in_the_order_of_their_scores():
    names = np.array([f"film {i}" for i in range(24)])
    user, item = np.nonzero(ratings())
    model = tiny("mult_vae")
    model.settle({"user": user, "item": names[item]})
    assert model.item_ids == json.loads(model.catalogue) == sorted(names)
    history = ["film 3", "film 7"]
    pairs = model.recommend(history, k=22, with_scores=True)
    ids, p = zip(*pairs, strict=True)
    assert [*ids] == model.recommend(history, k=22) and {*ids} == {*names} - {*history}
    assert sorted(p, reverse=True) == [*p]
    everything = model.recommend(history, k=24, exclude_seen=False, with_scores=True)
    assert sum(share for _, share in everything) == pytest.approx(1, rel=1e-5)
    assert [pair for pair in everything if pair[0] not in history] == pairs
    both = model.recommend([history, np.array(["film 0"])], k=3)
    assert both[0] == [*ids[:3]] and len(both[1]) == 3
    assert model.recommend([], k=2) == model.recommend([[]], k=2)[0]  # what is known of nobody
    assert model.encode(model.vectors([history, []])).shape == (2, 4)


def test_what_cannot_be_recommended_is_refused():
    model = built()
    for k in (0, 23, 2.0):
        with pytest.raises(ValueError, match=rf"from 1 to 22.*2 are in a history.*k={k}$"):
            model.recommend([1, 2], k=k)
    with pytest.raises(ValueError, match=r"24 items, such as 0, without these.*: 99, '1'$"):
        model.recommend([1, 99, "1"])
    with pytest.raises(ValueError, match=r"are whole numbers, such as 0.*Received: '1', '2'$"):
        model.recommend(["1", "2"])
    with pytest.raises(ValueError, match=r"without these.*Received: \{1: 5.0\}$"):
        model.recommend([{1: 5.0}])
    with pytest.raises(ValueError, match=r"draw_histories.*Received: 3$"):
        model.generate(3)
    for bad in ("1,2", [[1], "2"], [[[1]]], {1: 5.0}, {1, 2}):
        with pytest.raises(ValueError, match=r"list of items' ids.*Received: "):
            model.recommend(bad)
    with pytest.raises(ValueError, match=r"rows \(N, 24\).*shape \(2, 5\)"):
        model.encode(np.ones((2, 5)))


def test_a_catalogue_of_three_items_has_a_preview():
    model = tiny("mult_vae")
    model.settle(data.load_ratings(np.ones((9, 3)), min_items=2, held_out=0))
    assert all(len(line.split(",")) == 2 for line in model.preview())  # of one item, the other two


def test_other_data_are_brought_to_the_catalogue_or_refused():
    model = built()
    user, item = np.nonzero(ratings()[:, ::2])
    source = data.load_ratings({"user": user, "item": 2 * item}, held_out=0).train
    assert len(source.item_ids) == 12
    wide = model.prepare(source)
    assert wide.catalogue == model.catalogue
    rows = wide.arrays()["user_items"]
    assert (rows[:, 1::2] == 0).all()
    np.testing.assert_array_equal(rows[:, ::2], source.arrays()["user_items"])
    with pytest.raises(ValueError, match=r"train on data that have them. Received: 24, 25"):
        model.prepare(data.load_ratings(np.ones((9, 26)), held_out=0).train)


def test_entries_of_a_row_stand_at_one_height():
    long = " ".join(["word"] * 20)  # of two lines
    left, right = (
        text.splitlines() for text in pictures.side_by_side([long, "a", "b"], ["c", long, ""])
    )
    assert [len(left[0]) <= 60, *left[2:]] == [True, "", "a", "", "", "b"]
    assert right[:3] == ["c", "", ""] and "\n".join(right[3:5]).split() == long.split()


def test_it_learns_tastes_and_is_measured_beside_popularity(tmp_path, capsys):
    """After ten epochs its lists are far better than the most popular items, on unseen users."""
    tastes = data.load("tastes")
    model = zoo.get("mult_vae", data=tastes, units=100, latent_dim=20, anneal_steps=50, seed=0)
    fresh = measure(model, tastes)
    model.fit(tastes, epochs=15, batch_size=50, run_dir=False, verbose=0)
    assert f": {len(tastes.train)} users, " in capsys.readouterr().out
    table = measure(model, tastes)
    print(table)
    assert {row.samples for row in table} == {100} and {row.split for row in table} == {"test"}
    assert {row.features for row in table} == {"400 items"}
    for name in ("recall_at_20", "ndcg_at_100"):
        assert table[f"popularity_{name}"] == fresh[f"popularity_{name}"]
        assert fresh[name] < table[f"popularity_{name}"] < table[name] - 0.1
    table.save_picture(tmp_path / "measure.png")
    history = ["opera_01", "opera_04", "opera_09", "opera_12"]
    assert sum(item.startswith("opera") for item in model.recommend(history)) >= 8
    with pytest.raises(ValueError, match=r"Features are taken of images, not of users"):
        measure(model, tastes, features="mnist")
    with pytest.raises(ValueError, match=r"catalogue of at least 100 items. Received: 24"):
        measure(built(), ratings(), metrics=["ndcg_at_100"])
