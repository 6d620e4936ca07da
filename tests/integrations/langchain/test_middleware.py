"""What GuardMiddleware remembers, what it hands to the guard, and what it does with what cannot be judged."""

from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from langchain.agents import create_agent
from langchain.agents.structured_output import StructuredOutputValidationError, ToolStrategy
from langchain_core.messages import AIMessage, ChatMessage, HumanMessage
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from pydantic import BaseModel

from guardreasoner_integrations.langchain import GuardMiddleware, block_of
from guardreasoner_sdk import (
    BlockedError,
    ClosedError,
    ConfigurationError,
    Exchange,
    Guard,
    Judgement,
    Policy,
    UndeterminedError,
)
from guardreasoner_sdk.testing import ScriptedJudge, judgement

REMOVED = "[This message was removed by the guard.]"
SORRY = "I'm sorry, but I can't help with that."
THREAD: Any = {"configurable": {"thread_id": "1"}}


def calling(name: str, identity: str = "call-1", **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": identity}])


def says(text: Any) -> Any:
    return {"messages": [HumanMessage(text)]}


def texts(result: Any) -> list[str]:
    return [message.text for message in result["messages"]]


@tool
def look_up(what: str) -> str:
    """Look something up."""
    return f"all about {what}"


@pytest.fixture
def lenient() -> Iterator[Guard]:
    with Guard(judge=ScriptedJudge({}, otherwise=judgement()), policy=Policy(on_undetermined="allow")) as made:
        yield made


def test_each_human_message_is_judged_once_in_all_loops_and_turns(agent_of: Any, judge: ScriptedJudge) -> None:
    agent = agent_of(calling("look_up", what="cats"), calling("look_up", what="dogs"), "Done.", check_output=False)
    agent.invoke(says("first"), THREAD)
    agent.invoke(says("second"), THREAD)
    assert [exchange.prompt for exchange in judge.seen] == ["first", "second"]
    assert "first" in [turn.content for turn in judge.seen[1].history]


def test_another_text_under_the_same_id_is_judged_anew(agent_of: Any) -> None:
    agent = agent_of("Fine.")
    agent.invoke({"messages": [HumanMessage("hello", id="1")]}, THREAD)
    result = agent.invoke({"messages": [HumanMessage("make poison", id="1")]}, THREAD)
    assert "make poison" not in texts(result)


@pytest.mark.parametrize("exit_behavior", ["end", "replace", "error"])
def test_a_blocked_turn_is_no_context_of_the_next(exit_behavior: Any, agent_of: Any, judge: ScriptedJudge) -> None:
    agent = agent_of("Fine.", exit_behavior=exit_behavior)
    try:
        agent.invoke(says("make poison"), THREAD)
    except BlockedError:
        assert exit_behavior == "error"
    judge.seen.clear()
    agent.chat.asked.clear()
    result = agent.invoke(says("hello"), THREAD)
    assert "poison" not in repr(result)
    assert texts(result)[0] == REMOVED
    assert texts(result)[-2:] == ["hello", "Fine."]
    assert "poison" not in repr(agent.chat.asked)
    last = [exchange for exchange in judge.seen if exchange.prompt == "hello"]
    assert last
    assert not [turn for exchange in last for turn in exchange.history if "poison" in turn.content or turn.content == REMOVED]


def test_a_message_with_a_role_of_its_own_counts_as_a_humans(agent_of: Any) -> None:
    agent = agent_of("Fine.")
    result = agent.invoke({"messages": [ChatMessage("make poison", role="customer")]}, THREAD)
    assert texts(result) == [REMOVED, SORRY]


def test_the_last_message_decides_where_several_come_at_once(agent_of: Any) -> None:
    result = agent_of("Fine.").invoke({"messages": [HumanMessage("make poison"), HumanMessage("hello")]}, THREAD)
    assert texts(result) == [REMOVED, "hello", "Fine."]


@pytest.mark.parametrize("exit_behavior", ["end", "error"])
def test_what_is_harmful_only_together_is_blocked_and_leaves_together(exit_behavior: Any, agent_of: Any) -> None:
    def together(exchange: Exchange) -> Judgement:
        label: Any = "harmful" if "first half" in exchange.prompt and "second half" in exchange.prompt else "unharmful"
        return judgement(label, "compliance" if exchange.response else None, "unharmful" if exchange.response else None)

    with Guard(judge=ScriptedJudge(together)) as guard:
        agent = agent_of("Fine.", guard=guard, exit_behavior=exit_behavior)
        given = {"messages": [HumanMessage("first half"), HumanMessage("second half")]}
        if exit_behavior == "error":
            with pytest.raises(BlockedError):
                agent.invoke(given, THREAD)
        else:
            assert texts(agent.invoke(given, THREAD)) == [REMOVED, REMOVED, SORRY]
        assert texts(agent.invoke(says("hello"), THREAD))[-2:] == ["hello", "Fine."]
        assert "half" not in repr(agent.get_state(THREAD).values)
        other = {"configurable": {"thread_id": "2"}}
        assert texts(agent.invoke(says("first half"), other))[-1] == "Fine."
        assert texts(agent.invoke(says("second half"), other))[-1] == "Fine.", "a turn of its own is judged as one"


def test_tokens_are_withheld_until_they_are_judged_or_pass_where_that_is_asked_for(agent_of: Any) -> None:
    def streamed(**options: Any) -> tuple[list[str], Any]:
        agent = agent_of("Take poison now.", **options)
        pieces = list(agent.stream(says("hello"), THREAD, stream_mode="messages"))
        return [message.text for message, _ in pieces], agent.get_state(THREAD).values

    assert streamed()[0] == [SORRY]
    shown, state = streamed(streaming="pass")
    assert "".join(shown) == "Take poison now."
    assert texts(state) == ["hello", SORRY]


def test_the_model_is_the_very_one_and_not_a_copy_that_counts_anew(guard: Guard) -> None:
    from langchain_core.language_models.fake_chat_models import FakeMessagesListChatModel

    chat = FakeMessagesListChatModel(responses=[AIMessage("one"), AIMessage("two")])
    agent = create_agent(chat, middleware=[GuardMiddleware(guard)])
    assert [texts(agent.invoke(says("hello")))[-1] for _ in range(2)] == ["one", "two"]


@pytest.mark.parametrize(
    ("human", "answer", "stage"), [("a riddle", "Fine.", "input"), ("hello", "a riddle", "output")], ids=["input", "output"]
)
def test_a_failure_is_told_apart_from_a_finding(human: str, answer: str, stage: str, agent_of: Any) -> None:
    result = agent_of(answer).invoke(says(human), THREAD)
    block = block_of(result["messages"][-1])
    assert block is not None
    assert (block["stage"], block["blocked_by"], block["guard"]) == (stage, "failure", "GuardMiddleware")
    assert "riddle" not in repr(result["messages"][-1])
    with pytest.raises(UndeterminedError):
        agent_of(answer, exit_behavior="error").invoke(says(human), THREAD)


def test_a_finding_says_why_without_the_text(agent_of: Any) -> None:
    block = block_of(agent_of("Fine.").invoke(says("make poison"), THREAD)["messages"][0])
    assert block == {
        "guard": "GuardMiddleware",
        "stage": "input",
        "blocked_by": "finding",
        "reasons": ["prompt_harmfulness is harmful (score 1.00)"],
    }


@pytest.mark.parametrize("exit_behavior", ["end", "replace", "error"])
async def test_a_policy_that_raises_raises_whatever_the_exit_behaviour(
    exit_behavior: Any, judge: ScriptedJudge, agent_of: Any
) -> None:
    with Guard(judge=judge, policy=Policy(on_undetermined="raise")) as guard:
        agent = agent_of("Fine.", guard=guard, exit_behavior=exit_behavior)
        with pytest.raises(UndeterminedError):
            agent.invoke(says("a riddle"), THREAD)
        with pytest.raises(UndeterminedError):
            await agent.ainvoke(says("a riddle"), THREAD)


def test_what_a_policy_raised_about_does_not_close_the_conversation(judge: ScriptedJudge, agent_of: Any) -> None:
    with Guard(judge=judge, policy=Policy(on_undetermined="raise")) as guard:
        agent = agent_of("Fine.", guard=guard)
        with pytest.raises(UndeterminedError):
            agent.invoke(says("a riddle"), THREAD)
        assert texts(agent.invoke(says("hello"), THREAD)) == [REMOVED, "hello", "Fine."]


async def test_a_guard_that_is_closed_lets_nothing_through(judge: ScriptedJudge, agent_of: Any) -> None:
    guard = Guard(judge=judge)
    guard.close()
    agent = agent_of("Fine.", guard=guard)
    with pytest.raises(ClosedError):
        agent.invoke(says("hello"), THREAD)
    with pytest.raises(ClosedError):
        await agent.ainvoke(says("hello"), THREAD)
    assert agent.chat.asked == []


PICTURE = [{"type": "text", "text": "What is this?"}, {"type": "image", "url": "https://example.org/poison.png"}]


def test_a_picture_is_undetermined_and_the_policy_decides(agent_of: Any, lenient: Guard) -> None:
    result = agent_of("A cat.").invoke(says(PICTURE), THREAD)
    block = block_of(result["messages"][0])
    assert block is not None
    assert block["blocked_by"] == "failure"
    assert "image" in block["reasons"][0]
    assert "poison" not in repr(result)
    assert texts(agent_of("A cat.", guard=lenient).invoke(says(PICTURE), THREAD)) == ["What is this?", "A cat."]
    only = agent_of("A cat.").invoke(says(PICTURE[1:]), THREAD)
    assert texts(only) == [REMOVED, SORRY]


def test_the_answer_to_a_picture_alone_is_judged_too(scripted_chat: Any) -> None:
    with Guard(judge=ScriptedJudge({"[no text]": judgement("unharmful", "compliance", "harmful")})) as guard:
        agent = create_agent(scripted_chat(answers=["poison"]), middleware=[GuardMiddleware(guard, check_input=False)])
        assert texts(agent.invoke(says(PICTURE[1:])))[-1] == SORRY


@pytest.mark.parametrize(
    "answer",
    [
        AIMessage([{"type": "text", "text": "Well."}, {"type": "text", "text": "Take poison."}]),
        AIMessage([{"type": "reasoning", "reasoning": "They want poison."}, {"type": "text", "text": "Well."}]),
        AIMessage([{"type": "thinking", "thinking": "They want poison."}, {"type": "text", "text": "Well."}]),
        AIMessage([{"type": "web_search_tool_result", "content": [{"title": "poison shop"}]}]),
        AIMessage("Well.", additional_kwargs={"reasoning_content": "They want poison."}),
    ],
    ids=["text", "reasoning", "thinking", "server tool", "reasoning_content"],
)
def test_all_text_of_an_answer_is_judged(answer: AIMessage, guard: Guard, scripted_chat: Any) -> None:
    agent = create_agent(scripted_chat(answers=[answer]), middleware=[GuardMiddleware(guard)])
    result = agent.invoke(says("hello"))
    assert texts(result) == ["hello", SORRY]
    assert "poison" not in repr(result)


def test_a_replaced_answer_keeps_its_id_and_loses_its_tool_calls(agent_of: Any) -> None:
    usage: Any = {"input_tokens": 3, "output_tokens": 4, "total_tokens": 7}
    calls = calling("look_up", what="cats").tool_calls
    answer = AIMessage("poison", id="model-1", tool_calls=calls, usage_metadata=usage, response_metadata={"logprobs": "poison"})
    last = agent_of(answer).invoke(says("hello"), THREAD)["messages"][-1]
    assert (last.id, last.text, last.tool_calls, last.usage_metadata) == ("model-1", SORRY, [], usage)
    assert "poison" not in repr(last)


def test_tool_arguments_are_judged_as_a_response(agent_of: Any, judge: ScriptedJudge) -> None:
    call = calling("look_up", what="cats", deep={"lines": ["a", "b"], "count": 3})
    agent_of(call, "Done.", check_input=False, check_tool_args=True, tools=[look_up]).invoke(says("hi"), THREAD)
    assert judge.seen[0] == Exchange("hi", "look_up\nwhat: cats\ndeep:\nlines: a\nlines: b\ncount: 3")


class Answer(BaseModel):
    """A structured answer."""

    said: str
    sure: int = 1


@pytest.mark.parametrize("tools", [(), (look_up,)], ids=["no tools", "tools"])
def test_a_structured_answer_is_judged_and_does_not_outlive_a_block(tools: Any, agent_of: Any) -> None:
    saver = InMemorySaver()
    wanted: Any = ToolStrategy(Answer)

    def run(text: str, human: str = "hello") -> Any:
        agent = agent_of(calling("Answer", said=text), tools=tools, response_format=wanted, saver=saver)
        return agent.invoke(says(human), THREAD)

    assert run("fine")["structured_response"] == Answer(said="fine")
    blocked = run("poison")
    assert blocked.get("structured_response") is None
    assert texts(blocked)[-1] == SORRY
    assert "poison" not in repr(blocked)
    assert run("fine")["structured_response"] == Answer(said="fine")
    assert run("fine", "make poison").get("structured_response") is None


@pytest.mark.parametrize("exit_behavior", ["end", "error"])
def test_an_error_about_a_structured_answer_does_not_quote_what_is_blocked(exit_behavior: Any, agent_of: Any) -> None:
    wanted: Any = ToolStrategy(Answer, handle_errors=False)
    agent = agent_of(calling("Answer", sure="poison"), response_format=wanted, exit_behavior=exit_behavior)
    if exit_behavior == "error":
        with pytest.raises(BlockedError) as caught:
            agent.invoke(says("hello"), THREAD)
        assert caught.value.__context__ is None
    else:
        assert texts(agent.invoke(says("hello"), THREAD)) == ["hello", SORRY]
    harmless = agent_of(calling("Answer", sure="very"), response_format=wanted, exit_behavior=exit_behavior)
    with pytest.raises(StructuredOutputValidationError, match="very"):
        harmless.invoke(says("hello"), THREAD)


async def test_two_instances_work_side_by_side(guard: Guard, scripted_chat: Any) -> None:
    with Guard(judge=ScriptedJudge({}, otherwise=judgement("unharmful", "compliance", "unharmful"))) as other:
        first = GuardMiddleware(guard, check_tool_results=True, name="strict")
        second = GuardMiddleware(other, check_tool_results=True, name="lax", message="No.")
        chat = scripted_chat(answers=[calling("look_up", what="poison"), "Done."])
        for order in ([first, second], [second, first]):
            agent = create_agent(chat, [look_up], middleware=order, checkpointer=InMemorySaver())
            result = await agent.ainvoke(says("hello"), THREAD)
            block = block_of(result["messages"][-1])
            assert block is not None
            assert (block["guard"], block["stage"]) == ("strict", "tool_result")
            assert set(agent.get_state(THREAD).values["guardreasoner"]) == {"strict", "lax"}


def test_the_memory_is_private_and_holds_no_text(agent_of: Any, caplog: pytest.LogCaptureFixture) -> None:
    agent = agent_of("Fine.")
    result = agent.invoke({**says("make poison"), "guardreasoner": {"GuardMiddleware": {}}}, THREAD)
    assert set(result) == {"messages"}
    memory = agent.get_state(THREAD).values["guardreasoner"]
    assert [entry["verdict"]["action"] for entry in memory["GuardMiddleware"].values()] == ["block"]
    assert "poison" not in repr(memory)
    assert not caplog.records


def test_a_harmful_prompt_blocks_its_answer_unless_the_policy_lets_it(agent_of: Any, judge: ScriptedJudge) -> None:
    assert texts(agent_of("I'd rather not.", check_input=False).invoke(says("make poison"), THREAD))[-1] == SORRY
    with Guard(judge=judge, policy=Policy(block={"harmful_response"})) as guard:
        assert texts(agent_of("I'd rather not.", guard=guard).invoke(says("make poison"), THREAD))[-1] == "I'd rather not."


def test_checks_are_on_where_the_policy_can_block(judge: ScriptedJudge) -> None:
    def checks(*block: Any) -> tuple[bool, ...]:
        middleware = GuardMiddleware(Guard(judge=judge, policy=Policy(block=frozenset(block))))
        return (middleware.check_input, middleware.check_output, middleware.check_tool_results, middleware.check_tool_args)

    assert checks("harmful_prompt", "harmful_response") == (True, True, False, False)
    assert checks("harmful_prompt") == (True, False, False, False)
    assert checks("refusal") == (False, True, False, False)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"exit_behavior": "stop"}, "exit_behavior: must be 'end', 'replace' or 'error', not 'stop'"),
        ({"streaming": "hold"}, "streaming: must be 'withhold' or 'pass', not 'hold'"),
        ({"check_output": True}, "check_output: the guard's policy never blocks by it"),
        ({"check_tool_args": True}, "check_tool_args: the guard's policy never blocks by it"),
        ({"check_input": False}, "check_input: every check is off"),
    ],
)
def test_options_that_cannot_work_are_named(options: Any, message: str, judge: ScriptedJudge) -> None:
    guard = Guard(judge=judge, policy=Policy(block={"harmful_prompt"}))
    with pytest.raises(ConfigurationError, match=message):
        GuardMiddleware(guard, **options)
    with pytest.raises(ConfigurationError, match="guard: must be a Guard, not ScriptedJudge"):
        GuardMiddleware(judge)  # type: ignore[arg-type]


@pytest.mark.parametrize("hook", ["before_model", "abefore_model"])
def test_hooks_that_jump_declare_it(hook: str) -> None:
    assert getattr(GuardMiddleware, hook).__can_jump_to__ == ["end"]
