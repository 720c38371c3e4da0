"""The processes of a cluster, found again by what stands in their environment, which those they start inherit.

So a process is never taken for another that has got its number, and none is missed: also the Python workers of a
TaskManager that was killed. Reads `/proc`: Linux alone.
"""

import contextlib
import dataclasses
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from beam_pipelines.errors import RunError

_DIRECTORY = "MUSEUM_FLINK_DIRECTORY"
_NAME = "MUSEUM_FLINK_PROCESS"
_POLL_SECONDS = 0.1
_PATIENCE_SECONDS = 10.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Process:
    """A process of a cluster.

    Attributes:
        pid: its number.
        name: what was started: `jobmanager`, `taskmanager-1`; those that this started have its name.
        leads: whether it is the one that was started, and not one that it started.
    """

    pid: int
    name: str
    leads: bool


def start(directory: Path, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
    """Starts a process of the cluster in `directory`, on its own; what it prints goes to `log/<name>.out`."""
    log = directory / "log" / f"{name}.out"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env={**os.environ, **environment, _DIRECTORY: str(directory), _NAME: name},
        )


def find(directory: Path) -> list[Process]:
    """Returns the running processes of the cluster in `directory`, by name."""
    found = []
    for folder in Path("/proc").iterdir():
        if not folder.name.isdecimal():
            continue
        environment: dict[str, str] = {}
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            variables = os.fsdecode((folder / "environ").read_bytes()).split("\0")
            environment = dict(variable.split("=", 1) for variable in variables if "=" in variable)
        if environment.get(_DIRECTORY) == str(directory):
            pid = int(folder.name)
            found.append(Process(pid=pid, name=environment.get(_NAME, ""), leads=_leads_session(pid)))
    return sorted(found, key=lambda process: (process.name, process.pid))


def end(directory: Path) -> int:
    """Ends every process of the cluster, by force if need be; returns how many there were.

    Raises:
        RunError: one could not be ended.
    """
    processes = find(directory)
    for signal_number in (signal.SIGTERM, signal.SIGKILL):
        for process in find(directory):
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal_number)
        deadline = time.monotonic() + _PATIENCE_SECONDS
        while find(directory) and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
    if left := find(directory):
        raise RunError(f"{left[0].name} does not end: process {left[0].pid}")
    return len(processes)


def _leads_session(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False
