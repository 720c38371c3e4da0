"""The page of an evaluation, `evaluation.html`: how good a checkpoint is, and where it errs; one file.

Everything that the page shows is computed here and in `confusion.py`, in pure functions; `templates/evaluation.html`
only lays it out. Imports no TensorFlow.
"""

import base64
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from beam_pipelines.charts import Part, stacked
from beam_pipelines.pages import percent, render_page, thousands
from beam_pipelines.picture_lookup import Picture
from beam_pipelines.report.texts import Address, address, clipped
from trainer.evaluation.confusion import Confusion, Matrix, most_confused, shown_matrix
from trainer.evaluation.figures import CalibrationBin, ClassFigures, Evaluation, Judged

# Shades of a cell, from a small part of the label's examples to all of them; the same in evaluation.css.
SHADES = 8

_MOST_CONFUSED = 15
_SCROLLED_CLASSES = 24
_MOST_CELLS = 40_000
_EVEN = 0.01
_LEAST_SCORE = 0.001
_LINES = ("artist", "date", "credit_line", "rights")
_NOTHING = "–"

# Of the matrix with many classes; legible on a light page and on a dark one.
_RIGHT_COLOUR = (32, 150, 137)
_WRONG_COLOUR = (214, 92, 28)
_FAINTEST, _FULL = 110, 255


@dataclasses.dataclass(frozen=True, kw_only=True)
class PageInfo:
    """What the page tells besides the figures.

    Attributes:
        options: of the run, by name, as its `config.json` has them.
        versions: of what the run was made with.
        command: that makes the page again.
    """

    options: Mapping[str, Any]
    versions: Mapping[str, str]
    command: str = ""


def render_evaluation(evaluation: Evaluation, pictures: Mapping[str, Picture], *, info: PageInfo) -> str:
    """Returns the page; the same values give the same page.

    Args:
        evaluation: what is shown.
        pictures: by key, those of mistakes and sample that could be had.
        info: what else is told.
    """
    matrix = shown_matrix(evaluation)
    return render_page(
        "evaluation.html",
        package="trainer",
        evaluation=evaluation,
        run_name=evaluation.run.rstrip("/").rsplit("/", 1)[-1],
        right=right_examples(evaluation),
        outcome=outcome(evaluation),
        headline=headline(evaluation),
        grid=grid(matrix) if matrix and matrix.is_named else [],
        pixels=pixels(matrix) if matrix and not matrix.is_named else None,
        matrix=matrix,
        confusions=confusion_rows(most_confused(evaluation, _MOST_CONFUSED)),
        classes=class_rows(evaluation),
        is_scrolled=len(evaluation.classes) > _SCROLLED_CLASSES,
        calibration=calibration_chart(evaluation.calibration),
        confidence=confidence(evaluation.calibration),
        mistakes=[tile(judged, pictures) for judged in evaluation.mistakes],
        sample=[tile(judged, pictures) for judged in evaluation.sample],
        has_pictures=bool(pictures),
        has_keys=any(judged.key for judged in (*evaluation.mistakes, *evaluation.sample)),
        info=info,
        options={name: option_text(value) for name, value in info.options.items()},
        shades=SHADES,
    )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """A figure of the headline: its value, the counts behind it, and what it means."""

    name: str
    value: str
    counts: str
    meaning: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cell:
    """A cell of the matrix.

    Attributes:
        shade: 0 for none of the label's examples, to `SHADES` for all of them.
    """

    count: int
    shade: int
    is_right: bool


@dataclasses.dataclass(frozen=True, kw_only=True)
class GridRow:
    """A row of the matrix: a label, its examples, and what they are taken for."""

    label: str
    examples: int
    cells: list[Cell]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pixels:
    """The matrix as a picture of one pixel a cell.

    Attributes:
        png: in base64.
        side: pixels.
        numbers: class ids in its order, with spaces between.
        cells: for each row `column:count` with commas between; rows with semicolons between.
        least: examples that a cell has to be in `cells`; 1 unless there were too many.
    """

    png: str
    side: int
    numbers: str
    cells: str
    least: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConfusionRow:
    """A mistake that is made often, and the bar of its examples against those of the one made most."""

    label: str
    prediction: str
    examples: int
    share: str
    part: Part


@dataclasses.dataclass(frozen=True, kw_only=True)
class Rate:
    """A part of a whole: to read, and percent of a bar; none of both where there is no whole."""

    text: str
    width: float | None


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassRow:
    """A class in figures.

    Attributes:
        rates: precision, recall, F1 and, with several labels, average precision.
    """

    number: int
    label: str
    examples: int
    rates: list[Rate]


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinColumn:
    """The predictions of a range of scores, in percent of the chart.

    Attributes:
        accuracy: the part of them that is right.
        confidence: their mean score.
        height: how many they are, against the range that has the most.
    """

    name: str
    start: float
    width: float
    accuracy: float
    confidence: float
    height: float
    examples: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confidence:
    """How high scores are on the whole.

    Attributes:
        score: their mean.
        right: the part that is right.
        kind: `over`, `under` or `even`.
    """

    score: float
    right: float
    kind: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Scored:
    """A class and its score, which is empty if it is not among the highest."""

    label: str
    score: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tile:
    """An example with what the model says of it.

    Attributes:
        data: the JPEG in base64; empty where there is no picture.
        prediction: None where the model was not asked.
        labels: its own.
        others: the next predictions that are not its own, those worth telling.
        title: of the work; the key where it has none.
        lines: attribute -> text, in the order of the caption.
    """

    data: str
    width: int
    height: int
    prediction: Scored | None
    labels: list[Scored]
    others: list[Scored]
    is_right: bool
    title: str
    is_key: bool
    lines: Mapping[str, str]
    address: Address


