"""What recording a check costs: without OpenTelemetry, with its API alone, and with spans, events and metrics exported.

The same guard judges the same prompts one after another, in turns, a block each; medians of the blocks are compared::

    python benchmarks/telemetry.py --output benchmarks/results/telemetry-cpu.json

Two guards are measured: the embedded one, and one that decides at once, which shows the bare cost in microseconds.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Exchange, Guard, Judgement
from guardreasoner_sdk.telemetry import recording
from guardreasoner_sdk.testing import ScriptedJudge, judgement

WORDS = ["please", "tell", "me", "how", "the", "bread", "that", "we", "bake", "at", "home", "could", "rise", "more"]


def prompts(count: int) -> list[str]:
    return [f"{number}: " + " ".join(WORDS[(number + place) % len(WORDS)] for place in range(60)) for number in range(count)]


def configure() -> Callable[[], None]:
    """Set the real SDK up, everything exported to memory; gives what empties it."""
    from opentelemetry import _logs, metrics, trace
    from opentelemetry.sdk._logs import LoggerProvider
    from opentelemetry.sdk._logs.export import BatchLogRecordProcessor, InMemoryLogRecordExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import InMemoryMetricReader
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    spans, logs = InMemorySpanExporter(), InMemoryLogRecordExporter()
    tracers, loggers = TracerProvider(), LoggerProvider()
    tracers.add_span_processor(BatchSpanProcessor(spans))
    loggers.add_log_record_processor(BatchLogRecordProcessor(logs))
    trace.set_tracer_provider(tracers)
    _logs.set_logger_provider(loggers)
    metrics.set_meter_provider(MeterProvider(metric_readers=[InMemoryMetricReader()]))

    def empty() -> None:
        tracers.force_flush()
        loggers.force_flush()
        if not spans.get_finished_spans() or not logs.get_finished_logs():
            raise SystemExit("nothing was exported")
        spans.clear()
        logs.clear()

    return empty


def seconds(guard: Guard, texts: list[str]) -> float:
    started = time.process_time()
    for text in texts:
        guard.check(text)
    return time.process_time() - started


class Instant(ScriptedJudge):
    """Decides at once, in the calling thread: what is left of a check is the way around the judge."""

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        return [SAFE for _ in exchanges]


SAFE = judgement()


def in_turns(guard: Guard, texts: list[str], rounds: int, ways: Sequence[str], empty: Callable[[], None]) -> dict[str, float]:
    """CPU seconds of a block by way, the median: so that a busy machine counts for nothing, and exporting counts."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    seconds(guard, texts)
    for _ in range(rounds):
        for name in ways:
            recording._unusable = name == "none"
            found[name].append(seconds(guard, texts))
            if name == "exported":
                empty()
    return {name: statistics.median(values) for name, values in found.items()}


def compared(times: dict[str, float], way: str, count: int) -> dict[str, float]:
    return {
        "check without, microseconds": round(times["none"] / count * 1e6, 1),
        "over none": round(times[way] / times["none"], 4),
        "microseconds more": round((times[way] - times["none"]) / count * 1e6, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checks", type=int, default=100, help="in a block, of the embedded guard")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    report: dict[str, Any] = {"machine": platform.platform(), "checks": given.checks, "rounds": given.rounds}
    guards = {
        "embedded": (Guard(), prompts(given.checks)),
        "a judge that decides at once": (Guard(judge=Instant({})), prompts(given.checks * 20)),
    }
    # Providers can be set once: what the API costs alone is measured before, what is exported behind it.
    empty: Callable[[], None] = list
    for way in ("api alone", "exported"):
        for name, (guard, texts) in guards.items():
            guard.load()
            times = in_turns(guard, texts, given.rounds, ["none", way], empty)
            report.setdefault(name, {})[way] = compared(times, way, len(texts))
        if way == "api alone":
            empty = configure()
    print(json.dumps(report, indent=2))
    if given.output:
        given.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
