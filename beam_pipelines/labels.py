"""Counts the values of any attribute of any source: `python -m beam_pipelines.labels --help`.

    --output counts.csv        the distinct pictures of each value, and a chart of them
    --list_attributes          what each attribute offers as a label
    --works_output works.csv   one line a picture, to edit and to ingest as a manifest

Reads metadata alone, and needs no TensorFlow.
"""

import sys
from collections.abc import Sequence

from beam_pipelines.commands import run_command
from beam_pipelines.labels_options import parse_arguments


def main(arguments: Sequence[str]) -> int:
    """Runs the command; returns its exit code: 0 done, 1 failed, 2 wrong options, 130 interrupted."""
    return run_command(lambda: _labels(arguments), verbose="--verbose" in arguments)


def _labels(arguments: Sequence[str]) -> None:
    options, reading, beam_arguments = parse_arguments(arguments)
    from beam_pipelines.label_tables import run_labels  # Beam is only paid for when the options are right

    print(run_labels(options, reading, beam_arguments))  # noqa: T201


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
