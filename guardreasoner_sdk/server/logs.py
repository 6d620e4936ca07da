"""Logs as lines of JSON: of requests, of the server and of the guard. They never hold the text that is judged."""

from __future__ import annotations

import json
import logging
import time
from typing import Any

from guardreasoner_sdk._failures import trail

__all__ = ["JsonFormatter", "log_config"]


class JsonFormatter(logging.Formatter):
    """A line of JSON for each record: ``time`` (UTC), ``level``, ``logger``, ``message``, and ``extra={"fields": ...}``.

    An exception is written as its class and the lines of code that it came through: its message may quote the judged text.

    Example:
        >>> import logging
        >>> from guardreasoner_sdk.server.logs import JsonFormatter
        >>> record = logging.LogRecord("demo", logging.INFO, __file__, 1, "ready", (), None)
        >>> JsonFormatter().format(record).endswith('"level": "info", "logger": "demo", "message": "ready"}')
        True
    """

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info and record.exc_info[1] is not None:
            line["error"] = trail(record.exc_info[1])
        return json.dumps({**line, **getattr(record, "fields", {})})


def log_config(level: str) -> dict[str, Any]:
    """What ``logging.config.dictConfig`` and uvicorn take: everything as JSON on standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``.
    """
    loud = {"handlers": ["lines"], "level": level.upper(), "propagate": False}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"json": {"()": JsonFormatter}},
        "handlers": {"lines": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stderr"}},
        "loggers": {"guardreasoner_sdk": loud, "uvicorn": loud, "uvicorn.error": {"level": level.upper()}},
        "root": {"handlers": ["lines"], "level": "WARNING"},
    }
