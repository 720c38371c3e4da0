"""The one way to make pixels, in TensorFlow operations: for embedding, training, evaluation and the exported model.

Every function here can stand in a `tf.function`, in `tf.data` and in a SavedModel.
"""

import functools
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import tensorflow as tf

_CHANNELS = 3
# By what a JPEG can be shrunk while it is decoded.
_RATIOS = (1, 2, 4, 8)
# Pixels of a side that are left of it, for each of the square that it is for; a crop of a quarter still has enough.
_SPARE = 2
# A picture wider than this is resized along its width first, or else a line of a hundred million pixels would become
# as many columns.
_WIDE = 8_192


def decode_and_resize(encoded: "tf.Tensor", size: int) -> "tf.Tensor":
    """Returns a JPEG's picture as float32 [size, size, 3] in 0..255; see `decode_for_size` and `resize`."""
    pixels, sides = decode_for_size(encoded, size)
    return resize(pixels, size, sides=sides)


def decode_for_size(encoded: "tf.Tensor", size: int) -> "tuple[tf.Tensor, tf.Tensor]":
    """Returns a picture's pixels, and its height and width in these pixels, float32 [2].

    A large JPEG is decoded at a half, a quarter or an eighth of its size, as the format allows, for a fraction of the
    time: as small as its shorter side can be with twice the pixels of `size`. Its last row and column may lie partly
    outside it then, so that its sides are no whole numbers.

    Args:
        encoded: string scalar, as for `decode_jpeg`.
        size: side of the square that it is for, in pixels.

    Raises:
        tf.errors.InvalidArgumentError: as `decode_jpeg`.
    """
    import tensorflow as tf

    def whole() -> "tuple[tf.Tensor, tf.Tensor]":
        pixels = decode_jpeg(encoded)
        return pixels, tf.cast(tf.shape(pixels)[:2], tf.float32)

    def shrunk(ratio: int) -> "tuple[tf.Tensor, tf.Tensor]":
        return decode_jpeg(encoded, ratio=ratio), tf.cast(sides, tf.float32) / ratio

    # The operation reads other kinds too, but does not tell their size.
    is_jpeg = tf.equal(tf.strings.substr(encoded, 0, 2), b"\xff\xd8")
    sides = tf.cond(is_jpeg, lambda: tf.io.extract_jpeg_shape(encoded)[:2], lambda: tf.zeros([2], tf.int32))
    fitting = [tf.cast(tf.reduce_min(sides) >= ratio * _SPARE * size, tf.int32) for ratio in _RATIOS[1:]]
    branches = [whole, *(functools.partial(shrunk, ratio) for ratio in _RATIOS[1:])]
    decoded: tuple[tf.Tensor, tf.Tensor] = tf.switch_case(tf.add_n(fitting), branches)
    return decoded


def decode_jpeg(encoded: "tf.Tensor", *, ratio: int = 1) -> "tf.Tensor":
    """Returns a picture's pixels, uint8 [height, width, 3], RGB.

    The accurate transform costs no more time than the fast one, and gives what Pillow gives.

    Args:
        encoded: string scalar, the bytes of an upright JPEG, as ingest writes it.
        ratio: 1, 2, 4 or 8, by what the picture is shrunk; what is left of a pixel counts as a whole one.

    Raises:
        tf.errors.InvalidArgumentError: when the operation runs, if the bytes are no picture or end too early.
    """
    import tensorflow as tf

    return tf.io.decode_jpeg(encoded, channels=_CHANNELS, ratio=ratio, dct_method="INTEGER_ACCURATE")


def resize(pixels: "tf.Tensor", size: int, *, sides: "tf.Tensor | None" = None) -> "tf.Tensor":
    """Returns the whole picture squashed to a square: float32 [size, size, 3] in 0..255.

    The result is that of `tf.image.resize` (bilinear, antialiased where the picture shrinks), at a quarter of its time:
    one axis at a time, always over whole rows.

    Args:
        pixels: uint8 [height, width, 3], at least one pixel.
        size: side of the square, in pixels.
        sides: float32 [2], how much of the height and the width is the picture; by default all.
    """
    import tensorflow as tf

    height, width = tf.unstack(tf.cast(tf.shape(pixels)[:2], tf.float32) if sides is None else sides)

    def height_first() -> "tf.Tensor":
        return _resize_rows(_resize_rows(pixels, size, height=height), size, height=width)

    def width_first() -> "tf.Tensor":
        turned = tf.transpose(pixels, [1, 0, 2])
        return tf.transpose(_resize_rows(_resize_rows(turned, size, height=width), size, height=height), [1, 0, 2])

    shrunk = tf.cond(tf.shape(pixels)[1] > _WIDE, width_first, height_first)
    # Weights that sum to 1 but for rounding give up to 255.0001.
    return tf.minimum(tf.ensure_shape(shrunk, (size, size, _CHANNELS)), 255.0)


def _resize_rows(pixels: "tf.Tensor", size: int, *, height: "tf.Tensor") -> "tf.Tensor":
    """Returns [rows, width, 3] as float32 [width, size, 3]: `height` rows of it resized, and transposed."""
    import tensorflow as tf

    rows, width = tf.unstack(tf.shape(pixels)[:2])
    resized = tf.raw_ops.ScaleAndTranslate(
        images=tf.reshape(pixels, [1, rows, 1, width * _CHANNELS]),
        size=[size, 1],
        scale=tf.stack([tf.cast(size, tf.float32) / height, 1.0]),
        translation=[0.0, 0.0],
        kernel_type="triangle",
        antialias=True,
    )
    return tf.transpose(tf.reshape(resized, [size, width, _CHANNELS]), [1, 0, 2])
