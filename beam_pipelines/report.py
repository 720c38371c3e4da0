"""The data set's page, `report.html`: what was asked for, what came of it, and what it looks like; one file.

Everything that the page shows is computed here, in pure functions; `templates/report.html` only lays it out.
"""

import base64
import collections
import dataclasses
import itertools
import json
import re
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from beam_pipelines.charts import (
    Column,
    Part,
    RankChart,
    Tick,
    binned,
    columns,
    edge_ticks,
    half_octaves,
    ranked,
    round_steps,
    stacked,
)
from beam_pipelines.dataset import TRAIN, VALIDATION
from beam_pipelines.rejects import Dropped, Kind, Reason

# What each reason means to people; names of options stand between backquotes.
EXPLANATIONS: Mapping[Reason, str] = {
    Reason.NOT_PUBLIC_DOMAIN: "The catalogue does not say that the work is in the public domain.",
    Reason.NO_IMAGE: "The object is in the catalogue, but no picture of it is listed.",
    Reason.NO_OBJECT: "The picture is listed, but its object is not among the rows taken.",
    Reason.NOT_MATCHING: "An attribute does not have a value that `--filter` asks for.",
    Reason.BAD_ROW: "The row could not be read: its address, its object id or some of its columns are missing.",
    Reason.NOT_A_NUMBER: "The label is not a whole number, so that `--bin` has no range for it.",
    Reason.API_FAILED: "The collection API gave no usable answer about the object.",
    Reason.EXCLUDED: "`--exclude_file` names it.",
    Reason.DUPLICATE_URI: "Another row has the same address; the two became one picture.",
    Reason.LABEL_NOT_SELECTED: "None of its labels is a class: they have too few pictures, or were not asked for.",
    Reason.OVER_MAX_IMAGES_PER_LABEL: "Its class has as many pictures as `--max_images_per_label` allows.",
    Reason.OVER_MAX_IMAGES: "There are as many pictures as `--max_images` allows.",
    Reason.NO_LABEL: "The row has no value for the attribute that labels are taken from.",
    Reason.AMBIGUOUS_LABEL: "Its rows give one picture several labels, which takes `--multi_label`.",
    Reason.DUPLICATE_KEY: "Another picture goes by the same key.",
    Reason.BAD_URI: "The address is none that a picture could be fetched from.",
    Reason.REFUSED_ADDRESS: "The address leads to this machine or to a private network, where nothing is fetched.",
    Reason.NOT_FOUND: "There is nothing at the address (any more).",
    Reason.FORBIDDEN: "The host or the file system does not let the picture be read.",
    Reason.HTTP_ERROR: "The host answered with an error, or in a form that cannot be used.",
    Reason.TOO_MANY_REDIRECTS: "The address leads on to another one more often than `--max_redirects` allows.",
    Reason.TOO_LARGE: "The file is larger than `--max_image_bytes`.",
    Reason.OPTED_OUT: "Its host asks machines, by `X-Robots-Tag`, to leave the picture alone.",
    Reason.RATE_LIMITED: "The host asked for fewer requests until no tries were left.",
    Reason.SERVER_ERROR: "The host failed on every try.",
    Reason.TIMED_OUT: "The host took too long on every try.",
    Reason.CONNECTION_FAILED: "The host could not be reached, or the connection broke.",
    Reason.INCOMPLETE_BODY: "The file broke off before its end, or came damaged.",
    Reason.EMPTY: "The file has no bytes.",
    Reason.HTML_PAGE: "A web page came instead of a picture, as hosts send when they block for a while.",
    Reason.NOT_AN_IMAGE: "The file is not a JPEG, PNG, GIF, BMP or WebP.",
    Reason.CORRUPT_IMAGE: "The file begins like a picture, but is damaged.",
    Reason.TOO_SMALL: "A side of the picture has fewer pixels than `--min_image_side`.",
    Reason.TOO_MANY_PIXELS: "The picture has more pixels than `--max_image_pixels`.",
    Reason.EXTREME_SHAPE: "The picture is so long and thin that a JPEG cannot hold it at `--image_size`.",
    Reason.CORRUPT_RECORD: "The shard is damaged where this picture lay in it.",
    Reason.DUPLICATE_CONTENT: "The very same file is on the other side of the split, where it stays.",
}

