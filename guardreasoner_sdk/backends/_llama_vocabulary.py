"""Text to tokens and back, for llama.cpp."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import groupby
from typing import TYPE_CHECKING, Any

from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.generation import PromptPiece

if TYPE_CHECKING:
    from llama_cpp import Llama

__all__ = ["Vocabulary"]

_MARK = "☺"
"""Stands before text that would otherwise get a blank in front; llama.cpp's own infilling uses the same one."""


class Vocabulary:
    """The tokenizer of a loaded model.

    Args:
        llama: the model.
    """

    def __init__(self, llama: Llama) -> None:
        import llama_cpp

        self._api: Any = llama_cpp
        self._vocab = llama_cpp.llama_model_get_vocab(llama.model)
        self.bos: int | None = llama.token_bos() if llama_cpp.llama_vocab_get_add_bos(self._vocab) else None
        special = (
            llama_cpp.LLAMA_TOKEN_ATTR_CONTROL | llama_cpp.LLAMA_TOKEN_ATTR_USER_DEFINED | llama_cpp.LLAMA_TOKEN_ATTR_UNKNOWN
        )
        self.special = {
            text: token
            for token in range(llama.n_vocab())
            if llama_cpp.llama_vocab_get_attr(self._vocab, token) & special
            # Runs of blanks and line feeds, which some vocabularies keep as tokens of their own, are text like any other.
            and len(text := self.name_of(token)) > 1
            and text.replace("▁", " ").strip()
        }
        self._special = re.compile(_any_of(self.special) or r"(?!)")
        self._special_ids = {*self.special.values(), llama.token_bos()}
        self._prefixes_blanks = llama_cpp.llama_vocab_type(self._vocab) == llama_cpp.LLAMA_VOCAB_TYPE_SPM
        self._mark = self._tokenize(_MARK)

    def encode(self, pieces: Iterable[PromptPiece], continuation: str) -> list[int]:
        """The tokens of a prompt, BOS included where the model has it.

        What stands between two special tokens is tokenised as a whole, as it was in training, whether the dialect wrote it or
        somebody else. A special token comes from markup only.

        Args:
            continuation: how the answer begins; encoded apart.

        Raises:
            BackendError: llama.cpp cannot tokenise it.
        """
        ids: list[int] = []
        text = ""
        for markup, run in groupby(pieces, key=lambda piece: piece.markup):
            part, place = "".join(piece.text for piece in run), 0
            for found in self._special.finditer(part) if markup else ():
                ids += self._text(text + part[place : found.start()])
                ids.append(self.special[found.group()])
                text, place = "", found.end()
            text += part[place:]
        ids += self._text(text)
        if self.bos is not None and ids[:1] != [self.bos]:
            ids.insert(0, self.bos)
        return ids + self._text(continuation, goes_on=bool(ids) and ids[-1] not in self._special_ids)

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """The bytes of a token: possibly a part of a character.

        Args:
            special: whether to name a special token, which has no text otherwise.
        """
        import ctypes

        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length: int = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, special)
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def name_of(self, token: int) -> str:
        """A token as the vocabulary writes it."""
        name: bytes | None = self._api.llama_vocab_get_text(self._vocab, token)
        return (name or b"").decode("utf-8", "replace")

    def ends(self, token: int) -> bool:
        """Whether a token ends an answer."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    def _text(self, text: str, *, goes_on: bool = False) -> list[int]:
        """The tokens of text that holds no special token.

        llama.cpp takes no control token from plain text, but tokens that the model's makers added without calling them
        special (``<think>``, ``<tool_call>``), and a vocabulary may have merges that end in a special token. Text that spells
        one is therefore cut behind its first character.

        Args:
            goes_on: whether it stands behind other text: no blank is put in front then.
        """
        ids: list[int] = []
        place = 0
        while (found := self._special.search(text, place)) is not None:
            ids += self._tokenize(text[place : found.start() + 1], goes_on=goes_on)
            place, goes_on = found.start() + 1, True
        return ids + self._tokenize(text[place:], goes_on=goes_on)

    def _tokenize(self, text: str, *, goes_on: bool = False) -> list[int]:
        if not text:
            return []
        marked = goes_on and self._prefixes_blanks
        raw = (_MARK + text if marked else text).encode("utf-8", "replace")
        # A token holds a byte at least, but for the blank in front.
        size = len(raw) + 8
        buffer = (self._api.llama_token * size)()
        count = self._api.llama_tokenize(self._vocab, raw, len(raw), buffer, size, False, False)
        if count < 0:
            raise BackendError("llama.cpp cannot tokenise the prompt")
        ids: list[int] = buffer[:count]
        if not marked:
            return ids
        if ids[: len(self._mark)] == self._mark:
            return ids[len(self._mark) :]
        return self._tokenize(text)


def _any_of(texts: Iterable[str]) -> str:
    """A pattern for any of the texts, the longest that fits, which looks at a place once however many texts there are."""
    tree: dict[str, Any] = {}
    for text in texts:
        node = tree
        for character in text:
            node = node.setdefault(character, {})
        node[""] = {}

    def pattern(node: dict[str, Any]) -> str:
        branches = [re.escape(character) + pattern(below) for character, below in node.items() if character]
        joined = branches[0] if len(branches) == 1 else f"(?:{'|'.join(branches)})" if branches else ""
        return f"(?:{joined})?" if "" in node and branches else joined

    return pattern(tree)
