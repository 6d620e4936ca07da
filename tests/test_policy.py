import copy
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import ConfigurationError, Finding, Judgement, Policy
from guardreasoner_sdk.testing import judgement
from guardreasoner_sdk.verdict import Label, Task, undetermined

HARM: st.SearchStrategy[Label | None] = st.sampled_from(["harmful", "unharmful", "undetermined", None])
REFUSAL: st.SearchStrategy[Label | None] = st.sampled_from(["refusal", "compliance", "undetermined", None])


@pytest.mark.parametrize(
    ("labels", "action"),
    [
        (("unharmful", "compliance", "unharmful"), "allow"),
        (("unharmful", "refusal", "unharmful"), "allow"),
        (("harmful", "refusal", "unharmful"), "block"),
        (("unharmful", "compliance", "harmful"), "block"),
        (("unharmful", "undetermined", "unharmful"), "allow"),
        (("undetermined", "compliance", "unharmful"), "block"),
    ],
)
def test_the_default_blocks_what_is_harmful_and_what_is_undecided(labels: tuple[Label, Label, Label], action: str) -> None:
    assert Policy().decide(judgement(*labels), response=True).action == action


@given(HARM, REFUSAL, HARM, st.booleans())
def test_the_default_allows_only_what_was_found_unharmful(
    prompt: Label | None, refusal: Label | None, answer: Label | None, response: bool
) -> None:
    decision = Policy().decide(judgement(prompt, refusal, answer), response=response)
    last = answer if response else prompt
    if decision.action == "allow":
        assert last == "unharmful"
        assert {prompt, answer} <= {"unharmful", None}
    else:
        assert decision.reasons


def test_a_guard_that_does_not_judge_the_last_part_has_not_decided() -> None:
    decision = Policy().decide(judgement("unharmful", None, None), response=True)
    assert decision.action == "block"
    assert decision.reasons == ("response_harmfulness was not judged by this guard; on_undetermined='block'",)
    assert Policy(block={"harmful_prompt"}).decide(judgement("unharmful"), response=True).action == "allow"


def test_a_finding_outweighs_a_failure() -> None:
    mixed = judgement("harmful", None, "undetermined")
    for choice in ("block", "allow", "raise"):
        decision = Policy(on_undetermined=choice).decide(mixed, response=True)
        assert decision.action == "block"
        assert decision.reasons[0] == "prompt_harmfulness is harmful (score 1.00)"
        assert "response_harmfulness is undetermined (scripted)" in decision.reasons[1]


@pytest.mark.parametrize("choice", ["block", "allow", "raise"])
def test_what_a_failure_means_is_the_applications_choice_and_is_visible(choice: str) -> None:
    decision = Policy(on_undetermined=choice).decide(Judgement(prompt_harmfulness=undetermined("timeout")), response=False)
    assert decision.action == choice
    assert decision.reasons == (f"prompt_harmfulness is undetermined (timeout); on_undetermined={choice!r}",)


def test_only_what_is_asked_for_blocks() -> None:
    refused = judgement("harmful", "refusal", "unharmful")
    assert Policy(block={"harmful_response"}).decide(refused, response=True).action == "allow"
    assert Policy(block={"refusal"}).decide(refused, response=True).reasons == ("response_refusal is refusal (score 1.00)",)
    assert Policy(block=()).decide(refused, response=True).action == "allow"


@pytest.mark.parametrize(
    ("label", "score", "action"), [("harmful", 0.6, "allow"), ("unharmful", 0.9, "block"), ("harmful", None, "block")]
)
def test_min_score_decides_where_there_is_a_score(label: Label, score: float | None, action: str) -> None:
    found = Judgement(prompt_harmfulness=Finding(label=label, score=score))
    assert Policy(min_score=0.8).decide(found, response=False).action == action


