"""How families of guard models are asked, and how their answers are read. Pure: no I/O, no engine."""

from guardreasoner_sdk.dialects.base import Dialect, JudgementProgram
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.llama_guard import LlamaGuardDialect
from guardreasoner_sdk.dialects.prompted import PromptedDialect
from guardreasoner_sdk.dialects.qwen3guard import Qwen3GuardDialect
from guardreasoner_sdk.dialects.shieldgemma import ShieldGemmaDialect
from guardreasoner_sdk.dialects.thinkguard import ThinkGuardDialect
from guardreasoner_sdk.dialects.wildguard import WildGuardDialect
from guardreasoner_sdk.generation import Capabilities, Completion, Message, PromptPiece, Query

__all__ = [
    "Capabilities",
    "Completion",
    "Dialect",
    "GuardReasonerDialect",
    "JudgementProgram",
    "LlamaGuardDialect",
    "Message",
    "PromptPiece",
    "PromptedDialect",
    "Query",
    "Qwen3GuardDialect",
    "ShieldGemmaDialect",
    "ThinkGuardDialect",
    "WildGuardDialect",
]
