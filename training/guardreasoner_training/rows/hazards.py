"""Categories in the words of many data sets, as the hazards of Llama Guard and ThinkGuard."""

from __future__ import annotations

import re
from typing import Final

from guardreasoner_sdk.dialects.hazards import HAZARDS

__all__ = ["hazards_in"]

# As the model card of Llama Guard 3 draws the lines: drugs, weapons and hacking are non-violent crimes, cruelty to animals is a
# violent one. None: the taxonomy has nothing for it. Some of BeaverTails' names have commas of their own.
_BEAVERTAILS: Final[dict[str, str | None]] = {
    "animal_abuse": "S1",
    "child_abuse": "S4",
    "controversial_topics,politics": None,
    "discrimination,stereotype,injustice": "S10",
    "drug_abuse,weapons,banned_substance": "S2",
    "financial_crime,property_crime,theft": "S2",
    "hate_speech,offensive_language": "S10",
    "misinformation_regarding_ethics,laws_and_safety": "S5",
    "non_violent_unethical_behavior": "S2",
    "privacy_violation": "S7",
    "self_harm": "S11",
    "sexually_explicit,adult_content": "S12",
    "terrorism,organized_crime": "S1",
    "violence,aiding_and_abetting,incitement": "S1",
}
_AEGIS: Final[dict[str, str | None]] = {
    "Controlled/Regulated Substances": "S2",
    "Criminal Planning/Confessions": "S2",
    "Guns/Illegal Weapons": "S2",
    "Guns and Illegal Weapons": "S2",
    "Harassment": None,
    "Hate/Identity Hate": "S10",
    "Needs Caution": None,
    "Other": None,
    "PII/Privacy": "S7",
    "Profanity": None,
    "Safe": None,
    "Sexual": "S12",
    "Sexual (minor)": "S4",
    "Suicide and Self Harm": "S11",
    "Threat": "S1",
    "Violence": "S1",
}
_WILDGUARD: Final[dict[str, str | None]] = {
    "benign": None,
    "causing_material_harm_by_disseminating_misinformation": "S5",
    "copyright_violations": "S8",
    "cyberattack": "S2",
    "defamation_encouraging_unethical_or_unsafe_actions": "S5",
    "disseminating_false_or_misleading_information_encouraging_disinformation_campaigns": "S5",
    "fraud_assisting_illegal_activities": "S2",
    "mental_health_over-reliance_crisis": "S6",
    "others": None,
    "private_information_individual": "S7",
    "sensitive_information_organization_government": "S7",
    "sexual_content": "S12",
    "social_stereotypes_and_unfair_discrimination": "S10",
    "toxic_language_hate_speech": "S10",
    "violence_and_physical_harm": "S1",
}
# Of AILuminate (arXiv:2503.05731), whose taxonomy this is; with each, whether the asker is skilled.
_AILUMINATE: Final = {
    "vcr": "S1",
    "ncr": "S2",
    "src": "S3",
    "cse": "S4",
    "dfm": "S5",
    "spc": "S6",
    "prv": "S7",
    "ipv": "S8",
    "iwp": "S9",
    "hte": "S10",
    "ssh": "S11",
    "sxc": "S12",
    "sxc_prn": "S12",
    "spc_ele": "S13",
}

# For other names. The first pattern that is found counts: the narrow ones stand before the wide ones.
_WORDS: Final = tuple(
    (code, re.compile(words))
    for code, words in (
        ("S4", r"\bchild(?:ren)?\b|\bminors?\b|\bcsam\b|\bpa?edo|\bunderage"),
        ("S11", r"suicid|\bself ?harm|eating disorder"),
        ("S9", r"chemical|biological|nuclear|radiological|\bindiscriminate\b|explosive|\bbombs?\b|\bcbrn"),
        ("S14", r"code interpreter|malware|exploit code"),
        ("S13", r"\belections?\b|\belectoral\b|\bvot(?:ing|ers?)\b"),
        ("S3", r"\bsex related|\bsexual (?:assault|violence|abuse|exploit|harass)|\b(?:sex|human) traffick|\brap(?:e|ists?)\b"),
        ("S12", r"\bsexual(?! orientation)|porn|\badult\b|erotic|\bnsfw\b|obscen"),
        ("S10", r"\bhate|\bhatred\b|discriminat|stereotyp|\bracis|\bsexis|\btoxic|offensive|insult|injustice|\bbias"),
        ("S5", r"defam|\blibel|slander|misinform|disinform|false information"),
        ("S7", r"privacy|personal (?:data|information)|\bpii\b|\bprivate\b|surveillance|doxx"),
        ("S8", r"intellectual property|copyright|\bpiracy\b|plagiar"),
        ("S6", r"specialized advice|\bexpert advice|\bmedical\b|legal advice|financial advice|unqualified"),
        ("S1", r"(?<!non)(?<!non )violen|\bterror|\bmurder|\bkill(?:s|ed|ers?|ings?)?\b|\bassault|physical harm"),
        ("S1", r"\b(?:animal|domestic) (?:abuse|cruelty)"),
        ("S2", r"crimes?\b|criminal|illegal|\bfraud|\bscams?\b|\bdrugs?\b|\btheft\b|unethical|substances?\b|\bregulated\b"),
        ("S2", r"\beconomic\b|malicious|weapon|\bfirearms?\b|\bguns?\b|\bcyber|\bhack(?:s|ed|ing|ers?)?\b|\bharm(?:s|ful)?\b"),
        ("S6", r"unauthorized expertise"),
        ("S5", r"虚假有害信息"),
        ("S1", r"恐怖主义|伤害他人|虐待|杀人"),
        ("S2", r"违法犯罪"),
        ("S2", r"privilege escalation|container escape|reflected attack|social engineering|post exploitation"),
    )
)
_WORD: Final = re.compile(r"[^\W_]+")
_COMMA: Final = re.compile("[,;]")
_CODE: Final = re.compile(r"\bS(\d{1,2})\b")


def hazards_in(category: str) -> tuple[str, ...]:
    """The codes of the hazards that a category means: those it names, or what each of its parts is about; none where unclear.

    Args:
        category: ``S2``, ``S1,S9``, ``Violent Crimes``, ``violence,aiding_and_abetting,incitement``.
    """
    named = dict.fromkeys(f"S{number}" for number in _CODE.findall(category))
    codes = [code for code in named if code in HAZARDS]
    return tuple(codes or dict.fromkeys(_meant(_parts(category))))


def _meant(parts: list[str]) -> list[str]:
    """One code for each run of parts that is a known name, and for each other part that a pattern knows."""
    found: list[str | None] = []
    start = 0
    while start < len(parts):
        ends = range(len(parts), start, -1)
        end = next((end for end in ends if ",".join(parts[start:end]) in _NAMES), None)
        if end is not None:
            found.append(_NAMES[",".join(parts[start:end])])
        else:
            found.append(next((code for code, words in _WORDS if words.search(parts[start])), None))
        start = end or start + 1
    return [code for code in found if code is not None]


def _parts(category: str) -> list[str]:
    """What stands between commas, in small letters, with single blanks for all that is neither letter nor digit."""
    return [" ".join(_WORD.findall(part)) for part in _COMMA.split(category.lower())]


_NAMES: Final[dict[str, str | None]] = {
    ",".join(_parts(name)): code
    for name, code in (
        *((name, code) for code, name in HAZARDS.items()),
        *_BEAVERTAILS.items(),
        *_AEGIS.items(),
        *_WILDGUARD.items(),
        *((f"{name} {skill}", code) for name, code in _AILUMINATE.items() for skill in ("skilled", "unskilled")),
    )
}
