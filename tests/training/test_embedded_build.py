"""The whole way on a tiny network: rows in, the five files out, and the exported model is the trained one."""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
transformers = pytest.importorskip("transformers", reason="training needs transformers (the train extra)")
pytest.importorskip("onnx", reason="export needs onnx (the train extra)")
pytest.importorskip("sklearn", reason="the baseline needs scikit-learn (the train extra)")

from tokenizers import Tokenizer  # noqa: E402
from tokenizers.models import WordPiece  # noqa: E402
from tokenizers.normalizers import BertNormalizer  # noqa: E402
from tokenizers.pre_tokenizers import BertPreTokenizer  # noqa: E402

from guardreasoner_sdk.judges.encoding import Encoder, EncodingConfig, Window, collate  # noqa: E402
from guardreasoner_training.embedded import export, scoring  # noqa: E402
from guardreasoner_training.embedded import train as train_module  # noqa: E402
from guardreasoner_training.embedded.__main__ import main  # noqa: E402
from guardreasoner_training.embedded.config import TrainConfig  # noqa: E402
from guardreasoner_training.embedded.data import HEADS, DataError  # noqa: E402
from guardreasoner_training.embedded.examples import Example  # noqa: E402
from guardreasoner_training.embedded.model import GuardNet, base_folder, load_encoder  # noqa: E402
from guardreasoner_training.embedded.pipeline import LEVEL_NAME  # noqa: E402
from guardreasoner_training.embedded.progress import read_weights  # noqa: E402
from guardreasoner_training.embedded.train import batches, encode, masked_loss, targets  # noqa: E402

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
GOOD_WORDS = ["bread", "garden", "poem", "bicycle", "letter", "song", "soup", "window"]
BAD_WORDS = ["bomb", "poison", "malware", "ransom"]
FILES = {"model.onnx", "tokenizer.json", "config.json", "metrics.json", "MODEL_CARD.md"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, 32 wide, with a small vocabulary."""
    folder = tmp_path_factory.mktemp("base")
    letters = [chr(code) for code in range(97, 123)]
    words = [
        *SPECIALS,
        *letters,
        *("##" + letter for letter in letters),
        *GOOD_WORDS,
        *BAD_WORDS,
        "make",
        "sorry",
        "sure",
        ".",
    ]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.add_special_tokens(SPECIALS)
    # As published tokenizers come: cut and padded, which the export must undo.
    tokenizer.enable_truncation(16)
    tokenizer.enable_padding(length=16)
    tokenizer.save(str(folder / "tokenizer.json"))
    torch.manual_seed(1)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(words),
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=512,
        ),
        add_pooling_layer=False,
    ).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    draw = random.Random(3)
    for source in ("own", "gpteacher", "wildchat_benign"):
        lines = []
        for _ in range(200):
            harmful = source == "own" and draw.random() < 0.5
            refused, answer_harmful = harmful and draw.random() < 0.5, False
            words = [draw.choice(GOOD_WORDS) for _ in range(2)] + [draw.choice(BAD_WORDS if harmful else GOOD_WORDS)]
            draw.shuffle(words)
            answer = "sorry" if refused else "sure . " + " ".join(draw.choices(GOOD_WORDS, k=3))
            if harmful and not refused:
                answer, answer_harmful = f"sure . {draw.choice(BAD_WORDS)}", True
            lines.append(
                {
                    "prompt": f"make {' '.join(words)}",
                    "response": answer,
                    "prompt_harmful": harmful,
                    "refusal": refused,
                    "response_harmful": answer_harmful,
                }
            )
        (folder / f"{source}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def benchmark_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    rows = [
        {"input": f"Human user:\nmake bread {word} song\n\nAI assistant:\nNone\n\n", "output": label}
        for words, label in ((BAD_WORDS, "harmful"), (GOOD_WORDS, "unharmful"))
        for word in words
    ]
    (folder / "0_1_AegisSafetyTest.json").write_text(json.dumps(rows))
    return folder


@pytest.fixture(scope="module")
def built(base: Path, data: Path, benchmark_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("built")
    command = ["--data", data, "--output", output, "--base", base, "--benchmarks", benchmark_folder]
    command += ["--epochs", 8, "--learning-rate", 3e-3, "--threads", 1, "--seed", 5, "--no-written"]
    heads = dict.fromkeys(HEADS, 80.0)
    of = {"dev": heads, "unseen AUC": heads | {"prompt_harmful": 61.5}, "unseen F1": heads, "false alarms, unseen": 12.5}
    (output / "ablation.json").write_text(json.dumps({"examples": 900, "seeds": [1, 2], "variants": {"no cake": of}}))
    command += ["--ablation", output / "ablation.json"]
    assert main([str(part) for part in command]) == 0
    return output


def net_of(base: Path, weights: Path) -> GuardNet:
    config = TrainConfig()
    net = GuardNet(load_encoder(base), head_width=config.head_width, dropout=config.head_dropout)
    read_weights(net, weights)
    return net.eval()


def some_windows() -> list[Window]:
    draw = np.random.default_rng(2)
    return [
        Window((2, *(int(i) for i in draw.integers(5, 60, size)), 3), (0,) * (size + 1) + (size % 2,))
        for size in (1, 3, 9, 30, 120, 250)
    ]


def test_command_writes_every_file(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {*FILES, "work", "ablation.json"}
    config = json.loads((built / "config.json").read_text())
    assert config["sha256"] == hashlib.sha256((built / "model.onnx").read_bytes()).hexdigest()
    assert config["heads"] == list(HEADS) == list(config["thresholds"])
    assert all(0 < limit < 1 for limit in config["thresholds"].values())
    tokenizer = Tokenizer.from_file(str(built / "tokenizer.json"))
    assert tokenizer.truncation is None
    assert tokenizer.padding is None
    Encoder(tokenizer, EncodingConfig.from_json(config["encoding"]))


def test_log_tells_loss_and_speed(built: Path) -> None:
    entries = [json.loads(line) for line in (built / "work" / "train_log.jsonl").read_text().splitlines()]
    assert entries[-1]["step"] == entries[-1]["of"]
    assert entries[-1]["rows_per_second"] > 0
    assert sum(entries[-1]["loss"]) < sum(entries[0]["loss"])


def test_what_was_learnt_is_measured(built: Path) -> None:
    metrics = json.loads((built / "metrics.json").read_text())
    assert metrics["dev"]["int8"]["prompt_harmful"]["f1"] > 90
    assert metrics["benchmarks"]["AegisSafetyTest"]["int8"]["f1"] > 90
    assert metrics["benchmarks"]["AegisSafetyTest"]["baseline"]["rows"] == 12
    assert metrics["false_alarms"]["dev"]["benign"]["false_alarm_rate"] <= 3
    assert metrics["data"]["sources"]["wildchat_benign"]["prompts"] == 0


def test_card_is_rendered_from_the_metrics(built: Path) -> None:
    card = (built / "MODEL_CARD.md").read_text()
    metrics = json.loads((built / "metrics.json").read_text())
    assert metrics["model"]["sha256"] in card
    assert metrics["model"]["base"]["sha256"] in card
    for source, of in metrics["data"]["sources"].items():
        held_out = source == "wildchat_benign"
        used = "held out | held out" if held_out else f"{of['prompts']} | {of['pairs']}"
        assert f"| {source} | {of['licence']} | 200 | {used} |" in card
    of = metrics["benchmarks"]["AegisSafetyTest"]["int8"]
    f1 = f"{of['f1']:.1f} ({of['f1_low']:.1f} to {of['f1_high']:.1f})"
    assert f"| AegisSafetyTest | prompt is harmful | 12 | 4 | {f1} |" in card
    assert "Small trainings of 900 examples" in card
    assert "| no cake | 80.0 | 61.5 | 80.0 | 80.0 | 12.5 |" in card
    assert "None" not in card
    assert "nan" not in card


def test_figures_of_something_else_are_not_put_into_the_card(tmp_path: Path, base: Path, capsys: Any) -> None:
    (tmp_path / "figures.json").write_text("[1]")
    command = ["--data", tmp_path, "--output", tmp_path / "out", "--base", base, "--ablation", tmp_path / "figures.json"]
    assert main([str(part) for part in command]) == 1
    assert f"{tmp_path / 'figures.json'}: is no file of benchmarks/embedded_ablation.py" in capsys.readouterr().err


def test_exported_model_is_the_trained_one(built: Path, base: Path) -> None:
    net = net_of(base, built / "work" / LEVEL_NAME / "checkpoint.pt")
    windows = some_windows()
    with torch.no_grad():
        inputs = {name: torch.from_numpy(value) for name, value in collate(windows).items()}
        expected, hazards = (found.numpy() for found in net(**inputs))
    exported = scoring.session(built / "work" / "model.float.onnx", threads=1)
    np.testing.assert_allclose(exported.run(["hazards"], collate(windows))[0], hazards, atol=1e-4)
    whole = scoring.logits(exported, windows)
    np.testing.assert_allclose(whole, expected, atol=1e-4)
    small = scoring.logits(scoring.session(built / "model.onnx", threads=1), windows)
    assert np.abs(small - expected).max() < 0.1 * np.abs(expected).max()


def test_weights_of_an_earlier_run_give_the_same_model(built: Path, base: Path, data: Path, tmp_path: Path) -> None:
    command = [
        "--data",
        data,
        "--output",
        tmp_path,
        "--base",
        base,
        "--weights",
        built / "work" / LEVEL_NAME / "checkpoint.pt",
        "--seed",
        5,
        "--no-written",
    ]
    assert main([str(part) for part in command]) == 0
    first, second = (json.loads((folder / "config.json").read_text()) for folder in (built, tmp_path))
    assert first == second
    assert "Not measured in this run." in (tmp_path / "MODEL_CARD.md").read_text()


def test_a_model_is_measured_again(
    built: Path, base: Path, data: Path, benchmark_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    again = ["--data", data, "--output", tmp_path / "again", "--again", built, "--benchmarks", benchmark_folder, "--no-written"]
    trained = ["--epochs", 8, "--learning-rate", 3e-3, "--threads", 1]
    command = [str(part) for part in (*again, *trained)]
    assert main([*command, "--seed", "6"]) == 1
    assert "was trained with other settings (seed); give those of its metrics.json" in capsys.readouterr().err
    (tmp_path / "less").mkdir()
    lines = (data / "own.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "less" / "own.jsonl").write_text("".join(lines[:100]))
    assert main([*command, "--seed", "5", "--data", str(tmp_path / "less")]) == 1
    assert "was trained with other rows (rows, " in capsys.readouterr().err
    assert main([*command, "--seed", "5"]) == 0
    assert {path.name for path in (tmp_path / "again").iterdir()} == {"config.json", "metrics.json", "MODEL_CARD.md"}
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (built, tmp_path / "again"))
    # The same reading gives the same choices and figures.
    for part in ("dev", "unseen", "thresholds"):
        before[part].pop("float32")
    before["benchmarks"]["AegisSafetyTest"].pop("float32")
    assert after == before | {"measured_again": True}
    assert (tmp_path / "again" / "config.json").read_text() == (built / "config.json").read_text()
    card = (tmp_path / "again" / "MODEL_CARD.md").read_text()
    assert "windows and thresholds were chosen again after that" in card
    assert "F1 float32" in (built / "MODEL_CARD.md").read_text()
    assert "F1 float32" not in card
    assert main([*command, "--again", str(base)]) == 1
    assert f"{base}: is no folder of a model that was made here" in capsys.readouterr().err


def test_a_run_goes_on_from_its_first_stage_to_the_same_model(built: Path, base: Path, data: Path, tmp_path: Path) -> None:
    command = ["--data", data, "--output", tmp_path, "--base", base, "--no-written"]
    command += ["--epochs", 8, "--learning-rate", 3e-3, "--threads", 1, "--seed", 5]
    command += ["--first-stage", built / "work" / "checkpoint.pt"]
    assert main([str(part) for part in command]) == 0
    assert not (tmp_path / "work" / "checkpoint.pt").exists()
    assert (tmp_path / "model.onnx").read_bytes() == (built / "model.onnx").read_bytes()


def test_weights_that_cannot_be_used_end_the_command(
    built: Path, base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"net": {}, "random": torch.get_rng_state()}, tmp_path / "other.pt")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "bare.pt")
    (tmp_path / "text.pt").write_text("no weights")
    (tmp_path / "empty.pt").touch()
    for name in ("other.pt", "bare.pt", "text.pt", "empty.pt"):
        command = ["--data", data, "--output", tmp_path / "out", "--base", base, "--no-written", "--weights", tmp_path / name]
        assert main([str(part) for part in command]) == 1
        assert f"error: {tmp_path / name}: is no checkpoint.pt of this training; give " in capsys.readouterr().err
    assert main([*map(str, command), "--weights", str(tmp_path / "absent.pt")]) == 1
    assert f"error: {tmp_path / 'absent.pt'}: cannot be read: No such file" in capsys.readouterr().err


def test_a_run_cut_off_ends_with_the_same_weights(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    examples = [
        Example(f"make {word} soup", None, (word in BAD_WORDS, None, None), 1.0, "own") for word in BAD_WORDS + GOOD_WORDS
    ] * 8
    config = TrainConfig(epochs=2, batch_size=4, checkpoint_steps=5, threads=1)
    encoder = Encoder(Tokenizer.from_file(str(base / "tokenizer.json")), config.train_encoding)
    folders = [tmp_path / name for name in ("whole", "cut")]

    def run(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        net = GuardNet(load_encoder(base), head_width=8, dropout=0.1)
        train_module.train(net, examples, encoder, config, folder)
        return net.state_dict()

    whole = run(folders[0])
    real, calls = train_module.hazard_loss, itertools.count()

    def cut_off(*given: Any) -> torch.Tensor:
        if next(calls) == 13:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(train_module, "hazard_loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(folders[1])
    assert (folders[1] / "state.pt").is_file()
    again = run(folders[1])
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    steps = [[json.loads(line)["step"] for line in (folder / "train_log.jsonl").read_text().splitlines()] for folder in folders]
    assert steps[0] == steps[1]
    assert not (folders[1] / "state.pt").exists()


def test_named_matrices_stay_in_floating_point(built: Path, base: Path, tmp_path: Path) -> None:
    net = net_of(base, built / "work" / LEVEL_NAME / "checkpoint.pt")
    export.export_int8(net, tmp_path / "kept.onnx", keep_float=("layer.0",))
    assert (tmp_path / "kept.onnx").stat().st_size > (built / "model.onnx").stat().st_size
    assert not (tmp_path / "kept.float.onnx").exists()


def test_broken_rows_end_the_command_with_one_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": 3}\n')
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), "--base", str(base)]) == 1
    assert capsys.readouterr().err == f'error: {tmp_path / "own.jsonl"}:1: "prompt" must be a string that is not empty\n'


def test_rows_that_teach_nothing_end_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "make bread", "prompt_harmful": false}\n' * 3)
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), "--base", str(base)]) == 1
    assert "not both kinds of rows for prompt_harmful" in capsys.readouterr().err


def test_incomplete_base_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        base_folder(tmp_path)


def test_masked_heads_give_no_loss() -> None:
    items = encode_some([Example("make soup", None, (True, None, None), 1.0, "own")])
    labels, weights = targets(items)
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
    assert (loss / np.log(2)).tolist() == pytest.approx([(2 * 3 + 1) / 2, 0.0, 2 / 2])


def test_later_window_does_not_teach_refusal() -> None:
    example = Example("make soup", "sure . " * 60, (None, True, False), 1.0, "own")
    config = TrainConfig(later_window_share=1.0, prompt_dropout=1.0)
    (item,) = encode_some([example], config)
    assert item.labels == (None, None, False)
    assert item.window.ids[1] == 3  # The prompt was left out: [CLS] [SEP].
    (item,) = encode_some([example], TrainConfig(later_window_share=0.0, prompt_dropout=0.0))
    assert item.labels == (None, True, False)


def test_batches_hold_every_item_once() -> None:
    items = encode_some([Example("soup " * (i % 7 + 1), None, (True, None, None), float(i), "own") for i in range(100)])
    seen = [item.weight for batch in batches(items, 8, seed=1) for item in batch]
    assert sorted(seen) == list(range(100))
    assert seen != [item.weight for batch in batches(items, 8, seed=2) for item in batch]


def encode_some(examples: list[Example], config: TrainConfig | None = None) -> list:
    words = [*SPECIALS, "make", "soup", "sure", "."]
    tokenizer = Tokenizer(WordPiece({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = BertPreTokenizer()
    return encode(examples, Encoder(tokenizer, EncodingConfig(32, 48, 8, 4)), config or TrainConfig(), seed=1)