def right_examples(evaluation: Evaluation) -> int:
    """Returns how many examples have a label of theirs at the highest score."""
    return round(evaluation.accuracy * evaluation.examples)


def outcome(evaluation: Evaluation) -> list[Part]:
    """Returns what became of the examples, as parts of one bar."""
    right = right_examples(evaluation)
    counts = {"first": right}
    if not evaluation.multi_label and len(evaluation.labels) > 5:
        counts["among"] = round(evaluation.recall_at_5 * evaluation.examples) - right
    counts["missed"] = evaluation.examples - sum(counts.values())
    return stacked(counts, whole=evaluation.examples)


def headline(evaluation: Evaluation) -> list[Figure]:
    """Returns the figures of the headline, each with the counts behind it."""
    of_all = f"of {thousands(evaluation.examples)}"
    commonest = max(evaluation.classes, key=lambda row: row.examples)
    figures = [
        Figure(
            name="Accuracy",
            value=_share(evaluation.accuracy),
            counts=f"{thousands(right_examples(evaluation))} {of_all}",
            meaning=f"have {'one of their labels' if evaluation.multi_label else 'their label'} at the highest score. "
            f"Always saying “{clipped(commonest.label, 60)}” would be right for "
            f"{percent(commonest.examples, evaluation.examples)}.",
        ),
        _recall_at_5(evaluation, of_all),
        Figure(
            name="Macro F1",
            value=_share(evaluation.macro_f1),
            counts=f"mean of {_plural(sum(row.examples > 0 for row in evaluation.classes), 'class', 'classes')}",
            meaning="that have examples. F1 is precision and recall in one; rare classes count as much as common ones.",
        ),
    ]
    if evaluation.mean_average_precision is not None:
        figures.append(
            Figure(
                name="Mean average precision",
                value=_share(evaluation.mean_average_precision),
                counts=figures[-1].counts,
                meaning="that have examples. For each, how far its examples come before the others when all are ranked "
                "by its score.",
            )
        )
    scored = sum(row.examples for row in evaluation.calibration)
    figures.append(
        Figure(
            name="Calibration error",
            value=_share(evaluation.calibration_error),
            counts=f"over {_plural(scored, 'score', 'scores')}",
            meaning="is how far a score is, on average, from the part of such scores that is right; 0 is best.",
        )
    )
    return figures


def _recall_at_5(evaluation: Evaluation, of_all: str) -> Figure:
    value = _share(evaluation.recall_at_5)
    if evaluation.multi_label:
        counts, meaning = f"mean {of_all}", "examples: the part of their labels that is among the five highest scores."
    else:
        found = thousands(round(evaluation.recall_at_5 * evaluation.examples))
        counts, meaning = f"{found} {of_all}", "have their label among the five highest scores."
    few = " There are no more classes than that." if len(evaluation.labels) <= 5 else ""
    return Figure(name="Recall at 5", value=value, counts=counts, meaning=meaning + few)


def shade(share: float) -> int:
    """Returns how dark a cell is, by the square root of its share, so that rare mistakes still show."""
    return math.ceil(SHADES * math.sqrt(share) - 1e-9)


def grid(matrix: Matrix) -> list[GridRow]:
    """Returns the rows of a matrix that has room for names and numbers."""
    shares = matrix.shares
    return [
        GridRow(
            label=label,
            examples=int(matrix.counts[row].sum()),
            cells=[
                Cell(count=int(count), shade=shade(shares[row, column]), is_right=row == column)
                for column, count in enumerate(matrix.counts[row])
            ],
        )
        for row, label in enumerate(matrix.labels)
    ]


def pixels(matrix: Matrix) -> Pixels:
    """Returns a matrix of many classes as a picture that is transparent where there is nothing."""
    strength = np.round(np.sqrt(matrix.shares) * 126 + (matrix.counts > 0)).astype(np.uint8)
    strength[np.diag_indices_from(strength)] += np.where(strength.diagonal() > 0, 128, 0).astype(np.uint8)
    image = Image.fromarray(strength, mode="P")
    image.putpalette([*_WRONG_COLOUR] * 128 + [*_RIGHT_COLOUR] * 128)
    ramp = [round(_FAINTEST + (_FULL - _FAINTEST) * step / 127) for step in range(128)]
    out = io.BytesIO()
    image.save(out, "PNG", optimize=True, transparency=bytes([0, *ramp[1:], *ramp]))
    least = _least_listed(matrix)
    rows = (
        ",".join(f"{column}:{row[column]}" for column in np.flatnonzero(row >= least).tolist()) for row in matrix.counts
    )
    return Pixels(
        png=base64.b64encode(out.getvalue()).decode(),
        side=len(matrix.numbers),
        numbers=" ".join(map(str, matrix.numbers)),
        cells=";".join(rows),
        least=least,
    )


