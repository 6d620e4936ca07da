"""The families of guard models by name."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType

from guardreasoner_sdk.dialects.base import Dialect
from guardreasoner_sdk.dialects.dynaguard import DynaGuardDialect
from guardreasoner_sdk.dialects.gpt_oss import GptOssSafeguardDialect
from guardreasoner_sdk.dialects.granite import GraniteGuardianDialect
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.guardreasoner_omni import GuardReasonerOmniDialect
from guardreasoner_sdk.dialects.harmbench import HarmBenchDialect
from guardreasoner_sdk.dialects.kanana import KananaSafeguardDialect
from guardreasoner_sdk.dialects.label_map import label_maps
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
from guardreasoner_sdk.dialects.wire import read_wire_format
from guardreasoner_sdk.dialects.x_guard import XGuardDialect
from guardreasoner_sdk.dialects.yufeng import YuFengXGuardDialect
from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["FAMILIES", "find_dialect", "sample_dialect", "takes_policy", "takes_request"]

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
"""What ``Guard(dialect=...)`` takes; each makes a dialect, with the family's own defaults."""


def takes_policy(name: str) -> bool:
    """Whether a family can be given a policy of one's own.

    Args:
        name: one of :data:`FAMILIES`.
    """
    return "policy_text" in inspect.signature(FAMILIES[name]).parameters


def takes_request(name: str) -> bool:
    """Whether a family is asked with a text that is not in this package, so that it has to be given the authors' file.

    Args:
        name: one of :data:`FAMILIES`.
    """
    return "request" in inspect.signature(FAMILIES[name]).parameters


def find_dialect(name: str, *, policy_text: str | None = None, request: str | Path | None = None) -> Dialect:
    """Make a dialect by its name.

    Args:
        name: one of :data:`FAMILIES`.
        policy_text: what counts as harmful, in the application's own words, for a family that takes such a text; the family's
            class says which form it has. It is trusted: never put text of users into it. None: the family's own notion.
        request: the path of the authors' file that holds the request, for a family whose request is not in this package.

    Raises:
        ConfigurationError: there is none of that name; it takes no policy, or not this one; it needs the file of a request,
            or takes none, or not this one.

    Example:
        >>> from guardreasoner_sdk.dialects import find_dialect
        >>> find_dialect("dynaguard", policy_text="Do not give advice on medicines.").name
        'dynaguard'
    """
    if name in label_maps():
        raise ConfigurationError(f"dialect: {name!r} is how a classifier is read, and this is a language model; leave it out")
    if name not in FAMILIES:
        raise ConfigurationError(f"dialect: {name!r} is unknown; known are {', '.join(FAMILIES)}")
    options: dict[str, object] = {}
    if policy_text is not None:
        if not takes_policy(name):
            able = ", ".join(family for family in FAMILIES if takes_policy(family))
            raise ConfigurationError(f"policy_text: {name} takes no policy of your own; these do: {able}")
        options["policy_text"] = policy_text
    if request is not None:
        if not takes_request(name):
            able = ", ".join(family for family in FAMILIES if takes_request(family))
            raise ConfigurationError(f"request: {name} has its own; a file is needed for these alone: {able}")
        options["request"] = request
    return FAMILIES[name](**options)


def sample_dialect(name: str) -> Dialect:
    """A dialect to look at: what it judges, and how it reads; of a request that is not in this package it has the frame alone.

    Args:
        name: one of :data:`FAMILIES`.
    """
    return FAMILIES[name](request=read_wire_format(name)) if takes_request(name) else FAMILIES[name]()
