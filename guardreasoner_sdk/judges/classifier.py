"""The judge that asks a sequence classifier: a label map says what its outputs mean, an engine gives them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from guardreasoner_sdk.backends.classifier import ClassifierBackend
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.label_map import LabelMap, Meanings
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Logits, Passage, Window
from guardreasoner_sdk.verdict import LABELS, Finding, Judgement, ReasoningStep, Span, Task, Usage, undetermined

__all__ = ["ClassifierJudge"]

_NO_NUMBER = "the model gave no number for the text"


class ClassifierJudge:
    """Judges by a sequence classifier: a model that gives each of its labels a number, and writes nothing.

    ``Guard(model)`` builds one; make it yourself for weights and a label map of your own::

        labels = LabelMap(labels={"LABEL_0": "unharmful", "LABEL_1": "harmful"})
        Guard(judge=ClassifierJudge(TransformersClassifier("/models/mine", labels, Classifier())))

    What the label map does not judge is None. Text that is longer than a window is read in overlapping ones: the most harmful
    decides on harm, the first one on a refusal, which an answer states at its beginning. Earlier turns are not read. An output
    that is no number is undetermined, and so is a text in which the model reads nothing.

    The reasons it gives are measurements: the probability, the threshold, and the window where a text has several.

    Args:
        backend: what runs the classifier.
        reasoning: ``auto`` and ``brief`` give reasons where a finding is harmful or a refusal, ``full`` for every finding,
            ``off`` for none.

    Raises:
        ConfigurationError: one of these that it cannot work with.

    Example:
        >>> from guardreasoner_sdk import ClassifierJudge, Guard
        >>> from guardreasoner_sdk.backends.classifier import TransformersClassifier
        >>> from guardreasoner_sdk.backends.options import Classifier
        >>> from guardreasoner_sdk.dialects.label_map import label_maps
        >>> backend = TransformersClassifier("unitary/toxic-bert", label_maps()["detoxify"], Classifier(), name="toxic-bert")
        >>> Guard(judge=ClassifierJudge(backend)).judge.model
        'toxic-bert'
    """

    keeps_deadline = True
    look_back = 200
    """Of an answer in a stream: harm is found in what was said last, too, since windows overlap."""

    def __init__(self, backend: ClassifierBackend, *, reasoning: Reasoning = "auto") -> None:
        if not isinstance(backend, ClassifierBackend):
            raise ConfigurationError(
                f"backend: must be an engine for classifiers such as TransformersClassifier(...), not {type(backend).__name__}"
            )
        if reasoning not in get_args(Reasoning):
            raise ConfigurationError(f"reasoning: must be one of {', '.join(get_args(Reasoning))}, not {reasoning!r}")
        self._backend = backend
        self._reasoning = reasoning

    @property
    def model(self) -> str:
        """Name of the model."""
        return self._backend.model

    @property
    def backend(self) -> str:
        """Name of the engine."""
        return self._backend.name

    @property
    def labels(self) -> LabelMap:
        """How the model is read."""
        return self._backend.labels

    @property
    def batch_size(self) -> int:
        """How many exchanges to hand over at a time."""
        return 4 * self._backend.batch_size

    async def load(self) -> None:
        """Load the model now, and not with the first check.

        Raises:
            ConfigurationError: it cannot be loaded.
        """
        await self._backend.load()

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges together. What is not decided before the deadline is undetermined.

        Args:
            exchanges: what is judged.
            deadline: time on ``time.monotonic()`` after which nobody waits any more, or None.

        Raises:
            ConfigurationError: the engine cannot work at all.
        """
        asked = [self.labels.passages(exchange) for exchange in exchanges]
        # A text that several tasks are about is read once.
        passages = list(dict.fromkeys(passage for by_task in asked for passage in by_task.values()))
        answers = dict(zip(passages, await self._backend.classify(passages, deadline=deadline), strict=True))
        return [self._judgement(by_task, answers) for by_task in asked]

    async def aclose(self) -> None:
        """Free the engine."""
        await self._backend.aclose()

    def _judgement(self, asked: Mapping[Task, Passage], answers: Mapping[Passage, Logits | BackendError]) -> Judgement:
        findings: dict[Task, Finding] = {}
        steps: list[ReasoningStep] = []
        categories: dict[str, None] = {}
        usage = Usage()
        for passage in dict.fromkeys(asked.values()):
            answer = answers[passage]
            usage += Usage() if isinstance(answer, BackendError) else answer.usage
        for task, passage in asked.items():
            answer = answers[passage]
            if isinstance(answer, BackendError):
                findings[task] = undetermined(str(answer))
                continue
            findings[task], named, said = self._found(task, answer)
            categories |= dict.fromkeys(named)
            steps += said
        return Judgement(**findings, categories=tuple(categories), reasoning=tuple(steps), usage=usage)

    def _found(self, task: Task, answer: Logits) -> tuple[Finding, tuple[str, ...], list[ReasoningStep]]:
        meanings = self._backend.meanings
        read = [meanings.probabilities(window.logits) for window in answer.windows]
        windows = [(window, chances) for window, chances in zip(answer.windows, read, strict=True) if chances is not None]
        if len(windows) < len(read):
            # Whatever the other windows say: a model that fails on a part of a text has not judged it.
            return undetermined(_NO_NUMBER), (), []
        refusal = task == "response_refusal"
        scores = [meanings.score(chances, "refusal" if refusal else "harmful") for _, chances in windows]
        strongest = 0 if refusal else max(range(len(scores)), key=scores.__getitem__)
        window, chances = windows[strongest]
        score = scores[strongest]
        positive = score >= meanings.threshold
        note = None
        if not positive and not refusal and self.labels.looks_for is not None:
            note = f"the model looks for {self.labels.looks_for} alone, and says nothing of other harm"
        finding = Finding(label=LABELS[task][0 if positive else 1], score=score, note=note)
        named = meanings.categories(chances) if positive and not refusal else ()
        if self._reasoning == "off" or (not positive and self._reasoning != "full"):
            return finding, named, []
        return finding, named, [_step(task, score, meanings, window, strongest, len(windows))]


def _step(task: Task, score: float, meanings: Meanings, window: Window, number: int, count: int) -> ReasoningStep:
    source: Literal["prompt", "response"] = "prompt" if task == "prompt_harmfulness" else "response"
    where = f" in window {number + 1} of {count}" if count > 1 else ""
    return ReasoningStep(
        task=task,
        kind="evidence",
        text=f"P({LABELS[task][0]}) of the {source} is {score:.2f}{where}; the label changes at {meanings.threshold:.2f}.",
        span=Span(source=source, start=window.start, end=window.end) if count > 1 else None,
        weight=score,
    )
