"""What the requests that litellm carries ask."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from guardreasoner_integrations._messages import NO_PROMPT, Said, conversation, read_messages, readings
from guardreasoner_integrations._texts import Unjudged, cannot_be_judged, leaves
from guardreasoner_sdk import Exchange, InputError
from guardreasoner_sdk.exchange import has_visible_text

__all__ = ["asked_by", "exchanges_of"]

# Gemini's own format.
_UNREAD = ("contents", "systemInstruction", "system_instruction")


def exchanges_of(data: Mapping[str, Any], unjudged: Unjudged, *, images: bool = False) -> list[Exchange]:
    """What a request asks: one exchange, or one for each prompt of a list; none where it holds no visible text.

    Reads Chat Completions and Anthropic messages (``messages``), text completions (``prompt``), and Responses, embeddings
    and speech (``input``). Which of the fields counts only the server knows: a request with several is judged by all. Responses
    that go on with what the server remembers may hold nothing but what tools gave, or an approval.

    Args:
        data: the request, as litellm hands it to its hooks.
        unjudged: what to do about pictures and the like: ``raise``, or ``allow``.
        images: whether the guard sees those of users.

    Raises:
        InputError: it has none of these, or something in it is not text.
    """
    for field in _UNREAD:
        if data.get(field) is not None:
            raise InputError(field, "is not read", "take the guardrail off this route, or skip its call type")
    present = [field for field in ("messages", "input", "prompt") if data.get(field) is not None]
    if not present:
        # litellm shows its hooks what a call gives by name, and nothing of what it gives by place.
        raise InputError(
            "request",
            "has no messages, input or prompt",
            "give them by name in the call (messages=...), take the guardrail off this route, or skip its call type",
        )
    before = [message for field in ("system", "instructions") for message in _before(field, data.get(field), unjudged)]
    continued = data.get("previous_response_id") is not None or data.get("conversation") is not None
    found: list[Exchange] = []
    for field in present:
        goes_on = continued and field == "input"
        for asked in _asked(field, data[field], before, data.get("suffix"), unjudged, continued=goes_on, images=images):
            if asked not in found:
                found.append(asked)
    return found


def asked_by(exchanges: Sequence[Exchange]) -> Exchange:
    """What an answer is the answer to; several prompts of one request count as one.

    Raises:
        InputError: they show more images together than one exchange may hold.
    """
    if len(exchanges) == 1:
        return exchanges[0]
    shown = dict.fromkeys(image for asked in exchanges for image in asked.images)
    return Exchange("\n\n".join(asked.prompt for asked in exchanges) or NO_PROMPT, images=list(shown))


def _asked(
    field: str, value: Any, before: list[Said], suffix: object, unjudged: Unjudged, *, continued: bool, images: bool
) -> list[Exchange]:
    if field == "prompt" and isinstance(value, Mapping):
        if unjudged == "raise":
            raise cannot_be_judged("prompt", "a template at the server")
        value = "\n".join(["[prompt]", *leaves(value.get("variables"), "prompt", unjudged)])
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple):
        raise InputError(field, f"must be text or a list, not {type(value).__name__}", "send text or a list of messages")
    if field != "messages" and texts and all(isinstance(text, str) for text in texts):
        more = f"\n\n{suffix}" if isinstance(suffix, str) else ""
        talks = [[*before, {"role": "user", "content": text + more}] for text in texts if has_visible_text(text + more)]
        return [asked for talk in talks if (asked := conversation(field, talk)) is not None]
    if isinstance(value, str) or (field != "messages" and not all(isinstance(item, Mapping) for item in texts)):
        raise InputError(field, "is not text", "send text or messages, not tokens or other media")
    return readings(field, [*before, *read_messages(field, texts, unjudged, images=images)], continued=continued)


def _before(field: str, value: object, unjudged: Unjudged) -> list[Said]:
    """What stands before the messages in a field of its own."""
    if value is None:
        return []
    content = value if isinstance(value, str | list) else str(value)
    return list(read_messages(field, [{"role": "system", "content": content}], unjudged))
