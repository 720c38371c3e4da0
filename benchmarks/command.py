"""What the commands of all benchmarks do alike: their help, the line about the machine, how they end."""

import argparse
import platform
import signal
import sys
from collections.abc import Callable

from beam_pipelines.errors import OptionError, UserError
from benchmarks.contestants import cores


def make_parser(module: str, description: str | None) -> argparse.ArgumentParser:
    """Returns the parser of `python -m module`, whose help shows the description as it stands."""
    return argparse.ArgumentParser(
        prog=f"python -m {module}", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def positive(text: str) -> int:
    """Returns the whole number that an option gives; raises ArgumentTypeError for one below 1."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value} is below 1")
    return value


def end_when_told() -> None:
    """Has SIGTERM end the process as an exception does, so that other processes are ended and folders removed."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))


def machine() -> str:
    """Returns a line that tells on what the figures were measured."""
    return f"{platform.machine()}, {cores()} cores, Python {platform.python_version()}"


def exit_code(compare: Callable[[], bool]) -> int:
    """Runs a comparison, which tells whether all goals are met.

    Returns:
        0 if they are, 1 if one is missed or something fails, 2 if an option is wrong; failures are told in one line.
    """
    try:
        return 0 if compare() else 1
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, OptionError) else 1
