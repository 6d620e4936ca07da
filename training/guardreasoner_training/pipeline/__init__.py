"""A whole training from one recipe: data, reasoning, R-SFT, hard samples, HS-DPO, figures and export."""

from guardreasoner_training.pipeline.stages import (
    SYSTEMS,
    pipeline,
    stages_of,
)

__all__ = [
    "SYSTEMS",
    "pipeline",
    "stages_of",
]
