"""Numbers in a string of bytes, in TensorFlow operations. What lies behind its end reads as zero."""

import tensorflow as tf


def numbers(data: tf.Tensor, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Returns the bytes from `at` on as int64 [count].

    Args:
        data: string scalar.
        at: int64; below 0 is 0.
        count: at least 1.
    """
    part = piece(data, at, count)
    return tf.cast(tf.io.decode_raw(part, tf.uint8, fixed_length=tf.cast(count, tf.int32)), tf.int64)


def piece(data: tf.Tensor, at: tf.Tensor | int, count: tf.Tensor | int) -> tf.Tensor:
    """Returns the bytes from `at` on as a string, shorter than `count` where `data` ends before."""
    start = tf.clip_by_value(tf.cast(at, tf.int64), 0, length(data))
    return tf.strings.substr(data, start, tf.maximum(tf.cast(count, tf.int64), 0))


def length(data: tf.Tensor) -> tf.Tensor:
    """Returns how many bytes there are, int64."""
    return tf.cast(tf.strings.length(data), tf.int64)


def little(values: tf.Tensor) -> tf.Tensor:
    """Returns bytes, int64 [..., count], as one number each, the lowest byte first."""
    return tf.reduce_sum(values * _powers(values), axis=-1)


def big(values: tf.Tensor) -> tf.Tensor:
    """Returns bytes, int64 [..., count], as one number each, the highest byte first."""
    return tf.reduce_sum(values * _powers(values)[::-1], axis=-1)


def is_at(data: tf.Tensor, at: tf.Tensor | int, expected: bytes) -> tf.Tensor:
    """Tells whether `expected` stands at that place."""
    return tf.equal(piece(data, at, len(expected)), tf.constant(expected))


def require(value: tf.Tensor, condition: tf.Tensor, message: str) -> tf.Tensor:
    """Returns `value` where the condition holds; what is made of it waits for that.

    Raises:
        tf.errors.InvalidArgumentError: when the operation runs, if it does not hold.
    """
    with tf.control_dependencies([tf.debugging.Assert(condition, [message])]):
        return tf.identity(value)


def _powers(values: tf.Tensor) -> tf.Tensor:
    return tf.constant([256**place for place in range(values.shape[-1])], tf.int64)
