"""The page of a comparison: one file with tables and curves, that loads nothing from anywhere.

Everything that the page shows is computed here and in `curves`; `templates/comparison.html` only lays it out.
"""

import dataclasses
import os
import urllib.parse
from collections.abc import Mapping, Sequence

from beam_pipelines import files
from beam_pipelines.pages import render_page
from trainer.comparison.curves import Axis, Chart, Line, chart, lying_axis, upright_axis
from trainer.comparison.runs import Best, Run
from trainer.comparison.side_by_side import SideBySide
from trainer.comparison.table import letters

METRICS: Mapping[str, str] = {
    "accuracy": "accuracy",
    "recall_at_5": "recall at 5",
    "loss": "loss",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "macro_f1": "macro F1",
    "mean_average_precision": "mean average precision",
    "expected_calibration_error": "calibration error",
}

_COLOURS, _DASHES = 8, 5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """A run in figures.

    Attributes:
        number: by which charts and tables name it, from 1.
        colour: of its curves, a class of the style sheet.
        dash: of its curves, a class of the style sheet.
        link: the page of its evaluation, as a relative address; empty for none.
        letter: of its data.
    """

    number: int
    colour: str
    dash: str
    run: Run
    best: Best | None
    link: str
    letter: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pair:
    """The charts of a figure: of validation and of training, on the same axes."""

    title: str
    charts: list[Chart]
    note: str = ""


def render_comparison(seen: SideBySide, *, output: str) -> str:
    """Returns the page; the same runs give the same page.

    Args:
        seen: what is compared.
        output: where the page goes, from where it links to other pages.
    """
    rows = run_rows(seen, output=output)
    by_steps = has_one_batch_size(seen.runs)
    return render_page(
        "comparison.html",
        package="trainer",
        rows=rows,
        seen=seen,
        groups=[
            {"letter": letter, "runs": group, "data": group[0].data, "places": _places(group)}
            for letter, group in zip(letters(seen), seen.groups, strict=True)
        ],
        metrics=METRICS,
        evaluated=[row for row in rows if row.run.evaluation],
        evaluation_metrics=evaluation_metrics(seen.runs),
        pairs=pairs(rows, by_steps=by_steps),
        by_steps=by_steps,
    )


def run_rows(seen: SideBySide, *, output: str) -> list[Row]:
    """Returns the runs in the order of the comparison, each with a style of its own (there are 40)."""
    of_runs = [letter for letter, group in zip(letters(seen), seen.groups, strict=True) for _ in group]
    return [
        Row(
            number=place + 1,
            colour=f"c{place % _COLOURS}",
            dash=f"d{place % _DASHES}",
            run=run,
            best=run.best,
            link=relative_link(run.evaluation_page, output=output),
            letter=letter,
        )
        for place, (run, letter) in enumerate(zip(seen.runs, of_runs, strict=True))
    ]


def relative_link(path: str, *, output: str) -> str:
    """Returns the address of a local file from a page that lies at `output`; empty where one of them is elsewhere."""
    if not path or files.is_remote(path) or files.is_remote(output):
        return ""
    relative = os.path.relpath(os.path.abspath(path), os.path.dirname(os.path.abspath(output)))
    return "/".join(_quoted(part) for part in relative.split(os.sep))


def has_one_batch_size(runs: Sequence[Run]) -> bool:
    """Tells whether a step is as many examples for all runs."""
    return len({run.options["batch_size"] for run in runs}) == 1


def evaluation_metrics(runs: Sequence[Run]) -> dict[str, str]:
    """Returns names and titles of the metrics that any evaluation has."""
    evaluations = [run.evaluation for run in runs if run.evaluation]
    return {
        name: title
        for name, title in METRICS.items()
        if any(evaluation.get(name) is not None for evaluation in evaluations)
    }


def pairs(rows: Sequence[Row], *, by_steps: bool) -> list[Pair]:
    """Returns the charts of accuracy, loss and the learning rate; those without a curve are left out.

    Args:
        rows: the runs.
        by_steps: lay steps along the axis, else examples.
    """
    scales = {row.number: 1 if by_steps else int(row.run.options["batch_size"]) for row in rows}
    across = lying_axis([scales[row.number] * row.run.step for row in rows])

    def lines(name: str) -> list[Line]:
        return [line for row in rows if (line := _line(row, name, scale=scales[row.number]))]

    made = [
        _pair("Accuracy", {"Validation": lines("val_accuracy"), "Training": lines("accuracy")}, across, is_share=True),
        _pair("Loss", {"Validation": lines("val_loss"), "Training": lines("loss")}, across, may_be_logarithmic=True),
        _pair("Learning rate", {"": lines("learning_rate")}, across),
    ]
    return [pair for pair in made if pair.charts]


def _pair(title: str, drawn: Mapping[str, Sequence[Line]], across: Axis, **scale: bool) -> Pair:
    up = upright_axis([value for lines in drawn.values() for line in lines for _, value in line.places], **scale)
    charts = [chart(name, lines, across=across, up=up) for name, lines in drawn.items() if lines]
    return Pair(title=title, charts=charts, note="Logarithmic scale." if up.logarithmic else "")


def _line(row: Row, name: str, *, scale: int) -> Line | None:
    points = row.run.points(name)
    if not points:
        return None
    places = [(float(scale * step), value) for step, value in points]
    best = row.best.step if row.best and name.startswith("val_") else None
    mark = next((place for place, (step, _) in zip(places, points, strict=True) if step == best), None)
    return Line(number=row.number, name=row.run.name, places=places, mark=mark)


def _places(group: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(run.place for run in group))


def _quoted(part: str) -> str:
    return urllib.parse.quote(part.encode("utf-8", "surrogateescape"))
