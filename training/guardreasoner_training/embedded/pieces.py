"""Writing a vocabulary of pieces as `sentencepiece` has it, which the guard reads (`guardreasoner_sdk.judges.pieces`)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from sentencepiece import sentencepiece_model_pb2

__all__ = ["SPECIALS", "TOKENIZER_FILE", "tokenizer_model"]

TOKENIZER_FILE: Final = "tokenizer.model"
"""What the file is called in the folder of a base model, and of an exported one."""
SPECIALS: Final = ("<s>", "<pad>", "</s>", "<unk>")
"""What begins a window, fills it up, ends a text in it, and stands for characters outside the vocabulary; so named and so
numbered in models of XLM-R's kind."""

_CONTROL: Final = frozenset({*SPECIALS, "<mask>"} - {"<unk>"})


def tokenizer_model(pieces: Iterable[tuple[str, float]]) -> bytes:
    """A unigram model of pieces. Texts come cleaned (`encoding.clean`), so that it changes nothing about them.

    Args:
        pieces: with the logarithms of their frequencies, in the order of their numbers. A blank is U+2581 in them. Those of
            ``SPECIALS``, and ``<mask>``, are found in no text.

    Returns:
        What a ``tokenizer.model`` holds.
    """
    model: Any = sentencepiece_model_pb2.ModelProto()  # type: ignore[attr-defined] # made when it is imported
    model.trainer_spec.model_type = model.trainer_spec.UNIGRAM
    model.trainer_spec.byte_fallback = False
    for piece, score in pieces:
        kind = model.SentencePiece.UNKNOWN if piece == "<unk>" else model.SentencePiece.NORMAL
        model.pieces.add(piece=piece, score=score, type=model.SentencePiece.CONTROL if piece in _CONTROL else kind)
    model.trainer_spec.vocab_size = len(model.pieces)
    numbers = {entry.piece: number for number, entry in enumerate(model.pieces)}
    for name, piece in zip(("bos", "pad", "eos", "unk"), SPECIALS, strict=True):
        setattr(model.trainer_spec, f"{name}_piece", piece)
        setattr(model.trainer_spec, f"{name}_id", numbers.get(piece, -1))
    model.normalizer_spec.name = "identity"
    model.normalizer_spec.add_dummy_prefix = model.normalizer_spec.escape_whitespaces = True
    model.normalizer_spec.remove_extra_whitespaces = False
    written: bytes = model.SerializeToString()
    return written
