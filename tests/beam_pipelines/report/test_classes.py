import pytest

from beam_pipelines.report.classes import class_facts, class_rows, long_tail
from tests.beam_pipelines.html_pages import text_of
from tests.beam_pipelines.report.data_sets import NO_SIZES, info, render, sized


def test_classes_keep_their_ids_and_the_largest_is_shown_first() -> None:
    rows = class_rows(sized({"small": 1, "large": 5}))
    assert [(row.number, row.label, row.total) for row in rows] == [(0, "small", 1), (1, "large", 5)]
    assert [part.width for part in rows[0].parts] == [20, 0]
    text = text_of(render(sized({"small": 1, "large": 5})))
    assert text.index("large 5 0 5") < text.index("small 1 0 1")


def test_facts_are_of_the_classes_that_have_pictures() -> None:
    facts = class_facts(class_rows(info()))
    assert (facts.number, facts.empty, facts.labelled, facts.median) == (3, 1, 5001, 2500.5)
    assert facts.largest is not None
    assert facts.smallest is not None
    assert (facts.largest.label, facts.smallest.label, facts.imbalance) == ("Japan", "Iran", 4.001)
    assert facts.missing == {"train": 0, "validation": 1}


def test_the_long_tail_says_how_much_the_largest_classes_hold() -> None:
    tail = long_tail(class_rows(sized({"a": 1, "b": 6, "c": 2, "d": 3})))
    assert tail is not None
    assert tail.covered == {1: 6, 2: 9, 3: 11}
    assert tail.half == 1
    text = text_of(render())
    assert "Half of the pictures are in the largest class." in text
    assert "1 4,001 80.0% 2 5,001 100%" in text


def test_a_class_without_a_picture_stands_out() -> None:
    text = text_of(render())
    assert "China no picture 0 0 0 0%" in text
    assert "Iran 1,000 0 1,000 20.0%" in text
    assert "1 without a picture" in text
    assert "1 class has no picture for validation" in text


@pytest.mark.parametrize("sizes", [{}, {"one": 0}, {"one": 7}, {"one": 1, "two": 0}])
def test_few_classes_and_empty_ones_are_shown(sizes: dict[str, int]) -> None:
    text = text_of(render(sized(sizes), sizes=NO_SIZES))
    assert f"in {len(sizes)} class{'' if len(sizes) == 1 else 'es'}" in text
