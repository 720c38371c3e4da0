"""What the options of every pipeline's command have in common.

Imports neither Beam nor TensorFlow, so that a command can say what is wrong with its options at once.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from typing import Any

from beam_pipelines.errors import OptionError

MAX_REJECT_FRACTION = 0.5

Group = argparse._ArgumentGroup

_LOCAL_WORKERS = "--direct_num_workers"


def make_command_parser(module: str, description: str, *, of_beam: str) -> argparse.ArgumentParser:
    """Returns the parser of `python -m module`, as yet without options.

    Args:
        module: the command.
        description: what it does.
        of_beam: options of Beam's that it also takes, to name as examples.
    """
    return argparse.ArgumentParser(
        prog=f"python -m {module}",
        description=description,
        epilog=f"Options that are not listed here are Apache Beam's, such as {of_beam}.",
        allow_abbrev=False,
    )


def taken(values: dict[str, Any], options: type[Any]) -> dict[str, Any]:
    """Returns those parsed values that are fields of the dataclass `options`; lists become tuples."""
    names = [field.name for field in dataclasses.fields(options) if field.name in values]
    return {name: tuple(values[name]) if isinstance(values[name], list) else values[name] for name in names}


def with_one_local_worker(beam_arguments: Sequence[str]) -> list[str]:
    """Returns Beam's arguments with one worker of the local runner unless they ask for more.

    For pipelines that spend their time in TensorFlow, which uses every core by itself.
    """
    if any(argument.split("=")[0] == _LOCAL_WORKERS for argument in beam_arguments):
        return list(beam_arguments)
    return [*beam_arguments, f"{_LOCAL_WORKERS}=1"]


def check_reject_fraction(fraction: float) -> None:
    """Raises OptionError for a `--max_reject_fraction` that is no part of a whole."""
    if not 0 <= fraction <= 1:
        raise OptionError(f"--max_reject_fraction {fraction} is not between 0 and 1")


def add_reject_fraction(group: Group) -> None:
    """Adds `--max_reject_fraction`."""
    group.add_argument(
        "--max_reject_fraction",
        type=float,
        default=MAX_REJECT_FRACTION,
        help="fail if more of the pictures than this are rejected (default: %(default)s)",
    )


def add_shared_filesystem(group: Group) -> None:
    """Adds `--shared_filesystem`."""
    group.add_argument(
        "--shared_filesystem",
        action="store_true",
        help="a cluster's workers see the same files under the same paths as this machine",
    )


def add_verbose(group: Group) -> None:
    """Adds `--verbose`."""
    group.add_argument("--verbose", action="store_true", help="log more, and show errors whole")
