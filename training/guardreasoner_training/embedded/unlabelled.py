"""Weak labels for text that came without: what a set is, and how an answer begins, say something of most rows.

Nothing is measured on such rows, and they weigh little. Refusals are told by their wording, which is rather sure at the
beginning of an answer; whatever lies between a plain refusal and a plain answer gets no label.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guardreasoner_training.embedded.data import DataError, SourceRow, load_folder, read_rows

__all__ = ["BELIEFS", "declines", "load_rows", "load_unlabelled"]

_THOUGHTS: Final = re.compile(r"\A.*?</think>\s*", re.DOTALL)
_PLAIN_REFUSAL: Final = re.compile(
    r"\A\W*(?:(?:i(?:'m| am) (?:really |so |very )?sorry|sorry|i apologi[sz]e|unfortunately|no)\b[^.!?\n]{0,60}?\b)?"
    r"(?:i (?:can(?:no|')t|can not|won't|will not|am (?:not able|unable)|'m (?:not able|unable)|must (?:decline|refuse)|"
    r"do not feel|don't feel|refuse)|i'm (?:not able|unable|not comfortable)|i am not comfortable)\b"
)
_HEDGES: Final = re.compile(
    r"\b(?:sorry|can(?:no|')t|can not|unable|not able|won't|illegal|unethical|harmful|inappropriate|not appropriate|"
    r"against (?:the law|my|what)|afraid|apologi[sz]e|as an ai|language model|instead|seek help|professional|consult|not okay|"
    r"never (?:ok|okay|acceptable)|i don't|i do not|avoid|declin\w+|refus\w+|"
    r"comfortable|rather not|not something|not going to|important to (?:note|remember))\b"
)
_OPENING: Final = 400


@dataclass(frozen=True, slots=True)
class Belief:
    """What is believed of a set's rows.

    Args:
        prompt: what its prompts are, where the rows do not say so; None: unknown.
        compliance: what a plain answer to a harmful prompt, or to one that nothing is known of, is, by the row's
            category; None: unknown.
        turns: whether the prompt holds a conversation, of which the last turn is the prompt.
    """

    prompt: bool | None = None
    compliance: Callable[[str], bool | None] = lambda _: None
    turns: bool = False


BELIEFS: Final[dict[str, Belief]] = {
    "arena_hard_answers": Belief(prompt=False),
    "arena_hard_prompts": Belief(prompt=False),
    # People who tried to get something harmful out of an assistant, mostly; the answer that they liked less is harmful
    # oftener than the other one. Little is known of the single row, and it weighs little.
    "hh_harmless_test": Belief(prompt=True, compliance=lambda category: "rejected" in category, turns=True),
    "hh_relabelled_helpful_test": Belief(prompt=False, compliance=lambda _: False, turns=True),
    # A model trained to refuse that answers a harmful prompt has mostly found a harmless side of it.
    "interp_refusal_responses": Belief(
        compliance=lambda category: True if "deepseek" in category and "harmful" in category else None
    ),
    "sap_autodefense_outputs": Belief(compliance=lambda _: True),
}
"""By the name of the file; other files of the folder are not used. Weights and caps stand with the sources."""


def load_unlabelled(folder: Path) -> list[SourceRow]:
    """Read the files of a folder that are known, with the labels that they are believed to have.

    Args:
        folder: with `*.jsonl` and `*.jsonl.gz`.

    Raises:
        DataError: the folder has no file that is known, or a row is broken.
    """
    found = {path.name.removesuffix(".gz").removesuffix(".jsonl"): path for path in sorted(folder.glob("*.jsonl*"))}
    if not found.keys() & BELIEFS.keys():
        raise DataError(
            f"{folder}: has none of the files {', '.join(BELIEFS)}; give --unlabelled another folder, or leave it out"
        )
    return [row for name in BELIEFS if name in found for row in _rows(found[name], name)]


def declines(response: str) -> bool | None:
    """Whether an answer refuses, by its first words; None where they leave it open."""
    text = _THOUGHTS.sub("", response)[:_OPENING].lower().replace("\u2019", "'")
    if not text.strip():
        return None
    if _PLAIN_REFUSAL.search(text) is not None:
        return True
    return None if _HEDGES.search(text) is not None else False


def load_rows(data: Path, unlabelled: Path | None) -> list[SourceRow]:
    """Load all rows of a training, the labelled ones first.

    Args:
        unlabelled: folder of text without labels, for weak ones; None: without.

    Raises:
        DataError: the data cannot be used.
    """
    return load_folder(data) + (load_unlabelled(unlabelled) if unlabelled is not None else [])


def _rows(path: Path, name: str) -> Iterator[SourceRow]:
    belief = BELIEFS[name]
    for row in read_rows(path):
        prompt = row.prompt.rsplit("Human:", 1)[-1].strip() if belief.turns else row.prompt
        harmful = belief.prompt if row.labels[0] is None else row.labels[0]
        response = None if row.response is None else _THOUGHTS.sub("", row.response).strip()
        if not prompt:
            continue
        if not response:
            yield SourceRow(prompt, None, (harmful, None, None), name, row.lang)
            continue
        refusal = declines(response)
        judged: bool | None = None
        if refusal is True or (refusal is False and harmful is False):
            judged = False
        elif refusal is False:
            judged = belief.compliance(row.category or "")
        yield SourceRow(prompt, response, (harmful, refusal, judged), name, row.lang)
