"""Where text can stand in a message of LangChain: it is judged, or the message is undetermined."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from langchain.agents.structured_output import ToolStrategy
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel

from guardreasoner_integrations.langchain import GuardCallbackHandler, GuardedChain, GuardRunnable
from guardreasoner_sdk import BlockedError, ConfigurationError, Guard, Policy, UndeterminedError
from guardreasoner_sdk.testing import ScriptedJudge

BAD = "make poison"
SORRY = "I'm sorry, but I can't help with that."


def calling(name: str = "send", **args: Any) -> AIMessage:
    return AIMessage("", tool_calls=[{"name": name, "args": args, "id": "1"}])


def block(**part: Any) -> AIMessage:
    return AIMessage([{"type": "text", "text": "fine"}, part])


def beside(**kwargs: Any) -> AIMessage:
    return AIMessage("", additional_kwargs=kwargs)


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


ANSWERS = {
    **{f"argument {key}": calling(**{key: BAD}) for key in ("status", "type", "id", "index", "signature", "tool_call_id")},
    "argument below": calling(mail={"type": {"id": [BAD]}}),
    "argument's name": calling(**{BAD: 1}),
    "tool's name": calling(BAD),
    "unreadable arguments": AIMessage("", invalid_tool_calls=[{"name": "t", "id": "1", "args": f'{{"q": "{BAD}', "error": None}]),
    "escaped arguments": AIMessage("", invalid_tool_calls=[{"name": "t", "id": "1", "args": f'{{"q": "{escaped(BAD)}', "error": ""}]),
    "escaped structured answer": AIMessage(json.dumps({"q": "?"}).replace("?", escaped(BAD))),
    "escaped in a fence": AIMessage(f'Here:\n```json\n{{"q": "{escaped(BAD)}"}}\n```'),
    "escaped twice": calling(body=json.dumps({"q": "?"}).replace("?", escaped(BAD))),
    "transcript": beside(audio={"id": "a", "transcript": BAD}),
    "legacy function": beside(function_call={"name": "f", "arguments": f'{{"q": "{escaped(BAD)}"}}'}),
    "refusal": beside(refusal=BAD),
    "reasoning": beside(reasoning=BAD),
    "reasoning summary": beside(reasoning={"type": "reasoning", "summary": [{"type": "summary_text", "text": BAD}]}),
    "reasoning details": beside(reasoning_details=[{"type": "reasoning.text", "text": BAD}]),
    "tool outputs": beside(tool_outputs=[{"type": "mcp_call", "name": "n", "arguments": "{}", "output": BAD}]),
    "a place of tomorrow": beside(thoughts={"deep": [{"id": "1", "words": BAD}]}),
    "a field of its own": AIMessage("", remark=BAD),
    "reasoning text": block(type="reasoning", summary=[], content=[{"type": "reasoning_text", "text": BAD}]),
    "reasoning of Bedrock": block(type="reasoning_content", reasoning_content={"text": BAD, "signature": "s"}),
    "tool_use alone": block(type="tool_use", id="1", name="t", input={"status": BAD}),
    "tool_call alone": block(type="tool_call", id="1", name="t", args={"status": BAD}),
    "function_call alone": block(type="function_call", call_id="1", name="t", arguments=f'{{"q": "{escaped(BAD)}"}}'),
    "custom tool": block(type="custom_tool_call", call_id="1", name="t", input=BAD),
    "server tool": block(type="server_tool_call", id="1", name="t", args={"status": BAD}),
    "executable code": block(type="executable_code", executable_code=BAD, language="PYTHON"),
    "tools of a server": block(type="mcp_list_tools", id="1", server_label="s", tools=[{"name": "n", "description": BAD}]),
    "a page": block(type="web_fetch_tool_result", tool_use_id="1", content={"type": "web_fetch_result", "url": "u", "content": BAD}),
    "ran": block(type="bash_code_execution_tool_result", content={"type": "bash_code_execution_result", "stdout": BAD}),
    "citation": AIMessage([{"type": "text", "text": "fine", "citations": [{"type": "char_location", "cited_text": BAD}]}]),
    "annotation": AIMessage([{"type": "text", "text": "fine", "annotations": [{"type": "citation", "title": BAD}]}]),
    "not standard": block(type="non_standard", value={"x": BAD}),
    "a type of tomorrow": block(type="hologram", layers=[{"status": BAD}]),
}  # fmt: skip


@pytest.fixture
def strict(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge, policy=Policy(block={"harmful_response"})) as made:
        yield made


def saying(message: AIMessage) -> Any:
    return RunnableLambda(lambda _: message).with_types(output_type=AIMessage)


@pytest.mark.parametrize("message", ANSWERS.values(), ids=ANSWERS)
def test_what_an_answer_holds_is_judged(strict: Guard, message: AIMessage) -> None:
    chain = GuardedChain(strict, saying(message))
    with pytest.raises(BlockedError):
        chain.invoke("hi")
    with pytest.raises(BlockedError):
        list(chain.stream("hi"))


HARMLESS = {
    "reasoning of Bedrock": block(type="reasoning_content", reasoning_content={"text": "hm", "signature": "s"}),
    "a page": block(
        type="web_fetch_tool_result", tool_use_id="1", content={"type": "web_fetch_result", "url": "https://x.test"}
    ),
    "ran": block(type="bash_code_execution_tool_result", content={"type": "bash_code_execution_result", "stdout": "1"}),
    "found tools": block(
        type="tool_search_tool_result", content={"type": "tool_search_tool_search_result", "tool_references": []}
    ),
    "code": block(type="executable_code", executable_code="print(1)", language="PYTHON"),
    "its result": block(type="code_execution_result", code_execution_result="1", outcome=1),
    "addresses": block(
        type="web_search_call", action={"type": "search", "query": "q", "sources": [{"type": "url", "url": "u"}]}
    ),
    "no tools": block(type="mcp_list_tools", id="1", server_label="s", tools=[]),
    "custom tool": block(type="custom_tool_call", call_id="1", name="t", input="x"),
    "sealed": block(type="redacted_thinking", data="EpwGCkYIBRgC"),
    "compaction": block(type="compaction", id="1", encrypted_content="zz"),
    "cached": block(type="text", text="more", cache_control={"type": "ephemeral"}),
}


@pytest.mark.parametrize("message", HARMLESS.values(), ids=HARMLESS)
def test_known_blocks_without_harm_pass(strict: Guard, message: AIMessage) -> None:
    chain = GuardedChain(strict, saying(message))
    assert chain.invoke("hi") == message
    assert list(chain.stream("hi")) == [message]


PROMPTS: dict[str, list[Any]] = {
    "untyped": [{"text": BAD}],
    "guarded": [{"type": "guard_content", "text": BAD}],
    "document": [{"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": BAD}}],
    "document of Bedrock": [{"document": {"format": "txt", "name": "d", "source": {"text": BAD}}}],
    "found": [{"type": "search_result", "source": "s", "title": "t", "content": [{"type": "text", "text": BAD}]}],
    "title": [{"type": "text-plain", "text": "fine", "title": BAD, "mime_type": "text/plain"}],
    "context": [{"type": "text-plain", "text": "fine", "context": BAD, "mime_type": "text/plain"}],
    "result of a tool": [{"type": "tool_result", "tool_use_id": "1", "content": BAD}],
    "marker with words": [{"text": "hi"}, {"cachePoint": {"type": BAD}}],
}


@pytest.mark.parametrize("content", PROMPTS.values(), ids=PROMPTS)
def test_what_a_prompt_holds_is_judged(guard: Guard, content: list[Any]) -> None:
    with pytest.raises(BlockedError):
        GuardRunnable(guard).invoke([HumanMessage(content)])


def test_markers_hold_nothing(guard: Guard, judge: ScriptedJudge) -> None:
    GuardRunnable(guard).invoke([HumanMessage([{"text": "hello"}, {"cachePoint": {"type": "default"}}])])
    assert judge.seen[0].prompt == "hello"


UNSEEN: dict[str, Any] = {
    "plain text by base64": {"type": "text-plain", "base64": "cG9pc29u", "mime_type": "text/plain"},
    "plain text by address": {"type": "text-plain", "url": "https://x.test/a.txt", "mime_type": "text/plain"},
    "plain text by id": {"type": "text-plain", "file_id": "f1", "title": "t", "mime_type": "text/plain"},
    "document by address": {"type": "document", "source": {"type": "url", "url": "https://x.test/a.pdf"}},
    "document in bytes": {"document": {"format": "pdf", "name": "d", "source": {"bytes": b"%PDF"}}},
    "nothing that is known": {"type": "hologram", "size": 3},
    "a reference of tomorrow": {"type": "hologram", "uri": "https://x.test/h"},
}


@pytest.mark.parametrize("part", UNSEEN.values(), ids=UNSEEN)
def test_what_cannot_be_seen_is_undetermined(guard: Guard, part: Any) -> None:
    with pytest.raises(UndeterminedError):
        GuardRunnable(guard).invoke([HumanMessage([{"type": "text", "text": "hi"}, part])])


def test_sound_without_its_words_is_undetermined(strict: Guard) -> None:
    for audio in ({"id": "a"}, {"id": "a", "data": "UklG", "transcript": "fine"}):
        with pytest.raises(UndeterminedError):
            GuardedChain(strict, saying(beside(audio=audio))).invoke("hi")


def test_arguments_that_are_escaped_are_judged_as_the_tool_gets_them_at_every_cut(strict: Guard, judge: ScriptedJudge) -> None:
    arguments = f'{{"{escaped("body")}": "{escaped(BAD)}"}}'
    for width in (1, 5, 11, len(arguments)):
        pieces = [arguments[at : at + width] for at in range(0, len(arguments), width)]
        chunks = [
            AIMessageChunk("", tool_call_chunks=[{"name": name, "args": piece, "id": "1", "index": 0}])
            for piece, name in zip(pieces, ["send", *[None] * len(pieces)], strict=False)
        ]

        def told(_: Any, chunks: Any = chunks) -> Iterator[AIMessageChunk]:
            yield from chunks

        chain = RunnableGenerator(told).with_types(output_type=AIMessage)
        with pytest.raises(BlockedError):
            list(GuardedChain(strict, chain).stream("hi"))
        assert judge.seen[-1].response == f'send\n{{"body": "{BAD}"}}'[: len(judge.seen[-1].response or "")]


def test_words_are_not_parted_by_what_comes_in_between(strict: Guard) -> None:
    def told(_: Any) -> Iterator[AIMessageChunk]:
        yield AIMessageChunk("make poi")
        yield AIMessageChunk("", additional_kwargs={"reasoning_content": "hm"})
        yield AIMessageChunk([{"type": "thinking", "thinking": "well", "index": 0}])
        yield AIMessageChunk("son")

    with pytest.raises(BlockedError):
        list(GuardedChain(strict, RunnableGenerator(told).with_types(output_type=AIMessage)).stream("hi"))


def test_calls_that_are_told_twice_are_judged_once(strict: Guard, judge: ScriptedJudge) -> None:
    raw = {"id": "1", "type": "function", "function": {"name": "send", "arguments": '{"to": "Ann"}'}}
    message = AIMessage(
        [{"type": "tool_use", "id": "1", "name": "send", "input": {"to": "Ann"}}],
        tool_calls=[{"name": "send", "args": {"to": "Ann"}, "id": "1"}],
        additional_kwargs={"tool_calls": [raw]},
    )
    GuardedChain(strict, saying(message)).invoke("hi")
    assert judge.seen[-1].response == "send\nto: Ann"


class Ticket(BaseModel):
    status: str
    type: str = ""


@pytest.mark.parametrize("mode", ["values", "updates", "messages", "custom"])
@pytest.mark.parametrize("field", ["status", "type"])
@pytest.mark.parametrize("check", ["check_output", "check_tool_args"])
def test_structured_answers_show_nothing_unjudged(agent_of: Any, mode: Any, field: str, check: str) -> None:
    checks = {"check_output": False, "check_tool_args": False, check: True}
    agent = agent_of(calling("Ticket", **{"status": "open", field: BAD}), response_format=ToolStrategy(Ticket), **checks)
    thread: Any = {"configurable": {"thread_id": "1"}}
    shown = list(agent.stream({"messages": [HumanMessage("hi")]}, thread, stream_mode=mode))
    assert BAD not in repr(shown)
    assert BAD not in repr(agent.get_state(thread))
    assert agent.get_state(thread).values.get("structured_response") is None


def test_no_tool_runs_with_harmful_arguments_under_a_key_of_the_protocol(agent_of: Any) -> None:
    ran = []

    @tool
    def post_update(status: str) -> str:
        """Post a status."""
        ran.append(status)
        return "posted"

    agent = agent_of(calling("post_update", status=BAD), "Done.", check_tool_args=True, tools=[post_update])
    thread: Any = {"configurable": {"thread_id": "1"}}
    assert agent.invoke({"messages": [HumanMessage("hi")]}, thread)["messages"][-1].text == SORRY
    assert not ran


@tool
def post(status: str) -> str:
    """Post a status."""
    return "posted"


def test_callbacks_judge_arguments_as_the_answer_to_what_the_model_was_asked(
    guard: Guard, judge: ScriptedJudge, scripted_chat: Any
) -> None:
    from langchain.agents import create_agent

    handler = GuardCallbackHandler(guard, block=True, check_input=False, check_output=False, check_tool_args=True)
    agent = create_agent(scripted_chat(answers=[calling("post", status="fine"), "Done."]), [post])
    agent.invoke({"messages": [HumanMessage("tell them")]}, {"callbacks": [handler]})
    assert [exchange.response for exchange in judge.seen] == ["post\nstatus: fine"]
    assert judge.seen[0].prompt in ("tell them", "[no text]")  # Older versions of LangChain do not say which call it is.
    with pytest.raises(BlockedError, match="response_harmfulness"):
        post.invoke({"status": BAD}, {"callbacks": [handler]})


def test_a_blocking_handler_refuses_a_check_of_arguments_that_its_policy_never_blocks_by(judge: ScriptedJudge) -> None:
    with (
        Guard(judge=judge, policy=Policy(block={"harmful_prompt"})) as guard,
        pytest.raises(ConfigurationError, match="check_tool_args"),
    ):
        GuardCallbackHandler(guard, block=True, check_tool_args=True)


def test_what_a_tool_gave_is_judged_under_any_key(guard: Guard) -> None:
    handler = GuardCallbackHandler(guard, block=True, check_tool_results=True)

    @tool
    def look(what: str) -> Any:
        """Look."""
        return ToolMessage([{"type": "hologram", "status": BAD}], tool_call_id="1")

    with pytest.raises(BlockedError):
        look.invoke({"what": "x"}, {"callbacks": [handler]})
