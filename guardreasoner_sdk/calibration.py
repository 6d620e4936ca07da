"""A calibration: what a guard's scores are worth on somebody's own data, as a small file, and how it is applied.

``guardreasoner calibrate`` makes such a file, ``Guard(calibration="calibration.json")`` applies it: scores become
probabilities under that data, labels are decided again by the threshold, and all of this before the policy.
"""

from __future__ import annotations

import math
import os
from bisect import bisect_right
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from guardreasoner_sdk.data.atomic import replacing
from guardreasoner_sdk.errors import ConfigurationError
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Judgement, ReasoningStep, Task

__all__ = [
    "ANY",
    "BandReport",
    "Calibration",
    "Figures",
    "Isotonic",
    "Provenance",
    "Report",
    "TaskCalibration",
    "Temperature",
]

ANY = "any"
"""In place of a model's name: the calibration may be applied to whatever guard."""

_TILT = 1e-3
_LEAST = 1e-6

Probability = Annotated[float, Field(ge=0.0, le=1.0, strict=True)]
"""Strictly a number: ``true`` in a damaged file would be read as 1, and nothing would ever reach it."""
Percent = Annotated[float, Field(ge=0.0, le=100.0)]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class Isotonic(_Frozen):
    """A rising curve through points, as isotonic regression finds it.

    Args:
        scores: the guard's scores at the points, rising.
        values: what they are worth, never falling.
    """

    method: Literal["isotonic"] = "isotonic"
    scores: tuple[Probability, ...]
    values: tuple[Probability, ...]

    @model_validator(mode="after")
    def _rises(self) -> Self:
        rising = all(a < b for a, b in zip(self.scores, self.scores[1:], strict=False))
        if not rising or list(self.values) != sorted(self.values) or not 0 < len(self.scores) == len(self.values):
            raise ValueError("scores and values: must be equally many, at least one, and rise")
        return self

    def __call__(self, score: float) -> float:
        """What a score is worth.

        Args:
            score: the guard's, 0 to 1.
        """
        place = bisect_right(self.scores, score)
        if place in (0, len(self.scores)):
            value = self.values[0 if place == 0 else -1]
        else:
            (left, right), (low, high) = self.scores[place - 1 : place + 1], self.values[place - 1 : place + 1]
            value = low + (high - low) * (score - left) / (right - left)
        return _tilted(value, score)


class Temperature(_Frozen):
    """Log-odds divided by a temperature and shifted: a guard too sure of itself has a temperature above 1.

    Args:
        temperature: what the log-odds are divided by.
        shift: what is added to them: above 0 where harm is more frequent than the guard thinks.
    """

    method: Literal["temperature"] = "temperature"
    temperature: Annotated[float, Field(gt=0.0, allow_inf_nan=False)]
    shift: Annotated[float, Field(allow_inf_nan=False)] = 0.0

    def __call__(self, score: float) -> float:
        """What a score is worth.

        Args:
            score: the guard's, 0 to 1.
        """
        odds = log_odds(score) / self.temperature + self.shift
        # The one that does not overflow.
        chance = 1 / (1 + math.exp(-odds)) if odds > 0 else math.exp(odds) / (1 + math.exp(odds))
        return _tilted(chance, score)


def _tilted(value: float, score: float) -> float:
    # Where the curve is level, the guard's own order has to survive: a threshold could not tell such rows apart.
    return value + _TILT * (score - value)


def log_odds(score: float) -> float:
    """Log-odds of a probability; those of 0 and 1 are finite.

    Args:
        score: 0 to 1.
    """
    chance = min(max(score, _LEAST), 1 - _LEAST)
    return math.log(chance / (1 - chance))


class Figures(_Frozen):
    """How good findings are, in percent; None where a figure would mean nothing.

    Args:
        ece: expected calibration error: 15 intervals of equal width, weighted by rows.
        f1: of the positive class.
        recall: share of the positives that was found.
        false_alarm_rate: share of the negatives that was called positive.
    """

    ece: Percent | None
    f1: Percent | None
    recall: Percent | None
    false_alarm_rate: Percent | None


