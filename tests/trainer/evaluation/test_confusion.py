import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from tests.trainer.evaluation.shown import evaluation, many_classes, several_labels
from trainer.evaluation.confusion import Confusion, by_likeness, most_confused, row_shares, shown_matrix
from trainer.evaluation.figures import Counts


def test_few_classes_are_shown_by_id() -> None:
    matrix = shown_matrix(evaluation())
    assert matrix
    assert matrix.labels == ("t-shirt", "pants", "hat")
    assert matrix.is_named
    assert matrix.counts.tolist() == [[50, 10, 0], [4, 30, 1], [0, 5, 0]]
    assert matrix.shares[0].tolist() == [50 / 60, 10 / 60, 0]


def test_there_is_no_matrix_of_several_labels() -> None:
    assert shown_matrix(several_labels()) is None
    assert most_confused(several_labels(), 3) == []


def test_many_classes_lie_beside_those_they_are_mixed_up_with() -> None:
    shuffled = many_classes(60)
    assert shuffled.confusion is not None
    order = np.random.default_rng(1).permutation(60)
    labels = [shuffled.labels[number] for number in order]
    matrix = shown_matrix(evaluation(labels, shuffled.confusion[np.ix_(order, order)]))
    assert matrix
    assert not matrix.is_named
    families = [int(label.split()[3].rstrip(",")) // 5 for label in matrix.labels]
    assert sum(one != next_one for one, next_one in itertools.pairwise(families)) == 11
    assert matrix.counts.sum() == shuffled.confusion.sum()
    first, second = (order[number] for number in matrix.numbers[:2])
    assert matrix.labels[0] == shuffled.labels[first]
    assert matrix.counts[0, 1] == shuffled.confusion[first, second]


def test_of_many_classes_those_with_nothing_to_show_are_left_out() -> None:
    counts = np.zeros((50, 50), np.int64)
    counts[3, 3] = counts[7, 9] = 2
    matrix = shown_matrix(evaluation([f"{number}" for number in range(50)], counts))
    assert matrix
    assert (matrix.numbers, matrix.classes, matrix.is_named) == ((3, 7, 9), 50, True)


def test_of_very_many_classes_the_commonest_are_shown() -> None:
    counts = np.diag(np.arange(1, 1_011))
    matrix = shown_matrix(evaluation([f"{number}" for number in range(1_010)], counts))
    assert matrix
    assert set(matrix.numbers) == set(range(10, 1_010))


def test_a_row_without_examples_has_no_shares() -> None:
    assert row_shares(np.array([[0, 0], [1, 3]])).tolist() == [[0, 0], [0.25, 0.75]]


def test_what_is_mixed_up_most_comes_first() -> None:
    assert most_confused(evaluation(), 2) == [
        Confusion(label="t-shirt", prediction="pants", examples=10, share=1 / 6),
        Confusion(label="hat", prediction="pants", examples=5, share=1.0),
    ]
    assert [pair.examples for pair in most_confused(evaluation(), 99)] == [10, 5, 4, 1]


def test_mistakes_as_common_come_by_class_ids() -> None:
    pairs = most_confused(evaluation(counts=((1, 1, 1), (1, 1, 1), (1, 1, 1))), 4)
    assert [(pair.label, pair.prediction) for pair in pairs] == [
        ("t-shirt", "pants"),
        ("t-shirt", "hat"),
        ("pants", "t-shirt"),
        ("pants", "hat"),
    ]


@given(arrays.arrays(np.int64, st.integers(1, 7).map(lambda side: (side, side)), elements=st.integers(0, 3)))
def test_every_class_has_one_place(counts: Counts) -> None:
    assert sorted(by_likeness(row_shares(counts))) == list(range(len(counts)))


def test_a_group_is_tied_by_the_average_of_its_parts() -> None:
    shares = np.zeros((4, 4))
    shares[0, 1], shares[1, 3], shares[2, 3] = 1.0, 0.5, 0.3
    assert by_likeness(shares) == [0, 1, 2, 3]


@pytest.mark.parametrize("strongest", [(0, 3), (1, 2)])
def test_the_strongest_tie_lies_together(strongest: tuple[int, int]) -> None:
    shares = np.full((4, 4), 0.1)
    shares[strongest] = 0.7
    order = by_likeness(shares)
    assert abs(order.index(strongest[0]) - order.index(strongest[1])) == 1
