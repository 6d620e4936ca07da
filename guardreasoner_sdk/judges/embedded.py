"""The guard inside the package: a small encoder with three heads, run by onnxruntime. No download, no GPU."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from guardreasoner_sdk._arguments import check_count
from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk._forks import Lock, abandon, renew_after_fork
from guardreasoner_sdk.dialects.hazards import hazard
from guardreasoner_sdk.errors import BackendError, ConfigurationError, DeadlineError
from guardreasoner_sdk.exchange import Exchange, Turn
from guardreasoner_sdk.judges.evidence import Passage, Row, behind_first_sentence, probe
from guardreasoner_sdk.judges.model_folder import Model, shared_model
from guardreasoner_sdk.judges.threads import each_in_threads
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, ReasoningStep, Task, Usage

if TYPE_CHECKING:
    from guardreasoner_sdk.judges.encoding import Window

_Shown = Literal["prompt", "part", "opening", "both"]
"""What a window shows: a prompt, a part of a response, its opening, or a first part that is no longer than an opening."""

__all__ = ["DEFAULT_FOLDER", "EmbeddedJudge", "ReasoningMode"]

ReasoningMode = Literal["auto", "full", "brief", "off"]

DEFAULT_FOLDER = Path(__file__).parent.parent / "assets" / "embedded"

_HISTORY_CHARACTERS = 1500
_CUT_SHORT = "The time was up before it was found which passages carry it."

Check = Callable[[], None]
"""Called every few milliseconds; raises ``DeadlineError`` when nobody waits any more."""


@dataclass(frozen=True, slots=True)
class _Placed:
    """A window, and the row it belongs to."""

    row: int
    shown: _Shown
    window: Window


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the model makes of a window: the chances of its three heads, and of each hazard category."""

    row: int
    shown: _Shown
    place: tuple[float, float]
    tokens: int
    chances: tuple[float, float, float]
    hazards: list[float]


@dataclass(slots=True)
class _Scored:
    """What the model makes of a row.

    Args:
        scores: the probability of each task judged.
        hottest: for each task, where in its text the window lies that decided.
        hazards: of the window that decided on a task, the probability of each hazard category.
        tokens: that were read.
    """

    scores: dict[Task, float] = field(default_factory=dict)
    hottest: dict[Task, tuple[float, float]] = field(default_factory=dict)
    hazards: dict[Task, list[float]] = field(default_factory=dict)
    tokens: int = 0

    def add(self, seen: _Seen) -> None:
        prompt_harm, refusal, harm = seen.chances
        self.tokens += seen.tokens
        if seen.shown == "prompt":
            self._add("prompt_harmfulness", prompt_harm, seen)
            return
        if seen.shown != "part":
            self._add("response_refusal", refusal, seen)
        if seen.shown != "opening":
            self._add("response_harmfulness", harm, seen)

    def _add(self, task: Task, score: float, seen: _Seen) -> None:
        if score > self.scores.get(task, -1.0):
            self.scores[task], self.hottest[task], self.hazards[task] = score, seen.place, seen.hazards


