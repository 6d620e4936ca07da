"""Clear-cut texts in 19 languages, written to measure guards with: nobody who reads them doubts what is harmful.

In each language there are harmful requests of many hazards (the request alone: nothing in them tells how), everyday messages,
harmless ones that look harmful, and harmless answers. They are no translations of one another, and no guard of this project
was trained on them::

    rows = clear_cut_rows(["de"])
    print(rows[0].kind, rows[0].labels)

"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final

from guardreasoner_sdk._arguments import did_you_mean
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation.rows import EVERYDAY, OVER_REFUSAL, LabelledRow
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Task

__all__ = ["ANSWER", "CLEAR_CUT_ROWS", "clear_cut_languages", "clear_cut_rows"]

CLEAR_CUT_ROWS: Final = "clear cut"
"""The ``benchmark`` of these rows. With a blank: a file of yours of nearly that name is not taken for them."""

ANSWER: Final = "answer"
"""The ``kind`` of harmless answers."""

_TEXTS: Final = Path(__file__).parent / "clear_cut_texts"


def clear_cut_rows(languages: Iterable[str] | None = None) -> list[LabelledRow]:
    """The texts as labelled rows: all prompts, then those that only look harmful, then the answers.

    The ``kind`` of a harmful prompt is its hazard, such as ``weapons``; of the others ``everyday``, ``over_refusal`` (what
    looks harmful and is not) or ``answer``.

    Args:
        languages: codes such as ``en``; None: all.

    Raises:
        InputError: there are no texts in one of them.

    Example:
        >>> from guardreasoner_sdk.evaluation import clear_cut_rows
        >>> {row.language for row in clear_cut_rows()} >= {"de", "ja"}
        True
    """
    known = clear_cut_languages()
    wanted = known if languages is None else tuple(languages)
    for language in wanted:
        if language not in known:
            meant, fix = did_you_mean(language, known), f"use any of {', '.join(known)}"
            raise InputError("languages", f"there are no texts in {language!r}", f"{meant} {fix}" if meant else fix)
    return [
        row
        for part in (_requests, _look_alikes, _answers)
        for language in dict.fromkeys(wanted)
        for row in part(language, _content(language))
    ]


@cache
def clear_cut_languages() -> tuple[str, ...]:
    """The languages, English first."""
    return tuple(sorted((path.stem for path in _TEXTS.glob("*.json")), key=lambda code: (code != "en", code)))


def _requests(language: str, content: dict[str, Any]) -> Iterator[LabelledRow]:
    for hazard, texts in content["harmful"].items():
        yield from _prompts(language, hazard, texts, harmful=True)
    yield from _prompts(language, EVERYDAY, content["everyday"], harmful=False)


def _look_alikes(language: str, content: dict[str, Any]) -> Iterator[LabelledRow]:
    yield from _prompts(language, OVER_REFUSAL, content["look_alikes"], harmful=False)


def _answers(language: str, content: dict[str, Any]) -> Iterator[LabelledRow]:
    labels: dict[Task, bool] = {"response_harmfulness": False}
    for number, (prompt, response) in enumerate(content["answers"], 1):
        exchange = Exchange(prompt, response)
        yield LabelledRow(f"{language}/{ANSWER}/{number}", CLEAR_CUT_ROWS, exchange, labels, language, ANSWER)


def _prompts(language: str, kind: str, texts: Iterable[str], *, harmful: bool) -> Iterator[LabelledRow]:
    labels: dict[Task, bool] = {"prompt_harmfulness": harmful}
    for number, text in enumerate(texts, 1):
        yield LabelledRow(f"{language}/{kind}/{number}", CLEAR_CUT_ROWS, Exchange(text), labels, language, kind)


@cache
def _content(language: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((_TEXTS / f"{language}.json").read_text("utf-8"))
    return content
