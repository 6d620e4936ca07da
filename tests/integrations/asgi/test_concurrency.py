"""Many requests at a time, clients that leave, apps that fail."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from blockbuster import BlockBuster, BlockingError  # noqa: E402
from fastapi.responses import JSONResponse, StreamingResponse  # noqa: E402
from starlette.applications import Starlette  # noqa: E402
from starlette.background import BackgroundTask  # noqa: E402
from starlette.middleware import Middleware  # noqa: E402
from starlette.requests import Request  # noqa: E402
from starlette.responses import Response  # noqa: E402
from starlette.routing import Route  # noqa: E402

from guardreasoner_integrations.asgi import GuardMiddleware  # noqa: E402
from guardreasoner_sdk import Exchange, Guard, Judgement  # noqa: E402
from guardreasoner_sdk.testing import judgement  # noqa: E402

from .apps import ROUTES, call, post, starlette_app  # noqa: E402
from .conftest import chunk, said  # noqa: E402


class TestManyAtATime:
    async def test_two_hundred_requests_never_mix(self, guard: Guard) -> None:
        app = starlette_app(guard)

        async def one(number: int) -> None:
            path = ("/json", "/sse", "/text")[number % 3]
            word = "bad" if number % 5 == 0 else "fine"
            got = await post(app, path, {"message": f"ask {number}", "say": f"{number}. |{word} |{number}"})
            if word == "bad":
                assert "bad" not in got.text
                assert "blocked" in got.text
            else:
                text = got.json()["answer"] if path == "/json" else said(got.text) if path == "/sse" else got.text
                assert text == f"{number}. fine {number}"

        await asyncio.gather(*map(one, range(200)))
        assert len(asyncio.all_tasks()) == 1

    @pytest.mark.parametrize("moment", ["while it streams", "while it is checked"])
    async def test_a_client_that_leaves_ends_the_app_and_leaves_nothing_running(self, moment: str, make_guard: Any) -> None:
        left, ended, checking = asyncio.Event(), asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()

        async def never(exchange: Exchange) -> Judgement:
            if exchange.response is not None and moment == "while it is checked":
                loop.call_soon_threadsafe(checking.set)
                await asyncio.Event().wait()
            return judgement()

        async def parts() -> AsyncIterator[bytes]:
            try:
                yield chunk("First. ")
                await asyncio.Event().wait()
            finally:
                ended.set()

        async def endless(request: Request) -> Response:
            await request.json()
            return StreamingResponse(parts(), media_type="text/event-stream")

        middleware = [Middleware(GuardMiddleware, guard=make_guard(never), routes=ROUTES)]
        app = Starlette(routes=[Route("/sse", endless, methods=["POST"])], middleware=middleware)
        body = [{"type": "http.request", "body": b'{"message": "hi"}', "more_body": False}]

        async def receive() -> Any:
            if body:
                return body.pop()
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            if message.get("body"):
                checking.set()

        task = asyncio.create_task(call(app, "/sse", None, send, receive))
        await checking.wait()
        left.set()
        await task
        await ended.wait()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_client_that_is_gone_is_the_apps_affair(self, guard: Guard) -> None:
        async def send(message: Any) -> None:
            raise OSError("gone")

        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            try:
                while True:
                    await send({"type": "http.response.body", "body": b"Well. ", "more_body": True})
            except OSError as error:
                heard.append(str(error))

        heard: list[str] = []
        await call(GuardMiddleware(app, guard=guard, routes=ROUTES), "/text", {"message": "hi"}, send)
        assert heard == ["gone"]
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_an_app_that_fails_fails_and_nothing_held_leaves(self, guard: Guard) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
            await send({"type": "http.response.body", "body": b"held back", "more_body": True})
            raise LookupError("its own")

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        with pytest.raises(LookupError, match="its own"):
            await call(GuardMiddleware(app, guard=guard, routes=ROUTES), "/text", {"message": "hi"}, send)
        assert sent == []
        assert asyncio.all_tasks() == {asyncio.current_task()}

    async def test_a_block_stops_the_app(self, guard: Guard) -> None:
        made = 0

        async def endless(request: Request) -> Response:
            async def parts() -> AsyncIterator[bytes]:
                nonlocal made
                while True:
                    made += 1
                    yield chunk("bad. ")

            return StreamingResponse(parts(), media_type="text/event-stream")

        middleware = [Middleware(GuardMiddleware, guard=guard, routes=ROUTES)]
        app = Starlette(routes=[Route("/sse", endless, methods=["POST"])], middleware=middleware)
        got = await post(app, "/sse", {"message": "hi"})
        assert got.status_code == 403
        assert made < 200

    async def test_background_work_is_done_after_a_blocked_answer_that_was_whole(self, guard: Guard) -> None:
        done = []

        async def work(request: Request) -> Response:
            return JSONResponse({"answer": "bad"}, background=BackgroundTask(done.append, 1))

        middleware = [Middleware(GuardMiddleware, guard=guard, routes=ROUTES)]
        app = Starlette(routes=[Route("/json", work, methods=["POST"])], middleware=middleware)
        assert (await post(app, "/json", {"message": "hi"})).status_code == 403
        assert done == [1]

    async def test_the_event_loop_is_never_blocked(self, make_guard: Any) -> None:
        async def slow(exchange: Exchange) -> Judgement:
            await asyncio.sleep(0.01)
            return judgement() if exchange.response is None else judgement("unharmful", "compliance", "unharmful")

        guard = make_guard(slow)
        app = starlette_app(guard)
        net = BlockBuster(scanned_modules=["guardreasoner_sdk", "guardreasoner_integrations"])
        net.activate()
        try:
            for path in ("/json", "/text", "/sse", "/lines"):
                assert (await post(app, path, {"message": "hi", "say": "one. |two"})).status_code == 200
            with pytest.raises(BlockingError):
                guard.check("not in the cache")
        finally:
            net.deactivate()
