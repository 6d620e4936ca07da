"""What is recorded of a check, of its stages and of an engine's calls.

Whatever fails in here, or in the application's own exporter, is logged and changes nothing: a verdict is never lost for it.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, Protocol, TypeVar

from guardreasoner_sdk._arguments import CallContext
from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion, Query
from guardreasoner_sdk.telemetry import names
from guardreasoner_sdk.verdict import Usage, Verdict, decisive

if TYPE_CHECKING:
    from opentelemetry.trace import Span

__all__ = ["UNRECORDED", "CheckRecord", "Engine", "EngineCall", "record_call", "record_check", "record_stage"]

logger = logging.getLogger("guardreasoner_sdk")

P = ParamSpec("P")
S = TypeVar("S")


class Engine(Protocol):
    """What has the name of a model, and of what runs it: a judge, or a backend."""

    @property
    def model(self) -> str: ...


class CheckRecord:
    """A check, as nobody records it: every method does nothing. What is recorded has the same ones."""

    def attach(self) -> AbstractContextManager[None]:
        """A block in which what is recorded belongs to this check."""
        return _NOWHERE

    def queue(self) -> None:
        """It waits for the guard's loop."""

    def start(self) -> None:
        """It waits no more."""

    def finish(self, rows: Sequence[Exchange | None], verdicts: Sequence[Verdict]) -> None:
        """It is decided; what comes after that changes nothing."""

    def give_up(self, error: BaseException | None = None) -> None:
        """It ends without a verdict: nobody waits any more, or the guard cannot work at all."""


class EngineCall:
    """A call of an engine, as nobody records it."""

    def finish(self, answers: Sequence[Completion | BackendError]) -> None:
        """It has answered."""


_NOWHERE = nullcontext()
_UNRECORDED_CALL = EngineCall()
UNRECORDED = CheckRecord()


def record_check(exchanges: int, hits: int, context: CallContext) -> CheckRecord:
    """Begin to record a check, as a child of the caller's span.

    Args:
        exchanges: how many there are in it.
        hits: how many of them the cache knew.
        context: the caller's.
    """
    instruments = _instruments()
    if instruments is None:
        return UNRECORDED
    try:
        return _Recorded(instruments, exchanges, hits, context)
    except Exception as error:
        _note(error)
        return UNRECORDED


@contextmanager
def record_stage(name: str, judge: Engine, exchanges: int) -> Iterator[None]:
    """A span around a part of a check.

    Args:
        name: of the span.
        judge: who works in it.
        exchanges: how many it is given.
    """
    instruments = _instruments() if exchanges else None
    if instruments is None:
        yield
        return
    with _open_span(instruments, name, {names.EXCHANGES: exchanges, names.BACKEND: str(getattr(judge, "backend", "?"))}):
        yield


@contextmanager
def record_call(engine: Engine, queries: Sequence[Query]) -> Iterator[EngineCall]:
    """A span around a call of an engine.

    Args:
        engine: which one.
        queries: what it is asked.

    Yields:
        what to tell the answers to.
    """
    instruments = _instruments()
    if instruments is None or not queries:
        yield _UNRECORDED_CALL
        return
    operation, provider = "chat" if queries[0].messages else "text_completion", str(getattr(engine, "name", "?"))
    attributes: dict[str, Any] = {
        names.OPERATION: operation,
        names.PROVIDER: provider,
        names.REQUEST_MODEL: engine.model,
        names.REQUEST_MAX_TOKENS: max(query.max_tokens for query in queries),
    }
    with _open_span(instruments, f"{operation} {engine.model}", attributes, remote=provider == "remote") as span:
        yield _UNRECORDED_CALL if span is None else _RecordedCall(instruments, span, attributes)


