"""What a training has ended with, or was cut off at, lies on disk: it is taken where it is of the same one, and else refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
transformers = pytest.importorskip("transformers", reason="training needs transformers (the train extra)")

from guardreasoner_sdk.judges.encoding import RESPONSE, Encoder, EncodingConfig  # noqa: E402
from guardreasoner_sdk.judges.pieces import SentencePieces  # noqa: E402
from guardreasoner_training.embedded.again import measure_again  # noqa: E402
from guardreasoner_training.embedded.config import TrainConfig  # noqa: E402
from guardreasoner_training.embedded.data import DataError  # noqa: E402
from guardreasoner_training.embedded.examples import Example  # noqa: E402
from guardreasoner_training.embedded.languages import LANGUAGES  # noqa: E402
from guardreasoner_training.embedded.model import GuardNet  # noqa: E402
from guardreasoner_training.embedded.pieces import SPECIALS, TOKENIZER_FILE, tokenizer_model  # noqa: E402
from guardreasoner_training.embedded.progress import digest, minutes, read_log, read_weights  # noqa: E402
from guardreasoner_training.embedded.surroundings import to_labelled_rows  # noqa: E402
from guardreasoner_training.embedded.train import LOG_NAME, train, train_student  # noqa: E402

WORDS = ["make", "soup", "bread", "bomb"]
PIECES = [*SPECIALS, "\u2581", *(f"\u2581{word}" for word in WORDS)]
EXAMPLES = [Example(f"make {word}", None, (word == "bomb", None, None), 1.0, "own") for word in WORDS] * 6
CONFIG = TrainConfig(epochs=1, batch_size=4, checkpoint_steps=2, bfloat16=False, threads=1)


def fresh(seed: int = 1) -> GuardNet:
    """A random network of two layers."""
    torch.manual_seed(seed)
    config = transformers.BertConfig(
        vocab_size=len(PIECES), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
        type_vocab_size=RESPONSE + 1,
    )  # fmt: skip
    encoder = transformers.BertModel(config, add_pooling_layer=False)
    return GuardNet(encoder, head_width=8, dropout=0.1, opening_tokens=4, languages=len(LANGUAGES))


def encoders() -> list[Encoder]:
    pieces = SentencePieces(tokenizer_model((piece, -float(len(piece) < 2)) for piece in PIECES))
    return [Encoder(pieces, EncodingConfig(24, 8, 4, 4))] * 2


def trained(folder: Path, config: TrainConfig = CONFIG, origin: str = "base", seed: int = 1) -> GuardNet:
    net = fresh(seed)
    train(net, EXAMPLES, encoders(), config, folder, origin=origin)
    return net


def test_a_training_that_has_ended_is_not_done_again(tmp_path: Path) -> None:
    first = trained(tmp_path)
    (tmp_path / "one").mkdir()
    student = train_student(first, 1, EXAMPLES, encoders(), CONFIG, tmp_path / "one")
    log = (tmp_path / LOG_NAME).read_text()
    # Another training in the same folder, cut off at once, writes over the log.
    (tmp_path / LOG_NAME).write_text("")
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    again = trained(tmp_path, replace(CONFIG, checkpoint_steps=9, measured_pairs=0))
    assert not again.training
    assert digest(again) == digest(first)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns == written
    assert (tmp_path / LOG_NAME).read_text() == log
    assert minutes([tmp_path / LOG_NAME]) is not None
    # What comes after it draws what it would have drawn.
    (tmp_path / "two").mkdir()
    assert digest(train_student(again, 1, EXAMPLES, encoders(), CONFIG, tmp_path / "two")) == digest(student)
    plain = fresh(5)
    read_weights(plain, tmp_path / "checkpoint.pt")
    assert digest(plain) == digest(first)


@pytest.mark.parametrize(
    ("config", "origin"), [(replace(CONFIG, learning_rate=1e-2), "base"), (CONFIG, "other"), (replace(CONFIG, seed=9), "base")]
)
def test_weights_of_another_training_are_not_taken(tmp_path: Path, config: TrainConfig, origin: str) -> None:
    trained(tmp_path)
    written = (tmp_path / "checkpoint.pt").stat().st_mtime_ns
    trained(tmp_path, config, origin)
    assert (tmp_path / "checkpoint.pt").stat().st_mtime_ns > written


def test_a_student_of_another_teacher_is_taught_anew_and_plain_weights_are_still_read(tmp_path: Path) -> None:
    students = [train_student(fresh(seed), 1, EXAMPLES, encoders(), CONFIG, tmp_path) for seed in (1, 2, 2)]
    first, second, third = map(digest, students)
    assert first != second == third
    net = fresh(3)
    torch.save({"net": net.state_dict()}, tmp_path / "checkpoint.pt")
    other = fresh(4)
    read_weights(other, tmp_path / "checkpoint.pt")
    assert digest(other) == digest(net)
    trained(tmp_path)  # nobody knows what they are of
    read_weights(other, tmp_path / "checkpoint.pt")
    assert digest(other) != digest(net)


def test_a_line_of_the_log_that_was_cut_off_is_none(tmp_path: Path) -> None:
    assert minutes([tmp_path / LOG_NAME]) is None
    (tmp_path / LOG_NAME).write_text('{"step": 20, "seconds": 60}\n{"step": 40, "sec')
    assert minutes([tmp_path / LOG_NAME]) == 1.0
    assert [line["step"] for line in read_log(tmp_path / LOG_NAME)] == [20]
    (tmp_path / LOG_NAME).write_text('{"st')
    assert minutes([tmp_path / LOG_NAME]) is None


@pytest.mark.parametrize("name", ["state.pt", "checkpoint.pt"])
def test_damaged_files_are_named(tmp_path: Path, name: str) -> None:
    net, path = fresh(), tmp_path / name
    torch.save({"net": net.state_dict(), "identity": "x"}, path)
    whole = path.read_bytes()
    starts = [
        b"",
        b"\x80",
        b"\x80\x02",
        b"\x80\x02\x8a",
        b"text",
        b"PK\x03\x04",
        b"\x80\x02X\x05",
        b"\x80\x02]q\x00.",
        bytes(64),
    ]
    for content in [*starts, *(whole[:end] for end in (1, 2, 30, 999, len(whole) // 2, len(whole) - 9))]:
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"delete it to start over") as refused:
            trained(tmp_path)
        assert str(refused.value).startswith(f"{path}: ")
        with pytest.raises(DataError, match=r"is no checkpoint\.pt"):
            read_weights(net, path)


def test_a_model_is_not_measured_into_the_folder_of_another_one(tmp_path: Path) -> None:
    model, output = tmp_path / "model", tmp_path / "output"
    names = ("model.onnx", TOKENIZER_FILE)
    for folder in (model, output):
        folder.mkdir()
        for name in names:
            (folder / name).write_bytes(b"same")
    (model / "metrics.json").write_text('{"config": {}, "data": {}}')
    for name in names:
        (output / name).write_bytes(b"else")
        before = {path: path.read_bytes() for path in output.iterdir()}
        with pytest.raises(DataError, match="is of another model than") as refused:
            measure_again(
                tmp_path, model, output, unlabelled=None, benchmarks=None, ablation=None, config=CONFIG, say=print
            )  # fmt: skip
        assert str(refused.value).startswith(f"{output / name}: ")
        assert {path: path.read_bytes() for path in output.iterdir()} == before
        (output / name).write_bytes(b"same")


def test_rows_without_anything_to_see_are_not_put_into_surroundings() -> None:
    texts = ["", "\u200b", "\x00", " \n"]
    examples = [Example(text, None, (False, None, None), 1.0, "own", "en") for text in texts]
    examples += [Example("make soup", text, (None, False, False), 1.0, "own", "en") for text in texts]
    examples.append(Example("make bread", "sure", (False, False, False), 1.0, "own", "en"))
    assert [row.exchange.prompt for row in to_labelled_rows(examples)] == ["make bread"]
