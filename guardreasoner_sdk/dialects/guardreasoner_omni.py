"""GuardReasoner-Omni (arXiv:2602.03328) and -VL (arXiv:2505.11049) on text and images: reasoning, then a result for each part.

The requests are those of the authors' evaluation, whose words are not in this package (``wire/guardreasoner-omni.txt`` and
``wire/guardreasoner-vl.txt`` say why); that of -VL is known from the repository of -Omni only, so try it on the weights. The
answer is ``<think>...</think>`` and ``<result>`` with a line for each.
"""

from __future__ import annotations

from typing import Literal

from guardreasoner_sdk.dialects.answers import Fields, beyond_reasoning, thoughts
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.probabilities import CHOICES
from guardreasoner_sdk.dialects.published import PublishedDialect, Reading
from guardreasoner_sdk.dialects.quoting import fold_history_with_images, marks, quote
from guardreasoner_sdk.dialects.wire import Request, complete_request
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Capabilities, Completion, Message, Query
from guardreasoner_sdk.verdict import undetermined

__all__ = ["GuardReasonerOmniDialect"]

_WORDS = {"harmful": True, "unharmful": False, "harmless": False}
_FIELDS = Fields.of({"prompt_harmfulness": ("request", _WORDS), "response_harmfulness": ("response", _WORDS)})
_SECTIONS = marks(
    "(?:human user|ai assistant) [:\uff1a]",
    "(?:request|response) [:\uff1a] (?:un)?harm(?:ful|less)\\b",
    "< /? (?:think|result)>",
)


class GuardReasonerOmniDialect(PublishedDialect):
    """Asks and reads a GuardReasoner-Omni or -VL about text and images.

    It judges harm, of the prompt and of the response; it does not say whether the response refuses. It always reasons. Earlier
    turns stand before the prompt, inside the human's part, and so do images.

    Args:
        model: ``omni`` or ``vl``.
        request: the path of the authors' file that holds the request; it is not in this package.

    Raises:
        ConfigurationError: another model; no file, or not theirs; the message says where it is.

    Example:
        >>> from guardreasoner_sdk import ConfigurationError
        >>> from guardreasoner_sdk.dialects import GuardReasonerOmniDialect
        >>> try:
        ...     GuardReasonerOmniDialect()
        ... except ConfigurationError as error:
        ...     print(str(error)[:68])
        request: guardreasoner-omni is asked with a text that its authors pu
    """

    judges = ("prompt_harmfulness", "response_harmfulness")
    modes = ("auto", "full")
    sees_images = True

    def __init__(self, model: Literal["omni", "vl"] = "omni", *, request: Request | None = None) -> None:
        if model not in ("omni", "vl"):
            raise ConfigurationError(f"model: {model!r} is unknown; use 'omni' or 'vl'")
        self.name = self.wire = f"guardreasoner-{model}"
        self.request = complete_request(self.wire, request)

    def queries(self, exchange: Exchange, reasoning: Reasoning, capabilities: Capabilities) -> dict[str, Query]:
        """One query for both parts."""
        wire = self.published
        response = "None" if exchange.response is None else quote(exchange.response, _SECTIONS)
        user = wire.fill("user", {"prompt": fold_history_with_images(exchange, _SECTIONS), "response": response})
        messages = (Message.of("system", wire.fill("system")), Message.of("user", user))
        return {"answer": Query(messages=messages, max_tokens=4096, choices=CHOICES)}

    def read(self, title: str, query: Query, answer: Completion, exchange: Exchange, start: int) -> Reading:
        """Read the result behind the reasoning."""
        asked = self.tasks(title, exchange)
        parts = beyond_reasoning(answer)
        if isinstance(parts, str):
            return Reading(dict.fromkeys(asked, undetermined(parts)))
        place, begin = parts
        findings = {task: _FIELDS.read(answer, task, start, begin) for task in asked}
        return Reading(findings, reasoning=tuple(thoughts(answer.text, place, start)))