class _Instruments:
    """The tracer, the logger of events and the instruments. Providers that are set later they notice by themselves."""

    def __init__(self) -> None:
        # The application has imported it, or nobody would be here.
        from opentelemetry import _logs, context, metrics, trace

        from guardreasoner_sdk import __version__

        self.trace = trace
        self.context = context
        self.tracer = trace.get_tracer("guardreasoner_sdk", __version__)
        self.events = _logs.get_logger("guardreasoner_sdk", __version__)
        meter = metrics.get_meter("guardreasoner_sdk", __version__)
        self.checks = meter.create_counter(names.METRIC_CHECKS, "{exchange}", "Exchanges checked, by action and cause.")
        self.duration = meter.create_histogram(
            names.METRIC_DURATION,
            "s",
            "From the call to its verdicts; of a batch, each part of it.",
            explicit_bucket_boundaries_advisory=names.BUCKETS,
        )
        self.undetermined = meter.create_counter(
            names.METRIC_UNDETERMINED, "{finding}", "Findings that could not be made, by task and cause."
        )
        self.in_flight = meter.create_up_down_counter(
            names.METRIC_IN_FLIGHT, "{exchange}", "Exchanges taken in and not decided yet."
        )
        self.queue = meter.create_up_down_counter(
            names.METRIC_QUEUE, "{exchange}", "Those of them that the guard's own loop has not begun with."
        )
        self.cache_hits = meter.create_counter(names.METRIC_CACHE_HITS, "{exchange}", "Exchanges that the cache knew.")
        self.tokens = meter.create_counter(names.METRIC_TOKENS, "{token}", "Tokens read and written, by type.")
        self.usage = {
            part: meter.create_counter(name, "{token}")
            for part, name in (
                ("input_tokens", names.METRIC_USAGE_INPUT),
                ("output_tokens", names.METRIC_USAGE_OUTPUT),
                ("cached_tokens", names.METRIC_USAGE_CACHED),
            )
        }


_made: _Instruments | None = None
_configured = False
_unusable = False


def _instruments() -> _Instruments | None:
    """None as long as nobody listens: the application has not brought OpenTelemetry, or has configured nothing yet."""
    global _made, _configured, _unusable
    if _unusable or "opentelemetry.trace" not in sys.modules:
        return None
    try:
        # A provider is set once and stays; before that, what stands in for it would take in every figure for nobody.
        _configured = _configured or _somebody_listens()
        if _configured and _made is None:
            _made = _Instruments()
    except Exception as error:
        _unusable = True
        fix = "pip install 'guardreasoner-sdk[otel]'"
        logger.warning("nothing is recorded: this OpenTelemetry is too old (%s); %s", type(error).__name__, fix)
    return _made if _configured else None


def _somebody_listens() -> bool:
    from opentelemetry import _logs, metrics, trace

    providers = (trace.get_tracer_provider(), metrics.get_meter_provider(), _logs.get_logger_provider())
    return any("Proxy" not in (name := type(provider).__name__) and "NoOp" not in name for provider in providers)


def _note(error: BaseException) -> None:
    logger.error("recording a check failed with %s", type(error).__name__)
    log_failure(logger, "the failure", error)


def _log_failures(method: Callable[Concatenate[S, P], None]) -> Callable[Concatenate[S, P], None]:
    def tried(self: S, /, *args: P.args, **kwargs: P.kwargs) -> None:
        try:
            method(self, *args, **kwargs)
        except Exception as error:
            _note(error)

    return tried


