"""What is read out of requests and answers."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")

from litellm.types.llms.openai import ResponsesAPIResponse
from litellm.types.utils import (
    Delta,
    EmbeddingResponse,
    ModelResponse,
    ModelResponseStream,
    StreamingChoices,
    TextChoices,
    TextCompletionResponse,
)

from guardreasoner_integrations.litellm._pieces import StreamPieces
from guardreasoner_integrations.litellm._requests import exchanges_of
from guardreasoner_integrations.litellm._responses import replace_texts, texts_of
from guardreasoner_sdk import InputError

from .conftest import LITELLMS_OWN

pytestmark = LITELLMS_OWN


def user(content: Any) -> dict[str, Any]:
    return {"role": "user", "content": content}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        ({"messages": [user("a")]}, [("a", None, 0)]),
        ({"messages": [user("a"), {"role": "assistant", "content": "b"}, user("c")]}, [("c", None, 2)]),
        ({"messages": [user([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}])]}, [("a\nb", None, 0)]),
        (
            {"messages": [user("a"), {"role": "assistant", "tool_calls": []}, {"role": "tool", "content": "t"}]},
            [("a", "t", 0)],
        ),
        (
            {"messages": [user("a"), {"role": "assistant", "content": [{"type": "tool_use", "id": "1"}]},
                          user([{"type": "tool_result", "content": [{"type": "text", "text": "t"}]}])]},
            [("a", "t", 0)],
        ),
        ({"messages": [user("a"), user([{"type": "tool_result", "content": "t"}, {"type": "text", "text": "b"}])]},
         [("b", None, 2)]),
        ({"messages": [user(" ")]}, []),
        ({"prompt": "a"}, [("a", None, 0)]),
        ({"prompt": ["a", " ", "b"]}, [("a", None, 0), ("b", None, 0)]),
        ({"input": "a"}, [("a", None, 0)]),
        ({"input": ""}, []),
        (
            {"input": [{"role": "developer", "content": "d"}, {"type": "message", **user([{"type": "input_text", "text": "a"}])},
                       {"type": "reasoning", "summary": []}, {"type": "function_call", "arguments": "{}"},
                       {"type": "function_call_output", "output": "t"}]},
            [("a", "{}\n\nt", 1)],
        ),
    ],
)  # fmt: skip
def test_requests(data: dict[str, Any], expected: list[Any]) -> None:
    assert [(one.prompt, one.response, len(one.history)) for one in exchanges_of(data, "raise")] == expected


@pytest.mark.parametrize(
    ("data", "field"),
    [
        ({}, "request"),
        ({"query": "q", "documents": ["d"]}, "request"),
        ({"messages": "text"}, "messages"),
        ({"messages": ["text"]}, r"messages\[0\]"),
        ({"messages": [{"role": "assistant", "content": "s"}]}, "messages"),
        ({"messages": [user([{"type": "image_url", "image_url": {}}])]}, r"messages\[0\].content\[0\]"),
        (
            {"messages": [user([{"type": "tool_result", "content": [{"type": "image"}]}])]},
            r"messages\[0\].content\[0\].content",
        ),
        ({"messages": [user(7)]}, r"messages\[0\].content"),
        ({"messages": [user("hi"), {"role": "nobody", "content": "x"}]}, r"messages\[1\].role"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"input": {"a": "b"}}, "input"),
    ],
)
def test_requests_that_cannot_be_read_are_refused(data: dict[str, Any], field: str) -> None:
    with pytest.raises(InputError, match=f"^{field}"):
        exchanges_of(data, "raise")


def chat(*contents: str | None, **more: Any) -> ModelResponse:
    choices = [
        {"index": index, "message": {"role": "assistant", "content": content, **more}} for index, content in enumerate(contents)
    ]
    return ModelResponse(choices=choices)


def responses(text: str) -> ResponsesAPIResponse:
    message = {"type": "message", "id": "m", "role": "assistant", "status": "completed",
               "content": [{"type": "output_text", "text": text, "annotations": []}]}  # fmt: skip
    return ResponsesAPIResponse(id="r", created_at=1, output=[message])


def anthropic(text: str) -> dict[str, Any]:
    return {"type": "message", "content": [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]}


@pytest.mark.parametrize(
    ("response", "expected"),
    [
        (chat("a", "b"), ["a", "b"]),
        (chat(None), []),
        (chat("a", reasoning_content="because"), ["a", "because"]),
        (TextCompletionResponse(choices=[TextChoices(index=0, text="a")]), ["a"]),
        (responses("a"), ["a"]),
        (anthropic("a"), ["hm", "a"]),
        (EmbeddingResponse(model="m"), []),
    ],
)
def test_answers(response: Any, expected: list[str]) -> None:
    assert list(texts_of(response, "raise").values()) == expected


def test_an_answer_of_unknown_shape_is_refused() -> None:
    with pytest.raises(InputError, match="is dict, which is not known here"):
        texts_of({"candidates": [{"content": {"parts": [{"text": "bad"}]}}]}, "raise")


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x": "bad"}'}}


@pytest.mark.parametrize(
    "response",
    [
        chat("bad", "bad too", reasoning_content="bad", tool_calls=[CALL]),
        TextCompletionResponse(choices=[TextChoices(index=0, text="bad")]),
        responses("bad"),
        anthropic("bad"),
    ],
)
def test_a_message_takes_the_place_of_all_that_was_said(response: Any) -> None:
    replaced = replace_texts(response, "No.")
    assert set(texts_of(replaced, "raise").values()) == {"No."}
    assert "bad" not in (json.dumps(replaced) if isinstance(replaced, dict) else replaced.model_dump_json(exclude={"id"}))


async def parts_of(chunks: list[Any]) -> tuple[list[Any], list[dict[Any, str]]]:
    async def source() -> AsyncIterator[Any]:
        for chunk in chunks:
            yield chunk

    pieces = StreamPieces(source(), "raise")
    out = [piece async for piece in pieces]
    return out, [dict(pieces.texts(piece)) for piece in out]


async def test_chunks_of_a_chat_pass_as_they_are() -> None:
    chunks = [
        ModelResponseStream(choices=[StreamingChoices(index=index, delta=Delta(content=text))])
        for index, text in ((0, "a"), (1, "b"), (0, None))
    ]
    out, texts = await parts_of(chunks)
    assert all(one is other for one, other in zip(out, chunks, strict=True))
    assert texts == [{(0, "content", 0): "a"}, {(1, "content", 0): "b"}, {}]


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_bytes_are_cut_into_events(size: int) -> None:
    events = [
        {"type": "message_start", "message": {"content": []}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "grüß"}},
        {"type": "message_stop"},
    ]
    body = b"".join(f"event: {one['type']}\ndata: {json.dumps(one, ensure_ascii=False)}\n\n".encode() for one in events)
    out, texts = await parts_of([body[start : start + size] for start in range(0, len(body), size)])
    assert b"".join(out) == body
    assert [text for one in texts for text in one.values()] == ["grüß"]


async def test_what_responses_events_say_twice_counts_once() -> None:
    whole = {"type": "message", "content": [{"type": "output_text", "text": "one two"}]}
    events = [
        {"type": "response.created", "response": {"output": []}},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "one "},
        {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": "two"},
        {"type": "response.output_text.done", "text": "one two"},
        {"type": "response.content_part.done", "part": {"type": "output_text", "text": "one two"}},
        {"type": "response.output_item.done", "item": whole},
        {"type": "response.completed", "response": {"output": [whole]}},
    ]
    _, texts = await parts_of(events)
    assert [list(one.values()) for one in texts] == [[], ["one "], ["two"], [], [], [], []]
    _, texts = await parts_of(events[-1:])
    assert [list(one.values()) for one in texts] == [["one two\n"]]


@pytest.mark.parametrize("piece", [{"candidates": []}, 7, b'data: {"candidates": [{"text": "bad"}]}\n\n'])
async def test_a_piece_of_unknown_shape_is_refused(piece: Any) -> None:
    with pytest.raises(InputError, match="which is not known here"):
        await parts_of([piece])
