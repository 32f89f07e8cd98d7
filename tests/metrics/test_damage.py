"""The table of what each metric sees is true, and stronger damage moves metrics further."""

import damage
import numpy as np
import pytest


@pytest.fixture(scope="module")
def found():
    return damage.table(damage.Scores())


def test_table_is_what_the_metrics_say(found):
    lines, _ = found
    page = damage.PAGE.read_text("utf-8").splitlines()
    shown = [line for line in page if line.startswith("|")]
    assert shown == lines, "`python tests/metrics/damage.py` writes the table anew"


def test_more_damage_moves_metrics_further(found):
    _, seen = found
    for name, by_metric in seen.items():
        for metric, change in by_metric.items():
            if damage.cell(change) != "same":
                rising = change * np.sign(change[-1])
                assert (np.diff(rising) >= -0.03 * rising[-1] - 0.3).all(), (name, metric, change)
                assert rising[-1] > 1.3  # far enough from "same" for other processors
            else:
                assert (np.abs(change) < 0.8).all(), (name, metric, change)


def test_every_damage_is_seen_by_a_metric(found):
    _, seen = found
    for by_metric in seen.values():
        assert "worse" in {damage.cell(change) for change in by_metric.values()}
