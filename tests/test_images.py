"""Images as values, in exchanges, messages and rows, and what becomes of them where a guard does not see."""

from __future__ import annotations

import base64
import io
import json
import os
import pickle
import struct
import zlib
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from guardreasoner_sdk import CascadeJudge, Exchange, Finding, Guard, Image, InputError, Judgement, Policy, Turn
from guardreasoner_sdk.calibration import Calibration, Isotonic, TaskCalibration
from guardreasoner_sdk.data.check_rows import make_row
from guardreasoner_sdk.data.columns import Columns
from guardreasoner_sdk.data.records import Record
from guardreasoner_sdk.errors import BackendError
from guardreasoner_sdk.exchange import exchange_from, exchange_from_messages
from guardreasoner_sdk.images import MAX_BYTES, MAX_IMAGES, MAX_PIXELS, _gif_frames
from guardreasoner_sdk.testing import ScriptedJudge, judgement

FORMATS = {"PNG": "png", "JPEG": "jpeg", "WEBP": "webp", "GIF": "gif"}


def picture(
    color: str = "red", size: tuple[int, int] = (30, 20), kind: str = "PNG", mode: str = "RGB", **options: Any
) -> bytes:
    file = io.BytesIO()
    PIL.Image.new("RGB", size, color).convert(mode).save(file, kind, **options)
    return file.getvalue()


def moving(kind: str) -> bytes:
    file = io.BytesIO()
    frames = [PIL.Image.new("RGB", (9, 8), color) for color in ("red", "blue")]
    frames[0].save(file, kind, save_all=True, append_images=frames[1:])
    return file.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


RED, BLUE = picture("red"), picture("blue")
IMAGE = Image(RED)


