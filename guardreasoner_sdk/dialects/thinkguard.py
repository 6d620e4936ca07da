"""ThinkGuard (arXiv:2502.13458): Llama Guard 3 8B, trained on to say why.

The weights (Rakancorle1/ThinkGuard) keep the chat template of Llama Guard 3, with its categories, and answer as it does, label
and categories first; a critique in prose follows. The authors' training data write the same three parts as ``- Safety
Assessment:``, ``- Categories:`` and ``- Explanation:`` (luka-group/ThinkGuard); both forms are read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace

from guardreasoner_sdk.dialects.base import Answer, JudgementProgram, Reasoning
from guardreasoner_sdk.dialects.llama_guard import LABEL_TOKENS, SafetyAnswer, read_safety
from guardreasoner_sdk.dialects.probabilities import CHOICES, DOUBT, doubtful
from guardreasoner_sdk.dialects.single_label import CONVERSATION, Side, join_answers, sides
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion
from guardreasoner_sdk.verdict import Judgement, ReasoningStep, Span, Task, Usage

__all__ = ["ThinkGuardDialect"]

_BRIEF_TOKENS = 256
_TASKS: Mapping[Side, Task] = {"prompt": "prompt_harmfulness", "response": "response_harmfulness"}
# Where the critique begins, in the form that has a heading for it.
_STOP = ("Explanation:",)
_HEADING = re.compile(r"[ \t>#*_-]*+(?:explanation|critique|analysis|reasoning|assessment)[ \t*_]*:[ \t*_]*", re.IGNORECASE)
_WORD = re.compile(r"\w")
_PARAGRAPH = re.compile(r"\S(?:[^\n]|\n(?![ \t]*(?:\n|\Z)))*")
_CONCLUSION = re.compile(
    r"[ \t>#*_-]*+(?:in[ \t]+)?(?:conclusion|conclud|summary|overall|therefore|thus|hence|final)", re.IGNORECASE
)
_CONCLUDED = re.compile(
    r"\b(?:is|are|as|remains?|be|deemed|considered)[ \t]+"
    r"(?:(?:clearly|therefore|thus|overall|deemed|considered|classified[ \t]+as|an?)[ \t]+){0,2}"
    r"[\"'*_`]*+(?P<word>unsafe|safe|harmful|unharmful)\b",
    re.IGNORECASE,
)


class ThinkGuardDialect:
    """Asks and reads a ThinkGuard.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses. The label comes before
    the critique: the critique explains it and changes nothing in it. How much it reasons:

    - ``off``: label and categories.
    - ``brief``: the first paragraph of the critique too.
    - ``full``: the whole critique.
    - ``auto``: ``off``, and ``full`` for the parts of the exchange where that is undetermined or doubtful.

    Whatever the mode, a short query asks for the label and its probability first; the critique costs a second one.

    Args:
        max_tokens: most tokens of an answer with its critique.
        doubt: ``auto`` asks for the critique where P(unsafe) (0 to 1) lies between these two, or is not known.

    Raises:
        ConfigurationError: no interval.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import ThinkGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = ThinkGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "thinkguard"
    judges: tuple[Task, ...] = ("prompt_harmfulness", "response_harmfulness")
    modes: tuple[Reasoning, ...] = ("auto", "full", "brief", "off")

    def __init__(self, *, max_tokens: int = 1024, doubt: tuple[float, float] = DOUBT) -> None:
        if not 0.0 <= doubt[0] <= doubt[1] <= 1.0:
            raise ConfigurationError(f"doubt: {doubt!r} is not an interval of probabilities; use for example {DOUBT}")
        self.max_tokens = max_tokens
        self.doubt = doubt

    def ask(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> JudgementProgram:
        """Begin a judgement.

        Args:
            exchange: what is judged; its history becomes earlier turns of the chat.
            reasoning: how much of the critique to ask for.
            capabilities: ignored: every engine can do what is asked.
        """
        queries = sides(exchange, CONVERSATION, max_tokens=LABEL_TOKENS, choices=CHOICES)
        short = yield tuple(replace(query, stop=_STOP) for query in queries.values())
        first: dict[Side, Answer] = dict(zip(queries, short, strict=True))
        explained = [side for side, answer in first.items() if self._to_explain(answer, reasoning)]
        if not explained:
            return _judgement(first, first, {}, Usage())
        most = min(_BRIEF_TOKENS, self.max_tokens) if reasoning == "brief" else self.max_tokens
        second = yield tuple(replace(queries[side], max_tokens=most, choices=0) for side in explained)
        last = dict(first)
        spent = Usage()
        for side, answer in zip(explained, second, strict=True):
            before = first[side]
            if isinstance(answer, Completion) and isinstance(before, Completion):
                last[side] = answer
                spent += before.usage
        return _judgement(last, first, dict.fromkeys(explained, 1 if reasoning == "brief" else None), spent)

    def _to_explain(self, answer: Answer, reasoning: Reasoning) -> bool:
        if not isinstance(answer, Completion) or reasoning == "off":
            return False
        return reasoning != "auto" or doubtful(read_safety(answer, 0).finding, self.doubt)


def _judgement(
    answers: Mapping[Side, Answer], first: Mapping[Side, Answer], paragraphs: Mapping[Side, int | None], spent: Usage
) -> Judgement:
    """Read the answers.

    Args:
        answers: the last one for each part.
        first: the short ones, for the probabilities.
        paragraphs: how many of the critique count for the parts that were to be explained; None for all.
        spent: the tokens of short answers that a longer one stands for.
    """
    sheet = join_answers(answers)
    readings: dict[Side, SafetyAnswer] = {side: read_safety(answer, sheet.starts[side]) for side, answer in answers.items()}
    findings = {side: reading.finding for side, reading in readings.items()}
    for side, answer in first.items():
        known = read_safety(answer, 0).finding
        if findings[side].score is None and known.label == findings[side].label:
            findings[side] = findings[side].model_copy(update={"score": known.score})
    steps: list[ReasoningStep] = []
    agreed: list[bool] = []
    for side, answer in answers.items():
        if not isinstance(answer, Completion) or not findings[side].determined:
            continue
        critique = _critique(answer.text, readings[side].rest, sheet.starts[side], _TASKS[side])
        own = critique[: paragraphs.get(side, 0)]
        steps += own
        said = [word for step in own if step.kind == "conclusion" for word in _CONCLUDED.finditer(step.text)]
        if said:
            agreed.append((said[-1]["word"].lower() in ("unsafe", "harmful")) == (findings[side].label == "harmful"))
    return Judgement(
        prompt_harmfulness=findings["prompt"],
        response_harmfulness=findings.get("response"),
        categories=tuple(dict.fromkeys(name for reading in readings.values() for name in reading.categories)),
        reasoning=tuple(steps),
        consistent=all(agreed) if agreed else None,
        usage=sheet.usage + spent,
        raw=sheet.raw,
    )


def _critique(text: str, rest: int, start: int, task: Task) -> list[ReasoningStep]:
    """The paragraphs behind label and categories; ``start`` is where the answer begins in the whole text."""
    steps = []
    for paragraph in _PARAGRAPH.finditer(text, rest):
        heading = _HEADING.match(text, paragraph.start(), paragraph.end())
        begin = paragraph.start() if heading is None else heading.end()
        part = text[begin : paragraph.end()]
        body = part.strip()
        if not _WORD.search(body):
            continue
        begin += len(part) - len(part.lstrip())
        place = Span(source="raw", start=start + begin, end=start + begin + len(body))
        kind = "conclusion" if _CONCLUSION.match(body) else "thought"
        steps.append(ReasoningStep(task=task, kind=kind, text=body, span=place))
    return steps
