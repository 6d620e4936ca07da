"""Calibrations fitted: on rows made to order, and on real ones."""

from __future__ import annotations

import functools
import gzip
import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from guardreasoner_sdk import (
    ConfigurationError,
    Exchange,
    Finding,
    Guard,
    Hop,
    InputError,
    Judgement,
    MissingExtraError,
    Policy,
)
from guardreasoner_sdk.calibration import Calibration, Isotonic, Temperature
from guardreasoner_sdk.evaluation.calibration import Case, Plan, calibrate, count_labels, fit
from guardreasoner_sdk.evaluation.calibration.curves import draw
from guardreasoner_sdk.evaluation.calibration.promises import losses_allowed, rows_needed
from guardreasoner_sdk.evaluation.metrics import calibration_error
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.testing import ScriptedJudge
from guardreasoner_sdk.verdict import Task, Verdict, undetermined
from public_data import public_data

pytest.importorskip("sklearn", reason="needs guardreasoner-sdk[eval]")

TASK: Task = "prompt_harmfulness"


def drawn(rows: int, *, seed: int = 0, sharp: float = 1.0, shift: float = 0.0, task: Task = TASK) -> list[Case]:
    """Cases whose true log-odds are those of the score times ``sharp`` plus ``shift``."""
    rng = np.random.default_rng(seed)
    odds = rng.normal(0, 2, rows)
    truths = rng.random(rows) < 1 / (1 + np.exp(-(sharp * odds + shift)))
    scores = 1 / (1 + np.exp(-odds))
    return [
        Case(f"{seed}-{row}", f"{seed}-{row}", task, bool(truth), bool(score >= 0.5), float(score))
        for row, (truth, score) in enumerate(zip(truths, scores, strict=True))
    ]


@functools.cache
def fresh(seed: int, truth: bool) -> list[float]:
    """Scores of 20,000 further cases, those whose truth it is."""
    return [case.score or 0.0 for case in drawn(20_000, seed=seed + 100, sharp=0.5) if case.truth is truth]


def fitted(found: list[Case], **plan) -> Calibration:
    return fit(found, Plan(**plan), model="m", backend="b")


@pytest.mark.parametrize("method", ["auto", "isotonic", "temperature"])
@pytest.mark.parametrize(("sharp", "shift"), [(0.3, 0.0), (2.5, 0.0), (1.0, -2.5), (0.5, 1.5)])
def test_the_calibration_error_falls_on_prompts_that_were_not_seen(method, sharp, shift):
    report = fitted(drawn(3000, sharp=sharp, shift=shift), method=method).tasks[TASK].report
    assert report is not None
    assert report.after.ece is not None
    assert report.before.ece is not None
    assert report.after.ece < 0.6 * report.before.ece
    assert report.fitted + report.rows == 3000


def test_the_error_reported_is_that_of_the_curve_on_the_rows_kept_apart():
    found = drawn(2000, sharp=0.3)
    task = fitted(found, seed=3).tasks[TASK]
    apart = [case for case in found if draw(3, case.prompt) < 0.4]
    assert task.report is not None
    assert (task.report.rows, task.report.positives) == (len(apart), sum(case.truth for case in apart))
    truths, scores = [case.truth for case in apart], [case.score or 0.0 for case in apart]
    assert task.report.before.ece == pytest.approx(calibration_error(truths, scores))
    assert task.report.after.ece == pytest.approx(calibration_error(truths, [task.curve(score) for score in scores]))


def test_the_temperature_found_is_the_one_the_rows_were_drawn_with():
    curve = fitted(drawn(20_000, sharp=0.4, shift=-1.0), method="temperature").tasks[TASK].curve
    assert isinstance(curve, Temperature)
    assert curve.temperature == pytest.approx(1 / 0.4, rel=0.1)
    assert curve.shift == pytest.approx(-1.0, abs=0.1)


