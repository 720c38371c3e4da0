import math
import tempfile
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy
from numpy.typing import NDArray
from sklearn import metrics as sklearn

from beam_pipelines.errors import RunError
from tests.trainer.evaluation.builders import batches, evaluated, evaluation_of, names, new_tally
from trainer import metrics as of_training
from trainer.evaluation.figures import Judged
from trainer.evaluation.metrics import ScoredBatch, average_precision

Array = NDArray[Any]

# Few values, so that many are equal.
LOGITS = st.sampled_from([-2.5, -1.0, -0.0, 0.0, 0.25, 1.0, 3.0, 60.0])


@st.composite
def examples(draw: st.DrawFn, *, multi_label: bool) -> tuple[Array, Array]:
    """Draws targets and logits of 1 to 8 classes, some of them without examples."""
    count, classes = draw(st.integers(1, 20)), draw(st.integers(1, 8))
    logits = draw(of_numpy.arrays(np.float32, (count, classes), elements=LOGITS))
    if multi_label:
        return draw(of_numpy.arrays(np.float32, (count, classes), elements=st.sampled_from([0, 0, 1]))), logits
    return draw(of_numpy.arrays(np.int64, (count,), elements=st.integers(0, (classes + 1) // 2 - 1))), logits


def training_figures(targets: Array, logits: Array, losses: Array) -> dict[str, float]:
    """Returns the figures as validation in training computes them."""
    sums = of_training.metric_sums(
        tf.constant(losses, tf.float32), tf.constant(logits), tf.constant(targets), multi_label=targets.ndim == 2
    )
    return of_training.results(sums)


@pytest.mark.parametrize("multi_label", [False, True])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_the_figures_are_those_of_validation_in_training(multi_label: bool, data: st.DataObject) -> None:
    targets, logits = data.draw(examples(multi_label=multi_label))
    losses = np.linspace(0.1, 3.0, len(targets))
    found = evaluated(targets, logits, losses=losses)
    expected = training_figures(targets, logits, losses)
    assert found.accuracy == expected["accuracy"]
    assert found.recall_at_5 == pytest.approx(expected["recall_at_5"], rel=1e-14)
    assert found.loss == pytest.approx(expected["loss"], rel=1e-12)
    assert found.examples == len(targets)


@pytest.mark.filterwarnings("ignore:A single label was found")
@given(examples(multi_label=False))
@settings(max_examples=60, deadline=None)
def test_classes_are_as_scikit_learn_has_them(drawn: tuple[Array, Array]) -> None:
    targets, logits = drawn
    found = evaluated(targets, logits)
    ids = list(range(logits.shape[1]))
    predicted = np.argmax(logits, axis=1)
    matrix = sklearn.confusion_matrix(targets, predicted, labels=ids)
    assert found.confusion is not None
    assert found.confusion.tolist() == matrix.tolist()
    columns = sklearn.precision_recall_fscore_support(targets, predicted, labels=ids, zero_division=0)
    rows = [(row.precision, row.recall, row.f1, row.examples) for row in found.classes]
    assert rows == [pytest.approx(values) for values in zip(*columns, strict=True)]
    assert [(row.number, row.label) for row in found.classes] == list(enumerate(names(len(ids))))
    assert [row.predicted for row in found.classes] == matrix.sum(axis=0).tolist()
    assert [row.right for row in found.classes] == matrix.diagonal().tolist()
    assert all(row.average_precision is None for row in found.classes)
    assert found.accuracy == sklearn.accuracy_score(targets, predicted)
    present = sorted(set(targets.tolist()))
    macro = sklearn.precision_recall_fscore_support(
        targets, predicted, labels=present, average="macro", zero_division=0
    )
    assert (found.macro_precision, found.macro_recall, found.macro_f1) == pytest.approx(macro[:3])


@pytest.mark.parametrize("classes", [2, 3, 5, 6, 9])
def test_recall_at_5_is_as_scikit_learn_has_it(classes: int) -> None:
    random = np.random.default_rng(classes)
    targets, logits = random.integers(0, classes, 40), random.normal(size=(40, classes))  # no ties: it has other rules
    found = evaluated(targets, logits)
    if classes <= 5:
        assert found.recall_at_5 == 1.0
    else:
        assert found.recall_at_5 == sklearn.top_k_accuracy_score(targets, logits, k=5, labels=range(classes))


@given(examples(multi_label=True))
@settings(max_examples=60, deadline=None)
def test_several_labels_are_as_scikit_learn_has_them(drawn: tuple[Array, Array]) -> None:
    targets, logits = drawn
    found = evaluated(targets, logits)
    columns = np.array(
        [
            sklearn.precision_recall_fscore_support(
                targets[:, number], logits[:, number] >= 0, labels=[1], zero_division=0
            )
            for number in range(logits.shape[1])
        ]
    )[:, :, 0]
    rows = [(row.precision, row.recall, row.f1, row.examples) for row in found.classes]
    assert rows == [pytest.approx(tuple(values)) for values in columns]
    expected = [
        sklearn.average_precision_score(targets[:, number], logits[:, number]) if targets[:, number].any() else None
        for number in range(logits.shape[1])
    ]
    assert [row.average_precision for row in found.classes] == [
        value if value is None else pytest.approx(value) for value in expected
    ]
    known = [value for value in expected if value is not None]
    mean = found.mean_average_precision
    assert mean is not None
    assert mean == pytest.approx(np.mean(known)) if known else math.isnan(mean)
    assert found.confusion is None


@given(
    of_numpy.arrays(np.float64, st.integers(1, 30), elements=LOGITS),
    st.randoms(use_true_random=False),
)
@settings(deadline=None)
def test_average_precision_is_as_scikit_learn_has_it(scores: Array, random: Any) -> None:
    relevant = np.array([random.random() < 0.4 for _ in scores])
    expected = sklearn.average_precision_score(relevant, scores) if relevant.any() else None
    assert average_precision(scores, relevant) == (expected if expected is None else pytest.approx(expected))


def test_logits_too_large_to_tell_apart_as_scores_still_rank() -> None:
    logits = np.array([[50.0], [60.0], [70.0]])
    assert evaluated(np.array([[0.0], [0.0], [1.0]]), logits).classes[0].average_precision == 1.0


@pytest.mark.parametrize("multi_label", [False, True])
@pytest.mark.parametrize("size", [1, 4, 20])
def test_figures_do_not_depend_on_the_batches(multi_label: bool, size: int) -> None:
    random = np.random.default_rng(3)
    logits = random.normal(size=(20, 7))
    targets = (random.random((20, 7)) < 0.3).astype(np.float32) if multi_label else random.integers(0, 7, 20)
    one, other = (evaluated(targets, logits, size=size, losses=logits[:, 0] ** 2) for size in (7, size))
    assert [value for value in one.metrics.values() if value] == pytest.approx(
        [value for value in other.metrics.values() if value], rel=1e-12
    )
    assert one.classes == other.classes
    assert (one.mistakes, one.sample) == (other.mistakes, other.sample)


def test_scores_are_softmax_and_of_several_labels_sigmoids() -> None:
    logits = np.array([[1.0, -2.0, 0.0]])
    powers = np.exp(logits[0])
    (one,) = batches(np.array([0]), logits)
    assert one.scores[0] == pytest.approx(powers / powers.sum())
    (several,) = batches(np.array([[1.0, 0.0, 0.0]]), logits)
    assert several.scores[0] == pytest.approx(1 / (1 + np.exp(-logits[0])))
    assert several.scores[0, 2] == 0.5, "is predicted"


@pytest.mark.parametrize("targets", [np.array([0]), np.array([[1.0, 0.0]])])
def test_scores_of_logits_of_any_size_are_numbers(targets: Array) -> None:
    (batch,) = batches(targets, np.array([[3e38, -3e38]]))
    with np.errstate(all="raise", under="ignore"):
        assert batch.scores.tolist() == [[1.0, 0.0]]


def test_calibration_counts_each_example_by_its_highest_score() -> None:
    logits = np.log(np.array([[0.95, 0.05], [0.8, 0.2], [0.03, 0.97], [0.5, 0.5]]))
    found = evaluated(np.array([0, 1, 1, 0]), logits)
    bins = [row for row in found.calibration if row.examples]
    assert [(row.examples, row.accuracy) for row in bins] == [(1, 1.0), (1, 0.0), (2, 1.0)]
    assert [row.confidence for row in bins] == pytest.approx([0.5, 0.8, 0.96])
    assert all(row.low <= row.confidence <= row.high for row in bins)
    assert found.calibration_error == pytest.approx((0.5 + 0.8 + 2 * 0.04) / 4)
    empty = next(row for row in found.calibration if not row.examples)
    assert math.isnan(empty.confidence)
    assert math.isnan(empty.accuracy)


@given(of_numpy.arrays(np.float32, (17, 4), elements=st.floats(-30, 30, width=32)))
@settings(max_examples=30, deadline=None)
def test_calibration_of_several_labels_counts_every_score(logits: Array) -> None:
    targets = (np.arange(68).reshape(17, 4) % 3 == 0).astype(np.float32)
    found = evaluated(targets, logits)
    assert sum(row.examples for row in found.calibration) == 68
    right = sum(row.examples * row.accuracy for row in found.calibration if row.examples)
    assert right == pytest.approx(targets.sum())
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    assert sum(row.examples * row.confidence for row in found.calibration if row.examples) == pytest.approx(
        scores.sum()
    )
    assert all(row.low <= row.confidence <= row.high for row in found.calibration if row.examples)


def test_the_most_confident_mistakes_come_first() -> None:
    logits = np.log(np.array([[0.9, 0.1], [0.3, 0.7], [0.2, 0.8], [0.4, 0.6], [0.8, 0.2], [0.2, 0.8]]))
    found = evaluated(np.array([0, 0, 0, 0, 1, 1]), logits, mistakes=3)
    assert [(row.key, row.prediction, row.labels) for row in found.mistakes] == [
        ("picture 2", "class 1", ("class 0",)),
        ("picture 4", "class 0", ("class 1",)),
        ("picture 1", "class 1", ("class 0",)),
    ]
    assert [row.score for row in found.mistakes] == pytest.approx([0.8, 0.8, 0.7])
    assert evaluated(np.array([0, 0]), logits[:2], mistakes=0).mistakes == ()


def test_with_several_labels_a_mistake_is_whose_first_class_is_none_of_them() -> None:
    targets = np.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0], [0.0, 0.0, 0.0]])
    found = evaluated(targets, np.array([[0.0, 3.0, 2.0], [4.0, 1.0, 0.0], [0.0, 0.0, -1.0]]))
    assert [(row.key, row.labels) for row in found.mistakes] == [
        ("picture 1", ("class 1", "class 2")),
        ("picture 2", ()),
    ]
    assert found.mistakes[1].top[0][0] == "class 0", "of equal ones the smaller id"
    assert not any(row.is_right for row in found.mistakes)


