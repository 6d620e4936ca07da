"""Running a judge so that whatever happens comes back as a judgement: failures and deadlines are undetermined findings."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence

from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.errors import BackendError, ConfigurationError, DeadlineError, GuardError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.judges.base import DirectJudge, Judge
from guardreasoner_sdk.verdict import Judgement

__all__ = ["judge_carefully", "judge_carefully_now"]

logger = logging.getLogger("guardreasoner_sdk")


async def judge_carefully(judge: Judge, exchanges: Sequence[Exchange], deadline: float | None) -> list[Judgement]:
    """Judge; never raise but for a configuration that cannot work.

    Args:
        judge: who judges.
        exchanges: what.
        deadline: time on ``time.monotonic()``, in seconds, after which the judge is cancelled; None for no limit.

    Raises:
        ConfigurationError: the judge cannot work at all (no model, a missing extra): to hide that helps nobody.
    """
    try:
        async with asyncio.timeout(None if deadline is None else max(0.0, deadline - time.monotonic())):
            return _counted(await judge.judge(exchanges, deadline=deadline), exchanges)
    except ConfigurationError:
        raise
    except Exception as error:
        if _alone_might_do(error, exchanges):
            return [(await judge_carefully(judge, [exchange], deadline))[0] for exchange in exchanges]
        return _unable(error, exchanges)


def judge_carefully_now(judge: DirectJudge, exchanges: Sequence[Exchange], deadline: float | None) -> list[Judgement]:
    """:func:`judge_carefully` for a judge that answers in the calling thread."""
    try:
        return _counted(judge.judge_now(exchanges, deadline=deadline), exchanges)
    except ConfigurationError:
        raise
    except Exception as error:
        if _alone_might_do(error, exchanges):
            return [judge_carefully_now(judge, [exchange], deadline)[0] for exchange in exchanges]
        return _unable(error, exchanges)


def _counted(judgements: list[Judgement], exchanges: Sequence[Exchange]) -> list[Judgement]:
    if len(judgements) != len(exchanges):
        raise BackendError(f"the judge gave {len(judgements)} judgements for {len(exchanges)} exchanges")
    return judgements


def _alone_might_do(error: Exception, exchanges: Sequence[Exchange]) -> bool:
    """Whether one bad row may have failed a batch, so that the others deserve a try on their own."""
    return len(exchanges) > 1 and not isinstance(error, TimeoutError)


def _unable(error: Exception, exchanges: Sequence[Exchange]) -> list[Judgement]:
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
