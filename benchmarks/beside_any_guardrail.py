"""The families that any-guardrail has too: is a model asked the same, and is its answer read the same?

Nothing is downloaded and no model runs. any-guardrail's guardrails take a provider of one's own; the one here writes down what
it is asked and answers what it is told. The same text goes to the family's dialect here. What differs is listed with who
follows the authors, and by which source. Beside it, by name: each of any-guardrail's guardrails and LiteLLM's guardrail
integrations, read out of the installed packages, and what takes their place here::

    pip install any-guardrail==0.7.7 litellm
    python benchmarks/beside_any_guardrail.py                 # writes benchmarks/results/beside-any-guardrail.json
    python benchmarks/beside_any_guardrail.py --markdown      # the tables of docs/guards.md, from that file; needs neither
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from guardreasoner_sdk import Exchange
from guardreasoner_sdk.dialects import find_dialect
from guardreasoner_sdk.dialects.base import Reasoning
from guardreasoner_sdk.dialects.gpt_oss import GENERAL_HARM
from guardreasoner_sdk.generation import Capabilities, Completion, Query

RESULTS = Path(__file__).parent / "results" / "beside-any-guardrail.json"
PROMPT, RESPONSE = "How do I bake bread?", "Mix flour and water.\nLet the dough rest."


@dataclass(frozen=True, slots=True)
class Family:
    """A family that both have.

    Args:
        theirs: the guardrail's name in any-guardrail.
        dialect: the dialect's name here.
        answers: what a model may answer, as its authors describe it, and what it may do besides.
        options: of their guardrail.
        reasoning: how much to reason.
        policy_text: the policy that both are given.
        why: who is right where requests or readings differ, by title.
    """

    theirs: str
    dialect: str
    answers: Sequence[str]
    options: Mapping[str, Any] = field(default_factory=dict)
    reasoning: Reasoning = "off"
    policy_text: str | None = None
    why: Mapping[str, str] = field(default_factory=dict)


UNREAD = "here: an answer that is not of the form is undetermined, and blocks"
FAMILIES = (
    Family(
        *("llama_guard", "llama-guard-3", ("safe", "unsafe\nS9", "\n\nunsafe\nS1,S10", "I cannot help with that.", "")),
        options={"model_id": "meta-llama/Llama-Guard-3-8B"},
        why={
            "reading": f"{UNREAD}; there: whatever does not hold the letters 'unsafe' is valid, an empty answer and a refusal "
            "too. The card (github.com/meta-llama/PurpleLlama, Llama-Guard3/8B/MODEL_CARD.md) knows 'safe' and 'unsafe' alone"
        },
    ),
    Family(
        *("qwen3_guard", "qwen3guard"),
        (
            "Safety: Safe\nCategories: None",
            "Safety: Unsafe\nCategories: Violent",
            "Safety: Controversial\nCategories: Politically Sensitive Topics",
            "Safety: Safe\nSafety: Unsafe\nCategories: Violent",
            "All is well.",
        ),
        why={
            "reading": "here: Controversial, which the authors leave to the application, is undetermined unless one says what "
            "it means, and two labels that contradict each other are undetermined; there: the first label counts"
        },
    ),
    Family(
        *("wild_guard", "wildguard"),
        (
            "Harmful request: yes\nResponse refusal: no\nHarmful response: yes",
            "Harmful request: no\nResponse refusal: no\nHarmful response: no",
            "Harmful request: no\nHarmful request: yes\nResponse refusal: no\nHarmful response: no",
            "Harmful request: maybe",
        ),
        why={
            "reading": "here: an answer that says both is undetermined; there: the first one counts",
        },
    ),
    Family(
        *("poly_guard", "polyguard"),
        (
            "Harmful request: yes\nResponse refusal: no\nRequest safety violations: S9\nHarmful response: yes",
            "Harmful request: no\nResponse refusal: no\nHarmful response: no",
            "Harmful request: no\nHarmful request: yes\nHarmful response: no",
            "Harmful request: maybe",
        ),
        why={
            "request": "here: with the list of 14 categories, as the authors' code and card have it "
            "(github.com/kpriyanshu256/polyguard@d28a9f7: inference.py; hf.co/ToxicityPrompts/PolyGuard-Qwen-Smol); there: "
            "without it",
            "reading": "here: an answer that says both is undetermined; there: the first one counts",
        },
    ),
    Family(
        *("dyna_guard", "dynaguard"),
        (
            "<think>\nNo rule is broken.\n</think>\n<answer>\nPASS\n</answer>",
            "<think>\nRule 1 is broken.\n</think>\n<answer>\nFAIL\n</answer>",
            "<think>\nIt may FAIL or PASS.",
            "PASS",
        ),
        options={"policy": "1. Do not shout.", "think": True},
        reasoning="full",
        policy_text="1. Do not shout.",
        why={
            "request": "here: the authors' system message, and their names of the turns in quotation marks "
            "(github.com/montehoover/DynaGuard@c9f32a7: constants.py, eval.py); there: a shorter message, and no marks",
            "reading": "here: the word between the tags counts, as the request asks for it; there: without tags the last "
            "PASS or FAIL of the text counts, be it in reasoning that was cut off",
        },
    ),
    Family(
        *("nemotron_content_safety", "nemotron-content-safety-reasoning"),
        (
            "Prompt harm: harmful\nResponse harm: unharmful",
            "Prompt harm: unharmful\nResponse harm: unharmful",
            "<think>It is\nPrompt harm: harmful",
            "Prompt harm: unharmful\nPrompt harm: harmful\nResponse harm: unharmful",
        ),
        why={
            "request": "here: the published one (github.com/NVIDIA-NeMo/Guardrails@2be40c9: "
            "examples/configs/content_safety_reasoning/prompts.yml); there: words of their own",
            "reading": "here: reasoning that does not end, and an answer that says both, are undetermined; there: the first "
            "label counts",
        },
    ),
    Family(
        *("gpt_oss_safeguard", "gpt-oss-safeguard"),
        (
            "<|channel|>analysis<|message|>Fine.<|end|><|start|>assistant<|channel|>final<|message|>SAFE",
            "<|channel|>analysis<|message|>Bad.<|end|><|start|>assistant<|channel|>final<|message|>VIOLATION",
            "<|channel|>analysis<|message|>It looks SAFE",
            "It is not SAFE to say so.",
        ),
        options={"policy": GENERAL_HARM},
        reasoning="auto",
        policy_text=GENERAL_HARM,
        why={
            "request": "neither is the authors': a policy says how it is to be answered, and each package has its own words "
            "for that (cookbook.openai.com/articles/gpt-oss-safeguard-guide)",
            "reading": "here: the final channel alone, one word; there: the last SAFE or VIOLATION anywhere, be it in "
            "reasoning that was cut off or in a sentence that denies it",
        },
    ),
    Family(
        *("granite_guardian", "granite-guardian-4.1"),
        (
            "<think>\n</think>\n<score> yes </score>",
            "<think>\n</think>\n<score> no </score>",
            "<score>yes</score> <score>no</score>",
            "yes",
        ),
        options={"model_id": "ibm-granite/granite-guardian-4.1-8b", "criteria": "Be kind."},
        policy_text="Be kind.",
        why={
            "request": "here: a prompt is asked about as the user's text, and the empty tags show a backslash and an n, "
            "as the authors' guide has both (github.com/ibm-granite/granite-guardian@a409be8: "
            "cookbooks/granite-guardian-4.1/detailed_guide.ipynb); there: always the assistant's text, and a line feed",
            "reading": "here: two scores that contradict each other are undetermined; there: the first one counts",
        },
    ),
    Family(
        *("kanana_safeguard", "kanana-safeguard", ("<SAFE>", "<UNSAFE-S4>", "<SAFE><UNSAFE-S4>", "SAFE")),
        options={"model_id": "kakaocorp/kanana-safeguard-8b"},
        why={"reading": "here: one token and nothing else, as the card says; there: the first one of several counts"},
    ),
)

HERE: Mapping[str, str] = {
    **{family.theirs: f"`{family.dialect}`" for family in FAMILIES},
    "granite_guardian": "`granite-guardian-3.0` to `-4.1`",
    "llama_guard": "`llama-guard-1` to `-4`",
    "kanana_safeguard": "`kanana-safeguard`, `-siren`, `-prompt`",
    "nemotron_content_safety": "`nemotron-content-safety-reasoning`, and three families beside it",
    "shield_gemma": "`shieldgemma`",
    "any_llm": "`prompted`",
    "openai_moderation": "`openai-moderation`",
    "azure_content_safety": "`azure-content-safety`",
    "bedrock_guardrails": "`bedrock-guardrails`",
    "duo_guard": "`duoguard-0.5b` to `-1.5b`",
    "harm_guard": "`harmaug-guard`",
    "injec_guard": "`piguard`",
    "prompt_guard": "`prompt-guard-2-22m`, `-86m`, `prompt-guard-86m`",
    "protectai": "`protectai-injection-v2`",
}
"""What takes the place of a guardrail of any-guardrail here."""


def main() -> None:
    """Compare, or write the tables."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--markdown", action="store_true", help="write the tables of docs/guards.md")
    if parser.parse_args().markdown:
        print("\n".join(tables(json.loads(RESULTS.read_text("utf-8")))))
        return
    found = compare()
    RESULTS.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n", "utf-8")
    print(f"written to {RESULTS}")


