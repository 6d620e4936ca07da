"""What the contracts share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict

from guardreasoner_sdk._unescaping import second_reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, Message, has_visible_text, readings_of_messages
from guardreasoner_sdk.images import Image
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.server.desk import Desk
from guardreasoner_sdk.server.failures import Failure, invalid, undecided
from guardreasoner_sdk.verdict import Verdict

__all__ = [
    "NO_PROMPT",
    "Body",
    "Contract",
    "alone_and_together",
    "answers_to",
    "blocks",
    "check_items",
    "desk_of",
    "harm_in",
    "in_place",
    "prompts",
    "sees",
    "talk",
]

NO_PROMPT = "(no text)"
"""Stands for a prompt that a contract does not tell: an answer is judged as the answer to something."""


@dataclass(frozen=True)
class Contract:
    """How somebody's clients are answered.

    Args:
        name: whose.
        paths: where.
        routes: what answers there.
        error: the body of an error.
        statuses: for a status of ours, the one that this contract has for it.
    """

    name: str
    paths: tuple[str, ...]
    routes: APIRouter
    error: Callable[[Failure], Mapping[str, Any]]
    statuses: Mapping[int, int]

    def status(self, failure: Failure) -> int:
        """The status of an error."""
        return self.statuses.get(failure.status, failure.status)


class Body(BaseModel):
    """A request's body. A field that nobody knows is refused: it may hold text that nobody judges."""

    model_config = ConfigDict(extra="forbid")


def desk_of(request: Request) -> Desk:
    """Where a request's exchanges are judged."""
    desk: Desk = request.app.state.desk
    return desk


def check_items(request: Request, field: str, items: Sequence[object]) -> None:
    """Refuse more items than one request may have, or none.

    Raises:
        Failure: named by the field.
    """
    most = request.app.state.settings.max_items
    if not items:
        raise Failure(422, "invalid_request", f"{field}: is empty; send something to judge", field)
    if len(items) > most:
        raise Failure(422, "invalid_request", f"{field}: has {len(items):,} items, the most is {most:,}; split it", field)


@contextmanager
def in_place(where: str) -> Iterator[None]:
    """Name the place in the request where what cannot be judged stands."""
    try:
        yield
    except InputError as error:
        raise invalid(error, where) from None


def alone_and_together(texts: Sequence[str]) -> list[str]:
    """Each text, and all of them as one: they may be parts of a whole, and harm must not hide among many of them."""
    return [*texts, "\n".join(texts)] if len(texts) > 1 else list(texts)


def prompts(where: str, texts: Sequence[str], images: Sequence[Image] = ()) -> list[Exchange]:
    """Texts on their way to a model, as what is to be judged; those without a visible character say nothing.

    Args:
        where: their place, for errors.
        texts: the texts.
        images: what is shown with each of them.
    """
    with in_place(where):
        said = alone_and_together([text for text in texts if has_visible_text(text)])
        return [Exchange(text, images=images) for text in said or ([""] if images else [])]


def answers_to(asked: Exchange | None, where: str, texts: Sequence[str]) -> list[Exchange]:
    """Texts that a model gave, as what is to be judged. Whoever parses an answer reads letters where it has their escapes.

    Args:
        asked: what they answer; None where that is not told.
        where: their place, for errors.
        texts: the answers.
    """
    question = Exchange(NO_PROMPT) if asked is None else asked
    seen = alone_and_together([text for text in texts if has_visible_text(text)])
    with in_place(where):
        return [question.with_response(f"{text}\n{more}" if (more := second_reading(text)) else text) for text in seen]


def sees(request: Request) -> bool:
    """Whether the guard judges images. Where it does not, they are refused, so that whoever sends them knows."""
    return sees_images(desk_of(request).guard.judge)


def talk(where: str, messages: Sequence[Message], *, images: bool = False) -> list[Exchange]:
    """A conversation, as what is to be judged.

    Args:
        where: its place, for errors.
        messages: what is said.
        images: whether images of users are read.
    """
    try:
        return readings_of_messages(messages, images=images)
    except InputError as error:
        # The SDK calls them messages, whatever the contract does.
        field = error.field.replace("messages", where, 1) if error.field.startswith("messages") else f"{where}.{error.field}"
        raise invalid(InputError(field, error.problem, error.fix)) from None


def blocks(verdict: Verdict, desk: Desk) -> bool:
    """Whether a contract that knows but "block" and "pass" has to block.

    Args:
        verdict: of the guard.
        desk: whose guard.

    Raises:
        Failure: 503: undecided, and the policy does not make a block of it. To a contract without a word for it that is an
            error, also where the policy allows what is undecided: whether to go on without a guard is then up to whoever asked.
    """
    if desk.guard.policy.insists(verdict) or (verdict.allowed and verdict.reasons):
        raise undecided(verdict)
    return not verdict.allowed


def harm_in(verdict: Verdict) -> tuple[bool, float]:
    """What a contract says that describes texts and does not act: whether what was asked or answered is harmful, by what was
    found or by what the policy blocks for, and how sure that is, from 0 to 1.

    Args:
        verdict: of the guard.

    Raises:
        Failure: 503: that is not known, whatever the policy makes of it.
    """
    found = [finding for finding in (verdict.prompt_harmfulness, verdict.response_harmfulness) if finding is not None]
    harmful = verdict.blocked_by == "finding" or any(finding.label == "harmful" for finding in found)
    if not harmful and (not found or not verdict.allowed or any(not finding.determined for finding in found)):
        raise undecided(verdict)
    sure = [float(finding.label == "harmful") if finding.score is None else finding.score for finding in found]
    return harmful, max(sure, default=1.0)
