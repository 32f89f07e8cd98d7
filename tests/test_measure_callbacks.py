"""`Measure` and `QualityGate` in a training."""

import csv
import math

import numpy as np
import pytest
from contract_data import images, text, tiny

from keras_genai import data, measuring
from keras_genai.callbacks import Measure, QualityGate, measure


def brightness(x):
    """One feature an image and another."""
    return np.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], axis=1)


MEASURE = {"num_samples": 20, "features": brightness, "share": 1e9}
FIT = {"batch_size": 16, "validation_split": 0.5, "verbose": 0}


def test_metrics_are_written_into_history_and_file(tmp_path):
    model = tiny("gan")
    measures = Measure(every=2, metrics=("FD", "precision"), **MEASURE)
    history = model.fit(images(48), epochs=4, callbacks=[measures], run_dir=tmp_path, **FIT)
    assert len(history.history["val_FD"]) == 2  # epochs 2 and 4
    rows = list(csv.DictReader((tmp_path / "history.csv").open()))
    assert [bool(row["val_FD"]) for row in rows] == [False, True, False, True]
    # The last number is that of the model as it is now, on the held-out half.
    held = images(48)[24:]
    table = measuring.measure(model, held, ["FD"], num_samples=20, features=brightness)
    assert history.history["val_FD"][-1] == pytest.approx(table["FD"])


def test_real_images_are_looked_at_once():
    calls = []
    features = lambda x: calls.append(len(x)) or brightness(x)  # noqa: E731
    measures = Measure(**{**MEASURE, "features": features})
    tiny("gan").fit(images(48), epochs=3, callbacks=measures, run_dir=False, **FIT)
    assert sum(calls) == 20 + 3 * 20


def test_training_ends_in_the_same_bits():
    weights = []
    for callbacks in ([], [Measure(**MEASURE)]):
        model = tiny("gan")
        model.fit(images(48), epochs=2, callbacks=callbacks, run_dir=False, **FIT)
        weights.append(model.get_weights())
    for without, with_measures in zip(*weights, strict=True):
        np.testing.assert_array_equal(without, with_measures)


def test_the_cost_is_bounded():
    """After the first, a measurement waits until its share of the time has grown."""
    model = tiny("gan")
    dear = Measure(**{**MEASURE, "share": 1e-9})
    history = model.fit(images(48), epochs=3, callbacks=[dear], run_dir=False, **FIT)
    assert len(history.history["val_FD"]) == 1
    assert dear.seconds > 0


def test_it_says_when_it_measures_again(monkeypatch, capsys):
    """A measurement of 12 seconds after an epoch of 10: at most 10 % of 120 seconds."""
    clock = iter((0.0, 0.0, 10.0, 22.0, 22.0))
    monkeypatch.setattr(measure.time, "monotonic", lambda: next(clock))
    model = tiny("gan")
    model.settle(images())
    model.held_out = data.load(images()).train
    measures = Measure(every=3, metrics=("KD",), num_samples=20, features=brightness)
    measures.set_model(model)
    measures.on_train_begin()
    measures.on_epoch_begin(2)
    measures.on_epoch_end(2, {})
    assert (
        "in 12.0 s; at this pace again after epoch 15, for at most 10%" in capsys.readouterr().out
    )


def test_text_is_measured_in_bits():
    model = tiny("char_rnn")
    bits = Measure(metrics=("bits_per_character",), share=1e9)
    history = model.fit(
        text(0) + text(1), epochs=1, batch_size=16, validation_split=0.5, verbose=0,
        callbacks=bits, run_dir=False,
    )  # fmt: skip
    found = history.history["val_bits_per_character"][0]
    nats = history.history["val_loss"][0]  # the same windows, without the rest at the end
    assert found == pytest.approx(nats / math.log(2), rel=0.01)


def test_texts_too_short_to_measure_do_not_end_a_training(monkeypatch, capsys):
    """Those of an untrained model often are; in the second epoch they are long enough."""
    model = tiny("char_rnn")
    drawn = iter([["a mat"] * 9, text(2) * 9])
    monkeypatch.setattr(type(model), "sample_texts", lambda *_: next(drawn))
    variety = Measure(metrics=("distinct_2",), num_samples=9, share=1e9)
    history = model.fit(
        text(0) + text(1), epochs=2, batch_size=16, validation_split=0.5, verbose=0,
        callbacks=variety, run_dir=False,
    )  # fmt: skip
    assert len(history.history["val_distinct_2"]) == 1
    assert capsys.readouterr().out.count("Received: a text of 2 words") == 1