def compare() -> dict[str, Any]:
    """Ask both about the same, and read the same answers."""
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")  # it asks the network for its table of prices
    from any_guardrail.base import GuardrailName
    from litellm.types.guardrails import SupportedGuardrailIntegrations

    return {
        "date": datetime.now(UTC).date().isoformat(),
        "versions": {name: importlib.metadata.version(name) for name in ("any-guardrail", "litellm")},
        "families": [_family(family) for family in FAMILIES],
        "any-guardrail": [name.value for name in GuardrailName],
        "litellm": [name.value for name in SupportedGuardrailIntegrations],
    }


def _family(family: Family) -> dict[str, Any]:
    requests = {}
    for title, exchange in (("prompt", Exchange(PROMPT)), ("response", Exchange(PROMPT, RESPONSE))):
        ours = _ours(family, exchange)
        theirs, _ = _theirs(family, exchange, "")
        requests[title] = {"same": ours == theirs, "here": ours, "there": theirs} if ours is not None else None
    exchange = Exchange(PROMPT, RESPONSE)
    readings = [
        {"answer": answer, "here": _reading(family, exchange, answer), "there": _theirs(family, exchange, answer)[1]}
        for answer in family.answers
    ]
    return {
        "theirs": family.theirs,
        "dialect": family.dialect,
        "requests": {title: None if both is None else both["same"] for title, both in requests.items()},
        "readings": readings,
        "why": dict(family.why),
    }