def test_isotonic_follows_a_shape_that_a_temperature_cannot():
    rng = np.random.default_rng(1)
    scores = rng.random(6000)
    truths = rng.random(6000) < np.where(scores < 0.5, 0.1, 0.7)
    found = [
        Case(str(row), str(row), TASK, bool(truth), bool(score > 0.5), float(score))
        for row, (truth, score) in enumerate(zip(truths, scores, strict=True))
    ]
    made = fitted(found).tasks[TASK]
    assert isinstance(made.curve, Isotonic)
    assert made.curve(0.4) == pytest.approx(0.1, abs=0.05)
    assert made.curve(0.6) == pytest.approx(0.7, abs=0.05)


def test_scores_that_are_calibrated_stay_as_they_are_and_a_note_says_so():
    for seed in range(5):
        made = fitted(drawn(2000, seed=seed)).tasks[TASK]
        assert made.report is not None
        assert made.report.after.ece == pytest.approx(made.report.before.ece)
        assert any("stay as they are" in note for note in made.report.notes)


@pytest.mark.parametrize("recall", [0.8, 0.95])
def test_a_threshold_for_a_recall_keeps_it_and_no_more_than_chance_asks_for(recall):
    for seed in range(8):
        found = drawn(6000, seed=seed, sharp=0.5)
        task = fitted(found, recall=recall, seed=seed).tasks[TASK]
        assert task.threshold is not None
        kept = float(np.mean([task.curve(score) >= task.threshold for score in fresh(seed, True)]))
        assert recall - 0.005 <= kept <= recall + 0.05


@pytest.mark.parametrize("rate", [0.02, 0.2])
def test_a_threshold_for_a_false_alarm_rate_stays_below_it(rate):
    for seed in range(8):
        task = fitted(drawn(6000, seed=seed, sharp=0.5), false_alarm_rate=rate, seed=seed).tasks[TASK]
        assert task.threshold is not None
        passed = float(np.mean([task.curve(score) >= task.threshold for score in fresh(seed, False)]))
        assert rate - 0.06 <= passed <= rate + 0.005


def test_a_promise_is_kept_on_the_part_that_nothing_was_fitted_on():
    """Not on the average, but in nearly every draw: the rows kept apart have a chance of their own."""
    bands = []
    for seed in range(60):
        report = fitted(drawn(700, seed=seed, sharp=0.5), seed=seed).tasks[TASK].report
        assert report is not None
        assert report.band is not None
        bands.append(report.band)
    assert all(0 < band.escalated < 100 for band in bands)
    assert sum(band.recall < band.promised_recall for band in bands) <= 3
    assert sum(band.false_alarm_rate > band.promised_false_alarm_rate for band in bands) <= 3


def test_without_a_wish_there_is_a_band_and_the_labels_stay():
    task = fitted(drawn(3000, sharp=0.5)).tasks[TASK]
    assert task.threshold is None
    assert task.band is not None
    assert task.report is not None
    assert task.report.after.f1 == task.report.before.f1


def test_the_band_keeps_the_recall_it_promises_in_a_real_cascade():
    truths: dict[str, bool] = {}
    found = drawn(4000, sharp=1.5)
    band = fitted(found).tasks[TASK].band
    assert band is not None
    others = drawn(6000, seed=77, sharp=1.5)
    truths = {case.prompt: case.truth for case in others}
    scores = {case.prompt: case.score for case in others}

    def first(exchange: Exchange) -> Judgement:
        score = scores[exchange.prompt]
        return Judgement(prompt_harmfulness=Finding(label="harmful" if (score or 0) >= 0.5 else "unharmful", score=score))

    def second(exchange: Exchange) -> Judgement:
        return Judgement(prompt_harmfulness=Finding(label="harmful" if truths[exchange.prompt] else "unharmful"))

    screen, oracle = ScriptedJudge(first, batch_size=500), ScriptedJudge(second, batch_size=500)
    with Guard(judge=CascadeJudge(screen, oracle, band={TASK: band})) as guard:
        verdicts = guard.check_many([case.prompt for case in others])
    blocked = [not verdict.allowed for verdict in verdicts]
    positives = [block for block, case in zip(blocked, others, strict=True) if case.truth]
    alarms = [block for block, case in zip(blocked, others, strict=True) if not case.truth]
    assert np.mean(positives) >= 0.95
    assert np.mean(alarms) <= 0.05
    assert 0 < len(oracle.seen) < len(others)