class _Recorded(CheckRecord):
    def __init__(self, instruments: _Instruments, exchanges: int, hits: int, context: CallContext) -> None:
        self._to = instruments
        self._exchanges = exchanges
        self._hits = hits
        self._queued = False
        self._ended = False
        self._began = time.monotonic()
        attributes: dict[str, Any] = {key if "." in key else f"{names.CONTEXT}.{key}": value for key, value in context.items()}
        attributes |= {names.EXCHANGES: exchanges, names.CACHE_HITS: hits}
        self._span = instruments.tracer.start_span(names.SPAN_CHECK, attributes=attributes)
        instruments.in_flight.add(exchanges)  # behind what may raise: what is not counted is not taken off

    def attach(self) -> AbstractContextManager[None]:
        return _attach(self._to, self._span)

    @_log_failures
    def queue(self) -> None:
        self._queued = True
        self._to.queue.add(self._exchanges)

    @_log_failures
    def start(self) -> None:
        if self._queued:
            self._queued = False
            self._to.queue.add(-self._exchanges)

    @_log_failures
    def finish(self, rows: Sequence[Exchange | None], verdicts: Sequence[Verdict]) -> None:
        if self._ended:
            return
        try:
            seconds = time.monotonic() - self._began
            causes = [
                names.classify_verdict(verdict, readable=row is not None) for row, verdict in zip(rows, verdicts, strict=True)
            ]
            self._measure(seconds, verdicts, causes)
            if self._span.is_recording():
                self._describe(rows, verdicts, causes)
            self._emit(rows, verdicts)
        finally:
            self._end()

    @_log_failures
    def give_up(self, error: BaseException | None = None) -> None:
        if self._ended:
            return
        # A configuration that cannot work is ours to name; of a foreign error, its class.
        name = "cancelled" if error is None or not isinstance(error, Exception) else type(error).__name__
        self._span.set_attribute(names.ERROR_TYPE, name)
        if isinstance(error, Exception):
            self._span.set_status(self._to.trace.StatusCode.ERROR, name)
        self._end()

    def _end(self) -> None:
        self._ended = True
        self.start()
        self._to.in_flight.add(-self._exchanges)
        self._span.end()

    def _measure(self, seconds: float, verdicts: Sequence[Verdict], causes: Sequence[names.Cause | None]) -> None:
        checks: Counter[tuple[str, str | None, str, str]] = Counter()
        undetermined: Counter[tuple[str, str]] = Counter()
        usage: dict[tuple[str, str], Usage] = {}
        for verdict, cause in zip(verdicts, causes, strict=True):
            who = verdict.model, verdict.backend
            checks[verdict.action, cause, *who] += 1
            if not verdict.cached:
                usage[who] = usage.get(who, _NO_TOKENS) + verdict.usage
            for task, finding in verdict.findings.items():
                if not finding.determined:
                    undetermined[task, "input" if cause == "input" else names.classify_cause(finding)] += 1
        for (action, why, model, backend), count in checks.items():
            of = {names.ACTION: action, names.MODEL: model, names.BACKEND: backend}
            self._to.checks.add(count, of if why is None else of | {names.CAUSE: why})
        for (failed, because), count in undetermined.items():
            self._to.undetermined.add(count, {names.TASK: failed, names.CAUSE: because})
        if self._hits:
            self._to.cache_hits.add(self._hits)
        for (model, backend), tokens in usage.items():
            for kind, count in (
                ("input", tokens.input_tokens),
                ("output", tokens.output_tokens),
                ("cached", tokens.cached_tokens),
            ):
                if count:
                    self._to.tokens.add(count, {names.TOKEN_TYPE: kind, names.MODEL: model, names.BACKEND: backend})
        counts = decisive(verdicts)
        if counts is not None:
            of = {names.ACTION: counts.action, names.MODEL: counts.model, names.BACKEND: counts.backend}
            self._to.duration.record(seconds, of)

    def _describe(
        self, rows: Sequence[Exchange | None], verdicts: Sequence[Verdict], causes: Sequence[names.Cause | None]
    ) -> None:
        """What the span says of the verdicts: all of one, counts of many."""
        counts = decisive(verdicts)
        if counts is None:
            return
        cause = causes[verdicts.index(counts)]
        tokens = sum((verdict.usage for verdict in verdicts if not verdict.cached), _NO_TOKENS)
        found: dict[str, Any] = {
            names.MODEL: counts.model,
            names.BACKEND: counts.backend,
            names.ACTION: counts.action,
            names.BLOCKED: sum(not verdict.allowed for verdict in verdicts),
            names.UNDETERMINED: sum(verdict.undetermined for verdict in verdicts),
            names.INPUT_TOKENS: tokens.input_tokens,
            names.OUTPUT_TOKENS: tokens.output_tokens,
        }
        if cause is not None:
            found[names.CAUSE] = cause
        if len(verdicts) == 1:
            for task, finding in counts.findings.items():
                found[names.name_label(task)] = finding.label
                if finding.score is not None:
                    found[names.name_score(task)] = finding.score
            if rows[0] is not None and names.read_capture().spans:
                found |= _write_messages(rows[0])
        self._span.set_attributes(found)
        failure = next((why for why in causes if why in ("deadline", "engine", "judge", "answer")), None)
        if failure is not None:
            self._span.set_attribute(names.ERROR_TYPE, failure)
            self._span.set_status(self._to.trace.StatusCode.ERROR, f"undetermined: {failure}")

    def _emit(self, rows: Sequence[Exchange | None], verdicts: Sequence[Verdict]) -> None:
        """The events: one for each finding, and those of the draft."""
        around = self._to.trace.set_span_in_context(self._span)
        draft, with_text = names.read_opt_in(), names.read_capture().events
        for row, verdict in zip(rows, verdicts, strict=True):
            events = [(names.EVENT_EVALUATION, each) for each in _list_evaluations(row, verdict, with_text=with_text)]
            if draft is not None:
                events += [(draft.event, each) for each in _list_results(draft, row, verdict, with_text=with_text)]
            for name, attributes in events:
                self._to.events.emit(event_name=name, attributes=attributes, context=around)


