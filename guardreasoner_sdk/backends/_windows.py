"""Passages as windows of token ids: none of a long text is cut off, and none of it becomes a special token."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from guardreasoner_sdk.backends._tokens import PlainEncoder, PlainText
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.generation import Passage

if TYPE_CHECKING:
    from tokenizers import Tokenizer

__all__ = ["Slice", "WindowEncoder"]

_LEAST = 8
"""Fewest tokens of a text in a window: with fewer, special ones apart, a model would see hardly a word at a time."""


@dataclass(frozen=True, slots=True)
class Slice:
    """A window, as a model takes it in.

    Args:
        ids: its tokens, special ones among them.
        types: of each the number of its text, for models that are told.
        start: first character of the passage's text in it.
        end: the character after the last one.
    """

    ids: list[int]
    types: list[int]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Frame:
    """The special tokens around one text, or around a pair: in front, between, behind; and the number of each text."""

    front: list[int]
    between: list[int]
    behind: list[int]
    types: tuple[int, int]

    @property
    def size(self) -> int:
        return len(self.front) + len(self.between) + len(self.behind)


class WindowEncoder:
    """Cuts passages into overlapping windows.

    Args:
        tokenizer: of the model.
        name: the model's name, for errors.
        size: most tokens of a window, special ones among them.
        overlap: tokens that two neighbours share.
        end: the token that ends a text, for passages in a published format.

    Raises:
        ConfigurationError: a window has no room for text, or the tokenizer joins no pairs.
    """

    def __init__(self, tokenizer: Tokenizer, name: str, *, size: int, overlap: int, end: int | None = None) -> None:
        from tokenizers import Tokenizer as Copy

        full = Copy.from_str(tokenizer.to_str())
        full.no_padding()
        full.no_truncation()
        self._name = name
        self._size = size
        self._overlap = overlap
        self._end = end
        self._unknown = _unknown(full)
        self._blank = full.token_to_id(
            "\u2581"
        )  # a word's beginning in SentencePiece; its place covers the word's first letter
        self._plain = PlainEncoder(full, name, unknown=self._unknown)
        self._single = _frame(full, 1) or _Frame([], [], [], (0, 0))
        self._paired = _frame(full, 2)
        self._check_room(self._paired or self._single)

    def cut(self, passage: Passage) -> list[Slice]:
        """The windows of a passage, in the order of its text.

        Two texts that do not fit into a window together are cut both, where the prompt has more than half of it; each part of
        either is then read beside some part of the other.

        Raises:
            BackendError: the model reads nothing in the text, or not half of the letters in some stretch of it; or it holds a
                character that stands for a special token.
            ConfigurationError: the passage is a pair, and the model's tokenizer joins none.
        """
        text = self._plain.encode(passage.text, self._plain.first)
        self._check_read(passage.text, text)
        if passage.around is not None:
            return self._published(passage, passage.around)
        if passage.before is None:
            room = self._size - self._single.size
            return [_joined(self._single, None, part) for part in _parts(text, room, min(self._overlap, room // 2))]
        if self._paired is None:
            raise ConfigurationError(f"pair: the tokenizer of {self._name} joins no pairs of texts; leave it out")
        return self._pairs(self._plain.encode(passage.before, self._plain.first), text, self._paired)

    def _check_read(self, written: str, text: PlainText) -> None:
        """Refuse what the vocabulary does not know for its greater part: whatever the model said of it was not read there."""
        unknown = self._unknown[0]
        if text.ids and unknown is not None and unknown not in text.ids:
            return
        for part in _parts(text, self._size, 0):
            read = unread = 0
            for number, (start, end) in zip(part.ids, part.places, strict=True):
                letters = 0 if number == self._blank else sum(map(str.isalnum, written[start:end]))
                unread, read = (unread + letters, read) if number == unknown else (unread, read + letters)
            if not part.ids or (unknown in part.ids and unread >= read):
                much = "nothing" if read == 0 else "less than half"
                raise BackendError(f"{self._name} reads {much} in {'the text' if part is text else 'a part of the text'}")

    def _published(self, passage: Passage, around: tuple[str, str]) -> list[Slice]:
        opening, between = around
        prompt = passage.before or ""
        behind = [self._end] if self._end is not None else []
        # As a whole, so that its ids are those that the model was trained on.
        whole = self._plain.encode(f"{opening}{prompt}{between}{passage.text}", self._plain.first).ids
        ids = [*self._single.front, *whole, *behind]
        if len(ids) <= self._size:
            return [Slice(ids, [0] * len(ids), 0, len(passage.text))]
        encode = self._plain.encode
        front = [*self._single.front, *encode(opening, self._plain.first).ids]
        frame = _Frame(front, encode(between, self._plain.inner).ids, behind, (0, 0))
        return self._pairs(encode(prompt, self._plain.inner), encode(passage.text, self._plain.inner), frame)

    def _pairs(self, before: PlainText, text: PlainText, frame: _Frame) -> list[Slice]:
        self._check_room(frame)
        room = self._size - frame.size
        if len(before.ids) + len(text.ids) <= room:
            return [_joined(frame, before, text)]
        share = min(len(before.ids), max(room // 2, room - len(text.ids)))
        prompts = _parts(before, share, min(self._overlap, share // 4))
        texts = _parts(text, room - share, min(self._overlap, (room - share) // 4))
        count = max(len(prompts), len(texts))
        return [_joined(frame, prompts[number % len(prompts)], texts[number % len(texts)]) for number in range(count)]

    def _check_room(self, frame: _Frame) -> None:
        if self._size - frame.size < 2 * _LEAST:
            least = frame.size + 2 * _LEAST
            raise ConfigurationError(f"window: {self._size} tokens are too few for {self._name}; use {least} or more")


def _parts(text: PlainText, size: int, overlap: int) -> list[PlainText]:
    """A text in stretches of at most ``size`` tokens; the last one is as long as the others, so that it has as much context."""
    count = len(text.ids)
    if count <= size:
        return [text]
    starts = [*range(0, count - size, size - overlap), count - size]
    return [PlainText(text.ids[start : start + size], text.places[start : start + size]) for start in starts]


def _joined(frame: _Frame, before: PlainText | None, text: PlainText) -> Slice:
    ids, types = [*frame.front], [frame.types[0]] * len(frame.front)
    if before is not None:
        ids += [*before.ids, *frame.between]
        types += [frame.types[0]] * (len(before.ids) + len(frame.between))
    last = frame.types[1] if before is not None else frame.types[0]
    ids += [*text.ids, *frame.behind]
    types += [last] * (len(text.ids) + len(frame.behind))
    start = min((first for first, _ in text.places), default=0)
    return Slice(ids, types, start, max((last for _, last in text.places), default=start))


def _frame(full: Tokenizer, texts: int) -> _Frame | None:
    """What the tokenizer itself puts around so many texts; None where it does not tell them apart."""
    encoding = full.encode("a") if texts == 1 else full.encode("a", "a")
    places = [(start, end) for mark, start, end in _runs(encoding.special_tokens_mask) if not mark]
    if len(places) != texts:
        return None
    ids, types = encoding.ids, encoding.type_ids
    (start, end), (last, close) = places[0], places[-1]
    return _Frame(ids[:start], ids[end:last] if texts > 1 else [], ids[close:], (types[start], types[last]))


def _runs(marks: Sequence[int]) -> Iterator[tuple[int, int, int]]:
    start = 0
    for place in range(1, len(marks) + 1):
        if place == len(marks) or marks[place] != marks[start]:
            yield marks[start], start, place
            start = place


def _unknown(full: Tokenizer) -> tuple[int | None, str | None]:
    """The token for what the vocabulary lacks."""
    model = json.loads(full.to_str())["model"]
    name = model.get("unk_token")
    if model.get("type") == "Unigram":
        number = model.get("unk_id")
        return (number, full.id_to_token(number)) if number is not None else (None, None)
    return (full.token_to_id(name), name) if name is not None else (None, None)