def _least_listed(matrix: Matrix) -> int:
    """Returns how many examples a cell must have to be listed, so that not too many are."""
    counts = np.sort(matrix.counts[matrix.counts > 0])[::-1]
    return 1 if len(counts) <= _MOST_CELLS else int(counts[_MOST_CELLS]) + 1


def confusion_rows(confusions: Sequence[Confusion]) -> list[ConfusionRow]:
    """Returns the mistakes made most often, which come first, with their bars."""
    most = confusions[0].examples if confusions else 0
    return [
        ConfusionRow(
            label=pair.label,
            prediction=pair.prediction,
            examples=pair.examples,
            share=_share(pair.share),
            part=stacked({"missed": pair.examples}, whole=most)[0],
        )
        for pair in confusions
    ]


def class_rows(evaluation: Evaluation) -> list[ClassRow]:
    """Returns the classes, the commonest first, those as common by id."""
    return [
        ClassRow(number=row.number, label=row.label, examples=row.examples, rates=_rates(row, evaluation.multi_label))
        for row in sorted(evaluation.classes, key=lambda row: -row.examples)
    ]


def _rates(row: ClassFigures, multi_label: bool) -> list[Rate]:
    values = [
        row.precision if row.predicted else None,
        row.recall if row.examples else None,
        row.f1 if row.examples else None,
    ]
    if multi_label:
        values.append(row.average_precision)
    return [
        Rate(text=_NOTHING, width=None) if value is None else Rate(text=_share(value), width=round(100 * value, 1))
        for value in values
    ]


def calibration_chart(bins: Sequence[CalibrationBin]) -> list[BinColumn]:
    """Returns the ranges of scores that have predictions."""
    most = max((row.examples for row in bins), default=0)
    return [
        BinColumn(
            name=f"{row.low:.0%} to {row.high:.0%}",
            start=round(100 * row.low, 2),
            width=round(100 * (row.high - row.low), 2),
            accuracy=round(100 * row.accuracy, 2),
            confidence=round(100 * row.confidence, 2),
            height=round(100 * row.examples / most, 2),
            examples=row.examples,
        )
        for row in bins
        if row.examples
    ]


def confidence(bins: Sequence[CalibrationBin]) -> Confidence | None:
    """Returns how high scores are on the whole; None where there are none."""
    known = [row for row in bins if row.examples]
    total = sum(row.examples for row in known)
    if not total:
        return None
    score = sum(row.examples * row.confidence for row in known) / total
    right = sum(row.examples * row.accuracy for row in known) / total
    apart = score - right
    kind = "even" if abs(apart) < _EVEN else "over" if apart > 0 else "under"
    return Confidence(score=score, right=right, kind=kind)


def tile(judged: Judged, pictures: Mapping[str, Picture]) -> Tile:
    """Returns how an example is shown."""
    picture = pictures.get(judged.key)
    known = picture.attributes if picture else {}
    scores = {label: _score(score) for label, score in judged.top}
    others = [
        Scored(label=label, score=_score(score))
        for label, score in judged.top[1:]
        if label not in judged.labels and score >= _LEAST_SCORE
    ]
    return Tile(
        data=base64.b64encode(picture.jpeg).decode() if picture else "",
        width=picture.width if picture else 0,
        height=picture.height if picture else 0,
        prediction=Scored(label=judged.prediction, score=_score(judged.score)) if judged.top else None,
        labels=[Scored(label=label, score=scores.get(label, "")) for label in judged.labels],
        others=others,
        is_right=bool(judged.top) and judged.is_right,
        title=known.get("title") or clipped(judged.key),
        is_key=not known.get("title"),
        lines={name: known[name] for name in _LINES if known.get(name)},
        address=address(picture.uri if picture else ""),
    )


def _share(value: float) -> str:
    """Returns a share for people, as of the whole 1."""
    return _NOTHING if math.isnan(value) else percent(value, 1)


def _score(value: float) -> str:
    """Returns a score for people."""
    if 0 < value < _LEAST_SCORE:
        return f"<{_LEAST_SCORE:.1%}"
    return f">{1 - _LEAST_SCORE:.1%}" if 1 - _LEAST_SCORE < value < 1 else f"{value:.1%}"


def _plural(count: int, noun: str, nouns: str) -> str:
    return f"{thousands(count)} {noun if count == 1 else nouns}"


def option_text(value: Any) -> str:
    """Returns an option's value for people; empty where it is not set."""
    if value is None or value in ("", [], ()):
        return ""
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
