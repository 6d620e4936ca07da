"""Bulk jobs on Ray: what is left after kills, and how fast they are beside ``check --file``.

1. Faults: rows are judged by ``guardreasoner bulk`` with one actor a core; two workers and once the job itself are killed with
   SIGKILL, and the same command goes on. Every row must be there once, with the verdict of ``check_many``.
2. Speed: the same rows, and a quarter of them, by ``check --file`` (as many threads as cores) and by a job that nothing happens
   to: rows a second with what starting up takes, and without.
3. Scale: the same rows on 1, 2, ... nodes with one core each. The nodes are SIMULATED (``ray.cluster_utils``): they are
   processes of this machine and share its cores, so that more nodes than cores show what Ray costs, and no speed::

    python benchmarks/bulk.py --rows 200000 --output figures.json
    python benchmarks/bulk.py --rows 2000 --nodes 1 2 --only faults scale

The recorded results are of three runs: ``--rows 200000 --model words --only faults`` (``words`` is what ``write_word_model`` of
``tests/wordguard.py`` writes), ``--rows 5000 --block-rows 250 --only faults scale``, and ``--rows 4000 --only speed`` with the
same blocks.

On a machine that is shared with other work, ``RAY_worker_niceness=0`` keeps Ray's workers at the priority of this script.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Guard
from guardreasoner_sdk.data.journal import JournalEntry

HARMLESS = ["bread", "a cake", "a kite", "a paper boat", "a bird house", "tomato soup", "a garden bench", "a wool hat"]
HARMFUL = ["a pipe bomb", "a phishing site", "a fake passport", "nerve gas"]


def write_rows(path: Path, count: int) -> None:
    """About ten words each, one in ten of them harmful."""
    chance = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            what = chance.choice(HARMFUL if number % 10 == 0 else HARMLESS)
            row = {"id": f"row-{number}", "prompt": f"How do I make {what} at home, in {number} steps?"}
            file.write(f"{json.dumps(row)}\n")


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "guardreasoner_sdk", *arguments]


def bulk(rows: Path, output: Path, given: argparse.Namespace) -> list[str]:
    options = ["--actors", str(given.actors), "--block-rows", str(given.block_rows), "--quiet"]
    return command("bulk", str(rows), str(output), *options, *model(given))


def model(given: argparse.Namespace) -> list[str]:
    return [] if given.model is None else ["--model", str(given.model)]


def workers_of(driver: int) -> list[int]:
    """The pool's processes among the descendants of a process."""
    parents: dict[int, int] = {}
    names: dict[int, bytes] = {}
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


def finished(output: Path) -> int:
    journal = output / "blocks.jsonl"
    return journal.read_bytes().count(b"\n") if journal.exists() else 0


def wait_for(output: Path, blocks: int, job: subprocess.Popen[bytes]) -> None:
    while finished(output) < blocks:
        if job.poll() is not None:
            raise SystemExit(f"the job ended with {job.returncode} before it was killed")
        time.sleep(0.05)


