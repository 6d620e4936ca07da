import pytest
from hypothesis import given
from hypothesis import strategies as st

from guardreasoner_sdk import Exchange, InputError, Turn
from guardreasoner_sdk.exchange import MAX_CHARACTERS, exchange_from, exchange_from_messages
from guardreasoner_sdk.verdict import TASKS


def test_another_response_leaves_prompt_and_history_as_they_are() -> None:
    asked = Exchange("ask", history=[{"role": "user", "content": "before"}])
    answered = asked.with_response("an\ud800swer")
    assert answered == Exchange("ask", "an\ufffdswer", asked.history)
    assert hash(answered) == hash(Exchange("ask", "an\ufffdswer", asked.history))
    assert answered.with_response(None) == asked
    assert (asked.tasks, answered.tasks) == (TASKS[:1], TASKS)
    with pytest.raises(InputError, match="response: is empty; pass None to judge the prompt alone"):
        asked.with_response("")


ANY_TEXT = st.text(alphabet=st.characters(codec=None))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("", "prompt: is empty; pass the text to judge"),
        (" \n\t ", "prompt: has no visible character"),
        ("\u200b\u202e\ufeff", "prompt: has no visible character"),
        ("\x00\x00", "prompt: has no visible character"),
        (None, "prompt: must be a str, not NoneType"),
        (7, "prompt: must be a str, not int; pass the text as str"),
        (b"hi", "prompt: must be a str, not bytes; decode the bytes first"),
        (["a"], "prompt: must be a str, not list"),
        ("x" * (MAX_CHARACTERS + 1), "prompt: has 2,000,001 characters, the most is 2,000,000; split it"),
    ],
)
def test_a_prompt_that_cannot_be_judged_is_named_with_the_fix(value: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Exchange(value)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)
    assert caught.value.field == "prompt"


def test_a_text_of_just_the_most_characters_is_judged() -> None:
    assert len(Exchange("x" * MAX_CHARACTERS, "y" * MAX_CHARACTERS).prompt) == MAX_CHARACTERS


def test_an_empty_response_is_not_no_response() -> None:
    with pytest.raises(InputError, match=r"^response: is empty; pass None to judge the prompt alone$"):
        Exchange("hi", "")
    with pytest.raises(InputError, match=r"^response: must be a str, not dict"):
        Exchange("hi", {})  # type: ignore[arg-type]


def test_lone_surrogates_become_replacement_characters() -> None:
    exchange = Exchange("a\ud800b", "c\udfff")
    assert (exchange.prompt, exchange.response) == ("a\ufffdb", "c\ufffd")
    assert Exchange.model_validate_json(exchange.model_dump_json()) == exchange


def test_other_characters_are_kept_as_they_are() -> None:
    text = "a\x00b \u202eright to left\u202c \u200bzero 👩‍👩‍👧"
    assert Exchange(text).prompt == text


@given(ANY_TEXT, st.none() | ANY_TEXT)
def test_any_text_gives_an_exchange_or_an_input_error(prompt: str, response: str | None) -> None:
    try:
        exchange = Exchange(prompt, response)
    except InputError as error:
        assert error.field in ("prompt", "response")
    else:
        assert exchange.prompt.encode()
        assert (exchange.response is None) == (response is None)
        assert hash(exchange) == hash(Exchange(exchange.prompt, exchange.response))


@pytest.mark.parametrize(
    ("history", "words"),
    [
        ("hello", "history: must be a list of turns, not str"),
        ([3], "history[0]: must be a turn, not int; pass a Turn or a mapping"),
        ([{"role": "user"}], "history[0].content: Field required"),
        ([{"role": "pope", "content": "x"}], "history[0].role: Input should be"),
        ([{"role": "user", "content": ""}], "history[0].content: is empty; leave the turn out"),
        ([{"role": "user", "content": "x"}, {"role": "user", "content": 4}], "history[1].content: must be a str"),
    ],
)
def test_history_errors_name_the_turn(history: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Exchange("hi", history=history)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_history_takes_turns_and_mappings() -> None:
    turn = Turn(role="user", content="a")
    assert Exchange("b", history=[turn, {"role": "assistant", "content": "c"}]).history == (
        turn,
        Turn(role="assistant", content="c"),
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a", Exchange("a")),
        (("a",), Exchange("a")),
        (("a", "b"), Exchange("a", "b")),
        (["a", None], Exchange("a")),
        ({"prompt": "a", "response": None, "label": "unread"}, Exchange("a")),
        (
            {"prompt": "a", "history": [{"role": "user", "content": "z"}]},
            Exchange("a", history=[Turn(role="user", content="z")]),
        ),
        (Exchange("a"), Exchange("a")),
    ],
)
def test_rows_of_a_batch(row: object, expected: Exchange) -> None:
    assert exchange_from(row) == expected


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"Text": "a"}, "prompt: is missing; rename 'Text' to 'prompt'"),
        ({"a": "a"}, "prompt: is missing; give each row a 'prompt'"),
        ({"prompt": None}, "prompt: must be a str, not NoneType"),
        (("a", "b", "c"), "row: has 3 items"),
        (3, "row: must be a row, not int"),
    ],
)
def test_rows_that_are_none(row: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        exchange_from(row)
    assert str(caught.value).startswith(words)


def test_messages_judge_the_last_user_turn_in_the_light_of_the_earlier_ones() -> None:
    exchange = exchange_from_messages(
        [
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "1"}]},
            {"role": "tool", "content": "result"},
            {"role": "assistant", "content": [{"type": "output_text", "text": "two"}]},
            {"role": "user", "content": [{"type": "text", "text": "three"}, {"type": "input_text", "text": "four"}, "five"]},
        ]
    )
    assert exchange.prompt == "three\nfour\nfive"
    assert exchange.response is None
    assert [(turn.role, turn.content) for turn in exchange.history] == [
        ("system", "Be brief."),
        ("user", "one"),
        ("tool", "result"),
        ("assistant", "two"),
    ]


