"""Arguments that are looked at where they are given, and not where they would fail later."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import Protocol

from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.policy import Policy
from guardreasoner_sdk.verdict import Verdict

__all__ = [
    "CallContext",
    "ContextListener",
    "Listener",
    "check_backend",
    "check_context",
    "check_count",
    "check_dialect",
    "check_judge",
    "check_listener",
    "check_no_flag",
    "close_to",
    "did_you_mean",
    "policy_of",
    "takes_context",
]

CallContext = Mapping[str, str | int | float | bool]
"""What a caller says of a check: who asks, a request's number. It goes to ``on_verdict`` and onto spans, and nowhere else."""


class ContextListener(Protocol):
    """An ``on_verdict`` that is told the caller's context, too."""

    def __call__(self, exchange: Exchange, verdict: Verdict, *, context: CallContext) -> None: ...


Listener = Callable[[Exchange, Verdict], None] | ContextListener


def policy_of(policy: object) -> Policy:
    """A policy, or the fields of one.

    Raises:
        ConfigurationError: something else, or fields that a policy does not have.
    """
    if isinstance(policy, Mapping):
        return Policy(**{str(field): value for field, value in policy.items()})
    if not isinstance(policy, Policy):
        raise ConfigurationError(
            f"policy: must be a Policy or a mapping such as {{'block': ['harmful_prompt']}}, not {_shown(policy)}"
        )
    return policy


def check_listener(name: str, listener: object) -> None:
    """Refuse what cannot be called, or would have to be awaited."""
    if not callable(listener):
        raise ConfigurationError(f"{name}: must be a function of an exchange and its verdict, not {_shown(listener)}")
    if inspect.iscoroutinefunction(listener) or inspect.iscoroutinefunction(getattr(listener, "__call__", None)):  # noqa: B004
        raise ConfigurationError(f"{name}: must be a plain function; start a task in it to do something slow")


def takes_context(listener: Callable[..., None]) -> bool:
    """Whether a function wants the caller's context: it has an argument of that name, or takes any."""
    try:
        parameters = inspect.signature(listener).parameters
    except (TypeError, ValueError):  # some built-in functions have no signature
        return False
    named = parameters.get("context")
    if named is not None:
        return named.kind in (named.KEYWORD_ONLY, named.POSITIONAL_OR_KEYWORD)
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def check_context(context: object) -> CallContext:
    """A caller's context, as it will stay: names, each with a plain value.

    Args:
        context: what was given; None: nothing.

    Raises:
        InputError: something else.
    """
    if context is None:
        return {}
    fix = "pass a mapping of names to texts or numbers, such as {'request_id': '4711'}"
    if not isinstance(context, Mapping):
        raise InputError("context", f"must be a mapping, not {type(context).__name__}", fix)
    for name, value in context.items():
        if not isinstance(name, str) or not name:
            raise InputError(
                "context", f"has {name!r} for a name" if name == "" else f"has a name of type {type(name).__name__}", fix
            )
        if not isinstance(value, str | int | float):
            raise InputError(f"context[{name!r}]", f"is {type(value).__name__}", fix)
    return dict(context)


def check_count(name: str, value: object, least: int = 1) -> None:
    """Refuse what is not a whole number, or below the least."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ConfigurationError(f"{name}: must be a whole number from {least}, not {value!r}")


def check_no_flag(name: str, value: object, wanted: str) -> None:
    """Refuse True and False, which Python takes for the numbers 1 and 0."""
    if isinstance(value, bool):
        raise ConfigurationError(f"{name}: pass {wanted}, not {value}")


def check_judge(name: str, judge: object) -> None:
    """Refuse what lacks something that every judge has. Nothing is loaded: names alone are looked for."""
    _check_contract(name, judge, "judge", ("model", "backend", "batch_size"), ("judge", "aclose"))
    check_count(f"{name}.batch_size", judge.batch_size)  # type: ignore[attr-defined]


def check_dialect(name: str, dialect: object) -> None:
    """Refuse what lacks something that every dialect has."""
    _check_contract(name, dialect, "dialect", ("name",), ("ask",))


def check_backend(name: str, backend: object) -> None:
    """Refuse what lacks something that every backend has."""
    _check_contract(name, backend, "backend", ("name", "model", "batch_size", "capabilities"), ("generate", "load", "aclose"))


def close_to(word: str, known: Iterable[str]) -> list[str]:
    """The names that a word may have been meant for, the nearest first; capitals do not matter."""
    by_letters = {name.lower(): name for name in known}
    return [by_letters[name] for name in get_close_matches(word.lower(), by_letters, n=2, cutoff=0.75)]


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """What was meant, as a question: ``did you mean 'guardreasoner-8b'?``; empty where nothing is near."""
    close = close_to(word, known)
    return f"did you mean {' or '.join(map(repr, close))}?" if close else ""


def _check_contract(name: str, value: object, what: str, attributes: tuple[str, ...], methods: tuple[str, ...]) -> None:
    if isinstance(value, type):
        raise ConfigurationError(f"{name}: is the class {value.__name__}; pass a {what} made of it: {value.__name__}(...)")
    lacking = [part for part in (*attributes, *methods) if not _has(value, part)]
    lacking += [f"{part}()" for part in methods if part not in lacking and not callable(getattr(value, part))]
    if lacking:
        raise ConfigurationError(f"{name}: {_shown(value)} is not a {what}: it lacks {', '.join(lacking)}")


def _has(value: object, part: str) -> bool:
    missing = object()
    # A property may load weights: it is looked for, and not asked. What answers by __getattr__ has to be asked.
    return inspect.getattr_static(value, part, missing) is not missing or hasattr(value, part)


def _shown(value: object) -> str:
    return repr(value) if value is None or isinstance(value, bool | int | float) else type(value).__name__
