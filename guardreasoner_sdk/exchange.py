"""What is judged: a prompt, the answer to it if there is one, and the turns that came before."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from guardreasoner_sdk.errors import InputError

__all__ = ["MAX_CHARACTERS", "Exchange", "Role", "Turn", "exchange_from", "exchange_from_messages", "visible"]

Role = Literal["user", "assistant", "system", "tool"]

MAX_CHARACTERS = 2_000_000
"""Longest text accepted in one field, in characters. Beyond it a check costs minutes: a way to stall a service."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*")


def visible(text: str) -> bool:
    """Whether there is anything to judge: a text of blanks and invisible characters says nothing."""
    return _INVISIBLE.fullmatch(text) is None


def _checked(field: str, value: object, *, blank_fix: str) -> str:
    if not isinstance(value, str):
        hint = "decode the bytes first" if isinstance(value, bytes | bytearray) else "pass the text as str"
        raise InputError(field, f"must be a str, not {type(value).__name__}", hint)
    if len(value) > MAX_CHARACTERS:
        raise InputError(
            field, f"has {len(value):,} characters, the most is {MAX_CHARACTERS:,}", "split it and check the parts"
        )
    if not visible(value):
        problem = "is empty" if not value else "has no visible character"
        raise InputError(field, problem, blank_fix)
    # A lone surrogate is no character: no tokenizer and no UTF-8 file can hold it. U+FFFD says that something stood there.
    return _SURROGATE.sub("\ufffd", value)


class Turn(BaseModel):
    """One earlier message of the conversation.

    Args:
        role: ``user``, ``assistant``, ``system`` or ``tool``.
        content: its text.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    role: Role
    content: str

    @field_validator("content", mode="before")
    @classmethod
    def _content(cls, value: object) -> str:
        return _checked("content", value, blank_fix="leave the turn out")


class Exchange(BaseModel):
    """What one check judges.

    Lone surrogates are replaced by U+FFFD; everything else is judged as it stands.

    Args:
        prompt: what the human asked. It must hold a visible character.
        response: what the assistant answered; ``None`` to judge the prompt alone.
        history: the turns before the prompt, oldest first.

    Raises:
        InputError: a field that cannot be judged, named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    response: str | None = None
    history: tuple[Turn, ...] = ()

    def __init__(self, prompt: str, response: str | None = None, history: Sequence[Turn | Mapping[str, Any]] = ()) -> None:
        # Positional use, and InputError instead of pydantic's report: the report would quote the judged text.
        checked = _checked("prompt", prompt, blank_fix="pass the text to judge")
        if response is not None:
            response = _checked("response", response, blank_fix="pass None to judge the prompt alone")
        super().__init__(prompt=checked, response=response, history=_turns(history))


def _turns(history: object) -> tuple[Turn, ...]:
    if isinstance(history, str | bytes) or not isinstance(history, Sequence):
        raise InputError("history", f"must be a list of turns, not {type(history).__name__}", "pass [{'role': ..., ...}]")
    turns = []
    for index, turn in enumerate(history):
        if not isinstance(turn, Turn):
            if not isinstance(turn, Mapping):
                raise InputError(f"history[{index}]", f"must be a turn, not {type(turn).__name__}", "pass a Turn or a mapping")
            try:
                turn = Turn.model_validate(dict(turn))
            except ValidationError as error:
                first = error.errors(include_input=False)[0]
                where = ".".join([f"history[{index}]", *map(str, first["loc"])])
                own = first.get("ctx", {}).get("error")
                if isinstance(own, InputError):
                    raise InputError(where, own.problem, own.fix) from None
                raise InputError(where, first["msg"], "a turn is {'role': ..., 'content': ...}") from None
        turns.append(turn)
    return tuple(turns)


_ROW_KEYS = frozenset({"prompt", "response", "history"})


