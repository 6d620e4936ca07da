"""Ways in which text could slip by the middleware."""

import asyncio
import json
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from starlette.responses import Response, StreamingResponse  # noqa: E402

from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware  # noqa: E402
from guardreasoner_sdk import ConfigurationError, Guard  # noqa: E402

from .apps import MESSAGE, call, fastapi_app, post, starlette_app, streamed  # noqa: E402
from .conftest import EVENT, chunk  # noqa: E402


@pytest.mark.parametrize("make_app", [starlette_app, fastapi_app])
@pytest.mark.parametrize("path", ["/json", "/json/", "/json%0A", "/json/%0A", "http://app//json", "/json//", "/%6Ason"])
async def test_another_spelling_of_the_path_is_no_way_around(make_app: Any, path: str, guard: Guard) -> None:
    got = await post(make_app(guard), path, {"message": "bad", "say": "x"})
    assert got.status_code == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "post", "Put"])
async def test_every_method_with_a_body_is_guarded(method: str, guard: Guard) -> None:
    sent: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        raise AssertionError("never asked")

    async def send(message: Any) -> None:
        sent.append(message)

    guarded = GuardMiddleware(app, guard=guard, routes=[GuardedRoute("/chat", prompt="$.message")])
    await call(guarded, "/chat", {"message": "bad"}, send, method=method)
    assert sent[0]["status"] == 403


def answering(guard: Guard, route: GuardedRoute, response: Response, **options: Any) -> Any:
    return GuardMiddleware(response, guard=guard, routes=[route], **options)


async def answered(guard: Guard, route: GuardedRoute, response: Response, **options: Any) -> Any:
    return await post(answering(guard, route, response, **options), "/", {"message": "hi"})


def events(*parts: bytes, media: str = "text/event-stream") -> Response:
    return StreamingResponse(streamed(list(parts)), media_type=media)


SSE = GuardedRoute("/", prompt="$.message", event=EVENT)


def of_choice(index: int, text: str) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": index, "delta": {"content": text}}]}).encode() + b"\n\n"


async def test_interleaved_answers_are_judged_one_by_one(guard: Guard) -> None:
    parts = [of_choice(index, text) for text, other in ("bx", "ay", "dz") for index, text in ((0, text), (1, other))]
    assert (await answered(guard, SSE, events(*parts))).status_code == 403
    harmless = [of_choice(0, "b"), of_choice(1, "ad"), of_choice(0, "ook")]
    assert (await answered(guard, SSE, events(*harmless))).content == b"".join(harmless)


@pytest.mark.parametrize(
    "event",
    [
        b"event: how bad\n" + chunk("fine"),
        b"id: how bad\n" + chunk("fine"),
        b"how bad\n" + chunk("fine"),
        chunk("fine") + b"data: [DONE]\nhow bad\n\n",
        chunk("fine") + b": comment\nhow bad\n\n",
        "event: 非常bad".encode() + b"\n" + chunk("fine"),
        chunk("fine") + b'data: "bad"\n\n',
        b'data: {"choices": [\ndata: {"delta": {"content": "bad"}}]}\n\n',
        chunk("bad").rstrip(),
        chunk("bad").replace(b"\n", b"\r"),
    ],
)
@pytest.mark.parametrize("size", [1, 1000])
async def test_text_in_any_part_of_an_event_is_judged(event: bytes, size: int, guard: Guard) -> None:
    parts = [event[start : start + size] for start in range(0, len(event), size)]
    got = await answered(guard, SSE, events(*parts, media="text/event-stream; charset=utf-8"))
    assert "bad" not in got.text
    assert "blocked" in got.text


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


BAD = escaped("bad")


@pytest.mark.parametrize(
    "data",
    [
        '{"choices": [{"delta": {"content": "BAD", "content": "fine"}}]}',
        '{"choices": [{"delta": {"content": "fine", "content": "BAD"}}]}',
        '{"choices": [{"delta": {"content": "fine"}}]} {"a": "BAD"}',
        '{"choices": [{"delta": {"content": "fine"}}]}, "BAD"',
        '{"choices": [{"delta": {"content": "BAD"}}',
        '\ufeff{"choices": [{"delta": {"content": "BAD"}}]}',
        '"BAD" // a comment',
    ],
)
@pytest.mark.parametrize("word", ["bad", BAD])
@pytest.mark.parametrize("media", ["text/event-stream", "application/x-ndjson"])
async def test_json_that_readers_understand_differently_leaves_in_no_event(
    data: str, word: str, media: str, guard: Guard
) -> None:
    raw = data.replace("BAD", word).encode()
    fine = chunk("Fine. ") if media == "text/event-stream" else chunk("Fine. ").removeprefix(b"data: ")[:-1]
    line = b"data: " + raw + b"\n\n" if media == "text/event-stream" else b"\n" + raw + b"\n"
    for before in (b"", fine):
        got = await answered(guard, SSE, events(before, line, media=media))
        assert word not in got.text
        assert "unreadable_response" in got.text or "blocked" in got.text


