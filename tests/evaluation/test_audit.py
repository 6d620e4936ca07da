"""Which labels are proposed."""

from __future__ import annotations

import math
import random

import pytest

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.evaluation.audit import propose
from guardreasoner_sdk.evaluation.rows import Prediction
from guardreasoner_sdk.verdict import Task

PROMPT: Task = "prompt_harmfulness"
REFUSAL: Task = "response_refusal"


def said(number: int, truth: bool, score: float | None, label: bool | None = None, task: Task = PROMPT) -> Prediction:
    label = score >= 0.5 if label is None and score is not None else label
    return Prediction(str(number), "", task, truth, label, score, "dropped")


def a_set(rows: int = 2000, positives: float = 0.5, flips: int = 60, bend=lambda score: score, seed: int = 1):
    """A guard whose logits are 2.5 apart from 0 with a spread of 1, on labels of which some were turned over."""
    draw = random.Random(seed)
    wrong = set(draw.sample(range(rows), flips))
    made = []
    for number in range(rows):
        truth = draw.random() < positives
        score = bend(1 / (1 + math.exp(-draw.gauss(2.5 if truth else -2.5, 1))))
        made.append(said(number, truth != (number in wrong), score))
    return made, {str(number) for number in wrong}


BENDS = {
    "as they are": lambda score: score,
    "all below one half": lambda score: score / 3,
    "all above one half": lambda score: 0.6 + 0.4 * score,
    "tiny": lambda score: score / 1000,
    "low": lambda score: score**2,
    "extreme": lambda score: score**4 / (score**4 + (1 - score) ** 4),
}


@pytest.mark.parametrize("bend", BENDS.values(), ids=BENDS.keys())
@pytest.mark.parametrize("positives", [0.5, 0.1, 0.9])
def test_wrong_labels_are_found_whatever_the_scores_and_the_priors_are(bend, positives):
    predictions, wrong = a_set(positives=positives, bend=bend)
    proposals, (found,) = propose(predictions)
    proposed = {proposal.id for proposal in proposals}
    assert len(proposed & wrong) >= 0.8 * len(wrong)
    assert len(proposed - wrong) <= 0.1 * (len(predictions) - len(wrong))
    assert found.proposed == found.contradicted == len(proposals)
    assert found.notes == ()


def test_the_surest_come_first_and_margins_say_how_sure():
    predictions, _ = a_set()
    proposals, (found,) = propose(predictions)
    margins = [proposal.margin for proposal in proposals]
    assert margins == sorted(margins, reverse=True)
    assert min(margins) >= 0.75
    one = next(proposal for proposal in proposals if not proposal.label)
    way = found.positive_mean - found.negative_mean
    assert one.margin == pytest.approx((one.score - found.negative_mean) / way)


def test_no_more_than_the_share_is_proposed_and_that_is_said():
    predictions, _ = a_set()
    every, _ = propose(predictions, at_most=1)
    some, (found,) = propose(predictions, at_most=0.01)
    assert some == every[:20]
    assert found.notes == (f"The guard contradicts {len(every):,} labels; the 20 surest are proposed (--at-most 0.01).",)


def test_each_task_has_means_and_a_share_of_its_own():
    one, _ = a_set(rows=500, flips=20)
    two, wrong = a_set(rows=500, flips=20, bend=lambda score: score / 100, seed=2)
    other = [Prediction(p.id, "", REFUSAL, p.truth, p.label, p.score, "dropped") for p in two]
    proposals, found = propose(one + other)
    assert [task.task for task in found] == [PROMPT, REFUSAL]
    assert len({p.id for p in proposals if p.task == REFUSAL} & wrong) >= 16
    assert propose(other)[0] == [p for p in proposals if p.task == REFUSAL]


def test_a_guard_that_cannot_tell_proposes_nothing():
    draw = random.Random(1)
    proposals, (found,) = propose([said(number, number % 2 == 0, draw.random()) for number in range(1000)])
    assert proposals == []
    assert "does not tell these labels apart" in found.notes[0]
    assert "Nothing is proposed." in found.notes[0]


def test_a_guard_that_has_it_the_wrong_way_round_proposes_nothing():
    proposals, (found,) = propose([said(number, number % 2 == 0, 0.1 if number % 2 == 0 else 0.9) for number in range(100)])
    assert proposals == []
    assert found.separation == 0


def test_without_scores_the_labels_decide_in_the_order_of_the_file():
    predictions = [said(number, number % 2 == 0, None, label=number % 3 == 0) for number in range(12)]
    proposals, (found,) = propose(predictions, at_most=1)
    assert [proposal.id for proposal in proposals] == ["2", "3", "4", "8", "9", "10"]
    assert all(proposal.margin is None and proposal.score is None for proposal in proposals)
    assert all(proposal.said is not proposal.label for proposal in proposals)
    assert "The guard gave no scores." in found.notes[0]


def test_with_one_class_only_the_guards_own_label_decides_and_its_score_ranks():
    predictions = [said(number, True, score) for number, score in enumerate([0.9, 0.4, 0.8, 0.1, 0.7] + [0.9] * 9)]
    proposals, (found,) = propose(predictions, at_most=1)
    assert [proposal.id for proposal in proposals] == ["3", "1"]
    assert found.notes[0].startswith("No row is labelled unharmful: too few to tell which scores are usual for it.")


def test_answers_without_a_score_come_behind_those_with_one():
    predictions, _ = a_set()
    predictions += [said(5000, True, None, label=False), said(5001, False, None, label=False)]
    proposals, (found,) = propose(predictions)
    assert proposals[-1].id == "5000"
    assert "5001" not in {proposal.id for proposal in proposals}
    assert found.notes == ("2 answers have no score; those that contradict their label come last.",)


def test_what_is_undetermined_is_counted_and_not_proposed():
    predictions, _ = a_set()
    undecided = [Prediction(str(number), "", PROMPT, True, None, None, "dropped") for number in range(9000, 9003)]
    proposals, (found,) = propose(predictions + undecided)
    assert not {one.id for one in undecided} & {proposal.id for proposal in proposals}
    assert (found.labels, found.undetermined) == (2003, 3)
    assert found.notes == ("On 3 of 2,003 rows the guard did not decide; none of them is proposed.",)


def test_all_undetermined_and_no_rows_at_all():
    proposals, (found,) = propose([Prediction("1", "", PROMPT, True, None, None, "dropped")])
    assert proposals == []
    assert "did not decide" in found.notes[0]
    assert propose([]) == ([], [])


@pytest.mark.parametrize("share", [0, -1, 1.1, float("nan")])
def test_a_share_that_is_none(share):
    with pytest.raises(ConfigurationError, match="at_most"):
        propose([], at_most=share)
