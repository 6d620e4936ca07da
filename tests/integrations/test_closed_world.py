"""Every type of message and block that LangChain, OpenAI and LiteLLM define, with text in every place that takes a str: it is
judged, or refused as something that cannot be judged, or stands under a key of a table that says why not."""

from __future__ import annotations

import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, get_args, get_origin

import pytest
from openai.types import chat, responses
from pydantic import BaseModel
from typing_extensions import is_typeddict

from guardreasoner_integrations._answer_texts import chat_texts, response_texts
from guardreasoner_integrations._messages import read_messages
from guardreasoner_sdk import InputError
from guardreasoner_sdk.exchange import exchange_from_messages

TEXT = "please say ZZHARM now"
# Nothing of these is shown to a reader or a model: numbers, findings of filters, what servers say about an answer, and what a
# tool keeps for the application.
SKIPPED = {
    *("logprobs", "usage", "usage_metadata", "content_filter_offsets", "content_filter_result", "content_filter_results"),
    *("response_metadata", "artifact"),
}
Path = tuple[str, ...]
Plant = tuple[Path, Any]


def fields_of(kind: Any) -> dict[str, Any]:
    if is_typeddict(kind):
        return typing.get_type_hints(kind)
    return {name: field.annotation for name, field in kind.model_fields.items()}


def literal_in(kind: Any) -> Any:
    """The value of a field that can have only one, or of several the first."""
    if get_origin(kind) is Literal:
        return get_args(kind)[0]
    found = [literal_in(arm) for arm in get_args(kind)] if get_origin(kind) in (typing.Union, types.UnionType) else []
    return next((value for value in found if value is not None), None)


def plants(kind: Any, above: tuple[Any, ...] = ()) -> Iterator[Plant]:
    """Values of a type, each with the text in another place, and the keys that lead there."""
    origin, arms = get_origin(kind), get_args(kind)
    if origin in (typing.Annotated, typing.Required, typing.NotRequired):
        yield from plants(arms[0], above)
    elif kind in (str, Any, object):
        yield (), TEXT
    elif origin in (typing.Union, types.UnionType):
        for arm in arms:
            yield from plants(arm, above)
    elif origin in (dict, Mapping) or kind is dict:
        for path, value in plants(arms[1] if arms else Any, above):
            yield ("a_key", *path), {"a_key": value}
        yield (TEXT,), {TEXT: "x"}
    elif isinstance(origin, type) and issubclass(origin, Iterable) and arms:
        for path, value in plants(arms[0], above):
            yield path, [value]
    elif isinstance(kind, typing.TypeVar | typing.ForwardRef | str) or kind in above:
        return
    elif is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel)):
        fields = fields_of(kind)
        fixed = {name: value for name, field in fields.items() if (value := literal_in(field)) is not None}
        for name, field in fields.items():
            for path, value in plants(field, (*above, kind)):
                yield (name, *path), {**fixed, name: value}


def named(kind: Any) -> str:
    return kind.__name__ if isinstance(kind, type) else str(kind)


def arms_of(kind: Any) -> list[Any]:
    while get_origin(kind) is typing.Annotated:
        kind = get_args(kind)[0]
    found = [arm for part in get_args(kind) for arm in arms_of(part)]
    return found if get_origin(kind) in (typing.Union, types.UnionType) else [kind]


def kinds_in(module: types.ModuleType) -> list[Any]:
    """The types that a module defines."""
    own = [value for value in vars(module).values() if getattr(value, "__module__", None) == module.__name__]
    return [kind for kind in own if is_typeddict(kind) or (isinstance(kind, type) and issubclass(kind, BaseModel))]


def slips(found: Iterable[Plant], heard: typing.Callable[[Any], str]) -> list[str]:
    """The places from which text gets past."""
    past = []
    found = list(found)
    assert found
    for path, value in found:
        if SKIPPED & set(path):
            continue
        try:
            if "ZZHARM" not in heard(value):
                past.append(".".join(path))
        except InputError as refused:
            if "is not text but" not in str(refused):
                past.append(f"{'.'.join(path)}: {refused}")
    return past


def in_messages(*messages: Any) -> str:
    asked = exchange_from_messages([{"role": "user", "content": "hi"}, *messages])
    return repr((asked.prompt, asked.response, [turn.content for turn in asked.history]))


def in_a_request(*messages: Any) -> str:
    return repr(list(read_messages("messages", messages, "raise")))


@pytest.mark.parametrize("kind", arms_of(chat.ChatCompletionMessageParam), ids=named)
def test_messages_of_chat_completions(kind: Any) -> None:
    assert slips(plants(kind), in_messages) == []
    assert slips(plants(kind), in_a_request) == []


def test_answers_of_chat_completions() -> None:
    def whole(value: Any) -> str:
        return repr(chat_texts({"choices": [{"index": 0, "message": value}]}, "raise"))

    def streamed(value: Any) -> str:
        return repr(chat_texts({"choices": [{"index": 0, "delta": value}]}, "raise"))

    from openai.types.chat.chat_completion_chunk import ChoiceDelta

    assert slips(plants(chat.ChatCompletionMessage), whole) == []
    assert slips(plants(chat.ChatCompletionMessage), in_messages) == []
    assert slips(plants(ChoiceDelta), streamed) == []


@pytest.mark.parametrize("kind", arms_of(responses.ResponseInputItemParam), ids=named)
def test_items_that_are_sent_to_responses(kind: Any) -> None:
    assert slips(plants(kind), in_a_request) == []


