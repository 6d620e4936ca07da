"""What is encoded comes back word for word, in any language; what merely looks encoded gives nothing."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Callable
from hashlib import sha256
from itertools import product
from random import Random
from textwrap import fill
from urllib.parse import quote
from uuid import UUID

import pytest

from costs import assert_in_proportion
from guardreasoner_sdk.judges.readings import Readings, without_codes
from guardreasoner_sdk.judges.unmasking import word_list

TEXTS = (
    "How do I bake a chocolate cake at home?",
    "Wie backe ich zu Hause einen Kuchen mit Äpfeln?",
    "Comment faire un gâteau au chocolat à la maison ?",
    "¿Cómo puedo hacer un pastel de manzana en mi casa?",
    "Jak upiec ciasto z jabłkami w domu bez cukru?",
    "Evde elmalı kek nasıl yapılır?",
    "Как испечь дома пирог с яблоками?",
    "Πώς μπορώ να φτιάξω ένα κέικ στο σπίτι;",
    "如何在家里烤一个苹果蛋糕？",
    "家でケーキを焼くにはどうすればいいですか",
    "집에서 사과 케이크를 굽는 방법은?",
    "كيف أخبز كعكة التفاح في المنزل؟",
    "איך אופים עוגת תפוחים בבית?",
    "घर पर सेब का केक कैसे बनाएं?",
    "ทำเค้กแอปเปิ้ลที่บ้านได้อย่างไร",
)


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def each(form: str) -> Callable[[str], str]:
    return lambda text: "".join(form.format(ord(character)) for character in text)


def each_byte(form: str, between: str = "") -> Callable[[str], str]:
    return lambda text: between.join(form.format(byte) for byte in text.encode())


CODES: dict[str, Callable[[str], str]] = {
    "decimal entities": each("&#{};"),
    "entities without an end": each("&#{}"),
    "hexadecimal entities": each("&#x{:X};"),
    "entities of entities": each("&amp;#{};"),
    "entities with noughts": each("&#{:07};"),
    "\\u": lambda text: json.dumps(text)[1:-1] if not text.isascii() else each("\\u{:04x}")(text),
    "\\\\u": each("\\\\u{:04x}"),
    "\\U": each("\\U{:08x}"),
    "\\u{}": each("\\u{{{:x}}}"),
    "\\x": each_byte("\\x{:02x}"),
    "octal": each_byte("\\{:03o}"),
    "percent": each_byte("%{:02X}"),
    "percent, as in addresses": quote,
    "percent, twice": lambda text: quote(quote(text)),
    "%u": each("%u{:04x}"),
    "hex": each_byte("{:02x}"),
    "hex, blanks": each_byte("{:02X}", " "),
    "hex, colons": each_byte("{:02x}", ":"),
    "hex, 0x": each_byte("0x{:02x}", ", "),
    "hex, one 0x": lambda text: "0x" + text.encode().hex(),
    "hex, lines": lambda text: fill(text.encode().hex(), 16),
    "code points": lambda text: " ".join(f"U+{ord(character):04X}" for character in text),
    "base64": b64,
    "base64, for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64, lines": lambda text: fill(b64(text), 20),
    "base64, quoted lines": lambda text: fill(b64(text), 24).replace("\n", "\n> "),
    "base64, parts": lambda text: " ".join(b64(text)[start : start + 8] for start in range(0, len(b64(text)), 8)),
    "base64, percent": lambda text: quote(b64(text), safe=""),
    "base64 of base64": lambda text: b64(b64(text)),
    "base64 of base64 of base64": lambda text: b64(b64(b64(text))),
    "base64 of hex": lambda text: b64(text.encode().hex()),
    "base64 of entities": lambda text: b64(each("&#{};")(text)),
    "hex of base64": lambda text: b64(text).encode().hex(),
    "binary": each_byte("{:08b}", " "),
    "binary, no blanks": each_byte("{:08b}"),
    "numbers": lambda text: " ".join(str(ord(character)) for character in text),
    "numbers, commas": lambda text: ",".join(str(ord(character)) for character in text),
}


@pytest.fixture(scope="module")
def readings() -> Readings:
    return Readings(word_list())


@pytest.mark.parametrize("name", CODES)
def test_what_is_encoded_comes_back_word_for_word(readings: Readings, name: str) -> None:
    for text, around in product(TEXTS, ("{}", 'Please decode "{}" and answer it.')):
        hidden = CODES[name](text)
        asked = around.format(hidden)
        if hidden != text:
            assert around.format(text) in list(readings(asked)), asked


@pytest.mark.parametrize(
    ("hidden", "plain"),
    [
        ("how to b&#97;ke a c&#x61;ke", "how to bake a cake"),
        ("Caf&eacute; cr&egrave;me, bitte sch&ouml;n", "Café crème, bitte schön"),
        ("how&nbsp;to&nbsp;bake", "how\xa0to\xa0bake"),
        ("q=how+to+bake+a+g%C3%A2teau%3F", "q=how to bake a gâteau?"),
        (codecs.encode("How do I bake a chocolate cake at home?", "rot13"), "How do I bake a chocolate cake at home?"),
        (
            codecs.encode("Wie backe ich zu Hause einen Kuchen ohne Zucker?", "rot13"),
            "Wie backe ich zu Hause einen Kuchen ohne Zucker?",
        ),
        ("Rotate this: ubj gb onxr n pnxr ng ubzr. Thank you.", "Rotate this: how to bake a cake at home. Thank you."),
        (b64(codecs.encode("How do I bake a cake at home?", "rot13")), "How do I bake a cake at home?"),
        ("?emoh ta ekac etalocohc a ekab I od woH", "How do I bake a chocolate cake at home?"),
        ("woH od I ekab a etalocohc ekac ta emoh", "How do I bake a chocolate cake at home"),
        ("?имаколбя с горип амод ьчепси каК", "Как испечь дома пирог с яблоками?"),
        ("?لزنملا يف حافتلا ةكعك زبخأ فيك", "كيف أخبز كعكة التفاح في المنزل؟".replace("؟", "?")),
        (".... --- .-- / - --- / -... .- -.- . / -.-. .- -.- . ...", "how to bake cakes"),
        (base64.b64encode("How do I bake a cake?".encode("utf-16-le")).decode(), "How do I bake a cake?"),
        (f"token={b64('how do I bake a cake at home')}&x=1", "token=how do I bake a cake at home&x=1"),
    ],
)
def test_further_codes_are_read(readings: Readings, hidden: str, plain: str) -> None:
    assert plain in list(readings(hidden))


HARMLESS = (
    "How do I bake a chocolate cake at home?",
    "Schreib mir bitte einen Brief an meinen Vermieter, in dem ich um eine neue Heizung bitte.",
    "const letters = /[\\u00c0-\\u00d6\\u00d8-\\u00f6\\u00f8-\\u02ff\\u0370-\\u037d\\u4e00-\\u9fff]/;",
    "re.compile('[\\u0400-\\u04FF]+|[\\xc0-\\xff]|\\101|\\d{4}')",
    "const fold = {'\\u00e0': 'a', '\\u00e1': 'a', '\\u00e9': 'e', '\\u00fc': 'u'};",
    'print("\\033[31mred\\033[0m", "\\x1b[1m", "\\u2026", "\\ud83d\\ude00", "\\n\\t")',
    "<p>&lt;b&gt; &amp; &quot;quoted&quot; &copy; 2024 &mdash; &hellip;</p><td>&nbsp;</td>",
    "SELECT * FROM t WHERE name LIKE '%add%' OR name LIKE '%face%' AND size > 20%;",
    "printf('%20s %-10d %5.2f%% %x', name, n, share, flags); date +%Y-%m-%d",
    "width: 100%; margin: 0 5% 20px; color: #c0ffee; background: #bada55",
    "commit 9fceb02d0ae598e95dc970b74767f19372d61af8\nindex 83db48f..bf2a1c3 100644\n@@ -12,7 +12,9 @@ def main():",
    "123e4567-e89b-12d3-a456-426614174000 d41d8cd98f00b204e9800998ecf8427e deadbeef cafebabe 0xdeadbeef 0x7fff5fbff8c0",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJzdWIiOiIxMjM0NTY3ODkwIiwiaWF0IjoxNTE2MjM5MDIyfQ.SflKxwRJSMeKKF2QT4fwpMeJf36POk6yJV_adQssw5c",
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==",
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl me@laptop",
    "00000000  7f 45 4c 46 02 01 01 00  00 00 00 00 00 00 00 00  |.ELF............|",
    "MAC 00:1b:44:11:3a:b7, IPv6 2001:0db8:85a3:0000:0000:8a2e:0370:7334, 192.168.0.1, 10:42:07",
    "The years 1996, 1997, 1998, 2001, 2020, 2021, 2022 and the scores 85 90 78 92 88 75 64 99",
    "Zip codes 32003 32008 32009 32011 32024 33101 33102, call 49 30 12 34 56 78 or 555 01 23 45 67",
    "x = [72, 14, 33, 98, 101, 12]; rgb(255, 204, 153); 01 02 03 04 05 06 07 08; 1010 1100 0110",
    "----- .. . .. ----- | --- | --- | --- |\n- [ ] todo\n- - - - - - -\n... and so on ...",
    "function(e,t,n){var r=e.offsetWidth,i=t.getBoundingClientRect();return n.isHidden?r:i.maxV}",
    "from torchvision.transforms.v2 import functional as tvF\nreturn valueA - valueB",
    "if [ -f x ]; then case $y in a) ;; esac; elif true; then echo; fi\nfi\nesac",
    "getElementsByClassName onUpdate isBefore LayerNorm rotate-180 lock_path memory_pool copyState usageMetadata",
    "McDonald iPhone15 eBay R2D2 WiFi 4x4 GmbH PhD pH mRNA HbA1c LaTeX OAuth2 log4j",
    "?utm_source=x&id=9 .env .NET !important ...what? #hashtag",
    "[2024-05-01T12:00:00.123Z] INFO req=4bf92f3577b34da6a3ce929d0e0e4736 span=00f067aa0ba902b7 took 12ms",
    "Zażółć gęślą jaźń. Příliš žluťoučký kůň. Pijamalı hasta yağız şoföre çabucak güvendi.",
    "The cat saw a dog; mom and dad at noon. Was it a rat I saw? Level, radar, stats.",
)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_merely_looks_encoded_gives_nothing(readings: Readings, text: str) -> None:
    assert list(readings(text)) == []


def test_hundreds_of_hashes_keys_and_numbers_give_nothing(readings: Readings) -> None:
    draw = Random(7)
    makes: tuple[Callable[[bytes], str], ...] = (
        bytes.hex,
        lambda data: data.hex(" "),
        lambda data: base64.b64encode(data).decode(),
        lambda data: base64.urlsafe_b64encode(data).decode(),
        lambda data: base64.b32encode(data).decode(),
        lambda data: fill(base64.b64encode(data * 5).decode(), 64),
        lambda data: str(UUID(bytes=data[:16])),
        lambda data: sha256(data).hexdigest(),
        lambda data: " ".join(map(str, data)),
        lambda data: " ".join(str(int.from_bytes(data[place : place + 2])) for place in range(0, len(data), 2)),
        lambda data: " ".join(f"{byte:08b}" for byte in data),
        lambda data: "".join(f"\\x{byte:02x}" for byte in data),
        lambda data: "".join(f"%{byte:02X}" for byte in data),
        lambda data: " ".join(f"0x{int.from_bytes(data[place : place + 4]):08x}" for place in range(0, len(data), 4)),
        lambda data: "".join(f"\\u{int.from_bytes(data[place : place + 2]) % 0xD800:04x}" for place in range(0, len(data), 2)),
    )
    for make in makes:
        for _ in range(40):
            text = f"id={make(draw.randbytes(32))} ok"
            assert list(readings(text)) == [], text


@pytest.mark.parametrize("name", ["hexadecimal", "decimal"])
@pytest.mark.parametrize("blanks", [0, 65_400, 65_480, 65_520])
def test_nothing_before_a_code_hides_it(readings: Readings, name: str, blanks: int) -> None:
    code = TEXTS[0].encode().hex() if name == "hexadecimal" else " ".join(str(ord(character)) for character in TEXTS[0])
    assert any(TEXTS[0] in reading for reading in readings(" " * blanks + code))


def test_a_code_may_be_as_long_as_a_text(readings: Readings) -> None:
    said = f"{TEXTS[0]} " * 1500
    for code in (said.encode().hex(), said.encode().hex(" ")):
        assert any(reading.count(TEXTS[0]) >= 1498 for reading in readings(code))


@pytest.mark.parametrize("form", ["U+{:04X} ", "{} ", "\\u{:04x}", "&#{};", "{:04x} "])
def test_half_a_character_in_a_code_becomes_none(readings: Readings, form: str) -> None:
    said = f"{TEXTS[0]}\ud83d {TEXTS[0]}"
    for reading in readings("".join(form.format(ord(character)) for character in said)):
        assert reading.encode("utf-8")


def test_tag_characters_are_read_and_flags_are_none(readings: Readings) -> None:
    tags = "".join(chr(0xE0000 + ord(character)) for character in TEXTS[0])
    for text in (tags, f"Hello {tags} there", "\u200b".join(tags)):
        assert any(TEXTS[0] in reading for reading in readings(text))
    flag = "\U0001f3f4" + "".join(chr(0xE0000 + ord(character)) for character in "gbeng") + "\U000e007f"
    assert not list(readings(f"We cheered for {flag} and {flag} all day."))


def test_addresses_and_escaped_names_give_what_they_say(readings: Readings) -> None:
    assert list(readings("https://x.org/My%20Documents/annual%20report.pdf")) == [
        "https://x.org/My Documents/annual report.pdf"
    ]
    assert list(readings('{"city": "K\\u00f6ln", "n": 3}')) == ['{"city": "Köln", "n": 3}']
    assert list(readings('rename from "Gr\\303\\274\\303\\237e.txt"')) == ['rename from "Grüße.txt"']


def test_of_a_long_text_only_what_stands_near_is_read_again(readings: Readings) -> None:
    long = "The weather was fine and nobody was in a hurry that day. " * 2000
    found = list(readings(f"{long} {b64('how do I bake a cake at home')} {long} %48%6F%77 are you %74%6F%64%61%79? {long}"))
    assert len(found) == 1
    assert "how do I bake a cake at home" in found[0]
    assert "How are you today?" in found[0]
    assert len(found[0]) < 2000


@pytest.mark.parametrize(
    "unit",
    [
        *(
            "%41",
            "%20a",
            "&#104;",
            "\\u0041",
            "\\x41 ",
            "41 ",
            "4",
            "104,",
            "01101000 ",
            ".- ",
            "A1b ",
            "Ab1\n",
            "U+0041 ",
            "ubj gb znxr ",
        ),
        *("?b aC\n", "a+%41", "\\", "&", "a", " ", "中", "fi esac elif gur ", b64("how do I bake a cake at home? ")),
    ],
)
def test_reading_takes_no_longer_than_the_text_and_gives_no_more(readings: Readings, unit: str) -> None:
    size = 20_000
    assert_in_proportion(lambda length: list(readings(unit * (length // len(unit)))), size)
    text = unit * (size // len(unit))
    assert all(len(reading) <= len(text) for reading in readings(text))


def test_whoever_waits_is_asked_often_and_can_end_it(readings: Readings) -> None:
    class EndedError(Exception):
        pass

    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 50:
            raise EndedError

    for unit in ("plain words, many of them ", "%41", b64("how do I bake a cake at home? "), "104 ", "6f"):
        asked = 0
        with pytest.raises(EndedError):
            list(readings(unit * (600_000 // len(unit)), check))


def test_no_text_breaks_it_and_no_reading_is_the_text_itself(readings: Readings) -> None:
    draw = Random(11)
    alphabets = (
        "&#;xX0123456789abcdef",
        "\\uxU{}0123456789abcdefé\ud83d\ude00",
        "%0123456789ABCDEF+ u",
        "ABCabc012+/=\n -_%>",
        "01 \n,",
        "U+0xabcdef0123456789 ,",
        ".-/ |\u2013",
        " ?!.aBéшКкa中؟\u0301\n",
        "".join(chr(draw.randrange(0x110000)) for _ in range(80)),
    )
    for alphabet in alphabets:
        for _ in range(120):
            text = "".join(draw.choices(alphabet, k=draw.randrange(120)))
            found = list(readings(text))
            assert len(found) <= 5
            assert text not in found


DIGEST = "0f3a9bb210ce4d5588aa17e0c2"
NOTHING = "v8Hms+a0PtNmjUTOV+8ij5PX3UJFDK4sWRnhi2H+5ynziSv4EnDmx0FNNKM8\n5Rk/i/+AoUIZsOs//+2u9jO7Mw/jZAUrvHiaW+RY"


@pytest.mark.parametrize(
    ("text", "rest"),
    [
        (f"How do I bake bread? {DIGEST}", ["How", "do", "I", "bake", "bread?"]),
        (f"How do I bake bread? (ref. {DIGEST}) Thanks!", ["How", "do", "I", "bake", "bread?", "(ref.", "Thanks!"]),
        (f"How do I bake bread?\n\n{NOTHING}\n", ["How", "do", "I", "bake", "bread?"]),
        (f"{NOTHING}\nHow do I bake bread?", ["How", "do", "I", "bake", "bread?"]),
    ],
)
def test_codes_that_say_nothing_are_left_out(text: str, rest: list[str]) -> None:
    left = without_codes(text)
    assert left is not None
    assert left.split() == rest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "How do I bake bread?",
        "Compare well-to-do-neighbourhoods in London/Paris/Amsterdam/Rotterdam",
        "How do I get from Donaudampfschifffahrtsgesellschaft to Llanfairpwllgwyngyll?",
        "Call 0049301234567890 or 2025-11-30T12:00:00 for help",  # no letters, and a colon
        "See https://example.org/a/b/c/d?id=20251130 and C:\\Users\\me\\notes2025.txt",
        NOTHING,  # nothing is left
        f"{'How do I bake bread? ' * 20}{DIGEST}",  # little of the text
        f"How do I bake bread? {NOTHING} " * 200,  # too long to be drowned
    ],
)
def test_words_links_and_numbers_are_no_codes(text: str) -> None:
    assert without_codes(text) is None
