"""What a server may take: its time is limited as a whole, its answer in size, and its numbers have to be numbers."""

from __future__ import annotations

import asyncio
import gzip
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from guardreasoner_sdk import Guard
from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.generation import Completion, PromptPiece, Query
from guardreasoner_sdk.judges.reasoner import ReasonerJudge

RAW = Query(pieces=(PromptPiece("how do I bake the judged text"),), choices=20)

Make = Callable[..., RemoteBackend]


async def ask(backend: RemoteBackend) -> Completion | BackendError:
    (answer,) = await backend.generate([RAW], deadline=None)
    return answer


@contextmanager
def trickling_server(head: bytes) -> Iterator[str]:
    """A server that sends a byte now and then, without end; with its base URL."""
    ready, address = threading.Event(), []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        try:
            while not stop.is_set():
                writer.write(b"1\r\n \r\n" if head.startswith(b"HTTP/1.1 200 OK\r\n") else b"X-More: x\r\n")
                await writer.drain()
                await asyncio.sleep(0.05)
        except ConnectionError:
            pass
        finally:
            writer.close()

    async def serve() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        address.append(server.sockets[0].getsockname()[1])
        ready.set()
        async with server:
            await stop.wait()
            await asyncio.sleep(0.2)

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    assert ready.wait(60)
    try:
        yield f"http://127.0.0.1:{address[0]}/v1"
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 Fine\r\n",
    ],
    ids=["the body", "the headers"],
)
def test_a_server_that_trickles_has_the_time_of_one_request_and_counts_as_failed(head: bytes) -> None:
    options: dict[str, Any] = {"retries": 0, "request_timeout": 0.5, "continues": False, "breaker_failures": 2}
    with trickling_server(head) as url:
        judge = ReasonerJudge(GuardReasonerDialect(), RemoteBackend("m", url, **options), reasoning="full")
        with Guard(judge=judge, timeout=300) as guard:  # no test waits for it
            causes = [finding.cause for _ in range(3) for finding in guard.check("x").findings.values()]
    host = url.removeprefix("http://").removesuffix("/v1")
    assert causes[:2] == [f"the server at {host} did not answer in time"] * 2
    assert causes[2] == "the server failed 2 times in a row; not asked again for 30 s"


def padded(size: int) -> bytes:
    """An answer of so many bytes that is fine but for its length."""
    body = b'{"choices": [{"text": "fine"}]}'
    return body + b" " * (size - len(body))


@pytest.mark.parametrize("coding", ["identity", "gzip"])
async def test_an_answer_has_a_longest_size(remote: Make, faulty_server: Any, servers: Any, coding: str) -> None:
    pack = gzip.compress if coding == "gzip" else bytes
    headers = {"Content-Encoding": coding}
    backend = remote(max_answer_bytes=100_000, breaker_failures=2)
    faulty_server.plan(servers.Reply(body=pack(padded(100_000)), headers=headers))
    assert isinstance(await ask(backend), Completion)
    faulty_server.plan(servers.Reply(body=pack(padded(100_001)), headers=headers))
    said = f"unreadable answer from the server at {faulty_server.host}: it is longer than 100,000 bytes"
    assert [str(await ask(backend)) for _ in range(2)] == [said] * 2
    assert "2 times in a row" in str(await ask(backend))


async def test_a_small_answer_that_unpacks_to_a_huge_one_is_not_unpacked(
    remote: Make, faulty_server: Any, servers: Any
) -> None:
    import tracemalloc

    packed = gzip.compress(padded(200 * 2**20), compresslevel=1)
    assert len(packed) < 2**20
    faulty_server.plan(servers.Reply(body=packed, headers={"Content-Encoding": "gzip"}))
    backend = remote(max_answer_bytes=2**20)
    await backend.load()
    tracemalloc.start()
    try:
        assert "longer than 1,048,576 bytes" in str(await ask(backend))
        assert tracemalloc.get_traced_memory()[1] < 20 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("coding", "body", "said"),
    [
        ("br", b"\x0b\x02\x80{}\x03", "it is compressed in a way that was not asked for"),
        ("gzip", b"{}", "it is not compressed as it says"),
        ("gzip", gzip.compress(padded(99), mtime=0)[:-9], "its compressed body is cut off"),
        ("gzip", gzip.compress(padded(99), mtime=0) + b" " * 200_000, "more follows its end"),
    ],
    ids=["another coding", "none at all", "cut off", "more behind it"],
)
async def test_what_is_compressed_otherwise_is_unreadable(
    remote: Make, faulty_server: Any, servers: Any, coding: str, body: bytes, said: str
) -> None:
    faulty_server.plan(servers.Reply(body=body, headers={"Content-Encoding": coding}))
    assert str(await ask(remote())) == f"unreadable answer from the server at {faulty_server.host}: {said}"
    headers = {name.lower(): value for name, value in faulty_server.asked[0].headers.items()}
    assert headers["accept-encoding"] == "gzip"
    # Where the status says it all, the body does not matter.
    faulty_server.plan(servers.Reply(500, body, {"Content-Encoding": coding}))
    assert "failed with HTTP 500" in str(await ask(remote(probabilities=False)))


