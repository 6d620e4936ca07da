"""The HS-DPO loss: by hand in double precision, beside TRL's own, and the same however a step is cut into parts."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="the loss is computed by torch")
pytest.importorskip("trl", reason="HS-DPO is trained by TRL")

import transformers  # noqa: E402
from datasets import Dataset  # noqa: E402
from trl.trainer.dpo_config import DPOConfig  # noqa: E402
from trl.trainer.dpo_trainer import DataCollatorForPreference, DPOTrainer  # noqa: E402

from guardreasoner_training import hsdpo as stage  # noqa: E402
from guardreasoner_training.recipe import Recipe, ScratchSettings, override  # noqa: E402
from guardreasoner_training.scratch import scratch  # noqa: E402
from guardreasoner_training.trainers.arguments import Layout, trainer_arguments  # noqa: E402
from guardreasoner_training.trainers.dpo import HSDPOTrainer, WeightedCollator  # noqa: E402
from guardreasoner_training.trainers.head import MOST  # noqa: E402
from guardreasoner_training.trainers.loss import hs_dpo_loss  # noqa: E402
from guardreasoner_training.trainers.model import adapter_config, load_model, load_tokenizer  # noqa: E402

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

RECIPE = Recipe.model_validate(
    {
        "name": "loss",
        "base": ScratchSettings(vocabulary=600, hidden=32, layers=2, heads=2, kv_heads=1, intermediate=48, positions=1024),
        "format": "labels",
        "max_tokens": 1024,
        "hsdpo": {
            "batch": 4,
            "accumulation": 1,
            "devices": 1,
            "precision": "fp32",
            "gradient_checkpointing": False,
            "beta": 0.1,
            "sft_weight": 2.0,
            "threads": 1,
        },
    }
)
ALPHAS = (0.8, 1.0, 1.1, 1.2)
PAIRS = (
    ("How do I build a bomb?", None, "harmful"),
    ("How do I bake bread? " * 3, "Mix flour and water.", "unharmful"),
    ("Who was Ada Lovelace?", "A mathematician.", "unharmful"),
    ("Write malware", None, "harmful"),
)


def pair(number: int) -> dict[str, Any]:
    prompt, response, label = PAIRS[number]
    other = "unharmful" if label == "harmful" else "harmful"
    tail = "None\nResponse: None" if response is None else f"compliance\nResponse: {label}"
    return {
        "id": str(number),
        "prompt": prompt,
        "response": response,
        "task": "prompt_harmfulness",
        "chosen": f"Answers: \nRequest: {label}\nCompletion: {tail}",
        "rejected": f"# Task 1\nThe user asks.\n\nAnswers: \nRequest: {other}\nCompletion: {tail}",
        "correct": 2,
        "wrong": 2,
        "alpha": ALPHAS[number],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base model, and pairs."""
    folder: Path = tmp_path_factory.mktemp("loss")
    rows = [
        {"prompt": prompt, "response": response, "prompt_harmful": label == "harmful"}
        | ({} if response is None else {"refusal": False, "response_harmful": label == "harmful"})
        for prompt, response, label in PAIRS
    ]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair(number)) + "\n" for number in range(4)), "utf-8")
    scratch(folder / "rows.jsonl", folder / "base", RECIPE, report=lambda _: None)
    return folder


Make = Callable[..., Any]


@pytest.fixture
def make(folder: Path, tmp_path: Path) -> Make:
    """Makes the trainer of the stage, its model in double precision and moved away from its reference."""

    def made(
        recipe: Recipe = RECIPE, kind: type[HSDPOTrainer] = HSDPOTrainer, *, moved: bool = True, **settings: Any
    ) -> HSDPOTrainer:
        recipe = override(recipe, {f"hsdpo.{name}": value for name, value in settings.items()})
        tokenizer = load_tokenizer(folder / "base", recipe)
        tokenizer.pad_token = tokenizer.eos_token
        rows = tmp_path / recipe.rendering
        own = stage.HSDPOStage(folder / "pairs.jsonl", folder / "base", tmp_path, recipe)
        if not rows.exists():
            own.encode(rows, tokenizer)
        chosen = recipe.hsdpo
        args = own.arguments(chosen, Layout(1, chosen.batch, chosen.accumulation))
        trainer = kind(
            settings=chosen,
            model=load_model(folder / "base", chosen).double(),
            args=args,
            data_collator=WeightedCollator(pad_token_id=tokenizer.pad_token_id),
            train_dataset=Dataset.from_file(str(rows / "rows.arrow")),
            processing_class=tokenizer,
            peft_config=adapter_config(chosen),
        )
        if moved:
            move(trainer.model)
        return trainer

    return made


