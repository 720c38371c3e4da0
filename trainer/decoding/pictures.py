"""Pictures of any kind to pixels, in TensorFlow operations.

What comes out is what ingest makes of the same bytes with Pillow: upright, on white, three channels, of an animation
the first frame.
"""

import functools
from collections.abc import Callable

import tensorflow as tf

from trainer.decoding import bmp, gif, jpeg, png, webp
from trainer.decoding.byte_strings import is_at, little, numbers, require
from trainer.decoding.decoded import Decoded, decoded
from trainer.decoding.exif import upright
from trainer.pixels import resize

_BMP_HEADER_BYTES = (12, 40, 52, 56, 64, 108, 124)


def read_picture(encoded: tf.Tensor, *, size: int, max_pixels: int) -> tf.Tensor:
    """Returns the whole picture squashed to a square, upright and on white: float32 [size, size, 3] in 0..255.

    Args:
        encoded: string scalar, the bytes of a JPEG, PNG, GIF, BMP or WebP file.
        size: side of the square, in pixels.
        max_pixels: width times height at most, by what the header says; nothing larger is decoded.

    Raises:
        tf.errors.InvalidArgumentError: when the operation runs, if the bytes are none of these, damaged or too large.
    """
    kinds = [
        (is_at(encoded, 0, b"\xff\xd8\xff"), functools.partial(jpeg.decode, size=size, max_pixels=max_pixels)),
        (is_at(encoded, 0, b"\x89PNG\r\n\x1a\n"), functools.partial(png.decode, max_pixels=max_pixels)),
        (_is_webp(encoded), functools.partial(webp.decode, max_pixels=max_pixels)),
        (_is_gif(encoded), functools.partial(gif.decode, max_pixels=max_pixels)),
        (_is_bmp(encoded), functools.partial(bmp.decode, max_pixels=max_pixels)),
    ]
    branches = [(is_kind, functools.partial(_apart(decode), encoded)) for is_kind, decode in kinds]
    pixels, sides, orientation = tf.case(branches, default=_no_picture)
    return upright(resize(pixels, size, sides=sides), orientation)


def _apart(decode: Callable[[tf.Tensor], Decoded]) -> Callable[[tf.Tensor], Decoded]:
    """Returns a decoder as a function of its own in the graph.

    Otherwise TensorFlow would go through all the operations of all decoders for each picture, to find them not needed,
    which takes longer than to decode a small one.
    """
    signature = [tf.TensorSpec([], tf.string)]
    apart: Callable[[tf.Tensor], Decoded] = tf.function(
        decode, signature, autograph=False, experimental_attributes={"_noinline": True}
    )
    return apart


def _is_webp(encoded: tf.Tensor) -> tf.Tensor:
    return is_at(encoded, 0, b"RIFF") & is_at(encoded, 8, b"WEBP")


def _is_gif(encoded: tf.Tensor) -> tf.Tensor:
    return is_at(encoded, 0, b"GIF87a") | is_at(encoded, 0, b"GIF89a")


def _is_bmp(encoded: tf.Tensor) -> tf.Tensor:
    header_bytes = little(numbers(encoded, 14, 4))
    return is_at(encoded, 0, b"BM") & tf.reduce_any(header_bytes == tf.constant(_BMP_HEADER_BYTES, tf.int64))


def _no_picture() -> Decoded:
    return decoded(require(tf.zeros([1, 1, 3], tf.uint8), tf.constant(False), "no picture"))
