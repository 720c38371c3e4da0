"""The worker that a TaskManager starts: what it tells Beam's harness, what it refuses, and when it ends."""

import argparse
import concurrent.futures
import contextlib
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf import json_format, struct_pb2, text_format

from beam_pipelines.errors import RunError
from beam_pipelines.process_worker import check_dependencies, harness_environment

_SECONDS = 60
# As a TaskManager does: a thread starts the worker, and may be gone long before it.
_PARENT = """
import subprocess, sys, threading
def start():
    global worker
    worker = subprocess.Popen(sys.argv[1:])
    print(worker.pid, flush=True)
    sys.stdin.readline()
thread = threading.Thread(target=start)
thread.start()
thread.join()
print("started", flush=True)
print(worker.wait(), flush=True)
"""


def dependency(name: str) -> Any:
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload(staged_name=name)
    return beam_runner_api_pb2.ArtifactInformation(role_payload=payload.SerializeToString())


def endpoint(url: str) -> Any:
    return endpoints_pb2.ApiServiceDescriptor(url=url)


class Runner(beam_provision_api_pb2_grpc.ProvisionServiceServicer):
    """A runner that says what the job is only when it is told to.

    Attributes:
        asked: set when a worker asks.
        answer: to be set.
        worker_id: who asked.
    """

    def __init__(self, information: Any) -> None:
        self._information = information
        self.asked = threading.Event()
        self.answer = threading.Event()
        self.worker_id = ""

    def GetProvisionInfo(self, request: Any, context: Any) -> Any:  # noqa: N802  (the service's name for it)
        self.worker_id = dict(context.invocation_metadata())["worker_id"]
        self.asked.set()
        self.answer.wait(_SECONDS)
        return beam_provision_api_pb2.GetProvisionInfoResponse(info=self._information)


@contextlib.contextmanager
def serving(runner: Runner) -> Iterator[str]:
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
    beam_provision_api_pb2_grpc.add_ProvisionServiceServicer_to_server(runner, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        runner.answer.set()
        server.stop(grace=None).wait()


@contextlib.contextmanager
def started_by_a_thread(runner: Runner) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Gives a process of which a thread has started a worker of `runner`, and the worker's pid."""
    with serving(runner) as address:
        worker = [sys.executable, "-m", "beam_pipelines.process_worker", "--id=1-1", f"--provision_endpoint={address}"]
        parent = subprocess.Popen(
            [sys.executable, "-c", _PARENT, *worker],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        with parent:
            assert parent.stdout
            pid = int(parent.stdout.readline())
            assert runner.asked.wait(_SECONDS)
            try:
                yield parent, pid
            finally:
                parent.kill()


def test_harness_learns_what_the_runner_says() -> None:
    options = struct_pb2.Struct()
    options.update({"beam:option:job_name:v1": "museum"})
    information = beam_provision_api_pb2.ProvisionInfo(
        pipeline_options=options, runner_capabilities=["one", "two"], control_endpoint=endpoint("localhost:1")
    )
    started_with = argparse.Namespace(id="1-1", control_endpoint="localhost:8", logging_endpoint="localhost:9")
    variables = harness_environment(information, started_with)
    assert variables["WORKER_ID"] == "1-1"
    assert json_format.Parse(variables["PIPELINE_OPTIONS"], struct_pb2.Struct()) == options
    assert variables["RUNNER_CAPABILITIES"] == "one two"
    assert url_in(variables["CONTROL_API_SERVICE_DESCRIPTOR"]) == "localhost:1"
    assert url_in(variables["LOGGING_API_SERVICE_DESCRIPTOR"]) == "localhost:9"
    assert "STATUS_API_SERVICE_DESCRIPTOR" not in variables


def url_in(descriptor: str) -> str:
    return str(text_format.Parse(descriptor, endpoints_pb2.ApiServiceDescriptor()).url)


def test_packages_that_a_job_brings_are_refused_by_name() -> None:
    check_dependencies([dependency("submission_environment_dependencies.txt")])
    with pytest.raises(RunError, match=r"brings workflow\.tar\.gz, .*leave .*--setup_file"):
        check_dependencies([dependency("submission_environment_dependencies.txt"), dependency("workflow.tar.gz")])


@pytest.mark.slow
def test_runner_that_does_not_answer_is_told_in_a_line() -> None:
    command = [sys.executable, "-m", "beam_pipelines.process_worker", "--id=1-1", "--provision_endpoint=127.0.0.1:1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1].startswith("museum-beam-worker: the runner does not say what the job is: ")
    assert "Traceback" not in ended.stderr


@pytest.mark.slow
def test_worker_outlives_the_thread_that_started_it() -> None:
    runner = Runner(beam_provision_api_pb2.ProvisionInfo(dependencies=[dependency("workflow.tar.gz")]))
    with started_by_a_thread(runner) as (parent, _):
        assert parent.stdin
        assert parent.stdout
        assert parent.stderr
        parent.stdin.write("\n")
        parent.stdin.flush()
        assert parent.stdout.readline() == "started\n"
        runner.answer.set()
        assert parent.stdout.readline() == "1\n"
        assert "brings workflow.tar.gz" in parent.stderr.read()
    assert runner.worker_id == "1-1"


@pytest.mark.slow
def test_worker_ends_with_the_process_that_started_it() -> None:
    runner = Runner(beam_provision_api_pb2.ProvisionInfo())
    with started_by_a_thread(runner) as (parent, pid):
        worker = os.pidfd_open(pid)
        parent.send_signal(signal.SIGKILL)
        assert select.select([worker], [], [], _SECONDS)[0]
        os.close(worker)
