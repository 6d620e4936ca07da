"""The families of guard models by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

from guardreasoner_sdk.dialects.base import Dialect
from guardreasoner_sdk.dialects.dynaguard import DynaGuardDialect
from guardreasoner_sdk.dialects.gpt_oss import GptOssSafeguardDialect
from guardreasoner_sdk.dialects.granite import GraniteGuardianDialect
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.guardreasoner_omni import GuardReasonerOmniDialect
from guardreasoner_sdk.dialects.harmbench import HarmBenchDialect
from guardreasoner_sdk.dialects.kanana import KananaSafeguardDialect
from guardreasoner_sdk.dialects.llama_guard import LlamaGuardDialect
from guardreasoner_sdk.dialects.md_judge import MDJudgeDialect
from guardreasoner_sdk.dialects.nemotron import (
    NemotronContentSafetyDialect,
    NemotronReasoningDialect,
    NemotronSafetyGuardDialect,
)
from guardreasoner_sdk.dialects.polyguard import PolyGuardDialect
from guardreasoner_sdk.dialects.prompted import PromptedDialect
from guardreasoner_sdk.dialects.qwen3guard import Qwen3GuardDialect
from guardreasoner_sdk.dialects.rsafe import RSafeDialect
from guardreasoner_sdk.dialects.shieldgemma import ShieldGemmaDialect
from guardreasoner_sdk.dialects.thinkguard import ThinkGuardDialect
from guardreasoner_sdk.dialects.wildguard import WildGuardDialect
from guardreasoner_sdk.dialects.x_guard import XGuardDialect
from guardreasoner_sdk.dialects.yufeng import YuFengXGuardDialect
from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["FAMILIES", "find_dialect", "takes_policy"]

FAMILIES: Mapping[str, Callable[..., Dialect]] = MappingProxyType(
    {
        "guardreasoner": GuardReasonerDialect,
        "guardreasoner-chat": partial(GuardReasonerDialect, "chat"),
        "thinkguard": ThinkGuardDialect,
        "guardreasoner-omni": GuardReasonerOmniDialect,
        "guardreasoner-vl": partial(GuardReasonerOmniDialect, "vl"),
        "llama-guard-1": partial(LlamaGuardDialect, 1),
        "llama-guard-2": partial(LlamaGuardDialect, 2),
        "llama-guard-3": partial(LlamaGuardDialect, 3),
        "llama-guard-4": partial(LlamaGuardDialect, 4),
        "nemotron-safety-guard": NemotronSafetyGuardDialect,
        "nemotron-content-safety-reasoning": NemotronReasoningDialect,
        "nemotron-3-content-safety": lambda: NemotronContentSafetyDialect("3"),
        "nemotron-3.5-content-safety": partial(NemotronContentSafetyDialect, "3.5"),
        "gpt-oss-safeguard": GptOssSafeguardDialect,
        "granite-guardian-3.0": partial(GraniteGuardianDialect, "3.0"),
        "granite-guardian-3.1": partial(GraniteGuardianDialect, "3.1"),
        "granite-guardian-3.2": partial(GraniteGuardianDialect, "3.2"),
        "granite-guardian-3.3": partial(GraniteGuardianDialect, "3.3"),
        "granite-guardian-4.1": partial(GraniteGuardianDialect, "4.1"),
        "polyguard": PolyGuardDialect,
        "dynaguard": DynaGuardDialect,
        "yufeng-xguard": YuFengXGuardDialect,
        "md-judge-0.1": partial(MDJudgeDialect, "0.1"),
        "md-judge-0.2": partial(MDJudgeDialect, "0.2"),
        "harmbench-llama": partial(HarmBenchDialect, "llama"),
        "harmbench-mistral": partial(HarmBenchDialect, "mistral"),
        "rsafe": RSafeDialect,
        "x-guard": XGuardDialect,
        "kanana-safeguard": KananaSafeguardDialect,
        "kanana-safeguard-siren": partial(KananaSafeguardDialect, "siren"),
        "kanana-safeguard-prompt": partial(KananaSafeguardDialect, "prompt"),
        "wildguard": WildGuardDialect,
        "shieldgemma": ShieldGemmaDialect,
        "qwen3guard": Qwen3GuardDialect,
        "prompted": PromptedDialect,
    }
)
"""What ``Guard(dialect=...)`` takes; each makes a dialect with the family's own defaults."""


def takes_policy(name: str) -> bool:
    """Whether a family can be given a policy of one's own.

    Args:
        name: one of :data:`FAMILIES`.
    """
    return "policy" in inspect.signature(FAMILIES[name]).parameters


def find_dialect(name: str, *, policy: str | None = None) -> Dialect:
    """Make a dialect by its name.

    Args:
        name: one of :data:`FAMILIES`.
        policy: what counts as harmful, in the application's own words, for a family that takes such a text; the family's
            class says which form it has. It is trusted: never put text of users into it. None: the family's own notion.

    Raises:
        ConfigurationError: there is none of that name, or it takes no policy, or not this one.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.dialects import find_dialect
        >>> rules = find_dialect("dynaguard", policy="Do not give advice on medicines.")
        >>> Guard("dynaguard-8b", base_url="http://localhost:8000/v1", dialect=rules).judge.model
        'dynaguard-8b'
    """
    if name not in FAMILIES:
        raise ConfigurationError(f"dialect: {name!r} is unknown; known are {', '.join(FAMILIES)}")
    if policy is None:
        return FAMILIES[name]()
    if not takes_policy(name):
        able = ", ".join(family for family in FAMILIES if takes_policy(family))
        raise ConfigurationError(f"policy: {name} takes none of your own; these do: {able}")
    return FAMILIES[name](policy=policy)
