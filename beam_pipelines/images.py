"""Pictures as bytes: what cannot be used is refused with a reason, the rest becomes a small RGB JPEG.

Pure functions of the bytes: the same bytes give the same picture, byte for byte, and the same words of refusal, on
any thread. Pillow gives the interpreter's lock away while it decodes and resizes, so that threads use every core.

Pillow's plugins are opened directly, because `Image.open` warns of large pictures (a process-wide filter) and takes
the many-picture JPEGs of cameras (MPO) apart; here the limits are ours and such a file is its first picture.
"""

import contextlib
import dataclasses
import io
import re
import struct
import threading
from collections import deque
from collections.abc import Iterator

import numpy as np
from PIL import BmpImagePlugin, GifImagePlugin, Image, ImageFile, JpegImagePlugin, PngImagePlugin, WebPImagePlugin

from beam_pipelines.artwork import clean_text
from beam_pipelines.rejects import Reason, RejectedError

# libjpeg refuses to write longer sides.
MAX_JPEG_SIDE = 65_500
# A progressive picture has about ten scans, several such in one camera file some dozens; each costs a pass over all
# its pixels, so that a small file with thousands would take hours.
MAX_JPEG_SCANS = 100
ORIENTATION_TAG = 0x0112
# Made for shrinking: as sharp as bicubic, in less than half the time of LANCZOS.
FILTER = Image.Resampling.HAMMING
# Much larger pictures are first averaged over whole pixels, to this many times the size.
REDUCING_GAP = 2.0
HTML_WINDOW = 65_536

# Memory a pixel of the whole picture takes at its peak, in decoded pixels of four bytes (measured with Pillow 12.3).
_COST_PLAIN = 1
_COST_COEFFICIENTS = 2  # libjpeg keeps two bytes a sample of the whole picture when it comes in several scans
_COST_CONVERTED = 3  # transparency and 16 bits need copies at full size
_COST_WEBP = 5  # two canvases, the frame and Pillow's own copy, at four bytes each, and the premultiplied one

_HTML_START = re.compile(
    rb"<(?:!doctype\s+html|html|head|body|script|noscript|style|title|meta|link|iframe|center|div|h1|p)\b",
    re.IGNORECASE,
)
_COMMENT_OR_DECLARATION = re.compile(rb"<!--.*?-->|<\?.*?\?>", re.DOTALL)
_BYTE_ORDER_MARKS_AND_SPACE = b"\xef\xbb\xbf\xfe\xff \t\r\n\f\v"
_BMP_HEADER_SIZES = frozenset({12, 40, 52, 56, 64, 108, 124})

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageLimits:
    """Which pictures are taken, by what their headers say.

    Attributes:
        min_side: pixels that either side has at least.
        max_pixels: width times height at most, of the picture as it came.
    """

    min_side: int = 16
    max_pixels: int = 100_000_000


DEFAULT_LIMITS = ImageLimits()


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture as it goes into the data set.

    Attributes:
        jpeg: baseline JPEG, RGB as 4:2:0, without metadata.
        width: pixels, after the orientation was applied.
        height: pixels, after the orientation was applied.
        original_size: width and height in pixels of the picture as it came, after the orientation was applied.
    """

    jpeg: bytes
    width: int
    height: int
    original_size: tuple[int, int]


@dataclasses.dataclass(frozen=True)
class ImageHeader:
    """What the first bytes of a picture say of it.

    Attributes:
        kind: JPEG, PNG, GIF, BMP or WebP.
        width: pixels, as they are stored.
        height: pixels, as they are stored.
    """

    kind: str
    width: int
    height: int


class PixelGate:
    """Bounds the pixels that one process decodes at the same time, so that its memory stays bounded.

    First come, first served: a large picture is not overtaken for ever by small ones. A picture larger than the
    whole budget goes alone.

    Args:
        budget: pixels of four bytes that may be held at the same time.

    Raises:
        ValueError: `budget` is not positive.
    """

    def __init__(self, budget: int) -> None:
        if budget < 1:
            raise ValueError(f"a pixel gate needs a positive budget, not {budget}")
        self._budget = budget
        self._held = 0
        self._queue: deque[object] = deque()
        self._turn = threading.Condition()

    @contextlib.contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits for its turn and for room, then holds `pixels` until the block ends."""
        weight = min(pixels, self._budget)
        self._enter(weight)
        try:
            yield
        finally:
            with self._turn:
                self._held -= weight
                self._turn.notify_all()

    def _enter(self, weight: int) -> None:
        ticket = object()
        with self._turn:
            self._queue.append(ticket)
            try:
                self._turn.wait_for(lambda: self._queue[0] is ticket and self._held + weight <= self._budget)
                self._held += weight
            finally:
                self._queue.remove(ticket)
                self._turn.notify_all()


