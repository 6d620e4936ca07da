"""What stands in messages: the one table of what the places and blocks of a message hold, and the walk that reads them.

The rule is closed. Whatever is not in the table holds something until proven otherwise: its strings are text, and where it has
none, or refers to something that is not in the message, it cannot be judged. Only names that are known say nothing: protocol
keys (where their value is a word, not a text), markers, and what is sealed for everyone but the provider.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, NamedTuple, TypeVar
from uuid import UUID

from pydantic import BaseModel

from guardreasoner_sdk._unescaping import unescaped

__all__ = [
    "ASIDE",
    "BLOCKS",
    "MARKERS",
    "MEDIA",
    "NO_CONTENT",
    "PROTOCOL",
    "SEALED",
    "Call",
    "Piece",
    "Text",
    "Unread",
    "block",
    "message",
    "spoken",
    "walk",
]


class Text(NamedTuple):
    """Text to judge, and the key that it stands under."""

    text: str
    key: str
    where: str


class Call(NamedTuple):
    """What a model hands to a tool: its name, and the arguments as they came (JSON, a piece of it, or a value)."""

    name: str
    arguments: Any
    where: str
    id: str | None = None
    index: Any = None

    @property
    def json(self) -> str:
        """The arguments as JSON; as they came where that is text."""
        given = self.arguments
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, default=str)

    @property
    def written(self) -> str:
        """The call as ``name(arguments)``, with the escapes of JSON decoded: the tool gets the letters."""
        return f"{self.name}({unescaped(self.json)})"

    @property
    def same(self) -> tuple[str, str]:
        """Equal for two calls that say the same, however it is written."""
        given = self.arguments
        if isinstance(given, str):
            try:
                given = json.loads(given)
            except ValueError:
                return self.name, given
        return self.name, json.dumps(given, sort_keys=True, default=str) if given else ""


class Unread(NamedTuple):
    """Something that is no text, or no text that is here: its kind, fit to be named in an error."""

    kind: str
    where: str


Piece = Text | Call | Unread
R = TypeVar("R", bound=str)


def _reasons(keys: Mapping[str, str]) -> Mapping[str, str]:
    """From reason and keys to key and reason."""
    return {key: reason for reason, names in keys.items() for key in names.split()}


PROTOCOL = _reasons(
    {
        "an id that ties parts together": """
            id call_id container_id event_id file_id item_id response_id tool_call_id tool_use_id toolUseId
            approval_request_id previous_response_id __openai_function_call_ids__""",
        "a number": "index file_index output_index content_index token_ids expires_at",
        "what a part is": "type object role __openai_role__ phase chunk_position source_type caller",
        "how it ended": "status finish_reason stop_reason stop_sequence outcome error_code",
        "who made it": """
            model model_id model_name model_provider namespace server_label service_tier system_fingerprint lc_source""",
        "what form it has": "mime_type media_type format detail language",
    }
)
"""Keys that hold no text of anybody's, each with the reason. A value with blanks in it is text all the same."""

NO_CONTENT = _reasons(
    {
        "numbers about what stands beside it": "logprobs usage content_filter_offsets",
        "the findings of the provider's own filter": "content_filter_result content_filter_results",
    }
)
"""Keys of which nothing is shown to a reader or a model, each with the reason."""

ASIDE = _reasons(
    {
        "what a tool keeps for the application: no model reads it": "artifact",
        "what the server says about the answer: headers, reasons, ratings": "response_metadata",
        "numbers": "usage_metadata",
    }
)
"""The same for LangChain's messages, where they stand in the message itself."""

SEALED = _reasons(
    {
        "only the provider can open it": """
            encrypted_content encrypted_index encrypted_stdout redacted_content redactedContent""",
        "a proof that the provider wrote it": """
            signature thought_signature thoughtSignature __gemini_function_call_thought_signatures__""",
        "noise that hides the length of a piece": "obfuscation",
    }
)
"""Keys of data that nobody but the provider can read, each with the reason. A value with blanks in it is text all the same."""

MARKERS = _reasons({"where the provider may cache the prompt": "cachePoint cache_point cache_control"})
"""Keys that mark a place and hold no content, each with the reason. A value with blanks in it is text all the same."""

