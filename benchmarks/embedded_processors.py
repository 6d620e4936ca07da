"""Whether a verdict depends on the processor: the embedded guard on those that qemu emulates, beside the machine's own.

    apt-get install qemu-user
    python benchmarks/embedded_processors.py [--data FILE] [--rows 60] [--nearest 40] [--processors native Haswell Nehalem ...]

The products of the int8 model are summed up by other instructions on each kind of processor (VNNI; AVX2 in Haswell, by pairs
in 16 bits, which more than 7 bits of weight would overflow; SSE in Nehalem), and its floating point in another order. Each
processor judges the same rows in a process of its own, with the package of this checkout. The machine's own judges all rows of
the file, the others ``--rows`` of them, taken at even distances, and the ``--nearest`` ones whose scores come nearest to a
threshold, where a label changes first; with ``native`` among them, the machine's own judges them once more. For each: rows
whose label, category or note is another one, the worst and the mean difference of a score, and how many rows that were not
judged lie as near to a threshold as the worst difference. qemu takes some 20 to 60 times as long. It knows no AVX-512, so that
servers that have it without VNNI cannot be tried.

``aarch64`` is judged by an interpreter that lies in the root of such a system, for example in one that Debian's packages
``libstdc++6`` and ``python3.11`` for arm64, with what they depend on, were unpacked to::

    python -m pip install --target ROOT/usr/lib/python3/dist-packages --platform manylinux_2_28_aarch64 --python-version 3.11
        --only-binary :all: circuitbreaker numpy onnxruntime==VERSION pydantic pydantic-settings sentencepiece
    python benchmarks/embedded_processors.py --processors aarch64 --python-aarch64 ROOT/usr/bin/python3.11 --sysroot ROOT

It is the best that qemu knows; ``aarch64:neoverse-n1`` is a certain one. onnxruntime reads there what ``/proc/cpuinfo`` says of
the processor; qemu before 8.1 shows it the machine's own, unless ``ROOT/proc/cpuinfo`` is one of such a system.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from guardreasoner_sdk.evaluation.benchmarks import read_file
from guardreasoner_sdk.evaluation.clear_cut import clear_cut_rows
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_sdk.judges.embedded import DEFAULT_FOLDER
from guardreasoner_sdk.verdict import TASKS, Task, Verdict

NATIVE = "native"
AARCH64 = "aarch64"
CHECKOUT = Path(__file__).resolve().parents[1]

JUDGE = """
import json, sys, time
from guardreasoner_sdk import Guard
guard = Guard(reasoning="off", cache=0)
guard.check("How do I bake a cake?")
loaded = time.process_time()
with open(sys.argv[1], encoding="utf-8") as rows, open(sys.argv[2], "w", encoding="utf-8") as out:
    for verdict in guard.iter_many(json.loads(line) for line in rows):
        out.write(verdict.model_dump_json() + "\\n")
