"""The playground: one page, without a request to anywhere else."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from starlette.responses import Response

__all__ = ["playground"]

_PAGE = Path(__file__).parent / "playground.html"


def playground() -> Response:
    """The page, with a policy under which nothing runs but what stands in its file, and nothing is asked but this server."""
    html, policy = _read()
    headers = {
        "content-security-policy": policy,
        "referrer-policy": "no-referrer",
        "cross-origin-opener-policy": "same-origin",
        "cache-control": "no-cache",
    }
    return Response(html, media_type="text/html", headers=headers)


@cache
def _read() -> tuple[str, str]:
    html = _PAGE.read_text("utf-8")
    script, style = (_hash(html, name) for name in ("script", "style"))
    none = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    return html, f"{none}; connect-src 'self'; script-src {script}; style-src {style}"


def _hash(html: str, name: str) -> str:
    """Of the one element of that name, as browsers check it (https://www.w3.org/TR/CSP3/#match-element-to-source-list)."""
    inside = html.partition(f"<{name}>")[2].partition(f"</{name}>")[0]
    return f"'sha256-{base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()}'"
