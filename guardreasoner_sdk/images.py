"""Images that are judged with a text. Its first bytes say what one is; nothing is decoded before an engine needs it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
import logging
import os
import re
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from guardreasoner_sdk._failures import log_failure
from guardreasoner_sdk.errors import BackendError, InputError, MissingExtraError

if TYPE_CHECKING:
    import PIL.Image
    from pydantic import GetCoreSchemaHandler
    from pydantic_core import CoreSchema

__all__ = ["MAX_BYTES", "MAX_IMAGES", "MAX_PIXELS", "Image", "ImageFormat", "ImageLike", "images_of"]

logger = logging.getLogger("guardreasoner_sdk")

MAX_BYTES = 20 * 2**20
"""Largest image accepted, in bytes as it is stored."""

MAX_PIXELS = 50_000_000
"""Largest image accepted, in pixels: a small file may hold gigabytes of them. This many take 150 MB when they are decoded."""

MAX_IMAGES = 16
"""Most images in one exchange, those of its earlier turns among them."""

ImageFormat = Literal["png", "jpeg", "webp", "gif"]

ImageLike: TypeAlias = "Image | bytes | str | os.PathLike[str] | PIL.Image.Image"
"""What stands for an image: its bytes, a path (``pathlib.Path``), a data URL, an image of Pillow's, or an :class:`Image`."""

