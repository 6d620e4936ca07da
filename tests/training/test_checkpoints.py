"""Which checkpoints are complete, which of them is gone on from, and which can go: no training is needed for that."""

import json
from pathlib import Path

import pytest

from guardreasoner_training.trainers.checkpoints import (
    MARK,
    Setup,
    discard_incomplete,
    keep_newest,
    mark_complete,
    newest_complete,
    setup_of,
)

ALONE = Setup(processes=1, deepspeed=False)


def checkpoint(folder: Path, step: int, *, complete: bool = True) -> Path:
    path = folder / f"checkpoint-{step}"
    (path / "state").mkdir(parents=True)
    (path / "model.safetensors").write_bytes(bytes(100))
    (path / "state" / "optimizer.pt").write_bytes(bytes(200))
    if complete:
        mark_complete(path, ALONE)
    return path


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_the_newest_is_the_one_of_the_most_steps_that_says_that_it_is_complete(tmp_path: Path) -> None:
    assert newest_complete(tmp_path) is None
    for step in (9, 10, 100):
        checkpoint(tmp_path, step, complete=step < 100)
    checkpoint(tmp_path, 7).rename(tmp_path / "checkpoint-best")
    found = newest_complete(tmp_path)
    assert found == tmp_path / "checkpoint-10"
    assert setup_of(found) == ALONE


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "model.safetensors").write_bytes(bytes(99)),  # what a lost connection or current leaves
        lambda path: (path / "state" / "optimizer.pt").write_bytes(b""),
        lambda path: (path / "state" / "optimizer.pt").unlink(),
        lambda path: (path / "more.pt").write_bytes(b"x"),
        lambda path: (path / MARK).unlink(),
        lambda path: (path / MARK).write_bytes((path / MARK).read_bytes()[:-5]),
        lambda path: (path / MARK).write_text("[]"),
        lambda path: (path / MARK).write_text(json.dumps({"processes": 1, "deepspeed": False})),
    ],
    ids=["shorter", "empty", "missing", "more", "unmarked", "torn", "list", "without sizes"],
)
def test_one_with_other_files_than_its_mark_names_is_not_gone_on_from_and_is_thrown_away(damage, tmp_path: Path) -> None:
    checkpoint(tmp_path, 2)
    damage(checkpoint(tmp_path, 4))
    assert newest_complete(tmp_path) == tmp_path / "checkpoint-2"
    discard_incomplete(tmp_path)
    assert names(tmp_path) == {"checkpoint-2"}


def test_as_many_complete_ones_stay_as_are_to_stay_and_no_incomplete_one_counts(tmp_path: Path) -> None:
    for step in (2, 4, 10, 12):
        checkpoint(tmp_path, step, complete=step < 12)
    keep_newest(tmp_path, 5)
    assert len(names(tmp_path)) == 4
    keep_newest(tmp_path, 2)
    assert names(tmp_path) == {"checkpoint-4", "checkpoint-10", "checkpoint-12"}
