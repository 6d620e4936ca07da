"""A calibration applied: by itself, and in a guard."""

from __future__ import annotations

import json
import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, Finding, Guard, Judgement, Policy, ReasoningStep, Verdict
from guardreasoner_sdk.calibration import ANY, Calibration, Isotonic, TaskCalibration, Temperature
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from guardreasoner_sdk.verdict import Span, undetermined

HALVED = Isotonic(scores=(0.0, 1.0), values=(0.0, 0.5))


def calibration(threshold: float | None = None, *, model: str = "scripted", curve=HALVED, **tasks) -> Calibration:
    own = TaskCalibration(curve=curve, threshold=threshold)
    return Calibration(model=model, tasks=tasks or {"prompt_harmfulness": own})


def said(score: float | None, label: str = "harmful", **rest) -> Judgement:
    return Judgement(prompt_harmfulness=Finding(label=label, score=score), **rest)


def guard(found: Judgement, **options) -> Guard:
    return Guard(judge=ScriptedJudge({}, otherwise=found), **options)


curves = st.one_of(
    st.builds(Temperature, temperature=st.floats(0.05, 20), shift=st.floats(-10, 10)),
    st.lists(st.floats(0, 1), min_size=1, max_size=8, unique=True).flatmap(
        lambda scores: st.lists(st.floats(0, 1), min_size=len(scores), max_size=len(scores)).map(
            lambda values: Isotonic(scores=tuple(sorted(scores)), values=tuple(sorted(values)))
        )
    ),
)
scores = st.floats(0, 1)


@given(curves, scores, scores)
def test_a_curve_keeps_the_order_of_scores_and_stays_a_probability(curve, first, second):
    low, high = sorted((first, second))
    assert 0 <= curve(low) <= curve(high) <= 1
    if high - low > 1e-3:
        assert curve(low) < curve(high)


@given(curves)
def test_a_curve_is_read_as_it_was_written(curve):
    whole = calibration(0.5, curve=curve)
    assert Calibration.model_validate_json(whole.model_dump_json()) == whole


@pytest.mark.parametrize(("score", "label"), [(0.8, "harmful"), (0.79, "unharmful")])
def test_a_score_that_is_worth_just_the_threshold_has_the_positive_label(score, label):
    found = calibration(HALVED(0.8)).apply(said(score))
    assert found.prompt_harmfulness.label == label


def test_a_temperature_above_one_moves_scores_towards_the_middle():
    assert 0.5 < Temperature(temperature=3.0)(0.99) < 0.99
    assert Temperature(temperature=1.0)(0.3) == pytest.approx(0.3)
    assert Temperature(temperature=1.0, shift=1.0)(0.3) > 0.3


@pytest.mark.parametrize(
    ("scores", "values"),
    [((), ()), ((0.1,), ()), ((0.2, 0.1), (0.1, 0.2)), ((0.1, 0.1), (0.1, 0.2)), ((0.1, 0.2), (0.2, 0.1)), ((0.1,), (1.5,))],
)
def test_a_curve_that_does_not_rise_is_refused(scores, values):
    with pytest.raises(ValueError):
        Isotonic(scores=scores, values=values)


def test_scores_are_mapped_and_labels_decided_by_the_threshold_before_the_policy():
    with guard(said(0.8), calibration=calibration(0.45)) as calibrated:
        verdict = calibrated.check("hello")
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.label == "unharmful"
    assert verdict.prompt_harmfulness.score == pytest.approx(0.4, abs=1e-3)
    assert verdict.allowed
    assert verdict.calibrated


def test_a_label_may_become_the_positive_one():
    with guard(said(0.3, "unharmful"), calibration=calibration(0.1)) as calibrated:
        assert calibrated.check("hello").action == "block"


def test_the_policys_lowest_score_is_one_of_the_calibrated_scores():
    with guard(said(0.8), calibration=calibration(), policy=Policy(min_score=0.6)) as calibrated:
        assert calibrated.check("hello").allowed


def test_the_reasoning_says_what_the_guard_itself_gave():
    with guard(said(0.8), calibration=calibration(0.45)) as calibrated:
        (step,) = calibrated.check("hello").reasoning
    assert (step.task, step.kind) == ("prompt_harmfulness", "evidence")
    assert step.text == (
        "Calibrated, P(harmful) is 0.40 in place of 0.80; the label changes at 0.45, so that it is unharmful in place of harmful."
    )


