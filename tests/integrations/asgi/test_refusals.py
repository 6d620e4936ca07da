"""Requests and answers that cannot be read."""

import gzip
import json
from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from starlette.middleware.gzip import GZipMiddleware  # noqa: E402
from starlette.responses import Response  # noqa: E402

from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware  # noqa: E402
from guardreasoner_sdk import Guard  # noqa: E402

from .apps import MESSAGE, ROUTES, broken, call, post, starlette_app  # noqa: E402
from .conftest import EVENT, chunk  # noqa: E402


class TestRequestsThatCannotBeRead:
    @pytest.mark.parametrize(
        ("content", "headers", "status", "part"),
        [
            (b"{", {}, 400, "body: is not valid JSON"),
            (b"message=hi", {"content-type": "application/x-www-form-urlencoded"}, 400, "body: is not valid JSON"),
            (b"", {}, 400, "body: is not valid JSON"),
            (b'{"message": "hi", "message": "bad"}', {}, 400, "names a key twice"),
            (b'{"massage": "hi"}', {}, 422, "prompt: the body has no $.message"),
            (b'{"message": ["hi"]}', {}, 422, "prompt ($.message): must be text, not list"),
            (b"[" * 100_000, {}, 400, "body: is not valid JSON"),
            (b'{"message": "\xe4"}', {}, 400, "body: is not valid JSON"),
            (b'{"message": "hi"}', {"content-type": "application/json; charset=latin-1"}, 415, "JSON is sent in UTF-8"),
            (b'{"message": "hi"}', {"content-encoding": "br"}, 415, "compressed as 'br'"),
            (b'{"message": "hi"}', {"content-encoding": "gzip"}, 400, "is not the gzip"),
            (gzip.compress(b"{}", mtime=0) * 2, {"content-encoding": "gzip"}, 400, "not one whole gzip member"),
            (
                gzip.compress(b" " * 300_000, mtime=0),
                {"content-encoding": "gzip"},
                413,
                "more than 200,000 bytes when unpacked",
            ),
            (b" " * 200_001, {}, 413, "more than 200,000 bytes"),
        ],
    )
    async def test_they_are_refused_with_the_field_and_the_fix(
        self, content: bytes, headers: dict[str, str], status: int, part: str, make_guard: Any
    ) -> None:
        app = starlette_app(make_guard(broken), max_body=200_000)
        got = await post(app, "/json", content=content, headers=headers)
        error = got.json()["error"]
        assert (got.status_code, error["type"]) == (status, "invalid_request")
        assert part in error["message"]

    async def test_a_gzipped_body_is_judged_and_passed_on_as_it_came(self, guard: Guard) -> None:
        seen = []

        async def app(scope: Any, receive: Any, send: Any) -> None:
            seen.append(await receive())
            await Response("")(scope, receive, send)

        guarded = GuardMiddleware(app, guard=guard, routes=[GuardedRoute("/chat", prompt="$.message")])
        for message, status in (("hi", 200), ("bad", 403)):
            packed = gzip.compress(json.dumps({"message": message}).encode())
            got = await post(guarded, "/chat", content=packed, headers={"content-encoding": "gzip"})
            assert got.status_code == status
        assert [message["body"][:2] for message in seen] == [b"\x1f\x8b"]

    async def test_a_client_that_leaves_before_the_end_never_reaches_the_app(self, guard: Guard) -> None:
        messages = [{"type": "http.request", "body": b'{"mess', "more_body": True}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            return messages.pop(0)

        sent: list[Any] = []
        await call(GuardMiddleware(broken, guard=guard, routes=ROUTES), "/json", None, sent.append, receive)  # type: ignore[arg-type]
        assert sent == []
        assert messages == []

    async def test_the_body_is_replayed_once_and_then_the_server_speaks(self, guard: Guard) -> None:
        pieces = [b'{"mes', b'sage": ', b'"hi"}']
        messages = [{"type": "http.request", "body": piece, "more_body": piece != b'"hi"}'} for piece in pieces]
        messages.append({"type": "http.disconnect"})
        got = []

        async def receive() -> Any:
            return messages.pop(0)

        async def app(scope: Any, receive: Any, send: Any) -> None:
            got.extend([await receive(), await receive()])

        routes = [GuardedRoute("/chat", prompt="$.message")]
        await call(GuardMiddleware(app, guard=guard, routes=routes), "/chat", None, broken, receive)
        assert got == [
            {"type": "http.request", "body": b'{"message": "hi"}', "more_body": False},
            {"type": "http.disconnect"},
        ]


async def app_that(status: int, body: bytes, headers: dict[str, str], guard: Guard, route: GuardedRoute, **more: Any) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(body, status, headers)(scope, receive, send)

    return await post(GuardMiddleware(app, guard=guard, routes=[route], **more), "/chat", {"message": "hi"})


class TestAnswersThatCannotBeRead:
    JSON = GuardedRoute("/chat", prompt="$.message", response="$.answer")
    EVENTS = GuardedRoute("/chat", prompt="$.message", event=EVENT)
    EITHER = GuardedRoute("/chat", prompt="$.message", response="$.answer", event=EVENT, optional=True)

    @pytest.mark.parametrize(
        ("route", "media", "body", "part"),
        [
            (JSON, "application/json", b'{"other": "bad"}', "the app's JSON has no $.answer"),
            (JSON, "application/json", b'{"answer": {"text": "bad"}}', "must be text, not dict"),
            (JSON, "application/json", b'{"answer": bad', "is not valid JSON"),
            (JSON, "text/html", b"bad", "the app answered with 'text/html'"),
            (JSON, "", b"bad", "the app answered with ''"),
            (JSON, "text/plain; charset=nonsense", b"bad", "unknown charset 'nonsense'"),
            (JSON, "text/event-stream", b"data: bad\n\n", "GuardedRoute(event=...)"),
            (EVENTS, "application/json", b'{"answer": "bad"}', "GuardedRoute(response=...)"),
            (EVENTS, "text/event-stream", b'data: {"text": "bad"}\n\n', f"no event of the app has {EVENT}"),
            (EVENTS, "text/event-stream", chunk("bad").replace(b'"bad"', b"[1]"), "must be text, not list"),
            (EVENTS, "text/event-stream", b"data: " + b"bad" * 40_000, "an event has more than 100,000 bytes"),
            (JSON, "application/json", b'"' + b"bad" * 40_000 + b'"', "the body has more than 100,000 bytes"),
        ],
    )
    async def test_they_do_not_leave(self, route: GuardedRoute, media: str, body: bytes, part: str, guard: Guard) -> None:
        got = await app_that(200, body, {"content-type": media}, guard, route, max_body=100_000)
        error = got.json()["error"]
        assert (got.status_code, error["type"]) == (500, "unreadable_response")
        assert part in error["message"]
        assert "bad" not in got.text

    @pytest.mark.parametrize(
        ("status", "media", "body"),
        [(404, "text/html", b"no"), (422, "application/json", b'{"detail": []}'), (307, "", b""), (204, "", b"")],
    )
    async def test_errors_and_redirections_pass(self, status: int, media: str, body: bytes, guard: Guard) -> None:
        got = await app_that(status, body, {"content-type": media} if media else {}, guard, self.JSON)
        assert (got.status_code, got.content) == (status, body)

    async def test_text_where_it_belongs_is_judged_even_in_an_error(self, guard: Guard) -> None:
        got = await app_that(404, b'{"answer": "bad"}', {"content-type": "application/json"}, guard, self.JSON)
        assert got.status_code == 403

    @pytest.mark.parametrize(
        ("media", "body"),
        [("application/json", b'{"other": "x"}'), ("text/event-stream", b'data: {"x": 1}\n\n'), ("text/html", b"x")],
    )
    async def test_an_optional_text_may_be_absent(self, media: str, body: bytes, guard: Guard) -> None:
        assert (await app_that(200, body, {"content-type": media}, guard, self.EITHER)).content == body

    async def test_a_compressed_stream_is_refused_and_compressed_json_read(self, make_guard: Any) -> None:
        packed = gzip.compress(b'{"answer": "bad", "also": "so bad it is"}')
        headers = {"content-type": "application/json", "content-encoding": "gzip", "etag": "1"}
        assert (await app_that(200, packed, headers, make_guard(), self.JSON)).status_code == 403
        got = await app_that(200, packed, headers, make_guard(on_block="message"), self.JSON)
        assert got.json() == {"answer": MESSAGE, "also": "so bad it is".replace("so bad it is", MESSAGE)}
        assert set(got.headers) == {"content-type", "content-length"}
        stream = {"content-type": "text/event-stream", "content-encoding": "gzip"}
        got = await app_that(200, gzip.compress(chunk("bad")), stream, make_guard(), self.EVENTS)
        assert "compressing middleware around the guard" in got.json()["error"]["message"]

    async def test_compression_around_the_guard_works(self, guard: Guard) -> None:
        app = GZipMiddleware(starlette_app(guard), minimum_size=1)
        got = await post(app, "/json", {"message": "hi", "say": "fine"})
        assert (got.headers["content-encoding"], got.json()["answer"]) == ("gzip", "fine")


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize(("short", "asked", "answered"), [(0, 200, 200), (1, 413, 500)])
async def test_a_body_of_just_max_body_is_read_and_one_byte_more_is_not(
    pack: Any, short: int, asked: int, answered: int, guard: Guard
) -> None:
    headers = {"content-type": "application/json", **({} if pack is bytes else {"content-encoding": "gzip"})}
    body, route = b'{"message": "hi", "answer": "fine"}'.ljust(500), TestAnswersThatCannotBeRead.JSON
    most = len(body) - short

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Response(b'{"answer": "fine"}', media_type="application/json")(scope, receive, send)

    guarded = GuardMiddleware(app, guard=guard, routes=[route], max_body=most)
    assert (await post(guarded, "/chat", content=pack(body), headers=headers)).status_code == asked
    assert (await app_that(200, pack(body), headers, guard, route, max_body=most)).status_code == answered
