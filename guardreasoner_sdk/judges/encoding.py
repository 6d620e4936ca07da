"""Text to token windows for the embedded guard: one way, shared by training and by the runtime.

A model judges well only what is encoded as it was in training, so both sides import this file and nothing else
decides how a text becomes numbers. It needs the standard library, numpy and tokenizers.
"""

from __future__ import annotations

import unicodedata
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import MAX_CHARACTERS
from guardreasoner_sdk.judges.unmasking import Unmasker, parts, unchecked

# A call into C holds the interpreter's lock to its end. In pieces of this size none is felt, and a deadline is kept.
_PIECE: Final = 2048
_NEAR: Final = 512
# What a judge may put before a prompt does not make one too long that was accepted.
_MOST_CHARACTERS: Final = MAX_CHARACTERS + 50_000
_MOST_TOKENS: Final = 1024
_SPECIAL_TOKENS: Final = ("[PAD]", "[CLS]", "[SEP]", "[UNK]")
_TWO_SEGMENT_SPECIALS: Final = 3


def clean(text: str) -> str:
    """Return `text` as the model may see it: what a reader sees, without the bytes that hide words from a classifier.

    Compatibility forms are folded (NFKC), invisible characters (Unicode category Cf: zero-width, bidirectional and
    other format characters) are dropped, lone surrogates become U+FFFD, control characters become spaces, and every
    run of white space becomes one space, so that 100,000 newlines cost as much as one.

    Args:
        text: any string, hostile or broken.

    Returns:
        The cleaned text; empty if nothing visible was there. Cleaning twice changes nothing.
    """
    return _squeezed(_folded(text))


def _folded(text: str, check: Callable[[], None] = unchecked, most: int | None = None) -> str:
    """The text in compatibility forms, without invisible characters; ``most`` characters of it at most."""
    pieces = [text]
    length = len(text)
    if not (text.isascii() and text.isprintable()):
        pieces, length = [], 0
        for piece in _apart(text):
            check()
            pieces.append(_folded_piece(piece))
            length += len(pieces[-1])
            if most is not None and length > most:
                break
    if most is not None and length > most:
        raise InputError(
            "text",
            f"has more than the {MAX_CHARACTERS:,} characters allowed once its compatibility forms are written out",
            "split it and check the parts",
        )
    return "".join(pieces)


