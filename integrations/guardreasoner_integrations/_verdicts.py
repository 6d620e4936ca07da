"""Which of several verdicts counts."""

from __future__ import annotations

from collections.abc import Sequence

from guardreasoner_sdk.verdict import Verdict

__all__ = ["decisive"]


def decisive(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that counts among those on the parts of a whole: a finding before a failure to decide; None for no part."""
    return min(verdicts, key=lambda verdict: ("finding", "failure", None).index(verdict.blocked_by), default=None)
