"""The development split: cut by prompt and by source, so that no near-duplicate stands on both sides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import SourceRow
from guardreasoner_training.rows.near_duplicates import hold_out_groups


@dataclass(frozen=True, slots=True)
class Split:
    """SourceRow numbers of each part, in order.

    Attributes:
        groups: how many groups of near-duplicate prompts there are.
        train: rows to train on.
        dev: rows of the same sources, by groups of near-duplicate prompts kept out of training.
        unseen: rows of sources that training never sees.
        dropped: rows of unseen sources whose prompt is a near-duplicate of a training prompt: used nowhere.
    """

    groups: int
    train: list[int] = field(default_factory=list)
    dev: list[int] = field(default_factory=list)
    unseen: list[int] = field(default_factory=list)
    dropped: list[int] = field(default_factory=list)


def hold_out(rows: Sequence[SourceRow], config: TrainConfig) -> Split:
    """Cut rows into training and development parts, by the shares, the unseen sources and the seed of the settings."""
    unseen = frozenset(config.unseen_sources)
    judged = [row.labels[2] is not None for row in rows]
    shares = {"share": config.dev_share, "judged_share": config.response_dev_share}
    groups, held_out = hold_out_groups([row.prompt for row in rows], judged, **shares, seed=config.seed)
    trained = {group for row, group in zip(rows, groups, strict=True) if row.source not in unseen}
    split = Split(len(set(groups)))
    for number, (row, group, out) in enumerate(zip(rows, groups, held_out, strict=True)):
        if row.source in unseen:
            part = split.dropped if group in trained and not out else split.unseen
        else:
            part = split.dev if out else split.train
        part.append(number)
    return split
