"""What was decided before a deadline stays decided, and nobody works on for those who have gone."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from guardreasoner_sdk import DeadlineError, Exchange, Guard, Judgement
from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.judges.base import check_deadline
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.judges.reasoner import ReasonerJudge
from guardreasoner_sdk.testing import ScriptedJudge, judgement

SAFE = Completion("Answers: \nRequest: unharmful\nCompletion: None\nResponse: None", "stop")
LATE = "no judgement before the deadline"

Answering = Callable[[Query, float | None], Any]


class Engine:
    """An engine that does what it is told with a query."""

    name = "engine"
    model = "m"
    batch_size = 8

    def __init__(self, answer: Answering, *, probes: bool = False) -> None:
        self._answer = answer
        self.capabilities = Capabilities(continues=True, probes=probes)

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        answers = [self._answer(query, deadline) for query in queries]
        return [await answer if asyncio.iscoroutine(answer) else answer for answer in answers]

    async def load(self) -> None: ...

    async def aclose(self) -> None: ...


def text(query: Query) -> str:
    return "".join(piece.text for piece in query.pieces)


def reasoner(answer: Answering, **options: Any) -> ReasonerJudge:
    return ReasonerJudge(GuardReasonerDialect(), Engine(answer, **options), reasoning="full")


async def hang(_: Any = None) -> Any:
    await asyncio.Event().wait()


def stall_at(deadline: float | None) -> None:
    """Let nothing run on this loop from a moment before the deadline until long after every grace."""
    assert deadline is not None
    loop = asyncio.get_running_loop()
    loop.call_later(deadline - time.monotonic() - 0.01, time.sleep, 1.0)


def labels(verdicts: Sequence[Any]) -> list[str]:
    return [verdict.prompt_harmfulness.label for verdict in verdicts]


def test_a_row_that_hangs_takes_no_other_along_though_every_timer_is_due_at_once() -> None:
    def answer(query: Query, deadline: float | None) -> Any:
        if "hang" not in text(query):
            return SAFE
        stall_at(deadline)
        return hang()

    with Guard(judge=reasoner(answer), timeout=0.3) as guard:
        verdicts = guard.check_many(["one", "hang", "three"])
        again = asyncio.run(guard.acheck_many(["one", "hang", "three"]))
    assert labels(verdicts) == labels(again) == ["unharmful", "undetermined", "unharmful"]
    assert verdicts[1].prompt_harmfulness is not None
    assert verdicts[1].prompt_harmfulness.cause == LATE


def test_what_a_cascade_has_decided_stays_decided_though_its_second_judge_hangs() -> None:
    def answer(query: Query, deadline: float | None) -> Any:
        stall_at(deadline)
        return hang()

    first = ScriptedJudge({"clear": judgement()}, otherwise=judgement("undetermined"), batch_size=8)
    with Guard(judge=CascadeJudge(first, reasoner(answer)), timeout=0.3) as guard:
        assert labels(guard.check_many(["clear", "doubtful", "clear"])) == ["unharmful", "undetermined", "unharmful"]


def test_a_label_that_was_read_in_time_does_not_wait_for_its_probability() -> None:
    def answer(query: Query, deadline: float | None) -> Any:
        if not query.continuation:
            return SAFE

        async def until_the_deadline() -> Any:
            async with Deadline.of(deadline).scope():
                await hang()

        async def answered() -> Any:
            try:
                return await until_the_deadline()
            except TimeoutError:
                return DeadlineError()

        return answered()

    with Guard(judge=reasoner(answer, probes=True), timeout=0.3) as guard:
        verdict = guard.check("x")
    assert verdict.prompt_harmfulness is not None
    assert (verdict.prompt_harmfulness.label, verdict.prompt_harmfulness.score) == ("unharmful", None)


def test_a_row_that_fails_is_not_asked_about_again_and_neither_are_the_others() -> None:
    asked: list[str] = []

    def answer(query: Query, deadline: float | None) -> Any:
        asked.append(text(query))
        if "fail" in text(query):
            raise KeyError("the judged text")
        return SAFE

    with Guard(judge=reasoner(answer)) as guard:
        verdicts = guard.check_many(["one", "fail", "three"])
    assert labels(verdicts) == ["unharmful", "undetermined", "unharmful"]
    assert verdicts[1].prompt_harmfulness is not None
    assert verdicts[1].prompt_harmfulness.cause == "the judge failed with KeyError"
    assert len(asked) == 3


def test_an_engine_that_exits_in_one_row_ends_neither_the_others_nor_the_guard() -> None:
    def answer(query: Query, deadline: float | None) -> Any:
        if "exit" in text(query):
            raise SystemExit(3)
        return SAFE

    with Guard(judge=reasoner(answer), timeout=60) as guard:
        assert labels(guard.check_many(["one", "exit", "three"])) == ["unharmful", "undetermined", "unharmful"]
        assert guard.check("after").allowed


def test_a_judge_that_hands_out_what_it_has_at_the_deadline_is_heard() -> None:
    class Partial(ScriptedJudge):
        async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            assert deadline is not None
            await asyncio.sleep(deadline - time.monotonic())
            return [judgement() if exchange.prompt == "done" else judgement("undetermined") for exchange in exchanges]

    with Guard(judge=Partial({}, batch_size=2), timeout=0.1) as guard:
        assert labels(guard.check_many(["done", "not yet"])) == ["unharmful", "undetermined"]


async def test_a_cancelled_check_of_the_embedded_guard_stops_its_thread() -> None:
    begun, ended = threading.Event(), threading.Event()
    came: list[BaseException | None] = []

    class Endless(EmbeddedJudge):
        def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            begun.set()
            try:
                for _ in range(2000):
                    check_deadline(deadline)
                    time.sleep(0.005)
                came.append(None)
            except DeadlineError as error:
                came.append(error)
            finally:
                ended.set()
            return []

        async def load(self) -> None: ...

    async with Guard(judge=Endless()) as guard:
        task = asyncio.create_task(guard.acheck("x"))
        assert await asyncio.to_thread(begun.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(ended.wait, 60)
    assert isinstance(came[0], DeadlineError)


# The value itself


def test_a_deadline_is_the_float_that_judges_of_ones_own_expect() -> None:
    seen: list[Any] = []

    class Looking(ScriptedJudge):
        async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            seen.append(deadline)
            return [judgement()]

    with Guard(judge=Looking({})) as guard:
        before = time.monotonic()
        guard.check("x", timeout=50)
        guard.check("x")
    assert isinstance(seen[0], float)
    assert before + 50 <= seen[0] <= time.monotonic() + 50
    assert seen[1] is None


def test_a_deadline_passes_by_itself_or_when_it_is_called_off() -> None:
    assert Deadline.of(None).remaining() == math.inf
    assert not Deadline.of(None).passed
    assert Deadline.after(-1).passed
    assert Deadline.after(-1).remaining() == 0.0
    later = Deadline.after(60)
    assert Deadline.of(later) is later
    later.check()
    later.call_off()
    assert later.remaining() == 0.0
    for gone in (later, time.monotonic() - 1):
        with pytest.raises(DeadlineError):
            check_deadline(gone)
    check_deadline(None)


async def test_what_a_scope_ends_has_passed() -> None:
    for _ in range(20):
        deadline = Deadline.after(0.002)
        with pytest.raises(TimeoutError):
            async with deadline.scope():
                await hang()
        assert deadline.passed
    async with Deadline.of(None).scope(0.1):
        pass
