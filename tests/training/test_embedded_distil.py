"""A student of fewer layers: which layers it has, what it is told, and that it comes near its teacher."""

from __future__ import annotations

from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
transformers = pytest.importorskip("transformers", reason="training needs transformers (the train extra)")

from guardreasoner_sdk.judges.encoding import PROMPT, RESPONSE, Encoder, EncodingConfig, collate  # noqa: E402
from guardreasoner_sdk.judges.pieces import SentencePieces  # noqa: E402
from guardreasoner_training.embedded.config import TrainConfig  # noqa: E402
from guardreasoner_training.embedded.data import DataError  # noqa: E402
from guardreasoner_training.embedded.examples import Example  # noqa: E402
from guardreasoner_training.embedded.languages import LANGUAGES  # noqa: E402
from guardreasoner_training.embedded.model import UNJUDGED, GuardNet  # noqa: E402
from guardreasoner_training.embedded.pieces import SPECIALS, tokenizer_model  # noqa: E402
from guardreasoner_training.embedded.train import (  # noqa: E402
    choose_layers,
    distil_loss,
    student_of,
    train_student,
)

WORDS = ["make", "soup", "bread", "bomb", "poison", "please"]
PIECES = [*SPECIALS, "\u2581", *(f"\u2581{word}" for word in WORDS)]


@pytest.fixture
def teacher() -> GuardNet:
    """A random network of four layers, whose layers do something."""
    torch.manual_seed(3)
    config = transformers.BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=4, num_attention_heads=2, intermediate_size=32,
        type_vocab_size=RESPONSE + 1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, initializer_range=0.5,
    )  # fmt: skip
    encoder = transformers.BertModel(config, add_pooling_layer=False)
    net = GuardNet(encoder, head_width=8, dropout=0.0, opening_tokens=4, languages=len(LANGUAGES)).eval()
    with torch.no_grad():
        for parameter in (net.hidden.weight, net.readout):  # it tells texts apart
            parameter.mul_(4.0)
    return net


def windows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = torch.randint(0, len(PIECES), (6, 9), generator=torch.Generator().manual_seed(1))
    types = torch.full_like(ids, PROMPT)
    types[3:, 3:], types[3:, :3] = RESPONSE, 0
    return ids, torch.ones_like(ids), types


@pytest.mark.parametrize(("layers", "whole", "kept"), [(6, 12, [1, 3, 5, 7, 9, 11]), (4, 12, [2, 5, 8, 11]), (1, 3, [2])])
def test_the_layers_that_are_kept_are_far_apart_and_the_last_is_among_them(layers: int, whole: int, kept: list[int]) -> None:
    assert choose_layers(layers, whole) == kept


def test_a_student_has_the_layers_that_were_named_and_shares_nothing_with_its_teacher(teacher: GuardNet) -> None:
    before = {name: value.clone() for name, value in teacher.state_dict().items()}
    student = student_of(teacher, [1, 3])
    for place, number in enumerate([1, 3]):
        own, whole = (net.encoder.encoder.layer[at].state_dict() for net, at in ((student, place), (teacher, number)))
        assert all(torch.equal(own[name], whole[name]) for name in whole)
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(1.0)
    assert len(teacher.encoder.encoder.layer) == 4
    assert all(torch.equal(value, before[name]) for name, value in teacher.state_dict().items())
    assert student(*windows())[1].shape == (6, 3)


def test_a_network_with_all_layers_says_what_its_teacher_says(teacher: GuardNet) -> None:
    for own, whole in zip(student_of(teacher, range(4))(*windows()), teacher(*windows()), strict=True):
        torch.testing.assert_close(own, whole)


def test_the_loss_grows_with_the_distance_and_tokens_that_are_not_judged_have_no_say(teacher: GuardNet) -> None:
    taught_of = [value.detach() for value in teacher(*windows())]
    near, far = ([value.clone() for value in taught_of] for _ in range(2))
    judged = taught_of[0] > UNJUDGED / 2
    assert not judged.all()
    near[0] = near[0] + 0.1 * judged
    far[0] = far[0] + 2.0 * judged
    none, some, much = (float(distil_loss(of, taught_of)) for of in (taught_of, near, far))
    assert none < some < much
    silent = [value.clone() for value in taught_of]
    silent[0] = silent[0] + 3.0 * ~judged
    assert float(distil_loss(silent, taught_of)) == pytest.approx(none)


def test_a_student_comes_near_its_teacher_in_training(teacher: GuardNet, tmp_path: Path) -> None:
    encoders = [
        Encoder(
            SentencePieces(tokenizer_model((piece, -float(len(piece) < 2)) for piece in PIECES)), EncodingConfig(24, 8, 4, 4)
        )
    ] * 2
    texts = [f"{a} {b} {c}" for a in WORDS for b in WORDS for c in WORDS]
    # Labels without weight: what it learns, it has from its teacher.
    examples = [Example(text, None, ("bomb" in text, None, None), 0.0, "own") for text in texts]
    examples += [Example("make soup", text, (None, "please" in text, "poison" in text), 0.0, "own") for text in texts[::4]]
    config = TrainConfig(epochs=6, learning_rate=2e-3, head_learning_rate=4e-3, language_weight=0.0, bfloat16=False, threads=1)
    inputs = collate([encoders[0].prompt(text)[0] for text in texts])

    def says(net: GuardNet) -> torch.Tensor:
        with torch.no_grad():
            found: torch.Tensor = net.eval()(**{name: torch.from_numpy(value) for name, value in inputs.items()})[1][:, 0]
        return found

    def far(student: GuardNet) -> float:
        return float((says(student) - says(teacher)).abs().mean())

    assert says(teacher).std() > 0.1  # there is something to learn
    before = far(student_of(teacher, choose_layers(2, 4)))
    student = train_student(teacher, 2, examples, encoders, config, tmp_path)
    assert len(student.encoder.encoder.layer) == 2
    assert far(student) < min(0.2 * before, says(teacher).std())
    assert (tmp_path / "checkpoint.pt").is_file()


@pytest.mark.parametrize("layers", [0, 4, 5, -1])
def test_a_number_of_layers_that_makes_no_student_is_named(teacher: GuardNet, tmp_path: Path, layers: int) -> None:
    with pytest.raises(DataError, match=f"--layers must be 1 to 3, of the 4 that the base model has, not {layers}"):
        train_student(teacher, layers, [], [], TrainConfig(), tmp_path)