@settings(deadline=None, max_examples=60)
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    kind=st.sampled_from(["PNG", "JPEG", "WEBP", "GIF"]),
    mode=st.sampled_from(["RGB", "L", "RGBA", "P"]),
    options=st.sampled_from([{}, {"progressive": True}, {"lossless": True}, {"quality": 5}, {"comment": b"\xff\xd8 hello"}]),
)
def test_a_header_says_what_pillow_says(size: tuple[int, int], kind: str, mode: str, options: dict[str, Any]) -> None:
    data = picture("teal", size, kind, "RGB" if kind == "JPEG" and mode in ("RGBA", "P") else mode, **options)
    image = Image(data)
    assert (image.format, image.width, image.height) == (FORMATS[kind], *size)
    assert image.decode().size == size
    assert image.decode().mode == "RGB"


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_what_moves_is_refused(kind: str) -> None:
    with pytest.raises(InputError, match=r"^image: moves, and a guard sees one picture; pass the frames"):
        Image(moving(kind))
    with PIL.Image.open(io.BytesIO(moving(kind))) as opened, pytest.raises(InputError, match="moves"):
        Image.of(opened)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "is empty"),
        (b"hello", "is no picture that is known here"),
        (b"<svg xmlns=''/>", "is SVG"),
        (b"BM" + bytes(60), "is BMP"),
        (b"%PDF-1.7", "is PDF"),
        (bytes(4) + b"ftypheic" + bytes(20), "is HEIC, AVIF or a film"),
        (RED[:20], "begins like PNG"),
        (picture(kind="JPEG")[:40], "begins like JPEG"),
        (picture(kind="WEBP")[:22], "begins like WEBP"),
        (b"GIF89a", "begins like GIF"),
        (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", 0, 5, 8, 2, 0, 0, 0)), "has no pixel"),
    ],
)
def test_bytes_that_are_no_picture_say_so_and_what_to_do(data: bytes, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Image(data)
    assert caught.value.field == "image"
    assert caught.value.problem.startswith(words)
    assert caught.value.fix


def test_no_frame_hides_behind_what_readers_pass_over() -> None:
    data = moving("GIF")
    _, second = _gif_frames(data)
    extension = data.rindex(b"\x21\xf9\x04", 0, second)
    for place in (extension, second):
        for junk in (b"\0", bytes(5), b"\5" * 6, b"\x21\x01\0", b"\x21\xff\x0bNETSCAPE2.0\0", b"\x21\xf9\0"):
            hidden = data[:place] + junk + data[place:]
            with pytest.raises(InputError, match="begins like GIF and has no such header; check the file; it is damaged"):
                Image(hidden)
        with pytest.raises(InputError, match="moves"):
            Image(data[:place] + b"\x21\xfe\3abc\0" + data[place:])
    with pytest.raises(InputError, match="damaged"):
        Image(picture(kind="GIF")[:-9])


def test_a_picture_larger_than_its_canvas_is_refused() -> None:
    gif = bytearray(picture(kind="GIF", size=(9, 9)))
    gif[6] = 8
    webp = bytearray(picture(kind="WEBP", size=(90, 90), exif=b"Exif\0\0abcd"))
    assert webp[12:16] == b"VP8X"
    assert Image(bytes(webp)).width == 90
    animated = bytearray(moving("WEBP"))
    animated[20] &= ~2  # says that it does not move
    with pytest.raises(InputError, match="moves"):
        Image(bytes(animated))
    webp[24] = 1
    for data in (gif, webp):
        with pytest.raises(InputError, match="damaged"):
            Image(bytes(data))


@pytest.mark.parametrize("mode", ["I;16", "I", "I;16B"])
def test_sixteen_bits_of_grey_are_scaled_to_eight(mode: str) -> None:
    wide = PIL.Image.new("I;16B" if mode == "I;16B" else "I", (256, 1))
    for place in range(256):
        wide.putpixel((place, 0), place * 257)
    seen = Image.of(wide if wide.mode == mode else wide.convert(mode)).decode()
    assert [seen.getpixel((place, 0)) for place in range(256)] == [(place,) * 3 for place in range(256)]
    file = io.BytesIO()
    PIL.Image.new("I;16", (2, 2)).save(file, "PNG", transparency=7)
    with pytest.raises(BackendError, match="convert it to RGBA"):
        Image(file.getvalue()).decode()


def test_no_mode_of_pillows_loses_what_is_transparent_or_is_guessed() -> None:
    for mode in ("RGBa", "PA", "La", "LA", "RGBA"):
        clear = PIL.Image.new(mode, (2, 2), 0 if mode == "PA" else (0,) * len(PIL.Image.new(mode, (1, 1)).getbands()))
        assert Image.of(clear).decode().getpixel((0, 0)) == (255, 255, 255), mode
    for mode, value in (("F", 0.5), ("LAB", 0), ("I", 70_000), ("I", -1)):
        with pytest.raises(InputError, match="convert it to RGB or RGBA"):
            Image.of(PIL.Image.new(mode, (2, 2), value))
    assert Image.of(PIL.Image.new("CMYK", (1, 1))).decode().getpixel((0, 0)) == (255, 255, 255)


def test_a_bomb_is_refused_by_its_header() -> None:
    width = 60_000
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", width, width, 1, 0, 0, 0, 0))
    data += chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    with pytest.raises(InputError, match=f"has 60,000 x 60,000 pixels, the most is {MAX_PIXELS:,}; scale it down"):
        Image(data)
    with pytest.raises(InputError, match=f"has {MAX_BYTES + 1:,} bytes, the most is"):
        Image(RED + bytes(MAX_BYTES + 1 - len(RED)))
    with pytest.raises(InputError, match=r"^images\[0\]: has .* bytes"):
        Exchange("hi", images=["data:image/png;base64," + "A" * (MAX_BYTES * 2)])
    with pytest.raises(InputError, match="pixels"):
        Image.of(PIL.Image.new("1", (10_000, 6_000)))


def test_damage_behind_the_header_is_told_by_its_kind_alone() -> None:
    with pytest.raises(BackendError, match=r"^an image cannot be decoded \(\w+\); it is damaged$"):
        Image(picture("red", (200, 200), kind="JPEG")[:-400]).decode()


def test_an_image_is_a_value() -> None:
    again = pickle.loads(pickle.dumps(IMAGE))
    assert again == IMAGE
    assert hash(again) == hash(IMAGE)
    assert again.data == RED
    assert Image(BLUE) != IMAGE
    assert repr(IMAGE) == "Image(format='png', width=30, height=20)"
    assert (IMAGE.size, IMAGE.media_type) == (len(RED), "image/png")
    with pytest.raises(AttributeError):
        IMAGE.format = "gif"  # type: ignore[misc]


def test_what_stands_for_an_image(tmp_path: Path) -> None:
    path = tmp_path / "picture.txt"  # what it is, its bytes say
    path.write_bytes(RED)
    for given_ in (RED, bytearray(RED), path, IMAGE, IMAGE.data_url, IMAGE.data_url.replace("image/png", "image/jpeg")):
        assert Image.of(given_) == IMAGE
    assert Image.of(PIL.Image.new("RGBA", (4, 3), (255, 0, 0, 0))).decode().getpixel((0, 0)) == (255, 255, 255)
    assert Image.of(PIL.Image.new("CMYK", (4, 3))).width == 4
    assert Exchange("hi", images=RED).images == (IMAGE,)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("https://example.org/cat.png", "is an address, and nothing is fetched here; fetch it yourself"),
        ("file:///etc/passwd", "is an address"),
        ("/etc/passwd", "is text, and no data URL; pass pathlib.Path(...) for a file"),
        ("data:text/html;base64,aaaa", "is a data URL of something else than an image"),
        ("data:image/png,hello", "is a data URL without Base64"),
        ("data:" + ";a" * 100 + ";base64,AAAA", "is a data URL without Base64"),  # no head is that long
        ("data:image/png;base64" + ";a" * 100, "is a data URL without Base64"),
        ("data:image/png;base64,aa\u0661=", "is not Base64"),
        ("data:image/png;base64,aaa", "is not Base64"),
        (Path("/nowhere/cat.png"), "/nowhere/cat.png cannot be read (No such file or directory)"),
        (7, "must be an image, not int"),
    ],
)
def test_what_stands_for_none(value: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        Exchange("hi", images=[RED, value])
    assert str(caught.value).startswith(f"images[1]: {words}")


def test_a_camera_that_was_turned() -> None:
    file = io.BytesIO()
    exif = PIL.Image.Exif()
    exif[0x0112] = 6
    PIL.Image.new("RGB", (40, 10)).save(file, "JPEG", exif=exif)
    assert Image(file.getvalue()).decode().size == (10, 40)


def test_an_exchange_holds_images_and_no_dump_holds_their_bytes() -> None:
    exchange = Exchange("", images=[RED, BLUE], history=[{"role": "user", "content": "", "images": [BLUE]}])
    assert [image.decode().getpixel((0, 0)) for image in exchange.all_images] == [(0, 0, 255), (255, 0, 0), (0, 0, 255)]
    assert pickle.loads(pickle.dumps(exchange)) == exchange
    text = exchange.model_dump_json()
    assert base64.b64encode(RED).decode()[:40] not in text
    assert json.loads(text)["images"][0] == {
        "format": "png",
        "width": 30,
        "height": 20,
        "size": len(RED),
        "digest": IMAGE.digest,
    }
    assert "images" not in repr(Exchange("hi"))
    assert exchange.without_images() is None
    assert exchange_from({"prompt": "hi", "images": [RED], "note": 1}).images == (IMAGE,)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Exchange(""), "prompt: is empty"),
        (lambda: Exchange("hi", images=[RED] * (MAX_IMAGES + 1)), f"images: has {MAX_IMAGES + 1} images"),
        (lambda: Exchange("hi", images=[RED] * MAX_IMAGES, history=[Turn(role="user", content="", images=(IMAGE,))]), "images: are"),
        (lambda: Exchange("hi", images=[RED], image_places=[3]), "image_places: holds something else"),
        (lambda: Exchange("hi", images=[RED, RED], image_places=[1, 0]), "image_places: holds something else"),
        (lambda: Exchange("hi", images=[RED], image_places=[0, 0]), "image_places: has 2 places for 1 images"),
        (lambda: Exchange("hi", history=[{"role": "tool", "content": "x", "images": [RED]}]), "history[0].images: are those of a turn of the tool"),
        (lambda: Exchange("hi", history=[{"role": "user", "content": " "}]), "history[0].content: has no visible character"),
        (lambda: Exchange("hi", history=[{"role": "user", "content": "", "images": [b"x"]}]), "history[0].images[0]: is no picture"),
        (lambda: Guard(judge=ScriptedJudge({})).check(Exchange("hi"), images=[RED]), "images: is given beside an Exchange"),
    ],
)  # fmt: skip
def test_images_that_cannot_be_in_an_exchange(make: Any, words: str) -> None:
    with pytest.raises(InputError) as caught:
        make()
    assert str(caught.value).startswith(words)


