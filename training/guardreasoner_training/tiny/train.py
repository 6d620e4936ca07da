"""Training of the tiny guard: next token, on the output only."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import takewhile
from random import Random
from typing import Any, Final, Literal

import torch
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

from guardreasoner_sdk.dialects.guardreasoner import GuardReasonerDialect
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.tiny.tasks import Example, answer_block, draw, first_task, full_answer
from guardreasoner_training.tiny.tokenizer import BOS, END_OF_TEXT, END_OF_TURN, MAX_POSITIONS

__all__ = ["HEADER", "new_model", "prompt_ids", "train"]

HEADER = "Answers: \nRequest:"
"""How an answer block begins; behind it stands the first label."""

Form = Literal["full", "brief", "off"]

# Rows of a batch: answers without reasoning are short, and many of them side by side are what shows where to look.
_ROWS: Final[dict[Form, int]] = {"off": 24, "brief": 16, "full": 8}
_RATE = 2e-3
_WARM_UP = 30
_IGNORED = -100
_CHAT = 0.3
# Shares of the batches: the answer block alone, and behind the first task alone; the others are whole answers. The first
# third is the answer block alone, since the labels are the hard part.
_OFF, _BRIEF = 0.35, 0.15
# Share of vague verbs, and only in the last third: a label thrown like a coin teaches nothing, and a network that does not
# look at the verb yet takes all the others for coins, too.
_VAGUE = 0.25
# What stands between the first task and the answer block; the published models write the rule.
_GAPS = ("", "---\n\n")


@dataclass(frozen=True, slots=True)
class _Row:
    """One training sequence: the tokens, and the number of the first one that the loss counts."""

    ids: list[int]
    learnt_from: int


def new_model(tokenizer: Any, seed: int) -> Any:
    """A Llama of about 1.7 million parameters with random weights, its key and value heads shared as in Llama 3.

    Args:
        tokenizer: gives the size of the vocabulary and the special tokens.
    """
    torch.manual_seed(seed)
    bos, end_of_text, end_of_turn = (int(tokenizer.convert_tokens_to_ids(token)) for token in (BOS, END_OF_TEXT, END_OF_TURN))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=192,
        intermediate_size=512,
        num_hidden_layers=4,
        num_attention_heads=6,
        num_key_value_heads=2,
        max_position_embeddings=MAX_POSITIONS,
        tie_word_embeddings=True,
        initializer_range=0.06,  # the usual 0.02 is for wide networks; a narrow one learns nothing from it for long
        bos_token_id=bos,
        eos_token_id=[end_of_turn, end_of_text],
        pad_token_id=None,
    )
    architecture: Any = LlamaForCausalLM
    generation: Any = GenerationConfig
    model = architecture(config)
    model.generation_config = generation(bos_token_id=bos, eos_token_id=[end_of_turn, end_of_text], do_sample=False)
    return model


def prompt_ids(tokenizer: Any, exchange: Exchange, *, chat: bool) -> list[int]:
    """The tokens of a prompt, as an engine makes them.

    Args:
        exchange: what is judged; synthetic, so that no part of it looks like a special token.
        chat: whether to put it into the chat template.
    """
    query = GuardReasonerDialect("chat" if chat else "raw").render(exchange)
    if query.text is not None:
        return [tokenizer.bos_token_id, *tokenizer.encode(query.text, add_special_tokens=False)]
    messages = [{"role": message.role, "content": message.content} for message in query.messages]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return list(tokenizer.encode(text, add_special_tokens=False))


def train(model: Any, tokenizer: Any, *, steps: int, random: Random, report: Callable[[str], None]) -> float:
    """Train a model in place, in the precision that its weights have, on one thread: so small a model makes more of them wait
    for each other, above all where others use the cores too.

    Args:
        report: is told the progress, every 50 steps.

    Returns:
        The mean loss of the last 50 steps, in nats a token.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _train(model, tokenizer, steps, random, report)
    finally:
        torch.set_num_threads(threads)


def _train(model: Any, tokenizer: Any, steps: int, random: Random, report: Callable[[str], None]) -> float:
    instruction = {chat: _shared_start(tokenizer, random, chat=chat) for chat in (False, True)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps))
    model.train()
    losses: list[float] = []
    for step in range(1, steps + 1):
        # One form a batch: its rows are then about equally long, and share the instruction.
        chat = random.random() < _CHAT
        form = "off" if step <= steps // 3 else _form(random)
        start = instruction[chat]
        examples = [draw(random, vague=_VAGUE if step > 2 * steps // 3 else 0.0) for _ in range(_ROWS[form])]
        rows = [_row(tokenizer, example, random, chat=chat, form=form) for example in examples]
        loss: Any = _loss(model, start, [_Row(row.ids[len(start) :], row.learnt_from - len(start)) for row in rows])
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        losses = [*losses[-49:], loss.item()]
        if step % 50 == 0 or step == steps:
            report(f"step {step} of {steps}: loss {sum(losses) / len(losses):.4f}")
    model.eval()
    return sum(losses) / len(losses)


def _rate(step: int, steps: int) -> float:
    if step < _WARM_UP:
        return (step + 1) / _WARM_UP
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - _WARM_UP) / max(1, steps - _WARM_UP)))


def _shared_start(tokenizer: Any, random: Random, *, chat: bool) -> list[int]:
    """The tokens that every prompt begins with: the instruction."""
    prompts = [prompt_ids(tokenizer, draw(random).exchange, chat=chat) for _ in range(8)]
    return [tokens[0] for tokens in takewhile(lambda tokens: len(set(tokens)) == 1, zip(*prompts, strict=False))]


def _form(random: Random) -> Form:
    thrown = random.random()
    return "off" if thrown < _OFF else "brief" if thrown < _OFF + _BRIEF else "full"


def _row(tokenizer: Any, example: Example, random: Random, *, chat: bool, form: Form) -> _Row:
    """An example as tokens, in one of the forms that a guard is asked in."""
    given, learnt = "", full_answer(example)
    if form != "full":
        # The header is the asker's: the model learns what follows it, and not to begin with it.
        given = (first_task(example) + random.choice(_GAPS) if form == "brief" else "") + HEADER
        learnt = answer_block(example).removeprefix(HEADER)
    # The parts are encoded apart, as an engine encodes a prompt, its continuation, and what it generates.
    ids = prompt_ids(tokenizer, example.exchange, chat=chat) + tokenizer.encode(given, add_special_tokens=False)
    end = tokenizer.convert_tokens_to_ids(END_OF_TURN if chat else END_OF_TEXT)
    return _Row([*ids, *tokenizer.encode(learnt, add_special_tokens=False), end], len(ids))


def _loss(model: Any, start: list[int], rows: list[_Row]) -> torch.Tensor:
    """Mean loss a learnt token, over rows that continue one start; it is computed once for all of them."""
    width = max(len(row.ids) for row in rows)
    # Filled up behind: under a causal mask what follows a row cannot reach it, and no mask of its own is needed.
    ids = torch.zeros((len(rows), width), dtype=torch.long)
    labels = torch.full((len(rows), width), _IGNORED)
    for number, row in enumerate(rows):
        tokens = torch.tensor(row.ids)
        ids[number, : len(row.ids)] = tokens
        labels[number, row.learnt_from : len(row.ids)] = tokens[row.learnt_from :]
    cache = model(input_ids=torch.tensor([start]), use_cache=True, logits_to_keep=1).past_key_values
    cache.batch_repeat_interleave(len(rows))
    # By its place: the name of the argument differs between versions of transformers.
    logits = model(ids, None, None, cache, use_cache=True).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=_IGNORED)
