import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from PIL import Image

from tests.hostile_server import jpeg
from trainer.pixels import decode_and_resize, decode_for_size, decode_jpeg, resize

Pixels = npt.NDArray[np.uint8]

SIZES = (299, 224)
DEFECTS: dict[str, Callable[[bytes], bytes]] = {
    "empty": lambda encoded: b"",
    "text": lambda encoded: b"no picture",
    "cut short": lambda encoded: encoded[: len(encoded) // 2],
    "no end": lambda encoded: encoded[:-2],
    "no tables": lambda encoded: encoded[:2] + encoded[-2:],
}


def photograph(seed: int, *, width: int, height: int) -> Pixels:
    """Returns smooth forms and some grain, as a photograph has."""
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (height // 16 + 2, width // 16 + 2, 3), dtype=np.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0, 6, (height, width, 3))
    return np.clip(np.asarray(smooth) + grain, 0, 255).astype(np.uint8)


def encode(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=90)
    return file.getvalue()


def noise(width: int, height: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def psnr(one: npt.NDArray[np.generic], other: npt.NDArray[np.generic]) -> float:
    """Returns how near two pictures are to each other, in dB."""
    error = float(np.mean((one.astype(np.float64) - other.astype(np.float64)) ** 2))
    return 10 * math.log10(255**2 / max(error, 1e-9))


def test_pixels_are_those_that_pillow_decodes() -> None:
    encoded = encode(photograph(0, width=427, height=320))
    decoded = decode_jpeg(tf.constant(encoded))
    assert decoded.dtype == tf.uint8
    assert decoded.shape == (320, 427, 3)
    assert psnr(decoded.numpy(), np.asarray(Image.open(io.BytesIO(encoded)))) > 60


def test_a_grey_picture_has_three_channels() -> None:
    file = io.BytesIO()
    Image.fromarray(photograph(0, width=40, height=30)).convert("L").save(file, "JPEG")
    decoded = decode_jpeg(tf.constant(file.getvalue())).numpy()
    assert decoded.shape == (30, 40, 3)
    assert (decoded == decoded[..., :1]).all()


@pytest.mark.parametrize("defect", DEFECTS)
def test_bytes_that_are_no_picture(defect: str) -> None:
    broken = DEFECTS[defect](jpeg(0, width=64, height=64))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_jpeg(tf.constant(broken))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode_and_resize(tf.constant(broken), 32)


def test_a_bad_picture_of_a_stream_is_told_apart() -> None:
    pictures = [jpeg(0), b"no picture", jpeg(1)]
    dataset = tf.data.Dataset.from_tensor_slices(pictures).map(lambda encoded: decode_and_resize(encoded, 32))
    assert len(list(dataset.ignore_errors())) == 2


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("width", "height"), [(427, 320), (320, 427), (1000, 700)])
def test_resized_like_pillow(size: int, width: int, height: int) -> None:
    pixels = photograph(1, width=width, height=height)
    expected = np.asarray(Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR))
    resized = resize(tf.constant(pixels), size)
    assert resized.dtype == tf.float32
    assert psnr(np.round(resized.numpy()), expected) > 50


@pytest.mark.parametrize(
    ("width", "height"), [(427, 320), (1, 1), (1, 500), (500, 1), (3, 2), (40, 40), (41, 7), (5000, 3), (39, 2000)]
)
def test_resized_like_tensorflow(width: int, height: int) -> None:
    pixels = noise(width, height)
    expected = tf.image.resize(pixels, (40, 40), method="bilinear", antialias=True)
    np.testing.assert_allclose(resize(tf.constant(pixels), 40), expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(("width", "height"), [(8_193, 5), (30_000, 1), (8_200, 60)])
def test_very_wide_pictures_are_resized_alike(width: int, height: int) -> None:
    pixels = noise(width, height)
    expected = tf.image.resize(pixels, (24, 24), method="bilinear", antialias=True)
    np.testing.assert_allclose(resize(tf.constant(pixels), 24), expected, rtol=0, atol=2e-3)


class TestDecodeForSize:
    @pytest.mark.parametrize(
        ("side", "size", "ratio"),
        [
            (320, 96, 1),
            (320, 299, 1),
            (383, 96, 1),
            (384, 96, 2),
            (767, 96, 2),
            (768, 96, 4),
            (1536, 96, 8),
            (64, 4, 8),
        ],
    )
    def test_by_what_a_picture_is_shrunk(self, side: int, size: int, ratio: int) -> None:
        pixels, sides = decode_for_size(tf.constant(encode(photograph(0, width=side + 5, height=side))), size)
        assert pixels.shape == (-(-side // ratio), -(-(side + 5) // ratio), 3)
        np.testing.assert_allclose(sides, [side / ratio, (side + 5) / ratio])

    @pytest.mark.parametrize("size", [96, 160, 224, 299])
    def test_pictures_of_a_data_set_are_as_they_were(self, size: int) -> None:
        encoded = tf.constant(encode(photograph(2, width=427, height=320)))
        np.testing.assert_array_equal(decode_and_resize(encoded, size), resize(decode_jpeg(encoded), size))

    @pytest.mark.parametrize(("width", "height"), [(1000, 749), (801, 603), (1601, 1203)])
    def test_a_large_picture_is_near_its_whole(self, width: int, height: int) -> None:
        encoded = tf.constant(encode(photograph(3, width=width, height=height)))
        found, expected = decode_and_resize(encoded, 64), resize(decode_jpeg(encoded), 64)
        assert psnr(found.numpy(), expected.numpy()) > 40

    def test_other_kinds_are_decoded_whole(self) -> None:
        file = io.BytesIO()
        Image.fromarray(noise(60, 50)).save(file, "PNG")
        pixels, sides = decode_for_size(tf.constant(file.getvalue()), 4)
        np.testing.assert_array_equal(pixels, noise(60, 50))
        assert sides.numpy().tolist() == [50, 60]


def test_one_pixel_fills_the_square() -> None:
    pixels = tf.constant([[[10, 200, 255]]], tf.uint8)
    np.testing.assert_array_equal(resize(pixels, 16), np.full((16, 16, 3), [10, 200, 255], np.float32))


@pytest.mark.parametrize("value", [0, 1, 254, 255])
@pytest.mark.parametrize("side", [299, 320, 427, 1023])
def test_the_range_is_kept(value: int, side: int) -> None:
    resized = resize(tf.fill((side, side + 1, 3), tf.constant(value, tf.uint8)), 299).numpy()
    assert resized.min() >= 0
    assert resized.max() <= 255
    np.testing.assert_allclose(resized, value, rtol=1e-6)


def test_the_axes_stay_apart() -> None:
    pixels = np.zeros((64, 32, 3), np.uint8)
    pixels[:32] = (255, 0, 0)
    resized = resize(tf.constant(pixels), 8).numpy()
    np.testing.assert_array_equal(resized[0], np.tile([255, 0, 0], (8, 1)))
    np.testing.assert_array_equal(resized[-1], 0)


def test_the_same_pixels_alone_and_in_any_batch() -> None:
    pictures = [
        encode(photograph(seed, width=width, height=height))
        for seed, (width, height) in enumerate([(427, 320), (320, 427), (50, 60), (17, 400), (320, 320)])
    ]
    alone = np.stack([decode_and_resize(tf.constant(picture), 96).numpy() for picture in pictures])
    dataset = tf.data.Dataset.from_tensor_slices(pictures).map(
        lambda encoded: decode_and_resize(encoded, 96), num_parallel_calls=4
    )
    for batch_size in (1, 2, 5):
        np.testing.assert_array_equal(np.concatenate(list(dataset.batch(batch_size).as_numpy_iterator())), alone)
    mapped = tf.function(
        lambda encoded: tf.map_fn(lambda one: decode_and_resize(one, 96), encoded, fn_output_signature=tf.float32)
    )
    np.testing.assert_array_equal(mapped(tf.constant(pictures)), alone)


def test_the_shape_is_known_before_any_picture() -> None:
    dataset = tf.data.Dataset.from_tensor_slices([jpeg(0)]).map(lambda encoded: decode_and_resize(encoded, 24))
    assert dataset.element_spec == tf.TensorSpec((24, 24, 3), tf.float32)


def test_a_saved_model_holds_it(tmp_path: Path) -> None:
    module = tf.Module()
    module.pixels = tf.function(
        lambda encoded: decode_and_resize(encoded, 48), input_signature=[tf.TensorSpec([], tf.string)]
    )
    tf.saved_model.save(module, str(tmp_path))
    encoded = tf.constant(jpeg(3, width=70, height=90))
    loaded = tf.saved_model.load(str(tmp_path))
    np.testing.assert_array_equal(loaded.pixels(encoded), decode_and_resize(encoded, 48))
