"""The plan of a data set: which pictures, in which classes, splits and shards; fixed before any picture is fetched.

Two pipelines over metadata alone: the first reads the rows, checks their labels, makes the rows of one address one
picture and counts labels; TensorFlow Transform then chooses the classes; the second takes the pictures that belong to
them and deals them out. What they decide lies in `.plan/` and a run that goes on takes it as it is.
"""

import importlib.metadata
import logging
import urllib.parse
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import apache_beam as beam
from apache_beam import pvalue
from apache_beam.options.pipeline_options import PipelineOptions

from beam_pipelines import files
from beam_pipelines.artwork import Artwork
from beam_pipelines.choice import (
    LimitImages,
    MergeRowsOfOneAddress,
    RejectDuplicateKeys,
    assign_shard,
    assign_split,
    check_labels,
    count_shards,
    order_in_shard,
    select_labels,
)
from beam_pipelines.coders import ArtworkCoder
from beam_pipelines.commands import native_messages_held_back
from beam_pipelines.counts import WriteCounts, below
from beam_pipelines.dataset import SPLITS, VALIDATION, Shard, shards_of
from beam_pipelines.errors import RunError
from beam_pipelines.exclusion import Exclude, check_exclude_file
from beam_pipelines.fetch.fetcher import FetchLimits
from beam_pipelines.label_choice import LabelChoice
from beam_pipelines.options import DatasetOptions
from beam_pipelines.plan_files import PlanFiles, PlannedPicture, rejected_line
from beam_pipelines.progress import clock
from beam_pipelines.reason_examples import WriteReasonExamples, merge_examples
from beam_pipelines.rejects import Dropped, Kind
from beam_pipelines.rows import ARTWORKS, DROPPED, flat_map_rows
from beam_pipelines.runners import new_pipeline, run_pipeline
from beam_pipelines.sources import ReadOptions, make_source

_LOGGER = logging.getLogger(__name__)

# What decides the classes and the graph, besides the options.
_VERSIONS_OF = ("tensorflow-transform",)
_CANDIDATES = "candidates"
_FIRST_COUNTS = "read-counts.json"
_SECOND_COUNTS = "choice-counts.json"
_FIRST_EXAMPLES = "read-examples.json"
_SECOND_EXAMPLES = "choice-examples.json"
_REJECTED_PARTS = "rejected-parts"


def make_plan(options: DatasetOptions, output: str, *, reading: ReadOptions, beam_options: PipelineOptions) -> None:
    """Writes the plan of the data set, the labels and the transform graph to `output`.

    Args:
        options: what the data set is.
        output: its directory.
        reading: how the sources go about it.
        beam_options: Beam's.

    Raises:
        OptionError: a source cannot be read as asked; nothing was written.
        RunError: no label or no picture is left, or the rows do not add up.
    """
    sources = [make_source(options.source, source) for source in options.sources(reading)]
    for source in sources:
        source.check()
    if options.exclude_file:
        check_exclude_file(options.exclude_file)
    choice = LabelChoice.from_options(options, class_names=sources[0].class_names())
    plan = PlanFiles(output)
    plan.remove()
    _LOGGER.info("reading %s", " and ".join(filter(None, (options.input, options.validation_input))))
    read_counts = _read_rows(sources, options, choice, plan, beam_options)
    with native_messages_held_back():
        from beam_pipelines.vocabulary import choose_labels  # TensorFlow is only needed, and only paid for, here

        labels = choose_labels(below(read_counts, "label"), choice, output=output)
    _LOGGER.info("%d labels chosen of %d", len(labels), len(below(read_counts, "label")))
    choice_counts = _deal_out(labels, options, plan, beam_options)
    _finish(plan, options, labels, read_counts, choice_counts)


