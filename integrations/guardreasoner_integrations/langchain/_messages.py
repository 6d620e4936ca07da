"""What a LangChain message says: its text, the parts that hold none, and the turns of a conversation."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage

from guardreasoner_sdk.exchange import MAX_CHARACTERS, Role, Turn, visible

__all__ = ["REMOVED", "arguments_of", "from_human", "is_removed", "text_of", "turn_at", "turns", "unread_parts"]

REMOVED = "[This message was removed by the guard.]"
"""What stands in place of a blocked message that goes into the model."""

# Where the text of a part lies, by the part's type: LangChain's own types, and those of the providers that it passes through.
_TEXT_KEYS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "text-plain": "text",
    "refusal": "refusal",
    "reasoning": "reasoning",
    "thinking": "thinking",
}
# Tools that the provider runs itself: what they were asked and what they found is text in a structure of their own.
_SERVER_TOOLS = frozenset(
    {
        "server_tool_call",
        "server_tool_use",
        "server_tool_result",
        "web_search_call",
        "web_search_tool_result",
        "file_search_call",
        "code_interpreter_call",
        "code_execution_tool_result",
        "mcp_call",
        "mcp_tool_use",
        "mcp_tool_result",
    }
)
# They repeat what stands in ``tool_calls``, or say nothing that anybody could read.
_SILENT = frozenset({"tool_call", "tool_call_chunk", "tool_use", "function_call", "invalid_tool_call", "redacted_thinking"})
_OPAQUE_KEYS = frozenset({"type", "id", "index", "status", "tool_use_id", "tool_call_id", "encrypted_content", "signature"})


def text_of(message: BaseMessage) -> str:
    """The text in a message: its content and, where the model gives it, its reasoning; not its tool calls.

    Args:
        message: any message; images and the like in it are left out (:func:`unread_parts` tells of them).
    """
    texts = [text for part in _parts(message) for text in _texts(part)]
    reasoning = message.additional_kwargs.get("reasoning_content")
    if isinstance(reasoning, str):
        texts.append(reasoning)
    return "\n".join(text for text in texts if visible(text))


def unread_parts(message: BaseMessage) -> list[str]:
    """The types of the parts that hold something other than text, for instance ``["image"]``.

    Args:
        message: any message.
    """
    kinds = (str(part.get("type")) for part in _parts(message) if isinstance(part, Mapping))
    return [kind for kind in kinds if kind not in _TEXT_KEYS and kind not in _SERVER_TOOLS and kind not in _SILENT]


def arguments_of(message: BaseMessage, answered: Container[str | None] | None = None) -> str:
    """The strings in the arguments of a message's tool calls, one ``name: value`` line each.

    Args:
        message: any message; only a model's has tool calls.
        answered: the ids of the calls to take; None: all, and those whose arguments cannot be read as well.
    """
    if not isinstance(message, AIMessage):
        return ""
    if answered is not None:
        calls: list[Mapping[str, Any]] = [call for call in message.tool_calls if call["id"] in answered]
    else:
        calls = [*message.tool_calls, *message.invalid_tool_calls]
    return "\n".join(line for call in calls for line in _strings(call.get("args")))


def turns(messages: Sequence[BaseMessage]) -> list[Turn]:
    """The conversation so far as the guard takes it. Messages without text, and those that a guard removed, are left out.

    They are context here: what is longer than a guard judges is cut.

    Args:
        messages: oldest first.
    """
    said = ((message, text_of(message)) for message in messages if not is_removed(message))
    return [Turn(role=_role(message), content=text[:MAX_CHARACTERS]) for message, text in said if text]


def turn_at(messages: Sequence[BaseMessage], place: int) -> list[int]:
    """Where the human messages of one turn stand: those since the model or a tool spoke, but for those that a guard removed.

    Args:
        messages: oldest first.
        place: the turn's last message that counts; later ones are not looked at.
    """
    turn = []
    for at in range(place, -1, -1):
        if from_human(messages[at]):
            if not is_removed(messages[at]):
                turn.append(at)
        elif not isinstance(messages[at], SystemMessage):
            break
    return turn[::-1]


def is_removed(message: BaseMessage) -> bool:
    """Whether all that a message says is that a guard removed it.

    Args:
        message: any message.
    """
    return text_of(message) == REMOVED and not unread_parts(message)


def from_human(message: BaseMessage) -> bool:
    """Whether a message counts as said by a human: a human one, or one with a role of its own that nobody else stands for.

    Args:
        message: any message.
    """
    return isinstance(message, HumanMessage | ChatMessage)


def _role(message: BaseMessage) -> Role:
    if from_human(message):
        return "user"
    if isinstance(message, SystemMessage):
        return "system"
    if isinstance(message, AIMessage):
        return "assistant"
    return "tool" if isinstance(message, ToolMessage) else "user"


def _parts(message: BaseMessage) -> list[Any]:
    return [message.content] if isinstance(message.content, str) else message.content


def _texts(part: str | Mapping[str, Any]) -> Iterator[str]:
    if isinstance(part, str):
        yield part
        return
    kind = part.get("type")
    if kind in _TEXT_KEYS:
        text = part.get(_TEXT_KEYS[kind])
        if isinstance(text, str):
            yield text
        # OpenAI's reasoning comes as a list of summaries.
        yield from _strings(part.get("summary"))
    elif kind in _SERVER_TOOLS:
        yield from _strings(part)


def _strings(value: object, name: str = "") -> Iterator[str]:
    """The strings of nested mappings and sequences as ``name: value`` lines."""
    if isinstance(value, str):
        if visible(value):
            yield f"{name}: {value}" if name else value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            if key not in _OPAQUE_KEYS:
                yield from _strings(item, str(key))
    elif isinstance(value, Sequence):
        for item in value:
            yield from _strings(item, name)
