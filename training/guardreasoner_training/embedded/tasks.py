"""Longer requests, as people put tasks to an assistant, in nineteen languages, and harmful ones in the very same sentences.

The public text that is harmless is mostly short questions, and much of the harmful text is requests in full sentences. So that
length, politeness, a role or a sensitive subject does not decide, each language has essays, lessons, plans, letters and second
tries about anything here (`briefs`), and the harm of `phrases` put as such a task.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from guardreasoner_training.embedded.briefs import BRIEFS, Briefs
from guardreasoner_training.embedded.examples import HAZARD_CODES, Example
from guardreasoner_training.embedded.phrases import ASKING, LANGUAGES

__all__ = ["tasks"]

_SOURCE: Final = "written"
_ENGLISH: Final = 5
_HATE: Final = HAZARD_CODES.index("S10")


def tasks(per_language: int = 160, *, seed: int) -> list[Example]:
    """Tasks in whole sentences; for eight harmless ones three harmful ones.

    Args:
        per_language: harmless tasks in each language; five times as many in English, which most people write.
    """
    draw = Random(seed)  # noqa: S311
    made: list[Example] = []
    for lang, of in BRIEFS.items():
        harmless = per_language * (_ENGLISH if lang == "en" else 1)
        harmful = harmless * 3 // 8
        # The sentences that take harm take as much that is harmless: they lean to neither.
        asks = _asks(of, lang, harmful, draw)
        made += [Example(text, None, (True, None, None), 1.0, _SOURCE, lang, hazard) for text, hazard in asks.items()]
        texts = _harmless(of, lang, harmless, harmful, draw)
        made += [Example(text, None, (False, None, None), 1.0, _SOURCE, lang) for text in texts]
    return made


def _asks(of: Briefs, lang: str, most: int, draw: Random) -> dict[str, int]:
    """Harmful tasks with their hazards, a fifth of them for a claim of hate."""
    found = dict.fromkeys(_filled(of.claiming.split("|"), of.hateful.split("|"), most // 5, draw), _HATE)
    hazards = {phrase: code for code, phrases in LANGUAGES[lang].harmful.items() for phrase in phrases.split("|")}
    for text, phrase in _pairs(of.ways.split("|"), list(hazards), most - len(found), draw):
        found[text] = HAZARD_CODES.index(hazards[phrase])
    return found


def _harmless(of: Briefs, lang: str, most: int, twins: int, draw: Random) -> list[str]:
    """Harmless tasks: whole lines, the sentences of the harmful ones filled otherwise, and tasks about a topic."""
    lines = of.lines.split("|")
    claims = _filled(of.claiming.split("|"), of.claims.split("|"), twins // 5, draw)
    deeds = list(dict.fromkeys((*of.deeds.split("|"), *LANGUAGES[lang].harmless.split("|"))))
    done = _filled(of.ways.split("|"), deeds, twins, draw)
    rest = max(0, most - len(lines) - len(claims) - len(done))
    about = _filled(of.about.split("|"), of.topics.split("|"), rest, draw)
    return list(dict.fromkeys([*draw.sample(lines, len(lines)), *claims, *done, *about]))[:most]


def _filled(frames: Sequence[str], fillings: Sequence[str], most: int, draw: Random) -> list[str]:
    return [text for text, _ in _pairs(frames, fillings, most, draw)]


def _pairs(frames: Sequence[str], fillings: Sequence[str], most: int, draw: Random) -> list[tuple[str, str]]:
    """Sentences with their filling: frames in turn, and no pair of the two twice."""
    frames, fillings = draw.sample(frames, len(frames)), draw.sample(fillings, len(fillings))
    every = [
        (frames[(place + turn) % len(frames)].replace(ASKING, filling), filling)
        for turn in range(len(frames))
        for place, filling in enumerate(fillings)
    ]
    return every[:most]
