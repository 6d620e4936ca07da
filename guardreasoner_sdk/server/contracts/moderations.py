"""``/v1/moderations`` as OpenAI has it, and ``/v1/chat/moderations`` as Mistral has it.

Both describe what a text is and not what to do about it: what is harmful is flagged by its label, whatever the policy blocks,
and what the guard could not decide is an error, since neither has a word for it. Field names:
``openai.types.moderation*`` of the package ``openai`` 3.57, and https://docs.mistral.ai/api/ (``/v1/chat/moderations``).
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from pydantic import Discriminator, Tag
from starlette.responses import JSONResponse

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.images import Image
from guardreasoner_sdk.server.contracts.base import Body, Contract, check_items, desk_of, harm_in, in_place, prompts, sees, talk
from guardreasoner_sdk.server.contracts.categories import MISTRAL, OPENAI, categorised
from guardreasoner_sdk.server.desk import Desk
from guardreasoner_sdk.server.failures import Failure
from guardreasoner_sdk.verdict import Verdict

__all__ = ["MISTRAL_CHAT", "OPENAI_MODERATIONS"]

_openai = APIRouter(tags=["moderations"])
_mistral = APIRouter(tags=["moderations"])

_OPENAI_MODELS = ("omni-moderation-latest", "omni-moderation-2024-09-26", "text-moderation-latest", "text-moderation-stable")


class TextPart(Body):
    """A part of an input that is text."""

    type: Literal["text"]
    text: str


class ImageUrl(Body):
    """Where an image lies."""

    url: str


class ImagePart(Body):
    """A part of an input that is an image, as a data URL; a guard that does not see refuses it."""

    type: Literal["image_url"]
    image_url: ImageUrl


def _shape(value: object) -> str:
    if not isinstance(value, list):
        return "<text>"
    return "<parts>" if value and isinstance(value[0], dict) else "<texts>"


Part = Annotated[TextPart | ImagePart, Discriminator("type")]
Input = Annotated[
    Annotated[str, Tag("<text>")] | Annotated[list[str], Tag("<texts>")] | Annotated[list[Part], Tag("<parts>")],
    Discriminator(_shape),
]


class ModerationRequest(Body):
    """A text, a list of texts (a result each), or a list of parts (one result for all of them)."""

    input: Input
    model: str | None = None


@_openai.post("/v1/moderations", summary="OpenAI's moderations")
async def moderate(request: Request, body: ModerationRequest) -> JSONResponse:
    """Whether texts are harmful, in OpenAI's shape."""
    desk = desk_of(request)
    _check_model(body.model, _OPENAI_MODELS, desk)
    asked = await asyncio.to_thread(_asked, request, body.input) if sees(request) else _asked(request, body.input)
    verdicts = await desk.judge(asked)
    kinds = [["text", "image"] if readings[0].images else ["text"] for readings in asked]
    results = [_openai_result(verdict, kind) for verdict, kind in zip(verdicts, kinds, strict=True)]
    return JSONResponse({"id": f"modr-{uuid.uuid4().hex}", "model": verdicts[0].model, "results": results})


def _asked(request: Request, given: str | list[str] | list[Part]) -> list[list[Exchange]]:
    if isinstance(given, str):
        with in_place("input"):
            return [[Exchange(given)]]
    check_items(request, "input", given)
    texts: list[str] = []
    images: list[Image] = []
    asked: list[list[Exchange]] = []
    for place, item in enumerate(given):
        where = f"input[{place}]"
        if isinstance(item, ImagePart) and sees(request):
            with in_place(f"{where}.image_url.url"):
                images.append(Image.of(item.image_url.url))
            continue
        if isinstance(item, ImagePart):
            raise Failure(422, "invalid_request", f"{where}: is an image, which this guard cannot judge; leave it out", where)
        text = item if isinstance(item, str) else item.text
        with in_place(where if isinstance(item, str) else f"{where}.text"):
            asked.append([Exchange(text)])
        texts.append(text)
    return asked if isinstance(given[0], str) else [prompts("input", texts, images)]


