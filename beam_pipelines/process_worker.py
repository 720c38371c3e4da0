"""The program that a Flink TaskManager starts for its Python work: `museum-beam-worker`.

A job names it with `--environment_type PROCESS`. Beam's worker program of that kind is written in Go and comes in its
container images alone; this one does the same part of its work: it asks the runner what job it is for, and becomes
Beam's harness. It installs nothing: the project and its packages lie on the machines of the cluster already.
"""

import argparse
import os
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import grpc
from apache_beam.portability.api import (
    beam_provision_api_pb2,
    beam_provision_api_pb2_grpc,
    beam_runner_api_pb2,
    endpoints_pb2,
)
from google.protobuf import json_format, text_format

from beam_pipelines.errors import RunError
from beam_pipelines.orphans import end_with_parent

_ANSWER_SECONDS = 60
# Beam sends this list along with every job, for people to read.
_READ_BY_NOBODY = "submission_environment_dependencies.txt"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the worker until its runner is done with it; returns the exit code."""
    options = _parse_arguments(sys.argv[1:] if arguments is None else arguments)
    end_with_parent()
    try:
        information = ask_for_job(options.provision_endpoint, worker_id=options.id)
        check_dependencies(information.dependencies)
    except (RunError, grpc.RpcError) as error:
        print(f"museum-beam-worker: {describe(error)}", file=sys.stderr)  # noqa: T201
        return 1
    os.environ.update(harness_environment(information, options))
    from apache_beam.runners.worker import sdk_worker_main

    sdk_worker_main.main([])
    return 0


def ask_for_job(endpoint: str, *, worker_id: str) -> Any:
    """Returns the runner's ProvisionInfo: the pipeline's options, and where the runner listens.

    Args:
        endpoint: `host:port` of the runner's provision service.
        worker_id: which worker asks.

    Raises:
        grpc.RpcError: it does not answer.
    """
    with grpc.insecure_channel(endpoint) as channel:
        service = beam_provision_api_pb2_grpc.ProvisionServiceStub(channel)
        request = beam_provision_api_pb2.GetProvisionInfoRequest()
        answer = service.GetProvisionInfo(request, metadata=[("worker_id", worker_id)], timeout=_ANSWER_SECONDS)
        return answer.info


def check_dependencies(dependencies: Iterable[Any]) -> None:
    """Raises RunError if the job brings packages or files, which this worker does not install."""
    names = [_staged_name(dependency) for dependency in dependencies]
    if unknown := [name for name in names if name != _READ_BY_NOBODY]:
        raise RunError(
            f"the job brings {', '.join(unknown)}, and this worker installs nothing: install that where the "
            "TaskManagers run, and leave --requirements_file, --setup_file, --extra_package and --save_main_session"
        )


def harness_environment(information: Any, options: argparse.Namespace) -> dict[str, str]:
    """Returns the variables by which Beam's harness learns what it is for.

    Args:
        information: the runner's ProvisionInfo.
        options: what this program was started with; endpoints in `information` go before those.
    """
    variables = {
        "WORKER_ID": options.id,
        "PIPELINE_OPTIONS": json_format.MessageToJson(information.pipeline_options),
        "RUNNER_CAPABILITIES": " ".join(information.runner_capabilities),
        "CONTROL_API_SERVICE_DESCRIPTOR": _endpoint(information.control_endpoint, options.control_endpoint),
        "LOGGING_API_SERVICE_DESCRIPTOR": _endpoint(information.logging_endpoint, options.logging_endpoint),
    }
    if information.status_endpoint.url:
        variables["STATUS_API_SERVICE_DESCRIPTOR"] = _endpoint(information.status_endpoint, "")
    return variables


def describe(error: RunError | grpc.RpcError) -> str:
    """Returns what went wrong, in a line."""
    if isinstance(error, grpc.RpcError):
        return f"the runner does not say what the job is: {getattr(error, 'details', lambda: error)()}"
    return str(error)


def _endpoint(told: Any, given: str) -> str:
    descriptor = told if told.url else endpoints_pb2.ApiServiceDescriptor(url=given)
    return str(text_format.MessageToString(descriptor, as_one_line=True))


def _staged_name(dependency: Any) -> str:
    payload = beam_runner_api_pb2.ArtifactStagingToRolePayload.FromString(dependency.role_payload)
    return str(payload.staged_name)


def _parse_arguments(arguments: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="museum-beam-worker",
        description="A worker of a Beam job: started by its runner, not by people.",
        allow_abbrev=False,
    )
    parser.add_argument("--id", required=True, help="which worker this is")
    parser.add_argument("--provision_endpoint", required=True, help="host:port where the runner says what the job is")
    parser.add_argument("--control_endpoint", default="", help="where work is given out, if the runner does not say")
    parser.add_argument("--logging_endpoint", default="", help="where log lines go, if the runner does not say")
    return parser.parse_known_args(arguments)[0]


if __name__ == "__main__":
    sys.exit(main())
