"""Figures: against scikit-learn, by hand, and where there is nothing to measure."""

from __future__ import annotations

import sys
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk.errors import ConfigurationError, MissingExtraError
from guardreasoner_sdk.evaluation.metrics import Measures, averages, calibration_error, measure, reliability
from guardreasoner_sdk.evaluation.rows import PaperReading, Prediction
from guardreasoner_sdk.verdict import Task

sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="needs guardreasoner-sdk[eval]")


def said(
    truth: bool,
    label: bool | None,
    score: float | None = None,
    *,
    paper: PaperReading | None = None,
    benchmark: str = "Some",
    task: Task = "prompt_harmfulness",
    number: int = 0,
) -> Prediction:
    reading: PaperReading = paper or ("dropped" if label is None else "positive" if label else "negative")
    return Prediction(str(number), benchmark, task, truth, label, score, reading)


def only(predictions: list[Prediction], **options) -> Measures:
    (found,) = measure(predictions, **options)
    return found


CASES = [(True, True), (True, True), (True, False), (False, True), (False, False), (False, False), (False, False)]


def test_figures_of_a_case_made_by_hand():
    found = only([said(truth, label) for truth, label in CASES])
    assert (found.true_positives, found.false_positives, found.false_negatives, found.true_negatives) == (2, 1, 1, 3)
    assert found.f1 == pytest.approx(200 / 3)
    assert found.precision == pytest.approx(200 / 3)
    assert found.recall == pytest.approx(200 / 3)
    assert found.accuracy == pytest.approx(500 / 7)
    assert found.false_alarm_rate == pytest.approx(25)
    assert (found.rows, found.positives, found.undetermined, found.dropped) == (7, 3, 0, 0)


rows = st.lists(
    st.tuples(st.booleans(), st.booleans(), st.floats(0, 1, allow_subnormal=False).map(lambda score: round(score, 3))),
    min_size=1,
    max_size=60,
)


@given(rows)
def test_figures_agree_with_scikit_learn(cells):
    found = only([said(truth, label, score) for truth, label, score in cells])
    truths, labels, scores = (np.array(column) for column in zip(*cells, strict=True))
    assert found.accuracy == pytest.approx(100 * sklearn_metrics.accuracy_score(truths, labels))
    if not truths.any():
        assert found.f1 is None
        assert found.auprc is None
        return
    assert found.f1 == pytest.approx(100 * sklearn_metrics.f1_score(truths, labels, zero_division=0))
    assert found.recall == pytest.approx(100 * sklearn_metrics.recall_score(truths, labels, zero_division=0))
    if truths.all():
        assert found.precision is None
        assert found.auprc is None
        return
    if labels.any():
        assert found.precision == pytest.approx(100 * sklearn_metrics.precision_score(truths, labels))
    matrix = sklearn_metrics.confusion_matrix(truths, labels, labels=[False, True]).tolist()
    assert [[found.true_negatives, found.false_positives], [found.false_negatives, found.true_positives]] == matrix
    assert found.auprc == pytest.approx(100 * sklearn_metrics.average_precision_score(truths, scores))


@given(rows)
def test_false_alarms_at_a_recall_are_the_fewest_that_any_threshold_has(cells):
    truths, _, scores = (np.array(column) for column in zip(*cells, strict=True))
    found = only([said(truth, label, score) for truth, label, score in cells]).false_alarm_rate_at_recall
    if truths.all() or not truths.any():
        assert found == {}
        return
    for name, rate in found.items():
        enough = [
            100 * (scores[~truths] >= threshold).mean()
            for threshold in scores
            if (scores[truths] >= threshold).mean() >= float(name) - 1e-9
        ]
        assert rate == pytest.approx(min(enough))


def test_the_calibration_error_of_a_case_made_by_hand():
    # 0.1 and 0.1 promise 0.1, and none is positive; 0.9, 0.9, 0.9 promise 0.9, and two of three are.
    error = calibration_error([False, False, True, True, False], [0.1, 0.1, 0.9, 0.9, 0.9])
    assert error == pytest.approx(100 * (2 / 5 * 0.1 + 3 / 5 * (0.9 - 2 / 3)))


