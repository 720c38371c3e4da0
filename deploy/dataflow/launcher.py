"""Launches ingest from a flex template: the plan is made here, then one job writes the shards and publishes them.

A template launches a single job, and its launcher must not wait for it. So metadata is read on this machine, with
Beam's local runner, and what has to be fetched is left to the job.
"""

import argparse
import shlex
import sys
from collections.abc import Sequence

from beam_pipelines import ingest
from beam_pipelines.commands import run_command
from beam_pipelines.options import parse_arguments
from beam_pipelines.runners import beam_options


def main(arguments: Sequence[str]) -> int:
    """Plans here and launches the job; returns the exit code of ingest.

    Args:
        arguments: the template's parameters and the job's options as `--NAME=VALUE`, in which the parameter
            `arguments` has more options of ingest, as they are typed in a shell.
    """
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--arguments", default="")
    given, options = parser.parse_known_args(list(arguments))
    options += shlex.split(given.arguments)
    return (
        run_command(lambda: _check(options))
        or ingest.main([*options, "--runner=DirectRunner", "--plan_only"])
        or ingest.main([*options, "--no_wait"])
    )


def _check(options: Sequence[str]) -> None:
    """Raises OptionError for what would otherwise fail after the plan is made."""
    _, run, beam_arguments = parse_arguments(options)
    beam_options(beam_arguments, output=run.output)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
