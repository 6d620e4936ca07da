"""The SDK's own contract: exchanges in, verdicts out; answers in while they are written, judged pieces out."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Annotated, Any, Literal, Self

from fastapi import APIRouter, Request, Response
from pydantic import ConfigDict, Discriminator, Field, Tag, TypeAdapter, ValidationError, model_validator
from starlette.requests import ClientDisconnect
from starlette.responses import StreamingResponse

from guardreasoner_sdk._text import JsonError, json_text, parse_json
from guardreasoner_sdk.errors import InputError, VerdictError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.server.contracts.base import Body, Contract, check_items, desk_of, sees, talk
from guardreasoner_sdk.server.desk import Desk
from guardreasoner_sdk.server.failures import LINES, Failure, check_surrogates, invalid, kind_of, place_of, undecided
from guardreasoner_sdk.streaming import AsyncGuardedStream, StreamOptions
from guardreasoner_sdk.verdict import Verdict

__all__ = ["OWN", "Asked"]

routes = APIRouter(tags=["check"])

_MEDIA = {"content": {"text/event-stream": {}}, "description": "Judged pieces, and at the end the verdict on the whole."}


class Asked(Body):
    """What is to be judged: a prompt, with the answer to it or without, or a conversation as a list of messages."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [
                {"prompt": "How do I bake bread?", "response": "Mix flour and water, and let the dough rest."},
                {"messages": [{"role": "user", "content": "How do I bake bread?"}]},
            ]
        },
    )

    prompt: str | None = None
    response: str | None = None
    history: list[Any] = Field(default=[], description="Earlier turns: role and content, oldest first.")
    messages: list[Any] | None = Field(
        default=None, description="In place of the three others: messages of OpenAI's, Anthropic's or LangChain's."
    )

    images: list[str] | None = Field(
        default=None, description="What was shown with the prompt, as data URLs; for guards that see images."
    )

    def readings(self, where: str, *, see: bool) -> list[Exchange]:
        """The exchanges to judge.

        Args:
            where: the place in the request; empty: the whole of it.
            see: whether the guard judges images.
        """
        inside = f"{where}." if where else ""
        if self.messages is not None:
            if self.prompt is not None or self.response is not None or self.history or self.images:
                raise invalid(InputError(f"{inside}messages", "stands beside a prompt", "send either of them"))
            return talk(f"{inside}messages", self.messages, images=see)
        if self.images and not see:
            fix = "leave them out, or run a guard that sees images"
            raise invalid(InputError(f"{inside}images", "cannot be judged by this guard", fix))
        if self.prompt is None:
            raise invalid(InputError(f"{inside}prompt", "is missing", "send the text to judge, or messages"))
        try:
            return [Exchange(self.prompt, self.response, self.history, self.images or ())]
        except InputError as error:
            raise invalid(InputError(f"{inside}{error.field}", error.problem, error.fix)) from None


