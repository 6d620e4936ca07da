"""A guard as a node of a graph: what is left in the state, and where the router goes."""

import asyncio
import operator
from collections.abc import Iterator
from typing import Annotated, Any, TypedDict

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from blockbuster import blockbuster_ctx
from langchain_core.messages import AIMessage, AnyMessage, ChatMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.runnables import RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph, add_messages
from pydantic import BaseModel

from guardreasoner_integrations.langchain import Block, GuardedChain, block_of
from guardreasoner_integrations.langgraph import GuardState, GuardVerdict, guard_node, guard_router
from guardreasoner_sdk import ClosedError, ConfigurationError, Exchange, Guard, Judgement, Policy
from guardreasoner_sdk.testing import ScriptedJudge, judgement

APIS = ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"]
SORRY = "I'm sorry, but I can't help with that."
REMOVED = "[This message was removed by the guard.]"


async def run(api: str, graph: Any, messages: list[Any], config: Any = None) -> Any:
    """The last state, whichever API it came from."""
    given = {"messages": messages}
    match api:
        case "ainvoke":
            return await graph.ainvoke(given, config)
        case "astream":
            return [state async for state in graph.astream(given, config, stream_mode="values")][-1]
        case "abatch":
            return (await graph.abatch([given], config))[0]
        case "stream":
            return (await asyncio.to_thread(lambda: list(graph.stream(given, config, stream_mode="values"))))[-1]
        case "batch":
            return (await asyncio.to_thread(graph.batch, [given], config))[0]
    return await asyncio.to_thread(graph.invoke, given, config)


def graph_of(guard: Guard, model: Any, *, state: Any = GuardState, checkpointer: Any = None, **options: Any) -> Any:
    """Guard, model, guard; what could not be decided goes to a node of its own."""

    def ask(state: Any) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"])]}

    async def aask(state: Any) -> dict[str, Any]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(state)
    graph.add_node("check", guard_node(guard, **options))
    graph.add_node("model", RunnableLambda(ask, aask))
    graph.add_node("recheck", guard_node(guard, stage="output"))
    graph.add_node("person", lambda state: {"messages": [AIMessage("A person will answer.")]})
    graph.add_edge(START, "check")
    graph.add_conditional_edges("check", guard_router("model", undetermined="person"), ["model", "person", END])
    graph.add_edge("model", "recheck")
    graph.add_conditional_edges("recheck", guard_router(END, undetermined="person"), ["person", END])
    graph.add_edge("person", END)
    return graph.compile(checkpointer=checkpointer)


def texts(state: Any) -> list[str]:
    return [message.text for message in state["messages"]]


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("prompt", "answer", "expected", "outcome"),
    [
        ("hello", "I am well", ["hello", "I am well"], "allowed"),
        ("a poison", "unasked", [REMOVED, SORRY], "blocked"),
        ("hello", "a poison", ["hello", SORRY], "blocked"),
        ("a riddle", "unasked", [REMOVED, SORRY, "A person will answer."], "undetermined"),
        ("hello", "a riddle", ["hello", SORRY, "A person will answer."], "undetermined"),
    ],
)
async def test_the_router_tells_findings_from_failures_and_the_state_is_clean(
    api: str, prompt: str, answer: str, expected: list[str], outcome: str, guard: Guard, scripted_chat: Any
) -> None:
    model = scripted_chat(answers=[answer])
    state = await run(api, graph_of(guard, model), [HumanMessage(prompt, id="h")])
    assert texts(state) == expected
    assert state["messages"][0].id == "h"
    assert state["guard_verdict"]["outcome"] == outcome
    assert len(model.asked) == (prompt == "hello")


async def test_an_allowed_turn_keeps_its_messages_as_they_are(guard: Guard, scripted_chat: Any) -> None:
    given = HumanMessage("hello", id="h", additional_kwargs={"a": 1})
    state = graph_of(guard, scripted_chat(answers=["well"])).invoke({"messages": [given]})
    assert state["messages"][0] is given
    verdict = state["guard_verdict"]
    assert verdict["stage"] == "output"
    assert verdict["findings"] == {
        "prompt_harmfulness": "unharmful",
        "response_refusal": "compliance",
        "response_harmfulness": "unharmful",
    }
    assert verdict["scores"]["response_harmfulness"] == 0.0


@pytest.mark.parametrize("api", ["invoke", "ainvoke"])
async def test_a_checkpointer_keeps_verdicts_and_every_turn_gets_its_own(api: str, guard: Guard, scripted_chat: Any) -> None:
    graph = graph_of(guard, scripted_chat(answers=["well"]), checkpointer=InMemorySaver())
    config = {"configurable": {"thread_id": "1"}}
    state = await run(api, graph, [HumanMessage("a poison")], config)
    assert state["guard_verdict"]["outcome"] == "blocked"
    state = await run(api, graph, [HumanMessage("hello")], config)
    assert state["guard_verdict"]["outcome"] == "allowed"
    assert texts(state) == [REMOVED, SORRY, "hello", "well"]
    assert "poison" not in repr(graph.get_state(config).values)


