"""Whether an exported guard answers as the trained one does: both are asked, greedily, and their texts compared."""

from __future__ import annotations

import gc
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from guardreasoner_sdk.backends._results import stop_place, too_long
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Query
from guardreasoner_sdk.verdict import Usage
from guardreasoner_training.trainers.advice import is_out_of_memory

if TYPE_CHECKING:
    from guardreasoner_sdk.backends.base import Backend
    from guardreasoner_sdk.dialects.base import Dialect
    from guardreasoner_sdk.verdict import Verdict

__all__ = [
    "HALF_TIE",
    "TIE",
    "Agreement",
    "Dtype",
    "GuardAnswer",
    "Recorded",
    "Reference",
    "Scored",
    "ScoredAnswer",
    "TooLargeError",
    "release",
    "ways_on",
]

TIE: Final = 0.05
"""Where the trained model's two best tokens are closer than this (in nats), either is its greedy answer: the sums of another
engine come in another order, and llama.cpp keeps its cache in f16."""

HALF_TIE: Final = 0.5
"""The same where the trained model itself is computed in 16 bits, whose steps are as large as that."""


@dataclass(frozen=True, slots=True)
class GuardAnswer:
    """A guard's answer.

    Args:
        text: all that it wrote.
        labels: what was read from it, by task.
        written: the answers to the single queries that it is made of.
    """

    text: str
    labels: dict[str, str]
    written: tuple[ScoredAnswer, ...] = ()


@dataclass(slots=True)
class Agreement:
    """How an exported guard's answers compare with the trained one's.

    Args:
        rows: how many were asked.
        equal: answers that are the same to the last character.
        ties: those that part where the trained model itself is undecided, see :data:`TIE`.
        labels: rows with the same labels.
        differing: the others: number of the row and of the first character that differs.
    """

    rows: int = 0
    equal: int = 0
    ties: int = 0
    labels: int = 0
    differing: list[tuple[int, int]] = field(default_factory=list)

    def figures(self) -> dict[str, int]:
        """The counts."""
        return {"rows": self.rows, "equal": self.equal, "ties": self.ties, "labels": self.labels}


class Reference:
    """The trained guard's own answers: in float32, where that fits into the device's memory.

    Args:
        folder: the trained model: weights, or an adapter of peft's.
        dialect: how it is asked and read.
        exchanges: what it is asked.
        device: where it runs, such as ``cpu``; None: a GPU where there is one.
        ways: devices and types of number to try, the best first; None: those of :func:`ways_on` the device.
        report: is told where it runs in another way, because of the memory.

    Raises:
        ConfigurationError: it cannot be run, or gives no answer.

    Attributes:
        answers: to each exchange.
        device: where it ran.
        dtype: in which type of number it was computed.
    """

    def __init__(
        self,
        folder: Path,
        dialect: Dialect,
        exchanges: Sequence[Exchange],
        *,
        device: str | None = None,
        ways: Sequence[tuple[str, Dtype]] | None = None,
        report: Callable[[str], None] = lambda _: None,
    ) -> None:
        self._dialect = dialect
        self._exchanges = list(exchanges)
        self.answers: list[GuardAnswer] = []
        self.device = "cpu"
        self.dtype: Dtype = "float32"
        ways = ways_on(device) if ways is None else ways
        for way, following in zip_longest(ways, ways[1:]):
            self.device, self.dtype = way
            try:
                self.answers = answers(Scored(folder, device=way[0], dtype=way[1]), dialect, exchanges)
                return
            except TooLargeError:
                if following is None:
                    raise
                report(f"{_words(*way)} it does not fit into memory; asking it {_words(*following)}")
            release()  # the error held what was loaded

    def compare(self, backend: Backend, *, tie: float | None = None) -> Agreement:
        """Ask an exported guard the same.

        Args:
            backend: runs it; closed afterwards.
            tie: how close the trained model's two best tokens are where it is undecided, in nats; None: :data:`TIE`, or
                :data:`HALF_TIE` where it was computed in 16 bits.

        Raises:
            ConfigurationError: it cannot be run, or gives no answer at all.
        """
        found = Agreement()
        undecided = tie if tie is not None else TIE if self.dtype == "float32" else HALF_TIE
        theirs = answers(Recorded(backend), self._dialect, self._exchanges)
        for number, (own, other) in enumerate(zip(self.answers, theirs, strict=True), 1):
            found.rows += 1
            found.labels += own.labels == other.labels
            if own.text == other.text:
                found.equal += 1
            elif _margin(own, other) < undecided:
                found.ties += 1
            else:
                found.differing.append((number, _first_difference(own.text, other.text)))
        return found


