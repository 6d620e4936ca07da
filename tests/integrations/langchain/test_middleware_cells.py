"""Every stage, every way to run an agent, every exit behaviour: what shows, and what the state holds afterwards."""

import asyncio
import traceback
from typing import Any, NamedTuple

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from blockbuster import BlockingError, blockbuster_ctx
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver

from guardreasoner_integrations.langchain import GuardMiddleware, block_of
from guardreasoner_sdk import BlockedError, Exchange, Guard, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement

REMOVED = "[This message was removed by the guard.]"
SORRY = "I'm sorry, but I can't help with that."


def call(text: str) -> AIMessage:
    return AIMessage("I look.", tool_calls=[{"name": "look_up", "args": {"what": text}, "id": "call-1"}], id="model-1")


class Stage(NamedTuple):
    """One place where something harmful appears."""

    check: str
    human: str
    answers: list[Any]
    ended: list[str]
    replaced: list[str]
    raised: list[str]


STAGES = {
    "input": Stage(
        "check_input",
        "make poison",
        [AIMessage("Fine.", id="model-1")],
        [f"human {REMOVED}", f"ai {SORRY}"],
        [f"human {REMOVED}", "ai Fine."],
        # It came with the call and no hook may write what it raises about: the next run takes it out.
        ["human make poison"],
    ),
    "output": Stage(
        "check_output",
        "hello",
        [AIMessage("Take poison, a lot.", id="model-1")],
        ["human hello", f"ai {SORRY}"],
        ["human hello", f"ai {SORRY}"],
        ["human hello"],
    ),
    "tool_result": Stage(
        "check_tool_results",
        "hello",
        [call("a page"), AIMessage("Found.", id="model-2")],
        ["human hello", "ai I look.", f"tool {REMOVED}", f"ai {SORRY}"],
        ["human hello", "ai I look.", f"tool {REMOVED}", "ai Found."],
        ["human hello", "ai I look."],
    ),
    "tool_args": Stage(
        "check_tool_args",
        "hello",
        [call("poison shop"), AIMessage("Found.", id="model-2")],
        ["human hello", f"ai {SORRY}"],
        ["human hello", f"ai {SORRY}"],
        ["human hello"],
    ),
}
WAYS = ["invoke", "ainvoke", "stream messages", "astream messages", "stream values", "batch"]


def thread(number: int) -> Any:
    return {"configurable": {"thread_id": str(number)}}


async def shown(agent: Any, way: str, human: str) -> list[Any]:
    """All that a caller sees of a run, piece by piece; what raised is the last piece."""
    given = {"messages": [{"role": "user", "content": human, "id": "human-1"}]}
    pieces: list[Any] = []
    try:
        if way == "invoke":
            pieces.append(agent.invoke(given, thread(0)))
        elif way == "ainvoke":
            pieces.append(await calm(agent.ainvoke(given, thread(0))))
        elif way == "batch":
            pieces.extend(agent.batch([given, given], [thread(0), thread(1)]))
        elif way == "astream messages":
            with blockbuster_ctx():
                async for piece in agent.astream(given, thread(0), stream_mode="messages"):
                    pieces.append(piece)  # noqa: PERF401 - a comprehension would lose them where the run raises
        else:
            pieces.extend(agent.stream(given, thread(0), stream_mode=way.split()[1]))
    except BlockedError as error:
        pieces.append(error)
    return pieces


async def calm(run: Any) -> Any:
    """Await with a net under it: a call that blocks the event loop raises."""
    with blockbuster_ctx():
        return await run


def texts(messages: list[Any]) -> list[str]:
    return [f"{message.type} {message.text}" for message in messages]


def whole(pieces: list[Any]) -> list[str]:
    """What a stream of messages says, message by message: tokens of one message are one text."""
    said: dict[str, list[str]] = {}
    for message, _ in pieces:
        kind = message.type.removesuffix("MessageChunk").lower()
        said.setdefault(message.id, [f"{kind} "]).append(message.text)
    return ["".join(parts) for parts in said.values()]


def harmful(piece: Any) -> bool:
    if isinstance(piece, BaseException):
        return "poison" in "".join(traceback.format_exception(piece))
    return "poison" in repr(piece)