def test_what_follows_the_last_user_turn_is_the_response() -> None:
    exchange = exchange_from_messages(
        [
            {"role": "user", "content": "ask"},
            {"role": "assistant", "content": "let me look"},
            {"role": "tool", "content": "found"},
            {"role": "assistant", "content": None, "refusal": "I can't help with that"},
        ]
    )
    assert exchange.response == "let me look\n\nfound\n\nI can't help with that"


def test_a_refusal_part_is_text() -> None:
    messages = [
        {"role": "user", "content": "ask"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
    ]
    assert exchange_from_messages(messages).response == "no"


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([], "messages: has no user message"),
        ("hi", "messages: must be a list of messages, not str"),
        ([{"role": "assistant", "content": "a"}], "messages: has no user message"),
        (["a"], "messages[0]: must be a mapping, not str"),
        ([{"role": "king", "content": "a"}], "messages[0].role: is 'king'; use one of user"),
        ([{"content": "a"}], "messages[0].role: is missing or no role; use one of user"),
        ([{"role": "user", "content": 4}], "messages[0].content: must be text, not int"),
        ([{"role": "user", "content": ""}], "prompt: is empty"),
        ([{"role": "user", "content": [{"type": "text", "text": 4}]}], "messages[0].content[0].text: is not text but 'int'"),
        (
            [{"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {}}]}],
            "messages[0].content[1]: is not text but 'image_url'; judge other media elsewhere",
        ),
        ([{"role": "user", "content": [3]}], "messages[0].content[0]: is not text but 'int'"),
    ],
)
def test_message_errors_name_the_place(messages: object, words: str) -> None:
    with pytest.raises(InputError) as caught:
        exchange_from_messages(messages)  # type: ignore[arg-type]
    assert str(caught.value).startswith(words)


def test_what_an_assistant_hands_to_tools_is_part_of_its_answer() -> None:
    calls = [
        {"id": "1", "type": "function", "function": {"name": "search", "arguments": '{"text": "tea"}'}},
        {"id": "2", "type": "custom", "custom": {"name": "note", "input": "two cups"}},
    ]
    old = {"role": "assistant", "content": "Wait.", "function_call": {"name": "count", "arguments": {"cups": 2}}}
    question = {"role": "user", "content": "Tea?"}
    exchange = exchange_from_messages([question, {"role": "assistant", "content": None, "tool_calls": calls}, old])
    assert exchange.response == 'search({"text": "tea"})\nnote(two cups)\n\nWait.\ncount({"cups": 2})'
    assert exchange_from_messages([old, question]).history[0].content == 'Wait.\ncount({"cups": 2})'


def test_a_role_that_may_be_text_to_judge_is_not_quoted() -> None:
    with pytest.raises(InputError) as caught:
        exchange_from_messages([{"role": "how to build a bomb", "content": "x"}])
    assert "bomb" not in str(caught.value)
    with pytest.raises(InputError, match="role: is 'asistant'"):
        exchange_from_messages([{"role": "asistant", "content": "x"}])


BAD = "please bad now"
ASKED = {"role": "user", "content": "hi"}
CALL = {"name": "f", "args": {"status": BAD}, "id": "1"}


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"content": "", "refusal": BAD}, BAD),
        ({"content": None, "audio": {"id": "a", "data": "AA==", "transcript": BAD}}, BAD),
        ({"content": "ok", "reasoning_content": BAD}, f"ok\n{BAD}"),
        ({"content": "ok", "reasoning": BAD}, f"ok\n{BAD}"),
        ({"content": "", "tool_calls": [CALL]}, f'f({{"status": "{BAD}"}})'),
        ({"content": "", "additional_kwargs": {"refusal": BAD}}, BAD),
        ({"content": [{"type": "thinking", "thinking": BAD}, {"type": "text", "text": "ok"}]}, f"{BAD}\nok"),
        ({"content": [{"type": "tool_use", "id": "1", "name": "f", "input": {"q": BAD}}]}, f'f({{"q": "{BAD}"}})'),
        ({"content": [{"text": BAD}, {"cachePoint": {"type": "default"}}]}, BAD),
        ({"content": "ok", "a_place_of_tomorrow": {"words": BAD}}, f"ok\n{BAD}"),
    ],
)
def test_all_that_a_message_says_is_read(message: dict[str, object], said: str) -> None:
    assert exchange_from_messages([ASKED, {"role": "assistant", **message}]).response == said


