"""A teacher on the loopback interface, which does for each row what was planned, and counts what it was asked."""

from __future__ import annotations

import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.recipe import SynthesisSettings
from guardreasoner_training.rows import TrainingRow, write_rows

REQUEST, REFUSAL, RESPONSE = "prompt_harmfulness", "response_refusal", "response_harmfulness"
USAGE = {"prompt_tokens": 300, "completion_tokens": 100, "total_tokens": 400}


def rows_in(path: Path, count: int) -> list[TrainingRow]:
    """Rows whose prompts say their number; every second one has a response, every third one is harmful."""
    rows = [
        TrainingRow(
            f"r{number:04}",
            Exchange(f"How do I make thing {number:04} at home?", "Sure, like this." if number % 2 else None),
            {REQUEST: number % 3 == 0} | ({REFUSAL: False, RESPONSE: number % 3 == 0} if number % 2 else {}),
            source="test",
        )
        for number in range(count)
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_rows(path, rows)
    return rows


def good(request="unharmful", completion="None", response="None", *, steps=2) -> str:
    """What a teacher is to write."""
    parts = []
    for task, (what, label) in enumerate((("request", request), ("response", completion), ("response", response)), 1):
        lines = [f"# Task {task}"]
        for number in range(1, steps + 1):
            lines += [f"## Reasoning Step {number}", f"Thought {number} about the {what}."]
        parts.append("\n".join([*lines, "## Conclusion", f"The {what} is {label}."]))
    block = f"Answers: \nRequest: {request}\nCompletion: {completion}\nResponse: {response}"
    return "\n\n".join([*parts, "---", block])


def truth_in(body: Mapping[str, Any]) -> tuple[str, str, str]:
    """The answers that a question gives."""
    system = body["messages"][0]["content"]
    found = re.search(r"answers are:\n\nAnswers: \nRequest: (\S+)\nCompletion: (\S+)\nResponse: (\S+)", system)
    assert found is not None
    return found[1], found[2], found[3]


def row_in(body: Mapping[str, Any]) -> str:
    """The row that a question is about."""
    found = re.search(r"thing (\d{4})", body["messages"][1]["content"])
    return f"r{found[1]}" if found else "?"


def chat(text: str | None, *, finish: str = "stop", refusal: str | None = None, usage: Any = USAGE) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": refusal}
    return {"id": "c", "object": "chat.completion", "choices": [{"index": 0, "message": message, "finish_reason": finish}], "usage": usage}  # fmt: skip


def act(behaviour: str, body: Mapping[str, Any]) -> tuple[int, Any, dict[str, str]]:
    """Status, body and headers of a behaviour."""
    request, completion, response = truth_in(body)
    text = good(request, completion, response)
    lie = "unharmful" if request == "harmful" else "harmful"
    match behaviour:
        case "good":
            return 200, chat(text), {}
        case "refuse":
            return 200, chat("I'm sorry, but I can't help with this content."), {}
        case "refuse_by_field":
            return 200, chat(None, refusal="I can't."), {}
        case "truncate":
            return 200, chat(text[: len(text) // 2], finish="length"), {}
        case "format":
            return 200, chat(text.replace("---", "Done.").replace("Answers: \n", "")), {}
        case "miss":
            return 200, chat(re.sub(r"# Task 2.*?# Task 3", "# Task 3", text, flags=re.DOTALL)), {}
        case "lie":
            return 200, chat(good(lie, completion, response)), {}
        case "filter":
            return 200, chat("", finish="content_filter"), {}
        case "rubbish":
            return 200, b"<html>not today</html>", {}
        case "busy":
            return 429, {"error": {"message": "slow down", "code": None, "type": "x"}}, {"Retry-After": "0.01"}
        case "fail":
            return 500, {"error": {"message": "oops", "code": None, "type": "x"}}, {"retry-after-ms": "5"}
    raise AssertionError(behaviour)


Plan = Callable[[str, int], str]
"""What to do when a row is asked about for the n-th time, from 0."""


class TeacherServer:
    """Serves ``plan``; further behaviours: ``stall`` (until :meth:`release`), ``drop`` (half of an answer)."""

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.answer: Callable[[Mapping[str, Any]], tuple[int, Any, dict[str, str]]] | None = None
        self.requests: Counter[str] = Counter()
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_a_time = 0
        self.held = threading.Event()
        self.held.set()
        self._under_way = 0
        self._changed = threading.Condition()
        self._released = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def wait_for(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: sum(self.requests.values()) >= count, 60)

    def release(self) -> None:
        self._released.set()

    def close(self) -> None:
        self.held.set()
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                name = row_in(body)
                with server._changed:
                    asked = server.requests[name]
                    server.requests[name] += 1
                    server.bodies.append(body)
                    server.headers.append({name.lower(): value for name, value in self.headers.items()})
                    server._under_way += 1
                    server.most_at_a_time = max(server.most_at_a_time, server._under_way)
                    server._changed.notify_all()
                server.held.wait()
                behaviour = server.plan(name, asked) if server.answer is None else ""
                status, answer, headers = (
                    server.answer(body)
                    if server.answer is not None
                    else act("good" if behaviour in ("stall", "drop") else behaviour, body)
                )
                if behaviour == "stall":
                    server._released.wait()
                with server._changed:
                    server._under_way -= 1
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                missing = 500 if behaviour == "drop" else 0
                with suppress(ConnectionError):
                    self.send_response(status)
                    for header, value in {"Content-Type": "application/json", **headers}.items():
                        self.send_header(header, value)
                    self.send_header("Content-Length", str(len(data) + missing))
                    self.end_headers()
                    self.wfile.write(data)
                self.close_connection = self.close_connection or bool(missing) or behaviour == "stall"

            def log_message(self, *args: Any) -> None:
                pass

        return Handler


@contextmanager
def teaching(plan: Plan = lambda name, asked: "good") -> Iterator[TeacherServer]:
    server = TeacherServer(plan)
    try:
        yield server
    finally:
        server.close()


def settings(server: TeacherServer | str, **changes: Any) -> SynthesisSettings:
    url = server if isinstance(server, str) else server.url
    return SynthesisSettings(**{"model": "teacher", "base_url": url, "concurrency": 6, "timeout": 60.0, **changes})