def test_min_score_by_task() -> None:
    policy = Policy(min_score={"prompt_harmfulness": 0.8})
    for label, score, action in (("harmful", 0.6, "allow"), ("unharmful", 0.9, "block"), ("harmful", None, "block")):
        found = Finding(label=label, score=score)
        assert policy.decide(Judgement(prompt_harmfulness=found), response=False).action == action
    # A task that is not named counts by its label.
    for label, score, action in (("harmful", 0.6, "block"), ("unharmful", 0.9, "allow")):
        found = Finding(label=label, score=score)
        judged = Judgement(prompt_harmfulness=Finding(label="harmful", score=0.1), response_harmfulness=found)
        assert policy.decide(judged, response=True).action == action


def test_policies_by_task_travel_and_are_equal() -> None:
    one, two = (Policy(min_score={"prompt_harmfulness": 0.8}) for _ in range(2))
    assert one == two == pickle.loads(pickle.dumps(one)) == copy.deepcopy(one)
    assert hash(one) == hash(two) != hash(Policy(min_score=0.8))
    assert one.model_validate_json(one.model_dump_json()) == one


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"block": {"swearing"}}, "Policy(block"),
        ({"on_undetermined": "shrug"}, "Policy(on_undetermined"),
        ({"on_unmeasured": "allow"}, "Policy(on_unmeasured"),
        ({"min_score": 80}, "Policy(min_score"),
        ({"min_score": {"prompt_harmfulness": 80}}, "Policy(min_score"),
        ({"min_score": {"prompt": 0.5}}, "Policy(min_score): 'prompt' is not a task; use any of prompt_harmfulness"),
        ({"min_score": {"x" * 100_000: 0.5}}, "Policy(min_score): 'xxx"),
        ({"blok": {}}, "Policy(blok"),
    ],
)
def test_a_policy_that_cannot_be_is_refused_by_name(values: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Policy(**values)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize("least", [0.8, {"prompt_harmfulness": 0.8}])
def test_a_score_of_just_the_min_score_blocks_and_the_next_one_below_does_not(least: float | dict[Task, float]) -> None:
    for score, action in ((0.8, "block"), (math.nextafter(0.8, 0.0), "allow")):
        found = Judgement(prompt_harmfulness=Finding(label="harmful", score=score))
        assert Policy(min_score=least).decide(found, response=False).action == action


NOTE = "written in Swahili, a language this guard was never measured in"


@pytest.mark.parametrize("label", ["harmful", "unharmful"])
@pytest.mark.parametrize("choice", ["block", "allow", "raise"])
def test_a_finding_with_a_note_counts_as_it_is_unless_the_policy_does_not_believe_it(label: Label, choice: str) -> None:
    noted = Judgement(prompt_harmfulness=Finding(label=label, score=0.7, note=NOTE))
    assert Policy(on_undetermined=choice).decide(noted, response=False).action == ("block" if label == "harmful" else "allow")
    strict = Policy(on_undetermined=choice, on_unmeasured="undetermined")
    decision = strict.decide(noted, response=False)
    assert decision.action == choice
    assert decision.reasons == (f"prompt_harmfulness is undetermined ({NOTE}); on_undetermined={choice!r}",)
    verdict = strict.verdict(noted, response=False, model="m", backend="b")
    assert verdict.undetermined
    assert verdict.prompt_harmfulness == Finding(label="undetermined", cause=NOTE, note=NOTE)
    assert strict.decide(verdict, response=False) == decision
    assert hash(strict) != hash(Policy(on_undetermined=choice))


def test_findings_without_a_note_are_believed_beside_one_with() -> None:
    pair = Judgement(
        prompt_harmfulness=Finding(label="unharmful", note=NOTE),
        response_refusal=Finding(label="refusal"),
        response_harmfulness=Finding(label="harmful"),
    )
    decision = Policy(on_unmeasured="undetermined").decide(pair, response=True)
    assert decision.blocked_by == "finding"
    assert Policy(on_unmeasured="undetermined", block={"harmful_prompt"}).decide(pair, response=True).blocked_by == "failure"
    assert (
        Policy(on_unmeasured="undetermined", block={"refusal"})
        .decide(pair, response=True)
        .reasons[0]
        .startswith("response_refusal")
    )
