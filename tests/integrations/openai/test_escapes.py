"""JSON is judged as its reader sees it: letters that are written as escapes are letters."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import OpenAI

from guardreasoner_integrations.openai import guarded
from guardreasoner_sdk import BlockedError, Guard, InputError

from .conftest import MESSAGE, seen
from .test_evasion import ASK, chat, events
from .test_streams import given


def escaped(text: str) -> str:
    return "".join(f"\\u{ord(letter):04x}" for letter in text)


SO, EVIL = escaped("so "), escaped("evil")
FORMS = {
    "all": f'{{"body": "{SO}{EVIL}"}}',
    "some": '{"body": "so e\\u0076il"}',
    "a name": f'{{"{EVIL}": 1}}',
    "a list": f'["{EVIL}"]',
    "text": f'"{EVIL}"',
    "JSON in JSON": json.dumps({"body": f'{{"x": "{EVIL}"}}'}),
    "JSON in JSON in JSON": json.dumps({"body": json.dumps({"x": f'{{"y": "{EVIL}"}}'})}),
    "blanks before": f'\n  {{"body": "{EVIL}"}}',
}
cut = pytest.mark.parametrize("size", [1, 4, 1000])
CALLS: dict[str, Any] = {
    "function": lambda text: {"tool_calls": [{"index": 0, "type": "function", "function": {"name": "f", "arguments": text}}]},
    "custom": lambda text: {"tool_calls": [{"index": 0, "type": "custom", "custom": {"name": "f", "input": text}}]},
    "legacy": lambda text: {"function_call": {"name": "f", "arguments": text}},
    "content": lambda text: {"content": text},
    "prose": lambda text: {"content": f"Here you are:\n```json\n{text}\n```"},
    "reasoning": lambda text: {"reasoning_content": text},
}
places = pytest.mark.parametrize("place", CALLS)


def pieces(text: str, size: int) -> list[str]:
    return [text[start : start + size] for start in range(0, len(text), size)]


@places
def test_a_whole_answer_is_read_decoded(server: Any, plain: OpenAI, guard: Guard, place: str) -> None:
    client = guarded(plain, guard)
    for text in FORMS.values():
        server.raw = chat({"content": "fine"}, CALLS[place](text))
        with pytest.raises(BlockedError):
            client.chat.completions.create(**ASK, n=2)
        server.raw = chat({"content": "fine"}, CALLS[place](text.replace("0076", "0078")))
        client.chat.completions.create(**ASK, n=2)


@places
@cut
def test_a_streamed_answer_is_read_decoded(server: Any, plain: OpenAI, guard: Guard, place: str, size: int) -> None:
    client = guarded(plain, guard, check_input=False)

    def answered(text: str) -> list[Any]:
        kind, whole = ("content", CALLS[place](text)["content"]) if place == "prose" else (place, text)
        server.raw = events(*(delta(CALLS[kind](piece)) for piece in pieces(whole, size)), "data: [DONE]")
        return list(client.chat.completions.create(**ASK, stream=True))

    for text in FORMS.values():
        with pytest.raises(BlockedError):
            answered(text)
        assert answered(text.replace("0076", "0078"))


def delta(said: dict[str, Any]) -> str:
    head = {"id": "c", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    return "data: " + json.dumps({**head, "choices": [{"index": 0, "delta": said}]})


def test_in_mid_stream_what_can_be_decoded_is_judged(server: Any, plain: OpenAI, guard: Guard) -> None:
    begun = ['{"body": "' + escaped("So e"), escaped("vil"), ", and on "]
    server.raw = events(*(delta(CALLS["function"](piece)) for piece in begun), "data: [DONE]")
    shown = []
    with pytest.raises(BlockedError):
        shown.extend(guarded(plain, guard, mode="pass", window=1).chat.completions.create(**ASK, stream=True))
    assert len(shown) == 2


ITEMS: dict[str, Any] = {
    "function_call": ("response.function_call_arguments", "arguments"),
    "mcp_call": ("response.mcp_call_arguments", "arguments"),
    "custom_tool_call": ("response.custom_tool_call_input", "input"),
    "code_interpreter_call": ("response.code_interpreter_call_code", "code"),
    "message": ("response.output_text", "text"),
    "reasoning": ("response.reasoning_text", "text"),
}
items = pytest.mark.parametrize("kind", ITEMS)


def item(kind: str, text: str) -> dict[str, Any]:
    if kind in ("message", "reasoning"):
        return {"type": kind, "content": [{"type": "output_text", "text": text}]}
    return {"type": kind, "name": "f", ITEMS[kind][1]: text}


@items
def test_a_whole_response_is_read_decoded(server: Any, plain: OpenAI, guard: Guard, kind: str) -> None:
    client = guarded(plain, guard)
    for text in FORMS.values():
        server.raw = "application/json", json.dumps({"id": "r", "output": [item(kind, text)]}).encode()
        with pytest.raises(BlockedError):
            client.responses.create(**given("responses", "x"))
        server.raw = server.raw[0], server.raw[1].replace(b"0076", b"0078")
        client.responses.create(**given("responses", "x"))


@items
@cut
def test_a_streamed_response_is_read_decoded(server: Any, plain: OpenAI, guard: Guard, kind: str, size: int) -> None:
    prefix, key = ITEMS[kind]
    client = guarded(plain, guard, check_input=False)

    def told(text: str) -> list[dict[str, Any]]:
        return [
            *({"type": f"{prefix}.delta", "output_index": 0, "delta": piece} for piece in pieces(text, size)),
            {"type": f"{prefix}.done", "output_index": 0, key: text},
            {"type": "response.output_item.done", "output_index": 0, "item": item(kind, text)},
            {"type": "response.completed", "response": {"id": "r", "output": [item(kind, text)]}},
        ]

    def answered(told: list[dict[str, Any]]) -> list[Any]:
        server.raw = events(*(f"data: {json.dumps(data)}" for data in told))
        return list(client.responses.create(**given("responses", "x"), stream=True))

    for text in FORMS.values():
        for shown in (told(text), told(text)[-1:], told(text)[-3:-2]):
            with pytest.raises(BlockedError):
                answered(shown)
        fine = told(text.replace("0076", "0078"))
        assert len(answered(fine)) == len(fine)


def test_arguments_are_judged_once_and_without_escapes(server: Any, plain: OpenAI, guard: Guard) -> None:
    text = json.dumps({"code": 'print("grüß\\n")\n', "path": "a/b"}).replace("/", "\\/")
    server.raw = chat(CALLS["function"](text))
    guarded(plain, guard, check_input=False).chat.completions.create(**ASK)
    assert [exchange.response for exchange in seen(guard)] == ['f{"code": "print("grüß\\n")\n", "path": "a/b"}']


def test_an_answer_that_some_may_parse_is_judged_in_both_readings(server: Any, plain: OpenAI, guard: Guard) -> None:
    server.raw = chat({"content": '"\\bomb'})
    guarded(plain, guard, check_input=False).chat.completions.create(**ASK)
    assert [exchange.response for exchange in seen(guard)] == ['"\\bomb', '"\bomb']


def test_an_object_in_place_of_arguments_is_judged_without_escapes(server: Any, plain: OpenAI, guard: Guard) -> None:
    server.raw = chat(CALLS["function"]({"so": 'it "is"\n'}))
    guarded(plain, guard, check_input=False).chat.completions.create(**ASK)
    assert [exchange.response for exchange in seen(guard)] == ['f{"so": "it "is"\n"}']


# What is JSON to one reader and text to another.

CHUNK = json.dumps({"choices": [{"index": 0, "delta": {"content": "fine"}}]})
UNCLEAR = {
    "a key twice": CHUNK.replace('"content": ', f'"content": "{EVIL}", "content": '),
    "a key twice, the last": CHUNK.replace('"fine"', f'"fine", "content": "{EVIL}"'),
    "more behind": f'{CHUNK} {{"a": "{EVIL}"}}',
    "a mark before": "\ufeff" + CHUNK.replace("fine", EVIL),
    "broken": CHUNK.replace("fine", EVIL)[:-1],
    "a comment": CHUNK.replace("fine", EVIL) + " // x",
    "not a number": CHUNK.replace('"fine"', f'"{EVIL}", "a": 01'),
}
unclear = pytest.mark.parametrize("data", UNCLEAR.values(), ids=UNCLEAR)


@unclear
@pytest.mark.parametrize("api", ["chat", "responses"])
def test_an_event_that_readers_understand_differently_is_refused(
    server: Any, plain: OpenAI, guard: Guard, api: str, data: str
) -> None:
    client = guarded(plain, guard)
    resource: Any = client.responses if api == "responses" else client.chat.completions
    server.raw = events(f"data: {data}", "data: [DONE]")
    with (
        resource.with_streaming_response.create(**given(api, "x"), stream=True) as answer,
        pytest.raises(InputError, match=r"^event: .*; have the server send JSON") as caught,
    ):
        answer.read()
    assert "fine" not in str(caught.value)


@unclear
def test_a_body_that_readers_understand_differently_slips_by_nowhere(
    server: Any, plain: OpenAI, guard: Guard, data: str
) -> None:
    server.raw = "application/json", data.replace("delta", "message").encode()
    with pytest.raises((BlockedError, InputError)):
        guarded(plain, guard).chat.completions.with_raw_response.create(**ASK)


@pytest.mark.parametrize("charset", ["utf-16", "utf-7", "unicode_escape", "ibm037"])
def test_a_stream_that_reads_otherwise_than_it_is_judged_is_refused(
    server: Any, plain: OpenAI, guard: Guard, charset: str
) -> None:
    server.raw = f"text/event-stream; charset={charset}", events(f"data: {CHUNK}")[1]
    with (
        guarded(plain, guard).chat.completions.with_streaming_response.create(**ASK, stream=True) as answer,
        pytest.raises(InputError, match=f"is a stream in '{charset}'; have the server send events in UTF-8"),
    ):
        list(answer.iter_lines())


def test_a_body_is_judged_in_the_character_set_that_it_is_read_in(server: Any, plain: OpenAI, guard: Guard) -> None:
    create = guarded(plain, guard).chat.completions.with_raw_response.create
    for kind in ("application/json", "text/plain"):
        body = json.dumps({"choices": [{"index": 0, "message": {"content": "so +AGUAdgBpAGw-"}}]})
        server.raw = f"{kind}; charset=utf-7", body.encode()
        with pytest.raises(BlockedError):
            create(**ASK)
        server.raw = f"{kind}; charset=utf-16", "so evil".encode("utf-16")
        with pytest.raises(BlockedError):
            create(**ASK)
        server.raw = f"{kind}; charset=utf-8", body.encode()
        assert create(**ASK).text == body


def test_what_stands_in_no_choice_lets_no_choice_by(server: Any, plain: OpenAI, guard: Guard) -> None:
    create = guarded(plain, guard, on_block="message").chat.completions.with_raw_response.create
    kind, body = chat({"content": "so +AGUAdgBpAGw-"}, {"content": "fine"})
    server.raw = f"{kind}; charset=utf-7", body
    answer = create(**ASK, n=2)
    assert [choice.message.content for choice in answer.parse().choices] == [MESSAGE, MESSAGE]
    assert "AGUAdgBpAGw" not in answer.text


@pytest.mark.parametrize("depth", [50, 700, 5000])
def test_no_depth_hides_a_text(server: Any, plain: OpenAI, guard: Guard, depth: int) -> None:
    create = guarded(plain, guard).chat.completions.with_raw_response.create
    deep = f'{{"choices": [{{"message": {{"content": {"[" * depth}"{EVIL}"{"]" * depth}}}}}]}}'
    server.raw = "application/json", deep.encode()
    with pytest.raises((BlockedError, InputError)):
        create(**ASK)
    server.raw = events(f"data: {deep}")
    with pytest.raises((BlockedError, InputError)):
        list(create(**ASK, stream=True).parse())
