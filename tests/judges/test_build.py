"""From what a user writes to a judge: which engine, which weights, which dialect."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from guardreasoner_sdk import ConfigurationError, Guard, MissingExtraError, UnknownModelError
from guardreasoner_sdk.catalog import BACKENDS, MODELS
from guardreasoner_sdk.dialects.families import FAMILIES, sample_dialect
from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.label_map import label_maps
from guardreasoner_sdk.judges.cascade import CascadeJudge
from guardreasoner_sdk.judges.classifier import ClassifierJudge
from guardreasoner_sdk.judges.reasoner import ReasonerJudge
from guardreasoner_sdk.testing import ScriptedJudge

URL = "http://127.0.0.1:9/v1"


def reasoner(*args: Any, **options: Any) -> ReasonerJudge:
    with Guard(*args, **options) as guard:
        judge = guard.judge
    assert isinstance(judge, ReasonerJudge)
    return judge


@pytest.fixture
def every_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if every engine were installed: nothing is loaded when a guard is made."""
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: found(name, *rest) or found("json"))


@pytest.fixture
def no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if no engine but those of the core were installed."""
    found = importlib.util.find_spec
    optional = {module for info in BACKENDS.values() if info.extra for module in info.modules}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name in optional else found(name, *rest))


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize(
    ("name", "backend"),
    [
        (name, backend)
        for name, info in MODELS.items()
        for backend in info.weights
        if backend in ("vllm", "transformers", "llama_cpp")
    ],
)
def test_every_model_of_the_catalogue_is_built_for_every_engine_that_it_names(name: str, backend: str) -> None:
    # One whose request is not in this package is asked for it before anything else.
    dialect = sample_dialect(MODELS[name].dialect or "") if MODELS[name].takes_request else None
    with Guard(name, backend=backend, dialect=dialect) as guard:
        assert (guard.judge.model, guard.judge.backend) == (name, backend)
        assert isinstance(guard.judge, ReasonerJudge)
        assert guard.judge.dialect.name == MODELS[name].dialect


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize("name", [name for name, info in MODELS.items() if info.is_classifier])
def test_every_classifier_of_the_catalogue_is_built_with_its_label_map(name: str) -> None:
    with Guard(name) as guard:
        assert (guard.judge.model, guard.judge.backend) == (name, "classifier")
        assert isinstance(guard.judge, ClassifierJudge)
        assert guard.judge.labels is label_maps()[MODELS[name].dialect or ""]


@pytest.mark.usefixtures("every_engine")
def test_a_guard_that_has_loaded_nothing_has_nothing_to_free(monkeypatch: pytest.MonkeyPatch) -> None:
    with Guard("guardreasoner-1b", backend="transformers"):
        # PyTorch, imported by something else: nothing of it is asked for, and a big program not searched for garbage.
        monkeypatch.setitem(sys.modules, "torch", ModuleType("torch"))


POLICY = "Advice on medicines is harmful. Everything else is not."


def test_a_policy_of_ones_own_reaches_the_model_whatever_way_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    given = reasoner("gpt-oss-safeguard-20b", base_url=URL, policy_text=POLICY)
    monkeypatch.setenv("GUARDREASONER_POLICY_TEXT", POLICY)
    environment = reasoner("gpt-oss-safeguard-20b", base_url=URL)
    assert given.dialect.policy == environment.dialect.policy == POLICY  # type: ignore[attr-defined]
    # The screen in front of the model has its own notion; the model alone is told.
    with Guard("gpt-oss-safeguard-20b", base_url=URL, screen="embedded") as guard:
        cascade = guard.judge
    assert isinstance(cascade, CascadeJudge)
    assert cascade.second.dialect.policy == POLICY  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy_text": POLICY}, "policy_text (or GUARDREASONER_POLICY_TEXT): the embedded guard has its own notion of harm"),
        ({"request": "README.md"}, "request (or GUARDREASONER_REQUEST): the embedded guard has its own"),
        (
            {"model": "wildguard", "base_url": URL, "policy_text": POLICY},
            "policy_text: wildguard takes no policy of your own; these do: nemotron-content-safety-reasoning, ",
        ),
        ({"model": "dynaguard-8b", "base_url": URL, "policy_text": " "}, "policy_text: must be text that says what"),
        ({"model": "dynaguard-8b", "base_url": URL, "policy_text": 3}, "policy_text (or GUARDREASONER_POLICY_TEXT): Input"),
        (
            {"model": "mine", "base_url": URL, "dialect": sample_dialect("dynaguard"), "policy_text": POLICY},
            "policy_text (or GUARDREASONER_POLICY_TEXT): the dialect was made already; give it to the dialect",
        ),
        ({"judge": ScriptedJudge({}), "policy_text": POLICY}, "judge: pass either a judge, or a model and its engine"),
        ({"model": "x-guard-3b", "base_url": URL}, "request: x-guard is asked with a text that its authors publish without"),
    ],
)
def test_what_a_model_cannot_be_told_is_refused_where_the_guard_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        Guard(**arguments)


def test_every_model_speaks_a_dialect_that_exists() -> None:
    assert {info.dialect for info in MODELS.values() if info.dialect and not info.is_classifier} <= set(FAMILIES)
    for name in FAMILIES:
        assert sample_dialect(name).name == name.removesuffix("-chat")


def test_a_hub_repository_is_as_good_as_the_catalogues_name() -> None:
    judge = reasoner("yueliu1999/GuardReasoner-8B", base_url=URL)
    assert (judge.model, judge.backend, judge.dialect.name) == ("guardreasoner-8b", "remote", "guardreasoner")


def test_a_server_may_call_its_model_anything() -> None:
    judge = reasoner("my-guard", base_url=URL, dialect="llama-guard-3", reasoning="off")
    assert (judge.model, judge.dialect.name, judge.reasoning) == ("my-guard", "llama-guard-3", "off")


@pytest.mark.usefixtures("every_engine")
def test_the_note_beside_the_weights_says_how_they_are_asked(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    for note, name, rendering in (
        ({"dialect": "guardreasoner", "rendering": "chat"}, "guardreasoner", "chat"),
        ({"dialect": "guardreasoner", "rendering": "raw"}, "guardreasoner", "raw"),
        ({"dialect": "wildguard"}, "wildguard", None),
    ):
        (tmp_path / "guard.json").write_text(json.dumps(note))
        judge = reasoner(str(tmp_path), backend="transformers")
        assert judge.dialect.name == name
        assert judge.model == tmp_path.name
        if isinstance(judge.dialect, GuardReasonerDialect):
            assert judge.dialect.rendering == rendering
    assert reasoner(str(tmp_path), backend="transformers", dialect="qwen3guard").dialect.name == "qwen3guard"


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize(
    ("note", "problem"),
    [
        ("[", "is not JSON"),
        ("[]", "does not hold a JSON object"),
        ("{}", "names no known dialect"),
        ('{"dialect": null}', "names no known dialect"),
        ('{"dialect": 3}', "names no known dialect"),
        ('{"dialect": ["guardreasoner"]}', "names no known dialect"),
        ('{"dialect": "guardreasonr"}', "names no known dialect"),
        ('{"dialect": "guardreasoner", "rendering": "chatt"}', "names an unknown rendering"),
        ('{"dialect": "guardreasoner", "rendering": {}}', "names an unknown rendering"),
        ('{"dialect": NaN}', "NaN is no number"),
        ("[" * 100_000, "is not JSON"),
    ],
)
def test_a_damaged_note_is_named_with_what_is_wrong(tmp_path: Path, note: str, problem: str) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "guard.json").write_text(note)
    with pytest.raises(ConfigurationError, match=problem) as raised:
        Guard(str(tmp_path), backend="transformers")
    assert str(tmp_path / "guard.json") in str(raised.value)


@pytest.mark.usefixtures("every_engine")
def test_a_gguf_file_runs_on_llama_cpp(tmp_path: Path) -> None:
    file = tmp_path / "guard.gguf"
    file.write_bytes(b"GGUF")
    assert reasoner(str(file)).backend == "llama_cpp"
    assert reasoner("someone/Guard-GGUF:guard.Q8_0.gguf").model == "guard.Q8_0"


@pytest.mark.usefixtures("no_engine")
def test_a_missing_engine_answers_with_the_pip_line() -> None:
    vllm, transformers = (
        f"pip install 'guardreasoner-sdk[{extra}]' ({purpose})"
        for extra, purpose in (("vllm", "GPUs"), ("transformers", "any device"))
    )
    asked = "guardreasoner-8b needs an engine. On a server: base_url=URL or --base-url URL (no extra). Here: "
    with pytest.raises(MissingExtraError) as default:
        Guard("guardreasoner-8b")
    assert str(default.value) == f"{asked}{vllm} or {transformers}"
    assert default.value.extra == "vllm"
    with pytest.raises(MissingExtraError) as chosen:
        Guard("guardreasoner-8b", backend="transformers")
    assert str(chosen.value) == f"{asked}{transformers} or {vllm}"
    assert chosen.value.extra == "transformers"


def test_a_screen_stands_before_the_model() -> None:
    with Guard("my-guard", base_url=URL, screen="embedded", band=(0.2, 0.8)) as guard:
        judge = guard.judge
    assert isinstance(judge, CascadeJudge)
    assert (judge.first.backend, judge.second.backend) == ("embedded", "remote")
    assert judge.band["prompt_harmfulness"] == (0.2, 0.8)
    with Guard("my-guard", base_url=URL, screen=ScriptedJudge({})) as guard:
        assert isinstance(guard.judge, CascadeJudge)
        assert guard.judge.first.backend == "scripted"


def test_the_environment_names_screen_and_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"MODEL": "m", "BASE_URL": URL, "SCREEN": "embedded", "DIALECT": "prompted"}.items():
        monkeypatch.setenv(f"GUARDREASONER_{name}", value)
    with Guard() as guard:
        assert isinstance(guard.judge, CascadeJudge)
        assert isinstance(guard.judge.second, ReasonerJudge)
        assert guard.judge.second.dialect.name == "prompted"


@pytest.mark.usefixtures("every_engine")
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "m", "base_url": URL, "backend": "vllm"}, "base_url"),
        ({"base_url": URL}, "name the model that yours runs"),
        ({"backend": "remote"}, "name the model that yours runs"),
        (
            {"model": "guardreasoner-8b", "backend": "llama_cpp"},
            "does not run 'guardreasoner-8b', which runs on vllm, transformers",
        ),
        ({"model": "embedded", "backend": "vllm"}, "does not run 'embedded'"),
        ({"dialect": "prompted"}, "the embedded guard takes none"),
        ({"options": {"threads": 2}}, "the embedded guard takes none"),
        ({"model": "m", "base_url": URL, "dialect": "welsh"}, "dialect: 'welsh' is unknown; known are guardreasoner"),
        ({"model": "m", "base_url": URL, "options": {"speed": 9}}, "options: 'speed' is unknown"),
        ({"model": "guardreasoner-8b", "backend": "transformers", "options": {"speed": 9}}, "options: 'speed' is unknown"),
        ({"band": (0.1, 0.9)}, "belongs to a screen"),
        ({"screen": "embedded"}, "decides nothing more"),
        ({"model": "m", "base_url": URL, "screen": "guardreasoner-1b"}, "does not run 'guardreasoner-1b'"),
        ({"judge": ScriptedJudge({}), "screen": "embedded"}, "judge: pass either"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        Guard(**options)


def test_a_folder_without_a_model_and_an_unknown_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError, match="holds no model"):
        Guard(str(tmp_path))
    with pytest.raises(UnknownModelError, match="neither in the catalogue nor a folder or GGUF file"):
        Guard("guardreasoner-9b")