print(json.dumps([loaded, time.process_time() - loaded]))
"""


class NotJudgedError(Exception):
    """A processor cannot be tried; the text says why."""


@dataclass(frozen=True, slots=True)
class Said:
    """What the guard said on a processor.

    Args:
        verdicts: of each row.
        load: CPU seconds until the first verdict.
        judge: CPU seconds of the rows.
    """

    verdicts: Sequence[Verdict]
    load: float
    judge: float


@dataclass(frozen=True, slots=True)
class Spread:
    """How far the scores of a task lie apart on two processors.

    Args:
        rows: those with a score on both.
        labels_changed: rows whose label is another one.
        worst: the largest difference of a score.
        mean: the mean difference.
        left: rows that were not judged on the other processor and lie as near to the threshold as the largest difference.
    """

    rows: int
    labels_changed: int
    worst: float
    mean: float
    left: int


def command(processor: str, python_aarch64: Path | None = None, sysroot: Path | None = None) -> list[str]:
    """How an interpreter is started on a processor.

    Args:
        processor: ``native``, ``aarch64``, ``aarch64:`` and a name that qemu knows, or such a name of an x86-64.
        python_aarch64: the interpreter for aarch64.
        sysroot: the root of the system that it belongs to.

    Raises:
        NotJudgedError: what is needed is not there.
    """
    if processor == NATIVE:
        return [sys.executable]
    kind, _, name = processor.partition(":")
    emulator = "qemu-aarch64" if kind == AARCH64 else "qemu-x86_64"
    if shutil.which(emulator) is None:
        raise NotJudgedError(f"{emulator} is not installed (Debian's package qemu-user has it)")
    if kind != AARCH64:
        return [emulator, "-cpu", processor, sys.executable]
    if python_aarch64 is None or sysroot is None:
        raise NotJudgedError("it needs an interpreter of its own: give --python-aarch64 and --sysroot")
    return [emulator, "-cpu", name or "max", "-L", str(sysroot), str(python_aarch64)]


def judged(start: Sequence[str], rows: Sequence[LabelledRow]) -> Said:
    """Judge rows in a new process.

    Args:
        start: how its interpreter is started.
        rows: what to judge.

    Raises:
        NotJudgedError: the process failed.
    """
    # A kernel that OpenBLAS is told to use may hold instructions that the emulated processor lacks.
    env = {name: value for name, value in os.environ.items() if name != "OPENBLAS_CORETYPE"}
    env |= {"PYTHONSAFEPATH": "1", "PYTHONPATH": str(CHECKOUT)}
    with tempfile.TemporaryDirectory() as folder:
        given, out = Path(folder) / "rows.jsonl", Path(folder) / "verdicts.jsonl"
        given.write_text("".join(row.exchange.model_dump_json() + "\n" for row in rows), encoding="utf-8")
        done = subprocess.run([*start, "-c", JUDGE, given, out], capture_output=True, text=True, env=env)
        if done.returncode:
            said = done.stderr.strip().splitlines()
            raise NotJudgedError(said[-1] if said else f"its process ended with {done.returncode}")
        verdicts = [Verdict.model_validate_json(line) for line in out.read_text(encoding="utf-8").splitlines()]
        return Said(verdicts, *json.loads(done.stdout))


def kept(folder: Path | None, processor: str, start: Sequence[str], rows: Sequence[LabelledRow]) -> Said:
    """What lies in a folder from before, of the same rows, model and machine; else judge, and keep it there.

    Args:
        folder: where it lies; None: nowhere.
        processor: its name.
        start: as in :func:`judged`.
        rows: what to judge.
    """
    if folder is None:
        return judged(start, rows)
    digest = hashlib.sha256((DEFAULT_FOLDER / "config.json").read_bytes())
    for part in (machine(), version("onnxruntime"), *(row.exchange.model_dump_json() for row in rows)):
        digest.update(part.encode())
    path = folder / f"{processor.replace(':', '-')}-{digest.hexdigest()[:16]}.json"
    if path.exists():
        found = json.loads(path.read_text(encoding="utf-8"))
        return Said([Verdict.model_validate(one) for one in found["verdicts"]], found["load"], found["judge"])
    said = judged(start, rows)
    stored = {"load": said.load, "judge": said.judge, "verdicts": [one.model_dump(mode="json") for one in said.verdicts]}
    folder.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(stored) + "\n", encoding="utf-8")
    return said


def of_task(verdict: Verdict, task: Task, field: str) -> Any:
    """A field of what a verdict says on a task; None where it says nothing."""
    return getattr(getattr(verdict, task), field, None)


def margin(verdict: Verdict, task: Task, thresholds: Mapping[Task, float]) -> float:
    """How far a score lies from where its label changes; without one, farther than any."""
    score = of_task(verdict, task, "score")
    return 2.0 if score is None else abs(score - thresholds[task])


def chosen(native: Sequence[Verdict], thresholds: Mapping[Task, float], *, rows: int, nearest: int) -> list[int]:
    """Which rows the other processors judge: some at even distances, and those nearest to a threshold.

    Args:
        native: what the machine's own processor said of all.
        thresholds: where a label changes, of each task.
        rows: how many at even distances.
        nearest: how many near a threshold.
    """
    rows = min(rows, len(native))
    margins = [min(margin(verdict, task, thresholds) for task in TASKS) for verdict in native]
    near = sorted(range(len(native)), key=margins.__getitem__)[:nearest]
    return sorted({*near, *(number * len(native) // rows for number in range(rows))})


def compared(native: Sequence[Verdict], other: Mapping[int, Verdict], thresholds: Mapping[Task, float]) -> dict[Task, Spread]:
    """How far two processors lie apart, for each task of which there are rows.

    Args:
        native: what the machine's own processor said of all rows.
        other: what the other one said, by the number of the row.
        thresholds: where a label changes, of each task.
    """
    found: dict[Task, Spread] = {}
    for task in TASKS:
        pairs = [(native[number], verdict) for number, verdict in other.items()]
        labels = [(of_task(one, task, "label"), of_task(two, task, "label")) for one, two in pairs]
        scores = [(of_task(one, task, "score"), of_task(two, task, "score")) for one, two in pairs]
        apart = [abs(one - two) for one, two in scores if one is not None and two is not None]
        if not apart and not any(one != two for one, two in labels):
            continue
        worst = max(apart, default=0.0)
        left = [verdict for number, verdict in enumerate(native) if number not in other]
        found[task] = Spread(
            rows=len(apart),
            labels_changed=sum(one != two for one, two in labels),
            worst=worst,
            mean=statistics.mean(apart) if apart else 0.0,
            left=sum(margin(verdict, task, thresholds) <= worst for verdict in left),
        )
    return found


def changed(native: Sequence[Verdict], other: Mapping[int, Verdict], names: Sequence[str]) -> dict[str, list[str]]:
    """The names of rows on which the verdict is another one: by its labels, its hazard categories, its notes."""
    views: dict[str, Callable[[Verdict], object]] = {
        "labels": lambda verdict: [of_task(verdict, task, "label") for task in TASKS],
        "categories": lambda verdict: verdict.categories,
        "notes": lambda verdict: [of_task(verdict, task, "note") for task in TASKS],
    }
    return {
        what: [names[number] for number, verdict in other.items() if view(verdict) != view(native[number])]
        for what, view in views.items()
    }


def machine() -> str:
    """This machine's own processor, and which instructions it has for sums of 8-bit products."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.machine()
    about = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    known = {*about.get("flags", "").split(), *about.get("Features", "").split()}
    has = [one for one in ("avx2", "avx512bw", "avx_vnni", "avx512_vnni", "amx_int8", "asimddp", "i8mm") if one in known]
    return f"{about.get('model name', platform.machine())} ({', '.join(has) or 'none of AVX2, VNNI, AMX'})"


