"""A real Flink cluster for a test session: two TaskManagers of one slot each, on free ports of loopback."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

from beam_pipelines.verify import verify
from deploy.flink import processes
from tests.beam_pipelines.ingest_command import content
from tests.ports import free_ports

TASK_MANAGERS = 2
_ENDED = {"FINISHED", "CANCELED", "FAILED"}


class RealCluster:
    """The cluster in `directory`, handled by the command that a user has for it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._ports = free_ports(2)
        self._job_server = self._command("job-server").strip()

    @property
    def master(self) -> str:
        """Returns `host:port` of the JobManager."""
        return f"127.0.0.1:{self._ports[0]}"

    @property
    def options(self) -> tuple[str, ...]:
        """Returns what a pipeline's command needs to run here."""
        runner = ("--runner", "FlinkRunner", "--flink_master", self.master)
        return (*runner, "--flink_job_server_jar", self._job_server)

    def up(self) -> None:
        """Starts what is missing of the cluster."""
        ports = ("--port", str(self._ports[0]), "--rpc_port", str(self._ports[1]))
        self._command("up", "--task_managers", str(TASK_MANAGERS), *ports)

    def down(self) -> None:
        """Ends it."""
        self._command("down")

    def kill_task_manager(self) -> str:
        """Kills a TaskManager that has a Python worker, and the worker; returns its name."""
        found = processes.find(self._directory)
        name = next(process.name for process in found if not process.leads)
        for process in found:
            if process.name == name:
                os.kill(process.pid, signal.SIGKILL)
        return name

    def add_task_manager(self) -> None:
        """Starts one more TaskManager; returns when it has joined."""
        self._command("taskmanager")

    def python_workers(self) -> list[int]:
        """Returns the pids of what TaskManagers have started."""
        return [process.pid for process in processes.find(self._directory) if not process.leads]

    def jobs_at_work(self) -> list[str]:
        """Returns the ids of the jobs that have not ended."""
        return [job["jid"] for job in self._ask("/jobs/overview")["jobs"] if job["state"] not in _ENDED]

    def cancel(self, job: str) -> None:
        """Cancels a job, as the button of Flink's web page does."""
        request = urllib.request.Request(f"http://{self.master}/jobs/{job}?mode=cancel", method="PATCH")
        urllib.request.urlopen(request, timeout=10).close()

    def _ask(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://{self.master}{path}", timeout=10) as answer:
            return json.load(answer)

    def _command(self, *arguments: str) -> str:
        command = (sys.executable, "-m", "deploy.flink", "--directory", str(self._directory), *arguments)
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=800)
        assert done.returncode == 0, done.stderr
        return done.stdout


def assert_gives_what_one_machine_gives(
    flink: RealCluster, run: Callable[..., tuple[int, str]], *arguments: object, folder: Path
) -> None:
    """Runs a command that writes a data set on this machine and on the cluster, and compares what they leave."""
    for name, options in (("here", ()), ("there", flink.options)):
        code, printed = run(*arguments, *options, "--output", folder / name)
        assert code == 0, printed
    assert content(folder / "there") == content(folder / "here")
    assert not list(verify(str(folder / "there")))
