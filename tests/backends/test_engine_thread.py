"""The thread that runs an engine: batches, deadlines, failures, closing."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from guardreasoner_sdk import BackendError, ClosedError, ConfigurationError, DeadlineError
from guardreasoner_sdk.backends._engine_thread import EngineJob, EngineThread
from guardreasoner_sdk.generation import Completion, Query


def worker(run, *, load=lambda: "engine", batch=4):
    return EngineThread(load, run, batch=batch, name="test")


def echo(_, jobs: list[EngineJob]) -> None:
    for job in jobs:
        job.settle(Completion(str(len(jobs))))


async def test_what_waits_together_runs_together() -> None:
    thread = worker(echo)
    answers = await asyncio.gather(*(thread.answer([Query()], None) for _ in range(8)))
    assert [answer.text for [answer] in answers] == ["4"] * 8  # type: ignore[union-attr]
    await thread.aclose()


async def test_the_engine_is_loaded_once_and_again_after_a_failure() -> None:
    loads = []

    def load() -> str:
        loads.append(1)
        if len(loads) == 1:
            raise ConfigurationError("weights: not there")
        return "engine"

    thread = worker(echo, load=load)
    with pytest.raises(ConfigurationError, match="weights"):
        await thread.load()
    await asyncio.gather(thread.load(), thread.answer([Query()], None), thread.load())
    assert len(loads) == 2
    await thread.aclose()


async def test_a_call_whose_deadline_has_passed_is_answered_all_the_same() -> None:
    seen = []
    thread = worker(lambda _, jobs: seen.extend(jobs))
    [answer] = await thread.answer([Query()], time.monotonic() - 1)
    assert isinstance(answer, DeadlineError)
    assert seen == []
    await thread.aclose()


async def test_an_engine_that_leaves_a_query_out_or_fails_answers_with_an_error() -> None:
    thread = worker(lambda _, jobs: jobs[0].settle(Completion("x")))
    first, second = await thread.answer([Query(), Query()], None)
    assert isinstance(first, Completion)
    assert str(second) == "the engine gave no answer"
    await thread.aclose()

    def fail(_: str, jobs: list[EngineJob]) -> None:
        raise KeyError("the judged text")

    thread = worker(fail)
    [answer] = await thread.answer([Query()], None)
    assert str(answer) == "the engine failed with KeyError"
    await thread.aclose()


async def test_an_error_of_the_backend_concerns_its_batch_only() -> None:
    def fail_once(_: str, jobs: list[EngineJob]) -> None:
        if jobs[0].query.max_tokens == 1:
            raise BackendError("out of memory")
        echo(_, jobs)

    thread = worker(fail_once)
    [answer] = await thread.answer([Query(max_tokens=1)], None)
    assert str(answer) == "out of memory"
    [answer] = await thread.answer([Query()], None)
    assert isinstance(answer, Completion)
    await thread.aclose()


async def test_a_load_that_is_given_up_does_not_fail_the_others() -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load() -> str:
        loading.set()
        assert go_on.wait(30)
        return "engine"

    thread = worker(echo, load=load)
    given_up = asyncio.create_task(thread.load())
    assert await asyncio.to_thread(loading.wait, 30)
    given_up.cancel()
    kept = asyncio.create_task(thread.answer([Query()], None))
    await asyncio.wait({given_up})
    go_on.set()
    assert isinstance((await kept)[0], Completion)
    await thread.aclose()


async def test_closing_fails_what_is_under_way_and_what_waits() -> None:
    running, go_on = threading.Event(), threading.Event()

    def run(_: str, jobs: list[EngineJob]) -> None:
        running.set()
        assert go_on.wait(30)
        assert not jobs[0].wanted

    thread = worker(run, batch=1)
    calls = [asyncio.create_task(thread.answer([Query()], None)) for _ in range(2)]
    assert await asyncio.to_thread(running.wait, 30)
    closing = asyncio.create_task(thread.aclose())
    with pytest.raises(ClosedError):
        await calls[0]
    go_on.set()
    with pytest.raises(ClosedError):
        await calls[1]
    await closing
    with pytest.raises(ClosedError):
        await thread.answer([Query()], None)
    await thread.aclose()
