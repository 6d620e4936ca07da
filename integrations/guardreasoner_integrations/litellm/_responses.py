"""The answers that litellm carries: the texts in them, and a message in their place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

from litellm.types.utils import Choices, Message, TextChoices
from pydantic import BaseModel

from guardreasoner_integrations._answer_texts import Texts, anthropic_texts, chat_texts, response_texts
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_sdk import InputError

__all__ = ["plain", "replace_texts", "texts_of", "unknown"]

_WITHOUT_TEXT = frozenset({"EmbeddingResponse", "HttpxBinaryResponseContent", "ImageResponse", "OpenAIModerationResponse"})


def plain(thing: Any) -> Any:
    """What may be an object, as JSON says it."""
    return thing.model_dump(mode="json", warnings=False) if isinstance(thing, BaseModel) else thing


def unknown(thing: object) -> InputError:
    """The error for what has another shape than those that are read."""
    return InputError("response", f"is {type(thing).__name__}, which is not known here", "take the guardrail off this route")


def texts_of(response: Any, unjudged: Unjudged) -> Texts:
    """The texts of a whole response, by channel.

    Reads Chat Completions, text completions, Responses and Anthropic messages; what is no text (embeddings, images, sound)
    has none.

    Args:
        unjudged: what to do about a picture or sound inside of an answer: ``raise``, or ``allow``.

    Raises:
        InputError: a response of another shape, or a part that cannot be judged.
    """
    if type(response).__name__ in _WITHOUT_TEXT:
        return {}
    body = plain(response)
    if isinstance(body, Mapping):
        if body.get("choices") is not None:
            return chat_texts(body, unjudged)
        if body.get("output") is not None:
            return response_texts(body, unjudged)
        if isinstance(body.get("content"), list):
            return anthropic_texts(body, unjudged)
    raise unknown(response)


def replace_texts(response: Any, message: str) -> Any:
    """Put a message in place of every answer in a response, and of whatever else was said there.

    Args:
        response: one that :func:`texts_of` reads. It is changed.
    """
    for name, value in (
        ("choices", lambda old: [_choice(place, choice, message) for place, choice in enumerate(old)]),
        ("output", lambda _: [_item(message)]),
        ("content", lambda _: [{"type": "text", "text": message}]),
    ):
        old = response.get(name) if isinstance(response, dict) else getattr(response, name, None)
        if old is None:
            continue
        if isinstance(response, dict):
            response[name] = value(old)
        else:
            setattr(response, name, value(old))
    if isinstance(response, dict) and "stop_reason" in response:
        response["stop_reason"] = "end_turn"
    return response


def _choice(place: int, choice: Any, message: str) -> Any:
    # A new one: nobody knows of the old one all the places where it quotes the text.
    old = plain(choice)
    index = place if old.get("index") is None else old["index"]
    if old.get("message") is None:
        made: Any = cast("Any", TextChoices)(index=index, text=message, finish_reason="content_filter")
    else:
        made = Choices(index=index, message=Message(content=message), finish_reason="content_filter")
    return plain(made) if isinstance(choice, dict) else made


def _item(message: str) -> dict[str, Any]:
    part = {"type": "output_text", "text": message, "annotations": []}
    return {"type": "message", "id": "msg", "role": "assistant", "status": "completed", "content": [part]}
