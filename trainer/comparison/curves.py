"""Curves become places in a chart: percentages of its width from the left, and of its height from the top."""

import bisect
import dataclasses
import itertools
import math
from collections.abc import Sequence

from beam_pipelines.charts import Tick

# Of a curve, however long it is.
MAX_POINTS = 400

_MAX_TICKS = 6
# From here on the largest value of a chart is so many times the smallest that a logarithmic axis tells more.
_LOGARITHMIC_FROM = 100
# Percentages of the chart: labels that end nearer to one another than this are moved apart.
_LABEL_HEIGHT = 6.5
_LABEL_WIDTH = 5.0
# Of a step: values are as exact as float32 makes them.
_ROUNDING = 1e-6

# Where a value lies on the lying axis, and the value.
Place = tuple[float, float]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Axis:
    """An axis.

    Attributes:
        low: the value at its beginning.
        high: the value at its end.
        ticks: values named at it, from the left, or from the top.
        logarithmic: whether equal factors take equal room.
    """

    low: float
    high: float
    ticks: list[Tick]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Returns how far along the axis a value is, 0 to 1."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Curve:
    """A run's curve.

    Attributes:
        number: of the run, from 1.
        name: of the run.
        outline: an SVG path.
        end: where it ends.
        label: how far from the top its number is written.
        mark: where its best checkpoint is, if it is marked.
    """

    number: int
    name: str
    outline: str
    end: tuple[float, float]
    label: float
    mark: tuple[float, float] | None = None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chart:
    """Curves on the same axes."""

    title: str
    curves: list[Curve]
    across: Axis
    up: Axis


@dataclasses.dataclass(frozen=True, kw_only=True)
class Line:
    """The values of a run, as they were measured.

    Attributes:
        number: of the run, from 1.
        name: of the run.
        places: in the order of the lying axis, at least one.
        mark: one of them that is pointed out.
    """

    number: int
    name: str
    places: Sequence[Place]
    mark: Place | None = None


def chart(title: str, lines: Sequence[Line], *, across: Axis, up: Axis) -> Chart:
    """Returns the chart of lines whose values lie on the axes."""

    def spot(place: Place) -> tuple[float, float]:
        return round(100 * across.share(place[0]), 3), round(100 - 100 * up.share(place[1]), 3)

    ends = [spot(line.places[-1]) for line in lines]
    curves = [
        Curve(
            number=line.number,
            name=line.name,
            outline=outline([spot(place) for place in thinned(line.places)]),
            end=end,
            label=label,
            mark=spot(line.mark) if line.mark else None,
        )
        for line, end, label in zip(lines, ends, labels(ends), strict=True)
    ]
    return Chart(title=title, curves=curves, across=across, up=up)


def thinned(places: Sequence[Place], *, most: int = MAX_POINTS) -> list[Place]:
    """Returns at most `most` of the places: the first, the last, and of equal stretches the lowest and the highest.

    Args:
        places: in the order of the lying axis.
        most: at least 4.
    """
    if len(places) <= most:
        return list(places)
    stretches = (most - 2) // 2
    first, last = places[0], places[-1]
    width = (last[0] - first[0]) / stretches
    edges = [
        bisect.bisect_left(places, first[0] + number * width, key=lambda place: place[0]) for number in range(stretches)
    ]
    kept = {0, len(places) - 1}
    for start, end in itertools.pairwise([*edges, len(places)]):
        stretch = range(start, end)
        if stretch:
            kept.add(min(stretch, key=lambda place: places[place][1]))
            kept.add(max(stretch, key=lambda place: places[place][1]))
    return [places[place] for place in sorted(kept)]


def outline(spots: Sequence[tuple[float, float]]) -> str:
    """Returns the SVG path through places in a chart."""
    first, *others = (f"{x:g},{y:g}" for x, y in spots)
    return f"M{first}{'L' if others else ''}{' '.join(others)}"


def lying_axis(values: Sequence[float]) -> Axis:
    """Returns the axis from 0 to the largest value."""
    high = max(values, default=0) or 1
    step = _round_step(high)
    ticks = _multiples(0, high, step)
    return Axis(low=0, high=high, ticks=[Tick(at=_percent(value / high), text=_text(value)) for value in ticks])


def upright_axis(values: Sequence[float], *, may_be_logarithmic: bool = False, is_share: bool = False) -> Axis:
    """Returns an axis on which all values lie; its ends are round.

    Args:
        values: finite.
        may_be_logarithmic: take a logarithmic one if the values need it and are all positive.
        is_share: values are 0 to 1, and so is the axis.
    """
    low, high = min(values, default=0), max(values, default=1)
    if may_be_logarithmic and low > 0 and high / low >= _LOGARITHMIC_FROM:
        return _logarithmic_axis(low, high)
    if low == high:
        low, high = (low - 0.5, high + 0.5) if low else (0.0, 1.0)
    step = _round_step(high - low)
    low, high = math.floor(low / step + _ROUNDING) * step, math.ceil(high / step - _ROUNDING) * step
    if is_share:
        low, high = max(low, 0.0), min(high, 1.0)
    axis = Axis(low=low, high=high, ticks=[])
    ticks = [Tick(at=_percent(1 - axis.share(value)), text=_text(value)) for value in _multiples(low, high, step)]
    return dataclasses.replace(axis, ticks=ticks)


def labels(ends: Sequence[tuple[float, float]]) -> list[float]:
    """Returns how far from the top the labels of curves go: beside their ends, or so near that none covers another."""
    taken: list[tuple[float, float]] = []
    for x, y in ends:
        near = [other for at, other in taken if abs(at - x) < _LABEL_WIDTH]
        tried = (y + sign * number * _LABEL_HEIGHT / 2 for number in itertools.count() for sign in (1, -1))
        free = (place for place in tried if all(abs(place - other) >= _LABEL_HEIGHT for other in near))
        taken.append((x, next(place for place in free if place <= 100)))
    return [round(y, 3) for _, y in taken]


def _logarithmic_axis(low: float, high: float) -> Axis:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = math.ceil((last - first + 1) / _MAX_TICKS)
    axis = Axis(low=10.0**first, high=10.0**last, ticks=[], logarithmic=True)
    values = [10.0**power for power in range(first, last + 1, every)]
    return dataclasses.replace(
        axis, ticks=[Tick(at=_percent(1 - axis.share(value)), text=_text(value)) for value in values]
    )


def _round_step(extent: float) -> float:
    """Returns the smallest of 1, 2 and 5 times a power of ten that parts `extent` into few enough steps."""
    most = (_MAX_TICKS - 1) * (1 + _ROUNDING)
    power = 10.0 ** math.floor(math.log10(extent / (_MAX_TICKS - 1)))
    return next(factor * power for factor in (1, 2, 5, 10, 20) if extent / (factor * power) <= most)


def _multiples(low: float, high: float, step: float) -> list[float]:
    first, last = math.ceil(low / step - _ROUNDING), math.floor(high / step + _ROUNDING)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _percent(share: float) -> float:
    return round(100 * share, 2)


def _text(value: float) -> str:
    if value and not 1e-3 <= abs(value) < 1e9:
        return f"{value:g}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value:,.6f}".rstrip("0").rstrip(".")
