"""Servers over guards, on loopback, in a thread of the test's process."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.server import ServerSettings, create_app
from guardreasoner_sdk.testing import judgement


def label(text: str) -> Any:
    return "undetermined" if "unsure" in text else "harmful" if "bad" in text else "unharmful"


def by_words(exchange: Exchange) -> Judgement:
    """What is said with "bad" is harmful, with "unsure" undetermined; "broken" breaks the judge."""
    if "broken" in exchange.prompt:
        raise RuntimeError("secret words of the request")
    prompt = label(exchange.prompt)
    return judgement(prompt) if exchange.response is None else judgement(prompt, "compliance", label(exchange.response))


def await_until(holds: Callable[[], bool], seconds: float = 30) -> None:
    """Wait for what a server does behind its answer, in its own thread: it counts and logs a request when the client has it already."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come to hold"
        time.sleep(0.01)


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
