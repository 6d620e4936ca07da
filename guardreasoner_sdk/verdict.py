"""What comes back: a :class:`Verdict` with a finding per task and the reasoning behind it.

``Verdict`` is the one output type of the SDK. Its JSON Schema is published as ``verdict.schema.json`` in the package and
printed by ``guardreasoner schema``. Labels are the words of the GuardReasoner paper (arXiv:2501.18492, section 3).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, computed_field, model_validator

from guardreasoner_sdk.errors import BlockedError, UndeterminedError

__all__ = [
    "TASKS",
    "Finding",
    "Hop",
    "Judgement",
    "Label",
    "ReasoningStep",
    "Span",
    "Task",
    "Usage",
    "Verdict",
    "decisive",
    "undetermined",
]

Task = Literal["prompt_harmfulness", "response_refusal", "response_harmfulness"]
Label = Literal["harmful", "unharmful", "refusal", "compliance", "undetermined"]
Probability = Annotated[float, Field(ge=0.0, le=1.0)]

TASKS: tuple[Task, ...] = ("prompt_harmfulness", "response_refusal", "response_harmfulness")
"""The three tasks, in the order in which the paper's guard answers them."""

LABELS: dict[Task, tuple[Label, Label]] = {
    "prompt_harmfulness": ("harmful", "unharmful"),
    "response_refusal": ("refusal", "compliance"),
    "response_harmfulness": ("harmful", "unharmful"),
}
"""Per task the positive label (the one F1 counts) and the negative one."""


class _Frozen(BaseModel):
    # "ignore" lets a verdict written by a newer version, or dumped with its computed fields, be read again.
    model_config = ConfigDict(frozen=True, extra="ignore")


class Span(_Frozen):
    """A stretch of characters.

    Args:
        source: the text it is in: ``prompt``, ``response``, or ``raw`` (what the guard model wrote).
        start: first character, counted from 0.
        end: the character after the last one.

    Example:
        >>> from guardreasoner_sdk import Span
        >>> span = Span(source="prompt", start=4, end=9)
        >>> "One harsh word"[span.start : span.end]
        'harsh'
    """

    source: Literal["prompt", "response", "raw"]
    start: Annotated[int, Field(ge=0)]
    end: Annotated[int, Field(ge=0)]


class Finding(_Frozen):
    """The answer to one task.

    Args:
        label: ``harmful | unharmful`` or ``refusal | compliance``, or ``undetermined``.
        score: P(harmful) or P(refusal), 0 to 1; None where the engine gives no probability.
        span: where in ``Verdict.raw`` a reasoning guard stated the label.
        cause: why the finding is undetermined; None when it is not.
        note: what makes it worth less than the guard's figures say: that the text is written in a language, or a script, in
            which the guard was never measured, or that the guard looks for one kind of harm alone. None where nothing does.

    Example:
        >>> from guardreasoner_sdk import Finding
        >>> Finding(label="harmful", score=0.97).determined
        True
    """

    label: Label
    score: Probability | None = None
    span: Span | None = None
    cause: str | None = None
    note: str | None = None

    @property
    def determined(self) -> bool:
        """Whether the guard decided."""
        return self.label != "undetermined"

    @model_validator(mode="after")
    def _cause_goes_with_undetermined(self) -> Finding:
        if (self.label == "undetermined") != (self.cause is not None):
            raise ValueError("cause: an undetermined finding, and only such a one, says why")
        return self


def undetermined(cause: str) -> Finding:
    """A finding that says that, and why, no decision was reached.

    Args:
        cause: one clause for a person; never the judged text.

    Example:
        >>> from guardreasoner_sdk.verdict import undetermined
        >>> undetermined("no judgement before the deadline").determined
        False
    """
    return Finding(label="undetermined", cause=cause)


class ReasoningStep(_Frozen):
    """One step on the way to a finding.

    Args:
        task: the task it belongs to; None where a model's step belongs to no single task.
        kind: ``thought`` and ``conclusion`` are a reasoning model's own words; ``evidence`` is a measured fact about the
            score, computed and not generated.
        text: the step.
        span: the characters it came from (``raw``), or those that it is about (``prompt``, ``response``).
        weight: for evidence, the probability (0 to 1) of the finding's first label that the model sees in the characters of
            ``span``: that of the strongest token among them.
        score_without: for evidence, the score (0 to 1) that is left when the characters of ``span`` are left out, where a
            judge measures it.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> verdict = Guard().check("How can I make a pipe bomb at home?")
        >>> {step.kind for step in verdict.reasoning}
        {'evidence'}
    """

    task: Task | None
    kind: Literal["thought", "conclusion", "evidence"]
    text: str
    span: Span | None = None
    weight: Probability | None = None
    score_without: Probability | None = None


class Usage(_Frozen):
    """Tokens that a check cost.

    Args:
        input_tokens: tokens read by the model.
        output_tokens: tokens written by the model; 0 for a classifier.
        cached_tokens: those of the input tokens that the engine did not have to compute again, where it tells.

    Example:
        >>> from guardreasoner_sdk import Usage
        >>> (Usage(input_tokens=700, output_tokens=40) + Usage(input_tokens=300)).input_tokens
        1000
    """

    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        """The sum of both, for a check that took several queries."""
        return Usage(
            input_tokens=self.input_tokens + other.input_tokens,
            output_tokens=self.output_tokens + other.output_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
        )