class _RecordedCall(EngineCall):
    def __init__(self, instruments: _Instruments, span: Span, attributes: Mapping[str, Any]) -> None:
        self._to = instruments
        self._span = span
        self._of = {name: attributes[name] for name in (names.OPERATION, names.PROVIDER, names.REQUEST_MODEL)}

    @_log_failures
    def finish(self, answers: Sequence[Completion | BackendError]) -> None:
        given = [answer for answer in answers if isinstance(answer, Completion)]
        failed = next((answer for answer in answers if isinstance(answer, BackendError)), None)
        usage = sum((answer.usage for answer in given), _NO_TOKENS)
        self._span.set_attributes(
            {
                names.USAGE_INPUT: usage.input_tokens,
                names.USAGE_OUTPUT: usage.output_tokens,
                names.USAGE_CACHED: usage.cached_tokens,
                names.FINISH_REASONS: [answer.finish_reason for answer in given if answer.finish_reason is not None],
            }
        )
        if failed is not None:
            self._span.set_attribute(names.ERROR_TYPE, type(failed).__name__)
            self._span.set_status(self._to.trace.StatusCode.ERROR, type(failed).__name__)
        if names.read_opt_in() is not None:
            of = {**self._of, names.TOKEN_MODALITY: "text"}
            for part, counter in self._to.usage.items():
                counter.add(getattr(usage, part), of)


_NO_TOKENS = Usage()


@contextmanager
def _open_span(to: _Instruments, name: str, attributes: Mapping[str, Any], *, remote: bool = False) -> Iterator[Span | None]:
    """A span around a block. It says of what the block raises no more than its class: a message may quote what was judged."""
    try:
        kind = to.trace.SpanKind.CLIENT if remote else to.trace.SpanKind.INTERNAL
        span: Span | None = to.tracer.start_span(name, kind=kind, attributes=dict(attributes))
    except Exception as error:
        _note(error)
        span = None
    if span is None:
        yield None
        return
    try:
        with _attach(to, span):
            yield span
    except BaseException as error:
        failed = type(error).__name__ if isinstance(error, Exception) else "cancelled"
        _call_quietly(span.set_attribute, names.ERROR_TYPE, failed)
        if isinstance(error, Exception):
            _call_quietly(span.set_status, to.trace.StatusCode.ERROR, failed)
        raise
    finally:
        _call_quietly(span.end)


def _call_quietly(call: Callable[..., object], *args: object) -> None:
    try:
        call(*args)
    except Exception as error:
        _note(error)


@contextmanager
def _attach(instruments: _Instruments, span: Span) -> Iterator[None]:
    # Only the span: the caller's baggage would go to the engine's server with its requests.
    context = instruments.context
    token = context.attach(instruments.trace.set_span_in_context(span, context.Context()))
    try:
        yield
    finally:
        context.detach(token)


def _list_evaluations(row: Exchange | None, verdict: Verdict, *, with_text: bool) -> Iterator[dict[str, Any]]:
    for task, finding in verdict.findings.items():
        attributes: dict[str, Any] = {names.EVALUATION_NAME: task, names.EVALUATION_LABEL: finding.label}
        if finding.score is not None:
            attributes[names.EVALUATION_SCORE] = finding.score
        if not finding.determined:
            attributes[names.ERROR_TYPE] = "input" if row is None else names.classify_cause(finding)
        if with_text:
            steps = [step.text for step in verdict.reasoning if step.task in (task, None)]
            if said := "\n".join(steps) or finding.cause:
                attributes[names.EVALUATION_EXPLANATION] = said
        yield attributes


def _list_results(
    draft: names.GuardrailNames, row: Exchange | None, verdict: Verdict, *, with_text: bool
) -> Iterator[dict[str, Any]]:
    cause = names.classify_verdict(verdict, readable=row is not None)
    shared: dict[str, Any] = {
        draft.component: verdict.model,
        draft.source: "prompt" if row is None or row.response is None else "response",
    }
    if row is not None and with_text:
        shared |= {draft.content_input: row.prompt} | ({} if row.response is None else {draft.content_output: row.response})
    reason = {} if cause is None else {draft.result_reason: cause}
    yield {**shared, draft.result_type: "action", draft.result_value: verdict.action, **reason}
    for task, finding in verdict.findings.items():
        attributes = {**shared, draft.result_type: task, draft.result_value: finding.label}
        if finding.score is not None:
            attributes[draft.score] = finding.score
        if finding.label == "harmful" and verdict.categories:
            attributes[draft.category] = verdict.categories[0]
        yield attributes


def _write_messages(exchange: Exchange) -> dict[str, str]:
    """The text of an exchange, as the conventions write messages on spans."""

    def message(role: str, text: str, **more: str) -> dict[str, Any]:
        return {"role": role, "parts": [{"type": "text", "content": text}], **more}

    asked = [*(message(turn.role, turn.content) for turn in exchange.history), message("user", exchange.prompt)]
    found = {names.INPUT_MESSAGES: json.dumps(asked, ensure_ascii=False)}
    if exchange.response is not None:
        answered = [message("assistant", exchange.response, finish_reason="stop")]
        found[names.OUTPUT_MESSAGES] = json.dumps(answered, ensure_ascii=False)
    return found
