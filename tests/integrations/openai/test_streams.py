from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from blockbuster import BlockingError, blockbuster_ctx
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, Exchange, Guard, InputError, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement

MESSAGE = "I'm sorry, but I can't help with that."


class Answer(BaseModel):
    text: str


def given(api: str, prompt: str) -> dict[str, Any]:
    return {"model": "m", **({"input": prompt} if api == "responses" else {"messages": [{"role": "user", "content": prompt}]})}


def of(client: Any, api: str) -> Any:
    return client.responses if api == "responses" else client.chat.completions


def text_of(event: Any) -> str:
    if hasattr(event, "choices"):
        return event.choices[0].delta.content or "" if event.choices else ""
    return event.delta if event.type == "response.output_text.delta" else ""


@pytest.fixture
def plain(server: Any) -> Iterator[OpenAI]:
    with OpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


@pytest.fixture
async def aplain(server: Any) -> AsyncIterator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as client:
        yield client


APIS = pytest.mark.parametrize("api", ["chat", "responses"])


@APIS
def test_a_block_leaves_what_was_judged_and_adds_the_message(plain: OpenAI, guard: Guard, api: str) -> None:
    client = guarded(plain, guard, on_block="message")
    events = list(of(client, api).create(**given(api, "say: First. Second! Third evil. Fourth."), stream=True))
    assert "".join(map(text_of, events)) == f"First. Second! {MESSAGE}"
    assert "evil" not in repr(events)
    if api == "chat":
        assert events[-1].choices[0].finish_reason == "content_filter"
        assert {event.id for event in events} == {"chatcmpl-1"}
    else:
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1].response
        assert (last.id, last.status, last.incomplete_details.reason) == ("resp_1", "completed", "content_filter")
        assert last.output_text == f"First. Second! {MESSAGE}"
        assert [item.status for item in last.output] == ["incomplete", "completed"]


@APIS
def test_the_message_is_set_apart_from_what_was_shown(plain: OpenAI, guard: Guard, api: str) -> None:
    client = guarded(plain, guard, on_block="message", window=1)
    shown = "".join(map(text_of, of(client, api).create(**given(api, "say: One.\ntwo,evil"), stream=True)))
    assert shown == f"One.\n{MESSAGE}"
    shown = "".join(map(text_of, of(client, api).create(**given(api, "say: evil"), stream=True)))
    assert shown == MESSAGE


@pytest.mark.parametrize("structured", [False, True])
@APIS
def test_the_helpers_take_a_stream_that_was_blocked(plain: OpenAI, guard: Guard, api: str, structured: bool) -> None:
    if api == "responses" and not hasattr(plain.responses, "stream"):
        pytest.skip("this SDK has no such helper")
    client = guarded(plain, guard, on_block="message", window=5)
    resource: Any = of(client, api) if hasattr(of(client, api), "stream") else client.beta.chat.completions
    wanted = {"text_format" if api == "responses" else "response_format": Answer} if structured else {}
    with resource.stream(**given(api, 'say: {"text": "one two evil"}'), **wanted) as stream:
        shown = repr(list(stream))
        whole = stream.get_final_response() if api == "responses" else stream.get_final_completion()
    assert "evil" not in shown
    assert MESSAGE in (shown if structured else (whole.output_text if api == "responses" else whole.choices[0].message.content))
    if api == "chat":
        assert (whole.choices[0].message.refusal == MESSAGE) is structured
        assert whole.choices[0].finish_reason == "stop"
    else:
        assert (whole.status, whole.incomplete_details.reason) == ("completed", "content_filter")
    assert verdict_of(stream).allowed is False  # type: ignore[union-attr]


def test_every_choice_of_a_blocked_stream_ends(plain: OpenAI, guard: Guard) -> None:
    client = guarded(plain, guard, on_block="message")
    stream = client.chat.completions.create(**given("chat", "say: Good. |evil. |fine. "), n=3, stream=True)
    shown = dict.fromkeys(range(3), "")
    ends = {}
    for chunk in stream:
        for choice in chunk.choices:
            shown[choice.index] += choice.delta.content or ""
            ends[choice.index] = choice.finish_reason or ends.get(choice.index)
    assert shown[1] == MESSAGE
    assert shown[0].removeprefix("Good. ") == shown[2].removeprefix("fine. ") == MESSAGE
    assert ends == dict.fromkeys(range(3), "content_filter")


@APIS
def test_a_stream_shows_what_was_judged_before_the_answer_ends(server: Any, plain: OpenAI, guard: Guard, api: str) -> None:
    with of(guarded(plain, guard), api).create(**given(api, "say: Hello there. endless"), stream=True) as stream:
        shown = ""
        while "there. and on" not in shown:
            shown += text_of(next(stream))
    assert server.gone.wait(10)


