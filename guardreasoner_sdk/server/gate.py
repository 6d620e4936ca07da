"""What every request passes first: keys, limits of size and time, a log line, and errors in the shape of its contract."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from guardreasoner_sdk._failures import trail
from guardreasoner_sdk.errors import ClosedError, ConfigurationError
from guardreasoner_sdk.server.contracts.base import Contract
from guardreasoner_sdk.server.failures import LINES, Failure, check_surrogates, kind_of
from guardreasoner_sdk.server.metrics import Meter
from guardreasoner_sdk.server.settings import ServerSettings, is_loopback

__all__ = ["Gate", "answer_failure", "failure_of", "path_of"]

logger = logging.getLogger("guardreasoner_sdk.server")

OPEN = frozenset({"/", "/healthz", "/readyz", "/openapi.json"})
"""Paths that need no key: they tell nothing but that, and which, a server runs here."""

_GONE = 499
_DISCARDED = 64 * 2**20
"""Most bytes of a body that is too large which are read and thrown away, so that the client hears why."""

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,80}")


def failure_of(error: Exception) -> Failure:
    """What a client may know of an error.

    Args:
        error: whatever was raised while a request was answered.
    """
    if isinstance(error, Failure):
        return error
    if isinstance(error, ClosedError):
        return Failure(503, "overloaded", "The server is being shut down; try again.", retry_after=1)
    if isinstance(error, ConfigurationError):
        return Failure(500, "internal", "The guard of this server cannot work as it is configured; its log says why.")
    return Failure(500, "internal", f"The server failed with {type(error).__name__}; its log says where.")


def path_of(scope: Scope) -> str:
    """The path of a request as the server's routes have it, wherever a proxy has put them."""
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    return path.removeprefix(root) if root and path.startswith(f"{root}/") else path


def answer_failure(contract: Contract, failure: Failure) -> JSONResponse:
    """An error, as a contract writes it.

    Args:
        contract: whose clients are answered.
        failure: what happened.
    """
    headers = {} if failure.retry_after is None else {"retry-after": str(failure.retry_after)}
    if failure.status == 401:
        headers["www-authenticate"] = "Bearer"
    return JSONResponse(contract.error(failure), contract.status(failure), headers)


class Gate:
    """ASGI middleware around all routes.

    Args:
        app: the routes.
        settings: keys and limits.
        meter: counts requests.
        contract_of: the contract of a path.
        draining: whether the server is about to end: connections are then closed behind their answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: ServerSettings,
        meter: Meter,
        contract_of: Callable[[str], Contract],
        draining: Callable[[], bool],
    ) -> None:
        self._app = app
        self._settings = settings
        self._meter = meter
        self._contract_of = contract_of
        self._draining = draining
        self._keys = [_digest(key.get_secret_value().encode()) for key in settings.keys]
        self._in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or refuse it."""
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        passage = _Passage(scope, receive, send, self._settings, self._draining())
        self._in_flight += 1
        self._meter.begun()
        try:
            await passage.hear_out(lambda: self._pass(scope, passage))
        finally:
            self._in_flight -= 1
            seconds = time.monotonic() - passage.started
            route = getattr(scope.get("route"), "path", "unmatched")
            self._meter.ended(route, passage.status, seconds)
            fields = {"id": passage.id, "method": _method(scope), "route": route, "status": passage.status}
            logger.info("request", extra={"fields": {**fields, "ms": round(seconds * 1000, 1)}})

    async def _pass(self, scope: Scope, passage: _Passage) -> None:
        contract = self._contract_of(path_of(scope))
        try:
            self._check_allowed(scope)
            if self._in_flight > self._settings.max_requests:
                raise Failure(503, "overloaded", "The server is busy: it has too many requests; try again.", retry_after=1)
            await passage.take_in()
            await self._app(scope, passage.receive, passage.send)
        except Exception as error:
            # The one place where a request ends whatever happened: a failure is an error in the contract's shape, never silence
            # that a client could take for "safe".
            failure = failure_of(error)
            if failure.kind == "internal":
                logger.error("a request failed: %s", trail(error), extra={"fields": {"id": passage.id}})
            if passage.answered:
                raise _Broken from None  # half an answer cannot be taken back: the connection is cut
            await answer_failure(contract, failure)(scope, passage.receive, passage.send)

    def _check_allowed(self, scope: Scope) -> None:
        if path_of(scope) in OPEN:
            return
        if self._keys:
            given = _given_key(scope)
            # All keys are compared, each in constant time: how long it takes tells nothing about any of them.
            if not sum([hmac.compare_digest(_digest(given), key) for key in self._keys]):
                problem = "is wrong" if given else "is missing"
                raise Failure(
                    401, "unauthorized", f"The key {problem}; send it as Authorization: Bearer <key>, or as x-api-key."
                )
        elif not self._settings.allow_anonymous and not _is_local(scope):
            raise Failure(401, "unauthorized", "This server has no keys, and answers the machine that it runs on alone.")


