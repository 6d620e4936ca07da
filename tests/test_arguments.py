"""Arguments and settings that cannot work are refused where they are given, by name."""

import functools
import inspect
import logging
import re
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk import ConfigurationError, Exchange, Guard, InputError, Judgement, Policy, UnknownModelError, Verdict
from guardreasoner_sdk.backends.remote import RemoteBackend
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.evaluation.benchmarks import find_benchmark
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.judges.embedded import EmbeddedJudge
from guardreasoner_sdk.judges.reasoner import ReasonerJudge
from guardreasoner_sdk.settings import Settings
from guardreasoner_sdk.testing import ScriptedJudge, judgement

ROOT = Path(__file__).parents[1]
SERVED = {"model": "my-guard", "base_url": "http://127.0.0.1:9/v1", "screen": "embedded"}
OTHERS: dict[Callable[..., Any], dict[str, Any]] = {
    Guard: {},
    EmbeddedJudge: {},
    CascadeJudge: {"first": ScriptedJudge({}), "second": ScriptedJudge({})},
    ReasonerJudge: {"dialect": GuardReasonerDialect(), "backend": RemoteBackend("m", "http://127.0.0.1:9/v1", name="m")},
    Policy: {},
}


def parameters(made: Callable[..., Any]) -> list[str]:
    return list(Policy.model_fields) if made is Policy else list(inspect.signature(made).parameters)


# Any text will do there, or may turn out to be right when it is used: a server may call its model what it likes.
TEXTS = {(Guard, "model"), (Guard, "api_key"), (Policy, "message"), (EmbeddedJudge, "folder")}
WRONG = [object(), {"a": object()}, [object()], -1, "no such thing"]


@pytest.mark.parametrize(
    ("made", "name", "wrong"),
    [
        (made, name, wrong)
        for made in OTHERS
        for name in parameters(made)
        for wrong in WRONG
        if not (isinstance(wrong, str) and (made, name) in TEXTS)
    ],
)
def test_every_argument_is_looked_at_when_it_is_given(made: Callable[..., Any], name: str, wrong: object) -> None:
    served = made is Guard and name not in ("judge", "calibration", "policy")
    with pytest.raises(ConfigurationError, match=f"(?i)^(policy[(])?{name}"):
        made(**{**OTHERS[made], **(SERVED if served else {}), name: wrong})


@pytest.mark.parametrize(
    ("made", "name"), [(Guard, "timeout"), (Guard, "cache"), (Guard, "concurrency"), (EmbeddedJudge, "threads")]
)
def test_true_is_no_number(made: Callable[..., Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        made(**{name: True})


def test_the_fields_of_a_policy_are_as_good_as_a_policy() -> None:
    with Guard(judge=ScriptedJudge({}), policy={"block": ["harmful_prompt"], "on_undetermined": "raise"}) as guard:
        assert guard.policy == Policy(block={"harmful_prompt"}, on_undetermined="raise")
        guard.policy = {"block": ["refusal"]}  # type: ignore[assignment]
        assert guard.policy == Policy(block={"refusal"})
        with pytest.raises(ConfigurationError, match="^policy: must be a Policy or a mapping"):
            guard.policy = 3  # type: ignore[assignment]
    for fields, words in (
        ({"blok": []}, r"^Policy\(blok\)"),
        ({"block": ["harm"]}, r"^Policy\(block"),
        ({1: 2}, r"^Policy\(1\)"),
    ):
        with pytest.raises(ConfigurationError, match=words):
            Guard(policy=fields)  # type: ignore[dict-item]


class Listener:
    async def __call__(self, exchange: Exchange, verdict: Verdict) -> None: ...


async def hears(exchange: Exchange, verdict: Verdict) -> None: ...


@pytest.mark.parametrize("listener", [hears, functools.partial(hears), Listener(), Listener().__call__])
def test_a_listener_that_would_have_to_be_awaited_is_refused(listener: Any) -> None:
    with pytest.raises(ConfigurationError, match="^on_verdict: must be a plain function"):
        Guard(judge=ScriptedJudge({}), on_verdict=listener)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("mode", "held"),
        ("window", True),
        *(("timeout", seconds) for seconds in ("5", True, 0)),
        *((name, 3) for name in ("on_block", "text", "response", "check_input")),
        ("check_output", None),
    ],
)
def test_options_of_streams_and_decorators_are_looked_at_where_they_are_given(name: str, wrong: Any) -> None:
    with Guard(judge=ScriptedJudge({})) as guard:
        assert name in {*inspect.signature(guard.stream).parameters, *inspect.signature(guard.protect).parameters}
        if name in inspect.signature(guard.stream).parameters:
            with pytest.raises(ConfigurationError, match=f"^{name}: must be"):
                guard.stream("hi", [], **{name: wrong})
            with pytest.raises(ConfigurationError, match=f"^{name}: must be"):
                guard.astream("hi", aiter_of(), **{name: wrong})
        if name in inspect.signature(guard.protect).parameters:
            with pytest.raises(ConfigurationError, match=f"^{name}: must be"):
                guard.protect(**{name: wrong})(lambda prompt: prompt)