@APIS
def test_the_pass_mode_shows_first_and_stops_on_a_finding(plain: OpenAI, guard: Guard, api: str) -> None:
    client = guarded(plain, guard, mode="pass", on_block="message")
    shown = "".join(map(text_of, of(client, api).create(**given(api, "say: One evil. And more."), stream=True)))
    assert shown.startswith("One evil. ")
    assert shown.endswith(MESSAGE)
    assert "more" not in shown


# The connection to the server.


@pytest.mark.parametrize("on_block", ["raise", "message"])
@APIS
def test_a_block_hangs_up(server: Any, plain: OpenAI, guard: Guard, api: str, on_block: Any) -> None:
    stream = of(guarded(plain, guard, on_block=on_block), api).create(**given(api, "say: evil endless"), stream=True)
    if on_block == "raise":
        with pytest.raises(BlockedError):
            list(stream)
    else:
        while MESSAGE not in text_of(next(stream)):
            pass
    assert server.gone.wait(10)


@pytest.mark.parametrize("on_block", ["raise", "message"])
@APIS
async def test_a_block_hangs_up_async(server: Any, aplain: AsyncOpenAI, guard: Guard, api: str, on_block: Any) -> None:
    stream = await of(guarded(aplain, guard, on_block=on_block), api).create(**given(api, "say: evil endless"), stream=True)
    if on_block == "raise":
        with pytest.raises(BlockedError):
            [event async for event in stream]
    else:
        while MESSAGE not in text_of(await anext(stream)):
            pass
    assert await asyncio.to_thread(server.gone.wait, 10)


@APIS
async def test_a_reader_who_leaves_hangs_up(server: Any, aplain: AsyncOpenAI, guard: Guard, api: str) -> None:
    async with await of(guarded(aplain, guard), api).create(**given(api, "say: Hello. endless"), stream=True) as stream:
        async for event in stream:
            if text_of(event):
                break
    assert await asyncio.to_thread(server.gone.wait, 10)


@APIS
async def test_a_reader_who_never_begins_hangs_up(server: Any, aplain: AsyncOpenAI, guard: Guard, api: str) -> None:
    stream = await of(guarded(aplain, guard), api).create(**given(api, "say: Hello. endless"), stream=True)
    await stream.close()
    assert await asyncio.to_thread(server.gone.wait, 10)


async def test_a_cancelled_reader_hangs_up(server: Any, aplain: AsyncOpenAI) -> None:
    judging = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def never(exchange: Exchange) -> Judgement:
        if exchange.response is not None:
            loop.call_soon_threadsafe(judging.set)
            await asyncio.Event().wait()
        return judgement()

    with Guard(judge=ScriptedJudge(never)) as guard:
        client = guarded(aplain, guard)

        async def read() -> None:
            async for _ in await client.chat.completions.create(**given("chat", "say: Hello. endless"), stream=True):
                pass

        task = asyncio.create_task(read())
        await judging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(server.gone.wait, 10)


@APIS
def test_a_stream_that_was_read_costs_no_more_connections_than_before(
    server: Any, plain: OpenAI, guard: Guard, api: str
) -> None:
    counts = []
    for client in (guarded(plain, guard), plain):
        server.clients.clear()
        for _ in range(3):
            assert list(of(client, api).create(**given(api, "say: Hello."), stream=True))
        counts.append(len(server.clients))
    assert counts[0] <= counts[1]


@APIS
async def test_a_stream_that_was_read_costs_no_more_connections_async(
    server: Any, aplain: AsyncOpenAI, guard: Guard, api: str
) -> None:
    counts = []
    for client in (guarded(aplain, guard), aplain):
        server.clients.clear()
        for _ in range(3):
            assert [event async for event in await of(client, api).create(**given(api, "say: Hello."), stream=True)]
        counts.append(len(server.clients))
    assert counts[0] <= counts[1]


# What a stream may look like.


def chunk(delta: str) -> bytes:
    return b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":%s}]}' % delta.encode()


@pytest.mark.parametrize("end", [b"\n\n", b"\r\n\r\n", b"\r\r", b"\n\r\n", b""])
def test_line_ends_of_every_kind(server: Any, plain: OpenAI, guard: Guard, end: bytes) -> None:
    client = guarded(plain, guard)
    for text in ("fine", "evil"):
        raw = end.join([chunk(json.dumps({"content": text})), b"data: [DONE]", b""])
        server.raw = "text/event-stream", raw if end else raw.replace(b"data: [DONE]", b"")
        with client.chat.completions.with_streaming_response.create(**given("chat", "x"), stream=True) as answer:
            if text == "evil":
                with pytest.raises(BlockedError):
                    answer.read()
            else:
                assert answer.read() == server.raw[1]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"choices": [{"message": {"content": "evil"}}]}',
        b"evil\n\n",
        b"data: evil\n\n",
        b"data: [DONE] evil\n\n",
        b'data: ["evil"]\n\n',
        b'data: {"text": "evil"}\n\n',
        b'data: {"error": {"message": "x"}, "choices": [{"text": "evil"}]}\n\n',
        b"data: \xff evil\n\n",
        chunk('{"reasoning_content":"ev"}') + b"\n\n" + chunk('{"reasoning_content":"il"}') + b"\n\n",
        chunk('{"refusal":"evil"}') + b"\n\n",
        chunk('{"tool_calls":[{"index":0,"id":"1","type":"function","function":{"name":"evil","arguments":""}}]}') + b"\n\n",
    ],
)
def test_text_in_any_form_is_judged(server: Any, plain: OpenAI, guard: Guard, raw: bytes) -> None:
    server.raw = "text/event-stream", raw
    client = guarded(plain, guard)
    with (
        client.chat.completions.with_streaming_response.create(**given("chat", "x"), stream=True) as answer,
        pytest.raises(BlockedError),
    ):
        answer.read()


