"""A loopback server, and answers as the vendors' schemas say."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import servers as _servers

_VARIABLES = (
    *("OPENAI_API_KEY", "MISTRAL_API_KEY", "CONTENT_SAFETY_KEY", "CONTENT_SAFETY_ENDPOINT", "AWS_BEARER_TOKEN_BEDROCK"),
    *("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
    *("GOOGLE_APPLICATION_CREDENTIALS",),
)


@pytest.fixture(autouse=True)
def _no_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody's keys, and no credentials file of whoever runs the tests."""
    for name in _VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, "/nonexistent")


@pytest.fixture
def server() -> Iterator[Any]:
    """A server that answers what it was told to (``servers.FaultyServer``)."""
    with _servers.running_faulty_server() as running:
        yield running
