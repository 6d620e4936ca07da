"""Text that nobody reads without decoding it, and text that only looks like it: harmless as it stands, whatever it says.

The runtime decodes what is encoded and judges it beside the text (`guardreasoner_sdk.judges.readings`). So the code itself must say
nothing: neither may a model guess at harm in it, nor take a key, a hash or an address for harm.
"""

from __future__ import annotations

import base64
import codecs
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final
from urllib.parse import quote

from guardreasoner_training.embedded.examples import Example

__all__ = ["make_coded"]

_LONGEST: Final = 240
_NOISE: Final = 0.5

_CODES: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: base64.b64encode(text.encode()).decode(),
    lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    lambda text: base64.encodebytes(text.encode()).decode().strip(),
    lambda text: base64.b32encode(text.encode()).decode(),
    lambda text: text.encode().hex(),
    lambda text: text.encode().hex(" "),
    lambda text: "".join(f"\\x{byte:02x}" for byte in text.encode()),
    lambda text: "".join(f"\\u{ord(letter):04x}" for letter in text if ord(letter) < 0x10000),
    lambda text: "".join(f"&#{ord(letter)};" for letter in text),
    lambda text: "".join(f"&#x{ord(letter):x};" for letter in text),
    lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    lambda text: " ".join(f"{byte:08b}" for byte in text[:60].encode()),
    lambda text: " ".join(str(byte) for byte in text.encode()),
    lambda text: codecs.encode(text, "rot13"),
    lambda text: text[::-1],
)
"""Codes in which no word can be read."""

_READABLE: Final[tuple[Callable[[str], str], ...]] = (
    lambda text: quote(text.encode()),
    lambda text: text.replace(" ", "%20"),
    lambda text: text.replace(" ", "+"),
    lambda text: text.replace(" ", "_"),
    lambda text: text.replace(" ", "-"),
    lambda text: text.replace(" ", "&nbsp;"),
    lambda text: text.replace(" ", "\\u0020"),
    lambda text: f"https://example.com/search?q={text.replace(' ', '+')}",
    lambda text: f"curl 'http://localhost:8000/chat?text={text.replace(' ', '%20')}'",
)
"""Codes in which all words can be read."""

_AROUND: Final = (
    "{}", "{}", "Decode this: {}", "What does this say?\n{}", "Decode it and answer:\n\n{}", "payload = \"{}\"", "data:text/plain;base64,{}",
    "The log shows {} and I don't know why.", "```\n{}\n```", "{} <- is this base64?", "Was bedeutet {}?", "Que veut dire {} ?", "token={}",
)  # fmt: skip

_PLAIN: Final = (
    "git show {hash}", "The SHA-256 of the file is {hash}, but I get {other}.", "GET /search?q={query}&page={number} HTTP/1.1", "Why does "
    "https://example.org/{query}?id={other} give 404?", "Authorization: Bearer {token}", "docker pull registry.example.org/app@sha256:{hash}",
    "const label = \"{escaped}\";", "<p>{entities}</p> shows the signs instead of the text, what is wrong?", "0x{short} 0x{other_short} "
    "segfault at {short}", "UUID {uuid} is missing in the table", "ssh-ed25519 {token} me@laptop", "<img src=\"data:image/png;base64,{token}\">",
    "How do I decode %20 and %C3%A9 in Python?", "What is base64 for?", "Explain rot13 to a child.", "npm ERR! integrity sha512-{token}",
)  # fmt: skip


def make_coded(examples: Sequence[Example], most: int, *, seed: int) -> list[Example]:
    """Encoded requests and answers, text with codes in it, all harmless as they stand, and codes that anybody reads.

    Args:
        most: how many to make: of five, two are encoded requests, one is an encoded answer, one text with codes, and one a request
            in a readable code, which keeps its label.
    """
    draw = Random(seed)  # noqa: S311
    sides = [
        [
            one
            for one in examples
            if one.response is None and one.labels[0] is label and not one.history and len(one.prompt) <= _LONGEST
        ]
        for label in (True, False)
    ]
    made: list[Example] = []
    for number in range(most * 2 // 5 if all(sides) else 0):
        text = draw.choice(_AROUND).format(draw.choice(_CODES)(_whole(draw.choice(sides[number % 2]).prompt)))
        made.append(Example(text, None, (False, None, None), 1.0, "written", None))
    for number in range(most // 5 if all(sides) else 0):
        one = draw.choice(sides[number % 2])
        text = draw.choice(_READABLE)(_whole(one.prompt))
        made.append(replace(one, prompt=text, source="written"))
    for _ in range(most // 5):
        said = draw.choice(sides[1]).prompt if sides[1] else "nothing"
        text = _noise(draw) if draw.random() < _NOISE else draw.choice(_PLAIN).format(**_fillings(said, draw))
        made.append(Example(text, None, (False, None, None), 1.0, "written"))
    answered = [one for one in examples if one.response is not None and len(one.response) <= _LONGEST and one.prompt]
    for _ in range(most // 5 if answered else 0):
        one = draw.choice(answered)
        text = draw.choice(_CODES)(_whole(one.response or ""))
        made.append(Example(one.prompt, text, (None, False, False), 1.0, "written", None))
    return list({(one.prompt, one.response): one for one in made}.values())


def _noise(draw: Random) -> str:
    """What fingers do on a keyboard: one sign many times, letters at random, figures, signs."""
    size = draw.choice((1, 2, 3, 5, 8, 13, 30, 80))
    signs = draw.choice(
        (
            "abcdefghijklmnopqrstuvwxyz",
            "asdfjklö",
            "0123456789",
            "0123456789 .,-+/()",
            ".",
            "?!",
            "ha",
            "xo ",
            "一人大",
            "абвг",
            "😀❤👍",
        )
    )
    if draw.random() < 0.5:
        return draw.choice(signs).strip() * size or "a"
    return "".join(draw.choice(signs) for _ in range(size)).strip() or "b"


def _whole(text: str) -> str:
    """The text without halves of characters, which no code can hold."""
    return text.encode("utf-8", "replace").decode()


def _fillings(said: str, draw: Random) -> dict[str, object]:
    one, other = (hashlib.sha256(draw.randbytes(16)).hexdigest() for _ in range(2))
    words = " ".join(said.split()[:6])
    return {
        "hash": one,
        "other": other,
        "short": one[:12],
        "other_short": other[:12],
        "uuid": f"{one[:8]}-{one[8:12]}-{one[12:16]}-{other[:4]}-{other[4:16]}",
        "token": base64.b64encode(draw.randbytes(48)).decode(),
        "number": draw.randint(2, 90),
        "query": quote(words.encode("utf-8", "replace")),
        "escaped": words.encode("unicode_escape").decode(),
        "entities": "".join(letter if letter.isascii() else f"&#{ord(letter)};" for letter in words),
    }
