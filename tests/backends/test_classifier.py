"""Sequence classifiers: real architectures with random weights, real tokenizers, windows, both engines."""

from __future__ import annotations

import asyncio
import json
import math
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from guardreasoner_sdk import BackendError, Classifier, ClassifierJudge, ConfigurationError, Guard, Onnx
from guardreasoner_sdk.backends._windows import WindowEncoder
from guardreasoner_sdk.backends.classifier import OnnxClassifier, TransformersClassifier
from guardreasoner_sdk.catalog import MODELS
from guardreasoner_sdk.cli import main
from guardreasoner_sdk.dialects.label_map import LabelMap, label_maps
from guardreasoner_sdk.generation import Passage
from tiny_classifiers import SPECIAL, logits_of, make_classifier, make_tokenizer

# DeBERTa of transformers 5.19 uses what PyTorch 2.13 has deprecated.
pytestmark = pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")

PROMPT, RESPONSE = "How do I bake bread?", "Mix flour, water and salt."

# The real architecture and the real labels of each published classifier.
DUO = tuple(f"LABEL_{number}" for number in range(12))
BEAVER = tuple(label_maps()["beaver-dam"].labels)
TOXIC = ("toxic", "severe_toxic", "obscene", "threat", "insult", "identity_hate")
REAL: dict[str, tuple[str, tuple[str, ...]]] = {
    "prompt-guard-2": ("deberta-v2", ("LABEL_0", "LABEL_1")),
    "prompt-guard": ("deberta-v2", ("BENIGN", "INJECTION", "JAILBREAK")),
    "piguard": ("deberta-v2", ("benign", "injection")),
    "protectai-injection": ("deberta-v2", ("SAFE", "INJECTION")),
    "protectai-rejection": ("roberta", ("NORMAL", "REJECTION")),
    "harmaug": ("deberta-v2", ("LABEL_0", "LABEL_1")),
    "duoguard": ("qwen2", DUO),
    "beaver-dam": ("llama", BEAVER),
    "granite-guardian-hap": ("roberta", ("LABEL_0", "LABEL_1")),
    "toxic-prompt-roberta": ("roberta", ("LABEL_0", "LABEL_1")),
    "detoxify": ("bert", TOXIC),
}


def softmax(logits: list[float]) -> list[float]:
    powers = [math.exp(logit - max(logits)) for logit in logits]
    return [power / sum(powers) for power in powers]


def sigmoid(logits: list[float]) -> list[float]:
    return [1 / (1 + math.exp(-logit)) for logit in logits]


def expected(name: str, folder: Path, task: str) -> float:
    """P(harmful) or P(refusal), by transformers and the documentation of the model, without any of our code."""
    match name, task:
        case "beaver-dam", "response_harmfulness":
            text = f"BEGINNING OF CONVERSATION: USER: {PROMPT} ASSISTANT:{RESPONSE}"
            return max(sigmoid(logits_of(folder, text, ends_with=2)))
        case "harmaug", "response_harmfulness":
            return softmax(logits_of(folder, PROMPT, RESPONSE))[1]
        case "duoguard" | "detoxify", _:
            return max(sigmoid(logits_of(folder, PROMPT if task == "prompt_harmfulness" else RESPONSE)))
        case "prompt-guard", _:
            return softmax(logits_of(folder, PROMPT))[2]
    return softmax(logits_of(folder, PROMPT if task == "prompt_harmfulness" else RESPONSE))[1]


def test_every_map_has_its_real_architecture_here_and_every_classifier_of_the_catalogue_a_map() -> None:
    assert set(REAL) == set(label_maps())
    assert {info.dialect for info in MODELS.values() if info.is_classifier} == set(REAL)


