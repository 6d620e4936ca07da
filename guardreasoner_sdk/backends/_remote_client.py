"""The HTTP client of the remote backend: where it may send what."""

from __future__ import annotations

import asyncio
import base64
import os
import zlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, unquote, urlsplit, urlunsplit

from pydantic import SecretStr

from guardreasoner_sdk.backends._remote_errors import UnreadableError
from guardreasoner_sdk.backends.options import MAX_ANSWER_BYTES
from guardreasoner_sdk.errors import ConfigurationError

if TYPE_CHECKING:
    from openai import AsyncOpenAI

__all__ = ["OPENAI", "Address", "find_address", "open_client", "split_address"]

OPENAI = "https://api.openai.com/v1"

"""Longest answer that is read, uncompressed: 2,048 tokens with 20 probabilities each are some 5 MB."""

_GRACE = 0.05
"""Seconds by which the limit of a whole request lies behind those of its parts."""

_OF_THE_BODY = ("content-encoding", "content-length", "transfer-encoding")
"""Headers that are about the bytes on the way."""

_NEEDED = frozenset(
    {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "transfer-encoding",
        "user-agent",
    }
)
"""The headers that a foreign server gets. The openai client also sends what it finds in OPENAI_* variables (headers with keys,
organisation, project), which belongs to the server that they were set for, and a description of this machine."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where a server is, and what it is told about who calls.

    Args:
        url: the beginning of its API, without credentials.
        host: its name and port, for messages.
        authorization: the header of that name.
        own: whether it is OpenAI's own.
    """

    url: str
    host: str
    authorization: SecretStr
    own: bool


def find_address(base_url: str | None, api_key: SecretStr | str | None) -> Address:
    """Read a server's address, and decide which key it gets.

    A key goes to the server that it was given for and to no other: ``OPENAI_API_KEY`` is read for OpenAI's own server only,
    and ``OPENAI_BASE_URL`` is not read.

    Args:
        base_url: where its API begins; it may hold a user name and a password. None: OpenAI's own.

    Raises:
        ConfigurationError: an address that cannot work, or no key for OpenAI's own server. It quotes neither.
    """
    parts, host = split_address(OPENAI if base_url is None else base_url)
    own = (parts.scheme, host) == ("https", "api.openai.com")
    key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
    if key is None and own:
        key = os.environ.get("OPENAI_API_KEY")
    if own and not key:
        raise ConfigurationError(
            "api_key: OpenAI wants one; pass it, or set OPENAI_API_KEY; or pass the base_url of your server"
        )
    if parts.username is None:
        authorization = f"Bearer {key or 'none'}"
    elif key:
        raise ConfigurationError("base_url: holds a user name, and there is an api_key too; a server takes one of them")
    else:
        user = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        authorization = f"Basic {base64.b64encode(user.encode()).decode()}"
    if not authorization.isascii() or not authorization.isprintable():
        raise ConfigurationError("api_key: holds characters that no HTTP header can; copy it again")
    url = urlunsplit((parts.scheme, host, parts.path.rstrip("/"), "", ""))
    return Address(url, host, SecretStr(authorization), own)


def split_address(base_url: str, example: str = "http://localhost:8000/v1") -> tuple[SplitResult, str]:
    """An address in its parts, and its host with the port.

    Raises:
        ConfigurationError: it is none, or holds what no address of an API does.
    """
    try:
        parts = urlsplit(base_url.strip())
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"base_url: is not a URL; it looks like {example}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"base_url: must begin with http:// or https:// and a host; it looks like {example}")
    if parts.query or parts.fragment:
        raise ConfigurationError("base_url: must end with its path, without a query; pass a key as api_key")
    name = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return parts, name if port is None else f"{name}:{port}"


def open_client(
    address: Address,
    retries: int,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    *,
    authorize: Callable[[Any], Awaitable[None]] | None = None,
) -> AsyncOpenAI:
    """Make the client. It follows no redirect: judged text goes to the address that was given.

    The timeout of a request is one for the whole of it, to the last byte of the answer: the library restarts its own ones
    with every byte that comes. Where both are due, its own goes first, which says what it waited for.

    Args:
        retries: how often it asks again for what may be asked again, with growing pauses (jitter; Retry-After).
        authorize: puts headers on each request, every try of it, once all others that it keeps are there.
    """
    from openai import AsyncOpenAI, DefaultAsyncHttpxClient

    # httpx, or what openai's newer versions have in its place.
    library = import_module(next(kind for kind in DefaultAsyncHttpxClient.__mro__ if kind.__name__ == "AsyncClient").__module__)

    class Client(DefaultAsyncHttpxClient):
        async def send(self, request: Any, **options: Any) -> Any:
            limit = request.extensions.get("timeout", {}).get("read")
            try:
                async with asyncio.timeout(None if limit is None else limit + _GRACE):
                    response = await super().send(request, **{**options, "stream": True})
                    try:
                        body = await _body(response, max_answer_bytes)
                    except UnreadableError:
                        if response.status_code < 400:
                            raise
                        body = b""  # the status says enough
                    finally:
                        await response.aclose()
            except TimeoutError:
                raise library.ReadTimeout("the answer is not complete", request=request) from None
            headers = [pair for pair in response.headers.multi_items() if pair[0].lower() not in _OF_THE_BODY]
            return library.Response(response.status_code, headers=headers, content=body, request=request)

    on_request: list[Callable[..., Awaitable[None]]] = [] if address.own else [_strip]
    if authorize is not None:
        on_request.append(authorize)
    return AsyncOpenAI(
        base_url=address.url,
        api_key="none",
        default_headers={"Authorization": address.authorization.get_secret_value(), "Accept-Encoding": "gzip"},
        max_retries=retries,
        http_client=Client(follow_redirects=False, event_hooks={"request": on_request}),
    )


async def _body(response: Any, most: int) -> bytes:
    """Read an answer as far as it may go: a small compressed one may hold any number of bytes.

    Raises:
        UnreadableError: it is longer, or compressed in a way that was not asked for, or cut off.
    """
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "gzip", ""):
        raise UnreadableError("it is compressed in a way that was not asked for")
    inflate = zlib.decompressobj(16 + zlib.MAX_WBITS) if coding == "gzip" else None
    body = bytearray()
    async for chunk in response.aiter_raw():
        if chunk and inflate is not None and inflate.eof:
            raise UnreadableError("more follows its end")
        try:
            body += chunk if inflate is None else inflate.decompress(chunk, most + 1 - len(body))
        except zlib.error:
            raise UnreadableError("it is not compressed as it says") from None
        if len(body) > most:
            raise UnreadableError(f"it is longer than {most:,} bytes")
    if inflate is not None and not inflate.eof:
        raise UnreadableError("its compressed body is cut off")
    return bytes(body)


async def _strip(request: Any) -> None:
    for name in [name for name in request.headers if name.lower() not in _NEEDED]:
        del request.headers[name]