def describe_plan(summary: Mapping[str, Any], limits: FetchLimits) -> str:
    """Returns what a plan comes to, in lines for people: rows, classes, hosts, and the time at the rate limits."""
    splits = summary["splits"]
    lines = [
        f"{summary['read']:,} rows read, {sum(split['pictures'] for split in splits.values()):,} pictures planned",
        *(f"  {name}: {split['pictures']:,} pictures in {split['shards']} shards" for name, split in splits.items()),
        f"  {len(summary['labels'])} classes",
        *(f"  filtered: {reason} {count:,}" for reason, count in sorted(summary["filtered"].items())),
        *(f"  rejected: {reason} {count:,}" for reason, count in sorted(summary["rejected"].items())),
        *describe_hosts(summary["hosts"], limits),
    ]
    return "\n".join(lines)


def describe_hosts(hosts: Mapping[str, int], limits: FetchLimits) -> list[str]:
    """Returns how many pictures each host has, and the time that the rate limits alone make it take, in lines."""
    rates = dict(limits.requests_per_second)
    lines = []
    seconds = 0.0
    for host, count in sorted(hosts.items(), key=lambda item: (-item[1], item[0])):
        rate = rates.get(host, rates.get(""))
        seconds = max(seconds, count / rate if rate else 0.0)
        lines.append(f"  {host}: {count:,} pictures, " + (f"at most {rate:g}/s" if rate else "no rate limit"))
    if seconds:
        lines.append(f"the rate limits alone make it take {clock(seconds)}")
    return lines


def _read_rows(
    sources: list[Any],
    options: DatasetOptions,
    choice: LabelChoice,
    plan: PlanFiles,
    beam_options: PipelineOptions,
) -> dict[str, int]:
    """Reads the sources into one candidate picture an address; returns what was counted."""
    pipeline = new_pipeline(beam_options)
    outputs = [pipeline | f"Read{number}" >> source for number, source in enumerate(sources)]
    rows = [output[ARTWORKS] for output in outputs] | "Rows" >> beam.Flatten()
    unread = [output[DROPPED] for output in outputs] | "RowsLeftOut" >> beam.Flatten()
    wanted, excluded = rows, []
    if options.exclude_file:
        parted = rows | Exclude(options.exclude_file)
        wanted, excluded = parted[ARTWORKS], [parted[DROPPED]]
    labelled = wanted | "CheckLabels" >> flat_map_rows(
        check_labels, allowed=frozenset(choice.fixed), default_label=options.default_label
    )
    merged = labelled[ARTWORKS] | MergeRowsOfOneAddress(multi_label=options.multi_label)
    pictures = merged[ARTWORKS] | RejectDuplicateKeys()
    pictures[ARTWORKS] | "WriteCandidates" >> beam.io.WriteToText(plan.path(_CANDIDATES, "part"), coder=ArtworkCoder())
    dropped = (unread, *excluded, labelled[DROPPED], merged[DROPPED], pictures[DROPPED]) | "Dropped" >> beam.Flatten()
    _write_rejected(dropped, plan, "read")
    dropped | "Examples" >> WriteReasonExamples(plan.path(_FIRST_EXAMPLES))
    counted = (
        rows | "CountRows" >> beam.Map(lambda _: ("read", 1)),
        unread | "CountRowsLeftOut" >> beam.Map(lambda _: ("read", 1)),
        dropped | "CountReasons" >> beam.Map(_reason_count),
        pictures[ARTWORKS] | "CountLabels" >> beam.FlatMap(_label_counts),
    )
    counted | "Counts" >> beam.Flatten() | WriteCounts(plan.path(_FIRST_COUNTS))
    run_pipeline(pipeline)
    return _read_counts(plan.path(_FIRST_COUNTS))


