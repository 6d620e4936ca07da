"""The guard inside the package: a small encoder that scores each token, run by onnxruntime. No download, no GPU."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from guardreasoner_sdk._arguments import check_count
from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._forks import Lock, abandon, renew_after_fork
from guardreasoner_sdk.dialects.hazards import hazard
from guardreasoner_sdk.errors import BackendError, ConfigurationError, DeadlineError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.evidence import evidence, probability
from guardreasoner_sdk.judges.model_folder import OUTPUTS, Model, shared_model
from guardreasoner_sdk.judges.windows import Check, JudgedExchange, Part, Seen, read_rows
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, ReasoningStep, Task, Usage, undetermined

if TYPE_CHECKING:
    import numpy as np

__all__ = ["DEFAULT_FOLDER", "EmbeddedJudge", "ReasoningMode"]

ReasoningMode = Literal["auto", "full", "brief", "off"]

DEFAULT_FOLDER = Path(__file__).parent.parent / "assets" / "embedded"

_KEPT = 256
"""Windows whose outputs are kept while exchanges are judged: about a megabyte."""

_UNREADABLE = "the model reads nothing in the text"
_CUT_SHORT = "The time was up before it was found which passages carry it."


class EmbeddedJudge:
    """Judges with the model inside the package, or with one of the same make from a folder.

    Each token of a text gets a score, and the strongest decide, so that a harmful line is found wherever it stands. The
    prompt is judged on its own, so that no response can change what is found about it; a response is judged after its
    prompt. Where there are earlier turns of the user or the assistant, the prompt is judged alone and again behind the last
    of them, which are read and not judged, and the more harmful score counts; a short prompt is read once more behind the
    user's turns alone, from which it may go on. What the application says itself, as the
    system or as a tool, is not read. Long text is cut into overlapping windows: the most harmful one decides on harm, the
    first one on refusal, which an answer states at its beginning. Where a text of several sentences leaves a doubt, the two
    strongest are read again, each by itself, since a sentence scores less among others than alone.

    The reasons it gives are measurements, not a chain of thought: the score, and the passages that score highest.

    Args:
        folder: where ``model.onnx``, ``tokenizer.model`` and ``config.json`` lie; default: the package's own.
        reasoning: ``auto`` and ``brief`` name passages where a finding is harmful or a refusal, ``full`` for every
            finding, ``off`` for none (score and category alone).
        threads: windows of text judged at a time, each on one core; default: the cores this process may use.

    Raises:
        ConfigurationError: arguments that cannot work; and when the model is loaded, on first use: a file is missing or
            damaged.

    Example:
        >>> from guardreasoner_sdk import EmbeddedJudge, Guard
        >>> Guard(judge=EmbeddedJudge(reasoning="off")).check("How do I bake bread?").backend
        'embedded'
    """

    backend = "embedded"
    batch_size = 64
    keeps_deadline = True
    look_back = 200
    """Of an answer in a stream: as much as its windows overlap, and a little more."""

    def __init__(
        self, folder: str | Path | None = None, *, reasoning: ReasoningMode = "auto", threads: int | None = None
    ) -> None:
        if folder is not None and not isinstance(folder, str | os.PathLike):
            raise ConfigurationError(f"folder: must be a path, not {type(folder).__name__}")
        if reasoning not in get_args(ReasoningMode):
            raise ConfigurationError(f"reasoning: must be one of {', '.join(get_args(ReasoningMode))}, not {reasoning!r}")
        if threads is not None:
            check_count("threads", threads)
        self._folder = DEFAULT_FOLDER if folder is None else Path(folder)
        self._reasoning = reasoning
        self._threads = usable_cpus() if threads is None else threads
        self._lock = Lock()
        self._model: Model | None = None
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Reload the model when it is needed: the fork may have hit the inherited one in the middle of a run."""
        abandon(self._model)
        self._model = None

    @property
    def model(self) -> str:
        """Name and version of the model."""
        return self._loaded().name

    async def load(self) -> None:
        """Load the model now, and not with the first check."""
        await asyncio.to_thread(self._loaded)

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge in a worker thread, so that the event loop stays free. Cancelled, the thread ends soon, too."""
        return await Deadline.in_thread(lambda own: self.judge_now(exchanges, deadline=own), deadline)

    async def aclose(self) -> None:
        """Nothing to free: the session goes with the judge."""

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge in the calling thread. What is not decided before the deadline is undetermined; the rest stays decided.

        Raises:
            DeadlineError: the deadline passed before anything was decided.
        """
        return self._judged(exchanges, Deadline.of(deadline).check)

    def _judged(self, exchanges: Sequence[Exchange], check: Check) -> list[Judgement]:
        rows = [JudgedExchange(exchange) for exchange in exchanges]
        self._score(rows, check)
        if rows and not any(row.whole for row in rows):
            raise DeadlineError()
        return [
            self._judgement(row, check)
            if row.whole
            else Judgement.unable(str(DeadlineError()), response=row.exchange.response is not None)
            for row in rows
        ]

    def _judgement(self, row: JudgedExchange, check: Check) -> Judgement:
        model = self._loaded()
        notes: dict[str, str | None] = {}
        for part in row.parts:
            if part.source not in notes:  # the first one is the text as it stands, alone
                notes[part.source] = part.note(model)
        findings: dict[Task, Finding] = {}
        steps: list[ReasoningStep] = []
        categories: dict[str, None] = {}
        for task in TASKS:
            decided = row.decided(task, model)
            if decided is None:
                if task == "prompt_harmfulness" or row.exchange.response is not None:
                    findings[task] = undetermined(_UNREADABLE)
                continue
            part, logit = decided
            score, threshold = probability(logit), model.thresholds[task]
            label = LABELS[task][0 if score >= threshold else 1]
            findings[task] = Finding(label=label, score=score, note=notes[part.source])
            said = f"{part.how}P({LABELS[task][0]}) is {score:.2f}; the label changes at {threshold:.2f}."
            steps.append(ReasoningStep(task=task, kind="evidence", text=said))
            if label == "harmful" and model.hazards:
                hazards = part.strongest(task).hazards
                nearest = max(range(len(hazards)), key=hazards.__getitem__)
                name = hazard(model.hazards[nearest])
                categories[name] = None
                said = (
                    f"The {part.source}'s nearest hazard category is {name}, P is {hazards[nearest]:.2f} among {len(hazards)}."
                )
                steps += [ReasoningStep(task=task, kind="evidence", text=said)] if self._reasoning != "off" else []
            if self._explains(task, findings[task]):
                steps += self._passages(task, part, model, check, carried=label == LABELS[task][0])
        tokens = sum(part.tokens for part in row.parts)
        return Judgement(**findings, categories=tuple(categories), reasoning=tuple(steps), usage=Usage(input_tokens=tokens))

    def _passages(self, task: Task, part: Part, model: Model, check: Check, *, carried: bool) -> list[ReasoningStep]:
        """The passages of a text that carry a finding, out of the pass that judged it."""
        least = model.least_logit(task) + part.shift(task, model.length_shift) if carried else None
        try:
            stretches = part.stretches(task, model.encoder, check)
        except DeadlineError:
            # What was found stays found: only the search for its reasons was cut short.
            return [ReasoningStep(task=task, kind="evidence", text=_CUT_SHORT)]
        return evidence(task, part.source, part.text, stretches, least=least, before=part.how, place=part.place)

    def _explains(self, task: Task, finding: Finding) -> bool:
        if self._reasoning == "off":
            return False
        return self._reasoning == "full" or finding.label == LABELS[task][0]

    def _score(self, rows: Sequence[JudgedExchange], check: Check) -> None:
        """Score rows; those that were not through before the deadline are not whole.

        Each window is seen on its own, several at a time. The int8 model scales its activations over all that is in a run, so
        that a window would score differently beside other ones: a verdict must not depend on its neighbours. Without padding
        this is no slower, either. One that was seen just now is not seen again: a text may say the same a thousand times.
        """
        from guardreasoner_sdk.judges.encoding import TokenWindow, collate

        model = self._loaded()

        @lru_cache(_KEPT)
        def outputs(ids: tuple[int, ...], type_ids: tuple[int, ...]) -> list[np.ndarray]:
            return [found[0] for found in model.session.run(OUTPUTS, collate([TokenWindow(ids, type_ids)]))]

        def see(window: TokenWindow) -> Seen:
            tokens, logits, hazards, languages = outputs(window.ids, window.type_ids)
            # A sum is finite where all that is added is.
            if not all(math.isfinite(values.sum()) for values in (tokens, logits, hazards, languages)):
                # No comparison with a number that is none holds: taken as it is, it would read as a score below any threshold.
                raise BackendError("the embedded model gave no number; its files are damaged, restore or reinstall them")
            return Seen(window.start, tokens[window.first : -1], logits.tolist(), _chances(hazards), _chances(languages))

        read_rows(rows, model.encoder, see, threads=self._threads, check=check, model=model)

    def _loaded(self) -> Model:
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = shared_model(self._folder)
        return self._model


def _chances(logits: np.ndarray) -> list[float]:
    """The probability of each of several that exclude each other."""
    if not logits.size:
        return []
    powers = [math.exp(logit) for logit in (logits - logits.max()).tolist()]
    whole = sum(powers)
    return [power / whole for power in powers]
