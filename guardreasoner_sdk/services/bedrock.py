"""Guardrails of Amazon Bedrock."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from typing import Any, ClassVar, Self
from urllib.parse import quote

from pydantic import SecretStr

from guardreasoner_sdk.errors import BackendError, ConfigurationError, MissingExtraError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.services.base import Access, Ask, Assessment, Judged, Service, is_host
from guardreasoner_sdk.services.hazards import name_categories

__all__ = ["BedrockGuardrail"]

_GUARDRAIL = re.compile(r"[a-z0-9]+|arn:aws(?:-[^:]+)?:bedrock:[a-z0-9-]{1,20}:[0-9]{12}:guardrail/[a-z0-9]+")
_VERSION = re.compile(r"[1-9][0-9]{0,7}|DRAFT")
_REGION = re.compile(r"[a-z]{2}(?:-[a-z0-9]+)+")
_KEPT = ("content-type", "host")
"""Headers that the signature covers besides its own: a proxy may change others."""


@dataclass(frozen=True, kw_only=True)
class BedrockGuardrail(Service):
    """A guardrail of yours at Amazon Bedrock, by ``ApplyGuardrail``: no model is called.

    The prompt goes as ``INPUT`` and the response as ``OUTPUT``. What your guardrail intervenes for is harmful here, also words,
    topics and personal data that it masks: the text as it stands did not pass. Its confidence is a level, and no probability:
    there is no score. The finding is undetermined where the answer does not say that as many characters as were sent were
    looked at.

    Who calls is said by a key of Bedrock's (``api_key`` or ``AWS_BEARER_TOKEN_BEDROCK``), or by the AWS credentials that
    botocore finds (``pip install 'guardreasoner-sdk[bedrock]'``), with which each request is signed, to AWS's addresses alone.
    ``Guard("bedrock-guardrails:ID:VERSION")`` needs no options.

    Args:
        guardrail: its identifier or ARN.
        version: a number, or ``DRAFT``.
        region: where it is; default: ``AWS_REGION`` or ``AWS_DEFAULT_REGION``.

    Raises:
        ConfigurationError: a value that cannot work, named.

    Source: ``bedrock-runtime/2023-09-30/service-2.json`` of botocore 1.44.8 (paths, fields, patterns). ``piece`` stays below
    25,000 characters, beyond which users of LiteLLM (its pull request 22561) report refusals; AWS's own figure was not found.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> guard = Guard("bedrock-guardrails:abc123:1", options={"region": "eu-central-1"}, api_key="...")
        >>> guard.judge.model
        'bedrock-guardrails:abc123:1'
    """

    name: ClassVar[str] = "bedrock-guardrails"
    target_form: ClassVar[str | None] = "GUARDRAIL:VERSION"

    piece: int = 20_000
    guardrail: str | None = None
    version: str = "DRAFT"
    region: str | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        for field, form, fix in (
            ("guardrail", _GUARDRAIL, "its identifier, such as 'abc123', or its ARN"),
            ("version", _VERSION, "a number such as '1', or 'DRAFT'"),
            ("region", _REGION, "a region such as 'eu-central-1'"),
        ):
            value = getattr(self, field)
            if (value is not None or field == "version") and (not isinstance(value, str) or not form.fullmatch(value)):
                raise ConfigurationError(f"{field}: must be {fix}, not {value!r}")

    def aimed_at(self, target: str) -> Self:
        """The same with another guardrail, ``ID`` or ``ID:VERSION``."""
        guardrail, colon, version = target.rpartition(":")
        if not colon or _GUARDRAIL.fullmatch(target):
            return replace(self, guardrail=target)
        return replace(self, guardrail=guardrail, version=version)

    @property
    def missing(self) -> str:
        """What there is to say where the service answers 404."""
        return f"guardrail: there is no {self.guardrail!r} of version {self.version!r} in this region and account"

    def access(self, base_url: str | None, api_key: SecretStr | None) -> Access:
        """The region's address; a key of Bedrock's, or signatures."""
        if self.guardrail is None:
            raise ConfigurationError(f"guardrail: {self.name} wants one; use Guard('bedrock-guardrails:ID:VERSION')")
        region = self.region or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        if region is None or not _REGION.fullmatch(region):
            raise ConfigurationError(
                "region: must be a region such as 'eu-central-1'; pass options={'region': ...}, or set AWS_REGION"
            )
        suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
        url = f"https://bedrock-runtime.{region}.{suffix}" if base_url is None else base_url
        key = api_key.get_secret_value() if api_key is not None else None
        if base_url is None:
            key = key or os.environ.get("AWS_BEARER_TOKEN_BEDROCK") or None
        if key is not None:
            return Access(url, {"Authorization": SecretStr(f"Bearer {key}")})
        if not (is_host(url, ".amazonaws.com") or is_host(url, ".amazonaws.com.cn")):
            raise ConfigurationError("api_key: is missing; the AWS credentials of this machine go to AWS's addresses alone")
        if find_spec("botocore") is None:
            message = "Requests are signed by botocore: pip install 'guardreasoner-sdk[bedrock]'; or pass a Bedrock API key"
            raise MissingExtraError("bedrock", "Signed requests", message=message)
        return Access(url, {}, _Signing(region).sign)

    def requests(self, exchange: Exchange) -> Iterator[Ask]:
        """Each text by itself, on its own side of the guardrail."""
        path = f"/guardrail/{quote(self.guardrail or '', safe='')}/version/{quote(self.version, safe='')}/apply"
        for task, text in self._texts(exchange):
            source = "INPUT" if task == "prompt_harmfulness" else "OUTPUT"
            yield Ask(task, path, {"source": source, "content": [{"text": {"text": text}}]})

    def read(self, task: Judged, answer: Any) -> Assessment:
        """Read whether the guardrail intervened, and for what."""
        action = answer["action"]
        if action not in ("NONE", "GUARDRAIL_INTERVENED"):
            raise ValueError("its action is unknown")
        found = [name for assessment in _entries(answer["assessments"]) for name in _reasons(assessment)]
        # A filter that acted says so, whatever the answer as a whole does.
        intervened = action == "GUARDRAIL_INTERVENED" or bool(found)
        if not intervened:
            _total(answer)
        names = name_categories(self.name, found) if intervened else ()
        return Assessment(intervened, None, names, f"the guardrail {'intervened' if intervened else 'did not intervene'}")

    def check_seen(self, ask: Ask, answer: Any) -> None:
        """As many characters as were sent have to be those of the guardrail. Its model documents no other way to count than
        that of AWS's models for strings: code points.
        """
        if _total(answer) != sum(len(content["text"]["text"]) for content in ask.body["content"]):
            raise ValueError("the guardrail counts other characters than were sent")


def _total(answer: Any) -> int:
    """The characters that a guardrail was handed, all of which it has to have looked at."""
    looked_at = answer["guardrailCoverage"]["textCharacters"]
    guarded, total = looked_at["guarded"], looked_at["total"]
    if type(guarded) is not int or type(total) is not int:
        raise ValueError("the guardrail does not say how many characters it looked at")
    if guarded != total:
        raise ValueError("the guardrail looked at a part of the text only")
    return total


def _entries(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _reasons(assessment: Mapping[str, Any]) -> Iterator[str]:
    """What a guardrail acted on; the words that matched are the judged text's, and stay where they are."""
    for policy, entries, named in (
        ("contentPolicy", "filters", "type"),
        ("topicPolicy", "topics", "name"),
        ("wordPolicy", "customWords", None),
        ("wordPolicy", "managedWordLists", "type"),
        ("sensitiveInformationPolicy", "piiEntities", "type"),
        ("sensitiveInformationPolicy", "regexes", "name"),
        ("contextualGroundingPolicy", "filters", "type"),
    ):
        judged = assessment.get(policy)
        listed = None if judged is None else judged.get(entries)
        for entry in [] if listed is None else _entries(listed):
            if entry["action"] != "NONE":
                yield "a word of the guardrail's list" if named is None else str(entry.get(named, entries))


