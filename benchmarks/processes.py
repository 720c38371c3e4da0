"""Runs a command and measures all of its processes: time, CPU time and memory.

The command runs below a supervisor, a process of its own (`python -m benchmarks.processes RESULT COMMAND…`):

- CPU time is what the kernel adds up for the processes that were waited for (`RUSAGE_CHILDREN`), exact however short
  they lived, which sampling is not. A process whose parent ended before it would be missing from that sum, so the
  supervisor is a subreaper: orphans become its children, and it waits for them.
- Memory of the tree is the sum of the proportional set sizes (a page that three processes share counts a third in
  each), sampled; a peak shorter than the interval is missed. The largest single process comes from the kernel.
- What is left when the command ends is killed, then counted.
"""

import ctypes
import dataclasses
import json
import os
import pathlib
import resource
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence

from beam_pipelines.errors import RunError

PROJECT = pathlib.Path(__file__).resolve().parent.parent
_SAMPLE_SECONDS = 0.5
# linux/prctl.h
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36


@dataclasses.dataclass(frozen=True, kw_only=True)
class Usage:
    """What a command and all the processes below it took.

    Attributes:
        exit_code: of the command itself.
        wall: seconds from its start to its end.
        cpu: seconds of user and system time, all processes.
        peak_memory: bytes, the highest sum of proportional set sizes seen.
        largest_process: bytes, the highest resident set size of any one process.
    """

    exit_code: int
    wall: float
    cpu: float
    peak_memory: int
    largest_process: int


def measure(
    command: Sequence[str], *, log: pathlib.Path, environment: Mapping[str, str] | None = None, timeout: float = 3600
) -> Usage:
    """Runs `command` in the project's folder, its output in `log`, and returns what it took.

    Raises:
        RunError: it ended with an error, or ran for more than `timeout` seconds; with the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="benchmark-usage-") as folder, log.open("wb") as output:
        result = pathlib.Path(folder, "usage.json")
        supervisor = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.processes", str(result), *command],
            cwd=PROJECT,
            env=os.environ | dict(environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            supervisor.wait(timeout)
        except subprocess.TimeoutExpired:
            raise RunError(f"ran for more than {timeout:.0f} s: {' '.join(command)}\n{_tail(log)}") from None
        finally:
            supervisor.terminate()
            supervisor.wait()
        usage = Usage(**json.loads(result.read_text())) if result.exists() else None
    if usage is None or usage.exit_code != 0:
        code = usage.exit_code if usage else supervisor.returncode
        raise RunError(f"ended with exit code {code}: {' '.join(command)}\n{_tail(log)}")
    return usage


def _tail(log: pathlib.Path, *, lines: int = 15) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])


class _MemorySampler(threading.Thread):
    """Keeps the highest sum of proportional set sizes of all processes below this one."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak = 0
        self._ended = threading.Event()

    def run(self) -> None:
        while not self._ended.wait(_SAMPLE_SECONDS):
            self.peak = max(self.peak, sum(_proportional_set_size(pid) for pid in _descendants(os.getpid())))

    def stop(self) -> None:
        self._ended.set()
        self.join()


def _supervise(command: Sequence[str]) -> Usage:
    """Runs `command` in a session of its own and returns what it and everything below it took."""
    libc = ctypes.CDLL(None, use_errno=True)
    for option, value in ((_PR_SET_CHILD_SUBREAPER, 1), (_PR_SET_PDEATHSIG, signal.SIGTERM)):
        if libc.prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), "prctl")
    sampler = _MemorySampler()
    try:
        started = time.perf_counter()
        process = subprocess.Popen(command, start_new_session=True)
        sampler.start()
        exit_code = process.wait()
        wall = time.perf_counter() - started
        sampler.stop()
    finally:
        _end_descendants()
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return Usage(
        exit_code=exit_code,
        wall=wall,
        cpu=used.ru_utime + used.ru_stime,
        peak_memory=sampler.peak,
        largest_process=used.ru_maxrss * 1024,
    )


def _end_descendants() -> None:
    """Kills what is left below this process and waits for it, until nothing is."""
    while True:
        for pid in _descendants(os.getpid()):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _descendants(root: int) -> list[int]:
    """Returns the process ids of everything below `root`."""
    children: dict[int, list[int]] = {}
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            children.setdefault(_parent(int(entry)), []).append(int(entry))
    found: list[int] = []
    waiting = [root]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _parent(pid: int) -> int:
    """Returns a process's parent, 0 if it is gone; see proc(5): the name, in brackets, may hold anything."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return int(file.read().rpartition(b")")[2].split()[1])
    except (FileNotFoundError, ProcessLookupError):
        return 0


def _proportional_set_size(pid: int) -> int:
    """Returns a process's proportional set size in bytes, 0 if it is gone."""
    try:
        with open(f"/proc/{pid}/smaps_rollup", "rb") as file:
            for line in file:
                if line.startswith(b"Pss:"):
                    return int(line.split()[1]) * 1024
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        pass
    return 0


def main() -> None:
    """Supervises the command in `sys.argv` and writes what it took as JSON."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(143))
    usage = _supervise(sys.argv[2:])
    pathlib.Path(sys.argv[1]).write_text(json.dumps(dataclasses.asdict(usage)))


if __name__ == "__main__":
    main()
