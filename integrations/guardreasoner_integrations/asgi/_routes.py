"""Which routes are guarded, and where in their bodies the text stands."""

from __future__ import annotations

import re
from collections.abc import Collection
from importlib.util import find_spec
from typing import Any, cast

from guardreasoner_integrations._messages import read_messages, readings
from guardreasoner_integrations._texts import Unjudged
from guardreasoner_integrations.asgi._replies import HttpRefusedError, Scope
from guardreasoner_sdk import ConfigurationError, Exchange, InputError, MissingExtraError
from guardreasoner_sdk.exchange import has_visible_text

try:
    from jsonpath import JSONPathEnvironment, JSONPathError
except ImportError:
    # jsonpath-python 1.1.6, which mistralai 3.7.0 brings, is imported by the same name and writes over this one's files.
    other = (
        "ASGI integrations need python-jsonpath, and the package jsonpath that is here is another library's (mistralai brings "
        "such a one); keep them in environments of their own, or: pip install --force-reinstall python-jsonpath"
    )
    raise MissingExtraError("asgi", "ASGI integrations", message=other if find_spec("jsonpath") else None) from None

__all__ = ["GuardedRoute", "Parts", "TextPath"]

Parts = tuple[int | str, ...]
"""Where a match is in its document: keys and indices from the root."""

_ENVIRONMENT = JSONPathEnvironment(strict=True)
_SLASHES = re.compile("//+")
_PLACEHOLDER = re.compile(r"(\{[^/{}]+\}|\*)")


def _pattern(path: str) -> re.Pattern[str]:
    parts = []
    for part in _PLACEHOLDER.split(path.rstrip("/")):
        if part == "*" or part.endswith(":path}"):
            parts.append(".*")
        else:
            parts.append("[^/]+" if _PLACEHOLDER.fullmatch(part) else re.escape(part))
    # Starlette treats a path with a line break at its end as the one without it.
    return re.compile("".join(parts) + "/*\\n?", re.DOTALL)


class TextPath:
    """A JSONPath (RFC 9535) to text.

    Args:
        option: the option of the route that it is, for errors.
        path: the path, such as ``$.choices[*].message.content``.

    Raises:
        ConfigurationError: it is not a JSONPath.
    """

    def __init__(self, option: str, path: str) -> None:
        try:
            self._query = _ENVIRONMENT.compile(path)
        except JSONPathError:
            raise ConfigurationError(f"{option}: {path!r} is not a JSONPath; pass one such as '$.message'") from None
        self.option = option
        self.path = path

    def values(self, document: object) -> list[tuple[Parts, Any]]:
        """What the path matches in a document, with the place of each match.

        Raises:
            InputError: the document is nested too deeply.
        """
        if isinstance(document, str):
            # The library would read a string as JSON once more.
            return [((), document)] if self.path == "$" else []
        try:
            return [(match.parts, match.obj) for match in self._query.finditer(cast("Any", document))]
        except (JSONPathError, RecursionError):
            raise InputError(self.option, "is nested too deeply", "send a flatter document") from None

    def texts(self, document: object) -> list[tuple[Parts, str]] | None:
        """The texts that the path matches; nulls are left out. None where it matches nothing at all.

        Raises:
            InputError: a match is neither text nor null, or the document is nested too deeply.
        """
        values = self.values(document)
        for _, value in values:
            if value is not None and not isinstance(value, str):
                kind = type(value).__name__
                raise InputError(f"{self.option} ({self.path})", f"must be text, not {kind}", "point the path at strings")
        return [(parts, value) for parts, value in values if value is not None] if values else None


