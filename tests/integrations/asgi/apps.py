"""Apps that the middleware is put before, and ways to ask them."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from fastapi.responses import JSONResponse, StreamingResponse  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware  # noqa: E402
from guardreasoner_sdk import Exchange, Guard, Judgement  # noqa: E402

from .conftest import EVENT, chunk  # noqa: E402

MESSAGE = "I'm sorry, but I can't help with that."
ROUTES = [
    GuardedRoute("/json", prompt="$.message", response="$.answer"),
    GuardedRoute("/text", prompt="$.message", response="$"),
    GuardedRoute("/sse", prompt="$.message", event=EVENT),
    GuardedRoute("/lines", prompt="$.message", event="$.text"),
]
Serving = Callable[[Any], AbstractContextManager[str]]


async def streamed(parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def answer(request: Request) -> Response:
    """Answers with the parts of ``say``, in the way of the path."""
    parts = (await request.json())["say"].split("|")
    path = request.url.path
    if path == "/json":
        return JSONResponse({"answer": "".join(parts), "n": 1})
    if path == "/text":
        return StreamingResponse(streamed([part.encode() for part in parts]), media_type="text/plain")
    if path == "/lines":
        lines = [json.dumps({"text": part}).encode() + b"\n" for part in parts]
        return StreamingResponse(streamed(lines), media_type="application/x-ndjson")
    return StreamingResponse(streamed([*map(chunk, parts), b"data: [DONE]\n\n"]), media_type="text/event-stream")


def starlette_app(guard: Guard, routes: list[GuardedRoute] = ROUTES, **options: Any) -> Any:
    paths = [Route(path, answer, methods=["POST"]) for path in ("/json", "/text", "/sse", "/lines")]
    return Starlette(routes=paths, middleware=[Middleware(GuardMiddleware, guard=guard, routes=routes, **options)])


def fastapi_app(guard: Guard, **options: Any) -> Any:
    app = fastapi.FastAPI()
    for path in ("/json", "/text", "/sse", "/lines"):
        app.post(path, response_model=None)(answer)
    app.add_middleware(GuardMiddleware, guard=guard, routes=ROUTES, **options)

    @app.middleware("http")
    async def nothing(request: Request, call_next: Any) -> Response:
        return await call_next(request)

    return app


async def post(app: Any, path: str, body: Any = None, **more: Any) -> Any:
    if body is not None:
        more["json"] = body
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app") as client:
        return await client.post(path, **more)


def broken(exchange: Exchange) -> Judgement:
    raise AssertionError("never asked")


async def call(app: Any, path: str, body: Any, send: Any, receive: Any = None, **scope: Any) -> None:
    """One request without a server between."""
    messages = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]

    async def once() -> Any:
        if not messages:
            await asyncio.Event().wait()
        return messages.pop()

    base = {"type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path, "headers": []}
    await app({**base, "query_string": b"", "root_path": "", "scheme": "http", **scope}, receive or once, send)
