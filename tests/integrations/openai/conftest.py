"""A server that speaks Chat Completions and Responses, streamed and not: it answers ``say: <text>`` with the text."""

from __future__ import annotations

import json
import re
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("openai", reason="pip install openai")

from openai import AsyncOpenAI, DefaultAsyncHttpxClient, DefaultHttpxClient, OpenAI

from guardreasoner_integrations.openai import guarded
from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def label(text: str) -> Any:
    return "harmful" if "evil" in text else "undetermined" if "unsure" in text else "unharmful"


def by_words(exchange: Exchange) -> Judgement:
    asked = exchange.prompt.partition("say:")[0]
    if exchange.response is None:
        return judgement(label(asked))
    return judgement(label(asked), "compliance", label(exchange.response))


@pytest.fixture
def guard() -> Iterator[Guard]:
    """Finds harmful what holds the word ``evil``, and cannot decide about ``unsure``: in the prompt before ``say:``."""
    with Guard(judge=ScriptedJudge(by_words)) as made:
        yield made


class Server:
    """The server.

    ``requests`` are the bodies that came, ``clients`` the connections they came by; ``gone`` is set when a client hung up on
    an endless answer; ``raw`` replaces the answer: content type and bytes, with ``status``.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.clients: set[Any] = set()
        self.gone = threading.Event()
        self.raw: tuple[str, bytes] | None = None
        self.status = 200
        owner = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner.answer(self)

            def do_GET(self) -> None:
                owner.answer(self)

            def log_message(self, *args: object) -> None:
                """Quiet."""

        class Threads(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request: object, client_address: object) -> None:
                """A client that hangs up is part of the tests."""

        self._server = Threads(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("content-length") or 0)
        body = json.loads(handler.rfile.read(length) or b"{}")
        self.requests.append(body)
        self.clients.add(handler.client_address)
        if self.raw is not None:
            self._whole(handler, *self.raw)
            return
        if handler.path.startswith("/v1/models"):
            self._whole(handler, "application/json", json.dumps({"object": "list", "data": []}).encode())
            return
        chat = handler.path.partition("?")[0].endswith("/chat/completions")
        if body.get("stream"):
            self._events(handler, chat_events(body) if chat else response_events(body))
        else:
            content = completion(body) if chat else response(body)
            self._whole(handler, "application/json", json.dumps(content).encode())

    def _whole(self, handler: BaseHTTPRequestHandler, kind: str, content: bytes) -> None:
        handler.send_response(self.status)
        handler.send_header("content-type", kind)
        handler.send_header("content-length", str(len(content)))
        handler.send_header("x-request-id", "req_1")
        handler.end_headers()
        handler.wfile.write(content)

    def _events(self, handler: BaseHTTPRequestHandler, events: Iterator[bytes]) -> None:
        handler.send_response(200)
        handler.send_header("content-type", "text/event-stream; charset=utf-8")
        handler.send_header("transfer-encoding", "chunked")
        handler.end_headers()
        try:
            for event in events:
                handler.wfile.write(b"%x\r\n%s\r\n" % (len(event), event))
            handler.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.gone.set()
            handler.close_connection = True


def asked(body: dict[str, Any]) -> str:
    """What the client wants to hear."""
    given = body.get("messages", body.get("input"))
    text = given if isinstance(given, str) else given[-1].get("content") or "say: nothing."
    text = text if isinstance(text, str) else text[0].get("text", "")
    return text.partition("say: ")[2]


def words(text: str) -> list[str]:
    """Pieces as a model writes them; the last word is repeated for ever after ``endless``."""
    return re.findall(r"\S+\s*", text)


def said(text: str) -> Iterator[str]:
    for word in words(text):
        if word.startswith("endless"):
            while True:
                yield "and on "
        yield word


def message(body: dict[str, Any], text: str) -> dict[str, Any]:
    if body.get("tools"):
        call = {"id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": json.dumps({"query": text})}}
        return {"role": "assistant", "content": None, "refusal": None, "tool_calls": [call]}
    return {"role": "assistant", "content": text, "refusal": None}


def completion(body: dict[str, Any]) -> dict[str, Any]:
    texts = asked(body).split("|")
    finish = "tool_calls" if body.get("tools") else "stop"
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": body["model"],
        "choices": [
            {"index": i, "message": message(body, text), "finish_reason": finish, "logprobs": None}
            for i, text in enumerate(texts)
        ],
        "usage": {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8},
        "system_fingerprint": "fp_1",
    }


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data)}\n\n".encode()


def chat_events(body: dict[str, Any]) -> Iterator[bytes]:
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": body["model"]}

    def chunk(index: int, delta: dict[str, Any], finish: str | None = None) -> bytes:
        return event({**head, "choices": [{"index": index, "delta": delta, "finish_reason": finish, "logprobs": None}]})

    texts = asked(body).split("|")
    for index in range(len(texts)):
        yield chunk(index, {"role": "assistant", "content": ""})
    yield b": still there\n\n"
    if body.get("tools"):
        call = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "look_up", "arguments": ""}}
        yield chunk(0, {"tool_calls": [call]})
        for piece in said(json.dumps({"query": texts[0]})):
            yield chunk(0, {"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})
        yield chunk(0, {}, "tool_calls")
    else:
        for index, text in enumerate(texts):
            for piece in said(text):
                yield chunk(index, {"content": piece})
        for index in range(len(texts)):
            yield chunk(index, {}, "stop")
    yield b"data: [DONE]\n\n"


def response(body: dict[str, Any], output: list[dict[str, Any]] | None = None, status: str = "completed") -> dict[str, Any]:
    if output is None:
        output = [call_item(asked(body))] if body.get("tools") else [text_item(asked(body))]
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "model": body["model"],
        "output": output,
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "status": status,
        "error": None,
        "incomplete_details": None,
        "instructions": body.get("instructions"),
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
    }


def text_item(text: str, status: str = "completed") -> dict[str, Any]:
    content = [text_part(text)] if status == "completed" else []
    return {"id": "msg_1", "type": "message", "role": "assistant", "status": status, "content": content}


def text_part(text: str) -> dict[str, Any]:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


def call_item(text: str, status: str = "completed") -> dict[str, Any]:
    arguments = json.dumps({"query": text}) if status == "completed" else ""
    return {
        "id": "fc_1",
        "type": "function_call",
        "call_id": "call_1",
        "name": "look_up",
        "arguments": arguments,
        "status": status,
    }


def response_events(body: dict[str, Any]) -> Iterator[bytes]:
    number = -1

    def tell(kind: str, **fields: Any) -> bytes:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **fields}, kind)

    text = asked(body)
    yield tell("response.created", response=response(body, [], "in_progress"))
    yield tell("response.in_progress", response=response(body, [], "in_progress"))
    if body.get("tools"):
        at = {"output_index": 0, "item_id": "fc_1"}
        item = call_item(text)
        yield tell("response.output_item.added", output_index=0, item=call_item(text, "in_progress"))
        for piece in said(item["arguments"]):
            yield tell("response.function_call_arguments.delta", **at, delta=piece)
        yield tell("response.function_call_arguments.done", **at, arguments=item["arguments"], name="look_up")
    else:
        at = {"output_index": 0, "item_id": "msg_1", "content_index": 0}
        item = text_item(text)
        yield tell("response.output_item.added", output_index=0, item=text_item(text, "in_progress"))
        yield tell("response.content_part.added", **at, part=text_part(""))
        for piece in said(text):
            yield tell("response.output_text.delta", **at, delta=piece, logprobs=[])
        yield tell("response.output_text.done", **at, text=text, logprobs=[])
        yield tell("response.content_part.done", **at, part=text_part(text))
    yield tell("response.output_item.done", output_index=0, item=item)
    yield tell("response.completed", response=response(body, [item]))


@pytest.fixture
def server() -> Iterator[Server]:
    """A running server."""
    made = Server()
    yield made
    made.close()


MESSAGE = "I'm sorry, but I can't help with that."
TOOLS: list[Any] = [{"type": "function", "name": "look_up", "function": {"name": "look_up", "parameters": {"type": "object"}}}]
PICTURE = {"type": "image_url", "image_url": {"url": "https://example.org/cat.png"}}


def user(text: object) -> list[Any]:
    return [{"role": "user", "content": text}]


CERTIFICATES = ssl.create_default_context()
"""Read once: a client that reads them for itself takes longer for it than most tests for all the rest."""


def client_of(url: str) -> OpenAI:
    """A client of a server."""
    return OpenAI(base_url=url, api_key="k", max_retries=0, http_client=DefaultHttpxClient(verify=CERTIFICATES))


def async_client_of(url: str) -> AsyncOpenAI:
    return AsyncOpenAI(base_url=url, api_key="k", max_retries=0, http_client=DefaultAsyncHttpxClient(verify=CERTIFICATES))


@pytest.fixture
def plain(server: Any) -> Iterator[OpenAI]:
    with client_of(server.url) as client:
        yield client


@pytest.fixture
def chat(plain: OpenAI, guard: Guard) -> Any:
    return guarded(plain, guard, on_block="message").chat.completions


@pytest.fixture
def responses(plain: OpenAI, guard: Guard) -> Any:
    return guarded(plain, guard, on_block="message").responses


def seen(guard: Guard) -> list[Any]:
    judge = guard.judge
    assert isinstance(judge, ScriptedJudge)
    return judge.seen
