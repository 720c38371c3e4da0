"""What every command does alike: logging, one clear line for an error, exit codes."""

import contextlib
import logging
import os
import sys
import tempfile
from collections.abc import Callable, Iterator

from beam_pipelines.errors import OptionError, UserError

_LOGGER = logging.getLogger(__name__)


def run_command(command: Callable[[], int | None], *, verbose: bool = False) -> int:
    """Runs a command and returns its exit code.

    Returns:
        what the command returns; 2 for wrong options, 1 for an error that its message explains. Anything else that
        is raised is a defect and shows its trace.
    """
    log_to_stderr(verbose=verbose)
    try:
        return command() or 0
    except OptionError as error:
        _say(error)
        return 2
    except (UserError, OSError) as error:
        _LOGGER.debug("", exc_info=True)
        _say(error)
        return 1
    except KeyboardInterrupt:
        _say("interrupted: give the same command again to go on")
        _end_now(130)
        return 130


def log_to_stderr(*, verbose: bool) -> None:
    """Sends log lines to stderr; those of libraries only if they are errors, unless `verbose`."""
    logging.basicConfig(format="%(message)s", level=logging.DEBUG if verbose else logging.ERROR, stream=sys.stderr)
    logging.getLogger("beam_pipelines").setLevel(logging.DEBUG if verbose else logging.INFO)


@contextlib.contextmanager
def native_messages_held_back() -> Iterator[None]:
    """Holds back what native code writes to stderr while the block runs, and shows it only if the block raises.

    TensorFlow greets with a page of its own before its log level can be set.
    """
    sys.stderr.flush()
    stderr = os.dup(2)
    with tempfile.TemporaryFile() as held_back:
        os.dup2(held_back.fileno(), 2)
        try:
            yield
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


def _end_now(code: int) -> None:
    """Ends the process though a runner's threads still wait for workers, which end when they see it gone."""
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
