"""The training loop: windows, masks, one optimiser, a log, and weights saved on the way."""

from __future__ import annotations

import itertools
import json
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from guardreasoner_sdk.judges.encoding import Encoder, Window, collate
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS
from guardreasoner_training.embedded.examples import Example, Labels, positive_weights
from guardreasoner_training.embedded.model import GuardNet
from guardreasoner_training.embedded.progress import STATE_NAME, Progress, Stateful, fingerprint, write_weights

LOG_NAME: Final = "train_log.jsonl"
"""Name of the log, one JSON object every 20 steps."""

_LOG_STEPS: Final = 20
# Examples are sorted by length within stretches of this many batches: little padding, and still a mixed order.
_SORTED_BATCHES: Final = 50


@dataclass(frozen=True, slots=True)
class Item:
    """One encoded example."""

    window: Window
    labels: Labels
    weight: float
    hazard: int | None = None


def encode(examples: Sequence[Example], encoder: Encoder, config: TrainConfig, *, seed: int) -> list[Item]:
    """Turn examples into one window each.

    Args:
        examples: what to learn.
        encoder: cuts windows of training size.
        config: how often later windows are taken and prompts left out.
        seed: of these choices.

    Returns:
        The items, in the order of the examples.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret: the same seed must give the same windows
    items = []
    for example in examples:
        labels = example.labels
        if example.response is None:
            windows = encoder.prompt(example.prompt)
        else:
            windows = encoder.pair("" if draw.random() < config.prompt_dropout else example.prompt, example.response)
        chosen = 0
        if len(windows) > 1 and draw.random() < config.later_window_share:
            chosen = draw.randrange(1, len(windows))
            if example.response is not None:
                # Whether an answer refuses is said at its start, and is read there.
                labels = (labels[0], None, labels[2])
        if any(label is not None for label in labels):
            items.append(Item(windows[chosen], labels, example.weight, example.hazard))
    return items


def batches(items: Sequence[Item], size: int, *, seed: int) -> Iterator[list[Item]]:
    """Yield every item once, in batches of like length and in random order.

    Args:
        items: encoded examples.
        size: items per batch; the last of a stretch may be smaller.
        seed: of the order.

    Yields:
        Batches.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret: the same seed must give the same order
    order = list(range(len(items)))
    draw.shuffle(order)
    stretch = size * _SORTED_BATCHES
    made = []
    for start in range(0, len(order), stretch):
        part = sorted(order[start : start + stretch], key=lambda i: len(items[i].window.ids))
        made += [part[i : i + size] for i in range(0, len(part), size)]
    draw.shuffle(made)
    for batch in made:
        yield [items[i] for i in batch]


def targets(items: Sequence[Item]) -> tuple[Tensor, Tensor]:
    """Return labels and weights of a batch, both of shape (batch, 3); an unlabelled head has weight 0."""
    labels = [[float(label or False) for label in item.labels] for item in items]
    weights = [[0.0 if label is None else item.weight for label in item.labels] for item in items]
    return torch.tensor(labels), torch.tensor(weights)


def masked_loss(
    logits: Tensor, labels: Tensor, weights: Tensor, *, positive: Tensor, heads: Tensor, smoothing: float
) -> Tensor:
    """Return each head's part of the loss, of shape (3,): weighted cross-entropy over the heads that are labelled.

    The sum is divided by the batch's size, not by its weight: a lone label in a batch then counts like any other.
    """
    smooth = labels * (1 - smoothing) + 0.5 * smoothing
    loss = nn.functional.binary_cross_entropy_with_logits(logits, smooth, reduction="none")
    balance = torch.where(labels > 0.5, positive, torch.ones_like(positive))
    part: Tensor = (loss * weights * balance).sum(dim=0) / len(logits) * heads
    return part


def hazard_loss(hazards: Tensor, items: Sequence[Item]) -> Tensor:
    """Return the cross-entropy of the hazard categories, over the examples that have one, divided by the batch's size.

    Args:
        hazards: logits, of shape (batch, 14).
        items: the batch.
    """
    wanted = torch.tensor([-100 if item.hazard is None else item.hazard for item in items])
    return nn.functional.cross_entropy(hazards, wanted, reduction="sum") / len(items)


