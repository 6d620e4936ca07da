"""Which of the API's endpoints a guarded client serves, judged or as they are. What is not named here is refused."""

from __future__ import annotations

from typing import Literal
from urllib.parse import unquote, urlsplit

from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["FIX", "Route", "route_of"]

Route = Literal["chat", "responses"]

FIX = (
    "call chat.completions.create/parse/stream or responses.create/parse/stream, "
    "or use the client that was not guarded and judge its text with guard.check"
)

# None of these writes text of a model's own. An endpoint that a newer SDK brings is refused until somebody has looked at it.
_WITHOUT_ANSWERS = frozenset(
    {
        "audio",
        "containers",
        "content_provenance_checks",
        "embeddings",
        "files",
        "fine_tuning",
        "images",
        "models",
        "moderations",
        "organization",
        "projects",
        "skills",
        "uploads",
        "vector_stores",
        "videos",
        "webhook_endpoints",
        "webhook_event_types",
    }
)


def route_of(method: str, url: str, base_url: str) -> Route | None:
    """Where a request goes to.

    Args:
        url: path, or whole address, as handed to the SDK's client.

    Returns:
        the API whose request and answer are to be judged; None for a request without generated text.

    Raises:
        ConfigurationError: it would bring generated text that nobody judges.
    """
    path = unquote(urlsplit(url.removeprefix(base_url)).path)
    steps = [step for step in path.split("/") if step]
    if {".", ".."} & set(steps):
        # The HTTP library would resolve them, and go where this path does not seem to lead.
        raise ConfigurationError("url: holds '.' or '..' as a step; write the path without them")
    if steps[:1] == ["deployments"]:  # Azure: /deployments/<name>/chat/completions
        del steps[:2]
    verb = method.upper()
    if verb == "POST" and steps == ["chat", "completions"]:
        return "chat"
    if verb == "POST" and steps == ["responses"]:
        return "responses"
    if verb == "DELETE" or (verb == "POST" and steps == ["responses", "input_tokens"]):
        return None
    if steps and steps[0] in _WITHOUT_ANSWERS:
        return None
    # The rest of the path may hold an id; it does not belong into a message.
    raise ConfigurationError(f"{verb} /{'/'.join(steps[:1])}: this endpoint's text is not judged by a guarded client; {FIX}")
