"""Moderation services of vendors, asked over HTTP: ``Guard("openai-moderation")`` and others, with options of their own.

They judge text: whether a prompt is harmful and whether a response is. None says whether a response refuses. How they are asked
and read is here, without I/O; :class:`guardreasoner_sdk.judges.hosted.HostedJudge` asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from guardreasoner_sdk.services.azure import AzureContentSafety
from guardreasoner_sdk.services.base import Service
from guardreasoner_sdk.services.bedrock import BedrockGuardrail
from guardreasoner_sdk.services.mistral import MistralModeration
from guardreasoner_sdk.services.model_armor import ModelArmor
from guardreasoner_sdk.services.openai import OpenAIModeration

__all__ = [
    "SERVICES",
    "AzureContentSafety",
    "BedrockGuardrail",
    "MistralModeration",
    "ModelArmor",
    "OpenAIModeration",
    "Service",
]

SERVICES: Mapping[str, type[Service]] = MappingProxyType(
    {kind.name: kind for kind in (OpenAIModeration, MistralModeration, AzureContentSafety, BedrockGuardrail, ModelArmor)}
)
"""The services by the names that the catalogue has for them."""
