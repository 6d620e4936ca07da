"""Folders that stages of commit 442f041 left: what is complete is not done again, and what was cut off goes on."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="stages need the extra 'train'")
pytest.importorskip("transformers", reason="stages need the extra 'train'")

from guardreasoner_training.export import export, is_export, is_outdated
from guardreasoner_training.mining import mine
from guardreasoner_training.recipe import Recipe
from guardreasoner_training.rows import read_rows, write_rows
from guardreasoner_training.rsft import rsft
from guardreasoner_training.scratch import scratch
from guardreasoner_training.synthesis import ANSWERS, synthesize
from samples import lines, quiet
from teachers import row_in, settings, teaching

RUNS = Path(__file__).parents[1] / "assets" / "earlier_runs" / "training"
RECIPE = Recipe.model_validate_json((RUNS / "recipe.json").read_bytes())


@pytest.fixture
def runs(tmp_path):
    return Path(shutil.copytree(RUNS, tmp_path / "runs"))


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file() and path.name != ".lock"}


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("base", lambda runs: scratch(runs / "rows.jsonl", runs / "base", RECIPE, report=quiet)),
        ("rsft", lambda runs: rsft(runs / "rows.jsonl", runs / "base", runs / "rsft", RECIPE, report=quiet)),
        ("mine", lambda runs: mine(runs / "rows.jsonl", {"self": runs / "rsft"}, runs / "mine", RECIPE, report=quiet)),
    ],
)
def test_a_complete_stage_is_not_done_again(runs, name, stage):
    before = _files(runs / name)
    figures = stage(runs)
    assert _files(runs / name) == before
    assert figures.items() >= {"rows": 6}.items() or name == "base"


def test_an_export_is_known_and_its_files_are_kept(runs):
    before = _files(runs / "export")
    assert is_export(runs / "export")
    assert not is_outdated(runs / "rsft", runs / "export", gguf=(), rows=())
    export(runs / "rsft", runs / "export", gguf=(), rows=(), report=quiet)
    after = _files(runs / "export")
    assert {name: after[name] for name in before if name != "README.md"} == {
        name: content for name, content in before.items() if name != "README.md"
    }


def test_generations_that_were_cut_off_go_on_behind_those_that_are_there(runs):
    journal = runs / "mine" / "generations-self.jsonl"
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(whole[:4]) + whole[4][:20])
    for name in ("figures.json", "statistics.json", "pairs.jsonl", "pairs-self.jsonl"):
        (runs / "mine" / name).unlink()
    figures = mine(runs / "rows.jsonl", {"self": runs / "rsft"}, runs / "mine", RECIPE, report=quiet)
    assert journal.read_bytes().splitlines(keepends=True)[:4] == whole[:4]
    assert [line["id"] for line in lines(journal)] == [line["id"] for line in lines(RUNS / "mine" / "generations-self.jsonl")]
    assert figures["rows"] == 6


def test_answers_that_were_paid_for_are_not_asked_again(runs):
    journal = runs / "synthesize" / ANSWERS
    whole = journal.read_bytes().splitlines(keepends=True)
    accepted = [line for line in whole if b'"accepted"' in line]
    journal.write_bytes(b"".join(accepted[:3]) + accepted[3][:50])
    with teaching(lambda row, tries: "good") as server:
        quality = synthesize(runs / "asked.jsonl", runs / "synthesize", settings(server), restart=True, report=quiet)
        assert sum(server.requests.values()) == 2
        assert {row_in(body) for body in server.bodies} == set(server.requests)
    assert quality["accepted"] == 5
    assert journal.read_bytes().startswith(b"".join(accepted[:3]))


def test_rows_are_read_and_written_as_they_are(runs):
    write_rows(runs / "again.jsonl", read_rows(runs / "rows.jsonl"))
    assert (runs / "again.jsonl").read_bytes() == (runs / "rows.jsonl").read_bytes()
