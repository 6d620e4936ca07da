"""Every setting of a training run, in one place: what the command line changes and what the model card prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from guardreasoner_sdk.judges.encoding import EncodingConfig
from guardreasoner_training.embedded.sources import UNSEEN_SOURCES

_TRAIN_ENCODING: Final = EncodingConfig(prompt_tokens=160, pair_tokens=160, pair_prompt_tokens=64, overlap_tokens=32)
_ENCODINGS: Final = tuple(
    EncodingConfig(prompt, pair, 64, 32, opening)
    for prompt, pair, opening in ((160, 256, None), (160, 256, 128), (160, 256, 96), (160, 192, 128), (256, 256, 128))
)


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of one run. The defaults are those of the shipped model.

    Attributes:
        epochs: passes over the training examples.
        max_rows: most training examples, or None for all that the source caps allow.
        seed: of the split, the choice of rows, the order, and the weights of the new heads.
        batch_size: examples per step.
        learning_rate: peak rate of the encoder.
        head_learning_rate: peak rate of the new heads.
        warmup_share: share of the steps over which the rate rises; it falls in a line to zero after.
        weight_decay: of all matrices.
        clip_norm: largest norm of a gradient.
        label_smoothing: how far a label is moved towards 0.5; source labels are not all right.
        head_weights: weight of each head's loss, in the order of `HEADS`.
        hazard_weight: weight of the loss of the hazard categories.
        average_share: the weights that are kept are a running mean over about the last steps, this share of all.
        written: whether examples that are made here join those of the data (`written`).
        wrapped_examples: requests inside our own wrappings, half of them harmful (`wrappings`).
        paired_examples: further answers to the prompts of the data (`answers`).
        chats_per_pattern: everyday requests of each pattern (`chats`).
        head_width: hidden units of each head.
        head_dropout: share of pooled features dropped in training.
        later_window_share: how often a long text is learnt from one of its later windows.
        prompt_dropout: how often a pair is learnt without its prompt, so that the answer itself must tell.
        train_encoding: windows in training, short because that is cheap.
        encodings: windows that the shipped model may use; the development split and the unseen sources choose.
        level_examples: examples of the short second stage, in which other languages than English are as often harmless as
            harmful (`examples.level_languages`); 0 leaves it out.
        level_learning_rate: its peak rate, encoder and heads alike.
        dev_share: share of prompt groups held out.
        response_dev_share: the same for groups with labels of harmful responses.
        unseen_sources: sources held out whole.
        dev_cap: most development examples per source and kind.
        unseen_cap: the same for each unseen source.
        most_false_alarms: largest share of harmless instruction data that a threshold of the first head may flag.
        disguised_examples: development examples that are measured in each disguise (`disguises`).
        keep_float: parts of the names of matrices that stay in 32 bits in the shipped model.
        checkpoint_steps: steps between saved weights.
        threads: processor threads.
    """

    epochs: int = 1
    max_rows: int | None = None
    seed: int = 7
    batch_size: int = 32
    learning_rate: float = 1e-4
    head_learning_rate: float = 1e-3
    warmup_share: float = 0.06
    weight_decay: float = 0.01
    clip_norm: float = 1.0
    label_smoothing: float = 0.03
    head_weights: tuple[float, float, float] = (1.0, 0.8, 1.5)
    hazard_weight: float = 0.2
    average_share: float = 0.05
    written: bool = True
    wrapped_examples: int = 6000
    paired_examples: int = 6000
    chats_per_pattern: int = 50
    head_width: int = 64
    head_dropout: float = 0.1
    later_window_share: float = 0.3
    prompt_dropout: float = 0.1
    train_encoding: EncodingConfig = _TRAIN_ENCODING
    encodings: tuple[EncodingConfig, ...] = _ENCODINGS
    level_examples: int = 9600
    level_learning_rate: float = 4e-5
    dev_share: float = 0.04
    response_dev_share: float = 0.12
    unseen_sources: tuple[str, ...] = UNSEEN_SOURCES
    dev_cap: int = 200
    unseen_cap: int = 400
    most_false_alarms: float = 0.03
    disguised_examples: int = 1200
    keep_float: tuple[str, ...] = ()
    checkpoint_steps: int = 200
    threads: int = 2

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return asdict(self)
