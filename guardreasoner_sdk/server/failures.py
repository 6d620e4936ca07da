"""What is wrong with a request, or with its answer."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from guardreasoner_sdk._text import escape_unsafe, format_place
from guardreasoner_sdk.errors import InputError, PortableError
from guardreasoner_sdk.verdict import Verdict

__all__ = ["LINES", "Failure", "Kind", "check_surrogates", "invalid", "kind_of", "place_of", "undecided"]

_SURROGATE = re.compile("[\ud800-\udfff]")

LINES = "application/x-ndjson"
"""The kind of a body that is read while it comes."""

Kind = Literal[
    "invalid_request",
    "unauthorized",
    "not_found",
    "method_not_allowed",
    "timeout",
    "too_large",
    "overloaded",
    "undetermined",
    "internal",
]


@dataclass(eq=False)
class Failure(PortableError):  # noqa: N818 - it is what the contracts call an error
    """An answer that is an error; each contract writes it in its own shape.

    Args:
        status: of HTTP.
        kind: what it is, for programs.
        message: for people; never the judged text.
        field: what is at fault in the request: ``input[3]``; None where it is no field.
        retry_after: seconds after which to try again; None: that would not help.
        verdict: where the guard could not decide, what it has found out.
    """

    status: int
    kind: Kind
    message: str
    field: str | None = None
    retry_after: int | None = None
    verdict: Verdict | None = None

    def __str__(self) -> str:
        return self.message


def invalid(error: InputError, where: str = "") -> Failure:
    """What cannot be judged, as an answer.

    Args:
        error: what the SDK says of it.
        where: the place in the request that it was found in: ``input[3]``.
    """
    field = error.field if not where else where if error.field == "prompt" else f"{where}.{error.field}"
    return Failure(422, "invalid_request", f"{field}: {error.problem}; {error.fix}", format_place(field))


def undecided(verdict: Verdict) -> Failure:
    """That the guard could not decide, for contracts and policies that have no other word for it.

    Args:
        verdict: what was found out.
    """
    causes = "; ".join(verdict.reasons) or "; ".join(
        f"{task} is undetermined ({finding.cause})" for task, finding in verdict.findings.items() if not finding.determined
    )
    return Failure(503, "undetermined", f"The guard could not decide: {causes}.", retry_after=1, verdict=verdict)


def kind_of(content_type: str) -> str:
    """The media type in a header, without what follows it."""
    return content_type.partition(";")[0].strip().lower()


def check_surrogates(body: bytes) -> None:
    """Refuse halves of characters that JSON can write and no text can hold: clients differ in what they make of them.

    Args:
        body: JSON; what is none passes, and is told by whoever reads it.

    Raises:
        Failure: with their place.
    """
    try:
        whole = json.loads(body)
    except (ValueError, RecursionError):
        return
    left: list[tuple[tuple[Any, ...], Any]] = [((), whole)]
    while left:
        place, value = left.pop()
        if isinstance(value, dict):
            left += [((*place, "a key"), key) for key in value]
            left += [((*place, key), part) for key, part in value.items()]
        elif isinstance(value, list):
            left += [((*place, number), part) for number, part in enumerate(value)]
        elif isinstance(value, str) and _SURROGATE.search(value):
            field = place_of(place)
            raise Failure(422, "invalid_request", f"{field}: holds half of a surrogate pair; send whole characters", field)


def place_of(parts: Sequence[Any]) -> str:
    """A place in a JSON body as people write it, ``items[3].prompt``; what begins with ``<`` is the name of a shape, not a key.

    Args:
        parts: keys and numbers, from the outside in.
    """
    found = ""
    for part in parts:
        if isinstance(part, int):
            found += f"[{part}]"
        elif not str(part).startswith("<"):
            found += f".{part}" if found else str(part)
    return format_place(escape_unsafe(found)) or "body"