def test_a_checkpoint_written_at_the_end_never_held_what_was_blocked(guard: Guard, scripted_chat: Any) -> None:
    saver = InMemorySaver()
    graph = graph_of(guard, scripted_chat(answers=["a poison"]), checkpointer=saver)
    for prompt in ("hello", "a poison"):
        graph.invoke({"messages": [HumanMessage(prompt)]}, {"configurable": {"thread_id": prompt[:1]}}, durability="exit")
    kept = repr(saver.storage) + repr(saver.blobs) + repr(saver.writes)
    assert SORRY in kept
    assert "poison" not in kept


async def test_every_message_of_a_turn_is_judged_and_removed(guard: Guard, judge: ScriptedJudge, scripted_chat: Any) -> None:
    graph = graph_of(guard, scripted_chat(answers=["unasked"]))
    given = [SystemMessage("be kind"), HumanMessage("hi"), AIMessage("yes?"), HumanMessage("poison"), HumanMessage("please")]
    state = graph.invoke({"messages": given})
    assert texts(state) == ["be kind", "hi", "yes?", REMOVED, REMOVED, SORRY]
    assert judge.seen[0].prompt == "poison\n\nplease"


async def test_a_blocked_answer_loses_its_steps_and_its_tool_calls(guard: Guard) -> None:
    call = AIMessage("I look for poison", tool_calls=[{"name": "look", "args": {}, "id": "1"}], id="a")
    given = [HumanMessage("hello", id="h"), call, ToolMessage("poison", tool_call_id="1", id="t"), AIMessage("Well.", id="b")]
    graph = StateGraph(GuardState)
    graph.add_node("check", guard_node(guard, stage="output"))
    graph.add_edge(START, "check")
    state = graph.compile().invoke({"messages": given})
    assert [(message.id, message.text) for message in state["messages"]] == [("h", "hello"), ("b", SORRY)]


async def test_a_harmful_prompt_found_with_the_answer_goes_too(guard: Guard) -> None:
    graph = StateGraph(GuardState)
    graph.add_node("check", guard_node(guard, stage="output"))
    graph.add_edge(START, "check")
    state = graph.compile().invoke({"messages": [HumanMessage("poison"), AIMessage("fine")]})
    assert texts(state) == [REMOVED, SORRY]


async def test_the_answer_to_a_blocked_input_can_be_left_to_the_graph(guard: Guard, scripted_chat: Any) -> None:
    state = graph_of(guard, scripted_chat(answers=["unasked"]), answer=False).invoke({"messages": [HumanMessage("poison")]})
    assert texts(state) == [REMOVED]


async def test_what_is_replaced_says_why_and_the_message_is_an_option(guard: Guard, scripted_chat: Any) -> None:
    graph = graph_of(guard, scripted_chat(answers=["unasked"]), message="No.")
    given = [HumanMessage("hello"), ChatMessage("poison", role="customer")]
    state = graph.invoke({"messages": given})
    assert texts(state) == [REMOVED, REMOVED, "No."]
    why = {
        "guard": "guard_input",
        "stage": "input",
        "blocked_by": "finding",
        "reasons": ["prompt_harmfulness is harmful (score 1.00)"],
    }
    assert [block_of(message) for message in state["messages"]] == [why] * 3


async def test_a_message_without_text_passes_and_an_image_does_not(guard: Guard, scripted_chat: Any) -> None:
    graph = graph_of(guard, scripted_chat(answers=["well"]))
    assert texts(graph.invoke({"messages": [HumanMessage(" ")]}))[-1] == "well"
    picture = HumanMessage([{"type": "image", "url": "https://example.org/a.png"}])
    state = graph.invoke({"messages": [picture]})
    assert texts(state) == [REMOVED, SORRY, "A person will answer."]


@pytest.mark.parametrize("policy", [Policy(on_undetermined="raise"), Policy(on_block="raise")])
def test_a_node_writes_where_a_check_would_raise(policy: Policy, judge: ScriptedJudge, scripted_chat: Any) -> None:
    with Guard(judge=judge, policy=policy) as guard:
        graph = graph_of(guard, scripted_chat(answers=["unasked"]))
        assert graph.invoke({"messages": [HumanMessage("a riddle")]})["guard_verdict"]["outcome"] == "undetermined"
        assert graph.invoke({"messages": [HumanMessage("a poison")]})["guard_verdict"]["outcome"] == "blocked"


async def test_a_guard_that_fails_stops_the_graph(scripted_chat: Any) -> None:
    guard = Guard(judge=ScriptedJudge({}))
    guard.close()
    model = scripted_chat(answers=["unasked"])
    for api in APIS:
        with pytest.raises(ClosedError):
            await run(api, graph_of(guard, model), [HumanMessage("hello")])
    assert model.asked == []


