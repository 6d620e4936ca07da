"""A base model from scratch: the sizes of the recipe, the same for the same seed, and made once."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the base is made by torch")
transformers = pytest.importorskip("transformers", reason="the base is made by transformers")
pytest.importorskip("trl", reason="the base is made for TRL")

from guardreasoner_sdk.errors import ConfigurationError, InputError  # noqa: E402
from guardreasoner_training.recipe import Recipe, ScratchSettings, override  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from samples import write  # noqa: E402

RECIPE = Recipe.model_validate(
    {
        "name": "scratch",
        "base": ScratchSettings(vocabulary=400, hidden=16, layers=3, heads=4, kv_heads=2, intermediate=24, positions=640),
        "format": "labels",
        "max_tokens": 512,
    }
)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = [{"prompt": f"How do I bake bread number {number}?", "prompt_harmful": False} for number in range(20)]
    return write(tmp_path_factory.mktemp("scratch") / "rows.jsonl", lines)


def made(rows: Path, output: Path, recipe: Recipe = RECIPE, **options: Any) -> dict[str, Any]:
    return scratch(rows, output, recipe, report=lambda _: None, **options)


@pytest.fixture(scope="module")
def base(rows: Path) -> tuple[Path, dict[str, Any]]:
    """One that was made, and its figures; who changes the folder takes a copy."""
    torch.manual_seed(1)
    return rows.with_name("base"), made(rows, rows.with_name("base"))


def test_the_model_has_the_sizes_of_the_recipe(base: tuple[Path, dict[str, Any]]) -> None:
    folder, figures = base
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    config = model.config
    assert (config.hidden_size, config.num_hidden_layers, config.num_attention_heads) == (16, 3, 4)
    assert (config.num_key_value_heads, config.intermediate_size, config.max_position_embeddings) == (2, 24, 640)
    assert config.vocab_size == len(tokenizer) == figures["vocabulary"] <= 400
    assert figures["parameters"] == model.num_parameters()
    assert tokenizer.model_max_length == 640
    assert "<|start_header_id|>" in tokenizer.chat_template
    ends = ["<|eot_id|>", "<|end_of_text|>"]
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(ends)


def test_the_tokenizer_is_learnt_on_the_rows(base: tuple[Path, dict[str, Any]]) -> None:
    tokenizer = transformers.AutoTokenizer.from_pretrained(base[0])
    for word in (" bread", " harmful", "Answers"):  # of the prompts, the instruction and the outputs
        assert len(tokenizer.encode(word, add_special_tokens=False)) <= 2
    assert len(tokenizer.encode(" zygomorphic", add_special_tokens=False)) > 4


def test_the_seed_decides_on_the_weights(rows: Path, base: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    _, first = base  # whose numbers began elsewhere
    torch.manual_seed(2)
    expected = torch.rand(1)
    torch.manual_seed(2)
    again = made(rows, tmp_path / "b")
    assert torch.equal(torch.rand(1), expected)  # nobody else's numbers are used up
    assert again == first
    assert made(rows, tmp_path / "c", override(RECIPE, {"seed": 1}))["weights"] != first["weights"]


def test_it_is_made_once(rows: Path, base: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    first = base[1]
    weights = Path(shutil.copytree(base[0], tmp_path / "base")) / "model.safetensors"
    before = weights.stat().st_mtime_ns
    assert made(rows, tmp_path / "base") == first
    assert weights.stat().st_mtime_ns == before
    with pytest.raises(InputError, match=r"base\.hidden was 16, is 32") as raised:
        made(rows, tmp_path / "base", override(RECIPE, {"base.hidden": 32}))
    assert "--restart" in raised.value.fix
    assert made(rows, tmp_path / "base", override(RECIPE, {"base.hidden": 32}), restart=True) != first


def test_a_named_base_is_not_made(rows: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="not one to make"):
        made(rows, tmp_path / "base", override(RECIPE, {"base": "meta-llama/Llama-3.2-1B"}))


def test_without_labelled_rows_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "Hi"}\n', "utf-8")
    with pytest.raises(InputError, match="no labelled row"):
        made(tmp_path / "rows.jsonl", tmp_path / "base")