def faults(rows: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Kill two workers and the job, go on, and compare every row."""
    output, blocks = folder / "faults", -(-given.rows // given.block_rows)
    job = subprocess.Popen(bulk(rows, output, given))
    killed = 0
    for share in (0.2, 0.4):
        wait_for(output, max(1, int(blocks * share)), job)
        while not (found := workers_of(job.pid)):
            time.sleep(0.05)
        os.kill(found[0], signal.SIGKILL)
        killed += 1
    wait_for(output, max(2, int(blocks * 0.6)), job)
    job.kill()
    job.wait()
    left = finished(output)
    subprocess.run(bulk(rows, output, given), check=True)
    return {
        "workers killed": killed,
        "jobs killed": 1,
        "blocks": blocks,
        "finished at the kill": left,
        **compared(rows, output, given),
    }


def compared(rows: Path, output: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Every row once, with the verdict of check_many."""
    texts = [json.loads(line) for line in rows.read_text("utf-8").splitlines()]
    found = [JournalEntry.read(line) for part in sorted(output.glob("part-*")) for line in part.read_bytes().splitlines()]
    ids = [entry.identity for entry in found]
    own = {"latency_ms": 0.0}
    with Guard(None if given.model is None else str(given.model)) as guard:
        different = sum(
            entry.verdict.model_copy(update=own) != verdict.model_copy(update=own)
            for entry, verdict in zip(found, guard.iter_many(texts), strict=True)
        )
    once = ids == [row["id"] for row in texts]
    return {"rows": len(found), "each identity once, in order": once, "verdicts unlike those of check_many": different}


def seconds(arguments: Sequence[str]) -> float:
    began = time.perf_counter()
    done = subprocess.run(arguments, check=False, capture_output=True, text=True)
    if done.returncode not in (0, 1):
        raise SystemExit(done.stderr)
    return time.perf_counter() - began


def speed(rows: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Seconds for all rows and for a quarter of them, in turns: what starting up takes can be told from what a row takes."""
    few = folder / "quarter.jsonl"
    write_rows(few, given.rows // 4)
    took: dict[str, dict[int, list[float]]] = {"check --file": {}, "bulk": {}}
    for turn in range(given.rounds):
        for count, path in ((given.rows // 4, few), (given.rows, rows)):
            file = command(
                *("check", "--file", str(path), "--output", str(folder / f"checked-{count}-{turn}.jsonl"), "--quiet"),
                *model(given),
            )
            took["check --file"].setdefault(count, []).append(seconds(file))
            took["bulk"].setdefault(count, []).append(seconds(bulk(path, folder / f"bulk-{count}-{turn}", given)))
    best = {name: {count: min(values) for count, values in of.items()} for name, of in took.items()}
    whole = {name: given.rows / of[given.rows] for name, of in best.items()}
    further = {name: (given.rows - given.rows // 4) / (of[given.rows] - of[given.rows // 4]) for name, of in best.items()}
    return {
        "seconds by rows": {
            name: {str(count): [round(value, 1) for value in values] for count, values in of.items()}
            for name, of in took.items()
        },
        "rows a second, starting up included": {name: round(rate, 1) for name, rate in whole.items()},
        "rows a second, of the last three quarters": {name: round(rate, 1) for name, rate in further.items()},
        "bulk over check --file, starting up included": round(whole["bulk"] / whole["check --file"], 3),
        "bulk over check --file, of the last three quarters": round(further["bulk"] / further["check --file"], 3),
    }


def scale(rows: Path, folder: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Rows a second on so many simulated nodes."""
    from ray.cluster_utils import Cluster

    found = {}
    for nodes in given.nodes:
        cluster = Cluster()
        try:
            for _ in range(nodes):
                cluster.add_node(num_cpus=1)
            job = [*bulk(rows, folder / f"nodes-{nodes}", given), "--address", cluster.address]
            job[job.index("--actors") + 1] = str(nodes)
            found[str(nodes)] = round(given.rows / seconds(job), 1)
        finally:
            cluster.shutdown()
    return {"nodes are simulated, on so many cores": len(os.sched_getaffinity(0)), "rows a second by nodes": found}


PARTS = {"faults": faults, "speed": speed, "scale": scale}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--block-rows", type=int, default=1000)
    parser.add_argument("--actors", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--nodes", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--model", type=Path, help="folder of an embedded model; default: the one in the package")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--output", type=Path, help="write the figures there, as JSON")
    given = parser.parse_args()
    report: dict[str, Any] = {
        "machine": platform.platform(),
        "cpus": len(os.sched_getaffinity(0)),
        "load when it began": os.getloadavg()[0],
        "rows": given.rows,
        "model": "embedded" if given.model is None else given.model.name,
    }
    with tempfile.TemporaryDirectory() as temporary:
        rows = Path(temporary) / "rows.jsonl"
        write_rows(rows, given.rows)
        for part in given.only:
            report[part] = PARTS[part](rows, Path(temporary), given)
            print(part, json.dumps(report[part], indent=2), flush=True)
            if given.output:
                given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
