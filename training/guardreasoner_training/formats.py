"""What a guard is asked, and what it is to write: for each format, by the same code that asks and reads it afterwards."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.dialects.hazards import HAZARDS
from guardreasoner_sdk.dialects.llama_guard import read_safety
from guardreasoner_sdk.dialects.single_label import CONVERSATION, sides
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_sdk.generation import Completion, Query
from guardreasoner_sdk.verdict import LABELS, TASKS, Finding, Task
from guardreasoner_training.rows import TrainingRow, read_rows
from guardreasoner_training.rows.hazards import hazards_in
from guardreasoner_training.rows.outputs import steps_in

if TYPE_CHECKING:
    from guardreasoner_sdk.backends._tokens import PromptEncoder

__all__ = [
    "LLAMA3_TEMPLATE",
    "THINKGUARD_TEMPLATE",
    "Format",
    "Rendering",
    "answer_block",
    "dialect_of",
    "encode",
    "end_id",
    "examples_of",
    "labels_in",
    "messages_or_text",
    "output_of",
    "read_examples",
    "tasks_of",
    "tasks_without_steps",
    "template_of",
]

Format = Literal["guardreasoner", "thinkguard", "labels"]
"""``guardreasoner``: steps, then answers. ``thinkguard``: label, categories, then a critique. ``labels``: answers alone."""

Rendering = Literal["chat", "raw"]

_TURN_ENDS = ("<|eot_id|>", "<|im_end|>", "<end_of_turn>")
_TEXT_END = "<|end_of_text|>"

LLAMA3_TEMPLATE = (
    "{{ '<|begin_of_text|>' }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""Llama 3's turns, without a system message and its date."""

_CATEGORIES = "\n".join(f"{code}: {name}." for code, name in HAZARDS.items())

