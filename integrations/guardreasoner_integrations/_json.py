"""JSON that every reader understands alike."""

from __future__ import annotations

import json
import re
from typing import Any

from guardreasoner_sdk.errors import PortableError

__all__ = ["TwiceError", "UnclearError", "document_or_text", "parse"]


# Not the words that some servers end a stream with: [END].
_LIKE_JSON = re.compile(r"[\ufeff\s]*(?:[{\"]|\[(?!\s*(?!true|false|null|NaN|Infinity)[A-Za-z]))")


class TwiceError(PortableError, ValueError):
    """An object names a key twice. Readers differ in which one they take: the one judged could be the other."""

    def __init__(self) -> None:
        super().__init__("names a key twice in one object")


def parse(text: str | bytes, *, strict: bool = True) -> Any:
    """What a JSON document says.

    Args:
        strict: whether line ends and the like within strings have to be escapes, as the standard says.

    Raises:
        TwiceError: an object names a key twice.
        ValueError: it is no JSON, or nested too deeply.
    """
    try:
        return json.loads(text, object_pairs_hook=_object, strict=strict)
    except RecursionError:
        raise ValueError("is nested too deeply") from None


class UnclearError(ValueError):
    """Text that begins like JSON, and is none that every reader understands alike."""


def document_or_text(data: str) -> Any:
    """What an event says that should be JSON: the document, or the text itself where it does not even begin like JSON.

    Raises:
        UnclearError: an object names a key twice, something stands after the JSON, or it is broken: of such, a lenient reader
            shows what nobody has judged.
    """
    try:
        # Servers cut text into lines at more characters than events know as line ends; lenient readers make one of that.
        return parse(data, strict=False)
    except TwiceError as error:
        raise UnclearError(str(error)) from None
    except ValueError:
        if _LIKE_JSON.match(data) is not None:
            raise UnclearError("is not one whole JSON document") from None
        return data


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise TwiceError
    return made
