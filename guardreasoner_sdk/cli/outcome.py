"""From verdicts to an exit code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from guardreasoner_sdk.cli.terminal import ExitCode
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import Verdict

__all__ = ["Tally", "outcome"]

_SHOWN = 5
_COUNTS = ("allowed", "blocked", "undetermined", "unreadable", "examples")


def outcome(verdict: Verdict) -> ExitCode:
    """What a verdict means for the exit code.

    Something found that blocks comes before everything undecided, and what is undecided is never "allowed", not even where
    the policy lets it pass.
    """
    if verdict.blocked_by == "finding":
        return ExitCode.BLOCKED
    return ExitCode.UNDETERMINED if verdict.undetermined or verdict.reasons or not verdict.allowed else ExitCode.ALLOWED


@dataclass(slots=True)
class Tally:
    """Counts the verdicts of a file.

    Args:
        unit: what a row of the input is called: ``line`` or ``row``.
        blank: numbers of the input's blank lines.
    """

    unit: str
    blank: frozenset[int] = frozenset()
    allowed: int = 0
    blocked: int = 0
    undetermined: int = 0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many rows were counted."""
        return self.allowed + self.blocked + self.undetermined

    def add(self, number: int, verdict: Verdict) -> None:
        """Count a verdict.

        Args:
            number: the row it belongs to, from 1.
        """
        match outcome(verdict):
            case ExitCode.ALLOWED:
                self.allowed += 1
            case ExitCode.BLOCKED:
                self.blocked += 1
            case _:
                self.undetermined += 1
        finding = verdict.prompt_harmfulness
        # The cause of an unreadable row starts with its place, so that a resumed run knows it from the output alone.
        if finding is not None and finding.cause is not None and finding.cause.startswith(f"{self.unit} {number}"):
            self.unreadable += 1
            # One row for each complaint: four hundred that want the same say no more than one.
            if len(self.examples) < _SHOWN and _complaint(finding.cause) not in map(_complaint, self.examples):
                self.examples.append(finding.cause)

    def counts(self) -> dict[str, Any]:
        """What :meth:`restore` takes."""
        return {name: getattr(self, name) for name in _COUNTS}

    def restore(self, counts: dict[str, Any]) -> None:
        """Take over the counts of a run that is complete.

        Args:
            counts: what :meth:`counts` gave.

        Raises:
            InputError: they are damaged.
        """
        numbers = [counts.get(name) for name in _COUNTS[:-1]]
        examples = counts.get("examples")
        if not all(type(number) is int and number >= 0 for number in numbers) or not isinstance(examples, list):
            raise InputError("--output", "the counts of the finished run are damaged", "pass --overwrite to start over")
        for name in _COUNTS:
            setattr(self, name, counts[name])

    @property
    def exit_code(self) -> ExitCode:
        """Blocked if any row is, else undetermined if any is, else allowed."""
        if self.blocked:
            return ExitCode.BLOCKED
        return ExitCode.UNDETERMINED if self.undetermined else ExitCode.ALLOWED


def _complaint(cause: str) -> str:
    return cause.partition(": ")[2]
