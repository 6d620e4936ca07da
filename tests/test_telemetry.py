"""What a guard tells OpenTelemetry: its real SDK, with exporters that keep everything in memory."""

from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import InMemoryLogRecordExporter, SimpleLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from guardreasoner_sdk import (
    BackendError,
    CascadeJudge,
    ConfigurationError,
    DeadlineError,
    Exchange,
    Finding,
    Guard,
    InputError,
    Judgement,
    ReasonerJudge,
    Usage,
    Verdict,
)
from guardreasoner_sdk.dialects import GuardReasonerDialect
from guardreasoner_sdk.generation import Capabilities, Completion
from guardreasoner_sdk.telemetry import names
from guardreasoner_sdk.testing import ScriptedJudge, judgement
from telemetry_globals import no_providers

SECRET = "zanzibar"
SCRIPT = {f"bad {SECRET}": judgement("harmful"), f"late {SECRET}": DeadlineError(), f"down {SECRET}": BackendError("no")}


@dataclass
class Told:
    """What was exported since the test began."""

    exporter: InMemorySpanExporter
    logs: InMemoryLogRecordExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        [span] = [each for each in self.spans if each.name == name]
        return span

    def events(self, name: str = names.EVENT_EVALUATION) -> list[dict[str, Any]]:
        records = [each.log_record for each in self.logs.get_finished_logs()]
        return [dict(record.attributes or {}) for record in records if record.event_name == name]

    def points(self) -> dict[tuple[str, frozenset[tuple[str, Any]]], Any]:
        measured = self.reader.get_metrics_data()
        if measured is None:  # nothing was counted yet
            return {}
        data, found = json.loads(measured.to_json()), {}
        for scope in (scope for resource in data["resource_metrics"] for scope in resource["scope_metrics"]):
            for metric in scope["metrics"]:
                for point in metric["data"]["data_points"]:
                    key = (metric["name"], frozenset(point["attributes"].items()))
                    found[key] = point.get("value", point.get("count"))
        return found

    def all_of_it(self) -> str:
        records = [str(vars(each.log_record)) for each in self.logs.get_finished_logs()]
        return "\n".join([*(span.to_json() for span in self.spans), *records, str(self.points())])


class Failing(SpanProcessor):
    """An exporter of the application that fails, while it is told to."""

    on = False

    def on_start(self, span: Any, parent_context: Any = None) -> None:
        if self.on == "start":
            raise RuntimeError(SECRET)

    def on_end(self, span: ReadableSpan) -> None:
        if self.on == "end":
            raise RuntimeError(SECRET)


@pytest.fixture(scope="module")
def exporters() -> Iterator[tuple[Told, Failing]]:
    """Everything that is told in this file, and an exporter of the application beside it."""
    with no_providers():
        told = Told(InMemorySpanExporter(), InMemoryLogRecordExporter(), InMemoryMetricReader())
        tracers, loggers, failing = TracerProvider(), LoggerProvider(), Failing()
        tracers.add_span_processor(SimpleSpanProcessor(told.exporter))
        tracers.add_span_processor(failing)
        loggers.add_log_record_processor(SimpleLogRecordProcessor(told.logs))
        meters = MeterProvider(metric_readers=[told.reader])
        trace.set_tracer_provider(tracers)
        _logs.set_logger_provider(loggers)
        metrics.set_meter_provider(meters)
        yield told, failing
        tracers.shutdown()
        loggers.shutdown()
        meters.shutdown()


@pytest.fixture
def told(exporters: tuple[Told, Failing]) -> Iterator[Told]:
    told, failing = exporters
    told.exporter.clear()
    told.logs.clear()
    yield told
    failing.on = False


@pytest.fixture
def counted(told: Told) -> Any:
    """What the counters have gained since the test began."""
    before = told.points()

    def gained(name: str, **attributes: Any) -> float:
        now = told.points()
        wanted = {(key.replace("_", ".") if key != "type" else names.TOKEN_TYPE): value for key, value in attributes.items()}
        total = 0.0
        for (metric, of), value in now.items():
            short = {key.removeprefix("guardreasoner."): value for key, value in of}
            if metric == name and all(short.get(key.removeprefix("guardreasoner.")) == each for key, each in wanted.items()):
                total += value - before.get((metric, of), 0)
        return total

    return gained


def scripted(**options: Any) -> Guard:
    return Guard(judge=ScriptedJudge(SCRIPT, otherwise=judgement()), **options)


