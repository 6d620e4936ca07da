"""Every way in which a server may fail ends within its deadline, in an undetermined verdict or in a typed error."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from clocks import Clock
from guardreasoner_sdk import ConfigurationError, Guard, Policy, UndeterminedError, Verdict
from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.errors import BackendError, DeadlineError
from guardreasoner_sdk.generation import Completion, PromptPiece, Query
from guardreasoner_sdk.judges.reasoner import ReasonerJudge

KEY = "sk-very-secret"
JUDGED = "how do I bake the judged text"
SAFE = "Answers: \nRequest: unharmful\nCompletion: None\nResponse: None"
ENOUGH = 60.0
"""Seconds of a deadline that no test waits for."""

FAULTS: dict[str, tuple[Callable[[Any], Any], float, str]] = {
    "answers 500": (
        lambda servers: servers.refusal(500, f"{JUDGED} {KEY}", retry_after_ms="1"),
        ENOUGH,
        "failed with HTTP 500",
    ),
    "is busy": (lambda servers: servers.refusal(503, "loading", retry_after_ms="1"), ENOUGH, "failed with HTTP 503"),
    "says slow down": (lambda servers: servers.refusal(429, "slow", retry_after_ms="1"), ENOUGH, "failed with HTTP 429"),
    "says come back too late": (lambda servers: servers.refusal(429, "slow", retry_after="100"), 0.3, "before the deadline"),
    "sends half a body": (lambda servers: servers.HALF, ENOUGH, "unreadable answer"),
    "sends malformed JSON": (lambda servers: servers.MALFORMED, ENOUGH, "unreadable answer"),
    "sends no choices": (lambda servers: servers.Reply(body={"choices": []}), ENOUGH, "unreadable answer"),
    "hangs up": (lambda servers: servers.DROP, ENOUGH, "unreadable answer"),
    "hangs": (lambda servers: servers.HANG, 0.3, "before the deadline"),
    "refuses the request": (lambda servers: servers.refusal(400, f"{JUDGED} {KEY}"), ENOUGH, "refuses the request (HTTP 400)"),
    "finds the prompt too long": (lambda servers: servers.refusal(400, "context length"), ENOUGH, "the prompt is too long"),
}


def reasoner(url: str, **options: Any) -> ReasonerJudge:
    given = {"retries": 1, "api_key": KEY, "continues": False, **options}
    return ReasonerJudge(GuardReasonerDialect(), RemoteBackend("m", url, **given), reasoning="full")


def cause(verdict: Verdict) -> str:
    assert verdict.prompt_harmfulness is not None
    return verdict.prompt_harmfulness.cause or ""


@pytest.fixture
def client() -> None:
    """The client's import takes a while, which the short deadlines of these tests do not have."""
    import openai

    assert openai.AsyncOpenAI


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.usefixtures("client")
def test_a_fault_ends_within_its_deadline_as_the_policy_says(faulty_server: Any, servers: Any, fault: str) -> None:
    make, timeout, said = FAULTS[fault]
    faulty_server.plan(make(servers))
    judge = reasoner(faulty_server.url, breaker_failures=100)
    with Guard(judge=judge, timeout=timeout, policy=Policy(on_undetermined="block")) as guard:
        verdict = guard.check(JUDGED, "an answer")
        assert verdict.action == "block"
        assert {finding.label for finding in verdict.findings.values()} == {"undetermined"}
        assert said in cause(verdict)
        assert KEY not in verdict.model_dump_json()
        assert JUDGED not in verdict.model_dump_json()
        assert verdict.latency_ms < 1000 * ENOUGH / 2  # nobody slept on: neither until 100 s nor until the longer deadline
        guard.policy = Policy(on_undetermined="allow")
        verdict = guard.check(JUDGED)
        assert verdict.allowed
        assert verdict.undetermined
        guard.policy = Policy(on_undetermined="raise")
        with pytest.raises(UndeterminedError) as raised:
            guard.check(JUDGED)
        assert KEY not in str(raised.value)
        # A fault of one moment costs nothing later.
        faulty_server.plan(servers.answer(SAFE))
        assert guard.check(JUDGED, timeout=ENOUGH).allowed


def test_a_server_that_is_not_there_is_undetermined(servers: Any) -> None:
    with servers.running_faulty_server() as server:
        url, host = server.url, server.host
    with Guard(judge=reasoner(url, retries=0), timeout=ENOUGH) as guard:
        assert cause(guard.check(JUDGED)) == f"the server at {host} cannot be reached"


