"""Callback handlers: which of them see what, and which of them stop what, under every API of LangChain."""

import asyncio
import logging
import os
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from blockbuster import BlockingError, blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM, FakeStreamingListLLM
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import tool

from guardreasoner_integrations.langchain import AsyncGuardCallbackHandler, GuardCallbackHandler
from guardreasoner_sdk import (
    BlockedError,
    ClosedError,
    ConfigurationError,
    Exchange,
    Guard,
    Judgement,
    UndeterminedError,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement

APIS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]


async def run(api: str, runnable: Runnable[Any, Any], given: Any, config: RunnableConfig) -> Any:
    """Call a runnable by the name of the API; the synchronous ones off the event loop, where an application would."""
    match api:
        case "ainvoke":
            return await runnable.ainvoke(given, config)
        case "astream":
            return [chunk async for chunk in runnable.astream(given, config)]
        case "abatch":
            return await runnable.abatch([given], config)
        case "stream":
            return await asyncio.to_thread(lambda: list(runnable.stream(given, config)))
        case "batch":
            return await asyncio.to_thread(runnable.batch, [given], config)
    return await asyncio.to_thread(runnable.invoke, given, config)


def text(result: Any) -> str:
    parts = result if isinstance(result, list) else [result]
    return "".join(part if isinstance(part, str) else part.text for part in parts)


@tool
def lookup(what: str) -> str:
    """Look something up."""
    return "poison" if what == "trap" else f"{what} is fine"


@pytest.fixture
def models(scripted_chat: Any) -> dict[str, Callable[[str], Runnable[Any, Any]]]:
    return {
        "chat": lambda answer: scripted_chat(answers=[answer]),
        "llm": lambda answer: FakeListLLM(responses=[answer]),
        "streaming llm": lambda answer: FakeStreamingListLLM(responses=[answer]),
        "agent": lambda answer: scripted_agent(scripted_chat(answers=[answer])),
    }


def scripted_agent(model: Any, tools: Any = ()) -> Runnable[Any, Any]:
    return _ByText(create_agent(model, tools))


class _ByText(Runnable[Any, Any]):
    """An agent that is asked with a text and answers with one."""

    def __init__(self, agent: Any) -> None:
        self.agent = agent

    def invoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return self.agent.invoke({"messages": [HumanMessage(input)]}, config)["messages"][-1]

    async def ainvoke(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        return (await self.agent.ainvoke({"messages": [HumanMessage(input)]}, config))["messages"][-1]

    def stream(self, input: Any, config: Any = None, **kwargs: Any) -> Iterator[Any]:
        for update in self.agent.stream({"messages": [HumanMessage(input)]}, config, stream_mode="updates"):
            yield from (step["messages"][-1] for step in update.values())

    async def astream(self, input: Any, config: Any = None, **kwargs: Any) -> Any:
        async for update in self.agent.astream({"messages": [HumanMessage(input)]}, config, stream_mode="updates"):
            for step in update.values():
                yield step["messages"][-1]


@pytest.mark.parametrize("kind", ["chat", "llm", "streaming llm", "agent"])
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("prompt", "answer", "error"),
    [
        ("a poison", "hello", BlockedError),
        ("hello", "a poison", BlockedError),
        ("a riddle", "hello", UndeterminedError),
        ("hello", "a riddle", UndeterminedError),
        ("hello", "I am well", None),
    ],
)
async def test_a_blocking_handler_blocks_under_every_api(
    api: str, kind: str, prompt: str, answer: str, error: type[Exception] | None, guard: Guard, models: Any
) -> None:
    config: RunnableConfig = {"callbacks": [GuardCallbackHandler(guard, block=True)]}
    model = models[kind](answer)
    if error is None:
        assert text(await run(api, model, prompt, config)) == answer
    else:
        with pytest.raises(error):
            await run(api, model, prompt, config)


@pytest.mark.parametrize("api", APIS)
async def test_a_model_is_not_asked_what_is_blocked(api: str, guard: Guard, scripted_chat: Any) -> None:
    model = scripted_chat(answers=["hello"])
    with pytest.raises(BlockedError):
        await run(api, model, "poison", {"callbacks": [GuardCallbackHandler(guard, block=True)]})
    assert model.asked == []


