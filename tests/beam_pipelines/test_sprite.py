import io

import numpy as np
import pytest
from PIL import Image

from beam_pipelines.sprite import draw_sprite


def jpeg(size: tuple[int, int], colour: str = "red") -> bytes:
    """Returns a picture of one colour."""
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "JPEG", quality=95)
    return out.getvalue()


def noise(number: int) -> list[bytes]:
    """Returns small pictures that compress as badly as any."""
    drawn = np.random.default_rng(1)
    pictures = []
    for _ in range(number):
        out = io.BytesIO()
        Image.fromarray(drawn.integers(0, 256, (64, 64, 3), np.uint8)).save(out, "JPEG", quality=95)
        pictures.append(out.getvalue())
    return pictures


def test_each_picture_lies_in_the_middle_of_its_cell() -> None:
    sprite = draw_sprite([jpeg((64, 32)), jpeg((10, 64), "lime"), b"no picture", jpeg((128, 64), "blue"), jpeg((1, 1))])
    places = [(tile.left, tile.top, tile.width, tile.height) for tile in sprite.tiles]
    assert places == [(0, 16, 64, 32), (91, 0, 10, 64), (160, 32, 0, 0), (0, 80, 64, 32), (95, 95, 1, 1)]
    assert (sprite.side, sprite.image.size) == (64, (192, 192))
    for colour, at in (((255, 0, 0), (5, 20)), ((0, 255, 0), (95, 5)), ((0, 0, 255), (5, 90)), ((255,) * 3, (5, 5))):
        shown = sprite.image.getpixel(at)
        assert isinstance(shown, tuple)
        assert np.abs(np.array(shown) - colour).max() < 8


@pytest.mark.parametrize(("number", "side", "width"), [(1, 64, 64), (2, 64, 128), (4, 64, 128), (16_385, 63, 8_127)])
def test_the_grid_is_square_and_at_most_8192_pixels_wide(number: int, side: int, width: int) -> None:
    sprite = draw_sprite([b""] * number)
    assert (sprite.side, sprite.image.size) == (side, (width, width))


def test_png_is_exact_and_jpeg_is_as_small_as_asked_for() -> None:
    sprite = draw_sprite(noise(100))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(sprite.as_png()))), np.asarray(sprite.image))
    best, small = sprite.as_jpeg(max_bytes=10**7), sprite.as_jpeg(max_bytes=200_000)
    assert len(small) <= 200_000 < len(best)
    assert Image.open(io.BytesIO(small)).size == sprite.image.size
    assert sprite.as_jpeg(max_bytes=1)


def test_the_noise_of_a_whole_report_fits_its_page() -> None:
    picture = Image.fromarray(np.random.default_rng(1).integers(0, 256, (3008, 3008, 3), np.uint8))
    sprite = draw_sprite([b""])
    whole = type(sprite)(image=picture, side=64, tiles=[])
    assert len(whole.as_jpeg(max_bytes=3_600_000)) <= 3_600_000
