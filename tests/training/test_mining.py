"""Sampling against plain references, and mining on real models: a trained tiny guard and random Llamas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from random import Random

import pytest

pytest.importorskip("torch", reason="mining needs the extra 'train'")
pytest.importorskip("transformers", reason="mining needs the extra 'train'")

import torch

from guardreasoner_sdk.errors import ConfigurationError, InputError
from guardreasoner_sdk.exchange import Exchange
from guardreasoner_training.formats import LLAMA3_TEMPLATE, labels_in
from guardreasoner_training.mining import mine, statistics_text
from guardreasoner_training.mining.sampling import Asked, Drawn, Sampler, Sampling, pick
from guardreasoner_training.recipe import EnsembleMember, MineSettings, Recipe
from guardreasoner_training.rows import TrainingRow, read_rows, write_rows
from guardreasoner_training.tiny.tasks import draw
from samples import lines, quiet, random_llama

REQUEST = "prompt_harmfulness"
SAMPLING = Sampling(k=3, temperature=1.0, top_p=0.9, max_new_tokens=12, seed=5)


@pytest.fixture(scope="module")
def llama(tmp_path_factory) -> Path:
    """A random Llama that has learnt nothing, in which four heads share two of keys and values."""
    return random_llama(tmp_path_factory.mktemp("llama"), LLAMA3_TEMPLATE)


@pytest.fixture(scope="module")
def model(llama):
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(llama).eval()


def asked(*lengths: int, prefix: int = 4, seed: int = 0) -> list[Asked]:
    """Prompts that begin alike."""
    random = Random(seed)
    head = [random.randrange(5, 300) for _ in range(prefix)]
    return [
        Asked(f"row-{n}", [*head, *(random.randrange(5, 300) for _ in range(length - prefix))])
        for n, length in enumerate(lengths)
    ]


def sampler(folder, sampling=SAMPLING, *, ends=frozenset(), context=512) -> Sampler:
    return Sampler(folder, sampling, ends, context=context)


def reference(model, one: Asked, sampling: Sampling, ends=frozenset()) -> list[Drawn]:
    """Each sample alone, every token from the whole text before it, without a cache."""
    drawn = []
    for number in range(sampling.k):
        chance, ids, finish = sampling.chance(one.name, number), [], "length"
        while len(ids) < sampling.max_new_tokens:
            with torch.inference_mode():
                logits = model(torch.tensor([[*one.ids, *ids]])).logits[:, -1]
            token = pick(
                logits.float(), torch.tensor([chance.random()], dtype=torch.float64), sampling.temperature, sampling.top_p
            )
            if token.item() in ends:
                finish = "stop"
                break
            ids.append(token.item())
        drawn.append(Drawn(tuple(ids), finish))
    return drawn


@pytest.mark.parametrize("prefix", [0, 1, 4])
def test_samples_are_those_of_the_plain_model_one_by_one(llama, model, prefix):
    rows = asked(5, 9, 6, 21, 5, prefix=prefix)
    got = sampler(llama).sample(rows)
    assert got == [reference(model, one, SAMPLING) for one in rows]
    assert len({sample.ids for samples in got for sample in samples}) == 15


def test_a_long_prompt_is_read_in_parts(llama, model):
    rows = asked(300, 290, prefix=270) + asked(400, prefix=270)
    assert sampler(llama).sample(rows) == [reference(model, one, SAMPLING) for one in rows]


def test_a_sample_does_not_depend_on_what_else_is_in_the_batch(llama):
    rows = asked(5, 9, 30, 12)
    together = dict(zip((one.name for one in rows), sampler(llama).sample(rows), strict=True))
    for one in rows:
        assert sampler(llama).sample([one]) == [together[one.name]]
    backwards = rows[::-1]
    assert sampler(llama).sample(backwards) == [together[one.name] for one in backwards]


def test_samples_end_at_their_own_end_and_rows_that_have_ended_leave_the_batch(llama, model):
    sampling = Sampling(k=2, temperature=1.0, top_p=1.0, max_new_tokens=40, seed=9)
    ends = frozenset(range(0, 400, 11))
    rows = asked(6, 7, 8, 9, 10, 11, 12, 13)
    got = sampler(llama, sampling, ends=ends).sample(rows)
    assert got == [reference(model, one, sampling, ends) for one in rows]
    assert len({len(sample.ids) for samples in got for sample in samples}) > 4
    assert {sample.finish for samples in got for sample in samples} == {"stop"}


def test_a_sample_is_cut_off_where_the_context_ends(llama):
    [samples] = sampler(llama, context=14).sample(asked(9))
    assert [(len(sample.ids), sample.finish) for sample in samples] == [(5, "length")] * 3


def test_seeds_and_numbers_of_samples_give_other_samples(llama):
    one = asked(8)
    first, second = (sampler(llama, Sampling(3, 1.0, 0.9, 12, seed)).sample(one)[0] for seed in (1, 2))
    assert len({sample.ids for sample in first + second}) == 6


@pytest.mark.parametrize("size", [10, 300])
def test_tokens_are_drawn_from_the_nucleus_in_proportion(size):
    # A flat vocabulary of 300 has a nucleus that is larger than what is looked at first.
    logits = torch.arange(size, dtype=torch.float32) * (1.0 if size == 10 else 0.001)
    chances = (torch.arange(20_000, dtype=torch.float64) + 0.5) / 20_000
    tokens = Counter(pick(logits.expand(20_000, size), chances, 1.0, 0.8).tolist())
    probabilities = logits.double().softmax(-1)
    order = probabilities.argsort(descending=True).tolist()
    nucleus, mass = [], 0.0
    while mass < 0.8:
        nucleus.append(order[len(nucleus)])
        mass += probabilities[nucleus[-1]].item()
    assert set(tokens) == set(nucleus)
    for token in nucleus:
        assert tokens[token] / 20_000 == pytest.approx(probabilities[token].item() / mass, abs=2e-4)


def test_a_low_temperature_takes_the_best_token():
    logits = torch.tensor([[1.0, 3.0, 2.9]])
    picked = [pick(logits, torch.tensor([chance], dtype=torch.float64), 0.001, 1.0).item() for chance in (0.0, 0.5, 0.999)]
    assert picked == [1, 1, 1]


def test_a_model_that_looks_back_over_a_window_is_refused(llama, tmp_path):
    from transformers import AutoModelForCausalLM, Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=50, hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
        use_sliding_window=True, sliding_window=8, max_window_layers=1,
    )  # fmt: skip
    Qwen2ForCausalLM(config).save_pretrained(tmp_path)
    assert AutoModelForCausalLM.from_pretrained(tmp_path).config.layer_types == ["full_attention", "sliding_attention"]
    with pytest.raises(ConfigurationError, match=r"^mine\.engine: .*use engine = 'vllm'$"):
        sampler(tmp_path)


def recipe(**mine_settings) -> Recipe:
    settings = {"k": 4, "max_new_tokens": 200, "batch": 8, "engine": "transformers", "ensemble": (), **mine_settings}
    return Recipe(name="test", base="none", rendering="raw", max_tokens=512, mine=MineSettings(**settings))


SOURCES = ("WildGuardTrainR", "AegisTrainR", "ToxicChatTrainR")


def rows_file(folder: Path, count: int = 24) -> Path:
    """Rows of the tiny guard's own task, half of them about verbs that it cannot be sure of."""
    random = Random(4)
    rows = []
    for number in range(count):
        example = draw(random, vague=0.5)
        labels = {task: label in ("harmful", "refusal") for task, label in example.labels.items() if label is not None}
        rows.append(TrainingRow(f"r{number}", example.exchange, labels, output="...", source=SOURCES[number % 3]))
    write_rows(folder / "rows.jsonl", rows)
    return folder / "rows.jsonl"


