"""Which way up a picture is, as cameras write it, in TensorFlow operations."""

import tensorflow as tf

from trainer.decoding.byte_strings import big, is_at, little, numbers, piece

_PREFIX = b"Exif\0\0"
_TAG = 0x0112
# TIFF's names of whole numbers of two and four bytes.
_SHORT, _LONG = 3, 4
_ENTRY_BYTES = 12
_MIRRORED_LEFT_RIGHT = (2, 3, 6, 7)
_MIRRORED_TOP_BOTTOM = (3, 4, 7, 8)
_AXES_CHANGED = (5, 6, 7, 8)


def orientation_of(exif: tf.Tensor) -> tf.Tensor:
    """Returns the orientation, int64, that a TIFF header states; 1 if it is malformed or states none.

    Args:
        exif: string scalar; before the header `Exif` and two zeros may stand.
    """
    tiff = tf.where(is_at(exif, 0, _PREFIX), piece(exif, len(_PREFIX), tf.strings.length(exif)), exif)
    is_big = is_at(tiff, 0, b"MM\0*")
    is_known = is_big | is_at(tiff, 0, b"II*\0")

    def number(values: tf.Tensor) -> tf.Tensor:
        return tf.where(is_big, big(values), little(values))

    directory = number(numbers(tiff, 4, 4))
    count = number(numbers(tiff, directory, 2))
    # One more, because what is read may not be empty; it is taken off again.
    entries = tf.reshape(numbers(tiff, directory + 2, _ENTRY_BYTES * (count + 1)), [-1, _ENTRY_BYTES])[:-1]
    found = tf.boolean_mask(entries, number(entries[:, :2]) == _TAG)
    entry = tf.concat([found, tf.zeros([1, _ENTRY_BYTES], tf.int64)], axis=0)[0]
    kind = number(entry[2:4])
    value = tf.where(kind == _SHORT, number(entry[8:10]), tf.where(kind == _LONG, number(entry[8:12]), 1))
    return tf.where(is_known & (value >= 1) & (value <= 8), value, 1)


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Returns a square picture, [size, size, 3], turned and mirrored so that it is the right way up."""

    def is_one_of(orientations: tuple[int, ...]) -> tf.Tensor:
        return tf.reduce_any(orientation == tf.constant(orientations, tf.int64))

    axes = tf.where(is_one_of(_AXES_CHANGED), [1, 0, 2], [0, 1, 2])
    mirrored = tf.where([is_one_of(_MIRRORED_TOP_BOTTOM), is_one_of(_MIRRORED_LEFT_RIGHT)])[:, 0]
    return tf.ensure_shape(tf.reverse(tf.transpose(pixels, axes), mirrored), pixels.shape)
