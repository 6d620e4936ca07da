"""Streams, however they are cut."""

import asyncio
import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from guardreasoner_integrations._sse import Splitter, data_of, extras_of
from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware
from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.testing import judgement

from .apps import MESSAGE
from .conftest import EVENT

ROUTE = GuardedRoute("/", prompt="$.message", response="$", event=EVENT)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_data_is_read_as_browsers_read_it(end: str) -> None:
    event = end.join([": a comment", "event: x", "data: one", "data:two", "data", "database: no", "id: 4", "", ""])
    assert data_of(event.encode()) == b"one\ntwo\n"
    assert extras_of(event.encode()) == b"database: no"
    assert data_of("\ufeffdata: marked\n\n".encode()) == b"marked"


@settings(max_examples=300)
@given(body=st.binary(max_size=60) | st.text("\r\nda:t ü", max_size=40).map(str.encode), cuts=st.lists(st.integers(0, 60)))
def test_the_pieces_are_the_same_wherever_the_chunks_end(body: bytes, cuts: list[int]) -> None:
    for events in (True, False):
        whole, cut = Splitter(events=events), Splitter(events=events)
        expected = [*whole.feed(body), *whole.end()]
        places = sorted({min(place, len(body)) for place in cuts} | {0, len(body)})
        pieces = [piece for start, stop in pairwise(places) for piece in cut.feed(body[start:stop])]
        pieces += cut.end()
        assert pieces == expected
        assert b"".join(pieces) == body


def test_an_event_of_many_small_chunks_is_cut_in_linear_time() -> None:
    splitter = Splitter(events=True)
    for _ in range(200_000):
        assert list(splitter.feed(b"x")) == []
    assert len(splitter) == 200_000


