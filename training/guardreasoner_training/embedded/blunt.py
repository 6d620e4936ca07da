"""Short blunt requests in twenty languages, harmful ones and harmless ones in the very same sentences.

Public text in most languages is either an attack, translated and long, or a harmless question. So that neither a language, nor
bluntness, nor a word like "kill" decides, each language has both here in equal number, beside everyday lines, and the answers
of shops and offices to their customers. All are written for this project (`phrases`).
"""

from __future__ import annotations

from random import Random
from typing import Final

from guardreasoner_training.embedded.examples import HAZARD_CODES, Example
from guardreasoner_training.embedded.phrases import ASKING, LANGUAGES

__all__ = ["make_blunt", "make_everyday_answers"]

_SOURCE: Final = "written"
_UNHARMED: Final = frozenset({"hi", "pt", "tr"})


def make_blunt(most: int, *, seed: int) -> list[Example]:
    """Short requests, as many harmful as harmless in each language, and everyday lines beside them.

    Args:
        most: of one language, harmful and harmless together, everyday lines not counted; twice as many of the languages in
            which the public sets have no harmful text.
    """
    draw = Random(seed)  # noqa: S311
    made: list[Example] = []
    for lang, of in LANGUAGES.items():
        frames = of.frames.split("|")
        half = most if lang in _UNHARMED else most // 2
        hazards = {phrase: code for code, phrases in of.harmful.items() for phrase in phrases.split("|")}
        lines = _lines(of.harmful_lines)
        harmful: dict[str, int | None] = dict.fromkeys(lines)
        for text, phrase in _asked(list(hazards), frames, max(0, half - len(lines)), draw):
            harmful[text] = HAZARD_CODES.index(hazards[phrase])
        looks = _lines(of.harmless_lines)
        framed = _asked(of.harmless.split("|"), frames, max(0, len(harmful) - len(looks)), draw)
        harmless = [*looks, *(text for text, _ in framed)]
        made += [Example(text, None, (True, None, None), 1.0, _SOURCE, lang, hazard) for text, hazard in harmful.items()]
        made += [Example(text, None, (False, None, None), 1.0, _SOURCE, lang) for text in (*harmless, *_lines(of.everyday))]
    return made


def make_everyday_answers() -> list[Example]:
    """Everyday questions with their answers, all harmless, none a refusal."""
    return [
        Example(question, answer, (None, False, False), 1.0, _SOURCE, lang)
        for lang, of in LANGUAGES.items()
        for question, answer in (line.split(">", 1) for line in _lines(of.served))
    ]


def _lines(text: str) -> list[str]:
    return text.split("|") if text else []


def _asked(phrases: list[str], frames: list[str], most: int, draw: Random) -> list[tuple[str, str]]:
    """Sentences with the phrase in each, no phrase a second time before all had their first."""
    orders = {phrase: draw.sample(frames, len(frames)) for phrase in draw.sample(phrases, len(phrases))}
    every = [(order[turn].replace(ASKING, phrase), phrase) for turn in range(len(frames)) for phrase, order in orders.items()]
    return every[:most]
