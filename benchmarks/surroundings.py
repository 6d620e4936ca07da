"""The embedded guard beside an earlier build of it, on the same texts in the same run: surroundings, languages, held-out rows.

    python -m guardreasoner_training.embedded.held_out --data rows/ [--unlabelled more/] --output held/
    python benchmarks/surroundings.py --rows held/dev.jsonl held/unseen.jsonl --beside CHECKOUT [--pairs 40]

Each file's rows are judged as they are: false alarms and recall by language and by kind of text, F1 of each task. Of the
English rows of the first file the sets of ``guardreasoner evaluate --robustness`` are made, and the clear-cut texts of the
package come beside them. Both builds get the same rows, each in a process of its own. Nothing is learnt or chosen from what
comes out.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path

from guardreasoner_sdk.evaluation.benchmarks import read_file
from guardreasoner_sdk.evaluation.robustness import RobustnessRow, RobustnessTally, robustness_rows
from guardreasoner_sdk.evaluation.rows import LabelledRow, says_positive
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import TASKS, Verdict

JUDGE = """
import json, sys
from guardreasoner_sdk import Guard
guard = Guard(reasoning="off", cache=0)
with open(sys.argv[1], encoding="utf-8") as rows, open(sys.argv[2], "w", encoding="utf-8") as out:
    for verdict in guard.iter_many(json.loads(line) for line in rows):
        out.write(verdict.model_dump_json() + "\\n")
"""
SETS = ("needles", "framings", "conversations", "disguises")


def verdicts(exchanges: Iterable[Exchange], checkout: Path | None) -> list[Verdict]:
    """What the guard of a checkout says; None: the one that is installed."""
    env = {**os.environ, "PYTHONSAFEPATH": "1"} | ({} if checkout is None else {"PYTHONPATH": str(checkout)})
    with tempfile.TemporaryDirectory() as folder:
        rows, out = Path(folder) / "rows.jsonl", Path(folder) / "verdicts.jsonl"
        rows.write_text("".join(exchange.model_dump_json() + "\n" for exchange in exchanges), encoding="utf-8")
        subprocess.run([sys.executable, "-c", JUDGE, rows, out], check=True, env=env)
        return [Verdict.model_validate_json(line) for line in out.read_text(encoding="utf-8").splitlines()]


def as_they_are(rows: Sequence[LabelledRow], said: Sequence[Verdict]) -> dict[str, dict[str, object]]:
    """Rows, F1, recall and false alarms in percent, of each task, and of prompts by language and by kind."""
    counts: dict[str, list[tuple[bool, bool]]] = {}
    for row, verdict in zip(rows, said, strict=True):
        for task in TASKS:
            truth = row.labels.get(task)
            if truth is None:
                continue
            found = says_positive(getattr(verdict, task), task)
            pair = (truth, not truth if found is None else found)  # a guard that cannot decide is wrong
            counts.setdefault(task, []).append(pair)
            if task == TASKS[0]:
                counts.setdefault(f"prompts in {row.language}", []).append(pair)
                counts.setdefault(f"prompts of kind {row.kind}", []).append(pair)
    return {name: figures(pairs) for name, pairs in sorted(counts.items())}


def figures(pairs: Sequence[tuple[bool, bool]]) -> dict[str, object]:
    """F1, recall and false alarms, in percent; None where there is nothing to count."""
    hits = sum(truth and said for truth, said in pairs)
    positives, called_so = sum(truth for truth, _ in pairs), sum(said for _, said in pairs)
    alarms, negatives = called_so - hits, len(pairs) - positives
    return {
        "rows": len(pairs),
        "f1": round(200 * hits / (positives + called_so), 1) if positives else None,
        "recall": round(100 * hits / positives, 1) if positives else None,
        "false alarms": round(100 * alarms / negatives, 1) if negatives else None,
    }


def in_surroundings(rows: Sequence[RobustnessRow], said: Sequence[Verdict]) -> dict[str, dict[str, object]]:
    """Of each set, surroundings and task: what is found and what is flagged, in percent."""
    tally = RobustnessTally()
    for row, verdict in zip(rows, said, strict=True):
        tally.add(row, verdict)
    return {
        f"{one.set}: {one.variant}, {one.task}": {
            "found": one.found.percent,
            "of": one.found.rows,
            "flagged": one.flagged.percent,
            "flagged alone": None if one.flagged_alone is None else one.flagged_alone.percent,
            "of harmless": one.flagged.rows,
        }
        for one in tally.robustness().figures
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="+", required=True, help="files that 'guardreasoner evaluate' reads")
    parser.add_argument("--beside", type=Path, help="a checkout of an earlier version")
    parser.add_argument("--pairs", type=int, default=40, help="most pairs of a harmful and a harmless text; 0: no sets")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    builds: dict[str, Path | None] = {"this": None, **({"beside": given.beside} if given.beside else {})}
    found: dict[str, dict[str, dict[str, dict[str, object]]]] = {}
    for path in given.rows:
        rows = list(read_file(path))
        found[path.name] = {
            name: as_they_are(rows, verdicts((row.exchange for row in rows), build)) for name, build in builds.items()
        }
    made = robustness_rows([], sets=["clear_cut"])
    if given.pairs:
        first = [row for row in read_file(given.rows[0]) if row.language == "en" and row.kind != "moderation"]
        made = [*robustness_rows(first, sets=SETS, pairs=given.pairs, seed=given.seed), *made]
    found["surroundings"] = {
        name: in_surroundings(made, verdicts((row.exchange for row in made), build)) for name, build in builds.items()
    }
    for title, of_builds in found.items():
        print(f"\n{title}")
        for key in of_builds["this"]:
            print(f"  {key}: " + " | ".join(f"{name} {of[key]}" for name, of in of_builds.items()))
    if given.output:
        given.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
