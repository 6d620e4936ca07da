"""What a log may hold of a failure: classes and lines of code, and nothing that was judged."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from guardreasoner_sdk.errors import ConfigurationError

__all__ = ["config_errors", "log_failure", "trail"]

_FRAMES = 30


def log_failure(logger: logging.Logger, message: str, error: BaseException) -> None:
    """Log a failure for whoever looks for its cause, at level DEBUG.

    ``exc_info`` would do more than that: it prints the message of the error, and of those behind it, and a foreign error's
    message may quote the judged text.
    """
    if logger.isEnabledFor(logging.DEBUG):
        logger.debug("%s: %s", message, trail(error))


@contextmanager
def config_errors(told: Callable[[Exception], str | Exception]) -> Iterator[None]:
    """Load something by foreign code: whatever it raises is a wrong configuration.

    The one place where all of it is caught: onnxruntime, tokenizers, transformers, torch, vLLM and llama.cpp raise bare classes
    of their own, and other ones with each version. Nothing was judged yet, so that their words can be shown.

    Args:
        told: from what was raised to the message, or to the error itself.

    Raises:
        ConfigurationError: with that message. One that was raised inside stays as it is.
    """
    try:
        yield
    except ConfigurationError:
        raise
    except Exception as error:
        found = told(error)
        raise (ConfigurationError(found) if isinstance(found, str) else found) from error


def trail(error: BaseException) -> str:
    """The class of an error and the lines of code that it came through, then those of the errors behind it.

    Args:
        error: what was raised; neither its message nor any local variable is read.

    Returns:
        one line: ``builtins.ValueError at app.main:17 > app.parse:3; after builtins.KeyError at app.parse:2``, the line that
        raised last.
    """
    return "; after ".join(_one(each) for each in _chain(error))


def _chain(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    following: BaseException | None = error
    while following is not None and id(following) not in seen:
        seen.add(id(following))
        yield following
        following = following.__cause__ or (None if following.__suppress_context__ else following.__context__)


def _one(error: BaseException) -> str:
    frames = [f"{frame.f_globals.get('__name__', '?')}:{line}" for frame, line in traceback.walk_tb(error.__traceback__)]
    if len(frames) > _FRAMES:
        frames = [*frames[: _FRAMES // 2], "...", *frames[-_FRAMES // 2 :]]
    name = f"{type(error).__module__}.{type(error).__qualname__}"
    inner = f" of [{', '.join(map(trail, error.exceptions))}]" if isinstance(error, BaseExceptionGroup) else ""
    return f"{name}{inner} at {' > '.join(frames)}" if frames else f"{name}{inner}"
