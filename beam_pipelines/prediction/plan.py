"""The plan of predictions: which rows in which shards, fixed from metadata alone before any picture is fetched.

One pipeline reads the rows, deals them out and writes those of every shard. Rows that the source or a choice leaves out
are written too, with their reasons.
"""

import collections
import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.counts import WriteCounts, below
from beam_pipelines.dataset import PLAN_DIRECTORY
from beam_pipelines.errors import OptionError, RunError
from beam_pipelines.exclusion import Exclude, check_exclude_file
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.outputs import check_only_ours
from beam_pipelines.plan import describe_hosts, host_of
from beam_pipelines.plan_files import PlanFiles, rejected_line
from beam_pipelines.prediction.options import PredictionOptions
from beam_pipelines.prediction.output import PredictionShard
from beam_pipelines.prediction.rows import bare_row, count_shards, in_order, shard_index
from beam_pipelines.rejects import Dropped
from beam_pipelines.rows import ARTWORKS, DROPPED
from beam_pipelines.runners import new_pipeline, run_pipeline
from beam_pipelines.sources import ReadOptions, Source, SourceOptions, make_source

_LOGGER = logging.getLogger(__name__)

# What a run that was killed while it planned may have left.
_OURS = frozenset({PLAN_DIRECTORY})
_COUNTS = "counts.json"
_REJECTED_PARTS = "rejected-parts"
_USUAL_LABEL = "label"


def is_planned(options: PredictionOptions, output: str, *, model: str) -> bool:
    """Tells whether the directory has the whole plan of these predictions.

    Args:
        options: what is predicted.
        output: the directory.
        model: the fingerprint of the model.

    Raises:
        OptionError: the directory has something else.
    """
    plan = PlanFiles(output)
    if not files.exists(plan.summary):
        check_only_ours(output, _OURS, what="predictions")
        return False
    if files.read_json(plan.summary)["fingerprint"] != options.fingerprint(model=model):
        raise OptionError(
            f"{output} holds other predictions, of another model or made with other options: name another --output, "
            "or delete it"
        )
    return True


def make_plan(
    options: PredictionOptions, output: str, *, model: str, reading: ReadOptions, beam_options: PipelineOptions
) -> None:
    """Writes the plan of predictions to `output`.

    Args:
        options: what is predicted.
        output: the directory.
        model: the fingerprint of the model.
        reading: how the source goes about it.
        beam_options: Beam's.

    Raises:
        OptionError: the source cannot be read as asked; nothing was written.
        RunError: no row is left, or the rows do not add up.
    """
    source = _source(options, reading)
    if options.exclude_file:
        check_exclude_file(options.exclude_file)
    plan = PlanFiles(output)
    plan.remove()
    _LOGGER.info("reading %s", options.input)
    pipeline = new_pipeline(beam_options)
    rows = pipeline | "Read" >> source
    wanted, dropped = rows[ARTWORKS], [rows[DROPPED]]
    if options.exclude_file:
        parted = wanted | Exclude(options.exclude_file)
        wanted, dropped = parted[ARTWORKS], [*dropped, parted[DROPPED]]
    planned = wanted | "WriteRows" >> _WriteRows(plan, options)
    left_out = dropped | "LeftOut" >> beam.Flatten()
    left_out | "WriteRejected" >> _WriteRejected(plan)
    read = (
        rows[ARTWORKS] | "CountRows" >> beam.Map(lambda _: ("read", 1)),
        rows[DROPPED] | "CountRowsLeftOut" >> beam.Map(lambda _: ("read", 1)),
        left_out | "CountReasons" >> beam.Map(lambda row: (f"rejected/{row.reason}", 1)),
        planned,
    )
    read | "Counts" >> beam.Flatten() | WriteCounts(plan.path(_COUNTS))
    run_pipeline(pipeline)
    _finish(plan, options, model)


def planned_rows(summary: Mapping[str, Any]) -> dict[PredictionShard, int]:
    """Returns the shards of the plan that says `summary`, in order, with the number of rows of each."""
    ending, rows = summary["options"]["output_format"], summary["rows"]
    return {PredictionShard(index, len(rows), ending): count for index, count in enumerate(rows)}


def describe_plan(summary: Mapping[str, Any], limits: FetchLimits) -> str:
    """Returns what a plan comes to, in lines for people."""
    rows = summary["rows"]
    return "\n".join(
        [
            f"{summary['read']:,} rows read, {sum(rows):,} pictures planned in {len(rows):,} shards",
            *(f"  rejected: {reason} {count:,}" for reason, count in sorted(summary["rejected"].items())),
            *describe_hosts(summary["hosts"], limits),
        ]
    )


