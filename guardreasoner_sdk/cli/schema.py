"""``guardreasoner schema``."""

from __future__ import annotations

from guardreasoner_sdk.cli.terminal import write_json
from guardreasoner_sdk.verdict import Verdict

__all__ = ["schema"]


def schema() -> None:
    """Print the JSON Schema of a verdict."""
    write_json(Verdict.model_json_schema(mode="serialization"), indent=2)
