"""What the engines in this process answer in the same way, each in its own loop."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.errors import BackendError

__all__ = ["stop_place", "sum_by_text", "to_backend_error", "too_long"]

logger = logging.getLogger("guardreasoner_sdk")


def to_backend_error(error: Exception) -> BackendError:
    """The answer to a query whose engine raised.

    Args:
        error: what it raised; one of ours stands as it is.
    """
    if isinstance(error, BackendError):
        return error
    # A foreign error's message may quote the judged text; its class cannot.
    log_failure(logger, "the engine failed", error)
    return BackendError(f"the engine failed with {type(error).__name__}")


def too_long(tokens: int, context: int, fix: str) -> BackendError:
    """The answer to a prompt that leaves no room for an answer; it is never cut."""
    return BackendError(
        f"the prompt has {tokens} tokens, the model takes {context} with its answer; shorten what is judged, or {fix}"
    )


def sum_by_text(probabilities: Iterable[tuple[str, float]]) -> dict[str, float]:
    """Probabilities (0 to 1) of tokens by their text; those that are no whole character share one text."""
    found: dict[str, float] = {}
    for text, probability in probabilities:
        found[text] = found.get(text, 0.0) + probability
    return found


def stop_place(text: str, before: int, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins, once one is complete; only what is new is looked through.

    Args:
        before: how long it was when it was last looked at.
    """
    places = [text.find(stop, max(0, before - len(stop) + 1)) for stop in stops]
    return min((place for place in places if place >= 0), default=None)
