"""The text inside JSON that an API sends. What is not known to be technical counts as text, so that nothing new slips by."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Literal

from guardreasoner_sdk.errors import InputError

__all__ = ["TECHNICAL", "Unjudged", "cannot_be_judged", "leaves"]

Unjudged = Literal["raise", "allow"]

TECHNICAL = frozenset(
    {
        "annotations",
        "call_id",
        "container_id",
        "content_filter_offsets",
        "content_filter_result",
        "content_filter_results",
        "encrypted_content",
        "event_id",
        "file_id",
        "finish_reason",
        "id",
        "index",
        "item_id",
        "logprobs",
        "model",
        "namespace",
        "object",
        "obfuscation",
        "phase",
        "response_id",
        "role",
        "server_label",
        "service_tier",
        "signature",
        "status",
        "stop_reason",
        "stop_sequence",
        "system_fingerprint",
        "thought_signature",
        "token_ids",
        "type",
    }
)
"""Keys that hold no text of the model's: ids, numbers, states, sealed data, and where a citation points."""

_MEDIA_TYPES = frozenset({"computer_screenshot", "file", "image", "image_url", "input_audio", "input_file", "input_image"})
_SEALED_TYPES = frozenset({"redacted_thinking"})
_MEDIA_KEYS = frozenset({"b64_json", "partial_image_b64"})
_MEDIA = re.compile(r"data:[\w/+.;=-]*;base64,[\w+/=-]*", re.ASCII)
# What a model hands to a tool, keys and numbers too: it chose them.
_ARGUMENTS = frozenset({"arguments", "input", "partial_json"})


def cannot_be_judged(where: str, kind: object) -> InputError:
    """The error for a part that is no text."""
    return InputError(
        where,
        f"is not text but {kind!r}, which this guard cannot judge",
        "leave it out, or let it pass with unjudged='allow'",
    )


def leaves(value: object, where: str, unjudged: Unjudged) -> Iterator[str]:
    """Every text in a JSON value, in order.

    Args:
        value: the value.
        where: its place, for messages.
        unjudged: what to do about images and the like: ``raise``, or ``allow`` to pass over them.

    Raises:
        InputError: a part that is no text, with its place.
    """
    if isinstance(value, str):
        # Text behind such a beginning is still text.
        if _MEDIA.fullmatch(value) is None:
            yield value
        elif unjudged == "raise":
            raise cannot_be_judged(where, "data: URL")
    elif isinstance(value, Mapping):
        kind = str(value.get("type"))
        if kind in _SEALED_TYPES:
            return
        if kind in _MEDIA_TYPES:
            if unjudged == "raise":
                raise cannot_be_judged(where, kind)
            return
        for key, part in value.items():
            if key in TECHNICAL:
                continue
            place = f"{where}.{key}" if where else key
            if part and _is_media(value, key, place):
                if unjudged == "raise":
                    raise cannot_be_judged(place, value.get("type", key))
            elif key in _ARGUMENTS and part and isinstance(part, Mapping | list):
                yield json.dumps(part, ensure_ascii=False)
            else:
                yield from leaves(part, place, unjudged)
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from leaves(part, f"{where}[{index}]", unjudged)


def _is_media(holder: Mapping[str, object], key: str, place: str) -> bool:
    kind = holder.get("type")
    return (
        key in _MEDIA_KEYS
        or place.endswith("audio.data")
        or (key == "result" and kind == "image_generation_call")
        or (key == "delta" and kind in ("response.audio.delta", "response.output_audio.delta"))
    )
