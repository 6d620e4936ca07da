"""Servers on the loopback interface: one that misbehaves on demand, and real ones in processes of their own."""

from __future__ import annotations

import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import urllib.request
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path
from typing import Any

PATIENCE = 60.0
"""Seconds that a test waits for what must happen."""


@dataclass(frozen=True)
class Reply:
    """What the server answers to one request.

    Args:
        status: of HTTP; 0: the connection is closed without an answer.
        body: an object for JSON, or the bytes themselves.
        headers: further headers.
        missing: bytes that are announced and do not come: the connection is closed instead.
        hang: nothing is answered before :meth:`FaultyServer.release`.
    """

    status: int = 200
    body: Any = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    missing: int = 0
    hang: bool = False


@dataclass(frozen=True)
class Request:
    """What the server was asked."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: dict[str, Any]


def answer(text: str, *, finish: str | None = "stop", logprobs: Any = None, **more: Any) -> Reply:
    """A completion, as OpenAI's API gives it."""
    choice = {"index": 0, "text": text, "finish_reason": finish, "logprobs": logprobs, **more}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
    return Reply(body={"id": "cmpl-1", "object": "text_completion", "model": "m", "choices": [choice], "usage": usage})


def chat_answer(text: str | None, *, finish: str | None = "stop", logprobs: Any = None) -> Reply:
    """A chat completion, as OpenAI's API gives it."""
    message = {"role": "assistant", "content": text}
    choice = {"index": 0, "message": message, "finish_reason": finish, "logprobs": logprobs}
    usage = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 5}}
    return Reply(body={"id": "chat-1", "object": "chat.completion", "choices": [choice], "usage": usage})


def refusal(status: int, message: str, code: str | None = None, **headers: str) -> Reply:
    """An error, as OpenAI's API gives it."""
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": code}
    return Reply(status, {"error": error}, {name.replace("_", "-"): value for name, value in headers.items()})


def models(owner: str, name: str = "m") -> Reply:
    """A list of one model."""
    return Reply(body={"object": "list", "data": [{"id": name, "object": "model", "owned_by": owner}]})


def flat_logprobs(tokens: list[str], **chances: dict[str, float]) -> dict[str, Any]:
    """Log-probabilities in the shape of completions; chances by ``t<number>``."""
    top = [{token: math.log(p) for token, p in chances.get(f"t{i}", {tokens[i]: 0.9}).items()} for i in range(len(tokens))]
    own = [listed.get(token, -3.0) for token, listed in zip(tokens, top, strict=True)]
    return {"tokens": tokens, "token_logprobs": own, "top_logprobs": top, "text_offset": [0] * len(tokens)}


HANG = Reply(hang=True)
DROP = Reply(status=0)
HALF = Reply(body=b'{"choices": [{"text": "Answers: \\nRequest: unh', missing=500)
MALFORMED = Reply(body=b'{"choices": [{"text": "Answers:')

Script = Callable[[Request], Reply]


