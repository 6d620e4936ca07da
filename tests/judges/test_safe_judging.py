"""Whatever a judge of one's own does, the finding is undetermined and the guard goes on working."""

from __future__ import annotations

import asyncio
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from guardreasoner_sdk import BackendError, ConfigurationError, Exchange, Guard, Judgement
from guardreasoner_sdk.judges.base import is_direct
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.testing import ScriptedJudge, judgement

FINE = judgement("unharmful", "compliance", "unharmful")
OWN = "the judge used the guard that it judges for; give it a guard of its own"

Acting = Callable[[Sequence[Exchange]], Any]


class Hosted:
    """A judge on the guard's loop that does for the prompt ``odd`` whatever it is told."""

    model = backend = "own"

    def __init__(self, act: Acting, batch_size: int = 4) -> None:
        self.act = act
        self.batch_size = batch_size

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        if not any(exchange.prompt == "odd" for exchange in exchanges):
            return [FINE] * len(exchanges)
        done = self.act(exchanges)
        return await done if asyncio.iscoroutine(done) or isinstance(done, asyncio.Future) else done

    async def aclose(self) -> None: ...


class Direct(Hosted):
    """The same in the calling thread; it says nowhere that it is direct."""

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        return self.act(exchanges) if any(exchange.prompt == "odd" for exchange in exchanges) else [FINE] * len(exchanges)


KINDS = pytest.mark.parametrize("kind", [Hosted, Direct])


def bounded(function: Callable[[], Any]) -> Any:
    """What a function returns, in a thread that may hang without holding up the tests."""
    found: list[Any] = []

    def run() -> None:
        try:
            found.append(function())
        except BaseException as error:
            found.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(60)
    assert found, "it hangs"
    if isinstance(found[0], BaseException):
        raise found[0]
    return found[0]


def cause(verdict: Any) -> str | None:
    assert not verdict.allowed
    assert {finding.label for finding in verdict.findings.values()} == {"undetermined"}
    return verdict.prompt_harmfulness.cause


def raising(error: BaseException) -> Acting:
    def act(_: Sequence[Exchange]) -> Any:
        raise error

    return act


@KINDS
@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([None], "the judge gave NoneType, not a judgement"),
        (["harmful"], "the judge gave str, not a judgement"),
        ([{"prompt_harmfulness": "unharmful"}], "the judge gave dict, not a judgement"),
        ([[FINE]], "the judge gave list, not a judgement"),
        (None, "the judge gave NoneType, not a list of judgements"),
        (True, "the judge gave bool, not a list of judgements"),
        (FINE, "the judge gave Judgement, not a list of judgements"),
        ("x", "the judge gave str, not a list of judgements"),
        ({0: FINE}, "the judge gave dict, not a list of judgements"),
        (iter([FINE]), "the judge gave list_iterator, not a list of judgements"),
        ([], "the judge gave 0 judgements for 1 exchanges"),
        ([FINE, FINE], "the judge gave 2 judgements for 1 exchanges"),
    ],
)
def test_what_is_no_judgement_for_each_exchange_is_undetermined(kind: type[Hosted], given: Any, said: str) -> None:
    with Guard(judge=kind(lambda _: given)) as guard:
        assert cause(guard.check("odd", "answer")) == said
        assert cause(asyncio.run(guard.acheck("odd"))) == said
        assert guard.check("even").allowed


@KINDS
def test_one_judgement_that_is_none_costs_its_row_alone(kind: type[Hosted]) -> None:
    asked: list[int] = []

    def act(exchanges: Sequence[Exchange]) -> Any:
        asked.append(len(exchanges))
        return [None if exchange.prompt == "odd" else FINE for exchange in exchanges]

    with Guard(judge=kind(act)) as guard:
        assert [verdict.allowed for verdict in guard.check_many(["even", "odd", "even"])] == [True, False, True]
    assert asked == [3]


class Odd(BaseException):
    """Nobody's error."""


@KINDS
@pytest.mark.parametrize("error", [SystemExit(3), Odd(), asyncio.CancelledError(), RecursionError(), StopAsyncIteration()])
def test_whatever_a_judge_raises_is_undetermined_and_the_guard_goes_on(kind: type[Hosted], error: BaseException) -> None:
    with Guard(judge=kind(raising(error))) as guard:
        said = f"the judge failed with {type(error).__name__}"
        assert cause(bounded(lambda: guard.check("odd"))) == said
        assert cause(bounded(lambda: asyncio.run(guard.acheck("odd")))) == said
        # One row of a batch that fails costs the others nothing.
        many = bounded(lambda: guard.check_many(["even", "odd", "even"]))
        assert [verdict.allowed for verdict in many] == [True, False, True]
        assert bounded(lambda: guard.check("even")).allowed


def test_a_task_of_the_judges_own_that_exits_ends_nothing_else() -> None:
    async def leave() -> None:
        sys.exit(3)

    waiting = threading.Event()

    async def act(_: Sequence[Exchange]) -> Any:
        await asyncio.to_thread(waiting.wait, 60)
        await asyncio.create_task(leave())

    class Patient(Hosted):
        async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            if exchanges[0].prompt == "patient":
                waiting.set()
                await asyncio.sleep(0.2)
            return await super().judge(exchanges, deadline=deadline)

    with Guard(judge=Patient(act)) as guard:

        async def both() -> list[Any]:
            return await asyncio.gather(guard.acheck("odd"), guard.acheck("patient"))

        odd, patient = bounded(lambda: asyncio.run(both()))
        assert cause(odd) == "the judge failed with SystemExit"
        assert patient.allowed
        assert bounded(lambda: guard.check("even")).allowed


