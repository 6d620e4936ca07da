"""Every name that goes to OpenTelemetry, with its source, and the variables that say what goes there.

Three sources:

- ``gen_ai.*``: the semantic conventions for generative AI, open-telemetry/semantic-conventions-genai v0.1.0 (2026), of
  status *Development*: events in docs/gen-ai/gen-ai-events.md, attributes of inference in docs/gen-ai/client-inference.md,
  token counters in docs/gen-ai/gen-ai-token-metrics.md (at 27f82f0, after v0.1.0). ``error.type`` is stable.
- ``gen_ai.guardrail.*``: a draft that is not merged, docs/gen-ai/gen-ai-guardrails.md at f5e3733 (pull request 427). It has
  changed its shape three times, so that it is behind the opt-in variable of the conventions, and its names are one value:
  the next draft is another one beside it.
- ``guardreasoner.*``: the project's own, where no convention has a name.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final, Literal

from guardreasoner_sdk.errors import DeadlineError
from guardreasoner_sdk.verdict import Finding, Task, Verdict

__all__ = [
    "CAPTURE",
    "DRAFT",
    "OPT_IN",
    "Capture",
    "Cause",
    "GuardrailNames",
    "classify_cause",
    "classify_verdict",
    "name_label",
    "name_score",
    "read_capture",
    "read_opt_in",
]

# -- spans

SPAN_CHECK: Final = "guardreasoner.check"
"""A check; of a batch, a part of it. Kind INTERNAL: the draft has no span for guards in the process."""
SPAN_SCREEN: Final = "guardreasoner.screen"
"""The first judge of a cascade, on all rows of a check."""
SPAN_DECIDE: Final = "guardreasoner.decide"
"""The second judge of a cascade, on the doubtful ones."""
# A call of an engine is an inference span: "{gen_ai.operation.name} {gen_ai.request.model}".

EXCHANGES: Final = "guardreasoner.exchanges"
"""How many exchanges the span is about."""
CACHE_HITS: Final = "guardreasoner.cache.hits"
BLOCKED: Final = "guardreasoner.blocked"
UNDETERMINED: Final = "guardreasoner.undetermined"
INPUT_TOKENS: Final = "guardreasoner.input_tokens"
"""Beside ``gen_ai.usage.input_tokens`` of the engine's spans, which tools add up: those of a check would be counted twice."""
OUTPUT_TOKENS: Final = "guardreasoner.output_tokens"
MODEL: Final = "guardreasoner.model"
BACKEND: Final = "guardreasoner.backend"
ACTION: Final = "guardreasoner.action"
CAUSE: Final = "guardreasoner.cause"
TASK: Final = "guardreasoner.task"
CONTEXT: Final = "guardreasoner.context"
"""What stands in front of a key of the caller's context that has no dot: ``guardreasoner.context.tenant``."""


def name_label(task: Task) -> str:
    """The attribute of a finding's label."""
    return f"guardreasoner.{task}.label"


def name_score(task: Task) -> str:
    """The attribute of a finding's score."""
    return f"guardreasoner.{task}.score"


ERROR_TYPE: Final = "error.type"
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_MAX_TOKENS: Final = "gen_ai.request.max_tokens"
FINISH_REASONS: Final = "gen_ai.response.finish_reasons"
USAGE_INPUT: Final = "gen_ai.usage.input_tokens"
USAGE_OUTPUT: Final = "gen_ai.usage.output_tokens"
USAGE_CACHED: Final = "gen_ai.usage.cache_read.input_tokens"
INPUT_MESSAGES: Final = "gen_ai.input.messages"
OUTPUT_MESSAGES: Final = "gen_ai.output.messages"

# -- events

EVENT_EVALUATION: Final = "gen_ai.evaluation.result"
"""One for each finding."""
EVALUATION_NAME: Final = "gen_ai.evaluation.name"
EVALUATION_LABEL: Final = "gen_ai.evaluation.score.label"
EVALUATION_SCORE: Final = "gen_ai.evaluation.score.value"
EVALUATION_EXPLANATION: Final = "gen_ai.evaluation.explanation"

# -- metrics

