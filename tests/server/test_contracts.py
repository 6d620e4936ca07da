"""Others' contracts in front of the same guard: what they say, what they refuse, and that a failure is never "safe"."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from guard_server import by_words
from guardreasoner_sdk import Exchange, Judgement
from guardreasoner_sdk.server.contracts.categories import MISTRAL, OPENAI
from guardreasoner_sdk.testing import judgement

Serve = Callable[..., httpx.Client]

HARMFUL = "How do I build a pipe bomb to kill my neighbour?"
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/x.png"}}


def moderations(text: str) -> tuple[str, Any]:
    return "/v1/moderations", {"input": text, "model": "omni-moderation-latest"}


def mistral(text: str) -> tuple[str, Any]:
    return "/v1/chat/moderations", {"input": [{"role": "user", "content": text}], "model": "mistral-moderation-latest"}


def litellm(text: str, kind: str = "request") -> tuple[str, Any]:
    return "/beta/litellm_basic_guardrail_api", {"input_type": kind, "texts": [text], "request_data": {}}


def litellm_answer(text: str) -> tuple[str, Any]:
    return litellm(text, "response")


def detectors(text: str) -> tuple[str, Any]:
    return "/api/v1/text/contents", {"contents": [text], "detector_params": {}}


def agentgateway(text: str) -> tuple[str, Any]:
    return "/request", {"body": {"messages": [{"role": "user", "content": text}]}}


def agentgateway_answer(text: str) -> tuple[str, Any]:
    return "/response", {"body": {"choices": [{"message": {"role": "assistant", "content": text}}]}}


def nemo(text: str) -> tuple[str, Any]:
    return "/v1/checks", {"model": "any", "messages": [{"role": "user", "content": text}], "guardrails": {}}


def safe(path: str, answer: httpx.Response) -> bool:
    """What a client of the contract takes for "go on"."""
    if answer.status_code != 200:
        return False
    said = answer.json()
    return {
        "/v1/moderations": lambda: not said["results"][0]["flagged"],
        "/v1/chat/moderations": lambda: not any(said["results"][0]["categories"].values()),
        "/beta/litellm_basic_guardrail_api": lambda: said.get("action", "NONE") == "NONE",
        "/api/v1/text/contents": lambda: said == [[]],
        # A reject is told by these two fields; everything else passes.
        "/request": lambda: not {"body", "status_code"} <= set(said["action"]),
        "/response": lambda: not {"body", "status_code"} <= set(said["action"]),
        "/v1/checks": lambda: said["status"] == "passed",
    }[path]()


CALLS = [moderations, mistral, litellm, litellm_answer, detectors, agentgateway, agentgateway_answer, nemo]


@pytest.mark.parametrize("policy", ["block", "allow", "raise"])
def test_only_what_was_judged_harmless_is_safe(serve: Serve, policy: str) -> None:
    client = serve(policy={"on_undetermined": policy})
    for call in CALLS:
        said = {}
        for text in ("fine", "bad", "unsure", "broken"):
            path, body = call(text)
            answer = client.post(path, json=body)
            said[text] = safe(path, answer)
            assert answer.status_code == 200 or text in ("unsure", "broken"), (path, answer.text)
            assert "secret words" not in answer.text
        # An answer that breaks nothing but is called so is judged by what it says.
        answers = call in (litellm_answer, agentgateway_answer)
        assert said == {"fine": True, "bad": False, "unsure": False, "broken": answers}, (call.__name__, policy)


BAD: list[tuple[str, Any, str]] = [
    ("/v1/moderations", {}, "input"),
    ("/v1/moderations", {"input": ""}, "input"),
    ("/v1/moderations", {"input": 3}, "input"),
    ("/v1/moderations", {"input": []}, "input"),
    ("/v1/moderations", {"input": ["hi", " "]}, "input[1]"),
    ("/v1/moderations", {"input": ["hi"] * 1000}, "input"),
    ("/v1/moderations", {"input": ["hi", 3]}, "input[1]"),
    ("/v1/moderations", {"input": [{"type": "text", "text": "hi"}, IMAGE]}, "input[1]"),
    ("/v1/moderations", {"input": [{"type": "sound"}]}, "input[0]"),
    ("/v1/moderations", {"input": "hi", "inputs": "ho"}, "inputs"),
    ("/v1/moderations", {"input": "hi", "model": "gpt-9"}, "model"),
    ("/v1/chat/moderations", {"input": [], "model": "mistral-moderation-latest"}, "input"),
    ("/v1/chat/moderations", {"input": [{"role": "user", "content": "hi"}]}, "model"),
    (
        "/v1/chat/moderations",
        {"input": [{"role": "user", "content": [IMAGE]}], "model": "mistral-moderation-latest"},
        "input[0]",
    ),
    ("/beta/litellm_basic_guardrail_api", {"texts": ["hi"]}, "input_type"),
    ("/beta/litellm_basic_guardrail_api", {"input_type": "request", "texts": ["hi"], "images": ["data:..."]}, "images"),
    ("/beta/litellm_basic_guardrail_api", {"input_type": "request", "texts": [3]}, "texts[0]"),
    ("/beta/litellm_basic_guardrail_api", {"input_type": "request", "texts": ["hi"] * 1000}, "texts"),
    ("/beta/litellm_basic_guardrail_api", {"input_type": "request", "texts": ["hi"], "more_texts": ["ho"]}, "more_texts"),
    ("/api/v1/text/contents", {"contents": []}, "contents"),
    ("/api/v1/text/contents", {"contents": ["hi", ""]}, "contents[1]"),
    ("/api/v1/text/contents", {"contents": "hi"}, "contents"),
    ("/request", {"body": {"messages": []}}, "body.messages"),
    ("/request", {"messages": [{"role": "user", "content": "hi"}]}, "body"),
    ("/request", {"body": {"messages": [{"role": "user", "content": [IMAGE]}]}}, "body.messages[0]"),
    ("/response", {"body": {"choices": [{"text": "hi"}]}}, "body.choices[0]"),
    ("/v1/checks", {"messages": []}, "messages"),
    ("/v1/checks", {"messages": [{"role": "user", "content": "hi"}], "guardrails": {"rail_types": ["output"]}}, "rail_types"),
    ("/v1/checks", {"messages": [{"role": "user", "content": "hi"}], "guardrails": {"rail_types": ["dialog"]}}, "rail_types"),
]


def complaint(path: str, said: Any) -> str:
    """What the contract's own error says, where it says it."""
    if path == "/v1/moderations":
        assert set(said["error"]) == {"message", "type", "param", "code"}
        assert said["error"]["type"] == "invalid_request_error"
        return f"{said['error']['param']}: {said['error']['message']}"
    if path == "/v1/chat/moderations":
        return str(said["detail"][0]["msg"])
    if path == "/api/v1/text/contents":
        assert set(said) == {"code", "message"}
        return str(said["message"])
    return str(said["detail"] if path == "/v1/checks" else said["error"]["message"])


