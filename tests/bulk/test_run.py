"""Bulk jobs on a real Ray: each row once, whoever dies, and the verdicts of check_many."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import BackendError, ConfigurationError, Exchange, Guard, InputError, Judgement
from guardreasoner_sdk.bulk import BulkOptions, add_verdicts, run_bulk
from guardreasoner_sdk.data.journal import JournalEntry
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from wordguard import HARMFUL, HARMLESS, REFUSAL, write_word_model

ray = pytest.importorskip("ray", reason="pip install 'guardreasoner-sdk[ray]'")
pytest.importorskip("ray.data", reason="pip install 'guardreasoner-sdk[ray]'")

# Ray's own: streams and processes that it leaves to the interpreter's end, and what it will drop one day.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]

ROWS = 60


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_word_model(tmp_path_factory.mktemp("words") / "model")


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Ray as an application has it, for all tests but those that end it."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    for last in (False, False, True):  # it gives up after half a minute, which a busy machine may need more of
        try:
            ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
            break
        except Exception:
            ray.shutdown()
            if last:
                raise
    yield
    ray.shutdown()
    gc.collect()  # it never waits for the processes that it ends, and Python complains when it forgets them: here, and not later


def write_rows(path: Path, count: int = ROWS) -> Path:
    kinds: list[dict[str, Any]] = [
        {"prompt": HARMLESS},
        {"prompt": HARMFUL},
        {"prompt": HARMLESS, "response": REFUSAL},
        {"x": 1},
    ]
    path.write_text("".join(json.dumps({"id": f"r{n}", **kinds[n % 4]}) + "\n" for n in range(count)), "utf-8")
    return path


def verdicts_in(output: Path) -> list[JournalEntry]:
    return [JournalEntry.read(line) for part in sorted(output.glob("part-*.jsonl")) for line in part.read_bytes().splitlines()]


def check_against_check_many(output: Path, source: Path, model: Path) -> None:
    rows = [json.loads(line) for line in source.read_text("utf-8").splitlines()]
    found = verdicts_in(output)
    # As in check --file, a row without a prompt has its number alone.
    assert [(entry.row, entry.identity) for entry in found] == [
        (n, row["id"] if "prompt" in row else None) for n, row in enumerate(rows, 1)
    ]
    with Guard(str(model)) as guard:
        expected = guard.check_many([row if "prompt" in row else () for row in rows])
    for row, entry, verdict in zip(rows, found, expected, strict=True):
        if "prompt" not in row:
            assert entry.verdict.undetermined
            assert not entry.verdict.allowed
            continue
        own = {"latency_ms": 0.0}
        assert entry.verdict.model_copy(update=own) == verdict.model_copy(update=own)


def test_a_file_is_judged_as_by_check_many_and_is_then_complete(cluster: None, model: Path, tmp_path: Path) -> None:
    source, output, told = write_rows(tmp_path / "rows.jsonl"), tmp_path / "out", []
    options = BulkOptions(actors=2, block_rows=7)
    figures = run_bulk(source, output, guard={"model": str(model)}, options=options, progress=lambda *told_: told.append(told_))
    assert figures == {"rows": 60, "allowed": 30, "blocked": 15, "undetermined": 15, "unreadable": 15, "blocks": 9}
    check_against_check_many(output, source, model)
    assert (told[0], told[-1]) == ((0, 60), (60, 60))
    before = {path.name: path.stat().st_mtime_ns for path in output.iterdir()}
    assert run_bulk(source, output, guard={"model": str(model)}, options=options) == figures
    assert {path.name: path.stat().st_mtime_ns for path in output.iterdir() if path.name != ".lock"}.items() <= before.items()
    other_size = BulkOptions(actors=2, block_rows=8)
    for change in ({"guard": {"model": str(model), "policy": {"block": ["refusal"]}}}, {"options": other_size}):
        with pytest.raises(InputError, match="was made with other settings"):
            run_bulk(source, output, **{"guard": {"model": str(model)}, "options": options, **change})
    write_rows(source, 61)
    with pytest.raises(InputError, match="is another, or has changed"):
        run_bulk(source, output, guard={"model": str(model)}, options=options)


def test_a_folder_of_parquet_becomes_parquet_with_the_names_of_its_files(cluster: None, model: Path, tmp_path: Path) -> None:
    import pyarrow.parquet

    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        table = pyarrow.table({"prompt": [HARMLESS, HARMFUL] * 5, "id": [f"{name}{n}" for n in range(10)]})
        pyarrow.parquet.write_table(table, tmp_path / "in" / f"{name}.parquet", row_group_size=4)
    options = BulkOptions(actors=1, block_rows=3, output_format="parquet")
    assert run_bulk(tmp_path / "in", tmp_path / "out", guard={"model": str(model)}, options=options)["blocked"] == 10
    rows = [
        row
        for part in sorted((tmp_path / "out").glob("part-*.parquet"))
        for row in pyarrow.parquet.read_table(part).to_pylist()
    ]
    assert [(row["file"], row["row"], row["id"]) for row in rows] == [
        (f"{name}.parquet", n + 1, f"{name}{n}") for name in "ab" for n in range(10)
    ]
    assert [row["action"] for row in rows] == ["allow", "block"] * 10
    with pytest.raises(InputError, match="lies inside the input"):
        run_bulk(tmp_path / "in", tmp_path / "in" / "out", guard={"model": str(model)})


def test_a_dataset_of_ones_own_gets_columns(cluster: None, model: Path) -> None:
    rows = ray.data.from_items([{"prompt": HARMFUL, "n": 1}, {"prompt": HARMLESS, "n": 2}])
    found = add_verdicts(rows, guard={"model": str(model)}).sort("n").take_all()
    assert [(row["n"], row["guard_action"], row["guard_prompt_harmfulness"]) for row in found] == [
        (1, "block", "harmful"),
        (2, "allow", "unharmful"),
    ]
    assert json.loads(found[0]["guard_verdict"])["prompt_harmfulness"]["score"] == found[0]["guard_prompt_harmfulness_score"]


def test_a_row_that_kills_every_worker_ends_the_job_and_names_its_block(cluster: None, tmp_path: Path) -> None:
    def deadly(exchange: Exchange) -> Judgement:
        if exchange.prompt == "deadly":
            os._exit(1)
        return judgement()

    source = tmp_path / "rows.jsonl"
    source.write_text("".join(json.dumps({"prompt": f"{n}" if n != 7 else "deadly"}) + "\n" for n in range(12)))
    options = BulkOptions(actors=1, block_rows=4)
    with pytest.raises(BackendError, match=r"5 workers died over rows 5 to 8 of .*rows.jsonl"):
        run_bulk(source, tmp_path / "out", guard={"judge": ScriptedJudge(deadly)}, options=options)


def test_a_guard_that_cannot_work_is_told_and_not_tried_for_ever(cluster: None, tmp_path: Path) -> None:
    source = write_rows(tmp_path / "rows.jsonl")
    with pytest.raises(ConfigurationError, match="model"):
        run_bulk(source, tmp_path / "out", guard={"model": "no-such-model"})
    judge = ScriptedJudge({}, otherwise=ConfigurationError("no weights"))
    with pytest.raises(ConfigurationError, match="no weights"):
        run_bulk(source, tmp_path / "out", guard={"judge": judge}, options=BulkOptions(actors=1))


def test_rows_of_another_column_are_told_before_anything_begins(tmp_path: Path, model: Path) -> None:
    source = tmp_path / "rows.jsonl"
    source.write_text('{"text": "Hi"}\n' * 3)
    with pytest.raises(InputError, match="none of its first 3 rows can be read"):
        run_bulk(source, tmp_path / "out", guard={"model": str(model)})
    source.write_text("\n\n")
    with pytest.raises(InputError, match="has no rows"):
        run_bulk(source, tmp_path / "out", guard={"model": str(model)})


def workers_of(driver: int) -> list[int]:
    """The processes of the pool that belong to a driver, by its descendants."""
    parents, names = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(folder.name)] = int((folder / "stat").read_text().rpartition(")")[2].split()[1])
            names[int(folder.name)] = (folder / "cmdline").read_bytes()
        except (OSError, ValueError, IndexError):
            continue

    def belongs(process: int) -> bool:
        while process in parents and process != driver:
            process = parents[process]
        return process == driver

    return [process for process, name in names.items() if b"BlockJudge" in name and belongs(process)]


def wait_for_blocks(output: Path, count: int, job: subprocess.Popen[bytes]) -> None:
    journal = output / "blocks.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < count:
        assert job.poll() is None, "the job ended before it was killed"
        time.sleep(0.02)


@pytest.mark.skipif(sys.platform != "linux", reason="looks for processes in /proc")
def test_killed_workers_and_a_killed_job_cost_no_row_and_double_none(model: Path, tmp_path: Path) -> None:
    source, output = write_rows(tmp_path / "rows.jsonl", 2000), tmp_path / "out"
    command = [sys.executable, "-m", "guardreasoner_sdk", "bulk", str(source), str(output), "--model", str(model)]
    command += ["--actors", "1", "--block-rows", "25", "--quiet"]
    job = subprocess.Popen(command)
    for done in (3, 8):
        wait_for_blocks(output, done, job)
        for worker in workers_of(job.pid)[:1]:
            os.kill(worker, signal.SIGKILL)
    wait_for_blocks(output, 12, job)
    job.kill()
    job.wait()
    left = (output / "blocks.jsonl").read_bytes().count(b"\n")
    assert left < 80
    subprocess.run(command, check=True)
    check_against_check_many(output, source, model)
    blocks = [json.loads(line)["block"] for line in (output / "blocks.jsonl").read_text().splitlines()]
    assert sorted(blocks) == list(range(80))
