"""A chart of how common labels are: the commonest by name, and all of them by rank."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from beam_pipelines.drawing import GREY, clipped, installed_fonts, write_png

_NAMED = 40
# Up to so many ranks stand on a linear axis.
_LINEAR_RANKS = 100
_BLUE = "#4472b8"
_RED = "#c0392b"


def draw_label_chart(counts: Mapping[str, int], path: str, *, attribute: str, threshold: int) -> None:
    """Writes the chart as a PNG, whole or not at all.

    Args:
        counts: pictures of each label, the commonest first; may be empty.
        path: of the PNG, on any file system.
        attribute: whose values the labels are.
        threshold: pictures that a label needs to become a class.
    """
    fonts = installed_fonts()
    named = dict(list(counts.items())[:_NAMED])
    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.12, wspace=0.04)
    figure = Figure(figsize=(14, 3 + 0.2 * len(named)), dpi=110, layout=layout)
    bars, ranks = figure.subplots(1, 2)
    for axes in (bars, ranks):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=GREY, labelcolor="black", labelsize=9)
    _draw_named(bars, named, title=_title(counts, attribute), fonts=fonts)
    _draw_ranks(ranks, list(counts.values()), threshold=threshold)
    write_png(figure, path)


def _title(counts: Mapping[str, int], attribute: str) -> str:
    commonest = f", the {_NAMED} commonest of {len(counts):,}" if len(counts) > _NAMED else ""
    return f"{clipped(attribute)}: pictures of each value{commonest}"


def _draw_named(axes: Axes, named: Mapping[str, int], *, title: str, fonts: Sequence[str]) -> None:
    axes.set_title(title, loc="left", fontsize=11, family=fonts, parse_math=False)
    if not named:
        _say_empty(axes)
        return
    places = range(len(named))
    bars = axes.barh(places, list(named.values()), height=0.72, color=_BLUE)
    axes.bar_label(bars, labels=[f"{count:,}" for count in named.values()], padding=3, fontsize=8.5, color=GREY)
    names = [clipped(name) for name in named]
    axes.set_yticks(places, labels=names, family=fonts, parse_math=False)
    axes.set_ylim(len(named) - 0.4, -0.6)
    axes.margins(x=0.1)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True))
    axes.xaxis.set_major_formatter(_THOUSANDS)


def _draw_ranks(axes: Axes, counts: Sequence[int], *, threshold: int) -> None:
    axes.set_title("the long tail: pictures by rank of the value", loc="left", fontsize=11)
    if not counts:
        _say_empty(axes)
        return
    above = sum(count >= threshold for count in counts)
    many = len(counts) > _LINEAR_RANKS
    axes.plot(range(1, len(counts) + 1), counts, color=_BLUE, linewidth=2, marker="" if many else "o", markersize=3)
    axes.axhline(threshold, color=_RED, linewidth=1, linestyle=(0, (4, 3)))
    axes.annotate(
        f"{above:,} of {len(counts):,} have {threshold:,} pictures or more",
        xy=(1, threshold),
        xycoords=("axes fraction", "data"),
        xytext=(0, 4),
        textcoords="offset points",
        ha="right",
        color=_RED,
        fontsize=9,
        bbox={"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1},
        zorder=3,
    )
    axes.set_yscale("log")
    axes.set_ylim(0.8, max(12, 2 * threshold, 2 * counts[0]))
    if many:
        axes.set_xscale("log")
        axes.set_xlim(0.9, len(counts) * 1.3)
    else:
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        axes.set_xlim(0.5, len(counts) + 0.5)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(_THOUSANDS)
        axis.set_minor_formatter(NullFormatter())
    axes.grid(color="#0001", linewidth=0.8)
    axes.set_axisbelow(True)


def _say_empty(axes: Axes) -> None:
    axes.set_axis_off()
    axes.text(0, 0.9, "no picture has a value", transform=axes.transAxes, va="top", color=GREY)


_THOUSANDS = FuncFormatter(lambda value, _: f"{value:,.0f}")
