"""The training loop: windows, masks, one optimiser, a log, and weights saved on the way."""

from __future__ import annotations

import copy
import json
import random
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from guardreasoner_sdk.judges.encoding import Encoder, TokenWindow, collate
from guardreasoner_training.embedded.config import TrainConfig
from guardreasoner_training.embedded.data import HEADS, DataError
from guardreasoner_training.embedded.examples import Example, Labels, positive_weights
from guardreasoner_training.embedded.languages import language_number
from guardreasoner_training.embedded.model import UNJUDGED, GuardNet
from guardreasoner_training.embedded.progress import (
    STATE_NAME,
    Progress,
    Stateful,
    digest,
    fingerprint,
    read_finished,
    read_log,
    write_weights,
)
from guardreasoner_training.embedded.scoring import KINDS

LOG_NAME: Final = "train_log.jsonl"
"""Name of the log, one JSON object every 20 steps."""

_LOG_STEPS: Final = 20
# Examples are sorted by length within stretches of this many batches: little padding, and still a mixed order.
_SORTED_BATCHES: Final = 50
_MOST_TOKENS: Final = 10_240


@dataclass(frozen=True, slots=True)
class EncodedExample:
    """One encoded example: its windows, of which the strongest one decides."""

    windows: tuple[TokenWindow, ...]
    labels: Labels
    weight: float
    hazard: int | None = None
    language: int | None = None

    @property
    def size(self) -> tuple[int, int]:
        """Tokens of its longest window, to which the others are padded, and of all of them as they are run."""
        longest = max(len(window.ids) for window in self.windows)
        return longest, longest * len(self.windows)


def encode(examples: Sequence[Example], encoders: Sequence[Encoder], config: TrainConfig, *, seed: int) -> list[EncodedExample]:
    """Turn examples into windows.

    What is harmful may be in any window of a long text, so that several are learnt from together, and the strongest counts.
    Of a harmless text each window is harmless: one is enough.

    Args:
        encoders: cut windows of training size: short ones, which are cheap, and long ones for a share of what is long.
        config: how many windows of a long text are learnt from, and how often prompts are left out.

    Returns:
        The items, in the order of the examples.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret: the same seed must give the same windows
    short, long = encoders
    items = []
    for example in examples:
        prompt = _prompt(example, config, draw)
        windows = _windows(example, prompt, short)
        if len(windows) > 1 and draw.random() < config.long_share:
            windows = _windows(example, prompt, long)
        labels = example.labels
        harmful = labels[2] if example.response is not None else labels[0]
        if harmful and len(windows) > config.most_windows:
            later = sorted(draw.sample(range(1, len(windows)), config.most_windows - 1))
            windows = [windows[0], *(windows[i] for i in later)]
        elif not harmful and len(windows) > 1:
            chosen = draw.randrange(1, len(windows)) if draw.random() < config.later_window_share else 0
            windows = windows[chosen : chosen + 1]
            if chosen:
                # Whether an answer refuses is said at its start, and is read there.
                labels = (labels[0], None, labels[2])
        if any(label is not None for label in labels):
            items.append(EncodedExample(tuple(windows), labels, example.weight, example.hazard, language_number(example.lang)))
    return items


def _prompt(example: Example, config: TrainConfig, draw: random.Random) -> str:
    """The prompt as it is learnt this time."""
    if example.response is not None:
        return "" if draw.random() < config.prompt_dropout else example.prompt
    # The base model tells capitals from small letters; harm does not.
    at = draw.random()
    if at < config.lower_share:
        return example.prompt.lower()
    return example.prompt.upper() if at > 1 - config.upper_share else example.prompt


def _windows(example: Example, prompt: str, encoder: Encoder) -> list[TokenWindow]:
    if example.response is not None:
        return encoder.pair(prompt, example.response)
    earlier = [(KINDS[role], said) for role, said in example.history if role in KINDS]
    windows = encoder.prompt(prompt, earlier)
    # What went before is shown in the first window only: that is what the label is about.
    return windows[:1] if earlier else windows


def batches(items: Sequence[EncodedExample], size: int, *, seed: int) -> Iterator[list[EncodedExample]]:
    """Yield every item once, in batches of like length and in random order.

    Args:
        size: items per batch; the last of a stretch, and one of long items, may be smaller.
    """
    draw = random.Random(seed)  # noqa: S311 - no secret: the same seed must give the same order
    order = list(range(len(items)))
    draw.shuffle(order)
    stretch = size * _SORTED_BATCHES
    made: list[list[EncodedExample]] = []
    for start in range(0, len(order), stretch):
        made += _filled(sorted((items[i] for i in order[start : start + stretch]), key=lambda item: item.size), size)
    draw.shuffle(made)
    yield from made


def _filled(items: Iterable[EncodedExample], size: int) -> Iterator[list[EncodedExample]]:
    """Batches in the items' order, none of them so large that its activations fill the memory."""
    batch: list[EncodedExample] = []
    tokens = 0
    for item in items:
        _, of_item = item.size
        if batch and (len(batch) == size or tokens + of_item > _MOST_TOKENS):
            yield batch
            batch, tokens = [], 0
        batch.append(item)
        tokens += of_item
    if batch:
        yield batch