def test_a_score_of_one_belongs_to_the_last_interval():
    (last,) = reliability([True, False], [1.0, 0.95], bins=10)
    assert (last.low, last.high, last.rows, last.positive) == (0.9, 1.0, 2, 0.5)


@given(rows)
def test_every_row_lies_in_one_interval(cells):
    found = reliability([truth for truth, _, _ in cells], [score for _, _, score in cells])
    assert sum(entry.rows for entry in found) == len(cells)
    assert all(entry.low - 1e-9 <= entry.score <= entry.high + 1e-9 for entry in found)


def test_strict_scoring_counts_an_undetermined_answer_as_the_wrong_one():
    found = only([said(True, True), said(True, None), said(False, False), said(False, None)])
    assert (found.true_positives, found.false_negatives, found.false_positives, found.true_negatives) == (1, 1, 1, 1)
    assert found.undetermined == 2
    assert found.f1 == pytest.approx(50)


def test_paper_scoring_leaves_out_what_is_dropped_and_counts_some_answers_twice():
    predictions = [said(True, True), said(True, None), said(False, False), said(False, None, paper="wrong_twice")]
    found = only(predictions, scoring="paper")
    assert (found.rows, found.dropped, found.undetermined) == (4, 1, 2)
    assert (found.true_positives, found.false_negatives, found.false_positives, found.true_negatives) == (1, 1, 1, 1)
    assert found.f1 == pytest.approx(100 * 2 / (2 + 1 + 1))
    assert found.accuracy == pytest.approx(100 * 2 / 3)
    assert any("left out" in note for note in found.notes)
    assert any("as a miss and as a false alarm" in note for note in found.notes)


def test_paper_scoring_goes_by_the_authors_reading_even_where_the_guard_says_otherwise():
    found = only([said(True, False, paper="positive"), said(False, False)], scoring="paper")
    assert found.f1 == 100


@pytest.mark.parametrize("scoring", ["paper", "strict"])
def test_of_undetermined_answers_alone_there_is_no_figure(scoring):
    found = only([said(True, None), said(False, None)], scoring=scoring, bootstrap=10)
    for name in ("f1", "precision", "recall", "accuracy", "auprc", "ece", "false_alarm_rate", "f1_interval"):
        assert getattr(found, name) is None
    assert found.undetermined == 2
    assert any("nothing to measure" in note for note in found.notes)


def test_without_a_positive_there_is_no_f1():
    found = only([said(False, False), said(False, True)], bootstrap=10)
    assert (found.f1, found.precision, found.recall, found.f1_interval) == (None, None, None, None)
    assert (found.accuracy, found.false_alarm_rate) == (50, 50)
    assert any("No row is positive" in note for note in found.notes)


def test_where_every_row_is_positive_f1_is_given_as_in_the_paper_and_nothing_about_false_alarms():
    found = only([said(True, True, 0.9)] * 98 + [said(True, False, 0.1)] * 2)
    assert found.f1 == pytest.approx(100 * 196 / 198)
    assert (found.precision, found.false_alarm_rate, found.auprc) == (None, None, None)
    assert found.false_alarm_rate_at_recall == {}
    assert any("Every row is positive" in note for note in found.notes)


def test_where_nothing_is_called_positive_there_is_no_precision():
    found = only([said(True, False), said(False, False)])
    assert (found.f1, found.recall, found.precision) == (0, 0, None)
    assert any("Nothing was called positive" in note for note in found.notes)


def test_without_scores_there_is_no_calibration_error_and_a_note_says_so():
    found = only([said(truth, label) for truth, label in CASES])
    assert (found.auprc, found.ece) == (None, None)
    assert any("no scores" in note for note in found.notes)


def test_scores_of_some_rows_are_measured_and_a_note_says_how_many():
    found = only([said(True, True, 0.9), said(False, False, 0.2), said(False, True), said(True, None, 0.5)])
    assert found.auprc == 100
    assert any("rests on the 2 of 4 rows" in note for note in found.notes)


def test_no_predictions_give_no_measures():
    assert measure([]) == []
    assert averages([]) == {}


