"""A base model from scratch, for machines without a GPU: a tokenizer learnt on the rows, a small Llama of random weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from guardreasoner_sdk.data.atomic import errors_while_writing
from guardreasoner_sdk.data.identity import content_hash
from guardreasoner_sdk.data.run_folder import open_stage
from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_training.formats import examples_of, messages_or_text, output_of, template_of
from guardreasoner_training.recipe import Recipe, ScratchSettings
from guardreasoner_training.rows import read_rows
from guardreasoner_training.trainers.arguments import require_training

__all__ = ["scratch"]

_TEXTS = 20_000
"""Rows that the tokenizer is learnt on, spread over the file; more of them change few of its tokens."""


def scratch(
    rows: Path, output: Path, recipe: Recipe, *, restart: bool = False, report: Callable[[str], None] = print
) -> dict[str, Any]:
    """Make the base model that a recipe describes.

    Args:
        output: gets a folder as the hub has them: config, weights, tokenizer with chat template.
        recipe: its ``base`` says the sizes, its ``seed`` the weights.
        restart: throw away what an earlier run left in ``output``.

    Returns:
        the figures: parameters, size of the vocabulary, hash of the weights.

    Raises:
        ConfigurationError: the recipe's base is not to be made.
        InputError: a row cannot be used, or ``output`` cannot.
        MissingExtraError: the extra ``train`` is not installed.
    """
    sizes = recipe.base
    if not isinstance(sizes, ScratchSettings):
        raise ConfigurationError(f"base: is the model {sizes!r}, and not one to make; give sizes: [base] hidden = 256 ...")
    require_training()
    settings = {
        "base": sizes.model_dump(mode="json"),
        **recipe.model_dump(include={"format", "rendering", "seed"}),
    }
    with open_stage("scratch", output, inputs={"rows": rows}, settings=settings, restart=restart) as stage:
        if stage.figures is not None:
            return stage.figures
        from guardreasoner_training.tiny.tokenizer import learn_tokenizer

        tokenizer = learn_tokenizer(_texts(rows, recipe), size=sizes.vocabulary)
        tokenizer.model_max_length = sizes.positions
        tokenizer.chat_template = template_of(recipe.format)
        model = _model(sizes, tokenizer, recipe.seed)
        with errors_while_writing(output):
            model.save_pretrained(output)
            tokenizer.save_pretrained(output, save_jinja_files=False)
        parameters = sum(weights.numel() for weights in model.parameters())
        report(f"a base of {parameters:,} parameters, {len(tokenizer):,} tokens in its vocabulary")
        weights = content_hash("weights", output / "model.safetensors")
        return stage.finish({"parameters": parameters, "vocabulary": len(tokenizer), "weights": weights})


def _texts(rows: Path, recipe: Recipe) -> Iterator[str]:
    """What the model will read and write, instruction and all."""
    count = sum(1 for _ in read_rows(rows))
    if not count:
        raise InputError("rows", f"{rows} has no labelled row", "check the file")
    every = -(-count // _TEXTS)
    for number, row in enumerate(read_rows(rows)):
        if number % every:
            continue
        for example in examples_of(row, recipe.format):
            query = messages_or_text(example.exchange, recipe.format, recipe.rendering)
            yield from (message.content for message in query.messages)
            yield from (piece.text for piece in query.pieces)
            yield output_of(example, recipe.format)


def _model(sizes: ScratchSettings, tokenizer: Any, seed: int) -> Any:
    import torch
    from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM

    from guardreasoner_training.tiny.tokenizer import BOS, END_OF_TEXT, END_OF_TURN

    begin, *ends = (int(tokenizer.convert_tokens_to_ids(token)) for token in (BOS, END_OF_TURN, END_OF_TEXT))
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=sizes.hidden,
        intermediate_size=sizes.intermediate,
        num_hidden_layers=sizes.layers,
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.kv_heads,
        max_position_embeddings=sizes.positions,
        tie_word_embeddings=True,
        initializer_range=sizes.hidden
        ** -0.5,  # the usual 0.02 is for wide networks; a narrow one learns nothing from it for long
        bos_token_id=begin,
        eos_token_id=ends,
        pad_token_id=None,
    )
    generation: Any = GenerationConfig
    architecture: Any = LlamaForCausalLM
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = architecture(config)
    model.generation_config = generation(bos_token_id=begin, eos_token_id=ends, do_sample=False)
    return model
