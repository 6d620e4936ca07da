"""The middleware in FastAPI and Starlette apps behind a real server."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from fastapi.responses import StreamingResponse  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from guardreasoner_integrations.asgi import GuardMiddleware  # noqa: E402
from guardreasoner_sdk import Exchange, Guard, Judgement  # noqa: E402
from guardreasoner_sdk.testing import judgement  # noqa: E402

from .apps import MESSAGE, ROUTES, Serving, answer, call, fastapi_app, post, starlette_app  # noqa: E402
from .conftest import chunk  # noqa: E402


@pytest.mark.parametrize("make_app", [starlette_app, fastapi_app])
@pytest.mark.parametrize("path", ["/json", "/text", "/sse", "/lines"])
class TestEveryKindOfAnswer:
    """Over a real server."""

    @pytest.fixture
    def ask(self, path: str, serving: Serving) -> Callable[..., Any]:
        def ask(app: Any, message: str, say: str) -> Any:
            with serving(app) as address:
                return httpx.post(address + path, json={"message": message, "say": say})

        return ask

    def test_an_allowed_answer_is_the_apps_own(
        self, make_app: Any, path: str, guard: Guard, ask: Any, serving: Serving
    ) -> None:
        bare = Starlette(routes=[Route(path, answer, methods=["POST"])])
        got, own = ask(make_app(guard), "hi", "well. |there| you. |go"), ask(bare, "hi", "well. |there| you. |go")
        assert (got.status_code, got.content) == (200, own.content)
        mine, its = ({k: v for k, v in one.headers.items() if k != "date"} for one in (got, own))
        assert mine == its

    @pytest.mark.parametrize("on_block", ["raise", "message"])
    def test_a_blocked_prompt_never_reaches_the_app(
        self, make_app: Any, path: str, on_block: str, make_guard: Any, ask: Any
    ) -> None:
        got = ask(make_app(make_guard(on_block=on_block)), "bad", "x")
        assert got.status_code == 403
        reasons = ["prompt_harmfulness is harmful (score 1.00)"]
        assert got.json() == {"error": {"type": "blocked", "message": MESSAGE, "reasons": reasons}}

    def test_an_undetermined_prompt_is_told_apart(self, make_app: Any, path: str, guard: Guard, ask: Any) -> None:
        got = ask(make_app(guard), "unsure", "x")
        assert (got.status_code, got.json()["error"]["type"]) == (503, "undetermined")

    @pytest.mark.parametrize(("word", "kind", "status"), [("bad", "blocked", 403), ("unsure", "undetermined", 503)])
    def test_nothing_of_a_blocked_answer_leaves(
        self, make_app: Any, path: str, word: str, kind: str, status: int, guard: Guard, ask: Any
    ) -> None:
        got = ask(make_app(guard), "hi", f"so {word} |and more")
        assert (got.status_code, got.json()["error"]["type"]) == (status, kind)
        assert word not in got.text
        assert "more" not in got.text

    @pytest.mark.parametrize("word", ["bad", "unsure"])
    def test_a_message_takes_the_place_of_the_answer(
        self, make_app: Any, path: str, word: str, make_guard: Any, ask: Any
    ) -> None:
        got = ask(make_app(make_guard(on_block="message")), "hi", f"so {word} |and more")
        expected = {
            "/json": json.dumps({"answer": MESSAGE, "n": 1}),
            "/text": f"{MESSAGE}\n",
            "/sse": "data: " + json.dumps({"choices": [{"delta": {"content": MESSAGE}}]}) + "\n\n",
            "/lines": json.dumps({"text": MESSAGE}) + "\n",
        }
        assert (got.status_code, got.text) == (200, expected[path])

    def test_a_guard_that_raises_is_a_failure(
        self, make_app: Any, path: str, guard: Guard, ask: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        guard.close()
        with caplog.at_level(logging.ERROR, logger="guardreasoner_sdk"):
            got = ask(make_app(guard), "hi", "x")
        assert got.status_code == 503
        assert got.json()["error"]["reasons"] == ["the guard failed: ClosedError"]
        assert "ClosedError" in caplog.text


@pytest.mark.parametrize("path", ["/json", "/text", "/sse"])
@pytest.mark.parametrize("on_block", ["raise", "message"])
async def test_a_guard_that_fails_on_the_answer_is_a_failure(path: str, on_block: str, make_guard: Any) -> None:
    def closes(exchange: Exchange) -> Judgement:
        return judgement()

    guard = make_guard(closes, on_block=on_block, block={"harmful_response"})
    guard.close()
    got = await post(starlette_app(guard), path, {"message": "hi", "say": "x"})
    assert (got.status_code, got.json()["error"]["reasons"]) == (503, ["the guard failed: ClosedError"])


@pytest.mark.parametrize(
    ("path", "on_block", "tail"),
    [
        ("/sse", "raise", 'event: error\ndata: {"error": {"type": "blocked", '),
        ("/sse", "message", 'data: {"choices": [{"delta": {"content": "' + MESSAGE),
        ("/lines", "raise", '{"error": {"type": "blocked", '),
        ("/lines", "message", '{"text": "' + MESSAGE),
        ("/text", "raise", '\n\n{"error": {"type": "blocked", '),
        ("/text", "message", f"\n\n{MESSAGE}"),
    ],
)
async def test_a_late_block_ends_the_stream_with_a_word(path: str, on_block: str, tail: str, make_guard: Any) -> None:
    said_first = asyncio.Event()

    async def slow(request: Request) -> Response:
        async def parts() -> AsyncIterator[bytes]:
            encode = {"/sse": chunk, "/text": str.encode, "/lines": lambda text: json.dumps({"text": text}).encode() + b"\n"}
            yield encode[path]("First. ")
            await said_first.wait()
            yield encode[path]("Then bad. ")
            yield encode[path]("never")

        media = {"/sse": "text/event-stream", "/text": "text/plain", "/lines": "application/jsonl"}[path]
        return StreamingResponse(parts(), media_type=media)

    middleware = [Middleware(GuardMiddleware, guard=make_guard(on_block=on_block), routes=ROUTES)]
    app = Starlette(routes=[Route(path, slow, methods=["POST"])], middleware=middleware)
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)
        if b"First" in message.get("body", b""):
            said_first.set()

    await call(app, path, {"message": "hi"}, send)
    bodies = [message["body"].decode() for message in sent[1:]]
    assert sent[0]["status"] == 200
    assert "First" in bodies[0]
    assert bodies[-1].startswith(tail)
    assert sent[-1]["more_body"] is False
    assert "bad" not in "".join(bodies)
    assert "never" not in "".join(bodies)
