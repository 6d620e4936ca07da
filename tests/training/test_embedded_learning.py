"""How examples become windows, batches and a loss: what is learnt from, and from which part of it."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
pytest.importorskip("transformers", reason="training needs transformers (the train extra)")

from hypothesis import given  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from guardreasoner_sdk.judges.encoding import (  # noqa: E402
    ANSWERED,
    ASKED,
    PROMPT,
    RESPONSE,
    Encoder,
    EncodingConfig,
    TokenWindow,
)
from guardreasoner_sdk.judges.pieces import SentencePieces  # noqa: E402
from guardreasoner_training.embedded import train as train_module  # noqa: E402
from guardreasoner_training.embedded.config import TrainConfig  # noqa: E402
from guardreasoner_training.embedded.examples import HAZARD_CODES, Example  # noqa: E402
from guardreasoner_training.embedded.languages import LANGUAGES, OTHER, language_number  # noqa: E402
from guardreasoner_training.embedded.pieces import SPECIALS, tokenizer_model  # noqa: E402
from guardreasoner_training.embedded.train import (  # noqa: E402
    EncodedExample,
    batches,
    encode,
    masked_loss,
    named_loss,
    strongest,
    targets,
)

WORDS = ["make", "soup", "sure", "bread", "please", "MAKE", "SOUP"]
PIECES = [*SPECIALS, "\u2581", *(f"\u2581{word}" for word in WORDS)]
SHORT, LONG = EncodingConfig(32, 12, 4, 8), EncodingConfig(64, 16, 4, 8)
# Each example as it is, in one way.
PLAIN = TrainConfig(prompt_dropout=0.0, lower_share=0.0, upper_share=0.0, long_share=0.0, later_window_share=0.0)
ALWAYS = TrainConfig(prompt_dropout=1.0, lower_share=0.0, upper_share=1.0, long_share=1.0, later_window_share=1.0)


def encoder(config: EncodingConfig) -> Encoder:
    return Encoder(SentencePieces(tokenizer_model((piece, -float(len(piece) < 2)) for piece in PIECES)), config)


ENCODERS = (encoder(SHORT), encoder(LONG))


def items_of(*examples: Example, config: TrainConfig = PLAIN, seed: int = 1) -> list[EncodedExample]:
    return encode(examples, ENCODERS, config, seed=seed)


def asked(text: str, label: bool | None, **more: object) -> Example:
    return Example(text, None, (label, None, None), 1.0, "own", **more)  # type: ignore[arg-type]


def answered(text: str, refusal: bool | None, harmful: bool | None) -> Example:
    return Example("make soup", text, (None, refusal, harmful), 1.0, "own")


@pytest.mark.parametrize("seed", range(5))
def test_of_a_long_harmful_text_the_first_window_and_some_others_are_learnt_together(seed: int) -> None:
    text = "make soup please bread " * 60
    whole = ENCODERS[0].prompt(text)
    (item,) = items_of(asked(text, True), seed=seed)
    assert len(item.windows) == PLAIN.most_windows < len(whole)
    starts = [window.start for window in item.windows]
    assert starts[0] == 0
    assert starts == sorted({*starts})
    assert {*item.windows} <= {*whole}
    (item,) = items_of(asked("make soup " * 20, True), seed=seed)
    assert list(item.windows) == ENCODERS[0].prompt("make soup " * 20)


@pytest.mark.parametrize("label", [False, None])
def test_of_a_long_text_that_is_not_harmful_one_window_is_learnt(label: bool | None) -> None:
    (item,) = items_of(answered("sure please " * 60, False, label))
    assert [window.start for window in item.windows] == [0]
    assert item.labels == (None, False, label)


def test_a_later_window_does_not_teach_refusal() -> None:
    late = TrainConfig(later_window_share=1.0)
    (item,) = items_of(answered("sure . " * 90, True, False), config=late)
    assert item.windows[0].start > 0
    assert item.labels == (None, None, False)
    # Where nothing else is labelled there is nothing to learn.
    assert items_of(answered("sure . " * 90, True, None), config=late) == []
    (item,) = items_of(answered("sure . " * 90, False, True), config=late)
    assert item.labels == (None, False, True)
    assert item.windows[0].start == 0


def test_a_pair_is_learnt_behind_its_prompt_or_without_it() -> None:
    example = answered("sure bread", False, False)
    (item,) = items_of(example)
    assert item.windows == tuple(ENCODERS[0].pair("make soup", "sure bread"))
    assert {*item.windows[0].type_ids} == {ASKED, RESPONSE}
    (item,) = items_of(example, config=ALWAYS)
    assert {*item.windows[0].type_ids} == {RESPONSE}


def test_what_went_before_is_learnt_in_one_window() -> None:
    history = (("system", "bread"), ("user", "make soup"), ("assistant", "sure"), ("tool", "bread"))
    (item,) = items_of(asked("please bread " * 60, True, history=history))
    (window,) = item.windows
    assert window == ENCODERS[0].prompt("please bread " * 60, [(ASKED, "make soup"), (ANSWERED, "sure")])[0]
    assert {*window.type_ids} == {ASKED, ANSWERED, PROMPT}
    # Words of the application alone are nothing that went before.
    (item,) = items_of(asked("please bread " * 60, True, history=history[:1]))
    assert len(item.windows) > 1


def test_prompts_are_learnt_in_capitals_small_letters_and_long_windows() -> None:
    (item,) = items_of(asked("Make Soup", False), config=TrainConfig(lower_share=1.0, upper_share=0.0))
    assert item.windows == tuple(ENCODERS[0].prompt("make soup"))
    (item,) = items_of(asked("make soup", False), config=ALWAYS)
    assert item.windows == tuple(ENCODERS[0].prompt("MAKE SOUP"))
    (item,) = items_of(asked("make soup " * 20, True), config=ALWAYS)
    assert item.windows == tuple(ENCODERS[1].prompt("MAKE SOUP " * 20))


def test_an_item_keeps_what_its_example_says() -> None:
    hazard = len(HAZARD_CODES) - 1
    (item,) = items_of(Example("make soup", None, (True, None, None), 0.5, "own", "de", hazard))
    assert (item.weight, item.hazard, item.language) == (0.5, hazard, LANGUAGES.index("de"))
    assert [items_of(asked("make", True, lang=lang))[0].language for lang in (None, "xx")] == [None, LANGUAGES.index(OTHER)]
    assert language_number("xx") == LANGUAGES.index(OTHER)


def test_one_seed_gives_the_same_windows_and_another_gives_others() -> None:
    examples = [asked("make soup " * (10 * n), n % 2 == 0) for n in range(1, 30)]
    config = TrainConfig(lower_share=0.3, upper_share=0.3, long_share=0.5, later_window_share=0.5)
    assert items_of(*examples, config=config, seed=3) == items_of(*examples, config=config, seed=3)
    assert items_of(*examples, config=config, seed=3) != items_of(*examples, config=config, seed=4)


def made(weight: float, *lengths: int) -> EncodedExample:
    windows = tuple(TokenWindow((0,) * length, (PROMPT,) * length) for length in lengths)
    return EncodedExample(windows, (True, None, None), weight)


@given(st.lists(st.lists(st.integers(3, 6000), min_size=1, max_size=3), max_size=60), st.integers(1, 9), st.integers(0, 9))
def test_batches_hold_every_item_once_and_none_is_empty_or_too_large(lengths: list[list[int]], size: int, seed: int) -> None:
    items = [made(float(number), *of) for number, of in enumerate(lengths)]
    found = list(batches(items, size, seed=seed))
    assert sorted(item.weight for batch in found for item in batch) == list(range(len(items)))
    for batch in found:
        assert 1 <= len(batch) <= size
        # One item may be larger than a batch should be; it is run alone.
        assert len(batch) == 1 or sum(item.size[1] for item in batch) <= train_module._MOST_TOKENS
    assert found == list(batches(items, size, seed=seed))


def test_batches_are_of_like_length_in_another_order_for_each_seed() -> None:
    items = [made(float(number), 3 + number % 100) for number in range(400)]
    orders = [[[item.weight for item in batch] for batch in batches(items, 8, seed=seed)] for seed in (1, 2)]
    assert orders[0] != orders[1]
    lengths = [[item.size[0] for item in batch] for batch in batches(items, 8, seed=1)]
    assert max(max(batch) - min(batch) for batch in lengths) < 5
    assert lengths != sorted(lengths)


@given(st.lists(st.lists(st.tuples(*[st.floats(-20, 20, width=32)] * 3), min_size=1, max_size=4), min_size=1, max_size=6))
def test_the_strongest_window_of_an_example_counts_and_the_first_for_a_refusal(windows: list[list[tuple[float, ...]]]) -> None:
    logits = torch.tensor([logit for of in windows for logit in of], requires_grad=True)
    owners = torch.tensor([number for number, of in enumerate(windows) for _ in of])
    joined, leading = strongest(logits, owners, len(windows))
    assert joined.tolist() == [[max(one[0] for one in of), of[0][1], max(one[2] for one in of)] for of in windows]
    for number, (of, leads) in enumerate(zip(windows, leading.tolist(), strict=True)):
        before = sum(map(len, windows[:number]))
        assert before <= leads < before + len(of)
        one = of[leads - before]
        assert max(one[0], one[2]) == max(max(other[0], other[2]) for other in of)
    joined.sum().backward()
    # What is learnt goes to the windows that decided: one for each example and head, shared where they are equal.
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad.sum(dim=0), torch.full((3,), float(len(windows))))
    number = 0
    for of, wanted in zip(windows, joined.tolist(), strict=True):
        for place, one in enumerate(of):
            deciding = [one[0] == wanted[0], place == 0, one[2] == wanted[2]]
            assert [value != 0 for value in logits.grad[number].tolist()] == deciding
            number += 1


def test_masked_heads_give_no_loss() -> None:
    labels, weights = targets(items_of(asked("make soup", True)))
    assert weights.tolist() == [[1.0, 0.0, 0.0]]
    ones = torch.ones(3)
    loss = masked_loss(torch.tensor([[9.0, 9.0, -9.0]]), labels, weights, positive=ones, heads=ones, smoothing=0.0)
    assert loss.tolist() == pytest.approx([0.000123, 0.0, 0.0], abs=1e-6)


def test_loss_weighs_positives_heads_and_examples() -> None:
    logits, labels = torch.zeros(2, 3), torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    weights = torch.tensor([[2.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    loss = masked_loss(
        logits, labels, weights, positive=torch.tensor([3.0, 1, 1]), heads=torch.tensor([1.0, 1, 2]), smoothing=0.0
    )
    assert [value / math.log(2) for value in loss.tolist()] == pytest.approx([(2 * 3 + 1) / 2, 0.0, 2 / 2])


def test_names_that_are_not_known_give_no_loss() -> None:
    logits = torch.zeros(4, 8, requires_grad=True)
    assert named_loss(logits, [None, 3, None, 7]).item() == pytest.approx(2 * math.log(8) / 4)
    nothing = named_loss(logits, [None] * 4)
    assert nothing.item() == 0
    nothing.backward()
    assert logits.grad is not None
    assert not logits.grad.any()