def shrink(
    data: bytes,
    *,
    size: int = 320,
    quality: int = 90,
    limits: ImageLimits = DEFAULT_LIMITS,
    pixel_gate: PixelGate | None = None,
) -> Picture:
    """Returns the picture in `data` upright, on white, as an RGB JPEG whose shorter side is at most `size` pixels.

    The shape is kept (the longer side is rounded) and nothing is enlarged. Of an animation it is the first frame.

    Args:
        data: a JPEG, PNG, GIF, BMP or WebP file.
        size: pixels of the shorter side.
        quality: of the JPEG, 1 to 95.
        limits: which pictures are taken.
        pixel_gate: bounds what is decoded at the same time; none: no bound.

    Raises:
        RejectedError: the picture cannot be used; nothing else is raised for any bytes.
    """
    kind = _sniff(data)
    try:
        header = _read_header(data, kind, size)
        target = _check_header(header, size, limits)
        with pixel_gate.hold(header.cost) if pixel_gate else contextlib.nullcontext():
            small = _decode(data, kind, header, target)
            return _encode(small, quality, original_size=_upright_size(header, target, small))
    except RejectedError:
        raise
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RejectedError(Reason.TOO_MANY_PIXELS, f"{kind}: too large to decode") from error
    except Exception as error:  # hostile bytes make decoders raise nearly anything, and it is this picture only
        raise RejectedError(Reason.CORRUPT_IMAGE, f"{kind}: {_stable_words(error)}") from error


def check_image(data: bytes, *, limits: ImageLimits = DEFAULT_LIMITS) -> ImageHeader:
    """Returns what a picture's header says, without decoding a pixel.

    Args:
        data: a JPEG, PNG, GIF, BMP or WebP file.
        limits: which pictures are taken.

    Raises:
        RejectedError: it is no such file, or not one that is taken; nothing else is raised for any bytes.
    """
    kind = _sniff(data)
    try:
        header = _read_header(data, kind, limits.min_side)
        _check_limits(header, limits)
    except RejectedError:
        raise
    except Exception as error:  # as in `shrink`
        raise RejectedError(Reason.CORRUPT_IMAGE, f"{kind}: {_stable_words(error)}") from error
    return ImageHeader(kind, header.width, header.height)


def shrunk_size(width: int, height: int, size: int) -> tuple[int, int]:
    """Returns the width and height in pixels that `shrink` gives a picture of `width` by `height`."""
    shorter = min(width, height)
    if shorter <= size:
        return width, height
    return (width * size + shorter // 2) // shorter, (height * size + shorter // 2) // shorter


class _JpegFile(JpegImagePlugin.JpegImageFile):
    """Pillow's, without the search for a resolution in the EXIF, which warns and fails if that is malformed."""

    def _read_dpi_from_exif(self) -> None:
        return


_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "JPEG": _JpegFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "WebP": WebPImagePlugin.WebPImageFile,
}


def _sniff(data: bytes) -> str:
    """Returns the format, by its first bytes alone: a key of `_PLUGINS`."""
    if not data:
        raise RejectedError(Reason.EMPTY)
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM") and int.from_bytes(data[14:18], "little") in _BMP_HEADER_SIZES:
        return "BMP"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if _is_html(data):
        raise RejectedError(Reason.HTML_PAGE)
    raise RejectedError(Reason.NOT_AN_IMAGE, f"begins with {data[:16]!r}")


def _is_html(data: bytes) -> bool:
    """Says whether a browser would show `data` as a page; comments and XML declarations may come first."""
    text = data[:HTML_WINDOW].replace(b"\0", b"")  # UTF-16 is every second byte
    text = _COMMENT_OR_DECLARATION.sub(b"", text).lstrip(_BYTE_ORDER_MARKS_AND_SPACE)
    return _HTML_START.match(text) is not None