async def aiter_of() -> AsyncIterator[str]:
    yield "hi"


@pytest.mark.parametrize("fields", [{"min_score": True}, {"min_score": "0.5"}, {"message": "\u200b"}, {"message": ""}])
def test_a_policy_takes_no_flag_for_a_score_and_no_message_that_nobody_sees(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match=rf"^Policy\({next(iter(fields))}\)"):
        Policy(**fields)


class Lazy:
    """A judge whose name is known when its weights are there."""

    backend = "mine"
    batch_size = 1
    asked = 0

    @property
    def model(self) -> str:
        type(self).asked += 1
        raise AssertionError("loads the weights")

    async def judge(self, exchanges: Sequence[Exchange], *, deadline: float | None) -> list[Judgement]:
        return [judgement() for _ in exchanges]

    async def aclose(self) -> None: ...


class Proxied:
    """A judge that hands everything to another one."""

    def __init__(self, inner: object) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def test_nothing_is_loaded_to_look_at_a_judge() -> None:
    Guard(judge=Lazy()).close()
    assert Lazy.asked == 0
    Guard(judge=Proxied(ScriptedJudge({}))).close()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("judge", "words"),
    [
        (Lazy, "judge: is the class Lazy; pass a judge made of it: Lazy(...)"),
        (object(), "judge: object is not a judge: it lacks model, backend, batch_size, judge, aclose"),
        (3, "judge: 3 is not a judge"),
        (Proxied(object()), "judge: Proxied is not a judge: it lacks model"),
        (type("Half", (Lazy,), {"aclose": 3})(), "judge: Half is not a judge: it lacks aclose()"),
        (ScriptedJudge({}, batch_size=0), "judge.batch_size: must be a whole number from 1, not 0"),
    ],
)
def test_what_is_no_judge_is_told_what_it_lacks(judge: Any, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Guard(judge=judge)
    assert str(caught.value).startswith(words)


@pytest.mark.parametrize(
    ("variable", "meant"),
    [
        ("GUARDREASONER_TIMOUT", "GUARDREASONER_TIMEOUT"),
        ("guardreasoner_timeouts", "GUARDREASONER_TIMEOUT"),
        ("GUARDREASONER_ON_UNDETERMINATED", "GUARDREASONER_ON_UNDETERMINED"),
        ("GUARDREASONER_BASE_ULR", "GUARDREASONER_BASE_URL"),
        ("GUARDREASONER_MODLE", "GUARDREASONER_MODEL"),
    ],
)
def test_a_misspelt_setting_is_named(variable: str, meant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(variable, "SECRET")
    with pytest.raises(ConfigurationError) as caught:
        Guard(judge=ScriptedJudge({}))
    assert str(caught.value) == f"{variable}: is no setting; did you mean {meant}?"


def test_another_variable_is_named_once(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("GUARDREASONER_RETRY_BUDGET", "SECRET")
    caplog.set_level(logging.WARNING, "guardreasoner_sdk")
    for _ in range(3):
        Settings()
    assert [record.getMessage() for record in caplog.records] == [
        "GUARDREASONER_RETRY_BUDGET: is not a setting, and is ignored"
    ]


def test_every_variable_that_the_project_reads_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from guardreasoner_sdk.server.settings import ServerSettings
    from guardreasoner_sdk.settings import SERVER_PREFIX, known_variables

    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(path for path in (ROOT / ".ci").rglob("*") if path.is_file())]
    for folder in ("guardreasoner_sdk", "integrations", "training", "benchmarks", "docs", "examples"):
        files += [path for path in (ROOT / folder).rglob("*") if path.suffix in (".py", ".md", ".sh")]
    files += [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    named = {name for file in files for name in re.findall(r"\bGUARDREASONER_[A-Z_]*[A-Z]\b", file.read_text("utf-8"))}
    assert "GUARDREASONER_VENV" in named
    of_the_server = {f"{SERVER_PREFIX}{field.upper()}" for field in ServerSettings.model_fields}
    assert named <= known_variables() | of_the_server | {"GUARDREASONER_TIMOUT"}
    for name in known_variables() - {f"GUARDREASONER_{field.upper()}" for field in Settings.model_fields}:
        monkeypatch.setenv(name, "x")
        Settings()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("guardreasoner8b", "did you mean 'guardreasoner-8b'"),
        ("GuardReasoner-8B", "did you mean 'guardreasoner-8b'"),
        ("yueliu1999/guardreasoner-8b", "did you mean 'yueliu1999/GuardReasoner-8B'"),
        ("embeded", "did you mean 'embedded'?"),
    ],
)
def test_a_misspelt_model_is_named(name: str, words: str) -> None:
    with pytest.raises(UnknownModelError) as caught:
        Guard(name)
    assert words in str(caught.value)
    assert "known are embedded, " in str(caught.value)


def test_a_misspelt_benchmark_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'WildGuardTest'"):
        find_benchmark("WildGardTest")
    with pytest.raises(InputError) as caught:
        find_benchmark("nothing of the kind")
    assert "did you mean" not in str(caught.value)
