"""The comparison as text of equal columns, for a terminal."""

from collections.abc import Iterable, Sequence
from typing import Any

from trainer.comparison.runs import Run
from trainer.comparison.side_by_side import SideBySide

_UNKNOWN = "–"
_SHOWN_CHARACTERS = 24
_TERMINAL_CHARACTERS = 120
_FIGURES = ("accuracy", "recall_at_5", "loss")
_EVALUATED = (*_FIGURES, "macro_f1", "mean_average_precision", "expected_calibration_error")


def text_table(seen: SideBySide) -> str:
    """Returns the comparison in lines: the runs, their evaluations, what sets them apart, and which data differ."""
    parts = [_runs_table(seen), _evaluations_table(seen.runs), _differences_table(seen), data_note(seen)]
    return "\n\n".join(part for part in parts if part)


def data_note(seen: SideBySide) -> str:
    """Returns which runs are on which data, with a warning; nothing where all are on the same."""
    if len(seen.groups) == 1:
        return ""
    lines = [f"The runs are on {len(seen.groups)} different data sets: do not compare figures across them."]
    for letter, group in zip(letters(seen), seen.groups, strict=True):
        data = group[0].data
        places = ", ".join(dict.fromkeys(run.place for run in group))
        lines.append(
            f"  {letter}: {places}, {data['train_examples']:,} to train on, {data['validation_examples']:,} to "
            f"validate on, {len(data['labels']):,} labels ({', '.join(run.name for run in group)})"
        )
    return "\n".join(lines)


def letters(seen: SideBySide) -> list[str]:
    """Returns a name for the data of each group."""
    return [_letter(number) for number in range(len(seen.groups))]


def aligned(rows: Sequence[Sequence[str]], *, numbers: Iterable[int] = ()) -> str:
    """Returns rows, the first of which is the header, with columns as wide as their longest text.

    Args:
        rows: of texts, all with as many columns.
        numbers: the columns that are aligned on the right.
    """
    right = set(numbers)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = (
        "  ".join(
            text.rjust(width) if place in right else text.ljust(width)
            for place, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _runs_table(seen: SideBySide) -> str:
    header = ["run", *_FIGURES, "best_step", "epoch", "steps", "examples/s", "model"]
    rows = [[run.name, *_figures(run), f"{run.options['model']}"] for run in seen.runs]
    if not all(run.finished for run in seen.runs):
        header.append("state")
        rows = [[*row, run.state] for row, run in zip(rows, seen.runs, strict=True)]
    if len(seen.groups) > 1:
        header.append("data")
        of_runs = [letter for letter, group in zip(letters(seen), seen.groups, strict=True) for _ in group]
        rows = [[*row, letter] for row, letter in zip(rows, of_runs, strict=True)]
    table = aligned([header, *rows], numbers=range(1, 8))
    return f"{table}\nfigures of validation at the best checkpoint, ranked by {seen.monitor}"


def _figures(run: Run) -> list[str]:
    best = run.best
    return [
        *(_number(getattr(best, name, None)) for name in _FIGURES),
        _count(best.step if best else None),
        _count(best.epoch if best else None),
        _count(run.step),
        _UNKNOWN if run.speed is None else f"{run.speed:,.0f}",
    ]


def _evaluations_table(runs: Sequence[Run]) -> str:
    evaluated = [(run, run.evaluation) for run in runs if run.evaluation]
    names = [name for name in _EVALUATED if any(evaluation.get(name) is not None for _, evaluation in evaluated)]
    if not evaluated:
        return ""
    rows = [
        [
            run.name,
            *(_number(evaluation.get(name)) for name in names),
            _count(evaluation.get("step")),
            f"{_count(evaluation.get('examples'))} of {evaluation.get('split', _UNKNOWN)}",
        ]
        for run, evaluation in evaluated
    ]
    return aligned([["evaluated", *names, "step", "examples"], *rows], numbers=range(1, len(names) + 2))


def _differences_table(seen: SideBySide) -> str:
    """Returns an option a line; a run a line where the former is too wide, and wider than the latter."""
    if not seen.differing:
        return "no option differs" if len(seen.runs) > 1 else ""
    names = [_shortened(run.name) for run in seen.runs]
    lines = [[name, *map(_shortened, texts)] for name, texts in seen.differing.items()]
    by_option = aligned([["option", *names], *lines])
    by_run = aligned(list(zip(["run", *names], *lines, strict=True)))
    return by_option if _width(by_option) <= max(_TERMINAL_CHARACTERS, _width(by_run)) else by_run


def _width(table: str) -> int:
    return max(map(len, table.splitlines()))


def _letter(number: int) -> str:
    """Returns a name like that of a spreadsheet's column: A to Z, then AA."""
    before, place = divmod(number, 26)
    return (_letter(before - 1) if before else "") + chr(ord("A") + place)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_CHARACTERS else f"…{text[-_SHOWN_CHARACTERS + 1 :]}"


def _number(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, int | float) else _UNKNOWN


def _count(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) else _UNKNOWN
