"""Parts for tests of applications that use a guard: verdicts to order, without a model."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence

from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Finding, Judgement, Label, undetermined

__all__ = ["ScriptedJudge", "judgement"]

Answer = Judgement | BaseException


def judgement(prompt: Label | None = "unharmful", refusal: Label | None = None, response: Label | None = None) -> Judgement:
    """A judgement with the labels given; scores are 1 for a positive label and 0 for a negative one.

    Args:
        prompt: ``harmful``, ``unharmful``, ``undetermined``, or None for "not judged".
        refusal: ``refusal``, ``compliance``, ``undetermined`` or None.
        response: ``harmful``, ``unharmful``, ``undetermined`` or None.

    Example:
        >>> from guardreasoner_sdk.testing import judgement
        >>> judgement("harmful").prompt_harmfulness.score
        1.0
    """

    def finding(label: Label | None) -> Finding | None:
        if label is None:
            return None
        if label == "undetermined":
            return undetermined("scripted")
        return Finding(label=label, score=1.0 if label in ("harmful", "refusal") else 0.0)

    return Judgement(
        prompt_harmfulness=finding(prompt), response_refusal=finding(refusal), response_harmfulness=finding(response)
    )


class ScriptedJudge:
    """A judge that says what it is told: ``Guard(judge=ScriptedJudge({"how are you": judgement()}))``.

    It runs where an engine would, on the guard's event loop, so that an application's tests take the real path.

    Args:
        script: judgements by prompt, or a function from exchange to judgement, which may be asynchronous. An exception, in
            place of a judgement or raised by the function, is raised to the guard as an engine's failure would be.
        otherwise: the answer for a prompt that is not in the script; None: it fails with ``KeyError``.
        batch_size: most exchanges handed over in one call.
        sees_images: whether it is one that judges images.

    Example:
        >>> from guardreasoner_sdk import Guard
        >>> from guardreasoner_sdk.testing import ScriptedJudge, judgement
        >>> guard = Guard(judge=ScriptedJudge({"bad": judgement("harmful")}, otherwise=judgement()))
        >>> guard.check("bad").allowed, guard.check("good").allowed
        (False, True)
    """

    model = "scripted"
    backend = "scripted"

    def __init__(
        self,
        script: Mapping[str, Answer] | Callable[[Exchange], Answer | Awaitable[Answer]],
        *,
        otherwise: Answer | None = None,
        batch_size: int = 1,
        sees_images: bool = False,
    ) -> None:
        self._script = script
        self._otherwise = otherwise
        self.batch_size = batch_size
        self.sees_images = sees_images
        self.seen: list[Exchange] = []
        """Every exchange judged, in the order of arrival."""

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Answer from the script."""
        self.seen.extend(exchanges)
        answers = []
        for exchange in exchanges:
            answer = self._answer(exchange)
            if inspect.isawaitable(answer):
                answer = await answer
            if isinstance(answer, BaseException):
                raise answer
            answers.append(answer)
        return answers

    def _answer(self, exchange: Exchange) -> Answer | Awaitable[Answer]:
        if not isinstance(self._script, Mapping):
            return self._script(exchange)
        answer = self._script.get(exchange.prompt, self._otherwise)
        return KeyError(exchange.prompt) if answer is None else answer

    async def aclose(self) -> None:
        """Nothing to free."""