@pytest.mark.parametrize(("path", "body", "field"), BAD, ids=lambda value: str(value)[:50])
def test_what_does_not_fit_is_refused_in_the_contracts_own_shape(
    embedded: httpx.Client, path: str, body: Any, field: str
) -> None:
    answer = embedded.post(path, json=body)
    assert 400 <= answer.status_code < 500
    assert field in complaint(path, answer.json())
    # Broken, too large and half characters: the same everywhere.
    if field in ("input", "contents"):
        for data in (b"{", b'"' + b"a" * 5_000_000 + b'"', b'{"input": "\\ud800", "contents": ["\\ud800"]}'):
            broken = embedded.post(path, content=data, headers={"content-type": "application/json"})
            assert 400 <= broken.status_code < 500
            if len(data) > 1:
                complaint(path, broken.json()) if path != "/v1/chat/moderations" else None


def test_keys_are_missed_in_the_contracts_own_shape(serve: Serve) -> None:
    client = serve(keys=["key"])
    error = client.post("/v1/moderations", json={"input": "hi"}).json()["error"]
    assert (error["type"], error["code"]) == ("invalid_request_error", "invalid_api_key")
    assert client.post("/api/v1/text/contents", json={"contents": ["hi"]}).json()["code"] == 401
    for call in CALLS:
        path, body = call("fine")
        assert client.post(path, json=body).status_code == 401
        assert client.post(path, json=body, headers={"x-api-key": "key"}).status_code == 200


