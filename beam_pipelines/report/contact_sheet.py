"""The contact sheet: a few small pictures of each class, with their captions."""

import base64
import collections
import dataclasses
from collections.abc import Mapping, Sequence

from beam_pipelines.report.classes import ClassRow
from beam_pipelines.report.texts import Address, address, clipped

# With more classes than these, most of them are folded.
MAX_OPEN_CLASSES = 30

_FIRST_OPEN = 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Thumbnail:
    """A picture of the contact sheet.

    Attributes:
        key: the picture's.
        uri: where it was fetched from.
        split: `train` or `validation`.
        label: the class under which it is shown.
        jpeg: its bytes, at most 128 pixels a side.
        width: pixels of the thumbnail.
        height: pixels of the thumbnail.
        attributes: those of title, artist, date, credit_line, rights and department that are known.
    """

    key: str
    uri: str
    split: str
    label: str
    jpeg: bytes
    width: int
    height: int
    attributes: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """A thumbnail and its caption.

    Attributes:
        data: the JPEG in base64.
        lines: attribute -> text, in the order of the caption; the title is not among them.
    """

    data: str
    width: int
    height: int
    key: str
    split: str
    address: Address
    title: str
    lines: Mapping[str, str]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sheet:
    """The contact sheet of a class."""

    row: ClassRow
    tiles: list[Tile]
    is_open: bool


def sheets(rows: Sequence[ClassRow], thumbnails: Sequence[Thumbnail]) -> list[Sheet]:
    """Returns every class with its thumbnails; nothing where no class has any."""
    tiles = collections.defaultdict(list)
    for thumbnail in thumbnails:
        tiles[thumbnail.label].append(_tile(thumbnail))
    shown = [row.label for row in rows if row.label in tiles]
    opened = shown if len(rows) <= MAX_OPEN_CLASSES else shown[:_FIRST_OPEN]
    return [Sheet(row=row, tiles=tiles[row.label], is_open=row.label in opened) for row in rows if shown]


def _tile(thumbnail: Thumbnail) -> Tile:
    known = thumbnail.attributes
    return Tile(
        data=base64.b64encode(thumbnail.jpeg).decode(),
        width=thumbnail.width,
        height=thumbnail.height,
        key=clipped(thumbnail.key),
        split=thumbnail.split,
        address=address(thumbnail.uri),
        title=known.get("title", ""),
        lines={name: known[name] for name in ("artist", "date", "credit_line", "rights") if known.get(name)},
    )