@pytest.mark.parametrize(("names", "times"), [(("FD", "KD"), 1), (("KD",), 0)])
def test_the_bias_of_few_images_is_mentioned_once(names, times, monkeypatch, capsys):
    model = tiny("gan")
    model.settle(images())
    model.held_out = data.load(images()).train
    monkeypatch.setattr(type(model), "generate", lambda self, n, **_: images(n, seed=1))
    measures = Measure(metrics=names, **MEASURE)
    measures.set_model(model)
    measures.on_train_begin()
    for epoch in range(2):
        measures.on_epoch_begin(epoch)
        measures.on_epoch_end(epoch, {})
    assert capsys.readouterr().out.count("or take KD") == times


@pytest.mark.parametrize(
    ("arguments", "fit", "message"),
    [
        ({}, {"validation_split": 0.0}, "needs validation data"),
        ({"metrics": ("FDD",)}, {}, "Did you mean 'FD'"),
        ({"metrics": ("copies",)}, {}, "training part"),
    ],
)
def test_what_cannot_be_measured_is_refused_before_training(arguments, fit, message):
    model = tiny("gan")
    with pytest.raises(ValueError, match=f"{message}.*Received: "):
        model.fit(
            images(48), epochs=1, run_dir=False,
            callbacks=Measure(**{**MEASURE, **arguments}), **{**FIT, **fit},
        )  # fmt: skip
    assert model.progress.step == 0


def test_a_cost_that_makes_no_sense_is_refused():
    with pytest.raises(ValueError, match="Received: every=0"):
        Measure(every=0)


class Script(Measure):
    """Writes numbers that are known beforehand."""

    def __init__(self, values, name="val_FD"):
        super().__init__()
        self.values, self.name = values, name

    def on_train_begin(self, logs=None):
        pass

    def on_epoch_end(self, epoch, logs=None):
        if self.values[epoch] is not None:
            logs[self.name] = self.values[epoch]


@pytest.mark.parametrize(
    ("name", "values", "gate", "epochs", "accepted"),
    [
        ("val_FD", [9, 5, 3, 1], {"better_than": 4}, 3, True),
        ("val_FD", [9, None, 3, 1], {"better_than": 4}, 3, True),
        ("val_FD", [9, 5, 6, 7], {"better_than": 4, "patience": 2}, 4, False),
        ("val_FD", [9, 5, 6, 7], {"better_than": 4, "patience": 1}, 3, False),
        ("val_precision", [0.1, 0.3, 0.6, 0.9], {"better_than": 0.5}, 3, True),
        ("val_acc", [0.1, 0.6, 0.9, 0.9], {"better_than": 0.5, "higher_is_better": True}, 2, True),
        ("val_precision", [0.4, 0.3, 0.2, 0.9], {"better_than": 0.5, "patience": 2}, 3, False),
    ],
)
def test_the_gate(name, values, gate, epochs, accepted):
    model, judge = tiny("gan"), QualityGate(name, **gate)
    model.fit(
        images(16), epochs=4, batch_size=16, verbose=0, run_dir=False,
        callbacks=[judge, Script(values, name)],
    )  # fmt: skip
    assert (model.progress.epoch, judge.accepted) == (epochs, accepted)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("val_FDD", "Did you mean 'val_FD'"),
        ("val_accuracy", "higher_is_better=True or False"),
        ("val_self_bleu", "higher_is_better=True or False"),  # best is that of real text
    ],
)
def test_a_gate_asks_which_way_is_better(name, message):
    assert QualityGate("val_loss", 1).sign == QualityGate(name, 1, higher_is_better=False).sign
    with pytest.raises(ValueError, match=f"{message}.*Received: metric='{name}'"):
        QualityGate(name, better_than=1)


def test_a_gate_that_sees_nothing_says_so(capsys):
    judge = QualityGate("val_FD", better_than=1)
    tiny("gan").fit(images(16), epochs=1, batch_size=16, verbose=0, run_dir=False, callbacks=judge)
    assert "never saw 'val_FD'" in capsys.readouterr().out
    assert not judge.accepted
