"""What every command does alike: logging, one clear line for an error, exit codes."""

import contextlib
import logging
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from typing import NoReturn

from beam_pipelines.errors import OptionError, UserError

_LOGGER = logging.getLogger(__name__)

_ON_INTERRUPT: list[Callable[[], None]] = []


def run_command(command: Callable[[], int | None], *, verbose: bool = False) -> int:
    """Runs a command and returns its exit code.

    Returns:
        what the command returns; 2 for wrong options, 1 for an error that its message explains. Anything else that
        is raised is a defect and shows its trace.
    """
    log_to_stderr(verbose=verbose)
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGINT, signal.SIGTERM):
            if signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, _end_at_once)
    try:
        return command() or 0
    except OptionError as error:
        _say(error)
        return 2
    except (UserError, OSError) as error:
        _LOGGER.debug("", exc_info=True)
        _say(error)
        return 1


@contextlib.contextmanager
def on_interrupt(callback: Callable[[], None]) -> Iterator[None]:
    """Has `callback` called when the process is told to end (Ctrl-C, SIGTERM) while the block runs."""
    _ON_INTERRUPT.append(callback)
    try:
        yield
    finally:
        _ON_INTERRUPT.remove(callback)


def log_to_stderr(*, verbose: bool) -> None:
    """Sends log lines to stderr; those of libraries only if they are errors, and Beam's not at all, unless `verbose`.

    What Beam logs of a failure it also raises.
    """
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if verbose else logging.ERROR, stream=sys.stderr)
    logging.getLogger("apache_beam").setLevel(logging.DEBUG if verbose else logging.CRITICAL)
    for package in ("beam_pipelines", "serving", "trainer"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


@contextlib.contextmanager
def native_messages_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr while the block runs, and shows it only if the block has a defect.

    TensorFlow greets with a page of its own before its log level can be set.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
        except UserError:
            raise
        except BaseException:
            held_back.seek(0)
            os.write(stderr, held_back.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(stderr, 2)
            os.close(stderr)


def _say(message: object) -> None:
    print(f"error: {message}" if isinstance(message, Exception) else message, file=sys.stderr)  # noqa: T201


def _end_at_once(signal_number: int, frame: object) -> NoReturn:
    """Ends the process, and with it its workers, on Ctrl-C: every file is whole or not there, so nothing is to tidy."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    for callback in reversed(_ON_INTERRUPT):
        with contextlib.suppress(Exception):
            callback()
    if multiprocessing.parent_process() is None:  # else the parent says so
        _say("\ninterrupted: give the same command again to go on")
    sys.stderr.flush()
    os._exit(128 + signal_number)
