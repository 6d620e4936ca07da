"""Azure AI Content Safety."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import SecretStr

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.services.base import Access, Ask, Assessment, Judged, Service, is_host
from guardreasoner_sdk.services.hazards import VENDOR_HAZARDS, name_categories

__all__ = ["AzureContentSafety"]

_LEVELS = (2, 4, 6)


@dataclass(frozen=True, kw_only=True)
class AzureContentSafety(Service):
    """Azure AI Content Safety's ``text:analyze``: hate, self-harm, sexual content and violence, each with a severity.

    A severity (0, 2, 4 or 6: safe, low, medium, high) says how bad a text is, and not how likely: the verdict has no score, and
    shows the severities as its reasoning. The endpoint is ``base_url`` or ``CONTENT_SAFETY_ENDPOINT``, the key ``api_key`` or
    ``CONTENT_SAFETY_KEY``, which goes to the endpoint of the environment and to addresses of Azure's alone.

    Args:
        severity: the lowest that is harmful: 2, 4 or 6. 4 is where Azure's content filter for models begins by default.
        blocklists: names of blocklists of the resource; text that is on one is harmful.
        api_version: of the REST API.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Source: azure-ai-contentsafety 1.0.0 (paths, fields, at most 10,000 characters a request); Microsoft's default safety
    policies for models (medium severity).

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.services import AzureContentSafety
        >>> strict, url = AzureContentSafety(severity=2), "https://mine.cognitiveservices.azure.com"
        >>> guard = Guard("azure-content-safety", backend=strict, base_url=url, api_key="...")
        >>> guard.judge.model
        'azure-content-safety'
    """

    name: ClassVar[str] = "azure-content-safety"
    most: ClassVar[int | None] = 10_000

    piece: int = 10_000
    severity: int = 4
    blocklists: tuple[str, ...] = ()
    api_version: str = "2023-10-01"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.severity not in _LEVELS or isinstance(self.severity, bool):
            raise ConfigurationError(f"severity: must be one of {', '.join(map(str, _LEVELS))}, not {self.severity!r}")
        lists = self.blocklists
        if not isinstance(lists, list | tuple) or not all(isinstance(name, str) and name for name in lists):
            raise ConfigurationError("blocklists: must be names in a list, such as ('words',)")
        object.__setattr__(self, "blocklists", tuple(lists))
        if not isinstance(self.api_version, str) or not self.api_version:
            raise ConfigurationError(
                f"api_version: must be one of the REST API's, such as '2023-10-01', not {self.api_version!r}"
            )

    @property
    def missing(self) -> str:
        """What there is to say where the service answers 404."""
        return (
            "base_url: there is no Content Safety, or no such blocklist; it looks like https://NAME.cognitiveservices.azure.com"
        )

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """The resource's endpoint and key."""
        own = os.environ.get("CONTENT_SAFETY_ENDPOINT") or None
        url = base_url or own
        if url is None:
            fix = "pass the resource's endpoint, https://NAME.cognitiveservices.azure.com, or set CONTENT_SAFETY_ENDPOINT"
            raise ConfigurationError(f"base_url: {self.name} wants one; {fix}")
        key = api_key
        if key is None and (url == own or is_host(url, ".cognitiveservices.azure.com")):
            key = SecretStr(os.environ.get("CONTENT_SAFETY_KEY", ""))
        if key is None or not key.get_secret_value():
            raise ConfigurationError(f"api_key: {self.name} wants one; pass the resource's key, or set CONTENT_SAFETY_KEY")
        return Access(url, {"Ocp-Apim-Subscription-Key": key})

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """Each text by itself."""
        for task, text in self._texts(exchange):
            body: dict[str, Any] = {"text": text, "outputType": "FourSeverityLevels"}
            if self.blocklists:
                body["blocklistNames"] = list(self.blocklists)
            yield Ask(task, "/contentsafety/text:analyze", body, {"api-version": self.api_version})

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read the severities, which have to be there for each of the four categories; of two the higher counts."""
        levels: dict[str, int] = {}
        for entry in answer["categoriesAnalysis"]:
            category, level = entry["category"], entry["severity"]
            if not isinstance(category, str):
                raise ValueError("a category has no name")
            if isinstance(level, bool) or not isinstance(level, int) or not 0 <= level <= 7:
                raise ValueError("a severity is no whole number from 0 to 7")
            levels[category] = max(level, levels.get(category, 0))
        matched = answer.get("blocklistsMatch")
        if not isinstance(matched, list) and (self.blocklists or matched is not None):
            raise ValueError("it does not say what is on the blocklists")
        if not set(VENDOR_HAZARDS[self.name]) <= set(levels):
            raise ValueError("it has no severity for each category")
        found = [category for category, level in levels.items() if level >= self.severity]
        names = name_categories(self.name, found) + (("blocklist",) if matched else ())
        said = ", ".join(f"{category} severity {level}" for category, level in levels.items())
        return Assessment(bool(names), None, names, said + (", on a blocklist" if matched else ""))
