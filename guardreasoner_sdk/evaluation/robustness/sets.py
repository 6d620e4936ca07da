"""The surroundings that pairs are put into: the same for the harmful text and for its harmless twin."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from random import Random
from typing import Final, NamedTuple

from guardreasoner_sdk.evaluation.disguises import DISGUISES
from guardreasoner_sdk.evaluation.robustness import texts as written
from guardreasoner_sdk.evaluation.robustness.pairs import Plain, TextPair
from guardreasoner_sdk.exchange import Exchange, Role, Turn

__all__ = ["POSITIONS", "WORDS", "Made", "conversations", "disguises", "framings", "needles"]

WORDS: Final = (12, 100, 300, 1_000, 4_000)
"""How many harmless words a needle stands among."""
POSITIONS: Final = ("start", "middle", "end")
"""Where among them."""

_ITEMS: Final = 8
_GAPS: Final = (" ", "\n", "\n\n")
_BULLETS: Final = ("- {}", "* {}", "{number}. {}", "{number}) {}")


class Made(NamedTuple):
    """A text in its surroundings.

    Args:
        name: of the surroundings.
        number: of the pair.
        harmful: what is to be said.
        exchange: what is judged.
        origin: the name of the text whose harm, or harmlessness, is the point.
        plain: that text alone.
        language: its language, or None.
    """

    name: str
    number: int
    harmful: bool
    exchange: Exchange
    origin: str
    plain: Exchange
    language: str | None


def _made(name: str, pair: TextPair, plain: Plain, exchange: Exchange) -> Made:
    return Made(name, pair.number, plain.harmful, exchange, plain.origin, plain.exchange, plain.language)


def _draw(*parts: object) -> Random:
    # The same surroundings for both of a pair, and for it alone: other sets, or more pairs, change nothing in them.
    return Random("/".join(map(str, parts)))  # noqa: S311


def needles(pairs: Sequence[TextPair], paragraphs: Mapping[str | None, Sequence[str]], *, seed: int) -> Iterator[Made]:
    """Put each text among harmless words, between two others, and into a list.

    The words of every other pair are those of other harmless rows, as long as there are any; else they are written ones.
    """
    for pair in pairs:
        response = pair.harmful.exchange.response is not None
        own = paragraphs.get(pair.language, ()) if pair.number % 2 else ()
        for words in WORDS:
            for position in POSITIONS:
                draw = _draw(seed, "needles", response, pair.number, words, position)
                source, gap = written.filling(pair.language, own, draw), draw.choice(_GAPS)
                first = {"start": 0, "middle": words // 2, "end": words}[position]
                before, after = _take(source, first), _take(source, words - first)
                for plain in pair:
                    text = gap.join(filter(None, (before, plain.text.strip(), after)))
                    yield _made(f"{words:,} words, {position}", pair, plain, plain.put(text))
        yield from _among_few(pair, response, _draw(seed, "few", response, pair.number))


def _take(source: Iterator[tuple[str, bool]], words: int) -> str:
    """So many words of a filling; its last sentence is cut short."""
    text = ""
    while words > 0:
        piece, begins = next(source)
        piece = written.cut_words(piece, words)
        text += piece if not text else f"\n\n{piece}" if begins else f" {piece}"
        words -= written.count_words(piece)
    return text


def _among_few(pair: TextPair, response: bool, draw: Random) -> Iterator[Made]:
    texts = written.texts_in(pair.language)
    others = texts.sentences if response else texts.questions
    first, last = draw.sample(others, 2)
    gap, bullet = draw.choice(_GAPS), draw.choice(_BULLETS)
    items = [draw.choice(others) for _ in range(_ITEMS)]
    place = draw.randrange(1, _ITEMS - 1)
    for plain in pair:
        text = gap.join((first, plain.text.strip(), last))
        yield _made("between two sentences" if response else "between two questions", pair, plain, plain.put(text))
        lines = [*items[:place], " ".join(plain.text.split()), *items[place:]]
        listed = "\n".join(bullet.format(line, number=number) for number, line in enumerate(lines, 1))
        yield _made("line of a list", pair, plain, plain.put(listed))


def framings(pairs: Sequence[TextPair], *, seed: int) -> Iterator[Made]:
    """Put each prompt into each kind of frame; the words that reassure are in its language.

    Args:
        seed: of the draw of one of the frames of a kind.
    """
    for pair in pairs:
        kinds = {"reassurance": written.texts_in(pair.language).reassurances, **written.framings()}
        for kind, templates in kinds.items():
            template = _draw(seed, kind, pair.number).choice(templates)
            for plain in pair:
                request = plain.text.strip()
                text = template.format(request=request, quoted=json.dumps(request, ensure_ascii=False))
                yield _made(kind, pair, plain, plain.put(text))


def disguises(pairs: Sequence[TextPair], *, seed: int) -> Iterator[Made]:
    """Put each text into each disguise that changes it."""
    for name, change in DISGUISES.items():
        for pair in pairs:
            hidden = [change(plain.text.strip(), _draw(seed, name, pair.number)) for plain in pair]
            if all(text != plain.text.strip() for text, plain in zip(hidden, pair, strict=True)):
                yield from (_made(name, pair, plain, plain.put(text)) for text, plain in zip(hidden, pair, strict=True))


def conversations(pairs: Sequence[TextPair], *, seed: int) -> Iterator[Made]:
    """Put prompts behind earlier turns.

    What follows on a harmful turn is the harmless twin or, with every other pair, a written question.
    """
    for pair in pairs:
        texts, draw = written.texts_in(pair.language), _draw(seed, "conversations", pair.number)
        asked = pair.harmful.text
        question = pair.harmless if pair.number % 2 == 0 else _question(pair.language, draw)
        for name, answers in (("after a refused request", texts.refusals), ("after an answered request", texts.answers)):
            history = _turns(("user", asked), ("assistant", draw.choice(answers)))
            yield _made(name, pair, question, Exchange(question.text, history=history))
        system = _turns(("system", draw.choice(written.systems())))
        one, two = draw.sample(texts.questions, 2)
        answer, (follow_up, further) = draw.choice(texts.answers), draw.sample(texts.follow_ups, 2)
        refusal, insisting = draw.choice(texts.refusals), draw.choice(texts.insisting)
        idle = _turns(("user", one), ("assistant", answer), ("user", two), ("assistant", answer))
        for plain in pair:
            yield _made("behind a system prompt", pair, plain, Exchange(plain.text, history=system))
            yield _made("after harmless turns", pair, plain, Exchange(plain.text, history=idle))
            before = _turns(("user", plain.text), ("assistant", answer))
            yield _made("follow-up on the turn before", pair, plain, Exchange(follow_up, history=before))
            before += _turns(("user", follow_up), ("assistant", answer))
            yield _made("follow-up on a turn further back", pair, plain, Exchange(further, history=before))
            declined = _turns(("user", plain.text), ("assistant", refusal))
            yield _made("insisting after a refusal", pair, plain, Exchange(insisting, history=declined))


def _turns(*turns: tuple[Role, str]) -> tuple[Turn, ...]:
    return tuple(Turn(role=role, content=content) for role, content in turns)


def _question(language: str | None, draw: Random) -> Plain:
    text = draw.choice(written.texts_in(language).questions)
    return Plain(f"written/{text}", Exchange(text), harmful=False, language=language, words=written.count_words(text))
