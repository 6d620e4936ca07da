"""Servers for the backends' tests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import servers as _servers
from guardreasoner_sdk.backends.remote import RemoteBackend


@pytest.fixture(scope="session")
def servers() -> Any:
    """The module ``servers``: replies, and servers to run."""
    return _servers


@pytest.fixture
def faulty_server(servers: Any) -> Iterator[Any]:
    """A server that misbehaves on demand (``servers.FaultyServer``)."""
    with servers.running_faulty_server() as server:
        yield server


@pytest.fixture
async def remote(faulty_server: Any) -> AsyncIterator[Callable[..., RemoteBackend]]:
    """Make backends that ask the faulty server, without retries where the test does not say otherwise."""
    made = []

    def make(**options: Any) -> RemoteBackend:
        url = options.pop("base_url", faulty_server.url)
        made.append(RemoteBackend(options.pop("model", "m"), url, **{"retries": 0, **options}))
        return made[-1]

    yield make
    for backend in made:
        await backend.aclose()


@pytest.fixture(scope="session")
def llama_cpp_server(servers: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """Base URL of llama-cpp-python's server, running the tiny guard."""
    servers.skip_without(*servers.LLAMA_CPP)
    with servers.running_llama_cpp_server(request.getfixturevalue("tiny_guard").gguf) as url:
        yield url


@pytest.fixture(scope="session")
def vllm_server(servers: Any, request: pytest.FixtureRequest) -> Iterator[str]:
    """Base URL of vLLM's server, running the tiny guard."""
    servers.skip_without("vllm")
    with servers.running_vllm_server(request.getfixturevalue("tiny_guard").folder) as url:
        yield url
