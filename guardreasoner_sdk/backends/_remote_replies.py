"""What OpenAI-compatible servers answer, made into completions. Pure, no I/O.

The shapes are those of OpenAI's API reference (completions, chat completions, models), and what vLLM, llama.cpp's server,
llama-cpp-python's server and TGI make of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal

from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Completion, Query, TokenProbabilities
from guardreasoner_sdk.verdict import Usage

__all__ = ["read_answer", "read_choices", "read_owner"]

_FINISHED: dict[str, Literal["stop", "length"]] = {
    "stop": "stop",
    "eos_token": "stop",
    "stop_sequence": "stop",
    "length": "length",
}

_UNKNOWN = "\ufffd"
"""What stands where a token is a part of a character only."""

_ROUNDING = 0.01
"""By how much a log-probability may lie above 0, as those of half precision do."""

_MOST = 2**53
"""Beyond that no whole number means what it says."""

_SPECIAL = re.compile(r"<[^<>\s]*>|\[[^\[\]\s]*\]")
_BYTES = re.compile(r"bytes:((?:\\x[0-9a-fA-F]{2})+)")


def read_answer(body: str, query: Query) -> Completion:
    """Read the answer to a completion or a chat completion.

    Raises:
        ValueError: it cannot be read; the message says what is missing and quotes nothing.
        BackendError: the server's own content filter withheld the answer.
    """
    data = _object(body)
    listed = data.get("choices")
    if not (isinstance(listed, list) and listed and isinstance(listed[0], dict)):
        raise ValueError("it holds no choices")
    choice: dict[str, Any] = listed[0]
    message = choice.get("message")
    text = message.get("content", message) if isinstance(message, dict) else choice.get("text")
    if text is None and isinstance(message, dict):
        text = ""  # a chat answer of nothing but a refusal or a call
    if not isinstance(text, str):
        raise ValueError("it holds no text")
    reason = choice.get("finish_reason")
    if reason == "content_filter":
        raise BackendError("the server's own content filter withheld the answer")
    choices = read_choices(choice.get("logprobs"), text) if query.choices else None
    finish = _FINISHED.get(reason) if isinstance(reason, str) else None
    # Servers take at most four stop strings, and some leave the one that they met in the text.
    ends = [place for stop in query.stop if stop and (place := text.find(stop)) >= 0]
    if ends:
        text, finish = text[: min(ends)], "stop"
    return Completion(
        text=text, finish_reason=finish, usage=_usage(data.get("usage")), choices=choices, reasoning=_reasoning(message)
    )


def _reasoning(message: object) -> str:
    """What vLLM (``reasoning``, once ``reasoning_content``), llama.cpp and others set apart as the model's reasoning."""
    said = (message.get(name) for name in ("reasoning_content", "reasoning")) if isinstance(message, dict) else ()
    return next((text for text in said if isinstance(text, str) and text), "")


def read_owner(body: str, model: str) -> str | None:
    """Which server it is, from its list of models: ``vllm``, ``llamacpp``; None where it does not say.

    Args:
        body: the body of the response to ``GET /models``.
        model: the model asked for; another one's owner stands in where it is not listed.
    """
    try:
        listed = _object(body).get("data")
    except ValueError:
        return None
    entries = [entry for entry in listed if isinstance(entry, dict)] if isinstance(listed, list) else []
    entries.sort(key=lambda entry: entry.get("id") != model)
    owner = entries[0].get("owned_by") if entries else None
    return owner if isinstance(owner, str) else None


def read_choices(logprobs: object, text: str) -> TokenProbabilities | None:
    """Read the log-probabilities of an answer, in the shape of completions or of chats.

    Args:
        logprobs: what stands under that name in the answer's choice.

    Returns:
        the probabilities, or None where there are none. Behind a token that cannot be found in the text nothing is known.

    Raises:
        ValueError: a log-probability is none: not a number, above 0, or beyond any float.
    """
    if not isinstance(logprobs, dict):
        return None
    content = logprobs.get("content")
    if isinstance(content, list) and all(isinstance(entry, dict) for entry in content):
        _check_logprobs(entry.get("logprob") for entry in content)
        for entry in content:
            top = entry.get("top_logprobs")
            if isinstance(top, list):
                _check_logprobs(one.get("logprob") for one in top if isinstance(one, dict))
        return _chosen([_shown(entry.get("token"), entry.get("bytes")) for entry in content], _of_chat(content), text)
    tokens = logprobs.get("tokens")
    if isinstance(tokens, list):
        own, tops = logprobs.get("token_logprobs"), logprobs.get("top_logprobs")
        _check_logprobs(own if isinstance(own, list) else ())
        for top in tops if isinstance(tops, list) else ():
            _check_logprobs(top.values() if isinstance(top, dict) else ())
        return _chosen([_shown(token) for token in tokens], _of_completion(logprobs, tokens), text)
    return None