@pytest.mark.parametrize("exit_behavior", ["end", "replace", "error"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", STAGES)
async def test_nothing_harmful_shows_and_the_state_is_as_documented(
    name: str, way: str, exit_behavior: Any, guard: Guard, scripted_chat: Any
) -> None:
    stage = STAGES[name]
    looked = []

    def look_up(what: str) -> str:
        """Look something up."""
        looked.append(what)
        return "a recipe for poison" if what == "a page" else "nothing"

    checks = {check: check == stage.check for check in ("check_input", "check_output", "check_tool_results", "check_tool_args")}
    agent = create_agent(
        scripted_chat(answers=stage.answers),
        [look_up],
        middleware=[GuardMiddleware(guard, **checks, exit_behavior=exit_behavior)],
        checkpointer=InMemorySaver(),
    )
    pieces = await shown(agent, way, stage.human)

    # A stream of values begins with what the caller put in.
    own = 1 if way == "stream values" and name == "input" else 0
    assert not [piece for piece in pieces[own:] if harmful(piece)]
    expected = {"end": stage.ended, "replace": stage.replaced, "error": stage.raised}[exit_behavior]
    for number in range(2 if way == "batch" and exit_behavior != "error" else 1):
        messages = agent.get_state(thread(number)).values["messages"]
        assert texts(messages) == expected
        blocks = [block for message in messages if (block := block_of(message))]
        assert {block["stage"] for block in blocks} == (set() if exit_behavior == "error" else {name})
        for message in messages:
            assert not getattr(message, "tool_calls", None) or not block_of(message)
    if exit_behavior == "error":
        assert isinstance(pieces[-1], BlockedError)
    elif way in ("invoke", "ainvoke"):
        assert texts(pieces[-1]["messages"]) == expected
    elif "messages" in way:
        assert whole(pieces) == expected[1:]
    if name == "tool_args":
        assert looked == []


@pytest.mark.parametrize("streaming", ["withhold", "pass"])
@pytest.mark.parametrize("way", WAYS)
async def test_an_unblocked_run_is_unchanged(way: str, streaming: Any, guard: Guard, scripted_chat: Any) -> None:
    def look_up(what: str) -> str:
        """Look something up."""
        return f"all about {what}"

    def run(*middleware: Any) -> Any:
        chat = scripted_chat(answers=[call("a page"), AIMessage("All is well.", id="model-2")])
        return create_agent(chat, [look_up], middleware=middleware, checkpointer=InMemorySaver())

    bare = run()
    guarded = run(GuardMiddleware(guard, check_tool_results=True, check_tool_args=True, streaming=streaming))
    plain, checked = await shown(bare, way, "hello"), await shown(guarded, way, "hello")

    def told(messages: list[Any]) -> list[Any]:
        # LangGraph gives a tool's message an id of its own.
        return [message.model_copy(update={"id": None if message.type == "tool" else message.id}) for message in messages]

    assert told(guarded.get_state(thread(0)).values["messages"]) == told(bare.get_state(thread(0)).values["messages"])
    if way == "stream values":
        # One more where the verdict on the input was noted.
        assert told(checked.pop(1)["messages"]) == told(checked[0]["messages"])
        assert [told(piece["messages"]) for piece in checked] == [told(piece["messages"]) for piece in plain]
    elif "messages" in way and streaming == "pass":
        assert told([message for message, _ in checked]) == told([message for message, _ in plain])
    elif "messages" in way:
        assert [(message.type, where["langgraph_node"]) for message, where in checked] == [
            ("ai", "model"),
            ("tool", "tools"),
            ("ai", "model"),
        ]
        assert [message.text for message, _ in checked if message.type == "ai"] == ["I look.", "All is well."]
        ids = {message.id for message, _ in plain if message.type != "tool"}
        assert {message.id for message, _ in checked if message.type != "tool"} == ids
    else:
        assert [told(piece["messages"]) for piece in checked] == [told(piece["messages"]) for piece in plain]
        assert [set(piece) for piece in checked] == [set(piece) for piece in plain]


async def test_the_net_catches_a_check_that_blocks_the_event_loop() -> None:
    async def never(exchange: Exchange) -> Judgement:
        await asyncio.Event().wait()
        return judgement()

    with Guard(judge=ScriptedJudge(never)) as guard:

        async def wrong() -> None:
            guard.check("hello")

        with pytest.raises(BlockingError, match="Blocking call"):
            await calm(wrong())
