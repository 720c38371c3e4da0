"""Many small pictures in one, so that a page or a program loads them at once."""

import dataclasses
import io
import math
from collections.abc import Sequence

from PIL import Image

_SIDE = 64
# What programs that draw by WebGL can be trusted to load.
_MOST_PIXELS = 8_192
_QUALITIES = (80, 60, 40, 20, 10)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """Where a small picture lies, in pixels; without width and height where it could not be decoded."""

    left: int
    top: int
    width: int
    height: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sprite:
    """Small pictures in a square grid, each in the middle of its cell, row by row; white around them.

    Attributes:
        side: pixels of a cell, both ways.
        tiles: in the order of the pictures.
    """

    image: Image.Image
    side: int
    tiles: list[Tile]

    def as_png(self) -> bytes:
        """Returns it as PNG."""
        return _encoded(self.image, "PNG")

    def as_jpeg(self, *, max_bytes: int) -> bytes:
        """Returns it as JPEG, of the best quality at which it has at most `max_bytes`, or of the lowest there is."""
        jpegs = (_encoded(self.image, "JPEG", quality=quality) for quality in _QUALITIES)
        jpeg = b""
        for jpeg in jpegs:
            if len(jpeg) <= max_bytes:
                break
        return jpeg


def draw_sprite(jpegs: Sequence[bytes]) -> Sprite:
    """Returns the sprite of at least one small picture; cells are 64 pixels wide, less beyond 16,384 pictures."""
    columns = math.ceil(math.sqrt(len(jpegs)))
    side = min(_SIDE, _MOST_PIXELS // columns)
    image = Image.new("RGB", (columns * side, columns * side), "white")
    tiles = []
    for number, jpeg in enumerate(jpegs):
        left, top = number % columns * side, number // columns * side
        small = _decoded(jpeg, side)
        width, height = small.size if small else (0, 0)
        tile = Tile(left=left + (side - width) // 2, top=top + (side - height) // 2, width=width, height=height)
        tiles.append(tile)
        if small:
            image.paste(small, (tile.left, tile.top))
    return Sprite(image=image, side=side, tiles=tiles)


def _decoded(jpeg: bytes, side: int) -> Image.Image | None:
    try:
        image = Image.open(io.BytesIO(jpeg), formats=["JPEG"]).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None
    image.thumbnail((side, side))
    return image


def _encoded(image: Image.Image, name: str, **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, name, **options)
    return out.getvalue()
