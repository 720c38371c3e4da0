"""A sheet of pictures with what the model says of them, as one image."""

import functools
import io
from collections.abc import Mapping, Sequence

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont

from beam_pipelines.drawing import clipped, installed_fonts
from beam_pipelines.picture_lookup import SIDE, Picture
from trainer.evaluation.figures import Judged

_MOST_COLUMNS = 8
_FRAME, _GAP, _LINE = 4, 8, 15
_CELL_WIDTH = SIDE + 2 * _FRAME
_CELL_HEIGHT = _CELL_WIDTH + 2 * _LINE + 4
_FONT_SIZE = 11
_LABEL_CHARACTERS = 40
_RIGHT, _WRONG = "#16655d", "#b4490a"
_PAPER, _RAISED, _INK = "white", "#f0eee8", "#1f1d1a"


def draw_sheet(examples: Sequence[Judged], pictures: Mapping[str, Picture]) -> Image.Image:
    """Returns the pictures of at least one example in rows of up to eight, RGB.

    Each has a frame in the colour of right or wrong, and below it a sign of the same, the prediction with its score,
    and the label if that is another one. An example without a picture has an empty frame.
    """
    columns = min(len(examples), _MOST_COLUMNS)
    rows = -(-len(examples) // columns)
    size = columns * (_CELL_WIDTH + _GAP) + _GAP, rows * (_CELL_HEIGHT + _GAP) + _GAP
    sheet = Image.new("RGB", size, _PAPER)
    for place, judged in enumerate(examples):
        row, column = divmod(place, columns)
        corner = _GAP + column * (_CELL_WIDTH + _GAP), _GAP + row * (_CELL_HEIGHT + _GAP)
        sheet.paste(_cell(judged, pictures.get(judged.key)), corner)
    return sheet


def caption(judged: Judged) -> list[str]:
    """Returns the lines below a picture: what the model says and whether that is right, and if not, what it is."""
    said = f"{'✓' if judged.is_right else '✗'} {judged.score:.0%} {judged.prediction}"
    return [said] if judged.is_right else [said, f"is {', '.join(judged.labels) or 'nothing'}"]


def _cell(judged: Judged, picture: Picture | None) -> Image.Image:
    cell = Image.new("RGB", (_CELL_WIDTH, _CELL_HEIGHT), _PAPER)
    colour = _RIGHT if judged.is_right else _WRONG
    draw = ImageDraw.Draw(cell)
    draw.rectangle((0, 0, _CELL_WIDTH - 1, _CELL_WIDTH - 1), fill=_RAISED, outline=colour, width=_FRAME)
    if picture:
        small = Image.open(io.BytesIO(picture.jpeg), formats=["JPEG"]).convert("RGB")
        cell.paste(small, ((_CELL_WIDTH - small.width) // 2, (_CELL_WIDTH - small.height) // 2))
    for place, (line, ink) in enumerate(zip(caption(judged), (colour, _INK), strict=False)):
        _write(draw, line, top=_CELL_WIDTH + 2 + place * _LINE, colour=ink)
    return cell


def _write(draw: ImageDraw.ImageDraw, text: str, *, top: int, colour: str) -> None:
    """Writes a text on one line; what has no room is cut off at the cell's edge."""
    shown = clipped(text, _LABEL_CHARACTERS)
    draw.text((0, top), shown, font=_font(_font_for(shown)), fill=colour)


def _font_for(text: str) -> str:
    """Returns the file of the first font that has every letter of a text, or of the first of all."""
    paths = [font_manager.findfont(name) for name in installed_fonts()]
    return next((path for path in paths if set(map(ord, text)) <= _letters(path)), paths[0])


@functools.cache
def _letters(path: str) -> frozenset[int]:
    return frozenset(font_manager.get_font(path).get_charmap())


@functools.cache
def _font(path: str) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(path, _FONT_SIZE)
