from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from beam_pipelines.errors import OptionError
from trainer.options import TrainingOptions, resolve
from trainer.schedule import Schedule, make_schedule

sizes = st.integers(1, 60)


def options(**given_values: Any) -> TrainingOptions:
    return resolve({"dataset": "data", "warmup_epochs": 0.0, **given_values})


def schedule(**given_values: Any) -> Schedule:
    """Returns a schedule for ten examples in batches of four."""
    return make_schedule(options(batch_size=4, **given_values), examples=10)


def test_epochs_become_steps() -> None:
    made = schedule(epochs=3)
    assert (made.steps, made.epochs, made.examples_per_epoch, made.batch_size) == (8, 3, 10, 4)
    assert [made.end_of(epoch) for epoch in range(4)] == [0, 3, 5, 8]


def test_steps_stay_steps() -> None:
    assert (schedule(steps=7).steps, schedule(steps=7).epochs) == (7, 3)


def test_examples_become_whole_batches() -> None:
    made = [make_schedule(options(batch_size=4, examples=number), examples=10) for number in (1, 4, 5, 9)]
    assert [one.steps for one in made] == [1, 1, 2, 3]


def test_epochs_of_steps() -> None:
    made = schedule(epochs=3)
    assert [made.epoch_of(step) for step in range(9)] == [0, 0, 0, 1, 1, 2, 2, 2, 3]
    assert [made.examples_at(step) for step in (0, 1, 8)] == [0, 4, 32]


def test_evaluations_follow_the_ends_of_epochs_and_the_last_step() -> None:
    made = schedule(steps=7)
    assert [step for step in range(8) if made.is_evaluation(step)] == [3, 5, 7]
    assert [made.next_evaluation(step) for step in range(8)] == [3, 3, 3, 5, 5, 7, 7, 7]


def test_a_batch_larger_than_the_data() -> None:
    made = make_schedule(options(batch_size=25, epochs=5), examples=10)
    assert (made.steps, made.epochs, [made.end_of(epoch) for epoch in range(1, 6)]) == (2, 5, [1, 1, 2, 2, 2])
    assert [made.is_evaluation(step) for step in range(3)] == [False, True, True]


def test_warm_up_is_at_most_half_of_the_run() -> None:
    assert schedule(epochs=8, warmup_epochs=2.0).warmup_steps == 5
    assert schedule(epochs=8, warmup_epochs=0.5).warmup_steps == 1
    assert schedule(epochs=2, warmup_epochs=1.9).warmup_steps == 2
    assert schedule(steps=1, warmup_epochs=1.0).warmup_steps == 0


def test_the_backbone_is_unfrozen_at_the_end_of_an_epoch() -> None:
    backbone = {"model": "mobilenet_v2", "epochs": 3}
    assert schedule(**backbone).unfreeze_step is None
    assert schedule(**backbone, unfreeze_at=0).unfreeze_step == 0
    assert schedule(**backbone, unfreeze_at=2).unfreeze_step == 5


@pytest.mark.parametrize("epoch", [3, 4])
def test_a_backbone_that_would_never_be_unfrozen(epoch: int) -> None:
    with pytest.raises(OptionError) as caught:
        schedule(model="mobilenet_v2", epochs=3, unfreeze_at=epoch)
    assert str(caught.value) == (
        f"--unfreeze_at {epoch} is not before the end of the run, which has 3 epochs (8 steps): give a smaller one, or "
        "train longer"
    )


@given(examples=sizes, batch=sizes, epochs=st.integers(1, 8))
def test_an_epoch_ends_when_all_of_its_examples_have_been_taken(examples: int, batch: int, epochs: int) -> None:
    made = make_schedule(options(batch_size=batch, epochs=epochs), examples=examples)
    for epoch in range(1, epochs + 1):
        end = made.end_of(epoch)
        assert (end - 1) * batch < epoch * examples <= end * batch
        assert made.epoch_of(end) >= epoch > made.epoch_of(end - 1)
    assert made.steps == made.end_of(epochs)


@given(examples=sizes, batch=sizes, steps=st.integers(1, 100))
def test_going_from_one_evaluation_to_the_next_meets_them_all(examples: int, batch: int, steps: int) -> None:
    made = make_schedule(options(batch_size=batch, steps=steps), examples=examples)
    met, step = [], 0
    while step < steps:
        step = made.next_evaluation(step)
        met.append(step)
    assert met == [step for step in range(steps + 1) if made.is_evaluation(step)]
    assert {made.end_of(epoch) for epoch in range(1, made.epoch_of(steps) + 1)} | {steps} == set(met)
