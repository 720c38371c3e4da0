"""Transparent pictures on white paper, in TensorFlow operations."""

import tensorflow as tf

# Rows are taken a few at a time, because their sums need several times their own memory.
_PIXELS_AT_ONCE = 1 << 22


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Returns a picture on white: uint8 [height, width, 3], rounded to the nearest.

    Args:
        pixels: uint8 [height, width, 4]; the last is the opacity.
    """
    height, width = tf.unstack(tf.shape(pixels)[:2])
    rows = tf.maximum(_PIXELS_AT_ONCE // width, 1)
    bands = tf.TensorArray(tf.uint8, size=(height + rows - 1) // rows, infer_shape=False, element_shape=[None, None, 3])

    def paint(band: tf.Tensor, painted: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
        return band + 1, painted.write(band, _painted(pixels[band * rows : (band + 1) * rows]))

    _, painted = tf.while_loop(lambda band, _: band < bands.size(), paint, [0, bands], parallel_iterations=1)
    return painted.concat()


def _painted(pixels: tf.Tensor) -> tf.Tensor:
    wide = tf.cast(pixels, tf.uint16)
    opacity = wide[..., 3:]
    white = tf.constant(255, tf.uint16)
    return _divided_by_255(wide[..., :3] * opacity + white * (white - opacity))


def _divided_by_255(values: tf.Tensor) -> tf.Tensor:
    """Returns uint16 numbers up to 255 * 255 divided by 255, rounded, as uint8."""
    bits = tf.constant(8, tf.uint16)
    more = values + tf.constant(128, tf.uint16)
    return tf.cast(tf.bitwise.right_shift(more + tf.bitwise.right_shift(more, bits), bits), tf.uint8)