class _Signing:
    """Signs requests with AWS credentials (signature version 4); botocore finds, renews and uses them.

    Args:
        region: where the request goes.
    """

    def __init__(self, region: str) -> None:
        self._region = region
        self._session: Any = None

    async def sign(self, request: Any) -> None:
        """Put the signature's headers on a request."""
        body = await request.aread()
        headers = {name: value for name, value in request.headers.items() if name.lower() in _KEPT}
        # In a thread: credentials may come from files, processes or the network.
        for name, value in (await asyncio.to_thread(self._headers, request.method, str(request.url), body, headers)).items():
            request.headers[name] = value

    def _headers(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.exceptions import BotoCoreError
        from botocore.session import Session

        try:
            if self._session is None:
                self._session = Session()
            credentials = self._session.get_credentials()
            frozen = None if credentials is None else credentials.get_frozen_credentials()
        except BotoCoreError as error:
            raise BackendError(f"AWS credentials cannot be had: {type(error).__name__}") from None
        if frozen is None:
            raise ConfigurationError("api_key: there are no AWS credentials; configure them as for the AWS command line")
        signed = AWSRequest(method, url, data=body, headers=dict(headers))
        SigV4Auth(frozen, "bedrock", self._region).add_auth(signed)
        return {name: value for name, value in signed.headers.items() if name.lower() not in _KEPT}
