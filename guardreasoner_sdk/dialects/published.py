"""The way of a judgement that most families share: ask, read each answer, and once more with reasoning where it is doubtful."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

from guardreasoner_sdk.dialects.answers import whole
from guardreasoner_sdk.dialects.base import Answer, JudgementProgram, Reasoning
from guardreasoner_sdk.dialects.probabilities import DOUBT, doubtful
from guardreasoner_sdk.dialects.single_label import Side, join_answers
from guardreasoner_sdk.dialects.wire import WireFormat, read_wire_format
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import Finding, Judgement, ReasoningStep, Task, Usage, undetermined

__all__ = ["TASK_OF", "PublishedDialect", "Reading", "SidesDialect", "check_policy"]

TASK_OF: Mapping[str, Task] = {"prompt": "prompt_harmfulness", "response": "response_harmfulness"}
"""What a family that gives one label judges of either part."""


def check_policy(policy_text: object) -> None:
    """Refuse a policy that is none.

    Raises:
        ConfigurationError: no text, or a blank one.
    """
    if policy_text is not None and (not isinstance(policy_text, str) or not policy_text.strip()):
        raise ConfigurationError("policy_text: must be text that says what counts as harmful; None: the family's own notion")


@dataclass(frozen=True, slots=True)
class Reading:
    """What one answer says.

    Args:
        findings: by task.
        categories: those that it names.
        reasoning: its steps.
    """

    findings: Mapping[Task, Finding]
    categories: tuple[str, ...] = ()
    reasoning: tuple[ReasoningStep, ...] = ()


class PublishedDialect(ABC):
    """What a family with a published format inherits: it says what to ask and how to read one answer.

    Attributes:
        name: as in ``Guard(dialect=...)``.
        judges: the tasks that it can be asked about.
        wire: the file of its request, where that is published as a text; None where the model's own chat template writes it.
        request: the request, of a family whose authors' words are not in this package; None: :attr:`wire` has it.
        modes: what it can do of ``reasoning``; ``auto`` is always among them, and reasons where the answer without reasoning
            is doubtful, for a family that can do both.
    """

    name: str
    judges: tuple[Task, ...]
    wire: str | None = None
    request: WireFormat | None = None
    modes: tuple[Reasoning, ...] = ("auto", "off")

    @property
    def published(self) -> WireFormat:
        """The request, for a family that has :attr:`wire`."""
        return self.request or read_wire_format(self.wire or self.name)

    @property
    def wire_format(self) -> str | None:
        """Where the request is published; None where the model's own chat template writes it."""
        return None if self.wire is None else self.published.source

    @abstractmethod
    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Mapping[str, Query]:
        """What to ask, by title. None of it where there is nothing in the exchange that the family judges.

        Args:
            exchange: what is judged.
            reasoning: ``full``, ``brief`` or ``off``, or ``auto`` where the family has one way only.
            capabilities: what the engine can do.
        """

    @abstractmethod
    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read an answer.

        Args:
            title: which query it answers.
            query: the query itself.
            answer: what the model wrote, with its reasoning.
            exchange: what was judged.
            start: where the answer begins in the judgement's raw text.
        """

    def tasks(self, title: str, exchange: Exchange) -> tuple[Task, ...]:
        """What a query asks about.

        Args:
            title: of the query.
            exchange: what is judged.
        """
        return tuple(task for task in exchange.tasks if task in self.judges)

    def ask(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> JudgementProgram:
        """Begin a judgement.

        Args:
            exchange: what is judged.
            reasoning: how much to reason; what the family cannot do is refused where a guard is made.
            capabilities: what the engine can do.
        """
        if reasoning not in self.modes:
            reasoning = "auto"
        both = {"off", "full"} <= set(self.modes)
        first = "off" if reasoning == "auto" and both else reasoning
        queries = dict(self.queries(exchange, first, capabilities))
        if not queries:
            return Judgement(prompt_harmfulness=undetermined(f"{self.name} judges responses alone, and there is none"))
        answers: dict[str, Answer] = dict(zip(queries, (yield tuple(queries.values())), strict=True))
        spent = Usage()
        if reasoning == "auto" and both:
            again = [title for title in queries if self._is_doubtful(title, queries[title], answers[title], exchange)]
            longer = self.queries(exchange, "full", capabilities) if again else {}
            second = (yield tuple(longer[title] for title in again)) if again else []
            for title, answer in zip(again, second, strict=True):
                before = answers[title]
                if isinstance(answer, Completion) and isinstance(before, Completion):
                    answers[title], queries[title] = answer, longer[title]
                    spent += before.usage
        return self._judgement(queries, answers, exchange, spent)

    def _is_doubtful(self, title: str, query: Query, answer: Answer, exchange: Exchange) -> bool:
        if not isinstance(answer, Completion):
            return False
        reading = self.read(title, query, whole(answer), exchange, 0)
        return any(doubtful(finding, DOUBT) for finding in reading.findings.values())

    def _judgement(
        self, queries: Mapping[str, Query], answers: Mapping[str, Answer], exchange: Exchange, spent: Usage
    ) -> Judgement:
        complete = {title: whole(answer) if isinstance(answer, Completion) else answer for title, answer in answers.items()}
        sheet = join_answers(complete)
        findings: dict[Task, Finding] = {}
        categories: list[str] = []
        steps: list[ReasoningStep] = []
        for title, answer in complete.items():
            if isinstance(answer, BackendError):
                findings |= dict.fromkeys(self.tasks(title, exchange), undetermined(str(answer)))
                continue
            reading = self.read(title, queries[title], answer, exchange, sheet.starts[title])
            findings |= reading.findings
            categories += reading.categories
            steps += reading.reasoning
        return Judgement(
            **findings,
            categories=tuple(dict.fromkeys(categories)),
            reasoning=tuple(steps),
            usage=sheet.usage + spent,
            raw=sheet.raw,
        )


class SidesDialect(PublishedDialect):
    """A family that gives one label: the prompt and the response are a query each."""

    judges: tuple[Task, ...] = ("prompt_harmfulness", "response_harmfulness")

    @abstractmethod
    def query(self, side: Side, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> Query:
        """Ask about one part.

        Args:
            side: ``prompt`` or ``response``.
            exchange: what is judged.
            reasoning: ``full``, ``brief`` or ``off``, or ``auto`` where the family has one way only.
            capabilities: what the engine can do.
        """

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for each part that there is and that the family judges."""
        sides: tuple[Side, ...] = ("prompt", "response")
        there = [side for side in sides if TASK_OF[side] in self.judges and TASK_OF[side] in exchange.tasks]
        return {side: self.query(side, exchange, reasoning, capabilities) for side in there}

    def tasks(self, title: str, exchange: Exchange) -> tuple[Task, ...]:
        """The part's own task."""
        return (TASK_OF[title],)