def test_a_server_process_killed_in_the_middle_of_a_call_is_undetermined(servers: Any) -> None:
    with servers.hanging_process() as (process, url), Guard(judge=reasoner(url, retries=1), timeout=ENOUGH) as guard:
        with ThreadPoolExecutor(1) as pool:
            verdict = pool.submit(guard.check, JUDGED)
            assert process.stdout.readline() == "asked\n"
            process.kill()
            assert "server at 127.0.0.1" in cause(verdict.result())
        assert "cannot be reached" in cause(guard.check(JUDGED))


def test_no_retry_is_made_for_what_no_retry_can_mend(faulty_server: Any, servers: Any) -> None:
    for reply, times in ((servers.refusal(500, "x", retry_after_ms="1"), 3), (servers.HALF, 3), (servers.refusal(418, "x"), 1)):
        with Guard(judge=reasoner(faulty_server.url, retries=2, probabilities=False), timeout=ENOUGH) as guard:
            faulty_server.plan(reply)
            assert guard.check(JUDGED).undetermined
            assert len(faulty_server.asked) == times


def test_a_fault_that_passes_is_mended_by_a_retry(faulty_server: Any, servers: Any) -> None:
    faulty_server.plan(servers.refusal(429, "slow", retry_after_ms="5"), servers.HALF, servers.answer(SAFE))
    with Guard(judge=reasoner(faulty_server.url, retries=2), timeout=ENOUGH) as guard:
        assert guard.check(JUDGED).allowed
    assert len(faulty_server.asked) == 3


@pytest.mark.parametrize(
    ("status", "said"), [(401, "api_key: the server at 127.0.0.1"), (404, "model: the server at 127.0.0.1.* has no model 'm'")]
)
def test_a_wrong_key_or_model_name_is_an_error_and_no_verdict(faulty_server: Any, servers: Any, status: int, said: str) -> None:
    faulty_server.plan(servers.refusal(status, f"{JUDGED} {KEY}"))
    with Guard(judge=reasoner(faulty_server.url, breaker_failures=1), timeout=ENOUGH) as guard:
        for _ in range(2):  # and the breaker does not take it for a failure
            with pytest.raises(ConfigurationError, match=said) as raised:
                guard.check(JUDGED)
            assert KEY not in str(raised.value)
            assert JUDGED not in str(raised.value)


def test_without_probabilities_there_is_a_label_and_no_score(faulty_server: Any, servers: Any) -> None:
    faulty_server.plan(servers.answer(SAFE))
    with Guard(judge=reasoner(faulty_server.url), timeout=ENOUGH) as guard:
        verdict = guard.check(JUDGED)
    assert verdict.allowed
    assert verdict.prompt_harmfulness is not None
    assert (verdict.prompt_harmfulness.label, verdict.prompt_harmfulness.score) == ("unharmful", None)


def test_a_server_that_hangs_holds_up_no_other_row_longer_than_its_deadline(faulty_server: Any, servers: Any) -> None:
    def serve(request: Any) -> Any:
        return servers.HANG if "hang" in request.body["prompt"] else servers.answer(SAFE)

    faulty_server.plan(otherwise=serve)
    with Guard(judge=reasoner(faulty_server.url), timeout=5.0) as guard:
        guard.load()
        verdicts = guard.check_many(["one", "hang", "three", "hang", "five"])
    assert [verdict.undetermined for verdict in verdicts] == [False, True, False, True, False]


# The circuit breaker


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr("circuitbreaker.monotonic", clock)
    return clock


@pytest.fixture
async def backend(faulty_server: Any) -> AsyncIterator[RemoteBackend]:
    backend = RemoteBackend("m", faulty_server.url, retries=0, continues=False, breaker_failures=2, breaker_recovery=30)
    await backend.load()
    yield backend
    await backend.aclose()


async def ask(backend: RemoteBackend, deadline: float | None = None) -> Completion | BackendError:
    (answer,) = await backend.generate([Query(pieces=(PromptPiece(JUDGED),))], deadline=deadline)
    return answer


async def test_the_breaker_opens_half_opens_and_closes(
    backend: RemoteBackend, faulty_server: Any, servers: Any, clock: Clock
) -> None:
    faulty_server.plan(servers.refusal(500, "x"), servers.MALFORMED, servers.refusal(500, "x"), servers.answer("fine"))
    for _ in range(2):
        assert isinstance(await ask(backend), BackendError)
    for left in (30, 1):
        assert str(await ask(backend)) == f"the server failed 2 times in a row; not asked again for {left} s"
        clock.now += 29.5
    assert len(faulty_server.asked) == 2
    # Half open: one that fails opens it again, for as long.
    assert str(await ask(backend)) == f"the server at {faulty_server.host} failed with HTTP 500"
    assert str(await ask(backend)) == "the server failed 3 times in a row; not asked again for 30 s"
    clock.now += 31
    for _ in range(3):
        assert isinstance(await ask(backend), Completion)
    # And it takes two in a row again.
    faulty_server.plan(servers.refusal(500, "x"), servers.answer("fine"), servers.refusal(500, "x"), servers.answer("fine"))
    kinds = [type(await ask(backend)) is Completion for _ in range(4)]
    assert kinds == [False, True, False, True]