@dataclasses.dataclass(frozen=True)
class _Header:
    """What is known before any pixel is decoded: the size in pixels, and the memory in pixels of four bytes.

    Where opening costs no memory, also the opened picture, and what it covers once it is decoded at a lower scale.
    """

    width: int
    height: int
    cost: int
    image: ImageFile.ImageFile | None = None
    box: tuple[float, float, float, float] | None = None


def _read_header(data: bytes, kind: str, size: int) -> _Header:
    # These two plugins take memory for the whole picture when they open it: their sizes are read by hand.
    if kind == "WebP":
        width, height = _webp_size(data)
        return _Header(width, height, width * height * _COST_WEBP)
    if kind == "GIF":
        width, height = _gif_size(data)
        return _Header(width, height, width * height * _COST_CONVERTED)
    stream = io.BytesIO(data)
    image = _PLUGINS[kind](stream)
    width, height = image.size
    if isinstance(image, _JpegFile):
        after_header = stream.tell()
        # libjpeg decodes at 1/2, 1/4 or 1/8 for a fraction of the cost.
        drafted = image.draft(None, (size, size))
        cost = _jpeg_cost(image, data, after_header=after_header, pixels=width * height)
        return _Header(width, height, cost, image, drafted[1] if drafted else None)
    plain = image.mode != "I;16" and not image.has_transparency_data
    return _Header(width, height, width * height * (_COST_PLAIN if plain else _COST_CONVERTED), image)


def _webp_size(data: bytes) -> tuple[int, int]:
    """Returns width and height as RFC 9649 lays them out in the three kinds of WebP."""
    chunk = data[12:16]
    if chunk == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (high_width << 16 | low_width) + 1, (high_height << 16 | low_height) + 1
    if chunk == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack_from("<HH", data, 26)
    return width & 0x3FFF, height & 0x3FFF


def _gif_size(data: bytes) -> tuple[int, int]:
    """Returns width and height of the screen, widened to hold the first frame as Pillow does."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    at = 13 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    while data[at : at + 1] != b",":
        at = _after_gif_extension(data, at) if data[at] == ord("!") else at + 1
    left, top, frame_width, frame_height = struct.unpack_from("<4H", data, at + 1)
    return max(width, left + frame_width), max(height, top + frame_height)


def _after_gif_extension(data: bytes, at: int) -> int:
    at += 2
    while data[at]:
        at += data[at] + 1
    return at + 1


def _jpeg_cost(image: _JpegFile, data: bytes, *, after_header: int, pixels: int) -> int:
    """Returns the memory for decoding, in pixels of four bytes; refuses pictures with too many scans."""
    if not image.info.get("progressive") and _has_one_scan(data, after_header, image.layers):
        return image.width * image.height
    scans = 1 + data.count(b"\xff\xda", after_header)
    if scans > MAX_JPEG_SCANS:
        raise RejectedError(Reason.CORRUPT_IMAGE, f"JPEG: {scans} scans")
    return pixels * _COST_COEFFICIENTS


def _has_one_scan(data: bytes, after_header: int, components: int) -> bool:
    """Says whether the scan header that ends at `after_header` names all components, so that no other scan follows."""
    start = after_header - 8 - 2 * components
    return data[start : start + 2] == b"\xff\xda"


def _check_header(header: _Header, size: int, limits: ImageLimits) -> tuple[int, int]:
    """Returns the size to shrink to, or refuses the picture by its size alone."""
    _check_limits(header, limits)
    target = shrunk_size(header.width, header.height, size)
    if max(target) > MAX_JPEG_SIDE:
        raise RejectedError(Reason.EXTREME_SHAPE, _size_in_words(header))
    return target


def _check_limits(header: _Header, limits: ImageLimits) -> None:
    if min(header.width, header.height) < limits.min_side:
        raise RejectedError(Reason.TOO_SMALL, _size_in_words(header))
    if header.width * header.height > limits.max_pixels:
        raise RejectedError(Reason.TOO_MANY_PIXELS, _size_in_words(header))


def _size_in_words(header: _Header) -> str:
    return f"{header.width}x{header.height} pixels"


def _decode(data: bytes, kind: str, header: _Header, target: tuple[int, int]) -> Image.Image:
    """Returns the picture at `target` pixels, turned upright, in mode RGB."""
    image = header.image
    if image is None:
        image = _PLUGINS[kind](io.BytesIO(data))
        if image.size != (header.width, header.height):
            raise RejectedError(Reason.CORRUPT_IMAGE, f"{kind}: its headers disagree about its size")
    raw_mode = str(image.tile[0].args) if kind == "PNG" and image.tile else ""
    image.load()
    _mend_transparent_value(image, raw_mode)
    orientation = _orientation(image.info.get("exif", b""))
    small = _resizable(image)
    if small.size != target:
        small = small.resize(target, FILTER, box=header.box, reducing_gap=REDUCING_GAP)
    rgb = _on_white(small)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _mend_transparent_value(image: Image.Image, raw_mode: str) -> None:
    """Scales the transparent grey or colour as Pillow scaled the samples; it leaves the value as the PNG has it."""
    value = image.info.get("transparency")
    if raw_mode == "L;2" and isinstance(value, int):
        image.info["transparency"] = value * 85
    elif raw_mode == "L;4" and isinstance(value, int):
        image.info["transparency"] = value * 17
    elif raw_mode == "RGB;16B" and isinstance(value, tuple):
        image.info["transparency"] = tuple(sample >> 8 for sample in value)


def _resizable(image: Image.Image) -> Image.Image:
    """Returns `image` in a mode whose pixels may be averaged: L, RGB, CMYK, or RGBa where anything is transparent."""
    if image.mode == "I;16":
        image = _high_bytes(image)
    if image.has_transparency_data:
        return image.convert("RGBA").convert("RGBa")
    if image.mode in ("L", "RGB", "CMYK"):
        return image
    return image.convert("L" if image.mode == "1" else "RGB")


def _high_bytes(image: Image.Image) -> Image.Image:
    """Returns 16-bit grey as L, or as LA if one grey is transparent; Pillow's own conversion clips at 255."""
    values = np.asarray(image)
    grey = Image.fromarray((values >> 8).astype(np.uint8))
    transparent = image.info.get("transparency")
    if transparent is None:
        return grey
    alpha = Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8))
    return Image.merge("LA", (grey, alpha))


