"""From settings to a judge."""

from __future__ import annotations

from pathlib import Path

from guardreasoner_sdk.catalog import BACKENDS, find_model
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.judges.base import Judge
from guardreasoner_sdk.settings import Settings

__all__ = ["build_judge"]


def build_judge(settings: Settings) -> Judge:
    """Make the judge that the settings ask for. Nothing is loaded yet.

    Args:
        settings: model, backend and the rest.

    Raises:
        UnknownModelError: the catalogue has no such model and there is no such folder.
        ConfigurationError: an engine that does not exist, or that this version cannot drive.
    """
    from guardreasoner_sdk.judges.embedded import EmbeddedJudge

    if settings.backend is not None and settings.backend not in BACKENDS:
        raise ConfigurationError(f"backend: {settings.backend!r} is unknown; known are {', '.join(BACKENDS)}")
    if settings.base_url is not None and settings.backend in (None, "embedded"):
        raise ConfigurationError("base_url (or GUARDREASONER_BASE_URL): the embedded guard calls no server; unset it")
    folder = None
    backends = ["embedded"]
    if (Path(settings.model).expanduser() / "config.json").is_file():
        folder = Path(settings.model).expanduser()
    else:
        backends = list(find_model(settings.model).weights)
    backend = settings.backend or backends[0]
    if backend not in backends:
        raise ConfigurationError(f"backend: {backend!r} does not run {settings.model!r}; it runs on {', '.join(backends)}")
    if not BACKENDS[backend].supported:
        raise ConfigurationError(
            f"backend: this version cannot drive {backend!r}, which {settings.model!r} needs; "
            "use model='embedded', or give Guard a judge of your own (judge=...)"
        )
    return EmbeddedJudge(folder, reasoning=settings.reasoning, threads=settings.threads)
