"""The options that make a guard."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, get_args

import typer

from guardreasoner_sdk._text import quote_value
from guardreasoner_sdk.data.interrupts import Interrupts
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.policy import Blockable, Policy
from guardreasoner_sdk.settings import Settings

__all__ = [
    "GUARD",
    "Backend",
    "BaseUrl",
    "CalibrationFile",
    "Dialect",
    "GuardOptions",
    "MinScore",
    "Model",
    "OnUndetermined",
    "OnUnmeasured",
    "PolicyText",
    "Reasoning",
    "ReasoningMode",
    "Request",
    "Screen",
    "Timeout",
    "import_engine",
]

GUARD = "Guard"
"""Where a command's help lists the options below."""


class Reasoning(StrEnum):
    """As in ``Guard(reasoning=...)``."""

    AUTO = "auto"
    FULL = "full"
    BRIEF = "brief"
    OFF = "off"


class OnUndetermined(StrEnum):
    """As in ``Policy(on_undetermined=...)``."""

    BLOCK = "block"
    ALLOW = "allow"
    RAISE = "raise"


class OnUnmeasured(StrEnum):
    """As in ``Policy(on_unmeasured=...)``."""

    JUDGE = "judge"
    UNDETERMINED = "undetermined"


Model = Annotated[str | None, typer.Option(help="A model of the catalogue, a folder or a GGUF file.", rich_help_panel=GUARD)]
Backend = Annotated[str | None, typer.Option(help="What runs it.", rich_help_panel=GUARD)]
Dialect = Annotated[str | None, typer.Option(help="How a model outside the catalogue is asked.", rich_help_panel=GUARD)]
PolicyText = Annotated[
    str | None, typer.Option(help="What counts as harmful, for a model that takes a policy of yours.", rich_help_panel=GUARD)
]
Request = Annotated[
    Path | None, typer.Option(help="The file of a model's published request, where it is not here.", rich_help_panel=GUARD)
]
Screen = Annotated[str | None, typer.Option(help="'embedded': the model sees the doubtful cases only.", rich_help_panel=GUARD)]
BaseUrl = Annotated[
    str | None,
    typer.Option(help="An OpenAI-compatible server; its key comes from GUARDREASONER_API_KEY.", rich_help_panel=GUARD),
]
ReasoningMode = Annotated[Reasoning | None, typer.Option(help="How much to reason.", rich_help_panel=GUARD)]
Timeout = Annotated[float | None, typer.Option(help="Seconds for one check, or one part of a batch.", rich_help_panel=GUARD)]
CalibrationFile = Annotated[
    Path | None, typer.Option(help="A file of 'guardreasoner calibrate' for the model.", rich_help_panel=GUARD)
]
MinScore = Annotated[
    list[str] | None,
    typer.Option(
        help="Block by score, from this one: 0.7 for all tasks, or prompt_harmfulness=0.7 for one.", rich_help_panel="Policy"
    ),
]


