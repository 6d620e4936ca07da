"""Guardrails that say not only whether a prompt or an answer is harmful, but why.

Example:
    >>> from guardreasoner_sdk import Guard
    >>> with Guard() as guard:
    ...     verdict = guard.check("How can I bake bread without yeast?")
    >>> verdict.allowed
    True
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.base import Backend
    from guardreasoner_sdk.backends.options import VLLM, Classifier, LlamaCpp, Onnx, Remote, Transformers
    from guardreasoner_sdk.blocking import BlockRule
    from guardreasoner_sdk.calibration import Calibration
    from guardreasoner_sdk.catalog import MODELS
    from guardreasoner_sdk.dialects.base import Dialect
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
    from guardreasoner_sdk.images import Image
    from guardreasoner_sdk.judges.base import DirectJudge, Judge
    from guardreasoner_sdk.judges.cascade import CascadeJudge
    from guardreasoner_sdk.judges.classifier import ClassifierJudge
    from guardreasoner_sdk.judges.embedded import EmbeddedJudge
    from guardreasoner_sdk.judges.reasoner import ReasonerJudge
    from guardreasoner_sdk.policy import Policy
    from guardreasoner_sdk.settings import Settings
    from guardreasoner_sdk.streaming import AsyncGuardedStream, GuardedStream, StreamOptions
    from guardreasoner_sdk.verdict import Finding, Hop, Judgement, ReasoningStep, Span, Task, Usage, Verdict

__version__ = "0.1.0"

_NAMES = {
    "backends.base": ("Backend",),
    "backends.options": ("VLLM", "Classifier", "LlamaCpp", "Onnx", "Remote", "Transformers"),
    "blocking": ("BlockRule",),
    "calibration": ("Calibration",),
    "catalog": ("MODELS",),
    "dialects.base": ("Dialect",),
    "errors": (
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
    ),
    "exchange": ("Exchange", "Turn"),
    "guard": ("Guard",),
    "images": ("Image",),
    "judges.base": ("DirectJudge", "Judge"),
    "judges.cascade": ("CascadeJudge",),
    "judges.classifier": ("ClassifierJudge",),
    "judges.embedded": ("EmbeddedJudge",),
    "judges.reasoner": ("ReasonerJudge",),
    "policy": ("Policy",),
    "settings": ("Settings",),
    "streaming": ("AsyncGuardedStream", "GuardedStream", "StreamOptions"),
    "verdict": ("Finding", "Hop", "Judgement", "ReasoningStep", "Span", "Task", "Usage", "Verdict"),
}
"""Where the public names are defined. Each is imported when it is asked for and not with the package: nothing but what is below
``cli.main`` may stand between the command's start and the place where it minds Ctrl-C."""

_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [
    "MODELS",
    "VLLM",
    "AsyncGuardedStream",
    "Backend",
    "BackendError",
    "BlockRule",
    "BlockedError",
    "Calibration",
    "CascadeJudge",
    "Classifier",
    "ClassifierJudge",
    "ClosedError",
    "ConfigurationError",
    "DeadlineError",
    "Dialect",
    "DirectJudge",
    "EmbeddedJudge",
    "Exchange",
    "Finding",
    "Guard",
    "GuardError",
    "GuardedStream",
    "Hop",
    "Image",
    "InputError",
    "Judge",
    "Judgement",
    "LlamaCpp",
    "MissingExtraError",
    "Onnx",
    "Policy",
    "ReasonerJudge",
    "ReasoningStep",
    "Remote",
    "Settings",
    "Span",
    "StreamOptions",
    "Task",
    "Transformers",
    "Turn",
    "UndeterminedError",
    "UnknownModelError",
    "Usage",
    "Verdict",
    "VerdictError",
]


def __getattr__(name: str) -> Any:
    if name in _MODULE_OF:
        value = getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
        globals()[name] = value
        return value
    if name in {module.partition(".")[0] for module in _NAMES}:
        return import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
