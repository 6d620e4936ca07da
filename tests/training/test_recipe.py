"""Recipes: the paper's figures stand where they belong, and a slip of the pen is told."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_training.recipe import Recipe, ScratchSettings, load_recipe, override, recipe_names

PAPER = ("guardreasoner-1b", "guardreasoner-3b", "guardreasoner-8b")

# Section 4.2 of the paper and the authors' scripts: setting, and what it is for the 1B, the 3B and the 8B.
TABLE: list[tuple[str, tuple[Any, Any, Any]]] = [
    ("base", ("meta-llama/Llama-3.2-1B", "meta-llama/Llama-3.2-3B", "meta-llama/Llama-3.1-8B")),
    ("data.source", ("yueliu1999/GuardReasonerTrain",) * 3),
    ("data.splits.WildGuardTrainR", (86_759,) * 3),
    ("data.splits.AegisTrainR", (10_798,) * 3),
    ("data.splits.BeaverTailsTrainR", (27_186,) * 3),
    ("data.splits.ToxicChatTrainR", (2_801,) * 3),
    ("paper.rows", (127_544,) * 3),
    ("paper.pairs", (23_000, 14_000, 15_000)),
    ("format", ("guardreasoner",) * 3),
    ("rendering", ("chat",) * 3),
    ("max_tokens", (2048,) * 3),
    ("rsft.learning_rate", (5e-5,) * 3),
    ("rsft.schedule", ("cosine",) * 3),
    ("rsft.warmup_ratio", (0.0,) * 3),
    ("rsft.epochs", (3,) * 3),
    ("rsft.batch", (6,) * 3),
    ("rsft.accumulation", (16,) * 3),
    ("rsft.devices", (4,) * 3),
    ("rsft.effective_batch", (384,) * 3),
    ("rsft.optimizer", ("adamw_torch",) * 3),
    ("rsft.precision", ("bf16",) * 3),
    ("rsft.tuning", ("full",) * 3),
    ("rsft.clip", (1.0,) * 3),
    ("rsft.deepspeed", ("zero3",) * 3),
    ("rsft.packing", (False,) * 3),
    ("hsdpo.learning_rate", (5e-6,) * 3),
    ("hsdpo.schedule", ("cosine",) * 3),
    ("hsdpo.warmup_ratio", (0.0,) * 3),
    ("hsdpo.epochs", (2,) * 3),
    ("hsdpo.batch", (1,) * 3),
    ("hsdpo.accumulation", (64,) * 3),
    ("hsdpo.devices", (4,) * 3),
    ("hsdpo.effective_batch", (256,) * 3),
    ("hsdpo.optimizer", ("adamw_torch",) * 3),
    ("hsdpo.precision", ("bf16",) * 3),
    ("hsdpo.tuning", ("full",) * 3),
    ("hsdpo.clip", (1.0,) * 3),
    ("hsdpo.deepspeed", ("zero3",) * 3),
    ("hsdpo.beta", (0.01,) * 3),
    ("hsdpo.sft_weight", (2.0,) * 3),
    ("mine.k", (4,) * 3),
    ("mine.temperature", (1.0,) * 3),
    ("mine.top_p", (0.95,) * 3),
    ("mine.pair", ("random",) * 3),
    ("mine.gamma", (0.2,) * 3),
    ("paper.teacher", ("gpt-4o-2024-08-06",) * 3),
    ("paper.hardware", ("4 x H100 80 GB",) * 3),
    ("paper.rsft_gpu_hours", (6.33, 13.69, 25.20)),
    ("paper.hsdpo_gpu_hours", (3.70, 4.06, 5.31)),
]


def setting(recipe: Recipe, name: str) -> Any:
    value: Any = recipe
    for part in name.split("."):
        value = value[part] if isinstance(value, dict) else getattr(value, part)
    return value


@pytest.mark.parametrize("place", range(3), ids=PAPER)
@pytest.mark.parametrize(("name", "values"), TABLE, ids=[name for name, _ in TABLE])
def test_a_recipe_of_the_paper_says_what_the_paper_says(name: str, values: tuple[Any, Any, Any], place: int) -> None:
    assert setting(load_recipe(PAPER[place]), name) == values[place]


@pytest.mark.parametrize("name", PAPER)
def test_the_papers_rows_are_all_there_and_none_is_left_out(name: str) -> None:
    recipe = load_recipe(name)
    assert sum(recipe.data.splits.values()) == 127_544
    assert (recipe.data.dev_share, recipe.data.duplicates, recipe.data.contradictions) == (0.0, "keep", "keep")
    assert recipe.data.max_rows is recipe.data.per_source is recipe.data.per_prompt is recipe.data.per_labels is None


@pytest.mark.parametrize("name", PAPER)
def test_each_model_of_the_ensemble_knows_wildguard_and_two_other_sets(name: str) -> None:
    mine = load_recipe(name).mine
    others = {"Aegis*", "BeaverTails*", "ToxicChat*"}
    assert [member.sources[0] for member in mine.ensemble] == ["WildGuard*"] * 3
    assert {frozenset(member.sources[1:]) for member in mine.ensemble} == {
        frozenset(others - {left_out}) for left_out in others
    }
    assert mine.own_sources == ("WildGuard*",)


def test_the_defaults_of_the_settings_are_the_papers() -> None:
    recipe = Recipe(name="own", base="somewhere")
    assert (recipe.rsft.effective_batch, recipe.hsdpo.effective_batch) == (384, 256)
    assert (recipe.rsft.learning_rate, recipe.hsdpo.learning_rate) == (5e-5, 5e-6)
    assert recipe.mine == load_recipe("guardreasoner-1b").mine


def test_the_recipes_for_small_machines_need_one_device() -> None:
    assert set(recipe_names()) == {*PAPER, "laptop", "lora-1gpu"}
    laptop, lora = load_recipe("laptop"), load_recipe("lora-1gpu")
    assert isinstance(laptop.base, ScratchSettings)
    for stage in (laptop.rsft, laptop.hsdpo):
        assert (stage.devices, stage.precision, stage.deepspeed) == (1, "fp32", None)
    for stage in (lora.rsft, lora.hsdpo):
        assert (stage.devices, stage.tuning, stage.deepspeed) == (1, "lora", None)


def test_a_recipe_extends_another_one_table_by_table(tmp_path: Path) -> None:
    parent = tmp_path / "parent.toml"
    parent.write_text('extends = "laptop"\nname = "parent"\n[rsft]\nepochs = 7\n', "utf-8")
    child = tmp_path / "child.toml"
    child.write_text('extends = "parent.toml"\nname = "child"\nbase = "there"\n[rsft]\nbatch = 3\n', "utf-8")
    recipe = load_recipe(child)
    assert (recipe.name, recipe.base, recipe.rsft.epochs, recipe.rsft.batch) == ("child", "there", 7, 3)
    assert recipe.rsft.precision == "fp32"


def test_a_recipe_written_by_an_editor_that_marks_utf8_is_read(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_bytes(b"\xef\xbb\xbfextends = 'laptop'\nname = 'own'\n")
    assert load_recipe(path).name == "own"


def test_leaks_are_an_error_dropped_or_kept() -> None:
    assert load_recipe("lora-1gpu").data.leaks == "error"
    assert override(load_recipe("lora-1gpu"), {"data.leaks": "keep"}).data.leaks == "keep"


def test_a_recipe_that_extends_itself_is_told(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text('extends = "own.toml"\n', "utf-8")
    with pytest.raises(ConfigurationError, match="extends: leads back to itself"):
        load_recipe(path)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[rsft]\nepoch = 3", "rsft.epoch: is unknown; did you mean rsft.epochs?"),
        ("[rfst]\nepochs = 3", "rfst: is unknown; did you mean rsft?"),
        ("[data]\nwhatever = 3", "data.whatever: is unknown; use one of source, "),
        ("[rsft]\nepochs = 0", "rsft.epochs: Input should be greater than 0, not 0"),
        ('[rsft]\nprecision = "fp8"', "rsft.precision: Input should be 'bf16', 'fp32' or 'fp16', not 'fp8'"),
        ("[rsft]\nsave_steps = 1.5", "rsft: save_steps must be a whole number of steps"),
        ("[base]\nheads = 3", "base: hidden must be an even multiple of heads"),
        ("[base]\nhiden = 3", "base.hiden: is unknown; did you mean base.hidden?"),
        ("[base]\npositions = 64", "base.positions must be at least max_tokens"),
        ('format = "thinkguard"\nrendering = "raw"', "rendering must be 'chat' with the format 'thinkguard'"),
        ("[[mine.ensemble]]\nname = 'one'\nsource = ['a']", "mine.ensemble.0.source: is unknown; did you mean"),
        ("[rsft\nepochs = 3", "is not TOML"),
        ("extends = 3", "extends: must be a name or a path"),
    ],
)
def test_a_slip_of_the_pen_is_told_with_file_setting_and_fix(tmp_path: Path, text: str, told: str) -> None:
    path = tmp_path / "own.toml"
    start = "" if "extends" in text or "[rsft\n" in text else 'extends = "laptop"\n'
    path.write_text(start + text, "utf-8")
    with pytest.raises(ConfigurationError) as caught:
        load_recipe(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert told in str(caught.value)


def test_a_recipe_that_is_not_there_is_told_with_those_that_are() -> None:
    with pytest.raises(ConfigurationError, match="neither a file nor one of guardreasoner-1b, .*laptop"):
        load_recipe("guardreasoner-2b")


def test_settings_are_changed_by_their_dotted_names() -> None:
    changed = override(
        load_recipe("laptop"),
        {
            "rsft.epochs": "1",
            "rsft.packing": "true",
            "base.layers": 2,
            "export.gguf": "['q8_0']",
            "name": "mine",
            "data.source": "./x",
        },
    )
    assert (changed.rsft.epochs, changed.rsft.packing, changed.export.gguf) == (1, True, ("q8_0",))
    assert isinstance(changed.base, ScratchSettings)
    assert (changed.base.layers, changed.base.hidden, changed.name, changed.data.source) == (2, 256, "mine", "./x")


def test_a_table_that_is_not_there_yet_can_be_set() -> None:
    changed = override(load_recipe("laptop"), {"synthesize.base_url": "http://localhost:1234/v1"})
    assert changed.synthesize is not None
    assert changed.synthesize.base_url == "http://localhost:1234/v1"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("rsft.epoch", "1", "rsft.epoch: is unknown; did you mean rsft.epochs?"),
        ("rsft.epochs", "many", "rsft.epochs: Input should be a valid number"),
        ("seed.of", "1", "'seed' has no settings of its own"),
        ("rsft.lora.targets", ["model.lm_head", "q_proj"], "rsft: lora.targets must not hold lm_head"),
        ("base", "3", "base: "),
    ],
)
def test_a_wrong_change_is_told(name: str, value: str, told: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        override(load_recipe("laptop"), {name: value})
    assert told in str(caught.value)


def test_recipes_rows_and_formats_load_neither_torch_nor_transformers() -> None:
    code = (
        "import sys, guardreasoner_training.recipe, guardreasoner_training.rows, guardreasoner_training.formats, "
        "guardreasoner_training.checks, guardreasoner_training.steps; "
        "sys.exit(', '.join({'torch', 'transformers', 'pyarrow', 'onnxruntime', 'datasets'} & set(sys.modules)) or None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_key_in_the_place_of_the_teacher_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="recipe laptop: synthesize: Input should be") as caught:
        override(load_recipe("laptop"), {"synthesize": "sk-secret"})
    assert "sk-secret" not in str(caught.value)
