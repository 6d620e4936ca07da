import json
from pathlib import Path

import jsonschema
import pytest
from pydantic import ValidationError

import guardreasoner_sdk
from guardreasoner_sdk import BlockedError, Finding, Guard, Judgement, Policy, UndeterminedError, Verdict
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from guardreasoner_sdk.verdict import undetermined

SCHEMA = Path(guardreasoner_sdk.__file__).with_name("verdict.schema.json")


def make(**fields: object) -> Verdict:
    return Verdict(**{"action": "allow", "model": "m", "backend": "b", **fields})  # type: ignore[arg-type]


def test_the_published_schema_is_not_stale() -> None:
    fresh = Verdict.model_json_schema(mode="serialization")
    assert json.loads(SCHEMA.read_text("utf-8")) == fresh, "run: guardreasoner schema > guardreasoner_sdk/verdict.schema.json"


def test_a_verdict_fits_the_published_schema() -> None:
    verdict = Guard(judge=ScriptedJudge({}, otherwise=judgement("harmful", "refusal", "unharmful"))).check("a", "b")
    schema = json.loads(SCHEMA.read_text("utf-8"))
    jsonschema.validate(verdict.model_dump(mode="json"), schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(verdict.model_dump(mode="json") | {"action": "shrug"}, schema)


def test_a_verdict_survives_json() -> None:
    verdict = make(prompt_harmfulness=undetermined("why"), reasons=("a",), action="block")
    assert Verdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_a_verdict_is_frozen() -> None:
    with pytest.raises(ValidationError):
        make().action = "block"  # type: ignore[misc]


def test_labels_fit_their_tasks() -> None:
    with pytest.raises(ValidationError, match="response_refusal: label 'harmful' is not one of refusal, compliance"):
        Judgement(response_refusal=Finding(label="harmful"))


@pytest.mark.parametrize(
    "finding", [{"label": "undetermined"}, {"label": "harmful", "cause": "x"}, {"label": "harmful", "score": 2}]
)
def test_findings_that_contradict_themselves_are_refused(finding: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Finding.model_validate(finding)


def test_raise_for_block_returns_itself_when_allowed() -> None:
    verdict = make(prompt_harmfulness=Finding(label="unharmful"))
    assert verdict.raise_for_block() is verdict


def test_raise_for_block_tells_a_finding_from_a_failure() -> None:
    found = make(
        action="block", blocked_by="finding", reasons=("prompt is harmful",), prompt_harmfulness=Finding(label="harmful")
    )
    with pytest.raises(BlockedError, match="^prompt is harmful$") as caught:
        found.raise_for_block()
    assert caught.value.verdict is found
    with pytest.raises(UndeterminedError, match="^action block$"):
        make(action="block", blocked_by="failure", prompt_harmfulness=undetermined("x")).raise_for_block()


def test_unable_covers_the_tasks_asked_for() -> None:
    alone, pair = Judgement.unable("x", response=False), Judgement.unable("x", response=True)
    assert list(alone.findings) == ["prompt_harmfulness"]
    assert len(pair.findings) == 3
    assert Policy().decide(pair, response=True).action == "block"
