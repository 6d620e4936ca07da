"""What of an answer is judged, and what takes its place."""

from __future__ import annotations

import gc
import json
import weakref
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from openai.types.chat import ChatCompletion

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, Guard, InputError, Policy, UndeterminedError
from guardreasoner_sdk.testing import ScriptedJudge, judgement

from .conftest import MESSAGE, TOOLS, user


def test_of_several_choices_only_the_blocked_ones_are_replaced(chat: Any, plain: OpenAI, guard: Guard) -> None:
    given: dict[str, Any] = {"model": "m", "n": 3, "messages": user("say: good|evil|fine")}
    result, untouched = chat.create(**given), plain.chat.completions.create(**given)
    assert [choice.message.content for choice in result.choices] == ["good", MESSAGE, "fine"]
    assert [choice.finish_reason for choice in result.choices] == ["stop", "content_filter", "stop"]
    assert result.choices[0] == untouched.choices[0]
    assert (result.id, result.model, result.usage) == (untouched.id, untouched.model, untouched.usage)
    assert type(result) is ChatCompletion
    assert result._request_id == "req_1"
    with pytest.raises(BlockedError):
        guarded(plain, guard).chat.completions.create(**given)


def test_every_choice_that_was_asked_for_is_answered_to_a_blocked_prompt(chat: Any) -> None:
    result = chat.create(model="m", n=2, messages=user("evil"))
    assert [choice.message.content for choice in result.choices] == [MESSAGE, MESSAGE]
    stream = chat.create(model="m", n=2, messages=user("evil"), stream=True)
    assert [chunk.choices[0].index for chunk in stream if chunk.choices[0].finish_reason == "content_filter"] == [0, 1]


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("text", ["good", "evil"])
def test_arguments_of_tool_calls_are_judged(chat: Any, responses: Any, plain: OpenAI, stream: bool, text: str) -> None:
    calls: list[tuple[Any, Any, dict[str, Any]]] = [
        (chat, plain.chat.completions, {"messages": user(f"say: {text}")}),
        (responses, plain.responses, {"input": f"say: {text}"}),
    ]
    for own, theirs, given in calls:
        result, untouched = (api.create(model="m", tools=TOOLS, stream=stream, **given) for api in (own, theirs))
        found, expected = (list(answer) if stream else [answer] for answer in (result, untouched))
        assert (found == expected) is (text == "good")
        shown = "".join(part.model_dump_json(warnings=False) for part in found)
        assert ("query" in shown) is (text == "good")
        assert (MESSAGE in shown) is (text == "evil")
        if text == "evil" and own is chat:
            assert not any((choice.delta if stream else choice.message).tool_calls for part in found for choice in part.choices)


def chat_answer(message: dict[str, Any], **more: Any) -> bytes:
    choice = {"index": 0, "message": {"role": "assistant", "content": None, **message}, "finish_reason": "stop", **more}
    return json.dumps({"id": "c", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}).encode()


def response_answer(*output: dict[str, Any], **more: Any) -> bytes:
    body = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": output}
    return json.dumps({**body, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], **more}).encode()