def test_the_sample_follows_from_the_keys_alone() -> None:
    random = np.random.default_rng(1)
    logits, targets = random.normal(size=(30, 7)), random.integers(0, 7, 30)
    found = evaluated(targets, logits, sample=5).sample
    order = random.permutation(30)
    labels = names(7)
    with new_tally(labels, sample=5) as tally:
        for batch in batches(targets[order], logits[order], keys=[f"picture {number}" for number in order]):
            tally.add(batch)
        assert evaluation_of(tally).sample == found
    assert len({row.key for row in found}) == 5
    assert [row.key for row in found] != sorted(row.key for row in found)
    first = next(number for number in range(30) if f"picture {number}" == found[0].key)
    ranked = sorted(range(7), key=lambda number: (-logits[first, number], number))[:5]
    assert [label for label, _ in found[0].top] == [labels[number] for number in ranked]


def test_examples_without_names_are_drawn_by_their_place() -> None:
    with new_tally(names(3), sample=4) as tally:
        logits = np.arange(9.0)[:, np.newaxis] * [0.3, 0.1, 0.0]
        for batch in batches(np.arange(9) % 3, logits, keys=[""] * 9):
            tally.add(batch)
        sample = evaluation_of(tally).sample
    assert [row.key for row in sample] == [""] * 4
    scores = {row.score for row in sample}
    assert len(scores) == 4
    firsts = {judged.score for judged in judged_of(np.arange(4) % 3, logits[:4])}
    assert scores != firsts, "not the first ones"


