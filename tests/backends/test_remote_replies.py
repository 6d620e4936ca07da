"""What servers answer, read: text, probabilities, and what cannot be read."""

import json
import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk.backends._remote_replies import read_answer, read_choices, read_owner
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Message, PromptPiece, Query

RAW = Query(pieces=(PromptPiece("x"),))
CHAT = Query(messages=(Message("user", "x"),))


def chatty(tokens: list[tuple[str, list[int] | None]]) -> dict[str, Any]:
    """Log-probabilities in the shape of chats."""
    entries = [{"token": token, "bytes": content, "logprob": -0.1} for token, content in tokens]
    return {"content": [{**entry, "top_logprobs": [entry]} for entry in entries]}


def starts(logprobs: dict[str, Any], text: str) -> list[int]:
    choices = read_choices(logprobs, text)
    assert choices is not None
    return list(choices.starts)


def test_the_shapes_of_completions_and_chats_give_the_same_choices(servers: Any) -> None:
    text = "Request: harmful"
    chances = {" harmful": 0.75, " unharmful": 0.25}
    completion = servers.flat_logprobs(["Request", ":", " harmful"], t2=chances)
    entries = [{"token": token, "logprob": math.log(p), "bytes": list(token.encode())} for token, p in chances.items()]
    chat = chatty([("Request", None), (":", None), (" harmful", None)])
    chat["content"][2] = {**entries[0], "top_logprobs": entries}
    for logprobs in (completion, chat):
        # llama.cpp's own server answers completions in the shape of chats.
        body = json.dumps({"choices": [{"text": text, "logprobs": logprobs}]})
        choices = read_answer(body, Query(choices=2)).choices
        assert choices is not None
        assert choices.at(10) == (8, pytest.approx(chances))
        assert choices.at(0) is not None


def test_alternatives_hold_the_chosen_token_and_sum_tokens_of_the_same_text() -> None:
    entry = {"token": " a", "bytes": None, "logprob": math.log(0.1)}
    twins = [
        {"token": " b", "bytes": None, "logprob": math.log(0.4)},
        {"token": " b", "bytes": None, "logprob": math.log(0.2)},
        {"token": " c", "bytes": None, "logprob": None},
        {"token": "bytes:\\x20\\x64", "logprob": math.log(0.05)},
        {"token": " e", "bytes": None, "logprob": -math.inf},
    ]
    choices = read_choices({"content": [{**entry, "top_logprobs": twins}]}, " a")
    assert choices is not None
    assert choices.alternatives(0) == pytest.approx({" a": 0.1, " b": 0.6, " d": 0.05, " e": 0.0})
    alone = read_choices({"tokens": [" a"], "token_logprobs": [math.log(0.1)], "top_logprobs": None}, " a")
    assert alone is not None
    assert alone.alternatives(0) == pytest.approx({" a": 0.1})


@given(
    st.lists(st.sampled_from(["a", " harmful", "\n", "é", "漢", "😀", "ß b", "Answers:"]), min_size=1, max_size=12),
    st.data(),
    st.sampled_from(["bytes", "ignore", "replace", "spelt"]),
)
@settings(max_examples=300, deadline=None)
def test_tokens_find_their_places_whatever_part_of_a_character_they_are(
    servers: Any, words: list[str], data: Any, shape: str
) -> None:
    text = "".join(words)
    content = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(content) - 1)))))
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True) if a < b]
    if shape == "bytes":
        logprobs = chatty([("\ufffd", list(piece)) for piece in pieces])
    elif shape == "spelt":
        logprobs = servers.flat_logprobs(["bytes:" + "".join(f"\\x{byte:02x}" for byte in piece) for piece in pieces])
    else:
        logprobs = servers.flat_logprobs([piece.decode("utf-8", shape) for piece in pieces])
    choices = read_choices(logprobs, text)
    assert choices is not None
    assert len(choices.starts) == len(pieces)
    assert list(choices.starts) == sorted(choices.starts)
    place = 0
    for number, piece in enumerate(pieces):
        assert choices.alternatives(number)
        if piece.isascii() and (number == 0 or pieces[number - 1].isascii()):
            assert choices.starts[number] == len(content[:place].decode())
        place += len(piece)