def url(data: bytes) -> str:
    return Image(data).data_url


def encoded(data: bytes) -> str:
    return base64.b64encode(data).decode()


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": url(RED), "detail": "low"}},
        {"type": "input_image", "image_url": url(RED), "detail": "auto"},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": encoded(RED)}},
        {"type": "image", "base64": encoded(RED), "mime_type": "image/png"},
        {"type": "image", "source_type": "base64", "data": encoded(RED), "mime_type": "image/png"},
        {"type": "image", "base64": encoded(RED), "id": "lc_1", "index": 0, "extras": {"detail": "low"}, "file_id": None},
        {"type": "image", "source": {"type": "url", "url": url(RED)}, "cache_control": {"type": "ephemeral"}},
        {"type": "image", "url": url(RED)},
        {"type": "image", "image": RED},
        {"type": "image", "image": IMAGE},
    ],
)
def test_images_in_messages_of_every_api_keep_their_places(part: dict[str, Any]) -> None:
    content = [{"type": "text", "text": "What is"}, part, {"type": "text", "text": "this?"}]
    messages = [
        {"role": "user", "content": [part]},
        {"role": "assistant", "content": "A."},
        {"role": "user", "content": content},
    ]
    exchange = exchange_from_messages(messages, images=True)
    assert (exchange.prompt, exchange.images, exchange.image_places) == ("What is\nthis?", (IMAGE,), (7,))
    assert (exchange.history[0].content, exchange.history[0].images) == ("", (IMAGE,))
    with pytest.raises(InputError, match=r"^messages\[0\].content\[0\]: is not text but"):
        exchange_from_messages(messages)


