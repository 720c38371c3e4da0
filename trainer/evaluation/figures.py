"""What an evaluation found, exact to the example. Imports no TensorFlow."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Vectors = NDArray[np.float32]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClassFigures:
    """A class in figures.

    Attributes:
        number: the class id.
        examples: that have the class.
        predicted: that the model gives the class: as the first one, or with several labels at a score of 0.5 and more.
        right: of those predicted, that have it.
        average_precision: of the examples ranked by the score of the class; None unless there may be several labels,
            or if no example has the class.
    """

    number: int
    label: str
    examples: int
    predicted: int
    right: int
    average_precision: float | None = None

    @property
    def precision(self) -> float:
        """The part of the predicted examples that has the class; 0 if there are none."""
        return self.right / self.predicted if self.predicted else 0.0

    @property
    def recall(self) -> float:
        """The part of the examples of the class that is predicted; 0 if there are none."""
        return self.right / self.examples if self.examples else 0.0

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 if both are."""
        either = self.predicted + self.examples
        return 2 * self.right / either if either else 0.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrationBin:
    """Predictions whose score lies from `low` to `high`.

    Attributes:
        examples: how many.
        confidence: their mean score; NaN if there are none.
        accuracy: the part of them that is right; NaN if there are none.
    """

    low: float
    high: float
    examples: int
    confidence: float
    accuracy: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Judged:
    """An example and what the model says of it.

    Attributes:
        key: of the picture; empty where examples have no name.
        labels: its own, in the order of class ids.
        top: the classes of the five highest scores, or of as many as are known, and the scores, the highest first;
            empty where the model was not asked.
    """

    key: str
    labels: tuple[str, ...]
    top: tuple[tuple[str, float], ...]

    @property
    def prediction(self) -> str:
        """The class of the highest score."""
        return self.top[0][0]

    @property
    def score(self) -> float:
        """The highest score, 0 to 1."""
        return self.top[0][1]

    @property
    def is_right(self) -> bool:
        """Whether the class of the highest score is one of its own."""
        return self.prediction in self.labels


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProjectedVectors:
    """What a model makes of some examples, before the layer of the classes.

    Attributes:
        judged: the examples, in the order of the hashes of their keys, so that `sample` begins alike.
        vectors: float32 [examples, width], one for each.
    """

    judged: tuple[Judged, ...]
    vectors: Vectors

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys of the examples."""
        return tuple(example.key for example in self.judged)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """A checkpoint on a split.

    Attributes:
        run: the run's directory.
        model: as `--model` has it.
        checkpoint: how it was chosen: `best`, `latest` or a step.
        step: of the checkpoint.
        data: where the examples lie.
        split: `train` or `validation`.
        labels: the classes in the order of their ids.
        multi_label: whether an example may have several labels.
        examples: how many were looked at, each once.
        loss: as training measures it, with its label smoothing; the mean of the examples.
        accuracy: the part of the examples whose highest score is that of a label of theirs.
        recall_at_5: the part of an example's labels among its five highest scores; the mean of the examples.
        classes: one for each label, by id.
        confusion: examples by label and prediction, int64 [classes, classes]; None if there may be several labels.
        calibration: by the highest score of each example; with several labels by the scores of all classes.
        mistakes: examples that are not right, the highest score first, as many as were asked for.
        sample: a few examples, drawn by the hash of their keys.
    """

    run: str
    model: str
    checkpoint: str
    step: int
    data: str
    split: str
    labels: tuple[str, ...]
    multi_label: bool
    examples: int
    loss: float
    accuracy: float
    recall_at_5: float
    classes: tuple[ClassFigures, ...]
    confusion: Counts | None
    calibration: tuple[CalibrationBin, ...]
    mistakes: tuple[Judged, ...]
    sample: tuple[Judged, ...]

    @property
    def macro_precision(self) -> float:
        """The mean of the classes that have examples."""
        return self._macro([row.precision for row in self._present])

    @property
    def macro_recall(self) -> float:
        """The mean of the classes that have examples."""
        return self._macro([row.recall for row in self._present])

    @property
    def macro_f1(self) -> float:
        """The mean of the classes that have examples."""
        return self._macro([row.f1 for row in self._present])

    @property
    def mean_average_precision(self) -> float | None:
        """The mean of the classes that have examples; None unless there may be several labels."""
        return self._macro([row.average_precision or 0.0 for row in self._present]) if self.multi_label else None

    @property
    def calibration_error(self) -> float:
        """How far scores are from the parts that are right: the expected calibration error, 0 to 1.

        Guo et al., On Calibration of Modern Neural Networks, https://arxiv.org/abs/1706.04599, equation 3.
        """
        total = sum(of_bin.examples for of_bin in self.calibration)
        apart = (row.examples * abs(row.accuracy - row.confidence) for row in self.calibration if row.examples)
        return sum(apart) / total if total else math.nan

    @property
    def metrics(self) -> Mapping[str, float | None]:
        """All single figures by name, as `evaluation.json` has them."""
        return {
            "loss": self.loss,
            "accuracy": self.accuracy,
            "recall_at_5": self.recall_at_5,
            "macro_precision": self.macro_precision,
            "macro_recall": self.macro_recall,
            "macro_f1": self.macro_f1,
            "mean_average_precision": self.mean_average_precision,
            "expected_calibration_error": self.calibration_error,
        }

    def to_json(self) -> dict[str, Any]:
        """Returns what `evaluation.json` has, with null for figures that are not numbers."""
        return {
            "format": 1,
            "run": self.run,
            "model": self.model,
            "checkpoint": self.checkpoint,
            "step": self.step,
            "data": self.data,
            "split": self.split,
            "labels": list(self.labels),
            "multi_label": self.multi_label,
            "examples": self.examples,
            **{name: _plain(value) for name, value in self.metrics.items()},
            "calibration": [
                {name: _plain(value) for name, value in dataclasses.asdict(row).items()} for row in self.calibration
            ],
        }

    @property
    def _present(self) -> list[ClassFigures]:
        return [row for row in self.classes if row.examples]

    @staticmethod
    def _macro(values: Sequence[float]) -> float:
        return sum(values) / len(values) if values else math.nan


def _plain(value: float | None) -> float | None:
    return value if value is None or math.isfinite(value) else None
