"""Measures how long TensorFlow Transform takes over embeddings, and how much memory, and prints a table.

Vectors of 2,048 normally distributed numbers are drawn into a training shard, 5,000 of them and 50,000, and fitted by
`beam_pipelines.embedding.normalization.fit`, each in a process of its own; `nothing` is a process that only imports
TensorFlow Transform and Beam. The fit, without the imports, must take at most 7 seconds for the 5,000 vectors, and ten
times the vectors must take at most 64 MB more memory: they are read as a stream.

Ends with 0 if the goals are met, 1 if one is missed or something fails, 2 if an option is wrong.
"""

import argparse
import dataclasses
import json
import pathlib
import sys
import tempfile
import time

import numpy as np

from beam_pipelines import files
from beam_pipelines.dataset import EMBEDDING, TRAIN, Shard
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.tfrecords import encode_example, frame
from benchmarks import processes
from benchmarks.command import end_when_told, exit_code, make_parser
from benchmarks.figures import aligned
from benchmarks.processes import Usage

_WIDTH = 2_048
_FEW = 5_000
_MANY = 50_000
_SHARD = Shard(TRAIN, 0, 1)
_SECONDS_GOAL = 7.0
_GROWTH_GOAL = 64e6


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measurement:
    """What a process took, and of that the fit alone.

    Attributes:
        usage: of the whole process, imports and all.
        wall: seconds of the fit.
        cpu: seconds of user and system time of the fit.
    """

    vectors: int
    usage: Usage
    wall: float
    cpu: float


def draw(directory: str, *, vectors: int) -> None:
    """Writes a data set of one training shard."""
    drawn = np.random.default_rng(0)
    with files.open_to_write(PlanFiles(directory).shard(_SHARD)) as file:
        for _ in range(vectors):
            vector = drawn.standard_normal(_WIDTH, dtype=np.float32)
            file.write(frame(encode_example({EMBEDDING: vector.tolist()})))


def fit(directory: str, result: str, *, vectors: int) -> None:
    """Fits what `draw` wrote and writes what that took, as JSON; with no vectors it only imports."""
    from beam_pipelines import transform_graph  # noqa: F401  (imports TensorFlow Transform)
    from beam_pipelines.embedding import normalization

    wall, cpu = time.perf_counter(), time.process_time()
    if vectors:
        plan = PlanFiles(directory)
        normalization.fit(plan, [_SHARD], width=_WIDTH, normalize="z_score", output=directory)
    took = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
    pathlib.Path(result).write_text(json.dumps(took))


def measure(vectors: int) -> Measurement:
    """Draws so many vectors and fits them in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="benchmark-normalization-") as name:
        folder = pathlib.Path(name)
        draw(str(folder / "embeddings"), vectors=vectors)
        result = folder / "result.json"
        command = [sys.executable, "-m", "benchmarks.normalization", "--fit", str(folder / "embeddings"), str(result)]
        environment = {"TF_CPP_MIN_LOG_LEVEL": "3"}
        usage = processes.measure([*command, str(vectors)], log=folder / "log.txt", environment=environment)
        took = json.loads(result.read_text())
    return Measurement(vectors=vectors, usage=usage, wall=took["wall"], cpu=took["cpu"])


def table(measurements: list[Measurement]) -> str:
    """Returns a row a measurement."""
    rows: list[tuple[str, ...]] = [("vectors", "fit s", "fit CPU s", "process s", "process CPU s", "MB")]
    rows += [
        (
            f"{one.vectors:,} x {_WIDTH:,}" if one.vectors else "nothing",
            f"{one.wall:.2f}",
            f"{one.cpu:.2f}",
            f"{one.usage.wall:.2f}",
            f"{one.usage.cpu:.2f}",
            f"{one.usage.largest_process / 1e6:.0f}",
        )
        for one in measurements
    ]
    return aligned(rows)


def compare() -> bool:
    """Measures it all and prints the table; returns whether the goals are met."""
    measurements = []
    for vectors in (0, _FEW, _MANY):
        print(f"{vectors:,} vectors", flush=True)
        measurements.append(measure(vectors))
    _, few, many = measurements
    growth = many.usage.largest_process - few.usage.largest_process
    fast, small = few.wall <= _SECONDS_GOAL, growth <= _GROWTH_GOAL
    print(f"\n{table(measurements)}\n")
    for what, value, goal, met in (
        (f"seconds to fit {_FEW:,} vectors", few.wall, _SECONDS_GOAL, fast),
        ("memory, MB more for ten times the vectors", growth / 1e6, _GROWTH_GOAL / 1e6, small),
    ):
        print(f"{what}: {value:.2f} (goal at most {goal:g}: {'met' if met else 'missed'})")
    return fast and small


def run(options: argparse.Namespace) -> bool:
    """Fits as the command asks itself to, or else measures it all; returns whether the goals are met."""
    if not options.fit:
        return compare()
    directory, result, vectors = options.fit
    fit(directory, result, vectors=int(vectors))
    return True


def main() -> int:
    """Runs the command; returns its exit code."""
    end_when_told()
    parser = make_parser("benchmarks.normalization", __doc__)
    parser.add_argument("--fit", nargs=3, metavar=("DIR", "RESULT", "VECTORS"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    return exit_code(lambda: run(options))


if __name__ == "__main__":
    raise SystemExit(main())