Listed = Callable[[int], Iterable[tuple[str, object]]]
"""The log-probabilities by token text at the number of a token, the one chosen first."""


def _of_chat(content: Sequence[dict[str, Any]]) -> Listed:
    def listed(number: int) -> Iterable[tuple[str, object]]:
        entry = content[number]
        top = entry.get("top_logprobs")
        for one in (entry, *(top if isinstance(top, list) else ())):
            if isinstance(one, dict):
                yield _shown(one.get("token"), one.get("bytes")), one.get("logprob")

    return listed


def _of_completion(logprobs: Mapping[str, Any], tokens: Sequence[object]) -> Listed:
    own, top = logprobs.get("token_logprobs"), logprobs.get("top_logprobs")

    def listed(number: int) -> Iterable[tuple[str, object]]:
        if isinstance(own, list) and number < len(own):
            yield _shown(tokens[number]), own[number]
        if isinstance(top, list) and number < len(top) and isinstance(top[number], dict):
            for token, logprob in top[number].items():
                yield _shown(token), logprob

    return listed


def _chosen(tokens: Sequence[str], listed: Listed, text: str) -> TokenProbabilities | None:
    if not tokens:
        return None
    starts, known = _places(tokens, text)

    def alternatives(number: int) -> Mapping[str, float]:
        found: dict[str, float] = {}
        if number >= known:
            return found
        first: tuple[str, object] | None = None
        for token, logprob in listed(number):
            if first is None:
                first = (token, logprob)
            elif (token, logprob) == first:
                continue  # the chosen token, listed among the most probable ones too
            if isinstance(logprob, int | float):
                found[token] = min(1.0, found.get(token, 0.0) + math.exp(min(0.0, logprob)))
        return found

    return TokenProbabilities(starts, alternatives)


def _shown(token: object, content: object = None) -> str:
    """The characters of a token; parts of characters are U+FFFD."""
    if isinstance(content, list) and content:
        try:
            return bytes(content).decode("utf-8", "replace")
        except (TypeError, ValueError, OverflowError):
            pass  # no list of bytes: its text must do
    if not isinstance(token, str):
        return _UNKNOWN
    if spelt := _BYTES.fullmatch(token):
        return bytes.fromhex(spelt[1].replace("\\x", "")).decode("utf-8", "replace")
    return token


def _places(tokens: Sequence[str], text: str) -> tuple[list[int], int]:
    """Where each token begins in the text, and for how many tokens that is known."""
    starts: list[int] = []
    place = 0
    for number, token in enumerate(tokens):
        starts.append(place)
        for part in token.split(_UNKNOWN):
            after = _after(text, part, place)
            if after is None:
                return starts, number
            place = after
    return starts, len(starts)


def _after(text: str, part: str, place: int) -> int | None:
    """The place behind a token that is to be found from a place on; None where it is not there."""
    if not part or place >= len(text):
        return place
    at = place
    while True:
        if text.startswith(part, at):
            return at + len(part)
        if len(text) - at < len(part) and part.startswith(text[at:]):
            return len(text)  # cut off inside the token, at a stop string
        # What tokens of parts of characters have made is in between: never ASCII.
        if at >= len(text) or text[at].isascii():
            break
        at += 1
    if place == 0 and part[0].isspace():
        return _after(text, part.lstrip(), 0)  # some servers strip the answer
    return place if _SPECIAL.fullmatch(part) else None


def _check_logprobs(logprobs: Iterable[object]) -> None:
    """All at once, though most are never looked at: a server that miscounts one is not believed about the others."""
    for logprob in logprobs:
        if type(logprob) is float:
            sound = logprob <= _ROUNDING  # which NaN is not, either
        else:
            sound = logprob is None or (type(logprob) is int and -_MOST <= logprob <= 0)
        if not sound:
            raise ValueError("a log-probability in it is not a number")


def _usage(usage: object) -> Usage:
    if not isinstance(usage, dict):
        return Usage()
    details = usage.get("prompt_tokens_details")
    return Usage(
        input_tokens=_count(usage.get("prompt_tokens")),
        output_tokens=_count(usage.get("completion_tokens")),
        cached_tokens=_count(details.get("cached_tokens")) if isinstance(details, dict) else 0,
    )


def _count(number: object) -> int:
    if type(number) is not int or number <= 0:
        return 0
    if number > _MOST:
        raise ValueError("a token count in it is not a number")
    return number


def _object(body: str) -> dict[str, Any]:
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        raise ValueError("it is not JSON") from None
    if not isinstance(data, dict):
        raise ValueError("it is not a JSON object")
    return data
