"""What callback handlers take for the prompt and for the answer."""

from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from langchain_core.language_models import FakeListLLM, FakeMessagesListChatModel
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool

from guardreasoner_integrations.langchain import AsyncGuardCallbackHandler, GuardCallbackHandler
from guardreasoner_sdk import BlockedError, Guard, Policy, UndeterminedError
from guardreasoner_sdk.testing import ScriptedJudge


async def test_arguments_of_tool_calls_are_part_of_the_answer(guard: Guard, scripted_chat: Any) -> None:
    call = AIMessage("", tool_calls=[{"name": "lookup", "args": {"what": "poison"}, "id": "1"}])
    with pytest.raises(BlockedError):
        scripted_chat(answers=[call]).invoke("hello", {"callbacks": [GuardCallbackHandler(guard, block=True)]})


def test_the_last_turn_is_judged_and_what_was_before_is_history(guard: Guard, judge: ScriptedJudge, scripted_chat: Any) -> None:
    watcher = GuardCallbackHandler(guard, block=True, check_output=False)
    conversation = [
        ("system", "be kind"),
        ("human", "hello"),
        ("ai", "hello you"),
        ("human", "one"),
        ("human", "two"),
        AIMessage("", tool_calls=[{"name": "lookup", "args": {}, "id": "1"}]),
        ToolMessage("bread", tool_call_id="1"),
    ]
    scripted_chat(answers=["", "fine"]).invoke(conversation, {"callbacks": [watcher]})
    (seen,) = judge.seen
    assert seen.prompt == "one\n\ntwo"
    assert [turn.content for turn in seen.history] == ["be kind", "hello", "hello you"]


def test_an_image_is_not_taken_for_harmless(judge: ScriptedJudge, guard: Guard, scripted_chat: Any) -> None:
    picture = HumanMessage([{"type": "text", "text": "what is it?"}, {"type": "image", "url": "https://example.org/a.png"}])
    with pytest.raises(UndeterminedError):
        scripted_chat(answers=["hello"]).invoke([picture], {"callbacks": [GuardCallbackHandler(guard, block=True)]})
    with Guard(judge=judge, policy=Policy(on_undetermined="allow")) as lenient:
        config: RunnableConfig = {"callbacks": [GuardCallbackHandler(lenient, block=True)]}
        assert scripted_chat(answers=["hello"]).invoke([picture], config).text == "hello"


@pytest.mark.parametrize(
    ("finding", "prompt", "answer", "judged"),
    [("harmful_response", "poison", "hello", ["hello"]), ("harmful_prompt", "hello", "poison", [None])],
)
def test_a_blocking_handler_judges_what_can_block(
    finding: Any, prompt: str, answer: str, judged: list[Any], judge: ScriptedJudge, scripted_chat: Any
) -> None:
    with Guard(judge=judge, policy=Policy(block={finding})) as guard:
        config: RunnableConfig = {"callbacks": [GuardCallbackHandler(guard, block=True)]}
        assert scripted_chat(answers=[answer]).invoke(prompt, config).text == answer
    assert [exchange.response for exchange in judge.seen] == judged


def test_one_blocked_row_of_a_batch_does_not_stop_the_others(guard: Guard, scripted_chat: Any) -> None:
    config: RunnableConfig = {"callbacks": [GuardCallbackHandler(guard, block=True)]}
    rows = scripted_chat(answers=["hello"]).batch(["hello", "poison", "a riddle"], config, return_exceptions=True)
    assert rows[0].text == "hello"
    assert [type(row) for row in rows[1:]] == [BlockedError, UndeterminedError]


def test_a_blocked_run_logs_no_judged_text(guard: Guard, scripted_chat: Any, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(BlockedError) as caught:
        scripted_chat(answers=["poison"]).invoke("hello", {"callbacks": [GuardCallbackHandler(guard, block=True)]})
    assert "poison" not in caplog.text + str(caught.value)


def test_where_no_human_speaks_whatever_stands_there_is_the_prompt(guard: Guard, judge: ScriptedJudge) -> None:
    chat = FakeMessagesListChatModel(responses=[AIMessage("well")])
    with pytest.raises(BlockedError):
        chat.invoke(
            [("system", "Answer this:"), ("system", "poison")], {"callbacks": [GuardCallbackHandler(guard, block=True)]}
        )
    assert judge.seen[0].prompt == "Answer this:\n\npoison"


async def test_an_asynchronous_watcher_sees_tools_and_forgets_runs_that_fail(guard: Guard, scripted_chat: Any) -> None:
    @tool
    def lookup(what: str) -> ToolMessage:
        """Look something up."""
        return ToolMessage(f"{what} is poison", tool_call_id="1")

    watcher = AsyncGuardCallbackHandler(guard, check_tool_args=True, check_tool_results=True)
    config: RunnableConfig = {"callbacks": [watcher]}
    await lookup.ainvoke({"what": "bread"}, config)
    with pytest.raises(ValueError, match="down"):
        await scripted_chat(answers=[ValueError("down")]).ainvoke("hello", config)
    await FakeListLLM(responses=["well"]).ainvoke("hello", config)
    await watcher.drain()
    seen = sorted((run.stage, verdict.action) for verdict, run in watcher.record)
    assert seen == [
        ("input", "allow"),
        ("input", "allow"),
        ("output", "allow"),
        ("tool_args", "allow"),
        ("tool_result", "block"),
    ]
    assert len(watcher._observer) == 0
