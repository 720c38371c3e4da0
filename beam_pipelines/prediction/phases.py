"""The phases of batch_predict: each looks at what lies in the output directory and does only what is missing."""

import functools
import logging
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.cache import PICTURES
from beam_pipelines.dataset import COMPLETED_FILE
from beam_pipelines.images import ImageLimits
from beam_pipelines.jobs import check_workers_have_tensorflow, job_options, read_options
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.prediction.bigquery_table import check_table
from beam_pipelines.prediction.options import PredictionOptions, PredictRunOptions
from beam_pipelines.prediction.plan import describe_plan, is_planned, make_plan, planned_rows
from beam_pipelines.prediction.publish import (
    SUMMARY_FILE,
    describe,
    load_predictions,
    publish_predictions,
    read_labels,
)
from beam_pipelines.prediction.shards import PredictHow, predict_shards
from beam_pipelines.progress import shown_progress
from beam_pipelines.rejects import Reason
from beam_pipelines.runners import google_project
from beam_pipelines.sources.bigquery_sql import Table, parse_table
from serving.model import find_model, model_fingerprint, read_model_info

_LOGGER = logging.getLogger(__name__)


def predict_phases(options: PredictionOptions, run: PredictRunOptions, beam_arguments: Sequence[str]) -> str:
    """Plans, predicts and publishes what is not there yet; returns a summary for people.

    Raises:
        OptionError: an option is wrong, or the directory holds something else; nothing was written.
        RunError: the run cannot end well.
    """
    beam_options = _runner_options(options, run, beam_arguments)
    model = find_model(options.model)
    fingerprint = model_fingerprint(model)
    planned = is_planned(options, run.output, model=fingerprint)
    table = parse_table(run.bigquery_table, option="bigquery_table") if run.bigquery_table else None
    if table:
        check_table(table, project=google_project(beam_options))
    if not planned:
        reading = read_options(run, beam_options, output=run.output)
        make_plan(options, run.output, model=fingerprint, reading=reading, beam_options=beam_options)
    plan = PlanFiles(run.output)
    summary = files.read_json(plan.summary)
    if run.plan_only:
        return describe_plan(summary, run.fetch)
    if done := _already_done(run, table, project=google_project(beam_options)):
        return done
    for path in (COMPLETED_FILE, SUMMARY_FILE):
        files.remove(files.join(run.output, path))
    files.remove_unfinished(run.output)
    files.remove_tree(plan.progress)
    return _predict(options, run, beam_options, summary, model=model, table=table)


def _predict(
    options: PredictionOptions,
    run: PredictRunOptions,
    beam_options: PipelineOptions,
    summary: dict[str, Any],
    *,
    model: str,
    table: Table | None,
) -> str:
    plan = PlanFiles(run.output)
    do_publish = functools.partial(
        publish_predictions,
        options,
        run.output,
        model=model,
        max_reject_fraction=run.max_reject_fraction,
        table=table,
        project=google_project(beam_options),
    )
    predict = functools.partial(
        predict_shards,
        plan,
        planned_rows(summary),
        how=_how(options, run, model=model, with_labels=summary["with_labels"]),
        labels=read_labels(model),
        beam_options=beam_options,
    )
    if run.no_wait:
        predict(publish=do_publish)
        return f"the job that writes {run.output} is submitted; when it has ended, {COMPLETED_FILE} lies there"
    with shown_progress(plan.progress, total=sum(summary["rows"])):
        predict()
    return f"{run.output} is complete\n{describe(do_publish())}"


def _already_done(run: PredictRunOptions, table: Table | None, *, project: str) -> str:
    """Returns what to say where all is there, having loaded the table that is not yet; else nothing."""
    if not files.exists(files.join(run.output, COMPLETED_FILE)):
        return ""
    summary = files.read_json(files.join(run.output, SUMMARY_FILE))
    if run.retry_rejected:
        to_retry = sum(count for reason, count in summary["rejected"].items() if Reason(reason).passing)
        if to_retry:
            _LOGGER.info("trying %d rejected pictures again", to_retry)
            return ""
    if table and str(table) != summary["bigquery_table"]:
        load_predictions(run.output, summary, table, project=project)
        return f"{run.output} was complete, and is loaded now\n{describe(summary)}"
    why = "nothing was rejected for a passing reason" if run.retry_rejected else "there is nothing to do"
    return f"{run.output} is complete, {why}\n{describe(summary)}"


def _how(options: PredictionOptions, run: PredictRunOptions, *, model: str, with_labels: bool) -> PredictHow:
    taken = int(read_model_info(model).get("max_image_pixels", options.max_image_pixels))
    return PredictHow(
        model=model,
        batch_size=run.batch_size,
        output_format=options.output_format,
        with_labels=with_labels,
        all_scores=options.all_scores,
        image_limits=ImageLimits(min_side=1, max_pixels=min(options.max_image_pixels, taken)),
        fetch=run.fetch,
        fetch_threads=run.fetch_threads,
        retry_rejected=run.retry_rejected,
        cache_dir=files.join(run.cache_dir, PICTURES) if run.cache_dir else "",
    )


def _runner_options(options: PredictionOptions, run: PredictRunOptions, arguments: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options; raises OptionError if one is wrong, or workers cannot do their part."""
    beam_options = job_options(
        arguments,
        read=options.worker_paths(),
        written={"output": run.output, "cache_dir": run.cache_dir},
        shared_filesystem=run.shared_filesystem,
        no_wait=run.no_wait,
    )
    check_workers_have_tensorflow(beam_options)
    return beam_options