class FaultyServer:
    """Answers each request with what was put there for it.

    ``replies`` are used up one by one; then ``otherwise`` answers, a reply or a function of the request.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        self.replies: deque[Reply] = deque()
        self.otherwise: Reply | Script = refusal(500, "nothing was put here")
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._server.server_address[1]}"

    @property
    def url(self) -> str:
        return f"http://{self.host}/v1"

    def plan(self, *replies: Reply, otherwise: Reply | Script | None = None) -> None:
        """Forget what was, and say what is to come; without ``otherwise`` the last reply stays."""
        self.release()
        with self._changed:
            self.requests.clear()
            self.replies = deque(replies)
            self.otherwise = replies[-1] if otherwise is None else otherwise

    @property
    def asked(self) -> list[Request]:
        """The requests but for those of the list of models."""
        return [request for request in self.requests if request.method == "POST"]

    def wait_for(self, count: int) -> None:
        """Wait until so many requests for an answer have come."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.asked) >= count, PATIENCE), f"{len(self.asked)} of {count} came"

    def release(self) -> None:
        """Close the connections of the requests that hang."""
        self._released.set()
        self._released = threading.Event()

    def close(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _reply(self, request: Request) -> Reply:
        with self._changed:
            self.requests.append(request)
            self._changed.notify_all()
            if request.method == "GET" and not callable(self.otherwise):
                return refusal(404, "no list here")
            if self.replies:
                return self.replies.popleft()
            return self.otherwise(request) if callable(self.otherwise) else self.otherwise

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                self.serve({})

            def do_POST(self) -> None:
                self.serve(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def serve(self, body: dict[str, Any]) -> None:
                released = server._released
                reply = server._reply(Request(self.command, self.path, dict(self.headers), body))
                if reply.hang:
                    released.wait()
                if reply.hang or not reply.status:
                    self.close_connection = True
                    return
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                with suppress(ConnectionError):
                    self.send_response(reply.status)
                    for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                        self.send_header(name, value)
                    self.send_header("Content-Length", str(len(data) + reply.missing))
                    self.end_headers()
                    self.wfile.write(data)
                    self.close_connection = self.close_connection or bool(reply.missing)

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def running_faulty_server() -> Iterator[FaultyServer]:
    server = FaultyServer()
    try:
        yield server
    finally:
        server.close()


@contextmanager
def hanging_process() -> Iterator[tuple[subprocess.Popen[str], str]]:
    """A server process that says in a line when a request has come, and never answers; with its base URL."""
    process = subprocess.Popen([sys.executable, __file__], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process, process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def _serving(command: Sequence[str], port: int, environment: Mapping[str, str], patience: float) -> Iterator[str]:
    """Run a server until it lists its models, and kill it in the end."""
    url = f"http://127.0.0.1:{port}/v1"
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, **environment}, start_new_session=True)
        try:
            for _ in range(int(patience / 0.2)):
                with suppress(subprocess.TimeoutExpired):
                    process.wait(0.2)
                    log.seek(0)
                    raise RuntimeError(f"{command[2]} ended with {process.returncode}:\n{log.read()[-2000:]}")
                with suppress(OSError), urllib.request.urlopen(f"{url}/models", timeout=5) as response:
                    if response.status == 200:
                        break
            else:
                log.seek(0)
                raise RuntimeError(f"{command[2]} was not ready after {patience} s:\n{log.read()[-2000:]}")
            yield url
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def skip_without(*modules: str) -> None:
    """Skip the test, or the module of tests, where one of these is not installed; the reason names it."""
    import pytest  # not where this file runs as a server of its own

    if missing := [name for name in modules if find_spec(name) is None]:
        pytest.skip(f"not installed: {', '.join(missing)}", allow_module_level=True)


LLAMA_CPP = ("llama_cpp", "fastapi", "uvicorn", "sse_starlette", "starlette_context", "pydantic_settings")
"""What llama-cpp-python's server needs: ``pip install 'llama-cpp-python[server]'``."""


@contextmanager
def running_llama_cpp_server(gguf: Path, *, logits_all: bool = True) -> Iterator[str]:
    """llama-cpp-python's server, with its base URL; the model's name is ``tiny-guard``."""
    port = _free_port()
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(gguf), "--model_alias", "tiny-guard", "--n_ctx", "2048"]
    command += ["--n_threads", "1", "--logits_all", str(logits_all).lower(), "--host", "127.0.0.1", "--port", str(port)]
    with _serving(command, port, {}, 600) as url:
        yield url


VLLM_ON_CPUS = {
    "HF_HUB_OFFLINE": "1",
    "TORCH_COMPILE_DISABLE": "1",
    "VLLM_CPU_KVCACHE_SPACE": "1",
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # else the engine's process starts another one for the model, on CPUs alone
}


@contextmanager
def running_vllm_server(folder: Path) -> Iterator[str]:
    """vLLM's server, with its base URL; the model's name is ``tiny-guard``."""
    port = _free_port()
    command = [sys.executable, "-m", "vllm.entrypoints.openai.api_server", "--model", str(folder)]
    command += ["--served-model-name", "tiny-guard", "--dtype", "float32", "--enforce-eager", "--max-model-len", "2048"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = {**VLLM_ON_CPUS, "VLLM_NO_USAGE_STATS": "1"}
    with _serving(command, port, environment, 900) as url:
        yield url


def _hang() -> None:
    with running_faulty_server() as server:
        server.plan(HANG)
        print(server.url, flush=True)
        server.wait_for(1)
        print("asked", flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    _hang()
