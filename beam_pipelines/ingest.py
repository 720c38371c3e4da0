"""Turns a collection's metadata into sharded TFRecords: `python -m beam_pipelines.ingest --help`.

Three phases, each of which finds what an earlier run has left and does only the rest:

    plan      rows, classes, split and shards from metadata alone, kept in `.plan/`
    shards    fetch, check, shrink and write, one fused step a shard
    publish   every row accounted for, `dataset_info.json`, `report.html`, and `COMPLETED` last

The plan is made in a process of its own: TensorFlow, which it needs, holds most of a gigabyte while it is loaded. Until
that process has ended this one does not even import Beam.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from beam_pipelines.child_process import run_in_child
from beam_pipelines.commands import run_command
from beam_pipelines.dataset import PLAN_DIRECTORY, PLAN_FILE
from beam_pipelines.locks import only_run_in
from beam_pipelines.options import DatasetOptions, RunOptions, parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    return run_command(lambda: _ingest(list(arguments)), verbose="--verbose" in arguments)


def _ingest(arguments: list[str]) -> int:
    dataset, run, beam_arguments = parse_arguments(arguments)
    with contextlib.nullcontext() if "://" in run.output else only_run_in(run.output):
        return _run_phases(arguments, dataset, run, beam_arguments)


def _run_phases(arguments: list[str], dataset: DatasetOptions, run: RunOptions, beam_arguments: list[str]) -> int:
    if not os.path.exists(os.path.join(run.output, PLAN_DIRECTORY, PLAN_FILE)):
        failed = run_in_child(_plan, arguments)
        if failed:
            return failed
    from beam_pipelines.phases import write_phase

    print(write_phase(dataset, run, beam_arguments))  # noqa: T201
    return 0


def _plan(arguments: list[str]) -> None:
    from beam_pipelines.phases import plan_phase

    plan_phase(*parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
