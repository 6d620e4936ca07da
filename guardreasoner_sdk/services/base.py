"""What a hosted moderation service is: where it is, what it is asked, and how its answer is read. No I/O."""

from __future__ import annotations

import os
import re
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from guardreasoner_sdk.backends.options import ServerOptions
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Task

__all__ = [
    "Access",
    "Ask",
    "Assessment",
    "ModelService",
    "Service",
    "bearer",
    "is_host",
    "pieces",
    "say_scores",
    "stretch",
]

Judged = Literal["prompt_harmfulness", "response_harmfulness"]
"""What a moderation service judges: text. None of them says whether an answer refuses."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Ask:
    """One request to a service.

    Args:
        task: what it is about.
        path: behind the address of the service.
        body: as JSON has it.
        query: of the URL.
        image: whether an image is in it.
    """

    task: Judged
    path: str
    body: Mapping[str, Any]
    query: Mapping[str, str] = field(default_factory=dict)
    image: bool = False


@dataclass(frozen=True, slots=True)
class Assessment:
    """What a service makes of one request.

    Args:
        harmful: whether it says so.
        score: P(harmful) as the service gives it, 0 to 1; None where it gives levels or a decision.
        categories: what it names, as the verdict shows it.
        said: its figures or levels, for the verdict's reasoning; never the judged text.
    """

    harmful: bool
    score: float | None
    categories: tuple[str, ...]
    said: str

    def __post_init__(self) -> None:
        # JSON may bring half a character as the name of a category, and no verdict that holds one can be written as JSON again.
        object.__setattr__(self, "categories", tuple(_SURROGATE.sub("\ufffd", name) for name in self.categories))
        object.__setattr__(self, "said", _SURROGATE.sub("\ufffd", self.said))


@dataclass(frozen=True, slots=True)
class Access:
    """Where a service is, and what it is told about who calls.

    Args:
        url: where its API begins.
        headers: what says who calls.
        sign: puts further headers on each request, every try of it; None: there are none.
    """

    url: str
    headers: Mapping[str, SecretStr]
    sign: Callable[[Any], Awaitable[None]] | None = None


@dataclass(frozen=True, kw_only=True)
class Service(ServerOptions):
    """What all hosted services share: limits of the connection, and how long text is cut.

    Args:
        piece: most characters of judged text in a request. Longer text is sent in overlapping pieces, of which the strongest
            counts.
        overlap: characters that a piece shares with the one before it.

    Raises:
        ConfigurationError: a value that cannot work, named.
    """

    engine_name: ClassVar[str] = "hosted"
    name: ClassVar[str]
    target_form: ClassVar[str | None] = None
    most: ClassVar[int | None] = None
    judges: ClassVar[tuple[Task, ...]] = ("prompt_harmfulness", "response_harmfulness")

    piece: int = 8_000
    overlap: int = 400

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_counts(1, "piece")
        self._check_counts(0, "overlap")
        if self.most is not None and self.piece > self.most:
            raise ConfigurationError(f"piece: {self.name} takes {self.most:,} characters at most, not {self.piece:,}")
        if self.overlap >= self.piece:
            raise ConfigurationError(f"overlap: must be less than piece ({self.piece:,}), not {self.overlap:,}")

    def aimed_at(self, target: str) -> Self:
        """The same service with what stands behind the colon of its name, as in ``openai-moderation:MODEL``.

        Args:
            target: what the service's documentation of ``target_form`` says.

        Raises:
            ConfigurationError: it is nothing of that form.
        """
        raise ConfigurationError(f"model: {self.name} takes nothing behind a colon, not {target!r}")

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """Where to send what, with which key.

        Args:
            base_url: in place of the vendor's own address.
            api_key: in place of the one in the vendor's environment variables.

        Raises:
            ConfigurationError: a key, an address or a setting is missing.
            MissingExtraError: what makes the key is not installed.
        """
        raise NotImplementedError

    @property
    def missing(self) -> str:
        """What there is to say where the service answers 404."""
        return f"base_url: {self.name} is not there; leave it out, or pass the address where its API begins"

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """What to ask about an exchange: each task, in as many pieces as its text needs."""
        raise NotImplementedError

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read an answer.

        Raises:
            ValueError, TypeError, LookupError: it is not what the service documents. The message quotes nothing of it.
        """
        raise NotImplementedError

    @property
    def sees_images(self) -> bool:
        """Whether it judges images, too."""
        return False

    def check_seen(self, ask: Ask, answer: Any) -> None:
        """Refuse an answer that finds no harm, and does not show that everything that was sent was looked at.

        Args:
            ask: what was sent.
            answer: as JSON has it; it was read already.

        Raises:
            ValueError, TypeError, LookupError: it does not show it. The message quotes nothing of it.
        """
        if ask.image:
            raise ValueError("it does not say that the image was looked at")

    def _texts(self, exchange: Exchange) -> Iterator[tuple[Judged, str]]:
        """What is judged: the prompt and the response, each by itself, in pieces."""
        for piece in pieces(exchange.prompt, self.piece, self.overlap):
            yield "prompt_harmfulness", piece
        if exchange.response is not None:
            for piece in pieces(exchange.response, self.piece, self.overlap):
                yield "response_harmfulness", piece


