"""Text, hostile or broken, that is to be shown or written: on a terminal, in a line of JSON, on a page."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

__all__ = ["JsonError", "escape_unsafe", "format_names", "format_place", "json_text", "parse_json", "quote_value"]

# Control characters, bidirectional overrides, separators that end a line, lone surrogates, and other invisible ones.
# The joiners U+200C and U+200D stay: Persian, Indic scripts and emoji are written with them.
_UNSAFE = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ud800-\udfff\ufff9-\ufffb]"
)
_NAMED = {"\n": "\\n", "\r": "\\r", "\t": " "}


def escape_unsafe(text: str) -> str:
    """Text that cannot steer a terminal: control and invisible characters are spelled out, on one line."""
    return _UNSAFE.sub(lambda found: _NAMED.get(found[0]) or _escaped(found[0]), text)


def _escaped(character: str) -> str:
    code = ord(character)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"


def json_text(value: Any, *, indent: int | None = None, ascii_only: bool = False) -> str:
    """JSON that neither a terminal nor a reader of lines trips over.

    Args:
        value: what ``json.dumps`` takes; not a number without an end.
        indent: spaces per level; None for one line.
    """
    text = json.dumps(value, ensure_ascii=ascii_only, allow_nan=False, indent=indent)
    # json escapes what JSON forbids; C1 controls, overrides and U+2028 are legal in it, and not in a terminal or a line.
    # What is left of those can stand inside a string only, except for the line breaks of an indent.
    return _UNSAFE.sub(lambda found: found[0] if found[0] == "\n" else f"\\u{ord(found[0]):04x}", text)


class JsonError(ValueError):
    """What is no JSON; the message says why, as the end of a sentence that begins with its place, and never quotes it."""


def parse_json(data: bytes | str, *, finite: bool = True) -> Any:
    """Read JSON that somebody else may have written or damaged: every fault of it is one error.

    Args:
        data: the text, or its bytes in UTF-8.
        finite: whether what Python reads and JSON cannot write is a fault, too: a number without an end.

    Raises:
        JsonError: it is no JSON.
    """
    try:
        return (_DECODER if finite else _LENIENT).decode(data if isinstance(data, str) else data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise JsonError(f"is not UTF-8 at byte {error.start + 1:,}") from None
    except json.JSONDecodeError as error:
        one_line = "\n" not in error.doc[: error.pos].rstrip()
        place = f"character {error.pos + 1:,}" if one_line else f"line {error.lineno:,}"
        raise JsonError(f"is not JSON ({error.msg.lower()} at {place})") from None
    except RecursionError:
        raise JsonError("is nested too deeply") from None
    except JsonError as error:
        raise JsonError(f"is not JSON ({error})") from None
    except ValueError:  # Python reads no integer of thousands of digits
        raise JsonError("is not JSON (a number has too many digits)") from None


def _finite(digits: str) -> float:
    if math.isinf(number := float(digits)):
        raise JsonError("a number is too large")
    return number


def _no_constant(name: str) -> NoReturn:
    raise JsonError(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_LENIENT = json.JSONDecoder()


def quote_value(value: object, *, most: int = 40) -> str:
    """What somebody handed in, short and on one line, for an error that names it: never a text to judge."""
    if not isinstance(value, str):
        return type(value).__name__
    return repr(f"{value[:most]}..." if len(value) > most else value)


def format_place(where: str, *, most: int = 120) -> str:
    """A place in what was handed in, short and on one line: the keys in it are somebody else's.

    Args:
        where: ``messages[3].content[0].data``.
    """
    return escape_unsafe(f"{where[:most]}..." if len(where) > most else where)


def format_names(values: Iterable[object], *, most: int = 20) -> str:
    """The names of columns or keys, for an error that says which there are."""
    every = list(values)
    shown = ", ".join(map(quote_value, every[:most])) or "none"
    return f"{shown} and {len(every) - most:,} more" if len(every) > most else shown
