"""The messages in what a tool call brings: a message, a command, or several of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from langchain_core.messages import BaseMessage, convert_to_messages
from langgraph.types import Command, Overwrite

__all__ = ["each_message"]


def each_message(result: Any, change: Callable[[BaseMessage], BaseMessage]) -> Any:
    """A copy of the result with every message changed, wherever in it that stands.

    Args:
        result: what the handler of a tool call returned.
        change: from a message to the one to put in its place.
    """
    if isinstance(result, BaseMessage):
        return change(result)
    if isinstance(result, Command):
        return replace(result, update=each_message(result.update, change))
    if isinstance(result, Mapping):
        return {key: each_message(_read(key, value), change) for key, value in result.items()}
    if isinstance(result, tuple) and len(result) == 2 and isinstance(result[0], str):
        return (result[0], each_message(_read(*result), change))
    if isinstance(result, list | tuple):
        return [each_message(item, change) for item in result]
    if isinstance(result, Overwrite):
        return replace(result, value=each_message(_read("messages", result.value), change))
    return result


def _read(key: object, value: Any) -> Any:
    """Messages may be written as mappings or pairs, which the graph reads only later."""
    if key != "messages" or value is None:
        return value
    if isinstance(value, BaseMessage | dict | str) or (isinstance(value, tuple) and len(value) == 2):
        return convert_to_messages([value])
    return convert_to_messages(value) if isinstance(value, list | tuple) else value
