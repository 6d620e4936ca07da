"""What a judgement means for the application: allow or block, and what a failure to decide means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardreasoner_sdk._text import quote_value
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import has_visible_text
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, Task, Verdict

__all__ = ["Decision", "Policy"]

Blockable = Literal["harmful_prompt", "harmful_response", "refusal"]

_TASKS: dict[Blockable, Task] = {
    "harmful_prompt": "prompt_harmfulness",
    "harmful_response": "response_harmfulness",
    "refusal": "response_refusal",
}


class Decision(BaseModel):
    """What the policy decided, and why.

    Args:
        action: ``allow`` or ``block``; ``raise`` where a finding is undetermined and the policy wants an exception.
        reasons: one clause for each finding that mattered; never the judged text.
        blocked_by: what stands against it: a ``finding``, or the guard's ``failure`` to decide; None for ``allow``.

    Example:
        >>> from guardreasoner_sdk import Policy
        >>> from guardreasoner_sdk.testing import judgement
        >>> Policy().decide(judgement("harmful"), response=False).reasons
        ('prompt_harmfulness is harmful (score 1.00)',)
    """

    model_config = ConfigDict(frozen=True)

    action: Literal["allow", "block", "raise"]
    reasons: tuple[str, ...] = ()
    blocked_by: Literal["finding", "failure"] | None = None


_Score = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]  # True is not a score


class Policy(BaseModel):
    """When to block. Immutable; share one between guards.

    Args:
        block: the findings that block: any of ``harmful_prompt``, ``harmful_response`` and ``refusal``.
        min_score: block only where the finding's score (0 to 1) is at least this. A finding without a score counts by its
            label alone. None: by label. A number below the model's own threshold does not make a finding out of none:
            with ``min_score`` the score alone decides. A mapping says it by task, ``{"prompt_harmfulness": 0.7}``; a task
            that it does not name counts by label.
        on_undetermined: what happens where a finding that could block is undetermined: ``"block"`` (default), ``"allow"``
            (it shows in ``Verdict.reasons`` and in the log) or ``"raise"``.
        on_unmeasured: what a finding is worth that has a ``note``: the guard was never measured on such text, for the language
            that it is written in, or it looks for one kind of harm alone and found none of that. ``"judge"`` (default) takes
            it as it is, ``"undetermined"`` makes it an undetermined one, whatever was found.
        on_block: what takes the place of a blocked answer where an application is wrapped (streams, decorators, other
            frameworks): ``"raise"`` an exception, or ``"message"``. Whoever calls ``check`` reads the verdict instead.
        message: that message. It must hold a visible character.

    Raises:
        ConfigurationError: an unknown name or value.

    Example:
        >>> from guardreasoner_sdk import Guard, Policy
        >>> lenient = Policy(block={"harmful_response"}, on_undetermined="allow")
        >>> Guard(policy=lenient).check("How can I make a pipe bomb at home?").allowed
        True
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    block: frozenset[Blockable] = frozenset({"harmful_prompt", "harmful_response"})
    min_score: _Score | dict[Task, _Score] | None = None
    on_undetermined: Literal["block", "allow", "raise"] = "block"
    on_unmeasured: Literal["judge", "undetermined"] = "judge"
    on_block: Literal["raise", "message"] = "raise"
    message: Annotated[str, Field(pattern=r"\S")] = "I'm sorry, but I can't help with that."

    def __init__(self, **values: Any) -> None:
        if isinstance(values.get("message"), str) and not has_visible_text(values["message"]):
            raise ConfigurationError("Policy(message): must hold a visible character")
        try:
            super().__init__(**values)
        except ValidationError as error:
            first = error.errors()[0]
            if first["loc"][0] == "min_score":
                raise ConfigurationError(_no_score(values["min_score"])) from None
            where = ".".join(str(part) for part in first["loc"])
            raise ConfigurationError(f"Policy({where}): {first['msg']}") from None

    def __hash__(self) -> int:
        scores = frozenset(self.min_score.items()) if isinstance(self.min_score, dict) else self.min_score
        return hash((self.block, scores, self.on_undetermined, self.on_unmeasured, self.on_block, self.message))

    @property
    def blocks_prompts(self) -> bool:
        """Whether it can block by what a prompt is."""
        return "harmful_prompt" in self.block

    @property
    def blocks_responses(self) -> bool:
        """Whether it can block by what a response is."""
        return not self.block.isdisjoint({"harmful_response", "refusal"})

    def decide(self, judgement: Judgement, *, response: bool) -> Decision:
        """Decide on a judgement.

        Something harmful that was found blocks, whatever else is undetermined. Where the last part of the exchange (the
        response, or the prompt when there is none) was not judged at all although it could block, that counts as
        undetermined: a guard that does not look is not a guard that finds nothing.

        Args:
            judgement: what the judge found.
            response: whether the exchange had a response.
        """
        return self._decided(self._taken(judgement), response=response)

    def _decided(self, judgement: Judgement, *, response: bool) -> Decision:
        """:meth:`decide` on what this policy believes of a judgement."""
        found, unsure = [], []
        last: Blockable = "harmful_response" if response else "harmful_prompt"
        for name in sorted(self.block):
            task = _TASKS[name]
            finding: Finding | None = getattr(judgement, task)
            if finding is None:
                if name == last:
                    unsure.append(f"{task} was not judged by this guard")
            elif not finding.determined:
                unsure.append(f"{task} is undetermined ({finding.cause})")
            elif self._counts(task, finding):
                score = "" if finding.score is None else f" (score {finding.score:.2f})"
                found.append(f"{task} is {LABELS[task][0]}{score}")
        if found:
            return Decision(action="block", reasons=(*found, *unsure), blocked_by="finding")
        if unsure:
            return Decision(
                action=self.on_undetermined,
                reasons=tuple(f"{reason}; on_undetermined={self.on_undetermined!r}" for reason in unsure),
                blocked_by=None if self.on_undetermined == "allow" else "failure",
            )
        return Decision(action="allow")

    def insists(self, verdict: Verdict) -> bool:
        """Whether a verdict is to be raised, whatever an application does about blocks otherwise.

        Args:
            verdict: one of this policy's.
        """
        return verdict.blocked_by == "failure" and self.on_undetermined == "raise"

    def verdict(self, judgement: Judgement, *, response: bool, **rest: Any) -> Verdict:
        """Make a verdict of a judgement. Its action is ``block`` where the decision is ``raise``.

        Args:
            judgement: what the judge found.
            response: whether the exchange had a response.
            rest: the verdict's other fields: ``model``, ``backend`` and the like.
        """
        judgement = self._taken(judgement)
        decision = self._decided(judgement, response=response)
        action: Literal["allow", "block"] = "allow" if decision.action == "allow" else "block"
        # Both parts were validated when they were made.
        return Verdict.model_construct(
            **dict(judgement), action=action, reasons=decision.reasons, blocked_by=decision.blocked_by, **rest
        )

    def _taken(self, judgement: Judgement) -> Judgement:
        """The judgement, with those findings undetermined that this policy does not believe."""
        if self.on_unmeasured == "judge":
            return judgement
        doubtful: dict[str, Any] = {
            task: Finding(label="undetermined", cause=finding.note, note=finding.note)
            for task, finding in judgement.findings.items()
            if finding.determined and finding.note is not None
        }
        return judgement.model_copy(update=doubtful) if doubtful else judgement

    def _counts(self, task: Task, finding: Finding) -> bool:
        least = self.min_score.get(task) if isinstance(self.min_score, dict) else self.min_score
        if least is not None and finding.score is not None:
            return finding.score >= least
        return finding.label == LABELS[task][0]


def _no_score(given: object) -> str:
    fix = "pass a number from 0 to 1, or a mapping by task, such as {'prompt_harmfulness': 0.7}"
    unknown = next((task for task in given if task not in TASKS), None) if isinstance(given, Mapping) else None
    if unknown is not None:
        return f"Policy(min_score): {quote_value(unknown)} is not a task; use any of {', '.join(TASKS)}"
    return f"Policy(min_score): is not a score, or none for each task; {fix}"