def ways_on(device: str | None) -> list[tuple[str, Dtype]]:
    """Devices and types of number to try, the best first.

    Args:
        device: such as ``cpu``; None: a GPU where there is one.
    """
    import torch

    if device is None:
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    if device == "cpu":
        return [("cpu", "float32")]
    return [(device, "float32"), (device, "auto"), ("cpu", "float32")]


def _words(device: str, dtype: Dtype) -> str:
    return f"on {device} in {dtype if dtype == 'float32' else 'its own precision'}"


def _margin(own: GuardAnswer, other: GuardAnswer) -> float:
    """How sure the trained guard was where another answer parts from its own, in nats."""
    for mine, theirs in zip(own.written, other.written, strict=False):
        if mine.query != theirs.query:
            break
        if mine.text != theirs.text:
            return mine.margin(_first_difference(mine.text, theirs.text))
    return math.inf


def answers(backend: Recorded | Scored, dialect: Dialect, exchanges: Sequence[Exchange]) -> list[GuardAnswer]:
    """What a guard writes, reasoning in full, the way it will be asked.

    Args:
        backend: runs it; closed afterwards.

    Raises:
        ConfigurationError: it cannot be run, or an exchange gets no answer.
    """
    from guardreasoner_sdk.guard import Guard
    from guardreasoner_sdk.judges.reasoner import ReasonerJudge

    found = []
    with Guard(judge=ReasonerJudge(dialect, backend, reasoning="full"), cache=0, timeout=86_400.0) as guard:
        for exchange in exchanges:
            backend.written.clear()
            [verdict] = guard.check_many([exchange])
            found.append(_answer(verdict, backend.written))
    return found


def _answer(verdict: Verdict, written: Sequence[ScoredAnswer]) -> GuardAnswer:
    if verdict.raw is None:
        cause = next((finding.cause for finding in verdict.findings.values() if finding.cause), "no answer")
        raise ConfigurationError(f"export: {verdict.backend} gives no answer ({cause}); leave that row out, or the type")
    return GuardAnswer(verdict.raw, {task: finding.label for task, finding in verdict.findings.items()}, tuple(written))


