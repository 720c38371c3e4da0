"""What Dataflow asks of a job, checked before any work, and where to look at a job that was submitted."""

import os
import re
from collections.abc import Mapping
from typing import Any

from apache_beam.options.pipeline_options import (
    DebugOptions,
    GoogleCloudOptions,
    PipelineOptions,
    SetupOptions,
    WorkerOptions,
)
from apache_beam.options.pipeline_options_validator import PipelineOptionsValidator

from beam_pipelines.artwork import stable_hash
from beam_pipelines.errors import OptionError

_LOCATIONS = ("temp_location", "staging_location")
_JOB_NAME = re.compile(PipelineOptionsValidator.JOB_PATTERN)
_PROJECT = re.compile(PipelineOptionsValidator.PROJECT_ID_PATTERN)
_FOLDER = re.compile(r"gs://[a-z0-9][-_a-z0-9.]+[a-z0-9]/.*")
_MAX_JOB_NAME_CHARACTERS = 63

# https://docs.cloud.google.com/compute/docs/machine-resource: FAMILY-KIND-VCPUS, FAMILY-custom-VCPUS-MEGABYTES.
_VCPUS = re.compile(r"(?:[a-z]\w*-)?custom-(\d+)-\d+(?:-ext)?|[a-z]\w*-[a-z]+-(\d+)(?:-[a-z]+)?")
_VCPUS_OF_SHARED_CORES: Mapping[str, int] = {"f1-micro": 1, "g1-small": 1, "e2-micro": 2, "e2-small": 2, "e2-medium": 2}
_ONE_PROCESS_A_WORKER = "no_use_multiple_sdk_containers"


def check_dataflow_options(options: PipelineOptions) -> None:
    """Checks what the service would refuse only after minutes, or what its workers could not run with.

    Raises:
        OptionError: an option is missing or wrong, or nothing bounds the number of workers.
    """
    _check_place(options.view_as(GoogleCloudOptions))
    _check_code(options)
    most_processes(options)


def most_processes(options: PipelineOptions) -> int:
    """Returns the most Python processes that the job can have at a time: one for each vCPU of each worker.

    Raises:
        OptionError: nothing bounds the number of workers, or no machine type tells their vCPUs.
    """
    return _most_workers(options.view_as(WorkerOptions)) * _processes_a_worker(options)


def job_name(prefix: str, output: str) -> str:
    """Returns a name that Dataflow takes, always the same for an output: `ingest-my-data-1a2b3c4d`.

    Args:
        prefix: what the job does; lower-case letters, digits and hyphens, beginning with a letter.
        output: the directory that the job writes.
    """
    mark = f"{stable_hash(output, salt='job') & 0xFFFFFFFF:08x}"
    folder = re.sub(r"[^a-z0-9]+", "-", output.rstrip("/").rsplit("/", 1)[-1].lower())
    room = _MAX_JOB_NAME_CHARACTERS - len(prefix) - len(mark) - 2
    return "-".join(filter(None, (prefix, folder[:room].strip("-"), mark)))


def describe_job(result: Any, options: PipelineOptions) -> str:
    """Returns what to tell of a job that was just submitted: its id, its page and how to cancel it.

    Args:
        result: what the runner returned; it has no job after a dry run, nor in a template's launcher, which submits it.
        options: the job's.
    """
    cloud = options.view_as(GoogleCloudOptions)
    if not getattr(result, "has_job", False):
        template = cloud.template_location
        return f"the job to submit is described at {template}" if template else "a dry run: no job is submitted"
    return (
        f"Dataflow job {cloud.job_name} is submitted: {result.job_id()}\n"
        f"  https://console.cloud.google.com/dataflow/jobs/{cloud.region}/{result.job_id()}?project={cloud.project}\n"
        f"  {how_to_cancel(result, options)}"
    )


def how_to_cancel(result: Any, options: PipelineOptions) -> str:
    """Returns how to cancel a job that was submitted, which goes on when the command that submitted it ends."""
    cloud = options.view_as(GoogleCloudOptions)
    command = f"gcloud dataflow jobs cancel {result.job_id()} --project {cloud.project} --region {cloud.region}"
    return f"it goes on when this command ends; to cancel it: {command}"


def _check_place(cloud: GoogleCloudOptions) -> None:
    if not cloud.project:
        raise OptionError("--runner DataflowRunner needs --project, the Google Cloud project that pays")
    if not _PROJECT.fullmatch(cloud.project):
        raise OptionError(f"--project {cloud.project!r} is no project's id: see `gcloud projects list`")
    if not cloud.region:
        raise OptionError("--runner DataflowRunner needs --region, such as europe-west4")
    if cloud.job_name and not (_JOB_NAME.fullmatch(cloud.job_name) and len(cloud.job_name) <= _MAX_JOB_NAME_CHARACTERS):
        raise OptionError(
            f"--job_name {cloud.job_name!r}: give at most {_MAX_JOB_NAME_CHARACTERS} lower-case letters, digits and "
            "hyphens, a letter first and no hyphen last"
        )
    given = {name: getattr(cloud, name) for name in _LOCATIONS if getattr(cloud, name)}
    if not given:
        raise OptionError("--runner DataflowRunner needs --temp_location gs://BUCKET/FOLDER")
    for name, value in given.items():
        if not _FOLDER.fullmatch(value):
            raise OptionError(f"--{name} {value!r} is no folder in Cloud Storage: give gs://BUCKET/FOLDER")


def _check_code(options: PipelineOptions) -> None:
    """Checks that workers get this project: from its source, or with their image."""
    setup_file = options.view_as(SetupOptions).setup_file
    image = options.view_as(WorkerOptions).sdk_container_image
    if bool(setup_file) == bool(image):
        raise OptionError(
            "--runner DataflowRunner: give its workers this project, either with --setup_file ./setup.py from a "
            "checkout, or in an image with --sdk_container_image (see deploy/dataflow)"
        )
    if not setup_file:
        return
    folder, name = os.path.split(setup_file)
    if name != "setup.py" or not os.path.isfile(setup_file):
        raise OptionError(f"--setup_file {setup_file!r} is not there, or is not called setup.py")
    if not folder:
        raise OptionError(f"--setup_file {setup_file!r}: name its folder too, ./setup.py")


def _most_workers(workers: WorkerOptions) -> int:
    if workers.max_num_workers:
        return int(workers.max_num_workers)
    if workers.num_workers and workers.autoscaling_algorithm == "NONE":
        return int(workers.num_workers)
    raise OptionError(
        "--runner DataflowRunner needs --max_num_workers: the requests that a host is asked are shared out among as "
        "many as there can be"
    )


def _processes_a_worker(options: PipelineOptions) -> int:
    if _ONE_PROCESS_A_WORKER in (options.view_as(DebugOptions).experiments or []):
        return 1
    machine_type = options.view_as(WorkerOptions).machine_type
    if not machine_type:
        raise OptionError(
            "--runner DataflowRunner needs --machine_type, such as n1-standard-4: each vCPU has a process, among which "
            "the requests that a host is asked are shared out"
        )
    name = machine_type.rsplit("/", 1)[-1]
    if name in _VCPUS_OF_SHARED_CORES:
        return _VCPUS_OF_SHARED_CORES[name]
    vcpus = _VCPUS.fullmatch(name)
    if not vcpus:
        raise OptionError(
            f"--machine_type {machine_type!r} does not tell its vCPUs: give one like n1-standard-4, or also "
            f"--experiments {_ONE_PROCESS_A_WORKER}"
        )
    return int(vcpus[1] or vcpus[2])
