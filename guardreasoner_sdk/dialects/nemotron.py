"""NVIDIA's content-safety guards on the Aegis taxonomies (arXiv:2404.05993, arXiv:2501.09004 and the models' cards).

Three formats: Nemotron Safety Guard 8B v3 and NemoGuard 8B answer a fixed request with JSON
(``wire/nemotron-safety-guard.txt``); Nemotron Content Safety Reasoning 4B answers one with two lines
(``wire/nemotron-content-safety-reasoning.txt``), after thinking if asked to; Nemotron 3 and 3.5 Content Safety have their
request in the chat template. They number their categories in different ways, so that a category is read by its name.
"""

from __future__ import annotations

from typing import Any, Literal

from guardreasoner_sdk.dialects.answers import Fields, beyond_reasoning, category_fields, read_categories, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.hazards import NVIDIA
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import PublishedDialect, Reading, check_policy
from guardreasoner_sdk.dialects.quoting import fold_history, marks, quote
from guardreasoner_sdk.dialects.single_label import turns
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["NemotronContentSafetyDialect", "NemotronReasoningDialect", "NemotronSafetyGuardDialect"]

_SAFETY = {"unsafe": True, "safe": False}
_HARM = {"harmful": True, "unharmful": False}
_CATEGORIES = "safety categories"
_NAMED = category_fields(_CATEGORIES)
_SAFETY_FIELDS = Fields.of(
    {"prompt_harmfulness": ("user safety", _SAFETY), "response_harmfulness": ("response safety", _SAFETY)}, _CATEGORIES
)
_HARM_FIELDS = Fields.of({"prompt_harmfulness": ("prompt harm", _HARM), "response_harmfulness": ("response harm", _HARM)})
_SECTIONS = marks(
    "(?:user|agent|response) [:\uff1a]",
    "(?:human user|ai assistant) [:\uff1a]",
    "[{\"']? (?:(?:user|response) safety|safety categories|(?:prompt|response) harm) [\"']? [:\uff1a]",
    "< (?:begin|end) (?:unsafe|conversation)",
    "(?:provide your safety assessment for|use the taxonomy to determine|output json [:\uff1a])",
)


class _Nemotron(PublishedDialect):
    judges = ("prompt_harmfulness", "response_harmfulness")
    fields = _SAFETY_FIELDS

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the fields behind the reasoning, if there is any."""
        asked = self.tasks(title, exchange)
        parts = beyond_reasoning(answer)
        if isinstance(parts, str):
            return Reading(dict.fromkeys(asked, undetermined(parts)))
        place, begin = parts
        findings = {task: self.fields.read(answer, task, start, begin) for task in asked}
        named = read_categories(answer.text[begin:], _NAMED, NVIDIA)
        return Reading(findings, named, tuple(thoughts(answer.text, place, start)))


class NemotronSafetyGuardDialect(_Nemotron):
    """Asks and reads Nemotron Safety Guard 8B v3, or NemoGuard 8B content safety before it.

    It judges harm, of the prompt and of the response, and names categories; it does not say whether the response refuses. It
    does not reason. Earlier turns stand before the prompt, inside the user's part.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import NemotronSafetyGuardDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = NemotronSafetyGuardDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "nemotron-safety-guard"
    wire = "nemotron-safety-guard"

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for both parts."""
        wire = self.published
        said = {"prompt": fold_history(exchange, _SECTIONS), "response": quote(exchange.response or "", _SECTIONS)}
        side = "prompt side" if exchange.response is None else "response side"
        user = Message.of("user", wire.fill("user", said, sections={"conversation": side}))
        return {"answer": Query(messages=(user,), max_tokens=128, choices=CHOICES)}


class NemotronReasoningDialect(_Nemotron):
    """Asks and reads Nemotron Content Safety Reasoning 4B.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses, and names no categories.
    ``full`` has it think before it answers, ``off`` answer at once. Earlier turns stand before the prompt.

    Args:
        policy_text: what counts as harmful, in place of the model's own list; it is trusted.

    Raises:
        ConfigurationError: the policy is no text, or blank.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import NemotronReasoningDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = NemotronReasoningDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    name = "nemotron-content-safety-reasoning"
    wire = "nemotron-content-safety-reasoning"
    modes = ("auto", "full", "off")
    fields = _HARM_FIELDS

    def __init__(self, policy_text: str | None = None) -> None:
        check_policy(policy_text)
        self.policy = policy_text

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for both parts."""
        wire = self.published
        said = {
            "prompt": fold_history(exchange, _SECTIONS),
            "response": "None" if exchange.response is None else quote(exchange.response, _SECTIONS),
            "mode": "/think" if reasoning == "full" else "/no_think",
        }
        if self.policy is None:
            user = wire.fill("user", said, sections={"policy": "taxonomy"})
        else:
            user = wire.fill("user", {**said, "policy": self.policy.strip()})
        most = 1024 if reasoning == "full" else 400
        return {"answer": Query(messages=(Message.of("user", user),), max_tokens=most, choices=CHOICES)}


class NemotronContentSafetyDialect(_Nemotron):
    """Asks and reads Nemotron 3 or 3.5 Content Safety, about text and images.

    It judges harm, of the prompt and of the response, and names categories; it does not say whether the response refuses.
    Version 3.5 thinks before it answers under ``full``, and takes a policy; version 3 does neither.

    Args:
        version: ``3`` or ``3.5``.
        policy_text: what counts as harmful, in place of the model's own list; it is trusted.

    Raises:
        ConfigurationError: another version, or a policy that is no text or that the version does not take.

    Example:
        >>> from guardreasoner_sdk import Exchange
        >>> from guardreasoner_sdk.dialects import NemotronContentSafetyDialect
        >>> from guardreasoner_sdk.generation import Capabilities
        >>> program = NemotronContentSafetyDialect().ask(Exchange("How do I bake bread?"), "off", Capabilities())
        >>> [query] = next(program)  # what the engine is asked; the answer is sent in return
        >>> bool(query.pieces or query.messages)
        True
    """

    sees_images = True

    def __init__(self, version: Literal["3", "3.5"] = "3.5", *, policy_text: str | None = None) -> None:
        if version not in ("3", "3.5"):
            raise ConfigurationError(f"version: {version!r} is unknown; use '3' or '3.5'")
        check_policy(policy_text)
        if policy_text is not None and version == "3":
            raise ConfigurationError("policy_text: Nemotron 3 Content Safety takes none; use version 3.5, or leave it out")
        self.version = version
        self.policy = policy_text
        self.name = f"nemotron-{version}-content-safety"
        self.modes = ("auto", "off") if version == "3" else ("auto", "full", "off")

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query: the template writes the request, and asks about the response where there is one."""
        messages = turns(exchange, _SECTIONS)
        if exchange.response is not None:
            messages = (*messages, Message("assistant", quote(exchange.response, _SECTIONS)))
        template: dict[str, Any] = {"request_categories": "/categories"} if self.policy is None else {}
        if self.policy is not None:
            template["custom_policy"] = self.policy.strip()
        if self.version == "3.5":
            template["enable_thinking"] = reasoning == "full"
        most = 1024 if reasoning == "full" else 128
        return {"answer": Query(messages=messages, template=template, max_tokens=most, choices=CHOICES)}
