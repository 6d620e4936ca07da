"""Rows to train on: read from a user's files or from the hub, written in the one form that every stage reads."""

from guardreasoner_training.rows.training_row import (
    FIELDS,
    HUB,
    SPLITS,
    TrainingRow,
    from_source,
    hub_rows,
    read_each,
    read_rows,
    stable_random,
    write_rows,
)

__all__ = [
    "FIELDS",
    "HUB",
    "SPLITS",
    "TrainingRow",
    "from_source",
    "hub_rows",
    "read_each",
    "read_rows",
    "stable_random",
    "write_rows",
]
