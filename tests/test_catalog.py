"""The models that are known by name: what can be asked of them, and what pages and notices say of them."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from benchmark_scripts import load_benchmark
from guardreasoner_sdk import ConfigurationError, Exchange, UnknownModelError
from guardreasoner_sdk.catalog import BACKENDS, MODELS, NOT_HERE, find_model, select_models
from guardreasoner_sdk.cli import main
from guardreasoner_sdk.dialects.families import FAMILIES
from guardreasoner_sdk.dialects.label_map import label_maps
from guardreasoner_sdk.dialects.wire import read_wire_format
from guardreasoner_sdk.verdict import TASKS

ROOT = Path(__file__).parents[1]
WIRE = sorted(path.name.removesuffix(".txt") for path in files("guardreasoner_sdk.dialects").joinpath("wire").iterdir())


@pytest.mark.parametrize("info", MODELS.values(), ids=list(MODELS))
def test_every_row_is_whole(info: Any) -> None:
    assert info.dialect is None or info.dialect in (label_maps() if info.is_classifier else FAMILIES)
    assert set(info.weights) <= set(BACKENDS)
    assert info.licence is None or info.licence not in ("", "not stated")
    assert info.source
    assert info.parameters is None or 0 < info.parameters < 200
    assert info.context is None or info.context >= 256
    # Whatever is stated says where it was looked up, and nothing else does.
    assert set(info.facts) == {fact for fact in ("parameters", "context", "licence", "languages") if getattr(info, fact)}
    assert all(re.match(r"(assets/|LICENSE|arXiv:\d|[a-z0-9.-]+\.[a-z]{2,}[/ ])", address) for address in info.facts.values())
    assert all(re.fullmatch(r"[a-z]{2}|mul", language) for language in info.languages)
    assert len(set(info.languages)) == len(info.languages)
    assert info.tasks
    assert set(info.tasks) <= set(TASKS)
    repository = info.weights.get("classifier") if info.is_classifier else info.weights.get("remote")
    assert find_model(info.name) is find_model(repository or info.name) is info


def test_there_are_more_guards_than_elsewhere_and_every_family_but_the_general_ones_has_a_row() -> None:
    assert len(MODELS) >= 60
    spoken = {info.dialect for info in MODELS.values()}
    assert set(label_maps()) <= spoken
    assert set(FAMILIES) - spoken == {"guardreasoner-chat", "prompted", "rsafe"}
    assert len({info.source for info in MODELS.values()}) >= 15


def test_what_is_asked_for_is_what_comes() -> None:
    assert select_models() == tuple(MODELS.values())
    for info in select_models(task="refusal"):
        assert "response_refusal" in info.tasks
    assert select_models(task="refusal") == select_models(task="response_refusal")
    assert {"llama-guard-3-8b", "qwen3guard-8b", "polyguard-qwen"} <= {info.name for info in select_models(language="de")}
    assert "wildguard" not in {info.name for info in select_models(language="de")}
    assert {info.licence for info in select_models(licence="apache-2.0")} == {"Apache-2.0", "Apache-2.0, gated"}
    assert None not in {info.licence for info in select_models(licence="")}
    assert None not in {info.parameters for info in select_models(parameters=1000)}
    assert any(info.licence is None for info in select_models())
    assert {info.name for info in select_models(takes_policy=True, parameters=1.9)} == {"dynaguard-1.7b", "yufeng-xguard-0.6b"}
    reasoning = {info.name for info in select_models(reasons=True)}
    assert {"guardreasoner-8b", "thinkguard-8b", "gpt-oss-safeguard-20b", "granite-guardian-3.3-8b"} <= reasoning
    assert not {"embedded", "llama-guard-3-8b", "granite-guardian-3.2-5b"} & reasoning
    assert reasoning | {info.name for info in select_models(reasons=False)} == set(MODELS)
    assert "embedded" in {info.name for info in select_models(runs_here=True)}
    assert "nemoguard-8b" in {info.name for info in select_models(runs_here=False)}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "toxicity"}, "task: 'toxicity' is unknown; use prompt, refusal or response"),
        ({"language": "German"}, "language: must be a code of two letters such as 'de', not 'German'"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        select_models(**options)


def test_guards_that_are_asked_for_and_not_here_are_told_why() -> None:
    for name, asked in (("bingoguard", "BingoGuard-8B"), ("roguard", "Roblox/Llama-3.1-8B-Instruct-RoGuard-1.0")):
        with pytest.raises(UnknownModelError, match=re.escape(NOT_HERE[name])):
            find_model(asked)


def test_the_embedded_guards_languages_are_those_it_was_measured_in() -> None:
    config = json.loads((ROOT / "guardreasoner_sdk/assets/embedded/config.json").read_text("utf-8"))
    assert list(MODELS["embedded"].languages) == config["measured_languages"]


def test_the_embedded_guards_size_is_that_of_its_weights() -> None:
    """A byte each, but for under a tenth of the file."""
    size = (ROOT / "guardreasoner_sdk/assets/embedded/model.onnx").stat().st_size
    assert MODELS["embedded"].parameters == pytest.approx(size / 1e9, rel=0.1)


def test_the_page_shows_what_the_command_writes(capsys: pytest.CaptureFixture[str]) -> None:
    page = (ROOT / "docs/guards.md").read_text("utf-8")
    shown = page.partition("<!-- models -->\n")[2].partition("<!-- end of models -->")[0]
    assert main(["models", "--markdown"]) == 0
    assert shown == capsys.readouterr().out


def test_the_page_shows_what_was_found_beside_other_packages() -> None:
    script = load_benchmark("beside_any_guardrail")
    found = json.loads(script.RESULTS.read_text("utf-8"))
    page = (ROOT / "docs/guards.md").read_text("utf-8")
    shown = page.partition("<!-- beside -->\n")[2].partition("<!-- end of beside -->")[0]
    assert shown == "\n".join(script.tables(found)) + "\n"
    assert [family["dialect"] for family in found["families"]] == [family.dialect for family in script.FAMILIES]
    for family in found["families"]:
        # Nothing reads as safe here that is unsafe there, and every difference is explained.
        assert not any((reading["here"], reading["there"]) == ("safe", "unsafe") for reading in family["readings"])
        assert any(reading["here"] == reading["there"] != "undetermined" for reading in family["readings"])
        assert ("request" in family["why"]) == (False in family["requests"].values())
        assert ("reading" in family["why"]) == any(reading["here"] != reading["there"] for reading in family["readings"])


def test_what_was_read_beside_other_packages_is_read_so_still() -> None:
    script = load_benchmark("beside_any_guardrail")
    found = {family["dialect"]: family for family in json.loads(script.RESULTS.read_text("utf-8"))["families"]}
    for family in script.FAMILIES:
        for reading in found[family.dialect]["readings"]:
            assert script._reading(family, Exchange(script.PROMPT, script.RESPONSE), reading["answer"]) == reading["here"]


@pytest.mark.parametrize("name", WIRE)
def test_a_published_request_says_where_it_is_from_and_stands_in_the_notice(name: str) -> None:
    wire = read_wire_format(name)
    notice = (ROOT / "NOTICE").read_text("utf-8")
    entry = f"{name}.txt\n  for      {wire.version}\n  source   {wire.source}\n  licence  {wire.licence}\n"
    assert entry in notice


def test_every_published_request_is_used() -> None:
    sources = {info.wire_format for info in MODELS.values()} | {read_wire_format("rsafe").source}
    assert {read_wire_format(name).source for name in WIRE} == sources - {None}
    assert MODELS["llama-guard-3-8b"].wire_format is MODELS["embedded"].wire_format is None
