"""The page on which a person decides: one HTML file that asks no other machine for anything."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path

from guardreasoner_sdk.errors import MissingExtraError
from guardreasoner_sdk.evaluation.audit.run import Audit, AuditItem
from guardreasoner_sdk.evaluation.rows import task_name
from guardreasoner_sdk.verdict import TASKS

__all__ = ["render"]


def render(audit: Audit, items: Sequence[AuditItem], decisions: Mapping[str, str], *, save: str | None = None) -> str:
    """The page.

    Args:
        decisions: those made already, by the key of the label.
        save: path of the server that decisions are sent to; None: they stay in the browser, and can be downloaded.

    Raises:
        MissingExtraError: jinja2 is not installed.
    """
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise MissingExtraError("eval", "Audits") from None

    nonce = secrets.token_urlsafe(16)
    data = {
        "audit": audit.audit,
        "save": save,
        "decisions": dict(decisions),
        "items": [
            {**item.model_dump(mode="json"), "row_number": item.row, "task_name": task_name(item.task)} for item in items
        ],
    }
    template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
        (Path(__file__).parent / "audit.html.j2").read_text("utf-8")
    )
    page: str = template.render(
        file=Path(audit.file).name,
        nonce=nonce,
        # The page may run its own script and call its own server, and nothing else, whatever the rows hold.
        policy=f"default-src 'none'; script-src 'nonce-{nonce}'; style-src 'nonce-{nonce}'; "
        f"connect-src '{'none' if save is None else 'self'}'; base-uri 'none'; form-action 'none'",
        tasks=[(task, task_name(task)) for task in TASKS if any(item.task == task for item in items)],
        where="Decisions stay in this browser; download them for --apply."
        if save is None
        else "Each decision is written to disk at once.",
        # In a script element nothing but "<" can end it; in JSON it can be written as an escape.
        data=Markup(json.dumps(data).replace("<", "\\u003c")),  # noqa: S704
    )
    return page