@pytest.mark.parametrize("api", APIS)
async def test_a_handler_of_the_model_blocks_as_one_of_the_run_does(api: str, guard: Guard, scripted_chat: Any) -> None:
    model = scripted_chat(answers=["a poison"], callbacks=[GuardCallbackHandler(guard, block=True)])
    with pytest.raises(BlockedError):
        await run(api, model, "hello", {})


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("kind", ["chat", "llm", "agent"])
@pytest.mark.parametrize("handler", [GuardCallbackHandler, AsyncGuardCallbackHandler])
async def test_a_watching_handler_sees_both_sides_and_changes_nothing(
    api: str, kind: str, handler: Any, judge: ScriptedJudge, guard: Guard, models: Any
) -> None:
    told: list[Any] = []
    watcher = handler(guard, on_verdict=lambda verdict, run: told.append((run.stage, verdict.action)))
    config: RunnableConfig = {"callbacks": [watcher], "tags": ["mine"], "metadata": {"user": 7}}
    assert text(await run(api, models[kind]("a poison"), "a riddle", config)) == "a poison"
    await settled(watcher)
    assert sorted(told) == [("input", "block"), ("output", "block")]
    assert {(exchange.prompt.removeprefix("Human: "), exchange.response) for exchange in judge.seen} == {
        ("a riddle", None),
        ("a riddle", "a poison"),
    }
    runs = [run for _, run in watcher.record]
    assert len({run.run_id for run in runs}) == 1
    assert all("mine" in run.tags and run.metadata["user"] == 7 for run in runs)


async def settled(watcher: Any) -> None:
    if isinstance(watcher, AsyncGuardCallbackHandler):
        await watcher.drain()
    else:
        assert await asyncio.to_thread(watcher.flush, 30)


async def test_an_asynchronous_on_verdict_is_awaited(guard: Guard, scripted_chat: Any) -> None:
    told = []

    async def note(verdict: Any, run: Any) -> None:
        await asyncio.sleep(0)
        told.append(run.stage)

    watcher = AsyncGuardCallbackHandler(guard, on_verdict=note)
    await scripted_chat(answers=["hello"]).ainvoke("hello", {"callbacks": [watcher]})
    await watcher.drain()
    assert sorted(told) == ["input", "output"]


def test_an_asynchronous_handler_cannot_be_told_to_block(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="use GuardCallbackHandler"):
        AsyncGuardCallbackHandler(guard, block=True)


@pytest.mark.parametrize("options", [{"record": -1}, {"pending": 0}, {"pending": True}])
@pytest.mark.parametrize("handler", [GuardCallbackHandler, AsyncGuardCallbackHandler])
def test_options_that_cannot_work_are_named(handler: Any, options: dict[str, Any], guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(options))):
        handler(guard, **options)


def test_a_plain_handler_takes_no_asynchronous_on_verdict(guard: Guard) -> None:
    async def note(verdict: Any, run: Any) -> None: ...

    with pytest.raises(ConfigurationError, match="on_verdict"):
        GuardCallbackHandler(guard, on_verdict=note)


@pytest.mark.parametrize("handler", [GuardCallbackHandler, AsyncGuardCallbackHandler])
async def test_watching_survives_a_closed_guard_and_a_failing_on_verdict(
    handler: Any, scripted_chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(verdict: Any, run: Any) -> None:
        raise KeyError("the judged text")

    with Guard(judge=ScriptedJudge({}, otherwise=judgement())) as guard:
        watcher = handler(guard, on_verdict=fail)
        config: RunnableConfig = {"callbacks": [watcher]}
        assert (await scripted_chat(answers=["well"]).ainvoke("hello", config)).text == "well"
        await settled(watcher)
        assert len(watcher.record) == 2
    assert (await scripted_chat(answers=["well"]).ainvoke("hello", config)).text == "well"
    await settled(watcher)
    said = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert said == ["a callback handler failed: KeyError"] * 2 + ["a callback handler failed: ClosedError"] * 2
    assert "the judged text" not in "".join(said)


async def test_blocking_fails_closed_where_the_guard_fails(scripted_chat: Any) -> None:
    guard = Guard(judge=ScriptedJudge({}, otherwise=judgement()))
    guard.close()
    model = scripted_chat(answers=["hello"])
    for api in APIS:
        with pytest.raises(ClosedError):
            await run(api, model, "hello", {"callbacks": [GuardCallbackHandler(guard, block=True)]})
    assert model.asked == []


@pytest.mark.parametrize("block", [True, False])
async def test_runs_that_fail_are_forgotten(block: bool, guard: Guard, scripted_chat: Any) -> None:
    watcher = GuardCallbackHandler(guard, block=block)
    for given in ("hello", "poison"):
        for api in APIS:
            with pytest.raises((ValueError, BlockedError)):
                await run(api, scripted_chat(answers=[ValueError("down")]), given, {"callbacks": [watcher]})
    watcher.flush()
    assert len(watcher._observer) == 0


async def test_a_stream_that_is_left_is_forgotten(guard: Guard, scripted_chat: Any) -> None:
    watcher = GuardCallbackHandler(guard)
    stream = scripted_chat(answers=["hello you"]).astream("hello", {"callbacks": [watcher]})
    await anext(stream)
    assert len(watcher._observer) == 1
    await stream.aclose()
    watcher.flush()
    assert len(watcher._observer) == 0


async def test_runs_that_another_handler_stops_do_not_pile_up(
    guard: Guard, scripted_chat: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Stop(BaseCallbackHandler):
        raise_error = True

        def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            raise RuntimeError("no")

    monkeypatch.setattr("guardreasoner_integrations.langchain._callbacks._MOST_RUNS", 3)
    watcher = GuardCallbackHandler(guard)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="no"):
            scripted_chat(answers=["hello"]).invoke("hello", {"callbacks": [watcher, Stop()]})
    watcher.flush()
    assert len(watcher._observer) == 3


def test_watching_does_not_wait_for_the_guard_and_drops_what_is_too_much(
    scripted_chat: Any, caplog: pytest.LogCaptureFixture
) -> None:
    go = threading.Event()

    def slow(exchange: Exchange) -> Judgement:
        go.wait(30)
        return judgement("unharmful", "compliance", "unharmful") if exchange.response else judgement()

    with Guard(judge=ScriptedJudge(slow)) as guard:
        watcher = GuardCallbackHandler(guard, pending=3, record=2)
        for _ in range(3):
            assert scripted_chat(answers=["well"]).invoke("hello", {"callbacks": [watcher]}).text == "well"
        assert not watcher.flush(0)
        assert watcher.dropped == 3
        go.set()
        assert watcher.flush(30)
        assert len(watcher.record) == 2
    assert len([record for record in caplog.records if "pending=3" in record.getMessage()]) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_watches_with_threads_of_its_own(guard: Guard, scripted_chat: Any) -> None:
    def watched() -> int:
        watcher.record.clear()
        scripted_chat(answers=["well"]).invoke("hello", {"callbacks": [watcher]})
        return len(watcher.record) if watcher.flush(20) else -1

    watcher = GuardCallbackHandler(guard)
    assert watched() == 2  # and its threads wait for more
    child = os.fork()
    if not child:
        code = 1
        try:
            code = 0 if watched() == 2 else 2
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert watched() == 2


async def test_an_asynchronous_watcher_drops_what_is_too_much(scripted_chat: Any) -> None:
    go = asyncio.Event()
    here = asyncio.get_running_loop()

    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(go.wait(), here))
        return judgement()

    with Guard(judge=ScriptedJudge(slow)) as guard:
        watcher = AsyncGuardCallbackHandler(guard, pending=1, check_output=False)
        for _ in range(3):
            await scripted_chat(answers=["well"]).ainvoke("hello", {"callbacks": [watcher]})
        assert watcher.dropped == 2
        go.set()
        await watcher.drain()
        assert len(watcher.record) == 1


