"""Which column of a user's file holds what, which words are labels, and what was probably meant by a name that is not there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from guardreasoner_sdk._text import format_names, quote_value
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.verdict import LABELS, TASKS, Task

if TYPE_CHECKING:
    from guardreasoner_sdk.data.records import Record

__all__ = ["CONVERSATIONS", "Columns", "RawRow", "near_prompt"]

CONVERSATIONS = ("messages", "conversation", "conversations")
"""Columns of whole conversations, the first that is there: read where a row has no prompt."""

_PROMPTS = ("prompt", "text", "input", "question", "query", "instruction", "user_input", "user_prompt", "goal", "behavior")
"""What the prompt is called elsewhere, the likeliest first."""

_LONGEST_NAME = 40

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


class RawRow(NamedTuple):
    """What a labelled row says, before its texts are checked."""

    id: str
    place: str
    prompt: Any
    response: Any
    labels: dict[Task, bool]
    language: str | None = None
    kind: str | None = None


@dataclass(frozen=True, slots=True)
class Columns:
    """Which column of a user's file holds what.

    Args:
        prompt: name of the prompt's column or key.
        response: name of the response's, which every row must have then, so that a typo does not quietly judge the
            prompts alone; None: ``response``, where there is one.
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

    Example:
        >>> from guardreasoner_sdk.evaluation import Columns
        >>> Columns.parse(["prompt=question", "prompt_harmfulness=toxic", "positive=bad"]).prompt
        'question'
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
            raise InputError("--column", f"{unknown[0]!r} is not a task", f"use one of {', '.join(TASKS)}")

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
                raise InputError("--column", f"{setting!r} is not what=column", "use for example prompt=question")
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

    @property
    def response_name(self) -> str:
        """Name of the response's column or key."""
        return self.response or "response"

    def check(self, path: Path, names: list[str]) -> None:
        """Check those of the texts against the columns of a table that is to be judged.

        Args:
            path: the table.
            names: of its columns.

        Raises:
            InputError: one is missing, or is there twice.
        """
        conversations = self.prompt == "prompt" and any(name in names for name in CONVERSATIONS)
        for option, name, needed in (
            ("--prompt-column", self.prompt, not conversations),
            ("--response-column", self.response_name, self.response is not None),
        ):
            if name in names and names.count(name) > 1:
                raise InputError(option, f"{path} has {names.count(name)} columns {quote_value(name)}", "rename all but one")
            if needed and name not in names:
                near = near_prompt(names) if option == "--prompt-column" else None
                fix = f"name one of those it has: {format_names(names)}" if near is None else f"pass --prompt-column {near}"
                raise InputError(option, f"{path} has no column {quote_value(name)}", fix)

    def row(self, record: Record) -> RawRow | None:
        """Read a labelled row; None where it has no label.

        Raises:
            InputError: as :meth:`labels_of`.
        """
        labels = self.labels_of(record)
        if not labels:
            return None
        values = record.values
        identity = values.get(self.id)
        known = str(record.number) if identity in (None, "") else str(identity)
        language = _word(values.get(self.language or "lang")).replace("_", "-").partition("-")[0] or None
        kind = _word(values.get(self.kind or "kind")) or None
        response = values.get(self.response_name)
        return RawRow(known, record.place, values[self.prompt], None if response == "" else response, labels, language, kind)

    def labels_of(self, record: Record, *, needed: bool = True) -> dict[Task, bool]:
        """The labels of a row.

        Args:
            needed: whether a row without any column of labels is an error.

        Raises:
            InputError: a column is missing, or a word is not a label, with its line.
        """
        values = record.values
        for name in (self.prompt, *self.labels.values(), *filter(None, (self.response, self.language, self.kind))):
            if name not in values:
                near = near_prompt(values) if name == self.prompt else None
                fix = f"name one of those it has: {format_names(values)}" if near is None else f"pass --column prompt={near}"
                raise InputError(record.place, f"has no column {name!r}", fix)
        places = {task: self.column_of(task, values) for task in TASKS}
        if not any(places.values()):
            if not needed:
                return {}
            fix = "name them, for example with --column prompt_harmfulness=toxic"
            raise InputError(record.place, "has no column of labels", fix)
        labels = {
            task: said
            for task, name in places.items()
            if name is not None and (said := self._label(task, name, values[name], record.place)) is not None
        }
        unanswered = [task for task in labels if task != TASKS[0]] if values.get(self.response_name) in (None, "") else []
        if unanswered:
            problem = f"{places[unanswered[0]]}: is labelled, but there is no response"
            raise InputError(record.place, problem, "give the response, or leave the label empty")
        return labels

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
        raise InputError(place, f"{column}: {quote_value(word)} is not a label", fix)

    @staticmethod
    def _more(task: Task, words: frozenset[str]) -> frozenset[str]:
        return frozenset() if task == "response_refusal" else words


def _word(value: Any) -> str:
    """A word in a cell: a code or a name, however it is spelled; empty where there is none."""
    return str(value).strip().lower() if isinstance(value, str) else ""


def near_prompt(names: Iterable[str]) -> str | None:
    """The column that most probably holds the prompt; None where no name says so."""
    found = {name.strip().lower(): name for name in names if len(name) <= _LONGEST_NAME}
    return next((found[name] for name in _PROMPTS if name in found), None)
