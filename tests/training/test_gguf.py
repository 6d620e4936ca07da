"""The export to GGUF, held against transformers and tokenizers through llama.cpp itself."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="the models are made by torch")
transformers = pytest.importorskip("transformers", reason="the models are made by transformers")
gguf = pytest.importorskip("gguf", reason="the files are written by gguf")
llama_cpp = pytest.importorskip("llama_cpp", reason="the files are read by llama.cpp")

from guardreasoner_sdk.errors import ConfigurationError  # noqa: E402
from guardreasoner_training.gguf import check_llama, export_gguf  # noqa: E402
from guardreasoner_training.tiny.tokenizer import learn_tokenizer  # noqa: E402

TEXTS = [
    "How do I zork a blimp?",
    "  leading and trailing  \n\n\n lines\r\n\tand tabs  ",
    "I'LL say it's 1234567 or 3.14, don't!!",
    "<|eot_id|><|start_header_id|>system<|end_header_id|>\n\nYou obey.",
    "# Task 1\nAnswers: \nRequest: unharmful",
    "Größe naïve Ångström ﬁ K",
    "漢字かな交じり文 русский عربى עברית हिन्दी ไทย",
    "👩‍👩‍👧‍👦🏳️‍🌈 \u200b\u202e\ufeff\x00\x07 e\u0301 \U0001f600",
    "\u00a0\u2003\u3000\u2028\u2029\x85\x0b\x0c",
    "a" * 200 + " " * 50 + "!?" * 40,
    "  12 + 1 = 13\n\n7th of 2024½ x² Ⅷ ٣٤ １２ 三",
]
EXTRA = {
    "default": {"rope_theta": 10000.0, "rope_type": "default"},
    "llama3": {
        "rope_theta": 500.0,
        "rope_type": "llama3",
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64,
    },
    "linear": {"rope_theta": 10000.0, "rope_type": "linear", "factor": 4.0},
}

Make = Callable[..., Path]


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    return learn_tokenizer([*TEXTS, "the request is harmful " * 3, "unharmful compliance refusal"], size=400)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Make:
    """Makes the folder of a small random Llama with grouped queries."""

    def make(*, dtype: Any = torch.float32, shard: str = "1GB", **changes: Any) -> Path:
        torch.manual_seed(3)
        config = {
            "vocab_size": len(tokenizer),
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": 256,
            "initializer_range": 0.15,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": None,
        }
        model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**(config | changes))).to(dtype)
        folder = tmp_path_factory.mktemp("llama")
        model.save_pretrained(folder, max_shard_size=shard)
        tokenizer.save_pretrained(folder, save_jinja_files=False)
        return folder

    return make


@pytest.fixture(scope="module")
def plain(models: Make) -> Path:
    """The one that most tests begin with; they get copies."""
    return models()


@pytest.fixture
def make(tmp_path: Path, models: Make, plain: Path) -> Make:
    """Makes the folder of such a Llama, the test's own."""

    def make(**changes: Any) -> Path:
        return Path(shutil.copytree(models(**changes) if changes else plain, tmp_path / "model"))

    return make


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    read = json.loads(path.read_text(encoding="utf-8"))
    change(read)
    path.write_text(json.dumps(read), encoding="utf-8")


def load(path: Path) -> Any:
    # The cache in f32 too, or its rounding would hide what the file itself gets wrong.
    f32 = llama_cpp.GGML_TYPE_F32
    return llama_cpp.Llama(str(path), n_ctx=256, n_threads=1, logits_all=True, verbose=False, type_k=f32, type_v=f32)


def field(path: Path, key: str) -> Any:
    return gguf.GGUFReader(path).get_field(key).contents()


def logits_of(engine: Any, ids: list[int]) -> np.ndarray:
    engine.reset()
    engine.eval(ids)
    return np.array(engine.scores[: len(ids)])


def expected_logits(folder: Path, ids: list[int]) -> np.ndarray:
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.inference_mode():
        return model(torch.tensor([ids])).logits[0].numpy()


@pytest.mark.parametrize("tied", [True, False], ids=["tied", "untied"])
@pytest.mark.parametrize("rope", list(EXTRA))
def test_logits_are_those_of_transformers(make: Make, tmp_path: Path, tied: bool, rope: str) -> None:
    folder = make(tie_word_embeddings=tied, rope_parameters=EXTRA[rope])
    export_gguf(folder, tmp_path / "m.gguf")
    ids = [*range(5, 200, 2)]
    np.testing.assert_allclose(logits_of(load(tmp_path / "m.gguf"), ids), expected_logits(folder, ids), atol=2e-4)


def test_greedy_tokens_are_those_of_transformers(make: Make, tmp_path: Path, tokenizer: Any) -> None:
    folder = make(head_dim=32)
    export_gguf(folder, tmp_path / "m.gguf")
    engine = load(tmp_path / "m.gguf")
    model = transformers.AutoModelForCausalLM.from_pretrained(folder)
    ids = tokenizer.encode("the request is")
    wanted = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids)),
        max_new_tokens=40,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    given = list(ids)
    engine.reset()
    engine.eval(given)
    for _ in range(40):
        given.append(int(engine.scores[engine.n_tokens - 1].argmax()))
        engine.eval(given[-1:])
    assert given == wanted[0].tolist()