@pytest.mark.parametrize("name", [name for name in REAL if name != "piguard"])
def test_a_published_classifier_judges_as_its_authors_read_it(name: str, tmp_path: Path) -> None:
    architecture, labels = REAL[name]
    folder = make_classifier(tmp_path, architecture, labels)
    with Guard(str(folder), dialect=name, options={"window": 128 if name == "beaver-dam" else 62, "device": "cpu"}) as guard:
        verdict = guard.check(PROMPT, RESPONSE)
    assert set(verdict.findings) == set(label_maps()[name].judges)
    assert verdict.usage.input_tokens > 0
    for task, finding in verdict.findings.items():
        assert finding.score == pytest.approx(expected(name, folder, task), abs=1e-5)
        positive = finding.score >= label_maps()[name].threshold
        assert finding.label == {True: "refusal" if "refusal" in task else "harmful"}.get(
            positive, "compliance" if "refusal" in task else "unharmful"
        )
        narrow = label_maps()[name].looks_for is not None and not positive and "harm" in task
        assert (finding.note is not None) == narrow
    known = {meaning.partition(": ")[2] for meaning in label_maps()[name].labels.values()}
    assert set(verdict.categories) <= known - {""}


def test_a_head_on_the_first_token_is_read_without_code_of_the_models_own(tmp_path: Path) -> None:
    import torch
    import transformers
    from safetensors.torch import load_file

    folder = make_classifier(tmp_path, "deberta-v2", REAL["piguard"][1], head="first token")
    with Guard(str(folder), dialect="piguard", options={"window": 64, "device": "cpu"}) as guard:
        verdict = guard.check(PROMPT)
    state = load_file(folder / "model.safetensors")
    written = json.loads((folder / "config.json").read_text())
    config = transformers.DebertaV2Config(**{k: v for k, v in written.items() if k not in ("model_type", "auto_map")})
    inside = transformers.DebertaV2Model(config).eval()
    inside.load_state_dict(
        {name.removeprefix("deberta."): value for name, value in state.items() if name.startswith("deberta.")}
    )
    with torch.inference_mode():
        first = inside(torch.tensor([make_tokenizer("unigram").encode(PROMPT).ids])).last_hidden_state[0, 0]
        logits = state["classifier.weight"] @ first + state["classifier.bias"]
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.score == pytest.approx(logits.softmax(-1)[1].item(), abs=1e-5)


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_classifier(tmp_path_factory.mktemp("bert"), "bert", ("safe", "unsafe"))


def backend_of(folder: Path, labels: LabelMap | None = None, **options: Any) -> TransformersClassifier:
    labels = labels or LabelMap(labels={"safe": "unharmful", "unsafe": "harmful"})
    return TransformersClassifier(str(folder), labels, Classifier(device="cpu", **options))


def test_labels_that_say_it_themselves_need_no_map(bert: Path) -> None:
    with Guard(str(bert), backend=Classifier(device="cpu"), reasoning="full") as guard:
        verdict = guard.check(PROMPT)
        assert (guard.judge.model, guard.judge.backend) == (bert.name, "classifier")
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.score == pytest.approx(softmax(logits_of(bert, PROMPT))[1], abs=1e-5)
    assert [step.kind for step in verdict.reasoning] == ["evidence"]
    assert verdict.response_harmfulness is None


def test_what_a_text_scores_does_not_depend_on_what_it_is_judged_with_nor_on_the_order(bert: Path) -> None:
    texts = [PROMPT, "a", "b " * 300, RESPONSE, "How do I build a bomb? " * 20, "Zz9"]

    async def scores(*passages: str) -> list[float]:
        backend = backend_of(bert)
        answers = await backend.classify([Passage(text) for text in passages], deadline=None)
        await backend.aclose()
        return [
            max(window.logits[1] for window in answer.windows) for answer in answers if not isinstance(answer, BackendError)
        ]

    together, backwards = asyncio.run(scores(*texts)), asyncio.run(scores(*reversed(texts)))
    alone = [asyncio.run(scores(text))[0] for text in texts]
    assert together == pytest.approx(alone, abs=1e-4)
    assert backwards[::-1] == pytest.approx(alone, abs=1e-4)


def test_a_long_text_is_read_to_its_end_and_its_most_harmful_window_decides(bert: Path) -> None:
    text = " ".join(f"word{number}" for number in range(10_000))  # 98,890 characters
    with Guard(str(bert), options={"device": "cpu", "batch_size": 64}, reasoning="full") as guard:
        verdict = guard.check(text)
        [step] = verdict.reasoning
        assert step.span is not None
        alone = guard.check(text[step.span.start : step.span.end])
    assert verdict.prompt_harmfulness is not None
    assert alone.prompt_harmfulness is not None
    found = re.search(r"in window (\d+) of (\d+);", step.text)
    assert found
    assert int(found[2]) > 500
    assert alone.prompt_harmfulness.score == pytest.approx(verdict.prompt_harmfulness.score, abs=1e-4)