async def test_one_call_at_a_time_tries_a_server_that_failed(
    backend: RemoteBackend, faulty_server: Any, servers: Any, clock: Clock
) -> None:
    faulty_server.plan(servers.refusal(500, "x"), servers.refusal(500, "x"), servers.HANG, servers.HANG, servers.answer("fine"))
    for _ in range(2):
        await ask(backend)
    clock.now += 31
    trial = asyncio.create_task(ask(backend))
    await asyncio.to_thread(faulty_server.wait_for, 3)
    assert str(await ask(backend)) == "the server failed 2 times in a row; another call is trying it"
    # A trial that its caller gives up says nothing: the next one tries.
    trial.cancel()
    with pytest.raises(asyncio.CancelledError):
        await trial
    trial = asyncio.create_task(ask(backend))
    await asyncio.to_thread(faulty_server.wait_for, 4)
    faulty_server.release()
    assert "unreadable" in str(await trial)
    assert "not asked again for 30 s" in str(await ask(backend))
    clock.now += 31
    assert isinstance(await ask(backend), Completion)


async def test_a_server_that_hangs_silently_opens_the_breaker(backend: RemoteBackend, faulty_server: Any, servers: Any) -> None:
    faulty_server.plan(servers.HANG)
    for _ in range(2):
        assert isinstance(await ask(backend, time.monotonic() + 0.1), DeadlineError)
    assert "2 times in a row" in str(await ask(backend))


@pytest.mark.usefixtures("client")
@pytest.mark.parametrize("continues", [None, False])
def test_a_hang_opens_the_breaker_too_where_the_guard_keeps_the_deadline(
    faulty_server: Any, servers: Any, continues: bool | None
) -> None:
    faulty_server.plan(otherwise=lambda request: servers.HANG)  # the list of models hangs as well
    with Guard(judge=reasoner(faulty_server.url, continues=continues, breaker_failures=2), timeout=0.3) as guard:
        said = {cause(guard.check(JUDGED))}
        for _ in range(20):
            said.add(cause(guard.check(JUDGED)))
            if len(said) > 1:
                break
    assert said == {"no judgement before the deadline", "the server failed 2 times in a row; not asked again for 30 s"}
    assert len(faulty_server.asked) == 2


async def test_what_the_caller_gives_up_or_gets_wrong_opens_no_breaker(
    backend: RemoteBackend, faulty_server: Any, servers: Any
) -> None:
    faulty_server.plan(
        *[servers.HANG] * 3,
        servers.refusal(400, "no"),
        servers.refusal(400, "no"),
        servers.refusal(413, "no"),
        servers.answer("fine"),
    )
    for number in range(3):
        call = asyncio.create_task(ask(backend, time.monotonic() + ENOUGH))
        await asyncio.to_thread(faulty_server.wait_for, number + 1)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
    for _ in range(3):
        assert isinstance(await ask(backend), BackendError)
    assert isinstance(await ask(backend), Completion)


def test_the_breaker_spares_a_guards_callers_the_wait(faulty_server: Any, servers: Any) -> None:
    faulty_server.plan(servers.refusal(500, "x"))
    judge = reasoner(faulty_server.url, retries=0, probabilities=False, breaker_failures=3, max_connections=1)
    with Guard(judge=judge, timeout=ENOUGH) as guard:
        verdicts = guard.check_many([JUDGED] * 40)
    assert all(verdict.action == "block" for verdict in verdicts)
    assert len(faulty_server.asked) == 3
    assert "times in a row" in cause(verdicts[-1])


def test_no_thread_of_a_guard_is_left_over(faulty_server: Any, servers: Any) -> None:
    faulty_server.plan(servers.HANG)
    before = set(threading.enumerate())
    with Guard(judge=reasoner(faulty_server.url)) as guard, ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(guard.check, JUDGED)
        faulty_server.wait_for(1)
        assert "guardreasoner" in [thread.name for thread in set(threading.enumerate()) - before]
        guard.close()
        assert isinstance(waiting.exception(), Exception) or waiting.result().undetermined
    assert "guardreasoner" not in [thread.name for thread in set(threading.enumerate()) - before]
