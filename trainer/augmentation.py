"""Augmentation of one picture, a function of the picture and a seed: the same on any thread and in any batch.

Light: a crop of 70 to 100 % of the area, mirrored half of the time. Strong: 35 to 100 %, and brightness, contrast and
saturation, each times 0.6 to 1.4. Crops are taken before the resize, which is that of evaluation.
"""

import dataclasses
import math
from collections.abc import Mapping

import tensorflow as tf

from trainer.pixels import resize

# A crop is wider or higher than the picture by at most this ratio. The whole picture is what evaluation squashes to the
# square, so ratios are those to the picture's own.
_MAX_ASPECT_CHANGE = 4 / 3
# Of red, green and blue in the brightness of a pixel; ITU-R BT.601.
_LUMA = (0.299, 0.587, 0.114)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strength:
    """How much an augmentation changes.

    Attributes:
        min_area: the smallest part of the picture that is left; above a third, which leaves a pixel of one.
        colour: brightness, contrast and saturation are multiplied by 1 - colour to 1 + colour.
    """

    min_area: float
    colour: float = 0.0


STRENGTHS: Mapping[str, Strength] = {
    "light": Strength(min_area=0.7),
    "strong": Strength(min_area=0.35, colour=0.4),
}


def augment(
    pixels: tf.Tensor, size: int, *, augmentation: str, seed: tf.Tensor, sides: tf.Tensor | None = None
) -> tf.Tensor:
    """Returns a picture as training sees it: float32 [size, size, 3] in 0..255.

    Args:
        pixels: uint8 [height, width, 3].
        size: side of the square, in pixels.
        augmentation: `none`, or a name of `STRENGTHS`.
        seed: int64 [2]; the same seed changes the picture in the same way.
        sides: of the picture, as `resize` takes them; crops are made of whole pixels.
    """
    if augmentation == "none":
        return resize(pixels, size, sides=sides)
    strength = STRENGTHS[augmentation]
    draws = tf.unstack(tf.random.stateless_uniform([8], seed, alg="philox"))
    cropped = crop(pixels, _crop_window(tf.shape(pixels), strength.min_area, draws[:4]))
    mirrored = tf.cond(draws[4] < 0.5, lambda: tf.reverse(cropped, [1]), lambda: cropped)
    resized = resize(mirrored, size)
    if not strength.colour:
        return resized
    factors = [1.0 + strength.colour * (2.0 * draw - 1.0) for draw in draws[5:]]
    return jitter(resized, brightness=factors[0], contrast=factors[1], saturation=factors[2])


def crop(pixels: tf.Tensor, window: tf.Tensor) -> tf.Tensor:
    """Returns the pixels inside `window`, int32 [4]: top, left, height and width.

    On pictures of 320 pixels `tf.io.decode_and_crop_jpeg` saves time where a third of the area is left, and costs some
    where 85 % is.
    """
    return tf.slice(pixels, tf.concat([window[:2], [0]], axis=0), tf.concat([window[2:], [3]], axis=0))


def jitter(pixels: tf.Tensor, *, brightness: tf.Tensor, contrast: tf.Tensor, saturation: tf.Tensor) -> tf.Tensor:
    """Returns the pixels, float32 [height, width, 3], with other colours, within 0..255.

    Brightness is multiplied, then the distance from the picture's mean grey, then that of each pixel from its own grey.
    The three are linear, so that they are one 3 x 3 matrix and an offset.
    """
    luma = tf.constant(_LUMA)
    mean = brightness * tf.tensordot(tf.reduce_mean(pixels, axis=[0, 1]), luma, 1)
    mixing = saturation * tf.eye(3) + (1.0 - saturation) * tf.tile(luma[:, tf.newaxis], [1, 3])
    mixed = tf.tensordot(pixels, brightness * contrast * mixing, 1)
    return tf.clip_by_value(mixed + (1.0 - contrast) * mean, 0.0, 255.0)


def _crop_window(shape: tf.Tensor, min_area: float, draws: list[tf.Tensor]) -> tf.Tensor:
    """Returns top, left, height and width of a crop, int32 [4].

    Its area is uniform between `min_area` and all of the picture; its aspect, uniform in its logarithm, as far from the
    picture's as the area has room for.

    Args:
        shape: int32 [3], of the picture.
        min_area: the smallest part of the picture.
        draws: four numbers between 0 and 1.
    """
    area = min_area + (1.0 - min_area) * draws[0]
    widest = tf.minimum(math.log(_MAX_ASPECT_CHANGE), -tf.math.log(area))
    aspect = tf.exp(widest * (2.0 * draws[1] - 1.0))
    sides = tf.cast(shape[:2], tf.float32)
    inside = tf.round(sides * tf.sqrt(tf.stack([area / aspect, area * aspect])))
    corner = tf.floor((sides - inside + 1.0) * tf.stack(draws[2:4]))
    return tf.cast(tf.concat([corner, inside], axis=0), tf.int32)