_FIX = "pass a PNG, JPEG, WebP or GIF of one picture"
_FIX_MODE = "scale it to 0 to 255, and convert it to RGB or RGBA"
# Each mode of Pillow's as which it is written; of the others nobody knows which value is white.
_WRITTEN_AS = {mode: mode for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")}
_WRITTEN_AS |= {"PA": "RGBA", "RGBa": "RGBA", "La": "LA", **dict.fromkeys(("I", "I;16B", "I;16L", "I;16N"), "I;16")}
_WRITTEN_AS |= dict.fromkeys(("CMYK", "HSV", "RGBX", "YCbCr"), "RGB")
_OTHERS = {
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"%PDF": "PDF",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"\0\0\1\0": "an icon",
}
_HEAD = re.compile(r"data:(?P<type>[\w.+/-]*)(?:;[\w.=+-]*)*?;base64", re.ASCII | re.IGNORECASE)
_LONGEST_HEAD = 200
_REMOTE = re.compile(r"(?:https?|ftp|s3|gs|file|blob):", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Image:
    """A picture that is judged together with a text. Two of the same bytes are equal.

    What it is, its first bytes say, and not the name of a file or the type in a URL. It is refused here if it is too large, or
    would be once it is decoded, or if it moves: a guard would see one picture, and a reader others.

    Args:
        data: the file's bytes, as they are.

    Attributes:
        format: ``png``, ``jpeg``, ``webp`` or ``gif``.
        width: in pixels.
        height: in pixels.
        digest: SHA-256 of the bytes, in hexadecimal: what tells it from others in caches and files.

    Raises:
        InputError: these bytes are no such picture, or too large a one.

    Example:
        >>> from guardreasoner_sdk import Image
        >>> image = Image(bytes.fromhex("47494638396101000100800000000000ffffff2c00000000010001000002024401003b"))
        >>> image.format, image.width, image.height
        ('gif', 1, 1)
    """

    data: bytes = field(repr=False, compare=False)
    format: ImageFormat = field(init=False, compare=False)
    width: int = field(init=False, compare=False)
    height: int = field(init=False, compare=False)
    digest: str = field(init=False, repr=False)

    def __post_init__(self) -> None:
        data = _checked_bytes("image", self.data)
        kind, width, height = _read_header("image", data)
        for name, value in (
            *(("data", data), ("format", kind), ("width", width), ("height", height)),
            ("digest", hashlib.sha256(data).hexdigest()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def of(cls, value: ImageLike, *, name: str = "image") -> Image:
        """Make an image of whatever stands for one.

        Text is a data URL and never a path, since applications hand on what users wrote; a file is named by a
        ``pathlib.Path``. An address on the network is refused: nothing is fetched here, and no engine is told to.

        Args:
            value: bytes, a path, a data URL, an image of Pillow's, or an :class:`Image`.
            name: what it is called where it was given, for errors.

        Raises:
            InputError: it is none of these, cannot be read, or is no picture that can be judged.

        Example:
            >>> from guardreasoner_sdk import Image
            >>> Image.of("data:image/gif;base64,R0lGODlhAQABAIAAAAAAAP///ywAAAAAAQABAAACAkQBADs=").width
            1
        """
        if isinstance(value, Image):
            return value
        if isinstance(value, str):
            data = _data_in(name, value)
        elif isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
        elif isinstance(value, os.PathLike):
            data = _read_file(name, Path(value))
        elif isinstance(value, dict) and value.keys() == cls.__dataclass_fields__.keys():  # of an exchange's model_dump()
            data = value["data"]
        elif hasattr(value, "save") and hasattr(value, "getbands"):  # told by what it can do: Pillow may not be installed
            data = _written(name, value)
        else:
            kinds = "pass bytes, a pathlib.Path, a data URL or an image of Pillow's"
            raise InputError(name, f"must be an image, not {type(value).__name__}", kinds)
        try:
            return cls(data)
        except InputError as error:
            raise InputError(name, error.problem, error.fix) from None

    @property
    def size(self) -> int:
        """How many bytes it has."""
        return len(self.data)

    @property
    def media_type(self) -> str:
        """Such as ``image/png``."""
        return f"image/{self.format}"

    @property
    def data_url(self) -> str:
        """The whole image as a URL, as APIs of models take it."""
        return f"data:{self.media_type};base64,{base64.b64encode(self.data).decode('ascii')}"

    def decode(self) -> PIL.Image.Image:
        """The picture as Pillow has it: RGB of 8 bits, turned as its camera says, on white where it is transparent.

        Raises:
            MissingExtraError: Pillow is not installed.
            BackendError: it is damaged, is not what its first bytes say, or cannot be shown in 8 bits.
        """
        pillow = _pillow()
        from PIL import ImageOps

        try:
            # By the one reader that its header was read for: a file that is two formats at once is seen as one.
            with pillow.open(io.BytesIO(self.data), formats=[self.format.upper()]) as opened:
                if opened.size != (self.width, self.height):
                    raise BackendError("an image has another size than its header says")
                turned: PIL.Image.Image = ImageOps.exif_transpose(opened) or opened
                if turned.mode.startswith("I"):
                    turned = _eight_bits(pillow, turned)
                if "A" in turned.getbands() or "transparency" in turned.info:
                    above = turned.convert("RGBA")
                    ground = pillow.new("RGBA", above.size, "white")
                    whole: PIL.Image.Image = pillow.alpha_composite(ground, above)
                    return whole.convert("RGB")
                return turned.convert("RGB")
        except BackendError:
            raise
        except Exception as error:
            log_failure(logger, "the image cannot be decoded", error)
            raise BackendError(f"an image cannot be decoded ({type(error).__name__}); it is damaged") from None

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """An image as it is; in JSON what is known of it, and never its bytes."""
        from pydantic_core import core_schema

        return core_schema.is_instance_schema(
            cls, serialization=core_schema.plain_serializer_function_ser_schema(Image.describe, when_used="json")
        )

    def describe(self) -> dict[str, Any]:
        """What is known of it, without its content: ``format``, ``width``, ``height``, ``size`` and ``digest``."""
        return {name: getattr(self, name) for name in ("format", "width", "height", "size", "digest")}


def images_of(values: object, *, name: str = "images") -> tuple[Image, ...]:
    """Make images of a list, or of one.

    Args:
        values: what :meth:`Image.of` takes, or a list of such.
        name: of the argument, for errors.

    Raises:
        InputError: one of them is no image that can be judged, named by its place; or there are too many.
    """
    if values is None:
        return ()
    if isinstance(values, list | tuple):
        if len(values) > MAX_IMAGES:
            raise InputError(name, f"has {len(values):,} images, the most is {MAX_IMAGES}", "check them in parts")
        return tuple(Image.of(value, name=f"{name}[{place}]") for place, value in enumerate(values))
    return (Image.of(values, name=name),)  # type: ignore[arg-type]


def _pillow() -> Any:
    try:
        import PIL.Image
    except ImportError as error:
        raise MissingExtraError("images", "Images that are decoded in this process") from error
    return PIL.Image


def _checked_bytes(name: str, data: object) -> bytes:
    if not isinstance(data, bytes | bytearray | memoryview):
        raise InputError(name, f"must be bytes, not {type(data).__name__}", "pass the bytes of the file, or use Image.of()")
    data = bytes(data)
    if len(data) > MAX_BYTES:
        raise _too_many_bytes(name, len(data))
    return data


def _too_many_bytes(name: str, count: int) -> InputError:
    return InputError(name, f"has {count:,} bytes, the most is {MAX_BYTES:,}", "scale it down; guards see far fewer pixels")


def _data_in(name: str, text: str) -> bytes:
    """The bytes in a data URL."""
    if _REMOTE.match(text):
        raise InputError(name, "is an address, and nothing is fetched here", "fetch it yourself, and pass its bytes")
    if text[:5].lower() != "data:":
        raise InputError(name, "is text, and no data URL", "pass pathlib.Path(...) for a file, or the bytes themselves")
    if len(text) > MAX_BYTES // 3 * 4 + 200:
        raise _too_many_bytes(name, len(text) // 4 * 3)
    # Only the head is matched: a pattern over megabytes that somebody sent would cost seconds.
    comma = text.find(",", 0, _LONGEST_HEAD + 1)
    found = _HEAD.fullmatch(text[:comma]) if comma > 0 else None
    if found is None:
        raise InputError(name, "is a data URL without Base64", "write data:image/png;base64,...")
    if found["type"] and not found["type"].lower().startswith(("image/", "application/octet-stream")):
        raise InputError(name, "is a data URL of something else than an image", _FIX)
    try:
        return base64.b64decode(text[comma + 1 :].replace("-", "+").replace("_", "/"), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(name, "is not Base64", "encode the whole file") from None


def _read_file(name: str, path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size > MAX_BYTES:
                raise _too_many_bytes(name, size)
            return file.read(MAX_BYTES + 1)
    except OSError as error:
        raise InputError(name, f"{path} cannot be read ({error.strerror})", "check the path") from None


def _written(name: str, picture: Any) -> bytes:
    """An image of Pillow's as a file: nothing of it is lost that a guard could see."""
    if getattr(picture, "n_frames", 1) > 1:
        raise InputError(name, "moves, and a guard sees one picture", "pass the frames that count, each by itself")
    if picture.width * picture.height > MAX_PIXELS:
        raise _too_many_pixels(name, picture.width, picture.height)
    mode = _WRITTEN_AS.get(picture.mode)
    if mode is None:
        raise InputError(name, f"is of Pillow's mode {picture.mode}, which has no range of its own", _FIX_MODE)
    if picture.mode == "I":  # 32 bits, of which a file holds 16
        low, high = picture.getextrema()
        if low < 0 or high > 0xFFFF:
            raise InputError(name, "has values that are no 16 bits", _FIX_MODE)
    if picture.mode != mode:
        picture = (picture.convert("I") if mode == "I;16" else picture).convert(mode)
    file = io.BytesIO()
    picture.save(file, "PNG", compress_level=1)
    return file.getvalue()


def _eight_bits(pillow: Any, wide: Any) -> PIL.Image.Image:
    """Grey of 16 bits as 8: Pillow's own conversion makes all of it white that is above 255."""
    if "transparency" in wide.info:
        raise BackendError("an image of 16 bits of grey is transparent in one of them; convert it to RGBA before it is judged")
    grey: PIL.Image.Image = wide.convert("I").point(lambda value: value * (1 / 257) + 0.5).convert("L")
    return grey


def _read_header(name: str, data: bytes) -> tuple[ImageFormat, int, int]:
    """Format, width and height."""
    for kind, (begins, read) in _READERS.items():
        if not begins(data):
            continue
        try:
            width, height, moves = read(data)
        except (struct.error, IndexError, ValueError):
            raise InputError(
                name, f"begins like {kind.upper()} and has no such header", "check the file; it is damaged"
            ) from None
        if moves:
            raise InputError(name, "moves, and a guard sees one picture", "pass the frames that count, each by itself")
        if width < 1 or height < 1:
            raise InputError(name, "has no pixel", _FIX)
        if width * height > MAX_PIXELS:
            raise _too_many_pixels(name, width, height)
        return kind, width, height
    if not data:
        raise InputError(name, "is empty", _FIX)
    other = next((what for magic, what in _OTHERS.items() if data.startswith(magic)), None)
    if data[4:8] == b"ftyp":
        other = "HEIC, AVIF or a film"
    raise InputError(name, "is no picture that is known here" if other is None else f"is {other}", _FIX)


def _too_many_pixels(name: str, width: int, height: int) -> InputError:
    problem = f"has {width:,} x {height:,} pixels, the most is {MAX_PIXELS:,}"
    return InputError(name, problem, "scale it down; guards see far fewer pixels")


_Header = tuple[int, int, bool]


def _read_png(data: bytes) -> _Header:
    width, height = struct.unpack(">II", data[16:24])
    if data[12:16] != b"IHDR":
        raise ValueError
    place, moves = 8, False
    while not moves and place + 8 <= len(data):
        length, kind = struct.unpack(">I4s", data[place : place + 8])
        if kind in (b"IDAT", b"IEND"):
            break
        moves = kind == b"acTL"
        place += length + 12
    return width, height, moves


def _read_gif(data: bytes) -> _Header:
    width, height = struct.unpack("<HH", data[6:10])
    frames = 0
    for place in _gif_frames(data):
        left, top, wide, high = struct.unpack("<HHHH", data[place + 1 : place + 9])
        if left + wide > width or top + high > height:
            raise ValueError  # readers make the whole larger, each in a way of its own
        frames += 1
    if not frames:
        raise ValueError
    return width, height, frames > 1


def _gif_frames(data: bytes) -> Iterator[int]:
    """Where the frames of a GIF begin; two at most are looked for.

    Readers pass over what they do not know, each in a way of its own. Whatever is no block is an error here, or a frame might
    hide behind it.
    """

    def table(flags: int) -> int:
        return 3 << ((flags & 7) + 1) if flags & 0x80 else 0

    def parts(place: int) -> tuple[int, list[int]]:
        """Behind the parts of a block, and where each begins."""
        begins = []
        while data[place]:
            begins.append(place)
            place += data[place] + 1
        return place + 1, begins

    place, found = 13 + table(data[10]), 0
    while place < len(data) and data[place] != 0x3B and found < 2:
        if data[place] == 0x2C:
            yield place
            found += 1
            place, _ = parts(place + 10 + table(data[place + 9]) + 1)
        elif data[place] == 0x21:
            label = data[place + 1]
            place, begins = parts(place + 2)
            # Readers go on reading where the parts that belong to a label are missing.
            looped = label == 0xFF and data[begins[0] + 1 :].startswith(b"NETSCAPE2.0") if begins else False
            if len(begins) < (0 if label == 0xFE else 2 if looped else 1):
                raise ValueError
        else:
            raise ValueError


def _read_jpeg(data: bytes) -> _Header:
    place = 2
    while True:
        if data[place] != 0xFF:
            raise ValueError
        while data[place] == 0xFF:
            place += 1
        marker = data[place]
        place += 1
        if marker == 0x01 or 0xD0 <= marker <= 0xD8:
            continue
        (length,) = struct.unpack(">H", data[place : place + 2])
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[place + 3 : place + 7])
            return width, height, False
        if marker in (0xD9, 0xDA) or length < 2:
            raise ValueError
        place += length


def _read_webp(data: bytes) -> _Header:
    if data[12:16] != b"VP8X":
        return *_webp_size(data, 12), False
    (width,) = struct.unpack("<I", data[24:27] + b"\0")
    (height,) = struct.unpack("<I", data[27:30] + b"\0")
    canvas = width + 1, height + 1
    moves, pictures = bool(data[20] & 0x02), 0
    place, end = 12, 8 + int.from_bytes(data[4:8], "little")
    while not moves and place + 8 <= end:
        kind, length = struct.unpack("<4sI", data[place : place + 8])
        if place + 8 + length > len(data):
            raise ValueError
        moves = kind in (b"ANIM", b"ANMF")
        if kind in (b"VP8 ", b"VP8L"):
            pictures += 1
            if _webp_size(data, place) != canvas:
                raise ValueError  # one reader shows the picture, another one what of it is on the canvas
        place += 8 + length + length % 2
    if not moves and pictures != 1:
        raise ValueError
    return *canvas, moves


def _webp_size(data: bytes, place: int) -> tuple[int, int]:
    """Width and height of the picture in a chunk."""
    chunk = data[place : place + 18]
    if chunk[:4] == b"VP8L" and chunk[8] == 0x2F:
        (bits,) = struct.unpack("<I", chunk[9:13])
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if chunk[:4] == b"VP8 " and chunk[11:14] == b"\x9d\x01\x2a":
        width, height = struct.unpack("<HH", chunk[14:18])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError


_READERS: dict[ImageFormat, tuple[Callable[[bytes], bool], Callable[[bytes], _Header]]] = {
    "png": (lambda data: data.startswith(b"\x89PNG\r\n\x1a\n"), _read_png),
    "jpeg": (lambda data: data.startswith(b"\xff\xd8\xff"), _read_jpeg),
    "webp": (lambda data: data[:4] == b"RIFF" and data[8:12] == b"WEBP", _read_webp),
    "gif": (lambda data: data.startswith((b"GIF87a", b"GIF89a")), _read_gif),
}
