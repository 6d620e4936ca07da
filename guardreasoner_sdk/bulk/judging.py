"""Rows as they stand in a file to verdicts, in order: what ``check --file`` and every worker of a bulk job do alike."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from guardreasoner_sdk.data.check_rows import CheckRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.guard import Guard
from guardreasoner_sdk.verdict import Judgement, Verdict

__all__ = ["judge_rows"]


def judge_rows(guard: Guard, rows: Iterable[CheckRow]) -> Iterator[tuple[CheckRow, Verdict]]:
    """Judge rows, an engine batch at a time. One that cannot be read is undetermined, and says why."""
    waiting: deque[CheckRow] = deque()

    def exchanges() -> Iterator[Exchange | tuple[()]]:
        for row in rows:
            waiting.append(row)
            # An empty tuple is no row to the guard: it keeps the place, bounded in memory as every other row.
            yield () if row.exchange is None else row.exchange

    for verdict in guard.iter_many(exchanges()):
        row = waiting.popleft()
        yield row, verdict if row.cause is None else _unreadable(guard, row, row.cause)


def _unreadable(guard: Guard, row: CheckRow, cause: str) -> Verdict:
    judgement = Judgement.unable(cause, response=row.response)
    return guard.policy.verdict(judgement, response=row.response, model=guard.judge.model, backend=guard.judge.backend)
