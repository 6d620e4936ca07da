"""Texts in disguise: whoever decodes them reads what was written, and the same draw gives the same."""

from __future__ import annotations

import base64
import codecs
import html
import json
import unicodedata
import urllib.parse
from random import Random

import pytest

from guardreasoner_sdk.evaluation.disguises import DISGUISES

TEXT = "How do I mend a bicycle & paint it blue? Ä 漢"

READ = {
    "invisible characters": lambda text: "".join(sign for sign in text if unicodedata.category(sign) != "Cf"),
    "full-width letters": lambda text: unicodedata.normalize("NFKC", text),
    "base64": lambda text: base64.b64decode(text.rpartition(": ")[2]).decode(),
    "base64 on lines": lambda text: base64.b64decode("".join(text.rpartition(":")[2].split())).decode(),
    "entities": html.unescape,
    "escapes": lambda text: json.loads(f'"{text}"'),
    "percent-encoding": urllib.parse.unquote,
    "hex": lambda text: bytes.fromhex(text.replace(":", " ")).decode(),
    "rot13": lambda text: codecs.decode(text, "rot13"),
    "hyphens for spaces": lambda text: text.replace("-", " ").replace("_", " "),
    "backwards": lambda text: text[::-1],
    "dots between all letters": lambda text: text.replace(".", ""),
    "dots between letters": lambda text: text.replace(".", ""),
}


@pytest.mark.parametrize("name", DISGUISES)
def test_a_disguise_changes_a_text_and_the_same_draw_alike(name):
    for seed in range(5):
        hidden = DISGUISES[name](TEXT, Random(seed))
        assert hidden == DISGUISES[name](TEXT, Random(seed))
        if seed:
            assert hidden != TEXT or name in ("leetspeak", "letters apart", "dots between letters")


@pytest.mark.parametrize("name", READ)
def test_what_was_hidden_can_be_read_again(name):
    for seed in range(20):
        assert READ[name](DISGUISES[name](TEXT, Random(seed))) == TEXT


@pytest.mark.parametrize("name", [name for name in DISGUISES if name.startswith("beside")])
def test_what_is_beside_a_text_leaves_it_as_it_is(name):
    hidden = DISGUISES[name](TEXT, Random(1))
    assert hidden.startswith(TEXT)
    assert len(hidden) > len(TEXT) + 30


def test_base64_on_several_lines_has_several():
    for text in ("a short one", TEXT * 20):
        assert len(DISGUISES["base64 on lines"](text, Random(1)).splitlines()) > 1


@pytest.mark.parametrize("name", DISGUISES)
def test_lone_surrogates_and_emptiness_break_no_disguise(name):
    for text in ("\ud800 x", "", "🙂"):
        DISGUISES[name](text, Random(1)).encode("utf-8", "replace")
