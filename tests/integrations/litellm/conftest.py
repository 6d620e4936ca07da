"""A guard for the guardrail's tests."""

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest

with warnings.catch_warnings():
    # litellm's own types and dependencies warn while they are imported.
    warnings.simplefilter("ignore")
    pytest.importorskip("litellm", reason="pip install 'guardreasoner-sdk[litellm]'")
    import litellm
    import litellm.integrations.custom_guardrail
    import litellm.types.llms.openai
    import litellm.types.utils

    litellm.types.llms.openai.ResponsesAPIResponse(id="", created_at=0, output=[])  # builds what is built on first use
    litellm.ModelResponse(choices=[{"message": {"role": "assistant", "content": ""}}])
    litellm.types.utils.TextCompletionResponse(choices=[litellm.types.utils.TextChoices(text="")])
    litellm.types.utils.ModelResponseStream(choices=[litellm.types.utils.StreamingChoices()])

from guardreasoner_integrations.litellm import GuardReasonerGuardrail
from guardreasoner_sdk import Exchange, Guard, Judgement, Policy
from guardreasoner_sdk.testing import ScriptedJudge, judgement

LITELLMS_OWN = [
    # Its types are built when they are first used, and what it logs in the background outlives the event loop of a test.
    pytest.mark.filterwarnings("ignore:Items? .* on TypedDict class:UserWarning"),
    pytest.mark.filterwarnings("ignore:coroutine 'Logging:RuntimeWarning"),
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <coroutine object Logging:pytest.PytestUnraisableExceptionWarning"
    ),
    pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


def label(text: str) -> Any:
    return "undetermined" if "unsure" in text else "harmful" if "bad" in text else "unharmful"


def by_words(exchange: Exchange) -> Judgement:
    prompt = label(exchange.prompt)
    return judgement(prompt) if exchange.response is None else judgement(prompt, "compliance", label(exchange.response))


@pytest.fixture
def make(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., GuardReasonerGuardrail]]:
    """Makes a guardrail and registers it with litellm."""
    made: list[GuardReasonerGuardrail] = []

    def make(policy: dict[str, Any] | None = None, script: Any = by_words, **options: Any) -> GuardReasonerGuardrail:
        guard = Guard(judge=ScriptedJudge(script), policy=Policy(**(policy or {})))
        made.append(GuardReasonerGuardrail("guard", guard=guard, **{"default_on": True, **options}))
        monkeypatch.setattr(litellm, "callbacks", [made[-1]])
        return made[-1]

    yield make
    for guardrail in made:
        guardrail.guard.close()
