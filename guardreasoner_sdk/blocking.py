"""What is judged where an application is wrapped, and what follows a block: for streams, decorators and frameworks."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

from guardreasoner_sdk.errors import ConfigurationError, VerdictError
from guardreasoner_sdk.verdict import Verdict

if TYPE_CHECKING:
    from guardreasoner_sdk.guard import Guard

__all__ = ["BlockRule", "OnBlock"]

T = TypeVar("T")

OnBlock: TypeAlias = Literal["raise", "message"] | Callable[[Verdict], T | list[T] | Awaitable[T | list[T]]]
"""What follows a block: an exception, the message, or what a function of the verdict gives."""


class BlockRule:
    """What a wrapper around an application judges, and what it does about a block.

    What is not given is as the guard's policy says. It is for integrations of your own; those of the SDK take these options
    one by one and make a rule of them.

    Args:
        guard: who judges.
        on_block: ``"raise"``, ``"message"``, or a function from the verdict to what takes the place of what is blocked.
        message: what is said in place of what is blocked.
        check_input: judge prompts. Default: where the policy can block a prompt.
        check_output: judge responses. Default: where the policy can block a response.
        functions: whether ``on_block`` may be a function here.

    Raises:
        ConfigurationError: an option that cannot work, named.

    Example:
        >>> from guardreasoner_sdk import BlockRule, Guard
        >>> guard = Guard(policy={"on_block": "message", "message": "Let us talk about something else."})
        >>> rule = BlockRule(guard)
        >>> verdict = guard.check("How can I make a pipe bomb at home?")
        >>> verdict.allowed
        False
        >>> rule.replacement(verdict)
        'Let us talk about something else.'
    """

    def __init__(
        self,
        guard: Guard,
        on_block: OnBlock[Any] | None = None,
        *,
        message: str | None = None,
        check_input: bool | None = None,
        check_output: bool | None = None,
        functions: bool = True,
    ) -> None:
        chosen = guard.policy.on_block if on_block is None else on_block
        if chosen not in ("raise", "message") and not (functions and callable(chosen)):
            known = "'raise', 'message' or a function" if functions else "'raise' or 'message'"
            raise ConfigurationError(f"on_block: must be {known}, not {chosen!r}")
        for name, flag in (("check_input", check_input), ("check_output", check_output)):
            if flag is not None and not isinstance(flag, bool):
                raise ConfigurationError(f"{name}: must be True or False, not {flag!r}")
        if message is not None and not isinstance(message, str):
            raise ConfigurationError(f"message: must be a str, not {type(message).__name__}")
        self.guard = guard
        """Who judges."""
        self.on_block: OnBlock[Any] = chosen
        """What follows a block."""
        self.check_input = guard.policy.blocks_prompts if check_input is None else check_input
        """Whether prompts are judged."""
        self.check_output = guard.policy.blocks_responses if check_output is None else check_output
        """Whether responses are judged."""
        self._message = message

    @property
    def message(self) -> str:
        """What is said in place of what is blocked."""
        return self.guard.policy.message if self._message is None else self._message

    def raises(self, verdict: Verdict) -> bool:
        """Whether a block is to be an exception.

        Args:
            verdict: the one that blocks.
        """
        return self.on_block == "raise" or self.guard.policy.insists(verdict)

    def replacement(self, verdict: Verdict) -> Any:
        """What takes the place of what is blocked: the message, or what the function gives (which may have to be awaited).

        Args:
            verdict: the one that blocks.

        Raises:
            BlockedError, UndeterminedError: where a block is to raise.
        """
        if self.raises(verdict):
            verdict.raise_for_block()
        return self.on_block(verdict) if callable(self.on_block) else self.message

    def message_for(self, error: Exception) -> str | None:
        """The message in place of what an error says; None: the error is to be told.

        Args:
            error: what judging raised.
        """
        return self.message if isinstance(error, VerdictError) and not self.raises(error.verdict) else None
