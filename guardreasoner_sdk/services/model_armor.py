"""Google Cloud's Model Armor."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar, Self

from pydantic import SecretStr

from guardreasoner_sdk.errors import BackendError, ConfigurationError, MissingExtraError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.services.base import Access, Ask, Assessment, Judged, Service, is_host
from guardreasoner_sdk.services.hazards import name_categories

__all__ = ["ModelArmor"]

# What is in no name, such as "..", would lead to another address.
_TEMPLATE = re.compile(r"projects/[a-z0-9][a-z0-9.:-]*/locations/(?P<location>[a-z0-9][a-z0-9-]*)/templates/[A-Za-z0-9_-]+")
_SCOPE = "https://www.googleapis.com/auth/cloud-platform"


@dataclass(frozen=True, kw_only=True)
class ModelArmor(Service):
    """A template of yours at Google Cloud's Model Armor: ``sanitizeUserPrompt`` and ``sanitizeModelResponse``.

    What a filter of your template matches is harmful here, also personal data. Confidence is a level that the template has its
    own threshold for: there is no score. Where none matched, and not each filter says that it ran, the finding is undetermined.

    Who calls is said by an access token (``api_key``: what ``gcloud auth print-access-token`` prints; it lasts for an hour), or
    by the application default credentials that google-auth finds and renews (``pip install 'guardreasoner-sdk[model-armor]'``),
    which go to Google's addresses alone. ``Guard("model-armor:projects/P/locations/L/templates/T")`` needs no options.

    Args:
        template: its resource name, ``projects/P/locations/L/templates/T``.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Source: google-cloud-modelarmor 0.7.3 (paths, fields, enumerations), docs.cloud.google.com/model-armor. Its filters have
    limits in tokens, one each; ``piece`` is a choice of ours.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> guard = Guard("model-armor:projects/p/locations/us-central1/templates/t", api_key="ya29...")
        >>> guard.judge.backend
        'hosted'
    """

    name: ClassVar[str] = "model-armor"
    target_form: ClassVar[str | None] = "projects/P/locations/L/templates/T"

    piece: int = 6_000
    template: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.template is not None and not (isinstance(self.template, str) and _TEMPLATE.fullmatch(self.template)):
            raise ConfigurationError(f"template: must be 'projects/P/locations/L/templates/T', not {self.template!r}")

    def aimed_at(self, target: str) -> Self:
        """The same with another template."""
        return replace(self, template=target)

    @property
    def missing(self) -> str:
        """What there is to say where the service answers 404."""
        return f"template: there is no {self.template!r}"

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """The location's address; a token that was given, or the application's own credentials."""
        place = None if self.template is None else _TEMPLATE.fullmatch(self.template)
        if place is None:
            raise ConfigurationError(f"template: {self.name} wants one; use Guard('model-armor:{self.target_form}')")
        url = f"https://modelarmor.{place['location']}.rep.googleapis.com" if base_url is None else base_url
        if api_key is not None:
            return Access(url, {"Authorization": SecretStr(f"Bearer {api_key.get_secret_value()}")})
        if not is_host(url, ".googleapis.com"):
            raise ConfigurationError("api_key: is missing; the credentials of this machine go to Google's addresses alone")
        if find_spec("google") is None or find_spec("google.auth") is None:
            message = (
                "Google's credentials are found by google-auth: pip install 'guardreasoner-sdk[model-armor]'; or pass a token"
            )
            raise MissingExtraError("model-armor", "Google's credentials", message=message)
        return Access(url, {}, _Credentials().sign)

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """The prompt, and the response with the prompt beside it."""
        for task, text in self._texts(exchange):
            if task == "prompt_harmfulness":
                yield Ask(task, f"/v1/{self.template}:sanitizeUserPrompt", {"userPromptData": {"text": text}})
            else:
                body = {"modelResponseData": {"text": text}, "userPrompt": exchange.prompt[-self.piece :]}
                yield Ask(task, f"/v1/{self.template}:sanitizeModelResponse", body)

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read whether a filter matched, and whether all of them ran; one that matched counts, whatever is said of all."""
        result = answer["sanitizationResult"]
        state = result["filterMatchState"]
        if state not in ("MATCH_FOUND", "NO_MATCH_FOUND"):
            raise ValueError("its match state is unknown")
        results = result.get("filterResults")
        matched = state == "MATCH_FOUND" or "MATCH_FOUND" in _said("matchState", results)
        if not matched:
            if result["invocationResult"] != "SUCCESS":
                raise ValueError("a filter of the template did not run")
            _check_ran(results)
        found = list(_matches(results if isinstance(results, Mapping) else {})) if matched else []
        said = f"matched: {', '.join(found) or 'a filter'}" if matched else "no filter matched"
        return Assessment(matched, None, name_categories(self.name, found), said)


def _said(field: str, value: Any) -> Iterator[Any]:
    """What stands in a field, at whatever depth."""
    if isinstance(value, Mapping):
        if field in value:
            yield value[field]
        for inner in value.values():
            yield from _said(field, inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _said(field, inner)


def _check_ran(results: Any) -> None:
    """Refuse results among which a filter does not say that it ran and that nothing matched; none at all is no filter."""
    if not isinstance(results, Mapping) or not results:
        raise ValueError("it has no result of any filter")
    for wrapped in results.values():
        ran, states = set(_said("executionState", wrapped)), set(_said("matchState", wrapped))
        if ran != {"EXECUTION_SUCCESS"} or states != {"NO_MATCH_FOUND"}:
            raise ValueError("a filter of the template did not run, or does not say so")


def _matches(results: Mapping[str, Any]) -> Iterator[str]:
    """The filters that matched, and of the filter for responsible AI its kinds."""
    for name, wrapped in results.items():
        for result in wrapped.values():
            kinds = [kind for kind, one in (result.get("raiFilterTypeResults") or {}).items() if _is_match(one)]
            # What sensitive data protection found lies one level deeper, by how it looked.
            deeper = any(_is_match(one) for one in result.values() if isinstance(one, Mapping))
            if kinds:
                yield from kinds
            elif _is_match(result) or deeper:
                yield name


def _is_match(result: Mapping[str, Any]) -> bool:
    return result.get("matchState") == "MATCH_FOUND"


class _Credentials:
    """The application default credentials, looked up once and renewed when they run out; google-auth does both."""

    def __init__(self) -> None:
        self._credentials: Any = None
        self._lock = asyncio.Lock()

    async def sign(self, request: Any) -> None:
        """Put the token on a request."""
        headers: dict[str, str] = {}
        async with self._lock:
            await asyncio.to_thread(self._put, request.method, str(request.url), headers)
        for name, value in headers.items():
            request.headers[name] = value

    def _put(self, method: str, url: str, headers: dict[str, str]) -> None:
        import google.auth
        from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError
        from google.auth.transport.requests import Request

        if self._credentials is None:
            try:
                self._credentials, _ = google.auth.default(scopes=[_SCOPE])
            except DefaultCredentialsError:
                fix = "pass a token, or run: gcloud auth application-default login"
                raise ConfigurationError(f"api_key: there are no application default credentials; {fix}") from None
        try:
            self._credentials.before_request(Request(), method, url, headers)
        except GoogleAuthError as error:
            raise BackendError(f"Google's credentials cannot be renewed: {type(error).__name__}") from None
