"""The model card of a trained guard: what it is, how it is used, what it was trained on, and how good it is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["describe_types", "model_card"]

# What decides a training, in the order in which it is asked for.
_DECISIVE: Final = (
    *("learning_rate", "schedule", "warmup_ratio", "epochs", "batch", "accumulation", "devices", "optimizer"),
    *("weight_decay", "clip", "precision", "tuning", "deepspeed", "packing", "beta", "sft_weight", "sft_average"),
)
_STAGES: Final = {"rsft": "R-SFT", "hsdpo": "HS-DPO"}
_MINED: Final = ("k", "temperature", "top_p", "pair", "gamma")


def model_card(name: str, exported: Mapping[str, Any], dialect: str, told: Mapping[str, Any]) -> str:
    """Write the card.

    Args:
        exported: the export's own figures: ``files``, ``weights`` and ``checks``.
        told: what is known of the training; any of it may be missing. ``base``: what it was trained from. ``stages``: how, in
            the order in which it was done. ``recipe``: all settings. ``data``: rows, labels and sources. ``figures``: tables
            in Markdown. ``versions``: of the packages.

    Returns:
        Markdown, with the header that the model hub reads.
    """
    sections = [*_header(name, told), *_use(name, exported), *_made(dialect, told), *_data(told), *_figures(told)]
    return "\n".join([*sections, *_checks(exported), *_limits(), ""])


def _header(name: str, told: Mapping[str, Any]) -> Iterator[str]:
    yield from ("---", "library_name: transformers", "pipeline_tag: text-generation")
    base = told.get("base")
    if isinstance(base, str) and base.count("/") == 1 and not base.startswith(("/", ".", "~")):
        yield f"base_model: {base}"
    yield from ("tags:", "- guardreasoner", "- guardrails", "- safety", "---", "", f"# {name}", "")
    yield "A guard: it says whether a prompt is harmful, whether a response refuses, and whether the response is harmful."
    yield ""


def _use(name: str, exported: Mapping[str, Any]) -> Iterator[str]:
    yield from ("```python", "from guardreasoner_sdk import Guard", "", f'guard = Guard("{name}")  # vllm or transformers')
    files = [file for file in exported["files"] if file.endswith(".gguf")]
    yield from (f'guard = Guard("{name}/{file}")  # llama_cpp' for file in files[:1])
    yield from ('print(guard.check("How do I bake bread?").action)', "```", "")


def _made(dialect: str, told: Mapping[str, Any]) -> Iterator[str]:
    recipe = told.get("recipe") or {}
    yield from ("## How it was made", "")
    if told.get("base"):
        yield f"- trained from: {told['base']}"
    if told.get("stages"):
        yield f"- stages: {', '.join(told['stages'])}"
    yield f"- asked and read as: `{dialect}`"
    for key, words in (("name", "recipe"), ("rendering", "prompt"), ("max_tokens", "longest row in tokens"), ("seed", "seed")):
        if key in recipe:
            yield f"- {words}: {recipe[key]}"
    yield ""
    columns = {title: recipe[key] for key, title in _STAGES.items() if key in recipe and title in told.get("stages", ())}
    if columns:
        yield from ("| | " + " | ".join(columns) + " |", "|---" * (len(columns) + 1) + "|")
        for setting in _DECISIVE:
            values = [column.get(setting, "") for column in columns.values()]
            if any(value not in ("", None) for value in values):
                yield f"| {setting.replace('_', ' ')} | " + " | ".join(_cell(value) for value in values) + " |"
        yield ""
    if "HS-DPO" in columns and "mine" in recipe:
        yield "Hard samples: " + ", ".join(f"{key} {_cell(recipe['mine'].get(key))}" for key in _MINED) + "."
        yield ""
    if versions := told.get("versions"):
        yield "Made with " + ", ".join(f"{package} {version}" for package, version in versions.items()) + "."
        yield ""


def _data(told: Mapping[str, Any]) -> Iterator[str]:
    data = told.get("data")
    if not data:
        return
    yield from ("## Data", "")
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from (f"- {key.replace('_', ' ')}:", *(f"  - {name}: {_cell(inner)}" for name, inner in value.items()))
        else:
            yield f"- {key.replace('_', ' ')}: {_cell(value)}"
    yield ""


def _figures(told: Mapping[str, Any]) -> Iterator[str]:
    if told.get("figures"):
        yield from ("## Figures", "", str(told["figures"]).strip(), "")


def _checks(exported: Mapping[str, Any]) -> Iterator[str]:
    weights = exported.get("weights", {})  # exports of before do not say
    yield from ("## Files", "", "| file | size | weights |", "|---|---|---|")
    for name, size in exported["files"].items():
        if name.endswith(_WEIGHTS):
            yield f"| {name} | {_size(size)} | {describe_types(weights[name]) if name in weights else ''} |"
    yield ""
    checks = exported["checks"]
    if not checks:
        yield from ("The files were not compared with the trained guard.", "")
        return
    yield from ("Greedy answers of each beside those of the trained guard:", "")
    yield from ("| weights | rows | equal to the letter | parted at a tie | equal labels |", "|---|---|---|---|---|")
    for kind, found in checks.items():
        if found is None:
            yield f"| {kind} | not checked | | | |"
        else:
            yield f"| {kind} | {found['rows']} | {found['equal']} | {found['ties']} | {found['labels']} |"
    yield ""


_WEIGHTS: Final = (".safetensors", ".gguf")


def _limits() -> Iterator[str]:
    yield from ("## Limits", "")
    yield "A guard errs in both directions. Measure it on your own traffic before it decides anything, and again when that"
    yield "changes. It was not measured beyond the sets above, and not in languages that they do not hold."


def _cell(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_cell(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_cell(inner) for inner in value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return "" if value is None else str(value).replace("|", "\\|").replace("\n", " ")


def describe_types(weights: Mapping[str, Any]) -> str:
    """What the weights of a GGUF file are kept in: ``6.21 bits a weight: Q5_0 71 %, Q8_0 29 %``.

    Args:
        weights: ``bits``, and the share of each of ``types``.
    """
    shares = (f"{name} {'< 1' if share < 0.01 else f'{100 * share:.0f}'} %" for name, share in weights["types"].items())
    return f"{weights['bits']:.2f} bits a weight: {', '.join(shares)}"


def _size(size: int) -> str:
    return f"{size / 1e6:,.1f} MB"
