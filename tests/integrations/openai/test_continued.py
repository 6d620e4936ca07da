"""Responses that go on with a conversation of which only the server knows the beginning."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, Guard, InputError

from .conftest import MESSAGE, seen
from .test_streams import APIS, given, of, text_of

# In the body as it is sent: older SDKs know of no conversation.
BEFORE: list[Any] = [
    {"previous_response_id": "resp_0"},
    {"extra_body": {"conversation": "conv_1"}},
    {"extra_body": {"conversation": {"id": "conv_1"}}},
]
before = pytest.mark.parametrize("continued", BEFORE, ids=["response", "conversation", "conversation object"])


def output(text: object) -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": "call_1", "output": text}


APPROVAL = {"type": "mcp_approval_response", "approve": True, "approval_request_id": "mcpr_1"}


@before
@pytest.mark.parametrize("stream", [False, True])
def test_what_a_tool_gave_is_judged_without_a_prompt(
    server: Any, plain: OpenAI, guard: Guard, continued: Any, stream: bool
) -> None:
    create = guarded(plain, guard).responses.create
    for text in ("so evil", [{"type": "input_text", "text": "so evil"}]):
        with pytest.raises(BlockedError):
            create(model="m", input=[output(text)], stream=stream, **continued)
    assert not server.requests
    answer = create(model="m", input=[output("4")], stream=stream, **continued)
    assert "".join(map(text_of, answer)) if stream else answer.output_text == "nothing."
    assert server.requests[0]["input"] == [output("4")]


@before
def test_the_answer_to_what_a_tool_gave_is_judged(server: Any, plain: OpenAI, guard: Guard, continued: Any) -> None:
    server.raw = "application/json", b'{"id": "r", "output": [{"type": "message", "content": [{"text": "so evil"}]}]}'
    with pytest.raises(BlockedError):
        guarded(plain, guard).responses.create(model="m", input=[output("4")], **continued)
    answer = guarded(plain, guard, on_block="message").responses.create(model="m", input=[output("4")], **continued)
    assert answer.output_text == MESSAGE


@before
@pytest.mark.parametrize("given", [[APPROVAL], [], "", [{"type": "item_reference", "id": "msg_1"}]])
def test_a_request_that_adds_no_text_is_sent_and_its_answer_judged(
    server: Any, plain: OpenAI, guard: Guard, continued: Any, given: Any
) -> None:
    for text in ("All is well.", "So evil."):
        server.raw = (
            "application/json",
            b'{"id": "r", "output": [{"type": "message", "content": [{"text": "%s"}]}]}' % text.encode(),
        )
        if "evil" in text:
            with pytest.raises(BlockedError):
                guarded(plain, guard).responses.create(model="m", input=given, **continued)
        else:
            verdict = verdict_of(guarded(plain, guard).responses.create(model="m", input=given, **continued))
            assert verdict is not None
            assert verdict.allowed
    assert len(server.requests) == 2


def test_a_reason_that_somebody_gave_is_judged(server: Any, plain: OpenAI, guard: Guard) -> None:
    with pytest.raises(BlockedError):
        guarded(plain, guard).responses.create(
            model="m",
            previous_response_id="resp_0",
            input=[{**APPROVAL, "reason": "so evil"}],  # type: ignore[list-item]
        )
    assert not server.requests


async def test_a_tool_loop_goes_on_async(server: Any, guard: Guard) -> None:
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as plain:
        create = guarded(plain, guard).responses.create
        for before in BEFORE:
            assert (await create(model="m", input=[output("4")], **before)).output_text
            with pytest.raises(BlockedError):
                await create(model="m", input=[output("so evil")], **before)


def test_instructions_stand_for_a_prompt(plain: OpenAI, guard: Guard) -> None:
    create: Any = guarded(plain, guard).responses.create
    create(model="m", instructions="Be brief.", previous_response_id="resp_0", input=[output("4")])
    assert (seen(guard)[0].prompt, seen(guard)[0].response) == ("Be brief.", "4")


@APIS
def test_a_conversation_that_begins_needs_a_prompt(server: Any, plain: OpenAI, guard: Guard, api: str) -> None:
    with pytest.raises(InputError, match=r"has no text to judge|has no user message"):
        of(guarded(plain, guard), api).create(**given(api, " "))
    with pytest.raises(InputError, match="has no user message"):
        of(guarded(plain, guard), api).create(
            model="m", **{"input" if api == "responses" else "messages": [{"role": "assistant", "content": "hi"}]}
        )
    assert not server.requests
