"""What a client hears in place of what it asked for."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any, Literal

from guardreasoner_sdk import BlockedError, VerdictError
from guardreasoner_sdk.errors import PortableError

__all__ = ["ASGIApp", "BlockReplies", "HttpRefusedError", "Message", "Receive", "Reply", "Scope", "Send", "unreadable"]

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

Kind = Literal["blocked", "undetermined", "invalid_request", "unreadable_response"]


class Reply:
    """An error as JSON: ``{"error": {"type": ..., "message": ..., "reasons": [...]}}``. It never holds judged text.

    Args:
        status: HTTP status.
        kind: ``blocked`` (something was found), ``undetermined`` (the guard could not decide), ``invalid_request`` (the
            request cannot be read) or ``unreadable_response`` (the app's answer cannot be read).
        message: one sentence for a person.
        reasons: why, clause by clause.
    """

    def __init__(self, status: int, kind: Kind, message: str, reasons: Iterable[str] = ()) -> None:
        self.status = status
        self.kind = kind
        error = {"type": kind, "message": message, "reasons": list(reasons)}
        self.body = json.dumps({"error": error}).encode()

    async def send(self, send: Send) -> None:
        """Send it as a whole response."""
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(self.body)).encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        await send({"type": "http.response.body", "body": self.body, "more_body": False})


class HttpRefusedError(PortableError):
    """A request or a response that cannot be judged, and is not let through for that.

    Args:
        status: HTTP status that says so.
        kind: as in :class:`Reply`.
        problem: the field, what is wrong with it and how to mend it.
    """

    def __init__(self, status: int, kind: Kind, problem: str) -> None:
        super().__init__(problem)
        self.reply = Reply(status, kind, problem)


def unreadable(problem: str) -> HttpRefusedError:
    """The refusal of an answer of the app that cannot be judged."""
    return HttpRefusedError(500, "unreadable_response", f"response: {problem}")


class BlockReplies:
    """The replies to a block and to a failure, with the statuses that the application chose.

    Args:
        message: what the client hears of a block.
        blocked: status where something was found.
        undetermined: status where the guard could not decide.
    """

    def __init__(self, message: str, blocked: int, undetermined: int) -> None:
        self._message = message
        self._blocked = blocked
        self._undetermined = undetermined

    def of(self, error: Exception) -> Reply:
        """The reply to what judging raised: a verdict that blocks, a refusal, or a failure of the guard."""
        if isinstance(error, HttpRefusedError):
            return error.reply
        if isinstance(error, BlockedError):
            return Reply(self._blocked, "blocked", self._message, error.verdict.reasons)
        if isinstance(error, VerdictError):
            return self._unsure(error.verdict.reasons)
        return self._unsure([f"the guard failed: {type(error).__name__}"])

    def _unsure(self, reasons: Iterable[str]) -> Reply:
        return Reply(self._undetermined, "undetermined", "This could not be checked. Please try again later.", reasons)
