"""GIFs to pixels, in TensorFlow operations.

Only the first frame is read: a file of it alone is made, with its colours as they are on white. A second frame of one
pixel behind it tells whether the first was read to its end: of a frame that is damaged TensorFlow takes what there is.
"""

import tensorflow as tf

from trainer.decoding.byte_strings import little, numbers, piece, require
from trainer.decoding.decoded import Decoded, decoded

_SCREEN_BYTES = 13
_EXTENSION, _FRAME, _END = 0x21, 0x2C, 0x3B
_GRAPHIC_CONTROL = 0xF9
_MAX_BLOCKS = 200_000
_MAX_EXTENSIONS = 1_000
_COLOURS = 256
_GREYS = b"".join(bytes([value]) * 3 for value in range(_COLOURS))
_SENTINEL = b"," + b"\0\0\0\0\1\0\1\0\0" + b"\2\2\x4c\1\0" + b";"


def decode(encoded: tf.Tensor, *, max_pixels: int) -> Decoded:
    """Returns the first frame.

    A frame smaller than its screen stands on the transparent colour, if there is one, or else on the first.
    """
    values = tf.concat([tf.io.decode_raw(encoded, tf.uint8), tf.zeros([1], tf.uint8)], axis=0)
    screen = numbers(encoded, 6, 7)
    at, transparent = _first_frame(values, _SCREEN_BYTES + _table_bytes(screen[4]))
    frame = numbers(encoded, at + 1, 9)
    left, top, width, height = (little(frame[place : place + 2]) for place in (0, 2, 4, 6))
    full_width = tf.maximum(little(screen[:2]), left + width)
    full_height = tf.maximum(little(screen[2:4]), top + height)
    checked = require(encoded, full_width * full_height <= max_pixels, "too many pixels")
    codes_at = at + 10 + _table_bytes(frame[8])
    end = _after_blocks(values, codes_at + 1)
    checked = require(checked, end < tf.size(values, tf.int64), "cut short")
    colours = _colours(checked, screen=screen[4], frame=frame[8], frame_table_at=at + 10, transparent=transparent)
    alone = tf.strings.join(
        [
            b"GIF89a",
            piece(checked, at + 5, 4),
            b"\xf7\0\0",
            colours,
            b",\0\0\0\0",
            piece(checked, at + 5, 4),
            tf.where(frame[8] // 0x40 % 2 > 0, b"\x40", b"\0"),
            piece(checked, codes_at, end - codes_at),
            _SENTINEL,
        ]
    )
    frames = tf.io.decode_gif(alone)
    whole = require(frames[0], tf.shape(frames)[0] == 2, "damaged")
    ground = numbers(colours, 3 * tf.maximum(transparent, 0), 3)
    return decoded(_on_screen(whole, ground, left=left, top=top, width=full_width, height=full_height))


def _table_bytes(flags: tf.Tensor) -> tf.Tensor:
    """Returns the size of the table of colours that flags tell of."""
    return tf.where(flags >= 0x80, 6 * tf.bitwise.left_shift(tf.ones_like(flags), flags % 8), 0)


def _first_frame(values: tf.Tensor, start: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns where the first frame begins, and which colour is transparent, -1 for none.

    Raises:
        tf.errors.InvalidArgumentError: when the operation runs, if there is none.
    """
    last = tf.size(values, tf.int64) - 1

    def value(at: tf.Tensor) -> tf.Tensor:
        return tf.cast(values[tf.minimum(at, last)], tf.int64)

    def is_before_frame(at: tf.Tensor, _: tf.Tensor) -> tf.Tensor:
        return (value(at) != _FRAME) & (value(at) != _END) & (at < last)

    def read(at: tf.Tensor, transparent: tf.Tensor) -> list[tf.Tensor]:
        is_control = (value(at) == _EXTENSION) & (value(at + 1) == _GRAPHIC_CONTROL) & (value(at + 2) >= 4)
        has_colour = is_control & (value(at + 3) % 2 > 0)
        behind = tf.cond(value(at) == _EXTENSION, lambda: _after_blocks(values, at + 2), lambda: at + 1)
        return [behind, tf.where(has_colour, value(at + 6), transparent)]

    at, transparent = tf.while_loop(
        is_before_frame, read, [start, tf.constant(-1, tf.int64)], maximum_iterations=_MAX_EXTENSIONS
    )
    return require(at, value(at) == _FRAME, "no frame"), transparent


def _after_blocks(values: tf.Tensor, start: tf.Tensor) -> tf.Tensor:
    """Returns what lies behind a chain of blocks; behind the end of `values` if it is cut short or very long."""
    last = tf.size(values, tf.int64) - 1

    def block_bytes(at: tf.Tensor) -> tf.Tensor:
        return tf.cast(values[tf.minimum(at, last)], tf.int64)

    (at,) = tf.while_loop(
        lambda at: block_bytes(at) > 0,
        lambda at: [at + 1 + block_bytes(at)],
        [start],
        maximum_iterations=_MAX_BLOCKS,
    )
    return tf.where(block_bytes(at) > 0, last + 1, at + 1)


def _colours(
    encoded: tf.Tensor, *, screen: tf.Tensor, frame: tf.Tensor, frame_table_at: tf.Tensor, transparent: tf.Tensor
) -> tf.Tensor:
    """Returns the table of 256 colours of the frame as bytes, the transparent one white; greys where there is none."""
    of_frame = frame >= 0x80
    table = piece(
        encoded, tf.where(of_frame, frame_table_at, _SCREEN_BYTES), _table_bytes(tf.where(of_frame, frame, screen))
    )
    filled = tf.strings.join([table, piece(tf.constant(_GREYS), tf.strings.length(table), len(_GREYS))])
    whitened = tf.strings.join(
        [piece(filled, 0, 3 * transparent), b"\xff\xff\xff", piece(filled, 3 * transparent + 3, len(_GREYS))]
    )
    return tf.where(transparent >= 0, whitened, filled)


def _on_screen(
    pixels: tf.Tensor, ground: tf.Tensor, *, left: tf.Tensor, top: tf.Tensor, width: tf.Tensor, height: tf.Tensor
) -> tf.Tensor:
    """Returns the frame, uint8 [height, width, 3], in its place of the screen, which has the colour `ground`."""
    shape = tf.shape(pixels, tf.int64)

    def placed() -> tf.Tensor:
        around = [[top, height - top - shape[0]], [left, width - left - shape[1]]]
        channels = [
            tf.pad(pixels[..., place], around, constant_values=tf.cast(ground[place], tf.uint8)) for place in range(3)
        ]
        return tf.stack(channels, axis=-1)

    return tf.cond((shape[0] == height) & (shape[1] == width), lambda: pixels, placed)
