"""How a sequence classifier is read: what each of its labels means, and which texts it looks at. Pure, like every dialect.

A published classifier has its map in ``label_maps.toml`` beside this file, with the page that says what the labels mean. One of
your own has it in ``guard.json`` beside its weights, or in the options of its engine.
"""

from __future__ import annotations

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any, ClassVar, Literal, get_args

from guardreasoner_sdk._arguments import did_you_mean
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.wire import read_wire_format
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Passage
from guardreasoner_sdk.verdict import TASKS, Task

__all__ = ["LabelMap", "Meanings", "label_maps", "labels_of", "meanings_of"]

Scores = Literal["softmax", "sigmoid"]
Meaning = Literal["harmful", "unharmful", "refusal", "compliance", "ignored"]

_OPPOSITE: Mapping[str, str] = {
    "harmful": "unharmful",
    "unharmful": "harmful",
    "refusal": "compliance",
    "compliance": "refusal",
}
_WORDS: Mapping[str, Meaning] = {
    **dict.fromkeys(("harmful", "unsafe", "malicious"), "harmful"),
    **dict.fromkeys(("unharmful", "harmless", "safe", "benign"), "unharmful"),
    "refusal": "refusal",
    "compliance": "compliance",
}
"""Labels that say what they mean. ``toxic``, ``injection`` and the like do not: whether that is harm is for a map to say."""


@dataclass(frozen=True, slots=True)
class Meanings:
    """What the outputs of one model mean, in their order.

    Args:
        labels: the model's names.
        meanings: of each, with the category that it names; None where it names none.
        sigmoid: whether each output is a probability of its own, or all of them are one distribution.
        temperature: what the outputs are divided by before they become probabilities.
        threshold: the probability (0 to 1) from which on a finding is positive.
    """

    labels: tuple[str, ...]
    meanings: tuple[tuple[Meaning, str | None], ...]
    sigmoid: bool
    temperature: float
    threshold: float

    def probabilities(self, logits: Sequence[float]) -> tuple[float, ...] | None:
        """The probability of each label; None where an output is no number.

        Args:
            logits: the model's outputs, one for each label.
        """
        scaled = [logit / self.temperature for logit in logits]
        if not all(map(math.isfinite, scaled)):
            return None
        if self.sigmoid:
            # Each from its smaller power, so that none overflows.
            return tuple(
                1 / (1 + math.exp(-logit)) if logit >= 0 else math.exp(logit) / (1 + math.exp(logit)) for logit in scaled
            )
        powers = [math.exp(logit - max(scaled)) for logit in scaled]
        whole = sum(powers)
        return tuple(power / whole for power in powers)

    def score(self, probabilities: Sequence[float], positive: Meaning) -> float:
        """The probability of harm, or of a refusal: that of the strongest label that means it, or of all of them together where
        the labels exclude each other.

        Args:
            probabilities: of each label.
            positive: ``harmful`` or ``refusal``.
        """
        chances = [chance for chance, (meaning, _) in zip(probabilities, self.meanings, strict=True) if meaning == positive]
        return max(chances) if self.sigmoid else min(1.0, math.fsum(chances))

    def categories(self, probabilities: Sequence[float]) -> tuple[str, ...]:
        """The categories that a harmful text is in: of the labels that reach the threshold, or of the likeliest one where the
        labels exclude each other.

        Args:
            probabilities: of each label.
        """
        named = [
            (chance, name)
            for chance, (meaning, name) in zip(probabilities, self.meanings, strict=True)
            if meaning == "harmful" and name is not None
        ]
        if self.sigmoid:
            return tuple(dict.fromkeys(name for chance, name in named if chance >= self.threshold))
        return (max(named)[1],) if named else ()