@pytest.mark.parametrize(
    "event",
    [
        '{"type": "response.output_text.done", "output_index": 0, "text": "evil"}',
        '{"type": "response.output_item.done", "output_index": 0, "item": {"type": "message", "content": [{"type": "output_text", "text": "evil"}]}}',
        '{"type": "response.completed", "response": {"output": [{"type": "message", "content": [{"type": "output_text", "text": "evil"}]}]}}',
        '{"type": "response.reasoning_summary_text.delta", "output_index": 0, "summary_index": 0, "delta": "evil"}',
        '{"type": "response.novelty", "inside": {"text": "evil"}}',
    ],
)  # fmt: skip
def test_every_event_of_the_responses_api_is_judged(server: Any, plain: OpenAI, guard: Guard, event: str) -> None:
    server.raw = "text/event-stream", f"data: {event}\n\n".encode()
    with pytest.raises(BlockedError):
        list(guarded(plain, guard).responses.create(**given("responses", "x"), stream=True))
    server.raw = "text/event-stream", f"data: {event}\n\n".replace("evil", "fine").encode()
    assert len(list(guarded(plain, guard).responses.create(**given("responses", "x"), stream=True))) == 1


def test_events_that_repeat_the_text_cost_no_check(plain: OpenAI, guard: Guard) -> None:
    assert list(guarded(plain, guard, check_input=False).responses.create(**given("responses", "say: One two"), stream=True))
    judge = guard.judge
    assert isinstance(judge, ScriptedJudge)
    assert [exchange.response for exchange in judge.seen] == ["One two"]


def test_sound_in_a_stream_fails_closed(server: Any, plain: OpenAI, guard: Guard) -> None:
    server.raw = "text/event-stream", b'data: {"type": "response.audio.delta", "delta": "UklG"}\n\n'
    with pytest.raises(InputError, match="delta: is not text"):
        list(guarded(plain, guard).responses.create(**given("responses", "x"), stream=True))
    assert list(guarded(plain, guard, unjudged="allow").responses.create(**given("responses", "x"), stream=True))


# Asyncio.


@pytest.mark.parametrize("prompt", ["evil", "say: One. Two evil.", "say: One. Two."])
@pytest.mark.parametrize("stream", [False, True])
@APIS
async def test_the_event_loop_is_never_blocked(aplain: AsyncOpenAI, guard: Guard, api: str, stream: bool, prompt: str) -> None:
    client = guarded(aplain, guard, on_block="message")
    with blockbuster_ctx():
        result = await of(client, api).create(**given(api, prompt), stream=stream)
        shown = repr([event async for event in result] if stream else result)
    assert "evil" not in shown
    assert ("sorry" in shown) is ("evil" in prompt)


async def test_a_blocking_check_would_be_noticed() -> None:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.05)
        return judgement()

    with Guard(judge=ScriptedJudge(slow)) as guard:
        await guard.acheck("warm")
        with blockbuster_ctx(), pytest.raises(BlockingError):
            guard.check("hello")


async def test_fifty_streams_at_a_time_do_not_mix(server: Any, guard: Guard) -> None:
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as plain:
        client = guarded(plain, guard, on_block="message")

        async def read(number: int) -> str:
            text = f"Number {number} begins. It {'is evil' if number % 5 == 0 else 'goes on'}. And number {number} ends."
            api = ("chat", "responses")[number % 2]
            stream = await of(client, api).create(**given(api, f"say: {text}"), stream=True)
            shown = "".join([text_of(event) async for event in stream])
            assert (verdict_of(stream) or guard).allowed is (number % 5 != 0)  # type: ignore[union-attr]
            if number % 5:
                assert shown == text
            else:
                # How much was judged with the first sentence depends on how fast the answer came.
                assert shown.endswith(MESSAGE)
                assert "evil" not in shown
                assert text.startswith(shown.removesuffix(MESSAGE).rstrip())
            return shown

        assert len(set(await asyncio.gather(*map(read, range(50))))) >= 41


def test_a_stream_that_another_thread_closes_ends(server: Any, plain: OpenAI, guard: Guard) -> None:
    stream = guarded(plain, guard).chat.completions.create(**given("chat", "say: Hello. endless"), stream=True)
    next(stream)
    closer = threading.Thread(target=stream.close)
    closer.start()
    closer.join()
    assert server.gone.wait(10)
