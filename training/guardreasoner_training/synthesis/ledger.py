"""What was asked and answered so far: a journal that knows an answer by its question, so that none is paid for twice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from guardreasoner_sdk._text import json_text
from guardreasoner_sdk.data.journal import Lines
from guardreasoner_sdk.generation import Message
from guardreasoner_training.formats import Format
from guardreasoner_training.recipe import SynthesisSettings
from guardreasoner_training.rows import TrainingRow
from guardreasoner_training.synthesis.budget import TokenCost
from guardreasoner_training.synthesis.examined import Reason
from guardreasoner_training.synthesis.quality import Spent
from guardreasoner_training.synthesis.questions import question

__all__ = ["Ledger", "LedgerEntry", "Tried", "question_key"]

Tokens = Annotated[int, Field(ge=0)]


class LedgerEntry(BaseModel):
    """A line of the journal: what came of a request.

    Args:
        key: of the question, by :func:`question_key`.
        id: the row that it was asked for, for people.
        model: who was asked.
        outcome: ``accepted``, or why not.
        text: what the teacher wrote; None where nothing came.
        final: whether asking again is pointless.
        max_tokens: longest answer that was asked for.
        temperature: that was asked for.
        input_tokens: tokens read.
        output_tokens: tokens written.
        assumed: whether the tokens are the most that it can have cost, because the teacher did not say.
    """

    # Strict: what this program did not write is damaged, and not to be guessed at.
    model_config = ConfigDict(frozen=True, strict=True)

    key: str
    id: str
    model: str
    outcome: Literal["accepted"] | Reason
    text: str | None
    final: bool
    max_tokens: int
    temperature: float
    input_tokens: Tokens
    output_tokens: Tokens
    assumed: bool


@dataclass(slots=True)
class Tried:
    """What is known of a question.

    Args:
        tries: how often it was asked.
        accepted: the good answer.
        reasons: why the others were thrown away, in order.
        last: the text of the last one thrown away.
        final: whether asking again is pointless.
    """

    tries: int = 0
    accepted: str | None = None
    reasons: list[Reason] = field(default_factory=list)
    last: str | None = None
    final: bool = False

    def open(self, attempts: int) -> bool:
        """Whether it is to be asked again."""
        return self.accepted is None and not self.final and self.tries < attempts


class Ledger:
    """The journal of all answers: each is written as it comes, before anything else is done with it.

    Args:
        lines: the journal; what it holds is taken in. Lines that are damaged are left out: the others are paid for, too.
        settings: of the teacher.
        format: what it writes.

    Attributes:
        spent: on all answers of this teacher; what another model was asked is in the journal, and does not count.
        proven: whether this teacher has written anything when it was asked like this.
    """

    def __init__(self, lines: Lines, settings: SynthesisSettings, format: Format) -> None:
        self._lines = lines
        self._settings = settings
        self._format = format
        self._keys: dict[str, str] = {}
        self._tried: dict[str, Tried] = {}
        self.spent = Spent()
        self.proven = False
        for line in lines.each():
            entry = _entry(line)
            if entry is None:
                self.spent.damaged += 1
            else:
                self._take(entry)

    def key(self, row: TrainingRow) -> str:
        """The key of what is asked about a row. Rows that are asked the same share an answer.

        Args:
            row: of this run, in which no other row has its name.
        """
        found = self._keys.get(row.id)
        if found is None:
            found = self._keys[row.id] = question_key(question(row, self._format), self._settings.model, self._format)
        return found

    def of(self, row: TrainingRow) -> Tried:
        """What is known of the question about a row."""
        return self._tried.get(self.key(row)) or Tried()

    def write(self, entry: LedgerEntry) -> None:
        """Keep what came of a request.

        Raises:
            InputError: the disk is full, or the like.
        """
        self._lines.add([entry.model_dump(mode="json")])
        self._take(entry)

    def _take(self, entry: LedgerEntry) -> None:
        if entry.model != self._settings.model:
            return
        cost = TokenCost(entry.input_tokens, entry.output_tokens)
        if entry.assumed:
            self.spent.assumed += cost
        else:
            self.spent.cost += cost
        self.spent.answers[entry.outcome] += 1
        asked_alike = (entry.max_tokens, entry.temperature) == (self._settings.max_tokens, self._settings.temperature)
        self.proven = self.proven or (asked_alike and entry.text is not None)
        if self._outdated(entry):
            return
        tried = self._tried.setdefault(entry.key, Tried())
        tried.tries += 1
        if entry.outcome == "accepted":
            tried.accepted = entry.text
        else:
            tried.reasons.append(entry.outcome)
            tried.last = entry.text
            tried.final = tried.final or entry.final

    def _outdated(self, entry: LedgerEntry) -> bool:
        """Whether the longest answer was to blame, and is another now: that was no try of what is asked now."""
        if entry.outcome == "truncated":
            return entry.max_tokens < self._settings.max_tokens
        # Servers count the room for the answer to the length of the question.
        return entry.outcome == "too_long" and entry.max_tokens > self._settings.max_tokens


def question_key(messages: Sequence[Message], model: str, format: Format) -> str:
    """What tells one question from another, whatever file or row it comes from."""
    told = [format, model, *([message.role, message.content] for message in messages)]
    return sha256(json_text(told).encode()).hexdigest()


def _entry(line: dict[str, Any] | None) -> LedgerEntry | None:
    try:
        return LedgerEntry.model_validate(line)
    except ValidationError:
        return None
