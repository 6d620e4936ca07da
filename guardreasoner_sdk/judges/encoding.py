"""Text to token windows for the embedded guard: one way, shared by training and by the runtime.

A model judges well only what is encoded as it was in training, so both sides import this file and nothing else
decides how a text becomes numbers. It needs the standard library and numpy.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from typing import Final

import numpy as np

from guardreasoner_sdk.exchange import MAX_CHARACTERS
from guardreasoner_sdk.judges.cleaning import begins, clean, folded_piece, folded_pieces, squeeze_blanks
from guardreasoner_sdk.judges.pieces import SentencePieces
from guardreasoner_sdk.judges.places import Folded, map_changes, map_squeezing
from guardreasoner_sdk.judges.unmasking import no_check, parts, shared_unmasker

# What a judge may put before a prompt does not make one too long that was accepted.
_MOST_CHARACTERS: Final = MAX_CHARACTERS + 50_000
_MOST_TOKENS: Final = 1024

__all__ = [
    "ANSWERED",
    "ASKED",
    "PROMPT",
    "RESPONSE",
    "Context",
    "Encoder",
    "EncodingConfig",
    "TokenWindow",
    "clean",
    "collate",
]


@dataclass(frozen=True, slots=True)
class TokenWindow:
    """One model input: token ids with what each of them is, specials included.

    Attributes:
        ids: of the tokens.
        type_ids: what they are: ``ASKED`` and ``ANSWERED`` are read for context, ``PROMPT`` and ``RESPONSE`` are judged.
        first: place among ``ids`` of the first token of the judged text.
        start: which token of the judged text that is, counted from 0.
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    first: int = 1
    start: int = 0


ASKED: Final = 0
"""Type of a token that the user wrote earlier; for a response, of its prompt."""
ANSWERED: Final = 1
"""Type of a token that the assistant wrote earlier."""
PROMPT: Final = 2
"""Type of a token of the prompt that is judged."""
RESPONSE: Final = 3
"""Type of a token of the response that is judged. Only from ``PROMPT`` on are tokens scored."""

Context = Sequence[tuple[int, Sequence[int]]]
"""What is read in front of a judged text: types and tokens of earlier texts, oldest first."""


@dataclass(frozen=True, slots=True)
class EncodingConfig:
    """How texts are cut into windows. All sizes are in tokens.

    Attributes:
        window_tokens: size of a window, special tokens included.
        context_tokens: most tokens that earlier texts take inside a window, with the special tokens after them.
        overlap_tokens: tokens that neighbouring windows share, so that nothing is only seen cut in two.
        opening_tokens: how much of a response's beginning is read for a refusal, which an answer states there.

    Raises:
        ValueError: if a window would not advance through its text.
    """

    window_tokens: int
    context_tokens: int
    overlap_tokens: int
    opening_tokens: int

    def __post_init__(self) -> None:
        if self.overlap_tokens < 0 or self.context_tokens < 0:
            raise ValueError(f"overlap_tokens and context_tokens must be 0 or more, not {self}")
        if self.opening_tokens < 1:
            raise ValueError(f"opening_tokens must be 1 or more, not {self}")
        if self.window_tokens - 2 - self.context_tokens <= self.overlap_tokens:
            raise ValueError(f"window_tokens must exceed context_tokens + overlap_tokens by 3 or more, not {self}")

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> EncodingConfig:
        """Read the `encoding` object of a model's config.json.

        Raises:
            ValueError: if a key is missing or is not a whole number, or the sizes do not fit together.
        """
        sizes: dict[str, int] = {}
        for key in ("window_tokens", "context_tokens", "overlap_tokens", "opening_tokens"):
            size = value.get(key)
            if not isinstance(size, int) or isinstance(size, bool):
                raise ValueError(f"encoding.{key} must be a whole number of tokens, not {size!r}")
            if not 0 <= size <= _MOST_TOKENS:
                raise ValueError(f"encoding.{key} must be 0 to {_MOST_TOKENS} tokens, not {size}")
            sizes[key] = size
        return cls(**sizes)

    def to_json(self) -> dict[str, int]:
        """Return the object that `from_json` reads."""
        return asdict(self)


