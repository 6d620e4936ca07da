"""Every error that the SDK raises on purpose, as one tree.

::

    GuardError
    ├── InputError(ValueError)             what was handed in cannot be judged; names the field and the fix
    ├── ConfigurationError(ValueError)     a guard, policy or setting that cannot work
    │   ├── UnknownModelError              no such model in the catalogue
    │   └── MissingExtraError(ImportError) an optional dependency is absent; carries the pip line
    ├── ClosedError(RuntimeError)          the guard was used after ``close()``
    ├── BackendError(RuntimeError)         an engine failed
    │   └── DeadlineError(TimeoutError)    ... or did not answer in time
    └── VerdictError                       a verdict turned into an exception; carries it as ``.verdict``
        ├── BlockedError                   the policy blocks the exchange
        └── UndeterminedError              the guard could not decide and the policy says ``"raise"``

``BackendError`` and ``DeadlineError`` are raised by judges and engines. :class:`~guardreasoner_sdk.Guard` turns them into
undetermined findings, so that an application sees one thing only: a verdict that the policy has decided on.

Every error survives ``pickle`` and ``copy``, and so a process pool: with its attributes, notes and cause.
"""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardreasoner_sdk.verdict import Verdict

__all__ = [
    "BackendError",
    "BlockedError",
    "ClosedError",
    "ConfigurationError",
    "DeadlineError",
    "GuardError",
    "InputError",
    "MissingExtraError",
    "UndeterminedError",
    "UnknownModelError",
    "VerdictError",
]


class PortableError(Exception):
    """Base of errors that can be pickled and copied, whatever their ``__init__`` takes.

    Python itself rebuilds an error by calling its class with ``args``, that is, with its message; where the class takes
    something else, that fails, and an error that fails to be read ends a whole process pool.
    """

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        state = {**vars(self), "__cause__": _carried(self.__cause__), "__suppress_context__": self.__suppress_context__}
        return _remade, (type(self), self.args), state


def _remade(kind: type[PortableError], args: tuple[Any, ...]) -> PortableError:
    # Of several built-in classes that an error is one of, only the one whose memory it is laid out like can make it.
    base: Any = kind
    while "__new__" not in vars(base):
        base = base.__base__
    error: PortableError = base.__new__(kind, *args)
    error.args = args  # some built-in errors leave that to __init__
    return error


def _carried(cause: BaseException | None) -> BaseException | None:
    """The cause, unless it is an error of somebody else's that cannot be carried over."""
    if cause is not None and not isinstance(cause, PortableError):
        try:
            pickle.loads(pickle.dumps(cause))  # noqa: S301 - what was written one call before
        except Exception:
            return None
    return cause


class GuardError(PortableError):
    """Base of every error of this package: ``except GuardError`` catches them all.

    Example:
        >>> from guardreasoner_sdk import Guard, GuardError
        >>> try:
        ...     Guard(timeout=-1)
        ... except GuardError as error:
        ...     print(type(error).__name__)
        ConfigurationError
    """


class InputError(GuardError, ValueError):
    """What was handed in cannot be judged.

    Args:
        field: the argument, key or place at fault, for example ``prompt`` or ``messages[3].content``.
        problem: what is wrong with it.
        fix: what to do about it.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> Exchange("")
        Traceback (most recent call last):
        guardreasoner_sdk.errors.InputError: prompt: is empty; pass the text to judge
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{field}: {problem}; {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix


class ConfigurationError(GuardError, ValueError):
    """A guard, a policy or a setting that cannot work as given.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> Guard(concurrency=0)
        Traceback (most recent call last):
        guardreasoner_sdk.errors.ConfigurationError: concurrency: must be a whole number from 1, not 0
    """


class UnknownModelError(ConfigurationError):
    """The catalogue has no such model.

    Example:
        >>> from guardreasoner_sdk import Guard, UnknownModelError
        >>> try:
        ...     Guard("guardreasoner-9b")
        ... except UnknownModelError as error:
        ...     print("did you mean" in str(error))
        True
    """


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    Args:
        extra: the name of the extra of ``guardreasoner-sdk`` that brings it.
        purpose: what needs it, as the start of the sentence: ``"Parquet files"``.
        message: the whole message, where there is more to say.

    Example:
        >>> from guardreasoner_sdk import MissingExtraError
        >>> print(MissingExtraError("parquet", "Parquet files"))
        Parquet files need an extra: pip install 'guardreasoner-sdk[parquet]'
    """

    def __init__(self, extra: str, purpose: str, *, message: str | None = None) -> None:
        super().__init__(message or f"{purpose} need an extra: pip install 'guardreasoner-sdk[{extra}]'")
        self.extra = extra

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]:
        remade, args, state = super().__reduce__()
        return remade, args, {**state, "msg": self.msg, "name": self.name, "path": self.path}


class ClosedError(GuardError, RuntimeError):
    """The guard was used after :meth:`guardreasoner_sdk.Guard.close`.

    Example:
        >>> from guardreasoner_sdk import ClosedError, Guard
        >>> guard = Guard()
        >>> guard.close()
        >>> try:
        ...     guard.check("How do I bake bread?")
        ... except ClosedError as error:
        ...     print(error)
        the guard is closed; make a new one
    """


class BackendError(GuardError, RuntimeError):
    """An engine or a judge failed to give a judgement.

    Example:
        >>> from guardreasoner_sdk import BackendError, Guard
        >>> from guardreasoner_sdk.testing import ScriptedJudge
        >>> guard = Guard(judge=ScriptedJudge({"Hi": BackendError("the engine died")}))
        >>> guard.check("Hi").prompt_harmfulness.cause
        'the engine died'
    """


class DeadlineError(BackendError, TimeoutError):
    """An engine or a judge did not answer before its deadline.

    Example:
        >>> from guardreasoner_sdk import DeadlineError
        >>> print(DeadlineError())
        no judgement before the deadline
    """

    def __init__(self, message: str = "no judgement before the deadline") -> None:
        super().__init__(message)


class VerdictError(GuardError):
    """A verdict turned into an exception. The message carries labels and scores, never the judged text.

    Args:
        verdict: the verdict, readable by the handler as ``error.verdict``.

    Example:
        >>> from guardreasoner_sdk import Guard, VerdictError
        >>> try:
        ...     Guard().check("How can I make a pipe bomb at home?").raise_for_block()
        ... except VerdictError as error:
        ...     print(error.verdict.action)
        block
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("; ".join(verdict.reasons) or f"action {verdict.action}")
        self.verdict = verdict


class BlockedError(VerdictError):
    """The policy blocks the exchange (:meth:`guardreasoner_sdk.Verdict.raise_for_block`).

    Example:
        >>> from guardreasoner_sdk import BlockedError, Guard
        >>> try:
        ...     Guard().check("How can I make a pipe bomb at home?").raise_for_block()
        ... except BlockedError as error:
        ...     print(error.verdict.blocked_by)
        finding
    """


class UndeterminedError(VerdictError):
    """The guard could not decide and the policy says ``on_undetermined="raise"``.

    Example:
        >>> from guardreasoner_sdk import Guard, UndeterminedError
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> guard = Guard(judge=ScriptedJudge({"Hi": judgement("undetermined")}), policy={"on_undetermined": "raise"})
        >>> try:
        ...     guard.check("Hi")
        ... except UndeterminedError as error:
        ...     print(error.verdict.blocked_by)
        failure
    """
