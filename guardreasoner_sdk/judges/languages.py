"""What a text is written in, and whether a guard was measured on such text."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import Final

__all__ = ["OTHER", "language_name", "language_note", "script"]

OTHER: Final = "other"
"""The code that stands for all languages that a guard does not tell apart."""

# ISO 639-1, and 639-3 where that has none.
_NAMES: Final = {
    "af": "Afrikaans", "am": "Amharic", "ar": "Arabic", "as": "Assamese", "az": "Azerbaijani", "be": "Belarusian",
    "bg": "Bulgarian", "bn": "Bengali", "bo": "Tibetan", "br": "Breton", "bs": "Bosnian",
    "ca": "Catalan", "ceb": "Cebuano", "cs": "Czech",
    "cy": "Welsh", "da": "Danish", "de": "German", "dv": "Divehi", "el": "Greek", "en": "English", "eo": "Esperanto",
    "es": "Spanish", "et": "Estonian", "eu": "Basque", "fa": "Persian", "fi": "Finnish", "fil": "Filipino", "fr": "French",
    "fy": "Western Frisian", "ga": "Irish", "gd": "Scottish Gaelic", "gl": "Galician", "gu": "Gujarati", "ha": "Hausa",
    "haw": "Hawaiian", "he": "Hebrew", "hi": "Hindi", "hmn": "Hmong", "hr": "Croatian", "ht": "Haitian Creole",
    "hu": "Hungarian", "hy": "Armenian", "id": "Indonesian", "ig": "Igbo", "is": "Icelandic", "it": "Italian",
    "ja": "Japanese", "jv": "Javanese", "ka": "Georgian", "kk": "Kazakh", "km": "Khmer", "kn": "Kannada", "ko": "Korean",
    "ku": "Kurdish", "ky": "Kyrgyz", "la": "Latin", "lb": "Luxembourgish", "lo": "Lao", "lt": "Lithuanian", "lv": "Latvian",
    "mg": "Malagasy", "mi": "Maori", "mk": "Macedonian", "ml": "Malayalam", "mn": "Mongolian", "mr": "Marathi", "ms": "Malay",
    "mt": "Maltese", "my": "Burmese", "nb": "Norwegian", "ne": "Nepali", "nl": "Dutch", "nn": "Norwegian Nynorsk",
    "no": "Norwegian", "ny": "Chichewa", "om": "Oromo", "or": "Odia", "pa": "Punjabi", "pl": "Polish", "ps": "Pashto",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "rw": "Kinyarwanda", "sa": "Sanskrit", "sd": "Sindhi",
    "si": "Sinhala", "sk": "Slovak", "sl": "Slovenian", "sm": "Samoan", "sn": "Shona", "so": "Somali", "sq": "Albanian",
    "sr": "Serbian", "st": "Sesotho", "su": "Sundanese", "sv": "Swedish", "sw": "Swahili", "ta": "Tamil", "te": "Telugu",
    "tg": "Tajik", "th": "Thai", "tk": "Turkmen", "tl": "Tagalog", "tr": "Turkish", "tt": "Tatar", "ug": "Uyghur",
    "uk": "Ukrainian", "ur": "Urdu", "uz": "Uzbek", "vi": "Vietnamese", "xh": "Xhosa", "yi": "Yiddish", "yo": "Yoruba",
    "yue": "Cantonese", "zh": "Chinese", "zu": "Zulu",
}  # fmt: skip
# As Unicode names the letters of a script. All other languages are written in Latin ones.
_SCRIPTS: Final = {
    "ARABIC": "ar fa ku ps sd ug ur", "ARMENIAN": "hy", "BENGALI": "as bn", "CJK": "ja yue zh",
    "CYRILLIC": "be bg kk ky mk mn ru sr tg tt uk", "DEVANAGARI": "hi mr ne sa", "ETHIOPIC": "am", "GEORGIAN": "ka",
    "GREEK": "el", "GUJARATI": "gu", "GURMUKHI": "pa", "HANGUL": "ko", "HEBREW": "he yi", "HIRAGANA": "ja", "KANNADA": "kn",
    "KATAKANA": "ja", "KHMER": "km", "LAO": "lo", "MALAYALAM": "ml", "MYANMAR": "my", "ORIYA": "or", "SINHALA": "si",
    "TAMIL": "ta", "TELUGU": "te", "THAANA": "dv", "THAI": "th", "TIBETAN": "bo",
}  # fmt: skip
_ALSO: Final = {"az": "CYRILLIC", "ku": "LATIN", "sr": "LATIN", "uz": "CYRILLIC"}
_UNPARTED: Final = frozenset({"CJK", "HIRAGANA", "KATAKANA", "KHMER", "LAO", "MYANMAR", "THAI", "TIBETAN"})
"""Scripts that part no words by blanks."""
_LOOKED_AT: Final = 1000
_FEWEST_WORDS: Final = 3
_FEWEST_LETTERS: Final = 12
_SURE: Final = 0.6
_SCRIPT: Final = re.compile(
    r"(.+?) (?:LETTER|SMALL|CAPITAL|SYLLABLE|SYLLABICS|UNIFIED|COMPATIBILITY|IDEOGRAPH|IDEOGRAPHIC|HIEROGLYPH|SIGN|VOWEL|"
    r"CHOSEONG|DIGIT|LIGATURE|RADICAL)\b"
)


def language_name(code: str) -> str:
    """The English name of a language; its code where that is not known.

    Args:
        code: of ISO 639, in small letters.
    """
    return _NAMES.get(code, code)


def script(text: str) -> str | None:
    """The script that most letters of a text belong to, as Unicode names it; None where it has no letters.

    Of a long text, a thousand characters from all over it are looked at.
    """
    return _commonest(_sample(text))


def language_note(text: str, chances: Sequence[float], languages: Sequence[str], measured: Collection[str]) -> str | None:
    """What to say of a text that a guard was never measured on; None where there is nothing to say.

    Of a few words no language is told, and one that is not sure is not named; a script is.

    Args:
        chances: how likely it is written in each of the languages, 0 to 1.
        measured: the codes of those in which the guard was measured.
    """
    sample = _sample(text)
    best = max(range(len(languages)), key=chances.__getitem__, default=None)
    if best is not None and chances[best] >= _SURE and languages[best] not in measured and _enough(sample):
        if languages[best] == OTHER:
            return "written in a language this guard was never measured in"
        return f"written in {language_name(languages[best])}, a language this guard was never measured in"
    if sample.isascii():
        return None
    found = _commonest(sample)
    if found is None or found in _scripts(frozenset(measured)):
        return None
    name = "Chinese" if found == "CJK" else found.title()
    return f"written in the {name} script, which this guard was never measured in"


def _sample(text: str) -> str:
    step = -(-len(text) // _LOOKED_AT) or 1
    # Of a long text whole stretches, so that words can be counted.
    part = text if step == 1 else " ".join(text[at : at + 50] for at in range(0, len(text), 50 * step))
    return part if part.isascii() else unicodedata.normalize("NFKC", part)


def _commonest(sample: str) -> str | None:
    if sample.isascii():
        return "LATIN" if any(map(str.isalpha, sample)) else None
    counts: Counter[str] = Counter()
    for character, count in Counter(sample).items():
        if (found := _script_of(character)) is not None:
            counts[found] += count
    return max(counts, key=lambda name: (counts[name], name), default=None)


@lru_cache(4096)
def _script_of(character: str) -> str | None:
    if unicodedata.category(character) not in ("Lu", "Ll", "Lt", "Lo"):
        return None
    name = unicodedata.name(character, "")
    found = _SCRIPT.match(name)
    return found[1] if found is not None else name.partition(" ")[0] or None


def _enough(sample: str) -> bool:
    """Whether there is enough to tell a language by."""
    words, letters = len(sample.split()), sum(map(str.isalpha, sample))
    return letters >= _FEWEST_LETTERS and (words >= _FEWEST_WORDS or _commonest(sample) in _UNPARTED)


@lru_cache(8)
def _scripts(languages: frozenset[str]) -> frozenset[str]:
    """The scripts that some of the languages are written in."""
    written = {name: frozenset(codes.split()) for name, codes in _SCRIPTS.items()}
    found = {name for name, codes in written.items() if languages & codes}
    found.update(_ALSO[code] for code in languages if code in _ALSO)
    return frozenset(found | {"LATIN"} if languages.difference(*written.values()) else found)
