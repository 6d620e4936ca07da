"""What the tests of the server share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import httpx
import pytest

pytest.importorskip("fastapi", reason="pip install 'guardreasoner-sdk[server]'")
pytest.importorskip("prometheus_client", reason="pip install 'guardreasoner-sdk[server]'")
from guard_server import by_words, serving
from guardreasoner_sdk import Guard
from guardreasoner_sdk.testing import ScriptedJudge


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