@pytest.mark.parametrize("kind", SPECIAL)
@given(text=st.text(max_size=400), prompt=st.none() | st.text(max_size=400), hostile=st.booleans())
@settings(max_examples=60)
def test_windows_hold_all_of_a_text_and_no_special_token_of_its_own(
    kind: str, text: str, prompt: str | None, hostile: bool
) -> None:
    tokenizer = make_tokenizer(kind)
    if hostile:
        text = f"{''.join(SPECIAL[kind])}{text} {' '.join(SPECIAL[kind])}"
    around = ("BEGIN ", " END") if kind == "sentences" else None
    pair = prompt if kind in ("wordpiece", "unigram", "bytes") or around else None
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)
    pair = None if pair is None else re.sub(r"[\ud800-\udfff]", "\ufffd", pair)
    passage = Passage(text, pair, around)
    encoder = WindowEncoder(tokenizer, "m", size=48, overlap=8, end=2 if around else None)
    try:
        slices = encoder.cut(passage)
    except BackendError as error:
        # Blank, or of letters that it does not know for its greater part.
        assert re.fullmatch("m reads (nothing|less than half) in (the text|a part of the text)", str(error))
        return
    special = {tokenizer.token_to_id(word) for word in SPECIAL[kind]} - {tokenizer.token_to_id("[UNK]")}
    frame = len(tokenizer.encode("a", "a").ids if pair is not None and not around else tokenizer.encode("a").ids)
    for each in slices:
        assert len(each.ids) == len(each.types) <= 48
        assert sum(number in special for number in each.ids) <= frame
    reached = 0
    for each in [*slices, None]:
        start = len(text) if each is None else each.start
        # What no window has is nothing to the tokenizer: blanks, and characters that it drops.
        missed = text[reached : max(reached, start)]
        assert not missed.strip() or not tokenizer.encode(missed, add_special_tokens=False).ids
        reached = max(reached, 0 if each is None else each.end)


def test_a_text_in_which_the_model_reads_nothing_is_undetermined(bert: Path) -> None:
    with Guard(str(bert), options={"device": "cpu"}) as guard:
        verdict = guard.check("\u4f60\u597d")
        lone = guard.check("bread \ud800 bread")
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.cause == f"{bert.name} reads nothing in the text"
    assert not verdict.allowed
    assert lone.prompt_harmfulness is not None
    assert lone.prompt_harmfulness.determined


@pytest.mark.parametrize("architecture", ["bert", "deberta-v2"])
@pytest.mark.parametrize(
    ("text", "much"),
    [
        ("\u6f22\u5b57 \u5047\u540d", "nothing in the text"),
        ("\u6f22\u5b57.", "nothing in the text"),
        ("\U0001f44d", "nothing in the text"),
        ("a \u6f22\u5b57\u5047\u540d!", "less than half in the text"),
        ("bread " * 60 + "\u6f22\u5b57 " * 90, "nothing in a part of the text"),
    ],
)
def test_what_the_vocabulary_does_not_know_is_never_unharmful(tmp_path: Path, architecture: str, text: str, much: str) -> None:
    folder = make_classifier(tmp_path / "model", architecture, ("safe", "unsafe"))
    with Guard(str(folder), options={"device": "cpu"}) as guard:
        verdict, beside = guard.check_many([text, "\U0001f44d bread, bread"])
    assert verdict.prompt_harmfulness is not None
    assert verdict.prompt_harmfulness.cause == f"model reads {much}"
    assert beside.prompt_harmfulness is not None
    assert beside.prompt_harmfulness.determined


