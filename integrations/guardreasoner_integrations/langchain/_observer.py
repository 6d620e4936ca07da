"""What callback handlers see: which run, which text, and which prompt an answer belongs to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from guardreasoner_integrations.langchain._messages import call_lines
from guardreasoner_integrations.langchain._questions import Prompt, Question, Stage, answer_of, entry_of, prompt_of, read_answer
from guardreasoner_sdk._content import Call
from guardreasoner_sdk._forks import Lock

__all__ = ["ObservedRun", "Observer", "Sight"]


@dataclass(frozen=True, slots=True)
class ObservedRun:
    """The run that a verdict of a callback handler is about.

    Args:
        stage: what was judged: a model's ``input`` or ``output``, or a tool's: ``tool_args`` or ``tool_result``.
        run_id: the run's id, the one that tracers show.
        parent_run_id: the run that it is part of.
        tags: the run's tags.
        metadata: the run's metadata.
    """

    stage: Stage
    run_id: UUID
    parent_run_id: UUID | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sight:
    """Something to judge, and the run in which it was seen."""

    run: ObservedRun
    questions: tuple[Question, ...]


class Observer:
    """Turns events into questions. Remembers a run's prompt until its answer comes; pure, but for that.

    Args:
        stages: what to judge.
        runs: most runs to remember; a run that neither ends nor fails is forgotten at the end.
    """

    def __init__(self, stages: Collection[Stage], *, runs: int) -> None:
        self._stages = frozenset(stages)
        self._most = runs
        self._lock = Lock()
        self._runs: OrderedDict[UUID, tuple[ObservedRun, Prompt]] = OrderedDict()
        self._calls: OrderedDict[object, Prompt] = OrderedDict()

    def __len__(self) -> int:
        """How many runs are under way."""
        return len(self._runs)

    def model_starts(self, messages: Sequence[BaseMessage], about: Mapping[str, Any]) -> Sight | None:
        """A chat model is about to be asked."""
        return self._starts(prompt_of(messages), about)

    def llm_starts(self, prompt: str, about: Mapping[str, Any]) -> Sight | None:
        """A plain language model is about to be asked."""
        return self._starts(Prompt(prompt), about)

    def model_ends(self, result: LLMResult, about: Mapping[str, Any]) -> Sight | None:
        """A model of either kind has answered, with one or several candidates."""
        with self._lock:
            known = self._runs.pop(about["run_id"], None)
        run, prompt = known or (_run("output", about), Prompt(""))
        answers = [generation for candidates in result.generations for generation in candidates]
        if "tool_args" in self._stages:
            self._remember(answers, prompt)
        if "output" not in self._stages:
            return None
        return Sight(
            replace(run, stage="output"),
            tuple(
                Question(
                    prompt, answer_of([answer.message]) if isinstance(answer, ChatGeneration) else read_answer(answer.text)
                )
                for answer in answers
            ),
        )

    def tool_starts(self, text: str, about: Mapping[str, Any]) -> Sight | None:
        """A tool is about to be called. What it is given is judged as an answer, for a model wrote it: to what the model was
        asked, where its call of this tool was seen.

        Args:
            text: the arguments as text, for tools that take a str.
            about: the run, the tool's name among it, and its ``inputs``.
        """
        if "tool_args" not in self._stages:
            return None
        with self._lock:
            prompt = self._calls.pop(about.get("tool_call_id"), Prompt(""))
        inputs = about.get("inputs")
        given = Call(str(about.get("tool") or ""), text if inputs is None else inputs, "")
        return Sight(_run("tool_args", about), (Question(prompt, read_answer(call_lines(given))),))

    def tool_ends(self, output: Any, about: Mapping[str, Any]) -> Sight | None:
        """A tool has returned. What it returns is judged as a prompt: a model is about to read it."""
        if "tool_result" not in self._stages:
            return None
        prompt = entry_of(output, ()) if isinstance(output, BaseMessage) else Prompt(str(output))
        return Sight(_run("tool_result", about), (Question(prompt),))

    def _remember(self, answers: Sequence[Generation], prompt: Prompt) -> None:
        """Note which prompt each tool call of an answer belongs to; tools are called later, in runs of their own."""
        for answer in answers:
            for call in getattr(getattr(answer, "message", None), "tool_calls", ()):
                with self._lock:
                    self._calls[call["id"]] = prompt
                    if len(self._calls) > self._most:
                        self._calls.popitem(last=False)

    def fails(self, run_id: UUID) -> None:
        """A run will not end: forget its prompt."""
        with self._lock:
            self._runs.pop(run_id, None)

    def _starts(self, prompt: Prompt, about: Mapping[str, Any]) -> Sight | None:
        run = _run("input", about)
        if not self._stages.isdisjoint({"output", "tool_args"}):
            with self._lock:
                self._runs[run.run_id] = (run, prompt)
                if len(self._runs) > self._most:
                    self._runs.popitem(last=False)
        return Sight(run, (Question(prompt),)) if "input" in self._stages else None


def _run(stage: Stage, about: Mapping[str, Any]) -> ObservedRun:
    return ObservedRun(
        stage, about["run_id"], about.get("parent_run_id"), tuple(about.get("tags") or ()), dict(about.get("metadata") or {})
    )
