"""The guardrail in litellm's real proxy, in front of a real server."""

import contextlib
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

httpx = pytest.importorskip("httpx", reason="the client of these tests")
uvicorn = pytest.importorskip("uvicorn", reason="the server behind the proxy")
for module in ("prometheus_client", "litellm", "litellm_proxy_extras", "backoff", "apscheduler"):
    pytest.importorskip(module, reason="pip install 'litellm[proxy]'")

from fastapi import FastAPI, Request  # noqa: E402
from fastapi.responses import StreamingResponse  # noqa: E402
from litellm.types.guardrails import ApplyGuardrailRequest  # noqa: E402

from guard_server import by_words, serving  # noqa: E402
from guardreasoner_sdk import Guard  # noqa: E402
from guardreasoner_sdk.testing import ScriptedJudge  # noqa: E402

MESSAGE = "I'm sorry, but I can't help with that."
GUARDS = """
from guardreasoner_integrations.litellm import GuardReasonerGuardrail
from guardreasoner_sdk import Guard, Policy
from guardreasoner_sdk.testing import ScriptedJudge, judgement


def label(text):
    return "undetermined" if "unsure" in text else "harmful" if "bad" in text else "unharmful"


def by_words(exchange):
    prompt = label(exchange.prompt)
    return judgement(prompt) if exchange.response is None else judgement(prompt, "compliance", label(exchange.response))


class Strict(GuardReasonerGuardrail):
    def __init__(self, guardrail_name, event_hook, **rest):
        guard = Guard(judge=ScriptedJudge(by_words), policy=Policy(on_block=rest.get("on_block", "raise")))
        super().__init__(guardrail_name, guard=guard, event_hook=event_hook)
"""
CONFIG = """
model_list:
  - model_name: m
    litellm_params: {{model: openai/x, api_base: "{address}/v1", api_key: k}}
  - model_name: other
    litellm_params: {{model: openai/other, api_base: "{address}/v1", api_key: k}}
guardrails:
  - guardrail_name: strict
    litellm_params: {{guardrail: guards.Strict, mode: [pre_call, post_call]}}
  - guardrail_name: beside
    litellm_params: {{guardrail: guards.Strict, mode: during_call}}
  - guardrail_name: polite
    litellm_params: {{guardrail: guards.Strict, mode: [pre_call, post_call], on_block: message}}
  - guardrail_name: embedded
    litellm_params: {{guardrail: guardreasoner_integrations.litellm.GuardReasonerGuardrail, mode: pre_call}}
  - guardrail_name: remote
    litellm_params: {{guardrail: generic_guardrail_api, mode: [pre_call, post_call], api_base: "{guard}", api_key: our-key, streaming_sampling_rate: 1}}
  - guardrail_name: gone
    litellm_params: {{guardrail: generic_guardrail_api, mode: pre_call, api_base: "http://127.0.0.1:9", api_key: our-key}}
general_settings: {{master_key: sk-1}}
router_settings: {{disable_cooldowns: true, num_retries: 3, retry_after: 0, fallbacks: [{{m: [other]}}]}}
"""
WITHOUT_PRISMA = importlib.util.find_spec("prisma") is None
"""Newer versions of litellm then end every error of this endpoint in one of their own: a 500 without a reason."""
ASKED: list[str] = []
"""The models that were asked, by name."""