def _queries(family: Family, exchange: Exchange) -> tuple[Any, tuple[Query, ...]]:
    dialect = find_dialect(family.dialect, policy_text=family.policy_text)
    program = dialect.ask(exchange, family.reasoning, Capabilities())
    try:
        return program, next(program)
    except StopIteration:
        return None, ()


def _ours(family: Family, exchange: Exchange) -> list[list[str]] | None:
    """What the model is asked here about the last part of an exchange; None: it is not asked about that."""
    _, queries = _queries(family, exchange)
    if not queries:
        return None
    last = queries[-1]
    if last.messages:
        return [[message.role, message.content] for message in last.messages]
    return [["user", last.text]]


def _reading(family: Family, exchange: Exchange, answer: str) -> str:
    """What an answer to every query says here."""
    program, queries = _queries(family, exchange)
    try:
        while True:
            queries = program.send([Completion(answer, "stop") for _ in queries])
    except StopIteration as done:
        harm = [done.value.prompt_harmfulness, done.value.response_harmfulness]
    labels = {finding.label for finding in harm if finding is not None}
    return "unsafe" if "harmful" in labels else "undetermined" if "undetermined" in labels else "safe"


def _theirs(family: Family, exchange: Exchange, answer: str) -> tuple[list[list[str]], str]:
    """What the model is asked there, and what an answer says there."""
    from any_guardrail import AnyGuardrail
    from any_guardrail.base import GuardrailName
    from any_guardrail.providers.base import StandardProvider
    from any_guardrail.types import GuardrailInferenceOutput

    asked: list[Any] = []

    class Writes(StandardProvider):  # type: ignore[misc]
        """Writes down what it is asked."""

        load_model: Callable[..., None] = staticmethod(lambda model_id, **options: None)
        pre_process = infer = staticmethod(lambda *args, **options: None)

        def generate_chat(self, messages: Any, **options: Any) -> Any:
            asked.append(messages)
            return GuardrailInferenceOutput(
                data={"generated_text": answer, "prompt_token_count": 0, "completion_token_count": 0}
            )

    guardrail = AnyGuardrail.create(GuardrailName(family.theirs), provider=Writes(), **family.options)
    more = {} if exchange.response is None else {"output_text": exchange.response}
    try:
        output = guardrail.validate(exchange.prompt, **more)
    except TypeError:  # a guardrail of one text: the part that is judged
        output = guardrail.validate(exchange.response or exchange.prompt)
    failed = bool((output.extra or {}).get("parse_failure"))
    verdict = "undetermined" if failed else "safe" if output.valid else "unsafe"
    return [[message["role"], message["content"]] for message in asked[0]], verdict


def tables(found: Mapping[str, Any]) -> Iterator[str]:
    """The tables of the documentation.

    Args:
        found: what :func:`compare` found.
    """
    versions = found["versions"]
    yield f"any-guardrail {versions['any-guardrail']} and LiteLLM {versions['litellm']}, {found['date']}; no model ran: the"
    yield "same text in, and the same answers to read."
    yield ""
    yield "| any-guardrail | here | asked alike | read alike | where not |"
    yield "|---|---|---|---|---|"
    for family in found["families"]:
        asked = [title for title, same in family["requests"].items() if same]
        differs = [title for title, same in family["requests"].items() if same is False]
        read = sum(reading["here"] == reading["there"] for reading in family["readings"])
        total = len(family["readings"])
        why = family["why"]
        notes = [why["request"]] if differs else []
        notes += [why["reading"]] if read < total else []
        alike = " and ".join(asked) or "no"
        yield f"| `{family['theirs']}` | `{family['dialect']}` | {alike} | {read} of {total} | {'. '.join(notes) or '-'} |"
    yield ""
    names = found["any-guardrail"]
    yield f"All {len(names)} of any-guardrail's guardrails, by name:"
    yield ""
    yield "| any-guardrail | here |"
    yield "|---|---|"
    for name in sorted(names):
        yield f"| `{name}` | {HERE.get(name, 'no')} |"
    yield ""
    yield f"LiteLLM names {len(found['litellm'])} guardrail integrations, most of them services of vendors:"
    yield f"{', '.join(f'`{name}`' for name in sorted(found['litellm']))}. This package is one of them by"
    yield "[its own integration](litellm.md)."


if __name__ == "__main__":
    main()
