"""What a pass over a split adds up to: figures exact to the example, in memory that does not grow with the split.

All is numpy. Scores are float64, from logits of float32: the softmax of all classes, or with several labels the
sigmoid of each. A class ranks before another of the same logit if its id is smaller, as in training.
"""

import contextlib
import dataclasses
import functools
import heapq
import shutil
import tempfile
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

from beam_pipelines.artwork import stable_hash
from beam_pipelines.errors import RunError
from trainer.evaluation.figures import (
    CalibrationBin,
    ClassFigures,
    Counts,
    Evaluation,
    Judged,
    ProjectedVectors,
    Vectors,
)

Array = NDArray[Any]
Item = TypeVar("Item")

# How many classes recall at 5 looks at, and an example is shown with.
_K = 5
_THRESHOLD = 0.5
_BINS = 15
# Of the hash that draws the sample.
_SALT = "evaluation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ScoredBatch:
    """Examples and what the model gives them.

    Attributes:
        place: of the first one in the split, from 0.
        keys: what they are called; empty where they have no name.
        targets: class ids, int64 [batch], or with several labels 0 and 1, float32 [batch, classes].
        logits: float32 [batch, classes].
        losses: float32 [batch].
        features: before the layer of the classes, float32 [batch, width]; None if the model has no such vector.
    """

    place: int
    keys: tuple[str, ...]
    targets: Array
    logits: NDArray[np.float32]
    losses: NDArray[np.float32]
    features: Vectors | None = None

    @property
    def multi_label(self) -> bool:
        """Whether an example may have several labels."""
        return self.targets.ndim == 2

    @functools.cached_property
    def indicators(self) -> NDArray[np.bool_]:
        """Whether an example has a class, bool [batch, classes]."""
        if self.multi_label:
            return self.targets.astype(np.bool_)
        return np.equal(self.targets[:, np.newaxis], np.arange(self.logits.shape[1]))

    @functools.cached_property
    def ranked(self) -> NDArray[np.int64]:
        """The ids of the classes of the highest logits, int64 [batch, at most 5], ties by id."""
        return np.argsort(-self.logits, axis=1, kind="stable")[:, :_K]

    @functools.cached_property
    def scores(self) -> NDArray[np.float64]:
        """Float64 [batch, classes], 0 to 1."""
        logits = self.logits.astype(np.float64)
        if self.multi_label:
            return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return np.asarray(powers / powers.sum(axis=1, keepdims=True))

    @functools.cached_property
    def hits(self) -> NDArray[np.bool_]:
        """Whether the classes of `ranked` are labels of the example, bool [batch, at most 5]."""
        return np.take_along_axis(self.indicators, self.ranked, axis=1)

    @functools.cached_property
    def top_scores(self) -> NDArray[np.float64]:
        """The scores of the classes of `ranked`, float64 [batch, at most 5]."""
        return np.take_along_axis(self.scores, self.ranked, axis=1)

    def judged(self, row: int, labels: Sequence[str]) -> Judged:
        """Returns one of the examples with the names of its classes."""
        return Judged(
            key=self.keys[row],
            labels=tuple(labels[number] for number in np.flatnonzero(self.indicators[row]).tolist()),
            top=tuple(
                (labels[number], float(score))
                for number, score in zip(self.ranked[row], self.top_scores[row], strict=True)
            ),
        )