@pytest.mark.parametrize(
    ("message", "words"),
    [
        ({"role": "user", "content": [{"type": "image_url", "image_url": {"url": "https://x.y/z.png"}}]}, "is an address"),
        ({"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}, "is an image that is not here"),
        ({"role": "user", "content": [{"type": "image", "url": url(RED), "base64": encoded(BLUE)}]}, "holds several images"),
        *(({"role": "user", "content": [part]}, "holds several images") for part in (
            {"type": "image", "source": {"type": "url", "url": "https://x.y/z.png", "data": encoded(RED)}},
            {"type": "image", "source": {"type": "url", "data": encoded(RED)}},
            {"type": "image", "source": {"type": "file", "file_id": "f", "data": encoded(RED)}},
            {"type": "image", "source": {"type": "base64", "data": encoded(RED), "s3": "s3://a/b"}},
            {"type": "input_image", "image_url": url(RED), "file_id": "f"},
            {"type": "image_url", "image_url": {"url": url(RED), "file_id": "f"}},
            {"type": "image", "base64": encoded(RED), "id": "f"},
            {"type": "image", "base64": encoded(RED), "file_id": "f"},
            {"type": "image", "source_type": "id", "id": "f", "data": encoded(RED)},
            {"type": "image", "source_type": "url", "data": encoded(RED)},
            {"type": "image", "source_type": "id", "data": encoded(RED)},
            {"type": "image", "base64": encoded(RED), "extras": {"file_uri": "f"}},
            {"type": "image", "base64": encoded(RED), "what_nobody_knows": 1},
        )),
        ({"role": "user", "content": [{"type": "image", "base64": encoded(b"text")}]}, "is no picture"),
        ({"role": "user", "content": [{"type": "video", "base64": encoded(RED)}]}, "is not text but 'video'"),
        ({"role": "assistant", "content": [{"type": "image_url", "image_url": {"url": url(RED)}}]}, "is not text but 'image_url'"),
        ({"role": "user", "content": [{"type": "tool_result", "content": [{"type": "image", "url": url(RED)}]}]}, "is not text but 'image'"),
    ],
)  # fmt: skip
def test_images_in_messages_that_nobody_can_judge(message: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError) as caught:
        exchange_from_messages([{"role": "user", "content": "hi"}, message], images=True)
    assert caught.value.field.startswith("messages[1].content[0]")
    assert caught.value.problem.startswith(words)


@settings(deadline=None, max_examples=100)
@given(
    st.lists(st.one_of(st.text(max_size=12), st.sampled_from([RED, BLUE, "<image>", "<|image_pad|>"])), min_size=1, max_size=8)
)
def test_no_image_and_no_order_is_lost_in_mixed_content(parts: list[Any]) -> None:
    content = [
        {"type": "text", "text": part} if isinstance(part, str) else {"type": "image_url", "image_url": {"url": url(part)}}
        for part in parts
    ]
    try:
        exchange = exchange_from_messages([{"role": "user", "content": content}], images=True)
    except InputError:
        assert not any(isinstance(part, bytes) for part in parts)
        return
    assert [image.data for image in exchange.images] == [part for part in parts if isinstance(part, bytes)]
    for number, place in enumerate(exchange.image_places):
        at = [place for place, part in enumerate(parts) if isinstance(part, bytes)][number]
        before = "\n".join(part for part in parts[:at] if isinstance(part, str) and part)
        assert exchange.prompt[:place] == Exchange("x" + before).prompt[1:]


def test_a_guard_that_does_not_see_says_so_and_still_finds_harm_in_the_text() -> None:
    judge = ScriptedJudge({"bad": judgement("harmful")}, otherwise=judgement("unharmful", "compliance", "unharmful"))
    guard = Guard(judge=judge, cache=10)
    verdict = guard.check("fine", "yes", images=[RED, BLUE])
    assert not verdict.allowed
    assert {finding.cause for finding in verdict.findings.values()} == {"this guard reads text alone, and did not see 2 images"}
    assert guard.check("bad", images=[RED]).prompt_harmfulness == Finding(label="harmful")
    assert judge.seen == [Exchange("fine", "yes"), Exchange("bad")]
    assert guard.check("", images=[RED]).undetermined
    assert len(judge.seen) == 2  # there is no text to be judged
    assert guard.check("fine").allowed  # a text that it had judged with images is another exchange


def test_neither_a_threshold_nor_a_calibration_makes_an_unseen_image_harmless() -> None:
    found = Judgement(prompt_harmfulness=Finding(label="harmful", score=0.6))
    strict = Policy(min_score=0.9, on_undetermined="allow")
    assert Guard(judge=ScriptedJudge({"bad": found}), policy=strict).check("bad").allowed
    assert not Guard(judge=ScriptedJudge({"bad": found}), policy=strict).check("bad", images=[RED]).allowed
    curve = Isotonic(scores=(0.0, 1.0), values=(0.0, 0.5))
    own = TaskCalibration(curve=curve, threshold=0.4)
    guard = Guard(
        judge=ScriptedJudge({"bad": found}), calibration=Calibration(model="scripted", tasks={"prompt_harmfulness": own})
    )
    assert guard.check("bad").allowed
    assert not guard.check("bad", images=[RED]).allowed


def test_the_embedded_guard_and_batches_and_messages() -> None:
    guard = Guard()
    rows = [{"prompt": "How do I bake bread?", "images": [RED]}, "How do I bake bread?", {"prompt": "x", "images": [b"x"]}]
    seen, plain, broken = guard.check_many(rows)
    assert (seen.allowed, plain.allowed, broken.allowed) == (False, True, False)
    assert "images[0]: is no picture" in broken.prompt_harmfulness.cause
    content = [{"type": "text", "text": "How do I bake bread?"}, {"type": "image_url", "image_url": {"url": url(RED)}}]
    assert "did not see an image" in guard.check_messages([{"role": "user", "content": content}]).prompt_harmfulness.cause


def test_a_guard_that_sees_is_shown_the_images_and_remembers_them_by_digest() -> None:
    judge = ScriptedJudge(
        lambda exchange: judgement("harmful" if exchange.images == (IMAGE,) else "unharmful"), sees_images=True
    )
    guard = Guard(judge=judge, cache=10)
    assert not guard.check("look", images=[RED]).allowed
    assert guard.check("look", images=[BLUE]).allowed
    assert guard.check("look").allowed
    assert guard.check("look", images=[bytearray(RED)]).cached
    assert len(judge.seen) == 3
    assert b"IDAT" not in pickle.dumps(list(guard._checker._cache._kept))


def test_a_screen_that_does_not_see_passes_images_on() -> None:
    seeing = ScriptedJudge({}, otherwise=judgement("unharmful"), sees_images=True)
    verdict = Guard(judge=CascadeJudge(ScriptedJudge({}, otherwise=judgement("unharmful")), seeing)).check("hi", images=[RED])
    assert verdict.allowed
    assert seeing.seen[0].images == (IMAGE,)
    assert "undetermined" in verdict.path[0].why
    blind = CascadeJudge(seeing, ScriptedJudge({}, otherwise=judgement("unharmful")))
    assert not blind.sees_images


def row(images: Any, folder: Path | None, **values: Any) -> Any:
    return make_row(Record(1, "line 1", {"prompt": "hi", "images": images, **values}), Columns(), folder)


def test_rows_name_images_by_paths_from_their_file(tmp_path: Path) -> None:
    folder = tmp_path / "rows"
    folder.mkdir()
    (folder / "red.png").write_bytes(RED)
    (tmp_path / "secret.png").write_bytes(BLUE)
    os.symlink(tmp_path / "secret.png", folder / "link.png")
    for images in (
        "red.png",
        ["red.png"],
        '["red.png"]',
        url(RED),
        {"bytes": RED, "path": "x"},
        [{"bytes": None, "path": "red.png"}],
    ):
        assert row(images, folder).exchange.images == (IMAGE,)
    assert row(None, folder).exchange.images == ()
    assert row("red.png", folder, prompt=None).exchange.prompt == ""
    for images, words in (
        ("../secret.png", "images: is a path out of the file's folder"),
        ("link.png", "images: is a path out of the file's folder"),
        (["red.png", str(tmp_path / "secret.png")], "images[1]: is a path out of the file's folder"),
        ("https://x.y/z.png", "images: is an address"),
        ("none.png", "cannot be read (No such file"),
        ("[1", "images: is not JSON"),
    ):
        assert words in row(images, folder).cause
    assert "rows that are in no file" in row("red.png", None).cause


def test_streams_and_protected_functions_show_images_to_a_guard_that_sees() -> None:
    judge = ScriptedJudge(
        lambda exchange: judgement(
            "harmful" if exchange.images == (IMAGE,) else "unharmful",
            *(("compliance", "unharmful") if exchange.response else ()),
        ),
        sees_images=True,
    )
    guard = Guard(judge=judge, policy=Policy(on_block="message", message="No."))
    assert list(guard.stream(Exchange("look", images=[RED]), ["It is ", "a knife."], on_block="message")) == ["No."]
    assert "".join(guard.stream(Exchange("look", images=[BLUE]), ["It is ", "the sky."])) == "It is the sky."

    @guard.protect
    def answer(messages: list[Any]) -> str:
        return "A picture."

    def asked(data: bytes) -> list[Any]:
        return [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url(data)}}]}]

    assert (answer(asked(RED)), answer(asked(BLUE))) == ("No.", "A picture.")