class Encoder:
    """Turns prompts and answers into windows. Safe to share between threads once built.

    Args:
        pieces: the model's vocabulary.
        config: how texts are cut.
    """

    def __init__(self, pieces: SentencePieces, config: EncodingConfig) -> None:
        self._pieces = pieces
        self._config = config
        self._unmask = shared_unmasker()

    @property
    def config(self) -> EncodingConfig:
        """How texts are cut."""
        return self._config

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of the text, cleaned and without disguises, and without special tokens.

        Returns:
            Ids; a special one among them is only ever that of what is not in the vocabulary.

        Raises:
            InputError: the text is too long once its compatibility forms are written out: one character may become 18.
        """
        return list(self.read(text))

    def read(self, text: str, check: Callable[[], None] = no_check) -> Sequence[int]:
        """:meth:`tokens` in four bytes each, in steps of a few milliseconds.

        Args:
            check: called between two steps; what it raises ends the work.

        Raises:
            InputError: the text is too long once its compatibility forms are written out: one character may become 18.
        """
        ids = array("I")
        for _, _, numbers, known in self._encoded(folded_pieces(text, check, _MOST_CHARACTERS), check):
            ids.extend(numbers[known:] if known else numbers)
        return ids

    def places(
        self, text: str, wanted: Sequence[tuple[int, int]], check: Callable[[], None] = no_check
    ) -> dict[int, tuple[int, int]]:
        """Where in a text some of its tokens stand: the characters that each was made of, as :meth:`read` read them.

        Exact where a text was changed character by character, and to the word where it was disguised; a token never lies
        outside the word, or the run of words, that it stands for.

        Args:
            wanted: which tokens: stretches, each from the number of its first to the one after its last, in order and apart.
            check: called between two steps; what it raises ends the work.

        Returns:
            for each token its first character and the one after its last; a token that is no more than a blank is empty.
        """
        pieces = folded_pieces(text, check, _MOST_CHARACTERS)
        whole = Folded(pieces, folded_piece, begins)
        found: dict[int, tuple[int, int]] = {}
        token = at = 0
        for piece, undone, ids, known in self._encoded(pieces, check):
            after = token + len(ids) - known
            numbers = [number for first, last in wanted for number in range(max(first, token), min(last, after))]
            if numbers:
                line = squeeze_blanks(undone)
                offsets, blanks, edits = self._pieces.offsets(line), map_squeezing(undone, line), map_changes(piece, undone)
                for number in numbers:
                    a, b = edits.of(*blanks.of(*offsets[number - token + known]))
                    found[number] = whole.of(at + a, at + b)
            token, at = after, at + len(piece)
            if not wanted or token >= wanted[-1][1]:
                break
        return found

    def _encoded(
        self, pieces: Sequence[tuple[str, str]], check: Callable[[], None]
    ) -> Iterator[tuple[str, str, list[int], int]]:
        """The parts of a folded text: as it stands, without disguises, its tokens, and how many of them are known already."""
        torn, before = False, -1
        # Disguises are undone once invisible characters are gone, and before the blanks are, which part words spelt out.
        for piece, undone in self._unmask.beside("".join(made for _, made in pieces), check):
            ids = self._pieces.encode(squeeze_blanks(undone))
            # A word too long for one piece is one word that nobody knows, and not many.
            same = torn and ids[:1] == [self._pieces.unknown] and before == self._pieces.unknown and not parts(undone)
            yield piece, undone, ids, int(same)
            torn, before = not undone[-1:].isspace(), ids[-1] if ids else before

    def prompt(self, text: str, history: Sequence[tuple[int, str]] = ()) -> list[TokenWindow]:
        """Encode a prompt on its own, or behind what was said before.

        Args:
            history: types (``ASKED`` or ``ANSWERED``) and texts of earlier turns, oldest first.

        Returns:
            One window or more; together they cover every token. Text that cleans to nothing gives one window. Earlier turns
            stand in the first one only.
        """
        tokens = self.read(text)
        if not history:
            return list(self.windows(tokens, PROMPT))
        context = self.context([(kind, self.read(said)) for kind, said in history])
        first = next(self.windows(tokens, PROMPT, context))
        return [first, *islice(self.windows(tokens, PROMPT), 1, None)]

    def pair(self, prompt: str, response: str) -> list[TokenWindow]:
        """Encode an answer after the prompt it answers. The prompt is context here; it is judged by its own windows.

        Args:
            prompt: the prompt; an empty one is left out.

        Returns:
            One window or more, in the order of the response; together they cover every token of the response.
        """
        context = self.context([(ASKED, self.read(prompt))]) if prompt else ()
        return list(self.windows(self.read(response), RESPONSE, context))

    def context(self, earlier: Context) -> Context:
        """What a window shows of earlier texts: the last ones; of a long one, its head and tail.

        Args:
            earlier: types and tokens of the texts, oldest first.
        """
        left = self._config.context_tokens
        shown: list[tuple[int, Sequence[int]]] = []
        for place, (kind, tokens) in enumerate(reversed(earlier)):
            # The last text leaves a third of the room to the one before it, which it is about.
            room = left - 1 - (left // 3 if place == 0 and len(earlier) > 1 else 0)
            if room < 1:
                break
            part = _head_and_tail(tokens, room)
            shown.append((kind, part))
            left -= len(part) + 1
        return shown[::-1]

    def windows(self, tokens: Sequence[int], kind: int, context: Context = ()) -> Iterator[TokenWindow]:
        """Cut a judged text into windows, each made when it is its turn: those of a long text take more room than the text.

        A window is ``<s> [context </s>]* part of the text </s>``.

        Args:
            kind: ``PROMPT`` or ``RESPONSE``.
            context: what is in front of each window's part, as :meth:`context` gives it.
        """
        ids, types = [self._pieces.begin], [context[0][0] if context else kind]
        for earlier, shown in context:
            ids += [*shown, self._pieces.end]
            types += [earlier] * (len(shown) + 1)
        room = self._config.window_tokens - len(ids) - 1
        for start in _starts(len(tokens), room, self._config.overlap_tokens):
            part = tokens[start : start + room]
            yield TokenWindow((*ids, *part, self._pieces.end), (*types, *(kind,) * (len(part) + 1)), len(ids), start)

    def widest(self) -> TokenWindow:
        """The longest window that there is, of the last word in the vocabulary: whether a model takes all that may come."""
        size = self._config.window_tokens
        ids = (self._pieces.begin, *[self._pieces.size - 1] * (size - 2), self._pieces.end)
        return TokenWindow(ids, (ASKED, ANSWERED, PROMPT, *[RESPONSE] * (size - 3)), 3)


def collate(windows: Sequence[TokenWindow]) -> dict[str, np.ndarray]:
    """Lay windows side by side as the model's inputs, padded to the longest.

    Returns:
        int64 arrays `input_ids`, `attention_mask` and `token_type_ids`, each of shape (windows, longest).

    Raises:
        ValueError: if there are no windows.
    """
    if not windows:
        raise ValueError("no windows to collate")
    if len(windows) == 1:
        ids, types = (np.array([row], dtype=np.int64) for row in (windows[0].ids, windows[0].type_ids))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": types}
    shape = (len(windows), max(len(window.ids) for window in windows))
    ids, mask, types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for row, window in enumerate(windows):
        length = len(window.ids)
        ids[row, :length] = window.ids
        mask[row, :length] = 1
        types[row, :length] = window.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _starts(whole: int, room: int, overlap: int) -> Iterator[int]:
    """Where overlapping parts of at most `room` tokens begin that cover all. The last is full too: it has its context."""
    yield from range(0, whole - room, room - overlap)
    yield max(0, whole - room)


def _head_and_tail(tokens: Sequence[int], budget: int) -> Sequence[int]:
    """The first and last tokens within the budget: a request stands at one end of a long prompt far oftener than in the
    middle."""
    if len(tokens) <= budget:
        return tokens
    head = (budget + 1) // 2
    return [*tokens[:head], *tokens[len(tokens) - (budget - head) :]]
