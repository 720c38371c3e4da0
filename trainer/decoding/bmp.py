"""BMPs to pixels, in TensorFlow operations: uncompressed ones of 1, 4, 8, 16, 24 and 32 bits.

They are read here, because TensorFlow takes palettes for greys, and refuses files with a byte too many.
"""

import dataclasses

import tensorflow as tf

from trainer.decoding.byte_strings import length, little, numbers, piece, require
from trainer.decoding.decoded import Decoded, decoded
from trainer.decoding.transparency import on_white

_FILE_HEADER_BYTES = 14
_OLD_HEADER_BYTES = 12
_HEADER_WITH_OPACITY_BYTES = 56
_MASKS_AT = 54
_PLAIN, _BITFIELDS = 0, 3
_COLOURS = 256
# Which bits of a pixel are its red, green, blue and opacity.
_MASKS_555, _MASKS_565 = (0x7C00, 0x3E0, 0x1F), (0xF800, 0x7E0, 0x1F)
_MASKS_888 = (0xFF0000, 0xFF00, 0xFF)
_MASK_OF_OPACITY = 0xFF000000


@dataclasses.dataclass(frozen=True)
class _Header:
    """What the header says; all int64, but for the conditions.

    Attributes:
        width: pixels.
        height: pixels.
        is_upside_down: whether the lowest row comes first.
        bits: of a pixel.
        colours: of the palette.
        colour_bytes: of each of them.
        palette_at: where the palette begins.
        pixels_at: where the rows begin.
        masks: int64 [4]; of plain pixels those that they have.
        is_plain: neither compressed nor laid out by masks.
        is_known: not compressed.
    """

    width: tf.Tensor
    height: tf.Tensor
    is_upside_down: tf.Tensor
    bits: tf.Tensor
    colours: tf.Tensor
    colour_bytes: tf.Tensor
    palette_at: tf.Tensor
    pixels_at: tf.Tensor
    masks: tf.Tensor
    is_plain: tf.Tensor
    is_known: tf.Tensor

    @property
    def row_bytes(self) -> tf.Tensor:
        """Bytes of a row, which is filled up to a multiple of four."""
        return (self.width * self.bits + 31) // 32 * 4


def decode(encoded: tf.Tensor, *, max_pixels: int) -> Decoded:
    """Returns the picture of a BMP; fails for one that is compressed."""
    header = _read_header(encoded)
    is_small = (header.width > 0) & (header.height > 0) & (header.width <= max_pixels)
    checked = require(encoded, is_small & (header.width * header.height <= max_pixels), "too many pixels, or none")
    size = header.row_bytes * header.height
    checked = require(checked, header.pixels_at + size <= length(checked), "cut short")
    rows = tf.reshape(
        tf.io.decode_raw(piece(checked, header.pixels_at, size), tf.uint8), tf.stack([header.height, header.row_bytes])
    )
    from_top = tf.cond(header.is_upside_down, lambda: tf.reverse(rows, [0]), lambda: rows)
    return decoded(_colours_of(checked, header, from_top))


def _read_header(encoded: tf.Tensor) -> _Header:
    head = numbers(encoded, 0, 70)
    header_bytes = little(head[14:18])
    is_old = header_bytes == _OLD_HEADER_BYTES

    def field(old: tuple[int, int] | int, new: tuple[int, int]) -> tf.Tensor:
        before = tf.constant(old, tf.int64) if isinstance(old, int) else little(head[slice(*old)])
        return tf.where(is_old, before, little(head[slice(*new)]))

    height, bits, compression = field((20, 22), (22, 26)), field((24, 26), (28, 30)), field(_PLAIN, (30, 34))
    is_upside_down = height < 2**31
    stated_colours, colour_bytes = field(0, (46, 50)), tf.where(is_old, tf.constant(3, tf.int64), 4)
    colours = tf.where(stated_colours == 0, tf.bitwise.left_shift(tf.ones_like(bits), bits % 32), stated_colours)
    palette_at, stated_at = _FILE_HEADER_BYTES + header_bytes, little(head[10:14])
    has_forgotten_palette = (stated_at == palette_at) & (bits <= 8)
    masks = little(tf.reshape(numbers(encoded, _MASKS_AT, 16), [4, 4]))
    has_opacity = header_bytes >= _HEADER_WITH_OPACITY_BYTES
    return _Header(
        width=field((18, 20), (18, 22)),
        height=tf.where(is_upside_down, height, 2**32 - height),
        is_upside_down=is_upside_down,
        bits=bits,
        colours=colours,
        colour_bytes=colour_bytes,
        palette_at=palette_at,
        pixels_at=tf.where(has_forgotten_palette, stated_at + colours * colour_bytes, stated_at),
        masks=tf.where(has_opacity, masks, masks * tf.constant([1, 1, 1, 0], tf.int64)),
        is_plain=compression == _PLAIN,
        is_known=(compression == _PLAIN) | (compression == _BITFIELDS),
    )


