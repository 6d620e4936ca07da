"""On processors the answers alone are scored: the same log-probabilities and gradients as the whole projection has."""

from __future__ import annotations

import pytest

pytest.importorskip("trl", reason="training needs the extra 'train'")

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from guardreasoner_training.trainers.head import answer_log_probs, scored_whole


@pytest.fixture
def model() -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=50, hidden_size=16, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2, initializer_range=0.3
    )
    return LlamaForCausalLM(config).double()


def batch(learnt: list[tuple[int, int]], lengths: list[int]) -> dict[str, torch.Tensor]:
    """Rows of random tokens, padded at the right; of each the label is learnt from one place to another."""
    ids = torch.randint(1, 50, (len(lengths), max(lengths)), generator=torch.Generator().manual_seed(1))
    labels = torch.full_like(ids, -100)
    mask = torch.zeros_like(ids)
    for row, ((start, end), length) in enumerate(zip(learnt, lengths, strict=True)):
        mask[row, :length] = 1
        labels[row, start:end] = ids[row, start:end]
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


@pytest.mark.parametrize(
    ("learnt", "lengths"),
    [
        ([(5, 9), (7, 12)], [9, 12]),
        ([(11, 12), (4, 5)], [12, 5]),  # one token each, at the end and before padding
        ([(1, 6), (0, 0)], [6, 3]),  # from the second token on, and a row that teaches nothing
        ([(0, 6), (2, 6)], [6, 6]),  # the first token has nothing before it
        ([(0, 0)], [4]),
    ],
)
def test_log_probs_and_gradients_are_those_of_all_positions(model, learnt, lengths):
    inputs = batch(learnt, lengths)
    found = answer_log_probs(model, **inputs)
    logits = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits[:, :-1]
    wanted = inputs["labels"][:, 1:]
    every = logits.log_softmax(-1).gather(-1, wanted.clamp(min=0)[..., None])[..., 0]
    expected = every * (wanted != -100)
    assert found.shape == expected.shape
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6, check_dtype=False)
    gradient = torch.autograd.grad(found.sum(), model.model.embed_tokens.weight)[0]
    torch.testing.assert_close(
        gradient, torch.autograd.grad(expected.sum(), model.model.embed_tokens.weight)[0], rtol=1e-5, atol=1e-6
    )


def test_large_vocabularies_are_left_to_trl(model):
    inputs = batch([(5, 9), (7, 12)], [9, 12])
    assert scored_whole(model, inputs["labels"], processes=1)
    assert not scored_whole(model, inputs["labels"], processes=1, most=2 * 8 * 50 - 1)
    assert scored_whole(model, inputs["labels"], processes=1, most=2 * 8 * 50)


@pytest.mark.parametrize("lengths", [[9, 12], [40, 7]])
def test_processes_together_take_the_same_way_whatever_their_batches_are(model, lengths):
    # Of these batches one lies below the limit and one above it.
    inputs = batch([(5, 7), (5, 7)], lengths)
    assert scored_whole(model, inputs["labels"], processes=1, most=1000) is (lengths == [9, 12])
    assert not scored_whole(model, inputs["labels"], processes=2, most=1000)
