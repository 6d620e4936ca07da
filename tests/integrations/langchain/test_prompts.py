"""One rule for what the prompt is, and nothing of the guard's own model in the application: wherever the guard stands."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware
from langchain_core.messages import AIMessage, BaseMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph

from guardreasoner_integrations.langchain import GuardCallbackHandler, GuardedChain, GuardMiddleware, GuardRunnable
from guardreasoner_integrations.langgraph import GuardState, guard_node
from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement

REMOVED = "[This message was removed by the guard.]"
CALL = AIMessage("", tool_calls=[{"name": "look", "args": {}, "id": "1"}])


def graph_of(*nodes: Any) -> Any:
    graph = StateGraph(GuardState)
    for number, node in enumerate(nodes):
        graph.add_node(str(number), node)
        graph.add_edge(str(number - 1) if number else START, str(number))
    return graph.compile()


def by_middleware(guard: Guard, model: Any, messages: list[BaseMessage]) -> None:
    create_agent(model, middleware=[GuardMiddleware(guard)]).invoke({"messages": messages})


def by_callback(guard: Guard, model: Any, messages: list[BaseMessage]) -> None:
    model.invoke(messages, {"callbacks": [GuardCallbackHandler(guard, block=True)]})


def by_chain(guard: Guard, model: Any, messages: list[BaseMessage]) -> None:
    GuardedChain(guard, model).invoke(messages)


def by_stream(guard: Guard, model: Any, messages: list[BaseMessage]) -> None:
    list(GuardedChain(guard, model).stream(messages))


def by_node(guard: Guard, model: Any, messages: list[BaseMessage]) -> None:
    def ask(state: Any) -> Any:
        return {"messages": [model.invoke(state["messages"])]}

    graph_of(guard_node(guard), ask, guard_node(guard, stage="output")).invoke({"messages": messages})


@pytest.mark.parametrize("judged_by", [by_middleware, by_callback, by_chain, by_stream, by_node])
@pytest.mark.parametrize(
    ("messages", "prompt", "history"),
    [
        ([HumanMessage("one")], "one", []),
        ([HumanMessage("one"), HumanMessage("two")], "one\n\ntwo", []),
        ([HumanMessage("one"), AIMessage("well"), HumanMessage("two")], "two", ["one", "well"]),
        ([HumanMessage("one"), CALL, ToolMessage("well", tool_call_id="1"), HumanMessage("two")], "two", ["one", "well"]),
        ([HumanMessage("one"), SystemMessage("be kind"), HumanMessage("two")], "one\n\ntwo", ["be kind"]),
        ([HumanMessage("one"), HumanMessage(" "), HumanMessage("two")], "one\n\ntwo", []),
        ([HumanMessage("one"), HumanMessage(REMOVED), HumanMessage("two")], "one\n\ntwo", []),
        ([AIMessage("well"), HumanMessage("one"), ChatMessage("two", role="customer")], "one\n\ntwo", ["well"]),
    ],
    ids=["one", "run", "answered", "tool", "system between", "blank", "removed", "role"],
)
def test_the_prompt_is_what_the_human_said_since_the_model_spoke(
    judged_by: Any, messages: list[BaseMessage], prompt: str, history: list[str], judge: ScriptedJudge, scripted_chat: Any
) -> None:
    with Guard(judge=judge) as guard:
        judged_by(guard, scripted_chat(answers=["fine"] * 3), messages)
    asked = [exchange for exchange in judge.seen if exchange.response is None][-1]
    (answered,) = [exchange for exchange in judge.seen if exchange.response is not None]
    for exchange in (asked, answered):
        assert (exchange.prompt, [turn.content for turn in exchange.history]) == (prompt, history)
    assert answered.response == "fine"


@pytest.fixture
def reasoner(scripted_chat: Any) -> Any:
    return scripted_chat(answers=["Thinking about it at length."])


@pytest.fixture
def reasoning_guard(reasoner: Any) -> Iterator[Guard]:
    """A guard whose judge is a chat model of LangChain."""

    async def reason(exchange: Exchange) -> Judgement:
        said = [piece.text async for piece in reasoner.astream([HumanMessage("Is this harmful?")])]
        assert said
        return judgement("unharmful", *(("compliance", "unharmful") if exchange.response else ()))

    with Guard(judge=ScriptedJudge(reason)) as guard:
        yield guard


class Unguarded(AgentMiddleware):
    """Calls the model in the application's own context, as a judge must not."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def before_model(self, state: Any, runtime: Any) -> None:
        self.model.invoke([HumanMessage("Is this harmful?")])

    async def abefore_model(self, state: Any, runtime: Any) -> None:
        await self.model.ainvoke([HumanMessage("Is this harmful?")])


async def streamed(app: Any) -> tuple[str, str]:
    """All that the streams of an application show, and all that its events do."""
    given = {"messages": [HumanMessage("hello")]}
    seen = [message.text for message, _ in app.stream(given, stream_mode="messages")]
    seen += [message.text async for message, _ in app.astream(given, stream_mode="messages")]
    return "".join(seen), repr([event async for event in app.astream_events(given, version="v2")])


@pytest.mark.parametrize("place", ["middleware", "node", "chain", "gate"])
async def test_a_judge_that_is_a_chat_model_does_not_show_in_the_application(
    place: str, reasoning_guard: Guard, reasoner: Any, scripted_chat: Any
) -> None:
    guard, chat = reasoning_guard, scripted_chat(answers=["All is well."])
    if place == "middleware":
        app = create_agent(chat, middleware=[GuardMiddleware(guard)])
    else:
        model = {"node": chat, "chain": GuardedChain(guard, chat), "gate": GuardRunnable(guard) | chat}[place]

        async def aask(state: Any) -> Any:
            return {"messages": [await model.ainvoke(state["messages"])]}

        ask = RunnableLambda(lambda state: {"messages": [model.invoke(state["messages"])]}, aask)
        app = graph_of(guard_node(guard), ask) if place == "node" else graph_of(ask)
    seen, events = await streamed(app)
    assert len(reasoner.asked) >= 3
    assert seen == "All is well." * 2
    assert "All is well." in events
    assert "Thinking" not in events


async def test_a_model_called_in_the_applications_context_does_show(reasoner: Any, scripted_chat: Any) -> None:
    seen, events = await streamed(create_agent(scripted_chat(answers=["All is well."]), middleware=[Unguarded(reasoner)]))
    assert seen.count("Thinking") == 2
    assert "Thinking" in events
