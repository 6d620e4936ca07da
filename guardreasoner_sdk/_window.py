"""What of a stream is held back and what is judged when. Pure, so that the synchronous and the asynchronous stream share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS, Exchange, has_visible_text

__all__ = ["Look", "StreamWindow"]

T = TypeVar("T")

# A full stop behind a digit is more often a decimal point or a list's number; the window sees to the other ones.
_SENTENCE_END = re.compile(r"[。！？]|(?:(?<!\d)\.|[!?…])['\"”’)\]*_]*(?=\s|\Z)|\S[^\S\n]*\n")
_BLANK = re.compile(r"\s")

_GROWTH = 2
"""How many times as long an answer has to be until it is judged whole again: that costs twice its length, all in all, however
long it becomes."""

_IN_DOUBT = 8
"""How many times its length an answer may cost, beyond that, in being judged whole for the sake of excerpts that are merely
doubtful."""

_BORDER = 100
"""Most characters that an excerpt begins earlier, so that it begins with a sentence, or with a word at least."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one check is to see of an answer.

    Args:
        exchange: the prompt with the answer so far, or with an excerpt of it that ends where the answer ends.
        answer: which of the answers in the stream.
        whole: whether it is the answer from its beginning.
    """

    exchange: Exchange
    answer: Hashable = None
    whole: bool = True


@dataclass(slots=True)
class _Answer:
    """One answer as far as it was read.

    Args:
        parts: what was judged and released.
        length: characters in them.
        recent: the last of them, which stand before the new text in an excerpt.
        fresh: what was read since.
        whole_at: how long the answer was when it was judged whole.
        partly: whether an excerpt was what was judged last.
        asked: characters that were judged in doubt of an excerpt.
    """

    parts: list[str] = field(default_factory=list)
    length: int = 0
    recent: str = ""
    fresh: str = ""
    whole_at: int = 0
    partly: bool = False
    asked: int = 0

    @property
    def whole(self) -> str:
        return "".join([*self.parts, self.fresh])

    @property
    def grown(self) -> int:
        """Characters read."""
        return self.length + len(self.fresh)

    @property
    def excerpt(self) -> str:
        return self.recent + self.fresh

    def release(self, look_back: int) -> None:
        self.length = self.grown
        self.parts.append(self.fresh)
        self.recent = self.excerpt[_border(self.excerpt, len(self.excerpt) - look_back) :]
        self.fresh = ""


def _border(text: str, cut: int) -> int:
    """Where to begin a text that is to begin at ``cut``: with a sentence a little earlier, else with a word."""
    if cut <= 0:
        return 0
    before = text[max(0, cut - _BORDER) : cut]
    ends = [match.end() for match in _SENTENCE_END.finditer(before)] or [match.end() for match in _BLANK.finditer(before)]
    return cut - len(before) + ends[-1] if ends else cut


class StreamWindow(Generic[T]):
    """The part of a stream that was read and not judged, and the answer (or answers) so far.

    Use: :meth:`take` each item and pass on what it returns; when :attr:`due`, and once more at the end, judge
    :meth:`looks`; where all are allowed, pass on what :meth:`release` returns.

    A check sees an excerpt: what is new, behind as much of what was judged before as the judge wants for context, so that no
    finding falls between two of them. It sees the whole answer while that is no longer than an excerpt, each time that it has
    doubled, and at the end. So a stream costs as much as its answer is long, and not as the square of that.

    Args:
        opening: what the stream answers; a response that it has already is not looked at.
        size: most characters that wait for a check.
        hold: whether items wait for the verdict.
        text: from an item to its text, or to its texts by answer; None: items are str.
        look_back: characters of an answer, at least, that an excerpt shows before what is new.
    """

    def __init__(
        self,
        opening: Exchange,
        *,
        size: int,
        hold: bool,
        text: Callable[[T], str | Mapping[Hashable, str]] | None,
        look_back: int,
    ) -> None:
        self._opening = opening
        self._size = size
        self._hold = hold
        self._text = text
        self._look_back = look_back
        self._held: list[T] = []
        self._answers: dict[Hashable, _Answer] = {}
        self._growing: dict[Hashable, _Answer] = {}
        self._waiting = 0
        self._opened = False

    def take(self, item: T) -> list[T]:
        """Add an item; returns what may go on at once: the item, unless it is to wait, or text before it does."""
        texts = self._texts(item)
        for answer, text in texts.items():
            if text:
                growing = self._growing[answer] = self._answers.setdefault(answer, _Answer())
                growing.fresh += text
                self._waiting += len(text)
        if self._hold and self._waiting:
            self._held.append(item)
            # An item without text counts as one character, so that such items cannot pile up.
            self._waiting += not any(texts.values())
            return []
        return [item]

    @property
    def full(self) -> bool:
        """Whether as much waits as may."""
        return self._waiting >= self._size

    @property
    def due(self) -> bool:
        """Whether to judge now: the window is full, or a sentence has ended."""
        return self.full or any(
            _SENTENCE_END.search(new.fresh) and has_visible_text(new.fresh) for new in self._growing.values()
        )

    def looks(self, *, last: bool = False) -> list[Look]:
        """What to judge: each answer that has grown; the prompt alone where that is all there is to a stream.

        Args:
            last: whether the stream has ended. Then each answer is judged whole of which an excerpt was judged last.
        """
        looks = []
        for key, answer in (self._answers if last else self._growing).items():
            if has_visible_text(answer.fresh) or (last and answer.partly):
                whole = last or answer.grown == len(answer.excerpt) or answer.grown >= _GROWTH * answer.whole_at
                # What is too long to be judged is refused when it becomes so, and not at the end.
                whole = whole or answer.grown > MAX_CHARACTERS
                looks.append(self._look(key, answer.whole if whole else answer.excerpt, whole=whole))
        return looks if looks or self._opened else [Look(self._opening)]

    def whole(self, look: Look, *, found: bool) -> Look | None:
        """The whole of what a look showed an excerpt of; None where it was the whole, or too much was spent on doubts.

        Args:
            found: whether more than a doubt is behind it: then nothing is too much.
        """
        if look.whole:
            return None
        answer = self._answers[look.answer]
        if not found and answer.asked > (_IN_DOUBT - 1) * answer.grown:
            return None
        return self._look(look.answer, answer.whole, whole=True)

    def release(self, looks: Sequence[Look], asked: Sequence[Look] = ()) -> list[T]:
        """Count what waits as judged.

        Args:
            asked: the wholes that were judged in doubt of an excerpt.

        Returns:
            the items that are free now.
        """
        self._opened = True
        for look in looks:
            answer = self._answers.get(look.answer)
            if answer is not None:
                answer.partly = not look.whole
                answer.whole_at = answer.grown if look.whole else answer.whole_at
        for look in asked:
            self._answers[look.answer].asked += len(look.exchange.response or "")
        for growing in self._growing.values():
            growing.release(self._look_back)
        self._growing.clear()
        self._waiting = 0
        free, self._held = self._held, []
        return free

    def _look(self, key: Hashable, text: str, *, whole: bool) -> Look:
        return Look(self._opening.with_response(text), key, whole)

    def _texts(self, item: T) -> Mapping[Hashable, str]:
        found: Any = item if self._text is None else self._text(item)
        texts: Mapping[Hashable, str] = found if isinstance(found, Mapping) else {None: found}
        for text in texts.values():
            if not isinstance(text, str):
                what, fix = "chunk", "pass text=, a function from a chunk to the text in it"
                if self._text is not None:
                    what, fix = "text", "let text= give a str, '' for a chunk without text"
                raise InputError(what, f"must be a str, not {type(text).__name__}", fix)
        return texts
