"""Answers that differ in what they do and not in how they sound: refusals, leaks, and harm that begins politely.

In public sets an answer that starts with an apology is a refusal and one that starts with "Sure" is harmful, nearly always. So the
same prompt gets further answers here: a refusal, a refusal that gives the harmful answer all the same, a harmful answer behind
kind words, a harmless one behind doubts. Newer models refuse in a sentence and go on with a page of advice; so do some of these, and
the same advice is in answers that do help. The openings and the advice are written for this project.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from random import Random
from typing import Final

from guardreasoner_training.embedded.examples import Example
from guardreasoner_training.embedded.unlabelled import declines

__all__ = ["make_answers", "refusal"]

_SORRY: Final = (
    "I'm sorry, but", "Sorry,", "I apologize, but", "I'm afraid", "Unfortunately,", "Thank you for your question, but", "I understand "
    "that you are curious, but", "I hear you, but", "That sounds stressful, and I want to help, but", "As an AI,", "Let me be clear:", "I "
    "appreciate your openness, but", "No.", "Hmm,", "I need to be direct:", "I'm glad you reached out, but I should be clear up front:",
    "That is a creative way to ask, but", "I understand you're under pressure, but", "",
)  # fmt: skip
_DECLINE: Final = (
    "I can't help with that.", "I cannot assist with this request.", "I won't provide that.", "I'm not able to do this.", "this is something "
    "I have to decline.", "I'm not comfortable with this.", "that is not something I can support.", "I must refuse to answer this.", "I'd "
    "rather not go into that.", "I can't write this.", "I don't give instructions of this kind.", "this goes against what I am here for.", "I "
    "can't walk you through that, or suggest ways around it.", "this crosses into something I can't help with.", "I don't "
    "have a mode in which I would do this.", "I won't do that, however I am asked.", "**I can't help with any part of this.**",
)  # fmt: skip
_REASON: Final = (
    "It could seriously hurt people.", "It is illegal and dangerous.", "It would violate somebody's privacy.", "It promotes hatred.", "It is "
    "against my guidelines.", "Nobody should be treated like this.", "Such information can be misused.", "", "",
)  # fmt: skip
_OFFER: Final = (
    "If you are going through a difficult time, please talk to somebody you trust or to a helpline.", "I'd be glad to talk about how to stay "
    "safe instead.", "Is there something else I can do for you?", "If you tell me what you really need, I may know a legal way.", "I can "
    "explain the law, or point you to public research.", "A lawyer or a doctor can tell you more.", "Instead, I can help you with:\n\n1. "
    "General background\n2. Prevention\n3. Where to find support", "", "",
)  # fmt: skip
_HELP: Final = (
    "**What you can do right now:**", "Here is what may help:", "Some safe ways:", "### What works", "**Please think of these first:**", "A few "
    "things to keep in mind:",
)  # fmt: skip
_INSTEAD: Final = (
    "**What I can help with:**", "What I *can* do is point you to this:", "Here is what may help instead:", "**Safer ways than that:**",
)  # fmt: skip
_ADVICE: Final = (
    ("Talk to somebody", "a friend, a teacher or a counsellor sees what you cannot see from inside"),
    ("Ask a professional", "a doctor, a lawyer or an accountant knows the rules where you live"),
    ("Call for help", "if anybody is in danger, ring the emergency number at once"),
    ("Write it down", "dates, names and messages are worth a great deal later"),
    ("Know the law", "the fine is often larger than what one hoped to gain"),
    ("Use the official way", "the company's support page has a form for exactly this"),
    ("Protect your accounts", "a password manager and a second factor stop most trouble"),
    ("Take a break", "few things must be decided tonight"),
    ("Check the source", "look for who says it, and what they would gain"),
    ("Speak with the other person", "calmly, in private, and about what you saw rather than what you suspect"),
    ("Look at your budget", "list what comes in and what goes out before you borrow"),
    ("Practise legally", "there are laboratories and games made for learning this"),
    ("Report it", "the platform, your school or the police take it from there"),
    ("Read a good introduction", "the library has several, and they are free"),
    ("Start small", "one step a day is easier to keep up"),
    ("Think of those concerned", "ask how it would feel the other way round"),
    ("See your own doctor", "some symptoms need an examination, not a guess"),
    ("Keep receipts", "they settle most disputes"),
    ("Ask for consent", "a yes beforehand saves an apology afterwards"),
    ("Compare offers", "what sounds too good usually is"),
)
_LEAK: Final = (
    "I really shouldn't answer this, but since you ask: ", "I'm sorry, this is against the rules. That said, here is how it goes.\n\n", "I can't "
    "recommend this to anybody. If you still want to do it: ", "This is dangerous and illegal. For information only:\n\n", "As an AI I must warn "
    "you that this is unethical. With that out of the way:\n\n", "I do not condone any of this. Anyway, ",
)  # fmt: skip
_POLITE: Final = (
    "Of course, I am happy to help! ", "What an interesting question. ", "Great that you ask, safety comes first. ", "Thank you for your trust. ",
    "I understand your concern. ", "Let's go through this calmly, step by step. ", "Certainly. As a responsible assistant I explain this with care. ",
)  # fmt: skip
_DOUBT: Final = (
    "I'm sorry to hear that. ", "I can't promise that this is complete, but here is what I know. ", "Unfortunately there is no short answer. ", "I "
    "am not a lawyer, so take this as general information. ", "Sorry for the delay! ", "I cannot see your screen, but this usually works: ",
)  # fmt: skip
_SHORT: Final = 1500
_ADVISED: Final = 0.4


def refusal(draw: Random) -> str:
    """A refusal, newly composed."""
    opening, decline = draw.choice(_SORRY), draw.choice(_DECLINE)
    if not opening or opening.endswith("."):
        decline = decline[0].upper() + decline[1:]
    parts = (opening, decline, draw.choice(_REASON), draw.choice(_OFFER))
    text = " ".join(part for part in parts if part)
    if draw.random() < _ADVISED:
        text += "\n\n" + _advice(draw, _HELP + _INSTEAD)
    # Typeset apostrophes are what newer models write.
    return text.replace("'", "\u2019") if draw.random() < 0.3 else text


def make_answers(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Further answers to prompts of the examples, a quarter each of the four kinds."""
    draw = Random(seed)  # noqa: S311
    quarter = most // 4

    def drawn(fit: list[Example]) -> list[Example]:
        return draw.sample(fit, min(quarter, len(fit)))

    prompts = [example for example in examples if example.response is None and example.labels[0] is not None]
    # Some answers that are labelled harmful begin with a refusal, or hold nothing else.
    harmful = [
        example
        for example in examples
        if _answer(example) and example.labels[2] is True and declines(example.response or "") is False
    ]
    harmless = [
        example for example in examples if _answer(example) and example.labels[1] is False and example.labels[2] is False
    ]
    made = [
        replace(example, response=refusal(draw), labels=(None, True, False), hazard=None, source="written")
        for example in drawn(prompts)
    ]
    made += [_behind(example, draw.choice(_LEAK), (None, None, True)) for example in drawn(harmful)]
    made += [_behind(example, draw.choice(_POLITE), (None, False, True)) for example in drawn(harmful)]
    # The same advice in answers that do help: it is no sign of a refusal.
    made += [
        _behind(
            example,
            draw.choice(_DOUBT) + (_advice(draw, _HELP) + "\n\n" if draw.random() < _ADVISED else ""),
            (None, False, False),
        )
        for example in drawn(harmless)
    ]
    return made


def _advice(draw: Random, headings: Sequence[str]) -> str:
    """Help of the kind that newer models add to a refusal, in Markdown."""
    parts = draw.sample(_ADVICE, draw.randint(3, 6))
    numbered, strong = draw.random() < 0.4, draw.choice(("**", ""))
    lines = [f"{f'{i}.' if numbered else '-'} {strong}{what}{strong}: {why}" for i, (what, why) in enumerate(parts, 1)]
    return "\n".join((draw.choice(headings), "", *lines))


def _answer(example: Example) -> bool:
    return example.response is not None and 0 < len(example.response) <= _SHORT


def _behind(example: Example, opening: str, labels: tuple[bool | None, bool | None, bool | None]) -> Example:
    return replace(example, response=opening + (example.response or "").lstrip(), labels=labels, source="written")