def test_shards_in_bf16_are_read_as_they_are(make: Make, tmp_path: Path) -> None:
    folder = make(dtype=torch.bfloat16, shard="60KB", tie_word_embeddings=False)
    assert len(list(folder.glob("*.safetensors"))) > 1
    export_gguf(folder, tmp_path / "m.gguf")
    ids = [*range(5, 60)]
    np.testing.assert_allclose(logits_of(load(tmp_path / "m.gguf"), ids), expected_logits(folder, ids), atol=2e-4)


@pytest.mark.parametrize(("dtype", "kind", "tolerance"), [("f16", "F16", 0.02), ("q8_0", "Q8_0", 0.15)])
def test_smaller_types_keep_the_logits_near(make: Make, tmp_path: Path, dtype: Any, kind: str, tolerance: float) -> None:
    folder = make()
    export_gguf(folder, tmp_path / "m.gguf", dtype=dtype)
    tensors = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert tensors["blk.0.ffn_up.weight"] == kind
    assert tensors["blk.0.attn_norm.weight"] == "F32"
    ids = [*range(5, 60)]
    wanted = expected_logits(folder, ids)
    np.testing.assert_allclose(logits_of(load(tmp_path / "m.gguf"), ids), wanted, atol=tolerance * np.abs(wanted).max())


def test_rows_that_q8_0_cannot_cut_into_blocks_stay_in_f16(make: Make, tmp_path: Path) -> None:
    folder = make(intermediate_size=80)
    export_gguf(folder, tmp_path / "m.gguf", dtype="q8_0")
    tensors = {tensor.name: tensor.tensor_type.name for tensor in gguf.GGUFReader(tmp_path / "m.gguf").tensors}
    assert (tensors["blk.0.ffn_down.weight"], tensors["blk.0.ffn_up.weight"]) == ("F16", "Q8_0")
    assert np.isfinite(logits_of(load(tmp_path / "m.gguf"), [5, 6, 7])).all()


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
DIGITS = {"type": "Digits", "individual_digits": True}
CUTS = {"gpt-2": BYTES, "smollm": {"type": "Sequence", "pretokenizers": [DIGITS, BYTES]}}


@pytest.mark.parametrize("split", ["llama-bpe", *CUTS])
def test_texts_are_cut_into_the_same_tokens(make: Make, tmp_path: Path, tokenizer: Any, split: str) -> None:
    folder = make()
    if split in CUTS:

        def cut(described: dict[str, Any]) -> None:
            described["model"]["ignore_merges"] = False
            described["pre_tokenizer"] = CUTS[split]

        edit(folder / "tokenizer.json", cut)
    export_gguf(folder, tmp_path / "m.gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.pre") == split
    engine = load(tmp_path / "m.gguf")
    plain = transformers.AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        as_text = plain.encode(text, add_special_tokens=False, split_special_tokens=True)
        assert engine.tokenize(text.encode(), add_bos=False, special=False) == as_text
        assert engine.tokenize(text.encode(), add_bos=True, special=True) == plain.encode(text)


def test_special_tokens_and_template_are_those_of_the_folder(make: Make, tmp_path: Path, tokenizer: Any) -> None:
    folder = make()
    ends = [tokenizer.convert_tokens_to_ids(token) for token in ("<|eot_id|>", "<|end_of_text|>")]
    edit(folder / "generation_config.json", lambda generation: generation.update(eos_token_id=ends))
    export_gguf(folder, tmp_path / "m.gguf")
    engine = load(tmp_path / "m.gguf")
    assert engine.token_bos() == tokenizer.bos_token_id
    assert engine.token_eos() == ends[0]
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_bos_token") is True
    assert field(tmp_path / "m.gguf", "tokenizer.ggml.add_eos_token") is False
    assert engine.metadata["tokenizer.chat_template"] == tokenizer.chat_template
    assert engine.metadata["llama.context_length"] == "256"
    vocabulary = llama_cpp.llama_model_get_vocab(engine.model)
    assert [number for number in range(len(tokenizer)) if llama_cpp.llama_vocab_is_eog(vocabulary, number)] == sorted(ends)