class _Broken(Exception):  # noqa: N818
    """An answer that failed in the middle."""


class _Passage:
    """One request on its way through: what has come of its body, and what went back."""

    def __init__(self, scope: Scope, receive: Receive, send: Send, settings: ServerSettings, last: bool) -> None:
        self.started = time.monotonic()
        given = _header(scope, b"x-request-id").decode("latin-1")
        self.id = given if _REQUEST_ID.fullmatch(given) else secrets.token_hex(8)
        self.status = 500
        self.answered = False
        self._scope = scope
        self._receive = receive
        self._send = send
        self._settings = settings
        self._last = last
        self._size = 0
        self._body: bytes | None = None
        self._whole = False
        self._over = False
        self._gone = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None

    async def hear_out(self, answer: Callable[[], Awaitable[None]]) -> None:
        """Answer, unless the client goes before that: then nothing is worked out for nobody."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - ASGI servers call applications in a task
        self._task = task
        try:
            await answer()
        except asyncio.CancelledError:
            if not self._gone.is_set() or (task.cancelling() and task.uncancel()):
                raise
            self.status = _GONE
        finally:
            self._over = True
            if self._watching is not None:
                self._watching.cancel()

    async def take_in(self) -> None:
        """Take in the body as a whole, within its limits; one of several lines comes as it is read (:meth:`receive`)."""
        announced = _header(self._scope, b"content-length")
        if announced.isdigit() and int(announced) > self._settings.max_body:
            await self._discard(more=int(announced) <= _DISCARDED)
            raise self._too_large()
        if kind_of(_header(self._scope, b"content-type").decode("latin-1")) == LINES:
            return
        pieces = []
        while not self._whole:
            message = await self.receive()
            if message["type"] == "http.disconnect":
                raise asyncio.CancelledError
            pieces.append(message.get("body", b""))
        self._body = b"".join(pieces)
        if b"\\ud" in self._body or b"\\uD" in self._body:
            check_surrogates(self._body)

    async def receive(self) -> Message:
        """The body, or its next piece; then nothing, until the client has gone."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        if self._whole:
            await self._gone.wait()
            return {"type": "http.disconnect"}
        message = await self._piece()
        if message["type"] == "http.disconnect":
            self._whole = True
            self._gone.set()
            self.status = _GONE
            return message
        self._size += len(message.get("body", b""))
        if self._size > self._settings.max_body:
            await self._discard(more=message.get("more_body", False))
            raise self._too_large()
        if not message.get("more_body", False):
            self._whole = True
            self._watching = asyncio.create_task(self._watch())
        return message

    async def send(self, message: MutableMapping[str, Any]) -> None:
        """A piece of the answer."""
        if message["type"] == "http.response.start":
            self.answered = True
            self.status = message["status"]
            headers = [
                *message.get("headers", ()),
                (b"x-request-id", self.id.encode()),
                (b"x-content-type-options", b"nosniff"),
            ]
            if self._last or (not self._whole and self._size > self._settings.max_body):
                headers.append((b"connection", b"close"))
            message = {**message, "headers": headers}
        elif not message.get("more_body", False):
            self._over = True
        await self._send(message)

    async def _piece(self) -> Message:
        try:
            async with asyncio.timeout(self._settings.body_timeout):
                return await self._receive()
        except TimeoutError:
            seconds = self._settings.body_timeout
            raise Failure(408, "timeout", f"The body did not arrive within {seconds:g} s; send it faster.") from None

    async def _discard(self, *, more: bool) -> None:
        while more and self._size < _DISCARDED:
            message = await self._piece()
            self._size += len(message.get("body", b""))
            more = message.get("more_body", False)

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        if not self._over:
            self._gone.set()
            self._task.cancel()

    def _too_large(self) -> Failure:
        most = self._settings.max_body
        self._size = most + 1
        return Failure(413, "too_large", f"The body has more than {most:,} bytes; split it and check the parts.", "body")


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _header(scope: Scope, name: bytes) -> bytes:
    return next((bytes(value) for key, value in scope["headers"] if key == name), b"")


def _given_key(scope: Scope) -> bytes:
    scheme, _, key = _header(scope, b"authorization").partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else _header(scope, b"x-api-key").strip()


def _is_local(scope: Scope) -> bool:
    """Whether a request came to an address that this machine alone can reach, or by a socket in its file system."""
    server = scope.get("server")
    return server is not None and ((server[1] is None and server[0].startswith("/")) or is_loopback(server[0]))


def _method(scope: Scope) -> str:
    method = str(scope["method"])
    return method if method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS") else "OTHER"