def targets(items: Sequence[EncodedExample]) -> tuple[Tensor, Tensor]:
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


def named_loss(logits: Tensor, wanted: Sequence[int | None]) -> Tensor:
    """Return the cross-entropy over the examples that have a name, divided by the batch's size.

    Args:
        logits: of shape (batch, names).
        wanted: the number of each example's name; None where it has none.
    """
    names = torch.tensor([-100 if name is None else name for name in wanted])
    return nn.functional.cross_entropy(logits, names, reduction="sum") / len(wanted)


def strongest(logits: Tensor, owners: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Join the windows of each example.

    Args:
        logits: of the windows, of shape (windows, 3).
        owners: of each window, the number of its example; the windows of an example stand together, its first one first.

    Returns:
        The logits of the examples, of shape (count, 3): of harm the highest of its windows, of a refusal that of the first
        one, where an answer states it; and the number of each example's most harmful window.
    """
    first = torch.searchsorted(owners, torch.arange(count))
    # Which head is asked does not matter for the window: of a prompt the third says nothing, of a response the first.
    places = owners.unsqueeze(1).expand_as(logits)
    highest = torch.full((count, logits.shape[1]), -torch.inf).scatter_reduce(0, places, logits, "amax")
    joined = torch.stack((highest[:, 0], logits[first, 1], highest[:, 2]), dim=1)
    harm = logits[:, (0, 2)].detach().amax(dim=1)
    leading = torch.stack([start + harm[start:end].argmax() for start, end in pairwise([*first.tolist(), len(logits)])])
    return joined, leading


def train(
    net: GuardNet,
    examples: Sequence[Example],
    encoders: Sequence[Encoder],
    config: TrainConfig,
    output: Path,
    *,
    teacher: GuardNet | None = None,
    origin: str = "",
) -> None:
    """Train the network in place.

    Writes `train_log.jsonl` (loss per head, rows per second) and `state.pt` as it goes, and `checkpoint.pt`, the weights, at
    the end. Cut off, the same call goes on from `state.pt`; where the same training has ended, its weights are taken.

    Args:
        encoders: cut windows of training size, short and long ones.
        teacher: a trained network that it learns from as well, or None.
        origin: digest of the base model that the network is made of.

    Raises:
        DataError: `state.pt` or `checkpoint.pt` is damaged.
    """
    begun_with = [origin, digest(teacher) if teacher is not None else "", str(len(net.encoder.encoder.layer))]
    state, identity = output / STATE_NAME, fingerprint(examples, config, begun_with)
    if (log_of_it := read_finished(net, output, identity)) is not None:
        (output / LOG_NAME).write_text(log_of_it, encoding="utf-8")
        net.eval()
        return
    net.train()
    optimiser = _optimiser(net, config)
    positive = torch.tensor(positive_weights(examples))
    heads = torch.tensor(config.head_weights)
    plan = list(_all_batches(examples, encoders, config))
    steps = len(plan)
    warm = max(1, round(steps * config.warmup_share))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min((step + 1) / warm, max(0.0, (steps - step) / max(1, steps - warm)))
    )
    # The mean of the last weights is better than the last ones: with small batches each step throws them about.
    mean = get_ema_multi_avg_fn(max(0.0, 1 - 1 / max(1.0, config.average_share * steps)))  # type: ignore[no-untyped-call]
    average = torch.optim.swa_utils.AveragedModel(net, multi_avg_fn=mean)
    parts: dict[str, Stateful] = {"net": net, "optimiser": optimiser, "schedule": schedule, "average": average}
    done = Progress.read(state, identity, parts)
    started, recent, since = time.monotonic() - done.seconds, torch.zeros(len(HEADS)), 0
    lines = _log_until(output / LOG_NAME, done.step)
    with (output / LOG_NAME).open("w", encoding="utf-8") as log:
        log.writelines(lines)
        for batch in plan[done.step :]:
            losses = _step(net, batch, optimiser, config, positive=positive, heads=heads, teacher=teacher)
            schedule.step()
            average.update_parameters(net)
            done.step, done.rows = done.step + 1, done.rows + len(batch)
            recent, since = recent + losses, since + 1
            done.seconds = time.monotonic() - started
            if done.step % _LOG_STEPS == 0 or done.step == steps:
                entry = {
                    "step": done.step,
                    "of": steps,
                    "loss": [round(value, 4) for value in (recent / since).tolist()],
                    "rows_per_second": round(done.rows / done.seconds, 1),
                    "seconds": round(done.seconds),
                }
                log.write(json.dumps(entry) + "\n")
                log.flush()
                recent, since = torch.zeros(len(HEADS)), 0
            if done.step % config.checkpoint_steps == 0:
                done.write(state, identity, parts)
    net.load_state_dict(average.module.state_dict())
    write_weights(net, output, identity, (output / LOG_NAME).read_text("utf-8"))
    state.unlink(missing_ok=True)
    net.eval()


def train_student(
    teacher: GuardNet, layers: int, examples: Sequence[Example], encoders: Sequence[Encoder], config: TrainConfig, output: Path
) -> GuardNet:
    """Train a student of some of a network's layers, which learns from it and from the labels.

    Args:
        encoders: cut windows of training size, short and long ones.
        config: the settings; the encoder's peak rate is twice that of the teacher, as the layers have more to make good.

    Raises:
        DataError: there are not so many layers.
    """
    kept = kept_layers(teacher, layers)
    teacher.eval()
    student = student_of(teacher, kept)
    train(student, examples, encoders, replace(config, learning_rate=2 * config.learning_rate), output, teacher=teacher)
    return student


def kept_layers(net: GuardNet, layers: int) -> list[int]:
    """Which layers of a network a student of it has.

    Raises:
        DataError: there are not so many layers.
    """
    whole = len(net.encoder.encoder.layer)
    if not 1 <= layers < whole:
        raise DataError(f"--layers must be 1 to {whole - 1}, of the {whole} that the base model has, not {layers}")
    return choose_layers(layers, whole)


def _all_batches(
    examples: Sequence[Example], encoders: Sequence[Encoder], config: TrainConfig
) -> Iterator[list[EncodedExample]]:
    for epoch in range(config.epochs):
        # Fresh windows each time round: another part of a long text, other prompts left out.
        items = encode(examples, encoders, config, seed=config.seed + epoch)
        yield from batches(items, config.batch_size, seed=config.seed + epoch)


def _step(
    net: GuardNet,
    batch: Sequence[EncodedExample],
    optimiser: torch.optim.Optimizer,
    config: TrainConfig,
    *,
    positive: Tensor,
    heads: Tensor,
    teacher: GuardNet | None = None,
) -> Tensor:
    """One step; returns each head's part of the loss."""
    windows = [window for item in batch for window in item.windows]
    owners = torch.tensor([number for number, item in enumerate(batch) for _ in item.windows])
    inputs = {name: torch.from_numpy(value) for name, value in collate(windows).items()}
    labels, weights = targets(batch)
    with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
        found = net(**inputs)
    _, logits, hazards, languages = found
    joined, leading = strongest(logits.float(), owners, len(batch))
    parts = masked_loss(joined, labels, weights, positive=positive, heads=heads, smoothing=config.label_smoothing)
    loss = parts.sum() + config.hazard_weight * named_loss(hazards.float()[leading], [item.hazard for item in batch])
    loss = loss + config.language_weight * named_loss(languages.float()[leading], [item.language for item in batch])
    if teacher is not None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            taught = teacher(**inputs)
        loss = loss + config.teacher_weight * distil_loss(found, [value.clone() for value in taught])
    optimiser.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(net.parameters(), config.clip_norm)
    optimiser.step()
    return parts.detach()


def _log_until(path: Path, step: int) -> list[str]:
    """The lines of an earlier run's log that still hold."""
    return [json.dumps(line) + "\n" for line in read_log(path) if line["step"] <= step]


def _optimiser(net: GuardNet, config: TrainConfig) -> torch.optim.Optimizer:
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for name, parameter in net.named_parameters():
        if parameter.requires_grad:
            groups.setdefault((_pretrained(name), parameter.ndim > 1), []).append(parameter)
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


def _pretrained(name: str) -> bool:
    # What tells the kinds of text apart begins from nothing, as the heads do.
    return name.startswith("encoder.") and "token_type_embeddings" not in name


# A logit beyond it says no more than that one is sure.
_SURE: Final = 8.0


def student_of(teacher: GuardNet, layers: Sequence[int]) -> GuardNet:
    """Make a network of some of a trained one's layers; everything else is copied.

    Layers taken out of a trained model do badly by themselves (a base model's even more so); led by the whole one they come
    near it, at half the time a text (Sanh et al. 2019, arXiv:1910.01108).

    Args:
        teacher: the trained network, which stays as it is.
        layers: numbers of the layers to keep, counted from 0.
    """
    encoder = teacher.encoder.encoder
    kept: list[Any] = [copy.deepcopy(encoder.layer[number]) for number in layers]
    whole, encoder.layer = encoder.layer, nn.ModuleList()
    try:
        student = copy.deepcopy(teacher)
    finally:
        encoder.layer = whole
    student.encoder.encoder.layer = nn.ModuleList(kept)
    student.encoder.config.num_hidden_layers = len(kept)
    for number, layer in enumerate(kept):
        layer.attention.self.layer_idx = number
    return student


def choose_layers(layers: int, whole: int) -> list[int]:
    """Which layers of a network to keep, as far apart as can be, the last one among them.

    Args:
        layers: how many to keep, 1 or more.
    """
    return [(number + 1) * whole // layers - 1 for number in range(layers)]


def distil_loss(of: Sequence[Tensor], taught: Sequence[Tensor]) -> Tensor:
    """Return how far a student is from its teacher: on the logits of tokens and of windows, and on the hazards.

    Args:
        of: what `GuardNet.forward` gives for the student.
    """
    tokens, logits, hazards = (value.float() for value in of[:3])
    wanted, joined, named = (value.float() for value in taught[:3])
    judged = wanted > UNJUDGED / 2
    near = nn.functional.smooth_l1_loss(tokens.clamp(-_SURE, _SURE), wanted.clamp(-_SURE, _SURE), reduction="none")
    each = (near * judged).sum() / judged.sum().clamp(min=1)
    # Windows without a judged token of a head have no say.
    asked = joined > UNJUDGED / 2
    whole = nn.functional.binary_cross_entropy_with_logits(logits, torch.sigmoid(joined), reduction="none")
    kinds = nn.functional.kl_div(hazards.log_softmax(dim=-1), named.log_softmax(dim=-1), reduction="batchmean", log_target=True)
    return each + (whole * asked).sum() / asked.sum().clamp(min=1) + 0.2 * kinds
