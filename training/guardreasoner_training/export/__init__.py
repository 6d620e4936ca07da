"""From a trained guard to files that engines run: merged safetensors, GGUF, a model card; each checked to answer alike."""

from guardreasoner_training.export.stage import (
    SAMPLES,
    check_kinds,
    export,
    gguf_name,
    guard_dialect,
    is_export,
    is_outdated,
)

__all__ = [
    "SAMPLES",
    "check_kinds",
    "export",
    "gguf_name",
    "guard_dialect",
    "is_export",
    "is_outdated",
]
