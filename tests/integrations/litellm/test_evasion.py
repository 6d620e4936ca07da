"""Ways in which text could slip by the guardrail, and blocks that could say the wrong thing."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

litellm = pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")

from litellm.types.llms.openai import ResponsesAPIResponse  # noqa: E402
from litellm.types.utils import (  # noqa: E402
    Delta,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
    TextChoices,
    TextCompletionResponse,
)

from guardreasoner_integrations.litellm import GuardReasonerGuardrail  # noqa: E402
from guardreasoner_sdk import BlockedError, ConfigurationError, Guard, InputError, UndeterminedError  # noqa: E402

from .conftest import LITELLMS_OWN  # noqa: E402

pytestmark = LITELLMS_OWN
Make = Callable[..., GuardReasonerGuardrail]
HI = {"role": "user", "content": "hi"}


@pytest.mark.parametrize(
    "data",
    [
        {"messages": [{"role": "user", "content": "bad"}, {"role": "user", "content": " \u200b"}]},
        {"messages": [{"role": "user", "type": "reasoning", "content": "bad"}, HI][:1]},
        {"messages": [{"role": "user", "type": "function_call", "content": "bad"}]},
        {"messages": [HI], "prompt": "bad"},
        {"messages": [HI], "input": "bad"},
        {"input": "hi", "prompt": ["hi", "bad"]},
        {"prompt": "hi", "suffix": "bad"},
        {"messages": [{"role": "user", "content": [{"type": "thinking", "thinking": "bad"}]}]},
        {"messages": [HI, {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "bad"}}]}]},
        {"messages": [HI, {"role": "assistant", "content": [{"type": "tool_use", "id": "1", "input": {"bad": 1}}]}]},
        {"input": [{"role": "user", "content": "hi"}, {"type": "function_call", "name": "f", "arguments": "bad"}]},
        {"messages": [{"role": "system", "content": "bad"}]},
    ],
)
async def test_a_request_of_any_form_is_judged(data: dict[str, Any], make: Make) -> None:
    with pytest.raises(BlockedError):
        await make().async_pre_call_hook(None, None, data, "acompletion")


@pytest.mark.parametrize("field", ["system", "instructions"])
@pytest.mark.parametrize("value", ["be kind", [{"type": "text", "text": "be kind"}]])
async def test_what_stands_before_the_messages_is_their_history(field: str, value: Any, make: Make) -> None:
    guardrail = make()
    await guardrail.async_pre_call_hook(None, None, {"messages": [HI], field: value}, "acompletion")
    (asked,) = guardrail.guard.judge.seen  # type: ignore[attr-defined]
    assert [(turn.role, turn.content) for turn in asked.history] == [("system", "be kind")]


@pytest.mark.parametrize("field", ["contents", "system_instruction"])
async def test_a_format_that_is_not_read_hides_behind_no_other(field: str, make: Make) -> None:
    with pytest.raises(InputError, match=f"^{field}: is not read"):
        await make().async_pre_call_hook(None, None, {"messages": [HI], field: [{"parts": [{"text": "bad"}]}]}, "agenerate")


def chat(*messages: dict[str, Any], indices: tuple[int, ...] = (0, 1)) -> ModelResponse:
    said = [{"role": "assistant", "content": None, **message} for message in messages]
    return ModelResponse(choices=[{"index": index, "message": one} for index, one in zip(indices, said, strict=False)])


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": "bad"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}, "index": 0}


def items(*output: dict[str, Any]) -> ResponsesAPIResponse:
    return ResponsesAPIResponse(id="r", created_at=1, output=list(output))


ANSWERS = [
    chat({"tool_calls": [CALL]}),
    chat({"function_call": {"name": "f", "arguments": "bad"}}),
    chat({"content": "fine", "refusal": "bad"}),
    chat({"content": "fine", "reasoning_content": "bad"}),
    chat({"content": "fine", "thinking_blocks": [{"type": "thinking", "thinking": "bad", "signature": "s"}]}),
    chat({"content": "bad"}, {"content": "fine"}, indices=(0, 0)),
    TextCompletionResponse(choices=[TextChoices(index=0, text="bad"), TextChoices(index=0, text="fine")]),
    items({"type": "function_call", "id": "1", "call_id": "c", "name": "f", "arguments": "bad", "status": "completed"}),
    items({"type": "message", "id": "1", "role": "assistant", "status": "completed",
           "content": [{"type": "refusal", "refusal": "bad"}]}),
    {"type": "message", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"x": ["bad"]}}]},
    {"type": "message", "content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"bad": 1}}]},
    {"type": "message", "content": [{"type": "text", "text": "fine", "thinking": "bad"}]},
]  # fmt: skip


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_text_in_any_place_of_an_answer_is_judged(answer: Any, make: Make) -> None:
    with pytest.raises(BlockedError):
        await make().async_post_call_success_hook({"messages": [HI]}, None, answer)


def copy(answer: Any) -> Any:
    return json.loads(json.dumps(answer)) if isinstance(answer, dict) else answer.model_copy(deep=True)


@pytest.mark.parametrize("answer", ANSWERS, ids=range(len(ANSWERS)))
async def test_a_message_takes_the_place_of_all_of_it(answer: Any, make: Make) -> None:
    shown = await make(on_block="message").async_post_call_success_hook({"messages": [HI]}, None, copy(answer))
    assert type(shown) is type(answer)
    text = json.dumps(shown) if isinstance(shown, dict) else shown.model_dump_json(exclude={"id"})
    assert "sorry" in text
    assert "bad" not in text


async def test_log_probabilities_go_with_the_text(make: Make) -> None:
    tokens = {"tokens": ["so", " bad"], "text_offset": [0, 2], "token_logprobs": [0.0, 0.0], "top_logprobs": [None, None]}
    answer = TextCompletionResponse(choices=[TextChoices(index=0, text="so bad", logprobs=tokens)])
    shown = await make(on_block="message").async_post_call_success_hook({"prompt": "hi"}, None, answer)
    assert "bad" not in shown.model_dump_json(exclude={"id"})


@pytest.mark.parametrize("on_block", ["raise", "message"])
@pytest.mark.parametrize("undecided", ["block", "raise"])
async def test_a_finding_beside_a_failure_is_a_finding(on_block: Any, undecided: Any, make: Make) -> None:
    guardrail = make({"on_undetermined": undecided}, on_block=on_block)
    with pytest.raises(BlockedError):
        await guardrail.async_pre_call_hook(None, None, {"prompt": ["unsure", "bad"]}, "atext_completion")
    answer = chat({"content": "unsure"}, {"content": "bad"})
    if on_block == "message":
        assert "sorry" in repr(await guardrail.async_post_call_success_hook({"messages": [HI]}, None, copy(answer)))
    else:
        with pytest.raises(BlockedError):
            await guardrail.async_post_call_success_hook({"messages": [HI]}, None, answer)
    if undecided == "raise":
        with pytest.raises(UndeterminedError):
            await guardrail.async_post_call_success_hook({"messages": [HI]}, None, chat({"content": "unsure"}))
        with pytest.raises(UndeterminedError):
            await streamed(guardrail, of_choice(0, content="unsure"))


async def test_pictures_in_an_answer_are_refused_unless_they_are_let_by(make: Make) -> None:
    answer = chat({"content": "fine", "images": [IMAGE]})
    with pytest.raises(InputError, match="which this guard cannot judge"):
        await make().async_post_call_success_hook({"messages": [HI]}, None, answer)
    allowing = make(unjudged="allow")
    assert await allowing.async_post_call_success_hook({"messages": [HI]}, None, answer) is answer
    asked = {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}, IMAGE]}]}
    assert await allowing.async_pre_call_hook(None, None, asked, "acompletion") is asked
    with pytest.raises(InputError, match=r"^messages\[0\].content\[1\]"):
        await make().async_pre_call_hook(None, None, asked, "acompletion")


@pytest.mark.parametrize("option", [{"on_block": "hide"}, {"unjudged": "no"}, {"window": 0}])
def test_options_that_cannot_work(option: dict[str, Any]) -> None:
    with Guard() as guard, pytest.raises(ConfigurationError, match=f"^{next(iter(option))}: must be"):
        GuardReasonerGuardrail("guard", guard=guard, **option)


async def streamed(guardrail: GuardReasonerGuardrail, *parts: Any) -> list[Any]:
    async def source() -> AsyncIterator[Any]:
        for part in parts:
            yield part

    data = {"messages": [HI]}
    return [piece async for piece in guardrail.async_post_call_streaming_iterator_hook(None, source(), data)]


def of_choice(index: int, **delta: Any) -> ModelResponseStream:
    return ModelResponseStream(choices=[StreamingChoices(index=index, delta=Delta(**delta))])


def call(arguments: str) -> dict[str, Any]:
    return {"tool_calls": [{"index": 0, "type": "function", "function": {"arguments": arguments}}]}


def event(**data: Any) -> bytes:
    return f"data: {json.dumps(data)}\n\n".encode()


@pytest.mark.parametrize(
    "parts",
    [
        [of_choice(0, **call("b")), of_choice(0, **call("ad"))],
        [of_choice(0, content="b"), of_choice(1, content="x"), of_choice(0, content="ad")],
        [of_choice(0, refusal="bad")],
        [{"type": "response.refusal.delta", "output_index": 0, "delta": "bad"}],
        [{"type": "response.function_call_arguments.delta", "output_index": 0, "delta": part} for part in ("b", "ad")],
        [{"type": "response.output_item.done", "item": {"type": "function_call", "arguments": "bad"}}],
        [
            event(type="content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": p})
            for p in ("b", "ad")
        ],
        [event(type="content_block_start", index=0, content_block={"type": "tool_use", "name": "f", "input": {"bad": 1}})],
        [event(type="error", error={"message": "no", "failed_generation": "bad"})],
        [b"event: how bad\n" + event(type="ping")],
        [
            event(type="content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": p})
            for p in ('{"a": "\\u006', '2\\u0061d"}')
        ],
        [of_choice(0, **call('{"a": "\\u00')), of_choice(0, **call('62ad"}'))],
    ],
    ids=range(12),
)
async def test_text_in_any_part_of_a_stream_is_judged(parts: list[Any], make: Make) -> None:
    try:
        shown = await streamed(make(), *parts)
    except BlockedError:
        return
    assert "The guard blocked this." in repr(shown)
    assert "bad" not in repr(shown)


@pytest.mark.parametrize("data", ['{"type": "ping", "a": 1, "a": "bad"}', '{"type": "ping"} {"a": "bad"}', '{"type": "bad'])
async def test_an_event_that_readers_understand_differently_is_refused(data: str, make: Make) -> None:
    shown = repr(await streamed(make(), f"data: {data}\n\n".encode()))
    assert "invalid_request" in shown
    assert "bad" not in shown


async def test_copies_of_reasoning_cost_no_second_check(make: Make) -> None:
    guardrail = make()
    blocks = [{"type": "thinking", "thinking": "Hm. ", "signature": ""}]
    await streamed(guardrail, of_choice(0, reasoning_content="Hm. ", thinking_blocks=blocks))
    assert [exchange.response for exchange in guardrail.guard.judge.seen] == ["Hm. "]  # type: ignore[attr-defined]


async def test_nothing_is_left_running(make: Make) -> None:
    before = asyncio.all_tasks()
    assert await streamed(make(on_block="message"), of_choice(0, content="Fine. "), of_choice(0, content="So bad. "))
    assert asyncio.all_tasks() == before
