import asyncio
import copy
import gc
import logging
import os
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from guardreasoner_sdk import (
    BackendError,
    ClosedError,
    ConfigurationError,
    DeadlineError,
    Exchange,
    Guard,
    InputError,
    Judgement,
    Policy,
    UndeterminedError,
    Verdict,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def by_words(exchange: Exchange) -> Judgement:
    harmful = "harmful" if "bad" in exchange.prompt else "unharmful"
    if exchange.response is None:
        return judgement(harmful)
    return judgement(harmful, "compliance", "harmful" if "bad" in exchange.response else "unharmful")


@pytest.fixture
def guard() -> Iterator[Guard]:
    with Guard(judge=ScriptedJudge(by_words)) as made:
        yield made


def test_check_judges_prompt_and_response(guard: Guard) -> None:
    verdict = guard.check("good", "bad")
    assert not verdict.allowed
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.label == "unharmful"
    assert verdict.response_harmfulness is not None
    assert verdict.response_harmfulness.label == "harmful"
    assert verdict.reasons == ("response_harmfulness is harmful (score 1.00)",)
    assert (verdict.model, verdict.backend) == ("scripted", "scripted")
    assert guard.check("good").response_harmfulness is None


async def test_sync_and_async_give_the_same_inside_a_running_loop(guard: Guard) -> None:
    one, other = guard.check("bad"), await guard.acheck("bad")
    assert one.model_copy(update={"latency_ms": 0}) == other.model_copy(update={"latency_ms": 0})


def test_calls_from_many_threads_share_one_loop() -> None:
    loops = set()

    async def note(exchange: Exchange) -> Judgement:
        loops.add(asyncio.get_running_loop())
        return by_words(exchange)

    with Guard(judge=ScriptedJudge(note)) as guard, ThreadPoolExecutor(16) as pool:
        verdicts = list(pool.map(guard.check, [f"{'bad' if i % 3 else 'good'} {i}" for i in range(64)]))
        asyncio.run(guard.acheck("from another loop"))
    assert [verdict.allowed for verdict in verdicts] == [i % 3 == 0 for i in range(64)]
    assert len(loops) == 1


def test_messages(guard: Guard) -> None:
    messages = [{"role": "user", "content": "good"}, {"role": "assistant", "content": "bad"}]
    assert not guard.check_messages(messages).allowed
    assert guard.check_messages(messages[:1]).allowed


async def test_messages_async(guard: Guard) -> None:
    assert not (await guard.acheck_messages([{"role": "user", "content": "bad"}])).allowed


def test_many_keeps_order_and_survives_a_bad_row(guard: Guard) -> None:
    rows = ["good", ("good", "bad"), 7, {"prompt": ""}, {"prompt": "bad"}, Exchange("good", "fine")]
    verdicts = guard.check_many(rows)  # type: ignore[arg-type]
    assert [verdict.action for verdict in verdicts] == ["allow", "block", "block", "block", "block", "allow"]
    assert [verdict.undetermined for verdict in verdicts] == [False, False, True, True, False, False]
    assert verdicts[2].prompt_harmfulness is not None
    assert verdicts[2].prompt_harmfulness.cause == (
        "row: must be a row, not int; pass a str, a (prompt, response) pair, a mapping or an Exchange"
    )


@pytest.mark.parametrize("block", ["harmful_prompt", "harmful_response", "refusal"])
def test_a_bad_row_is_blocked_whatever_the_policy_looks_at(block: str) -> None:
    with Guard(judge=ScriptedJudge(by_words), policy=Policy(block={block})) as guard:
        assert [row.action for row in guard.check_many([7, {"prompt": "a", "response": 3}])] == ["block", "block"]  # type: ignore[list-item]


async def test_many_async_takes_any_iterable(guard: Guard) -> None:
    async def rows() -> AsyncIterator[str]:
        for i in range(70):
            yield f"{'bad' if i % 2 else 'good'} {i}"

    from_async = await guard.acheck_many(rows())
    from_generator = await guard.acheck_many(row for row in [f"{'bad' if i % 2 else 'good'} {i}" for i in range(70)])
    assert [verdict.allowed for verdict in from_async] == [i % 2 == 0 for i in range(70)]
    assert [verdict.allowed for verdict in from_generator] == [i % 2 == 0 for i in range(70)]


@pytest.mark.parametrize("rows", ["one text", {"prompt": "x"}, Exchange("x"), 4, None])
def test_many_refuses_what_is_one_row(guard: Guard, rows: object) -> None:
    with pytest.raises(InputError, match="^rows: must be an iterable of rows"):
        guard.check_many(rows)  # type: ignore[arg-type]


async def test_many_async_refuses_what_is_one_row(guard: Guard) -> None:
    with pytest.raises(InputError, match="^rows: must be an iterable of rows"):
        await guard.acheck_many("one text")


class Gate:
    """A judge whose answers wait until they are let go; it notes how many wait at once."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def __call__(self, exchange: Exchange) -> Judgement:
        self.now += 1
        self.most = max(self.most, self.now)
        for _ in range(20):
            await asyncio.sleep(0)
        self.now -= 1
        return judgement()


@pytest.mark.parametrize("concurrency", [1, 3])
def test_concurrency_of_a_batch_is_bounded(concurrency: int) -> None:
    gate = Gate()
    with Guard(judge=ScriptedJudge(gate), concurrency=concurrency) as guard:
        assert len(guard.check_many(str(i) for i in range(30))) == 30
        assert asyncio.run(guard.acheck_many(str(i) for i in range(30)))
    assert 1 <= gate.most <= concurrency


def test_a_batch_is_read_as_it_is_judged() -> None:
    read = []

    def endless() -> Iterator[str]:
        while True:
            read.append(1)
            yield "good"

    with Guard(judge=ScriptedJudge(by_words), concurrency=4) as guard:
        verdicts = guard.iter_many(endless())
        assert next(verdicts).allowed
        verdicts.close()  # type: ignore[attr-defined]
    assert len(read) <= 5


async def test_an_abandoned_async_batch_cancels_what_waits() -> None:
    started, cancelled = asyncio.Event(), threading.Event()
    here = asyncio.get_running_loop()

    async def hang(exchange: Exchange) -> Judgement:
        if exchange.prompt == "first":
            return judgement()
        here.call_soon_threadsafe(started.set)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("unreachable")

    async with Guard(judge=ScriptedJudge(hang), concurrency=2) as guard:
        verdicts = guard.aiter_many(["first", "second", "third"])
        assert (await anext(verdicts)).allowed
        await started.wait()
        await verdicts.aclose()  # type: ignore[attr-defined]
        assert await asyncio.to_thread(cancelled.wait, 10)


async def test_a_cancelled_check_cancels_the_judge() -> None:
    started, cancelled = asyncio.Event(), threading.Event()
    here = asyncio.get_running_loop()

    async def hang(exchange: Exchange) -> Judgement:
        here.call_soon_threadsafe(started.set)
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        raise AssertionError("unreachable")

    async with Guard(judge=ScriptedJudge(hang)) as guard:
        task = asyncio.create_task(guard.acheck("x"))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await asyncio.to_thread(cancelled.wait, 10)


@pytest.mark.parametrize(
    ("failure", "cause"),
    [
        (BackendError("the server is gone"), "the server is gone"),
        (DeadlineError("no answer within 2 s"), "no answer within 2 s"),
        (RuntimeError("secret text"), "the judge failed with RuntimeError"),
        (TimeoutError(), "no judgement before the deadline"),
    ],
)
@pytest.mark.parametrize("batch_size", [1, 3])
def test_a_failing_judge_is_never_safe(failure: Exception, cause: str, batch_size: int) -> None:
    judge = ScriptedJudge({"good": judgement()}, otherwise=failure, batch_size=batch_size)
    with Guard(judge=judge) as guard:
        verdicts = guard.check_many(["good", "x"])
        alone = guard.check("x", "y")
    assert not verdicts[1].allowed
    assert verdicts[1].prompt_harmfulness is not None
    assert verdicts[1].prompt_harmfulness.cause == cause
    # One bad row does not take its neighbours along, unless the time is over for all of them.
    assert verdicts[0].allowed or (batch_size == 3 and isinstance(failure, TimeoutError))
    assert all(finding.cause == cause for finding in alone.findings.values())
    assert len(alone.findings) == 3


def test_a_judge_that_miscounts_is_not_believed() -> None:
    class Short(ScriptedJudge):
        async def judge(self, exchanges: object, *, deadline: float | None) -> list[Judgement]:
            return []

    with Guard(judge=Short({})) as guard:
        verdict = guard.check("x")
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.cause == "the judge gave 0 judgements for 1 exchanges"


def test_a_judge_that_cannot_work_at_all_says_so() -> None:
    with Guard(judge=ScriptedJudge({}, otherwise=ConfigurationError("weights: missing"))) as guard:
        with pytest.raises(ConfigurationError, match="weights: missing"):
            guard.check("x")
        with pytest.raises(ConfigurationError, match="weights: missing"):
            guard.check_many(["x", "y"])


async def hang_for_ever(exchange: Exchange) -> Judgement:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


def test_a_deadline_gives_an_undetermined_verdict() -> None:
    with Guard(judge=ScriptedJudge(hang_for_ever), timeout=60) as guard:
        verdict = guard.check("x", timeout=0.01)
        many = guard.check_many(["x", "y"], timeout=0.01)
    assert not verdict.allowed
    assert verdict.reasons == (
        "prompt_harmfulness is undetermined (no judgement before the deadline); on_undetermined='block'",
    )
    assert [row.undetermined for row in many] == [True, True]


@pytest.mark.parametrize("timeout", [0, -1, float("inf"), float("nan"), "2", [1], True])
def test_a_timeout_must_be_a_time(guard: Guard, timeout: object) -> None:
    with pytest.raises(InputError, match="^timeout: is"):
        guard.check("x", timeout=timeout)  # type: ignore[arg-type]


async def test_on_undetermined_raise() -> None:
    policy = Policy(on_undetermined="raise")
    async with Guard(judge=ScriptedJudge({}, otherwise=BackendError("down")), policy=policy) as guard:
        with pytest.raises(UndeterminedError, match=r"undetermined \(down\)") as caught:
            guard.check("x")
        with pytest.raises(UndeterminedError):
            await guard.acheck("x")
        assert not caught.value.verdict.allowed
        assert [row.action for row in guard.check_many(["x", "y"])] == ["block", "block"]


def test_on_undetermined_allow_is_visible_in_verdict_and_log(caplog: pytest.LogCaptureFixture) -> None:
    policy = Policy(on_undetermined="allow")
    with (
        caplog.at_level(logging.WARNING, "guardreasoner_sdk"),
        Guard(judge=ScriptedJudge({}, otherwise=RuntimeError("SECRET")), policy=policy) as guard,
    ):
        verdict = guard.check("SECRET")
    assert verdict.allowed
    assert verdict.undetermined
    assert "on_undetermined='allow'" in verdict.reasons[0]
    assert "allowed undecided" in caplog.text
    assert "SECRET" not in caplog.text


def test_the_cache_is_off_unless_asked_for() -> None:
    judge = ScriptedJudge(by_words)
    with Guard(judge=judge) as guard:
        guard.check("good")
        assert not guard.check("good").cached
    assert len(judge.seen) == 2


def test_the_cache_remembers_what_was_decided() -> None:
    script = {"good": judgement(), "bad": judgement("harmful"), "third": judgement()}
    judge = ScriptedJudge(script, otherwise=BackendError("down"))
    with Guard(judge=judge, cache=2) as guard:
        assert not guard.check("good").cached
        again = guard.check("good")
        assert again.cached
        assert again.allowed
        guard.check("down")
        assert not guard.check("down").cached
        assert [row.cached for row in guard.check_many(["good", "bad", "good"])] == [True, False, True]
        guard.check("bad")
        assert len(judge.seen) == 4
        guard.check("third")
        assert not guard.check("good").cached, "the least recently used went first"


def test_an_empty_judgement_is_not_remembered() -> None:
    judge = ScriptedJudge({}, otherwise=Judgement())
    with Guard(judge=judge, cache=9) as guard:
        assert not guard.check("x").allowed
        assert not guard.check("x").cached


def test_events(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[Exchange, Verdict]] = []

    def note(exchange: Exchange, verdict: Verdict) -> None:
        told.append((exchange, verdict))
        raise RuntimeError("SECRET")

    with Guard(judge=ScriptedJudge(by_words), on_verdict=note) as guard:
        verdict = guard.check("good")
        guard.check_many(["bad", 4, "good"])  # type: ignore[list-item]
    assert [exchange.prompt for exchange, _ in told] == ["good", "bad", "good"]
    assert told[0][1] is verdict
    assert "on_verdict raised RuntimeError" in caplog.text
    assert "SECRET" not in caplog.text


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"judge": ScriptedJudge({}), "model": "embedded"}, "judge: pass either"),
        ({"on_verdict": hang_for_ever}, "on_verdict: must be a plain function"),
        ({"concurrency": 0}, "concurrency: must be a whole number"),
        ({"timeout": -1}, "timeout (or GUARDREASONER_TIMEOUT)"),
        ({"reasoning": "much"}, "reasoning (or GUARDREASONER_REASONING)"),
        ({"cache": True}, "cache: pass how many verdicts to remember"),
        ({"cache": -1}, "cache (or GUARDREASONER_CACHE)"),
        (
            {"model": "gpt-9"},
            "model: 'gpt-9' is neither in the catalogue nor a folder or GGUF file on this machine; known are embedded",
        ),
        ({"backend": "cuda"}, "backend: 'cuda' is unknown; known are embedded, vllm"),
        ({"backend": "vllm"}, "backend: 'vllm' does not run 'embedded'"),
        ({"base_url": "http://localhost:1"}, "base_url: no server runs 'embedded'; name the model that yours runs"),
    ],
)
def test_a_guard_that_cannot_work_is_refused_by_name(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Guard(**arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_settings_come_from_the_environment(monkeypatch: pytest.MonkeyPatch, tiny_model: Path) -> None:
    monkeypatch.setenv("GUARDREASONER_MODEL", str(tiny_model))
    monkeypatch.setenv("GUARDREASONER_ON_UNDETERMINED", "allow")
    monkeypatch.setenv("GUARDREASONER_ON_UNMEASURED", "undetermined")
    monkeypatch.setenv("GUARDREASONER_CACHE", "10")
    monkeypatch.setenv("GUARDREASONER_THREADS", "")
    with Guard() as guard:
        assert guard.policy.on_undetermined == "allow"
        assert guard.policy.on_unmeasured == "undetermined"
        guard.check("hello")
        assert guard.check("hello").cached
    monkeypatch.setenv("GUARDREASONER_TIMEOUT", "soon")
    with pytest.raises(ConfigurationError, match="GUARDREASONER_TIMEOUT"):
        Guard()


def test_the_key_is_never_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardreasoner_sdk.settings import Settings

    monkeypatch.setenv("GUARDREASONER_API_KEY", "sk-SECRET")
    assert "SECRET" not in repr(Settings())
    monkeypatch.setenv("GUARDREASONER_CACHE", "many")
    with pytest.raises(ConfigurationError) as caught:
        Guard(api_key="sk-SECRET")
    assert "SECRET" not in str(caught.value)


async def test_a_closed_guard_says_so() -> None:
    guard = Guard(judge=ScriptedJudge(by_words))
    guard.check("x")
    guard.close()
    guard.close()
    await guard.aclose()
    with pytest.raises(ClosedError):
        guard.check("x")
    with pytest.raises(ClosedError):
        await guard.acheck("x")
    with pytest.raises(ClosedError):
        guard.check_many(["x"])


def test_a_judge_that_fails_to_close_does_not_keep_the_loop() -> None:
    class Stuck(ScriptedJudge):
        async def aclose(self) -> None:
            raise OSError("stuck")

    before = set(threading.enumerate())
    guard = Guard(judge=Stuck(by_words))
    guard.check("x")
    assert set(threading.enumerate()) - before
    with pytest.raises(OSError, match="stuck"):
        guard.close()
    assert not set(threading.enumerate()) - before


async def test_closing_frees_the_judge_once() -> None:
    class Freed(ScriptedJudge):
        count = 0

        async def aclose(self) -> None:
            self.count += 1

    judge = Freed({})
    async with Guard(judge=judge) as guard:
        assert guard.judge is judge
    await guard.aclose()
    assert judge.count == 1


def test_closing_ends_those_who_wait() -> None:
    waiting = threading.Event()

    async def hang(exchange: Exchange) -> Judgement:
        waiting.set()
        return await hang_for_ever(exchange)

    guard = Guard(judge=ScriptedJudge(hang))
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(guard.check, "x")
        assert waiting.wait(10)
        guard.close()
        with pytest.raises(ClosedError, match="closed before it decided"):
            future.result(10)


async def test_closing_ends_those_who_await() -> None:
    waiting = threading.Event()

    async def hang(exchange: Exchange) -> Judgement:
        waiting.set()
        return await hang_for_ever(exchange)

    guard = Guard(judge=ScriptedJudge(hang))
    task = asyncio.create_task(guard.acheck("x"))
    assert await asyncio.to_thread(waiting.wait, 10)
    await guard.aclose()
    with pytest.raises(ClosedError, match="closed before it decided"):
        await task


def test_a_guard_left_open_does_not_keep_the_process_alive() -> None:
    import subprocess
    import sys

    code = (
        "from guardreasoner_sdk import Guard\n"
        "from guardreasoner_sdk.testing import ScriptedJudge, judgement\n"
        "print(Guard(judge=ScriptedJudge({}, otherwise=judgement())).check('x').action)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert (done.stdout, done.stderr) == ("allow\n", "")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_gets_a_loop_of_its_own(guard: Guard) -> None:
    guard.check("good")
    child = os.fork()
    if child == 0:
        blocked = not guard.check("bad").allowed
        guard.close()
        os._exit(0 if blocked else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    gc.collect()


def test_a_new_policy_holds_from_the_next_check_on() -> None:
    with Guard(judge=ScriptedJudge({"hi": judgement("harmful")})) as guard:
        assert not guard.check("hi").allowed
        guard.policy = Policy(block={"harmful_response"})
        assert guard.check("hi").allowed


async def test_an_exchange_is_checked_as_it_is(guard: Guard) -> None:
    exchange = Exchange("good", "bad", [{"role": "user", "content": "before"}])
    verdicts = [guard.check(exchange), await guard.acheck(exchange), *guard.check_many([exchange])]
    assert {verdict.blocked_by for verdict in verdicts} == {"finding"}
    assert guard.judge.seen == [exchange] * 3  # type: ignore[attr-defined]
    assert "".join(guard.stream(exchange, ["fine."])) == "fine."  # the chunks are the response
    assert guard.judge.seen[-1] == exchange.with_response("fine.")  # type: ignore[attr-defined]


@pytest.mark.parametrize("beside", [{"response": "yes"}, {"history": [{"role": "user", "content": "before"}]}])
def test_what_stands_beside_an_exchange_is_refused(guard: Guard, beside: dict[str, object]) -> None:
    with pytest.raises(InputError, match="is given beside an Exchange, which has its own"):
        guard.check(Exchange("good"), **beside)  # type: ignore[arg-type]


@pytest.mark.parametrize("take", [pickle.dumps, copy.copy, copy.deepcopy])
def test_a_guard_for_another_process_is_refused_with_what_to_do(guard: Guard, take: Callable[[Guard], object]) -> None:
    with pytest.raises(TypeError, match="build one in each process, for example in the initializer of a ProcessPoolExecutor"):
        take(guard)
