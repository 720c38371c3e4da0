"""Turns a data set of pictures into one of embeddings: `python -m beam_pipelines.embed --help`.

Three phases, each of which finds what an earlier run has left and does only the rest:

    prepare   the backbone built once, its weights kept in the output, the pictures' shards fixed in `.plan/`
    shards    read, decode, embed and write, one fused step a shard, by Beam's RunInference
    publish   every picture accounted for, `transform_fn/`, `dataset_info.json`, `report.html`, and `COMPLETED` last

The backbone is first built in a process of its own, so that a command whose workers are elsewhere does not hold
TensorFlow while they work. With the local runner this process is the worker, and builds it again from the kept weights.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from beam_pipelines.child_process import run_in_child
from beam_pipelines.commands import run_command
from beam_pipelines.dataset import BACKBONE_WEIGHTS_FILE, PLAN_DIRECTORY, PLAN_FILE
from beam_pipelines.embedding.options import parse_arguments
from beam_pipelines.locks import only_run_in


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    return run_command(lambda: _embed(list(arguments)), verbose="--verbose" in arguments)


def _embed(arguments: list[str]) -> int:
    options, run, beam_arguments = parse_arguments(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.nullcontext() if "://" in run.output else only_run_in(run.output):
        failed = 0 if _is_prepared(run.output) else run_in_child(_prepare, arguments)
        if failed:
            return failed
        from beam_pipelines.embedding.phases import embed_phase

        print(embed_phase(options, run, beam_arguments))  # noqa: T201
    return 0


def _is_prepared(output: str) -> bool:
    needed = (os.path.join(output, PLAN_DIRECTORY, PLAN_FILE), os.path.join(output, BACKBONE_WEIGHTS_FILE))
    return all(map(os.path.exists, needed))


def _prepare(arguments: list[str]) -> None:
    from beam_pipelines.embedding.phases import prepare_phase

    prepare_phase(*parse_arguments(arguments))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
