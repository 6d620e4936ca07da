"""R-SFT: reasoning supervised fine-tuning, by TRL's SFT trainer (arXiv:2501.18492, section 3.2)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from guardreasoner_training.formats import encode, examples_of, output_of
from guardreasoner_training.recipe import Recipe, RSFTSettings
from guardreasoner_training.rows import read_rows
from guardreasoner_training.trainers.arguments import Layout, require_training, trainer_arguments
from guardreasoner_training.trainers.encoded import label_output, write_encoded
from guardreasoner_training.trainers.model import adapter_config, load_model
from guardreasoner_training.trainers.stage import TrainingStage

__all__ = ["RSFTStage", "rsft"]


def rsft(
    rows: Path,
    base: str | Path,
    output: Path,
    recipe: Recipe,
    *,
    restart: bool = False,
    report: Callable[[str], None] = print,
) -> dict[str, Any]:
    """Train a base model to reason about an exchange and to answer. Next token, on the output only.

    What was cut off goes on from the newest complete checkpoint; what is done is not done again. With ``accelerate launch`` or
    ``torchrun``, every process calls this; ``output`` is then a folder that all of them see.

    Args:
        rows: labelled rows with the outputs to learn, or their reasoning.
        base: a folder with a model, or a model of the hub.
        output: gets the model, its tokenizer and ``guard.json``, so that ``Guard(model=output)`` uses it, and ``log.jsonl``,
            ``loss.png``, ``checkpoints`` and, last, ``figures.json``.
        recipe: every setting.
        restart: throw away what an earlier run left in ``output``.
        report: is told lines about the progress.

    Returns:
        the figures: rows, those left out, steps, loss, hashes of the weights.

    Raises:
        InputError: a row cannot be used, or ``output`` cannot: it holds another training, or the disk is full.
        ConfigurationError: the model or the machine cannot do what the recipe says, or memory ran out; with what to do.
        MissingExtraError: the extra ``train`` is not installed.

    Example:
        >>> from pathlib import Path
        >>> from guardreasoner_training.recipe import load_recipe
        >>> from guardreasoner_training.rsft import rsft
        >>> recipe = load_recipe("lora-1gpu")
        >>> made = rsft(Path("rows.jsonl"), recipe.base, Path("rsft"), recipe)  # doctest: +SKIP
    """
    require_training()
    return RSFTStage(rows, base, output, recipe).run(restart=restart, report=report)


class RSFTStage(TrainingStage[RSFTSettings]):
    """What is R-SFT's own of a stage that trains."""

    name = "rsft"
    title = "R-SFT"
    unit = "rows"

    @property
    def made_of(self) -> Mapping[str, Any]:
        """What is done with rows that are too long."""
        return {"data": {"too_long": self.recipe.data.too_long}}

    def arguments(self, settings: RSFTSettings, spread: Layout) -> Any:
        """TRL's arguments of its SFT trainer."""
        from trl.trainer.sft_config import SFTConfig

        return trainer_arguments(
            SFTConfig,
            settings,
            output=self.output,
            seed=self.recipe.seed,
            spread=spread,
            packing=settings.packing,
            packing_strategy="bfd",
            max_length=self.recipe.max_tokens if settings.packing else None,  # longer rows are gone, and nothing is cut
        )

    def encode(self, folder: Path, tokenizer: Any) -> None:
        """Rows as token ids, and which of them are learnt."""
        import pyarrow

        counts: Counter[str] = Counter(rows=0, too_long=0, cut=0, tokens=0, learnt_tokens=0)
        ids = pyarrow.list_(pyarrow.int32())
        rows = _encoded_rows(self.data, self.recipe, tokenizer, counts)
        write_encoded(folder, rows, counts, {"input_ids": ids, "labels": ids})

    def trainer(self, args: Any, encoded: Path, tokenizer: Any, settings: RSFTSettings) -> Any:
        """TRL's trainer, which keeps checkpoints as the recipe says."""
        from datasets import Dataset

        from guardreasoner_training.trainers.sft import RSFTTrainer

        dataset = Dataset.from_file(str(encoded))
        trainer = RSFTTrainer(
            model=load_model(self.base, settings),
            args=args,
            train_dataset=dataset,
            processing_class=tokenizer,
            peft_config=adapter_config(settings),
        )
        trainer.keep_checkpoints = settings.keep_checkpoints
        if settings.group_by_length and not settings.packing:
            trainer.lengths = [len(row) for row in dataset["input_ids"]]
        return trainer


def _encoded_rows(rows: Path, recipe: Recipe, tokenizer: Any, counts: Counter[str]) -> Iterator[dict[str, Any]]:
    for row in read_rows(rows):
        for example in examples_of(row, recipe.format):
            output = output_of(example, recipe.format)
            prompt, written = encode(example.exchange, output, tokenizer, format=recipe.format, rendering=recipe.rendering)
            if len(prompt) + len(written) > recipe.max_tokens:
                if recipe.data.too_long == "drop" or len(prompt) >= recipe.max_tokens:
                    counts["too_long"] += 1
                    continue
                counts["cut"] += 1
                written = written[: recipe.max_tokens - len(prompt)]
            counts["rows"] += 1
            counts["tokens"] += len(prompt) + len(written)
            counts["learnt_tokens"] += len(written)
            yield label_output(prompt, written)
