import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from beam_pipelines.errors import OptionError
from trainer import preparation
from trainer.cluster import Cluster
from trainer.data_files import IMAGES, Layout, SplitFiles, TrainingData
from trainer.meeting import Meeting
from trainer.options import RunOptions, resolve
from trainer.preparation import Plan, agree_on_step, begin, check_alike, check_replicas, make_plan, only_run
from trainer.run_directory import RunDirectory
from trainer.schedule import make_schedule

ADDRESSES = ("a:1", "b:2", "c:3")


class Group(Meeting):
    """A worker among others that give what they are told to give, or the same as this one."""

    def __init__(self, others: Sequence[Callable[[Any], Any]] = (), *, rank: int = 0) -> None:
        super().__init__(ADDRESSES[: 1 + len(others)], rank)
        self._others = others

    def gather(self, value: Any) -> list[Any]:
        return [value, *(other(value) for other in self._others)]


def same(value: Any) -> Any:
    return value


def make_data(**changed: Any) -> TrainingData:
    split = SplitFiles(paths=("a.tfrecord",), examples=(40,))
    data = TrainingData(
        kind=IMAGES,
        layout=Layout(inputs="picture", label="label", key=""),
        train=split,
        validation=split,
        labels=("hat", "shoe"),
        class_counts=(20, 20),
        fingerprint="abc",
    )
    return dataclasses.replace(data, **changed)


def plan_of(tmp_path: Path, *, cluster: Cluster | None = None, **given: Any) -> Plan:
    options = resolve({"dataset": "somewhere", **given})
    output = str(tmp_path / "run")
    return Plan(
        options=options,
        run=RunOptions(output=output, steps_per_execution=1),
        cluster=cluster or Cluster(),
        data=make_data(),
        schedule=make_schedule(options, examples=40),
        directory=RunDirectory(output),
    )


def refusal(act: Callable[[], Any]) -> str:
    with pytest.raises(OptionError) as caught:
        act()
    return str(caught.value)


def test_a_plan_is_made_without_writing_anything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preparation, "read_training_data", lambda options: make_data())
    options = resolve({"dataset": "somewhere", "batch_size": 20, "epochs": 3})
    plan = make_plan(options, RunOptions(output=str(tmp_path / "run"), steps_per_execution=1), Cluster())
    assert (plan.schedule.steps, plan.finished) == (6, None)
    assert not (tmp_path / "run").exists()


def test_there_are_examples_for_each_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = make_data(train=SplitFiles(paths=("a.tfrecord",), examples=(2,)))
    monkeypatch.setattr(preparation, "read_training_data", lambda options: few)
    options = resolve({"dataset": "somewhere", "batch_size": 3})
    run = RunOptions(output=str(tmp_path / "run"), steps_per_execution=1)
    cluster = Cluster({"worker": ADDRESSES}, "worker", 0)
    assert refusal(lambda: make_plan(options, run, cluster)).startswith("3 workers cannot share 2 training examples")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"seed": 5}, "worker 1 of 2 (b:2) has --seed 5, not 0: start all workers with the same command"),
        ({"output": "/x"}, "worker 1 of 2 (b:2) has --output /x, not "),
        ({"data": "xyz"}, "worker 1 of 2 (b:2) has other data: start all workers with the same command"),
    ],
)
def test_all_workers_have_the_same_command(tmp_path: Path, change: dict[str, Any], told: str) -> None:
    plan = plan_of(tmp_path)
    check_alike(Group([same]), plan)
    assert refusal(lambda: check_alike(Group([lambda value: {**value, **change}]), plan)).startswith(told)


def test_where_the_data_lie_may_differ(tmp_path: Path) -> None:
    there = plan_of(tmp_path)
    given: list[Any] = []

    def note(value: Any) -> Any:
        given.append(value)
        return value

    check_alike(Group([note]), plan_of(tmp_path, dataset="elsewhere"))
    check_alike(Group([lambda value: given[0]]), there)


@pytest.mark.parametrize(
    ("batch", "devices", "workers", "told"),
    [
        (31, 2, 1, "--batch_size 31 is not divisible by the 2 replicas: give 30 or 32"),
        (31, 2, 2, "--batch_size 31 is not divisible by the 4 replicas (2 workers of 2): give 28 or 32"),
        (3, 2, 2, "--batch_size 3 is smaller than the 4 replicas (2 workers of 2): give at least that"),
    ],
)
def test_batches_are_shared_equally(tmp_path: Path, batch: int, devices: int, workers: int, told: str) -> None:
    plan = plan_of(tmp_path, batch_size=batch)
    assert refusal(lambda: check_replicas(Group([same] * (workers - 1)), plan, ["CPU:0"] * devices)) == told


def test_workers_have_equally_many_devices(tmp_path: Path) -> None:
    check_replicas(Group([same, same]), plan_of(tmp_path, batch_size=12), ["GPU:0", "GPU:1"])
    told = refusal(lambda: check_replicas(Group([lambda value: 1]), plan_of(tmp_path), ["GPU:0", "GPU:1"]))
    assert told == "the workers have 2, 1 devices: give each as many, or give --device cpu"


def test_worker_0_writes_the_configuration(tmp_path: Path) -> None:
    begin(Group([same]), plan_of(tmp_path))
    assert (tmp_path / "run" / "config.json").exists()


def test_a_directory_that_is_not_shared_is_refused(tmp_path: Path) -> None:
    worker = Cluster({"worker": ADDRESSES[:2]}, "worker", 1)
    plan = plan_of(tmp_path, cluster=worker)
    times = iter([0.0, 61.0])
    told = refusal(lambda: begin(Group([lambda value: value], rank=1), plan, clock=lambda: next(times)))
    assert told.startswith(f"--output {plan.run.output} is not the same directory for worker 0 of 2 (a:1), worker 1 of")


class Listed:
    """Checkpoints of which some can be read."""

    def __init__(self, steps: Sequence[int], readable: Sequence[int]) -> None:
        self._steps = steps
        self._readable = readable
        self.asked: list[int] = []

    def steps(self) -> list[int]:
        return list(self._steps)

    def is_readable(self, step: int) -> bool:
        self.asked.append(step)
        return step in self._readable


@pytest.mark.parametrize(
    ("steps", "readable", "others", "agreed", "asked"),
    [
        ([], [], lambda value: value, 0, []),
        ([10, 20], [10, 20], lambda value: value, 20, [20]),
        ([10, 20], [10], lambda value: True if isinstance(value, bool) else value, 10, [20, 10]),
        ([10, 20, 30], [30], lambda value: value if isinstance(value, bool) else [20, 30, 40], 30, [30]),
        ([10, 20], [10, 20], lambda value: value if isinstance(value, bool) else [], 0, []),
        ([10, 20], [10, 20], lambda value: False if isinstance(value, bool) else value, 0, [20, 10]),
    ],
)
def test_the_newest_step_that_all_can_read(
    steps: list[int], readable: list[int], others: Callable[[Any], Any], agreed: int, asked: list[int]
) -> None:
    listed = Listed(steps, readable)
    assert agree_on_step(Group([others]), listed) == agreed
    assert listed.asked == asked


def test_one_run_at_a_time_in_a_directory(tmp_path: Path) -> None:
    plan = plan_of(tmp_path)
    with only_run(plan):
        with only_run(dataclasses.replace(plan, cluster=Cluster({"worker": ADDRESSES}, "worker", 1))):
            pass
        with pytest.raises(OptionError, match="another run is at work in"), only_run(plan):
            pass
    with only_run(plan):
        pass