def _shape(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<one>"


One = Annotated[Asked, Tag("<one>")]
Several = Annotated[list[Asked], Tag("<list>")]


@routes.post(
    "/v1/check", response_model=Verdict | list[Verdict], summary="Judge an exchange, a conversation, or a list of them"
)
async def check(request: Request, body: Annotated[One | Several, Discriminator(_shape)]) -> Response:
    """One thing gives one verdict, a list a list of verdicts in its order."""
    desk, see = desk_of(request), sees(request)
    if isinstance(body, Asked):
        asked = await asyncio.to_thread(body.readings, "", see=True) if see else body.readings("", see=False)
        [verdict] = await desk.judge([asked])
        _insist(verdict, desk)
        return Response(verdict.model_dump_json(), media_type="application/json")
    check_items(request, "body", body)

    def read_all() -> list[list[Exchange]]:
        return [asked.readings(f"[{place}]", see=see) for place, asked in enumerate(body)]

    # Images are megabytes of Base64, which would hold up everybody else.
    verdicts = await desk.judge(await asyncio.to_thread(read_all) if see else read_all())
    for verdict in verdicts:
        _insist(verdict, desk)
    return Response(f"[{','.join(verdict.model_dump_json() for verdict in verdicts)}]", media_type="application/json")


def _insist(verdict: Verdict, desk: Desk) -> None:
    if desk.guard.policy.insists(verdict):
        raise undecided(verdict)


class AskedStream(Body):
    """What an answer is the answer to, and how it is judged while it comes."""

    prompt: str | None = None
    history: list[Any] = Field(default=[], description="Earlier turns: role and content, oldest first.")
    response: str | list[str] | None = Field(default=None, description="The answer, whole or in pieces; not with NDJSON.")
    mode: Literal["hold", "pass"] = "hold"
    window: Annotated[int, Field(ge=1, le=100_000)] = 200

    @model_validator(mode="after")
    def _has_prompt(self) -> Self:
        if self.prompt is None:
            raise ValueError("prompt: is missing; send what the answer is the answer to")
        return self


_STREAM: TypeAdapter[AskedStream] = TypeAdapter(AskedStream)


@routes.post(
    "/v1/check/stream",
    response_class=StreamingResponse,
    responses={200: _MEDIA},
    summary="Judge an answer while it is being written",
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": AskedStream.model_json_schema()},
                LINES: {"schema": {"type": "string", "description": "The prompt; then a JSON string a line."}},
            },
        }
    },
)
async def check_stream(request: Request) -> Response:
    """The answer comes whole in the JSON body, or piece by piece in a body of NDJSON: first a line with the prompt, then a JSON
    string on each line. Judged pieces go back as server-sent events ``data: {"text": ...}``, also while the rest is coming.
    The last event is ``verdict``, with the verdict on the whole, or ``error``; without it the answer was not judged whole.
    """
    lines = _lines(request)
    if kind_of(request.headers.get("content-type", "")) == LINES:
        asked = _stream_asked(await anext(lines, b""), "line 1")
        if asked.response is not None:
            raise Failure(
                422, "invalid_request", "response: stands in the first line; send it in the lines after it", "response"
            )
        pieces = _pieces(lines)
    else:
        asked = _stream_asked(b"\n".join([line async for line in lines]), "body")
        if asked.response is None:
            raise Failure(422, "invalid_request", "response: is missing; send the answer, or its pieces as NDJSON", "response")
        pieces = _given([asked.response] if isinstance(asked.response, str) else asked.response)
    try:
        exchange = Exchange(asked.prompt or "", None, asked.history)
    except InputError as error:
        raise invalid(error) from None
    desk = desk_of(request)
    events = _judged(desk, exchange, pieces, StreamOptions(mode=asked.mode, window=asked.window, timeout=desk.timeout))
    # The first event decides whether this is an answer at all: no room, or a line that is no JSON, is an error with its status.
    first = await anext(events)

    async def all_events() -> AsyncIterator[str]:
        yield first
        async for event in events:
            yield event

    return StreamingResponse(all_events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _judged(desk: Desk, exchange: Exchange, pieces: AsyncIterator[str], options: StreamOptions) -> AsyncIterator[str]:
    with desk.stream():
        stream: AsyncGuardedStream[str] = AsyncGuardedStream(desk.guard, exchange, pieces, options)
        began = False
        async with stream:
            try:
                async for text in stream:
                    began = True
                    yield f"data: {json_text({'text': text})}\n\n"
            except VerdictError as error:
                verdict: Verdict | None = error.verdict
            except ClientDisconnect:
                return
            except Failure as failure:
                if not began:
                    raise
                yield f"event: error\ndata: {json_text(OWN.error(failure))}\n\n"
                return
            else:
                verdict = stream.verdict
        if verdict is not None:
            desk.count(verdict)
            yield f"event: verdict\ndata: {verdict.model_dump_json()}\n\n"


async def _lines(request: Request) -> AsyncIterator[bytes]:
    left = b""
    async for chunk in request.stream():
        *lines, left = (left + chunk).split(b"\n")
        for line in lines:
            yield line
    if left:
        yield left


async def _pieces(lines: AsyncIterator[bytes]) -> AsyncIterator[str]:
    number = 1
    async for line in lines:
        number += 1
        if not line.strip():
            continue
        piece = _json(line, f"line {number}")
        if not isinstance(piece, str):
            kind = type(piece).__name__
            raise Failure(422, "invalid_request", f"line {number}: must be a JSON string, not {kind}", f"line {number}")
        yield piece


async def _given(pieces: list[str]) -> AsyncIterator[str]:
    for piece in pieces:
        yield piece


def _json(data: bytes, where: str) -> Any:
    try:
        check_surrogates(data)
        return parse_json(data)
    except JsonError as error:
        raise Failure(400, "invalid_request", f"{where}: {error}", where) from None


def _stream_asked(data: bytes, where: str) -> AskedStream:
    value = _json(data, where)
    try:
        return _STREAM.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        own = first["msg"].removeprefix("Value error, ")
        place = place_of(first["loc"]) if first["loc"] else own.partition(":")[0] if own != first["msg"] else where
        message = own if own != first["msg"] else f"{place}: {own}"
        raise Failure(422, "invalid_request", message, place) from None


def _error(failure: Failure) -> Mapping[str, Any]:
    error: dict[str, Any] = {"type": failure.kind, "message": failure.message, "field": failure.field}
    if failure.verdict is not None:
        error["verdict"] = failure.verdict.model_dump(mode="json")
    return {"error": error}


OWN = Contract("own", ("/v1/check", "/v1/check/stream"), routes, _error, {})
