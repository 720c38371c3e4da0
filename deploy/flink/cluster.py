"""A Flink cluster of one JobManager and several TaskManagers, processes of their own that outlive their starter.

It listens on loopback alone. Its settings and logs lie in its directory, and what is there says what cluster it is.
"""

import dataclasses
import http.client
import json
import shutil
import socket
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_pipelines.errors import OptionError, RunError
from deploy.flink import processes
from deploy.flink.installation import Installation

JOB_MANAGER = "jobmanager"

_TASK_MANAGER = "taskmanager-"
_SETTINGS = "cluster.json"
_SCRATCH = "tmp"
_HOST = "127.0.0.1"
_POLL_SECONDS = 0.2
_START_SECONDS = 120.0
_REQUEST_SECONDS = 5.0
_LINES_SHOWN = 20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Settings:
    """What a cluster is started with.

    Attributes:
        port: of the REST address.
        rpc_port: at which TaskManagers find the JobManager.
        slots: of each TaskManager.
    """

    port: int
    rpc_port: int
    slots: int

    @property
    def address(self) -> str:
        """Returns the REST address, which is also the `--flink_master` of jobs."""
        return f"{_HOST}:{self.port}"

    def options(self, directory: Path) -> dict[str, str]:
        """Returns Flink's options.

        Memory is what several jobs of Beam one after the other were seen to need: smaller TaskManagers run out of
        direct memory or of metaspace. A killed TaskManager costs up to two restarts.
        """
        return {
            "jobmanager.rpc.address": _HOST,
            "jobmanager.rpc.port": str(self.rpc_port),
            "jobmanager.bind-host": _HOST,
            "jobmanager.memory.process.size": "1600m",
            "taskmanager.bind-host": _HOST,
            "taskmanager.host": _HOST,
            "taskmanager.numberOfTaskSlots": str(self.slots),
            "taskmanager.memory.process.size": "3000m",
            "taskmanager.memory.jvm-metaspace.size": "768m",
            "taskmanager.memory.task.off-heap.size": "384m",
            "taskmanager.memory.network.min": "512m",
            "taskmanager.memory.network.max": "512m",
            "taskmanager.memory.managed.size": "256m",
            "rest.address": _HOST,
            "rest.bind-address": _HOST,
            "rest.bind-port": str(self.port),
            "rest.port": str(self.port),
            "io.tmp.dirs": str(directory / _SCRATCH),
            "blob.service.cleanup.interval": "60",
            "heartbeat.interval": "2000",
            "heartbeat.timeout": "20000",
            "restart-strategy.type": "fixed-delay",
            "restart-strategy.fixed-delay.attempts": "5",
            "restart-strategy.fixed-delay.delay": "2s",
        }


