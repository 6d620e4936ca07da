"""Cells of a CSV file that a spreadsheet shows as text: none of them is a formula."""

from __future__ import annotations

import re

__all__ = ["escape_formula", "unescape_formula"]

# OWASP, "CSV Injection": what a spreadsheet takes for the beginning of a formula, in either width, and what it cuts off before
# it looks. The apostrophes in front are those of a text that begins like one that was neutralised.
_FORMULA = re.compile("'*[=+\\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")


def escape_formula(text: str) -> str:
    """A text as a cell: with an apostrophe in front where a spreadsheet would run it."""
    return f"'{text}" if _FORMULA.match(text) else text


def unescape_formula(cell: str) -> str:
    """The text that :func:`escape_formula` made a cell of."""
    return cell[1:] if cell.startswith("'") and _FORMULA.match(cell) else cell
