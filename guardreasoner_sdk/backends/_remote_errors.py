"""What may go wrong with a server, in words that hold its status and its address and nothing that it said."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from guardreasoner_sdk.errors import BackendError, ConfigurationError, GuardError

if TYPE_CHECKING:
    from openai import APIStatusError, OpenAIError

__all__ = ["RefusedError", "ServerError", "UnreadableError", "explain"]

_TOO_LONG = re.compile(
    r"context[ _](?:length|window|size)|maximum model length|too long|longer than|too many tokens|must have less than"
    r"|max_new_tokens` must be <=",
    re.IGNORECASE,
)
_CONTEXT = re.compile(r"(?:context (?:length|window)[^\d]{0,20}|must be <= )(\d+)")
_PROMPT = re.compile(r"(?<!at least )(?<!\d)(\d+) (?:input tokens|`inputs` tokens|in your prompt|in the messages)")

_TRANSIENT = (408, 409, 425, 429)


class ServerError(BackendError):
    """The server fails, and may recover: what the circuit breaker counts.

    Args:
        message: one clause.
        status: its HTTP status; None where there was no answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RefusedError(BackendError):
    """The server works, and refuses this request.

    Args:
        message: one clause.
        too_long: it says that the prompt, or prompt and answer together, are longer than the model's context.
        room: how many tokens it says are left for the answer; None where it does not say.
    """

    def __init__(self, message: str, *, too_long: bool = False, room: int | None = None) -> None:
        super().__init__(message)
        self.too_long = too_long
        self.room = room


class UnreadableError(Exception):
    """The body of an answer that is not read to its end; the message says why and quotes nothing."""


def explain(error: OpenAIError | UnreadableError, *, host: str, model: str, missing: str | None = None) -> GuardError:
    """Turn an error of the openai client into one of ours.

    The client's own messages quote what the server said, and a server may say the key and the judged text: they are looked
    at here, and go no further.

    Args:
        error: what the client raised; some versions of it wrap what was raised in it.
        missing: what there is to say where the server has nothing of that name; None: that it has no such model.
    """
    from openai import APIConnectionError, APIStatusError, APITimeoutError

    if isinstance(error, UnreadableError):
        return ServerError(f"unreadable answer from the server at {host}: {error}")
    if isinstance(error, APIStatusError):
        return _of_status(error, host, model, missing)
    if isinstance(error, APITimeoutError):
        return ServerError(f"the server at {host} did not answer in time")
    if isinstance(error, APIConnectionError):
        if isinstance(error.__cause__, UnreadableError):
            return explain(error.__cause__, host=host, model=model, missing=missing)
        if type(error.__cause__).__name__ in ("ReadError", "RemoteProtocolError"):
            return ServerError(f"unreadable answer from the server at {host}: the connection broke off")
        return ServerError(f"the server at {host} cannot be reached")
    return BackendError(f"the request to the server at {host} failed with {type(error).__name__}")


def _of_status(error: APIStatusError, host: str, model: str, missing: str | None) -> GuardError:
    status = error.status_code
    if status in (401, 403):
        return ConfigurationError(
            f"api_key: the server at {host} refuses it (HTTP {status}); pass the key that it was set up with"
        )
    if missing is not None and status == 404:
        return ConfigurationError(f"{missing} (HTTP {status} of the server at {host})")
    if status == 404 or error.code == "model_not_found":
        return ConfigurationError(
            f"model: the server at {host} has no model {model!r}, or base_url is not where its API begins (HTTP {status}); "
            "list its models with GET base_url/models"
        )
    if status in _TRANSIENT or status >= 500:
        return ServerError(f"the server at {host} failed with HTTP {status}", status)
    if status < 400:
        return RefusedError(f"the server at {host} points elsewhere (HTTP {status}); set base_url to its final address")
    said = f"{error.code} {error.type} {error.message[:1000]}"
    if status == 413 or (status in (400, 422) and _TOO_LONG.search(said)):
        return RefusedError(f"the prompt is too long for the server's model (HTTP {status})", too_long=True, room=_room(said))
    return RefusedError(f"the server at {host} refuses the request (HTTP {status})")


def _room(said: str) -> int | None:
    """How many tokens are left for the answer, where the server counts those of the prompt."""
    context, prompt = _CONTEXT.search(said), _PROMPT.search(said)
    if context is None or prompt is None:
        return None
    room = int(context[1]) - int(prompt[1])
    return room if room > 0 else None
