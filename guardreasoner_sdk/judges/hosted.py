"""The judge that asks a moderation service of a vendor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pydantic import SecretStr

from guardreasoner_sdk.backends.connection import Connection
from guardreasoner_sdk.errors import BackendError, ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.services.base import Ask, Assessment, Judged, Service
from guardreasoner_sdk.verdict import Finding, Judgement, ReasoningStep, undetermined

__all__ = ["HostedJudge"]


class HostedJudge:
    """Judges by a moderation service: OpenAI's, Mistral's, Azure's, Bedrock's or Google's.

    ``Guard("openai-moderation")`` builds one. Limits, retries, the circuit breaker and the deadline are those of every server
    (:class:`~guardreasoner_sdk.backends.options.ServerOptions`). What fails is undetermined, for the task that it was asked
    about: no connection, no answer in time, a status that says no, an answer that is not as the vendor documents it.

    Of a text in several pieces the strongest counts: one that is harmful decides; otherwise one that is undetermined does.

    Args:
        service: which one, with its options.
        base_url: in place of the vendor's own address.
        api_key: in place of the one in the vendor's environment variables. It is never shown.
        name: for the verdict; default: the service's.

    Raises:
        ConfigurationError: a key, an address or a setting is missing.
        MissingExtraError: what makes the key is not installed.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.judges.hosted import HostedJudge
        >>> from guardreasoner_sdk.services import OpenAIModeration
        >>> Guard(judge=HostedJudge(OpenAIModeration(), api_key="sk-...")).judge.model
        'openai-moderation'
    """

    backend = "hosted"
    batch_size = 8
    keeps_deadline = True

    def __init__(
        self,
        service: Service,
        *,
        base_url: str | None = None,
        api_key: SecretStr | str | None = None,
        name: str | None = None,
    ) -> None:
        if not isinstance(service, Service):
            raise ConfigurationError(f"service: must be a service such as OpenAIModeration(), not {type(service).__name__}")
        key = SecretStr(api_key) if isinstance(api_key, str) else api_key
        access = service.access(base_url, key)
        self.service = service
        self.model = service.name if name is None else name
        self._connection = Connection.of_service(
            access.url,
            service,
            model=service.name,
            missing=service.missing,
            headers=access.headers,
            sign=access.sign,
        )

    @property
    def sees_images(self) -> bool:
        """Whether the service judges images, too."""
        return self.service.sees_images

    def __repr__(self) -> str:
        return f"HostedJudge({self.model!r}, host={self._connection.address.host!r})"

    async def load(self) -> None:
        """Make the client. The service is not asked: that would cost a request.

        Raises:
            ClosedError: the judge was closed.
        """
        self._connection.check_open()
        await self._connection.open()

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges, all their texts side by side.

        Args:
            exchanges: what is judged.
            deadline: time on ``time.monotonic()`` after which nobody waits any more, or None.

        Raises:
            ConfigurationError: the service refuses the key, or has no such model, guardrail or template.
        """
        asks = [(number, ask) for number, exchange in enumerate(exchanges) for ask in self.service.requests(exchange)]
        answers = await self._connection.gather(self._ask(ask, deadline) for _, ask in asks)
        found: list[dict[Judged, list[Assessment | BackendError]]] = [{} for _ in exchanges]
        for (number, ask), answer in zip(asks, answers, strict=True):
            found[number].setdefault(ask.task, []).append(answer)
        return [_judgement(tasks) for tasks in found]

    async def aclose(self) -> None:
        """Close the connections."""
        await self._connection.aclose()

    async def _ask(self, ask: Ask, deadline: float | None) -> Assessment | BackendError:
        def read(answer: Any) -> Assessment:
            try:
                found = self.service.read(ask.task, answer)
                if not found.harmful:
                    self.service.check_seen(ask, answer)
                return found
            except AttributeError:  # a list or a text where there should be an object
                raise TypeError("not an object") from None

        return await self._connection.ask(ask.path, ask.body, read, query=ask.query, deadline=deadline)


def _judgement(tasks: dict[Judged, list[Assessment | BackendError]]) -> Judgement:
    findings: dict[str, Any] = {}
    categories: dict[str, None] = {}
    steps = []
    for task, answers in tasks.items():
        done = [answer for answer in answers if isinstance(answer, Assessment)]
        failed = next((answer for answer in answers if isinstance(answer, BackendError)), None)
        strongest = max(done, key=lambda one: (one.harmful, one.score or 0.0), default=None)
        if strongest is None or (failed is not None and not strongest.harmful):
            findings[task] = undetermined(str(failed))
            continue
        scores = [one.score for one in done if one.score is not None]
        score = max(scores) if len(scores) == len(answers) else None
        findings[task] = Finding(label="harmful" if strongest.harmful else "unharmful", score=score)
        categories |= dict.fromkeys(name for one in done if one.harmful for name in one.categories)
        steps.append(ReasoningStep(task=task, kind="evidence", text=strongest.said))
    return Judgement(**findings, categories=tuple(categories), reasoning=tuple(steps))
