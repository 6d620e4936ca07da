"""The probability of a label, from the probabilities of the tokens where the answer is given."""

from __future__ import annotations

from collections.abc import Mapping

from guardreasoner_sdk.generation import TokenProbabilities
from guardreasoner_sdk.verdict import Finding

__all__ = ["CHOICES", "DOUBT", "doubtful", "label_probability", "probability_of", "share_of"]

CHOICES = 20
"""How many of the most probable tokens to ask an engine for: the most that the common servers give."""

DOUBT = (0.1, 0.9)
"""Probabilities between these two are doubtful."""


def probability_of(alternatives: Mapping[str, float], positive: str, negative: str, *, lead: str = "") -> float | None:
    """P(positive label), normalised over both labels.

    A token counts for a label that it begins: by its text, not by its number, so that the figure is the same on every engine
    and for every tokenizer, also where a label is several tokens.

    Args:
        alternatives: probability (0 to 1) by token text, at the token that begins the label.
        positive: the label whose probability is wanted, as the model writes it (case does not count).
        negative: the other one. Neither may begin with the other.
        lead: characters that the token has in front of the label, such as a blank.

    Returns:
        0 to 1, or None where no token begins either label.
    """
    mass = [0.0, 0.0]
    for token, probability in alternatives.items():
        word = (token[len(lead) :] if lead and token.startswith(lead) else token.lstrip()).lower()
        for number, label in enumerate((positive.lower(), negative.lower())):
            if word and (label.startswith(word) or word.startswith(label)):
                mass[number] += probability
    total = sum(mass)
    return None if total <= 0.0 else min(1.0, max(0.0, mass[0] / total))


def label_probability(choices: TokenProbabilities | None, text: str, place: int, positive: str, negative: str) -> float | None:
    """P(positive label) at a place of an answer.

    Args:
        choices: the engine's probabilities for the answer.
        text: the answer.
        place: where in it the label begins.
        positive: the label whose probability is wanted.
        negative: the other one.
    """
    found = None if choices is None else choices.at(place)
    if found is None:
        return None
    start, alternatives = found
    return probability_of(alternatives, positive, negative, lead=text[start:place])


def share_of(alternatives: Mapping[str, float], meanings: Mapping[str, bool]) -> float | None:
    """P(what means the first label), where an answer is one of many words that are a token each.

    Args:
        alternatives: probability (0 to 1) by token text.
        meanings: whether a word means the first label, by the word in lower case.

    Returns:
        0 to 1, or None where no token is such a word.
    """
    mass = {True: 0.0, False: 0.0}
    for token, probability in alternatives.items():
        if (meaning := meanings.get(token.strip().lower())) is not None:
            mass[meaning] += probability
    total = sum(mass.values())
    return None if total <= 0.0 else min(1.0, max(0.0, mass[True] / total))


def doubtful(finding: Finding, doubt: tuple[float, float]) -> bool:
    """Whether a finding calls for a closer look: undetermined, without a probability, or with one inside the interval.

    Args:
        finding: the answer to a task.
        doubt: the interval, without its ends.
    """
    return finding.score is None or doubt[0] < finding.score < doubt[1]
