"""What is settled before training begins: checked by every worker for itself, then agreed on. Imports no TensorFlow.

No worker begins while another refuses, and none waits for one that has refused.
"""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.locks import only_run_in
from trainer.classifier import check_model
from trainer.cluster import Cluster
from trainer.data_files import TrainingData, read_training_data
from trainer.meeting import Meeting, Outcome, agree
from trainer.options import PLACES, RunOptions, TrainingOptions
from trainer.run_directory import FinishedRun, RunDirectory, begin_run, read_finished
from trainer.schedule import Schedule, make_schedule

# A file that worker 0 has written shows on a network file system within its cache's time.
_SHARED_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """What a run is and how this start of it goes about it, with the data that were found.

    Attributes:
        options: what the run is.
        run: how this start goes about it.
        cluster: the machines.
        data: what it trains on.
        schedule: how long it is.
        directory: where it leaves what it makes.
        finished: how the run ended, if it did.
    """

    options: TrainingOptions
    run: RunOptions
    cluster: Cluster
    data: TrainingData
    schedule: Schedule
    directory: RunDirectory
    finished: FinishedRun | None = None


class ListsCheckpoints(Protocol):
    """What `agree_on_step` asks of the checkpoints."""

    def steps(self) -> list[int]:
        """Returns the steps of all that are there."""

    def is_readable(self, step: int) -> bool:
        """Tells whether one is whole."""


def make_plan(options: TrainingOptions, run: RunOptions, cluster: Cluster) -> Plan:
    """Reads what there is to train on, and looks at the run's directory; writes nothing.

    Raises:
        OptionError: options do not go with one another, with the data or with what lies in the directory.
        RunError: the data cannot be read.
    """
    data = read_training_data(options)
    check_model(options)
    if data.train.total < cluster.workers:
        raise OptionError(
            f"{cluster.workers} workers cannot share {data.train.total} training examples: start fewer, or give more "
            "examples"
        )
    schedule = make_schedule(options, examples=data.train.total)
    directory = begin_run(run.output, options, data, is_chief=False)
    return Plan(
        options=options,
        run=run,
        cluster=cluster,
        data=data,
        schedule=schedule,
        directory=directory,
        finished=read_finished(directory),
    )


def check_alike(meeting: Meeting, plan: Plan) -> None:
    """Raises OptionError if a worker was started with other options, or found other data, than worker 0."""
    options = {name: value for name, value in plan.options.to_json().items() if name not in PLACES}
    told: list[dict[str, Any]] = meeting.gather({**options, "data": plan.data.fingerprint, "output": plan.run.output})
    for rank, other in enumerate(told):
        for name, value in told[0].items():
            if other.get(name) != value:
                what = "other data" if name == "data" else f"--{name} {other.get(name)}, not {value}"
                raise OptionError(f"{meeting.name(rank)} has {what}: start all workers with the same command")


def check_replicas(meeting: Meeting, plan: Plan, devices: Sequence[str]) -> None:
    """Raises OptionError unless all workers have equally many devices that can share a batch equally.

    Args:
        meeting: of the workers.
        plan: with the batch of all of them together.
        devices: of this worker.
    """
    counts = meeting.gather(len(devices))
    if len(set(counts)) > 1:
        told = ", ".join(map(str, counts))
        raise OptionError(f"the workers have {told} devices: give each as many, or give --device cpu")
    batch, replicas = plan.options.batch_size, sum(counts)
    of_workers = f" ({len(counts)} workers of {counts[0]})" if len(counts) > 1 else ""
    if batch < replicas:
        raise OptionError(
            f"--batch_size {batch} is smaller than the {replicas} replicas{of_workers}: give at least that"
        )
    if batch % replicas:
        below = batch - batch % replicas
        raise OptionError(
            f"--batch_size {batch} is not divisible by the {replicas} replicas{of_workers}: give {below} or "
            f"{below + replicas}"
        )


def begin(meeting: Meeting, plan: Plan, *, clock: Callable[[], float] = time.monotonic) -> None:
    """Has worker 0 write the run's configuration, and makes sure that the others see it.

    Raises:
        OptionError: the directory is not shared by all workers.
    """
    is_chief = plan.cluster.is_chief
    agree(meeting, Outcome.of(lambda: begin_run(plan.run.output, plan.options, plan.data, is_chief=is_chief)))
    deadline = clock() + _SHARED_SECONDS
    while not (seen := files.exists(plan.directory.config)) and clock() < deadline:
        time.sleep(_POLL_SECONDS)
    blind = [meeting.name(rank) for rank, sees in enumerate(meeting.gather(seen)) if not sees]
    if blind:
        raise OptionError(
            f"--output {plan.run.output} is not the same directory for {', '.join(blind)}: give one that all workers "
            "share, on a network file system or gs://"
        )


def agree_on_step(meeting: Meeting, checkpoints: ListsCheckpoints) -> int:
    """Returns the newest step whose checkpoint all workers can read; 0 if there is none."""
    listed: list[list[int]] = meeting.gather(checkpoints.steps())
    common = set(listed[0]).intersection(*listed[1:])
    for step in sorted(common, reverse=True):
        if all(meeting.gather(checkpoints.is_readable(step))):
            return step
    return 0


def only_run(plan: Plan) -> contextlib.AbstractContextManager[None]:
    """Holds the run's directory for this process alone, where it is this process that writes there.

    Raises:
        OptionError: another process of this machine holds it.
    """
    if plan.cluster.is_chief and not files.is_remote(plan.run.output):
        return only_run_in(plan.run.output)
    return contextlib.nullcontext()
