"""Text to token windows for the embedded guard: one way, shared by training and by the runtime.

A model judges well only what is encoded as it was in training, so both sides import this file and nothing else
decides how a text becomes numbers. It needs the standard library, numpy and tokenizers.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from operator import itemgetter
from typing import Final

import numpy as np
from tokenizers import Tokenizer

from guardreasoner_sdk.judges.unmasking import Unmasker

# Pieces are cut at spaces, where the tokenizer cuts anyway: the tokens stay the same, and a long text is encoded on
# every core instead of one.
_PIECE_CHARACTERS: Final = 8192
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


def _folded(text: str) -> str:
    if text.isascii() and text.isprintable():
        return text
    # Only the characters that occur are looked up: a table of all of Unicode costs more than most texts.
    table = {ord(character): _replacement(character) for character in set(text)}
    text = text.translate({code: new for code, new in table.items() if new is not None})
    return unicodedata.normalize("NFKC", text)


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
        ranked = sorted(tokenizer.get_vocab(with_added_tokens=False).items(), key=itemgetter(1))
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
        """
        # Disguises are undone once invisible characters are gone, and before the blanks are, which part words spelt out.
        pieces = _pieces(_squeezed(self._unmask(_folded(text))))
        if len(pieces) == 1:
            return list(self._tokenizer.encode(pieces[0], add_special_tokens=False).ids)
        encodings = self._tokenizer.encode_batch_fast(pieces, add_special_tokens=False)
        return [token for encoding in encodings for token in encoding.ids]

    def prompt(self, text: str) -> list[Window]:
        """Encode a prompt on its own: `[CLS] prompt [SEP]`.

        Args:
            text: the prompt.

        Returns:
            One window or more; together they cover every token. Text that cleans to nothing gives one window.
        """
        windows = []
        for part, place in _parts(self.tokens(text), self._config.prompt_room, self._config.overlap_tokens):
            ids = (self._cls, *part, self._sep)
            windows.append(Window(ids, (0,) * len(ids), place))
        return windows

    def pair(self, prompt: str, response: str) -> list[Window]:
        """Encode an answer with the prompt it answers: `[CLS] prompt' [SEP] part of the response [SEP]`.

        The prompt is context here and is cut to its head and tail; it is judged by its own windows.

        Args:
            prompt: the prompt.
            response: the answer.

        Returns:
            One window or more, in the order of the response; together they cover every token of the response.
        """
        context = _head_and_tail(self.tokens(prompt), self._config.pair_prompt_tokens)
        first = (self._cls, *context, self._sep)
        room = self._config.pair_tokens - _TWO_SEGMENT_SPECIALS - len(context)
        windows = []
        for part, place in _parts(self.tokens(response), room, self._config.overlap_tokens):
            second = (*part, self._sep)
            windows.append(Window(first + second, (0,) * len(first) + (1,) * len(second), place))
        return windows

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


def _pieces(text: str) -> list[str]:
    """Cut at spaces into pieces of about `_PIECE_CHARACTERS`; one piece, perhaps empty, for a short text."""
    pieces = []
    start = 0
    while len(text) - start > _PIECE_CHARACTERS:
        cut = text.find(" ", start + _PIECE_CHARACTERS)
        if cut < 0:
            break
        pieces.append(text[start:cut])
        start = cut + 1
    pieces.append(text[start:])
    return pieces


def _parts(tokens: list[int], room: int, overlap: int) -> Iterable[tuple[list[int], tuple[float, float]]]:
    """Overlapping parts of at most `room` tokens that cover all, and their places. The last is full too: it has its context."""
    whole = len(tokens)
    if whole <= room:
        return [(tokens, (0.0, 1.0))]
    starts = [*range(0, whole - room, room - overlap), whole - room]
    return [(tokens[start : start + room], (start / whole, (start + room) / whole)) for start in starts]


def _head_and_tail(tokens: list[int], budget: int) -> list[int]:
    """The first and last tokens within the budget: a request stands at one end of a long prompt far oftener than in the
    middle."""
    if len(tokens) <= budget:
        return tokens
    head = (budget + 1) // 2
    return tokens[:head] + tokens[len(tokens) - (budget - head) :]
