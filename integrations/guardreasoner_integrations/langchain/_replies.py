"""What a guarded chain gives in place of what is blocked: an exception, or a message in the shape of the chain's answers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.runnables import Runnable

from guardreasoner_integrations.langchain._questions import error_of
from guardreasoner_sdk import ConfigurationError, Verdict, VerdictError
from guardreasoner_sdk.blocking import BlockRule

__all__ = ["ChainReplies", "replies_of"]

Kind = type[str] | type[AIMessage]


@dataclass(frozen=True, slots=True)
class ChainReplies:
    """See :class:`GuardedChain`.

    Args:
        rule: what follows a block.
        kind: the type of what the chain answers.
        key: the answer's key, where the chain returns mappings.
    """

    rule: BlockRule
    kind: Kind
    key: str | None

    def unanswered(self, verdict: Verdict) -> Any:
        """An exception, or the message, where the chain did not run."""
        return self._error(verdict) or self._shaped(self.kind(self.rule.message))

    def instead_of(self, answer: Any, verdict: Verdict) -> Any:
        """An exception, or the message in the shape of an answer that was blocked; a message keeps its id."""
        if error := self._error(verdict):
            return error
        said = answer[self.key] if isinstance(answer, Mapping) else answer
        reply = AIMessage(self.rule.message, id=said.id) if isinstance(said, BaseMessage) else self.rule.message
        return {self.key: reply} if isinstance(answer, Mapping) else reply

    def chunk(self, verdict: Verdict, *, apart: bool) -> Any:
        """The message as the last chunk of a stream.

        Args:
            apart: set it apart from what the reader has seen already.

        Raises:
            BlockedError, UndeterminedError: where blocks raise.
        """
        if error := self._error(verdict):
            raise error from None
        text = f"\n\n{self.rule.message}" if apart else self.rule.message
        return self._shaped(text if self.kind is str else AIMessageChunk(content=text))

    def _error(self, verdict: Verdict) -> VerdictError | None:
        return error_of(verdict) if self.rule.raises(verdict) else None

    def _shaped(self, reply: Any) -> Any:
        return reply if self.key is None else {self.key: reply}


def replies_of(
    rule: BlockRule,
    chain: Runnable[Any, Any],
    *,
    returns: type[str] | type[AIMessage] | None,
    output_key: str | None,
) -> ChainReplies:
    """Read the options of a :class:`GuardedChain`.

    Raises:
        ConfigurationError: a message that nobody knows the type of.
    """
    kind = AIMessage if rule.on_block == "raise" else _kind(chain, output_key, returns)
    return ChainReplies(rule, kind, output_key)


def _kind(chain: Runnable[Any, Any], key: str | None, returns: Kind | None) -> Kind:
    """Which type the message is to have where no answer shows it."""
    if returns in (str, AIMessage):
        return returns
    if returns is not None:
        raise ConfigurationError(f"returns: must be str or AIMessage, not {returns!r}")
    kind = None if key is not None else _declared(chain)
    if kind is str:
        return str
    if kind is not None and any(isinstance(part, type) and issubclass(part, BaseMessage) for part in _parts(kind)):
        return AIMessage
    raise ConfigurationError(
        "returns: the chain does not tell what it returns; pass returns=str or returns=AIMessage, "
        "so that the message can take the place of its answer"
    )


def _declared(chain: Runnable[Any, Any]) -> Any:
    try:
        return chain.OutputType
    except TypeError:  # LangChain's way to say that there is none
        return None


def _parts(kind: Any) -> list[Any]:
    return [kind, *(part for inner in get_args(kind) for part in _parts(inner))]
