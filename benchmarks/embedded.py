"""The embedded guard's speed, and its quality beside what else a user can install and run offline.

    pip install alt-profanity-check better-profanity     # optional: they are measured where they are installed
    python benchmarks/embedded.py [--rows labelled.jsonl ...] [--output figures.json]

Speed: one check on one core (median and 99th percentile of 200 calls), rows a second in ``check_many`` on two cores, memory of
the process. Quality: F1 of the harmful class over the labelled rows, in percent, all guards on the same rows in the same run.
The word filters know no prompts and responses: they are asked whether the text itself is profane.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

SENTENCE = (
    "Could you please help me to plan a quiet weekend in the mountains with my two small children, who love animals, "
    "short walks, soup and bedtime stories by the fire?"
)
LENGTHS = (30, 120, 480)

CALLS = """
import json, sys, time
from guardreasoner_sdk import Guard
guard, text = Guard(reasoning="off"), sys.argv[1]
for _ in range(20):
    guard.check(text)
times = []
for _ in range(200):
    started = time.perf_counter()
    guard.check(text)
    times.append(time.perf_counter() - started)
print(json.dumps(times))
"""

MANY = """
import json, resource, sys, time
from guardreasoner_sdk import Guard
guard = Guard(reasoning="off")
words = sys.argv[1].split()
texts = [" ".join([str(number), *words[1:]]) for number in range(600)]
guard.check_many(texts[:50])
started = time.perf_counter()
guard.check_many(texts)
seconds = time.perf_counter() - started
print(json.dumps([len(texts) / seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def text_of(words: int) -> str:
    """A harmless text of so many words."""
    once = SENTENCE.split()
    return " ".join((once * (words // len(once) + 1))[:words])


def run(code: str, text: str, cores: int) -> object:
    """Run code in a new process on so many cores, and read the JSON line that it prints."""
    chosen = set(sorted(os.sched_getaffinity(0))[-cores:])
    pin = lambda: os.sched_setaffinity(0, chosen)  # noqa: E731
    done = subprocess.run([sys.executable, "-c", code, text], capture_output=True, text=True, check=True, preexec_fn=pin)
    return json.loads(done.stdout)


def speed() -> dict[str, object]:
    """Measure the time of a check by length, and the throughput."""
    found: dict[str, object] = {}
    for words in LENGTHS:
        times = sorted(1000 * seconds for seconds in run(CALLS, text_of(words), 1))  # type: ignore[attr-defined]
        found[f"{words} words, ms"] = {
            "median": round(statistics.median(times), 2),
            "p99": round(times[int(0.99 * len(times))], 2),
        }
        print(f"{words:4} words, one core: {found[f'{words} words, ms']}")
    rate, memory = run(MANY, text_of(60), 2)  # type: ignore[misc]
    found["rows a second, 60 words, two cores"] = round(rate, 1)
    found["memory, MiB"] = round(memory)
    print(f"check_many on two cores: {rate:.1f} rows a second of 60 words; {memory:.0f} MiB")
    return found


def others() -> dict[str, Callable[[Sequence[str]], list[bool]]]:
    """The word filters that are installed, by name."""
    found: dict[str, Callable[[Sequence[str]], list[bool]]] = {}
    if find_spec("profanity_check") is not None:
        from profanity_check import predict

        found["alt-profanity-check"] = lambda texts: [bool(one) for one in predict(list(texts))]
    if find_spec("better_profanity") is not None:
        from better_profanity import profanity

        found["better-profanity"] = lambda texts: [profanity.contains_profanity(text) for text in texts]
    return found


def f1(truths: Sequence[bool], said: Sequence[bool]) -> float:
    """F1 of the harmful class, in percent."""
    hits = sum(truth and one for truth, one in zip(truths, said, strict=True))
    return round(200 * hits / max(1, sum(truths) + sum(said)), 2)


def quality(paths: Sequence[Path]) -> dict[str, object]:
    """Measure F1 of the harmful class on labelled rows, for both tasks that know it."""
    from guardreasoner_sdk import Guard
    from guardreasoner_sdk.evaluation.benchmarks import read_file

    found: dict[str, object] = {}
    guard = Guard(reasoning="off")
    for path in paths:
        rows = list(read_file(path))
        for task, side in (("prompt_harmfulness", "prompt"), ("response_harmfulness", "response")):
            own = [row for row in rows if task in row.labels]
            if not own:
                continue
            truths = [row.labels[task] for row in own]
            verdicts = guard.check_many([row.exchange for row in own])
            # A guard that cannot decide is wrong.
            labels = [getattr(verdict, task).label for verdict in verdicts]
            said = {
                "embedded guard": [
                    not truth if label is None else label == "harmful" for truth, label in zip(truths, labels, strict=True)
                ]
            }
            texts = [getattr(row.exchange, side) for row in own]
            said |= {name: judge(texts) for name, judge in others().items()}
            figures = {name: f1(truths, one) for name, one in said.items()}
            found[f"{path.name}, {task}"] = {"rows": len(own), "f1": figures}
            print(f"{path.name}, {task}, {len(own)} rows: {figures}")
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=Path, nargs="*", default=[], help="files that 'guardreasoner evaluate' reads")
    parser.add_argument("--output", type=Path, help="a JSON file for the figures")
    given = parser.parse_args()
    figures = {"speed": speed(), "f1": quality(given.rows)}
    if given.output:
        given.output.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