MEDIA = frozenset(
    {
        "audio",
        "base64",
        "computer_screenshot",
        "container_upload",
        "file",
        "image",
        "image_url",
        "input_audio",
        "input_file",
        "input_image",
        "input_video",
        "media",
        "output_audio",
        "output_image",
        "url",
        "video",
        "video_url",
    }
)
"""Types of blocks that hold something other than text."""

BLOCKS = frozenset(
    {
        # text
        "text", "input_text", "output_text", "refusal", "summary_text", "text_delta", "message", "message_delta",
        # reasoning
        "reasoning", "reasoning.text", "reasoning.summary", "reasoning.encrypted", "reasoning_content", "reasoning_text",
        "redacted_thinking", "thinking", "thinking_delta", "signature_delta",
        # what the model hands to tools
        "apply_patch_call", "computer_call", "custom", "custom_tool_call", "function", "function_call", "input_json_delta",
        "invalid_tool_call", "local_shell_call", "mcp_approval_request", "shell_call", "tool_call", "tool_call_chunk",
        "tool_use",
        # tools that the provider runs, and what they found
        "bash_code_execution_output", "bash_code_execution_result", "bash_code_execution_tool_result",
        "bash_code_execution_tool_result_error", "code_execution_output", "code_execution_result",
        "code_execution_tool_result", "code_execution_tool_result_error", "code_interpreter_call",
        "encrypted_code_execution_result", "executable_code", "file_search_call", "image_generation_call", "mcp_call",
        "mcp_list_tools", "mcp_tool_result", "mcp_tool_use", "server_tool_call", "server_tool_call_chunk",
        "server_tool_result", "server_tool_use", "text_editor_code_execution_create_result",
        "text_editor_code_execution_str_replace_result", "text_editor_code_execution_tool_result",
        "text_editor_code_execution_tool_result_error", "text_editor_code_execution_view_result", "tool_reference",
        "tool_search_call", "tool_search_output", "tool_search_tool_result", "tool_search_tool_result_error",
        "tool_search_tool_search_result", "web_fetch_result", "web_fetch_tool_result", "web_fetch_tool_result_error",
        "web_search_call", "web_search_result", "web_search_tool_result", "web_search_tool_result_error",
        # what tools gave
        "apply_patch_call_output", "computer_call_output", "custom_tool_call_output", "function_call_output",
        "function_response", "local_shell_call_output", "mcp_approval_response", "shell_call_output", "tool_result",
        # what is quoted and from where
        "char_location", "citation", "citations_delta", "container_file_citation", "content", "content_block_location",
        "document", "file_citation", "file_path", "page_location", "search_result", "search_result_location",
        "url_citation", "web_search_result_location",
        # bounds and states: compaction, guards of the provider, what the server keeps of this conversation already
        "compaction", "compaction_trigger", "context_compaction", "guard_content", "item_reference",
    }
)  # fmt: skip
"""Types of blocks whose strings are all that they hold: an address in them is quoted, not read."""

# Where a value of a block refers to something that is not in it, or is no text.
_REFERENCES = frozenset(
    {
        *("audio_url", "bytes", "data", "fileId", "fileUri", "file_id", "file_uri", "file_url", "image_url", "s3Location"),
        *("s3_location", "uri", "url", "video_url"),
    }
)
_BINARY = frozenset({"b64_json", "base64", "file_data", "partial_image_b64"})
_AUDIO = frozenset({"audio", "input_audio"})
_AUDIO_EVENTS = frozenset({"response.audio.delta", "response.output_audio.delta"})
_SEALED_TYPES = frozenset({"redacted_thinking", "reasoning.encrypted"})
# What a model hands to a tool, names and numbers too: it chose them.
_ARGUMENTS = frozenset({"args", "arguments", "input", "partial_json"})
_ITEMS = frozenset({"content", "parts"})
# Blocks whose content is made of blocks of its own.
_HOLDERS = frozenset({"mcp_tool_result", "message", "tool_result"})
# LangChain's own places of tool calls. Providers put them once more where they like.
_CALLS = ("tool_call_chunks", "tool_calls", "invalid_tool_calls")
# Places where litellm and others put once more what stands beside them.
_COPIES = frozenset({"provider_specific_fields", "thinking_blocks"})

