"""Requests that a family publishes word for word: a data file each, with its source and licence, and no copy in code.

A model was trained on such a text, so that it is a wire format and nobody's prose. Where the template that travels with a
model's tokenizer writes the request, there is no file. A file begins with lines ``# name: value`` (``source``, ``licence``,
``stated``, which is where the licence stands, ``version``) and goes on with sections, each under a line ``[[name]]``; the line
feed before the next such line, or before the end of the file, is no part of a section. ``{name}`` in a section stands for a
value, or for another section.

Where the authors give no licence, their words are not in this package. The file then has lines ``file``, where theirs is, and
``sha256``, what it is known by, and ``{17-512}`` in a section stands for those characters of it: whoever has the file gives it.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.generation import PromptPiece

__all__ = ["Request", "WireFormat", "complete_request", "read_wire_format"]

_SECTION = re.compile(r"^\[\[([a-z ]+)\]\]\n", re.MULTILINE)
_NOTE = re.compile(r"# ([a-z0-9]+): (.+)")
_ELSEWHERE = re.compile(r"\{(\d+)-(\d+)\}")
_PLACE = re.compile(r"\{([a-z]+)\}")


@dataclass(frozen=True, slots=True)
class WireFormat:
    """A published request.

    Args:
        source: where it is published: repository, commit and path, or a page.
        licence: of that source.
        version: what the weights are called that read it.
        sections: texts by name; what stands elsewhere is left out.
        stated: where the licence is stated.
        file: address of the authors' file, where their words are not in this package.
        sha256: of that file, with line feeds as ends of lines.
    """

    source: str
    licence: str
    version: str
    sections: Mapping[str, str]
    stated: str = ""
    file: str | None = None
    sha256: str | None = None

    def fill(
        self,
        section: str,
        values: Mapping[str, str | Sequence[PromptPiece]] | None = None,
        *,
        sections: Mapping[str, str] | None = None,
    ) -> tuple[PromptPiece, ...]:
        """A section with its values: what was published is markup, values are plain text.

        Args:
            section: its name.
            values: what takes a place, by its name: a text, or pieces with images among them.
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
            value = values.get(name, "")
            given = [PromptPiece(value)] if isinstance(value, str) else value
            pieces += given if chosen is None else self.fill(chosen, values, sections=sections)
            place = found.end()
        pieces.append(PromptPiece(text[place:], markup=True))
        return tuple(piece for piece in pieces if piece.text or piece.image is not None)


Request = str | Path | WireFormat
"""What takes the place of a request that is not in this package: the path of the authors' file, or a format of one's own."""


@cache
def read_wire_format(name: str) -> WireFormat:
    """Read a published request.

    Args:
        name: of its file in this package's folder ``wire``, without ``.txt``.
    """
    return _parse(_data(name), "")


def complete_request(name: str, request: Request | None) -> WireFormat:
    """A request whose words are not in this package, with those of the authors' file.

    Args:
        name: of its file in this package's folder ``wire``, without ``.txt``.
        request: the path of the authors' file, which is compared with the published one, or a format of one's own.

    Raises:
        ConfigurationError: there is no such file, or it is another one; the message says which one is meant, and where it is.
    """
    if isinstance(request, WireFormat):
        return request
    wire = read_wire_format(name)
    meant = f"{wire.file} ({wire.source})"
    if request is None:
        raise ConfigurationError(
            f"request: {name} is asked with a text that its authors publish without a licence, so that it is not in this "
            f"package; download {meant} and pass its path: request='{Path(wire.file or '').name}', or --request"
        )
    if not isinstance(request, str | Path):
        raise ConfigurationError(f"request: must be the path of a file, not {type(request).__name__}; it is {meant}")
    try:
        text = Path(request).expanduser().read_bytes().replace(b"\r\n", b"\n")
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"request: {str(request)!r} cannot be read ({why}); pass the path of {meant}") from None
    found = hashlib.sha256(text).hexdigest()
    if found != wire.sha256:
        raise ConfigurationError(
            f"request: {str(request)!r} is not the published file (its SHA-256 is {found[:12]}..., and not {wire.sha256}); "
            f"pass the path of {meant}, unchanged"
        )
    return _parse(_data(name), text.decode("utf-8"))


def _data(name: str) -> str:
    return files(__package__).joinpath("wire", f"{name}.txt").read_bytes().decode("utf-8")


def _parse(data: str, elsewhere: str) -> WireFormat:
    head, *parts = _SECTION.split(data)
    notes = dict(_NOTE.findall(head))
    sections = {
        title: _ELSEWHERE.sub(lambda place: elsewhere[int(place[1]) : int(place[2])], text.removesuffix("\n"))
        for title, text in zip(parts[::2], parts[1::2], strict=True)
    }
    return WireFormat(
        *(notes["source"], notes["licence"], notes["version"], sections),
        stated=notes["stated"],
        file=notes.get("file"),
        sha256=notes.get("sha256"),
    )
