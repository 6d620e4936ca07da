"""What tools return, in every shape in which they may: judged, and removed where it is blocked."""

from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langgraph.types import Command, Overwrite

from guardreasoner_integrations.langchain._tool_results import each_message
from guardreasoner_sdk import Exchange
from guardreasoner_sdk.testing import ScriptedJudge

REMOVED = "[This message was removed by the guard.]"
THREAD: Any = {"configurable": {"thread_id": "1"}}


def calling(name: str, identity: str = "call-1", **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": identity}])


def says(text: Any) -> Any:
    return {"messages": [HumanMessage(text)]}


def texts(result: Any) -> list[str]:
    return [message.text for message in result["messages"]]


def test_a_removed_tool_result_keeps_what_the_model_needs_and_nothing_else(agent_of: Any) -> None:
    @tool(response_format="content_and_artifact")
    def read() -> tuple[str, dict[str, str]]:
        """Read."""
        return "poison", {"page": "poison"}

    agent = agent_of(calling("read", "call-7"), "Done.", tools=[read], check_tool_results=True, exit_behavior="replace")
    result = agent.invoke(says("hello"), THREAD)["messages"][2]
    assert (result.tool_call_id, result.name, result.status, result.content) == ("call-7", "read", "error", REMOVED)
    assert "poison" not in repr(result)


@pytest.mark.parametrize("written", ["messages", "mappings"])
def test_the_messages_in_a_tools_command_are_judged(written: str, agent_of: Any) -> None:
    @tool
    def read() -> Any:
        """Read."""
        message = ToolMessage("poison", tool_call_id="call-1")
        plain = {"role": "tool", "content": "poison", "tool_call_id": "call-1"}
        return Command(update={"messages": [plain if written == "mappings" else message]})

    agent = agent_of(calling("read"), "Done.", tools=[read], check_tool_results=True, exit_behavior="replace")
    result = agent.invoke(says("hello"), THREAD)
    assert texts(result) == ["hello", "", REMOVED, "Done."]


MESSAGE = ToolMessage("poison", tool_call_id="call-1")


@pytest.mark.parametrize(
    "result",
    [
        MESSAGE,
        [MESSAGE],
        Command(update={"messages": MESSAGE}),
        Command(update={"messages": [("human", "poison")]}),
        Command(update={"messages": {"role": "user", "content": "poison"}}),
        Command(update={"messages": "poison"}),
        Command(update=[("messages", [MESSAGE])]),
        Command(update=[MESSAGE]),
        Command(update={"messages": Overwrite([MESSAGE])}),
        Command(update={"notes": {"of": [MESSAGE]}}),
    ],
    ids=repr,
)
def test_every_way_to_write_a_message_into_a_command_is_read(result: Any) -> None:
    changed = each_message(result, lambda message: type(message)(**{**message.model_dump(), "content": "well"}))
    assert "poison" not in repr(changed)
    assert "well" in repr(changed)
    assert type(changed) is type(result)


def test_a_tool_result_is_judged_as_a_prompt_after_the_conversation(agent_of: Any, judge: ScriptedJudge) -> None:
    agent_of(calling("look_up", what="cats"), "Done.", check_output=False, check_tool_results=True).invoke(says("hi"), THREAD)
    assert judge.seen[-1] == Exchange("all about cats", None, [{"role": "user", "content": "hi"}])
