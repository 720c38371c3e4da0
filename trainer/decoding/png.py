"""PNGs to pixels, in TensorFlow operations."""

import tensorflow as tf

from trainer.decoding.byte_strings import big, is_at, length, numbers, piece, require
from trainer.decoding.decoded import Decoded, decoded
from trainer.decoding.exif import orientation_of
from trainer.decoding.transparency import on_white

_FIRST_CHUNK = 8
# A picture of 100 MB in chunks of 8 KB has about 12,000.
_MAX_CHUNKS = 20_000
_WITH_ALPHA = 4
_EXIF, _TRANSPARENCY, _END = (int.from_bytes(name, "big") for name in (b"eXIf", b"tRNS", b"IEND"))


def decode(encoded: tf.Tensor, *, max_pixels: int) -> Decoded:
    """Returns the picture of a PNG of any kind; of 16 bits the higher eight."""
    header = numbers(encoded, _FIRST_CHUNK, 18)
    checked = require(encoded, is_at(encoded, _FIRST_CHUNK + 4, b"IHDR"), "no PNG")
    checked = require(checked, big(header[8:12]) * big(header[12:16]) <= max_pixels, "too many pixels")
    exif, has_transparency = _chunks(checked)
    has_alpha = has_transparency | (header[17] // _WITH_ALPHA % 2 > 0)
    pixels = tf.cond(
        has_alpha,
        lambda: on_white(tf.io.decode_png(checked, channels=4)),
        lambda: tf.io.decode_png(checked, channels=3),
    )
    return decoded(pixels, orientation_of(exif))


def _chunks(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns the EXIF, empty if there is none, and whether a colour is transparent."""
    zero = tf.constant(0, tf.int64)

    def is_before_end(at: tf.Tensor, name: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (name != _END) & (at < length(encoded))

    def read(
        at: tf.Tensor, _: tf.Tensor, transparent: tf.Tensor, exif_at: tf.Tensor, exif_bytes: tf.Tensor
    ) -> list[tf.Tensor]:
        head = numbers(encoded, at, 8)
        size, name = big(head[:4]), big(head[4:])
        return [
            at + 12 + size,
            name,
            transparent | (name == _TRANSPARENCY),
            tf.where(name == _EXIF, at + 8, exif_at),
            tf.where(name == _EXIF, size, exif_bytes),
        ]

    start = [zero + _FIRST_CHUNK, zero, tf.constant(False), zero, zero]
    _, _, transparent, exif_at, exif_bytes = tf.while_loop(is_before_end, read, start, maximum_iterations=_MAX_CHUNKS)
    return piece(encoded, exif_at, exif_bytes), transparent
