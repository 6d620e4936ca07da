"""Gateways that ask before they pass something on: LiteLLM's generic guardrail API, agentgateway's webhooks, NeMo's checks.

They act on what is answered. What the guard could not decide is a block where the policy makes one of it, and else an error,
which each of them takes for a block unless it was told to go on without a guard.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import ConfigDict
from starlette.responses import JSONResponse

from guardreasoner_sdk.exchange import Exchange, exchange_from_messages, has_visible_text
from guardreasoner_sdk.server.contracts.base import (
    Body,
    Contract,
    answers_to,
    blocks,
    check_items,
    desk_of,
    prompts,
    talk,
)
from guardreasoner_sdk.server.failures import Failure
from guardreasoner_sdk.verdict import Verdict, decisive

__all__ = ["AGENTGATEWAY", "LITELLM", "NEMO"]

_litellm = APIRouter(tags=["gateways"])
_agentgateway = APIRouter(tags=["gateways"])
_nemo = APIRouter(tags=["gateways"])


class LiteLLMRequest(Body):
    """``GenericGuardrailAPIRequest`` of LiteLLM 1.110. Of these the texts, the messages and the calls of tools are judged."""

    input_type: Literal["request", "response"]
    texts: list[str] | None = None
    structured_messages: list[Any] | None = None
    tool_calls: list[Any] | None = None
    images: list[Any] | None = None
    tools: list[Any] | None = None
    request_data: dict[str, Any] | None = None
    request_headers: dict[str, Any] | None = None
    additional_provider_specific_params: dict[str, Any] | None = None
    model: str | None = None
    litellm_call_id: str | None = None
    litellm_trace_id: str | None = None
    litellm_version: str | None = None


@_litellm.post("/beta/litellm_basic_guardrail_api", summary="LiteLLM's generic guardrail API")
async def litellm_guardrail(request: Request, body: LiteLLMRequest) -> JSONResponse:
    """``action`` always is in the answer: one without it would mean that all is allowed."""
    if body.images:
        raise Failure(422, "invalid_request", "images: cannot be judged by this guard; judge them elsewhere", "images")
    if body.texts:
        check_items(request, "texts", body.texts)
    desk = desk_of(request)
    asked = _of_answers(body) if body.input_type == "response" else _of_requests(body)
    verdicts = await desk.judge([asked] if asked else [])
    if True in [blocks(verdict, desk) for verdict in verdicts]:
        return JSONResponse({"action": "BLOCKED", "blocked_reason": _reason(verdicts)})
    return JSONResponse({"action": "NONE"})


def _of_requests(body: LiteLLMRequest) -> list[Exchange]:
    """The conversation, and the texts that are not part of it."""
    messages = body.structured_messages or []
    spoken = any(isinstance(message, Mapping) and str(message.get("role")).lower() in ("user", "human") for message in messages)
    found = talk("structured_messages", messages) if spoken else []
    known = set(_strings(messages)) if spoken else set()
    rest = [text for text in body.texts or () if text not in known]
    return [*found, *prompts("texts", [*rest, *(call for call in _calls(body) if not spoken)])]


def _of_answers(body: LiteLLMRequest) -> list[Exchange]:
    """Each text as the answer to what was asked, where LiteLLM tells that."""
    asked = None
    if any(isinstance(message, Mapping) and message.get("role") == "user" for message in body.structured_messages or ()):
        asked = talk("structured_messages", body.structured_messages or ())[-1].with_response(None)
    return answers_to(asked, "texts", [*(body.texts or ()), *_calls(body)])


def _calls(body: LiteLLMRequest) -> list[str]:
    """Calls of tools as what a model says: ``name(arguments)``."""
    if not body.tool_calls:
        return []
    said: list[Any] = [
        {"role": "user", "content": "(calls)"},
        {"role": "assistant", "content": None, "tool_calls": body.tool_calls},
    ]
    answer = talk("tool_calls", said)[-1].response
    return [] if answer is None else [answer]


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _strings(part)


class Messages(Body):
    """The prompts of a request; what stands beside role and content is not sent by agentgateway."""

    messages: list[Any]


class AskedRequest(Body):
    """``GuardrailsPromptRequest`` of agentgateway."""

    body: Messages


class Choice(Body):
    """One of a model's answers."""

    model_config = ConfigDict(extra="forbid")

    message: dict[str, Any]


class Choices(Body):
    """A model's answers."""

    choices: list[Choice]


class AskedResponse(Body):
    """``GuardrailsResponseRequest`` of agentgateway."""

    body: Choices