@pytest.fixture(scope="module")
def mined(tiny_guard, tmp_path_factory):
    """A run of three models, the two further ones being the same tiny guard."""
    folder = tmp_path_factory.mktemp("mined")
    members = (
        EnsembleMember(name="one", sources=("WildGuard*", "Aegis*")),
        EnsembleMember(name="two", sources=("WildGuard*", "ToxicChat*", "Aegis*")),
    )
    rows = rows_file(folder)
    told: list[str] = []
    figures = mine(
        rows,
        dict.fromkeys(("self", "one", "two"), tiny_guard.folder),
        folder / "out",
        recipe(ensemble=members),
        report=told.append,
    )
    return rows, folder / "out", figures, told


def test_every_model_writes_about_the_rows_of_its_sources(mined):
    rows, output, _, _ = mined
    by_source = {row.id: row.source for row in read_rows(rows)}
    asked_about = {
        name: Counter(by_source[line["id"]] for line in lines(output / f"generations-{name}.jsonl"))
        for name in ("self", "one", "two")
    }
    assert asked_about == {
        "self": dict.fromkeys(SOURCES, 8),
        "one": {"AegisTrainR": 8},
        "two": {"AegisTrainR": 8, "ToxicChatTrainR": 8},
    }


def test_every_pair_is_a_right_and_a_wrong_generation_of_its_row(mined):
    rows, output, figures, _ = mined
    known = {row.id: row for row in read_rows(rows)}
    pairs = lines(output / "pairs-self.jsonl")
    assert len(pairs) == figures["sets"]["self"]["pairs"] >= 5
    written = {line["id"]: [one["text"] for one in line["samples"]] for line in lines(output / "generations-self.jsonl")}
    for pair in pairs:
        row = known[pair["id"]]
        assert (row.exchange, row.source) == (Exchange(pair["prompt"], pair["response"]), pair["source"])
        assert {pair["chosen"], pair["rejected"]} <= set(written[row.id])
        said = [labels_in(text, row.exchange, "guardreasoner")[pair["task"]] for text in written[row.id]]
        assert (pair["correct"], pair["wrong"]) == (
            said.count(row.labels[pair["task"]]),
            said.count(not row.labels[pair["task"]]),
        )
        assert labels_in(pair["chosen"], row.exchange, "guardreasoner")[pair["task"]] == row.labels[pair["task"]]
        assert labels_in(pair["rejected"], row.exchange, "guardreasoner")[pair["task"]] != row.labels[pair["task"]]
        assert pair["alpha"] == pytest.approx({3: 0.8, 2: 1.0, 1: 1.2}[pair["correct"]])
    assert {pair["id"] for pair in pairs} <= {name for name, texts in written.items() if len(set(texts)) > 1}
    assert [int(pair["id"][1:]) for pair in pairs] == sorted(int(pair["id"][1:]) for pair in pairs)


