"""The guarded client, and what of a request the guard gets to see."""

from __future__ import annotations

from typing import Any

import pytest
from openai import AzureOpenAI, OpenAI

from guardreasoner_integrations.openai import guarded
from guardreasoner_sdk import BlockedError, ConfigurationError, Guard, InputError

from .conftest import MESSAGE, PICTURE, TOOLS, seen, user


def test_the_given_client_stays_as_it_is(plain: OpenAI, guard: Guard) -> None:
    before = dict(vars(plain))
    client = guarded(plain, guard)
    with pytest.raises(BlockedError):
        client.chat.completions.create(model="m", messages=user("say: evil"))
    assert plain.chat.completions.create(model="m", messages=user("say: evil")).choices[0].message.content == "evil"
    assert isinstance(client, OpenAI)
    assert type(plain) is OpenAI
    assert {key: value for key, value in vars(plain).items() if key != "chat"} == {
        k: v for k, v in before.items() if k != "chat"
    }


def test_copies_of_a_guarded_client_are_guarded(plain: OpenAI, guard: Guard) -> None:
    client = guarded(plain, guard).with_options(timeout=5).copy(max_retries=1)
    assert client.timeout == 5
    with pytest.raises(BlockedError):
        client.chat.completions.create(model="m", messages=user("say: evil"))
    with pytest.raises(ConfigurationError, match="guarded already"):
        guarded(client, guard)


def test_azure(server: Any, guard: Guard) -> None:
    address = server.url.removesuffix("/v1")
    with AzureOpenAI(azure_endpoint=address, api_key="k", api_version="1", max_retries=0) as plain:
        client = guarded(plain, guard, on_block="message")
        assert client.chat.completions.create(model="m", messages=user("say: evil")).choices[0].message.content == MESSAGE
        assert client.chat.completions.create(model="m", messages=user("say: good")).choices[0].message.content == "good"
        assert client.responses.create(model="m", input="evil say: x").output_text == MESSAGE


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"mode": "hope"}, "mode: must be 'hold' or 'pass'"),
        ({"window": 0}, "window: must be a number of characters"),
        ({"on_block": print}, "on_block: must be 'raise' or 'message'"),
        ({"unjudged": "no"}, "unjudged: must be 'raise' or 'allow'"),
        ({"client": "client"}, "client: must be an OpenAI or AsyncOpenAI client, not str"),
    ],
)
def test_options_that_cannot_work(plain: OpenAI, guard: Guard, options: dict[str, Any], error: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{error}"):
        guarded(**{"client": plain, "guard": guard, **options})


# What the guard gets to see.


def test_the_last_user_message_is_judged_with_its_history(chat: Any, guard: Guard, plain: OpenAI) -> None:
    first = plain.chat.completions.create(model="m", messages=user("say: hello"), tools=TOOLS).choices[0].message
    messages = [
        {"role": "developer", "content": "be kind"},
        *user("earlier"),
        first,
        {"role": "tool", "tool_call_id": "call_1", "content": "found"},
        {"role": "assistant", "content": "so it is"},
        *user([{"type": "text", "text": "say: fine"}]),
    ]
    chat.create(model="m", messages=iter(messages))
    asked, answered = seen(guard)
    assert (asked.prompt, asked.response) == ("say: fine", None)
    assert [(turn.role, turn.content) for turn in asked.history] == [
        ("system", "be kind"),
        ("user", "earlier"),
        ("assistant", 'look_up\n{"query": "hello"}'),
        ("tool", "found"),
        ("assistant", "so it is"),
    ]
    assert (answered.prompt, answered.response, answered.history) == ("say: fine", "fine", asked.history)


def test_items_of_the_responses_api_are_judged_likewise(responses: Any, guard: Guard) -> None:
    responses.create(
        model="m",
        instructions="be kind",
        input=[
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "earlier"}]},
            {"type": "reasoning", "id": "r", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "look_up", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": "found"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "so it is"}]},
            {"role": "user", "content": "say: fine"},
        ],
    )
    asked, answered = seen(guard)
    assert (asked.prompt, answered.response) == ("say: fine", "fine")
    assert [(turn.role, turn.content) for turn in asked.history] == [
        ("system", "be kind"),
        ("user", "earlier"),
        ("assistant", "look_up\n{}"),
        ("tool", "found"),
        ("assistant", "so it is"),
    ]