class GuardedRoute:
    """A route that a guard stands before.

    Args:
        path: the path, as the application writes it: ``/chat``, ``/chats/{id}`` (one segment) or ``/api/*`` (all below).
            A slash at its end makes no difference.
        prompt: JSONPath to the prompt in the request's JSON body; several matches are judged together.
        messages: JSONPath to an OpenAI-style message list in the body, in place of ``prompt``.
        response: JSONPath to the answer in a JSON response; several matches are judged together.
        event: JSONPath to the text in the JSON data of each server-sent event, or line of a JSON Lines stream; ``$`` for
            events that are plain text.
        methods: the HTTP methods that are guarded.
        optional: whether a path may match nothing. What is not there is not judged.
        unjudged: what to do about images, sound and files in ``messages``, which this guard cannot judge: ``"raise"`` to
            refuse them (422), or ``"allow"``.

    With neither ``response`` nor ``event`` the answers of the route are not judged. With either, a ``text/plain`` answer is
    judged as it stands.

    Raises:
        ConfigurationError: a path that is none, neither ``prompt`` nor ``messages``, or both.

    Example:
        >>> from guardreasoner_integrations.asgi import GuardedRoute
        >>> whole = GuardedRoute("/chat", prompt="$.message", response="$.answer")
        >>> streamed = GuardedRoute("/v1/chat/*", messages="$.messages", event="$.choices[*].delta.content")
    """

    def __init__(
        self,
        path: str,
        *,
        prompt: str | None = None,
        messages: str | None = None,
        response: str | None = None,
        event: str | None = None,
        methods: Collection[str] = ("POST", "PUT", "PATCH"),
        optional: bool = False,
        unjudged: Unjudged = "raise",
    ) -> None:
        if not path.startswith("/"):
            raise ConfigurationError(f"path: must start with '/', not {path!r}")
        if prompt is not None and messages is None:
            self._request = TextPath("prompt", prompt)
        elif messages is not None and prompt is None:
            self._request = TextPath("messages", messages)
        else:
            raise ConfigurationError(f"prompt: give {path!r} either prompt= or messages=: an answer is judged with its prompt")
        if isinstance(methods, str) or not methods:
            raise ConfigurationError(f"methods: pass a list such as ['POST'], not {methods!r}")
        if unjudged not in ("raise", "allow"):
            raise ConfigurationError(f"unjudged: must be 'raise' or 'allow', not {unjudged!r}")
        self._unjudged: Unjudged = unjudged
        self.path = path
        self.methods = frozenset(method.upper() for method in methods)
        self.optional = optional
        self.response = None if response is None else TextPath("response", response)
        self.event = None if event is None else TextPath("event", event)
        self._pattern = _pattern(path)

    @property
    def answers(self) -> bool:
        """Whether its answers are judged."""
        return self.response is not None or self.event is not None

    def matches(self, scope: Scope) -> bool:
        """Whether a request's path is this route's; the methods are another matter."""
        path, root = str(scope["path"]), str(scope.get("root_path", "")).rstrip("/")
        # Servers differ: some leave the prefix under which an app is mounted in the path, some do not.
        below = path.removeprefix(root) if root and path.startswith(f"{root}/") else path
        # Frameworks differ in what a doubled slash means. A guard rather stands before one path too many.
        paths = {path, below, _SLASHES.sub("/", path), _SLASHES.sub("/", below)}
        return any(self._pattern.fullmatch(each) is not None for each in paths)

    def readings(self, document: object, *, images: bool = False) -> list[Exchange]:
        """What a request asks, in all its readings; none where it holds nothing to judge.

        Args:
            document: its body.
            images: whether the guard sees images.

        Raises:
            RefusedError: the path matches nothing, or what cannot be judged.
        """
        try:
            return self._messages(document, images) if self._request.option == "messages" else self._prompt(document)
        except InputError as error:
            raise HttpRefusedError(422, "invalid_request", str(error)) from None

    def _prompt(self, document: object) -> list[Exchange]:
        texts = self._request.texts(document)
        if texts is None and not self.optional:
            raise InputError("prompt", f"the body has no {self._request.path}", "send it as a string")
        text = "\n\n".join(text for _, text in texts or ())
        return [Exchange(text)] if has_visible_text(text) else []

    def _messages(self, document: object, images: bool) -> list[Exchange]:
        found = [value for _, value in self._request.values(document) if value is not None]
        if not found and self.optional:
            return []
        if len(found) != 1:
            raise InputError("messages", f"the body has {len(found)} of {self._request.path}", "send one list of messages")
        asked = readings("messages", list(read_messages("messages", found[0], self._unjudged, images=images)))
        if not asked and not self.optional:
            raise InputError("messages", "have no text to judge", "add a user message with text")
        return asked
