"""What passes between a dialect and an engine: queries and completions, or passages and logits. Pure data, no I/O."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from guardreasoner_sdk.images import Image
from guardreasoner_sdk.verdict import Usage

__all__ = [
    "Capabilities",
    "Completion",
    "Logits",
    "Message",
    "Passage",
    "PromptPiece",
    "Query",
    "Role",
    "TokenProbabilities",
    "Window",
]


Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class PromptPiece:
    """A stretch of a plain completion prompt.

    Args:
        text: its characters.
        markup: False: encoded as text, so that no part of it becomes a special token. True: written by the dialect itself,
            and special tokens in it count; it never holds judged text.
        image: what stands here in place of text; only in messages, and only for engines that take images.

    Example:
        >>> from guardreasoner_sdk.generation import PromptPiece, Query
        >>> Query(pieces=(PromptPiece("<s>", markup=True), PromptPiece("How do I bake bread?"))).text
        '<s>How do I bake bread?'
    """

    text: str = ""
    markup: bool = False
    image: Image | None = None


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat.

    Args:
        role: ``system``, ``user`` or ``assistant``.
        content: its text; an engine encodes it as text, so that no part of it becomes a special token.
        pieces: the same text in pieces, where the dialect wrote some of it itself (``PromptPiece(markup=True)``): special
            tokens count in those, as in a plain prompt. Empty: all of it is plain text. :meth:`of` makes such a message.

    Example:
        >>> from guardreasoner_sdk.generation import Message
        >>> Message("user", "How do I bake bread?").role
        'user'
    """

    role: Role
    content: str
    pieces: tuple[PromptPiece, ...] = ()

    @classmethod
    def of(cls, role: Role, pieces: Sequence[PromptPiece]) -> Message:
        """Make a message of pieces.

        Args:
            role: who says it.
            pieces: what is said, in order.
        """
        return cls(role, "".join(piece.text for piece in pieces), tuple(pieces))

    @property
    def parts(self) -> tuple[PromptPiece, ...]:
        """The content as pieces, whether it was given so or not."""
        return self.pieces or (PromptPiece(self.content),)

    @property
    def images(self) -> tuple[Image, ...]:
        """The images in it, in order."""
        return tuple(piece.image for piece in self.pieces if piece.image is not None)


@dataclass(frozen=True, slots=True)
class Query:
    """What an engine is asked: either a plain completion prompt or a chat.

    Args:
        pieces: a plain prompt, to be encoded after the model's BOS token.
        messages: a chat, for the model's own chat template.
        template: further variables of the chat template, such as ShieldGemma's ``guideline``: values that JSON has, never
            judged text. ``reasoning_effort`` goes to servers as the field of that name in OpenAI's API.
        opening: how the answer begins, as the dialect's own markup (``<think>``): special tokens in it count. Before
            ``continuation``, and like it for engines that continue, and no part of the completion's text.
        continuation: how the answer begins; the engine goes on from there. It is text, encoded apart from the prompt, and
            not part of the completion's text. Engines that cannot do it say so in :class:`Capabilities`.
        max_tokens: most tokens to generate.
        temperature: sampling temperature; 0 is greedy.
        stop: strings that end the answer; they are not part of it.
        choices: how many of the most probable tokens to report for each token of the answer; 0: none.
        special: whether special tokens that the model writes stand in the answer by their names; they are left out otherwise.
            A server that has no such option leaves them out all the same.

    Example:
        >>> from guardreasoner_sdk.generation import Message, Query
        >>> Query(messages=(Message("user", "How do I bake bread?"),), max_tokens=8).text is None  # a chat
        True
    """

    pieces: tuple[PromptPiece, ...] = ()
    messages: tuple[Message, ...] = ()
    template: Mapping[str, Any] = field(default_factory=dict)
    opening: str = ""
    continuation: str = ""
    max_tokens: int = 2048
    temperature: float = 0.0
    stop: tuple[str, ...] = ()
    choices: int = 0
    special: bool = False

    @property
    def text(self) -> str | None:
        """The plain prompt as one string; None for a chat."""
        return "".join(piece.text for piece in self.pieces) if self.pieces else None

    @property
    def images(self) -> tuple[Image, ...]:
        """The images in the chat, in order."""
        return tuple(image for message in self.messages for image in message.images)


@dataclass(frozen=True, slots=True)
class TokenProbabilities:
    """The most probable tokens at each place of an answer.

    Args:
        starts: for each token of the answer, the place in its text where that token's characters begin; ascending.
        alternatives: for the number of a token, the probability (0 to 1, over the whole vocabulary) by text of the most
            probable tokens there, the one chosen included. Called only for the tokens that somebody asks for.
    """

    starts: Sequence[int]
    alternatives: Callable[[int], Mapping[str, float]]

    def at(self, place: int) -> tuple[int, Mapping[str, float]] | None:
        """The token that holds a character: where it starts, and the probabilities there; None before the first one."""
        # Tokens of no characters of their own (half of an emoji) share the start of the next one: the last of them counts.
        number = bisect_right(self.starts, place) - 1
        return None if number < 0 else (self.starts[number], self.alternatives(number))


@dataclass(frozen=True, slots=True)
class Completion:
    """What an engine answered.

    Args:
        text: the generated text alone, without prompt and continuation.
        finish_reason: ``stop`` (the model ended, or a stop string was met), ``length`` (cut off at ``max_tokens`` or at the
            context's end), or None where the engine does not say.
        usage: tokens read and written.
        choices: the probabilities; None where they were not asked for, or the engine gives none.
        reasoning: what a server set apart as the model's reasoning; it is no part of ``text``.

    Example:
        >>> from guardreasoner_sdk.generation import Completion
        >>> Completion("safe", "stop").choices is None  # no probabilities were asked for
        True
    """

    text: str
    finish_reason: Literal["stop", "length"] | None = None
    usage: Usage = field(default_factory=Usage)
    choices: TokenProbabilities | None = None
    reasoning: str = ""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine can do beyond plain generation.

    Args:
        continues: whether it takes :attr:`Query.opening` and :attr:`Query.continuation` in a chat.
        probes: whether a one-token question after a prompt it has just seen costs next to nothing, because it keeps the
            prefix. The label probabilities of a long answer are then asked for afterwards, and not for each of its tokens.
        images: whether it takes :attr:`PromptPiece.image`.

    Example:
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> Capabilities(continues=False).probes
        False
    """

    continues: bool = True
    probes: bool = False
    images: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """A text for a classifier. All of it is text: no part becomes a special token, and none is cut off.

    Args:
        text: what is judged.
        before: what it follows, where both are read as a pair; None: it is read alone.
        around: what a published format writes before that and between both; such a text ends with the model's end of text.
            None: as the model's tokenizer joins texts.

    Example:
        >>> from guardreasoner_sdk.generation import Passage
        >>> Passage("With flour and water.", before="How do I bake bread?").text
        'With flour and water.'
    """

    text: str
    before: str | None = None
    around: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True)
class Window:
    """What a classifier gives for as much of a passage as it reads at a time.

    Args:
        logits: its outputs, one for each label.
        start: first character of the passage's text in it.
        end: the character after the last one.
    """

    logits: tuple[float, ...]
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Logits:
    """What a classifier gives for a passage.

    Args:
        windows: in the order of the text; together they hold all of it.
        usage: the tokens that it read.
    """

    windows: tuple[Window, ...]
    usage: Usage
