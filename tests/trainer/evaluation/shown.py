"""Evaluations that the tests of what is shown are about."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from beam_pipelines.picture_lookup import Picture
from tests.beam_pipelines.data_sets import drawn
from trainer.evaluation.figures import CalibrationBin, ClassFigures, Evaluation, Judged

SHIRTS = ("t-shirt", "pants", "hat")
# By label and prediction.
SHIRT_COUNTS = ((50, 10, 0), (4, 30, 1), (0, 5, 0))


def bins(*known: tuple[int, float, float]) -> tuple[CalibrationBin, ...]:
    """Returns as many ranges of scores as there are (examples, confidence, accuracy)."""
    return tuple(
        CalibrationBin(
            low=place / len(known),
            high=(place + 1) / len(known),
            examples=examples,
            confidence=confidence,
            accuracy=accuracy,
        )
        for place, (examples, confidence, accuracy) in enumerate(known)
    )


def judged(
    *labels: str, key: str = "17/0", top: Sequence[tuple[str, float]] = (("pants", 0.75), ("hat", 0.2))
) -> Judged:
    """Returns an example of these labels, by default one that the model takes for pants."""
    return Judged(key=key, labels=labels or ("hat",), top=tuple(top))


def picture(**attributes: str) -> Picture:
    """Returns a small picture from the web."""
    uri = "https://museum.example/17.jpg"
    return Picture(jpeg=drawn(1), width=64, height=48, uri=uri, attributes=attributes)


def evaluation(labels: Sequence[str] = SHIRTS, counts: ArrayLike = SHIRT_COUNTS, **changes: Any) -> Evaluation:
    """Returns an evaluation whose matrix is `counts`."""
    matrix = np.array(counts, np.int64)
    classes = tuple(
        ClassFigures(
            number=number,
            label=label,
            examples=int(matrix[number].sum()),
            predicted=int(matrix[:, number].sum()),
            right=int(matrix[number, number]),
        )
        for number, label in enumerate(labels)
    )
    values: dict[str, Any] = {
        "run": "/runs/shirts",
        "model": "small_cnn",
        "checkpoint": "best",
        "step": 1722,
        "data": "/data/shirts",
        "split": "validation",
        "labels": tuple(labels),
        "multi_label": False,
        "examples": int(matrix.sum()),
        "loss": 0.5,
        "accuracy": matrix.trace() / matrix.sum(),
        "recall_at_5": 1.0,
        "classes": classes,
        "confusion": matrix,
        "calibration": bins((0, np.nan, np.nan), (20, 0.3, 0.5), (80, 0.9, 0.875)),
        "mistakes": (judged(),),
        "sample": (judged("pants", key="18/0"), judged(key="17/0")),
    }
    return Evaluation(**{**values, **changes})


def several_labels(**changes: Any) -> Evaluation:
    """Returns an evaluation of examples that may have several labels."""
    classes = (
        ClassFigures(number=0, label="hat", examples=60, predicted=50, right=45, average_precision=0.9),
        ClassFigures(number=1, label="shoes", examples=40, predicted=10, right=5, average_precision=0.4),
        ClassFigures(number=2, label="gloves", examples=0, predicted=0, right=0),
    )
    values: dict[str, Any] = {
        "multi_label": True,
        "labels": ("hat", "shoes", "gloves"),
        "classes": classes,
        "confusion": None,
        "examples": 80,
        "accuracy": 0.75,
        "recall_at_5": 0.9,
        "calibration": bins((200, 0.1, 0.05), (40, 0.8, 0.5)),
        "mistakes": (judged("hat", "shoes", top=(("gloves", 0.75), ("hat", 0.2))),),
        "sample": (judged("hat", "shoes", top=(("hat", 0.9), ("gloves", 0.2))),),
    }
    return evaluation(**{**values, **changes})


def many_classes(classes: int, *, examples: int = 9_000, seed: int = 0) -> Evaluation:
    """Returns an evaluation of so many classes, at least six, which are mixed up within families of five alone."""
    draws = np.random.default_rng(seed)
    label = draws.integers(classes, size=examples)
    family = label // 5 * 5 + draws.integers(5, size=examples)
    prediction = np.where(draws.random(examples) < 0.6, label, np.minimum(family, classes - 1))
    counts = np.zeros((classes, classes), np.int64)
    np.add.at(counts, (label, prediction), 1)
    names = [f"Attic workshop no. {number}, attributed" for number in range(classes)]
    shown = [
        judged(names[0], key=f"{number}/0", top=[(names[place], 0.5 / place) for place in range(1, 6)])
        for number in range(72)
    ]
    return evaluation(names, counts, mistakes=tuple(shown[:48]), sample=tuple(shown[48:]))
