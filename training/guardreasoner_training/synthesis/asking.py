"""Asking a teacher about many rows at a time, each until its answer is good or its tries are used up."""

from __future__ import annotations

import asyncio
import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from guardreasoner_sdk.errors import InputError
from guardreasoner_training.formats import Format
from guardreasoner_training.recipe import SynthesisSettings
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.synthesis.budget import Budget, Prices, TokenCost
from guardreasoner_training.synthesis.examined import Accepted, Reason, examine_answer
from guardreasoner_training.synthesis.ledger import Ledger, LedgerEntry
from guardreasoner_training.synthesis.questions import question
from guardreasoner_training.synthesis.teacher import Failure, Patience, Teacher, TeacherAnswer

__all__ = ["StoppedError", "ask_all"]

_PAUSE = 10.0
"""Seconds between two reports."""

_LEAST_ROUNDS = 2
"""How often a row is asked in a run, at least, before the run ends for want of an answer: now, and after all others."""

_NAMED = 3
"""Rows that an error names."""


class StoppedError(InputError):
    """Asking ended before all rows were answered; the field is the setting that it is about."""


async def ask_all(
    rows: Sequence[TrainingRow],
    ledger: Ledger,
    settings: SynthesisSettings,
    format: Format,
    report: Callable[[str], None],
    *,
    patience: Patience | None = None,
) -> None:
    """Ask about rows until each has a good answer or no try left.

    Args:
        rows: those with a label; no two are asked the same.
        ledger: what is known of them, and gets to be.
        patience: with a teacher that is out; None: the usual one.

    Raises:
        StoppedError: the budget does not last, or the teacher answers no more.
        ConfigurationError: it refuses the key, the model or the requests.
        InputError: an answer cannot be kept.
        asyncio.CancelledError: Ctrl-C; the answers under way were waited for.
    """
    waiting = [row for row in rows if ledger.of(row).open(settings.attempts)]
    if not waiting:
        return  # and no key is needed
    asking = _Asking(waiting, len(rows), ledger, settings, format, report, patience)
    try:
        await asking.run()
    finally:
        await asking.teacher.close()


@dataclass(slots=True)
class _Outages:
    """Of a row: how often the server was out when it was asked in this run.

    Args:
        row: its name.
        since: when that happened first.
        count: how often.
        by_question: whether it may have been the question's doing every time.
        detail: what happened last, in one clause.
    """

    row: str
    since: float
    count: int = 0
    by_question: bool = True
    detail: str = ""