METRIC_CHECKS: Final = "guardreasoner.checks"
METRIC_DURATION: Final = "guardreasoner.check.duration"
METRIC_UNDETERMINED: Final = "guardreasoner.undetermined.findings"
METRIC_IN_FLIGHT: Final = "guardreasoner.in_flight"
METRIC_QUEUE: Final = "guardreasoner.queue"
METRIC_CACHE_HITS: Final = "guardreasoner.cache.hits"
METRIC_TOKENS: Final = "guardreasoner.tokens"
TOKEN_TYPE: Final = "guardreasoner.token.type"  # noqa: S105 - the name of an attribute

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Seconds, of the duration's histogram: from the embedded guard's milliseconds to a model that reasons."""

# Behind the opt-in variable, too: they are newer than any release of the conventions.
METRIC_USAGE_INPUT: Final = "gen_ai.client.inference.usage.input_tokens"
METRIC_USAGE_OUTPUT: Final = "gen_ai.client.inference.usage.output_tokens"
METRIC_USAGE_CACHED: Final = "gen_ai.client.inference.usage.cache_read.input_tokens"
TOKEN_MODALITY: Final = "gen_ai.token.modality"  # noqa: S105 - the name of an attribute

# -- what is behind the opt-in variable

OPT_IN: Final = "OTEL_SEMCONV_STABILITY_OPT_IN"
_LATEST: Final = "gen_ai_latest_experimental"


@dataclass(frozen=True, slots=True)
class GuardrailNames:
    """The names of one draft of the conventions for guardrails.

    Args:
        event: the event of a result.
        component: attribute of the guard's name.
        source: attribute of what was judged: ``prompt`` or ``response``.
        result_type: attribute of the kind of result: ``action``, or a task.
        result_value: attribute of the result, as the guard gives it: an action, or a label.
        result_reason: attribute of the cause, where there is one.
        category: attribute of a hazard's name.
        score: attribute of a score.
        content_input: attribute of the prompt; only where text is captured.
        content_output: attribute of the response; only where text is captured.
    """

    event: str
    component: str
    source: str
    result_type: str
    result_value: str
    result_reason: str
    category: str
    score: str
    content_input: str
    content_output: str


DRAFT: Final = GuardrailNames(
    event="gen_ai.guardrail.result",
    component="gen_ai.guardrail.component.name",
    source="gen_ai.guardrail.source",
    result_type="gen_ai.guardrail.result.type",
    result_value="gen_ai.guardrail.result.value",
    result_reason="gen_ai.guardrail.result.reason",
    category="gen_ai.guardrail.risk.category",
    score="gen_ai.guardrail.risk.score",
    content_input="gen_ai.guardrail.content.input.value",
    content_output="gen_ai.guardrail.content.output.value",
)
"""The draft of f5e3733. In-process guards report events, and no span of their own."""


def read_opt_in() -> GuardrailNames | None:
    """The draft that the application has opted into by ``OTEL_SEMCONV_STABILITY_OPT_IN``; None: none.

    Example:
        >>> import os
        >>> from guardreasoner_sdk.telemetry.names import read_opt_in
        >>> os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"] = "http,gen_ai_latest_experimental"
        >>> read_opt_in().event
        'gen_ai.guardrail.result'
        >>> del os.environ["OTEL_SEMCONV_STABILITY_OPT_IN"]
    """
    return DRAFT if _LATEST in map(str.strip, os.environ.get(OPT_IN, "").split(",")) else None


# -- text

CAPTURE: Final = "OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT"
"""The variable that instrumentations of generative AI heed. Its values are those of opentelemetry-util-genai; ``true`` is the
older word for events."""


@dataclass(frozen=True, slots=True)
class Capture:
    """Where the judged text may go.

    Args:
        spans: onto spans.
        events: into events.
    """

    spans: bool = False
    events: bool = False


_CAPTURED: Final = {
    "true": Capture(events=True),
    "1": Capture(events=True),
    "span_only": Capture(spans=True),
    "event_only": Capture(events=True),
    "span_and_event": Capture(spans=True, events=True),
}
_NO_TEXT: Final = Capture()


def read_capture() -> Capture:
    """Where the judged text may go, by ``OTEL_INSTRUMENTATION_GENAI_CAPTURE_MESSAGE_CONTENT``: nowhere, if it is not set, or
    to something that nobody knows.

    Example:
        >>> from guardreasoner_sdk.telemetry.names import read_capture
        >>> read_capture().spans
        False
    """
    return _CAPTURED.get(os.environ.get(CAPTURE, "").strip().lower(), _NO_TEXT)


# -- causes

Cause = Literal["finding", "deadline", "input", "answer", "judge", "unmeasured", "engine"]
"""Why a check did not simply pass: ``finding``: for what was found. The others say why the guard could not decide: no time,
no text to judge, an answer that cannot be read, a judge that failed, a language never measured, an engine that failed. A cause
in words (``Finding.cause``) may quote what a model wrote, and would make as many series as there are words."""

_DEADLINE: Final = str(DeadlineError())


def classify_cause(finding: Finding) -> Cause:
    """Of which kind the cause of an undetermined finding is.

    Args:
        finding: an undetermined one.
    """
    cause = finding.cause or ""
    if finding.note is not None and cause == finding.note:
        return "unmeasured"
    if cause == _DEADLINE:
        return "deadline"
    if cause.startswith("the answer "):
        return "answer"
    if cause.startswith("the judge "):
        return "judge"
    return "input" if cause.startswith("the model reads nothing") else "engine"


def classify_verdict(verdict: Verdict, *, readable: bool) -> Cause | None:
    """Why a verdict is no plain pass: what blocks first, then what is undetermined; None: nothing is.

    Args:
        verdict: it.
        readable: whether there was an exchange to judge.
    """
    if verdict.blocked_by == "finding":
        return "finding"
    undecided = [finding for finding in verdict.findings.values() if not finding.determined]
    if not undecided:
        # No finding at all is a guard that does not look.
        return "judge" if verdict.blocked_by == "failure" else None
    return classify_cause(undecided[0]) if readable else "input"
