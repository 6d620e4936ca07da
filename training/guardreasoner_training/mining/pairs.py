"""Which rows are hard for a model, and what it is to learn from them: pure functions over generations and labels."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from guardreasoner_sdk._text import JsonError
from guardreasoner_sdk.data.records import json_object, whole_lines
from guardreasoner_sdk.errors import InputError
from guardreasoner_sdk.exchange import Exchange, Turn
from guardreasoner_sdk.verdict import Task
from guardreasoner_training.formats import Format, labels_in
from guardreasoner_training.rows import TrainingRow, from_source

__all__ = [
    "ORDER",
    "Choice",
    "Generation",
    "PairLine",
    "PreferencePair",
    "hard_task",
    "marks_of",
    "merge_pairs",
    "pair_of",
    "read_pairs",
    "weigh_pairs",
    "weights",
]

ORDER: tuple[Task, ...] = ("prompt_harmfulness", "response_harmfulness", "response_refusal")
"""The order in which the tasks are looked at; the first one that is mixed makes the pair."""

Mark = Literal["right", "wrong", "unreadable"]


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("is empty")
    return text


class PairLine(BaseModel):
    """What training reads of a line of ``pairs.jsonl``, which :meth:`PreferencePair.line` writes.

    Args:
        chosen: the answer to prefer.
        rejected: the other one; nothing at all may well be what is not to be written.
        alpha: the weight in the loss, above 0.
    """

    model_config = ConfigDict(frozen=True)

    prompt: str
    response: str | None
    history: tuple[Turn, ...] = ()
    chosen: Annotated[str, AfterValidator(_not_blank)]
    rejected: str
    alpha: Annotated[FiniteFloat, Field(gt=0)]


def read_pairs(path: Path) -> Iterator[tuple[int, Exchange, PairLine]]:
    """The pairs of a file: the number of each line, what was asked about, and the answers.

    Raises:
        InputError: the file cannot be read, or a line is no pair; naming file, line and field.
    """
    fix = "mine the pairs again"
    for number, line in whole_lines(path):
        place = f"{path}:{number}"
        try:
            pair = PairLine.model_validate(json_object(line))
            exchange = Exchange(pair.prompt, pair.response, pair.history)
        except JsonError as error:
            raise InputError(place, str(error), fix) from None
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            problem = first.get("ctx", {}).get("error", first["msg"])
            raise InputError(f"{place}: {'.'.join(map(str, first['loc']))}", str(problem), fix) from None
        except InputError as error:
            raise InputError(f"{place}: {error.field}", error.problem, fix) from None
        yield number, exchange, pair


@dataclass(frozen=True, slots=True)
class Generation:
    """What a model wrote.

    Args:
        text: all of it.
        finish: ``stop``, or ``length`` where it was cut off.
    """

    text: str
    finish: Literal["stop", "length"]


@dataclass(frozen=True, slots=True)
class Choice:
    """How the two generations of a pair are chosen.

    Args:
        pair: at random (the paper), or the longest ones (the authors' script).
        seed: of the drawing.
        unreadable: what an answer without a readable label is: nothing (the authors' script), or a wrong answer.
        strict_chosen: whether the chosen one must be right on all tasks that are labelled.
    """

    pair: Literal["random", "longest"] = "random"
    seed: int = 0
    unreadable: Literal["skip", "wrong"] = "skip"
    strict_chosen: bool = False


@dataclass(frozen=True, slots=True)
class PreferencePair:
    """A right and a wrong generation of one row.

    Args:
        row: the row.
        task: on which one is right and the other wrong.
        chosen: the right one.
        rejected: the wrong one.
        correct: how many of the generations are right.
        wrong: how many are wrong.
        model: which model wrote them.
        alpha: the weight in the loss.
    """

    row: TrainingRow
    task: Task
    chosen: str
    rejected: str
    correct: int
    wrong: int
    model: str
    alpha: float = 1.0

    def line(self) -> dict[str, Any]:
        """The pair as a line of the file of pairs."""
        history = [turn.model_dump() for turn in self.row.exchange.history]
        return {
            "id": self.row.id,
            "prompt": self.row.exchange.prompt,
            "response": self.row.exchange.response,
            **({"history": history} if history else {}),
            "source": self.row.source,
            "task": self.task,
            "chosen": self.chosen,
            "rejected": self.rejected,
            "correct": self.correct,
            "wrong": self.wrong,
            "alpha": self.alpha,
            "model": self.model,
        }


def marks_of(row: TrainingRow, generations: Sequence[Generation], format: Format) -> dict[Task, list[Mark]]:
    """What each generation is on each task that the row has a label for, by the dialect's own reading.

    An answer that was cut off is unreadable, whatever it says before the cut: it does not end as an answer ends.
    """
    said = [{} if one.finish == "length" else labels_in(one.text, row.exchange, format, one.finish) for one in generations]
    return {task: [_mark(labels.get(task), row.labels[task]) for labels in said] for task in ORDER if task in row.labels}


def _mark(said: bool | None, truth: bool) -> Mark:
    if said is None:
        return "unreadable"
    return "right" if said == truth else "wrong"


def hard_task(marks: Mapping[Task, Sequence[Mark]], choice: Choice) -> Task | None:
    """The first task on which some generations are right and some are wrong; None where there is none.

    Args:
        choice: whether an unreadable one is a wrong one.
    """
    wrong = _wrong(choice)
    return next((task for task in ORDER if task in marks and "right" in marks[task] and wrong & set(marks[task])), None)


def pair_of(
    row: TrainingRow,
    generations: Sequence[Generation],
    marks: Mapping[Task, Sequence[Mark]],
    choice: Choice,
    *,
    model: str,
) -> PreferencePair | None:
    """One right and one wrong generation of a row; None where it is not hard, or where none is right enough.

    A blank generation is never the rejected one, whatever it counts as: there is nothing in it to be told from.
    """
    said = [number for number, one in enumerate(generations) if one.text.strip()]
    task = hard_task({task: [listed[number] for number in said] for task, listed in marks.items()}, choice)
    if task is None:
        return None
    correct = [number for number, mark in enumerate(marks[task]) if mark == "right"]
    wrong = [number for number, mark in enumerate(marks[task]) if mark in _wrong(choice)]
    fit = [number for number in correct if not choice.strict_chosen or all(m[number] == "right" for m in marks.values())]
    if not fit:
        return None
    random = Random(f"{choice.seed}/{model}/{row.id}")  # noqa: S311
    longest = choice.pair == "longest"
    chosen = max(fit, key=lambda number: len(generations[number].text)) if longest else random.choice(fit)
    # One that was cut off where the chosen one ends is wrong, and yet the same text: nothing to tell apart.
    right = generations[chosen].text
    told = [number for number in wrong if number in said and generations[number].text != right]
    if not told:
        return None
    rejected = max(told, key=lambda number: len(generations[number].text)) if longest else random.choice(told)
    return PreferencePair(row, task, right, generations[rejected].text, len(correct), len(wrong), model)


def _wrong(choice: Choice) -> set[str]:
    return {"wrong", "unreadable"} if choice.unreadable == "wrong" else {"wrong"}


def weights(differences: Sequence[int], gamma: float) -> list[float]:
    """The weights alpha of a set of pairs: 1 + Norm(wrong - right, gamma), scaled to [1 - gamma, 1 + gamma].

    Args:
        differences: wrong less right generations of each pair.
        gamma: how far a weight may lie from 1.

    Returns:
        as many weights; 1 for all where all differences are the same.
    """
    if not differences:
        return []
    least, most = min(differences), max(differences)
    if least == most:
        return [1.0] * len(differences)
    return [1.0 - gamma + 2.0 * gamma * (difference - least) / (most - least) for difference in differences]


def weigh_pairs(pairs: Sequence[PreferencePair], gamma: float) -> list[PreferencePair]:
    """The pairs of a set with their weights: those of a row that was harder weigh more.

    Args:
        gamma: how far a weight may lie from 1.
    """
    alphas = weights([pair.wrong - pair.correct for pair in pairs], gamma)
    return [replace(pair, alpha=alpha) for pair, alpha in zip(pairs, alphas, strict=True)]


def merge_pairs(
    own: Iterable[PreferencePair], others: Iterable[Iterable[PreferencePair]], own_sources: Sequence[str]
) -> list[PreferencePair]:
    """H_ensemble: the R-SFT model's pairs of some sources, the other models' pairs of the others, one for each exchange.

    Where several models have a pair for an exchange, the first model's stays.

    Args:
        others: of the other models, in order.
        own_sources: patterns of the sources that the R-SFT model's pairs are taken of.
    """
    found: dict[Any, PreferencePair] = {}
    for pair in own:
        if from_source(pair.row.source, own_sources):
            found.setdefault(pair.row.exchange, pair)
    for pairs in others:
        for pair in pairs:
            if not from_source(pair.row.source, own_sources):
                found.setdefault(pair.row.exchange, pair)
    return list(found.values())