@dataclass(frozen=True, kw_only=True)
class LabelMap:
    """What the labels of a classifier mean.

    Args:
        name: as in ``Guard(dialect=...)``; of a map of one's own what it is called in errors.
        labels: by the model's label, or by the number of its output (``"0"``), what it means: ``harmful``, ``unharmful``,
            ``refusal``, ``compliance`` or ``ignored``; ``harmful: Hate`` names a category, too. Empty: the labels say it
            themselves (``safe``, ``unsafe``, ``benign``, ``malicious``, ``harmful``, ``refusal`` and their opposites).
        scores: ``softmax`` (the labels exclude each other) or ``sigmoid`` (each stands for itself); None: as ``problem_type``
            in the model's configuration says, and else ``softmax`` for two labels or more.
        tasks: what it is asked about; default: harm in prompts and in responses for labels of harm, refusals for those.
        threshold: the probability (0 to 1) from which on a finding is positive.
        temperature: what the outputs are divided by before they become probabilities: above 1 draws them to the middle, below
            it to the ends. It changes neither their order nor, for two labels and a threshold of a half, any finding.
        pair: whether a response is read together with its prompt, as the pair of texts that the model was trained on.
        window: most tokens that it reads at a time, special ones among them; default: as its configuration says.
        looks_for: the one kind of harm that it finds, in a few words. Text in which it finds none of that may hold another:
            its findings say so in their ``note``. None: it judges harm of every kind.
        wire: the file of the text around prompt and response, where one is published.
        head: ``first token`` for a linear layer right on the first token's state, as PIGuard has; None: transformers' own.
        tokenizers: by repository, where its tokenizer comes from if not from the repository itself.
        source: where it is documented what the labels mean.

    Raises:
        ConfigurationError: a field that cannot work, named.

    Example:
        >>> from guardreasoner_sdk.dialects.label_map import LabelMap
        >>> LabelMap(labels={"LABEL_0": "unharmful", "LABEL_1": "harmful: Hate"}).judges
        ('prompt_harmfulness', 'response_harmfulness')
    """

    modes: ClassVar[tuple[Reasoning, ...]] = ("auto", "off")

    name: str = "labels"
    labels: Mapping[str, str] = field(default_factory=dict)
    scores: Scores | None = None
    tasks: Sequence[Task] | None = None
    threshold: float = 0.5
    temperature: float = 1.0
    pair: bool = False
    window: int | None = None
    looks_for: str | None = None
    wire: str | None = None
    head: Literal["first token"] | None = None
    tokenizers: Mapping[str, str] = field(default_factory=dict)
    source: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.labels, Mapping):
            raise ConfigurationError(f"labels: must be a mapping such as {{'LABEL_1': 'harmful'}}, not {self.labels!r}")
        object.__setattr__(self, "labels", {str(label): meaning for label, meaning in self.labels.items()})
        for label, meaning in self.labels.items():
            _meaning(label, meaning)
        if self.scores is not None and self.scores not in get_args(Scores):
            raise ConfigurationError(f"scores: must be 'softmax' or 'sigmoid', not {self.scores!r}")
        if self.tasks is not None and (isinstance(self.tasks, str) or not self.tasks or not set(self.tasks) <= set(TASKS)):
            raise ConfigurationError(f"tasks: must be some of {', '.join(TASKS)}, not {self.tasks!r}")
        if not _is_number(self.threshold) or not 0 < self.threshold < 1:
            raise ConfigurationError(f"threshold: must be a probability between 0 and 1, not {self.threshold!r}")
        if not _is_number(self.temperature) or not 0 < self.temperature < math.inf:
            raise ConfigurationError(f"temperature: must be a number above 0, not {self.temperature!r}")
        if not isinstance(self.pair, bool):
            raise ConfigurationError(f"pair: must be true or false, not {self.pair!r}")
        if self.window is not None and (isinstance(self.window, bool) or not isinstance(self.window, int) or self.window < 16):
            raise ConfigurationError(f"window: must be a whole number from 16, not {self.window!r}")

    @classmethod
    def of(cls, values: Mapping[str, Any], where: str) -> LabelMap:
        """Read a map out of a file.

        Args:
            values: its fields by name.
            where: the file, for errors.

        Raises:
            ConfigurationError: a field that there is not, or that cannot work.
        """
        known = [each.name for each in fields(cls)]
        for name in values:
            if name not in known:
                meant = did_you_mean(name, known)
                raise ConfigurationError(
                    f"model: {where}: {name!r} is no field of a label map; {meant or ''}{' ' if meant else ''}"
                    f"known are {', '.join(known)}"
                )
        return cls(**values)

    def changed(self, **given: Any) -> LabelMap:
        """The map with the fields that were given; what is None stays.

        Args:
            given: fields by name.
        """
        values = {name: value for name, value in given.items() if value is not None}
        return replace(self, **values) if values else self

    @property
    def judges(self) -> tuple[Task, ...]:
        """The tasks that the classifier is asked about."""
        if self.tasks is not None:
            return tuple(task for task in TASKS if task in self.tasks)
        meant = {_meaning(label, meaning)[0] for label, meaning in self.labels.items()}
        harm = not meant or "harmful" in meant
        return tuple(task for task in TASKS if ("refusal" in meant if task == "response_refusal" else harm))

    @property
    def wire_format(self) -> str | None:
        """Where the text around what is judged is published; None where there is none."""
        return None if self.wire is None else read_wire_format(self.wire).source

    def bind(self, labels: Sequence[str], problem_type: str | None = None) -> Meanings:
        """Say what the outputs of a model mean.

        Args:
            labels: of the outputs, in their order.
            problem_type: as transformers' configurations have it.

        Raises:
            ConfigurationError: a label that the map does not know, or one that says the opposite of it; the message lists the
                labels and shows how to give a map.
        """
        found = tuple(self._meaning_of(number, label, labels) for number, label in enumerate(labels))
        kinds = {meaning for meaning, _ in found} - {"ignored"}
        sigmoid = self._is_sigmoid(len(labels), problem_type)
        for task in self.judges:
            positive = "refusal" if task == "response_refusal" else "harmful"
            if positive not in kinds:
                raise ConfigurationError(f"labels: none of {_listed(labels)} means {positive}; {_how(labels)}")
        if not sigmoid and {"harmful", "refusal"} <= kinds:
            raise ConfigurationError(
                "labels: harm and refusals cannot be labels that exclude each other; ignore the one or the other, or pass "
                "scores='sigmoid'"
            )
        if not sigmoid and not kinds & {"unharmful", "compliance"} and all(meaning != "ignored" for meaning, _ in found):
            raise ConfigurationError(f"labels: every label of {_listed(labels)} means the same; {_how(labels)}")
        return Meanings(tuple(labels), found, sigmoid, self.temperature, self.threshold)

    def passages(self, exchange: Exchange) -> dict[Task, Passage]:
        """What the classifier has to read, by task. Earlier turns are not read: these models know single texts and pairs.

        Args:
            exchange: what is judged.
        """
        found: dict[Task, Passage] = {}
        for task in exchange.tasks:
            if task not in self.judges:
                continue
            if exchange.response is None or task == "prompt_harmfulness":
                found[task] = Passage(exchange.prompt)
            elif self.wire is not None:
                around = read_wire_format(self.wire).sections
                found[task] = Passage(exchange.response, exchange.prompt, (around["before"], around["between"]))
            else:
                found[task] = Passage(exchange.response, exchange.prompt if self.pair else None)
        return found

    def _is_sigmoid(self, count: int, problem_type: str | None) -> bool:
        if self.scores is not None:
            return self.scores == "sigmoid"
        # As the pipelines of transformers choose.
        return count == 1 or problem_type == "multi_label_classification"

    def _meaning_of(self, number: int, label: str, labels: Sequence[str]) -> tuple[Meaning, str | None]:
        says = _WORDS.get(label.casefold())
        mapped = self.labels.get(label, self.labels.get(str(number)))
        if mapped is None:
            if self.labels or says is None:
                raise ConfigurationError(f"labels: it is not known what {label!r} means; {_how(labels)}")
            return says, None
        meaning = _meaning(label, mapped)
        if says is not None and _OPPOSITE.get(meaning[0]) == says:
            raise ConfigurationError(
                f"labels: output {number} of the model is called {label!r}, and the map {self.name!r} says {meaning[0]}; "
                f"{_how(labels)}"
            )
        return meaning


