"""A guard for LangChain: :class:`GuardMiddleware` for agents, callbacks and runnables for everything else.

Needs the extra ``langchain``.
"""

from guardreasoner_sdk.errors import MissingExtraError

try:
    import langchain.agents  # noqa: F401
    import langgraph.graph  # noqa: F401
except ModuleNotFoundError as error:
    raise MissingExtraError("langchain", "LangChain integrations") from error

from guardreasoner_integrations.langchain._blocks import Block, block_of
from guardreasoner_integrations.langchain._callbacks import AsyncGuardCallbackHandler, GuardCallbackHandler
from guardreasoner_integrations.langchain._chain import GuardedChain
from guardreasoner_integrations.langchain._middleware import GuardMiddleware
from guardreasoner_integrations.langchain._observer import ObservedRun
from guardreasoner_integrations.langchain._runnable import GuardRunnable

__all__ = [
    "AsyncGuardCallbackHandler",
    "Block",
    "GuardCallbackHandler",
    "GuardMiddleware",
    "GuardRunnable",
    "GuardedChain",
    "ObservedRun",
    "block_of",
]