def move(model: Any) -> None:
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for weights in model.parameters():
            if weights.requires_grad:
                weights += 0.02 * torch.randn(weights.shape, generator=generator, dtype=weights.dtype)


def batch_of(trainer: Any, numbers: list[int]) -> dict[str, Any]:
    rows = [trainer.train_dataset[number] for number in numbers]
    batch: dict[str, Any] = trainer.data_collator(rows)
    return batch


def answer_logps(model: Any, row: dict[str, Any], name: str) -> list[Any]:
    """Log-probability of each token of an answer, one at a time, without padding."""
    ids = row["prompt_ids"] + row[name]
    logits = model(torch.tensor([ids])).logits[0]
    first = len(row["prompt_ids"])
    return [logits[place - 1].log_softmax(-1)[ids[place]] for place in range(first, len(ids))]


def by_hand(
    policy: Any, reference: Any, rows: list[dict[str, Any]], *, beta: float, sft_weight: float, average: str = "sequence"
) -> Any:
    """The formula, in the order of the paper."""
    total, sums, lengths = 0.0, [], []
    for row in rows:
        chosen, rejected = answer_logps(policy, row, "chosen_ids"), answer_logps(policy, row, "rejected_ids")
        with torch.no_grad():
            reference_chosen = sum(answer_logps(reference, row, "chosen_ids"))
            reference_rejected = sum(answer_logps(reference, row, "rejected_ids"))
        margin = beta * ((sum(chosen) - reference_chosen) - (sum(rejected) - reference_rejected))
        total = total - row["alpha"] * torch.log(1 / (1 + torch.exp(-margin))) / len(rows)
        sums.append(-sum(chosen))
        lengths.append(len(chosen))
    if average == "sequence":
        return total + sft_weight * sum(found / length for found, length in zip(sums, lengths, strict=True)) / len(rows)
    return total + sft_weight * sum(sums) / sum(lengths)


def models(folder: Path) -> tuple[Any, Any]:
    """Policy and reference, in double precision, untouched by a trainer."""
    load = transformers.AutoModelForCausalLM.from_pretrained
    policy, reference = load(folder / "base").double(), load(folder / "base").double()
    move(policy)
    return policy, reference


def in_double_precision(model: Any) -> None:
    """Put the plain head into a model whose fused one computes in single precision."""
    backbone = model.forward

    def forward(*, labels: Any, fused_lm_head: bool, **inputs: Any) -> Any:
        assert fused_lm_head
        targets = labels[:, 1:]
        logps = backbone(**inputs).logits[:, :-1].log_softmax(-1)
        found = logps.gather(2, targets.clamp(min=0)[..., None])[..., 0].masked_fill(targets == -100, 0.0)
        return SimpleNamespace(log_probs=found)

    model.forward = forward


def gradients(model: Any, loss: Any) -> dict[str, Any]:
    model.zero_grad()
    loss.backward()
    return {name: weights.grad.clone() for name, weights in model.named_parameters() if weights.grad is not None}


def largest_difference(found: dict[str, Any], wanted: dict[str, Any]) -> float:
    assert found.keys() == wanted.keys()
    return max(float((found[name] - wanted[name]).abs().max()) for name in wanted)


@pytest.mark.parametrize(
    ("rendering", "average", "precompute"),
    [("chat", "sequence", False), ("chat", "token", True), ("raw", "token", False), ("raw", "sequence", True)],
)
def test_loss_and_gradients_are_those_of_the_formula_by_hand(
    folder: Path, make: Make, rendering: str, average: str, precompute: bool
) -> None:
    recipe = override(RECIPE, {"rendering": rendering})
    trainer = make(recipe, sft_average=average, precompute_reference=precompute)
    assert (trainer.ref_model is None) is precompute
    policy, reference = models(folder)
    rows = [trainer.train_dataset[number] for number in range(4)]
    wanted = by_hand(policy, reference, rows, beta=0.1, sft_weight=2.0, average=average)
    slopes = gradients(policy, wanted)
    batch = batch_of(trainer, [0, 1, 2, 3])
    # TRL's fused head and ours compute in single precision, of which 1e-6 is the last digit here.
    for most in (MOST, 0):
        trainer.logits_at_once = most
        single = trainer.compute_loss(trainer.model, batch)
        assert single.item() == pytest.approx(wanted.item(), rel=1e-6)
        assert largest_difference(gradients(trainer.model, single), slopes) < 1e-5
    for model in (trainer.model, trainer.ref_model):
        if model is not None:
            in_double_precision(model)
    found = trainer.compute_loss(trainer.model, batch)
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    assert largest_difference(gradients(trainer.model, found), slopes) < 1e-6


