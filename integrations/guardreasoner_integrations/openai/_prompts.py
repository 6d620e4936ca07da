"""From a request's body to what the guard judges."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from guardreasoner_integrations._messages import Said, read_messages, readings
from guardreasoner_integrations._texts import Unjudged, cannot_be_judged, leaves
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange

__all__ = ["chat_exchange", "responses_exchange"]


def chat_exchange(body: Mapping[str, Any], unjudged: Unjudged, *, images: bool = False) -> list[Exchange]:
    """The exchange in the body of a Chat Completions request, in all of its :func:`readings`.

    Raises:
        InputError: a part that cannot be judged, or nothing to judge at all.
    """
    return _found("messages", list(read_messages("messages", body.get("messages"), unjudged, images=images)))


def responses_exchange(body: Mapping[str, Any], unjudged: Unjudged, *, images: bool = False) -> list[Exchange]:
    """The exchange in the body of a Responses request, in all of its :func:`readings`.

    What the server remembers of earlier turns is not in it. None where the request only goes on with a conversation, and adds
    no text: an approval, for example.

    Raises:
        InputError: a part that cannot be judged, or nothing to judge at all.
    """
    messages: list[Said] = []
    instructions, template, given = body.get("instructions"), body.get("prompt"), body.get("input")
    if isinstance(instructions, str):
        messages.append({"role": "system", "content": instructions})
    elif instructions is not None:
        messages.extend(read_messages("instructions", instructions, unjudged))
    if template is not None:
        if unjudged == "raise":
            raise cannot_be_judged("prompt", "a template at the server")
        variables = template.get("variables") if isinstance(template, Mapping) else None
        messages.append({"role": "system", "content": "\n".join(["[prompt]", *leaves(variables, "prompt", unjudged)])})
    if isinstance(given, str):
        messages.append({"role": "user", "content": given})
    elif given is not None:
        messages.extend(read_messages("input", given, unjudged, images=images))
    continued = body.get("previous_response_id") is not None or body.get("conversation") is not None
    return _found("input", messages, continued=continued)


def _found(field: str, messages: list[Said], *, continued: bool = False) -> list[Exchange]:
    found = readings(field, messages, continued=continued)
    if not found and not continued:
        raise InputError(field, "has no text to judge", "add a user message with text")
    return found
