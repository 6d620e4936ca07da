"""Ways in which text could slip by, and blocks that could say the wrong thing."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, ConfigurationError, Guard, InputError, Policy, UndeterminedError
from guardreasoner_sdk.testing import ScriptedJudge

from .conftest import by_words

ASK: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": "say: hello"}]}
HEAD = {"id": "c", "object": "chat.completion", "created": 1, "model": "m"}


def chat(*messages: dict[str, Any]) -> tuple[str, bytes]:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop"}
        for index, message in enumerate(messages)
    ]
    return "application/json", json.dumps({**HEAD, "choices": choices}).encode()


def events(*lines: str) -> tuple[str, bytes]:
    return "text/event-stream", "".join(f"{line}\n\n" for line in lines).encode()


def chunk(text: str) -> str:
    return "data: " + json.dumps({**HEAD, "choices": [{"index": 0, "delta": {"content": text}}]})


@pytest.mark.parametrize(
    "message",
    [
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"evil": 1}}}]},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"id": "evil"}}}]},
        {"tool_calls": [{"type": "function", "function": {"name": "f", "arguments": {"type": "image", "caption": "evil"}}}]},
        {"content": "data:text/plain;base64, how to be evil"},
        {"content": [{"type": "text", "text": "data:;base64,\nevil"}]},
        {"function_call": {"name": "evil", "arguments": "{}"}},
        {"refusal": "evil"},
        {"reasoning": "evil"},
        {"audio": {"id": "a", "transcript": "evil"}},
    ],
)
def test_text_in_any_place_of_an_answer_is_judged(server: Any, plain: OpenAI, guard: Guard, message: dict[str, Any]) -> None:
    server.raw = chat({"content": "fine"}, message)
    with pytest.raises(BlockedError):
        guarded(plain, guard, unjudged="allow").chat.completions.create(**ASK, n=2)
    server.raw = chat(*json.loads(json.dumps([{"content": "fine"}, message]).replace("evil", "kind")))
    guarded(plain, guard, unjudged="allow").chat.completions.create(**ASK, n=2)


def test_a_key_that_is_named_twice_hides_nothing(server: Any, plain: OpenAI, guard: Guard) -> None:
    body = json.dumps({**HEAD, "choices": [{"index": 0, "message": {"content": "fine"}}]})
    for twice in ('"content": "evil", "content": "fine"', '"content": "fine", "content": "\\u0065vil"'):
        server.raw = "application/json", body.replace('"content": "fine"', twice).encode()
        with pytest.raises(InputError, match="names a key twice in one object"):
            guarded(plain, guard).chat.completions.with_raw_response.create(**ASK)


@pytest.mark.parametrize(
    "field", ["event: so evil", "event: \u3000evil", "id: so evil", "id: evil。", "retry: so evil", "so evil", "evil: so"]
)
def test_text_in_other_fields_of_an_event_is_judged(server: Any, plain: OpenAI, guard: Guard, field: str) -> None:
    server.raw = events(f"{field}\n{chunk('fine')}", "data: [DONE]")
    with pytest.raises(BlockedError):
        list(guarded(plain, guard).chat.completions.create(**ASK, stream=True))


@pytest.mark.parametrize("harmless", ["event: chunk", "id: 7", "retry: 10", ": still evil"])
def test_names_ids_and_comments_are_no_text(server: Any, plain: OpenAI, guard: Guard, harmless: str) -> None:
    server.raw = events(f"{harmless}\n{chunk('fine')}", "data: [DONE]")
    assert len(list(guarded(plain, guard).chat.completions.create(**ASK, stream=True))) == 1
    judge = guard.judge
    assert isinstance(judge, ScriptedJudge)
    assert [exchange.response for exchange in judge.seen] == [None, "fine"]


FAILED = {"error": {"message": "no JSON", "type": "invalid_request_error", "failed_generation": "evil"}}


@pytest.mark.parametrize("on_block", ["raise", "message"])
def test_an_answer_inside_of_an_error_is_judged(server: Any, plain: OpenAI, guard: Guard, on_block: Any) -> None:
    client = guarded(plain, guard, on_block=on_block)
    server.status, server.raw = 400, ("application/json", json.dumps(FAILED).encode())
    with pytest.raises(BlockedError) as caught:
        client.chat.completions.create(**ASK)
    assert caught.value.__context__ is None
    server.raw = "application/json", json.dumps(FAILED).replace("evil", "fine").encode()
    with pytest.raises(openai.BadRequestError) as passed:
        client.chat.completions.create(**ASK)
    assert "fine" in repr(passed.value.body)


async def test_an_answer_inside_of_an_error_is_judged_async(server: Any, guard: Guard) -> None:
    server.status, server.raw = 400, ("application/json", json.dumps(FAILED).encode())
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as plain:
        with pytest.raises(BlockedError) as caught:
            await guarded(plain, guard).chat.completions.create(**ASK)
        assert caught.value.__context__ is None


def test_an_error_in_the_servers_own_words_costs_no_check(server: Any, plain: OpenAI, guard: Guard) -> None:
    server.status, server.raw = 429, ("application/json", b'{"error": {"message": "slow down", "code": "rate"}}')
    with pytest.raises(openai.RateLimitError):
        guarded(plain, guard).chat.completions.create(**ASK)
    assert len(guard.judge.seen) == 1  # type: ignore[attr-defined]


def test_an_answer_inside_of_an_error_of_a_stream_is_judged(server: Any, plain: OpenAI, guard: Guard) -> None:
    server.raw = events(f"data: {json.dumps(FAILED)}")
    with pytest.raises(BlockedError):
        list(guarded(plain, guard).chat.completions.create(**ASK, stream=True))


@pytest.mark.parametrize("on_block", ["raise", "message"])
@pytest.mark.parametrize("undecided", ["block", "raise"])
def test_a_finding_beside_a_failure_is_a_finding(server: Any, plain: OpenAI, on_block: Any, undecided: Any) -> None:
    server.raw = chat({"content": "unsure"}, {"content": "evil"})
    with Guard(judge=ScriptedJudge(by_words), policy=Policy(on_undetermined=undecided)) as guard:
        create = guarded(plain, guard, on_block=on_block).chat.completions.create
        if on_block == "message":
            verdict = verdict_of(create(**ASK, n=2))
            assert verdict is not None
            assert verdict.blocked_by == "finding"
        else:
            with pytest.raises(BlockedError):
                create(**ASK, n=2)
        server.raw = chat({"content": "unsure"}, {"content": "fine"})
        if undecided == "raise" or on_block == "raise":
            with pytest.raises(UndeterminedError):
                create(**ASK, n=2)


@pytest.mark.parametrize("on_block", ["raise", "message"])
def test_a_stream_of_few_kinds_of_events_is_read(server: Any, plain: OpenAI, guard: Guard, on_block: Any) -> None:
    def delta(text: str) -> str:
        return "data: " + json.dumps({"type": "response.output_text.delta", "delta": text})

    client = guarded(plain, guard, on_block=on_block)
    server.raw = events(delta("All is "), delta("well."))
    assert len(list(client.responses.create(model="m", input="hello", stream=True))) == 2
    server.raw = events(delta("All is well. "), delta("All is evil."))
    shown: list[Any] = []
    try:
        shown.extend(client.responses.create(model="m", input="hello", stream=True))
    except BlockedError:
        assert on_block == "raise"
    else:
        assert shown[-1].type == "response.completed"
        assert "evil" not in repr(shown)


def test_parts_as_content_are_read_to_the_end(server: Any, plain: OpenAI, guard: Guard) -> None:
    def parts(text: str) -> str:
        delta = {"content": [{"type": "text", "text": text}]}
        return "data: " + json.dumps({**HEAD, "choices": [{"index": 0, "delta": delta}]})

    server.raw = events(parts("All is well. "), parts("All is evil."), "data: [DONE]")
    shown = list(guarded(plain, guard, on_block="message").chat.completions.create(**ASK, stream=True))
    assert shown[-1].choices[0].finish_reason == "content_filter"
    assert "evil" not in repr(shown)


@pytest.mark.parametrize(
    "messages",
    [
        [{"role": "user", "content": "evil"}, {"role": "user", "content": " "}],
        [{"content": "evil"}],
        [{"role": "user", "type": "reasoning", "content": "evil"}],
        [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "function_call": {"arguments": "evil"}}],
    ],
)
def test_a_prompt_of_any_form_is_judged(server: Any, plain: OpenAI, guard: Guard, messages: Any) -> None:
    with pytest.raises(BlockedError):
        guarded(plain, guard).responses.create(model="m", input=messages)
    assert not server.requests


@pytest.mark.parametrize("path", ["/models/../chat/completions", "/models/%2e%2e/chat/completions", "/files/./x"])
def test_a_path_that_leads_elsewhere_is_refused(plain: OpenAI, guard: Guard, path: str) -> None:
    with pytest.raises(ConfigurationError, match="step"):
        guarded(plain, guard).post(path, cast_to=object, body=ASK)


async def test_nothing_is_left_behind(server: Any, guard: Guard) -> None:
    before = asyncio.all_tasks()
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as plain:
        for asked in ("say: Fine. And on.", "say: Fine. How evil. And on."):
            ask = {"model": "m", "messages": [{"role": "user", "content": asked}]}
            stream = await guarded(plain, guard, on_block="message").chat.completions.create(**ask, stream=True)
            assert [chunk async for chunk in stream]
        stream = await guarded(plain, guard).chat.completions.create(**ask, stream=True)
        await anext(aiter(stream))
        await stream.close()
        del stream
        for _ in range(10):  # The SDK leaves generators of its own to the loop.
            await asyncio.sleep(0)
        assert asyncio.all_tasks() == before