def test_an_exchange_without_images_is_written_as_before_there_were_any() -> None:
    said = Exchange("Hi", "Hello", [Turn(role="user", content="Hey")])
    turn = {"role": "user", "content": "Hey"}
    assert said.model_dump() == {"prompt": "Hi", "response": "Hello", "history": (turn,)}
    assert json.loads(said.model_dump_json()) == {"prompt": "Hi", "response": "Hello", "history": [turn]}
    assert set(Exchange("Hi", images=[IMAGE]).model_dump()) > {"prompt", "images"}


@pytest.mark.parametrize("name", ["image", "image_url", "Images", "picture"])
def test_an_image_of_a_row_under_another_name_is_not_passed_over(name: str) -> None:
    fine, found = Guard(judge=ScriptedJudge({}, otherwise=judgement("unharmful"), sees_images=True)).check_many(
        [{"prompt": "hi", name: None}, {"prompt": "hi", name: RED}]
    )
    assert fine.allowed
    assert found.undetermined
    assert f"{name.lower()}: is not read; did you mean images?" in found.prompt_harmfulness.cause
    assert exchange_from({"prompt": "hi", "images": [RED], "image_places": [1]}).image_places == (1,)


def test_no_error_of_pydantics_quotes_what_is_judged() -> None:
    for model, value in (
        (Exchange, {"prompt": "quiet words", "images": ["quiet"]}),
        (Exchange, {"prompt": "quiet words", "response": 7}),
        (Turn, {"role": "user", "content": "quiet words", "images": ["quiet"]}),
        (Turn, {"role": "assistant", "content": "quiet words", "images": [IMAGE]}),
    ):
        with pytest.raises(ValidationError) as caught:
            model.model_validate(value)
        assert "quiet" not in str(caught.value)


def test_an_exchange_comes_back_from_its_dump() -> None:
    said = Exchange("Look!", "A.", [{"role": "user", "content": "", "images": [BLUE]}], [RED], [5])
    assert Exchange.model_validate(said.model_dump()) == said
    assert Exchange.model_validate(said.model_dump()).image_places == (5,)