_TOP_CLASSES = 40
_MAX_OPEN_CLASSES = 30
_FIRST_OPEN = 5
_COVERING = (1, 2, 3, 5, 10, 20, 50, 100, 200, 500, 1000)
_NARROW, _WIDE = 4, 30  # tenths of an aspect ratio; the outermost bins hold what is beyond
_MAX_TICKS = 5
_MAX_SHOWN_CHARACTERS = 300
_MAX_LINK_CHARACTERS = 2_000
_WEB_ADDRESS = re.compile(r"https?://[^\s/?#\\]", re.IGNORECASE)


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
class PictureSizes:
    """How many pictures there are of each size, as they were fetched.

    Attributes:
        shorter_sides: pixels of the shorter side -> pictures.
        aspect_ratios: width / height, rounded to 0.1 -> pictures.
        kilobytes: size of the file in kB, rounded -> pictures.
    """

    shorter_sides: Mapping[int, int]
    aspect_ratios: Mapping[float, int]
    kilobytes: Mapping[int, int]


def render_report(
    info: Mapping[str, Any],
    *,
    sizes: PictureSizes,
    examples: Mapping[str, Sequence[Dropped]],
    thumbnails: Sequence[Thumbnail],
) -> str:
    """Returns the page; the same values give the same page.

    Args:
        info: what `dataset_info.json` has; `checked_only` where the pictures were checked and none was written.
        sizes: of the pictures as they were fetched.
        examples: a few rows of each reason, in the order in which they are shown.
        thumbnails: of the contact sheet, in the order of class ids.
    """
    from beam_pipelines.pages import render_page  # workers that only make thumbnails need no Jinja2

    classes = class_rows(info)
    contact = sheets(classes, thumbnails)
    return render_page(
        "report.html",
        **shared_values(info, examples),
        checked_only=bool(info.get("checked_only")),
        tail=long_tail(classes),
        histograms=histograms(sizes, image_size=info["options"]["image_size"]),
        measured=measured_facts(sizes, image_size=info["options"]["image_size"]),
        sheets=contact,
        many=len(contact) > _MAX_OPEN_CLASSES,
    )


