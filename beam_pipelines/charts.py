"""Numbers become places in a chart: percentages of its width from the left, and of its height from the top."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

_Number = TypeVar("_Number", int, float)

_MAX_TICKS = 7
_STEPS = tuple(factor * 10**power for power in range(13) for factor in (1, 2, 5))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Part:
    """A part of a bar that lies on its side."""

    name: str
    count: int
    start: float
    width: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tick:
    """A value named at an axis."""

    at: float
    text: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Column:
    """An upright bar, and the range of values that it stands for."""

    name: str
    count: int
    start: float
    width: float
    height: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class RankChart:
    """Sizes from the largest to the smallest, the larger the higher on a logarithmic axis.

    Attributes:
        outline: an SVG path, closed along the bottom.
        sizes: ticks of the upright axis.
        ranks: ticks of the lying axis.
    """

    outline: str
    sizes: list[Tick]
    ranks: list[Tick]


def stacked(counts: Mapping[str, int], *, whole: int) -> list[Part]:
    """Returns the parts of a bar one after the other, where `whole` is as long as the chart is wide."""
    ends = list(itertools.accumulate(counts.values(), initial=0))
    return [
        Part(name=name, count=count, start=_share(start, whole), width=_share(count, whole))
        for (name, count), start in zip(counts.items(), ends, strict=False)
    ]


def columns(names: Sequence[str], counts: Sequence[int]) -> list[Column]:
    """Returns bars of equal width from left to right, the largest as high as the chart."""
    most, number = max(counts, default=0), len(counts)
    return [
        Column(
            name=name,
            count=count,
            start=_share(place, number),
            width=_share(1, number),
            height=_share(count, most),
        )
        for place, (name, count) in enumerate(zip(names, counts, strict=True))
    ]


def binned(counts: Mapping[_Number, int], edges: Sequence[_Number]) -> list[int]:
    """Returns how many there are from each edge to below the next; what lies outside goes to the outermost bins."""
    bins = [0] * (len(edges) - 1)
    for value, count in counts.items():
        place = bisect.bisect_right(edges, value) - 1
        bins[min(max(place, 0), len(bins) - 1)] += count
    return bins


def half_octaves(origin: int, *, lowest: int, highest: int) -> list[int]:
    """Returns whole edges, two to a doubling and `origin` among them, of bins from `lowest` to `highest`."""
    lowest, highest = max(min(lowest, origin), 1), max(highest, origin - 1, 1)
    first = math.floor(2 * math.log2(lowest / origin)) - 1
    last = math.ceil(2 * math.log2(highest / origin)) + 4
    edges = sorted({max(round(origin * 2 ** (step / 2)), 1) for step in range(first, last + 1)})
    return _around(edges, lowest, highest)


def round_steps(*, lowest: int, highest: int) -> list[int]:
    """Returns the edges 0, 1, 2, 5, 10, 20, 50 … of bins from `lowest` to `highest`."""
    return _around([0, *_STEPS], lowest, highest)


def ranked(sizes: Sequence[int]) -> RankChart:
    """Returns the chart of sizes in any order; those of 0 take up room on its right, without height.

    Raises:
        ValueError: every size is 0.
    """
    falling = sorted(sizes, reverse=True)
    present = [size for size in falling if size]
    if not present:
        raise ValueError("nothing has a size")
    levels = (0.5, *_STEPS)
    lowest = bisect.bisect_left(levels, 0.99 * present[-1]) - 1  # a size just above a level would have no height
    shown = levels[lowest : bisect.bisect_left(levels, present[0]) + 1]
    places = {size: _logarithmic(size, low=shown[0], high=shown[-1]) for size in {*present, *shown}}
    last_ranks = {size: rank for rank, size in enumerate(present, 1)}
    steps = "".join(f"V{places[size]:g}H{_share(rank, len(falling)):g}" for size, rank in last_ranks.items())
    return RankChart(
        outline=f"M0,100{steps}V100Z",
        sizes=[Tick(at=places[level], text=f"{level:,}") for level in _thinned(shown)],
        ranks=[Tick(at=_share(2 * rank - 1, 2 * len(falling)), text=f"{rank:,}") for rank in _ranks(len(falling))],
    )


def edge_ticks(names: Mapping[int, str]) -> list[Tick]:
    """Returns ticks at the edges of equally wide bins; those with an empty name are left out."""
    return [Tick(at=_share(place, len(names) - 1), text=name) for place, name in enumerate(names.values()) if name]


def _share(part: int, whole: int) -> float:
    return round(100 * part / whole, 2) if whole else 0.0


def _around(edges: Sequence[int], lowest: int, highest: int) -> list[int]:
    return list(edges[max(bisect.bisect_right(edges, lowest) - 1, 0) : bisect.bisect_right(edges, highest) + 1])


def _thinned(levels: Sequence[float]) -> list[float]:
    """Returns the levels to be named: whole ones, and only powers of ten where there are many."""
    whole = [level for level in levels if level >= 1]
    if len(whole) <= _MAX_TICKS:
        return whole
    return [level for level in whole if math.log10(level).is_integer()]


def _ranks(number: int) -> list[int]:
    step = next(step for step in _STEPS if number / step <= _MAX_TICKS)
    return sorted({1, *range(step, number + 1, step)})


def _logarithmic(size: float, *, low: float, high: float) -> float:
    """Returns the place of `size` on an axis from `high` at the top to `low` at the bottom."""
    return round(100 * math.log(high / size) / math.log(high / low), 2)
