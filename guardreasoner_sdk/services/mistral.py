"""Mistral's moderation endpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import SecretStr

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.services.base import Access, Ask, Assessment, Judged, ModelService, bearer, pieces, say_scores, stretch
from guardreasoner_sdk.services.hazards import name_categories

__all__ = ["MistralModeration"]

_ADVICE = ("health", "financial", "law")
_ALWAYS = {"sexual", "hate_and_discrimination", "violence_and_threats", "selfharm", *_ADVICE, "pii"}
_SINCE_2603 = {"dangerous", "criminal", "jailbreaking"}
_OF_2411 = {"dangerous_and_criminal_content"}


@dataclass(frozen=True, kw_only=True)
class MistralModeration(ModelService):
    """Mistral's ``/chat/moderations``, which judges the last turn in the light of those before, or ``/moderations`` on raw
    text.

    Two requests for an exchange with a response: the conversation as far as the prompt, and with the response as the
    assistant's turn. Its key comes from ``api_key`` or ``MISTRAL_API_KEY``; another ``base_url`` gets the key that is given
    alone.

    Mistral says no more than which categories hold. Advice on health, money and law, and personal data are no harm by
    themselves and do not count unless asked for; ``jailbreaking`` counts for prompts.

    Args:
        model: which of their models.
        chat: whether to show the conversation; False: the text alone.
        advice: whether the categories ``health``, ``financial`` and ``law`` count as harmful.
        personal_data: whether the category ``pii`` does.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Source: ``mistralai.client.models`` (mistralai 3.7.0), docs.mistral.ai/studio/safety-moderation. How long a text may be is
    not documented for today's model; ``piece`` is a choice of ours.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.services import MistralModeration
        >>> guard = Guard("mistral-moderation", backend=MistralModeration(advice=True), api_key="...")
        >>> guard.judge.model
        'mistral-moderation'
    """

    name: ClassVar[str] = "mistral-moderation"

    model: str = "mistral-moderation-latest"
    chat: bool = True
    advice: bool = False
    personal_data: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("chat", "advice", "personal_data"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigurationError(f"{name}: must be True or False, not {getattr(self, name)!r}")

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """The vendor's own address and key, unless others are given."""
        url = "https://api.mistral.ai/v1" if base_url is None else base_url
        return Access(url, bearer(self.name, url, "api.mistral.ai", api_key, "MISTRAL_API_KEY"))

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """The conversation up to each text, or each text by itself."""
        if not self.chat:
            for task, text in self._texts(exchange):
                yield Ask(task, "/moderations", {"model": self.model, "input": text})
            return
        turns: list[tuple[str, str]] = [(turn.role, turn.content) for turn in exchange.history if turn.role != "tool"]
        for piece in pieces(exchange.prompt, self.piece, self.overlap):
            yield self._chat("prompt_harmfulness", [*self._latest(turns), ("user", piece)])
        if exchange.response is not None:
            before = self._latest([*turns, ("user", exchange.prompt)]) or [("user", exchange.prompt[-self.piece :])]
            for piece in pieces(exchange.response, self.piece, self.overlap):
                yield self._chat("response_harmfulness", [*before, ("assistant", piece)])

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read the one result of an answer."""
        [result] = answer["results"]
        held, scores = result["categories"], result.get("category_scores") or {}
        if not held or not all(isinstance(value, bool) for value in held.values()):
            raise ValueError("it says of no category, or not of each, whether it holds")
        if not held.keys() >= _ALWAYS or not (held.keys() >= _SINCE_2603 or held.keys() >= _OF_2411):
            raise ValueError("it lacks a category that each of its models has")
        counted = {name: value for name, value in held.items() if self._counts(task, name)}
        known = {name: stretch(scores[name]) for name in counted if scores.get(name) is not None}
        found = [name for name, value in counted.items() if value]
        # A text for which one category has no score has no strongest one.
        score = max(known.values()) if len(known) == len(counted) else None
        said = say_scores(", ".join(found), known)
        return Assessment(bool(found), score, name_categories(self.name, found), said or "no category")

    def _counts(self, task: Judged, category: str) -> bool:
        if category in _ADVICE:
            return self.advice
        if category == "pii":
            return self.personal_data
        return category != "jailbreaking" or task == "prompt_harmfulness"

    def _chat(self, task: Judged, turns: list[tuple[str, str]]) -> Ask:
        messages = [{"role": role, "content": content} for role, content in turns]
        return Ask(task, "/chat/moderations", {"model": self.model, "input": messages})

    def _latest(self, turns: list[tuple[str, str]]) -> list[tuple[str, str]]:
        """The latest turns that fit into a piece together."""
        room, kept = self.piece, []
        for role, content in reversed(turns):
            room -= len(content)
            if room < 0:
                break
            kept.append((role, content))
        return kept[::-1]
