"""Queries as token ids, and token ids as text. Judged text stays text: no part of it becomes a special token."""

from __future__ import annotations

import json
import re
import secrets
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from guardreasoner_sdk._failures import config_errors
from guardreasoner_sdk.errors import BackendError, ConfigurationError, MissingExtraError
from guardreasoner_sdk.generation import Message, PromptPiece, Query
from guardreasoner_sdk.images import Image

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

__all__ = ["PlainEncoder", "PromptEncoder", "TextStream", "split_template"]

# Stands for a message's content while the template is rendered. Letters only, so that no template treats it in a special way.
_SENTINEL = "".join(secrets.choice(string.ascii_letters) for _ in range(32))
_SENTINELS = re.compile(_SENTINEL + r"([a-z]{4})")
# Blanks around a content, by which it shows what a template trims: everything, the line feeds alone, or nothing.
_LEAD, _TRAIL = "\n\t", "\v\n"


def split_template(
    render: Callable[[list[dict[str, Any]]], str], query: Query, *, model: str = "the model", image_token: str | None = None
) -> tuple[PromptPiece, ...]:
    """Turn a chat into pieces: what the chat template writes is markup, the contents of the messages are plain text.

    The template never sees the contents, so that they cannot steer it. Where it trims them, they are trimmed alike. Where an
    image stands, it writes the token of one.

    Args:
        render: renders the model's chat template, with the variables of ``query.template`` and with the beginning of the
            answer, for messages in the usual form; any exception means that it does not take them.
        model: its name, for errors.
        image_token: what it writes for an image.

    Raises:
        ConfigurationError: the template does not take these messages: it raises, leaves one out or changes it.
        BackendError: it does not take their images.
    """
    problem = ""
    runs = [run for message in query.messages for run in _runs(message) if not isinstance(run, Image)]
    for listed in (False, True):  # some templates take a content as a text, some as a list of parts
        try:
            bare = _render(render, query.messages, listed, "", "")
            padded = _render(render, query.messages, listed, _LEAD, _TRAIL)
        except ConfigurationError:
            raise
        except Exception as error:
            # Nothing judged was rendered, so that the template's own words can be shown.
            problem = problem or " ".join(str(error).split()) or type(error).__name__
            continue
        if image_token is not None and sum(part.count(image_token) for part in bare[::2]) != len(query.images):
            problem = problem or "it leaves an image out"
        elif {_letters(number) for number in range(len(runs))} <= set(bare[1::2]) and bare[1::2] == padded[1::2]:
            pieces = _pieces(bare, padded, runs)
            if pieces is not None:
                return pieces
            problem = problem or "it changes what they say"
        else:
            problem = problem or "it leaves one out"
    if query.images:
        # What the application's users send is no wrong configuration.
        raise BackendError(f"the chat template of {model} does not take images so ({problem})")
    roles = ", ".join(message.role for message in query.messages)
    raise ConfigurationError(
        f"model: the chat template of {model} does not take these messages ({roles}): {problem}; "
        "use the dialect that belongs to the model, or another checkpoint"
    )


def _render(
    render: Callable[[list[dict[str, Any]]], str], messages: Sequence[Message], listed: bool, lead: str, trail: str
) -> list[str]:
    """The template's text around the contents; every other item is the letters of the content that is there."""
    chat: list[dict[str, Any]] = []
    number = 0
    for message in messages:
        parts: list[dict[str, str]] = []
        for run in _runs(message):
            if isinstance(run, Image):
                parts.append({"type": "image"})
            else:
                parts.append({"type": "text", "text": f"{lead}{_SENTINEL}{_letters(number)}{trail}"})
                number += 1
        chat.append({"role": message.role, "content": parts if listed or message.images else parts[0]["text"]})
    return _SENTINELS.split(render(chat))


