"""Which runner executes a pipeline, with which options, and how its failures reach the user."""

import atexit
import copy
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

from beam_pipelines import dataflow
from beam_pipelines.artwork import clean_text
from beam_pipelines.commands import on_interrupt
from beam_pipelines.errors import OptionError, RunError, UserError
from beam_pipelines.flink import cluster_of, prepare_flink_options
from beam_pipelines.google_access import explain, explain_text, go_anonymous_without_credentials

_LOGGER = logging.getLogger(__name__)

_LOCAL_RUNNERS = frozenset({"", "DirectRunner", "FnApiRunner"})
_WORKER_DIED = "Worker subprocess exited with return code"
_JOB_SERVER_SECONDS = 10.0
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


def beam_options(arguments: Sequence[str], *, output: str = "") -> PipelineOptions:
    """Returns Beam's options, completed for the runner that they name; every core is used by default.

    Args:
        arguments: Beam's.
        output: where the work goes; jobs on clusters are named after it, so that there is one at a time.

    Raises:
        OptionError: nobody knows an argument, or the runner lacks something.
    """
    go_anonymous_without_credentials()
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
    _check_runner(options)
    cloud = options.view_as(GoogleCloudOptions)
    if not is_local(options) and not cloud.job_name:
        cloud.job_name = dataflow.job_name("museum", output)
    if is_on_dataflow(options):
        dataflow.check_dataflow_options(options)
    return options


def prepare_cluster(options: PipelineOptions) -> None:
    """Asks the cluster what it has, and completes the options with it; raises OptionError if there is none."""
    if is_on_flink(options):
        prepare_flink_options(options)


def google_project(options: PipelineOptions) -> str:
    """Returns the Google Cloud project that pays, `--project`; empty if none is named."""
    return options.view_as(GoogleCloudOptions).project or ""


def is_local(options: PipelineOptions) -> bool:
    """Tells whether the pipeline runs on this machine, in Beam's Python runner."""
    return _runner(options) in _LOCAL_RUNNERS


def is_on_flink(options: PipelineOptions) -> bool:
    """Tells whether the pipeline runs on Flink."""
    return _runner(options) == "FlinkRunner"


def is_on_dataflow(options: PipelineOptions) -> bool:
    """Tells whether the pipeline runs on Dataflow."""
    return _runner(options) == "DataflowRunner"


def local_workers(options: PipelineOptions, *, bundles: int) -> int:
    """Returns how many worker processes the local runner uses: `--direct_num_workers`, of which 0 is one a core.

    Args:
        options: Beam's.
        bundles: there is no use for more workers than this.
    """
    return max(1, min(options.view_as(DirectOptions).direct_num_workers or cores(), bundles))


def cores() -> int:
    """Returns how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def most_processes(options: PipelineOptions, *, local: int) -> int:
    """Returns the most worker processes that a job can have at a time, by which job-wide limits are shared out.

    Args:
        options: Beam's, with the cluster's own `--parallelism`, `--max_num_workers` or `--num_workers`.
        local: how many the local runner uses.
    """
    if is_local(options):
        return local
    if is_on_dataflow(options):
        return dataflow.most_processes(options)
    values = options.get_all_options()
    return max(1, *(int(values.get(name) or 0) for name in ("parallelism", "max_num_workers", "num_workers")))


def run_pipeline(pipeline: beam.Pipeline, *, wait: bool = True) -> None:
    """Runs a pipeline to its end, and cancels its job if this process is told to end.

    Args:
        pipeline: a whole one.
        wait: else the job is only submitted.

    Raises:
        RunError: in one line, for failures that a user can mend, and for every failure of a job on a cluster.
    """
    options = copy.deepcopy(pipeline.options)  # Beam's portable runners change those of the pipeline while it runs
    # On a cluster, threads that listen to a job server fail when it ends; what they fail with is told by the job.
    threading.excepthook = _end_if_worker_died if is_local(options) else _pass_over
    try:
        with on_interrupt(lambda: _cancel(options)):
            result = pipeline.run()
            if is_on_dataflow(options):
                _LOGGER.info("%s", dataflow.describe_job(result, options))
            if wait:
                result.wait_until_finish()
    except UserError as error:
        raise RunError(str(error).split(_WHILE_RUNNING)[0]) from error
    except Exception as error:
        told = _explain(str(error)) or explain(error)
        if told:
            raise RunError(told) from error
        if is_local(options):
            raise
        raise RunError(f"the job {_job_name(options)} failed: {_last_cause(str(error))}") from error


def _explain(text: str) -> str:
    """Returns what a user can mend of a failure, in a line; nothing if that is not known."""
    if known := _OUR_ERROR.search(text):
        return known[1]
    if refused := explain_text(text):
        return refused
    if failed := _OS_ERROR.search(text):
        return f"{failed[1]}: mend that and give the same command again to go on"
    return ""


def _last_cause(text: str) -> str:
    """Returns the line of a trace that says what was wrong in the first place."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    causes = [line.removeprefix("Caused by: ") for line in lines if line.startswith("Caused by: ")]
    return clean_text((causes or lines or ["it did not say why"])[-1 if causes else 0], max_characters=300)


def _job_name(options: PipelineOptions) -> str:
    return options.view_as(GoogleCloudOptions).job_name or ""


def _cancel(options: PipelineOptions) -> None:
    """Cancels the job on a Flink cluster and ends the job server, which would outlive this process."""
    if is_on_flink(options) and (cluster := cluster_of(options)):
        cluster.cancel(_job_name(options))
    if not is_local(options):
        ending = threading.Thread(target=atexit._run_exitfuncs, daemon=True)
        ending.start()
        ending.join(_JOB_SERVER_SECONDS)


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


def _runner(options: PipelineOptions) -> str:
    return str(options.view_as(StandardOptions).runner or "")


def _pass_over(failure: threading.ExceptHookArgs) -> None:
    _LOGGER.debug("a thread of the runner failed", exc_info=failure.exc_value)


def _check_runner(options: PipelineOptions) -> None:
    name = _runner(options)
    try:
        beam.runners.runner.create_runner(name or "DirectRunner")
    except (ValueError, ImportError, AttributeError) as error:
        raise OptionError(f"unknown --runner {name!r}: use DirectRunner, FlinkRunner or DataflowRunner") from error
