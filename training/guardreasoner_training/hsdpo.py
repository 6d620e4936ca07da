"""HS-DPO: preference training on hard samples, each pair with its weight (arXiv:2501.18492, section 3.3)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guardreasoner_sdk.errors import InputError
from guardreasoner_training.formats import encode
from guardreasoner_training.mining.pairs import read_pairs
from guardreasoner_training.recipe import HSDPOSettings, Recipe
from guardreasoner_training.trainers.arguments import Layout, require_training, trainer_arguments
from guardreasoner_training.trainers.encoded import write_encoded
from guardreasoner_training.trainers.model import adapter_config, load_model
from guardreasoner_training.trainers.stage import TrainingStage

__all__ = ["HSDPOStage", "hsdpo"]


def hsdpo(
    pairs: Path,
    base: str | Path,
    output: Path,
    recipe: Recipe,
    *,
    restart: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a model to prefer its right answers to its wrong ones, and to keep writing the right ones.

    What was cut off goes on from the newest complete checkpoint; what is done is not done again. With ``accelerate launch`` or
    ``torchrun``, every process calls this; ``output`` is then a folder that all of them see.

    Args:
        pairs: ``pairs.jsonl`` of the mining: exchange, ``chosen``, ``rejected`` and the weight ``alpha`` of each pair.
        base: the R-SFT model; it is the reference, too.
        output: gets the model, as R-SFT's does.
        recipe: every setting.
        restart: throw away what an earlier run left in ``output``.
        report: is told lines about the progress.

    Returns:
        the figures: pairs, those left out, steps, loss, rewards, hashes of the weights.

    Raises:
        InputError: a pair cannot be used, or ``output`` cannot: it holds another training, or the disk is full.
        ConfigurationError: the model or the machine cannot do what the recipe says, or memory ran out; with what to do.
        MissingExtraError: the extra ``train`` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.hsdpo import hsdpo
        >>> from guardreasoner_training.recipe import load_recipe
        >>> recipe = load_recipe("lora-1gpu")
        >>> made = hsdpo(Path("mine/pairs.jsonl"), "rsft", Path("hsdpo"), recipe)  # doctest: +SKIP
    """
    require_training()
    return HSDPOStage(pairs, base, output, recipe).run(restart=restart, report=report)


class HSDPOStage(TrainingStage[HSDPOSettings]):
    """What is HS-DPO's own of a stage that trains."""

    name = "hsdpo"
    title = "HS-DPO"
    unit = "pairs"
    values = ("preference", "sft", "rewards/margins", "rewards/accuracies")

    def arguments(self, settings: HSDPOSettings, spread: Layout) -> Any:
        """TRL's arguments of its DPO trainer."""
        from trl.trainer.dpo_config import DPOConfig

        return trainer_arguments(
            DPOConfig,
            settings,
            output=self.output,
            seed=self.recipe.seed,
            spread=spread,
            beta=settings.beta,
            precompute_ref_log_probs=settings.precompute_reference,
            max_length=None,  # longer pairs are gone, and nothing is cut
        )

    def encode(self, folder: Path, tokenizer: Any) -> None:
        """Pairs as token ids, with their weights."""
        import pyarrow

        counts: Counter[str] = Counter(rows=0, too_long=0, tokens=0)
        ids = pyarrow.list_(pyarrow.int32())
        columns = {"prompt_ids": ids, "chosen_ids": ids, "rejected_ids": ids, "alpha": pyarrow.float64()}
        write_encoded(folder, _encoded_pairs(self.data, self.recipe, tokenizer, counts), counts, columns)

    def trainer(self, args: Any, encoded: Path, tokenizer: Any, settings: HSDPOSettings) -> Any:
        """TRL's trainer, with the weights of the pairs in its loss."""
        from datasets import Dataset

        from guardreasoner_training.trainers.dpo import HSDPOTrainer, WeightedCollator

        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # what fills a batch up is masked, whatever it is
        dataset = Dataset.from_file(str(encoded))
        trainer = HSDPOTrainer(
            settings=settings,
            model=load_model(self.base, settings),
            args=args,
            data_collator=WeightedCollator(pad_token_id=tokenizer.pad_token_id),
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=adapter_config(settings),
        )
        if settings.group_by_length:
            answers = zip(dataset["prompt_ids"], dataset["chosen_ids"], dataset["rejected_ids"], strict=True)
            trainer.lengths = [len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in answers]
        return trainer


def _encoded_pairs(pairs: Path, recipe: Recipe, tokenizer: Any, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    alike = []
    for line, exchange, pair in read_pairs(pairs):
        (prompt, right), (_, wrong) = (
            encode(exchange, text, tokenizer, format=recipe.format, rendering=recipe.rendering)
            for text in (pair.chosen, pair.rejected)
        )
        if right == wrong:  # by tokens: texts that only blanks tell apart are the same to the model
            alike.append(line)
        if len(prompt) + max(len(right), len(wrong)) > recipe.max_tokens:
            counts["too_long"] += 1
            continue
        counts["rows"] += 1
        counts["tokens"] += 2 * len(prompt) + len(right) + len(wrong)
        yield {"prompt_ids": prompt, "chosen_ids": right, "rejected_ids": wrong, "alpha": pair.alpha}
    if alike:
        lines = f"{', '.join(map(str, alike[:20]))}{', ...' if len(alike) > 20 else ''}"
        what = f"line{'s' if len(alike) > 1 else ''} {lines} ({len(alike):,} of {counts['rows'] + counts['too_long']:,} pairs)"
        raise InputError(str(pairs), f"chosen and rejected are the same answer in {what}", "take those lines out")
