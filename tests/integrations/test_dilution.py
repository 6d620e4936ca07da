"""Harm in what is said is found whatever stands beside it: what is said is judged alone, and again with all of it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from guardreasoner_sdk import Exchange, Guard, InputError, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement

HARM = "please say ZZHARM now"
CALM = "Beat the butter and the sugar until the mixture is light and pale. " * 3


def diluted(text: str | None) -> str:
    """As a small model judges: harm in a small part of a text does not show."""
    return "harmful" if text and text.count("ZZHARM") * 80 > len(text) else "unharmful"


def script(exchange: Exchange) -> Judgement:
    if exchange.response is None:
        return judgement(diluted(exchange.prompt))
    return judgement(diluted(exchange.prompt), "compliance", diluted(exchange.response))


@pytest.fixture
def guard() -> Any:
    with Guard(judge=ScriptedJudge(script)) as guard:
        yield guard


BESIDE = {
    "a field": {"note": CALM},
    "reasoning": {"reasoning_content": CALM},
    "citations": {"annotations": [{"type": "url_citation", "title": CALM, "url": "https://example.org"}]},
}
ASKED = {"role": "user", "content": "Tell me."}


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
@pytest.mark.parametrize("content", [HARM, [{"type": "text", "text": HARM}]], ids=["text", "parts"])
def test_check_messages_finds_what_is_said(guard: Guard, content: Any, beside: dict[str, Any]) -> None:
    asked = {"role": "user", "content": content, **beside}
    said = {"role": "assistant", "content": content, **beside}
    for messages in ([asked], [ASKED, said]):
        assert not guard.check_messages(messages).allowed
        assert not asyncio.run(guard.acheck_messages(messages)).allowed
    assert guard.check_messages([{**ASKED, **beside}, {"role": "assistant", "content": "Well.", **beside}]).allowed


@pytest.mark.parametrize("beside", BESIDE.values(), ids=BESIDE)
def test_what_stands_beside_is_found_as_well(guard: Guard, beside: dict[str, Any]) -> None:
    def harmful(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: harmful(inner) for key, inner in value.items()}
        return [harmful(inner) for inner in value] if isinstance(value, list) else HARM if value == CALM else value

    assert not guard.check_messages([{**ASKED, **harmful(beside)}]).allowed
    assert not guard.check_messages([ASKED, {"role": "assistant", "content": "Well.", **harmful(beside)}]).allowed


def test_a_judge_of_one_row_at_a_time_judges_both() -> None:
    judge = ScriptedJudge(script)
    judge.batch_size = 1
    with Guard(judge=judge) as guard:
        assert not guard.check_messages([{"role": "user", "content": HARM, "note": CALM}]).allowed


@pytest.mark.parametrize("route", ["chat", "responses"])
def test_requests_are_read_alone_and_whole(route: str) -> None:
    from guardreasoner_integrations.openai._prompts import chat_exchange, responses_exchange

    message = {"role": "user", "content": HARM, "note": CALM}
    body = {"messages": [message]} if route == "chat" else {"input": [message]}
    alone, whole = (chat_exchange if route == "chat" else responses_exchange)(body, "raise")
    assert alone == Exchange(HARM)
    assert CALM.strip() in whole.prompt
    assert (chat_exchange if route == "chat" else responses_exchange)(
        {"messages": [ASKED]} if route == "chat" else {"input": [ASKED]}, "raise"
    ) == [Exchange("Tell me.")]


async def test_an_application_is_not_reached_by_what_is_padded(guard: Guard) -> None:
    httpx = pytest.importorskip("httpx")
    pytest.importorskip("jsonpath", reason="needs guardreasoner-sdk[asgi]")
    from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware

    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": b'{"text": "Well."}'})

    guarded = GuardMiddleware(app, guard=guard, routes=[GuardedRoute("/chat", messages="$.messages", response="$.text")])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app=guarded), base_url="http://test") as client:
        padded = {"messages": [{"role": "user", "content": HARM, "note": CALM}]}
        assert (await client.post("/chat", json=padded)).status_code == 403
        assert not reached
        assert (await client.post("/chat", json={"messages": [{**ASKED, "note": CALM}]})).status_code == 200


def test_litellm_reads_requests_alone_and_whole() -> None:
    pytest.importorskip("litellm", reason="needs guardreasoner-sdk[litellm]")
    from guardreasoner_integrations.litellm._requests import exchanges_of

    found = exchanges_of({"messages": [{"role": "user", "content": HARM, "note": CALM}]}, "raise")
    assert found[0] == Exchange(HARM)
    assert len(found) == 2


@pytest.mark.parametrize("where", ["prompt", "answer"])
def test_langchain_finds_what_is_said(guard: Guard, where: str) -> None:
    pytest.importorskip("langchain_core", reason="needs guardreasoner-sdk[langchain]")
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage, HumanMessage

    from guardreasoner_integrations.langchain import GuardedChain
    from guardreasoner_sdk import BlockedError

    beside = {"reasoning_content": CALM}
    asked = HumanMessage(HARM if where == "prompt" else "Tell me.", additional_kwargs={"note": CALM})
    said = AIMessage(HARM if where == "answer" else "Well.", additional_kwargs=beside)
    with pytest.raises(BlockedError):
        GuardedChain(guard, GenericFakeChatModel(messages=iter([said]))).invoke([asked])
    calm = GuardedChain(guard, GenericFakeChatModel(messages=iter([AIMessage("Well.", additional_kwargs=beside)])))
    assert calm.invoke([HumanMessage("Tell me.", additional_kwargs={"note": CALM})]).content == "Well."


class Opaque:
    """An object of an application's own, such as the id of a database."""


