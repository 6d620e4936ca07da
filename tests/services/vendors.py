"""What the vendors answer, and how a guard is pointed at the loopback server in their place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import servers

TEMPLATE = "projects/p1/locations/us-central1/templates/t1"
KEY = "very-secret-key-4711"

MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "openai-moderation": ("openai-moderation", {}),
    "mistral-moderation": ("mistral-moderation", {}),
    "azure-content-safety": ("azure-content-safety", {}),
    "bedrock-guardrails": ("bedrock-guardrails:abc123:1", {"region": "eu-central-1"}),
    "model-armor": (f"model-armor:{TEMPLATE}", {}),
}
"""By service the model's name, and options that it needs."""


def openai(scores: dict[str, float], flagged: bool | None = None) -> dict[str, Any]:
    """As ``openai.types.ModerationCreateResponse``."""
    names = (
        *("harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm"),
        *("self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic"),
    )
    categories = {name: scores.get(name, 0.0) >= 0.5 for name in names}
    result = {
        "flagged": any(categories.values()) if flagged is None else flagged,
        "categories": categories,
        "category_scores": {name: scores.get(name, 0.001) for name in names},
        "category_applied_input_types": {name: ["text"] for name in names},
    }
    return {"id": "modr-1", "model": "omni-moderation-latest", "results": [result]}


def mistral(scores: dict[str, float]) -> dict[str, Any]:
    """As ``mistralai.client.models.ModerationResponse``, with the categories of ``mistral-moderation-2603``."""
    names = (
        *("sexual", "hate_and_discrimination", "violence_and_threats", "dangerous", "criminal", "selfharm"),
        *("health", "financial", "law", "pii", "jailbreaking"),
    )
    result = {
        "categories": {name: scores.get(name, 0.0) >= 0.5 for name in names},
        "category_scores": {name: scores.get(name, 0.001) for name in names},
    }
    return {"id": "mod-1", "model": "mistral-moderation-2603", "results": [result]}


def azure(levels: dict[str, int], matches: tuple[str, ...] = ()) -> dict[str, Any]:
    """As ``azure.ai.contentsafety.models.AnalyzeTextResult``."""
    return {
        "blocklistsMatch": [{"blocklistName": name, "blocklistItemId": "1", "blocklistItemText": "x"} for name in matches],
        "categoriesAnalysis": [
            {"category": name, "severity": levels.get(name, 0)} for name in ("Hate", "SelfHarm", "Sexual", "Violence")
        ],
    }


def bedrock(*filters: str, guarded: int = 20, total: int = 20, **policies: Any) -> dict[str, Any]:
    """As ``ApplyGuardrailResponse`` of ``bedrock-runtime``."""
    content = [{"type": name, "confidence": "HIGH", "filterStrength": "LOW", "action": "BLOCKED"} for name in filters]
    assessment = {**({"contentPolicy": {"filters": content}} if content else {}), **policies}
    units = ("topic", "content", "word", "sensitiveInformation", "contextualGrounding")
    return {
        "usage": {**{f"{unit}PolicyUnits": 1 for unit in units}, "sensitiveInformationPolicyFreeUnits": 0},
        "action": "GUARDRAIL_INTERVENED" if assessment else "NONE",
        "outputs": [{"text": "Sorry, I cannot help with that."}] if assessment else [],
        "assessments": [assessment] if assessment else [],
        "guardrailCoverage": {"textCharacters": {"guarded": guarded, "total": total}},
    }


def armor(*kinds: str, invocation: str = "SUCCESS", **filters: Any) -> dict[str, Any]:
    """As ``SanitizeUserPromptResponse`` of Model Armor, in JSON."""
    done = {"executionState": "EXECUTION_SUCCESS"}
    state = {True: "MATCH_FOUND", False: "NO_MATCH_FOUND"}
    names = ("sexually_explicit", "hate_speech", "harassment", "dangerous")
    results: dict[str, Any] = {
        "csam": {"csamFilterFilterResult": {**done, "matchState": state[False]}},
        "malicious_uris": {"maliciousUriFilterResult": {**done, "matchState": state[False]}},
        "rai": {
            "raiFilterResult": {
                **done,
                "matchState": state[bool(kinds)],
                "raiFilterTypeResults": {name: {"matchState": state[name in kinds]} for name in names},
            }
        },
        "pi_and_jailbreak": {"piAndJailbreakFilterResult": {**done, "matchState": state[False]}},
        "sdp": {"sdpFilterResult": {"inspectResult": {**done, "matchState": state[False]}}},
        **filters,
    }
    matched = bool(kinds) or bool(filters)
    return {
        "sanitizationResult": {"filterMatchState": state[matched], "filterResults": results, "invocationResult": invocation}
    }


HARMFUL: dict[str, Any] = {
    "openai-moderation": openai({"violence": 0.93, "hate": 0.6}),
    "mistral-moderation": mistral({"violence_and_threats": 0.93, "hate_and_discrimination": 0.6}),
    "azure-content-safety": azure({"Violence": 6, "Hate": 4}),
    "bedrock-guardrails": bedrock("VIOLENCE", "HATE"),
    "model-armor": armor("hate_speech"),
}
HARMLESS: dict[str, Any] = {
    "openai-moderation": openai({"violence": 0.02}),
    "mistral-moderation": mistral({"health": 0.9, "violence_and_threats": 0.02}),
    "azure-content-safety": azure({"Violence": 2}),
    "bedrock-guardrails": bedrock(),
    "model-armor": armor(),
}
"""By service, answers about a text that is harmful, and about one that is not."""


def answering(answers: dict[str, Any], name: str) -> Callable[[Any], servers.Reply]:
    """What a server does that answers so about any text: Bedrock says how many characters it had."""

    def reply(request: Any) -> servers.Reply:
        body = answers[name]
        if name == "bedrock-guardrails":
            count = len(judged_text(request.body))
            body = {**body, "guardrailCoverage": {"textCharacters": {"guarded": count, "total": count}}}
        return servers.Reply(body=body)

    return reply


def judged_text(body: dict[str, Any]) -> str:
    """The judged text of a request, whichever service it is for."""
    finds: tuple[Callable[[], Any], ...] = (
        lambda: body["input"] if isinstance(body["input"], str) else body["input"][-1]["content"],
        lambda: body["text"],
        lambda: body["content"][0]["text"]["text"],
        lambda: body["userPromptData"]["text"],
        lambda: body["modelResponseData"]["text"],
    )
    for find in finds:
        try:
            return str(find())
        except (KeyError, TypeError):
            continue
    raise AssertionError(f"no judged text among {list(body)}")
