"""What a pipeline finds out early, where it can be stopped and gone on with, and what it writes down of a start that failed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl", reason="needs guardreasoner-sdk[train]")
pytest.importorskip("peft", reason="needs guardreasoner-sdk[train]")

from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.evaluation.rows import LabelledRow
from guardreasoner_training.finetune import finetune, finetune_recipe
from guardreasoner_training.manifest import Manifest
from guardreasoner_training.pipeline import SYSTEMS, pipeline, stages_of
from guardreasoner_training.pipeline.measure import measure_guard
from guardreasoner_training.recipe import EvaluateSettings, Recipe, load_recipe, override
from guardreasoner_training.rsft import rsft
from samples import quiet, synthetic

pytestmark = pytest.mark.filterwarnings("ignore")  # of the training's libraries, about each other

SMALL: dict[str, Any] = {
    "base.hidden": 32,
    "base.layers": 1,
    "base.heads": 2,
    "base.kv_heads": 2,
    "base.intermediate": 48,
    "base.vocabulary": 420,
    "base.positions": 1024,
    "data.dev_share": 0.15,
    "data.response_dev_share": None,
    "data.source_from_file": False,
    "rsft.epochs": 1,
    "rsft.batch": 8,
    "rsft.threads": 1,
    "hsdpo.threads": 1,
    "mine.k": 2,
    "mine.max_new_tokens": 4,
    "mine.ensemble": [],
    "evaluate.reasoning": "off",
    "evaluate.dev_rows": 4,
    "export.gguf": [],
    "export.check_rows": 0,
}


def small(**changes: Any) -> Recipe:
    """The laptop recipe with a base that learns nothing, and for that is trained at once."""
    named = {name.replace("__", "."): value for name, value in changes.items()}
    return override(load_recipe("laptop"), SMALL | named)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("rows") / "train.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in synthetic(48, 5, reasoned=False)), encoding="utf-8")
    return path


def stages_in(output: Path) -> list[str]:
    return list(json.loads((output / "manifest.json").read_bytes())["stages"])


@pytest.fixture(scope="module")
def thinkguard(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any], list[str]]:
    """A whole training for which no row is hard: what it writes is cut off before it gives an answer."""
    output, said = tmp_path_factory.mktemp("thinkguard") / "out", list[str]()
    return output, pipeline(small(format="thinkguard"), output, data=[rows], report=said.append), said


def test_a_thinkguard_is_trained_on_rows_with_responses(thinkguard: tuple[Path, dict[str, Any], list[str]]) -> None:
    recipe = small(format="thinkguard")
    assert "baseline" not in stages_of(recipe)
    assert "evaluate-baseline" not in stages_of(recipe)
    output, made, _ = thinkguard
    assert "R-SFT" in made["systems"]
    assert "label-only baseline" not in made["systems"]
    note = json.loads((output / "export" / "guard.json").read_bytes())
    assert note == {"dialect": "thinkguard"}


def test_without_hard_rows_the_r_sft_model_is_the_last_one(thinkguard: tuple[Path, dict[str, Any], list[str]]) -> None:
    output, made, said = thinkguard
    assert list(made["systems"]) == [SYSTEMS["rsft"]]
    assert "hsdpo-self: left out, pairs-self.jsonl has no pair" in said
    card = (output / "export" / "README.md").read_text("utf-8")
    assert "- stages: R-SFT\n" in card
    exported, trained = (output / name / "model.safetensors" for name in ("export", "rsft"))
    assert exported.read_bytes() == trained.read_bytes()


def test_a_thinkguard_is_fine_tuned_on_rows_with_responses(rows: Path, tmp_path: Path) -> None:
    changes = {**SMALL, "format": "thinkguard", "data.evidence": "words"}
    made = finetune([rows], tmp_path / "guard", finetune_recipe("scratch", changes=changes, gpu=False), report=quiet)
    assert list(made["systems"]) == ["after R-SFT"]
    assert (tmp_path / "guard" / "model.safetensors").is_file()


def qwen(tiny_guard: Any, folder: Path) -> Path:
    """A base that llama.cpp's files of ours cannot hold."""
    from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_guard.folder)
    config = Qwen2Config(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=2,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    return folder


def test_a_base_that_cannot_become_gguf_is_told_first(tiny_guard: Any, rows: Path, tmp_path: Path) -> None:
    base = qwen(tiny_guard, tmp_path / "base")
    recipe = small(base=str(base), export__gguf=["f16"])
    with pytest.raises(ConfigurationError, match=r"^export\.gguf: .*Qwen2ForCausalLM.* --set 'export\.gguf=\[\]' trains it"):
        pipeline(recipe, tmp_path / "out", data=[rows], report=quiet)
    assert not (tmp_path / "out").exists()
    # Without such a file it may be trained.
    pipeline(small(base=str(base)), tmp_path / "out", data=[rows], until="prepare", report=quiet)


def test_adapters_on_random_weights_are_refused(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"^rsft\.tuning: 'lora' trains adapters, .* --set rsft\.tuning=full"):
        pipeline(small(rsft__tuning="lora"), tmp_path / "out", data=[rows], report=quiet)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"hsdpo__precision": "fp16"}, ConfigurationError, r"^hsdpo\.precision: fp16 needs a GPU"),
        (
            {"mine__ensemble": [{"name": "none", "sources": ["three*"]}]},
            InputError,
            r"^mine\.ensemble: none: has no rows; correct its sources in mine\.ensemble; the rows have one, two$",
        ),
    ],
)
def test_what_would_stop_it_hours_later_is_told_behind_the_data(
    rows: Path, tmp_path: Path, changes: dict[str, Any], error: type[Exception], message: str
) -> None:
    import torch

    if torch.cuda.is_available() and "hsdpo__precision" in changes:
        pytest.skip("there is a GPU")
    with pytest.raises(error, match=message):
        pipeline(small(**changes), tmp_path / "out", data=[rows], report=quiet)
    assert stages_in(tmp_path / "out") == ["prepare"]