class BandReport(_Frozen):
    """What a cascade with this band does on rows that the band was not chosen on, its second judge assumed right. Percent.

    Args:
        promised_recall: the share of positives that it was chosen to keep.
        recall: the share that it kept.
        promised_false_alarm_rate: the most false alarms that it was chosen to let pass.
        false_alarm_rate: those that it let pass.
        escalated: share of the rows that the second judge sees.
    """

    promised_recall: Percent
    recall: Percent
    promised_false_alarm_rate: Percent
    false_alarm_rate: Percent
    escalated: Percent


class Report(_Frozen):
    """What a calibration does, measured on rows that it was not fitted on.

    Args:
        fitted: rows it was fitted on.
        rows: rows it was measured on.
        positives: those of them that are positive.
        before: the guard as it is.
        after: the guard with the calibration.
        band: the cascade; None where there is no band.
        notes: what one has to know, in sentences.
    """

    fitted: int
    rows: int
    positives: int
    before: Figures
    after: Figures
    band: BandReport | None = None
    notes: tuple[str, ...] = ()


class TaskCalibration(_Frozen):
    """The calibration of one task.

    Args:
        curve: from the guard's scores to probabilities.
        threshold: the probability, of those that the curve gives, from which the label is the positive one; None: the label
            stays the guard's own.
        basis: what the threshold rests on: ``promised`` where the recall or rate asked for is promised, ``empirical`` where it
            was reached on the rows it was chosen on and no more is known; None where that was not noted.
        band: the guard's own scores, not those of the curve, between which a cascade asks its second judge; None: not
            known.
        report: what it does.
    """

    curve: Annotated[Isotonic | Temperature, Field(discriminator="method")]
    threshold: Probability | None = None
    basis: Literal["promised", "empirical"] | None = None
    band: tuple[Probability, Probability] | None = None
    report: Report | None = None

    @model_validator(mode="after")
    def _band_is_an_interval(self) -> Self:
        if self.band is not None and self.band[0] > self.band[1]:
            raise ValueError("band: must begin below its end")
        return self


class Provenance(_Frozen):
    """What a calibration was made of.

    Args:
        backend: what ran the model.
        rows: how many rows had a label, over all tasks.
        data: SHA-256 of the rows and their labels, whatever their order.
        unseen: share of the prompts, 0 to 1, that it was measured and not fitted on.
        seed: of the split.
        recall: the recall that thresholds or bands were chosen for, 0 to 1.
        false_alarm_rate: the same of false alarms.
        confidence: in how many of 100 draws of as many rows the promises hold.
    """

    backend: str
    rows: int
    data: str
    unseen: Probability
    seed: int
    recall: Probability
    false_alarm_rate: Probability
    confidence: Percent


