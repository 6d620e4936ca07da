"""Answers whose bytes somebody read before the guard: a hook that writes a log, a cache, a test double."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, Guard

from .conftest import MESSAGE, TOOLS
from .test_streams import APIS, given, of, text_of


def read(response: Any) -> None:
    response.read()


async def aread(response: Any) -> None:
    await response.aread()


@pytest.fixture(params=["httpx", "httpx2"])
def library(request: Any) -> Any:
    """Each HTTP library whose clients this SDK takes."""
    made = pytest.importorskip(request.param)
    try:
        OpenAI(api_key="k", http_client=made.Client()).close()
    except TypeError:
        pytest.skip(f"this SDK takes no client of {request.param}")
    return made


@pytest.fixture
def hooked(server: Any, library: Any) -> Iterator[OpenAI]:
    http = library.Client(event_hooks={"response": [read]})
    with OpenAI(base_url=server.url, api_key="k", max_retries=0, http_client=http) as client:
        yield client


@pytest.fixture
async def ahooked(server: Any, library: Any) -> Any:
    http = library.AsyncClient(event_hooks={"response": [aread]})
    async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0, http_client=http) as client:
        yield client


@APIS
@pytest.mark.parametrize("more", [{}, {"tools": TOOLS}])
def test_a_stream_that_was_read_before_is_judged(hooked: OpenAI, guard: Guard, api: str, more: Any) -> None:
    client = guarded(hooked, guard)
    with pytest.raises(BlockedError):
        list(of(client, api).create(**given(api, "say: Fine. How evil."), stream=True, **more))
    kept = list(of(client, api).create(**given(api, "say: Fine. How kind."), stream=True, **more))
    assert kept == list(of(hooked, api).create(**given(api, "say: Fine. How kind."), stream=True, **more))


@APIS
async def test_a_stream_that_was_read_before_is_judged_async(ahooked: AsyncOpenAI, guard: Guard, api: str) -> None:
    client = guarded(ahooked, guard)
    with pytest.raises(BlockedError):
        [event async for event in await of(client, api).create(**given(api, "say: Fine. How evil."), stream=True)]
    stream = await of(client, api).create(**given(api, "say: Fine. How kind."), stream=True)
    assert "".join([text_of(event) async for event in stream]) == "Fine. How kind."


@APIS
def test_a_stream_that_was_read_before_ends_in_the_message(hooked: OpenAI, guard: Guard, api: str) -> None:
    stream = of(guarded(hooked, guard, on_block="message"), api).create(**given(api, "say: Fine. How evil."), stream=True)
    assert "".join(map(text_of, stream)) == f"Fine. {MESSAGE}"
    verdict = verdict_of(stream)
    assert verdict is not None
    assert not verdict.allowed


@APIS
async def test_a_stream_that_was_read_before_ends_in_the_message_async(ahooked: AsyncOpenAI, guard: Guard, api: str) -> None:
    client = guarded(ahooked, guard, on_block="message")
    stream = await of(client, api).create(**given(api, "say: Fine. How evil."), stream=True)
    # How much is judged at once depends on how much is there: here, all of it.
    shown = "".join([text_of(event) async for event in stream])
    assert shown.removeprefix("Fine. ") == MESSAGE


def spelt(*pieces: str) -> bytes:
    chunk = b'data: {"id":"c","object":"chat.completion.chunk","choices":[{"index":0,"delta":{"content":"%s"}}]}\n\n'
    return b"".join(chunk % piece.encode() for piece in pieces) + b"data: [DONE]\n\n"


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream; charset=utf-8", "text/plain", "application/json"])
@pytest.mark.parametrize("pieces", [("e", "vil"), ("\\u0065", "\\u0076", "il")])
def test_a_word_that_is_spelt_over_events_is_read_together(
    server: Any, hooked: OpenAI, guard: Guard, kind: str, pieces: tuple[str, ...]
) -> None:
    server.raw = kind, spelt("So ", *pieces, ".")
    with pytest.raises(BlockedError):
        list(guarded(hooked, guard).chat.completions.create(**given("chat", "x"), stream=True))
    server.raw = kind, spelt("So ", "ki", "nd", ".")
    stream = guarded(hooked, guard).chat.completions.create(**given("chat", "x"), stream=True)
    assert "".join(map(text_of, stream)) == "So kind."


@pytest.mark.parametrize("kind", ["text/event-stream", "text/plain"])
@pytest.mark.parametrize("on_block", ["raise", "message"])
def test_events_that_nobody_asked_for_are_read_together(
    server: Any, plain: OpenAI, guard: Guard, kind: str, on_block: Any
) -> None:
    client = guarded(plain, guard, on_block=on_block)
    server.raw = kind, spelt("So e", "vil.")
    if on_block == "raise":
        with pytest.raises(BlockedError):
            client.chat.completions.create(**given("chat", "x"))
    else:
        assert client.chat.completions.create(**given("chat", "x")).choices[0].message.content == MESSAGE
    server.raw = kind, spelt("So ki", "nd.")
    assert client.chat.completions.create(**given("chat", "x")) == server.raw[1].decode()
