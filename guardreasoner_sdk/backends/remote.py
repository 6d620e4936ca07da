"""Asks a server that speaks OpenAI's API: vLLM, llama.cpp, TGI, Ollama, or a hosted one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

from guardreasoner_sdk._forks import renew_after_fork
from guardreasoner_sdk.backends._defuse import defuse
from guardreasoner_sdk.backends._remote_client import find_address
from guardreasoner_sdk.backends._remote_errors import RefusedError, ServerError, UnreadableError, explain
from guardreasoner_sdk.backends._remote_replies import read_answer, read_owner
from guardreasoner_sdk.backends.connection import Connection
from guardreasoner_sdk.backends.options import Remote
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import Capabilities, Completion, Message, PromptPiece, Query

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["RemoteBackend"]

COMPLETIONS, CHATS = "/completions", "/chat/completions"

MOST_CHOICES, FEW_CHOICES = 20, 5
"""Log-probabilities a token: what most servers give, and what OpenAI's completions do."""

MOST_STOPS = 4
"""Stop strings that OpenAI's API takes."""

LOOK_UP = 5.0
"""Seconds that a server has to say what it is."""

_CONTINUING: dict[str, dict[str, Any]] = {
    "vllm": {"add_generation_prompt": False, "continue_final_message": True},
    "llamacpp": {},
}
"""Servers that go on from a last assistant message, by the owner of their models, and how they are told to."""

_OF_THE_API = ("reasoning_effort",)
"""Variables of chat templates that OpenAI's API has as fields of a request."""

_GREEDY: dict[str, dict[str, Any]] = {"me": {"repeat_penalty": 1.0}}
"""Servers that penalise repetition unless told otherwise, which turns close decisions over: llama-cpp-python's."""