def test_what_a_tool_gave_is_judged_before_it_is_sent(server: Any, chat: Any) -> None:
    answer = chat.create(model="m", messages=[*user("look it up"), {"role": "tool", "tool_call_id": "c", "content": "evil"}])
    assert answer.choices[0].message.content == MESSAGE
    assert not server.requests


def test_instructions_alone_are_the_prompt(server: Any, chat: Any, responses: Any) -> None:
    assert chat.create(model="m", messages=[{"role": "system", "content": "evil"}]).choices[0].message.content == MESSAGE
    assert responses.create(model="m", input=[], instructions="evil").output_text == MESSAGE
    assert not server.requests


def test_a_body_that_is_added_is_judged_in_place_of_the_one_it_replaces(server: Any, chat: Any) -> None:
    answer = chat.create(model="m", messages=user("say: x"), extra_body={"messages": user("evil")})
    assert answer.choices[0].message.content == MESSAGE
    assert not server.requests


@pytest.mark.parametrize(
    ("api", "given", "where"),
    [
        ("chat", {"messages": user([{"type": "text", "text": "say: cat"}, PICTURE])}, "messages[0].content[1]"),
        ("chat", {"messages": [{"role": "tool", "tool_call_id": "c", "content": [PICTURE]}, *user("say: cat")]}, "messages[0].content[0]"),
        ("responses", {"input": [{"role": "user", "content": [{"type": "input_text", "text": "say: cat"}, {"type": "input_image", "image_url": "x"}]}]}, "input[0].content[1]"),
        ("responses", {"input": [{"type": "function_call_output", "call_id": "c", "output": [{"type": "input_file", "file_id": "f"}]}, *user("say: cat")]}, "input[0].output[0]"),
        ("responses", {"input": [{"type": "computer_call_output", "call_id": "c", "output": {"type": "computer_screenshot", "file_id": "f"}}, *user("say: cat")]}, "input[0].output"),
        ("responses", {"input": "say: cat", "extra_body": {"prompt": {"id": "p", "variables": {"animal": "dog"}}}}, "prompt"),
    ],
)  # fmt: skip
def test_what_is_no_text_fails_closed(server: Any, plain: OpenAI, guard: Guard, api: str, given: Any, where: str) -> None:
    def create(unjudged: Any) -> str:
        client = guarded(plain, guard, unjudged=unjudged)
        if api == "responses":
            return client.responses.create(model="m", **given).output_text
        return str(client.chat.completions.create(model="m", **given).choices[0].message.content)

    with pytest.raises(InputError, match="which this guard cannot judge; .*unjudged='allow'") as caught:
        create("raise")
    assert caught.value.field == where
    assert not server.requests
    assert "cat" in create("allow")


def test_the_guard_is_told_where_a_picture_stood(plain: OpenAI, guard: Guard) -> None:
    guarded(plain, guard, unjudged="allow").chat.completions.create(model="m", messages=user([PICTURE]))
    assert seen(guard)[0].prompt == "[image_url]"


@pytest.mark.parametrize(
    ("api", "given", "problem"),
    [
        ("chat", {"messages": user(" ")}, "^messages: has no text to judge"),
        ("chat", {"messages": user({"text": "x"})}, r"^messages\[0\].content: must be text, not dict"),
        ("chat", {"messages": ["x"]}, r"^messages\[0\]: must be a message, not str"),
        ("chat", {"messages": None}, "^messages: must be a list, not NoneType"),
        ("responses", {"input": []}, "^input: has no text to judge"),
        ("responses", {"input": 7}, "^input: must be a list, not int"),
    ],
)
def test_nothing_to_judge_is_an_error(server: Any, chat: Any, responses: Any, api: str, given: Any, problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        (chat if api == "chat" else responses).create(model="m", **given)
    assert not server.requests
