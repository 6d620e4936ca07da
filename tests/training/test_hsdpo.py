"""HS-DPO as a stage: what it reads, what it leaves out, what its folder is, and that its variants agree."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="training needs torch")
transformers = pytest.importorskip("transformers", reason="training needs transformers")
pytest.importorskip("trl", reason="training needs TRL")

from guardreasoner_sdk.errors import ConfigurationError, InputError  # noqa: E402
from guardreasoner_training.hsdpo import hsdpo  # noqa: E402
from guardreasoner_training.recipe import HSDPOSettings, override  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from guardreasoner_training.trainers.arguments import layout  # noqa: E402
from samples import TRAINER, Done, finished, small_recipe, write  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RECIPE = small_recipe("hsdpo", hsdpo={**TRAINER, "beta": 0.5, "save_steps": 100})


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


# An empty answer can well be the one that is not to be given. The last two are too long.
PAIRS = [
    *(pair(number) for number in range(6)),
    *(pair(6, rejected=""), pair(7, rejected=" \n")),
    *(pair(number, **{side: answer("harmful") + " and more" * 300}) for number, side in ((8, "rejected"), (9, "chosen"))),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("hsdpo")
    rows = [{"prompt": pair(number)["prompt"], "prompt_harmful": bool(number % 2)} for number in range(8)]
    scratch(write(folder / "rows.jsonl", rows), folder / "base", RECIPE, report=lambda _: None)
    write(folder / "pairs.jsonl", PAIRS)
    return folder


@pytest.fixture(scope="module")
def done(folder: Path) -> Done:
    """HS-DPO as the recipe says."""
    return finished(hsdpo, folder / "pairs.jsonl", folder / "base", folder / "done", RECIPE)


def trained(
    folder: Path, output: Path, pairs: Path | None = None, said: list[str] | None = None, **settings: Any
) -> dict[str, Any]:
    report: Callable[[str], None] = (lambda _: None) if said is None else said.append
    changes = {f"hsdpo.{name.replace('__', '.')}": value for name, value in settings.items()}
    return hsdpo(pairs or folder / "pairs.jsonl", folder / "base", output, override(RECIPE, changes), report=report)


def test_it_learns_to_prefer_the_right_answers(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    figures = trained(folder, tmp_path / "out", said=said, epochs=10)
    assert (figures["rows"], figures["too_long"], figures["steps"]) == (8, 2, 20)
    assert figures["loss"] < figures["first_loss"]
    assert figures["rewards/margins"] > 0
    log = [json.loads(line) for line in (tmp_path / "out" / "log.jsonl").read_text("utf-8").splitlines()]
    assert len(log) == 20
    # Nothing is preferred at first: the policy is the reference.
    assert log[0]["rewards/margins"] == pytest.approx(0.0, abs=1e-5)
    assert {"preference", "sft", "rewards/chosen", "rewards/rejected", "rewards/accuracies", "seconds"} <= log[0].keys()
    assert said[0].startswith("8 pairs, ")


def test_the_folder_is_a_guard(done: Done) -> None:
    names = {path.name for path in (done.output).iterdir() if not path.name.startswith(".")}
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
    assert json.loads((done.output / "guard.json").read_text()) == {"dialect": "guardreasoner", "rendering": "chat"}
    model = transformers.AutoModelForCausalLM.from_pretrained(done.output)
    tokenizer = transformers.AutoTokenizer.from_pretrained(done.output)
    assert model.generation_config.eos_token_id == tokenizer.convert_tokens_to_ids(["<|eot_id|>", "<|end_of_text|>"])
    assert "<|start_header_id|>" in tokenizer.chat_template


def test_one_model_in_memory_gives_what_two_give(folder: Path, tmp_path: Path, done: Done) -> None:
    one, two = trained(folder, tmp_path / "one", precompute_reference=True), done.figures
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


def test_weights_and_sft_term_change_what_is_learnt(folder: Path, tmp_path: Path, done: Done) -> None:
    even = write(tmp_path / "even.jsonl", [row | {"alpha": 1.0} for row in PAIRS])
    found = {
        name: trained(folder, tmp_path / name, pairs, **settings)["weights"]["model.safetensors"]
        for name, pairs, settings in (("even", even, {}), ("no-sft", None, {"sft_weight": 0.0}), ("again", None, {}))
    }
    weighted = done.figures["weights"]["model.safetensors"]
    assert found["again"] == weighted
    assert len({weighted, found["even"], found["no-sft"]}) == 3


def test_pairs_that_are_too_long_are_left_out_and_counted(done: Done) -> None:
    assert (done.figures["rows"], done.figures["too_long"]) == (8, 2)
    assert done.said[0].startswith("8 pairs, ")
    assert done.said[0].endswith("2 pairs too long")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("{", r"pairs\.jsonl:2: is not JSON .*; mine the pairs again"),
        ("[]", r"pairs\.jsonl:2: is a JSON list, not an object"),
        (json.dumps(pair(1) | {"chosen": ""}), r"pairs\.jsonl:2: chosen: is empty"),
        (json.dumps(pair(1) | {"rejected": None}), r"pairs\.jsonl:2: rejected: Input should be a valid string"),
        (json.dumps(pair(1) | {"alpha": 0}), r"pairs\.jsonl:2: alpha: Input should be greater than 0"),
        (json.dumps(pair(1) | {"alpha": "much"}), r"pairs\.jsonl:2: alpha: Input should be a valid number"),
        (
            json.dumps({name: value for name, value in pair(1).items() if name != "alpha"}),
            r"pairs\.jsonl:2: alpha: Field required",
        ),
        (json.dumps(pair(1) | {"prompt": None}), r"pairs\.jsonl:2: prompt: Input should be a valid string"),
        (json.dumps(pair(1) | {"prompt": " "}), r"pairs\.jsonl:2: prompt: has no visible character; mine the pairs again"),
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


def test_an_empty_answer_can_be_the_rejected_one(done: Done) -> None:
    assert [row["rejected"] for row in PAIRS[6:8]] == ["", " \n"]
    assert done.figures["rows"] == 8  # those two among them
    assert math.isfinite(done.figures["loss"])


def test_missing_pairs_are_said(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="pairs: .* cannot be read"):
        trained(folder, tmp_path / "out", tmp_path / "none.jsonl")


def test_no_pairs_are_said(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text("")
    with pytest.raises(InputError, match="none is left to train on"):
        trained(folder, tmp_path / "out", tmp_path / "pairs.jsonl")


def test_what_is_done_is_not_done_again(folder: Path, tmp_path: Path, done: Done) -> None:
    output, said = Path(shutil.copytree(done.output, tmp_path / "out")), list[str]()

    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in output.rglob("*") if path.is_file()}

    before = written()
    assert trained(folder, output, said=said) == done.figures
    with pytest.raises(InputError, match=r"hsdpo\.beta was 0\.5, is 0\.1"):
        trained(folder, output, said=said, beta=0.1)
    assert (written(), said) == (before, [])  # nothing trained, and nothing was touched


def test_nothing_of_policy_and_reference_is_left_in_memory(done: Done) -> None:
    *during, after = done.alive
    assert max(during) == 5  # the trainer, and policy and reference with what is below the heads of them
    assert after == 0


def test_out_of_memory_says_that_one_model_is_enough(folder: Path, tmp_path: Path) -> None:
    def used_up(line: str) -> None:
        if line.startswith("step 1 "):
            torch.empty(1 << 50)

    settings = {"batch": 1, "accumulation": 4, "gradient_checkpointing": True}
    recipe = override(RECIPE, {f"hsdpo.{name}": value for name, value in settings.items()})
    with pytest.raises(ConfigurationError) as raised:
        hsdpo(folder / "pairs.jsonl", folder / "base", tmp_path / "out", recipe, report=used_up)
    told = str(raised.value)
    assert "--set hsdpo.precompute_reference=true (one model in memory instead of two)" in told
    assert "hsdpo.batch" not in told  # one pair cannot be cut
    assert "gradient_checkpointing" not in told  # it is on
    assert "--restart" in told


@pytest.mark.parametrize("processes", [1, 2, 4, 8])
def test_the_papers_batch_is_256(processes: int) -> None:
    spread = layout("hsdpo", HSDPOSettings(), processes)
    assert (spread.effective_batch, spread.batch, spread.accumulation) == (256, 1, 256 // processes)