def test_a_check_is_a_span_of_the_callers_with_labels_and_no_text(told: Told) -> None:
    with trace.get_tracer("app").start_as_current_span("request") as request, scripted() as guard:
        guard.check(f"bad {SECRET}", context={"user.id": "u17", "tenant": 3})
    span = told.span(names.SPAN_CHECK)
    assert span.parent is not None
    assert span.parent.span_id == request.get_span_context().span_id
    assert dict(span.attributes or {}) == {
        "user.id": "u17",
        "guardreasoner.context.tenant": 3,
        names.EXCHANGES: 1,
        names.CACHE_HITS: 0,
        names.MODEL: "scripted",
        names.BACKEND: "scripted",
        names.ACTION: "block",
        names.CAUSE: "finding",
        names.BLOCKED: 1,
        names.UNDETERMINED: 0,
        names.INPUT_TOKENS: 0,
        names.OUTPUT_TOKENS: 0,
        "guardreasoner.prompt_harmfulness.label": "harmful",
        "guardreasoner.prompt_harmfulness.score": 1.0,
    }
    assert span.status.status_code is trace.StatusCode.UNSET
    [event] = told.events()
    assert event == {
        names.EVALUATION_NAME: "prompt_harmfulness",
        names.EVALUATION_LABEL: "harmful",
        names.EVALUATION_SCORE: 1.0,
    }
    [record] = told.logs.get_finished_logs()
    assert record.log_record.span_id == span.context.span_id
    assert SECRET not in told.all_of_it()


async def test_a_batch_is_a_span_for_each_part_and_an_event_for_each_finding(told: Told) -> None:
    judge = ScriptedJudge({}, otherwise=judgement("unharmful", "refusal", "unharmful"), batch_size=2)
    async with Guard(judge=judge) as guard:
        await guard.acheck_many([(f"{n}", "No.") for n in range(5)], context={"job": "night"})
    parts = [dict(span.attributes or {}) for span in told.spans]
    assert [part[names.EXCHANGES] for part in parts] == [2, 2, 1]
    assert {part["guardreasoner.context.job"] for part in parts} == {"night"}
    assert len(told.events()) == 15


@pytest.mark.parametrize(
    ("prompt", "cause", "failed"),
    [
        (f"late {SECRET}", "deadline", True),
        (f"down {SECRET}", "engine", True),
        (f"broken {SECRET}", "judge", True),
        (f"unread {SECRET}", "answer", True),
        (f"odd {SECRET}", "unmeasured", False),
        (4, "input", False),
    ],
)
def test_a_failure_to_decide_is_told_by_its_kind_and_never_by_its_words(
    told: Told, counted: Any, prompt: Any, cause: str, failed: bool
) -> None:
    script = {
        **SCRIPT,
        f"broken {SECRET}": ValueError(SECRET),
        f"unread {SECRET}": Judgement.unable(f"the answer is {SECRET!r}, which is none of yes or no", response=False),
        f"odd {SECRET}": Judgement(prompt_harmfulness=Finding(label="unharmful", note=f"is {SECRET}")),
    }
    with Guard(judge=ScriptedJudge(script), policy={"on_unmeasured": "undetermined"}) as guard:
        [verdict] = guard.check_many([prompt])
    assert not verdict.allowed
    span = told.span(names.SPAN_CHECK)
    assert (span.attributes or {})[names.CAUSE] == cause
    assert (span.status.status_code is trace.StatusCode.ERROR) is failed
    assert all(event[names.ERROR_TYPE] == cause for event in told.events())
    assert counted(names.METRIC_UNDETERMINED, task="prompt_harmfulness", cause=cause) == 1
    assert SECRET not in told.all_of_it()


def test_text_that_the_embedded_guard_cannot_read_is_the_inputs_fault(told: Told) -> None:
    with Guard() as guard:
        assert guard.check("\u0600\u0601\u06dd").undetermined
    assert (told.span(names.SPAN_CHECK).attributes or {})[names.CAUSE] == "input"