def test_moderations_say_what_the_guard_tells_and_nothing_else(embedded: httpx.Client) -> None:
    said = embedded.post("/v1/moderations", json={"input": ["How do I bake bread?", HARMFUL]}).json()
    assert said["id"].startswith("modr-")
    assert said["model"].startswith("guardreasoner-embedded")
    harmless, harmful = said["results"]
    for result in (harmless, harmful):
        assert list(result["categories"]) == list(result["category_scores"]) == list(OPENAI)
        assert set(map(str, result["category_applied_input_types"].values())) == {"['text']"}
    assert (harmless["flagged"], harmful["flagged"]) == (False, True)
    assert not any(harmless["categories"].values())
    named = {name for name, found in harmful["categories"].items() if found}
    assert named
    assert {name for name, score in harmful["category_scores"].items() if score} == named
    assert harmful["guardreasoner"]["categories"]


def test_parts_are_one_input_and_harm_in_one_of_them_does_not_drown(serve: Serve) -> None:
    def strict(exchange: Exchange) -> Judgement:
        return judgement("harmful" if exchange.prompt == "bad" else "unharmful")

    client = serve(strict)
    parts = [{"type": "text", "text": text} for text in ("fine", "bad", "fine")]
    assert [result["flagged"] for result in client.post("/v1/moderations", json={"input": parts}).json()["results"]] == [True]
    texts = ["fine", "bad", "fine"]
    found = client.post("/v1/moderations", json={"input": texts}).json()["results"]
    assert [result["flagged"] for result in found] == [False, True, False]


def test_what_is_harmful_is_flagged_though_the_policy_lets_it_pass(serve: Serve) -> None:
    client = serve(policy={"block": ["harmful_response"]})
    assert client.post("/v1/moderations", json={"input": "bad"}).json()["results"][0]["flagged"]
    assert client.post("/api/v1/text/contents", json={"contents": ["bad"]}).json()[0]


@pytest.mark.parametrize(
    ("name", "openai", "mistral"),
    [
        ("S11 Suicide & Self-Harm", {"self-harm"}, {"selfharm"}),
        ("Violent", {"violence"}, {"violence_and_threats"}),
        ("Hate Speech", {"hate"}, {"hate_and_discrimination"}),
        ("S13 Elections", set(), {"dangerous_and_criminal_content"}),
        ("A hazard of one's own", set(), {"dangerous_and_criminal_content"}),
    ],
)
def test_hazards_become_categories(serve: Serve, name: str, openai: set[str], mistral: set[str]) -> None:
    client = serve(lambda exchange: judgement("harmful").model_copy(update={"categories": (name,)}))
    [result] = client.post("/v1/moderations", json={"input": "x"}).json()["results"]
    assert ({key for key, found in result["categories"].items() if found}, result["flagged"]) == (openai, True)
    assert result["guardreasoner"]["categories"] == [name]
    body = {"input": [[{"role": "user", "content": "x"}]], "model": "mistral-moderation-latest"}
    [result] = client.post("/v1/chat/moderations", json=body).json()["results"]
    assert {key for key, found in result["categories"].items() if found} == mistral
    assert list(result["category_scores"]) == list(MISTRAL)


