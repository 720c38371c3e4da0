import contextlib
import functools
import io
import os
import random
import struct
import threading
import time
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from beam_pipelines.images import (
    ImageHeader,
    ImageLimits,
    Picture,
    PixelGate,
    check_image,
    shrink,
    shrunk_size,
    thumbnail,
)
from beam_pipelines.rejects import Reason, RejectedError

RED, GREEN, BLUE, WHITE = (230, 20, 20), (20, 200, 30), (20, 30, 220), (255, 255, 255)


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@functools.cache
def corners(width: int = 96, height: int = 64) -> Image.Image:
    """Red top left, green top right, blue bottom left, white bottom right."""
    image = Image.new("RGB", (width, height), WHITE)
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, width // 2 - 1, height // 2 - 1), RED)
    draw.rectangle((width // 2, 0, width, height // 2 - 1), GREEN)
    draw.rectangle((0, height // 2, width // 2 - 1, height), BLUE)
    return image


@functools.cache
def photograph(width: int, height: int, seed: int = 0) -> Image.Image:
    """Noise with the spectrum of photographs as lenses blur them, 1/f^1.5, and an edge."""
    noise = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None, :])
    frequency[0, 0] = 1 / max(width, height)
    planes = [
        np.fft.irfft2(np.fft.rfft2(noise.standard_normal((height, width))) / frequency**1.5, (height, width))
        for _ in range(3)
    ]
    pixels = np.stack([planes[0] + 0.3 * plane for plane in planes], axis=-1)
    image = Image.fromarray(np.clip(pixels / pixels.std() * 45 + 120, 0, 255).astype(np.uint8))
    ImageDraw.Draw(image).ellipse((width // 4, height // 4, width // 2, height // 2), RED)
    return image


def pixels_of(picture: Picture) -> NDArray[np.float64]:
    image = Image.open(io.BytesIO(picture.jpeg))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (picture.width, picture.height))
    return np.asarray(image, dtype=np.float64)


def assert_corners(picture: Picture, expected: list[tuple[int, int, int]]) -> None:
    """Compares the middles of the four quarters: top left, top right, bottom left, bottom right."""
    pixels = pixels_of(picture)
    height, width, _ = pixels.shape
    for (y, x), colour in zip([(1, 1), (1, 3), (3, 1), (3, 3)], expected, strict=True):
        np.testing.assert_allclose(pixels[height * y // 4, width * x // 4], colour, atol=14)


def psnr_against_lanczos(picture: Picture, data: bytes) -> float:
    """Decibels against a full decode and plain LANCZOS, both as JPEGs of the best quality."""
    full = Image.open(io.BytesIO(data)).resize((picture.width, picture.height), Image.Resampling.LANCZOS)
    reference = Picture(encoded(full, "JPEG", quality=100, subsampling="4:2:0"), *full.size, full.size)
    return float(10 * np.log10(255**2 / np.mean((pixels_of(picture) - pixels_of(reference)) ** 2)))


def png(*, size: tuple[int, int], depth: int, colour_type: int, rows: list[bytes], transparent: bytes) -> bytes:
    """A PNG of the kinds that Pillow reads and does not write."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", *size, depth, colour_type, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    chunks = [(b"IHDR", header), (b"tRNS", transparent), (b"IDAT", body), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*parts) for parts in chunks if parts != (b"tRNS", b""))


def png_header(width: int, height: int) -> bytes:
    return png(size=(width, height), depth=8, colour_type=2, rows=[], transparent=b"")


def reason_for(data: bytes, limits: ImageLimits | None = None) -> tuple[Reason, str]:
    with pytest.raises(RejectedError) as caught:
        shrink(data, limits=limits or ImageLimits())
    return caught.value.reason, caught.value.detail


def with_exif(orientation: object, *, kind: str = "JPEG", order: str = "<") -> bytes:
    exif = Image.Exif()
    exif.endian = order
    exif[0x010F] = "a camera"
    exif[0x0112] = orientation
    return encoded(corners(), kind, exif=exif, **({"quality": 95} if kind == "JPEG" else {}))


class TestRefusals:
    def test_zero_bytes(self) -> None:
        assert reason_for(b"") == (Reason.EMPTY, "")

    @pytest.mark.parametrize(
        "page",
        [
            b"<!DOCTYPE html><html></html>",
            b"\n\t  <html lang='en'>",
            b"\xef\xbb\xbf<!doctype HTML>",
            b"<head><title>Request blocked</title>",
            b"<script>challenge()</script>",
            b"<!-- blocked --><!-- by a firewall -->\n<html>",
            b"<?xml version='1.0'?><!DOCTYPE html PUBLIC ''>",
            "<html>".encode("utf-16"),
            b"<BODY>Forbidden",
        ],
    )
    def test_html(self, page: bytes) -> None:
        assert reason_for(page)[0] == Reason.HTML_PAGE

    @pytest.mark.parametrize(
        "data",
        [
            b'{"message": "Not a valid object"}',
            b"version https://git-lfs.github.com/spec/v1",
            b"<svg xmlns='http://www.w3.org/2000/svg'/>",
            b"<!-- drawn by --><svg/>",
            b"<?xml version='1.0'?><svg/>",
            b"<!-- never ends",
            b"<htmlish>",
            b"a text about <html>",
            b"BM is how this text begins, which is not a picture",
            b"RIFF\0\0\0\0WAVEfmt ",
            encoded(corners(), "TIFF"),
            encoded(corners(), "ICO"),
            encoded(corners(), "PPM"),
        ],
    )
    def test_not_an_image(self, data: bytes) -> None:
        assert reason_for(data)[0] == Reason.NOT_AN_IMAGE

    def test_detail_of_what_is_not_an_image_shows_how_it_begins(self) -> None:
        assert reason_for(b"hello")[1] == "begins with b'hello'"

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
    @pytest.mark.parametrize("part", [0.4, 0.9])
    def test_truncated(self, kind: str, part: float) -> None:
        whole = encoded(photograph(120, 90), kind)
        reason, detail = reason_for(whole[: int(len(whole) * part)])
        assert reason == Reason.CORRUPT_IMAGE
        assert detail.upper().startswith(f"{kind}: ")
        assert "0x" not in detail

    @pytest.mark.parametrize("start", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"RIFF\0\0\0\0WEBPVP8 "])
    def test_a_beginning_alone(self, start: bytes) -> None:
        assert reason_for(start)[0] == Reason.CORRUPT_IMAGE
        assert reason_for(start + b"\0" * 100)[0] in (Reason.CORRUPT_IMAGE, Reason.TOO_SMALL)

    def test_too_small(self) -> None:
        assert reason_for(encoded(Image.new("RGB", (400, 15)), "PNG")) == (Reason.TOO_SMALL, "400x15 pixels")
        assert reason_for(encoded(Image.new("RGB", (15, 400)), "JPEG")) == (Reason.TOO_SMALL, "15x400 pixels")
        assert shrink(encoded(Image.new("RGB", (16, 16)), "JPEG")).width == 16

    def test_too_many_pixels_is_said_by_the_header_alone(self) -> None:
        assert reason_for(png_header(20_000, 5_001)) == (Reason.TOO_MANY_PIXELS, "20000x5001 pixels")
        assert reason_for(png_header(60_000, 60_000))[0] == Reason.TOO_MANY_PIXELS
        limits = ImageLimits(max_pixels=96 * 64 - 1)
        for kind in ("JPEG", "PNG", "GIF", "BMP", "WEBP"):
            assert reason_for(encoded(corners(), kind), limits) == (Reason.TOO_MANY_PIXELS, "96x64 pixels")

    def test_a_large_picture_within_the_limits_is_not_warned_of(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert reason_for(png_header(9_700, 9_900))[0] == Reason.CORRUPT_IMAGE

    @pytest.mark.parametrize(
        "data",
        [
            b"RIFF\x16\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xfe\x3f\0" * 2,
            b"RIFF\x16\0\0\0WEBPVP8L\x0a\0\0\0\x2f" + struct.pack("<I", 16_382 | 16_382 << 14),
            b"RIFF\x16\0\0\0WEBPVP8 \x0a\0\0\0\0\0\0\x9d\x01\x2a" + struct.pack("<HH", 16_383, 16_383),
            b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + b"," + struct.pack("<4HB", 0, 0, 65_535, 65_535, 0),
        ],
    )
    def test_formats_that_take_memory_when_opened_are_measured_before(self, data: bytes) -> None:
        assert reason_for(data)[0] == Reason.TOO_MANY_PIXELS

    def test_a_size_that_changes_when_opened_is_refused(self) -> None:
        small, large = (b"," + struct.pack("<4HB", 0, 0, side, side, 0) for side in (64, 5_000))
        ignored_by_pillow = small.ljust(45, b"\0")  # it takes the comma for the length of a block of 44 bytes
        data = b"GIF89a" + struct.pack("<HHBBB", 64, 64, 0, 0, 0) + b"!\xff\x0bNETSCAPE2.0\0"
        assert reason_for(data + ignored_by_pillow + b"\0" + large + b"\x08" + b"\0" * 9) == (
            Reason.CORRUPT_IMAGE,
            "GIF: its headers disagree about its size",
        )

    def test_running_out_of_memory_is_too_many_pixels(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise MemoryError

        monkeypatch.setattr("beam_pipelines.images._decode", fail)
        assert reason_for(encoded(corners(), "PNG"))[0] == Reason.TOO_MANY_PIXELS

    def test_extreme_shape(self) -> None:
        assert reason_for(encoded(Image.new("L", (65_501, 17)), "PNG")) == (Reason.EXTREME_SHAPE, "65501x17 pixels")
        with pytest.raises(RejectedError, match="extreme_shape"):
            shrink(encoded(Image.new("L", (32, 65_536)), "PNG"), size=32)
        assert shrink(encoded(Image.new("1", (17, 65_500)), "PNG")).height == 65_500

    def test_a_jpeg_of_very_many_scans(self) -> None:
        data = encoded(photograph(120, 90), "JPEG", progressive=True)
        start = data.rindex(b"\xff\xda")
        assert reason_for(data[:start] + data[start:-2] * 200 + data[-2:]) == (Reason.CORRUPT_IMAGE, "JPEG: 209 scans")

    def test_addresses_of_memory_are_not_told(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError(f"cannot identify {io.BytesIO()!r}")

        monkeypatch.setattr("beam_pipelines.images._decode", fail)
        assert reason_for(encoded(corners(), "PNG")) == (Reason.CORRUPT_IMAGE, "PNG: OSError")


class TestCheckImage:
    @pytest.mark.parametrize(
        ("name", "kind"), [("JPEG", "JPEG"), ("PNG", "PNG"), ("GIF", "GIF"), ("BMP", "BMP"), ("WEBP", "WebP")]
    )
    def test_says_what_the_header_says(self, name: str, kind: str) -> None:
        assert check_image(encoded(corners(97, 64), name)) == ImageHeader(kind, 97, 64)

    def test_sides_are_those_that_are_stored(self) -> None:
        assert check_image(with_exif(6)) == ImageHeader("JPEG", 96, 64)

    def test_no_pixel_is_decoded(self) -> None:
        assert check_image(png_header(9_000, 9_000)) == ImageHeader("PNG", 9_000, 9_000)
        whole = encoded(photograph(120, 90), "JPEG")
        assert check_image(whole[: len(whole) // 2]) == ImageHeader("JPEG", 120, 90)

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
    def test_limits(self, kind: str) -> None:
        data = encoded(corners(96, 12), kind)
        assert check_image(data, limits=ImageLimits(min_side=1)).height == 12
        with pytest.raises(RejectedError) as too_small:
            check_image(data)
        assert (too_small.value.reason, too_small.value.detail) == (Reason.TOO_SMALL, "96x12 pixels")
        with pytest.raises(RejectedError) as too_large:
            check_image(data, limits=ImageLimits(min_side=1, max_pixels=96 * 12 - 1))
        assert too_large.value.reason == Reason.TOO_MANY_PIXELS

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (b"", Reason.EMPTY),
            (b"<html></html>", Reason.HTML_PAGE),
            (b"a text", Reason.NOT_AN_IMAGE),
            (b"GIF89a", Reason.CORRUPT_IMAGE),
            (b"\x89PNG\r\n\x1a\n", Reason.CORRUPT_IMAGE),
        ],
    )
    def test_what_is_no_picture(self, data: bytes, reason: Reason) -> None:
        with pytest.raises(RejectedError) as caught:
            check_image(data)
        assert caught.value.reason == reason


class TestSize:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            ((3000, 2250), (427, 320)),
            ((2250, 3000), (320, 427)),
            ((321, 321), (320, 320)),
            ((320, 9000), (320, 9000)),
            ((100, 50), (100, 50)),
            ((640, 641), (320, 321)),
        ],
    )
    def test_shorter_side(self, before: tuple[int, int], after: tuple[int, int]) -> None:
        assert shrunk_size(*before, 320) == after

    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "WEBP"])
    @pytest.mark.parametrize("size", [16, 37, 64, 100])
    def test_every_format(self, kind: str, size: int) -> None:
        picture = shrink(encoded(corners(197, 131), kind), size=size)
        assert (picture.width, picture.height) == shrunk_size(197, 131, size)
        assert_corners(picture, [RED, GREEN, BLUE, WHITE])

    @pytest.mark.parametrize("progressive", [False, True])
    @pytest.mark.parametrize("size", [300, 299, 225, 150, 149, 75])
    def test_is_near_a_full_decode_with_lanczos(self, size: int, progressive: bool) -> None:
        data = encoded(photograph(800, 600), "JPEG", quality=92, progressive=progressive)
        assert psnr_against_lanczos(shrink(data, size=size, quality=100), data) > 38

    def test_sides_that_are_no_multiple_of_eight_are_not_squeezed(self) -> None:
        data = encoded(photograph(137, 137), "JPEG", quality=95)
        assert psnr_against_lanczos(shrink(data, size=17, quality=100), data) > 31

    def test_png_shrunk_a_lot_is_near_lanczos(self) -> None:
        data = encoded(photograph(800, 600), "PNG", compress_level=1)
        assert psnr_against_lanczos(shrink(data, size=80, quality=100), data) > 40

    def test_draft_decoding_is_used(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sizes: list[tuple[int, int]] = []
        resize = Image.Image.resize

        def spy(self: Image.Image, *args: object, **options: object) -> Image.Image:
            sizes.append(self.size)
            return resize(self, *args, **options)  # type: ignore[arg-type]

        monkeypatch.setattr(Image.Image, "resize", spy)
        shrink(encoded(photograph(800, 600), "JPEG"), size=149)
        assert sizes[0] == (200, 150)


class TestOutput:
    def test_is_baseline_420_of_the_quality_without_metadata(self) -> None:
        exif = Image.Exif()
        exif[0x010F] = "a camera"
        data = encoded(
            photograph(120, 90), "JPEG", exif=exif, icc_profile=b"profile" * 9, comment=b"a comment", dpi=(9, 9)
        )
        jpeg = shrink(data, size=64, quality=75).jpeg
        image = Image.open(io.BytesIO(jpeg))
        assert not {"exif", "icc_profile", "comment", "progressive"} & set(image.info)
        assert image.layer == [(1, 2, 2, 0), (2, 1, 1, 1), (3, 1, 1, 1)]  # type: ignore[attr-defined]
        assert b"\xff\xc0" in jpeg
        assert b"profile" not in jpeg
        assert image.quantization == Image.open(io.BytesIO(encoded(corners(), "JPEG"))).quantization  # type: ignore[attr-defined]
        assert len(jpeg) < len(shrink(data, size=64, quality=95).jpeg)

    @pytest.mark.parametrize("kind", ["PNG", "GIF", "WEBP"])
    def test_comments_and_profiles_of_other_formats_stay_behind(self, kind: str) -> None:
        data = encoded(corners(), kind, comment=b"a comment", icc_profile=b"profile" * 9)
        jpeg = shrink(data).jpeg
        assert b"comment" not in jpeg
        assert b"profile" not in jpeg

    def test_is_the_same_on_any_thread(self) -> None:
        data = encoded(photograph(800, 600), "JPEG")
        with ThreadPoolExecutor(4) as threads:
            assert len({picture.jpeg for picture in threads.map(lambda _: shrink(data), range(8))}) == 1


class TestOrientation:
    @pytest.mark.parametrize(
        ("orientation", "expected"),
        [
            (1, [RED, GREEN, BLUE, WHITE]),
            (2, [GREEN, RED, WHITE, BLUE]),
            (3, [WHITE, BLUE, GREEN, RED]),
            (4, [BLUE, WHITE, RED, GREEN]),
            (5, [RED, BLUE, GREEN, WHITE]),
            (6, [BLUE, RED, WHITE, GREEN]),
            (7, [WHITE, GREEN, BLUE, RED]),
            (8, [GREEN, WHITE, RED, BLUE]),
        ],
    )
    @pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
    def test_each(self, orientation: int, expected: list[tuple[int, int, int]], kind: str) -> None:
        picture = shrink(with_exif(orientation, kind=kind), size=48)
        assert (picture.width, picture.height) == ((72, 48) if orientation < 5 else (48, 72))
        assert picture.original_size == ((96, 64) if orientation < 5 else (64, 96))
        assert_corners(picture, expected)

    def test_other_byte_order(self) -> None:
        assert shrink(with_exif(6, order=">")).height == 96

    @pytest.mark.parametrize("orientation", [0, 9, 65_535])
    def test_unknown_ones_are_ignored(self, orientation: int) -> None:
        assert_corners(shrink(with_exif(orientation)), [RED, GREEN, BLUE, WHITE])

    @pytest.mark.parametrize(
        "exif",
        [
            b"",
            b"Exif\0\0",
            b"Exif\0\0MM",
            b"Exif\0\0II*\0\xff\xff\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\xff\xff",
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x07\0\x01\0\0\0\x06\0\0\0",
            b"Exif\0\0II*\0\x08\0\0\0\x01\0\x1a\x01\x05\0\x01\0\0\0\xff\xff\xff\xff",
            b"Exif\0\0garbage all along",
        ],
    )
    def test_malformed_exif_is_ignored(self, exif: bytes) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert_corners(shrink(encoded(corners(), "JPEG", exif=exif)), [RED, GREEN, BLUE, WHITE])


def transparent_quarter() -> Image.Image:
    """`corners` with a black, transparent lower right quarter."""
    image = corners().convert("RGBA")
    image.paste((0, 0, 0, 0), (48, 32, 96, 64))
    return image


def palette_with_transparency(alphas: bytes | int) -> bytes:
    image = Image.new("P", (64, 64), 0)
    image.putpalette([*RED, *BLUE, 0, 0, 0])
    image.paste(1, (32, 0, 64, 32))
    image.paste(2, (0, 32, 64, 64))
    return encoded(image, "PNG", transparency=alphas)


class TestModes:
    @pytest.mark.parametrize("kind", ["PNG", "WEBP"])
    @pytest.mark.parametrize("size", [20, 320])
    def test_transparency_becomes_white(self, kind: str, size: int) -> None:
        options = {"lossless": True} if kind == "WEBP" else {}
        picture = shrink(encoded(transparent_quarter(), kind, **options), size=size)
        assert_corners(picture, [RED, GREEN, BLUE, WHITE])

    def test_colours_under_transparency_do_not_bleed(self) -> None:
        image = Image.new("RGBA", (512, 512), (0, 0, 0, 0))
        image.paste((*WHITE, 255), (0, 0, 256, 512))
        assert pixels_of(shrink(encoded(image, "PNG"), size=41)).min() > 250

    def test_half_transparent(self) -> None:
        picture = shrink(encoded(Image.new("RGBA", (64, 64), (0, 0, 0, 128)), "PNG"))
        np.testing.assert_allclose(pixels_of(picture), 127, atol=3)

    def test_grey_with_alpha(self) -> None:
        image = Image.new("LA", (64, 64), (0, 0))
        image.paste((90, 255), (0, 0, 32, 64))
        pixels = pixels_of(shrink(encoded(image, "PNG"), size=32))
        np.testing.assert_allclose(pixels[16, [8, 24], 0], [90, 255], atol=4)

    @pytest.mark.parametrize("alphas", [2, b"\xff\xff\x00"])
    def test_palette_with_a_transparent_colour(self, alphas: bytes | int) -> None:
        assert_corners(shrink(palette_with_transparency(alphas)), [RED, BLUE, WHITE, WHITE])

    def test_palette_with_half_transparent_colours(self) -> None:
        picture = shrink(palette_with_transparency(b"\xff\xff\x80"))
        assert_corners(picture, [RED, BLUE, (127, 127, 127), (127, 127, 127)])

    def test_gif_with_a_transparent_colour(self) -> None:
        image = Image.new("P", (64, 64), 0)
        image.putpalette([0, 0, 0, *RED])
        image.paste(1, (0, 0, 64, 32))
        assert_corners(shrink(encoded(image, "GIF", transparency=0)), [RED, RED, WHITE, WHITE])

    @pytest.mark.parametrize(
        ("depth", "colour_type", "left", "right", "transparent", "shown"),
        [
            (1, 0, b"\x00", b"\xff", b"\0\0", (255, 255)),
            (2, 0, b"\xaa", b"\x00", b"\0\2", (255, 0)),
            (4, 0, b"\x55", b"\x44", b"\0\5", (255, 68)),
            (8, 0, b"\x64", b"\x65", b"\0\x64", (255, 101)),
            (16, 0, b"\x40\x01", b"\x40\x02", b"\x40\x01", (255, 64)),
            (8, 2, b"\x40\x40\x40", b"\x44\x44\x44", b"\0\x40" * 3, (255, 68)),
            (16, 2, b"\x40\x01" * 3, b"\x80\x01" * 3, b"\x40\x01" * 3, (255, 128)),
        ],
    )
    def test_one_transparent_value_at_every_depth(
        self, depth: int, colour_type: int, left: bytes, right: bytes, transparent: bytes, shown: tuple[int, int]
    ) -> None:
        bytes_a_side = 32 * depth * (3 if colour_type == 2 else 1) // 8
        row = left * (bytes_a_side // len(left)) + right * (bytes_a_side // len(right))
        data = png(size=(64, 64), depth=depth, colour_type=colour_type, rows=[row] * 64, transparent=transparent)
        pixels = pixels_of(shrink(data))
        np.testing.assert_allclose(pixels[32, [8, 56], 0], shown, atol=4)

    def test_16_bit_grey_keeps_its_gradient(self) -> None:
        grey = np.tile(np.linspace(0, 65_535, 256).astype(np.uint16), (64, 1))
        pixels = pixels_of(shrink(encoded(Image.fromarray(grey), "PNG")))
        np.testing.assert_allclose(pixels[32, :, 0], np.arange(256), atol=4)

    @pytest.mark.parametrize("mode", ["1", "L", "P"])
    @pytest.mark.parametrize("kind", ["PNG", "BMP", "GIF"])
    def test_few_colours(self, mode: str, kind: str) -> None:
        image = Image.new("L", (64, 64), 0)
        image.paste(255, (32, 0, 64, 64))
        assert_corners(shrink(encoded(image.convert(mode), kind), size=32), [(0, 0, 0), WHITE, (0, 0, 0), WHITE])

    def test_palette_colours_are_averaged_not_indices(self) -> None:
        image = Image.new("P", (64, 64), 0)
        image.putpalette([0, 0, 0, *GREEN, *WHITE])
        for x in range(0, 64, 2):
            image.paste(2, (x, 0, x + 1, 64))
        np.testing.assert_allclose(pixels_of(shrink(encoded(image, "PNG"), size=16))[8, 8], (127, 127, 127), atol=9)

    def test_grey_jpeg(self) -> None:
        np.testing.assert_allclose(pixels_of(shrink(encoded(Image.new("L", (64, 64), 77), "JPEG"))), 77, atol=2)

    @pytest.mark.parametrize("size", [24, 320])
    def test_cmyk_jpeg(self, size: int) -> None:
        data = encoded(corners().convert("CMYK"), "JPEG", quality=95)
        assert_corners(shrink(data, size=size), [RED, GREEN, BLUE, WHITE])

    def test_ycck_jpeg(self) -> None:
        data = encoded(Image.new("CMYK", (64, 64), (128, 128, 128, 0)), "JPEG", quality=95)
        adobe = data.index(b"Adobe")
        ycck = data[: adobe + 11] + b"\x02" + data[adobe + 12 :]
        np.testing.assert_allclose(pixels_of(shrink(ycck)), 127, atol=6)

    def test_rgb_jpeg_without_colour_transform(self) -> None:
        data = encoded(corners(), "JPEG", quality=95, keep_rgb=True, subsampling=0)
        assert_corners(shrink(data), [RED, GREEN, BLUE, WHITE])

    @pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP", "MPO"])
    def test_first_frame_of_many(self, kind: str) -> None:
        frames = [Image.new("RGB", (96, 64), BLUE), Image.new("RGB", (96, 64), GREEN)]
        data = encoded(corners(), kind, save_all=True, append_images=frames)
        assert_corners(shrink(data), [RED, GREEN, BLUE, WHITE])

    def test_gif_frame_larger_than_its_screen(self) -> None:
        data = bytearray(encoded(corners(), "GIF"))
        data[6:10] = struct.pack("<HH", 20, 20)
        assert shrink(bytes(data)).width == 96


class Gauge:
    """Counts what runs at the same time."""

    def __init__(self) -> None:
        self.now = self.most = 0
        self._lock = threading.Lock()

    def move(self, step: int) -> None:
        with self._lock:
            self.now += step
            self.most = max(self.most, self.now)


def let_others_run() -> None:
    for _ in range(100):
        os.sched_yield()


def wait_until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < end
        os.sched_yield()


class TestPixelGate:
    def test_budget_is_never_exceeded(self) -> None:
        gate, gauge, draw = PixelGate(100), Gauge(), random.Random(0)

        def work(pixels: int) -> None:
            with gate.hold(pixels):
                gauge.move(pixels)
                let_others_run()
                gauge.move(-pixels)

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(work, [draw.randint(1, 100) for _ in range(60)]))
        assert gauge.now == 0
        assert 50 < gauge.most <= 100

    def test_a_picture_larger_than_the_budget_goes_alone(self) -> None:
        gate, gauge = PixelGate(10), Gauge()

        def work(pixels: int) -> None:
            with gate.hold(pixels):
                gauge.move(1)
                let_others_run()
                gauge.move(-1)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(work, [1_000] * 6))
        assert gauge.most == 1

    def test_small_ones_do_not_overtake_a_large_one(self) -> None:
        gate, order = PixelGate(10), list[str]()
        waiting = gate._queue

        def work(name: str, pixels: int) -> None:
            with gate.hold(pixels):
                order.append(name)

        with ThreadPoolExecutor(3) as threads, gate.hold(5):
            threads.submit(work, "large", 10)
            wait_until(lambda: len(waiting) == 1)
            threads.submit(work, "small", 1)
            wait_until(lambda: len(waiting) == 2)
            assert order == []
        assert order == ["large", "small"]

    def test_an_error_inside_gives_the_room_back(self) -> None:
        gate = PixelGate(10)
        for _ in range(3):
            with pytest.raises(ZeroDivisionError), gate.hold(10):
                raise ZeroDivisionError
        with gate.hold(10):
            pass

    def test_refuses_an_empty_budget(self) -> None:
        with pytest.raises(ValueError, match="positive budget, not 0"):
            PixelGate(0)

    @pytest.mark.parametrize(
        ("data", "pixels"),
        [
            (encoded(photograph(800, 600), "JPEG"), 200 * 150),
            (encoded(photograph(800, 600), "JPEG", progressive=True), 800 * 600 * 2),
            (encoded(photograph(800, 600), "PNG", compress_level=1), 800 * 600),
            (encoded(photograph(800, 600).convert("RGBA"), "PNG", compress_level=1), 800 * 600 * 3),
            (encoded(photograph(800, 600), "WEBP", method=0), 800 * 600 * 5),
        ],
    )
    def test_holds_what_is_decoded(self, data: bytes, pixels: int, monkeypatch: pytest.MonkeyPatch) -> None:
        held = list[int]()
        hold = PixelGate.hold

        def spy(self: PixelGate, pixels: int) -> object:
            held.append(pixels)
            return hold(self, pixels)

        monkeypatch.setattr(PixelGate, "hold", spy)
        shrink(data, size=149, pixel_gate=PixelGate(1_000))
        assert held == [pixels]

    def test_refused_pictures_give_the_room_back(self) -> None:
        gate = PixelGate(1_000)
        data = encoded(photograph(120, 90), "JPEG")
        for _ in range(3):
            with pytest.raises(RejectedError):
                shrink(data[:-300], pixel_gate=gate)
        assert shrink(data, pixel_gate=gate).width == 120


def samples() -> list[bytes]:
    image, turned = photograph(60, 45), photograph(60, 45, 1)
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x0128] = 6, 72.0, 2
    frames: dict[str, object] = {"save_all": True, "append_images": [turned]}
    return [
        encoded(image, "JPEG", exif=exif),
        encoded(image, "JPEG", progressive=True),
        encoded(image.convert("CMYK"), "JPEG"),
        encoded(image, "MPO", **frames),
        encoded(image, "PNG", exif=exif),
        encoded(image.quantize(16), "PNG", transparency=3),
        encoded(image.convert("L").convert("I;16"), "PNG"),
        encoded(image.convert("RGBA"), "PNG", **frames),
        encoded(image.quantize(32), "GIF", **frames),
        encoded(image, "BMP"),
        encoded(image.quantize(32), "BMP"),
        encoded(image, "WEBP", exif=exif),
        encoded(image, "WEBP", lossless=True),
        encoded(image.convert("RGBA"), "WEBP", **frames),
    ]


SAMPLES = samples()
LIMITS = ImageLimits(max_pixels=1_000_000)


def outcome(data: bytes) -> Picture | tuple[Reason, str]:
    try:
        return shrink(data, size=32, limits=LIMITS)
    except RejectedError as error:
        return error.reason, error.detail


def check_outcome(data: bytes) -> None:
    found = outcome(data)
    assert found == outcome(data)
    if isinstance(found, Picture):
        pixels_of(found)
        assert 16 <= min(found.width, found.height) <= 32
    else:
        assert found[0].stage == "image"
        assert " at 0x" not in found[1]


class TestHostileBytes:
    def test_samples_are_good(self) -> None:
        for data in SAMPLES:
            assert 32 in pixels_of(shrink(data, size=32)).shape

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=200), st.sampled_from([0, 4, 8, 12, 16, 30]), st.sampled_from(SAMPLES))
    def test_arbitrary_bytes(self, data: bytes, kept: int, sample: bytes) -> None:
        check_outcome(sample[:kept] + data)

    @settings(deadline=None, max_examples=100)
    @given(st.binary(max_size=60), st.sampled_from([0, 4, 8, 12, 16, 30]), st.sampled_from(SAMPLES))
    def test_headers_of_arbitrary_bytes(self, data: bytes, kept: int, sample: bytes) -> None:
        with contextlib.suppress(RejectedError):
            header = check_image(sample[:kept] + data)
            assert min(header.width, header.height) >= 16

    @settings(deadline=None, max_examples=250)
    @given(
        st.sampled_from(SAMPLES),
        st.lists(st.tuples(st.integers(0, 20_000), st.integers(0, 255)), max_size=8),
        st.sampled_from([64, 700, 20_000]),
        st.none() | st.integers(0, 20_000),
    )
    def test_mutated_and_truncated_pictures(
        self, sample: bytes, changes: list[tuple[int, int]], window: int, cut: int | None
    ) -> None:
        data = bytearray(sample)
        for place, value in changes:
            data[place % min(window, len(data))] = value
        check_outcome(bytes(data if cut is None else data[: cut % len(data)]))


class TestThumbnail:
    @pytest.mark.parametrize(
        ("size", "expected"),
        [((320, 480), (85, 128)), ((480, 320), (128, 85)), ((100, 90), (100, 90)), ((9_000, 20), (128, 1))],
    )
    def test_fits_and_keeps_its_shape(self, size: tuple[int, int], expected: tuple[int, int]) -> None:
        small = thumbnail(encoded(photograph(*size), "JPEG"), side=128)
        assert (small.width, small.height) == expected
        assert pixels_of(small).shape == (*expected[::-1], 3)

    def test_shows_the_same(self) -> None:
        assert_corners(thumbnail(shrink(encoded(corners(), "PNG")).jpeg, side=32), [RED, GREEN, BLUE, WHITE])