def shared_values(info: Mapping[str, Any], examples: Mapping[str, Sequence[Dropped]]) -> dict[str, Any]:
    """Returns what the pages of all data sets show: their account, classes, splits, rows left out and options."""
    classes = class_rows(info)
    return {
        "info": info,
        "account": account(info),
        "facts": class_facts(classes),
        "largest": sorted(classes, key=lambda row: -row.total),
        "top": _TOP_CLASSES,
        "splits": split_rows(info),
        "legend": split_legend(classes),
        "left_out": {kind.value: reason_rows(info[kind], kind, examples) for kind in Kind},
        "options": {name: _option_text(value) for name, value in info["options"].items()},
    }


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class and its pictures.

    Attributes:
        number: the class id.
        splits: pictures by split.
        parts: the bar of its splits, against the largest class.
    """

    number: int
    label: str
    splits: Mapping[str, int]
    total: int
    parts: list[Part]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFacts:
    """Classes in figures; sizes are of the classes that have pictures.

    Attributes:
        labelled: pictures, each as often as it has classes.
        imbalance: the largest class as a multiple of the smallest.
        missing: for each split, how many classes have pictures only in the other one.
    """

    number: int
    empty: int
    labelled: int
    largest: ClassRow | None
    smallest: ClassRow | None
    imbalance: float
    median: float
    missing: Mapping[str, int]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tail:
    """How unequal the classes are.

    Attributes:
        covered: number of largest classes -> the pictures in them.
        half: how many of the largest classes hold half of the pictures.
    """

    chart: RankChart
    covered: Mapping[int, int]
    half: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Histogram:
    """How many pictures fall into each range of a measure.

    Attributes:
        mark: a place on the axis that is pointed out, and its name.
    """

    title: str
    unit: str
    columns: list[Column]
    ticks: list[Tick]
    mark: Tick | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class MeasuredFacts:
    """Shorter sides in figures.

    Attributes:
        smaller: pictures with fewer pixels than the data set's own size.
    """

    number: int
    least: int
    median: int
    most: int
    smaller: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Address:
    """Where a picture is: what is shown of it, and where a link leads if it is an address of the web."""

    text: str
    link: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Example:
    """A row that was left out."""

    key: str
    address: Address
    detail: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReasonRow:
    """A reason and the rows that ended with it.

    Attributes:
        part: the bar of its rows, against those of all reasons of its kind.
    """

    reason: Reason
    count: int
    explanation: str
    part: Part
    examples: list[Example]


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


def account(info: Mapping[str, Any]) -> list[Part]:
    """Returns what became of the rows read, as parts of one bar."""
    counts = {"written": info["written"], **{kind.value: sum(info[kind].values()) for kind in Kind}}
    return stacked(counts, whole=info["read"])


def class_rows(info: Mapping[str, Any]) -> list[ClassRow]:
    """Returns the classes in the order of their ids."""
    largest = max(info["labels"].values(), default=0)
    rows = []
    for number, (label, total) in enumerate(info["labels"].items()):
        splits = {split: value["labels"].get(label, 0) for split, value in info["splits"].items()}
        parts = stacked(splits, whole=largest)
        rows.append(ClassRow(number=number, label=label, splits=splits, total=total, parts=parts))
    return rows


def split_legend(rows: Sequence[ClassRow]) -> list[Part]:
    """Returns how the labels of all classes lie in the splits."""
    counts: collections.Counter[str] = collections.Counter()
    for row in rows:
        counts.update(row.splits)
    return stacked(counts, whole=counts.total())


def class_facts(rows: Sequence[ClassRow]) -> ClassFacts:
    """Returns the classes in figures."""
    present = sorted((row for row in rows if row.total), key=lambda row: -row.total)
    largest, smallest = (present[0], present[-1]) if present else (None, None)
    return ClassFacts(
        number=len(rows),
        empty=len(rows) - len(present),
        labelled=sum(row.total for row in rows),
        largest=largest,
        smallest=smallest,
        imbalance=largest.total / smallest.total if largest and smallest else 1,
        median=statistics.median(row.total for row in present) if present else 0,
        missing={split: sum(not row.splits.get(split) for row in present) for split in (TRAIN, VALIDATION)},
    )


def long_tail(rows: Sequence[ClassRow]) -> Tail | None:
    """Returns how unequal the classes are; nothing where none has a picture."""
    sizes = sorted((row.total for row in rows), reverse=True)
    held = list(itertools.accumulate(sizes))
    if not held or not held[-1]:
        return None
    return Tail(
        chart=ranked(sizes),
        covered={number: held[number - 1] for number in _COVERING if number < len(held)},
        half=next(number for number, pictures in enumerate(held, 1) if 2 * pictures >= held[-1]),
    )


def split_rows(info: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Returns each split in figures."""
    return [
        {
            "name": name,
            "examples": split["examples"],
            "classes": sum(count > 0 for count in split["labels"].values()),
            "shards": split.get("shards", []),
        }
        for name, split in info["splits"].items()
    ]


def histograms(sizes: PictureSizes, *, image_size: int) -> list[Histogram]:
    """Returns the charts of the measures that are known."""
    charts = []
    if sizes.shorter_sides:
        charts.append(_shorter_sides(sizes.shorter_sides, image_size))
    if sizes.aspect_ratios:
        charts.append(_aspect_ratios(sizes.aspect_ratios))
    if sizes.kilobytes:
        charts.append(_kilobytes(sizes.kilobytes))
    return charts


def measured_facts(sizes: PictureSizes, *, image_size: int) -> MeasuredFacts | None:
    """Returns the shorter sides in figures; nothing where none is known."""
    sides = sorted((side, count) for side, count in sizes.shorter_sides.items() if count)
    if not sides:
        return None
    number = sum(count for _, count in sides)
    reached = itertools.accumulate(count for _, count in sides)
    return MeasuredFacts(
        number=number,
        least=sides[0][0],
        median=next(side for (side, _), below in zip(sides, reached, strict=True) if 2 * below >= number),
        most=sides[-1][0],
        smaller=sum(count for side, count in sides if side < image_size),
    )


def reason_rows(counts: Mapping[str, int], kind: Kind, examples: Mapping[str, Sequence[Dropped]]) -> list[ReasonRow]:
    """Returns the reasons of a kind, the commonest first."""
    whole = sum(counts.values())
    return [
        ReasonRow(
            reason=Reason(name),
            count=count,
            explanation=EXPLANATIONS[Reason(name)],
            part=stacked({name: count}, whole=whole)[0],
            examples=[_example(dropped) for dropped in examples.get(name, ())],
        )
        for name, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    ]