def _deal_out(
    labels: list[str], options: DatasetOptions, plan: PlanFiles, beam_options: PipelineOptions
) -> dict[str, int]:
    """Takes the candidates that belong to the classes and writes the rows of every shard; returns what was counted."""
    pipeline = new_pipeline(beam_options)
    candidates = pipeline | "ReadCandidates" >> beam.io.ReadFromText(
        plan.path(_CANDIDATES, "part*"), coder=ArtworkCoder()
    )
    selected = candidates | "SelectLabels" >> flat_map_rows(select_labels, labels=frozenset(labels))
    pictures, dropped = selected[ARTWORKS], [selected[DROPPED]]
    for name, limit, per_label in (
        ("LimitPerLabel", options.max_images_per_label, True),
        ("LimitInAll", options.max_images, False),
    ):
        if limit:
            limited = pictures | name >> LimitImages(limit, per_label=per_label)
            pictures = limited[ARTWORKS]
            dropped.append(limited[DROPPED])
    split = pictures | "AssignSplit" >> beam.Map(
        assign_split, validation_fraction=options.validation_fraction
    ).with_output_types(Artwork)
    planned = split | "WriteRows" >> _WriteRows(labels, plan, options.num_shards)
    all_dropped = dropped | "Dropped" >> beam.Flatten()
    _write_rejected(all_dropped, plan, "choice")
    all_dropped | "Examples" >> WriteReasonExamples(plan.path(_SECOND_EXAMPLES))
    given = pictures | "GivenSplits" >> beam.Filter(lambda artwork: artwork.split)
    counted = (
        planned,
        given | "CountGivenSplits" >> beam.Map(lambda _: ("split_given", 1)),
        all_dropped | "CountReasons" >> beam.Map(_reason_count),
    )
    counted | "Counts" >> beam.Flatten() | WriteCounts(plan.path(_SECOND_COUNTS))
    run_pipeline(pipeline)
    return _read_counts(plan.path(_SECOND_COUNTS))


class _WriteRows(beam.PTransform):
    """Deals pictures out to shards and writes the rows of each; gives counts of them."""

    def __init__(self, labels: list[str], plan: PlanFiles, num_shards: int) -> None:
        super().__init__()
        self._class_ids = {label: number for number, label in enumerate(labels)}
        self._plan = plan
        self._num_shards = num_shards

    def expand(self, pictures: beam.PCollection) -> beam.PCollection:
        num_shards = self._num_shards
        shard_counts = (
            pictures
            | "Splits" >> beam.Map(lambda artwork: artwork.split)
            | "CountSplits" >> beam.combiners.Count.PerElement()
            | "GatherSplits" >> beam.combiners.ToDict()
            | "CountShards" >> beam.Map(count_shards, num_shards=num_shards)
        )
        return (
            pictures
            | "AssignShard"
            >> beam.Map(
                lambda artwork, counts: (assign_shard(artwork, counts), artwork), pvalue.AsSingleton(shard_counts)
            ).with_output_types(tuple[str, Artwork])
            | "GroupByShard" >> beam.GroupByKey()
            | "WriteShardRows" >> beam.FlatMapTuple(self._write).with_output_types(tuple[str, int])
        )

    def _write(self, shard_name: str, artworks: Iterable[Artwork]) -> Iterator[tuple[str, int]]:
        shard = Shard.parse(shard_name)
        ordered = order_in_shard(artworks)
        rows = (
            PlannedPicture(artwork=artwork, class_ids=tuple(self._class_ids[label] for label in artwork.labels))
            for artwork in ordered
        )
        files.write_lines(self._plan.rows(shard), (row.to_line() for row in rows))
        yield f"shards/{shard.split}/{shard.count}", 1
        yield f"pictures/{shard.split}", len(ordered)
        for artwork in ordered:
            yield f"host/{host_of(artwork.image_uri)}", 1
            for label in artwork.labels:
                yield f"planned/{shard.split}/{label}", 1


def host_of(uri: str) -> str:
    """Returns the host an address is fetched from, as rate limits name it; `files` for paths."""
    try:
        parts = urllib.parse.urlsplit(uri)
        if parts.scheme == "gs":
            return f"gs://{parts.netloc}"
        return (parts.hostname or "files") if parts.scheme in {"http", "https"} else "files"
    except ValueError:
        return "files"


