"""When a training process had done so many steps: kept by each contestant, and compared between two of its steps."""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence

from tensorboard.compat.proto.event_pb2 import Event

from beam_pipelines.errors import RunError
from beam_pipelines.tfrecords import read_records

_OF_TRAINING = "tensorboard/train"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mark:
    """A moment.

    Attributes:
        step: how many are done.
        wall: seconds.
        cpu: seconds of CPU time of the process; NaN where it is not known.
    """

    step: int
    wall: float
    cpu: float = math.nan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pace:
    """How fast a process trained: examples a second, and seconds of CPU time an example (NaN if not known)."""

    rate: float
    cpu: float


def pace(marks: Sequence[Mark], *, after: int, batch_size: int) -> Pace:
    """Returns the pace from the first mark of at least `after` steps to the last one.

    Raises:
        RunError: these are not two.
    """
    counted = [mark for mark in marks if mark.step >= after]
    if len(counted) < 2 or counted[-1].wall <= counted[0].wall:
        raise RunError(f"no two steps from step {after} on were marked: give more steps")
    first, last = counted[0], counted[-1]
    examples = (last.step - first.step) * batch_size
    return Pace(rate=examples / (last.wall - first.wall), cpu=(last.cpu - first.cpu) / examples)


def write_marks(path: pathlib.Path, marks: Sequence[Mark]) -> None:
    """Leaves marks for `read_marks`."""
    path.write_text(json.dumps([dataclasses.asdict(mark) for mark in marks]))


def read_marks(path: pathlib.Path) -> list[Mark]:
    """Returns what `write_marks` left."""
    return [Mark(**mark) for mark in json.loads(path.read_text())]


def marks_of_run(run: pathlib.Path) -> list[Mark]:
    """Returns the moments at which a run of the trainer wrote its figures for TensorBoard, in order."""
    moments: dict[int, float] = {}
    for path in (run / _OF_TRAINING).iterdir():
        with path.open("rb") as file:
            for event in map(Event.FromString, read_records(file)):
                if event.WhichOneof("what") == "summary":
                    moments.setdefault(event.step, event.wall_time)
    return [Mark(step=step, wall=wall) for step, wall in sorted(moments.items())]