class RemoteBackend:
    """Runs a language model on a server, by OpenAI's completions API for plain prompts and its chat completions for chats.

    What may be asked again is asked again, with growing, jittered pauses, or when the server says so (Retry-After), and all
    of it ends at the deadline. After ``breaker_failures`` failures in a row (no connection, no answer in time, HTTP 5xx and
    429, answers that cannot be read) the server is left alone for ``breaker_recovery`` seconds: queries then fail at once.
    After that one call tries it.

    The server makes tokens of the text, special ones included. A blank is therefore put into what looks like a special token
    in judged text (``< |im_end|>``); everything else goes out letter for letter. Prompts are never cut here; a server that
    cuts them silently (Ollama beyond its ``num_ctx``) must be given enough context.

    A key goes to the server that it was given for and to no other. ``OPENAI_API_KEY`` is read where that is OpenAI's own,
    ``base_url=None``; no other server gets anything of ``OPENAI_*`` variables. Redirects are not followed.

    Args:
        model: the model's name on the server.
        base_url: where its API begins, such as ``http://localhost:8000/v1``; it may hold a user name and a password. None:
            OpenAI's own.
        name: the model's name, for the verdict; default: ``model``.
        api_key: the server's key. It is never shown.
        options: :class:`~guardreasoner_sdk.backends.options.Remote`.
        fields: the same, one by one.

    Raises:
        ConfigurationError: an option that cannot work.
    """

    name = "remote"
    batch_size = 8

    def __init__(
        self,
        model: str,
        base_url: str | None = None,
        *,
        name: str | None = None,
        api_key: SecretStr | str | None = None,
        options: Remote | None = None,
        **fields: Any,
    ) -> None:
        options = Remote.of(fields) if options is None else options
        self.model = model if name is None else name
        self._model = model
        self._connection = Connection(find_address(base_url, api_key), options, model=model)
        self._most = dict.fromkeys((COMPLETIONS, CHATS), MOST_CHOICES if options.probabilities else 0)
        self._proven: set[str] = set()
        self._continues = options.continues
        self._continuing = _CONTINUING["vllm"]
        self._greedy: dict[str, Any] = {}
        self._extra = dict(options.extra_body or {})
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """What belongs to this process and its event loop."""
        self._asking_owner = asyncio.Lock()
        self._owner_due = True

    def __repr__(self) -> str:
        return f"RemoteBackend({self._model!r}, host={self._connection.address.host!r})"

    @property
    def capabilities(self) -> Capabilities:
        """What the server can do, as far as it is known; ``continues`` is about chats, plain prompts are always continued."""
        return Capabilities(continues=self.chat_continues, probes=False, images=True)

    @property
    def chat_continues(self) -> bool:
        """Whether the server goes on from the beginning of an answer in a chat; False until :meth:`load` found out."""
        return bool(self._continues)

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries side by side, in order.

        Args:
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit.

        Raises:
            ConfigurationError: the server refuses the key, or has no such model.
            ClosedError: the backend was closed.
        """
        return await self._connection.gather(self._answer(query, deadline) for query in queries)

    async def load(self) -> None:
        """Make the client, and find out whether the server continues chats, where that was not said.

        A server that does not answer now is no error: it is one when it is asked to judge.

        Raises:
            ConfigurationError: the server refuses the key.
            ClosedError: the backend was closed.
        """
        self._connection.check_open()
        await self._connection.open()
        await self._find_owner()

    async def aclose(self) -> None:
        """Close the connections. What is under way fails."""
        await self._connection.aclose()

    async def _answer(self, query: Query, deadline: float | None) -> Completion | BackendError:
        async def ask(client: AsyncOpenAI) -> Completion:
            path, body = await self._request(query)
            async with self._connection.slot(deadline):
                return await self._ask(client, path, body, query)

        answer = await self._connection.run(ask, deadline)
        if isinstance(answer, Completion):
            self._owner_due = True
        return answer

    async def _request(self, query: Query) -> tuple[str, dict[str, Any]]:
        """Path and body of the request, without the log-probabilities."""
        body: dict[str, Any] = {"model": self._model, "temperature": query.temperature, "max_tokens": query.max_tokens}
        if query.stop:
            body["stop"] = list(query.stop[:MOST_STOPS])
        if query.pieces:
            if any(piece.image is not None for piece in query.pieces):
                raise BackendError("a prompt without a chat template shows no images; ask by messages")
            path = COMPLETIONS
            body["prompt"] = _prompt(query)
        else:
            path = CHATS
            body["messages"] = [{"role": message.role, "content": _content(message)} for message in query.messages]
            if query.opening or query.continuation or query.template or query.special:
                await self._find_owner()
            if query.opening or query.continuation:
                if not self.chat_continues:
                    raise BackendError("this server cannot continue an answer; use reasoning='full'")
                body["messages"].append({"role": "assistant", "content": _safe(_beginning(query))})
                body |= self._continuing
            if query.template:
                body |= self._variables(query.template)
            if query.special and self.chat_continues and self._continuing:  # vLLM
                body["skip_special_tokens"] = False
        body |= self._greedy | self._extra
        return path, {field: value for field, value in body.items() if value is not None}

    def _variables(self, template: Mapping[str, Any]) -> dict[str, Any]:
        """The fields that carry variables of the chat template: one that OpenAI's API has goes to any server."""
        fields = {name: template[name] for name in _OF_THE_API if name in template}
        if self.chat_continues:
            return {**fields, "chat_template_kwargs": dict(template)}
        if len(fields) < len(template):
            raise BackendError("this server is not known to pass variables to a chat template; use vLLM or llama.cpp")
        return fields

    async def _ask(self, client: AsyncOpenAI, path: str, body: dict[str, Any], query: Query) -> Completion:
        """Ask for as many log-probabilities as the server gives, and for as long an answer as there is room for."""
        retries = self._connection.retries
        counts = self._counts(path, query.choices)
        shortened = False
        while True:
            try:
                answer = await self._connection.send(client, path, {**body, **_logprobs(path, counts[0])}, retries=retries)
                break
            except RefusedError as error:
                if error.room is not None and not shortened and error.room < body.get("max_tokens", 0):
                    shortened, body = True, {**body, "max_tokens": error.room}
                elif error.too_long or len(counts) == 1:
                    raise
                else:
                    counts = counts[1:]
            except ServerError as error:
                # llama-cpp-python's server fails with 500 where it was started without logits_all.
                if error.status != 500 or len(counts) == 1:
                    raise
                counts, retries = counts[-1:], 0
        try:
            completion = read_answer(answer, query)
        except ValueError as error:
            raise ServerError(f"unreadable answer from the server at {self._connection.address.host}: {error}") from None
        # Only now: what was refused with log-probabilities and answered without was refused because of them.
        if counts[0] < min(query.choices, self._most[path]):
            self._most[path] = counts[0]
        if completion.choices is not None:
            self._proven.add(path)
        return completion

    def _counts(self, path: str, wanted: int) -> tuple[int, ...]:
        most = min(wanted, self._most[path])
        if not most or path in self._proven:
            return (most,)
        return (most, FEW_CHOICES, 0) if most > FEW_CHOICES else (most, 0)

    async def _find_owner(self) -> None:
        """Ask the server what it is, if that is not known. It is asked again only after it has answered a query."""
        async with self._asking_owner:
            if self._continues is not None or not self._owner_due:
                return
            self._owner_due = False
            client = await self._connection.open()
            from openai import APIStatusError, OpenAIError

            options: Any = {"timeout": LOOK_UP, "max_retries": 0}
            try:
                async with asyncio.timeout(LOOK_UP):
                    owner = read_owner(await client.get("/models", cast_to=str, options=options), self._model)
            except APIStatusError as error:
                if error.status_code != 401:
                    # A key for completions alone may not list models (403), and some servers have no list (404).
                    self._continues = False if error.status_code < 429 else None
                    return
                problem = explain(error, host=self._connection.address.host, model=self._model)
            except (OpenAIError, UnreadableError, TimeoutError):
                return
            else:
                self._continues = owner in _CONTINUING
                self._continuing = _CONTINUING.get(owner or "", {})
                self._greedy = _GREEDY.get(owner or "", {})
                return
            raise problem