def table(processors: Mapping[str, Mapping[str, Any]]) -> str:
    """The figures for a reader: a line for each processor and task, and why one has none."""
    lines = [
        "| processor | task | rows | labels changed | worst difference | mean | not judged, within the worst |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for name, of in processors.items():
        if "not judged" in of:
            lines.append(f"| {name} | not judged: {of['not judged']} |  |  |  |  |  |")
        for task, spread in of.get("tasks", {}).items():
            figures = f"{spread['worst']:.4f} | {spread['mean']:.5f} | {spread['left']}"
            lines.append(f"| {name} | {task} | {spread['rows']} | {spread['labels_changed']} | {figures} |")
    return "\n".join(lines)


def measured(given: argparse.Namespace) -> dict[str, Any]:
    """All figures: what was measured, and those of each processor."""
    from guardreasoner_sdk.judges.model_folder import shared_model

    thresholds = shared_model(DEFAULT_FOLDER).thresholds
    rows = clear_cut_rows() if given.data is None else list(read_file(given.data))
    native = kept(given.keep, NATIVE, command(NATIVE), rows)
    numbers = chosen(native.verdicts, thresholds, rows=given.rows, nearest=given.nearest)
    taken, names = [rows[number] for number in numbers], [row.id for row in rows]

    def of(processor: str) -> dict[str, Any]:
        try:
            start = command(processor, given.python_aarch64, given.sysroot)
            said = judged(start, taken) if processor == NATIVE else kept(given.keep, processor, start, taken)
        except NotJudgedError as error:
            return {"not judged": str(error)}
        other = dict(zip(numbers, said.verdicts, strict=True))
        return {
            "seconds to load": round(said.load, 2),
            "seconds a row": round(said.judge / max(1, len(taken)), 4),
            "tasks": {task: asdict(spread) for task, spread in compared(native.verdicts, other, thresholds).items()},
            "changed": changed(native.verdicts, other, names),
        }

    with ThreadPoolExecutor(given.processes) as pool:
        processors = dict(zip(given.processors, pool.map(of, given.processors), strict=True))
    return {
        "machine": machine(),
        "onnxruntime": version("onnxruntime"),
        "model": json.loads((DEFAULT_FOLDER / "config.json").read_text(encoding="utf-8"))["sha256"],
        "rows of": "the package's clear-cut texts" if given.data is None else given.data.name,
        "rows": len(rows),
        "judged on each": len(taken),
        "processors": processors,
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="rows that 'guardreasoner evaluate' reads; default: the clear-cut texts")
    parser.add_argument("--rows", type=int, default=60, help="so many of them, at even distances")
    parser.add_argument("--nearest", type=int, default=40, help="and so many whose scores come nearest to a threshold")
    parser.add_argument("--processors", nargs="+", default=[NATIVE, "Haswell", "Nehalem"], help="names that qemu knows")
    parser.add_argument("--processes", type=int, default=2, help="processors tried at a time")
    parser.add_argument("--python-aarch64", type=Path, help="an interpreter for aarch64")
    parser.add_argument("--sysroot", type=Path, help="the root of the system that it belongs to")
    parser.add_argument("--keep", type=Path, help="a folder for what each processor said, which is not judged again then")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    figures = measured(given)
    print(f"{figures['machine']}, onnxruntime {figures['onnxruntime']}")
    print(f"{figures['judged on each']} of {figures['rows']} rows of {figures['rows of']}\n")
    print(table(figures["processors"]))
    for name, of in figures["processors"].items():
        for what, rows in of.get("changed", {}).items():
            if rows:
                print(f"{name}: {what} of {', '.join(rows)}")
    if given.output:
        given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
