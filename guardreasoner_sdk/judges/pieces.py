"""A text in the pieces of a vocabulary: the likeliest way to make it up of them (unigram model, Kudo, arXiv:1804.10959)."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Self

from sentencepiece import SentencePieceProcessor

__all__ = ["SentencePieces"]

_BLANK: Final = "\u2581"
# A compatibility form, blanks, a character that no vocabulary holds: what a model changes that cleans texts by itself.
_AS_WRITTEN: Final = " \ufb01  A\ufdd0"


class SentencePieces:
    """A vocabulary of pieces, as `sentencepiece` reads it. Safe to share between threads.

    Args:
        model: what a ``tokenizer.model`` holds. It takes texts as they are, for they come cleaned, and puts a blank in front.

    Attributes:
        size: how many pieces there are.
        begin: number of the one that begins a window. No text spells it, as it is a control piece.
        end: of the one that ends a text; no text spells it, either.
        unknown: of what stands for characters outside the vocabulary.

    Raises:
        ValueError: it is no such model, or a damaged one.
    """

    def __init__(self, model: bytes) -> None:
        processor = SentencePieceProcessor()
        try:
            # An empty model would be none to the constructor, which says so on standard error at each later call.
            processor.LoadFromSerializedProto(model)
        except Exception as error:  # sentencepiece raises bare classes
            raise ValueError(f"it is not a model of sentencepiece: {error}") from error
        self.size: int = processor.get_piece_size()
        self.begin: int = processor.bos_id()
        self.end: int = processor.eos_id()
        self.unknown: int = processor.unk_id()
        if min(self.begin, self.end) < 0:
            raise ValueError("it has no piece that begins a text, or none that ends one")
        if "".join(processor.encode(_AS_WRITTEN, out_type=str)) != _BLANK + _AS_WRITTEN.replace(" ", _BLANK):
            raise ValueError("it changes texts, or falls back on their bytes")
        self._processor = processor

    @classmethod
    def from_file(cls, path: Path) -> Self:
        """Read a ``tokenizer.model``.

        Raises:
            OSError: it cannot be read.
            ValueError: it is not a model of sentencepiece, or a damaged one.
        """
        return cls(path.read_bytes())

    def encode(self, line: str) -> list[int]:
        """The pieces of a line of text.

        Args:
            line: words with one blank between them; no lone surrogates.
        """
        found: list[int] = self._processor.encode(line)
        return found

    def offsets(self, line: str) -> list[tuple[int, int]]:
        """Where each of the pieces of :meth:`encode` is in the line, in characters, without the blanks before words.

        Args:
            line: words with one blank between them; no lone surrogates.
        """
        spans: list[tuple[int, int]] = self._processor.encode(line, return_type="offset_mapping")["offsets"]
        return [(start + line[start:end].startswith(" "), end) for start, end in spans]
