"""From the vendors' categories to the hazards that verdicts name: one table.

What a vendor's category says is more, less or something else than a hazard of MLCommons' taxonomy
(:mod:`guardreasoner_sdk.dialects.hazards`) in some cases: it keeps the vendor's name then. The definitions looked at:

- OpenAI: docstrings of ``openai.types.moderation.Categories`` (openai 3.57.0).
- Mistral: docs.mistral.ai/studio/safety-moderation, and for the older model docs.mistral.ai/resources/deprecated/guardrailing.
- Azure: ``azure.ai.contentsafety.models.TextCategory`` (azure-ai-contentsafety 1.0.0).
- Bedrock: the enumerations of ``bedrock-runtime/2023-09-30/service-2.json`` (botocore 1.44.8).
- Model Armor: ``SanitizationResult`` and ``RaiFilterResult`` of google-cloud-modelarmor 0.7.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType

from guardreasoner_sdk.dialects.hazards import hazard

__all__ = ["VENDOR_HAZARDS", "name_categories"]

VENDOR_HAZARDS: Mapping[str, Mapping[str, str | None]] = MappingProxyType(
    {
        "openai-moderation": {
            "harassment": None,
            "harassment/threatening": "S1",
            "hate": "S10",
            "hate/threatening": "S10",
            "illicit": "S2",
            "illicit/violent": "S1",
            "self-harm": "S11",
            "self-harm/intent": "S11",
            "self-harm/instructions": "S11",
            "sexual": "S12",
            "sexual/minors": "S4",
            "violence": "S1",
            "violence/graphic": None,  # what it looks like, and no crime
        },
        "mistral-moderation": {
            "sexual": "S12",
            "hate_and_discrimination": "S10",
            "violence_and_threats": "S1",
            "dangerous": None,
            "criminal": "S2",
            "dangerous_and_criminal_content": "S2",  # of mistral-moderation-2411
            "selfharm": "S11",
            "health": "S6",
            "financial": "S6",
            "law": "S6",
            "pii": "S7",
            "jailbreaking": None,
        },
        "azure-content-safety": {"Hate": "S10", "SelfHarm": "S11", "Sexual": "S12", "Violence": "S1"},
        "bedrock-guardrails": {
            "HATE": "S10",
            "INSULTS": None,
            "SEXUAL": "S12",
            "VIOLENCE": "S1",
            "MISCONDUCT": "S2",
            "PROMPT_ATTACK": None,
        },
        "model-armor": {
            "sexually_explicit": "S12",
            "hate_speech": "S10",
            "harassment": None,
            "dangerous": None,
            "csam": "S4",
            "pi_and_jailbreak": None,
            "malicious_uris": None,
            "sdp": "S7",
        },
    }
)
"""By service and category the code of a hazard; None: there is none that says the same."""


def name_categories(service: str, found: Iterable[str]) -> tuple[str, ...]:
    """The categories as a verdict names them, each once: hazards, or the vendor's own names.

    Args:
        service: one of :data:`VENDOR_HAZARDS`.
        found: the vendor's names.

    Example:
        >>> from guardreasoner_sdk.services.hazards import name_categories
        >>> name_categories("openai-moderation", ["hate", "hate/threatening", "harassment"])
        ('S10 Hate', 'harassment')
    """
    table = VENDOR_HAZARDS[service]
    return tuple(dict.fromkeys(hazard(code) if (code := table.get(name)) else name for name in found))
