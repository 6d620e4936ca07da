"""What is judged: a prompt, the answer to it if there is one, and the turns that came before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from guardreasoner_sdk._content import Piece, Text, Unread, block, is_said, texts_by_speaker
from guardreasoner_sdk._content_table import BLOCKS
from guardreasoner_sdk._text import format_place, quote_value
from guardreasoner_sdk._unescaping import second_reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = [
    "MAX_CHARACTERS",
    "Exchange",
    "Message",
    "Role",
    "Turn",
    "exchange_from",
    "exchange_from_messages",
    "has_visible_text",
]

Role = Literal["user", "assistant", "system", "tool"]

Message = Mapping[str, Any] | BaseModel
"""A message as it is sent, or as an SDK holds it."""

MAX_CHARACTERS = 2_000_000
"""Longest text accepted in one field, in characters. Beyond it a check costs minutes: a way to stall a service."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*")


def has_visible_text(text: str) -> bool:
    """Whether there is anything to judge: a text of blanks and invisible characters says nothing.

    Example:
        >>> from guardreasoner_sdk.exchange import has_visible_text
        >>> has_visible_text("\\u200b \\n"), has_visible_text("a")
        (False, True)
    """
    return _INVISIBLE.fullmatch(text) is None


def _checked(field: str, value: object, *, blank_fix: str) -> str:
    if not isinstance(value, str):
        hint = "decode the bytes first" if isinstance(value, bytes | bytearray) else "pass the text as str"
        raise InputError(field, f"must be a str, not {type(value).__name__}", hint)
    if len(value) > MAX_CHARACTERS:
        raise InputError(
            field, f"has {len(value):,} characters, the most is {MAX_CHARACTERS:,}", "split it and check the parts"
        )
    if not has_visible_text(value):
        problem = "is empty" if not value else "has no visible character"
        raise InputError(field, problem, blank_fix)
    # A lone surrogate is no character: no tokenizer and no UTF-8 file can hold it. U+FFFD says that something stood there.
    return _SURROGATE.sub("\ufffd", value)


class Turn(BaseModel):
    """One earlier message of the conversation.

    Args:
        role: ``user``, ``assistant``, ``system`` or ``tool``.
        content: its text.

    Example:
        >>> from guardreasoner_sdk import Turn
        >>> Turn(role="user", content="Hello!")
        Turn(role='user', content='Hello!')
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

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> exchange = Exchange("And in an oven?", "At 230 degrees.", [{"role": "user", "content": "How do I bake bread?"}])
        >>> exchange.history[0].content
        'How do I bake bread?'
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: str
    response: str | None = None
    history: tuple[Turn, ...] = ()

    def __init__(self, prompt: str, response: str | None = None, history: Sequence[Turn | Mapping[str, Any]] = ()) -> None:
        # Positional use, and InputError instead of pydantic's report: the report would quote the judged text.
        checked = _checked("prompt", prompt, blank_fix="pass the text to judge")
        super().__init__(prompt=checked, response=_checked_response(response), history=_turns(history))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What there is to judge: a prompt alone is asked for its harmfulness only."""
        return TASKS[:1] if self.response is None else TASKS

    def with_response(self, response: str | None) -> Exchange:
        """The same prompt and history with another response.

        Args:
            response: what the assistant answered; None: the prompt alone.

        Raises:
            InputError: the response cannot be judged.

        Example:
            >>> asked = Exchange("How do I bake bread?", history=[{"role": "user", "content": "Hello!"}])
            >>> asked.with_response("Mix flour, water, salt and yeast.").tasks
            ('prompt_harmfulness', 'response_refusal', 'response_harmfulness')
        """
        return self.model_copy(update={"response": _checked_response(response)})


def _checked_response(response: object) -> str | None:
    return None if response is None else _checked("response", response, blank_fix="pass None to judge the prompt alone")


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
                where = ".".join(
                    [f"history[{index}]", *(key if key in Turn.model_fields else quote_value(key) for key in first["loc"])]
                )
                own = first.get("ctx", {}).get("error")
                if isinstance(own, InputError):
                    raise InputError(where, own.problem, own.fix) from None
                raise InputError(where, first["msg"], "a turn is {'role': ..., 'content': ...}") from None
        turns.append(turn)
    return tuple(turns)


def exchange_of(prompt: str | Exchange, response: str | None, history: Sequence[Turn | Mapping[str, Any]]) -> Exchange:
    """An exchange that was handed over in parts, or as it is.

    Raises:
        InputError: a part that cannot be judged, or one beside an exchange, which has its own.
    """
    if not isinstance(prompt, Exchange):
        return Exchange(prompt, response, history)
    for field, given in (("response", response), ("history", history or None)):
        if given is not None:
            fix = "use exchange.with_response(...)" if field == "response" else "make one Exchange of all of it"
            raise InputError(field, "is given beside an Exchange, which has its own", fix)
    return prompt


_ROW_KEYS = frozenset({"prompt", "response", "history"})


