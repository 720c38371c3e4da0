"""The charts of an evaluation as pictures: the matrix of confusion, and how far scores can be trusted."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from beam_pipelines.drawing import GREY, clipped, installed_fonts, write_png
from trainer.evaluation.confusion import Matrix, shown_matrix
from trainer.evaluation.figures import CalibrationBin, Evaluation

_MOST_NUMBERS = 25
_MOST_NAMES = 60
_NAME_CHARACTERS = 24
_DOTS_PER_INCH = 110
# Pixels of a cell: of one with a number, with a name beside it, and of one of very many.
_NUMBERED, _NAMED, _TINY = 44, 22, 2
_SMALLEST_SIDE, _LARGEST_SIDE = 330, 2_200
_MARGIN = 230

_TEAL = "#16655d"
_RUST = "#963c05"
_PALE = "#dddddd"
_RIGHT = LinearSegmentedColormap.from_list("right", ["#eef4f2", _TEAL])
_WRONG = LinearSegmentedColormap.from_list("wrong", ["#f7ece4", _RUST])
_PALE_UNTIL = 0.6


def draw_confusion_matrix(evaluation: Evaluation, path: str) -> None:
    """Writes the matrix as a PNG, whole or not at all; nothing where an example may have several labels.

    Args:
        evaluation: what is drawn.
        path: of the PNG, on any file system.
    """
    figure = confusion_figure(evaluation)
    if figure:
        write_png(figure, path)


def draw_calibration(evaluation: Evaluation, path: str) -> None:
    """Writes the reliability of the scores as a PNG, whole or not at all.

    Args:
        evaluation: what is drawn.
        path: of the PNG, on any file system.
    """
    write_png(calibration_figure(evaluation), path)


def confusion_figure(evaluation: Evaluation) -> Figure | None:
    """Returns the matrix, coloured by the part of a label's examples; None where they may have several labels.

    Counts stand in the cells of up to 25 classes, names beside up to 60; more classes go by their ids, those that are
    mixed up near each other.
    """
    matrix = shown_matrix(evaluation)
    if matrix is None:
        return None
    number = len(matrix.numbers)
    cell = _NUMBERED if number <= _MOST_NUMBERS else _NAMED if number <= _MOST_NAMES else _TINY
    side = min(max(cell * number, _SMALLEST_SIDE), _LARGEST_SIDE)
    size = ((side + _MARGIN) / _DOTS_PER_INCH, (side + _MARGIN) / _DOTS_PER_INCH)
    figure = Figure(figsize=size, dpi=_DOTS_PER_INCH, layout=ConstrainedLayoutEngine())
    axes = figure.subplots()
    axes.set_title(_title(evaluation, matrix), loc="left", fontsize=10, parse_math=False, family=installed_fonts())
    _draw_cells(axes, matrix)
    if number <= _MOST_NUMBERS:
        _draw_counts(axes, matrix)
    _name_classes(axes, matrix)
    axes.spines[:].set_color(_PALE)
    return figure


def calibration_figure(evaluation: Evaluation) -> Figure:
    """Returns the part that is right of the predictions of each range of scores, and how many they are."""
    layout = ConstrainedLayoutEngine(h_pad=0.08)
    figure = Figure(figsize=(6, 7), dpi=_DOTS_PER_INCH, layout=layout)
    reliability, counts = figure.subplots(2, 1, sharex=True, height_ratios=[4, 1])
    bins = [row for row in evaluation.calibration if row.examples]
    for axes in (reliability, counts):
        axes.spines[["top", "right"]].set_visible(False)
        axes.spines[["left", "bottom"]].set_color(GREY)
        axes.tick_params(colors=GREY, labelcolor="black", labelsize=9)
    _draw_reliability(reliability, bins)
    reliability.set_title(
        f"{evaluation.split}, step {evaluation.step:,}: calibration error {evaluation.calibration_error:.1%}",
        loc="left",
        fontsize=10,
    )
    _draw_histogram(counts, bins)
    return figure


def _title(evaluation: Evaluation, matrix: Matrix) -> str:
    shown = len(matrix.numbers)
    classes = f"{shown:,}" if shown == matrix.classes else f"{shown:,} of {matrix.classes:,}"
    return f"{evaluation.split}, step {evaluation.step:,}: {evaluation.accuracy:.1%} right, {classes} classes"


def _draw_cells(axes: Axes, matrix: Matrix) -> None:
    """Draws what is right and what is wrong, each in its colour; the square root lets rare mistakes show."""
    strength = np.ma.masked_equal(np.sqrt(matrix.shares), 0)
    is_right = np.eye(len(strength), dtype=bool)
    for hidden, colours in ((~is_right, _RIGHT), (is_right, _WRONG)):
        masked = np.ma.masked_where(hidden, strength)
        axes.imshow(masked, cmap=colours, vmin=0, vmax=1, interpolation="nearest", aspect="equal")


def _draw_counts(axes: Axes, matrix: Matrix) -> None:
    shares = matrix.shares
    for row, column in np.argwhere(matrix.counts).tolist():
        count = int(matrix.counts[row, column])
        colour = "black" if shares[row, column] < _PALE_UNTIL**2 else "white"
        size = 9 if count < 1_000 else 7 if count < 100_000 else 5
        axes.text(column, row, f"{count:,}", ha="center", va="center", fontsize=size, color=colour)


def _name_classes(axes: Axes, matrix: Matrix) -> None:
    axes.set_xlabel("what the model says", fontsize=9, color=GREY)
    axes.set_ylabel("label", fontsize=9, color=GREY)
    axes.tick_params(length=0, labelsize=7 if _MOST_NUMBERS < len(matrix.numbers) <= _MOST_NAMES else 9)
    if len(matrix.numbers) <= _MOST_NAMES:
        names = [clipped(label, _NAME_CHARACTERS) for label in matrix.labels]
        places, fonts = range(len(names)), installed_fonts()
        axes.set_xticks(places, labels=names, rotation=90, family=fonts, parse_math=False)
        axes.set_yticks(places, labels=names, family=fonts, parse_math=False)
        return
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(MaxNLocator(nbins=12, integer=True))
        axis.set_major_formatter(FuncFormatter(lambda value, _: _id_at(matrix, value)))
    axes.set_xlabel("class id of what the model says", fontsize=9, color=GREY)
    axes.set_ylabel("class id of the label", fontsize=9, color=GREY)


def _id_at(matrix: Matrix, place: float) -> str:
    return str(matrix.numbers[int(place)]) if 0 <= place < len(matrix.numbers) else ""


def _draw_reliability(axes: Axes, bins: list[CalibrationBin]) -> None:
    left, widths = [row.low for row in bins], [row.high - row.low for row in bins]
    accuracies = [row.accuracy for row in bins]
    axes.bar(left, accuracies, width=widths, align="edge", color=_TEAL, edgecolor="white", linewidth=1)
    axes.plot([0, 1], [0, 1], color="black", linewidth=1, linestyle=(0, (4, 3)))
    axes.plot([row.confidence for row in bins], accuracies, "o", color="black", markersize=4, markeredgecolor="white")
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_ylabel("part that is right", fontsize=9)
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.grid(axis="y", color="#0002", linewidth=0.8)
    axes.set_axisbelow(True)


def _draw_histogram(axes: Axes, bins: list[CalibrationBin]) -> None:
    left, widths = [row.low for row in bins], [row.high - row.low for row in bins]
    axes.bar(left, [row.examples for row in bins], width=widths, align="edge", color=GREY, edgecolor="white")
    axes.set_xlabel("score", fontsize=9)
    axes.set_ylabel("predictions", fontsize=9)
    axes.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.yaxis.set_major_locator(MaxNLocator(nbins=3, integer=True))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
