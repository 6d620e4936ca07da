"""Prompts that are nearly the same, and a part of all prompts held out so that none of them stands on both sides."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

from guardreasoner_training.rows.training_row import stable_random

__all__ = ["TEMPLATE_PROMPTS", "group_prompts", "hold_out_groups", "normalise", "phrases"]

_WORDS_SHARED: Final = 8
_PREFIX_CHARACTERS: Final = 60
# A phrase that more prompts share is a template ("I am a lawyer and ..."): joining on it would put half of all prompts
# in one group. What it wraps still joins the prompts, because the wrapped request is a phrase of its own.
TEMPLATE_PROMPTS: Final = 40
_WORD: Final = re.compile(r"\w+")


def normalise(text: str) -> str:
    """Return the text in lower case with every run of other than letters and digits as one space."""
    return " ".join(_WORD.findall(unicodedata.normalize("NFKC", text).lower()))


def hold_out_groups(
    prompts: Sequence[str], judged: Sequence[bool], *, share: float, judged_share: float, seed: int
) -> tuple[list[int], list[bool]]:
    """Hold out groups of near-duplicate prompts.

    Args:
        judged: of each prompt, whether its row has a label of a harmful response: there are few of them, and a small share
            would measure nothing.
        share: of the groups that is held out, 0 to 1.
        judged_share: the same for groups with such a row.
        seed: chooses which groups are held out; the same seed gives the same groups on every machine.

    Returns:
        for each prompt the number of its group, and whether it is held out.
    """
    groups = group_prompts(prompts)
    name: dict[int, str] = {}
    for prompt, group in zip(map(normalise, prompts), groups, strict=True):
        name[group] = min(name.get(group, prompt), prompt)
    few = {group for group, of_response in zip(groups, judged, strict=True) if of_response}
    out = {
        group
        for group, prompt in name.items()
        if stable_random(f"{seed}:{prompt}") / 2**64 < (judged_share if group in few else share)
    }
    return groups, [group in out for group in groups]


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
