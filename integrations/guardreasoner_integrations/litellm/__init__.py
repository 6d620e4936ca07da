"""A guard as a guardrail of LiteLLM: its proxy, and ``litellm.acompletion``."""

from guardreasoner_sdk import MissingExtraError

try:
    import litellm.integrations.custom_guardrail  # noqa: F401
except ImportError as error:
    raise MissingExtraError("litellm", "LiteLLM guardrails") from error

from guardreasoner_integrations.litellm._guardrail import GuardReasonerGuardrail

__all__ = ["GuardReasonerGuardrail"]
