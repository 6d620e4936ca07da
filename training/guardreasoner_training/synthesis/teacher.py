"""The teacher: a chat model behind an OpenAI-compatible endpoint."""

from __future__ import annotations

import asyncio
import json
import math
import os
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from time import time
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.backends._defuse import defuse
from guardreasoner_sdk.backends._remote_client import find_address, open_client
from guardreasoner_sdk.backends._remote_errors import RefusedError, ServerError, UnreadableError, explain
from guardreasoner_sdk.backends._remote_replies import read_answer
from guardreasoner_sdk.errors import BackendError, ConfigurationError, PortableError
from guardreasoner_sdk.generation import Message, Query
from guardreasoner_training.recipe import SynthesisSettings
from guardreasoner_training.synthesis.budget import TokenCost

if TYPE_CHECKING:
    from openai import APIStatusError

__all__ = ["Failure", "Patience", "Teacher", "TeacherAnswer"]

_LONGEST_WISH = 600.0
_FILTERED = ("content_filter", "content_policy_violation")
_EMPTY_PURSE = ("insufficient_quota", "billing_hard_limit_reached")
_KEY_REFUSED = (401, 403)
_BROKEN = 500
"""The one status of a failing server that may come from the question: the others are of a server that is out, or too busy."""


@dataclass(frozen=True, slots=True)
class TeacherAnswer:
    """What the teacher wrote.

    Args:
        text: all of it.
        finish: ``stop``, ``length`` where it was cut off, or None.
        refused: whether it says itself that it refuses.
        cost: in tokens; None where it does not say.
    """

    text: str
    finish: Literal["stop", "length"] | None
    refused: bool
    cost: TokenCost | None


@dataclass(frozen=True, slots=True)
class Failure:
    """Why there is no answer.

    Args:
        reason: one word.
        detail: one clause.
        cost: in tokens, where it was said; None where it cost nothing, or nobody knows.
        perhaps_paid: whether the teacher may have written an answer that did not get here.
        final: whether asking again is pointless.
        outage: whether the server was out or too busy, on every repetition. That cost nothing and is no try: the question is
            as good as before.
        by_question: of an outage, whether the question may be the cause all the same (HTTP 500).
    """

    reason: Literal["no_answer", "failed", "filtered", "too_long", "unreadable"]
    detail: str
    cost: TokenCost | None = None
    perhaps_paid: bool = False
    final: bool = False
    outage: bool = False
    by_question: bool = False


