"""What a guard is asked about LangChain's messages, and what its answers mean.

One rule for agents, chains, callbacks and graphs: the prompt is the human's last turn, all that the human said since the model
or a tool spoke; what stands before it is history; an answer is judged together with the prompt.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, Literal, TypeAlias, TypeGuard, TypeVar

from langchain_core.messages import BaseMessage

from guardreasoner_integrations.langchain._messages import (
    arguments_of,
    from_human,
    images_in,
    text_of,
    turn_at,
    turns,
    unread_parts,
)
from guardreasoner_sdk import ConfigurationError, Guard, Judgement, Policy, Verdict, VerdictError, trampoline
from guardreasoner_sdk._unescaping import second_reading
from guardreasoner_sdk.exchange import Turn, has_visible_text
from guardreasoner_sdk.images import Image
from guardreasoner_sdk.judges.base import sees_images
from guardreasoner_sdk.verdict import decisive, undetermined

__all__ = [
    "ModelAnswer",
    "Prompt",
    "Question",
    "Stage",
    "Steps",
    "ajudge",
    "answer_of",
    "arun_steps",
    "blocks",
    "can_block",
    "entry_of",
    "error_of",
    "judge",
    "prompt_of",
    "read_answer",
    "run_steps",
    "should_check",
    "whole",
]

T = TypeVar("T")

Stage = Literal["input", "output", "tool_args", "tool_result"]
"""Where something is judged: what the human says, what the model says, what it hands to tools, what tools return."""

NO_TEXT = "[no text]"
"""The prompt of an answer whose prompt has no text: an answer is judged all the same."""


@dataclass(frozen=True, slots=True)
class Prompt:
    """What a model is asked, or is about to read.

    Args:
        text: its text; empty where it has none.
        unread: the types of its parts that are not text, for example ``image``.
        history: the turns before it.
        alone: what of the text is said, where something stands beside it.
        images: those of its parts that a guard which sees is shown, before the text.
        unseen: the types of the parts that such a guard does not see, either.
    """

    text: str
    unread: tuple[str, ...] = ()
    history: tuple[Turn, ...] = ()
    alone: str = ""
    images: tuple[Image, ...] = ()
    unseen: tuple[str, ...] = ()

    @property
    def stated(self) -> str:
        """The text to judge an answer with."""
        return next((text for text in (self.alone, self.text) if has_visible_text(text)), NO_TEXT)


@dataclass(frozen=True, slots=True)
class ModelAnswer:
    """What a model answers.

    Args:
        text: its text; empty where it has none.
        unread: the types of its parts that are not text.
        alone: what of the text is said, where something stands beside it, such as reasoning.
    """

    text: str
    unread: tuple[str, ...] = ()
    alone: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """One thing to judge: the prompt or, where there is an answer, the answer to it."""

    prompt: Prompt
    answer: ModelAnswer | None = None

    @property
    def judged(self) -> Prompt | ModelAnswer:
        """What of it is new."""
        return self.prompt if self.answer is None else self.answer

    def rows(self, *, see: bool) -> list[Mapping[str, Any]]:
        """What the guard takes: what is said, and all that is there; none where there is nothing to judge. Both count: enough
        harmless text beside what is said would hide harm in it.

        Args:
            see: whether it judges images.
        """
        images = self.prompt.images if see else ()
        texts = dict.fromkeys(text for text in (self.judged.alone, self.judged.text) if has_visible_text(text))
        history = self.prompt.history
        if self.answer is None:
            asked = list(texts) or ([""] if images else [])
            return [{"prompt": text, "response": None, "history": history, "images": images} for text in asked]
        return [{"prompt": self.prompt.stated, "response": text, "history": history, "images": images} for text in texts]

    def unread(self, *, see: bool) -> tuple[str, ...]:
        """The types of the parts of what is new that are not judged.

        Args:
            see: whether the guard judges images.
        """
        return self.prompt.unseen if see and self.answer is None else self.judged.unread


def prompt_of(messages: Sequence[BaseMessage]) -> Prompt:
    """The human's last turn, its messages joined by blank lines. Where no human speaks, whatever is there is the prompt."""
    last = max((place for place, message in enumerate(messages) if from_human(message)), default=None)
    if last is None:
        return _prompt(messages, ())
    turn = turn_at(messages, last)
    before = [message for place, message in enumerate(messages[:last]) if place not in turn]
    return _prompt([messages[place] for place in turn], before)


def entry_of(message: BaseMessage, before: Sequence[BaseMessage]) -> Prompt:
    """A message that a model is about to read, whoever it is from: a tool's result."""
    return _prompt([message], before)


def answer_of(
    messages: Sequence[BaseMessage], *, text: bool = True, answered: Container[str | None] | None = None
) -> ModelAnswer:
    """What a model says, and what it hands to tools.

    Args:
        answered: the ids of the tool calls to take; None: all.
    """
    whole, alone = (
        _joined(
            [
                part
                for message in messages
                for part in (text_of(message, alone=alone) if text else "", arguments_of(message, answered, every=not text))
            ]
        )
        for alone in (False, True)
    )
    return read_answer(whole, tuple(kind for message in messages for kind in unread_parts(message)) if text else (), alone)


