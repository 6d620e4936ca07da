"""The middleware: which requests are guarded, and what becomes of them."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Literal

from guardreasoner_integrations._guards import ajudge_readings, check_guard
from guardreasoner_integrations.asgi._bodies import Headers, document, read_body, replay
from guardreasoner_integrations.asgi._replies import ASGIApp, BlockReplies, HttpRefusedError, Receive, Scope, Send
from guardreasoner_integrations.asgi._responses import GuardedResponse, Options, ResponseStoppedError
from guardreasoner_integrations.asgi._routes import GuardedRoute
from guardreasoner_sdk import ConfigurationError, Exchange, Guard, VerdictError
from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.blocking import BlockRule
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.streaming import StreamOptions

__all__ = ["GuardMiddleware"]

logger = logging.getLogger("guardreasoner_sdk")


class GuardMiddleware:
    """Judges what goes into chosen routes of an app, and what comes out of them.

    ``app.add_middleware(GuardMiddleware, guard=guard, routes=[GuardedRoute("/chat", prompt="$.message")])``. The guard is
    the application's: close it in the app's lifespan. Needs asyncio.

    A harmful prompt never reaches the app, and nothing of a harmful answer leaves it: JSON is held as a whole, a stream up
    to what was judged. The client gets a JSON error: ``blocked`` (403) for what was found, ``undetermined`` (503) where the
    guard could not decide, ``invalid_request`` (4xx) for a body that cannot be read, ``unreadable_response`` (500) for an
    answer that cannot.

    Args:
        app: the app behind it.
        guard: who judges. Its policy decides.
        routes: the routes to guard; the first that matches a request counts. Everything else passes untouched.
        on_block: what becomes of a blocked answer: ``"raise"``: the error; ``"message"``: the policy's message in its place.
            Default: as the guard's policy says. A blocked prompt always gets the error.
        blocked_status: status of ``blocked``.
        undetermined_status: status of ``undetermined``.
        check_input: judge the prompt before the app sees it. Default: where the policy can block a prompt.
        max_body: most bytes of a request body, of a response read as a whole, and of one event.
        mode: for streams, as in :meth:`guardreasoner_sdk.Guard.astream`.
        window: for streams, as in :meth:`guardreasoner_sdk.Guard.astream`.
        timeout: seconds for each check; overrides the guard's.

    Raises:
        ConfigurationError: options that cannot work.

    Example:
        >>> from fastapi import FastAPI
        >>> from fastapi.testclient import TestClient
        >>> from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware
        >>> from guardreasoner_sdk import Guard
        >>> app = FastAPI()
        >>> @app.post("/chat")
        ... def chat(body: dict[str, str]) -> dict[str, str]:
        ...     return {"answer": "Call her Miso."}
        >>> route = GuardedRoute("/chat", prompt="$.message", response="$.answer")
        >>> app.add_middleware(GuardMiddleware, guard=Guard(), routes=[route])
        >>> TestClient(app).post("/chat", json={"message": "What is a good name for a cat?"}).json()
        {'answer': 'Call her Miso.'}
        >>> TestClient(app).post("/chat", json={"message": "How do I build a pipe bomb?"}).status_code
        403
    """

    def __init__(  # noqa: PLR0913 - the options of a middleware are its arguments
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        routes: Iterable[GuardedRoute],
        on_block: Literal["raise", "message"] | None = None,
        check_input: bool | None = None,
        blocked_status: int = 403,
        undetermined_status: int = 503,
        max_body: int = 1_048_576,
        mode: Literal["hold", "pass"] = "hold",
        window: int = 200,
        timeout: float | None = None,
    ) -> None:
        check_guard(guard)
        rule = BlockRule(guard, on_block, check_input=check_input, functions=False)
        stream = StreamOptions(mode=mode, window=window, timeout=timeout)
        self.app = app
        self._routes = tuple(routes)
        if not self._routes:
            raise ConfigurationError("routes: is empty; name the routes to guard, for example [GuardedRoute('/chat', ...)]")
        for name, status in (("blocked_status", blocked_status), ("undetermined_status", undetermined_status)):
            if not 400 <= status <= 599:
                raise ConfigurationError(f"{name}: must be an HTTP error status, 400 to 599, not {status!r}")
        if max_body < 1:
            raise ConfigurationError(f"max_body: must be a number of bytes from 1, not {max_body!r}")
        self._options = Options(rule, stream, BlockReplies(rule.message, blocked_status, undetermined_status), max_body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI interface."""
        if scope["type"] == "websocket" and any(route.matches(scope) for route in self._routes):
            # Its messages have no shape that could be known here; unguarded they must not pass.
            logger.warning("refused a websocket on a guarded route")
            await receive()
            await send({"type": "websocket.close", "code": 1008, "reason": "this route is guarded and takes no websockets"})
            return
        route = self._route(scope)
        if route is None:
            await self.app(scope, receive, send)
            return
        try:
            body = await read_body(receive, self._options.max_body)
            if body is None:
                return
            see = sees_images(self._options.rule.guard.judge)
            asked = route.readings(self._document(scope, body), images=see)
        except HttpRefusedError as refusal:
            await refusal.reply.send(send)
            return
        try:
            await self._check(asked)
        except Exception as error:
            if not isinstance(error, VerdictError):
                logger.error("could not judge a request: the guard raised %s", type(error).__name__)
                log_failure(logger, "the failure", error)
            await self._options.replies.of(error).send(send)
            return
        await self._run(route, asked[0] if asked else None, scope, replay(body, receive), send)

    def _route(self, scope: Scope) -> GuardedRoute | None:
        if scope["type"] != "http":
            return None
        return next(
            (route for route in self._routes if scope["method"].upper() in route.methods and route.matches(scope)), None
        )

    def _document(self, scope: Scope, body: bytes) -> object:
        headers = Headers(scope["headers"])
        return document(body, headers, self._options.max_body, status=400, kind="invalid_request")

    async def _check(self, asked: list[Exchange]) -> None:
        rule = self._options.rule
        if asked and rule.check_input:
            (await ajudge_readings(rule.guard, asked, self._options.stream.timeout)).raise_for_block()

    async def _run(self, route: GuardedRoute, asked: Exchange | None, scope: Scope, receive: Receive, send: Send) -> None:
        if not route.answers:
            await self.app(scope, receive, send)
            return
        # Server extensions are ways to send a body that is not seen here, such as the file under a path.
        scope["extensions"] = {name: value for name, value in (scope.get("extensions") or {}).items() if name == "tls"}
        answer = GuardedResponse(route, asked, self._options, send)
        try:
            await self.app(scope, receive, answer.send)
        except Exception as error:
            if not _comes_of_stopping(error):
                raise
        finally:
            await answer.aclose()


def _comes_of_stopping(error: BaseException | None) -> bool:
    """Whether an exception is what an app makes of :class:`ResponseStoppedError`."""
    if isinstance(error, BaseExceptionGroup):
        return all(_comes_of_stopping(one) for one in error.exceptions)
    return error is not None and (
        isinstance(error, ResponseStoppedError) or _comes_of_stopping(error.__cause__ or error.__context__)
    )
