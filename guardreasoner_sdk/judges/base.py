"""The contract of a judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, TypeGuard, runtime_checkable

from guardreasoner_sdk._deadline import Deadline
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.verdict import Judgement

__all__ = ["LOOK_BACK", "DirectJudge", "Judge", "check_deadline", "is_direct", "keeps_deadline", "load_judge", "sees_images"]

LOOK_BACK = 1000
"""Characters of an answer, at least, that a check in the middle of a stream shows before what is new. A judge that wants more,
or can do with fewer, has an attribute ``look_back``."""


class Judge(Protocol):
    """Turns exchanges into judgements. Give your own to ``Guard(judge=...)``.

    The core is asynchronous and runs on the guard's own event loop, whoever calls and from wherever. A judge may raise: the
    guard makes undetermined findings of it, as it does of everything else that is no judgement for each exchange. A judge
    cannot ask the guard that it belongs to, which would wait for itself.

    One that sees to it that :meth:`judge` ends at the deadline, with a judgement for each exchange, may say so by an
    attribute ``keeps_deadline = True``: the guard then leaves it its time, and what it decided is not lost with the rest.

    One that judges the images of an exchange, too, says so by an attribute ``sees_images = True``. Any other is handed the
    text alone, and what it finds harmless in it is undetermined where there were images.

    Attributes:
        model: name of what judges, for the verdict.
        backend: name of what runs it, for the verdict.
        batch_size: most exchanges handed over in one call.

    Example:
        >>> from guardreasoner_sdk import Finding, Guard, Judgement
        >>> class Short:
        ...     model, backend, batch_size = "short", "python", 100
        ...     async def judge(self, exchanges, *, deadline):
        ...         long = [len(exchange.prompt) > 20 for exchange in exchanges]
        ...         return [Judgement(prompt_harmfulness=Finding(label="harmful" if it else "unharmful")) for it in long]
        ...     async def aclose(self):
        ...         pass
        >>> Guard(judge=Short()).check("Hi").allowed
        True
    """

    @property
    def model(self) -> str: ...

    @property
    def backend(self) -> str: ...

    @property
    def batch_size(self) -> int: ...

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Judge the exchanges, one judgement each, in order.

        Args:
            exchanges: one to ``batch_size`` of them.
            deadline: time on ``time.monotonic()``, in seconds, after which nobody waits any more; None for no limit. The
                guard enforces it; a judge may use it to stop early, and hands it on as it is.
        """
        ...

    async def aclose(self) -> None:
        """Free what the judge holds. Called once, on the guard's loop."""
        ...


@runtime_checkable
class DirectJudge(Judge, Protocol):
    """A judge fast enough to answer in the calling thread: a hop to another one would show in its latency.

    Any judge that has the method is one. :func:`is_direct` asks for it; ``isinstance`` would read the properties too, which
    may load a model.

    Example:
        >>> from guardreasoner_sdk import EmbeddedJudge, Exchange
        >>> [judgement] = EmbeddedJudge().judge_now([Exchange("How do I bake bread?")], deadline=None)
        >>> judgement.prompt_harmfulness.label
        'unharmful'
    """

    def judge_now(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        """Like :meth:`Judge.judge`, in the calling thread. It must raise ``DeadlineError`` soon after the deadline."""
        ...


def check_deadline(deadline: float | None) -> None:
    """Stop work that nobody waits for any more.

    Args:
        deadline: time on ``time.monotonic()``, in seconds, or None.

    Raises:
        DeadlineError: it has passed.
    """
    if deadline is not None:
        Deadline.of(deadline).check()


def is_direct(judge: Judge) -> TypeGuard[DirectJudge]:
    """Whether a judge answers in the calling thread.

    Args:
        judge: the judge; nothing of it is run or loaded.
    """
    return callable(getattr(judge, "judge_now", None))


def keeps_deadline(judge: Judge) -> bool:
    """Whether a judge ends at the deadline by itself, with a judgement for each exchange.

    Args:
        judge: the judge; one that does not say so does not.
    """
    return getattr(judge, "keeps_deadline", False) is True


def sees_images(judge: Judge) -> bool:
    """Whether a judge judges the images of an exchange, too.

    Args:
        judge: the judge; one that does not say so does not.
    """
    return getattr(judge, "sees_images", False) is True


async def load_judge(judge: Judge) -> None:
    """Have a judge load what it needs, if it can say so: those that hold a model have a coroutine method ``load``.

    Args:
        judge: the judge.
    """
    load = getattr(judge, "load", None)
    if load is not None:
        await load()
