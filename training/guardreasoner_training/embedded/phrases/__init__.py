"""Short requests in twenty languages, harmful ones and harmless ones that fit the same sentences; written for this project.

Harmful ones say what is wanted and never how it is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

__all__ = ["ASKING", "Phrases"]

ASKING: Final = "{}"
"""Where a phrase goes in a sentence."""


@dataclass(frozen=True, slots=True)
class Phrases:
    """What is written in one language. Several texts in one string are parted by bars.

    Attributes:
        frames: sentences that ask, with a place for a phrase.
        harmful: what one should not be helped with, by the code of its hazard; fits the frames.
        harmless: what one may be helped with; fits the frames, and uses the words of harm where it can.
        harmful_lines: whole harmful lines.
        harmless_lines: whole harmless lines that look harmful: anger, figures of speech, illness, law, news, stories.
        everyday: whole lines that people ask every day.
        served: questions and the answers of a shop, an office, an assistant; the two parted by `>`.
    """

    frames: str
    harmful: dict[str, str]
    harmless: str
    harmless_lines: str
    everyday: str
    served: str
    harmful_lines: str = ""
