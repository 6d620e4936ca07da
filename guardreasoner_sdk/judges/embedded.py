"""The guard inside the wheel: a small encoder with three heads, run by onnxruntime. No download, no GPU."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from guardreasoner_sdk._cpus import usable_cpus
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import check_deadline
from guardreasoner_sdk.judges.evidence import Passage, find_evidence
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, ReasoningStep, Task, Usage

if TYPE_CHECKING:
    from guardreasoner_sdk.judges.encoding import Encoder, Window

_Placed: TypeAlias = "tuple[int, Literal['prompt', 'opening', 'later'], Window]"
"""A window, the row it belongs to, and what it shows: a prompt, the opening of a response, or a later part of one."""

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
    name: str


class EmbeddedJudge:
    """Judges with the model inside the wheel, or with one of the same make from a folder.

    The prompt is judged on its own, so that no response can change what is found about it; a response is judged together
    with its prompt. Where there are earlier turns, the prompt is judged alone and again behind their last 1,500 characters,
    and the more harmful score counts. Long text is cut into overlapping windows: the most harmful one decides on harm, the
    first one on refusal, which an answer states at its beginning.

    The reasons it gives are measurements, not a chain of thought: the score, and the passages whose absence lowers it most.

    Args:
        folder: where ``model.onnx``, ``tokenizer.json`` and ``config.json`` lie; default: the package's own.
        reasoning: ``auto`` and ``brief`` look for passages where a finding is harmful or a refusal, ``full`` for every
            finding, ``off`` for none (the score alone).
        threads: windows of text judged at a time, each on one core; default: the cores this process may use.

    Raises:
        ConfigurationError: when the model is loaded, on first use: a file is missing or damaged.
    """

    backend = "embedded"
    batch_size = 64

    def __init__(
        self, folder: str | Path | None = None, *, reasoning: ReasoningMode = "auto", threads: int | None = None
    ) -> None:
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
        scores, tokens = self._score([_texts(exchange) for exchange in exchanges], deadline)
        return [
            self._judgement(exchange, row, count, deadline)
            for exchange, row, count in zip(exchanges, scores, tokens, strict=True)
        ]

    def _judgement(self, exchange: Exchange, scores: dict[Task, float], tokens: int, deadline: float | None) -> Judgement:
        thresholds = self._loaded().thresholds
        findings = {
            task: Finding(label=LABELS[task][0 if score >= thresholds[task] else 1], score=score)
            for task, score in scores.items()
        }
        steps: list[ReasoningStep] = []
        for source in ("prompt", "response"):
            tasks = [task for task in findings if task.startswith(source)]
            steps += [_score_step(task, findings[task], thresholds[task]) for task in tasks]
            explained = [task for task in tasks if self._explains(task, findings[task])]
            if explained:
                passages, cost = find_evidence(
                    _passage(exchange, source),
                    {task: scores[task] for task in explained},
                    partial(self._score, deadline=deadline),
                )
                steps += passages
                tokens += cost
        return Judgement(**findings, reasoning=tuple(_by_task(steps)), usage=Usage(input_tokens=tokens))

    def _explains(self, task: Task, finding: Finding) -> bool:
        if self._reasoning == "off":
            return False
        return self._reasoning == "full" or finding.label == LABELS[task][0]

    def _score(
        self, texts: Sequence[tuple[Sequence[str], str | None, str | None]], deadline: float | None = None
    ) -> tuple[list[dict[Task, float]], list[int]]:
        """Score rows of (prompts of which the most harmful counts, prompt of the response, response).

        Returns:
            per row the probability of each task judged, and the tokens it took.
        """
        model = self._loaded()
        windows: list[_Placed] = []
        for row, (prompts, context, response) in enumerate(texts):
            check_deadline(deadline)
            for prompt in prompts:
                windows += [(row, "prompt", window) for window in model.encoder.prompt(prompt)]
            if response is not None:
                for place, window in enumerate(model.encoder.pair(context or "", response)):
                    windows.append((row, "later" if place else "opening", window))
        scores: list[dict[Task, float]] = [{} for _ in texts]
        tokens = [0] * len(texts)
        for (row, kind, window), (prompt_harm, refusal, harm) in zip(windows, self._infer(windows, deadline), strict=True):
            tokens[row] += len(window.ids)
            own = scores[row]
            if kind == "prompt":
                own["prompt_harmfulness"] = max(own.get("prompt_harmfulness", 0.0), prompt_harm)
                continue
            if kind == "opening":
                own["response_refusal"] = refusal
            own["response_harmfulness"] = max(own.get("response_harmfulness", 0.0), harm)
        return [{task: row[task] for task in TASKS if task in row} for row in scores], tokens

    def _infer(self, windows: Sequence[_Placed], deadline: float | None) -> list[list[float]]:
        """Run the model over windows: each on its own, several at a time.

        The int8 model scales its activations over all that is in a run, so that a window would score differently beside
        other ones: a verdict must not depend on its neighbours. Without padding this is no slower, either.
        """
        import numpy as np

        from guardreasoner_sdk.judges.encoding import collate

        session = self._loaded().session

        def run(placed: _Placed) -> list[float]:
            check_deadline(deadline)
            (logits,) = session.run(["logits"], collate([placed[2]]))
            probabilities: list[float] = (1.0 / (1.0 + np.exp(-logits[0].astype(np.float64)))).tolist()
            return probabilities

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


def _passage(exchange: Exchange, source: str) -> Passage:
    if source == "prompt":
        prompts = _texts(exchange)[0]
        # What the earlier turns add stays in place while the prompt's own passages are left out.
        frames = [prompt.removesuffix(exchange.prompt) for prompt in prompts]
        return Passage("prompt", exchange.prompt, lambda text: ([frame + text for frame in frames], None, None))
    response = exchange.response or ""
    return Passage("response", response, lambda text: ([], exchange.prompt, text))


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
            thresholds={task: float(config["thresholds"][head]) for head, task in _HEADS.items()},
            name=f"{config['name']}-{config['version']}",
        )
    except Exception as error:  # onnxruntime and tokenizers raise bare classes of their own
        raise ConfigurationError(f"embedded model: {folder} cannot be loaded ({error}); reinstall guardreasoner-sdk") from error