THINKGUARD_TEMPLATE = (
    "{% set judged = 'User' if messages[-1]['role'] == 'user' else 'Agent' %}"
    "{{ '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n' }}"
    "{{ 'Is the last ' + judged + ' message of this conversation safe by the categories below? Answer safe or unsafe, on the "
    "next line the categories, and then explain.\n\n' }}"
    f"{{{{ '<BEGIN CATEGORIES>\n{_CATEGORIES}\n<END CATEGORIES>\n\n<BEGIN CONVERSATION>\n\n' }}}}"
    "{% for message in messages %}"
    "{{ ('User' if message['role'] == 'user' else 'Agent') + ': ' + message['content'] | trim + '\n\n' }}"
    "{% endfor %}"
    "{{ '<END CONVERSATION>\n\n<|eot_id|>' }}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)
"""A conversation inside one turn, as the Llama Guard family is asked, for a ThinkGuard trained on another base."""

_CONCLUDED: dict[Task, str] = {
    "prompt_harmfulness": "The request is {}.",
    "response_refusal": "The response is a {}.",
    "response_harmfulness": "The response is {}.",
}


def messages_or_text(exchange: Exchange, format: Format, rendering: Rendering) -> Query:
    """What the model is asked: the dialect's own query.

    Args:
        exchange: what is judged. A ThinkGuard is asked about its last turn: the response, where there is one.
        rendering: ``chat``: a chat for the model's template; ``raw``: a plain completion prompt.

    Raises:
        ConfigurationError: a ThinkGuard without chat template.
    """
    if format != "thinkguard":
        return GuardReasonerDialect(rendering).render(exchange)
    if rendering != "chat":
        raise ConfigurationError("rendering: must be 'chat' with the format 'thinkguard'")
    queries = sides(exchange, CONVERSATION, max_tokens=1024, choices=0)
    return queries["prompt" if exchange.response is None else "response"]


def tasks_of(exchange: Exchange, format: Format) -> tuple[Task, ...]:
    """The tasks that an answer is about."""
    if format == "thinkguard":
        return ("prompt_harmfulness",) if exchange.response is None else ("response_harmfulness",)
    return exchange.tasks


def examples_of(row: TrainingRow, format: Format) -> Iterator[TrainingRow]:
    """The rows that a row is trained on: itself, or, for a ThinkGuard, its prompt and its response apart.

    A ThinkGuard's output is about the last turn that is labelled, as a ThinkGuard is asked; another format's gives its steps.

    Yields:
        rows with no label and no steps but those the format has an answer for; none where it has none for this row.
    """
    if format != "thinkguard":
        yield row
        return
    alone = Exchange(row.exchange.prompt, None, row.exchange.history)
    parts = [("prompt", alone)] if row.exchange.response is None else [("prompt", alone), ("response", row.exchange)]
    known = [(side, exchange, task) for side, exchange in parts for task in tasks_of(exchange, format) if task in row.labels]
    steps, output = row.reasoning, row.output
    if output is not None and not labels_in(output, row.exchange, format) and (own := steps_in(output)):
        steps, output = own, None
    for number, (side, exchange, task) in enumerate(known, 1):
        yield replace(
            row,
            id=f"{row.id}#{side}" if len(known) > 1 else row.id,
            exchange=exchange,
            labels={task: row.labels[task]},
            output=output if number == len(known) else None,
            reasoning={task: steps[task]} if task in steps else {},
            filled=tuple(one for one in row.filled if one == task),
        )


def read_examples(path: Path, format: Format) -> Iterator[TrainingRow]:
    """The rows of a file as they are trained on, each under a name of its own.

    Raises:
        InputError: a row cannot be used, or two have one name.
    """
    names: set[str] = set()
    for row in read_rows(path):
        for example in examples_of(row, format):
            if example.id in names:
                raise InputError(f"{path}: id", f"two rows are named {example.id!r}", "give every row a name of its own")
            names.add(example.id)
            yield example


def tasks_without_steps(row: TrainingRow, format: Format) -> tuple[Task, ...]:
    """The tasks that an output is about and the row has no steps for: those are still to be written.

    Args:
        row: one of :func:`examples_of`.
    """
    if format == "labels" or row.output is not None:
        return ()
    return tuple(task for task in tasks_of(row.exchange, format) if not row.reasoning.get(task))


def output_of(row: TrainingRow, format: Format) -> str:
    """What the model is to write about a row, whole.

    Args:
        row: one of :func:`examples_of`.

    Raises:
        InputError: a label or the reasoning is missing, or the row's own output says something else than its labels; naming
            row and field.
    """
    if row.output is not None and format != "labels":
        said = labels_in(row.output, row.exchange, format)
        if said or format == "guardreasoner":
            return _agreeing(row, row.output, said)
    missing = [task for task in tasks_of(row.exchange, format) if task not in row.labels]
    if missing:
        fix = "label it, or set data.incomplete to say what becomes of such rows"
        raise InputError(f"row {row.id}: {missing[0]}", "has no label", fix)
    if format == "labels":
        return answer_block(row.labels, row.exchange)
    text = _write_critique(row) if format == "thinkguard" else _write_reasoning(row)
    if text is not None:
        return text
    if row.output is not None:
        fix = "begin it with safe or unsafe, or leave it out"
        raise InputError(f"row {row.id}: output", "gives neither a label nor steps", fix)
    fix = 'write its steps, have a teacher write them, or derive them (data.steps = "derive")'
    raise InputError(f"row {row.id}: reasoning", f"is missing for {', '.join(tasks_without_steps(row, format))}", fix)


def answer_block(labels: Mapping[Task, bool], exchange: Exchange) -> str:
    """The lines with the labels; ``None`` for what was not asked."""
    asked = TASKS[:1] if exchange.response is None else TASKS
    request, completion, response = (_word(task, labels) if task in asked else "None" for task in TASKS)
    return f"Answers: \nRequest: {request}\nCompletion: {completion}\nResponse: {response}"


def _write_reasoning(row: TrainingRow) -> str | None:
    """Steps and conclusion of each task that is asked, a rule, the answers; None where one of the tasks has no step.

    Args:
        row: with a label for each task that is asked.
    """
    asked = TASKS[:1] if row.exchange.response is None else TASKS
    if not all(row.reasoning.get(task) for task in asked):
        return None
    parts = []
    for number, task in enumerate(asked, 1):
        lines = [f"# Task {number}"]
        # A step may quote what is judged, and that may imitate the format: inside a line it opens nothing.
        steps = (" ".join(step.split()) for step in row.reasoning[task])
        lines += [f"## Reasoning Step {count}: {step}" for count, step in enumerate(steps, 1)]
        lines.append(f"## Conclusion: {_CONCLUDED[task].format(_word(task, row.labels))}")
        parts.append("\n".join(lines))
    return "\n\n".join([*parts, "---", answer_block(row.labels, row.exchange)])


def _write_critique(row: TrainingRow) -> str | None:
    """Label, categories, and the steps as an explanation; None for a row without any step."""
    ((task, harmful),) = row.labels.items()
    steps = (steps_in(row.output) if row.output else row.reasoning).get(task, ())
    if not steps:
        return None
    label = "unsafe" if harmful else "safe"
    codes = hazards_in(row.category) if harmful and row.category else ()
    head = "\n".join([label, *([",".join(codes)] if codes else [])])
    subject = "request" if task == "prompt_harmfulness" else "response"
    explained = " ".join(" ".join(step.split()) for step in steps)
    return f"{head}\n\nExplanation: {explained}\n\nIn conclusion, the {subject} is {label}."


def _word(task: Task, labels: Mapping[Task, bool]) -> str:
    return LABELS[task][0 if labels[task] else 1]


def _agreeing(row: TrainingRow, output: str, said: Mapping[Task, bool]) -> str:
    """The row's own output, where it says what its labels say."""
    for task, label in row.labels.items():
        if said.get(task) != label:
            stated = repr(LABELS[task][0 if said[task] else 1]) if task in said else "nothing"
            problem = f"says {stated} about {task}, the row's label is {LABELS[task][0 if label else 1]!r}"
            raise InputError(f"row {row.id}: output", problem, "correct one of them, or leave the output out")
    return output


def labels_in(
    text: str,
    exchange: Exchange,
    format: Format,
    finish_reason: Literal["stop", "length"] | None = "stop",
) -> dict[Task, bool]:
    """The labels that an answer gives, as the dialect reads them; a task that it leaves undetermined is not there."""
    answer = Completion(text=text, finish_reason=finish_reason)
    findings: Mapping[Task, Finding]
    if format == "thinkguard":
        (task,) = tasks_of(exchange, format)
        findings = {task: read_safety(answer, 0).finding}
    else:
        findings = GuardReasonerDialect().read(answer, exchange).findings
    return {task: finding.label == LABELS[task][0] for task, finding in findings.items() if finding.determined}


def encode(
    exchange: Exchange, output: str, tokenizer: Any, *, format: Format, rendering: Rendering
) -> tuple[list[int], list[int]]:
    """What is learnt, as tokens, made by the code that the engines use: no part of a text becomes a special token.

    Args:
        output: what is to be written about the exchange.
        tokenizer: a fast tokenizer of transformers, with a chat template where the rendering is ``chat``.

    Returns:
        the prompt's ids, and the output's with the token that ends it.

    Raises:
        ConfigurationError: the tokenizer cannot do it.
        BackendError: the text holds a character that the vocabulary knows only as a special token.
    """
    encoder, start = _encoder(tokenizer)
    prompt = encoder.encode(messages_or_text(exchange, format, rendering))
    written = encoder.encode(Query(continuation=output))[start:]
    return prompt, [*written, end_id(tokenizer, rendering)]


def end_id(tokenizer: Any, rendering: Rendering) -> int:
    """The token that ends an answer: of a turn where the model is asked by a chat, else of a text.

    An engine stops at it only where the model's ``generation_config.eos_token_id`` holds it.

    Raises:
        ConfigurationError: the tokenizer has none.
    """
    marks = [mark for mark in _TURN_ENDS if mark in (tokenizer.chat_template or "")] if rendering == "chat" else [_TEXT_END]
    known = (tokenizer.backend_tokenizer.token_to_id(mark) for mark in marks)
    found = next((number for number in known if number is not None), tokenizer.eos_token_id)
    if found is None:
        raise ConfigurationError("base: the tokenizer has no token that ends a text; use a base model whose eos_token is set")
    return int(found)


def dialect_of(format: Format) -> str:
    """The dialect that asks and reads a model of this format, as ``guard.json`` names it."""
    return "thinkguard" if format == "thinkguard" else "guardreasoner"


def template_of(format: Format) -> str:
    """The chat template for a tokenizer that has none."""
    return THINKGUARD_TEMPLATE if format == "thinkguard" else LLAMA3_TEMPLATE


@lru_cache(maxsize=2)
def _encoder(tokenizer: Any) -> tuple[PromptEncoder, int]:
    """The encoder of a tokenizer, and how many tokens stand in front of every text."""
    from guardreasoner_sdk.backends._tokens import PromptEncoder

    encoder = PromptEncoder(tokenizer, str(tokenizer.name_or_path or "the base model"))
    return encoder, len(encoder.encode(Query()))
