"""Running a judge so that whatever happens comes back as a judgement: failures and deadlines are undetermined findings."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

from guardreasoner_sdk._deadline import JUDGE_GRACE, Deadline
from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.errors import BackendError, ConfigurationError, DeadlineError, GuardError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import DirectJudge, Judge, keeps_deadline, sees_images
from guardreasoner_sdk.verdict import LABELS, Judgement, undetermined

__all__ = ["judge_safely", "judge_safely_now", "stops_the_task", "unable"]

logger = logging.getLogger("guardreasoner_sdk")


async def judge_safely(judge: Judge, exchanges: Sequence[Exchange], deadline: float | None) -> list[Judgement]:
    """Judge; never raise but for a configuration that cannot work.

    Args:
        deadline: time on ``time.monotonic()``, in seconds, after which the judge is cancelled unless it keeps the deadline
            itself; None for no limit.

    Raises:
        ConfigurationError: the judge cannot work at all (no model, a missing extra): to hide that helps nobody.
    """
    if (shown := _shown_to(judge, exchanges)) is not exchanges:
        texts = [exchange for exchange in shown if exchange is not None]
        return _with_unseen(exchanges, shown, await judge_safely(judge, texts, deadline) if texts else [])
    try:
        async with nullcontext() if keeps_deadline(judge) else Deadline.of(deadline).scope(JUDGE_GRACE):
            return _read(await judge.judge(exchanges, deadline=deadline), exchanges)
    except BaseException as error:
        if stops_the_task(error):
            raise
        if _alone_might_do(error, exchanges):
            # Side by side: one that hangs must not take the time of the others.
            alone = await asyncio.gather(*(judge_safely(judge, [exchange], deadline) for exchange in exchanges))
            return [judgement for [judgement] in alone]
        return unable(error, exchanges)


def judge_safely_now(judge: DirectJudge, exchanges: Sequence[Exchange], deadline: float | None) -> list[Judgement]:
    """:func:`judge_safely` for a judge that answers in the calling thread."""
    if (shown := _shown_to(judge, exchanges)) is not exchanges:
        texts = [exchange for exchange in shown if exchange is not None]
        return _with_unseen(exchanges, shown, judge_safely_now(judge, texts, deadline) if texts else [])
    try:
        return _read(judge.judge_now(exchanges, deadline=deadline), exchanges)
    except BaseException as error:
        if _stops_the_caller(error):
            raise
        if _alone_might_do(error, exchanges):
            return [judge_safely_now(judge, [exchange], deadline)[0] for exchange in exchanges]
        return unable(error, exchanges)


def _shown_to(judge: Judge, exchanges: Sequence[Exchange]) -> Sequence[Exchange | None]:
    """What a judge is handed: the very same, unless it does not see and there is something to see."""
    if not any(exchange.all_images for exchange in exchanges) or sees_images(judge):
        return exchanges
    return [exchange.without_images() for exchange in exchanges]


def _with_unseen(
    exchanges: Sequence[Exchange], shown: Sequence[Exchange | None], judgements: Sequence[Judgement]
) -> list[Judgement]:
    """Judgements on texts, as judgements on the whole: nothing that is only harmless as far as it was seen is harmless."""
    told = iter(judgements)
    found = []
    for exchange, text in zip(exchanges, shown, strict=True):
        count = len(exchange.all_images)
        cause = f"this guard reads text alone, and did not see {'an image' if count == 1 else f'{count} images'}"
        if text is None:
            found.append(Judgement.unable(cause, response=exchange.response is not None))
        else:
            found.append(_text_alone(next(told), cause) if count else next(told))
    return found


def _text_alone(judgement: Judgement, cause: str) -> Judgement:
    # What the text alone shows to be harmful is so with any image. It has no score any more, which would let a threshold or a
    # calibration say that it is harmless.
    changes: dict[str, Any] = {
        task: finding.model_copy(update={"score": None}) if finding.label == LABELS[task][0] else undetermined(cause)
        for task, finding in judgement.findings.items()
        if finding.determined
    }
    return judgement.model_copy(update=changes)


def unable(error: BaseException, exchanges: Sequence[Exchange]) -> list[Judgement]:
    """What there is to say about exchanges when their judge has failed.

    Args:
        error: what it raised; its message is repeated where it is one of ours.
    """
    if isinstance(error, TimeoutError):
        cause = str(error if isinstance(error, DeadlineError) else DeadlineError())
    elif isinstance(error, GuardError):
        cause = str(error)
    else:
        # A foreign error's message may quote the judged text; its class cannot.
        cause = f"the judge failed with {type(error).__name__}"
    logger.warning("%d exchange(s) undetermined: %s", len(exchanges), type(error).__name__)
    log_failure(logger, "the failure", error)
    return [Judgement.unable(cause, response=exchange.response is not None) for exchange in exchanges]


def _read(judgements: object, exchanges: Sequence[Exchange]) -> list[Judgement]:
    """The judgements, if that is what they are, one for each exchange. One that is none costs the others nothing."""
    if not isinstance(judgements, Sequence) or isinstance(judgements, str | bytes):
        raise BackendError(f"the judge gave {type(judgements).__name__}, not a list of judgements")
    if len(judgements) != len(exchanges):
        raise BackendError(f"the judge gave {len(judgements)} judgements for {len(exchanges)} exchanges")
    return [
        given
        if isinstance(given, Judgement)
        else unable(BackendError(f"the judge gave {type(given).__name__}, not a judgement"), [exchange])[0]
        for given, exchange in zip(judgements, exchanges, strict=True)
    ]


def _alone_might_do(error: BaseException, exchanges: Sequence[Exchange]) -> bool:
    """Whether one bad row may have failed a batch, so that the others deserve a try on their own."""
    return len(exchanges) > 1 and not isinstance(error, TimeoutError)


def stops_the_task(error: BaseException) -> bool:
    """Whether it is no failure of a judge on the guard's loop: a wrong configuration, or the end of the task that judges."""
    if isinstance(error, asyncio.CancelledError):
        task = asyncio.current_task()
        # A judge may also stumble over the cancellation of something of its own.
        return task is None or task.cancelling() > 0
    return isinstance(error, ConfigurationError | KeyboardInterrupt | GeneratorExit)


def _stops_the_caller(error: BaseException) -> bool:
    """Whether it is no failure of a judge in the calling thread: a wrong configuration, or the end of the program."""
    if isinstance(error, SystemExit):
        return _raised_by_a_signal(error)
    return isinstance(error, ConfigurationError | KeyboardInterrupt | GeneratorExit)


def _raised_by_a_signal(error: BaseException) -> bool:
    """Whether a signal's handler raised it, as servers do to end: it only happened to hit the judge."""
    if threading.current_thread() is not threading.main_thread():
        return False
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    codes = [getattr(getattr(handler, "__func__", handler), "__code__", None) for handler in handlers]
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code in codes:
            return True
        trace = trace.tb_next
    return False