def test_the_escalated_share_counts_what_the_cascade_would_pass_on():
    found = drawn(2000, sharp=1.5)
    found += [Case(f"u{row}", f"u{row}", TASK, row % 2 == 0, None, None) for row in range(500)]
    task = fitted(found, seed=1).tasks[TASK]
    plain = fitted(drawn(2000, sharp=1.5), seed=1).tasks[TASK]
    assert task.report is not None
    assert plain.report is not None
    assert task.report.band is not None
    assert plain.report.band is not None
    assert task.band == plain.band
    assert task.report.band.escalated == pytest.approx(0.8 * plain.report.band.escalated + 20, abs=3)
    assert any("500 rows without" in note for note in task.report.notes)


def test_what_was_found_in_an_unmeasured_language_is_counted_as_passed_on():
    found = drawn(2000, sharp=1.5)
    plain = fitted(found, seed=1).tasks[TASK].report
    noted = fitted([replace(case, noted=row % 2 == 0) for row, case in enumerate(found)], seed=1).tasks[TASK].report
    every = fitted([replace(case, noted=True) for case in found], seed=1).tasks[TASK].report
    assert plain is not None
    assert plain.band is not None
    assert noted is not None
    assert noted.band is not None
    assert every is not None
    assert every.band is not None
    assert noted.band.escalated == pytest.approx(50 + plain.band.escalated / 2, abs=3)
    assert (every.band.escalated, every.band.recall, every.band.false_alarm_rate) == (100, 100, 0)


def test_the_band_holds_the_score_at_which_the_guards_own_label_changes():
    # A guard that finds all there is at 0.9 and up, but says "harmful" from 0.99 only: what lies between is doubtful.
    rng = np.random.default_rng(2)
    found = []
    for row in range(2000):
        truth = row % 2 == 0
        score = float(rng.uniform(0.9, 1.0) if truth else rng.uniform(0.0, 0.1))
        found.append(Case(str(row), str(row), TASK, truth, score >= 0.99, score))
    made = fitted(found).tasks[TASK]
    assert made.band is not None
    assert made.report is not None
    assert made.report.band is not None
    assert made.band[0] < 0.92
    assert made.band[1] == pytest.approx(0.99, abs=0.005)
    assert made.report.band.recall >= 95


@pytest.mark.parametrize("wish", ["recall", "false_alarm_rate"])
def test_where_too_many_have_the_very_same_score_no_promise_is_broken(wish):
    """A guard that is certain of everything, and wrong in one case of five: every score is 0 or 1."""
    wrong = np.random.default_rng(3).random(600) < 0.2
    said = [bool(row % 2) != wrong[row] for row in range(600)]
    found = [Case(str(row), str(row), TASK, bool(row % 2), bool(said[row]), float(said[row])) for row in range(600)]
    task = fitted(found, **{wish: 0.95 if wish == "recall" else 0.05}).tasks[TASK]
    report = task.report
    assert report is not None
    if wish == "recall":
        assert report.after.recall == 100
    else:
        assert task.threshold is None
        assert report.after.false_alarm_rate == report.before.false_alarm_rate
    assert any("positives score 0: only calling all positive" in note for note in report.notes)
    assert any("negatives score 1: no threshold keeps false alarms to 5 %" in note for note in report.notes)


def test_too_few_positives_promise_nothing():
    task = fitted(drawn(120, sharp=0.5), recall=0.98).tasks[TASK]
    assert task.report is not None
    assert task.threshold is None
    assert any(
        note.startswith("band: ") and "too few to bound recall at 98 %, so it reaches down to 0" in note
        for note in task.report.notes
    )
    assert task.band is not None
    assert task.band[0] == 0.0


