"""The Agents SDK on a guarded client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from openai import AsyncOpenAI

agents = pytest.importorskip("agents", reason="pip install openai-agents")

from guardreasoner_integrations.openai import guarded  # noqa: E402
from guardreasoner_sdk import BlockedError, Guard  # noqa: E402

from .conftest import MESSAGE, Server, call_item, event, response, text_item  # noqa: E402


class Model(Server):
    """Calls a tool first, and says then what it is to say."""

    def __init__(self, final: str) -> None:
        super().__init__()
        self.final = final

    def answer(self, handler: Any) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["content-length"])))
        self.requests.append(body)
        item = call_item("2 + 2") if len(self.requests) == 1 else text_item(self.final)
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        details = {"input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0}}
        told = {**response(body, [item]), "id": f"resp_{len(self.requests)}", "usage": {**usage, **details}}
        if body.get("stream"):
            begun = {**told, "output": [], "status": "in_progress"}
            kinds = (("response.created", begun), ("response.completed", told))
            content = b"".join(
                event({"type": kind, "sequence_number": number, "response": said}, kind)
                for number, (kind, said) in enumerate(kinds)
            )
            self._whole(handler, "text/event-stream", content)
        else:
            self._whole(handler, "application/json", json.dumps(told).encode())


@pytest.fixture
def run(guard: Guard) -> Any:
    """Runs an agent with a tool; returns its last words and the requests."""

    async def run(
        final: str, *, result: str = "4", stream: bool = False, on_block: Any = "raise", prompt: str = "2 + 2?", **more: Any
    ) -> Any:
        @agents.function_tool
        def look_up(query: str) -> str:
            """Look it up."""
            return result

        server = Model(final)
        try:
            async with AsyncOpenAI(base_url=server.url, api_key="k", max_retries=0) as plain:
                client = guarded(plain, guard, on_block=on_block)
                model = agents.OpenAIResponsesModel(model="m", openai_client=client)
                agent = agents.Agent(name="a", tools=[look_up], model=model)
                config = agents.RunConfig(tracing_disabled=True)
                if stream:
                    ran = agents.Runner.run_streamed(agent, prompt, run_config=config, **more)
                    async for _ in ran.stream_events():
                        pass
                else:
                    ran = await agents.Runner.run(agent, prompt, run_config=config, **more)
                return ran.final_output, server.requests
        finally:
            server.close()

    return run


streams = pytest.mark.parametrize("stream", [False, True])
CONTINUED = [{}, {"auto_previous_response_id": True}, {"previous_response_id": "resp_0"}, {"conversation_id": "conv_1"}]


@streams
@pytest.mark.parametrize("more", CONTINUED, ids=lambda more: next(iter(more), "whole"))
async def test_a_tool_loop_goes_on(run: Any, more: Any, stream: bool) -> None:
    final, requests = await run("It is 4.", stream=stream, **more)
    assert final == "It is 4."
    assert len(requests) == 2
    kinds = [item.get("type", "message") for item in requests[1]["input"]]
    assert kinds == (["function_call_output"] if more else ["message", "function_call", "function_call_output"])


@streams
@pytest.mark.parametrize("more", CONTINUED, ids=lambda more: next(iter(more), "whole"))
async def test_what_a_tool_gave_is_judged(run: Any, more: Any, stream: bool) -> None:
    with pytest.raises(BlockedError):
        await run("It is 4.", result="so evil", stream=stream, **more)


@streams
@pytest.mark.parametrize("more", CONTINUED, ids=lambda more: next(iter(more), "whole"))
async def test_a_message_in_place_of_an_answer_is_shown(run: Any, more: Any, stream: bool) -> None:
    final, requests = await run("So evil.", on_block="message", stream=stream, **more)
    assert (final, len(requests)) == (MESSAGE, 2)
    final, requests = await run("It is 4.", prompt="so evil", on_block="message", stream=stream, **more)
    assert (final, len(requests)) == (MESSAGE, 0)