def test_the_ensembles_pairs_come_from_the_models_of_each_source(mined):
    _, output, figures, _ = mined
    models = {(pair["source"], pair["model"]) for pair in lines(output / "pairs.jsonl")}
    assert models == {("WildGuardTrainR", "self"), ("AegisTrainR", "one"), ("ToxicChatTrainR", "two")}
    assert figures["sets"]["ensemble"]["by_model"].keys() == {"self", "one", "two"}


def test_the_statistics_count_what_the_journal_holds(mined):
    rows, output, figures, told = mined
    statistics = json.loads((output / "statistics.json").read_text())
    assert {"models": figures["models"], "sets": figures["sets"]} == statistics
    known = {row.id: row for row in read_rows(rows)}
    for name in ("self", "one", "two"):
        right: Counter = Counter()
        for line in lines(output / f"generations-{name}.jsonl"):
            row = known[line["id"]]
            said = [labels_in(one["text"], row.exchange, "guardreasoner") for one in line["samples"]]
            for task, truth in row.labels.items():
                right[row.source, task, sum(labels.get(task) == truth for labels in said)] += 1
        for source, tasks in statistics["models"][name]["sources"].items():
            for task, counts in tasks.items():
                assert counts["right"] == [right[source, task, number] for number in range(5)]
                assert sum(counts["right"]) == counts["rows"]
                assert counts["pairs"] <= counts["hard"] <= counts["rows"]
    assert told[-1] == statistics_text(statistics)
    assert "AegisTrainR      prompt_harmfulness" in told[-1]