def test_benchmarks_and_tasks_stay_apart_in_order_of_appearance():
    predictions = [
        said(True, True, benchmark="B"),
        said(True, True, benchmark="A"),
        said(False, True, benchmark="B", task="response_refusal"),
        said(True, False, benchmark="B"),
    ]
    assert [(found.benchmark, found.task, found.rows) for found in measure(predictions)] == [
        ("B", "prompt_harmfulness", 2),
        ("A", "prompt_harmfulness", 1),
        ("B", "response_refusal", 1),
    ]
    assert [(found.benchmark, found.rows) for found in measure(predictions, pooled=True)] == [(None, 3), (None, 1)]


def test_averages_weigh_each_benchmark_by_its_rows():
    many = [said(True, True, benchmark="A")] * 30 + [said(True, False, benchmark="B")] * 10
    assert averages(measure(many)) == {"prompt_harmfulness": pytest.approx(75)}


def test_there_is_no_average_where_a_benchmark_has_no_figure():
    assert averages(measure([said(True, True, benchmark="A"), said(False, True, benchmark="B")])) == {
        "prompt_harmfulness": None
    }


def test_the_bootstrap_interval_is_that_of_drawing_rows():
    rng = np.random.default_rng(5)
    truths = rng.random(400) < 0.4
    labels = np.where(rng.random(400) < 0.85, truths, ~truths)
    predictions = [said(bool(truth), bool(label)) for truth, label in zip(truths, labels, strict=True)]
    found = only(predictions, bootstrap=2000, seed=1)
    draws = rng.integers(0, 400, size=(2000, 400))
    f1 = [100 * sklearn_metrics.f1_score(truths[draw], labels[draw]) for draw in draws[:600]]
    assert found.f1_interval is not None
    assert found.f1 is not None
    assert found.f1_interval.low < found.f1 < found.f1_interval.high
    assert found.f1_interval.low == pytest.approx(np.percentile(f1, 2.5), abs=1.0)
    assert found.f1_interval.high == pytest.approx(np.percentile(f1, 97.5), abs=1.0)
    assert only(predictions, bootstrap=2000, seed=1) == found
    assert only(predictions, bootstrap=2000, seed=2) != found


def test_draws_without_a_positive_do_not_break_the_interval():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = only([said(True, True), *[said(False, False)] * 9], bootstrap=200)
    assert found.f1_interval is not None
    assert (found.f1_interval.low, found.f1_interval.high) == (100, 100)


def test_where_no_draw_has_a_positive_there_is_no_interval():
    cases = [said(number == 0, False) for number in range(1000)]
    intervals = [only(cases, bootstrap=1, seed=seed).f1_interval for seed in range(20)]
    assert None in intervals
    assert any(interval is not None for interval in intervals)


def test_a_draw_without_a_positive_counts_as_no_f1_and_not_as_zero():
    # One hit, one false alarm: of every draw that holds the hit F1 is at least 2/3 of what it has.
    found = only([said(True, True), said(False, True), *[said(False, False)] * 2], bootstrap=2000)
    assert found.f1_interval is not None
    assert found.f1_interval.low > 0


def test_a_negative_number_of_draws_is_refused():
    with pytest.raises(ConfigurationError, match="bootstrap"):
        measure([said(True, True)], bootstrap=-1)


@settings(max_examples=50)
@given(
    st.lists(
        st.tuples(
            st.booleans(),
            st.none() | st.booleans(),
            st.none() | st.floats(0, 1),
            st.sampled_from(["positive", "negative", "dropped", "wrong_twice"]),
        ),
        max_size=30,
    ),
    st.sampled_from(["paper", "strict"]),
)
def test_every_figure_is_a_percentage_or_missing_with_a_note(cells, scoring):
    for found in measure([said(*cell[:3], paper=cell[3]) for cell in cells], scoring=scoring, bootstrap=20):
        figures = found.model_dump(include={"f1", "precision", "recall", "accuracy", "auprc", "ece", "false_alarm_rate"})
        assert all(figure is None or -1e-9 <= figure <= 100 + 1e-9 for figure in figures.values())
        if None in figures.values():
            assert found.notes
        assert Measures.model_validate_json(found.model_dump_json()) == found


def test_without_scikit_learn_labels_are_measured_and_scores_need_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.metrics", None)
    assert only([said(True, True), said(False, True)]).f1 == pytest.approx(200 / 3)
    with pytest.raises(MissingExtraError, match=r"guardreasoner-sdk\[eval\]"):
        measure([said(True, True, 0.9), said(False, True, 0.6)])