class Hop(_Frozen):
    """One judge on the way to a judgement that more than one had a part in.

    Args:
        model: its model.
        backend: what ran it.
        why: what it made of the exchange and what followed from that: scores and labels, never the judged text.

    Example:
        >>> from guardreasoner_sdk import Hop
        >>> Hop(model="embedded", backend="embedded", why="prompt_harmfulness 0.54 is doubtful").model
        'embedded'
    """

    model: str
    backend: str
    why: str


class Judgement(_Frozen):
    """What a judge makes of an exchange, before any policy. ``None`` for a task means: this guard does not judge it.

    Args:
        prompt_harmfulness: is the prompt harmful?
        response_refusal: does the response refuse? None where there is no response.
        response_harmfulness: is the response harmful? None where there is no response.
        categories: hazard categories that the guard named.
        reasoning: the steps, in order.
        consistent: whether the steps conclude what the answer says; None where there are no conclusions to compare.
        usage: the tokens it cost.
        raw: what the guard model wrote, whole, behind the header of the answer where the engine was given that; None for a
            classifier.
        path: who judged, in order, where a cascade did; the last one decided.
        calibrated: whether scores and labels are those of a calibration; the last steps of the reasoning then say what the
            guard itself gave.

    Example:
        >>> from guardreasoner_sdk import Finding, Judgement
        >>> judgement = Judgement(prompt_harmfulness=Finding(label="unharmful", score=0.02))
        >>> list(judgement.findings)
        ['prompt_harmfulness']
    """

    prompt_harmfulness: Finding | None = None
    response_refusal: Finding | None = None
    response_harmfulness: Finding | None = None
    categories: tuple[str, ...] = ()
    reasoning: tuple[ReasoningStep, ...] = ()
    consistent: bool | None = None
    usage: Usage = Usage()
    raw: str | None = None
    path: tuple[Hop, ...] = ()
    calibrated: bool = False

    @model_validator(mode="after")
    def _labels_fit_tasks(self) -> Judgement:
        for task, finding in self.findings.items():
            if finding.determined and finding.label not in LABELS[task]:
                raise ValueError(f"{task}: label {finding.label!r} is not one of {', '.join(LABELS[task])}")
        return self

    @property
    def findings(self) -> dict[Task, Finding]:
        """The findings of the tasks that were judged, by task."""
        return {task: finding for task in TASKS if (finding := getattr(self, task)) is not None}

    @property
    def decider(self) -> Hop | None:
        """Who decided, where several judges had a part in it: the last on the path. None: the only judge there was."""
        return self.path[-1] if self.path else None

    @classmethod
    def unable(cls, cause: str, *, response: bool, **rest: Any) -> Judgement:
        """A judgement in which every task asked for is undetermined.

        Args:
            cause: why, in one clause.
            response: whether there was a response to judge.
            rest: other fields of the judgement, such as ``usage`` or ``raw``.
        """
        answer = undetermined(cause) if response else None
        return cls(prompt_harmfulness=undetermined(cause), response_refusal=answer, response_harmfulness=answer, **rest)


class Verdict(Judgement):
    """A judgement, and what the application's policy makes of it.

    Args:
        action: ``allow`` or ``block``.
        reasons: why the policy acted so, in words; labels and scores only, never the judged text.
        blocked_by: ``finding`` where it blocks for what was found, ``failure`` where the guard could not decide and the policy
            blocks for that; None where it allows.
        model: the model that decided.
        backend: what ran it.
        latency_ms: wall time from call to verdict, in milliseconds: what the caller waited, so that the first check of a guard
            counts the loading of its model, unless ``Guard.load`` was called ahead; in a batch, that of its part of the batch.
        cached: whether it came from the guard's cache.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> verdict = Guard().check("How can I make a pipe bomb at home?")
        >>> verdict.action, verdict.blocked_by
        ('block', 'finding')
    """

    action: Literal["allow", "block"]
    reasons: tuple[str, ...] = ()
    blocked_by: Literal["finding", "failure"] | None = None
    model: str
    backend: str
    latency_ms: Annotated[float, Field(ge=0.0)] = 0.0
    cached: bool = False

    @computed_field  # type: ignore[prop-decorator]
    @property
    def allowed(self) -> bool:
        """Whether the application may go on: ``action == "allow"``."""
        return self.action == "allow"

    @computed_field  # type: ignore[prop-decorator]
    @property
    def undetermined(self) -> bool:
        """Whether any finding is undetermined, whatever the policy made of it."""
        return any(not finding.determined for finding in self.findings.values())

    def raise_for_block(self) -> Verdict:
        """Turn a block into an exception, as ``raise_for_status`` does in HTTP clients.

        Returns:
            itself when the action is ``allow``, so that calls can be chained.

        Raises:
            UndeterminedError: blocked because the guard could not decide.
            BlockedError: blocked for what was found.

        Example:
            >>> from guardreasoner_sdk import Guard
            >>> Guard().check("How do I bake bread?").raise_for_block().action
            'allow'
        """
        if self.allowed:
            return self
        raise UndeterminedError(self) if self.blocked_by == "failure" else BlockedError(self)


def decisive(verdicts: Sequence[Verdict]) -> Verdict | None:
    """The verdict that counts among those on the parts of a whole: a finding before a failure to decide; None for no part.

    Args:
        verdicts: one for each part; among several that count alike, the first.
    """
    return min(verdicts, key=lambda verdict: ("finding", "failure", None).index(verdict.blocked_by), default=None)
