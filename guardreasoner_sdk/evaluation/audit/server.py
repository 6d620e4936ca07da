"""A page's server on loopback that writes each decision to disk at once."""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, get_args

from guardreasoner_sdk._text import parse_json
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.audit.decisions import DECISIONS, Decision, append_decisions, read_decisions
from guardreasoner_sdk.evaluation.audit.page import render
from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem

__all__ = ["AuditServer"]

_MOST_BYTES = 1 << 22
_SECONDS = 30.0


class AuditServer(ThreadingHTTPServer):
    """Serves the page of an audit on 127.0.0.1, under an address that nobody can guess.

    The texts are not for every program and every web page on the machine: an address without the token leads nowhere, and a
    request that another site's page sends, or that came by another name than this machine's (DNS rebinding), is refused.

    Args:
        folder: the audit's; decisions go to ``decisions.jsonl`` in it.
        audit: what was audited.
        items: the proposals.
        port: the port; 0: any that is free.

    Raises:
        InputError: the port is taken, or the decisions that are there belong to other labels.
    """

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self, folder: Path, audit: Audit, items: Sequence[AuditItem], *, port: int = 0) -> None:
        self.audit = audit
        self._items = items
        self._keys = {item.key for item in items}
        self._path = folder / DECISIONS
        self._lock = threading.Lock()
        self.decisions: dict[str, str] = dict(read_decisions(self._path, audit.audit)) if self._path.exists() else {}
        self.base = f"/{secrets.token_urlsafe(24)}/"
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except OSError as error:
            raise InputError("--port", f"{port} cannot be used ({error.strerror})", "name another, or leave it out") from None
        self.hosts = {f"{name}:{self.server_port}" for name in ("127.0.0.1", "localhost")}

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://127.0.0.1:{self.server_port}{self.base}"

    def page(self) -> bytes:
        """The page with the decisions made so far."""
        with self._lock:
            decisions = dict(self.decisions)
        return render(self.audit, self._items, decisions, save=f"{self.base}decisions").encode()

    def take(self, body: bytes) -> None:
        """Write the decisions of a request to disk.

        Raises:
            ValueError: they are none on this audit.
            InputError: they cannot be written.
        """
        value = parse_json(body)
        decisions = value.get("decisions") if isinstance(value, dict) else None
        if not isinstance(decisions, dict) or value.get("audit") != self.audit.audit:
            raise ValueError("no decisions on this audit")
        if not decisions.keys() <= self._keys or any(said not in get_args(Decision) for said in decisions.values()):
            raise ValueError("no such proposal or decision")
        with self._lock:
            append_decisions(self._path, self.audit.audit, decisions)
            self.decisions |= decisions

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that goes away is no error of ours, and a traceback could quote what it sent."""


class _Handler(BaseHTTPRequestHandler):
    server: AuditServer
    timeout = _SECONDS

    def do_GET(self) -> None:
        refused = self._refused(self.server.base)
        if refused is None:
            self._answer(HTTPStatus.OK, self.server.page())
        else:
            self._answer(refused)

    def do_POST(self) -> None:
        self._answer(self._refused(f"{self.server.base}decisions") or self._taken())

    def _refused(self, path: str) -> HTTPStatus | None:
        if self.headers.get("Host", "").lower() not in self.server.hosts:
            return HTTPStatus.FORBIDDEN
        if not hmac.compare_digest(self.path.encode("utf-8", "replace"), path.encode()):
            return HTTPStatus.NOT_FOUND
        return None

    def _taken(self) -> HTTPStatus:
        length = self.headers.get("Content-Length", "")
        # Browsers send the origin with every POST, and no page can forge it.
        if self.headers.get("Origin") not in {f"http://{host}" for host in self.server.hosts}:
            status = HTTPStatus.FORBIDDEN
        elif self.headers.get_content_type() != "application/json":
            status = HTTPStatus.UNSUPPORTED_MEDIA_TYPE
        elif not (length.isascii() and length.isdigit()):
            status = HTTPStatus.LENGTH_REQUIRED
        elif int(length) > _MOST_BYTES:
            status = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        else:
            try:
                self.server.take(self.rfile.read(int(length)))
                status = HTTPStatus.NO_CONTENT
            except InputError:
                status = HTTPStatus.INSUFFICIENT_STORAGE
            except (ValueError, TypeError, RecursionError):
                status = HTTPStatus.BAD_REQUEST
        return status

    def _answer(self, status: HTTPStatus, body: bytes = b"") -> None:
        self.send_response(status)
        if body:
            self.send_header("Content-Type", "text/html; charset=utf-8")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Length", str(len(body)))
        for name, value in (
            ("Cache-Control", "no-store"),
            ("Referrer-Policy", "same-origin"),
            ("X-Content-Type-Options", "nosniff"),
            ("X-Frame-Options", "DENY"),
            ("Cross-Origin-Resource-Policy", "same-origin"),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def version_string(self) -> str:
        """Nobody has to know which Python this is."""
        return "guardreasoner"

    def log_message(self, *_: Any) -> None:
        """The address is a secret: it is in no log."""
