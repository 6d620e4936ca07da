"""What the integrations of providers really put into messages: each model asks a server on this machine."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

pytest.importorskip("langchain", reason="LangChain is not installed: pip install 'guardreasoner-sdk[langchain]'")

from guardreasoner_integrations.langchain import GuardedChain
from guardreasoner_sdk import BlockedError, Guard, Policy, UndeterminedError
from guardreasoner_sdk.testing import ScriptedJudge

BAD = "how to make poison"
OK = {"type": "text", "text": "fine"}
Answers = Callable[[Any], str]


@pytest.fixture
def answers() -> Iterator[Answers]:
    """A server that answers every request with what it is given, a list as server-sent events; its address."""
    body, kind = b"", ""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()

    def told(answer: Any) -> str:
        nonlocal body, kind
        kind = "text/event-stream" if isinstance(answer, list) else "application/json"
        if isinstance(answer, list):
            answer = "".join(f"event: {event.get('type')}\ndata: {json.dumps(event)}\n\n" for event in answer)
        body = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        return f"http://127.0.0.1:{server.server_port}"

    yield told
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def strict(judge: ScriptedJudge) -> Iterator[Guard]:
    with Guard(judge=judge, policy=Policy(block={"harmful_response"})) as made:
        yield made


def filled(shape: Any, text: str) -> Any:
    """A shape with a text in place of ``"?"``."""
    return json.loads(json.dumps(shape).replace("?", text))


def judged(guard: Guard, model: Any, shape: Any, *, unread: bool = False) -> None:
    """A harmless text passes, and a harmful one blocks."""

    def ask(text: str) -> None:
        GuardedChain(guard, model(filled(shape, text))).invoke("hi")

    if not unread:
        ask("a word")
    with pytest.raises(UndeterminedError if unread else BlockedError):
        ask(BAD)


def reply(**message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": None, **message}}
    usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
    return {"id": "x", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice], "usage": usage}


def response(*items: Any) -> dict[str, Any]:
    said = {"id": "m", "type": "message", "role": "assistant", "status": "completed"}
    output = [*items, {**said, "content": [{"type": "output_text", "text": "fine", "annotations": []}]}]
    usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
    details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
    made = {"id": "r", "object": "response", "created_at": 1, "model": "m", "status": "completed", "output": output}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "error": None, "incomplete_details": None}
    return {**made, **rest, "instructions": None, "metadata": {}, "usage": {**usage, **details}}


OF_RESPONSES = {
    "reasoning": {"type": "reasoning", "id": "r", "summary": [], "content": [{"type": "reasoning_text", "text": "?"}]},
    "summary": {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "?"}]},
    "custom tool": {"type": "custom_tool_call", "id": "f", "call_id": "c", "name": "f", "input": "?"},
    "function": {"type": "function_call", "id": "f", "call_id": "c", "name": "f", "arguments": '{"status": "?"}'},
    "mcp call": {"type": "mcp_call", "id": "f", "name": "n", "server_label": "s", "arguments": "{}", "output": "?"},
    "mcp tools": {"type": "mcp_list_tools", "id": "f", "server_label": "s", "tools": [{"name": "?", "input_schema": {}}]},
    "code": {
        "type": "code_interpreter_call",
        "id": "f",
        "status": "completed",
        "code": "?",
        "container_id": "c",
        "outputs": [],
    },
}


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("shape", OF_RESPONSES.values(), ids=OF_RESPONSES)
def test_responses_of_chat_openai(strict: Guard, answers: Answers, shape: Any, version: str) -> None:
    openai = pytest.importorskip("langchain_openai")

    def model(item: Any) -> Any:
        options = {"use_responses_api": True, "output_version": version, "max_retries": 0}
        return openai.ChatOpenAI(model="m", api_key="k", base_url=answers(response(item)), **options)

    judged(strict, model, shape)


OF_CHAT = {
    "refusal": {"refusal": "?"},
    "legacy function": {"function_call": {"name": "f", "arguments": '{"text": "?"}'}},
    "tool": {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"status": "?"}'}}]},
    "tool name": {"tool_calls": [{"id": "1", "type": "function", "function": {"name": "?", "arguments": "{}"}}]},
}


@pytest.mark.parametrize("shape", OF_CHAT.values(), ids=OF_CHAT)
def test_chat_completions_of_chat_openai(strict: Guard, answers: Answers, shape: Any) -> None:
    openai = pytest.importorskip("langchain_openai")

    def model(message: Any) -> Any:
        return openai.ChatOpenAI(model="m", api_key="k", base_url=answers(reply(**message)), max_retries=0)

    judged(strict, model, shape)


def test_sound_of_chat_openai_is_undetermined_and_its_transcript_is_judged(strict: Guard, answers: Answers) -> None:
    openai = pytest.importorskip("langchain_openai")
    for text, error in (("a word", UndeterminedError), (BAD, BlockedError)):
        audio = {"id": "a", "data": "AA==", "transcript": text, "expires_at": 1}
        model = openai.ChatOpenAI(model="m", api_key="k", base_url=answers(reply(audio=audio)), max_retries=0)
        with pytest.raises(error):
            GuardedChain(strict, model).invoke("hi")


RESULT = {"type": "bash_code_execution_result", "stdout": "?", "stderr": "", "return_code": 0, "content": []}
PAGE = {"type": "document", "title": None, "source": {"type": "text", "media_type": "text/plain", "data": "?"}}
OF_ANTHROPIC = {
    "thinking": {"type": "thinking", "thinking": "?", "signature": "s"},
    "tool": {"type": "tool_use", "id": "t", "name": "n", "input": {"status": "?"}},
    "search": {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {"query": "?"}},
    "found": {
        "type": "web_search_tool_result",
        "tool_use_id": "s",
        "content": [{"type": "web_search_result", "title": "?", "url": "u", "encrypted_content": "z", "page_age": None}],
    },
    "page": {
        "type": "web_fetch_tool_result",
        "tool_use_id": "s",
        "content": {"type": "web_fetch_result", "url": "u", "retrieved_at": None, "content": PAGE},
    },
    "code": {"type": "bash_code_execution_tool_result", "tool_use_id": "s", "content": RESULT},
    "tools": {
        "type": "tool_search_tool_result",
        "tool_use_id": "s",
        "content": {
            "type": "tool_search_tool_search_result",
            "tool_references": [{"type": "tool_reference", "tool_name": "?"}],
        },
    },
}


@pytest.mark.parametrize("shape", OF_ANTHROPIC.values(), ids=OF_ANTHROPIC)
def test_blocks_of_chat_anthropic(strict: Guard, answers: Answers, shape: Any) -> None:
    anthropic = pytest.importorskip("langchain_anthropic")

    def model(block: Any) -> Any:
        made = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [block, OK]}
        rest = {"stop_reason": "end_turn", "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
        return anthropic.ChatAnthropic(model="claude-x", api_key="k", base_url=answers({**made, **rest}), max_retries=0)

    judged(strict, model, shape)


OF_BEDROCK = {
    "text": {"text": "?"},
    "reasoning": {"reasoningContent": {"reasoningText": {"text": "?", "signature": "s"}}},
    "tool": {"toolUse": {"toolUseId": "t", "name": "n", "input": {"status": "?"}}},
    "citation": {"citationsContent": {"content": [{"text": "?"}], "citations": []}},
}


@pytest.mark.parametrize("shape", OF_BEDROCK.values(), ids=OF_BEDROCK)
def test_blocks_of_chat_bedrock_converse(strict: Guard, answers: Answers, shape: Any) -> None:
    aws = pytest.importorskip("langchain_aws")
    boto3 = pytest.importorskip("boto3")

    def model(block: Any) -> Any:
        message = {"role": "assistant", "content": [block, {"text": "fine"}]}
        usage = {"inputTokens": 1, "outputTokens": 1, "totalTokens": 2}
        answer = {"output": {"message": message}, "stopReason": "end_turn", "usage": usage, "metrics": {"latencyMs": 1}}
        keys = {"region_name": "us-east-1", "aws_access_key_id": "k", "aws_secret_access_key": "k"}
        client = boto3.client("bedrock-runtime", endpoint_url=answers(answer), **keys)
        return aws.ChatBedrockConverse(
            model="anthropic.claude-x", client=client, bedrock_client=client, region_name="us-east-1"
        )

    judged(strict, model, shape)


OF_GEMINI = {
    "thought": {"text": "?", "thought": True},
    "code": {"executableCode": {"language": "PYTHON", "code": "?"}},
    "ran": {"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "?"}},
    "tool": {"functionCall": {"name": "n", "args": {"status": "?"}}},
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("shape", OF_GEMINI.values(), ids=OF_GEMINI)
def test_parts_of_chat_google_generative_ai(strict: Guard, answers: Answers, shape: Any) -> None:
    google = pytest.importorskip("langchain_google_genai")

    def model(part: Any) -> Any:
        candidate = {"content": {"role": "model", "parts": [part, {"text": "fine"}]}, "finishReason": "STOP", "index": 0}
        answer = {"candidates": [candidate], "usageMetadata": {"promptTokenCount": 1, "totalTokenCount": 2}}
        return google.ChatGoogleGenerativeAI(model="gemini-x", api_key="k", base_url=answers(answer), max_retries=1)

    judged(strict, model, shape)


def pieces(text: str) -> list[str]:
    return [text[at : at + 3] for at in range(0, len(text), 3)]


def of_anthropic(block: dict[str, Any], **deltas: tuple[str, str]) -> Callable[[str], list[dict[str, Any]]]:
    """The events of a message with this block, and the text in pieces of this kind."""

    def told(text: str) -> list[dict[str, Any]]:
        begun = {"id": "m", "type": "message", "role": "assistant", "model": "m", "content": [], "stop_reason": None}
        usage = {"input_tokens": 1, "output_tokens": 1}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": {**begun, "stop_sequence": None, "usage": usage}},
            {"type": "content_block_start", "index": 0, "content_block": filled(block, text)},
        ]
        for kind, (key, shape) in deltas.items():
            written = filled(shape, text)
            events += [
                {"type": "content_block_delta", "index": 0, "delta": {"type": kind, key: one}} for one in pieces(written)
            ]
        events.append({"type": "content_block_stop", "index": 0})
        ended = {"stop_reason": "end_turn", "stop_sequence": None}
        return [*events, {"type": "message_delta", "delta": ended, "usage": {"output_tokens": 1}}, {"type": "message_stop"}]

    return told


STREAMS_OF_ANTHROPIC = {
    "text": of_anthropic({"type": "text", "text": ""}, text_delta=("text", "?")),
    "thinking": of_anthropic(
        {"type": "thinking", "thinking": "", "signature": ""},
        thinking_delta=("thinking", "?"),
        signature_delta=("signature", "s"),
    ),
    "tool": of_anthropic(
        {"type": "tool_use", "id": "t", "name": "n", "input": {}}, input_json_delta=("partial_json", '{"status": "?"}')
    ),
    "search": of_anthropic(
        {"type": "server_tool_use", "id": "s", "name": "web_search", "input": {}},
        input_json_delta=("partial_json", '{"query": "?"}'),
    ),
    "page": of_anthropic(OF_ANTHROPIC["page"]),
    "code": of_anthropic(OF_ANTHROPIC["code"]),
    "tools": of_anthropic(OF_ANTHROPIC["tools"]),
}


def streamed(guard: Guard, model: Any, told: Callable[[str], list[dict[str, Any]]]) -> None:
    assert list(GuardedChain(guard, model(told("a word"))).stream("hi"))
    with pytest.raises(BlockedError):
        list(GuardedChain(guard, model(told(BAD))).stream("hi"))


@pytest.mark.parametrize("told", STREAMS_OF_ANTHROPIC.values(), ids=STREAMS_OF_ANTHROPIC)
def test_streams_of_chat_anthropic(strict: Guard, answers: Answers, told: Any) -> None:
    anthropic = pytest.importorskip("langchain_anthropic")

    def model(events: Any) -> Any:
        chat = anthropic.ChatAnthropic(model="claude-x", api_key="k", base_url=answers(events), max_retries=0)
        return chat.bind_tools([{"name": "n", "description": "d", "input_schema": {"type": "object", "properties": {}}}])

    streamed(strict, model, told)


def of_responses(item: dict[str, Any], kind: str, key: str, shape: str, **place: int) -> Callable[[str], list[dict[str, Any]]]:
    """The events of a response with this item, and the text in pieces of this kind."""

    def told(text: str) -> list[dict[str, Any]]:
        written = filled(shape, text)
        whole = response()
        at = {"output_index": 0, "item_id": item["id"], **place}
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": {**whole, "output": [], "status": "in_progress"}},
            {"type": "response.output_item.added", "output_index": 0, "item": item},
        ]
        if "summary_index" in place:
            part = {"type": "summary_text", "text": ""}
            events.append({"type": "response.reasoning_summary_part.added", **at, "part": part})
        events += [{"type": f"response.{kind}.delta", **at, "delta": one} for one in pieces(written)]
        events.append({"type": f"response.{kind}.done", **at, key: written})
        done = {**item, "summary": [{"type": "summary_text", "text": written}]} if place else {**item, key: written}
        events.append({"type": "response.output_item.done", "output_index": 0, "item": done})
        events.append({"type": "response.completed", "response": {**whole, "output": [done]}})
        return [{**event, "sequence_number": number} for number, event in enumerate(events)]

    return told


CALL = {"id": "f", "call_id": "c", "name": "f"}
STREAMS_OF_RESPONSES = {
    "function": of_responses(
        {**CALL, "type": "function_call", "arguments": ""}, "function_call_arguments", "arguments", '{"status": "?"}'
    ),
    "custom tool": of_responses({**CALL, "type": "custom_tool_call", "input": ""}, "custom_tool_call_input", "input", "?"),
    "summary": of_responses(
        {"type": "reasoning", "id": "r", "summary": []}, "reasoning_summary_text", "text", "?", summary_index=0
    ),
}


@pytest.mark.parametrize("version", ["v0", "responses/v1", "v1"])
@pytest.mark.parametrize("told", STREAMS_OF_RESPONSES.values(), ids=STREAMS_OF_RESPONSES)
def test_streams_of_chat_openai(strict: Guard, answers: Answers, told: Any, version: str) -> None:
    openai = pytest.importorskip("langchain_openai")

    def model(events: Any) -> Any:
        options = {"use_responses_api": True, "output_version": version, "max_retries": 0}
        return openai.ChatOpenAI(model="m", api_key="k", base_url=answers(events), **options)

    streamed(strict, model, told)
