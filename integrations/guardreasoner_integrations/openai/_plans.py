"""One request: what is judged of it and of its answer, and what follows. Pure, shared by both kinds of clients."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from guardreasoner_integrations._answer_texts import Texts, chat_texts, error_texts, response_texts
from guardreasoner_integrations._json import TwiceError, UnclearError, document_or_text, parse
from guardreasoner_integrations._messages import NO_PROMPT
from guardreasoner_integrations._readings import ChannelReadings, both_readings
from guardreasoner_integrations._sse import Splitter, data_of, extras_of
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.openai import _chat as chat
from guardreasoner_integrations.openai import _responses as responses
from guardreasoner_integrations.openai._events import Event
from guardreasoner_integrations.openai._notes import Note
from guardreasoner_integrations.openai._prompts import chat_exchange, responses_exchange
from guardreasoner_integrations.openai._routes import FIX, Route
from guardreasoner_sdk import Guard
from guardreasoner_sdk.blocking import BlockRule, OnBlock
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange, has_visible_text
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.streaming import StreamOptions
from guardreasoner_sdk.verdict import Verdict, decisive

__all__ = ["ClientOptions", "Events", "RequestPlan", "WholeAnswer"]

_FIX = "have the server send JSON that every reader understands alike"
# In these, the lines that the SDK reads as UTF-8 are the same ones, but for letters that are not English.
_CHARSETS = frozenset({"ascii", "iso-8859-1", "latin-1", "us-ascii", "utf-8", "utf8", "windows-1252"})


@dataclass(frozen=True)
class ClientOptions:
    """The options of :func:`guardreasoner_integrations.openai.guarded`, with what the policy says filled in."""

    rule: BlockRule
    stream: StreamOptions
    unjudged: Unjudged

    @property
    def guard(self) -> Guard:
        """Who judges."""
        return self.rule.guard

    @property
    def timeout(self) -> float | None:
        """Seconds for each check."""
        return self.stream.timeout


class RequestPlan:
    """What is to be done about one request.

    Args:
        settings: the options.
        route: its API.
        body: what is sent.
        helper: whether the SDK's own ``parse`` or ``stream`` of Chat Completions asked.

    Raises:
        ConfigurationError: it asks for an answer that would come by a way that is not judged.
        InputError: it holds a part that cannot be judged, or nothing to judge.
    """

    def __init__(self, settings: ClientOptions, route: Route, body: Any, *, helper: bool) -> None:
        if not isinstance(body, Mapping):
            raise InputError("body", f"must be a mapping, not {type(body).__name__}", "let the SDK make the body")
        if body.get("background"):
            raise ConfigurationError(f"background: the answer is fetched later and would not be judged; {FIX}")
        self.settings = settings
        self.route = route
        self.body = body
        self.helper = helper
        read = chat_exchange if route == "chat" else responses_exchange
        self.readings = read(body, settings.unjudged, images=sees_images(settings.guard.judge))
        """What is judged before the request goes out; a response in it is what tools gave."""
        self.asked = self.readings[0] if self.readings else Exchange(NO_PROMPT)
        """What an answer is the answer to."""
        self.checks_input = settings.rule.check_input and bool(self.readings)

    @cached_property
    def note(self) -> Note:
        """What is said in place of an answer."""
        wanted = self.body.get("response_format") if self.route == "chat" else (self.body.get("text") or {}).get("format")
        count = self.body.get("n")
        return Note(
            message=self.settings.rule.message,
            model=str(self.body.get("model", "")),
            choices=count if isinstance(count, int) else 1,
            structured=isinstance(wanted, Mapping) and wanted.get("type") not in (None, "text"),
            helper=self.helper,
        )

    def refused(self, verdict: Verdict) -> tuple[str, bytes]:
        """Content type and body of the answer to a prompt that is blocked.

        Raises:
            BlockedError, UndeterminedError: where a block is to raise.
        """
        self.settings.rule.replacement(verdict)
        if self.body.get("stream"):
            return "text/event-stream", b"".join(self.events(None).ending())
        own = chat.completion if self.route == "chat" else responses.response
        return "application/json", json.dumps(own(self.note)).encode()

    def told_by(self, error: object) -> list[Exchange]:
        """What an error of the server tells of an answer, to be judged: some quote what they could not use."""
        found = error_texts(error, self.settings.unjudged) if self.settings.rule.check_output else {}
        return [self.asked.with_response(text) for text in found.values() if has_visible_text(text)]

    def events(self, charset: str | None) -> Events:
        """The reader of a stream in the character set that its content type names."""
        kind = chat.ChatStream if self.route == "chat" else responses.ResponseStream
        return Events(kind(self.asked, self.note, self.settings.unjudged), charset)

    def stream_options(self, events: Events) -> dict[str, Any]:
        """How the guard is to go through the events."""
        on_block: OnBlock[Event] = "raise"
        if self.settings.rule.on_block == "message":
            on_block = lambda verdict: [Event(raw) for raw in events.ending()]  # noqa: E731
        return {"options": self.settings.stream, "text": lambda event: event.texts, "on_block": on_block}


class WholeAnswer:
    """An answer that is there as a whole.

    Args:
        plan: the request's.
        content: the body.
        text: the body as the HTTP library decodes it.

    Raises:
        InputError: it holds a part that cannot be judged, or is JSON that readers understand differently.
    """

    def __init__(self, plan: RequestPlan, content: bytes, text: str) -> None:
        self._plan = plan
        self._body: Any = None
        texts = self._texts(content, text)
        self._channels = [channel for channel, text in texts.items() if has_visible_text(text)]
        self.exchanges = [plan.asked.with_response(texts[channel]) for channel in self._channels]
        """What is to be judged."""

    def _texts(self, content: bytes, text: str) -> Texts:
        chat_asked, unjudged = self._plan.route == "chat", self._plan.settings.unjudged
        try:
            self._body = parse(content)
        except TwiceError as error:
            raise InputError("answer", str(error), _FIX) from None
        except ValueError:
            # Servers that say so by another content type; the SDK hands it out as text, and the caller may read it as events.
            self._body = {}
            events = self._plan.events(None)
            found = _collected(events.feed(content), events.finish()) if data_of(content) else {}
            return {**found, **both_readings({"text": text})}
        if not isinstance(self._body, Mapping):
            self._body = {"choices": [{"text": self._body}]} if chat_asked else {"output_text": self._body}
        with _flat("answer"):
            found = chat_texts(self._body, unjudged) if chat_asked else response_texts(self._body, unjudged)
        if text != content.decode("utf-8", "replace"):
            # By its content type it is not UTF-8, and a raw response hands it out as that says.
            found |= both_readings({"text": text})
        return found

    def settle(self, verdicts: Sequence[Verdict]) -> bytes | None:
        """The body that takes this one's place; None: it stays as it is.

        Raises:
            BlockedError, UndeterminedError: where a block is to raise.
        """
        verdict = decisive(verdicts)
        if verdict is None or verdict.allowed:
            return None
        self._plan.settings.rule.replacement(verdict)
        blocked = [channel for channel, found in zip(self._channels, verdicts, strict=True) if not found.allowed]
        if self._plan.route == "chat":
            return json.dumps(chat.instead_of(self._body, blocked, self._plan.note)).encode()
        return json.dumps(responses.instead_of(self._body, self._plan.note)).encode()


class Events:
    """A stream's bytes as events with their texts."""

    def __init__(self, stream: chat.ChatStream | responses.ResponseStream, charset: str | None) -> None:
        self._stream = stream
        self._charset = charset
        self._splitter = Splitter(events=True)
        self._rest = ChannelReadings()
        self.ending = stream.ending

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that are whole now.

        Raises:
            InputError: who reads the lines in this character set sees other ones.
        """
        if self._charset is not None and self._charset.lower() not in _CHARSETS:
            raise InputError("answer", f"is a stream in {self._charset!r:.40}", "have the server send events in UTF-8")
        return map(self._event, self._splitter.feed(chunk))

    def finish(self) -> Iterator[Event]:
        """What is left at the end."""
        return map(self._event, self._splitter.end())

    def released(self, event: Event) -> None:
        """Note what the reader has been given."""
        if isinstance(event.data, Mapping):
            self._stream.released(event.data)

    def _event(self, raw: bytes) -> Event:
        payload, extras = (part.decode("utf-8", "replace") for part in (data_of(raw), extras_of(raw)))
        if not payload:
            # A server that does not stream although it was asked to.
            payload, extras = extras, ""
        texts: Texts = {"extras": extras}
        if payload.startswith("[DONE]"):
            texts["rest"] = payload.removeprefix("[DONE]")
            return Event(raw, texts=self._rest.both(texts), last=True)
        with _flat("event"):
            try:
                data = document_or_text(payload)
            except UnclearError as error:
                raise InputError("event", str(error), _FIX) from None
            if isinstance(data, Mapping):
                return Event(raw, data, {**self._stream.texts(data), **self._rest.both(texts)})
        texts["rest"] = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False)
        return Event(raw, texts=self._rest.both(texts))


@contextlib.contextmanager
def _flat(field: str) -> Iterator[None]:
    try:
        yield
    except RecursionError:
        raise InputError(field, "is nested too deeply", _FIX) from None


def _collected(*events: Iterator[Event]) -> Texts:
    """The texts of a stream that is there as a whole."""
    found: Texts = {}
    for event in itertools.chain(*events):
        for channel, text in event.texts.items():
            found[channel] = found.get(channel, "") + text
        if event.last:
            break
    return found
