"""Generations of one model for many rows, kept as they come."""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.data.atomic import read_json, write_json
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.errors import BackendError, ConfigurationError, MissingExtraError
from guardreasoner_training.formats import Format, Rendering, end_id, messages_or_text
from guardreasoner_training.mining.pairs import Generation
from guardreasoner_training.mining.sampling import Asked, Drawn, Sampler, Sampling
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.trainers.advice import REDO

if TYPE_CHECKING:
    from guardreasoner_sdk.backends._tokens import PromptEncoder

__all__ = ["Engine", "Generating", "engine_for", "generate", "generations_in"]

Engine = Literal["vllm", "transformers"]

_PAUSE = 10.0
"""Seconds between two reports."""


@dataclass(frozen=True, slots=True)
class Generating:
    """How rows become generations.

    Args:
        engine: what generates.
        sampling: how it samples.
        format: how the model answers.
        rendering: how it is asked.
        batch: most rows handed to the engine at a time.
        most_tokens: longest prompt with its generation.
    """

    engine: Engine
    sampling: Sampling
    format: Format
    rendering: Rendering
    batch: int
    most_tokens: int


def engine_for(asked: Literal["auto", "vllm", "transformers"]) -> Engine:
    """What is to generate: with ``auto``, vLLM where it and a GPU are there, else transformers.

    Raises:
        MissingExtraError: vLLM was asked for and is not installed.
    """
    if asked == "vllm" and find_spec("vllm") is None:
        raise MissingExtraError("vllm", "Generations by vLLM")
    if asked != "auto":
        return asked
    if find_spec("vllm") is None or find_spec("torch") is None:
        return "transformers"
    import torch

    return "vllm" if torch.cuda.is_available() else "transformers"


def generate(
    rows: Sequence[TrainingRow],
    model: Path,
    journal: Path,
    how: Generating,
    *,
    name: str,
    report: Callable[[str], None],
) -> None:
    """Have a model write about rows, as often as it takes; what the journal holds is not done again.

    By transformers, the rows of a batch and their order are the same in every run: an interrupted batch is done again as a
    whole, and the journal ends up the same, byte for byte. With another ``batch`` than before, or where memory ran out and the
    batches were halved, what is written stays; only the rounding of what follows is that of other batches. vLLM makes up its
    batches as it goes; there each row stands for itself.

    Args:
        rows: with names that differ.
        journal: gets a line per row. Rows too long for the model get none.

    Raises:
        ConfigurationError: the model cannot be loaded, or the device has not enough memory for a single row.
        InputError: the journal cannot be written.
    """
    prompts = _Prompts.of(model, how)
    asked = [one for row in rows if (one := prompts.asked(row)) is not None]
    progress = _Progress(name, len(asked), report)
    with Lines(journal) as lines:
        done = [str(line["id"]) for line in lines]
        if len(done) < len(asked):
            by = _by_transformers if how.engine == "transformers" else _by_vllm
            by(asked, done, prompts, lines, how, progress)


def generations_in(journal: Path) -> Iterator[tuple[str, list[Generation]]]:
    """The rows of a journal: name and generations.

    Args:
        journal: what :func:`generate` wrote.

    Raises:
        InputError: it is damaged.
    """
    with Lines(journal) as lines:
        for line in lines:
            yield str(line["id"]), [Generation(one["text"], one["finish"]) for one in line["samples"]]


@dataclass(frozen=True, slots=True)
class _Prompts:
    """What a model is asked and what it writes, as tokens.

    Args:
        folder: where it is.
        encoder: its tokenizer.
        ends: ids that end an answer: the checkpoint's own, and the one that training put after each answer.
        context: longest prompt with its answer, in tokens.
        how: what it is asked for.
    """

    folder: Path
    encoder: PromptEncoder
    ends: frozenset[int]
    context: int
    how: Generating

    @classmethod
    def of(cls, folder: Path, how: Generating) -> _Prompts:
        from guardreasoner_sdk.backends._tokens import PromptEncoder

        encoder = PromptEncoder.from_folder(folder)
        from transformers import AutoConfig, AutoTokenizer, GenerationConfig

        ends = {encoder.eos, end_id(AutoTokenizer.from_pretrained(str(folder), local_files_only=True), how.rendering)}
        if (folder / "generation_config.json").exists():
            stored = GenerationConfig.from_pretrained(str(folder), local_files_only=True).eos_token_id
            ends |= set(stored if isinstance(stored, list) else [stored])
        config = AutoConfig.from_pretrained(str(folder), local_files_only=True).get_text_config()
        context = min(how.most_tokens, getattr(config, "max_position_embeddings", None) or how.most_tokens)
        return cls(folder, encoder, frozenset(end for end in ends if end is not None), context, how)

    def asked(self, row: TrainingRow) -> Asked | None:
        """The prompt for a row; None where it leaves no room for an answer."""
        try:
            ids = self.encoder.encode(messages_or_text(row.exchange, self.how.format, self.how.rendering))
        except BackendError:
            return None  # a character that the vocabulary knows only as a special token: nothing was trained on it either
        return Asked(row.id, array("l", ids), row.exchange.response is not None) if len(ids) < self.context else None

    def line(self, one: Asked, samples: Sequence[Drawn]) -> dict[str, object]:
        """A row of the journal."""
        written = [
            {"text": self.encoder.decode(sample.ids), "finish": sample.finish, "tokens": len(sample.ids)} for sample in samples
        ]
        return {"id": one.name, "samples": written}


