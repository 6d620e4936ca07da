"""Figures and thresholds, checked by hand on a few rows."""

from __future__ import annotations

import numpy as np
import pytest

from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.measures import (
    auc,
    balanced_f1,
    by_source,
    choose_thresholds,
    false_alarms,
    measure,
    measure_heads,
)

NAN = float("nan")


def truth(*labels: int) -> np.ndarray:
    return np.array(labels, dtype=np.bool_)


def examples(*of: tuple[str, bool]) -> list[Example]:
    return [Example("p", None, (label, None, None), 1.0, source) for source, label in of]


def column(*scores: float) -> np.ndarray:
    """Scores of the first head alone."""
    return np.array([[score, NAN, NAN] for score in scores])


def test_the_interval_of_f1_is_that_of_draws_with_replacement() -> None:
    draw = np.random.default_rng(3)
    labels = draw.random(400) < 0.4
    scores = np.clip(labels * 0.4 + draw.random(400) * 0.6, 0, 1)
    figures = measure(scores, labels, 0.5)
    drawn = [measure(scores[of], labels[of], 0.5)["f1"] for of in draw.integers(0, 400, (300, 400))]
    assert figures["f1_low"] == pytest.approx(np.percentile(drawn, 2.5), abs=1.0)
    assert figures["f1_high"] == pytest.approx(np.percentile(drawn, 97.5), abs=1.0)


def test_measure() -> None:
    figures = measure(np.array([0.9, 0.6, 0.4, 0.5, 0.1]), truth(1, 0, 1, 1, 0), 0.5)
    low, high = figures.pop("f1_low"), figures.pop("f1_high")
    assert figures == {
        "rows": 5,
        "positives": 3,
        "undetermined": 0,
        "f1": 66.67,
        "precision": 66.67,
        "recall": 66.67,
        "false_alarm_rate": 50.0,
        "auc": 66.67,
    }
    assert (low, high) == (0.0, 100.0)


def test_undetermined_counts_as_wrong_either_way() -> None:
    figures = measure(np.array([NAN, NAN, 0.9, 0.1]), truth(1, 0, 1, 0), 0.5)
    assert (figures["undetermined"], figures["recall"], figures["false_alarm_rate"]) == (2, 50.0, 50.0)
    assert figures["auc"] == 100.0


def test_measure_without_one_class() -> None:
    assert measure(np.array([0.9, 0.1]), truth(0, 0), 0.5)["f1"] is None
    assert measure(np.array([0.9, 0.1]), truth(1, 1), 0.5)["false_alarm_rate"] is None


def test_auc_counts_ties_half() -> None:
    assert auc(np.array([0.5, 0.5]), truth(1, 0)) == 50.0
    assert auc(np.array([0.2, 0.8, 0.9]), truth(0, 1, 1)) == 100.0
    assert auc(np.array([0.2]), truth(1)) is None


def test_threshold_does_not_depend_on_how_many_negatives_there_are() -> None:
    few = [("own", True)] * 4 + [("own", False)] * 4
    scores = [0.9, 0.8, 0.7, 0.65, 0.6, 0.2, 0.2, 0.1]
    many, more = few + [("own", False)] * 40, scores + [0.6, 0.2, 0.2, 0.1] * 10
    first = choose_thresholds(examples(*few), column(*scores), most_false_alarms=1.0)
    assert first == choose_thresholds(examples(*many), column(*more), most_false_alarms=1.0)
    assert 0.60 < first[0] <= 0.65
    assert first[1:] == [0.5, 0.5]


def test_threshold_of_prompts_keeps_false_alarms_low() -> None:
    of = [("own", True)] * 10 + [("own", False)] * 10 + [("gsm8k_train", False)] * 10
    scores = [0.5] * 9 + [0.9] + [0.1] * 10 + [0.1] * 9 + [0.6]
    free = choose_thresholds(examples(*of), column(*scores), most_false_alarms=1.0)[0]
    held = choose_thresholds(examples(*of), column(*scores), most_false_alarms=0.03)[0]
    assert free <= 0.5
    assert held > 0.6


def test_threshold_is_the_nearest_to_one_half_of_equals() -> None:
    of = examples(("own", True), ("own", False))
    assert choose_thresholds(of, column(0.9, 0.1), most_false_alarms=1.0)[0] == 0.5
    assert choose_thresholds(of, column(0.9, 0.7), most_false_alarms=1.0)[0] == pytest.approx(0.71)
    assert choose_thresholds(of, column(0.05, 0.05), most_false_alarms=1.0)[0] == 0.5


def test_balanced_f1_weighs_by_trust() -> None:
    # aart counts half of what an unknown source counts: its miss costs a third of the positives.
    of = examples(("own", True), ("aart", True), ("own", False))
    assert balanced_f1(of, np.array([0.9, 0.1, 0.1]), truth(1, 1, 0), 0.5) == pytest.approx(80.0)
    assert balanced_f1(of[:1], np.array([0.9]), truth(1), 0.5) is None


def test_figures_by_source_and_false_alarms() -> None:
    of = examples(*[("gsm8k_train", False)] * 25, *[("phtest", False)] * 4, *[("own", True)] * 20)
    scores = column(*[0.9] + [0.1] * 24, *[0.9, 0.9, 0.1, 0.1], *[0.8] * 20)
    limits = [0.5, 0.5, 0.5]
    assert measure_heads(of, scores, limits)["prompt_harmful"]["rows"] == 49
    found = by_source(of, scores, limits)
    assert set(found) == {"gsm8k_train", "own"}
    assert found["gsm8k_train"]["prompt_harmful"]["false_alarm_rate"] == 4.0
    alarms = false_alarms(of, scores, limits)
    assert {kind: figures["false_alarm_rate"] for kind, figures in alarms.items()} == {
        "benign": 4.0,
        "over_refusal": 50.0,
    }
