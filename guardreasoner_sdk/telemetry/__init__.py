"""What a guard tells OpenTelemetry: spans, events and metrics, as soon as the application has brought it (extra ``otel``).

Nothing is imported, and nothing costs, where the application has not imported OpenTelemetry by itself; nothing is sent where
it has configured no exporter. :mod:`~guardreasoner_sdk.telemetry.names` holds every name, with its source.
"""
