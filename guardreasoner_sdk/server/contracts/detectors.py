"""The detectors of TrustyAI and of the FMS guardrails orchestrator: texts in, stretches of them out.

They describe and do not act: what the guard could not decide is an error, which the orchestrator hands on. Field names:
https://github.com/foundation-model-stack/fms-guardrails-orchestrator (``docs/api/openapi_detector_api.yaml``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import JSONResponse

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.server.contracts.base import Body, Contract, check_items, desk_of, harm_in, in_place
from guardreasoner_sdk.server.failures import Failure
from guardreasoner_sdk.verdict import Verdict

__all__ = ["TRUSTYAI"]

_routes = APIRouter(tags=["detectors"])


class Contents(Body):
    """Texts, and parameters of the detector, of which this one has none."""

    contents: list[str]
    detector_params: dict[str, Any] | None = None


@_routes.post("/api/v1/text/contents", summary="TrustyAI's detector of texts")
async def detect(request: Request, body: Contents) -> JSONResponse:
    """A list of detections for each text: the passages that carry a finding, or the whole text where none is told."""
    check_items(request, "contents", body.contents)
    asked = []
    for place, text in enumerate(body.contents):
        with in_place(f"contents[{place}]"):
            asked.append([Exchange(text)])
    desk = desk_of(request)
    verdicts = await desk.judge(asked)
    return JSONResponse([_detections(text, verdict) for text, verdict in zip(body.contents, verdicts, strict=True)])


def _detections(text: str, verdict: Verdict) -> list[dict[str, Any]]:
    harmful, score = harm_in(verdict)
    if not harmful:
        return []
    passages = [
        (step.span.start, step.span.end, score if step.weight is None else step.weight)
        for step in verdict.reasoning
        if step.task == "prompt_harmfulness" and step.span is not None and step.span.source == "prompt"
    ]
    return [
        {
            "start": start,
            "end": end,
            "text": text[start:end],
            "detection": verdict.categories[0] if verdict.categories else "harmful",
            "detection_type": "prompt_harmfulness",
            "score": weight,
            "evidences": [],
            "metadata": {"score": score, "reasons": list(verdict.reasons)},
        }
        for start, end, weight in dict.fromkeys(passages) or [(0, len(text), score)]
    ]


def _error(failure: Failure) -> Mapping[str, Any]:
    return {"code": failure.status, "message": failure.message}


TRUSTYAI = Contract("TrustyAI", ("/api/v1/text/contents",), _routes, _error, {})