class Calibration(_Frozen):
    """What a guard's scores are worth. Immutable; share one between guards.

    Args:
        version: of the format.
        model: the model that it was made for, or ``any``.
        tasks: by task; one that is missing stays as it is.
        made_of: rows and settings; None for one made by hand.
        notes: what one has to know, in sentences: why a task is missing, for example.
        shortfalls: the labelled tasks for which the recall or false-alarm rate that was asked for is not reached, with the
            reason, as a sentence.

    Example:
        >>> from guardreasoner_sdk import Calibration, Guard
        >>> curve = {"method": "temperature", "temperature": 2.0}
        >>> calibration = Calibration(model="any", tasks={"prompt_harmfulness": {"curve": curve, "threshold": 0.5}})
        >>> Guard(calibration=calibration).check("How do I bake bread?").calibrated
        True
    """

    version: Literal[1] = 1
    model: str
    tasks: Mapping[Task, TaskCalibration]
    made_of: Provenance | None = None
    notes: tuple[str, ...] = ()
    shortfalls: Mapping[Task, str] = {}

    @classmethod
    def load(cls, path: str | Path) -> Calibration:
        """Read a file that ``guardreasoner calibrate`` wrote.

        Args:
            path: the file.

        Raises:
            ConfigurationError: there is none, or it holds something else.
        """
        if not isinstance(path, str | os.PathLike):
            raise ConfigurationError(f"calibration: must be a path or a Calibration, not {type(path).__name__}")
        try:
            return cls.model_validate_json(Path(path).expanduser().read_bytes())
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "file"
            raise ConfigurationError(
                f"calibration: {path} is not a calibration ({where}: {first['msg']}); make one: guardreasoner calibrate"
            ) from None
        except (OSError, ValueError) as error:
            problem = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigurationError(f"calibration: {path} cannot be read ({problem}); check the path") from None

    def save(self, path: str | Path) -> None:
        """Write it as JSON.

        Args:
            path: the file; replaced if it is there.

        Raises:
            OSError: it cannot be written.
        """
        path = Path(path).resolve()
        text = f"{self.model_dump_json(indent=2)}\n"
        if path.exists() and not path.is_file():
            # A pipe or a device is written to: with a file in its place it would be gone, /dev/null for one.
            path.write_text(text, "utf-8")
            return
        # Whole or not at all: a guard may be loading it.
        with replacing(path) as fresh:
            fresh.write_text(text, "utf-8")

    @property
    def bands(self) -> dict[Task, tuple[float, float]]:
        """The band of each task: what ``Guard(screen=..., band=...)`` takes. What was not measured is doubtful throughout."""
        known = {task: own.band for task, own in self.tasks.items() if own.band is not None}
        return dict.fromkeys(TASKS, (0.0, 1.0)) | known

    def check_made_for(self, models: Collection[str]) -> None:
        """Check that it belongs to a guard.

        Args:
            models: the names of the models that have a part in its verdicts.

        Raises:
            ConfigurationError: it was made for another one.
        """
        if not self.fits(models):
            raise ConfigurationError(
                f"calibration: made for {self.model!r}, but the guard's model is {' or '.join(map(repr, models))}; "
                "make one for it: guardreasoner calibrate"
            )

    def fits(self, models: Collection[str]) -> bool:
        """Whether it belongs to one of these models.

        Args:
            models: their names.
        """
        return self.model == ANY or self.model in models

    def apply(self, judgement: Judgement) -> Judgement:
        """Calibrate a judgement. One that is calibrated already, or has nothing to calibrate, comes back as it is.

        Undetermined findings stay undetermined, and those without a score stay as they are.

        Args:
            judgement: what a judge of the model made of an exchange.
        """
        changes: dict[str, Any] = {}
        steps = []
        for task, finding in judgement.findings.items():
            own = self.tasks.get(task)
            if own is None or finding.score is None or not finding.determined or judgement.calibrated:
                continue
            changes[task] = _calibrated(task, finding, finding.score, own)
            if changes[task] != finding:
                steps.append(_step(task, finding, changes[task], own.threshold))
        if not changes:
            return judgement
        reasoning = [self._step(step) if step.task in changes else step for step in judgement.reasoning]
        return judgement.model_copy(update={**changes, "reasoning": (*reasoning, *steps), "calibrated": True})

    def _step(self, step: ReasoningStep) -> ReasoningStep:
        """A step whose score can be compared with the calibrated one."""
        if step.task is None or step.score_without is None:
            return step
        return step.model_copy(update={"score_without": self.tasks[step.task].curve(step.score_without)})


def _calibrated(task: Task, finding: Finding, score: float, own: TaskCalibration) -> Finding:
    worth = own.curve(score)
    label = finding.label
    if own.threshold is not None:
        label = LABELS[task][0 if worth >= own.threshold else 1]
    # The span is where the model stated its label; it does not state another one there.
    span = finding.span if label == finding.label else None
    return finding.model_copy(update={"score": worth, "label": label, "span": span})


def _step(task: Task, before: Finding, after: Finding, threshold: float | None) -> ReasoningStep:
    text = f"Calibrated, P({LABELS[task][0]}) is {after.score:.2f} in place of {before.score:.2f}"
    if threshold is not None:
        text += f"; the label changes at {threshold:.2f}"
    if after.label != before.label:
        text += f", so that it is {after.label} in place of {before.label}"
    return ReasoningStep(task=task, kind="evidence", text=f"{text}.")
