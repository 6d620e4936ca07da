"""A mining that is killed at any moment, and started again: the files are those of an uninterrupted run, byte for byte."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from contextlib import closing, suppress
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch", reason="mining needs the extra 'train'")
pytest.importorskip("transformers", reason="mining needs the extra 'train'")

from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.errors import InputError
from guardreasoner_training.mining.generate import generations_in
from guardreasoner_training.rows import TrainingRow, write_rows
from guardreasoner_training.tiny.tasks import draw

FILES = (
    "generations-self.jsonl",
    "generations-one.jsonl",
    "pairs.jsonl",
    "pairs-self.jsonl",
    "statistics.json",
    "figures.json",
)

SCRIPT = """
import os
import sys
import traceback
from pathlib import Path
import torch
import transformers
from guardreasoner_training.mining import mine
from guardreasoner_training.recipe import EnsembleMember, MineSettings, Recipe

torch.set_num_threads(1)
folder, model = map(Path, sys.argv[1:])
settings = MineSettings(
    k=2, max_new_tokens=130, batch=4, engine="transformers", ensemble=(EnsembleMember(name="one", sources=("Aegis*",)),)
)
recipe = Recipe(name="test", base="none", rendering="raw", max_tokens=512, mine=settings)
for line in sys.stdin:
    if not (child := os.fork()):
        try:
            mine(folder / "rows.jsonl", {"self": model, "one": model}, folder / line.strip(), recipe, report=lambda _: None)
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""
"""Mines into each folder that it is told, in a process for each, and loads its libraries once for all of them."""


class Starts:
    """Minings of the same rows by the same models.

    Args:
        folder: with the rows.
        model: of the whole ensemble.
    """

    def __init__(self, folder: Path, model: Path) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        self._parent = subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder), str(model)],
            env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def whole(self, output: str) -> int:
        """Mine to the end; the exit code."""
        self._start(output)
        return self._ended()

    def killed(self, output: str, journal: Path, lines: int) -> None:
        """Kill a mining as soon as its journal has so many lines."""
        child = self._start(output)
        with suppress(ProcessLookupError):  # it was over before
            while lines_in(journal) < lines:
                os.kill(child, 0)
                time.sleep(0.005)
            os.kill(child, signal.SIGKILL)
        assert self._ended() == -signal.SIGKILL

    def _start(self, output: str) -> int:
        self._parent.stdin.write(f"{output}\n")
        self._parent.stdin.flush()
        return int(self._parent.stdout.readline())

    def _ended(self) -> int:
        return int(self._parent.stdout.readline())

    def close(self) -> None:
        """End the process that starts them."""
        self._parent.communicate()


def lines_in(path: Path) -> int:
    with suppress(FileNotFoundError):
        return path.read_bytes().count(b"\n")
    return 0


@pytest.fixture(scope="module")
def rows(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("resume")
    random = Random(8)
    made = []
    for number in range(20):
        example = draw(random, vague=0.5)
        labels = {task: label in ("harmful", "refusal") for task, label in example.labels.items() if label is not None}
        made.append(TrainingRow(f"r{number}", example.exchange, labels, source=("WildGuard", "Aegis")[number % 2]))
    write_rows(folder / "rows.jsonl", made)
    return folder


def test_a_killed_mining_ends_up_with_the_same_files(rows, tiny_guard):
    with closing(Starts(rows, tiny_guard.folder)) as starts:
        assert starts.whole("whole") == 0
        cut = rows / "cut"
        # In the middle of the first model, then of the second one; and a kill in the middle of a write: half a line is left.
        starts.killed("cut", cut / "generations-self.jsonl", 8)
        assert 8 <= lines_in(cut / "generations-self.jsonl") < 20
        with (cut / "generations-self.jsonl").open("ab") as journal:
            journal.write((rows / "whole/generations-self.jsonl").read_bytes().splitlines(keepends=True)[19][:50])
        starts.killed("cut", cut / "generations-one.jsonl", 4)
        assert lines_in(cut / "generations-self.jsonl") == 20
        assert 4 <= lines_in(cut / "generations-one.jsonl") < 10
        assert not (cut / "figures.json").exists()
        # Cut in the middle of a batch, too: the whole batch is done again.
        kept = (cut / "generations-one.jsonl").read_bytes().splitlines(keepends=True)[:3]
        (cut / "generations-one.jsonl").write_bytes(b"".join(kept))
        assert starts.whole("cut") == 0
    for name in FILES:
        assert (cut / name).read_bytes() == (rows / "whole" / name).read_bytes(), name
    assert json.loads((cut / "figures.json").read_text())["sets"]["self"]["pairs"] > 0


def test_a_damaged_journal_is_named_with_its_line(tmp_path):
    journal = tmp_path / "generations-self.jsonl"
    with Lines(journal) as lines:
        lines.add({"id": f"r{number}", "samples": []} for number in range(3))
    whole = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join([whole[0], b"{broken\n", whole[2]]))
    with pytest.raises(InputError, match=r"generations-self\.jsonl:2: is damaged; pass --restart to start over"):
        list(generations_in(journal))


def test_half_a_line_at_the_end_is_dropped(tmp_path):
    journal = tmp_path / "journal.jsonl"
    journal.write_bytes(b'{"id": "a"}\n{"id": "b"')
    with Lines(journal) as lines:
        assert [line["id"] for line in lines] == ["a"]
        lines.add([{"id": "c"}, {"id": "d"}])
        lines.keep(2)
    assert journal.read_bytes() == b'{"id": "a"}\n{"id": "c"}\n'


def test_a_full_disk_is_named_and_what_was_written_stays(tmp_path):
    journal = tmp_path / "journal.jsonl"
    with Lines(journal) as lines:
        lines.add([{"id": "a"}])
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (journal.stat().st_size, before[1]))
        try:
            with pytest.raises(InputError, match=r"journal\.jsonl cannot be written .*free some space"):
                lines.add([{"id": "b"}])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert journal.read_bytes() == b'{"id": "a"}\n'
