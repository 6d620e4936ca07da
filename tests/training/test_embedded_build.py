"""The whole way on a tiny network: rows in, the five files out, and the exported model is the trained one."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs torch (the train extra)")
transformers = pytest.importorskip("transformers", reason="training needs transformers (the train extra)")
onnx = pytest.importorskip("onnx", reason="export needs onnx (the train extra)")
pytest.importorskip("sklearn", reason="the baseline needs scikit-learn (the train extra)")

from guardreasoner_sdk import Exchange, Guard  # noqa: E402
from guardreasoner_sdk.judges.embedded import EmbeddedJudge  # noqa: E402
from guardreasoner_sdk.judges.encoding import (  # noqa: E402
    ANSWERED,
    ASKED,
    PROMPT,
    RESPONSE,
    Encoder,
    EncodingConfig,
    TokenWindow,
    collate,
)
from guardreasoner_sdk.verdict import TASKS  # noqa: E402
from guardreasoner_training.embedded import export, scoring  # noqa: E402
from guardreasoner_training.embedded import train as train_module  # noqa: E402
from guardreasoner_training.embedded.__main__ import main  # noqa: E402
from guardreasoner_training.embedded.config import TrainConfig  # noqa: E402
from guardreasoner_training.embedded.data import HEADS, DataError  # noqa: E402
from guardreasoner_training.embedded.examples import Example  # noqa: E402
from guardreasoner_training.embedded.languages import LANGUAGES  # noqa: E402
from guardreasoner_training.embedded.model import OUTPUTS, UNJUDGED, GuardNet, base_folder, load_encoder  # noqa: E402
from guardreasoner_training.embedded.outliers import without_outliers  # noqa: E402
from guardreasoner_training.embedded.pieces import SPECIALS, TOKENIZER_FILE, tokenizer_model  # noqa: E402
from guardreasoner_training.embedded.pipeline import measured_languages, network, pieces_of  # noqa: E402
from guardreasoner_training.embedded.progress import read_weights  # noqa: E402

GOOD_WORDS = ["bread", "garden", "poem", "bicycle", "letter", "song", "soup", "window"]
BAD_WORDS = ["bomb", "poison", "malware", "ransom"]
FILES = {"model.onnx", TOKENIZER_FILE, "config.json", "metrics.json", "MODEL_CARD.md"}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random BERT of two layers, 32 wide, with a small vocabulary."""
    folder = tmp_path_factory.mktemp("base")
    words = ["make", "sorry", "sure", *GOOD_WORDS, *BAD_WORDS]
    letters = [*(chr(code) for code in range(97, 123)), ".", "\u2581"]
    pieces = [*SPECIALS, *letters, *(f"\u2581{word}" for word in words)]
    (folder / TOKENIZER_FILE).write_bytes(tokenizer_model((piece, -float(len(piece) < 2)) for piece in pieces))
    torch.manual_seed(1)
    transformers.BertModel(
        transformers.BertConfig(
            vocab_size=len(pieces),
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
    net = network(base, TrainConfig())
    read_weights(net, weights)
    return net.eval()


def some_windows() -> list[TokenWindow]:
    """Prompts and responses, alone and behind what was said before, from one token to many."""
    draw = np.random.default_rng(2)
    behind: list[list[tuple[int, int]]] = [[], [(ASKED, 5)], [(ASKED, 3), (ANSWERED, 7)], [(ANSWERED, 40)]]
    windows = []
    for size in (1, 2, 3, 9, 30, 120, 250):
        for kind in (PROMPT, RESPONSE):
            earlier = behind[len(windows) % len(behind)]
            types = [of for of, count in earlier for _ in range(count + 1)] + [kind] * (size + 1)
            ids = [0, *(int(number) for number in draw.integers(4, 40, len(types) - 1)), 2]
            windows.append(TokenWindow(tuple(ids), (types[0], *types)))
    return windows


def outputs_of(net: GuardNet, windows: list[TokenWindow]) -> dict[str, np.ndarray]:
    """What the network gives for windows side by side."""
    with torch.no_grad():
        inputs = {name: torch.from_numpy(value) for name, value in collate(windows).items()}
        return {name: found.numpy() for name, found in zip(OUTPUTS, net(**inputs), strict=True)}


def test_command_writes_every_file(built: Path) -> None:
    assert {path.name for path in built.iterdir()} == {*FILES, "work", "ablation.json"}
    config = json.loads((built / "config.json").read_text())
    assert config["sha256"] == hashlib.sha256((built / "model.onnx").read_bytes()).hexdigest()
    assert config["tokenizer_sha256"] == hashlib.sha256((built / TOKENIZER_FILE).read_bytes()).hexdigest()
    assert config["heads"] == list(HEADS) == list(config["thresholds"])
    assert all(0 < limit < 1 for limit in config["thresholds"].values())
    assert list(config["length_shift"]) == list(HEADS)
    assert config["length_shift"]["response_refusal"] == 0
    assert config["languages"] == list(LANGUAGES)
    assert {*config["measured_languages"]} <= {*LANGUAGES}
    Encoder(pieces_of(built), EncodingConfig.from_json(config["encoding"]))


def test_the_card_names_the_versions_that_it_was_built_with(built: Path) -> None:
    versions = json.loads((built / "metrics.json").read_text())["model"]["built_with"]
    assert versions["torch"] == torch.__version__
    assert f"- built with python {versions['python']}, torch {versions['torch']}, " in (built / "MODEL_CARD.md").read_text()


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
    of = metrics["by_language"]["unseen"]["en"]["prompt_harmful"]
    assert f"| en | unseen sources | {of['rows']} | 0 | - | - |" in card
    assert "None" not in card
    assert "nan" not in card


def test_figures_of_something_else_are_not_put_into_the_card(tmp_path: Path, base: Path, capsys: Any) -> None:
    (tmp_path / "figures.json").write_text("[1]")
    command = ["--data", tmp_path, "--output", tmp_path / "out", "--base", base, "--ablation", tmp_path / "figures.json"]
    assert main([str(part) for part in command]) == 1
    assert f"{tmp_path / 'figures.json'}: is no file of benchmarks/embedded_ablation.py" in capsys.readouterr().err


def test_exported_model_is_the_trained_one(built: Path, base: Path) -> None:
    net, windows = net_of(base, built / "work" / "checkpoint.pt"), some_windows()
    expected = outputs_of(net, windows)
    exported = scoring.session(built / "work" / "model.float.onnx", threads=1)
    # Side by side and each on its own: the shapes that were traced are neither.
    for name, found in zip(OUTPUTS, exported.run(OUTPUTS, collate(windows)), strict=True):
        np.testing.assert_allclose(found, expected[name], atol=1e-4)
    for row, window in enumerate(windows):
        alone = outputs_of(net, [window])
        for name, found in zip(OUTPUTS, exported.run(OUTPUTS, collate([window])), strict=True):
            np.testing.assert_allclose(found, alone[name], atol=1e-4)
            # Nor does padding change anything.
            beside = expected[name][row : row + 1]
            np.testing.assert_allclose(found, beside[:, : len(window.ids)] if name == "tokens" else beside, atol=1e-4)
    whole = scoring.logits(exported, windows)
    np.testing.assert_allclose(whole, expected["logits"], atol=1e-4)


def test_eight_bits_are_near_the_trained_model_and_leave_the_heads_alone(built: Path, base: Path) -> None:
    expected = outputs_of(net_of(base, built / "work" / "checkpoint.pt"), some_windows())["logits"]
    small = scoring.logits(scoring.session(built / "model.onnx", threads=1), some_windows())
    assert np.abs(small - expected).max() < 0.15 * np.abs(expected).max()
    nodes = onnx.load(built / "model.onnx").graph.node
    assert sum(node.op_type == "MatMulInteger" for node in nodes) == 2 * 6  # of each layer, what holds weights
    heads = {node.name: node.op_type for node in nodes if node.name.startswith(("/hidden/", "/hazards/", "/languages/"))}
    matrices = {name for name, kind in heads.items() if "MatMul" in kind}
    assert matrices == {"/hidden/MatMul", "/hazards/Gemm_MatMul", "/languages/Gemm_MatMul"}
    assert {heads[name] for name in matrices} == {"MatMul"}


def test_a_window_without_anything_to_judge_gives_numbers(built: Path, base: Path) -> None:
    window = TokenWindow((0, 5, 6, 2), (ASKED,) * 4)
    for path in (built / "work" / "model.float.onnx", built / "model.onnx"):
        for name, found in zip(OUTPUTS, scoring.session(path, threads=1).run(OUTPUTS, collate([window])), strict=True):
            assert np.isfinite(found).all(), name
            if name == "tokens":
                assert (found == UNJUDGED).all()


def test_only_judged_tokens_are_scored_and_a_refusal_only_at_the_beginning(base: Path) -> None:
    torch.manual_seed(2)
    net = GuardNet(load_encoder(base), head_width=8, dropout=0.1, opening_tokens=6, languages=3).eval()
    windows = some_windows()
    found = outputs_of(net, windows)
    for tokens, logits, window in zip(found["tokens"], found["logits"], windows, strict=True):
        judged = [place for place, kind in enumerate(window.type_ids) if kind >= PROMPT]
        for head, scored in enumerate((judged, judged[:6], judged)):
            assert np.flatnonzero(tokens[:, head] > UNJUDGED).tolist() == scored
            # Near the strongest, and never below the mean.
            mean, most = tokens[scored, head].mean(), tokens[scored, head].max()
            assert mean - 1e-5 <= logits[head] <= most + 1e-5


def test_sixteen_bits_teach_with_numbers_alone(base: Path) -> None:
    torch.manual_seed(2)
    net = GuardNet(load_encoder(base), head_width=8, dropout=0.1, opening_tokens=6, languages=3)
    windows = [*some_windows(), TokenWindow((0, 5, 6, 2), (ASKED,) * 4)]
    inputs = {name: torch.from_numpy(value) for name, value in collate(windows).items()}
    with torch.autocast("cpu", torch.bfloat16):
        found = dict(zip(OUTPUTS, net(**inputs), strict=True))
    assert all(values.isfinite().all() for values in found.values())
    judged = (inputs["token_type_ids"] >= PROMPT) & (inputs["attention_mask"] > 0)
    assert (found["tokens"][..., 0][~judged] < -1000).all()
    assert (found["tokens"][..., 0][judged] > -1000).all()
    sum(values.float().sum() for name, values in found.items() if name != "tokens").backward()
    learnt = {name: value for name, value in net.named_parameters() if value.requires_grad}
    assert all(value.grad is not None and value.grad.isfinite().all() for value in learnt.values())
    # The words keep what the base knows of them; what tells the kinds of text apart is learnt.
    frozen = {name for name, _ in net.named_parameters()} - learnt.keys()
    assert frozen
    assert all(name.startswith("encoder.embeddings.") for name in frozen)
    assert "encoder.embeddings.token_type_embeddings.weight" in learnt


def test_languages_are_read_off_and_teach_the_encoder_nothing(base: Path) -> None:
    net = network(base, TrainConfig())
    inputs = {name: torch.from_numpy(value) for name, value in collate(some_windows()).items()}
    net(**inputs)[OUTPUTS.index("languages")].sum().backward()
    assert {name for name, value in net.named_parameters() if value.grad is not None} == {"languages.weight", "languages.bias"}


GOOD = "make bread song "
JUDGED = [
    Example("make bread bomb song", None, (True, None, None), 1.0, "own"),
    Example("make soup", None, (False, None, None), 1.0, "own"),
    Example("\u200b\u2603 !", None, (False, None, None), 1.0, "own"),
    Example(GOOD * 300 + "poison " + GOOD * 300, None, (True, None, None), 1.0, "own"),
    Example("make more", None, (None,) * 3, 1.0, "own", history=(("user", "make poison"), ("assistant", "sure . poison"))),
    Example(GOOD * 200, None, (None,) * 3, 1.0, "own", history=(("user", "make malware " * 90), ("system", "bomb"))),
    Example("make soup", None, (None,) * 3, 1.0, "own", history=(("system", "make poison"), ("tool", "bomb"))),
    Example("make bomb", "sorry", (None,) * 3, 1.0, "own"),
    Example("make poison " * 100, "sure . bomb", (None,) * 3, 1.0, "own"),
    Example("make soup", GOOD * 300 + "ransom " + GOOD + "sorry", (None,) * 3, 1.0, "own"),
]


@pytest.mark.parametrize("window_tokens", [160, 256])
def test_the_runtime_gives_the_scores_that_were_measured(built: Path, tmp_path: Path, window_tokens: int) -> None:
    folder = Path(shutil.copytree(built, tmp_path / "model", ignore=shutil.ignore_patterns("work")))
    config = json.loads((folder / "config.json").read_text())
    shift = (0.4, 0.7, 0.25)
    config |= {"encoding": {"window_tokens": window_tokens, "context_tokens": 64, "overlap_tokens": 48, "opening_tokens": 80}}
    config |= {"length_shift": dict(zip(HEADS, shift, strict=True))}
    (folder / "config.json").write_text(json.dumps(config))
    encoder = Encoder(pieces_of(folder), EncodingConfig.from_json(config["encoding"]))
    run = scoring.session(folder / "model.onnx", threads=1)
    assert len(encoder.prompt(JUDGED[3].prompt)) > 4
    expected = scoring.score(run, encoder, JUDGED, shift)
    turns = [[{"role": role, "content": said} for role, said in example.history] for example in JUDGED]
    exchanges = [Exchange(of.prompt, of.response, history) for of, history in zip(JUDGED, turns, strict=True)]
    judgements = EmbeddedJudge(folder, reasoning="off").judge_now(exchanges, deadline=None)
    for example, judged, scores in zip(JUDGED, judgements, expected, strict=True):
        found = [judged.prompt_harmfulness, judged.response_refusal, judged.response_harmfulness]
        asked = found[1:] if example.response is not None else found[:1]
        for of, task, score in zip(
            asked, TASKS[1:] if example.response is not None else TASKS[:1], scores[~np.isnan(scores)], strict=True
        ):
            assert of is not None
            assert of.score is not None
            # What is found harmful is not read again, sentence by sentence: that could only raise its score.
            decided = task != "response_refusal" and of.score >= config["thresholds"][HEADS[TASKS.index(task)]]
            assert of.score == pytest.approx(score, abs=1e-9) or (decided and of.score < score)
    free = scoring.score(run, encoder, JUDGED)
    # What length costs is paid by long texts alone, and never for a refusal.
    assert free[3, 0] > expected[3, 0]
    assert free[9, 2] > expected[9, 2]
    assert free[9, 1] == expected[9, 1]
    np.testing.assert_array_equal(free[[0, 1, 2, 6, 7, 8]], expected[[0, 1, 2, 6, 7, 8]])


def test_a_guard_takes_the_folder(built: Path) -> None:
    guard = Guard(str(built))
    assert guard.check("make bread bomb song").prompt_harmfulness.label == "harmful"
    assert guard.check("make bread poem song").prompt_harmfulness.label == "unharmful"


def test_languages_are_measured_where_there_are_harmful_and_harmless_prompts() -> None:
    def prompts(lang: str | None, harmful: int, harmless: int) -> list[Example]:
        labels = [True] * harmful + [False] * harmless
        return [Example("x", None, (label, None, None), 1.0, "own", lang) for label in labels]

    clear_cut = measured_languages([])
    assert "en" in clear_cut
    assert not {"fi", "da", "sr", "no", "la", "other"} & set(clear_cut)
    examples = [*prompts("fi", 20, 20), *prompts("da", 19, 90), *prompts("sr", 90, 19), *prompts("la", 50, 50)]
    examples += [*prompts(None, 50, 50), *prompts("other", 30, 30)]
    examples += [Example("x", "y", (None, True, True), 1.0, "own", "no")] * 50
    assert measured_languages(examples) == [*clear_cut, "fi"]


def test_weights_of_an_earlier_run_give_the_same_model(built: Path, base: Path, data: Path, tmp_path: Path) -> None:
    command = [
        "--data",
        data,
        "--output",
        tmp_path,
        "--base",
        base,
        "--weights",
        built / "work" / "checkpoint.pt",
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
    assert {path.name for path in (tmp_path / "again").iterdir()} == FILES
    before, after = (json.loads((folder / "metrics.json").read_text()) for folder in (built, tmp_path / "again"))
    # The same reading gives the same choices and figures.
    for part in ("dev", "unseen", "thresholds"):
        before[part].pop("float32")
    before["benchmarks"]["AegisSafetyTest"].pop("float32")
    assert after == before | {"measured_again": True, "disguises_measured_again": True}
    assert (tmp_path / "again" / "config.json").read_text() == (built / "config.json").read_text()
    card = (tmp_path / "again" / "MODEL_CARD.md").read_text()
    assert "windows and thresholds were chosen again after that" in card
    assert "F1 float32" in (built / "MODEL_CARD.md").read_text()
    assert "F1 float32" not in card
    assert main([*command, "--again", str(base)]) == 1
    assert f"{base}: is not a folder of a model that was made here" in capsys.readouterr().err


def test_weights_that_cannot_be_used_end_the_command(
    built: Path, base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save({"net": {}}, tmp_path / "other.pt")
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
        Example(f"make {word} soup", None, (word in BAD_WORDS, None, None), 1.0, "own", hazard=number % 3)
        for number, word in enumerate(BAD_WORDS + GOOD_WORDS)
    ] * 4
    examples += [
        Example(GOOD * 200 + "bomb", None, (True, None, None), 1.0, "own"),
        Example("make", GOOD * 90, (None, False, False), 1.0, "own"),
    ]
    config = TrainConfig(epochs=2, batch_size=4, checkpoint_steps=5, threads=1)
    encoders = [Encoder(pieces_of(base), of) for of in config.train_encodings]
    folders = [tmp_path / name for name in ("whole", "cut")]

    def run(folder: Path) -> dict[str, torch.Tensor]:
        folder.mkdir(exist_ok=True)
        torch.manual_seed(1)
        net = GuardNet(load_encoder(base), head_width=8, dropout=0.1, opening_tokens=6, languages=len(LANGUAGES))
        train_module.train(net, examples, encoders, config, folder)
        return net.state_dict()

    whole = run(folders[0])
    real, calls = train_module.masked_loss, itertools.count()

    def cut_off(*given: Any, **named: Any) -> torch.Tensor:
        if next(calls) == 13:
            raise KeyboardInterrupt
        return real(*given, **named)

    monkeypatch.setattr(train_module, "masked_loss", cut_off)
    with pytest.raises(KeyboardInterrupt):
        run(folders[1])
    assert (folders[1] / "state.pt").is_file()
    again = run(folders[1])
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    steps = [[json.loads(line)["step"] for line in (folder / "train_log.jsonl").read_text().splitlines()] for folder in folders]
    assert steps[0] == steps[1]
    assert not (folders[1] / "state.pt").exists()


def loud_network(base: Path) -> GuardNet:
    """A network as they come out of pre-training: a few channels and units are far louder than the rest, and count no more."""
    torch.manual_seed(3)
    net = GuardNet(load_encoder(base), head_width=8, dropout=0.1, opening_tokens=6, languages=3).eval()
    with torch.no_grad():
        for layer in net.encoder.encoder.layer:
            for dense in (layer.intermediate.dense, layer.output.dense):
                dense.weight *= 15  # as drawn, a layer adds next to nothing
            layer.attention.output.LayerNorm.weight[3] *= 8
            layer.intermediate.dense.weight[:, 3] /= 8
            layer.output.dense.weight[3] /= 8
            layer.intermediate.dense.weight[7] *= 60
            layer.output.dense.weight[:, 7] /= 60
    return net


def test_the_network_without_outliers_is_the_same_function_and_leaves_the_other_alone(base: Path) -> None:
    net, windows = loud_network(base), some_windows()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    expected = outputs_of(net, windows)
    found = outputs_of(without_outliers(net.train(), windows[:6]), windows)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], atol=2e-4)
    assert net.training
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())