class Tally:
    """Adds up scored batches. Use it in a `with` block: average precision needs a file while it lasts."""

    def __init__(
        self, labels: Sequence[str], *, multi_label: bool, examples: int, mistakes: int, sample: int, vectors: int
    ) -> None:
        """Begins with nothing.

        Args:
            labels: the classes, in the order of their ids.
            multi_label: whether an example may have several labels.
            examples: how many there will be at most.
            mistakes: how many are kept.
            sample: how many examples are kept to be shown.
            vectors: how many examples are kept with their features, if the model has any.
        """
        self._labels = tuple(labels)
        self._stack = contextlib.ExitStack()
        self._means = _Means()
        self._calibration = _Calibration()
        self._classes: _LabelCounts | _Confusion = _LabelCounts(len(labels)) if multi_label else _Confusion(len(labels))
        self._precisions = (
            self._stack.enter_context(AveragePrecisions(len(labels), examples=examples)) if multi_label else None
        )
        self._mistakes = _Largest[Judged](mistakes)
        self._sample = _Largest[tuple[Judged, Vectors | None]](max(sample, vectors))
        self._sample_size = sample
        self._vectors_size = vectors
        self._unsound = 0
        self._first_unsound = ""

    def __enter__(self) -> "Tally":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def add(self, batch: ScoredBatch) -> None:
        """Adds examples."""
        unsound = ~np.isfinite(batch.logits).all(axis=1)
        if unsound.any():
            self._first_unsound = self._first_unsound or batch.keys[int(np.argmax(unsound))]
            self._unsound += int(unsound.sum())
            return
        self._means.add(batch)
        self._classes.add(batch)
        self._calibration.add(batch)
        if self._precisions:
            self._precisions.add(batch)
        self._keep_mistakes(batch)
        self._keep_sample(batch)

    def evaluation(
        self, *, run: str, model: str, checkpoint: str, step: int, data: str, split: str
    ) -> tuple[Evaluation, ProjectedVectors | None]:
        """Returns the figures of all that was added, and the vectors of some of it, if there are any.

        The arguments are those of `Evaluation`.

        Raises:
            RunError: there were logits that are not finite.
        """
        self._check_sound()
        means = self._means
        figures = Evaluation(
            run=run,
            model=model,
            checkpoint=checkpoint,
            step=step,
            data=data,
            split=split,
            labels=self._labels,
            multi_label=self._precisions is not None,
            examples=means.examples,
            loss=means.of(means.loss),
            accuracy=means.of(means.correct),
            recall_at_5=means.of(means.in_top_five),
            classes=self._class_figures(),
            confusion=self._classes.confusion,
            calibration=self._calibration.bins(),
            mistakes=tuple(self._mistakes.items()),
            sample=tuple(judged for judged, _ in self._sample.items()[: self._sample_size]),
        )
        return figures, self._projected()

    def _check_sound(self) -> None:
        if self._unsound:
            raise RunError(
                f"the logits of {self._unsound:,} examples are not finite, the first of them is "
                f"{self._first_unsound!r}: choose another --checkpoint, or look at these examples"
            )

    def _class_figures(self) -> tuple[ClassFigures, ...]:
        counts = zip(*self._classes.counts(), strict=True)
        return tuple(
            ClassFigures(
                number=number,
                label=self._labels[number],
                examples=int(examples),
                predicted=int(predicted),
                right=int(right),
                average_precision=self._precisions.of(number) if self._precisions else None,
            )
            for number, (examples, predicted, right) in enumerate(counts)
        )

    def _keep_mistakes(self, batch: ScoredBatch) -> None:
        for row in np.flatnonzero(~batch.hits[:, 0]).tolist():
            rank = (float(batch.top_scores[row, 0]), -(batch.place + row))
            if self._mistakes.takes(rank):
                self._mistakes.add(rank, batch.judged(row, self._labels))

    def _keep_sample(self, batch: ScoredBatch) -> None:
        for row, key in enumerate(batch.keys):
            place = batch.place + row
            rank = (-stable_hash(key or f"{place}", salt=_SALT), -place)
            if self._sample.takes(rank):
                features = None if batch.features is None else batch.features[row].copy()
                self._sample.add(rank, (batch.judged(row, self._labels), features))

    def _projected(self) -> ProjectedVectors | None:
        kept = self._sample.items()[: self._vectors_size]
        vectors = [features for _, features in kept if features is not None]
        if not vectors:
            return None
        return ProjectedVectors(judged=tuple(judged for judged, _ in kept), vectors=np.stack(vectors))


class AveragePrecisions:
    """Average precision of every class: all logits, in a file that is mapped into memory, a class after the other.

    The file takes five bytes for each example and class while the `with` block lasts.
    """

    def __init__(self, classes: int, *, examples: int) -> None:
        """Needs the file only in the block."""
        self._shape = (classes, examples)
        self._added = 0
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> "AveragePrecisions":
        self._logits = self._mapped(np.float32)
        self._has = self._mapped(np.bool_)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        del self._logits, self._has
        self._stack.close()

    def add(self, batch: ScoredBatch) -> None:
        """Adds examples."""
        end = self._added + len(batch.keys)
        self._logits[:, self._added : end] = batch.logits.T
        self._has[:, self._added : end] = batch.indicators.T
        self._added = end

    def of(self, number: int) -> float | None:
        """Returns the average precision of a class; None if no example has it."""
        return average_precision(self._logits[number, : self._added], self._has[number, : self._added])

    def _mapped(self, dtype: type[np.generic]) -> Array:
        size = self._shape[0] * self._shape[1] * np.dtype(dtype).itemsize
        folder = tempfile.gettempdir()
        if size > shutil.disk_usage(folder).free:
            raise RunError(f"{folder} has no room for the {size:,} bytes of scores: set TMPDIR to a larger disk")
        file = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115  (the stack closes it)
        file.truncate(max(size, 1))
        return np.memmap(file, dtype=dtype, mode="r+", shape=self._shape)