async def streamed(guard: Guard, media: str, chunks: list[bytes], **options: Any) -> list[Any]:
    """What leaves, message by message."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", media.encode())]})
        for chunk in chunks:
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"message": "hi"}', "more_body": False}

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
    await GuardMiddleware(app, guard=guard, **{"routes": [ROUTE], **options})(scope, receive, send)
    return sent


def events(texts: list[str], end: str) -> bytes:
    body = ": keep-alive" + end + end
    for text in texts:
        document = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False)
        body += f"event: chunk{end}data: {document[:12]}{end}data: {document[12:]}{end}{end}"
    return (body + f"data: [DONE]{end}{end}").encode()


WORDS = st.lists(st.sampled_from(["Well. ", "grüß ", "日本。", "so ", "ba", "d ", "bad. ", ""]), min_size=1, max_size=8)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(words=WORDS, end=st.sampled_from(["\n", "\r\n", "\r"]), size=st.integers(1, 40), media=st.sampled_from(["sse", "text"]))
def test_nothing_harmful_leaves_and_an_allowed_stream_is_the_same(
    words: list[str], end: str, size: int, media: str, make_guard: Callable[..., Guard]
) -> None:
    guard = make_guard()
    body = events(words, end) if media == "sse" else "".join(words).encode()
    chunks = [body[start : start + size] for start in range(0, len(body), size)]
    kind = "text/event-stream" if media == "sse" else "text/plain"
    sent = asyncio.run(streamed(guard, kind, chunks))
    left = b"".join(message.get("body", b"") for message in sent)
    assert [message["type"] for message in sent[:1]] == ["http.response.start"]
    assert sent[-1]["more_body"] is False
    if "bad" in "".join(words):
        texts = left.decode("utf-8", errors="replace")
        if media == "sse":
            documents = [
                json.loads(data) for one in texts.split(end + end) if (data := data_of(one.encode())).startswith(b'{"choices')
            ]
            texts = "".join(choice["delta"]["content"] for document in documents for choice in document["choices"])
        assert "bad" not in texts
        assert b'"blocked"' in left
    else:
        assert sent[0]["status"] == 200
        assert left == body


async def test_events_before_the_first_text_wait_for_it_and_keep_their_place(make_guard: Callable[..., Guard]) -> None:
    opening = b": hello\n\n" + b'data: {"choices": [{"delta": {"role": "assistant", "content": null}}]}\n\n'
    body = opening + b'data: {"choices": [{"delta": {"content": "Hi."}}]}\n\n: bye\n\n'
    sent = await streamed(make_guard(), "text/event-stream", [body])
    assert b"".join(message.get("body", b"") for message in sent) == body


async def test_a_stream_of_nothing_passes(make_guard: Callable[..., Guard]) -> None:
    for media, body in (("text/event-stream", b": only a comment\n\ndata: [DONE]\n\n"), ("text/plain", b"")):
        sent = await streamed(make_guard(), media, [body])
        assert (sent[0]["status"], b"".join(message.get("body", b"") for message in sent)) == (200, body)


async def test_the_mark_of_the_end_is_no_part_of_what_is_judged(make_guard: Callable[..., Guard]) -> None:
    seen: list[str] = []

    def script(exchange: Exchange) -> Judgement:
        seen.append(exchange.response or "")
        return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

    for route in (ROUTE, WORDS_ALONE):
        body = b"data: Hello.\n\ndata: [DONE]\n\n"
        sent = await streamed(make_guard(script), "text/event-stream", [body], routes=[route])
        assert b"".join(message.get("body", b"") for message in sent) == body
    assert any("Hello." in text for text in seen)
    assert not any("DONE" in text for text in seen)


async def test_an_event_that_is_not_json_is_judged_as_it_stands(make_guard: Callable[..., Guard]) -> None:
    sent = await streamed(make_guard(), "text/event-stream", [b"data: so bad\n\n"])
    assert sent[0]["status"] == 403


WORDS_ALONE = GuardedRoute("/", prompt="$.message", event="$")


@pytest.mark.parametrize("words", [["I have ", "5", " [or] ", '"six', '" cats', "true", " {", "}."], ["null", "1e3", "-0.5"]])
async def test_words_that_look_like_json_are_words(words: list[str], make_guard: Callable[..., Guard]) -> None:
    body = [f"data:{word}\n\n".encode() for word in words]
    sent = await streamed(make_guard(), "text/event-stream", body, routes=[WORDS_ALONE])
    assert b"".join(message.get("body", b"") for message in sent) == b"".join(body)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (['"Fine. "', '"So bad."'], f'data: "{MESSAGE}"'),
        (['"Fine. "', "null", "5", '"So bad."'], f'data: "{MESSAGE}"'),
        (["Fine. ", "So bad."], f"data: {MESSAGE}"),
        (["Fine. ", '"So bad."'], f"data: {MESSAGE}"),
    ],
)
async def test_a_message_comes_in_the_form_of_the_words(lines: list[str], said: str, make_guard: Callable[..., Guard]) -> None:
    body = [f"data: {line}\n\n".encode() for line in lines]
    sent = await streamed(make_guard(), "text/event-stream", body, routes=[WORDS_ALONE], on_block="message")
    left = b"".join(message.get("body", b"") for message in sent).decode()
    assert left.endswith(said + "\n\n")
    assert "bad" not in left


@pytest.mark.parametrize("word", ["[END]", "[done]", "[ Finished ]", "ping", "end of stream", "1 more", "..."])
async def test_a_word_that_ends_a_stream_is_no_broken_json(word: str, make_guard: Callable[..., Guard]) -> None:
    body = b'data: {"choices": [{"delta": {"content": "Hi."}}]}\n\ndata: ' + word.encode() + b"\n\n"
    sent = await streamed(make_guard(), "text/event-stream", [body])
    assert b"".join(message.get("body", b"") for message in sent) == body


@pytest.mark.parametrize("data", ['["', "[", "[true", "['a']", "[ 1", "[null,", "[-1 ", "[[", "{a: 1}", "\ufeff\t{", '"a', '"'])
async def test_what_begins_like_json_and_is_none_is_refused(data: str, make_guard: Callable[..., Guard]) -> None:
    sent = await streamed(make_guard(), "text/event-stream", [b"data: " + data.encode() + b"\n\n"])
    assert sent[0]["status"] == 500


async def test_a_last_event_without_its_end_is_judged(make_guard: Callable[..., Guard]) -> None:
    sent = await streamed(make_guard(), "text/event-stream", [b'data: {"choices": [{"delta": {"content": "bad"}}]}'])
    assert sent[0]["status"] == 403


async def test_two_answers_in_one_stream_are_judged_apart(make_guard: Callable[..., Guard]) -> None:
    guard = make_guard()
    both = [{"delta": {"content": "one"}}, {"delta": {"content": "two"}}]
    await streamed(guard, "text/event-stream", [b"data: " + json.dumps({"choices": both}).encode() + b"\n\n"])
    assert sorted(exchange.response for exchange in guard.judge.seen if exchange.response) == ["one", "two"]  # type: ignore[attr-defined]


async def test_text_in_another_charset_is_judged_as_it_reads(make_guard: Callable[..., Guard]) -> None:
    guard = make_guard()
    sent = await streamed(guard, "text/plain; charset=utf-16-le", ["so bad".encode("utf-16-le")])
    assert sent[0]["status"] == 403


async def test_pass_mode_shows_at_once_and_stops(make_guard: Callable[..., Guard]) -> None:
    sent = await streamed(make_guard(), "text/plain", [b"so bad. ", b"more " * 3], mode="pass")
    assert sent[0]["status"] == 200
    assert sent[1]["body"] == b"so bad. "
    assert b"blocked" in sent[-1]["body"]
