"""OpenTelemetry's providers can be set once in a process: here they are set aside, as its own tests do it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from guardreasoner_sdk.telemetry import recording

__all__ = ["no_providers"]


@contextmanager
def no_providers() -> Iterator[None]:
    """A block that begins as a process in which nobody has set a provider, and leaves those there were as they were."""
    import opentelemetry._logs._internal as logs
    import opentelemetry.metrics._internal as metrics
    import opentelemetry.trace as traces
    from opentelemetry.util._once import Once

    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((traces, "TRACER"), (metrics, "METER"), (logs, "LOGGER")):
            patch.setattr(module, f"_{name}_PROVIDER", None)
            patch.setattr(module, f"_{name}_PROVIDER_SET_ONCE", Once())
        patch.setattr(metrics, "_PROXY_METER_PROVIDER", metrics._ProxyMeterProvider())
        for name, value in (("_made", None), ("_configured", False), ("_unusable", False)):
            patch.setattr(recording, name, value)
        yield
