"""Text, hostile or broken, that is to be shown or written: on a terminal, in a line of JSON, on a page."""

from __future__ import annotations

import json
import re
from typing import Any

__all__ = ["json_text", "visible"]

# Control characters, bidirectional overrides, separators that end a line, lone surrogates, and other invisible ones.
# The joiners U+200C and U+200D stay: Persian, Indic scripts and emoji are written with them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": " "}


def visible(text: str) -> str:
    """Text that cannot steer a terminal: control and invisible characters are spelled out.

    Args:
        text: any string, hostile or broken.

    Returns:
        one line.
    """
    return _UNSAFE.sub(lambda found: _NAMED.get(found[0]) or _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON that neither a terminal nor a reader of lines trips over.

    Args:
        value: what ``json.dumps`` takes; not a number without an end.
        indent: spaces per level; None for one line.
        ascii_only: escape every character beyond ASCII.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, indent=indent)
    # json escapes what JSON forbids; C1 controls, overrides and U+2028 are legal in it, and not in a terminal or a line.
    # What is left of those can stand inside a string only, except for the line breaks of an indent.
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)
