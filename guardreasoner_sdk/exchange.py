"""What is judged: a prompt, the answer to it if there is one, and the turns that came before."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from guardreasoner_sdk._content import Piece, Text, Unread, block, is_said, texts_by_speaker
from guardreasoner_sdk._content_table import BLOCKS, IMAGES
from guardreasoner_sdk._text import format_place, quote_value
from guardreasoner_sdk._unescaping import second_reading
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.images import MAX_IMAGES, Image, ImageLike, images_of
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = [
    "MAX_CHARACTERS",
    "Exchange",
    "Message",
    "Role",
    "Turn",
    "exchange_from",
    "exchange_from_messages",
    "has_visible_text",
]

Role = Literal["user", "assistant", "system", "tool"]

Message = Mapping[str, Any] | BaseModel
"""A message as it is sent, or as an SDK holds it."""

MAX_CHARACTERS = 2_000_000
"""Longest text accepted in one field, in characters. Beyond it a check costs minutes: a way to stall a service."""

_SURROGATE = re.compile(r"[\ud800-\udfff]")
_INVISIBLE = re.compile(r"[\s\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]*")


def has_visible_text(text: str) -> bool:
    """Whether there is anything to judge: a text of blanks and invisible characters says nothing.

    Example:
        >>> from guardreasoner_sdk.exchange import has_visible_text
        >>> has_visible_text("\\u200b \\n"), has_visible_text("a")
        (False, True)
    """
    return _INVISIBLE.fullmatch(text) is None


def _checked(field: str, value: object, *, blank_fix: str | None) -> str:
    if not isinstance(value, str):
        hint = "decode the bytes first" if isinstance(value, bytes | bytearray) else "pass the text as str"
        raise InputError(field, f"must be a str, not {type(value).__name__}", hint)
    if len(value) > MAX_CHARACTERS:
        raise InputError(
            field, f"has {len(value):,} characters, the most is {MAX_CHARACTERS:,}", "split it and check the parts"
        )
    if blank_fix is not None and not has_visible_text(value):
        problem = "is empty" if not value else "has no visible character"
        raise InputError(field, problem, blank_fix)
    # A lone surrogate is no character: no tokenizer and no UTF-8 file can hold it. U+FFFD says that something stood there.
    return _SURROGATE.sub("\ufffd", value)


class Turn(BaseModel):
    """One earlier message of the conversation.

    Args:
        role: ``user``, ``assistant``, ``system`` or ``tool``.
        content: its text.
        images: what a user showed, as in :class:`Exchange`; the text may be empty then.
        image_places: as in :class:`Exchange`.

    Example:
        >>> from guardreasoner_sdk import Turn
        >>> Turn(role="user", content="Hello!")
        Turn(role='user', content='Hello!')
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    role: Role
    content: str
    images: tuple[Image, ...] = ()
    image_places: tuple[int, ...] = ()

    @field_validator("content", mode="before")
    @classmethod
    def _content(cls, value: object) -> str:
        return _checked("content", value, blank_fix=None)

    @field_validator("images", mode="before")
    @classmethod
    def _images(cls, value: object) -> tuple[Image, ...]:
        return images_of(value)

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if not self.images:
            _checked("content", self.content, blank_fix="leave the turn out")
        elif self.role != "user":
            raise InputError("images", f"are those of a turn of the {self.role}", "judge images that a user sent")
        _check_places(self.image_places, self.images, self.content)
        return self

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return _without_defaults(self, ("images", "image_places"))

    @model_serializer(mode="wrap")
    def _dumped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_images_if_none(handler(self))