def test_eight_bits_lose_little_where_a_few_channels_are_loud(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, windows = loud_network(base), some_windows()
    expected = outputs_of(net, windows)["logits"]

    def lost(name: str) -> float:
        export.export_int8(net, tmp_path / name, windows)
        assert {path.name for path in tmp_path.iterdir()} <= {"even.onnx", "loud.onnx"}
        found = scoring.logits(scoring.session(tmp_path / name, threads=1), windows)
        return float(np.sqrt(np.mean((found - expected) ** 2)))

    even = lost("even.onnx")
    monkeypatch.setattr(export, "without_outliers", lambda net, windows: copy.deepcopy(net).eval())
    assert even < 0.5 * lost("loud.onnx")


def test_broken_rows_end_the_command_with_one_line(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": 3}\n')
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out"), "--base", str(base)]) == 1
    assert capsys.readouterr().err == f'error: {tmp_path / "own.jsonl"}:1: "prompt" must be a string that is not empty\n'


def test_rows_that_teach_nothing_end_the_command(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "own.jsonl").write_text('{"prompt": "make bread", "prompt_harmful": false}\n' * 3)
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "out"), "--base", str(base)]
    assert main([*arguments, "--no-written"]) == 1
    assert "not both kinds of rows for prompt_harmful" in capsys.readouterr().err


def test_a_base_that_cannot_be_used_is_refused(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(DataError, match=r"no config\.json"):
        base_folder(tmp_path)
    other = Path(shutil.copytree(base, tmp_path / "other"))
    (other / TOKENIZER_FILE).write_bytes(tokenizer_model([("<unk>", 0.0), ("a", 0.0)]))
    command = ["--data", data, "--output", tmp_path / "out", "--base", other, "--no-written"]
    assert main([str(part) for part in command]) == 1
    assert f"error: {other / TOKENIZER_FILE}: cannot be loaded (it has no piece that begins a text" in capsys.readouterr().err
    (other / TOKENIZER_FILE).write_text("{}")
    assert main([str(part) for part in command]) == 1
    assert f"error: {other / TOKENIZER_FILE}: cannot be loaded (it is not a model" in capsys.readouterr().err


def test_a_number_of_layers_that_makes_no_student_is_refused_before_anything_is_trained(
    base: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["--data", data, "--output", tmp_path / "out", "--base", base, "--no-written", "--layers", 5]
    assert main([str(part) for part in command]) == 1
    assert "error: --layers must be 1 to 1, of the 2 that the base model has, not 5" in capsys.readouterr().err
    assert not list((tmp_path / "out" / "work").iterdir())