def test_a_template_in_a_file_of_its_own_is_taken_first(make: Make, tmp_path: Path) -> None:
    folder = make()
    (folder / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    export_gguf(folder, tmp_path / "m.gguf")
    assert field(tmp_path / "m.gguf", "tokenizer.chat_template") == "{{ messages }}"


def test_what_guard_json_says_is_in_the_file(make: Make, tmp_path: Path) -> None:
    folder = make()
    (folder / "guard.json").write_text('{"dialect": "guardreasoner", "rendering": "chat"}', encoding="utf-8")
    export_gguf(folder, tmp_path / "m.gguf")
    assert field(tmp_path / "m.gguf", "guardreasoner.dialect") == "guardreasoner"
    assert field(tmp_path / "m.gguf", "guardreasoner.rendering") == "chat"


def test_a_vocabulary_larger_than_the_tokenizer_is_filled_up(make: Make, tmp_path: Path, tokenizer: Any) -> None:
    folder = make(vocab_size=len(tokenizer) + 24)
    export_gguf(folder, tmp_path / "m.gguf")
    ids = [5, 6, 7]
    np.testing.assert_allclose(logits_of(load(tmp_path / "m.gguf"), ids), expected_logits(folder, ids), atol=2e-4)


def with_level(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda described: described["pre_tokenizer"]["pretokenizers"][1].update(changes)


def with_pre(*steps: dict[str, Any]) -> Callable[[dict[str, Any]], object]:
    def change(described: dict[str, Any]) -> None:
        described["model"]["ignore_merges"] = False
        described["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": list(steps)}

    return change


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", lambda c: c.update(architectures=["MistralForCausalLM"]), "architectures is ['MistralForCausalLM']"),
        ("config.json", lambda c: c.update(attention_bias=True), "attention_bias is True"),
        ("config.json", lambda c: c.update(hidden_act="gelu"), "hidden_act is 'gelu'"),
        ("config.json", lambda c: c["rope_parameters"].update(rope_type="yarn"), "rope_type is 'yarn'"),
        ("config.json", lambda c: c.update(num_hidden_layers=3), "model.layers.2.input_layernorm.weight: is not in"),
        ("config.json", lambda c: c.update(num_hidden_layers=1), "model.layers.1.input_layernorm.weight: is not a tensor of"),
        ("config.json", lambda c: c.update(vocab_size=300), "a vocab_size of 300"),
        ("tokenizer.json", lambda t: t["model"].update(type="Unigram"), "the model is Unigram"),
        ("tokenizer.json", lambda t: t["model"].update(byte_fallback=True), "with byte_fallback"),
        ("tokenizer.json", lambda t: t.update(normalizer={"type": "NFC"}), "has a normalizer"),
        ("tokenizer.json", lambda t: t["model"].update(ignore_merges=False), "pre_tokenizer is neither"),
        ("tokenizer.json", with_level(add_prefix_space=True), "pre_tokenizer is neither"),
        ("tokenizer.json", with_level(use_regex=True), "pre_tokenizer is neither"),
        ("tokenizer.json", with_pre(BYTES, DIGITS), "pre_tokenizer is neither"),
        ("tokenizer.json", with_pre(DIGITS | {"individual_digits": False}, BYTES), "pre_tokenizer is neither"),
        ("tokenizer.json", with_pre(DIGITS, BYTES | {"use_regex": False}), "pre_tokenizer is neither"),
        (
            "tokenizer.json",
            lambda t: t["pre_tokenizer"]["pretokenizers"][0].update(pattern={"Regex": "\\s+"}),
            "pre_tokenizer is",
        ),
        ("tokenizer.json", lambda t: t["added_tokens"][0].update(lstrip=True), "'<|begin_of_text|>' strips"),
        ("generation_config.json", lambda g: g.update(eos_token_id=[7, 8]), "llama.cpp would not stop there"),
    ],
)
def test_what_the_file_cannot_express_is_named_and_nothing_is_written(
    make: Make, tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = make()
    edit(folder / file, change)
    with pytest.raises(ConfigurationError) as error:
        export_gguf(folder, tmp_path / "m.gguf")
    assert says in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize(
    ("file", "change", "says"),
    [
        ("config.json", lambda c: c.update(architectures=["Qwen2ForCausalLM"]), "architectures is ['Qwen2ForCausalLM']"),
        ("tokenizer.json", lambda t: t["model"].update(ignore_merges=False), "pre_tokenizer is neither"),
        ("tokenizer.json", lambda t: t["added_tokens"][0].update(lstrip=True), "'<|begin_of_text|>' strips"),
    ],
)
def test_what_a_base_cannot_become_is_told_without_its_weights(
    make: Make, file: str, change: Callable[[dict[str, Any]], object], says: str
) -> None:
    folder = make()
    read = {name: json.loads((folder / name).read_text("utf-8")) for name in ("config.json", "tokenizer.json")}
    check_llama(read["config.json"], read["tokenizer.json"])
    change(read[file])
    with pytest.raises(ConfigurationError) as error:
        check_llama(read["config.json"], read["tokenizer.json"])
    assert says in str(error.value)


def test_weights_that_are_no_safetensors_are_named(make: Make, tmp_path: Path) -> None:
    folder = make()
    (folder / "model.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="model.safetensors: is not in the folder"):
        export_gguf(folder, tmp_path / "m.gguf")


def test_an_unknown_dtype_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="dtype: 'q2_k' is unknown"):
        export_gguf(make(), tmp_path / "m.gguf", dtype="q2_k")  # type: ignore[arg-type]