def exchange_from(row: object) -> Exchange:
    """Make an exchange of what a batch holds.

    Args:
        row: an :class:`Exchange`, a prompt, a ``(prompt, response)`` pair, or a mapping with ``prompt`` and optionally
            ``response`` and ``history``; further keys of a mapping are not read.

    Raises:
        InputError: the row has another shape, or a field cannot be judged.
    """
    if isinstance(row, Exchange):
        return row
    if isinstance(row, Mapping):
        if "prompt" not in row:
            near = next((key for key in row if str(key).strip().lower() in {"prompt", "text", "input", "question"}), None)
            found = f"rename {near!r} to 'prompt'" if near is not None else "give each row a 'prompt'"
            raise InputError("prompt", "is missing", found)
        return Exchange(**{key: row[key] for key in _ROW_KEYS if row.get(key) is not None or key == "prompt"})
    if isinstance(row, tuple | list):
        if not 1 <= len(row) <= 2:
            raise InputError("row", f"has {len(row)} items", "pass (prompt, response)")
        return Exchange(*row)
    if isinstance(row, str):
        return Exchange(row)
    kinds = "pass a str, a (prompt, response) pair, a mapping or an Exchange"
    raise InputError("row", f"must be a row, not {type(row).__name__}", kinds)


_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
_TEXT_PARTS = frozenset({"text", "input_text", "output_text", "refusal"})


def exchange_from_messages(messages: Sequence[Mapping[str, Any]]) -> Exchange:
    """Make an exchange of an OpenAI-style message list (Chat Completions and Responses text parts).

    The last user message is the prompt, what stands before it is the history, and the text of what stands after it
    (assistant and tool messages, in order) is the response.

    Args:
        messages: mappings with ``role`` and ``content``; content is a str, a list of text parts, or None. Calls of tools
            (``tool_calls``, ``function_call``) count as text: the function's name and its arguments.

    Raises:
        InputError: no user message, an unknown role, or a part that is not text (an image cannot be judged here).
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InputError("messages", f"must be a list of messages, not {type(messages).__name__}", "pass [{'role': ...}]")
    turns = [(role, text) for index, message in enumerate(messages) for role, text in [_message(index, message)]]
    last = max((index for index, (role, _) in enumerate(turns) if role == "user"), default=None)
    if last is None:
        raise InputError("messages", "has no user message", "add the message to judge with role 'user'")
    after = "\n\n".join(text for _, text in turns[last + 1 :] if visible(text))
    return Exchange(
        turns[last][1],
        after or None,
        [Turn(role=role, content=text) for role, text in turns[:last] if visible(text)],
    )


def _message(index: int, message: object) -> tuple[Role, str]:
    where = f"messages[{index}]"
    if not isinstance(message, Mapping):
        raise InputError(where, f"must be a mapping, not {type(message).__name__}", "pass a mapping with 'role' and 'content'")
    given = str(message.get("role", ""))
    role = _ROLES.get(given.lower())
    if role is None:
        # A slip of the pen is shown; anything else may be text to judge, which belongs into no error.
        problem = f"is {given!r}" if given.isidentifier() and len(given) <= 20 else "is missing or no role"
        raise InputError(f"{where}.role", problem, f"use one of {', '.join(_ROLES)}")
    content = message.get("content")
    if content is None:
        texts = [str(message.get("refusal") or "")]
    elif isinstance(content, str):
        texts = [content]
    elif not isinstance(content, Sequence) or isinstance(content, bytes | bytearray):
        raise InputError(f"{where}.content", f"must be text, not {type(content).__name__}", "pass a str or text parts")
    else:
        texts = [_part(f"{where}.content[{place}]", part) for place, part in enumerate(content)]
    return role, "\n".join(text for text in (*texts, *_calls(message)) if text)


def _calls(message: Mapping[str, Any]) -> Iterator[str]:
    """What an assistant hands to tools is as much its answer as what it says."""
    calls = message.get("tool_calls") or ()
    for call in (*(calls if isinstance(calls, Sequence) else ()), {"function": message.get("function_call")}):
        function = call.get("function") or call.get("custom") if isinstance(call, Mapping) else None
        if isinstance(function, Mapping):
            given = function.get("arguments", function.get("input", ""))
            yield f"{function.get('name')}({given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)})"


def _part(where: str, part: object) -> str:
    if isinstance(part, str):
        return part
    kind = part.get("type") if isinstance(part, Mapping) else type(part).__name__
    if not isinstance(part, Mapping) or kind not in _TEXT_PARTS:
        raise InputError(where, f"is not text but {kind!r}", "judge other media elsewhere and leave the part out here")
    text = part.get("refusal") if kind == "refusal" else part.get("text")
    if not isinstance(text, str):
        raise InputError(f"{where}.text", f"must be a str, not {type(text).__name__}", "pass the text as str")
    return text