class Exchange(BaseModel):
    """What one check judges.

    Lone surrogates are replaced by U+FFFD; everything else is judged as it stands.

    Args:
        prompt: what the human asked. It must hold a visible character.
        response: what the assistant answered; ``None`` to judge the prompt alone.
        history: the turns before the prompt, oldest first.
        images: what the human showed with the prompt, in order, each as :meth:`Image.of` takes it; the prompt may be empty
            then. Only guards that see judge them; to all others such an exchange is undetermined, unless its text is harmful.
        image_places: for each image, how many characters of the prompt stand in front of it, ascending; default: all images
            stand before the text.

    Raises:
        InputError: a field that cannot be judged, named.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> exchange = Exchange("And in an oven?", "At 230 degrees.", [{"role": "user", "content": "How do I bake bread?"}])
        >>> exchange.history[0].content
        'How do I bake bread?'
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    prompt: str
    response: str | None = None
    history: tuple[Turn, ...] = ()
    images: tuple[Image, ...] = ()
    image_places: tuple[int, ...] = ()

    def __init__(
        self,
        prompt: str,
        response: str | None = None,
        history: Sequence[Turn | Mapping[str, Any]] = (),
        images: Sequence[ImageLike] | ImageLike = (),
        image_places: Sequence[int] = (),
    ) -> None:
        # Positional use, and InputError instead of pydantic's report: the report would quote the judged text.
        shown = images_of(images)
        checked = _checked("prompt", prompt, blank_fix=None if shown else "pass the text to judge")
        turns = _turns(history)
        count = len(shown) + sum(len(turn.images) for turn in turns)
        if count > MAX_IMAGES:
            raise InputError("images", f"are {count}, the most is {MAX_IMAGES}", "leave out images of earlier turns")
        places = tuple(image_places)
        _check_places(places, shown, checked)
        super().__init__(prompt=checked, response=_checked_response(response), history=turns, images=shown, image_places=places)

    @property
    def all_images(self) -> tuple[Image, ...]:
        """Those of the earlier turns, and then those of the prompt."""
        return (*(image for turn in self.history for image in turn.images), *self.images)

    @property
    def key(self) -> object:
        """What tells it from every other one, in a cache: images by their digests, and without their bytes."""
        if not self.all_images:
            return self
        said = [(turn.role, turn.content, _marked(turn)) for turn in self.history]
        return self.prompt, self.response, _marked(self), tuple(said)

    def without_images(self) -> Exchange | None:
        """Its text alone, for a judge that does not see; None where the prompt has none.

        Example:
            >>> Exchange("How do I bake bread?").without_images().prompt
            'How do I bake bread?'
        """
        if not self.all_images:
            return self
        if not has_visible_text(self.prompt):
            return None
        turns = [Turn(role=turn.role, content=turn.content) for turn in self.history if has_visible_text(turn.content)]
        return Exchange(self.prompt, self.response, turns)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return _without_defaults(self, ("images", "image_places"))

    @model_serializer(mode="wrap")
    def _dumped(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_images_if_none(handler(self))

    @property
    def tasks(self) -> tuple[Task, ...]:
        """What there is to judge: a prompt alone is asked for its harmfulness only."""
        return TASKS[:1] if self.response is None else TASKS

    def with_response(self, response: str | None) -> Exchange:
        """The same prompt and history with another response.

        Args:
            response: what the assistant answered; None: the prompt alone.

        Raises:
            InputError: the response cannot be judged.

        Example:
            >>> asked = Exchange("How do I bake bread?", history=[{"role": "user", "content": "Hello!"}])
            >>> asked.with_response("Mix flour, water, salt and yeast.").tasks
            ('prompt_harmfulness', 'response_refusal', 'response_harmfulness')
        """
        return self.model_copy(update={"response": _checked_response(response)})


def _checked_response(response: object) -> str | None:
    return None if response is None else _checked("response", response, blank_fix="pass None to judge the prompt alone")


def _turns(history: object) -> tuple[Turn, ...]:
    if isinstance(history, str | bytes) or not isinstance(history, Sequence):
        raise InputError("history", f"must be a list of turns, not {type(history).__name__}", "pass [{'role': ..., ...}]")
    turns = []
    for index, turn in enumerate(history):
        if not isinstance(turn, Turn):
            if not isinstance(turn, Mapping):
                raise InputError(f"history[{index}]", f"must be a turn, not {type(turn).__name__}", "pass a Turn or a mapping")
            try:
                turn = Turn.model_validate(dict(turn))
            except ValidationError as error:
                first = error.errors(include_input=False)[0]
                where = ".".join(
                    [f"history[{index}]", *(key if key in Turn.model_fields else quote_value(key) for key in first["loc"])]
                )
                own = first.get("ctx", {}).get("error")
                if isinstance(own, InputError):
                    place = where if first["loc"] else f"{where}.{own.field}"
                    place = place.removesuffix("images") + own.field if own.field.startswith("images[") else place
                    raise InputError(place, own.problem, own.fix) from None
                raise InputError(where, first["msg"], "a turn is {'role': ..., 'content': ...}") from None
        turns.append(turn)
    return tuple(turns)


def _check_places(places: Sequence[object], images: Sequence[Image], text: str) -> None:
    if not places:
        return
    fix = "give each image the number of characters in front of it, ascending, or leave them out"
    if len(places) != len(images):
        raise InputError("image_places", f"has {len(places)} places for {len(images)} images", fix)
    before = 0
    for place in places:
        if isinstance(place, bool) or not isinstance(place, int) or not before <= place <= len(text):
            raise InputError("image_places", "holds something else than places in the text, in order", fix)
        before = place


def _marked(said: Turn | Exchange) -> tuple[tuple[str, ...], tuple[int, ...]]:
    return tuple(image.digest for image in said.images), said.image_places if any(said.image_places) else ()


def _without_defaults(model: BaseModel, names: Sequence[str]) -> Iterator[tuple[str | None, Any]]:
    """What a repr says: images only where there are some."""
    return ((name, value) for name, value in BaseModel.__repr_args__(model) if name not in names or value)


def _without_images_if_none(values: dict[str, Any]) -> dict[str, Any]:
    """What is written of a text without images is what was written before there were any: hashes of rows tell runs apart."""
    return {name: value for name, value in values.items() if value or name not in ("images", "image_places")}


def exchange_of(
    prompt: str | Exchange,
    response: str | None,
    history: Sequence[Turn | Mapping[str, Any]],
    images: Sequence[ImageLike] | ImageLike = (),
) -> Exchange:
    """An exchange that was handed over in parts, or as it is.

    Raises:
        InputError: a part that cannot be judged, or one beside an exchange, which has its own.
    """
    if not isinstance(prompt, Exchange):
        return Exchange(prompt, response, history, images)
    given_images = None if isinstance(images, list | tuple) and not images else images
    for field, given in (("response", response), ("history", history or None), ("images", given_images)):
        if given is not None:
            fix = "use exchange.with_response(...)" if field == "response" else "make one Exchange of all of it"
            raise InputError(field, "is given beside an Exchange, which has its own", fix)
    return prompt


_ROW_KEYS = frozenset({"prompt", "response", "history", "images", "image_places"})
# Under these names an image would be passed over.
_LIKE_IMAGES = frozenset(
    ["image", "image_url", "image_urls", "image_path", "image_paths", "img", "imgs", "photo", "photos", "picture", "pictures"]
)


def exchange_from(row: object) -> Exchange:
    """Make an exchange of what a batch holds.

    Args:
        row: an :class:`Exchange`, a prompt, a ``(prompt, response)`` pair, or a mapping with ``prompt`` and optionally
            ``response``, ``history``, ``images`` and ``image_places``; further keys of a mapping are not read.

    Raises:
        InputError: the row has another shape, a field cannot be judged, or an image stands under another name.

    Example:
        >>> from guardreasoner_sdk.exchange import exchange_from
        >>> exchange_from(("How do I bake bread?", "Mix flour and water.")).response
        'Mix flour and water.'
    """
    if isinstance(row, Exchange):
        return row
    if isinstance(row, Mapping):
        if "prompt" not in row:
            near = next((key for key in row if str(key).strip().lower() in {"prompt", "text", "input", "question"}), None)
            found = f"rename {quote_value(near)} to 'prompt'" if near is not None else "give each row a 'prompt'"
            raise InputError("prompt", "is missing", found)
        for key, value in row.items():
            name = str(key).strip().lower()
            empty = value is None or (isinstance(value, str | list | tuple) and not value)
            if key not in _ROW_KEYS and not empty and (name in _LIKE_IMAGES or name == "images"):
                raise InputError(name, "is not read", "did you mean images? Rename it, or leave it out")
        return Exchange(**{key: row[key] for key in _ROW_KEYS if row.get(key) is not None or key == "prompt"})
    if isinstance(row, tuple | list):
        if not 1 <= len(row) <= 2:
            raise InputError("row", f"has {len(row)} items", "pass (prompt, response)")
        return Exchange(*row)
    if isinstance(row, str):
        return Exchange(row)
    kinds = "pass a str, a (prompt, response) pair, a mapping or an Exchange"
    raise InputError("row", f"must be a row, not {type(row).__name__}", kinds)


_ROLES: dict[str, Role] = {
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "ai": "assistant",
    "model": "assistant",
    "system": "system",
    "developer": "system",
    "tool": "tool",
    "function": "tool",
}
# LangChain names the role of a message in its type, and that of a piece by its class.
_TYPES: dict[str, Role] = {
    "human": "user",
    "ai": "assistant",
    "system": "system",
    "tool": "tool",
    "function": "tool",
    "HumanMessageChunk": "user",
    "AIMessageChunk": "assistant",
    "SystemMessageChunk": "system",
    "ToolMessageChunk": "tool",
    "FunctionMessageChunk": "tool",
}
# Items of Responses, which have no role.
_ITEMS = {"compaction", "item_reference", "mcp_approval_request", "mcp_approval_response", "mcp_list_tools", "reasoning"} | {
    kind for kind in BLOCKS if kind.endswith(("_call", "_call_output", "_search_output"))
}


def exchange_from_messages(messages: Sequence[Message], *, images: bool = False) -> Exchange:
    """Make an exchange of a message list: OpenAI's (Chat Completions, and items of Responses), Anthropic's or LangChain's.

    The last user message is the prompt, what stands before it is the history, and the text of what stands after it
    (assistant and tool messages, in order) is the response. All text counts, wherever it is in a message: refusals,
    reasoning, and calls of tools as ``name(arguments)``; sound counts by the transcript that comes with it.

    Args:
        messages: mappings with ``role`` and ``content`` (a str, a list of parts, or None), or the message objects of an SDK
            (OpenAI's, LangChain's, litellm's).
        images: whether images in the messages of users are read, where the part holds them itself (a data URL, or Base64).

    Raises:
        InputError: no user message, an unknown role, or a part that is not text; an image too, unless ``images`` says
            otherwise, and always one of which only the address is there, or that somebody else than a user sent.

    Example:
        >>> from guardreasoner_sdk.exchange import exchange_from_messages
        >>> exchange_from_messages([{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello!"}]).response
        'Hello!'
    """
    return readings_of_messages(messages, images=images)[-1]


def readings_of_messages(messages: Sequence[Message], *, images: bool = False) -> list[Exchange]:
    """:func:`exchange_from_messages`, first of what the messages say alone and then of all that is in them; one exchange where
    nothing stands beside what they say. A guard has to judge both: enough harmless text beside it would hide harm in a message.
    """
    if isinstance(messages, str | bytes) or not isinstance(messages, Sequence):
        raise InputError("messages", f"must be a list of messages, not {type(messages).__name__}", "pass [{'role': ...}]")
    try:
        turns = [turn for index, message in enumerate(messages) for turn in _message(f"messages[{index}]", message, images)]
    except RecursionError:
        raise InputError("messages", "are nested too deeply", "send messages with less in them") from None
    last = max((index for index, (role, _, _) in enumerate(turns) if role == "user"), default=None)
    if last is None:
        raise InputError("messages", "has no user message", "add the message to judge with role 'user'")
    whole = _exchange([(role, content) for role, content, _ in turns], last)
    alone = _exchange([(role, said if said.holds_anything else content) for role, content, said in turns], last)
    return [whole] if alone == whole else [alone, whole]


class _Said(NamedTuple):
    """What somebody said and showed: each image with how many characters stand in front of it."""

    text: str
    images: tuple[Image, ...] = ()
    places: tuple[int, ...] = ()

    @property
    def holds_anything(self) -> bool:
        return bool(self.images) or has_visible_text(self.text)


def _exchange(turns: Sequence[tuple[Role, _Said]], last: int) -> Exchange:
    after = "\n\n".join(said.text for _, said in turns[last + 1 :] if said.holds_anything)
    asked = turns[last][1]
    return Exchange(
        asked.text,
        after or None,
        [
            Turn(role=role, content=said.text, images=said.images, image_places=said.places)
            for role, said in turns[:last]
            if said.holds_anything
        ],
        asked.images,
        asked.places,
    )


def _message(where: str, message: object, images: bool) -> Iterator[tuple[Role, _Said, _Said]]:
    """Who says what, and what of it is said: all of an item's, and not what stands beside a message's content."""
    if isinstance(message, BaseModel):
        message = message.model_dump(warnings=False)
    if not isinstance(message, Mapping):
        raise InputError(where, f"must be a mapping, not {type(message).__name__}", "pass a mapping with 'role' and 'content'")
    if "role" not in message and str(message.get("type")) in _ITEMS:
        # An item of Responses: what a tool gave, or what the model wrote.
        role: Role = "tool" if str(message["type"]).endswith("_output") else "assistant"
        said = _read(role, block(message, where), images)
        yield role, said, said
        return
    given = message.get("role", message.get("type"))
    found = _ROLES.get(str(given).lower()) if "role" in message else _TYPES.get(str(given))
    if found is None:
        # A typo is shown; anything else may be text to judge, which no error may hold.
        shown = isinstance(given, str) and given.isidentifier() and len(given) <= 20
        problem = f"is {given!r}" if shown and "role" in message else "is missing or no role"
        raise InputError(f"{where}.role", problem, f"use one of {', '.join(_ROLES)}")
    content = message.get("content")
    if not isinstance(content, str | Sequence | None) or isinstance(content, bytes | bytearray):
        raise InputError(f"{where}.content", f"must be text, not {type(content).__name__}", "pass a str or text parts")
    for who, pieces in texts_by_speaker(found, message, where):
        whole = _read(who, pieces, images)
        yield who, whole, _read(who, [piece for piece in pieces if is_said(piece, where)], images)


def _read(role: Role, pieces: Iterable[Piece], images: bool) -> _Said:
    """What is said, with its second reading: nobody knows whether the reader of an answer will parse JSON in it."""
    said = _joined(pieces, images=images and role == "user")
    more = second_reading(said.text) if role == "assistant" else ""
    return said._replace(text=f"{said.text}\n{more}") if more else said


def _joined(pieces: Iterable[Piece], *, images: bool) -> _Said:
    pieces = list(pieces)
    heard = {
        piece.where.removesuffix("transcript") for piece in pieces if isinstance(piece, Text) and piece.key == "transcript"
    }
    text = ""
    shown: list[tuple[Image, int]] = []
    objects: set[str] = set()
    for piece in pieces:
        if isinstance(piece, Unread):
            if images and piece.kind in IMAGES and piece.block is not None:
                shown.append((image_in(piece.block, format_place(piece.where)), len(text)))
                objects.add(f"{piece.where}.image")
                continue
            if piece.where in objects:
                continue  # an image of Python's in its block, which was just read
            if piece.where.removesuffix("data") in heard:
                continue  # sound, and what is said in it
            problem = f"is not text but {quote_value(piece.kind)}"
            raise InputError(format_place(piece.where), problem, "judge other media elsewhere and leave the part out here")
        more = piece.text if isinstance(piece, Text) else piece.written
        text += f"\n{more}" if text and more else more
    return _Said(text, tuple(image for image, _ in shown), tuple(place for _, place in shown))


# What may stand beside the image of a part: how it is written and shown, and text, which is judged.
_BESIDE_IMAGE = frozenset(
    [
        "type",
        "detail",
        "media_type",
        "mime_type",
        "mimeType",
        "format",
        "index",
        "width",
        "height",
        "min_pixels",
        "max_pixels",
        "resized_width",
        "resized_height",
        "cache_control",
        "cachePoint",
        "cache_point",
        "citations",
        "text",
        "alt",
        "alt_text",
        "caption",
        "title",
        "context",
        "name",
        "filename",
    ]
)
_HOLDING_IMAGE = frozenset({"base64", "data", "image", "image_url", "source", "url"})
_NESTING = frozenset({"image", "image_url", "source"})
# What a source says it is, by the key that it has to have then.
_SOURCE_TYPES = {"base64": {"base64", "data"}, "url": {"image_url", "url"}}


def image_in(part: Mapping[Any, Any], where: str) -> Image:
    """The image that a part of a message holds.

    Args:
        part: the part, of whichever API.
        where: its place, for errors.

    Raises:
        InputError: it is not in it, or there are several, or something stands beside it that may refer to another one: a model
            might see that one, and not the one that the guard saw.
    """
    holder, given = part, "source_type"
    key, value = _only_source(holder, given, where)
    if key in _NESTING and isinstance(value, Mapping):
        holder, given = value, "type" if key == "source" else "source_type"
        key, value = _only_source(holder, given, where)
    said = holder.get(given)
    if said is not None and key not in _SOURCE_TYPES.get(said if isinstance(said, str) else "", ()):
        raise InputError(where, "holds several images", "send one, of the type that its source says")
    return Image.of(f"data:;base64,{value}" if key in ("base64", "data") and isinstance(value, str) else value, name=where)


def _only_source(holder: Mapping[Any, Any], given: str, where: str) -> tuple[str, Any]:
    """The one key that holds the image, and what is under it."""

    def is_harmless(key: Any, value: Any) -> bool:
        if key in ("extras", "metadata"):
            return isinstance(value, Mapping) and value.keys() <= _BESIDE_IMAGE
        # LangChain numbers its blocks; any other id may be that of a file.
        return key in _BESIDE_IMAGE or key == given or (key == "id" and str(value).startswith("lc_"))

    there = {key: value for key, value in holder.items() if value is not None and not is_harmless(key, value)}
    found = [key for key in there if key in _HOLDING_IMAGE]
    if not found:
        raise InputError(where, "is an image that is not here", "send its bytes, as a data URL")
    if len(there) > 1:
        raise InputError(where, "holds several images", "send each in a part of its own, with no reference beside it")
    return found[0], there[found[0]]