CALLS = "$.choices[*].delta..['content','name','arguments','partial_json','input']"


def calls(*pieces: str, key: str = "arguments", name: str = "f") -> list[bytes]:
    said = [{"tool_calls": [{"index": 0, "function": {"name": name, key: piece}}]} for piece in pieces]
    return [b"data: " + json.dumps({"choices": [{"index": 0, "delta": delta}]}).encode() + b"\n\n" for delta in said]


ARGUMENTS = ['{"a": "BAD"}', '["BAD"]', '{"BAD": 1}', json.dumps({"a": '{"b": "BAD"}'}), "Well: {'a': \"BAD\"}"]


@pytest.mark.parametrize("size", [1, 4, 1000])
@pytest.mark.parametrize("key", ["arguments", "partial_json", "input"])
async def test_arguments_in_a_stream_are_read_decoded(size: int, key: str, guard: Guard) -> None:
    route = GuardedRoute("/", prompt="$.message", event=CALLS)
    for text in ARGUMENTS:
        for word, found in ((BAD, True), (escaped("bat"), False)):
            whole = text.replace("BAD", word)
            parts = calls(*(whole[start : start + size] for start in range(0, len(whole), size)), key=key)
            got = await answered(guard, route, events(*parts))
            assert ("blocked" in got.text) is found
            assert found or got.content == b"".join(parts)


@pytest.mark.parametrize("key", ["arguments", "input", "content"])
async def test_arguments_in_a_document_are_read_decoded(key: str, guard: Guard) -> None:
    route = GuardedRoute("/", prompt="$.message", response=f"$..{key}")
    for text in ARGUMENTS:
        for word, status in ((BAD, 403), (escaped("bat"), 200)):
            body = json.dumps({"message": {key: text.replace("BAD", word)}}).encode()
            assert (await answered(guard, route, Response(body, media_type="application/json"))).status_code == status


async def test_plain_text_that_somebody_may_parse_is_read_decoded(guard: Guard) -> None:
    route = GuardedRoute("/", prompt="$.message", event="$")
    for word, status in ((BAD, 403), (escaped("bat"), 200)):
        text = f'Here: {{"a": "{word}"}}'
        for size in (1, 4, 1000):
            parts = [text[start : start + size].encode() for start in range(0, len(text), size)]
            assert (await answered(guard, route, events(*parts, media="text/plain"))).status_code == status
            lines = [b"data: " + part + b"\n\n" for part in parts]
            assert (await answered(guard, route, events(*lines))).status_code == status


@pytest.mark.parametrize("media", ["text/event-stream; charset=utf-16", "application/x-ndjson; charset=latin-1"])
async def test_a_stream_that_reads_otherwise_than_it_is_judged_is_refused(media: str, guard: Guard) -> None:
    got = await answered(guard, SSE, events("\ufeffbad".encode("utf-16"), media=media))
    assert (got.status_code, got.json()["error"]["type"]) == (500, "unreadable_response")


@pytest.mark.parametrize("value", [7, True, ["bad"], {"text": "bad"}, [[{"a": "bad"}]]])
async def test_what_is_no_text_where_text_belongs_does_not_leave(value: Any, guard: Guard) -> None:
    route = GuardedRoute("/", prompt="$.message", response="$.answer", event="$.answer")
    body = json.dumps({"answer": value}).encode()
    for response in (Response(body, media_type="application/json"), events(b"data: " + body + b"\n\n")):
        got = await answered(guard, route, response)
        assert got.status_code == 500
        assert "bad" not in got.text


async def test_one_path_reaches_text_and_calls_of_tools(guard: Guard) -> None:
    route = GuardedRoute("/", prompt="$.message", event="$.choices[*].delta..['content','reasoning','name','arguments']")
    for name, arguments, status in (("look_up", "{}", 200), ("look_up", "bad", 403), ("bad", "{}", 403)):
        call_ = {"tool_calls": [{"index": 0, "function": {"name": name, "arguments": arguments}}]}
        event = b"data: " + json.dumps({"choices": [{"index": 0, "delta": call_}]}).encode() + b"\n\n"
        assert (await answered(guard, route, events(event))).status_code == status