def read_answer(text: str, unread: tuple[str, ...] = (), alone: str = "") -> ModelAnswer:
    """An answer as it stands and, where that is another text, as somebody reads it who parses JSON in it.

    Args:
        unread: the types of its parts that are not text.
    """
    both, first = (_joined([each, second_reading(each)]) for each in (text, alone))
    return ModelAnswer(both, unread, "" if first == both else first)


def can_block(policy: Policy, *, response: bool) -> bool:
    """Whether a policy can block by what an answer (or else a prompt) is."""
    return policy.blocks_responses if response else policy.blocks_prompts


def should_check(policy: Policy, option: str, asked: bool | None, *, response: bool) -> bool:
    """Whether to make a check.

    Args:
        asked: what the application says; None: where the policy can block by it.

    Raises:
        ConfigurationError: it is asked for, and the policy never blocks by it.
    """
    possible = can_block(policy, response=response)
    if asked and not possible:
        finding = "harmful_response" if response else "harmful_prompt"
        raise ConfigurationError(f"{option}: the guard's policy never blocks by it; put {finding!r} into Policy(block=...)")
    return possible if asked is None else asked


def judge(guard: Guard, questions: Sequence[Question]) -> list[Verdict | None]:
    """Judge in one batch; None where there is nothing to judge."""
    rows = _rows(guard, questions)
    return _settled(guard, questions, rows, guard.check_many([row for each in rows for row in each]))


async def ajudge(guard: Guard, questions: Sequence[Question]) -> list[Verdict | None]:
    """:func:`judge` for asyncio."""
    rows = _rows(guard, questions)
    return _settled(guard, questions, rows, await guard.acheck_many([row for each in rows for row in each]))


def _rows(guard: Guard, questions: Sequence[Question]) -> list[list[Mapping[str, Any]]]:
    see = sees_images(guard.judge)
    return [question.rows(see=see) for question in questions]


Steps: TypeAlias = trampoline.Steps[Sequence[Question], T]
"""What is to be done, whoever waits for it; it yields questions and is sent the verdicts."""


def run_steps(guard: Guard, steps: Steps[T]) -> T:
    """Do what the steps say; returns what they return."""
    return trampoline.run(steps, partial(judge, guard))


async def arun_steps(guard: Guard, steps: Steps[T]) -> T:
    """:func:`run_steps` for asyncio."""
    return await trampoline.arun(steps, partial(ajudge, guard))


def blocks(verdict: Verdict | None) -> TypeGuard[Verdict]:
    """Whether there is a verdict, and it blocks."""
    return verdict is not None and not verdict.allowed


def error_of(verdict: Verdict | None) -> VerdictError | None:
    """The exception that a verdict stands for; None where it allows."""
    try:
        if verdict is not None:
            verdict.raise_for_block()
    except VerdictError as error:
        return error
    return None


def whole(guard: Guard, question: Question, verdict: Verdict | None) -> Verdict | None:
    """What a verdict on the text of a question means for the whole. A harmless caption does not make a harmless image.

    Args:
        verdict: on its text; None where it has none.
    """
    kinds = sorted(set(question.unread(see=sees_images(guard.judge))))
    if not kinds or blocks(verdict):
        return verdict
    unread = undetermined(f"it holds {', '.join(kinds)}, which is not text")
    tasks = ("prompt_harmfulness",) if question.answer is None else ("response_refusal", "response_harmfulness")
    found = {} if verdict is None else {name: getattr(verdict, name) for name in Judgement.model_fields}
    return guard.policy.verdict(
        Judgement.model_validate({**found, **dict.fromkeys(tasks, unread)}),
        response=question.answer is not None,
        model=guard.judge.model if verdict is None else verdict.model,
        backend=guard.judge.backend if verdict is None else verdict.backend,
        latency_ms=0.0 if verdict is None else verdict.latency_ms,
        cached=verdict is not None and verdict.cached,
    )


def _settled(
    guard: Guard, questions: Sequence[Question], rows: Sequence[Sequence[object]], verdicts: Sequence[Verdict]
) -> list[Verdict | None]:
    given = iter(verdicts)
    own = [decisive(list(islice(given, len(each)))) for each in rows]
    return [whole(guard, question, verdict) for question, verdict in zip(questions, own, strict=True)]


def _prompt(messages: Sequence[BaseMessage], before: Sequence[BaseMessage]) -> Prompt:
    text, alone = (
        _joined([part for message in messages for part in (text_of(message, alone=alone), arguments_of(message))])
        for alone in (False, True)
    )
    unread = tuple(kind for message in messages for kind in unread_parts(message))
    seen = [images_in(message) for message in messages] if unread else []
    images = tuple(image for shown, _ in seen for image in shown)
    unseen = tuple(kind for _, left in seen for kind in left)
    return Prompt(text, unread, tuple(turns(before)), "" if alone == text else alone, images, unseen)


def _joined(parts: Sequence[str]) -> str:
    return "\n\n".join(part for part in parts if has_visible_text(part))
