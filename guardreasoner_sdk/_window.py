"""What of a stream is held back and what is judged when. Pure, so that the synchronous and the asynchronous stream share it."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any, Generic, TypeVar

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, Turn, visible

__all__ = ["Window"]

T = TypeVar("T")

# A full stop behind a digit is more often a decimal point or a list's number; the window sees to the other ones.
_SENTENCE_END = re.compile(r"[。！？]|(?:(?<!\d)\.|[!?…])['\"”’)\]*_]*(?=\s|\Z)|\S[^\S\n]*\n")


class Window(Generic[T]):
    """The part of a stream that was read and not judged, and the answer (or answers) so far.

    Use: :meth:`take` each item and pass on what it returns; when :attr:`due`, and once more at the end, judge
    :meth:`exchanges`; where all are allowed, pass on what :meth:`release` returns.

    Args:
        prompt: what the human asked.
        history: earlier turns.
        size: most characters that wait for a check.
        hold: whether items wait for the verdict.
        text: from an item to its text, or to its texts by answer; None: items are str.
    """

    def __init__(
        self,
        prompt: str,
        history: Sequence[Turn | Mapping[str, Any]],
        *,
        size: int,
        hold: bool,
        text: Callable[[T], str | Mapping[Hashable, str]] | None,
    ) -> None:
        self._opening = Exchange(prompt, history=history)
        self._size = size
        self._hold = hold
        self._text = text
        self._held: list[T] = []
        self._judged: dict[Hashable, str] = {}
        self._fresh: dict[Hashable, str] = {}
        self._textless = 0
        self._opened = False

    def take(self, item: T) -> list[T]:
        """Add an item; returns what may go on at once: the item, unless it is to wait, or text before it does."""
        texts = self._texts(item)
        for answer, text in texts.items():
            if text:
                self._fresh[answer] = self._fresh.get(answer, "") + text
        if self._hold and self._fresh:
            self._held.append(item)
            self._textless += not any(texts.values())
            return []
        return [item]

    @property
    def full(self) -> bool:
        """Whether as much waits as may; an item without text counts as one character, so that such items cannot pile up."""
        return sum(map(len, self._fresh.values())) + self._textless >= self._size

    @property
    def due(self) -> bool:
        """Whether to judge now: the window is full, or a sentence has ended."""
        return self.full or any(_SENTENCE_END.search(text) and visible(text) for text in self._fresh.values())

    def exchanges(self) -> list[Exchange]:
        """What to judge: each answer that has grown, whole; the prompt alone where that is all there is to a stream."""
        opening = self._opening
        grown = [
            Exchange(opening.prompt, self._judged.get(answer, "") + text, opening.history)
            for answer, text in self._fresh.items()
            if visible(text)
        ]
        return grown if grown or self._opened else [opening]

    def release(self) -> list[T]:
        """Count what waits as judged; returns the items that are free now."""
        self._opened = True
        for answer, text in self._fresh.items():
            self._judged[answer] = self._judged.get(answer, "") + text
        self._fresh.clear()
        self._textless = 0
        free, self._held = self._held, []
        return free

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
