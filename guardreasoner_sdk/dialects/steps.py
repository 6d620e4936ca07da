"""Splitting a reasoning guard's answer into steps, and reading what a step concludes."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, cast

from guardreasoner_sdk.dialects.headings import RULE, heading, lines
from guardreasoner_sdk.verdict import LABELS, TASKS, Label, ReasoningStep, Span, Task

__all__ = ["conclusions", "split_steps"]


@dataclass(slots=True)
class _Open:
    task: Task
    kind: Literal["thought", "conclusion"]
    start: int
    end: int


def split_steps(text: str) -> tuple[ReasoningStep, ...]:
    """Cut an answer into the steps of each task, in order.

    What stands before the first heading is no reasoning (in raw rendering a model may first go on with the assistant's
    text), and what stands under the answers is none either.

    Args:
        text: what the model wrote.

    Returns:
        the steps; each one's span names its characters, and ``text[span.start:span.end]`` is its text.
    """
    steps: list[ReasoningStep] = []
    task: Task = TASKS[0]
    current: _Open | None = None

    def close() -> None:
        nonlocal current
        if current is not None and (body := text[current.start : current.end]).strip(" \t\n*_#:"):
            start = current.start + len(body) - len(body.lstrip())
            body = body.strip()
            span = Span(source="raw", start=start, end=start + len(body))
            steps.append(ReasoningStep(task=current.task, kind=current.kind, text=body, span=span))
        current = None

    for line in lines(text):
        head = heading(line)
        if head is not None:
            close()
            if head.number is not None:
                task = TASKS[head.number - 1]
            if head.kind == "conclusion":
                current = _Open(task, "conclusion", head.rest_start, line.end)
            elif head.kind == "step":
                current = _Open(task, "thought", head.rest_start, line.end)
            elif head.kind == "task" and _LABEL_ALONE.fullmatch(text[head.rest_start : line.end]):
                current = _Open(task, "conclusion", head.rest_start, line.end)
            elif head.kind == "task":
                # Some models write a task without step headings; its title is no step.
                current = _Open(task, "thought", line.end, line.end)
        elif current is not None and line.text.strip() and not RULE.fullmatch(line.text):
            current.end = line.end
    close()
    return tuple(steps)


_LABEL_ALONE = re.compile(r"[ \t*_]*(?:harmful|unharmful|refusal|compliance|none)[ \t.*_]*", re.IGNORECASE)

_NOT = r"(?:not|n['\u2019]t|never|neither|nor|without|no|lacks?)[ \t]+(?:[\w-]+[ \t]+){0,3}?"
_SAFE = rf"\bunharmful\b|\bharmless\b|\bnon-?harmful\b|\bbenign\b|\b{_NOT}harm(?:ful|s)?\b|\bis[ \t]+safe\b"
_REFUSE = r"refusal|refus(?:e|es|ed|ing)|declin(?:e|es|ed|ing)"
_COMPLY = r"compliance|compliant|compl(?:y|ies|ied|ying)"
# Leftmost alternative first: "does not comply" and "refuses to comply" begin before their "comply" and so are read whole.
_WORDS: dict[Task, re.Pattern[str]] = {
    "prompt_harmfulness": re.compile(rf"(?P<negative>{_SAFE})|(?P<positive>\bharmful\b)", re.IGNORECASE),
    "response_refusal": re.compile(
        rf"(?P<positive>\b(?:{_REFUSE})[ \t]+to[ \t]+(?:\w+[ \t]+)?(?:{_COMPLY})\b|\b{_NOT}(?:{_COMPLY})\b|\bnon-?compliance\b)"
        rf"|(?P<negative>\b{_NOT}(?:{_REFUSE})\b|\b(?:{_COMPLY})\b)|(?P<also>\b(?:{_REFUSE})\b)",
        re.IGNORECASE,
    ),
}
_WORDS["response_harmfulness"] = _WORDS["prompt_harmfulness"]
# "The response is unharmful as it does not engage in harmful talk": what is classified stands before the reason.
_CLASSIFIED = re.compile(
    r"(?:\b(?:is|are|be|remains?|constitutes|form[ \t]++of)|:)[ \t*_]++(?:(?:an?|not|clearly|therefore|considered"
    r"|classified|generally|clear|form|direct|polite|partial|inherently|as|of|deemed)[ \t]++){0,4}[*_\"'`]*+"
    r"(?:un|non-?)?(?:harmful|harmless|refusal|compliance|compliant|benign)\b",
    re.IGNORECASE,
)
_STRICT = re.compile(
    r"(?:^|\b(?:is|as)[ \t]++(?:an?[ \t]++)?)[*_ \t\"'`]*+(?P<word>harmful|unharmful|refusal|compliance)(?=[ \t.*_\"'`]*+$)",
    re.IGNORECASE | re.MULTILINE,
)


_SENTENCE_END = re.compile(r"[.!?\n]")


def _claimed(words: re.Pattern[str], text: str) -> list[re.Match[str]]:
    """The first of the words in each claim, up to the end of its sentence."""
    found: list[re.Match[str]] = []
    end, word = -1, None
    for claim in _CLASSIFIED.finditer(text):
        if claim.end() > end:
            end = _sentence_end(text, claim.end())
        elif word is None or word.start() >= claim.start():
            # Nothing new in this sentence: looked for again from each of its claims, a long one would cost its square.
            found += [] if word is None else [word]
            continue
        word = words.search(text, claim.start(), end)
        found += [] if word is None else [word]
    return found


def _sentence_end(text: str, at: int) -> int:
    end = _SENTENCE_END.search(text, at)
    return len(text) if end is None else end.start()


_NEGATION = re.compile(r"\b(?:not|never|neither|nor|if|whether|or)\b|n['\u2019]t\b", re.IGNORECASE)


def conclusions(task: Task, step: ReasoningStep, *, strict: bool = False) -> tuple[Label, Span] | None:
    """What a step concludes about a task, and where it says so; None where it does not say.

    Args:
        task: the task.
        step: the step; the last thing it says counts.
        strict: accept only a label of the vocabulary at the end of a plain sentence, as where the reading of an answer has
            nothing else to stand on; otherwise common wordings count too ("refuses", "not harmful").
    """
    if step.span is None:
        raise ValueError("step: has no span; pass a step that split_steps() made")
    if strict:
        lines_ = [found for found in _STRICT.finditer(step.text) if found["word"].lower() in LABELS[task]]
        if not lines_:
            return None
        last = lines_[-1]
        sentence = _SENTENCE_END.split(step.text[: last.start("word")])[-1]
        if _NEGATION.search(sentence):
            return None
        label, at = last["word"].lower(), last.span("word")
    else:
        found = _claimed(_WORDS[task], step.text) or list(_WORDS[task].finditer(step.text))
        if not found:
            return None
        label, at = LABELS[task][1 if found[-1]["negative"] else 0], found[-1].span()
    start = step.span.start
    return cast("Label", label), Span(source="raw", start=start + at[0], end=start + at[1])
