"""Long harmless text in a prompt: what people paste to have it shortened, corrected or translated.

Harmless prompts of the sets are short, so that a page of plain prose is something a model has hardly seen; over many windows, the odd
sentence in it that scores high decides. The prose is of the harmless answers that the training holds.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from random import Random
from typing import Final

from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.sources import source_of

__all__ = ["documents"]

_WORDS: Final = (60, 320)
_LEAST_CHARACTERS: Final = 200
_BEFORE: Final = (
    "", "", "", "Summarise this text:\n\n", "Please correct the spelling:\n", "Translate into Spanish:\n\n", "What is the main point of this?\n\n", "Turn "
    "this into bullet points.\n\n", "Here are my notes, please tidy them up.\n\n", "Is this well written?\n\n", "Text:\n", "Fwd: Re: as "
    "discussed\n\n", "Fasse zusammen:\n\n", "R\u00e9sume ce texte :\n\n", "Resume este texto:\n\n", "Make a headline for this:\n",
)  # fmt: skip
_BEHIND: Final = (
    "",
    "",
    "",
    "\n\nShorten it to three sentences.",
    "\n\nWhat do you think?",
    "\n\nThanks!",
    "\n\nRewrite it in a friendlier tone.",
)


def documents(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Prompts of 60 to 320 words of plain prose, all harmless.

    Args:
        examples: whose harmless answers are the prose; only those of plain instruction data.
    """
    draw = Random(seed)  # noqa: S311
    prose: defaultdict[str | None, list[str]] = defaultdict(list)
    for one in examples:
        plain = one.labels[2] is False and one.labels[1] is not True and source_of(one.source).benign
        if plain and one.response is not None and len(one.response) >= _LEAST_CHARACTERS:
            prose[one.lang].append(one.response.strip())
    languages = [lang for lang, texts in prose.items() for _ in range(min(len(texts), most))]
    made: dict[str, str | None] = {}
    for _ in range(most if languages else 0):
        lang = draw.choice(languages)
        words, pages = draw.randint(*_WORDS), list[str]()
        while words > 0:
            page = draw.choice(prose[lang]).split()[:words]
            words -= len(page)
            pages.append(" ".join(page))
        made[draw.choice(_BEFORE) + "\n\n".join(pages) + draw.choice(_BEHIND)] = lang
    return [Example(text, None, (False, None, None), 1.0, "written", lang) for text, lang in made.items()]
