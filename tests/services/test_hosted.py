"""Moderation services on a loopback server that answers as the vendors' schemas say: verdicts, pieces, faults, secrets."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

import servers
from guardreasoner_sdk import ConfigurationError, Exchange, Guard, Image, MissingExtraError
from guardreasoner_sdk.catalog import MODELS as CATALOGUE
from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.judges.hosted import HostedJudge
from guardreasoner_sdk.services import (
    SERVICES,
    AzureContentSafety,
    BedrockGuardrail,
    MistralModeration,
    ModelArmor,
    OpenAIModeration,
    Service,
)
from guardreasoner_sdk.services.base import Assessment, pieces
from guardreasoner_sdk.services.hazards import VENDOR_HAZARDS
from vendors import HARMFUL, HARMLESS, KEY, MODELS, TEMPLATE, answering, armor, azure, bedrock, judged_text, mistral, openai

ENOUGH = 60.0
JUDGED = "the judged text that nobody may quote"
NAMES = list(MODELS)


def hosted(name: str, server: Any, **more: Any) -> Guard:
    model, options = MODELS[name]
    options = {"retries": 1, "breaker_failures": 100, **options, **more.pop("options", {})}
    return Guard(model, base_url=f"http://{server.host}", api_key=KEY, options=options, **{"timeout": ENOUGH, **more})


def says(body: Any, **more: Any) -> Any:
    return servers.Reply(body=body, **more)


@pytest.mark.parametrize("name", NAMES)
def test_each_text_is_judged_and_refusal_is_nobodys_task(server: Any, name: str) -> None:
    server.plan(otherwise=lambda asked: answering(HARMFUL if "bomb" in judged_text(asked.body) else HARMLESS, name)(asked))
    with hosted(name, server) as guard:
        asked, answered, both = guard.check("a bomb"), guard.check("Bread?", "a bomb"), guard.check("Bread?", "Mix flour.")
    assert (asked.prompt_harmfulness.label, asked.response_harmfulness) == ("harmful", None)
    assert (answered.prompt_harmfulness.label, answered.response_harmfulness.label) == ("unharmful", "harmful")
    assert [verdict.action for verdict in (asked, answered, both)] == ["block", "block", "allow"]
    assert {verdict.response_refusal for verdict in (asked, answered, both)} == {None}
    assert (both.model, both.backend, both.categories) == (MODELS[name][0], "hosted", ())
    assert "S10 Hate" in asked.categories
    for verdict in (asked, answered, both):
        probable = name in ("openai-moderation", "mistral-moderation")
        assert (verdict.prompt_harmfulness.score is not None) is probable  # severities and decisions are no probabilities
        assert {step.kind for step in verdict.reasoning} == {"evidence"}
    assert CATALOGUE[name].tasks == ("prompt_harmfulness", "response_harmfulness")


def test_what_is_sent_is_what_each_vendor_documents(server: Any) -> None:
    exchange = Exchange("And cake?", "Bake it.", [{"role": "system", "content": "Be kind."}, {"role": "tool", "content": "5"}])
    sent = {}
    for name in NAMES:
        server.plan(otherwise=answering(HARMLESS, name))
        with hosted(name, server) as guard:
            guard.check(exchange)
        sent[name] = sorted(((request.path, request.body) for request in server.asked), key=lambda one: json.dumps(one))
        authorization = {request.headers.get("Authorization") for request in server.asked}
        azure_key = {request.headers.get("Ocp-Apim-Subscription-Key") for request in server.asked}
        assert (authorization, azure_key) == (({None}, {KEY}) if "azure" in name else ({f"Bearer {KEY}"}, {None}))
    system, user = {"role": "system", "content": "Be kind."}, {"role": "user", "content": "And cake?"}
    assert sent == {
        "openai-moderation": [
            ("/moderations", {"input": text, "model": "omni-moderation-latest"}) for text in ("And cake?", "Bake it.")
        ],
        "mistral-moderation": [
            ("/chat/moderations", {"input": turns, "model": "mistral-moderation-latest"})
            for turns in ([system, user, {"role": "assistant", "content": "Bake it."}], [system, user])
        ],
        "azure-content-safety": [
            ("/contentsafety/text:analyze?api-version=2023-10-01", {"text": text, "outputType": "FourSeverityLevels"})
            for text in ("And cake?", "Bake it.")
        ],
        "bedrock-guardrails": [
            ("/guardrail/abc123/version/1/apply", {"source": source, "content": [{"text": {"text": text}}]})
            for source, text in (("INPUT", "And cake?"), ("OUTPUT", "Bake it."))
        ],
        "model-armor": [
            (
                f"/v1/{TEMPLATE}:sanitizeModelResponse",
                {"modelResponseData": {"text": "Bake it."}, "userPrompt": "And cake?"},
            ),
            (f"/v1/{TEMPLATE}:sanitizeUserPrompt", {"userPromptData": {"text": "And cake?"}}),
        ],
    }


def test_raw_text_can_be_sent_to_mistral_and_long_turns_are_left_out_of_a_conversation(server: Any) -> None:
    server.plan(says(HARMLESS["mistral-moderation"]))
    with hosted("mistral-moderation", server, options={"chat": False}) as guard:
        guard.check("Bread?", history=[{"role": "user", "content": "Hello"}])
    assert [(request.path, request.body["input"]) for request in server.asked] == [("/moderations", "Bread?")]
    server.plan(says(HARMLESS["mistral-moderation"]))
    with hosted("mistral-moderation", server, options={"piece": 10, "overlap": 0}) as guard:
        guard.check("Bread?", "Yes.", history=[{"role": "user", "content": "H" * 11}, {"role": "assistant", "content": "Hm."}])
        guard.check("B" * 12, "No.")
    shown = sorted([turn["content"] for turn in request.body["input"]] for request in server.asked)
    assert shown == [["BB"], ["B" * 10], ["B" * 10, "No."], ["Hm.", "Bread?"], ["Hm.", "Bread?", "Yes."]]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["beginning", "middle", "end"])
def test_long_text_goes_in_overlapping_pieces_and_the_strongest_counts(server: Any, name: str, place: str) -> None:
    size = 120
    filler = "word " * 100
    text = {"beginning": "a bomb " + filler, "middle": filler[:250] + " a bomb " + filler[250:], "end": filler + "a bomb"}[
        place
    ]
    server.plan(otherwise=lambda asked: answering(HARMFUL if "a bomb" in judged_text(asked.body) else HARMLESS, name)(asked))
    with hosted(name, server, options={"piece": size, "overlap": 20}) as guard:
        verdict = guard.check("Bread?", text)
    assert (verdict.prompt_harmfulness.label, verdict.response_harmfulness.label) == ("unharmful", "harmful")
    texts = [judged_text(request.body) for request in server.asked]
    assert max(map(len, texts)) == size
    assert sum(map(len, texts)) == len(text) + len("Bread?") + 20 * (len(texts) - 2)
    if verdict.response_harmfulness.score is not None:
        assert verdict.response_harmfulness.score == 0.93


@given(st.text(), st.integers(1, 9), st.integers(0, 8))
def test_pieces_are_the_whole_text_and_none_is_too_long(text: str, size: int, overlap: int) -> None:
    overlap = min(overlap, size - 1)
    cut = list(pieces(text, size, overlap))
    assert cut[0] + "".join(piece[overlap:] for piece in cut[1:]) == text
    assert all(len(piece) <= size for piece in cut)


def test_one_piece_that_cannot_be_judged_leaves_the_text_undetermined_unless_another_one_is_harmful(server: Any) -> None:
    def answers(harmful: str) -> Any:
        def reply(request: Any) -> Any:
            text = request.body["input"]
            if "broken" in text:
                return says({"results": []})
            return says(openai({"hate": 0.9 if harmful in text else 0.1}))

        return reply

    for harmful, label in (("bomb", "harmful"), ("nothing", "undetermined")):
        server.plan(otherwise=answers(harmful))
        with hosted("openai-moderation", server, options={"retries": 0, "piece": 12, "overlap": 0}) as guard:
            verdict = guard.check("broken here a bomb!")
        assert verdict.prompt_harmfulness.label == label
        assert verdict.action == "block"
        assert verdict.prompt_harmfulness.score is None  # of one piece nobody knows it


# What vendors say, and what becomes of it


def read(service: Service, answer: Any, task: str = "prompt_harmfulness") -> Assessment:
    return service.read(task, answer)  # type: ignore[arg-type]


def test_openais_decision_counts_and_a_threshold_replaces_it() -> None:
    flagged_low = openai({"sexual/minors": 0.4}, flagged=True)
    assert read(OpenAIModeration(), flagged_low) == Assessment(
        True, 0.4, (), "flagged, sexual/minors 0.40, harassment 0.00, harassment/threatening 0.00"
    )
    assert not read(OpenAIModeration(threshold=0.5), flagged_low).harmful
    strict = read(OpenAIModeration(threshold=0.3), openai({"hate": 0.31, "violence": 0.35}))
    assert (strict.harmful, strict.categories) == (True, ("S10 Hate", "S1 Violent Crimes"))
    older = openai({})
    older["results"][0]["categories"]["illicit"] = older["results"][0]["category_scores"]["illicit"] = None
    assert not read(OpenAIModeration(model="text-moderation-latest"), older).harmful
    with pytest.raises(ValueError, match="of each category"):
        read(OpenAIModeration(), older)


def test_what_mistral_names_counts_as_far_as_it_is_harm() -> None:
    advice = mistral({"health": 0.9, "law": 0.8, "pii": 0.7})
    assert read(MistralModeration(), advice) == Assessment(
        False, 0.001, (), "sexual 0.00, hate_and_discrimination 0.00, violence_and_threats 0.00"
    )
    assert read(MistralModeration(advice=True), advice).categories == ("S6 Specialized Advice",)
    assert read(MistralModeration(personal_data=True), advice).categories == ("S7 Privacy",)
    jailbreak = mistral({"jailbreaking": 0.9})
    assert read(MistralModeration(), jailbreak).categories == ("jailbreaking",)
    assert not read(MistralModeration(), jailbreak, "response_harmfulness").harmful
    unknown = mistral({})
    unknown["results"][0]["categories"]["something_new"] = True  # a category of a newer model is no reason to let text pass
    assert read(MistralModeration(), unknown) == Assessment(
        True, None, ("something_new",), read(MistralModeration(), unknown).said
    )


@pytest.mark.parametrize(
    ("level", "least", "harmful"), [(0, 2, False), (2, 2, True), (2, 4, False), (4, 4, True), (4, 6, False)]
)
def test_azures_severities_are_levels(level: int, least: int, harmful: bool) -> None:
    found = read(AzureContentSafety(severity=least), azure({"Sexual": level}))
    assert (found.harmful, found.score, found.categories) == (harmful, None, ("S12 Sexual Content",) if harmful else ())
    assert f"Sexual severity {level}" in found.said


def test_what_is_on_a_blocklist_of_azures_is_harmful(server: Any) -> None:
    server.plan(says(azure({}, matches=("words",))))
    with hosted("azure-content-safety", server, options={"blocklists": ["words"]}) as guard:
        verdict = guard.check("x")
    assert (verdict.action, verdict.categories) == ("block", ("blocklist",))
    assert server.asked[0].body["blocklistNames"] == ["words"]


def test_whatever_a_guardrail_intervenes_for_is_harmful_and_no_word_is_quoted() -> None:
    words = {"customWords": [{"match": JUDGED, "action": "BLOCKED"}], "managedWordLists": []}
    masked = {"piiEntities": [{"match": JUDGED, "type": "EMAIL", "action": "ANONYMIZED"}], "regexes": []}
    topic = {"topics": [{"name": "Medicines", "type": "DENY", "action": "BLOCKED"}]}
    found = read(
        BedrockGuardrail(), bedrock("MISCONDUCT", wordPolicy=words, sensitiveInformationPolicy=masked, topicPolicy=topic)
    )
    assert found.harmful
    assert found.categories == ("S2 Non-Violent Crimes", "Medicines", "a word of the guardrail's list", "EMAIL")
    assert JUDGED not in repr(found)
    quiet = bedrock()
    quiet["assessments"] = [{"contentPolicy": {"filters": [{"type": "HATE", "confidence": "LOW", "action": "NONE"}]}}]
    assert read(BedrockGuardrail(), quiet) == Assessment(False, None, (), "the guardrail did not intervene")
    with pytest.raises(ValueError, match="a part of the text only"):
        read(BedrockGuardrail(), bedrock(guarded=10))
    assert read(BedrockGuardrail(), bedrock("HATE", guarded=10)).harmful


def test_a_filter_of_model_armor_that_did_not_run_lets_nothing_pass() -> None:
    for invocation in ("PARTIAL", "FAILURE", "INVOCATION_RESULT_UNSPECIFIED"):
        with pytest.raises(ValueError, match="did not run"):
            read(ModelArmor(), armor(invocation=invocation))
        assert read(ModelArmor(), armor("dangerous", invocation=invocation)).harmful
    deeper = {"sdp": {"sdpFilterResult": {"inspectResult": {"matchState": "MATCH_FOUND"}}}}
    jailbreak = {"pi_and_jailbreak": {"piAndJailbreakFilterResult": {"matchState": "MATCH_FOUND"}}}
    assert read(ModelArmor(), armor("hate_speech", "harassment", **deeper, **jailbreak)).categories == (
        *("S10 Hate", "harassment", "pi_and_jailbreak", "S7 Privacy"),
    )


def _changed(answer: Any, change: Callable[[Any], None]) -> Any:
    copy = json.loads(json.dumps(answer))
    change(copy)
    return copy


def _first(answer: Any) -> Any:
    return answer["results"][0]


def _filters(answer: Any) -> Any:
    return answer["sanitizationResult"]["filterResults"]


NOT_LOOKED_AT: dict[str, tuple[Service, Any]] = {
    "bedrock: no coverage": (BedrockGuardrail(), _changed(bedrock(), lambda it: it.pop("guardrailCoverage"))),
    "bedrock: no number": (BedrockGuardrail(), bedrock(guarded=float("nan"), total=float("nan"))),  # type: ignore[arg-type]
    "bedrock: true": (BedrockGuardrail(), bedrock(guarded=True, total=True)),
    "bedrock: more than there is": (BedrockGuardrail(), bedrock(guarded=21)),
    "bedrock: assessments are an object": (BedrockGuardrail(), bedrock() | {"assessments": {}}),
    "bedrock: assessments are a text": (BedrockGuardrail(), bedrock() | {"assessments": ""}),
    "bedrock: a policy is a list": (BedrockGuardrail(), bedrock() | {"assessments": [{"contentPolicy": []}]}),
    "bedrock: filters are a text": (BedrockGuardrail(), bedrock() | {"assessments": [{"contentPolicy": {"filters": ""}}]}),
    "armor: skipped": (
        ModelArmor(),
        _changed(armor(), lambda it: _filters(it)["csam"]["csamFilterFilterResult"].update(executionState="EXECUTION_SKIPPED")),
    ),
    "armor: skipped, deeper": (
        ModelArmor(),
        _changed(
            armor(),
            lambda it: _filters(it)["sdp"]["sdpFilterResult"]["inspectResult"].update(executionState="EXECUTION_SKIPPED"),
        ),
    ),
    "armor: does not say that it ran": (ModelArmor(), _changed(armor(), lambda it: _filters(it).update(csam={}))),
    "armor: no filters": (ModelArmor(), _changed(armor(), lambda it: it["sanitizationResult"].pop("filterResults"))),
    "armor: empty filters": (ModelArmor(), _changed(armor(), lambda it: _filters(it).clear())),
    "azure: no word of blocklists": (
        AzureContentSafety(blocklists=("words",)),
        _changed(azure({}), lambda it: it.pop("blocklistsMatch")),
    ),
    "azure: blocklists are a text": (AzureContentSafety(), azure({}) | {"blocklistsMatch": ""}),
    "azure: a number for a name": (
        AzureContentSafety(),
        _changed(azure({}), lambda it: it["categoriesAnalysis"].append({"category": 5, "severity": 6})),
    ),
    "openai: no categories": (OpenAIModeration(), _changed(openai({}), lambda it: _first(it)["categories"].clear())),
    "openai: one is missing": (OpenAIModeration(), _changed(openai({}), lambda it: _first(it)["categories"].pop("hate"))),
    "openai: one is null": (OpenAIModeration(), _changed(openai({}), lambda it: _first(it)["categories"].update(hate=None))),
    "openai: no score for a threshold": (
        OpenAIModeration(threshold=0.5),
        _changed(openai({}), lambda it: _first(it)["category_scores"].pop("hate")),
    ),
    "mistral: one category": (MistralModeration(), {"results": [{"categories": {"sexual": False}}]}),
    "mistral: one is missing": (
        MistralModeration(),
        _changed(mistral({}), lambda it: _first(it)["categories"].pop("criminal")),
    ),
    "mistral: unknown ones alone": (MistralModeration(), {"results": [{"categories": {"new": False}, "category_scores": {}}]}),
}


@pytest.mark.parametrize("case", NOT_LOOKED_AT)
def test_an_answer_that_does_not_show_that_all_was_looked_at_is_no_verdict(case: str) -> None:
    service, answer = NOT_LOOKED_AT[case]
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        service.read("prompt_harmfulness", answer)


@pytest.mark.parametrize(("total", "label"), [(0, "undetermined"), (5, "undetermined"), (6, "unharmful"), (7, "undetermined")])
def test_bedrock_has_to_have_looked_at_as_many_characters_as_were_sent(server: Any, total: int, label: str) -> None:
    server.plan(says(bedrock(guarded=total, total=total)))
    with hosted("bedrock-guardrails", server) as guard:
        assert guard.check("Bread😀").prompt_harmfulness.label == label


def test_a_part_that_says_harmful_counts_against_a_whole_that_does_not() -> None:
    blocked = bedrock("HATE") | {"action": "NONE"}
    assert read(BedrockGuardrail(), blocked) == Assessment(True, None, ("S10 Hate",), "the guardrail intervened")
    matched = armor("hate_speech")
    matched["sanitizationResult"]["filterMatchState"] = "NO_MATCH_FOUND"
    assert read(ModelArmor(), matched).categories == ("S10 Hate",)
    twice = azure({"Hate": 0})
    for place in (0, 4):
        more = _changed(twice, lambda it, at=place: it["categoriesAnalysis"].insert(at, {"category": "Hate", "severity": 6}))  # type: ignore[misc]
        assert read(AzureContentSafety(), more).categories == ("S10 Hate",)
    for unscored in (
        _changed(openai({"hate": 0.9}), lambda it: _first(it)["category_scores"].update(hate=None)),
        _changed(openai({"hate": 0.9}), lambda it: _first(it)["category_scores"].pop("hate")),
    ):
        for service in (OpenAIModeration(threshold=0.5), OpenAIModeration()):
            found = read(service, unscored)
            assert (found.harmful, found.score, found.categories) == (True, None, ("S10 Hate",))


def test_the_model_of_mistrals_before_this_one_is_read_too() -> None:
    older = mistral({})
    held = _first(older)["categories"]
    for name in ("dangerous", "criminal", "jailbreaking"):
        del held[name]
    held["dangerous_and_criminal_content"] = True
    assert read(MistralModeration(), older).categories == ("S2 Non-Violent Crimes",)


@pytest.mark.parametrize("proof", [None, "image", {"violence": "image"}, {"violence": {"image": 1}}, ["image"], {}])
def test_that_an_image_was_looked_at_is_said_in_the_documented_form_alone(server: Any, proof: Any) -> None:
    image = Image(bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b"))
    server.plan(says(_changed(openai({}), lambda it: _first(it).update(category_applied_input_types=proof))))
    with hosted("openai-moderation", server) as guard:
        assert guard.check("", images=[image]).prompt_harmfulness.label == "undetermined"


def test_half_a_character_in_the_name_of_a_category_leaves_a_verdict_that_can_be_written(server: Any) -> None:
    def name_it(answer: Any) -> None:
        _first(answer)["categories"]["\ud800new"] = True
        _first(answer)["category_scores"]["\ud800new"] = 0.99

    server.plan(says(json.dumps(_changed(openai({}), name_it)).encode(), headers={"Content-Type": "application/json"}))
    with hosted("openai-moderation", server) as guard:
        verdict = guard.check("Bread?")
    assert (verdict.action, verdict.categories) == ("block", ("\ufffdnew",))
    assert "\ufffdnew 0.99" in verdict.reasoning[0].text
    assert "\ufffdnew" in verdict.model_dump_json()


def test_aws_credentials_go_to_aws_alone(server: Any) -> None:
    pytest.importorskip("botocore", reason="a vendor's client is not installed: botocore")
    guardrail = BedrockGuardrail(guardrail="abc", region="eu-central-1")
    own = "https://vpce-1.bedrock-runtime.eu-central-1.vpce.amazonaws.com"
    assert guardrail.access(own, None).sign is not None
    assert guardrail.access("https://bedrock-runtime.cn-north-1.amazonaws.com.cn", None).sign is not None
    for foreign in (f"http://{server.host}", f"{own}.evil.example", own.replace("https", "http"), f"{own}:8443"):
        with pytest.raises(ConfigurationError, match="api_key: is missing; the AWS credentials of this machine go to AWS"):
            guardrail.access(foreign, None)
        assert guardrail.access(foreign, SecretStr(KEY)).sign is None


@pytest.mark.parametrize("name", NAMES)
def test_every_category_of_the_table_is_a_hazard_or_keeps_its_name(name: str) -> None:
    assert set(VENDOR_HAZARDS) == set(SERVICES) == {row for row, info in CATALOGUE.items() if "hosted" in info.weights}
    assert {code for code in VENDOR_HAZARDS[name].values() if code} <= set(HAZARDS)
    assert CATALOGUE[name].source
    assert not CATALOGUE[name].runs_here


# Whatever comes back


def _damaged(answer: Any, path: tuple[Any, ...], value: Any) -> Any:
    copy = json.loads(json.dumps(answer))
    at = copy
    for key in path[:-1]:
        at = at[key]
    if value is None:
        del at[path[-1]]
    else:
        at[path[-1]] = value
    return copy


def _paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path for key, inner in items for path in ((*at, key), *_paths(inner, (*at, key)))]


_OPTIONAL = re.compile(
    r"id|model|usage|outputs|guardrailCoverage|blocklistsMatch|category_applied|filterResults|assessments\.|category_scores\.|categories\."
)


@pytest.mark.parametrize("name", NAMES)
def test_a_field_that_is_missing_or_of_another_kind_never_means_safe(name: str) -> None:
    service = SERVICES[name]()
    looked_at = 0
    for path in _paths(HARMFUL[name]):
        for value in (None, 17, "x", [], {}, True):
            try:
                found = service.read("prompt_harmfulness", _damaged(HARMFUL[name], path, value))
            except (ValueError, LookupError, TypeError, AttributeError):
                looked_at += 1
            else:
                # What is left says so still: one of two categories, or the decision.
                assert found.harmful, path
    assert looked_at >= 10


json_values = st.recursive(
    st.none() | st.booleans() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60)
@given(st.sampled_from(NAMES), json_values)
def test_arbitrary_json_is_no_verdict(name: str, answer: Any) -> None:
    with pytest.raises((ValueError, LookupError, TypeError, AttributeError)):
        SERVICES[name]().read("prompt_harmfulness", answer)


FAULTS: dict[str, tuple[Any, float, str]] = {
    "too many requests": (
        lambda _: servers.Reply(429, {"error": f"{JUDGED} {KEY}"}, {"Retry-After-Ms": "1"}),
        ENOUGH,
        "HTTP 429",
    ),
    "come back too late": (lambda _: servers.Reply(429, b"", {"Retry-After": "50"}), 0.4, "before the deadline"),
    "a failure": (lambda _: servers.Reply(500, f"{JUDGED} {KEY}".encode(), {"Retry-After-Ms": "1"}), ENOUGH, "HTTP 500"),
    "unavailable": (lambda _: servers.Reply(503, b"", {"Retry-After-Ms": "1"}), ENOUGH, "HTTP 503"),
    "half a body": (
        lambda answer: servers.Reply(body=json.dumps(answer).encode()[:-20], missing=20),
        ENOUGH,
        "unreadable answer",
    ),
    "malformed": (lambda answer: servers.Reply(body=json.dumps(answer).encode()[:-20]), ENOUGH, "it is no JSON"),
    "no JSON": (
        lambda _: servers.Reply(body=f"<html>{JUDGED}".encode(), headers={"Content-Type": "text/html"}),
        ENOUGH,
        "no JSON",
    ),
    "another schema": (lambda _: servers.Reply(body={"verdict": "safe"}), ENOUGH, "lacks what every answer has"),
    "a list": (lambda answer: servers.Reply(body=[answer]), ENOUGH, "lacks what every answer has"),
    "nothing": (lambda _: servers.Reply(body=b""), ENOUGH, "it is no JSON"),
    "a redirect": (
        lambda _: servers.Reply(307, b"", {"Location": "http://127.0.0.1:9/"}),
        ENOUGH,
        "points elsewhere (HTTP 307)",
    ),
    "bad request": (lambda _: servers.Reply(400, {"message": f"{JUDGED} {KEY}"}), ENOUGH, "refuses the request (HTTP 400)"),
    "too long": (lambda _: servers.Reply(413, b""), ENOUGH, "too long"),
    "hangs up": (lambda _: servers.DROP, ENOUGH, "unreadable answer"),
    "hangs": (lambda _: servers.HANG, 0.4, "before the deadline"),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_undetermined_and_quotes_neither_key_nor_text(
    server: Any, name: str, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, timeout, said = FAULTS[fault]
    server.plan(make(HARMLESS[name]))
    caplog.set_level(logging.DEBUG)
    with hosted(name, server) as guard:
        guard.load()
        verdict = guard.check(JUDGED, "an answer", timeout=timeout)
        shown = f"{guard.judge!r} {verdict!r} {verdict.model_dump_json()}"
    assert verdict.action == "block"
    assert {finding.label for finding in verdict.findings.values()} == {"undetermined"}
    assert set(verdict.findings) == {"prompt_harmfulness", "response_harmfulness"}
    assert said in verdict.prompt_harmfulness.cause
    for secret in (KEY, JUDGED):
        assert secret not in shown
        assert not any(secret in record.getMessage() for record in caplog.records if record.name.startswith("guardreasoner"))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_name_is_an_error_that_says_what_to_do(server: Any, name: str, status: int) -> None:
    server.plan(servers.Reply(status, {"message": f"{JUDGED} {KEY}"}))
    with hosted(name, server) as guard, pytest.raises(ConfigurationError) as caught:
        guard.check(JUDGED)
    field = {"openai-moderation": "model", "mistral-moderation": "model", "azure-content-safety": "base_url"}
    field |= {"bedrock-guardrails": "guardrail", "model-armor": "template"}
    assert str(caught.value).startswith("api_key: " if status < 404 else f"{field[name]}: ")
    assert KEY not in str(caught.value)
    assert JUDGED not in str(caught.value)


def test_what_passes_is_mended_by_a_retry_and_the_breaker_counts(server: Any) -> None:
    slow = servers.Reply(429, b"", {"Retry-After-Ms": "1"})
    server.plan(slow, servers.HALF, says(HARMLESS["openai-moderation"]))
    with hosted("openai-moderation", server, options={"retries": 2}) as guard:
        assert guard.check("Bread?").allowed
    assert len(server.asked) == 3
    server.plan(says({"results": []}))
    with hosted("openai-moderation", server, options={"breaker_failures": 2}) as guard:
        causes = [guard.check("Bread?").prompt_harmfulness.cause for _ in range(3)]
    assert len(server.asked) == 2  # what cannot be read is not asked again, and after two of them nobody is
    assert causes[2].startswith("the server failed 2 times in a row")


def test_a_closed_guard_and_a_server_that_is_not_there(server: Any) -> None:
    server.plan(says(HARMLESS["openai-moderation"]))
    guard = hosted("openai-moderation", server)
    assert guard.check("Bread?").allowed
    guard.close()
    with servers.running_faulty_server() as gone:
        pass
    with hosted("openai-moderation", gone, options={"retries": 0}) as guard:
        assert "cannot be reached" in guard.check("Bread?").prompt_harmfulness.cause


def test_a_cascade_asks_a_service_about_the_doubtful_alone(server: Any) -> None:
    server.plan(says(HARMFUL["openai-moderation"]))
    with hosted("openai-moderation", server, screen="embedded", band=(0.0, 1.0)) as guard:
        verdict = guard.check("Bread?", "I cannot help with that.")
    assert verdict.prompt_harmfulness.label == "harmful"
    assert verdict.response_refusal.label == "refusal"  # which the service does not judge, and the screen does
    assert [hop.backend for hop in verdict.path] == ["embedded", "hosted"]


# Keys, addresses, options


def test_a_vendors_key_goes_to_the_vendor_alone(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in ("OPENAI_API_KEY", "MISTRAL_API_KEY", "CONTENT_SAFETY_KEY", "AWS_BEARER_TOKEN_BEDROCK"):
        monkeypatch.setenv(variable, KEY)
    for service in (OpenAIModeration(), MistralModeration()):
        assert KEY in str(service.access(None, None).headers["Authorization"].get_secret_value())
        for foreign in (
            f"http://{server.host}",
            "https://api.openai.com.evil.example/v1",
            "http://api.openai.com/v1",
            "https://api.openai.com:8443",
        ):
            assert service.access(foreign, None).headers == {}
    guardrail = BedrockGuardrail(guardrail="abc", region="eu-central-1")
    assert guardrail.access(None, None).url == "https://bedrock-runtime.eu-central-1.amazonaws.com"
    assert guardrail.access(None, None).headers["Authorization"].get_secret_value() == f"Bearer {KEY}"
    with pytest.raises(ConfigurationError, match="api_key: is missing; the AWS credentials of this machine"):
        guardrail.access(f"http://{server.host}", None)
    azure_headers = AzureContentSafety().access("https://mine.cognitiveservices.azure.com", None).headers
    assert azure_headers["Ocp-Apim-Subscription-Key"].get_secret_value() == KEY
    with pytest.raises(ConfigurationError, match="api_key: azure-content-safety wants one"):
        AzureContentSafety().access("https://mine.cognitiveservices.azure.com.evil.example", None)
    monkeypatch.setenv("CONTENT_SAFETY_ENDPOINT", f"http://{server.host}")
    assert AzureContentSafety().access(None, None).url == f"http://{server.host}"
    # And what is in variables of OpenAI's client stays there.
    monkeypatch.setenv("OPENAI_ORG_ID", "org-secret")
    server.plan(says(HARMLESS["azure-content-safety"]))
    with Guard("azure-content-safety") as guard:
        assert guard.check("Bread?").allowed
    assert "org-secret" not in str(server.asked[0].headers)
    assert "Authorization" not in server.asked[0].headers


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"model": "openai-moderation"}, "api_key: openai-moderation wants one; pass it, or set OPENAI_API_KEY"),
        ({"model": "mistral-moderation"}, "api_key: mistral-moderation wants one; pass it, or set MISTRAL_API_KEY"),
        ({"model": "azure-content-safety"}, "base_url: azure-content-safety wants one; pass the resource's endpoint"),
        (
            {"model": "bedrock-guardrails"},
            "guardrail: bedrock-guardrails wants one; use Guard('bedrock-guardrails:ID:VERSION')",
        ),
        ({"model": "bedrock-guardrails:abc:1", "api_key": KEY}, "region: must be a region such as 'eu-central-1'; pass"),
        ({"model": "bedrock-guardrails:a b:1", "api_key": KEY}, "guardrail: must be its identifier, such as 'abc123'"),
        (
            {"model": "model-armor"},
            "template: model-armor wants one; use Guard('model-armor:projects/P/locations/L/templates/T')",
        ),
        ({"model": "model-armor:t"}, "template: must be 'projects/P/locations/L/templates/T', not 't'"),
        (
            {"model": f"model-armor:{TEMPLATE}", "base_url": "http://localhost:1"},
            "api_key: is missing; the credentials of this",
        ),
        ({"model": "azure-content-safety:x"}, "model: azure-content-safety takes nothing behind a colon, not 'x'"),
        ({"model": "openai-moderation", "dialect": "prompted"}, "dialect: belongs to language models"),
        ({"model": "openai-moderation", "reasoning": "full"}, "reasoning: openai-moderation does not reason as 'full' asks"),
        ({"model": "openai-moderation", "backend": "vllm"}, "backend: 'vllm' does not run 'openai-moderation'"),
        ({"model": "embedded", "backend": "hosted"}, "backend: 'hosted' does not run 'embedded'"),
        ({"model": "openai-moderation", "backend": AzureContentSafety()}, "backend: AzureContentSafety(...) is not for"),
        ({"model": "openai-moderation", "options": {"severity": 2}}, "options: 'severity' is unknown to this backend"),
        ({"model": "openai-moderation", "options": {"threshold": 2}}, "threshold: must be a score above 0 and up to 1, not 2"),
        ({"model": "azure-content-safety", "options": {"severity": 3}}, "severity: must be one of 2, 4, 6, not 3"),
        (
            {"model": "azure-content-safety", "options": {"piece": 10_001}},
            "piece: azure-content-safety takes 10,000 characters",
        ),
        ({"model": "openai-moderation", "options": {"overlap": 8_000}}, "overlap: must be less than piece (8,000), not 8,000"),
        (
            {"model": "openai-moderation", "options": {"threshold": "0.5"}},
            "threshold: must be a score above 0 and up to 1, not '0.5'",
        ),
        ({"model": "azure-content-safety", "options": {"blocklists": 5}}, "blocklists: must be names in a list"),
        ({"model": "azure-content-safety", "options": {"blocklists": [5]}}, "blocklists: must be names in a list"),
        ({"model": "azure-content-safety", "options": {"api_version": None}}, "api_version: must be one of the REST API's"),
        ({"model": "mistral-moderation", "options": {"chat": "false"}}, "chat: must be True or False, not 'false'"),
        ({"model": "mistral-moderation", "options": {"advice": 1}}, "advice: must be True or False, not 1"),
        ({"model": "mistral-moderation", "options": {"personal_data": None}}, "personal_data: must be True or False, not None"),
        ({"model": "bedrock-guardrails", "options": {"version": None}}, "version: must be a number such as '1', or 'DRAFT'"),
        *(
            ({"model": f"model-armor:projects/{project}/locations/l/templates/{template}"}, "template: must be 'projects/P/")
            for project, template in (("..", "t"), ("p", ".."), ("p", "."), ("%2e%2e", "t"), ("p", "..%2f"))
        ),
        ({"model": "openai-moderation", "base_url": "ftp://x"}, "base_url: must begin with http"),
        ({"model": "openai-moderation", "base_url": "http://me:x@h", "api_key": KEY}, "base_url: must hold no user name"),
        ({"model": "openai-moderation", "base_url": "http://h", "api_key": f"{KEY}\n"}, "api_key: is empty, or holds"),
        *(
            ({"model": model, "base_url": "http://h", "api_key": key}, "api_key: is empty, or holds")
            for model in ("openai-moderation", "azure-content-safety")
            for key in (f" {KEY}", f"{KEY} ", " ")
        ),
    ],
)
def test_what_cannot_work_is_told_when_the_guard_is_made(options: dict[str, Any], told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Guard(**options)
    assert str(caught.value).startswith(told)
    assert KEY not in str(caught.value)


def test_options_of_a_service_name_it() -> None:
    with Guard(backend=OpenAIModeration(), api_key=KEY) as guard:
        assert guard.judge.model == "openai-moderation"
    with pytest.raises(ConfigurationError, match="service: must be a service such as OpenAIModeration"):
        HostedJudge("openai-moderation")  # type: ignore[arg-type]


def test_arns_are_quoted_in_the_path(server: Any) -> None:
    arn = "arn:aws:bedrock:eu-central-1:123456789012:guardrail/abc123"
    for model, version in ((f"bedrock-guardrails:{arn}", "DRAFT"), (f"bedrock-guardrails:{arn}:7", "7")):
        server.plan(otherwise=answering(HARMLESS, "bedrock-guardrails"))
        with Guard(model, base_url=f"http://{server.host}", api_key=KEY, options={"region": "eu-central-1"}) as guard:
            assert guard.check("Bread?").allowed
        quoted = arn.replace(":", "%3A").replace("/", "%2F")
        assert server.asked[0].path == f"/guardrail/{quoted}/version/{version}/apply"


@pytest.mark.parametrize(("name", "module"), [("bedrock-guardrails", "botocore"), ("model-armor", "google")])
def test_without_what_makes_the_key_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, name: str, module: str) -> None:
    import importlib.util

    found = importlib.util.find_spec
    for place in ("bedrock", "model_armor"):
        monkeypatch.setattr(
            f"guardreasoner_sdk.services.{place}.find_spec", lambda wanted: None if wanted == module else found(wanted)
        )
    model, options = MODELS[name]
    extra = {"botocore": "bedrock", "google": "model-armor"}[module]
    with pytest.raises(MissingExtraError, match=re.escape(f"pip install 'guardreasoner-sdk[{extra}]'")):
        Guard(model, options=options)


def test_openais_omni_models_are_shown_images_and_have_to_say_that_they_looked(server: Any) -> None:
    image = Image(bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b"))

    def reply(request: Any) -> Any:
        given = request.body["input"]
        shown = isinstance(given, list)
        body = openai({"violence": 0.9 if shown and len(given) == 1 else 0.01})
        looked = ["text", "image"] if shown and "unseen" not in str(given[0]) else ["text"]
        body["results"][0]["category_applied_input_types"] = {"violence": looked, "hate": ["text"]}
        return says(body)

    server.plan(otherwise=reply)
    with hosted("openai-moderation", server) as guard:
        assert guard.judge.sees_images
        assert guard.check("Bread?", images=[image]).allowed
        sent = [request.body["input"] for request in server.asked]  # side by side, and in any order
        assert sorted(sent, key=lambda given: isinstance(given, list)) == [
            "Bread?",
            [{"type": "text", "text": "Bread?"}, {"type": "image_url", "image_url": {"url": image.data_url}}],
        ]
        assert guard.check("", images=[image]).prompt_harmfulness.label == "harmful"
        assert guard.check("unseen", images=[image]).prompt_harmfulness.label == "undetermined"
    model = OpenAIModeration(model="text-moderation-latest")
    assert not model.sees_images
    with hosted("azure-content-safety", server) as guard:
        assert "did not see an image" in guard.check("", images=[image]).prompt_harmfulness.cause