def _openai_result(verdict: Verdict, kinds: list[str]) -> dict[str, Any]:
    harmful, score = harm_in(verdict)
    found = categorised(verdict.categories, OPENAI) if harmful else set()
    return {
        "flagged": harmful,
        "categories": {name: name in found for name in OPENAI},
        "category_scores": {name: score if name in found else 0.0 for name in OPENAI},
        "category_applied_input_types": dict.fromkeys(OPENAI, kinds),
        "guardreasoner": _own(verdict, score),
    }


class ChatModerationRequest(Body):
    """A conversation, or a list of them."""

    input: list[Any]
    model: str


@_mistral.post("/v1/chat/moderations", summary="Mistral's moderation of conversations")
async def moderate_chats(request: Request, body: ChatModerationRequest) -> JSONResponse:
    """Whether conversations are harmful, in Mistral's shape: the last question, and what was answered."""
    desk = desk_of(request)
    if not body.model.startswith(("mistral-moderation-", "ministral-")):
        _check_model(body.model, ("mistral-moderation-latest",), desk)
    check_items(request, "input", body.input)
    several = isinstance(body.input[0], list)
    see = sees(request)

    def read_all() -> list[list[Exchange]]:
        given = body.input if several else [body.input]
        return [talk(f"input[{place}]" if several else "input", one, images=see) for place, one in enumerate(given)]

    verdicts = await desk.judge(await asyncio.to_thread(read_all) if see else read_all())
    results = [_mistral_result(verdict) for verdict in verdicts]
    return JSONResponse({"id": uuid.uuid4().hex, "model": verdicts[0].model, "results": results})


def _mistral_result(verdict: Verdict) -> dict[str, Any]:
    harmful, score = harm_in(verdict)
    # It has no other place to say that a text is harmful than one of its categories.
    found = (categorised(verdict.categories, MISTRAL) or {"dangerous_and_criminal_content"}) if harmful else set()
    return {
        "categories": {name: name in found for name in MISTRAL},
        "category_scores": {name: score if name in found else 0.0 for name in MISTRAL},
        "guardreasoner": _own(verdict, score),
    }


def _own(verdict: Verdict, score: float) -> dict[str, Any]:
    """What our guard says in its own words, beside what the contract has a place for."""
    labels: dict[str, Any] = {task: finding.label for task, finding in verdict.findings.items()}
    return {**labels, "score": score, "categories": list(verdict.categories), "action": verdict.action}


def _check_model(name: str | None, known: tuple[str, ...], desk: Desk) -> None:
    own = desk.guard.judge.model
    if name is not None and name not in (*known, own):
        choice = ", ".join((*known, own))
        raise Failure(404, "not_found", f"model: there is no such model here; use any of {choice}, or leave it out", "model")


_OPENAI_TYPES = {401: "invalid_request_error", 503: "server_error", 500: "server_error"}
_OPENAI_CODES = {401: "invalid_api_key", 404: "model_not_found"}


def _openai_error(failure: Failure) -> Mapping[str, Any]:
    code = _OPENAI_CODES.get(failure.status, failure.kind if failure.status >= 500 else None)
    kind = _OPENAI_TYPES.get(failure.status, "invalid_request_error")
    return {"error": {"message": failure.message, "type": kind, "param": failure.field, "code": code}}


def _mistral_error(failure: Failure) -> Mapping[str, Any]:
    if failure.status in (400, 422) and failure.field is not None:
        return {"detail": [{"type": failure.kind, "loc": ["body", failure.field], "msg": failure.message}]}
    return {"object": "error", "message": failure.message, "type": failure.kind, "param": failure.field, "code": None}


OPENAI_MODERATIONS = Contract("OpenAI", ("/v1/moderations",), _openai, _openai_error, {422: 400})
MISTRAL_CHAT = Contract("Mistral", ("/v1/chat/moderations",), _mistral, _mistral_error, {})
