"""A forked child uses the guard that it inherited, whatever the parent's threads were doing with it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk._forks import Lock
from guardreasoner_sdk.backends._engine_thread import EngineJob, EngineThread
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.generation import Capabilities, Completion
from guardreasoner_sdk.judges.model_folder import _sharing
from guardreasoner_sdk.judges.reasoner import ReasonerJudge
from guardreasoner_sdk.testing import ScriptedJudge, judgement

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    # Python 3.12 and newer say so for every fork of a process that has threads: which is what this is about.
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]

PATIENCE = 60.0
"""Seconds after which a child hangs."""


def in_a_child(function: Callable[[], bool]) -> str:
    """How a function ends in a forked child: ``fine``, ``wrong``, ``failed`` or ``hangs``."""
    child = os.fork()
    if not child:
        code = 2
        try:
            code = 0 if function() else 1
        finally:
            os._exit(code)
    for _ in range(int(PATIENCE / 0.02)):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {0: "fine", 1: "wrong"}.get(os.waitstatus_to_exitcode(status), "failed")
        time.sleep(0.02)
    os.kill(child, 9)
    os.waitpid(child, 0)
    return "hangs"


@contextmanager
def held(lock: Any) -> Iterator[None]:
    """Have a thread of its own hold a lock."""
    holding, over = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            holding.set()
            over.wait()

    thread = threading.Thread(target=hold, daemon=True)
    thread.start()
    assert holding.wait(60)
    yield
    over.set()
    thread.join()


LOCKS: dict[str, Callable[[Guard], Any]] = {
    "the cache's": lambda guard: guard._checker._cache._lock,
    "the loop's": lambda guard: guard._checker._loop._lock,
    "the model's": lambda guard: guard.judge._lock,  # type: ignore[attr-defined]
    "the shared models'": lambda _: _sharing,
}


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_that_a_thread_of_the_parent_holds_is_free_in_the_child(lock: str) -> None:
    with Guard(reasoning="off", cache=10) as guard, held(LOCKS[lock](guard)):
        assert in_a_child(lambda: guard.check("How do I bake a cake?").allowed and guard.check_many(["x"])[0].allowed) == "fine"


def test_a_child_starts_with_an_empty_cache_and_fills_its_own() -> None:
    judge = ScriptedJudge({}, otherwise=judgement())
    with Guard(judge=judge, cache=10) as guard:
        guard.check("x")
        assert in_a_child(lambda: [guard.check("x").cached for _ in range(2)] == [False, True]) == "fine"
        assert guard.check("x").cached


def test_what_a_child_makes_anew_leaves_the_parents_as_it_was() -> None:
    with Guard(judge=ScriptedJudge({}, otherwise=judgement())) as guard:
        guard.check("x")

        def use_and_close() -> bool:
            used = guard.check("x").allowed
            guard.close()
            return used

        for _ in range(3):
            assert in_a_child(use_and_close) == "fine"
            assert guard.check("x").allowed


def test_a_judge_that_is_at_work_in_the_parent_is_not_waited_for_in_the_child() -> None:
    asked, go_on = threading.Event(), threading.Event()

    def answer(exchange: Exchange) -> Judgement:
        if exchange.prompt == "slow":
            asked.set()
            assert go_on.wait(60)
        return judgement()

    with Guard(judge=ScriptedJudge(answer)) as guard:
        slow = threading.Thread(target=guard.check, args=("slow",))
        slow.start()
        assert asked.wait(60)
        assert in_a_child(lambda: guard.check("x").allowed) == "fine"
        go_on.set()
        slow.join()


def test_an_engine_at_work_is_loaded_anew_in_the_child_and_not_freed_there() -> None:
    running, go_on = threading.Event(), threading.Event()
    loaded: list[int] = []
    safe = Completion("Answers: \nRequest: unharmful\nCompletion: None\nResponse: None", "stop")

    class Model:
        def __init__(self) -> None:
            self.process = os.getpid()
            loaded.append(self.process)

        def __del__(self) -> None:
            if self.process != os.getpid():
                os._exit(9)

    def run(_: Model, jobs: list[EngineJob]) -> None:
        running.set()
        if os.getpid() == parent:
            assert go_on.wait(60)
        for job in jobs:
            job.settle(safe)

    class Backend:
        name, model, batch_size, capabilities = "own", "m", 4, Capabilities(continues=True, probes=False)

        def __init__(self) -> None:
            self._thread = EngineThread(Model, run, batch=4, name="test")
            self.generate, self.load, self.aclose = self._generate, self._thread.load, self._thread.aclose

        async def _generate(self, queries: Sequence[Any], *, deadline: float | None) -> Any:
            return await self._thread.answer(queries, deadline)

    parent = os.getpid()
    with Guard(judge=ReasonerJudge(GuardReasonerDialect(), Backend(), reasoning="full")) as guard:  # type: ignore[arg-type]
        busy = threading.Thread(target=guard.check, args=("x",))
        busy.start()
        assert running.wait(60)
        assert in_a_child(lambda: guard.check("x").allowed and loaded[1:] == [os.getpid()]) == "fine"
        go_on.set()
        busy.join()
        assert loaded == [parent]


def test_a_server_that_forks_without_telling_python_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardreasoner_sdk import _forks

    with Guard(judge=ScriptedJudge({}, otherwise=judgement())) as guard:
        guard.check("x")

        def use() -> bool:
            monkeypatch.setattr(os, "getpid", lambda: -1)  # as if nothing had been called at the fork
            monkeypatch.setattr(_forks, "_process", 0)
            held = Lock()
            held.__enter__()
            return guard.check("x").allowed and held._lock.acquire(blocking=False)

        assert in_a_child(use) == "fine"


SCRIPT = """
import asyncio, multiprocessing, os, sys, threading, time
from guardreasoner_sdk import Guard

