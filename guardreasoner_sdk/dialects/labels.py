"""Finding the labels in what a GuardReasoner wrote, however it wrote them.

Published answers differ from the format they were trained on: the header may be missing or decorated, the three lines may
stand on one, come task by task, or be followed by a second block. One grammar covers them. It is strict about values: a
label counts only when it is the whole value, so that prose about harm, an echo of the instruction
(``harmful or unharmful``) and unknown words (``ambiguous``) are never taken for a label.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import cast

from guardreasoner_sdk.dialects.headings import RULE, Line, heading, lines
from guardreasoner_sdk.verdict import LABELS, TASKS, Label, Task

__all__ = ["Statement", "read_statements"]


@dataclass(frozen=True, slots=True)
class Statement:
    """One place that answers one task.

    Args:
        task: the task answered.
        word: the value as written.
        label: the label it means, or None when the value is ``None`` or no label of this task.
        start: first character of the value in the text.
        end: the character after it.
        block: number of the run of answer lines it stands in.
    """

    task: Task
    word: str
    label: Label | None
    start: int
    end: int
    block: int


_FIELDS: tuple[tuple[Task, str], ...] = (
    (
        "prompt_harmfulness",
        r"(?:(?:the|human|user(?:['\u2019]?s)?)[ \t]+){0,3}(?:request|prompt)(?:[ \t]+harmfulness)?",
    ),
    ("response_refusal", r"completion|refusal|response[ \t]+refusal"),
    (
        "response_harmfulness",
        r"(?:(?:the|ai|assistant(?:['\u2019]?s)?)[ \t]+){0,3}response(?:[ \t]+harmfulness)?",
    ),
)
_MARK = r"[ \t>*_`\"'\u201c\u201d{(\[|]*+"  # possessive, as all runs here: a long line of marks must not cost its square
_LEAD = rf"(?:\\n)*{_MARK}(?:[-+\u2022\u2013#]++[ \t]*+|\d[.)][ \t]*+)?{_MARK}"
_SEPARATOR = r"[ \t*_`\"'\u201d)\]]*(?:[:\uff1a=|]|->|\u2192|(?P<weak>[ \t](?:[-\u2013\u2014]|is)(?=[ \t])))" + _MARK
_FIELD = re.compile(
    rf"{_LEAD}(?:{'|'.join(f'(?P<f{number}>{pattern})' for number, (_, pattern) in enumerate(_FIELDS))}"
    rf"|task[ \t]*(?P<number>[123])(?:[ \t]*\([^()\n]*\))?){_SEPARATOR}",
    re.IGNORECASE,
)
_NONE = r"none|n/a|null|not[ \t]applicable"
_NAMES = r"request|prompt|response|completion"
_VOCABULARY = r"harmful|unharmful|refusal|compliance"
_VALUE = re.compile(rf"(?:(?:a|an)[ \t]+)?(?P<word>{_VOCABULARY}|{_NONE})(?![\w/|-])", re.IGNORECASE)
# A whole sentence as the value, "The request is harmful.": only the plain form, without a negation anywhere.
_SENTENCE = re.compile(
    r"(?:the|this)[ \t]+(?:(?:human|user|ai|assistant)(?:['\u2019]s)?[ \t]+){0,2}(?:request|prompt|response|completion)[ \t]+"
    rf"is[ \t]+(?:(?:classified|considered|labell?ed|categori[sz]ed)[ \t]+(?:as[ \t]+)?)?(?:(?:a|an)[ \t]+)?"
    rf"(?P<word>{_VOCABULARY})(?=[ \t]*+[.*_]*+[ \t]*+$)",
    re.IGNORECASE,
)
_OTHER = re.compile(r"(?P<word>[^\s,;|}\])*_`\"']+)")
# What may follow a value on its line: nothing, punctuation, a remark, or a "None" for another task; never more words.
_AFTER = re.compile(
    r"[ \t]*+(?:$|[.,;:!)\]}*_`\"'\u201d|<#]|[(\u2013\u2014]|-(?=[ \t])|(?:because|since|as|due[ \t]to)\b"
    rf"|and[ \t]+(?:{_NONE})\b|\\n|(?<=[ \t])(?:{_NAMES})\b[^\w\n]|(?:{_NAMES}|content)[ \t.*_]*+$)",
    re.IGNORECASE,
)
# ... but an alternative, "harmful | unharmful" or "harmful (or unharmful)", is an echo of the instruction, not an answer.
_ALTERNATIVE = re.compile(rf"[ \t]*+(?:[|/,]|\(?[ \t]*+or\b)[ \t*_`\"']*+(?:{_VOCABULARY})\b", re.IGNORECASE)
# "Request: harmful, refusal, unharmful": the values of the later tasks follow in order, each from its own vocabulary.
_POSITIONAL: dict[Task, re.Pattern[str]] = {
    task: re.compile(rf"[ \t]*+,[ \t]*+(?P<word>{'|'.join(LABELS[task])}|{_NONE})(?=[ \t]*+(?:,|\.?[ \t]*+$))", re.IGNORECASE)
    for task in TASKS
}
_NEXT = re.compile(rf"[ \t.*_`\"'\u201d)\]]*(?:[,;|&}}]|\band\b|\\n|(?<=[ \t])(?=(?:{_NAMES})\b))[ \t]*", re.IGNORECASE)
# A model that goes on after its answer may make up the next exchange; what it says of that one is no answer to ours.
_NEXT_EXCHANGE = re.compile(r"[ \t>*_#]*(?:human user[ \t*_]*:|you are a classifier for analyzing)", re.IGNORECASE)


def read_statements(text: str) -> dict[Task, list[Statement]]:
    """Find every place that answers a task, in order.

    Args:
        text: what the model wrote, and nothing else.

    Returns:
        per task the statements, first to last.
    """
    found: dict[Task, list[Statement]] = {task: [] for task in TASKS}
    block, in_answers, bare = 0, False, list[Statement]()
    for line in lines(text):
        if not line.text.strip():
            continue
        if block and any(found.values()) and _NEXT_EXCHANGE.match(line.text):
            break
        head = heading(line)
        if head is not None and head.kind == "answers":
            block, in_answers, bare = block + 1, True, []
            line = Line(head.rest_start, text[head.rest_start : line.end])
            if not line.text.strip(" \t*_"):
                continue
        if RULE.fullmatch(line.text):
            continue
        statements = _statements(line, block, in_answers)
        if not statements and in_answers:
            statements = _in_order(line, block)
        if not statements and in_answers and (value := _bare(line, len(bare), block)) is not None:
            bare.append(value)
            if len(bare) == len(TASKS):
                for statement in bare:
                    found[statement.task].append(statement)
            continue
        if not statements:
            block, in_answers, bare = block + 1, in_answers and head is None, []
        for statement in statements:
            found[statement.task].append(statement)
    return found


def _statements(line: Line, block: int, in_answers: bool) -> list[Statement]:
    """The statements on one line: usually one, sometimes all three."""
    found: list[Statement] = []
    at = 0
    while (field := _FIELD.match(line.text, at)) is not None:
        task = _task(field)
        if (field["number"] or field["weak"]) and not in_answers:
            break  # "# Task 1: harmful" and "The request is harmful" are conclusions elsewhere; the steps keep them
        value = _VALUE.match(line.text, field.end()) or _SENTENCE.match(line.text, field.end())
        if value is None:
            other = _OTHER.match(line.text, field.end())
            # A foreign word is an answer only where answers stand, alone on its line: elsewhere it begins a sentence.
            if other is not None and not line.text[other.end() :].strip(" \t.*_`\"'"):
                found.append(_statement(task, other, line, block))
            break
        later = TASKS[TASKS.index(task) + 1 :]
        in_order = bool(later) and _POSITIONAL[later[0]].match(line.text, value.end())
        if _ALTERNATIVE.match(line.text, value.end()) and not in_order:
            break
        if not _AFTER.match(line.text, value.end()):
            break
        found.append(_statement(task, value, line, block))
        at = value.end()
        for next_task in later:
            positional = _POSITIONAL[next_task].match(line.text, at)
            if positional is None:
                break
            found.append(_statement(next_task, positional, line, block))
            at = positional.end()
        more = _NEXT.match(line.text, at)
        if more is None:
            break
        at = more.end()
    return found


def _task(field: re.Match[str]) -> Task:
    if field["number"]:
        return TASKS[int(field["number"]) - 1]
    return next(task for number, (task, _) in enumerate(_FIELDS) if field[f"f{number}"])


def _statement(task: Task, value: re.Match[str], line: Line, block: int, *, group: str = "word") -> Statement:
    word = value[group]
    label = cast("Label | None", word.lower() if word.lower() in LABELS[task] else None)
    return Statement(task, word, label, line.start + value.start(group), line.start + value.end(group), block)


_IN_ORDER = re.compile(
    _LEAD
    + r"[ \t]*,[ \t]*".join(rf"(?P<t{number}>{'|'.join(LABELS[task])}|{_NONE})" for number, task in enumerate(TASKS))
    + r"[ \t.*_]*",
    re.IGNORECASE,
)


def _in_order(line: Line, block: int) -> list[Statement]:
    """A line with nothing but the three values, under the header."""
    values = _IN_ORDER.fullmatch(line.text)
    if values is None:
        return []
    return [_statement(task, values, line, block, group=f"t{number}") for number, task in enumerate(TASKS)]


_BARE = re.compile(rf"{_LEAD}(?P<word>{_VOCABULARY}|{_NONE})[ \t.,*_`\"']*", re.IGNORECASE)


def _bare(line: Line, position: int, block: int) -> Statement | None:
    """A line with nothing but a label, under the header: the three of them answer the tasks in order."""
    value = _BARE.fullmatch(line.text) if position < len(TASKS) else None
    return None if value is None else _statement(TASKS[position], value, line, block)