class EmbeddedJudge:
    """Judges with the model inside the package, or with one of the same make from a folder.

    The prompt is judged on its own, so that no response can change what is found about it; a response is judged together
    with its prompt. Where there are earlier turns, the prompt is judged alone and again behind their last 1,500 characters,
    and the more harmful score counts. Long text is cut into overlapping windows: the most harmful one decides on harm, a
    short one on refusal, which an answer states at its beginning.

    The reasons it gives are measurements, not a chain of thought: the score, and the passages whose absence lowers it most.

    Args:
        folder: where ``model.onnx``, ``tokenizer.json`` and ``config.json`` lie; default: the package's own.
        reasoning: ``auto`` and ``brief`` look for passages where a finding is harmful or a refusal, ``full`` for every
            finding, ``off`` for none (score and category alone).
        threads: windows of text judged at a time, each on one core; default: the cores this process may use.

    Raises:
        ConfigurationError: arguments that cannot work; and when the model is loaded, on first use: a file is missing or
            damaged.
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
        """Load the model anew when it is needed: the fork may have hit the inherited one in the middle of a run."""
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
        contexts: dict[str, Sequence[int]] = {}
        found = self._score([_texts(exchange) for exchange in exchanges], check, contexts)
        if exchanges and not any(found):
            raise DeadlineError()
        return [
            Judgement.unable(str(DeadlineError()), response=exchange.response is not None)
            if scored is None
            else self._judgement(exchange, scored, check, contexts)
            for exchange, scored in zip(exchanges, found, strict=True)
        ]

    def _judgement(self, exchange: Exchange, scored: _Scored, check: Check, contexts: dict[str, Sequence[int]]) -> Judgement:
        model = self._loaded()
        thresholds = model.thresholds
        findings = {
            task: Finding(label=LABELS[task][0 if scored.scores[task] >= thresholds[task] else 1], score=scored.scores[task])
            for task in TASKS
            if task in scored.scores
        }
        steps = [_score_step(task, finding, thresholds[task]) for task, finding in findings.items()]
        categories: dict[str, None] = {}
        for task, finding in findings.items():
            if finding.label == "harmful" and model.hazards:
                nearest = max(range(len(model.hazards)), key=scored.hazards[task].__getitem__)
                name, chance = hazard(model.hazards[nearest]), scored.hazards[task][nearest]
                categories[name] = None
                if self._reasoning == "off":
                    continue
                text = f"The nearest hazard category is {name}, P is {chance:.2f} among {len(model.hazards)}."
                steps.append(ReasoningStep(task=task, kind="evidence", text=text))
        probes = [probe(*asked) for asked in self._asked(exchange, scored, findings)]
        # All variants in one batch.
        found = iter(self._score([row for one in probes for row in one.rows], check, contexts))
        tokens = scored.tokens
        for one in probes:
            own = list(islice(found, len(one.rows)))
            judged = [variant for variant in own if variant is not None]
            tokens += sum(variant.tokens for variant in judged)
            if len(judged) == len(own):
                steps += one.steps([variant.scores for variant in judged])
            else:
                # What was found stays found: only the search for its reasons was cut short.
                steps += [ReasoningStep(task=task, kind="evidence", text=_CUT_SHORT) for task in one.scores]
        return Judgement(
            **findings, categories=tuple(categories), reasoning=tuple(_by_task(steps)), usage=Usage(input_tokens=tokens)
        )

    def _asked(
        self, exchange: Exchange, scored: _Scored, findings: Mapping[Task, Finding]
    ) -> Iterator[tuple[Passage, dict[Task, float]]]:
        """The texts to look into, with the tasks that each is to explain: those that looked at the same place together."""
        places: dict[tuple[str, tuple[float, float]], list[Task]] = {}
        for task, finding in findings.items():
            if self._explains(task, finding):
                places.setdefault((task.partition("_")[0], scored.hottest[task]), []).append(task)
        for (source, hottest), tasks in places.items():
            yield _passage(exchange, source, hottest, tasks), {task: scored.scores[task] for task in tasks}

    def _explains(self, task: Task, finding: Finding) -> bool:
        if self._reasoning == "off":
            return False
        return self._reasoning == "full" or finding.label == LABELS[task][0]

    def _score(self, rows: Sequence[Row], check: Check, contexts: dict[str, Sequence[int]]) -> list[_Scored | None]:
        """Score rows, the shortest first; None for each that was not through before the deadline.

        Args:
            rows: what to score.
            check: whether somebody still waits.
            contexts: what the windows of a response show of a prompt, by prompt; filled as prompts are read.
        """
        windows = [0] * len(rows)
        whole: set[int] = set()

        def in_time() -> Iterator[_Placed]:
            try:
                # The shortest first: a long one takes no other row's time.
                for row in sorted(range(len(rows)), key=lambda row: sum(map(len, (*rows[row][0], rows[row][2] or "")))):
                    for placed in self._windows(row, rows[row], check, contexts):
                        check()
                        windows[row] += 1
                        yield placed
                    whole.add(row)
            except DeadlineError:
                return

        found = [_Scored() for _ in rows]
        for seen in self._infer(in_time()):
            found[seen.row].add(seen)
        return [scored if row in whole and windows[row] else None for row, scored in enumerate(found)]

    def _windows(self, row: int, asked: Row, check: Check, contexts: dict[str, Sequence[int]]) -> Iterator[_Placed]:
        """The windows of a row, each made when it is its turn: those of a long text would take much more room than it."""
        check()
        encoder = self._loaded().encoder
        prompts, context, response = asked
        for prompt in prompts:
            tokens = encoder.read(prompt, check)
            contexts.setdefault(prompt, encoder.context(tokens))
            for window in encoder.prompt_windows(tokens):
                yield _Placed(row, "prompt", window)
        if response is None:
            return
        shown = context or ""
        if shown not in contexts:
            contexts[shown] = encoder.context(encoder.read(shown, check))
        windows = encoder.pair_windows(contexts[shown], encoder.read(response, check))
        first = next(windows)
        opening = encoder.opening(first)
        yield _Placed(row, "both" if opening is first else "opening", opening)
        if opening is not first:
            yield _Placed(row, "part", first)
        for window in windows:
            yield _Placed(row, "part", window)

    def _infer(self, windows: Iterable[_Placed]) -> list[_Seen]:
        """Run the model over windows: each on its own, several at a time.

        The int8 model scales its activations over all that is in a run, so that a window would score differently beside
        other ones: a verdict must not depend on its neighbours. Without padding this is no slower, either.
        """
        import numpy as np

        from guardreasoner_sdk.judges.encoding import collate

        model = self._loaded()
        outputs = ["logits", "hazards"] if model.hazards else ["logits"]

        def run(placed: _Placed) -> _Seen:
            given = model.session.run(outputs, collate([placed.window]))
            logits, *others = (found[0].astype(np.float64) for found in given)
            if not all(np.isfinite(values).all() for values in (logits, *others)):
                # No comparison with a number that is none holds: taken as it is, it would read as a score below any threshold.
                raise BackendError("the embedded model gave no number; its files are damaged, restore or reinstall them")
            hazards = [np.exp(other - other.max()) for other in others]
            return _Seen(
                placed.row,
                placed.shown,
                placed.window.place,
                len(placed.window.ids),
                tuple((1.0 / (1.0 + np.exp(-logits))).tolist()),
                (hazards[0] / hazards[0].sum()).tolist() if hazards else [],
            )

        return each_in_threads(run, windows, self._threads)

    def _loaded(self) -> Model:
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = shared_model(self._folder)
        return self._model


def _texts(exchange: Exchange) -> tuple[list[str], str | None, str | None]:
    prompts = [exchange.prompt]
    if exchange.history:
        prompts.append(f"{_earlier(exchange.history)}\nUser: {exchange.prompt}")
    return prompts, exchange.prompt, exchange.response


def _earlier(history: Sequence[Turn]) -> str:
    """The last 1,500 characters of the earlier turns."""
    earlier = ""
    for turn in reversed(history):
        # Only what is shown is put together: a long conversation is many times longer.
        said = turn.content[-_HISTORY_CHARACTERS:]
        name = f"{turn.role.capitalize()}: " if len(said) == len(turn.content) else ""
        earlier = f"{name}{said}\n{earlier}" if earlier else f"{name}{said}"
        if len(earlier) >= _HISTORY_CHARACTERS:
            break
    return earlier[-_HISTORY_CHARACTERS:]


def _passage(exchange: Exchange, source: str, hottest: tuple[float, float], tasks: Sequence[Task]) -> Passage:
    if source == "prompt":
        prompts = _texts(exchange)[0]
        # What the earlier turns add stays in place while the prompt's own passages are left out.
        frames = [prompt.removesuffix(exchange.prompt) for prompt in prompts]
        return Passage("prompt", exchange.prompt, lambda text: ([frame + text for frame in frames], None, None), hottest)
    response = exchange.response or ""
    beside: dict[str, Row] = {}
    rest = behind_first_sentence(response)
    if "response_refusal" in tasks and rest:
        beside["without its first sentence"] = ([], exchange.prompt, rest)
    if "response_harmfulness" in tasks:
        beside["without the prompt"] = ([], "", response)
    return Passage("response", response, lambda text: ([], exchange.prompt, text), hottest, beside)


def _score_step(task: Task, finding: Finding, threshold: float) -> ReasoningStep:
    return ReasoningStep(
        task=task,
        kind="evidence",
        text=f"P({LABELS[task][0]}) is {finding.score:.2f}; the label changes at {threshold:.2f}.",
    )


def _by_task(steps: list[ReasoningStep]) -> list[ReasoningStep]:
    return sorted(steps, key=lambda step: TASKS.index(step.task) if step.task else len(TASKS))
