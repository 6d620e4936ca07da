"""Mining with less memory than the recipe thinks, and with other batches than before: nothing that is written is lost."""

from __future__ import annotations

import functools
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch", reason="mining needs the extra 'train'")
pytest.importorskip("transformers", reason="mining needs the extra 'train'")

import torch
from transformers import LlamaForCausalLM

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.mining import mine
from guardreasoner_training.mining.sampling import Sampler
from guardreasoner_training.recipe import MineSettings, Recipe
from guardreasoner_training.rows import TrainingRow, write_rows
from guardreasoner_training.tiny.tasks import draw
from samples import lines, quiet, random_llama


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A random Llama that has learnt nothing."""
    return random_llama(tmp_path_factory.mktemp("llama"))


def recipe(batch: int, most: int = 4) -> Recipe:
    settings = MineSettings(k=4, max_new_tokens=most, batch=batch, engine="transformers", ensemble=())
    return Recipe(name="test", base="none", rendering="raw", max_tokens=512, mine=settings)


def rows_file(folder: Path, count: int = 14) -> Path:
    random = Random(4)
    rows = []
    for number in range(count):
        example = draw(random, vague=0.5)
        labels = {task: label in ("harmful", "refusal") for task, label in example.labels.items() if label is not None}
        rows.append(TrainingRow(f"r{number}", example.exchange, labels, output="..."))
    write_rows(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


def little_memory(monkeypatch, most: int) -> list[int]:
    """A device that is full with more rows at a time; how many it was given each time."""
    sample, forward, given = Sampler.sample, LlamaForCausalLM.forward, []

    def counted(self, rows):
        given.append(len(rows))
        return sample(self, rows)

    @functools.wraps(forward)
    def full(self, *, input_ids, **options):
        if len(input_ids) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return forward(self, input_ids=input_ids, **options)

    monkeypatch.setattr(Sampler, "sample", counted)
    monkeypatch.setattr(LlamaForCausalLM, "forward", full)
    return given


def test_out_of_memory_halves_the_batches_and_the_samples_stay_the_same(llama, tmp_path, monkeypatch):
    rows = rows_file(tmp_path)
    mine(rows, {"self": llama}, tmp_path / "whole", recipe(8, most=6), report=quiet)
    given = little_memory(monkeypatch, 3)
    told: list[str] = []
    mine(rows, {"self": llama}, tmp_path / "little", recipe(8, most=6), report=told.append)
    assert given == [8, 4, *[2] * 7]
    assert "self: the device ran out of memory with 8 rows at a time; going on with 4" in told
    whole, little = (lines(tmp_path / name / "generations-self.jsonl") for name in ("whole", "little"))
    assert little == whole


def test_a_single_row_that_is_too_much_is_told(llama, tmp_path, monkeypatch):
    little_memory(monkeypatch, 0)
    with pytest.raises(ConfigurationError, match=r"^mine: .* a single row; lower mine\.k or mine\.max_new_tokens"):
        mine(rows_file(tmp_path, 3), {"self": llama}, tmp_path / "out", recipe(8), report=quiet)


def test_with_another_batch_what_is_written_stays(llama, tmp_path, monkeypatch):
    rows, output = rows_file(tmp_path), tmp_path / "out"
    honest, calls = Sampler.sample, []

    def stopped(self, asked):
        calls.append(len(asked))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(self, asked)

    monkeypatch.setattr(Sampler, "sample", stopped)
    with pytest.raises(KeyboardInterrupt):
        mine(rows, {"self": llama}, output, recipe(5), report=quiet)
    written = (output / "generations-self.jsonl").read_bytes()
    assert written.count(b"\n") == 10
    monkeypatch.setattr(Sampler, "sample", honest)
    given = little_memory(monkeypatch, 3)
    mine(rows, {"self": llama}, output, recipe(3), report=quiet)
    assert given == [3, 1]
    assert (output / "generations-self.jsonl").read_bytes().startswith(written)
    assert len(lines(output / "generations-self.jsonl")) == 14


def test_batches_that_were_halved_are_found_again(llama, tmp_path, monkeypatch):
    rows, output = rows_file(tmp_path), tmp_path / "out"
    settings = recipe(8)
    given = little_memory(monkeypatch, 4)
    mine(rows, {"self": llama}, output, settings, report=quiet)
    assert given == [8, 4, 4, 4, 2]
    whole = (output / "generations-self.jsonl").read_bytes()
    # Killed while the last batch but one was written: that one is done again, and not those before it.
    (output / "generations-self.jsonl").write_bytes(b"".join(whole.splitlines(keepends=True)[:10]))
    (output / "figures.json").unlink()
    given.clear()
    mine(rows, {"self": llama}, output, settings, report=quiet)
    assert given == [4, 2]
    assert (output / "generations-self.jsonl").read_bytes() == whole