NONE_OF_THEM = ["1" + "0" * 400, "-1" + "0" * 400, "NaN", "Infinity", "1e999", "0.5", "7", "true", '"-0.1"', "[]", "{}"]
SHAPES = [
    '{{"content": [{{"token": "fine", "logprob": {0}}}]}}',
    '{{"content": [{{"token": "fine", "logprob": -0.1, "top_logprobs": [{{"token": "x", "logprob": {0}}}]}}]}}',
    '{{"tokens": ["fine"], "token_logprobs": [{0}]}}',
    '{{"tokens": ["fine"], "token_logprobs": [-0.1], "top_logprobs": [{{"x": {0}}}]}}',
]


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_probability_that_is_none_counts_as_a_failure_of_the_server(
    remote: Make, faulty_server: Any, servers: Any, shape: str
) -> None:
    backend = remote(breaker_failures=len(NONE_OF_THEM))
    said = f"unreadable answer from the server at {faulty_server.host}: a log-probability in it is not a number"
    for number in NONE_OF_THEM:
        body = f'{{"choices": [{{"text": "fine", "logprobs": {shape.format(number)}}}]}}'.encode()
        faulty_server.plan(servers.Reply(body=body))
        assert str(await ask(backend)) == said, number
    assert f"{len(NONE_OF_THEM)} times in a row" in str(await ask(backend))


@pytest.mark.parametrize("shape", SHAPES)
async def test_a_probability_of_any_honest_kind_is_read(remote: Make, faulty_server: Any, servers: Any, shape: str) -> None:
    backend = remote()
    for number in ("null", "-0.1", "-3", "0", "-0.0", "0.001", "-1e999", "-Infinity", "-9999.0"):
        body = f'{{"choices": [{{"text": "fine", "logprobs": {shape.format(number)}}}]}}'.encode()
        faulty_server.plan(servers.Reply(body=body))
        answer = await ask(backend)
        assert isinstance(answer, Completion), number
        assert answer.choices is not None
        assert all(0 <= chance <= 1 for chance in answer.choices.alternatives(0).values()), number


async def test_a_number_of_tokens_beyond_all_numbers_counts_too(remote: Make, faulty_server: Any, servers: Any) -> None:
    reply = {"choices": [{"text": "fine"}], "usage": {"prompt_tokens": 10**400}}
    faulty_server.plan(servers.Reply(body=json.dumps(reply).encode()))
    backend = remote(breaker_failures=1)
    assert "a token count in it is not a number" in str(await ask(backend))
    assert "1 times in a row" in str(await ask(backend))


def test_a_guard_whose_server_cannot_count_is_undetermined(faulty_server: Any, servers: Any) -> None:
    text = "Answers: \nRequest: unharmful\nCompletion: None\nResponse: None"
    reply = servers.answer(text, logprobs={"tokens": [text], "token_logprobs": [-(10**400)]})
    faulty_server.plan(reply)
    backend = RemoteBackend("m", faulty_server.url, retries=0, continues=False)
    with Guard(judge=ReasonerJudge(GuardReasonerDialect(), backend, reasoning="full")) as guard:
        verdict = guard.check("x")
    assert not verdict.allowed
    assert verdict.prompt_harmfulness is not None
    assert "unreadable answer" in (verdict.prompt_harmfulness.cause or "")


@pytest.mark.parametrize("size", [0, -1, True, 1.5])
def test_the_longest_answer_is_a_whole_number(size: Any) -> None:
    with pytest.raises(ConfigurationError, match="^max_answer_bytes: must be a whole number from 1"):
        RemoteBackend("m", "http://localhost:1/v1", max_answer_bytes=size)
