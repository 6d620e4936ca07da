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
undetermined findings, so that an application sees one thing only: a verdict that the policy has decided upon.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

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


class GuardError(Exception):
    """Base of every error of this package: ``except GuardError`` catches them all."""


class InputError(GuardError, ValueError):
    """What was handed in cannot be judged.

    Args:
        field: the argument, key or place at fault, for instance ``prompt`` or ``messages[3].content``.
        problem: what is wrong with it.
        fix: what to do about it.
    """

    def __init__(self, field: str, problem: str, fix: str) -> None:
        super().__init__(f"{field}: {problem}; {fix}")
        self.field = field
        self.problem = problem
        self.fix = fix


class ConfigurationError(GuardError, ValueError):
    """A guard, a policy or a setting that cannot work as given."""


class UnknownModelError(ConfigurationError):
    """The catalogue has no such model."""


class MissingExtraError(ConfigurationError, ImportError):
    """An optional dependency is not installed.

    Args:
        extra: the name of the extra of ``guardreasoner-sdk`` that brings it.
        purpose: what needs it, as the start of the sentence: ``"Parquet files"``.
    """

    def __init__(self, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} need an extra: pip install 'guardreasoner-sdk[{extra}]'")
        self.extra = extra


class ClosedError(GuardError, RuntimeError):
    """The guard was used after :meth:`guardreasoner_sdk.Guard.close`."""


class BackendError(GuardError, RuntimeError):
    """An engine or a judge failed to give a judgement."""


class DeadlineError(BackendError, TimeoutError):
    """An engine or a judge did not answer before its deadline."""

    def __init__(self, message: str = "no judgement before the deadline") -> None:
        super().__init__(message)


class VerdictError(GuardError):
    """A verdict turned into an exception. The message carries labels and scores, never the judged text.

    Args:
        verdict: the verdict, readable by the handler as ``error.verdict``.
    """

    def __init__(self, verdict: Verdict) -> None:
        super().__init__("; ".join(verdict.reasons) or f"action {verdict.action}")
        self.verdict = verdict


class BlockedError(VerdictError):
    """The policy blocks the exchange (:meth:`guardreasoner_sdk.Verdict.raise_for_block`)."""


class UndeterminedError(VerdictError):
    """The guard could not decide and the policy says ``on_undetermined="raise"``."""