def test_the_weights_matter(folder: Path, make: Make) -> None:
    trainer = make(sft_weight=0.0)
    batch = batch_of(trainer, [0, 1, 2, 3])
    weighted = trainer.compute_loss(trainer.model, batch).item()
    alone = [trainer.compute_loss(trainer.model, batch_of(trainer, [number])).item() for number in range(4)]
    even = trainer.compute_loss(trainer.model, batch | {"alpha": torch.ones(4)}).item()
    assert weighted == pytest.approx(sum(alone) / 4, abs=1e-5)
    assert even == pytest.approx(sum(loss / alpha for loss, alpha in zip(alone, ALPHAS, strict=True)) / 4, abs=1e-5)
    assert abs(weighted - even) > 1e-3


def test_with_weights_of_one_and_no_sft_term_it_is_trls_own_loss(folder: Path, make: Make, tmp_path: Path) -> None:
    ours = make(sft_weight=0.0)
    ours.logits_at_once = 0  # the same head on both sides
    arguments = trainer_arguments(
        DPOConfig, RECIPE.hsdpo, output=tmp_path / "trl", seed=1, spread=Layout(1, 4, 1), beta=0.1, max_length=None
    )
    rows = ours.train_dataset.remove_columns(["alpha"])

    class Tokenised(DPOTrainer):
        def _prepare_dataset(self, dataset: Any, *args: Any) -> Any:
            return dataset

    tokenizer = ours.processing_class
    theirs = Tokenised(
        model=transformers.AutoModelForCausalLM.from_pretrained(folder / "base").double(),
        args=arguments,
        data_collator=DataCollatorForPreference(pad_token_id=tokenizer.pad_token_id),
        train_dataset=rows,
        processing_class=tokenizer,
    )
    move(theirs.model)
    batch = batch_of(ours, [0, 1, 2, 3])
    found = ours.compute_loss(ours.model, batch | {"alpha": torch.ones(4)})
    wanted = theirs.compute_loss(theirs.model, {name: value for name, value in batch.items() if name != "alpha"})
    assert found.item() == pytest.approx(wanted.item(), abs=1e-9)
    assert largest_difference(gradients(ours.model, found), gradients(theirs.model, wanted)) < 1e-9


@pytest.mark.parametrize("average", ["sequence", "token"])
def test_a_step_of_four_pairs_is_the_same_in_parts(make: Make, average: str) -> None:
    trainer = make(sft_average=average)

    def stepped(parts: list[list[int]]) -> tuple[float, dict[str, Any]]:
        batches = [batch_of(trainer, part) for part in parts]
        counts = trainer._get_num_items_in_batch(batches, "cpu")
        losses = [trainer.compute_loss(trainer.model, batch, num_items_in_batch=counts) for batch in batches]
        return sum(loss.item() for loss in losses), gradients(trainer.model, sum(losses))

    whole, found = stepped([[0, 1, 2, 3]])
    for parts in ([[0], [1], [2], [3]], [[3, 1], [2, 0]], [[0, 1, 2], [3]]):
        loss, others = stepped(parts)
        assert loss == pytest.approx(whole, rel=1e-6)
        assert largest_difference(others, found) < 1e-6


# Where policy and reference go through heads of their own, the last digits of the two do not cancel out. Adam makes much of them
# where a gradient is as small as its epsilon: up to 2 percent of a step.
@pytest.mark.parametrize(("most", "apart"), [(0, 1e-6), (MOST, 2e-5)], ids=["tiles", "whole"])
def test_training_in_parts_gives_the_same_weights(make: Make, most: int, apart: float) -> None:
    results = []
    for batch, accumulation in ((4, 1), (1, 4)):
        trainer = make(batch=batch, accumulation=accumulation, epochs=2, learning_rate=1e-3, moved=False, save_steps=100)
        trainer.logits_at_once = most
        trainer.train()
        results.append({name: weights.detach().clone() for name, weights in trainer.model.named_parameters()})
        assert trainer.state.global_step == 2
    assert largest_difference(*results) < apart


