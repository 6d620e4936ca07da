"""The development split: cut by prompt and by source, so that no near-duplicate stands on both sides."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import SourceRow

_WORDS_SHARED: Final = 8
_PREFIX_CHARACTERS: Final = 60
# A phrase that more prompts share is a template ("I am a lawyer and ..."): joining on it would put half of all prompts
# in one group. What it wraps still joins the prompts, because the wrapped request is a phrase of its own.
TEMPLATE_PROMPTS: Final = 40


@dataclass(frozen=True, slots=True)
class Split:
    """Row numbers of each part, in order.

    Attributes:
        train: rows to train on.
        dev: rows of the same sources, by groups of near-duplicate prompts kept out of training.
        unseen: rows of sources that training never sees.
        dropped: rows of unseen sources whose prompt is a near-duplicate of a training prompt: used nowhere.
        groups: how many groups of near-duplicate prompts there are.
    """

    train: list[int]
    dev: list[int]
    unseen: list[int]
    dropped: list[int]
    groups: int


_WORD: Final = re.compile(r"\w+")


def normalise(text: str) -> str:
    """Return the text in lower case with every run of other than letters and digits as one space."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def cut(
    rows: Sequence[SourceRow], *, dev_share: float, response_dev_share: float, unseen_sources: Iterable[str], seed: int
) -> Split:
    """Cut rows into training and development parts.

    Args:
        dev_share: share of the groups that goes to the development part, 0 to 1.
        response_dev_share: the same for groups with labels of harmful responses: there are few of them, and a small
            share would measure nothing.
        seed: chooses which groups are held out; the same seed gives the same groups on every machine.
    """
    unseen = frozenset(unseen_sources)
    groups = group_prompts([row.prompt for row in rows])
    name: dict[int, str] = {}
    trained: set[int] = set()
    judged: set[int] = set()
    for row, group in zip(rows, groups, strict=True):
        prompt = normalise(row.prompt)
        name[group] = min(name.get(group, prompt), prompt)
        if row.source not in unseen:
            trained.add(group)
        if row.labels[2] is not None:
            judged.add(group)
    held_out = {
        group
        for group, prompt in name.items()
        if _draw(f"{seed}:{prompt}") < (response_dev_share if group in judged else dev_share)
    }
    split = Split([], [], [], [], len(name))
    for number, (row, group) in enumerate(zip(rows, groups, strict=True)):
        if row.source in unseen:
            part = split.dropped if group in trained and group not in held_out else split.unseen
        else:
            part = split.dev if group in held_out else split.train
        part.append(number)
    return split


def hold_out(rows: Sequence[SourceRow], config: TrainConfig) -> Split:
    """Hold out what is measured on.

    Args:
        config: the shares, the unseen sources and the seed.
    """
    return cut(
        rows,
        dev_share=config.dev_share,
        response_dev_share=config.response_dev_share,
        unseen_sources=config.unseen_sources,
        seed=config.seed,
    )


def group_prompts(prompts: Sequence[str]) -> list[int]:
    """Join near-duplicate prompts: the same normalised text, the same first 60 characters, or 8 words in a row shared.

    Phrases that more than 40 different prompts share are templates and do not join.

    Args:
        prompts: the prompts; repeats are welcome.

    Returns:
        A group number for each prompt.
    """
    unique: dict[str, int] = {}
    members = [unique.setdefault(normalise(prompt), len(unique)) for prompt in prompts]
    holders: defaultdict[bytes, list[int]] = defaultdict(list)
    for prompt, member in unique.items():
        for key in set(phrases(prompt)):
            found = holders[key]
            if len(found) <= TEMPLATE_PROMPTS:
                found.append(member)
    parent = list(range(len(unique)))
    for found in holders.values():
        if len(found) <= TEMPLATE_PROMPTS:
            for other in found[1:]:
                parent[_root(parent, other)] = _root(parent, found[0])
    return [_root(parent, member) for member in members]


def phrases(prompt: str) -> Iterator[bytes]:
    if len(prompt) > _PREFIX_CHARACTERS:
        yield _digest("prefix " + prompt[:_PREFIX_CHARACTERS])
    words = prompt.split()
    for start in range(len(words) - _WORDS_SHARED + 1):
        yield _digest(" ".join(words[start : start + _WORDS_SHARED]))


def _digest(text: str) -> bytes:
    # Ten bytes instead of the phrase: millions of phrases are held at once.
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=10).digest()


def _root(parent: list[int], member: int) -> int:
    while parent[member] != member:
        parent[member] = parent[parent[member]]
        member = parent[member]
    return member


def _draw(text: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8], "big") / 2**64