def test_a_finished_run_is_not_done_again_and_another_one_does_not_mix_with_it(mined, tiny_guard):
    rows, output, figures, _ = mined
    members = (
        EnsembleMember(name="one", sources=("WildGuard*", "Aegis*")),
        EnsembleMember(name="two", sources=("WildGuard*", "ToxicChat*", "Aegis*")),
    )
    models = dict.fromkeys(("self", "one", "two"), tiny_guard.folder)
    before = {path: path.stat().st_mtime_ns for path in output.iterdir() if path.name != ".lock"}
    assert mine(rows, models, output, recipe(ensemble=members), report=quiet) == figures
    assert {path: path.stat().st_mtime_ns for path in output.iterdir() if path.name != ".lock"} == before
    with pytest.raises(InputError, match=r"mine\.k was 4, is 5"):
        mine(rows, models, output, recipe(ensemble=members, k=5), report=quiet)
    with pytest.raises(InputError, match=r"mine\.strict_chosen was False, is True"):
        mine(rows, models, output, recipe(ensemble=members, strict_chosen=True), report=quiet)


def test_only_so_many_rows_are_written_about_and_they_are_drawn(llama, tmp_path):
    rows = rows_file(tmp_path, 12)
    drawn = {}
    for seed in (1, 2):
        output = tmp_path / f"out{seed}"
        figures = mine(rows, {"self": llama}, output, recipe(max_new_tokens=4, max_rows=5, seed=seed), report=quiet)
        assert figures["rows"] == 5
        drawn[seed] = [line["id"] for line in lines(output / "generations-self.jsonl")]
        assert len(drawn[seed]) == 5
    assert drawn[1] != drawn[2]
    assert set(drawn[1]) < {row.id for row in read_rows(rows)}


def test_a_model_that_writes_no_answer_makes_no_pair_and_says_so(llama, tmp_path):
    told: list[str] = []
    figures = mine(rows_file(tmp_path, 6), {"self": llama}, tmp_path / "out", recipe(max_new_tokens=8), report=told.append)
    assert figures["sets"]["self"]["pairs"] == 0
    assert figures["models"]["self"]["cut_off"] > 0
    assert (tmp_path / "out/pairs.jsonl").read_bytes() == b""
    assert told[-1].startswith("no row is hard for H_self")


def test_a_row_that_is_too_long_is_left_out_and_counted(llama, tmp_path):
    long = TrainingRow("long", Exchange("how do I bake a blimp " * 300), {REQUEST: False}, source="WildGuard")
    short = TrainingRow("short", Exchange("How?"), {REQUEST: False}, source="WildGuard")
    write_rows(tmp_path / "rows.jsonl", [long, short])
    figures = mine(tmp_path / "rows.jsonl", {"self": llama}, tmp_path / "out", recipe(max_new_tokens=4), report=quiet)
    assert (figures["models"]["self"]["rows"], figures["models"]["self"]["too_long"]) == (1, 1)


def test_a_label_that_a_guard_filled_in_is_no_truth(llama, tmp_path):
    labels = {REQUEST: False, "response_refusal": False, "response_harmfulness": False}
    row = TrainingRow("r", Exchange("How?", "So."), labels, source="WildGuard", filled=("response_refusal",))
    none = TrainingRow("n", Exchange("Why?"), {REQUEST: False}, filled=(REQUEST,))
    write_rows(tmp_path / "rows.jsonl", [row, none])
    figures = mine(tmp_path / "rows.jsonl", {"self": llama}, tmp_path / "out", recipe(max_new_tokens=4), report=quiet)
    assert figures["rows"] == 1
    assert figures["models"]["self"]["sources"]["WildGuard"].keys() == {REQUEST, "response_harmfulness"}