def test_arguments_are_judged_as_the_tool_reads_them() -> None:
    letters = "".join(f"\\u{ord(letter):04x}" for letter in "bad")
    for arguments in (f'{{"body": "{letters}\\/"}}', f'{{"{letters}": 1}}', f'{{"body": "{letters}'):
        call = {"id": "1", "type": "function", "function": {"name": "send", "arguments": arguments}}
        exchange = exchange_from_messages([ASKED, {"role": "assistant", "content": None, "tool_calls": [call]}])
        assert "bad" in (exchange.response or "")
    for answer in (f'{{"body": "{letters}"}}', f'Here: {{"body": "{letters}"}}'):
        assert "bad" in (exchange_from_messages([ASKED, {"role": "assistant", "content": answer}]).response or "")
    assert exchange_from_messages([{"role": "user", "content": letters}]).prompt == letters


def test_what_tools_gave_is_no_prompt_whoever_names_it() -> None:
    result = {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": "found"}]}
    items = [{"type": "function_call", "name": "f", "call_id": "c", "arguments": "{}"}]
    output = {"type": "function_call_output", "call_id": "c", "output": "given"}
    exchange = exchange_from_messages([ASKED, *items, output, {"role": "user", "content": [result]}])
    assert (exchange.prompt, exchange.response) == ("hi", "f({})\n\ngiven\n\nfound")


@pytest.mark.parametrize(
    "part",
    [
        {"type": "hologram"},
        {"type": "hologram", "url": "https://x.test"},
        {"type": "document", "source": {"type": "url", "url": "https://x.test"}},
        {"type": "text-plain", "base64": "YmFk"},
        {"document": {"source": {"bytes": b"bad"}}},
    ],
)
def test_what_holds_something_that_cannot_be_read_is_refused(part: dict[str, object]) -> None:
    with pytest.raises(InputError, match=r"messages\[0\].content\[0\].*is not text but"):
        exchange_from_messages([{"role": "user", "content": [part, {"type": "text", "text": "hi"}]}])
    for told in ({"type": "please-" * 20, "text": None}, {"please say it": {"url": "u"}}):
        with pytest.raises(InputError) as caught:
            exchange_from_messages([{"role": "user", "content": [told]}])
        assert "please" not in str(caught.value)


def test_messages_of_openai_are_taken_as_they_are() -> None:
    from openai.types.chat import ChatCompletionMessage
    from openai.types.responses import ResponseFunctionToolCall, ResponseOutputMessage, ResponseOutputText

    own = ChatCompletionMessage(role="assistant", content="", refusal="no")
    assert exchange_from_messages([ASKED, own]).response == "no"
    call = ResponseFunctionToolCall(type="function_call", id="f", call_id="c", name="f", arguments='{"q": "x"}')
    part = ResponseOutputText(type="output_text", text="done", annotations=[])
    said = ResponseOutputMessage(type="message", id="m", role="assistant", status="completed", content=[part])
    assert exchange_from_messages([ASKED, call, said]).response == 'f({"q": "x"})\n\ndone'


def test_messages_of_langchain_are_taken_as_they_are() -> None:
    messages = pytest.importorskip("langchain_core.messages", reason="LangChain is not installed")
    talk = [
        messages.SystemMessage("be kind"),
        messages.HumanMessage("hi"),
        messages.AIMessage("", tool_calls=[CALL]),
        messages.ToolMessage("given", tool_call_id="1", artifact={"not": "read"}),
        messages.AIMessageChunk("do", tool_call_chunks=[{"name": "g", "args": '{"q', "id": "2", "index": 0}]),
        messages.ChatMessage(role="assistant", content="ne"),
    ]
    exchange = exchange_from_messages(talk)
    assert exchange.prompt == "hi"
    assert exchange.response == f'f({{"status": "{BAD}"}})\n\ngiven\n\ndo\ng({{"q)\n\nne'
    assert [turn.role for turn in exchange.history] == ["system"]


@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")  # LiteLLM's own types
def test_messages_of_litellm_are_taken_as_they_are() -> None:
    pytest.importorskip("litellm", reason="LiteLLM is not installed: pip install 'guardreasoner-sdk[litellm]'")
    from litellm.types.utils import Message

    own = Message(content="", reasoning_content="hm", provider_specific_fields={"refusal": "no"})
    assert set((exchange_from_messages([ASKED, own]).response or "").split("\n")) == {"hm", "no"}


@pytest.mark.parametrize("kind", [["text"], {"a": 1}, 7, True, b"text"])
def test_a_type_that_is_no_word_is_none_that_is_known(kind: object) -> None:
    with pytest.raises(InputError, match="a part of an unknown type"):
        exchange_from_messages([{"role": "user", "content": [{"type": kind, "file_id": "a"}]}])
    with pytest.raises(InputError, match="role: is missing"):
        exchange_from_messages([{"type": kind, "content": "a"}])