_DATA = re.compile(r"data:[\w/+.;=-]*;base64,[\w+/=-]*", re.ASCII)
# A protocol's word: no blanks, nothing but ASCII.
_WORD = re.compile(r"[!-~]*")
_NUMBERS = (int, float, complex, Decimal, date, time, timedelta, UUID)


def walk(value: object, where: str = "", key: str = "", *, quoted: bool = True) -> Iterator[Piece]:
    """Every text in a value, in order, and whatever is no text.

    Args:
        value: anything out of a message.
        where: its place, for errors.
        key: the key that it stands under.
        quoted: whether an address in it is a quotation, and not a reference to something that a model reads.
    """
    if isinstance(value, Enum):
        value = value.value
    if isinstance(value, BaseModel):
        value = value.model_dump(warnings=False)
    if isinstance(value, str):
        # Text behind such a beginning is still text.
        if _DATA.fullmatch(value) is not None:
            yield Unread("data: URL", where)
        elif value:
            yield Text(value, key, where)
    elif isinstance(value, Mapping):
        yield from _mapping(value, where, key, quoted)
    elif isinstance(value, list | tuple | Set):
        for index, part in enumerate(value):
            yield from walk(part, f"{where}[{index}]", key, quoted=quoted)
    elif value is not None and not isinstance(value, _NUMBERS):
        yield Unread(type(value).__name__, where)


def block(value: object, where: str) -> Iterator[Piece]:
    """:func:`walk` for a block of a message's content: one of an unknown type that says nothing is unread.

    Args:
        value: the block.
        where: its place, for errors.
    """
    if isinstance(value, BaseModel):
        value = value.model_dump(warnings=False)
    if isinstance(value, Mapping):
        found = list(_mapping(value, where, "", False))
        kind = value.get("type")
        if not found and kind not in BLOCKS and (kind is not None or any(_says(*item) for item in value.items())):
            found = [Unread(named(kind), where)]
        yield from found
    elif isinstance(value, _NUMBERS):
        yield Unread(type(value).__name__, where)
    else:
        yield from walk(value, where, "text")


def message(value: Mapping[str, Any], where: str) -> list[Piece]:
    """Every piece of one message, of whichever API: its content, what else it holds, and its tool calls. A call that is told
    twice comes once.

    Args:
        value: the message.
        where: its place, for errors.
    """
    told: set[object] = set()
    found: list[Piece] = list(_unheard(value, where))
    calls: list[Piece] = []
    derived = _CALLS[1:] if value.get(_CALLS[0]) else ()
    for key in sorted(value, key=_turn):
        part = value[key]
        if key in derived or key in ASIDE or (key == "name" and _quiet(part)):
            continue
        for piece in _mapping({key: part}, where, "", key not in _ITEMS):
            same = _same(piece)
            if not (same in told and (isinstance(piece, Call) or key in _COPIES)):
                (calls if key in _CALLS else found).append(piece)
            told.add(same)
    return [*found, *calls]


def spoken(role: R, value: Mapping[str, Any], where: str) -> Iterator[tuple[R | Literal["tool"], list[Piece]]]:
    """:func:`message` by who says it: Anthropic's tools answer in the user's name.

    Args:
        role: whose the message is.
        value: the message.
        where: its place, for errors.
    """
    content = value.get("content")
    results = {}
    if role == "user" and isinstance(content, list | tuple):
        results = {
            place: part for place, part in enumerate(content) if isinstance(part, Mapping) and part.get("type") == "tool_result"
        }
    for place, part in results.items():
        yield "tool", list(block(part, f"{where}.content[{place}]"))
    if results:
        # What is left keeps its places.
        value = {**value, "content": ["" if place in results else part for place, part in enumerate(content or ())]}
    if not results or any(value["content"]):
        yield role, message(value, where)


