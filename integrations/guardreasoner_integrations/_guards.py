"""What all integrations are given."""

from __future__ import annotations

from collections.abc import Sequence

from guardreasoner_sdk import ConfigurationError, Exchange, Guard, Verdict
from guardreasoner_sdk.verdict import decisive

__all__ = ["ajudge_readings", "check_guard", "judge_readings"]


def check_guard(guard: object) -> None:
    """Refuse what is no guard, where it is given.

    Raises:
        ConfigurationError: it is none.
    """
    if isinstance(guard, type):
        raise ConfigurationError(f"guard: is the class {guard.__name__}; pass a guard made of it: {guard.__name__}()")
    if not isinstance(guard, Guard):
        raise ConfigurationError(f"guard: must be a Guard, not {type(guard).__name__}")


def judge_readings(guard: Guard, readings: Sequence[Exchange], timeout: float | None) -> Verdict:
    """The verdict that counts among those on all readings of what is asked.

    Args:
        timeout: seconds; None: the guard's.

    Raises:
        UndeterminedError: undecided, and the policy says ``on_undetermined="raise"``.
    """
    return _counting(guard, guard.check_many(readings, timeout=timeout))


async def ajudge_readings(guard: Guard, readings: Sequence[Exchange], timeout: float | None) -> Verdict:
    """:func:`judge_readings` for asyncio."""
    return _counting(guard, await guard.acheck_many(readings, timeout=timeout))


def _counting(guard: Guard, verdicts: Sequence[Verdict]) -> Verdict:
    verdict = decisive(verdicts) or verdicts[0]
    if guard.policy.insists(verdict):
        verdict.raise_for_block()
    return verdict