def test_without_a_threshold_the_label_stays():
    with guard(said(0.8), calibration=calibration()) as calibrated:
        verdict = calibrated.check("hello")
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.label == "harmful"
    assert verdict.reasoning[-1].text == "Calibrated, P(harmful) is 0.40 in place of 0.80."


def test_a_curve_that_changes_nothing_adds_no_step():
    same = Isotonic(scores=(0.0, 1.0), values=(0.0, 1.0))
    found = calibration(curve=same).apply(said(0.5))
    assert found.reasoning == ()
    assert found.calibrated


def test_what_is_undetermined_or_has_no_score_stays_as_it_is():
    found = Judgement(
        prompt_harmfulness=undetermined("no answer"),
        response_harmfulness=Finding(label="harmful"),
        response_refusal=Finding(label="refusal", score=0.9),
    )
    own = TaskCalibration(curve=HALVED, threshold=0.9)
    made = calibration(prompt_harmfulness=own, response_harmfulness=own).apply(found)
    assert made == found
    assert not made.calibrated
    # Score and label of an undetermined finding: not even a score makes a decision of it.
    unsure = Judgement(prompt_harmfulness=Finding(label="undetermined", score=0.9, cause="cut off"))
    assert calibration(0.1).apply(unsure) == unsure


def test_the_place_of_a_label_goes_where_the_label_goes():
    found = Judgement(prompt_harmfulness=Finding(label="harmful", score=0.8, span=Span(source="raw", start=0, end=7)))
    kept, changed = calibration(0.3).apply(found), calibration(0.45).apply(found)
    assert kept.prompt_harmfulness is not None
    assert changed.prompt_harmfulness is not None
    assert kept.prompt_harmfulness.span is not None
    assert changed.prompt_harmfulness.span is None


def test_scores_in_the_evidence_can_be_compared_with_the_calibrated_score():
    steps = [
        ReasoningStep(task=task, kind="evidence", text="Leaving out ...", score_without=0.4)
        for task in ("prompt_harmfulness", "response_refusal")
    ]
    found = calibration().apply(said(0.8, reasoning=steps))
    assert found.reasoning[0].score_without == pytest.approx(0.2, abs=1e-3)
    assert found.reasoning[1].score_without == 0.4


def test_applied_twice_it_counts_once():
    once = calibration(0.45).apply(said(0.8))
    assert calibration(0.45).apply(once) == once


def test_a_cached_judgement_is_calibrated_once():
    judge = ScriptedJudge({}, otherwise=said(0.8))
    with Guard(judge=judge, cache=10, calibration=calibration()) as calibrated:
        first, second = calibrated.check("hello"), calibrated.check("hello")
    assert second.cached
    assert len(judge.seen) == 1
    assert second.findings == first.findings
    assert second.reasoning == first.reasoning


async def test_every_way_to_check_is_calibrated():
    policy = Policy(block={"harmful_prompt"})
    async with guard(said(0.8), calibration=calibration(0.45), policy=policy) as calibrated:
        verdicts = [
            await calibrated.acheck("hello"),
            *await calibrated.acheck_many(["hello", "you"]),
            calibrated.check_messages([{"role": "user", "content": "hello"}]),
            *calibrated.check_many(["hello"]),
        ]
        stream = calibrated.stream("hello", ["Fine, thank you."])
        assert list(stream) == ["Fine, thank you."]
    assert all(verdict.calibrated and verdict.allowed for verdict in [*verdicts, stream.verdict])


def test_a_calibrated_verdict_is_read_as_it_was_written():
    with guard(said(0.8), calibration=calibration(0.45)) as calibrated:
        verdict = calibrated.check("hello")
    assert json.loads(verdict.model_dump_json())["calibrated"] is True
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_without_a_calibration_a_verdict_says_so():
    with guard(judgement()) as plain:
        assert not plain.check("hello").calibrated


def test_a_calibration_for_another_model_is_refused_when_the_guard_is_made():
    with pytest.raises(ConfigurationError, match="made for 'other', but the guard's model is 'scripted'"):
        guard(judgement(), calibration=calibration(model="other"))


def test_a_calibration_for_any_model_fits():
    with guard(said(0.8), calibration=calibration(model=ANY)) as calibrated:
        assert calibrated.check("hello").calibrated