def _unheard(value: Mapping[str, Any], where: str) -> Iterator[Unread]:
    """Sound that is only named: an earlier answer, which the provider keeps. In a piece of a stream the rest may follow."""
    if _CALLS[0] not in value:
        for holder in (value, value.get("additional_kwargs")):
            sound = holder.get("audio") if isinstance(holder, Mapping) else None
            if isinstance(sound, Mapping) and not sound.keys() & {"data", "transcript"}:
                yield Unread("audio", f"{where}.audio" if where else "audio")


def _turn(key: object) -> int:
    """Tool calls are read first, to know them again elsewhere; copies last."""
    return 0 if key in _CALLS else 1 if key in _ITEMS else 3 if key in _COPIES else 2


def _same(piece: Piece) -> object:
    return piece.same if isinstance(piece, Call) else piece.text if isinstance(piece, Text) else None


def named(kind: object) -> str:
    """A block's type, fit for an error: what may be text to judge is not quoted."""
    if kind is None:
        return "a part without a type"
    return kind if isinstance(kind, str) and len(kind) <= 60 and re.fullmatch(r"[\w.-]+", kind) else "a part of an unknown type"


def _mapping(holder: Mapping[Any, Any], where: str, above: str, quoted: bool) -> Iterator[Piece]:
    kind = holder.get("type")
    known = isinstance(kind, str) and kind in BLOCKS
    media = isinstance(kind, str) and kind in MEDIA and holder.get("source_type") != "text"
    if media:
        yield Unread(str(kind), where)
    quoted = known or (quoted and not media)
    calls = [key for key, value in holder.items() if key in _ARGUMENTS and value is not None]
    for key, value in holder.items():
        unseen = key in _REFERENCES and not quoted
        if (_passed(key, value) and not unseen) or (key == "data" and kind in _SEALED_TYPES and _quiet(value)):
            continue
        place = f"{where}.{key}" if where else str(key)
        if key == "text" and isinstance(value, _NUMBERS):
            yield Unread(type(value).__name__, place)
        elif key in calls:
            yield Call(str(holder.get("name") or ""), value, place, holder.get("id"), holder.get("index"))
        elif key == "name" and calls:
            continue
        elif value and (unseen or _is_media(holder, key, value, above)):
            if not media:
                yield Unread(named(above or key if kind is None else kind), place)
            elif isinstance(value, Mapping):
                yield from _beside(value, place, key)
        elif media and isinstance(value, Mapping):
            yield from _beside(value, place, key)
        elif key in _ITEMS and isinstance(value, list | tuple):
            for index, part in enumerate(value):
                at = f"{place}[{index}]"
                yield from walk(part, at, key) if quoted and kind not in _HOLDERS else block(part, at)
        else:
            if not _quiet(key):
                yield Text(str(key), "", place)
            yield from walk(value, place, str(key), quoted=quoted)


def _beside(value: Mapping[Any, Any], place: str, key: str) -> Iterator[Piece]:
    """The text that stands beside a medium: that it is one was said already."""
    return (piece for piece in _mapping(value, place, key, False) if not isinstance(piece, Unread))


def _passed(key: object, value: object) -> bool:
    if key in NO_CONTENT:
        return True
    if key in PROTOCOL or key in MARKERS:
        return _quiet(value)
    return key in SEALED and _quiet(value)


def _quiet(value: object) -> bool:
    """Whether all strings in a value are words of a protocol."""
    if isinstance(value, str):
        return _WORD.fullmatch(value) is not None
    if isinstance(value, Mapping):
        return all(_quiet(part) for item in value.items() for part in item)
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return all(_quiet(part) for part in value)
    return value is None or isinstance(value, _NUMBERS)


def _is_media(holder: Mapping[Any, Any], key: str, value: object, above: str) -> bool:
    kind = holder.get("type")
    return (
        isinstance(value, bytes | bytearray | memoryview)
        or key in _BINARY
        or (key == "data" and above in _AUDIO)
        or (key == "result" and kind == "image_generation_call")
        or (key == "delta" and kind in _AUDIO_EVENTS)
    )


def _says(key: object, value: object) -> bool:
    return bool(value) and not _passed(key, value)