def test_what_cannot_be_mined_says_why(llama, tmp_path):
    rows = rows_file(tmp_path, 3)
    with pytest.raises(ConfigurationError, match=r"^models: 'four' is not in mine\.ensemble \(none\); add it"):
        mine(rows, {"self": llama, "four": llama}, tmp_path / "a", recipe(), report=quiet)
    with pytest.raises(ConfigurationError, match=r"^models: 'a/b' cannot be part of a file's name"):
        mine(rows, {"a/b": llama}, tmp_path / "b", recipe(), report=quiet)
    with pytest.raises(ConfigurationError, match="^models: there is none"):
        mine(rows, {}, tmp_path / "c", recipe(), report=quiet)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="tokenizer"):
        mine(rows, {"self": tmp_path / "empty"}, tmp_path / "d", recipe(), report=quiet)
    row = TrainingRow("same", Exchange("How?"), {REQUEST: False})
    write_rows(tmp_path / "twice.jsonl", [row, row])
    with pytest.raises(InputError, match="two rows are named 'same'"):
        mine(tmp_path / "twice.jsonl", {"self": llama}, tmp_path / "e", recipe(), report=quiet)
    (tmp_path / "none.jsonl").write_text('{"prompt": "How?", "prompt_harmful": null}\n')
    with pytest.raises(InputError, match="has no labelled row"):
        mine(tmp_path / "none.jsonl", {"self": llama}, tmp_path / "f", recipe(), report=quiet)


def test_batches_are_small_enough_for_their_cache(llama):
    assert sampler(llama).rows_at_a_time(100, 256) == 256
    one = Sampler(llama, SAMPLING, frozenset(), context=512, slots=1000)
    assert one.rows_at_a_time(64, 256) == 10
    assert one.rows_at_a_time(5000, 256) == 1


BY_VLLM = """
import sys
from pathlib import Path
from guardreasoner_training.mining import mine
from guardreasoner_training.recipe import MineSettings, Recipe

if __name__ == "__main__":
    rows, model, output = map(Path, sys.argv[1:])
    settings = MineSettings(k=3, max_new_tokens=200, batch=4, engine="vllm", ensemble=())
    recipe = Recipe(name="test", base="none", rendering="raw", max_tokens=512, mine=settings)
    mine(rows, {"self": model}, output, recipe, report=lambda _: None)
"""


def test_vllm_writes_what_the_guard_has_learnt(tiny_guard, tmp_path):
    pytest.importorskip("vllm", reason="vLLM is not installed (pip install 'guardreasoner-sdk[vllm]')")
    rows = rows_file(tmp_path, 6)
    (tmp_path / "by_vllm.py").write_text(BY_VLLM)
    output = tmp_path / "out"
    environment = {"HF_HUB_OFFLINE": "1", "VLLM_CPU_KVCACHE_SPACE": "1", "TORCH_COMPILE_DISABLE": "1"}
    done = subprocess.run(
        [sys.executable, str(tmp_path / "by_vllm.py"), str(rows), str(tiny_guard.folder), str(output)],
        env={**os.environ, **environment}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    known = {row.id: row for row in read_rows(rows)}
    written = lines(output / "generations-self.jsonl")
    assert sorted(line["id"] for line in written) == sorted(known)
    for line in written:
        assert len(line["samples"]) == 3
        for sample in line["samples"]:
            assert sample["finish"] == "stop"
            assert "<|" not in sample["text"]
            assert REQUEST in labels_in(sample["text"], known[line["id"]].exchange, "guardreasoner")