def labels_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The labels of a model, in the order of its outputs.

    Args:
        config: its ``config.json``.

    Raises:
        ConfigurationError: they are not numbered from 0 on.
    """
    named = config.get("id2label")
    if named is None:
        count = config.get("num_labels", 2)
        return tuple(f"LABEL_{number}" for number in range(count)) if isinstance(count, int) else ()
    if isinstance(named, Mapping) and {str(number) for number in range(len(named))} == set(map(str, named)) and named:
        return tuple(str(named[key]) for key in sorted(named, key=int))
    raise ConfigurationError("model: id2label in config.json does not number its labels from 0 on; fix it there")


def meanings_of(labels: Sequence[str]) -> dict[str, str]:
    """What labels mean that say it themselves; the others are left out.

    Args:
        labels: of a model.

    Example:
        >>> from guardreasoner_sdk.dialects.label_map import meanings_of
        >>> meanings_of(["SAFE", "UNSAFE", "LABEL_2"])
        {'SAFE': 'unharmful', 'UNSAFE': 'harmful'}
    """
    return {label: _WORDS[label.casefold()] for label in labels if label.casefold() in _WORDS}


@cache
def label_maps() -> Mapping[str, LabelMap]:
    """The maps of published classifiers, by name."""
    text = files(__package__).joinpath("label_maps.toml").read_text("utf-8")
    return MappingProxyType({name: LabelMap(name=name, **values) for name, values in tomllib.loads(text).items()})


def _meaning(label: str, meaning: object) -> tuple[Meaning, str | None]:
    kind, _, category = meaning.partition(":") if isinstance(meaning, str) else ("", "", "")
    if kind.strip() not in get_args(Meaning) or (category and kind.strip() != "harmful"):
        raise ConfigurationError(
            f"labels: {label!r} cannot mean {meaning!r}; use harmful, 'harmful: a category', unharmful, refusal, compliance "
            "or ignored"
        )
    return kind.strip(), category.strip() or None  # type: ignore[return-value]


def _how(labels: Sequence[str]) -> str:
    guesses = ", ".join(f"{label!r}: '{'harmful' if number else 'unharmful'}'" for number, label in enumerate(labels[:2]))
    more = ", ..." if len(labels) > 2 else ""
    return (
        f"its labels are {_listed(labels)}; say what each means: options={{'labels': {{{guesses}{more}}}}}, or \"labels\" in "
        "guard.json beside the weights"
    )


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(map(repr, labels)) or "none"


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
