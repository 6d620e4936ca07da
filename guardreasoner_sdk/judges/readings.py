"""Further readings of a text in which something is encoded: what somebody reads who decodes it, to judge beside the text."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Final

from guardreasoner_sdk.judges.cleaning import without_hidden
from guardreasoner_sdk.judges.decoding import find_encoded
from guardreasoner_sdk.judges.language import Language, Stretch
from guardreasoner_sdk.judges.turning import find_turned, ways
from guardreasoner_sdk.judges.unmasking import no_check

__all__ = ["Readings", "without_codes"]

_AROUND: Final = 200
# Unicode's tag characters, of which the flags of countries within a country are made, too.
_TAGS: Final = re.compile("[\U000e0020-\U000e007e]+")
_TAGGED: Final = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_FLAG: Final = re.compile("\U0001f3f4[\U000e0020-\U000e007e]{1,7}+\U000e007f")
_FEWEST_TAGS: Final = 4
_MOST: Final = 5
# A word of letters and digits that nobody speaks: a digest, a key, base64 of a picture. Of a path or a link the marks break it.
_CODE: Final = re.compile(
    r"(?<!\S)[^\w\s]{0,3}+(?=[A-Za-z+/=_-]*+[0-9])(?=[0-9+/=_-]*+[A-Za-z])[A-Za-z0-9+/=_-]{16,}+[^\w\s]{0,3}+(?!\S)"
)
# Codes drown what stands beside them where they are much of a text; where they are little of a long one they change nothing.
_LEAST_CODE: Final = 1 / 8
_LONGEST_CODED: Final = 20_000


class Readings:
    r"""Decodes what is encoded in a text: ``&#104;ow``, ``\u0068ow``, ``%68ow``, hex, base64, numbers of characters, Morse,
    rot13, text backwards, tag characters.

    A reading holds what was decoded, with a little of what stands around it: a long text with one encoded line does not cost
    its length again. Most texts have none.

    Args:
        vocabulary: words in lower case, frequent ones first; those that begin with ``##`` are not taken.
    """

    def __init__(self, vocabulary: Iterable[str]) -> None:
        self._language = Language(vocabulary)
        self._ways = ways(self._language)

    def __call__(self, text: str, check: Callable[[], None] = no_check) -> Iterator[str]:
        """The further readings of a text, five at most, each different from it and no longer by more than what stands around.

        Args:
            text: any text. Characters that nobody sees hide no code; those of them that stand for letters are read as these.
            check: called every few milliseconds; what it raises ends the work.

        Yields:
            texts to judge beside the plain one.
        """
        plain = without_hidden(text, check)
        return islice(
            dict.fromkeys(reading for reading in self._all(text, plain, check) if reading not in (text, plain)), _MOST
        )

    def _all(self, text: str, plain: str, check: Callable[[], None]) -> Iterator[str]:
        sources = [plain]
        if (shown := _shown(text)) is not None:
            sources.append(without_hidden(shown, check))
            yield sources[-1]
        if stretches := find_encoded(plain, self._language, self._ways, check):
            sources.append(_around(plain, stretches))
            yield sources[-1]
        for source in sources:
            for way in self._ways:
                if stretches := find_turned(source, way, self._language, check):
                    yield _around(source, stretches)


def without_codes(text: str) -> str | None:
    """A text without the digests, keys and the like in it that say nothing, but drown what stands beside them.

    Returns:
        The rest of it; None where there are none, where they are little of the text, or all of it.

    Example:
        >>> without_codes("How do I bake bread? (ref. 0f3a9bb210ce4d5588aa17e0)")
        'How do I bake bread? (ref.  '
    """
    if len(text) > _LONGEST_CODED:
        return None
    rest = _CODE.sub(" ", text)
    return rest if rest.strip() and len(text) - len(rest) >= _LEAST_CODE * len(text) else None


def _shown(text: str) -> str | None:
    """A text with the letters that its tag characters stand for: nobody sees them, and language models read them."""
    if text.isascii():
        return None
    text = _FLAG.sub("", text)
    return text.translate(_TAGGED) if sum(map(len, _TAGS.findall(text))) >= _FEWEST_TAGS else None


def _around(text: str, stretches: Sequence[Stretch]) -> str:
    """What the stretches say, with some of the text around each; what is left out is a line break."""
    pieces: list[str] = []
    place = 0
    for start, end, said in stretches:
        begin = max(place, start - _AROUND)
        if begin > place + _AROUND or (not pieces and begin > 0):
            pieces.append(text[place : place + _AROUND] if pieces else "")
            pieces.append("\n")
        else:
            begin = place
        pieces += (text[begin:start], said)
        place = end
    pieces.append(text[place : place + _AROUND])
    return "".join(pieces)