class _Asking:
    def __init__(
        self,
        waiting: Sequence[TrainingRow],
        total: int,
        ledger: Ledger,
        settings: SynthesisSettings,
        format: Format,
        report: Callable[[str], None],
        patience: Patience | None,
    ) -> None:
        self.teacher = Teacher(settings, proven=ledger.proven, patience=patience)
        self._ledger = ledger
        self._settings = settings
        self._format = format
        self._report = report
        self._total = total
        self._settled = total - len(waiting)
        self._waiting = deque(waiting)
        self._outages: dict[str, _Outages] = {}
        prices = Prices(settings.price_input, settings.price_output)
        self._budget = Budget(settings.budget_tokens, settings.budget_money, prices, spent=ledger.spent.total)
        self._stopping = asyncio.Event()
        self._problem: BaseException | None = None
        self._alive = -math.inf  # when the last request began that was answered
        self._in_vain = 0
        self._most_in_vain = settings.concurrency * settings.attempts + 1
        self._told = time.monotonic()

    async def run(self) -> None:
        workers = [asyncio.create_task(self._work()) for _ in range(min(self._settings.concurrency, len(self._waiting)))]
        try:
            await asyncio.wait(workers)
        except asyncio.CancelledError:
            self._stopping.set()
            self._report("stopping: the answers under way are waited for (Ctrl-C again drops them)")
            await asyncio.wait(workers)
            raise
        finally:
            for worker in workers:
                worker.cancel()
        if self._problem is not None:
            raise self._problem
        self._check_all_asked()

    async def _work(self) -> None:
        try:
            while self._waiting and not self._stopping.is_set():
                await self._ask(self._waiting.popleft())
        except Exception as error:
            # The others finish what they have begun: their answers are paid for.
            self._stop(error)

    def _stop(self, problem: BaseException) -> None:
        self._problem = self._problem or problem
        self._stopping.set()

    async def _ask(self, row: TrainingRow) -> None:
        """Ask about a row until it is settled, or to be asked again later."""
        while not self._stopping.is_set() and self._ledger.of(row).open(self._settings.attempts):
            outages = await self._try(row)
            if outages is not None:
                if outages.count < max(_LEAST_ROUNDS, self._settings.attempts):
                    self._waiting.append(row)
                return
        if not self._stopping.is_set():
            self._outages.pop(row.id, None)
            self._settled += 1
            self._tell()

    async def _try(self, row: TrainingRow) -> _Outages | None:
        """Ask once, and keep what came of it; where the server was out, that was no try, and its outages are given back."""
        messages = question(row, self._format)
        most = self.teacher.most(messages)
        if not await self._budget.enter(most):
            field, problem = self._budget.reached()
            self._stop(StoppedError(field, f"{problem}, and the next request may cost more than is left", "raise it"))
            return None
        cost = TokenCost()
        outages = None
        try:
            if self._stopping.is_set():
                return None
            began = time.monotonic()
            outcome = await self.teacher.ask(messages, self._stopping)
            if isinstance(outcome, Failure) and outcome.outage:
                if self._stopping.is_set():
                    return None  # it was not repeated as often as it should
                outages = self._outage(row, outcome)
            tried = outages is None or self._by_question(outages)
            if tried:
                entry = self._entry(row, outcome, most)
                cost = TokenCost(entry.input_tokens, entry.output_tokens)
                self._ledger.write(entry)
        finally:
            await self._budget.leave(most, cost)
        if outages is None:
            self._outages.pop(row.id, None)
        if outages is None or not tried:
            self._watch(outcome, began)
        return None if tried else outages

    def _outage(self, row: TrainingRow, failure: Failure) -> _Outages:
        outages = self._outages.setdefault(row.id, _Outages(row.id, time.monotonic()))
        outages.count += 1
        outages.by_question = outages.by_question and failure.by_question
        outages.detail = failure.detail
        return outages

    def _by_question(self, outages: _Outages) -> bool:
        """Whether it is the question that the server fails on: it has answered others that it was asked in the meantime."""
        return outages.by_question and self._alive > outages.since

    def _watch(self, outcome: TeacherAnswer | Failure, began: float) -> None:
        """Stop where the teacher has gone silent."""
        if isinstance(outcome, TeacherAnswer) or outcome.reason not in ("no_answer", "failed", "unreadable"):
            self._alive = max(self._alive, began)
            self._in_vain = 0
            return
        self._in_vain += 1
        if self._in_vain >= self._most_in_vain:
            problem = f"the teacher gave no answer {self._in_vain} times in a row ({outcome.detail})"
            self._stop(StoppedError("synthesize", problem, "see to the teacher"))

    def _check_all_asked(self) -> None:
        """See that no row is left about which the server was out every time.

        Raises:
            StoppedError: there are such rows.
        """
        left = sorted(self._outages.values(), key=lambda one: one.row)
        if not left:
            return
        named = ", ".join(one.row[:80] for one in left[:_NAMED]) + (" ..." if len(left) > _NAMED else "")
        problem = f"the teacher gave no answer about {named} ({left[-1].detail})"
        # An engine that a question has brought down answers no other one: which it was cannot be told from here.
        alone = all(one.by_question for one in left)
        raise StoppedError("synthesize", problem, "see to the teacher" + (", or leave these rows out," if alone else ""))

    def _tell(self) -> None:
        if time.monotonic() - self._told < _PAUSE:
            return
        self._told = time.monotonic()
        spent = self._ledger.spent
        money = self._budget.prices.of(spent.total)
        self._report(
            f"synthesis: {self._settled:,} of {self._total:,} rows, {spent.answers['accepted']:,} accepted, "
            f"{spent.total.tokens:,} tokens" + (f", {money:.2f} spent" if money else "")
        )

    def _entry(self, row: TrainingRow, outcome: TeacherAnswer | Failure, most: TokenCost) -> LedgerEntry:
        """A line of the journal."""
        found: Accepted | Reason
        if isinstance(outcome, Failure):
            cost = outcome.cost or (most if outcome.perhaps_paid else TokenCost())
            assumed = outcome.cost is None and outcome.perhaps_paid
            found = outcome.reason
        else:
            cost, assumed = outcome.cost or most, outcome.cost is None
            found = "refused" if outcome.refused else examine_answer(outcome.text, outcome.finish, row, self._format)
        return LedgerEntry(
            key=self._ledger.key(row),
            id=row.id,
            model=self._settings.model,
            outcome="accepted" if isinstance(found, Accepted) else found,
            text=None if isinstance(outcome, Failure) else outcome.text,
            final=isinstance(outcome, Failure) and outcome.final,
            max_tokens=self._settings.max_tokens,
            temperature=self._settings.temperature,
            input_tokens=cost.input,
            output_tokens=cost.output,
            assumed=assumed,
        )
