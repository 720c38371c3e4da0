"""What every job that writes a data set needs of its options before any work."""

from collections.abc import Mapping, Sequence

from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines.errors import OptionError
from beam_pipelines.google_access import check_access
from beam_pipelines.runners import beam_options, is_on_dataflow, prepare_cluster
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