def test_what_is_not_promised_is_a_shortfall_and_what_is_not_asked_for_is_none():
    found = drawn(120, sharp=0.5)
    assert "No threshold promises a recall of 98 %" in fitted(found, recall=0.98).shortfalls[TASK]
    assert not fitted(found).shortfalls
    assert not fitted(drawn(6000, sharp=0.5), recall=0.9).shortfalls


@pytest.mark.parametrize("wish", [{"recall": 0.6}, {"false_alarm_rate": 0.3}], ids=str)
def test_a_threshold_that_does_not_do_on_the_rows_kept_apart_is_a_shortfall(wish):
    # The scores mean nothing on the rows kept apart: their truths are turned round.
    found = drawn(2000, sharp=3.0)
    turned = [
        Case(case.key, case.prompt, TASK, case.truth ^ (draw(0, case.prompt) < 0.4), case.label, case.score) for case in found
    ]
    made = fitted(turned, **wish)
    assert made.tasks[TASK].basis == "promised"
    assert "On the rows kept apart the threshold gives" in made.shortfalls[TASK]


@pytest.mark.parametrize("wish", [{"recall": 0.95}, {"false_alarm_rate": 0.05}], ids=str)
def test_an_empirical_threshold_does_what_is_asked_for_on_the_rows_it_was_chosen_on_and_says_what_it_is(wish):
    found = drawn(150, sharp=0.5)
    assert fitted(found, **wish).tasks[TASK].threshold is None
    made = fitted(found, **wish, guarantee=False)
    task = made.tasks[TASK]
    assert task.threshold is not None
    assert (task.basis, made.shortfalls) == ("empirical", {})
    seen = [case for case in found if draw(0, case.prompt) >= 0.4]
    said = {
        truth: [task.curve(case.score) >= task.threshold for case in seen if case.truth is truth] for truth in (True, False)
    }
    if "recall" in wish:
        assert 0.95 <= np.mean(said[True]) < 1
    else:
        assert 0 < np.mean(said[False]) <= 0.05
    assert task.report is not None
    assert any(note.startswith("The threshold is empirical") for note in task.report.notes)
    assert Calibration.model_validate_json(made.model_dump_json()) == made


def test_a_calibration_made_before_thresholds_had_a_basis_is_read():
    old = fitted(drawn(2000), recall=0.9).model_dump(mode="json")
    del old["shortfalls"], old["tasks"][TASK]["basis"]
    made = Calibration.model_validate(old)
    assert (made.tasks[TASK].basis, made.shortfalls) == (None, {})


@pytest.mark.parametrize("rate", [0.2, 0.1, 0.05, 0.01, 0.001])
@pytest.mark.parametrize("unseen", [0.2, 0.4, 0.7])
def test_as_many_rows_as_are_said_to_be_needed_do_and_hardly_fewer(rate, unseen):
    def enough(rows):
        further = round(unseen * rows)
        return min(further, rows - further) >= 10 and losses_allowed(rows - further, rate, further) is not None

    assert enough(rows_needed(rate, unseen))
    assert not enough(int(0.75 * rows_needed(rate, unseen)))


def test_labels_are_counted_as_they_will_be_split():
    rows = [row(number) for number in range(150)]
    (prompts,) = [count for count in count_labels(rows, Plan(recall=0.95)) if count.task == TASK]
    report = calibrate(((one, verdict(number)) for number, one in enumerate(rows)), Plan()).tasks[TASK].report
    assert report is not None
    assert prompts.positives[0] + prompts.negatives[0] == report.fitted
    assert (prompts.positives[1], prompts.positives[1] + prompts.negatives[1]) == (report.positives, report.rows)
    assert not prompts.enough
    assert prompts.needed == (199, 25)
    assert all(count.enough for count in count_labels(rows, Plan()) if count.task == TASK)
    assert all(count.enough for count in count_labels(rows, Plan(recall=0.95, guarantee=False)) if count.task == TASK)


def test_rows_of_too_few_prompts_are_told_why_they_are_not_enough():
    rows = [row(number, prompt="the same") for number in range(200)]
    with pytest.raises(InputError, match=r"0 kept apart\).*all rows of one prompt are in one of them"):
        count_labels(rows, Plan())


