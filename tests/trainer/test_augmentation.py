import itertools
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.augmentation import STRENGTHS, augment, jitter
from trainer.pixels import resize

Pixels = np.ndarray[Any, np.dtype[Any]]


def picture(height: int = 30, width: int = 40) -> Pixels:
    """Returns a picture whose red tells the row, and whose green tells the column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows, columns, np.full_like(rows, 7)], axis=-1).astype(np.uint8)


def augmented(pixels: Pixels, seed: int, *, augmentation: str = "light", size: int = 16) -> Pixels:
    result: Pixels = augment(tf.constant(pixels), size, augmentation=augmentation, seed=tf.constant([3, seed])).numpy()
    return result


def test_without_augmentation_a_picture_is_what_evaluation_sees() -> None:
    np.testing.assert_array_equal(augmented(picture(), 0, augmentation="none"), resize(picture(), 16))


@pytest.mark.parametrize("augmentation", STRENGTHS)
def test_the_seed_alone_decides(augmentation: str) -> None:
    seen = [augmented(picture(), seed, augmentation=augmentation) for seed in range(4)]
    for seed, pixels in enumerate(seen):
        np.testing.assert_array_equal(augmented(picture(), seed, augmentation=augmentation), pixels)
    assert all(not np.array_equal(one, other) for one, other in itertools.combinations(seen, 2))


def many(pixels: Pixels, count: int, *, augmentation: str = "light", size: int = 8, threads: int = 1) -> Pixels:
    """Returns what the seeds below `count` make of a picture: [count, size, size, 3]."""

    def change(seed: tf.Tensor) -> tf.Tensor:
        return augment(
            tf.constant(pixels), size, augmentation=augmentation, seed=tf.stack([tf.constant(3, tf.int64), seed])
        )

    changed = tf.data.Dataset.range(count).map(change, num_parallel_calls=threads)
    result: Pixels = changed.batch(count).get_single_element().numpy()
    return result


@pytest.mark.parametrize("augmentation", STRENGTHS)
def test_a_picture_comes_out_the_same_in_any_batch_on_any_thread(augmentation: str) -> None:
    together = many(picture(), 40, augmentation=augmentation, threads=4)
    np.testing.assert_array_equal(many(picture(), 40, augmentation=augmentation), together)
    np.testing.assert_allclose(augmented(picture(), 7, augmentation=augmentation, size=8), together[7], atol=1e-3)


def window(pixels: Pixels) -> tuple[float, float, bool]:
    """Returns how many rows and columns of `picture` lie between the outermost pixels, and whether it is mirrored."""
    rows, columns = pixels[:, :, 0].mean(axis=1), pixels[:, :, 1].mean(axis=0)
    return rows[-1] - rows[0], abs(columns[-1] - columns[0]), bool(columns[0] > columns[-1])


def test_light_crops_keep_most_of_the_picture_and_its_aspect() -> None:
    height, width, _ = window(augmented(picture(120, 160), 0, augmentation="none", size=8))
    windows = [window(pixels) for pixels in many(picture(120, 160), 200)]
    heights = np.array([inside for inside, _, _ in windows]) / height
    widths = np.array([inside for _, inside, _ in windows]) / width
    assert 0.69 < np.min(heights * widths) < 0.72 < 0.98 < np.max(heights * widths) < 1.01
    assert 0.83 < np.mean(heights * widths) < 0.87
    assert 0.74 < np.min(widths / heights) < 0.8 < 1.25 < np.max(widths / heights) < 1.35
    assert 70 < sum(mirrored for _, _, mirrored in windows) < 130


def test_crops_lie_anywhere_in_the_picture() -> None:
    middles = many(picture(120, 160), 200).mean(axis=(1, 2))[:, :2]
    offsets = (middles - (59.5, 79.5)) / (120, 160)
    assert np.all(np.abs(offsets.mean(axis=0)) < 0.02)
    assert np.all(offsets.min(axis=0) < -0.05)
    assert np.all(offsets.max(axis=0) > 0.05)


def test_strong_crops_go_further_and_colours_change() -> None:
    grey = np.full((20, 20, 3), 100, np.uint8)
    brightness = many(grey, 100, augmentation="strong").mean(axis=(1, 2, 3))
    assert 59 < brightness.min() < 75
    assert 125 < brightness.max() < 141
    black = np.zeros((20, 20, 3), np.uint8)
    assert not augmented(black, 0, augmentation="strong", size=4).any()


def by_hand(pixels: Pixels, brightness: float, contrast: float, saturation: float) -> Pixels:
    luma = np.array([0.299, 0.587, 0.114])
    bright = pixels * brightness
    mean = (bright @ luma).mean()
    contrasted = mean + contrast * (bright - mean)
    grey = (contrasted @ luma)[..., np.newaxis]
    clipped: Pixels = np.clip(grey + saturation * (contrasted - grey), 0, 255)
    return clipped


factor = st.floats(0.5, 1.5, width=32)


@settings(max_examples=20)
@given(factor, factor, factor, st.integers(0, 99))
def test_colours_are_brightness_contrast_and_saturation_in_turn(
    brightness: float, contrast: float, saturation: float, seed: int
) -> None:
    pixels = np.random.default_rng(seed).uniform(0, 255, (3, 4, 3))
    jittered = jitter(
        tf.constant(pixels, tf.float32),
        brightness=tf.constant(brightness),
        contrast=tf.constant(contrast),
        saturation=tf.constant(saturation),
    )
    np.testing.assert_allclose(jittered, by_hand(pixels, brightness, contrast, saturation), atol=1e-2)


@pytest.mark.parametrize("augmentation", ["none", *STRENGTHS])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (1, 9), (500, 2)])
def test_odd_pictures_stay_within_range(augmentation: str, height: int, width: int) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    for seed in range(5):
        result = augmented(pixels, seed, augmentation=augmentation, size=5)
        assert result.shape == (5, 5, 3)
        assert result.dtype == np.float32
        assert 0 <= result.min() <= result.max() <= 255
