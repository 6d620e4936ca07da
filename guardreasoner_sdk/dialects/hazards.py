"""The hazard categories that families name, as their cards and prompts list them.

Llama Guard 3 and 4 share the MLCommons taxonomy (arXiv:2503.05731) and one more (``Llama-Guard3/8B/MODEL_CARD.md`` and
``Llama-Guard4/12B/MODEL_CARD.md`` of meta-llama/PurpleLlama); Llama Guard 3 1B was not trained on the last one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

__all__ = ["HAZARDS", "LLAMA_GUARD_1", "LLAMA_GUARD_2", "MD_JUDGE", "MLCOMMONS", "NVIDIA", "Taxonomy", "hazard"]


@dataclass(frozen=True, slots=True)
class Taxonomy:
    """Categories by code.

    Args:
        names: by code, in order.
        numbered: whether answers give codes, so that a verdict shows them too. Where they give names, the codes differ from
            one version of a family to the next and mean nothing.
        aliases: other names that templates use, by the name here.
    """

    names: Mapping[str, str]
    numbered: bool = True
    aliases: Mapping[str, str] = field(default_factory=dict)

    @property
    def letter(self) -> str:
        """What codes begin with."""
        return next(iter(self.names)).rstrip("0123456789")

    def label(self, code: str) -> str:
        """A category as the verdict names it, ``S1 Violent Crimes``; a code that there is not stays a code.

        Args:
            code: a letter and a number.
        """
        if code not in self.names:
            return code
        return f"{code} {self.names[code]}" if self.numbered else self.names[code]

    def find(self, said: str) -> str | None:
        """The category that an answer means, as the verdict names it; None where there is none.

        Args:
            said: a code, a name, or both.
        """
        word = said.strip(" \t\r.*_`\"'[]")
        code = word.partition(" ")[0].rstrip(":.").upper()
        if code in self.names and self.numbered:
            return self.label(code)
        name = self.aliases.get(word.lower(), word).lower()
        return next((self.label(code) for code, known in self.names.items() if known.lower() == name), None)


HAZARDS: Mapping[str, str] = MappingProxyType(
    {
        "S1": "Violent Crimes",
        "S2": "Non-Violent Crimes",
        "S3": "Sex-Related Crimes",
        "S4": "Child Sexual Exploitation",
        "S5": "Defamation",
        "S6": "Specialized Advice",
        "S7": "Privacy",
        "S8": "Intellectual Property",
        "S9": "Indiscriminate Weapons",
        "S10": "Hate",
        "S11": "Suicide & Self-Harm",
        "S12": "Sexual Content",
        "S13": "Elections",
        "S14": "Code Interpreter Abuse",
    }
)
"""Names by code."""


def _numbered(letter: str, *names: str) -> Mapping[str, str]:
    return MappingProxyType({f"{letter}{number}": name for number, name in enumerate(names, 1)})


# The templates name three of the categories in fewer words than the cards do.
MLCOMMONS = Taxonomy(
    HAZARDS,
    aliases={
        "sex crimes": "Sex-Related Crimes",
        "child exploitation": "Child Sexual Exploitation",
        "self-harm": "Suicide & Self-Harm",
    },
)
LLAMA_GUARD_2 = Taxonomy(
    _numbered(
        "S",
        *("Violent Crimes", "Non-Violent Crimes", "Sex-Related Crimes", "Child Sexual Exploitation", "Specialized Advice"),
        *("Privacy", "Intellectual Property", "Indiscriminate Weapons", "Hate", "Suicide & Self-Harm", "Sexual Content"),
    ),
    aliases=MLCOMMONS.aliases,
)
"""Of ``Llama-Guard2/MODEL_CARD.md`` (meta-llama/PurpleLlama)."""
LLAMA_GUARD_1 = Taxonomy(
    _numbered(
        "O",
        *("Violence and Hate", "Sexual Content", "Criminal Planning", "Guns and Illegal Weapons"),
        *("Regulated or Controlled Substances", "Suicide and Self-Harm"),
    ),
    aliases={"self-harm": "Suicide and Self-Harm"},
)
"""Of the paper (arXiv:2312.06674)."""
MD_JUDGE = Taxonomy(
    _numbered(
        "O",
        *("Representation & Toxicity", "Misinformation Harms", "Socioeconomic Harms", "Information & Safety"),
        *("Malicious Use", "Human Autonomy & Integrity"),
    )
)
"""Of SALAD-Bench (arXiv:2402.05044)."""
NVIDIA = Taxonomy(
    _numbered(
        "S",
        *("Violence", "Sexual", "Criminal Planning/Confessions", "Guns and Illegal Weapons"),
        *("Controlled/Regulated Substances", "Suicide and Self Harm", "Sexual (minor)", "Hate/Identity Hate", "PII/Privacy"),
        *("Harassment", "Threat", "Profanity", "Needs Caution", "Other", "Manipulation", "Fraud/Deception", "Malware"),
        *("High Risk Gov Decision Making", "Political/Misinformation/Conspiracy", "Copyright/Trademark/Plagiarism"),
        *("Unauthorized Advice", "Illegal Activity", "Immoral/Unethical"),
    ),
    numbered=False,
)
"""Of Aegis 2.0 (arXiv:2501.09004) and the models trained on it; their lists number them in different ways."""


def hazard(code: str) -> str:
    """A category of :data:`HAZARDS` as the verdict names it, ``S1 Violent Crimes``; a code that there is not stays a code.

    Args:
        code: ``S`` and a number.
    """
    return MLCOMMONS.label(code)
