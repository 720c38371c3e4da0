"""Progress of long work, told through small files, which works alike on every runner and every file system.

Each worker process writes how many pictures it has done and rejected; whoever watches the run adds them up.
"""

import contextlib
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Iterator

from beam_pipelines import files

_LOGGER = logging.getLogger(__name__)

_LOCAL_INTERVAL = 0.5
_REMOTE_INTERVAL = 5.0
_LOG_INTERVAL = 15.0


class ProgressFile:
    """Counts what this process has done, and says so in a file of its own from time to time; thread-safe."""

    def __init__(self, directory: str) -> None:
        self._path = files.join(directory, f"{os.getpid()}-{os.urandom(4).hex()}.json")
        self._interval = _REMOTE_INTERVAL if files.is_remote(directory) else _LOCAL_INTERVAL
        self._lock = threading.Lock()
        self._done = 0
        self._rejected = 0
        self._told = time.monotonic()

    def add(self, *, done: int, rejected: int) -> None:
        """Adds pictures that have met their outcome, and those among them that were rejected."""
        with self._lock:
            self._done += done
            self._rejected += rejected
            now = time.monotonic()
            if now - self._told < self._interval:
                return
            self._told = now
            self.tell()

    def tell(self) -> None:
        """Writes the file now."""
        with contextlib.suppress(OSError):
            files.write_bytes(self._path, json.dumps({"done": self._done, "rejected": self._rejected}).encode())


@contextlib.contextmanager
def shown_progress(directory: str, *, total: int) -> Iterator[None]:
    """Shows the progress told in `directory` while the block runs: a line kept up to date, or one log line in 15 s."""
    stop = threading.Event()
    thread = threading.Thread(target=_watch, args=(directory, total, stop), name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def progress_line(*, done: int, rejected: int, total: int, seconds: float) -> str:
    """Returns `1,200 of 3,068 pictures (39%), 96/s, 4 rejected, 0:19 left`."""
    done = min(done, total)
    rate = done / seconds if seconds > 0 else 0.0
    left = clock((total - done) / rate) if rate else "?"
    percent = 100 * done // total if total else 100
    return f"{done:,} of {total:,} pictures ({percent}%), {rate:,.0f}/s, {rejected:,} rejected, {left} left"


def _watch(directory: str, total: int, stop: threading.Event) -> None:
    interactive = sys.stderr.isatty()
    start = shown = time.monotonic()
    while not stop.wait(_REMOTE_INTERVAL if files.is_remote(directory) else _LOCAL_INTERVAL):
        now = time.monotonic()
        if not interactive and now - shown < _LOG_INTERVAL:
            continue
        shown = now
        try:
            done, rejected = _read(directory)
        except OSError:  # whoever watches does not end a run
            continue
        line = progress_line(done=done, rejected=rejected, total=total, seconds=now - start)
        if interactive:
            sys.stderr.write(f"\r\x1b[K{line}")
            sys.stderr.flush()
        else:
            _LOGGER.info(line)
    if interactive:
        sys.stderr.write("\r\x1b[K")


def _read(directory: str) -> tuple[int, int]:
    done = rejected = 0
    for name in files.list_files(directory):
        with contextlib.suppress(OSError, ValueError):
            told = files.read_json(files.join(directory, name))
            done += told["done"]
            rejected += told["rejected"]
    return done, rejected


def clock(seconds: float) -> str:
    """Returns `0:19`, `12:05` or `1:52:04`: minutes and seconds, with hours if there are any."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
