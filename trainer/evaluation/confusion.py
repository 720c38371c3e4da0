"""What is taken for what, as it is shown: which classes, in which order, and what is mixed up most often.

Imports no TensorFlow.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainer.evaluation.figures import Counts, Evaluation

# Up to so many classes, every one is shown by its name and every cell with its number.
MOST_NAMED = 40

_MOST_SHOWN = 1_000

Shares = NDArray[np.float64]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Matrix:
    """The classes that are shown, and what is taken for what among them.

    Attributes:
        numbers: class ids, in the order in which they are shown: up to 40 by id, more of them so that classes that are
            mixed up lie near each other.
        labels: of those classes.
        counts: examples by label and prediction, int64 [shown, shown].
        classes: how many there are, shown or not.
    """

    numbers: tuple[int, ...]
    labels: tuple[str, ...]
    counts: Counts
    classes: int

    @property
    def is_named(self) -> bool:
        """Whether there is room for every name and every number."""
        return len(self.numbers) <= MOST_NAMED

    @property
    def shares(self) -> Shares:
        """The counts as parts of the examples of a label, float64 [shown, shown], 0 to 1."""
        return row_shares(self.counts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Confusion:
    """A label, and another one that the model gives to so many of its examples, which are that share of them."""

    label: str
    prediction: str
    examples: int
    share: float


def shown_matrix(evaluation: Evaluation) -> Matrix | None:
    """Returns what is shown of the matrix; None where an example may have several labels.

    Where there are many classes, those without examples and predictions are left out, and all but the 1,000 commonest.
    """
    counts = evaluation.confusion
    if counts is None:
        return None
    numbers = np.arange(len(counts))
    if len(counts) > MOST_NAMED:
        numbers = np.flatnonzero(counts.sum(axis=0) + counts.sum(axis=1))
        commonest = np.argsort(-counts.sum(axis=1)[numbers], kind="stable")[:_MOST_SHOWN]
        numbers = np.sort(numbers[commonest])
    if len(numbers) > MOST_NAMED:
        numbers = numbers[by_likeness(row_shares(counts[np.ix_(numbers, numbers)]))]
    return Matrix(
        numbers=tuple(numbers.tolist()),
        labels=tuple(evaluation.labels[number] for number in numbers),
        counts=counts[np.ix_(numbers, numbers)],
        classes=len(counts),
    )


def row_shares(counts: Counts) -> Shares:
    """Returns counts as parts of the sum of their row, 0 where that is 0."""
    shares: Shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    return shares


def by_likeness(shares: Shares) -> list[int]:
    """Returns the rows in an order in which those that are taken for each other lie near each other.

    Groups of them are joined two at a time, those first that are mixed up most; a group is mixed up with another one as
    much as its two parts are on average.

    Args:
        shares: of each row's examples by prediction, float64 [classes, classes].
    """
    links = (shares + shares.T).astype(np.float32)
    np.fill_diagonal(links, 0)
    groups = [[number] for number in range(len(links))]
    while links.any():
        kept, joined = sorted(divmod(int(links.argmax()), len(links)))
        links[kept] = links[:, kept] = links[[kept, joined]].mean(axis=0)
        links[joined] = links[:, joined] = links[kept, kept] = 0
        groups[kept] += groups[joined]
        groups[joined] = []
    return [number for group in sorted(groups, key=len, reverse=True) for number in group]


def most_confused(evaluation: Evaluation, most: int) -> list[Confusion]:
    """Returns the mistakes that are made most often, the commonest first and those as common by class ids.

    Args:
        evaluation: of examples of one label each; of others there is nothing to say.
        most: of them.
    """
    if evaluation.confusion is None:
        return []
    wrong = evaluation.confusion.copy()
    np.fill_diagonal(wrong, 0)
    places: Sequence[int] = np.argsort(-wrong, axis=None, kind="stable")[:most].tolist()
    pairs = (divmod(place, len(wrong)) for place in places)
    return [
        Confusion(
            label=evaluation.labels[label],
            prediction=evaluation.labels[prediction],
            examples=int(wrong[label, prediction]),
            share=wrong[label, prediction] / evaluation.confusion[label].sum(),
        )
        for label, prediction in pairs
        if wrong[label, prediction]
    ]
