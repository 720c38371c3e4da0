"""Says what every picture of a list, a catalogue or a folder shows: `python -m beam_pipelines.batch_predict --help`.

Three phases, each of which finds what an earlier run has left and does only the rest:

    plan      rows and shards from metadata alone, kept in `.plan/`
    shards    fetch, check, predict and write, one fused step a shard, by Beam's RunInference
    publish   every row accounted for, `rejected.jsonl`, `summary.json`, a table in BigQuery if asked, `COMPLETED` last

TensorFlow is imported by the first worker that has a picture to predict.
"""

import contextlib
import os
import sys
from collections.abc import Sequence

from beam_pipelines.commands import run_command
from beam_pipelines.locks import only_run_in
from beam_pipelines.prediction.options import parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    return run_command(lambda: _predict(list(arguments)), verbose="--verbose" in arguments)


def _predict(arguments: list[str]) -> int:
    options, run, beam_arguments = parse_arguments(arguments)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with contextlib.nullcontext() if "://" in run.output else only_run_in(run.output):
        from beam_pipelines.prediction.phases import predict_phases

        print(predict_phases(options, run, beam_arguments))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
