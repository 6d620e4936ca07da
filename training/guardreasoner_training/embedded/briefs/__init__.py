"""Longer requests in nineteen languages, as people put tasks to an assistant; written for this project.

Harmful ones say what is wanted and never how it is done.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Briefs"]


@dataclass(frozen=True, slots=True)
class Briefs:
    """What is written in one language. Several texts in one string are parted by bars, and `{}` is the place of a filling.

    Attributes:
        about: tasks about a topic.
        topics: what they are about, sensitive subjects among them; all harmless.
        ways: tasks that ask how something is done; fit the phrases of `phrases` in the same language, harmful or not.
        deeds: further harmless things to do; fit `ways`.
        claiming: tasks that ask for a text in favour of a claim.
        claims: claims that one may argue for; fit `claiming`.
        hateful: claims against groups of people; fit `claiming`.
        lines: whole tasks, all harmless: roles, recipes, code, texts to work on, films, law, health, second tries.
    """

    about: str
    topics: str
    ways: str
    deeds: str
    claiming: str
    claims: str
    hateful: str
    lines: str
