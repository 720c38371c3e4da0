"""The phases of ingest, each of which looks at what lies in the output directory and does only what is missing."""

import logging
from collections.abc import Sequence

from beam_pipelines import files
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE, PLAN_DIRECTORY
from beam_pipelines.errors import OptionError
from beam_pipelines.options import DatasetOptions, RunOptions
from beam_pipelines.plan import describe_plan, make_plan
from beam_pipelines.plan_files import PlanFiles, planned_shards
from beam_pipelines.progress import shown_progress
from beam_pipelines.publish import describe, publish
from beam_pipelines.rejects import Reason
from beam_pipelines.runners import beam_options
from beam_pipelines.write_shards import WriteOptions, write_shards

_LOGGER = logging.getLogger(__name__)


def plan_phase(dataset: DatasetOptions, run: RunOptions, beam_arguments: Sequence[str]) -> None:
    """Makes the plan unless it is there.

    Raises:
        OptionError: an option is wrong, or the directory holds something else; nothing was written.
        RunError: nothing is left to fetch.
    """
    options = beam_options(beam_arguments)
    if not _is_planned(dataset, run.output):
        make_plan(dataset, run.output, options)


def write_phase(dataset: DatasetOptions, run: RunOptions, beam_arguments: Sequence[str]) -> str:
    """Writes the planned shards and publishes the data set, or says what the plan is; returns a summary for people.

    Raises:
        UserError: as `plan_phase`; and where a run cannot end well.
    """
    options = beam_options(beam_arguments)
    _is_planned(dataset, run.output)
    plan = PlanFiles(run.output)
    summary = files.read_json(plan.summary)
    if run.plan_only:
        return describe_plan(summary, run.fetch)
    completed = files.join(run.output, COMPLETED_FILE)
    if files.exists(completed):
        info = files.read_json(files.join(run.output, INFO_FILE))
        to_retry = sum(count for reason, count in info["rejected"].items() if Reason(reason).passing)
        if not run.retry_rejected:
            return f"{run.output} is complete, there is nothing to do\n{describe(info)}"
        if not to_retry:
            return f"{run.output} is complete, nothing was rejected for a passing reason\n{describe(info)}"
        _LOGGER.info("trying %d rejected pictures again", to_retry)
        files.remove(completed)
    files.remove_unfinished(run.output)
    files.remove_tree(plan.progress)
    pictures = sum(split["pictures"] for split in summary["splits"].values())
    write_options = WriteOptions(
        image_size=dataset.image_size,
        jpeg_quality=dataset.jpeg_quality,
        image_limits=dataset.image_limits(),
        fetch=run.fetch,
        fetch_threads=run.fetch_threads,
        retry_rejected=run.retry_rejected,
    )
    with shown_progress(plan.progress, total=pictures):
        write_shards(plan, planned_shards(summary), pictures=pictures, options=write_options, beam_options=options)
    info = publish(dataset, run.output, max_reject_fraction=run.max_reject_fraction)
    return f"{run.output} is complete\n{describe(info)}"


def _is_planned(dataset: DatasetOptions, output: str) -> bool:
    """Tells whether the directory has this data set's whole plan; raises OptionError if it has something else."""
    plan = PlanFiles(output)
    if files.exists(plan.summary):
        if files.read_json(plan.summary)["fingerprint"] != dataset.fingerprint():
            raise OptionError(
                f"{output} holds another data set, made with other options: name another --output, or delete it"
            )
        return True
    strangers = [name for name in files.list_files(output) if not name.startswith(f"{PLAN_DIRECTORY}/")]
    ours = ("labels.txt", "transform_fn/", "transformed_metadata/", ".unfinished-")
    strangers = [name for name in strangers if not name.startswith(ours)]
    if strangers:
        raise OptionError(f"{output} is not empty and no data set of this program: it has {strangers[0]!r}")
    return False
