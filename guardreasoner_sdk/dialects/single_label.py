"""What the families share that answer with a label and little more.

Each of their answers is about one part of the exchange, so that several queries make one judgement: here they are asked for
both parts, and their answers become one text with places in it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from guardreasoner_sdk.dialects.base import Answer
from guardreasoner_sdk.dialects.quoting import marks, quote, quote_with_images
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion, Message, PromptPiece, Query
from guardreasoner_sdk.verdict import Finding, Span, Usage, undetermined

__all__ = ["CONVERSATION", "Sheet", "Side", "join_answers", "sides", "span", "turns", "unreadable"]

Side = Literal["prompt", "response"]
"""The part of the exchange that a query asks about."""

CONVERSATION = marks(
    "(?:user|agent|assistant) [:\uff1a]",
    "< (?:begin|end) (?:unsafe|conversation)",
    "provide your safety assessment for",
)
"""The marks in the chat templates of Llama Guard and Qwen3Guard, which write a whole conversation into one turn."""


def turns(exchange: Exchange, pattern: re.Pattern[str]) -> tuple[Message, ...]:
    """The conversation up to the prompt, as templates want it: user and assistant in turn, the user first and last.

    Neighbours of one role become one turn. What a system or a tool said, and an assistant's greeting at the very start,
    is in the user's turn, and says whose it is. Images of users stand where they were shown.

    Args:
        exchange: what is judged.
        pattern: the marks of the format.
    """
    said: list[tuple[Literal["user", "assistant"], tuple[PromptPiece, ...]]] = []
    for turn in exchange.history:
        text = quote(turn.content, pattern)
        if turn.role == "assistant" and said:
            said.append(("assistant", (PromptPiece(text),)))
        elif turn.role == "user":
            said.append(("user", quote_with_images(turn, pattern)))
        else:
            whose = "earlier assistant" if turn.role == "assistant" else turn.role
            said.append(("user", (PromptPiece(f"[{whose} message] {text}"),)))
    said.append(("user", quote_with_images(exchange, pattern)))
    joined: list[tuple[Literal["user", "assistant"], tuple[PromptPiece, ...]]] = []
    for role, pieces in said:
        if joined and joined[-1][0] == role:
            joined[-1] = (role, (*joined[-1][1], PromptPiece("\n\n"), *pieces))
        else:
            joined.append((role, pieces))
    return tuple(_message(role, pieces) for role, pieces in joined)


def _message(role: Literal["user", "assistant"], pieces: Sequence[PromptPiece]) -> Message:
    if any(piece.image is not None for piece in pieces):
        return Message.of(role, pieces)
    return Message(role, "".join(piece.text for piece in pieces))


def sides(exchange: Exchange, pattern: re.Pattern[str], *, max_tokens: int, choices: int) -> dict[Side, Query]:
    """The queries of a family whose template judges the last turn: one ends with the prompt, one with the response.

    Args:
        exchange: what is judged.
        pattern: the marks of the format.
        max_tokens: most tokens to generate.
        choices: how many of the most probable tokens to report for each token.
    """
    before = turns(exchange, pattern)
    queries: dict[Side, Query] = {"prompt": Query(messages=before, max_tokens=max_tokens, choices=choices)}
    if exchange.response is not None:
        whole = (*before, Message("assistant", quote(exchange.response, pattern)))
        queries["response"] = Query(messages=whole, max_tokens=max_tokens, choices=choices)
    return queries


@dataclass(frozen=True, slots=True)
class Sheet:
    """The answers of several queries as one text.

    Args:
        raw: the text; None where no query was answered.
        starts: by title, where in it each answer begins; 0 for a query that failed.
        usage: the tokens of all of them.
    """

    raw: str | None
    starts: Mapping[str, int]
    usage: Usage


def join_answers(answers: Mapping[str, Answer] | Mapping[Side, Answer]) -> Sheet:
    """Write answers below each other, each under a line with its title; one alone stands as it is.

    Args:
        answers: by title; what failed is left out of the text.
    """
    raw: str | None = None
    starts: dict[str, int] = {}
    usage = Usage()
    for title, answer in answers.items():
        starts[title] = 0
        if isinstance(answer, BackendError):
            continue
        before = "" if raw is None else f"{raw}\n\n"
        if len(answers) > 1:
            before += f"--- {title} ---\n"
        starts[title] = len(before)
        raw = before + answer.text
        usage += answer.usage
    return Sheet(raw, starts, usage)


def span(word: re.Match[str], start: int, group: str = "word") -> Span:
    """Where in the whole text a word stands.

    Args:
        word: the match in the answer.
        start: where the answer begins.
        group: the part of the match that is meant.
    """
    return Span(source="raw", start=start + word.start(group), end=start + word.end(group))


def unreadable(completion: Completion, labels: str, word: str | None = None) -> Finding:
    """The finding for an answer without a label, with its cause.

    Args:
        completion: the answer.
        labels: the words that were expected, for a person.
        word: what is in the label's place; None where nothing does.
    """
    if completion.finish_reason == "length" and (word is None or completion.text.rstrip().endswith(word)):
        return undetermined("the answer was cut off before it gave a label")
    if not completion.text.strip():
        return undetermined("the answer is empty")
    if word is None:
        return undetermined(f"the answer gives no label ({labels})")
    return undetermined(f"the answer is {word[:40]!r}, which is none of {labels}")