guard = Guard(reasoning="off", cache=int(sys.argv[2]))
texts = [f"How do I bake cake number {number}?" for number in range(50)]

def child():
    assert guard.check(texts[7]).allowed
    assert asyncio.run(guard.acheck("How do I bake bread?")).allowed
    assert guard.check_many(texts[:3])[2].allowed

# The threads are at it while a child is made; while it works they would only be in its way.
busy = threading.Event()

def use():
    while True:
        for text in texts:
            busy.wait()
            guard.check(text)

def use_from_a_loop():
    async def forever():
        while True:
            for text in texts:
                busy.wait()
                await guard.acheck(text)
    asyncio.run(forever())

def hangs(start, alive, kill):
    busy.set()
    time.sleep(0.01)
    process = start()
    busy.clear()
    for _ in range(int(float(sys.argv[4]) / 0.02)):
        code = alive(process)
        if code is not None:
            assert code == 0, code
            return False
        time.sleep(0.02)
    kill(process)
    return True

def fork():
    pid = os.fork()
    if not pid:
        code = 1
        try:
            child()
            code = 0
        finally:
            os._exit(code)
    return pid

def ended(pid):
    done, status = os.waitpid(pid, os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None

def main():
    way, count = sys.argv[1], int(sys.argv[3])
    for target in (use, use, use, use_from_a_loop):
        threading.Thread(target=target, daemon=True).start()
    guard.check("x")
    hung = 0
    for _ in range(count):
        if way == "os.fork":
            hung += hangs(fork, ended, lambda pid: os.kill(pid, 9))
        else:
            context = multiprocessing.get_context(way)
            def start():
                process = context.Process(target=child)
                process.start()
                return process
            hung += hangs(start, lambda process: process.exitcode, lambda process: process.kill())
        if hung:
            break
    print(f"{hung} of {count} hang", flush=True)
    os._exit(0)

if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize("cache", [0, 1000])
@pytest.mark.parametrize(("way", "count"), [("os.fork", 8), ("fork", 4), ("forkserver", 2)])
def test_children_of_a_guard_in_use_by_four_threads_judge(tmp_path: Path, way: str, count: int, cache: int) -> None:
    script = tmp_path / "forking.py"
    script.write_text(SCRIPT, "utf-8")
    command = [sys.executable, "-W", "ignore::DeprecationWarning", str(script), way, str(cache), str(count), str(PATIENCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=600)
    assert done.stdout == f"0 of {count} hang\n", done.stderr
    assert "Traceback" not in done.stderr