def _runs(message: Message) -> list[Image | tuple[PromptPiece, ...]]:
    """The images of a message, and the texts before, between and behind them."""
    if not message.images:
        return [message.parts]
    runs: list[Image | tuple[PromptPiece, ...]] = []
    for is_image, pieces in groupby(message.parts, key=lambda piece: piece.image is not None):
        said = tuple(pieces)
        if is_image:
            runs += [piece.image for piece in said if piece.image is not None]
        elif any(piece.text for piece in said):
            runs.append(said)
    return runs


def _with_images(pieces: Sequence[PromptPiece], token: str, texts: Sequence[str]) -> list[PromptPiece]:
    """Pieces with what stands for each image in place of its token, where the template wrote that."""
    due = iter(texts)
    found = []
    for piece in pieces:
        if piece.markup and token in piece.text:
            first, *others = piece.text.split(token)
            piece = PromptPiece(first + "".join(f"{next(due)}{other}" for other in others), markup=True)
        found.append(piece)
    return found


def _letters(number: int) -> str:
    return "".join(string.ascii_lowercase[number // 26**place % 26] for place in range(4))


def _pieces(bare: list[str], padded: list[str], runs: Sequence[tuple[PromptPiece, ...]]) -> tuple[PromptPiece, ...] | None:
    """Join the template's text and the contents; None where the template did something else to them than trimming."""
    contents = {_letters(number): run for number, run in enumerate(runs)}
    texts = [list(contents[letters]) for letters in bare[1::2]]
    parts = bare[0::2]
    for number, (part, widened) in enumerate(zip(parts, padded[0::2], strict=True)):
        kept = _kept_blanks(part, widened, number > 0, number < len(texts))
        if kept is None:
            return None
        trail, lead = kept
        if number > 0 and trail != _TRAIL:
            _strip(texts[number - 1], -1, "\n" if trail else None)
        if number < len(texts) and lead != _LEAD:
            _strip(texts[number], 0, "\n" if lead else None)
    pieces = [PromptPiece(parts[0], markup=True)]
    for text, part in zip(texts, parts[1:], strict=True):
        pieces += [*text, PromptPiece(part, markup=True)]
    return tuple(piece for piece in pieces if piece.text)


def _strip(pieces: list[PromptPiece], end: int, characters: str | None) -> None:
    """Trim the first piece (``end`` 0) or the last one (-1) of a content, and further ones where nothing is left of it."""
    while pieces:
        text = pieces[end].text
        kept = text.lstrip(characters) if end == 0 else text.rstrip(characters)
        if kept:
            pieces[end] = PromptPiece(kept, pieces[end].markup)
            return
        pieces.pop(end)


def _kept_blanks(part: str, widened: str, after: bool, before: bool) -> tuple[str, str] | None:
    """What is left of the blanks behind the content in front of a part, and of those before the content that follows it."""
    for trail in (_TRAIL, _TRAIL[:1], "") if after else ("",):
        for lead in (_LEAD, _LEAD[1:], "") if before else ("",):
            if trail + part + lead == widened:
                return trail, lead
    return None


class PromptEncoder:
    """The tokenizer of a model, for prompts that hold hostile text.

    Normal text gets the ids that the tokenizer itself gives. Text that holds a special or added token's string
    (``<|eot_id|>``, ``</s>``, ``[INST]``, ``<think>``) is encoded as the characters it consists of; only what a dialect or a
    chat template wrote itself is read for such tokens.

    Args:
        tokenizer: a fast tokenizer of transformers.
        name: the model's name, for errors.

    Raises:
        ConfigurationError: the tokenizer is not a fast one.

    Attributes:
        special_ids: ids of special tokens; :meth:`decode` skips them.
        eos: id of the token that ends a text, or None.
    """

    def __init__(self, tokenizer: Any, name: str) -> None:
        if not getattr(tokenizer, "is_fast", False):
            raise ConfigurationError(
                f"model: {name} has no fast tokenizer (tokenizer.json); convert it or use a checkpoint with one"
            )
        self._tokenizer = tokenizer
        self._name = name
        self._full: Tokenizer = tokenizer.backend_tokenizer
        self.eos: int | None = tokenizer.eos_token_id
        added = tokenizer.added_tokens_decoder
        self.special_ids = frozenset(number for number, token in added.items() if token.special)
        self._plain = PlainEncoder(self._full, name, unknown=(tokenizer.unk_token_id, tokenizer.unk_token))
        self._first, self._later, self._inner = self._plain.first, self._plain.later, self._plain.inner
        bos = tokenizer.bos_token_id
        self._bos = [bos] if bos is not None and self._full.encode("").ids[:1] == [bos] else []
        self._anchor = self._inner.encode("a", add_special_tokens=False).ids
        self._anchor_text = self._full.decode(self._anchor)

    @property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer itself."""
        return self._full

    @classmethod
    def from_folder(cls, folder: Path, name: str | None = None) -> PromptEncoder:
        """Load the tokenizer of a checkpoint.

        Args:
            folder: where ``tokenizer.json`` and ``tokenizer_config.json`` lie.
            name: the model's name, for errors; default: the folder's.

        Raises:
            MissingExtraError: transformers is not installed.
            ConfigurationError: there is no tokenizer that can be loaded, or it is not a fast one.
        """
        try:
            from transformers import AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("transformers", "Hugging Face tokenizers") from error
        name = name or folder.name
        fix = f"put tokenizer.json and tokenizer_config.json of the checkpoint into {folder}"
        with config_errors(lambda error: f"model: the tokenizer of {name} cannot be loaded ({type(error).__name__}); {fix}"):
            tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        return cls(tokenizer, name)

    def encode(self, query: Query, *, image_token: str | None = None, image_texts: Sequence[str] | None = None) -> list[int]:
        """Ids of the prompt: the BOS token once where the model has one, the pieces or the chat, then how the answer begins.

        Args:
            query: what is asked.
            image_token: what the chat template writes for an image; None: it is not known, or there is none.
            image_texts: what stands for each image in its place; None: the token stays.

        Raises:
            ConfigurationError: the model has no chat template, or it does not take these messages.
            BackendError: the text holds a character that the vocabulary knows only as a special token, or images cannot be
                shown so.
        """
        if any(piece.image is not None for piece in query.pieces):
            raise BackendError("a prompt without a chat template shows no images; ask by messages")
        pieces: Sequence[PromptPiece] = query.pieces
        if query.messages:
            pieces = split_template(self._renderer(query), query, model=self._name, image_token=image_token)
            if image_token is not None and image_texts is not None:
                pieces = _with_images(pieces, image_token, image_texts)
        ids = self._encode_pieces([*pieces, PromptPiece(query.opening, markup=True)] if query.opening else pieces)
        if ids[: len(self._bos)] != self._bos:
            ids = self._bos + ids
        return ids + (self._plain.encode(query.continuation, self._inner).ids if query.continuation else [])

    @property
    def of_transformers(self) -> Any:
        """The tokenizer as transformers has it, with the chat template."""
        return self._tokenizer

    def decode(self, ids: Sequence[int], *, special: bool = False) -> str:
        """The text of generated ids, as it goes on behind a prompt: with its leading blank, without special tokens.

        Args:
            ids: what was generated.
            special: whether special tokens stand in the text by their names.
        """
        return str(self._full.decode([*self._anchor, *ids], skip_special_tokens=not special))[len(self._anchor_text) :]

    def starts(self, ids: Sequence[int], *, special: bool = False) -> list[int]:
        """For each generated id the place in :meth:`decode` where its characters begin; ascending."""
        stream, end, places = self.stream(special=special), len(self.decode(ids, special=special)), []
        place = 0
        for number in ids:
            places.append(min(place, end))
            place += len(stream.add(number))
        return places

    def stream(self, *, special: bool = False) -> TextStream:
        """Decode ids one by one, as they are generated."""
        return TextStream(self._full, self._anchor, special=special)

    def token_text(self, number: int) -> str:
        """The text of one id in the middle of a text, with its leading blank; of a special token, its name."""
        text = str(self._full.decode([*self._anchor, number], skip_special_tokens=False))
        return text[len(self._anchor_text) :]

    def _renderer(self, query: Query) -> Callable[[list[dict[str, Any]]], str]:
        if not self._tokenizer.chat_template:
            raise ConfigurationError(
                f"model: {self._name} has no chat template; use a checkpoint that brings one (chat_template.jinja)"
            )

        def render(messages: list[dict[str, Any]]) -> str:
            return str(
                self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True, **query.template)
            )

        return render

    def _encode_pieces(self, pieces: Sequence[PromptPiece]) -> list[int]:
        # A run of text is encoded as a whole, whoever wrote its parts: its ids are then those that the model was trained on.
        ids: list[int] = []
        run = ""
        for part in self._parts(pieces):
            if isinstance(part, str):
                run += part
                continue
            ids += self._plain.encode(run, self._later if ids else self._first).ids
            ids.append(part)
            run = ""
        return ids + self._plain.encode(run, self._later if ids else self._first).ids

    def _parts(self, pieces: Sequence[PromptPiece]) -> Iterator[str | int]:
        """Texts, and the ids of special and added tokens in the markup between them."""
        for markup, text in _joined(pieces):
            if not markup:
                yield text
                continue
            place = 0
            for number, start, end in self._plain.found(self._full.encode(text, add_special_tokens=False), text):
                yield text[place:start]
                yield number
                place = end
            yield text[place:]


@dataclass(frozen=True, slots=True)
class PlainText:
    """A text as token ids.

    Args:
        ids: in order.
        places: for each of them, where its characters begin and end in the text.
    """

    ids: list[int]
    places: list[tuple[int, int]]


class PlainEncoder:
    """A tokenizer for text in which nothing is a special token, whatever it holds.

    Args:
        full: the tokenizer itself.
        name: the model's name, for errors.
        unknown: id and name of the token for characters that the vocabulary lacks; None for either where there is none.

    Attributes:
        first: encodes the start of a prompt.
        later: encodes text behind a special token.
        inner: encodes text within a text.
    """

    def __init__(self, full: Tokenizer, name: str, unknown: tuple[int | None, str | None]) -> None:
        self._name = name
        self._unknown = unknown
        added = full.get_added_tokens_decoder()
        # Runs of blanks are added tokens too in some vocabularies (Gemma's line feeds); they are no markers.
        self._markers = frozenset(number for number, token in added.items() if token.special or not _blank(token.content))
        self.first, self.later, self.inner = _plain_tokenizers(full)

    def encode(self, text: str, tokenizer: Tokenizer) -> PlainText:
        """Encode as text; where a special token comes out all the same, its characters are encoded in two halves.

        Args:
            text: what is encoded.
            tokenizer: one of :attr:`first`, :attr:`later` and :attr:`inner`.

        Raises:
            BackendError: the text holds a character that the vocabulary knows only as a special token.
        """
        if not text:
            return PlainText([], [])
        encoding = tokenizer.encode(text, add_special_tokens=False)
        cuts = [0]
        for _, start, end in self.found(encoding, text):
            if end - start < 2:
                raise BackendError(
                    f"the prompt holds a character that {self._name} knows only as a special token; leave it out"
                )
            cuts.append((start + end) // 2)
        if len(cuts) == 1:
            return PlainText(list(encoding.ids), list(encoding.offsets))
        whole = PlainText([], [])
        for start, end in pairwise([*cuts, len(text)]):
            part = self.encode(text[start:end], self.inner if start else tokenizer)
            whole.ids.extend(part.ids)
            whole.places.extend((start + first, start + last) for first, last in part.places)
        return whole

    def found(self, encoding: Encoding, text: str) -> Iterator[tuple[int, int, int]]:
        """The special and added tokens of an encoding: id, where its characters begin, and where they end.

        Args:
            encoding: of the text.
            text: what was encoded.
        """
        if self._markers.isdisjoint(encoding.ids):
            return
        unknown, name = self._unknown
        for number, (start, end) in zip(encoding.ids, encoding.offsets, strict=True):
            # Characters that the vocabulary lacks are an unknown token, too, and neighbours may be one.
            if number in self._markers and (number != unknown or (name is not None and name in text[start:end])):
                yield number, start, end


class TextStream:
    """Text of ids that come one by one. A character whose bytes are spread over several ids comes with the last of them.

    Args:
        tokenizer: decodes.
        before: ids that stand in front; their text does not come out.
        special: whether special tokens come out by their names.
    """

    def __init__(self, tokenizer: Tokenizer, before: Sequence[int], *, special: bool = False) -> None:
        self._tokenizer = tokenizer
        self._before = before
        self._special = special
        self._restart()

    def _restart(self) -> None:
        from tokenizers.decoders import DecodeStream

        self._stream = DecodeStream(skip_special_tokens=not self._special)
        for number in self._before:
            self._stream.step(self._tokenizer, number)

    def add(self, number: int) -> str:
        """The characters that are complete with this id; often none."""
        try:
            return self._stream.step(self._tokenizer, number) or ""
        except Exception:
            # Bytes that are no UTF-8 can change how those before them are decoded; the stream cannot go on from there.
            self._restart()
            return self._stream.step(self._tokenizer, number) or ""


def _blank(text: str) -> bool:
    return not text.replace("▁", " ").strip()


def _joined(pieces: Sequence[PromptPiece]) -> Iterator[tuple[bool, str]]:
    """Neighbours of the same kind as one."""
    texts: list[str] = []
    for number, piece in enumerate(pieces):
        texts.append(piece.text)
        if number + 1 == len(pieces) or pieces[number + 1].markup != piece.markup:
            yield piece.markup, "".join(texts)
            texts = []


def _plain_tokenizers(full: Tokenizer) -> tuple[Tokenizer, Tokenizer, Tokenizer]:
    """Tokenizers that take special tokens for text: for the start of a prompt, behind a special token, and within a text."""
    from tokenizers import Tokenizer

    specification = json.loads(full.to_str())
    specification |= {"post_processor": None, "truncation": None, "padding": None}
    for token in specification["added_tokens"]:
        token["special"] = token["special"] or not _blank(token["content"])
    made: dict[str, Tokenizer] = {}
    plain = []
    for scheme in ("first", "later", "inner"):
        for stage in ("normalizer", "pre_tokenizer"):
            if scheme != "first":
                specification[stage] = _without_prefix(specification[stage], always=scheme == "inner")
        text = json.dumps(specification, ensure_ascii=False)
        if text not in made:
            made[text] = Tokenizer.from_str(text)
            made[text].encode_special_tokens = True  # which means: encode them as the text they are
        plain.append(made[text])
    return plain[0], plain[1], plain[2]


def _without_prefix(stage: Any, *, always: bool) -> Any:
    """A normaliser or pre-tokenizer that puts no blank in front of a text; ``always``: also not where each text has one."""
    match stage:
        case {"type": "Sequence"}:
            return {
                key: [kept for item in value if (kept := _without_prefix(item, always=always))]
                if isinstance(value, list)
                else value
                for key, value in stage.items()
            }
        case {"type": "Prepend"} if always:
            return None
        case {"type": "Metaspace", "prepend_scheme": scheme} if always or scheme == "first":
            return stage | {"prepend_scheme": "never"}
        case {"type": "ByteLevel"} if always:
            return stage | {"add_prefix_space": False}
    return stage