def test_vectors_are_those_of_the_sample_and_more() -> None:
    logits, targets = np.zeros((40, 2)), np.zeros(40, np.int64)
    features = np.arange(80.0).reshape(40, 2)
    with new_tally(names(2), sample=3, vectors=10) as tally:
        for batch in batches(targets, logits, features=features):
            tally.add(batch)
        found, vectors = tally.evaluation(run="r", model="m", checkpoint="best", step=1, data="d", split="train")
    assert vectors is not None
    assert vectors.judged[:3] == found.sample
    assert vectors.vectors.shape == (10, 2)
    assert vectors.vectors.dtype == np.float32
    numbers = [int(key.split()[1]) for key in vectors.keys]
    assert vectors.vectors.tolist() == features[numbers].tolist()


def test_a_model_without_a_vector_has_none_to_project() -> None:
    with new_tally(names(2), vectors=10) as tally:
        tally.add(batches(np.array([0]), np.zeros((1, 2)))[0])
        assert tally.evaluation(run="r", model="m", checkpoint="best", step=1, data="d", split="train")[1] is None


@pytest.mark.parametrize("multi_label", [False, True])
def test_logits_that_are_no_numbers_are_counted(multi_label: bool) -> None:
    logits = np.zeros((8, 3))
    logits[2, 1], logits[5, 0], logits[4, 2] = math.nan, math.inf, -math.inf
    targets = np.zeros((8, 3)) if multi_label else np.zeros(8, np.int64)
    with pytest.raises(RunError, match="the logits of 3 examples are not finite, the first of them is 'picture 2'"):
        evaluated(targets, logits)


