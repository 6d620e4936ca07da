"""The guard inside the wheel: a small encoder with three heads, run by onnxruntime. No download, no GPU."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from guardreasoner_sdk._arguments import check_count
from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk.dialects.hazards import hazard
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import check_deadline
from guardreasoner_sdk.judges.evidence import Passage, Row, behind_first_sentence, probe
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, ReasoningStep, Task, Usage

if TYPE_CHECKING:
    from guardreasoner_sdk.judges.encoding import Encoder, Window

_Shown = Literal["prompt", "part", "opening", "both"]
"""What a window shows: a prompt, a part of a response, its opening, or a first part that is no longer than an opening."""

__all__ = ["DEFAULT_FOLDER", "EmbeddedJudge", "ReasoningMode"]

ReasoningMode = Literal["auto", "full", "brief", "off"]

DEFAULT_FOLDER = Path(__file__).parent.parent / "assets" / "embedded"

_HEADS: dict[str, Task] = {
    "prompt_harmful": "prompt_harmfulness",
    "response_refusal": "response_refusal",
    "response_harmful": "response_harmfulness",
}
_HISTORY_CHARACTERS = 1500


@dataclass(frozen=True, slots=True)
class _Model:
    session: Any
    encoder: Encoder
    thresholds: dict[Task, float]
    hazards: tuple[str, ...]
    name: str


@dataclass(frozen=True, slots=True)
class _Placed:
    """A window, and the row it belongs to."""

    row: int
    shown: _Shown
    window: Window


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

    def add(self, task: Task, score: float, placed: _Placed, hazards: list[float]) -> None:
        if score > self.scores.get(task, -1.0):
            self.scores[task], self.hottest[task], self.hazards[task] = score, placed.window.place, hazards


class EmbeddedJudge:
    """Judges with the model inside the wheel, or with one of the same make from a folder.

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
        self._lock = threading.Lock()
        self._model: _Model | None = None

    @property
    def model(self) -> str:
        """Name and version of the model."""
        return self._loaded().name

    async def load(self) -> None:
        """Load the model now, and not with the first check."""
        await asyncio.to_thread(self._loaded)

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge in a worker thread, so that the event loop stays free."""
        return await asyncio.to_thread(self.judge_now, exchanges, deadline=deadline)

    async def aclose(self) -> None:
        """Nothing to free: the session goes with the judge."""

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge in the calling thread.

        Raises:
            DeadlineError: the deadline passed between two runs of the model.
        """
        found = self._score([_texts(exchange) for exchange in exchanges], deadline)
        return [self._judgement(exchange, scored, deadline) for exchange, scored in zip(exchanges, found, strict=True)]

    def _judgement(self, exchange: Exchange, scored: _Scored, deadline: float | None) -> Judgement:
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
        found = iter(self._score([row for one in probes for row in one.rows], deadline))
        tokens = scored.tokens
        for one in probes:
            own = list(islice(found, len(one.rows)))
            steps += one.steps([variant.scores for variant in own])
            tokens += sum(variant.tokens for variant in own)
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

    def _score(self, rows: Sequence[Row], deadline: float | None = None) -> list[_Scored]:
        """Score rows."""
        model = self._loaded()
        placed: list[_Placed] = []
        for row, (prompts, context, response) in enumerate(rows):
            check_deadline(deadline)
            for prompt in prompts:
                placed += [_Placed(row, "prompt", window) for window in model.encoder.prompt(prompt)]
            if response is not None:
                first, *later = model.encoder.pair(context or "", response)
                opening = model.encoder.opening(first)
                placed.append(_Placed(row, "both" if opening is first else "opening", opening))
                placed += [_Placed(row, "part", window) for window in (later if opening is first else (first, *later))]
        found = [_Scored() for _ in rows]
        for one, (logits, hazards) in zip(placed, self._infer(placed, deadline), strict=True):
            prompt_harm, refusal, harm = logits
            own = found[one.row]
            own.tokens += len(one.window.ids)
            if one.shown == "prompt":
                own.add("prompt_harmfulness", prompt_harm, one, hazards)
                continue
            if one.shown != "part":
                own.add("response_refusal", refusal, one, hazards)
            if one.shown != "opening":
                own.add("response_harmfulness", harm, one, hazards)
        return found

    def _infer(self, windows: Sequence[_Placed], deadline: float | None) -> list[tuple[list[float], list[float]]]:
        """Run the model over windows: each on its own, several at a time.

        The int8 model scales its activations over all that is in a run, so that a window would score differently beside
        other ones: a verdict must not depend on its neighbours. Without padding this is no slower, either.
        """
        import numpy as np

        from guardreasoner_sdk.judges.encoding import collate

        model = self._loaded()
        outputs = ["logits", "hazards"] if model.hazards else ["logits"]

        def run(placed: _Placed) -> tuple[list[float], list[float]]:
            check_deadline(deadline)
            logits, *others = (found[0].astype(np.float64) for found in model.session.run(outputs, collate([placed.window])))
            hazards = [np.exp(other - other.max()) for other in others]
            chances: list[float] = (1.0 / (1.0 + np.exp(-logits))).tolist()
            return chances, (hazards[0] / hazards[0].sum()).tolist() if hazards else []

        workers = min(self._threads, len(windows))
        if workers < 2:
            return [run(window) for window in windows]
        # Made anew each time: a pool that is kept would not survive a fork.
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(run, windows))

    def _loaded(self) -> _Model:
        if self._model is None:
            with self._lock:
                if self._model is None:
                    self._model = _load(self._folder)
        return self._model


def _texts(exchange: Exchange) -> tuple[list[str], str | None, str | None]:
    prompts = [exchange.prompt]
    if exchange.history:
        earlier = "\n".join(f"{turn.role.capitalize()}: {turn.content}" for turn in exchange.history)
        prompts.append(f"{earlier[-_HISTORY_CHARACTERS:]}\nUser: {exchange.prompt}")
    return prompts, exchange.prompt, exchange.response


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


def _load(folder: Path) -> _Model:
    for name in ("config.json", "tokenizer.json", "model.onnx"):
        if not (folder / name).is_file():
            raise ConfigurationError(f"embedded model: {folder / name} is missing; reinstall guardreasoner-sdk or fix the path")
    try:
        import onnxruntime
        from tokenizers import Tokenizer

        from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        config = json.loads((folder / "config.json").read_text("utf-8"))
        if list(config["heads"]) != list(_HEADS):
            raise ValueError(f"heads are {config['heads']}, not {list(_HEADS)}")
        return _Model(
            session=onnxruntime.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]),
            encoder=Encoder(Tokenizer.from_file(str(folder / "tokenizer.json")), EncodingConfig.from_json(config["encoding"])),
            hazards=tuple(config.get("hazards", ())),
            thresholds={task: float(config["thresholds"][head]) for head, task in _HEADS.items()},
            name=f"{config['name']}-{config['version']}",
        )
    except Exception as error:  # onnxruntime and tokenizers raise bare classes of their own
        raise ConfigurationError(f"embedded model: {folder} cannot be loaded ({error}); reinstall guardreasoner-sdk") from error
