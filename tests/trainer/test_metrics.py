import math
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.metrics import Sums, add_sums, metric_sums, results, zero_sums

NAN = float("nan")


def sums_of(logits: Any, targets: Any, *, losses: Any = None, mask: Any = None, multi_label: bool = False) -> Sums:
    logits = tf.constant(logits, tf.float32)
    return metric_sums(
        tf.zeros(len(logits)) if losses is None else tf.constant(losses, tf.float32),
        logits,
        tf.constant(targets, tf.int64),
        mask=None if mask is None else tf.constant(mask),
        multi_label=multi_label,
    )


def numbers(sums: Sums) -> dict[str, float]:
    return {name: value.numpy().item() for name, value in sums.items()}


def expected_hits(row: npt.NDArray[np.float32], target: int) -> tuple[bool, bool]:
    """Says whether a class ranks first and within five, by sorting all of them."""
    order = sorted(range(len(row)), key=lambda number: (-row[number], number))
    return order[0] == target, target in order[:5]


def test_counts_what_is_right_and_what_is_among_the_first_five() -> None:
    logits = [[0, 1, 2, 3, 4, 5, 6], [6, 5, 4, 3, 2, 1, 0], [0, 1, 2, 3, 4, 5, 6]]
    found = numbers(sums_of(logits, [6, 4, 1], losses=[1, 2, 4]))
    assert found == {"examples": 3, "loss": 7, "correct": 1, "in_top_five": 2}


def test_names_the_means_of_the_examples() -> None:
    sums = sums_of([[1, 0], [1, 0], [1, 0], [0, 1]], [0, 0, 1, 1], losses=[1, 2, 3, 4])
    assert results(sums) == {"loss": 2.5, "accuracy": 0.75, "recall_at_5": 1.0}


def test_has_no_means_without_examples() -> None:
    assert all(math.isnan(value) for value in results(zero_sums()).values())


def test_masked_examples_add_nothing_whatever_they_hold() -> None:
    logits = [[0, 1, 0], [NAN, NAN, NAN], [9, 0, 0]]
    found = sums_of(logits, [1, 0, 0], losses=[0.5, NAN, math.inf], mask=[True, False, False])
    assert numbers(found) == {"examples": 1, "loss": 0.5, "correct": 1, "in_top_five": 1}


def test_a_mask_may_be_of_zeros_and_ones() -> None:
    found = numbers(sums_of([[0, 1], [0, 1]], [1, 1], losses=[3, 5], mask=[0.0, 1.0]))
    assert found == {"examples": 1, "loss": 5, "correct": 1, "in_top_five": 1}


@pytest.mark.parametrize("target", range(7))
def test_of_equal_logits_the_smaller_id_ranks_first(target: int) -> None:
    found = numbers(sums_of([[0.0] * 7], [target]))
    assert (found["correct"], found["in_top_five"]) == (target == 0, target < 5)


@pytest.mark.parametrize("target", range(3))
@pytest.mark.parametrize("place", range(3))
def test_an_example_with_nan_is_counted_and_never_right(place: int, target: int) -> None:
    row = [1.0, 2.0, 3.0]
    row[place] = NAN
    found = numbers(sums_of([row], [target], losses=[NAN]))
    assert (found["examples"], found["correct"], found["in_top_five"]) == (1, 0, 0)
    assert math.isnan(found["loss"])


def test_infinite_logits_rank_at_the_ends() -> None:
    found = numbers(sums_of([[-math.inf, math.inf, 0, 0, 0, 0]], [1]))
    assert (found["correct"], found["in_top_five"]) == (1, 1)


def test_with_five_classes_or_fewer_all_are_among_the_first_five() -> None:
    assert results(sums_of([[0, 1, 2]], [0])) == {"loss": 0, "accuracy": 0, "recall_at_5": 1}


def test_one_class_is_always_right() -> None:
    assert results(sums_of([[0.3]], [0]))["accuracy"] == 1


def test_one_of_several_labels_is_right_and_recall_is_the_share_of_the_labels() -> None:
    logits = [[7, 6, 5, 4, 3, 2, 1], [7, 6, 5, 4, 3, 2, 1]]
    targets = [[1, 0, 0, 0, 0, 1, 1], [0, 1, 0, 0, 1, 0, 1]]
    found = numbers(sums_of(logits, targets, multi_label=True))
    assert found["correct"] == 1
    assert found["in_top_five"] == pytest.approx(1 / 3 + 2 / 3)


def test_an_example_without_labels_is_counted_and_never_right() -> None:
    found = numbers(sums_of([[1, 0]], [[0, 0]], multi_label=True))
    assert found == {"examples": 1, "loss": 0, "correct": 0, "in_top_five": 0}


def test_all_labels_of_a_masked_example_add_nothing() -> None:
    found = numbers(sums_of([[1, 0]], [[1, 1]], mask=[False], multi_label=True))
    assert found == {"examples": 0, "loss": 0, "correct": 0, "in_top_five": 0}


def test_counts_stay_exact_where_float32_does_not() -> None:
    many = dict.fromkeys(zero_sums(), 1 << 24)
    start: Sums = {name: tf.cast(many[name], value.dtype) for name, value in zero_sums().items()}
    found = numbers(add_sums(start, sums_of([[0, 1]], [1], losses=[1.0])))
    assert found == dict.fromkeys(many, (1 << 24) + 1)


def test_zero_sums_are_like_those_of_a_batch() -> None:
    found = sums_of([[0, 1]], [1])
    assert {name: (value.dtype, value.shape) for name, value in zero_sums().items()} == {
        name: (value.dtype, value.shape) for name, value in found.items()
    }


def test_float16_logits_are_taken() -> None:
    logits = tf.constant([[0, 1, 2]], tf.float16)
    found = metric_sums(tf.zeros(1), logits, tf.constant([2], tf.int64), multi_label=False)
    assert numbers(found)["correct"] == 1


@settings(max_examples=30)
@given(st.data(), st.integers(1, 9), st.integers(1, 12))
def test_sums_of_parts_add_up_to_those_of_all(data: st.DataObject, classes: int, examples: int) -> None:
    levels = st.lists(st.integers(-2, 2), min_size=classes, max_size=classes)
    logits = np.array([data.draw(levels) for _ in range(examples)], np.float32)
    targets = np.array(data.draw(st.lists(st.integers(0, classes - 1), min_size=examples, max_size=examples)))
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=examples, max_size=examples)))
    losses = np.arange(examples)
    cut = data.draw(st.integers(0, examples))
    parts = [
        sums_of(logits[part], targets[part], losses=losses[part], mask=mask[part])
        for part in (slice(cut), slice(cut, None))
        if len(logits[part])
    ]
    whole = zero_sums()
    for part in parts:
        whole = add_sums(whole, part)
    hits = [expected_hits(row, target) for row, target, counted in zip(logits, targets, mask, strict=True) if counted]
    assert numbers(whole) == {
        "examples": mask.sum(),
        "loss": losses[mask].sum(),
        "correct": sum(first for first, _ in hits),
        "in_top_five": sum(within for _, within in hits),
    }
