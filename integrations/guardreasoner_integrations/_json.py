"""JSON that every reader understands alike."""

from __future__ import annotations

import json
from typing import Any

from guardreasoner_sdk.errors import PortableError

__all__ = ["TwiceError", "parsed"]


class TwiceError(PortableError, ValueError):
    """An object names a key twice. Readers differ in which one they take: the one judged could be the other."""

    def __init__(self) -> None:
        super().__init__("names a key twice in one object")


def parsed(text: str | bytes) -> Any:
    """What a JSON document says.

    Raises:
        TwiceError: an object names a key twice.
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise TwiceError
    return made
