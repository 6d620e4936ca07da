"""What the server counts, for Prometheus: labels with few values, and never a text, a key or a name that a client chose.

Names after https://prometheus.io/docs/practices/naming/ (base units, ``_total`` on counters). With ``PROMETHEUS_MULTIPROC_DIR``
set, as ``guardreasoner serve --workers`` sets it, every worker writes to that folder and each answers for all of them
(https://prometheus.github.io/client_python/multiprocess/).
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector

from guardreasoner_sdk.verdict import Verdict

__all__ = ["CONTENT_TYPE", "MULTIPROCESS", "Meter"]

CONTENT_TYPE = CONTENT_TYPE_LATEST
MULTIPROCESS = "PROMETHEUS_MULTIPROC_DIR"

_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Meter:
    """The metrics of one server."""

    def __init__(self) -> None:
        own = self._registry = CollectorRegistry()
        self._checks = Counter(
            "guardreasoner_checks", "Verdicts, by what they say and why.", ["action", "cause", "engine"], registry=own
        )
        self._undetermined = Counter(
            "guardreasoner_undetermined", "Verdicts with an undetermined finding.", ["cause"], registry=own
        )
        self._duration = Histogram(
            "guardreasoner_check_duration_seconds",
            "From the exchange's turn to its verdict.",
            registry=own,
            buckets=_BUCKETS,
        )
        self._hits = Counter("guardreasoner_cache_hits", "Verdicts out of the guard's cache.", registry=own)
        self._tokens = Counter("guardreasoner_tokens", "Tokens read and written by the model.", ["kind"], registry=own)
        self._queue = Gauge(
            "guardreasoner_queue_depth", "Exchanges that wait for their turn.", registry=own, multiprocess_mode="livesum"
        )
        self._in_flight = Gauge(
            "guardreasoner_in_flight", "Requests in the server's hands.", registry=own, multiprocess_mode="livesum"
        )
        self._refused = Counter("guardreasoner_refused", "Requests for which there was no room or no turn.", registry=own)
        self._requests = Counter(
            "guardreasoner_http_requests", "Requests, by route and status.", ["route", "status"], registry=own
        )
        self._request_duration = Histogram(
            "guardreasoner_http_request_duration_seconds",
            "From a request's head to the end of its answer.",
            ["route"],
            registry=own,
            buckets=_BUCKETS,
        )

    def judged(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts, as the guard gave them together."""
        for verdict in verdicts:
            self._checks.labels(verdict.action, verdict.blocked_by or "none", verdict.backend).inc()
            self._duration.observe(verdict.latency_ms / 1000)
            if verdict.undetermined:
                self._undetermined.labels(_cause(verdict)).inc()
            if verdict.cached:
                self._hits.inc()
            else:
                self._tokens.labels("input").inc(verdict.usage.input_tokens)
                self._tokens.labels("output").inc(verdict.usage.output_tokens)

    def waiting(self, more: int) -> None:
        """Count exchanges that began to wait, or ceased to."""
        self._queue.inc(more)

    def refused(self, why: str) -> None:
        """Count a request that there was no room for."""
        self._refused.inc()

    def begun(self) -> None:
        """Count a request that has come."""
        self._in_flight.inc()

    def ended(self, route: str, status: int, seconds: float) -> None:
        """Count a request that is over.

        Args:
            route: the path as the server declares it, never as the client wrote it.
            status: of HTTP; 499 where the client has gone.
            seconds: it took.
        """
        self._in_flight.dec()
        self._requests.labels(route, str(status)).inc()
        self._request_duration.labels(route).observe(seconds)

    def exposed(self) -> bytes:
        """All of it in Prometheus' text format: of all workers, where there are several."""
        registry = self._registry
        if MULTIPROCESS in os.environ:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
        return generate_latest(registry)


def _cause(verdict: Verdict) -> str:
    """Why something is undetermined, in one of few words."""
    causes = " ".join(finding.cause or "" for finding in verdict.findings.values())
    if "deadline" in causes:
        return "deadline"
    return (
        "unmeasured"
        if any(finding.note == finding.cause for finding in verdict.findings.values() if finding.cause)
        else "failure"
    )
