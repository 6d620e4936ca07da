"""Requests that a family publishes word for word: a data file each, with its source and licence, and no copy in code.

A model was trained on such a text, so that it is a wire format and nobody's prose. Where the template that travels with a
model's tokenizer writes the request, there is no file. A file begins with lines ``# name: value`` (``source``, ``licence``,
``version``) and goes on with sections, each under a line ``[[name]]``; the line feed before the next such line, or before the
end of the file, is no part of a section. ``{name}`` in a section stands for a value, or for another section.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from guardreasoner_sdk.generation import PromptPiece

__all__ = ["WireFormat", "read_wire_format"]

_SECTION = re.compile(r"^\[\[([a-z ]+)\]\]\n", re.MULTILINE)
_NOTE = re.compile(r"# ([a-z]+): (.+)")
_PLACE = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class WireFormat:
    """A published request.

    Args:
        source: where it is published: repository, commit and path, or a page.
        licence: of that source.
        version: what the weights are called that read it.
        sections: texts by name.
    """

    source: str
    licence: str
    version: str
    sections: Mapping[str, str]

    def fill(
        self, section: str, values: Mapping[str, str] | None = None, *, sections: Mapping[str, str] | None = None
    ) -> tuple[PromptPiece, ...]:
        """A section with its values: what was published is markup, values are plain text.

        Args:
            section: its name.
            values: what takes a place, by its name.
            sections: which section takes a place, by the place's name.

        Example:
            >>> from guardreasoner_sdk.dialects.wire import WireFormat
            >>> wire = WireFormat("here", "MIT", "1", {"user": "Is {text} safe?"})
            >>> [piece.markup for piece in wire.fill("user", {"text": "it"})]
            [True, False, True]
        """
        values, sections = values or {}, sections or {}
        pieces: list[PromptPiece] = []
        place = 0
        text = self.sections[section]
        for found in _PLACE.finditer(text):
            name = found[1]
            chosen = sections.get(name)
            if chosen is None and name not in values:
                continue  # braces of the format's own
            pieces.append(PromptPiece(text[place : found.start()], markup=True))
            pieces += [PromptPiece(values[name])] if chosen is None else self.fill(chosen, values, sections=sections)
            place = found.end()
        pieces.append(PromptPiece(text[place:], markup=True))
        return tuple(piece for piece in pieces if piece.text)


@cache
def read_wire_format(name: str) -> WireFormat:
    """Read a published request.

    Args:
        name: of its file in this package's folder ``wire``, without ``.txt``.
    """
    data = files(__package__).joinpath("wire", f"{name}.txt").read_bytes().decode("utf-8")
    head, *parts = _SECTION.split(data)
    notes = dict(_NOTE.findall(head))
    sections = {title: text.removesuffix("\n") for title, text in zip(parts[::2], parts[1::2], strict=True)}
    return WireFormat(notes["source"], notes["licence"], notes["version"], sections)