def test_it_stops_behind_a_stage_and_finds_complete_what_was_done_by_hand(rows: Path, tmp_path: Path) -> None:
    recipe, output = small(mine__ensemble=[{"name": "second", "sources": ["two"]}]), tmp_path / "out"
    said: list[str] = []
    stopped = pipeline(recipe, output, data=[rows], until="base", report=said.append)
    assert stopped == {"systems": {}, "table": "", "guard": None}
    assert said[-1] == "stopped after base; the same command without --until goes on"
    assert stages_in(output) == ["prepare", "base"]
    for name, given in (("rsft", "data/train.jsonl"), ("member-second", "members/second.jsonl")):
        rsft(output / given, output / "base", output / name, recipe, report=quiet)
    before = (output / "rsft" / "model.safetensors").stat().st_mtime_ns
    said.clear()
    pipeline(recipe, output, data=[rows], until="member-second", report=said.append)
    assert [line for line in said if "is there already" in line] == [
        f"[{number}/13] {name}: is there already"
        for number, name in ((1, "prepare"), (2, "base"), (4, "rsft"), (5, "member-second"))
    ]
    assert (output / "rsft" / "model.safetensors").stat().st_mtime_ns == before
    assert stages_in(output) == ["prepare", "base", "baseline", "rsft", "member-second"]
    # A start that a stage refuses leaves the manifest as it was, and says how that stage is redone.
    kept = (output / "manifest.json").read_bytes()
    other = override(recipe, {"rsft.epochs": 2, "mine.ensemble": []})
    with pytest.raises(
        InputError, match=r"rsft\.epochs was 1\.0, is 2\.0; name another --output, or pass --restart baseline to"
    ):
        pipeline(other, output, data=[rows], report=quiet)
    assert (output / "manifest.json").read_bytes() == kept
    pipeline(other, output, data=[rows], restart="baseline", until="baseline", report=quiet)
    assert json.loads((output / "manifest.json").read_bytes())["recipe"]["rsft"]["epochs"] == 2
    assert stages_in(output) == ["prepare", "base", "baseline", "rsft"]


