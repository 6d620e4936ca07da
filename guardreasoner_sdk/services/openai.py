"""OpenAI's moderation endpoint."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import SecretStr

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange, has_visible_text
from guardreasoner_sdk.services.base import Access, Ask, Assessment, Judged, ModelService, bearer, say_scores, stretch
from guardreasoner_sdk.services.hazards import VENDOR_HAZARDS, name_categories

__all__ = ["OpenAIModeration"]

_SINCE_OMNI = {"illicit", "illicit/violent"}
"""The categories that are null, or not there, in answers of models before omni."""


@dataclass(frozen=True, kw_only=True)
class OpenAIModeration(ModelService):
    """OpenAI's ``/moderations``: thirteen categories, each with a score.

    The prompt and the response are judged each by itself: the endpoint knows no conversation. Its key comes from ``api_key`` or
    ``OPENAI_API_KEY``; another ``base_url`` (a gateway, LocalAI, ``guardreasoner serve``) gets the key that is given alone.

    The label is ``flagged``, which rests on thresholds of OpenAI's by category. The score is that of the strongest category, so
    that a text may be flagged at 0.4, and another one not at 0.6. Give ``threshold`` to decide by the score.

    Models that are called omni-... judge images of the prompt, too, each in a request of its own with the beginning of the
    prompt beside it. OpenAI looks for violence, self-harm and sexual content in them, and for nothing else. An answer that does
    not say that the image was looked at is undetermined.

    Args:
        model: which of their models.
        threshold: score (0 to 1) from which text is harmful, in place of ``flagged``.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Source: ``openai.types.moderation*`` (openai 3.57.0), developers.openai.com/api/docs/guides/moderation. How long a text may
    be is not documented; ``piece`` is a choice of ours.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.services import OpenAIModeration
        >>> guard = Guard("openai-moderation", backend=OpenAIModeration(threshold=0.3), api_key="sk-...")
        >>> guard.judge.backend
        'hosted'
    """

    name: ClassVar[str] = "openai-moderation"

    model: str = "omni-moderation-latest"
    threshold: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        threshold = self.threshold
        if threshold is not None and (
            isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold <= 1
        ):
            raise ConfigurationError(f"threshold: must be a score above 0 and up to 1, not {threshold!r}")

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """The vendor's own address and key, unless others are given."""
        url = "https://api.openai.com/v1" if base_url is None else base_url
        return Access(url, bearer(self.name, url, "api.openai.com", api_key, "OPENAI_API_KEY"))

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """Each text by itself, and each image."""
        for task, text in self._texts(exchange):
            if has_visible_text(text) or not exchange.all_images:
                yield Ask(task, "/moderations", {"input": text, "model": self.model})
        said = (
            [{"type": "text", "text": exchange.prompt[: self.piece]}] if has_visible_text(exchange.prompt[: self.piece]) else []
        )
        for image in exchange.all_images:
            shown = {"type": "image_url", "image_url": {"url": image.data_url}}
            yield Ask("prompt_harmfulness", "/moderations", {"input": [*said, shown], "model": self.model}, image=True)

    @property
    def sees_images(self) -> bool:
        """Those models do whose names begin with omni."""
        return self.model.startswith("omni-")

    def check_seen(self, ask: Ask, answer: Any) -> None:
        """An image has to have counted for a category."""
        if ask.image:
            applied = answer["results"][0].get("category_applied_input_types")
            kinds = list(applied.values()) if isinstance(applied, Mapping) else []
            if not any(isinstance(kind, list) and "image" in kind for kind in kinds):
                raise ValueError("it does not say that the image was looked at")

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read the one result of an answer, which has to say of each category whether it holds."""
        [result] = answer["results"]
        flagged, held = result["flagged"], result["categories"]
        named = _flags(held)
        wanted = set(VENDOR_HAZARDS[self.name]) - (set() if self.sees_images else _SINCE_OMNI)
        if any(held.get(category) is None for category in wanted):
            raise ValueError("it does not say of each category whether it holds")
        scores = {category: stretch(score) for category, score in result["category_scores"].items() if score is not None}
        if not isinstance(flagged, bool) or not scores:
            raise ValueError("it says neither flagged nor a score")
        # Of what has no score nobody knows whether it is the strongest: a flag counts in its place.
        unscored = [category for category, said in held.items() if said is not None and category not in scores]
        score = None if unscored else max(scores.values())
        if self.threshold is None:
            harmful, found = flagged or bool(named), named
        else:
            found = [category for category, value in scores.items() if value >= self.threshold]
            found += [category for category in unscored if held[category]]
            harmful = bool(found) or (bool(unscored) and flagged)
            if unscored and not harmful:
                raise ValueError("a category has no score")
        return Assessment(harmful, score, name_categories(self.name, found), say_scores("flagged" if flagged else "", scores))


def _flags(categories: Mapping[str, Any]) -> list[str]:
    """The categories that hold; one that a model does not know is null."""
    if not all(held is None or isinstance(held, bool) for held in categories.values()):
        raise ValueError("a category is neither true nor false")
    return [category for category, held in categories.items() if held]
