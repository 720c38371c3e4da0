"""Flink clusters: what a job on one needs, and the cluster's own REST address, to ask it and to cancel jobs.

https://nightlies.apache.org/flink/flink-docs-stable/docs/ops/rest_api/
"""

import contextlib
import ipaddress
import json
import os
import shutil
import sys
import time
import urllib.parse
from typing import Any

import requests
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from beam_pipelines.errors import OptionError

WORKER_COMMAND = "museum-beam-worker"

# Addresses that stand for a cluster inside the job server, on this machine.
_EMBEDDED = frozenset({"[local]", "[auto]", "[collection]"})
_ENDED = frozenset({"FINISHED", "CANCELED", "FAILED"})
_TIMEOUT_SECONDS = 10.0
_CANCEL_SECONDS = 30.0
_POLL_SECONDS = 0.2


class FlinkCluster:
    """A cluster, by the address of its JobManager.

    Args:
        master: `host:port`, or with `http://` or `https://`.
    """

    def __init__(self, master: str) -> None:
        self.master = master
        self._address = master if "://" in master else f"http://{master}"

    def slots(self) -> int:
        """Returns how many slots its TaskManagers have; raises OptionError if it cannot be reached, or has none."""
        slots = int(self._get("/overview").get("slots-total", 0))
        if not slots:
            raise OptionError(f"the Flink cluster at {self.master} has no TaskManager: start one")
        return slots

    def running_jobs(self, name: str) -> list[str]:
        """Returns the ids of jobs under way whose names begin with `name`."""
        jobs = self._get("/jobs/overview").get("jobs", [])
        return [job["jid"] for job in jobs if job["name"].startswith(name) and job["state"] not in _ENDED]

    def cancel(self, name: str) -> None:
        """Cancels the jobs under way whose names begin with `name`, and returns when they have ended.

        What cannot be reached, or takes too long to end, stays as it is.
        """
        deadline = time.monotonic() + _CANCEL_SECONDS
        with contextlib.suppress(OptionError, requests.RequestException):
            for job in self.running_jobs(name):
                requests.patch(f"{self._address}/jobs/{job}?mode=cancel", timeout=_TIMEOUT_SECONDS)
            while time.monotonic() < deadline and self.running_jobs(name):
                time.sleep(_POLL_SECONDS)

    def _get(self, path: str) -> dict[str, Any]:
        try:
            answer = requests.get(f"{self._address}{path}", timeout=_TIMEOUT_SECONDS)
            answer.raise_for_status()
            value: dict[str, Any] = answer.json()
        except (requests.RequestException, ValueError) as error:
            raise OptionError(
                f"no Flink cluster answers at --flink_master {self.master}: give the JobManager's REST address, "
                "HOST:PORT, or start one here with `make flink-up`"
            ) from error
        return value


def cluster_of(options: PipelineOptions) -> FlinkCluster | None:
    """Returns the cluster that `--flink_master` names; None for one inside the job server."""
    master = options.view_as(FlinkRunnerOptions).flink_master
    return None if master in _EMBEDDED else FlinkCluster(master)


def is_on_this_machine(options: PipelineOptions) -> bool:
    """Tells whether the cluster's address is of this machine alone."""
    cluster = cluster_of(options)
    if cluster is None:
        return True
    host = urllib.parse.urlsplit(cluster.master if "://" in cluster.master else f"//{cluster.master}").hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def prepare_flink_options(options: PipelineOptions) -> None:
    """Completes the options of a job: as many workers as the cluster has slots, each with this project's interpreter.

    Raises:
        OptionError: there is no cluster, or a job of that name is at work on it.
    """
    cluster = cluster_of(options)
    if cluster is None:
        return
    flink = options.view_as(FlinkRunnerOptions)
    slots = cluster.slots()
    if flink.parallelism < 1:
        flink.parallelism = slots
    name = options.view_as(GoogleCloudOptions).job_name
    if name and (running := cluster.running_jobs(name)):
        raise OptionError(
            f"job {running[0]} ({name}) of an earlier run is at work on {cluster.master}: wait for it, or cancel it"
        )
    portable = options.view_as(PortableOptions)
    if not portable.environment_type:
        portable.environment_type = "PROCESS"
        portable.environment_config = json.dumps({"command": worker_command()})


def worker_command() -> str:
    """Returns the program that starts a Python worker with the interpreter and the packages of this process.

    Raises:
        OptionError: the project is not installed.
    """
    beside = os.path.join(os.path.dirname(sys.executable), WORKER_COMMAND)
    found = beside if os.path.exists(beside) else shutil.which(WORKER_COMMAND)
    if not found:
        raise OptionError(
            f"{WORKER_COMMAND} is not installed beside {sys.executable}: run `make setup`, or give --environment_type "
            "and --environment_config of the cluster's workers"
        )
    return found
