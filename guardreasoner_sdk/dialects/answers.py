"""What the answers of many families have in common: reasoning in front, a word at a known place, categories behind it.

Nothing is guessed: two words where one belongs, reasoning that does not end and an answer that goes on are undetermined.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from guardreasoner_sdk.dialects.hazards import Taxonomy
from guardreasoner_sdk.dialects.probabilities import label_probability
from guardreasoner_sdk.dialects.single_label import span, unreadable
from guardreasoner_sdk.generation import Completion, TokenProbabilities
from guardreasoner_sdk.verdict import LABELS, Finding, ReasoningStep, Span, Task, undetermined

__all__ = [
    "MARKS",
    "Fields",
    "Words",
    "beyond_reasoning",
    "category_fields",
    "read_categories",
    "read_word",
    "thoughts",
    "whole",
]

OPEN, CLOSE = "<think>", "</think>"

MARKS = r"[ \t\r*_`\"']*+"
"""What models put around words: blanks, and the marks of Markdown and of quotations."""

_PARAGRAPH = re.compile(r"\S(?:[^\n]|\n(?![ \t]*(?:\n|\Z)))*")
_WORD = re.compile(r"\w")
_OPENED = re.compile(rf"\s*{OPEN}")

Words = Mapping[str, bool]
"""What an answer may say, in lower case, and whether it means the first label of its task; for instance yes and no. The first
word of either meaning is the one whose probability counts."""


def whole(answer: Completion) -> Completion:
    """The answer with the reasoning that a server set apart back in front of it, between the usual tags."""
    if not answer.reasoning or CLOSE in answer.text:
        return answer
    before = f"{OPEN}\n{answer.reasoning.strip()}\n{CLOSE}\n"
    choices = answer.choices
    if choices is not None:
        choices = TokenProbabilities([start + len(before) for start in choices.starts], choices.alternatives)
    return replace(answer, text=before + answer.text, choices=choices, reasoning="")


def beyond_reasoning(answer: Completion, *, opened: bool = False) -> tuple[Span, int] | str:
    """Where the reasoning stands in an answer, and where what it came to begins.

    Args:
        answer: what the model wrote.
        opened: whether the prompt opened the reasoning already.

    Returns:
        both places, or why the answer cannot be read. What a model quotes while it thinks may hold a verdict, and a tag too:
        where more than one tag closes, nobody can say which one was meant.
    """
    text = answer.text
    close = text.find(CLOSE)
    begun = _OPENED.match(text)
    if close < 0:
        if opened or OPEN in text:
            return (
                "the reasoning was cut off before it ended"
                if answer.finish_reason == "length"
                else "the reasoning does not end"
            )
        return Span(source="raw", start=0, end=0), 0
    if answer.finish_reason == "length" and _WORD.search(text[begun.end() if begun else 0 : close]):
        return "the answer was cut off before it ended"  # so that the tag may be one that the reasoning quoted
    if text.count(CLOSE) > 1 or text.find(OPEN, close) >= 0:
        return "the reasoning ends in more than one place"
    if begun is None and not opened and OPEN in text[:close]:
        return "the answer begins before its reasoning"
    return Span(source="raw", start=begun.end() if begun else 0, end=close), close + len(CLOSE)


def thoughts(text: str, place: Span, start: int, task: Task | None = None) -> Iterator[ReasoningStep]:
    """The paragraphs of a stretch of an answer as steps.

    Args:
        text: the answer.
        place: where in it the reasoning stands.
        start: where the answer begins in the judgement's raw text.
        task: what the reasoning is about; None: all of it.
    """
    for paragraph in _PARAGRAPH.finditer(text, place.start, place.end):
        body = paragraph[0].rstrip()
        if _WORD.search(body):
            at = start + paragraph.start()
            step = Span(source="raw", start=at, end=at + len(body))
            yield ReasoningStep(task=task, kind="thought", text=body, span=step)


def read_word(
    answer: Completion,
    found: Sequence[re.Match[str]],
    words: Words,
    task: Task,
    start: int,
    *,
    after: re.Pattern[str] | None = None,
) -> Finding:
    """Read a label from the places where it is given; all of them must say the same.

    Args:
        answer: what the model wrote.
        found: the places, with a group ``word``.
        words: what may stand there.
        task: what the label is about.
        start: where the answer begins in the judgement's raw text.
        after: what may follow a label.
    """
    yes, no = (next(word for word, meaning in words.items() if meaning == wanted) for wanted in (True, False))
    if not found:
        return unreadable(answer, f"{yes} or {no}")
    for one in found:
        if one["word"].lower() not in words:
            return unreadable(answer, f"{yes} or {no}", one["word"])
        if after is not None and not after.match(answer.text, one.end("word")):
            return undetermined("the answer goes on where a label ends")
    meanings = {words[one["word"].lower()] for one in found}
    if len(meanings) > 1:
        return undetermined(f"the answer gives both {yes} and {no}")
    first = found[0]
    return Finding(
        label=LABELS[task][0 if meanings == {True} else 1],
        score=label_probability(answer.choices, answer.text, first.start("word"), yes, no),
        span=span(first, start),
    )


@dataclass(frozen=True, slots=True)
class Field:
    """A named value of an answer.

    Args:
        name: as the model writes it, in lower case.
        words: what it may say.
    """

    name: str
    words: Words


@dataclass(frozen=True, slots=True)
class Fields:
    """Answers that name what they say: ``Harmful request: yes`` on a line, or the same as JSON. :meth:`of` makes one.

    Args:
        fields: by task.
        statement: a value with its name.
        after: what may follow a value.
    """

    fields: Mapping[Task, Field]
    statement: re.Pattern[str]
    after: re.Pattern[str]

    @classmethod
    def of(cls, fields: Mapping[Task, tuple[str, Words]], *others: str) -> Fields:
        """Describe the answers of a family.

        Args:
            fields: the name and the words of each task's value.
            others: names of further fields, such as categories.
        """
        known = {task: Field(*field) for task, field in fields.items()}
        names = "|".join(re.escape(field.name) for field in known.values())
        every = "|".join([names, *map(re.escape, others)])
        words = {word for field in known.values() for word in field.words} | {"n/a", "none", "null"}
        behind = "".join(rf"|(?<=: {re.escape(word)})" for word in sorted(words))
        statement = re.compile(
            rf"(?:^|(?<=[,;.|{{])|(?<=\w>){behind})[ \t>*_`\"'#-]*+(?P<field>{names})[ \t*_`\"']*+[:=][ \t*_`\"']*+"
            r"(?P<word>[^\s,;.*_`\"'<{}]++)",
            re.IGNORECASE | re.MULTILINE,
        )
        # Behind a value: nothing, punctuation, a special token, or the next field where all of them stand on one line.
        after = re.compile(
            rf"(?<![ \t\r.,;*_`\"'|{{}}-])[ \t\r.,;*_`\"'|{{}}-]*+(?:$|<|\(|(?:{every})\b)", re.IGNORECASE | re.MULTILINE
        )
        return cls(known, statement, after)

    def read(self, answer: Completion, task: Task, start: int, begin: int = 0) -> Finding:
        """Read one task's value.

        Args:
            answer: what the model wrote.
            task: whose value.
            start: where the answer begins in the judgement's raw text.
            begin: the place in the answer from which it counts.
        """
        field = self.fields[task]
        found, at = [], begin
        while (statement := self.statement.search(answer.text, at)) is not None:
            at = statement.end("word")
            if statement["field"].lower() == field.name:
                found.append(statement)
        return read_word(answer, found, field.words, task, start, after=self.after)


def category_fields(*names: str) -> re.Pattern[str]:
    """The pattern of the fields in which an answer names categories.

    Args:
        names: of the fields, in lower case.
    """
    return re.compile(rf"(?:{'|'.join(map(re.escape, names))}){MARKS}[:=]{MARKS}(?P<names>[^\n\"{{}}]*)", re.IGNORECASE)


def read_categories(text: str, fields: re.Pattern[str], taxonomy: Taxonomy) -> tuple[str, ...]:
    """The categories that an answer names in fields of its own; what the taxonomy does not have is left aside.

    Args:
        text: the answer.
        fields: of :func:`category_fields`.
        taxonomy: the categories that there are.
    """
    names = (name for found in fields.finditer(text) for name in found["names"].split(","))
    return tuple(dict.fromkeys(known for name in names if (known := taxonomy.find(name)) is not None))