def test_rows_without_labels_are_refused_when_they_are_counted():
    with pytest.raises(InputError, match="carry no label"):
        count_labels([LabelledRow("1", "own", Exchange("prompt"), {})], Plan())


def test_rows_of_one_prompt_stay_on_one_side():
    found = [
        Case(f"{case.key}-{copy}", case.prompt, TASK, case.truth, case.label, case.score)
        for case in drawn(400, sharp=0.5)
        for copy in range(5)
    ]
    report = fitted(found).tasks[TASK].report
    assert report is not None
    assert report.fitted % 5 == 0
    assert report.rows % 5 == 0


def test_the_same_rows_give_the_same_file_in_any_order_and_another_seed_another():
    found = drawn(800, sharp=0.4) + drawn(600, seed=4, sharp=0.4, task="response_refusal")
    assert fitted(found) == fitted(found)
    backwards = fitted(found[::-1])
    made = fitted(found)
    assert made.made_of is not None
    assert backwards.made_of == made.made_of
    assert made.made_of.rows == 1400
    assert fitted(found, seed=5).tasks != made.tasks
    flipped = [*found[1:], Case(*[*_fields(found[0])[:3], not found[0].truth, *_fields(found[0])[4:]])]
    other = fitted(flipped).made_of
    assert other is not None
    assert other.data != made.made_of.data


def _fields(case: Case) -> list:
    return [case.key, case.prompt, case.task, case.truth, case.label, case.score]


def test_a_task_that_cannot_be_fitted_is_left_out_with_the_reason():
    few = drawn(30, seed=8, task="response_refusal")
    made = fitted([*drawn(800, sharp=0.4), *few])
    assert list(made.tasks) == [TASK]
    (note,) = made.notes
    assert note.startswith("Not calibrated: response_refusal has")
    assert "needs 10 of each" in note


@pytest.mark.parametrize(
    ("found", "problem"),
    [
        ([], "hold no label"),
        ([Case(str(row), str(row), TASK, True, True, 0.9) for row in range(100)], "0 negatives"),
        ([Case(str(row), str(row), TASK, row % 2 == 0, None, None) for row in range(100)], "0 positives and 0 negatives"),
        ([Case(str(row), str(row), TASK, row % 2 == 0, True, None) for row in range(100)], "0 positives and 0 negatives"),
        ([Case(str(row), str(row), TASK, row % 2 == 0, row % 2 == 1, 0.1 + 0.8 * (row % 2)) for row in range(200)], "not rise"),
        ([Case(str(row), str(row), TASK, row % 2 == 0, True, 0.5) for row in range(200)], "not rise"),
    ],
    ids=["nothing", "one class", "all undetermined", "no scores", "the wrong way round", "one score"],
)
def test_rows_that_nothing_can_be_made_of_are_refused_with_the_reason(found, problem):
    with pytest.raises(InputError, match=problem):
        fitted(found)


def test_scores_of_zero_and_one_can_be_calibrated():
    # A guard that is always sure, and right four times of five.
    found = [
        Case(str(row), str(row), TASK, (row % 2 == 0) == (row % 5 != 0), row % 2 == 0, float(row % 2 == 0))
        for row in range(1000)
    ]
    for method in ("isotonic", "temperature"):
        task = fitted(found, method=method).tasks[TASK]
        assert task.curve(1.0) == pytest.approx(0.8, abs=0.06)
        assert task.curve(0.0) == pytest.approx(0.2, abs=0.06)


def test_few_prompts_with_many_rows_are_refused_or_fitted_but_never_break():
    for prompts in range(1, 8):
        found = [
            Case(str(row), str(row % prompts), TASK, row % 3 == 0, row % 3 == 0, 0.6 if row % 3 == 0 else 0.4)
            for row in range(300)
        ]
        try:
            assert fitted(found).tasks
        except InputError as error:
            assert "rows" in str(error)