def sheets(rows: Sequence[ClassRow], thumbnails: Sequence[Thumbnail]) -> list[Sheet]:
    """Returns every class with its thumbnails; nothing where no class has any."""
    tiles = collections.defaultdict(list)
    for thumbnail in thumbnails:
        tiles[thumbnail.label].append(_tile(thumbnail))
    shown = [row.label for row in rows if row.label in tiles]
    opened = shown if len(rows) <= _MAX_OPEN_CLASSES else shown[:_FIRST_OPEN]
    return [Sheet(row=row, tiles=tiles[row.label], is_open=row.label in opened) for row in rows if shown]


def address(uri: str) -> Address:
    """Returns how the page shows an address: a link if it is one of the web and can be read as it stands."""
    is_link = bool(_WEB_ADDRESS.match(uri)) and uri.isprintable() and len(uri) <= _MAX_LINK_CHARACTERS
    return Address(text=clipped(uri), link=uri if is_link else "")


def _example(dropped: Dropped) -> Example:
    return Example(key=clipped(dropped.key), address=address(dropped.uri), detail=clipped(dropped.detail))


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


def clipped(text: str, most: int = _MAX_SHOWN_CHARACTERS) -> str:
    """Returns a text of at most so many characters, which ends in an ellipsis where it was longer."""
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _option_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if type(value) is int else json.dumps(value)


def _shorter_sides(counts: Mapping[int, int], image_size: int) -> Histogram:
    edges = half_octaves(image_size, lowest=min(counts) * 2 // 3, highest=max(counts) * 3 // 2)
    names = [f"{low:,} to {high - 1:,} pixels" for low, high in itertools.pairwise(edges)]
    ticks = edge_ticks({edge: f"{edge:,}" for edge in edges})
    at = edge_ticks({edge: "image_size" if edge == image_size else "" for edge in edges})
    return Histogram(
        title="Shorter side",
        unit="pixels",
        columns=columns(names, binned(counts, edges)),
        ticks=_every_other(ticks, with_text=f"{image_size:,}"),
        mark=at[0] if at else None,
    )


def _aspect_ratios(counts: Mapping[float, int]) -> Histogram:
    tenths: collections.Counter[int] = collections.Counter()
    for ratio, count in counts.items():
        tenths[min(max(round(10 * ratio), _NARROW), _WIDE)] += count
    places = range(min(*tenths, 7), max(*tenths, 14) + 1)
    names = [_ratio_name(place) for place in places]
    bars = columns(names, [tenths[place] for place in places])
    marked = {5: "1:2", 10: "square", 15: "3:2", 20: "2:1", 25: "5:2", 30: "3:1"}
    ticks = [
        Tick(at=round(bar.start + bar.width / 2, 2), text=marked[place])
        for place, bar in zip(places, bars, strict=True)
        if place in marked
    ]
    return Histogram(title="Shape", unit="width : height", columns=bars, ticks=ticks)


def _ratio_name(tenths: int) -> str:
    beyond = {_NARROW: " or narrower", _WIDE: " or wider"}.get(tenths, "")
    return f"{tenths / 10:.1f} : 1{beyond}"


def _kilobytes(counts: Mapping[int, int]) -> Histogram:
    edges = round_steps(lowest=min(counts) // 2, highest=max(counts) * 2 + 1)
    texts = [_file_size(edge) for edge in edges]
    names = [f"{low} to {high}" for low, high in itertools.pairwise(texts)]
    ticks = edge_ticks(dict(zip(edges, texts, strict=True)))
    return Histogram(
        title="File size", unit="", columns=columns(names, binned(counts, edges)), ticks=_every_other(ticks)
    )


def _file_size(kilobytes: int) -> str:
    for size, unit in ((10**6, "GB"), (10**3, "MB")):
        if kilobytes >= size:
            return f"{kilobytes // size} {unit}"
    return f"{kilobytes} kB"


def _every_other(ticks: list[Tick], *, with_text: str = "") -> list[Tick]:
    """Returns so few of the ticks that their texts have room; the one named `with_text` is among them."""
    step = -(-len(ticks) // _MAX_TICKS)
    start = next((place for place, tick in enumerate(ticks) if tick.text == with_text), 0) % step
    return ticks[start::step]