def average_precision(scores: Array, relevant: Array) -> float | None:
    """Returns the sum over all thresholds of the precision there times the recall that is gained by it.

    Examples of the same score come together, as in scikit-learn's `average_precision_score`.

    Args:
        scores: [examples], of any float dtype; only their order matters.
        relevant: bool [examples].

    Returns:
        0 to 1; None if nothing is relevant.
    """
    total = int(np.count_nonzero(relevant))
    if not total:
        return None
    order = np.argsort(-scores, kind="stable")
    ordered = scores[order]
    last_of_score = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))
    found = np.cumsum(relevant[order], dtype=np.int64)[last_of_score]
    return float(np.sum(np.diff(found, prepend=0) / total * (found / (last_of_score + 1))))


class _Means:
    """Sums of the examples, from which their means follow."""

    def __init__(self) -> None:
        self.examples = self.correct = 0
        self.loss = self.in_top_five = 0.0

    def add(self, batch: ScoredBatch) -> None:
        labels = batch.indicators.sum(axis=1)
        self.examples += len(batch.keys)
        self.correct += int(batch.hits[:, 0].sum())
        self.in_top_five += float((batch.hits.sum(axis=1) / np.maximum(labels, 1)).sum())
        self.loss += float(batch.losses.sum(dtype=np.float64))

    def of(self, total: float) -> float:
        return total / self.examples if self.examples else float("nan")


class _Confusion:
    """Examples of one label by that and by what is predicted."""

    def __init__(self, classes: int) -> None:
        self.confusion: Counts = np.zeros((classes, classes), np.int64)

    def add(self, batch: ScoredBatch) -> None:
        np.add.at(self.confusion, (batch.targets, batch.ranked[:, 0]), 1)

    def counts(self) -> tuple[Counts, Counts, Counts]:
        """Returns of each class the examples, those predicted and those that are right, int64 [classes] each."""
        return self.confusion.sum(axis=1), self.confusion.sum(axis=0), self.confusion.diagonal()


class _LabelCounts:
    """Examples of several labels by each of them."""

    confusion: None = None

    def __init__(self, classes: int) -> None:
        self._counts = np.zeros((3, classes), np.int64)

    def add(self, batch: ScoredBatch) -> None:
        predicted = batch.scores >= _THRESHOLD
        of_batch = (batch.indicators, predicted, predicted & batch.indicators)
        self._counts += np.stack([of_class.sum(axis=0) for of_class in of_batch])

    def counts(self) -> tuple[Counts, Counts, Counts]:
        """Returns of each class the examples, those predicted and those that are right, int64 [classes] each."""
        examples, predicted, right = self._counts
        return examples, predicted, right


class _Calibration:
    """Scores by how high they are, and how many of them are right."""

    def __init__(self) -> None:
        self._edges = np.linspace(0.0, 1.0, _BINS + 1)
        self._examples = np.zeros(_BINS, np.int64)
        self._right = np.zeros(_BINS, np.int64)
        self._scores = np.zeros(_BINS, np.float64)

    def add(self, batch: ScoredBatch) -> None:
        scores = batch.scores.ravel() if batch.multi_label else batch.top_scores[:, 0]
        right = batch.indicators.ravel() if batch.multi_label else batch.hits[:, 0]
        bins = np.digitize(scores, self._edges[1:-1])
        self._examples += np.bincount(bins, minlength=_BINS)
        self._right += np.bincount(bins[right], minlength=_BINS)
        self._scores += np.bincount(bins, weights=scores, minlength=_BINS)

    def bins(self) -> tuple[CalibrationBin, ...]:
        with np.errstate(invalid="ignore"):
            confidence, accuracy = self._scores / self._examples, self._right / self._examples
        return tuple(
            CalibrationBin(
                low=float(self._edges[number]),
                high=float(self._edges[number + 1]),
                examples=int(self._examples[number]),
                confidence=float(confidence[number]),
                accuracy=float(accuracy[number]),
            )
            for number in range(_BINS)
        )


class _Largest(Generic[Item]):
    """The items of the highest ranks; no two have the same."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._heap: list[tuple[tuple[float, int], Item]] = []

    def takes(self, rank: tuple[float, int]) -> bool:
        return self._size > 0 and (len(self._heap) < self._size or rank > self._heap[0][0])

    def add(self, rank: tuple[float, int], item: Item) -> None:
        push = heapq.heappush if len(self._heap) < self._size else heapq.heapreplace
        push(self._heap, (rank, item))

    def items(self) -> list[Item]:
        """Returns them, the highest rank first."""
        return [item for _, item in sorted(self._heap, key=lambda ranked: ranked[0], reverse=True)]
