"""The contract between a family of guard models and the engines that run them. Pure data, no I/O."""

from __future__ import annotations

from typing import Annotated, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Judgement, Usage

__all__ = ["Completion", "Dialect", "Message", "Query", "Rendering"]

Rendering = Literal["raw", "chat"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True)


class Message(_Frozen):
    """One message of a chat rendering.

    Args:
        role: ``system``, ``user`` or ``assistant``.
        content: its text; an engine encodes it as text, so that no part of it becomes a special token.
    """

    role: Literal["system", "user", "assistant"]
    content: str


class Query(_Frozen):
    """What an engine is asked: either a plain completion prompt or a chat.

    Args:
        text: for ``raw``: the whole prompt, to be encoded as text behind the model's BOS token.
        messages: for ``chat``: the turns, for the model's own chat template.
        max_tokens: most tokens to generate.
        temperature: sampling temperature; 0 is greedy.
    """

    text: str | None = None
    messages: tuple[Message, ...] = ()
    max_tokens: Annotated[int, Field(gt=0)] = 2048
    temperature: Annotated[float, Field(ge=0.0)] = 0.0


class Completion(_Frozen):
    """What an engine answered.

    Args:
        text: the generated text alone, without the prompt.
        finish_reason: ``stop`` (the model ended), ``length`` (cut off at ``max_tokens`` or at the context's end), or None
            where the engine does not say.
        usage: tokens read and written.
    """

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = Usage()


class Dialect(Protocol):
    """How one family of guard models is asked and how its answer is read. Pure: no I/O, no state between calls."""

    def render(self, exchange: Exchange) -> Query:
        """Turn what is judged into the query that the family was trained on."""
        ...

    def read(self, completion: Completion, exchange: Exchange) -> Judgement:
        """Read the answer. What cannot be read is undetermined, with its cause; nothing is guessed."""
        ...
