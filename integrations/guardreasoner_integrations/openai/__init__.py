"""A guard inside the OpenAI client: ``client = guarded(OpenAI(), guard)``, and every call goes on as before."""

from guardreasoner_integrations.openai._client import guarded
from guardreasoner_integrations.openai._verdicts import verdict_of

__all__ = ["guarded", "verdict_of"]