async def test_a_stream_of_a_promised_length_is_held_up_to_max_body(guard: Guard) -> None:
    for size, status in ((50, 200), (5000, 500)):
        response = Response(chunk("x" * size), media_type="text/event-stream")
        assert (await answered(guard, SSE, response, max_body=1000)).status_code == status


async def test_a_blocked_answer_that_is_nested_deeply_is_an_error(guard: Guard) -> None:
    body = b'{"answer": "bad", "deep": ' + b"[" * 600 + b"]" * 600 + b"}"
    route = GuardedRoute("/", prompt="$.message", response="$.answer")
    got = await answered(guard, route, Response(body, media_type="application/json"), on_block="message")
    assert (got.status_code, got.json()["error"]["type"]) == (403, "blocked")


CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"how": "bad"}'}}
IMAGE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


@pytest.mark.parametrize(
    ("messages", "status"),
    [
        ([{"role": "user", "content": "bad"}], 403),
        ([{"role": "user", "content": "bad"}, {"role": "user", "content": " \u200b"}], 403),
        ([{"role": "system", "content": "bad"}], 403),
        ([{"role": "user", "content": "hi"}, {"role": "assistant", "content": None, "tool_calls": [CALL]}], 403),
        ([{"role": "user", "content": "hi"}, {"role": "tool", "content": [{"type": "text", "text": "bad"}]}], 403),
        ([{"role": "user", "content": [IMAGE]}], 422),
        ([{"role": "user", "content": {"text": "bad"}}], 422),
        ([{"role": "user", "content": " "}], 422),
        ([{"role": "assistant", "content": "hi"}], 422),
        ({"role": "user", "content": "bad"}, 422),
    ],
)
async def test_messages_of_any_form_are_judged(messages: Any, status: int, guard: Guard) -> None:
    app = answering(guard, GuardedRoute("/", messages="$.messages"), Response("never seen"))
    assert (await post(app, "/", {"messages": messages})).status_code == status


async def test_pictures_may_be_let_by(guard: Guard) -> None:
    app = answering(guard, GuardedRoute("/", messages="$.messages", unjudged="allow"), Response("seen"))
    for text, status in (("what is this?", 200), ("bad", 403)):
        body = {"messages": [{"role": "user", "content": [{"type": "text", "text": text}, IMAGE]}]}
        assert (await post(app, "/", body)).status_code == status
    with pytest.raises(ConfigurationError, match="unjudged: must be 'raise' or 'allow'"):
        GuardedRoute("/", messages="$", unjudged="no")  # type: ignore[arg-type]


async def test_check_input_says_whether_prompts_are_judged(make_guard: Any) -> None:
    route = GuardedRoute("/", prompt="$.message", response="$.answer")
    answer = Response(b'{"answer": "fine"}', media_type="application/json")
    for options, policy, checks in (
        ({}, {}, [None, "fine"]),
        ({"check_input": False}, {}, ["fine"]),
        ({}, {"block": {"harmful_response"}}, ["fine"]),
        ({"check_input": True}, {"block": {"harmful_response"}}, [None, "fine"]),
    ):
        guard = make_guard(**policy)
        assert (await answered(guard, route, answer, **options)).status_code == 200
        assert [exchange.response for exchange in guard.judge.seen] == checks


@pytest.mark.parametrize("kind", ["json", "events"])
async def test_a_policy_that_raises_when_undecided_hides_no_failure_behind_a_message(kind: str, make_guard: Any) -> None:
    route = GuardedRoute("/", prompt="$.message", response="$.answer", event=EVENT)
    answer = Response(b'{"answer": "unsure"}', media_type="application/json") if kind == "json" else events(chunk("unsure"))
    got = await answered(make_guard(on_undetermined="raise"), route, answer, on_block="message")
    assert (got.status_code, got.json()["error"]["type"]) == (503, "undetermined")


async def test_no_text_stands_in_logs_or_reprs(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    route = GuardedRoute("/", prompt="$.message", response="$.answer", event=EVENT)
    caplog.set_level("INFO")
    for response in (Response(b'{"answer": ["bad"]}', media_type="application/json"), events(b'data: {"x": "bad"}\n\n')):
        await answered(guard, route, response)
    await post(answering(guard, route, Response("")), "/", content=b'{"message": "bad"')
    assert caplog.records
    assert "bad" not in caplog.text


async def test_nothing_is_left_running(guard: Guard) -> None:
    before = asyncio.all_tasks()
    for on_block in ("raise", "message"):
        got = await answered(guard, SSE, events(chunk("Fine. "), chunk("So bad. "), chunk("on")), on_block=on_block)
        assert MESSAGE in got.text
        assert "bad" not in got.text.replace('"blocked"', "")
        assert asyncio.all_tasks() == before
