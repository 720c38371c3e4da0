r"""The files of predictions: their names, and what a line of them is in either format.

JSON lines have `key`, `prediction` (the class id), `label` and `score`; where the input has labels `labels`, and where
asked `scores`, of all classes. In CSV those two are JSON lists. Characters that UTF-8 cannot hold, as in file names
that are none, are written as `\udc80`.
"""

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Iterator
from typing import Protocol

from beam_pipelines.prediction.options import CSV

_SIGNIFICANT_DIGITS = 6
_MAX_FIELD_CHARACTERS = 1 << 24


@dataclasses.dataclass(frozen=True, order=True)
class PredictionShard:
    """One file of predictions: `predictions-00003-of-00032.jsonl`."""

    index: int
    count: int
    ending: str

    @property
    def name(self) -> str:
        """The name without an ending."""
        return f"predictions-{self.index:05d}-of-{self.count:05d}"

    @property
    def file_name(self) -> str:
        """The name of its file in the output directory."""
        return f"{self.name}.{self.ending}"


@dataclasses.dataclass(frozen=True)
class PredictedRow:
    """A line of predictions.

    Attributes:
        key: the row's.
        prediction: the class id.
        label: its name.
        score: of that class.
        labels: what the row was said to show.
        scores: of all classes, in the order of their ids; empty where they were not asked for.
    """

    key: str
    prediction: int
    label: str
    score: float
    labels: tuple[str, ...] = ()
    scores: tuple[float, ...] = ()


class OutputFormat(Protocol):
    """Writes rows as the bytes of a file, and reads them again."""

    def header(self) -> bytes:
        """Returns what the file begins with."""

    def encode(self, row: PredictedRow) -> bytes:
        """Returns a row with its line end."""

    def decode(self, lines: Iterable[str]) -> Iterator[PredictedRow]:
        """Yields the rows of a file, given its lines with their ends."""


def significant(score: float) -> float:
    """Returns a score with six significant digits, which is less than what batches of another size change."""
    return float(f"{score:.{_SIGNIFICANT_DIGITS}g}")


def output_format(name: str, *, with_labels: bool, all_scores: bool) -> OutputFormat:
    """Returns a format, one of `OUTPUT_FORMATS`.

    Args:
        name: the format's.
        with_labels: whether rows have `labels`.
        all_scores: whether rows have `scores`.
    """
    made = _Csv if name == CSV else _JsonLines
    return made(with_labels=with_labels, all_scores=all_scores)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _JsonLines:
    with_labels: bool
    all_scores: bool

    def header(self) -> bytes:
        return b""

    def encode(self, row: PredictedRow) -> bytes:
        value: dict[str, object] = {
            "key": row.key,
            "prediction": row.prediction,
            "label": row.label,
            "score": row.score,
        }
        if self.with_labels:
            value["labels"] = row.labels
        if self.all_scores:
            value["scores"] = row.scores
        return f"{_json(value)}\n".encode("utf-8", "backslashreplace")  # which is how JSON escapes a surrogate

    def decode(self, lines: Iterable[str]) -> Iterator[PredictedRow]:
        for line in lines:
            value = json.loads(line)
            yield PredictedRow(
                value["key"],
                value["prediction"],
                value["label"],
                value["score"],
                tuple(value.get("labels", ())),
                tuple(value.get("scores", ())),
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Csv:
    with_labels: bool
    all_scores: bool

    def header(self) -> bytes:
        names = ["key", "prediction", "label", "score"]
        return _csv_line([*names, *["labels"] * self.with_labels, *["scores"] * self.all_scores])

    def encode(self, row: PredictedRow) -> bytes:
        cells: list[object] = [row.key, row.prediction, row.label, row.score]
        return _csv_line([*cells, *[_json(row.labels)] * self.with_labels, *[_json(row.scores)] * self.all_scores])

    def decode(self, lines: Iterable[str]) -> Iterator[PredictedRow]:
        csv.field_size_limit(_MAX_FIELD_CHARACTERS)
        rows = csv.reader(lines)
        next(rows)
        for key, prediction, label, score, *more in rows:
            lists = [tuple(json.loads(cell)) for cell in more]
            labels = lists.pop(0) if self.with_labels else ()
            scores = lists.pop(0) if self.all_scores else ()
            yield PredictedRow(key, int(prediction), label, float(score), labels, scores)


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _csv_line(cells: Iterable[object]) -> bytes:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(cells)  # ends lines with CRLF, without which it would not quote a CR
    return text.getvalue().encode("utf-8", "backslashreplace")
