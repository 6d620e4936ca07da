"""What a guarded stream costs beside the bare one: the first text's delay, the time to the end, and how the cost grows.

    python benchmarks/streaming.py [--rate 50] [--sentences 12] [--rounds 3] [--beside CHECKOUT] [--output FILE]

Every way streams the same answer, word by word, in the same run and in turn: from a source that writes ``--rate`` words a
second (as a served model does; beside the bare stream), and from one that never waits (beside one check at the end).
The guards: the embedded one, and one that takes ``--check`` seconds for a verdict and computes nothing, as a reasoning guard
on another machine would. Medians over the rounds. Nothing is downloaded.

How the cost grows: CPU seconds of the embedded guard for answers of ``--characters``, each in a process of its own, once it has
loaded. ``--beside`` names another checkout of this repository, for example of an earlier commit: the same answers are streamed
there too, in turn, and the ratio of the CPU seconds is given.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import guardreasoner_sdk
from guardreasoner_sdk import Exchange, Guard, Judgement, Verdict
from guardreasoner_sdk.testing import ScriptedJudge, judgement

PROMPT = "How do I bake a birthday cake for twelve children?"
SENTENCES = (
    "Beat the butter and the sugar until the mixture is light and pale.",
    "Add the eggs one after the other, and a spoon of flour with each of them.",
    "Fold in the rest of the flour with the baking powder and a little milk.",
    "Bake it in the middle of the oven until a wooden stick comes out clean.",
)

Seen = tuple[float, float, float]
"""Seconds to the first text, seconds to the end, and the longest pause between two texts."""


def words(sentences: int) -> list[str]:
    """The answer, in the pieces that it streams in."""
    text = " ".join(SENTENCES[place % len(SENTENCES)] for place in range(sentences))
    return [f"{word} " for word in text.split()]


def words_of(characters: int) -> list[str]:
    """An answer of so many characters, in the pieces that it streams in."""
    shortest = min(map(len, SENTENCES))
    text = "".join(words(characters // shortest + 1))[:characters]
    return [f"{word} " for word in text.split()]


def source(pieces: list[str], rate: float | None) -> Iterator[str]:
    """Writes by the clock: a reader that falls behind finds the words waiting, as in a socket."""
    started = time.perf_counter()
    for number, piece in enumerate(pieces):
        if rate is not None:
            time.sleep(max(0.0, started + number / rate - time.perf_counter()))
        yield piece


async def asource(pieces: list[str], rate: float | None) -> AsyncIterator[str]:
    """:func:`source` for asyncio."""
    started = time.perf_counter()
    for number, piece in enumerate(pieces):
        await asyncio.sleep(0 if rate is None else max(0.0, started + number / rate - time.perf_counter()))
        yield piece


def watch(stream: Iterator[str]) -> Seen:
    """Read a stream to its end."""
    times = [time.perf_counter()]
    times.extend(time.perf_counter() for _ in stream)
    return _seen(times)


async def awatch(stream: AsyncIterator[str]) -> Seen:
    """:func:`watch` for asyncio."""
    times = [time.perf_counter()]
    async for _ in stream:
        times.append(time.perf_counter())  # noqa: PERF401 (a list made at once knows one time only)
    return _seen(times)


def _seen(times: list[float]) -> Seen:
    pauses = [later - earlier for earlier, later in itertools.pairwise(times[1:])]
    return times[1] - times[0], times[-1] - times[0], max(pauses)


def ways(guard: Guard, pieces: list[str], rate: float | None) -> dict[str, Callable[[], Seen]]:
    """What is measured, the bare stream first."""
    return {
        "bare": lambda: watch(source(pieces, rate)),
        "stream, hold": lambda: watch(guard.stream(PROMPT, source(pieces, rate))),
        "stream, pass": lambda: watch(guard.stream(PROMPT, source(pieces, rate), mode="pass")),
        "astream, hold": lambda: asyncio.run(awatch(guard.astream(PROMPT, asource(pieces, rate)))),
        "astream, pass": lambda: asyncio.run(awatch(guard.astream(PROMPT, asource(pieces, rate), mode="pass"))),
        "check at the end": lambda: watch(_whole(guard, source(pieces, rate))),
    }


def _whole(guard: Guard, stream: Iterator[str]) -> Iterator[str]:
    """What an application without streaming does: one check, and then everything at once."""
    text = list(stream)
    guard.check(PROMPT, "".join(text)).raise_for_block()
    yield from text


def cost(characters: int) -> dict[str, Any]:
    """What the embedded guard of this process takes for an answer."""
    checks = judged = 0

    def count(exchange: Exchange, verdict: Verdict) -> None:
        nonlocal checks, judged
        checks += 1
        judged += len(exchange.response or "")

    with Guard(on_verdict=count) as guard:
        guard.check(PROMPT, "Beat the butter.")
        checks = judged = 0
        started = time.process_time()
        stream = guard.stream(PROMPT, iter(words_of(characters)))
        shown = sum(map(len, stream))
        took = time.process_time() - started
    return {
        "characters": shown,
        "checks": checks,
        "judged_characters": judged,
        "cpu_s": round(took, 3),
        "package": str(Path(guardreasoner_sdk.__file__).resolve().parent.parent),
    }


def cost_in(checkout: Path, characters: int) -> dict[str, Any]:
    """:func:`cost` with the package of a checkout, in a process of its own."""
    environment = os.environ | {"PYTHONPATH": str(checkout)}
    command = [sys.executable, str(Path(__file__).resolve()), "--cost", str(characters)]
    found: dict[str, Any] = json.loads(subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE).stdout)
    package = found.pop("package")
    if Path(package) != checkout.resolve():
        raise SystemExit(f"--beside: {checkout} holds no guardreasoner_sdk; the package came from {package}")
    return found


def growth(lengths: list[int], beside: Path | None) -> list[dict[str, Any]]:
    """How the cost grows with the answer, printed; in this checkout and, where there is one, in another beside it."""
    print("\nembedded; CPU seconds for a whole answer")
    other = f"{'beside':>12}{'checks':>8}{'judged':>12}{'ratio':>8}" if beside else ""
    print(f"{'characters':<12}{'here':>10}{'checks':>8}{'judged':>12}{other}")
    rows = []
    for characters in lengths:
        row = cost_in(Path(__file__).resolve().parent.parent, characters)
        line = f"{row['characters']:<12}{row['cpu_s']:>8.2f} s{row['checks']:>8}{row['judged_characters']:>12}"
        if beside:
            there = cost_in(beside, characters)
            row |= {f"beside_{name}": value for name, value in there.items() if name != "characters"}
            row["cpu_ratio"] = round(row["cpu_s"] / there["cpu_s"], 4)
            line += f"{there['cpu_s']:>10.2f} s{there['checks']:>8}{there['judged_characters']:>12}{row['cpu_ratio']:>8.3f}"
        print(line, flush=True)
        rows.append(row)
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rate", type=float, default=50.0, help="words a second (default: 50)")
    parser.add_argument("--sentences", type=int, default=12, help="sentences in the answer (default: 12)")
    parser.add_argument("--check", type=float, default=0.5, help="seconds that the slow guard takes (default: 0.5)")
    parser.add_argument("--rounds", type=int, default=3, help="how often everything is measured, in turn (default: 3)")
    parser.add_argument(
        "--characters", type=int, nargs="*", default=[5000, 10_000, 20_000], help="lengths of which the cost is measured"
    )
    parser.add_argument("--beside", type=Path, help="another checkout, whose cost is measured in turn")
    parser.add_argument("--cost", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--output", type=Path, help="write the figures as JSON, too")
    options = parser.parse_args()
    if options.cost is not None:
        print(json.dumps(cost(options.cost)))
        return
    pieces = words(options.sentences)

    async def slow(exchange: Exchange) -> Judgement:
        await asyncio.sleep(options.check)
        return judgement("unharmful", "compliance", "unharmful")

    results = []
    checks = 0

    def count(exchange: Exchange, verdict: object) -> None:
        nonlocal checks
        checks += 1

    for name, guard, rates in (
        ("embedded", Guard(on_verdict=count), (options.rate, None)),
        (f"{options.check} s a check", Guard(judge=ScriptedJudge(slow), on_verdict=count), (options.rate,)),
    ):
        guard.check(PROMPT, "Beat the butter.")
        for rate in rates:
            seen: dict[str, list[Seen]] = {}
            counts = {}
            for _ in range(options.rounds):
                for way, run in ways(guard, pieces, rate).items():
                    checks = 0
                    seen.setdefault(way, []).append(run())
                    counts[way] = checks
            print(f"\n{name}; {len(pieces)} words, {'as fast as they are read' if rate is None else f'{rate:g} a second'}")
            beside = "check at the end" if rate is None else "bare"
            print(f"{'':<18}{'first text':>12}{'total':>10}{'ratio':>9}{'longest pause':>15}{'checks':>8}")
            base = statistics.median(times[1] for times in seen[beside])
            for way, times in seen.items():
                first, total, pause = (statistics.median(of) for of in zip(*times, strict=True))
                ratio = total / base
                print(f"{way:<18}{first:>10.3f} s{total:>8.2f} s{ratio:>9.3f}{pause:>13.3f} s{counts[way]:>8}")
                results.append(
                    {
                        "guard": name,
                        "words_per_second": rate,
                        "way": way,
                        "first_text_s": round(first, 4),
                        "total_s": round(total, 4),
                        "beside": beside,
                        "total_ratio": round(ratio, 3),
                        "longest_pause_s": round(pause, 4),
                        "checks": counts[way],
                    }
                )
        guard.close()
    grown = growth(options.characters, options.beside)
    if options.output:
        machine = {"machine": platform.processor() or platform.machine(), "python": platform.python_version()}
        told = {key: value for key, value in vars(options).items() if key not in ("beside", "cost", "output")}
        report = machine | {"options": told, "results": results, "growth": grown}
        options.output.write_text(json.dumps(report, indent=2) + "\n", "utf-8")


if __name__ == "__main__":
    main()
