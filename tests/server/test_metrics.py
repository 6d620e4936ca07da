"""``/metrics``, read by prometheus-client's own parser."""

from __future__ import annotations

from collections.abc import Callable

import httpx
from prometheus_client.parser import text_string_to_metric_families

from guard_server import await_until, by_words
from guardreasoner_sdk import Guard
from guardreasoner_sdk.testing import ScriptedJudge

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(client: httpx.Client) -> Samples:
    answer = client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = text_string_to_metric_families(answer.text)
    return {(found.name, tuple(sorted(found.labels.items()))): found.value for family in families for found in family.samples}


def checks(found: Samples) -> dict[tuple[str, str], float]:
    return {
        (dict(labels)["action"], dict(labels)["cause"]): value
        for (name, labels), value in found.items()
        if name == "guardreasoner_checks_total"
    }


def test_verdicts_and_requests_are_counted_and_no_text_is_a_label(serve: Callable[..., httpx.Client]) -> None:
    with Guard(judge=ScriptedJudge(by_words), cache=10) as guard:
        client = serve(guard=guard)
        for text in ("fine", "fine", "bad hush", "unsure"):
            client.post("/v1/check", json={"prompt": text})
        client.post("/v1/check", json={"prompt": 3})
        client.post("/v1/check/stream", json={"prompt": "fine", "response": "bad"})
        client.get("/no/such/hush")
        await_until(lambda: samples(client)["guardreasoner_in_flight", ()] == 1)
        found = samples(client)
    assert checks(found) == {("allow", "none"): 2, ("block", "finding"): 2, ("block", "failure"): 1}
    assert found["guardreasoner_undetermined_total", (("cause", "failure"),)] == 1
    assert found["guardreasoner_cache_hits_total", ()] == 1
    assert found["guardreasoner_check_duration_seconds_count", ()] == 5
    assert found["guardreasoner_queue_depth", ()] == 0
    assert found["guardreasoner_in_flight", ()] == 1  # this very one
    requests = {
        labels: value
        for (name, labels), value in found.items()
        if name == "guardreasoner_http_requests_total" and ("route", "/metrics") not in labels
    }
    assert requests == {
        (("route", "/v1/check"), ("status", "200")): 4,
        (("route", "/v1/check"), ("status", "422")): 1,
        (("route", "/v1/check/stream"), ("status", "200")): 1,
        (("route", "unmatched"), ("status", "404")): 1,
    }
    assert not any("hush" in str(labels) for _, labels in found)