def backend() -> FastAPI:
    """Says again what it was told, with ``evil`` for the word that is bad."""
    app = FastAPI()

    def stream(events: list[dict[str, Any]]) -> StreamingResponse:
        lines = [f"data: {json.dumps(event)}\n\n" for event in events]
        return StreamingResponse(iter([*lines, "data: [DONE]\n\n"]), media_type="text/event-stream")

    @app.post("/v1/chat/completions")
    async def chat(request: Request) -> Any:
        body = await request.json()
        ASKED.append(body["model"])
        text = body["messages"][-1]["content"].replace("evil", "bad")
        base = {"id": "c", "created": 1, "model": "x"}
        if body.get("stream"):
            deltas = [{"role": "assistant", "content": word + " "} for word in text.split()]
            choices = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
            choices.append({"index": 0, "delta": {}, "finish_reason": "stop"})
            return stream([{**base, "object": "chat.completion.chunk", "choices": [choice]} for choice in choices])
        message = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return {**base, "object": "chat.completion", "choices": [message], "usage": usage()}

    @app.post("/v1/completions")
    async def complete(request: Request) -> Any:
        body = await request.json()
        text = body["prompt"].replace("evil", "bad")
        base = {"id": "c", "object": "text_completion", "created": 1, "model": "x"}
        if body.get("stream"):
            choices = [{"index": 0, "text": word + " ", "finish_reason": None} for word in text.split()]
            return stream([{**base, "choices": [choice]} for choice in choices])
        return {**base, "choices": [{"index": 0, "text": text, "finish_reason": "stop"}], "usage": usage()}

    @app.post("/v1/responses")
    async def respond(request: Request) -> Any:
        body = await request.json()
        told = body["input"]
        if not isinstance(told, str) and told[-1].get("type") == "function_call_output":
            told = told[-1]["output"]
        elif not isinstance(told, str):
            told = told[-1]["content"] if isinstance(told[-1]["content"], str) else told[-1]["content"][-1]["text"]
        text = told.replace("evil", "bad")
        part = {"type": "output_text", "text": text, "annotations": []}
        message = {"type": "message", "id": "m", "status": "completed", "role": "assistant", "content": [part]}
        tokens = {**dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 1)}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        base = {"id": "resp_1", "object": "response", "created_at": 1, "model": "x", "tools": [], "tool_choice": "auto"}
        base |= {"parallel_tool_calls": True, "usage": {**tokens, **details}}
        done = {**base, "status": "completed", "output": [message]}
        if not body.get("stream"):
            return done
        place = {"item_id": "m", "output_index": 0, "content_index": 0}
        events: list[dict[str, Any]] = [{"type": "response.created", "response": {**base, "status": "queued", "output": []}}]
        events += [{"type": "response.output_text.delta", "delta": word + " ", **place} for word in text.split()]
        events.append({"type": "response.completed", "response": done})
        return stream([{**event, "sequence_number": number} for number, event in enumerate(events)])

    return app


def usage() -> dict[str, int]:
    return {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}


