"""Which requests are guarded."""

from typing import Any

import pytest

pytest.importorskip("jsonpath", reason="pip install 'guardreasoner-sdk[asgi]'")
httpx = pytest.importorskip("httpx", reason="the client of these tests")
fastapi = pytest.importorskip("fastapi", reason="one of the frameworks")

from fastapi.responses import PlainTextResponse  # noqa: E402

from guardreasoner_integrations.asgi import GuardedRoute, GuardMiddleware  # noqa: E402
from guardreasoner_sdk import ConfigurationError, Guard  # noqa: E402

from .apps import ROUTES, broken, call, post, starlette_app  # noqa: E402


class TestRoutes:
    @pytest.mark.parametrize(
        ("pattern", "path", "guarded"),
        [
            ("/chat", "/chat", True),
            ("/chat", "/chat/", True),
            ("/chat/", "/chat", True),
            ("/chat", "/chats", False),
            ("/chats/{id}", "/chats/7", True),
            ("/chats/{id}", "/chats/7/more", False),
            ("/chats/{rest:path}", "/chats/7/more", True),
            ("/api/*", "/api/v1/chat", True),
            ("/a.c", "/abc", False),
            ("/", "/", True),
        ],
    )
    async def test_paths(self, pattern: str, path: str, guarded: bool, guard: Guard) -> None:
        app = GuardMiddleware(PlainTextResponse("in"), guard=guard, routes=[GuardedRoute(pattern, prompt="$.message")])
        assert (await post(app, path, {"message": "bad"})).status_code == (403 if guarded else 200)

    @pytest.mark.parametrize("scope", [{"path": "/v1/chat", "root_path": "/v1"}, {"path": "/chat", "root_path": "/v1"}])
    async def test_a_mounted_app_is_guarded_whatever_the_server_makes_of_the_prefix(self, scope: Any, guard: Guard) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        app = GuardMiddleware(PlainTextResponse("in"), guard=guard, routes=[GuardedRoute("/chat", prompt="$.message")])
        await call(app, body={"message": "bad"}, send=send, **scope)
        assert sent[0]["status"] == 403

    async def test_other_methods_and_paths_pass_untouched(self, guard: Guard) -> None:
        async def echo(scope: Any, receive: Any, send: Any) -> None:
            assert send is own
            assert "extensions" in scope
            passed.append(scope["type"])

        async def own(message: Any) -> None: ...

        passed: list[str] = []
        app = GuardMiddleware(echo, guard=guard, routes=[GuardedRoute("/chat", prompt="$.x", response="$.y")])
        await call(app, "/other", {}, own, extensions={"http.response.pathsend": {}})
        await call(app, "/chat", {}, own, method="GET", extensions={})
        await call(app, "", {}, own, type="lifespan", extensions={})
        await call(app, "/other", {}, own, type="websocket", extensions={})
        assert passed == ["http", "http", "lifespan", "websocket"]

    async def test_a_websocket_on_a_guarded_path_is_refused(self, guard: Guard) -> None:
        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message)

        await call(GuardMiddleware(broken, guard=guard, routes=ROUTES), "/sse", None, send, type="websocket")  # type: ignore[arg-type]
        assert [message["type"] for message in sent] == ["websocket.close"]

    async def test_ways_around_the_guard_are_not_offered(self, guard: Guard) -> None:
        async def app(scope: Any, receive: Any, send: Any) -> None:
            assert scope["extensions"] == {"tls": {}}
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.pathsend", "path": "/etc/passwd"})
            await send({"type": "http.response.body"})

        sent: list[Any] = []

        async def send(message: Any) -> None:
            sent.append(message["type"])

        extensions = {"http.response.pathsend": {}, "http.response.zerocopysend": {}, "tls": {}}
        await call(GuardMiddleware(app, guard=guard, routes=ROUTES), "/json", {"message": "hi"}, send, extensions=extensions)
        assert sent == ["http.response.start", "http.response.body"]

    async def test_messages_are_judged_with_their_history(self, make_guard: Any) -> None:
        guard = make_guard()
        app = starlette_app(guard, [GuardedRoute("/json", messages="$.chat", response="$.answer")])
        chat = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "hi"}]
        assert (await post(app, "/json", {"chat": chat, "say": "yes"})).status_code == 200
        assert [(one.prompt, one.response, len(one.history)) for one in guard.judge.seen] == [("hi", None, 1), ("hi", "yes", 1)]
        for wrong in ([], "text", [{"role": "user", "content": [{"type": "image_url"}]}], None):
            got = await post(app, "/json", {"chat": wrong, "say": "yes"})
            assert (got.status_code, got.json()["error"]["type"]) == (422, "invalid_request")

    async def test_several_matches_are_judged_together(self, make_guard: Any) -> None:
        guard = make_guard()
        app = starlette_app(guard, [GuardedRoute("/json", prompt="$.all[*]", response="$['answer','n']", optional=True)])
        await post(app, "/json", {"all": ["one", "two"], "say": "x"})
        assert guard.judge.seen[0].prompt == "one\n\ntwo"

    async def test_an_optional_prompt_may_be_absent_and_the_answer_is_judged_still(self, guard: Guard) -> None:
        app = starlette_app(guard, [GuardedRoute("/json", prompt="$.message", response="$.answer", optional=True)])
        assert (await post(app, "/json", {"say": "fine"})).status_code == 200
        assert (await post(app, "/json", {"say": "bad"})).status_code == 403

    async def test_a_policy_that_blocks_no_prompt_asks_once(self, make_guard: Any) -> None:
        guard = make_guard(block={"harmful_response"})
        assert (await post(starlette_app(guard), "/json", {"message": "bad", "say": "fine"})).status_code == 200
        assert [one.response for one in guard.judge.seen] == ["fine"]

    async def test_statuses_can_be_chosen(self, guard: Guard) -> None:
        app = starlette_app(guard, blocked_status=451, undetermined_status=500)
        assert (await post(app, "/json", {"message": "bad", "say": ""})).status_code == 451
        assert (await post(app, "/json", {"message": "unsure", "say": ""})).status_code == 500

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"path": "chat", "prompt": "$.a"}, "path: must start with '/'"),
            ({"path": "/chat"}, "prompt: give '/chat' either"),
            ({"path": "/chat", "prompt": "$.a", "messages": "$.b"}, "prompt: give '/chat' either"),
            ({"path": "/chat", "prompt": "a.b"}, "prompt: 'a.b' is not a JSONPath"),
            ({"path": "/chat", "prompt": "$.a", "event": "$["}, "event: '\\$\\[' is not a JSONPath"),
            ({"path": "/chat", "prompt": "$.a", "methods": "POST"}, "methods: pass a list"),
        ],
    )
    def test_routes_that_cannot_work(self, options: dict[str, Any], part: str) -> None:
        with pytest.raises(ConfigurationError, match=part):
            GuardedRoute(**options)

    @pytest.mark.parametrize(
        ("options", "part"),
        [
            ({"routes": []}, "routes: is empty"),
            ({"on_block": "end"}, "on_block: must be"),
            ({"blocked_status": 200}, "blocked_status: must be"),
            ({"max_body": 0}, "max_body: must be"),
        ],
    )
    def test_options_that_cannot_work(self, options: dict[str, Any], part: str, guard: Guard) -> None:
        with pytest.raises(ConfigurationError, match=part):
            GuardMiddleware(broken, **{"guard": guard, "routes": ROUTES, **options})  # type: ignore[arg-type]
