import random

import pytest

from tests.trainer.evaluation.shown import judged
from trainer.card.sample import HashSample
from trainer.evaluation.figures import Judged


def examples_of(classes: int, each: int) -> list[Judged]:
    return [judged(f"class {number}", key=f"{number}/{place}") for number in range(classes) for place in range(each)]


def chosen(examples: list[Judged], classes: int) -> tuple[Judged, ...]:
    sample = HashSample([f"class {number}" for number in range(classes)])
    for example in examples:
        sample.add(example)
    return sample.examples()


@pytest.mark.parametrize(("classes", "most"), [(2, 6), (10, 2), (24, 1), (100, 1)])
def test_a_few_of_each_class_are_chosen_whatever_their_order(classes: int, most: int) -> None:
    examples = examples_of(classes, each=9)
    first = chosen(examples, classes)
    random.Random(0).shuffle(examples)
    assert chosen(examples, classes) == first
    of_class = [sum(example.labels[0] == f"class {number}" for example in first) for number in range(classes)]
    assert max(of_class) == most
    assert len(first) == min(24, classes * most)
    assert first != tuple(sorted(first, key=lambda example: example.key))


def test_those_of_a_class_stand_together_in_the_order_of_the_ids() -> None:
    numbers = [int(example.labels[0].removeprefix("class ")) for example in chosen(examples_of(12, each=3), 12)]
    assert numbers == sorted(numbers)
    assert set(numbers) == set(range(12))


def test_what_has_no_name_or_no_class_is_passed_over() -> None:
    nameless, without_label = judged("class 0", key=""), Judged(key="1/0", labels=(), top=(("class 0", 0.5),))
    assert chosen([nameless, without_label, judged("unknown")], 3) == ()