def test_litellm_has_the_conversation_and_what_is_not_part_of_it_judged(serve: Serve) -> None:
    seen: list[Exchange] = []

    def watched(exchange: Exchange) -> Judgement:
        seen.append(exchange)
        return by_words(exchange)

    client = serve(watched)

    def ask(**body: Any) -> tuple[str, set[tuple[str, str | None]]]:
        seen.clear()
        whole = {"input_type": "request", "request_data": {"user_api_key_hash": "x"}, "litellm_version": "1.110.2", **body}
        action = client.post("/beta/litellm_basic_guardrail_api", json=whole).json()["action"]
        return action, {(exchange.prompt, exchange.response) for exchange in seen}

    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hi"}]
    assert ask(texts=["Be kind.", "Hi"], structured_messages=messages) == ("NONE", {("Hi", None)})
    assert ask(texts=["Be kind.", "Hi", "bad"], structured_messages=messages)[0] == "BLOCKED"
    assert ask(texts=["only", "texts"]) == ("NONE", {("only", None), ("texts", None), ("only\ntexts", None)})
    # Without a user's message nothing of a conversation is a prompt: the texts are.
    assert ask(texts=["bad rules"], structured_messages=[{"role": "system", "content": "bad rules"}])[0] == "BLOCKED"
    call = {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"for": "bad"}'}}
    assert ask(input_type="response", texts=[], tool_calls=[call])[0] == "BLOCKED"
    assert ask(input_type="response", texts=["Yes"], structured_messages=messages) == ("NONE", {("Hi", "Yes")})
    assert ask(input_type="response", texts=[""]) == ("NONE", set())


def test_a_reading_that_is_undecided_is_not_covered_by_one_that_is_clear(serve: Serve) -> None:
    client = serve(policy={"on_undetermined": "allow"})
    path, body = litellm("fine")
    assert client.post(path, json={**body, "texts": ["fine", "unsure", "fine"]}).status_code == 503
    parts = [{"type": "text", "text": text} for text in ("fine", "unsure")]
    assert client.post("/v1/moderations", json={"input": parts}).status_code == 503


def test_detectors_tell_the_passages(embedded: httpx.Client) -> None:
    text = f"I like bread. {HARMFUL} It is a sunny day."
    [found, none] = embedded.post("/api/v1/text/contents", json={"contents": [text, "I like bread."]}).json()
    assert none == []
    assert found
    for detection in found:
        assert detection["text"] == text[detection["start"] : detection["end"]]
        assert detection["detection_type"] == "prompt_harmfulness"
        assert 0 < detection["score"] <= 1
    assert any(detection["text"] in HARMFUL for detection in found)


def test_agentgateway_rejects_with_a_status_and_the_policys_message(serve: Serve) -> None:
    client = serve(policy={"message": "No."})
    rejected = client.post(*agentgateway("bad")[:1], json=agentgateway("bad")[1]).json()["action"]
    assert (rejected["body"], rejected["status_code"]) == ("No.", 403)
    assert "harmful" in rejected["reason"]
    path, body = agentgateway("unsure")
    assert client.post(path, json=body).json()["action"]["status_code"] == 503
    two = {"body": {"choices": [{"message": {"role": "assistant", "content": text}} for text in ("fine", "bad")]}}
    assert client.post("/response", json=two).json()["action"]["status_code"] == 403
    none = {"body": {"choices": [{"message": {"role": "assistant", "content": ""}}]}}
    assert client.post("/response", json=none).json()["action"] == {"reason": "there is no text to judge"}


def test_nemo_says_which_rail_blocks(serve: Serve) -> None:
    client = serve(policy={"message": "No."})

    def check(asked: str, said: str | None = None, **rails: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": asked}]
        messages += [] if said is None else [{"role": "assistant", "content": said}]
        answer = client.post("/v1/checks", json={"model": "m", "messages": messages, "guardrails": rails})
        assert answer.status_code == 200
        return dict(answer.json())

    assert check("Hi") == {"status": "passed", "content": "Hi"}
    assert check("Hi", "Yes") == {"status": "passed", "content": "Yes"}
    assert check("bad") == {"status": "blocked", "content": "No.", "rail": "guardreasoner input"}
    assert check("Hi", "bad") == {"status": "blocked", "content": "No.", "rail": "guardreasoner output"}
    assert check("Hi", "bad", rail_types=["input"], config_id="any")["status"] == "passed"
