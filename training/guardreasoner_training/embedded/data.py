"""Labelled rows from a folder of JSON Lines, checked one by one."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from guardreasoner_sdk.data.readers import each_record
from guardreasoner_sdk.errors import InputError
from guardreasoner_training.rows.files import stem_of

HEADS: Final = ("prompt_harmful", "response_refusal", "response_harmful")
"""The model's outputs, in order. The score of each is the probability of the word it is named after."""

# The row's field for each head.
_LABEL_FIELDS: Final = ("prompt_harmful", "refusal", "response_harmful")


# Some sets name their languages in words.
_LANGUAGES: Final = {
    "catalan": "ca", "chinese": "zh", "dutch": "nl", "english": "en", "esperanto": "eo", "french": "fr", "german": "de",
    "hindi": "hi", "hungarian": "hu", "italian": "it", "japanese": "ja", "korean": "ko", "latin": "la", "portuguese": "pt",
    "russian": "ru", "sotho": "st", "spanish": "es", "thai": "th", "tswana": "tn", "turkish": "tr", "vietnamese": "vi",
    "yoruba": "yo",
}  # fmt: skip
_CODE: Final = re.compile(r"([a-z]{2,3})(?:[-_][a-z\d]+)*")
_SEVERAL: Final = "mul"


class DataError(ValueError):
    """Training data that cannot be used; the message names the file, the line, and what to change."""


@dataclass(frozen=True, slots=True)
class SourceRow:
    """One labelled exchange.

    Attributes:
        prompt: what the user wrote.
        response: what the assistant answered; None where only the prompt was labelled.
        labels: one per head, in the order of `HEADS`; None where the source does not say.
        source: name of the file it came from, without its suffixes: the key of the source table.
        lang: code of its language (`en`, `pt`), English where the row does not say; None where it is in several or one unknown.
        category: what kind of harm the source is about, in its own words; None where it does not.
    """

    prompt: str
    response: str | None
    labels: tuple[bool | None, bool | None, bool | None]
    source: str
    lang: str | None = "en"
    category: str | None = None

    @property
    def english(self) -> bool:
        """Whether its language is English."""
        return self.lang == "en"


def load_folder(folder: Path) -> list[SourceRow]:
    """Read every `*.jsonl` and `*.jsonl.gz` file of a folder, in the order of their names.

    Returns:
        All rows that carry a label.

    Raises:
        DataError: if the folder has no such file, or a row is broken.
    """
    files = sorted(path for path in folder.glob("*.jsonl*") if path.name.endswith((".jsonl", ".jsonl.gz")))
    if not files:
        raise DataError(f"{folder}: no .jsonl or .jsonl.gz file here; give --data a folder of labelled rows")
    rows = [row for path in files for row in read_rows(path) if any(label is not None for label in row.labels)]
    if not rows:
        raise DataError(f"{folder}: not one row carries a label (prompt_harmful, refusal or response_harmful)")
    return rows


def read_rows(path: Path) -> Iterator[SourceRow]:
    """Yield all rows of a `.jsonl` or `.jsonl.gz` file in its order, labelled or not.

    Raises:
        DataError: naming file and line, if the file cannot be read or a row is broken.
    """
    source = stem_of(path)
    try:
        for found in each_record(path):
            if isinstance(found, InputError):
                raise found
            try:
                yield parse_row(found.values, source)
            except ValueError as error:
                raise DataError(f"{found.place}: {error}") from error
    except InputError as error:
        raise DataError(str(error)) from error


def parse_row(value: Mapping[str, object], source: str) -> SourceRow:
    """Check one parsed row.

    Raises:
        ValueError: saying which field is wrong and what it must be.
    """
    prompt, response = value.get("prompt"), value.get("response")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ValueError('"prompt" must be a string that is not empty')
    if response is not None and not isinstance(response, str):
        raise ValueError('"response" must be a string or null')
    harmful, refusal, answer_harmful = (_label(value, field) for field in _LABEL_FIELDS)
    if response is None:
        # Published sets do hold such rows (an answer lost on the way): a label of nothing says nothing.
        refusal = answer_harmful = None
    category = value.get("category")
    return SourceRow(
        prompt,
        response,
        (harmful, refusal, answer_harmful),
        source,
        language(value.get("lang")),
        category if isinstance(category, str) and category else None,
    )


def language(stated: object) -> str | None:
    """The code of a language that a row states, English where it states none; None for several languages and unknown ones.

    Args:
        stated: a code, with or without a region (`pt`, `pt-BR`), or an English name (`Portuguese`).
    """
    if stated is None:
        return "en"
    name = str(stated).strip().lower()
    code = _CODE.fullmatch(_LANGUAGES.get(name, name))
    return code[1] if code is not None and code[1] != _SEVERAL else None


def _label(value: Mapping[str, object], field: str) -> bool | None:
    label = value.get(field)
    if label is None or isinstance(label, bool):
        return label
    raise ValueError(f'"{field}" must be true, false or null, not {label!r}')
