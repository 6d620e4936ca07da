"""Every way to ask, with every outcome: one table."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel

from guardreasoner_integrations.openai import guarded, verdict_of
from guardreasoner_sdk import BlockedError, Guard, UndeterminedError

from .conftest import MESSAGE, async_client_of, client_of

WAYS = ["create", "create streamed", "stream", "parse"]
CASES = {
    "allowed": 'say: {"word": "good"}',
    "prompt blocked": 'evil say: {"word": "good"}',
    "answer blocked": 'say: {"word": "evil"}',
    "prompt undetermined": 'unsure say: {"word": "good"}',
    "answer undetermined": 'say: {"word": "unsure"}',
}


class Word(BaseModel):
    word: str


def resource(client: Any, api: str) -> Any:
    if api == "responses":
        return client.responses
    chat = client.chat.completions
    return chat if hasattr(chat, "parse") else client.beta.chat.completions


def arguments(api: str, prompt: str) -> dict[str, Any]:
    return {"model": "m", **({"input": prompt} if api == "responses" else {"messages": [{"role": "user", "content": prompt}]})}


def format_of(api: str) -> dict[str, Any]:
    return {"text_format" if api == "responses" else "response_format": Word}


def final(api: str, stream: Any) -> Any:
    return stream.get_final_response() if api == "responses" else stream.get_final_completion()


def ask(client: OpenAI, api: str, way: str, prompt: str) -> tuple[Any, list[Any]]:
    """The result, or the stream, and what it gave."""
    given = arguments(api, prompt)
    if way == "parse":
        return resource(client, api).parse(**given, **format_of(api)), []
    if way == "stream":
        with resource(client, api).stream(**given) as stream:
            events = list(stream)
            return stream, [*events, final(api, stream)]
    if way == "create streamed":
        stream = (client.responses if api == "responses" else client.chat.completions).create(**given, stream=True)
        return stream, list(stream)
    return (client.responses if api == "responses" else client.chat.completions).create(**given), []


async def aask(client: AsyncOpenAI, api: str, way: str, prompt: str) -> tuple[Any, list[Any]]:
    given = arguments(api, prompt)
    if way == "parse":
        return await resource(client, api).parse(**given, **format_of(api)), []
    if way == "stream":
        async with resource(client, api).stream(**given) as stream:
            events = [event async for event in stream]
            return stream, [*events, await final(api, stream)]
    plain = client.responses if api == "responses" else client.chat.completions
    if way == "create streamed":
        stream = await plain.create(**given, stream=True)
        return stream, [event async for event in stream]
    return await plain.create(**given), []


def asked(kind: str, url: str, guard: Guard | None, on_block: Any, api: str, way: str, prompt: str) -> tuple[Any, list[Any]]:
    if kind == "sync":
        with client_of(url) as plain:
            return ask(plain if guard is None else guarded(plain, guard, on_block=on_block), api, way, prompt)

    async def run() -> tuple[Any, list[Any]]:
        async with async_client_of(url) as plain:
            return await aask(plain if guard is None else guarded(plain, guard, on_block=on_block), api, way, prompt)

    return asyncio.run(run())


def text_of(api: str, way: str, result: Any, events: list[Any]) -> str:
    whole = events[-1] if way == "stream" else result
    if way == "create streamed":
        if api == "responses":
            return "".join(event.delta for event in events if event.type == "response.output_text.delta")
        return "".join(chunk.choices[0].delta.content or "" for chunk in events)
    if api == "responses":
        return "".join(getattr(part, "text", "") or part.refusal for item in whole.output for part in item.content)
    return whole.choices[0].message.content or whole.choices[0].message.refusal


def dumped(found: Any) -> Any:
    return found.model_dump_json(warnings=False) if isinstance(found, BaseModel) else None


@pytest.mark.parametrize("on_block", ["raise", "message"])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", ["sync", "async"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_every_way_to_ask(server: Any, guard: Guard, api: str, way: str, kind: str, case: str, on_block: str) -> None:
    if way == "stream" and api == "responses" and not hasattr(OpenAI(api_key="k").responses, "stream"):
        pytest.skip("this SDK has no such helper")
    prompt = CASES[case]
    if case != "allowed" and on_block == "raise":
        error = UndeterminedError if case.endswith("undetermined") else BlockedError
        with pytest.raises(error) as caught:
            asked(kind, server.url, guard, on_block, api, way, prompt)
        assert "word" not in str(caught.value)
        assert len(server.requests) == case.startswith("answer")
        return
    result, events = asked(kind, server.url, guard, on_block, api, way, prompt)
    verdict = verdict_of(result)
    assert verdict is not None
    assert verdict.allowed is (case == "allowed")
    if case == "allowed":
        plain, plain_events = asked(kind, server.url, None, None, api, way, prompt)
        assert type(result) is type(plain)
        assert dumped(result) == dumped(plain)
        # Not as JSON: SDKs before 1.99 cannot serialise events of their own.
        assert list(map(repr, events)) == list(map(repr, plain_events))
        assert result == plain or way != "create"
        assert json.loads(text_of(api, way, result, events)) == {"word": "good"}
        return
    assert text_of(api, way, result, events) == MESSAGE
    assert "word" not in f"{result!r}{events!r}".replace("word: str", "")
    assert len(server.requests) == case.startswith("answer")