def test_metrics_count_checks_tokens_cache_and_what_is_under_way(told: Told, counted: Any) -> None:
    held, go_on = threading.Event(), threading.Event()

    async def slow(exchange: Exchange) -> Judgement:
        held.set()
        await asyncio.to_thread(go_on.wait)
        return judgement().model_copy(update={"usage": Usage(input_tokens=7, output_tokens=2, cached_tokens=5)})

    with Guard(judge=ScriptedJudge(slow), cache=9) as guard:
        checking = threading.Thread(target=guard.check, args=("slow",))
        checking.start()
        held.wait()
        assert counted(names.METRIC_IN_FLIGHT) == 1
        assert counted(names.METRIC_QUEUE) == 0
        go_on.set()
        checking.join()
        guard.check("slow")
    assert counted(names.METRIC_IN_FLIGHT) == 0
    assert counted(names.METRIC_CHECKS, action="allow", model="scripted") == 2
    assert counted(names.METRIC_DURATION, action="allow") == 2
    assert counted(names.METRIC_CACHE_HITS) == 1
    assert [counted(names.METRIC_TOKENS, type=kind) for kind in ("input", "output", "cached")] == [7, 2, 5]


async def test_what_waits_for_the_guards_loop_is_in_its_queue(told: Told, counted: Any) -> None:
    held, go_on = threading.Event(), threading.Event()

    def blocks_the_loop(exchange: Exchange) -> Judgement:
        held.set()
        go_on.wait()
        return judgement()

    async with Guard(judge=ScriptedJudge(blocks_the_loop)) as guard:
        checks = [asyncio.create_task(guard.acheck(f"{n}")) for n in range(3)]
        await asyncio.to_thread(held.wait)
        assert counted(names.METRIC_QUEUE) == 2
        go_on.set()
        await asyncio.gather(*checks)
    assert counted(names.METRIC_QUEUE) == 0


async def test_what_nobody_waits_for_any_more_ends_too(told: Told, counted: Any) -> None:
    held = asyncio.Event()
    loop = asyncio.get_running_loop()

    async def never(exchange: Exchange) -> Judgement:
        loop.call_soon_threadsafe(held.set)
        await asyncio.Event().wait()
        return judgement()

    async with Guard(judge=ScriptedJudge(never), concurrency=2) as guard:
        checking = asyncio.create_task(guard.acheck_many(["a", "b", "c"]))
        await held.wait()
        checking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await checking
    assert [(span.attributes or {})[names.ERROR_TYPE] for span in told.spans] == ["cancelled", "cancelled"]
    assert counted(names.METRIC_IN_FLIGHT) == 0
    assert counted(names.METRIC_QUEUE) == 0


def test_a_guard_that_cannot_work_at_all_is_an_error_of_its_span(told: Told) -> None:
    with Guard(judge=ScriptedJudge({"x": ConfigurationError("no weights")})) as guard, pytest.raises(ConfigurationError):
        guard.check("x")
    span = told.span(names.SPAN_CHECK)
    assert (span.status.status_code, (span.attributes or {})[names.ERROR_TYPE]) == (
        trace.StatusCode.ERROR,
        "ConfigurationError",
    )


class Canned:
    """An engine that gives one answer, or fails."""

    model, batch_size, capabilities = "canned-1b", 4, Capabilities()

    def __init__(self, answer: Completion | BackendError, name: str = "remote") -> None:
        self.name = name
        self._answer = answer

    async def generate(self, queries: Sequence[Any], *, deadline: float | None) -> list[Completion | BackendError]:
        return [self._answer for _ in queries]

    async def load(self) -> None: ...

    async def aclose(self) -> None: ...