def _first_difference(one: str, other: str) -> int:
    return next((place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


Dtype = Literal["float32", "auto"]
"""``float32``, or the weights' own."""


class TooLargeError(ConfigurationError):
    """A model is too large for the device's memory."""


@dataclass(frozen=True, slots=True)
class ScoredAnswer:
    """The answer to a query.

    Args:
        query: what was asked.
        text: what was answered.
        starts: for each token, the one that ended the answer included, the place in the text where its characters begin.
        margins: for each token, how far it was ahead of the second best, in nats.
    """

    query: Query
    text: str
    starts: Sequence[int] = ()
    margins: Sequence[float] = ()

    def margin(self, place: int) -> float:
        """How far ahead the token was that wrote a character, or ended the text there."""
        # Of the tokens that begin at or before the character, the last one chose it.
        chosen = bisect_right(self.starts, place) - 1
        return self.margins[chosen] if chosen >= 0 else math.inf


class Recorded:
    """A backend, with a list of what it wrote.

    Args:
        backend: it.

    Attributes:
        written: its answers, in order.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.name, self.model, self.batch_size = backend.name, backend.model, backend.batch_size
        self.capabilities = backend.capabilities
        self.written: list[ScoredAnswer] = []

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order."""
        answers = await self._backend.generate(queries, deadline=deadline)
        pairs = zip(queries, answers, strict=True)
        self.written += [_written(query, answer.text) for query, answer in pairs if isinstance(answer, Completion)]
        return answers

    async def load(self) -> None:
        """Load the model now."""
        await self._backend.load()

    async def aclose(self) -> None:
        """Free the engine."""
        await self._backend.aclose()


class Scored:
    """The trained guard by transformers, greedily and one query at a time, with a list of what it wrote.

    Args:
        folder: weights, or an adapter of peft's.
        device: where it runs.
        dtype: of its arithmetic.

    Raises:
        TooLargeError: the device has not enough memory.
        ConfigurationError: it cannot be loaded.

    Attributes:
        written: its answers, in order, each with its margins.
    """

    name = "transformers"
    batch_size = 1
    capabilities = Capabilities(continues=True, probes=False)

    def __init__(self, folder: Path, *, device: str, dtype: Dtype) -> None:
        from transformers import GenerationConfig

        from guardreasoner_sdk.backends._tokens import PromptEncoder

        self.model = str(folder)
        self.written: list[ScoredAnswer] = []
        self._device = device
        self._encoder = PromptEncoder.from_folder(folder)
        self._network = self._loaded(dtype)
        config = self._network.config.get_text_config()
        self._context = getattr(config, "max_position_embeddings", None) or 2**31
        stored = self._network.generation_config.eos_token_id if self._network.generation_config else None
        stored = config.eos_token_id if stored is None else stored
        ends = [*(stored if isinstance(stored, list) else [stored]), self._encoder.eos]
        self._ends = sorted({end for end in ends if end is not None})
        # What a checkpoint says about sampling must not change what it is asked for.
        plain: Any = GenerationConfig
        self._network.generation_config = plain()

    async def generate(self, queries: Sequence[Query], *, deadline: float | None) -> list[Completion | BackendError]:
        """Answer the queries, in order.

        Raises:
            TooLargeError: the device has not enough memory.
        """
        return [self._answer(query) for query in queries]

    async def load(self) -> None:
        """It is loaded."""

    async def aclose(self) -> None:
        """Let the model go."""
        self._network = None
        release()

    def _loaded(self, dtype: Dtype) -> Any:
        from transformers import AutoModelForCausalLM

        loader: Any = AutoModelForCausalLM
        try:
            model = loader.from_pretrained(self.model, dtype=dtype, local_files_only=True, use_safetensors=True)
            return model.to(self._device).eval()
        except Exception as error:  # of torch, safetensors and peft alike
            if is_out_of_memory(error):
                raise self._too_large() from None
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            raise ConfigurationError(f"model: {self.model} cannot be loaded: {reason}") from error

    def _answer(self, query: Query) -> Completion | BackendError:
        try:
            prompt = self._encoder.encode(query)
        except BackendError as error:
            return error
        if len(prompt) >= self._context:
            return too_long(len(prompt), self._context, "leave the row out")
        ids, margins = self._continued(prompt, min(query.max_tokens, self._context - len(prompt)))
        ended = ids[-1] in self._ends
        text = self._encoder.decode(ids[:-1] if ended else ids)
        cut = stop_place(text, 0, query.stop)
        self.written.append(_written(query, text[:cut], self._encoder.starts(ids), margins))
        usage = Usage(input_tokens=len(prompt), output_tokens=len(ids))
        return Completion(text[:cut], "stop" if ended or cut is not None else "length", usage)

    def _continued(self, prompt: list[int], most: int) -> tuple[list[int], list[float]]:
        """The tokens after a prompt, and how far each was ahead of the second best."""
        import torch
        from transformers import GenerationConfig

        plain: Any = GenerationConfig
        margins: list[float] = []

        def seen(_: Any, logits: Any) -> Any:
            best, second = logits[0].topk(2).values.tolist()
            margins.append(best - second)
            return logits

        how = plain(max_new_tokens=most, do_sample=False, eos_token_id=self._ends or None, pad_token_id=0)
        try:
            with torch.inference_mode():
                given = torch.tensor([prompt], device=self._device)
                ids = self._network.generate(
                    given, attention_mask=torch.ones_like(given), generation_config=how, logits_processor=[seen]
                )
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            raise self._too_large() from None
        return ids[0, len(prompt) :].tolist(), margins

    def _too_large(self) -> TooLargeError:
        return TooLargeError(
            f"export: {self.model} is too large for the memory of {self._device}; leave the comparison out with "
            "--set export.check_rows=0 (of the command export: --check 0)"
        )


def release() -> None:
    """Give the memory of what nobody holds any more back to the device."""
    import torch

    gc.collect()  # models and errors refer to themselves
    torch.cuda.empty_cache()


def _written(query: Query, text: str, starts: Sequence[int] = (), margins: Sequence[float] = ()) -> ScoredAnswer:
    # How many probabilities are wanted beside differs from engine to engine, and changes nothing in the text.
    return ScoredAnswer(replace(query, choices=0), text, starts, margins)
