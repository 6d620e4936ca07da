"""Labels that a guard contradicts: which of them to show to a person, most confident first."""

from guardreasoner_sdk.evaluation.audit.proposals import (
    AT_MOST,
    Proposal,
    TaskAudit,
    propose,
)

__all__ = [
    "AT_MOST",
    "Proposal",
    "TaskAudit",
    "propose",
]
