"""FastAPI's own server-sent events: every string is JSON."""

import json
from collections.abc import AsyncIterable, Iterable
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")
sse = pytest.importorskip("fastapi.sse", reason="FastAPI sends events of its own since 0.135")

from guardreasoner_integrations._sse import Splitter, data_of  # noqa: E402
from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware  # noqa: E402
from guardreasoner_sdk import Guard  # noqa: E402

from .apps import MESSAGE, post  # noqa: E402


def app(guard: Guard, **options: Any) -> Any:
    made = fastapi.FastAPI()
    paths = {"/words": "$", "/sync": "$", "/raw": "$", "/objects": "$.text", "/events": "$.text", "/lines": "$"}
    routes = [GuardedRoute(path, prompt="$.message", event=event) for path, event in paths.items()]
    made.add_middleware(GuardMiddleware, guard=guard, routes=routes, **options)

    @made.post("/words", response_class=sse.EventSourceResponse)
    async def words(body: dict[str, Any]) -> AsyncIterable[str]:
        for word in body["say"]:
            yield word

    @made.post("/sync", response_class=sse.EventSourceResponse)
    def sync(body: dict[str, Any]) -> Iterable[str]:
        yield from body["say"]

    @made.post("/raw", response_class=sse.EventSourceResponse)
    async def raw(body: dict[str, Any]) -> AsyncIterable[Any]:
        for word in body["say"]:
            yield sse.ServerSentEvent(raw_data=word)

    @made.post("/objects", response_class=sse.EventSourceResponse)
    async def objects(body: dict[str, Any]) -> AsyncIterable[dict[str, str]]:
        for word in body["say"]:
            yield {"text": word}

    @made.post("/events", response_class=sse.EventSourceResponse)
    async def events(body: dict[str, Any]) -> AsyncIterable[Any]:
        for number, word in enumerate(body["say"]):
            yield sse.ServerSentEvent(data={"text": word}, event="token", id=str(number), retry=5, comment="going on")

    @made.post("/lines")
    async def lines(body: dict[str, Any]) -> AsyncIterable[str]:
        for word in body["say"]:
            yield word

    return made


def said(path: str, content: bytes) -> list[Any]:
    """What a client reads, event by event."""
    splitter = Splitter(events=path != "/lines")
    pieces = [*splitter.feed(content), *splitter.end()]
    datas = [data for piece in pieces if (data := piece if path == "/lines" else data_of(piece))]
    if path == "/raw":
        return [data.decode() for data in datas]
    documents = [json.loads(data) for data in datas]
    return [document.get("text", document) if isinstance(document, dict) else document for document in documents]


PATHS = pytest.mark.parametrize("path", ["/words", "/sync", "/raw", "/objects", "/events", "/lines"])


@PATHS
async def test_an_allowed_stream_stays_as_it_is(path: str, guard: Guard) -> None:
    words = ["All ", "is well. ", 'So "it" is. ', "5", "日本"]
    got = await post(app(guard), path, {"message": "hi", "say": words})
    assert got.status_code == 200
    assert said(path, got.content) == words


@pytest.mark.parametrize("path", ["/words", "/events"])
async def test_a_line_separator_in_a_text_ends_no_stream(path: str, guard: Guard) -> None:
    # FastAPI 0.136 begins a line of an event at every character that Python takes for a line end, also inside of JSON.
    words = ["one\u2028two ", "three\x85four.", " Five."]
    got = await post(app(guard), path, {"message": "hi", "say": words})
    assert got.status_code == 200
    assert b"Five." in got.content
    got = await post(app(guard, on_block="message"), path, {"message": "hi", "say": [*words, "\u2028so bad"]})
    assert MESSAGE in got.text
    assert "bad" not in got.text


@PATHS
@pytest.mark.parametrize("before", [[], ["Fine. "]])
async def test_the_message_is_what_such_events_are(path: str, before: list[str], guard: Guard) -> None:
    got = await post(app(guard, on_block="message"), path, {"message": "hi", "say": [*before, "So ", "ba", "d. ", "On."]})
    assert got.status_code == 200
    assert "".join(said(path, got.content)).removeprefix("Fine. ") == MESSAGE


@PATHS
async def test_without_a_message_the_stream_ends_in_an_error(path: str, guard: Guard) -> None:
    got = await post(app(guard), path, {"message": "hi", "say": ["So ", "ba", "d. ", "On."]})
    assert (got.status_code, got.json()["error"]["type"]) == (403, "blocked")
