"""How a tiny guard is made: what is drawn from the seed, and in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from random import Random

from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_training.tiny.tasks import corpus, draw
from guardreasoner_training.tiny.tokenizer import learn_tokenizer
from guardreasoner_training.tiny.train import new_model, train

__all__ = ["build"]

_VOCABULARY = 2048
_CORPUS = 3000
_EXAMPLES = 64


def build(folder: Path, *, steps: int, seed: int, report: Callable[[str], None]) -> tuple[int, float]:
    """Train a tiny guard and write the model's folder, with ``guard.json`` and ``examples.jsonl``.

    Returns:
        How many weights it has, and the loss in the end.
    """
    random = Random(seed)  # noqa: S311
    texts = [GuardReasonerDialect().render(draw(random).exchange).text or "", *corpus(random, _CORPUS)]
    tokenizer = learn_tokenizer(texts, size=_VOCABULARY)
    model = new_model(tokenizer, seed)
    loss = train(model, tokenizer, steps=steps, random=random, report=report)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder, save_jinja_files=False)
    (folder / "guard.json").write_text(json.dumps({"dialect": "guardreasoner", "rendering": "raw"}) + "\n", encoding="utf-8")
    with (folder / "examples.jsonl").open("w", encoding="utf-8") as lines:
        for example in (draw(random, held_out=True) for _ in range(_EXAMPLES)):
            row = example.exchange.model_dump(include={"prompt", "response"}) | example.labels
            lines.write(json.dumps(row) + "\n")
    return sum(weights.numel() for weights in model.parameters()), loss