def _colours_of(encoded: tf.Tensor, header: _Header, rows: tf.Tensor) -> tf.Tensor:
    """Returns the colours of rows of bytes, uint8 [height, row_bytes]; fails for a layout that is not known."""

    def has(bits: int) -> tf.Tensor:
        return header.is_plain & (header.bits == bits)

    def masked(bits: int, masks: tuple[int, ...], opacity: int = 0) -> tf.Tensor:
        is_same = tf.reduce_all(header.masks == tf.constant([*masks, opacity], tf.int64))
        return header.is_known & ~header.is_plain & (header.bits == bits) & is_same

    def by_palette(bits: int) -> tf.Tensor:
        return tf.gather(_palette(encoded, header), _indices(rows, header.width, bits))

    layouts = [
        (has(1), lambda: by_palette(1)),
        (has(4), lambda: by_palette(4)),
        (has(8), lambda: by_palette(8)),
        (has(16) | masked(16, _MASKS_555), lambda: _packed(rows, header.width, green_bits=5)),
        (masked(16, _MASKS_565), lambda: _packed(rows, header.width, green_bits=6)),
        (has(24) | masked(24, _MASKS_888), lambda: _channels(rows, header.width, 3)),
        (has(32) | masked(32, _MASKS_888), lambda: _channels(rows, header.width, 4)[..., :3]),
        (masked(32, _MASKS_888, _MASK_OF_OPACITY), lambda: on_white(_channels(rows, header.width, 4))),
    ]

    def unknown() -> tf.Tensor:
        return require(tf.zeros([1, 1, 3], tf.uint8), tf.constant(False), "compressed, or of an unknown layout")

    return tf.case(layouts, default=unknown)


def _channels(rows: tf.Tensor, width: tf.Tensor, count: int) -> tf.Tensor:
    """Returns pixels of whole bytes, uint8 [height, width, count]: red, green, blue, and the fourth if there is one."""
    pixels = tf.reshape(rows[:, : width * count], tf.stack([tf.shape(rows, tf.int64)[0], width, count]))
    return tf.gather(pixels, [2, 1, 0, 3][:count], axis=-1)


def _packed(rows: tf.Tensor, width: tf.Tensor, *, green_bits: int) -> tf.Tensor:
    """Returns pixels of two bytes, blue in the lowest five bits: uint8 [height, width, 3]."""
    two = tf.cast(tf.reshape(rows[:, : width * 2], tf.stack([tf.shape(rows, tf.int64)[0], width, 2])), tf.int32)
    packed = two[..., 0] + 256 * two[..., 1]
    blue, rest = packed % 32, packed // 32
    green, red = rest % 2**green_bits, rest // 2**green_bits % 32
    return tf.cast(tf.stack([red * 255 // 31, green * 255 // (2**green_bits - 1), blue * 255 // 31], axis=-1), tf.uint8)


def _indices(rows: tf.Tensor, width: tf.Tensor, bits: int) -> tf.Tensor:
    """Returns the numbers, int32 [height, width], of pixels that share bytes, the highest bits first."""
    in_byte = [2**shift for shift in range(8 - bits, -1, -bits)]
    apart = tf.cast(rows, tf.int32)[..., tf.newaxis] // tf.constant(in_byte) % 2**bits
    return tf.reshape(apart, tf.stack([tf.shape(rows)[0], -1]))[:, :width]


def _palette(encoded: tf.Tensor, header: _Header) -> tf.Tensor:
    """Returns 256 colours, uint8 [256, 3]; those that are missing are greys."""
    entries = numbers(encoded, header.palette_at, _COLOURS * header.colour_bytes)
    colours = tf.reshape(entries, tf.stack([_COLOURS, header.colour_bytes]))[:, 2::-1]
    places = tf.range(_COLOURS, dtype=tf.int64)[:, tf.newaxis]
    return tf.ensure_shape(tf.cast(tf.where(places < header.colours, colours, places), tf.uint8), [_COLOURS, 3])
