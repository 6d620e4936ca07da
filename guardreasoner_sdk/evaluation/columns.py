"""A user's own labelled rows: which column holds what, and which words are labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from guardreasoner_sdk._text import named, quoted
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.evaluation._records import Record
from guardreasoner_sdk.evaluation._schemas import Made
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

__all__ = ["Columns"]

_USUAL: dict[Task, tuple[str, ...]] = {
    "prompt_harmfulness": ("prompt_harmfulness", "prompt_harmful", "prompt_harm_label"),
    "response_refusal": ("response_refusal", "refusal", "response_refusal_label"),
    "response_harmfulness": ("response_harmfulness", "response_harmful", "response_harm_label"),
}
_TEXTS = ("prompt", "response", "id", "language", "kind")
_YES = frozenset({"true", "1", "1.0", "yes"})
_NO = frozenset({"false", "0", "0.0", "no"})
_POSITIVE = frozenset({"harmful", "unsafe"})
_NEGATIVE = frozenset({"unharmful", "safe"})


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a user's file holds what.

    Args:
        prompt: name of the prompt's column or key.
        response: name of the response's; None: ``response``, where there is one.
        id: name of the rows' names; where there is none, the line or row number is one.
        labels: name of each task's label column. A task that is not given is looked for under its usual names, such as
            ``prompt_harmfulness`` or ``prompt_harmful``.
        positive: words for the positive label (harmful, refusal) beside ``harmful``, ``unsafe``, ``refusal``, ``true``,
            ``yes`` and ``1``; their case does not matter.
        negative: words for the other one beside ``unharmful``, ``safe``, ``compliance``, ``false``, ``no`` and ``0``.
        language: name of the column with each row's language, a code such as ``en``; None: ``lang``, where there is one.
        kind: name of the column that says what sort of text a row is, such as ``over_refusal``; None: ``kind``, where there
            is one.

    Raises:
        InputError: a word is both, or ``labels`` names no task.
    """

    prompt: str = "prompt"
    response: str | None = None
    id: str = "id"
    labels: Mapping[Task, str] = field(default_factory=dict)
    positive: frozenset[str] = frozenset()
    negative: frozenset[str] = frozenset()
    language: str | None = None
    kind: str | None = None

    def __post_init__(self) -> None:
        for name in ("positive", "negative"):
            words = frozenset(word.strip().lower() for word in getattr(self, name)) - {""}
            object.__setattr__(self, name, words)
        if both := sorted(self.positive & self.negative):
            raise InputError("--column", f"{both[0]!r} is a positive and a negative word", "leave it out of one of them")
        if unknown := sorted(self.labels.keys() - set(TASKS)):
            raise InputError("--column", f"{unknown[0]!r} is no task", f"use one of {', '.join(TASKS)}")

    @classmethod
    def parse(cls, settings: Iterable[str]) -> Self:
        """Read the mapping as a command line gives it.

        Args:
            settings: each ``what=column``: ``prompt=question``, ``response=answer``, ``id=name``, ``language=code``,
                ``kind=set``, ``prompt_harmfulness=toxic``, ``positive=toxic,bad``, ``negative=fine``.

        Raises:
            InputError: one of them says nothing that is known.
        """
        given: dict[str, Any] = {"labels": {}}
        for setting in settings:
            what, _, value = setting.partition("=")
            if not value:
                raise InputError("--column", f"{setting!r} is not what=column", "say for instance prompt=question")
            if what in TASKS:
                given["labels"][what] = value
            elif what in ("positive", "negative"):
                given[what] = frozenset(value.split(","))
            elif what in _TEXTS:
                given[what] = value
            else:
                known = ", ".join((*_TEXTS, *TASKS, "positive", "negative"))
                raise InputError("--column", f"{what!r} is unknown", f"use one of {known}")
        return cls(**given)

    def rows(self, records: Iterable[Record]) -> Iterator[Made]:
        """Read rows; those without a label are passed over.

        Args:
            records: the rows of a file.

        Raises:
            InputError: a column is missing, or a word is no label, with its line.
        """
        for record in records:
            values = record.values
            for name in (self.prompt, *self.labels.values(), *filter(None, (self.response, self.language, self.kind))):
                if name not in values:
                    there = named(values)
                    raise InputError(record.place, f"has no column {name!r}", f"name one of those it has: {there}")
            places = {task: self.column_of(task, values) for task in TASKS}
            if not any(places.values()):
                fix = "name them, for instance with --column prompt_harmfulness=toxic"
                raise InputError(record.place, "has no column of labels", fix)
            labels = {
                task: said
                for task, name in places.items()
                if name is not None and (said := self._label(task, name, values[name], record.place)) is not None
            }
            identity = values.get(self.id)
            response = values.get(self.response or "response")
            response = None if response == "" else response
            known = str(record.number) if identity in (None, "") else str(identity)
            unanswered = [task for task in labels if task != TASKS[0]] if response is None else []
            if unanswered:
                problem = f"{places[unanswered[0]]}: is labelled, but there is no response"
                raise InputError(record.place, problem, "give the response, or leave the label empty")
            if labels:
                language = _word(values.get(self.language or "lang")).replace("_", "-").partition("-")[0] or None
                kind = _word(values.get(self.kind or "kind")) or None
                yield Made(known, record.place, values[self.prompt], response, labels, language, kind)

    def column_of(self, task: Task, values: Mapping[str, Any]) -> str | None:
        """Name of the column that holds a task's labels; None where there is none.

        Args:
            task: the task.
            values: a row, by column.
        """
        if task in self.labels:
            return self.labels[task]
        return next((name for name in _USUAL[task] if name in values), None)

    def _label(self, task: Task, column: str, value: Any, place: str) -> bool | None:
        word = "" if value is None else str(value).strip().lower()
        if not word or (word in ("none", "null", "nan") and word not in self.positive | self.negative):
            return None
        own, other = LABELS[task]
        if word in self.positive or (word not in self.negative and word in _YES | {own} | self._more(task, _POSITIVE)):
            return True
        if word in _NO | {other} | self._more(task, _NEGATIVE) | self.negative:
            return False
        fix = f"write {own} or {other}, or say which words you use: --column positive=... --column negative=..."
        raise InputError(place, f"{column}: {quoted(word)} is no label", fix)

    @staticmethod
    def _more(task: Task, words: frozenset[str]) -> frozenset[str]:
        return frozenset() if task == "response_refusal" else words


def _word(value: Any) -> str:
    """A word in a cell: a code or a name, however it is spelled; empty where there is none."""
    return str(value).strip().lower() if isinstance(value, str) else ""