class _Named(ScriptedJudge):
    def __init__(self, model: str, found: Judgement) -> None:
        super().__init__({}, otherwise=found)
        self.model = model


@pytest.mark.parametrize(("model", "calibrated"), [("small", True), ("large", False), (ANY, True)])
def test_in_a_cascade_the_findings_of_the_model_it_was_made_for_are_calibrated(model, calibrated):
    cascade = CascadeJudge(_Named("small", said(0.95)), _Named("large", said(0.95)))
    with Guard(judge=cascade, calibration=calibration(model=model)) as made:
        assert made.check("hello").calibrated is calibrated
    with pytest.raises(ConfigurationError, match="is 'small' or 'large'"):
        Guard(judge=cascade, calibration=calibration(model="other"))


def test_the_bands_of_a_calibration_are_those_of_a_cascade():
    own = TaskCalibration(curve=HALVED, band=(0.2, 0.6))
    made = calibration(prompt_harmfulness=own, response_refusal=TaskCalibration(curve=HALVED))
    # What was not measured is doubtful throughout.
    unknown = (0.0, 1.0)
    assert made.bands == {
        "prompt_harmfulness": (0.2, 0.6),
        "response_refusal": unknown,
        "response_harmfulness": unknown,
    }
    cascade = CascadeJudge(_Named("small", said(0.5)), _Named("large", said(0.95)), band=made.bands)
    with Guard(judge=cascade) as both:
        assert both.check("hello").model == "large"


def test_a_file_is_loaded_by_the_guard_and_from_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "calibration.json"
    calibration(0.45).save(path)
    assert Calibration.load(path) == calibration(0.45)
    for name in (path, str(path)):
        with guard(said(0.8), calibration=name) as calibrated:
            assert calibrated.check("hello").allowed
    calibration(0.0, model="guardreasoner-embedded-0.4.0").save(path)
    monkeypatch.setenv("GUARDREASONER_CALIBRATION", str(path))
    with Guard() as calibrated:
        assert calibrated.check("What is a good name for a cat?").action == "block"
    # The environment speaks of the model that the environment names, not of a judge handed in.
    with guard(said(0.8)) as own:
        assert not own.check("hello").calibrated


def test_a_file_that_is_no_calibration_is_named_with_what_is_wrong(tmp_path):
    with pytest.raises(ConfigurationError, match="none.json cannot be read"):
        guard(judgement(), calibration=tmp_path / "none.json")
    for text, problem in [
        ("{", "file: Invalid JSON"),
        ('{"version": 2, "model": "any", "tasks": {}}', "version: Input should be 1"),
        ('{"version": 1, "model": "any", "tasks": {"mood": {}}}', "tasks.mood"),
        (calibration().model_dump_json().replace('"band":null', '"band":[0.9,0.1]'), "band: must begin below its end"),
        (calibration(0.45).model_dump_json().replace("0.45", "true"), "threshold: Input should be a valid number"),
        (calibration(0.45).model_dump_json().replace("0.45", '"1"'), "threshold: Input should be a valid number"),
    ]:
        path = tmp_path / "odd.json"
        path.write_text(text)
        with pytest.raises(ConfigurationError, match=problem):
            Calibration.load(path)


def test_the_embedded_guards_own_evidence_stays_and_the_calibrated_step_follows():
    with Guard(calibration=calibration(0.4, model="guardreasoner-embedded-0.4.0")) as calibrated:
        verdict = calibrated.check("Tell me how to kill my neighbour and hide the body.")
    steps = [step for step in verdict.reasoning if step.task == "prompt_harmfulness"]
    assert steps[0].text.startswith("P(harmful) is")
    assert steps[-1].text.startswith("Calibrated, P(harmful) is")


@pytest.mark.skipif(sys.platform == "win32", reason="named pipes and links")
def test_a_calibration_is_saved_through_links_and_into_pipes_and_replaces_neither(tmp_path):
    (tmp_path / "link.json").symlink_to("file.json")
    calibration(0.45).save(tmp_path / "link.json")
    assert (tmp_path / "link.json").is_symlink()
    assert Calibration.load(tmp_path / "file.json") == calibration(0.45)
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    calibration(0.45).save(tmp_path / "pipe")
    assert Calibration.model_validate_json(os.read(reader, 65536)) == calibration(0.45)
    os.close(reader)
    assert (tmp_path / "pipe").is_fifo()