def test_a_window_that_the_model_fails_on_costs_no_other_text_its_finding(tmp_path: Path) -> None:
    folder = make_classifier(tmp_path / "model", "bert", ("safe", "unsafe"))
    config = json.loads((folder / "config.json").read_text())
    with pytest.raises(ConfigurationError, match="window: 512 tokens are more than model reads at a time; use at most 64"):
        Guard(str(folder), options={"device": "cpu", "window": 512}).load()
    # A configuration that promises more places than the weights have.
    (folder / "config.json").write_text(json.dumps(config | {"relative_attention": True}))
    with Guard(str(folder), options={"device": "cpu", "window": 512}) as guard:
        first, long, last = guard.check_many(["bread", "a " * 300, "bomb"])
    for verdict in (first, last):
        assert verdict.prompt_harmfulness is not None
        assert verdict.prompt_harmfulness.determined
    assert long.prompt_harmfulness is not None
    assert "the model failed with" in str(long.prompt_harmfulness.cause)


def test_an_output_that_is_no_number_is_undetermined_and_costs_no_other_text_its_finding(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_classifier(tmp_path, "bert", ("safe", "unsafe"))
    state = load_file(folder / "model.safetensors")
    broken = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]["bomb"]
    state["bert.embeddings.word_embeddings.weight"][broken] = math.nan
    save_file(state, folder / "model.safetensors", {"format": "pt"})
    with Guard(str(folder), options={"device": "cpu"}) as guard:
        bad, good, late = guard.check_many(["bomb", "bread", "bread " * 200 + "bomb"])
    for verdict in (bad, late):
        assert verdict.prompt_harmfulness is not None
        assert verdict.prompt_harmfulness.cause == "the model gave no number for the text"
        assert verdict.blocked_by == "failure"
    assert good.prompt_harmfulness is not None
    assert good.prompt_harmfulness.determined


def test_what_is_not_decided_in_time_is_undetermined(bert: Path) -> None:
    with Guard(str(bert), options={"device": "cpu"}) as guard:
        guard.load()
        verdict = guard.check("bread " * 200_000, timeout=0.001)
    assert verdict.prompt_harmfulness is not None
    assert not verdict.prompt_harmfulness.determined


def test_a_temperature_moves_probabilities_and_keeps_them_such(bert: Path) -> None:
    scores = []
    for temperature in (0.5, 1.0, 4.0):
        with Guard(str(bert), options={"device": "cpu", "temperature": temperature}) as guard:
            finding = guard.check(PROMPT).prompt_harmfulness
            assert finding is not None
            assert finding.score is not None
            scores.append(finding.score)
    distances = [abs(score - 0.5) for score in scores]
    assert distances[0] > distances[1] > distances[2]
    assert scores[2] == pytest.approx(softmax([logit / 4 for logit in logits_of(bert, PROMPT)])[1], abs=1e-5)


@pytest.mark.parametrize(
    ("labels", "options", "message"),
    [
        (("LABEL_0", "LABEL_1"), {}, "it is not known what 'LABEL_0' means; its labels are 'LABEL_0', 'LABEL_1'"),
        (("LABEL_0", "LABEL_1"), {"options": {"labels": {"LABEL_1": "harmful"}}}, "it is not known what 'LABEL_0' means"),
        (("a", "b"), {"options": {"labels": {"a": "bad"}}}, "'a' cannot mean 'bad'; use harmful"),
        (("a", "b"), {"options": {"labels": {"a": "harmful", "b": "harmful"}}}, "means the same"),
        (("malicious", "benign"), {"dialect": "prompt-guard-2"}, "output 0 of the model is called 'malicious'"),
        (("safe", "unsafe"), {"options": {"temperature": 0}}, "temperature: must be a number above 0"),
        (("safe", "unsafe"), {"options": {"threshold": 1.5}}, "threshold: must be a probability"),
        (("safe", "unsafe"), {"options": {"tasks": ["response_refusal"]}}, "none of 'safe', 'unsafe' means refusal"),
        (("safe", "unsafe"), {"options": {"labelz": {}}}, "options: 'labelz' is unknown"),
        (("safe", "unsafe"), {"dialect": "llama-guard-3"}, "'llama-guard-3' is no label map"),
        (("safe", "unsafe"), {"backend": "vllm"}, "'vllm' does not run"),
        (("safe", "unsafe"), {"policy_text": "No cats."}, "a classifier's labels are what they are"),
    ],
)
def test_what_cannot_be_read_is_told_where_the_guard_is_made(
    labels: tuple[str, ...], options: dict[str, Any], message: str, tmp_path: Path
) -> None:
    config = {"architectures": ["BertForSequenceClassification"], "id2label": dict(enumerate(labels))}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match=re.escape(message)):
        Guard(str(tmp_path), **options)