def test_a_cascade_shows_its_screen_and_the_call_of_its_engine(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    answer = Completion("Answers: \nRequest: harmful", "stop", Usage(input_tokens=70, output_tokens=4, cached_tokens=60))
    second = ReasonerJudge(GuardReasonerDialect(), Canned(answer), reasoning="full")
    with Guard(judge=CascadeJudge(ScriptedJudge({}, otherwise=judgement("undetermined")), second)) as guard:
        assert not guard.check(f"How {SECRET}?").allowed
    check, screen, decide = (told.span(name) for name in (names.SPAN_CHECK, names.SPAN_SCREEN, names.SPAN_DECIDE))
    engine = told.span("text_completion canned-1b")
    parents = {span.name: span.parent and span.parent.span_id for span in (check, screen, decide, engine)}
    assert parents[screen.name] == parents[decide.name] == check.context.span_id
    assert parents[engine.name] == decide.context.span_id
    assert engine.kind is trace.SpanKind.CLIENT
    found = dict(engine.attributes or {})
    assert found.pop(names.REQUEST_MAX_TOKENS) > 0
    assert found == {
        names.OPERATION: "text_completion",
        names.PROVIDER: "remote",
        names.REQUEST_MODEL: "canned-1b",
        names.USAGE_INPUT: 70,
        names.USAGE_OUTPUT: 4,
        names.USAGE_CACHED: 60,
        names.FINISH_REASONS: ("stop",),
    }
    assert SECRET not in told.all_of_it()


def test_a_call_that_fails_says_its_class(told: Told) -> None:
    engine = Canned(BackendError(f"the server said {SECRET}"), "vllm")
    with Guard(judge=ReasonerJudge(GuardReasonerDialect(), engine, reasoning="full")) as guard:
        guard.check("How?")
    span = told.span("text_completion canned-1b")
    assert span.kind is trace.SpanKind.INTERNAL
    assert (span.status.status_code, span.status.description) == (trace.StatusCode.ERROR, "BackendError")
    assert SECRET not in told.all_of_it()


def test_a_stream_records_each_of_its_checks_with_the_context(told: Told) -> None:
    judge = ScriptedJudge({}, otherwise=judgement("unharmful", "compliance", "unharmful"))
    with Guard(judge=judge) as guard:
        list(guard.stream("Hi", ["One. ", "Two. "], context={"call": "c1"}))
    assert len(told.spans) >= 2
    assert {(span.attributes or {})["guardreasoner.context.call"] for span in told.spans} == {"c1"}


@pytest.mark.parametrize(
    ("value", "on_span", "in_events"),
    [
        ("true", False, True),
        ("SPAN_ONLY", True, False),
        ("span_and_event", True, True),
        ("no_content", False, False),
        ("x", False, False),
    ],
)
def test_text_goes_where_the_standard_variable_says(
    told: Told, monkeypatch: pytest.MonkeyPatch, value: str, on_span: bool, in_events: bool
) -> None:
    monkeypatch.setenv(names.CAPTURE, value)
    monkeypatch.setenv(names.OPT_IN, "gen_ai_latest_experimental")
    history = [{"role": "user", "content": "Before."}]
    with scripted() as guard:
        guard.check(f"Tell me of {SECRET}", "It is an island.", history=history)
    [span] = told.spans
    assert (SECRET in span.to_json()) is on_span
    if on_span:
        asked = json.loads(str((span.attributes or {})[names.INPUT_MESSAGES]))
        assert [message["role"] for message in asked] == ["user", "user"]
        assert asked[1]["parts"] == [{"type": "text", "content": f"Tell me of {SECRET}"}]
        [answered] = json.loads(str((span.attributes or {})[names.OUTPUT_MESSAGES]))
        assert (answered["role"], answered["finish_reason"]) == ("assistant", "stop")
    contents = {event.get(names.DRAFT.content_input) for event in told.events(names.DRAFT.event)}
    assert contents == {f"Tell me of {SECRET}" if in_events else None}


def test_the_draft_for_guardrails_is_there_for_those_who_opt_in(
    told: Told, counted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def checked() -> list[dict[str, Any]]:
        found = Judgement(prompt_harmfulness=Finding(label="harmful", score=0.9), categories=("Violent Crimes",))
        with Guard(judge=ScriptedJudge({}, otherwise=found)) as guard:
            guard.check(f"Tell me of {SECRET}")
        return told.events("gen_ai.guardrail.result")

    assert checked() == []
    monkeypatch.setenv(names.OPT_IN, "http/dup, gen_ai_latest_experimental")
    action, finding = checked()
    shared = {"gen_ai.guardrail.component.name": "scripted", "gen_ai.guardrail.source": "prompt"}
    assert action == shared | {
        "gen_ai.guardrail.result.type": "action",
        "gen_ai.guardrail.result.value": "block",
        "gen_ai.guardrail.result.reason": "finding",
    }
    assert finding == shared | {
        "gen_ai.guardrail.result.type": "prompt_harmfulness",
        "gen_ai.guardrail.result.value": "harmful",
        "gen_ai.guardrail.risk.category": "Violent Crimes",
        "gen_ai.guardrail.risk.score": 0.9,
    }
    answer = Completion("Answers: \nRequest: unharmful", "stop", Usage(input_tokens=70, output_tokens=4))
    with Guard(judge=ReasonerJudge(GuardReasonerDialect(), Canned(answer), reasoning="full")) as guard:
        guard.check("How?")
    assert counted("gen_ai.client.inference.usage.input_tokens") == 70
    assert SECRET not in told.all_of_it()


@pytest.mark.parametrize("when", ["start", "end"])
def test_an_exporter_that_fails_costs_no_verdict(
    exporters: tuple[Told, Failing], told: Told, counted: Any, caplog: pytest.LogCaptureFixture, when: str
) -> None:
    exporters[1].on = when  # type: ignore[assignment]
    second = ReasonerJudge(
        GuardReasonerDialect(), Canned(Completion("Answers: \nRequest: unharmful", "stop")), reasoning="full"
    )
    with Guard(judge=CascadeJudge(ScriptedJudge({}, otherwise=judgement("undetermined")), second)) as guard:
        assert guard.check(f"How {SECRET}?").allowed
    assert "recording a check failed with RuntimeError" in caplog.text
    assert SECRET not in "".join(record.getMessage() for record in caplog.records if record.levelno > logging.DEBUG)
    assert counted(names.METRIC_IN_FLIGHT) == 0


def test_the_context_goes_to_on_verdict_and_to_no_judge_and_no_cache() -> None:
    told: list[Any] = []

    def listen(exchange: Exchange, verdict: Verdict, *, context: Any) -> None:
        told.append((context, verdict.cached))

    judge = ScriptedJudge({}, otherwise=judgement())
    with Guard(judge=judge, cache=9, on_verdict=listen) as guard:
        guard.check("Hi", context={"user": "a"})
        guard.check("Hi", context={"user": "b"})
        guard.check_many(["Hi"])
        guard.check_messages([{"role": "user", "content": "Hi"}], context={"user": "c"})
    assert told == [({"user": "a"}, False), ({"user": "b"}, True), ({}, True), ({"user": "c"}, True)]
    assert judge.seen == [Exchange("Hi")]


def test_a_listener_of_any_arguments_is_told_the_context_and_an_older_one_is_not() -> None:
    told: list[Any] = []
    for listener in (lambda exchange, verdict, **more: told.append(more), lambda exchange, verdict: told.append(None)):
        with scripted(on_verdict=listener) as guard:
            guard.check("Hi", context={"user": "a"})
    assert told == [{"context": {"user": "a"}}, None]


@pytest.mark.parametrize(
    ("context", "words"),
    [
        (["user"], "context: must be a mapping, not list"),
        ({1: "a"}, "context: has a name of type int"),
        ({"": "a"}, "context: has '' for a name"),
        ({"user": None}, r"context\['user'\]: is NoneType"),
        ({"user": {"id": 1}}, r"context\['user'\]: is dict"),
    ],
)
def test_a_context_that_no_span_could_hold_is_refused(context: Any, words: str) -> None:
    with scripted() as guard, pytest.raises(InputError, match=words):
        guard.check("Hi", context=context)
    with scripted() as guard, pytest.raises(InputError, match=words):
        guard.stream("Hi", [], context=context)


def test_nothing_is_imported_for_an_application_without_opentelemetry() -> None:
    code = (
        "import sys; from guardreasoner_sdk import Guard; from guardreasoner_sdk.testing import ScriptedJudge, judgement\n"
        "print(Guard(judge=ScriptedJudge({}, otherwise=judgement())).check('Hi', context={'a': 1}).action)\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "allow\n[]\n"


def test_what_is_configured_after_the_first_check_is_told_of_the_next_one() -> None:
    code = (
        "import opentelemetry.trace as trace; from guardreasoner_sdk import Guard\n"
        "from guardreasoner_sdk.testing import ScriptedJudge, judgement\n"
        "guard = Guard(judge=ScriptedJudge({}, otherwise=judgement())); guard.check('Hi')\n"
        "from opentelemetry.sdk.trace import TracerProvider; from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "spans, provider = InMemorySpanExporter(), TracerProvider()\n"
        "provider.add_span_processor(SimpleSpanProcessor(spans)); trace.set_tracer_provider(provider); guard.check('Hi')\n"
        "print([span.name for span in spans.get_finished_spans()])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "['guardreasoner.check']\n"


def test_an_opentelemetry_that_is_too_old_records_nothing_and_is_told_once() -> None:
    code = (
        "import logging, sys, types; logging.basicConfig()\n"
        "old = types.ModuleType('opentelemetry'); old.trace = sys.modules['opentelemetry.trace'] = types.ModuleType('t')\n"
        "sys.modules['opentelemetry'] = old\n"
        "from guardreasoner_sdk import Guard; from guardreasoner_sdk.testing import ScriptedJudge, judgement\n"
        "guard = Guard(judge=ScriptedJudge({}, otherwise=judgement()))\n"
        "print(guard.check('Hi').action, guard.check('Hi').action)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "allow allow\n"
    assert done.stderr.count("pip install 'guardreasoner-sdk[otel]'") == 1