@pytest.mark.parametrize("api", ["ainvoke", "astream", "abatch"])
@pytest.mark.parametrize("kind", ["chat", "llm", "agent"])
@pytest.mark.parametrize(
    "make",
    [
        lambda guard: GuardCallbackHandler(guard, block=True),
        GuardCallbackHandler,
        AsyncGuardCallbackHandler,
    ],
)
async def test_no_handler_blocks_the_event_loop(api: str, kind: str, make: Any, slow_guard: Guard, models: Any) -> None:
    watcher, model = make(slow_guard), models[kind]("hello")
    with blockbuster_ctx():
        assert text(await run(api, model, "hello", {"callbacks": [watcher]})) == "hello"
    await settled(watcher)
    assert len(watcher.record) == 2


async def test_the_net_catches_a_check_on_the_event_loop(slow_guard: Guard) -> None:
    with blockbuster_ctx(), pytest.raises(BlockingError):
        slow_guard.check("hello")


@pytest.fixture
def slow_guard() -> Iterator[Guard]:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.01)
        return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

    with Guard(judge=ScriptedJudge(slow)) as made:
        yield made


@pytest.mark.parametrize("api", ["invoke", "ainvoke"])
@pytest.mark.parametrize(
    ("what", "error"), [("poison", BlockedError), ("trap", BlockedError), ("bread", None)], ids=["input", "output", "none"]
)
async def test_tools_are_judged_on_request(api: str, what: str, error: Any, guard: Guard) -> None:
    config: RunnableConfig = {
        "callbacks": [GuardCallbackHandler(guard, block=True, check_tool_args=True, check_tool_results=True)]
    }
    unwatched: RunnableConfig = {"callbacks": [GuardCallbackHandler(guard, block=True)]}
    assert await run(api, lookup, {"what": what}, unwatched)
    if error is None:
        assert await run(api, lookup, {"what": what}, config) == "bread is fine"
    else:
        with pytest.raises(error):
            await run(api, lookup, {"what": what}, config)


@pytest.mark.parametrize("api", APIS)
async def test_an_agents_tools_and_calls_are_judged(api: str, guard: Guard, scripted_chat: Any) -> None:
    call = AIMessage("", tool_calls=[{"name": "lookup", "args": {"what": "trap"}, "id": "1"}])
    model = scripted_chat(answers=[call, "done"])
    with pytest.raises(BlockedError):
        await run(
            api,
            scripted_agent(model, [lookup]),
            "hello",
            {"callbacks": [GuardCallbackHandler(guard, block=True, check_tool_args=True, check_tool_results=True)]},
        )
    assert len(model.asked) == 1, "the model must not read what the tool returned"