def _prompt(query: Query) -> str:
    """The plain prompt with the beginning of the answer."""
    return _safe((*query.pieces, *_beginning(query)))


def _beginning(query: Query) -> tuple[PromptPiece, ...]:
    pieces = (PromptPiece(query.opening, markup=True), PromptPiece(query.continuation))
    return tuple(piece for piece in pieces if piece.text)


def _content(message: Message) -> str | list[dict[str, Any]]:
    """The content of a message: a text, or parts where images stand in it, with their bytes: no server gets an address."""
    if not message.images:
        return _safe(message.parts)
    parts: list[dict[str, Any]] = []
    for is_image, pieces in groupby(message.parts, key=lambda piece: piece.image is not None):
        if is_image:
            shown = (piece.image for piece in pieces if piece.image is not None)
            parts += [{"type": "image_url", "image_url": {"url": image.data_url}} for image in shown]
        elif text := _safe(pieces):
            parts.append({"type": "text", "text": text})
    return parts


def _safe(pieces: Iterable[PromptPiece]) -> str:
    """Pieces as one text: whole stretches that the dialect did not write are made safe, so that no special token comes about
    where two of them meet."""
    return "".join(
        "".join(piece.text for piece in stretch) if markup else defuse("".join(piece.text for piece in stretch))
        for markup, stretch in groupby(pieces, key=lambda piece: piece.markup)
    )


def _logprobs(path: str, count: int) -> dict[str, Any]:
    if not count:
        return {}
    return {"logprobs": count} if path == COMPLETIONS else {"logprobs": True, "top_logprobs": count}
