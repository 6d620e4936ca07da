"""Rows by the million on Ray: a pool of guards, finished blocks that stay, and each row once whatever dies (extra ``ray``).

Example:
    >>> from guardreasoner_sdk.bulk import run_bulk
    >>> figures = run_bulk("rows.jsonl", "verdicts", guard={"policy": {"block": ["harmful_prompt"]}})  # doctest: +SKIP
    >>> figures["rows"]  # doctest: +SKIP
    200000
"""

from guardreasoner_sdk.bulk.dataset import add_verdicts
from guardreasoner_sdk.bulk.run import BulkOptions, run_bulk
from guardreasoner_sdk.bulk.workers import JudgeBatches

__all__ = ["BulkOptions", "JudgeBatches", "add_verdicts", "run_bulk"]
