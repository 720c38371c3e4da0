"""The figures of the trainer's benchmark, and the benchmark itself in small."""

from pathlib import Path

import pytest

from beam_pipelines.errors import RunError
from beam_pipelines.tfrecords import decode_example, read_records
from benchmarks import train, train_data
from benchmarks.train import FIT, FIT_AS_OURS, INPUT, OURS, REPEATED, TASKS
from benchmarks.train_marks import Mark, Pace, pace, read_marks, write_marks


def paced(**rates: float) -> dict[str, Pace]:
    return {name.replace("_", " "): Pace(rate=rate, cpu=1 / rate) for name, rate in rates.items()}


def test_the_pace_is_that_between_the_first_steps_and_the_last_one() -> None:
    marks = [Mark(step=1, wall=0, cpu=0), Mark(step=20, wall=60, cpu=90), Mark(step=70, wall=70, cpu=105)]
    assert pace(marks, after=20, batch_size=4) == Pace(rate=20, cpu=15 / 200)
    with pytest.raises(RunError, match="no two steps from step 21 on"):
        pace(marks, after=21, batch_size=4)


def test_marks_come_back_as_they_were_left(tmp_path: Path) -> None:
    marks = [Mark(step=3, wall=1.5, cpu=0.25), Mark(step=4, wall=2.5, cpu=0.5)]
    write_marks(tmp_path / "marks.json", marks)
    assert read_marks(tmp_path / "marks.json") == marks


@pytest.mark.parametrize(
    ("tables", "model", "names"),
    [
        (["fit"], "head", [OURS, FIT, FIT_AS_OURS]),
        (["fit"], "mobilenet_v3_small", [OURS, FIT]),
        (["input", "head"], "head", [OURS, REPEATED, INPUT]),
    ],
)
def test_who_takes_turns(tables: list[str], model: str, names: list[str]) -> None:
    assert train.contestants_of(tables, TASKS[model]) == names


def test_ours_may_not_be_slower_than_fit() -> None:
    rounds = [paced(ours=11.0, fit=10.0, fit_as_ours=12.0)]
    assert train.fit_verdicts("head", rounds) == [
        ("head: ours / fit, examples/s: 1.10 (1.10 to 1.10, goal 1: met)", True),
        ("head: ours / fit as ours, examples/s: 0.92 (0.92 to 0.92, goal 1: missed)", False),
    ]


@pytest.mark.parametrize(("ours", "met"), [(97.0, True), (78.0, True), (70.0, False)])
def test_input_may_cost_what_it_takes_of_the_cores(ours: float, met: bool) -> None:
    # Decoding takes a fifth of the CPU time, so that 80 of 100 examples are left.
    told = train.input_verdicts("small_cnn", [paced(ours=ours, repeated=100.0, input=400.0)])
    assert all(is_met for _, is_met in told) == met
    assert "share of the input in the CPU time of both: 0.20" in told[1][0]


def test_models_without_a_contestant_have_an_empty_cell() -> None:
    rounds = {"head": [paced(ours=3.0, fit_as_ours=4.0)], "mobilenet": [paced(ours=1.0)]}
    assert train.rate_table(rounds).splitlines() == [
        "examples/s  ours  fit as ours",
        "head         3.0          4.0",
        "mobilenet    1.0",
    ]


def test_examples_are_dealt_to_ten_shards(tmp_path: Path) -> None:
    options = train_data.write_embeddings(tmp_path / "data", train=12, validation=10)
    assert options[::2] == ["--train_data_paths", "--eval_data_paths", "--labels_file"]
    shards = []
    for path in sorted((tmp_path / "data").glob("train-*")):
        with path.open("rb") as file:
            shards.append([decode_example(record) for record in read_records(file)])
    assert list(map(len, shards)) == [2, 2, 1, 1, 1, 1, 1, 1, 1, 1]
    assert {len(example["embedding"]) for examples in shards for example in examples} == {train_data.WIDTH}