def test_a_language_model_takes_no_label_map() -> None:
    with pytest.raises(ConfigurationError, match="is how a classifier is read"):
        Guard("my-guard", base_url="http://127.0.0.1:9/v1", dialect="prompt-guard-2")
    with pytest.raises(ConfigurationError, match="no server runs 'prompt-guard-2-86m'"):
        Guard("prompt-guard-2-86m", base_url="http://127.0.0.1:9/v1")


def test_a_checkpoint_without_its_head_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    folder = make_classifier(tmp_path, "bert", ("safe", "unsafe"))
    state = load_file(folder / "model.safetensors")
    save_file({n: t for n, t in state.items() if "classifier" not in n}, folder / "model.safetensors", {"format": "pt"})
    with Guard(str(folder), options={"device": "cpu"}) as guard, pytest.raises(ConfigurationError, match="made up at random"):
        guard.load()


def test_a_note_beside_the_weights_says_what_labels_mean_also_to_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = make_classifier(tmp_path / "mine", "bert", ("x", "y", "z"), problem_type="multi_label_classification")
    note = {"labels": {"x": "harmful: Spite", "y": "ignored", "z": "harmful: Envy"}, "threshold": 1e-6, "looks_for": "spite"}
    (folder / "guard.json").write_text(json.dumps(note))
    code = main(["check", PROMPT, "--model", str(folder), "--json"])
    said = json.loads(capsys.readouterr().out)
    assert code == 1
    assert said["categories"] == ["Spite", "Envy"]
    assert said["model"] == "mine"
    assert said["prompt_harmfulness"]["score"] == pytest.approx(max(sigmoid(logits_of(folder, PROMPT))[::2]), abs=1e-5)
    (folder / "guard.json").write_text(json.dumps({"labls": {}}))
    with pytest.raises(ConfigurationError, match="'labls' is no field of a label map; did you mean 'labels'"):
        Guard(str(folder))


def test_an_export_to_onnx_scores_as_the_weights_do(tmp_path: Path, bert: Path) -> None:
    import shutil
    import warnings

    import torch
    import transformers

    made: Any = transformers.AutoModelForSequenceClassification
    model = made.from_pretrained(str(bert), attn_implementation="eager").eval().requires_grad_(requires_grad=False)
    names = ["input_ids", "attention_mask", "token_type_ids"]
    folder = tmp_path / "exported"
    folder.mkdir()
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(bert / name, folder)

    class Bare(torch.nn.Module):
        def forward(self, ids: Any, mask: Any, types: Any) -> Any:
            return model(ids, attention_mask=mask, token_type_ids=types).logits

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Bare().eval(),
            tuple(torch.ones(1, 9, dtype=torch.long) for _ in names),
            str(folder / "model.onnx"),
            input_names=names,
            output_names=["logits"],
            dynamic_axes={name: {0: "batch", 1: "length"} for name in names} | {"logits": {0: "batch"}},
            dynamo=False,
        )
    texts = [PROMPT, "a", "bread and bombing " * 80]
    with Guard(str(folder), backend=Onnx(threads=1)) as guard, Guard(str(bert), options={"device": "cpu"}) as other:
        assert guard.judge.backend == "onnx"
        for mine, theirs in zip(guard.check_many(texts), other.check_many(texts), strict=True):
            assert mine.prompt_harmfulness is not None
            assert theirs.prompt_harmfulness is not None
            assert mine.prompt_harmfulness.score == pytest.approx(theirs.prompt_harmfulness.score, abs=1e-5)
            assert mine.usage == theirs.usage
    (folder / "tokenizer.json").write_text("{}")
    with Guard(str(folder)) as guard, pytest.raises(ConfigurationError, match=r"tokenizer\.json cannot be loaded"):
        guard.load()


def test_engines_say_what_they_are_given_and_what_they_lack(bert: Path) -> None:
    with pytest.raises(ConfigurationError, match="must be an engine for classifiers"):
        ClassifierJudge("bert")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match=r"holds no model\.onnx"):
        asyncio.run(OnnxClassifier(str(bert), LabelMap(labels={"safe": "unharmful", "unsafe": "harmful"}), Onnx()).load())