def train(net: GuardNet, examples: Sequence[Example], encoder: Encoder, config: TrainConfig, output: Path) -> None:
    """Train the network in place.

    Writes `train_log.jsonl` (loss per head, rows per second) and `state.pt` as it goes, and `checkpoint.pt`, the weights, at
    the end. Cut off, the same call goes on from `state.pt`.

    Args:
        net: the network.
        examples: what to learn.
        encoder: cuts windows of training size.
        config: the settings.
        output: folder for log and weights.
    """
    net.train()
    optimiser = _optimiser(net, config)
    positive = torch.tensor(positive_weights(examples))
    heads = torch.tensor(config.head_weights)
    steps = config.epochs * -(-len(examples) // config.batch_size)
    warm = max(1, round(steps * config.warmup_share))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    # The mean of the last weights is better than the last ones: with small batches each step throws them about.
    mean = get_ema_multi_avg_fn(max(0.0, 1 - 1 / max(1.0, config.average_share * steps)))  # type: ignore[no-untyped-call]
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=mean)
    state, identity = output / STATE_NAME, fingerprint(examples, config)
    parts: dict[str, Stateful] = {"net": net, "optimiser": optimiser, "schedule": schedule, "average": average}
    done = Progress.read(state, identity, parts)
    started, recent = time.monotonic() - done.seconds, torch.zeros(len(HEADS))
    lines = _log_until(output / LOG_NAME, done.step)
    with (output / LOG_NAME).open("w", encoding="utf-8") as log:
        log.writelines(lines)
        for batch in itertools.islice(_all_batches(examples, encoder, config), done.step, None):
            losses = _step(net, batch, optimiser, config, positive=positive, heads=heads)
            schedule.step()
            average.update_parameters(net)
            done.step, done.rows, recent = done.step + 1, done.rows + len(batch), recent + losses
            done.seconds = time.monotonic() - started
            if done.step % _LOG_STEPS == 0 or done.step == steps:
                entry = {
                    "step": done.step,
                    "of": steps,
                    "loss": [round(value, 4) for value in (recent / _LOG_STEPS).tolist()],
                    "rows_per_second": round(done.rows / done.seconds, 1),
                    "seconds": round(done.seconds),
                }
                log.write(json.dumps(entry) + "\n")
                log.flush()
                recent = torch.zeros(len(HEADS))
            if done.step % config.checkpoint_steps == 0:
                done.write(state, identity, parts)
    net.load_state_dict(average.module.state_dict())
    write_weights(net, output)
    state.unlink(missing_ok=True)
    net.eval()


def _all_batches(examples: Sequence[Example], encoder: Encoder, config: TrainConfig) -> Iterator[list[Item]]:
    for epoch in range(config.epochs):
        # Fresh windows each time round: another part of a long text, other prompts left out.
        items = encode(examples, encoder, config, seed=config.seed + epoch)
        yield from batches(items, config.batch_size, seed=config.seed + epoch)


def _step(
    net: GuardNet,
    batch: Sequence[Item],
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    *,
    positive: Tensor,
    heads: Tensor,
) -> Tensor:
    """One step; returns each head's part of the loss."""
    inputs = {name: torch.from_numpy(value) for name, value in collate([item.window for item in batch]).items()}
    labels, weights = targets(batch)
    logits, hazards = net(**inputs)
    parts = masked_loss(logits, labels, weights, positive=positive, heads=heads, smoothing=config.label_smoothing)
    loss = parts.sum() + config.hazard_weight * hazard_loss(hazards, batch)
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
    optimiser.step()
    return parts.detach()


def _log_until(path: Path, step: int) -> list[str]:
    """The lines of an earlier run's log that still hold."""
    if not step or not path.is_file():
        return []
    return [line for line in path.read_text("utf-8").splitlines(keepends=True) if json.loads(line)["step"] <= step]


def _optimiser(net: GuardNet, config: TrainConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((name.startswith("encoder."), parameter.ndim > 1), []).append(parameter)
    return torch.optim.AdamW(
        [
            {
                "params": parameters,
                "lr": config.learning_rate if encoder else config.head_learning_rate,
                "weight_decay": config.weight_decay if matrix else 0.0,
            }
            for (encoder, matrix), parameters in groups.items()
        ],
        fused=True,
    )