def exchange_from(row: object) -> Exchange:
    """Make an exchange of what a batch holds.

    Args:
        row: an :class:`Exchange`, a prompt, a ``(prompt, response)`` pair, or a mapping with ``prompt`` and optionally
            ``response`` and ``history``; further keys of a mapping are not read.

    Raises:
        InputError: the row has another shape, or a field cannot be judged.

    Example:
        >>> from guardreasoner_sdk.exchange import exchange_from
        >>> exchange_from(("How do I bake bread?", "Mix flour and water.")).response
        'Mix flour and water.'
    """
    if isinstance(row, Exchange):
        return row
    if isinstance(row, Mapping):
        if "prompt" not in row:
            near = next((key for key in row if str(key).strip().lower() in {"prompt", "text", "input", "question"}), None)
            found = f"rename {quote_value(near)} to 'prompt'" if near is not None else "give each row a 'prompt'"
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
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
# LangChain names the role of a message in its type, and that of a piece by its class.
_TYPES: dict[str, Role] = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "tool",
}
# Items of Responses, which have no role.
_ITEMS = {"compaction", "item_reference", "mcp_approval_request", "mcp_approval_response", "mcp_list_tools", "reasoning"} | {
    kind for kind in BLOCKS if kind.endswith(("_call", "_call_output", "_search_output"))
}


def exchange_from_messages(messages: Sequence[Message]) -> Exchange:
    """Make an exchange of a message list: OpenAI's (Chat Completions, and items of Responses), Anthropic's or LangChain's.

    The last user message is the prompt, what stands before it is the history, and the text of what stands after it
    (assistant and tool messages, in order) is the response. All text counts, wherever it is in a message: refusals,
    reasoning, and calls of tools as ``name(arguments)``; sound counts by the transcript that comes with it.

    Args:
        messages: mappings with ``role`` and ``content`` (a str, a list of parts, or None), or the message objects of an SDK
            (OpenAI's, LangChain's, litellm's).

    Raises:
        InputError: no user message, an unknown role, or a part that is not text (an image cannot be judged here).

    Example:
        >>> from guardreasoner_sdk.exchange import exchange_from_messages
        >>> exchange_from_messages([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]).response
        'Hello!'
    """
    return readings_of_messages(messages)[-1]


def readings_of_messages(messages: Sequence[Message]) -> list[Exchange]:
    """:func:`exchange_from_messages`, first of what the messages say alone and then of all that is in them; one exchange where
    nothing stands beside what they say. A guard has to judge both: enough harmless text beside it would hide harm in a message.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InputError("messages", f"must be a list of messages, not {type(messages).__name__}", "pass [{'role': ...}]")
    try:
        turns = [turn for index, message in enumerate(messages) for turn in _message(f"messages[{index}]", message)]
    except RecursionError:
        raise InputError("messages", "are nested too deeply", "send messages with less in them") from None
    last = max((index for index, (role, _, _) in enumerate(turns) if role == "user"), default=None)
    if last is None:
        raise InputError("messages", "has no user message", "add the message to judge with role 'user'")
    whole = _exchange([(role, text) for role, text, _ in turns], last)
    alone = _exchange([(role, said if has_visible_text(said) else text) for role, text, said in turns], last)
    return [whole] if alone == whole else [alone, whole]


def _exchange(turns: Sequence[tuple[Role, str]], last: int) -> Exchange:
    after = "\n\n".join(text for _, text in turns[last + 1 :] if has_visible_text(text))
    return Exchange(
        turns[last][1],
        after or None,
        [Turn(role=role, content=text) for role, text in turns[:last] if has_visible_text(text)],
    )


def _message(where: str, message: object) -> Iterator[tuple[Role, str, str]]:
    """Who says what, and what of it is said: all of an item's, and not what stands beside a message's content."""
    if isinstance(message, BaseModel):
        message = message.model_dump(warnings=False)
    if not isinstance(message, Mapping):
        raise InputError(where, f"must be a mapping, not {type(message).__name__}", "pass a mapping with 'role' and 'content'")
    if "role" not in message and str(message.get("type")) in _ITEMS:
        # An item of Responses: what a tool gave, or what the model wrote.
        role: Role = "tool" if str(message["type"]).endswith("_output") else "assistant"
        text = _read(role, _text(block(message, where)))
        yield role, text, text
        return
    given = message.get("role", message.get("type"))
    found = _ROLES.get(str(given).lower()) if "role" in message else _TYPES.get(str(given))
    if found is None:
        # A typo is shown; anything else may be text to judge, which no error may hold.
        shown = isinstance(given, str) and given.isidentifier() and len(given) <= 20
        problem = f"is {given!r}" if shown and "role" in message else "is missing or no role"
        raise InputError(f"{where}.role", problem, f"use one of {', '.join(_ROLES)}")
    content = message.get("content")
    if not isinstance(content, str | Sequence | None) or isinstance(content, bytes | bytearray):
        raise InputError(f"{where}.content", f"must be text, not {type(content).__name__}", "pass a str or text parts")
    for who, pieces in texts_by_speaker(found, message, where):
        said = [piece for piece in pieces if is_said(piece, where) and not isinstance(piece, Unread)]
        yield who, _read(who, _text(pieces)), _read(who, _text(said))


def _read(role: Role, text: str) -> str:
    """A text with its second reading: nobody knows whether the reader of an answer will parse JSON in it."""
    more = second_reading(text) if role == "assistant" else ""
    return f"{text}\n{more}" if more else text


def _text(pieces: Iterable[Piece]) -> str:
    pieces = list(pieces)
    heard = {
        piece.where.removesuffix("transcript") for piece in pieces if isinstance(piece, Text) and piece.key == "transcript"
    }
    texts = []
    for piece in pieces:
        if isinstance(piece, Unread):
            if piece.where.removesuffix("data") in heard:
                continue  # sound, and what is said in it
            problem = f"is not text but {quote_value(piece.kind)}"
            raise InputError(format_place(piece.where), problem, "judge other media elsewhere and leave the part out here")
        texts.append(piece.text if isinstance(piece, Text) else piece.written)
    return "\n".join(text for text in texts if text)