def _write_rejected(dropped: beam.PCollection, plan: PlanFiles, name: str) -> None:
    (
        dropped
        | "OnlyRejected" >> beam.Filter(lambda row: row.reason.kind is Kind.REJECTED)
        | "RejectedLines" >> beam.Map(rejected_line)
        | "WriteRejected" >> beam.io.WriteToText(plan.path(_REJECTED_PARTS, name))
    )


def _reason_count(row: Dropped) -> tuple[str, int]:
    return f"{row.reason.kind}/{row.reason}", 1


def _label_counts(artwork: Artwork) -> Iterator[tuple[str, int]]:
    """Yields the labels of a picture to count; a given validation split has no say in the choice of classes."""
    if artwork.split != VALIDATION:
        yield from ((f"label/{label}", 1) for label in artwork.labels)


def _read_counts(path: str) -> dict[str, int]:
    try:
        counts: dict[str, int] = files.read_json(path)
    except FileNotFoundError:
        return {}
    return counts


def _finish(
    plan: PlanFiles,
    options: DatasetOptions,
    labels: list[str],
    read_counts: dict[str, int],
    choice_counts: dict[str, int],
) -> None:
    """Checks that every row has one outcome, and writes the summary that makes the plan whole."""
    pictures = below(choice_counts, "pictures")
    shard_counts = {
        split: next((int(count) for count in below(choice_counts, f"shards/{split}")), 0) for split in SPLITS
    }
    splits = {
        split: {
            "pictures": pictures.get(split, 0),
            "shards": shard_counts[split],
            "labels": below(choice_counts, f"planned/{split}"),
        }
        for split in SPLITS
    }
    outcomes = {
        kind: {
            reason: read_counts.get(f"{kind}/{reason}", 0) + choice_counts.get(f"{kind}/{reason}", 0)
            for reason in sorted({*below(read_counts, kind), *below(choice_counts, kind)})
        }
        for kind in Kind
    }
    read = read_counts.get("read", 0)
    ended = sum(pictures.values()) + sum(sum(reasons.values()) for reasons in outcomes.values())
    if read != ended:
        raise RunError(f"the plan does not add up: {read} rows read, {ended} planned, filtered and rejected")
    if not sum(pictures.values()):
        reasons = ", ".join(f"{reason} {count}" for kind in Kind for reason, count in outcomes[kind].items())
        raise RunError(f"no picture is left of {read} rows ({reasons or 'the input is empty'})")
    for shard in shards_of(shard_counts):
        if not files.exists(plan.rows(shard)):
            files.write_lines(plan.rows(shard), [])
    parts = files.list_files(plan.path(_REJECTED_PARTS))
    lines = (line for part in parts for line in files.read_lines(plan.path(_REJECTED_PARTS, part)))
    files.write_lines(plan.rejected, files.sorted_lines(lines))
    for name in (_CANDIDATES, _REJECTED_PARTS):
        files.remove_tree(plan.path(name))
    examples = merge_examples(files.read_json(plan.path(name)) for name in (_FIRST_EXAMPLES, _SECOND_EXAMPLES))
    for name in (_FIRST_COUNTS, _SECOND_COUNTS, _FIRST_EXAMPLES, _SECOND_EXAMPLES):
        files.remove(plan.path(name))
    summary = {
        "fingerprint": options.fingerprint(),
        "labels": labels,
        "read": read,
        "splits": splits,
        "filtered": outcomes[Kind.FILTERED],
        "rejected": outcomes[Kind.REJECTED],
        "versions": {name: importlib.metadata.version(name) for name in _VERSIONS_OF},
        "hosts": below(choice_counts, "host"),
        "split_given": choice_counts.get("split_given", 0),
        "examples": examples,
    }
    files.write_json(plan.summary, summary)
