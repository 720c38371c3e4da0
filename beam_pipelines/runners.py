"""Which runner executes a pipeline, with which options, and how its failures reach the user."""

import logging
import os
import re
import shlex
import sys
import threading
from collections.abc import Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import DirectOptions, GoogleCloudOptions, PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from beam_pipelines.errors import OptionError, RunError, UserError

_LOGGER = logging.getLogger(__name__)

_LOCAL_RUNNERS = frozenset({"", "DirectRunner", "FnApiRunner"})
_WORKER_DIED = "Worker subprocess exited with return code"
# What Beam adds to the message of an error that is raised in one of its workers.
_WHILE_RUNNING = " [while running "
_OUR_ERROR = re.compile(r"beam_pipelines\.errors\.\w+Error: (.*?)(?: \[while running .*)?$", re.MULTILINE)
_OS_ERROR = re.compile(r"\[Errno \d+\] ([^\n]*?)(?: \[while running .*)?$", re.MULTILINE)


class LocalRunner(FnApiRunner):
    """Beam's runner in Python. Beam's own choice for `DirectRunner` first looks for a Prism binary to download.

    Args:
        worker_processes: whether the work is done by processes of their own, instead of in this one. They are those of
            Beam's `--direct_running_mode multi_processing`, but end when this process does.
    """

    def __init__(self, *, worker_processes: bool = False) -> None:
        silence = "" if _LOGGER.isEnabledFor(logging.DEBUG) else " 2>/dev/null"  # failures reach the driver as such
        command = f"exec {shlex.quote(sys.executable)} -m beam_pipelines.local_worker{silence}"
        environment = SubprocessSDKEnvironment.from_command_string(command) if worker_processes else None
        super().__init__(default_environment=environment)


def beam_options(arguments: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options, every core in use by default; raises OptionError for arguments that nobody knows."""
    arguments = list(arguments)
    if not any(argument.split("=")[0] == "--direct_num_workers" for argument in arguments):
        arguments.append("--direct_num_workers=0")
    parser = beam.options.pipeline_options._BeamArgumentParser(allow_abbrev=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    unknown = parser.parse_known_args(arguments)[1]
    if unknown:
        raise OptionError(f"unknown option {unknown[0]!r}: see --help, or Apache Beam's options of the runner")
    options = PipelineOptions(arguments)
    _runner(options)
    return options


def google_project(options: PipelineOptions) -> str:
    """Returns the Google Cloud project that pays, `--project`; empty if none is named."""
    return options.view_as(GoogleCloudOptions).project or ""


def is_local(options: PipelineOptions) -> bool:
    """Tells whether the pipeline runs on this machine, in Beam's Python runner."""
    return (options.view_as(StandardOptions).runner or "") in _LOCAL_RUNNERS


def local_workers(options: PipelineOptions, *, bundles: int) -> int:
    """Returns how many worker processes the local runner uses: `--direct_num_workers`, of which 0 is one a core.

    Args:
        options: Beam's.
        bundles: there is no use for more workers than this.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(options.view_as(DirectOptions).direct_num_workers or cores, bundles))


def most_processes(options: PipelineOptions, *, local: int) -> int:
    """Returns the most worker processes that a job can have at a time, by which job-wide limits are shared out.

    Args:
        options: Beam's, with the cluster's own `--parallelism`, `--max_num_workers` or `--num_workers`.
        local: how many the local runner uses.
    """
    if is_local(options):
        return local
    values = options.get_all_options()
    return max(1, *(int(values.get(name) or 0) for name in ("parallelism", "max_num_workers", "num_workers")))


def run_pipeline(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end; raises RunError in one line for failures that a user can mend."""
    threading.excepthook = _end_if_worker_died
    try:
        pipeline.run().wait_until_finish()
    except UserError as error:
        raise RunError(str(error).split(_WHILE_RUNNING)[0]) from error
    except Exception as error:
        text = str(error)
        if known := _OUR_ERROR.search(text):
            raise RunError(known[1]) from error
        if refused := _OS_ERROR.search(text):
            raise RunError(f"{refused[1]}: mend that and give the same command again to go on") from error
        raise


def new_pipeline(options: PipelineOptions, *, workers: int = 1) -> beam.Pipeline:
    """Returns an empty pipeline for the runner that `options` ask for.

    Args:
        options: Beam's.
        workers: processes of the local runner; 1 keeps it in this process.
    """
    if not is_local(options):
        return beam.Pipeline(options=options)
    values: dict[str, Any] = {**options.get_all_options(drop_default=True), "direct_num_workers": workers}
    values = {name: value for name, value in values.items() if name not in {"runner", "direct_running_mode"}}
    runner = LocalRunner(worker_processes=workers > 1)
    return beam.Pipeline(runner=runner, options=PipelineOptions.from_dictionary(values))


def _end_if_worker_died(failure: threading.ExceptHookArgs) -> None:
    """Ends this process when a worker process was killed, for which Beam would wait for ever."""
    if _WORKER_DIED in str(failure.exc_value):
        print(  # noqa: T201
            "error: a worker process was killed, perhaps for lack of memory: give the same command again to go on, "
            "with fewer --direct_num_workers or --fetch_threads if it happens again",
            file=sys.stderr,
            flush=True,
        )
        os._exit(1)
    threading.__excepthook__(failure)


def _runner(options: PipelineOptions) -> None:
    name = options.view_as(StandardOptions).runner or ""
    try:
        beam.runners.runner.create_runner(name or "DirectRunner")
    except (ValueError, ImportError, AttributeError) as error:
        raise OptionError(f"unknown --runner {name!r}: use DirectRunner, FlinkRunner or DataflowRunner") from error
