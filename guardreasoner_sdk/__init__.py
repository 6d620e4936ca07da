"""Guardrails that say not only whether a prompt or an answer is harmful, but why."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardreasoner_sdk.errors import (
        BackendError,
        BlockedError,
        ClosedError,
        ConfigurationError,
        DeadlineError,
        GuardError,
        InputError,
        MissingExtraError,
        UndeterminedError,
        UnknownModelError,
        VerdictError,
    )
    from guardreasoner_sdk.exchange import Exchange, Turn
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.base import Judge
    from guardreasoner_sdk.policy import Policy
    from guardreasoner_sdk.verdict import Finding, Hop, Judgement, ReasoningStep, Span, Usage, Verdict

__version__ = "0.1.0"

__all__ = [
    "BackendError",
    "BlockedError",
    "ClosedError",
    "ConfigurationError",
    "DeadlineError",
    "Exchange",
    "Finding",
    "Guard",
    "GuardError",
    "Hop",
    "InputError",
    "Judge",
    "Judgement",
    "MissingExtraError",
    "Policy",
    "ReasoningStep",
    "Span",
    "Turn",
    "UndeterminedError",
    "UnknownModelError",
    "Usage",
    "Verdict",
    "VerdictError",
]

_MODULES = ("errors", "verdict", "exchange", "policy", "judges.base", "guard")
"""Where the names above are defined. They are imported with the first of them and not with the package: nothing but what is
below ``cli.main`` may stand between the command's start and the place where it minds Ctrl-C."""


def __getattr__(name: str) -> Any:
    if name not in __all__ and not any(name == module.partition(".")[0] for module in _MODULES):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    for module in _MODULES:
        names = vars(import_module(f"{__name__}.{module}"))
        globals().update((each, names[each]) for each in names["__all__"] if each in __all__)
    return globals()[name]


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