class _WriteRows(beam.PTransform):
    """Deals rows out to shards and writes those of each; gives counts of them."""

    def __init__(self, plan: PlanFiles, options: PredictionOptions) -> None:
        super().__init__()
        self._plan = plan
        self._num_shards = options.num_shards
        self._ending = options.output_format

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        bare = rows | "WithoutTheRest" >> beam.Map(bare_row).with_output_types(Artwork)
        count = (
            bare
            | "CountRows" >> beam.combiners.Count.Globally()
            | "CountShards" >> beam.Map(count_shards, num_shards=self._num_shards)
        )
        return (
            bare
            | "AssignShard"
            >> beam.Map(_in_shard, pvalue.AsSingleton(count)).with_output_types(tuple[tuple[int, int], Artwork])
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShardRows" >> beam.FlatMapTuple(self._write).with_output_types(tuple[str, int])
        )

    def _write(self, place: tuple[int, int], artworks: Iterable[Artwork]) -> Iterator[tuple[str, int]]:
        shard, rows = PredictionShard(*place, self._ending), in_order(artworks)
        files.write_lines(self._plan.rows(shard), (row.to_line() for row in rows))
        yield f"rows/{shard.index}/{shard.count}", len(rows)
        yield "labelled", sum(bool(row.labels) for row in rows)
        for host, count in collections.Counter(host_of(row.uri) for row in rows).items():
            yield f"host/{host}", count


class _WriteRejected(beam.PTransform):
    """Writes the lines of rows that are left out, in parts to be sorted."""

    def __init__(self, plan: PlanFiles) -> None:
        super().__init__()
        self._plan = plan

    def expand(self, dropped: beam.PCollection) -> beam.PCollection:
        return (
            dropped
            | "RejectedLines" >> beam.Map(rejected_line).with_input_types(Dropped)
            | "WriteParts" >> beam.io.WriteToText(self._plan.path(_REJECTED_PARTS, "part"))
        )


def _in_shard(artwork: Artwork, count: int) -> tuple[tuple[int, int], Artwork]:
    return (shard_index(artwork, count), count), artwork


def _source(options: PredictionOptions, reading: ReadOptions) -> Source:
    """Returns the source, checked, whose labels are of the attribute asked for, or of the usual one if it has that."""
    given = SourceOptions.of(options, reading=reading)
    source = make_source(options.source, given)
    source.check()
    if options.attribute or _USUAL_LABEL not in source.attribute_names():
        return source
    source = make_source(options.source, SourceOptions.of(options, reading=reading, attribute=_USUAL_LABEL))
    source.check()
    return source


def _finish(plan: PlanFiles, options: PredictionOptions, model: str) -> None:
    """Checks that every row has one outcome, and writes the summary that makes the plan whole."""
    counts = files.read_json(plan.path(_COUNTS)) if files.exists(plan.path(_COUNTS)) else {}
    read, rejected = counts.get("read", 0), below(counts, "rejected")
    by_shard = {tuple(map(int, name.split("/"))): count for name, count in below(counts, "rows").items()}
    planned = sum(by_shard.values())
    if read != planned + sum(rejected.values()):
        raise RunError(
            f"the plan does not add up: {read} rows read, {planned} planned, {sum(rejected.values())} rejected"
        )
    if not planned:
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items())
        raise RunError(f"no picture is left of {read} rows ({reasons or 'the input is empty'})")
    num_shards = next(count for _, count in by_shard)
    for index in range(num_shards):
        if (index, num_shards) not in by_shard:
            files.write_lines(plan.rows(PredictionShard(index, num_shards, options.output_format)), [])
    parts = files.list_files(plan.path(_REJECTED_PARTS))
    lines = (line for part in parts for line in files.read_lines(plan.path(_REJECTED_PARTS, part)))
    files.write_lines(plan.rejected, files.sorted_lines(lines))
    files.remove_tree(plan.path(_REJECTED_PARTS))
    files.remove(plan.path(_COUNTS))
    summary = {
        "fingerprint": options.fingerprint(model=model),
        "options": options.to_json(),
        "model_fingerprint": model,
        "read": read,
        "rows": [by_shard.get((index, num_shards), 0) for index in range(num_shards)],
        "with_labels": counts.get("labelled", 0) > 0,
        "rejected": rejected,
        "hosts": below(counts, "host"),
    }
    files.write_json(plan.summary, summary)
