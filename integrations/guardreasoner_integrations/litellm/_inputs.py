"""What litellm hands to ``apply_guardrail``: texts that it took out of a call, or that somebody sent to be judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from guardreasoner_integrations._messages import NO_PROMPT, Said, conversation, read_messages, readings
from guardreasoner_integrations._readings import both_readings
from guardreasoner_integrations._texts import Unjudged, cannot_be_judged, leaves
from guardreasoner_integrations.litellm._requests import asked_by, exchanges_of
from guardreasoner_integrations.litellm._responses import plain
from guardreasoner_sdk import Exchange, InputError
from guardreasoner_sdk.exchange import has_visible_text

__all__ = ["answers_in", "replace_inputs", "requests_in"]

_READ = frozenset({"texts", "tool_calls", "structured_messages", "images"})
# Numbers, the model's name, and definitions of tools, which the hooks do not judge either.
_WITHOUT_TEXT = frozenset({"model", "stream_holdback_chars", "tools"})


def requests_in(inputs: Mapping[str, Any], data: Mapping[str, Any], unjudged: Unjudged) -> list[Exchange]:
    """What is to be judged of texts on their way to a model.

    Args:
        data: the call that they belong to, as far as it is known.
        unjudged: what to do about pictures and the like: ``raise``, or ``allow``.

    Raises:
        InputError: something that is no text, named.
    """
    messages = _list(inputs, "structured_messages")
    known = set(_strings([plain(message) for message in messages]))
    # The texts of messages are handed over a second time, without saying who said them.
    texts = [text for text in _texts(inputs, unjudged) if text not in known]
    calls = [call for call in map(plain, _list(inputs, "tool_calls")) if call not in _calls(messages)]
    field = "structured_messages" if messages else "messages"
    before = list(read_messages(field, messages or data.get("messages") or [], unjudged))
    found: list[Exchange | None] = [] if not messages else [*readings("structured_messages", before)]
    for text in _alone_and_together(texts):
        repeated = bool(before) and before[-1]["content"] == text
        found.append(conversation("texts", before if repeated else [*before, {"role": "user", "content": text}]))
    if calls:
        found.append(conversation("tool_calls", [*before, *_asking(texts or [NO_PROMPT]), *_calling(calls, unjudged)]))
    return [asked for asked in found if asked is not None]


def answers_in(inputs: Mapping[str, Any], data: Mapping[str, Any], unjudged: Unjudged) -> list[Exchange]:
    """What is to be judged of texts that a model gave.

    Args:
        data: the call that they answer, as far as it is known.
        unjudged: what to do about pictures and the like: ``raise``, or ``allow``.

    Raises:
        InputError: something that is no text, named.
    """
    messages = _list(inputs, "structured_messages")
    asked = [conversation("structured_messages", list(read_messages("structured_messages", messages, unjudged)))]
    if asked == [None] and any(data.get(field) for field in ("messages", "input", "prompt")):
        asked = [*exchanges_of(data, unjudged)]
    question = asked_by([one for one in asked if one is not None])
    texts = _texts(inputs, unjudged)
    texts += [message["content"] for message in _calling(_list(inputs, "tool_calls"), unjudged)]
    found = _alone_and_together(texts)
    # Whoever parses an answer reads letters where it has their escapes.
    return [question.with_response(text) for text in both_readings(dict(enumerate(found))).values()]


def replace_inputs(inputs: Mapping[str, Any], message: str) -> dict[str, Any]:
    """Put a message in place of each text, and leave out calls of tools."""
    kept = {name: value for name, value in inputs.items() if name in ("model", "tools")}
    replaced = {**kept, "texts": [message for _ in inputs.get("texts") or [message]]}
    return {**replaced, "tool_calls": []} if "tool_calls" in inputs else replaced


def _list(inputs: Mapping[str, Any], name: str) -> Sequence[Any]:
    if not isinstance(inputs, Mapping):
        raise InputError("inputs", f"must be a mapping, not {type(inputs).__name__}", "pass {'texts': [...]}")
    value = inputs.get(name) or []
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise InputError(name, f"must be a list, not {type(value).__name__}", f"pass {{{name!r}: [...]}}")
    return value


def _texts(inputs: Mapping[str, Any], unjudged: Unjudged) -> list[str]:
    texts = _list(inputs, "texts")
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise InputError(f"texts[{place}]", f"must be a str, not {type(text).__name__}", "pass text")
    if inputs.get("images") and unjudged == "raise":
        raise cannot_be_judged("images", "image")
    # What newer versions of litellm may hand over besides.
    more = [
        text for name in inputs if name not in _READ | _WITHOUT_TEXT for text in leaves(plain(inputs[name]), name, unjudged)
    ]
    return [text for text in [*texts, *more] if has_visible_text(text)]


def _alone_and_together(texts: Sequence[str]) -> list[str]:
    """Each text, and all of them as one: they may be parts of a whole, or have nothing to do with each other."""
    return [*texts, "\n".join(texts)] if len(texts) > 1 else list(texts)


def _calls(messages: Sequence[Any]) -> list[Any]:
    return [plain(call) for message in messages for call in plain(message).get("tool_calls") or ()]


def _asking(texts: Sequence[str]) -> list[Said]:
    return [{"role": "user", "content": "\n".join(texts)}]


def _calling(calls: Sequence[Any], unjudged: Unjudged) -> Iterator[Said]:
    """Each call of a tool, as what the model said."""
    for call in calls:
        yield from read_messages("tool_calls", [{"role": "assistant", "content": None, "tool_calls": [plain(call)]}], unjudged)


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)
