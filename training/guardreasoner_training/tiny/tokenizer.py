"""A byte-level BPE in the manner of Llama 3, learnt from the synthetic text itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors, trainers

from guardreasoner_training.gguf import LLAMA3_SPLIT

__all__ = ["BOS", "END_OF_TEXT", "END_OF_TURN", "MAX_POSITIONS", "learn_tokenizer"]

BOS: Final = "<|begin_of_text|>"
END_OF_TEXT: Final = "<|end_of_text|>"
END_OF_TURN: Final = "<|eot_id|>"
_HEADER: Final = ("<|start_header_id|>", "<|end_header_id|>")
MAX_POSITIONS: Final = 2048

_TEMPLATE: Final = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"
)


def learn_tokenizer(texts: Iterable[str], *, size: int) -> Any:
    """Learn a tokenizer.

    Args:
        size: most tokens of the vocabulary, the special ones included; a few texts give fewer.

    Returns:
        The tokenizer, as transformers saves and loads it.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = (BOS, END_OF_TEXT, *_HEADER, END_OF_TURN)
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(special), initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{BOS} $A", pair=f"{BOS} $A {BOS} $B", special_tokens=[(BOS, tokenizer.token_to_id(BOS))]
    )
    wrapped: Any = PreTrainedTokenizerFast
    return wrapped(
        tokenizer_object=tokenizer,
        bos_token=BOS,
        eos_token=END_OF_TURN,
        chat_template=_TEMPLATE,
        clean_up_tokenization_spaces=False,
        model_max_length=MAX_POSITIONS,
    )