def test_places_in_a_text_that_the_server_stripped_cut_or_freed_of_special_tokens(servers: Any) -> None:
    assert starts(servers.flat_logprobs(["\n\n", " Answers", ":", " no"]), "Answers: no") == [0, 0, 7, 8]
    assert starts(servers.flat_logprobs(["a", " b", " STOP here"]), "a b ST") == [0, 1, 3]
    assert starts(servers.flat_logprobs(["a", " b", " and", " more", "<|eot_id|>"]), "a b") == [0, 1, 3, 3, 3]
    assert starts(servers.flat_logprobs(["<|channel|>", "a", "<|sep|>", "b"]), "ab") == [0, 0, 1, 1]
    assert starts(chatty([("é", [195]), ("", [169, 32]), ("b", None)]), "é b") == [0, 0, 2]


def test_behind_a_token_that_is_not_in_the_text_nothing_is_known(servers: Any) -> None:
    choices = read_choices(servers.flat_logprobs(["one", " two", " three"]), "one 2 three")
    assert choices is not None
    assert choices.at(1) == (0, {"one": pytest.approx(0.9)})
    assert choices.at(8) == (3, {})


@pytest.mark.parametrize(
    "logprobs", [None, [], {}, {"tokens": []}, {"content": None}, {"content": [1]}, {"tokens": None, "top_logprobs": []}, "x"]
)
def test_without_probabilities_there_are_no_choices(logprobs: Any) -> None:
    assert read_choices(logprobs, "text") is None


@pytest.mark.parametrize(
    "body",
    [
        "", "null", "[]", "3", "<html>busy</html>", "{", "[" * 100_000, "{}", '{"choices": []}', '{"choices": null}', '{"choices": [7]}',
        '{"choices": [{}]}', '{"choices": [{"text": 5}]}', '{"choices": [{"message": {}}]}', '{"choices": [{"message": {"content": []}}]}',
        '{"error": {"message": "judged text"}}',
    ],
)  # fmt: skip
def test_an_answer_that_cannot_be_read_is_an_error_that_quotes_nothing(body: str) -> None:
    with pytest.raises(ValueError, match="^it (is not JSON|is not a JSON object|holds no choices|holds no text)$"):
        read_answer(body, RAW)


def test_a_chat_answer_without_content_is_empty() -> None:
    assert read_answer('{"choices": [{"message": {"role": "assistant", "content": null}}]}', CHAT).text == ""


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=3) | st.just([104, 105]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(
                    [
                        "choices",
                        "text",
                        "message",
                        "content",
                        "logprobs",
                        "tokens",
                        "token",
                        "bytes",
                        "logprob",
                        "top_logprobs",
                        "token_logprobs",
                        "usage",
                        "prompt_tokens",
                        "prompt_tokens_details",
                        "finish_reason",
                    ]
                ),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(max_examples=300, deadline=None)  # fmt: skip
def test_whatever_a_server_says_is_read_or_refused(said: Any) -> None:
    for data in (said, {"choices": [said]}, {"choices": [{"text": "hi", "logprobs": said}], "usage": said}):
        try:
            completion = read_answer(json.dumps(data), Query(choices=5))
        except (ValueError, BackendError):
            continue
        if completion.choices is not None:
            for number in range(len(completion.choices.starts)):
                assert all(0 <= p <= 1 for p in completion.choices.alternatives(number).values())


@pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
def test_what_a_server_sets_apart_as_reasoning_is_no_part_of_the_text(field: str) -> None:
    for said, expected in (("Hm.", "Hm."), (None, ""), ({"a": 1}, "")):
        body = json.dumps({"choices": [{"message": {"content": "SAFE", field: said}}]})
        answer = read_answer(body, CHAT)
        assert (answer.text, answer.reasoning) == ("SAFE", expected)


def test_the_owner_of_the_model_asked_for_counts() -> None:
    listed = [{"id": "other", "owned_by": "vllm"}, {"id": "mine", "owned_by": "llamacpp"}]
    assert read_owner(json.dumps({"data": listed}), "mine") == "llamacpp"
    assert read_owner(json.dumps({"data": listed}), "unlisted") == "vllm"
    for body in ("", "[]", '{"data": 1}', '{"data": [1]}', '{"data": [{"owned_by": 1}]}'):
        assert read_owner(body, "mine") is None
