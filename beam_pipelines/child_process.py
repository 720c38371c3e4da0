"""A part of a command that runs in a process of its own, so that what it loads is gone when it has ended."""

import multiprocessing
import multiprocessing.process
import os
import signal
import sys
from collections.abc import Callable
from multiprocessing.context import ForkContext, SpawnContext

from beam_pipelines.commands import on_interrupt, run_command
from beam_pipelines.orphans import end_with_parent

# A child that is forked would begin with all that this process has.
CONTEXT: SpawnContext | ForkContext = multiprocessing.get_context("spawn")

_INTERRUPT_SECONDS = 30.0


def run_in_child(part: Callable[[list[str]], None], arguments: list[str]) -> int:
    """Runs a part of a command in a child process that ends with this one; returns the child's exit code.

    Args:
        part: a function of a module; what it raises is shown, and told by the exit code, as `run_command` does.
        arguments: the command's, which the part is called with.
    """
    child = CONTEXT.Process(target=_run, args=(part, arguments), name=part.__name__)
    child.start()
    with on_interrupt(lambda: _interrupt(child)):
        child.join()
    return abs(child.exitcode or 0)


def _interrupt(child: multiprocessing.process.BaseProcess) -> None:
    """Lets the child end its job before this process ends, and the child with it."""
    if child.pid:
        os.kill(child.pid, signal.SIGTERM)  # it passes over SIGINT, which a terminal sends to both
        child.join(_INTERRUPT_SECONDS)


def _run(part: Callable[[list[str]], None], arguments: list[str]) -> None:
    end_with_parent()
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.exit(run_command(lambda: part(arguments), verbose="--verbose" in arguments))