@dataclass(frozen=True, slots=True)
class GuardOptions:
    """What the command line says about the guard; None: what the environment says, or the default.

    Args:
        model: name, folder or file.
        backend: what runs it.
        dialect: how it is asked and read.
        screen: who decides the clear cases.
        base_url: address of a remote engine. Its key comes from the environment alone: a command line can be read by others.
        reasoning: how much to reason.
        timeout: seconds for one check.
        on_undetermined: what an undecided finding means.
        on_unmeasured: what a finding is worth in a language in which the guard was never measured.
        block: findings that block, each entry a list with commas.
        min_score: lowest scores that block: numbers, or ``task=number``, each entry a list with commas.
        calibration: a file of ``guardreasoner calibrate``.
        policy_text: what counts as harmful, for a model that takes such a text.
        request: the file of a model's published request.
    """

    model: str | None = None
    backend: str | None = None
    dialect: str | None = None
    screen: str | None = None
    base_url: str | None = None
    reasoning: Reasoning | None = None
    timeout: float | None = None
    on_undetermined: OnUndetermined | None = None
    on_unmeasured: OnUnmeasured | None = None
    block: Sequence[str] = ()
    min_score: Sequence[str] = ()
    calibration: Path | None = None
    policy_text: str | None = None
    request: Path | None = None

    def settings(self) -> Settings:
        """What the guard will run with.

        Raises:
            ConfigurationError: an option or a variable of the environment cannot work.
        """
        given = {
            "model": self.model,
            "backend": self.backend,
            "dialect": self.dialect,
            "screen": self.screen,
            "base_url": self.base_url,
            "reasoning": self.reasoning,
            "timeout": self.timeout,
            "on_undetermined": self.on_undetermined,
            "on_unmeasured": self.on_unmeasured,
            "calibration": self.calibration,
            "policy_text": self.policy_text,
            "request": self.request,
        }
        return Settings(**{name: str(value) for name, value in given.items() if value is not None})

    def arguments(self) -> dict[str, Any]:
        """What :class:`Guard` is given, to be made elsewhere; what the environment says is not in it, but for the policy.

        Raises:
            ConfigurationError: an option or a variable of the environment cannot work.
        """
        given = {
            "model": self.model,
            "backend": self.backend,
            "dialect": self.dialect,
            "screen": self.screen,
            "base_url": self.base_url,
            "reasoning": None if self.reasoning is None else str(self.reasoning),
            "timeout": self.timeout,
            "calibration": self.calibration,
            "policy_text": self.policy_text,
            "request": None if self.request is None else str(self.request),
            "policy": self._policy(),
        }
        return {name: value for name, value in given.items() if value is not None}

    def _policy(self) -> Policy:
        settings = self.settings()
        policy: dict[str, Any] = {
            "on_undetermined": settings.on_undetermined,
            "on_unmeasured": settings.on_unmeasured,
            "min_score": _least(self.min_score),
        }
        if self.block:
            policy["block"] = _blocked(self.block)
        return Policy(**policy)

    def guard(self, *, cache: int | None = None) -> Guard:
        """Make the guard.

        Args:
            cache: how many verdicts it keeps; None: as the environment says.

        Raises:
            ConfigurationError: an option or a variable of the environment cannot work.
        """
        settings, policy = self.settings(), self._policy()
        if settings.base_url is None or settings.screen is not None:
            import_engine()
        return Guard(
            self.model,
            backend=self.backend,
            dialect=self.dialect,
            screen=self.screen,
            base_url=self.base_url,
            reasoning=settings.reasoning,
            timeout=self.timeout,
            calibration=self.calibration,
            policy_text=self.policy_text,
            request=self.request,
            policy=policy,
            cache=cache,
        )


def import_engine() -> None:
    """Import what runs the embedded guard, with Ctrl-C held back until it is done.

    Its compiled modules make an ImportError of a KeyboardInterrupt, traceback and all, and the guard a broken installation.
    """
    with Interrupts() as interrupts, interrupts.held(), contextlib.suppress(ImportError):
        import onnxruntime  # noqa: F401


def _blocked(lists: Sequence[str]) -> list[str]:
    names = [name.strip() for names in lists for name in names.split(",") if name.strip()]
    known = get_args(Blockable)
    for name in names:
        if name not in known:
            raise ConfigurationError(f"--block: {name!r} is unknown; use any of {', '.join(known)}")
    if not names:
        raise ConfigurationError(f"--block: names no finding; use any of {', '.join(known)}")
    return names


def _least(lists: Sequence[str]) -> float | dict[str, float] | None:
    """The lowest scores that block, of what the command line says."""
    by_task: dict[str, float] = {}
    for setting in (part.strip() for given in lists for part in given.split(",")):
        task, separator, number = setting.rpartition("=")
        try:
            score = float(number)
        except ValueError:
            fix = "pass a number from 0 to 1, or for example prompt_harmfulness=0.7"
            raise ConfigurationError(f"--min-score: {quote_value(setting)} is not a score; {fix}") from None
        if not separator:
            if len(lists) > 1 or "," in lists[0]:
                raise ConfigurationError("--min-score: one number goes for all tasks; name the task of each: task=number")
            return score
        by_task[task.strip()] = score
    return by_task or None
