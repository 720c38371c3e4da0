"""An evaluation as `trainer.evaluate` left it, read again from its files. Imports no TensorFlow."""

import csv
import dataclasses
import functools
import io
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from beam_pipelines import files
from beam_pipelines.dataset import TRAIN, VALIDATION
from trainer.card.optional import optional
from trainer.card.sample import HashSample
from trainer.evaluate import CONFUSIONS_FILE, PER_CLASS_FILE, PREDICTIONS_FILE
from trainer.evaluation.figures import CalibrationBin, ClassFigures, Counts, Evaluation, Judged
from trainer.evaluation.options import EVALUATION_FILE, NAMES
from trainer.evaluation.tables import label_separator
from trainer.saved_run import SavedRun


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluated:
    """What is known of how good the checkpoint is.

    Attributes:
        evaluation: of this very checkpoint; None if there is none.
        right: examples of many classes that the model gets right, chosen by hash, by class.
        mistakes: such that it does not.
        other_step: of an evaluation that is of another checkpoint, and not shown; None if there is none.
    """

    evaluation: Evaluation | None = None
    right: tuple[Judged, ...] = ()
    mistakes: tuple[Judged, ...] = ()
    other_step: int | None = None


def read_evaluated(saved: SavedRun, step: int) -> Evaluated:
    """Returns the evaluation of a checkpoint: on the validation split or else, if that is all there is, on `train`."""
    other_step = None
    for split in (VALIDATION, TRAIN):
        directory = files.join(saved.directory.path, NAMES[split])
        found = optional(f"what lies in {directory}", functools.partial(_read_figures, directory, saved))
        if found and found["step"] != step:
            other_step = other_step or int(found["step"])
        elif found and (evaluation := _with_tables(found, directory)):
            examples = optional(PREDICTIONS_FILE, functools.partial(_examples, evaluation, directory))
            right, mistakes = examples or ((), ())
            return Evaluated(evaluation=evaluation, right=right, mistakes=mistakes)
    return Evaluated(other_step=other_step)


def read_evaluation(figures: Mapping[str, Any], directory: str) -> Evaluation:
    """Returns an evaluation without its examples.

    Args:
        figures: what `evaluation.json` has.
        directory: where its tables are, local or gs://.

    Raises:
        FileNotFoundError: a table is not there.
        ValueError: the files are not of one evaluation.
        KeyError, TypeError: they are not what `trainer.evaluate` writes.
    """
    labels = tuple(figures["labels"])
    multi_label = bool(figures["multi_label"])
    classes = tuple(map(_class_figures, _table(files.join(directory, PER_CLASS_FILE))))
    if tuple(row.label for row in classes) != labels:
        raise ValueError(f"{PER_CLASS_FILE} has other classes than {EVALUATION_FILE}")
    confusion = None if multi_label else _confusion(classes, files.join(directory, CONFUSIONS_FILE))
    examples = int(figures["examples"])
    if confusion is not None and confusion.sum() != examples:
        raise ValueError(f"{CONFUSIONS_FILE} has other examples than {EVALUATION_FILE}")
    return Evaluation(
        run=str(figures["run"]),
        model=str(figures["model"]),
        checkpoint=str(figures["checkpoint"]),
        step=int(figures["step"]),
        data=str(figures["data"]),
        split=str(figures["split"]),
        labels=labels,
        multi_label=multi_label,
        examples=examples,
        loss=_number(figures["loss"]),
        accuracy=_number(figures["accuracy"]),
        recall_at_5=_number(figures["recall_at_5"]),
        classes=classes,
        confusion=confusion,
        calibration=tuple(map(_calibration_bin, figures["calibration"])),
        mistakes=(),
        sample=(),
    )


def read_predictions(path: str, labels: Sequence[str]) -> Iterator[Judged]:
    """Yields the examples of a `predictions.csv`, of each the highest score alone.

    Args:
        path: of the table.
        labels: the classes in the order of their ids.
    """
    separator = label_separator(labels)
    for row in _table(path):
        own = tuple(row["labels"].split(separator)) if row["labels"] else ()
        yield Judged(key=row["key"], labels=own, top=((row["prediction"], float(row["score"])),))


def _read_figures(directory: str, saved: SavedRun) -> dict[str, Any]:
    figures = files.read_json(files.join(directory, EVALUATION_FILE))
    if not isinstance(figures, dict) or type(figures.get("step")) is not int:
        raise ValueError(f"{EVALUATION_FILE} is not what trainer.evaluate wrote")
    if tuple(figures["labels"]) != saved.labels:
        raise ValueError(f"{EVALUATION_FILE} is of other classes than the run")
    return figures


def _with_tables(figures: Mapping[str, Any], directory: str) -> Evaluation | None:
    return optional(f"the evaluation in {directory}", lambda: read_evaluation(figures, directory))


def _examples(evaluation: Evaluation, directory: str) -> tuple[tuple[Judged, ...], tuple[Judged, ...]]:
    right, mistakes = HashSample(evaluation.labels), HashSample(evaluation.labels)
    for judged in read_predictions(files.join(directory, PREDICTIONS_FILE), evaluation.labels):
        (right if judged.is_right else mistakes).add(judged)
    return right.examples(), mistakes.examples()


def _class_figures(row: Mapping[str, str]) -> ClassFigures:
    return ClassFigures(
        number=int(row["class_id"]),
        label=row["label"],
        examples=int(row["examples"]),
        predicted=int(row["predicted"]),
        right=int(row["right"]),
        average_precision=float(row["average_precision"]) if row["average_precision"] else None,
    )


def _confusion(classes: Sequence[ClassFigures], path: str) -> Counts:
    """Returns the matrix: what is right from the classes, what is wrong from the table of mistakes."""
    numbers = {row.label: row.number for row in classes}
    counts = np.diag(np.array([row.right for row in classes], np.int64))
    for row in _table(path):
        counts[numbers[row["label"]], numbers[row["prediction"]]] = int(row["examples"])
    return counts


def _calibration_bin(row: Mapping[str, Any]) -> CalibrationBin:
    return CalibrationBin(
        low=float(row["low"]),
        high=float(row["high"]),
        examples=int(row["examples"]),
        confidence=_number(row["confidence"]),
        accuracy=_number(row["accuracy"]),
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)


def _table(path: str) -> Iterator[dict[str, str]]:
    with files.open_to_read(path) as file, io.TextIOWrapper(file, encoding="utf-8", newline="") as text:
        yield from csv.DictReader(text)
