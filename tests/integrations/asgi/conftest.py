"""A server, apps and a guard for the middleware's tests."""

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from guardreasoner_sdk import Exchange, Guard, Judgement, Policy
from guardreasoner_sdk.testing import ScriptedJudge, judgement

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
uvicorn = pytest.importorskip("uvicorn", reason="the server of these tests")

EVENT = "$.choices[*].delta.content"


def label(text: str) -> Any:
    return "undetermined" if "unsure" in text else "harmful" if "bad" in text else "unharmful"


def by_words(exchange: Exchange) -> Judgement:
    prompt = label(exchange.prompt)
    return judgement(prompt) if exchange.response is None else judgement(prompt, "compliance", label(exchange.response))


@pytest.fixture
def make_guard() -> Iterator[Callable[..., Guard]]:
    made: list[Guard] = []

    def make(script: Any = by_words, **policy: Any) -> Guard:
        made.append(Guard(judge=ScriptedJudge(script), policy=Policy(**policy)))
        return made[-1]

    yield make
    for guard in made:
        guard.close()


@pytest.fixture
def guard(make_guard: Callable[..., Guard]) -> Guard:
    return make_guard()


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()


@pytest.fixture
def serving() -> Callable[[Any], AbstractContextManager[str]]:
    """Serves an app on a port of its own: ``with serving(app) as address``."""
    return _serving


def chunk(text: str) -> bytes:
    """An event as chat APIs send it."""
    return b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}).encode() + b"\n\n"


def said(body: str) -> str:
    """The text that a client reads out of a stream of such events."""
    events = [json.loads(line[6:]) for line in body.splitlines() if line.startswith("data: {")]
    return "".join(choice["delta"]["content"] for event in events for choice in event.get("choices", ()))
