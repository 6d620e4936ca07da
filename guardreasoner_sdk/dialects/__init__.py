"""How families of guard models are asked, and how their answers are read. Pure: no I/O, no engine."""

from guardreasoner_sdk.dialects.base import Dialect, JudgementProgram
from guardreasoner_sdk.dialects.dynaguard import DynaGuardDialect
from guardreasoner_sdk.dialects.families import find_dialect
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
from guardreasoner_sdk.generation import Capabilities, Completion, Message, PromptPiece, Query

__all__ = [
    "Capabilities",
    "Completion",
    "Dialect",
    "DynaGuardDialect",
    "GptOssSafeguardDialect",
    "GraniteGuardianDialect",
    "GuardReasonerDialect",
    "GuardReasonerOmniDialect",
    "HarmBenchDialect",
    "JudgementProgram",
    "KananaSafeguardDialect",
    "LlamaGuardDialect",
    "MDJudgeDialect",
    "Message",
    "NemotronContentSafetyDialect",
    "NemotronReasoningDialect",
    "NemotronSafetyGuardDialect",
    "PolyGuardDialect",
    "PromptPiece",
    "PromptedDialect",
    "Query",
    "Qwen3GuardDialect",
    "RSafeDialect",
    "ShieldGemmaDialect",
    "ThinkGuardDialect",
    "WildGuardDialect",
    "XGuardDialect",
    "YuFengXGuardDialect",
    "find_dialect",
]