@pytest.mark.parametrize("value", [Opaque(), [Opaque()]], ids=["object", "in the content"])
def test_an_applications_own_objects_stand_beside_and_not_in_what_is_said(guard: Guard, value: Any) -> None:
    if isinstance(value, list):
        with pytest.raises(InputError, match="is not text but 'Opaque'"):
            guard.check_messages([{"role": "user", "content": ["Tell me.", *value]}])
    else:
        assert guard.check_messages([{**ASKED, "_id": value}]).allowed
        assert not guard.check_messages([{"role": "user", "content": HARM, "_id": value}]).allowed


def test_numbers_of_numpy_stand_beside_what_is_said(guard: Guard) -> None:
    numpy = pytest.importorskip("numpy")
    for value in (numpy.int64(3), numpy.bool_(True), numpy.zeros(3)):
        assert guard.check_messages([{**ASKED, "note": value}]).allowed


@pytest.mark.parametrize("key", ["images", "video"])
def test_pictures_beside_the_content_are_no_text(guard: Guard, key: str) -> None:
    with pytest.raises(InputError, match="is not text"):
        guard.check_messages([{**ASKED, key: ["iVBORw0KGgoAAAANSUhEUgAAAAUA" * 50]}])


@pytest.mark.parametrize("name", ["usage", "content_filter_results", "status", "type"])
def test_what_a_tool_gave_is_read_under_every_key(guard: Guard, name: str) -> None:
    results = [
        {"role": "tool", "content": [{"toolResult": {"toolUseId": "1", "content": [{"json": {name: HARM}}]}}]},
        {"role": "tool", "content": [{"functionResponse": {"name": "look", "response": {name: "ZZHARM"}}}]},
    ]
    for result in results:
        assert not guard.check_messages([ASKED, result]).allowed


@pytest.mark.parametrize("depth", [50, 1_000, 100_000])
def test_arguments_nested_beyond_reason_are_read_as_they_stand(guard: Guard, depth: int) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": "[" * depth + "]" * depth}}
    assert guard.check_messages([ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}]).allowed


def test_a_message_nested_beyond_reason_is_refused(guard: Guard) -> None:
    value: Any = "x"
    for _ in range(2_000):
        value = {"a": value}
    with pytest.raises(InputError, match="nested too deeply"):
        guard.check_messages([{**ASKED, "meta": value}])


@pytest.mark.parametrize("arguments", [{1: HARM, "b": "y"}, {(1, 2): HARM}], ids=["mixed", "tuple"])
def test_arguments_with_keys_that_json_has_not_are_judged(guard: Guard, arguments: Any) -> None:
    call = {"name": "look", "args": arguments, "id": "1", "type": "tool_call"}
    assert not guard.check_messages([ASKED, {"role": "assistant", "content": "", "tool_calls": [call]}]).allowed


def test_what_is_sealed_may_be_bytes(guard: Guard) -> None:
    block = {"type": "reasoning_content", "reasoning_content": {"redacted_content": b"AA=="}}
    message = {"role": "assistant", "content": [block, {"type": "text", "text": "Well."}]}
    assert guard.check_messages([ASKED, message]).allowed
