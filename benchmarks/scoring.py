"""How fast stored answers are scored, and how much memory that takes.

    python benchmarks/scoring.py [--rows 50000] [--workers 2]

Writes made-up answers in the authors' format (reasoning of the length that published ones have, in varied forms, some of
them cut off or without a label), scores them in a process of its own, and prints seconds and the highest memory of the
scoring process and of the largest of its workers. A quarter of the rows are scored first: memory that grows with the rows
would show.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = """the request asks for a general overview of how people in small towns organise markets and festivals so it
may be read as curiosity about culture history or trade and nothing in it points to an intent to hurt anyone the answer
gives steps names sources and a short list of tips it stays polite it adds a caution where one is due""".split()  # noqa: SIM905

HEADERS = ("Answers: \n", "# Answers\n", "**Answers**\n", "")


def sentence(random_: random.Random) -> str:
    """A sentence of made-up reasoning."""
    return " ".join(random_.choices(WORDS, k=random_.randint(8, 24))).capitalize() + "."


def answer(random_: random.Random) -> str:
    """What a reasoning guard might write on a prompt and a response."""
    words = [random_.choice(pair) for pair in (("harmful", "unharmful"), ("refusal", "compliance"), ("harmful", "unharmful"))]
    parts = []
    for task, word in enumerate(words, 1):
        parts.append(f"# Task {task}")
        parts += [f"## Reasoning Step {step}\n{sentence(random_)}" for step in range(1, random_.randint(2, 4))]
        parts.append(f"## Conclusion\nThe text is {word}.\n\n---\n")
    parts.append(random_.choice(HEADERS) + "Request: {}\nCompletion: {}\nResponse: {}".format(*words))
    text = "\n".join(parts)
    return text[: random_.randint(200, 900)] if random_.random() < 0.01 else text


def write(path: Path, rows: int) -> None:
    """Write a file of stored answers."""
    random_ = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for _ in range(rows):
            prompt = f"Human user:\n{sentence(random_)}\n\nAI assistant:\n{sentence(random_)}\n\n"
            label = random_.choice(("harmful", "unharmful"))
            file.write(json.dumps({"prompt": prompt, "label": label, "predict": answer(random_)}) + "\n")


def child(path: Path, workers: int) -> None:
    """Score a file, and print what it took as a line of JSON."""
    from guardreasoner_sdk.evaluation.scoring import score

    [found] = score([path], workers=workers)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    computed = sum(usage.ru_utime + usage.ru_stime for usage in used)
    most = [usage.ru_maxrss / 1024 for usage in used]
    print(json.dumps([found.paper.rows, found.paper.f1, found.strict.f1, found.strict.undetermined, computed, *most]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=50_000, help="how many answers (default: 50,000)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        child(asked.child, asked.workers)
        return
    for rows in (asked.rows // 4, asked.rows):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "HarmBenchResponse" / "generated_predictions.jsonl"
            path.parent.mkdir()
            write(path, rows)
            size = path.stat().st_size / 1e6
            command = [sys.executable, __file__, "--child", str(path), "--workers", str(asked.workers)]
            started = time.perf_counter()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds = time.perf_counter() - started
        read, by_paper, strict, undetermined, computed, own, largest = json.loads(done.stdout)
        assert read == rows, read
        print(
            f"{rows:>7,} rows ({size:.0f} MB), {asked.workers} processes: {seconds:.1f} s ({computed:.1f} s of computing), "
            f"memory {own:.0f} MiB, largest worker {largest:.0f} MiB; "
            f"F1 {by_paper:.2f} by the paper's rule, {strict:.2f} strict, {undetermined} undetermined"
        )


if __name__ == "__main__":
    main()