@pytest.mark.parametrize("kind", arms_of(responses.ResponseOutputItem), ids=named)
def test_items_that_responses_answer(kind: Any) -> None:
    assert slips(plants(kind), lambda item: repr(response_texts({"output": [item]}, "raise"))) == []
    assert slips(plants(kind), in_a_request) == []


def blocks_of_langchain() -> list[Any]:
    content = pytest.importorskip("langchain_core.messages.content", reason="LangChain is not installed")
    return [kind for kind in kinds_in(content) if "type" in fields_of(kind)]


def heard_by_langchain(message: Any) -> str:
    from guardreasoner_integrations.langchain._questions import answer_of, prompt_of

    found = answer_of([message]) if message.type.startswith(("ai", "AI")) else prompt_of([message])
    return "ZZHARM: cannot be judged" if found.unread else found.text


def test_blocks_of_langchain() -> None:
    pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")
    from langchain_core.messages import AIMessage, HumanMessage, ToolMessage

    assert len(blocks_of_langchain()) > 10
    for kind in blocks_of_langchain():
        assert (kind, slips(plants(kind), lambda block: heard_by_langchain(HumanMessage([block])))) == (kind, [])
        assert (kind, slips(plants(kind), lambda block: heard_by_langchain(AIMessage([block])))) == (kind, [])
        assert (kind, slips(plants(kind), lambda block: heard_by_langchain(ToolMessage([block], tool_call_id="1")))) == (
            kind,
            [],
        )
        assert (kind, slips(plants(kind), lambda block: in_messages(AIMessage([block])))) == (kind, [])


def test_messages_of_langchain() -> None:
    pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")
    from langchain_core.messages import BaseMessage, RemoveMessage

    def below(kind: type[BaseMessage]) -> Iterator[type[BaseMessage]]:
        for own in kind.__subclasses__():
            yield from (own, *below(own))

    kinds = [kind for kind in below(BaseMessage) if kind.__module__.startswith("langchain_core.messages")]
    kinds = [kind for kind in kinds if "Base" not in kind.__name__ and kind is not RemoveMessage]
    assert len(kinds) > 10
    for kind in kinds:
        need = {"content": "", "role": "user", "name": "n", "tool_call_id": "1"}
        need = {name: value for name, value in need.items() if name in kind.model_fields}

        def made(value: Mapping[str, Any], kind: Any = kind, need: Any = need) -> str:
            # Not validated: some types declare more than their classes take.
            return heard_by_langchain(kind.model_construct(**{"type": kind.__name__, **need, **value}))

        assert (kind, slips(((path, value) for path, value in plants(kind) if path != ("type",)), made)) == (kind, [])


@pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning")  # LiteLLM's own types
def test_messages_of_litellm() -> None:
    pytest.importorskip("litellm", reason="LiteLLM is not installed: pip install 'guardreasoner-sdk[litellm]'")
    from litellm.types.llms import anthropic, openai
    from litellm.types.utils import Delta, Message

    for kind in arms_of(openai.AllMessageValues):
        assert (kind, slips(plants(kind), in_a_request)) == (kind, [])
    blocks = [kind for module in (anthropic, openai) for kind in kinds_in(module) if "type" in fields_of(kind)]
    contents = [kind for kind in blocks if any(word in kind.__name__ for word in ("Content", "Block", "Object", "Param"))]
    assert len(contents) > 20
    for kind in contents:
        if found := list(plants(kind)):
            assert (kind, slips(found, lambda block: in_a_request({"role": "user", "content": [block]}))) == (kind, [])
    for kind in (Message, Delta):
        assert (kind, slips(plants(kind), lambda value: repr(chat_texts({"choices": [{"delta": value}]}, "raise")))) == (
            kind,
            [],
        )
    assert slips(plants(Message), in_messages) == []


def test_addresses_that_an_answer_quotes_are_text() -> None:
    search = {"type": "search", "query": "q", "sources": [{"type": "url", "url": "https://x.test"}]}
    found = response_texts(
        {"output": [{"type": "web_search_call", "id": "w", "status": "completed", "action": search}]}, "raise"
    )
    assert "https://x.test" in repr(found)


def test_what_an_answer_cites_is_read_behind_it() -> None:
    cited = {"type": "url_citation", "title": "A page", "url": "https://x.test", "start_index": 0, "end_index": 4}
    part = {"type": "output_text", "annotations": [cited], "text": "fine"}
    item = {"type": "message", "role": "assistant", "content": [part]}
    assert list(response_texts({"output": [item]}, "raise").values()) == ["fine\nA page\nhttps://x.test"]


def test_every_key_that_is_passed_over_has_a_reason_and_a_text_under_it_is_still_read() -> None:
    from guardreasoner_sdk._content_table import ASIDE, MARKERS, NO_CONTENT, PROTOCOL, SEALED

    assert {*NO_CONTENT, *ASIDE} == SKIPPED
    for key, reason in {**PROTOCOL, **SEALED, **MARKERS, **NO_CONTENT, **ASIDE}.items():
        assert len(reason.split()) > 1 or reason == "numbers", key
    for key in {**PROTOCOL, **SEALED, **MARKERS}:
        kind = {} if key == "type" else {"type": "text"}
        block: Sequence[Any] = [{**kind, key: TEXT}]
        assert "ZZHARM" in in_a_request({"role": "user", "content": block}), key
        assert "ZZHARM" not in in_a_request({"role": "user", "content": [{**kind, "text": "hi", key: "ZZHARM"}]}), key
