"""A verdict for people."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from guardreasoner_sdk._text import escape_unsafe
from guardreasoner_sdk.cli.terminal import ExitCode, console
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import TASKS, Finding, Task, Verdict

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["load", "show"]

_NAMES: dict[Task, str] = {
    "prompt_harmfulness": "prompt harmfulness",
    "response_refusal": "response refusal",
    "response_harmfulness": "response harmfulness",
}
_WIDTH = max(map(len, _NAMES.values()))


def load(guard: Guard) -> float:
    """Load a guard's model ahead of the check, so that the verdict's latency is that of judging.

    What cannot be loaded for now is told by the check.

    Returns:
        the milliseconds that it took.

    Raises:
        ConfigurationError: it cannot be loaded at all.
    """
    started = time.monotonic()
    try:
        guard.load()
    except ConfigurationError:
        raise
    except Exception:  # noqa: S110 - the check meets it again
        pass
    return (time.monotonic() - started) * 1000


def show(verdict: Verdict, result: ExitCode, *, loading: float | None = None) -> None:
    """Print a verdict to standard output.

    Args:
        loading: the milliseconds that loading the model took; None: nothing was loaded ahead.
    """
    out = console()
    colour = {ExitCode.ALLOWED: "green", ExitCode.BLOCKED: "red"}.get(result, "yellow")
    aside = " (undetermined)" if result is ExitCode.UNDETERMINED else ""
    _line(out, 0, f"{verdict.action.upper()}{aside}", f"bold {colour}")
    for task, finding in verdict.findings.items():
        _line(out, 2, f"{_NAMES[task]:<{_WIDTH}}  {_finding(finding)}")
    if verdict.categories:
        _line(out, 2, f"{'categories':<{_WIDTH}}  {', '.join(verdict.categories)}")
    if verdict.reasons:
        _line(out, 0, "Why", "bold")
        for reason in verdict.reasons:
            _line(out, 2, f"- {reason}")
    if verdict.reasoning:
        _line(out, 0, "Reasoning", "bold")
        _steps(out, verdict)
    if verdict.consistent is False:
        _line(out, 2, "The steps conclude something else than the answer says.", "yellow")
    for hop in verdict.path:
        _line(out, 0, f"{hop.model} on {hop.backend} {hop.why}", "dim")
    cached = ", from the cache" if verdict.cached else ""
    ahead = "" if loading is None else f" (and {loading:.0f} ms to load)"
    _line(out, 0, f"{verdict.model} on {verdict.backend}, judged in {verdict.latency_ms:.0f} ms{ahead}{cached}", "dim")


def _finding(finding: Finding) -> str:
    score = "" if finding.score is None else f" {finding.score:.2f}"
    cause = "" if finding.cause is None else f" ({finding.cause})"
    note = "" if finding.note in (None, finding.cause) else f"; {finding.note}"
    return f"{finding.label}{score}{cause}{note}"


def _steps(out: Console, verdict: Verdict) -> None:
    for task in (*TASKS, None):
        steps = [step for step in verdict.reasoning if step.task == task]
        if steps:
            _line(out, 2, "in general" if task is None else _NAMES[task])
        for step in steps:
            _line(out, 4, f"- {step.text}")


def _line(out: Console, indent: int, text: str, style: str = "") -> None:
    from rich.padding import Padding
    from rich.text import Text

    line = Text(escape_unsafe(text), style=style)
    if out.is_terminal:
        out.print(Padding(line, (0, 0, 0, indent)))
    else:
        out.print(Text(" " * indent) + line, soft_wrap=True)