def test_a_stage_that_is_not_there_is_no_place_to_stop_at(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"^--until: 'hsdpo' is not a stage of this; name one of prepare, base, baseline, rsft"
    ):
        pipeline(small(), tmp_path / "out", data=[rows], until="hsdpo", report=quiet)


def test_the_manifest_is_of_the_last_start_that_something_came_of(tmp_path: Path) -> None:
    folder = tmp_path / "stage"

    def made() -> dict[str, Any]:
        folder.mkdir(exist_ok=True)
        (folder / "stage.json").write_text("{}")
        return {"loss": 1}

    def refused() -> dict[str, Any]:
        raise InputError("--output", "was made with other settings", "pass --restart")

    def recipe() -> Any:
        return json.loads((tmp_path / "manifest.json").read_bytes())["recipe"]

    Manifest(tmp_path, {"seed": 1}, {}).stage("stage", folder, made)
    second = Manifest(tmp_path, {"seed": 2}, {})
    second.keep_only(["stage"])
    with pytest.raises(InputError):
        second.stage("stage", folder, refused)
    assert recipe() == {"seed": 1}
    Manifest(tmp_path, {"seed": 3}, {}).stage("stage", folder, made)
    assert recipe() == {"seed": 3}
    with pytest.raises(InputError):
        Manifest(tmp_path, {"seed": 4}, {}).stage("stage", folder, refused, again=True)
    assert recipe() == {"seed": 4}  # what was there is gone


def test_what_is_published_names_no_place(tmp_path: Path) -> None:
    local = tmp_path / "bases" / "my-base"
    settings = {
        "base": str(local),
        "data": {"source": "owner/rows", "benchmarks": [str(tmp_path / "b.jsonl"), "ToxicChat"], "dev_share": 0.1},
        "synthesize": {"base_url": "https://user:secret@teacher.internal/v1", "model": "owner/teacher"},
    }
    files = {str(tmp_path / "a" / "rows.jsonl"): "one", str(tmp_path / "b" / "rows.jsonl"): "two", "../up.jsonl": "three"}
    published = Manifest(tmp_path, settings, {"files": files}).published()
    assert published["recipe"] == {
        "base": "my-base",
        "data": {"source": "owner/rows", "benchmarks": ["b.jsonl", "ToxicChat"], "dev_share": 0.1},
        "synthesize": {"base_url": None, "model": "owner/teacher"},
    }
    assert published["data"]["files"] == {"rows.jsonl": "one", "rows.jsonl (2)": "two", "up.jsonl": "three"}
    assert str(tmp_path) in (tmp_path / "manifest.json").read_text("utf-8")  # the training's own keeps all


@pytest.mark.parametrize("engine", ["llama_cpp", "auto"])
def test_weights_converted_for_a_measurement_do_not_stay(tiny_guard: Any, tmp_path: Path, engine: Any) -> None:
    pytest.importorskip("llama_cpp", reason="llama.cpp is not installed")
    pytest.importorskip("gguf", reason="needs guardreasoner-sdk[train]")
    from guardreasoner_sdk.exchange import Exchange

    asked = [LabelledRow("r1", "dev", Exchange("How do I bake bread?"), {"prompt_harmfulness": False})]
    settings = EvaluateSettings(engine=engine, reasoning="off")
    found = measure_guard(tiny_guard.folder, asked, tmp_path / "out", settings, threads=1)
    assert found["rows"] == 1
    assert not list((tmp_path / "out").glob("*.gguf"))
    (kept,) = (tmp_path / "out" / "verdicts.jsonl").read_text("utf-8").splitlines()
    assert '"backend":"llama_cpp"' in kept.replace(" ", "")  # which is the faster one without a GPU
