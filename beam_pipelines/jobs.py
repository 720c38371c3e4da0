"""What every job that writes shards needs of its options before any work."""

import dataclasses
from collections.abc import Mapping, Sequence

from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions, WorkerOptions

from beam_pipelines import files
from beam_pipelines.cache import ANSWERS
from beam_pipelines.errors import OptionError
from beam_pipelines.google_access import check_access
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.row_options import Reading
from beam_pipelines.runners import beam_options, google_project, is_on_dataflow, most_processes, prepare_cluster
from beam_pipelines.sources import ReadOptions
from beam_pipelines.worker_paths import check_worker_paths


def job_options(
    arguments: Sequence[str],
    *,
    read: Mapping[str, str],
    written: Mapping[str, str],
    read_here: Sequence[str] = (),
    shared_filesystem: bool = False,
    no_wait: bool = False,
) -> PipelineOptions:
    """Returns Beam's options, completed for their runner.

    Args:
        arguments: Beam's.
        read: paths that workers read, by the names of their options.
        written: directories that workers write, by the names of their options; `output` is among them.
        read_here: paths that this machine alone reads.
        shared_filesystem: whether every worker sees the same files under the same paths as this machine.
        no_wait: whether the job is to be left to itself.

    Raises:
        OptionError: one is wrong, or a path cannot be reached.
    """
    options = beam_options(arguments, output=written["output"])
    if no_wait and not is_on_dataflow(options):
        raise OptionError("--no_wait is for --runner DataflowRunner: other runners' jobs need this process")
    check_worker_paths(options, {**read, **written}, shared_filesystem=shared_filesystem)
    prepare_cluster(options)
    check_access([*read.values(), *read_here], list(written.values()))
    return options


def read_options(reading: Reading, options: PipelineOptions, *, output: str) -> ReadOptions:
    """Returns how the sources of a job go about it; answers of the collection API are kept with the job's plan.

    Args:
        reading: what was asked for.
        options: Beam's.
        output: the directory that the job writes.
    """
    answers = files.join(reading.cache_dir, ANSWERS) if reading.cache_dir else PlanFiles(output).answers
    fetch = dataclasses.replace(reading.fetch, max_processes=most_processes(options, local=1))
    read = reading.read_options(project=google_project(options), answers=answers)
    return dataclasses.replace(read, fetch=fetch)


def check_workers_have_tensorflow(options: PipelineOptions) -> None:
    """Raises OptionError for a job on Dataflow whose workers would lack TensorFlow."""
    image = options.view_as(WorkerOptions).sdk_container_image
    if is_on_dataflow(options) and not image and not options.view_as(SetupOptions).requirements_file:
        raise OptionError(
            "--runner DataflowRunner: workers that --setup_file sets up have no TensorFlow: give an image that has it "
            "with --sdk_container_image, or --requirements_file that lists it (see deploy/dataflow)"
        )