@KINDS
def test_an_interrupt_reaches_the_caller(kind: type[Hosted]) -> None:
    with Guard(judge=kind(raising(KeyboardInterrupt()))) as guard:
        with pytest.raises(KeyboardInterrupt):
            bounded(lambda: guard.check("odd"))
        assert bounded(lambda: guard.check("even")).allowed


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="no such signal here")
def test_the_exit_of_a_signals_handler_reaches_the_caller_though_it_hits_the_judge() -> None:
    class Server:
        def leave(self, *_: Any) -> None:
            sys.exit(7)

    def act(_: Sequence[Exchange]) -> Any:
        signal.raise_signal(signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, Server().leave)
    try:
        with Guard(judge=Direct(act)) as guard, pytest.raises(SystemExit) as raised:
            guard.check("odd")
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert raised.value.code == 7


async def test_a_cancelled_check_stays_cancelled() -> None:
    started = threading.Event()

    async def act(_: Sequence[Exchange]) -> Any:
        started.set()
        await asyncio.Event().wait()

    async with Guard(judge=Hosted(act)) as guard:
        task = asyncio.create_task(guard.acheck("odd"))
        assert await asyncio.to_thread(started.wait, 60)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await guard.acheck("even")).allowed


# A judge that calls its own guard


def asks_at_once(guard: Guard) -> Any:
    return guard.check("again")


def asks_for_a_batch(guard: Guard) -> Any:
    return guard.check_many(["again"])


def loads(guard: Guard) -> Any:
    return guard.load()


def closes(guard: Guard) -> Any:
    return guard.close()


@KINDS
@pytest.mark.parametrize("use", [asks_at_once, asks_for_a_batch, loads, closes])
def test_a_judge_cannot_use_its_own_guard(kind: type[Hosted], use: Callable[[Guard], Any]) -> None:
    judge = kind(lambda _: use(guard))
    guard = Guard(judge=judge)
    assert cause(bounded(lambda: guard.check("odd"))) == OWN
    assert bounded(lambda: guard.check("even")).allowed
    bounded(guard.close)


@pytest.mark.parametrize("ask", [lambda guard: guard.acheck("odd"), lambda guard: asyncio.to_thread(guard.check, "odd")])
def test_not_even_by_a_task_or_a_thread(ask: Callable[[Guard], Any]) -> None:
    guard = Guard(judge=Hosted(lambda _: ask(guard)))
    assert cause(bounded(lambda: guard.check("odd", timeout=30))) == OWN
    assert bounded(lambda: guard.check("even")).allowed
    bounded(guard.close)


@KINDS
def test_not_by_way_of_another_guard_either(kind: type[Hosted]) -> None:
    outer = Guard(judge=kind(lambda _: [judgement("unharmful") if inner.check("odd").allowed else judgement("harmful")]))
    inner = Guard(judge=kind(lambda _: [FINE if outer.check("odd") else None]))
    verdict = bounded(lambda: outer.check("odd"))
    assert verdict.reasons == ("prompt_harmfulness is harmful (score 1.00)",)  # what the inner one could not decide
    bounded(outer.close)
    bounded(inner.close)


def test_a_judge_may_ask_another_guard() -> None:
    with (
        Guard(judge=ScriptedJudge({}, otherwise=judgement("harmful"))) as inner,
        Guard(judge=Direct(lambda _: [judgement("unharmful") if inner.check("x").allowed else judgement("harmful")])) as outer,
    ):
        assert outer.check("odd").reasons == ("prompt_harmfulness is harmful (score 1.00)",)


# What is asked of a judge, and when


def test_asking_whether_a_judge_is_direct_loads_nothing() -> None:
    class Loads(Direct):
        @property
        def model(self) -> str:  # type: ignore[override]
            raise AssertionError("the weights are loaded")

    judge = Loads(lambda _: [])
    assert is_direct(judge)
    assert not is_direct(Hosted(lambda _: []))
    missing = EmbeddedJudge("there/is/no/such/folder")
    with Guard(judge=judge) as one, Guard(judge=missing) as other:
        assert one.check_many([]) == other.check_many([]) == []
        with pytest.raises(ConfigurationError, match="is missing"):
            other.check("x")


def test_a_direct_judge_is_not_asked_about_nothing() -> None:
    asked: list[int] = []

    class Counting(Direct):
        def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            asked.append(len(exchanges))
            return [FINE] * len(exchanges)

    with Guard(judge=Counting(lambda _: []), cache=10) as guard:
        assert [guard.check("x").cached for _ in range(3)] == [False, True, True]
        assert guard.check_many(["x", ("x", None)])[1].cached
        assert guard.check_many([7, {"prompt": ""}])[0].undetermined  # type: ignore[list-item]
    assert asked == [1]


@KINDS
@pytest.mark.parametrize("size", [0, -1, None, True, 1.5, "8"])
def test_a_judge_that_takes_no_batch_is_refused(kind: type[Hosted], size: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^judge\.batch_size: must be a whole number from 1, not"):
        Guard(judge=kind(lambda _: [], batch_size=size))


def test_rows_tried_alone_after_a_batch_failed_do_not_wait_for_each_other() -> None:
    together = asyncio.Event()

    async def act(exchanges: Sequence[Exchange]) -> Any:
        if len(exchanges) > 1:
            raise BackendError("not all at once")
        await together.wait()

    class Others(Hosted):
        async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
            if exchanges[0].prompt == "last":
                together.set()
            return await super().judge(exchanges, deadline=deadline)

    with Guard(judge=Others(act)) as guard:
        verdicts = guard.check_many(["odd", "last"], timeout=30)
    assert cause(verdicts[0]) == "the judge gave NoneType, not a list of judgements"
    assert verdicts[1].allowed
