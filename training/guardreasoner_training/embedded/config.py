"""Every setting of a training run, in one place: what the command line changes and what the model card prints."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Final

from guardreasoner_sdk.judges.encoding import EncodingConfig
from guardreasoner_training.embedded.sources import UNSEEN_SOURCES

_TRAIN_ENCODINGS: Final = (EncodingConfig(144, 56, 32, 80), EncodingConfig(320, 80, 32, 80))
# Of 160, 256 and 384 tokens, tried on the shipped weights, the middle was the best on unseen sources; each costs minutes.
_ENCODINGS: Final = (EncodingConfig(256, 64, 48, 80),)


@dataclass(frozen=True, slots=True)
class Limits:
    """How much harmless text of the development split a threshold may flag, as shares.

    Attributes:
        prompts: of plain instructions and chat.
        over_refusal: of prompts that look harmful.
        answers: of answers to plain instructions.
    """

    prompts: float = 0.03
    over_refusal: float = 0.06
    answers: float = 0.02


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
        language_weight: the same of the languages, which are read off and teach the encoder nothing.
        teacher_weight: weight of what a teacher says, where there is one (`distil`), beside what the labels say.
        average_share: the weights that are kept are a running mean over about the last steps, this share of all.
        written: whether examples that are made here join those of the data (`written`).
        wrapped_examples: requests inside our own wrappings, half of them harmful (`wrappings`).
        paired_examples: further answers to the prompts of the data (`answers`).
        chats_per_pattern: everyday requests of each pattern (`chats`).
        head_width: hidden units of each head.
        head_dropout: share of a token's features dropped in training.
        most_windows: of a long harmful text, how many windows are learnt from: the first, and a draw of the others.
        later_window_share: of a long harmless text, how often it is a later window that is learnt from.
        bfloat16: whether products are taken in 16 bits, which is faster by half where a processor knows how.
        prompt_dropout: how often a pair is learnt without its prompt, so that the answer itself must tell.
        lower_share: how often a prompt is learnt in small letters, as people type.
        upper_share: how often it is learnt in capitals.
        train_encodings: windows in training: short ones, because they are cheap, and long ones.
        long_share: of what does not fit into a short window, how much is learnt from long ones.
        encodings: windows that the shipped model may use; the development split and the unseen sources choose.
        dev_share: share of prompt groups held out.
        response_dev_share: the same for groups with labels of harmful responses.
        unseen_sources: sources held out whole.
        dev_cap: most development examples per source and kind.
        unseen_cap: the same for each unseen source.
        limits: how much harmless text the thresholds may flag.
        disguised_examples: development examples that are measured in each disguise (`disguises`).
        measured_pairs: most pairs of texts that are measured in other surroundings (`surroundings`); 0 leaves that out.
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
    label_smoothing: float = 0.01
    head_weights: tuple[float, float, float] = (1.0, 0.8, 1.5)
    hazard_weight: float = 0.2
    language_weight: float = 0.2
    teacher_weight: float = 1.0
    average_share: float = 0.05
    written: bool = True
    wrapped_examples: int = 4000
    paired_examples: int = 4500
    chats_per_pattern: int = 50
    head_width: int = 64
    head_dropout: float = 0.1
    most_windows: int = 3
    later_window_share: float = 0.35
    bfloat16: bool = True
    prompt_dropout: float = 0.1
    lower_share: float = 0.08
    upper_share: float = 0.02
    train_encodings: tuple[EncodingConfig, EncodingConfig] = _TRAIN_ENCODINGS
    long_share: float = 0.2
    encodings: tuple[EncodingConfig, ...] = _ENCODINGS
    dev_share: float = 0.04
    response_dev_share: float = 0.12
    unseen_sources: tuple[str, ...] = UNSEEN_SOURCES
    dev_cap: int = 200
    unseen_cap: int = 2000
    limits: Limits = Limits()
    disguised_examples: int = 1200
    measured_pairs: int = 24
    checkpoint_steps: int = 200
    threads: int = 2

    def to_json(self) -> dict[str, object]:
        """Return the settings as plain values."""
        return asdict(self)