def test_one_class() -> None:
    found = evaluated(np.zeros(4, np.int64), np.zeros((4, 1)))
    assert (found.accuracy, found.recall_at_5, found.macro_f1, found.calibration_error) == (1.0, 1.0, 1.0, 0.0)
    assert found.mistakes == ()


def test_scores_of_several_labels_lie_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    targets, logits = np.ones((500, 20), np.float32), np.ones((500, 20), np.float32)
    chunk = batches(targets, logits, size=500)[0]
    tracemalloc.start()
    with new_tally(names(20), multi_label=True, examples=500 * 400) as tally:
        for number in range(400):
            tally.add(ScoredBatch(**{**vars_of(chunk), "place": 500 * number}))
        found = evaluation_of(tally)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found.examples == 200_000
    assert found.mean_average_precision == 1.0
    assert most < 12e6, "16 MB are the logits alone"


def test_no_room_on_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    with (
        pytest.raises(RunError, match=r"has no room for the [\d,]+ bytes of scores: set TMPDIR to a larger disk"),
        new_tally(names(1_000), multi_label=True, examples=10**12),
    ):
        pass


def judged_of(targets: Array, logits: Array) -> list[Judged]:
    (batch,) = batches(targets, logits, size=len(targets))
    return [batch.judged(row, names(logits.shape[1])) for row in range(len(targets))]


def vars_of(batch: ScoredBatch) -> dict[str, Any]:
    return {name: getattr(batch, name) for name in ("place", "keys", "targets", "logits", "losses", "features")}
