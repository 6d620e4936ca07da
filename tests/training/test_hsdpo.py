"""HS-DPO as a stage: what it reads, what it leaves out, what its folder is, and that its variants agree."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
transformers = pytest.importorskip("transformers", reason="training needs transformers")
pytest.importorskip("trl", reason="training needs TRL")

from guardreasoner_sdk.errors import ConfigurationError, InputError  # noqa: E402
from guardreasoner_training._trainers.arguments import layout  # noqa: E402
from guardreasoner_training._trainers.dpo import HSDPOTrainer  # noqa: E402
from guardreasoner_training.hsdpo import hsdpo  # noqa: E402
from guardreasoner_training.recipe import HSDPOSettings, override  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from samples import TRAINER, small_recipe, write  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RECIPE = small_recipe("hsdpo", hsdpo=TRAINER)


def answer(label: str) -> str:
    return f"Answers: \nRequest: {label}\nCompletion: None\nResponse: None"


def pair(number: int, **changes: Any) -> dict[str, Any]:
    right, wrong = ("harmful", "unharmful") if number % 2 else ("unharmful", "harmful")
    return {
        "id": str(number),
        "prompt": f"How do I {'bomb' if number % 2 else 'bake'} number {number}?",
        "response": None,
        "chosen": answer(right),
        "rejected": answer(wrong),
        "alpha": 0.8 + number / 20,
        **changes,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("hsdpo")
    rows = [{"prompt": pair(number)["prompt"], "prompt_harmful": bool(number % 2)} for number in range(8)]
    scratch(write(folder / "rows.jsonl", rows), folder / "base", RECIPE, report=lambda _: None)
    write(folder / "pairs.jsonl", [pair(number) for number in range(8)])
    return folder


def trained(
    folder: Path, output: Path, pairs: Path | None = None, said: list[str] | None = None, **settings: Any
) -> dict[str, Any]:
    report: Callable[[str], None] = (lambda _: None) if said is None else said.append
    changes = {f"hsdpo.{name.replace('__', '.')}": value for name, value in settings.items()}
    return hsdpo(pairs or folder / "pairs.jsonl", folder / "base", output, override(RECIPE, changes), report=report)


def without_times(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in figures.items() if name != "seconds"}


def test_it_learns_to_prefer_the_right_answers(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    figures = trained(folder, tmp_path / "out", said=said, epochs=10, beta=0.5)
    assert (figures["rows"], figures["too_long"], figures["steps"]) == (8, 0, 20)
    assert figures["loss"] < figures["first_loss"]
    assert figures["rewards/margins"] > 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(log) == 20
    # Nothing is preferred at first: the policy is the reference.
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert {"preference", "sft", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "seconds"} <= log[0].keys()
    assert said[0].startswith("8 pairs, ")


def test_the_folder_is_a_guard(folder: Path, tmp_path: Path) -> None:
    trained(folder, tmp_path / "out", epochs=1)
    names = {path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")}
    assert names == {
        *(
            "config.json",
            "generation_config.json",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json",
            "guard.json",
        ),
        *("stage.json", "figures.json", "log.jsonl", "loss.png", "encoded", "checkpoints"),
    }
    assert json.loads((tmp_path / "out" / "guard.json").read_text()) == {"dialect": "guardreasoner", "rendering": "chat"}
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "out")
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert "<|start_header_id|>" in tokenizer.chat_template


def test_one_model_in_memory_gives_what_two_give(folder: Path, tmp_path: Path) -> None:
    two = trained(folder, tmp_path / "two")
    one = trained(folder, tmp_path / "one", precompute_reference=True)
    assert one["loss"] == pytest.approx(two["loss"], abs=1e-5)
    assert one["preference"] == pytest.approx(two["preference"], abs=1e-5)
    assert one["rewards/margins"] == pytest.approx(two["rewards/margins"], abs=1e-5)


def test_adapters_are_trained_and_merged(folder: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    figures = trained(folder, tmp_path / "out", tuning="lora", lora__rank=4, epochs=4)
    assert figures["loss"] < figures["first_loss"]
    assert (tmp_path / "out" / "adapter" / "adapter_config.json").exists()
    before, after = load_file(folder / "base" / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed
    assert all("_proj" in name for name in changed)


def test_weights_and_sft_term_change_what_is_learnt(folder: Path, tmp_path: Path) -> None:
    even = write(tmp_path / "even.jsonl", [pair(number, alpha=1.0) for number in range(8)])
    found = {
        name: trained(folder, tmp_path / name, pairs, **settings)["weights"]["model.safetensors"]
        for name, pairs, settings in (
            ("weighted", None, {"beta": 0.5}),
            ("even", even, {"beta": 0.5}),
            ("no-sft", None, {"beta": 0.5, "sft_weight": 0.0}),
            ("weighted-again", None, {"beta": 0.5}),
        )
    }
    assert found["weighted"] == found["weighted-again"]
    assert len(set(found.values())) == 3


def test_pairs_that_are_too_long_are_left_out_and_counted(folder: Path, tmp_path: Path) -> None:
    long = answer("harmful") + " and more" * 300
    pairs = write(
        tmp_path / "pairs.jsonl", [*(pair(number) for number in range(4)), pair(4, rejected=long), pair(5, chosen=long)]
    )
    figures = trained(folder, tmp_path / "out", pairs, epochs=1)
    assert (figures["rows"], figures["too_long"]) == (4, 2)


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"pairs\.jsonl:2: is no pair"),
        ("[]", r"pairs\.jsonl:2: is no pair"),
        (json.dumps(pair(1) | {"chosen": ""}), r"pairs\.jsonl:2: chosen: is empty"),
        (json.dumps(pair(1) | {"rejected": None}), r"pairs\.jsonl:2: rejected: is no text"),
        (json.dumps(pair(1) | {"alpha": 0}), r"pairs\.jsonl:2: alpha: is 0\.0, and must be above 0"),
        (json.dumps(pair(1) | {"alpha": "much"}), r"pairs\.jsonl:2: is no pair"),
        (json.dumps({name: value for name, value in pair(1).items() if name != "alpha"}), r"pairs\.jsonl:2: alpha: is missing"),
        (json.dumps(pair(1) | {"prompt": None}), r"pairs\.jsonl:2: is no pair"),
    ],
)
def test_a_broken_pair_is_named(folder: Path, tmp_path: Path, line: str, told: str) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text(f"{json.dumps(pair(0))}\n{line}\n", "utf-8")
    with pytest.raises(InputError, match=told):
        trained(folder, tmp_path / "out", pairs)


def test_pairs_whose_two_sides_are_equal_are_refused_with_their_lines(folder: Path, tmp_path: Path) -> None:
    same = {"rejected": answer("harmful"), "chosen": answer("harmful")}
    pairs = write(tmp_path / "pairs.jsonl", [pair(0), pair(1, **same), pair(2), pair(3, **same)])
    told = r"pairs\.jsonl: chosen and rejected are the same answer in lines 2, 4 \(2 of 4 pairs\); take those lines out"
    with pytest.raises(InputError, match=told):
        trained(folder, tmp_path / "out", pairs)
    assert not (tmp_path / "out" / "model.safetensors").exists()


def test_an_empty_answer_can_be_the_rejected_one(folder: Path, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", [pair(number, rejected="" if number % 2 else " \n") for number in range(4)])
    figures = trained(folder, tmp_path / "out", pairs, epochs=1)
    assert (figures["rows"], figures["too_long"]) == (4, 0)
    assert figures["loss"] == figures["loss"]  # a number


def test_missing_pairs_are_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pairs: .* cannot be read"):
        trained(folder, tmp_path / "out", tmp_path / "none.jsonl")


def test_no_pairs_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(InputError, match="none is left to train on"):
        trained(folder, tmp_path / "out", tmp_path / "pairs.jsonl")


def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures = trained(folder, tmp_path / "out", epochs=1)
    monkeypatch.setattr(HSDPOTrainer, "train", lambda *_, **__: pytest.fail("trained again"))
    assert trained(folder, tmp_path / "out", epochs=1) == figures
    with pytest.raises(InputError, match=r"hsdpo\.beta was 0\.01, is 0\.1"):
        trained(folder, tmp_path / "out", epochs=1, beta=0.1)


def test_out_of_memory_says_that_one_model_is_enough(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(HSDPOTrainer, "compute_loss", lambda *_, **__: torch.empty(1 << 50))
    with pytest.raises(ConfigurationError) as raised:
        trained(folder, tmp_path / "out", batch=1, accumulation=4, gradient_checkpointing=True)
    told = str(raised.value)
    assert "--set hsdpo.precompute_reference=true (one model in memory instead of two)" in told
    assert "hsdpo.batch" not in told  # one pair cannot be cut
    assert "gradient_checkpointing" not in told  # it is on
    assert "--restart" in told


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_the_papers_batch_is_256(processes: int) -> None:
    spread = layout("hsdpo", HSDPOSettings(), processes)
    assert (spread.effective_batch, spread.batch, spread.accumulation) == (256, 1, 256 // processes)
