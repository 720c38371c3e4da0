"""The figures of an evaluation as CSV."""

import contextlib
import csv
import io
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from beam_pipelines import files
from trainer.evaluation.figures import Evaluation
from trainer.evaluation.metrics import ScoredBatch

_PER_CLASS = (
    "class_id", "label", "examples", "predicted", "right", "precision", "recall", "f1", "average_precision",
)  # fmt: skip
_CONFUSIONS = ("label", "prediction", "examples")
_PREDICTIONS = ("key", "labels", "prediction", "score", "right")


def write_per_class(evaluation: Evaluation, path: str) -> None:
    """Writes the figures of each class, one a line, by class id."""
    with _writer(path, _PER_CLASS) as writer:
        for row in evaluation.classes:
            counts = (row.number, row.label, row.examples, row.predicted, row.right)
            shares = (row.precision, row.recall, row.f1, row.average_precision)
            writer.writerow([*counts, *map(_number, shares)])


def write_confusions(evaluation: Evaluation, path: str) -> None:
    """Writes which class was taken for which other one and how often, the most often first.

    Raises:
        ValueError: examples may have several labels.
    """
    confusion = evaluation.confusion
    if confusion is None:
        raise ValueError("there is no confusion where examples may have several labels")
    mistaken = confusion.copy()
    np.fill_diagonal(mistaken, 0)
    pairs = zip(*np.nonzero(mistaken), strict=True)
    with _writer(path, _CONFUSIONS) as writer:
        for label, prediction in sorted(pairs, key=lambda pair: (-int(mistaken[pair]), pair)):
            names = evaluation.labels[label], evaluation.labels[prediction]
            writer.writerow([*names, int(mistaken[label, prediction])])


class PredictionsTable:
    """What the model says of every example, one a line, in the order of the pass; see `predictions_table`."""

    def __init__(self, writer: Any, labels: Sequence[str]) -> None:
        """Writes nothing yet.

        Args:
            writer: of CSV.
            labels: the classes, in the order of their ids.
        """
        self._writer = writer
        self._labels = labels
        self._separator = label_separator(labels)

    def add(self, batch: ScoredBatch) -> None:
        """Adds examples."""
        for row, key in enumerate(batch.keys):
            labels = [self._labels[number] for number in np.flatnonzero(batch.indicators[row]).tolist()]
            prediction = self._labels[batch.ranked[row, 0]]
            right = "true" if batch.hits[row, 0] else "false"
            score = _number(float(batch.top_scores[row, 0]))
            self._writer.writerow([key, self._separator.join(labels), prediction, score, right])


@contextlib.contextmanager
def predictions_table(path: str, labels: Sequence[str]) -> Iterator[PredictionsTable]:
    """Gives a table that appears at `path` when the block ends, and not at all if it raises."""
    with _writer(path, _PREDICTIONS) as writer:
        yield PredictionsTable(writer, labels)


def label_separator(labels: Sequence[str]) -> str:
    """Returns what stands between several labels of an example: `|`, or else a character that no label has."""
    used = set().union(*labels)
    return next(
        character for character in itertools.chain("|;¦", map(chr, itertools.count(0x2500))) if character not in used
    )


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


@contextlib.contextmanager
def _writer(path: str, header: Sequence[str]) -> Iterator[Any]:
    """Gives a writer of CSV; what UTF-8 cannot hold becomes an escape."""
    with (
        files.open_to_write(path) as file,
        io.TextIOWrapper(file, encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        writer = csv.writer(text)  # ends lines with CRLF, without which it would not quote a CR
        writer.writerow(header)
        yield writer