def _by_transformers(
    asked: Sequence[Asked], done: Sequence[str], prompts: _Prompts, lines: Lines, how: Generating, progress: _Progress
) -> None:
    sampler = Sampler(prompts.folder, how.sampling, prompts.ends, context=prompts.context)
    # Rows of about the same length together: padding is computed like text. Those with a response have longer answers.
    ordered = sorted(asked, key=lambda one: (one.long_answer, len(one.ids)))
    batches = _Batches(lines.path.with_suffix(".batches.json"), how.batch, len(done))
    start = 0
    while start < len(ordered):
        most = batches.most(start)
        longest = max(len(one.ids) for one in ordered[start : start + most])
        batch = ordered[start : start + sampler.rows_at_a_time(longest, most)]
        end = start + len(batch)
        if end <= len(done):
            progress.skip(len(batch))
        else:
            if len(done) > start:
                lines.keep(start)
                done = done[:start]
            try:
                drawn = sampler.sample(batch)
            except MemoryError as error:
                fewer = batches.halve(start, len(batch))
                progress.say(f"{error}; going on with {fewer}")
                continue
            lines.add(prompts.line(one, samples) for one, samples in zip(batch, drawn, strict=True))
            progress.add(drawn)
        start = end


class _Batches:
    """How many rows are asked at a time: kept beside the journal, so that a later run finds the batches that are in it.

    Args:
        path: the file.
        asked: the most that are wanted now.
        done: rows that the journal holds.
    """

    def __init__(self, path: Path, asked: int, done: int) -> None:
        self._path = path
        self._asked = asked
        kept: dict[str, Any] = read_json(path) if path.exists() else {"asked": asked, "from": [[0, asked]]}
        self._from: list[tuple[int, int]] = [(start, most) for start, most in kept["from"]]
        if kept["asked"] != asked:  # whatever the size of the batches before, their rows are done
            self._add(done, asked)
        elif not path.exists():
            self._save()

    def most(self, start: int) -> int:
        """The most rows of the batch that begins with a row, by its number."""
        most = [most for first, most in self._from if first <= start][-1]
        return min([most, *(first - start for first, _ in self._from if first > start)])

    def halve(self, start: int, rows: int) -> int:
        """From a row on, half as many as were too many.

        Raises:
            ConfigurationError: one was too many.
        """
        if rows == 1:
            raise ConfigurationError(
                "mine: the device ran out of memory with the samples of a single row; lower mine.k or mine.max_new_tokens, or "
                f"leave out long rows with max_tokens ({REDO})"
            )
        self._add(start, rows // 2)
        return rows // 2

    def _add(self, start: int, most: int) -> None:
        self._from = [*((first, size) for first, size in self._from if first < start), (start, most)]
        self._save()

    def _save(self) -> None:
        write_json(self._path, {"asked": self._asked, "from": self._from})


def _by_vllm(
    asked: Sequence[Asked], done: Sequence[str], prompts: _Prompts, lines: Lines, how: Generating, progress: _Progress
) -> None:
    from guardreasoner_training.mining.vllm_sampling import draw_samples

    known = set(done)
    left = [one for one in asked if one.name not in known]
    progress.skip(len(asked) - len(left))
    for one, samples in draw_samples(
        left, prompts.folder, how.sampling, prompts.ends, context=prompts.context, under_way=how.batch
    ):
        lines.add([prompts.line(one, samples)])
        progress.add([samples])


class _Progress:
    """Tells how far a model has come, now and then."""

    def __init__(self, name: str, rows: int, report: Callable[[str], None]) -> None:
        self._name = name
        self._rows = rows
        self._report = report
        self._kept = self._new = self._tokens = 0
        self._began = self._told = time.monotonic()

    def say(self, what: str) -> None:
        self._report(f"{self._name}: {what}")

    def skip(self, rows: int) -> None:
        self._kept += rows
        self._began = self._told = time.monotonic()

    def add(self, drawn: Sequence[Sequence[Drawn]]) -> None:
        self._new += len(drawn)
        self._tokens += sum(len(sample.ids) + 1 for samples in drawn for sample in samples)
        now = time.monotonic()
        there = self._kept + self._new
        if now - self._told < _PAUSE and there < self._rows:
            return
        self._told = now
        spent = max(now - self._began, 1e-6)
        left = (self._rows - there) * spent / self._new
        self._report(
            f"{self._name}: {there:,} of {self._rows:,} rows, {self._tokens / spent:,.0f} tokens a second"
            + (f", about {left / 60:.0f} min left" if there < self._rows else "")
        )