@pytest.mark.parametrize(
    "wish",
    [
        {"recall": 0.9, "false_alarm_rate": 0.1},
        {"recall": 1.0},
        {"recall": 0.0},
        {"unseen": 1.0},
        {"method": "magic"},
        {"guarantee": False},
    ],
    ids=str,
)
def test_wishes_that_cannot_be_met_are_refused(wish):
    with pytest.raises(ConfigurationError, match=next(iter(wish))):
        Plan(**wish)


def test_scikit_learn_is_asked_for(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.isotonic", None)
    with pytest.raises(MissingExtraError, match=r"guardreasoner-sdk\[eval\]"):
        fitted(drawn(500, sharp=0.4), method="isotonic")


def row(number: int, *, prompt: str | None = None) -> LabelledRow:
    return LabelledRow(
        str(number), "own", Exchange(prompt or f"prompt {number}"), {TASK: number % 2 == 0, "response_refusal": True}
    )


def verdict(number: int, **rest) -> Verdict:
    score = 0.5 + (0.3 if number % 2 == 0 else -0.3)
    found = Judgement(prompt_harmfulness=Finding(label="harmful" if score > 0.5 else "unharmful", score=score))
    if "judgement" in rest:
        found = rest.pop("judgement")
    return Policy().verdict(found, response=False, **{"model": "m", "backend": "b", **rest})


def test_a_guard_is_calibrated_by_its_verdicts_on_labelled_rows():
    made = calibrate((row(number), verdict(number)) for number in range(200))
    assert made.model == "m"
    assert made.made_of is not None
    assert (made.made_of.backend, made.made_of.rows) == ("b", 200)
    assert list(made.tasks) == [TASK]
    assert made.tasks[TASK].curve(0.8) > 0.95


def test_undetermined_verdicts_are_left_out():
    unsure = verdict(0, judgement=Judgement(prompt_harmfulness=undetermined("no answer")))
    made = calibrate((row(number), unsure if number % 10 == 0 else verdict(number)) for number in range(400))
    report = made.tasks[TASK].report
    assert report is not None
    assert any("40 rows without" in note for note in report.notes)


@pytest.mark.parametrize(
    ("second", "problem"),
    [
        ({"model": "other"}, "m on b and other on b"),
        ({"judgement": Judgement(calibrated=True)}, "calibrated already"),
        ({"judgement": Judgement(path=(Hop(model="m", backend="b", why="decided"),))}, "those of a cascade"),
    ],
    ids=["two models", "calibrated", "cascade"],
)
def test_verdicts_of_anything_but_one_guard_as_it_is_are_refused(second, problem):
    with pytest.raises(InputError, match=problem):
        calibrate([(row(0), verdict(0)), (row(1), verdict(1, **second))])


def test_no_rows_are_refused():
    with pytest.raises(InputError, match="carry no label"):
        calibrate([])


SOURCES = ["jbb_judge_comparison", "openai_rbr_gold"]


def test_the_embedded_guard_on_prompts_of_sources_that_it_never_saw():
    """Its MODEL_CARD names these sources as held out whole; its scores are worth little there."""
    rows = []
    for name in SOURCES:
        with gzip.open(public_data("train", f"{name}.jsonl.gz"), "rt", encoding="utf-8") as lines:
            every = [json.loads(line) for line in lines]
        rows += [
            LabelledRow(f"{name} {number}", name, Exchange(one["prompt"]), {TASK: one["prompt_harmful"]})
            for number, one in enumerate(every)
            if one["prompt_harmful"] is not None
        ]
    with Guard(reasoning="off") as guard:
        made = calibrate(zip(rows, guard.iter_many(row.exchange for row in rows), strict=True), Plan(recall=0.95))
    report = made.tasks[TASK].report
    assert report is not None
    assert report.band is not None
    assert report.before.ece is not None
    assert report.after.ece is not None
    assert report.after.ece < report.before.ece / 2
    assert report.band.recall >= report.band.promised_recall == 95
    assert report.band.false_alarm_rate <= report.band.promised_false_alarm_rate
    with Guard(calibration=made) as calibrated:
        assert calibrated.check("How do I bake bread?").calibrated
