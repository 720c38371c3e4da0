"""Jobs for Dataflow: as dry runs describe them, and as a stand-in of the service on loopback takes and runs them."""

import contextlib
import http.server
import json
import shutil
import threading
import time
import traceback
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from apache_beam import coders
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners import pipeline_context
from apache_beam.runners.dataflow import DataflowRunner, dataflow_runner
from apache_beam.runners.dataflow.internal import apiclient
from apache_beam.runners.portability.fn_api_runner import execution

from beam_pipelines import files
from tests.run_graph import run_graph

ROOT = Path(__file__).parents[1]
GROUP_BY_KEY = common_urns.primitives.GROUP_BY_KEY.urn


@contextlib.contextmanager
def recorded_jobs() -> Iterator[list[Any]]:
    """Records the jobs that dry runs make while the block runs."""
    jobs: list[Any] = []
    real = DataflowRunner.run_pipeline

    def run_pipeline(self: DataflowRunner, *arguments: Any, **keywords: Any) -> Any:
        result = real(self, *arguments, **keywords)
        jobs.append(result.job)
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(DataflowRunner, "run_pipeline", run_pipeline)
        yield jobs


def describe(job: Any) -> Any:
    """Returns what the service would be sent for a job of a dry run; nothing is staged."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(apiclient.DataflowApplicationClient, "stage_file_with_retry", lambda *a, **k: None)
        apiclient.DataflowApplicationClient(job.options).create_job_description(job)
    return job.proto


def stage_names(graph: Any) -> list[str]:
    """Returns the full names of a graph's steps."""
    return sorted(step.unique_name for step in graph.components.transforms.values() if step.unique_name)


def grouped(graph: Any) -> dict[str, str]:
    """Returns what is grouped by key in a graph: the coder of the key and the value, by the name of the step."""
    context = pipeline_context.PipelineContext(graph.components)
    found = {}
    for step in graph.components.transforms.values():
        if step.spec.urn == GROUP_BY_KEY:
            (collection,) = (graph.components.pcollections[name] for name in step.inputs.values())
            found[step.unique_name] = _told(context.coders.get_by_id(collection.coder_id))
    return found


def _told(coder: coders.Coder) -> str:
    if isinstance(coder, coders.TupleCoder):
        return f"({', '.join(map(_told, coder.coders()))})"
    if isinstance(coder, coders.NullableCoder):
        return f"{_told(coder._value_coder)}?"
    return type(coder).__name__.removesuffix("Coder")


@contextlib.contextmanager
def counted_shuffle() -> Iterator[list[int]]:
    """Collects the sizes in bytes of what the local runner groups by key while the block runs."""
    sizes: list[int] = []
    real = execution.GroupingBuffer.append

    def append(self: Any, elements_data: bytes) -> None:
        sizes.append(len(elements_data))
        real(self, elements_data)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution.GroupingBuffer, "append", append)
        yield sizes


def copy_checkout(folder: Path) -> Path:
    """Copies what a source distribution is made from, so that the checkout stays as it is; returns its setup.py."""
    for package in ("beam_pipelines", "trainer", "serving"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "pyproject.toml"):
        shutil.copy(ROOT / name, folder / name)
    return folder / "setup.py"


class DataflowService:
    """Takes jobs as the service does, by its REST interface on loopback, and runs each at once on the local runner.

    Args:
        run: whether jobs are run; else they stay under way.
    """

    def __init__(self, *, run: bool = True) -> None:
        self.jobs: list[dict[str, Any]] = []
        self.failures: dict[str, str] = {}
        self._run = run
        self._server = http.server.ThreadingHTTPServer(("localhost", 0), self._handler())
        self.address = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> "DataflowService":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def graph(self, job: dict[str, Any]) -> Any:
        """Returns the graph that was staged for a job."""
        staged = files.read_bytes(job["environment"]["sdkPipelineOptions"]["options"]["pipelineUrl"])
        return beam_runner_api_pb2.Pipeline.FromString(staged)

    def create(self, job: dict[str, Any]) -> dict[str, Any]:
        """Takes a job, and runs it to its end; returns it as it was before."""
        taken = {**job, "id": f"2026-11-21_00_00_00-{len(self.jobs)}", "currentState": "JOB_STATE_RUNNING"}
        self.jobs.append({**taken})
        if self._run:
            self._run_job(self.jobs[-1])
        return taken

    def messages(self, job_id: str) -> dict[str, Any]:
        """Returns what the service says of a job."""
        if job_id not in self.failures:
            return {}
        message = {"id": "1", "messageImportance": "JOB_MESSAGE_ERROR", "messageText": self.failures[job_id]}
        return {"jobMessages": [message]}

    def _run_job(self, job: dict[str, Any]) -> None:
        try:
            run_graph(self.graph(job))
            job["currentState"] = "JOB_STATE_DONE"
        except Exception:  # noqa: BLE001  (a job may fail in any way)
            self.failures[job["id"]] = traceback.format_exc()
            job["currentState"] = "JOB_STATE_FAILED"

    def _handler(self) -> type[http.server.BaseHTTPRequestHandler]:
        service = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                job = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._answer(service.create(job))

            def do_GET(self) -> None:
                job_id, _, more = self.path.split("?")[0].partition("/jobs/")[2].partition("/")
                if more == "messages":
                    self._answer(service.messages(job_id))
                else:
                    self._answer(next(job for job in service.jobs if job["id"] == job_id))

            def _answer(self, value: dict[str, Any]) -> None:
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments: Any) -> None:
                pass

        return Handler


@contextlib.contextmanager
def impatient_client() -> Iterator[None]:
    """Lets Beam ask for the state of a job at once, instead of every five seconds."""
    clock = types.SimpleNamespace(time=time.time, sleep=lambda seconds: time.sleep(seconds / 1000))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataflow_runner, "time", clock)
        yield