def test_a_router_that_finds_no_verdict_stops_the_graph(guard: Guard) -> None:
    graph = StateGraph(MessagesState)
    graph.add_node("check", guard_node(guard))
    graph.add_node("between", lambda state: {})
    graph.add_edge(START, "check")
    graph.add_edge("check", "between")
    graph.add_conditional_edges("between", guard_router("between"), ["between", END])
    with pytest.raises(ConfigurationError, match="guard_verdict: the state holds no verdict"):
        graph.compile().invoke({"messages": [HumanMessage("poison")]})


def test_a_state_that_cannot_replace_messages_is_refused(guard: Guard, scripted_chat: Any) -> None:
    class Appended(TypedDict):
        messages: Annotated[list[AnyMessage], operator.add]
        guard_verdict: dict[str, Any]

    graph = graph_of(guard, scripted_chat(answers=["unasked"]), state=Appended)
    with pytest.raises(ConfigurationError, match="add_messages"):
        graph.invoke({"messages": [HumanMessage("poison")]})


def test_a_pydantic_state_and_keys_of_ones_own(guard: Guard) -> None:
    class State(BaseModel):
        talk: Annotated[list[AnyMessage], add_messages]
        opinion: dict[str, Any] | None = None

    graph = StateGraph(State)
    graph.add_node("check", guard_node(guard, messages_key="talk", verdict_key="opinion"))
    graph.add_node("go", lambda state: {"talk": [AIMessage("gone")]})
    graph.add_edge(START, "check")
    graph.add_conditional_edges("check", guard_router("go", verdict_key="opinion"), ["go", END])
    assert [message.text for message in graph.compile().invoke({"talk": [HumanMessage("hello")]})["talk"]] == ["hello", "gone"]
    assert [message.text for message in graph.compile().invoke({"talk": [HumanMessage("poison")]})["talk"]] == [REMOVED, SORRY]
    with pytest.raises(ConfigurationError, match="messages_key"):
        guard_node(guard).invoke(State(talk=[]))


def test_a_pydantic_state_may_hold_a_verdict_and_a_block(guard: Guard) -> None:
    class State(BaseModel):
        messages: Annotated[list[AnyMessage], add_messages]
        guard_verdict: GuardVerdict | None = None
        block: Block | None = None

    graph = StateGraph(State)
    graph.add_node("guard", guard_node(guard))
    graph.add_node("note", lambda state: {"block": block_of(state.messages[-1])})
    graph.add_edge(START, "guard")
    graph.add_edge("guard", "note")
    result = graph.compile().invoke({"messages": [HumanMessage("poison")]})
    assert State.model_validate(result).guard_verdict == result["guard_verdict"]
    assert (result["guard_verdict"]["outcome"], result["block"]["stage"]) == ("blocked", "input")


def test_an_unknown_side_is_refused(guard: Guard) -> None:
    with pytest.raises(ConfigurationError, match="stage"):
        guard_node(guard, stage="both")


@pytest.fixture
def slow_guard() -> Iterator[Guard]:
    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(0.01)
        return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

    with Guard(judge=ScriptedJudge(slow)) as made:
        yield made


@pytest.mark.parametrize("api", ["ainvoke", "astream", "abatch"])
async def test_the_event_loop_stays_free(api: str, slow_guard: Guard, scripted_chat: Any) -> None:
    graph = graph_of(slow_guard, scripted_chat(answers=["well"]))
    with blockbuster_ctx():
        assert texts(await run(api, graph, [HumanMessage("hello")])) == ["hello", "well"]


@pytest.mark.parametrize("mode", ["messages", "updates", "values"])
@pytest.mark.parametrize("api", ["stream", "astream"])
async def test_a_guarded_chain_inside_a_node_shows_no_stream_what_is_blocked(
    mode: str, api: str, judge: ScriptedJudge, scripted_chat: Any
) -> None:
    with Guard(judge=judge, policy=Policy(on_block="message")) as guard:
        model = GuardedChain(guard, scripted_chat(answers=["a poison"]))
        graph = graph_of(guard, model)
        given = {"messages": [HumanMessage("hello")]}
        if api == "stream":
            seen = await asyncio.to_thread(lambda: list(graph.stream(given, stream_mode=mode)))
        else:
            seen = [part async for part in graph.astream(given, stream_mode=mode)]
    assert "poison" not in repr(seen)
    assert SORRY in repr(seen)


@pytest.mark.parametrize("prompt", ["a riddle", "a poison"])
@pytest.mark.parametrize(("ways", "end"), [({}, [REMOVED, SORRY]), ({"blocked": "refuse"}, [REMOVED, SORRY, "No."])])
def test_what_cannot_be_decided_goes_the_way_of_what_is_blocked_unless_another_is_named(
    prompt: str, ways: dict[str, str], end: list[str], guard: Guard
) -> None:
    graph = StateGraph(GuardState)
    graph.add_node("check", guard_node(guard))
    graph.add_node("model", lambda state: {"messages": [AIMessage("never asked")]})
    graph.add_node("refuse", lambda state: {"messages": [AIMessage("No.")]})
    graph.add_edge(START, "check")
    graph.add_conditional_edges("check", guard_router("model", **ways), ["model", "refuse", END])
    assert texts(graph.compile().invoke({"messages": [HumanMessage(prompt)]})) == end
