import http.server
import json
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam.options.pipeline_options import (
    FlinkRunnerOptions,
    GoogleCloudOptions,
    PipelineOptions,
    PortableOptions,
)

from beam_pipelines.errors import OptionError
from beam_pipelines.flink import FlinkCluster, cluster_of, is_on_this_machine, prepare_flink_options, worker_command
from beam_pipelines.runners import beam_options, most_processes
from beam_pipelines.worker_paths import check_worker_paths


class JobManager:
    """Stands in for the REST address of a cluster; remembers what it was asked to change."""

    def __init__(self) -> None:
        self.slots = 6
        self.jobs: list[dict[str, str]] = []
        self.patched: list[str] = []
        manager = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._answer({"/overview": {"slots-total": manager.slots}}.get(self.path, {"jobs": manager.jobs}))

            def do_PATCH(self) -> None:
                manager.patched.append(self.path)
                for job in manager.jobs:
                    if f"/{job['jid']}?" in self.path:
                        job["state"] = "CANCELED"
                self._answer({})

            def _answer(self, value: Any) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing."""

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def manager() -> Iterator[JobManager]:
    manager = JobManager()
    yield manager
    manager.close()


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    worker = tmp_path / "museum-beam-worker"
    worker.touch()
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    return worker


def flink(master: str, *arguments: str) -> PipelineOptions:
    return PipelineOptions(["--runner=FlinkRunner", f"--flink_master={master}", *arguments])


def test_a_job_uses_every_slot_and_this_interpreter(manager: JobManager, worker: Path) -> None:
    options = flink(manager.address)
    prepare_flink_options(options)
    assert options.view_as(FlinkRunnerOptions).parallelism == 6
    portable = options.view_as(PortableOptions)
    assert portable.environment_type == "PROCESS"
    assert json.loads(portable.environment_config) == {"command": str(worker)}
    assert most_processes(options, local=1) == 6


def test_what_is_given_is_kept(manager: JobManager) -> None:
    given = ("--parallelism=2", "--environment_type=EXTERNAL", "--environment_config=localhost:50000")
    options = flink(f"http://{manager.address}", *given)
    prepare_flink_options(options)
    assert options.view_as(FlinkRunnerOptions).parallelism == 2
    assert options.view_as(PortableOptions).environment_config == "localhost:50000"


def test_a_cluster_inside_the_job_server_is_left_to_beam() -> None:
    options = flink("[local]")
    prepare_flink_options(options)
    assert options.view_as(PortableOptions).environment_type is None
    assert cluster_of(options) is None


def test_no_cluster_is_told_at_once(manager: JobManager) -> None:
    manager.slots = 0
    with pytest.raises(OptionError, match="has no TaskManager"):
        prepare_flink_options(flink(manager.address))
    manager.close()
    with pytest.raises(OptionError, match=f"no Flink cluster answers at --flink_master {manager.address}: give the"):
        prepare_flink_options(flink(manager.address))
    with pytest.raises(OptionError, match="no Flink cluster answers at --flink_master not a host:x"):
        prepare_flink_options(flink("not a host:x"))


def test_a_job_of_the_same_output_is_not_run_twice(manager: JobManager, worker: Path) -> None:
    arguments = ["--runner=FlinkRunner", f"--flink_master={manager.address}"]

    def prepared(output: str) -> str:
        options = beam_options(arguments, output=output)
        prepare_flink_options(options)
        return str(options.view_as(GoogleCloudOptions).job_name)

    name = prepared("gs://b/data")
    manager.jobs = [
        {"jid": "1", "name": f"{name}_uuid", "state": "CANCELED"},
        {"jid": "2", "name": "another", "state": "RUNNING"},
    ]
    assert prepared("gs://b/data") == name
    manager.jobs += [{"jid": "3", "name": f"{name}_uuid", "state": "RUNNING"}]
    with pytest.raises(OptionError, match=f"job 3 \\({name}\\) of an earlier run is at work on {manager.address}"):
        prepared("gs://b/data")
    prepared("gs://b/other")


def test_only_jobs_of_that_name_are_cancelled(manager: JobManager) -> None:
    manager.jobs = [
        {"jid": "1", "name": "ours-1", "state": "RUNNING"},
        {"jid": "2", "name": "ours-2", "state": "FINISHED"},
        {"jid": "3", "name": "theirs", "state": "RUNNING"},
    ]
    FlinkCluster(manager.address).cancel("ours")
    assert manager.patched == ["/jobs/1?mode=cancel"]
    manager.close()
    FlinkCluster(manager.address).cancel("ours")


def test_a_project_that_is_not_installed_has_no_worker(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(OptionError, match="museum-beam-worker is not installed"):
        worker_command()


@pytest.mark.parametrize(
    ("master", "here"),
    [
        ("127.0.0.1:8081", True),
        ("localhost:8081", True),
        ("http://127.0.0.1:8081", True),
        ("[::1]:8081", True),
        ("[local]", True),
        ("flink.example:8081", False),
        ("10.0.0.7:8081", False),
        ("https://localhost.example", False),
    ],
)
def test_where_a_cluster_is(master: str, here: bool) -> None:
    assert is_on_this_machine(flink(master)) == here


@pytest.mark.parametrize(
    "runner", ["--runner=FlinkRunner --flink_master=flink.example:8081", "--runner=DataflowRunner"]
)
def test_a_path_of_this_machine_is_refused_to_workers_of_others(runner: str) -> None:
    options = PipelineOptions(runner.split())
    remote = {"input": "gs://b/list.csv", "cache_dir": ""}
    check_worker_paths(options, remote, shared_filesystem=False)
    with pytest.raises(OptionError, match=r"--output data is on this machine, where .* workers are not: give gs://"):
        check_worker_paths(options, {**remote, "output": "data"}, shared_filesystem=False)


def test_a_shared_file_system_is_taken_at_its_word_where_there_can_be_one() -> None:
    paths = {"output": "/mnt/all/data"}
    check_worker_paths(flink("flink.example:8081"), paths, shared_filesystem=True)
    check_worker_paths(flink("127.0.0.1:8081"), paths, shared_filesystem=False)
    check_worker_paths(PipelineOptions([]), paths, shared_filesystem=False)
    with pytest.raises(OptionError, match=r"DataflowRunner's workers are not: give gs://…$"):
        check_worker_paths(PipelineOptions(["--runner=DataflowRunner"]), paths, shared_filesystem=True)
