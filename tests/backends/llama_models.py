"""What the tests of llama.cpp share: models that say what they were built to say, and the reference."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from guardreasoner_sdk.backends.llama_cpp import LlamaCppBackend
from guardreasoner_sdk.generation import Completion, PromptPiece, Query

NORMAL, UNKNOWN, CONTROL, USER, BYTE = 1, 2, 3, 4, 6

_PLAIN = [*range(33, 127), *range(161, 173), *range(174, 256)]
_OTHERS = [number for number in range(256) if number not in _PLAIN]
LETTERS = [chr(number if number in _PLAIN else 256 + _OTHERS.index(number)) for number in range(256)]
"""The 256 bytes as a byte-level vocabulary writes them."""


def spelled(text: str) -> list[str]:
    """The tokens of single bytes that spell a text."""
    return [LETTERS[byte] for byte in text.encode()]


def chain(*tokens: str) -> dict[str, list[str]]:
    """A script: each token is followed by the next one, the last one by the end."""
    return {token: [after] for token, after in zip(tokens, [*tokens[1:], "</s>"], strict=True)}


def scripted(path: Path, script: dict[str, list[str]], *, context: int = 4096) -> Path:
    """Write a model that says a fixed thing behind each token, or any of several that are equally likely.

    Its layer adds nothing, so that what it computes is the embedding of the last token alone. That is a one among zeros, and
    the output gives the token's successors a weight there; a successor named ``nan`` spoils the numbers.
    """
    said = [one for key, after in script.items() for one in (key, *after)]
    tokens = dict.fromkeys(["<s>", "</s>"], CONTROL) | {one: NORMAL for one in (*LETTERS, *said) if one != "</s>"}
    tokens |= {f"unused{number}": NORMAL for number in range(-len(tokens) % 32)}
    names, size = list(tokens), len(tokens)
    output = np.zeros((size, size), np.float32)
    for before, after in script.items():
        for one in after:
            output[names.index(one), names.index(before)] = np.nan if one == "nan" else 1.0
    rows = {"attn_q": size, "attn_k": 32, "attn_v": 32, "ffn_gate": 32, "ffn_up": 32}
    tensors = {f"blk.0.{name}.weight": np.zeros((count, size), np.float32) for name, count in rows.items()}
    tensors |= {f"blk.0.{name}.weight": np.ones(size, np.float32) for name in ("attn_norm", "ffn_norm")}
    tensors |= {
        "token_embd.weight": np.eye(size, dtype=np.float32),
        "output_norm.weight": np.ones(size, np.float32),
        "output.weight": output,
        "blk.0.attn_output.weight": np.zeros((size, size), np.float32),
        "blk.0.ffn_down.weight": np.zeros((size, 32), np.float32),
    }
    return _write(path, "gpt2", "gpt-2", tokens, ["a b"], tensors, context)


def vocabulary(path: Path, kind: str, tokens: dict[str, int], merges: tuple[str, ...] = ()) -> Path:
    """Write a vocabulary without a model.

    Args:
        path: the file.
        kind: ``gpt2`` (byte-level, cut as Llama 3 does: a word that is a token is not merged from parts) or ``llama``
            (SentencePiece, with a blank in front of texts).
        tokens: their types by name.
        merges: of a byte-level vocabulary.
    """
    return _write(path, kind, "llama-bpe", tokens, list(merges), {"token_embd.weight": np.zeros((len(tokens), 32), np.float32)})


def _write(
    path: Path, kind: str, pre: str, tokens: dict[str, int], merges: list[str], tensors: dict[str, Any], context: int = 32
) -> Path:
    import gguf

    names, width = list(tokens), tensors["token_embd.weight"].shape[1]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(width)
    writer.add_block_count(1)
    writer.add_feed_forward_length(32)
    writer.add_head_count(width // 32)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model(kind)
    writer.add_token_list(names)
    writer.add_token_types(list(tokens.values()))
    if kind == "gpt2":
        writer.add_tokenizer_pre(pre)
        writer.add_token_merges(merges)
    else:
        # Special tokens have the best score, as in files made of SentencePiece models.
        writer.add_token_scores([-float(n) if type_ in (NORMAL, BYTE) else 0.0 for n, type_ in enumerate(tokens.values())])
        writer.add_unk_token_id(names.index("<unk>"))
    writer.add_bos_token_id(names.index("<s>"))
    writer.add_eos_token_id(names.index("</s>"))
    writer.add_add_bos_token(True)
    for name, tensor in tensors.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


async def one(backend: LlamaCppBackend, query: Query, deadline: float | None = None) -> Completion:
    [answer] = await backend.generate([query], deadline=deadline)
    assert isinstance(answer, Completion), answer
    return answer


def plain(text: str, **changes: Any) -> Query:
    return Query(pieces=(PromptPiece(text),), **changes)


class Reference:
    """The same weights in plain transformers."""

    def __init__(self, folder: Path) -> None:
        self.torch = pytest.importorskip("torch")
        transformers = pytest.importorskip("transformers")
        self.torch.set_num_threads(1)
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
        self.model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=self.torch.float32).eval()

    def ids(self, text: str) -> list[int]:
        return [self.tokenizer.bos_token_id, *self.tokenizer(text, add_special_tokens=False)["input_ids"]]

    def answer(self, prompt: list[int], most: int = 400) -> list[int]:
        ids = self.torch.tensor([prompt])
        output = self.model.generate(
            ids, attention_mask=self.torch.ones_like(ids), do_sample=False, max_new_tokens=most, pad_token_id=0
        )
        return output[0, len(prompt) :].tolist()

    def text(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=True)

    def probabilities(self, ids: list[int]) -> Any:
        with self.torch.inference_mode():
            return self.torch.softmax(self.model(self.torch.tensor([ids])).logits[0].double(), -1)
