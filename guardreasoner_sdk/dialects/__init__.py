"""How one family of guard models is asked, and how its answer is read. Pure: nothing here does I/O."""

from guardreasoner_sdk.dialects.base import Completion, Dialect, Message, Query
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect

__all__ = ["Completion", "Dialect", "GuardReasonerDialect", "Message", "Query"]