@dataclass(frozen=True, kw_only=True)
class ModelService(Service):
    """A service that has several models, which are told behind the colon of its name.

    Args:
        model: which of them.
    """

    target_form: ClassVar[str | None] = "MODEL"

    model: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.model, str) or not self.model:
            raise ConfigurationError(f"model: must be the name of a moderation model, such as {type(self).model!r}")

    def aimed_at(self, target: str) -> Self:
        """The same with another model."""
        return replace(self, model=target)

    @property
    def missing(self) -> str:
        """What there is to say where the service answers 404."""
        return f"model: there is no moderation model {self.model!r}, or base_url is not where the API begins"


def pieces(text: str, size: int, overlap: int) -> Iterator[str]:
    """Cut a text into overlapping pieces; one that fits stays whole.

    Args:
        size: most characters of a piece.
        overlap: characters that a piece shares with the one before it; less than ``size``.

    Example:
        >>> from guardreasoner_sdk.services.base import pieces
        >>> list(pieces("abcdefgh", 4, 1))
        ['abcd', 'defg', 'gh']
    """
    start = 0
    while start + size < len(text):
        yield text[start : start + size]
        start += size - overlap
    yield text[start:]


def bearer(name: str, url: str, own: str, api_key: SecretStr | None, *variables: str) -> Mapping[str, SecretStr]:
    """The header with a key: the one that was given, or the vendor's from the environment, which goes to the vendor alone.

    Args:
        name: of the service.
        url: where the request goes.
        own: the vendor's host, or how it ends.
        variables: that hold the key, the first one that is set.

    Raises:
        ConfigurationError: the vendor wants a key, and there is none.
    """
    key = api_key.get_secret_value() if api_key is not None else None
    if is_own := is_host(url, own):
        key = key or next((value for variable in variables if (value := os.environ.get(variable))), None)
    if key is None and is_own:
        raise ConfigurationError(f"api_key: {name} wants one; pass it, or set {' or '.join(variables)}")
    return {} if key is None else {"Authorization": SecretStr(f"Bearer {key}")}


def is_host(url: str, own: str) -> bool:
    """Whether an address is a vendor's own, by TLS on its usual port.

    Args:
        own: the host; with a dot in front, how it ends.
    """
    try:
        parts = urlsplit(url.strip())
        port = parts.port
    except ValueError:
        return False
    host = (parts.hostname or "").lower()
    return parts.scheme == "https" and port in (None, 443) and (host.endswith(own) if own.startswith(".") else host == own)


def stretch(value: Any, least: float = 0.0, most: float = 1.0) -> float:
    """A number within its bounds.

    Raises:
        ValueError: it is none, or outside.
    """
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
        raise ValueError(f"a score is no number from {least:g} to {most:g}")
    return float(value)


def say_scores(first: str, scores: Mapping[str, float]) -> str:
    """The three strongest scores, in words."""
    strongest = sorted(scores.items(), key=lambda item: -item[1])[:3]
    return ", ".join(([first] if first else []) + [f"{category} {score:.2f}" for category, score in strongest])
