"""Which paths the workers of a job can reach."""

from collections.abc import Mapping

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from beam_pipelines import files
from beam_pipelines.errors import OptionError
from beam_pipelines.flink import is_on_this_machine
from beam_pipelines.runners import is_local


def check_worker_paths(options: PipelineOptions, paths: Mapping[str, str], *, shared_filesystem: bool) -> None:
    """Raises OptionError if a path is of this machine, and the job's workers are on others.

    Args:
        options: Beam's.
        paths: by the name of their option; empty ones are passed over.
        shared_filesystem: whether every worker sees the same files under the same paths as this machine.
    """
    runner = options.view_as(StandardOptions).runner or ""
    if is_local(options) or (runner == "FlinkRunner" and is_on_this_machine(options)):
        return
    if shared_filesystem and runner != "DataflowRunner":
        return
    for name, path in paths.items():
        if path and not files.is_remote(path):
            mend = (
                "" if runner == "DataflowRunner" else ", or say with --shared_filesystem that they see the same files"
            )
            raise OptionError(
                f"--{name} {path} is on this machine, where {runner}'s workers are not: give gs://…{mend}"
            )
