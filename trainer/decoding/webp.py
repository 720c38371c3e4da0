"""WebPs to pixels, in TensorFlow operations; RFC 9649 has the layout.

TensorFlow must be told beforehand how many channels there are. It takes four for every animation, and writes beyond the
end of its own memory where the header says that there are three: such a header is changed before.
"""

import tensorflow as tf

from trainer.decoding.byte_strings import is_at, length, little, numbers, piece, require
from trainer.decoding.decoded import Decoded, decoded
from trainer.decoding.exif import orientation_of
from trainer.decoding.transparency import on_white

_FIRST_CHUNK = 12
# An animation has one chunk a frame.
_MAX_CHUNKS = 5_000
_FLAGS_AT = 20
_ANIMATED, _ALPHA = 0x02, 0x10
_OPACITIES, _LOSSLESS, _LOSSY, _EXIF = (int.from_bytes(name, "little") for name in (b"ALPH", b"VP8L", b"VP8 ", b"EXIF"))


def decode(encoded: tf.Tensor, *, max_pixels: int) -> Decoded:
    """Returns the picture of a WebP; of an animation the first frame."""
    is_extended = is_at(encoded, _FIRST_CHUNK, b"VP8X")
    width, height = _size(encoded, is_extended)
    checked = require(encoded, width * height <= max_pixels, "too many pixels")
    has_alpha, exif = _chunks(checked, is_extended)
    flags = numbers(checked, _FLAGS_AT, 1)[0]
    is_animated = is_extended & _has_bit(flags, _ANIMATED)
    pixels = tf.cond(
        is_animated,
        lambda: on_white(_decode(_marked_as_transparent(checked, flags), channels=4)),
        lambda: tf.cond(
            has_alpha, lambda: on_white(_decode(checked, channels=4)), lambda: _decode(checked, channels=3)
        ),
    )
    return decoded(pixels, orientation_of(exif))


def _decode(encoded: tf.Tensor, *, channels: int) -> tf.Tensor:
    pixels = tf.io.decode_image(encoded, channels=channels, expand_animations=False)
    return tf.ensure_shape(pixels, [None, None, channels])


def _size(encoded: tf.Tensor, is_extended: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    head = numbers(encoded, 0, 30)
    bits = little(head[21:25])
    lossless = bits % 2**14 + 1, bits // 2**14 % 2**14 + 1
    lossy = little(head[26:28]) % 2**14, little(head[28:30]) % 2**14
    extended = little(head[24:27]) + 1, little(head[27:30]) + 1
    is_lossless = is_at(encoded, _FIRST_CHUNK, b"VP8L")
    width, height = (
        tf.where(is_extended, extended[side], tf.where(is_lossless, lossless[side], lossy[side])) for side in (0, 1)
    )
    return width, height


def _chunks(encoded: tf.Tensor, is_extended: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Returns whether a picture that is no animation has a fourth channel, as libwebp tells it, and the EXIF.

    The header's flag says so, but for lossless pictures, which say it themselves; a chunk of opacities does always.
    """
    zero, false = tf.constant(0, tf.int64), tf.constant(False)
    end = tf.minimum(length(encoded), little(numbers(encoded, 4, 4)) + 8)
    flag = is_extended & _has_bit(numbers(encoded, _FLAGS_AT, 1)[0], _ALPHA)

    def is_before_end(at: tf.Tensor, *_: tf.Tensor) -> tf.Tensor:
        return at < end

    def read(
        at: tf.Tensor, own: tf.Tensor, opacities: tf.Tensor, ended: tf.Tensor, exif_at: tf.Tensor, exif_bytes: tf.Tensor
    ) -> list[tf.Tensor]:
        head = numbers(encoded, at, 13)
        name, size = little(head[:4]), little(head[4:8])
        is_lossless = ~ended & (name == _LOSSLESS)
        is_exif = (name == _EXIF) & (exif_at == 0)
        return [
            at + 8 + size + size % 2,
            tf.where(is_lossless, _has_bit(head[12], _ALPHA), own),
            opacities | (~ended & (name == _OPACITIES)),
            ended | is_lossless | (name == _LOSSY),
            tf.where(is_exif, at + 8, exif_at),
            tf.where(is_exif, size, exif_bytes),
        ]

    start = [zero + _FIRST_CHUNK, flag, false, false, zero, zero]
    _, own, opacities, _, exif_at, exif_bytes = tf.while_loop(
        is_before_end, read, start, maximum_iterations=_MAX_CHUNKS
    )
    return own | opacities, piece(encoded, exif_at, exif_bytes)


def _marked_as_transparent(encoded: tf.Tensor, flags: tf.Tensor) -> tf.Tensor:
    """Returns the same bytes with the flag set that says that there is transparency."""
    flag = tf.gather(tf.constant([bytes([value | _ALPHA]) for value in range(256)]), flags)
    return tf.strings.join([piece(encoded, 0, _FLAGS_AT), flag, piece(encoded, _FLAGS_AT + 1, length(encoded))])


def _has_bit(value: tf.Tensor, bit: int) -> tf.Tensor:
    return tf.bitwise.bitwise_and(value, tf.constant(bit, tf.int64)) > 0