@dataclass(frozen=True, slots=True)
class Patience:
    """With a server that is out or too busy.

    Args:
        retries: how often a request is sent again that was not answered and cost nothing.
        first: seconds before the first repetition; the server's own wish (Retry-After) goes first.
        longest: seconds that a pause grows to; each is about twice the one before.

    Raises:
        ConfigurationError: a number that is negative, or none.
    """

    retries: int = 5
    first: float = 0.5
    longest: float = 60.0

    def __post_init__(self) -> None:
        for name in ("retries", "first", "longest"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigurationError(f"patience.{name}: must be a number from 0, not {getattr(self, name)}")

    def pause(self, repetition: int) -> float:
        """Seconds to wait, about: not all that wait are to come back at once.

        Args:
            repetition: how many there were before, from 0.
        """
        return min(self.longest, self.first * 2.0 ** min(repetition, 64)) * random.uniform(0.5, 1.5)  # noqa: S311


class Teacher:
    """Asks a teacher.

    Args:
        settings: where it is, and how it is asked.
        proven: whether it has answered such requests before. Else, one that it refuses means that all will be.
        patience: how long a server is waited for.

    Raises:
        ConfigurationError: an address that cannot work, or a key that is missing.
    """

    def __init__(self, settings: SynthesisSettings, *, proven: bool, patience: Patience | None = None) -> None:
        self._settings = settings
        self._patience = patience or Patience()
        key = _key(settings)
        self._address = find_address(settings.base_url, key)
        self._keyed = key is not None or self._address.own
        self._client = open_client(self._address, 0)
        self._proven = proven

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()

    async def ask(self, messages: Sequence[Message], stopping: asyncio.Event) -> TeacherAnswer | Failure:
        """Ask once; what was not answered and cost nothing is sent again, with growing pauses.

        Args:
            stopping: set where no repetition is to begin any more.

        Raises:
            ConfigurationError: the server refuses the key, has no such model or no credit left, or refuses such requests.
        """
        body = self._body(messages)
        for repetition in range(self._patience.retries + 1):
            try:
                return await self._send(body)
            except _RepeatableError as error:
                problem = error
            if repetition == self._patience.retries:
                break
            pause = self._patience.pause(repetition) if problem.wish is None else problem.wish
            with suppress(TimeoutError):
                await asyncio.wait_for(stopping.wait(), pause)
            if stopping.is_set():
                break
        return Failure("failed", str(problem), outage=True, by_question=problem.status == _BROKEN)

    def most(self, messages: Sequence[Message]) -> TokenCost:
        """The most that asking once can cost: a token has at least one byte of what is sent."""
        read = sum(len(message["content"].encode()) + 16 for message in _sent(messages)) + 64
        return TokenCost(read, self._settings.max_tokens)

    def _body(self, messages: Sequence[Message]) -> dict[str, Any]:
        # OpenAI's newer models know the new name alone, most other servers the old one.
        limit = "max_completion_tokens" if self._address.own else "max_tokens"
        return {
            "model": self._settings.model,
            "messages": _sent(messages),
            "temperature": self._settings.temperature,
            limit: self._settings.max_tokens,
        }

    async def _send(self, body: dict[str, Any]) -> TeacherAnswer | Failure:
        """One request.

        Raises:
            _RepeatableError: it was not answered and cost nothing.
            ConfigurationError: it will be the same for every request.
        """
        from openai import APIConnectionError, APIStatusError, APITimeoutError, OpenAIError

        options: Any = {"timeout": self._settings.timeout, "max_retries": 0}
        try:
            # The client's own limit is one of silence; a server that drips bytes keeps to that.
            async with asyncio.timeout(self._settings.timeout):
                read = _read(await self._client.post("/chat/completions", cast_to=str, body=body, options=options))
        except APIStatusError as error:
            return self._refused(error)
        except (TimeoutError, APITimeoutError) as error:
            if type(error.__cause__).__name__ != "ConnectTimeout":
                return Failure("no_answer", f"no answer within {self._settings.timeout:g} s", perhaps_paid=True)
        except APIConnectionError as error:
            if type(error.__cause__).__name__ in ("ReadError", "RemoteProtocolError"):
                return Failure("no_answer", "the connection broke off", perhaps_paid=True)
            if isinstance(error.__cause__, UnreadableError):
                return Failure("unreadable", f"unreadable answer: {error.__cause__}", perhaps_paid=True)
        except UnreadableError as error:
            return Failure("unreadable", f"unreadable answer: {error}", perhaps_paid=True)
        except OpenAIError as error:
            return Failure("unreadable", f"the answer failed with {type(error).__name__}", perhaps_paid=True)
        else:
            self._proven = self._proven or isinstance(read, TeacherAnswer)
            return read
        raise _RepeatableError(f"the server at {self._address.host} cannot be reached")

    def _refused(self, error: APIStatusError) -> Failure:
        """What a status means that is no answer; raises as :meth:`_send` does."""
        if error.code in _EMPTY_PURSE:
            raise ConfigurationError(
                f"synthesize: the account at {self._address.host} has no credit left; fill it up and run the same command again"
            )
        if error.code in _FILTERED and error.status_code < 500:
            return Failure("filtered", f"the server's content filter (HTTP {error.status_code})")
        if error.status_code in _KEY_REFUSED:
            refused = (
                "refuses this key" if self._keyed else "wants a key, and none was sent: OPENAI_API_KEY goes to OpenAI alone"
            )
            raise ConfigurationError(
                f"synthesize.api_key_env: the server at {self._address.host} {refused} (HTTP {error.status_code}); "
                "set it to the name of the environment variable that holds this server's key"
            )
        problem = explain(error, host=self._address.host, model=self._settings.model)
        if isinstance(problem, ServerError):
            raise _RepeatableError(str(problem), _wish(error.response.headers), problem.status)
        if not isinstance(problem, RefusedError):
            raise problem
        if problem.too_long:
            return Failure("too_long", str(problem), final=True)
        if self._proven:
            return Failure("failed", str(problem))
        raise ConfigurationError(f"synthesize: {problem}; check base_url, model, temperature and max_tokens")


class _RepeatableError(PortableError):
    """A request may be sent again.

    Args:
        problem: one clause.
        wish: how long the server wishes to be left alone, in seconds.
        status: its HTTP status; None where there was no answer.
    """

    def __init__(self, problem: str, wish: float | None = None, status: int | None = None) -> None:
        super().__init__(problem)
        self.wish = wish
        self.status = status


def _key(settings: SynthesisSettings) -> str | None:
    """The key for the server; OpenAI's own key goes to no other."""
    own_variable = settings.api_key_env == "OPENAI_API_KEY"
    if settings.base_url is not None and own_variable:
        return None
    key = os.environ.get(settings.api_key_env)
    if not key:
        raise ConfigurationError(
            f"synthesize.api_key_env: the environment has no {settings.api_key_env}; set it to the teacher's key"
            + ("" if not own_variable else ", or name your own server in synthesize.base_url")
        )
    return key


def _sent(messages: Sequence[Message]) -> list[dict[str, str]]:
    """The chat as it is sent: no text in it passes for a special token."""
    return [{"role": message.role, "content": defuse(message.content)} for message in messages]


def _read(body: str) -> TeacherAnswer | Failure:
    try:
        completion = read_answer(body, Query())
    except ValueError as error:
        return Failure("unreadable", f"unreadable answer: {error}", perhaps_paid=True)
    except BackendError as error:
        return Failure("filtered", str(error), _cost(json.loads(body)))
    data = json.loads(body)
    message = data["choices"][0].get("message")
    refused = isinstance(message, dict) and bool(message.get("refusal"))
    return TeacherAnswer(completion.text, completion.finish_reason, refused, _cost(data))


def _cost(data: dict[str, Any]) -> TokenCost | None:
    usage = data.get("usage")
    if not isinstance(usage, dict):
        return None
    read, written = usage.get("prompt_tokens"), usage.get("completion_tokens")
    return TokenCost(read, written) if isinstance(read, int) and isinstance(written, int) and read > 0 <= written else None


def _wish(headers: Any) -> float | None:
    """Seconds that the server wishes to be left alone."""
    for name, scale in (("retry-after-ms", 1000.0), ("retry-after", 1.0)):
        value = headers.get(name)
        if value is None:
            continue
        try:
            seconds = float(value) / scale
        except ValueError:
            try:
                seconds = parsedate_to_datetime(value).timestamp() - time()
            except ValueError:
                continue
        if seconds == seconds:  # not NaN
            return min(max(seconds, 0.0), _LONGEST_WISH)
    return None