@_agentgateway.post("/request", summary="agentgateway's webhook before the model")
async def agentgateway_request(request: Request, body: AskedRequest) -> JSONResponse:
    """Pass, or reject with a status and the policy's message."""
    check_items(request, "body.messages", body.body.messages)
    return await _agentgateway_action(request, [talk("body.messages", body.body.messages)])


@_agentgateway.post("/response", summary="agentgateway's webhook behind the model")
async def agentgateway_response(request: Request, body: AskedResponse) -> JSONResponse:
    """The same for answers; what they answer is not told."""
    check_items(request, "body.choices", body.body.choices)
    asked = []
    for place, choice in enumerate(body.body.choices):
        where = f"body.choices[{place}].message"
        # Read as any message is, whatever its content is made of; the question in front of it makes it an answer.
        readings = talk(where, [{"role": "user", "content": "?"}, {**choice.message, "role": "assistant"}])
        texts = [reading.response for reading in readings if reading.response is not None]
        asked += [answers_to(None, where, [text]) for text in texts]
    return await _agentgateway_action(request, asked)


async def _agentgateway_action(request: Request, asked: Sequence[Sequence[Exchange]]) -> JSONResponse:
    desk = desk_of(request)
    verdicts = await desk.judge(asked)
    # Its three actions are told by their fields, and what has those of none is a pass: a reject needs body and status_code.
    if True in [blocks(verdict, desk) for verdict in verdicts]:
        failed = decisive(verdicts)
        status = 503 if failed is not None and failed.blocked_by == "failure" else 403
        action = {"body": desk.guard.policy.message, "status_code": status, "reason": _reason(verdicts)}
        return JSONResponse({"action": action})
    return JSONResponse({"action": {"reason": "allowed by the guard" if asked else "there is no text to judge"}})


class Rails(Body):
    """NeMo's options of a check. There is one configuration here, and it has no state."""

    config_id: str | None = None
    config_ids: list[str] | None = None
    rail_types: list[Literal["input", "output"]] | None = None
    context: dict[str, Any] | None = None
    thread_id: str | None = None
    options: Any = None
    state: Any = None


class NemoRequest(Body):
    """``GuardrailCheckRequest`` of NeMo Guardrails 0.24: a request of OpenAI's chat completions, with its rails."""

    model: str | None = None
    messages: list[Any]
    guardrails: Rails = Rails()
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    n: int | None = None
    seed: int | None = None
    stop: str | list[str] | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    stream: bool | None = None
    user: str | None = None


@_nemo.post("/v1/checks", summary="The checks of NeMo Guardrails")
async def nemo_checks(request: Request, body: NemoRequest) -> JSONResponse:
    """``passed`` with the last message's content, or ``blocked`` with the policy's message and the rail that blocks."""
    check_items(request, "messages", body.messages)
    desk = desk_of(request)
    readings = talk("messages", body.messages)
    rails = body.guardrails.rail_types or (["input"] if readings[0].response is None else ["input", "output"])
    if "output" not in rails:
        readings = [reading.with_response(None) for reading in readings]
    elif readings[0].response is None:
        raise Failure(422, "invalid_request", "guardrails.rail_types: has output, and there is no answer to check", "messages")
    [verdict] = await desk.judge([readings])
    if blocks(verdict, desk):
        side = "input" if any(reason.startswith("prompt_harmfulness") for reason in verdict.reasons) else "output"
        return JSONResponse({"status": "blocked", "content": desk.guard.policy.message, "rail": f"guardreasoner {side}"})
    last = exchange_from_messages(body.messages)
    return JSONResponse({"status": "passed", "content": last.prompt if last.response is None else last.response})


def _reason(verdicts: Sequence[Verdict]) -> str:
    found = decisive(verdicts)
    return (
        "; ".join(found.reasons) if found is not None and has_visible_text("".join(found.reasons)) else "blocked by the guard"
    )


def _plain_error(failure: Failure) -> Mapping[str, Any]:
    return {"error": {"type": failure.kind, "message": failure.message, "field": failure.field}}


def _detail(failure: Failure) -> Mapping[str, Any]:
    return {"detail": failure.message}


LITELLM = Contract("LiteLLM", ("/beta/litellm_basic_guardrail_api",), _litellm, _plain_error, {})
AGENTGATEWAY = Contract("agentgateway", ("/request", "/response"), _agentgateway, _plain_error, {})
NEMO = Contract("NeMo Guardrails", ("/v1/checks",), _nemo, _detail, {})