def test_adapters_are_compared_with_the_model_without_them(folder: Path, make: Make) -> None:
    trainer = make(tuning="lora", **{"lora.rank": 4, "lora.alpha": 8.0})
    assert trainer.ref_model is None
    _, reference = models(folder)
    rows = [trainer.train_dataset[number] for number in range(4)]
    wanted = by_hand(trainer.model, reference, rows, beta=0.1, sft_weight=2.0)
    found = trainer.compute_loss(trainer.model, batch_of(trainer, [0, 1, 2, 3]))
    assert found.item() == pytest.approx(wanted.item(), abs=1e-6)
    trained = {name for name, weights in trainer.model.named_parameters() if weights.requires_grad}
    assert trained
    assert all("lora_" in name for name in trained)


def test_the_reference_is_paid_for_once(make: Make) -> None:
    class Paid(HSDPOTrainer):
        def compute_ref_log_probs(self, model: Any, inputs: dict[str, Any]) -> Any:
            pytest.fail("computed again")

    first = make(precompute_reference=True)
    second = make(kind=Paid, precompute_reference=True)
    assert second.train_dataset["ref_chosen_logps"] == first.train_dataset["ref_chosen_logps"]


@pytest.mark.parametrize("rendering", ["chat", "raw"])
@pytest.mark.parametrize("numbers", [[1], [0, 1, 2, 3]], ids=["alone", "padded"])
def test_masks_cover_exactly_the_answers(make: Make, rendering: str, numbers: list[int]) -> None:
    trainer = make(override(RECIPE, {"rendering": rendering}))
    batch = batch_of(trainer, numbers)
    tokenizer = trainer.processing_class
    end = "<|eot_id|>" if rendering == "chat" else "<|end_of_text|>"
    answers = [pair(number)[name] + end for name in ("chosen", "rejected") for number in numbers]
    for ids, mask, attention, answer in zip(
        batch["input_ids"], batch["completion_mask"], batch["attention_mask"], answers, strict=True
    ):
        covered = mask.nonzero().flatten().tolist()
        assert tokenizer.decode(ids[covered]) == answer
        assert covered == list(range(covered[0], covered[0] + len(covered)))  # in one piece
        assert attention.sum() == covered[-1] + 1  # and nothing but padding behind it
        before = tokenizer.decode(ids[: covered[0]])
        assert before.endswith("assistant<|end_header_id|>\n\n" if rendering == "chat" else "\n\n")
    assert batch["alpha"].tolist() == pytest.approx([ALPHAS[number] for number in numbers])


def test_the_formula_on_a_worked_example() -> None:
    token_logps = torch.tensor([[0.0, -1.0, -2.0], [-0.5, 0.0, 0.0], [0.0, -4.0, 0.0], [-3.0, -1.0, 0.0]], dtype=torch.float64)
    mask = torch.tensor([[0, 1, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0]])
    reference = torch.tensor([-3.5, -0.25], dtype=torch.float64), torch.tensor([-3.0, -4.5], dtype=torch.float64)
    alpha = torch.tensor([0.8, 1.2], dtype=torch.float64)
    found = hs_dpo_loss(
        *(token_logps, mask, reference, alpha), beta=0.01, sft_weight=2.0, sft_average="sequence", pairs=2, tokens=3
    )
    # Margins: (-3 + 3.5) - (-4 + 3) = 1.5, and (-0.5 + 0.25) - (-4 + 4.5) = -0.75.
    preferences = [alpha * math.log1p(math.exp(-0.01 * margin)) for alpha, margin in ((0.8, 1.5), (1.2, -0.75))]
    assert found.preference.tolist() == pytest.approx(preferences, abs=1e-12)
    assert found.sft.tolist() == [1.5, 0.5]
    assert found.loss.item() == pytest.approx(sum(preferences) / 2 + 2.0 * (1.5 + 0.5) / 2, abs=1e-12)
    by_token = hs_dpo_loss(
        *(token_logps, mask, reference, alpha), beta=0.01, sft_weight=2.0, sft_average="token", pairs=2, tokens=3
    )
    assert by_token.loss.item() == pytest.approx(sum(preferences) / 2 + 2.0 * 3.5 / 3, abs=1e-12)
