"""What decoders give."""

from typing import NamedTuple

import tensorflow as tf


class Decoded(NamedTuple):
    """A picture as it lies in its file, on white.

    Attributes:
        pixels: uint8 [height, width, 3].
        sides: float32 [2], how much of the height and the width is the picture.
        orientation: int64 scalar, 1 to 8, as EXIF counts them.
    """

    pixels: tf.Tensor
    sides: tf.Tensor
    orientation: tf.Tensor


def decoded(pixels: tf.Tensor, orientation: tf.Tensor | int = 1) -> Decoded:
    """Returns a picture that all its pixels belong to."""
    return Decoded(
        pixels=tf.ensure_shape(pixels, [None, None, 3]),
        sides=tf.cast(tf.shape(pixels)[:2], tf.float32),
        orientation=tf.cast(orientation, tf.int64),
    )
