"""Errors, and what they carry, go wherever Python objects go: into files, queues and other processes."""

import ast
import copy
import functools
import importlib
import inspect
import multiprocessing
import pickle
import re
import warnings
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import (
    BackendError,
    BlockedError,
    DeadlineError,
    Exchange,
    Guard,
    GuardError,
    InputError,
    MissingExtraError,
    Policy,
    UndeterminedError,
    UnknownModelError,
    Verdict,
    errors,
)
from guardreasoner_sdk.catalog import find_model
from guardreasoner_sdk.testing import ScriptedJudge, judgement

ROOT = Path(__file__).parents[1]
PACKAGES = [
    ROOT / "guardreasoner_sdk",
    ROOT / "integrations/guardreasoner_integrations",
    ROOT / "training/guardreasoner_training",
]

COPIES: dict[str, Callable[[Any], Any]] = {
    **{
        f"pickle, protocol {number}": lambda thing, number=number: pickle.loads(pickle.dumps(thing, number))
        for number in range(pickle.HIGHEST_PROTOCOL + 1)
    },
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def verdict(label: Any = "harmful") -> Verdict:
    with Guard(judge=ScriptedJudge(lambda _: judgement(label))) as guard:
        return guard.check("hi")


@functools.cache
def modules_with_errors() -> list[str]:
    """Names of the modules that define a class which may be an error: one whose base is called so, or is built in."""
    found = []
    for package in PACKAGES:
        for path in sorted(package.rglob("*.py")):
            source = path.read_text("utf-8")
            # Every worker collects, and parsing all sources takes seconds: first those that may have one.
            if not re.search(r"\bclass \w+\([^:]*(Error|Exception)\b", source):
                continue
            for node in ast.walk(ast.parse(source)):
                bases = [ast.unparse(base).split(".")[-1] for base in node.bases] if isinstance(node, ast.ClassDef) else []
                if any(base.endswith(("Error", "Exception")) for base in bases):
                    parts = path.relative_to(package.parent).with_suffix("").parts
                    found.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
                    break
    return found


def errors_of(module: str) -> list[type[BaseException]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # those of frameworks, while they are imported
        try:
            names = vars(importlib.import_module(module))
        except ImportError as error:
            pytest.skip(f"{module} needs what is not installed here: {error}")
    return [
        kind
        for kind in names.values()
        if isinstance(kind, type) and issubclass(kind, BaseException) and kind.__module__ == module
    ]


def made(kind: type[BaseException]) -> BaseException:
    """An error of a class, with something other than the default in every argument."""
    given: dict[str, Any] = {
        "verdict": verdict(),
        "status": 503,
        "room": 7,
        "too_long": True,
        "wish": 1.5,
        "error": ValueError("x"),
    }
    parameters = inspect.signature(kind.__init__).parameters.values()
    values = {
        p.name: given.get(p.name, f"some {p.name}") for p in parameters if p.name != "self" and p.kind is not p.VAR_KEYWORD
    }
    if any(parameter.kind is parameter.VAR_POSITIONAL for parameter in parameters):
        return kind("some message")
    return kind(**values)


def state(error: BaseException) -> dict[str, Any]:
    shown = {name: getattr(error, name) for name in ("msg", "name", "path", "errno") if hasattr(error, name)}
    own = {name: getattr(value, "__dict__", value) for name, value in vars(error).items()}
    return {**own, **shown, "args": error.args, "str": str(error), "type": type(error)}


def test_the_walk_finds_the_errors_there_are() -> None:
    found = modules_with_errors()
    assert {"guardreasoner_sdk.errors", "guardreasoner_integrations._json"} <= set(found)
    assert {getattr(errors, name) for name in errors.__all__} <= set(errors_of("guardreasoner_sdk.errors"))


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("module", modules_with_errors())
def test_every_error_of_the_packages_survives(module: str, way: str) -> None:
    for kind in errors_of(module):
        error = made(kind)
        assert state(COPIES[way](error)) == state(error)


@pytest.mark.parametrize("way", COPIES)
def test_verdicts_and_what_they_are_made_of_survive(way: str) -> None:
    blocked = verdict()
    exchange = Exchange("hi", "there", [{"role": "system", "content": "be kind"}])
    for thing in (blocked, blocked.prompt_harmfulness, blocked.usage, judgement("harmful"), exchange, Policy(min_score=0.5)):
        twin = COPIES[way](thing)
        assert (type(twin), twin) == (type(thing), thing)


class TenantError(BlockedError):
    """An application's own: it takes more than the error it is one of."""

    def __init__(self, verdict: Verdict, tenant: str) -> None:
        super().__init__(verdict)
        self.tenant = tenant


class UnpicklableError(Exception):
    def __init__(self, a: str, b: str) -> None:
        super().__init__(f"{a}{b}")


@pytest.mark.parametrize("way", COPIES)
def test_a_subclass_keeps_what_it_adds(way: str) -> None:
    twin = COPIES[way](TenantError(verdict(), "acme"))
    assert (twin.tenant, twin.verdict, str(twin)) == ("acme", verdict_like(twin), str(BlockedError(twin.verdict)))


def verdict_like(error: TenantError) -> Verdict:
    assert error.verdict.prompt_harmfulness is not None
    assert error.verdict.prompt_harmfulness.label == "harmful"
    return error.verdict


@pytest.mark.parametrize("way", COPIES)
def test_notes_and_cause_go_with_an_error(way: str) -> None:
    error = BackendError("no answer")
    error.add_note("row 7")
    error.__cause__ = DeadlineError()
    error.__cause__.__cause__ = KeyError("low")
    twin = COPIES[way](error)
    assert twin.__notes__ == ["row 7"]
    assert (type(twin.__cause__), str(twin.__cause__)) == (DeadlineError, "no judgement before the deadline")
    assert repr(twin.__cause__.__cause__) == "KeyError('low')"
    assert twin.__suppress_context__


@pytest.mark.parametrize("way", COPIES)
def test_a_cause_that_cannot_be_carried_over_is_left_behind(way: str) -> None:
    error = InputError("prompt", "is empty", "pass text")
    error.__cause__ = UnpicklableError("a", "b")
    twin = COPIES[way](error)
    assert (twin.field, twin.__cause__) == ("prompt", None)


def test_an_error_with_its_own_cause_in_a_ring_is_read_again() -> None:
    error = BackendError("no answer")
    error.__cause__ = error
    assert str(pickle.loads(pickle.dumps(error))) == "no answer"


@pytest.mark.parametrize(
    "method", [name for name in ("spawn", "forkserver") if name in multiprocessing.get_all_start_methods()]
)
def test_errors_come_back_from_other_processes(method: str) -> None:
    calls: list[tuple[Callable[..., Any], Any, type[GuardError]]] = [
        (Verdict.raise_for_block, verdict(), BlockedError),
        (Verdict.raise_for_block, verdict("undetermined"), UndeterminedError),
        (Exchange, "", InputError),
        (find_model, "nope", UnknownModelError),
    ]
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(1, mp_context=context) as executor:
        for call, argument, kind in calls:
            with pytest.raises(kind) as caught:
                executor.submit(call, argument).result()
            assert type(caught.value) is kind
            assert "Traceback" in str(caught.value.__cause__)  # the other process's, as concurrent.futures puts it there
        extra = executor.submit(MissingExtraError, "parquet", "Parquet files").result()
        assert (extra.extra, str(extra)) == ("parquet", str(MissingExtraError("parquet", "Parquet files")))
        travelled = executor.submit(copy.copy, BlockedError(verdict())).result()
        assert travelled.verdict.action == "block"
    with context.Pool(1) as pool:
        for call, argument, kind in calls:
            with pytest.raises(kind):
                pool.apply(call, (argument,))
