"""The phases of ingest, each of which looks at what lies in the output directory and does only what is missing."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.cache import NO_BOUND, PICTURES, make_room
from beam_pipelines.dataset import (
    COMPLETED_FILE,
    INFO_FILE,
    LABELS_FILE,
    PLAN_DIRECTORY,
    REJECTED_FILE,
    REPORT_FILE,
    TRANSFORM_DIRECTORIES,
)
from beam_pipelines.jobs import job_options, read_options
from beam_pipelines.options import DatasetOptions, RunOptions
from beam_pipelines.outputs import another_data_set, check_only_ours
from beam_pipelines.plan import describe_plan, make_plan
from beam_pipelines.plan_files import PlanFiles, planned_shards
from beam_pipelines.progress import shown_progress
from beam_pipelines.publish import describe, publish, publish_check
from beam_pipelines.rejects import Reason
from beam_pipelines.thumbnails import thumbnails_per_class
from beam_pipelines.write_shards import WriteOptions, check_shards, write_shards

_LOGGER = logging.getLogger(__name__)

# What a run that was killed while it planned may have left.
_OURS = frozenset({PLAN_DIRECTORY, LABELS_FILE, *TRANSFORM_DIRECTORIES})


def plan_phase(dataset: DatasetOptions, run: RunOptions, beam_arguments: Sequence[str]) -> None:
    """Makes the plan unless it is there.

    Raises:
        OptionError: an option is wrong, or the directory holds something else; nothing was written.
        RunError: nothing is left to fetch.
    """
    options = _runner_options(dataset, run, beam_arguments)
    if not _is_planned(dataset, run.output):
        make_plan(dataset, run.output, reading=read_options(run, options, output=run.output), beam_options=options)


def write_phase(dataset: DatasetOptions, run: RunOptions, beam_arguments: Sequence[str]) -> str:
    """Writes the planned shards and publishes the data set, or says what the plan is; returns a summary for people.

    Raises:
        UserError: as `plan_phase`; and where a run cannot end well.
    """
    options = _runner_options(dataset, run, beam_arguments)
    _is_planned(dataset, run.output)
    plan = PlanFiles(run.output)
    summary = files.read_json(plan.summary)
    if run.plan_only:
        return describe_plan(summary, run.fetch)
    if nothing_to_do := _nothing_to_do(run):
        return nothing_to_do
    if not run.check_only:
        files.remove(files.join(run.output, COMPLETED_FILE))
    files.remove_unfinished(run.output)
    files.remove_tree(plan.progress)
    if run.check_only:
        return _check(dataset, run, options, summary)
    return _write(dataset, run, options, summary)


def _check(dataset: DatasetOptions, run: RunOptions, options: PipelineOptions, summary: dict[str, Any]) -> str:
    plan, pictures = PlanFiles(run.output), _planned_pictures(summary)
    how = _write_options(dataset, run, classes=len(summary["labels"]))
    with shown_progress(plan.progress, total=pictures):
        check_shards(plan, planned_shards(summary), pictures=pictures, options=how, beam_options=options)
    info = publish_check(dataset, run.output, max_reject_fraction=run.max_reject_fraction)
    return f"{run.output} is checked: nothing was written but {REPORT_FILE} and {REJECTED_FILE}\n{describe(info)}"


def _write(dataset: DatasetOptions, run: RunOptions, options: PipelineOptions, summary: dict[str, Any]) -> str:
    plan, pictures = PlanFiles(run.output), _planned_pictures(summary)
    do_publish = functools.partial(publish, dataset, run.output, max_reject_fraction=run.max_reject_fraction)
    write = functools.partial(
        write_shards,
        plan,
        planned_shards(summary),
        pictures=pictures,
        options=_write_options(dataset, run, classes=len(summary["labels"])),
        beam_options=options,
    )
    if run.no_wait:
        write(publish=do_publish)
        return f"the job that writes {run.output} is submitted; when it has ended, {COMPLETED_FILE} lies there"
    with shown_progress(plan.progress, total=pictures):
        write()
    return f"{run.output} is complete\n{describe(do_publish())}"


def _planned_pictures(summary: dict[str, Any]) -> int:
    return sum(split["pictures"] for split in summary["splits"].values())


def _runner_options(dataset: DatasetOptions, run: RunOptions, arguments: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options; raises OptionError if one is wrong, or workers cannot reach a path."""
    return job_options(
        arguments,
        read=dataset.worker_paths(),
        written={"output": run.output, "cache_dir": run.cache_dir, "write_images": run.write_images},
        read_here=[dataset.labels_file],
        shared_filesystem=run.shared_filesystem,
        no_wait=run.no_wait,
    )


def _nothing_to_do(run: RunOptions) -> str:
    """Returns what to say where the data set is complete and nothing is to be tried again; else nothing."""
    if not files.exists(files.join(run.output, COMPLETED_FILE)):
        return ""
    info = files.read_json(files.join(run.output, INFO_FILE))
    if run.write_images and not run.check_only:
        return ""
    if run.check_only or not run.retry_rejected:
        return f"{run.output} is complete, there is nothing to do\n{describe(info)}"
    to_retry = sum(count for reason, count in info["rejected"].items() if Reason(reason).passing)
    if not to_retry:
        return f"{run.output} is complete, nothing was rejected for a passing reason\n{describe(info)}"
    _LOGGER.info("trying %d rejected pictures again", to_retry)
    return ""


def _write_options(dataset: DatasetOptions, run: RunOptions, *, classes: int) -> WriteOptions:
    cache_dir = files.join(run.cache_dir, PICTURES) if run.cache_dir else ""
    return WriteOptions(
        image_size=dataset.image_size,
        jpeg_quality=dataset.jpeg_quality,
        image_limits=dataset.image_limits(),
        fetch=run.fetch,
        fetch_threads=run.fetch_threads,
        retry_rejected=run.retry_rejected,
        check_only=run.check_only,
        cache_dir=cache_dir,
        cache_room=make_room(cache_dir, max_bytes=run.cache_bytes) if cache_dir else NO_BOUND,
        write_images=run.write_images,
        thumbnails_per_class=thumbnails_per_class(classes),
    )


def _is_planned(dataset: DatasetOptions, output: str) -> bool:
    """Tells whether the directory has this data set's whole plan; raises OptionError if it has something else."""
    plan = PlanFiles(output)
    if files.exists(plan.summary):
        if files.read_json(plan.summary)["fingerprint"] != dataset.fingerprint():
            raise another_data_set(output)
        return True
    check_only_ours(output, _OURS)
    return False