CHAT_TEXTS = {
    "refusal": chat_answer({"refusal": "evil"}),
    "reasoning": chat_answer({"content": "good", "reasoning_content": "evil"}),
    "content in parts": chat_answer({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "evil"}]}]}),
    "second tool call": chat_answer(
        {"tool_calls": [{"id": str(i), "type": "function", "function": {"name": "f", "arguments": t}} for i, t in enumerate(["{}", "evil"])]}
    ),
    "custom tool call": chat_answer({"tool_calls": [{"id": "1", "type": "custom", "custom": {"name": "f", "input": "evil"}}]}),
    "old function call": chat_answer({"function_call": {"name": "f", "arguments": "evil"}}),
    "what was said in a recording": chat_answer({"audio": {"id": "a", "expires_at": 1, "transcript": "evil"}}),
    "something new": chat_answer({"novelty": {"inside": ["evil"]}}),
    "something new beside the message": chat_answer({"content": "good"}, novelty="evil"),
    "no choices": b'{"text": "evil"}',
    "no object": b'["evil"]',
}  # fmt: skip
RESPONSE_TEXTS = {
    "second message": response_answer(*({"type": "message", "id": t, "role": "assistant", "status": "completed", "content": [{"type": "output_text", "text": t, "annotations": []}]} for t in ("good", "evil"))),
    "refusal": response_answer({"type": "message", "id": "m", "role": "assistant", "status": "completed", "content": [{"type": "refusal", "refusal": "evil"}]}),
    "reasoning": response_answer({"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "evil"}]}),
    "function call": response_answer({"type": "function_call", "call_id": "c", "name": "f", "arguments": "evil"}),
    "custom tool call": response_answer({"type": "custom_tool_call", "call_id": "c", "name": "f", "input": "evil"}),
    "code": response_answer({"type": "code_interpreter_call", "id": "c", "code": "evil", "status": "completed"}),
    "a server's tool": response_answer({"type": "mcp_call", "id": "c", "name": "f", "server_label": "s", "arguments": "{}", "output": "evil"}),
    "something new": response_answer({"type": "novelty", "novel": {"inside": ["evil"]}}),
    "the text beside the items": response_answer(output_text="evil"),
    "no items": b'{"output": "evil"}',
}  # fmt: skip


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
@pytest.mark.parametrize("name", CHAT_TEXTS)
def test_every_text_of_a_completion_is_judged(server: Any, chat: Any, name: str, kind: str) -> None:
    server.raw = kind, CHAT_TEXTS[name]
    result = chat.create(model="m", messages=user("x"))
    assert result.choices[0].message.content == MESSAGE
    assert "evil" not in repr(result)
    server.raw = kind, CHAT_TEXTS[name].replace(b"evil", b"fine")
    assert "fine" in repr(chat.create(model="m", messages=user("x")))


@pytest.mark.parametrize("name", RESPONSE_TEXTS)
def test_every_text_of_a_response_is_judged(server: Any, responses: Any, name: str) -> None:
    server.raw = "application/json", RESPONSE_TEXTS[name]
    result = responses.create(model="m", input="x")
    assert result.output_text == MESSAGE
    assert (result.status, result.incomplete_details.reason) == ("completed", "content_filter")
    assert "evil" not in repr(result)
    server.raw = "application/json", RESPONSE_TEXTS[name].replace(b"evil", b"fine")
    assert "fine" in repr(responses.create(model="m", input="x"))


def test_an_answer_that_is_no_json_is_judged(server: Any, chat: Any, responses: Any) -> None:
    server.raw = "text/plain", b"evil"
    assert chat.create(model="m", messages=user("x")).choices[0].message.content == MESSAGE
    assert responses.create(model="m", input="x").output_text == MESSAGE
    server.raw = "text/plain", b"good"
    assert chat.create(model="m", messages=user("x")) == "good"


@pytest.mark.parametrize(
    ("api", "body", "where"),
    [
        ("chat", chat_answer({"audio": {"id": "a", "expires_at": 1, "data": "UklGRg==", "transcript": "x"}}), "choices[0].message.audio.data"),
        ("responses", response_answer({"type": "image_generation_call", "id": "i", "status": "completed", "result": "iVBO"}), "output[0].result"),
        ("responses", response_answer({"type": "code_interpreter_call", "id": "i", "outputs": [{"type": "image", "url": "x"}]}), "output[0].outputs[0]"),
        ("responses", response_answer({"type": "mcp_call", "output": "data:image/png;base64,iVBO"}), "output[0].output"),
    ],
)  # fmt: skip
def test_answers_that_are_no_text_fail_closed(
    server: Any, plain: OpenAI, guard: Guard, api: str, body: bytes, where: str
) -> None:
    server.raw = "application/json", body

    def create(unjudged: Any) -> Any:
        client = guarded(plain, guard, unjudged=unjudged)
        return (
            client.chat.completions.create(model="m", messages=user("x"))
            if api == "chat"
            else client.responses.create(model="m", input="x")
        )

    with pytest.raises(InputError) as caught:
        create("raise")
    assert caught.value.field == where
    assert create("allow").id


def test_an_answer_without_text_passes(server: Any, chat: Any) -> None:
    server.raw = "application/json", chat_answer({"content": " "})
    assert chat.create(model="m", messages=user("x")).choices[0].message.content == " "


def test_an_answer_in_json_is_refused_where_models_refuse(chat: Any, responses: Any) -> None:
    wanted: Any = {"type": "json_object"}
    message = chat.create(model="m", messages=user("say: evil"), response_format=wanted).choices[0].message
    assert (message.content, message.refusal) == (None, MESSAGE)
    result = responses.create(model="m", input="say: evil", text={"format": wanted})
    assert result.output[0].content[0].refusal == MESSAGE


# Raw responses.


@pytest.mark.parametrize("text", ["good", "evil"])
def test_raw_responses_are_judged(chat: Any, plain: OpenAI, text: str) -> None:
    given: dict[str, Any] = {"model": "m", "messages": user(f"say: {text}")}
    raw, untouched = chat.with_raw_response.create(**given), plain.chat.completions.with_raw_response.create(**given)
    assert raw.parse().choices[0].message.content == ("good" if text == "good" else MESSAGE)
    assert (raw.text == untouched.text) is (text == "good")
    assert text == "good" or "evil" not in raw.text
    assert raw.headers["x-request-id"] == "req_1"
    assert raw.elapsed
    assert verdict_of(raw).allowed is (text == "good")


@pytest.mark.parametrize("text", ["good", "evil"])
def test_streamed_raw_responses_are_judged(chat: Any, responses: Any, plain: OpenAI, text: str) -> None:
    calls: list[tuple[Any, Any, dict[str, Any]]] = [
        (chat, plain.chat.completions, {"messages": user(f"say: {text}")}),
        (responses, plain.responses, {"input": f"say: {text}"}),
    ]
    for own, theirs, given in calls:
        for stream in (False, True):
            bodies = []
            for api in (own, theirs):
                with api.with_streaming_response.create(model="m", stream=stream, **given) as raw:
                    bodies.append(b"".join(raw.iter_bytes()))
            assert (bodies[0] == bodies[1]) is (text == "good")
            assert text == "good" or b"evil" not in bodies[0]


def test_a_raw_answer_to_a_blocked_prompt(server: Any, chat: Any) -> None:
    raw = chat.with_raw_response.create(model="m", messages=user("evil"))
    assert raw.parse().choices[0].message.content == MESSAGE
    with chat.with_streaming_response.create(model="m", messages=user("evil")) as streamed:
        assert streamed.parse().choices[0].message.content == MESSAGE
    assert not server.requests


# The policy.


@pytest.mark.parametrize(
    ("block", "options", "checks"),
    [
        ({"harmful_prompt"}, {}, 1),
        ({"harmful_response"}, {}, 1),
        ({"refusal"}, {}, 1),
        ({"harmful_prompt", "harmful_response"}, {}, 2),
        ({"harmful_response"}, {"check_input": True}, 2),
        ({"harmful_prompt", "harmful_response"}, {"check_input": False, "check_output": False}, 0),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
def test_only_what_can_block_is_judged(plain: OpenAI, block: Any, options: Any, checks: int, stream: bool) -> None:
    judge = ScriptedJudge({}, otherwise=judgement("unharmful", "compliance", "unharmful"))
    with Guard(judge=judge, policy=Policy(block=block)) as guard:
        result = guarded(plain, guard, **options).chat.completions.create(model="m", messages=user("say: hello"), stream=stream)
        assert "hello" in repr(list(result))
        assert len(judge.seen) == checks
        assert (verdict_of(result) is None) is (checks == 0)


@pytest.mark.parametrize("prompt", ["unsure", "say: unsure"])
@pytest.mark.parametrize("stream", [False, True])
def test_a_policy_that_raises_undetermined_raises_whatever_a_block_does(
    plain: OpenAI, guard: Guard, prompt: str, stream: bool
) -> None:
    policy = Policy(on_undetermined="raise", on_block="message", message="No.")
    with Guard(judge=guard.judge, policy=policy) as strict:
        client = guarded(plain, strict)
        with pytest.raises(UndeterminedError):
            list(client.chat.completions.create(model="m", messages=user(prompt), stream=stream))
        blocked = client.chat.completions.create(model="m", messages=user("evil"))
        assert blocked.choices[0].message.content == "No."


def test_a_guard_that_fails_blocks(server: Any, plain: OpenAI) -> None:
    with Guard(judge=ScriptedJudge(lambda exchange: RuntimeError("broken"))) as guard, pytest.raises(UndeterminedError):
        guarded(plain, guard).chat.completions.create(model="m", messages=user("hello"))
    assert not server.requests


# The verdict.


def test_a_verdict_is_kept_as_long_as_its_result(chat: Any, plain: OpenAI) -> None:
    result, stream = (chat.create(model="m", messages=user("say: hello"), stream=stream) for stream in (False, True))
    assert verdict_of(stream) is None
    assert list(stream)
    assert verdict_of(result).allowed
    assert verdict_of(stream).allowed
    kept = [weakref.ref(verdict_of(one)) for one in (result, stream)]
    gc.collect()
    assert None not in [verdict() for verdict in kept]
    assert verdict_of(plain.chat.completions.create(model="m", messages=user("say: hello"))) is None
    del result, stream
    gc.collect()
    assert [verdict() for verdict in kept] == [None, None]


def test_the_verdict_that_blocks_is_the_one_that_counts(chat: Any) -> None:
    verdict = verdict_of(chat.create(model="m", messages=user("say: good|unsure|evil|fine")))
    assert verdict.response_harmfulness.label in ("harmful", "undetermined")
    assert not verdict.allowed


async def test_errors_of_the_server_are_what_they_were(server: Any, plain: OpenAI, guard: Guard) -> None:
    missing = guarded(plain.with_options(base_url="http://127.0.0.1:9/v1"), guard)
    with pytest.raises(openai.APIConnectionError):
        missing.chat.completions.create(model="m", messages=user("x"))
    async with AsyncOpenAI(base_url="http://127.0.0.1:9/v1", api_key="k", max_retries=0) as other:
        with pytest.raises(openai.APIConnectionError):
            await guarded(other, guard).responses.create(model="m", input="x")
