"""Servers on loopback, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="pip install 'guardreasoner-sdk[server]'")
pytest.importorskip("prometheus_client", reason="pip install 'guardreasoner-sdk[server]'")
import uvicorn

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.server import ServerSettings, create_app
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def label(text: str) -> Any:
    return "undetermined" if "unsure" in text else "harmful" if "bad" in text else "unharmful"


def by_words(exchange: Exchange) -> Judgement:
    """What is said with "bad" is harmful, with "unsure" undetermined; "broken" breaks the judge."""
    if "broken" in exchange.prompt:
        raise RuntimeError("secret words of the request")
    prompt = label(exchange.prompt)
    return judgement(prompt) if exchange.response is None else judgement(prompt, "compliance", label(exchange.response))


@contextmanager
def serving(guard: Guard, **settings: Any) -> Iterator[str]:
    """The base address of a server that runs until the end of the block."""
    app = create_app(guard, ServerSettings(**settings))
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    # Not the fastest parts: those that are there wherever uvicorn is.
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, access_log=False, loop="asyncio", ws="none"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., httpx.Client]]:
    """Starts a server over a guard that judges by words, or another one, and gives a client of it."""
    with ExitStack() as stack:

        def start(judge: Any = by_words, policy: Any = None, guard: Guard | None = None, **settings: Any) -> httpx.Client:
            if guard is None:
                guard = Guard(judge=judge if hasattr(judge, "judge") else ScriptedJudge(judge), policy=policy)
                stack.callback(guard.close)
            address = stack.enter_context(serving(guard, **settings))
            return stack.enter_context(httpx.Client(base_url=address, timeout=60))

        yield start


@pytest.fixture(scope="session")
def embedded() -> Iterator[httpx.Client]:
    """A client of a server over the embedded guard."""
    with Guard() as guard, serving(guard) as address, httpx.Client(base_url=address, timeout=60) as client:
        yield client