@contextlib.contextmanager
def running(folder: Path, **environment: str) -> Iterator[str]:
    """Address of a proxy with the ``config.yaml`` of a folder."""
    program = shutil.which("litellm", path=str(Path(sys.executable).parent))
    if program is None:
        pytest.skip("pip install 'litellm[proxy]'")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    environment = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", "PYTHONWARNINGS": "ignore", **environment}
    command = [program, "--config", "config.yaml", "--host", "127.0.0.1", "--port", port]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=subprocess.STDOUT)
    try:
        until = time.monotonic() + 120
        while not answers(f"http://127.0.0.1:{port}"):
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < until, (folder / "log").read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Address of a proxy with several guardrails; none is on by default."""
    folder = tmp_path_factory.mktemp("proxy")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(backend(), log_level="critical", lifespan="off"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        (folder / "guards.py").write_text(textwrap.dedent(GUARDS))
        try:
            with Guard(judge=ScriptedJudge(by_words)) as guard, serving(guard, keys=["our-key"]) as served:
                (folder / "config.yaml").write_text(CONFIG.format(address=address, guard=served))
                with running(folder) as proxy:
                    yield proxy
        finally:
            server.should_exit = True
            thread.join()


def answers(address: str) -> bool:
    try:
        return httpx.get(f"{address}/health/liveliness", timeout=2).status_code == 200
    except httpx.TransportError:
        # Refused: the next look would come at once, and take the processor from what is starting.
        threading.Event().wait(0.2)
        return False


BODIES: dict[str, Any] = {
    "/v1/chat/completions": lambda text: {"messages": [{"role": "user", "content": text}]},
    "/v1/completions": lambda text: {"prompt": text},
    "/v1/responses": lambda text: {"input": text},
    "/v1/messages": lambda text: {"messages": [{"role": "user", "content": text}], "max_tokens": 9},
}


def ask(proxy: str, path: str, text: str, guardrail: str, **more: Any) -> Any:
    body = {"model": "m", "guardrails": [guardrail], **BODIES[path](text), **more}
    return httpx.post(proxy + path, json=body, headers={"authorization": "Bearer sk-1"}, timeout=60)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
class TestEveryKindOfCall:
    def test_an_allowed_call_passes(self, proxy: str, path: str, stream: bool) -> None:
        got = ask(proxy, path, "hello there. friend", "strict", stream=stream)
        assert got.status_code == 200
        assert "hello" in got.text
        assert "friend" in got.text

    @pytest.mark.parametrize("guardrail", ["strict", "beside"])
    @pytest.mark.parametrize(("word", "kind", "status"), [("bad", "blocked", 400), ("unsure", "undetermined", 503)])
    def test_a_blocked_prompt_is_an_error(
        self, proxy: str, path: str, stream: bool, guardrail: str, word: str, kind: str, status: int
    ) -> None:
        got = ask(proxy, path, f"so {word}", guardrail, stream=stream)
        assert got.status_code == status
        assert kind in got.text
        assert "prompt_harmfulness" in got.text

    def test_nothing_of_a_blocked_answer_leaves(self, proxy: str, path: str, stream: bool) -> None:
        got = ask(proxy, path, "so evil it is", "strict", stream=stream)
        assert "bad" not in got.text
        assert "The guard blocked this." in got.text
        assert stream or got.status_code == 400

    def test_a_polite_guardrail_answers_in_place_of_the_model(self, proxy: str, path: str, stream: bool) -> None:
        got = ask(proxy, path, "so evil it is", "polite", stream=stream)
        assert "bad" not in got.text
        if stream and path in ("/v1/responses", "/v1/messages"):
            assert "The guard blocked this." in got.text
        else:
            assert (got.status_code, MESSAGE in got.text) == (200, True)

    def test_a_polite_guardrail_answers_a_blocked_prompt(self, proxy: str, path: str, stream: bool) -> None:
        got = ask(proxy, path, "so bad", "polite", stream=stream)
        assert got.status_code == 200
        assert "bad" not in got.text
        # litellm's own stream of a replaced text completion has no text in it.
        assert MESSAGE in got.text or (stream and path == "/v1/completions")


@pytest.mark.parametrize("stream", [False, True])
def test_a_tool_loop_goes_on_without_a_prompt(proxy: str, stream: bool) -> None:
    def go_on(given: str) -> Any:
        items = [{"type": "function_call_output", "call_id": "c", "output": given}]
        return ask(proxy, "/v1/responses", "", "strict", input=items, previous_response_id="resp_1", stream=stream)

    got = go_on("12 degrees")
    assert (got.status_code, "degrees" in got.text) == (200, True)
    for text in ("so bad", "so evil"):
        got = go_on(text)
        assert "The guard blocked this." in got.text
        assert "so bad" not in got.text


@pytest.mark.parametrize(("guardrail", "text", "asked"), [("strict", "so bad", []), ("strict", "so evil", ["x"])])
def test_a_block_is_no_failure_of_a_model(proxy: str, guardrail: str, text: str, asked: list[str]) -> None:
    ASKED.clear()
    assert ask(proxy, "/v1/chat/completions", text, guardrail).status_code == 400
    assert asked == ASKED


@pytest.mark.parametrize("guardrail", ["strict", "polite"])
@pytest.mark.parametrize(
    ("text", "status", "said"), [("fine", 200, "fine"), ("so bad", 400, "is harmful"), ("unsure", 503, "is undetermined")]
)
def test_a_text_of_no_call_is_judged_though_nothing_is_on_by_default(
    proxy: str, guardrail: str, text: str, status: int, said: str
) -> None:
    got = apply(proxy, guardrail, text=text)
    assert text not in got.text or status == 200
    if status == 200 or not WITHOUT_PRISMA:
        assert (got.status_code, said in got.text) == (status, True)
    else:
        assert got.status_code >= 400


def test_a_text_is_judged_as_what_it_is_said_to_be(proxy: str) -> None:
    if "input_type" not in ApplyGuardrailRequest.model_fields:
        pytest.skip("this litellm judges prompts only there")
    if not WITHOUT_PRISMA:
        assert "response_harmfulness" in apply(proxy, "strict", text="bad", input_type="response").text
        asked = apply(proxy, "strict", text="fine", input_type="response", messages=[{"role": "user", "content": "so bad"}])
        assert (asked.status_code, "prompt_harmfulness" in asked.text) == (400, True)
    answered = apply(proxy, "polite", text="bad", input_type="response", messages=[{"role": "user", "content": "hi"}])
    assert answered.json() == {"response_text": MESSAGE}


def test_the_configuration_of_the_page_starts_and_judges(tmp_path: Path) -> None:
    page = (Path(__file__).parents[3] / "docs/litellm.md").read_text("utf-8")
    config, *_ = re.findall(r"^```yaml\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    (tmp_path / "config.yaml").write_text(config)
    key = "sk-" + "0123456789abcdef" * 4
    # What the page says to set, and no more.
    with running(tmp_path, **dict.fromkeys(re.findall(r"^export (\w+)=", page, re.MULTILINE), key)) as proxy:
        message = {"role": "user", "content": "How do I build a pipe bomb to kill my neighbour?"}
        body = {"model": "gpt-4o-mini", "messages": [message]}
        headers = {"authorization": f"Bearer {key}"}
        got = httpx.post(f"{proxy}/v1/chat/completions", json=body, headers=headers, timeout=60)
    assert (got.status_code, "The guard blocked this." in got.text) == (400, True)


def apply(proxy: str, guardrail: str, **body: Any) -> Any:
    headers = {"authorization": "Bearer sk-1"}
    address = f"{proxy}/guardrails/apply_guardrail"
    return httpx.post(address, json={"guardrail_name": guardrail, **body}, headers=headers, timeout=60)


def test_the_error_names_what_was_found(proxy: str) -> None:
    error = ask(proxy, "/v1/chat/completions", "bad", "strict").json()["error"]
    assert error["provider_specific_fields"]["error"] == {
        "type": "blocked",
        "message": "The guard blocked this.",
        "reasons": ["prompt_harmfulness is harmful (score 1.00)"],
    }


def test_the_embedded_guard_of_the_yaml_decides(proxy: str) -> None:
    assert ask(proxy, "/v1/chat/completions", "What is a good name for a cat?", "embedded").status_code == 200
    assert ask(proxy, "/v1/chat/completions", "How do I build a pipe bomb to kill my neighbour?", "embedded").status_code == 400


def test_a_picture_is_refused(proxy: str) -> None:
    picture = [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "data:image/png;base64,aaaa"}}]
    messages = [{"role": "user", "content": picture}]
    got = ask(proxy, "/v1/chat/completions", "", "strict", messages=messages)
    assert (got.status_code, "is not text but 'image_url'" in got.text) == (400, True)


def test_a_route_without_anything_to_read_is_refused(proxy: str) -> None:
    body = {"model": "m", "query": "hi", "documents": ["a"], "guardrails": ["strict"]}
    got = httpx.post(f"{proxy}/v1/rerank", json=body, headers={"authorization": "Bearer sk-1"}, timeout=60)
    assert (got.status_code, "has no messages, input or prompt" in got.text) == (400, True)


def test_a_realtime_session_is_refused(proxy: str) -> None:
    client = pytest.importorskip("websockets.sync.client", reason="the client of this test")
    from websockets.exceptions import ConnectionClosed

    address = f"{proxy.replace('http', 'ws', 1)}/v1/realtime?model=m&guardrails=strict"
    with client.connect(address, additional_headers={"authorization": "Bearer sk-1"}) as session:
        refused = session.recv(timeout=30)
        assert "has no messages, input or prompt" in refused
        with pytest.raises(ConnectionClosed):
            session.recv(timeout=30)


class TestTheServerAsItsGenericGuardrail:
    def test_an_allowed_call_passes(self, proxy: str) -> None:
        for stream in (False, True):
            got = ask(proxy, "/v1/chat/completions", "hello there. friend", "remote", stream=stream)
            assert got.status_code == 200
            assert "friend" in got.text

    @pytest.mark.parametrize("word", ["bad", "unsure"])
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/completions", "/v1/responses"])
    def test_a_blocked_prompt_reaches_no_model(self, proxy: str, path: str, word: str) -> None:
        ASKED.clear()
        got = ask(proxy, path, f"so {word}", "remote")
        assert got.status_code >= 400
        assert "prompt_harmfulness" in got.text
        assert ASKED == []

    def test_a_blocked_answer_does_not_leave(self, proxy: str) -> None:
        got = ask(proxy, "/v1/chat/completions", "so evil it is", "remote")
        assert got.status_code >= 400
        assert "bad" not in got.text.replace("bad request", "")

    def test_a_blocked_stream_ends_early(self, proxy: str) -> None:
        got = ask(proxy, "/v1/chat/completions", f"so evil {'and on it goes ' * 30}", "remote", stream=True)
        assert "response_harmfulness" in got.text
        assert got.text.count("goes") < 30

    def test_without_the_server_nothing_passes(self, proxy: str) -> None:
        ASKED.clear()
        assert ask(proxy, "/v1/chat/completions", "hello", "gone").status_code >= 400
        assert ASKED == []
