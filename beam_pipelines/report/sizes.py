"""How large the pictures are that were fetched: their shorter sides, their shapes and their files."""

import collections
import dataclasses
import itertools
from collections.abc import Mapping

from beam_pipelines.charts import Column, Tick, binned, columns, edge_ticks, half_octaves, round_steps

_NARROW, _WIDE = 4, 30  # tenths of an aspect ratio; the outermost bins hold what is beyond
_MAX_TICKS = 5


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
