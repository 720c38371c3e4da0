"""The phases of embed, each of which looks at what lies in the output directory and does only what is missing."""

import functools
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.choice import HASHES
from beam_pipelines.dataset import COMPLETED_FILE, INFO_FILE
from beam_pipelines.embedding.options import EmbeddingOptions, EmbedRunOptions
from beam_pipelines.embedding.plan import is_planned, make_plan
from beam_pipelines.embedding.publish import publish_embeddings
from beam_pipelines.embedding.shards import embed_shards, kept_backbone
from beam_pipelines.embedding.source import read_source, source_shards
from beam_pipelines.embedding.writer import EmbedShape
from beam_pipelines.errors import OptionError
from beam_pipelines.jobs import check_workers_have_tensorflow, job_options
from beam_pipelines.plan_files import PlanFiles
from beam_pipelines.progress import shown_progress
from beam_pipelines.publish import describe

# Pictures in the report's projection, about.
_SAMPLES = 2_000


def prepare_phase(options: EmbeddingOptions, run: EmbedRunOptions, beam_arguments: Sequence[str]) -> None:
    """Makes the plan and keeps the backbone's weights, unless they are there.

    Raises:
        OptionError: an option is wrong, or the directory holds something else; nothing was written.
    """
    _runner_options(options, run, beam_arguments)
    source = read_source(options.dataset)
    if not is_planned(options, run.output, source):
        make_plan(options, run.output, source)


def embed_phase(options: EmbeddingOptions, run: EmbedRunOptions, beam_arguments: Sequence[str]) -> str:
    """Writes the shards of embeddings and publishes them; returns a summary for people.

    Raises:
        UserError: as `prepare_phase`; and where a run cannot end well.
    """
    beam_options = _runner_options(options, run, beam_arguments)
    source = read_source(options.dataset)
    is_planned(options, run.output, source)
    completed = files.join(run.output, COMPLETED_FILE)
    if files.exists(completed):
        info = files.read_json(files.join(run.output, INFO_FILE))
        return f"{run.output} is complete, there is nothing to do\n{_describe(info)}"
    files.remove_unfinished(run.output)
    files.remove_tree(PlanFiles(run.output).progress)
    return _embed(options, run, beam_options, source)


def _embed(
    options: EmbeddingOptions, run: EmbedRunOptions, beam_options: PipelineOptions, source: dict[str, Any]
) -> str:
    plan = PlanFiles(run.output)
    planned = files.read_json(plan.summary)["backbone"]
    do_publish = functools.partial(publish_embeddings, options, run.output, max_reject_fraction=run.max_reject_fraction)
    embed = functools.partial(
        embed_shards,
        plan,
        source_shards(source),
        shape=EmbedShape(
            dataset=options.dataset,
            backbone=f"{options.backbone} with --weights {options.weights}",
            batch_size=run.batch_size,
            samples_below=_samples_below(source["written"]),
        ),
        backbone=kept_backbone(planned, output=run.output),
        beam_options=beam_options,
    )
    if run.no_wait:
        embed(publish=do_publish)
        return f"the job that writes {run.output} is submitted; when it has ended, {COMPLETED_FILE} lies there"
    with shown_progress(plan.progress, total=source["written"]):
        embed()
    return f"{run.output} is complete\n{_describe(do_publish())}"


def _describe(info: dict[str, Any]) -> str:
    return f"{describe(info)}\n  embedding width {info['backbone']['width']:,}"


def _samples_below(pictures: int) -> int:
    """Returns the rank of a key below which a picture is in the report's projection."""
    return HASHES * _SAMPLES // max(_SAMPLES, pictures)


def _runner_options(options: EmbeddingOptions, run: EmbedRunOptions, arguments: Sequence[str]) -> PipelineOptions:
    """Returns Beam's options; raises OptionError if one is wrong, or workers cannot do their part."""
    beam_options = job_options(
        arguments,
        read={"dataset": options.dataset},
        written={"output": run.output},
        read_here=[options.weights_path()],
        shared_filesystem=run.shared_filesystem,
        no_wait=run.no_wait,
    )
    check_workers_have_tensorflow(beam_options)
    path = options.weights_path()
    if path and not files.exists(path):
        raise OptionError(f"--weights {path} is not there: give the path of a weights file")
    return beam_options