def _on_white(image: Image.Image) -> Image.Image:
    if image.mode != "RGBa":
        return image.convert("RGB")
    painted = image.convert("RGBA")
    white = Image.new("RGB", image.size, "white")
    white.paste(painted, mask=painted)
    return white


def _orientation(exif: bytes) -> int:
    """Returns the orientation, 1 to 8, that the TIFF header in `exif` states; 1 if it is malformed or states none."""
    tiff = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None:
        return 1
    try:
        (directory,) = struct.unpack_from(f"{order}I", tiff, 4)
        (entries,) = struct.unpack_from(f"{order}H", tiff, directory)
        for at in range(directory + 2, directory + 2 + 12 * entries, 12):
            tag, kind = struct.unpack_from(f"{order}HH", tiff, at)
            if tag == ORIENTATION_TAG:
                (value,) = struct.unpack_from(order + {3: "H", 4: "I"}[kind], tiff, at + 8)
                return int(value)
    except (struct.error, KeyError):
        pass
    return 1


def _upright_size(header: _Header, target: tuple[int, int], small: Image.Image) -> tuple[int, int]:
    """Returns the size of the picture as it came, its sides changed over if those of `target` were."""
    lies = small.size == target[::-1] != target
    return (header.height, header.width) if lies else (header.width, header.height)


def thumbnail(jpeg: bytes, *, side: int, quality: int = 70) -> Picture:
    """Returns a picture that `shrink` made, at most `side` pixels wide and high; its shape is kept."""
    image = _JpegFile(io.BytesIO(jpeg))
    original_size = image.size
    image.draft(None, (side, side))
    scale = side / max(original_size)
    if scale < 1:
        size = (max(1, round(original_size[0] * scale)), max(1, round(original_size[1] * scale)))
        return _encode(image.convert("RGB").resize(size, FILTER), quality, original_size=original_size)
    return _encode(image.convert("RGB"), quality, original_size=original_size)


def _encode(image: Image.Image, quality: int, *, original_size: tuple[int, int]) -> Picture:
    image.info = {}  # else a comment in it would be written
    out = io.BytesIO()
    image.save(out, "JPEG", quality=quality, subsampling="4:2:0")
    return Picture(out.getvalue(), image.width, image.height, original_size)


def _stable_words(error: Exception) -> str:
    """Returns the error's message, or only its type's name if the message holds an address of memory."""
    words = clean_text(str(error))
    return words if words and " at 0x" not in words else type(error).__name__
