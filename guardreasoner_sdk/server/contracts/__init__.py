"""The contracts that the server speaks, a module each: how a request is read, how a verdict is said, and how an error.

They translate and decide nothing: what is judged goes to the desk as exchanges, and what follows from a verdict is up to the
policy.
"""

from __future__ import annotations

from guardreasoner_sdk.server.contracts.base import Contract
from guardreasoner_sdk.server.contracts.detectors import TRUSTYAI
from guardreasoner_sdk.server.contracts.gateways import AGENTGATEWAY, LITELLM, NEMO
from guardreasoner_sdk.server.contracts.moderations import MISTRAL_CHAT, OPENAI_MODERATIONS
from guardreasoner_sdk.server.contracts.own import OWN

__all__ = ["CONTRACTS", "contract_of"]

CONTRACTS: tuple[Contract, ...] = (OWN, OPENAI_MODERATIONS, MISTRAL_CHAT, LITELLM, TRUSTYAI, AGENTGATEWAY, NEMO)


def contract_of(path: str) -> Contract:
    """The contract of a path; the SDK's own where it is nobody's.

    Args:
        path: of the request.
    """
    return next((contract for contract in CONTRACTS if path in contract.paths), OWN)