class LocalCluster:
    """The cluster whose state lies in `directory`."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory.resolve()

    def up(self, settings: Settings, installation: Installation, *, task_managers: int) -> None:
        """Starts what is missing of the cluster, and returns when all of it has come together.

        Args:
            settings: what to start it with.
            installation: of Flink.
            task_managers: as many will be there, or more if there are more.

        Raises:
            OptionError: it runs with other settings, or a port is in use.
            RunError: it did not come up.
        """
        if self.is_up():
            if (present := self.settings()) != settings:
                raise OptionError(f"a cluster of other settings runs in {self.directory}, {present}: end it first")
        else:
            self.down()
            self._prepare(settings)
            self._start(JOB_MANAGER, settings, installation)
        for _ in range(task_managers - len(self.task_managers())):
            self._start_task_manager(settings, installation)
        self._wait_until_complete(settings)

    def add_task_manager(self, installation: Installation) -> str:
        """Starts one more TaskManager; returns its name when it has joined. Raises RunError where no cluster runs."""
        settings = self.settings()
        name = self._start_task_manager(settings, installation)
        self._wait_until_complete(settings)
        return name

    def down(self) -> int:
        """Ends all processes of the cluster and deletes their scratch files; returns how many processes there were."""
        ended = processes.end(self.directory)
        shutil.rmtree(self.directory / _SCRATCH, ignore_errors=True)
        return ended

    def is_up(self) -> bool:
        """Tells whether the JobManager runs."""
        return any(process.leads and process.name == JOB_MANAGER for process in processes.find(self.directory))

    def task_managers(self) -> list[str]:
        """Returns the names of the TaskManagers that run."""
        found = processes.find(self.directory)
        return [process.name for process in found if process.leads and process.name.startswith(_TASK_MANAGER)]

    def settings(self) -> Settings:
        """Returns what the cluster runs with; raises RunError if it does not run."""
        if not self.is_up():
            raise RunError(f"no Flink cluster runs in {self.directory}")
        return Settings(**json.loads((self.directory / _SETTINGS).read_text()))

    def describe(self) -> str:
        """Returns how many TaskManagers and slots there are, in a line for people."""
        settings = self.settings()
        overview = _ask(settings, "/overview")
        return (
            f"a Flink cluster is up at {settings.address}: {overview['taskmanagers']} TaskManagers, "
            f"{overview['slots-total']} slots, {overview['jobs-running']} jobs at work"
        )

    def _prepare(self, settings: Settings) -> None:
        for port in (settings.port, settings.rpc_port):
            _check_free(port)
        for name in ("log", "pid", _SCRATCH):
            (self.directory / name).mkdir(parents=True, exist_ok=True)
        for log in (self.directory / "log").iterdir():
            log.unlink()
        (self.directory / _SETTINGS).write_text(json.dumps(dataclasses.asdict(settings)))

    def _start_task_manager(self, settings: Settings, installation: Installation) -> str:
        logs = (self.directory / "log").glob(f"{_TASK_MANAGER}*.out")
        numbers = [int(log.stem.removeprefix(_TASK_MANAGER)) for log in logs]
        name = f"{_TASK_MANAGER}{max(numbers, default=0) + 1}"
        self._start(name, settings, installation, **{"taskmanager.resource-id": name})
        return name

    def _start(self, name: str, settings: Settings, installation: Installation, **options: str) -> None:
        script = installation.home / "bin" / f"{name.split('-')[0]}.sh"
        given = {**settings.options(self.directory), **options}
        command = [str(script), "start-foreground"]
        for key, value in given.items():
            command += ["-D", f"{key}={value}"]
        environment = {
            "FLINK_CONF_DIR": str(installation.home / "conf"),
            "FLINK_LOG_DIR": str(self.directory / "log"),
            "FLINK_PID_DIR": str(self.directory / "pid"),
        }
        processes.start(self.directory, name, command, environment)

    def _wait_until_complete(self, settings: Settings) -> None:
        """Waits until every TaskManager that runs has joined the JobManager."""

        def is_complete() -> bool:
            known = _ask(settings, "/taskmanagers")["taskmanagers"]
            ready = {manager["id"] for manager in known if manager["slotsNumber"] == settings.slots}
            return ready >= set(self.task_managers())

        self._wait(is_complete, expected={JOB_MANAGER, *self.task_managers()})

    def _wait(self, is_complete: Callable[[], bool], *, expected: set[str]) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            running = {process.name for process in processes.find(self.directory) if process.leads}
            if ended := sorted(expected - running):
                raise RunError(f"{ended[0]} ended while it started:\n{self._last_lines(ended[0])}")
            try:
                if is_complete():
                    return
            except (OSError, http.client.HTTPException):
                pass  # the JobManager does not answer yet
            time.sleep(_POLL_SECONDS)
        raise RunError(f"the cluster did not come up in {_START_SECONDS:g} s: see {self.directory / 'log'}")

    def _last_lines(self, name: str) -> str:
        lines = (self.directory / "log" / f"{name}.out").read_text(errors="replace").splitlines()
        return "\n".join(lines[-_LINES_SHOWN:])


def _ask(settings: Settings, path: str) -> Any:
    with urllib.request.urlopen(f"http://{settings.address}{path}", timeout=_REQUEST_SECONDS) as answer:
        return json.load(answer)


def _check_free(port: int) -> None:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((_HOST, port))
        except OSError as error:
            raise OptionError(
                f"port {port} of {_HOST} cannot be had ({error.strerror}): give another --port or --rpc_port"
            ) from error