def _folded_piece(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    # Only the characters that occur are looked up: a table of all of Unicode costs more than most texts.
    table = {character: _replacement(character) for character in set(text)}
    if any(new is not None for new in table.values()):
        text = text.translate({ord(old): old if new is None else new for old, new in table.items()})
    return unicodedata.normalize("NFKC", text)


def _apart(text: str) -> Iterator[str]:
    """The text in pieces that are normalised apart as they are together, but for runs of marks that no language has."""
    start, whole = 0, len(text)
    while whole - start > _PIECE + _NEAR:
        end = start + _PIECE
        most = end + _NEAR
        while end < most and not _begins(text[end]):
            end += 1
        yield text[start:end]
        start = end
    yield text[start:]


def _begins(character: str) -> bool:
    """Whether a character is never joined to one before it: no mark, no part of a Hangul syllable, nothing that is dropped."""
    first = unicodedata.normalize("NFKC", character)[0]
    return not ("\u1100" <= first <= "\u11ff" or unicodedata.category(first) in ("Mn", "Mc", "Me", "Cf"))


def _squeezed(text: str) -> str:
    return " ".join(text.split())


def _replacement(character: str) -> str | None:
    """What stands for a character before normalisation; None where it stays."""
    match unicodedata.category(character):
        case "Cf":
            return ""
        case "Cs":
            return "\ufffd"
        case "Cc" | "Zl" | "Zp":
            return " "
        case _:
            return None


@dataclass(frozen=True, slots=True)
class Window:
    """One model input: token ids with their segment (0 for the prompt, 1 for the response), specials included.

    Attributes:
        ids: of the tokens.
        type_ids: their segments.
        place: where in the text the window begins and ends, as shares of its tokens (0 to 1).
    """

    ids: tuple[int, ...]
    type_ids: tuple[int, ...]
    place: tuple[float, float] = (0.0, 1.0)


@dataclass(frozen=True, slots=True)
class EncodingConfig:
    """How texts are cut into windows. All sizes are in tokens.

    Attributes:
        prompt_tokens: size of a prompt window, special tokens included.
        pair_tokens: size of a prompt-and-response window, special tokens included.
        pair_prompt_tokens: most tokens that the prompt takes inside a pair window.
        overlap_tokens: tokens that neighbouring windows share, so that nothing is only seen cut in two.
        opening_tokens: size of the window in which a refusal is read: as much of the response's beginning as fits behind the
            prompt. What a long answer offers instead would drown the refusal in a larger one. None: the first pair window.

    Raises:
        ValueError: if a window would not advance through its text.
    """

    prompt_tokens: int
    pair_tokens: int
    pair_prompt_tokens: int
    overlap_tokens: int
    opening_tokens: int | None = None

    def __post_init__(self) -> None:
        if self.overlap_tokens < 0 or self.pair_prompt_tokens < 0:
            raise ValueError(f"overlap_tokens and pair_prompt_tokens must be 0 or more, not {self}")
        if self.prompt_room <= self.overlap_tokens:
            raise ValueError(f"prompt_tokens must exceed overlap_tokens by 3 or more, not {self}")
        if self.pair_tokens - _TWO_SEGMENT_SPECIALS - self.pair_prompt_tokens <= self.overlap_tokens:
            raise ValueError(f"pair_tokens must exceed pair_prompt_tokens + overlap_tokens by 4 or more, not {self}")
        if self.opening_tokens is not None and self.opening_tokens <= self.pair_prompt_tokens + _TWO_SEGMENT_SPECIALS:
            raise ValueError(f"opening_tokens must exceed pair_prompt_tokens by 4 or more, not {self}")

    @classmethod
    def from_json(cls, value: Mapping[str, object]) -> EncodingConfig:
        """Read the `encoding` object of a model's config.json.

        Args:
            value: the parsed object.

        Returns:
            The configuration.

        Raises:
            ValueError: if a key is missing or is not a whole number, or the sizes do not fit together.
        """
        sizes: dict[str, int] = {}
        for key in ("prompt_tokens", "pair_tokens", "pair_prompt_tokens", "overlap_tokens", "opening_tokens"):
            size = value.get(key)
            if key == "opening_tokens" and size is None:
                continue
            if not isinstance(size, int) or isinstance(size, bool):
                raise ValueError(f"encoding.{key} must be a whole number of tokens, not {size!r}")
            if not 0 <= size <= _MOST_TOKENS:
                raise ValueError(f"encoding.{key} must be 0 to {_MOST_TOKENS} tokens, not {size}")
            sizes[key] = size
        return cls(**sizes)

    def to_json(self) -> dict[str, int | None]:
        """Return the object that `from_json` reads."""
        return asdict(self)

    @property
    def prompt_room(self) -> int:
        """Tokens of text that fit in a prompt window."""
        return self.prompt_tokens - 2


class Encoder:
    """Turns prompts and answers into windows. Safe to share between threads once built.

    Args:
        tokenizer: the model's WordPiece tokenizer. Its truncation, padding and handling of special tokens are set
            here: text that spells `[SEP]` is encoded as text.
        config: how texts are cut.

    Raises:
        ValueError: if the tokenizer lacks one of the special tokens.
    """

    def __init__(self, tokenizer: Tokenizer, config: EncodingConfig) -> None:
        tokenizer.no_truncation()
        tokenizer.no_padding()
        tokenizer.encode_special_tokens = True
        found = ((token, tokenizer.token_to_id(token)) for token in _SPECIAL_TOKENS)
        ids = {token: token_id for token, token_id in found if token_id is not None}
        missing = [token for token in _SPECIAL_TOKENS if token not in ids]
        if missing:
            raise ValueError(f"the tokenizer has no {', '.join(missing)}: is it the one that came with the model?")
        self._tokenizer = tokenizer
        self._config = config
        self._cls: int = ids["[CLS]"]
        self._sep: int = ids["[SEP]"]
        self._unknown: int = ids["[UNK]"]
        ranked = sorted(tokenizer.get_vocab(with_added_tokens=False).items(), key=itemgetter(1))
        self._last = max(tokenizer.get_vocab(with_added_tokens=True).values())
        self._unmask = Unmasker(token for token, _ in ranked)

    @property
    def config(self) -> EncodingConfig:
        """How texts are cut."""
        return self._config

    def tokens(self, text: str) -> list[int]:
        """Return the token ids of the text, cleaned and without disguises, and without special tokens.

        Args:
            text: any string.

        Returns:
            Ids; a special one among them is only ever `[UNK]`, for a word outside the vocabulary.

        Raises:
            InputError: the text is too long once its compatibility forms are written out: one character may become 18.
        """
        return list(self.read(text))

    def read(self, text: str, check: Callable[[], None] = unchecked) -> Sequence[int]:
        """:meth:`tokens` in four bytes each, in steps of a few milliseconds.

        Args:
            text: any string.
            check: called between two steps; what it raises ends the work.

        Raises:
            InputError: the text is too long once its compatibility forms are written out: one character may become 18.
        """
        ids = array("I")
        torn = False
        # Disguises are undone once invisible characters are gone, and before the blanks are, which part words spelt out.
        for piece in self._unmask.pieces(_folded(text, check, _MOST_CHARACTERS), check):
            # One by one: what the tokenizer keeps of each token beside its number is many times its size.
            found = self._tokenizer.encode(_squeezed(piece), add_special_tokens=False).ids
            # A word too long for one piece is one word that nobody knows, and not many.
            same = torn and found[:1] == [self._unknown] and ids[-1:] == array("I", [self._unknown]) and not parts(piece)
            ids.extend(found[1:] if same else found)
            torn = not piece[-1:].isspace()
        return ids

    def prompt(self, text: str) -> list[Window]:
        """Encode a prompt on its own: `[CLS] prompt [SEP]`.

        Args:
            text: the prompt.

        Returns:
            One window or more; together they cover every token. Text that cleans to nothing gives one window.
        """
        return list(self.prompt_windows(self.read(text)))

    def prompt_windows(self, tokens: Sequence[int]) -> Iterator[Window]:
        """:meth:`prompt` for a prompt's tokens, window by window: those of a long text take more room than the text."""
        for part, place in _parts(tokens, self._config.prompt_room, self._config.overlap_tokens):
            ids = (self._cls, *part, self._sep)
            yield Window(ids, (0,) * len(ids), place)

    def pair(self, prompt: str, response: str) -> list[Window]:
        """Encode an answer with the prompt it answers: `[CLS] prompt' [SEP] part of the response [SEP]`.

        The prompt is context here and is cut to its head and tail; it is judged by its own windows.

        Args:
            prompt: the prompt.
            response: the answer.

        Returns:
            One window or more, in the order of the response; together they cover every token of the response.
        """
        return list(self.pair_windows(self.context(self.read(prompt)), self.read(response)))

    def context(self, tokens: Sequence[int]) -> Sequence[int]:
        """What a pair's windows show of the prompt: of a long one, its head and tail.

        Args:
            tokens: of the prompt.
        """
        return _head_and_tail(tokens, self._config.pair_prompt_tokens)

    def pair_windows(self, context: Sequence[int], tokens: Sequence[int]) -> Iterator[Window]:
        """:meth:`pair`, window by window.

        Args:
            context: what :meth:`context` gave for the prompt.
            tokens: of the response.
        """
        first = (self._cls, *context, self._sep)
        room = self._config.pair_tokens - _TWO_SEGMENT_SPECIALS - len(context)
        for part, place in _parts(tokens, room, self._config.overlap_tokens):
            second = (*part, self._sep)
            yield Window(first + second, (0,) * len(first) + (1,) * len(second), place)

    def widest(self) -> Window:
        """The longest window that there is, of the last word in the vocabulary: whether a model takes all that may come."""
        size = max(self._config.prompt_tokens, self._config.pair_tokens)
        ids = (self._cls, *[self._last] * (size - 2), self._sep)
        return Window(ids, (0,) * (size - 1) + (1,))

    def opening(self, first: Window) -> Window:
        """The window in which a refusal is read: the beginning of an answer, behind its prompt.

        Args:
            first: the first window of the pair.

        Returns:
            That window cut to ``opening_tokens``; itself where it is no longer.
        """
        most = self._config.opening_tokens
        if most is None or len(first.ids) <= most:
            return first
        said = sum(first.type_ids) - 1
        share = (said - (len(first.ids) - most)) / said
        return Window((*first.ids[: most - 1], self._sep), first.type_ids[:most], (0.0, first.place[1] * share))


def collate(windows: Sequence[Window]) -> dict[str, np.ndarray]:
    """Lay windows side by side as the model's inputs, padded to the longest.

    Args:
        windows: one window or more.

    Returns:
        int64 arrays `input_ids`, `attention_mask` and `token_type_ids`, each of shape (windows, longest).

    Raises:
        ValueError: if there are no windows.
    """
    if not windows:
        raise ValueError("no windows to collate")
    shape = (len(windows), max(len(window.ids) for window in windows))
    ids, mask, types = (np.zeros(shape, dtype=np.int64) for _ in range(3))
    for row, window in enumerate(windows):
        length = len(window.ids)
        ids[row, :length] = window.ids
        mask[row, :length] = 1
        types[row, :length] = window.type_ids
    return {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}


def _parts(tokens: Sequence[int], room: int, overlap: int) -> Iterator[tuple[Sequence[int], tuple[float, float]]]:
    """Overlapping parts of at most `room` tokens that cover all, and their places. The last is full too: it has its context."""
    whole = len(tokens)
    if whole <= room:
        yield tokens, (0.0, 1.0)
        return
    for start in range(0, whole - room, room - overlap):
        yield tokens[start : start + room], (start / whole, (start + room) / whole)
    yield tokens[whole - room :], ((whole - room) / whole, 1.0)


def _head_and_tail(tokens: Sequence[int], budget: int) -> Sequence[int]:
    """The first and last tokens within the budget: a request stands at one end of a long prompt far oftener than in the
    middle."""
    if len(tokens) <= budget:
        return tokens
    head = (budget + 1) // 2
    return [*tokens[:head], *tokens[len(tokens) - (budget - head) :]]
