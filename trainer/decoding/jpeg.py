"""JPEGs to pixels, in TensorFlow operations."""

import tensorflow as tf

from trainer.decoding.byte_strings import big, numbers, piece, require
from trainer.decoding.decoded import Decoded
from trainer.decoding.exif import orientation_of
from trainer.pixels import decode_for_size

# As in ingest: each scan costs a pass over all pixels.
_MAX_SCANS = 100
_MAX_SEGMENTS = 1_000
_EXIF = tuple(b"Exif\0\0")
_APP1, _START_OF_SCAN, _END = 0xE1, 0xDA, 0xD9
# Frames that are sent in one pass, if their first scan has all their components.
_SEQUENTIAL = (0xC0, 0xC1)
_NO_FRAMES = (0xC4, 0xC8, 0xCC)


def decode(encoded: tf.Tensor, *, size: int, max_pixels: int) -> Decoded:
    """Returns a JPEG's picture, a large one at a fraction of its size.

    Args:
        encoded: string scalar.
        size: side of the square that it is for, in pixels.
        max_pixels: width times height at most, of the picture as it came.
    """
    shape = tf.io.extract_jpeg_shape(encoded, output_type=tf.int64)
    checked = require(encoded, shape[0] * shape[1] <= max_pixels, "too many pixels")
    exif, scans = _segments(checked)
    checked = require(checked, scans <= _MAX_SCANS, "too many scans")
    pixels, sides = decode_for_size(checked, size)
    return Decoded(pixels=pixels, sides=sides, orientation=orientation_of(exif))


def _segments(encoded: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns what the segments before the first scan tell: the EXIF, empty if there is none, and how many scans."""
    zero = tf.constant(0, tf.int64)

    def is_before_scan(at: tf.Tensor, code: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return (code != _START_OF_SCAN) & (code != _END) & (at < tf.cast(tf.strings.length(encoded), tf.int64))

    def read(
        at: tf.Tensor, code: tf.Tensor, frame: tf.Tensor, exif_at: tf.Tensor, exif_bytes: tf.Tensor
    ) -> list[tf.Tensor]:
        head = numbers(encoded, at, 10)
        is_marker = head[0] == 0xFF
        code = tf.where(is_marker, head[1], 0)
        size = big(head[2:4])
        is_exif = (code == _APP1) & tf.reduce_all(head[4:] == tf.constant(_EXIF, tf.int64)) & (exif_at == 0)
        is_frame = (code >= 0xC0) & (code <= 0xCF) & tf.reduce_all(code != tf.constant(_NO_FRAMES, tf.int64))
        is_bare = (code <= 1) | ((code >= 0xD0) & (code <= 0xD8))
        step = tf.where(is_marker & (code != 0xFF), tf.where(is_bare, tf.constant(2, tf.int64), 2 + size), 1)
        return [
            tf.where(code == _START_OF_SCAN, at, at + step),
            code,
            tf.where(is_frame, code * 256 + head[9], frame),
            tf.where(is_exif, at + 4, exif_at),
            tf.where(is_exif, size - 2, exif_bytes),
        ]

    at, _, frame, exif_at, exif_bytes = tf.while_loop(
        is_before_scan, read, [zero + 2, zero, zero, zero, zero], maximum_iterations=_MAX_SEGMENTS
    )
    is_sequential = tf.reduce_any(frame // 256 == tf.constant(_SEQUENTIAL, tf.int64))
    is_whole = is_sequential & (numbers(encoded, at + 4, 1)[0] == frame % 256)
    scans = tf.cond(is_whole, lambda: tf.constant(1, tf.int64), lambda: _count_scans(encoded))
    return piece(encoded, exif_at, exif_bytes), scans


def _count_scans(encoded: tf.Tensor) -> tf.Tensor:
    values = tf.io.decode_raw(encoded, tf.uint8)
    return tf.math.count_nonzero((values[:-1] == 0xFF) & (values[1:] == _START_OF_SCAN))
