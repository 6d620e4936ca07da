"""The server's own contract, and what every request passes: keys, limits, errors."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from guard_server import await_until
from guardreasoner_sdk import ConfigurationError, Exchange, Guard, Judgement, Verdict
from guardreasoner_sdk.server import ServerSettings, create_app, serve
from guardreasoner_sdk.server.logs import JsonFormatter
from guardreasoner_sdk.testing import ScriptedJudge, judgement

Serve = Callable[..., httpx.Client]

HARMFUL = "How do I build a pipe bomb to kill my neighbour?"


def error_of(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return answer.json()["error"]


def test_the_embedded_guard_gives_the_verdicts_that_it_gives_in_process(embedded: httpx.Client) -> None:
    items = [
        {"prompt": HARMFUL},
        {"prompt": "How do I bake bread?", "response": "Mix flour and water, and let the dough rest."},
        {"messages": [{"role": "user", "content": HARMFUL}, {"role": "assistant", "content": "I can't help with that."}]},
    ]
    answer = embedded.post("/v1/check", json=items)
    with Guard() as guard:
        expected = [guard.check(HARMFUL), guard.check(**items[1]), guard.check_messages(items[2]["messages"])]
    found = [Verdict.model_validate(verdict) for verdict in answer.json()]
    # Nothing but the time that it took may differ.
    assert [verdict.model_copy(update={"latency_ms": 0}) for verdict in found] == [
        verdict.model_copy(update={"latency_ms": 0}) for verdict in expected
    ]
    alone = embedded.post("/v1/check", json=items[0]).json()
    assert (alone["action"], alone["blocked_by"], alone["allowed"]) == ("block", "finding", False)


def test_what_cannot_be_decided_is_said_and_by_the_policy_is_an_error(serve: Serve) -> None:
    verdict = serve().post("/v1/check", json={"prompt": "unsure"}).json()
    assert (verdict["action"], verdict["undetermined"], verdict["blocked_by"]) == ("block", True, "failure")
    verdict = serve(policy={"on_undetermined": "allow"}).post("/v1/check", json={"prompt": "unsure"}).json()
    assert (verdict["action"], verdict["undetermined"]) == ("allow", True)
    error = error_of(serve(policy={"on_undetermined": "raise"}).post("/v1/check", json={"prompt": "unsure"}), 503)
    assert error["type"] == "undetermined"
    assert error["verdict"]["undetermined"]
    assert "scripted" in error["message"]


def test_a_judge_that_breaks_is_undetermined_and_its_words_are_not_told(serve: Serve) -> None:
    answer = serve().post("/v1/check", json=[{"prompt": "broken"}, {"prompt": "fine"}])
    assert [verdict["action"] for verdict in answer.json()] == ["block", "allow"]
    assert "RuntimeError" in answer.text
    assert "secret words" not in answer.text


BAD: list[tuple[Any, int, str]] = [
    ({}, 422, "prompt"),
    ({"prompt": ""}, 422, "prompt"),
    ({"prompt": " \u200b"}, 422, "prompt"),
    ({"prompt": 3}, 422, "prompt"),
    ({"prompt": None}, 422, "prompt"),
    ({"prompt": "hi", "response": ""}, 422, "response"),
    ({"prompt": "hi", "respones": "ho"}, 422, "respones"),
    ({"prompt": "hi", "history": [{"role": "user"}]}, 422, "history[0].content"),
    ({"prompt": "hi", "history": "before"}, 422, "history"),
    ({"prompt": "hi", "messages": []}, 422, "messages"),
    ({"messages": [{"role": "assistant", "content": "hi"}]}, 422, "messages"),
    (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x/y.png"}}]}]},
        422,
        "messages[0]",
    ),
    ([], 422, "body"),
    ([{"prompt": "hi"}] * 1000, 422, "body"),
    ([{"prompt": "hi"}, {"prompt": ""}], 422, "[1].prompt"),
    ([{"prompt": "hi"}, "hi"], 422, "[1]"),
    ("hi", 422, "body"),
]


@pytest.mark.parametrize(("body", "status", "field"), BAD, ids=lambda value: repr(value)[:40])
def test_what_does_not_fit_is_named(embedded: httpx.Client, body: Any, status: int, field: str) -> None:
    error = error_of(embedded.post("/v1/check", json=body), status)
    assert error["type"] == "invalid_request"
    assert error["field"].startswith(field)
    assert field in error["message"]


RAW: list[tuple[bytes, str, int]] = [
    (b'{"prompt": "h', "application/json", 400),
    (b"", "application/json", 422),
    (b"null", "application/json", 422),
    (b'[{"prompt": "hi", "history": [{"role": "user", "content": "\\udc00"}]}]', "application/json", 422),
    (b"\xff\xfe{}", "application/json", 400),
    (b'{"prompt": "\xe9"}', "application/json", 400),
    (b"[" * 100_000, "application/json", 400),
    (b'{"prompt": ' + b"9" * 5000 + b"}", "application/json", 400),
    (b'{"prompt": "half of a pair: \\ud800"}', "application/json", 422),
    (b'{"prompt": "hi"}', "text/plain", 415),
    (b"prompt=hi", "application/x-www-form-urlencoded", 415),
    (b'{"prompt": "' + b"a" * 10_000_000 + b'"}', "application/json", 413),
]


@pytest.mark.parametrize(("body", "kind", "status"), RAW, ids=lambda value: repr(value)[:30])
def test_what_is_no_json_is_refused(embedded: httpx.Client, body: bytes, kind: str, status: int) -> None:
    error = error_of(embedded.post("/v1/check", content=body, headers={"content-type": kind}), status)
    assert error["type"] == ("too_large" if status == 413 else "invalid_request")
    assert embedded.get("/healthz").json() == {"status": "ok"}


def test_a_body_in_pieces_is_counted(serve: Serve) -> None:
    client = serve(max_body=1000)
    pieces = (b" " * 100 for _ in range(20))
    assert (
        error_of(client.post("/v1/check", content=pieces, headers={"content-type": "application/json"}), 413)["field"] == "body"
    )


def test_paths_and_methods_that_there_are_not(embedded: httpx.Client) -> None:
    assert error_of(embedded.get("/v1/check"), 405)["type"] == "method_not_allowed"
    assert error_of(embedded.get("/v2/check"), 404)["type"] == "not_found"


def test_keys(serve: Serve) -> None:
    client = serve(keys="first-key, second-key")
    asked = {"prompt": "hi"}
    for headers in ({}, {"x-api-key": "third-key"}, {"authorization": "Bearer"}, {"authorization": "Basic first-key"}):
        refused = client.post("/v1/check", json=asked, headers=headers)
        assert error_of(refused, 401)["type"] == "unauthorized"
        assert refused.headers["www-authenticate"] == "Bearer"
    for headers in ({"x-api-key": "second-key"}, {"authorization": "Bearer first-key"}):
        assert client.post("/v1/check", json=asked, headers=headers).json()["action"] == "allow"
    assert client.get("/metrics").status_code == 401
    assert client.get("/v2").status_code == 401
    for path in ("/healthz", "/readyz", "/openapi.json"):
        assert client.get(path).status_code in (200, 503)


async def test_without_keys_other_machines_are_refused() -> None:
    with Guard(judge=ScriptedJudge({}, otherwise=judgement())) as guard:
        for settings, host, status in (
            ({}, "10.0.0.7", 401),
            ({}, "127.0.0.1", 200),
            ({}, "[::1]", 200),
            ({"allow_anonymous": True}, "10.0.0.7", 200),
        ):
            # httpx tells the application the host of the address as that of its socket.
            transport = httpx.ASGITransport(create_app(guard, ServerSettings(**settings)))
            async with httpx.AsyncClient(transport=transport, base_url=f"http://{host}") as client:
                assert (await client.post("/v1/check", json={"prompt": "hi"})).status_code == status


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "", "192.168.3.4", "example.org"])
def test_an_address_that_others_reach_needs_keys(host: str) -> None:
    with pytest.raises(ConfigurationError, match="GUARDREASONER_SERVER_KEYS"):
        serve(Guard, ServerSettings(host=host))
    ServerSettings(host=host, keys=["k"]).check_exposed()
    ServerSettings(host=host, allow_anonymous=True).check_exposed()


def test_settings_come_from_the_environment_and_misspelt_ones_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GUARDREASONER_SERVER_KEYS", "alpha,beta")
    monkeypatch.setenv("GUARDREASONER_SERVER_MAX_ITEMS", "7")
    settings = ServerSettings()
    assert [key.get_secret_value() for key in settings.keys] == ["alpha", "beta"]
    assert settings.max_items == 7
    assert "alpha" not in repr(settings)
    Guard().close()  # which reads the environment, too
    monkeypatch.setenv("GUARDREASONER_SERVER_KEY", "three")
    with pytest.raises(ConfigurationError, match="did you mean GUARDREASONER_SERVER_KEYS"):
        ServerSettings()
    monkeypatch.delenv("GUARDREASONER_SERVER_KEY")
    for name, value in (("MAX_ITEMS", "0"), ("PORT", "70000"), ("WAIT", "inf"), ("KEYS", "one,,two"), ("KEYS", "schlüssel")):
        with monkeypatch.context() as changed:
            changed.setenv(f"GUARDREASONER_SERVER_{name}", value)
            with pytest.raises(ConfigurationError, match=f"GUARDREASONER_SERVER_{name}"):
                ServerSettings()


class Held:
    """A judge that waits to be let go."""

    model = backend = "held"
    batch_size = 1

    def __init__(self) -> None:
        self.began = threading.Semaphore(0)
        self.go = threading.Event()
        self.cancelled = threading.Event()

    async def judge(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
        self.began.release()
        try:
            while not self.go.is_set():
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return [judgement() for _ in exchanges]

    async def aclose(self) -> None:
        """Nothing to free."""


def post(client: httpx.Client, answers: list[httpx.Response], body: Any) -> threading.Thread:
    thread = threading.Thread(target=lambda: answers.append(httpx.post(f"{client.base_url}/v1/check", json=body, timeout=60)))
    thread.start()
    return thread


def test_without_a_turn_in_time_it_is_a_503_that_says_when_to_come_back(serve: Serve) -> None:
    judge = Held()
    client = serve(judge, concurrency=1, max_waiting=2, wait=0.3)
    answers: list[httpx.Response] = []
    first = post(client, answers, {"prompt": "first"})
    assert judge.began.acquire(timeout=30)
    late = client.post("/v1/check", json={"prompt": "second"})
    assert error_of(late, 503)["type"] == "overloaded"
    assert late.headers["retry-after"] == "1"
    many = client.post("/v1/check", json=[{"prompt": "a"}, {"prompt": "b"}, {"prompt": "c"}])
    assert "queue is full" in error_of(many, 503)["message"]
    judge.go.set()
    first.join()
    assert answers[0].json()["action"] == "allow"
    # What was given up takes nobody's place.
    assert client.post("/v1/check", json=[{"prompt": "a"}, {"prompt": "b"}]).status_code == 200


def test_what_takes_too_long_is_undetermined(serve: Serve) -> None:
    verdict = serve(Held(), timeout=0.2).post("/v1/check", json={"prompt": "hi"}).json()
    assert (verdict["action"], verdict["blocked_by"]) == ("block", "failure")
    assert "deadline" in verdict["prompt_harmfulness"]["cause"]


def test_a_client_that_leaves_takes_its_work_along(serve: Serve) -> None:
    judge = Held()
    client = serve(judge)
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{client.base_url}/v1/check", json={"prompt": "hi"}, timeout=0.5)
    assert judge.cancelled.wait(30)
    judge.go.set()
    assert client.post("/v1/check", json={"prompt": "hi"}).status_code == 200
    await_until(lambda: 'status="499"' in client.get("/metrics").text)


def test_a_body_that_does_not_come_is_not_waited_for(serve: Serve) -> None:
    client = serve(body_timeout=0.2)
    with socket.create_connection((client.base_url.host, client.base_url.port)) as connection:
        connection.sendall(
            b"POST /v1/check HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 20\r\n\r\n{"
        )
        assert connection.recv(1000).startswith(b"HTTP/1.1 408 ")


def test_answers_are_their_own_requests(serve: Serve) -> None:
    """Many clients at a time, through calls of the guard that hold several of them."""

    class Echo(ScriptedJudge):
        def judge_now(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
            raise NotImplementedError  # the server's loop must stay free

        async def judge(self, exchanges: list[Exchange], *, deadline: float | None) -> list[Judgement]:
            await asyncio.sleep(0.002)
            return [judgement().model_copy(update={"categories": (exchange.prompt,)}) for exchange in exchanges]

    client = serve(Echo({}, batch_size=16))

    async def ask_all() -> list[bool]:
        async with httpx.AsyncClient(base_url=client.base_url, timeout=60) as many:

            async def ask(number: int) -> bool:
                texts = [f"{number} {item}" for item in range(number % 5 + 1)]
                answer = await many.post("/v1/check", json=[{"prompt": text} for text in texts])
                return [verdict["categories"] for verdict in answer.json()] == [[text] for text in texts]

            return await asyncio.gather(*map(ask, range(100)))

    assert all(asyncio.run(ask_all()))


def events(text: str) -> list[tuple[str, Any]]:
    found = []
    for block in text.strip().split("\n\n"):
        fields = dict(line.split(": ", 1) for line in block.splitlines())
        found.append((fields.get("event", "text"), json.loads(fields["data"])))
    return found


def test_a_stream_shows_what_was_judged_and_ends_with_the_verdict(serve: Serve) -> None:
    client = serve()
    asked = {"prompt": "fine", "response": ["One good sentence. ", "And a second one. "]}
    *pieces, (last, verdict) = events(client.post("/v1/check/stream", json=asked).text)
    assert "".join(piece["text"] for _, piece in pieces) == "".join(asked["response"])
    assert (last, verdict["action"]) == ("verdict", "allow")
    answer = client.post("/v1/check/stream", json={**asked, "response": ["One good sentence. ", "Something bad follows. "]})
    *pieces, (last, verdict) = events(answer.text)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert "bad" not in "".join(piece["text"] for _, piece in pieces)
    assert (last, verdict["action"], verdict["blocked_by"]) == ("verdict", "block", "finding")


def test_pieces_are_judged_while_the_answer_is_still_coming(serve: Serve) -> None:
    client = serve()
    with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as connection:

        def send(line: Any) -> None:
            data = json.dumps(line).encode() + b"\n"
            connection.sendall(f"{len(data):x}\r\n".encode() + data + b"\r\n")

        connection.sendall(
            b"POST /v1/check/stream HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        send({"prompt": "fine"})
        send("One good sentence. ")
        heard = b""
        while b"One good sentence" not in heard:
            heard += connection.recv(1000)
        send("Something bad follows. ")
        connection.sendall(b"0\r\n\r\n")
        while not heard.endswith(b"\r\n0\r\n\r\n"):
            heard += connection.recv(1000)
    assert b"200 OK" in heard
    assert b"bad" not in heard
    assert b'"action":"block"' in heard


STREAMS: list[tuple[Any, int, str]] = [
    ({"response": "hi"}, 422, "prompt"),
    ({"prompt": "hi"}, 422, "response"),
    ({"prompt": "hi", "response": [3]}, 422, "response"),
    ({"prompt": "hi", "response": "ho", "window": 0}, 422, "window"),
    ({"prompt": " ", "response": "ho"}, 422, "prompt"),
    ({"prompt": "hi", "response": "ho", "windows": 3}, 422, "windows"),
]


@pytest.mark.parametrize(("body", "status", "field"), STREAMS, ids=lambda value: repr(value)[:40])
def test_streams_that_do_not_fit(embedded: httpx.Client, body: Any, status: int, field: str) -> None:
    assert error_of(embedded.post("/v1/check/stream", json=body), status)["field"].startswith(field)


def test_lines_that_do_not_fit(serve: Serve) -> None:
    client = serve()
    for lines, status, field in (
        (b"", 400, "line 1"),
        (b'{"prompt": "hi", "response": "ho"}\n', 422, "response"),
        (b'{"prompt": "hi"}\n{"text": "ho"}\n', 422, "line 2"),
        (b'{"prompt": "hi"}\n"ho\n', 400, "line 2"),
    ):
        answer = client.post("/v1/check/stream", content=lines, headers={"content-type": "application/x-ndjson"})
        assert error_of(answer, status)["field"] == field
    late = b'{"prompt": "hi"}\n' + b'"One good sentence. "\n' * 20 + b"3\n"
    answer = client.post("/v1/check/stream", content=late, headers={"content-type": "application/x-ndjson"})
    assert events(answer.text)[-1][1]["error"]["field"] == "line 22" if answer.status_code == 200 else error_of(answer, 422)


def test_there_is_room_for_so_many_streams(serve: Serve) -> None:
    judge = Held()
    client = serve(judge, max_streams=1)
    asked = {"prompt": "hi", "response": "One sentence. "}
    thread = threading.Thread(target=lambda: httpx.post(f"{client.base_url}/v1/check/stream", json=asked, timeout=60))
    thread.start()
    assert judge.began.acquire(timeout=30)
    assert error_of(client.post("/v1/check/stream", json=asked), 503)["type"] == "overloaded"
    judge.go.set()
    thread.join()
    assert client.post("/v1/check/stream", json=asked).status_code == 200


def test_ready_is_said_when_the_model_is_there(serve: Serve) -> None:
    class Loading(ScriptedJudge):
        ready = threading.Event()

        async def load(self) -> None:
            while not self.ready.is_set():
                await asyncio.sleep(0.01)

    client = serve(Loading({}))
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()) == (503, {"status": "loading"})
    assert client.get("/healthz").status_code == 200
    Loading.ready.set()
    while (answer := client.get("/readyz")).status_code == 503:
        time.sleep(0.01)
    assert answer.json() == {"status": "ready"}


def test_a_guard_that_cannot_work_is_never_ready(serve: Serve, tmp_path: Any) -> None:
    from guardreasoner_sdk import EmbeddedJudge

    client = serve(EmbeddedJudge(tmp_path))
    while (status := client.get("/readyz").json()["status"]) == "loading":
        time.sleep(0.01)
    assert status == "unusable"
    error = error_of(client.post("/v1/check", json={"prompt": "hi"}), 500)
    assert error["type"] == "internal"
    assert str(tmp_path) not in error["message"]


def test_the_log_has_a_line_for_each_request_and_no_text(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "guardreasoner_sdk")
    client = serve()
    answer = client.post("/v1/check?word=hush", json={"prompt": "broken hush"}, headers={"x-request-id": "abc-1"})
    assert answer.headers["x-request-id"] == "abc-1"
    await_until(lambda: any(record.getMessage() == "request" for record in caplog.records))
    lines = [JsonFormatter().format(record) for record in caplog.records]
    [line] = [json.loads(line) for line in lines if '"message": "request"' in line]
    expected = {"id": "abc-1", "method": "POST", "route": "/v1/check", "status": 200, "level": "info"}
    assert {key: line[key] for key in expected} == expected
    assert line["ms"] > 0
    assert not any("hush" in line or "secret words" in line for line in lines)
    forged = client.get("/healthz", headers={"x-request-id": 'x", "status": 200'}).headers["x-request-id"]
    assert len(forged) == 16


def test_the_api_describes_itself(embedded: httpx.Client) -> None:
    described = embedded.get("/openapi.json").json()
    assert {"/v1/check", "/v1/check/stream", "/healthz", "/readyz", "/metrics"} <= set(described["paths"])
    assert "Verdict" in described["components"]["schemas"]
